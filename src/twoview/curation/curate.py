"""Frames to pairs: the loop of a part, and what a run is configured by."""

import copy
import hashlib
import json
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ConfigError, TwoviewError, UnreadableError
from ..plan import Slice, about
from ..schema import (
    Estimator,
    Filter,
    Match,
    Pair,
    Proposer,
    Row,
    Source,
    Verdicts,
)
from ..shards import SceneRow, ShardWriter, key_of
from ..sources import find_footage
from .homography import Paper
from .opened import OpenScene
from .propose import EverySeconds, Look, groups_of
from .verdicts import Band, band_text, judge, verdicts_of
from .views import PairCrop, depth_png, geometry_columns
from .windows import covisible_windows

if TYPE_CHECKING:
    from .composition import Composition


@dataclass(frozen=True, kw_only=True)
class CurateConfig:
    """What a dataset is: everything that its bytes depend on besides the footage. Another one needs another OUT."""

    source: Callable[[Iterable[Path], Path | None], Source] = find_footage
    """How the paths that are given, and a list of more, become scenes."""
    propose: Proposer = field(default_factory=EverySeconds)
    estimator: Estimator = field(default_factory=Paper)
    filters: tuple[Filter, ...] = ()
    """Further verdicts; a pair is kept if none has a reason."""
    overlap: Band = (0.5, 0.7)
    """Pairs are kept that overlap this much, the smaller direction."""
    store: Band | None = None
    """Pairs are stored that overlap this much, kept or not, for a looser choice later. None: as overlap."""
    crop: PairCrop = "centre"
    """centre: the largest square; stretch: the whole frame, squeezed to a square; none: the whole frame, aspect kept; covisible: of
    each pair squares around what both frames show, that overlap as the middle of the band says where there is room."""
    size: int = 256
    """Side of the stored square in px; with --crop none the shorter side."""
    min_sharpness: float = 0.0
    """A pair is not measured if one of its pictures is less sharp: variance of the Laplacian of grey."""
    max_pairs_per_scene: int | None = None
    """At most this many groups of candidates of a scene are measured, spread evenly over it."""
    seed: int = 0
    """Seeds every draw of the run, the estimator's and the source's too."""

    def __post_init__(self) -> None:
        if getattr(self.estimator, "seed", self.seed) != self.seed:
            object.__setattr__(self, "estimator", replace(self.estimator, seed=self.seed))  # pyright: ignore
        if is_dataclass(self.source) and hasattr(self.source, "size_px"):  # it makes its pictures itself
            source = copy.copy(self.source)
            object.__setattr__(source, "size_px", self.size)
            object.__setattr__(source, "seed", self.seed)
            object.__setattr__(self, "source", source)
        for flag, band in (("--overlap", self.overlap), ("--store", self.store or self.overlap)):
            if not 0 <= band[0] <= band[1] <= 1:
                raise ConfigError(f"{flag} is {band[0]}:{band[1]}: give LOW:HIGH with 0 <= LOW <= HIGH <= 1, as 0.5:0.7")
        if self.store and not (self.store[0] <= self.overlap[0] and self.overlap[1] <= self.store[1]):
            raise ConfigError(f"--store {band_text(self.store)} must hold all of --overlap {band_text(self.overlap)}")
        if not 16 <= self.size <= 4096:
            raise ConfigError(f"--size is {self.size}: give a side from 16 to 4096 px")
        if self.max_pairs_per_scene is not None and self.max_pairs_per_scene < 1:
            raise ConfigError(f"--max-pairs-per-scene is {self.max_pairs_per_scene}: give 1 or more")
        if not self.min_sharpness >= 0:
            raise ConfigError(f"--min-sharpness is {self.min_sharpness}: give 0 or more")
        if self.seed < 0:
            raise ConfigError(f"--seed is {self.seed}: give 0 or more")

    def as_dict(self) -> dict[str, Any]:
        """Plain values; each object with the name of its class."""
        return _plain(self)

    def of(self, source: str) -> "CurateConfig":
        """How the pairs of a source are made: all alike. See composition.Composition for others."""
        return self

    @property
    def sha256(self) -> str:
        return hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if hasattr(value, "__qualname__"):
        return value.__qualname__
    if is_dataclass(value):
        values = {f.name: getattr(value, f.name) for f in fields(value)}
    elif type(value).__repr__ is object.__repr__:  # it would give an address, another in every process
        values = {k: v for k, v in vars(value).items() if not k.startswith("_")}
    else:
        return repr(value)
    name = getattr(value, "name", None)
    named = {"type": f"{type(value).__module__}:{type(value).__qualname__}"} | ({"name": name} if name else {})
    return named | {k: _plain(v) for k, v in values.items()}


