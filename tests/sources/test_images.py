"""Photos of many formats, upright, reduced where they are huge, refused where they are damaged."""

import io
import random
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image

from footage_made import SHARED, write_video
from twoview.errors import UnreadableError
from twoview.sources.images import Photos, decode_image, natural_key, read_image


def corners(height: int = 48, width: int = 64) -> np.ndarray:
    """Red, green / blue, grey: no turn and no mirror leaves it as it was."""
    image = np.full((height, width, 3), 30, np.uint8)
    h, w = height // 2, width // 2
    image[:h, :w], image[:h, w:], image[h:, :w] = (220, 30, 30), (30, 220, 30), (30, 30, 220)
    return image


def noise(height: int = 80, width: int = 120) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


def saved(path: Path, image: Image.Image | np.ndarray, **options: object) -> Path:
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(path, **options)
    return path


def assert_close(path: Path, expected: np.ndarray, mean: float = 4.0) -> None:
    image = read_image(path)
    assert (image.shape, image.dtype) == (expected.shape, np.uint8)
    assert np.abs(image.astype(int) - expected).mean() <= mean


def refused(path: Path) -> str:
    """The message, which is one line that names the file."""
    with pytest.raises(UnreadableError) as caught:
        read_image(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ----------------------------------------------------------------------------------------------------------- formats


@pytest.mark.parametrize(
    "name", ["a.jpg", "a.JPEG", "a.jpe", "a.png", "a.webp", "a.bmp", "a.tif", "a.tiff", "a.ppm", "a.pnm", "a.jp2", "a.avif"]
)
def test_formats(name: str, tmp_path: Path) -> None:
    kind = {".jpe": "JPEG", ".pnm": "PPM"}.get(Path(name).suffix)
    assert_close(saved(tmp_path / name, corners(), format=kind), corners())


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.jpg", {"progressive": True}),
        ("a.webp", {"lossless": True}),
        ("a.tif", {"compression": "tiff_lzw"}),
        ("a.tif", {"compression": "jpeg"}),
        ("a.webp", {"save_all": True, "append_images": [Image.new("RGB", (64, 48))]}),
        ("a.png", {"interlace": True}),
    ],
)
def test_variants(name: str, options: dict[str, object], tmp_path: Path) -> None:
    assert_close(saved(tmp_path / name, corners(), **options), corners())


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(name: str, orientation: int, tmp_path: Path) -> None:
    """What is stored is turned and mirrored by hand, as EXIF 2.3 says what row 0 and column 0 of the stored picture are."""
    upright = corners()
    stored = {
        1: upright,  # top, left
        2: upright[:, ::-1],  # top, right
        3: upright[::-1, ::-1],  # bottom, right
        4: upright[::-1],  # bottom, left
        5: upright.transpose(1, 0, 2),  # left, top
        6: upright.transpose(1, 0, 2)[::-1],  # right, top
        7: upright.transpose(1, 0, 2)[::-1, ::-1],  # right, bottom
        8: upright.transpose(1, 0, 2)[:, ::-1],  # left, bottom
    }[orientation]
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    options = {"quality": 95} if name in ("a.jpg", "a.webp") else {}
    assert_close(saved(tmp_path / name, np.ascontiguousarray(stored), exif=exif, **options), upright)


@pytest.mark.parametrize(
    ("mode", "name"),
    [("L", "a.jpg"), ("L", "a.png"), ("LA", "a.png"), ("1", "a.png"), ("L", "a.pgm"), ("L", "a.webp"), ("L", "a.tif")],
)
def test_grey_is_repeated(mode: str, name: str, tmp_path: Path) -> None:
    image = Image.fromarray(corners()).convert(mode)
    assert_close(saved(tmp_path / name, image), np.asarray(image.convert("L").convert("RGB")))


