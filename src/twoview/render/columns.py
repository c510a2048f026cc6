"""The triangles of a mesh in the columns of a grid on the ground."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int32, Int64

from ..errors import UnreadableError
from .mesh import Mesh

MAX_SURFACES = 20_000_000
"""Most pairs of a triangle and a column it touches: more than 20,000 m2 of surface."""
_CHUNK = 1 << 15
_HEIGHT_BITS = 21
"""A column and a height in millimetres make one integer, which sorts by column, then by height."""


@dataclass(frozen=True, kw_only=True)
class Agent:
    """Who walks. The defaults are habitat-sim's."""

    height_m: float = 1.5
    radius_m: float = 0.1
    climb_m: float = 0.2
    """Steps up to this height are taken."""
    slope_deg: float = 45.0
    """Steeper floor is not walked on."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Columns on the ground. A place is x and z in cells from its corner; a level is a height in mm from its base."""

    corner_m: tuple[float, float, float]
    cell_m: float
    num_x: int
    num_z: int

    @staticmethod
    def around(mesh: Mesh, agent: Agent, cell_m: float) -> "Grid":
        """With a column to spare on each side, and room below for an agent. Raises UnreadableError where it is too large."""
        low, high = mesh.bounds_m
        num_x, tall_m, num_z = ((high - low) / (cell_m, 1, cell_m) + (3, 2 * agent.height_m, 3)).tolist()
        if tall_m * 1000 >= 1 << _HEIGHT_BITS or num_x * num_z >= 1 << (62 - _HEIGHT_BITS):
            raise _too_large(mesh.name)
        x, y, z = (low - (cell_m, agent.height_m, cell_m)).tolist()
        return Grid(corner_m=(x, y, z), cell_m=cell_m, num_x=int(num_x), num_z=int(num_z))

    @property
    def ways(self) -> tuple[int, ...]:
        """From a column to those beside it, towards +x, +z, -x, -z; then to those at its corners."""
        x, z = self.num_z, 1
        return x, z, -x, -z, x + z, z - x, -x - z, x - z

    def place(self, point: Float64[np.ndarray, "... 3"]) -> Float64[np.ndarray, "... 2"]:
        return (point[..., [0, 2]] - (self.corner_m[0], self.corner_m[2])) / self.cell_m

    def point(self, place: Float64[np.ndarray, " 2"], height_m: float) -> Float64[np.ndarray, " 3"]:
        x, z = place * self.cell_m
        return np.array([self.corner_m[0] + x, height_m, self.corner_m[2] + z])

    def points(self, columns: Int64[np.ndarray, " n"], tops: Int64[np.ndarray, " n"]) -> Float64[np.ndarray, "n 3"]:
        """Middles of cells."""
        x, z = np.divmod(columns, self.num_z)
        return np.stack([(x + 0.5) * self.cell_m, tops / 1000, (z + 0.5) * self.cell_m], axis=1) + self.corner_m

    def column(self, place: Float64[np.ndarray, " 2"]) -> int:
        """-1 outside."""
        x, z = place
        return math.floor(x) * self.num_z + math.floor(z) if 0 <= x < self.num_x and 0 <= z < self.num_z else -1


@dataclass(frozen=True, kw_only=True, eq=False)
class Surfaces:
    """Where triangles pass through columns, sorted by column, then by lowest level. S = number of pairs of both."""

    columns: Int64[np.ndarray, " s"]
    lows: Int32[np.ndarray, " s"]
    highs: Int32[np.ndarray, " s"]
    triangles: Int32[np.ndarray, " s"]
    walkable: Bool[np.ndarray, " s"]


def walkable_triangles(mesh: Mesh, agent: Agent, grid: Grid) -> tuple[Float64[np.ndarray, "3 3 t"], Bool[np.ndarray, " t"]]:
    """Corners (corner, axis, triangle), x and z in cells and y in metres; and whether each is flat enough and faces up.

    A double-sided triangle faces up whichever way it is wound.
    """
    corners = np.concatenate([part.positions[part.triangles] for part in mesh.parts]).astype(np.float64)
    double_sided = np.repeat([part.double_sided for part in mesh.parts], [len(part.triangles) for part in mesh.parts])
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    up = np.where(double_sided, np.abs(normals[:, 1]), normals[:, 1])
    walkable = up > math.cos(math.radians(agent.slope_deg)) * norm(normals)
    corners[:, :, [0, 2]] = grid.place(corners)
    return np.ascontiguousarray(corners.transpose(1, 2, 0)), walkable


def in_columns(name: str, corners: Float64[np.ndarray, "3 3 t"], walkable: Bool[np.ndarray, " t"], grid: Grid) -> Surfaces:
    """Every column that each triangle touches. Raises UnreadableError where there are too many for a scene in metres."""
    found, num = [], 0
    for triangle, row, first, end in _rows(corners):
        num += int((end - first).sum())
        if num > MAX_SURFACES:
            raise _too_large(name)
        for part in _parts(end - first):
            which, x = ranges(first[part], end[part])
            which += part.start
            low, high = _extent(corners[:, :, triangle[which]], x, row[which])
            touched = low <= high
            columns, which = x[touched] * grid.num_z + row[which][touched], triangle[which][touched]
            levels = (mm(y[touched] - grid.corner_m[1]) for y in (low, high))
            found.append((columns, *(numbers.astype(np.int32) for numbers in (*levels, which))))
    columns, lows, highs, triangles = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
    order = np.argsort(key(columns, lows), kind="stable")
    triangles = triangles[order]
    return Surfaces(columns=columns[order], lows=lows[order], highs=highs[order], triangles=triangles, walkable=walkable[triangles])


