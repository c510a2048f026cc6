"""Where every pixel of one picture goes in the other: from matches to smooth guesses, and from those to dense flow.

Both pictures are worked on at 128 x 128 px, whatever their shape: coordinates here are px of that working picture. A field is
float32 [128, 128, 2]: for each pixel of one picture its x, y in the other.
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8

from ..geometry import product, squared_distances

SIDE = 128
"""Of the working picture, in px."""
NUM_PLANES, MIN_PLANE = 3, 10
"""At most so many homographies, each with so many matches at least."""
PLANE_PX = 1.25
WINDOW = (7, 7)
"""Of the correlation of two pictures around a pixel."""
NODES = 17
"""Rows and columns of nodes at which the smooth field is fitted."""

_AXIS = np.arange(SIDE, dtype=np.float32)
HERE = np.stack(np.meshgrid(_AXIS, _AXIS), axis=-1)
"""The field of a picture onto itself."""
_ROWS, _COLUMNS = np.mgrid[:SIDE, :SIDE]

Field = Float32[np.ndarray, "s s 2"]
Map = Float32[np.ndarray, "s s"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Working:
    """A picture at the working size, with what every comparison needs of it."""

    grey: UInt8[np.ndarray, "s s"]
    mean: Map
    """Around each pixel."""
    deviation: Map
    """Standard deviation around each pixel: its texture."""


def working(image: UInt8[np.ndarray, "h w 3"]) -> Working:
    grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    mean, variance = _moments(grey.astype(np.float32))
    return Working(grey=grey, mean=mean, deviation=np.sqrt(variance))


def _moments(grey: Map) -> tuple[Map, Map]:
    mean = cv2.boxFilter(grey, -1, WINDOW)
    return mean, np.maximum(cv2.boxFilter(grey * grey, -1, WINDOW) - mean * mean, 0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Flow:
    """The best field from one picture to the other, and what speaks for it at each pixel."""

    field: Field
    smooth: Field
    """The guess from the matches alone."""
    correlation: Map
    """Of the surroundings here and there, -1 to 1; 0 outside."""
    round_trip_px: Map
    """How far a pixel comes back from where it started, there and back; at most 15."""
    brightness: Map
    """Difference of mean grey here and there."""
    cost: Map
    """By which the field was chosen among the candidates."""


def planes(matches: Float64[np.ndarray, "n 4"]) -> list[tuple[Float64[np.ndarray, "3 3"], int]]:
    """Homographies that many matches follow, the largest first, each of what the ones before have left; and how many follow.

    matches: working px.
    """
    found, left = [], np.ones(len(matches), bool)
    for _ in range(NUM_PLANES):
        if left.sum() < MIN_PLANE:
            break
        a, b = matches[left, :2], matches[left, 2:]
        h, inlier = cv2.findHomography(a, b, cv2.RANSAC, PLANE_PX, maxIters=500)
        if h is None or inlier.sum() < MIN_PLANE:
            break
        if _is_sound(h):
            found.append((h / h[2, 2], int(inlier.sum())))
        left[np.flatnonzero(left)[inlier.ravel().astype(bool)]] = False
    return found


def _is_sound(h: Float64[np.ndarray, "3 3"]) -> bool:
    """Whether a homography neither mirrors the picture nor stretches one side of it out of all proportion."""
    depth = np.array([[0, 0, 1], [SIDE - 1, 0, 1], [0, SIDE - 1, 1], [SIDE - 1, SIDE - 1, 1.0]]) @ h[2]
    return bool((depth > 0.2 * depth.max()).all() and np.linalg.det(h[:2, :2]) > 0.02)


def plane_field(h: Float64[np.ndarray, "3 3"]) -> Field:
    x, y = HERE[..., 0], HERE[..., 1]
    depth = np.maximum(h[2, 0] * x + h[2, 1] * y + h[2, 2], 1e-6)
    field = np.stack([h[0, 0] * x + h[0, 1] * y + h[0, 2], h[1, 0] * x + h[1, 1] * y + h[1, 2]], axis=-1) / depth[..., None]
    return np.clip(field, -2 * SIDE, 3 * SIDE).astype(np.float32)


def smooth_field(matches: Float64[np.ndarray, "n 4"]) -> Field:
    """The matches' own movement between and beyond them: an affine map fitted anew at each node (moving least squares)."""
    nodes = _nodes()
    a, moved = matches[:, :2], matches[:, 2:] - matches[:, :2]
    squared = squared_distances(nodes, a)
    reach = np.maximum(10.0, 0.7 * np.sqrt(squared.min(1)))[:, None]
    weight = np.exp(-squared / (2 * reach**2)) + 1e-9
    weight /= weight.sum(1, keepdims=True)
    moments = product(weight, np.hstack([a, moved, a**2, a[:, :1] * a[:, 1:], a[:, :1] * moved, a[:, 1:] * moved]))
    middle, mean = moments[:, :2], moments[:, 2:4]
    xx, yy = (moments[:, 4:6] - middle**2 + 1.0).T  # the 1 px holds it where matches are few
    xy = moments[:, 6] - middle[:, 0] * middle[:, 1]
    x_moved = moments[:, 7:9] - middle[:, :1] * mean
    y_moved = moments[:, 9:11] - middle[:, 1:] * mean
    determinant = (xx * yy - xy * xy)[:, None]
    along_x = (yy[:, None] * x_moved - xy[:, None] * y_moved) / determinant
    along_y = (xx[:, None] * y_moved - xy[:, None] * x_moved) / determinant
    off = nodes - middle
    at_nodes = (nodes + mean + along_x * off[:, :1] + along_y * off[:, 1:]).reshape(NODES, NODES, 2).astype(np.float32)
    between = np.linspace(0, NODES - 1, SIDE, dtype=np.float32)
    return cv2.remap(at_nodes, *np.meshgrid(between, between), cv2.INTER_LINEAR)


