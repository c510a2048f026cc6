"""One part of a dataset that is made again from its manifest: each stored pair's pictures, or why they are gone."""

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from ..curation.composition import Composition
from ..curation.curate import CurateConfig
from ..curation.opened import OpenScene
from ..curation.views import depth_png
from ..errors import UnreadableError
from ..plan import Slice, about
from ..schema import UNKNOWN, Match, Row, SceneInfo, Source, Verdicts, View
from ..shards import SCENE_SCHEMA, SceneRow, ShardWriter, schema_of, table_bytes, write_whole
from .recognise import OwnScene, Seen, Wanted
from .shared import Shared, lines_of, rows_of, size_px

_ONLY_STORED = (
    *(f.name for f in fields(Verdicts) if f.name not in {f.name for f in fields(Match)}),
    *("homography", "patch_grid", "true_overlap_ab", "true_overlap_ba", "shard", "offset", "size"),
    *(f"{name}_{view}" for name in ("sharpness", "crop", "phash", "sha256", "pose", "intrinsics") for view in "ab"),
)
"""Columns that a row without pixels does not have."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a stored pair: one line of OUT/remade/part-NNNNNN.parquet."""

    key: str
    pair_id: str
    scene: str
    status: str
    """exact, alike or gone"""
    reason: str = ""
    """Why it is gone: not_found (the scene), unreadable (a frame), too_different (a picture)."""
    detail: str = ""
    """The same in words."""
    frame_a: int | None = None
    """Number of the frame in the user's copy."""
    frame_b: int | None = None
    bits_a: int | None = None
    """In which the picture's perceptual hash differs from the manifest's; null where there is no picture."""
    bits_b: int | None = None


@dataclass(frozen=True)
class _Absent:
    """A scene without a copy that can be opened."""

    reason: str
    detail: str


def outcomes_path(out: Path, part: int) -> Path:
    return out / "remade" / f"part-{part:06d}.parquet"


@dataclass(frozen=True, kw_only=True)
class PartWriter:
    """Makes the pairs of one part again; called as `curate_part` is."""

    shared: Shared
    same: frozenset[str]
    """Scenes of which the user has the very bytes that the manifest was made from."""
    unmeasured: frozenset[str]
    """Sources whose patches and points cannot be measured again and are empty; '' stands for all."""

    def __call__(
        self,
        out: Path,
        slices: list[Slice],
        open_scene: Callable[[str], OpenScene],
        source: Source,
        config: CurateConfig | Composition,
        progress: Callable[[Row], None],
    ) -> None:
        part = slices[0].part
        lines = {scene: list(rows) for scene, rows in groupby(rows_of(lines_of(self.shared, part)), key=lambda row: row.scene)}
        outcomes: list[Outcome] = []
        with ShardWriter(out, part) as shard:
            for piece in slices:
                rows, of_scene = lines.get(piece.scene, []), []
                own = self._open(piece, open_scene, source) if any(row.stored for row in rows) else None
                for row in rows:
                    if own is None or not row.stored:
                        shard.write_row(row)
                        continue
                    measures = not {"", piece.source} & self.unmeasured
                    of_scene.append(_write(shard, row, own, config.of(piece.source), measures))
                    progress(row)
                uri = about(source, piece.scene).uri if piece.scene in source.names() else ""
                shard.write_scene(self._scene_row(piece, own, uri, rows, of_scene))
                outcomes += of_scene
            write_whole(outcomes_path(out, part), table_bytes(outcomes, schema_of(Outcome)))

    def _open(self, piece: Slice, open_scene: Callable[[str], OpenScene], source: Source) -> OwnScene | _Absent:
        """The user's copy of a scene, or why there is none."""
        if piece.scene not in source.names():
            return _Absent("not_found", f"{piece.scene}: nothing in the footage has its bytes or its name")
        try:
            opened = open_scene(piece.scene)
        except UnreadableError as error:
            return _Absent("unreadable", str(error))
        return OwnScene(opened, size_px(self.shared, piece), same=piece.scene in self.same)

    def _scene_row(
        self, piece: Slice, own: OwnScene | _Absent | None, uri: str, rows: list[Row], outcomes: list[Outcome]
    ) -> SceneRow:
        """The line of scenes/: of the user's copy, or as it was where no picture was wanted. uri: where the copy lies, or ''."""
        gone = {outcome.key: outcome.detail for outcome in outcomes if outcome.status == "gone"}
        was = [line for line in self.shared.scenes if line["scene"] == piece.scene]
        was = [line for line in was if line["part"] == self.shared.chunks[piece.part].part] or was
        info = SceneInfo(source=piece.source, scene=piece.scene, uri=uri, kind=piece.kind, num_frames=piece.num_frames)
        known: dict[str, Any] = asdict(own.scene.info if isinstance(own, OwnScene) else info)
        if own is None and was:
            known = {name: was[0][name] for name in SCENE_SCHEMA.names} | ({"uri": uri} if uri else {})
        if gone:
            known["status"] = "partial" if len(gone) < len(outcomes) else "unreadable"
            known["error"] = f"{len(gone):,} of {len(outcomes):,} pairs are gone, the first: {next(iter(gone.values()))}"
        known |= {
            "part": piece.part,
            "start": piece.start,
            "stop": piece.stop,
            "num_pairs": len(rows),
            "num_kept": sum(row.kept and row.key not in gone for row in rows),
            "num_stored": len(outcomes) - len(gone),
            "licence": piece.licence,
            "split": was[0]["split"] if was else None,
        }
        return SceneRow(**known)


