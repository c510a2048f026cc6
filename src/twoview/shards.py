"""The contract on disk: manifests, scenes and shards. docs/format.md says it byte by byte.

A part is one tar, one list of its inputs and one manifest. Each appears whole or not at all, the manifest last: a manifest
on disk means that the part is finished.
"""

import contextlib
import errno
import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float32, Int16

from .errors import BrokenDatasetError, TryLaterError
from .schema import Row, SceneInfo

SAMPLE_PARTS = ("a.jpg", "b.jpg", "patches.npy", "points.npy", "json")
DEPTH_PARTS = ("a.depth.png", "b.depth.png")
"""What a sample has besides, before its json, where depth is known: uint16 millimetres, 0 where it is not."""
_UNMEASURED = {int: -1, float: -1000.0, str: "", bool: False}
"""What the JSON of a sample holds where the manifest holds null: its readers infer types from the first samples."""
_LENGTHS = {
    "homography": 9,
    "crop_a": 4,
    "crop_b": 4,
    "patch_grid": 2,
    "pose_a": 16,
    "pose_b": 16,
    "intrinsics_a": 4,
    "intrinsics_b": 4,
}
"""Of the lists in a row."""
_WHERE = ("shard", "offset", "size")


def part_paths(out: Path, part: int) -> tuple[Path, Path, Path]:
    """The tar, the list of inputs and the manifest of a part."""
    name = f"part-{part:06d}"
    return out / "shards" / f"{name}.tar", out / "scenes" / f"{name}.parquet", out / "manifest" / f"{name}.parquet"


def is_finished(out: Path, part: int) -> bool:
    return part_paths(out, part)[2].exists()


def key_of(pair_id: str) -> str:
    """The name of a sample in its tar: no dots, the same everywhere."""
    return hashlib.sha256(pair_id.encode()).hexdigest()[:16]


def _present(hint: Any) -> Any:
    """The type of a value that is there: X of `X | None`."""
    return next(k for k in get_args(hint) if k is not type(None)) if type(None) in get_args(hint) else hint


def _arrow_type(hint: Any) -> pa.DataType:
    kind = _present(hint)
    if getattr(kind, "__origin__", None) is list:
        return pa.list_(_arrow_type(get_args(kind)[0]))
    return {int: pa.int64(), float: pa.float64(), str: pa.string(), bool: pa.bool_()}[kind]


def schema_of(record: type) -> pa.Schema:
    hints = get_type_hints(record)
    return pa.schema([(f.name, _arrow_type(hints[f.name])) for f in fields(record)])


@dataclass(frozen=True, kw_only=True)
class SceneRow:
    """One input, or one slice of a long one, of a part: one line of scenes/. Counts speak of this part alone."""

    part: int
    source: str
    scene: str
    uri: str
    """As it was given to `curate`."""
    kind: str
    status: str
    """ok, partial or unreadable"""
    error: str
    codec: str | None
    fps: float | None
    width_px: int | None
    height_px: int | None
    num_frames: int
    start: int
    """First frame whose pairs belong to this part."""
    stop: int
    num_pairs: int
    num_kept: int
    num_stored: int
    licence: str | None
    split: str | None

    @classmethod
    def of(cls, info: SceneInfo, **more: Any) -> "SceneRow":
        return cls(**asdict(info), **more)


ROW_SCHEMA = schema_of(Row)
SCENE_SCHEMA = schema_of(SceneRow)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it appears whole. The caller holds a lock: what a killed run left aside is written over."""
    aside = path.with_name(f".{path.name}.partial")
    try:
        with explained(path):
            with aside.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def sync_folder(path: Path) -> None:
    """So that what was renamed in a folder is there after a power cut too."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """A full disk as TryLaterError with a line that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise TryLaterError(
                f"{path}: the disk is full. What is finished is kept: make room, then run the same command again"
            ) from None
        raise


