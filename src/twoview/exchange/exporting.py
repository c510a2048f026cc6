"""Pairs as other programs read them. Stored JPEG bytes are copied as they are; an export that was stopped goes on."""

import csv
import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pyarrow as pa

from .. import __version__
from ..dataset import Dataset
from ..errors import BrokenDatasetError, ConfigError
from ..shards import explained, read_bytes
from ..sources.images import size_in_header

Tell = Callable[[int, int], None]
"""Called with the number of pairs done and of all."""
CROCO_PX = 224
"""CroCo's loader crops this much out of each picture."""
TAR_SAMPLES, TAR_BYTES = 10_000, 1 << 30
"""A repacked tar ends with the sample that reaches either."""
NOTE = "export.json"


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written."""

    num_pairs: int
    listing: Path
    """What a reader is to be given: the list of pairs, or the folder of tars."""
    notes: tuple[str, ...] = ()


def export(dataset: Dataset, to: str, out: Path, tell: Tell = lambda num, total: None) -> Exported:
    """Write every pair of a dataset or selection into OUT, in one of the layouts EXPORTS.

    OUT must be new, empty, or an interrupted export of the same pairs. The list of pairs is written last: if it is there, all is.
    Raises ConfigError where there is nothing to write, or OUT holds something else.
    """
    if to not in EXPORTS:
        raise ConfigError(f"--to {to}: there is {', '.join(EXPORTS)}")
    if not len(dataset):
        raise ConfigError(f"{dataset!r}: nothing to export")
    with explained(out):
        _claim(dataset, to, out)
        return EXPORTS[to](dataset, out, tell)


def _claim(dataset: Dataset, to: str, out: Path) -> None:
    """Make OUT ours, or make sure that it is an earlier run of the same."""
    keys = hashlib.sha256("\n".join(dataset.keys.to_pylist()).encode()).hexdigest()
    grids = {tuple(grid) for (grid,) in _rows(dataset, "patch_grid") if grid}
    note = {"to": to, "keys_sha256": keys, "num_pairs": len(dataset), "patch_grid": list(next(iter(grids), ())) or None}
    if len(grids) > 1 and to == "mimic":
        raise ConfigError(
            f"{dataset!r}: its pairs have patches in several grids, which this layout cannot say: select those of one"
        )
    try:
        known = json.loads((out / NOTE).read_bytes())
        if {name: known.get(name) for name in note} == note:
            return
    except (OSError, ValueError):
        known = None
    if known is not None or (out.exists() and any(out.iterdir())):
        raise ConfigError(f"{out} is not empty, and no earlier run of this export: give a folder that is new or empty")
    inside = next((p for p in out.resolve().parents if (p / "plan.parquet").exists() or (p / NOTE).exists()), None)
    if inside is not None:
        raise ConfigError(f"{out} lies inside {inside}, a dataset or an export: give a folder of its own")
    out.mkdir(parents=True, exist_ok=True)
    origin = {"dataset": str(dataset.path), "selection": dataset.selection, "twoview": __version__}
    _put(out / NOTE, (json.dumps(note | origin, indent=1) + "\n").encode())


def _put(path: Path, data: bytes) -> None:
    """A file that appears whole; one that is there with the right size is left."""
    try:
        if path.stat().st_size == len(data):
            return
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.partial"[-255:])
    aside.write_bytes(data)
    aside.replace(path)


def safe_name(name: str) -> str:
    """A name with slashes as a relative path that any program can read from a list: no spaces, no way out of the folder.

    Percent-quoted, so different names stay different; a part that is too long for a file system ends in its hash.
    """
    return "/".join(_safe_part(part) for part in name.split("/"))


def _safe_part(part: str) -> str:
    quoted = quote(part, safe="") or "%"
    if set(quoted) == {"."}:
        quoted = quoted.replace(".", "%2E")
    return quoted if len(quoted) <= 200 else f"{quoted[:180]}~{hashlib.sha256(part.encode()).hexdigest()[:16]}"


def to_mimic(dataset: Dataset, out: Path, tell: Tell) -> Exported:
    """The published MIMIC layout: PAIR/0000.jpg, 0001.jpg and corresponding.npy, and pairs.csv with path1, path2.

    The map is that of the direction with fewer shared patches, from the first picture to the second.
    """
    listing = io.StringIO()
    lines = csv.writer(listing, lineterminator="\n")
    lines.writerow(("path1", "path2"))
    without = 0
    for i, pair_id in enumerate(dataset.manifest(["pair_id"])["pair_id"].to_pylist()):
        files, folder = dataset.files(i), safe_name(pair_id)
        for name, content in (("0000.jpg", files["a.jpg"]), ("0001.jpg", files["b.jpg"])):
            _put(out / folder / name, content)
        patches = np.load(io.BytesIO(files["patches.npy"]), allow_pickle=False)
        if patches.size:
            _put(out / folder / "corresponding.npy", _pickled(smaller_direction(patches)))
        without += not patches.size
        lines.writerow((f"{folder}/0000.jpg", f"{folder}/0001.jpg"))
        tell(i + 1, len(dataset))
    _put(out / "pairs.csv", listing.getvalue().encode())
    notes = (f"{without:,} pairs have no patches, so no corresponding.npy",) * bool(without)
    return Exported(num_pairs=len(dataset), listing=out / "pairs.csv", notes=notes)


def smaller_direction(patches: np.ndarray) -> dict[int, int]:
    """The patch of b for patches of a, by the direction that shares less (section 3 of the paper counts that one)."""
    ab, ba = ({int(i): int(row[i]) for i in np.flatnonzero(row >= 0)} for row in patches)
    return ab if len(ab) <= len(ba) else {i: j for j, i in sorted(ba.items(), key=lambda pair: pair[1])}


def _pickled(mapping: dict[int, int]) -> bytes:
    sink = io.BytesIO()
    np.save(sink, np.array(mapping, dtype=object), allow_pickle=True)
    return sink.getvalue()


def to_croco(dataset: Dataset, out: Path, tell: Tell) -> Exported:
    """CroCo's layout: habitat_release/pairs.txt, a line with two picture paths from its folder, with a space between them."""
    root, listing = out / "habitat_release", []
    for i, (key, source) in enumerate(_rows(dataset, "key", "source")):
        files = dataset.files(i)
        names = [f"{safe_name(source.replace('/', '_'))}/{key[:2]}/{key}_{n}.jpg" for n in (1, 2)]
        for name, content in zip(names, (files["a.jpg"], files["b.jpg"]), strict=True):
            if 0 < min(size_in_header(content)) < CROCO_PX:
                height, width = size_in_header(content)
                raise ConfigError(
                    f"pair {key}: its pictures are {width} x {height} px, and CroCo's loader cuts {CROCO_PX} px out of each: "
                    f"curate with --size {CROCO_PX} or more"
                )
            _put(root / name, content)
        listing.append(" ".join(names))
        tell(i + 1, len(dataset))
    _put(root / "pairs.txt", ("\n".join(listing) + "\n").encode())
    return Exported(num_pairs=len(dataset), listing=root / "pairs.txt")


