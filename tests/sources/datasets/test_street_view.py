"""3DStreetView as its archives unpack, and sorted into a folder for each target; curated from end to end."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from footage_made import number_in, numbered
from runs import SHARED, curate
from twoview.curation.curate import CurateConfig
from twoview.curation.propose import AllPairs
from twoview.errors import ConfigError, UnreadableError
from twoview.shards import read_manifest, read_scenes
from twoview.sources.datasets import StreetView
from twoview.sources.datasets.street_view import MAX_UNNAMED

BERLIN = SHARED / "data" / "seq_street_berlin" / "berlin" / "images"


def recipe() -> CurateConfig:
    """The published choice."""
    return CurateConfig(source=StreetView(), propose=AllPairs(), overlap=(0.5, 0.75), size=224)


def picture(path: Path, number: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(numbered(number)).save(path, quality=95)


def archive(root: Path) -> Path:
    """A flat folder of <DatasetID>_<ImageID>_<ViewID>_<TargetID>.jpg and .txt; target 24 is seen thrice, 7 twice."""
    for number, (image, view, target) in enumerate(((31, 5, 24), (102, 6, 24), (4, 9, 24), (5, 9, 7), (6, 10, 7), (1, 2, 100))):
        stem = f"0003_{image:07d}_{view:07d}_{target:07d}"
        picture(root / f"{stem}.jpg", number)
        (root / f"{stem}.txt").write_text(f"d 3 {target} {image} {view} 40.7 -74.0 12.1 0 1 0 40.7 -74.0 2.5 33.0 120.5 4.2 0\n")
    return root


def files(root: Path) -> dict[str, list[str]]:
    found = StreetView()([root])
    return {name: [str(p.relative_to(root)) for p in found.inputs[name].paths] for name in found.names()}


@pytest.mark.parametrize("where", ["0003", "dataset_aligned/0003", "0003/0003", "."])
def test_targets_by_the_names_of_the_pictures(where: str, tmp_path: Path) -> None:
    """Wherever the archive was unpacked, a scene has the same name and the same frames."""
    archive(tmp_path / "street" / where)
    found = StreetView()([tmp_path / "street"])
    assert found.names() == ["0003/0000007", "0003/0000024", "0003/0000100"]
    assert found.num_ignored == 0
    scene = found.open("0003/0000024")
    assert [number_in(scene[k].image) for k in range(3)] == [2, 0, 1]  # in the order of the names
    assert (scene.licence, scene.times_s, scene.info.kind) == ("LicenseRef-3DStreetView", None, "images")
    assert scene[1].id == "street_view/0003/0000024/000001"
    assert found.about("0003/0000024").source == "street_view"


def test_targets_of_several_archives_come_in_natural_order(tmp_path: Path) -> None:
    for name in ("0010/0010_1_1_3", "0002/0002_1_1_20", "0002/0002_1_1_3", "0002/0002_2_4_3"):
        picture(tmp_path / f"{name}.jpg")
    found = files(tmp_path)
    assert list(found) == ["0002/3", "0002/20", "0010/3"]
    assert found["0002/3"] == ["0002/0002_1_1_3.jpg", "0002/0002_2_4_3.jpg"]


def test_a_folder_for_each_target(tmp_path: Path) -> None:
    """Sorted by somebody: the names go on telling the target where they have it, and the folder does where they do not."""
    for name in (
        "0003/24/a.jpg",
        "0003/24/b.png",
        "0003/7/2.jpg",
        "0003/7/10.jpg",
        "0004/x/0004_1_1_8.jpg",
        "0004/x/0004_2_1_8.jpg",
    ):
        picture(tmp_path / name)
    assert files(tmp_path) == {
        "0003/7": ["0003/7/2.jpg", "0003/7/10.jpg"],
        "0003/24": ["0003/24/a.jpg", "0003/24/b.png"],
        "0004/8": ["0004/x/0004_1_1_8.jpg", "0004/x/0004_2_1_8.jpg"],
    }
    assert list(files(tmp_path / "0003" / "24")) == ["24"]


def test_other_files_are_counted(tmp_path: Path) -> None:
    archive(tmp_path / "0003")
    for name in ("0003.tar", "0003/notes.md", "0003/.hidden.jpg"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "0003" / "0003_0000031_0000005_0000024.txt").unlink()  # the pictures alone will do
    found = StreetView()([tmp_path])
    assert found.num_ignored == 2
    assert len(found.open("0003/0000024")) == 3


def test_only_one_version_of_a_picture(tmp_path: Path) -> None:
    archive(tmp_path / "dataset_aligned" / "0003")
    archive(tmp_path / "dataset_unaligned" / "0003")
    with pytest.raises(
        ConfigError, match=r"aligned/0003/0003_.*jpg is .*unaligned/0003/0003_.*jpg again, aligned or not: give the"
    ):
        StreetView()([tmp_path])
    assert len(StreetView()([tmp_path / "dataset_aligned"]).names()) == 3


def test_thousands_of_pictures_without_a_target_are_not_one(tmp_path: Path) -> None:
    for k in range(MAX_UNNAMED):
        (tmp_path / f"{k}_p.jpg").write_bytes(b"")
    assert len(StreetView()([tmp_path]).open(tmp_path.name)) == MAX_UNNAMED
    (tmp_path / "more_p.jpg").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"101 pictures, as 0_p.jpg, whose names tell no target, and too many to show one: give"):
        StreetView()([tmp_path])


def test_another_layout_and_damage(tmp_path: Path) -> None:
    (tmp_path / "0003.tar").write_bytes(b"not unpacked")
    with pytest.raises(ConfigError, match=r"not laid out as 3DStreetView: no <DatasetID>_.*\(it holds 0003.tar\)"):
        StreetView()([tmp_path])
    archive(tmp_path / "0003")
    cut = tmp_path / "0003" / "0003_0000005_0000009_0000007.jpg"
    cut.write_bytes(cut.read_bytes()[:400])
    scene = StreetView()([tmp_path]).open("0003/0000007")
    with pytest.raises(UnreadableError, match=r"0003_0000005_0000009_0000007.jpg: the picture is cut short"):
        scene[0]
    assert number_in(scene[1].image) == 4


def test_all_pairs_from_the_command_line(photos: Path, tmp_path: Path) -> None:
    """Two targets: three views that follow each other, and two that do not belong together; every pair of a target alone."""
    for target, numbers in ((24, (1, 3, 5)), (7, (2, 20))):
        for k, number in enumerate(numbers):
            path = tmp_path / "0003" / f"0003_{k:07d}_{number:07d}_{target:07d}.jpg"
            path.parent.mkdir(exist_ok=True)
            shutil.copy(photos / f"{number}.jpg", path)
    out = tmp_path / "pairs"
    assert curate([tmp_path / "0003"], out, "--overlap", "0.3:0.95", flags=("--recipe", f"{__name__}:recipe")) == 0
    rows = read_manifest(out).to_pylist()
    assert [row["pair_id"] for row in rows] == [
        f"street_view/0003/{target}/{i:06d}-{j:06d}"
        for target, i, j in (("0000007", 0, 1), ("0000024", 0, 1), ("0000024", 0, 2), ("0000024", 1, 2))
    ]
    assert not rows[0]["kept"]
    assert sum(row["kept"] for row in rows) >= 2
    assert {row["licence"] for row in rows} == {"LicenseRef-3DStreetView"}
    assert {s["num_frames"] for s in read_scenes(out).to_pylist()} == {2, 3}


@pytest.mark.skipif(not BERLIN.exists(), reason="the real street pictures are absent")
def test_real_street_pictures(tmp_path: Path) -> None:
    for k, path in enumerate(sorted(BERLIN.glob("*.jpg"))):
        (tmp_path / f"0012_{k:07d}_{k:07d}_0000001.jpg").symlink_to(path)
    assert curate([tmp_path], tmp_path.parent / "pairs_berlin", flags=("--recipe", f"{__name__}:recipe")) == 0
    rows = read_manifest(tmp_path.parent / "pairs_berlin").to_pylist()
    assert len(rows) == 3
    assert any(row["kept"] for row in rows)
