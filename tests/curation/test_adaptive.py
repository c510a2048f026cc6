"""Pairs found by following the camera: dense where it is fast, none where it stands, the same bytes whoever works."""

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from runs import curate, digests, driver, finish, litter, start, twoview
from twoview.cli import main
from twoview.curation.adaptive import Adaptive, affine_step, shared
from twoview.curation.curate import CurateConfig, OpenScene, pairs_of
from twoview.curation.propose import Look
from twoview.errors import ConfigError, UnreadableError
from twoview.plan import Slice, make_plan
from twoview.recipes import covisibility
from twoview.schema import Frame, Group, Match, Pair, Proposer, View, iter_groups
from twoview.shards import finished_parts, read_manifest
from twoview.sources.video import Video
from walk_made import texture

FPS, SIDE_PX = 30, 240
STILL, SLOW, FAST = (range(60), range(60, 210), range(210, 300))
"""Frames of the pan below in which it stands, takes 2 s to the frame that shares 60 %, and takes a third of a second."""
PAN_PX = np.cumsum(np.concatenate([np.zeros(60), np.full(150, 1.6), np.full(90, 9.6)]))
FLAGS = ("--recipe", "covisibility", "--size", "160")


@pytest.fixture(scope="module")
def panorama() -> np.ndarray:
    return wallpaper(7)


def wallpaper(seed: int) -> np.ndarray:
    large = texture(2 * SIDE_PX, 4400, np.random.default_rng(seed))
    return cv2.resize(large, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


@dataclass
class Pan:
    """A scene whose frames are windows of a panorama."""

    panorama: np.ndarray
    at_px: np.ndarray
    times_s: np.ndarray | None = None
    damaged: tuple[int, ...] = ()
    licence: str | None = None
    name: str = "pan"
    read: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.at_px)

    def __getitem__(self, index: int) -> Frame:
        self.read.append(index)
        if index in self.damaged:
            raise UnreadableError(f"frame {index} is damaged")
        x = round(float(self.at_px[index]))
        return Frame(id=f"made/pan/{index:06d}", image=np.ascontiguousarray(self.panorama[:, x : x + SIDE_PX]))


@dataclass(frozen=True)
class Ruler:
    """Knows where each frame of a pan was taken, by its time; what it reads of the loss is off by a factor."""

    at_px: tuple[float, ...]
    factor: float = 1.0
    blind: range = range(0)
    """Frames of which it finds nothing."""
    name: str = "ruler@1"

    def describe_view(self, view: View) -> int:
        assert view.time_s is not None
        return round(view.time_s * FPS)

    def describe(self, image: np.ndarray, /) -> int:
        raise AssertionError("it has describe_view")

    def measure(self, a: int, b: int, /) -> Match:
        if a in self.blind:
            return Match(found=False, failure="few_matches")
        overlap = 1 - self.factor * min(abs(self.at_px[b] - self.at_px[a]) / SIDE_PX, 1)
        return Match(found=True, overlap_ab=overlap, overlap_ba=overlap)


def pan(panorama: np.ndarray, at_px: np.ndarray = PAN_PX, **more: object) -> Pan:
    return Pan(panorama, at_px, **{"times_s": np.arange(len(at_px)) / FPS, **more})  # pyright: ignore


def measured(scene: Pan, config: CurateConfig, start: int = 0, stop: int | None = None) -> list[Pair]:
    """The pairs of a slice."""
    stop = len(scene) if stop is None else stop
    counts = {"num_frames": len(scene), "num_candidates": 1, "num_pairs": 1, "size_bytes": 0}
    about = {"part": 0, "source": "made", "scene": "pan", "kind": "video", "fingerprint": "", "licence": None, "error": ""}
    return list(pairs_of(OpenScene(scene, config), Slice(start=start, stop=stop, **counts, **about), config))


def ruled(at_px: np.ndarray = PAN_PX, propose: Proposer | None = None, **more: object) -> CurateConfig:
    return CurateConfig(propose=propose or Adaptive(), estimator=Ruler(tuple(at_px), **more), size=112)  # pyright: ignore


def indices(pairs: Sequence[Pair]) -> list[tuple[int, int]]:
    return [(p.index_a, p.index_b) for p in pairs]


