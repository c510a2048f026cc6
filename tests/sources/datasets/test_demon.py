"""DeMoN's HDF5 files, what is extracted from them, and folders of pictures: made here and real, damaged one place at a time."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

from footage_made import number_in, numbered
from runs import SHARED, curate
from twoview.errors import ConfigError, UnreadableError
from twoview.shards import read_manifest
from twoview.sources.datasets import Demon
from twoview.sources.images import read_image
from twoview.sources.video import Video

# The layout, as multivih5datareaderop/README.md of https://github.com/lmb-freiburg/demon has it: for each view k of a group
#   /group/frames/t0/vk/image   1D chars, a WebP; attribute format = "webp"
#   /group/frames/t0/vk/depth   half floats by LZ4; attributes format = "lz4half", depth_metric, extents = [height, width]
#   /group/frames/t0/vk/camera  17 doubles; attribute format = "pinhole"
# and t0 has the attribute viewpoint_pairs; groups that begin with '.' are reserved.


def encoded(image: np.ndarray, kind: str = ".webp") -> bytes:
    quality = [cv2.IMWRITE_WEBP_QUALITY, 101] if kind == ".webp" else []  # over 100: lossless
    return cv2.imencode(kind, image[:, :, ::-1], quality)[1].tobytes()


def h5(path: Path, groups: dict[str, Sequence[bytes]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.create_group(".config").attrs["made"] = 2017
        for group, pictures in groups.items():
            for k, picture in enumerate(pictures):
                view = file.require_group(f"{group}/frames/t0/v{k}")
                view["image"] = np.frombuffer(picture, np.int8)
                view["image"].attrs["format"] = np.bytes_("webp")
                view["depth"] = np.zeros(40, np.int8)
                view["depth"].attrs["extents"] = np.array([48, 64], np.int32)
                view["camera"] = np.zeros(17)
            file[f"{group}/frames/t0"].attrs["viewpoint_pairs"] = np.array([0, 1], np.int32)
    return path


def pictures(num: int = 3, first: int = 0, kind: str = ".webp") -> list[bytes]:
    return [encoded(numbered(first + k), kind) for k in range(num)]


def extracted(folder: Path, num: int, first: int = 0) -> None:
    """A scene as the official script extracts it."""
    for k in range(num):
        view = folder / f"frames/t0/v{k}"
        view.mkdir(parents=True)
        (view / "image.png").write_bytes(encoded(numbered(first + k), ".png"))
        (view / "depth.png").write_bytes(encoded(numbered(200), ".png"))
        (view / "camera.txt").write_text("0.0, 0.0")


# --------------------------------------------------------------------------------------------------------- HDF5


def test_views_of_a_group(tmp_path: Path) -> None:
    h5(tmp_path / "traindata/sun3d_train_0.1m_to_0.2m.h5", {"brown_cs.2-0007": pictures(12), "a": pictures(2, first=50)})
    h5(tmp_path / "traindata/mvs_citywall.h5", {"0002": pictures(2, first=90), "0001": pictures(3, first=80)})
    (tmp_path / "traindata/README_traindata").write_text("for research only")
    names = ["mvs_citywall/0001", "mvs_citywall/0002", "sun3d_train_0.1m_to_0.2m/a", "sun3d_train_0.1m_to_0.2m/brown_cs.2-0007"]
    for root in (tmp_path, tmp_path / "traindata"):
        footage = Demon()([root])
        assert footage.names() == names
        scene = footage.open(names[3])
        for k in (11, 0, 2, 10, 1):  # v10 after v9
            np.testing.assert_array_equal(scene[k].image, numbered(k))
        assert len(scene) == 12
        assert scene[7].id == "demon/sun3d_train_0.1m_to_0.2m/brown_cs.2-0007/000007"
        assert [number_in(frame.image) for frame in (footage.open(names[0])[k] for k in range(3))] == [80, 81, 82]
    assert scene.times_s is None
    info = scene.info
    assert (info.source, info.licence, info.kind, info.status, info.num_frames) == (
        "demon",
        "LicenseRef-DeMoN-research-only",
        "h5",
        "ok",
        12,
    )
    assert info.uri == str(tmp_path / "traindata/sun3d_train_0.1m_to_0.2m.h5/brown_cs.2-0007")
    assert footage.about(names[3]).uri == info.uri
    with pytest.raises(IndexError, match="frames 0 to 11"):
        scene[12]


@pytest.mark.parametrize("kind", [".png", ".jpg"])
def test_other_encodings_than_webp(kind: str, tmp_path: Path) -> None:
    h5(tmp_path / "rgbd_simple_train.h5", {"a": pictures(kind=kind)})
    assert [number_in(Demon()([tmp_path]).open("rgbd_simple_train/a")[k].image) for k in range(3)] == [0, 1, 2]


def test_test_sets_are_left_out(tmp_path: Path) -> None:
    h5(tmp_path / "testdata/nyu2_test.h5", {"a": pictures(2), "b": pictures(2)})
    with pytest.raises(ConfigError, match=r"only test sets \(2 scenes of \*_test\).*--source.test-scenes"):
        Demon()([tmp_path])
    extracted(tmp_path / "testdata/mvs_test/0001", 2)
    h5(tmp_path / "traindata/mvs_citywall.h5", {"0001": pictures(2)})
    footage = Demon()([tmp_path])
    assert (footage.names(), footage.num_ignored) == (["mvs_citywall/0001"], 3)
    footage = Demon(test_scenes=True)([tmp_path])
    assert footage.names() == ["mvs_citywall/0001", "mvs_test/0001", "nyu2_test/a", "nyu2_test/b"]


def cut_image(group: h5py.Group) -> None:
    whole = group["frames/t0/v1/image"][()]
    del group["frames/t0/v1/image"]
    group["frames/t0/v1/image"] = whole[: len(whole) // 2]


def floats(group: h5py.Group) -> None:
    del group["frames/t0/v1/image"]
    group["frames/t0/v1/image"] = np.zeros((64, 128, 3), np.float32)


def huge(group: h5py.Group) -> None:
    del group["frames/t0/v1/image"]
    group["frames/t0/v1"].create_dataset("image", (2**50,), np.int8, chunks=(1024,))


def folder_in_place(group: h5py.Group) -> None:
    del group["frames/t0/v1/image"]
    group.create_group("frames/t0/v1/image")


def wrong_extents(group: h5py.Group) -> None:
    group["frames/t0/v1/image"].attrs["extents"] = np.array([128, 64], np.int32)


def no_image(group: h5py.Group) -> None:
    del group["frames/t0/v1/image"]


def empty_image(group: h5py.Group) -> None:
    del group["frames/t0/v1/image"]
    group["frames/t0/v1/image"] = np.zeros(0, np.int8)


def view_is_data(group: h5py.Group) -> None:
    del group["frames/t0/v1"]
    group["frames/t0/v1"] = np.zeros(3)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut_image, "not a picture that can be read"),
        (floats, "64 x 128 x 3 of float32, where the bytes of a WebP are wanted"),
        (huge, f"{2**50} of int8, where the bytes"),
        (folder_in_place, "cannot be read as HDF5"),
        (wrong_extents, "its extents are 128 x 64, but it is 64 px high and 128 wide"),
        (no_image, "cannot be read as HDF5"),
        (empty_image, "not a byte"),
        (view_is_data, "cannot be read as HDF5"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_damaged_view_leaves_the_others(damage: Callable[[h5py.Group], None], words: str, tmp_path: Path) -> None:
    path = h5(tmp_path / "mvs_citywall.h5", {"a": pictures(), "b": pictures()})
    with h5py.File(path, "r+") as file:
        damage(file["a"])
    footage = Demon()([tmp_path])
    footage.fingerprint("mvs_citywall/a")
    scene = footage.open("mvs_citywall/a")
    for _ in range(2):
        with pytest.raises(UnreadableError, match=rf"mvs_citywall.h5/a/frames/t0/v1/image: .*{words}") as caught:
            scene[1]
        assert "\n" not in str(caught.value)
    assert [number_in(scene[k].image) for k in (0, 2)] == [0, 2]
    assert (scene.info.status, scene.info.error) == ("partial", str(caught.value))
    assert number_in(footage.open("mvs_citywall/b")[1].image) == 1


def test_extents_that_fit(tmp_path: Path) -> None:
    path = h5(tmp_path / "mvs_citywall.h5", {"a": pictures()})
    with h5py.File(path, "r+") as file:
        file["a/frames/t0/v1/image"].attrs["extents"] = np.array([64, 128], np.int32)
    assert number_in(Demon()([tmp_path]).open("mvs_citywall/a")[1].image) == 1


def test_a_group_without_views(tmp_path: Path) -> None:
    path = h5(tmp_path / "mvs_citywall.h5", {"a": pictures(), "one": pictures(1), "whole": pictures()})
    with h5py.File(path, "r+") as file:
        file.create_group("empty")
        file.create_group("bare/frames/t0")
        file.create_group("others/frames/t0/view0")
        file["numbers"] = np.zeros(3)
    footage = Demon()([tmp_path])
    for name, has in (("empty", "none"), ("bare", "none"), ("others", "none"), ("numbers", "none"), ("one", "v0")):
        footage.fingerprint(f"mvs_citywall/{name}")
        with pytest.raises(UnreadableError, match=rf"mvs_citywall.h5/{name}: views are frames/t0/v0, v1 .* it has {has}: download"):
            footage.open(f"mvs_citywall/{name}")
    assert len(footage.open("mvs_citywall/whole")) == 3


def test_a_group_whose_name_is_no_text(tmp_path: Path) -> None:
    path = h5(tmp_path / "a_train.h5", {"a": pictures(2)})
    with h5py.File(path, "r+") as file:
        file.create_group(b"not \xff text")
    footage = Demon()([tmp_path])
    assert footage.names() == ["a_train/a", "a_train/not \ufffd text"]
    with pytest.raises(UnreadableError, match=r"a_train.h5/not \ufffd text: cannot be read as HDF5"):
        footage.open(footage.names()[1])


def test_a_file_whose_list_of_groups_is_damaged(tmp_path: Path) -> None:
    path = h5(tmp_path / "a_train.h5", {"a": pictures(2)})
    data = bytearray(path.read_bytes())
    data[data.index(b"TREE") + 4] = 1  # of the root group's B-tree, which lists groups and is of type 0
    path.write_bytes(data)
    with pytest.raises(UnreadableError, match=r"a_train.h5: cannot be read as HDF5 \(.*\): download it again$"):
        Demon()([tmp_path]).open("a_train")


def test_a_file_that_is_no_hdf5_is_one_scene_that_cannot_be_read(tmp_path: Path) -> None:
    whole = h5(tmp_path / "a_train.h5", {"a": pictures()})
    (tmp_path / "b_train.h5").write_bytes(b"<html>404</html>")
    (tmp_path / "c_train.h5").write_bytes(whole.read_bytes()[:3000])
    (tmp_path / "d_train.h5").write_bytes(b"")
    h5(tmp_path / "e_train.h5", {})
    footage = Demon()([tmp_path])
    assert footage.names() == ["a_train/a", "b_train", "c_train", "d_train", "e_train"]
    for name in "bcd":
        with pytest.raises(UnreadableError, match=rf"{name}_train.h5: cannot be read as HDF5 \(.*\): download it again$"):
            footage.open(f"{name}_train")
        assert footage.fingerprint(f"{name}_train")[1] == (tmp_path / f"{name}_train.h5").stat().st_size
    with pytest.raises(UnreadableError, match=r"e_train.h5: no groups in it"):
        footage.open("e_train")


def test_a_group_is_known_by_its_own_bytes(tmp_path: Path) -> None:
    path = h5(tmp_path / "a_train.h5", {"a": pictures(), "b": pictures(first=9)})
    names = ["a_train/a", "a_train/b"]
    before = [Demon()([tmp_path]).fingerprint(name) for name in names]
    assert before[0] != before[1]
    assert before[0][1] == sum(map(len, pictures()))
    with h5py.File(path, "r+") as file:
        file["a/frames/t0/v2/image"][-3] ^= 1
    after = [Demon()([tmp_path]).fingerprint(name) for name in names]
    assert (after[0] != before[0], after[1] == before[1]) == (True, True)
    h5(path, {"0": pictures(), "a": pictures(), "b": pictures(first=9)})  # a later release of the file, with a group more
    assert [Demon()([tmp_path]).fingerprint(name) for name in names] == before


def test_without_h5py(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    h5(tmp_path / "files/a_train.h5", {"a": pictures()})
    (tmp_path / "folders/scene").mkdir(parents=True)
    (tmp_path / "folders/scene/1.png").write_bytes(encoded(numbered(3), ".png"))
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ConfigError, match=r"a_train.h5: HDF5 needs one more package: pip install 'twoview\[demon\]'"):
        Demon()([tmp_path / "files"])
    assert number_in(Demon()([tmp_path / "folders"]).open("scene")[0].image) == 3


# ------------------------------------------------------------------------------------------------------- folders


def test_extracted_scenes_are_those_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    h5(tmp_path / "h5/mvs_citywall.h5", {"0001": pictures(11), "0002": pictures(2, first=90)})
    extracted(tmp_path / "out/mvs_citywall/0001", 11)
    extracted(tmp_path / "out/mvs_citywall/0002", 2, first=90)
    from_file = Demon()([tmp_path / "h5"])
    monkeypatch.chdir(tmp_path / "out/mvs_citywall/0001")
    for root in (tmp_path / "out", tmp_path / "out/mvs_citywall", Path("..")):
        footage = Demon()([root])
        assert footage.names() == from_file.names()
        for name in footage.names():
            scene, other = footage.open(name), from_file.open(name)
            assert len(scene) == len(other)
            for k in range(len(scene)):
                assert scene[k].id == other[k].id
                np.testing.assert_array_equal(scene[k].image, other[k].image)
    assert (scene.info.source, scene.info.licence) == ("demon", "LicenseRef-DeMoN-research-only")
    both = Demon()([tmp_path])
    assert (both.names(), both.num_repeated) == (from_file.names(), 2)
    assert both.about("mvs_citywall/0001").kind == "h5"


def test_folders_of_pictures(tmp_path: Path) -> None:
    for name, number in (("train/room", 2), ("train/room", 10), ("train/room", 1), ("hall_test", 7), ("hall_test", 8)):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / name / f"{number}.png").write_bytes(encoded(numbered(number), ".png"))
    (tmp_path / "train/room/cam.txt").write_text("1 0 0")
    footage = Demon()([tmp_path])
    assert footage.names() == ["hall_test", "train/room"]  # a name of the user's own: no test set
    scene = footage.open("train/room")
    assert [number_in(scene[k].image) for k in range(len(scene))] == [1, 2, 10]
    assert scene[1].id == "demon/train/room/000001"
    assert (scene.info.source, scene.info.licence, scene.info.kind) == ("demon", "LicenseRef-DeMoN-research-only", "images")
    assert Demon()([tmp_path / "train/room"]).names() == ["room"]


def test_another_layout_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(ConfigError, match=r"not laid out as DeMoN: no \*.h5, .* or folder of pictures \(it holds notes.txt\)"):
        Demon()([tmp_path])
    extracted(tmp_path / "a/b", 1)
    (tmp_path / "a/b/frames/t0/v0/image.png").unlink()
    with pytest.raises(ConfigError, match="not laid out as DeMoN"):
        Demon()([tmp_path])
    with pytest.raises(ConfigError, match="not a folder"):
        Demon()([tmp_path / "notes.txt"])
    with pytest.raises(ConfigError, match="--list"):
        Demon()([], tmp_path / "list.txt")


# --------------------------------------------------------------------------------------------------------- pairs


def recipe(folder: Path, monkeypatch: pytest.MonkeyPatch, size: int = 112) -> tuple[str, ...]:
    """Flags for a recipe of the user's own: every pair of a scene, the lowest in the band kept."""
    module = f"demon_pairs_{folder.name}".replace("-", "_")
    (folder / f"{module}.py").write_text(
        "from twoview.curation.curate import CurateConfig\n"
        "from twoview.curation.propose import AllPairs\n"
        "from twoview.sources.datasets import Demon\n"
        "def lowest():\n"
        f"    return CurateConfig(source=Demon(), propose=AllPairs(keep='lowest'), overlap=(0.5, 0.92), size={size})\n"
    )
    monkeypatch.chdir(folder)
    return "--recipe", f"{module}:lowest"


