"""The motion of two pictures, on points whose geometry is known and on pictures that are made."""

from dataclasses import fields, replace

import cv2
import numpy as np
import pytest

from twoview.curation.features import Features, sift
from twoview.curation.motion import Relation, plane_distance, relation_of
from walk_made import texture

SIZE = 256
MIDDLE = (SIZE - 1) / 2


def features(points: np.ndarray, descriptors: np.ndarray) -> Features:
    n = len(points)
    return Features(
        size=(SIZE, SIZE),
        points=np.asarray(points, np.float32).reshape(-1, 2),
        descriptors=np.asarray(descriptors, np.float32).reshape(-1, 128),
        orientation_deg=np.zeros(n, np.float32),
        log2_size=np.full(n, 2, np.float32),
    )


def seen(xy_a: np.ndarray, xy_b: np.ndarray, noise_px: float = 0.4, num_wrong: int = 0, seed: int = 0) -> tuple[Features, Features]:
    """Features that match in order, and wrong matches after them; what lies outside a picture is left out."""
    rng = np.random.default_rng(seed)
    xy_a, xy_b = (np.vstack([xy, rng.uniform(0, SIZE, (num_wrong, 2))]) for xy in (xy_a, xy_b))
    xy_a, xy_b = (xy + rng.normal(0, noise_px, xy.shape) for xy in (xy_a, xy_b))
    inside = ((np.hstack([xy_a, xy_b]) > 0) & (np.hstack([xy_a, xy_b]) < SIZE - 1)).all(1)
    words = rng.integers(0, 200, (len(xy_a), 128))[inside]
    return features(xy_a[inside], words), features(xy_b[inside], words)


def turn(yaw_deg: float = 0, pitch_deg: float = 0, roll_deg: float = 0) -> np.ndarray:
    matrix = np.eye(3)
    for axis, angle in ((2, roll_deg), (0, pitch_deg), (1, yaw_deg)):
        matrix = cv2.Rodrigues(np.eye(3)[axis] * np.deg2rad(angle))[0] @ matrix
    return matrix


def shot(
    world: np.ndarray, rotation: np.ndarray | None = None, shift: tuple[float, float, float] = (0, 0, 0), focal: float = 1.0
) -> np.ndarray:
    """Where a camera with this focal length in widths sees points, in px."""
    seen_from = (world - shift) @ (np.eye(3) if rotation is None else rotation).T
    return seen_from[:, :2] / seen_from[:, 2:] * focal * SIZE + MIDDLE


