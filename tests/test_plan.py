"""How footage is cut into parts: by itself alone, every pair in one part, evenly, and the same after more has come."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import twoview.plan as plan_module
from twoview.curation.curate import CurateConfig
from twoview.curation.propose import Consecutive
from twoview.errors import BrokenDatasetError, ConfigError, UnreadableError
from twoview.plan import MAX_PART_COST, MIN_PART_COST, NUM_PARTS, Plan, Slice, check_same, make_plan, read_plan, write_plan
from twoview.schema import Frame, Scene, SceneInfo


@dataclass
class Blank:
    """A scene of so many frames, ten a second, that is never looked at."""

    name: str
    num: int
    licence = None

    @property
    def times_s(self) -> np.ndarray:
        return np.arange(self.num) / 10

    def __len__(self) -> int:
        return self.num

    def __getitem__(self, index: int) -> Frame:
        raise AssertionError("a plan is made without pixels")


@dataclass
class Made:
    """A source of blank scenes by name; fewer than 0 frames: cannot be read."""

    lengths: dict[str, int]
    digests: dict[str, str] = field(default_factory=dict)

    def names(self) -> list[str]:
        return list(self.lengths)

    def open(self, name: str, /) -> Scene:
        if self.lengths[name] < 0:
            raise UnreadableError(f"{name}: torn")
        return Blank(name, self.lengths[name])

    def about(self, name: str) -> SceneInfo:
        return SceneInfo(source="made", scene=name, uri=name, kind="video", licence="CC0")

    def fingerprint(self, name: str) -> tuple[str, int]:
        return self.digests.get(name, name), 1000


SHA = CurateConfig(propose=Consecutive()).sha256


def planned(lengths: list[int], old: Plan | None = None, propose: Any = None) -> Plan:
    source = Made({f"v{i}": n for i, n in enumerate(lengths)})
    return make_plan(source, CurateConfig(propose=propose or Consecutive()), old)


def cost(plan: Plan, part: int) -> float:
    """Candidates in a part, and its frames."""
    return sum((s.stop - s.start) * (1 + 1 / 16) for s in plan.part(part))


@given(st.lists(st.integers(-1, 400), max_size=30))
def test_every_frame_of_every_scene_lies_in_one_slice(lengths: list[int]) -> None:
    plan = planned(lengths)
    for i, length in enumerate(lengths):
        slices = [s for s in plan.slices if s.scene == f"v{i}"]
        assert slices[0].start == 0
        assert slices[-1].stop == max(length, 0)
        assert all(a.stop == b.start and a.part < b.part for a, b in pairwise(slices))
        assert all(s.start < s.stop for s in slices) or length <= 0
        assert {s.num_frames for s in slices} == {max(length, 0)}
    parts = [s.part for s in plan.slices]
    assert parts == sorted(parts)
    assert set(parts) == set(range(plan.num_parts))


def test_little_footage_still_makes_several_parts() -> None:
    """A video of half a minute fills several workers, at about MIN_PART_COST each."""
    plan = planned([300])
    assert plan.num_parts == round(320 / MIN_PART_COST)
    assert all(0.8 * MIN_PART_COST <= cost(plan, p) <= 1.25 * MIN_PART_COST for p in range(plan.num_parts))


def test_much_footage_makes_about_num_parts() -> None:
    plan = planned([9_000] * 60)
    assert 0.8 * NUM_PARTS <= plan.num_parts <= 1.2 * NUM_PARTS


def test_very_much_footage_makes_parts_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "MAX_PART_COST", MAX_PART_COST / 40)  # very much is less then
    plan = planned([50_000] * 2)
    assert max(cost(plan, p) for p in range(plan.num_parts)) <= 1.05 * MAX_PART_COST / 40
    assert plan.num_parts > NUM_PARTS


def test_a_part_holds_at_most_a_gibibyte_of_pictures() -> None:
    source = Made({"v": 100_000})
    small, large = (make_plan(source, CurateConfig(propose=Consecutive(), size=size)).num_parts for size in (256, 4096))
    assert small == NUM_PARTS
    assert large == pytest.approx(106_250 * 0.8 * 4096**2 / 2**30, rel=0.01)


def test_small_scenes_share_a_part() -> None:
    plan = planned([5] * 40)
    assert 5 <= plan.num_parts <= 20
    assert max(len(plan.part(p)) for p in range(plan.num_parts)) > 2


def test_the_plan_does_not_depend_on_when_it_is_made() -> None:
    assert planned([7, 300, -1, 40]) == planned([7, 300, -1, 40])


@given(st.lists(st.integers(-1, 200), min_size=1, max_size=8), st.lists(st.integers(-1, 200), max_size=8))
def test_more_inputs_come_in_as_new_parts(first: list[int], more: list[int]) -> None:
    old = planned(first)
    new = planned(first + more, old)
    assert new.slices[: len(old.slices)] == old.slices
    assert all(s.part >= old.num_parts for s in new.slices[len(old.slices) :])
    assert {s.scene for s in new.slices} == {f"v{i}" for i in range(len(first) + len(more))}


def test_what_cannot_be_read_is_planned_with_its_error() -> None:
    (piece,) = planned([-1]).slices
    assert (piece.error, piece.num_frames, piece.stop, piece.licence) == ("v0: torn", 0, 0, "CC0")


def test_a_source_that_says_little() -> None:
    class Bare:
        def names(self) -> list[str]:
            return ["v"]

        def open(self, name: str, /) -> Scene:
            return Blank(name, 5)

    (piece,) = make_plan(Bare(), CurateConfig()).slices
    assert (piece.source, piece.kind, piece.num_frames, piece.size_bytes) == ("Bare", "custom", 5, 0)
    assert len(piece.fingerprint) == 64


@dataclass
class Outside:
    """A proposer that speaks of a frame there is not."""

    index: int

    def __call__(self, scene: Scene, /) -> Iterator[list[tuple[int, int]]]:
        yield [(0, 1)]
        yield [(self.index, 2)]


@pytest.mark.parametrize("index", [-1, 10])
def test_a_pair_of_frames_that_are_not_there_is_not_lost_in_silence(index: int) -> None:
    with pytest.raises(ConfigError, match=rf"Outside proposes frame {index} of v0, which has frames 0 to 9"):
        planned([10], propose=Outside(index))


def test_written_and_read_back(tmp_path: Path) -> None:
    plan = planned([300, -1, 5])
    assert read_plan(tmp_path) is None
    write_plan(tmp_path, plan)
    assert read_plan(tmp_path) == plan
    assert [p.name for p in tmp_path.iterdir()] == ["plan.parquet"]
    (tmp_path / "plan.parquet").write_bytes(b"PAR1")
    with pytest.raises(BrokenDatasetError, match=r"plan\.parquet: cannot be read"):
        read_plan(tmp_path)


def test_same_footage_or_not(tmp_path: Path) -> None:
    plan = planned([5, 6, 7])
    source = Made({"v0": 5, "v1": 6, "v2": 7})

    def check(sha: str = SHA, extend: bool = False) -> list[str]:
        return check_same(plan, source, sha, tmp_path, extend=extend)

    assert check() == check(extend=True) == []
    with pytest.raises(ConfigError, match="another configuration"):
        check("other", extend=True)
    source.lengths["v3"] = source.lengths["v4"] = 9
    with pytest.raises(ConfigError, match="was planned without v3 and 1 more: add --extend"):
        check()
    assert check(extend=True) == ["v3", "v4"]
    source.digests["v1"] = "changed"
    with pytest.raises(ConfigError, match=r"v1 is not the file that .* was planned with: give another --out"):
        check(extend=True)
    source.lengths = {"v0": 5}
    with pytest.raises(ConfigError, match="was planned with v1 and 1 more, which is not given now"):
        check()


def test_counts_of_a_slice_speak_of_the_scene() -> None:
    piece = planned([300]).slices[0]
    assert isinstance(piece, Slice)
    assert (piece.num_frames, piece.num_candidates, piece.size_bytes) == (300, 299, 1000)
    assert replace(piece, part=3).part == 3