def test_pairs_from_the_command_line(
    walk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    video = Video(walk)
    views = [encoded(video[k].image) for k in range(0, 60, 6)]
    path = h5(tmp_path / "traindata/sun3d_train_0.1m_to_0.2m.h5", {"a": views[:4], "b": views[4:9], "c": views[:4]})
    with h5py.File(path, "r+") as file:
        cut_image(file["c"])
        file.create_group("d")
    (tmp_path / "traindata/scenes11_train.h5").write_bytes(b"not one")
    flags = recipe(tmp_path, monkeypatch)
    assert curate([tmp_path / "traindata"], tmp_path / "pairs", flags=flags) == 3
    said = capsys.readouterr().out
    assert "scenes11_train.h5: cannot be read as HDF5" in said
    assert "sun3d_train_0.1m_to_0.2m.h5/d: views are" in said
    rows = read_manifest(tmp_path / "pairs").to_pylist()
    scenes = [f"sun3d_train_0.1m_to_0.2m/{name}" for name in "abc"]
    assert [sum(row["scene"] == name for row in rows) for name in scenes] == [6, 10, 6]
    for name in scenes:
        kept = [row for row in rows if row["scene"] == name and row["kept"]]
        rivals = [row["overlap"] for row in rows if row["scene"] == name and row["reasons"] == ["not_best"]]
        assert len(kept) == 1
        assert all(kept[0]["overlap"] <= overlap for overlap in rivals)
        assert (kept[0]["source"], kept[0]["licence"]) == ("demon", "LicenseRef-DeMoN-research-only")
    for row in rows:
        damaged = row["scene"].endswith("/c") and 1 in (row["frame_index_a"], row["frame_index_b"])
        assert ("unreadable" in row["reasons"]) == damaged


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no real pictures at {SHARED}")
def test_the_authors_own_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an HDF5 file and as a folder it gives the same pair."""
    folder = SHARED / "data/demon_sculpture_pair"
    pair = [read_image(folder / f"sculpture{k}.png") for k in (1, 2)]
    h5(tmp_path / "h5/dataset.h5", {"sculpture-0001": [encoded(image) for image in pair]})
    footage = Demon()([tmp_path / "h5", folder])
    assert footage.names() == ["dataset/sculpture-0001", "demon_sculpture_pair"]
    for name in footage.names():
        for k in range(2):
            np.testing.assert_array_equal(footage.open(name)[k].image, pair[k])
    flags = recipe(tmp_path, monkeypatch, size=192)
    assert curate([tmp_path / "h5", folder], tmp_path / "pairs", flags=flags) == 0
    one, other = read_manifest(tmp_path / "pairs").to_pylist()
    assert one["kept"]
    assert (one["overlap"], one["sha256_a"], one["sha256_b"]) == (other["overlap"], other["sha256_a"], other["sha256_b"])


def test_folders_of_one_name_in_two_roots_are_two_scenes(tmp_path: Path) -> None:
    """Plain folders are called as anybody calls them; what is given twice is one scene all the same."""
    for root in ("one", "two"):
        for k in range(2):
            path = tmp_path / root / "kitchen" / f"{k}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), np.full((32, 32, 3), 40 * k, np.uint8))
    found = Demon()([tmp_path / "one", tmp_path / "two", tmp_path / "one"])
    assert (found.names(), found.num_repeated) == (["kitchen", "kitchen~2"], 1)