@lru_cache(maxsize=1)
def _nodes() -> Float64[np.ndarray, "k 2"]:
    axis = np.linspace(0, SIDE - 1, NODES)
    return np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)


def flows(a: Working, b: Working, matches: Float64[np.ndarray, "n 4"], homographies: list) -> tuple[Flow, Flow]:
    """From a to b and from b to a. Each guess (the smooth field, each plane) is refined by optical flow; a pixel takes the best.

    matches: working px.
    """
    smooth = smooth_field(matches), smooth_field(matches[:, [2, 3, 0, 1]])
    guesses = [smooth, *((plane_field(h), plane_field(_inverse(h))) for h in homographies)]
    refined = [(_refined(a, b, there), _refined(b, a, back)) for there, back in guesses]
    both = [*refined, smooth]
    return _best(a, b, both), _best(b, a, [(back, there) for there, back in both])


def _inverse(h: Float64[np.ndarray, "3 3"]) -> Float64[np.ndarray, "3 3"]:
    back = np.linalg.inv(h)
    return back / back[2, 2]


def follow(image: np.ndarray, field: Field) -> np.ndarray:
    """The other picture, or a map of it, pulled back to this one."""
    return cv2.remap(image, field[..., 0], field[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _refined(a: Working, b: Working, field: Field) -> Field:
    moved = _optical_flow().calc(a.grey, follow(b.grey, field), None)  # pyright: ignore
    return follow(field, HERE + moved)


@lru_cache(maxsize=1)
def _optical_flow() -> cv2.DISOpticalFlow:
    """Dense inverse search (Kroeger 2016), fast preset, down to half the working picture."""
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    flow.setFinestScale(1)
    return flow


def _best(a: Working, b: Working, candidates: list[tuple[Field, Field]]) -> Flow:
    """At each pixel the candidate that looks alike there and comes back to where it started."""
    seen = [_seen(a, b, there, back) for there, back in candidates]
    choice = np.argmin([cost for *_, cost in seen], axis=0)

    def chosen(maps: list) -> np.ndarray:
        return np.stack(maps)[choice, _ROWS, _COLUMNS]

    correlation, round_trip, brightness, cost = (chosen(list(maps)) for maps in zip(*seen, strict=True))
    return Flow(
        field=chosen([there for there, _ in candidates]),
        smooth=candidates[-1][0],
        correlation=correlation,
        round_trip_px=round_trip,
        brightness=brightness,
        cost=cost,
    )


def _seen(a: Working, b: Working, there: Field, back: Field) -> tuple[Map, Map, Map, Map]:
    """Correlation, round trip, difference of brightness and cost of one candidate."""
    inside = _is_inside(there)
    off = follow(back, there) - HERE
    round_trip = np.where(inside, np.minimum(np.hypot(off[..., 0], off[..., 1]), 15), 8).astype(np.float32)
    other = follow(b.grey, there).astype(np.float32)
    mean, variance = _moments(other)
    covariance = cv2.boxFilter(other * a.grey, -1, WINDOW) - mean * a.mean
    correlation = np.where(inside, (covariance + 4) / (np.sqrt(variance) * a.deviation + 8), 0).astype(np.float32)
    brightness = np.where(inside, np.abs(mean - a.mean), 0).astype(np.float32)
    cost = cv2.boxFilter(1 - correlation + np.minimum(round_trip, 4) / 4, -1, (5, 5))
    return correlation, round_trip, brightness, cost


def _is_inside(at: Float32[np.ndarray, "... 2"]) -> Bool[np.ndarray, "..."]:
    return np.all((at > -0.5) & (at < SIDE - 0.5), axis=-1)
