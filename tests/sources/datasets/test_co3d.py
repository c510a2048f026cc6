"""CO3D in its official layout: which pictures, in which order, what is torn, and curated from end to end."""

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from footage_made import number_in, numbered
from runs import SHARED, curate
from twoview.curation.curate import CurateConfig
from twoview.curation.propose import Consecutive
from twoview.errors import ConfigError, UnreadableError
from twoview.shards import read_manifest, read_scenes
from twoview.sources.datasets import Co3d

APPLE = SHARED / "data" / "co3d_apple_posed" / "apple"
RECIPE = ("--recipe", f"{__name__}:recipe")
FIRST, SECOND = "110_13051_23361", "189_20393_38136"


def recipe() -> CurateConfig:
    """The published sampling."""
    return CurateConfig(source=Co3d(), propose=Consecutive(step=5, every=2), size=112, overlap=(0.2, 0.95))


def entry(category: str, sequence: str, number: int, file: str) -> dict[str, Any]:
    """A frame as frame_annotations.jgz has it, with more than is read."""
    return {
        "sequence_name": sequence,
        "frame_number": number,
        "frame_timestamp": -1.0,
        "image": {"path": f"{category}/{sequence}/images/{file}", "size": [64, 128]},
        "depth": {"path": f"{category}/{sequence}/depths/{file}.geometric.png", "scale_adjustment": 1.0, "mask_path": None},
        "mask": {"path": f"{category}/{sequence}/masks/{file[:-4]}.png", "mass": 12.5},
        "viewpoint": {"R": [[1, 0, 0], [0, 1, 0], [0, 0, 1]], "T": [0, 0, 1], "focal_length": [2, 2], "principal_point": [0, 0]},
        "meta": {"frame_type": "test_unseen", "frame_splits": ["singlesequence_apple_test_0_unseen"]},
    }


def annotate(category: Path, entries: Any) -> None:
    (category / "frame_annotations.jgz").write_bytes(gzip.compress(json.dumps(entries).encode()))


def pictures(category: Path, sequence: str, numbers: list[int]) -> list[str]:
    """Frames that spell a number, as frame000001.jpg and on."""
    folder = category / sequence / "images"
    folder.mkdir(parents=True)
    names = [f"frame{k + 1:06d}.jpg" for k in range(len(numbers))]
    for name, number in zip(names, numbers, strict=True):
        Image.fromarray(numbered(number)).save(folder / name, quality=95)
    return names


@pytest.fixture
def co3d(tmp_path: Path) -> Path:
    """Two categories. The first sequence's frames are numbered against the order of their names, the last category has no list."""
    root = tmp_path / "co3d"
    apple = root / "apple"
    names = pictures(apple, FIRST, [40, 41, 42, 43])
    entries = [entry("apple", FIRST, 10 - k, name) for k, name in enumerate(names)]
    names = pictures(apple, SECOND, [50, 51, 52])
    entries += [entry("apple", SECOND, k, name) for k, name in enumerate(names)]
    annotate(apple, entries[::-1])
    (apple / "sequence_annotations.jgz").write_bytes(b"not read")
    (apple / FIRST / "masks").mkdir()
    (apple / FIRST / "pointcloud.ply").write_bytes(b"not read")
    for folder in ("set_lists", "eval_batches"):
        (apple / folder).mkdir()
        (apple / folder / f"{folder}_fewview_dev.json").write_text("{}")
    pictures(root / "backpack", "506_72977_141839", list(range(12)))
    (root / "_in_progress").mkdir()
    (root / "category_to_subset_name_list.json").write_text("{}")
    return root


def test_sequences_of_all_categories(co3d: Path) -> None:
    found = Co3d()([co3d])
    assert found.names() == [f"apple/{FIRST}", f"apple/{SECOND}", "backpack/506_72977_141839"]
    assert (found.num_ignored, found.remark) == (0, "")
    about = found.about(f"apple/{FIRST}")
    assert (about.source, about.kind, about.licence) == ("co3d", "images", "CC-BY-NC-4.0")
    scene = found.open(f"apple/{SECOND}")
    assert (scene.name, scene.licence, scene.times_s, len(scene)) == (f"apple/{SECOND}", "CC-BY-NC-4.0", None, 3)
    assert scene[2].id == f"co3d/apple/{SECOND}/000002"
    assert [number_in(scene[k].image) for k in range(3)] == [50, 51, 52]


def test_frames_are_in_the_order_of_frame_number(co3d: Path) -> None:
    scene = Co3d()([co3d]).open(f"apple/{FIRST}")
    assert [number_in(scene[k].image) for k in range(4)] == [43, 42, 41, 40]


