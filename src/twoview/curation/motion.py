"""How the camera moved between two pictures, from their keypoints alone, and what moved by itself.

The dominant homography says where everything would be if the scene were one plane, or far away, or the camera had only turned. What
leaves it along the lines of one epipolar geometry is parallax: the pair teaches depth. What leaves it otherwise, together with its
neighbours, moved by itself. Thresholds are in px of a picture whose shorter side has 256 and grow with the picture.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from ..geometry import similarity_of
from .epipolar import fundamental, sampson
from .features import Features, nearest

Motion = Literal["general", "planar", "rotation", "zoom", "still", "unknown"]
MOTIONS: tuple[Motion, ...] = ("general", "planar", "rotation", "zoom", "still", "unknown")

RATIO = 0.8
"""Lowe's, asked of both pictures, so that a swap changes nothing. Geometry sorts out the rest."""
REFERENCE_PX = 256
ON_PLANE_PX, OFF_PLANE_PX = 3.0, 4.0
"""A match agrees with a homography below the first; parallax and movement count from the second. Filmed stills spread by 0.5 px."""
EPIPOLAR_PX = 1.5
MIN_SUPPORT, MIN_SHARE = 8, 0.3
"""As many matches, and this share of all, must agree with a homography: four matches have one in any case."""
MIN_EXPLAINED = 0.65
"""Without parallax the homography, and what moves by itself, must explain this share of the matches."""
MIN_PARALLAX = 8
"""As many matches must leave the homography along epipolar lines: of filmed zooms and turns up to seven do so by chance."""
SLIGHT_PX = 2.0
"""Where no turn and no zoom explains the homography, it is enough that a tenth of the matches leaves it by this much."""
NEAR, ONE_WAY = 0.2, 0.9
"""Over a far background near things are this share of the matches, and leave it to one side. In a real room both read 0.24 and 0.93
at least; for children at play the second is about 0.6."""
STILL_PX, MIN_ZOOM = 1.0, 1.02
LEEWAY, LEAST_PX, MOST_PX = 1.2, 0.6, 1.5
"""A camera that only turned or zoomed explains the matches nearly as well as the best homography: 98 of 100 filmed turns are
within this ratio. Below the second no lens is straight enough to tell; beyond the third nothing is explained."""
FOCALS = np.geomspace(0.5, 2.5, 15)
"""Focal lengths of cameras, in widths of the picture: fields of view from 90 down to 23 degrees."""
MIN_COMPANY, COMPANY = 3, 0.12
"""A match moved by itself if as many others within this share of the picture's side moved likewise."""
ALIKE, CLOSE = 1 / RATIO, 200.0
"""Descriptors up to this times as far as the nearest one might as well be the right ones, as the ratio test has it; below the
second they are of the same thing in any case."""
MIN_ALIKE, MIN_REPEATED, MIN_AS_GOOD = 20, 0.3, 0.5
"""Keypoints that agree with the best shift, at least, and how many of them another shift must have. Elsewhere up to 0.17 have."""
CELL_PX, CELLS = 6.0, 256
TWIN, TWIN_APART_PX, MIN_TWINS = 120.0, 10.0, 20
"""Descriptors so near, of keypoints so far apart, are of like things; fewer keypoints tell nothing. Made facades have twins for 0.6
to 0.7 of their keypoints, frames of a real room for 0.04 on the mean and 0.29 at most."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Relation:
    """What the matches of two pictures have to say. M matches by descriptor, each place once."""

    points: Float64[np.ndarray, "m 4"]
    """x, y in a and x, y in b, in px."""
    index_a: Int64[np.ndarray, " m"]
    """Which keypoint of a, and of b."""
    index_b: Int64[np.ndarray, " m"]
    homography: Float64[np.ndarray, "3 3"] | None = None
    """The dominant one, px of a to px of b, last entry 1."""
    fundamental: Float64[np.ndarray, "3 3"] | None = None
    """b' F a = 0 in px. Where nothing shows parallax it is one of many."""
    on_plane: Bool[np.ndarray, " m"]
    """Matches that agree with the homography."""
    epipolar: Bool[np.ndarray, " m"]
    """Matches that agree with the geometry of the verdict: the fundamental matrix where motion is general, else the homography."""
    moves: Bool[np.ndarray, " m"]
    """Matches that break it together with their neighbours."""
    motion: Motion = "unknown"
    """general: parallax along the lines of one epipolar geometry. still: a homography explains all and moves it by less than a px.
    zoom: it only magnifies, about a point inside the picture, as a lens does or a crop. rotation: a camera of one plausible focal
    length only turned, in its plane too. planar: none of these: one plane from two places, or too little parallax to see. unknown:
    too few matches agree on anything.

    Not to be told apart: walking straight at a wall that is all one sees makes a zoom's pictures, and is called zoom; sliding along
    a far wall behind a long lens differs from a turn by less than the noise, and is called rotation. What moves straight through a
    turning camera's picture looks like parallax of a near thing: over a background that only turned or zoomed, parallax must be a
    fifth of the matches (and to one side, after a turn); over a still one nothing is.
    """
    parallax_px: float | None = None
    """How far a tenth of the epipolar matches leaves the homography at least. A median would read nothing as soon as half lies on
    one wall, and a maximum would read one wrong match."""
    scale: float | None = None
    rotation_deg: float | None = None
    moving: float | None = None
    """Share of the matches that agree with the geometry or move, which move."""
    repeated: bool = False
    """Whether two competing geometries explain the same keypoints nearly equally well."""


