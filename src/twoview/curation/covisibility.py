"""What share of each picture is seen in the other, from the two pictures alone: `covisibility`.

Matches and an epipolar geometry (epipolar.py) become dense flow both ways (dense.py). Of each point of a lattice that gives 44
figures of evidence: how alike the two places look, whether the way there leads back, how near the matches are, where it lands. A
small convolutional network, fitted where depth is known (benchmarks/fit_covisibility.py), weighs them and their surroundings' into
chances of being shared, occluded, or outside the other picture. The mean chance of being shared is the overlap: no threshold, so no
bias from one. The network also says how far off that mean is likely to be; where that is too far, the estimator says nothing.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, Int16, UInt8

from ..errors import ConfigError
from ..geometry import PATCHES, patches_of_points, product, similarity_of, squared_distances
from ..schema import OCCLUDED, OUTSIDE, UNKNOWN, Match
from .dense import HERE, SIDE, Flow, Working, flows, follow, planes, working
from .epipolar import Epipolar, relate, sampson
from .excluded import bars, overlay
from .features import Features, sift
from .motion import relation_of

LATTICE = 28
"""Points along each side of a picture: two in each of 14 patches."""
CLASSES = (0, OCCLUDED, OUTSIDE)
"""What the network tells apart: shared, and two ways not to be."""
NUM_FIGURES, WIDTH, DILATIONS = 44, 32, (1, 2, 4)
"""Of the network: figures that it is given of each point, hidden ones, and how far apart its three convolutions look."""
X, Y = 22, 23
"""Which figures are the place in the picture."""
MEASURED_PX = 256
"""Keypoints are looked for in a picture whose shorter side is at most so long."""
CONTRAST, EDGE, MOST = 0.002, 20.0, 1000
"""Faint keypoints too: the geometry sorts them out, and walls have no others."""
MIN_COUNTED = 0.05
"""Share of a picture that must be of the scene."""
MOVES_NEAR = 0.12
"""Within this share of the picture's side of a match that moves, and nearer to it than to one that does not, the picture moves."""

_CENTRES = ((np.arange(LATTICE) + 0.5) * (SIDE / LATTICE) - 0.5).astype(np.float32)
POINTS = np.stack(np.meshgrid(_CENTRES, _CENTRES), axis=-1)
"""The lattice, in working px: [28, 28, 2]."""
_FLAT = POINTS.reshape(-1, 2)
_NEAREST = np.ix_(*[np.rint(_CENTRES).astype(int)] * 2)
_SHIFT = _FLAT - HERE[_NEAREST].reshape(-1, 2)


@dataclass(frozen=True, kw_only=True, eq=False)
class Described:
    """A picture as the estimator knows it."""

    size: tuple[int, int]
    """Height and width in px."""
    small: UInt8[np.ndarray, "h w 3"]
    """In which the keypoints were found."""
    features: Features
    working: Working


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """Of both directions: figures for each lattice point, and where it lands in the other picture, in working px."""

    figures: Float32[np.ndarray, "2 p f"]
    targets: Float32[np.ndarray, "2 p 2"]
    relation: Epipolar
    homography: Float64[np.ndarray, "3 3"] | None
    """Of the largest plane, in working px."""


