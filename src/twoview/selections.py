"""Choices made later: which of a dataset's stored pairs to use. A selection is a list of keys; nothing is decoded or copied."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .dataset import check_dataset, check_name, chosen, keys_where, selection_keys, selection_path
from .duplicates import (
    COLUMNS,
    LEFT_OUT,
    MAX_NEAR_BITS,
    NEAR_BITS,
    PictureSet,
    Tell,
    left_out_bytes,
    need_faiss,
    picture_set,
    stored_as,
    unjudged,
    without_pictures,
    without_repeats,
)
from .errors import ConfigError
from .licences import is_allowed
from .shards import read_manifest, write_whole

LOOSE = ("overlap_low", "overlap_high", "not_best")
"""Reasons that another band may overrule. Whatever else speaks against a pair, it is never selected."""


@dataclass(frozen=True, kw_only=True)
class SelectConfig:
    """Which of the stored pairs to take. The conditions hold together; duplicates go after them, and quotas come last."""

    overlap: tuple[float, float] | None = None
    """Pairs of this band, kept or not, of each group the one that shares least. None: the kept pairs."""
    where: str | None = None
    """A condition in SQL over the manifest's columns."""
    licences: tuple[str, ...] = ()
    """Pairs of footage under one of these licences (patterns as of licences.py); none: whatever the licence."""
    quota: Mapping[str, int] = field(default_factory=dict)
    """At most so many pairs by source; `*` for each source that has no line of its own."""
    drop: frozenset[str] = frozenset()
    """Keys or pair ids to leave out."""
    dedup: bool = False
    """Of pairs that show nearly the same two pictures, in either order, take the first."""
    against: tuple[Path, ...] = ()
    """Datasets (DIR, DIR@NAME) or folders of pictures: leave out pairs of which one view is nearly a picture of theirs."""
    near_bits: int = NEAR_BITS
    """Bits of 64 in which the perceptual hashes of nearly the same picture may differ."""

    def __post_init__(self) -> None:
        if not 0 <= self.near_bits <= MAX_NEAR_BITS:
            raise ConfigError(f"--near-bits {self.near_bits}: give 0 to {MAX_NEAR_BITS}: from there on other pictures are as near")
        if self.near_bits != NEAR_BITS and not self.judges:
            raise ConfigError(f"--near-bits {self.near_bits}: it speaks of --dedup and --against: give one of them too")
        if self.overlap and not 0 <= self.overlap[0] <= self.overlap[1] <= 1:
            raise ConfigError("--overlap {}:{}: give LOW:HIGH with 0 <= LOW <= HIGH <= 1, as 0.5:0.7".format(*self.overlap))

    @property
    def judges(self) -> bool:
        """Whether pictures are compared."""
        return self.dedup or bool(self.against)


@dataclass(frozen=True, kw_only=True)
class Selected:
    """What a selection came to."""

    keys: pa.ChunkedArray
    """In the manifest's order."""
    num_from: int
    """Stored pairs that were chosen from."""
    by_source: Mapping[str, int]
    short: Mapping[str, int]
    """Sources that have fewer pairs than their quota, and how many are missing."""
    unknown_drops: tuple[str, ...] = ()
    """What --drop names and the dataset does not have."""
    left_out: pa.Table = field(default_factory=LEFT_OUT.empty_table)
    """Pairs that were left out for what they show, and what they duplicate."""
    sets: tuple[PictureSet, ...] = ()
    """What was compared with."""
    num_unhashed: int = 0
    """Of the selected pairs those that could not be compared, as a view has no hash."""
    num_plain: int = 0
    """And others, as a view is too plain for its hash to say anything."""


