"""Bars and overlays on made pictures: what must not vote."""

import cv2
import numpy as np
import pytest

from twoview.curation.excluded import bars, overlay
from twoview.curation.features import sift
from twoview.curation.motion import relation_of
from walk_made import texture

SIZE = 256


@pytest.fixture(scope="module")
def wall() -> np.ndarray:
    return cv2.resize(texture(1400, 1400, np.random.default_rng(0)), (700, 700), interpolation=cv2.INTER_AREA)


def filmed(image: np.ndarray, seed: int) -> np.ndarray:
    """Under noise and through JPEG."""
    noisy = image + np.random.default_rng(seed).normal(0, 2, image.shape)
    jpeg = cv2.imencode(".jpg", np.clip(noisy, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
    return cv2.imdecode(jpeg, cv2.IMREAD_COLOR)


def cut(wall: np.ndarray, x: int, y: int) -> np.ndarray:
    return np.ascontiguousarray(wall[y : y + SIZE, x : x + SIZE])


@pytest.mark.parametrize(
    ("top", "bottom", "left", "right"), [(30, 30, 0, 0), (0, 0, 40, 40), (20, 0, 0, 0), (30, 30, 40, 40), (0, 0, 0, 0)]
)
@pytest.mark.parametrize("level", [0, 16])
def test_bars(wall: np.ndarray, top: int, bottom: int, left: int, right: int, level: int) -> None:
    """A line more or less, as the codec smears the edge."""
    image = cut(wall, 100, 100)
    wanted = np.ones((SIZE, SIZE), bool)
    wanted[top : SIZE - bottom, left : SIZE - right] = False
    image[wanted] = level
    found = bars(filmed(image, 0))
    assert np.abs(found.mean(0) - wanted.mean(0)).max() < 0.02 or np.count_nonzero(found ^ wanted) < 4 * SIZE
    assert found.any() == wanted.any()


def test_a_dark_scene_has_no_bars(wall: np.ndarray) -> None:
    """Night above a skyline, a black picture, a bright flat sky."""
    assert not bars(np.zeros((SIZE, SIZE, 3), np.uint8)).any()
    night = cut(wall, 100, 100)
    skyline = 40 + np.random.default_rng(0).integers(0, 60, SIZE // 8).repeat(8)
    night[np.arange(SIZE)[:, None] < skyline] = 8
    assert bars(night).sum() == 0
    dusk = cut(wall, 100, 100)
    dusk[:80] = np.linspace(4, 90, 80)[:, None, None]
    assert not bars(dusk).any()
    sky = cut(wall, 100, 100)
    sky[:60] = (200, 220, 250)
    assert not bars(sky).any()


def written(image: np.ndarray) -> np.ndarray:
    return cv2.putText(image.copy(), "NEWS 24", (140, 235), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (255, 255, 255), 2, cv2.LINE_AA)


def found_over(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = filmed(a, 1), filmed(b, 2)
    return overlay(a, b, relation_of(sift(a), sift(b)))


@pytest.mark.parametrize("shift", [(24, 0), (10, 18)])
def test_a_caption_that_stays(wall: np.ndarray, shift: tuple[int, int]) -> None:
    clean = cut(wall, 100, 100), cut(wall, 100 + shift[0], 100 + shift[1])
    letters = (written(clean[0]) != clean[0]).any(2)
    found = found_over(*map(written, clean))
    assert found[letters].mean() > 0.7
    assert found.sum() < 4 * cv2.dilate(letters.astype(np.uint8), np.ones((9, 9))).sum()
    assert not found[:180].any()
    assert not found_over(*clean).any()


def test_nothing_is_laid_over_a_still(wall: np.ndarray) -> None:
    """Nor is it known where nothing is matched."""
    image = written(cut(wall, 100, 100))
    assert not found_over(image, image).any()
    assert not found_over(image, written(cut(wall, 400, 400)))[:180].any()


def test_an_edge_that_slides_along_itself_is_none(wall: np.ndarray) -> None:
    """A level stripe of one colour in a picture that moves level."""
    striped = wall.copy()
    striped[200:212] = (240, 240, 240)
    striped[212:220] = 10
    assert not found_over(cut(striped, 100, 100), cut(striped, 124, 100)).any()


def test_pictures_of_two_sizes_have_none(wall: np.ndarray) -> None:
    a, b = cut(wall, 100, 100), np.ascontiguousarray(wall[100:356, 110:400])
    assert overlay(a, b, relation_of(sift(a), sift(b))).shape == (SIZE, SIZE)
