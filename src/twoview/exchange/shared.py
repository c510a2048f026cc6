"""A dataset without its pictures, as somebody shares it who may not share those: what it says of its pairs and of their making."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..dataset import selection_keys, split_name
from ..errors import ConfigError
from ..plan import Plan, Slice, read_plan
from ..schema import Row
from ..shards import ROW_SCHEMA, finished_parts, key_of, part_paths, read_scenes

CHUNK_PAIRS = 2_000
"""Rows in a part that is made of a manifest in one file."""
_NEEDED = [f.name for f in fields(Row) if f.default is MISSING and f.default_factory is MISSING]
"""Columns of every pair that was measured."""
_KNOWN_BY = [f"{name}_{view}" for name in ("sha256", "phash") for view in "ab"]
"""Columns by which the pictures of the stored ones are known again."""


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Rows of a manifest that become one part."""

    path: Path
    start: int = 0
    """In the order of `table_of`."""
    stop: int | None = None
    part: int | None = None
    """Number of the part that the whole file was."""


@dataclass(frozen=True, kw_only=True)
class Shared:
    """A dataset's folder without shards, or one manifest file beside its config.json."""

    path: Path
    """As it was given."""
    folder: Path
    selection: str | None
    chunks: tuple[Chunk, ...]
    """Those that hold wanted rows: chunk k becomes part k."""
    recorded: Mapping[str, Any]
    """`config` of config.json."""
    plan: Plan | None
    scenes: tuple[dict[str, Any], ...]
    """Lines of scenes/; none where the folder is not there."""
    sha256: str
    """Of the manifest's bytes, and the keys that were selected."""

    @property
    def is_whole(self) -> bool:
        """Whether it speaks of every pair that was measured."""
        return self.selection is None and all(chunk.part is not None for chunk in self.chunks)


def read_shared(path: Path | str) -> Shared:
    """What a shared folder (DIR or DIR@NAME) or manifest file holds.

    Raises ConfigError where there is no manifest or no config.json, or where they are not of twoview.
    """
    folder, selection = (Path(path), None) if Path(path).is_file() else split_name(path)
    if folder.is_file():
        chunks, folder = _chunks_of_file(folder), _folder_of(folder)
    else:
        chunks = _chunks_of_folder(folder, selection)
    if not chunks:
        raise ConfigError(f"{path}: no pairs in it")
    files = dict.fromkeys(chunk.path for chunk in chunks)
    _check_keys(files)
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    if selection is not None:
        digest.update("\n".join(selection_keys(folder, selection).to_pylist()).encode())
    return Shared(
        path=Path(path),
        folder=folder,
        selection=selection,
        chunks=tuple(chunks),
        recorded=_recorded(folder / "config.json"),
        plan=read_plan(folder),
        scenes=tuple(read_scenes(folder, [p for p in finished_parts(folder) if part_paths(folder, p)[1].exists()]).to_pylist()),
        sha256=digest.hexdigest(),
    )


def _chunks_of_file(file: Path) -> list[Chunk]:
    num = len(table_of(file, None))
    return [Chunk(path=file, start=at, stop=min(at + CHUNK_PAIRS, num)) for at in range(0, num, CHUNK_PAIRS)]


def _folder_of(file: Path) -> Path:
    for folder in file.resolve().parents[:2]:
        if (folder / "config.json").is_file():
            return folder
    raise ConfigError(f"{file}: no config.json beside it or a folder above: it says how the pictures were cut")


def _chunks_of_folder(folder: Path, selection: str | None) -> list[Chunk]:
    """Its parts; of a selection those that hold some of it."""
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such file or folder")
    parts = finished_parts(folder)
    if not parts:
        raise ConfigError(f"{folder}: no manifest there (manifest/part-000000.parquet and so on)")
    chunks = [Chunk(path=part_paths(folder, part)[2], part=part) for part in parts]
    if selection is None:
        return chunks
    num = [len(table_of(chunk.path, (folder, selection))) for chunk in chunks]
    if lacking := len(selection_keys(folder, selection)) - sum(num):
        raise ConfigError(f"{folder}@{selection}: {lacking:,} of its {sum(num) + lacking:,} pairs are not in the manifest there")
    return [chunk for chunk, n in zip(chunks, num, strict=True) if n]