def relation_of(a: Features, b: Features) -> Relation:
    """How two pictures lie to each other. A pure function; swapped, the pictures give the same motion and the inverse scale."""
    unit = min(*a.size, *b.size) / REFERENCE_PX
    near_b, distance = nearest(a.descriptors, b.descriptors, 3)
    index_a, index_b = _tentative(a, b, near_b, distance, 2 * unit)
    points = np.hstack([a.points[index_a], b.points[index_b]]).astype(np.float64)
    h, nobody = _dominant_homography(points, unit), np.zeros(len(points), bool)
    found = Relation(points=points, index_a=index_a, index_b=index_b, on_plane=nobody, epipolar=nobody, moves=nobody)
    found = replace(found, homography=h, repeated=_is_repeated(a, b, near_b, distance, h, unit))
    return found if h is None else _judged(found, h, a.size, b.size, unit)


def _judged(
    found: Relation, h: Float64[np.ndarray, "3 3"], size_a: tuple[int, int], size_b: tuple[int, int], unit: float
) -> Relation:
    """The relation with its verdict and all that follows from it."""
    points, f = found.points, fundamental(found.points, EPIPOLAR_PX * unit, 1000, 1000)
    off = plane_distance(h, points) / unit
    on_plane = off < ON_PLANE_PX
    away = np.full(len(points), np.inf) if f is None else sampson(f, points) / unit
    plain = _without_parallax(h, points[on_plane], size_a, size_b, unit)
    general = f is not None and _shows_parallax(away < EPIPOLAR_PX, off, plain, lambda which: _one_way(h, f, points[which]))
    epipolar = away < EPIPOLAR_PX if general else on_plane
    breaks = (off > OFF_PLANE_PX) & ~epipolar & (not general or away > 2 * EPIPOLAR_PX)
    moves = _moves(h, points, breaks, unit)
    found = replace(found, fundamental=f, on_plane=on_plane, epipolar=epipolar, moves=moves)
    if not general and (on_plane | moves).mean() < MIN_EXPLAINED:
        return found
    scale, rotation_deg = similarity_of(h, size_a)
    return replace(
        found,
        motion="general" if general else plain,
        moving=float(moves.sum() / (moves | epipolar).sum()),
        parallax_px=float(np.percentile(off[epipolar], 90) * unit),
        scale=scale,
        rotation_deg=rotation_deg,
    )


def _tentative(
    a: Features, b: Features, near_b: Int64[np.ndarray, "n k"], distance: Float32[np.ndarray, "n k"], cell_px: float
) -> tuple[Int64[np.ndarray, " m"], Int64[np.ndarray, " m"]]:
    """Mutual nearest neighbours clearly nearer than the second, the first of each place: SIFT gives one several orientations."""
    if len(a.points) == 0 or near_b.shape[1] < 2:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    rows = np.flatnonzero(distance[:, 0] < RATIO * distance[:, 1])
    columns = near_b[rows, 0]
    near_a, back = nearest(b.descriptors[columns], a.descriptors, 2)
    if near_a.shape[1] < 2:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    mutual = (near_a[:, 0] == rows) & (back[:, 0] < RATIO * back[:, 1])
    rows, columns = rows[mutual], columns[mutual]
    places = np.floor(np.hstack([a.points[rows], b.points[columns]]) / cell_px).astype(int)
    first = np.sort(np.unique(places, axis=0, return_index=True)[1]) if len(rows) else rows
    return rows[first], columns[first]


