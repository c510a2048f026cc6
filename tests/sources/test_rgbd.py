"""RGB-D folders: both layouts, made here and real, and what is wrong with them said in one line."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from footage_made import number_in, numbered, write_video
from twoview.errors import ConfigError, UnreadableError
from twoview.sources.rgbd import RgbdFolders

SHARED = Path(__file__).parents[3] / "shared" / "data"


def frames(folder: Path, num: int = 3, size: tuple[int, int] = (48, 64)) -> Path:
    """A folder as 7-Scenes has it: frame k is k grey levels bright, 1 + k metres away, k metres to the right."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savetxt(folder / "camera-intrinsics.txt", [[60, 0, 31.5], [0, 61, 23.5], [0, 0, 1]])
    for k in range(num):
        pose = np.eye(4)
        pose[0, 3] = k
        np.savetxt(folder / f"frame-{k:06d}.pose.txt", pose)
        cv2.imwrite(str(folder / f"frame-{k:06d}.color.png"), np.full((*size, 3), 40 * k, np.uint8))
        depth = np.full((48, 64), 1000 * (k + 1), np.uint16)
        depth[0, :2] = 0, 65535
        cv2.imwrite(str(folder / f"frame-{k:06d}.depth.png"), depth)
    return folder


def test_frames_with_depth_and_pose(tmp_path: Path) -> None:
    footage = RgbdFolders()([frames(tmp_path / "room" / "seq-01").parent])
    assert footage.names() == ["room/seq-01"]
    scene = footage.open("room/seq-01")
    assert len(scene) == 3
    frame = scene[2]
    assert frame.id == "rgbd/room/seq-01/000002"
    assert frame.image[5, 5].tolist() == [80, 80, 80]
    assert frame.geometry is not None
    assert frame.geometry.depth_m[1, 1] == 3.0
    assert frame.geometry.depth_m[0, :3].tolist() == [0, 0, 3]  # unknown
    assert frame.geometry.pose[0, 3] == 2
    assert frame.geometry.intrinsics.tolist() == [60, 61, 31.5, 23.5]
    assert (scene.info.kind, scene.info.num_frames) == ("rgbd", 3)


def test_the_matrix_may_stand_above_and_be_4_x_4(tmp_path: Path) -> None:
    folder = frames(tmp_path / "room" / "seq-01")
    (folder / "camera-intrinsics.txt").unlink()
    matrix = np.eye(4)
    matrix[:2, :3] = [[70, 0, 30], [0, 71, 20]]
    np.savetxt(tmp_path / "room" / "K.txt", matrix)
    frame = RgbdFolders()([folder]).open("seq-01")[0]
    assert frame.geometry is not None
    assert frame.geometry.intrinsics.tolist() == [70, 71, 30, 20]


def test_depth_of_another_size_is_brought_to_the_picture(tmp_path: Path) -> None:
    frame = RgbdFolders()([frames(tmp_path / "room", size=(96, 128))]).open("room")[1]
    assert frame.geometry is not None
    assert frame.geometry.depth_m.shape == (96, 128)
    assert set(np.unique(frame.geometry.depth_m)) == {0.0, 2.0}


def video_folder(folder: Path) -> Path:
    folder.mkdir()
    write_video(folder / "video.mp4", [numbered(k) for k in range(10)])
    poses = np.tile(np.eye(4).ravel(), (10, 1))
    poses[:, 3] = np.arange(10)
    np.savetxt(folder / "poses.txt", poses)
    np.savetxt(folder / "K.txt", [[60, 0, 31.5], [0, 60, 23.5], [0, 0, 1]])
    (folder / "depth").mkdir()
    for k in (0, 5):
        cv2.imwrite(str(folder / f"depth/{k:06d}.png"), np.full((48, 64), 1000 + k, np.uint16))
    return folder


def test_a_video_of_which_some_frames_have_depth(tmp_path: Path) -> None:
    scene = RgbdFolders()([video_folder(tmp_path / "walk")]).open("walk")
    assert len(scene) == 2
    assert scene.times_s is not None
    frame = scene[1]
    assert frame.geometry is not None
    assert frame.geometry.pose[0, 3] == 5
    assert frame.geometry.depth_m[9, 9] == pytest.approx(1.005)
    assert frame.geometry.depth_m.shape == frame.image.shape[:2]
    assert scene.times_s[1] == pytest.approx(5 / 25)
    assert number_in(frame.image) == 5


