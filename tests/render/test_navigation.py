"""Floors that are known by construction, walks checked against a literal flood, and real scenes against habitat-sim and rays."""

import json
import math
from collections import deque
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twoview.errors import ConfigError, UnreadableError
from twoview.render.camera import look
from twoview.render.columns import Grid, in_columns, walkable_triangles
from twoview.render.load import load_mesh
from twoview.render.mesh import Mesh, Part
from twoview.render.navigation import Agent, Navigation

SHARED = Path(__file__).parents[3] / "shared"
SCENES = {
    "apartment": "scene_apartment/apartment.glb",
    "gallery": "scene_vr_gallery/vr-gallery.glb",
    "cube_room": "scene_cube_room/cube-room/cube-room.gltf",
    "garage": "scene_garage/garage/garage.gltf",
    "kitchen": "scene_kitchen/kitchen-transformed.glb",
}
RADIUS_M, CELL_M = 0.1, 0.05

# -------------------------------------------------------------------------------------------------------- made scenes


def quad(*corners: tuple[float, float, float]) -> np.ndarray:
    """Two triangles [2, 3, 3], anticlockwise as seen from their front."""
    a, b, c, d = np.array(corners, float)
    return np.array([[a, b, c], [a, c, d]])


def level(x: tuple[float, float], z: tuple[float, float], y: float = 0.0) -> np.ndarray:
    """A floor; turned over it is a ceiling."""
    return quad((x[0], y, z[0]), (x[0], y, z[1]), (x[1], y, z[1]), (x[1], y, z[0]))


def wall(a: tuple[float, float], b: tuple[float, float], y: tuple[float, float] = (0, 2.5)) -> np.ndarray:
    """Upright, single-sided: its front is to the left of the way from a to b, as seen from above with z down."""
    return quad((a[0], y[0], a[1]), (b[0], y[0], b[1]), (b[0], y[1], b[1]), (a[0], y[1], a[1]))


def over(triangles: np.ndarray) -> np.ndarray:
    """The same, facing the other way."""
    return triangles[:, ::-1]


def around(x: tuple[float, float], z: tuple[float, float], y: tuple[float, float] = (0, 2.5)) -> np.ndarray:
    """Four walls."""
    corners = [(x[0], z[0]), (x[1], z[0]), (x[1], z[1]), (x[0], z[1])]
    return np.concatenate([wall(a, b, y) for a, b in zip(corners, corners[1:] + corners[:1], strict=True)])


def box(x: tuple[float, float], z: tuple[float, float], y: tuple[float, float]) -> np.ndarray:
    """Closed, facing outwards."""
    return np.concatenate([level(x, z, y[1]), over(level(x, z, y[0])), over(around(x, z, y))])


def made(*pieces: np.ndarray, double_sided: bool = False, name: str = "made") -> Mesh:
    positions = np.concatenate(pieces).reshape(-1, 3).astype(np.float32)
    triangles = np.arange(len(positions), dtype=np.int32).reshape(-1, 3)
    return Mesh(name=name, parts=(Part(positions=positions, triangles=triangles, double_sided=double_sided),))


def turned(mesh: Mesh, angle_deg: float, shift: tuple[float, float, float] = (0, 0, 0)) -> Mesh:
    c, s = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    turn = np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]])
    return made(*[p.positions[p.triangles] @ turn + shift for p in mesh.parts], name=mesh.name)


ROOM = np.concatenate([level((0, 4), (0, 3)), around((0, 4), (0, 3))])
HALVES = np.concatenate([ROOM, wall((2, 0), (2, 3))])
"""A room cut in two by a wall without thickness."""
DOOR = np.concatenate([ROOM, wall((2, 0), (2, 1)), wall((2, 2), (2, 3)), wall((2, 1), (2, 2), (2, 2.5))])
"""The same with a door of 1 m."""


def points(floor: Navigation, num: int, seed: int = 0, **options: Any) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.array([floor.random_point(rng, **options) for _ in range(num)])


def stands(floor: Navigation, x: float, z: float, y: float = 0.0) -> bool:
    return floor.is_navigable(np.array([x, y, z], float))


def island(floor: Navigation, x: float, z: float, y: float = 0.0) -> int:
    return int(floor.islands[floor._node(np.array([x, y, z], float))])


