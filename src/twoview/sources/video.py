"""A video as a scene: any container and codec that PyAV decodes, each frame decoded once, read forwards."""

import math
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, count
from pathlib import Path

import av
import av.error
import av.logging
import numpy as np
from av.container import InputContainer
from av.video.frame import PictureType
from jaxtyping import Float64, Int8, Int64

from ..errors import UnreadableError
from ..schema import Frame, SceneInfo
from .colour import Upright, orientation, to_rgb

av.logging.set_level(av.logging.PANIC)  # what FFmpeg has to say comes back as exceptions and as `fault`

_EXACT_NONREF = {"h264", "mpeg1video", "mpeg2video", "mpeg4"}
"""Codecs whose non-reference frames no other frame needs: those that are passed over are not decoded. In HEVC a frame so marked
may still serve higher temporal layers."""
_TEXT_AS_PICTURES = {"ansi", "bintext", "xbin", "idf"}
_NO_TIME = np.iinfo(np.int64).min
_BROKEN = (av.error.FFmpegError, OSError, ValueError)


@dataclass(frozen=True, kw_only=True, eq=False)
class PacketIndex:
    """What the packets of a video say before anything is decoded. Frames are numbered in the order they are shown."""

    pts: Int64[np.ndarray, " n"]
    """Presentation times in `time_base` seconds, ascending; 0, 1, 2 ... where `counted`."""
    keys: Int64[np.ndarray, " k"]
    """Numbers of the keyframes, the first is 0; only that one where `counted`."""
    suspects: frozenset[int]
    """Times of packets that are marked as damaged, and of those right after them: in MPEG-TS the mark comes one too early."""
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

    def __init__(
        self,
        path: Path,
        *,
        source: str = "video",
        name: str | None = None,
        licence: str | None = None,
        upright: Upright | None = None,
    ) -> None:
        """upright: turns a picture as it is stored; None: as the container's display matrix says."""
        self.path, self.source, self.name, self.licence = path, source, name or path.name, licence
        self._packets = index_packets(path, source=source, name=self.name, licence=licence)
        self.info, self.times_s = self._packets.info, self._packets.times_s
        self._can_jump = not self._packets.counted
        self._container: InputContainer | None = None
        self._decoded: Iterator[tuple[int, av.VideoFrame | None]] = iter(())
        self._at = -1
        self._in_hand: av.VideoFrame | None = None
        self._missing = range(0)
        """Frames that were wanted, or lie behind one, and did not come before the one in hand: no use in trying again."""
        self._wanted_pts = 0
        self._upright = upright
        self.num_decoded = 0
        """Frames the decoder has given so far: what reading has cost."""

    def __len__(self) -> int:
        return len(self._packets.pts)

    def __getitem__(self, index: int) -> Frame:
        if not 0 <= index < len(self):
            raise IndexError(f"{self.path} has frames 0 to {len(self) - 1}, not {index}")
        self._wanted_pts = int(self._packets.pts[index])
        key = int(self._packets.keys[np.searchsorted(self._packets.keys, index, "right") - 1])
        far = self._can_jump and key > self._at and index - self._at > self._packets.keyframe_interval
        back = index < self._at and index not in self._missing
        if self._container is None or back or far:
            self._jump(key if self._can_jump else 0)
        frame = self._forward(index)
        if frame is None:
            raise self._fail(f"{self.path}: frame {index} cannot be decoded")
        try:
            self._upright = self._upright or orientation(frame)
            image = to_rgb(frame, self._pixel_aspect, self._upright)
        except _BROKEN as error:
            raise self._fail(f"{self.path}: frame {index} cannot be converted ({_said(error)})") from None
        return Frame(id=f"{self.source}/{self.name}/{index:06d}", image=image)

    def _forward(self, index: int) -> av.VideoFrame | None:
        """Decode up to this frame: None where it is missing or damaged. The next one there is stays in hand."""
        while self._at < index:
            self._at, self._in_hand = next(self._decoded, (len(self), None))
            self._missing = range(index, self._at)
        return self._in_hand if self._at == index else None

    def _jump(self, key: int) -> None:
        """Decode from this keyframe on, or from the first where that leads nowhere."""
        self._at, self._in_hand, self._decoded, self._missing = -1, None, iter(()), range(0)
        try:
            if self._container is None or key == 0:
                self._container, self._stream = _open(self.path)
                self._pixel_aspect = _pixel_aspect(self._stream)
            packets = self._packets_from(self._container, key)
            if packets is None:
                self._can_jump, key = False, 0
                self._container, self._stream = _open(self.path)
                packets = _packets(self._container, self._stream, self._fail)
        except _BROKEN as error:
            self._container = None
            raise self._fail(f"{self.path}: cannot be opened again ({_said(error)})") from None
        self._decoded = self._frames(packets)
        if key > 0 and not self._is_full_picture(key):
            self._can_jump = False
            self._jump(0)

    def _is_full_picture(self, key: int) -> bool:
        """Whether the first frame after a jump is what its packet promised. Streams of gradual refresh mark packets from which
        pictures only begin to recover, and an AVI without its index marks packets at random."""
        frame = self._forward(key)
        return self._at == key and (frame is None or frame.pict_type not in (PictureType.P, PictureType.B))

    def _packets_from(self, container: InputContainer, key: int) -> Iterator[av.Packet] | None:
        """The packets from this keyframe on; None where the container does not get there.

        Where a container has no index (MPEG-TS) it lands somewhere near, so what comes before the keyframe is passed over, and
        if it landed behind, it is sent some keyframes further back.
        """
        if key == 0:
            return _packets(container, self._stream, self._fail)
        pts, keys = self._packets.pts, self._packets.keys
        nth = int(np.searchsorted(keys, key))
        for back in (0, 1, 4):
            try:
                container.seek(int(pts[keys[max(0, nth - back)]]), stream=self._stream)
            except _BROKEN:  # it cannot seek
                return None
            packets = _packets(container, self._stream, self._fail)
            for packet in packets:
                if packet.pts == pts[key]:
                    return chain((packet,), packets)
                if packet.dts is not None and packet.dts > pts[key]:
                    break
        return None

    def _frames(self, packets: Iterable[av.Packet]) -> Iterator[tuple[int, av.VideoFrame | None]]:
        """Numbers and frames; None for one that is damaged, and for those after it until the next sound keyframe: decoders
        fill in what is missing and say nothing."""
        counted, suspects = self._packets.counted, self._packets.suspects
        context, numbers = self._stream.codec_context, count()
        may_skip = context.name in _EXACT_NONREF and not counted
        damage = sound = -math.inf  # when the last damage is shown that is known of, and the last keyframe that is whole
        for order, packet in enumerate(packets):
            if may_skip:
                passed_over = packet.pts is not None and packet.pts < self._wanted_pts
                context.skip_frame = "NONREF" if passed_over else "DEFAULT"
            shown = order if counted or packet.pts is None else packet.pts
            if packet.pts in suspects:
                damage = max(damage, shown)
            try:
                frames = packet.decode()
            except _BROKEN as error:
                self._fail(f"{self.path}: damaged at {_seconds(packet):.1f} s ({_said(error)})")
                damage = max(damage, shown)
                continue
            for frame in frames:
                self.num_decoded += 1
                shown = order if counted or frame.pts is None else frame.pts
                whole = not frame.is_corrupt and frame.pts not in suspects
                if not whole:
                    damage = max(damage, shown)
                elif frame.key_frame:
                    sound = shown
                number = next(numbers) if counted else self._number(frame.pts)
                if number is not None:
                    yield number, frame if whole and (frame.key_frame or damage <= sound) else None

    def _number(self, pts: int | None) -> int | None:
        """The number of the frame shown at this time; None for one that an edit list cuts away."""
        if pts is None:
            return None
        i = int(np.searchsorted(self._packets.pts, pts))
        return i if i < len(self) and self._packets.pts[i] == pts else None

    def _fail(self, error: str) -> UnreadableError:
        if self.info.status == "ok":
            self.info = replace(self.info, status="partial", error=error)
        return UnreadableError(error)