@pytest.mark.parametrize("name", ["a.png", "a.webp"])
def test_transparency_is_dropped(name: str, tmp_path: Path) -> None:
    rgba = np.dstack((corners(), np.full((48, 64), 128, np.uint8)))
    assert_close(saved(tmp_path / name, rgba, **({"lossless": True} if name == "a.webp" else {})), corners())


def test_palette(tmp_path: Path) -> None:
    assert_close(saved(tmp_path / "a.png", Image.fromarray(corners()).quantize(4)), corners(), 0)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bits_are_cut_to_eight(name: str, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / name), corners()[:, :, ::-1].astype(np.uint16) * 257)
    assert_close(tmp_path / name, corners(), 1)
    grey = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64) * 21
    cv2.imwrite(str(tmp_path / name), grey)
    assert_close(tmp_path / name, np.repeat((grey / 257).astype(np.uint8)[:, :, None], 3, 2), 1)


@pytest.mark.parametrize("name", ["a.jpg", "a.tif"])
def test_cmyk(name: str, tmp_path: Path) -> None:
    path = saved(tmp_path / name, Image.fromarray(corners()).convert("CMYK"))
    assert_close(path, np.asarray(Image.open(path).convert("RGB")))


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.bmp", "a.tif"])
def test_one_pixel(name: str, tmp_path: Path) -> None:
    assert_close(saved(tmp_path / name, np.full((1, 1, 3), 90, np.uint8)), np.full((1, 1, 3), 90), 2)