def table_bytes(rows: Sequence[Any], schema: pa.Schema, metadata: dict[str, str] | None = None) -> bytes:
    """Dataclasses as one Parquet file: the same rows give the same bytes."""
    columns = {f.name: [getattr(row, f.name) for row in rows] for f in schema}
    table = pa.table(columns, schema=schema.with_metadata(metadata) if metadata else schema)
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def sample_json(row: Row) -> bytes:
    """A row as its sample carries it: every key, no nulls, floats with a point, reasons joined by commas."""
    values: dict[str, Any] = {}
    for name, element in _elements().items():
        value = getattr(row, name)
        if name == "reasons":
            value = ",".join(value)
        elif value is None:
            length = _LENGTHS.get(name)
            value = [_UNMEASURED[element]] * length if length else _UNMEASURED[element]
        elif isinstance(value, list):
            value = [element(v) for v in value]
        else:
            value = element(value)  # a user's estimator may say 1 for 1.0, or give NumPy's numbers
        values[name] = value
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def row_from_json(data: bytes, shard: str, offset: int, size: int) -> Row:
    """The row of a sample from its JSON and its place: what the manifest says of it, unmeasured as None again."""
    values = json.loads(data)
    row: dict[str, Any] = {"shard": shard, "offset": offset, "size": size}
    for name, element in _elements().items():
        if name not in values:
            continue  # written before the column was there
        value, nothing = values[name], _UNMEASURED[element]
        if name == "reasons":
            value = value.split(",") if value else []
        elif element is bool:  # false is an answer, unless nothing was asked
            value = None if name in _nullable() and not value and not values.get("motion") else value
        elif name in _nullable() and (value == nothing or (isinstance(value, list) and set(value) == {nothing})):
            value = None
        row[name] = value
    return Row(**row)


@lru_cache(maxsize=1)
def _elements() -> dict[str, type]:
    """Plain type of each of a row's values that a sample's JSON holds, or of the values in it where it is a list."""
    hints = {name: _present(hint) for name, hint in get_type_hints(Row).items() if name not in _WHERE}
    return {name: (get_args(kind) or (kind,))[0] for name, kind in hints.items()}


@lru_cache(maxsize=1)
def _nullable() -> frozenset[str]:
    """Columns that may be null."""
    return frozenset(name for name, kind in get_type_hints(Row).items() if type(None) in get_args(kind))


def npy_bytes(array: np.ndarray) -> bytes:
    sink = io.BytesIO()
    np.save(sink, np.ascontiguousarray(array), allow_pickle=False)
    return sink.getvalue()


class ShardWriter:
    """Writes one part. Leave the block well and it appears whole, manifest last; leave it by an exception and nothing does.

    The caller holds the part's lock.
    """

    def __init__(self, out: Path, part: int) -> None:
        self.out, self.part = out, part
        self.tar_path, self.scenes_path, self.manifest_path = part_paths(out, part)
        self._aside = self.tar_path.with_name(f".{self.tar_path.name}.partial")
        self._rows: list[Row] = []
        self._scenes: list[SceneRow] = []

    def __enter__(self) -> "ShardWriter":
        with explained(self.tar_path):
            self._file = self._aside.open("w+b")
        self._tar = tarfile.open(fileobj=self._file, mode="w", format=tarfile.USTAR_FORMAT)
        return self

    def write_row(self, row: Row) -> None:
        """A pair without pixels."""
        self._rows.append(row)

    def write_sample(
        self,
        row: Row,
        a: bytes,
        b: bytes,
        patches: Int16[np.ndarray, "2 p"],
        points: Float32[np.ndarray, "n 4"],
        depth_a: bytes | None = None,
        depth_b: bytes | None = None,
    ) -> None:
        """A pair with pixels. a, b: JPEG; depth_a, depth_b: PNG, both or neither."""
        offset = self._tar.offset
        arrays = (npy_bytes(patches.astype(np.int16)), npy_bytes(points.astype(np.float32)))
        contents: dict[str, bytes] = dict(zip(SAMPLE_PARTS, (a, b, *arrays), strict=False))
        if depth_a and depth_b:
            contents |= dict(zip(DEPTH_PARTS, (depth_a, depth_b), strict=True))
        contents[SAMPLE_PARTS[-1]] = sample_json(row)
        with explained(self.tar_path):
            for name, data in contents.items():
                entry = tarfile.TarInfo(f"{row.key}.{name}")  # mtime 0, uid 0, mode 0644
                entry.size = len(data)
                self._tar.addfile(entry, io.BytesIO(data))
        size = self._tar.offset - offset
        self._rows.append(replace(row, shard=f"shards/{self.tar_path.name}", offset=offset, size=size))

    def write_scene(self, scene: SceneRow) -> None:
        self._scenes.append(scene)

    def __exit__(self, kind: type | None, error: object, trace: object) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            with contextlib.suppress(OSError):  # on a full disk, what is still in the buffer: the error is on its way already
                self._file.close()
            self._aside.unlink(missing_ok=True)

    def _finish(self) -> None:
        metadata = None
        with explained(self.tar_path):
            self._tar.close()
            self._file.flush()
            os.fsync(self._file.fileno())
            if any(row.stored for row in self._rows):  # else no tar: readers of shards stumble over an empty one
                self._file.seek(0)
                metadata = {"shard_sha256": hashlib.file_digest(self._file, "sha256").hexdigest()}
                self._aside.replace(self.tar_path)
            else:
                self._aside.unlink()
        write_whole(self.scenes_path, table_bytes(self._scenes, SCENE_SCHEMA))
        write_whole(self.manifest_path, table_bytes(self._rows, ROW_SCHEMA, metadata))


