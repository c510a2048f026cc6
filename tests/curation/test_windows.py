"""Crops by content: both pictures of a pair cut to what they share."""

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from runs import curate, digests, twoview
from twoview.curation.curate import CurateConfig, OpenScene, pairs_of, row_of
from twoview.curation.propose import AllPairs
from twoview.curation.truth import Truth
from twoview.curation.windows import covisible_windows
from twoview.plan import Slice
from twoview.schema import Frame, Geometry, Match, Pair, Row
from twoview.shards import read_manifest
from walk_made import texture

HEIGHT_PX, WIDTH_PX, FOCAL_PX = 240, 480, 300.0


class Panorama:
    """Frames of a flat wall two metres away: windows of one picture, some of them magnified, with geometry."""

    name, licence, times_s = "wall", None, None

    def __init__(self, *frames: tuple[float, float]) -> None:
        """frames: how far to the right in px of the wall, and how much nearer the camera stands."""
        large = texture(2 * HEIGHT_PX, 3200, np.random.default_rng(5))
        self.wall = cv2.resize(large, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        self.frames = frames

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Frame:
        x, zoom = self.frames[index]
        onto = np.array([[zoom, 0, -zoom * x], [0, zoom, 0]])
        image = cv2.warpAffine(self.wall, onto, (WIDTH_PX, HEIGHT_PX), flags=cv2.INTER_LINEAR)
        depth_m = 2.0 / zoom
        pose = np.eye(4)
        pose[:3, 3] = [x * 2 / FOCAL_PX + (WIDTH_PX / 2) * depth_m / FOCAL_PX, HEIGHT_PX / 2 * depth_m / FOCAL_PX, 2 - depth_m]
        intrinsics = np.array([FOCAL_PX, FOCAL_PX, WIDTH_PX / 2 - 0.5, HEIGHT_PX / 2 - 0.5])
        depth = np.full((HEIGHT_PX, WIDTH_PX), depth_m, np.float32)
        return Frame(id=f"made/wall/{index:06d}", image=image, geometry=Geometry(depth_m=depth, pose=pose, intrinsics=intrinsics))


def curated(scene: Panorama, size: int = 224, **more: object) -> list[tuple[Pair, Row]]:
    config = CurateConfig(propose=AllPairs(), size=size, **more)  # pyright: ignore
    counts = {"num_frames": len(scene), "num_candidates": 1, "num_pairs": 1, "size_bytes": 0}
    about = {"part": 0, "source": "made", "scene": "wall", "kind": "images", "fingerprint": "", "licence": None, "error": ""}
    opened = OpenScene(scene, config)
    pairs = pairs_of(opened, Slice(start=0, stop=len(scene), **counts, **about), config)
    return [(pair, row_of(pair, opened, config)) for pair in pairs]


def test_a_wide_pair_comes_into_the_band() -> None:
    """Frames twice as wide as high, of which the centre crops share a third."""
    scene = Panorama((0, 1.0), (160, 1.0))
    ((_, row),) = curated(scene)
    assert row.reasons == ["overlap_low"]
    ((pair, row),) = curated(scene, crop="covisible")
    assert row.kept
    assert row.crop_a is not None
    assert row.crop_b is not None
    assert row.crop_a[2] - row.crop_a[0] == row.crop_b[2] - row.crop_b[0] == HEIGHT_PX  # as large as there is room for
    shared_px = HEIGHT_PX - abs(row.crop_b[0] + 160 - row.crop_a[0])
    assert row.overlap == pytest.approx(shared_px / HEIGHT_PX, abs=0.05)
    assert row.true_overlap_ab == pytest.approx(shared_px / HEIGHT_PX, abs=0.03)  # geometry is cut with the picture
    assert pair.match is not None
    assert pair.match.points is not None
    assert (pair.match.points >= 0).all()
    assert (pair.match.points <= 1).all()


def test_what_is_alike_is_not_cut_apart() -> None:
    """Two crops of nearly one picture would fall in the band, and show nothing from elsewhere."""
    for crop in ("centre", "covisible"):
        assert [row.reasons for _, row in curated(Panorama((100, 1.0), (110, 1.0)), crop=crop)] == [["overlap_high"]]


def test_what_is_in_the_band_stays_there() -> None:
    for crop in ("centre", "covisible"):
        assert [row.kept for _, row in curated(Panorama((100, 1.0), (180, 1.0)), crop=crop)] == [True]


def test_at_one_scale() -> None:
    """Where b is nearer by half, its window is larger by half in its pixels, and the pictures show things in one size."""
    scene = Panorama((0, 1.0), (60, 1.5))
    ((_, row),) = curated(scene, size=128, crop="covisible")
    assert row.kept
    assert row.scale == pytest.approx(1.0, abs=0.05)
    assert row.crop_a is not None
    assert row.crop_b is not None
    side_a, side_b = (x1 - x0 for x0, _, x1, _ in (row.crop_a, row.crop_b))
    assert side_b / side_a == pytest.approx(1.5, abs=0.05)


@pytest.mark.parametrize("frames", [((0, 1.0), (160, 1.0)), ((0, 1.0), (90, 1.0))])
def test_the_stored_pixels_are_those_of_the_stated_crop(frames: tuple[tuple[float, float], ...]) -> None:
    scene = Panorama(*frames)
    ((pair, row),) = curated(scene, crop="covisible")
    for index, view, crop, digest in ((0, pair.a, row.crop_a, row.sha256_a), (1, pair.b, row.crop_b, row.sha256_b)):
        assert view is not None
        assert crop is not None
        x0, y0, x1, y1 = crop
        assert x1 - x0 == y1 - y0
        assert 0 <= x0 < x1 <= WIDTH_PX
        assert 0 <= y0 < y1 <= HEIGHT_PX
        cut = cv2.resize(scene[index].image[y0:y1, x0:x1], (224, 224), interpolation=cv2.INTER_AREA)
        jpeg = cv2.imencode(".jpg", cut[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
        assert hashlib.sha256(jpeg).hexdigest() == digest == hashlib.sha256(view.jpeg).hexdigest()


def test_by_exact_overlap() -> None:
    """With an estimator that asks for geometry: of the whole frames, then of the windows."""
    ((_, row),) = curated(Panorama((0, 1.0), (160, 1.0)), crop="covisible", estimator=Truth())
    assert row.kept
    assert row.overlap == pytest.approx(min(row.true_overlap_ab or 0, row.true_overlap_ba or 0))


def test_nothing_in_common() -> None:
    scene = Panorama((0, 1.0), (900, 1.0))
    ((pair, row),) = curated(scene, crop="covisible")
    assert row.reasons[0] in ("few_matches", "few_inliers")
    assert not pair.store


def test_too_few_points_to_tell() -> None:
    match = Match(found=True, overlap_ab=0.6, overlap_ba=0.6, points=np.full((7, 4), 0.5, np.float32))
    assert covisible_windows(match, (640, 480), (640, 480), 256, (0.5, 0.7)) is None
    silent = Match(found=True, overlap_ab=0.6, overlap_ba=0.6)
    assert covisible_windows(silent, (640, 480), (640, 480), 256, (0.5, 0.7)) is None


@pytest.mark.parametrize("size", [(640, 480), (480, 640), (100, 80), (480, 480)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_windows_are_squares_inside_their_frames(size: tuple[int, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    a = rng.uniform(0.2, 0.8, (40, 2))
    b = (a - 0.5) * rng.uniform(0.5, 2.0) + 0.5 + rng.uniform(-0.2, 0.2, 2)
    windows = covisible_windows(
        Match(found=True, overlap_ab=0.5, overlap_ba=0.5, points=np.hstack([a, b]).astype(np.float32)),
        size,
        (640, 480),
        256,
        (0.5, 0.7),
    )
    assert windows is not None
    for (x0, y0, x1, y1), (width, height) in zip(windows, (size, (640, 480)), strict=True):
        assert 0 <= x0 < x1 <= width
        assert 0 <= y0 < y1 <= height
        assert x1 - x0 == y1 - y0 >= min(256, width, height)


def test_from_the_command_line(walk: Path, tmp_path: Path) -> None:
    """The same bytes by two workers, and windows that are not the centre's."""
    flags = ("--recipe", "consecutive", "--propose.step", "14", "--size", "160", "--crop", "covisible")
    assert curate([walk], tmp_path / "one", flags=flags) == 0
    rows = [row for row in read_manifest(tmp_path / "one").to_pylist() if row["kept"]]
    assert rows
    assert any([60, 0, 420, 360] not in (row["crop_a"], row["crop_b"]) for row in rows)
    done = twoview("curate", walk, "--out", tmp_path / "two", *flags, "--workers", 2)
    assert done.returncode == 0, done.stderr
    assert digests(tmp_path / "two") == digests(tmp_path / "one")
