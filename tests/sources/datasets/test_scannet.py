"""ScanNet's recordings, written here byte by byte, cut and damaged; exported frames; real ones; pairs from the command line."""

import struct
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from footage_made import number_in, numbered
from runs import SHARED, curate
from twoview.errors import ConfigError, UnreadableError
from twoview.shards import read_manifest, read_scenes
from twoview.sources.datasets import ScanNet
from twoview.sources.images import read_image
from twoview.sources.video import Video

# The layout, as https://github.com/ScanNet/ScanNet/tree/master/SensReader has it, little-endian:
#   uint32 version = 4; uint64 length and bytes of the sensor's name
#   float32[16] intrinsic and extrinsic of colour, float32[16] intrinsic and extrinsic of depth
#   int32 colour compression (-1 unknown, 0 raw, 1 png, 2 jpeg), int32 depth compression (-1 unknown, 0 raw, 1 zlib, 2 occi)
#   uint32 colour width, colour height, depth width, depth height; float32 depth shift; uint64 number of frames
#   for each frame: float32[16] camera to world; uint64 time of colour, of depth (microseconds);
#                   uint64 bytes of colour, of depth; the bytes of colour; the bytes of depth
#   uint64 number of measurements of motion, and those
FIELDS = {
    "version": ("<I", 4),
    "name length": ("<Q", 13),
    "name": ("13s", b"StructureSens"),
    "matrices": ("<64f", None),
    "colour compression": ("<i", 2),
    "depth compression": ("<i", 1),
    "colour width": ("<I", 128),
    "colour height": ("<I", 64),
    "depth width": ("<I", 16),
    "depth height": ("<I", 8),
    "depth shift": ("<f", 1000.0),
    "number of frames": ("<Q", None),
}
DEPTH = b"depth of a frame"


def sens(path: Path, pictures: Sequence[bytes], times_us: Sequence[int] | None = None, **fields: int) -> Path:
    """Write a .sens. fields: what the header says in place of FIELDS, with _ for spaces."""
    path.parent.mkdir(parents=True, exist_ok=True)
    said = {name.replace("_", " "): value for name, value in fields.items()}
    data = b""
    for name, (code, usual) in FIELDS.items():
        if name == "matrices":
            data += struct.pack(code, *np.tile(np.eye(4), (4, 1, 1)).ravel())
        else:
            data += struct.pack(code, said.get(name, len(pictures) if usual is None else usual))
    for k, picture in enumerate(pictures):
        time_us = times_us[k] if times_us else 5_000_000 + 33_000 * k
        data += struct.pack("<16f", *np.full(16, k)) + struct.pack("<QQQQ", time_us, 1, len(picture), len(DEPTH)) + picture + DEPTH
    path.write_bytes(data + struct.pack("<Q", 1) + bytes(100))
    return path


def encoded(image: np.ndarray, kind: str = ".jpg") -> bytes:
    return cv2.imencode(kind, image[:, :, ::-1])[1].tobytes()


def jpegs(num: int = 4, first: int = 0) -> list[bytes]:
    return [encoded(numbered(first + k)) for k in range(num)]


def frames(folder: Path, numbers: Sequence[int], name: str = "{}.jpg") -> None:
    folder.mkdir(parents=True)
    for number in numbers:
        (folder / name.format(number)).write_bytes(encoded(numbered(number % 256)))


def opened(path: Path) -> object:
    """The only scene in a folder."""
    footage = ScanNet()([path])
    (name,) = footage.names()
    return footage.open(name)


# ------------------------------------------------------------------------------------------------------- .sens


def test_frames_of_a_recording(tmp_path: Path) -> None:
    sens(tmp_path / "scans/scene0001_00/scene0001_00.sens", jpegs(5))
    sens(tmp_path / "scans/scene0000_01/scene0000_01.sens", jpegs(4, first=100))
    footage = ScanNet()([tmp_path])
    assert footage.names() == ["scene0000_01", "scene0001_00"]
    scene = footage.open("scene0001_00")
    assert [number_in(scene[k].image) for k in (3, 0, 4, 1)] == [3, 0, 4, 1]
    frame = footage.open("scene0000_01")[2]
    assert (frame.id, number_in(frame.image), frame.image.shape) == ("scannet/scene0000_01/000002", 102, (64, 128, 3))
    assert np.abs(frame.image.astype(int) - numbered(102)).mean() < 12  # RGB and upright
    assert scene.times_s == pytest.approx([0, 0.033, 0.066, 0.099, 0.132])
    info = scene.info
    assert (info.status, info.kind, info.codec) == ("ok", "sens", "jpeg")
    assert (info.num_frames, info.width_px, info.height_px) == (5, 128, 64)
    assert info.fps == pytest.approx(1 / 0.033)
    assert (info.source, info.licence, info.split) == ("scannet", "LicenseRef-ScanNet-ToU", None)
    assert footage.about("scene0001_00").uri == str(tmp_path / "scans/scene0001_00/scene0001_00.sens")
    with pytest.raises(IndexError, match="frames 0 to 4"):
        scene[5]


