"""Overlap of two pictures, as an answer, a line of JSON or a picture of why."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from ..errors import ConfigError
from ..schema import OCCLUDED, UNKNOWN, Estimator, Match
from ..sources.images import read_image
from .curate import measured_columns
from .homography import Paper
from .views import Crop, picture

Picture = UInt8[np.ndarray, "h w 3"]


def measure(
    a: Picture | Path | str, b: Picture | Path | str, estimator: Estimator | None = None, *, crop: Crop = "centre", size: int = 256
) -> Match:
    """What an estimator says of two pictures: arrays (uint8 RGB [H, W, 3]) or files.

    They are cropped and resized as `curate` would (size in px), so stored pictures read as they did in the run. Raises
    UnreadableError for a file that is no picture, ConfigError for an array that is none.
    """
    estimator = estimator or Paper()
    views = [stored_picture(image, crop, size) for image in (a, b)]
    return estimator.measure(*(estimator.describe(view) for view in views))


def stored_picture(image: Picture | Path | str, crop: Crop, size: int) -> Picture:
    """A picture as `curate` stores it, but for the JPEG."""
    if not isinstance(image, np.ndarray):
        image = read_image(Path(image))
    elif image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ConfigError(f"a picture is uint8 RGB [H, W, 3], not {image.dtype} {list(image.shape)}")
    return picture(image, crop, size)[0]


def as_row_dict(match: Match, estimator: Estimator) -> dict[str, Any]:
    """A match under the names of the manifest's columns; unmeasured is None."""
    failure = [match.failure] if match.failure else []
    return {"estimator": estimator.name, "reasons": failure, **measured_columns(match)}


def drawing(a: Picture, b: Picture, match: Match) -> Picture:
    """Both pictures side by side with the inliers, and below them the patch maps: a patch has its counterpart's colour.

    Patches without one are dark; those that something hides in the other picture red, those of which nothing is known grey.
    """
    views = [cv2.resize(v, (448, 448), interpolation=cv2.INTER_LINEAR) for v in (a, b)]
    top = np.hstack(views)
    rng = np.random.default_rng(0)
    for xa, ya, xb, yb in [] if match.points is None else match.points * 448:
        colour = tuple(int(c) for c in rng.integers(64, 256, 3))
        cv2.line(top, (round(xa), round(ya)), (round(xb) + 448, round(yb)), colour, 1, cv2.LINE_AA)
        cv2.circle(top, (round(xa), round(ya)), 2, colour, -1, cv2.LINE_AA)
        cv2.circle(top, (round(xb) + 448, round(yb)), 2, colour, -1, cv2.LINE_AA)
    maps = [_patch_colours(match, side) for side in (0, 1)]
    bottom = np.hstack([cv2.addWeighted(v, 0.45, m, 0.55, 0) for v, m in zip(views, maps, strict=True)])
    words = "not found: " + match.failure if not match.found else f"overlap {match.overlap:.3f}  {match.num_inliers} inliers"
    canvas = np.vstack([np.full((28, 896, 3), 24, np.uint8), top, bottom])
    cv2.putText(canvas, words, (8, 19), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (235, 235, 235), 1, cv2.LINE_AA)
    return canvas


def _patch_colours(match: Match, side: int) -> Picture:
    """448 x 448 px: each patch in the colour of its place in a."""
    if match.patches is None or match.patch_grid is None:
        return np.zeros((448, 448, 3), np.uint8)
    rows, columns = match.patch_grid
    row, column = np.divmod(np.arange(rows * columns), columns)
    place = np.stack([255 * column / columns, 255 * row / rows, 255 - 255 * (row + column) / (rows + columns)], 1).astype(np.uint8)
    forward = match.patches[0]
    if match.overlap_ba is not None and match.overlap_ba < (match.overlap_ab or 0):  # the smaller direction counts
        forward = np.full_like(forward, -1)
        forward[match.patches[1][match.patches[1] >= 0]] = np.flatnonzero(match.patches[1] >= 0)
    colours = np.full((rows * columns, 3), 16, np.uint8)
    colours[match.patches[side] == OCCLUDED] = (190, 30, 40)
    colours[match.patches[side] == UNKNOWN] = (128, 128, 128)
    shared = forward >= 0
    if side == 0:
        colours[shared] = place[shared]
    else:
        colours[forward[shared]] = place[shared]
    return cv2.resize(colours.reshape(rows, columns, 3), (448, 448), interpolation=cv2.INTER_NEAREST)
