"""Which keypoints of two pictures show the same point, and the epipolar geometry that says so.

Wide views share few keypoints among many that only look alike. So a match must first agree with the others on how the picture
turned and grew (SIFT knows both of each keypoint), then with an epipolar geometry; that geometry finds the matches which the
descriptors alone left in doubt.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from ..geometry import product, squared_distances
from .features import Features, root_sift

RATIO = 0.9
"""Loose: most wrong matches fall to orientation, scale and geometry."""
GUIDED_RATIO = 0.85
GUIDED_DISTANCE = 0.6
"""Between descriptors of length 1."""
TURN_DEG, GROWTH = 25.0, 0.8
"""How far a match may turn and grow (in octaves) from what most of them do."""
SIMILAR = 1 / 8
"""Within this share of the picture's side a match lies where the commonest similarity puts it."""
EPIPOLAR = 0.75 / 128
"""Sampson distance of a match from the epipolar geometry, as a share of the picture's side: 1.5 px of 256."""
GUIDED_BAND = 1.0 / 128
"""A guided match lies this close to the epipolar line."""
MIN_MATCHES = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class Epipolar:
    """Matches of two pictures. Coordinates are shares of the picture's width and height, 0 to 1 from the left and upper edge."""

    tentative: Float64[np.ndarray, "m 4"]
    """x, y in a and in b of matches by descriptor, orientation and scale."""
    agree: Bool[np.ndarray, " m"]
    """Which of them follow the epipolar geometry."""
    matrix: Float64[np.ndarray, "3 3"]
    """Fundamental matrix between those coordinates: b' F a = 0."""
    points: Float64[np.ndarray, "n 4"]
    """Those that agree, with the ones found along epipolar lines; without those that leave their neighbours."""


def relate(a: Features, b: Features) -> Epipolar | None:
    """The epipolar geometry of two pictures, or None where there are too few matches for one."""
    if min(len(a.points), len(b.points)) < MIN_MATCHES:
        return None
    places_a, places_b = _places(a), _places(b)
    squared = _distances(root_sift(a.descriptors), root_sift(b.descriptors))
    index_a, index_b = _mutual(squared, RATIO)
    kept = _turned_alike(a, b, index_a, index_b)
    index_a, index_b = index_a[kept], index_b[kept]
    first = _one_a_place(places_a[index_a], places_b[index_b])
    index_a, index_b = index_a[first], index_b[first]
    tentative = np.hstack([places_a[index_a], places_b[index_b]])
    if len(tentative) < MIN_MATCHES:
        return None
    found = _fundamental(tentative, _similar(a, b, index_a, index_b, tentative))
    if found is None:
        return None
    matrix, agree = found
    guided = _along_lines(matrix, places_a, places_b, squared)
    points = np.vstack([tentative[agree], guided])
    points = points[_one_a_place(points[:, :2], points[:, 2:])]
    points = points[_with_neighbours(points)]
    return Epipolar(tentative=tentative, agree=agree, matrix=matrix, points=points)


def _places(features: Features) -> Float64[np.ndarray, "n 2"]:
    return (features.points.astype(np.float64) + 0.5) / features.size[::-1]


def _distances(a: Float32[np.ndarray, "n 128"], b: Float32[np.ndarray, "m 128"]) -> Float32[np.ndarray, "n m"]:
    """Squared, between descriptors of length 1."""
    squared = a @ b.T
    squared *= -2
    squared += np.einsum("ij,ij->i", a, a)[:, None]
    squared += np.einsum("ij,ij->i", b, b)
    squared /= 512**2
    return squared


def _mutual(squared: Float32[np.ndarray, "n m"], ratio: float) -> tuple[Int64[np.ndarray, " k"], Int64[np.ndarray, " k"]]:
    """Pairs that are each other's nearest, and clearly nearer than the second nearest of b."""
    rows, best = np.arange(len(squared)), squared.argmin(1)
    nearest = squared[rows, best]
    second = np.partition(squared, 1, axis=1)[:, 1]
    kept = (squared.argmin(0)[best] == rows) & (nearest < ratio**2 * second)
    return rows[kept], best[kept]


def _turned_alike(a: Features, b: Features, index_a: np.ndarray, index_b: np.ndarray) -> Bool[np.ndarray, " k"]:
    """Matches that turn and grow as the commonest change does."""
    if len(index_a) == 0:
        return np.zeros(0, bool)
    turn = b.orientation_deg[index_b] - a.orientation_deg[index_a]
    growth = b.log2_size[index_b] - a.log2_size[index_a]
    near = (np.abs(_wrapped(turn[:, None] - turn)) < 20) & (np.abs(growth[:, None] - growth) < 0.7)
    most = near.sum(1).argmax()
    alike = near[most]
    middle = turn[most] + np.median(_wrapped(turn[alike] - turn[most]))
    return (np.abs(_wrapped(turn - middle)) < TURN_DEG) & (np.abs(growth - np.median(growth[alike])) < GROWTH)


def _wrapped(angle_deg: np.ndarray) -> np.ndarray:
    return (angle_deg + 180) % 360 - 180


def _one_a_place(a: Float64[np.ndarray, "n 2"], b: Float64[np.ndarray, "n 2"]) -> Int64[np.ndarray, " k"]:
    """Indices of the first match of each place, to a 128th: SIFT gives one point several orientations."""
    _, first = np.unique(np.floor(128 * np.hstack([a, b])).astype(int), axis=0, return_index=True)
    return np.sort(first)