def test_folders_of_one_name_and_a_video_with_an_odd_one(tmp_path: Path) -> None:
    frames(tmp_path / "a" / "kit")
    frames(tmp_path / "b" / "kit", num=2)
    footage = RgbdFolders()([tmp_path / "a" / "kit", tmp_path / "b" / "kit", tmp_path / "a" / "kit"])
    assert [(name, len(footage.open(name))) for name in footage.names()] == [("kit", 3), ("kit~2", 2)]
    assert footage.num_repeated == 1
    walk = video_folder(tmp_path / "walk")
    (walk / "video.mp4").rename(walk / "frame-video.mp4")
    assert len(RgbdFolders()([walk]).open("walk")) == 2


def test_a_list_with_licences(tmp_path: Path) -> None:
    frames(tmp_path / "one")
    video_folder(tmp_path / "two")
    (tmp_path / "list.txt").write_text("one\tkitchens\tCC0\ntwo\n")
    footage = RgbdFolders()([], tmp_path / "list.txt")
    assert [(footage.about(name).source, footage.about(name).licence) for name in footage.names()] == [
        ("kitchens", "CC0"),
        ("rgbd", None),
    ]


@pytest.mark.parametrize("file", ["frame-000000.depth.png", "frame-000002.pose.txt", "camera-intrinsics.txt"])
def test_changed_depth_and_poses_are_noticed(file: str, tmp_path: Path) -> None:
    folder = frames(tmp_path / "room")
    before = RgbdFolders()([folder]).fingerprint("room")
    data = bytearray((folder / file).read_bytes())
    data[-3] ^= 1
    (folder / file).write_bytes(data)
    assert RgbdFolders()([folder]).fingerprint("room")[0] != before[0]


def test_bad_folders_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"no RGB-D footage in .*empty"):
        RgbdFolders()([tmp_path / "empty"])
    with pytest.raises(ConfigError, match="no such folder"):
        RgbdFolders()([tmp_path / "nowhere"])
    (tmp_path / "list.txt").write_text("empty\n")
    with pytest.raises(ConfigError, match=r"no RGB-D footage in .*list.txt"):
        RgbdFolders()([], tmp_path / "list.txt")
    folder = frames(tmp_path / "room")
    scene = RgbdFolders()([folder]).open("room")
    (folder / "frame-000000.pose.txt").write_text("1 2 3")
    (folder / "frame-000001.pose.txt").write_text(" ".join(["inf"] * 16))
    (folder / "frame-000002.depth.png").write_bytes(b"no picture")
    for index, words in enumerate(("3 numbers, where a 4 x 4", "frame 1 has no pose", "not a picture of uint16")):
        with pytest.raises(UnreadableError, match=words):
            scene[index]
    (folder / "frame-000002.depth.png").unlink()
    with pytest.raises(UnreadableError, match="no such file"):
        scene[2]
    (folder / "camera-intrinsics.txt").write_text("a b c")
    with pytest.raises(UnreadableError, match=r"camera-intrinsics.txt: not numbers"):
        RgbdFolders()([folder]).open("room")
    (folder / "camera-intrinsics.txt").unlink()
    with pytest.raises(UnreadableError, match="write the camera's 3 x 3 matrix"):
        RgbdFolders()([folder]).open("room")
    walk = video_folder(tmp_path / "walk")
    (walk / "poses.txt").write_text("1 2 3\n")
    with pytest.raises(UnreadableError, match="poses for the video's 10 frames"):
        RgbdFolders()([walk]).open("walk")[0]


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no real footage at {SHARED}")
def test_real_folders() -> None:
    footage = RgbdFolders()([SHARED / "rgbd_7scenes_redkitchen", SHARED / "rgbd_video_redkitchen"])
    scenes = [footage.open(name) for name in footage.names()]
    assert [len(scene) for scene in scenes] == [50, 200]
    for scene in scenes:
        known = scene[7].geometry
        assert known is not None
        assert known.depth_m.shape == (480, 640)
        assert 0.5 < np.median(known.depth_m) < 4
        np.testing.assert_allclose(known.pose[:3, :3] @ known.pose[:3, :3].T, np.eye(3), atol=1e-3)