@dataclass(frozen=True, kw_only=True)
class Covisibility:
    """Covisible share of two pictures, from their pixels: parallax, occlusion and several planes included."""

    name = "covisibility@1"
    moving: Literal["count", "mask"] = "count"
    """What moves by itself counts like the rest, or is left out: then the static part alone is measured."""
    max_error: float = 0.06
    """Nothing is said of a pair whose overlap is likely to be read wrongly by more than this."""

    def __post_init__(self) -> None:
        if not 0 < self.max_error <= 1:
            raise ConfigError(f"--estimator.max-error is {self.max_error}: give a share above 0, as 0.06; 1 takes every reading")

    def describe(self, image: UInt8[np.ndarray, "h w 3"], /) -> Described:
        """Keypoints, and a small grey picture."""
        size, small = image.shape[:2], image
        if min(size) > MEASURED_PX:
            scale = MEASURED_PX / min(size)
            small = cv2.resize(image, (round(size[1] * scale), round(size[0] * scale)), interpolation=cv2.INTER_AREA)
        features = sift(small, contrast=CONTRAST, edge=EDGE, most=MOST)
        return Described(size=size, small=small, features=features, working=working(image))

    def measure(self, a: Described, b: Described, /) -> Match:
        """Overlap both ways, patches both ways and their labels, matched points; see schema.Match."""
        evidence = gather(a, b)
        num_a, num_b = len(a.features.points), len(b.features.points)
        if isinstance(evidence, str):
            return Match(found=False, failure=evidence, num_keypoints_a=num_a, num_keypoints_b=num_b)
        chances, errors = zip(*(classify(figures) for figures in evidence.figures), strict=True)
        counts, num = counted(a, b, self.moving == "mask"), len(evidence.relation.tentative)
        shared = [c[own, 0] for c, own in zip(chances, counts, strict=True)]
        share_ab, share_ba = (float(s.mean()) if len(s) > MIN_COUNTED * len(_FLAT) else None for s in shared)
        if share_ab is None or share_ba is None or errors[int(share_ba < share_ab)] > self.max_error:
            return Match(found=False, failure="uncertain", num_keypoints_a=num_a, num_keypoints_b=num_b, num_matches=num)
        relation, homography = evidence.relation, _stored(evidence.homography, a.size, b.size)
        scale, rotation_deg = (None, None) if homography is None else similarity_of(homography, a.size)
        return Match(
            found=True,
            overlap_ab=share_ab,
            overlap_ba=share_ba,
            patches=np.stack([_patches(*both) for both in zip(chances, evidence.targets, counts, strict=True)]),
            patch_grid=(PATCHES, PATCHES),
            points=relation.points.astype(np.float32),
            num_keypoints_a=num_a,
            num_keypoints_b=num_b,
            num_matches=len(relation.tentative),
            num_inliers=len(relation.points),
            homography=homography,
            scale=scale,
            rotation_deg=rotation_deg,
        )


def counted(a: Described, b: Described, still_only: bool) -> list[Bool[np.ndarray, " p"]]:
    """Which lattice points of each picture are of the scene: not of bars, not laid over it, not moving if `still_only`."""
    relation = relation_of(a.features, b.features)
    laid_over, counts = overlay(a.small, b.small, relation), []
    for described, columns in ((a, slice(0, 2)), (b, slice(2, 4))):
        (height, width), out = described.features.size, bars(described.small)
        out = out | laid_over if out.shape == laid_over.shape else out
        at = (_FLAT + 0.5) / SIDE * (width, height) - 0.5
        column, row = np.rint(at).astype(int).clip(0, (width - 1, height - 1)).T
        own = ~out[row, column]
        if still_only and relation.moves.any():
            points = relation.points[:, columns]
            moves, rests = (
                squared_distances(at, points[which]).min(1, initial=np.inf) for which in (relation.moves, ~relation.moves)
            )
            own &= ~((moves < (MOVES_NEAR * min(width, height)) ** 2) & (moves < rests))
        counts.append(own)
    return counts


def gather(a: Described, b: Described) -> Evidence | str:
    """What there is to go by, or why there is nothing: one of schema.REASONS."""
    relation = relate(a.features, b.features)
    if relation is None:
        return "few_matches"
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # the optical flow depends on how a picture is cut into stripes
    try:
        matches = relation.points * SIDE - 0.5
        homographies = planes(matches)
        there, back = flows(a.working, b.working, matches, [h for h, _ in homographies])
    finally:
        cv2.setNumThreads(threads)
    units = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, SIDE]])
    matrix = units.T @ relation.matrix @ units
    ways = [_figures(a.working, there, matrix, matches), _figures(b.working, back, matrix.T, matches[:, [2, 3, 0, 1]])]
    support = np.array(
        [
            np.log1p(len(relation.tentative)),
            relation.agree.mean(),
            np.log1p(len(matches)),
            len(homographies),
            homographies[0][1] / len(matches) if homographies else 0,
        ]
    )
    of_pair = [np.concatenate([ways[d][2], ways[1 - d][2], support]) for d in (0, 1)]
    figures = [np.hstack([ways[d][0], np.tile(of_pair[d], (len(_FLAT), 1))]) for d in (0, 1)]
    return Evidence(
        figures=np.stack(figures).astype(np.float32),
        targets=np.stack([ways[0][1], ways[1][1]]),
        relation=relation,
        homography=homographies[0][0] if homographies else None,
    )


