"""What is held against a pair, and whether it is stored."""

from dataclasses import fields, replace
from typing import Any

import cv2
import numpy as np
import pytest

from twoview.curation.features import sift
from twoview.curation.motion import relation_of
from twoview.curation.verdicts import Refuse, exposure, is_cut, judge, perceptual_hash, sharpness, verdicts_of
from twoview.errors import ConfigError
from twoview.schema import REASONS, Match, Pair, Row, Verdicts, View
from walk_made import texture

BAND = (0.5, 0.7)


def view(index: int) -> View:
    return View(time_s=None, jpeg=b"", image=np.zeros((8, 8, 3), np.uint8), crop=(0, 0, 8, 8))


def pair(overlap: float | None = None, failure: str = "", **more: Any) -> Pair:
    match = Match(found=not failure, failure=failure, overlap_ab=overlap, overlap_ba=None if overlap is None else 1.0)
    values = {"a": view(0), "b": view(1), "match": match} | more
    return Pair(source="s", scene="n", group="g", index_a=0, index_b=1, **values)


@pytest.mark.parametrize(
    ("overlap", "reasons"),
    [
        (0.0, ("overlap_low",)),
        (0.4999, ("overlap_low",)),
        (0.5, ()),
        (0.6, ()),
        (0.7, ()),
        (0.7001, ("overlap_high",)),
        (1.0, ("overlap_high",)),
    ],
)
def test_both_ends_of_the_band_are_allowed(overlap: float, reasons: tuple[str, ...]) -> None:
    judged = judge(pair(overlap), BAND, BAND)
    assert judged.reasons == reasons
    assert judged.kept == judged.store == (not reasons)


@pytest.mark.parametrize(("overlap", "stored"), [(0.39, False), (0.4, True), (0.6, True), (0.8, True), (0.81, False)])
def test_the_band_of_store_is_stored(overlap: float, stored: bool) -> None:
    assert judge(pair(overlap), BAND, (0.4, 0.8)).store == stored


def test_the_smaller_direction_counts() -> None:
    swapped = Match(found=True, overlap_ab=1.0, overlap_ba=0.3)
    assert judge(pair(match=swapped), BAND, BAND).reasons == ("overlap_low",)


@pytest.mark.parametrize("failure", ["few_matches", "no_homography", "flipped_homography", "few_inliers"])
def test_what_was_not_found_keeps_its_reason(failure: str) -> None:
    """And is never stored, however wide the band; filters are not asked."""
    judged = judge(pair(failure=failure), BAND, (0.0, 1.0), (lambda _: 1 / 0,))
    assert (judged.reasons, judged.store) == ((failure,), False)


@pytest.mark.parametrize("match", [Match(found=False), Match(found=True), Match(found=True, overlap_ab=0.6)])
def test_no_overlap_and_no_word_why(match: Match) -> None:
    judged = judge(pair(match=match), BAND, (0.0, 1.0))
    assert (judged.reasons, judged.store) == (("no_homography",), False)


def test_an_estimators_own_word_is_no_reason_of_the_closed_set() -> None:
    assert set(judge(pair(failure="too dark"), BAND, BAND).reasons) <= set(REASONS)


@pytest.mark.parametrize("lost", ["a", "b"])
def test_a_frame_that_cannot_be_read(lost: str) -> None:
    judged = judge(pair(0.6, **{lost: None, "match": None}), BAND, (0.0, 1.0))
    assert (judged.reasons, judged.store) == (("unreadable",), False)


def test_every_filter_is_asked_and_the_band_too() -> None:
    """Every verdict on a pair is there; a filter's own word becomes user_filter, once; what a filter refuses is not stored."""
    filters = (lambda p: "too dark", lambda p: "", lambda p: "few_inliers", lambda p: "too green")
    judged = judge(pair(0.9), BAND, (0.0, 1.0), filters)
    assert judged.reasons == ("user_filter", "few_inliers", "overlap_high")
    assert not judged.store


def test_sharpness_falls_with_blur() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    assert sharpness(np.full_like(image, 90)) == 0
    assert sharpness(image) > 10 * sharpness(cv2.GaussianBlur(image, (9, 9), 3))


def distance(a: np.ndarray, b: np.ndarray) -> int:
    """Bits in which the hashes of two pictures differ."""
    return (int(perceptual_hash(a), 16) ^ int(perceptual_hash(b), 16)).bit_count()


def test_perceptual_hash_is_near_for_alike_and_far_for_others() -> None:
    rng = np.random.default_rng(0)
    a, b = (cv2.resize(rng.integers(0, 256, (8, 8, 3), np.uint8), (128, 128), interpolation=cv2.INTER_CUBIC) for _ in range(2))
    jpeg = cv2.imdecode(cv2.imencode(".jpg", a, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], cv2.IMREAD_COLOR)
    assert len(perceptual_hash(a)) == 16
    assert distance(a, a) == 0
    assert distance(a, jpeg) <= 6
    assert distance(a, cv2.resize(a, (96, 96), interpolation=cv2.INTER_AREA)) <= 6
    assert distance(a, b) > 16


# --------------------------------------------------------------------------------------------- what pictures say of themselves

EVERYWHERE = np.ones((64, 64), bool)


def picture(seed: int) -> np.ndarray:
    return cv2.resize(texture(800, 800, np.random.default_rng(seed)), (256, 256), interpolation=cv2.INTER_AREA)


