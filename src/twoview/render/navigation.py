"""Where somebody can stand and walk in a mesh: what Recast's navigation mesh is to habitat-sim, as cells of a grid.

Every cell of a grid on the ground is a column that holds the surfaces passing through it. A place is a height in a column where
somebody can stand: on a surface that faces up and is not too steep, with headroom above it. Places are linked to those in the
four columns beside them that a climb reaches; those near walls and drops are left out; what is still linked is an island.
The steps are Recast's. Heights are kept to the millimetre, where habitat-sim's cells are 0.2 m tall.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float64, Int32, Int64

from ..errors import ConfigError, UnreadableError
from .columns import Agent, Grid, heights_at, in_columns, mm, norm, ranges, walkable_triangles
from .mesh import Mesh
from .places import (
    are_roofs,
    away_from,
    by_radius,
    components,
    height_beside,
    in_large_islands,
    links_among,
    links_of,
    places_of,
    spans_of,
    surfaces_under,
)

MIN_ISLAND_M2 = 1.0
"""Smaller islands are left out, mostly the tops of furniture: Recast's least region in habitat-sim has 20 x 20 cells."""
_INSIDE = 1e-3
"""How far from the sides of its cell a point stays, in cells, so that rounding leaves it there."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Navigation:
    """The floor of a mesh. N = number of nodes, I = of islands, S = of surfaces at nodes, T = of triangles.

    A node is a cell of floor. Points are float64 x, y, z in metres, y up; those that come back lie on the mesh.
    """

    name: str
    agent: Agent
    nodes: Float64[np.ndarray, "n 3"]
    """Middles of cells, at the highest that is stood on in each; sorted by column, then by height."""
    neighbours: Int64[np.ndarray, "n 4"]
    """Nodes towards +x, +z, -x and -z; -1 where there is none."""
    islands: Int64[np.ndarray, " n"]
    """Of each node; 0 is the island with the largest radius."""
    radii_m: Float64[np.ndarray, " i"]
    """Of each island, as habitat-sim has it: how far its farthest node is from the mean of its nodes."""
    _grid: "Grid"
    _columns: Int64[np.ndarray, " n"]
    _corners: Float64[np.ndarray, "3 3 t"]
    _starts: Int64[np.ndarray, " n+1"]
    """Where each node's surfaces begin."""
    _surfaces: Int32[np.ndarray, " s"]
    """Triangles in a node's column, those whose top there is at most a climb below the node."""

    @staticmethod
    def of(mesh: Mesh, agent: Agent | None = None, cell_m: float = 0.05) -> "Navigation":
        """Raises UnreadableError for a mesh without floor, and for one so large that it cannot be in metres."""
        agent = agent or Agent()
        grid = Grid.around(mesh, agent, cell_m)
        corners, walkable = walkable_triangles(mesh, agent, grid)
        surfaces = in_columns(mesh.name, corners, walkable, grid)
        spans = spans_of(surfaces, agent)
        places = places_of(spans, agent)
        links = links_of(places, agent, grid)
        higher, climb = height_beside(places, spans, agent, grid), mm(agent.climb_m)
        lost = (higher < -climb).any(1) | are_roofs(places, links, (higher > climb).any(1))
        kept = away_from(links, lost, math.ceil(agent.radius_m / cell_m - 1e-6))
        kept = in_large_islands(links, kept, round(MIN_ISLAND_M2 / cell_m**2))
        if not kept.any():
            raise UnreadableError(f"{mesh.name}: no floor to walk on (is --source.up right? floors have to face up)")
        columns, tops, neighbours = places.columns[kept], places.tops[kept], links_among(links, kept)
        nodes = grid.points(columns, tops)
        islands, radii = by_radius(nodes, components(neighbours))
        starts, triangles = surfaces_under(surfaces, columns, tops, agent)
        return Navigation(
            name=mesh.name,
            agent=agent,
            nodes=nodes,
            neighbours=neighbours,
            islands=islands,
            radii_m=radii,
            _grid=grid,
            _columns=columns,
            _corners=corners,
            _starts=starts,
            _surfaces=triangles,
        )

    @property
    def area_m2(self) -> float:
        """Of all floor, as seen from above."""
        return len(self.nodes) * self._grid.cell_m**2

    @property
    def largest_radius_m(self) -> float:
        """Of all islands."""
        return float(self.radii_m[0])

    def island_radius_m(self, point: Float64[np.ndarray, " 3"]) -> float:
        """The radius of the island that a point is on; 0 where nobody can stand."""
        node = self._node(point)
        return 0.0 if node < 0 else float(self.radii_m[self.islands[node]])

    def is_navigable(self, point: Float64[np.ndarray, " 3"]) -> bool:
        """Whether somebody can stand there: on floor, or no more than a climb above or below it."""
        return self._node(point) >= 0

    def random_point(self, rng: np.random.Generator, min_radius_m: float = 0.0) -> Float64[np.ndarray, " 3"]:
        """A point drawn uniformly, as seen from above, from all islands with at least this radius.

        Raises UnreadableError where there is none: `largest_radius_m` tells before.
        """
        num_islands = int(np.count_nonzero(self.radii_m >= min_radius_m))
        if not num_islands:
            raise UnreadableError(
                f"{self.name}: no island of floor has a radius of {min_radius_m:g} m ({self.largest_radius_m:.1f} m is the largest)"
            )
        order, ends = self._by_island
        node = int(order[rng.integers(ends[num_islands - 1])])
        return self._on_floor(node, self._cells[node] + rng.uniform(_INSIDE, 1 - _INSIDE, 2))

    def snap(self, point: Float64[np.ndarray, " 3"], max_distance_m: float = 1.0) -> Float64[np.ndarray, " 3"]:
        """The nearest point where somebody can stand. Raises ConfigError where it is farther than `max_distance_m`."""
        place = self._grid.place(point)
        inside = np.clip(place, self._cells + _INSIDE, self._cells + 1 - _INSIDE)
        node = int(np.hypot(norm(inside - place) * self._grid.cell_m, self.nodes[:, 1] - point[1]).argmin())
        found = self._on_floor(node, inside[node])
        distance_m = float(np.linalg.norm(found - point))
        if not distance_m <= max_distance_m:
            where, there = (" ".join(f"{x:.2f}" for x in xyz) for xyz in (point, found))
            raise ConfigError(f"{self.name}: nobody can stand at {where}; the nearest floor is {distance_m:.2f} m away, at {there}")
        return found

    def step(self, point: Float64[np.ndarray, " 3"], heading_deg: float, distance_m: float) -> Float64[np.ndarray, " 3"]:
        """Where a walk straight ahead ends that slides along walls: as near to its target as the floor leads, seen from above.

        Heading as in `camera.look`; no more than a cell longer than asked. As Detour's moveAlongSurface does, whatever is reached
        without leaving the circle that has start and target on opposite ends counts: the end of a wall in it is walked around.
        Raises ConfigError where nobody can stand at the start.
        """
        node, heading = self._node(point), math.radians(heading_deg)
        if node < 0:
            raise ConfigError(f"{self.name}: nobody can stand at {' '.join(f'{x:.2f}' for x in point)} (snap it to the floor)")
        start, length = self._grid.place(point), distance_m / self._grid.cell_m
        target = start - np.array([math.sin(heading), math.cos(heading)]) * length
        reached = self._linked(node, self._in_circle((start + target) / 2, length / 2))
        cells = self._cells[reached]
        ends = np.clip(target, cells + _INSIDE, cells + 1 - _INSIDE)
        away = np.where(norm(ends - start) <= length + 1, norm(ends - target), np.inf)
        nearest = int(away.argmin())
        return self._on_floor(int(reached[nearest]), ends[nearest])

    @cached_property
    def _cells(self) -> Float64[np.ndarray, "n 2"]:
        """The low corner of each node's cell: x and z, in cells."""
        return np.stack(np.divmod(self._columns, self._grid.num_z), axis=1).astype(np.float64)

    @cached_property
    def _by_island(self) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " i"]]:
        """Nodes island by island, and where each ends."""
        return np.argsort(self.islands, kind="stable"), np.cumsum(np.bincount(self.islands))

    def _node(self, point: Float64[np.ndarray, " 3"]) -> int:
        """The node that a point stands on, or -1."""
        place = self._grid.place(point)
        column = self._grid.column(place)
        first, end = np.searchsorted(self._columns, (column, column + 1))
        if column < 0 or first == end:
            return -1
        node = int(first + np.abs(self.nodes[first:end, 1] - point[1]).argmin())
        return node if abs(self._on_floor(node, place)[1] - point[1]) <= self.agent.climb_m else -1

    def _on_floor(self, node: int, place: Float64[np.ndarray, " 2"]) -> Float64[np.ndarray, " 3"]:
        """A point in a node's cell, at the height of the highest of its surfaces there."""
        triangles = self._surfaces[self._starts[node] : self._starts[node + 1]]
        heights = heights_at(self._corners[:, :, triangles], *place)
        height = heights.max(initial=-np.inf)
        return self._grid.point(place, height if np.isfinite(height) else self.nodes[node, 1])

    def _in_circle(self, middle: Float64[np.ndarray, " 2"], radius: float) -> Int64[np.ndarray, " m"]:
        """Nodes whose cells a circle touches, in order. All in cells."""
        (x, z), (end_x, end_z) = np.floor(middle - radius - 1e-6).astype(int), np.floor(middle + radius + 1e-6).astype(int)
        rows = np.arange(x, end_x + 1) * self._grid.num_z
        first, end = np.searchsorted(self._columns, (rows + max(z, 0), rows + min(end_z, self._grid.num_z - 1) + 1))
        _, found = ranges(first, end)
        cells = self._cells[found]
        return found[norm(np.clip(middle, cells, cells + 1) - middle) <= radius + 1e-6]

    def _linked(self, node: int, among: Int64[np.ndarray, " m"]) -> Int64[np.ndarray, " k"]:
        """Those of some nodes, given in order, that can be walked to from one of them without touching others."""
        links = self.neighbours[among]
        found = np.searchsorted(among, links).clip(max=len(among) - 1)
        islands = components(np.where(among[found] == links, found, -1))
        return among[islands == islands[np.searchsorted(among, node)]]
