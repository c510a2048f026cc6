"""Runs the parts of a plan: workers that claim parts by locks in OUT, in this process, in others, on other machines.

Nothing but the folder connects them. Two commands with the same footage and flags in one OUT share the work; a worker that
is killed leaves its part to whoever comes next.
"""

import contextlib
import errno
import json
import os
import pickle
import platform
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pyarrow as pa

from .. import __version__
from ..errors import BrokenDatasetError, ConfigError, TwoviewError
from ..locks import Lock, holder
from ..plan import Plan, about, check_same, make_plan, read_plan, write_plan
from ..schema import Pair, Row, Source
from ..shards import explained, finished_parts, is_finished, write_whole
from .composition import Composition
from .crew import Crew, Worker
from .curate import CurateConfig, OpenScene, curate_part

MAX_DEATHS = 2
"""A part whose worker dies this often stops the run."""
FOLDERS = ("shards", "scenes", "manifest", "locks")
Task = Callable[[Callable[[str, Any], None]], None]
"""What a worker does; it is given what sends a kind and a content back."""


@dataclass(frozen=True)
class Progress:
    """What a run tells while it goes on: pairs measured since the last time, and at times a remark."""

    num_pairs: int = 0
    num_kept: int = 0
    remark: str = ""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One command's share of a dataset."""

    out: Path
    source: Source
    config: CurateConfig | Composition
    plan: Plan
    parts: tuple[int, ...]
    """Numbers of the parts that are this command's to finish."""
    write_part: Callable[..., None] | None = None
    """What makes a part in place of `curate_part`, called as that is; it is sent to the workers."""

    @property
    def left(self) -> set[int]:
        """Parts that are not finished."""
        return set(self.parts) - set(finished_parts(self.out))

    @property
    def num_pairs(self) -> float:
        """About how many pairs are left to measure."""
        left, total = self.left, 0.0
        for s in self.plan.slices:
            if s.part in left:
                most = self.config.of(s.source).max_pairs_per_scene or s.num_candidates
                total += s.num_pairs * min(1, most / max(1, s.num_candidates)) * (s.stop - s.start) / max(1, s.num_frames)
        return total


def prepare(
    source: Source, config: CurateConfig | Composition, out: Path, *, share: tuple[int, int] = (1, 1), extend: bool = False
) -> Job:
    """Make or read the plan of OUT, and take the share i of n of its parts.

    Raises ConfigError where OUT is of another configuration or other footage, or cannot be written.
    """
    with writable(out):
        if out.is_dir() and is_foreign(out):
            raise ConfigError(f"{out} is not empty and not a dataset of twoview: give an --out that is new or empty")
        for folder in FOLDERS:
            (out / folder).mkdir(parents=True, exist_ok=True)
        plan = _planned(source, config, out, extend)
    i, n = share
    return Job(
        out=out,
        source=source,
        config=config,
        plan=plan,
        parts=tuple(range(plan.num_parts * (i - 1) // n, plan.num_parts * i // n)),
    )


@contextlib.contextmanager
def writable(out: Path) -> Iterator[None]:
    """Where OUT cannot be written ConfigError, where the disk is full TryLaterError."""
    try:
        with explained(out):
            yield
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            raise ConfigError(f"--out {out}: cannot be written ({error.strerror}): give a folder of your own") from None
        raise


def is_foreign(folder: Path) -> bool:
    """Whether a folder holds what neither a dataset nor an interrupted start of one has."""
    if (folder / "plan.parquet").exists():
        return False
    ours = {*FOLDERS, "config.json", "plan.parquet", "runs.jsonl", "report.html", "selections", "forecast.json"}
    # The plan too: another process may have written it a moment ago.
    if any(p.name not in ours and not p.name.endswith(".partial") for p in folder.iterdir()):
        return True
    config = folder / "config.json"
    return config.exists() and b'"config_sha256"' not in config.read_bytes()


def _planned(source: Source, config: CurateConfig | Composition, out: Path, extend: bool) -> Plan:
    """The plan of OUT, made if there is none; with `extend`, longer by what is new."""
    with Lock.wait(out / "locks" / "plan.lock"):
        plan = read_plan(out)
        if plan is None:
            if finished_parts(out):
                raise BrokenDatasetError(f"{out}: plan.parquet is gone, though there are finished parts: give another --out")
            write_whole(out / "config.json", _config_json(config))
            plan = make_plan(source, config)
            write_plan(out, plan)
        elif check_same(plan, source, config.sha256, out, extend=extend):
            plan = make_plan(source, config, plan)
            write_plan(out, plan)
    return plan


def _config_json(config: CurateConfig | Composition) -> bytes:
    """The resolved configuration and all that could make another machine's bytes differ."""
    content = {
        "format": 1,
        "config": config.as_dict(),
        "config_sha256": config.sha256,
        "versions": versions(),
        "git_revision": _git_revision(),
        "processor": _processor(),
    }
    return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()


def _git_revision() -> str | None:
    """Of the checkout that this file is tracked in, if it is in one and git is there."""
    here = Path(__file__)
    command = ["git", "-C", str(here.parent), "rev-parse", "HEAD", f"HEAD:./{here.name}"]
    with contextlib.suppress(OSError):
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        return answer.stdout.split()[0] if answer.returncode == 0 else None
    return None


def versions() -> dict[str, str]:
    """Of everything that decodes, measures or writes."""
    codecs = {name: ".".join(map(str, number)) for name, number in av.library_versions.items()}
    known = {"twoview": __version__, "python": platform.python_version(), "numpy": np.__version__}
    return known | {"opencv": cv2.__version__, "av": av.__version__, "pyarrow": pa.__version__} | codecs


def _processor() -> str:
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return platform.processor() or platform.machine()


def run(job: Job, crew: Crew | None = None, tell: Callable[[Progress], None] = lambda progress: None) -> None:
    """Finish the parts of a job, by the workers of a crew if there is one; back when all are finished, whoever finished them.

    An interrupt or any error leaves every finished part as it is. A line in OUT/runs.jsonl says how long it took.
    """
    left = len(job.left)
    helpers = len(crew.workers[:left]) if crew and left > 1 else 0
    started, num_pairs, num_kept = time.time(), 0, 0

    def counted(progress: Progress) -> None:
        nonlocal num_pairs, num_kept
        num_pairs, num_kept = num_pairs + progress.num_pairs, num_kept + progress.num_kept
        tell(progress)

    try:
        if crew and helpers:
            _run_crew(job, crew, left, counted)
        work(job, lambda kind, content: counted(content) if kind == "progress" else None, patient=True)
    finally:
        if left:
            counts = {"workers": max(1, helpers), "num_pairs": num_pairs, "num_kept": num_kept, "finished": not job.left}
            _note_run(job.out, started, counts)
    _remove_stale_locks(job.out)


def _note_run(out: Path, started: float, counts: dict[str, Any]) -> None:
    """One more line in runs.jsonl: the only place in OUT that speaks of clock time."""
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started))
    line = json.dumps({"started": when, "seconds": round(time.time() - started, 3), **counts})
    with contextlib.suppress(OSError), (out / "runs.jsonl").open("a") as file:  # a full disk has been complained of already
        file.write(line + "\n")


