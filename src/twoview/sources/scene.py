"""Walks through 3D scenes: views that are rendered along them are the frames of a scene."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64

from ..errors import ConfigError, UnreadableError
from ..render.backends import Backend, open_renderer
from ..render.camera import Camera, Rendering, look
from ..render.load import Up, check_mesh, files_beside, load_mesh
from ..render.navigation import Navigation
from ..render.pictures import package
from ..schema import Frame, Geometry, Group, SceneInfo
from .footage import Footage, find_scenes

SPREAD_M, SPREAD_DEG = 0.5, 15.0
"""No two kept pairs of a scene have both views as near as this to each other, in place and in heading."""
CENTRE_HFOV_DEG = math.degrees(2 * math.atan(224 / 256))
"""Of the middle 224 px of a picture of 256 px and 90 degrees, which the published scripts cut out."""


@dataclass(frozen=True, kw_only=True)
class Walks:
    """Finds 3D scenes (.glb, .gltf, .ply, .obj) and walks through each. A sample is one short walk, drawn from the seed alone.

    stations: the published walk. At a random point (station A) views all around; a turn by a multiple of 60 degrees and a step
    forward to station B, and again to C, with views all around at both. A's views pair with B's and with C's. random: any turn, and
    as many stations as wanted, each paired with the next. pairs: two views a sample, at a random point and near it, tilted a
    little, as CroCo's MultiView-Habitat was made.
    """

    walk: Literal["stations", "random", "pairs"] = "stations"
    """How a sample's views are placed."""
    samples: int = 3000
    """Walks in each scene."""
    stations: int = 3
    """Stops of a walk, where walk is random."""
    headings: int = 8
    """Views at each station, all around, where walk is stations or random."""
    forward_m: tuple[float, float] = (0.5, 1.0)
    """Steps between stations, shortest and longest."""
    camera_height_m: tuple[float, float] = (1.2, 1.8)
    """Above the floor, lowest and highest; one for each walk."""
    min_island_radius_m: float = 6.0
    """A walk starts on floor that reaches at least so far around its middle."""
    hfov_deg: float = CENTRE_HFOV_DEG
    """Field of view of the stored picture. Default: the middle 224 of 256 px of 90 degrees."""
    up: Up | None = None
    """Which axis of the file points up. Default: y for glTF and OBJ, z for PLY; HM3D, Gibson and Matterport are z."""
    linearise: bool = False
    """Darken Basis and KTX2 textures that are flagged sRGB, as habitat-sim does."""
    backend: Backend = "auto"
    """What renders: OpenGL, else rays; habitat where habitat-sim is installed."""
    size_px = 224  # these two are the run's --size and --seed: no flags of its own
    seed = 0

    def __post_init__(self) -> None:
        for name in ("forward_m", "camera_height_m"):
            low, high = getattr(self, name)
            if not 0 <= low <= high:
                raise ConfigError(f"--source.{name.replace('_', '-')} {low} {high}: give the lower number first, from 0")
        if self.samples < 1 or self.headings < 1 or self.stations < 2:
            raise ConfigError("--source.samples and --source.headings go from 1, --source.stations from 2")
        if not 10 <= self.hfov_deg <= 150:
            raise ConfigError(f"--source.hfov-deg is {self.hfov_deg:g}: give an angle from 10 to 150")
        if not self.min_island_radius_m >= 0:
            raise ConfigError(f"--source.min-island-radius-m is {self.min_island_radius_m}: give 0 or more")

    def __call__(self, paths: Iterable[Path], list_file: Path | None = None) -> "WalkedScenes":
        """The 3D scenes in files, folders and a list of them. Raises ConfigError where a package is missing."""
        return self.through(find_scenes(paths, list_file))

    def through(self, found: Footage) -> "WalkedScenes":
        """The walks through scenes that were found. Raises ConfigError where a package is missing."""
        for name in ("scipy.sparse", "trimesh"):  # before a plan is made that would call every scene unreadable
            package(name, "a 3D scene")
        inputs = {
            name: replace(item, beside=tuple((p,) for p in files_beside(item.paths[0]))) for name, item in found.inputs.items()
        }
        return WalkedScenes(inputs, found.num_ignored, found.num_repeated, found.remark, walks=self)

    @property
    def num_stations(self) -> int:
        return {"stations": 3, "random": self.stations, "pairs": 2}[self.walk]

    @property
    def num_headings(self) -> int:
        return 1 if self.walk == "pairs" else self.headings

    @property
    def legs(self) -> list[list[tuple[int, int]]]:
        """Which stations are paired with which; those of one list compete, and one pair of views is kept of them."""
        if self.walk == "random":
            return [[(s, s + 1)] for s in range(self.stations - 1)]
        return [[(0, 1), (0, 2)]] if self.walk == "stations" else [[(0, 1)]]