def test_else_in_the_order_of_their_names(co3d: Path) -> None:
    """Without the list, or of a sequence that it lacks; 10 comes after 4, and 2 before 000003."""
    images = co3d / "apple" / FIRST / "images"
    (images / "frame000001.jpg").rename(images / "frame000010.jpg")
    (images / "frame000002.jpg").rename(images / "frame2.jpg")
    for change in (lambda path: annotate(path.parent, [entry("apple", SECOND, 0, "frame000001.jpg")]), lambda path: path.unlink()):
        change(co3d / "apple" / "frame_annotations.jgz")
        scene = Co3d()([co3d]).open(f"apple/{FIRST}")
        assert [number_in(scene[k].image) for k in range(4)] == [41, 42, 43, 40]


def test_one_category_alone_has_the_same_names(co3d: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Co3d()([co3d / "apple"]).names() == [f"apple/{FIRST}", f"apple/{SECOND}"]
    monkeypatch.chdir(co3d / "backpack")
    assert Co3d()([Path()]).names() == ["backpack/506_72977_141839"]


def test_pictures_stand_upright(co3d: Path) -> None:
    path = co3d / "apple" / SECOND / "images" / "frame000001.jpg"
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(np.ascontiguousarray(numbered(50)[::-1, ::-1])).save(path, quality=95, exif=exif)
    assert number_in(Co3d()([co3d]).open(f"apple/{SECOND}")[0].image) == 50


# ------------------------------------------------------------------------------------------------------------------- torn


def test_a_frame_that_is_listed_and_not_there_is_named(co3d: Path) -> None:
    """The others keep their places; whether a pair needs the frame or not."""
    (co3d / "apple" / FIRST / "images" / "frame000003.jpg").unlink()
    scene = Co3d()([co3d]).open(f"apple/{FIRST}")
    assert scene.info.status == "partial"
    assert scene.info.error.endswith("frame000003.jpg: listed in frame_annotations.jgz and not there")
    assert len(scene) == 4
    assert number_in(scene[2].image) == 41
    with pytest.raises(UnreadableError, match=r"frame000003.jpg: No such file"):
        scene[1]


def test_pictures_that_are_not_listed_are_counted(co3d: Path) -> None:
    images = co3d / "apple" / FIRST / "images"
    for name in ("frame000099.jpg", ".frame000001.jpg"):
        shutil.copy(images / "frame000001.jpg", images / name)
    found = Co3d()([co3d])
    assert found.num_ignored == 1
    assert len(found.open(f"apple/{FIRST}")) == 4


def test_sequences_that_are_not_there(co3d: Path) -> None:
    """Of a part of the data what is there is taken; a sequence without its images is named."""
    shutil.rmtree(co3d / "apple" / SECOND)
    shutil.rmtree(co3d / "apple" / FIRST / "images")
    found = Co3d()([co3d])
    assert found.names() == [f"apple/{FIRST}", "backpack/506_72977_141839"]
    assert found.remark == "sequences that frame_annotations.jgz lists and that are not there: 1"
    with pytest.raises(UnreadableError, match=rf"apple/{FIRST}/images: no such file or folder"):
        found.open(f"apple/{FIRST}")


def bent(**changes: Any) -> list[dict[str, Any]]:
    return [entry("apple", FIRST, 0, "frame000001.jpg"), entry("apple", FIRST, 1, "frame000002.jpg") | changes]


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"frames": []}, "not a list of frames"),
        ([7], "entry 0 is no frame: 7"),
        (bent(frame_number="1"), "entry 1 is no frame"),
        (bent(frame_number=1.5), "entry 1 is no frame"),
        (bent(sequence_name=None), "entry 1 is no frame"),
        (bent(image={"size": [1, 1]}), "entry 1 is no frame"),
        (bent(image="apple/frame000001.jpg"), "entry 1 is no frame"),
        (bent(image={"path": "frame000001.jpg"}), rf"entry 1: frame000001.jpg does not lie in {FIRST}/images"),
        (bent(image={"path": f"apple/{SECOND}/images/a.jpg"}), rf"entry 1: apple/{SECOND}/images/a.jpg does not lie in {FIRST}"),
        (bent(image={"path": f"apple/{FIRST}/masks/a.jpg"}), "entry 1: .*does not lie in"),
        (bent(image={"path": f"apple/{FIRST}/images/../../a.jpg"}), "entry 1: .*does not lie in"),
        (bent(image={"path": f"apple/{FIRST}/images/.."}), "entry 1: .*does not lie in"),
        (bent(image={"path": f"apple/{FIRST}/images/a\0.jpg"}), "entry 1: .*does not lie in"),
        (bent(frame_number=0), rf"entry 1: {FIRST} has a frame 0 already"),
    ],
)
def test_a_field_that_is_wrong(entries: Any, words: str, co3d: Path) -> None:
    annotate(co3d / "apple", entries)
    with pytest.raises(ConfigError, match=f"apple/frame_annotations.jgz: {words}.*: download it again, or move it away") as error:
        Co3d()([co3d])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: data[: len(data) // 2], "cannot be unpacked"),
        (lambda data: data[:-4], "cannot be unpacked"),
        (lambda data: data[:40] + bytes(20) + data[60:], "(cannot be unpacked|not JSON)"),
        (lambda data: b"<html>not found</html>", "cannot be unpacked"),
        (lambda data: b"", "not JSON"),
        (lambda data: gzip.compress(gzip.decompress(data)[:-9]), "not JSON"),
        (lambda data: gzip.compress(b"\xff\xfe\x00"), "not JSON"),
        (lambda data: gzip.compress(b"[" * 100_000), "not JSON"),
    ],
)
def test_a_damaged_list(damage: Any, words: str, co3d: Path) -> None:
    path = co3d / "apple" / "frame_annotations.jgz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ConfigError, match=f"apple/frame_annotations.jgz: {words}.*: download it again, or move it away") as error:
        Co3d()([co3d])
    assert "\n" not in str(error.value)