def test_a_picture_from_its_bytes(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", corners())
    np.testing.assert_array_equal(decode_image(path.read_bytes(), "a.tar: a.png"), corners())
    for data, words in ((b"", "not a byte"), (path.read_bytes()[:-9], "cut short"), (b"words", "not a picture")):
        with pytest.raises(UnreadableError, match=rf"^a.tar: a.png: .*{words}"):
            decode_image(data, "a.tar: a.png")


def test_what_is_inside_counts_not_the_name(tmp_path: Path) -> None:
    assert_close(saved(tmp_path / "a.jpg", corners(), format="PNG"), corners(), 0)
    assert_close(saved(tmp_path / "b.heic", corners(), format="JPEG"), corners())


# --------------------------------------------------------------------------------------------------------------- HEIC


def heic(image: np.ndarray, quarters: int, folder: Path) -> bytes:
    """A HEIC picture by hand (ISO 23008-12): one HEVC frame in boxes, to be turned so many quarters counter-clockwise."""
    # without B-frames: x265 gives one frame alone a decoding time that it never set
    video = write_video(folder / "hevc.mp4", [image], "libx265", options={"x265-params": "log-level=none:crf=4:bframes=0"})
    with av.open(str(video)) as container:
        settings = bytes(container.streams.video[0].codec_context.extradata)
        data = b"".join(bytes(p) for p in container.demux(video=0))

    def box(kind: bytes, *parts: bytes) -> bytes:
        return struct.pack(">I", 8 + sum(map(len, parts))) + kind + b"".join(parts)

    def meta(offset: int) -> bytes:
        size = struct.pack(">III", 0, image.shape[1], image.shape[0])
        properties = box(b"ipco", box(b"hvcC", settings), box(b"ispe", size), box(b"irot", bytes([quarters])))
        belong = box(b"ipma", struct.pack(">IIHBBBB", 0, 1, 1, 3, 0x81, 2, 0x83))
        item = box(b"infe", struct.pack(">IHH", 2 << 24, 1, 0), b"hvc1\0")
        return box(
            b"meta",
            bytes(4),
            box(b"hdlr", bytes(8), b"pict", bytes(13)),
            box(b"pitm", struct.pack(">IH", 0, 1)),
            box(b"iloc", struct.pack(">IBBHHHHII", 0, 0x44, 0, 1, 1, 0, 1, offset, len(data))),
            box(b"iinf", struct.pack(">IH", 0, 1), item),
            box(b"iprp", properties, belong),
        )

    head = box(b"ftyp", b"heic", bytes(4), b"mif1heic")
    return head + meta(len(head) + len(meta(0)) + 8) + box(b"mdat", data)


@pytest.mark.parametrize("quarters", [0, 1, 3])
@pytest.mark.parametrize("name", ["a.heic", "a.HEIF", "a.jpg"])
def test_heic(name: str, quarters: int, tmp_path: Path) -> None:
    pytest.importorskip("pi_heif", reason="HEIC needs the extra twoview[heic]")
    (tmp_path / name).write_bytes(heic(corners(64, 96), quarters, tmp_path))
    assert_close(tmp_path / name, np.rot90(corners(64, 96), quarters))


def test_heic_damaged(tmp_path: Path) -> None:
    pytest.importorskip("pi_heif", reason="HEIC needs the extra twoview[heic]")
    whole = heic(corners(64, 96), 0, tmp_path)
    for k, data in enumerate((whole[:24], whole[: len(whole) // 2], whole[:-20])):
        (tmp_path / f"{k}.heic").write_bytes(data)
        refused(tmp_path / f"{k}.heic")


def test_heic_without_the_extra_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99))
    assert "pip install 'twoview[heic]'" in refused(tmp_path / "a.heic")


# --------------------------------------------------------------------------------------------------------------- huge

PEAK = """
import resource, sys
from pathlib import Path
from twoview.sources.images import read_image
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
image = read_image(Path(sys.argv[1]))
print(*image.shape, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024, *image[1, 1], *image[-2, -2])
"""


def read_apart(path: Path) -> list[int]:
    """Height, width, 3, the growth of a process that reads the picture in MiB, and the colours of two corners."""
    done = subprocess.run([sys.executable, "-c", PEAK, path], capture_output=True, text=True, check=True)
    return [int(word) for word in done.stdout.split()]


def huge(path: Path) -> Path:
    """400 megapixels, the left half bright: 1,200 MB if it were read as it is."""
    image = Image.new("L", (20_000, 20_000), 40)
    image.paste(200, (0, 0, 10_000, 20_000))
    return saved(path, image, **({"compress_level": 1} if path.suffix == ".png" else {"quality": 50}))


@pytest.mark.slow
def test_a_huge_jpeg_is_read_reduced(tmp_path: Path) -> None:
    height, width, _, grown_mib, *colours = read_apart(huge(tmp_path / "a.jpg"))
    assert (height, width) == (5000, 5000)
    assert grown_mib < 400
    np.testing.assert_allclose(colours, [200] * 3 + [40] * 3, atol=3)


@pytest.mark.slow
def test_a_huge_png_is_read_reduced(tmp_path: Path) -> None:
    """OpenCV reads a PNG whole before it reduces it, so only what comes back is small."""
    height, width, _, _, *colours = read_apart(huge(tmp_path / "a.png"))
    assert (height, width) == (5000, 5000)
    np.testing.assert_allclose(colours, [200] * 3 + [40] * 3, atol=3)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "lossless.webp", "alpha.webp"])
