"""Stereo sets: pictures of two cameras that belong together by their names. A scene's frames are left, right, left, right, ..."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import ConfigError
from .footage import Footage, Input, find_footage

WORDS = (
    ("left", "right"),
    ("l", "r"),
    ("leftimg8bit", "rightimg8bit"),  # Cityscapes
    ("image_0", "image_1"),  # KITTI, grey
    ("image_2", "image_3"),  # KITTI, colour
    ("image_00", "image_01"),  # KITTI raw
    ("image_02", "image_03"),
    ("cam0", "cam1"),  # EuRoC, TUM-VI
    ("im0", "im1"),  # Middlebury 2014
    ("im2", "im6"),  # Middlebury 2003
    ("view1", "view5"),  # Middlebury 2006
)
"""What tells the cameras apart in common sets, in lower case: in the name of a file or of a folder above it."""


@dataclass(frozen=True, kw_only=True)
class Stereo:
    """Finds left and right pictures: `left/0001.png` and `right/0001.png`, `0001_L.jpg` and `0001_R.jpg`, and so on.

    Each folder with left pictures is a scene. Pictures without a partner count as other files; videos do too.
    """

    left: str = ""
    """A word that marks left pictures, in file or folder names. Default: the usual ones (left, l, image_0, cam0, ...)."""
    right: str = ""
    """The word that right pictures have in its place."""

    def __post_init__(self) -> None:
        if bool(self.left) != bool(self.right) or (self.left and self.left == self.right):
            raise ConfigError("--source.left and --source.right are two different words, given together")

    def __call__(self, paths: Iterable[Path], list_file: Path | None = None) -> Footage:
        """The stereo scenes in files, folders and a list of them. Raises ConfigError where no picture has a partner."""
        found = find_footage(paths, list_file)
        pictures = {str(p).casefold(): p for item in found.inputs.values() if item.kind == "images" for p in item.paths}
        words = [(self.left.casefold(), self.right.casefold())] if self.left else WORDS
        scenes: dict[str, Input] = {}
        num_used = 0
        for name, item in found.inputs.items():
            if item.kind == "missing":
                scenes[name] = item
            twins = [(p, twin) for p in item.paths if (twin := _partner(p, pictures, words))] if item.kind == "images" else []
            if twins:
                interleaved = tuple(path for pair in twins for path in pair)
                source = "stereo" if item.source == item.kind else item.source
                scenes[name] = replace(item, kind="stereo", source=source, paths=interleaved)
                num_used += len(interleaved)
        if found.inputs and not pictures:
            raise ConfigError("no pictures found: a stereo set is folders of left and right pictures, or pictures named so")
        if pictures and not num_used:
            known = ", ".join(f"{a}/{b}" for a, b in words)
            raise ConfigError(
                f"none of {len(pictures)} pictures has a partner: left and right are told apart by a word in the name of a file or "
                f"folder ({known}). Give others with --source.left and --source.right"
            )
        return Footage(scenes, found.num_ignored + len(pictures) - num_used, found.num_repeated)


def _partner(path: Path, pictures: dict[str, Path], words: Iterable[tuple[str, str]]) -> Path | None:
    """The right picture of a left one."""
    name = str(path).casefold()
    return next((pictures[other] for other in _other_names(name, words) if other in pictures), None)


def _other_names(name: str, words: Iterable[tuple[str, str]]) -> Iterator[str]:
    """What the partner of a left picture may be called: with every left word in its path replaced, or any one, last first."""
    for left, right in words:
        end = r"(?!\d)" if left[-1].isdigit() else ""
        places = list(re.finditer(rf"(?<![^\W_]){re.escape(left)}(?![^\W\d_]){end}", name))
        changed = name
        for place in reversed(places):
            changed = changed[: place.start()] + right + changed[place.end() :]
        if places:
            yield changed
        for place in reversed(places):
            yield name[: place.start()] + right + name[place.end() :]
