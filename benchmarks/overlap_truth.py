"""Claim: `covisibility` reads what two pictures really share; the homography does not.

Every estimator beside the truth by depth and pose: all pairs of the 100 frames with depth of the second half of the kitchen video,
and pairs of three scenes that no fit and no threshold saw. "of all": an estimator that finds nothing reads 0. Intervals are 95 %
of a block bootstrap: stretches of ten frames with depth of the video, pairs of neighbouring walks. Then a table of extremes.

    .venv/bin/python benchmarks/overlap_truth.py [--tuning] [--as-distributed] [--check-registration] [--extremes]

--tuning: on what the fit has seen. --as-distributed: the video's depth as if it were the colour camera's, which it is not.
"""

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # milliseconds of one core

import argparse
import tempfile
import time
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import cv2
import known
import numpy as np
from extremes import extremes, worn
from footage import KITCHEN, need
from known import Case, case_of, kitchen_case, scene_path, walk_case

from twoview.curation.covisibility import Covisibility
from twoview.curation.epipolar import relate
from twoview.curation.features import sift
from twoview.curation.homography import Paper, Released
from twoview.curation.truth import Truth
from twoview.demo import write_flat
from twoview.schema import Estimator, Geometry
from twoview.sources.rgbd import RgbdFolders

BAND, WIDE, FAR = (0.5, 0.7), (0.45, 0.75), 0.3
NUM_SCENE_PAIRS, NUM_RESAMPLES = 600, 1000


@dataclass(frozen=True, kw_only=True, eq=False)
class Read:
    """What an estimator says of the pairs of a case."""

    true: np.ndarray
    read: np.ndarray
    """NaN where nothing was found."""
    block: np.ndarray
    ms: float
    describe_ms: float


def estimators() -> list[Estimator]:
    return [Paper(), Released(), Covisibility()]