def select(folder: Path, config: SelectConfig, within: str | None = None, tell: Tell = lambda num, total: None) -> Selected:
    """The pairs of a dataset that a configuration chooses, among the stored ones or those of another selection.

    Pairs that repeat another are left out after every other condition but quotas. tell: called with pictures of `against` hashed
    and in all. Raises ConfigError for SQL that does not run, and where --against has no pictures.
    """
    check_dataset(folder)
    if config.judges:
        need_faiss()  # before long work
    sets = tuple(picture_set(path, *stored_as(folder), tell) for path in config.against)
    columns = ["key", "pair_id", "source", "group", "overlap", "kept", "stored", "reasons", "licence"]
    columns += COLUMNS if config.judges else ()
    rows = read_manifest(folder, columns=columns)
    rows = rows.filter(rows["stored"])
    if within is not None:
        rows = rows.filter(chosen(rows["key"], selection_keys(folder, within), folder, within))
    num_from = len(rows)
    unknown: tuple[str, ...] = ()
    if config.overlap is not None:
        rows = _in_band(rows, config.overlap)
    elif within is None:
        rows = rows.filter(rows["kept"])
    if config.where is not None:
        rows = rows.filter(_is_in(rows["key"], keys_where(folder, config.where)))
    if config.licences:
        under = [licence for licence in rows["licence"].unique().to_pylist() if is_allowed(licence, config.licences)]
        rows = rows.filter(_is_in(rows["licence"], pa.array(under, pa.string())))
    if config.drop:
        rows, unknown = _dropped(folder, rows, config.drop)
    left_out = [LEFT_OUT.empty_table()]
    for pictures in sets:
        rows, shown = without_pictures(rows, pictures, config.near_bits)
        left_out.append(shown)
    if config.overlap is not None:
        rows = _best_of_groups(rows)
    if config.dedup:
        rows, again = without_repeats(rows, config.near_bits)
        left_out.append(again)
    rows, short = _limited(rows, config.quota)
    num_unhashed, num_plain = unjudged(rows) if config.judges else (0, 0)
    counts = pc.value_counts(rows["source"].combine_chunks())  # pyright: ignore[reportAttributeAccessIssue]
    by_source = {entry["values"]: entry["counts"] for entry in counts.to_pylist()}
    return Selected(
        keys=rows["key"],
        num_from=num_from,
        by_source=by_source,
        short=short,
        unknown_drops=unknown,
        left_out=pa.concat_tables(left_out),
        sets=sets,
        num_unhashed=num_unhashed,
        num_plain=num_plain,
    )


def _dropped(folder: Path, rows: pa.Table, drop: frozenset[str]) -> tuple[pa.Table, tuple[str, ...]]:
    """The rows that a drop list does not name, and what it names that the dataset does not have."""
    names = pa.array(sorted(drop), pa.string())
    rows = rows.filter(pc.invert(pc.or_(_is_in(rows["key"], names), _is_in(rows["pair_id"], names))))  # pyright: ignore[reportAttributeAccessIssue]
    every = read_manifest(folder, columns=["key", "pair_id"])
    known = pc.or_(_is_in(names, every["key"]), _is_in(names, every["pair_id"]))  # pyright: ignore[reportAttributeAccessIssue]
    return rows, tuple(names.filter(pc.invert(known)).to_pylist())  # pyright: ignore[reportAttributeAccessIssue]


def _is_in(values: Any, among: Any) -> Any:
    return pc.is_in(values, value_set=among)  # pyright: ignore[reportAttributeAccessIssue]


def _in_band(rows: pa.Table, band: tuple[float, float]) -> pa.Table:
    """Those of a band against which nothing speaks but the band they were curated with."""
    reasons = rows["reasons"].combine_chunks()
    strict = pc.invert(_is_in(reasons.flatten(), pa.array(LOOSE)))  # pyright: ignore[reportAttributeAccessIssue]
    refused = np.zeros(len(rows), bool)
    refused[np.asarray(pc.list_parent_indices(reasons).filter(strict))] = True  # pyright: ignore[reportAttributeAccessIssue]
    overlap = rows["overlap"].to_numpy()  # NaN where unmeasured
    return rows.filter(pa.array(~refused & (overlap >= band[0]) & (overlap <= band[1])))


