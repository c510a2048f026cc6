"""A small dataset whose every figure is known, written without footage. For the tests; not a test."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from twoview.plan import Plan, write_plan
from twoview.schema import Row
from twoview.shards import SceneRow, ShardWriter, key_of, write_whole

GRID = (6, 12)
PATCHES = np.stack([np.roll(np.arange(72), 5), np.roll(np.arange(72), -5)]).astype(np.int16)
PATCHES[0, 3], PATCHES[1, 70] = -2, -4


def row(scene: str, a: int, b: int, *reasons: str, stored: bool = True, **more: object) -> Row:
    pair_id = f"mine/{scene}/{a:06d}-{b:06d}"
    known = Row(
        key=key_of(pair_id),
        pair_id=pair_id,
        source="mine",
        scene=scene,
        group=pair_id,
        frame_index_a=a,
        frame_index_b=b,
        kept=not reasons,
        stored=stored,
        reasons=list(reasons),
        estimator="mine@1",
        patch_grid=list(GRID) if stored else None,
    )
    return replace(known, **more)  # type: ignore[arg-type]


ROWS = (
    row("long", 0, 2, overlap=0.5, scale=0.5, rotation_deg=-30.0, time_a_s=0.0, time_b_s=2.0),
    row("long", 2, 8, overlap=0.62, scale=4.0, rotation_deg=10.0, time_a_s=2.0, time_b_s=8.0),
    row("long", 8, 9, overlap=0.66, scale=0.8, rotation_deg=20.0, time_a_s=8.0, time_b_s=9.0),
    row("long", 20, 22, "overlap_high", overlap=0.9, scale=1.0, rotation_deg=0.0, time_a_s=20.0, time_b_s=22.0),
    row("long", 22, 24, "overlap_high", stored=False, overlap=1.0, scale=1.0, rotation_deg=0.0),
    row("long", 30, 39, "few_matches", "blurred", stored=False),
    row("tiny", 0, 1, overlap=0.69, scale=1.0, rotation_deg=0.0),
)


def scene(name: str, num_frames: int, fps: float | None, status: str, error: str) -> SceneRow:
    return SceneRow(
        part=0,
        source="mine",
        scene=name,
        uri=f"there/{name}",
        kind="mine",
        status=status,
        error=error,
        codec=None,
        fps=fps,
        width_px=None,
        height_px=None,
        num_frames=num_frames,
        start=0,
        stop=num_frames,
        num_pairs=0,
        num_kept=0,
        num_stored=0,
        licence=None,
        split=None,
    )


def write_made(out: Path) -> Path:
    for folder in ("shards", "scenes", "manifest"):
        (out / folder).mkdir(parents=True)
    write_whole(out / "config.json", b'{"config": {}}')
    write_plan(out, Plan((), "made"))
    rng = np.random.default_rng(0)
    with ShardWriter(out, 0) as shard:
        for known in ROWS:
            if known.stored:
                a, b = (cv2.imencode(".jpg", rng.integers(0, 255, (120, 160, 3), np.uint8))[1].tobytes() for _ in "ab")
                shard.write_sample(known, a, b, PATCHES, np.zeros((0, 4), np.float32))
            else:
                shard.write_row(known)
        shard.write_scene(scene("long", 40, 10.0, "ok", ""))
        shard.write_scene(scene("tiny", 2, None, "partial", "frame 1 is damaged"))
        shard.write_scene(scene("none", 300, 30.0, "ok", ""))
    return out
