"""Where to cut two frames so that both pictures show what they share, at one scale: crops by content, as CroCo v2 had them."""

import cv2
import numpy as np
from jaxtyping import Float64

from ..geometry import lattice
from ..schema import Match
from .views import Window

SIDES = (1.0, 0.85, 0.7, 0.6, 0.5)
"""Sides of windows that are tried, over the largest that there is room for; the largest that serves is taken."""
PLACES = 5
"""Places of a window along each axis of its frame."""
NEAR = 0.05
"""A window serves where the predicted overlap is so near the middle of the band."""
MIN_POINTS, MIN_INSIDE = 8, 0.3
"""Fewer matched points say nothing; and both windows together should hold this share of them."""
_LATTICE = np.stack([axis.ravel() for axis in np.meshgrid(*[lattice(1, 8, 1) + 0.5] * 2)], axis=1)
"""8 x 8 points of a window, in its sides from its upper left corner."""


def covisible_windows(
    match: Match, size_a: tuple[int, int], size_b: tuple[int, int], smallest_px: int, overlap: tuple[float, float]
) -> tuple[Window, Window] | None:
    """A square window in each frame that show about as much of the same as the middle of the band says, at one scale.

    Frames are not cut apart: where their centres share more than that, the windows share as much. Two cuts of what is nearly one
    picture would be in the band, and show no other view of anything.

    match: of the whole frames; sizes: width and height in px; smallest_px: no window is smaller, but for a smaller frame.
    None where too few points were matched to tell. What the pictures share in the end is for the estimator to say.
    """
    points = np.empty((0, 4), np.float32) if match.points is None else match.points * np.array([*size_a, *size_b], np.float32)
    if len(points) < MIN_POINTS:
        return None
    here, there = (np.ascontiguousarray(half) for half in np.hsplit(points, 2))
    to_b, _ = cv2.estimateAffinePartial2D(here, there, method=cv2.RANSAC, ransacReprojThreshold=0.03 * max(size_b))
    if to_b is None or not 1e-3 < (scale := float(np.sqrt(abs(np.linalg.det(to_b[:, :2]))))) < 1e3:
        return None
    to_b = np.vstack([to_b, [0, 0, 1]])
    points, back = points[:: 1 + len(points) // 64], np.linalg.inv(to_b)
    centre_a, centre_b = (np.array([[(w - min(w, h)) / 2, (h - min(w, h)) / 2, min(w, h)]]) for w, h in (size_a, size_b))
    alike = min(_seen(centre_a, centre_b, to_b)[0, 0], _seen(centre_b, centre_a, back)[0, 0])
    wanted = max(sum(overlap) / 2, alike)
    largest = min(min(size_a), min(size_b) / scale)
    best, best_off = None, np.inf
    for share in SIDES:
        a, b = (
            _places(size, float(np.clip(side, min(smallest_px, *size), min(size))))
            for size, side in ((size_a, share * largest), (size_b, share * largest * scale))
        )
        held = _inside(points[None, :, :2], a)[:, 0, None] & _inside(points[None, :, 2:], b)[:, 0][None]
        seen = np.minimum(_seen(a, b, to_b), _seen(b, a, back).T)
        off = np.abs(seen - wanted) + np.maximum(MIN_INSIDE - held.mean(-1), 0)
        i, j = np.unravel_index(off.argmin(), off.shape)
        if off[i, j] < best_off:
            best, best_off = (_window(a[i], size_a), _window(b[j], size_b)), off[i, j]
        if best_off <= NEAR:
            break
    return best


def _places(size: tuple[int, int], side: float) -> Float64[np.ndarray, "n 3"]:
    """Windows of a side spread over a frame: left, top and side in px."""
    left, top = np.meshgrid(*(np.linspace(0, length - side, PLACES if length > side + 1 else 1) for length in size))
    return np.stack([left.ravel(), top.ravel(), np.full(left.size, side)], axis=1)


def _inside(points: Float64[np.ndarray, "m p 2"], windows: Float64[np.ndarray, "n 3"]) -> np.ndarray:
    """Which points lie in which window. [N, M, P]"""
    place = points[None] - windows[:, None, None, :2]
    return np.all((place >= 0) & (place < windows[:, None, None, 2:]), axis=-1)


def _seen(a: Float64[np.ndarray, "n 3"], b: Float64[np.ndarray, "m 3"], to_b: Float64[np.ndarray, "3 3"]) -> np.ndarray:
    """The share of each window of a that each of b shows. [N, M]"""
    points = a[:, None, :2] + a[:, None, 2:] * _LATTICE
    return _inside(points @ to_b[:2, :2].T + to_b[:2, 2], b).mean(-1).T


def _window(place: Float64[np.ndarray, " 3"], size: tuple[int, int]) -> Window:
    """In whole pixels, inside the frame."""
    side = min(round(place[2]), *size)
    x, y = (min(round(start), length - side) for start, length in zip(place[:2], size, strict=True))
    return x, y, x + side, y + side