def curate_part(
    out: Path,
    slices: list[Slice],
    open_scene: Callable[[str], OpenScene],
    source: Source,
    config: "CurateConfig | Composition",
    progress: Callable[[Pair], None] = lambda pair: None,
) -> None:
    """Measure the pairs of one part and write it whole. The caller holds the part's lock.

    open_scene: the scene's views by its name, kept open from part to part; progress: called after each pair.
    """
    with ShardWriter(out, slices[0].part) as shard:
        for piece in slices:
            counts, own = [0, 0, 0], config.of(piece.source)
            info = replace(about(source, piece.scene), status="unreadable", error=piece.error)
            try:
                scene = open_scene(piece.scene)
                for pair in pairs_of(scene, piece, own):
                    row = row_of(pair, scene, own)
                    if pair.store and pair.a and pair.b and pair.match:
                        shard.write_sample(
                            row, pair.a.jpeg, pair.b.jpeg, *_arrays(pair.match), depth_png(pair.a), depth_png(pair.b)
                        )
                    else:
                        shard.write_row(row)
                    counts = [n + more for n, more in zip(counts, (1, pair.kept, pair.store), strict=True)]
                    progress(pair)
                info = scene.info
            except UnreadableError as error:
                info = replace(info, error=str(error))
            except (TwoviewError, OSError):
                raise
            except Exception as error:  # a user's proposer, estimator or filter
                words = f"{piece.scene}: {type(error).__name__}: {error}. Finished parts are kept"
                raise TwoviewError(f"{words}\n{traceback.format_exc().rstrip()}") from error
            pairs, kept, stored = counts
            shard.write_scene(
                SceneRow.of(
                    info, part=piece.part, start=piece.start, stop=piece.stop, num_pairs=pairs, num_kept=kept, num_stored=stored
                )
            )


def _arrays(match: Match) -> tuple[np.ndarray, np.ndarray]:
    """Patches and points of a match, empty where the estimator gives none."""
    patches = np.empty((2, 0), np.int16) if match.patches is None else match.patches
    return patches, np.empty((0, 4), np.float32) if match.points is None else match.points


def pairs_of(scene: OpenScene, piece: Slice, config: CurateConfig) -> Iterator[Pair]:
    """Every pair that was measured in a slice; at most one of each group is kept, the one that shares least.

    A pair comes as soon as nothing can change its verdict, so that of a large group only the best so far is held.
    """
    store = config.store or config.overlap
    look = Look(scene=scene.scene, start=piece.start, stop=piece.stop, overlap=config.overlap, small=scene.small, hold=scene.view)
    for name, group, tell in groups_of(config.propose, look, config.max_pairs_per_scene, piece.num_candidates):
        best: Pair | None = None
        if not group.first_fit:
            scene.read_ahead(group)
        for i, j in group.pairs:
            pair = _measured(scene, piece, name, i, j, config)
            if config.filters and _in_band(pair, store):  # they go by it; else it is made of what is stored alone, in row_of
                pair = replace(pair, verdicts=_verdicts(pair, scene))
            pair = judge(pair, config.overlap, store, config.filters)
            tell(pair)
            if pair.kept and (best is None or _overlap(pair) < _overlap(best)):
                pair, best = best, pair
            if pair is not None:
                yield replace(pair, reasons=("not_best",), store=config.store is not None) if pair.kept else pair
            if group.first_fit and (best is not None or (pair is not None and "overlap_high" not in pair.reasons)):
                break
        if best is not None:
            yield best


def _overlap(pair: Pair) -> float:
    return (pair.match and pair.match.overlap) or 0.0


