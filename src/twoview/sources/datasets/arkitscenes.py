"""ARKitScenes: videos of indoor scans by an iPad, turned upright as the dataset's own table says.

Layout, that of `download_data.py raw` (https://github.com/apple/ARKitScenes, DATA.md and raw/README.md), which also is where to
get the data: `raw/metadata.csv`, with a line for each video (video_id, visit_id, sky_direction, fold, ...), and
`raw/Training/<video_id>/<video_id>.mov`, `raw/Validation/...`. Of the raw assets `mov` is enough. The folder given is the
download folder, `raw`, or another that holds metadata.csv and Training or Validation. The licence is Apple's own, in that
repository.

Which way up: the pictures of ARKitScenes are stored as the sensor lies, 4:3 across, however the iPad was held, and
`sky_direction` says at which edge of them the sky is: Up, Left, Right, Down. What is at the left edge comes to the top by a
quarter clockwise; so turns Apple's own loader (depth_upsampling/dataset.py). As this speaks of stored pixels, a display matrix in
the .mov is left aside: to follow both would turn twice. The turn is wrong where the table is, which users report of some videos,
and while the iPad was held otherwise than for most of a scan. Both views of a pair then lie on the same side; what they share is
measured all the same.

Other than the published script: it turns by a list made by hand and skips videos that are not in it; here those are skipped that
have no direction (NA, or no line). Videos under 5 s are skipped by both. It pairs seconds s and s + 1, s and s + 2 where those
overlap too much, and goes on a second later where it kept the latter: `EverySeconds` does the same, but for that last step.
"""

import csv
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from ...errors import ConfigError
from ..footage import Footage, Input, named
from ..images import natural_key
from ..skipped import Skipped
from ..video import Video
from .roots import missing, roots

SPLITS = ("Training", "Validation")
MIN_SECONDS = 5.0
UPRIGHT: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "Up": partial(np.rot90, k=0),
    "Left": partial(np.rot90, k=-1),  # clockwise
    "Right": partial(np.rot90, k=1),
    "Down": partial(np.rot90, k=2),
}
"""By sky direction: what brings that edge of a stored picture to the top."""


@dataclass(frozen=True, kw_only=True)
class ArkitScenes:
    """Finds the videos of ARKitScenes' raw data. Scenes are `Training/41069021`, upright by metadata.csv."""

    source = "arkitscenes"
    licence = "LicenseRef-ARKitScenes"

    def __call__(self, paths: Iterable[Path], list_file: Path | None = None) -> "ArkitFootage":
        """The videos in folders. Raises ConfigError for a folder that is not laid out as the dataset is."""
        found: list[Input] = []
        sky: dict[Path, str] = {}
        num_ignored = 0
        for root in roots("ARKitScenes", paths, list_file):
            base = next((b for b in (root, root / "raw") if any((b / split).is_dir() for split in SPLITS)), None)
            if base is None:
                raise missing(root, "ARKitScenes", "raw/Training/<video_id>/<video_id>.mov")
            folders = [f for split in SPLITS for f in sorted((base / split).glob("*/"), key=natural_key)]
            videos = [f / f"{f.name}.mov" for f in folders if (f / f"{f.name}.mov").is_file()]
            if not videos:
                there = [f"{f.parent.name}/{f.name}" for f in folders]
                raise missing(base, "ARKitScenes", "Training/<video_id>/<video_id>.mov (asset mov)", there)
            table = base / "metadata.csv"
            if not table.is_file():
                raise missing(base, "ARKitScenes", "metadata.csv", [f"{v.parent.parent.name}/{v.stem}/{v.name}" for v in videos])
            directions = read_directions(table)
            num_ignored += len(folders) - len(videos)
            sky |= {video: directions.get(video.stem, "") for video in videos}
            found += [
                Input(
                    name=f"{video.parent.parent.name}/{video.stem}",
                    kind="video",
                    paths=(video,),
                    beside=((table,),),  # with another table the same video may give other pictures
                    source=self.source,
                    licence=self.licence,
                    split=video.parent.parent.name,
                )
                for video in videos
            ]
        footage = named(found, num_ignored)
        return ArkitFootage(footage.inputs, footage.num_ignored, footage.num_repeated, sky=sky)


@dataclass(frozen=True)
class ArkitFootage(Footage):
    """A Source over ARKitScenes."""

    sky: dict[Path, str] = field(default_factory=dict)
    """The sky direction of each video, '' where there is none."""

    def open(self, name: str, /) -> Video | Skipped:
        item = self.inputs[name]
        path, direction = item.paths[0], self.sky[item.paths[0]]
        if direction not in UPRIGHT:
            said = f"sky_direction {direction} in {item.beside[0][0]}" if direction else f"no sky_direction in {item.beside[0][0]}"
            return Skipped(self.about(name), f"{path}: {said}: which way is up is not known")
        video = Video(path, source=item.source, name=name, licence=item.licence, upright=UPRIGHT[direction])
        video.info = replace(video.info, split=item.split)
        lasts_s = float(video.times_s[-1]) + 1 / (video.info.fps or 60)
        if lasts_s < MIN_SECONDS - 1e-3:
            return Skipped(
                self.about(name), f"{path}: lasts {lasts_s:.1f} s, and under {MIN_SECONDS:g} s is left out, as published"
            )
        return video


def read_directions(path: Path) -> dict[str, str]:
    """The sky direction of each video of metadata.csv by its id, as it stands there. Raises ConfigError naming the file."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.DictReader(file)
            wanted = {"video_id", "sky_direction"} - set(lines.fieldnames or ())
            if wanted:
                raise ConfigError(f"{path}: no column {' and '.join(sorted(wanted))} in its first line: download it again")
            return {(line["video_id"] or "").strip(): (line["sky_direction"] or "").strip() for line in lines}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = getattr(error, "strerror", None) or f"not a table of comma-separated text ({error})"
        raise ConfigError(f"{path}: {why}: download it again") from None
