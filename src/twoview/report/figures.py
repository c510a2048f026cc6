"""What the page of a dataset counts: from manifests, lists of inputs, the plan and the runs. No pictures."""

import contextlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..dataset import all_rows, selection_path
from ..licences import counted
from ..plan import read_plan
from ..shards import finished_parts, read_scenes

COLUMNS = (
    "key",
    "pair_id",
    "source",
    "licence",
    "scene",
    "frame_index_a",
    "frame_index_b",
    "time_a_s",
    "time_b_s",
    "kept",
    "stored",
    "reasons",
    "overlap",
    "scale",
    "rotation_deg",
    "shard",
    "offset",
    "size",
)
NUM_BINS = 50
"""Of the histogram of overlaps, from 0 to 1."""
NUM_CELLS = 40
"""A scene's strip: its frames, in so many equal stretches."""


@dataclass(frozen=True, kw_only=True)
class SourceCount:
    source: str
    num_pairs: int
    num_kept: int
    num_scenes: int


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Where the pairs of a scene lie in it, and how far apart their two views are. None: nobody knows."""

    source: str
    scene: str
    num_pairs: int
    num_kept: int
    num_frames: int | None = None
    kept_cells: tuple[int, ...] = ()
    """Views of kept pairs in each stretch of the scene."""
    measured_cells: tuple[int, ...] = ()
    gap_s: float | None = None
    """Median time between the two views of a kept pair, where there is a clock."""
    gap_frames: float | None = None
    rotation_deg: float | None = None
    """Median of the in-plane rotation, without its sign."""
    zoom: float | None = None
    """Median of the magnification, 2 for twice as large as for half as large."""
    footage_s: float | None = None
    """How much of it was gone through, in finished parts."""

    @property
    def coverage(self) -> float | None:
        """Share of the stretches that a view of a kept pair lies in."""
        return float(np.mean(np.array(self.kept_cells) > 0)) if self.kept_cells else None


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of curate, from runs.jsonl."""

    started: str
    seconds: float
    workers: int
    num_pairs: int
    num_kept: int


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What there is to say of a dataset or a selection."""

    num_parts: int
    num_finished: int
    num_pairs: int
    num_kept: int
    num_stored: int
    kept_bytes: int
    """Of the kept pairs' samples in their tars."""
    median_overlap: float | None
    """Of the kept pairs."""
    reasons: dict[str, int]
    """Refused pairs by reason, most frequent first; a pair may have several."""
    kept_bins: tuple[int, ...]
    """Kept pairs by overlap, in NUM_BINS equal bins from 0 to 1."""
    refused_bins: tuple[int, ...]
    band: tuple[float, float] | None
    sources: tuple[SourceCount, ...]
    """Most kept pairs first."""
    licences: dict[str, int]
    """Kept pairs by licence, most first."""
    spreads: tuple[Spread, ...]
    """Scenes, most kept pairs first, then those that were measured most."""
    runs: tuple[Run, ...]
    faults: tuple[tuple[str, str], ...]
    """Status and error of the inputs that could not be read, or not wholly."""
    config: dict[str, Any]

    @property
    def footage_s(self) -> float | None:
        """Seconds of video that were gone through, where any has a clock."""
        known = [spread.footage_s for spread in self.spreads if spread.footage_s is not None]
        return sum(known) if known else None

    @property
    def kept_in_footage(self) -> int:
        """Kept pairs of the scenes that have a clock."""
        return sum(spread.num_kept for spread in self.spreads if spread.footage_s is not None)