def _measured(scene: OpenScene, piece: Slice, group: str, i: int, j: int, config: CurateConfig) -> Pair:
    """A pair and what the estimator says of it, unless the scene or a picture speaks against it already."""
    pair = Pair(
        source=piece.source,
        scene=piece.scene,
        group=f"{piece.source}/{piece.scene}/{group}",
        index_a=i,
        index_b=j,
        a=None,
        b=None,
        match=None,
    )
    if reason := scene.refuses(i, j):
        return replace(pair, reasons=(reason,))
    views = []
    for index in (i, j):
        view = scene.view(index)
        if view is None:
            return replace(pair, reasons=("unreadable",))
        if config.min_sharpness and scene.sharpness(view) < config.min_sharpness:
            return replace(pair, reasons=("low_sharpness",))
        views.append(view)
    a, b = views
    match = config.estimator.measure(scene.features(a), scene.features(b))
    if config.crop == "covisible" and match.found:
        windows = covisible_windows(match, a.crop[2:], b.crop[2:], config.size, config.overlap)
        if windows is None:
            return replace(pair, a=a, b=b, match=Match(found=False, failure="few_matches"))
        a, b = scene.cut(i, windows[0]), scene.cut(j, windows[1])
        if config.min_sharpness and min(scene.sharpness(a), scene.sharpness(b)) < config.min_sharpness:
            return replace(pair, reasons=("low_sharpness",))
        match = config.estimator.measure(scene.describe(a), scene.describe(b))  # what is stored is what is measured
    return replace(pair, a=a, b=b, match=match)


def _in_band(pair: Pair, band: Band) -> bool:
    return pair.match is not None and pair.match.overlap is not None and band[0] <= pair.match.overlap <= band[1]


def _verdicts(pair: Pair, scene: OpenScene) -> Verdicts:
    """What the pictures of a measured pair say of themselves."""
    assert pair.a
    assert pair.b
    return verdicts_of(pair.a.image, pair.b.image, scene.keypoints(pair.a), scene.keypoints(pair.b))


def measured_columns(match: Match) -> dict[str, Any]:
    """What an estimator measured, under the names of the manifest's columns."""
    columns = {name: getattr(match, name) for name in _MEASURED}
    columns["homography"] = None if match.homography is None else match.homography.ravel().tolist()
    columns["patch_grid"] = None if match.patch_grid is None else list(match.patch_grid)
    return columns


_MEASURED = ("overlap", *(f.name for f in fields(Match) if f.name in {column.name for column in fields(Row)}))


def row_of(pair: Pair, scene: OpenScene, config: CurateConfig) -> Row:
    """The manifest's line for a pair. Refused pairs without pixels carry no hash, no homography."""
    match, a, b = pair.match, pair.a, pair.b
    row = Row(
        key=key_of(pair.id),
        pair_id=pair.id,
        source=pair.source,
        scene=pair.scene,
        group=pair.group,
        frame_index_a=pair.index_a,
        frame_index_b=pair.index_b,
        time_a_s=a.time_s if a else None,
        time_b_s=b.time_s if b else None,
        kept=pair.kept,
        stored=pair.store,
        reasons=list(pair.reasons),
        estimator=config.estimator.name,
        licence=scene.scene.licence,
        split=scene.info.split,
    )
    if match is None:
        return row
    row = replace(row, **measured_columns(match))
    if not pair.store or a is None or b is None:
        return replace(row, homography=None, patch_grid=None)
    said = asdict(pair.verdicts or _verdicts(pair, scene))
    row = replace(row, **{name: value for name, value in said.items() if getattr(row, name) is None})  # the estimator's own stay
    if a.geometry and b.geometry:
        row = replace(row, **geometry_columns(a.geometry, b.geometry))
    return replace(
        row,
        sharpness_a=scene.sharpness(a),
        sharpness_b=scene.sharpness(b),
        crop_a=list(a.crop),
        crop_b=list(b.crop),
        phash_a=scene.phash(a),
        phash_b=scene.phash(b),
        sha256_a=hashlib.sha256(a.jpeg).hexdigest(),
        sha256_b=hashlib.sha256(b.jpeg).hexdigest(),
    )
