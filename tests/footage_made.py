"""Videos made on the spot, with a number in each frame that says which one it is. For the tests; not a test."""

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

WIDTH, HEIGHT = 128, 64
SHARED = Path(__file__).parents[2] / "shared"


def numbered(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """A picture whose upper half spells a number in eight bright or dark blocks; below them, texture that moves."""
    texture = np.random.default_rng(0).integers(60, 190, (height, width, 3), np.uint8)
    image = np.roll(texture, 3 * number, axis=1)
    bits = [number >> (7 - k) & 1 for k in range(8)]
    image[: height // 2] = np.repeat(np.array(bits) * 200 + 25, width // 8)[None, :, None]
    return image


def number_in(image: np.ndarray) -> int:
    """The number that a picture spells, whatever its size."""
    height, width = image.shape[:2]
    blocks = image[height // 8 : height * 3 // 8].reshape(-1, 8, width // 8, 3)[:, :, width // 32 : -(width // 32)]
    return int("".join(str(int(level > 127)) for level in blocks.mean(axis=(0, 2, 3))), 2)


def write_video(
    path: Path,
    images: Iterable[np.ndarray | av.VideoFrame],
    codec: str = "libx264",
    *,
    rate: int = 25,
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    times: Sequence[int] | None = None,
    container_options: dict[str, str] | None = None,
    setup: Callable[[Any], object] = lambda stream: None,
) -> Path:
    """Encode RGB pictures, or frames that are ready. times: when each is shown, in frames; setup: called with the stream."""
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.pix_fmt = pix_fmt
        for k, image in enumerate(images):
            frame = image if isinstance(image, av.VideoFrame) else av.VideoFrame.from_ndarray(image, "rgb24")
            if k == 0:
                stream.width, stream.height = frame.width, frame.height
                setup(stream)
            if frame.format.name != pix_fmt:
                frame = frame.reformat(format=pix_fmt)
            frame.pts, frame.time_base = times[k] if times else k, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def plain_frame(codes: tuple[int, int, int], pix_fmt: str = "yuv420p", width: int = 64, height: int = 64) -> av.VideoFrame:
    """A frame of one colour, given by the code values of its three planes."""
    frame = av.VideoFrame(width, height, pix_fmt)
    dtype = np.uint16 if "10le" in pix_fmt else np.uint8
    for plane, code in zip(frame.planes, codes, strict=True):
        plane.update(np.full(plane.buffer_size // dtype().itemsize, code, dtype).tobytes())
    return frame


def field_coded_h264(num_frames: int, size: int = 32) -> list[bytes]:
    """H.264 as interlaced camcorders write it: two fields a frame, each coded by itself. One item a field, upper first.

    No encoder at hand does this, so it is written by hand from ITU-T H.264, of uncompressed macroblocks only. The upper field
    of frame k is grey of level 20 + 10 k, the lower one of 220.
    """
    profile_and_level = f"{77:08b}{0:08b}{30:08b}"
    sequence = profile_and_level + "11" + "011" + "010" + "0" + _ue(size // 16 - 1) + _ue(size // 32 - 1) + "00100"
    parameters = _nal(0x67, sequence) + _nal(0x68, "11" + "00" + "111" + "000" + "11" + "1100")
    start = _nal(0x09, "111")
    fields: list[bytes] = []
    for k in range(num_frames):
        upper = "1" + _ue(7) + "1" + "0000" + "10" + _ue(k % 2) + "00" + "1" + _ue(1)
        lower = "1" + _ue(7) + "1" + "0000" + "11" + "0" + "1" + _ue(1)
        fields.append(start + parameters + _nal(0x65, _with_macroblocks(upper, 20 + 10 * k, size)))
        fields.append(start + _nal(0x61, _with_macroblocks(lower, 220, size)))
    return fields


def _ue(value: int) -> str:
    """Exp-Golomb code."""
    return f"{value + 1:b}".zfill(2 * (value + 1).bit_length() - 1)


def _with_macroblocks(bits: str, level: int, size: int) -> str:
    """The slice header and a field of macroblocks of kind I_PCM."""
    for _ in range(size // 16 * (size // 32)):
        bits += _ue(25)
        bits += "0" * (-len(bits) % 8) + f"{level:08b}" * 256 + "10000000" * 128
    return bits


def _nal(head: int, bits: str) -> bytes:
    bits += "1"
    bits += "0" * (-len(bits) % 8)
    payload, num_zeros = bytearray(), 0
    for byte in int(bits, 2).to_bytes(len(bits) // 8, "big"):
        if num_zeros >= 2 and byte <= 3:
            payload.append(3)
            num_zeros = 0
        payload.append(byte)
        num_zeros = num_zeros + 1 if byte == 0 else 0
    return b"\0\0\0\1" + bytes([head]) + bytes(payload)
