"""A dataset, or a selection of it, as a sequence of pairs: what training code and every other reader opens. No torch."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq
from jaxtyping import Float32, Int16, UInt8

from .errors import BrokenDatasetError, ConfigError
from .schema import Row
from .shards import finished_parts, part_paths, read_manifest, read_sample, row_from_json


@dataclass(frozen=True, kw_only=True, eq=False)
class PairSample:
    """One stored pair, decoded. P = number of patches of a picture, N = number of matched points."""

    a: UInt8[np.ndarray, "h w 3"]
    """RGB."""
    b: UInt8[np.ndarray, "h2 w2 3"]
    patches: Int16[np.ndarray, "2 p"]
    """Row 0: the patch of b for each patch of a; row 1: of a for each of b; negative: schema.OUTSIDE and its neighbours."""
    points: Float32[np.ndarray, "n 4"]
    """Matched x, y in a and x, y in b, in [0, 1] from the left and top edge."""
    row: Row
    """The manifest's line."""
    depth_a_m: Float32[np.ndarray, "h w"] | None = None
    """Along the optical axis, 0 where it is unknown; None where nobody knows depth. Poses and intrinsics are in the row."""
    depth_b_m: Float32[np.ndarray, "h2 w2"] | None = None

    def __repr__(self) -> str:
        (height, width), overlap = self.a.shape[:2], self.row.overlap
        return f"PairSample({self.row.pair_id!r}, {width} x {height} px{'' if overlap is None else f', overlap {overlap:.3f}'})"


class Dataset(Sequence[PairSample]):
    """The kept pairs of a dataset, or those of a selection, in the manifest's order. Nothing is decoded before it is asked for.

    It pickles to a few arrays, so a loader's workers may each have a copy. A slice is a Dataset again.
    """

    def __init__(self, path: Path, selection: str | None, keys: pa.Array, shards: pa.Array, where: np.ndarray) -> None:
        """Use `twoview.open`. keys: of the pairs; shards: dictionary of paths inside the dataset; where: int64 [n, 3], index of
        the shard, offset, size."""
        self.path, self.selection = path, selection
        self.keys = keys
        """Names of the samples in their tars."""
        self._shards, self._where = shards, where

    def __len__(self) -> int:
        return len(self._where)

    @overload
    def __getitem__(self, index: int) -> PairSample: ...
    @overload
    def __getitem__(self, index: slice) -> "Dataset": ...
    def __getitem__(self, index: int | slice) -> "PairSample | Dataset":
        if isinstance(index, slice):
            chosen = np.arange(len(self))[index]
            return Dataset(self.path, self.selection, self.keys.take(pa.array(chosen)), self._shards, self._where[chosen])
        files = self.files(index)
        return PairSample(
            a=decode(files["a.jpg"]),
            b=decode(files["b.jpg"]),
            patches=np.load(io.BytesIO(files["patches.npy"]), allow_pickle=False),
            points=np.load(io.BytesIO(files["points.npy"]), allow_pickle=False),
            row=row_from_json(files["json"], *self.place(index)),
            depth_a_m=decode_depth(files["a.depth.png"]) if "a.depth.png" in files else None,
            depth_b_m=decode_depth(files["b.depth.png"]) if "b.depth.png" in files else None,
        )

    def files(self, index: int) -> dict[str, bytes]:
        """The files of one sample as they lie in the tar, by extension: a.jpg, b.jpg, patches.npy, ..., json."""
        return read_sample(self.path, *self.place(index))

    def place(self, index: int) -> tuple[str, int, int]:
        """Where a sample lies: path of its tar inside the dataset, offset and size in bytes."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.path} has pairs 0 to {len(self) - 1}, not {index}")
        shard, offset, size = self._where[index].tolist()
        return self._shards[shard].as_py(), offset, size

    def manifest(self, columns: list[str] | None = None) -> pa.Table:
        """The manifest's lines of these pairs: line i speaks of sample i. Columns as in docs/format.md.

        `twoview.shards.read_manifest(path)` has the refused pairs too.
        """
        wanted = columns if columns is None or "key" in columns else [*columns, "key"]
        table = read_manifest(self.path, columns=wanted)
        table = table.take(pc.index_in(self.keys, table["key"].combine_chunks()))  # pyright: ignore[reportAttributeAccessIssue]
        return table if columns is None else table.select(columns)

    def __repr__(self) -> str:
        named = str(self.path) if self.selection is None else f"{self.path}@{self.selection}"
        return f"twoview.open({named!r}): {len(self):,} pairs"


def open_dataset(path: Path | str, selection: str | None = None) -> Dataset:
    """The pairs of a dataset as a sequence of PairSample: those that were kept, or those of a selection.

    path: the folder that `curate` wrote, or DIR@NAME. Raises ConfigError where there is no such dataset or selection.
    """
    folder, named = split_name(path) if selection is None else (Path(path), selection)
    check_dataset(folder)
    rows = read_manifest(folder, columns=["key", "kept", "stored", "shard", "offset", "size"])
    if named is None:
        rows = rows.filter(pc.and_(rows["kept"], rows["stored"]))  # pyright: ignore[reportAttributeAccessIssue]
    else:
        rows = rows.filter(rows["stored"])
        rows = rows.filter(chosen(rows["key"], selection_keys(folder, named), folder, named))
    shard = rows["shard"].combine_chunks().dictionary_encode()
    columns = [shard.indices, rows["offset"].combine_chunks(), rows["size"].combine_chunks()]
    where = np.stack([c.to_numpy(zero_copy_only=False).astype(np.int64) for c in columns], axis=1)
    return Dataset(folder, named, rows["key"].combine_chunks(), shard.dictionary, where)


def all_rows(folder: Path, selection: str | None = None, columns: list[str] | None = None) -> pa.Table:
    """Every measured pair's line, refused ones too. Of a selection: `kept` where it names the pair, and where it leaves out a
    pair that had nothing against it, the reason `not_selected`.
    """
    check_dataset(folder)
    extra = {"key", "kept", "stored", "reasons"} - set(columns or ()) if columns else set()
    rows = read_manifest(folder, columns=[*columns, *sorted(extra)] if columns else None)
    if selection is not None:
        wanted = selection_keys(folder, selection)
        chosen(rows.filter(rows["stored"])["key"], wanted, folder, selection)
        kept = pc.is_in(rows["key"], wanted)  # pyright: ignore[reportAttributeAccessIssue]
        reasons = [
            [] if now else why or ["not_selected"] for now, why in zip(kept.to_pylist(), rows["reasons"].to_pylist(), strict=True)
        ]
        rows = rows.set_column(rows.schema.get_field_index("kept"), "kept", kept)
        rows = rows.set_column(rows.schema.get_field_index("reasons"), "reasons", pa.array(reasons, pa.list_(pa.string())))
    return rows.select(columns) if columns else rows


def decode(jpeg: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """RGB of a stored picture: the very pixels that were measured."""
    import cv2

    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise BrokenDatasetError("a stored picture cannot be decoded: twoview audit DIR names it")
    return image


def decode_depth(png: bytes) -> Float32[np.ndarray, "h w"]:
    """Metres of a stored depth picture."""
    import cv2

    depth_mm = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    if depth_mm is None or depth_mm.dtype != np.uint16:
        raise BrokenDatasetError("a stored depth picture cannot be decoded: twoview audit DIR names it")
    return depth_mm / np.float32(1000)


def split_name(text: Path | str) -> tuple[Path, str | None]:
    """Folder and selection of DIR or DIR@NAME."""
    folder, at, name = str(text).rpartition("@")
    if not at or Path(text).is_dir():
        return Path(text), None
    return Path(folder), name


def check_dataset(folder: Path) -> None:
    """Raises ConfigError where there is no dataset."""
    if not (folder / "plan.parquet").exists():
        raise ConfigError(f"{folder}: no dataset of twoview there (plan.parquet is missing)")


def check_name(name: str) -> str:
    """The name, if it can be one: it becomes a file, and stands after the @ of DIR@NAME."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise ConfigError(f"--name {name}: give up to 100 letters, digits, dots, dashes and underscores")
    return name


