"""What `twoview curate` makes of every real video, picture sequence, stereo pair, street set, 3D scene and RGB-D folder at hand.

A survey, not a claim with a target: a still camera and film cuts must give next to nothing, a walk must give pairs. Prints
Markdown tables; the datasets and their pages stay in FOLDER where one is given.

    .venv/bin/python benchmarks/real.py [FOLDER]
"""

import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from footage import DATA, need

from twoview.shards import read_manifest, read_scenes

SEQUENCES = (
    "co3d_apple_posed/apple/*.jpg",
    "deepv2d_demo_scenes/nyu_1/*.png",
    "deepv2d_demo_scenes/scannet_0/*.png",
    "demon_sculpture_pair/*.png",
    "homography_graf/homography/*.ppm",
    "kitti_odometry_seq1/KITTI_sequence_1/image_l/*.png",
    "nerf_fox_posed/fox/images/*.jpg",
    "pair_kn_church/matching/*.jpg",
    "rgbd_7scenes_redkitchen/data/*.color.jpg",
    "seq_building_sceaux/images/*.JPG",
    "seq_indoor_walk_cut3r001/001/*.jpg",
    "seq_object_kermit/kermit/*.jpg",
    "seq_object_robot/robot/images/*.jpg",
    "seq_street_berlin/berlin/images/*.jpg",
)
SCENES = (
    "scene_apartment/apartment.glb",
    "scene_vr_gallery/vr-gallery.glb",
    "scene_kitchen/kitchen-transformed.glb",
    "scene_cube_room/cube-room/cube-room.gltf",
    "scene_garage/garage/garage.gltf",
)
OTHERS = (
    ("stereo", "stereo_kitti_slambook2/stereo/*.png"),
    ("stereo", "stereo_middlebury_cones/im*.png"),
    ("all_pairs", "seq_street_berlin/berlin/images/*.jpg"),
    ("all_pairs", "seq_object_kermit/kermit/*.jpg"),
    ("all_pairs", "phototourism_pairs/phototourism_sample_images/*.jpg"),
    ("all_pairs", "seq_indoor_walk_cut3r001/001/*.jpg"),
    ("best_of_window", "rgbd_video_redkitchen/video.mp4"),
    *((recipe, scene) for recipe in ("walk", "random_walk", "multiview_habitat") for scene in SCENES),
    ("rgbd", "rgbd_video_redkitchen"),
    ("rgbd", "rgbd_7scenes_redkitchen/data"),
)
"""Recipes other than the default, where they belong."""


def main() -> None:
    videos = sorted(p for p in need(DATA).rglob("*") if p.suffix in (".mp4", ".mov"))
    pictures = [path for pattern in SEQUENCES for path in sorted(DATA.glob(pattern))]
    runs = {"paper": [*videos, *pictures]}
    for recipe, pattern in OTHERS:
        runs.setdefault(recipe, []).extend(sorted(DATA.glob(pattern)))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(sys.argv[1] if len(sys.argv) > 1 else temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for recipe, paths in runs.items():
            curate(recipe, paths, folder)


def curate(recipe: str, paths: list[Path], folder: Path) -> None:
    """Curate into FOLDER/RECIPE, write its page, and print its table."""
    listed, out = folder / f"{recipe}.txt", folder / recipe
    listed.write_text("".join(f"{path}\n" for path in paths))
    say("curate", "--list", listed, "--recipe", recipe, "--out", out)
    say("audit", out)
    rows, scenes = read_manifest(out).to_pylist(), read_scenes(out).to_pylist()
    print(f"{recipe}\n\n| scene | frames | measured | kept | refused |\n|---|---|---|---|---|")
    for name, scene in {scene["scene"]: scene for scene in scenes}.items():
        here = [row for row in rows if row["scene"] == name]
        reasons = Counter(reason for row in here for reason in row["reasons"]).most_common(3)
        words = ", ".join(f"{num} {reason}" for reason, num in reasons)
        short = name.removeprefix(str(DATA).lstrip("/") + "/")
        print(f"| {short} | {scene['num_frames']} | {len(here)} | {sum(row['kept'] for row in here)} | {words} |")
    print(f"| all | | {len(rows)} | {sum(row['kept'] for row in rows)} | |\n")
    known = [row for row in rows if row["kept"] and row["true_overlap_ab"] is not None and row["true_overlap_ba"] is not None]
    if known and recipe != "rgbd":
        true = np.array([min(row["true_overlap_ab"], row["true_overlap_ba"]) for row in known])
        shares = [f"{100 * np.mean((true >= low) & (true <= high)):.0f} %" for low, high in ((0.5, 0.7), (0.45, 0.75), (0, 0.3))]
        print("Of the kept pairs {} truly lie in 0.5-0.7, {} in 0.45-0.75, {} below 0.3.\n".format(*shares))


def say(*args: object) -> None:
    command = [sys.executable, "-m", "twoview", *map(str, args)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode not in (0, 4):
        sys.exit(f"exit code {done.returncode}\n{done.stdout}")


if __name__ == "__main__":
    main()