@dataclass(frozen=True)
class WalkedScenes(Footage):
    """A Source over scene files."""

    walks: Walks = field(default_factory=Walks)

    def open(self, name: str, /) -> "Walk":
        item = self.inputs[name]
        check_mesh(item.paths[0])
        return Walk(item.paths[0], self.walks, source=item.source, name=name, licence=item.licence, split=item.split)


class Walk:
    """The walks through one scene. Frame (sample * stations + station) * headings + heading is a view from a station.

    The scene is read when `load` is called; before that its length is known, and about how many candidates it has.
    """

    times_s = None

    def __init__(
        self,
        path: Path,
        walks: Walks,
        *,
        source: str = "scene",
        name: str = "",
        licence: str | None = None,
        split: str | None = None,
    ) -> None:
        self.path, self.walks, self.source, self.name, self.licence = path, walks, source, name or path.name, licence
        self.camera = Camera(width_px=walks.size_px, height_px=walks.size_px, hfov_deg=walks.hfov_deg)
        self.routes: Routes | None = None
        self._known_groups: list[Group] = []
        self.info = SceneInfo(
            source=source,
            scene=self.name,
            uri=str(path),
            kind="scene",
            codec=path.suffix.lower().lstrip("."),
            width_px=walks.size_px,
            height_px=walks.size_px,
            num_frames=len(self),
            licence=licence,
            split=split,
        )

    def __len__(self) -> int:
        return self.walks.samples * self._views_per_sample

    @property
    def _views_per_sample(self) -> int:
        return self.walks.num_stations * self.walks.num_headings

    def load(self) -> None:
        """Read the scene and lay out every walk. Raises UnreadableError where it cannot be read or has no floor."""
        mesh = load_mesh(self.path, self.walks.up, linearise=self.walks.linearise)
        self.routes = lay_out(Navigation.of(mesh), self.walks, self.name)
        self._renderer = open_renderer(mesh, self.path, self.walks.up, self.walks.backend)

    def __getitem__(self, index: int) -> Frame:
        if not 0 <= index < len(self):
            raise IndexError(f"{self.name} has frames 0 to {len(self) - 1}, not {index}")
        if self._laid_out().refusal[index // self._views_per_sample] == "small_floor":
            raise UnreadableError(f"{self.path}: no floor reaches {self.walks.min_island_radius_m:g} m around its middle")
        seen = self.render(index)
        geometry = Geometry(depth_m=seen.depth_m, pose=self.pose(index), intrinsics=self.camera.intrinsics)
        return Frame(id=f"{self.source}/{self.name}/{index:06d}", image=seen.image, geometry=geometry)

    def render(self, index: int) -> Rendering:
        """Picture and depth of a frame, of a scene that is loaded."""
        return self._renderer.render(self.pose(index), self.camera)

    def pose(self, index: int) -> Float64[np.ndarray, "4 4"]:
        """Camera to world of a frame; see camera.Renderer."""
        routes, (sample, view) = self._laid_out(), divmod(index, self._views_per_sample)
        station, turn = divmod(view, self.walks.num_headings)
        heading = routes.heading_deg[sample, station] + turn * 360 / self.walks.num_headings
        return look(routes.eye_m[sample, station], heading, *routes.tilt_roll_deg[sample, station])

    def refuses(self, i: int, j: int) -> str:
        """Why a sample's views are not rendered, or ''."""
        return self._laid_out().refusal[i // self._views_per_sample]

    def _laid_out(self) -> "Routes":
        if self.routes is None:
            self.load()
        assert self.routes is not None
        return self.routes

    def groups(self) -> Sequence[Group]:
        """Candidates of each sample: those whose views look less than a field of view apart, from stations that no other pair has.

        A sample without any has one pair, so that the manifest says why. Once the walks are known they are made once, as each part
        of a scene asks for them.
        """
        if self.routes is None:
            return list(self._groups())
        if not self._known_groups:
            self._known_groups = list(self._groups())
        return self._known_groups

    def _groups(self) -> Iterator[Group]:
        around, routes = self.walks.num_headings, self.routes
        for sample in range(self.walks.samples):
            first = sample * self._views_per_sample
            if routes is not None and routes.refusal[sample]:
                yield Group(((first, first + around),))
                continue
            number = 0
            for legs in self.walks.legs:
                pairs = []
                for one, other in legs:
                    if routes is None or routes.free[sample, number]:
                        pairs += [
                            (first + one * around + i, first + other * around + j) for i, j in self._facing(sample, one, other)
                        ]
                    number += 1
                yield Group(tuple(pairs))

    def _facing(self, sample: int, one: int, other: int) -> Iterator[tuple[int, int]]:
        """Headings of two stations that differ by less than a field of view; before the walk is known, as many as it will have."""
        around, turn = self.walks.num_headings, 360 / self.walks.num_headings
        heading = 60.0 * np.arange(self.walks.num_stations) if self.routes is None else self.routes.heading_deg[sample]
        for i in range(around):
            for j in range(around):
                apart = heading[one] + i * turn - heading[other] - j * turn
                if abs((apart + 180) % 360 - 180) < self.walks.hfov_deg:
                    yield i, j


@dataclass(frozen=True, kw_only=True, eq=False)
class Routes:
    """Where every sample's views are taken from. N samples, S stations, L pairs of stations."""

    eye_m: Float64[np.ndarray, "n s 3"]
    heading_deg: Float64[np.ndarray, "n s"]
    """Of a station's first view."""
    tilt_roll_deg: Float64[np.ndarray, "n s 2"]
    free: Bool[np.ndarray, "n l"]
    """Pairs of stations that no earlier sample has nearly the same of."""
    refusal: Sequence[str]
    """By sample: why it has no views, or ''."""


def lay_out(floor: Navigation, walks: Walks, scene: str) -> Routes:
    """Draw every walk. Sample number k is the same whatever the number of samples: it has a generator of its own."""
    shape = (walks.samples, walks.num_stations)
    eye, heading, tilt_roll = np.zeros((*shape, 3)), np.zeros(shape), np.zeros((*shape, 2))
    if floor.largest_radius_m < walks.min_island_radius_m:
        free, refusal = np.zeros((walks.samples, sum(map(len, walks.legs))), bool), ["small_floor"] * walks.samples
    else:
        for k in range(walks.samples):
            rng = np.random.default_rng([walks.seed, *b"walk", *scene.encode(), k])
            eye[k], heading[k], tilt_roll[k] = _route(floor, walks, rng)
        free = _spread(eye, heading, walks.legs, 360 / walks.num_headings)
        refusal = ["" if left else "near_another" for left in np.any(free, axis=1)]
    return Routes(eye_m=eye, heading_deg=heading, tilt_roll_deg=tilt_roll, free=free, refusal=refusal)


def _route(floor: Navigation, walks: Walks, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Eyes [s, 3], headings [s] and tilt and roll [s, 2] of one sample's stations."""
    num = walks.num_stations
    point, heading = floor.random_point(rng, walks.min_island_radius_m), rng.uniform(0, 360)
    height = rng.uniform(*walks.camera_height_m)
    points, headings, tilt_roll = [point], [heading], np.zeros((num, 2))
    for station in range(1, num):
        if walks.walk == "stations":
            heading += 60 * rng.choice([1, 2, 4, 5] if station == 1 else [0, 1, 2, 4, 5])
        elif walks.walk == "random":
            heading += rng.uniform(0, 360)
        way = rng.uniform(0, 360) if walks.walk == "pairs" else heading
        points.append(floor.step(points[-1], way, rng.uniform(*walks.forward_m)))
        headings.append(heading)
    if walks.walk == "pairs":
        headings[1] += rng.uniform(-PAIR_TURN_DEG, PAIR_TURN_DEG)
        headings = [h + rng.uniform(-3, 3) for h in headings]
        tilt_roll = rng.uniform(-1, 1, (num, 2)) * (10, 5)
    return np.array(points) + [0, height, 0], np.array(headings), tilt_roll


PAIR_TURN_DEG = 45.0
"""How far the second view of a `pairs` sample is turned from the first one at most."""


def _spread(
    eye: Float64[np.ndarray, "n s 3"], heading: Float64[np.ndarray, "n s"], legs: list[list[tuple[int, int]]], period_deg: float
) -> Bool[np.ndarray, "n l"]:
    """Which pairs of stations may be used, in order: those that no earlier free one is near to, at both stations.

    Views all around a station repeat every `period_deg`, so only the remainder of a heading counts. Decided from the walks
    alone, so that it does not matter which pairs are kept, nor who measures which part.
    """
    ends = np.stack([np.concatenate([eye[:, s], heading[:, s, None]], axis=1) for s in range(eye.shape[1])], axis=1)
    free = np.zeros((len(eye), sum(map(len, legs))), bool)
    taken, num = np.zeros((free.size, 2, 4)), 0
    for k in range(len(eye)):
        leg = 0
        for rivals in legs:
            known = taken[:num]  # rivals may be near each other: one pair is kept of them
            for one, other in rivals:
                both = ends[k, [one, other]]
                free[k, leg] = not any(_near(known, both[list(order)], period_deg).any() for order in ((0, 1), (1, 0)))
                if free[k, leg]:
                    taken[num] = both
                    num += 1
                leg += 1
    return free


def _near(taken: Float64[np.ndarray, "m 2 4"], both: Float64[np.ndarray, "2 4"], period_deg: float) -> Bool[np.ndarray, " m"]:
    away = taken - both
    turn = np.abs((away[..., 3] + period_deg / 2) % period_deg - period_deg / 2)
    return ((np.square(away[..., :3]).sum(-1) < SPREAD_M**2) & (turn < SPREAD_DEG)).all(1)
