"""Which pairs of a scene are worth measuring, from times and indices alone."""

from collections.abc import Iterator
from dataclasses import dataclass

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
    """Try twice the interval where a pair overlaps too much."""

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
    """Try twice the step where a pair overlaps too much."""

    def __post_init__(self) -> None:
        if self.step < 1:
            raise ConfigError(f"--propose.step is {self.step}: give a whole number from 1")

    def __call__(self, scene: Scene, /) -> Iterator[Group]:
        yield from _neighbours(np.arange(0, len(scene), self.step), self.double)


def _neighbours(frames: Int64[np.ndarray, " n"], double: bool) -> Iterator[Group]:
    indices = frames.tolist()
    for k in range(len(indices) - 1):
        pairs = [(indices[k], indices[k + 1])]
        if double and k + 2 < len(indices):
            pairs.append((indices[k], indices[k + 2]))
        yield Group(tuple(pairs), first_fit=double)
