"""ScanNet: the .sens recordings of its download, or the colour frames exported from them.

Where the data is: http://www.scan-net.org, after signing its terms of use. A root holds `scans/<scene>/<scene>.sens`, as
https://github.com/ScanNet/ScanNet has it; the same without `scans/`, under another name (`scans_test/`), or as loose files. In
place of a .sens there may be exported frames: `<scene>/color/0.jpg, 1.jpg ...`, as the official exporter writes them, or
`<scene>/frames/color/000000.jpg`, or those of `scannet_frames_25k/<scene>/color/000000.jpg` (every 100th frame: too sparse for
the published windows of 60).

The layout of a .sens is documented by `SensReader` there: little-endian, a header, the frames one after the other (pose, times,
colour, depth), then measurements of motion that are not read here. Only colour is read: depth is of another camera, so it
belongs to no pixel of the picture without being projected anew.

Where this differs from the published script of MIMIC: it took exported frames in the order of an unsorted directory listing, so
its windows were arbitrary; here frames are in the order they were recorded.
"""

import os
import re
import struct
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path

import numpy as np
from jaxtyping import Float64, UInt8

from ...errors import LeftOutError, UnreadableError
from ...schema import Frame, SceneInfo
from ..footage import Footage, Input
from ..images import Photos, decode_image, natural_key
from .roots import missing, roots

FPS = 30.0
"""Of the sensor: what counts where the recording has no usable times, as many have not."""
FIRST_TEST_SPACE = 707
"""scene0707_00 and later are the official test set."""
_SCENE = re.compile(r"scene(\d{4})_\d\d")
_LONGEST_STEP_S = 10.0
_COLOUR = {0: "raw", 1: "png", 2: "jpeg"}
_START = struct.Struct("<IQ")  # version, length of the sensor's name, which follows
_HEADER = struct.Struct("<256x2i4I4xQ")  # four 4 x 4 matrices; compressions; widths and heights; scale of the depth; frames
_FRAME = struct.Struct("<64x4Q")  # pose; times in microseconds and bytes, each of colour and depth; then colour and depth
_AGAIN = "damaged, or no .sens of ScanNet: download it again"
_SLACK_BYTES = 1 << 16
"""What a compressed picture may have beyond its raw size."""


@dataclass(frozen=True, kw_only=True)
class ScanNet:
    """Finds ScanNet's scans. Of a scan that is there as .sens and as frames the .sens is read: every frame, as it was recorded."""

    test_scenes: bool = False
    """Read scene0707_00 and later too: the official test set, on which features are evaluated."""
    source = "scannet"
    licence = "LicenseRef-ScanNet-ToU"

    def __call__(self, paths: Iterable[Path], list_file: Path | None = None) -> "ScanNetFootage":
        """The scans in folders, by name. Raises ConfigError where there are none, or only test scenes."""
        inputs: dict[str, Input] = {}
        num_test = num_repeated = 0
        for root in roots("ScanNet", paths, list_file):
            found = list(_scans(root))
            if all(item.kind == "missing" for item in found):
                wanted = "scans/<scene>/<scene>.sens or <scene>/color/*.jpg, with scenes named as scene0000_00"
                raise missing(root, "ScanNet", wanted)
            for item in found:
                if is_test(item.name) and not self.test_scenes:
                    num_test += 1
                    continue
                num_repeated += item.name in inputs
                if item.name not in inputs or _worth(item) > _worth(inputs[item.name]):
                    inputs[item.name] = replace(item, source=self.source, licence=self.licence)
        if num_test and not inputs:
            raise LeftOutError(
                f"ScanNet: only test scenes ({num_test}, from scene{FIRST_TEST_SPACE:04d}_00 on): they are left for evaluation. "
                "To read them all the same, add --recipe mimic_scannet --source.test-scenes"
            )
        return ScanNetFootage(dict(sorted(inputs.items())), num_test, num_repeated)


def is_test(name: str) -> bool:
    """Whether a scan belongs to the official test set."""
    scan = _SCENE.fullmatch(name)
    return scan is not None and int(scan[1]) >= FIRST_TEST_SPACE


