"""Pairs as other programs read them. Stored JPEG bytes are copied as they are; an export that was stopped goes on."""

import contextlib
import csv
import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np

from .. import __version__
from ..dataset import Dataset
from ..errors import BrokenDatasetError, ConfigError
from ..licences import counted
from ..shards import DEPTH_PARTS, explained, read_bytes, shard_sha256
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
    grids = {tuple(grid) for (grid,) in _rows(dataset, "patch_grid") if grid}
    if len(grids) > 1 and to == "mimic":
        raise ConfigError(
            f"{dataset!r}: its pairs have patches in several grids, which this layout cannot say: select those of one"
        )
    note = {
        "to": to,
        "content_sha256": _content_sha256(dataset),
        "num_pairs": len(dataset),
        "patch_grid": list(next(iter(grids), ())) or None,
    }
    known = _note_in(out)
    if known and {name: known.get(name) for name in note} == note:
        return
    if out.exists() and any(p.name != NOTE or not known for p in out.iterdir()):
        raise ConfigError(f"{out} is not empty, and no earlier run of this export: give a folder that is new or empty")
    inside = next((p for p in out.resolve().parents if (p / "plan.parquet").exists() or (p / NOTE).exists()), None)
    if inside is not None:
        raise ConfigError(f"{out} lies inside {inside}, a dataset or an export: give a folder of its own")
    out.mkdir(parents=True, exist_ok=True)
    (out / NOTE).unlink(missing_ok=True)  # of an export that wrote nothing else
    licences = counted(licence for (licence,) in _rows(dataset, "licence"))  # pairs of each
    origin = {"dataset": str(dataset.path), "selection": dataset.selection, "twoview": __version__, "licences": licences}
    _put(out / NOTE, (json.dumps(note | origin, indent=1) + "\n").encode())