def plane_distance(h: Float64[np.ndarray, "3 3"], points: Float64[np.ndarray, "m 4"]) -> Float64[np.ndarray, " m"]:
    """How far matches lie from a homography, in px: quadratic mean of both pictures, so that a swap changes nothing."""
    try:
        back = np.linalg.inv(h)
    except np.linalg.LinAlgError:
        return np.full(len(points), np.inf)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        there = np.square(_mapped(h, points[:, :2]) - points[:, 2:]).sum(1)
        here = np.square(_mapped(back, points[:, 2:]) - points[:, :2]).sum(1)
        return np.nan_to_num(np.sqrt((there + here) / 2), nan=np.inf)


def _mapped(h: Float64[np.ndarray, "3 3"], xy: np.ndarray) -> Float64[np.ndarray, "n 2"]:
    x = xy @ h[:, :2].T + h[:, 2]
    return x[:, :2] / x[:, 2:]


def _dominant_homography(points: Float64[np.ndarray, "m 4"], unit: float) -> Float64[np.ndarray, "3 3"] | None:
    """The homography that most matches agree with, refined on them; None where too few do."""
    if len(points) < MIN_SUPPORT:
        return None
    h = _robust(points, unit)
    for _ in range(2):
        agree = np.zeros(len(points), bool) if h is None else plane_distance(h, points) < ON_PLANE_PX * unit
        if agree.sum() < max(MIN_SUPPORT, MIN_SHARE * len(points)) or _on_a_line(points[agree], unit):
            return None
        h = cv2.findHomography(points[agree, :2], points[agree, 2:], 0)[0]
    if h is None or not np.isfinite(h).all() or abs(h[2, 2]) < 1e-9 or np.linalg.det(h / h[2, 2]) <= 0:
        return None
    return h / h[2, 2]


def _on_a_line(points: Float64[np.ndarray, "k 4"], unit: float) -> bool:
    """Whether the matches leave a line by less than 2 px in one of the pictures: any homography would do."""
    sides = (points[:, :2], points[:, 2:])
    return min(np.linalg.svd(xy - xy.mean(0), compute_uv=False)[-1] for xy in sides) < 2 * unit * np.sqrt(len(points))


def _robust(points: Float64[np.ndarray, "m 4"], unit: float) -> Float64[np.ndarray, "3 3"] | None:
    a, b = points[:, :2], points[:, 2:]
    try:
        return cv2.findHomography(a, b, cv2.USAC_MAGSAC, 2 * unit, maxIters=2000, confidence=0.999)[0]
    except cv2.error:  # OpenCV 5.0 asserts where a sample is degenerate
        return cv2.findHomography(a, b, cv2.RANSAC, 2 * unit)[0]


def _shows_parallax(
    agree: Bool[np.ndarray, " m"], off: Float64[np.ndarray, " m"], plain: Motion, one_way: Callable[[np.ndarray], float]
) -> bool:
    """Whether enough of what leaves the homography does so along epipolar lines.

    off: in px of the reference; plain: the verdict if not; one_way: see _one_way. Over a background that only turned, things that
    move by themselves fit some epipolar geometry too; but near things are many, and all leave a far background to one side.
    What looks zoomed may be a plane walked towards, with things before and behind it.
    """
    parallax, slight = agree & (off > OFF_PLANE_PX), agree & (off > SLIGHT_PX)
    if plain == "still":
        return False
    if parallax.sum() < MIN_PARALLAX or 2 * parallax.sum() < (off > OFF_PLANE_PX).sum():
        enough = max(MIN_PARALLAX, 0.1 * agree.sum(), 0.5 * (off > SLIGHT_PX).sum())
        return plain == "planar" and bool(slight.sum() >= enough)
    many = bool(parallax.sum() >= NEAR * agree.sum())
    return plain == "planar" or (many and (plain == "zoom" or one_way(parallax) >= ONE_WAY))


def _one_way(h: Float64[np.ndarray, "3 3"], f: Float64[np.ndarray, "3 3"], points: Float64[np.ndarray, "k 4"]) -> float:
    """Share of the matches that leave the homography towards the epipole, or away from it, whichever are more."""
    epipole = np.linalg.svd(f)[0][:, 2]
    there = _mapped(h, points[:, :2])
    towards = ((points[:, 2:] - there) * (epipole[:2] - epipole[2] * there)).sum(1) > 0
    return float(max(towards.mean(), 1 - towards.mean()))


