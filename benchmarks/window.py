"""Claim: best_of_window measures at least 20 times as many pairs a second as the literal way, each frame described once.

The literal way is tests/reference/oracle.py over all 100 candidates of a window, with nothing shared between two pairs; its
pictures are decoded beforehand, 224 px, and that is not counted. twoview's side is a part of `curate` in one process, from the
video to the shard: decoding, cropping, JPEG, SIFT, matching, voting, manifest and tar. At 224 px it looks at the same pixels; 256
is what it stores by default. CPU time of one thread, the sides in turn: after each 20 pairs of the literal way the whole window in
both sizes.

    .venv/bin/python benchmarks/window.py
"""

import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import mean

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # as in curate's workers

import cv2
from footage import KITCHEN, frames, need

from twoview.curation.curate import CurateConfig, OpenScene, curate_part
from twoview.curation.views import picture
from twoview.plan import make_plan
from twoview.recipes import best_of_window
from twoview.schema import iter_groups
from twoview.sources import find_footage

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "reference"))
import oracle

WINDOWS, CHUNK, TARGET = (0, 4, 8, 12, 15), 20, 20.0
"""Numbers of the windows that are compared, spread over the video."""


def window_part(config: CurateConfig, first: int) -> tuple[float, float | None, int]:
    """CPU seconds of curating the window that begins with a frame, the overlap it kept, and frames described."""
    footage = find_footage([KITCHEN])
    name = footage.names()[0]
    whole = make_plan(footage, config).slices[0]
    scene = OpenScene(footage.open(name), config)
    scene.scene[first]  # the way to the middle of a video is not the window's own
    kept: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("shards", "scenes", "manifest"):
            Path(folder, kind).mkdir()
        started = time.process_time()
        curate_part(
            Path(folder),
            [replace(whole, start=first, stop=first + 1)],
            lambda _: scene,
            footage,
            config,
            lambda pair: kept.append(pair.match.overlap) if pair.kept else None,
        )
        seconds = time.process_time() - started
    return seconds, next(iter(kept), None), scene.num_described


def main() -> None:
    cv2.setNumThreads(1)
    need(KITCHEN)
    sizes = {224: best_of_window(), 256: best_of_window()}
    sizes = {px: replace(config, size=px) for px, config in sizes.items()}
    scene = find_footage([KITCHEN])
    groups = list(iter_groups(sizes[256].propose(scene.open(scene.names()[0]))))
    pictures = [picture(image, "centre", oracle.SIDE_PX)[0] for image in frames(KITCHEN)]
    for config in sizes.values():
        window_part(config, 0)  # imports
    totals = dict.fromkeys(("literal", *sizes), 0.0)
    for number in WINDOWS:
        pairs = groups[number].pairs
        literal: list[float | None] = []
        slow, fast, kept = 0.0, {px: [] for px in sizes}, {}
        for k in range(0, len(pairs), CHUNK):
            started = time.process_time()
            literal += [oracle.measure(pictures[i], pictures[j]) for i, j in pairs[k : k + CHUNK]]
            slow += time.process_time() - started
            for px, config in sizes.items():
                seconds, kept[px], num_described = window_part(config, pairs[0][0])
                assert num_described == len({i for pair in pairs for i in pair}) == 20, num_described
                fast[px].append(seconds)
        totals["literal"] += slow
        for px in sizes:
            totals[px] += mean(fast[px])
        admissible = [o for o in literal if o is not None and 0.5 <= o <= 0.7]
        lowest = {"literal": min(admissible, default=None), **kept}
        words = ", ".join(f"{side} {'none' if low is None else f'{low:.2f}'}" for side, low in lowest.items())
        ratios = ", ".join(f"{slow / mean(fast[px]):.1f} times at {px} px" for px in sizes)
        print(
            f"window {number:2}: {len(pairs)} pairs of 20 views, each described once; {ratios}; lowest in the band: {words}",
            flush=True,
        )
    num = 100 * len(WINDOWS)
    print(
        f"\nms a pair: literal {1000 * totals['literal'] / num:.1f}, "
        + ", ".join(f"{px} px {1000 * totals[px] / num:.2f}" for px in sizes)
    )
    for px in sizes:
        print(f"{px} px: {totals['literal'] / totals[px]:.1f} times")
    ratio = totals["literal"] / totals[224]
    print(f"on the same pictures: ratio {ratio:.1f}, target {TARGET:g}: {'met' if ratio >= TARGET else 'MISSED'}")


if __name__ == "__main__":
    main()