def _scans(folder: Path, depth: int = 3) -> Iterator[Input]:
    """A scan, or those in a folder and below it."""
    name = Path(os.path.abspath(folder)).name
    if _SCENE.fullmatch(name):
        yield _scan(folder, name)
        return
    for path in sorted(p for p in folder.iterdir() if not p.name.startswith(".")):
        if path.suffix == ".sens" and path.is_file():
            yield Input(name=path.stem, kind="sens", paths=(path,))
        elif depth and path.is_dir():
            yield from _scans(path, depth - 1)


def _scan(folder: Path, name: str) -> Input:
    sens = folder / f"{name}.sens"
    if sens.is_file():
        return Input(name=name, kind="sens", paths=(sens,))
    for place in (folder / "color", folder / "frames" / "color"):
        frames = [p for p in place.glob("[!.]*") if p.suffix.lower() in (".jpg", ".jpeg", ".png")]
        if frames:
            return Input(name=name, kind="images", paths=tuple(sorted(frames, key=natural_key)))
    return Input(name=name, kind="missing", paths=(sens,))


def _worth(item: Input) -> tuple[int, int]:
    return ("missing", "images", "sens").index(item.kind), len(item.paths)


@dataclass(frozen=True)
class ScanNetFootage(Footage):
    """A Source over scans. num_ignored: test scenes that were left out."""

    def open(self, name: str, /) -> "Photos | Recording":
        item = self.inputs[name]
        if item.kind == "missing":
            raise UnreadableError(f"{item.uri}: no such file, and no frames in {item.paths[0].parent / 'color'}: download it again")
        if item.kind == "sens":
            scene = Recording(item)
        else:
            scene = Photos(item.paths, source=item.source, name=name, licence=item.licence)
            if all(path.stem.isdecimal() for path in item.paths):
                scene.times_s = _clock([int(path.stem) for path in item.paths], FPS)
        if is_test(name):
            scene.info = replace(scene.info, split="test")
        return scene


