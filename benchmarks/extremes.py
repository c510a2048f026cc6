"""Pairs in which a ruler may go wrong, made with exact depth: zooms, turns, shifts, layers, and what has no answer.

Every view is encoded as a video of two frames with the noise of a sensor, and decoded again.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from footage import encode, frames
from known import SIZE, loaded

from twoview.demo import write_flat
from twoview.render.backends import open_renderer
from twoview.render.camera import Camera
from twoview.render.load import load_mesh
from twoview.schema import Geometry
from twoview.sources.scene import Walks

NOISE, FOCAL_PX = 4.0, 256.0
NUM_VIEWS = 6
"""Of the flat: each row of the table is their mean."""
View = tuple[np.ndarray, Geometry]
Pair = tuple[View, View, float | None]
"""Two views, and what they share where their depth does not tell (a mirrored picture shares nothing)."""


def extremes(seed: int = 101) -> Iterator[tuple[str, list[Pair]]]:
    """Rows of a table: a name, and pairs of views."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "flat.glb"
        write_flat(path, seed)
        mesh = load_mesh(path)
        renderer = open_renderer(mesh, path, None)
        poses = _poses(path)

    def seen(pose: np.ndarray, hfov_deg: float = 60.0) -> View:
        camera = Camera(width_px=SIZE, height_px=SIZE, hfov_deg=hfov_deg)
        view = renderer.render(pose, camera)
        return view.image, Geometry(depth_m=view.depth_m, pose=pose, intrinsics=camera.intrinsics)

    for zoom in (1.05, 1.1, 1.2, 1.3, 1.45, 1.6):
        narrow = 2 * np.degrees(np.arctan(np.tan(np.radians(30)) / zoom))
        yield f"zoom {zoom}", [(seen(p), seen(p, narrow), None) for p in poses]
    for roll in (0, 15, 30, 45, 60, 90):
        yield f"rolled by {roll} degrees", [(seen(p), seen(p @ _turn(2, roll)), None) for p in poses]
    for pan in (5, 10, 20, 30):
        yield f"turned by {pan} degrees", [(seen(p), seen(p @ _turn(1, pan)), None) for p in poses]
    for share in (0.18, 0.25, 0.31, 0.5):
        yield f"pure shift, {1 - share:.0%} shared", [_shifted(k, share) for k in range(NUM_VIEWS)]
    for near in (1.2, 1.6, 2.0):
        yield f"two layers of depth, the nearer at {near} m", [_layers(k, near) for k in range(NUM_VIEWS)]
    yield "an object moves in a still picture", [_moved(k) for k in range(NUM_VIEWS)]
    yield "a wall without texture", [_blank(k) for k in range(NUM_VIEWS)]
    yield "mirrored", [(v, (np.ascontiguousarray(v[0][:, ::-1]), v[1]), 0.0) for v in map(seen, poses)]
    yield "a facade that repeats, by half its width", [_facade(k) for k in range(NUM_VIEWS)]
    yield "two places", [(seen(a), seen(b), 0.0) for a, b in zip(poses[: NUM_VIEWS // 2], poses[NUM_VIEWS // 2 :], strict=True)]


def worn(image: np.ndarray, seed: int) -> np.ndarray:
    """A picture with a sensor's noise, through H.264."""
    noise = np.random.default_rng([seed, 7]).normal(0, NOISE, image.shape)
    noisy = np.rint(image + noise).clip(0, 255).astype(np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = encode(Path(folder) / "pair.mp4", [noisy, noisy], (SIZE, SIZE), crf="25")
        return next(frames(path))


def _poses(path: Path) -> list[np.ndarray]:
    """Views of the flat with something to see, far from each other."""
    walk = loaded(path, Walks(walk="pairs", samples=40))
    sharp = [k for k in range(0, 80, 2) if len(cv2.SIFT.create().detect(walk[k].image, None)) > 300]
    return [walk.pose(k) for k in sharp[:NUM_VIEWS]]


def _turn(axis: int, angle_deg: float) -> np.ndarray:
    turn, vector = np.eye(4), np.zeros(3)
    vector[axis] = np.radians(angle_deg)
    turn[:3, :3] = cv2.Rodrigues(vector)[0]
    return turn


def _texture(seed: int, side: int) -> np.ndarray:
    """Spots of all sizes and colours."""
    rng, picture = np.random.default_rng([seed, 3]), np.full((side, side, 3), 128.0)
    for size in (4, 8, 16, 32, 64):
        spots = rng.normal(0, 30, (-(-side // size), -(-side // size), 3))
        picture += cv2.resize(spots, (side, side), interpolation=cv2.INTER_CUBIC)
    return picture.clip(0, 255).astype(np.uint8)


def _geometry(depth_m: np.ndarray, x_m: float) -> Geometry:
    pose = np.eye(4)
    pose[0, 3] = x_m
    middle = (SIZE - 1) / 2
    return Geometry(depth_m=depth_m.astype(np.float32), pose=pose, intrinsics=np.array([FOCAL_PX, FOCAL_PX, middle, middle]))


def _shifted(seed: int, share: float) -> Pair:
    """A wall 4 m away, the camera moves along it."""
    texture, shift = _texture(seed, 2 * SIZE), round(share * SIZE)
    depth = np.full((SIZE, SIZE), 4.0)
    a, b = texture[:SIZE, :SIZE], texture[:SIZE, shift : shift + SIZE]
    return (a, _geometry(depth, 0)), (b, _geometry(depth, shift * 4 / FOCAL_PX)), None


def _layers(seed: int, near_m: float) -> Pair:
    """A picture stands before a wall 4 m away; the camera moves sideways, so that the near one moves more."""
    wall, board = _texture(seed, 3 * SIZE), _texture(seed + 100, SIZE)
    moved_m = 0.6
    views = []
    for x_m in (0.0, moved_m):
        image, depth = wall[:SIZE, (at := round(x_m * FOCAL_PX / 4)) : at + SIZE].copy(), np.full((SIZE, SIZE), 4.0)
        x0 = 110 - round(x_m * FOCAL_PX / near_m)
        lo, hi = max(x0, 0), min(x0 + 110, SIZE)
        if hi > lo:
            image[60:200, lo:hi], depth[60:200, lo:hi] = board[60:200, lo - x0 : hi - x0], near_m
        views.append((image, _geometry(depth, x_m)))
    return views[0], views[1], None


def _moved(seed: int) -> Pair:
    """Half of a picture stays, an object of a sixth of it goes elsewhere."""
    back, thing = _texture(seed, SIZE), _texture(seed + 50, 100)
    a, b = back.copy(), back.copy()
    a[80:180, 20:120] = thing
    b[80:180, 140:240] = thing
    flat = _geometry(np.full((SIZE, SIZE), 4.0), 0)
    return (a, flat), (b, flat), 1 - 2 * 100 * 100 / SIZE**2


def _blank(seed: int) -> Pair:
    """A wall of one colour, a little darker to one side."""
    shade = np.tile(np.linspace(170, 185, SIZE)[:, None], (SIZE, 1, 3)).astype(np.uint8)
    depth = np.full((SIZE, SIZE), 4.0)
    return (shade, _geometry(depth, 0)), (shade, _geometry(depth, 0.4 * SIZE * 4 / FOCAL_PX)), None


def _facade(seed: int) -> Pair:
    """Windows that are all alike, on a wall without anything else; the camera moves by half the picture."""
    window, period, shift = _texture(seed, 80), 128, SIZE // 2
    wall = np.full((SIZE, 2 * SIZE, 3), 150, np.uint8)
    for y in range(24, SIZE - 80, period):
        for x in range(24, 2 * SIZE - 80, period):
            wall[y : y + 80, x : x + 80] = window
    depth = np.full((SIZE, SIZE), 4.0)
    b = wall[:, shift : shift + SIZE]
    return (wall[:, :SIZE], _geometry(depth, 0)), (b, _geometry(depth, shift * 4 / FOCAL_PX)), None