def _write(shard: ShardWriter, row: Row, own: OwnScene | _Absent, config: CurateConfig, measures: bool) -> Outcome:
    """A pair with its pictures, or without where they are gone."""
    outcome = Outcome(key=row.key, pair_id=row.pair_id, scene=row.scene, status="gone")
    if isinstance(own, _Absent):
        shard.write_row(_gone(row))
        return replace(outcome, reason=own.reason, detail=own.detail)
    wanted = [Wanted.of(row, view) for view in "ab"]
    a, b = (own.find(picture) for picture in wanted)
    frames = [seen.index if seen.index >= 0 else None for seen in (a, b)]
    outcome = replace(outcome, frame_a=frames[0], frame_b=frames[1], bits_a=a.bits, bits_b=b.bits)
    for view, seen in (("a", a), ("b", b)):
        if not seen.near:
            shard.write_row(_gone(row))
            reason = "unreadable" if seen.bits is None else "too_different"
            return replace(outcome, reason=reason, detail=_said(own, row, view, seen))
    view_a, view_b = own.view(a, wanted[0]), own.view(b, wanted[1])
    exact = a.exact and b.exact
    if not exact:
        row = _alike(row, own.scene, view_a, view_b)
    if measures:
        patches, points = _measured(row, own.scene, config, view_a, view_b)
    else:
        patches, points, row = np.empty((2, 0), np.int16), np.empty((0, 4), np.float32), replace(row, patch_grid=None)
    shard.write_sample(row, view_a.jpeg, view_b.jpeg, patches, points, depth_png(view_a), depth_png(view_b))
    return replace(outcome, status="exact" if exact else "alike")


def _said(own: OwnScene, row: Row, view: str, seen: Seen) -> str:
    """Why a picture is gone, in words."""
    uri = own.scene.info.uri
    if seen.bits is None:
        return seen.why if uri in seen.why else f"{uri}: {seen.why}"
    return f"{uri}: frame {seen.index} is not picture {view} of {row.pair_id} ({seen.bits} of 64 bits differ)"


def _gone(row: Row) -> Row:
    """A refused row, as of a pair that could not be read."""
    nothing: dict[str, Any] = dict.fromkeys(_ONLY_STORED)
    return replace(row, kept=False, stored=False, reasons=["unreadable"], **nothing)


def _alike(row: Row, scene: OpenScene, a: View, b: View) -> Row:
    """What is said of the pictures' bytes and looks, of those that are stored here. All else is the original's."""
    return replace(
        row,
        crop_a=list(a.crop),
        crop_b=list(b.crop),
        phash_a=scene.phash(a),
        phash_b=scene.phash(b),
        sha256_a=hashlib.sha256(a.jpeg).hexdigest(),
        sha256_b=hashlib.sha256(b.jpeg).hexdigest(),
    )


def _measured(row: Row, scene: OpenScene, config: CurateConfig, a: View, b: View) -> tuple[np.ndarray, np.ndarray]:
    """Patches and points as the estimator sees them here. Where it finds nothing any more, every patch is unknown."""
    describe = scene.describe if config.crop == "covisible" else scene.features  # a window belongs to its pair
    match = config.estimator.measure(describe(a), describe(b))
    if match.found and match.patches is not None:
        return match.patches, np.empty((0, 4), np.float32) if match.points is None else match.points
    rows, columns = row.patch_grid or (0, 0)
    num = rows * columns if 0 <= rows * columns <= np.iinfo(np.int16).max else 0
    return np.full((2, num), UNKNOWN, np.int16), np.empty((0, 4), np.float32)