def _best_of_groups(rows: pa.Table) -> pa.Table:
    """Of each group the pair that shares least, the first of equals."""
    group = rows["group"].combine_chunks().dictionary_encode().indices.to_numpy()
    order = np.lexsort((rows["overlap"].to_numpy(), group))  # stable
    _, first = np.unique(group[order], return_index=True)
    return rows.take(pa.array(np.sort(order[first])))


def _limited(rows: pa.Table, quota: Mapping[str, int]) -> tuple[pa.Table, dict[str, int]]:
    """At most so many pairs a source, and what is missing: those of the lowest key, which is a hash.

    So a larger quota holds all of a smaller one, and a choice does not depend on what other sources have.
    """
    keep = np.ones(len(rows), bool)
    source = rows["source"].combine_chunks().dictionary_encode()
    rank = pc.rank(rows["key"].combine_chunks()).to_numpy()  # pyright: ignore[reportAttributeAccessIssue]
    short = {name: num for name, num in quota.items() if name != "*" and name not in set(source.dictionary.to_pylist())}
    for code, name in enumerate(source.dictionary.to_pylist()):
        most = quota.get(name, quota.get("*"))
        if most is None:
            continue
        own = np.flatnonzero(source.indices.to_numpy() == code)
        keep[own[np.argsort(rank[own])[most:]]] = False
        if name in quota and len(own) < most:
            short[name] = most - len(own)
    return rows.filter(pa.array(keep)), {name: num for name, num in short.items() if num}


def write_selection(folder: Path, name: str, selected: Selected, config: SelectConfig, within: str | None) -> Path:
    """Write selections/NAME.parquet: one column of keys; how they were chosen is in the file's metadata.

    Where pictures were compared, NAME.left_out.tsv beside it says what was left out as a duplicate, and of what.

    Raises ConfigError where another selection of that name is there: a run may have been trained with it.
    """
    path = selection_path(folder, check_name(name))
    if path.exists() and not selection_keys(folder, name).equals(selected.keys):
        raise ConfigError(f"{path} is there with other pairs: give another --name, or remove it")
    path.parent.mkdir(exist_ok=True)
    how = asdict(config) | {"quota": dict(config.quota), "drop": sorted(config.drop), "within": within}
    how |= {"against": [str(path) for path in config.against], "near_bits": config.near_bits if config.judges else None}
    table = pa.table({"key": selected.keys.cast(pa.string())}).replace_schema_metadata(
        {"selection": json.dumps(how, sort_keys=True)}
    )
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    if config.judges:
        write_whole(left_out_path(folder, name), left_out_bytes(selected.left_out))
    else:
        left_out_path(folder, name).unlink(missing_ok=True)
    write_whole(path, sink.getvalue().to_pybytes())
    return path


def left_out_path(folder: Path, name: str) -> Path:
    """The list of what a selection left out as a duplicate."""
    return selection_path(folder, name).with_name(f"{name}.left_out.tsv")


def read_quota(path: Path) -> dict[str, int]:
    """Lines of a source, a tab or spaces, and a number; `*` for every other source; # begins a remark."""
    quota: dict[str, int] = {}
    for number, line in _lines("--quota", path):
        source, _, num = (part.strip() for part in line.rstrip().rpartition("\t" if "\t" in line else " "))
        if not source or not num.isdecimal():
            raise ConfigError(f"--quota {path}, line {number}: write a source, a tab and a number of pairs")
        if source in quota:
            raise ConfigError(f"--quota {path}, line {number}: {source} stands twice")
        quota[source] = int(num)
    return quota


def read_drop(path: Path) -> frozenset[str]:
    """Keys or pair ids, one a line; # begins a remark."""
    return frozenset(line.strip() for _, line in _lines("--drop", path))


def _lines(flag: str, path: Path) -> list[tuple[int, str]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{flag} {path}: {getattr(error, 'strerror', None) or 'not UTF-8 text'}") from None
    return [(i, line) for i, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")]
