"""What a dry run tells, beside what the real run does: pairs, lines and bytes; time by a clock that is made here."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from footage_made import numbered, write_video
from runs import curate, digests, twoview
from twoview.curation import adaptive, forecast, sample
from twoview.curation.curate import CurateConfig
from twoview.curation.engine import prepare, run
from twoview.curation.forecast import Forecast
from twoview.curation.propose import AllPairs, BestOfWindow, Consecutive, EverySeconds
from twoview.curation.sample import Piece, Timed, draw
from twoview.plan import Plan, Slice, make_plan
from twoview.recipes import covisibility, curate_recipe
from twoview.schema import Frame, Match
from twoview.shards import read_manifest

ALL = ("--recipe", "all_pairs", "--size", "64", "--overlap", "0.5:0.92")
"""190 pairs of the photos, in several parts."""


def told(out: Path) -> dict:
    """The forecast that a dry run has left in OUT."""
    return json.loads((out / "forecast.json").read_text())["forecast"]


def foretell(paths: list[Path], config: CurateConfig) -> Forecast:
    source = config.source(paths, None)
    found = forecast.forecast(source, config, make_plan(source, config))
    assert found is not None
    return found


def real(paths: list[Path], config: CurateConfig, out: Path) -> tuple[int, int, int]:
    """Pairs kept, measured and stored."""
    run(prepare(config.source(paths, None), config, out))
    rows = read_manifest(out).to_pylist()
    return sum(r["kept"] for r in rows), len(rows), sum(r["stored"] for r in rows)


def small(monkeypatch: pytest.MonkeyPatch, groups: int, spans: int = 3) -> None:
    """Samples of so many groups, or stretches of time."""
    monkeypatch.setattr(sample, "MIN_GROUPS", groups)
    monkeypatch.setattr(sample, "MIN_SPANS", spans)


# ----------------------------------------------------------------------------------------------------- pairs and bytes

QUICK = CurateConfig(size=112, overlap=(0.5, 0.92))
RUNS = {
    "every_seconds": replace(QUICK, propose=EverySeconds(seconds=0.2), store=(0.3, 0.95)),
    "consecutive": replace(QUICK, propose=Consecutive(double=True)),
    "best_of_window": replace(QUICK, propose=BestOfWindow(window=5, candidates=2)),
    "all_pairs": replace(QUICK, propose=AllPairs(), max_pairs_per_scene=60),
    "adaptive": replace(covisibility(), size=112, filters=()),
}


@pytest.mark.parametrize("name", RUNS)
def test_of_little_footage_all_is_measured(name: str, footage: list[Path], tmp_path: Path) -> None:
    config, paths = RUNS[name], footage[:1] if name in ("adaptive", "every_seconds") else footage[1:]
    found = foretell(paths, config)
    assert found.whole
    kept, measured, stored = real(paths, config, tmp_path / "pairs")
    assert (found.num_kept, found.num_measured, found.num_stored) == (kept, measured, stored)
    assert (found.kept_low, found.kept_high) == (kept, kept)
    assert found.num_bytes == pytest.approx(forecast.bytes_of_parts(tmp_path / "pairs"), rel=0.01)
    assert kept > 0


@pytest.mark.parametrize(
    ("name", "groups"), [("consecutive", 10), ("best_of_window", 3), ("all_pairs", 40), ("adaptive", 3), ("every_seconds", 10)]
)
def test_a_sample_tells_about_what_a_run_gives(
    name: str, groups: int, footage: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch, groups, spans=groups)
    monkeypatch.setattr(adaptive, "WINDOW_S", 1.0)
    config, paths = RUNS[name], footage[:1] if name in ("adaptive", "every_seconds") else footage[1:]
    if name == "best_of_window":
        monkeypatch.setattr(sample, "IN_A_ROW", 1)
    found = foretell(paths, config)
    assert not found.whole
    assert found.num_groups <= groups + 5
    kept, measured, stored = real(paths, config, tmp_path / "pairs")
    assert found.num_kept == pytest.approx(kept, rel=0.4)
    assert found.num_measured == pytest.approx(measured, rel=0.4)
    assert kept > 0
    assert found.kept_low <= found.num_kept <= found.kept_high
    assert found.num_bytes == pytest.approx(forecast.bytes_of_parts(tmp_path / "pairs"), rel=0.5)
    assert found.num_stored == pytest.approx(stored, rel=0.4)


def test_of_walks(flat: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a scene is read nobody knows which of its walks will be refused; of a sample whole groups are measured."""
    small(monkeypatch, 8)
    monkeypatch.setattr(sample, "IN_A_ROW", 2)
    config = curate_recipe("walk")
    config = replace(config, size=64, overlap=(0.2, 0.95), min_sharpness=0.0, source=replace(config.source, samples=14, headings=4))  # pyright: ignore
    found = foretell([flat], config)
    assert (found.num_groups, found.num_places) == (8, 4)
    kept, measured, _ = real([flat], config, tmp_path / "pairs")
    assert found.num_measured == pytest.approx(measured, rel=0.4)
    assert kept > 0
    assert found.kept_low <= kept <= found.kept_high


