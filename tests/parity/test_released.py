"""`Released`, and the slow oracle, beside answers of the published code on 127 real pairs."""

import json
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from twoview.curation.homography import Released
from twoview.geometry import lattice_patches
from twoview.schema import Match
from twoview.sources.images import read_image

sys.path.insert(0, str(Path(__file__).parents[1] / "reference"))
import oracle

SHARED = Path(__file__).parents[3] / "shared"
FIXTURE = SHARED / "parity" / "released_overlap.json"
NUM_PAIRS, NUM_FOUND, NUM_PATCHES = 127, 79, 196
SEEDS = range(5)

pytestmark = pytest.mark.skipif(not FIXTURE.exists(), reason=f"{FIXTURE} is absent: the published code's answers")


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One pair: what the published code said, and what Released says with each of SEEDS."""

    published: dict[str, Any]
    ours: list[Match]

    @property
    def spread(self) -> tuple[int, int]:
        """Fewest and most matched patches of the published code's three seeds."""
        counts = [self.published[f"matched_patches_seed{k}"] for k in range(3)]
        return min(counts), max(counts)

    @property
    def mean(self) -> float:
        return float(np.mean([self.published[f"matched_patches_seed{k}"] for k in range(3)]))

    def excess(self, count: float) -> float:
        """How far a count lies outside the spread; 0 inside."""
        low, high = self.spread
        return max(0, low - count, count - high)


@pytest.fixture(scope="module")
def compared() -> list[Compared]:
    """Every pair of the fixture. A picture that is missing fails the tests: no pair is left out in silence."""
    describe = lru_cache(maxsize=None)(lambda name: Released().describe(read_image(SHARED / "data" / name)))
    pairs = []
    for published in json.loads(FIXTURE.read_text())["pairs"]:
        a, b = describe(published["a"]), describe(published["b"])
        seeds = SEEDS if published["found"] else SEEDS[:1]
        pairs.append(Compared(published=published, ours=[Released(seed=k).measure(a, b) for k in seeds]))
    return pairs


@pytest.fixture(scope="module")
def found(compared: list[Compared]) -> list[Compared]:
    return [c for c in compared if c.published["found"] and c.ours[0].found]


def patches_of(match: Match) -> float:
    assert match.overlap is not None
    return match.overlap * NUM_PATCHES


def check_counts(pairs: list[Compared], counts: list[float]) -> tuple[int, float, float]:
    """Pairs more than 4 patches outside the published spread, the furthest, and the mean difference."""
    excess = [c.excess(n) for c, n in zip(pairs, counts, strict=True)]
    difference = float(np.mean([n - c.mean for c, n in zip(pairs, counts, strict=True)]))
    return sum(e > 4 for e in excess), max(excess), difference


def test_found_and_inliers_are_equal(compared: list[Compared]) -> None:
    assert len(compared) == NUM_PAIRS
    ours = [(c.ours[0].found, c.ours[0].num_inliers if c.ours[0].found else None) for c in compared]
    assert ours == [(c.published["found"], c.published.get("inliers")) for c in compared]
    assert sum(f for f, _ in ours) == NUM_FOUND


def test_homographies_are_equal(found: list[Compared]) -> None:
    assert len(found) == NUM_FOUND
    for c in found:
        np.testing.assert_allclose(c.ours[0].homography, c.published["homography"], rtol=1e-5, atol=1e-7, err_msg=str(c.published))


def test_matched_patches(compared: list[Compared], found: list[Compared], capsys: pytest.CaptureFixture[str]) -> None:
    """Each pair within the noise of the published draw, for five seeds of ours; one seed could be lucky."""
    seeds = [(*check_counts(found, [patches_of(c.ours[k]) for c in found]), k) for k in SEEDS]
    worst_first = sorted(seeds, key=lambda s: (s[0], s[1], abs(s[2])), reverse=True)
    words = "; ".join(f"seed {k}: {n} outside, furthest {e:.0f}, mean {d:+.2f}" for n, e, d, k in worst_first)
    with capsys.disabled():
        print(f"\nreleased parity: {len(compared)} pairs compared, {len(found)} found; worst first: {words}")
    assert len(compared) == NUM_PAIRS
    assert len(found) == NUM_FOUND
    for num_outside, furthest, difference, seed in worst_first:
        assert num_outside <= 2, seed
        assert furthest <= 10, seed
        assert abs(difference) <= 1, seed


def test_the_oracle_votes_as_the_published_code(found: list[Compared]) -> None:
    """From the published homographies: what the oracle shares with nobody is its vote."""
    some = found[:: len(found) // 20][:20]
    assert len(some) == 20
    counts = [oracle.num_matched(np.array(c.published["homography"]), seed=0) for c in some]
    num_outside, furthest, difference = check_counts(some, counts)
    assert num_outside <= 2
    assert furthest <= 10
    assert abs(difference) <= 1


def test_the_oracle_matches_as_the_published_code(compared: list[Compared]) -> None:
    for c in compared[::16]:
        a, b = (cv2.resize(read_image(SHARED / "data" / c.published[side]), (224, 224)) for side in "ab")
        h, num_inliers = oracle.homography(a, b)
        assert (h is not None) == c.published["found"]
        assert num_inliers == c.published.get("inliers", 0)


def test_a_lattice_reads_higher_than_random_points(found: list[Compared], capsys: pytest.CaptureFixture[str]) -> None:
    """Paper's departure, on the same homographies: even points leave fewer patches to chance, so fewer targets are lost."""
    size, grid = (224, 224), (14, 14)
    more = []
    for c in found:
        h = c.ours[0].homography
        assert h is not None
        lattice = min(np.count_nonzero(lattice_patches(m, size, size, grid, 10) >= 0) for m in (h, np.linalg.inv(h)))
        more.append(lattice - np.mean([patches_of(match) for match in c.ours]))
    with capsys.disabled():
        print(f"\nlattice less random points: mean {np.mean(more):+.2f} patches of 196, median {np.median(more):+.2f}")
    assert 1 <= np.mean(more) <= 4
