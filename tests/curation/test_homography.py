"""The paper's overlap meter on pictures whose truth is known, and its pieces beside OpenCV's own."""

import hashlib
import math
from dataclasses import fields, replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from twoview.curation import features
from twoview.curation.curate import CurateConfig, OpenScene, pairs_of
from twoview.curation.features import Features, ratio_matches, sift
from twoview.curation.homography import MIN_MATCHES, Paper, Released
from twoview.curation.propose import Consecutive
from twoview.errors import ConfigError
from twoview.geometry import overlap_of
from twoview.plan import Slice
from twoview.schema import Frame, Match
from twoview.sources.images import read_image
from walk_made import texture

DATA = Path(__file__).parents[3] / "shared" / "data"
GRAF = [DATA / "homography_graf" / "homography" / f"img{k}.ppm" for k in (1, 2)]
BLANK = np.full((256, 256, 3), 127, np.uint8)


@pytest.fixture(scope="module")
def wall() -> np.ndarray:
    """A picture of many small shapes, larger than what is cut from it."""
    return cv2.resize(texture(1400, 1400, np.random.default_rng(0)), (700, 700), interpolation=cv2.INTER_AREA)


def cut(wall: np.ndarray, x: int, y: int, side: int = 256) -> np.ndarray:
    return np.ascontiguousarray(wall[y : y + side, x : x + side])


def measured(a: np.ndarray, b: np.ndarray, estimator: Paper | Released | None = None) -> Match:
    estimator = estimator or Paper()
    return estimator.measure(estimator.describe(a), estimator.describe(b))


def same(a: Match, b: Match) -> bool:
    pairs = ((getattr(a, f.name), getattr(b, f.name)) for f in fields(Match))
    return all(np.array_equal(x, y) if isinstance(x, np.ndarray) else x == y for x, y in pairs)


# ------------------------------------------------------------------------------------------------------------- matches


def opencv_matches(a: np.ndarray, b: np.ndarray, ratio: float) -> list[tuple[int, int]]:
    pairs = cv2.BFMatcher(cv2.NORM_L2).knnMatch(a, b, k=2)
    return [(m.queryIdx, m.trainIdx) for m, n in pairs if m.distance < ratio * n.distance]


@pytest.mark.parametrize("ratio", [0.5, 0.7, 0.9, 1.0])
@pytest.mark.parametrize("at", [(40, 60), (300, 300)])
def test_matches_are_opencv_s(wall: np.ndarray, at: tuple[int, int], ratio: float) -> None:
    a, b = sift(cut(wall, 20, 20)).descriptors, sift(cut(wall, *at)).descriptors
    expected = opencv_matches(a, b, ratio)
    assert len(expected) > (100 if at == (40, 60) or ratio == 1 else -1)
    assert list(zip(*(i.tolist() for i in ratio_matches(a, b, ratio)), strict=True)) == expected


