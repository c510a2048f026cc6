"""Claim: the whole of `curate` costs at most 1.4 times what cannot be left out: decode, resize, SIFT, matches.

The floor decodes every frame and, of each frame that is measured, converts to RGB, crops, resizes, turns grey and runs SIFT
once, then matches neighbours by brute force: no JPEG, no homography, no vote, no file. Both sides in one process, one thread, on
the same video, in turn; medians of CPU time, imports apart. "all stored" is the same with `--overlap 0:1`: every matched pair is
written, where in the paper's band hardly one of these is. Then what each stage of that takes.

    .venv/bin/python benchmarks/floor.py
"""

import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # as in curate's workers

import av
import cv2
import numpy as np
from footage import KITCHEN, copy, encode, frames, need

import twoview.curation.curate as curate
import twoview.curation.homography as homography
import twoview.curation.opened as opened
import twoview.curation.views as views
import twoview.sources.video as video
from twoview import recipes
from twoview.curation.engine import prepare, run
from twoview.curation.propose import Consecutive
from twoview.shards import ShardWriter, read_manifest
from twoview.sources import find_footage

STEP, REPEATS, TARGET = 2, 3, 1.4


def floor(path: Path) -> None:
    matcher, detector = cv2.BFMatcher(cv2.NORM_L2), cv2.SIFT.create()
    before = None
    with av.open(str(path)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        for i, frame in enumerate(container.decode(video=0)):
            if i % STEP:
                continue
            image = frame.to_ndarray(format="rgb24")
            height, width = image.shape[:2]
            side = min(height, width)
            x, y = (width - side) // 2, (height - side) // 2
            small = cv2.resize(image[y : y + side, x : x + side], (256, 256), interpolation=cv2.INTER_AREA)
            descriptors = detector.detectAndCompute(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), None)[1]
            if before is not None:
                matcher.knnMatch(before, descriptors, k=2)
            before = descriptors


def whole(path: Path, out: Path, overlap: tuple[float, float] = (0.5, 0.7)) -> None:
    """What `twoview curate` does after its imports, by one worker."""
    run(prepare(find_footage([path]), replace(recipes.paper(), propose=Consecutive(step=STEP), overlap=overlap), out))


def cpu_s(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


# ------------------------------------------------------------------------------------------------------- stage by stage

STAGES = (
    ("decode", video.Video, "_forward"),
    ("to RGB", video, "to_rgb"),
    ("crop, resize", views, "picture"),
    ("jpeg encode", cv2, "imencode"),
    ("jpeg decode", cv2, "imdecode"),
    ("sift", homography, "sift"),
    ("match", homography, "ratio_matches"),
    ("ransac", cv2, "findHomography"),
    ("vote", homography, "lattice_patches"),
    ("verdicts", curate, "verdicts_of"),
    ("sharpness", opened, "sharpness"),
    ("phash", opened, "perceptual_hash"),
    ("row", curate, "row_of"),
    ("write", ShardWriter, "write_sample"),
    ("write", ShardWriter, "write_row"),
    ("write", ShardWriter, "_finish"),
)


def by_stage(path: Path, out: Path) -> dict[str, float]:
    """CPU seconds of each stage, without what other stages take inside it; `other` is the rest, plan and all."""
    seconds: dict[str, float] = defaultdict(float)
    inside = [0.0]  # seconds that stages have taken inside each stage that is under way

    def timed(label: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            inside.append(0.0)
            started = time.process_time()
            try:
                return call(*args, **kwargs)
            finally:
                taken = time.process_time() - started
                seconds[label] += taken - inside.pop()
                inside[-1] += taken

        return wrapper

    originals = [(owner, name, getattr(owner, name)) for _, owner, name in STAGES]
    for label, owner, name in STAGES:
        setattr(owner, name, timed(label, getattr(owner, name)))
    try:
        seconds["other"] = cpu_s(lambda: whole(path, out, (0, 1))) - inside[0]
    finally:
        for owner, name, call in originals:
            setattr(owner, name, call)
    return seconds


def videos(folder: Path) -> dict[str, Path]:
    """The kitchen by resolution."""
    made = {}
    for name, size, num in (("640x480", None, 400), ("1080p", (1920, 1080), 120), ("4K", (3840, 2160), 60)):
        path = folder / f"{name}.mp4"
        if size is None:
            copy(path, need(KITCHEN), num=num)
        else:
            encode(path, (np.ascontiguousarray(f[60:420]) for f in frames(KITCHEN, num)), size)  # 16:9
        made[name] = path
    return made


def main() -> None:
    cv2.setNumThreads(1)
    need(KITCHEN)
    stages, pairs, ratios = {}, {}, {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        whole(copy(folder / "warm.mp4", KITCHEN, num=20), folder / "warm")
        print(f"CPU seconds, frames {STEP} apart, {REPEATS} repeats in turn\n")
        print(f"{'':10}{'floor':>8}{'curate':>8}{'ratio':>7}{'range':>15}{'all stored':>13}{'ratio':>7}{'range':>15}")
        for name, path in videos(folder).items():
            taken = []
            for k in range(REPEATS):
                out, stored = folder / f"{name}-{k}", folder / f"{name}-{k}-stored"
                works = partial(floor, path), partial(whole, path, out), partial(whole, path, stored, (0, 1))
                taken.append([cpu_s(work) for work in works])
            columns = np.array(taken).T
            ratios[name] = median(columns[1] / columns[0])
            words = f"{name:10}{median(columns[0]):8.2f}"
            for column, width in ((columns[1], 8), (columns[2], 13)):
                each = column / columns[0]
                words += f"{median(column):{width}.2f}{median(each):7.2f}{f'{each.min():.2f} to {each.max():.2f}':>15}"
            print(words, flush=True)
            stages[name] = by_stage(path, folder / f"{name}-stages")
            written = read_manifest(folder / f"{name}-stages", columns=["stored"])["stored"].to_pylist()
            pairs[name] = len(written), sum(written)
    worst = max(ratios.values())
    print(f"\nratio {worst:.2f} at worst, target {TARGET:g}: {'met' if worst <= TARGET else 'MISSED'}")
    print("\nall stored: milliseconds a pair of each stage\n" + " " * 14 + "".join(f"{name:>10}" for name in stages))
    for label in dict.fromkeys([*(label for label, *_ in STAGES), "other"]):
        print(f"{label:14}" + "".join(f"{1000 * stages[name][label] / pairs[name][0]:10.2f}" for name in stages))
    print(f"{'stored, of':14}" + "".join(f"{f'{stored}, {num}':>10}" for num, stored in pairs.values()))


if __name__ == "__main__":
    main()