def finished_parts(out: Path) -> list[int]:
    """Numbers of the parts whose manifest is there."""
    names = (re.fullmatch(r"part-(\d{6,})\.parquet", p.name) for p in (out / "manifest").glob("part-*.parquet"))
    return sorted(int(n[1]) for n in names if n)


def read_manifest(out: Path, parts: Iterable[int] | None = None, columns: list[str] | None = None) -> pa.Table:
    """Every row of the finished parts, in the order of the parts."""
    return _read_tables(out, 2, ROW_SCHEMA, parts, columns)


def shard_sha256(out: Path, part: int) -> str | None:
    """Of the whole tar of a finished part, as its manifest says; None where it has no tar."""
    known = pq.read_schema(part_paths(out, part)[2]).metadata or {}
    return known[b"shard_sha256"].decode() if b"shard_sha256" in known else None


def read_scenes(out: Path, parts: Iterable[int] | None = None) -> pa.Table:
    """Every input of the finished parts."""
    return _read_tables(out, 1, SCENE_SCHEMA, parts, None)


def _read_tables(out: Path, which: int, schema: pa.Schema, parts: Iterable[int] | None, columns: list[str] | None) -> pa.Table:
    """Columns that a part lacks, because an earlier version wrote it, are null."""
    tables = []
    for part in finished_parts(out) if parts is None else parts:
        path = part_paths(out, part)[which]
        try:
            tables.append(_read_table(path, schema, columns))
        except (OSError, pa.ArrowInvalid) as error:
            reason = str(error).splitlines()[0]
            raise BrokenDatasetError(
                f"{path}: cannot be read ({reason}). Remove it and run curate again: the part is made anew"
            ) from None
    empty = schema.empty_table().select(columns or schema.names)
    return pa.concat_tables(tables, promote_options="default") if tables else empty


def _read_table(path: Path, schema: pa.Schema, columns: list[str] | None) -> pa.Table:
    if columns is None:
        return pq.read_table(path).replace_schema_metadata()
    known = pq.read_metadata(path)
    there = pq.read_table(path, columns=[name for name in columns if name in known.schema.to_arrow_schema().names])
    lacking = {name: pa.nulls(known.num_rows, schema.field(name).type) for name in columns if name not in there.column_names}
    return pa.table({name: lacking[name] if name in lacking else there[name] for name in columns})


def read_bytes(out: Path, shard: str, offset: int, size: int) -> bytes:
    """One sample as it lies in its tar, headers and padding included."""
    with (out / shard).open("rb") as file:
        file.seek(offset)
        data = file.read(size)
    if len(data) != size:
        raise BrokenDatasetError(f"{out / shard}: ends before offset {offset + size}")
    return data


def read_sample(out: Path, shard: str, offset: int, size: int) -> dict[str, bytes]:
    """The files of one sample by their extension (`a.jpg`, ..., `json`), in one read."""
    try:
        return {name: bytes(content) for name, content in files_in(read_bytes(out, shard, offset, size)).items()}
    except ValueError as error:
        raise BrokenDatasetError(f"{out / shard}: no sample at offset {offset} ({error})") from None


def files_in(sample: bytes) -> dict[str, memoryview]:
    """The files of a sample, as it lies in its tar, by their extension: several times as fast as tarfile, and without a copy.

    Raises ValueError where it is none: no header where one belongs, another sum than the header's own, or a file cut short.
    """
    files, at, view = {}, 0, memoryview(sample)
    while at < len(sample):
        header = sample[at : at + 512]
        if sum(header[:148]) + 8 * 32 + sum(header[156:]) != int(header[148:154].strip(b" \0") or b"0", 8):
            raise ValueError("bad checksum")
        size = int(header[124:135], 8)
        content = view[at + 512 : at + 512 + size]
        if len(content) < size:
            raise ValueError("unexpected end of data")
        files[header[:100].rstrip(b"\0").decode().partition(".")[2]] = content
        at += 512 + -(-size // 512) * 512
    return files
