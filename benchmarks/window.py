"""Claim: best_of_window measures at least 20 times as many pairs a second as the literal way, each frame described once.

The literal way is tests/reference/oracle.py over all 100 candidates of each window, with nothing shared between two pairs; its
pictures are decoded beforehand, 224 px, and that is not counted. twoview's side is a part of `curate` in one process, from the
video to the shard: decoding, cropping, JPEG, SIFT, matching, voting, manifest and tar, at the 256 px that are stored. CPU time,
both sides in turn.

    .venv/bin/python benchmarks/window.py
"""

import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # as in curate's workers

import cv2
from footage import KITCHEN, frames, need

from twoview.curation.curate import OpenScene, curate_part, picture
from twoview.plan import make_plan
from twoview.recipes import best_of_window
from twoview.schema import iter_groups
from twoview.sources import find_footage

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "reference"))
import oracle

WINDOWS, TARGET = (1, 0, 4, 8, 12, 15), 20.0
"""Numbers of the windows that are compared, spread over the video; the first warms up and is not counted."""


def main() -> None:
    cv2.setNumThreads(1)
    config, footage = best_of_window(), find_footage([need(KITCHEN)])
    name = footage.names()[0]
    groups = list(iter_groups(config.propose(footage.open(name))))
    whole = make_plan(footage, config.propose, config.sha256, config.size).slices[0]
    pictures = [picture(image, "centre", oracle.SIDE_PX)[0] for image in frames(KITCHEN)]
    ratios, slow_ms, fast_ms = [], [], []
    for number in WINDOWS:
        pairs = groups[number].pairs
        started = time.process_time()
        literal = [oracle.measure(pictures[i], pictures[j]) for i, j in pairs]
        slow = time.process_time() - started
        scene = OpenScene(footage.open(name), config)
        first = pairs[0][0]
        scene.scene[first]  # the way to a window in the middle of a video is not its own
        piece = type(whole)(**{**vars(whole), "start": first, "stop": first + 1})
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder)
            for kind in ("shards", "scenes", "manifest"):
                (out / kind).mkdir()
            kept: list[float] = []
            started = time.process_time()
            curate_part(
                out,
                [piece],
                lambda _, scene=scene: scene,
                footage,
                config,
                lambda pair, kept=kept: kept.append(pair.match.overlap) if pair.kept else None,
            )
            fast = time.process_time() - started
        views = len({i for pair in pairs for i in pair})
        assert scene.num_described == views == 20, scene.num_described
        admissible = [o for o in literal if o is not None and 0.5 <= o <= 0.7]
        lowest = f"{min(admissible):.2f}" if admissible else "none"
        if number == WINDOWS[0]:
            continue
        ratios.append(slow / fast)
        slow_ms.append(1000 * slow / len(pairs))
        fast_ms.append(1000 * fast / len(pairs))
        print(
            f"window {number:2}: {len(pairs)} pairs of {views} views, each described once; literal {slow_ms[-1]:6.1f} ms a pair, "
            f"twoview {fast_ms[-1]:5.2f}, {ratios[-1]:5.1f} times; lowest in the band: literal {lowest}, "
            f"twoview {f'{kept[0]:.2f}' if kept else 'none'}"
        )
    total = sum(slow_ms) / sum(fast_ms)
    print(f"\nover all windows {total:.1f} times (median of windows {median(ratios):.1f}), target {TARGET:g}: ", end="")
    print("met" if total >= TARGET else "MISSED")


if __name__ == "__main__":
    main()
