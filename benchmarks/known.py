"""Pictures of which it is known what they share: rendered views, a video with depth, as they would be stored, and warped photos.

The video (7-Scenes, Red Kitchen) comes with the depth of another camera than its pictures', unregistered: the focal length of
585 px is the depth camera's, and the colour camera sees 12 % more. `overlap_truth.py --check-registration` shows how much nearer
matched keypoints of its pictures come to where depth and pose put them with the constants below, which were fitted on its first
half. Only what both cameras see is used: a square of 408 px, in which depth is known of 92 % of the pixels.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
from footage import DATA, KITCHEN, need

from twoview.curation.views import view_of
from twoview.geometry import GRID, lattice, look_up, share_seen
from twoview.schema import OUTSIDE, Frame, Geometry
from twoview.sources import scene as walks_of
from twoview.sources.rgbd import RgbdFolders
from twoview.sources.scene import Walk, Walks

SIZE = 256
COLOUR_FOCAL_PX, COLOUR_CENTRE_PX = 516.0, (305.4, 233.9)
COLOUR_FROM_DEPTH_M = (0.024, -0.025, 0.0)
"""Where the colour camera stands, on the depth camera's axes."""
SEEN_BY_BOTH = (101, 36, 408)
"""x0, y0 and side in px of the square that both cameras see."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Pair:
    i: int
    j: int
    fate_ab: np.ndarray
    """Of each point of a 56 x 56 lattice of a: see geometry.look_up."""
    fate_ba: np.ndarray
    geometry: tuple[Geometry, Geometry] | None = None

    @property
    def shares(self) -> tuple[float, float]:
        return share_seen(self.fate_ab) or 0.0, share_seen(self.fate_ba) or 0.0

    @property
    def overlap(self) -> float:
        return min(self.shares)


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    name: str
    pictures: dict[int, np.ndarray]
    pairs: list[Pair]


def case_of(name: str, frame: Callable[[int], Frame], candidates: Sequence[tuple[int, int]]) -> Case:
    """Pairs of frames with geometry, as stored; those that show too little known depth are left out."""
    views = {k: view_of(frame(k), None, "centre", SIZE) for k in sorted({k for pair in candidates for k in pair})}
    pairs = []
    for i, j in candidates:
        a, b = views[i].geometry, views[j].geometry
        assert a is not None
        assert b is not None
        pair = Pair(i=i, j=j, fate_ab=look_up(a, b)[0].astype(np.int8), fate_ba=look_up(b, a)[0].astype(np.int8), geometry=(a, b))
        known = min((a.depth_m > 0).mean(), (b.depth_m > 0).mean()) > 0.3
        if known and share_seen(pair.fate_ab) is not None and share_seen(pair.fate_ba) is not None:
            pairs.append(pair)
    used = {k for pair in pairs for k in (pair.i, pair.j)}
    return Case(name=name, pictures={k: view.image for k, view in views.items() if k in used}, pairs=pairs)


KINDS = (
    ("random", 79.0, 45.0, (0.5, 1.0)),
    ("pairs", 65.0, 45.0, (0.0, 1.2)),
    ("pairs", 50.0, 25.0, (0.0, 1.0)),
    ("pairs", 57.0, 12.0, (0.3, 0.8)),
)
"""Kind of walk, field of view and largest turn in degrees, step in metres."""


def walk_case(name: str, path: Path, num: int) -> Case:
    """About `num` pairs of views of a 3D scene: far and near, wide and narrow."""
    frames: dict[int, Frame] = {}
    candidates: list[tuple[int, int]] = []
    turn = walks_of.PAIR_TURN_DEG
    for seed, (kind, hfov_deg, turn_deg, forward_m) in enumerate(KINDS):
        walks_of.PAIR_TURN_DEG = turn_deg
        walks = Walks(walk=kind, samples=20 if kind == "random" else num // 4, stations=4, hfov_deg=hfov_deg, forward_m=forward_m)  # pyright: ignore
        walk, rng = loaded(path, walks, seed), np.random.default_rng([seed, *name.encode()])
        found = [pair for group in walk.groups() for pair in group.pairs if not walk.refuses(*pair)]
        some = [found[k] for k in sorted(rng.choice(len(found), min(num // 4, len(found)), replace=False))]
        offset = 1_000_000 * seed
        frames |= {offset + k: walk[k] for k in {k for pair in some for k in pair}}
        candidates += [(offset + i, offset + j) for i, j in some]
    walks_of.PAIR_TURN_DEG = turn
    return case_of(name, frames.__getitem__, candidates)


def loaded(path: Path, walks: Walks, seed: int = 0) -> Walk:
    """The walks through a scene, however small its floor, ready to give pictures of SIZE."""
    for field, value in (("size_px", SIZE), ("seed", seed), ("min_island_radius_m", 0.0)):
        object.__setattr__(walks, field, value)
    walk = Walk(path, walks)
    walk.load()
    return walk


def kitchen_case(half: str) -> Case:
    """All pairs of the 100 frames with depth of one half of the video."""
    source = RgbdFolders()([need(KITCHEN).parent])
    video = source.open(source.names()[0])
    first = {"first": 0, "second": 100}[half]
    return case_of(
        f"kitchen video, {half} half", lambda k: seen_by_both(video[k]), list(combinations(range(first, first + 100), 2))
    )


def seen_by_both(frame: Frame) -> Frame:
    """A frame of the video, its depth as the colour camera sees it, cut to what both cameras see."""
    assert frame.geometry is not None
    geometry, (x0, y0, side) = registered(frame.geometry), SEEN_BY_BOTH
    cut = slice(y0, y0 + side), slice(x0, x0 + side)
    geometry = replace(geometry, depth_m=geometry.depth_m[cut], intrinsics=geometry.intrinsics - [0, 0, x0, y0])
    return replace(frame, image=np.ascontiguousarray(frame.image[cut]), geometry=geometry)


def registered(geometry: Geometry) -> Geometry:
    """Depth of the depth camera as the colour camera sees it: each point goes to the four pixels around it, the nearest stays."""
    height, width = geometry.depth_m.shape
    y, x = np.nonzero(geometry.depth_m > 0)
    depth = geometry.depth_m[y, x].astype(np.float64)
    fx, fy, cx, cy = geometry.intrinsics
    points = np.stack([(x - cx) / fx * depth, (y - cy) / fy * depth, depth]) - np.array(COLOUR_FROM_DEPTH_M)[:, None]
    at = points[:2] / points[2] * COLOUR_FOCAL_PX + np.array(COLOUR_CENTRE_PX)[:, None]
    seen = np.full(height * width, np.inf)
    for right, down in ((0, 0), (1, 0), (0, 1), (1, 1)):
        column, row = np.floor(at).astype(int) + np.array([[right], [down]])
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        np.minimum.at(seen, row[inside] * width + column[inside], points[2][inside])
    to_depth = np.eye(4)
    to_depth[:3, 3] = COLOUR_FROM_DEPTH_M
    return Geometry(
        depth_m=np.where(np.isfinite(seen), seen, 0).reshape(height, width).astype(np.float32),
        pose=geometry.pose @ to_depth,
        intrinsics=np.array([COLOUR_FOCAL_PX, COLOUR_FOCAL_PX, *COLOUR_CENTRE_PX]),
    )


def unrelated_case(num: int, pictures: Sequence[tuple[str, np.ndarray]]) -> Case:
    """Pairs of pictures from different places, which share nothing. pictures: a place and a picture each."""
    rng, pairs, nothing = np.random.default_rng(5), [], np.full(GRID * GRID, OUTSIDE, np.int8)
    while len(pairs) < num:
        i, j = (int(k) for k in rng.choice(len(pictures), 2, replace=False))
        if pictures[i][0] != pictures[j][0]:
            pairs.append(Pair(i=i, j=j, fate_ab=nothing, fate_ba=nothing))
    return Case(name="unrelated", pictures={k: image for k, (_, image) in enumerate(pictures)}, pairs=pairs)


def warped_case(num: int, photos: Sequence[np.ndarray]) -> Case:
    """Two windows onto one photo, turned, scaled and tilted: real texture, and truth by the homography."""
    rng, pictures, pairs = np.random.default_rng(6), {}, []
    corners = np.array([[-0.5, -0.5], [SIZE - 0.5, -0.5], [SIZE - 0.5, SIZE - 0.5], [-0.5, SIZE - 0.5]], np.float32)
    while len(pairs) < num:
        photo = photos[int(rng.integers(len(photos)))]
        height, width = photo.shape[:2]
        windows = list(_windows(rng, height, width))
        if any((w < 0).any() or (w > (width, height)).any() for w in windows):
            continue
        shrink = 0.6 * min(height, width) / SIZE
        source = cv2.GaussianBlur(photo, (0, 0), 0.45 * shrink) if shrink > 1.3 else photo
        onto = [cv2.getPerspectiveTransform(w.astype(np.float32), corners) for w in windows]
        k = 2 * len(pairs)
        pictures |= {k + n: cv2.warpPerspective(source, h, (SIZE, SIZE)) for n, h in enumerate(onto)}
        ab = onto[1] @ np.linalg.inv(onto[0])
        pairs.append(Pair(i=k, j=k + 1, fate_ab=_fates(ab), fate_ba=_fates(np.linalg.inv(ab))))
    return Case(name="warped photos", pictures=pictures, pairs=pairs)


def _windows(rng: np.random.Generator, height: int, width: int) -> Iterator[np.ndarray]:
    """Corners of two windows near each other, in px of the photo."""
    least, middle = min(height, width), np.zeros(2)
    for k in range(2):
        side = least * rng.uniform(0.45, 0.75)
        angle = rng.normal(0, 0.12) if rng.random() < 0.7 else rng.uniform(-0.8, 0.8)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        square = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * side / 2 @ turn.T + rng.normal(0, 0.02 * side, (4, 2))
        middle = rng.uniform(side / 2, (width - side / 2, height - side / 2)) if k == 0 else middle + rng.normal(0, 0.15 * least, 2)
        yield square + middle


def _fates(h: np.ndarray) -> np.ndarray:
    x, y = np.meshgrid(lattice(SIZE, GRID, 1), lattice(SIZE, GRID, 1))
    u, v, w = h @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    inside = (w > 0) & (u >= 0) & (u <= w * (SIZE - 1)) & (v >= 0) & (v <= w * (SIZE - 1))
    return np.where(inside, 0, OUTSIDE).astype(np.int8)


SCENES = {
    "kitchen": "scene_kitchen/kitchen-transformed.glb",
    "cube room": "scene_cube_room/cube-room/cube-room.gltf",
    "garage": "scene_garage/garage/garage.gltf",
    "apartment": "scene_apartment/apartment.glb",
    "gallery": "scene_vr_gallery/vr-gallery.glb",
}


def scene_path(name: str) -> Path:
    return need(DATA / SCENES[name])