def to_pairs_txt(dataset: Dataset, out: Path, tell: Tell) -> Exported:
    """images/, each frame once though it may be in several pairs, and pairs.txt, a line with two names from images/.

    hloc takes the file as `pairs`, COLMAP's matches_importer as --match_list_path with --match_type pairs.
    """
    columns = ("source", "scene", "frame_index_a", "frame_index_b", "sha256_a", "sha256_b")
    written: dict[str, str] = {}
    listing = []
    for i, (source, scene, index_a, index_b, sha_a, sha_b) in enumerate(_rows(dataset, *columns)):
        files = dataset.files(i)
        names = [f"{safe_name(f'{source}/{scene}')}/{index:06d}.jpg" for index in (index_a, index_b)]
        for name, sha, content in zip(names, (sha_a, sha_b), (files["a.jpg"], files["b.jpg"]), strict=True):
            if written.setdefault(name, sha) != sha:
                raise BrokenDatasetError(f"{name}: two pairs have different pictures of this frame: twoview audit {dataset.path}")
            _put(out / "images" / name, content)
        listing.append(" ".join(names))
        tell(i + 1, len(dataset))
    _put(out / "pairs.txt", ("\n".join(listing) + "\n").encode())
    return Exported(num_pairs=len(dataset), listing=out / "pairs.txt", notes=(f"{len(written):,} pictures: {out / 'images'}",))


def to_webdataset(dataset: Dataset, out: Path, tell: Tell) -> Exported:
    """Tars of the samples as they are, in the order of their keys: a hash, so neighbours come from different scenes.

    Streaming readers shuffle little; this way a buffer of a few thousand samples is enough.
    """
    order = np.argsort(np.array(dataset.keys.to_pylist()))
    places = [dataset.place(int(i)) for i in order]
    num = 0
    tars = list(_tars([size for _, _, size in places]))
    for tar, (start, stop) in enumerate(tars):
        path = out / f"pairs-{tar:06d}.tar"
        if not path.exists():
            aside = path.with_name(f".{path.name}.partial")
            with aside.open("wb") as file:
                for place in places[start:stop]:
                    file.write(read_bytes(dataset.path, *place))
                    num += 1
                    tell(num, len(dataset))
                file.write(bytes(1024))
                file.write(bytes(-file.tell() % 10240))
            os.replace(aside, path)
        num = stop
    return Exported(num_pairs=len(dataset), listing=out, notes=(f"tars, in shuffled order: {len(tars):,}",))


def _tars(sizes: list[int]) -> Iterator[tuple[int, int]]:
    """First and last sample of each tar."""
    start, held = 0, 0
    for i, size in enumerate(sizes, 1):
        held += size
        if i - start == TAR_SAMPLES or held >= TAR_BYTES or i == len(sizes):
            yield start, i
            start, held = i, 0


def _rows(dataset: Dataset, *columns: str) -> Iterator[tuple]:
    """Values of some columns, pair by pair."""
    table: pa.Table = dataset.manifest(list(columns))
    return zip(*(table[name].to_pylist() for name in columns), strict=True)


EXPORTS: dict[str, Callable[[Dataset, Path, Tell], Exported]] = {
    "mimic": to_mimic,
    "croco": to_croco,
    "pairs-txt": to_pairs_txt,
    "webdataset": to_webdataset,
}
PAIR_FOLDER = re.compile(r"(\d{6,})-(\d{6,})")
"""The last part of a pair's folder, where it is one of ours: numbers of its frames."""