def test_pairs_follow_the_speed(panorama: np.ndarray) -> None:
    """By the real estimator: frames far apart where the pan is slow, near where it is fast, none while it stands."""
    scene = pan(panorama)
    pairs = measured(scene, CurateConfig(propose=Adaptive(), size=224))
    gaps = {a: b - a for a, b in indices(pairs)}
    kept = [p for p in pairs if p.kept]
    slow = [gaps[p.index_a] for p in kept if p.index_a in SLOW and p.index_b in SLOW]
    fast = [gaps[p.index_a] for p in kept if p.index_a in FAST]
    assert len([a for a in gaps if a in STILL]) <= 1
    assert len(slow) >= 3
    assert len(fast) >= 4
    assert all(45 <= gap <= 75 for gap in slow)  # 60 % is 60 frames on
    assert all(7 <= gap <= 13 for gap in fast)  # and 10 here
    assert len(kept) >= 0.7 * len(pairs)
    assert {p.group for p in pairs} == {f"made/pan/{a:06d}" for a in gaps}


def test_a_still_camera(panorama: np.ndarray) -> None:
    noise = np.random.default_rng(0).normal(0, 0.3, 600)
    scene = pan(panorama, 100 + noise)
    assert measured(scene, CurateConfig(propose=Adaptive(), size=224)) == []
    assert len(scene.read) < len(scene) / 3  # and few frames are looked at


def test_every_frame_is_decoded_once(walk: Path) -> None:
    video = Video(walk)
    config = replace(covisibility(), size=112)
    scene = OpenScene(video, config)
    about = {"part": 0, "source": "made", "scene": "walk", "kind": "video", "fingerprint": "", "licence": None, "error": ""}
    piece = Slice(start=0, stop=len(video), num_frames=len(video), num_candidates=1, num_pairs=1, size_bytes=0, **about)
    assert len(list(pairs_of(scene, piece, config))) > 3
    assert video.num_decoded <= len(video)


def test_frames_are_read_once_and_in_order(panorama: np.ndarray) -> None:
    scene = pan(panorama)
    assert measured(scene, ruled())
    assert scene.read == sorted(set(scene.read))


@pytest.mark.parametrize("factor", [0.75, 1.35])
def test_readings_correct_what_is_predicted(panorama: np.ndarray, factor: float) -> None:
    """An estimator that reads less of the loss, or more: after a first pair outside the band its partners lie elsewhere."""
    at_px = np.arange(900) * 2.0
    pairs = measured(pan(panorama, at_px), ruled(at_px, factor=factor))
    shares = [1 - 2.0 * (b - a) / SIDE_PX for a, b in indices(pairs)]
    wanted = 1 - 0.35 / factor
    late = [share for share, p in zip(shares, pairs, strict=True) if p.index_a > 450]
    assert len(late) >= 5
    assert np.mean(np.abs(np.array(late) - wanted)) < 0.05
    assert np.mean([p.kept for p in pairs if p.index_a > 450]) >= 0.7


def test_one_more_try_where_the_first_reads_too_much(panorama: np.ndarray) -> None:
    at_px = np.arange(400) * 4.0
    pairs = measured(pan(panorama, at_px), ruled(at_px, factor=0.5))
    tries = [[p for p in pairs if p.index_a == a] for a in dict.fromkeys(a for a, _ in indices(pairs))]
    assert max(map(len, tries)) == 2
    first = next(t for t in tries if len(t) == 2)
    assert first[0].reasons == ("overlap_high",)
    assert first[1].kept
    assert first[0].index_b < first[1].index_b
    assert first[0].group == first[1].group


def test_it_pauses_where_nothing_is_found(panorama: np.ndarray) -> None:
    at_px = np.arange(900) * 2.0
    seeing = measured(pan(panorama, at_px), ruled(at_px))
    blind = measured(pan(panorama, at_px), ruled(at_px, blind=range(900)))
    assert all(p.reasons == ("few_matches",) for p in blind)
    assert len(blind) < len(seeing) / 2
    recovers = measured(pan(panorama, at_px), ruled(at_px, blind=range(300)))
    assert len([p for p in recovers if p.kept]) >= 5


def test_no_pair_across_a_cut(panorama: np.ndarray) -> None:
    other = wallpaper(8)
    at_px = np.arange(200) * 3.0

    class Cut(Pan):
        def __getitem__(self, index: int) -> Frame:
            self.panorama = panorama if index < 100 else other
            return super().__getitem__(index)

    scene = Cut(panorama, at_px, np.arange(200) / FPS)
    pairs = indices(measured(scene, ruled(at_px)))
    assert {a < 100 for a, _ in pairs} == {True, False}
    assert all((a < 100) == (b < 100) for a, b in pairs)


def test_damaged_frames_are_passed_over(panorama: np.ndarray) -> None:
    at_px = np.arange(300) * 3.0
    damaged = tuple(range(3, 300, 4))
    pairs = measured(pan(panorama, at_px, damaged=damaged), ruled(at_px))
    assert len([p for p in pairs if p.kept]) >= 5
    assert not {i for pair in indices(pairs) for i in pair} & set(damaged)
    assert measured(pan(panorama, at_px, damaged=tuple(range(300))), ruled(at_px)) == []


