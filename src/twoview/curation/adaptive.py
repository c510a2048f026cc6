"""Pairs that share about as much as is wanted, found by following the camera: small steps on small grey pictures, added up."""

import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from jaxtyping import Float64, UInt8

from ..errors import ConfigError
from ..geometry import lattice
from ..schema import Group, Pair, Scene
from .propose import Look

SMALL_PX = 64
"""Shorter side of the pictures that the camera is followed on."""
WINDOW_S = 15.0
"""The plan cuts no slice shorter than about this: anchors near its end look on past it, so that frames there are read twice."""
STEP, MAX_STEP_S = 0.05, 0.2
"""Steps from frame to frame aim at losing this share of the picture, and take no longer than this."""
MOST_FIT = 4
"""Anchors on the way to a partner, at most: nearer ones would show much the same."""
EARLY, LATE = 1.3, 0.9
"""How evenly anchors are spread: a frame that is described anyway, as a partner, is one so much earlier, others so much later."""
NEAR = 0.03
"""A frame that is described anyway serves every anchor that is predicted to share so nearly what is wanted."""
LEARN, LEARN_UNFOUND = 0.15, 0.1
"""Weight of the last reading in what is known of how the estimator reads. One that found nothing counts as the band's lower end."""
MAX_PAUSE = 8
"""After several pairs in a row of which nothing was found, anchors are up to so many intervals apart."""
MIN_CORNERS, MIN_AGREEING = 8, 0.3
"""Fewer corners, or less of them that move alike, and the thread is lost: a cut, a blur, a bare wall."""


