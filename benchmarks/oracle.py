"""Claim: curation measures at least 7 times as many pairs a second as the published way, with the same answers.

The published way is tests/reference/oracle.py: two SIFT calls a pair and a loop over 39,200 random points. twoview describes
each frame once and votes by a fixed lattice (Paper), or with the published code's random points (Released). One thread, one
process, the same decoded pictures, the ways in turn; medians of CPU time. The last line is Paper as `curate` runs it, on 256 px,
30 % more pixels than the published way looks at.

    .venv/bin/python benchmarks/oracle.py
"""

import os
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import median

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # as in curate's workers

import cv2
import numpy as np
from footage import KITCHEN, frames, need

from twoview.curation.homography import Paper, Released
from twoview.curation.views import picture

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "reference"))
import oracle

NUM_PAIRS, STEP, REPEATS, TARGET = 20, 15, 5, 7.0


def published(pictures: list[np.ndarray]) -> list[float]:
    """Overlaps of neighbours; nan where there is no homography."""
    pairs = pairwise(pictures)
    return [np.nan if o is None else o for o in (oracle.measure(a, b) for a, b in pairs)]


def ours(estimator: Paper | Released, pictures: list[np.ndarray]) -> list[float]:
    described = [estimator.describe(p) for p in pictures]
    matches = [estimator.measure(a, b) for a, b in pairwise(described)]
    return [np.nan if m.overlap is None else m.overlap for m in matches]


def main() -> None:
    cv2.setNumThreads(1)
    read = list(frames(need(KITCHEN), NUM_PAIRS * STEP + 1, STEP))
    at = {px: [picture(image, "centre", px)[0] for image in read] for px in (224, 256)}
    ways: dict[str, Callable[[], list[float]]] = {
        "published, 224 px": lambda: published(at[224]),
        "Released, 224 px": lambda: ours(Released(), at[224]),
        "Paper, 224 px": lambda: ours(Paper(), at[224]),
        "Paper, 256 px": lambda: ours(Paper(), at[256]),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    answers = {}
    for _ in range(REPEATS):
        for name, way in ways.items():
            started = time.process_time()
            answers[name] = way()
            seconds[name].append(time.process_time() - started)
    slow = seconds["published, 224 px"]
    print(f"{NUM_PAIRS} pairs of frames {STEP} apart, {REPEATS} repeats in turn, one thread\n")
    print(f"{'':24}{'ms a pair':>11}{'pairs/s':>10}{'times as fast':>15}{'range':>16}{'mean overlap':>14}")
    for name, taken in seconds.items():
        ratios = [a / b for a, b in zip(slow, taken, strict=True)]
        spread = f"{min(ratios):.1f} to {max(ratios):.1f}"
        speed = f"{1000 * median(taken) / NUM_PAIRS:11.1f}{NUM_PAIRS / median(taken):10.1f}{median(ratios):15.1f}"
        print(f"{name:24}{speed}{spread:>16}{np.nanmean(answers[name]):14.3f}")
    ratio = median(a / b for a, b in zip(slow, seconds["Paper, 224 px"], strict=True))
    print(f"\nPaper on the same pictures: ratio {ratio:.1f}, target {TARGET:g}: {'met' if ratio >= TARGET else 'MISSED'}")


if __name__ == "__main__":
    main()