class Recording:
    """The colour frames of a .sens. The file is read once from frame to frame when it is opened, and a frame when it is asked for.

    times_s: as recorded where the times of the frames ascend, and `has_clock` is True; else 30 frames a second. Many scans have no
    times, all of them 0, or a few at random. Of a file that is cut short the frames before the cut are there, and `info.status`
    is partial. Raises UnreadableError, naming the field and its value, for a header that no .sens has.
    """

    def __init__(self, item: Input) -> None:
        self.path, self.source, self.name, self.licence = item.paths[0], item.source, item.name, item.licence
        self._index = index = index_sens(self.path)
        times_s = _clock(index.times_us, 1e6)
        self.has_clock = times_s is not None
        self.times_s: Float64[np.ndarray, " n"] = np.arange(len(self)) / FPS if times_s is None else times_s
        self.info = SceneInfo(
            source=item.source,
            scene=item.name,
            uri=item.uri,
            kind="sens",
            status="partial" if index.fault else "ok",
            error=index.fault,
            codec=index.codec,
            fps=FPS if times_s is None else float(1 / np.median(np.diff(times_s))),
            width_px=index.width_px,
            height_px=index.height_px,
            num_frames=len(self),
            licence=item.licence,
        )

    def __len__(self) -> int:
        return len(self._index.places)

    def __getitem__(self, index: int) -> Frame:
        if not 0 <= index < len(self):
            raise IndexError(f"{self.name} has frames 0 to {len(self) - 1}, not {index}")
        try:
            image = self._read(index)
        except UnreadableError as error:
            if self.info.status == "ok":
                self.info = replace(self.info, status="partial", error=str(error))
            raise
        return Frame(id=f"{self.source}/{self.name}/{index:06d}", image=image)

    def _read(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        start, size = self._index.places[index]
        where = f"{self.path}: frame {index}"
        try:
            with self.path.open("rb") as file:
                file.seek(start)
                data = file.read(size)
        except OSError as error:
            raise UnreadableError(f"{where}: {error.strerror}") from None
        if self._index.codec != "raw":
            return decode_image(data, where)
        width, height = self._index.width_px, self._index.height_px
        if len(data) != 3 * width * height:
            raise UnreadableError(f"{where}: {len(data)} bytes, where {width} x {height} px want {3 * width * height}")
        return np.frombuffer(data, np.uint8).reshape(height, width, 3).copy()


@dataclass(frozen=True, kw_only=True)
class SensIndex:
    """Where the colour frames of a .sens lie."""

    codec: str
    """raw (RGB, row by row), png or jpeg"""
    width_px: int
    height_px: int
    places: list[tuple[int, int]]
    """First byte and number of bytes."""
    times_us: list[int]
    fault: str
    """Why there are fewer frames than the header says, or ''."""


def index_sens(path: Path) -> SensIndex:
    """What a .sens holds, by its header and by the head of each frame. Raises UnreadableError where that is nothing."""
    try:
        with path.open("rb", buffering=0) as file:  # a buffer would read what is passed over
            return _index(file, path)
    except OSError as error:
        raise UnreadableError(f"{path}: {error.strerror}") from None


def _index(file: FileIO, path: Path) -> SensIndex:
    num_bytes = os.fstat(file.fileno()).st_size

    def take(layout: struct.Struct) -> tuple[int, ...]:
        data = file.read(layout.size)
        if len(data) < layout.size:
            raise UnreadableError(f"{path}: ends in its header, after {num_bytes} bytes: download it again")
        return layout.unpack(data)

    def check(field: str, value: int, known: Container[int], words: str) -> int:
        if value not in known:
            raise UnreadableError(f"{path}: {field} is {value}, where {words} is known: {_AGAIN}")
        return value

    version, name_bytes = take(_START)
    check("version", version, (4,), "4")
    file.seek(check("length of the sensor's name", name_bytes, range(4097), "0 to 4096"), os.SEEK_CUR)
    colour, depth, *sizes, num_frames = take(_HEADER)
    check("colour compression", colour, _COLOUR, "0 (raw), 1 (png) or 2 (jpeg)")
    check("depth compression", depth, range(-1, 3), "-1 to 2")
    for field, value in zip(("colour width", "colour height", "depth width", "depth height"), sizes, strict=True):
        least = 1 if field.startswith("colour") else 0
        check(field, value, range(least, 16385), f"{least} to 16384")
    check("number of frames", num_frames, range(1, 10_000_001), "1 to 10,000,000")
    width, height, depth_width, depth_height = sizes

    places, times_us, fault = [], [], ""
    try:
        for start, size, time_us in _frames(file, path, num_frames, 3 * width * height, 2 * depth_width * depth_height):
            places.append((start, size))
            times_us.append(time_us)
    except UnreadableError as error:
        if not places:
            raise
        fault = str(error)
    return SensIndex(codec=_COLOUR[colour], width_px=width, height_px=height, places=places, times_us=times_us, fault=fault)


def _frames(file: FileIO, path: Path, num: int, raw_colour: int, raw_depth: int) -> Iterator[tuple[int, int, int]]:
    """First byte and number of bytes of each colour frame, and its time in microseconds, passing over what lies between.

    raw_colour, raw_depth: bytes of an uncompressed picture. Raises UnreadableError after the last frame that can be found.
    """
    num_bytes, at = os.fstat(file.fileno()).st_size, file.tell()
    for k in range(num):
        file.seek(at)
        head = file.read(_FRAME.size)
        if len(head) == _FRAME.size:
            time_us, _, colour, depth = _FRAME.unpack(head)
            for what, size, raw in (("colour", colour, raw_colour), ("depth", depth, raw_depth)):
                if size > raw + _SLACK_BYTES:
                    more = f"{size} bytes of {what}, where uncompressed it has {raw}"
                    raise UnreadableError(f"{path}: frame {k} of {num} has {more}: {_AGAIN}")
            start = at + _FRAME.size
            at = start + colour + depth
            if start + colour <= num_bytes:
                yield start, colour, time_us
        if len(head) < _FRAME.size or at > num_bytes:
            raise UnreadableError(f"{path}: ends in frame {k} of {num}, after {num_bytes} bytes: download it again")


def _clock(ticks: list[int], per_second: float) -> Float64[np.ndarray, " n"] | None:
    """Seconds from the first frame; None where the ticks do not ascend, or leap further than any recording does."""
    times_s = np.array([tick - ticks[0] for tick in ticks], float) / per_second
    steps_s = np.diff(times_s)
    return times_s if len(steps_s) and (steps_s > 0).all() and (steps_s <= _LONGEST_STEP_S).all() else None