@pytest.mark.parametrize(
    ("limit", "factor"), [(64 * 48, 1), (64 * 48 - 1, 2), (64 * 48 // 4 - 1, 4), (64 * 48 // 16 - 1, 8), (1, 8)]
)
def test_reduced_by_as_little_as_is_needed(
    name: str, limit: int, factor: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twoview.sources.images.MAX_PIXELS", limit)
    image = np.dstack((corners(), np.full((48, 64), 128, np.uint8))) if "alpha" in name else corners()
    path = saved(tmp_path / name, image, **({"lossless": True} if "lossless" in name else {}))
    assert read_image(path).shape == (48 // factor, 64 // factor, 3)


def test_a_reduced_photo_is_upright_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twoview.sources.images.MAX_PIXELS", 1000)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    path = saved(tmp_path / "a.jpg", np.ascontiguousarray(corners().transpose(1, 0, 2)[::-1]), exif=exif, quality=95)
    assert_close(path, corners()[::2, ::2])


# ------------------------------------------------------------------------------------------------------------ damaged


@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
@pytest.mark.parametrize("name", ["a.jpg", "progressive.jpg", "a.png", "a.webp", "a.bmp", "a.tif", "a.ppm", "a.jp2"])
def test_cut_short(name: str, share: float, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = saved(tmp_path / name, noise(), **({"progressive": True} if "progressive" in name else {}))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert path.suffix not in (".jpg", ".png") or "cut short" in refused(path)
    refused(path)
    assert capfd.readouterr() == ("", "")


def test_cut_short_behind_its_thumbnail(tmp_path: Path) -> None:
    """The thumbnail in the EXIF block has an end of its own, which is not the end of the photo."""
    data = with_thumbnail(tmp_path / "a.jpg").read_bytes()
    assert data.count(b"\xff\xd9") == 2
    (tmp_path / "a.jpg").write_bytes(data[: len(data) * 3 // 4])
    assert "cut short" in refused(tmp_path / "a.jpg")


def with_thumbnail(path: Path) -> Path:
    """A JPEG with an EXIF block that holds a JPEG, written by hand as TIFF: IFD0 empty, IFD1 of offset and length."""
    small, whole = io.BytesIO(), io.BytesIO()
    noise(30, 40).save(small, "JPEG")
    noise(400, 600).save(whole, "JPEG")
    thumbnail = small.getvalue()
    tiff = struct.pack("<2sHIHI", b"II", 42, 8, 0, 14) + struct.pack(
        "<HHHIIHHIII", 2, 0x201, 4, 1, 44, 0x202, 4, 1, len(thumbnail), 0
    )
    exif = b"Exif\0\0" + tiff + thumbnail
    data = whole.getvalue()
    path.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(exif)) + exif + data[2:])
    return path


def test_a_phone_s_jpeg_is_whole(tmp_path: Path) -> None:
    """A thumbnail before the photo; behind it a second picture, a film or nothing but zeros."""
    path = with_thumbnail(tmp_path / "a.jpg")
    plain = read_image(path)
    assert plain.shape == (400, 600, 3)
    data = path.read_bytes()
    for behind in (bytes(200_000), b"\0\0\0\x18ftypmp42" + random.Random(0).randbytes(99_999), data):
        path.write_bytes(data + behind)
        assert np.array_equal(read_image(path), plain)


def test_bytes_between_the_segments_of_a_jpeg(tmp_path: Path) -> None:
    data = saved(tmp_path / "a.jpg", corners()).read_bytes()
    (tmp_path / "a.jpg").write_bytes(data[:2] + b"\xff" * 9 + data[3:20] + data[20:])
    assert_close(tmp_path / "a.jpg", corners())
    (tmp_path / "b.jpg").write_bytes(data[:20] + b"\0\0\0" + data[20:])
    assert_close(tmp_path / "b.jpg", corners())


def test_bytes_behind_a_png(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", corners())
    path.write_bytes(path.read_bytes() + bytes(200_000))
    assert_close(path, corners(), 0)


def test_a_damaged_png_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", noise())
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 99] = random.Random(0).randbytes(99)
    path.write_bytes(data)
    refused(path)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif", "a.heic"])
@pytest.mark.parametrize("make", [bytes, lambda: b"x", lambda: b"hello\n" * 99, lambda: random.Random(0).randbytes(9999)])
def test_not_a_picture(name: str, make: Callable[[], bytes], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / name).write_bytes(make())
    refused(tmp_path / name)
    assert capfd.readouterr() == ("", "")


def test_not_there_or_a_folder(tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").mkdir()
    refused(tmp_path / "b.jpg")


@pytest.mark.parametrize("head", [b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"RIFF\x99\0\0\0WEBPVP8X", b"\0\0\0\x18ftypheic"])
def test_a_head_with_nothing_behind_it(head: bytes, tmp_path: Path) -> None:
    """Every length down to nothing: the headers are read by hand, and may end anywhere."""
    pytest.importorskip("pi_heif", reason="HEIC needs the extra twoview[heic]")
    for size in range(len(head) + 1):
        (tmp_path / "a.jpg").write_bytes(head[:size])
        refused(tmp_path / "a.jpg")


# ------------------------------------------------------------------------------------------------------------- scenes


def test_natural_order() -> None:
    names = [
        "IMG_2.jpg",
        "img_1.jpg",
        "img_10.jpg",
        "img_9b.jpg",
        "img_9.jpg",
        "7.jpg",
        "07.jpg",
        "a.jpg",
        "Z.jpg",
        "é.jpg",
        "１.jpg",
    ]
    ordered = [p.name for p in sorted(map(Path, names), key=natural_key)]
    assert [n for n in ordered if n.lower().startswith("img")] == [
        "img_1.jpg",
        "IMG_2.jpg",
        "img_9.jpg",
        "img_9b.jpg",
        "img_10.jpg",
    ]
    assert ordered.index("a.jpg") < ordered.index("img_1.jpg") < ordered.index("Z.jpg")
    for seed in range(5):  # no two are equal, so that the order of the disk never shows
        assert [p.name for p in sorted(map(Path, random.Random(seed).sample(names, len(names))), key=natural_key)] == ordered


def test_photos_are_a_scene(tmp_path: Path) -> None:
    paths = [saved(tmp_path / f"{k}.png", np.full((20, 30, 3), k, np.uint8)) for k in range(3)]
    photos = Photos(paths, source="street", name="town/square", licence="CC0")
    assert len(photos) == 3
    assert photos.times_s is None
    assert photos[2].id == "street/town/square/000002"
    assert [photos[i].image[0, 0, 0] for i in (2, 0, 1)] == [2, 0, 1]
    info = photos.info
    assert (info.source, info.scene, info.uri, info.kind) == ("street", "town/square", str(tmp_path), "images")
    assert (info.status, info.codec, info.num_frames, info.licence) == ("ok", "png", 3, "CC0")
    assert (info.width_px, info.height_px) == (30, 20)
    for outside in (-1, 3):
        with pytest.raises(IndexError):
            photos[outside]


def test_one_bad_photo_leaves_the_others(tmp_path: Path) -> None:
    paths = [saved(tmp_path / f"{k}.png", corners()) for k in range(3)]
    paths[1].write_text("no picture")
    photos = Photos(paths, name="a")
    assert photos[0].image.shape == photos[2].image.shape
    assert photos.info.status == "ok"
    with pytest.raises(UnreadableError):
        photos[1]
    assert photos.info.status == "partial"
    assert photos.info.error.startswith(f"{paths[1]}: ")
    assert "more" not in photos.info.error
    paths[2].write_bytes(b"")
    for index in (2, 1):
        with pytest.raises(UnreadableError):
            photos[index]
    assert photos.info.error.startswith(f"{paths[1]}: ")
    assert photos.info.error.endswith("(and 1 more of 3 photos)")


def test_no_photos_at_all() -> None:
    with pytest.raises(UnreadableError, match="no pictures"):
        Photos([], name="a")


def test_real_photos() -> None:
    """As Pillow reads them: photos of phones and cameras, a PPM, stereo PNGs."""
    names = ("seq_street_berlin/**/*.jpg", "homography_graf/**/*.ppm", "stereo_kitti_slambook2/**/*.png", "nerf_fox_posed/**/*.jpg")
    paths = [path for name in names for path in sorted((SHARED / "data").glob(name))[:1]]
    if not paths:
        pytest.skip(f"{SHARED / 'data'} is absent: real photos")
    for path in paths:
        with Image.open(path) as image:
            assert_close(path, np.asarray(image.convert("RGB")), 1.5)