def test_photos_without_a_clock(panorama: np.ndarray) -> None:
    """Frames in order, one an interval; neighbours that are too far apart to be followed are left to the estimator."""
    at_px = np.concatenate([np.arange(8) * 28.0, 1000 + np.arange(5) * 130.0])
    scene = pan(panorama, at_px, times_s=None)
    pairs = measured(scene, CurateConfig(propose=Adaptive(), size=224))
    assert (0, 3) in indices(p for p in pairs if p.kept)
    assert {(8, 9), (9, 10), (10, 11), (11, 12)} <= set(indices(pairs))


def test_variable_frame_rate(panorama: np.ndarray) -> None:
    """The same pan, but frames come in bursts: what counts is what they show."""
    times_s = np.sort(np.random.default_rng(3).uniform(0, 10, 300))
    times_s -= times_s[0]
    at_px = 120 * times_s
    pairs = measured(pan(panorama, at_px, times_s=times_s), CurateConfig(propose=Adaptive(), size=224))
    kept = indices([p for p in pairs if p.kept])
    assert len(kept) >= 8
    assert all(0.5 <= times_s[b] - times_s[a] <= 1.1 for a, b in kept)


@pytest.mark.parametrize("num", [0, 1, 2])
def test_hardly_a_video(panorama: np.ndarray, num: int) -> None:
    scene = pan(panorama, np.arange(num) * 3.0)
    assert measured(scene, ruled(np.arange(num) * 3.0)) == []
    assert len(list(Adaptive()(scene))) == (num == 2)


def test_anchors_keep_their_distance_across_slices(panorama: np.ndarray) -> None:
    """And a slice depends on its own bounds alone."""
    scene = pan(panorama)
    config = ruled()
    bounds = (0, 77, 150, 233, 300)
    slices = [measured(scene, config, *bound) for bound in pairwise(bounds)]
    first = sorted({a for pairs in slices for a, _ in indices(pairs)})
    assert len(first) > 6
    assert np.diff(first).min() >= 0.5 * FPS - 1
    assert indices(measured(scene, config, 77, 150)) == indices(slices[1])


