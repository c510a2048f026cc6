"""Pairs that others wrote, as a dataset. JPEG bytes are copied as they are; finished parts are kept, whatever happens."""

import contextlib
import hashlib
import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

import cv2
import numpy as np
from jaxtyping import Int16, UInt8

from ..curation.engine import versions
from ..curation.verdicts import perceptual_hash, sharpness
from ..curation.views import JPEG_QUALITY
from ..dataset import decode
from ..errors import ConfigError, TryLaterError, UnreadableError
from ..listings import Layout, find_listing, listed_pairs
from ..locks import Lock, holder
from ..plan import Plan, Slice, read_plan, write_plan
from ..schema import OUTSIDE, UNKNOWN, Row
from ..shards import SceneRow, ShardWriter, explained, finished_parts, key_of, read_scenes, write_whole
from ..sources.images import read_image
from .exporting import NOTE, PAIR_FOLDER, Tell
from .pickled import read_correspondences

PART_PAIRS = 2_000


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What was read."""

    num_pairs: int
    num_unreadable: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Listing:
    """A list of pairs. Pictures lie in its folder or below, or anywhere if their paths are absolute."""

    layout: Layout
    path: Path
    lines: list[tuple[str, str]]
    """Each pair once."""
    scenes: dict[tuple[str, str], str]
    """Of the lines whose names would give a pair that is there already: what the scene is called instead."""
    grid: tuple[int, int]
    fingerprint: str
    num_repeated: int


@dataclass(frozen=True, kw_only=True, eq=False)
class _Pair:
    row: Row
    a: bytes = b""
    b: bytes = b""
    patches: Int16[np.ndarray, "2 p"] | None = None
    error: str = ""


def import_pairs(path: Path, layout: Layout, out: Path, tell: Tell = lambda num, total: None) -> Imported:
    """Read the pairs of a published layout into the dataset OUT; run again, it goes on where it was stopped.

    mimic: a CSV with path1 and path2, and corresponding.npy beside the pictures. croco: pairs.txt. path: the list, or its folder.
    A pair that cannot be read is a refused row, with the reason `unreadable`. Raises ConfigError where there is no such list, and
    BrokenDatasetError for a pickle that asks for what it has no use for; then nothing of it is run.
    """
    listing = _read_listing(find_listing(path, layout), layout)
    if not listing.lines:
        raise ConfigError(f"{listing.path}: no pairs in it")
    with explained(out):
        plan = _prepare(listing, out)
        with _sole(out), ThreadPoolExecutor(os.cpu_count()) as pool:
            left = [piece for piece in plan.slices if piece.part not in set(finished_parts(out))]
            num = len(listing.lines) - sum(piece.stop - piece.start for piece in left)
            for piece in left:
                with ShardWriter(out, piece.part) as shard:
                    lines = listing.lines[piece.start : piece.stop]
                    errors = []
                    for pair in pool.map(lambda line: _read_pair(listing, *line), lines):
                        _write(shard, pair)
                        errors += [pair.error] * bool(pair.error)
                        num += 1
                        tell(num, len(listing.lines))
                    shard.write_scene(_scene_row(listing, piece, errors))
    scenes = read_scenes(out).to_pylist()
    kept = sum(scene["num_kept"] for scene in scenes)
    notes = [f"unreadable: {scene['error']}" for scene in scenes if scene["error"]][:20]
    if listing.num_repeated:
        notes.append(f"{listing.num_repeated:,} lines name a pair that stands above already")
    return Imported(num_pairs=kept, num_unreadable=len(listing.lines) - kept, notes=tuple(notes))


def _read_listing(path: Path, layout: Layout) -> _Listing:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    lines = listed_pairs(path, layout)
    once = list(dict.fromkeys(lines))
    return _Listing(
        layout=layout,
        path=path,
        lines=once,
        scenes=_made_unique(once, layout),
        grid=_grid(path.parent / NOTE),
        fingerprint=digest,
        num_repeated=len(lines) - len(once),
    )


def _made_unique(lines: list[tuple[str, str]], layout: Layout) -> dict[tuple[str, str], str]:
    """Other names for scenes, where two lines would be one pair: the later one gets ~2, ~3 after it."""
    known: set[str] = set()
    renamed: dict[tuple[str, str], str] = {}
    for line in lines:
        source, scene, *indices = identity(*line, layout)
        name, n = scene, 1
        while (key := key_of(_pair_id(source, name, *indices))) in known:
            n += 1
            name = f"{scene}~{n}"
        known.add(key)
        if n > 1:
            renamed[line] = name
    return renamed


def _pair_id(source: str, scene: str, index_a: int, index_b: int) -> str:
    return f"{source}/{scene}/{index_a:06d}-{index_b:06d}"


def _grid(note: Path) -> tuple[int, int]:
    """Rows and columns of patches: as our export says beside the list, else as published."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        if note.is_file():
            rows, columns = map(int, json.loads(note.read_bytes())["patch_grid"])
            if rows > 0 and columns > 0 and rows * columns <= np.iinfo(np.int16).max:
                return rows, columns
    return 14, 14


