"""A made dataset of 100,000 rows (2,000 scenes, 256 parts, half of the pairs stored): seconds to open, choose, look and check.

Each command is timed as a user starts it, interpreter and imports included; medians of three. Reads no footage.

    .venv/bin/python benchmarks/many.py [NUM_ROWS]
"""

import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from twoview.curation.engine import versions
from twoview.plan import Plan, Slice, write_plan
from twoview.schema import Row
from twoview.shards import SceneRow, ShardWriter, key_of, write_whole

NUM_SCENES, NUM_PARTS = 2_000, 256
FPS, STEP = 30, 30
SOURCES = ("walks", "streets", "objects")


def main() -> None:
    num_rows = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary) / "pairs"
        make(out, num_rows)
        print(f"{num_rows:,} rows, {NUM_SCENES:,} scenes, {NUM_PARTS} parts\n\n| | s |\n|---|---|")
        opening = "import sys, twoview; d = twoview.open(sys.argv[1]); print(len(d), d[0].a.shape, d[-1].row.overlap)"
        timed("`twoview.open`, first and last pair", sys.executable, "-c", opening, out)
        timed("`.manifest()` of all kept", sys.executable, "-c", "import sys, twoview; twoview.open(sys.argv[1]).manifest()", out)
        quota = Path(temporary) / "quota.txt"
        quota.write_text("* 5000\n")
        choice = ("--overlap", "0.55:0.65", "--where", "scale < 1.2 AND rotation_deg < 20", "--quota", quota)
        twoview = (sys.executable, "-m", "twoview")
        timed("`select`: band, SQL, quota", *twoview, "select", out, "--name", "some", *choice)
        timed("`select --dedup`", *twoview, "select", out, "--name", "once", "--dedup")
        against = ("--dedup", "--against", f"{out}@some")
        timed("`select --dedup --against` that selection", *twoview, "select", out, "--name", "apart", *against)
        page = "import sys, pathlib, twoview.report as r; r.write_report(pathlib.Path(sys.argv[1]), *sys.argv[2:])"
        timed("`report.html`", sys.executable, "-c", page, out)
        timed("`report.html` of the selection", sys.executable, "-c", page, out, "some")
        timed("`audit`: every byte hashed, and the page", *twoview, "audit", out)
        print(f"\nThe page has {(out / 'report.html').stat().st_size / 1e6:.2f} MB.")


def timed(name: str, *command: object) -> None:
    took = []
    for _ in range(3):
        start = time.perf_counter()
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
        took.append(time.perf_counter() - start)
        if done.returncode:
            sys.exit(done.stdout[:2000] + done.stderr)
    print(f"| {name} | {statistics.median(took):.2f} |", flush=True)


def make(out: Path, num_rows: int) -> None:
    """What curate would have left: about half of the pairs kept, the rest outside the band."""
    for folder in ("shards", "scenes", "manifest", "locks"):
        (out / folder).mkdir(parents=True)
    config = {"format": 1, "config": {"overlap": [0.5, 0.8]}, "versions": versions()}
    write_whole(out / "config.json", json.dumps(config).encode())
    rng = np.random.default_rng(0)
    jpegs = [
        cv2.imencode(".jpg", cv2.resize(rng.integers(0, 255, (8, 8, 3), np.uint8), (224, 224)))[1].tobytes() for _ in range(32)
    ]
    patches = np.tile(np.arange(196, dtype=np.int16), (2, 1))
    per_scene = num_rows // NUM_SCENES
    slices = []
    for part in range(NUM_PARTS):
        with ShardWriter(out, part) as shard:
            for number in range(NUM_SCENES * part // NUM_PARTS, NUM_SCENES * (part + 1) // NUM_PARTS):
                source, scene = SOURCES[number % 3], f"set/{number % 50:02d}/video-{number:05d}.mp4"
                frames = (per_scene + 1) * STEP
                rows = [row(source, scene, k, rng) for k in range(per_scene)]
                for made in rows:
                    if not made.stored:
                        shard.write_row(made)
                        continue
                    a, b = (jpegs[n] for n in rng.integers(0, len(jpegs), 2))
                    hashes = {"sha256_a": hashlib.sha256(a).hexdigest(), "sha256_b": hashlib.sha256(b).hexdigest()}
                    shard.write_sample(replace(made, **hashes), a, b, patches, np.zeros((8, 4), np.float32))
                num_kept = sum(made.kept for made in rows)
                shard.write_scene(scene_row(part, source, scene, frames, per_scene, num_kept))
                slices.append(
                    Slice(
                        part=part,
                        source=source,
                        scene=scene,
                        kind="video",
                        start=0,
                        stop=frames,
                        num_frames=frames,
                        num_candidates=per_scene,
                        num_pairs=per_scene,
                        size_bytes=0,
                        fingerprint="",
                        licence=None,
                        error="",
                    )
                )
    write_plan(out, Plan(tuple(slices), "made"))


def row(source: str, scene: str, k: int, rng: np.random.Generator) -> Row:
    pair_id = f"{source}/{scene}/{k * STEP:06d}-{(k + 1) * STEP:06d}"
    overlap = float(rng.integers(20, 196) / 196)
    reasons = ["overlap_low"] * (overlap < 0.5) + ["overlap_high"] * (overlap > 0.8)
    kept = not reasons
    known = Row(
        key=key_of(pair_id),
        pair_id=pair_id,
        source=source,
        scene=scene,
        group=pair_id,
        frame_index_a=k * STEP,
        frame_index_b=(k + 1) * STEP,
        time_a_s=k * STEP / FPS,
        time_b_s=(k + 1) * STEP / FPS,
        kept=kept,
        stored=kept,
        reasons=reasons,
        found=True,
        estimator="paper@1",
        overlap=overlap,
        overlap_ab=overlap,
        overlap_ba=overlap,
        num_keypoints_a=500,
        num_keypoints_b=500,
        num_matches=200,
        num_inliers=100,
        scale=float(np.exp(rng.normal(0, 0.2))),
        rotation_deg=float(rng.normal(0, 10)),
    )
    if not kept:
        return known
    footage = scene.replace("9.mp4", "8.mp4")  # every tenth video is the one before it
    hashes = [hashlib.sha256(f"{footage}/{frame}".encode()).hexdigest()[:16] for frame in (k, k + 1)]
    return replace(
        known,
        homography=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        patch_grid=[14, 14],
        phash_a=hashes[0],
        phash_b=hashes[1],
        sharpness_a=100.0,
        sharpness_b=100.0,
    )


def scene_row(part: int, source: str, scene: str, frames: int, num_pairs: int, num_kept: int) -> SceneRow:
    return SceneRow(
        part=part,
        source=source,
        scene=scene,
        uri=f"/nowhere/{scene}",
        kind="video",
        status="ok",
        error="",
        codec="h264",
        fps=float(FPS),
        width_px=640,
        height_px=480,
        num_frames=frames,
        start=0,
        stop=frames,
        num_pairs=num_pairs,
        num_kept=num_kept,
        num_stored=num_kept,
        licence=None,
        split=None,
    )


if __name__ == "__main__":
    main()
