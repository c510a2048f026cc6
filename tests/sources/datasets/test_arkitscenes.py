"""ARKitScenes in its official layout, made here: which videos, which way up, and what is left out."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

import twoview
from footage_made import number_in, numbered, write_video
from twoview.cli.curate import curate_to
from twoview.curation.curate import CurateConfig
from twoview.curation.propose import Consecutive
from twoview.curation.views import picture
from twoview.errors import ConfigError, UnreadableError
from twoview.shards import read_manifest, read_scenes
from twoview.sources.datasets import ArkitScenes
from twoview.sources.skipped import Skipped
from twoview.sources.video import Video

HEAD = "video_id,visit_id,sky_direction,fold,has_laser_scanner_point_clouds,is_in_upsampling,is_in_threedod\n"
AS_STORED = {
    "Up": lambda upright: upright,
    "Left": lambda upright: cv2.rotate(upright, cv2.ROTATE_90_COUNTERCLOCKWISE),  # what was above comes to the left
    "Right": lambda upright: cv2.rotate(upright, cv2.ROTATE_90_CLOCKWISE),
    "Down": lambda upright: cv2.rotate(upright, cv2.ROTATE_180),
}


def scan(raw: Path, name: str, sky: str | None = "Up", num: int = 50, setup: Callable[[Any], object] = lambda stream: None) -> Path:
    """A video of `num` frames, ten a second, where `Training/41069021` belongs, and its line in metadata.csv unless sky is None."""
    split, video_id = name.split("/")
    path = raw / split / video_id / f"{video_id}.mov"
    path.parent.mkdir(parents=True)
    images = [AS_STORED.get(sky or "", AS_STORED["Up"])(numbered(k)) for k in range(num)]
    write_video(path, images, rate=10, setup=setup)
    table = raw / "metadata.csv"
    if sky is not None:
        old = table.read_text() if table.exists() else HEAD
        table.write_text(f"{old}{video_id},421393.0,{sky},{split},True,False,True\n")
    return path


def opened(raw: Path, name: str) -> Video:
    scene = ArkitScenes()([raw]).open(name)
    assert isinstance(scene, Video)
    return scene


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "arkit" / "raw"
    for name, sky in (("Validation/41254386", "Left"), ("Training/48018540", "Up"), ("Training/41069021", "Right")):
        scan(folder, name, sky)
    return folder


def test_scenes_have_their_official_names_from_wherever_the_folder_is_given(raw: Path, tmp_path: Path) -> None:
    moved = raw.parent.rename(tmp_path / "elsewhere") / "raw"
    for root in (moved.parent, moved):
        footage = ArkitScenes()([root])
        assert footage.names() == ["Training/41069021", "Training/48018540", "Validation/41254386"]
        known = footage.about("Validation/41254386")
        assert (known.source, known.licence, known.split) == ("arkitscenes", "LicenseRef-ARKitScenes", "Validation")
    scene = footage.open("Validation/41254386")
    assert scene.info == replace(scene.info, source="arkitscenes", scene="Validation/41254386", split="Validation", num_frames=50)
    assert scene.licence == "LicenseRef-ARKitScenes"
    assert scene[7].id == "arkitscenes/Validation/41254386/000007"
    np.testing.assert_allclose(scene.times_s, np.arange(50) / 10, atol=1e-3)


def test_part_of_the_dataset_is_enough(raw: Path) -> None:
    (raw / "Validation" / "41254386" / "41254386.mov").unlink()  # its other assets were downloaded, not mov
    footage = ArkitScenes()([raw])
    assert (footage.names(), footage.num_ignored) == (["Training/41069021", "Training/48018540"], 1)


@pytest.mark.parametrize("sky", AS_STORED)
@pytest.mark.parametrize("shown_turned_deg", [None, 90, 180, 270])
def test_the_sky_comes_to_the_top(sky: str, shown_turned_deg: int | None, tmp_path: Path) -> None:
    """Whatever the container says of its display: the table speaks of the pixels as they are stored."""

    def setup(stream: Any) -> None:
        if shown_turned_deg is not None:
            stream.set_display_rotation(shown_turned_deg)

    scan(tmp_path, "Training/41069021", sky, setup=setup)
    scene = opened(tmp_path, "Training/41069021")
    assert [number_in(scene[k].image) for k in (0, 21, 49)] == [0, 21, 49]
    assert scene[3].image.shape == (64, 128, 3)
    assert scene[3].image.flags.c_contiguous


def test_of_two_cameras_the_wide_one(tmp_path: Path) -> None:
    """The official files hold the video of the ultrawide camera too, small and at a sixth of the rate."""
    path = scan(tmp_path, "Training/41069021")
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("libx264", rate=rate) for rate in (10, 2)]
        for stream, (width, height) in zip(streams, ((128, 64), (64, 48)), strict=True):
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for k in range(60):
            for stream, every in zip(streams, (1, 5), strict=True):
                if k % every == 0:
                    image = numbered(k) if every == 1 else np.full((48, 64, 3), 90, np.uint8)
                    frame = av.VideoFrame.from_ndarray(image, "rgb24").reformat(format="yuv420p")
                    frame.pts, frame.time_base = k, Fraction(1, 10)
                    container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
    scene = opened(tmp_path, "Training/41069021")
    assert (len(scene), number_in(scene[59].image)) == (60, 59)


@pytest.mark.parametrize(
    ("sky", "words"), [("NA", "sky_direction NA in"), ("", "no sky_direction in"), (None, "no sky_direction in")]
)
def test_without_a_direction_a_video_is_skipped(sky: str | None, words: str, raw: Path) -> None:
    path = scan(raw, "Training/47333462", sky)
    scene = ArkitScenes()([raw]).open("Training/47333462")
    assert isinstance(scene, Skipped)
    assert scene.info.status == "skipped"
    assert scene.info.error == f"{path}: {words} {raw / 'metadata.csv'}: which way is up is not known"


def test_videos_under_five_seconds_are_skipped(tmp_path: Path) -> None:
    path = scan(tmp_path, "Training/1", num=49)
    scan(tmp_path, "Training/2", num=50)
    footage = ArkitScenes()([tmp_path])
    short = footage.open("Training/1")
    assert isinstance(short, Skipped)
    assert short.info.error == f"{path}: lasts 4.9 s, and under 5 s is left out, as published"
    assert len(footage.open("Training/2")) == 50


def test_a_new_table_is_noticed(raw: Path) -> None:
    before = ArkitScenes()([raw]).fingerprint("Training/41069021")
    table = raw / "metadata.csv"
    table.write_text(table.read_text().replace("Right", "Left"))
    assert ArkitScenes()([raw]).fingerprint("Training/41069021")[0] != before[0]


def test_columns_may_stand_in_another_order(raw: Path) -> None:
    (raw / "metadata.csv").write_text(
        '\ufeff"sky_direction","fold","video_id"\r\n"Right","Training","41069021"\r\n', encoding="utf-8"
    )
    assert number_in(opened(raw, "Training/41069021")[30].image) == 30
    (raw / "metadata.csv").write_text(
        "fold,sky_direction,video_id\nTraining\nTraining,Right,41069021\n"
    )  # a line that is cut short
    assert number_in(opened(raw, "Training/41069021")[30].image) == 30


def test_what_is_not_as_it_should_be_is_named(raw: Path, tmp_path: Path) -> None:
    table = raw / "metadata.csv"
    for content, words in (
        (b"video_id,fold\n1,Training\n", "no column sky_direction in its first line"),
        (b"", "no column sky_direction and video_id in its first line"),
        (b"\xff\xfe\x00\x80", "not a table of comma-separated text"),
    ):
        table.write_bytes(content)
        with pytest.raises(ConfigError, match=f"metadata.csv: {words}.*: download it again") as caught:
            ArkitScenes()([raw])
        assert "\n" not in str(caught.value)
    table.unlink()
    with pytest.raises(
        ConfigError, match=r"raw: not laid out as ARKitScenes: no metadata.csv .* There is Training/41069021/41069021.mov"
    ):
        ArkitScenes()([raw])
    with pytest.raises(
        ConfigError, match=r"not laid out as ARKitScenes: no raw/Training/<video_id>/<video_id>.mov \(it holds arkit\)"
    ):
        ArkitScenes()([tmp_path])
    (tmp_path / "new" / "Training" / "41069021").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"no Training/<video_id>/<video_id>.mov \(asset mov\).* There is Training/41069021"):
        ArkitScenes()([tmp_path / "new"])
    with pytest.raises(ConfigError, match="give the folder that it lies in"):
        ArkitScenes()([], tmp_path / "list.txt")


def test_a_video_that_is_cut_short(raw: Path) -> None:
    path = raw / "Training" / "41069021" / "41069021.mov"
    path.write_bytes(path.read_bytes()[:200])
    footage = ArkitScenes()([raw])
    with pytest.raises(UnreadableError, match=r"41069021.mov"):
        footage.open("Training/41069021")
    assert len(footage.open("Training/48018540")) == 50


def test_pairs_of_a_scan_that_was_held_upright(walk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video = Video(walk)
    path = scan(tmp_path / "raw", "Validation/41254386", "Left")
    write_video(path, [AS_STORED["Left"](frame.image) for frame in (video[k] for k in range(60))], rate=10, options={"crf": "12"})
    scan(tmp_path / "raw", "Training/1", num=20)
    config = CurateConfig(source=ArkitScenes(), propose=Consecutive(step=6), overlap=(0.5, 0.92), size=112)
    assert curate_to([tmp_path], config, tmp_path / "pairs") == 0
    assert "skipped by a rule of the dataset: 1 of 2 scenes" in capsys.readouterr().out
    rows = read_manifest(tmp_path / "pairs").to_pylist()
    assert {(row["source"], row["scene"], row["split"]) for row in rows} == {("arkitscenes", "Validation/41254386", "Validation")}
    assert {row["status"] for row in read_scenes(tmp_path / "pairs").to_pylist()} == {"ok", "skipped"}
    pairs = twoview.open(tmp_path / "pairs")
    assert len(pairs)
    for pair in pairs:
        upright = picture(video[pair.row.frame_index_a].image, "centre", 112)[0]
        assert np.abs(pair.a.astype(int) - upright).mean() < 8