def _prepare(listing: _Listing, out: Path) -> Plan:
    """The plan in OUT, made if OUT is new or empty. Raises ConfigError where OUT is of anything else."""
    config = {"import": listing.layout, "listing": listing.path.name, "listing_sha256": listing.fingerprint}
    sha = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
    known = read_plan(out) if out.is_dir() else None
    if known and known.config_sha256 == sha:
        return known
    if known or (out.is_dir() and any(p.suffix != ".partial" and p.name not in ("locks", "config.json") for p in out.iterdir())):
        raise ConfigError(f"{out} holds something else than an import of {listing.path}: give an --out that is new or empty")
    for folder in ("shards", "scenes", "manifest", "locks"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    content = {"format": 1, "config": config, "config_sha256": sha, "versions": versions()}
    write_whole(out / "config.json", (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())
    total = len(listing.lines)
    slices = tuple(
        Slice(
            part=part,
            source=listing.layout,
            scene=listing.path.name,
            kind="import",
            start=start,
            stop=min(start + PART_PAIRS, total),
            num_frames=total,
            num_candidates=total,
            num_pairs=total,
            size_bytes=0,
            fingerprint=listing.fingerprint,
            licence=None,
            error="",
        )
        for part, start in enumerate(range(0, total, PART_PAIRS))
    )
    plan = Plan(slices, sha)
    write_plan(out, plan)
    return plan


def _sole(out: Path) -> Lock:
    path = out / "locks" / "import.lock"
    lock = Lock.acquire(path)
    if lock is None:
        raise TryLaterError(f"{out}: an import is at work there ({holder(path)})")
    return lock


def _scene_row(listing: _Listing, piece: Slice, errors: list[str]) -> SceneRow:
    """The list is the one input; its lines are what is counted as frames."""
    kept = piece.stop - piece.start - len(errors)
    return SceneRow(
        part=piece.part,
        source=listing.layout,
        scene=piece.scene,
        uri=str(listing.path),
        kind="import",
        status="partial" if errors else "ok",
        error=f"{len(errors)} of {piece.stop - piece.start} pairs, the first: {errors[0]}" if errors else "",
        codec=None,
        fps=None,
        width_px=None,
        height_px=None,
        num_frames=piece.num_frames,
        start=piece.start,
        stop=piece.stop,
        num_pairs=piece.stop - piece.start,
        num_kept=kept,
        num_stored=kept,
        licence=None,
        split=None,
    )


def _write(shard: ShardWriter, pair: _Pair) -> None:
    if pair.error:
        shard.write_row(pair.row)
        return
    patches = np.empty((2, 0), np.int16) if pair.patches is None else pair.patches
    shard.write_sample(pair.row, pair.a, pair.b, patches, np.empty((0, 4), np.float32))


def _read_pair(listing: _Listing, first: str, second: str) -> _Pair:
    """One line of the list. What cannot be read is a refused row."""
    source, scene, index_a, index_b = identity(first, second, listing.layout)
    scene = listing.scenes.get((first, second), scene)
    pair_id = _pair_id(source, scene, index_a, index_b)
    row = Row(
        key=key_of(pair_id),
        pair_id=pair_id,
        source=source,
        scene=scene,
        group=pair_id,
        frame_index_a=index_a,
        frame_index_b=index_b,
        kept=True,
        stored=True,
        estimator=listing.layout,
    )
    paths = [listing.path.parent / name for name in (first, second)]
    beside = paths[0].with_name("corresponding.npy")
    try:
        (a, image_a), (b, image_b) = (_jpeg(path) for path in paths)
        patches = _patches(beside, listing.grid) if listing.layout == "mimic" and os.path.exists(beside) else None
    except UnreadableError as error:
        return _Pair(row=replace(row, kept=False, stored=False, reasons=["unreadable"]), error=str(error))
    row = replace(
        row,
        sharpness_a=sharpness(image_a),
        sharpness_b=sharpness(image_b),
        phash_a=perceptual_hash(image_a),
        phash_b=perceptual_hash(image_b),
        sha256_a=hashlib.sha256(a).hexdigest(),
        sha256_b=hashlib.sha256(b).hexdigest(),
    )
    if patches is not None:
        share = float(np.count_nonzero(patches[0] >= 0) / patches.shape[1])  # of the smaller direction; nobody knows the other
        row = replace(row, found=True, overlap=share, overlap_ab=share, patch_grid=list(listing.grid))
    return _Pair(row=row, a=a, b=b, patches=patches)


def _jpeg(path: Path) -> tuple[bytes, UInt8[np.ndarray, "h w 3"]]:
    """A picture's bytes and pixels. It is made a JPEG where it is none."""
    if os.path.exists(path) and not os.path.isfile(path):  # a pipe or a device may have no end
        raise UnreadableError(f"{path}: not a file")
    image = read_image(path)
    data = path.read_bytes()
    if data[:2] == b"\xff\xd8":
        return data, image
    data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
    return data, decode(data)


def _patches(path: Path, grid: tuple[int, int]) -> Int16[np.ndarray, "2 p"]:
    """A map from the first picture to the second, and its inverse. Raises UnreadableError for a patch that is not there."""
    mapping, num = read_correspondences(path), grid[0] * grid[1]
    patches = np.repeat(np.array([[OUTSIDE], [UNKNOWN]], np.int16), num, axis=1)
    for i, j in mapping.items():
        if not (0 <= i < num and 0 <= j < num):
            raise UnreadableError(f"{path}: speaks of patch {max(i, j)}, and a picture has {num}")
        patches[0, i] = j
        if patches[1, j] < 0:
            patches[1, j] = i
    return patches


def identity(first: str, second: str, layout: str) -> tuple[str, str, int, int]:
    """Source, scene and frame numbers of a pair, from its paths in the list.

    SOURCE/SCENE/000012-000043/0000.jpg, as `export` writes it, gives what it had. Else the source is the first folder, and the
    scene is the rest: the pair's folder (mimic), or its pictures' names, with the frames 0 and 1.
    """
    a, b = (
        PurePosixPath(*(part for part in PurePosixPath(name).parts if part not in ("/", ".", ".."))) for name in (first, second)
    )
    folder = list(a.parent.parts)
    numbers = PAIR_FOLDER.fullmatch(folder[-1]) if folder else None
    if numbers and len(folder) > 2 and a.name == "0000.jpg" and b == a.with_name("0001.jpg"):
        source, *scene = (part if "%00" in part else unquote(part) for part in folder[:-1])
        return source, "/".join(scene), int(numbers[1]), int(numbers[2])
    source, *scene = folder or [layout]
    if a.parent == b.parent and (a.stem, b.stem) == ("0000", "0001"):
        return source, "/".join(scene) or source, 0, 1
    stem = re.fullmatch(r"(.+)_1", a.stem)
    same = stem and a.parent == b.parent and b.stem == f"{stem[1]}_2"
    scene.append(stem[1] if stem and same else f"{a.stem}+{b.stem if a.parent == b.parent else b.with_suffix('')}")
    return source, "/".join(scene), 0, 1
