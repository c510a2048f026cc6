"""The paper's overlap meter (section 3): SIFT, brute-force matches, a RANSAC homography and a vote of patches.

`paper` is what twoview measures with; `released` repeats the published code, with its noise, for comparison.
docs/paper.md says how they differ from each other and from the text.
"""

import hashlib
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8

from ..errors import ConfigError
from ..geometry import homography_fault, lattice_patches, majority, overlap_of, patch_of, similarity_of, unique_targets
from ..schema import Match
from .features import Features, ratio_matches, sift

MIN_MATCHES = 11
"""'More than 10 good matches' in the published code."""
REFERENCE_PX = 224
"""The picture size that the published pixel thresholds speak of."""


@dataclass(frozen=True, kw_only=True)
class Paper:
    """Overlap by homography, deterministic: a fixed lattice in each patch, an inlier floor, faults refused by name."""

    name = "paper@1"
    ratio: float = 0.7
    """A match's nearest neighbour must be closer than this times the second nearest."""
    ransac_px: float = 5.0
    """RANSAC's threshold, in px of a picture whose shorter side has 224; it grows with the stored picture."""
    min_inliers: int = 20
    """Fewer matches that agree with the homography, and the pair counts as not matched."""
    grid: int = 14
    """Rows and columns of patches."""
    per_cell: int = 10
    """Points of the lattice along each side of a patch."""
    matcher: Literal["brute_force", "flann"] = "brute_force"
    """flann is approximate and not deterministic."""

    def __post_init__(self) -> None:
        if not 0 < self.ratio <= 1:
            raise ConfigError(f"--estimator.ratio is {self.ratio}: give a number in (0, 1], as 0.7")
        if self.grid < 1 or self.grid > 128 or self.per_cell < 1:
            raise ConfigError("--estimator.grid goes from 1 to 128, --estimator.per-cell from 1")

    def describe(self, image: UInt8[np.ndarray, "h w 3"], /) -> Features:
        """SIFT of the picture as it is given."""
        return sift(image)

    def measure(self, a: Features, b: Features, /) -> Match:
        """Overlap in both directions, patch correspondences and inliers; see schema.Match."""
        seen = _agree(a, b, self.ratio, self.ransac_px * min(a.size) / REFERENCE_PX, self.matcher)
        h = seen.homography
        if h is None:
            return seen.match("few_matches" if seen.num_matches < MIN_MATCHES else "no_homography")
        fault = homography_fault(h, a.size) or ("few_inliers" if len(seen.points) < self.min_inliers else "")
        if fault:
            return seen.match(fault)
        back = np.linalg.inv(h)
        fault = homography_fault(back / back[2, 2], b.size)
        if fault:
            return seen.match(fault)
        grid = (self.grid, self.grid)
        ab = lattice_patches(h, a.size, b.size, grid, self.per_cell)
        ba = lattice_patches(back / back[2, 2], b.size, a.size, grid, self.per_cell)
        return seen.match("", np.stack([ab, ba]), grid)


@dataclass(frozen=True, kw_only=True)
class Released:
    """The published code: pictures stretched to 224 px, 100 random points a patch, no inlier floor.

    The points are drawn from a generator seeded by `seed` and the pixels of both pictures, so a pair reads the same in
    every run and folder; the published code draws anew each time. Checked against its answers on 127 real pairs.
    """

    name = "released@1"
    seed: int = 0
    """Another seed gives another draw: the reading moves by about 1 point."""

    def describe(self, image: UInt8[np.ndarray, "h w 3"], /) -> Features:
        """SIFT of the picture stretched to 224 x 224 px."""
        if image.shape[:2] != (REFERENCE_PX, REFERENCE_PX):
            image = cv2.resize(image, (REFERENCE_PX, REFERENCE_PX), interpolation=cv2.INTER_LINEAR)
        return sift(image, hashlib.sha256(image.tobytes()).digest())

    def measure(self, a: Features, b: Features, /) -> Match:
        """Overlap in both directions, patch correspondences and inliers; see schema.Match."""
        seen = _agree(a, b, 0.7, 5.0, "brute_force")
        h = seen.homography
        if h is None:
            return seen.match("few_matches" if seen.num_matches < MIN_MATCHES else "no_homography")
        try:
            back = np.linalg.inv(h)
        except np.linalg.LinAlgError:  # the published code dies here
            return seen.match("singular_homography")
        entropy = hashlib.sha256(a.digest + b.digest).digest()
        rng = np.random.default_rng([self.seed, int.from_bytes(entropy[:8], "big")])
        ab, ba = (_random_patches(m, rng) for m in (h, back))
        return seen.match("", np.stack([ab, ba]), (14, 14))


def _random_patches(h: Float64[np.ndarray, "3 3"], rng: np.random.Generator) -> np.ndarray:
    """The patch of b for each patch of a by the vote of 100 pixels of the patch, drawn with replacement.

    Two habits of the published code are kept, or its figures cannot be met: a pixel is its upper left corner, and a point
    beyond the horizon votes for where the division puts it.
    """
    side = REFERENCE_PX // 16
    own = np.repeat(np.arange(side * side), 100)
    x = own % side * 16 + rng.integers(0, 16, own.size)
    y = own // side * 16 + rng.integers(0, 16, own.size)
    u, v, w = h @ np.stack([x, y, np.ones_like(x)])
    with np.errstate(divide="ignore", invalid="ignore"):
        target = patch_of(u / w - 0.5, v / w - 0.5, (REFERENCE_PX, REFERENCE_PX), (side, side))
    return unique_targets(majority(own, target, side * side))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Agreement:
    """What RANSAC made of the matches of two pictures."""

    a: Features
    b: Features
    num_matches: int
    homography: Float64[np.ndarray, "3 3"] | None
    points: Float32[np.ndarray, "n 4"]
    """The inliers, x y in a and in b, in px."""

    def match(self, failure: str, patches: np.ndarray | None = None, grid: tuple[int, int] | None = None) -> Match:
        (height_a, width_a), (height_b, width_b) = self.a.size, self.b.size
        scale, rotation_deg = (None, None) if failure or self.homography is None else similarity_of(self.homography, self.a.size)
        return Match(
            found=not failure,
            failure=failure,
            overlap_ab=None if patches is None else overlap_of(patches[0]),
            overlap_ba=None if patches is None else overlap_of(patches[1]),
            patches=patches,
            patch_grid=grid,
            points=(self.points + np.float32(0.5)) / np.array([width_a, height_a, width_b, height_b], np.float32),
            num_keypoints_a=len(self.a.points),
            num_keypoints_b=len(self.b.points),
            num_matches=self.num_matches,
            num_inliers=len(self.points),
            homography=None if failure else self.homography,
            scale=scale,
            rotation_deg=rotation_deg,
        )


def _agree(a: Features, b: Features, ratio: float, ransac_px: float, matcher: Literal["brute_force", "flann"]) -> _Agreement:
    """Matches by the ratio test, and the homography most of them agree with."""
    index_a, index_b = ratio_matches(a.descriptors, b.descriptors, ratio, matcher)
    points = np.hstack([a.points[index_a], b.points[index_b]])
    h, inlier = None, None
    if len(points) >= MIN_MATCHES:
        h, inlier = cv2.findHomography(points[:, :2], points[:, 2:], cv2.RANSAC, ransac_px)
    if h is not None and h[2, 2]:
        h = h / h[2, 2]  # RANSAC's last entry is now and then 1 less 1e-16
    inliers = points[:0] if h is None or inlier is None else points[inlier.ravel().astype(bool)]
    return _Agreement(a=a, b=b, num_matches=len(points), homography=h, points=inliers)