@pytest.mark.parametrize(("compression", "codec"), [(0, "raw"), (1, "png")])
def test_pictures_that_are_no_jpeg(compression: int, codec: str, tmp_path: Path) -> None:
    pictures = [numbered(k) for k in range(3)]
    data = [p.tobytes() if codec == "raw" else encoded(p, ".png") for p in pictures]
    sens(tmp_path / "scene0001_00.sens", data, colour_compression=compression)
    scene = opened(tmp_path)
    assert scene.info.codec == codec
    for k in (2, 0, 1):
        np.testing.assert_array_equal(scene[k].image, pictures[k])
        scene[k].image[0] = 0  # a frame is the caller's own


@pytest.mark.parametrize(
    "times_us",
    [
        [0, 0, 0, 0],
        [100, 33_100, 0, 99_100],
        [0, 33_000, 33_000, 66_000],
        [7, 2**63, 2**63 + 5, 2**64 - 1],
        [0, 33_000, 66_000, 12_000_000],
    ],
)
def test_without_usable_times_it_is_30_frames_a_second(times_us: list[int], tmp_path: Path) -> None:
    sens(tmp_path / "scene0001_00.sens", jpegs(), times_us)
    scene = opened(tmp_path)
    assert scene.times_s == pytest.approx([0, 1 / 30, 2 / 30, 3 / 30])
    assert (scene.has_clock, scene.info.fps) == (False, 30)


def test_a_recording_of_one_frame(tmp_path: Path) -> None:
    sens(tmp_path / "scene0001_00.sens", jpegs(1))
    assert opened(tmp_path).times_s.tolist() == [0]


@pytest.mark.parametrize(
    "cut", [96 + 10, 10, 96, 96 + 700, -len(DEPTH), -1], ids=["jpeg", "head", "after the head", "later", "depth", "last byte"]
)
def test_of_a_file_that_is_cut_short_the_frames_before_are_read(cut: int, tmp_path: Path) -> None:
    pictures = jpegs(4)
    sens(tmp_path / "scene0001_00.sens", pictures)
    data = (tmp_path / "scene0001_00.sens").read_bytes()
    third = data.index(pictures[2]) - 96
    fourth = data.index(pictures[3]) - 96
    (tmp_path / "scene0001_00.sens").write_bytes(data[: third + cut if cut > 0 else fourth + cut])
    scene = opened(tmp_path)
    whole = 3 if cut < 0 else 2  # the colour of a frame comes before its depth
    assert [number_in(scene[k].image) for k in range(len(scene))] == list(range(whole))
    assert scene.info.status == "partial"
    assert "scene0001_00.sens: ends in frame 2 of 4, after" in scene.info.error
    assert len(scene.times_s) == whole


def test_a_file_that_ends_before_its_first_frame(tmp_path: Path) -> None:
    pictures = jpegs(2)
    sens(tmp_path / "scene0001_00.sens", pictures)
    data = (tmp_path / "scene0001_00.sens").read_bytes()
    for end, words in ((0, "its header, after 0 bytes"), (200, "its header"), (data.index(pictures[0]), "frame 0 of 2")):
        (tmp_path / "scene0001_00.sens").write_bytes(data[:end])
        with pytest.raises(UnreadableError, match=rf"scene0001_00.sens: ends in {words}"):
            opened(tmp_path)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("version", 3, "version is 3, where 4 is known"),
        ("version", 0x46464952, "version is 1179011410, where 4"),
        ("name_length", 2**63, "length of the sensor's name is 9223372036854775808, where 0 to 4096"),
        ("colour_compression", -1, r"colour compression is -1, where 0 \(raw\), 1 \(png\) or 2 \(jpeg\)"),
        ("colour_compression", 3, "colour compression is 3"),
        ("depth_compression", 77, "depth compression is 77"),
        ("colour_width", 0, "colour width is 0, where 1 to 16384"),
        ("colour_height", 2**32 - 1, "colour height is 4294967295"),
        ("depth_width", 2**31, "depth width is 2147483648"),
        ("number_of_frames", 0, "number of frames is 0"),
        ("number_of_frames", 2**60, "number of frames is 1152921504606846976, where 1 to 10,000,000"),
    ],
)
def test_a_damaged_header_is_named(field: str, value: int, words: str, tmp_path: Path) -> None:
    sens(tmp_path / "scene0001_00.sens", jpegs(), **{field: value})
    with pytest.raises(UnreadableError, match=rf"scene0001_00.sens: {words}.* damaged, or no .sens of ScanNet: download"):
        opened(tmp_path)