def noisy(image: np.ndarray, seed: int = 0) -> np.ndarray:
    return np.clip(image + np.random.default_rng(seed).normal(0, 3, image.shape), 0, 255).astype(np.uint8)


def test_exposure() -> None:
    half = np.zeros((64, 64, 3), np.uint8)
    half[:, 32:] = 255
    assert exposure(half, EVERYWHERE) == (pytest.approx(0.5), 1.0)
    assert exposure(np.full_like(half, 51), EVERYWHERE) == (pytest.approx(0.2), 0.0)
    assert exposure(half, np.arange(64)[None] >= np.full((64, 1), 32)) == (1.0, 1.0)
    assert exposure(half, ~EVERYWHERE) == (pytest.approx(0.5), 1.0)  # nothing counts: all of it does


def told(a: np.ndarray, b: np.ndarray) -> Verdicts:
    return verdicts_of(a, b, sift(a), sift(b))


def test_a_cut_is_another_place_in_other_colours() -> None:
    a, other = picture(0), picture(1)
    other = np.ascontiguousarray(255 - other)
    assert told(a, other).cut
    assert told(a, other).motion == "unknown"
    assert not told(a, noisy(a)).cut


def test_a_fast_movement_is_no_cut() -> None:
    """Blurred until nothing is matched, in about the same colours."""
    a = picture(0)
    b = cv2.blur(a, (61, 5))
    relation = relation_of(sift(a), sift(b))
    assert relation.motion == "unknown"
    assert not is_cut(a, b, relation)


def test_verdicts_are_columns() -> None:
    """Under the manifest's names, of its types; bars and captions count as excluded and not as clipped."""
    a = picture(0)
    boxed = noisy(a)
    boxed[:32], boxed[-32:] = 0, 0
    said = told(noisy(a), boxed)
    columns = {f.name: f.type for f in fields(Row)}
    assert {f.name for f in fields(Verdicts)} <= set(columns)
    Row(**{f.name: None for f in fields(Row)} | vars(said))
    assert said.motion == "still"
    assert said.epipolar_inliers > 100
    assert (said.moving, said.repeated, said.cut) == (0, False, False)
    assert said.excluded_a == 0
    assert said.excluded_b == pytest.approx(0.25, abs=0.01)
    assert said.clipped_b < 0.05
    assert said.exposure_a == pytest.approx(said.exposure_b, abs=0.05)
    assert said == told(noisy(a), boxed)


def seen_pair(a: np.ndarray, b: np.ndarray, verdicts: Verdicts | None = None) -> Pair:
    return pair(0.6, a=replace(view(0), image=a), b=replace(view(1), image=b), verdicts=verdicts)


def test_a_facade_of_like_windows_repeats() -> None:
    """Shifted by one window it is the same picture: nothing tells by how much. One window among other things is no such thing."""
    wall, window = np.full((256, 512, 3), 150, np.uint8), picture(3)[:80, :80]
    for y, x in [(y, x) for y in (24, 152) for x in (24, 152, 280, 408)]:
        wall[y : y + 80, x : x + 80] = window
    a, b = noisy(wall[:, :256]), noisy(wall[:, 128:384], 1)
    assert verdicts_of(a, b, sift(a), sift(b)).repeated
    c = noisy(picture(3))
    assert not verdicts_of(a, c, sift(a), sift(c)).repeated


def test_refuse_goes_by_what_the_pictures_say() -> None:
    a = picture(0)
    bare = seen_pair(a, noisy(a))
    assert bare.a
    assert bare.b
    assert Refuse()(bare) == ""  # nobody has asked the pictures: the pair is not one that is stored
    still = replace(bare, verdicts=verdicts_of(bare.a.image, bare.b.image, sift(bare.a.image), sift(bare.b.image)))
    assert Refuse()(still) == "degenerate_motion"
    assert Refuse(motions=())(still) == ""
    assert judge(still, BAND, BAND, (Refuse(),)).reasons == ("degenerate_motion",)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({}, ""),
        ({"motion": "planar"}, ""),
        ({"motion": "unknown", "moving": None}, ""),
        ({"motion": "zoom"}, "degenerate_motion"),
        ({"motion": "rotation"}, "degenerate_motion"),
        ({"motion": "unknown", "cut": True}, "cut"),
        ({"repeated": True}, "repeated"),
        ({"moving": 0.4}, "moving"),
        ({"exposure_b": 0.05}, "bad_exposure"),
        ({"exposure_a": 0.99}, "bad_exposure"),
        ({"clipped_a": 0.6}, "bad_exposure"),
    ],
)
def test_refuse_by_verdicts(said: dict, reason: str) -> None:
    """Which are taken from the pair, not made again: these pictures are blank."""
    plain: dict = dict.fromkeys((f.name for f in fields(Verdicts)), 0.5)
    plain |= {"motion": "general", "cut": False, "repeated": False, "moving": 0.0, "clipped_a": 0.0, "clipped_b": 0.0}
    refuse = Refuse(exposure=(0.1, 0.9), max_clipped=0.5)
    assert refuse(seen_pair(np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8, 3), np.uint8), Verdicts(**plain | said))) == reason
    assert reason in ("", *REASONS)


@pytest.mark.parametrize("wrong", [{"motions": ("walking",)}, {"exposure": (0.9, 0.1)}])
def test_refuse_names_a_wrong_setting(wrong: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Refuse(**wrong)
