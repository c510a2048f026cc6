"""Where an agent can stand in the columns of a grid, and which places it walks between."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int32, Int64

from .columns import Agent, Grid, Surfaces, key, mm, norm
from .pictures import package

_OPEN_SKY = 1 << 30


@dataclass(frozen=True, kw_only=True, eq=False)
class Spans:
    """Solid matter in columns, sorted: surfaces with no space between them."""

    columns: Int64[np.ndarray, " k"]
    lows: Int32[np.ndarray, " k"]
    tops: Int32[np.ndarray, " k"]
    walkable: Bool[np.ndarray, " k"]


def spans_of(surfaces: Surfaces, agent: Agent) -> Spans:
    """Walkable is a span whose top is at most a climb above floor in it or in the span below, as Recast has it."""
    reach = np.maximum.accumulate(key(surfaces.columns, surfaces.highs))
    starts = np.flatnonzero(np.append(True, key(surfaces.columns, surfaces.lows)[1:] > reach[:-1]))
    columns, tops = surfaces.columns[starts], np.maximum.reduceat(surfaces.highs, starts)
    floors = np.maximum.reduceat(np.where(surfaces.walkable, surfaces.highs, -_OPEN_SKY), starts)
    floors[1:] = np.where(columns[1:] == columns[:-1], np.maximum(floors[1:], floors[:-1]), floors[1:])
    return Spans(columns=columns, lows=surfaces.lows[starts], tops=tops, walkable=tops - floors <= mm(agent.climb_m))


@dataclass(frozen=True, kw_only=True, eq=False)
class Places:
    """Where an agent can stand, sorted; two in one column are at least its height apart. P = number of places."""

    columns: Int64[np.ndarray, " p"]
    tops: Int32[np.ndarray, " p"]
    ceilings: Int32[np.ndarray, " p"]
    """The lowest level above."""


def places_of(spans: Spans, agent: Agent) -> Places:
    above = np.append(spans.columns[1:] == spans.columns[:-1], False)
    ceilings = np.where(above, np.roll(spans.lows, -1), np.int32(_OPEN_SKY))
    stand = spans.walkable & (ceilings - spans.tops >= mm(agent.height_m))
    return Places(columns=spans.columns[stand], tops=spans.tops[stand], ceilings=ceilings[stand])


def links_of(places: Places, agent: Agent, grid: Grid) -> Int64[np.ndarray, "p 4"]:
    """Places towards +x, +z, -x, -z that are a climb away or less, under a ceiling high enough for both; -1 for none."""
    columns, tops, ceilings = places.columns, places.tops, places.ceilings
    climb, keys, links = mm(agent.climb_m), key(columns, tops), np.full((len(tops), 4), -1)
    for side, way in enumerate(grid.ways[:4]):
        found = np.searchsorted(keys, key(columns + way, tops - climb)).clip(max=len(keys) - 1)
        room = np.minimum(ceilings, ceilings[found]) - np.maximum(tops, tops[found])
        near = (columns[found] == columns + way) & (tops[found] <= tops + climb) & (room >= mm(agent.height_m))
        links[near, side] = found[near]
    return links


def height_beside(places: Places, spans: Spans, agent: Agent, grid: Grid) -> Int64[np.ndarray, "p 8"]:
    """How much higher than a place the matter in each column around it is; what begins above an agent's head does not count."""
    keys, higher = key(spans.columns, spans.lows), np.full((len(places.tops), 8), -_OPEN_SKY)
    for side, way in enumerate(grid.ways):
        last = np.searchsorted(keys, key(places.columns + way, places.tops + mm(agent.height_m))) - 1
        there = spans.columns[last] == places.columns + way
        higher[there, side] = (spans.tops[last] - places.tops)[there]
    return higher


