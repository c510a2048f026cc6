"""Runs the parts of a plan: workers that claim parts by locks in OUT, in this process, in others, on other machines.

Nothing but the folder connects them. Two commands with the same footage and flags in one OUT share the work; a worker that
is killed leaves its part to whoever comes next.
"""

import contextlib
import json
import multiprocessing
import os
import platform
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pyarrow as pa

from .. import __version__
from ..errors import ConfigError, TwoviewError
from ..plan import Plan, check_same, make_plan, read_plan, write_plan
from ..schema import Pair, Source
from ..shards import explained, finished_parts, is_finished, write_whole
from .curate import CurateConfig, OpenScene, curate_part
from .locks import Lock, holder

MAX_DEATHS = 2
"""A part whose worker dies this often stops the run."""


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
    config: CurateConfig
    plan: Plan
    parts: tuple[int, ...]
    """Numbers of the parts that are this command's to finish."""

    @property
    def num_candidates(self) -> float:
        """About how many candidates are left to measure."""
        left = set(self.parts) - set(finished_parts(self.out))
        return sum(s.num_candidates * (s.stop - s.start) / max(1, s.num_frames) for s in self.plan.slices if s.part in left)


def prepare(source: Source, config: CurateConfig, out: Path, *, share: tuple[int, int] = (1, 1), extend: bool = False) -> Job:
    """Make or read the plan of OUT, and take the share i of n of its parts.

    Raises ConfigError where OUT is of another configuration or other footage, or cannot be written.
    """
    try:
        if out.is_dir() and not (out / "config.json").exists() and _is_foreign(out):
            raise ConfigError(f"{out} is not empty and not a dataset of twoview: give an --out that is new or empty")
        for folder in ("shards", "scenes", "manifest", "locks"):
            (out / folder).mkdir(parents=True, exist_ok=True)
        with explained(out):
            write_whole(out / "config.json", _config_json(config), exclusive=True)
            plan = _planned(source, config, out, extend)
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        raise ConfigError(f"--out {out}: cannot be written ({error.strerror}): give a folder of your own") from None
    except OSError as error:
        if error.errno == 30:  # read-only file system
            raise ConfigError(f"--out {out}: cannot be written ({error.strerror}): give a folder of your own") from None
        raise
    i, n = share
    return Job(
        out=out,
        source=source,
        config=config,
        plan=plan,
        parts=tuple(range(plan.num_parts * (i - 1) // n, plan.num_parts * i // n)),
    )


def _is_foreign(folder: Path) -> bool:
    """Whether a folder holds what no interrupted start of a run leaves."""
    ours = {"locks", "shards", "scenes", "manifest"}
    return any(p.name not in ours and not p.name.endswith(".partial") for p in folder.iterdir())


def _planned(source: Source, config: CurateConfig, out: Path, extend: bool) -> Plan:
    """The plan of OUT, made if there is none; with `extend`, longer by what is new."""
    with Lock.wait(out / "locks" / "plan.lock"):
        plan = read_plan(out)
        if plan is None:
            stored = json.loads((out / "config.json").read_text())
            if stored["config_sha256"] != config.sha256:
                check_same(Plan((), stored["config_sha256"]), source, config.sha256, out, extend=extend)
            plan = make_plan(source, config.propose, config.sha256, config.size)
            write_plan(out, plan, extend=False)
        elif check_same(plan, source, config.sha256, out, extend=extend):
            plan = make_plan(source, config.propose, config.sha256, config.size, plan)
            write_plan(out, plan, extend=True)
    return plan


def _config_json(config: CurateConfig) -> bytes:
    """The resolved configuration and all that could make another machine's bytes differ."""
    revision = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    content = {
        "format": 1,
        "config": config.as_dict(),
        "config_sha256": config.sha256,
        "versions": versions(),
        "git_revision": revision.stdout.strip() or None,
        "processor": _processor(),
    }
    return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()


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


def run(job: Job, num_workers: int, tell: Callable[[Progress], None] = lambda progress: None) -> None:
    """Finish the parts of a job with this many processes; back when all are finished, whoever finished them.

    An interrupt or any error leaves every finished part as it is.
    """
    left = set(job.parts) - set(finished_parts(job.out))
    if not left:
        return
    if num_workers > 1 and len(left) > 1:
        _run_processes(job, min(num_workers, len(left)), tell)
    work(job, lambda kind, content: tell(content) if kind == "progress" else None, patient=True)


def _run_processes(job: Job, num_workers: int, tell: Callable[[Progress], None]) -> None:
    """Worker processes, started afresh (spawn), each with a pipe of its own so that none can block another by dying."""
    context = multiprocessing.get_context("spawn")
    deaths: Counter[int | None] = Counter()
    crew: dict[Connection, _Member] = {}

    def start() -> None:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_process_main, args=(job, theirs, os.getpid()), daemon=True)
        process.start()
        theirs.close()
        crew[ours] = _Member(process)

    try:
        for _ in range(num_workers):
            start()
        while crew:
            for pipe in wait(list(crew)):
                assert isinstance(pipe, Connection)
                member = crew[pipe]
                try:
                    kind, content = pipe.recv()
                except (EOFError, OSError):
                    del crew[pipe]
                    member.process.join()
                    if member.process.exitcode != 0:
                        deaths[member.part] += 1
                        _check_deaths(job, deaths, member)
                        tell(Progress(remark=f"a worker was killed ({_how(member.process.exitcode)}): another goes on"))
                        start()
                    continue
                if kind == "part":
                    member.part = content
                elif kind == "progress":
                    tell(content)
                elif kind == "error":
                    raise content
    finally:
        for member in crew.values():
            member.process.terminate()
        for member in crew.values():
            member.process.join(5)
            if member.process.is_alive():
                member.process.kill()
                member.process.join()


@dataclass
class _Member:
    process: Any
    part: int | None = field(default=None)


def _check_deaths(job: Job, deaths: Counter, member: _Member) -> None:
    if deaths[member.part] >= MAX_DEATHS:
        at = "before any part" if member.part is None else f"in part {member.part} ({job.plan.part(member.part)[0].scene})"
        raise TwoviewError(
            f"a worker died {deaths[member.part]} times {at}, {_how(member.process.exitcode)}. Finished parts are kept. "
            "Try fewer --workers if memory ran out, or leave that file out"
        )


def _how(exitcode: int) -> str:
    return f"by {signal.Signals(-exitcode).name}" if exitcode < 0 else f"with exit code {exitcode}"


def _process_main(job: Job, pipe: Connection, parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))

    def send(kind: str, content: Any) -> None:
        if os.getppid() != parent:
            sys.exit(0)  # nobody is listening: leave the part to the next run
        pipe.send((kind, content))

    try:
        work(job, send)
    except TwoviewError as error:
        send("error", error)
    except Exception as error:
        send("error", TwoviewError(f"unexpected {type(error).__name__} in a worker: {error}\n{traceback.format_exc()}"))


