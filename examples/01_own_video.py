"""Pairs from a video of your own, and what one of them looks like to a training loop.

python examples/01_own_video.py holiday.mp4 pairs
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

import twoview
from twoview.curation.crew import Crew
from twoview.curation.engine import prepare, run
from twoview.curation.propose import EverySeconds
from twoview.errors import TwoviewError
from twoview.recipes import paper


def main(video: Path, out: Path) -> None:
    # A recipe is a plain configuration: change what you like. Run it again and it goes on where it stopped.
    config = replace(paper(), propose=EverySeconds(seconds=0.5), overlap=(0.5, 0.7), store=(0.4, 0.8))
    with Crew(2) as crew:
        run(prepare(config.source([video], None), config, out), crew)

    pairs = twoview.open(out)
    print(pairs)
    for pair in pairs:
        print(f"{pair.row.pair_id}  overlap {pair.row.overlap:.2f}  {pair.row.num_inliers} inliers  scale {pair.row.scale:.2f}")
    if not pairs:
        return

    # patches[0][i] is the patch of b that shows what patch i of a shows, or negative where b does not show it.
    pair = pairs[0]
    own = np.flatnonzero(pair.patches[0] >= 0)
    a, b = (patches(image, pair.row.patch_grid) for image in (pair.a, pair.b))
    there = np.abs(a[own] - b[pair.patches[0][own]]).mean()
    elsewhere = np.abs(a[own] - np.roll(b, 50, axis=0)[own]).mean()
    print(f"{len(own)} of {len(a)} patches of a are seen in b; grey levels apart: {there:.0f}, from other patches {elsewhere:.0f}")


def patches(image: np.ndarray, grid: list[int]) -> np.ndarray:
    """The mean colour of each patch, row by row."""
    rows = np.array_split(image.astype(float), grid[0])
    return np.array([part.mean((0, 1)) for row in rows for part in np.array_split(row, grid[1], axis=1)])


if __name__ == "__main__":  # workers start afresh and import this file
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except TwoviewError as error:  # what it says is one line: what, where, and what to do
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
