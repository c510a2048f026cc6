"""Which pairs are proposed, from times and indices alone."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twoview.curation.propose import AllPairs, BestOfWindow, Consecutive, EverySeconds, Twins
from twoview.errors import ConfigError
from twoview.schema import Frame, Group, Proposer, iter_groups


@dataclass
class Timed:
    """A scene of which only times are looked at."""

    times_s: np.ndarray | None
    num: int
    name, licence = "timed", None

    def __len__(self) -> int:
        return self.num

    def __getitem__(self, index: int) -> Frame:
        raise AssertionError("pairs are proposed without pixels")


def at(*times_s: float) -> Timed:
    return Timed(np.array(times_s), len(times_s))


def pairs(proposer: Proposer, scene: Timed) -> list[tuple[tuple[int, int], ...]]:
    return [tuple(group.pairs) for group in iter_groups(proposer(scene))]


def test_every_second_of_regular_frames() -> None:
    scene = Timed(np.arange(31) / 10, 31)
    assert EverySeconds().frames(scene).tolist() == [0, 10, 20, 30]
    assert pairs(EverySeconds(double=False), scene) == [((0, 10),), ((10, 20),), ((20, 30),)]


def test_twice_the_interval_comes_second() -> None:
    scene = Timed(np.arange(31) / 10, 31)
    groups = list(EverySeconds()(scene))
    assert [g.pairs for g in groups] == [((0, 10), (0, 20)), ((10, 20), (10, 30)), ((20, 30),)]
    assert all(g.first_fit for g in groups)


def test_every_second_of_irregular_frames() -> None:
    """For each full second the first frame that is shown then or later; a gap of several seconds has one frame after it."""
    scene = at(0.0, 0.4, 0.9, 1.3, 1.9, 2.0, 2.1, 6.5, 6.6, 7.0)
    assert EverySeconds().frames(scene).tolist() == [0, 3, 5, 7, 9]
    assert pairs(EverySeconds(double=False), scene) == [((0, 3),), ((3, 5),), ((5, 7),), ((7, 9),)]


def test_frames_a_hair_before_the_second_count() -> None:
    """Time bases of video cannot say 1.0 exactly."""
    assert EverySeconds().frames(at(0.0, 0.5, 0.99995, 1.5, 1.99991)).tolist() == [0, 2, 4]


@given(
    st.lists(st.floats(0, 30, allow_nan=False), min_size=1, max_size=60),
    st.sampled_from([0.033, 0.1, 1 / 3, 0.5, 1.0, 2.0, 7.0, 100.0]),
)
def test_frames_of_any_times(times: list[float], seconds: float) -> None:
    """Indices that exist, ascending, the first frame among them, and none for a tick that another serves."""
    times_s = np.sort(times) - min(times)
    chosen = EverySeconds(seconds=seconds).frames(Timed(times_s, len(times_s)))
    assert chosen[0] == 0
    assert (np.diff(chosen) > 0).all()
    assert chosen[-1] < len(times_s)
    ticks = np.arange(0, times_s[-1] + 1e-3, seconds)
    assert len(chosen) <= len(ticks)
    for index in chosen:
        assert any(times_s[index] >= t - 1.1e-3 and (index == 0 or times_s[index - 1] < t - 0.9e-3) for t in ticks)


def test_photos_have_no_clock() -> None:
    assert pairs(EverySeconds(seconds=5), Timed(None, 4)) == [((0, 1), (0, 2)), ((1, 2), (1, 3)), ((2, 3),)]


@pytest.mark.parametrize(
    ("step", "double", "expected"),
    [
        (1, False, [((0, 1),), ((1, 2),), ((2, 3),), ((3, 4),), ((4, 5),), ((5, 6),)]),
        (3, False, [((0, 3),), ((3, 6),)]),
        (3, True, [((0, 3), (0, 6)), ((3, 6),)]),
        (6, True, [((0, 6),)]),
        (7, True, []),
    ],
)
def test_consecutive(step: int, double: bool, expected: list) -> None:
    assert pairs(Consecutive(step=step, double=double), Timed(np.arange(7.0), 7)) == expected


@pytest.mark.parametrize(
    ("num", "expected"),
    [
        (31, [((0, 5),), ((10, 15),), ((20, 25),)]),  # frame 30 has no partner
        (36, [((0, 5),), ((10, 15),), ((20, 25),), ((30, 35),)]),
        (16, [((0, 5),), ((10, 15),)]),
        (15, [((0, 5),)]),
        (5, []),
    ],
)
def test_consecutive_that_begin_at_every_second(num: int, expected: list) -> None:
    """The published sampling of CO3D: frames i and i + 5, then i goes on by 10."""
    assert pairs(Consecutive(step=5, every=2), Timed(None, num)) == expected


def test_every_third_begins_with_the_step_doubled() -> None:
    assert pairs(Consecutive(every=3, double=True), Timed(None, 8)) == [((0, 1), (0, 2)), ((3, 4), (3, 5)), ((6, 7),)]


def test_best_of_window_is_the_published_sampling() -> None:
    """60 frames, a among the first 10, b among frames 49 to 58; windows do not overlap, the rest is left."""
    groups = pairs(BestOfWindow(), Timed(None, 179))
    assert [len(g) for g in groups] == [100, 100]
    assert [{i for i, _ in g} for g in groups] == [set(range(10)), set(range(60, 70))]
    assert [{j for _, j in g} for g in groups] == [set(range(49, 59)), set(range(109, 119))]
    assert len(set(groups[0])) == 100


@pytest.mark.parametrize(("num", "expected"), [(5, 0), (6, 1), (11, 1), (12, 2)])
def test_only_whole_windows_count(num: int, expected: int) -> None:
    assert len(pairs(BestOfWindow(window=6, candidates=2), Timed(None, num))) == expected


def test_a_window_of_every_third_frame() -> None:
    scene = Timed(None, 31)
    every = pairs(BestOfWindow(window=5, candidates=2), Timed(None, 11))
    third = pairs(BestOfWindow(window=5, candidates=2, step=3), scene)
    assert third == [tuple((3 * i, 3 * j) for i, j in group) for group in every]
    assert every[0] == ((0, 2), (0, 3), (1, 2), (1, 3))


@pytest.mark.parametrize("wrong", [{"window": 20}, {"candidates": 0}, {"step": 0}])
def test_windows_that_make_no_sense(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=r"--propose\.(window is 20.*from 21|step and --propose\.candidates)"):
        BestOfWindow(**wrong)


def test_all_pairs() -> None:
    scene = Timed(None, 4)
    every = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    assert pairs(AllPairs(), scene) == [(pair,) for pair in every]
    assert pairs(AllPairs(keep="lowest"), scene) == [tuple(every)]


def test_twins() -> None:
    assert pairs(Twins(), Timed(None, 6)) == [((0, 1),), ((2, 3),), ((4, 5),)]


@pytest.mark.parametrize("proposer", [EverySeconds(), Consecutive(), BestOfWindow(), AllPairs(), AllPairs(keep="lowest"), Twins()])
@pytest.mark.parametrize("scene", [at(0.0), Timed(None, 1), Timed(None, 0), Timed(np.empty(0), 0)])
def test_too_short_for_a_pair(proposer: Proposer, scene: Timed) -> None:
    assert pairs(proposer, scene) == []


def test_plain_lists_are_groups() -> None:
    assert list(iter_groups([[(0, 1), (0, 2)], Group(((3, 4),), first_fit=True)])) == [
        Group(((0, 1), (0, 2))),
        Group(((3, 4),), first_fit=True),
    ]


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan")])
def test_an_interval_must_be_positive(seconds: float) -> None:
    with pytest.raises(ConfigError, match=r"--propose\.seconds is"):
        EverySeconds(seconds=seconds)


def test_a_step_must_be_positive() -> None:
    with pytest.raises(ConfigError, match=r"--propose\.step is 0"):
        Consecutive(step=0)
    with pytest.raises(ConfigError, match=r"--propose\.every is -1: give a whole number from 1"):
        Consecutive(every=-1)


def test_they_are_proposers() -> None:
    assert all(isinstance(p, Proposer) for p in (EverySeconds(), Consecutive(), BestOfWindow(), AllPairs(), Twins()))