def index_packets(path: Path, *, source: str, name: str, licence: str | None = None) -> PacketIndex:
    """List the packets of the best video stream, decoding nothing. Raises UnreadableError where there are none."""
    faults: list[str] = []
    pts, is_key, end = array("q"), array("b"), 0
    suspects: set[int] = set()
    last_is_corrupt = False
    try:
        container, stream = _open(path)
        for packet in _packets(container, stream, faults.append):
            if packet.is_corrupt:
                faults.append(f"{path}: damaged at {_seconds(packet):.1f} s")
            if (packet.is_corrupt or last_is_corrupt) and packet.pts is not None:
                suspects.add(packet.pts)
            last_is_corrupt = packet.is_corrupt
            if packet.size and not packet.is_discard:
                pts.append(_NO_TIME if packet.pts is None else packet.pts)
                is_key.append(packet.is_keyframe)
                end = max(end, (packet.pts or 0) + (packet.duration or 0))
    except _BROKEN as error:
        raise UnreadableError(f"{path}: not a video that can be decoded ({_said(error)})") from None
    if not pts:
        raise UnreadableError(f"{path}: holds no video frames; the file may be cut short")
    rate = float(stream.average_rate or stream.guessed_rate or 25)
    unit_s = float(stream.time_base or 1)
    times, keys = _frames_of(np.frombuffer(pts, np.int64), np.frombuffer(is_key, np.int8))
    has_clock = 3 * len(times) >= len(pts)
    times_s = (times - times[0]) * unit_s if has_clock else np.arange(len(pts)) / rate
    if has_clock:
        faults += _ends_early(path, container, stream, (end - int(times[0])) * unit_s + 1 / rate)
    # AVI holds the times of decoding only: where frames are reordered, they come out by count
    counted = not has_clock or (container.format.name == "avi" and stream.codec_context.has_b_frames)
    if counted:
        times, keys = np.arange(len(times_s)), np.array([0])
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
        num_frames=len(times_s),
        licence=licence,
    )
    return PacketIndex(pts=times, keys=keys, suspects=frozenset(suspects), counted=counted, info=info, times_s=times_s)


