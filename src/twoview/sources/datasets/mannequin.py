"""MannequinChallenge: clips of YouTube videos in which people stand still and the camera moves.

Layout, that of MannequinChallenge.tar (https://google.github.io/mannequinchallenge/www/download.html): `train/<clip>.txt`,
`validation/<clip>.txt`, `test/<clip>.txt`. The first line of each is the address of a YouTube video; each further one has 19
columns: the time of a frame in microseconds since the start of the video, six intrinsics, and a pose of 3 x 4. The videos are not
distributed: put those that you have into the same folder or any below it, named after their YouTube id, as `videos/<id>.mp4`
(.mkv, .webm, ...). A list whose video is not there, as many are gone from YouTube, is named in the summary, and the rest goes on.
The folder given is the one that holds train, validation and test, or the one above it.

The lists are under CC BY 4.0; the pictures are those of whoever uploaded them, which is why their licence here is none of SPDX's.

A scene is a clip: the frames of the video from the list's first time to its last. Of each the lowest fifth is cut off, as
published, and clips under 3 s are skipped, as published. The published script then pairs seconds s and s + 1:
`EverySeconds(double=False)`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...errors import UnreadableError
from ...schema import Frame, SceneInfo
from ..footage import VIDEO_EXTENSIONS, Footage, Input, named
from ..skipped import Skipped
from ..video import Video
from .roots import files_in, missing, roots

SPLITS = ("train", "validation", "test")
MIN_SECONDS = 3.0
_COLUMNS = 19
_ID = re.compile(r"(?:[?&]v=|youtu\.be/|/embed/|/v/|/shorts/)([\w-]{11})(?![\w-])")
_SLACK_S = 1e-3
"""By so much the clock of a container may be off: some count milliseconds."""


@dataclass(frozen=True, kw_only=True)
class Mannequin:
    """Finds the clips of MannequinChallenge whose videos are there. Scenes are `train/<clip>`, without the lowest fifth."""

    source = "mannequin"
    licence = "LicenseRef-YouTube"

    def __call__(self, paths: Iterable[Path], list_file: Path | None = None) -> "MannequinFootage":
        """The clips in folders. Raises ConfigError where there are no lists, or no video for any."""
        found: list[Input] = []
        for root in roots("MannequinChallenge", paths, list_file):
            base = next((b for b in (root, root / "MannequinChallenge") if any((b / split).is_dir() for split in SPLITS)), root)
            lists = [p for split in SPLITS for p in sorted((base / split).glob("*.txt")) if p.is_file()]
            if not lists:
                raise missing(root, "MannequinChallenge", "train/<clip>.txt, validation/ or test/")
            videos: dict[str, Path] = {}
            for path in files_in(root):
                if path.suffix.lower() in VIDEO_EXTENSIONS:
                    videos.setdefault(path.stem, path)
            of_list = {path: videos.get(_youtube_id(_first_line(path))) for path in lists}
            if not any(of_list.values()):
                there = [f"{p.parent.name}/{p.name}" for p in lists]
                raise missing(root, "MannequinChallenge", "videos/<YouTube id>.mp4 for any of its lists", there)
            found += [
                Input(
                    name=f"{path.parent.name}/{path.stem}",
                    kind="video" if video else "missing",
                    paths=(path, video) if video else (path,),
                    source=self.source,
                    licence=self.licence,
                    split=path.parent.name,
                )
                for path, video in of_list.items()
            ]
        footage = named(found)
        return MannequinFootage(footage.inputs, footage.num_ignored, footage.num_repeated)


@dataclass(frozen=True)
class MannequinFootage(Footage):
    """A Source over lists of clips and the videos that they are cut from."""

    def open(self, name: str, /) -> "Clip | Skipped":
        item = self.inputs[name]
        path, *video = item.paths
        address, start_s, stop_s = read_list(path)
        lasts_s = stop_s - start_s
        if lasts_s < MIN_SECONDS:
            return Skipped(
                self.about(name), f"{path}: lasts {lasts_s:.1f} s, and under {MIN_SECONDS:g} s is left out, as published"
            )
        if not video:
            wanted = path.parent.parent / "videos" / f"{_youtube_id(address)}.mp4"
            raise UnreadableError(f"{path}: its video is not there: download {address} as {wanted}, if it still exists")
        return Clip(Video(video[0], source=item.source, name=name, licence=item.licence), self.about(name), start_s, stop_s)


class Clip:
    """The frames of a video from one time to another, both included, without their lowest fifth.

    Raises UnreadableError where there are none.
    """

    def __init__(self, video: Video, about: SceneInfo, start_s: float, stop_s: float) -> None:
        """start_s, stop_s: seconds since the start of the video."""
        self.name, self.licence = about.scene, about.licence
        self._video, self._about = video, about
        self._first, stop = np.searchsorted(video.times_s, [start_s - _SLACK_S, stop_s + _SLACK_S]).tolist()
        self.times_s = video.times_s[self._first : stop]
        if not len(self.times_s):
            ends = f"{start_s:.1f} to {stop_s:.1f} s of {video.path}, which ends at {video.times_s[-1]:.1f} s"
            raise UnreadableError(f"{about.uri}: no frames from {ends}: is it another cut?")
        self.times_s = self.times_s - self.times_s[0]

    @property
    def info(self) -> SceneInfo:
        """As the video's, which is partial once a frame of it could not be read."""
        about = self._about
        return replace(self._video.info, uri=about.uri, split=about.split, num_frames=len(self))

    def __len__(self) -> int:
        return len(self.times_s)

    def __getitem__(self, index: int) -> Frame:
        if not 0 <= index < len(self):
            raise IndexError(f"{self.name} has frames 0 to {len(self) - 1}, not {index}")
        frame = self._video[self._first + index]
        height = frame.image.shape[0]
        return Frame(id=f"{self._about.source}/{self.name}/{index:06d}", image=frame.image[: height * 4 // 5])


def read_list(path: Path) -> tuple[str, float, float]:
    """The address of a clip's video, and when the clip begins and ends in it, in seconds.

    Raises UnreadableError naming the file and the line that is not as it should be.
    """
    try:
        lines = path.read_text(encoding="utf-8").rstrip().split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableError(f"{path}: {getattr(error, 'strerror', None) or 'not UTF-8 text'}") from None
    if not _youtube_id(lines[0]):
        raise UnreadableError(f"{path}, line 1: no address of a YouTube video: unpack the list again")
    times_us: list[int] = []
    for number, line in enumerate(lines[1:], 2):
        columns = line.split()
        try:
            time_us, rest = int(np.int64(columns[0])), np.array(columns[1:], float)
        except (IndexError, ValueError, OverflowError):
            raise UnreadableError(f"{path}, line {number}: not a time and numbers: unpack the list again") from None
        if len(columns) != _COLUMNS or not np.isfinite(rest).all():
            raise UnreadableError(f"{path}, line {number}: not {_COLUMNS} numbers, but {len(columns)}: unpack the list again")
        if time_us < (times_us[-1] if times_us else 0):
            raise UnreadableError(f"{path}, line {number}: its time lies before that of the line above: unpack the list again")
        times_us.append(time_us)
    if not times_us:
        raise UnreadableError(f"{path}: no frames in it: unpack the list again")
    return lines[0].strip(), times_us[0] / 1e6, times_us[-1] / 1e6


def _first_line(path: Path) -> str:
    """'' where it cannot be read: that is told when the clip is opened."""
    try:
        with path.open("rb") as file:
            return file.readline(4096).decode("utf-8", "replace")
    except OSError:
        return ""


def _youtube_id(address: str) -> str:
    """'' where there is none."""
    known = _ID.search(address)
    return known[1] if known else ""
