"""Fit the network of the estimator `covisibility`, and write src/twoview/curation/covisibility.npz.

Seen in the fit: six made flats, three scenes, the first half of the kitchen video, warped photos and unrelated pictures, most of
them blurred, brightened, noisy and compressed as footage is. Never seen: the scenes apartment and gallery, the flat of seed 101,
and the second half of the video, on which overlap_truth.py reports. About 15 minutes on two cores.

    .venv/bin/python benchmarks/fit_covisibility.py [--out FILE]
"""

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # two processes share two cores

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from multiprocessing import Pool
from pathlib import Path

import cv2
import numpy as np
from footage import DATA
from known import Case, kitchen_case, scene_path, unrelated_case, walk_case, warped_case

from twoview.curation import covisibility
from twoview.curation.covisibility import CLASSES, LATTICE, Covisibility, gather
from twoview.curation.measure import stored_picture
from twoview.demo import write_flat
from twoview.geometry import GRID
from twoview.schema import UNKNOWN
from twoview.sources.images import read_image

PHOTOS = (
    *("coco128_semantic/images/train2017/*", "coco_keypoints_mmpose/**/*", "deepv2d_demo_scenes/**/*", "hymenoptera/*/*/*"),
    *("imagenet_samples/*", "kitti_odometry_seq1/**/*", "nerf_fox_posed/**/*", "phototourism_pairs/**/*", "seq_*/**/*"),
    *("superglue_scannet_posed/**/*", "taskonomy_samples/**/rgb/*"),
)
SCENES = ("kitchen", "cube room", "garage")
NUM_FLATS, NUM_PAIRS, NUM_PHOTO_PAIRS = 6, 450, 700
HIDDEN, EPOCHS, BATCH, RATE = (48, 32), 8, 4096, 3e-3


def flat_case(seed: int) -> Case:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "flat.glb"
        write_flat(path, seed)
        return walk_case(f"flat {seed}", path, NUM_PAIRS)


def room_case(name: str) -> Case:
    return walk_case(name, scene_path(name), NUM_PAIRS)


