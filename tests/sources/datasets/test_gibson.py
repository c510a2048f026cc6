"""Gibson in Habitat's layout: which scenes are held out, and both parts walked from end to end."""

from pathlib import Path

import numpy as np
import pytest

import twoview
from flat_made import put, write_flat_z_up
from runs import SHARED, curate
from twoview.curation.curate import CurateConfig
from twoview.curation.propose import AlongWalks
from twoview.curation.truth import Truth
from twoview.errors import ConfigError, UnreadableError
from twoview.shards import read_manifest, read_scenes
from twoview.sources.datasets import Gibson
from twoview.sources.datasets.gibson import held_out
from twoview.sources.scene import Walk, Walks

DATA = SHARED / "data"
RECIPE = ("--recipe", f"{__name__}:recipe")


def recipe() -> CurateConfig:
    return CurateConfig(source=Gibson(samples=2), propose=AlongWalks(), size=224, min_sharpness=1000.0)


def nearby() -> CurateConfig:
    source = Gibson(walk="pairs", samples=20, forward_m=(0.0, 1.5), min_island_radius_m=0.0, hfov_deg=60.0)
    return CurateConfig(source=source, propose=AlongWalks(), estimator=Truth(min_depth=0.7), overlap=(0.5, 1.0))


@pytest.fixture(scope="module")
def flat_z(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_flat_z_up(tmp_path_factory.mktemp("flat") / "flat.glb")


@pytest.fixture
def gibson(flat_z: Path, tmp_path: Path) -> Path:
    """Three scenes to train on and two that are held out."""
    names = [
        f"{n}{suffix}" for n in ("Cantwell", "Adrian", "Eastville", "Allensville", "Anaheim") for suffix in (".glb", ".navmesh")
    ]
    return put(tmp_path / "gibson", flat_z, *names, "gibson.scene_dataset_config.json", "._Adrian.glb")


def test_a_tenth_is_held_out() -> None:
    """As `sha256sum` and `bc` have it: a rule that changes would move scenes between training and measuring."""
    known = {"Adrian": False, "Allensville": False, "Anaheim": False, "Annawan": True, "Cantwell": True, "Eastville": True}
    assert {name: held_out(name) for name in known} == known
    assert 0.08 < np.mean([held_out(f"Scene{k}") for k in range(5000)]) < 0.12


def test_scenes_that_are_held_out_are_left_out_and_said(gibson: Path) -> None:
    found = Gibson()([gibson])
    assert found.names() == ["Adrian", "Allensville", "Anaheim"]
    assert found.num_ignored == 2
    assert found.remark == "held out for measuring reconstruction, and left out: 2 of 5 scenes"
    about = found.about("Adrian")
    assert (about.source, about.kind, about.split, about.licence) == ("gibson", "scene", "train", "LicenseRef-Gibson-ToU")
    scene = found.open("Adrian")
    assert (scene.info.split, len(scene)) == ("train", 3000 * 24)


def test_only_those(gibson: Path) -> None:
    found = Gibson(part="held_out")([gibson])
    assert found.names() == ["Cantwell", "Eastville"]
    assert (found.num_ignored, found.remark, found.about("Cantwell").split) == (3, "", "held_out")


def test_the_folder_above_and_two_archives(gibson: Path, flat_z: Path) -> None:
    """Of gibson_habitat's scenes those that gibson has too are taken once."""
    put(gibson.parent / "gibson_habitat", flat_z, "Adrian.glb", "Arkansaw.glb")
    found = Gibson()([gibson.parent])
    assert found.names() == ["Adrian", "Allensville", "Anaheim", "Arkansaw"]
    assert found.inputs["Adrian"].paths == (gibson / "Adrian.glb",)


def test_all_held_out_or_none(flat_z: Path, tmp_path: Path) -> None:
    put(tmp_path / "one", flat_z, "Cantwell.glb")
    with pytest.raises(
        ConfigError,
        match=r"one: every scene of it \(1\) is held out: add --recipe mimic_gibson --source\.part held_out to walk through them",
    ):
        Gibson()([tmp_path / "one"])
    put(tmp_path / "two", flat_z, "Adrian.glb", "Anaheim.glb")
    with pytest.raises(
        ConfigError, match=r"two: every scene of it \(2\) is for training: add --recipe mimic_gibson --source\.part train"
    ):
        Gibson(part="held_out")([tmp_path / "two"])
    assert Gibson()([tmp_path / "two"]).remark == ""


def test_another_layout_and_a_scene_without_its_file(gibson: Path, tmp_path: Path) -> None:
    put(tmp_path / "full", gibson / "Adrian.glb", "Allensville/mesh_z_up.obj")
    with pytest.raises(
        ConfigError, match=r"full: not laid out as Gibson: no <Scene>.glb, nor gibson/<Scene>.glb \(it holds Allens"
    ):
        Gibson()([tmp_path / "full"])
    with pytest.raises(ConfigError, match="Gibson finds its scenes itself"):
        Gibson()([], tmp_path / "list.txt")
    (gibson / "Anaheim.glb").unlink()
    found = Gibson()([gibson])
    assert found.names() == ["Adrian", "Allensville", "Anaheim"]
    with pytest.raises(UnreadableError, match=r"gibson/Anaheim.glb: No such file"):
        found.open("Anaheim")


def test_z_is_up(gibson: Path, flat: Path) -> None:
    scene, same = Gibson(samples=1)([gibson]).open("Adrian"), Walk(flat, Walks(samples=1), name="Adrian")
    np.testing.assert_allclose(scene.pose(7), same.pose(7), atol=1e-6)
    assert scene[7].id == "gibson/Adrian/000007"
    assert np.abs(scene[7].image.astype(int) - same[7].image).mean() < 0.5


@pytest.mark.parametrize(("part", "names"), [("train", {"Adrian"}), ("held_out", {"Cantwell"})])
def test_walked_from_the_command_line(
    part: str, names: set[str], gibson: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("Eastville", "Allensville", "Anaheim"):
        (gibson / f"{name}.glb").unlink()
        (gibson / f"{name}.navmesh").unlink()
    out = tmp_path / "pairs"
    assert curate([gibson], out, "--source.part", part, flags=RECIPE) == 0
    assert ("left out: 1 of 2 scenes" in capsys.readouterr().err) == (part == "train")
    rows = read_manifest(out).to_pylist()
    assert {(r["source"], r["scene"], r["split"], r["licence"]) for r in rows} == {
        ("gibson", name, part, "LicenseRef-Gibson-ToU") for name in names
    }
    assert {s["scene"] for s in read_scenes(out).to_pylist()} == names
    pairs = twoview.open(out)
    assert 1 <= len(pairs) <= 2
    assert pairs[0].depth_a_m is not None


@pytest.mark.skipif(not (DATA / "scene_vr_gallery").exists(), reason="the gallery is absent")
def test_a_real_scan(tmp_path: Path) -> None:
    """A baked interior of others, y up and with little to match: by true overlap, as MultiView-Habitat has it."""
    (tmp_path / "gibson").mkdir()
    (tmp_path / "gibson" / "Adrian.glb").symlink_to(DATA / "scene_vr_gallery" / "vr-gallery.glb")
    flags = ("--recipe", f"{__name__}:nearby", "--source.up", "y")
    assert curate([tmp_path / "gibson"], tmp_path / "pairs", flags=flags) == 0
    kept = [row for row in read_manifest(tmp_path / "pairs").to_pylist() if row["kept"]]
    assert len(kept) > 5
    assert all(row["overlap"] >= 0.5 for row in kept)
    assert np.ptp(twoview.open(tmp_path / "pairs")[0].a) > 50
