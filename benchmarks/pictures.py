"""The pictures in docs/concepts.md: a made pair for each verdict, what is shared of it, and what the pictures say of themselves.

.venv/bin/python benchmarks/pictures.py
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from extremes import extremes, worn
from known import loaded

from twoview.curation.covisibility import Covisibility
from twoview.curation.features import sift
from twoview.curation.measure import drawing
from twoview.curation.verdicts import verdicts_of
from twoview.demo import write_flat
from twoview.sources.scene import Walks

OUT = Path(__file__).parents[1] / "docs" / "verdicts.jpg"
SIDE = 200
ROWS = {
    "rolled by 15 degrees": "a camera that only turned",
    "zoom 1.3": "a zoom",
    "an object moves in a still picture": "a still camera, something moves",
    "pure shift, 69% shared": "a wall from two places",
    "a facade that repeats, by half its width": "windows that are all alike",
}


def pairs() -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "flat.glb"
        write_flat(path)
        walk = loaded(path, Walks(walk="pairs", samples=30, hfov_deg=65.0))
        views = [walk[k].image for k in range(60)]
    estimator = Covisibility()
    for k in range(30):
        a, b = views[2 * k], views[2 * k + 1]
        match = estimator.measure(estimator.describe(a), estimator.describe(b))
        if match.overlap is not None and 0.5 <= match.overlap <= 0.7 and verdicts_of(a, b, sift(a), sift(b)).motion == "general":
            yield "two places in a room", a, b
            break
    for name, row in extremes(seed=0):
        if name in ROWS:
            yield ROWS[name], worn(row[0][0][0], 0), worn(row[0][1][0], 1)
    pan, logo = [views[2 * k] for k in (3, 9)], np.zeros((256, 256, 3), np.uint8)
    yield "a cut", *pan
    a, b = (views[2 * k + n].copy() for n in (0, 1))
    cv2.putText(logo, "TV", (8, 246), cv2.FONT_HERSHEY_SIMPLEX, 2.0, (255, 255, 255), 5, cv2.LINE_AA)
    for picture in (a, b):
        picture[logo > 0] = logo[logo > 0]
        picture[:24] = 0
    yield "a bar above, a logo below: they do not vote", a, b


def row(words: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Both pictures, their patch maps, and what is said of them."""
    estimator = Covisibility()
    match = estimator.measure(estimator.describe(a), estimator.describe(b))
    said = verdicts_of(a, b, sift(a), sift(b))
    maps = drawing(a, b, match)[-448:]
    pictures = [cv2.resize(p, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for p in (a, b, maps[:, :448], maps[:, 448:])]
    overlap = f"overlap {match.overlap:.2f}" if match.overlap is not None else f"not found: {match.failure}"
    parallax = "" if said.parallax_px is None else f", parallax {said.parallax_px:.1f} px"
    more = [f"moving {said.moving or 0:.0%}"] * bool((said.moving or 0) > 0.02)
    more += ["repeated"] * said.repeated + ["cut"] * said.cut
    more += [f"left out {said.excluded_a:.0%}"] * (said.excluded_a > 0.02)
    strip = np.full((26, 4 * SIDE, 3), 24, np.uint8)
    line = "; ".join([words, overlap, f"motion {said.motion}{parallax}", *more])
    cv2.putText(strip, line, (6, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.43, (235, 235, 235), 1, cv2.LINE_AA)
    return np.vstack([strip, np.hstack(pictures)])


if __name__ == "__main__":
    sheet = np.vstack([row(*pair) for pair in pairs()])
    cv2.imwrite(str(OUT), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 80])
    print(f"{OUT}: {OUT.stat().st_size / 1e3:.0f} kB")