def are_roofs(places: Places, links: Int64[np.ndarray, "p 4"], walled: Bool[np.ndarray, " p"]) -> Bool[np.ndarray, " p"]:
    """Which places are on top of rooms: islands under the open sky, with places to stand beneath, and mostly no walls around.

    Walls make an upper storey without a ceiling floor; nothing beneath makes a garden or a street floor. habitat-sim has no
    such rule: it counts roofs that face up, but no top of a double-sided ceiling.
    """
    islands, rim = components(links), (links < 0).any(1)
    beneath = np.append(False, places.columns[1:] == places.columns[:-1])[: len(islands)]
    num, num_open, num_beneath, num_rim, num_walled = (
        np.bincount(islands, which) for which in (None, places.ceilings == _OPEN_SKY, beneath, rim, walled & rim)
    )
    return ((num_open > 0.9 * num) & (num_beneath > 0.5 * num) & (num_walled < 0.5 * num_rim))[islands]


def away_from(links: Int64[np.ndarray, "p 4"], lost: Bool[np.ndarray, " p"], num_cells: int) -> Bool[np.ndarray, " p"]:
    """Places that are so many cells away from what is lost and from sides without a link; distances are octagons, as in Recast."""
    kept = np.append(~lost, False)  # the last one is the place -1
    all_links = np.append(links, [[-1] * 4], axis=0)
    for k in range(num_cells):
        fine = kept[links].all(1)
        for side in range(4 if k % 2 else 0):
            fine &= kept[all_links[links[:, side], side - 1]] & kept[all_links[links[:, side], (side + 1) % 4]]
        kept[:-1] &= fine
    return kept[:-1]


def links_among(links: Int64[np.ndarray, "p 4"], kept: Bool[np.ndarray, " p"]) -> Int64[np.ndarray, "n 4"]:
    """The links of what is kept, numbered anew."""
    number = np.where(np.append(kept, False), np.cumsum(np.append(kept, False)) - 1, -1)
    return number[links[kept]]


def components(links: Int64[np.ndarray, "n 4"]) -> Int64[np.ndarray, " n"]:
    """The number of each node's connected component."""
    scipy = package("scipy.sparse", "walking through a scene"), package("scipy.sparse.csgraph", "walking through a scene")
    there = links >= 0
    ends = np.append(0, np.cumsum(there.sum(1)))
    graph = scipy[0].csr_matrix((np.ones(ends[-1], np.int8), links[there], ends), shape=(len(links),) * 2)
    return scipy[1].connected_components(graph, directed=False)[1].astype(np.int64)


def in_large_islands(links: Int64[np.ndarray, "p 4"], kept: Bool[np.ndarray, " p"], num_cells: int) -> Bool[np.ndarray, " p"]:
    """Places kept that are linked with at least so many."""
    islands = components(links_among(links, kept))
    large = kept.copy()
    large[kept] = (np.bincount(islands) >= num_cells)[islands]
    return large


def by_radius(
    nodes: Float64[np.ndarray, "n 3"], islands: Int64[np.ndarray, " n"]
) -> tuple[Int64[np.ndarray, " n"], Float64[np.ndarray, " i"]]:
    """Islands numbered from the one with the largest radius down, and their radii."""
    sizes = np.bincount(islands)
    means = np.stack([np.bincount(islands, axis) / sizes for axis in nodes.T], axis=1)
    radii = np.zeros(len(sizes))
    np.maximum.at(radii, islands, norm(nodes - means[islands]))
    order = np.argsort(-radii, kind="stable")
    return np.argsort(order)[islands], radii[order]


def surfaces_under(
    surfaces: Surfaces, columns: Int64[np.ndarray, " n"], tops: Int64[np.ndarray, " n"], agent: Agent
) -> tuple[Int64[np.ndarray, " n+1"], Int32[np.ndarray, " s"]]:
    """Triangles at each node, see Navigation, and where each node's begin."""
    node = np.searchsorted(key(columns, tops), key(surfaces.columns, surfaces.highs)).clip(max=len(columns) - 1)
    depth = tops[node] - surfaces.highs
    under = np.flatnonzero((columns[node] == surfaces.columns) & (depth >= 0) & (depth <= mm(agent.climb_m)))
    under = under[np.argsort(node[under], kind="stable")]
    return np.searchsorted(node[under], np.arange(len(columns) + 1)), surfaces.triangles[under]