def seconds_before(out: Path) -> float:
    """How long the runs in a folder have taken that ended, one after the other."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return sum(json.loads(line)["seconds"] for line in (out / "runs.jsonl").read_text().splitlines())
    return 0.0


def _run_crew(job: Job, crew: Crew, num_left: int, tell: Callable[[Progress], None]) -> None:
    """Give the job to the crew, and pass on what it tells until it has nothing more to do."""
    deaths: Counter[int | None] = Counter()
    busy = crew.workers[:num_left]
    for worker in busy:
        _send(worker, partial(work, job))
    while busy:
        for worker in crew.speaking(busy):
            try:
                kind, content = worker.pipe.recv()
            except (EOFError, OSError):
                busy.remove(worker)
                worker.process.join()
                if worker.process.exitcode:
                    deaths[worker.part] += 1
                    _check_deaths(job, deaths, worker)
                    tell(Progress(remark=f"a worker was killed ({_how(worker.process.exitcode)}): another goes on"))
                    busy.append(crew.add())
                    _send(busy[-1], partial(work, job))
                continue
            if kind == "part":
                worker.part = content
            elif kind == "progress":
                tell(content)
            elif kind == "done":
                busy.remove(worker)
            elif kind == "error":
                raise content


def give(crew: Crew, workers: Sequence[Worker], tasks: Sequence[Task], hear: Callable[[str, Any], None]) -> None:
    """Give each worker a task, and pass on what they tell until all are done. Raises TwoviewError where one dies."""
    busy = list(workers)
    for worker, task in zip(busy, tasks, strict=True):
        _send(worker, task)
    while busy:
        for worker in crew.speaking(busy):
            try:
                kind, content = worker.pipe.recv()
            except (EOFError, OSError):
                worker.process.join()
                raise TwoviewError(
                    f"a worker was killed ({_how(worker.process.exitcode)}): try fewer --workers if memory ran out"
                ) from None
            if kind == "error":
                raise content
            if kind == "done":
                busy.remove(worker)
            hear(kind, content)


def _send(worker: Worker, task: Task) -> None:
    try:
        worker.pipe.send(sys.path)  # a recipe of the user's own may lie where this process looks and the worker does not
        worker.pipe.send(task)
    except ConnectionError:
        pass  # dead already: its pipe says so when it is read
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ConfigError(
            f"the recipe cannot be sent to a worker ({error}): define what it uses at the top of a file, or give --workers 1"
        ) from None


def _check_deaths(job: Job, deaths: Counter[int | None], worker: Worker) -> None:
    if deaths[worker.part] >= MAX_DEATHS:
        at = "before any part" if worker.part is None else f"in part {worker.part} ({job.plan.part(worker.part)[0].scene})"
        raise TwoviewError(
            f"a worker died {deaths[worker.part]} times {at}, {_how(worker.process.exitcode)}. Finished parts are kept. "
            "Try fewer --workers if memory ran out, or leave that file out"
        )


def _how(exitcode: int | None) -> str:
    return f"by {signal.Signals(-exitcode).name}" if exitcode and exitcode < 0 else f"with exit code {exitcode}"


def serve(pipe: Connection, parent: int) -> None:
    """A worker's side: take a task from the pipe and do it."""

    def send(kind: str, content: Any) -> None:
        if os.getppid() != parent:
            sys.exit(0)  # nobody is listening: leave the part to the next run
        pipe.send((kind, content))

    try:
        sys.path[:] = pipe.recv()
        pipe.recv()(send)
        send("done", None)
    except EOFError:
        return
    except TwoviewError as error:
        send("error", error)
    except OSError as error:
        send("error", TwoviewError(f"{error.filename or 'a worker'}: {error.strerror or error}"))
    except Exception as error:
        send("error", TwoviewError(f"unexpected {type(error).__name__} in a worker: {error}\n{traceback.format_exc()}"))


