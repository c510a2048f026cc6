"""A video as a scene: any container and codec that PyAV decodes, each frame decoded once, read forwards."""

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import av
import av.error
import av.logging
import numpy as np
from av.container import InputContainer
from jaxtyping import Float64, Int64

from ..errors import UnreadableError
from ..schema import Frame, SceneInfo
from .colour import to_rgb

av.logging.set_level(av.logging.PANIC)  # what FFmpeg has to say comes back as exceptions and as `fault`

_EXACT_NONREF = {"h264", "mpeg1video", "mpeg2video", "mpeg4"}
"""Codecs whose non-reference frames no other frame needs: those that are passed over are not decoded. In HEVC a frame so marked
may still serve higher temporal layers."""
_TEXT_AS_PICTURES = {"ansi", "bintext", "xbin", "idf"}
_BROKEN = (av.error.FFmpegError, OSError, ValueError)


@dataclass(frozen=True, kw_only=True, eq=False)
class PacketIndex:
    """What the packets of a video say before anything is decoded. Frames are numbered in the order they are shown."""

    pts: Int64[np.ndarray, " n"]
    """Presentation times in `time_base` seconds, ascending; 0, 1, 2 ... where `counted`."""
    keys: Int64[np.ndarray, " k"]
    """Numbers of the keyframes, the first is 0."""
    counted: bool
    """True: packets carry no usable times, so frames are counted from the start and never jumped to."""
    info: SceneInfo
    times_s: Float64[np.ndarray, " n"]

    @property
    def keyframe_interval(self) -> int:
        return int(np.diff(np.append(self.keys, len(self.pts))).max())


class Video:
    """Frames of the best video stream.

    Read sequentially; there is a jump only where the wanted frame lies further ahead than one keyframe interval, as most
    videos have few keyframes and a jump decodes from the one before. A frame that is damaged raises UnreadableError, and
    `info.status` reads partial from then on. Raises UnreadableError, naming the file, where nothing can be decoded.
    """

    def __init__(self, path: Path, *, source: str = "video", name: str | None = None, licence: str | None = None) -> None:
        self.path, self.source, self.name, self.licence = path, source, name or path.name, licence
        self._packets = index_packets(path, source=source, name=self.name, licence=licence)
        self.info, self.times_s = self._packets.info, self._packets.times_s
        self._can_jump = not self._packets.counted
        self._container: InputContainer | None = None
        self._decoded: Iterator[tuple[int, av.VideoFrame]] = iter(())
        self._at = -1
        self._wanted_pts = 0
        self._last: Frame | None = None
        self.num_decoded = 0
        """Frames the decoder has given so far: what reading has cost."""

    def __len__(self) -> int:
        return len(self._packets.pts)

    def __getitem__(self, index: int) -> Frame:
        if not 0 <= index < len(self):
            raise IndexError(f"{self.path} has frames 0 to {len(self) - 1}, not {index}")
        if self._last is None or index != self._at:
            self._last = self._read(index)
        return self._last

    def _read(self, index: int) -> Frame:
        self._last = None
        self._wanted_pts = int(self._packets.pts[index])
        key = int(self._packets.keys[np.searchsorted(self._packets.keys, index, "right") - 1])
        far = index - self._at > self._packets.keyframe_interval and key > self._at
        if self._container is None or index <= self._at or far:
            self._jump(key if self._can_jump else 0)
        frame = self._forward(index)
        if self._at > index and key > 0 and self._can_jump:  # the container jumped past its keyframe: never again
            self._can_jump = False
            return self._read(index)
        if frame is None or self._at != index or frame.is_corrupt:
            self._fail(f"{self.path}: frame {index} cannot be decoded")
            raise UnreadableError(self.info.error)
        image = to_rgb(frame, self._pixel_aspect)
        return Frame(id=f"{self.source}/{self.name}/{index:06d}", image=image)

    def _forward(self, index: int) -> av.VideoFrame | None:
        """Decode up to this frame, or the next there is; None at the end."""
        for number, frame in self._decoded:
            self._at = number
            if self._at >= index:
                return frame
        self._at = len(self)
        return None

    def _jump(self, key: int) -> None:
        """Decode from this keyframe on."""
        container = self._container
        if container is None or key == 0:
            container, self._stream = _open(self.path)
            aspect = self._stream.sample_aspect_ratio
            self._pixel_aspect = float(aspect) if aspect else 1.0
        if key > 0:
            container.seek(int(self._packets.pts[key]), stream=self._stream, backward=True)
        self._container, self._decoded = container, self._frames(container)
        self._at = -1

    def _frames(self, container: InputContainer) -> Iterator[tuple[int, av.VideoFrame]]:
        numbers = count()
        context = self._stream.codec_context
        may_skip = context.name in _EXACT_NONREF and not self._packets.counted
        for packet in _packets(container, self._stream, self._fail):
            if may_skip:
                passed_over = packet.pts is not None and packet.pts < self._wanted_pts
                context.skip_frame = "NONREF" if passed_over else "DEFAULT"
            try:
                frames = packet.decode()
            except _BROKEN as error:
                self._fail(f"{self.path}: damaged at {_seconds(packet):.1f} s ({_said(error)})")
                continue
            for frame in frames:
                self.num_decoded += 1
                number = next(numbers) if self._packets.counted else self._number(frame.pts)
                if number is not None:
                    yield number, frame

    def _number(self, pts: int | None) -> int | None:
        """The number of the frame shown at this time; None for one that an edit list cuts away."""
        if pts is None:
            return None
        i = int(np.searchsorted(self._packets.pts, pts))
        return i if i < len(self) and self._packets.pts[i] == pts else None

    def _fail(self, error: str) -> None:
        if self.info.status == "ok":
            self.info = replace(self.info, status="partial", error=error)


