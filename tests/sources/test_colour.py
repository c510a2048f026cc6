"""Colours of frames beside the equations of ITU-R BT.601, 709, 2020 and 2100, written out here once more."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from footage_made import plain_frame, write_video
from twoview.sources.colour import HLG, PQ, tone_map
from twoview.sources.video import Video

LIMITED, FULL = 1, 2
RED_AND_BLUE_OF_LUMA = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}
TAGS = {"bt601": 6, "pal": 5, "bt709": 1, "bt2020": 9, "untagged": 2}
"""Numbers of the matrices in ITU-T H.273."""
CODES = ((120, 100, 160), (60, 140, 120), (200, 120, 140), (128, 128, 128), (16, 128, 128), (235, 128, 128), (90, 170, 90))
"""Luma and chroma of 8 bits."""


def rgb_of(codes: tuple[int, int, int], matrix: str, full: bool) -> np.ndarray:
    """8-bit R'G'B' of 8-bit Y'CbCr."""
    y, cb, cr = codes
    if full:
        luma, b_minus_y, r_minus_y = y / 255, (cb - 128) / 255, (cr - 128) / 255
    else:
        luma, b_minus_y, r_minus_y = (y - 16) / 219, (cb - 128) / 224, (cr - 128) / 224
    k_red, k_blue = RED_AND_BLUE_OF_LUMA[matrix]
    red, blue = luma + 2 * (1 - k_red) * r_minus_y, luma + 2 * (1 - k_blue) * b_minus_y
    green = (luma - k_red * red - k_blue * blue) / (1 - k_red - k_blue)
    return np.clip(255 * np.array([red, green, blue]), 0, 255)


def coloured(path: Path, codes: list[tuple[int, int, int]], codec: str, pix_fmt: str, *, height: int = 64, **tags: int) -> Video:
    """A video with a plain frame of each colour. tags: colorspace, color_range, color_trc, color_primaries."""

    def setup(stream: Any) -> None:
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)

    frames = [plain_frame(c, pix_fmt, height=height) for c in codes]
    for frame in frames:
        for name, value in tags.items():
            setattr(frame, name, value)
    # x265's lossless mode now and then mixes up such small frames, so it is only near lossless, and each by itself
    options = {"libx264": {"crf": "0"}, "libx265": {"x265-params": "crf=1:keyint=1:bframes=0:log-level=none"}}.get(codec, {})
    return Video(write_video(path, frames, codec, pix_fmt=pix_fmt, options=options, setup=setup))


def middle(video: Video, index: int) -> np.ndarray:
    image = video[index].image
    return image[image.shape[0] // 2, image.shape[1] // 2].astype(int)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("tag", ["bt601", "pal", "bt709", "bt2020"])
@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("a.mkv", "ffv1", "yuv420p"),
        ("a.mkv", "ffv1", "yuv444p10le"),
        ("a.mp4", "libx264", "yuv420p"),
        ("a.mov", "libx264", "yuv422p10le"),
        ("a.mp4", "libx265", "yuv420p10le"),
    ],
)
def test_matrix_and_range_are_honoured(name: str, codec: str, pix_fmt: str, tag: str, full: bool, tmp_path: Path) -> None:
    scale = 4 if "10le" in pix_fmt else 1
    deep = [(y * scale, cb * scale, cr * scale) for y, cb, cr in CODES]
    space, span = TAGS[tag], FULL if full else LIMITED
    video = coloured(tmp_path / name, deep, codec, pix_fmt, colorspace=space, color_range=span)
    for i, codes in enumerate(CODES):
        expected = rgb_of(codes, "bt601" if tag == "pal" else tag, full)
        assert np.abs(middle(video, i) - expected).max() < 4, (codes, middle(video, i), expected)


@pytest.mark.parametrize(("height", "matrix"), [(64, "bt601"), (718, "bt601"), (720, "bt709")])
def test_an_untagged_video_is_taken_as_players_take_it(height: int, matrix: str, tmp_path: Path) -> None:
    video = coloured(tmp_path / "a.mkv", list(CODES[:3]), "ffv1", "yuv420p", height=height, colorspace=TAGS["untagged"])
    for i, codes in enumerate(CODES[:3]):
        assert np.abs(middle(video, i) - rgb_of(codes, matrix, full=False)).max() < 4


def test_motion_jpeg_spans_the_full_range(tmp_path: Path) -> None:
    images = [np.full((64, 64, 3), level, np.uint8) for level in (0, 10, 128, 245, 255)]
    video = Video(write_video(tmp_path / "a.avi", images, "mjpeg", pix_fmt="yuvj420p", options={"q:v": "2"}))
    assert [abs(int(middle(video, i)[0]) - int(image[0, 0, 0])) < 4 for i, image in enumerate(images)] == [True] * 5


@pytest.mark.parametrize("pix_fmt", ["bgr0", "gbrp10le", "gray", "rgb24"])
def test_rgb_and_grey_need_no_matrix(pix_fmt: str, tmp_path: Path) -> None:
    colour = (90, 90, 90) if pix_fmt == "gray" else (200, 100, 50)
    image = np.full((64, 64, 3), colour, np.uint8)
    codec, name = ("rawvideo", "a.nut") if pix_fmt == "rgb24" else ("ffv1", "a.mkv")
    assert np.abs(middle(Video(write_video(tmp_path / name, [image], codec, pix_fmt=pix_fmt)), 0) - colour).max() <= 2


# -------------------------------------------------------------------------------------------------- high dynamic range


def pq_signal(nits: np.ndarray) -> np.ndarray:
    """SMPTE ST 2084, from light to signal in [0, 1]."""
    y = (np.asarray(nits, float) / 10_000) ** (2610 / 16384)
    return ((3424 / 4096 + 2413 / 128 * y) / (1 + 2392 / 128 * y)) ** (2523 / 32)


def hlg_signal(nits: np.ndarray) -> np.ndarray:
    """BT.2100 for a display of 1,000 nits, from light of a grey to signal in [0, 1]."""
    scene = (np.asarray(nits, float) / 1000) ** (1 / 1.2)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), a * np.log(np.maximum(12 * scene - b, 1e-9)) + c)


def srgb(light: np.ndarray) -> np.ndarray:
    """8-bit sRGB of linear light in [0, 1]."""
    light = np.clip(light, 0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def to_xyz(chromaticities: list[tuple[float, float]]) -> np.ndarray:
    """Matrix from linear RGB to XYZ: red, green, blue and white point by their x, y."""
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in chromaticities]).T
    return columns[:, :3] * np.linalg.solve(columns[:, :3], columns[:, 3])


BT709 = to_xyz([(0.64, 0.33), (0.30, 0.60), (0.15, 0.06), (0.3127, 0.3290)])
BT2020 = to_xyz([(0.708, 0.292), (0.170, 0.797), (0.131, 0.046), (0.3127, 0.3290)])


def mapped(signal: np.ndarray, trc: int) -> np.ndarray:
    """`tone_map` of signals in [0, 1], one pixel each [n, 3] or greys [n]."""
    signal = np.asarray(signal, float)
    signal = np.repeat(signal[:, None], 3, 1) if signal.ndim == 1 else signal
    return tone_map(np.round(signal * 65535).astype(np.uint16)[None], trc)[0].astype(int)


@pytest.mark.parametrize("trc", [PQ, HLG])
def test_greys_stay_grey_and_in_order(trc: int) -> None:
    out = mapped(np.linspace(0, 1, 4096), trc)
    assert tone_map(np.zeros((2, 3, 3), np.uint16), trc).dtype == np.uint8
    assert (np.ptp(out, axis=1) <= 1).all()
    assert (np.diff(out[:, 1]) >= 0).all()
    assert out[0].tolist() == [0, 0, 0]
    assert out[-1].tolist() == [255, 255, 255]
    assert np.diff(out[:, 1]).max() <= 2  # no step that would show as a band


def test_a_white_sheet_is_nearly_white() -> None:
    """Reference white is 75 % of an HLG signal, 58 % of PQ, and 203 nits (BT.2408)."""
    assert 236 <= mapped(np.array([0.75]), HLG)[0, 0] <= 244
    assert 236 <= mapped(np.array([0.58]), PQ)[0, 0] <= 244
    assert abs(float(pq_signal(np.array(203.0))) - 0.58) < 0.002  # the formulae of this file
    assert abs(float(hlg_signal(np.array(203.0))) - 0.75) < 0.002


@pytest.mark.parametrize(("trc", "signal"), [(PQ, pq_signal), (HLG, hlg_signal)])
def test_below_the_highlights_light_is_kept(trc: int, signal: Any) -> None:
    """Up to three quarters of reference white nothing is pressed together: sRGB of the light itself."""
    nits = np.array([1, 5, 20, 60, 100, 150])
    assert np.abs(mapped(signal(nits), trc)[:, 0] - srgb(nits / 203)).max() < 2
    bright = mapped(signal(np.array([203, 400, 600, 1000])), trc)[:, 0]
    assert (np.diff(bright) > 0).all()
    assert bright[-1] == 255


def test_colours_of_bt709_survive_the_wide_primaries() -> None:
    """Patches of BT.709 light, put into BT.2020 PQ by the chromaticities of both, come out as themselves."""
    patches = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.8, 0.4, 0.2], [0.2, 0.5, 0.9], [0.5, 0.5, 0.1]]) * 0.6
    wide = patches @ np.linalg.solve(BT2020, BT709).T
    out = mapped(pq_signal(203 * wide), PQ)
    assert np.abs(out - srgb(patches)).max() < 3


@pytest.mark.parametrize(("trc", "white"), [(PQ, 0.58), (HLG, 0.75)])
@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "ffv1"), ("a.mp4", "libx264"), ("a.mp4", "libx265"), ("a.mov", "libx265")])
def test_videos_of_high_dynamic_range(name: str, codec: str, trc: int, white: float, tmp_path: Path) -> None:
    shares = (0, 0.2, 0.4, white, 1)
    codes = [(round(64 + 876 * share), 512, 512) for share in shares]
    tags = {"colorspace": 9, "color_range": LIMITED, "color_trc": trc, "color_primaries": 9}
    video = coloured(tmp_path / name, codes, codec, "yuv420p10le", **tags)
    out = np.array([middle(video, i) for i in range(len(shares))])
    assert (np.ptp(out, axis=1) <= 2).all()
    assert (np.diff(out[:, 1]) > 5).all()
    assert out[0].max() <= 1
    assert out[-1].min() >= 254
    assert np.abs(out[3] - 240).max() <= 4
    assert (video[0].image.dtype, video[0].image.shape) == (np.uint8, (64, 64, 3))


@pytest.mark.parametrize("trc", [1, 14])
def test_ten_bits_alone_are_no_high_dynamic_range(trc: int, tmp_path: Path) -> None:
    """BT.709, and BT.2020 of 10 bits: the curve of a plain video."""
    video = coloured(tmp_path / "a.mkv", [(502, 512, 512)], "ffv1", "yuv420p10le", colorspace=9, color_range=LIMITED, color_trc=trc)
    assert np.abs(middle(video, 0) - 127.5).max() < 4
