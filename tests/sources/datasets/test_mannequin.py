"""MannequinChallenge in its official layout, made here: clips of videos, what is cut off, and what is not there."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import twoview
from footage_made import number_in, numbered, write_video
from twoview.cli.curate import curate_to
from twoview.curation.curate import CurateConfig
from twoview.curation.propose import Consecutive, EverySeconds
from twoview.errors import ConfigError, UnreadableError
from twoview.shards import read_manifest, read_scenes
from twoview.sources.datasets import Mannequin
from twoview.sources.datasets.mannequin import Clip
from twoview.sources.skipped import Skipped

ONE, TWO = "Q6jJjakGzBw", "-_EPDu6TscE"
RED = (220, 30, 30)
GOP = "keyint=10:min-keyint=10:scenecut=0"
NUM, RATE = 120, 10


def clip_list(path: Path, times_us: Sequence[int], address: str = f"https://www.youtube.com/watch?v={ONE}") -> Path:
    """A list as the dataset's page describes it: an address, then a time, six intrinsics and a pose of 3 x 4 a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pose = "0.9999 -0.0041 0.0107 0.0312 0.0040 0.9999 0.0084 -0.0025 -0.0107 -0.0084 0.9999 0.0018"
    lines = [f"{time_us} 0.9375 1.6667 0.5 0.5 0.0 0.0 {pose}" for time_us in times_us]
    path.write_text("\n".join([address, *lines]) + "\n")
    return path


def every_tenth(start_s: float, stop_s: float) -> list[int]:
    return [round(1e5 * k) for k in range(round(10 * start_s), round(10 * stop_s) + 1)]


