"""Claim: walks through 3D scenes are curated at least 10 times as fast as by a plain loop; and the renderers' frames a second.

The plain loop renders the 24 views of a sample, then measures every one of its 128 candidates by tests/reference/oracle.py,
with nothing shared between them, and keeps the one of lowest overlap in the band. twoview is the recipe `walk`. CPU seconds of
one thread, the same samples, in turn; reading the scene is counted on neither side.

    .venv/bin/python benchmarks/walks.py [SCENE.glb ...]

Default: the demo's flat, and two of ../shared/data where they are there.
"""

import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # as in curate's workers

import cv2
import numpy as np
from footage import DATA

from twoview.curation.curate import OpenScene, pairs_of
from twoview.curation.verdicts import sharpness
from twoview.demo import write_flat
from twoview.plan import Slice
from twoview.recipes import walk
from twoview.render.gl import Gl
from twoview.render.load import load_mesh
from twoview.render.ray import Ray
from twoview.sources.scene import Walk, Walks

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "reference"))
import oracle

SAMPLES, TARGET = 8, 10.0


def main() -> None:
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        write_flat(Path(folder) / "flat.glb")
        real = [DATA / "scene_apartment/apartment.glb", DATA / "scene_vr_gallery/vr-gallery.glb"]
        given = [Path(arg) for arg in sys.argv[1:]]
        for path in given or [Path(folder) / "flat.glb", *(p for p in real if p.exists())]:
            print(f"{path.name}, {load_mesh(path).num_triangles:,} triangles")
            frame_rates(path)
            whole_walks(path)


def frame_rates(path: Path) -> None:
    """Of both renderers at 256 px, on views of a walk, in turn; wall time, picture and depth read back."""
    mesh = load_mesh(path)
    scene = Walk(path, Walks(min_island_radius_m=0.0, samples=8))
    scene.load()
    camera = replace(scene.camera, width_px=256, height_px=256, hfov_deg=90)
    seconds: dict[Gl | Ray, list[float]] = {Gl(mesh): [], Ray(mesh): []}
    for station in range(0, len(scene), 8):
        for renderer, spent in seconds.items():
            renderer.render(scene.pose(station), camera)
            started = time.perf_counter()
            for view in range(station, station + 8):
                renderer.render(scene.pose(view), camera)
            spent.append((time.perf_counter() - started) / 8)
    for renderer, spent in seconds.items():
        rates = [1 / s for s in (np.median(spent), max(spent), min(spent))]
        print("  {}: {:.0f} frames a second ({:.0f} to {:.0f})".format(renderer.name, *rates))


def whole_walks(path: Path) -> None:
    config = replace(walk(), source=Walks(samples=SAMPLES, min_island_radius_m=0.0))
    scene = Walk(path, config.source)
    opened, views = OpenScene(scene, config), len(scene) // SAMPLES
    kept, literal_kept, spent, literal_spent = 0, 0, [], []
    for sample in range(SAMPLES):
        first = sample * views
        started = time.process_time()
        kept += sum(pair.kept for pair in pairs_of(opened, whole_sample(path, first, first + views), config))
        spent.append(time.process_time() - started)
        started = time.process_time()
        literal_kept += literally(scene, first)
        literal_spent.append(time.process_time() - started)
    ratios = [a / b for a, b in zip(literal_spent, spent, strict=True)]
    ratio = sum(literal_spent) / sum(spent)
    print(f"  {SAMPLES} samples: literal {sum(literal_spent):.1f} s, {literal_kept} kept; twoview {sum(spent):.2f} s, {kept} kept")
    print(f"  {60 * kept / sum(spent):.0f} pairs a CPU minute; {ratio:.1f} times as fast ({min(ratios):.1f} to {max(ratios):.1f})")
    print(f"  target {TARGET:g}: {'met' if ratio >= TARGET else 'MISSED'}")


def whole_sample(path: Path, start: int, stop: int) -> Slice:
    counts = {"num_frames": 0, "num_candidates": SAMPLES, "num_pairs": 0, "size_bytes": 0}
    words = {"source": "scene", "scene": path.name, "kind": "scene", "fingerprint": "", "licence": None, "error": ""}
    return Slice(part=0, start=start, stop=stop, **counts, **words)


def literally(scene: Walk, first: int) -> bool:
    """Whether the plain loop finds a pair among A x B and A x C."""
    images = [scene.render(first + k).image for k in range(24)]
    best = None
    for i in range(8):
        for j in range(8, 24):
            try:
                share = oracle.measure(images[i], images[j])
            except np.linalg.LinAlgError:  # the published code dies here
                continue
            if share is not None and 0.5 <= share <= 0.7 and min(sharpness(images[i]), sharpness(images[j])) >= 1000:
                best = share if best is None else min(best, share)
    return best is not None


if __name__ == "__main__":
    main()
