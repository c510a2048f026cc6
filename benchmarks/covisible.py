"""Claim: covisibility by looking a point up in the other view's depth reads as CroCo's rule, a point of the other view within 5 cm.

Views of the recipe `multiview_habitat` at 256 px. CroCo's rule over all 65,536 points of the other view, for the 56 x 56 of
this one that twoview looks at; the smaller direction of both.

    .venv/bin/python benchmarks/covisible.py [SCENE.glb ...]
"""

import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from footage import DATA
from known import loaded
from scipy.spatial import cKDTree

from twoview.curation.truth import Truth
from twoview.demo import write_flat
from twoview.recipes import multiview_habitat
from twoview.schema import Geometry

NUM_PAIRS, NEAR_M = 150, 0.05


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_flat(Path(folder) / "flat.glb")
        given = [Path(arg) for arg in sys.argv[1:]]
        real = DATA / "scene_apartment/apartment.glb"
        for path in given or [Path(folder) / "flat.glb", *[real] * real.exists()]:
            compare(path)


def compare(path: Path) -> None:
    scene = loaded(path, replace(multiview_habitat().source, samples=NUM_PAIRS))
    truth, ours, theirs, seconds = Truth(), [], [], [0.0, 0.0]
    for k in range(NUM_PAIRS):
        a, b = scene[2 * k].geometry, scene[2 * k + 1].geometry
        started = time.perf_counter()
        share = truth.measure(a, b).overlap
        seconds[0] += time.perf_counter() - started
        started = time.perf_counter()
        near = min(nearest(a, b), nearest(b, a))
        seconds[1] += time.perf_counter() - started
        ours.append(np.nan if share is None else share)
        theirs.append(near)
    off = np.array(ours) - theirs
    kept = [sum(share >= 0.5 for share in shares) for shares in (ours, theirs)]
    same = sum((a >= 0.5) == (b >= 0.5) for a, b in zip(ours, theirs, strict=True))
    print(f"{path.name}: {NUM_PAIRS} pairs, mean difference {np.nanmean(off):+.3f}, mean absolute {np.nanmean(np.abs(off)):.3f}")
    print(
        f"  at least 0.5: {kept[0]} by depth, {kept[1]} by CroCo's rule, {same} alike; {1e3 * seconds[0] / NUM_PAIRS:.1f} and ",
        end="",
    )
    print(f"{1e3 * seconds[1] / NUM_PAIRS:.1f} ms a pair")


def nearest(a: Geometry, b: Geometry) -> float:
    """Share of a's points that have one of b's within 5 cm."""
    at = np.rint((np.arange(56) + 0.5) * 256 / 56 - 0.5).astype(int)
    some, every = world(a, *np.meshgrid(at, at)), world(b, *np.meshgrid(np.arange(256), np.arange(256)))
    return float(np.isfinite(cKDTree(every).query(some, distance_upper_bound=NEAR_M)[0]).mean())


def world(view: Geometry, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    depth = view.depth_m[y, x].astype(float).ravel()
    fx, fy, cx, cy = view.intrinsics
    points = np.stack([(x.ravel() - cx) / fx * depth, (y.ravel() - cy) / fy * depth, depth], axis=1)[depth > 0]
    return points @ view.pose[:3, :3].T + view.pose[:3, 3]


if __name__ == "__main__":
    main()