def index_packets(path: Path, *, source: str, name: str, licence: str | None = None) -> PacketIndex:
    """List the packets of the best video stream, decoding nothing. Raises UnreadableError where there are none."""
    faults: list[str] = []
    pts, is_key, num_missing = array("q"), array("b"), 0
    try:
        container, stream = _open(path)
        for packet in _packets(container, stream, faults.append):
            if packet.is_discard or packet.is_corrupt or not packet.size:
                continue
            if packet.pts is None:
                num_missing += 1
            pts.append(0 if packet.pts is None else packet.pts)
            is_key.append(packet.is_keyframe)
    except _BROKEN as error:
        raise UnreadableError(f"{path}: not a video that can be decoded ({_said(error)})") from None
    if not pts:
        raise UnreadableError(f"{path}: holds no video frames; the file may be cut short")
    rate = float(stream.average_rate or stream.guessed_rate or 25)
    order = np.argsort(pts, kind="stable")
    times = np.frombuffer(pts, np.int64)[order]
    counted = num_missing > 0 or bool((np.diff(times) == 0).any())
    if counted:
        times, order = np.arange(len(pts)), np.arange(len(pts))
    times_s = times / rate if counted else (times - times[0]) * float(stream.time_base or 1)
    keys = np.flatnonzero(np.frombuffer(is_key, np.int8)[order])
    announced_s = (container.duration or 0) / 1e6
    if not faults and times_s[-1] + 2 / rate < 0.95 * announced_s - 1:
        faults.append(f"{path}: ends at {times_s[-1]:.1f} s of {announced_s:.1f} s; the file may be cut short")
    context = stream.codec_context
    info = SceneInfo(
        source=source,
        scene=name,
        uri=str(path),
        kind="video",
        status="partial" if faults else "ok",
        error=faults[0] if faults else "",
        codec=context.name,
        fps=rate,
        width_px=context.width,
        height_px=context.height,
        num_frames=len(times),
        licence=licence,
    )
    keys = keys if len(keys) and keys[0] == 0 else np.insert(keys, 0, 0)
    return PacketIndex(pts=times, keys=keys, counted=counted, info=info, times_s=times_s)


def _open(path: Path) -> tuple[InputContainer, av.VideoStream]:
    container = av.open(f"file:{path}", metadata_errors="replace")  # file: or a colon in the name reads as a protocol
    stream = container.streams.best("video")
    if not isinstance(stream, av.VideoStream) or stream.codec_context.name in _TEXT_AS_PICTURES:
        raise ValueError("no video in it")
    stream.codec_context.thread_count = 1  # the workers are the parallelism
    return container, stream


def _packets(container: InputContainer, stream: av.VideoStream, fail: Callable[[str], object]) -> Iterator[av.Packet]:
    """The packets of a stream until the file ends or breaks off."""
    demuxed = container.demux(stream)
    at_s = 0.0
    while True:
        try:
            packet = next(demuxed)
        except StopIteration:
            return
        except _BROKEN as error:
            fail(f"{container.name.removeprefix('file:')}: breaks off after {at_s:.1f} s ({_said(error)})")
            return
        at_s = _seconds(packet) or at_s
        yield packet


def _seconds(packet: av.Packet) -> float:
    return float((packet.pts or 0) * (packet.time_base or 0))


def _said(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).splitlines()[0]