def _note_in(out: Path) -> dict[str, Any]:
    """What an earlier export says of itself in OUT; nothing where there was none."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        known = json.loads((out / NOTE).read_bytes())
        if isinstance(known, dict) and str(known.get("to")) in EXPORTS:
            return known
    return {}


def _content_sha256(dataset: Dataset) -> str:
    """Of the pairs in their order: which they are, and the bytes of the tars that they lie in.

    Another run over the same footage, with another seed or size, has pairs of the same keys; by its rows alone it may look alike.
    """
    tars: dict[str, str | None] = {}
    digest = hashlib.sha256()
    for row in _rows(dataset, "shard", "offset", "size", "key", "sha256_a", "sha256_b"):
        if row[0] not in tars:
            tars[row[0]] = shard_sha256(dataset.path, int(re.findall(r"[0-9]+", row[0])[-1]))
        digest.update(repr((tars[row[0]], *row[1:])).encode())
    return digest.hexdigest()


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
    without, renamed = 0, {}
    for i, pair_id in enumerate(dataset.manifest(["pair_id"])["pair_id"].to_pylist()):
        files, folder = dataset.files(i), safe_name(pair_id)
        for name, content in (("0000.jpg", files["a.jpg"]), ("0001.jpg", files["b.jpg"])):
            _put(out / folder / name, content)
        patches = np.load(io.BytesIO(files["patches.npy"]), allow_pickle=False)
        if patches.size:
            _put(out / folder / "corresponding.npy", _pickled(smaller_direction(patches)))
        without += not patches.size
        if unquote(folder) != pair_id:
            renamed.setdefault(folder.rpartition("/")[0], pair_id.rpartition("/")[0])
        lines.writerow((f"{folder}/0000.jpg", f"{folder}/0001.jpg"))
        tell(i + 1, len(dataset))
    _put(out / "pairs.csv", listing.getvalue().encode())
    notes = [f"{without:,} pairs have no patches, so no corresponding.npy"] * bool(without)
    for folder, scene in list(renamed.items())[:1]:
        notes.append(
            f"{len(renamed):,} scenes have names that no folder can have, as {scene}: an import calls it {unquote(folder)}"
        )
    return Exported(num_pairs=len(dataset), listing=out / "pairs.csv", notes=tuple(notes))


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
    written: dict[str, str] = {}
    listing = []
    for i, frames in enumerate(_frames(dataset)):
        files = dataset.files(i)
        for view, (name, sha) in zip("ab", frames, strict=True):
            _check_once(dataset, written, name, sha)
            _put(out / "images" / f"{name}.jpg", files[f"{view}.jpg"])
        listing.append(" ".join(f"{name}.jpg" for name, _ in frames))
        tell(i + 1, len(dataset))
    _put(out / "pairs.txt", ("\n".join(listing) + "\n").encode())
    return Exported(num_pairs=len(dataset), listing=out / "pairs.txt", notes=(f"{len(written):,} pictures: {out / 'images'}",))


def to_dust3r(dataset: Dataset, out: Path, tell: Tell) -> Exported:
    """What DUSt3R's loader of ScanNet++ reads: SCENE/images/NAME.jpg, SCENE/depth/NAME.png (millimetres) and all_metadata.npz.

    The npz has scenes, sceneids and images (a name for each picture), intrinsics [n, 3, 3], trajectories [n, 4, 4] (camera to
    world), and pairs [m, 3]: two pictures and their overlap. Raises ConfigError for pairs without depth and pose.
    """
    columns = ("pose_a", "pose_b", "intrinsics_a", "intrinsics_b", "overlap")
    rows: list[tuple[Any, ...]] = list(_rows(dataset, *columns))
    without = sum(None in row[:4] for row in rows)
    if without:
        raise ConfigError(
            f"{dataset!r}: {without:,} have no depth and pose, which this layout is made of: pairs of 3D scenes and RGB-D "
            'footage have (twoview select --where "pose_a is not null" leaves the others out)'
        )
    written: dict[str, str] = {}
    numbers: dict[str, int] = {}
    scenes: dict[str, int] = {}
    sceneids, images, intrinsics, trajectories, pairs = [], [], [], [], []
    for i, (frames, row) in enumerate(zip(_frames(dataset), rows, strict=True)):
        files = dataset.files(i)
        if not set(DEPTH_PARTS) <= set(files):
            raise ConfigError(
                f"pair {dataset.keys[i]}: has poses and no depth, which this layout is made of: select --drop leaves it out"
            )
        for view, (name, sha), pose, camera in zip("ab", frames, row[:2], row[2:4], strict=True):
            _check_once(dataset, written, name, sha)
            scene, _, image = name.rpartition("/")
            _put(out / scene / "images" / f"{image}.jpg", files[f"{view}.jpg"])
            _put(out / scene / "depth" / f"{image}.png", files[f"{view}.depth.png"])
            if name not in numbers:
                numbers[name] = len(images)
                sceneids.append(scenes.setdefault(scene, len(scenes)))
                images.append(image)
                fx, fy, cx, cy = camera
                intrinsics.append([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
                trajectories.append(np.reshape(pose, (4, 4)))
        pairs.append([*(numbers[name] for name, _ in frames), row[4]])
        tell(i + 1, len(dataset))
    sink = io.BytesIO()
    np.savez(
        sink,
        scenes=np.array(list(scenes)),
        sceneids=np.array(sceneids),
        images=np.array(images),
        intrinsics=np.array(intrinsics, np.float32),
        trajectories=np.array(trajectories, np.float32),
        pairs=np.array(pairs, np.float64),
    )
    _put(out / "all_metadata.npz", sink.getvalue())
    notes = (f"{len(images):,} pictures of {len(scenes):,} scenes: {out}",)
    return Exported(num_pairs=len(dataset), listing=out / "all_metadata.npz", notes=notes)


def _frames(dataset: Dataset) -> Iterator[list[tuple[str, str]]]:
    """Both pictures of each pair: a name that every frame has once, without an extension, and the sha256 of the JPEG."""
    columns = ("source", "scene", "frame_index_a", "frame_index_b", "sha256_a", "sha256_b")
    for source, scene, index_a, index_b, sha_a, sha_b in _rows(dataset, *columns):
        folder = safe_name(f"{source}/{scene}")
        yield [(f"{folder}/{index_a:06d}", sha_a), (f"{folder}/{index_b:06d}", sha_b)]


def _check_once(dataset: Dataset, written: dict[str, str], name: str, sha: str) -> None:
    if written.setdefault(name, sha) != sha:
        raise BrokenDatasetError(f"{name}: two pairs have different pictures of this frame: twoview audit {dataset.path}")


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


def _rows(dataset: Dataset, *columns: str) -> Iterator[tuple[Any, ...]]:
    """Values of some columns, pair by pair."""
    for batch in dataset.manifest(list(columns)).to_batches(max_chunksize=10_000):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


EXPORTS: dict[str, Callable[[Dataset, Path, Tell], Exported]] = {
    "mimic": to_mimic,
    "croco": to_croco,
    "dust3r": to_dust3r,
    "pairs-txt": to_pairs_txt,
    "webdataset": to_webdataset,
}
PAIR_FOLDER = re.compile(r"([0-9]{6,18})-([0-9]{6,18})")
"""The last part of a pair's folder, where it is one of ours: numbers of its frames."""