def _recorded(path: Path) -> dict[str, Any]:
    try:
        known = json.loads(path.read_bytes())["config"]
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file: it says how the pictures were cut") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise ConfigError(f"{path}: not the config.json of a dataset") from None
    if isinstance(known, dict) and "import" in known:
        raise ConfigError(
            f"{path}: its pairs were imported ({known['import']}), not cut from footage: import them again from there"
        )
    if not isinstance(known, dict) or not (
        isinstance(known.get("members"), dict) or {"source", "estimator", "crop", "size"} <= set(known)
    ):
        raise ConfigError(f"{path}: not the config.json of a dataset")
    return known


def _check_keys(files: Mapping[Path, None]) -> None:
    """Raises ConfigError where a pair stands twice, or a key is not that of its pair: it becomes a name in a tar."""
    seen: set[str] = set()
    for file in files:
        table = table_of(file, None)
        for key, pair_id in zip(table["key"].to_pylist(), table["pair_id"].to_pylist(), strict=True):
            if pair_id is None or key != key_of(pair_id):
                raise ConfigError(f"{file}: the key of {pair_id!r} is not its key: not a manifest of twoview")
            if key in seen:
                raise ConfigError(f"{file}: {pair_id} stands twice")
            seen.add(key)


@lru_cache(maxsize=1)
def table_of(path: Path, selected: tuple[Path, str] | None) -> pa.Table:
    """The rows of a manifest file, or those of a selection (folder and name), those of a scene together.

    Columns that are not there are null, and such as nobody knows are left out. Raises ConfigError for what is no manifest.
    """
    try:
        table = pq.read_table(path)
        lacking = [name for name in (*_NEEDED, *_KNOWN_BY) if name not in table.column_names]
        if lacking:
            raise ConfigError(f"{path}: not a manifest of twoview: no column {lacking[0]}")
        there = {f.name: table[f.name].cast(f.type) if f.name in table.column_names else None for f in ROW_SCHEMA}
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(f"{path}: not a manifest that can be read ({str(error).splitlines()[0]})") from None
    lines = {f.name: pa.nulls(len(table), f.type) if there[f.name] is None else there[f.name] for f in ROW_SCHEMA}
    table = pa.table(lines, schema=ROW_SCHEMA)
    if empty := [name for name in _NEEDED if table[name].null_count]:
        raise ConfigError(f"{path}: not a manifest of twoview: nothing in column {empty[0]} of some rows")
    if selected is not None:
        table = table.filter(pc.is_in(table["key"], _keys(*selected)))  # pyright: ignore[reportAttributeAccessIssue]
    order = np.argsort(table["scene"].combine_chunks().dictionary_encode().indices.to_numpy(), kind="stable")
    return table.take(pa.array(order))


@lru_cache(maxsize=1)
def _keys(folder: Path, name: str) -> pa.ChunkedArray:
    return selection_keys(folder, name)


def lines_of(shared: Shared, part: int) -> pa.Table:
    """The rows that are to become this part, in their order, as a table."""
    chunk = shared.chunks[part]
    table = table_of(chunk.path, None if shared.selection is None else (shared.folder, shared.selection))
    return table.slice(chunk.start, None if chunk.stop is None else chunk.stop - chunk.start)


def rows_of(lines: pa.Table) -> list[Row]:
    return [Row(**{**line, "reasons": line["reasons"] or []}) for line in lines.to_pylist()]


def size_px(shared: Shared, piece: Slice) -> tuple[int, int] | None:
    """Width and height of the frames of a video of the manifest, before they are turned upright; None where nobody says."""
    line = next((line for line in shared.scenes if line["scene"] == piece.scene and line["kind"] == "video"), {})
    width, height = line.get("width_px"), line.get("height_px")
    return (width, height) if width and height else None