@pytest.mark.parametrize(("at", "what"), [(80, "colour"), (88, "depth")])
@pytest.mark.parametrize("frame", [0, 2])
def test_a_frame_of_absurd_size(at: int, what: str, frame: int, tmp_path: Path) -> None:
    """Where the next one begins is not known then."""
    pictures = jpegs(4)
    sens(tmp_path / "scene0001_00.sens", pictures)
    data = bytearray((tmp_path / "scene0001_00.sens").read_bytes())
    head = data.index(pictures[frame]) - 96
    data[head + at : head + at + 8] = struct.pack("<Q", 2**62)
    (tmp_path / "scene0001_00.sens").write_bytes(data)
    words = f"frame {frame} of 4 has {2**62} bytes of {what}, where uncompressed it has"
    if frame == 0:
        with pytest.raises(UnreadableError, match=words):
            opened(tmp_path)
    else:
        scene = opened(tmp_path)
        assert (len(scene), scene.info.status) == (2, "partial")
        assert words in scene.info.error
        assert number_in(scene[1].image) == 1


def test_more_frames_announced_than_there_are(tmp_path: Path) -> None:
    """What follows the frames are measurements of motion, which read as a frame of nothing."""
    sens(tmp_path / "scene0001_00.sens", jpegs(3), number_of_frames=9)
    scene = opened(tmp_path)
    assert "of 9" in scene.info.error
    assert number_in(scene[2].image) == 2
    for k in range(3, len(scene)):
        with pytest.raises(UnreadableError):
            scene[k]


@pytest.mark.parametrize(("damage", "words"), [(b"", "not a byte"), (b"no picture at all", "not a picture"), (None, "cut short")])
def test_a_damaged_frame_leaves_the_others(damage: bytes | None, words: str, tmp_path: Path) -> None:
    pictures = jpegs(3)
    pictures[1] = pictures[1][:900] if damage is None else damage
    sens(tmp_path / "scene0001_00.sens", pictures)
    scene = opened(tmp_path)
    for _ in range(2):
        with pytest.raises(UnreadableError, match=rf"scene0001_00.sens: frame 1: .*{words}"):
            scene[1]
    assert [number_in(scene[k].image) for k in (0, 2)] == [0, 2]
    assert (scene.info.status, "frame 1" in scene.info.error) == ("partial", True)


def test_a_raw_frame_of_the_wrong_size(tmp_path: Path) -> None:
    sens(tmp_path / "scene0001_00.sens", [numbered(0).tobytes(), numbered(1).tobytes()[:-1]], colour_compression=0)
    scene = opened(tmp_path)
    assert number_in(scene[0].image) == 0
    with pytest.raises(UnreadableError, match="frame 1: 24575 bytes, where 128 x 64 px want 24576"):
        scene[1]


# --------------------------------------------------------------------------------------------------- the folder


@pytest.mark.parametrize(
    "place",
    [
        "scans/scene0001_00/scene0001_00.sens",
        "scene0001_00/scene0001_00.sens",
        "scene0001_00.sens",
        "raw/scans/scene0001_00.sens",
        "scans/scene0001_00/color/{}.jpg",
        "scene0001_00/frames/color/{:06d}.jpg",
        "tasks/scannet_frames_25k/scene0001_00/color/{:06d}.jpg",
        "exported/scene0001_00/color/{:06d}.png",
    ],
)
def test_a_scan_has_its_name_wherever_it_lies(place: str, tmp_path: Path) -> None:
    if place.endswith(".sens"):
        sens(tmp_path / place, jpegs(3))
    else:
        frames((tmp_path / place).parent, range(3), Path(place).name)
    (tmp_path / "scannetv2-labels.combined.tsv").write_text("id")
    for root in (tmp_path, next((p for p in tmp_path.rglob("scene0001_00")), tmp_path)):
        footage = ScanNet()([root])
        assert footage.names() == ["scene0001_00"]
        frame = footage.open("scene0001_00")[2]
        assert (frame.id, number_in(frame.image)) == ("scannet/scene0001_00/000002", 2)