def video_file(path: Path) -> Path:
    """Twelve seconds, ten frames in each with their numbers; the lowest fifth of all is red."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [numbered(k, 128, 80) for k in range(NUM)]
    for image in images:
        image[64:] = RED
    return write_video(path, images, rate=RATE, options={"x264-params": GOP, "crf": "10"})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "MannequinChallenge"
    clip_list(folder / "train" / "0a1b.txt", every_tenth(2, 6))
    clip_list(folder / "train" / "00ff.txt", every_tenth(7.5, 11.9), f"https://www.youtube.com/watch?v={ONE}&t")
    clip_list(folder / "validation" / "d2.txt", every_tenth(0, 3), f"https://youtu.be/{TWO}?t=3")
    clip_list(folder / "test" / "e3.txt", every_tenth(0, 4), "https://www.youtube.com/watch?v=goneFromTub")
    video_file(folder / "videos" / f"{ONE}.mp4")
    video_file(folder / "more" / "of them" / f"{TWO}.mkv")
    return folder


def opened(root: Path, name: str) -> Clip:
    scene = Mannequin()([root]).open(name)
    assert isinstance(scene, Clip)
    return scene


def test_scenes_are_lists_by_their_split_and_name(root: Path) -> None:
    for given in (root, root.parent):
        footage = Mannequin()([given])
        assert footage.names() == ["train/00ff", "train/0a1b", "validation/d2", "test/e3"]
    known = footage.about("validation/d2")
    assert (known.source, known.licence, known.split, known.kind) == ("mannequin", "LicenseRef-YouTube", "validation", "video")
    assert footage.about("test/e3").kind == "missing"
    assert footage.num_repeated == 0


@pytest.mark.parametrize(("name", "first", "num"), [("train/0a1b", 20, 41), ("train/00ff", 75, 45), ("validation/d2", 0, 31)])
def test_a_clip_is_what_its_list_spans(name: str, first: int, num: int, root: Path) -> None:
    scene = opened(root, name)
    assert len(scene) == num
    assert [number_in(scene[k].image) for k in range(num)] == list(range(first, first + num))
    np.testing.assert_allclose(scene.times_s, np.arange(num) / RATE, atol=1e-3)
    assert scene[3].id == f"mannequin/{name}/000003"
    assert scene.info.num_frames == num
    assert (scene.info.status, scene.info.split, scene.info.uri) == ("ok", name.split("/")[0], str(root / f"{name}.txt"))
    for outside in (-1, num):
        with pytest.raises(IndexError, match=f"has frames 0 to {num - 1}"):
            scene[outside]


def test_the_lowest_fifth_is_cut_off(root: Path) -> None:
    image = opened(root, "train/0a1b")[4].image
    assert image.shape == (64, 128, 3)
    is_red = np.abs(image[:62].astype(int) - RED).max(axis=2) < 40
    assert is_red.mean() < 0.01


def test_a_late_clip_does_not_decode_what_lies_before_it(root: Path) -> None:
    scene = opened(root, "train/00ff")
    assert number_in(scene[0].image) == 75
    assert scene._video.num_decoded <= 10  # keyframes are a second apart


def test_times_need_not_be_those_of_frames_to_the_microsecond(root: Path) -> None:
    clip_list(root / "train" / "0a1b.txt", [t + 300 for t in every_tenth(2, 5.9)] + [5_999_700])
    scene = opened(root, "train/0a1b")
    assert (number_in(scene[0].image), number_in(scene[len(scene) - 1].image)) == (20, 60)


def test_clips_under_three_seconds_are_skipped_whether_their_video_is_there_or_not(root: Path) -> None:
    path = clip_list(root / "train" / "0a1b.txt", every_tenth(2, 4.9))
    gone = clip_list(root / "test" / "e3.txt", every_tenth(0, 2.8), "https://www.youtube.com/watch?v=goneFromTub")
    footage = Mannequin()([root])
    for name, file, lasts in (("train/0a1b", path, "2.9"), ("test/e3", gone, "2.8")):
        scene = footage.open(name)
        assert isinstance(scene, Skipped)
        assert scene.info.error == f"{file}: lasts {lasts} s, and under 3 s is left out, as published"


def test_a_video_that_is_not_there(root: Path) -> None:
    with pytest.raises(UnreadableError) as caught:
        Mannequin()([root]).open("test/e3")
    address, wanted = "https://www.youtube.com/watch?v=goneFromTub", root / "videos" / "goneFromTub.mp4"
    there = root / "test" / "e3.txt"
    assert str(caught.value) == f"{there}: its video is not there: download {address} as {wanted}, if it still exists"


def test_a_video_that_ends_before_the_clip(root: Path) -> None:
    clip_list(root / "train" / "0a1b.txt", every_tenth(20, 24))
    with pytest.raises(
        UnreadableError, match=rf"0a1b.txt: no frames from 20.0 to 24.0 s of .*{ONE}.mp4, which ends at 11.9 s: is it"
    ):
        Mannequin()([root]).open("train/0a1b")
    clip_list(root / "train" / "0a1b.txt", every_tenth(10, 14))
    assert len(opened(root, "train/0a1b")) == 20


LINE = "5100000 0.9 1.6 0.5 0.5 0.0 0.0 1 0 0 0 0 1 0 0 0 0 1 0"


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (LINE.replace("5100000", "51x00000"), "not a time and numbers"),
        (LINE.replace("5100000", "5.1"), "not a time and numbers"),
        (LINE.replace("5100000", 400 * "9"), "not a time and numbers"),
        (LINE.replace("1.6", "l.6"), "not a time and numbers"),
        (LINE.replace("1.6", "nan"), "not 19 numbers"),
        (LINE.rsplit(" ", 3)[0], "not 19 numbers, but 16"),
        (LINE + " 0", "not 19 numbers, but 20"),
        ("", "not a time and numbers"),
        (LINE.replace("5100000", "100000"), "its time lies before that of the line above"),
        (LINE.replace("5100000", "-5100000"), "its time lies before that of the line above"),
    ],
)
def test_a_line_that_is_corrupted(broken: str, words: str, root: Path) -> None:
    path = root / "train" / "0a1b.txt"
    lines = path.read_text().split("\n")
    path.write_text("\n".join([*lines[:6], broken, *lines[6:]]))
    with pytest.raises(UnreadableError) as caught:
        Mannequin()([root]).open("train/0a1b")
    assert str(caught.value).startswith(f"{path}, line 7: {words}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"5100000 0.9 1.6\n", ", line 1: no address of a YouTube video"),
        (b"https://example.org/watch?v=short\n", ", line 1: no address of a YouTube video"),
        (b"", ", line 1: no address of a YouTube video"),
        (f"https://www.youtube.com/watch?v={ONE}\n".encode(), ": no frames in it"),
        (f"https://www.youtube.com/watch?v={ONE}\n\xff".encode("latin-1"), ": not UTF-8 text"),
    ],
)
def test_a_list_that_is_none(content: bytes, words: str, root: Path) -> None:
    path = root / "train" / "0a1b.txt"
    path.write_bytes(content)
    footage = Mannequin()([root])
    with pytest.raises(UnreadableError) as caught:
        footage.open("train/0a1b")
    assert str(caught.value).startswith(f"{path}{words}")
    assert len(footage.open("train/00ff")) == 45


def test_lists_may_have_windows_line_ends(root: Path) -> None:
    path = root / "train" / "0a1b.txt"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert len(opened(root, "train/0a1b")) == 41


def test_a_damaged_video_makes_its_clips_partial(root: Path) -> None:
    path = root / "more" / "of them" / f"{TWO}.mkv"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 8])
    scene = opened(root, "validation/d2")
    assert number_in(scene[5].image) == 5
    assert scene.info.status == "partial"


def test_folders_that_are_not_laid_out_so(root: Path, tmp_path: Path) -> None:
    for video in root.rglob("*.m*"):
        video.unlink()
    with pytest.raises(
        ConfigError, match=r"no videos/<YouTube id>.mp4 for any of its lists .* There is train/00ff.txt, train/0a1b.txt"
    ):
        Mannequin()([root])
    (tmp_path / "empty" / "train").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"not laid out as MannequinChallenge: no train/<clip>.txt"):
        Mannequin()([tmp_path / "empty"])
    with pytest.raises(ConfigError, match="give the folder that it lies in"):
        Mannequin()([], tmp_path / "list.txt")


def test_another_list_or_video_is_noticed(root: Path) -> None:
    before = Mannequin()([root]).fingerprint("train/0a1b")
    clip_list(root / "train" / "0a1b.txt", every_tenth(2, 6)[:-1] + [6_100_000])
    changed = Mannequin()([root]).fingerprint("train/0a1b")
    assert changed[0] != before[0]
    data = bytearray((root / "videos" / f"{ONE}.mp4").read_bytes())
    data[-3] ^= 1
    (root / "videos" / f"{ONE}.mp4").write_bytes(data)
    assert Mannequin()([root]).fingerprint("train/0a1b")[0] != changed[0]


def test_pairs_of_clips(walk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "all"
    clip_list(root / "train" / "a.txt", every_tenth(1, 5))
    clip_list(root / "train" / "b.txt", every_tenth(1, 3))
    clip_list(root / "train" / "c.txt", every_tenth(1, 5), "https://www.youtube.com/watch?v=goneFromTub")
    (root / "videos").mkdir()
    (root / "videos" / f"{ONE}.mp4").write_bytes(walk.read_bytes())
    config = CurateConfig(source=Mannequin(), propose=Consecutive(step=6), overlap=(0.5, 0.92), size=112)
    assert curate_to([root], config, tmp_path / "pairs") == 3
    said = capsys.readouterr().out
    assert "skipped by a rule of the dataset: 1 of 3 scenes" in said
    assert f"unreadable: {root}/train/c.txt: its video is not there: download" in said
    rows = read_manifest(tmp_path / "pairs").to_pylist()
    assert {(r["source"], r["scene"], r["split"], r["licence"]) for r in rows} == {
        ("mannequin", "train/a", "train", "LicenseRef-YouTube")
    }
    assert max(r["frame_index_b"] for r in rows) <= 40
    stored = twoview.open(tmp_path / "pairs")
    assert len(stored)
    assert all(pair.row.crop_a == [96, 0, 384, 288] for pair in stored)  # of 480 x 288
    scenes = {row["scene"]: (row["status"], row["split"]) for row in read_scenes(tmp_path / "pairs").to_pylist()}
    assert scenes == {"train/a": ("ok", "train"), "train/b": ("skipped", "train"), "train/c": ("unreadable", "train")}


def test_seconds_count_from_the_start_of_the_clip(root: Path) -> None:
    groups = list(EverySeconds(double=False)(opened(root, "train/00ff")))
    assert [list(group.pairs) for group in groups] == [[(0, 10)], [(10, 20)], [(20, 30)], [(30, 40)]]
