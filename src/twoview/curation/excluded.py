"""What of two pictures is not the scene and must not vote: bars at the borders, and what was laid over the pictures."""

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

from .motion import REFERENCE_PX, Relation

DARK, FLAT = 32, 4.0
"""A bar's mean level at most, of 255, and how much its pixels may differ from each other: codecs leave noise even in black."""
MIN_STEP, MIN_EDGE = 8.0, 0.3
"""A bar ends where this share of a line becomes lighter by so much within two lines, or it is the scene's own dark."""
MIN_BAR = 0.02
"""Of the picture's side: thinner ones are a codec's or a scanner's edge."""
MOST = 0.45
SURE, SAME, OTHER = 0.85, 0.6, 0.4
"""Correlation of an overlay with itself, at least, somewhere and everywhere (between letters the scene shines through), and with
what should be there, at most."""
MIN_CONTRAST = 12.0
"""Of a corner, in levels: a blank wall is the same everywhere."""
WINDOW_PX = 9
MIN_MOVED_PX = 3.0


def bars(image: UInt8[np.ndarray, "h w 3"]) -> Bool[np.ndarray, "h w"]:
    """Dark uniform bands along the borders, as letterboxes and pillarboxes have."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    mask = np.zeros(grey.shape, bool)
    top, bottom = _band(grey), _band(grey[::-1])
    mask[:top], mask[len(grey) - bottom :] = True, True
    inner = grey[top : len(grey) - bottom].T
    left, right = _band(inner), _band(inner[::-1])
    mask[:, :left], mask[:, len(inner) - right :] = True, True
    return mask


def _band(grey: Float32[np.ndarray, "h w"]) -> int:
    """How many of the first rows belong to a bar."""
    level, contrast = grey.mean(1), grey.std(1)
    like = (level < DARK) & (contrast < FLAT) & (np.abs(level - level[0]) < FLAT)
    num = int(like.argmin()) if not like.all() else 0
    if not MIN_BAR * len(grey) <= num <= MOST * len(grey):
        return 0
    lighter = grey[num : num + 2].max(0) > level[:num].mean() + MIN_STEP
    return num if lighter.mean() >= MIN_EDGE else 0


def overlay(a: UInt8[np.ndarray, "h w 3"], b: UInt8[np.ndarray, "h w 3"], relation: Relation) -> Bool[np.ndarray, "h w"]:
    """Logos, captions, a head-up display: textured areas that stay where they are while the scene moves. The same in both pictures.

    There b is as a is at the same place, and not as the homography would have it. Only corners count: an edge that slides along
    itself stays too. Nothing is found where nothing moves or the motion is unknown, nor where the overlay has most of the matches.
    """
    nothing = np.zeros(a.shape[:2], bool)
    h = relation.homography
    if h is None or a.shape != b.shape or relation.motion in ("still", "unknown"):
        return nothing
    unit = min(a.shape[:2]) / REFERENCE_PX
    first, second = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) for image in (a, b))
    size = first.shape[::-1]
    moved = cv2.warpPerspective(first, h, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    contrast = np.minimum(_least_contrast(first, unit), _least_contrast(second, unit))
    same, differs = _correlation(first, second, unit), _correlation(moved, second, unit) < OTHER
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    w = h[2, 0] * x + h[2, 1] * y + h[2, 2]
    shift = np.hypot((h[0, 0] * x + h[0, 1] * y + h[0, 2]) / w - x, (h[1, 0] * x + h[1, 1] * y + h[1, 2]) / w - y)
    may = (same > SAME) & differs & (contrast > MIN_CONTRAST) & (shift > MIN_MOVED_PX * unit)
    grown = cv2.dilate(may.astype(np.uint8), np.ones((_odd(WINDOW_PX * unit),) * 2, np.uint8))
    num, labels = cv2.connectedComponents(grown)
    sure = np.bincount(labels[may & (same > SURE)], minlength=num)
    return (sure >= (WINDOW_PX * unit) ** 2 / 2)[labels] & (labels > 0)


def _odd(px: float) -> int:
    return 2 * round((px - 1) / 2) + 1


def _correlation(a: Float32[np.ndarray, "h w"], b: Float32[np.ndarray, "h w"], unit: float) -> Float32[np.ndarray, "h w"]:
    """Of the windows around each pixel, in [-1, 1]; 0 where one is blank."""
    side = (_odd(WINDOW_PX * unit),) * 2
    mean_a, mean_b = cv2.blur(a, side), cv2.blur(b, side)
    both = cv2.blur(a * b, side) - mean_a * mean_b
    spread = (cv2.blur(a * a, side) - mean_a**2) * (cv2.blur(b * b, side) - mean_b**2)
    return both / np.sqrt(np.maximum(spread, 1.0))


def _least_contrast(grey: Float32[np.ndarray, "h w"], unit: float) -> Float32[np.ndarray, "h w"]:
    """Difference of pixels two apart, in the direction in which they differ least: large at corners only."""
    return np.sqrt(np.maximum(cv2.cornerMinEigenVal(grey, _odd(WINDOW_PX * unit), ksize=3), 0))