def away(point: np.ndarray, x: tuple[float, float], z: tuple[float, float]) -> float:
    """Distance from a rectangle, as seen from above."""
    return math.hypot(max(x[0] - point[0], point[0] - x[1], 0), max(z[0] - point[2], point[2] - z[1], 0))


@pytest.mark.parametrize("shift", [(0, 0, 0), (0.013, 0.4, 0.037), (-731.21, 12.5, 402.77)])
def test_a_room_with_a_box(shift: tuple[float, float, float]) -> None:
    """Nobody stands within the radius of anything, and everybody can a cell and a half farther away."""
    floor = Navigation.of(turned(made(ROOM, box((1, 2), (1, 1.8), (0, 1))), 0, shift))
    for point in points(floor, 300) - shift:
        assert min(point[0], 4 - point[0], point[2], 3 - point[2]) > RADIUS_M - 1e-3
        assert away(point, (1, 2), (1, 1.8)) > RADIUS_M - 1e-3
        assert point[1] == pytest.approx(0, abs=1e-4)
    for x, z in np.random.default_rng(1).uniform((-1, -1), (5, 4), (2000, 2)):
        clear = min(x, 4 - x, z, 3 - z, away(np.array([x, 0, z]), (1, 2), (1, 1.8)))
        here = floor.is_navigable(np.array([x, 0, z]) + shift)
        assert here or clear < RADIUS_M + 2 * CELL_M
        assert not here or clear > RADIUS_M - 1e-3
    assert floor.area_m2 == pytest.approx(3.75 * 2.75 - 1.25 * 1.05, abs=0.5)
    assert len(floor.radii_m) == 1
    assert floor.largest_radius_m == pytest.approx(math.hypot(3.75, 2.75) / 2, rel=0.05)


@pytest.mark.parametrize("angle_deg", [0, 17, 45, 71])
@pytest.mark.parametrize("side", [1, -1])
def test_a_wall_without_thickness_parts_rooms(angle_deg: float, side: int) -> None:
    """Whichever way it faces and runs."""
    for scene, num_islands in ((HALVES, 2), (DOOR, 1)):
        triangles = np.concatenate([scene[:10], scene[10:][:, ::side]])
        floor = Navigation.of(turned(made(triangles), angle_deg, (0.013, 0, 0.021)))
        assert len(floor.radii_m) == num_islands
        assert floor.area_m2 == pytest.approx(3.75 * 2.75 - 0.25 * (2.75 if num_islands == 2 else 1.9), rel=0.08)


def test_stairs_and_steps() -> None:
    """0.15 m a step is climbed, 0.25 m is not; a point on stairs has the height of its step."""
    for rise, num_islands in ((0.15, 1), (0.25, None)):
        steps = [level((2 + 0.3 * k, 2.3 + 0.3 * k), (0, 2), rise * (k + 1)) for k in range(8)]
        risers = [wall((2 + 0.3 * k, 0), (2 + 0.3 * k, 2), (rise * k, rise * (k + 1))) for k in range(8)]
        floor = Navigation.of(made(level((0, 2), (0, 2)), *steps, *risers, level((4.4, 7), (0, 2), 8 * rise)))
        top, bottom = np.array([6, 8 * rise, 1.0]), np.array([1, 0, 1.0])
        assert floor.is_navigable(top)
        assert floor.is_navigable(bottom)
        assert (len(floor.radii_m) == 1) == (num_islands == 1)
        if num_islands:
            for x, y, _ in points(floor, 300):
                assert y == pytest.approx(rise * min(max(math.floor((x - 2) / 0.3) + 1, 0), 8), abs=1e-5)
            for _ in range(12):
                bottom = floor.step(bottom, -90, 0.5)
            assert bottom[1] == pytest.approx(8 * rise)


@pytest.mark.parametrize(("angle_deg", "climbed"), [(30, True), (44, True), (46, False), (60, False)])
def test_ramps(angle_deg: float, climbed: bool) -> None:
    rise = 3 * math.tan(math.radians(angle_deg))
    ramp = quad((2, 0, 0), (2, 0, 3), (5, rise, 3), (5, rise, 0))
    floor = Navigation.of(made(level((0, 2), (0, 3)), ramp, level((5, 7), (0, 3), rise)))
    assert (len(floor.radii_m) == 1) == climbed
    assert floor.is_navigable(np.array([3.5, rise / 2, 1.5])) == climbed
    for x, y, _ in points(floor, 200):
        assert y == pytest.approx(min(max((x - 2) / 3 * rise, 0), rise), abs=1e-5)