def _similar(
    a: Features, b: Features, index_a: np.ndarray, index_b: np.ndarray, matches: Float64[np.ndarray, "m 4"]
) -> Bool[np.ndarray, " m"]:
    """The largest set of matches that one match's own shift, turn and growth puts nearly where they are."""
    turn = np.deg2rad(b.orientation_deg[index_b] - a.orientation_deg[index_a], dtype=np.float64)
    growth = np.exp2(b.log2_size[index_b] - a.log2_size[index_a], dtype=np.float64)
    cosine, sine = (growth * np.cos(turn))[:, None], (growth * np.sin(turn))[:, None]
    dx, dy, du, dv = (matches[None, :, k] - matches[:, None, k] for k in range(4))
    off = (cosine * dx - sine * dy - du) ** 2 + (sine * dx + cosine * dy - dv) ** 2
    near = off < SIMILAR**2
    return near[near.sum(1).argmax()]


def _fundamental(
    matches: Float64[np.ndarray, "m 4"], similar: Bool[np.ndarray, " m"]
) -> tuple[Float64[np.ndarray, "3 3"], Bool[np.ndarray, " m"]] | None:
    """The epipolar geometry most of the similar matches agree with, looked for among all and among the similar ones."""
    best: tuple[np.ndarray, np.ndarray] | None = None
    for among in (np.ones(len(matches), bool), similar):
        if among.sum() < MIN_MATCHES or (best is not None and among.all()):
            continue
        matrix = _ransac(matches[among])
        if matrix is None:
            continue
        agree = sampson(matrix, matches) < EPIPOLAR
        if among is similar:
            agree &= similar
        if best is None or (agree & similar).sum() >= (best[1] & similar).sum():
            best = matrix, agree
    return best if best is not None and best[1].sum() >= MIN_MATCHES else None


def _ransac(matches: Float64[np.ndarray, "m 4"]) -> Float64[np.ndarray, "3 3"] | None:
    """In units of 128ths of the side, where OpenCV's thresholds are at home."""
    matrix = fundamental(128 * matches, 128 * EPIPOLAR, 3000, 2000)
    if matrix is None:
        return None
    units = np.diag([128.0, 128.0, 1.0])
    return units @ matrix @ units


def fundamental(
    matches: Float64[np.ndarray, "m 4"], threshold: float, num_draws: int, num_plain_draws: int
) -> Float64[np.ndarray, "3 3"] | None:
    """The fundamental matrix that most matches agree with, by MAGSAC, or by plain RANSAC where that fails; or None.

    threshold: in the unit of the matches, about a px.
    """
    a, b = matches[:, :2], matches[:, 2:]
    try:
        matrix = cv2.findFundamentalMat(a, b, cv2.USAC_MAGSAC, threshold, 0.999, num_draws)[0]
    except cv2.error:  # OpenCV 5.0 asserts where a sample is degenerate
        matrix = cv2.findFundamentalMat(a, b, cv2.FM_RANSAC, threshold, 0.999, num_plain_draws)[0]
    return matrix if matrix is not None and matrix.shape == (3, 3) and np.isfinite(matrix).all() else None


def sampson(matrix: Float64[np.ndarray, "3 3"], matches: Float64[np.ndarray, "n 4"]) -> Float64[np.ndarray, " n"]:
    """Distance of matches from an epipolar geometry to first order, in the coordinates' unit (Hartley and Zisserman 11.4.3)."""
    ones = np.ones((len(matches), 1))
    a, b = np.hstack([matches[:, :2], ones]), np.hstack([matches[:, 2:], ones])
    lines_b, lines_a = a @ matrix.T, b @ matrix
    slope = np.square(lines_b[:, :2]).sum(1) + np.square(lines_a[:, :2]).sum(1)
    return np.abs((b * lines_b).sum(1)) / np.sqrt(slope + 1e-12)


def _along_lines(
    matrix: Float64[np.ndarray, "3 3"],
    places_a: Float64[np.ndarray, "n 2"],
    places_b: Float64[np.ndarray, "m 2"],
    squared: Float32[np.ndarray, "n m"],
) -> Float64[np.ndarray, "k 4"]:
    """Mutual nearest neighbours among the keypoints of b near each one's epipolar line."""
    lines = places_a @ matrix[:, :2].T + matrix[:, 2]
    lines /= np.hypot(lines[:, 0], lines[:, 1])[:, None] + 1e-12
    away = np.abs(product(lines[:, :2], places_b.T) + lines[:, 2:])
    squared = np.where(away < GUIDED_BAND, squared, np.float32(9))
    index_a, index_b = _mutual(squared, GUIDED_RATIO)
    near = squared[index_a, index_b] < GUIDED_DISTANCE**2
    return np.hstack([places_a[index_a[near]], places_b[index_b[near]]])


def _with_neighbours(matches: Float64[np.ndarray, "n 4"]) -> Bool[np.ndarray, " n"]:
    """Matches that move about as the eight next to them do; all, if that would leave too few."""
    squared = squared_distances(matches[:, :2], matches[:, :2])
    nearest = np.argsort(squared, axis=1, kind="stable")[:, :9]
    moved = matches[:, 2:] - matches[:, :2]
    off = np.linalg.norm(moved - np.median(moved[nearest], axis=1), axis=1)
    reach = np.sqrt(np.take_along_axis(squared, nearest, 1).max(1, initial=0))
    kept = off < 3 / 128 + 0.35 * reach
    return kept if kept.sum() >= MIN_MATCHES else np.ones(len(matches), bool)
