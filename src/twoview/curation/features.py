"""What is found in one picture, and what two pictures have in common before any geometry."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Float32, Int64, UInt8

MAX_PRODUCT = 1 << 22
"""Entries of a table of distances that is held at a time: pictures of thousands of keypoints are matched in blocks."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Features:
    """SIFT of one picture."""

    size: tuple[int, int]
    """Height and width in px."""
    points: Float32[np.ndarray, "n 2"]
    """x, y in px."""
    descriptors: Float32[np.ndarray, "n 128"]
    digest: bytes = b""
    """sha256 of the pixels, where a draw is seeded by them."""


@lru_cache(maxsize=1)
def _sift() -> cv2.SIFT:
    return cv2.SIFT.create()


def sift(image: UInt8[np.ndarray, "h w 3"], digest: bytes = b"") -> Features:
    """SIFT keypoints and descriptors on grey, OpenCV's defaults (the published constants)."""
    keypoints, descriptors = _sift().detectAndCompute(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), None)
    points = np.array([k.pt for k in keypoints], np.float32).reshape(-1, 2)
    if descriptors is None:
        descriptors = np.empty((0, 128), np.float32)
    return Features(size=image.shape[:2], points=points, descriptors=descriptors, digest=digest)


def ratio_matches(
    a: Float32[np.ndarray, "n 128"],
    b: Float32[np.ndarray, "m 128"],
    ratio: float,
    matcher: Literal["brute_force", "flann"] = "brute_force",
) -> tuple[np.ndarray, np.ndarray]:
    """Indices into a and b of the matches whose nearest neighbour is closer than `ratio` times the second.

    brute_force gives what cv2.BFMatcher(NORM_L2).knnMatch(k=2) gives, by one matrix product: SIFT's descriptors are whole numbers
    up to 255, so every sum on the way is one below 2^24 and exact in float32, in whatever order it is added up.
    flann is approximate and may differ from run to run: for comparison with the paper's discussion of it.
    """
    if len(a) == 0 or len(b) < 2:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    if matcher == "flann":
        pairs = cv2.FlannBasedMatcher({"algorithm": 1, "trees": 5}, {"checks": 50}).knnMatch(a, b, k=2)
        good = [m for m, n in (p for p in pairs if len(p) == 2) if m.distance < ratio * n.distance]
        return np.array([m.queryIdx for m in good], np.int64), np.array([m.trainIdx for m in good], np.int64)
    index, nearest, second = _two_nearest(a, b)
    good = nearest.astype(np.float64) < ratio * second.astype(
        np.float64
    )  # knnMatch compares in Python, that is in double precision
    return np.flatnonzero(good), index[good]


def _two_nearest(
    a: Float32[np.ndarray, "n 128"], b: Float32[np.ndarray, "m 128"]
) -> tuple[Int64[np.ndarray, " n"], Float32[np.ndarray, " n"], Float32[np.ndarray, " n"]]:
    """For each descriptor of a: the nearest of b, its distance, and the distance of the second nearest."""
    index = np.empty(len(a), np.int64)
    squared = np.empty((2, len(a)), np.float32)
    squares_b = np.einsum("ij,ij->i", b, b)
    num = max(1, MAX_PRODUCT // len(b))
    for start in range(0, len(a), num):
        some = a[start : start + num]
        block = some @ b.T
        block *= -2
        block += squares_b  # less |a|^2, which is the same for all of a row
        rows, best = np.arange(len(some)), block.argmin(1)
        index[start : start + num] = best
        squared[0, start : start + num] = block[rows, best]
        block[rows, best] = np.inf
        squared[1, start : start + num] = block.min(1)
    nearest, second = np.sqrt(squared + np.einsum("ij,ij->i", a, a))
    return index, nearest, second