def test_a_table_is_no_way_up_and_no_way_under() -> None:
    """Its top is an island of its own where it is large, nothing where it is small. 0.2 m is climbed, 0.21 m is not."""
    table = box((1, 3), (1, 2), (0.65, 0.7))
    floor = Navigation.of(made(ROOM, table))
    assert stands(floor, 2, 1.5, 0.7)
    assert not stands(floor, 2, 1.5)
    assert island(floor, 2, 1.5, 0.7) != island(floor, 0.5, 0.5)
    assert len(Navigation.of(made(ROOM, box((1, 2), (1, 2), (0.65, 0.7)))).radii_m) == 1
    for height, num in ((0.2, 1), (0.21, 2)):
        floor = Navigation.of(made(ROOM, box((1, 3), (1, 2.5), (0, height))))
        assert stands(floor, 2, 1.5, height)
        assert len(floor.radii_m) == num


def test_headroom() -> None:
    for height, there in ((1.49, False), (1.51, True)):
        floor = Navigation.of(made(ROOM, over(level((2, 4), (0, 3), height))))
        assert stands(floor, 3, 1.5) == there
        assert stands(floor, 1, 1.5)
    step_up = np.concatenate([level((0, 2), (0, 3)), level((2, 4), (0, 3), 0.15), around((0, 4), (0, 3))])
    for lower, num_islands in ((1.6, 2), (1.7, 1)):  # the lower part's ceiling leaves no room over the step
        ceilings = over(np.concatenate([level((0, 2), (0, 3), lower), level((2, 4), (0, 3), 2)]))
        assert len(Navigation.of(made(step_up, ceilings)).radii_m) == num_islands


def test_things_on_the_floor_that_are_stepped_over() -> None:
    """Up to a climb: whichever way they face, and though their sides are steep."""
    heap = np.array([[(1.9, 0, 1.4), (1.9, 0, 1.6), (2, 0.15, 1.5)], [(2.1, 0, 1.6), (2.1, 0, 1.4), (2, 0.15, 1.5)]], float)
    floor = Navigation.of(made(ROOM, over(level((0.5, 1.5), (1, 2), 0.03)), heap))
    assert len(floor.radii_m) == 1
    assert floor.area_m2 == Navigation.of(made(ROOM)).area_m2
    found = floor.snap(np.array([1, 0, 1.5]))
    assert found == pytest.approx([1, 0.03, 1.5], abs=1e-4)


def test_two_storeys() -> None:
    slab = np.concatenate([over(level((0, 4), (0, 3), 2.5)), level((0, 4), (0, 3), 2.7), over(level((0, 4), (0, 3), 5))])
    floor = Navigation.of(made(ROOM, slab, around((0, 4), (0, 3), (2.5, 5))))
    assert len(floor.radii_m) == 2
    assert floor.radii_m[0] == floor.radii_m[1]
    heights = points(floor, 400)[:, 1]
    assert set(np.round(heights, 4)) == {0, 2.7}
    assert 150 < (heights == 0).sum() < 250
    for y in (0, 2.7):
        end = floor.step(np.array([2, y, 1.5]), 30, 0.7)
        assert end == pytest.approx([2 - 0.35, y, 1.5 - 0.7 * math.cos(math.pi / 6)], abs=1e-4)
    assert not stands(floor, 2, 1.5, 1.3)