@dataclass(frozen=True, kw_only=True)
class Adaptive:
    """For anchors at most so often the frame that shares with each about as much as is wanted, at whatever speed the camera goes.

    Every few frames the camera's motion is read off small grey pictures as an affine map; the maps from an anchor on, added up,
    predict what it still shares. Where that is about right the pair is measured. The reading corrects what is predicted
    next, and where it is out of the band the anchor gets one more try.
    """

    seconds: float = 0.5
    """Anchors, the first frames of pairs, are at least so far apart."""
    share: float | None = None
    """What the estimator should read. Default: a quarter below the top of --overlap, as less is found of pairs that share less."""
    max_wait_s: float = 10.0
    """An anchor that finds no partner so long is given up."""
    num_views = 128  # of the anchors that wait, and of partners that may serve again

    def __post_init__(self) -> None:
        if not self.seconds > 0:
            raise ConfigError(f"--propose.seconds is {self.seconds}: give a number above 0, as 0.5")
        if self.share is not None and not 0 < self.share < 1:
            raise ConfigError(f"--propose.share is {self.share}: give a share between 0 and 1, as 0.6")
        if not self.max_wait_s > 0:
            raise ConfigError(f"--propose.max-wait-s is {self.max_wait_s}: give a number above 0, as 10")

    def times_s(self, scene: Scene) -> Float64[np.ndarray, " n"]:
        """A scene without a clock (photos) counts as one frame an interval."""
        return np.arange(len(scene)) * self.seconds if scene.times_s is None else scene.times_s

    def __call__(self, scene: Scene, /) -> Iterator[Group]:
        """For the plan: the most candidates there may be, two an anchor, in groups of WINDOW_S."""
        if len(scene) < 2:
            return
        times_s, last = self.times_s(scene), len(scene) - 1
        starts = np.unique(np.searchsorted(times_s, np.arange(0.0, times_s[-1], self.seconds) - 1e-3))
        for window in np.split(starts, np.flatnonzero(np.diff(times_s[starts] // WINDOW_S)) + 1):
            pairs = [(i, min(i + k, last)) for i in window.tolist() for k in (1, 2)]
            yield Group(tuple(dict.fromkeys(pair for pair in pairs if pair[0] < pair[1])))

    def follow(self, look: Look) -> Generator[Group, Sequence[Pair], None]:
        """One candidate after the other, as the camera is followed on from the first frame of the slice."""
        times_s, (low, high) = self.times_s(look.scene), look.overlap
        gap_s, last_s = self._spacing_s(look, times_s)
        camera, course = _Camera(), _Course(lowest=low, highest=high, wanted=self.share or high - (high - low) / 4)
        at, before, stride, anchored_s = look.start, look.start, 1, -math.inf
        while at < len(times_s) and (at < look.stop or course.anchors):
            now_s, picture = float(times_s[at]), look.small(at, SMALL_PX)
            if picture is not None:
                lost = camera.go(picture)
                if lost is None:
                    if now_s - times_s[before] > MAX_STEP_S:  # too far apart to follow: only the estimator can tell
                        for here in [a.index for a in course.anchors if a.index == before]:
                            yield Group(((here, at),))
                    course.drop(math.inf)
                course.drop(now_s - self.max_wait_s)
                for anchor, partner in course.arrive(at, camera.place):
                    course.learn(anchor, partner, (yield Group(((anchor.index, partner),))))
                waited = (now_s - anchored_s + 1e-3) / gap_s
                if at < look.stop and now_s <= last_s and waited >= 1 and course.wants_anchor(waited):
                    look.hold(at)
                    course.open(now_s)
                    anchored_s = now_s
                before, stride = at, 1 if lost is None else max(1, round(stride * min(2.0, STEP / max(lost, 1e-9))))
            soon = int(np.searchsorted(times_s, now_s + MAX_STEP_S, "right")) - 1
            at += max(1, min(stride, soon - at))

    def _spacing_s(self, look: Look, times_s: Float64[np.ndarray, " n"]) -> tuple[float, float]:
        """Least time between anchors, and the last moment for one: an interval before the next slice, which begins with one."""
        if look.most == 0 or len(times_s) < 2:
            return self.seconds, -math.inf
        end_s = float(times_s[min(look.stop, len(times_s) - 1)])
        gap_s = self.seconds if look.most is None else max(self.seconds, (end_s - times_s[look.start]) / look.most)
        return gap_s, math.inf if look.stop >= len(times_s) else end_s - gap_s + 1e-3


@dataclass(kw_only=True, eq=False)
class _Anchor:
    """A frame that waits for its partner."""

    index: int
    time_s: float
    place: Float64[np.ndarray, "3 3"]
    left: float = 1.0
    """What it is predicted to share with the last frame."""
    step: float = 0.0
    """What it lost of that in the last step."""
    bend: float | None = None
    """What the estimator found lost of it, over what was predicted; None before it was measured."""


@dataclass(kw_only=True, eq=False)
class _Course:
    """The anchors that wait, and what was learnt on the way."""

    lowest: float
    highest: float
    wanted: float
    bend: float = 1.0
    """Of the readings lately."""
    at: int = -1
    place: Float64[np.ndarray, "3 3"] = field(default_factory=lambda: np.eye(3))
    """Of the frame that is looked at."""
    anchors: list[_Anchor] = field(default_factory=list)
    misses: int = 0
    """Pairs in a row of which nothing was found."""
    last: Float64[np.ndarray, "3 3"] = field(default_factory=lambda: np.eye(3))
    """Where the last anchor is."""
    partners: dict[int, Float64[np.ndarray, "3 3"]] = field(default_factory=dict)
    """Places of frames that are described."""

    def open(self, time_s: float) -> None:
        self.anchors.append(_Anchor(index=self.at, time_s=time_s, place=self.place))
        self.last = self.place

    def drop(self, before_s: float) -> None:
        """Forget anchors of an earlier time, and partners that are of no use to the others."""
        self.anchors = [a for a in self.anchors if a.time_s > before_s]
        first = min((a.index for a in self.anchors), default=math.inf)
        self.partners = {i: place for i, place in self.partners.items() if i > first}

    def expected(self, anchor: _Anchor, left: float) -> float:
        """What the estimator will read where so much is predicted to be left."""
        return 1 - (anchor.bend or self.bend) * (1 - left)

    def arrive(self, at: int, place: Float64[np.ndarray, "3 3"]) -> Iterator[tuple[_Anchor, int]]:
        """The candidates at a frame: anchors that share about what is wanted; after one that shares too little a nearer frame."""
        self.at, self.place = at, place
        for anchor in self.anchors:
            left = shared(anchor.place, place)
            anchor.left, anchor.step = left, anchor.left - left
        due = [a for a in self.anchors if self.expected(a, a.left - max(a.step, 0) / 2) <= self.wanted]
        near = [a for a in self.anchors if due and abs(self.expected(a, a.left) - self.wanted) <= NEAR]
        for anchor in dict.fromkeys([*due, *near]):
            if self.expected(anchor, anchor.left) >= self.lowest - NEAR:
                self.partners[at] = place
                yield anchor, at
            if anchor in self.anchors and self.expected(anchor, anchor.left) <= self.wanted:
                again = self._nearer(anchor, at)
                if again is not None:
                    yield anchor, again
                if anchor in self.anchors:
                    self.anchors.remove(anchor)

    def _nearer(self, anchor: _Anchor, at: int) -> int | None:
        """Of the described frames between an anchor and this one, the one that shares most nearly what is wanted."""
        off = {i: abs(self.expected(anchor, shared(anchor.place, p)) - self.wanted) for i, p in self.partners.items()}
        best = min((i for i in off if anchor.index < i < at), key=lambda i: off[i], default=None)
        return best if best is not None and off[best] <= NEAR else None

    def learn(self, anchor: _Anchor, partner: int, pairs: Sequence[Pair]) -> None:
        """Take in what was measured: an anchor waits on only after a first reading outside the band."""
        match = pairs[-1].match if pairs else None
        reading = match.overlap if match and match.found else None
        self.misses = self.misses + 1 if reading is None else 0
        predicted = max(1 - shared(anchor.place, self.partners[partner]), 0.02)
        bend = float(np.clip((1 - (self.lowest if reading is None else reading)) / predicted, 0.4, 2.5))
        if match is not None:
            self.bend += (LEARN_UNFOUND if reading is None else LEARN) * (bend - self.bend)
        if anchor.bend is not None or reading is None or self.lowest <= reading <= self.highest:
            self.anchors.remove(anchor)
        else:
            anchor.bend = bend

    def wants_anchor(self, waited: float) -> bool:
        """Whether a pair may begin here, `waited` intervals after the last.

        The camera's speed says how many anchors fit on the way to a partner; spread evenly, each is a partner of another too.
        """
        waited /= min(2 ** max(self.misses - 1, 0), MAX_PAUSE)
        if waited < 1 or not self.anchors:
            return waited >= 1
        ways = (1 - self.wanted) / self.bend / max(1 - shared(self.last, self.place), 1e-6)
        fit = min(int(waited * ways), MOST_FIT)
        return ways <= fit * (EARLY if self.at in self.partners else LATE)


class _Camera:
    """Where the camera looks, as an affine map from where it began, in sides of the picture from its middle."""

    def __init__(self) -> None:
        self.place: Float64[np.ndarray, "3 3"] = np.eye(3)
        self._last: UInt8[np.ndarray, "h w"] | None = None

    def go(self, picture: UInt8[np.ndarray, "h w"]) -> float | None:
        """The share of the last picture that this one has lost; None where the thread is lost, and it begins anew."""
        last, self._last = self._last, picture
        if last is None or last.shape != picture.shape:
            return None
        step = affine_step(last, picture)
        if step is None:
            return None
        self.place = step @ self.place
        return 1 - shared(np.eye(3), step)


def affine_step(a: UInt8[np.ndarray, "h w"], b: UInt8[np.ndarray, "h w"]) -> Float64[np.ndarray, "3 3"] | None:
    """The affine map that a's corners follow to b, in sides of the picture from its middle; None if too few do."""
    corners = cv2.goodFeaturesToTrack(a, 100, 0.01, 4)
    if corners is None or len(corners) < MIN_CORNERS:
        return None
    moved, found, _ = cv2.calcOpticalFlowPyrLK(a, b, corners, None, winSize=(9, 9), maxLevel=3)  # pyright: ignore
    tracked = found.ravel() > 0
    if tracked.sum() < MIN_CORNERS:
        return None
    size = np.array(a.shape[::-1], np.float32)
    here, there = ((points[tracked] + 0.5) / size - 0.5 for points in (corners, moved))
    step, agrees = cv2.estimateAffine2D(here, there, method=cv2.RANSAC, ransacReprojThreshold=0.02, maxIters=100)
    if step is None or agrees.sum() < max(MIN_CORNERS, MIN_AGREEING * len(corners)):
        return None
    return np.vstack([step, [0, 0, 1]])


_LATTICE = np.stack([*(axis.ravel() for axis in np.meshgrid(*[lattice(1, 16, 1)] * 2)), np.ones(256)])
"""16 x 16 points of a picture; the middle is 0, the sides are 1 long. [3, 256]"""


def shared(a: Float64[np.ndarray, "3 3"], b: Float64[np.ndarray, "3 3"]) -> float:
    """What pictures at two places share, the smaller direction."""
    there = b @ np.linalg.inv(a)
    ways = (there, np.linalg.inv(there))
    return min(float((np.abs((way @ _LATTICE)[:2]) < 0.5).all(0).mean()) for way in ways)