def test_another_layout(tmp_path: Path) -> None:
    (tmp_path / "apple_000").mkdir()
    (tmp_path / "apple_000" / "a.jpg").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"not laid out as CO3D: no <category>/<sequence>/images \(it holds apple_000\)"):
        Co3d()([tmp_path])
    with pytest.raises(ConfigError, match="CO3D finds its scenes itself"):
        Co3d()([], tmp_path / "list.txt")


# ---------------------------------------------------------------------------------------------------------------- curated


def test_the_published_pairs_from_the_command_line(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A walk of 20 frames, numbered backwards; frame 3 is not there and no pair needs it."""
    apple = tmp_path / "co3d" / "apple"
    shutil.copytree(photos, apple / FIRST / "images")
    annotate(apple, [entry("apple", FIRST, 20 - k, f"{k}.jpg") for k in range(1, 21)])
    (apple / FIRST / "images" / "17.jpg").unlink()
    out = tmp_path / "pairs"
    assert curate([tmp_path / "co3d"], out, flags=RECIPE) == 3
    rows = read_manifest(out).to_pylist()
    assert [row["pair_id"] for row in rows] == [f"co3d/apple/{FIRST}/{i:06d}-{i + 5:06d}" for i in (0, 10)]
    assert any(row["kept"] for row in rows)
    assert {(row["licence"], row["time_a_s"]) for row in rows} == {("CC-BY-NC-4.0", None)}
    (scene,) = read_scenes(out).to_pylist()
    assert (scene["source"], scene["scene"], scene["status"]) == ("co3d", f"apple/{FIRST}", "partial")
    assert "17.jpg: listed in frame_annotations.jgz and not there" in scene["error"]
    assert curate([apple], out, flags=RECIPE) == 3  # the same footage by another way
    (apple / "frame_annotations.jgz").write_bytes(b"cut")
    capsys.readouterr()
    assert curate([tmp_path / "co3d"], tmp_path / "more", flags=RECIPE) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.skipif(not APPLE.exists(), reason="the real frames of CO3D are absent")
def test_real_frames(tmp_path: Path) -> None:
    """An apple: 20 of its sequence's frames. Neighbours share about three quarters."""
    images = tmp_path / "co3d" / "apple" / FIRST / "images"
    images.mkdir(parents=True)
    names = sorted(p.name for p in APPLE.glob("*.jpg"))
    for name in names:
        (images / name).symlink_to(APPLE / name)
    annotate(tmp_path / "co3d" / "apple", [entry("apple", FIRST, int(name[5:11]) - 1, name) for name in names])
    flags = (*RECIPE, "--propose.step", "1", "--size", "224", "--overlap", "0.5:0.9")
    assert curate([tmp_path / "co3d"], tmp_path / "pairs", flags=flags) == 0
    rows = read_manifest(tmp_path / "pairs").to_pylist()
    assert [(row["frame_index_a"], row["frame_index_b"]) for row in rows] == [(i, i + 1) for i in range(0, 20, 2)]
    assert sum(row["kept"] for row in rows) >= 3
