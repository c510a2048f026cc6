"""What is held against a pair, and whether its pixels are stored."""

from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Bool, Float64, UInt8

from ..errors import ConfigError
from ..schema import REASONS, Filter, Pair, Verdicts
from .excluded import bars, overlay
from .features import Features
from .motion import MOTIONS, REFERENCE_PX, Motion, Relation, relation_of, repeats_itself

Band = tuple[float, float]
"""Lowest and highest overlap, both allowed, in [0, 1]."""


def band_text(band: Band) -> str:
    """As the command line writes it: 0.5:0.7."""
    return f"{band[0]:g}:{band[1]:g}"


def judge(pair: Pair, overlap: Band, store: Band, filters: tuple[Filter, ...] = ()) -> Pair:
    """The pair with every reason against it, and `store` set where its pixels are wanted.

    A pair that comes with a reason was refused before it was measured. A reason that is not one of REASONS, a filter's or an
    estimator's own word, becomes `user_filter`.
    """
    if pair.reasons:
        return pair
    if pair.a is None or pair.b is None or pair.match is None:
        return replace(pair, reasons=("unreadable",))
    match = pair.match
    if not match.found or match.overlap is None:
        failure = match.failure or "no_homography"
        return replace(pair, reasons=(failure if failure in REASONS else "user_filter",))
    reasons = [reason for reason in (f(pair) for f in filters) if reason]
    reasons = [reason if reason in REASONS else "user_filter" for reason in reasons]
    in_store = store[0] <= match.overlap <= store[1] and not reasons
    if match.overlap < overlap[0]:
        reasons.append("overlap_low")
    elif match.overlap > overlap[1]:
        reasons.append("overlap_high")
    return replace(pair, reasons=tuple(dict.fromkeys(reasons)), store=in_store or not reasons)


def sharpness(image: UInt8[np.ndarray, "h w 3"]) -> float:
    """Variance of the Laplacian of grey: the published filter of rendered views asks for 1,000 at 224 px."""
    return float(cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.CV_64F).var())


BLACK, WHITE = 4, 251
"""Levels beyond which a pixel is clipped: limited-range video and JPEG round by some."""
SHOT_LIKE = 0.65
"""Two pictures of one shot share more of their colours, place by place. Over five cuts of a film it is 0.14 to 0.63, between frames
of a shot that have no match 0.57 to 0.99."""


