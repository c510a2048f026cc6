"""What one part holds, where a video is cut, and when OUT may be written to."""

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from runs import SHARED, curate, digests, litter
from twoview import plan
from twoview.curation import engine
from twoview.curation.curate import CurateConfig, OpenScene, pairs_of
from twoview.curation.engine import prepare, run
from twoview.curation.homography import Paper, Released
from twoview.curation.measure import measure
from twoview.curation.propose import AllPairs, BestOfWindow, Consecutive, EverySeconds
from twoview.curation.views import picture, view_of
from twoview.errors import BrokenDatasetError, ConfigError, UnreadableError
from twoview.plan import Slice, read_plan
from twoview.schema import Frame, Group, Match, Pair, Row, Scene, SceneInfo
from twoview.shards import ROW_SCHEMA, finished_parts, read_manifest, read_sample, read_scenes
from twoview.sources import find_footage
from twoview.sources.video import Video

KITCHEN = SHARED / "data" / "rgbd_video_redkitchen" / "video.mp4"
WHERE = ["shard", "offset", "size"]


def curated(source: Any, config: CurateConfig, out: Path) -> list[dict[str, Any]]:
    run(prepare(source, config, out))
    return read_manifest(out).to_pylist()


# ------------------------------------------------------------------------------------------------------------ cuts


def whole_and_sliced(video: Path, config: CurateConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[dict]]:
    """The rows of one part, and of many, without where they lie."""
    rows = []
    for name, cost in (("whole", 1e9), ("sliced", 4.0)):
        monkeypatch.setattr(plan, "MIN_PART_COST", cost)
        monkeypatch.setattr(plan, "MAX_PART_COST", cost)
        source = find_footage([video])
        rows.append([{k: v for k, v in row.items() if k not in WHERE} for row in curated(source, config, tmp_path / name)])
    assert read_plan(tmp_path / "whole").num_parts == 1
    assert read_plan(tmp_path / "sliced").num_parts > 5
    return rows