def _without_parallax(
    h: Float64[np.ndarray, "3 3"], plane: Float64[np.ndarray, "k 4"], size_a: tuple[int, int], size_b: tuple[int, int], unit: float
) -> Motion:
    """still, zoom, rotation or planar, of the matches that agree with the homography."""
    moved = np.linalg.norm(plane[:, 2:] - plane[:, :2], axis=1)
    if size_a == size_b and np.median(moved) < STILL_PX * unit and np.percentile(moved, 90) < 2 * STILL_PX * unit:
        return "still"
    allowed = np.clip(LEEWAY * _spread(plane_distance(h, plane), 8), LEAST_PX * unit, MOST_PX * unit)
    magnified = _magnification(plane)
    scale, centre = magnified[0, 0], magnified[:2, 2] / (1 - magnified[0, 0] + 1e-12)
    inside = (np.abs(centre - (np.array(size_a[::-1]) - 1) / 2) < np.array(size_a[::-1]) / 2).all()
    if abs(np.log(max(scale, 1e-6))) > np.log(MIN_ZOOM) and inside and _spread(plane_distance(magnified, plane), 3) < allowed:
        return "zoom"
    return "rotation" if _spread(_turned(plane, size_a, size_b), 4) < allowed else "planar"


def _spread(off: Float64[np.ndarray, " k"], parameters: int) -> float:
    """Of matches about what was fitted to them, by the degrees of freedom that are left: two a match, less those of the fit. Of a
    dozen matches a homography follows the noise a good deal further than a turn does."""
    return float(np.sqrt(2 * np.square(off).sum() / (2 * len(off) - parameters)))


def _magnification(plane: Float64[np.ndarray, "k 4"]) -> Float64[np.ndarray, "3 3"]:
    """The magnification about a point that fits best, by least squares."""
    middle = plane.mean(0)
    a, b = plane[:, :2] - middle[:2], plane[:, 2:] - middle[2:]
    scale = np.sqrt(np.square(b).sum() / np.square(a).sum()) if np.sum(a * b) > 0 else 1.0
    return np.array([[scale, 0, middle[2] - scale * middle[0]], [0, scale, middle[3] - scale * middle[1]], [0, 0, 1]])


def _turned(plane: Float64[np.ndarray, "k 4"], size_a: tuple[int, int], size_b: tuple[int, int]) -> Float64[np.ndarray, " k"]:
    """How far matches lie from the best turn of a camera of a plausible focal length."""
    coarse = int(np.square(_turned_with(FOCALS, plane, size_a, size_b)).sum(1).argmin())
    between = np.linspace(FOCALS[max(coarse - 1, 0)], FOCALS[min(coarse + 1, len(FOCALS) - 1)], 9)
    off = _turned_with(between, plane, size_a, size_b)
    return off[int(np.square(off).sum(1).argmin())]


def _turned_with(
    focals: Float64[np.ndarray, " f"], plane: Float64[np.ndarray, "k 4"], size_a: tuple[int, int], size_b: tuple[int, int]
) -> Float64[np.ndarray, "f k"]:
    """How far matches lie from the best turn for each focal length, in widths: by the rotation of their rays (Kabsch)."""
    rays, sides = [], ((plane[:, :2], size_a), (plane[:, 2:], size_b))
    for xy, (height, width) in sides:
        ray = np.ones((len(focals), len(xy), 3))
        ray[..., :2] = (xy - ((width - 1) / 2, (height - 1) / 2)) / (focals[:, None, None] * width)
        rays.append(ray)
    unit_a, unit_b = (ray / np.linalg.norm(ray, axis=2, keepdims=True) for ray in rays)
    u, _, vt = np.linalg.svd(np.swapaxes(unit_b, 1, 2) @ unit_a)
    u[..., 2] *= np.sign(np.linalg.det(u @ vt))[:, None]
    turn, squared = u @ vt, np.zeros((len(focals), len(plane)))
    for ray, other, back, width in ((rays[0], rays[1], False, size_b[1]), (rays[1], rays[0], True, size_a[1])):
        turned = ray @ (turn if back else np.swapaxes(turn, 1, 2))
        away = turned[..., :2] / np.where(turned[..., 2:] > 0.01, turned[..., 2:], 0.01) - other[..., :2]
        squared += np.square(away).sum(2) * np.square(focals[:, None] * width) / 2
    return np.sqrt(squared)


def _moves(
    h: Float64[np.ndarray, "3 3"], points: Float64[np.ndarray, "m 4"], breaks: Bool[np.ndarray, " m"], unit: float
) -> Bool[np.ndarray, " m"]:
    """Matches that break the geometry as several around them do; a lone wrong match has no such company."""
    which = np.flatnonzero(breaks)
    at, moved = points[which, :2], points[which, 2:] - _mapped(h, points[which, :2])
    near = np.linalg.norm(at[:, None] - at, axis=2) < COMPANY * REFERENCE_PX * unit
    alike = np.linalg.norm(moved[:, None] - moved, axis=2) < 3 * unit + 0.15 * np.linalg.norm(moved, axis=1)
    moves = np.zeros(len(points), bool)
    moves[which[(near & alike).sum(1) > MIN_COMPANY]] = True  # each is in its own company
    return moves


