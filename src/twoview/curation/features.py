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
    orientation_deg: Float32[np.ndarray, " n"]
    log2_size: Float32[np.ndarray, " n"]
    """Of the diameter in px."""
    digest: bytes = b""
    """sha256 of the pixels, where a draw is seeded by them."""


@lru_cache(maxsize=4)
def _sift(contrast: float, edge: float) -> cv2.SIFT:
    return cv2.SIFT.create(contrastThreshold=contrast, edgeThreshold=edge)


def sift(
    image: UInt8[np.ndarray, "h w 3"], digest: bytes = b"", *, contrast: float = 0.04, edge: float = 10.0, most: int | None = None
) -> Features:
    """SIFT keypoints and descriptors on grey; OpenCV's defaults are the published constants.

    most: of more keypoints those of the strongest response are taken.
    """
    keypoints, descriptors = _sift(contrast, edge).detectAndCompute(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), None)
    if descriptors is None:
        descriptors = np.empty((0, 128), np.float32)
    if most is not None and len(keypoints) > most:
        strongest = np.argsort([-k.response for k in keypoints], kind="stable")[:most]
        keypoints, descriptors = [keypoints[i] for i in strongest], descriptors[strongest]
    return Features(
        size=image.shape[:2],
        points=np.array([k.pt for k in keypoints], np.float32).reshape(-1, 2),
        descriptors=descriptors,
        orientation_deg=np.array([k.angle for k in keypoints], np.float32),
        log2_size=np.log2([k.size for k in keypoints]).astype(np.float32) if len(keypoints) else np.empty(0, np.float32),
        digest=digest,
    )


def root_sift(descriptors: Float32[np.ndarray, "n 128"]) -> Float32[np.ndarray, "n 128"]:
    """Descriptors whose squared distance is the Hellinger distance of the histograms (Arandjelovic and Zisserman 2012).

    In whole 512ths, so that products of them are exact in float32 in whatever order they are added up.
    """
    return np.rint(512 * np.sqrt(descriptors / np.maximum(descriptors.sum(1, keepdims=True), 1e-9))).astype(np.float32)


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
    index, distance = nearest(a, b, 2)
    first, second = distance.astype(np.float64).T  # knnMatch compares in Python, that is in double precision
    good = first < ratio * second
    return np.flatnonzero(good), index[good, 0]


def nearest(
    a: Float32[np.ndarray, "n 128"], b: Float32[np.ndarray, "m 128"], num: int
) -> tuple[Int64[np.ndarray, "n k"], Float32[np.ndarray, "n k"]]:
    """For each descriptor of a the `num` nearest of b, nearest first, and their distances; k is less where b has less."""
    num = min(num, len(b))
    index = np.empty((len(a), num), np.int64)
    squared = np.empty((len(a), num), np.float32)
    squares_b = np.einsum("ij,ij->i", b, b)
    step = max(1, MAX_PRODUCT // max(len(b), 1))
    for start in range(0, len(a), step):
        some = a[start : start + step]
        block = some @ b.T
        block *= -2
        block += squares_b  # less |a|^2, which is the same for all of a row
        rows = np.arange(len(some))
        for rank in range(num):
            best = block.argmin(1)
            index[start : start + step, rank] = best
            squared[start : start + step, rank] = block[rows, best]
            block[rows, best] = np.inf
    return index, np.sqrt(squared + np.einsum("ij,ij->i", a, a)[:, None])
