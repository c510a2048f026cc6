"""An estimator of your own: ORB features and a MAGSAC homography in place of the paper's SIFT and RANSAC.

cd examples && twoview curate VIDEO --out pairs --recipe 02_own_estimator:orb --estimator.num-features 3000
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from twoview.curation.curate import CurateConfig
from twoview.geometry import homography_fault, lattice_patches, overlap_of
from twoview.recipes import paper
from twoview.schema import Match

GRID = (14, 14)


@dataclass(frozen=True, kw_only=True)
class Orb:
    """Its fields are flags of the command line; its name goes with every row of the manifest."""

    name = "orb@1"
    num_features: int = 2000
    """Keypoints looked for in a picture."""

    def describe(self, image: np.ndarray, /) -> tuple:
        """Called once for each picture (uint8 RGB): whatever comes back is handed to `measure`."""
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        keypoints, descriptors = cv2.ORB.create(self.num_features).detectAndCompute(grey, None)
        return grey.shape, cv2.KeyPoint.convert(keypoints), descriptors

    def measure(self, a: tuple, b: tuple, /) -> Match:
        """Called once for each pair. A pair that cannot be measured says why, by one of schema.REASONS."""
        (size, points_a, descriptors_a), (_, points_b, descriptors_b) = a, b
        if descriptors_a is None or descriptors_b is None:
            return Match(found=False, failure="few_matches")
        matches = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(descriptors_a, descriptors_b)
        xy = np.array([[*points_a[m.queryIdx], *points_b[m.trainIdx]] for m in matches], np.float32).reshape(-1, 4)
        h, inlier = cv2.findHomography(xy[:, :2], xy[:, 2:], cv2.USAC_MAGSAC, 3.0) if len(xy) > 10 else (None, None)
        if h is None or inlier.sum() < 20 or homography_fault(h, size):
            return Match(found=False, failure="few_inliers", num_matches=len(xy))
        ab, ba = (lattice_patches(m, size, size, GRID, 10) for m in (h, np.linalg.inv(h)))
        return Match(
            found=True,
            overlap_ab=overlap_of(ab),
            overlap_ba=overlap_of(ba),
            patches=np.stack([ab, ba]),
            patch_grid=GRID,
            points=(xy[inlier.ravel() > 0] + np.float32(0.5)) / np.float32([*size[::-1], *size[::-1]]),
            num_matches=len(xy),
            num_inliers=int(inlier.sum()),
            homography=h,
        )


def orb() -> CurateConfig:
    """As the recipe paper, measured by ORB."""
    return replace(paper(), estimator=Orb())
