"""Homographies, patch grids and overlap, in plain numpy.

Pixels are (x, y) in the OpenCV convention: (0, 0) is the centre of the first pixel, so a picture of width w spans
[-0.5, w - 0.5]. Patches are numbered row by row from 0.
"""

import math

import numpy as np
from jaxtyping import Float, Float64, Int16, Int64

from .schema import NOT_UNIQUE, OCCLUDED, OUTSIDE, UNKNOWN, Geometry


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


SINGLE_THREADED = 200_000
"""Multiplications of a product that OpenBLAS leaves to one thread: it shares out those from 262,144 on."""


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a @ b to the same bits however many threads BLAS has: in blocks of rows that it does not share out. Two dimensions each."""
    rows = max(1, SINGLE_THREADED // max(b.size, 1))
    return np.concatenate([a[start : start + rows] @ b for start in range(0, max(len(a), 1), rows)])


def squared_distances(a: Float[np.ndarray, "n 2"], b: Float[np.ndarray, "m 2"]) -> Float[np.ndarray, "n m"]:
    """Between each point of a and each of b."""
    return np.square(a[:, None, 0] - b[:, 0]) + np.square(a[:, None, 1] - b[:, 1])


PATCHES = 14
"""Rows and columns of patches, where the fate of points decides over them."""


def patches_of_points(
    fate: Int16[np.ndarray, " g"], x: np.ndarray, y: np.ndarray, size_b: tuple[int, int], labels: tuple[int, int, int]
) -> Int16[np.ndarray, " p"]:
    """The patch of b for each patch of a by the vote of a square lattice of points of a; where most have none, what befell most.

    fate: 0 for a point that b shows at x, y, else one of OUTSIDE, OCCLUDED, UNKNOWN; size_b: height and width in px; labels: those
    three, of equals the first counts.
    """
    side, nowhere = math.isqrt(len(fate)), PATCHES * PATCHES
    row, column = np.divmod(np.arange(len(fate)), side)
    own = row * PATCHES // side * PATCHES + column * PATCHES // side
    target = np.where(fate == 0, patch_of(x, y, size_b, (PATCHES, PATCHES)), nowhere)
    patches = unique_targets(majority(own, target, nowhere))
    lost = np.stack([np.bincount(own[fate == label], minlength=nowhere) for label in labels])
    return np.where(patches == OUTSIDE, np.array(labels, np.int16)[lost.argmax(0)], patches).astype(np.int16)


GRID = 56
"""Points along each side of a picture that are looked up in the other one: four in each of 14 patches."""
DEPTH_TOLERANCE, DEPTH_SLACK_M = 0.05, 0.02
"""A point is seen in the other picture if its distance there is that picture's depth within 5 % and 2 cm."""


def look_up(a: Geometry, b: Geometry) -> tuple[Int16[np.ndarray, " g"], Float64[np.ndarray, " g"], Float64[np.ndarray, " g"]]:
    """What becomes of each point of a lattice on picture a in picture b, and where in b it lies, in px; by depth and pose.

    First come OUTSIDE, OCCLUDED, UNKNOWN (no depth here or there), or 0 for a point that both show; row by row from the upper left.
    G = GRID * GRID.
    """
    height, width = a.depth_m.shape
    x, y = np.meshgrid(*(np.rint(lattice(side, GRID, 1)).astype(int) for side in (width, height)))
    x, y = x.ravel(), y.ravel()
    depth = a.depth_m[y, x].astype(np.float64)
    fx, fy, cx, cy = a.intrinsics
    points = np.stack([(x - cx) / fx * depth, (y - cy) / fy * depth, depth], axis=1)
    b_from_a = np.linalg.inv(b.pose) @ a.pose
    points = points @ b_from_a[:3, :3].T + b_from_a[:3, 3]
    fx, fy, cx, cy = b.intrinsics
    with np.errstate(divide="ignore", invalid="ignore"):
        u, v = points[:, 0] / points[:, 2] * fx + cx, points[:, 1] / points[:, 2] * fy + cy
    height, width = b.depth_m.shape
    inside = (points[:, 2] > 0) & (u >= 0) & (u <= width - 1) & (v >= 0) & (v <= height - 1)
    column, row = (np.rint(np.where(inside, at, 0)).astype(int) for at in (u, v))
    there = b.depth_m[row, column]
    same = np.abs(there - points[:, 2]) <= DEPTH_TOLERANCE * there + DEPTH_SLACK_M
    fate = np.where(inside, np.where(there > 0, np.where(same, 0, OCCLUDED), UNKNOWN), OUTSIDE)
    return np.where(depth > 0, fate, UNKNOWN).astype(np.int16), u, v


def share_seen(fate: Int16[np.ndarray, " g"]) -> float | None:
    """Share of the points of which the fate is known that both pictures show; None where it is known of less than one in twenty."""
    known = fate != UNKNOWN
    return float((fate[known] == 0).mean()) if 20 * known.sum() > len(fate) else None