def _is_repeated(
    a: Features,
    b: Features,
    near_b: Int64[np.ndarray, "n k"],
    distance: Float32[np.ndarray, "n k"],
    h: Float64[np.ndarray, "3 3"] | None,
    unit: float,
) -> bool:
    """Whether another shift of one picture over the other explains nearly as many keypoints as the best.

    The ratio test kills matches of repeated things, so each keypoint votes for all of its nearest that are nearly as near as the
    first: for where they lie from where the homography puts it. The other shift must explain the same keypoints, or the second of
    two walls would be a repetition. Where the ratio test has left nothing, the largest similarity stands for the homography.
    """
    strict = h is not None
    row, rank = np.nonzero((distance <= ALIKE * distance[:, :1]) & (strict | (distance < CLOSE)))
    h = h if h is not None else _commonest_similarity(a, b, row, near_b[row, rank], unit)
    if h is None:
        return False
    shift = (b.points[near_b[row, rank]] - _mapped(h, a.points[row].astype(np.float64))) / (CELL_PX * unit) + CELLS / 2 + 0.5
    inside = (shift >= 0).all(1) & (shift < CELLS).all(1)
    vote = np.unique(np.column_stack([row[inside], shift[inside].astype(int)]), axis=0)
    y, x = _commonest(vote[:, 1:])[0]
    first = np.unique(vote[((vote[:, 1:] <= (y, x)) & (vote[:, 1:] >= (y - 1, x - 1))).all(1), 0])
    far = (np.abs(vote[:, 1:] - (y - 0.5, x - 0.5)) > 2).any(1)
    _, others = _commonest(vote[far & (np.isin(vote[:, 0], first) | (not strict)), 1:])
    return bool(len(first) >= MIN_ALIKE and others >= (MIN_REPEATED if strict else MIN_AS_GOOD) * len(first))


def _commonest_similarity(
    a: Features, b: Features, index_a: Int64[np.ndarray, " k"], index_b: Int64[np.ndarray, " k"], unit: float
) -> Float64[np.ndarray, "3 3"] | None:
    """The similarity of one match (SIFT knows how a keypoint is turned and how large it is) that most matches follow; or None."""
    if len(index_a) < MIN_ALIKE:
        return None
    xy_a, xy_b = a.points[index_a].astype(np.float64), b.points[index_b].astype(np.float64)
    some = np.unique(np.linspace(0, len(index_a) - 1, 150).astype(int))
    turn = np.deg2rad(b.orientation_deg[index_b] - a.orientation_deg[index_a])[some]
    grown = np.exp2(b.log2_size[index_b] - a.log2_size[index_a])[some].astype(np.float64) * np.exp(1j * turn)
    z_a, z_b = xy_a @ (1, 1j), xy_b @ (1, 1j)
    follow = np.abs(grown[:, None] * (z_a - z_a[some, None]) - (z_b - z_b[some, None])) < 2 * CELL_PX * unit
    best = follow[follow.sum(1).argmax()]
    h = cv2.estimateAffine2D(xy_a[best], xy_b[best], method=cv2.RANSAC, ransacReprojThreshold=CELL_PX * unit)[0]
    return None if h is None or not np.isfinite(h).all() else np.vstack([h, [0, 0, 1]])


def repeats_itself(features: Features, unit: float) -> bool:
    """Whether most keypoints of one picture have a twin elsewhere in it: a facade of like windows, of which no match is sure."""
    if len(features.points) < MIN_TWINS:
        return False
    index, distance = nearest(features.descriptors, features.descriptors, 4)
    away = np.linalg.norm(features.points[index] - features.points[:, None], axis=2) > TWIN_APART_PX * unit
    return bool(((distance < TWIN) & away).any(1).mean() > 0.5)


def _commonest(cells: Int64[np.ndarray, "n 2"]) -> tuple[tuple[int, int], int]:
    """The lower right cell of the four in a square that hold most, and how many they hold."""
    votes = np.bincount(cells[:, 0] * CELLS + cells[:, 1], minlength=CELLS * CELLS).reshape(CELLS, CELLS)
    four = votes.copy()
    four[1:] += votes[:-1]
    four[:, 1:] += four[:, :-1].copy()
    y, x = divmod(int(four.argmax()), CELLS)
    return (y, x), int(four[y, x])
