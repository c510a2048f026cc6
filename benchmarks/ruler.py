"""What docs/paper.md says of the homography as a ruler: unrelated photos, floors of inliers, zooms.

Unrelated photos: every pair of photos of three folders of single pictures. The floor: 900 pairs of a video with known depth and
pose, their true overlap beside what `paper` measures, for floors from 0 to 40. The zoom: patch overlap under an exact one.

    .venv/bin/python benchmarks/ruler.py
"""

import json
from itertools import combinations

import numpy as np
from footage import DATA, KITCHEN, need

from twoview.curation.homography import Paper
from twoview.curation.measure import stored_picture
from twoview.geometry import lattice_patches, overlap_of
from twoview.sources.video import Video

TRUTH = DATA.parent / "parity" / "covisibility_redkitchen.json"
FOLDERS = ("hymenoptera/*/*", "imagenet_samples", "coco128_semantic/images/train2017")
NO_FLOOR = Paper(min_inliers=0)


def unrelated() -> None:
    photos = [p for folder in FOLDERS for p in sorted(DATA.glob(f"{folder}/*.[jJ][pP]*"))]
    features = [NO_FLOOR.describe(stored_picture(p, "centre", 256)) for p in photos]
    inliers = [NO_FLOOR.measure(a, b).num_inliers or 0 for a, b in combinations(features, 2)]
    print(f"{len(inliers):,} pairs of unrelated photos: at most {max(inliers)} inliers\n")


def floors() -> None:
    pairs = json.loads(need(TRUTH).read_text())["pairs"]
    video = Video(KITCHEN)
    described = {
        i: NO_FLOOR.describe(stored_picture(video[i].image, "centre", 256)) for i in sorted({p[v] for p in pairs for v in "ab"})
    }
    measured = [(p["overlap"], NO_FLOOR.measure(described[p["a"]], described[p["b"]])) for p in pairs]
    print(f"{len(pairs)} pairs with known overlap\nfloor  found  mean error   bias  in the band  truly in it  truly within 45-75")
    for floor in (0, 10, 15, 20, 30, 40):
        seen = [(true, m.overlap) for true, m in measured if m.found and m.num_inliers >= floor]
        errors = np.array([read - true for true, read in seen])
        band = np.array([true for true, read in seen if 0.5 <= read <= 0.7])
        share, wide = np.mean((band >= 0.5) & (band <= 0.7)), np.mean((band >= 0.45) & (band <= 0.75))
        print(f"{floor:5}{len(seen):7}{abs(errors).mean():12.3f}{errors.mean():+7.3f}{len(band):13}{share:13.3f}{wide:20.3f}")


def zooms() -> None:
    print("\nzoom  overlap that is read (the smaller direction)")
    for zoom in (1.05, 1.1, 1.2, 1.3):
        h = np.array([[zoom, 0, 127.5 * (1 - zoom)], [0, zoom, 127.5 * (1 - zoom)], [0, 0, 1]])
        ways = (overlap_of(lattice_patches(m, (256, 256), (256, 256), (14, 14), 10)) for m in (h, np.linalg.inv(h)))
        print(f"{zoom:4}  {min(ways):.2f}")


if __name__ == "__main__":
    need(KITCHEN)
    unrelated()
    floors()
    zooms()
