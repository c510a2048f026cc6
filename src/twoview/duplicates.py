"""Near-identical pictures, by their perceptual hashes: pairs that repeat an earlier one, and views that another set has.

Distances are in bits of 64. Half of a hash's bits are set, so they are even: 0, 2, 4, ... The search is exact.
"""

import csv
import io
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int64, UInt8

from .curation.verdicts import perceptual_hash, sharpness
from .curation.views import Crop, view_of
from .dataset import open_dataset, split_name
from .errors import ConfigError, UnreadableError
from .schema import Frame
from .sources.footage import VIDEO_EXTENSIONS, find_footage
from .sources.images import read_image

Codes = UInt8[np.ndarray, "n 8"]
"""64 bits a picture."""
Tell = Callable[[int, int], None]
"""Called with pictures done and pictures in all."""

NEAR_BITS = 6
"""Up to here two pictures count as one. Of copies that were compressed, resized, darkened or blurred 99.9 % lie within it, of
those made a third brighter 94 %; of frames that share less than 0.8 none; other scenes begin at 14: benchmarks/duplicates.py."""
MAX_NEAR_BITS = 14
"""Here pictures of other scenes begin."""
PLAIN = 1.0
"""Sharpness below which a hash says nothing: blank walls are as near as copies are far."""
COLUMNS = ("phash_a", "phash_b", "sharpness_a", "sharpness_b")
"""Of the manifest: what is judged by."""
LEFT_OUT = pa.schema(
    [
        ("pair_id", pa.string()),
        ("duplicate_of", pa.string()),
        ("against", pa.string()),
        ("views", pa.string()),
        ("bits", pa.int64()),
    ]
)
"""A pair that was left out; the pair or picture that it duplicates; the set of that as it was given, "" for the dataset itself;
`ab` or `ba` where both views are near, in this or the other order, `a` or `b` where one is; their distance, of two the larger."""

_BLOCK = 1024
_ONES = np.array([byte.bit_count() for byte in range(256)], np.uint8)


@dataclass(frozen=True, kw_only=True, eq=False)
class Hashes:
    """Of n pictures."""

    codes: Codes
    present: Bool[np.ndarray, " n"]
    """False where there is no hash."""
    plain: Bool[np.ndarray, " n"]
    """The picture is too plain for its hash to say anything."""

    @property
    def known(self) -> Bool[np.ndarray, " n"]:
        return self.present & ~self.plain


@dataclass(frozen=True, kw_only=True, eq=False)
class PictureSet:
    """The pictures of a set that must not be shown in training."""

    path: str
    """As it was given."""
    names: pa.Array
    """A pair's id, or the path of a file."""
    hashes: Hashes
    errors: tuple[str, ...] = ()
    """Of files that cannot be read."""
    num_videos: int = 0
    """Videos in the folder, which were not looked at."""


def hashes_of(phash: Any, sharpness: Any) -> Hashes:
    """Of two columns of a manifest. A picture whose sharpness nobody measured passes for one that is sharp."""
    present = pc.fill_null(pc.match_substring_regex(phash, "^[0-9a-fA-F]{16}$"), False)  # pyright: ignore[reportAttributeAccessIssue]
    digits = pc.if_else(present, phash, "0" * 16).to_pylist()  # pyright: ignore[reportAttributeAccessIssue]
    plain = pc.fill_null(pc.less(sharpness, PLAIN), False)  # pyright: ignore[reportAttributeAccessIssue]
    return Hashes(
        codes=np.frombuffer(bytes.fromhex("".join(digits)), np.uint8).reshape(-1, 8),
        present=np.asarray(present, bool),
        plain=np.asarray(plain, bool),
    )


def unjudged(rows: pa.Table) -> tuple[int, int]:
    """How many pairs have a view without a hash, and how many others one that is too plain for it."""
    a, b = _views(rows)
    absent = ~(a.present & b.present)
    return int(absent.sum()), int((~absent & (a.plain | b.plain)).sum())


def without_repeats(rows: pa.Table, near_bits: int) -> tuple[pa.Table, pa.Table]:
    """The pairs that repeat no earlier one, and a line of LEFT_OUT for each of the others."""
    of, turned, bits = repeats(*_views(rows), near_bits)
    again = np.flatnonzero(of >= 0)
    ids = rows["pair_id"].combine_chunks()
    views = np.where(turned[again], "ba", "ab")
    table = _left_out(ids.take(pa.array(again)), ids.take(pa.array(of[again])), "", views, bits[again])
    return rows.filter(pa.array(of < 0)), table


