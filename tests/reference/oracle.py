"""The published overlap meter, written out slowly and literally: what twoview's fast way has to agree with.

Written from the paper (section 3) and from measured facts about the released code, sharing no code with twoview. Nothing is
kept from pair to pair: each pair costs two SIFT calls, and each random point one product with the homography, in a loop.
"""

import math
import random
from collections import Counter

import cv2
import numpy as np

SIDE_PX, PATCH_PX, POINTS_PER_PATCH = 224, 16, 100
COLUMNS = SIDE_PX // PATCH_PX
NUM_PATCHES = COLUMNS * COLUMNS
OUTSIDE = -1


def sift(picture):
    """Keypoints and descriptors of an RGB picture."""
    return cv2.SIFT_create().detectAndCompute(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), None)


def homography(a, b):
    """Homography from a to b and the number of its inliers; None, 0 where there is none."""
    (keypoints_a, descriptors_a), (keypoints_b, descriptors_b) = sift(a), sift(b)
    if descriptors_a is None or descriptors_b is None or len(keypoints_b) < 2:
        return None, 0
    good = []
    for nearest, second in cv2.BFMatcher(cv2.NORM_L2).knnMatch(descriptors_a, descriptors_b, k=2):
        if nearest.distance < 0.7 * second.distance:
            good.append(nearest)
    if len(good) <= 10:
        return None, 0
    points_a = np.float32([keypoints_a[m.queryIdx].pt for m in good]).reshape(-1, 1, 2)
    points_b = np.float32([keypoints_b[m.trainIdx].pt for m in good]).reshape(-1, 1, 2)
    h, inlier = cv2.findHomography(points_a, points_b, cv2.RANSAC, 5.0)
    return (None, 0) if h is None else (h, int(inlier.sum()))


def patch_at(x, y):
    """The patch that holds a point; whether the point lies behind the camera is not asked."""
    if not (math.isfinite(x) and math.isfinite(y)):
        return OUTSIDE
    column, row = math.floor(x / PATCH_PX), math.floor(y / PATCH_PX)
    return row * COLUMNS + column if 0 <= column < COLUMNS and 0 <= row < COLUMNS else OUTSIDE


def matched_patches(h, rng):
    """{patch: patch of the other view}, by the vote of random pixels of each patch. Each target is given once."""
    matched = {}
    taken = set()
    for patch in range(NUM_PATCHES):
        top, left = patch // COLUMNS * PATCH_PX, patch % COLUMNS * PATCH_PX
        xs = rng.choices(range(left, left + PATCH_PX), k=POINTS_PER_PATCH)
        ys = rng.choices(range(top, top + PATCH_PX), k=POINTS_PER_PATCH)
        votes = Counter()
        for x, y in zip(xs, ys, strict=True):
            u, v, w = h @ np.array([x, y, 1.0])
            votes[patch_at(u / w, v / w) if w else OUTSIDE] += 1
        winner = votes.most_common(1)[0][0]
        if winner != OUTSIDE and winner not in taken:
            matched[patch] = winner
            taken.add(winner)
    return matched


def num_matched(h, seed):
    """Matched patches in the direction that has fewer, of NUM_PATCHES."""
    rng = random.Random(seed)
    return min(len(matched_patches(h, rng)), len(matched_patches(np.linalg.inv(h), rng)))


def measure(a, b, seed=0):
    """Overlap in [0, 1] of two RGB pictures of SIDE_PX, or None where no homography is found."""
    h, _ = homography(a, b)
    return None if h is None else num_matched(h, seed) / NUM_PATCHES
