"""Whether a dataset on disk is what its manifest says, and what it holds."""

import hashlib
import tarfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .dataset import all_rows, check_dataset
from .errors import BrokenDatasetError
from .licences import counted
from .plan import Plan, read_plan
from .schema import Row
from .shards import (
    DEPTH_PARTS,
    SAMPLE_PARTS,
    finished_parts,
    part_paths,
    read_manifest,
    read_sample,
    read_scenes,
    sample_json,
    shard_sha256,
)

NUM_BINS = 20


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a dataset holds, counted from its manifests and scenes."""

    num_parts: int
    num_finished: int
    num_pairs: int = 0
    num_kept: int = 0
    num_stored: int = 0
    kept_by_source: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    """Refused pairs by reason, most frequent first; a pair may have several."""
    overlaps: tuple[int, ...] = ()
    """Measured pairs in NUM_BINS equal bins of overlap from 0 to 1."""
    kept_overlaps: tuple[int, ...] = ()
    """The kept ones of them."""
    licences: dict[str, int] = field(default_factory=dict)
    """Kept pairs by the licence of their footage, most first."""
    inputs: dict[str, int] = field(default_factory=dict)
    """Scenes by status."""
    errors: tuple[tuple[str, str], ...] = ()
    """Status and error of every scene that is neither ok nor skipped."""
    skipped: tuple[str, ...] = ()
    """Why each scene that its dataset's rule leaves out is left out: no errors."""


def dataset_plan(out: Path) -> Plan:
    """The plan of a dataset. Raises ConfigError where there is none."""
    check_dataset(out)
    plan = read_plan(out)
    assert plan is not None  # it was there a moment ago
    return plan


def summarise(out: Path, plan: Plan, parts: tuple[int, ...] | None = None, selection: str | None = None) -> Summary:
    """Counts over the finished parts, or over those of `parts`; what is kept, as a selection of the whole says."""
    wanted = tuple(range(plan.num_parts)) if parts is None else parts
    finished = sorted(set(finished_parts(out)) & set(wanted))
    columns = ["source", "kept", "stored", "reasons", "overlap", "licence"]
    rows = read_manifest(out, finished, columns) if selection is None else all_rows(out, selection, columns)
    scenes = read_scenes(out, finished)
    reasons = Counter(r for refused in rows["reasons"].to_pylist() for r in refused)
    overlap, kept = rows["overlap"].to_numpy(), rows["kept"].to_numpy()  # NaN where unmeasured
    status: dict[str, tuple[str, str]] = {}
    rank = ("ok", "skipped", "partial", "unreadable")
    for name, state, error in zip(*(scenes[c].to_pylist() for c in ("scene", "status", "error")), strict=True):
        if name not in status or rank.index(state) > rank.index(status[name][0]):
            status[name] = (state, error)
    return Summary(
        num_parts=len(wanted),
        num_finished=len(finished),
        num_pairs=len(rows),
        num_kept=int(np.count_nonzero(kept)),
        num_stored=int(np.count_nonzero(rows["stored"])),
        kept_by_source=dict(Counter(s for s, taken in zip(rows["source"].to_pylist(), kept, strict=True) if taken)),
        reasons=dict(reasons.most_common()),
        overlaps=_histogram(overlap),
        kept_overlaps=_histogram(overlap[kept]),
        licences=counted(rows["licence"].filter(rows["kept"]).to_pylist()),
        inputs=dict(Counter(state for state, _ in status.values())),
        errors=tuple(s for s in status.values() if s[0] not in ("ok", "skipped")),
        skipped=tuple(why for state, why in status.values() if state == "skipped"),
    )


def _histogram(overlap: np.ndarray) -> tuple[int, ...]:
    return tuple(np.histogram(overlap[np.isfinite(overlap)], NUM_BINS, (0, 1))[0].tolist())


def faults(out: Path, plan: Plan) -> list[str]:
    """Everything in OUT that is not as the manifests say, a line each; nothing where all is well.

    Every tar and every stored picture is hashed, every sample read at its offset, no pair may stand twice.
    """
    found: list[str] = []
    seen: dict[str, int] = {}
    for part in finished_parts(out):
        if part >= plan.num_parts:
            found.append(f"part {part} is not in the plan")
        try:
            rows = read_manifest(out, [part]).to_pylist()
            read_scenes(out, [part])
        except BrokenDatasetError as error:
            found.append(str(error))
            continue
        for row in rows:
            if row["key"] in seen:
                found.append(f"{row['pair_id']} stands twice (part {seen[row['key']]} and {part})")
            seen[row["key"]] = part
        found += _shard_faults(out, part, [row for row in rows if row["stored"]])
    return found


def _shard_faults(out: Path, part: int, rows: list[dict]) -> list[str]:
    tar = part_paths(out, part)[0]
    if not tar.exists():
        return [f"{tar}: is missing, with {len(rows)} stored pairs"] if rows else []
    if not rows:
        return [f"{tar}: nothing in the manifest speaks of it"]
    with tar.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() == shard_sha256(out, part):
            return _sample_faults(out, rows)
    return [*_sample_faults(out, rows), f"{tar}: these are not the bytes that were written"]


def _sample_faults(out: Path, rows: list[dict]) -> list[str]:
    found = []
    for row in rows:
        try:
            files = read_sample(out, row["shard"], row["offset"], row["size"])
        except (OSError, BrokenDatasetError, tarfile.TarError) as error:
            found.append(f"{row['pair_id']}: {error}")
            continue
        if tuple(name for name in files if name not in DEPTH_PARTS) != SAMPLE_PARTS:
            found.append(f"{row['pair_id']}: its sample holds {', '.join(files) or 'nothing'}")
            continue
        for view in "ab":
            if hashlib.sha256(files[f"{view}.jpg"]).hexdigest() != row[f"sha256_{view}"]:
                found.append(f"{row['pair_id']}: picture {view} is not the one that was stored")
        if files["json"] != sample_json(Row(**row)):
            found.append(f"{row['pair_id']}: its JSON is not the manifest's line")
    return found