def _ends_early(path: Path, container: InputContainer, stream: av.VideoStream, end_s: float) -> list[str]:
    """What is wrong if the packets end before the header says. Where only the whole file has a length, sound may be longer."""
    own_s = float((stream.duration or 0) * (stream.time_base or 1))
    announced_s = own_s or (container.duration or 0) / 1e6
    slack_s = 0.25 + 0.01 * announced_s if own_s or len(container.streams) == 1 else 1 + 0.05 * announced_s
    if end_s >= announced_s - slack_s:
        return []
    return [f"{path}: ends at {end_s:.1f} s of {announced_s:.1f} s; the file may be cut short"]


def _frames_of(
    pts: Int64[np.ndarray, " p"], is_key: Int8[np.ndarray, " p"]
) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " k"]]:
    """Times of the frames in the order they are shown, and the numbers of the keyframes, the first of them 0.

    A packet without a time of its own is no frame, but the second field of one, as camcorders write them to MPEG-TS.
    """
    times, first = np.unique(pts[pts != _NO_TIME], return_index=True)
    return times, np.union1d([0], np.flatnonzero(is_key[pts != _NO_TIME][first]))


def _open(path: Path) -> tuple[InputContainer, av.VideoStream]:
    container = av.open(f"file:{path}", metadata_errors="replace")  # file: or a colon in the name reads as a protocol
    stream = container.streams.best("video")
    if not isinstance(stream, av.VideoStream) or (stream.codec_context and stream.codec_context.name in _TEXT_AS_PICTURES):
        raise ValueError("no video in it")
    if stream.codec_context is None:
        raise ValueError("a codec that is not known here")
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


def _pixel_aspect(stream: av.VideoStream) -> float:
    """Width of a pixel over its height; 1 where the stream says nothing, or what no camera records."""
    aspect = float(stream.sample_aspect_ratio or 1)
    return aspect if 1 / 4 <= aspect <= 4 else 1.0


def _seconds(packet: av.Packet) -> float:
    return float((packet.pts or 0) * (packet.time_base or 0))


def _said(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]
