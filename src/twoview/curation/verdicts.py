"""What is held against a pair, and whether its pixels are stored."""

from dataclasses import replace
from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import UInt8

from ..schema import REASONS, Filter, Pair

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
