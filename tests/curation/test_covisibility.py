"""What two pictures share, from the pictures alone: against exact depth, in known movements, where there is nothing to see."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

import twoview
from twoview.curation.covisibility import Covisibility
from twoview.curation.curate import CurateConfig
from twoview.curation.epipolar import relate, sampson
from twoview.curation.features import sift
from twoview.curation.homography import Paper
from twoview.curation.truth import Truth
from twoview.demo import write_flat
from twoview.errors import ConfigError
from twoview.schema import NOT_UNIQUE, OUTSIDE, UNKNOWN, Match
from twoview.sources.scene import Walk, Walks

COVISIBILITY = Covisibility()


def measured(a: np.ndarray, b: np.ndarray) -> Match:
    return COVISIBILITY.measure(COVISIBILITY.describe(a), COVISIBILITY.describe(b))


def texture(seed: int, height: int = 256, width: int = 512) -> np.ndarray:
    rng, picture = np.random.default_rng(seed), np.full((height, width, 3), 128.0)
    for size in (4, 8, 16, 32, 64):
        spots = rng.normal(0, 30, (-(-height // size), -(-width // size), 3))
        picture += cv2.resize(spots, (width, height), interpolation=cv2.INTER_CUBIC)
    return picture.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Match, Match, Match]]:
    """Of pairs of views of a flat that no fit saw: the truth, covisibility, paper."""
    path = tmp_path_factory.mktemp("flat") / "flat.glb"
    write_flat(path, seed=77)
    walks = Walks(walk="pairs", samples=60, hfov_deg=65.0, min_island_radius_m=0.0)
    source = CurateConfig(source=walks, size=256).source
    assert isinstance(source, Walks)
    walk = Walk(path, source)
    walk.load()
    found = []
    for k in range(60):
        a, b = walk[2 * k], walk[2 * k + 1]
        truth = Truth().measure(a.geometry, b.geometry)  # pyright: ignore[reportArgumentType]
        if truth.overlap is not None and truth.overlap > 0.2:
            paper = Paper()
            found.append((truth, measured(a.image, b.image), paper.measure(paper.describe(a.image), paper.describe(b.image))))
    return found


def test_reads_what_depth_says(walked: list[tuple[Match, Match, Match]]) -> None:
    """Each direction, of views with parallax and occlusion; and less than half as far off as one homography."""
    assert len(walked) > 25
    off = [abs(m.overlap_ab - t.overlap_ab) for t, m, _ in walked if m.found]  # pyright: ignore[reportOptionalOperand]
    off += [abs(m.overlap_ba - t.overlap_ba) for t, m, _ in walked if m.found]  # pyright: ignore[reportOptionalOperand]
    assert len(off) > 1.9 * len(walked)
    assert np.mean(off) < 0.03
    ours, papers = (np.mean([abs((pair[k].overlap or 0) - (pair[0].overlap or 0)) for pair in walked]) for k in (1, 2))
    assert ours < 0.5 * papers


def test_patches_go_where_depth_says(walked: list[tuple[Match, Match, Match]]) -> None:
    """Of patches with a counterpart by depth and by pixels, nine in ten agree to one patch."""
    near = []
    for truth, match, _ in walked:
        assert truth.patches is not None
        if match.patches is not None:
            both = (truth.patches >= 0) & (match.patches >= 0)
            rows = np.abs(truth.patches[both] // 14 - match.patches[both] // 14)
            columns = np.abs(truth.patches[both] % 14 - match.patches[both] % 14)
            near += list((rows <= 1) & (columns <= 1))
    assert len(near) > 2000
    assert np.mean(near) > 0.9


def test_labels(walked: list[tuple[Match, Match, Match]]) -> None:
    """A patch has a counterpart, one that is taken, or a reason; and those that depth puts outside are mostly called so."""
    right = []
    for truth, match, _ in walked:
        if match.patches is None or truth.patches is None:
            continue
        assert match.patches.dtype == np.int16
        assert match.patches.shape == (2, 196)
        assert match.patches.max() < 196
        assert match.patches.min() >= NOT_UNIQUE
        right += list(match.patches[truth.patches == OUTSIDE] == OUTSIDE)
    assert np.mean(right) > 0.85


@pytest.mark.parametrize("shift", [0, 32, 64, 128])
def test_shift(shift: int) -> None:
    """A window that moves along a wall: the rest is shared, patch by patch."""
    wall = texture(1)
    match = measured(wall[:, :256], wall[:, shift : shift + 256])
    assert match.overlap == pytest.approx(1 - shift / 256, abs=0.035)
    assert match.patches is not None
    if shift % 32 == 0 and shift:
        inner = np.arange(196).reshape(14, 14)[2:12, 10:12].ravel()  # in both windows for every shift here
        moved = round(shift / 256 * 14)
        own, target = inner % 14, match.patches[0][inner] % 14
        assert np.median(own - target) == pytest.approx(moved, abs=1)


@pytest.mark.parametrize(("zoom", "shared"), [(1.2, 1 / 1.44), (1.4, 1 / 1.96)])
def test_zoom(zoom: float, shared: float) -> None:
    """The wide picture is seen in part, the narrow one whole, and the smaller share counts."""
    wide = texture(2, 256, 256)
    at = 127.5 * (1 - zoom)
    h = np.array([[zoom, 0, at], [0, zoom, at], [0, 0, 1]])
    match = measured(wide, cv2.warpPerspective(wide, h, (256, 256)))
    assert match.overlap_ab == pytest.approx(shared, abs=0.05)
    assert match.overlap_ba == pytest.approx(1, abs=0.05)
    assert match.scale == pytest.approx(zoom, rel=0.02)
    assert match.homography is not None
    assert match.homography == pytest.approx(h, abs=1.0)


def test_symmetry() -> None:
    """Swapped pictures, swapped directions, up to what RANSAC draws."""
    wall = texture(3)
    a, b = wall[:, :256], wall[:, 90:346]
    there, back = measured(a, b), measured(b, a)
    assert there.overlap_ab == pytest.approx(back.overlap_ba, abs=0.03)
    assert there.overlap_ba == pytest.approx(back.overlap_ab, abs=0.03)


def test_a_picture_of_another_size_reads_alike() -> None:
    wall = texture(4, 512, 1024)
    a, b = wall[:, :512], wall[:, 150:662]
    small = measured(*(cv2.resize(v, (256, 256), interpolation=cv2.INTER_AREA) for v in (a, b)))
    large = measured(a, b)
    assert large.overlap == pytest.approx(small.overlap, abs=0.02)
    assert large.homography is not None
    assert large.homography[0, 2] == pytest.approx(-150, abs=1.5)


def test_wide_pictures() -> None:
    """Not square: shares of the whole picture, whatever its shape."""
    wall = texture(5, 256, 800)
    match = measured(wall[:, :400], wall[:, 100:500])
    assert match.overlap == pytest.approx(0.75, abs=0.04)
    assert match.points is not None
    moved = np.median(match.points[:, 0] - match.points[:, 2])
    assert moved == pytest.approx(0.25, abs=0.01)


def test_the_same_answer_twice_and_with_more_threads() -> None:
    wall = texture(6)
    a, b = wall[:, :256], wall[:, 70:326]
    first, threads = measured(a, b), cv2.getNumThreads()
    cv2.setNumThreads(4)
    second = measured(a, b)
    assert cv2.getNumThreads() == 4
    cv2.setNumThreads(threads)
    assert first.overlap_ab == second.overlap_ab
    assert first.patches is not None
    assert np.array_equal(first.patches, second.patches)  # pyright: ignore[reportArgumentType]
    assert first.points is not None
    assert np.array_equal(first.points, second.points)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("value", [0, 128])
def test_nothing_to_see(value: int) -> None:
    blank = np.full((256, 256, 3), value, np.uint8)
    match = measured(blank, texture(7, 256, 256))
    assert not match.found
    assert match.failure == "few_matches"
    assert match.overlap is None
    assert match.num_keypoints_a == 0


def test_unrelated_pictures() -> None:
    """Ten pairs of pictures that have nothing in common: nothing is found, or next to nothing shared."""
    reads = [measured(texture(10 + k, 256, 256), texture(30 + k, 256, 256)).overlap or 0 for k in range(10)]
    assert max(reads) < 0.15


def test_tiny_and_thin_pictures() -> None:
    for size in ((16, 16), (1, 40), (300, 8)):
        match = measured(texture(8, *size), texture(9, *size))
        assert not match.found or match.overlap is not None


def test_of_two_pictures_in_hand() -> None:
    wall = texture(11)
    a, b = np.ascontiguousarray(wall[:, :256]), np.ascontiguousarray(wall[:, 100:356])
    assert twoview.measure(a, b, COVISIBILITY).overlap == measured(a, b).overlap


def test_epipolar_geometry_of_a_known_movement() -> None:
    """Two layers at different depth under a sideways step: epipolar lines are rows, and the matches lie on them."""
    near, far = texture(12, 256, 600), texture(13, 256, 600)
    a, b = far[:, 100:356].copy(), far[:, 116:372].copy()
    a[64:192, 60:200] = near[64:192, 60:200]
    b[64:192, 20:160] = near[64:192, 60:200]
    relation = relate(sift(a, contrast=0.002), sift(b, contrast=0.002))
    assert relation is not None
    assert np.median(np.abs(relation.points[:, 1] - relation.points[:, 3])) < 0.5 / 256
    shift = 256 * (relation.points[:, 0] - relation.points[:, 2])
    assert np.mean((np.abs(shift - 16) < 2) | (np.abs(shift - 40) < 2)) > 0.95
    assert (np.abs(shift - 16) < 2).any()
    assert (np.abs(shift - 40) < 2).any()
    assert np.median(sampson(relation.matrix, relation.points)) < 1 / 256


def test_too_few_matches_have_no_geometry() -> None:
    picture = texture(14, 256, 256)
    features = sift(picture)
    few = replace(
        features,
        points=features.points[:5],
        descriptors=features.descriptors[:5],
        orientation_deg=features.orientation_deg[:5],
        log2_size=features.log2_size[:5],
    )
    assert relate(features, few) is None
    assert relate(few, few) is None


def test_the_network_is_in_the_package() -> None:
    assert Path(twoview.__file__).parent.joinpath("curation/covisibility.npz").stat().st_size < 200_000
    assert UNKNOWN not in np.unique(measured(texture(15)[:, :256], texture(15)[:, 20:276]).patches)  # pyright: ignore


def test_bars_do_not_vote() -> None:
    """They are the same in both pictures, wherever the camera looks; their patches read unknown."""
    wall = texture(16)
    a, b = wall[:, :256].copy(), wall[:, 100:356].copy()
    for picture in (a, b):
        picture[:40] = picture[-40:] = 2
    match = measured(a, b)
    assert match.overlap == pytest.approx(1 - 100 / 256, abs=0.04)
    assert match.patches is not None
    assert (match.patches[:, :28] == UNKNOWN).all()
    assert (match.patches[:, -28:] == UNKNOWN).all()


def test_what_moves_can_be_left_out() -> None:
    """A still camera, and a thing that goes from left to right: the rest is shared whole."""
    back, thing = texture(17, 256, 256), texture(18, 90, 90)
    a, b = back.copy(), back.copy()
    a[80:170, 10:100] = thing
    b[80:170, 150:240] = thing
    counts, masks = Covisibility(max_error=1.0), Covisibility(max_error=1.0, moving="mask")
    all_of_it, still = (e.measure(e.describe(a), e.describe(b)) for e in (counts, masks))
    assert all_of_it.overlap is not None
    assert still.overlap is not None
    assert all_of_it.overlap < 0.87
    assert still.overlap > all_of_it.overlap + 0.03
    assert still.patches is not None
    middle = np.arange(196).reshape(14, 14)[6:8, 2:4].ravel()
    assert (still.patches[0][middle] == UNKNOWN).all()


def test_a_guess_is_none() -> None:
    wall = texture(19)
    strict = Covisibility(max_error=0.001)
    match = strict.measure(strict.describe(wall[:, :256]), strict.describe(wall[:, 90:346]))
    assert (match.found, match.failure, match.overlap) == (False, "uncertain", None)
    assert match.num_matches
    with pytest.raises(ConfigError, match="max-error is"):
        Covisibility(max_error=1.7)