def test_exported_frames_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    frames(tmp_path / "scene0001_00/color", [0, 1, 2, 9, 10, 11, 100])
    (tmp_path / "scene0001_00/color/.DS_Store").write_bytes(b"x")
    frames(tmp_path / "scene0001_01/color", [0, 100, 200], "{:06d}.jpg")
    frames(tmp_path / "scene0001_02/color", [5, 1000], "{}.jpg")
    frames(tmp_path / "scene0001_03/color", [0, 1], "frame-{}.jpg")
    footage = ScanNet()([tmp_path])
    scene = footage.open("scene0001_00")
    assert [number_in(scene[k].image) for k in range(len(scene))] == [0, 1, 2, 9, 10, 11, 100]
    assert scene.times_s == pytest.approx(np.array([0, 1, 2, 9, 10, 11, 100]) / 30)
    assert (scene.info.source, scene.info.licence, scene.info.kind) == ("scannet", "LicenseRef-ScanNet-ToU", "images")
    assert footage.open("scene0001_01").times_s == pytest.approx([0, 10 / 3, 20 / 3])
    assert footage.open("scene0001_02").times_s is None  # no recording pauses so long: numbers of another kind
    assert footage.open("scene0001_03").times_s is None


def test_a_scan_that_is_there_twice_is_one_scene(tmp_path: Path) -> None:
    """The .sens before frames, more frames before fewer, wherever they lie."""
    sens(tmp_path / "scans/scene0001_00/scene0001_00.sens", jpegs(5))
    frames(tmp_path / "scans/scene0001_00/color", range(9))
    frames(tmp_path / "a25k/scene0001_00/color", [0, 100])
    frames(tmp_path / "a25k/scene0002_00/color", [0, 100])
    frames(tmp_path / "scans/scene0002_00/color", range(7))
    (tmp_path / "zz/scene0002_00").mkdir(parents=True)
    footage = ScanNet()([tmp_path])
    assert [(name, len(footage.open(name))) for name in footage.names()] == [("scene0001_00", 5), ("scene0002_00", 7)]
    assert footage.num_repeated == 3
    again = ScanNet()([tmp_path / "a25k", tmp_path / "scans"])
    assert [len(again.open(name)) for name in again.names()] == [5, 7]


def test_test_scenes_are_left_out(tmp_path: Path) -> None:
    for name in ("scene0706_00", "scene0707_00", "scene0806_00"):
        sens(tmp_path / f"scans/{name}/{name}.sens", jpegs(2))
    footage = ScanNet()([tmp_path])
    assert (footage.names(), footage.num_ignored) == (["scene0706_00"], 2)
    footage = ScanNet(test_scenes=True)([tmp_path])
    assert [footage.open(name).info.split for name in footage.names()] == [None, "test", "test"]
    with pytest.raises(ConfigError, match=r"only test scenes \(1, .*--source.test-scenes"):
        ScanNet()([tmp_path / "scans/scene0707_00"])


def test_a_scan_without_pictures_is_named(tmp_path: Path) -> None:
    sens(tmp_path / "scans/scene0001_00/scene0001_00.sens", jpegs(2))
    (tmp_path / "scans/scene0002_00/color").mkdir(parents=True)
    (tmp_path / "scans/scene0002_00/scene0002_00_vh_clean_2.ply").write_bytes(b"ply")
    footage = ScanNet()([tmp_path])
    assert footage.names() == ["scene0001_00", "scene0002_00"]
    with pytest.raises(UnreadableError, match=r"scene0002_00.sens: no such file, and no frames in .*color: download"):
        footage.open("scene0002_00")
    (tmp_path / "scans/scene0001_00/scene0001_00.sens").unlink()
    with pytest.raises(UnreadableError, match=r"scene0001_00.sens: No such file"):
        footage.open("scene0001_00")


def test_another_layout_is_named(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/1.jpg").write_bytes(b"x")
    with pytest.raises(ConfigError, match=r"not laid out as ScanNet: no scans/<scene>/<scene>.sens or .* \(it holds pictures\)"):
        ScanNet()([tmp_path])
    (tmp_path / "scene0001_00").mkdir()
    with pytest.raises(ConfigError, match="not laid out as ScanNet"):
        ScanNet()([tmp_path])
    with pytest.raises(ConfigError, match="no such folder"):
        ScanNet()([tmp_path / "nowhere"])
    with pytest.raises(ConfigError, match="--list"):
        ScanNet()([], tmp_path / "list.txt")


def test_changed_bytes_are_noticed(tmp_path: Path) -> None:
    path = sens(tmp_path / "scene0001_00.sens", jpegs())
    before = ScanNet()([tmp_path]).fingerprint("scene0001_00")
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    assert before[1] == len(data)
    assert ScanNet()([tmp_path]).fingerprint("scene0001_00")[0] != before[0]


# --------------------------------------------------------------------------------------------------------- pairs


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "scannet_windows.py").write_text(
        "from twoview.curation.curate import CurateConfig\n"
        "from twoview.curation.propose import BestOfWindow\n"
        "from twoview.sources.datasets import ScanNet\n"
        "def windows():\n"
        "    propose = BestOfWindow(window=15, candidates=3)\n"
        "    return CurateConfig(source=ScanNet(), propose=propose, overlap=(0.5, 0.92), size=112)\n"
    )
    monkeypatch.chdir(tmp_path)
    return "scannet_windows:windows"


