"""Which pairs of a scene are worth measuring: from times and indices alone, but for adaptive.py."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import numpy as np
from jaxtyping import Int64, UInt8

from ..errors import ConfigError
from ..schema import Group, Pair, Proposer, Scene, iter_groups


@dataclass(frozen=True, kw_only=True)
class Look:
    """What a proposer that looks at pixels is given: a slice of a scene. Groups begin with a frame of [start, stop)."""

    scene: Scene
    start: int
    stop: int
    overlap: tuple[float, float]
    """The run's band."""
    small: Callable[[int, int], UInt8[np.ndarray, "h w"] | None]
    """A frame's number and a shorter side in px to its picture, so small and grey; None where it cannot be read."""
    hold: Callable[[int], object]
    """Make the view of the frame that was looked at last, for a pair that comes later: others are decoded once more."""
    most: int | None = None
    """Groups of this slice that --max-pairs-per-scene leaves."""


def groups_of(
    propose: Proposer, look: Look, most: int | None, num_groups: int
) -> Iterator[tuple[str, Group, Callable[[Pair], object]]]:
    """The groups whose first frame lies in the slice, each with a name and with what is to be told of its pairs.

    most: groups of the whole scene to measure, spread evenly over it; num_groups: how many there are, as the plan counted.
    """
    if hasattr(propose, "follow"):
        num_frames = max(1, len(look.scene))
        share = None if most is None else most * look.stop // num_frames - most * look.start // num_frames
        for group, tell in _followed(propose, replace(look, most=share)):
            yield f"{group.pairs[0][0]:06d}", group, tell  # more of the same frame are further tries
        return
    same: Counter[int] = Counter()
    num_groups = max(1, num_groups)
    for k, group in enumerate(iter_groups(propose(look.scene))):
        if not group.pairs or not look.start <= group.pairs[0][0] < look.stop:
            continue
        first = group.pairs[0][0]
        more = f".{same[first]}" if same[first] else ""
        same[first] += 1
        if most is None or (k + 1) * most // num_groups > k * most // num_groups:
            yield f"{first:06d}{more}", group, lambda pair: None


def _followed(propose: Proposer, look: Look) -> Iterator[tuple[Group, Callable[[Pair], object]]]:
    """The groups of a proposer that looks at the frames; it learns what was measured of one before it gives the next."""
    groups = propose.follow(look)  # pyright: ignore[reportAttributeAccessIssue]
    told: list[Pair] | None = None
    while True:
        try:
            (group,) = iter_groups([groups.send(told)])
        except StopIteration:
            return
        told = []
        if group.pairs and not look.start <= group.pairs[0][0] < look.stop:  # it would be in another slice too
            who, first = type(propose).__name__, group.pairs[0][0]
            raise ConfigError(f"{who} proposes frame {first}, where frames {look.start} to {look.stop - 1} were asked for")
        if group.pairs:
            yield group, told.append


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
    every: int = 1
    """Of the list only every such one begins a pair: with 2 no frame is in two pairs, unless twice the step is tried."""

    def __post_init__(self) -> None:
        for name in ("step", "every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"--propose.{name} is {getattr(self, name)}: give a whole number from 1")

    def __call__(self, scene: Scene, /) -> Iterator[Group]:
        yield from _neighbours(np.arange(0, len(scene), self.step), self.double, self.every)


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


def _neighbours(frames: Int64[np.ndarray, " n"], double: bool, every: int = 1) -> Iterator[Group]:
    indices = frames.tolist()
    for k in range(0, len(indices) - 1, every):
        pairs = [(indices[k], indices[k + 1])]
        if double and k + 2 < len(indices):
            pairs.append((indices[k], indices[k + 2]))
        yield Group(tuple(pairs), first_fit=double)
