"""Left and right pictures find each other by their names."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from runs import SHARED
from twoview.cli import main
from twoview.errors import ConfigError
from twoview.shards import read_manifest, read_scenes
from twoview.sources import Stereo

DATA = SHARED / "data"


def tree(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not looked at")
    return root


def frames(root: Path, stereo: Stereo | None = None) -> dict[str, list[str]]:
    """The pictures of each scene, from the root."""
    found = (stereo or Stereo())([root])
    return {name: [str(p.relative_to(root)) for p in item.paths] for name, item in found.inputs.items()}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("left/1.png", "right/1.png"), {"set/left": ["left/1.png", "right/1.png"]}),
        (("a_L.jpg", "a_R.jpg"), {"set": ["a_L.jpg", "a_R.jpg"]}),
        (("left01.jpg", "right01.jpg"), {"set": ["left01.jpg", "right01.jpg"]}),
        (("L/x.png", "R/x.png"), {"set/L": ["L/x.png", "R/x.png"]}),
        (("im2.png", "im6.png", "disp2.png", "disp6.png"), {"set": ["im2.png", "im6.png"]}),
        (("cones/im0.png", "cones/im1.png"), {"set/cones": ["cones/im0.png", "cones/im1.png"]}),
        (
            ("00/image_0/000000.png", "00/image_1/000000.png", "00/image_2/000000.png", "00/image_3/000000.png"),
            {
                "set/00/image_0": ["00/image_0/000000.png", "00/image_1/000000.png"],
                "set/00/image_2": ["00/image_2/000000.png", "00/image_3/000000.png"],
            },
        ),
        (
            ("d/image_02/data/1.png", "d/image_03/data/1.png"),
            {"set/d/image_02/data": ["d/image_02/data/1.png", "d/image_03/data/1.png"]},
        ),
        (
            ("mav0/cam0/data/7.png", "mav0/cam1/data/7.png"),
            {"set/mav0/cam0/data": ["mav0/cam0/data/7.png", "mav0/cam1/data/7.png"]},
        ),
        (
            ("leftImg8bit/aachen/1_leftImg8bit.png", "rightImg8bit/aachen/1_rightImg8bit.png"),
            {"set/leftImg8bit/aachen": ["leftImg8bit/aachen/1_leftImg8bit.png", "rightImg8bit/aachen/1_rightImg8bit.png"]},
        ),
        (
            ("left/frame_left_1.png", "right/frame_right_1.png"),
            {"set/left": ["left/frame_left_1.png", "right/frame_right_1.png"]},
        ),
        (
            ("turn left/left/1.png", "turn left/right/1.png"),
            {"set/turn left/left": ["turn left/left/1.png", "turn left/right/1.png"]},
        ),
    ],
)
def test_usual_names(names: tuple[str, ...], expected: dict[str, list[str]], tmp_path: Path) -> None:
    assert frames(tree(tmp_path / "set", *names)) == expected


def test_views_alternate_in_natural_order_and_the_rest_is_counted(tmp_path: Path) -> None:
    names = [f"{side}/{k}.png" for side in ("left", "right") for k in (10, 2)]
    root = tree(tmp_path / "set", *names, "left/3.png", "right/4.png", "leftover.png", "notes.txt", "clip.mp4")
    found = Stereo()([root])
    (scene,) = found.inputs.values()
    assert [str(p.relative_to(root)) for p in scene.paths] == ["left/2.png", "right/2.png", "left/10.png", "right/10.png"]
    assert (scene.kind, scene.source) == ("stereo", "stereo")
    assert found.num_ignored == 4  # three pictures without a partner, the notes; the clip is no picture


@pytest.mark.parametrize("name", ["cleft", "lefty", "all", "im20", "im2x", "mal_2"])
def test_a_word_is_a_whole_word(name: str, tmp_path: Path) -> None:
    other = name.replace("left", "right").replace("l", "r").replace("im2", "im6")
    with pytest.raises(ConfigError, match="none of 2 pictures has a partner"):
        Stereo()([tree(tmp_path / "set", f"{name}.png", f"{other}.png")])


def test_words_of_ones_own(tmp_path: Path) -> None:
    root = tree(tmp_path / "set", "Port/1.png", "Starboard/1.png", "left/1.png", "right/1.png")
    assert frames(root, Stereo(left="port", right="starboard")) == {"set/Port": ["Port/1.png", "Starboard/1.png"]}


@pytest.mark.parametrize(("left", "right"), [("a", ""), ("", "b"), ("a", "a")])
def test_two_words_are_needed(left: str, right: str) -> None:
    with pytest.raises(ConfigError, match=r"--source\.left and --source\.right"):
        Stereo(left=left, right=right)


def test_a_list_gives_source_and_licence(tmp_path: Path) -> None:
    tree(tmp_path / "rig", "left/1.png", "right/1.png")
    (tmp_path / "list.txt").write_text("rig\tkitti\tCC BY-NC-SA 3.0\nnowhere\n")
    found = Stereo()([], tmp_path / "list.txt")
    assert [(i.kind, i.source, i.licence) for i in found.inputs.values()] == [
        ("stereo", "kitti", "CC BY-NC-SA 3.0"),
        ("missing", "missing", None),
    ]


def test_curated_from_the_command_line(tmp_path: Path, photos: Path) -> None:
    """Two cameras that look at the same wall, twelve pixels apart."""
    for k in (1, 2, 3):
        image = cv2.imread(str(photos / f"{k}.jpg"))
        for side, x in (("left", 0), ("right", 60)):
            path = tmp_path / "rig" / side / f"{k}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), np.ascontiguousarray(image[:, x : x + 360]))
    out = tmp_path / "pairs"
    assert main(["curate", str(tmp_path / "rig"), "--recipe", "stereo", "--out", str(out), "--workers", "1"]) == 0
    rows = read_manifest(out).to_pylist()
    assert [(r["frame_index_a"], r["frame_index_b"], r["kept"]) for r in rows] == [(0, 1, True), (2, 3, True), (4, 5, True)]
    assert all(0.7 < r["overlap"] < 0.95 for r in rows)  # 300 of 360 columns
    (scene,) = read_scenes(out).to_pylist()
    assert (scene["kind"], scene["source"], scene["scene"], scene["num_frames"]) == ("stereo", "stereo", "rig/left", 6)
    assert main(["curate", str(tmp_path / "rig"), "--recipe", "stereo", "--source.left", "x", "--out", str(out)]) == 2


def test_a_video_is_no_stereo_set(walk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["curate", str(walk), "--recipe", "stereo", "--out", str(tmp_path / "pairs")]) == 2
    assert "no pictures found: a stereo set is folders of left and right pictures" in capsys.readouterr().err


@pytest.mark.skipif(not DATA.exists(), reason="real stereo pictures are absent")
@pytest.mark.parametrize("name", ["stereo_kitti_slambook2", "stereo_middlebury_cones"])
def test_real_rigs(name: str, tmp_path: Path) -> None:
    assert main(["curate", str(DATA / name), "--recipe", "stereo", "--out", str(tmp_path / "pairs"), "--workers", "1"]) == 0
    (row,) = read_manifest(tmp_path / "pairs").to_pylist()
    assert row["kept"]
    assert row["overlap"] > 0.8
