"""Pictures of scene files as RGBA: PNG, JPEG, WebP, and the two forms of Basis."""

from functools import lru_cache
from importlib import import_module
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from ..errors import ConfigError, UnreadableError
from ..sources.images import is_cut_short, size_in_header

MAX_SIDE_PX = 16384
"""The largest picture that is decoded: no card takes a larger one, and a damaged header could ask for any size."""


def decode_picture(data: bytes, where: str, linearise: bool = False) -> UInt8[np.ndarray, "h w 4"]:
    """RGBA of a PNG, JPEG, WebP, KTX2 or .basis, told apart by their bytes. 16 bits become 8; EXIF does not turn it.

    `where` opens the message of the UnreadableError.
    """
    if data[:12] == b"\xabKTX 20\xbb\r\n\x1a\n" or data[:2] == b"sB":
        return _transcode(data, where, linearise)
    if max(size_in_header(data)) > MAX_SIDE_PX:
        raise UnreadableError(f"{where}: a picture of {size_in_header(data)[::-1]} px (the largest side is {MAX_SIDE_PX} px)")
    if not data or is_cut_short(data):
        raise UnreadableError(f"{where}: the picture is cut short (copy or export it again)")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise UnreadableError(f"{where}: {error.err} (export it as PNG or JPEG)") from None
    if image is None:
        raise UnreadableError(f"{where}: the picture cannot be decoded (export it as PNG or JPEG)")
    if image.dtype != np.uint8:
        levels = (
            np.asarray(image, np.float64) / 257 if image.dtype == np.uint16 else np.nan_to_num(np.asarray(image, np.float64)) * 255
        )
        image = np.rint(levels.clip(0, 255)).astype(np.uint8)
    codes = {1: cv2.COLOR_GRAY2RGBA, 3: cv2.COLOR_BGR2RGBA, 4: cv2.COLOR_BGRA2RGBA}
    return cv2.cvtColor(image, codes[1 if image.ndim == 2 else image.shape[2]])


def _transcode(data: bytes, where: str, linearise: bool) -> UInt8[np.ndarray, "h w 4"]:
    """RGBA of the largest picture in a KTX2 or .basis, its top row first."""
    basisu = package("opengl_basisu", f"{where}: a Basis texture")
    try:
        texture = basisu.open(data)
        if max(texture.width, texture.height) > MAX_SIDE_PX:
            raise ValueError(f"{texture.width} x {texture.height} px, over {MAX_SIDE_PX}")
        image = texture.transcode(basisu.Target.RGBA8, level=0).data
    except Exception as error:  # of its own kinds and of Python's
        raise UnreadableError(f"{where}: the Basis texture cannot be decoded: {error} (export it again)") from None
    image = np.ascontiguousarray(image[::-1]) if texture.y_flipped else image
    if linearise and texture.srgb:
        image[..., :3] = _linear_of_srgb()[image[..., :3]]
    return image


@lru_cache(maxsize=1)
def _linear_of_srgb() -> UInt8[np.ndarray, " 256"]:
    level = np.arange(256) / 255
    return np.rint(255 * np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)).astype(np.uint8)


def package(name: str, where: str) -> Any:
    """A package of the extra `scenes`. `where` opens the message of the ConfigError: it is no fault of the file."""
    try:
        return import_module(name)
    except ImportError:
        raise ConfigError(f"{where} needs one more package: pip install 'twoview[scenes]'") from None