def test_a_sample_is_the_seeds(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch, 10)
    config = RUNS["consecutive"]
    once, again, other = (asdict(foretell([photos], replace(config, seed=seed))) for seed in (0, 0, 5))
    for each in (once, again, other):
        each.pop("seconds")
    assert once == again
    assert once != other


def test_two_workers_tell_the_same(photos: Path, tmp_path: Path) -> None:
    outs = [tmp_path / "one", tmp_path / "two"]
    for workers, out in zip((1, 2), outs, strict=True):
        done = twoview("curate", photos, "--out", out, *ALL, "--workers", workers, "--dry-run")
        assert (done.returncode, done.stderr) == (0, "")
    one, two = map(told, outs)
    assert (one.pop("workers"), two.pop("workers")) == (1, 2)
    one.pop("seconds"), two.pop("seconds")
    assert one == two


def test_two_workers_measure_a_sample(walk: Path, tmp_path: Path) -> None:
    """59 groups each, in copies: more than are measured whole."""
    folder = tmp_path / "many"
    folder.mkdir()
    for k in range(6):
        (folder / f"{k}.mp4").symlink_to(walk)
    flags = ("--recipe", "consecutive", "--size", "64", "--overlap", "0.5:0.92", "--workers", "2", "--dry-run")
    done = twoview("curate", folder, "--out", tmp_path / "pairs", *flags)
    assert done.returncode == 0, done.stderr
    assert "by 240 groups in 48 places" in done.stdout
    assert "with 2 workers" in done.stdout


# ------------------------------------------------------------------------------------------------------- which are drawn


def planned(*groups: int) -> Plan:
    """Scenes with so many groups, one a frame."""
    about = {"source": "made", "kind": "video", "size_bytes": 0, "fingerprint": "", "licence": None, "error": ""}
    slices = [
        Slice(part=k, scene=str(k), start=0, stop=n, num_frames=n, num_candidates=n, num_pairs=n, **about)
        for k, n in enumerate(groups)
    ]
    return Plan(tuple(slices), "made")


def test_every_group_is_drawn_equally_often(monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch, 20)
    plan, drawn = planned(37, 1, 2, 60), Counter()
    for seed in range(400):
        for piece in draw(plan, CurateConfig(seed=seed)) or []:
            drawn.update((piece.scene.scene, k) for k in range(piece.first, piece.last))
    assert len(drawn) == 100
    assert min(drawn.values()) > 50  # 80 are expected of each
    assert max(drawn.values()) < 110


