"""What a run will give and take, told by measuring a sample of it: pairs, time, bytes.

The sample (sample.py) is a small dataset in a temporary folder. Each piece of it is written by `curate_part`, as in a real run, by
the same workers at the same time, so that what they take from each other is counted too. What it costs to get to a piece is
counted once for each scene and for each worker that begins in the middle of one.
"""

import contextlib
import hashlib
import heapq
import io
import json
import math
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float64

from ..errors import BrokenDatasetError
from ..plan import Plan, Slice, read_plan
from ..schema import Source
from ..shards import finished_parts, part_paths, read_manifest, read_scenes, write_whole
from .crew import Crew
from .curate import CurateConfig
from .engine import FOLDERS, Job, give, is_foreign, run
from .sample import Piece, Task, Timed, draw, measure_pieces, num_groups, scenes_of

NAME = "forecast.json"
_TAR_END = 1024 + 10_240 // 2
"""Bytes behind the last sample of a tar, on the average."""


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What is to be expected of a run from its start to its end."""

    workers: int
    num_groups: int
    """Measured for this: all of them where `whole`; of a proposer that follows the camera, stretches of time."""
    num_places: int
    whole: bool
    cut_short: bool
    """Time ran out before all of the sample was measured: it leaves out what comes late in the scenes."""
    num_kept: float
    kept_low: float
    kept_high: float
    """The middle 90 in 100 of what other samples of the kind would have told."""
    num_measured: float
    num_stored: float
    seconds: float
    num_bytes: float
    faults: tuple[tuple[str, str], ...] = ()
    """Status and error of every scene of the sample that has faults."""


Tell = Callable[[int, int], None]
"""Called with the number of pieces, or pairs, measured and of all."""


def forecast(
    source: Source,
    config: CurateConfig,
    plan: Plan,
    crew: Crew | None = None,
    *,
    started: float | None = None,
    tell: Tell = lambda num, total: None,
) -> Forecast | None:
    """What curating a plan by these workers will give; None where a single group takes too long to be tried.

    The sample follows from the plan and the run's seed alone. started: when the run began, by time.monotonic().
    """
    started = time.monotonic() if started is None else started
    with tempfile.TemporaryDirectory(prefix="twoview-") as folder:
        out = Path(folder)
        for name in FOLDERS:
            (out / name).mkdir()
        pieces = draw(plan, config)
        if pieces is None:
            return _whole(source, config, plan, crew, out, started, tell)
        return _sampled(Task(source, config, out, plan), pieces, crew, started, tell)


def of_source(plan: Plan, source: str) -> Plan:
    """What a plan has of one source, in parts of its own."""
    slices = [s for s in plan.slices if s.source == source]
    number = {part: k for k, part in enumerate(dict.fromkeys(s.part for s in slices))}
    return Plan(tuple(replace(s, part=number[s.part]) for s in slices), plan.config_sha256)


def together(told: Sequence[Forecast]) -> Forecast:
    """Of several sources that are curated one after another; what chance does to each is its own."""
    kept = sum(t.num_kept for t in told)
    return Forecast(
        workers=max(t.workers for t in told),
        num_groups=sum(t.num_groups for t in told),
        num_places=sum(t.num_places for t in told),
        whole=all(t.whole for t in told),
        cut_short=any(t.cut_short for t in told),
        num_kept=kept,
        kept_low=kept - math.hypot(*(t.num_kept - t.kept_low for t in told)),
        kept_high=kept + math.hypot(*(t.kept_high - t.num_kept for t in told)),
        num_measured=sum(t.num_measured for t in told),
        num_stored=sum(t.num_stored for t in told),
        seconds=sum(t.seconds for t in told),
        num_bytes=sum(t.num_bytes for t in told),
        faults=tuple(fault for t in told for fault in t.faults),
    )


def _whole(source: Source, config: CurateConfig, plan: Plan, crew: Crew | None, out: Path, started: float, tell: Tell) -> Forecast:
    """Of little footage: the run itself, in another folder."""
    job = Job(out=out, source=source, config=config, plan=plan, parts=tuple(range(plan.num_parts)))
    num, total = 0, round(job.num_pairs)

    def counted(progress: Any) -> None:
        nonlocal num
        num += progress.num_pairs
        tell(min(num, total), total)

    run(job, crew, counted)
    rows = read_manifest(out, columns=["kept", "stored"])
    kept = rows["kept"].to_pylist().count(True)
    groups = sum(num_groups(s, config) for s in scenes_of(plan))
    return Forecast(
        workers=_num_workers(crew),
        num_groups=groups,
        num_places=plan.num_parts,
        whole=True,
        cut_short=False,
        num_kept=kept,
        kept_low=kept,
        kept_high=kept,
        num_measured=len(rows),
        num_stored=rows["stored"].to_pylist().count(True),
        seconds=time.monotonic() - started,
        num_bytes=bytes_of_parts(out),
        faults=_faults(out),
    )


def bytes_of_parts(out: Path) -> int:
    """Of the finished parts of a dataset: what it takes on disk, but for a few files of its own."""
    paths = (path for part in finished_parts(out) for path in part_paths(out, part))
    return sum(path.stat().st_size for path in paths if path.exists())


def _faults(out: Path) -> tuple[tuple[str, str], ...]:
    rows = read_scenes(out).select(["scene", "status", "error"]).to_pylist()
    return tuple({r["scene"]: (r["status"], r["error"]) for r in rows if r["status"] not in ("ok", "skipped")}.values())


def _num_workers(crew: Crew | None) -> int:
    return len(crew.workers) if crew and crew.workers else 1


# ------------------------------------------------------------------------------------------------- from the sample to all


def _sampled(task: Task, pieces: list[Piece], crew: Crew | None, started: float, tell: Tell) -> Forecast | None:
    workers = _num_workers(crew)
    timed: list[Timed] = []
    begun: list[float] = []

    def hear(kind: str, content: Any) -> None:
        if kind == "begun":
            begun.append(time.monotonic() - started)
        elif kind == "measured":
            timed.append(content)
            tell(len(timed), len(pieces))

    helpers = crew.workers[: len(pieces)] if crew and len(pieces) > 1 else []
    if crew and helpers:
        shares = [pieces[len(pieces) * k // len(helpers) : len(pieces) * (k + 1) // len(helpers)] for k in range(len(helpers))]
        give(crew, helpers, [partial(measure_pieces, task, share, workers) for share in shares], hear)
    else:
        measure_pieces(task, pieces, workers, hear)
    if not any(t.size for t in timed) and not _faults(task.out):
        return None
    rows = {t.piece.part: read_manifest(task.out, [t.piece.part], ["kept", "stored", "size"]) for t in timed}
    ratio = _ratio([t.scene_size for t in timed], [num_groups(t.piece.scene, task.config) for t in timed])
    known = {t.piece.scene.scene: t.scene_size for t in timed}
    sizes = {s.scene: known.get(s.scene, ratio * num_groups(s, task.config)) for s in scenes_of(task.plan)}
    total, num = sum(sizes.values()), sum(t.size for t in timed)
    scale = total / max(1, num)
    kept = [rows[t.piece.part]["kept"].to_pylist().count(True) for t in timed]
    low, high = _range(timed, kept, total)
    num_rows, num_stored = scale * sum(map(len, rows.values())), scale * sum(_stored(r) for r in rows.values())
    return Forecast(
        workers=workers,
        num_groups=sum(t.piece.last - t.piece.first for t in timed),
        num_places=len({t.piece.place for t in timed}),
        whole=False,
        cut_short=len(timed) < len(pieces),
        num_kept=scale * sum(kept),
        kept_low=low,
        kept_high=high,
        num_measured=num_rows,
        num_stored=num_stored,
        seconds=_ratio(begun, [1] * len(begun)) + _seconds(task.plan, timed, sizes, workers),
        num_bytes=_num_bytes(task, num_rows, num_stored),
        faults=_faults(task.out),
    )


def _ratio(above: Sequence[float], below: Sequence[float]) -> float:
    return sum(above) / max(1e-9, sum(below))


def _stored(rows: pa.Table) -> int:
    return rows["stored"].to_pylist().count(True)


def _range(timed: Sequence[Timed], kept: Sequence[int], total: float) -> tuple[float, float]:
    """The middle 90 in 100 of the pairs that other samples of as many places would tell, by drawing from this one again and
    again; narrower where much of all is in it. Of a sample without a pair the upper end is what would hide from it once in 20."""
    places: dict[int, Float64[np.ndarray, " 2"]] = defaultdict(lambda: np.zeros(2))
    for t, num in zip(timed, kept, strict=True):
        places[t.piece.place] += (num, t.size)
    values = np.array([v for v in places.values() if v[1]]).reshape(-1, 2)
    num, found = values[:, 1].sum(), float(values[:, 0].sum())
    if not found:
        return 0.0, total * (1 - 0.05 ** (1 / max(1.0, num)))
    if len(values) < 2:
        return found, max(total, found)
    middle = total * found / num
    again = values[np.random.default_rng(0).integers(0, len(values), (2000, len(values)))].sum(1)
    ends = total * np.quantile(again[:, 0] / again[:, 1], (0.05, 0.95))
    left, few = math.sqrt(max(0.0, 1 - num / total)), 1 + 1.7 / (len(values) - 1)  # of few places they tell too little apart
    low, high = (float(middle + left * few * (end - middle)) for end in ends)
    return max(low, found), high


def _seconds(plan: Plan, timed: Sequence[Timed], sizes: dict[str, float], workers: int) -> float:
    """How long the workers take for the parts of a plan, each taking the next when it is free."""
    every_s = _ratio([t.each_s * t.size for t in timed], [t.size for t in timed])
    opens = [t.open_s for t in timed if t.open_s is not None]
    open_s, end_s = _ratio(opens, [1] * len(opens)), _ratio([t.end_s for t in timed], [1] * len(timed))
    middles = [t.entry_s for t in timed if t.piece.first]
    entry_s = _ratio(middles, [1] * len(middles))
    by_scene: dict[str, list[Timed]] = defaultdict(list)
    for t in timed:
        by_scene[t.piece.scene.scene].append(t)
    each_s = {n: _ratio([t.each_s * t.size for t in own], [t.size for t in own]) for n, own in by_scene.items()}
    opened_s = {t.piece.scene.scene: t.open_s for t in timed if t.open_s is not None}
    free = [0.0] * min(workers, max(1, plan.num_parts))
    for slices in _parts(plan):
        at_s = heapq.heappop(free)
        took_s = end_s
        for k, piece in enumerate(slices):
            share = (piece.stop - piece.start) / max(1, piece.num_frames)
            took_s += sizes[piece.scene] * share * each_s.get(piece.scene, every_s)
            if piece.start == 0:
                took_s += opened_s.get(piece.scene, open_s)
            elif k == 0 and at_s == 0:  # a worker that begins in the middle of a scene
                took_s += opened_s.get(piece.scene, open_s) + entry_s
        heapq.heappush(free, at_s + took_s)
    return max(free)


def _parts(plan: Plan) -> Iterator[list[Slice]]:
    """The slices of each part, in order."""
    parts: dict[int, list[Slice]] = defaultdict(list)
    for piece in plan.slices:
        parts[piece.part].append(piece)
    yield from parts.values()


def _num_bytes(task: Task, num_rows: float, num_stored: float) -> float:
    """Of tars, manifests and scenes. A manifest of few lines is mostly frame: some are tried, with as many lines as a part has."""
    rows, parts = read_manifest(task.out), task.plan.num_parts
    stored = [size for size in rows["size"].to_pylist() if size is not None]
    length = min(max(1, round(num_rows / parts)), len(rows))
    starts = np.linspace(0, len(rows) - length, 8).astype(int).tolist() if length else []
    lines = _ratio([_parquet_bytes(rows.slice(start, length)) for start in starts], [length] * len(starts))
    scenes = _parquet_bytes(read_scenes(task.out).slice(0, 1))
    tars = parts * (1 - math.exp(-num_stored / parts))  # a part that stores nothing has none
    return num_stored * _ratio(stored, [1] * len(stored)) + num_rows * lines + parts * scenes + tars * _TAR_END


def _parquet_bytes(table: pa.Table) -> int:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.tell()


# ------------------------------------------------------------------------------------------ remembered with the dataset


def remember(out: Path, told: Forecast, plan: Plan) -> Path | None:
    """Write OUT/forecast.json, the one file that a dry run leaves there, for the real run to compare with.

    None where nothing was written: OUT holds another dataset or something else, or cannot be written.
    """
    content = {"config_sha256": plan.config_sha256, "footage_sha256": _footage_sha256(plan), "forecast": asdict(told)}
    try:
        known = read_plan(out)
        if (out.is_dir() and is_foreign(out)) or (known and known.config_sha256 != plan.config_sha256):
            return None
        out.mkdir(parents=True, exist_ok=True)
        write_whole(out / NAME, (json.dumps(content, indent=1) + "\n").encode())
    except (OSError, BrokenDatasetError):
        return None
    return out / NAME


def recall(out: Path, plan: Plan) -> Forecast | None:
    """What a dry run with the same footage and configuration expected of OUT; None where there was none."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads((out / NAME).read_text())
        if (known["config_sha256"], known["footage_sha256"]) == (plan.config_sha256, _footage_sha256(plan)):
            return Forecast(**known["forecast"])
    return None


def _footage_sha256(plan: Plan) -> str:
    return hashlib.sha256(json.dumps(sorted(plan.fingerprints.items())).encode()).hexdigest()