def without_pictures(rows: pa.Table, pictures: PictureSet, near_bits: int) -> tuple[pa.Table, pa.Table]:
    """The pairs of which no view is near a picture of a set, and a line of LEFT_OUT for each of the others."""
    usable = np.flatnonzero(pictures.hashes.known)
    of, bits = np.full((2, 2, len(rows)), 65)
    for view, hashes in enumerate(_views(rows)):
        of[view, hashes.known], bits[view, hashes.known] = nearest(hashes.codes[hashes.known], pictures.hashes.codes[usable])
    view = bits.argmin(axis=0)  # a, if both are as near
    bits = bits.min(axis=0)
    shown = np.flatnonzero(bits <= near_bits)
    names = pictures.names.take(pa.array(usable[of[view[shown], shown]]))
    ids = rows["pair_id"].combine_chunks().take(pa.array(shown))
    table = _left_out(ids, names, pictures.path, np.where(view[shown], "b", "a"), bits[shown])
    return rows.filter(pa.array(bits > near_bits)), table


def repeats(
    a: Hashes, b: Hashes, near_bits: int
) -> tuple[Int64[np.ndarray, " n"], Bool[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """For each pair the first one that it repeats (-1: none), whether with its views in the other order, and the distance.

    Both views must be near. A pair that repeats another is itself repeated by nobody, so what slowly changes is thinned out, not
    lost; and pairs that come later change nothing of what was taken before them.
    """
    straight, crossed = np.hstack([a.codes, b.codes]), np.hstack([b.codes, a.codes])
    judged = np.flatnonzero(a.known & b.known)
    of, turned, bits = np.full(len(straight), -1), np.zeros(len(straight), bool), np.zeros(len(straight), np.int64)
    taken = judged[:0]
    for start in range(0, len(judged), _BLOCK):
        block = judged[start : start + _BLOCK]
        for among in (taken, block):  # of what is alike by the thousand little is left to compare in the block
            rest = block[of[block] < 0]
            own, other, is_turned, distance = _near_pairs(straight, crossed, rest, among[of[among] < 0], near_bits)
            for hits in np.split(np.arange(len(own)), np.flatnonzero(np.diff(own)) + 1):
                hits = hits[of[other[hits]] < 0]  # what is earlier has been decided
                if len(hits):
                    hit = hits[0]
                    of[own[hit]], turned[own[hit]], bits[own[hit]] = other[hit], is_turned[hit], distance[hit]
        taken = np.concatenate([taken, block[of[block] < 0]])
    return of, turned, bits


def _near_pairs(
    straight: np.ndarray, crossed: np.ndarray, block: np.ndarray, among: np.ndarray, near_bits: int
) -> Int64[np.ndarray, "4 m"]:
    """A pair of the block, an earlier one of the others of which both views are near, whether crosswise, and how far.

    In order of the first, then of the second, then straight before crosswise.
    """
    index = need_faiss().IndexBinaryFlat(128)
    index.add(straight[among])
    queries = np.concatenate([straight[block], crossed[block]])
    most = 2 * near_bits + 1  # of both views together; the bound itself is outside
    found = _in_threads(lambda some: index.range_search(some, most), queries)
    hits = np.concatenate([hits for _, _, hits in found])
    query = np.repeat(np.arange(len(queries)), np.concatenate([np.diff(limits.astype(np.int64)) for limits, _, _ in found]))
    is_crossed, nth = np.divmod(query, max(1, len(block)))
    own, other = block[nth], among[hits]
    apart = _ONES[queries[query] ^ straight[other]].reshape(-1, 2, 8).sum(axis=2).max(axis=1)
    near = np.stack([own, other, is_crossed, apart])[:, (other < own) & (apart <= near_bits)].astype(np.int64)
    return near[:, np.lexsort(near[2::-1])]


def nearest(codes: Codes, among: Codes) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """For each code the nearest of the others, the first of equals, and how far it is; -1 and more than 64 where there are none."""
    ours, others = _once(codes), np.sort(_once(among)[0])  # a frame is in several pairs
    index = need_faiss().IndexBinaryFlat(64)
    index.add(among[others])
    bits, found = (
        np.concatenate(part)[ours[1], 0]
        for part in zip(*_in_threads(lambda some: index.search(some, 1), codes[ours[0]]), strict=True)
    )
    return np.append(others, -1)[found], bits.astype(np.int64)  # found is -1 where there are none


def _in_threads(search: Callable[[Any], Any], queries: np.ndarray) -> list[Any]:
    """What a search says of each piece of the queries, in their order.

    In threads of ours, as those of OpenMP spin while they wait: on a busy machine that took ten times as long.
    """
    one_each = need_faiss().omp_set_num_threads  # in the thread that calls it
    with ThreadPoolExecutor(os.cpu_count(), initializer=one_each, initargs=(1,)) as pool:
        return list(pool.map(search, np.array_split(queries, max(os.cpu_count() or 1, len(queries) // _BLOCK))))


def _once(codes: Codes) -> tuple[Int64[np.ndarray, " m"], Int64[np.ndarray, " n"]]:
    """Where each code stands first, and for every code which of these it is."""
    return np.unique(np.ascontiguousarray(codes).view(np.uint64)[:, 0], return_index=True, return_inverse=True)[1:]


def picture_set(path: Path, crop: Crop, size_px: int, tell: Tell) -> PictureSet:
    """What is shown by a dataset (its kept pairs, or those of DIR@NAME) or by the pictures in a folder and below it.

    Pictures are hashed as a dataset with this crop and size would store them. Raises ConfigError where there are none.
    """
    if (split_name(path)[0] / "plan.parquet").exists():
        rows = open_dataset(path).manifest(["pair_id", *COLUMNS])
        each = [hashes_of(rows[f"phash_{view}"], rows[f"sharpness_{view}"]) for view in "ab"]
        return PictureSet(
            path=str(path),
            names=pa.concat_arrays([rows["pair_id"].combine_chunks()] * 2),
            hashes=Hashes(**{name: np.concatenate([getattr(h, name) for h in each]) for name in ("codes", "present", "plain")}),
        )
    if not path.exists():
        raise ConfigError(f"--against {path}: no such file or folder. Give pictures, or DIR or DIR@NAME of twoview")
    inputs = find_footage([path]).inputs.values()
    files = [file for item in inputs if item.kind == "images" for file in item.paths]
    num_videos = sum(item.kind == "video" and item.paths[0].suffix.lower() in VIDEO_EXTENSIONS for item in inputs)
    if not files:
        more = " (videos are not looked at: curate them, then give that dataset)" if num_videos else ""
        raise ConfigError(f"--against {path}: no pictures there{more}")
    hashed, errors = _hash_files(files, crop, size_px, tell)
    phash, sharp = pa.array([h for _, h, _ in hashed], pa.string()), pa.array([s for _, _, s in hashed], pa.float64())
    names = pa.array([name for name, _, _ in hashed], pa.string())
    return PictureSet(path=str(path), names=names, hashes=hashes_of(phash, sharp), errors=errors, num_videos=num_videos)


def _hash_files(files: list[Path], crop: Crop, size_px: int, tell: Tell) -> tuple[list[tuple[str, str, float]], tuple[str, ...]]:
    """Path, hash and sharpness of each picture, and what is wrong with those that cannot be read."""

    def hashed(file: Path) -> tuple[str, str, float] | str:
        try:
            image = view_of(Frame(id=str(file), image=read_image(file)), None, crop, size_px).image
        except UnreadableError as error:
            return str(error)
        return str(file), perceptual_hash(image), sharpness(image)

    found, errors = [], []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for num, one in enumerate(pool.map(hashed, files), 1):
            (errors if isinstance(one, str) else found).append(one)
            tell(num, len(files))
    return found, tuple(errors)


def stored_as(folder: Path) -> tuple[Crop, int]:
    """How a dataset cuts and resizes its pictures; centre and 256 px where it does not say, as an import does not."""
    try:
        known = json.loads((folder / "config.json").read_bytes())["config"]
        return known.get("crop", "centre"), int(known["size"])  # a composition's members may be cut in several ways
    except (OSError, ValueError, KeyError, TypeError):
        return "centre", 256


def left_out_bytes(left_out: pa.Table) -> bytes:
    """A table of LEFT_OUT as text: tabs between, a first line that names the columns."""
    text = io.StringIO()
    writer = csv.writer(text, dialect="excel-tab", lineterminator="\n")  # quotes a name with a tab or a line's end in it
    writer.writerow(LEFT_OUT.names)
    writer.writerows(zip(*(left_out[name].to_pylist() for name in LEFT_OUT.names), strict=True))
    return text.getvalue().encode()


def _left_out(ids: pa.Array, others: pa.Array, against: str, views: np.ndarray, bits: np.ndarray) -> pa.Table:
    return pa.table(
        [ids, others, pa.array([against] * len(ids), pa.string()), pa.array(views, pa.string()), pa.array(bits)], LEFT_OUT
    )


def _views(rows: pa.Table) -> tuple[Hashes, Hashes]:
    return hashes_of(rows["phash_a"], rows["sharpness_a"]), hashes_of(rows["phash_b"], rows["sharpness_b"])


def need_faiss() -> Any:
    """The library that searches. Raises ConfigError where it is missing."""
    try:
        import faiss
    except ImportError:
        raise ConfigError("--dedup and --against need one more package: pip install 'twoview[dedup]'") from None
    return faiss