def figures_of(folder: Path, selection: str | None = None) -> tuple[Figures, pa.Table]:
    """The figures of a dataset or of a selection of it, and the rows they were counted from (COLUMNS)."""
    rows = all_rows(folder, selection, list(COLUMNS))
    scenes = read_scenes(folder)
    plan = read_plan(folder)
    config = read_config(folder)
    kept = rows["kept"].to_numpy()
    overlap = rows["overlap"].to_numpy()  # NaN where unmeasured
    reasons = Counter(rows["reasons"].combine_chunks().flatten().to_pylist())
    of_kept = overlap[kept & np.isfinite(overlap)]
    return Figures(
        num_parts=plan.num_parts if plan else 0,
        num_finished=len(finished_parts(folder)),
        num_pairs=len(rows),
        num_kept=int(kept.sum()),
        num_stored=int(rows["stored"].to_numpy().sum()),
        kept_bytes=int(np.nansum(rows["size"].to_numpy()[kept])),
        median_overlap=float(np.median(of_kept)) if len(of_kept) else None,
        reasons=dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0]))),
        kept_bins=_histogram(overlap[kept]),
        refused_bins=_histogram(overlap[~kept]),
        band=_band(folder, selection, config),
        sources=_sources(rows),
        licences=counted(rows["licence"].filter(rows["kept"]).to_pylist()),
        spreads=_spreads(rows, scenes),
        runs=_runs(folder),
        faults=_faults(scenes),
        config=config,
    ), rows


def read_config(folder: Path) -> dict[str, Any]:
    """config.json, or what can be had of it."""
    with contextlib.suppress(OSError, ValueError):
        known = json.loads((folder / "config.json").read_bytes())
        if isinstance(known, dict) and isinstance(known.get("config"), dict):
            return known
    return {"config": {}}


def selection_notes(folder: Path, selection: str) -> dict[str, Any]:
    """How a selection was chosen, or what can be had of it."""
    with contextlib.suppress(OSError, ValueError):  # pyarrow's are ValueErrors
        known = json.loads((pq.read_schema(selection_path(folder, selection)).metadata or {}).get(b"selection", b"{}"))
        if isinstance(known, dict):
            return known
    return {}


def _band(folder: Path, selection: str | None, config: dict[str, Any]) -> tuple[float, float] | None:
    """The band that a pair had to lie in: that of the selection, else of the one it was chosen from, at last of the dataset.

    None where nobody knows: a selection was chosen from one that is not there any more.
    """
    passed: set[str] = set()
    while selection is not None and selection not in passed:
        passed.add(selection)
        notes = selection_notes(folder, selection)
        if notes.get("overlap") or not notes:
            return _bounds(notes.get("overlap"))
        selection = notes.get("within")
    return _bounds(config["config"].get("overlap"))


def _bounds(band: Any) -> tuple[float, float] | None:
    with contextlib.suppress(TypeError, ValueError):
        low, high = band
        return float(low), float(high)
    return None


def _histogram(overlap: np.ndarray) -> tuple[int, ...]:
    return tuple(np.histogram(overlap[np.isfinite(overlap)], NUM_BINS, (0, 1))[0].tolist())


def codes_of(*columns: pa.ChunkedArray) -> tuple[np.ndarray, list[tuple[str, ...]]]:
    """For each row the number of its values, and the values by number, in order of appearance."""
    joined = pc.binary_join_element_wise(*columns, "\0").combine_chunks().dictionary_encode()  # pyright: ignore[reportAttributeAccessIssue]
    return joined.indices.to_numpy(), [tuple(value.split("\0")) for value in joined.dictionary.to_pylist()]


def _sources(rows: pa.Table) -> tuple[SourceCount, ...]:
    code, names = codes_of(rows["source"])
    _, scenes = codes_of(rows["source"], rows["scene"])
    num, kept = len(names), rows["kept"].to_numpy()
    scenes_of = Counter(source for source, _ in scenes)
    counts = zip(names, np.bincount(code, minlength=num), np.bincount(code[kept], minlength=num), strict=True)
    found = [
        SourceCount(source=name, num_pairs=int(pairs), num_kept=int(keeps), num_scenes=scenes_of[name])
        for (name,), pairs, keeps in counts
    ]
    return tuple(sorted(found, key=lambda s: (-s.num_kept, -s.num_pairs, s.source)))


