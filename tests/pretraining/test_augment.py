"""Crops, flips and colours: beside PIL's, and what patch maps and points make of them."""

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from twoview.pretraining.augment import (
    CropsAndJitter,
    Cut,
    MultiCrop,
    ResizedCrop,
    Swapped,
    as_picture,
    blurred,
    brightened,
    contrasted,
    cut_out,
    follow_patches,
    follow_points,
    grey,
    hue_shifted,
    planes,
    resized_crop,
    saturated,
)
from twoview.pretraining.pools import Sample


def photo(seed: int = 0, side: int = 64) -> np.ndarray:
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (8, 8, 3), np.uint8)
    return np.array(Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("factor", [0.6, 0.93, 1.0, 1.27, 1.4])
def test_colours_are_those_of_pil(factor: float) -> None:
    """To the bit, but where a float lies on the edge of a whole number."""
    picture = photo()
    image = Image.fromarray(picture)
    for ours, theirs in (
        (brightened, ImageEnhance.Brightness),
        (contrasted, ImageEnhance.Contrast),
        (saturated, ImageEnhance.Color),
    ):
        expected = np.asarray(theirs(image).enhance(factor)).astype(int)
        difference = np.abs(as_picture(ours(planes(picture), factor)) - expected)
        assert difference.max() <= 1
        assert (difference > 0).mean() < 1e-3
    np.testing.assert_array_equal(grey(planes(picture)), np.asarray(image.convert("L")))


def shifted(picture: np.ndarray, share: float) -> np.ndarray:
    return as_picture(hue_shifted(planes(picture), share))


def test_hue_goes_round() -> None:
    picture = photo()
    assert np.abs(shifted(picture, 0.0).astype(int) - picture).max() <= 1
    assert np.abs(shifted(picture, 1.0).astype(int) - picture).max() <= 1
    red = np.full((1, 1, 3), (255, 0, 0), np.uint8)
    np.testing.assert_array_equal(shifted(red, 1 / 3)[0, 0], (0, 255, 0))
    image = np.asarray(Image.fromarray(picture).convert("HSV")).copy()
    image[..., 0] += 20
    theirs = np.asarray(Image.fromarray(image, "HSV").convert("RGB")).astype(int)
    assert np.abs(shifted(picture, 20 / 255) - theirs).mean() < 2  # PIL's hues are of 8 bits


def test_resizing_is_that_of_pil() -> None:
    picture = photo(side=100)
    cut = Cut(x=10, y=20, width=70, height=50)
    theirs = Image.fromarray(picture[20:70, 10:80]).resize((32, 32), Image.Resampling.BICUBIC)
    assert np.abs(cut_out(picture, cut, 32).astype(int) - np.asarray(theirs)).max() <= 1
    np.testing.assert_array_equal(cut_out(picture, Cut(x=0, y=0, width=100, height=100, flip=True), 100), picture[:, ::-1])


def test_a_blur_keeps_the_mean() -> None:
    values = planes(photo())
    soft = blurred(values, 1.5)
    assert abs(soft.mean() - values.mean()) < 1
    assert soft.diff(dim=1).abs().mean() < 0.9 * values.diff(dim=1).abs().mean()


def test_resized_crops_have_the_areas_that_were_asked_for() -> None:
    random = np.random.default_rng(0)
    cuts = [resized_crop(photo(), random, 0.2, 1.0) for _ in range(500)]
    areas = np.array([cut.width * cut.height / 64**2 for cut in cuts])
    assert 0.18 < areas.min() < 0.25
    assert 0.8 < areas.max() <= 1
    aspects = np.array([cut.width / cut.height for cut in cuts])
    assert 0.7 < aspects.min() < 0.8 < 1.25 < aspects.max() < 1.45
    assert 0.4 < np.mean([cut.flip for cut in cuts]) < 0.6
    assert all(cut.x + cut.width <= 64 and cut.y + cut.height <= 64 for cut in cuts)


def sample(grid: int = 4, side: int = 64) -> Sample:
    """b is a moved by one patch to the left; each patch of b that has one has its counterpart in a."""
    a = photo(side=side)
    forth, back = np.full((2, grid * grid), -1, np.int16)
    for row in range(grid):
        for column in range(grid - 1):
            forth[row * grid + column + 1] = row * grid + column
            back[row * grid + column] = row * grid + column + 1
    x, y = np.meshgrid(np.arange(0.3, 1, 0.05), np.arange(0.02, 1, 0.05))
    points = np.stack([x, y, x - 1 / grid, y], axis=-1).reshape(-1, 4).astype(np.float32)
    return Sample(a=a, b=np.roll(a, -side // grid, axis=1), patches=np.stack([forth, back]), points=points, grid=(grid, grid))


def test_points_and_patches_follow_a_cut() -> None:
    """The right half of a and the left half of b, mirrored: shared patches stay shared, and points lie on their pixels."""
    given = sample()
    cuts = (Cut(x=32, y=0, width=32, height=32), Cut(x=16, y=0, width=32, height=32, flip=True))
    points = follow_points(given.points, ((64, 64), (64, 64)), cuts)
    assert len(points)
    assert ((points >= 0) & (points <= 1)).all()
    np.testing.assert_allclose(points[:, 0], 1 - points[:, 2], atol=1e-6)
    np.testing.assert_allclose(points[:, 1], points[:, 3], atol=1e-6)
    patches = follow_patches(given.patches, given.grid, ((64, 64), (64, 64)), cuts, 2)
    np.testing.assert_array_equal(patches, [[1, 0, 3, 2], [1, 0, 3, 2]])
    moved = (cuts[0], Cut(x=0, y=0, width=32, height=32))
    patches = follow_patches(given.patches, given.grid, ((64, 64), (64, 64)), moved, 2)
    np.testing.assert_array_equal(patches, [[1, -1, 3, -1], [-1, 0, -1, 2]])


def test_the_whole_picture_changes_nothing() -> None:
    given = sample()
    whole = (Cut(x=0, y=0, width=64, height=64),) * 2
    np.testing.assert_array_equal(follow_patches(given.patches, given.grid, ((64, 64),) * 2, whole, 4), given.patches)
    np.testing.assert_allclose(follow_points(given.points, ((64, 64),) * 2, whole), given.points, atol=1e-6)


def test_a_swap_swaps_everything() -> None:
    given = sample()
    swapped = {}
    for seed in range(20):
        done = Swapped(size=64)(given, np.random.default_rng(seed), 16)
        is_swapped = np.array_equal(done.a, given.b)
        swapped[is_swapped] = done
        assert is_swapped or np.array_equal(done.a, given.a)
    np.testing.assert_array_equal(swapped[True].patches, given.patches[::-1])
    np.testing.assert_allclose(swapped[True].points, given.points[:, [2, 3, 0, 1]])
    np.testing.assert_array_equal(swapped[False].patches, given.patches)


def test_shared_pixels_stay_shared_under_crops() -> None:
    """Whatever the crops, a point's pixel in a is that of b: without jitter the two are alike."""
    given = sample(side=128)
    for seed in range(10):
        done = CropsAndJitter(size=112, jitter=0.0)(given, np.random.default_rng(seed), 16)
        assert done.a.shape == done.b.shape == (112, 112, 3)
        pixels = np.clip(np.round(done.points * 112 - 0.5).astype(int), 0, 111)
        one, other = done.a[pixels[:, 1], pixels[:, 0]], done.b[pixels[:, 3], pixels[:, 2]]
        assert len(pixels) > 50
        assert np.abs(one.astype(int) - other).mean() < 4
        assert done.patches.shape == (2, 49)


AUGMENTS = {"mimic": Swapped, "croco": CropsAndJitter, "mae": ResizedCrop, "dino": MultiCrop}


@pytest.mark.parametrize("name", AUGMENTS)
def test_a_sample_follows_from_its_seed(name: str) -> None:
    sizes = {"size": 32} | ({"local_size": 16} if name == "dino" else {})
    augment = AUGMENTS[name](**sizes)
    one, again, other = (augment(sample(), np.random.default_rng(seed), 16) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.a, again.a)
    np.testing.assert_array_equal(one.b, again.b)
    assert one.a.shape == (32, 32, 3)
    assert one.a.dtype == np.uint8
    assert name == "mimic" or not np.array_equal(one.a, other.a)
    assert len(one.crops) == (10 if name == "dino" else 0)
    single = augment(Sample(a=photo()), np.random.default_rng(1), 16)
    assert (single.b is None) == (name != "dino")