def selection_path(folder: Path, name: str) -> Path:
    return folder / "selections" / f"{name}.parquet"


def selection_keys(folder: Path, name: str) -> pa.ChunkedArray:
    """Keys of the pairs of a selection. Raises ConfigError where there is none of that name."""
    path = selection_path(folder, name)
    if not path.exists():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.parquet"))) or "none yet"
        raise ConfigError(f"{folder}@{name}: no such selection ({known}); twoview select makes one")
    try:
        return _keys_in(pq.read_table(path))
    except (OSError, pa.ArrowException, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise BrokenDatasetError(f"{path}: cannot be read ({reason}): remove it, then select it again") from None


def keys_where(folder: Path, where: str, flag: str = "--where") -> pa.Array:
    """Keys of the pairs for whose line of the manifest a condition in SQL holds. flag: what named it, for the ConfigError."""
    import duckdb

    files = [str(part_paths(folder, part)[2]) for part in finished_parts(folder)]
    if not files:
        return pa.array([], pa.string())
    schema = pa.unify_schemas([pq.read_schema(file).remove_metadata() for file in files])  # parts of earlier versions have fewer
    # what the condition names is a column, and no file or variable of anybody
    with duckdb.connect(config={"enable_external_access": False, "python_enable_replacements": False}) as database:
        pairs = database.from_arrow(pads.dataset(files, schema=schema, format="parquet"))
        try:
            found = pairs.filter(where).project("key").fetchall()
        except duckdb.Error as error:
            raise ConfigError(f"{flag} {where}: {_hinted(str(error), schema.names)}") from None
    return pa.array([key for (key,) in found], pa.string())


def _hinted(error: str, columns: list[str]) -> str:
    """The first line of what DuckDB says, and what may help."""
    words = error.split("\n")[0]
    if words.startswith("Binder Error: Referenced column"):
        return f"{words} (columns: {', '.join(columns)}; write words as 'word')"
    return f'{words} (write "group" in quotes)' if words.startswith("Parser Error") else words


def _keys_in(table: pa.Table) -> pa.ChunkedArray:
    """Raises ValueError where the column `key` is not what a selection has: strings, each once."""
    if "key" not in table.column_names:
        raise ValueError("it has no column key")
    kind = table.schema.field("key").type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        raise ValueError(f"its keys are {kind}, not strings")
    keys = table["key"].cast(pa.string())
    if twice := len(keys) - len(keys.unique()):
        raise ValueError(f"{twice:,} of its {len(keys):,} lines name a pair that stands above already")
    return keys


def chosen(keys: pa.ChunkedArray, wanted: pa.ChunkedArray, folder: Path, name: str) -> pa.ChunkedArray:
    """Which of the stored pairs' keys a selection names. Raises BrokenDatasetError where it names others too."""
    mask = pc.is_in(keys, wanted)  # pyright: ignore[reportAttributeAccessIssue]
    missing = len(wanted) - (pc.sum(mask).as_py() or 0)  # pyright: ignore[reportAttributeAccessIssue]
    if missing:
        raise BrokenDatasetError(f"{folder}@{name}: {missing} of its {len(wanted)} pairs are not stored there: select them again")
    return mask
