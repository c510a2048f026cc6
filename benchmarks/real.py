"""What `twoview curate` makes of every real video and picture sequence at hand, with its default recipe.

A survey, not a claim with a target: a still camera and film cuts must give next to nothing, a walk must give pairs. Prints a
Markdown table.

    .venv/bin/python benchmarks/real.py
"""

import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

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
    "stereo_kitti_slambook2/stereo/*.png",
    "stereo_middlebury_cones/im*.png",
)


def main() -> None:
    videos = sorted(p for p in need(DATA).rglob("*") if p.suffix in (".mp4", ".mov"))
    pictures = [path for pattern in SEQUENCES for path in sorted(DATA.glob(pattern))]
    with tempfile.TemporaryDirectory() as temporary:
        paths, out = Path(temporary, "footage.txt"), Path(temporary, "out")
        paths.write_text("".join(f"{path}\n" for path in (*videos, *pictures)))
        command = [sys.executable, "-m", "twoview", "curate", "--list", str(paths), "--out", str(out)]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode not in (0, 4):
            sys.exit(f"exit code {done.returncode}\n{done.stdout}")
        rows, scenes = read_manifest(out).to_pylist(), read_scenes(out).to_pylist()
    print("| scene | frames | measured | kept | refused |\n|---|---|---|---|---|")
    for name, scene in {scene["scene"]: scene for scene in scenes}.items():
        here = [row for row in rows if row["scene"] == name]
        reasons = Counter(reason for row in here for reason in row["reasons"]).most_common(3)
        words = ", ".join(f"{num} {reason}" for reason, num in reasons)
        short = name.removeprefix(str(DATA).lstrip("/") + "/")
        print(f"| {short} | {scene['num_frames']} | {len(here)} | {sum(row['kept'] for row in here)} | {words} |")
    print(f"| all | | {len(rows)} | {sum(row['kept'] for row in rows)} | |")


if __name__ == "__main__":
    main()