def test_the_sample_is_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over the scenes and over their length, in groups that follow each other; none twice."""
    small(monkeypatch, 40)
    pieces = draw(planned(100, 100, 3, 3, 3, 91), CurateConfig()) or []
    assert sum(p.last - p.first for p in pieces) == 40
    assert len({p.place for p in pieces}) == 8
    assert {"0", "1", "5"} <= {p.scene.scene for p in pieces}
    starts = [p.first for p in pieces if p.scene.scene == "0"]
    assert len(starts) >= 2
    assert max(starts) - min(starts) > 30
    taken = [(p.scene.scene, k) for p in pieces for k in range(p.first, p.last)]
    assert len(set(taken)) == len(taken)


def test_how_large_a_sample_is() -> None:
    num = lambda *groups, **flags: sum(p.last - p.first for p in draw(planned(*groups), CurateConfig(**flags)) or [])  # noqa: E731
    assert num(240) == 0  # all
    assert num(300) == 240
    assert num(40_000) == 400
    assert num(1_000_000) == 600
    assert num(*[1000] * 400, max_pairs_per_scene=100) == 400
    assert num(*[1000] * 2, max_pairs_per_scene=100) == 0


def test_large_groups_make_a_small_sample() -> None:
    dear = [replace(s, num_pairs=100 * s.num_candidates) for s in planned(1000).slices]
    num = sum(p.last - p.first for p in draw(Plan(tuple(dear), "made"), CurateConfig()) or [])
    assert 100 <= num <= 500
    dearer = [replace(s, num_pairs=100_000 * s.num_candidates) for s in planned(3).slices]
    assert [p.last - p.first for p in draw(Plan(tuple(dearer), "made"), CurateConfig()) or []] == [1]


# ---------------------------------------------------------------------------------------------------- time, by a made clock


class Clock:
    """Seconds that pass when something is done, and only then."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class SlowScene:
    """Frames that are decoded forwards, a second each, and a jump costs thirty; or photos, a second each."""

    name, licence, times_s = "slow", None, None

    def __init__(self, clock: Clock, length: int, photos: bool) -> None:
        self.clock, self.length, self.photos, self.at = clock, length, photos, -1

    def __len__(self) -> int:
        return self.length

    def load(self) -> None:
        self.clock.now += 200

    def __getitem__(self, index: int) -> Frame:
        far = not 0 <= index - self.at < 20
        self.clock.now += 1 if self.photos else 30 if far else index - self.at
        self.at = index
        return Frame(id=f"slow/slow/{index:06d}", image=np.full((32, 32, 3), index % 256, np.uint8))


class SlowSource:
    def __init__(self, clock: Clock, length: int, photos: bool) -> None:
        self.clock, self.length, self.photos = clock, length, photos

    def names(self) -> list[str]:
        return ["slow"]

    def open(self, name: str) -> SlowScene:
        return SlowScene(self.clock, self.length, self.photos)


class SlowEstimator:
    """Five seconds a view, two a pair."""

    name = "slow@1"

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def describe(self, image: np.ndarray) -> float:
        self._clock.now += 5
        return float(image.mean())

    def measure(self, a: float, b: float) -> Match:
        self._clock.now += 2
        return Match(found=True, overlap_ab=0.2 + 0.1 * (a % 5), overlap_ba=0.9)