def work(job: Job, send: Callable[[str, Any], None], *, patient: bool = False) -> None:
    """Claim parts and curate them until none is free; if patient, until all are finished, here or elsewhere."""
    cv2.setNumThreads(1)

    def opened(name: str) -> OpenScene:
        info = about(job.source, name)
        return OpenScene(job.source.open(name), job.config.of(info.source), info)

    open_scene = lru_cache(maxsize=1)(opened)
    num_pairs = num_kept = 0
    told = time.monotonic()

    def progress(pair: Pair | Row | None) -> None:
        nonlocal num_pairs, num_kept, told
        if pair is not None:
            num_pairs, num_kept = num_pairs + 1, num_kept + pair.kept
        if pair is None or time.monotonic() - told > 0.2:
            send("progress", Progress(num_pairs, num_kept))
            num_pairs, num_kept, told = 0, 0, time.monotonic()

    last, waited = -1, False
    while True:
        claim = _claim(job, last)
        if claim is None:
            if not patient or not job.left:
                return
            if not waited:
                send("progress", Progress(remark=_who_holds(job)))
                waited = True
            time.sleep(0.2)
            continue
        part, lock = claim
        with lock:
            send("part", part)
            (job.write_part or curate_part)(job.out, job.plan.part(part), open_scene, job.source, job.config, progress)
        last = part
        progress(None)


def _claim(job: Job, last: int) -> tuple[int, Lock] | None:
    """A part that nobody has, locked; None where all are finished or held.

    The one after the last, as its video lies open; else the start of the longest run of free parts, or its middle where
    somebody works towards it.
    """
    held = {int(p.stem.removeprefix("part-")) for p in (job.out / "locks").glob("part-*.lock")}
    left = sorted(job.left)
    free = [p for p in left if p not in held]
    order = [last + 1] if last + 1 in free else []
    for run_ in sorted(_runs(free), key=len, reverse=True):
        order.append(run_[len(run_) // 2] if run_[0] - 1 in held else run_[0])
    for part in [*order, *left]:  # in the end also those whose holder may have died
        lock = Lock.acquire(_lock_path(job.out, part))
        if lock and not is_finished(job.out, part):
            return part, lock
        if lock:
            lock.release()
    return None


def _lock_path(out: Path, part: int) -> Path:
    return out / "locks" / f"part-{part:06d}.lock"


def _remove_stale_locks(out: Path) -> None:
    """Those of parts whose holder was killed after the manifest was there."""
    for path in (out / "locks").glob("part-*.lock"):
        if is_finished(out, int(path.stem.removeprefix("part-"))) and (lock := Lock.acquire(path)):
            lock.release()


def _who_holds(job: Job) -> str:
    left = job.left
    held = {holder(_lock_path(job.out, p)) for p in left}
    return f"waiting for {len(left)} parts held by {', '.join(sorted(held))}"


def _runs(numbers: Sequence[int]) -> list[list[int]]:
    """Ascending numbers as runs without a gap."""
    runs: list[list[int]] = []
    for n in numbers:
        if runs and runs[-1][-1] == n - 1:
            runs[-1].append(n)
        else:
            runs.append([n])
    return runs