def test_roofs_are_no_floor() -> None:
    """Neither the top of a closed room nor that of a double-sided ceiling. Upper storeys, gardens and streets are."""
    shed = np.concatenate([ROOM, over(level((0, 4), (0, 3), 2.5))])
    assert stands(Navigation.of(made(shed)), 2, 1.5)
    closed = [(made(shed, box((-0.2, 4.2), (-0.2, 3.2), (-0.2, 2.7))), 2.7), (made(shed, double_sided=True), 2.5)]
    for scene, top in closed:
        floor = Navigation.of(scene)
        assert stands(floor, 2, 1.5)
        assert not stands(floor, 2, 1.5, top)
        assert set(np.round(floor.nodes[:, 1], 3)) == {0}
    garden = Navigation.of(made(shed, level((4, 12), (0, 3)), box((6, 7), (1, 2), (0, 3))))
    assert stands(garden, 9, 1.5)
    assert island(garden, 9, 1.5) != island(garden, 2, 1.5)
    doll_house = Navigation.of(made(ROOM, level((0, 4), (0, 3), 2.5), around((0, 4), (0, 3), (2.5, 5))))
    assert stands(doll_house, 2, 1.5)
    assert stands(doll_house, 2, 1.5, 2.5)
    parking = Navigation.of(made(*[box((0, 6), (0, 4), (y - 0.3, y)) for y in (0, 3, 6)]))
    assert [stands(parking, 3, 2, y) for y in (0, 3, 6)] == [True, True, False]
    assert stands(Navigation.of(made(level((-10, 10), (-10, 10)))), 0, 0)


def test_a_hole_in_the_floor() -> None:
    """Nobody stands within the radius of its rim, nor of the floor's own end."""
    strips = [level((0, 1.5), (0, 3)), level((2.5, 4), (0, 3)), level((1.5, 2.5), (0, 1)), level((1.5, 2.5), (2, 3))]
    floor = Navigation.of(made(*strips))
    for point in points(floor, 500):
        assert away(point, (1.5, 2.5), (1, 2)) > RADIUS_M - 1e-3
        assert min(point[0], 4 - point[0], point[2], 3 - point[2]) > RADIUS_M - 1e-3
    assert stands(floor, 2, 0.5)
    assert len(floor.radii_m) == 1


def test_floors_that_face_down_are_walked_on_where_they_are_double_sided() -> None:
    down = np.concatenate([over(level((0, 4), (0, 3))), around((0, 4), (0, 3))])
    assert stands(Navigation.of(made(down, double_sided=True)), 2, 1.5)
    with pytest.raises(UnreadableError, match=r"^made: no floor to walk on \(.*up"):
        Navigation.of(made(down))


def test_the_agent_is_free() -> None:
    """A thinner gap, a lower ceiling, a higher step."""
    scene = made(DOOR, box((2.5, 4), (0, 3), (0, 0.4)), over(level((0, 1), (0, 3), 1.0)))
    usual = Navigation.of(scene)
    assert not stands(usual, 0.5, 1.5)
    assert island(usual, 3.2, 1.5, 0.4) != island(usual, 1.5, 1.5)
    small = Navigation.of(scene, Agent(height_m=0.9, climb_m=0.4, radius_m=0.3))
    assert stands(small, 0.5, 1.5)
    assert island(small, 3.2, 1.5, 0.4) == island(small, 1.5, 1.5)
    assert points(small, 200)[:, 0].min() > 0.3 - 1e-3


@pytest.mark.parametrize("scale", [1e3, 1e5, 1e7])
def test_scenes_that_are_not_in_metres(scale: float) -> None:
    with pytest.raises(UnreadableError, match=r"^made: too large .*metres"):
        Navigation.of(made(ROOM * scale))


def test_nothing_to_stand_on() -> None:
    for scene in (wall((0, 0), (3, 0)), level((0, 0.5), (0, 0.5)), np.zeros((1, 3, 3))):
        with pytest.raises(UnreadableError, match=r"^made: no floor"):
            Navigation.of(made(scene))


# ------------------------------------------------------------------------------------------------- triangles in columns


def clipped(corners: np.ndarray, axis: int, limit: float, sign: int) -> np.ndarray:
    """The part of a polygon [n, 3] where sign * its coordinate is at least sign * limit."""
    kept = []
    for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        from_a, from_b = (sign * (p[axis] - limit) for p in (a, b))
        if from_a >= 0:
            kept.append(a)
        if from_a * from_b < 0:
            kept.append(a + (b - a) * from_a / (from_a - from_b))
    return np.array(kept).reshape(-1, 3)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**6), kind=st.sampled_from(["any", "upright", "level", "sliver", "on_the_lines"]))
