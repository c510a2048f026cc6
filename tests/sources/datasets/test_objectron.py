"""Objectron in its official layouts, made here: names, splits, and portrait videos."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import twoview
from footage_made import number_in, numbered, write_video
from twoview.cli.curate import curate_to
from twoview.curation.curate import CurateConfig
from twoview.curation.propose import Consecutive
from twoview.errors import ConfigError, UnreadableError
from twoview.shards import read_manifest
from twoview.sources.datasets import Objectron
from twoview.sources.footage import Footage


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return root


NESTED = (
    "videos/cup/batch-10/2/video.MOV",
    "videos/cup/batch-2/11/video.MOV",
    "videos/cup/batch-2/9/video.MOV",
    "videos/cereal_box/batch-1/0/video.MOV",
    "videos/cup/batch-2/9/geometry.pbdata",
    "annotations/cup/batch-2/9.pbdata",
)
NAMES = ["cereal_box/batch-1/0", "cup/batch-2/9", "cup/batch-2/11", "cup/batch-10/2"]


def test_scenes_have_their_official_names_from_wherever_the_folder_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = touch(tmp_path, *NESTED)
    assert Objectron()([root]).names() == NAMES
    assert Objectron()([root / "videos"]).names() == NAMES
    assert Objectron()([root / "videos" / "cup"]).names() == NAMES[1:]
    assert Objectron()([root / "videos" / "cup" / "batch-2"]).names() == NAMES[1:3]
    footage = Objectron()([root / "videos" / "cup", root / "videos" / "cereal_box", root / "videos" / "cup" / "batch-2"])
    assert (sorted(footage.names()), footage.num_repeated) == (sorted(NAMES), 2)
    monkeypatch.chdir(root / "videos" / "cup" / "batch-2")
    assert Objectron()([Path()]).names() == NAMES[1:3]
    known = footage.about("cup/batch-2/9")
    assert (known.source, known.licence, known.split) == ("objectron", "C-UDA-1.0", None)


def test_flat_files(tmp_path: Path) -> None:
    names = (
        "cup_batch-2_9.MOV",
        "cup_batch_10_2_video.mov",  # as download.sh writes them
        "cup_batch_10_2_metadata.pbdata",
        "more/cereal_box_batch-1_0.mov",
        "holiday.mov",
        "._cup_batch-2_9.MOV",
    )
    footage = Objectron()([touch(tmp_path / "all", *names)])
    assert footage.names() == ["cereal_box/batch-1/0", "cup/batch-2/9", "cup/batch-10/2"]
    assert footage.num_ignored == 1


def test_splits_of_the_official_lists(tmp_path: Path) -> None:
    root = touch(tmp_path, *NESTED)
    before = Objectron()([root]).fingerprint("cup/batch-2/9")
    (root / "index").mkdir()
    (root / "index" / "cup_annotations").write_text("cup/batch-2/9\ncup/batch-2/11\n")
    (root / "index" / "cup_annotations_train").write_text("cup/batch-2/9\ncup/batch-3/3\n")
    (root / "index" / "cup_annotations_test").write_text("cup/batch-10/2\r\n")
    footage = Objectron()([root])
    assert [footage.about(name).split for name in NAMES] == [None, "train", None, "test"]
    assert footage.fingerprint("cup/batch-2/9")[0] != before[0]
    (root / "index" / "cup_annotations_test").write_text("cup/batch-10/2\ncup/batch\n")
    with pytest.raises(ConfigError, match=r"cup_annotations_test, line 2: not class/batch-n/i"):
        Objectron()([root])
    (root / "index" / "cup_annotations_test").write_bytes(b"\xff\x00")
    with pytest.raises(ConfigError, match=r"cup_annotations_test: not UTF-8 text"):
        Objectron()([root])


def test_a_folder_without_any(tmp_path: Path) -> None:
    touch(tmp_path, "cup/video.MOV", "cup/geometry.pbdata")
    with pytest.raises(ConfigError, match=r"not laid out as Objectron: no videos/<class>/batch-<n>/<i>/video.MOV .*it holds cup"):
        Objectron()([tmp_path])
    with pytest.raises(ConfigError, match="no such folder"):
        Objectron()([tmp_path / "nowhere"])


@pytest.fixture
def portrait(tmp_path: Path) -> Footage:
    """A phone held upright: stored across, to be shown after a quarter clockwise."""

    def setup(stream: Any) -> None:
        stream.set_display_rotation(-90)

    path = tmp_path / "videos" / "chair" / "batch-0" / "7" / "video.MOV"
    path.parent.mkdir(parents=True)
    shown = (np.ascontiguousarray(numbered(k, 64, 128)) for k in range(12))
    across = (np.ascontiguousarray(image.transpose(1, 0, 2)[::-1]) for image in shown)  # its top at the left
    write_video(path, across, rate=10, setup=setup)
    (tmp_path / "chair_annotations_train").write_text("chair/batch-0/7\n")
    return Objectron()([tmp_path])


def test_portrait_videos_are_turned_as_the_file_says(portrait: Footage) -> None:
    scene = portrait.open("chair/batch-0/7")
    assert [number_in(scene[k].image) for k in (0, 5, 11)] == [0, 5, 11]
    assert scene[0].image.shape == (128, 64, 3)
    assert scene[5].id == "objectron/chair/batch-0/7/000005"
    np.testing.assert_allclose(scene.times_s, np.arange(12) / 10, atol=1e-3)
    assert (scene.info.split, scene.info.source, scene.licence) == ("train", "objectron", "C-UDA-1.0")


def test_a_file_that_is_no_video(tmp_path: Path) -> None:
    footage = Objectron()([touch(tmp_path, *NESTED)])
    with pytest.raises(UnreadableError, match=r"batch-1/0/video.MOV: not a video"):
        footage.open("cereal_box/batch-1/0")


def test_pairs_of_it(walk: Path, tmp_path: Path) -> None:
    path = tmp_path / "raw" / "chair_batch-3_14.MOV"
    path.parent.mkdir()
    path.write_bytes(walk.read_bytes())
    (path.parent / "chair_annotations_test").write_text("chair/batch-3/14\n")
    config = CurateConfig(source=Objectron(), propose=Consecutive(step=6), overlap=(0.5, 0.92), size=112)
    assert curate_to([path.parent], config, tmp_path / "pairs") == 0
    rows = read_manifest(tmp_path / "pairs").to_pylist()
    assert {(r["source"], r["scene"], r["split"], r["licence"]) for r in rows} == {
        ("objectron", "chair/batch-3/14", "test", "C-UDA-1.0")
    }
    assert len(twoview.open(tmp_path / "pairs"))