def exposure(image: UInt8[np.ndarray, "h w 3"], counts: Bool[np.ndarray, "h w"]) -> tuple[float, float]:
    """Mean brightness in [0, 1], and the share of pixels that are black or white without detail, where `counts`.

    Two figures, as one would hide the other: a lamp in a dark room is clipped and dark, snow is bright and may be clipped nowhere.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    grey = grey[counts] if counts.any() else grey.ravel()
    return float(grey.mean() / 255), float(((grey <= BLACK) | (grey >= WHITE)).mean())


def is_cut(a: UInt8[np.ndarray, "h w 3"], b: UInt8[np.ndarray, "h w 3"], relation: Relation) -> bool:
    """Whether two frames of a video belong to different shots: no geometry is found, and the colours differ place by place.

    A fast movement loses the matches too, but the colours stay about where they were. A swing after which nothing is left in the
    picture looks like a cut, and a cut back to the same set may not.
    """
    if relation.motion != "unknown":
        return False
    return float(np.minimum(_colours(a), _colours(b)).sum() / 4) < SHOT_LIKE


def _colours(image: UInt8[np.ndarray, "h w 3"]) -> Float64[np.ndarray, "4 64"]:
    """Histogram of four levels a channel for each quarter of a picture."""
    small = cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA) // 64 @ np.array([16, 4, 1])
    quarters = (small[y : y + 32, x : x + 32] for y in (0, 32) for x in (0, 32))
    return np.stack([np.bincount(quarter.ravel(), minlength=64) / quarter.size for quarter in quarters])


def verdicts_of(image_a: UInt8[np.ndarray, "h w 3"], image_b: UInt8[np.ndarray, "h w 3"], a: Features, b: Features) -> Verdicts:
    """All that two pictures and their SIFT features say of a pair."""
    relation = relation_of(a, b)
    bars_a, bars_b = bars(image_a), bars(image_b)
    laid_over = overlay(image_a, image_b, relation)
    out_a, out_b = (mask | laid_over if mask.shape == laid_over.shape else mask for mask in (bars_a, bars_b))
    (exposure_a, clipped_a), (exposure_b, clipped_b) = exposure(image_a, ~out_a), exposure(image_b, ~out_b)
    return Verdicts(
        motion=relation.motion,
        parallax_px=relation.parallax_px,
        scale=relation.scale,
        rotation_deg=relation.rotation_deg,
        epipolar_inliers=int(relation.epipolar.sum()),
        moving=relation.moving,
        repeated=relation.repeated or (relation.motion in ("unknown", "still") and _both_repeat(a, b)),
        cut=is_cut(image_a, image_b, relation),
        exposure_a=exposure_a,
        exposure_b=exposure_b,
        clipped_a=clipped_a,
        clipped_b=clipped_b,
        excluded_a=float(out_a.mean()),
        excluded_b=float(out_b.mean()),
    )


def _both_repeat(a: Features, b: Features) -> bool:
    return all(repeats_itself(f, min(f.size) / REFERENCE_PX) for f in (a, b))


@dataclass(frozen=True, kw_only=True)
class Refuse:
    """A Filter by what the pictures themselves say, for CurateConfig(filters=(Refuse(),)).

    A pair whose overlap is not one that is stored carries no verdicts, and is refused for its overlap anyway.
    """

    motions: tuple[Motion, ...] = ("still", "zoom", "rotation")
    """Refused as degenerate_motion: no parallax, so nothing to learn of depth. Not planar, a wall from two places, which a walk
    cannot do without; nor unknown, which is the estimator's to judge."""
    max_moving: float = 0.3
    """Refused as moving above it: what moves by itself has no counterpart that geometry knows."""
    repeated: bool = True
    """Refused as repeated."""
    cut: bool = True
    """Refused as cut."""
    exposure: Band = (0.0, 1.0)
    """Refused as bad_exposure if one of the pictures is darker or brighter on the mean."""
    max_clipped: float = 1.0
    """Refused as bad_exposure if more of one of them is clipped."""

    def __post_init__(self) -> None:
        if wrong := [motion for motion in self.motions if motion not in MOTIONS]:
            raise ConfigError(f"Refuse.motions has {wrong[0]!r}: give some of {', '.join(MOTIONS)}")
        if not 0 <= self.exposure[0] <= self.exposure[1] <= 1:
            raise ConfigError(f"Refuse.exposure is {band_text(self.exposure)}: give LOW, HIGH with 0 <= LOW <= HIGH <= 1")

    def __call__(self, pair: Pair, /) -> str:
        """The first reason against a pair, or ''."""
        said = pair.verdicts
        if said is None:
            return ""
        dim, bright = min(said.exposure_a, said.exposure_b), max(said.exposure_a, said.exposure_b)
        against = {
            "cut": self.cut and said.cut,
            "degenerate_motion": said.motion in self.motions,
            "repeated": self.repeated and said.repeated,
            "moving": (said.moving or 0) > self.max_moving,
            "bad_exposure": dim < self.exposure[0]
            or bright > self.exposure[1]
            or max(said.clipped_a, said.clipped_b) > self.max_clipped,
        }
        return next((reason for reason, speaks in against.items() if speaks), "")


def perceptual_hash(image: UInt8[np.ndarray, "h w 3"]) -> str:
    """64 bits as 16 hex digits, close for pictures that look alike.

    The signs of the 8 x 8 lowest cosine frequencies of a 32 x 32 grey picture against their median (pHash).
    """
    small = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (32, 32), interpolation=cv2.INTER_AREA)
    low = _cosines() @ small @ _cosines().T
    bits = np.packbits(low > np.median(low))
    return bits.tobytes().hex()


@lru_cache(maxsize=1)
def _cosines() -> np.ndarray:
    """Rows 0 to 7 of the DCT of 32 samples."""
    return np.cos(np.pi * (np.arange(32) + 0.5) * np.arange(8)[:, None] / 32)