def test_columns_hold_what_is_clipped_to_them(seed: int, kind: str) -> None:
    """Lowest and highest level, and no column is missed. Checked against polygons clipped one by one, in cells and mm."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 1, (3, 3)) * rng.uniform(0.05, 1)
    if kind == "upright":
        corners[2, [0, 2]] = corners[0, [0, 2]] + (corners[1] - corners[0])[[0, 2]] * rng.uniform(-1, 2)
    elif kind == "level":
        corners[:, 1] = 0.3
    elif kind == "sliver":
        corners[2] = corners[1] + rng.normal(0, 1e-3, 3)
    elif kind == "on_the_lines":
        corners = np.round(corners / CELL_M) * CELL_M
    mesh = made(corners[None])
    grid = Grid.around(mesh, Agent(), CELL_M)
    found = in_columns("made", *walkable_triangles(mesh, Agent(), grid), grid)
    levels = {int(c): (low, high) for c, low, high in zip(found.columns, found.lows, found.highs, strict=True)}
    assert len(levels) == len(found.columns)
    (triangle,) = mesh.parts[0].positions[mesh.parts[0].triangles].astype(float)
    triangle = (triangle - grid.corner_m) / (CELL_M, 1e-3, CELL_M)
    for column in range(grid.num_x * grid.num_z):
        polygon = triangle
        for axis, first in zip((0, 2), divmod(column, grid.num_z), strict=True):
            polygon = clipped(clipped(polygon, axis, first - 1e-6, 1), axis, first + 1 + 1e-6, -1)
        if column in levels:
            (low, high), least, most = levels[column], polygon[:, 1].min(), polygon[:, 1].max()
            assert least - 1.5 < low <= high < most + 1.5
            if kind != "on_the_lines":  # there rounding decides which of two columns has what lies between them
                assert (low, high) == pytest.approx((least, most), abs=1.5)
        elif len(polygon):  # it touches no more than a side or a corner of the cell
            assert np.ptp(polygon[:, [0, 2]], axis=0).min() < 1e-4


# -------------------------------------------------------------------------------------------------------------- points


def test_points_are_uniform_and_off_the_grid() -> None:
    floor = Navigation.of(made(ROOM, level((6, 8), (0, 3)), around((6, 8), (0, 3))))
    found = points(floor, 4000)
    small = 1.75 / (1.75 + 3.75)
    assert np.mean(found[:, 0] > 5) == pytest.approx(small, abs=0.03)
    in_cell = found[:, [0, 2]] / CELL_M % 1
    assert np.histogram(in_cell, 5, (0, 1))[0] == pytest.approx(1600, rel=0.1)
    assert np.histogram(found[found[:, 0] < 5, 0], 5, (0.1, 3.9))[0] == pytest.approx(4000 * (1 - small) / 5, rel=0.15)


def test_the_seed_alone_decides() -> None:
    floors = [Navigation.of(made(DOOR)) for _ in range(2)]
    one, other = (points(floor, 50, seed=3) for floor in floors)
    np.testing.assert_array_equal(one, other)
    assert not (one == points(floors[0], 50, seed=4))[:, [0, 2]].any()
    for point in one:
        np.testing.assert_array_equal(*(floor.step(point, 50, 1) for floor in floors))


def test_islands_and_their_radii() -> None:
    floor = Navigation.of(made(ROOM, level((6, 8), (0, 3)), around((6, 8), (0, 3))))
    small, large = (floor.island_radius_m(np.array([x, 0, 1.5])) for x in (7, 2))
    assert (small, large) == pytest.approx((math.hypot(1.75, 2.75) / 2, math.hypot(3.75, 2.75) / 2), rel=0.05)
    assert floor.radii_m.tolist() == [large, small]
    assert floor.largest_radius_m == large
    assert floor.island_radius_m(np.array([5, 0, 1.5])) == 0
    assert points(floor, 200, min_radius_m=(small + large) / 2)[:, 0].max() < 4
    assert points(floor, 200, min_radius_m=small)[:, 0].max() > 6
    with pytest.raises(UnreadableError, match=r"^made: .* 3 m \(2\.\d m"):
        floor.random_point(np.random.default_rng(0), 3)


def test_snap() -> None:
    floor = Navigation.of(made(ROOM, box((1, 2), (1, 1.8), (0, 1))))
    inside = np.array([3, 0, 2.123])
    assert floor.snap(inside) == pytest.approx(inside, abs=1e-4)
    assert floor.snap(inside + (0, 0.6, 0)) == pytest.approx(inside, abs=1e-4)
    for point in ((1.5, 0, 1.2), (-0.2, 0, 0.5), (4.3, 0.1, 3.2), (3, 0.7, 2)):
        found = floor.snap(np.array(point))
        assert floor.is_navigable(found)
        nearest = min(np.linalg.norm(points(floor, 1000) - point, axis=1))
        assert np.linalg.norm(found - point) < nearest + 1e-9
    with pytest.raises(ConfigError, match=r"^made: nobody can stand at 9\.00 0\.00 1\.00; the nearest floor is 5\.\d\d m away"):
        floor.snap(np.array([9, 0, 1.0]))
    with pytest.raises(ConfigError):
        floor.snap(np.array([math.nan, 0, 1.0]))


# --------------------------------------------------------------------------------------------------------------- steps


def test_a_free_step_ends_where_it_looks() -> None:
    floor = Navigation.of(made(level((-5, 5), (-5, 5))))
    for heading in (0, 33, 90, 200, -71, 725):
        start = np.array([0.123, 0, -0.321])
        assert floor.step(start, heading, 0.8) == pytest.approx(start + 0.8 * look(start, heading)[:3, 2], abs=1e-9)
    assert floor.step(start, 10, 0) == pytest.approx(start)


def test_a_step_slides_along_a_wall_and_stops_in_a_corner() -> None:
    floor = Navigation.of(made(ROOM))
    start = np.array([3.8, 0, 1.5])
    slid = floor.step(start, -60, 1.0)  # to x + 0.87, z - 0.5
    assert 3.8 < slid[0] < 3.9
    assert slid[2] == pytest.approx(1.0, abs=0.01)
    corner = floor.step(np.array([3.8, 0, 0.2]), -45, 1)
    assert corner == pytest.approx([3.875, 0, 0.125], abs=0.03)
    assert floor.step(corner, -45, 1) == pytest.approx(corner, abs=1e-4)


def test_the_end_of_a_wall_is_rounded_in_the_circle_alone() -> None:
    """The door begins at z = 1; 0.7 m from x = 1.5 the circle reaches to 1.045 behind the wall, the square around it to 1.15."""
    floor = Navigation.of(made(DOOR))
    assert floor.step(np.array([1.5, 0, 0.8]), -90, 0.7)[0] < 1.9
    assert floor.step(np.array([1.5, 0, 0.95]), -90, 0.7) == pytest.approx([2.2, 0, 0.95], abs=0.2)


def test_steps_along_a_corridor_at_the_end_of_the_grid() -> None:
    corridor = Navigation.of(made(level((0, 6), (0, 0.5)), around((0, 6), (0, 0.5))))
    for z in (0.15, 0.25, 0.35):
        for heading, x in ((-90, 4.0), (90, 2.0)):
            assert corridor.step(np.array([3, 0, z]), heading, 1) == pytest.approx([x, 0, z], abs=1e-4)


def crosses(a: np.ndarray, b: np.ndarray, x: float, z: tuple[float, float]) -> bool:
    """Whether the straight way from a to b meets the part of the line at x between two z."""
    if (a[0] - x) * (b[0] - x) >= 0:
        return False
    return z[0] <= a[2] + (b[2] - a[2]) * (x - a[0]) / (b[0] - a[0]) <= z[1]


def test_no_step_goes_through_a_wall() -> None:
    """The end of one may be walked around, where the circle over the step holds it."""
    rng = np.random.default_rng(0)
    halves, door = Navigation.of(made(HALVES)), Navigation.of(made(DOOR))
    num_through = 0
    for _ in range(400):
        heading, distance = rng.uniform(0, 360), rng.uniform(0, 1)
        start = halves.random_point(rng)
        end = halves.step(start, heading, distance)
        assert (start[0] < 2) == (end[0] < 2)
        assert halves.island_radius_m(end) == halves.island_radius_m(start) > 0
        end = door.step(start, heading, distance)
        num_through += (start[0] < 2) != (end[0] < 2)
        middle = start + look(start, heading)[:3, 2] * distance / 2
        for jamb, part in ((1, (0, 1)), (2, (2, 3))):
            if crosses(start, end, 2, part):
                assert math.hypot(middle[0] - 2, middle[2] - jamb) < distance / 2 + CELL_M
    assert num_through > 5


@lru_cache
def maze() -> Navigation:
    """Walls at all angles, stairs and a gallery that part of the floor lies under."""
    rng = np.random.default_rng(5)
    walls = []
    for _ in range(12):
        a = rng.uniform(0.5, 7.5, 2)
        walls.append(wall(tuple(a), tuple(a + rng.normal(0, 1, 2))))
    steps = [level((8 + 0.25 * k, 8.25 + 0.25 * k), (0, 1.5), 0.18 * (k + 1)) for k in range(12)]
    gallery = [level((8, 11), (1.5, 4), 2.16), over(level((8, 11), (1.5, 4), 2.1)), level((8, 11), (0, 4), -0.01)]
    return Navigation.of(made(level((0, 8), (0, 8)), *walls, *steps, *gallery))


def flooded(floor: Navigation, start: int, middle: np.ndarray, radius: float) -> set[int]:
    """Nodes reached from one through cells that a circle touches, one by one."""
    seen, todo = {start}, deque([start])
    while todo:
        for node in map(int, floor.neighbours[todo.popleft()]):
            if node >= 0 and node not in seen:
                gap = np.maximum(np.abs(floor.nodes[node, [0, 2]] - middle) - CELL_M / 2, 0)
                if np.hypot(*gap) <= radius:
                    seen.add(node)
                    todo.append(node)
    return seen


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 10**6), heading=st.floats(-400, 400), distance=st.floats(0.01, 1.2))
def test_a_step_ends_at_the_nearest_point_that_a_flood_reaches(seed: int, heading: float, distance: float) -> None:
    floor = maze()
    start = floor.random_point(np.random.default_rng(seed))
    end = floor.step(start, heading, distance)
    target = start + look(start, heading)[:3, 2] * distance
    assert floor.is_navigable(end)
    assert math.hypot(*(end - start)[[0, 2]]) <= distance + CELL_M
    reached = flooded(floor, floor._node(start), ((start + target) / 2)[[0, 2]], distance / 2)
    assert floor._node(end) in reached
    cells = floor.nodes[sorted(reached)][:, [0, 2]]
    ends = np.clip(target[[0, 2]], cells - CELL_M / 2, cells + CELL_M / 2)
    nearest = min(math.dist(e, target[[0, 2]]) for e in ends if math.dist(e, start[[0, 2]]) < distance + CELL_M)
    assert math.dist(end[[0, 2]], target[[0, 2]]) == pytest.approx(nearest, abs=2e-4)
    assert floor.islands[floor._node(end)] == floor.islands[floor._node(start)]


def test_long_walks_never_leave_the_floor() -> None:
    floor, rng = maze(), np.random.default_rng(1)
    point, heights = floor.snap(np.array([8.6, 0.5, 0.75])), set()
    for _ in range(600):
        after = floor.step(point, rng.uniform(0, 360), rng.uniform(0, 1))
        assert floor.island_radius_m(after) == floor.largest_radius_m > 0
        point = after
        heights.add(round(float(point[1]), 2))
    assert heights >= {0, 0.36, 0.54}


def test_links_are_mutual() -> None:
    floor = maze()
    for side in range(4):
        has = floor.neighbours[:, side] >= 0
        assert 0.5 < has.mean() < 1
        np.testing.assert_array_equal(floor.neighbours[floor.neighbours[has, side], (side + 2) % 4], np.flatnonzero(has))
        way = floor.nodes[floor.neighbours[has, side]] - floor.nodes[has]
        assert way[:, [0, 2]] == pytest.approx(np.broadcast_to([[1, 0], [0, 1], [-1, 0], [0, -1]][side], (has.sum(), 2)) * CELL_M)
        assert np.abs(way[:, 1]).max() <= 0.2 + 1e-9


def test_a_step_from_nowhere() -> None:
    with pytest.raises(ConfigError, match=r"^made: nobody can stand at 0\.01 0\.00 1\.00 \(snap"):
        Navigation.of(made(ROOM)).step(np.array([0.01, 0, 1.0]), 0, 1)


# --------------------------------------------------------------------------------------------------------- real scenes


@lru_cache
def real(name: str) -> tuple[Mesh, Navigation]:
    path = SHARED / "data" / SCENES[name]
    if not path.exists():
        pytest.skip(f"{path} is not there")
    if name == "kitchen":
        pytest.importorskip("DracoPy", reason="DracoPy is absent: the kitchen is compressed with it")
    mesh = load_mesh(path)
    return mesh, Navigation.of(mesh)


def reference(name: str) -> dict[str, Any]:
    path = SHARED / "parity" / "habitat" / name / "reference.json"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    return json.loads(path.read_text())


@pytest.mark.parametrize("name", ["apartment", "gallery"])
def test_floors_are_habitats(name: str) -> None:
    """Its points stand up to one of its cells of 0.2 m above the floor; its radius is of corners of polygons."""
    expected, (_, floor) = reference(name), real(name)
    assert floor.area_m2 == pytest.approx(expected["navigable_area_m2"], rel=0.03)
    assert np.median(expected["island_radius"]) == pytest.approx(floor.largest_radius_m, rel=0.1)
    distance = [np.linalg.norm(floor.snap(np.array(p), 5) - p) for p in expected["random_navigable_points"]]
    assert np.sum(np.array(distance) <= 0.25) >= 98
    sideways = [math.hypot(*(floor.snap(np.array(p), 5) - p)[[0, 2]]) for p in expected["random_navigable_points"]]
    assert np.sum(np.array(sideways) <= 0.05) >= 98


class Rays:
    """How far it is to the first triangle, whichever way it faces."""

    def __init__(self, mesh: Mesh) -> None:
        reason = "embreex is absent: no rays to check with (pip install 'twoview[scenes]')"
        construction = pytest.importorskip("embreex.mesh_construction", reason=reason)
        self.scene = pytest.importorskip("embreex.rtcore_scene", reason=reason).EmbreeScene()
        for part in mesh.parts:
            construction.TriangleMesh(self.scene, part.positions, part.triangles)

    def cast(self, origins: np.ndarray, way: np.ndarray) -> np.ndarray:
        ways = np.broadcast_to(way, origins.shape).astype(np.float32)
        return self.scene.run(origins.astype(np.float32), np.ascontiguousarray(ways), query="DISTANCE")


@pytest.mark.parametrize("name", SCENES)
def test_points_of_real_scenes_stand_on_floor_and_clear_of_walls(name: str) -> None:
    mesh, floor = real(name)
    rays, found = Rays(mesh), points(floor, 500)
    below = rays.cast(found + (0, 0.5, 0), np.array([0, -1, 0]))
    assert np.abs(below - 0.5).max() < 0.02
    assert rays.cast(found + (0, 0.01, 0), np.array([0, 1, 0])).min() > 1.5 - CELL_M
    for height in (0.3, 1.0):
        for angle in np.arange(16) * math.pi / 8:
            free = rays.cast(found + (0, height, 0), np.array([math.cos(angle), 0, math.sin(angle)]))
            assert free.min() > RADIUS_M - CELL_M


@pytest.mark.parametrize("name", SCENES)
def test_steps_through_real_scenes_cross_no_wall(name: str) -> None:
    """Seen at the height of the chest, from start to end; but for ends of walls, which the circle holds."""
    mesh, floor = real(name)
    rays, rng = Rays(mesh), np.random.default_rng(2)
    starts = points(floor, 500, seed=1)
    ends = np.array([floor.step(p, rng.uniform(0, 360), rng.uniform(0.5, 1)) for p in starts])
    away = ends - starts
    moved = np.linalg.norm(away, axis=1) > 0.01
    assert moved.mean() > 0.9
    length = np.linalg.norm(away[moved], axis=1)
    free = rays.cast(starts[moved] + (0, 1.0, 0), away[moved] / length[:, None])
    assert np.mean(free < length) < 0.02
    assert all(floor.island_radius_m(a) == floor.island_radius_m(b) > 0 for a, b in zip(starts, ends, strict=True))
