"""HM3D in its official layout: which file of a scene, which split, and walked from end to end."""

import json
from pathlib import Path

import numpy as np
import pytest

import twoview
from flat_made import put, write_flat_z_up
from runs import SHARED, curate
from twoview.curation.curate import CurateConfig
from twoview.curation.propose import AlongWalks
from twoview.errors import ConfigError, UnreadableError
from twoview.report.gallery import FootageAgain
from twoview.shards import read_manifest, read_scenes
from twoview.sources.datasets import Hm3d
from twoview.sources.scene import Walk, Walks

DATA = SHARED / "data"
RECIPE = ("--recipe", f"{__name__}:recipe")


def recipe() -> CurateConfig:
    return CurateConfig(source=Hm3d(samples=2), propose=AlongWalks(), size=224, min_sharpness=1000.0)


@pytest.fixture(scope="module")
def flat_z(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_flat_z_up(tmp_path_factory.mktemp("flat") / "flat.glb")


@pytest.fixture
def hm3d(flat_z: Path, tmp_path: Path) -> Path:
    """As the archives unpack: habitat's and the plain ones over each other, with semantics and configurations."""
    return put(
        tmp_path / "hm3d",
        flat_z,
        "hm3d_basis.scene_dataset_config.json",
        "train/00010-DBjEcHFg4oq/DBjEcHFg4oq.basis.glb",
        "train/00010-DBjEcHFg4oq/DBjEcHFg4oq.basis.navmesh",
        "train/00010-DBjEcHFg4oq/DBjEcHFg4oq.glb",
        "train/00010-DBjEcHFg4oq/DBjEcHFg4oq.semantic.glb",
        "train/00010-DBjEcHFg4oq/DBjEcHFg4oq.semantic.txt",
        "train/00006-HkseAnWCgqk/HkseAnWCgqk.glb",
        "train/hm3d_train_basis.scene_dataset_config.json",
        "val/00800-TEEsavR23oF/TEEsavR23oF.basis.glb",
        "val/00801-HaxA7YrQdEC/HaxA7YrQdEC.basis.glb",
        "minival/00800-TEEsavR23oF/TEEsavR23oF.basis.glb",
    )


def files(source: Hm3d, root: Path) -> dict[str, str]:
    found = source([root])
    return {name: found.inputs[name].paths[0].name for name in found.names()}


def test_each_scene_once_the_file_for_habitat_first(hm3d: Path) -> None:
    found = Hm3d()([hm3d])
    assert files(Hm3d(), hm3d) == {"00006-HkseAnWCgqk": "HkseAnWCgqk.glb", "00010-DBjEcHFg4oq": "DBjEcHFg4oq.basis.glb"}
    assert found.remark == ""
    about = found.about("00010-DBjEcHFg4oq")
    assert (about.source, about.kind, about.split, about.licence) == ("hm3d", "scene", "train", "LicenseRef-HM3D-ToU")
    scene = found.open("00010-DBjEcHFg4oq")
    assert (scene.source, scene.info.split, scene.licence, len(scene)) == ("hm3d", "train", "LicenseRef-HM3D-ToU", 3000 * 24)
    assert list(files(Hm3d(), hm3d.parent)) == list(files(Hm3d(), hm3d))  # the folder above will do


def test_val_is_walked_only_where_it_is_asked_for(hm3d: Path) -> None:
    assert list(files(Hm3d(split="val"), hm3d)) == ["00800-TEEsavR23oF", "00801-HaxA7YrQdEC"]
    assert list(files(Hm3d(split="minival"), hm3d)) == ["00800-TEEsavR23oF"]
    assert Hm3d(split="minival")([hm3d]).about("00800-TEEsavR23oF").split == "minival"
    assert list(files(Hm3d(split="val"), hm3d / "val")) == ["00800-TEEsavR23oF", "00801-HaxA7YrQdEC"]
    with pytest.raises(ConfigError, match=r"val: no train of HM3D, but val: add --recipe mimic_hm3d --source.split val"):
        Hm3d()([hm3d / "val"])
    with pytest.raises(ConfigError, match=r"train: no val of HM3D, but train: add --recipe mimic_hm3d --source.split train"):
        Hm3d(split="val")([hm3d / "train"])
    (hm3d / "train").rename(hm3d.parent / "elsewhere")
    with pytest.raises(ConfigError, match=r"hm3d: no train of HM3D, but val, minival: add --recipe mimic_hm3d --source.split val"):
        Hm3d()([hm3d])


def test_the_folder_of_a_split_by_another_way(hm3d: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(hm3d / "val")
    with pytest.raises(ConfigError, match=r"add --recipe mimic_hm3d --source\.split val"):
        Hm3d()([Path()])


def test_a_folder_that_is_no_split_is_taken_whole(hm3d: Path) -> None:
    (hm3d / "val").rename(hm3d.parent / "mine")
    found = Hm3d()([hm3d.parent / "mine", hm3d / "train"])
    assert [found.about(name).split for name in found.names()] == [None, None, "train", "train"]
    assert found.names()[:2] == ["00800-TEEsavR23oF", "00801-HaxA7YrQdEC"]
    assert found.remark.endswith("mine has no train/, val/, minival/: all of it is taken, whatever --source.split says")


def test_another_layout_and_a_scene_without_its_file(hm3d: Path, tmp_path: Path) -> None:
    (tmp_path / "wrong" / "train").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"train: not laid out as HM3D: no 00000-<scene>/<scene>.basis.glb \(it holds nothing\)"):
        Hm3d()([tmp_path / "wrong"])
    (hm3d / "train/00006-HkseAnWCgqk/HkseAnWCgqk.glb").unlink()
    found = Hm3d()([hm3d])
    assert found.names() == ["00006-HkseAnWCgqk", "00010-DBjEcHFg4oq"]
    with pytest.raises(UnreadableError, match=r"00006-HkseAnWCgqk/HkseAnWCgqk.basis.glb: No such file"):
        found.open("00006-HkseAnWCgqk")


def test_z_is_up(hm3d: Path, flat: Path) -> None:
    """The walk through the flat is the same, whichever axis its file has for the height."""
    name = "00010-DBjEcHFg4oq"
    scene = Hm3d(samples=1)([hm3d]).open(name)
    same = Walk(flat, Walks(samples=1), name=name)
    for index in (0, 9, 23):
        a, b = scene[index], same[index]
        assert a.id == f"hm3d/{name}/{index:06d}"
        np.testing.assert_allclose(scene.pose(index), same.pose(index), atol=1e-6)
        assert np.abs(a.image.astype(int) - b.image).mean() < 0.5
        assert np.ptp(a.image) > 50


def test_walked_from_the_command_line(hm3d: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Pairs with depth; a scene without its file is named and the rest goes on; refused views can be rendered again."""
    (hm3d / "train/00006-HkseAnWCgqk/HkseAnWCgqk.glb").unlink()
    out = tmp_path / "pairs"
    assert curate([hm3d], out, "--seed", "3", flags=RECIPE) == 3
    assert "HkseAnWCgqk.basis.glb: No such file" in capsys.readouterr().out
    rows = read_manifest(out).to_pylist()
    assert {(r["source"], r["scene"], r["split"], r["licence"]) for r in rows} == {
        ("hm3d", "00010-DBjEcHFg4oq", "train", "LicenseRef-HM3D-ToU")
    }
    kept = [row for row in rows if row["kept"]]
    assert 1 <= len(kept) <= 2
    assert kept[0]["pair_id"].startswith("hm3d/00010-DBjEcHFg4oq/0000")
    pair = twoview.open(out)[0]
    assert pair.a.shape == (224, 224, 3)
    assert pair.depth_a_m is not None
    walks = Hm3d(samples=2)
    object.__setattr__(walks, "seed", 3)  # the run's
    same = walks([hm3d]).open("00010-DBjEcHFg4oq")
    np.testing.assert_allclose(np.ravel(same.pose(pair.row.frame_index_a)), pair.row.pose_a)
    status = {s["scene"]: (s["status"], s["split"]) for s in read_scenes(out).to_pylist()}
    assert status == {"00006-HkseAnWCgqk": ("unreadable", "train"), "00010-DBjEcHFg4oq": ("ok", "train")}
    config = json.loads((out / "config.json").read_text())
    card = FootageAgain(out, config, 60.0).card(next(r for r in rows if "overlap_low" in r["reasons"]))
    assert card.a.startswith("data:image/jpeg")


def test_flags_of_the_command_line(hm3d: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = (*RECIPE, "--source.split", "val", "--source.samples", "5", "--dry-run")
    assert curate([hm3d], tmp_path / "pairs", flags=flags) == 0
    assert "2 scenes, 240 frames" in capsys.readouterr().out
    assert curate([hm3d], tmp_path / "pairs", "--source.split", "test", flags=RECIPE) == 2
    capsys.readouterr()
    assert curate([hm3d / "val"], tmp_path / "pairs", flags=RECIPE) == 2
    said = capsys.readouterr().err
    assert "add --recipe mimic_hm3d --source.split val" in said
    assert said.count("\n") == 1
    (hm3d / "val").rename(hm3d.parent / "mine")
    assert curate([hm3d.parent / "mine"], tmp_path / "pairs", "--dry-run", flags=RECIPE) == 0
    assert "all of it is taken" in capsys.readouterr().err


@pytest.mark.skipif(not (DATA / "scene_apartment").exists(), reason="the apartment with Basis textures is absent")
def test_real_basis_textures(tmp_path: Path) -> None:
    """An apartment as habitat's converter writes it, y up here: the same views as with JPEG textures."""
    folder = tmp_path / "hm3d" / "train" / "00001-UVdNNRcVyV1"
    folder.mkdir(parents=True)
    (folder / "UVdNNRcVyV1.basis.glb").symlink_to(DATA / "scene_apartment" / "apartment_basis.glb")
    scene = Hm3d(samples=1, up="y", min_island_radius_m=2.0)([tmp_path / "hm3d"]).open("00001-UVdNNRcVyV1")
    jpeg = Walk(DATA / "scene_apartment" / "apartment.glb", scene.walks, name=scene.name)
    for index in (0, 12):
        a, b = scene[index].image, jpeg[index].image
        assert np.ptp(a) > 60
        assert np.abs(a.astype(int) - b).mean() < 12