def _rows(corners: Float64[np.ndarray, "3 3 t"]) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Triangle, row of cells along x that it touches, and the first x and the one after the last; chunk by chunk."""
    first, end = np.floor(corners[:, 2].min(0)).astype(np.int64), np.floor(corners[:, 2].max(0)).astype(np.int64) + 1
    for part in _parts(end - first):
        triangle, row = ranges(first[part], end[part])
        triangle += part.start
        low, high = np.full(len(row), np.inf), np.full(len(row), -np.inf)
        for start, along in _edges(corners[:, :, triangle]):
            enter, leave = _passes(start[2], along[2], row)
            enter, leave = np.maximum(enter, 0), np.minimum(leave, 1)
            for t in (enter, leave):
                x = np.where(enter <= leave, start[0] + t * along[0], np.nan)
                low, high = np.fmin(low, x), np.fmax(high, x)
        touched = low <= high
        first_x, last_x = (np.floor(x[touched]).astype(np.int64) for x in (low, high))
        yield triangle[touched], row[touched], first_x, last_x + 1


def _extent(
    corners: Float64[np.ndarray, "3 3 m"], x: Int64[np.ndarray, " m"], z: Int64[np.ndarray, " m"]
) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and the highest y of each triangle inside a cell; inf and -inf where it has none.

    Both are where an edge enters or leaves the cell or ends in it, or at the cell's own corners.
    """
    low, high = np.full(len(x), np.inf), np.full(len(x), -np.inf)
    for start, along in _edges(corners):
        (enter_x, leave_x), (enter_z, leave_z) = _passes(start[0], along[0], x), _passes(start[2], along[2], z)
        enter, leave = np.maximum(np.maximum(enter_x, enter_z), 0), np.minimum(np.minimum(leave_x, leave_z), 1)
        for t in (enter, leave):
            y = np.where(enter <= leave, start[1] + t * along[1], np.nan)
            low, high = np.fmin(low, y), np.fmax(high, y)
    for corner in ((0, 0), (0, 1), (1, 0), (1, 1)):
        y = heights_at(corners, x + corner[0], z + corner[1])
        low, high = np.minimum(low, np.where(np.isfinite(y), y, np.inf)), np.maximum(high, y)
    return low, high


def _edges(corners: Float64[np.ndarray, "3 3 m"]) -> Iterator[tuple[Float64[np.ndarray, "3 m"], Float64[np.ndarray, "3 m"]]]:
    """Start of each edge, and the way to its end."""
    for k in range(3):
        yield corners[k], corners[(k + 1) % 3] - corners[k]


def _passes(
    start: Float64[np.ndarray, " m"], along: Float64[np.ndarray, " m"], cell: Int64[np.ndarray, " m"]
) -> tuple[np.ndarray, np.ndarray]:
    """Between which shares of its length a line is in [cell, cell + 1], on one axis."""
    along = np.where(np.abs(along) < 1e-30, 1e-30, along)  # a line that stays in one cell or outside it
    ends = (cell - start) / along, (cell + 1 - start) / along
    return np.minimum(*ends), np.maximum(*ends)


def heights_at(corners: Float64[np.ndarray, "3 3 m"], x: np.ndarray | float, z: np.ndarray | float) -> Float64[np.ndarray, " m"]:
    """y of each triangle at x, z; -inf where it is not there. Triangles on edge, as seen from above, are nowhere."""
    shares = np.stack([along[0] * (z - start[2]) - along[2] * (x - start[0]) for start, along in _edges(corners)])
    area = shares.sum(0)
    shares = shares[[1, 2, 0]] / np.where(np.abs(area) < 1e-9, np.nan, area)
    return np.where((shares >= -1e-9).all(0), (shares * corners[:, 1]).sum(0), -np.inf)


def mm(metres: Any) -> Any:
    return np.rint(np.multiply(metres, 1000)).astype(np.int64)


def key(columns: Int64[np.ndarray, " n"], levels: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    return (columns << _HEIGHT_BITS) + levels


def norm(vectors: Float64[np.ndarray, "n d"]) -> Float64[np.ndarray, " n"]:
    return np.sqrt(np.einsum("ij,ij->i", vectors, vectors))


def ranges(first: Int64[np.ndarray, " n"], end: Int64[np.ndarray, " n"]) -> tuple[Int64[np.ndarray, " m"], Int64[np.ndarray, " m"]]:
    """Every whole number in each range, and the range it is of."""
    counts = end - first
    which = np.repeat(np.arange(len(counts)), counts)
    return which, np.arange(len(which)) + (first - np.cumsum(counts) + counts)[which]


def _parts(counts: Int64[np.ndarray, " n"]) -> Iterator[slice]:
    """Slices that sum to about _CHUNK each, or hold one count."""
    sums = np.cumsum(counts)
    start = 0
    while start < len(sums):
        end = max(int(np.searchsorted(sums, (sums[start - 1] if start else 0) + _CHUNK, side="right")), start + 1)
        yield slice(start, end)
        start = end


def _too_large(name: str) -> UnreadableError:
    return UnreadableError(f"{name}: too large to walk in (is it in metres? scale it)")