def test_no_pair_is_lost_at_a_cut(walk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = CurateConfig(propose=Consecutive(step=2, double=True), size=112, overlap=(0.5, 0.9))
    whole, sliced = whole_and_sliced(walk, config, tmp_path, monkeypatch)
    assert sliced == whole
    assert any(row["kept"] for row in whole)
    assert max(Counter(row["group"] for row in whole).values()) == 2


@pytest.mark.skipif(not KITCHEN.exists(), reason=f"{KITCHEN} is absent: real footage")
def test_no_pair_of_a_real_video_is_lost_at_a_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """1,000 frames with B-frames: what is decoded does not depend on where one begins to read."""
    config = CurateConfig(propose=Consecutive(step=25), size=128, overlap=(0.4, 0.8))
    whole, sliced = whole_and_sliced(KITCHEN, config, tmp_path, monkeypatch)
    assert sliced == whole
    assert len(whole) == 39
    assert len({row["sha256_a"] for row in whole if row["stored"]}) > 5


@pytest.mark.parametrize("most", [1, 7, 29, 1000])
def test_max_pairs_per_scene_holds_over_slices(most: int, walk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "MIN_PART_COST", 4.0)
    config = CurateConfig(propose=Consecutive(step=2), estimator=Nothing(), size=16, max_pairs_per_scene=most)
    rows = curated(find_footage([walk]), config, tmp_path / "pairs")
    assert len(rows) == min(most, 29)
    assert read_plan(tmp_path / "pairs").num_parts > 5
    gaps = np.diff([row["frame_index_a"] for row in rows])
    assert len(gaps) == 0 or gaps.max() - gaps.min() <= 2  # spread evenly


@dataclass(frozen=True)
class Nothing:
    """An estimator that costs nothing and finds nothing."""

    name = "nothing@1"

    def describe(self, image: np.ndarray, /) -> int:
        return 0

    def measure(self, a: int, b: int, /) -> Match:
        return Match(found=False, failure="few_matches")


def test_each_frame_is_described_once_by_a_worker(footage: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over all parts of a scene that it does one after the other, though each frame is in two pairs or more."""
    opened: list[OpenScene] = []

    class Watched(OpenScene):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            opened.append(self)

    monkeypatch.setattr(engine, "OpenScene", Watched)
    rows = curated(find_footage(footage), CurateConfig(propose=Consecutive(double=True), size=64), tmp_path / "pairs")
    assert len(finished_parts(tmp_path / "pairs")) == 5
    assert len(rows) > 59 + 19
    assert [len(s.scene) for s in opened] == [60, 20]
    assert [s.num_described for s in opened] == [60, 20]


# ----------------------------------------------------------------------------------------------------------- groups


class Numbers:
    """A scene of grey pictures; frame 3 cannot be read."""

    name, licence, times_s = "numbers", "CC0", None
    info = SceneInfo(source="mine", scene="numbers", uri="nowhere", kind="numbers", num_frames=9, licence="CC0", split="val")

    def __len__(self) -> int:
        return 9

    def __getitem__(self, index: int) -> Frame:
        if index == 3:
            raise UnreadableError("nowhere: frame 3 cannot be decoded")
        return Frame(id=f"mine/numbers/{index:06d}", image=np.full((32, 32, 3), 10 * index, np.uint8))


@dataclass
class ByDistance:
    """Overlap by how far two of the grey frames lie apart; it remembers what it was asked."""

    overlaps: dict[int, float]
    name = "distance@1"

    def __post_init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def describe(self, image: np.ndarray, /) -> int:
        return round(float(image.mean()) / 10)

    def measure(self, a: int, b: int, /) -> Match:
        self.asked.append((a, b))
        overlap = self.overlaps[b - a]
        return Match(found=True, overlap_ab=overlap, overlap_ba=1.0)


def judged(groups: list[Any], overlaps: dict[int, float], **more: Any) -> tuple[list[Pair], list[tuple[int, int]]]:
    """The pairs of one slice that holds all groups, and which were measured."""
    estimator = ByDistance(overlaps)
    config = CurateConfig(propose=lambda scene: iter(groups), estimator=estimator, size=32, **more)
    return list(pairs_of(OpenScene(Numbers(), config), piece_of(len(groups)), config)), estimator.asked


def piece_of(num_groups: int) -> Slice:
    """All of Numbers as one slice."""
    return Slice(
        part=0,
        source="mine",
        scene="numbers",
        kind="numbers",
        start=0,
        stop=9,
        num_frames=9,
        num_candidates=num_groups,
        num_pairs=num_groups,
        size_bytes=0,
        fingerprint="",
        licence=None,
        error="",
    )


@pytest.mark.parametrize(
    ("first", "expected"), [(0.9, [("overlap_high",), ()]), (0.6, [()]), (0.2, [("overlap_low",)])], ids=["high", "kept", "low"]
)
def test_first_fit_tries_the_next_only_after_too_much_overlap(first: float, expected: list[tuple]) -> None:
    pairs, asked = judged([Group(((0, 1), (0, 2)), first_fit=True)], {1: first, 2: 0.6})
    assert [p.reasons for p in pairs] == expected
    assert asked == [(0, 1), (0, 2)][: len(expected)]


@pytest.mark.parametrize("store", [None, (0.0, 1.0)], ids=["no store", "store"])
def test_the_lowest_overlap_of_a_list_of_pairs_is_kept(store: tuple[float, float] | None) -> None:
    """All are measured; one that is beaten says so, and is stored only where --store asks for what is not kept."""
    pairs, asked = judged([[(0, 1), (0, 2), (1, 5), (0, 4), (4, 5)]], {1: 0.6, 2: 0.55, 4: 0.8}, store=store)
    more = store is not None
    found = {(p.index_a, p.index_b): (p.reasons, p.store) for p in pairs}
    assert found == {
        (0, 1): (("not_best",), more),
        (0, 2): ((), True),
        (1, 5): (("overlap_high",), more),
        (0, 4): (("overlap_high",), more),
        (4, 5): (("not_best",), more),
    }
    assert len(pairs) == 5
    assert asked == [(0, 1), (0, 2), (1, 5), (0, 4), (4, 5)]
    assert len({p.group for p in pairs}) == 1


def test_of_equals_the_first_is_kept() -> None:
    pairs, _ = judged([[(0, 1), (1, 2), (4, 5)]], {1: 0.6})
    assert [(p.index_a, p.kept) for p in pairs] == [(1, False), (4, False), (0, True)]


def test_groups_that_begin_with_one_frame_have_names_of_their_own() -> None:
    pairs, _ = judged([[(0, 1)], [(0, 2)], [(1, 2)], [(0, 4)]], {1: 0.6, 2: 0.6, 4: 0.6})
    assert [p.group for p in pairs] == [f"mine/numbers/{name}" for name in ("000000", "000000.1", "000001", "000000.2")]
    assert all(p.kept for p in pairs)


def test_best_of_window_is_the_literal_search(walk: Path, tmp_path: Path) -> None:
    """Every candidate of every window measured by itself, from the frames: the pair in the band that shares least is kept."""
    config = CurateConfig(propose=BestOfWindow(window=20, candidates=3), size=112, overlap=(0.4, 0.6))
    rows = curated(find_footage([walk]), config, tmp_path / "pairs")
    frames = Video(walk)
    expected = {}
    for start in (0, 20, 40):
        lowest = None
        for i in range(start, start + 3):
            for j in range(start + 16, start + 19):
                jpegs = [view_of(frames[k], None, config.crop, config.size).image for k in (i, j)]
                overlap = measure(*jpegs, Paper(), size=112).overlap
                if overlap is not None and 0.4 <= overlap <= 0.6 and (lowest is None or overlap < lowest[0]):
                    lowest = (overlap, i, j)
        expected[f"video/walk.mp4/{start:06d}"] = lowest
    kept = {r["group"]: (r["overlap"], r["frame_index_a"], r["frame_index_b"]) for r in rows if r["kept"]}
    assert kept == {group: found for group, found in expected.items() if found}
    assert len(kept) >= 2
    assert Counter(r["group"] for r in rows) == dict.fromkeys(expected, 9)
    beaten = [r for r in rows if r["reasons"] == ["not_best"]]
    assert beaten
    assert all(r["overlap"] >= kept[r["group"]][0] and not r["stored"] for r in beaten)


def test_all_pairs_of_a_folder_describe_each_picture_once(photos: Path, tmp_path: Path) -> None:
    scene = OpenScene(find_footage([photos]).open("photos"), CurateConfig(propose=AllPairs(), size=64))
    piece = replace(piece_of(190), scene="photos", num_frames=20, stop=20)
    assert len(list(pairs_of(scene, piece, scene.config))) == 190
    assert scene.num_described == 20
    lowest = curated(
        find_footage([photos]), CurateConfig(propose=AllPairs(keep="lowest"), size=64, overlap=(0.2, 1)), tmp_path / "one"
    )
    (kept,) = [r for r in lowest if r["kept"]]
    assert len(lowest) == 190
    assert kept["overlap"] == min(r["overlap"] for r in lowest if r["reasons"] in ([], ["not_best"]))


def test_the_frames_of_a_group_are_read_forwards_and_once() -> None:
    read: list[int] = []

    class Watched(Numbers):
        def __getitem__(self, index: int) -> Frame:
            read.append(index)
            return super().__getitem__(index)

    config = CurateConfig(propose=BestOfWindow(window=8, candidates=2), estimator=ByDistance(dict.fromkeys(range(9), 0.6)), size=32)
    pairs = list(pairs_of(OpenScene(Watched(), config), piece_of(1), config))
    assert read == [0, 1, 5, 6]
    assert len(pairs) == 4


def test_a_frame_that_cannot_be_read_refuses_its_pairs_alone() -> None:
    pairs, asked = judged([[(2, 3)], [(3, 4)], [(4, 5)], []], {1: 0.6})
    assert [p.reasons for p in pairs] == [("unreadable",), ("unreadable",), ()]
    assert asked == [(4, 5)]


class OneScene:
    """A source with none of the methods that are not asked for."""

    def names(self) -> list[str]:
        return ["numbers"]

    def open(self, name: str, /) -> Scene:
        return Numbers()


@dataclass(frozen=True)
class Neighbours:
    def __call__(self, scene: Scene, /) -> Iterator[list[tuple[int, int]]]:
        yield from ([(i, i + 1)] for i in range(len(scene) - 1))


@dataclass(frozen=True)
class Loose:
    """Answers as NumPy gives them, whole numbers where floats belong, and nothing that is not asked for."""

    name = "loose@1"

    def describe(self, image: np.ndarray, /) -> None:
        return None

    def measure(self, a: None, b: None, /) -> Match:
        h = np.eye(3, dtype=int)
        return Match(found=True, overlap_ab=np.float32(0.625), overlap_ba=1, num_matches=np.int64(7), scale=2, homography=h)


def test_a_source_and_an_estimator_of_ones_own(tmp_path: Path) -> None:
    """A scene needs no file behind it; what is not measured is null, and the JSON's types are the format's all the same."""
    out = tmp_path / "pairs"
    rows = curated(OneScene(), CurateConfig(propose=Neighbours(), estimator=Loose(), size=32), out)
    kept = [row for row in rows if row["kept"]]
    assert len(rows) == 8
    assert [row["reasons"] for row in rows if not row["kept"]] == [["unreadable"]] * 2
    assert {row["split"] for row in rows} == {"val"}
    assert {row["licence"] for row in rows} == {"CC0"}
    assert {(row["overlap"], row["scale"], row["num_matches"], row["num_inliers"]) for row in kept} == {(0.625, 2.0, 7, None)}
    content = json.loads(read_sample(out, *(kept[0][name] for name in WHERE))["json"])
    assert [type(content[name]) for name in ("overlap", "overlap_ba", "scale", "num_matches")] == [float, float, float, int]
    assert {type(v) for v in content["homography"]} == {float}
    assert content["num_inliers"] == -1
    assert [s["kind"] for s in read_scenes(out).to_pylist()] == ["numbers"]


# ------------------------------------------------------------------------------------------------------------- rows


def test_columns_of_the_manifest(dataset: Path) -> None:
    table = read_manifest(dataset)
    assert table.schema.names == [f.name for f in fields(Row)]
    assert table.schema.equals(ROW_SCHEMA)
    types = {name: str(table.schema.field(name).type) for name in table.schema.names}
    assert {t for t in types.values() if not t.startswith("list")} == {"string", "bool", "int64", "double"}
    assert types["reasons"] == "list<element: string>"
    assert types["homography"] == "list<element: double>"
    assert {types[name] for name in ("crop_a", "crop_b", "patch_grid")} == {"list<element: int64>"}


def test_refused_rows_are_small_and_unmeasured_is_null(wide: Path) -> None:
    rows = read_manifest(wide).to_pylist()
    assert {tuple(row["reasons"]) for row in rows if row["stored"]} == {(), ("overlap_low",), ("overlap_high",)}
    of_pixels = ["homography", "sharpness_a", "sharpness_b", "crop_a", "crop_b", "patch_grid", "phash_a", "phash_b"]
    of_pixels += ["sha256_a", "sha256_b", *WHERE]
    assert {row["stored"] for row in rows} == {True, False}
    for row in rows:
        assert row["kept"] == (not row["reasons"])
        assert row["overlap"] == min(row["overlap_ab"], row["overlap_ba"])
        assert all((row[name] is not None) == row["stored"] for name in of_pixels), row
        assert (row["time_a_s"] is None) == (row["scene"] == "photos")
        assert row["split"] is None
        assert (row["motion"] is None) == (not row["stored"])
        assert (row["moving"] is None) >= (not row["stored"])
        if row["stored"]:
            assert row["homography"][8] == pytest.approx(1, abs=1e-12)
            assert row["crop_a"] == [60, 0, 420, 360]


def test_store_holds_what_is_not_kept(wide: Path) -> None:
    """Every pair whose overlap lies in the band of --store, with its reason; no other."""
    rows = read_manifest(wide).to_pylist()
    assert all(row["stored"] == (0.3 <= row["overlap"] <= 0.9) for row in rows)
    assert all(row["kept"] == (0.7 <= row["overlap"] <= 0.8) for row in rows)
    for row in rows:
        if row["stored"]:
            content = json.loads(read_sample(wide, *(row[name] for name in WHERE))["json"])
            assert content["reasons"] == ",".join(row["reasons"])


@pytest.mark.parametrize("recipe", ["paper", "released"])
def test_stored_pictures_measure_as_their_row_says(recipe: str, walk: Path, tmp_path: Path) -> None:
    """To the last bit, from the JPEGs in the shard alone."""
    out = tmp_path / "pairs"
    band = ("--overlap", "0.5:0.75") if recipe == "paper" else ()
    assert curate([walk], out, flags=("--recipe", recipe, *band)) == 0
    stored = [row for row in read_manifest(out).to_pylist() if row["stored"]]
    assert len(stored) >= 3
    crop, size, estimator = ("centre", 256, Paper()) if recipe == "paper" else ("stretch", 224, Released())
    for row in stored:
        files = read_sample(out, *(row[name] for name in WHERE))
        for view in "ab":
            (tmp_path / f"{view}.jpg").write_bytes(files[f"{view}.jpg"])
        match = measure(tmp_path / "a.jpg", tmp_path / "b.jpg", estimator, crop=crop, size=size)
        assert (match.overlap, match.overlap_ab, match.overlap_ba) == (row["overlap"], row["overlap_ab"], row["overlap_ba"])
        assert match.num_inliers == row["num_inliers"]
        assert match.homography.ravel().tolist() == row["homography"]


@pytest.mark.parametrize(
    ("crop", "shape", "box"),
    [
        ("centre", (64, 64), (30, 0, 150, 120)),
        ("stretch", (64, 64), (0, 0, 180, 120)),
        ("none", (64, 96), (0, 0, 180, 120)),
    ],
)
def test_picture(crop: Any, shape: tuple[int, int], box: tuple[int, ...]) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (120, 180, 3), np.uint8)
    image, cut = picture(frame, crop, 64)
    assert image.shape == (*shape, 3)
    assert cut == box
    assert np.array_equal(picture(image, crop, 64)[0], image)  # a stored picture is left as it is


# -------------------------------------------------------------------------------------- what may go into which OUT


@pytest.fixture
def two_folders(photos: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Six photos in a folder, six others in a second."""
    folders = tmp_path / "first", tmp_path / "second"
    for k, folder in enumerate(folders):
        folder.mkdir()
        for i in range(6):
            shutil.copy(photos / f"{6 * k + i + 1}.jpg", folder)
    return folders


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1, said
    return said[0]


def test_extend(two_folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = two_folders
    out = tmp_path / "pairs"
    assert curate([first], out) == 0
    before, plan_before = digests(out), read_plan(out).slices
    capsys.readouterr()

    assert curate([first, second], out) == 2
    assert last_line(capsys) == (f"twoview: {out} was planned without second: add --extend to curate it too, or give another --out")
    assert digests(out) == before

    assert curate([first, second], out, "--extend") == 0
    assert before.items() < digests(out).items()
    assert read_plan(out).slices[: len(plan_before)] == plan_before
    scenes = read_scenes(out).to_pylist()
    assert [(s["part"], s["scene"]) for s in scenes] == [(0, "first"), (1, "second")]
    assert litter(out) == []
    extended = digests(out)
    assert curate([first, second], out) == 0  # known by now: no need to say it again
    assert curate([second], out, "--extend") == 0  # what is finished needs its footage no more
    assert digests(out) == extended


def test_extend_needs_the_footage_of_unfinished_parts(
    two_folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = two_folders
    out = tmp_path / "pairs"
    assert curate([first], out) == 0
    (out / "manifest" / "part-000000.parquet").unlink()
    capsys.readouterr()
    assert curate([second], out, "--extend") == 2
    assert "was planned with first, which is not given now" in last_line(capsys)


def test_less_footage_is_refused(two_folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "pairs"
    assert curate(list(two_folders), out) == 0
    capsys.readouterr()
    assert curate([two_folders[1]], out) == 2
    assert "was planned with first, which is not given now: give it again, or another --out" in last_line(capsys)


def test_another_configuration_is_refused(
    two_folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "pairs"
    assert curate([two_folders[0]], out) == 0
    before = {p: p.read_bytes() for p in out.rglob("*.*")}
    capsys.readouterr()
    assert curate([two_folders[0]], out, "--estimator.min-inliers", "30") == 2
    assert f"{out} holds pairs of another configuration (see config.json there)" in last_line(capsys)
    assert {p: p.read_bytes() for p in out.rglob("*.*")} == before


def test_a_changed_file_is_refused(two_folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = two_folders
    out = tmp_path / "pairs"
    assert curate([first], out) == 0
    shutil.copy(second / "7.jpg", first / "6.jpg")
    capsys.readouterr()
    assert curate([first], out, "--extend") == 2
    assert last_line(capsys) == f"twoview: first is not the file that {out} was planned with: give another --out"


def test_out_inside_the_footage_is_no_footage(two_folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    first, _ = two_folders
    out = first / "pairs"
    assert curate([first], out) == 0
    cv2.imwrite(str(out / "sheet.jpg"), np.zeros((64, 64, 3), np.uint8))  # a picture in a dataset is no photo
    assert curate([first], out) == 0
    assert [s["scene"] for s in read_scenes(out).to_pylist()] == ["first"]


def test_a_plan_that_is_gone(two_folders: tuple[Path, Path], tmp_path: Path) -> None:
    """Parts that nobody knows the footage of any more are not mixed with new ones."""
    out = tmp_path / "pairs"
    assert curate([two_folders[0]], out) == 0
    (out / "plan.parquet").unlink()
    with pytest.raises(BrokenDatasetError, match=r"plan\.parquet is gone, though there are finished parts"):
        prepare(find_footage([two_folders[0]]), CurateConfig(), out)


# ---------------------------------------------------------------------------------------------------- configuration


def test_config_is_written_with_what_bytes_depend_on(dataset: Path) -> None:
    config = json.loads((dataset / "config.json").read_text())
    assert config["config"]["estimator"] | {"grid": 14} == config["config"]["estimator"]
    assert config["config"]["propose"]["type"] == "twoview.curation.propose:Consecutive"
    assert config["config"]["overlap"] == [0.5, 0.92]
    assert {"twoview", "numpy", "opencv", "av", "pyarrow", "libavcodec", "python"} <= config["versions"].keys()
    assert config["format"] == 1


def test_the_same_configuration_has_the_same_name_in_every_process() -> None:
    """Of an object without fields and without a repr too: its address is not part of it."""

    class Sharp:
        def __init__(self, least: float) -> None:
            self.least = least

        def __call__(self, pair: Pair) -> str:
            return ""

    def named(least: float) -> str:
        return CurateConfig(filters=(Sharp(least), len)).sha256

    assert named(1.0) == named(1.0)
    assert named(1.0) != named(2.0)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"overlap": (0.7, 0.5)}, "--overlap is 0.7:0.5: give LOW:HIGH"),
        ({"overlap": (0.5, 1.5)}, "--overlap is 0.5:1.5"),
        ({"overlap": (float("nan"), 0.7)}, "--overlap is nan:0.7"),
        ({"store": (0.6, 0.9)}, "--store 0.6:0.9 must hold all of --overlap 0.5:0.7"),
        ({"size": 8}, "--size is 8"),
        ({"max_pairs_per_scene": 0}, "--max-pairs-per-scene is 0: give 1 or more"),
    ],
)
def test_values_that_make_no_sense(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        CurateConfig(**values)


def test_the_seed_of_the_run_is_the_estimators() -> None:
    assert CurateConfig(estimator=Released(), seed=3).estimator.seed == 3
    assert not hasattr(CurateConfig(propose=EverySeconds(), seed=3).estimator, "seed")