def work(job: Job, send: Callable[[str, Any], None], *, patient: bool = False) -> None:
    """Claim parts and curate them until none is free; if patient, until all are finished, here or elsewhere."""
    cv2.setNumThreads(1)
    open_scene = lru_cache(maxsize=1)(lambda name: OpenScene(job.source.open(name), job.config))
    num_pairs = num_kept = 0
    told = time.monotonic()

    def progress(pair: Pair | None) -> None:
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
            if not patient or all(is_finished(job.out, p) for p in job.parts):
                return
            if not waited:
                send("progress", Progress(remark=_who_holds(job)))
                waited = True
            time.sleep(0.2)
            continue
        part, lock = claim
        with lock:
            send("part", part)
            curate_part(job.out, job.plan.part(part), open_scene, job.source, job.config, progress)
        last = part
        progress(None)


def _claim(job: Job, last: int) -> tuple[int, Lock] | None:
    """A part that nobody has, locked; None where all are finished or held.

    The one after the last, as its video lies open; else the start of the longest run of free parts, or its middle where
    somebody works towards it.
    """
    finished = set(finished_parts(job.out))
    held = {int(p.stem.removeprefix("part-")) for p in (job.out / "locks").glob("part-*.lock")}
    left = [p for p in job.parts if p not in finished]
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


def _who_holds(job: Job) -> str:
    left = [p for p in job.parts if not is_finished(job.out, p)]
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
