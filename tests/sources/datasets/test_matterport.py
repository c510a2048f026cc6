"""Matterport3D as Habitat's archive and as the original one lies on a disk, walked from end to end."""

from pathlib import Path

import cv2
import numpy as np
import pytest

import twoview
from flat_made import put, write_flat_z_up
from runs import curate
from twoview import demo
from twoview.curation.curate import CurateConfig
from twoview.curation.propose import AlongWalks
from twoview.errors import ConfigError, UnreadableError
from twoview.shards import read_manifest
from twoview.sources.datasets import Matterport
from twoview.sources.scene import Walk, Walks

HASH = "bed1a77d92d64f5cbbaaae4feed64ec1"


def recipe() -> CurateConfig:
    return CurateConfig(source=Matterport(samples=2), propose=AlongWalks(), size=224, min_sharpness=1000.0)


@pytest.fixture(scope="module")
def flat_z(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_flat_z_up(tmp_path_factory.mktemp("flat") / "flat.glb")


def write_obj(folder: Path) -> Path:
    """The flat as matterport_mesh has a house: one .obj with z up, one .mtl, and a picture for each material."""
    folder.mkdir(parents=True)
    lines, materials = [f"mtllib {HASH}.mtl"], []
    for k, panel in enumerate(demo.flat()):
        cv2.imwrite(str(folder / f"{HASH}_{k:03d}.jpg"), cv2.cvtColor(panel.texture, cv2.COLOR_RGB2BGR))
        materials += [f"newmtl wall{k}", "Kd 1 1 1", f"map_Kd {HASH}_{k:03d}.jpg"]
        for i, j in ((0, 1), (1, 1), (1, 0), (0, 0)):
            x, y, z = panel.corner + i * panel.along + j * panel.down
            lines += [f"v {x} {-z} {y}", f"vt {i} {1 - j}"]
        first = 4 * k + 1
        lines += [f"usemtl wall{k}", "f " + " ".join(f"{n}/{n}" for n in range(first, first + 4))]
    (folder / f"{HASH}.mtl").write_text("\n".join(materials) + "\n")
    path = folder / f"{HASH}.obj"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def mp3d(flat_z: Path, tmp_path: Path) -> Path:
    """As the archive for Habitat unpacks."""
    house = ("17DRP5sb8fy", "1LXtFkjw3qL")
    names = [f"{h}/{h}{end}" for h in house for end in (".glb", ".house", ".navmesh", "_semantic.ply")]
    return put(tmp_path / "mp3d", flat_z, *names, "mp3d.scene_dataset_config.json")


def test_houses_of_habitat(mp3d: Path) -> None:
    for root in (mp3d, mp3d.parent):
        found = Matterport()([root])
        assert found.names() == ["17DRP5sb8fy", "1LXtFkjw3qL"]
        assert found.inputs["17DRP5sb8fy"].paths == (mp3d / "17DRP5sb8fy" / "17DRP5sb8fy.glb",)
    about = found.about("17DRP5sb8fy")
    assert (about.source, about.kind, about.licence) == ("matterport", "scene", "LicenseRef-Matterport3D-ToU")
    assert len(found.open("17DRP5sb8fy")) == 500 * 24


@pytest.mark.parametrize("inner", ["", "17DRP5sb8fy/"])
def test_houses_of_the_original_archives(inner: str, tmp_path: Path) -> None:
    """Unpacked in v1/scans, or in the house's own folder: the zip archives have the house's name within."""
    mesh = write_obj(tmp_path / "v1" / "scans" / "17DRP5sb8fy" / f"{inner}matterport_mesh" / HASH)
    (mesh.parent / f"._{HASH}.obj").write_bytes(b"what a Mac leaves")
    (tmp_path / "v1" / "scans" / "1LXtFkjw3qL").mkdir()
    for root in (tmp_path, tmp_path / "v1" / "scans"):
        found = Matterport()([root])
        assert found.names() == ["17DRP5sb8fy"]
        assert found.inputs["17DRP5sb8fy"].paths == (mesh,)
    before = found.fingerprint("17DRP5sb8fy")
    picture = mesh.parent / f"{HASH}_003.jpg"
    picture.write_bytes(picture.read_bytes() + b"more")
    assert found.fingerprint("17DRP5sb8fy") != before  # its textures belong to it


def test_a_house_in_both_is_walked_once(mp3d: Path, tmp_path: Path) -> None:
    root = tmp_path / "download"
    (root / "v1" / "tasks").mkdir(parents=True)
    mp3d.rename(root / "v1" / "tasks" / "mp3d")
    write_obj(root / "v1" / "scans" / "17DRP5sb8fy" / "matterport_mesh" / HASH)
    mesh = write_obj(root / "v1" / "scans" / "2azQ1b91cZZ" / "matterport_mesh" / HASH)
    found = Matterport()([root])
    assert found.names() == ["17DRP5sb8fy", "1LXtFkjw3qL", "2azQ1b91cZZ"]
    assert [found.inputs[name].paths[0].suffix for name in found.names()] == [".glb", ".glb", ".obj"]
    assert found.inputs["2azQ1b91cZZ"].paths == (mesh,)


def test_another_layout_and_houses_without_their_files(mp3d: Path, tmp_path: Path) -> None:
    (tmp_path / "wrong").mkdir()
    (tmp_path / "wrong" / "readme.txt").write_text("no house")
    with pytest.raises(ConfigError, match=r"not laid out as Matterport3D: no <house>/<house>.glb, nor v1/scans/.*readme.txt"):
        Matterport()([tmp_path / "wrong"])
    (mp3d / "1LXtFkjw3qL" / "1LXtFkjw3qL.glb").unlink()
    (mp3d / "2azQ1b91cZZ").mkdir()
    (mp3d / "2azQ1b91cZZ" / "matterport_mesh.zip").write_bytes(b"not unpacked")
    found = Matterport()([mp3d])
    assert found.names() == ["17DRP5sb8fy", "1LXtFkjw3qL", "2azQ1b91cZZ"]
    with pytest.raises(UnreadableError, match=r"1LXtFkjw3qL/1LXtFkjw3qL.glb: No such file"):
        found.open("1LXtFkjw3qL")
    with pytest.raises(UnreadableError, match=r"2azQ1b91cZZ/matterport_mesh/\*.obj: No such file"):
        found.open("2azQ1b91cZZ")


def test_z_is_up_in_both(mp3d: Path, flat: Path, tmp_path: Path) -> None:
    write_obj(tmp_path / "scans" / "17DRP5sb8fy" / "matterport_mesh" / HASH)
    scenes = [Matterport(samples=1)([root]).open("17DRP5sb8fy") for root in (mp3d, tmp_path / "scans")]
    same = Walk(flat, Walks(samples=1), name="17DRP5sb8fy")
    for scene in scenes:
        assert scene[5].id == "matterport/17DRP5sb8fy/000005"
        np.testing.assert_allclose(scene.pose(5), same.pose(5), atol=1e-5)
        assert np.abs(scene[5].image.astype(int) - same[5].image).mean() < 4


def test_walked_from_the_command_line(tmp_path: Path) -> None:
    write_obj(tmp_path / "v1" / "scans" / "2azQ1b91cZZ" / "matterport_mesh" / HASH)
    out = tmp_path / "pairs"
    assert curate([tmp_path / "v1" / "scans"], out, flags=("--recipe", f"{__name__}:recipe")) == 0
    rows = read_manifest(out).to_pylist()
    assert {(r["source"], r["scene"], r["split"], r["licence"]) for r in rows} == {
        ("matterport", "2azQ1b91cZZ", None, "LicenseRef-Matterport3D-ToU")
    }
    assert 1 <= sum(r["kept"] for r in rows) <= 2
    assert twoview.open(out)[0].depth_a_m is not None
