"""A decoded video frame to what a player shows: RGB, sRGB curve, upright, square pixels, one moment in time."""

from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import cast

import av
import cv2
import numpy as np
from av.filter import Graph
from av.sidedata.sidedata import Type as SideData
from av.video.reformatter import ColorRange, Colorspace
from jaxtyping import UInt8

Upright = Callable[[np.ndarray], np.ndarray]
"""Turns and mirrors a picture."""
PQ, HLG = 16, 18
"""Transfer characteristics of ITU-T H.273: SMPTE ST 2084 and ARIB STD-B67, the two curves phones record HDR with."""
_BT601, _BT709, _BT2020 = 5, 1, 9
_RGB_MATRIX, _UNSPECIFIED_MATRIX = 0, 2
_SWS_BT2020 = 9
REFERENCE_WHITE_NITS = 203.0
"""The brightness of a white sheet of paper in HDR footage, by ITU-R BT.2408."""


def to_rgb(frame: av.VideoFrame, pixel_aspect: float = 1.0, upright: Upright | None = None) -> UInt8[np.ndarray, "h w 3"]:
    """The frame as RGB, upright, with square pixels; sRGB curve and primaries where it was HLG or PQ.

    The frame's own matrix and range are honoured; where it names none, the convention of players: BT.601 below 720 lines,
    BT.709 from there. Of an interlaced frame one field is kept, at full height: the two fields are two moments.

    pixel_aspect: width of a pixel over its height; upright: `orientation` of another frame of the stream.
    """
    width, height = frame.width, frame.height
    if pixel_aspect > 1:
        width = max(1, round(width * pixel_aspect))
    elif pixel_aspect < 1:
        height = max(1, round(height / pixel_aspect))
    upright = upright or orientation(frame)
    trc = int(frame.color_trc)
    matrix, full = _matrix(frame), _is_full_range(frame)
    if frame.interlaced_frame:
        frame = _one_field(frame)
    rgb = frame.reformat(
        width=width,
        height=height,
        format="rgb48le" if trc in (PQ, HLG) else "rgb24",
        src_colorspace=matrix,
        src_color_range=ColorRange.JPEG if full else ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
        threads=1,
    ).to_ndarray()
    if trc in (PQ, HLG):
        rgb = tone_map(rgb, trc)
    return np.ascontiguousarray(upright(rgb))


def _matrix(frame: av.VideoFrame) -> int:
    matrix = int(frame.colorspace)
    if matrix in (_RGB_MATRIX, _UNSPECIFIED_MATRIX):
        return int(Colorspace.ITU601 if frame.height < 720 else Colorspace.ITU709)
    return {_BT601: int(Colorspace.ITU601), _BT709: int(Colorspace.ITU709), _BT2020: _SWS_BT2020, 10: _SWS_BT2020}.get(
        matrix, matrix
    )


def _is_full_range(frame: av.VideoFrame) -> bool:
    return int(frame.color_range) == int(ColorRange.JPEG) or frame.format.name.startswith("yuvj")


def orientation(frame: av.VideoFrame) -> Upright:
    """The turn and mirror that the container's display matrix asks for.

    Ask once a stream: a frame whose side data was read holds itself, and stays in memory until Python looks for such rings.
    """
    data = frame.side_data.get(SideData.DISPLAYMATRIX)  # pyright: ignore - its stub knows str keys only
    if data is None:
        return lambda image: image
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5] / 65536.0  # x' = a x + c y, y' = b x + d y
    turned = abs(b) + abs(c) > abs(a) + abs(d)

    def upright(image: np.ndarray) -> np.ndarray:
        if turned:
            image = image.transpose(1, 0, 2)
            flip_x, flip_y = c < 0, b < 0
        else:
            flip_x, flip_y = a < 0, d < 0
        return image[:: -1 if flip_y else 1, :: -1 if flip_x else 1]

    return upright


def _one_field(frame: av.VideoFrame) -> av.VideoFrame:
    """The upper field, half as high; taken before any conversion, as chroma belongs to fields too."""
    graph = Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1, 25)
    )
    field, sink = graph.add("field", "type=top"), graph.add("buffersink")
    source.link_to(field)
    field.link_to(sink)
    graph.configure()
    graph.push(frame)
    return cast(av.VideoFrame, graph.pull())


def tone_map(rgb: np.ndarray, trc: int) -> UInt8[np.ndarray, "h w 3"]:
    """BT.2020 HLG or PQ, uint16 [H, W, 3] at full range, to 8-bit sRGB.

    Curve by curve (BT.2100 to light, the shoulder of BT.2408's reference white to display light), then BT.2020 primaries
    to BT.709, then sRGB. Applied to each channel, as phones do for previews: hue shifts in highlights are accepted.
    """
    to_light, to_srgb = _curves(trc)
    light = to_light[rgb >> 4]
    light = cv2.transform(light, _BT2020_TO_BT709)
    return to_srgb[np.clip(light * 4095 + 0.5, 0, 4095).astype(np.uint16)]


_BT2020_TO_BT709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)  # ITU-R BT.2087, rounded


@lru_cache(maxsize=2)
def _curves(trc: int) -> tuple[np.ndarray, np.ndarray]:
    """Two tables of 4,096 entries: code value to display light in [0, 1], and display light to 8-bit sRGB."""
    signal = np.arange(4096) / 4095
    if trc == PQ:  # ST 2084
        m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
        p = signal ** (1 / m2)
        nits = 10000 * (np.maximum(p - c1, 0) / (c2 - c3 * p)) ** (1 / m1)
    else:  # BT.2100 HLG for a display of 1,000 nits, system gamma 1.2 on each channel
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
        nits = 1000 * scene**1.2
    x = nits / REFERENCE_WHITE_NITS
    knee, peak = 0.75, 1000 / REFERENCE_WHITE_NITS  # linear to the knee, then a shoulder that reaches 1 at 1,000 nits
    t = np.clip((x - knee) / (peak - knee), 0, 1)
    slope = (peak - knee) / (1 - knee)  # the shoulder leaves the knee with slope 1
    shoulder = knee + (1 - knee) * (slope * t / (1 + (slope - 1) * t))
    light = np.where(x <= knee, x, shoulder).astype(np.float32)
    srgb = np.where(signal <= 0.0031308, 12.92 * signal, 1.055 * signal ** (1 / 2.4) - 0.055)
    return light, np.round(255 * srgb).astype(np.uint8)