def room(num: int = 300, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.column_stack([rng.uniform(-3, 3, num), rng.uniform(-3, 3, num), rng.uniform(3, 8, num)])


def wall(num: int = 300, seed: int = 2) -> np.ndarray:
    points = room(num, seed)
    points[:, 2] = 5 + 0.4 * points[:, 0]
    return points


def moved(h: list[list[float]] | np.ndarray, num: int = 300, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Points all over a, and where a homography about the pictures' middle puts them."""
    xy = np.random.default_rng(seed).uniform(0, SIZE, (num, 2))
    x = np.column_stack([xy - MIDDLE, np.ones(num)]) @ np.array(h, float).T
    return xy, x[:, :2] / x[:, 2:] + MIDDLE


def roll(angle_deg: float) -> np.ndarray:
    return turn(roll_deg=angle_deg)


@pytest.mark.parametrize("num_wrong", [0, 60])
@pytest.mark.parametrize("shift", [(0.6, 0, 0), (0.2, 0.1, 0.8), (0, 0, -0.8)])
def test_two_places_in_a_room(shift: tuple[float, float, float], num_wrong: int) -> None:
    a, b = seen(shot(room()), shot(room(), turn(4, 2, 1), shift), num_wrong=num_wrong)
    relation = relation_of(a, b)
    num_right = (seen(shot(room()), shot(room(), turn(4, 2, 1), shift))[0]).points.shape[0]
    assert relation.motion == "general"
    assert relation.parallax_px > 4
    assert relation.epipolar[relation.index_a < num_right].mean() > 0.85
    assert relation.epipolar[relation.index_a >= num_right].sum() <= 0.2 * num_wrong
    assert relation.moving < 0.03
    assert not relation.repeated


@pytest.mark.parametrize("num_wrong", [0, 60])
def test_a_wall_from_two_places(num_wrong: int) -> None:
    relation = relation_of(*seen(shot(wall()), shot(wall(), turn(10), (1.2, 0.2, 0.3)), num_wrong=num_wrong))
    assert relation.motion == "planar"
    assert relation.parallax_px < 2
    np.testing.assert_array_equal(relation.epipolar, relation.on_plane)


@pytest.mark.parametrize("focal", [0.55, 1.0, 2.3])
@pytest.mark.parametrize("angles", [(12, 0, 0), (6, -8, 0), (0, 0, 30), (8, 5, -70)])
def test_a_turn_of_the_camera(focal: float, angles: tuple[float, float, float]) -> None:
    yaw, pitch, angle = angles
    rotation = turn(yaw / focal, pitch / focal, angle)
    relation = relation_of(*seen(shot(room(900), focal=focal), shot(room(900), rotation, focal=focal), num_wrong=40))
    assert relation.motion == "rotation"
    if yaw == pitch == 0:
        assert relation.rotation_deg == pytest.approx(angle, abs=0.5)
        assert relation.scale == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("scale", [0.7, 0.95, 1.05, 1.5])
@pytest.mark.parametrize("middle", [(0, 0), (60, -40)])
def test_a_zoom(scale: float, middle: tuple[float, float]) -> None:
    """About the middle, or about a point of the picture, as a crop of it."""
    x, y = middle
    relation = relation_of(*seen(*moved([[scale, 0, x - scale * x], [0, scale, y - scale * y], [0, 0, 1]]), num_wrong=40))
    assert relation.motion == "zoom"
    assert relation.scale == pytest.approx(scale, rel=0.01)
    assert relation.rotation_deg == pytest.approx(0, abs=0.3)


def test_a_still() -> None:
    relation = relation_of(*seen(*moved(np.eye(3)), num_wrong=40))
    assert relation.motion == "still"
    assert relation.moving == 0
    assert relation.scale == pytest.approx(1, abs=0.01)


def test_what_is_none_of_them_is_planar() -> None:
    """A magnification about a point far outside, and a stretch to one side: no lens, no turn."""
    assert relation_of(*seen(*moved([[1.1, 0, 60], [0, 1.1, 0], [0, 0, 1]]))).motion == "planar"
    assert relation_of(*seen(*moved([[1.2, 0, 0], [0, 1, 0], [0, 0, 1]]))).motion == "planar"


@pytest.mark.parametrize("size", [128, 1024])
def test_px_grow_with_the_picture(size: int) -> None:
    """The same scene with as many more px, and as many more px of noise."""
    a, b = seen(shot(room()), shot(room(), turn(4), (0.6, 0, 0)), noise_px=0.2)
    grown = [replace(f, size=(size, size), points=f.points * np.float32(size / SIZE)) for f in (a, b)]
    one, other = relation_of(a, b), relation_of(*grown)
    assert one.motion == other.motion == "general"
    assert other.parallax_px == pytest.approx(one.parallax_px * size / SIZE, rel=0.2)


# -------------------------------------------------------------------------------------------------------- little to go by


@pytest.mark.parametrize("num", [0, 1, 2, 7])
def test_too_few_matches(num: int) -> None:
    relation = relation_of(*seen(*moved(np.eye(3), num)))
    assert relation.motion == "unknown"
    assert relation.homography is relation.parallax_px is relation.scale is relation.moving is None
    assert not relation.repeated


def test_eight_matches_are_enough_for_a_still() -> None:
    assert relation_of(*seen(*moved(np.eye(3), 8))).motion == "still"


def test_wrong_matches_alone_are_unknown() -> None:
    for seed in range(20):
        nothing = np.empty((0, 2))
        assert relation_of(*seen(nothing, nothing, num_wrong=60, seed=seed)).motion == "unknown"


@pytest.mark.parametrize("slope", [0.0, 0.7, np.inf])
def test_matches_on_a_line_are_unknown(slope: float) -> None:
    t = np.linspace(10, 240, 40)
    xy = np.column_stack([t, np.full(40, 90) + slope * t]) if np.isfinite(slope) else np.column_stack([np.full(40, 90), t])
    assert relation_of(*seen(xy, xy + [5, 3], noise_px=0.1)).motion == "unknown"


def test_one_place_counts_once() -> None:
    """SIFT gives one point several orientations, each with a descriptor of its own."""
    xy = np.repeat(np.random.default_rng(0).uniform(20, 230, (5, 2)), 10, axis=0)
    relation = relation_of(*seen(xy, xy, noise_px=0.0))
    assert len(relation.points) == 5
    assert relation.motion == "unknown"


@pytest.mark.parametrize("empty", [0, 1])
def test_a_picture_without_keypoints(empty: int) -> None:
    pair = list(seen(*moved(np.eye(3))))
    pair[empty] = features(np.empty((0, 2)), np.empty((0, 128)))
    assert relation_of(*pair).motion == "unknown"


# ------------------------------------------------------------------------------------------- what moves, and what repeats


def test_what_moves_before_a_still_camera() -> None:
    """Ten points of one thing move by 14 px; lone wrong matches do not count as moving."""
    a, b = moved(np.eye(3), 200)
    thing = np.random.default_rng(5).uniform(-14, 14, (10, 2)) + (90, 140)
    a, b = np.vstack([a, thing]), np.vstack([b, thing + (12, -7)])
    relation = relation_of(*seen(a, b, num_wrong=20))
    assert relation.motion == "still"
    assert relation.moves.sum() == pytest.approx(10, abs=1)
    assert relation.moving == pytest.approx(10 / 210, abs=0.01)
    assert not (relation.moves & relation.epipolar).any()


def test_what_moves_while_the_camera_walks() -> None:
    """Across the epipolar lines, which are level here."""
    thing = np.random.default_rng(5).uniform(-14, 14, (12, 2)) + (90, 140)
    a = np.vstack([shot(room()), thing])
    b = np.vstack([shot(room(), None, (0.6, 0, 0)), thing + (-20, 15)])
    relation = relation_of(*seen(a, b))
    assert relation.motion == "general"
    assert relation.moves.sum() == pytest.approx(12, abs=2)


def test_children_before_a_still_camera_are_no_parallax() -> None:
    """A third of the matches, on two things that move along one set of parallel lines."""
    a, b = moved(np.eye(3), 100)
    things = np.random.default_rng(5).uniform(-20, 20, (50, 2)) + np.repeat([(60, 140), (190, 90)], 25, axis=0)
    relation = relation_of(*seen(np.vstack([a, things]), np.vstack([b, things + np.repeat([(12, 0), (-9, 0)], 25, axis=0)])))
    assert relation.motion == "still"
    assert relation.moving > 0.25


def facade(period_px: float, columns: int, seed: int = 0) -> Features:
    """Windows that repeat to the right, of 40 keypoints each, seen with a little noise of its own."""
    rng = np.random.default_rng(0)
    window, words = rng.uniform(0, [period_px, 200], (40, 2)), rng.integers(0, 200, (40, 128))
    xy = np.vstack([window + (period_px * k, 20) for k in range(columns)])
    noise = np.random.default_rng([7, seed]).integers(0, 6, (40 * columns, 128))
    return features(xy, np.tile(words, (columns, 1)) + noise)


def test_a_facade_repeats() -> None:
    a, b = facade(60, 4, 1), facade(60, 4, 2)
    assert relation_of(a, replace(b, points=b.points + np.float32([3, 1]))).repeated
    once = facade(60, 1, 1), facade(60, 1, 2)
    assert not relation_of(*once).repeated


def test_a_facade_with_a_few_things_of_its_own_repeats_too() -> None:
    """Which give the homography; the windows would go as well with another one."""
    thing = np.random.default_rng(5).uniform(0, [240, 250], (60, 2))
    words = np.random.default_rng(6).integers(0, 200, (60, 128))
    views = [
        features(np.vstack([f.points, thing]), np.vstack([f.descriptors, words])) for f in (facade(60, 4, 1), facade(60, 4, 2))
    ]
    relation = relation_of(*views)
    assert relation.motion == "still"
    assert relation.repeated


def test_a_room_does_not_repeat() -> None:
    assert not relation_of(*seen(shot(room()), shot(room(), turn(4), (0.6, 0, 0)))).repeated


# ------------------------------------------------------------------------------------------------------ habits of a function


def pairs() -> dict[str, tuple[Features, Features]]:
    return {
        "general": seen(shot(room()), shot(room(), turn(4, 2), (0.6, 0, 0.2)), num_wrong=40),
        "planar": seen(shot(wall()), shot(wall(), turn(10), (1.2, 0.2, 0.3)), num_wrong=40),
        "rotation": seen(*moved(roll(40)), num_wrong=40),
        "zoom": seen(*moved(np.diag([1.3, 1.3, 1])), num_wrong=40),
        "still": seen(*moved(np.eye(3)), num_wrong=40),
    }


@pytest.mark.parametrize("motion", ["general", "planar", "rotation", "zoom", "still"])
def test_swapped_pictures(motion: str) -> None:
    a, b = pairs()[motion]
    there, back = relation_of(a, b), relation_of(b, a)
    assert there.motion == back.motion == motion
    assert set(zip(there.index_a, there.index_b, strict=True)) == set(zip(back.index_b, back.index_a, strict=True))
    assert back.epipolar.sum() == pytest.approx(there.epipolar.sum(), rel=0.05)
    if motion in ("rotation", "zoom", "still"):
        assert back.scale * there.scale == pytest.approx(1, abs=0.01)
        assert back.rotation_deg + there.rotation_deg == pytest.approx(0, abs=0.3)


@pytest.mark.parametrize("motion", ["general", "planar"])
def test_a_pure_function(motion: str) -> None:
    a, b = pairs()[motion]
    first = relation_of(a, b)
    cv2.setRNGSeed(77)
    relation_of(*pairs()["zoom"])
    second = relation_of(a, b)
    for f in fields(Relation):
        np.testing.assert_array_equal(getattr(first, f.name), getattr(second, f.name), err_msg=f.name)


def test_distance_from_a_homography() -> None:
    """A shift of 3 px where 4 px were due is 1 px off in both pictures; behind a horizon is far off."""
    h = np.array([[1.0, 0, 4], [0, 1, 0], [0, 0, 1]])
    assert plane_distance(h, np.array([[10.0, 10, 13, 10]])) == pytest.approx(1)
    assert plane_distance(np.diag([1.0, 0, 1]), np.array([[1.0, 1, 1, 1]])) == np.inf


def test_made_pictures() -> None:
    """SIFT, noise and all: a still, a shift of a plane seen through a wide lens, a turn in the picture's plane."""
    wall_picture = cv2.resize(texture(1400, 1400, np.random.default_rng(0)), (700, 700), interpolation=cv2.INTER_AREA)
    rng = np.random.default_rng(0)

    def taken(h: np.ndarray) -> Features:
        image = cv2.warpPerspective(wall_picture, h, (SIZE, SIZE), flags=cv2.INTER_LINEAR)
        return sift(np.clip(image + rng.normal(0, 3, image.shape), 0, 255).astype(np.uint8))

    about = np.array([[1, 0, MIDDLE], [0, 1, MIDDLE], [0, 0, 1.0]])
    base = about @ np.array([[1, 0, -350], [0, 1, -350], [0, 0, 1.0]])
    wanted = {"still": np.eye(3), "zoom": np.diag([1.4, 1.4, 1]), "rotation": roll(25)}
    for motion, h in wanted.items():
        assert relation_of(taken(base), taken(about @ h @ np.linalg.inv(about) @ base)).motion == motion
