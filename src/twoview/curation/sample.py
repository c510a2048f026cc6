"""The sample that a forecast is made of: which groups of candidates are tried, and how long each piece of them takes a worker.

A real run does not jump from place to place: what it costs to get to a piece (opening the scene, a jump in a video, the views that
the group before would have left) is told apart from the rest.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from ..errors import TwoviewError, UnreadableError
from ..plan import PAIR_COST, VIEW_COST, Plan, Slice, about
from ..schema import Group, Pair, Scene, SceneInfo, Source, iter_groups
from .curate import CurateConfig, curate_part
from .opened import OpenScene
from .propose import Look, groups_of

SHARE = 0.01
"""Of the groups are measured, but for these bounds."""
MIN_GROUPS, MAX_GROUPS, IN_A_ROW = 240, 600, 5
"""Groups in the sample, and how many of them follow each other. Where a quarter gives a pair, 60 do: give or take 7."""
MIN_SPANS, MAX_SPANS = 12, 24
"""The same for a proposer that follows the camera, in the stretches of time that it names to the plan, each with many pairs."""
MAX_COST = 10_000.0
"""No sample is larger, in the plan's candidates: that is about a minute and a half of one slow core."""
LIMIT_S = 100.0
"""After that no further piece is begun, and one that is still being measured after half as much again is given up."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Groups of one scene that follow each other, `first` to before `last` of those that are measured: one part of the sample."""

    part: int
    place: int
    """Pieces of one place are neighbours, of one or several scenes: chance has drawn them together."""
    scene: Slice
    """Whole."""
    first: int
    last: int