def read(case: Case, estimator: Estimator) -> Read:
    started = time.process_time()
    described = {k: estimator.describe(picture) for k, picture in case.pictures.items()}
    describe_s, started = time.process_time() - started, time.process_time()
    matches = [estimator.measure(described[p.i], described[p.j]) for p in case.pairs]
    measure_s = time.process_time() - started
    return Read(
        true=np.array([p.overlap for p in case.pairs]),
        read=np.array([np.nan if m.overlap is None else m.overlap for m in matches]),
        block=np.array([p.i // 10 for p in case.pairs]),
        ms=1e3 * measure_s / len(case.pairs),
        describe_ms=1e3 * describe_s / len(described),
    )


def inside(values: np.ndarray, band: tuple[float, float]) -> np.ndarray:
    return (values >= band[0]) & (values <= band[1])


def figures(true: np.ndarray, seen: np.ndarray) -> dict[str, float]:
    found, kept, band = np.isfinite(seen), inside(np.nan_to_num(seen), BAND), inside(true, BAND)
    error, all_error = (seen - true)[found], np.nan_to_num(seen) - true

    def mean(values: np.ndarray) -> float:
        return float(values.mean()) if len(values) else float("nan")

    return {
        "found": mean(found),
        "error of all": mean(np.abs(all_error)),
        "bias of all": mean(all_error),
        "error of found": mean(np.abs(error)),
        "bias of found": mean(error),
        "error, true > 0.3": mean(np.abs(error[true[found] > FAR])),
        "bias, true > 0.3": mean(error[true[found] > FAR]),
        "kept": float(kept.sum()),
        "kept in 0.45-0.75": mean(inside(true, WIDE)[kept]),
        "kept below 0.3": mean((true < FAR)[kept]),
        "recall of 0.5-0.7": mean(kept[band]),
    }


def report(cases: list[Case]) -> None:
    rulers = estimators()
    print("Truth by depth and pose. 95 % intervals in brackets.")
    for case in cases:
        tables = [read(case, e) for e in rulers]
        true = tables[0].true
        counts = [int(inside(true, b).sum()) for b in (BAND, WIDE)]
        print(f"\n{case.name}: {len(true):,} pairs, {counts[0]} of them truly in 0.5-0.7, {counts[1]} in 0.45-0.75, ", end="")
        print(f"{(true < FAR).sum():,} below 0.3")
        print(f"{'':20}" + "".join(f"{e.name:>28}" for e in rulers))
        intervals = [interval(t) for t in tables]
        for name in figures(true, tables[0].read):
            cells = [cell(name, figures(t.true, t.read)[name], bounds[name]) for t, bounds in zip(tables, intervals, strict=True)]
            print(f"{name:20}" + "".join(f"{c:>28}" for c in cells))
        shared = np.all([np.isfinite(t.read) for t in tables], axis=0)
        errors = [np.abs(t.read - true)[shared].mean() for t in tables]
        print(f"{f'error, all find {shared.sum()}':20}" + "".join(f"{error:28.3f}" for error in errors))
        print(f"{'ms a pair':20}" + "".join(f"{t.ms:28.1f}" for t in tables))
        print(f"{'ms a picture':20}" + "".join(f"{t.describe_ms:28.1f}" for t in tables), flush=True)


def interval(table: Read) -> dict[str, tuple[float, float]]:
    rng, blocks = np.random.default_rng(0), np.unique(table.block)
    rows = {b: np.flatnonzero(table.block == b) for b in blocks}
    drawn = [np.concatenate([rows[b] for b in rng.choice(blocks, len(blocks))]) for _ in range(NUM_RESAMPLES)]
    some = [figures(table.true[k], table.read[k]) for k in drawn]
    return {name: tuple(np.nanpercentile([f[name] for f in some], (2.5, 97.5))) for name in some[0]}  # pyright: ignore


def cell(name: str, value: float, bounds: tuple[float, float]) -> str:
    form = ".0f" if name == "kept" else "+.3f" if name.startswith("bias") else ".3f"
    return f"{value:{form}} [{bounds[0]:{form}}, {bounds[1]:{form}}]"


def table_of_extremes() -> None:
    rulers = estimators()
    print("\nExtremes, through H.264 with noise: mean of what is read (not found: 0), and of how many pairs something is found")
    print(f"{'':50}{'truth':>8}" + "".join(f"{e.name:>22}" for e in rulers))
    for name, pairs in extremes():
        true, seen = [], [[] for _ in rulers]
        for k, (a, b, given) in enumerate(pairs):
            true.append(Truth().measure(a[1], b[1]).overlap if given is None else given)
            pictures = worn(a[0], 2 * k), worn(b[0], 2 * k + 1)
            for values, e in zip(seen, rulers, strict=True):
                values.append(e.measure(*(e.describe(p) for p in pictures)).overlap)
        cells = [
            f"{np.mean([v or 0 for v in values]):.2f} ({sum(v is not None for v in values)} of {len(values)})" for values in seen
        ]
        print(f"{name:50}{np.mean(true):8.2f}" + "".join(f"{c:>22}" for c in cells), flush=True)


def as_distributed(half: str) -> Case:
    """The centre crops of the video with the depth camera's intrinsics for both cameras."""
    source = RgbdFolders()([need(KITCHEN).parent])
    video = source.open(source.names()[0])
    first = {"first": 0, "second": 100}[half]
    return case_of(
        f"kitchen video as distributed, {half} half", lambda k: video[k], list(combinations(range(first, first + 100), 2))
    )


def check_registration(half: str) -> None:
    """How far matched keypoints of the pictures lie from where depth and pose put them, with and without the registration."""
    for name, case in (("as distributed", as_distributed(half)), ("registered", kitchen_case(half))):
        features = {k: sift(p) for k, p in case.pictures.items()}
        off = []
        for pair in [p for p in case.pairs if 0.6 < p.overlap < 0.9][::5]:
            relation = relate(features[pair.i], features[pair.j])
            assert pair.geometry is not None
            if relation is not None:
                off.append(reprojected(relation.points * known.SIZE - 0.5, *pair.geometry))
        print(f"{half} half, depth {name}: {np.nanmedian(np.concatenate(off)):.2f} px of 256 in the median of {len(off)} pairs")


def reprojected(points: np.ndarray, a: Geometry, b: Geometry) -> np.ndarray:
    """Distance in px of matched points of b from where a's depth puts them."""
    column, row = np.rint(points[:, :2]).astype(int).clip(0, known.SIZE - 1).T
    depth = np.where(a.depth_m[row, column] > 0, a.depth_m[row, column], np.nan).astype(float)
    fx, fy, cx, cy = a.intrinsics
    rays = np.stack([(points[:, 0] - cx) / fx, (points[:, 1] - cy) / fy, np.ones(len(points)), 1 / depth], axis=1) * depth[:, None]
    x, y, z, _ = np.linalg.inv(b.pose) @ a.pose @ rays.T
    fx, fy, cx, cy = b.intrinsics
    return np.hypot(x / z * fx + cx - points[:, 2], y / z * fy + cy - points[:, 3])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag in ("--tuning", "--as-distributed", "--check-registration", "--extremes"):
        parser.add_argument(flag, action="store_true")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    half, scenes, seed = (
        ("first", ("kitchen", "cube room", "garage"), 5) if given.tuning else ("second", ("apartment", "gallery"), 101)
    )
    if given.check_registration:
        check_registration(half)
    elif given.extremes:
        table_of_extremes()
    elif given.as_distributed:
        report([as_distributed(half)])
    else:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "flat.glb"
            write_flat(path, seed)
            flat = walk_case(f"flat {seed}", path, NUM_SCENE_PAIRS)
        report([kitchen_case(half), *(walk_case(name, scene_path(name), NUM_SCENE_PAIRS) for name in scenes), flat])
        table_of_extremes()


if __name__ == "__main__":
    main()