@pytest.mark.parametrize("block", [1, 40, 7 * 61, 1 << 22])
def test_matches_are_opencv_s_to_the_bit_in_blocks_of_any_size(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Descriptors as far apart as whole numbers up to 255 can be, near ones, and the distances themselves."""
    monkeypatch.setattr(features, "MAX_PRODUCT", block)
    rng = np.random.default_rng(0)
    b = rng.integers(0, 256, (61, 128)).astype(np.float32)
    a = np.vstack([np.clip(b[:30] + rng.integers(-90, 90, (30, 128)), 0, 255), np.zeros((1, 128)), np.full((1, 128), 255)])
    a = a.astype(np.float32)
    index, distance = features.nearest(a, b, 2)
    expected = cv2.BFMatcher(cv2.NORM_L2).knnMatch(a, b, k=2)
    assert index.tolist() == [[m.trainIdx, n.trainIdx] for m, n in expected]
    assert distance.tolist() == [[m.distance, n.distance] for m, n in expected]


@pytest.mark.skipif(not GRAF[0].exists(), reason=f"{GRAF[0]} is absent")
def test_matches_are_opencv_s_on_a_photo() -> None:
    a, b = (sift(cv2.resize(read_image(p), (256, 256))).descriptors for p in GRAF)
    assert len(ratio_matches(a, b, 0.7)[0]) > 50
    assert list(zip(*(i.tolist() for i in ratio_matches(a, b, 0.7)), strict=True)) == opencv_matches(a, b, 0.7)


def test_equal_neighbours_are_no_match() -> None:
    """A descriptor that b has twice: the nearest is not closer than the second."""
    row = np.arange(128, dtype=np.float32)[None]
    assert len(ratio_matches(row + 1, np.vstack([row, row]), 0.7)[0]) == 0
    assert len(ratio_matches(row, np.vstack([row, row]), 1.0)[0]) == 0


@pytest.mark.parametrize(("nearest", "second"), [(539, 1100), (882, 1800), (1078, 2200), (2107, 4300), (49, 100)])
def test_distances_are_compared_in_double_precision(nearest: int, second: int) -> None:
    """Squared distances whose ratio is 0.7 but for the last bit, where single precision says otherwise."""
    a, b = np.zeros((1, 128), np.float32), np.zeros((2, 128), np.float32)
    for row, left in zip(b, (nearest, second), strict=True):
        for i in range(128):
            row[i] = math.isqrt(left)
            left -= math.isqrt(left) ** 2
    assert len(ratio_matches(a, b, 0.7)[0]) == len(opencv_matches(a, b, 0.7))


@pytest.mark.parametrize("matcher", ["brute_force", "flann"])
@pytest.mark.parametrize(("num_a", "num_b"), [(0, 0), (0, 5), (5, 0), (5, 1), (1, 1)])
def test_fewer_than_two_descriptors_have_no_match(num_a: int, num_b: int, matcher: str) -> None:
    a, b = (np.ones((n, 128), np.float32) for n in (num_a, num_b))
    assert [len(i) for i in ratio_matches(a, b, 0.7, matcher)] == [0, 0]


def test_two_descriptors_are_enough() -> None:
    b = np.eye(2, 128, dtype=np.float32) * 512
    index_a, index_b = ratio_matches(b[1:], b, 0.7)
    assert (index_a.tolist(), index_b.tolist()) == ([0], [1])


def test_a_blank_picture_has_no_features() -> None:
    described = sift(BLANK)
    assert described.points.shape == (0, 2)
    assert described.descriptors.shape == (0, 128)
    assert described.size == (256, 256)


def test_features_are_opencv_s(wall: np.ndarray) -> None:
    picture = cut(wall, 0, 0)
    keypoints, descriptors = cv2.SIFT.create().detectAndCompute(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), None)
    features = sift(picture)
    np.testing.assert_array_equal(features.points, [k.pt for k in keypoints])
    np.testing.assert_array_equal(features.descriptors, descriptors)


# --------------------------------------------------------------------------------------------------------------- paper


@pytest.mark.parametrize("k", [(0, 0), (1, 0), (4, 0), (0, 5), (3, 2), (-6, 3)])
def test_a_known_shift_reads_the_truth(wall: np.ndarray, k: tuple[int, int]) -> None:
    """By whole patches of 16 px: there a patch has one counterpart and the vote is clear."""
    match = measured(cut(wall, 200, 200), cut(wall, 200 + 16 * k[0], 200 + 16 * k[1]), Paper(grid=16))
    truth = (16 - abs(k[0])) * (16 - abs(k[1])) / 256
    assert match.found
    assert match.overlap == pytest.approx(truth, abs=0.02)
    assert match.homography is not None
    np.testing.assert_allclose(match.homography[:2, 2], (-16 * k[0], -16 * k[1]), atol=0.5)
    assert match.scale == pytest.approx(1, abs=0.01)
    assert match.rotation_deg == pytest.approx(0, abs=0.5)
    there, back = match.patches
    shared = np.flatnonzero(there >= 0)
    assert np.mean(there[shared] == shared - 16 * k[1] - k[0]) > 0.95
    assert np.mean(back[there[shared]] == shared) > 0.95


def test_the_default_grid_on_the_same_picture(wall: np.ndarray) -> None:
    match = measured(cut(wall, 9, 9), cut(wall, 9, 9))
    assert match.overlap == match.overlap_ab == match.overlap_ba == 1
    assert match.patch_grid == (14, 14)
    assert match.patches is not None
    assert (match.patches == np.arange(196)).all()
    assert match.num_inliers == match.num_matches
    assert match.points is not None
    matched = sift(cut(wall, 9, 9)).points[ratio_matches(*[sift(cut(wall, 9, 9)).descriptors] * 2, 0.7)[0]]
    np.testing.assert_allclose(match.points, np.hstack([matched, matched]) / 256 + 0.5 / 256, atol=1e-6)


@pytest.mark.parametrize(("zoom", "turn_deg"), [(1.0, 90), (1.0, -30), (1.5, 0), (0.7, 12)])
def test_a_warp_is_read_back(wall: np.ndarray, zoom: float, turn_deg: float) -> None:
    a = cut(wall, 200, 200)
    middle = 200 + 127.5
    turn = np.array(
        [
            [math.cos(math.radians(turn_deg)), -math.sin(math.radians(turn_deg))],
            [math.sin(math.radians(turn_deg)), math.cos(math.radians(turn_deg))],
        ]
    )
    linear = zoom * turn
    warp = np.column_stack([linear, (127.5, 127.5) - linear @ (middle, middle)])
    b = cv2.warpAffine(wall, warp, (256, 256), flags=cv2.INTER_AREA)
    match = measured(a, b)
    assert match.found
    assert match.scale == pytest.approx(zoom, rel=0.02)
    assert match.rotation_deg == pytest.approx(turn_deg, abs=0.7)
    back = measured(b, a)
    assert back.scale == pytest.approx(1 / zoom, rel=0.02)
    assert match.overlap_ab == pytest.approx(back.overlap_ba, abs=0.08)
    assert match.overlap_ba == pytest.approx(back.overlap_ab, abs=0.08)
    assert match.overlap == min(overlap_of(p) for p in match.patches)


@pytest.mark.skipif(not GRAF[0].exists(), reason=f"{GRAF[0]} is absent")
def test_a_photographed_wall_against_its_true_homography() -> None:
    """Oxford graf 1-2, truth given with it; both pictures squeezed to 256 px."""
    truth = np.loadtxt(GRAF[0].parent / "H1to2p")
    pictures = [read_image(p) for p in GRAF]
    match = measured(*(cv2.resize(p, (256, 256), interpolation=cv2.INTER_AREA) for p in pictures))
    assert match.homography is not None
    height, width = pictures[0].shape[:2]
    squeeze = np.diag([256 / width, 256 / height, 1])
    x, y = np.meshgrid(np.linspace(60, 200, 5), np.linspace(60, 200, 5))
    points = np.stack([x.ravel(), y.ravel(), np.ones(25)])
    ours, true = match.homography @ points, squeeze @ truth @ np.linalg.inv(squeeze) @ points
    assert np.abs(ours[:2] / ours[2] - true[:2] / true[2]).max() < 3


def test_a_mirrored_picture_is_refused(wall: np.ndarray) -> None:
    """SIFT sees no mirror image, so few matches; what it takes for one anyway is flipped."""
    picture = cut(wall, 100, 100)
    match = measured(picture, np.ascontiguousarray(picture[:, ::-1]))
    assert not match.found
    assert match.failure in ("few_matches", "no_homography", "few_inliers", "flipped_homography", "singular_homography")
    assert match.overlap is None
    assert match.patches is None
    assert match.homography is None


def mapped(a: Features, h: np.ndarray) -> Features:
    """The same features where a homography puts them: every match agrees with it."""
    x, y, w = h @ np.column_stack([a.points, np.ones(len(a.points))]).T
    return replace(a, points=np.column_stack([x / w, y / w]).astype(np.float32))


def test_a_flipped_homography_is_named(wall: np.ndarray) -> None:
    a = sift(cut(wall, 100, 100))
    mirrored = mapped(a, np.array([[-1, 0, 255], [0, 1, 0], [0, 0, 1]]))
    match = Paper().measure(a, mirrored)
    assert (match.found, match.failure) == (False, "flipped_homography")
    assert match.num_inliers == match.num_matches > 100
    assert match.overlap is None
    assert Released().measure(a, mirrored).found  # which knows no such fault


@pytest.mark.parametrize(
    ("h", "failure"),
    [
        ([[1, 0, 0], [0, 0, 9], [0, 0, 1]], "no_homography"),  # onto a line: RANSAC gives up
        ([[1, 0, 0], [0, 1, 0], [-1 / 200, 0, 1]], "singular_homography"),  # a beyond x = 200 lies behind b
        ([[-1 / 3, 0, 400], [0, 1, 0], [-1 / 300, 0, 1]], "singular_homography"),  # a is in front of b, b's corner behind a
    ],
)
def test_degenerate_homographies_are_named(wall: np.ndarray, h: list[list[float]], failure: str) -> None:
    a = sift(cut(wall, 100, 100))
    assert Paper().measure(a, mapped(a, np.array(h))).failure == failure


def test_released_counts_a_pixel_from_its_upper_left_corner(wall: np.ndarray) -> None:
    """Shifted by 7.75 px, nine of sixteen columns stay in their patch; counted from the middle of a pixel, eight."""
    a = Released().describe(cut(wall, 100, 100, 224))
    patches = Released().measure(a, mapped(a, np.array([[1, 0, 7.75], [0, 1, 0], [0, 0, 1]]))).patches
    assert np.mean(patches[0] == np.arange(196)) > 0.7


def test_blank_pictures_have_few_matches(wall: np.ndarray) -> None:
    for a, b in ((BLANK, BLANK), (BLANK, cut(wall, 0, 0)), (cut(wall, 0, 0), BLANK)):
        for estimator in (Paper(), Released()):
            match = measured(a, b, estimator)
            assert (match.found, match.failure, match.num_matches, match.num_inliers) == (False, "few_matches", 0, 0)
            assert match.points.shape == (0, 4)


def test_pictures_of_different_places_are_not_found(wall: np.ndarray) -> None:
    match = measured(cut(wall, 0, 0), cut(wall, 400, 400))
    assert not match.found


@pytest.mark.parametrize(
    ("num", "failure"), [(0, "few_matches"), (MIN_MATCHES - 1, "few_matches"), (MIN_MATCHES, "few_inliers"), (20, "")]
)
def test_the_floors(wall: np.ndarray, num: int, failure: str) -> None:
    """Matches that agree with one homography: under 11 none is sought, under 20 it does not count."""
    a = sift(cut(wall, 100, 100))
    unlike = ratio_matches(a.descriptors, a.descriptors, 0.7)[0]  # each matches itself and no other
    apart = unlike[:: len(unlike) // 30][:num]
    some = replace(a, points=a.points[apart], descriptors=a.descriptors[apart])
    match = Paper().measure(some, a)
    assert (match.num_matches, match.failure) == (num, failure)
    assert match.found == (not failure)


def test_ransac_s_threshold_grows_with_the_picture(wall: np.ndarray) -> None:
    """Features of a picture twice as large agree in the same number: the threshold is 5 px at 224, 10 px at 448."""
    a, b = sift(cut(wall, 100, 100, 224)), sift(cut(wall, 130, 100, 224))
    rng = np.random.default_rng(0)
    noisy = b.points + rng.normal(0, 2.5, b.points.shape).astype(np.float32)
    small = Paper().measure(a, replace(b, points=noisy))
    large = Paper().measure(replace(a, size=(448, 448), points=a.points * 2), replace(b, size=(448, 448), points=noisy * 2))
    assert small.num_inliers is not None
    assert 20 < small.num_inliers < small.num_matches
    assert large.num_inliers == pytest.approx(small.num_inliers, rel=0.03)


def test_pictures_need_not_be_square_nor_of_one_size(wall: np.ndarray) -> None:
    a, b = wall[100:356, 100:500], wall[100:356, 100:300]
    match = measured(np.ascontiguousarray(a), np.ascontiguousarray(b), Paper(grid=8))
    assert match.overlap_ab == pytest.approx(0.5, abs=0.05)  # b holds the left half of a; its patches are half as wide
    assert match.points[:, 0].max() < 0.52
    assert match.points[:, 2].max() > 0.85


@pytest.mark.parametrize("estimator", [Paper(), Released(), Paper(grid=8, per_cell=3)])
def test_an_answer_is_a_pure_function_of_the_pixels(wall: np.ndarray, estimator: Paper | Released) -> None:
    a, b = cut(wall, 100, 100), cut(wall, 150, 120)
    first = measured(a, b, estimator)
    np.random.default_rng().random(5)
    cv2.setRNGSeed(77)
    measured(b, cut(wall, 0, 0), estimator)
    assert first.found
    assert same(first, measured(a.copy(), b.copy(), type(estimator)(**vars(estimator))))


def test_the_draw_of_released_depends_on_pixels_and_seed(wall: np.ndarray) -> None:
    a, b = cut(wall, 100, 100, 224), cut(wall, 151, 123, 224)
    one, two = measured(a, b, Released(seed=0)), measured(a, b, Released(seed=1))
    assert not np.array_equal(one.patches, two.patches)
    assert one.overlap == pytest.approx(two.overlap, abs=0.05)
    np.testing.assert_array_equal(one.homography, two.homography)
    described = Released().describe(a)
    assert described.digest == hashlib.sha256(a.tobytes()).digest()
    other = Released().measure(replace(described, digest=b"other"), Released().describe(b))
    assert not np.array_equal(other.patches, one.patches)


def test_released_stretches_to_224(wall: np.ndarray) -> None:
    picture = np.ascontiguousarray(wall[:300, :500])
    stretched = cv2.resize(picture, (224, 224), interpolation=cv2.INTER_LINEAR)
    one, two = Released().describe(picture), Released().describe(stretched)
    assert one.size == (224, 224)
    assert one.digest == two.digest
    np.testing.assert_array_equal(one.descriptors, two.descriptors)


def test_flann_finds_nearly_the_same(wall: np.ndarray) -> None:
    a, b = cut(wall, 200, 200), cut(wall, 264, 232)
    exact, close = measured(a, b, Paper(grid=16)), measured(a, b, Paper(grid=16, matcher="flann"))
    assert close.found
    assert close.num_inliers == pytest.approx(exact.num_inliers, rel=0.1)
    assert close.overlap == pytest.approx(exact.overlap, abs=0.03)


@pytest.mark.parametrize("wrong", [{"ratio": 0.0}, {"ratio": 1.1}, {"grid": 0}, {"grid": 129}, {"per_cell": 0}])
def test_wrong_settings_name_the_flag(wrong: dict) -> None:
    with pytest.raises(ConfigError, match=f"--estimator.{next(iter(wrong)).replace('_', '-')}"):
        Paper(**wrong)


# ----------------------------------------------------------------------------------------------------------- in a run


class Counting:
    """An estimator that counts its calls."""

    name = "counting@1"

    def __init__(self) -> None:
        self.num_described = self.num_measured = 0

    def describe(self, image: np.ndarray) -> int:
        self.num_described += 1
        return self.num_described

    def measure(self, a: int, b: int) -> Match:
        self.num_measured += 1
        return Match(found=True, overlap_ab=0.9, overlap_ba=0.9)


class Walk:
    """Eight frames of a wall."""

    name, licence, times_s = "walk", None, None

    def __init__(self, wall: np.ndarray) -> None:
        self.wall = wall

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> Frame:
        return Frame(id=f"test/walk/{index:06d}", image=cut(self.wall, 40 * index, 0, 300))


def test_each_frame_is_described_once(wall: np.ndarray) -> None:
    counting = Counting()
    config = CurateConfig(estimator=counting, propose=Consecutive(double=True), size=64)
    piece = Slice(
        part=0,
        source="test",
        scene="walk",
        kind="custom",
        start=0,
        stop=8,
        num_frames=8,
        num_candidates=7,
        num_pairs=7,
        size_bytes=0,
        fingerprint="",
        licence=None,
        error="",
    )
    pairs = list(pairs_of(OpenScene(Walk(wall), config), piece, config))
    assert [(p.index_a, p.index_b) for p in pairs][:4] == [(0, 1), (0, 2), (1, 2), (1, 3)]
    assert (len(pairs), counting.num_measured, counting.num_described) == (13, 13, 8)