def draw(plan: Plan, config: CurateConfig) -> list[Piece] | None:
    """The sample, spread over the scenes and over each scene's length; None where all is to be measured.

    All groups in a row are cut into places of a few, and as many layers as places are wanted; of each layer one place is drawn.
    """
    scenes = [s for s in scenes_of(plan) if s.num_candidates]
    follows = hasattr(config.propose, "follow")
    ends = np.cumsum([num_groups(s, config) for s in scenes])
    total = int(ends[-1]) if scenes else 0
    least, most, length = (MIN_SPANS, MAX_SPANS, 1) if follows else (MIN_GROUPS, MAX_GROUPS, IN_A_ROW)
    cost = sum(_cost(s) * num_groups(s, config) / s.num_candidates for s in scenes)
    wanted = min(max(math.ceil(SHARE * total), least), most)
    wanted = max(1, min(wanted, int(MAX_COST / max(cost, 1e-9) * total)))
    if wanted >= total and cost <= MAX_COST:
        return None
    length = min(length, wanted)
    blocks = -(-total // length)
    layers = min(max(1, wanted // length), blocks)
    rng = np.random.default_rng([config.seed, *b"forecast"])
    pieces: list[Piece] = []
    for place in range(layers):
        block = int(rng.integers(blocks * place // layers, blocks * (place + 1) // layers))
        at, stop = block * length, min((block + 1) * length, total)
        while at < stop:
            k = int(np.searchsorted(ends, at, "right"))
            before = int(ends[k - 1]) if k else 0
            last = min(stop, int(ends[k]))
            pieces.append(Piece(part=len(pieces), place=place, scene=scenes[k], first=at - before, last=last - before))
            at = last
    return pieces


def scenes_of(plan: Plan) -> list[Slice]:
    """Every scene whole."""
    return [replace(s, start=0, stop=s.num_frames) for s in {s.scene: s for s in plan.slices}.values()]


def num_groups(scene: Slice, config: CurateConfig) -> int:
    """Groups of a scene that a run measures; of a proposer that follows the camera, stretches of time."""
    most = None if hasattr(config.propose, "follow") else config.max_pairs_per_scene
    return scene.num_candidates if most is None else min(most, scene.num_candidates)


def _cost(scene: Slice) -> float:
    """About the work in a scene, as the plan counts it."""
    return VIEW_COST * min(2 * scene.num_pairs, scene.num_frames) + PAIR_COST * scene.num_pairs + scene.reading_cost


# ----------------------------------------------------------------------------------------------- a worker: pieces measured


@dataclass(frozen=True)
class Task:
    source: Source
    config: CurateConfig
    out: Path
    plan: Plan


@dataclass(frozen=True, kw_only=True)
class Timed:
    """What a piece took. Sizes are in groups, for a proposer that follows the camera in frames."""

    piece: Piece
    size: int = 0
    scene_size: int = 0
    """Of the whole scene."""
    each_s: float = 0.0
    """For one of its size, as in the middle of a run."""
    open_s: float | None = None
    """To open the scene; None where it was open."""
    entry_s: float = 0.0
    """To get to the first frame."""
    end_s: float = 0.0
    """To finish a part."""


class _Enough(TwoviewError):
    """Raised in the middle of a piece that takes too long."""


class _Watched(OpenScene):
    """A scene at work with a stopwatch on its views."""

    def __init__(self, scene: Scene, config: CurateConfig, known: SceneInfo) -> None:
        began = time.perf_counter()
        super().__init__(scene, config, known)
        self.open_s: float | None = time.perf_counter() - began
        self._caches: tuple[Any, ...] = (self.view, self.features, self.keypoints, self.sharpness, self.phash)
        self.view, self.features = self._timed(self.view), self._timed(self.features)
        self.start()

    def start(self) -> None:
        """Set the watch to zero, and forget the views: the next piece is not to find those of the last."""
        for cache in self._caches:
            cache.cache_clear()
        self.views_s, self.first_s = 0.0, None
        self.began_s = self.last_s = time.perf_counter()

    def _timed(self, function: Any) -> Any:
        def timed(*args: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*args)
            finally:
                self._took(time.perf_counter() - began)

        return timed

    def _took(self, seconds: float) -> None:
        self.views_s += seconds
        self.first_s = seconds if self.first_s is None else self.first_s

    @property
    def num_views(self) -> int:
        return self._caches[0].cache_info().misses

    def small(self, index: int, size_px: int) -> UInt8[np.ndarray, "h w"] | None:
        began = time.perf_counter()
        picture = super().small(index, size_px)
        self._took(time.perf_counter() - began)
        return picture

    @property
    def info(self) -> SceneInfo:
        """As ever; it is asked for with each pair, and once more after the last frame that is looked at."""
        self.last_s = time.perf_counter()
        return super().info


@dataclass(frozen=True)
class _Chosen:
    """A Proposer of groups that were chosen before."""

    groups: tuple[Group, ...]

    def __call__(self, scene: Scene, /) -> tuple[Group, ...]:
        return self.groups


def measure_pieces(task: Task, pieces: Sequence[Piece], workers: int, send: Callable[[str, Any], None]) -> None:
    """Curate pieces into the sample's folder, and tell what each took. Every second one first: time may run out."""
    cv2.setNumThreads(1)
    end_s = time.monotonic() + LIMIT_S
    send("begun", None)

    @lru_cache(maxsize=1)
    def open_scene(name: str) -> _Watched:
        began = time.perf_counter()
        scene = task.source.open(name)
        opened = time.perf_counter() - began
        watched = _Watched(scene, task.config, about(task.source, name))
        watched.open_s = opened + (watched.open_s or 0.0)
        return watched

    groups = lru_cache(maxsize=1)(lambda name, scene: _groups(open_scene(name), scene, task.config))
    for piece in [*pieces[::2], *pieces[1::2]]:
        if time.monotonic() > end_s:
            return
        try:
            send("measured", _measured(task, piece, open_scene, groups, workers, end_s + LIMIT_S / 2))
        except _Enough:
            return


def _groups(scene: OpenScene, whole: Slice, config: CurateConfig) -> list[Group]:
    """The groups of a scene that a run measures, in order; of a proposer that follows the camera, what it tells the plan."""
    if hasattr(config.propose, "follow"):
        return list(iter_groups(config.propose(scene.scene)))
    look = Look(scene=scene.scene, start=0, stop=whole.stop, overlap=config.overlap, small=scene.small, hold=scene.view)
    return [group for _, group, _ in groups_of(config.propose, look, config.max_pairs_per_scene, whole.num_candidates)]


def _measured(
    task: Task,
    piece: Piece,
    open_scene: Callable[[str], _Watched],
    groups: Callable[[str, Slice], list[Group]],
    workers: int,
    end_s: float,
) -> Timed:
    """Curate one piece."""
    config, whole = task.config, replace(piece.scene, part=piece.part)
    try:
        scene, own = open_scene(whole.scene), groups(whole.scene, piece.scene)
    except UnreadableError:  # the part will say so
        curate_part(task.out, [whole], open_scene, task.source, config)
        return Timed(piece=piece)
    ratio = len(own) / max(1, num_groups(whole, config))  # a walk may have fewer than the plan thought
    first, last = round(piece.first * ratio), round(piece.last * ratio)
    follows = hasattr(config.propose, "follow")
    if follows:
        bounds = [0, *(group.pairs[0][0] for group in own[1:]), whole.stop]
        whole = replace(whole, start=bounds[first], stop=bounds[last])
        size, scene_size = whole.stop - whole.start, whole.num_frames
    else:
        chosen = tuple(own[first:last])
        config = replace(config, propose=_Chosen(chosen), max_pairs_per_scene=None)
        size, scene_size = len(chosen), len(own)
    open_s, scene.open_s = scene.open_s, None

    def progress(pair: Pair) -> None:
        if time.monotonic() > end_s:
            raise _Enough

    scene.start()
    curate_part(task.out, [whole], open_scene, task.source, config, progress)
    done = time.perf_counter()
    work_s, first_s, num_views = scene.last_s - scene.began_s, scene.first_s or 0.0, scene.num_views
    if follows:
        entry_s, each_s = first_s, (work_s - first_s) / max(1, size)
    else:
        view_s = (scene.views_s - first_s) / (num_views - 1) if num_views > 1 else first_s
        entry_s = max(0.0, first_s - view_s)
        views = _num_views(own, scene, min(workers, sum(s.scene == whole.scene for s in task.plan.slices))) / max(1, scene_size)
        each_s = views * view_s + (work_s - scene.views_s) / max(1, size)
    return Timed(
        piece=piece,
        size=size,
        scene_size=scene_size,
        each_s=each_s,
        open_s=open_s,
        entry_s=entry_s,
        end_s=done - scene.last_s,
    )


def _num_views(groups: Sequence[Group], scene: OpenScene, workers: int) -> int:
    """Views that a run makes of a scene: once each, by each of the workers that share it. Of groups of which the first that fits
    is taken the first pairs count: what else they try is a view of another group."""
    num = 0
    for k in range(workers):
        own = groups[len(groups) * k // workers : len(groups) * (k + 1) // workers]
        pairs = (pair for group in own for pair in (group.pairs[:1] if group.first_fit else group.pairs))
        num += len({i for pair in pairs if not scene.refuses(*pair) for i in pair})
    return num