@pytest.mark.parametrize(
    ("propose", "length"),
    [
        (Consecutive(step=10), 4000),
        (Consecutive(step=10, double=True), 4000),
        (BestOfWindow(), 6000),
        (AllPairs(), 60),
    ],
    ids=["consecutive", "double", "window", "all_pairs"],
)
def test_time_as_a_run_spends_it(propose: object, length: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sample jumps, and describes at the edge of each place what its neighbour would have; a run does neither."""
    clock = Clock()
    for module in (forecast, sample):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: 0.0, perf_counter=clock))
    small(monkeypatch, 40)
    config = CurateConfig(propose=propose, estimator=SlowEstimator(clock), size=32)  # pyright: ignore[reportArgumentType]
    source = SlowSource(clock, length, photos=isinstance(propose, AllPairs))
    found = forecast.forecast(source, config, make_plan(source, config))
    assert found is not None
    assert not found.whole
    clock.now = 0.0
    run(prepare(source, config, tmp_path / "pairs"))
    assert found.seconds == pytest.approx(clock.now, rel=0.06)


def test_parts_are_shared_out() -> None:
    """Three equal parts take two workers as long as four; each worker opens the scene and one jumps into it."""
    scene = planned(90).slices[0]
    parts = tuple(replace(scene, part=k, start=30 * k, stop=30 * k + 30) for k in range(3))
    piece = Piece(part=0, place=0, scene=scene, first=40, last=45)
    timed = [Timed(piece=piece, size=5, scene_size=90, each_s=2.0, open_s=7.0, entry_s=3.0, end_s=0.5)]
    took = [forecast._seconds(Plan(parts, ""), timed, {"0": 90.0}, workers) for workers in (1, 2, 3, 9)]
    assert took == [7 + 180 + 1.5, 7 + 120 + 1.0, 7 + 60 + 0.5 + 3, 7 + 60 + 0.5 + 3]


def test_when_time_runs_out(footage: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(10_000))
    for module in (forecast, sample):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: next(ticks), perf_counter=lambda: 0.0))
    small(monkeypatch, 30)
    monkeypatch.setattr(sample, "LIMIT_S", 24.0)
    found = foretell(footage, RUNS["consecutive"])
    assert found.cut_short
    assert 0 < found.num_groups < 30


def test_a_group_that_takes_too_long(
    footage: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ticks: Iterator[int] = iter(range(0, 10_000, 50))
    for module in (forecast, sample):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: next(ticks), perf_counter=lambda: 0.0))
    small(monkeypatch, 30)
    assert curate(footage, tmp_path / "pairs", "--dry-run") == 0
    assert "no forecast: not one group" in capsys.readouterr().out
    assert not (tmp_path / "pairs").exists()


def test_of_a_sample_without_a_pair() -> None:
    """Nothing found does not mean nothing there."""
    piece = Piece(part=0, place=0, scene=planned(1000).slices[0], first=0, last=5)
    timed = [replace(Timed(piece=replace(piece, place=k)), size=5) for k in range(10)]
    assert forecast._range(timed, [0] * 10, 1000.0) == (0.0, pytest.approx(58.2, abs=0.1))
    low, high = forecast._range(timed, [5, 0, 1, 4, 2, 3, 0, 5, 1, 4], 1000.0)
    assert low < 500 < high
    again = forecast._range(timed, [5, 0, 1, 4, 2, 3, 0, 5, 1, 4], 60.0)
    assert again[1] - again[0] < (high - low) * 60 / 1000  # most of all is known
    assert again[0] >= 25


# ------------------------------------------------------------------------------------------------------- the command line


def test_what_is_said_and_what_is_left(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "pairs"
    assert curate([photos], out, "--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["1 scene, 20 frames, 2 parts", "19 candidates to measure"]
    kept = re.fullmatch(r"  (\d+) pairs kept of 19 measured: all of them, in another folder", lines[2])
    assert kept
    assert re.fullmatch(r"  about .+ on this machine with 1 worker", lines[3])
    assert re.fullmatch(rf"  about .+B on disk, with {kept[1]} pairs stored", lines[4])
    assert lines[5:] == [f"for the real run to compare with: {out / 'forecast.json'}; nothing else was written"]
    assert [p.name for p in out.iterdir()] == ["forecast.json"]
    assert curate([photos], out) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3] == f"foretold: {kept[1]} pairs; kept: {kept[1]}"
    assert re.fullmatch(r"foretold: .* with 1 worker; took: .* with 1 worker", lines[-2])
    assert re.fullmatch(r"foretold: .*B; on disk: .*B", lines[-1])


@pytest.mark.parametrize(("dry", "real"), [((), ("--seed", "1")), (("--limit", "1"), ()), ((), ("--parts", "1/2"))])
def test_another_configuration_or_other_footage_is_not_compared(
    dry: tuple[str, ...], real: tuple[str, ...], photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for k in range(2):
        (tmp_path / "some" / str(k)).mkdir(parents=True)
        for n in range(1, 6):
            (tmp_path / "some" / str(k) / f"{n + k}.jpg").symlink_to(photos / f"{n + k}.jpg")
    assert curate([tmp_path / "some"], tmp_path / "pairs", "--dry-run", *dry) == 0
    assert curate([tmp_path / "some"], tmp_path / "pairs", *real) in (0, 4)
    assert "foretold" not in capsys.readouterr().out


def test_a_dataset_that_is_there_stays_as_it_is(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "pairs"
    assert curate([photos], out) == 0
    before, names = digests(out), sorted(p.name for p in out.iterdir())
    assert curate([photos], out, "--dry-run", "--seed", "3") == 0  # another configuration: this forecast is not its
    assert capsys.readouterr().out.endswith("\nnothing was written\n")
    assert sorted(p.name for p in out.iterdir()) == names
    assert curate([photos], out, "--dry-run") == 0
    assert digests(out) == before
    assert sorted(p.name for p in out.iterdir()) == sorted([*names, "forecast.json"])


def test_a_folder_of_somebody_else_is_not_touched(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "letters.txt").write_text("dear")
    assert curate([photos], tmp_path, "--dry-run") == 0
    assert [p.name for p in tmp_path.iterdir()] == ["letters.txt"]


def test_a_forecast_that_is_broken_is_none(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "pairs"
    assert curate([photos], out, "--dry-run") == 0
    for words in ("", "[]", "{}", (out / "forecast.json").read_text().replace('"workers"', '"helpers"')):
        (out / "forecast.json").write_text(words)
        capsys.readouterr()
        assert curate([photos], out) == 0
        assert "foretold" not in capsys.readouterr().out


def test_what_cannot_be_read_is_named(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torn, out = tmp_path / "torn.mp4", tmp_path / "pairs"
    torn.touch()
    assert curate([photos, torn], out, "--dry-run") == 3
    said = capsys.readouterr().out
    assert said.count(f"unreadable: {torn}: ") == 1
    assert re.search(r"  \d+ pairs kept of 19 measured", said)
    assert curate([torn], out, "--dry-run") == 3
    assert "0 pairs kept of 0 measured" in capsys.readouterr().out


def test_what_turns_out_to_be_broken(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A picture that the plan does not open, and a scene that is none after all: in the sample too."""
    small(monkeypatch, 15)
    folder = tmp_path / "some"
    folder.mkdir()
    for path in photos.iterdir():
        (folder / path.name).write_bytes(path.read_bytes() if path.name != "7.jpg" else b"\xff\xd8 nothing")
    assert curate([folder], tmp_path / "pairs", "--dry-run", "--seed", "1") == 3
    assert "partial: " in capsys.readouterr().out
    (tmp_path / "bad.glb").write_bytes(b"glTF\x02\0\0\0\x14\0\0\0\0\0\0\0JSON")
    flags = ("--recipe", "walk", "--source.samples", "50")
    assert curate([tmp_path / "bad.glb"], tmp_path / "walk", "--dry-run", flags=flags) == 3
    said = capsys.readouterr().out
    assert said.count("unreadable: ") == 1
    assert "bad.glb" in said


def test_nothing_to_measure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video = write_video(tmp_path / "one.mp4", [numbered(0)])
    assert curate([video], tmp_path / "pairs", "--dry-run") == 0
    assert "0 pairs kept of 0 measured" in capsys.readouterr().out
    (tmp_path / "empty").mkdir()
    assert curate([tmp_path / "empty"], tmp_path / "pairs", "--dry-run") == 2


def test_with_fewer_scenes_or_groups(photos: Path, walk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert curate([photos, walk], tmp_path / "one", "--dry-run", "--limit", "1") == 0
    assert capsys.readouterr().out.startswith("1 scene, 20 frames")
    assert curate([photos], tmp_path / "few", "--dry-run", "--max-pairs-per-scene", "7") == 0
    said = capsys.readouterr().out
    assert "at most 7 candidates" in said
    assert "of 7 measured" in said


def test_a_mistake_in_a_recipe_of_ones_own(footage: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is told as in a real run."""
    small(monkeypatch, 15)
    (tmp_path / "my_file.py").write_text(
        """
from dataclasses import dataclass, replace
from twoview.recipes import consecutive

@dataclass(frozen=True, kw_only=True)
class Wrong:
    name = "wrong@1"
    def describe(self, image):
        return 1 / 0
    def measure(self, a, b):
        raise AssertionError

def mine():
    return replace(consecutive(), estimator=Wrong(), size=64)
"""
    )
    done = twoview("curate", *footage, "--out", tmp_path / "pairs", "--recipe", "my_file:mine", "--dry-run", cwd=tmp_path)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert not (tmp_path / "pairs").exists()
