"""Which pairs of a scene are worth measuring, from times and indices alone."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from jaxtyping import Int64

from ..errors import ConfigError
from ..schema import Group, Scene


@dataclass(frozen=True, kw_only=True)
class EverySeconds:
    """Neighbours in a list of frames at regular intervals (section 3 of the paper).

    Where a pair overlaps too much, the frame one interval further on is tried instead, once, as the published script does
    for ARKitScenes. A scene without a clock (photos) counts as one frame an interval.
    """

    seconds: float = 1.0
    """Interval between the frames that are paired."""
    double: bool = True
    """Where a pair overlaps too much, twice the interval is tried. The flag turns it off or on."""

    def __post_init__(self) -> None:
        if not self.seconds > 0:
            raise ConfigError(f"--propose.seconds is {self.seconds}: give a number above 0, as 1.0")

    def frames(self, scene: Scene) -> Int64[np.ndarray, " n"]:
        """Indices of the frames: for each multiple of the interval the first that is shown then or later."""
        if scene.times_s is None or len(scene) == 0:
            return np.arange(len(scene))
        ticks = np.arange(0.0, scene.times_s[-1] + 1e-3, self.seconds)
        return np.unique(np.searchsorted(scene.times_s, ticks - 1e-3))

    def __call__(self, scene: Scene, /) -> Iterator[Group]:
        yield from _neighbours(self.frames(scene), self.double)


@dataclass(frozen=True, kw_only=True)
class Consecutive:
    """Neighbours in a list of every `step`-th frame."""

    step: int = 1
    """Frames from one to the next."""
    double: bool = False
    """Where a pair overlaps too much, twice the step is tried. The flag turns it off or on."""

    def __post_init__(self) -> None:
        if self.step < 1:
            raise ConfigError(f"--propose.step is {self.step}: give a whole number from 1")

    def __call__(self, scene: Scene, /) -> Iterator[Group]:
        yield from _neighbours(np.arange(0, len(scene), self.step), self.double)


@dataclass(frozen=True, kw_only=True)
class BestOfWindow:
    """From each window of frames the pair that shares least and still enough (the published sampling of ScanNet).

    Windows of 60 frames follow each other. View a is one of a window's first 10 frames, view b one of its frames 49 to 58: 100
    candidates from 20 views. Of those in the band the one of lowest overlap is kept. What is left after the last whole window
    gives no pair.
    """

    window: int = 60
    """Frames in a window."""
    candidates: int = 10
    """Frames at the start, and before the last of the window, that are tried."""
    step: int = 1
    """Only every step-th frame counts."""

    def __post_init__(self) -> None:
        if self.step < 1 or self.candidates < 1:
            raise ConfigError("--propose.step and --propose.candidates are whole numbers from 1")
        if self.window < 2 * self.candidates + 1:
            least = 2 * self.candidates + 1
            raise ConfigError(f"--propose.window is {self.window}: with {self.candidates} candidates a side it goes from {least}")

    def __call__(self, scene: Scene, /) -> Iterator[Group]:
        last = self.window - 1
        for start in range(0, len(scene) - last * self.step, self.window * self.step):
            first = range(start, start + self.candidates * self.step, self.step)
            second = range(start + (last - self.candidates) * self.step, start + last * self.step, self.step)
            yield Group(tuple((i, j) for i in first for j in second))


@dataclass(frozen=True, kw_only=True)
class AllPairs:
    """Every frame with every later one: small sets of photos of one place (the published sampling of 3DStreetView and DeMoN)."""

    keep: Literal["all", "lowest"] = "all"
    """all: every pair in the band; lowest: of each scene the one in the band that shares least."""
    num_views = 512
    """So many views are kept in memory; in larger scenes they are described more than once."""

    def __call__(self, scene: Scene, /) -> Iterator[Group]:
        pairs = combinations(range(len(scene)), 2)
        if self.keep == "all":
            yield from (Group((pair,)) for pair in pairs)
        elif len(scene) > 1:
            yield Group(tuple(pairs))


@dataclass(frozen=True, kw_only=True)
class Twins:
    """Frames 0 and 1, 2 and 3, ...: the two views of a stereo camera, as sources/stereo.py orders them."""

    def __call__(self, scene: Scene, /) -> Iterator[Group]:
        yield from (Group(((i, i + 1),)) for i in range(0, len(scene) - 1, 2))


@dataclass(frozen=True, kw_only=True)
class AlongWalks:
    """What the walks through a 3D scene lay out themselves: see sources/scene.py."""

    def __call__(self, scene: Scene, /) -> Iterable[Group]:
        groups = getattr(scene, "groups", None)
        if groups is None:
            raise ConfigError(f"{scene.name} is no walk through a 3D scene: this recipe is for .glb, .gltf, .ply and .obj files")
        return groups()


def _neighbours(frames: Int64[np.ndarray, " n"], double: bool) -> Iterator[Group]:
    indices = frames.tolist()
    for k in range(len(indices) - 1):
        pairs = [(indices[k], indices[k + 1])]
        if double and k + 2 < len(indices):
            pairs.append((indices[k], indices[k + 2]))
        yield Group(tuple(pairs), first_fit=double)