def _spreads(rows: pa.Table, scenes: pa.Table) -> tuple[Spread, ...]:
    known: dict[tuple[str, ...], dict[str, Any]] = {}
    seconds: dict[tuple[str, ...], float] = {}
    for line in scenes.to_pylist():  # of a long scene one for each finished part
        name = (line["source"], line["scene"])
        if line["kind"] != "import":
            known[name] = line
        if line["fps"]:
            seconds[name] = seconds.get(name, 0.0) + (line["stop"] - line["start"]) / line["fps"]
    code, names = codes_of(rows["source"], rows["scene"])
    order = np.argsort(code, kind="stable")
    ends = np.cumsum(np.bincount(code, minlength=len(names)))
    wanted = ("frame_index_a", "frame_index_b", "time_a_s", "time_b_s", "kept", "scale", "rotation_deg")
    columns = {name: rows[name].to_numpy() for name in wanted}
    found = []
    for n, name in enumerate(names):
        here = order[ends[n - 1] if n else 0 : ends[n]]
        found.append(
            _spread(name, {column: values[here] for column, values in columns.items()}, known.get(name), seconds.get(name))
        )
    for name in known.keys() - set(names):
        frames = known[name]["num_frames"]
        found.append(Spread(source=name[0], scene=name[1], num_pairs=0, num_kept=0, num_frames=frames, footage_s=seconds.get(name)))
    return tuple(sorted(found, key=lambda s: (-s.num_kept, -s.num_pairs, s.source, s.scene)))


def _spread(name: tuple[str, ...], row: dict[str, np.ndarray], info: dict[str, Any] | None, footage_s: float | None) -> Spread:
    kept, scale = row["kept"], row["scale"][row["kept"]]
    frames = info["num_frames"] if info else 0
    num_cells = min(NUM_CELLS, frames)
    cells: list[tuple[int, ...]] = []
    for chosen in (kept, np.ones_like(kept)):
        views = np.concatenate([row["frame_index_a"][chosen], row["frame_index_b"][chosen]])
        places = np.minimum(views * num_cells // max(frames, 1), max(num_cells - 1, 0))
        cells.append(tuple(np.bincount(places, minlength=num_cells).tolist()) if num_cells else ())
    clock = (row["time_b_s"] - row["time_a_s"])[kept]
    return Spread(
        source=name[0],
        scene=name[1],
        num_pairs=len(kept),
        num_kept=int(kept.sum()),
        num_frames=frames or None,
        kept_cells=cells[0],
        measured_cells=cells[1],
        gap_s=_median(np.abs(clock)),
        gap_frames=_median(np.abs(row["frame_index_b"] - row["frame_index_a"])[kept]) if info else None,
        rotation_deg=_median(np.abs(row["rotation_deg"][kept])),
        zoom=_median(np.exp(np.abs(np.log(scale[scale > 0])))),
        footage_s=footage_s,
    )


def _median(values: np.ndarray) -> float | None:
    there = values[np.isfinite(values)]
    return float(np.median(there)) if len(there) else None


def _runs(folder: Path) -> tuple[Run, ...]:
    """Runs that measured something. A line that a killed run left half written is passed over."""
    runs = []
    with contextlib.suppress(OSError):
        for line in (folder / "runs.jsonl").read_text(errors="replace").splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):
                known = json.loads(line)
                runs.append(
                    Run(
                        started=str(known["started"])[:16].replace("T", " "),
                        seconds=float(known["seconds"]),
                        workers=int(known["workers"]),
                        num_pairs=int(known["num_pairs"]),
                        num_kept=int(known["num_kept"]),
                    )
                )
    return tuple(run for run in runs if run.num_pairs)


def _faults(scenes: pa.Table) -> tuple[tuple[str, str], ...]:
    """Each input once: a long one has a line in several parts."""
    found = {
        (name, state): error or "no word why"
        for name, state, error in zip(*(scenes[c].to_pylist() for c in ("scene", "status", "error")), strict=True)
        if state not in ("ok", "skipped")
    }
    return tuple((state, error) for (_, state), error in found.items())


def spread_evenly(groups: Sequence[np.ndarray], most: int) -> np.ndarray:
    """Up to `most` of the rows, from each group the first, then from each the second, and so on."""
    ranks = [(rank, n, int(row)) for n, group in enumerate(groups) for rank, row in enumerate(group[:most])]
    return np.array([row for _, _, row in sorted(ranks)[:most]], np.int64)