def _figures(
    own: Working, flow: Flow, matrix: Float64[np.ndarray, "3 3"], matches: Float64[np.ndarray, "n 4"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Figures of each lattice point [p, 27], targets [p, 2], and figures of the whole direction [6]."""
    target = flow.field[_NEAREST].reshape(-1, 2) + _SHIFT
    smooth = _at(flow.smooth)
    margin, smooth_margin = _margin(target), _margin(smooth)
    near = _near(target, matches)
    off_line = sampson(matrix, np.hstack([_FLAT, target]).astype(np.float64))
    trip, good = np.log1p(flow.round_trip_px), (flow.round_trip_px < 1.5).astype(np.float32)
    area, roughness = _shape(flow.field)
    figures = [
        np.clip(margin, -32, 32) / 16,
        np.tanh(margin / 3),
        np.clip(smooth_margin, -32, 32) / 16,
        np.tanh(smooth_margin / 3),
        *(_at(_blurred(flow.correlation, side)) for side in (1, 9, 21)),
        *(_at(_blurred(trip, side)) for side in (1, 9, 21)),
        np.log1p(_at(own.deviation)),
        np.clip(_at(flow.brightness), 0, 60) / 30,
        *near,
        np.log1p(np.clip(off_line, 0, 100)),
        np.log1p(np.clip(np.linalg.norm(target - smooth, axis=1), 0, 100)) / 2,
        _at(_blurred(area, 3)),
        np.log1p(_at(_blurred(roughness, 3))),
        _at(flow.cost),
        *(_FLAT.T / 64 - 1),
        *(_at(_blurred(good, side)) for side in (7, 31)),
        np.log1p(_at(_blurred(own.deviation, 15))),
    ]
    lands = margin > 0
    whole = [
        good.mean(),
        flow.correlation.mean(),
        trip.mean(),
        2 * np.median(near[0]),
        lands.mean(),
        np.log1p(off_line[lands].mean() if lands.any() else 50),
    ]
    return np.stack(figures, axis=1), target, np.array(whole)


def _at(values: np.ndarray) -> np.ndarray:
    """A map of the working picture at the lattice's points, [p] or [p, 2]."""
    return follow(values, POINTS).reshape(len(_FLAT), *values.shape[2:])


def _blurred(values: Float32[np.ndarray, "s s"], side: int) -> Float32[np.ndarray, "s s"]:
    return values if side == 1 else cv2.boxFilter(values, -1, (side, side))


def _margin(at: Float32[np.ndarray, "p 2"]) -> Float32[np.ndarray, " p"]:
    """How far inside the other picture a point lies, in working px; negative outside."""
    return np.minimum(at + 0.5, SIDE - 0.5 - at).min(1)


def _near(target: Float32[np.ndarray, "p 2"], matches: Float64[np.ndarray, "n 4"]) -> list[Float64[np.ndarray, " p"]]:
    """How near the matches are here and there, how many, and whether the nearest moves alike."""
    a, b = matches[:, :2], matches[:, 2:]
    squared = squared_distances(_FLAT, a)
    nearest, fifth = squared.argmin(1), min(5, len(a) - 1)
    unlike = np.linalg.norm((target - _FLAT) - (b - a)[nearest], axis=1)
    return [
        np.log1p(np.sqrt(squared.min(1))) / 2,
        np.log1p(np.sqrt(np.partition(squared, fifth, axis=1)[:, fifth])) / 2,
        np.log1p(np.exp(-squared / 200).sum(1)),
        np.log1p(np.sqrt(squared_distances(target, b).min(1))) / 2,
        np.log1p(np.clip(unlike, 0, 100)) / 2,
    ]


def _shape(field: Float32[np.ndarray, "s s 2"]) -> tuple[np.ndarray, np.ndarray]:
    """How much a field grows an area, and how far it is from a mere shift, at each pixel."""
    field = np.ascontiguousarray(field)
    along_x, along_y = (cv2.Sobel(field, cv2.CV_32F, *order, ksize=3) / 8 for order in ((1, 0), (0, 1)))
    area = along_x[..., 0] * along_y[..., 1] - along_x[..., 1] * along_y[..., 0]
    bent = np.hypot(along_x[..., 0] - 1, along_x[..., 1]) + np.hypot(along_y[..., 0], along_y[..., 1] - 1)
    return np.clip(area, -2, 4), np.minimum(bent, 20)


def classify(figures: Float32[np.ndarray, "p f"]) -> tuple[Float32[np.ndarray, "p 3"], float]:
    """Chances of being shared, occluded and outside; and how far their mean over the picture is likely to be off."""
    layers = _network()

    def linear(name: str, values: np.ndarray) -> np.ndarray:
        return product(values, layers[f"{name}.weight"]) + layers[f"{name}.bias"]

    hidden = np.maximum(linear("second", np.maximum(linear("first", figures), 0)), 0)
    for k, reach in enumerate(DILATIONS):
        hidden = hidden + np.maximum(linear(f"around.{k}", _around(hidden, reach)), 0)
    pooled = np.concatenate([hidden.mean(0), hidden.max(0)])[None]
    hidden = hidden + np.maximum(linear("whole", pooled), 0)
    logits = linear("last", hidden)
    chances = np.exp(logits - logits.max(1, keepdims=True))
    error = np.exp(linear("error", np.maximum(linear("doubt", pooled), 0))) + 1e-3
    return chances / chances.sum(1, keepdims=True), float(error[0, 0])


def _around(hidden: Float32[np.ndarray, "p c"], reach: int) -> Float32[np.ndarray, "p d"]:
    """Each point's figures and those of its eight neighbours so many points away, row by row; 0 beyond the picture."""
    grid = np.pad(hidden.reshape(LATTICE, LATTICE, -1), ((reach, reach), (reach, reach), (0, 0)))
    rows = range(0, 2 * reach + 1, reach)
    near = [grid[y : y + LATTICE, x : x + LATTICE] for y in rows for x in rows]
    return np.concatenate(near, axis=2).reshape(LATTICE * LATTICE, -1)


@lru_cache(maxsize=1)
def _network() -> dict[str, np.ndarray]:
    """Weights and biases of the layers, as benchmarks/fit_covisibility.py wrote them."""
    with np.load(Path(__file__).with_suffix(".npz")) as stored:
        return dict(stored)


def _patches(
    chances: Float32[np.ndarray, "p 3"], target: Float32[np.ndarray, "p 2"], counts: Bool[np.ndarray, " p"]
) -> Int16[np.ndarray, " q"]:
    """The patch of the other picture for each patch, or why there is none: what most of its points say.

    A point goes with the likeliest of shared, occluded and outside; where none is likelier than not, or it does not count, it is
    unknown.
    """
    likeliest = np.array(CLASSES, np.int16)[chances.argmax(1)]
    fate = np.where(counts & (chances.max(1) > 0.5), likeliest, np.int16(UNKNOWN))
    return patches_of_points(fate, target[:, 0], target[:, 1], (SIDE, SIDE), (OCCLUDED, OUTSIDE, UNKNOWN))


def _stored(h: Float64[np.ndarray, "3 3"] | None, size_a: tuple[int, int], size_b: tuple[int, int]) -> np.ndarray | None:
    """A homography of working px in px of the stored pictures; last entry 1."""
    if h is None:
        return None
    to_a, to_b = (
        np.array([[size[1] / SIDE, 0, 0.5 * size[1] / SIDE - 0.5], [0, size[0] / SIDE, 0.5 * size[0] / SIDE - 0.5], [0, 0, 1]])
        for size in (size_a, size_b)
    )
    h = to_b @ h @ np.linalg.inv(to_a)
    return h / h[2, 2]