@pytest.mark.parametrize("most", [0, 1, 3, 5])
def test_max_pairs_per_scene(panorama: np.ndarray, most: int) -> None:
    """However the scene is cut, and spread over it."""
    at_px = np.arange(900) * 2.0
    config = replace(ruled(at_px), max_pairs_per_scene=max(most, 1))
    scene = pan(panorama, at_px)
    if most == 0:  # a slice that gets none
        look = Look(scene=scene, start=0, stop=9, overlap=(0.5, 0.7), small=lambda i, side: None, hold=lambda i: None, most=0)
        assert list(Adaptive().follow(look)) == []
        return
    for bounds in ((0, 900), (0, 200, 500, 900)):
        pairs = [p for bound in pairwise(bounds) for p in measured(scene, config, *bound)]
        assert 0 < len({p.group for p in pairs}) <= most
        if most == 5:
            assert {p.index_a // 450 for p in pairs} == {0, 1}


def test_the_plan_knows_the_most(panorama: np.ndarray) -> None:
    scene = pan(panorama, np.arange(900) * 2.0)
    groups = list(iter_groups(Adaptive()(scene)))
    assert len(groups) == 2  # 30 s: slices of a quarter of a minute
    assert groups[1].pairs[0][0] == 450
    planned = sum(len(g.pairs) for g in groups)
    assert len(measured(scene, ruled(np.arange(900) * 2.0))) <= planned <= 2 * 60


def test_the_motion_of_a_picture(panorama: np.ndarray) -> None:
    """A shift by an eighth of the picture, and none."""
    a, b = (np.ascontiguousarray(panorama[:64, x : x + 64, 1]) for x in (100, 108))
    step = affine_step(a, b)
    assert step is not None
    assert np.allclose(step, [[1, 0, -0.125], [0, 1, 0], [0, 0, 1]], atol=0.01)
    assert shared(np.eye(3), step) == pytest.approx(0.875, abs=0.03)
    assert affine_step(np.full((64, 64), 80, np.uint8), b) is None
    assert affine_step(a, np.ascontiguousarray(panorama[150:214, 1500:1564, 1])) is None


class Nosy:
    """A user's own, which looks at every tenth frame and pairs it with the next such; notes what it is told."""

    first = 0

    def __init__(self) -> None:
        self.told: list[tuple[int, bool]] = []

    def __call__(self, scene: Pan) -> Iterator[Group]:
        yield Group(((0, 10),))

    def follow(self, look: Look) -> Iterator[list[tuple[int, int]]]:
        for i in range(look.start + self.first, look.stop - 10, 10):
            assert look.small(i, 32).shape == (32, 32)  # pyright: ignore
            told = yield [(i, i + 10)]
            self.told += [(p.index_b, p.kept) for p in told]


def test_a_proposer_of_the_users_own(panorama: np.ndarray) -> None:
    mine = Nosy()
    pairs = measured(pan(panorama), ruled(propose=mine))
    assert indices(pairs) == [(i, i + 10) for i in range(0, 290, 10)]
    assert mine.told == [(p.index_b, p.kept) for p in pairs]
    assert {kept for _, kept in mine.told} == {True, False}
    mine.first = -10
    with pytest.raises(ConfigError, match="Nosy proposes frame 50, where frames 60 to 99 were asked for"):
        measured(pan(panorama), ruled(propose=mine), 60, 100)


@pytest.mark.parametrize(
    ("wrong", "flag"), [({"seconds": 0.0}, "seconds"), ({"share": 1.0}, "share"), ({"max_wait_s": float("nan")}, "max-wait-s")]
)
def test_values_that_make_no_sense(wrong: dict[str, float], flag: str) -> None:
    with pytest.raises(ConfigError, match=rf"--propose\.{flag} is"):
        Adaptive(**wrong)


@pytest.fixture(scope="module")
def long_pan(panorama: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 s of a pan forth and back at a changing speed, H.264, which the plan cuts into parts."""
    path = tmp_path_factory.mktemp("pan") / "pan.mp4"
    speed = 4 + 3.5 * np.sin(np.arange(1200) / 60)
    at_px = np.abs((np.cumsum(speed) + 1900) % 3800 - 1900)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "20", "preset": "veryfast"})
        stream.width = stream.height = SIDE_PX
        stream.pix_fmt = "yuv420p"
        for i in range(len(at_px)):
            frame = av.VideoFrame.from_ndarray(Pan(panorama, at_px)[i].image, format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_the_same_bytes_whoever_works(long_pan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One worker, two, and one that is killed inside a part and followed by another."""
    alone = tmp_path / "alone"
    assert curate([long_pan], alone, flags=FLAGS) == 0
    rows = read_manifest(alone).to_pylist()
    assert len(finished_parts(alone)) == 3
    assert sum(row["kept"] for row in rows) >= 20
    assert len({row["pair_id"] for row in rows}) == len(rows)
    done = twoview("curate", long_pan, "--out", tmp_path / "two", *FLAGS, "--workers", 2)
    assert done.returncode == 0, done.stderr
    assert digests(tmp_path / "two") == digests(alone)
    kill = """
write = shards.ShardWriter.write_sample
def write_sample(self, *args):
    write(self, *args)
    if self.part == 1 and len(self._rows) == 4: os.killpg(0, signal.SIGKILL)
shards.ShardWriter.write_sample = write_sample
"""
    killed = tmp_path / "killed"
    assert finish(start(driver(tmp_path, kill), "curate", long_pan, "--out", killed, *FLAGS, "--workers", 1))[0] == -signal.SIGKILL
    assert curate([long_pan], killed, flags=FLAGS) == 0
    assert digests(killed) == digests(alone)
    assert litter(killed) == []
    capsys.readouterr()
    assert main(["curate", str(long_pan), "--out", str(tmp_path / "dry"), *FLAGS, "--dry-run"]) == 0
    assert f"at most 160 candidates to measure\n  {sum(row['kept'] for row in rows)} pairs kept" in capsys.readouterr().out
    assert main(["audit", str(alone)]) == 0


def test_what_is_said_where_nothing_moves(panorama: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "still.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width = stream.height = SIDE_PX
        stream.pix_fmt = "yuv420p"
        for i in range(90):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(panorama[:, :SIDE_PX]), format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert curate([path], tmp_path / "pairs", flags=FLAGS) == 4
    assert "the camera hardly moves, or too fast to be followed" in capsys.readouterr().err


def test_it_is_a_proposer_and_a_recipe() -> None:
    assert isinstance(covisibility().propose, Proposer)
    assert covisibility().as_dict()["propose"]["seconds"] == 0.5


def test_parts_of_a_long_video_hold_a_quarter_of_a_minute(long_pan: Path) -> None:
    class Source:
        def names(self) -> list[str]:
            return ["pan"]

        def open(self, name: str) -> Video:
            return Video(long_pan)

    slices = make_plan(Source(), CurateConfig(propose=Adaptive())).slices
    assert [s.stop - s.start for s in slices] == [400, 400, 400]
