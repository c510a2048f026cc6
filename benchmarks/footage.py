"""The video that the benchmarks read, and other cuts of it."""

import sys
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

DATA = Path(__file__).parents[2] / "shared" / "data"
KITCHEN = DATA / "rgbd_video_redkitchen" / "video.mp4"
"""1,000 frames of a handheld walk, 640x480, 30 a second."""


def need(path: Path) -> Path:
    """The path, or the end of the program where it is absent."""
    if not path.exists():
        sys.exit(f"{path} is absent: this benchmark reads real footage")
    return path


def frames(path: Path, num: int | None = None, step: int = 1) -> Iterator[np.ndarray]:
    """Every `step`-th of the first `num` frames, RGB."""
    with av.open(str(path)) as container:
        for i, frame in enumerate(container.decode(video=0)):
            if num is not None and i >= num:
                return
            if i % step == 0:
                yield frame.to_ndarray(format="rgb24")


def encode(path: Path, pictures: Iterable[np.ndarray], size: tuple[int, int], **options: str) -> Path:
    """Write pictures as H.264, 30 a second, scaled to (width, height)."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "veryfast", "crf": "20", **options})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for i, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(*size, "yuv420p", interpolation="BICUBIC")
            frame.pts, frame.time_base = i, Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def copy(path: Path, source: Path, *, num: int | None = None, times: int = 1) -> Path:
    """The first `num` packets of a video as they are, `times` over."""
    with av.open(str(path), "w") as container:
        out, offset = None, 0
        for _ in range(times):
            with av.open(str(source)) as original:
                stream = original.streams.video[0]
                out = out or container.add_stream_from_template(stream)
                packets = [p for p in original.demux(stream) if p.size][:num]
                end = offset + sum(p.duration for p in packets)
                for packet in packets:
                    packet.pts, packet.dts, packet.stream = packet.pts + offset, packet.dts + offset, out
                    container.mux(packet)
                offset = end
    return path
