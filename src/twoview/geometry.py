"""Homographies, patch grids and overlap, in plain numpy.

Pixels are (x, y) in the OpenCV convention: (0, 0) is the centre of the first pixel, so a picture of width w spans
[-0.5, w - 0.5]. Patches are numbered row by row from 0.
"""

import math

import numpy as np
from jaxtyping import Float64, Int16, Int64

from .schema import NOT_UNIQUE, OUTSIDE


def lattice(size_px: int, num_cells: int, per_cell: int) -> Float64[np.ndarray, " n"]:
    """Coordinates of a fixed lattice along one side: `per_cell` evenly spread points in each of `num_cells` cells."""
    n = num_cells * per_cell
    return (np.arange(n) + 0.5) * (size_px / n) - 0.5


def project(h: Float64[np.ndarray, "3 3"], x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points mapped by a homography; NaN where they go behind the other camera. x and y broadcast."""
    w = h[2, 0] * x + h[2, 1] * y + h[2, 2]
    w = np.where(w > 0, w, np.nan)
    return (h[0, 0] * x + h[0, 1] * y + h[0, 2]) / w, (h[1, 0] * x + h[1, 1] * y + h[1, 2]) / w


def patch_of(x: np.ndarray, y: np.ndarray, size: tuple[int, int], grid: tuple[int, int]) -> Int64[np.ndarray, "..."]:
    """Index of the patch that holds each point, or rows * columns where it lies outside.

    size: height and width in px; grid: rows and columns.
    """
    (height, width), (rows, columns) = size, grid
    column = np.floor((x + 0.5) * (columns / width))
    row = np.floor((y + 0.5) * (rows / height))
    inside = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)  # False for NaN
    return np.where(inside, row * columns + column, rows * columns).astype(np.int64)


def majority(own: Int64[np.ndarray, " n"], target: Int64[np.ndarray, " n"], num_patches: int) -> Int64[np.ndarray, " p"]:
    """For each patch the target most of its points fall in; `num_patches` is the vote for outside, which may win.

    A tie goes to the lowest number, so to a patch before outside. Section 3 of the paper.
    """
    votes = np.bincount(own * (num_patches + 1) + target, minlength=num_patches * (num_patches + 1))
    return votes.reshape(num_patches, num_patches + 1).argmax(1)


def unique_targets(winners: Int64[np.ndarray, " p"]) -> Int16[np.ndarray, " p"]:
    """Patches of the other view, each given once: the first patch in row order takes it, later ones read NOT_UNIQUE."""
    num_patches = len(winners)
    patches = np.full(num_patches, NOT_UNIQUE, np.int16)
    targets, first = np.unique(winners, return_index=True)
    patches[first] = targets
    patches[winners == num_patches] = OUTSIDE
    return patches


def lattice_patches(
    h: Float64[np.ndarray, "3 3"],
    size_a: tuple[int, int],
    size_b: tuple[int, int],
    grid: tuple[int, int],
    per_cell: int,
) -> Int16[np.ndarray, " p"]:
    """The patch of b for each patch of a under a homography, by the vote of a fixed lattice in each patch.

    size_a, size_b: height and width in px; per_cell: lattice points along each side of a patch.
    """
    rows, columns = grid
    x = lattice(size_a[1], columns, per_cell)[None, :]
    y = lattice(size_a[0], rows, per_cell)[:, None]
    target = patch_of(*project(h, x, y), size_b, grid)
    own = (np.arange(rows * per_cell) // per_cell * columns)[:, None] + np.arange(columns * per_cell) // per_cell
    return unique_targets(majority(own.ravel(), target.ravel(), rows * columns))


def overlap_of(patches: Int16[np.ndarray, " p"]) -> float:
    """Share of all patches that have a counterpart."""
    return float(np.count_nonzero(patches >= 0) / patches.size)


def homography_fault(h: np.ndarray, size_a: tuple[int, int]) -> str:
    """Why a homography cannot come from two views of one scene: one of schema.REASONS, or ''.

    Singular: not invertible, or a corner of a lies on or beyond b's horizon. Flipped: it turns a clockwise outline of a
    into an anticlockwise one. size_a: height and width in px.
    """
    if not np.isfinite(h).all() or np.linalg.cond(h) > 1e12:
        return "singular_homography"
    height, width = size_a
    corners = np.array([[-0.5, -0.5, 1], [width - 0.5, -0.5, 1], [width - 0.5, height - 0.5, 1], [-0.5, height - 0.5, 1]])
    if ((corners @ h.T)[:, 2] <= 1e-6).any():
        return "singular_homography"
    return "flipped_homography" if np.linalg.det(h) <= 0 else ""


def similarity_of(h: Float64[np.ndarray, "3 3"], size_a: tuple[int, int]) -> tuple[float, float]:
    """Linear magnification, and rotation in degrees in (-180, 180], of a homography at the centre of a."""
    height, width = size_a
    x, y = (width - 1) / 2, (height - 1) / 2
    u, v, w = h @ (x, y, 1.0)
    jacobian = (h[:2, :2] - np.outer((u / w, v / w), h[2, :2])) / w
    scale = math.sqrt(abs(float(np.linalg.det(jacobian))))
    angle = math.degrees(math.atan2(jacobian[1, 0] - jacobian[0, 1], jacobian[0, 0] + jacobian[1, 1]))
    return scale, 180.0 if angle == -180.0 else angle