def photos() -> list[tuple[str, np.ndarray]]:
    """Folder and picture of photos that have something to see, at most twelve of a folder."""
    folders: dict[str, list[Path]] = {}
    for path in sorted({p for pattern in PHOTOS for p in DATA.glob(pattern) if p.suffix.lower() in (".jpg", ".jpeg", ".png")}):
        if "mask" not in str(path) and "label" not in str(path):
            folders.setdefault(str(path.parent), []).append(path)
    some = [(name, read_image(p)) for name, paths in folders.items() for p in paths[:: max(1, len(paths) // 12)]]
    return [(name, image) for name, image in some if min(image.shape[:2]) >= 200 and image.std() > 15]


def warps() -> Case:
    return warped_case(NUM_PHOTO_PAIRS, [image for _, image in photos()])


def strangers() -> Case:
    """Photos, views of the scenes and frames of the video, each with one of another place."""
    pictures = [(name, stored_picture(image, "centre", 256)) for name, image in photos()]
    for case in (flat_case(0), room_case("kitchen"), room_case("cube room"), kitchen_case("first")):
        keys = list(case.pictures)
        pictures += [(case.name, case.pictures[k]) for k in keys[:: max(1, len(keys) // 40)]]
    return unrelated_case(NUM_PHOTO_PAIRS, pictures)


def worn(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A picture as footage has it: out of focus or shaken, another exposure, noise, compression."""
    picture = image.astype(np.float32)
    if rng.random() < 0.7:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.3, 1.3))
    if rng.random() < 0.3:
        length, angle = int(rng.integers(2, 7)), rng.uniform(0, np.pi)
        kernel = np.zeros((7, 7), np.float32)
        cv2.line(kernel, (3, 3), (round(3 + length / 2 * np.cos(angle)), round(3 + length / 2 * np.sin(angle))), 1.0)
        picture = cv2.filter2D(picture, -1, kernel / kernel.sum())
    picture = 255 * (picture.clip(0, 255) / 255) ** np.exp(rng.normal(0, 0.15)) * np.exp(rng.normal(0, 0.1)) + rng.normal(0, 4)
    picture += rng.normal(0, rng.uniform(0, 6), picture.shape)
    _, jpeg = cv2.imencode(
        ".jpg", np.rint(picture).clip(0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(40, 95))]
    )
    decoded = cv2.imdecode(jpeg, cv2.IMREAD_UNCHANGED)
    assert decoded is not None
    return decoded


def samples(job: tuple[str, Callable[[], Case], bool, int]) -> tuple[str, np.ndarray, np.ndarray, np.ndarray]:
    """Figures [n, 44], what they ought to give [n, 3] and weights [n] of a case."""
    name, make, wear, every = job
    case, estimator = make(), Covisibility()
    described = {k: estimator.describe(worn(p, np.random.default_rng([1, k])) if wear else p) for k, p in case.pictures.items()}
    figures, wanted, weights = [], [], []
    for pair in case.pairs[::every]:
        evidence = gather(described[pair.i], described[pair.j])
        if isinstance(evidence, str):
            continue
        for way, fate in zip(evidence.figures, (pair.fate_ab, pair.fate_ba), strict=True):
            shares, known = at_lattice(fate)
            figures.append(way.astype(np.float16))
            wanted.append(shares)
            weights.append(known / known.sum())
    print(f"{name}: {len(figures) // 2} of {len(case.pairs[::every])} pairs", flush=True)
    return name, np.concatenate(figures), np.concatenate(wanted), np.concatenate(weights)


def at_lattice(fate: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of the four points around each lattice point: shares of shared, occluded, outside among the known, and the known share."""
    each = GRID // LATTICE
    fate = fate.reshape(LATTICE, each, LATTICE, each).swapaxes(1, 2).reshape(LATTICE * LATTICE, each * each)
    known = (fate != UNKNOWN).sum(1)
    shares = np.stack([(fate == label).sum(1) for label in CLASSES], axis=1) / np.maximum(known, 1)[:, None]
    return shares.astype(np.float32), (known / each**2).astype(np.float32)


def fit(figures: np.ndarray, wanted: np.ndarray, weights: np.ndarray) -> list[np.ndarray]:
    """Weights and biases of the layers by Adam, the figures' mean and spread folded into the first."""
    rng = np.random.default_rng(0)
    mean, spread = figures.mean(0), figures.std(0) + 1e-6
    sizes = (figures.shape[1], *HIDDEN, wanted.shape[1])
    layers = [p for a, b in pairwise(sizes) for p in (rng.normal(0, np.sqrt(2 / a), (a, b)), np.zeros(b))]
    layers = [p.astype(np.float32) for p in layers]
    layers[-2] *= 0.1
    moments, step = [[np.zeros_like(p), np.zeros_like(p)] for p in layers], 0
    num_steps = EPOCHS * (len(figures) // BATCH)
    for _ in range(EPOCHS):
        order = rng.permutation(len(figures))
        for start in range(0, len(figures) // BATCH * BATCH, BATCH):
            some, step = order[start : start + BATCH], step + 1
            slopes = gradients(layers, (figures[some] - mean) / spread, wanted[some], weights[some])
            rate = RATE * 0.5 * (1 + np.cos(np.pi * step / num_steps)) + 1e-5
            for p, slope, (first, second) in zip(layers, slopes, moments, strict=True):
                slope += 1e-5 * p
                first += 0.1 * (slope - first)
                second += 0.001 * (slope * slope - second)
                p -= rate * first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
    layers[1] -= (mean / spread) @ layers[0]
    layers[0] /= spread[:, None]
    return layers


def gradients(layers: list[np.ndarray], figures: np.ndarray, wanted: np.ndarray, weights: np.ndarray) -> list[np.ndarray]:
    """Of the weighted cross entropy."""
    hidden = [figures]
    for k in range(0, len(layers) - 2, 2):
        hidden.append(np.maximum(hidden[-1] @ layers[k] + layers[k + 1], 0))
    logits = hidden[-1] @ layers[-2] + layers[-1]
    chances = np.exp(logits - logits.max(1, keepdims=True))
    slope = (chances / chances.sum(1, keepdims=True) - wanted) * (weights / weights.sum())[:, None]
    slopes: list[np.ndarray] = []
    for k in range(len(layers) - 2, -1, -2):
        slopes = [hidden[k // 2].T @ slope, slope.sum(0), *slopes]
        slope = (slope @ layers[k].T) * (hidden[k // 2] > 0)
    return slopes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(covisibility.__file__).with_suffix(".npz"))
    parser.add_argument("--samples", type=Path, help="keep the samples in this file, or take them from it")
    given = parser.parse_args()
    if given.samples is None or not given.samples.exists():
        jobs = [("kitchen video, first half", partial(kitchen_case, "first"), False, 2)]
        jobs += [(f"flat {seed}", partial(flat_case, seed), True, 1) for seed in range(NUM_FLATS)]
        jobs += [
            (f"{name}, {'worn' if wear else 'clean'}", partial(room_case, name), wear, 1)
            for name in SCENES
            for wear in (True, False)
        ]
        jobs += [("warped photos", warps, True, 1), ("unrelated", strangers, True, 1)]
        with Pool(2) as pool:
            found = list(pool.imap_unordered(samples, jobs, chunksize=1))
        found.sort(key=lambda part: part[0])
        figures, wanted, weights = (np.concatenate([part[k] for part in found]) for k in (1, 2, 3))
        if given.samples is not None:
            np.savez(given.samples, figures=figures, wanted=wanted, weights=weights)
    else:
        stored = np.load(given.samples)
        figures, wanted, weights = stored["figures"], stored["wanted"], stored["weights"]
    known = weights > 0
    layers = fit(figures[known].astype(np.float32), wanted[known], weights[known] / weights[known].mean())
    names = [f"{kind}{k}" for k in range(len(layers) // 2) for kind in ("weight", "bias")]
    np.savez(given.out, **dict(zip(names, layers, strict=True)))  # pyright: ignore
    print(f"{known.sum():,} points: {given.out}")


if __name__ == "__main__":
    main()