def test_pairs_from_the_command_line(recipe: str, walk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One scan whole, one cut short, one that is none, a test scene: the same pairs from the .sens and from frames of it."""
    video = Video(walk)
    pictures = [encoded(video[k].image) for k in range(45)]
    for name in ("scene0000_00", "scene0001_00", "scene0710_00"):
        sens(tmp_path / f"scans/{name}/{name}.sens", pictures, colour_width=480, colour_height=360)
    cut = tmp_path / "scans/scene0001_00/scene0001_00.sens"
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size * 3 // 4])
    sens(tmp_path / "scans/scene0002_00/scene0002_00.sens", [], version=5)
    assert curate([tmp_path / "scans"], tmp_path / "pairs", flags=("--recipe", recipe)) == 3
    assert "scene0002_00.sens: version is 5" in capsys.readouterr().out
    rows = read_manifest(tmp_path / "pairs").to_pylist()
    assert {row["scene"] for row in rows} == {"scene0000_00", "scene0001_00"}
    kept = [row for row in rows if row["kept"] and row["scene"] == "scene0000_00"]
    assert len(kept) >= 2
    assert all(row["frame_index_b"] - row["frame_index_a"] >= 9 for row in kept)
    assert kept[0]["time_b_s"] == pytest.approx(0.033 * kept[0]["frame_index_b"])
    assert {(row["source"], row["licence"]) for row in rows} == {("scannet", "LicenseRef-ScanNet-ToU")}
    scenes = {row["scene"]: row for row in read_scenes(tmp_path / "pairs").to_pylist()}
    assert [scenes[name]["status"] for name in sorted(scenes)] == ["ok", "partial", "unreadable"]
    for k, picture in enumerate(pictures):
        path = tmp_path / f"frames/scene0000_00/color/{k}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture)
    assert curate([tmp_path / "frames"], tmp_path / "again", flags=("--recipe", recipe)) == 0
    again = [row for row in read_manifest(tmp_path / "again").to_pylist() if row["kept"]]
    assert [(row["pair_id"], row["sha256_a"], row["sha256_b"]) for row in again] == [
        (row["pair_id"], row["sha256_a"], row["sha256_b"]) for row in kept
    ]
    assert curate([tmp_path / "scans/scene0710_00"], tmp_path / "test", flags=("--recipe", recipe)) == 2
    flags = ("--recipe", recipe, "--source.test-scenes", "--dry-run")
    assert curate([tmp_path / "scans/scene0710_00"], tmp_path / "test", flags=flags) == 0


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no real frames at {SHARED}")
def test_real_frames(tmp_path: Path) -> None:
    """ScanNet's own JPEGs, as a .sens holds them, and frames of scene0000_00 as another project exported them."""
    folder = SHARED / "data/superglue_scannet_posed/scannet_sample_images"
    by_scene: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.jpg")):
        by_scene.setdefault(path.name[:12], []).append(path)
    for name, paths in by_scene.items():
        data = [path.read_bytes() for path in paths]
        sens(tmp_path / f"scans_test/{name}/{name}.sens", data, colour_width=1296, colour_height=968)
    footage = ScanNet(test_scenes=True)([tmp_path])
    assert footage.names() == sorted(by_scene)
    for name, paths in by_scene.items():
        scene = footage.open(name)
        assert len(scene) == len(paths) == 2
        for k, path in enumerate(paths):
            image = scene[k].image
            assert image.shape == (968, 1296, 3)
            np.testing.assert_array_equal(image, read_image(path))
    exported = tmp_path / "exported/scene0000_00"
    exported.mkdir(parents=True)
    (exported / "color").symlink_to(SHARED.resolve() / "data/deepv2d_demo_scenes/scannet_0")
    scene = opened(tmp_path / "exported")
    assert [path.name for path in scene.paths] == ["0.png", "2.png", "4.png", "6.png"]
    assert scene.times_s == pytest.approx([0, 2 / 30, 4 / 30, 6 / 30])
    assert scene[3].image.shape == (480, 640, 3)
