"""Photos as a scene: the pictures of one folder in natural order, upright, whatever format they came in."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Float64, UInt8

from ..errors import UnreadableError
from ..schema import Frame, SceneInfo

EXTENSIONS = frozenset(
    (".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pnm", ".jp2", ".avif", ".heic", ".heif")
)
_HEIC_BRANDS = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"))
_PNG_END = b"IEND\xae\x42\x60\x82"  # with its checksum, so that no other bytes read like it
MAX_PIXELS = 50_000_000
"""Larger pictures are read reduced by 2, 4 or 8, so that one cannot fill the memory."""

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # what it has to say becomes an UnreadableError


class Photos:
    """The pictures of a folder, in the order given. A picture that cannot be read raises UnreadableError when asked for."""

    times_s: Float64[np.ndarray, " n"] | None = None
    """For whoever knows when they were taken."""

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        source: str = "images",
        name: str,
        uri: str = "",
        licence: str | None = None,
        kind: str = "images",
    ) -> None:
        if not paths:
            raise UnreadableError(f"{uri or name}: no pictures in it")
        self.paths, self.source, self.name, self.licence = list(paths), source, name, licence
        self._damaged: dict[int, str] = {}
        self.info = SceneInfo(
            source=source,
            scene=name,
            uri=uri or str(self.paths[0].parent),
            kind=kind,
            codec=self.paths[0].suffix.lower().lstrip("."),
            num_frames=len(self.paths),
            licence=licence,
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Frame:
        if not 0 <= index < len(self):
            raise IndexError(f"{self.name} has frames 0 to {len(self) - 1}, not {index}")
        try:
            image = read_image(self.paths[index])
        except UnreadableError as error:
            self._damaged[index] = str(error)
            more = len(self._damaged) - 1
            words = f"{next(iter(self._damaged.values()))}{f' (and {more} more of {len(self)} photos)' if more else ''}"
            self.info = replace(self.info, status="partial", error=words)
            raise
        if self.info.width_px is None:
            self.info = replace(self.info, width_px=image.shape[1], height_px=image.shape[0])
        return Frame(id=f"{self.source}/{self.name}/{index:06d}", image=image)


def natural_key(path: Path) -> list[tuple[int, int, str]]:
    """Sorts img2 before img10, without regard to case; equal but for case or zeros, by the name itself."""
    parts = re.split(r"(\d+)", path.name.casefold())
    return [(1, int(p), "") if p.isdecimal() else (0, 0, p) for p in parts] + [(0, 0, path.name)]


def read_image(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    """One picture as 8-bit RGB, turned as its EXIF orientation says.

    Grey is repeated, transparency dropped, 16 bits cut to 8, CMYK converted. Over 50 megapixels it is read reduced. Raises
    UnreadableError, naming the file: not a picture, cut short, HEIC without the extra.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UnreadableError(f"{path}: {error.strerror}") from None
    if not data:
        raise UnreadableError(f"{path}: the file is empty")
    if data[4:8] == b"ftyp" and data[8:12] in _HEIC_BRANDS:  # whatever its name says: phones name JPEGs .heic and the reverse
        return _read_heic(path)
    return decode_image(data, str(path))


def decode_image(data: bytes, where: str) -> UInt8[np.ndarray, "h w 3"]:
    """One picture as `read_image` gives it, HEIC aside, from the bytes of its file. `where` opens the UnreadableError's message."""
    if not data:
        raise UnreadableError(f"{where}: no picture there, not a byte")
    if is_cut_short(data):
        raise UnreadableError(f"{where}: the picture is cut short")
    height, width = size_in_header(data)
    num_pixels = height * width or len(data) // 3  # a format whose header is not read here: at least a byte a sample
    factor = next(f for f in (1, 2, 4, 8) if num_pixels <= MAX_PIXELS * f * f or f == 8)
    flags = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags[factor])
    except cv2.error as error:
        raise UnreadableError(f"{where}: {error.err}") from None
    if image is None:
        raise UnreadableError(f"{where}: not a picture that can be read")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _read_heic(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    try:
        import pi_heif
    except ImportError:
        raise UnreadableError(f"{path}: HEIC needs one more package: pip install 'twoview[heic]'") from None
    try:
        return np.ascontiguousarray(np.asarray(pi_heif.open_heif(path, convert_hdr_to_8bit=True).to_pillow().convert("RGB")))
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise UnreadableError(f"{path}: {str(error).strip().splitlines()[0]}") from None


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Marker and offset of the payload of each segment, up to the first scan."""
    at = 2
    while 0 <= (at := data.find(b"\xff", at)) <= len(data) - 4:  # libjpeg passes over bytes between segments too
        marker = data[at + 1]
        if marker == 0xFF:  # padding
            at += 1
            continue
        yield marker, at + 4
        if marker == 0xDA:
            return
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")


def size_in_header(data: bytes) -> tuple[int, int]:
    """Height and width from the header of a JPEG, PNG or WebP; 0, 0 for others."""

    def number(at: int, size: int, order: Literal["big", "little"] = "big") -> int:
        return int.from_bytes(data[at : at + size], order)

    if data[:2] == b"\xff\xd8":
        for marker, at in _jpeg_segments(data):
            if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
                return number(at + 1, 2), number(at + 3, 2)
    elif data[:8] == b"\x89PNG\r\n\x1a\n":
        return number(20, 4), number(16, 4)
    elif data[:4] == b"RIFF" and data[8:16] == b"WEBPVP8X":
        return number(27, 3, "little") + 1, number(24, 3, "little") + 1
    elif data[:4] == b"RIFF" and data[8:16] == b"WEBPVP8 ":
        return number(28, 2, "little") & 0x3FFF, number(26, 2, "little") & 0x3FFF
    elif data[:4] == b"RIFF" and data[8:16] == b"WEBPVP8L":
        bits = number(21, 4, "little")
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    return 0, 0


def is_cut_short(data: bytes) -> bool:
    """True where a JPEG or PNG lacks its end: decoders would fill the rest with grey and say nothing."""
    if data[:2] == b"\xff\xd8":
        scan = next((at for marker, at in _jpeg_segments(data) if marker == 0xDA), None)
        return scan is None or data.find(b"\xff\xd9", scan) < 0
    return data[:4] == b"\x89PNG" and data.rfind(_PNG_END) < 0
