"""A dataset made again from its manifest and the user's own copies of the footage: nobody hands on a picture.

A pair is back as `exact` where both its JPEGs have the bytes that the manifest names, as `alike` where they look the same (another
encoding of the footage, another decoder or processor), and else it is gone, with the reason. Rows are those of the manifest;
patches and points are measured again. Where every pair is exact, on the machine image that the manifest was made on, shards and
manifests are byte-equal to the original's.
"""

import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..curation.composition import Composition, Sources
from ..curation.crew import Crew
from ..curation.curate import CurateConfig
from ..curation.engine import Job, Progress, run, versions, writable
from ..curation.opened import OpenScene
from ..curation.recorded import config_of
from ..dataset import selection_path
from ..errors import BrokenDatasetError, ConfigError, UnreadableError
from ..locks import Lock
from ..plan import Plan, Slice, about, read_plan, write_plan
from ..schema import Row
from ..shards import finished_parts, read_manifest, write_whole
from ..sources import Footage
from .exporting import Tell
from .rebuild import PartWriter, outcomes_path
from .recognise import OwnScene, Wanted, candidates, fingerprints
from .shared import Shared, lines_of, read_shared, rows_of, size_px

TABLE = "remade.tsv"
NUM_PROBES = 3
"""Pairs by which one of several candidates is chosen for a scene."""


@dataclass(frozen=True, kw_only=True)
class RemadeScene:
    """What became of the stored pairs of a scene: one line of OUT/remade.tsv."""

    scene: str
    footage: str
    """Where it was found, or ''."""
    exact: int
    alike: int
    gone: int
    why: str
    """How many pairs are gone for which reason, and one of them in words; '' where none is."""


@dataclass(frozen=True, kw_only=True)
class Remade:
    """What is back."""

    scenes: tuple[RemadeScene, ...]
    """Those that have stored pairs."""
    notes: tuple[str, ...] = ()

    @property
    def num_exact(self) -> int:
        return sum(scene.exact for scene in self.scenes)

    @property
    def num_alike(self) -> int:
        return sum(scene.alike for scene in self.scenes)

    @property
    def num_gone(self) -> int:
        return sum(scene.gone for scene in self.scenes)


def remake(
    shared: Path | str, footage: Sequence[Path], out: Path, *, crew: Crew | None = None, tell: Tell = lambda num, total: None
) -> Remade:
    """Make the stored pairs of a shared dataset again from copies of its footage, as the dataset OUT; run again, it goes on.

    shared: a dataset's folder without shards, DIR@NAME for a selection of it, or one manifest file beside its config.json.
    footage: files or folders; of a composition the folders of its sources, or the one that these lie in. Where no scene of it is in
    the footage, nothing is written. Raises ConfigError where `shared` is no such thing, a source is none of twoview's, or OUT holds
    anything else.
    """
    manifest = read_shared(shared)
    slices = _slices(manifest)
    num_stored = _num_stored(manifest)
    wanted = {piece.scene: piece for piece in slices if num_stored[piece.part, piece.scene]}
    if not wanted:
        raise ConfigError(f"{manifest.path}: none of its pairs was stored, so there are no pictures to make")
    config, unmeasured = _config(manifest, {piece.source for piece in wanted.values()})
    own, same = _own(manifest, wanted, config.source(footage, None), config)
    if not own.names():
        return Remade(scenes=tuple(_not_found(scene, num_stored) for scene in wanted))
    there = set(own.names())
    plan = _prepare(manifest, out, [_as_found(piece, own, piece.scene in there, wanted) for piece in slices])
    writer = PartWriter(shared=manifest, same=same, unmeasured=frozenset(unmeasured))
    job = Job(out=out, source=own, config=config, plan=plan, parts=tuple(range(plan.num_parts)), write_part=writer)
    total, left = sum(num_stored.values()), job.left
    num = total - sum(n for (part, _), n in num_stored.items() if part in left)

    def told(progress: Progress) -> None:
        nonlocal num
        num += progress.num_pairs
        tell(num, total)

    run(job, crew, told)
    with writable(out), Lock.wait(out / "locks" / "import.lock"):
        scenes = _remade_scenes(out, own, wanted)
        write_whole(out / TABLE, _table_bytes(scenes))
        notes = _write_selections(manifest, out)
    notes[:0] = [f"no pair {source and f'of {source} '}has patches or points: {why}" for source, why in unmeasured.items()]
    return Remade(scenes=scenes, notes=tuple(notes))


# ------------------------------------------------------------------------------------------------- which scene is which


def _config(shared: Shared, sources: set[str]) -> tuple[CurateConfig | Composition, dict[str, str]]:
    """What made the pairs of some sources, and of which of them, and why, they cannot be measured again ('' is all of them)."""
    where, members = shared.folder / "config.json", shared.recorded.get("members")
    if members is None:
        config, why = config_of(shared.recorded, where)
        return config, {"": why} if why else {}
    if unknown := sources - members.keys():
        raise ConfigError(f"{where}: says nothing of the source {min(unknown)}, which pairs are of")
    made = {source: config_of(members[source], where) for source in members if source in sources}
    composition = Composition(
        name="remade",
        members={source: config for source, (config, _) in made.items()},
        quota=dict.fromkeys(made, 0),
        claimed="",
        allow_missing=True,
    )
    return composition, {source: why for source, (_, why) in made.items() if why}


def _own(
    shared: Shared, wanted: Mapping[str, Slice], found: Any, config: CurateConfig | Composition
) -> tuple[Footage | Sources, frozenset[str]]:
    """As _recognised; of a composition source by source."""
    if isinstance(found, Footage):
        return _recognised(shared, wanted, found, config.of(""))
    if not isinstance(found, Sources):
        where = shared.folder / "config.json"
        raise ConfigError(f"{where}: {type(found).__name__} cannot be asked for scenes by their bytes or names")
    by_source, same = {}, frozenset()
    for source, footage in found.by_source.items():
        some = {scene: piece for scene, piece in wanted.items() if piece.source == source}
        by_source[source], taken = _recognised(shared, some, footage, config.of(source))
        same |= taken
    return Sources(by_source), same


def _num_stored(shared: Shared) -> Counter[tuple[int, str]]:
    """Stored pairs by part and scene."""
    lines = ((part, lines_of(shared, part)) for part in range(len(shared.chunks)))
    return Counter((part, scene) for part, table in lines for scene in table.filter(table["stored"])["scene"].to_pylist())


def _slices(shared: Shared) -> list[Slice]:
    """The plan's lines for the parts that are to be: as in the shared plan, or what the rows themselves tell."""
    planned = shared.plan.slices if shared.plan else ()
    by_scene = {piece.scene: piece for piece in planned}
    slices: list[Slice] = []
    for part, chunk in enumerate(shared.chunks):
        lines = lines_of(shared, part)
        scenes = dict.fromkeys(lines["scene"].to_pylist())
        own = {piece.scene: piece for piece in planned if piece.part == chunk.part and (shared.is_whole or piece.scene in scenes)}
        for scene in scenes:
            if scene not in by_scene:
                first = lines.slice(pc.index(lines["scene"], scene).as_py(), 1)  # pyright: ignore[reportAttributeAccessIssue]
                by_scene[scene] = _unplanned(rows_of(first)[0])
            if scene not in own:
                own[scene] = replace(by_scene[scene], start=0, stop=by_scene[scene].num_frames)
        slices += [replace(piece, part=part) for piece in own.values()]
    return slices


def _unplanned(row: Row) -> Slice:
    """A scene of which nothing is known but one of its pairs."""
    nothing = dict.fromkeys(("part", "start", "stop", "num_frames", "num_candidates", "num_pairs", "size_bytes"), 0)
    return Slice(source=row.source, scene=row.scene, kind="", fingerprint="", licence=row.licence, error="", **nothing)


def _recognised(
    shared: Shared, wanted: Mapping[str, Slice], footage: Footage, config: CurateConfig
) -> tuple[Footage, frozenset[str]]:
    """The user's footage under the manifest's names, and which of it has the very bytes that the manifest was made from."""
    prints = fingerprints(footage)
    known = {piece.fingerprint for piece in wanted.values()}
    taken = frozenset(name for name, fingerprint in prints.items() if fingerprint in known)
    likely = {scene: candidates(piece, footage, prints, taken) for scene, piece in wanted.items()}
    probes = _probes(shared, {scene for scene, names in likely.items() if len(names) > 1})
    inputs, same = {}, set()
    for scene, names in likely.items():
        piece = wanted[scene]
        options = [replace(footage.inputs[name], name=scene, source=piece.source, licence=piece.licence) for name in names]
        for name, option in zip(names, options, strict=True):
            fits = len(names) == 1 or _fits(replace(footage, inputs={scene: option}), shared, piece, config, probes[scene])
            if fits or scene not in inputs:  # where none fits, the likeliest says why
                inputs[scene] = option
            if prints[name] == piece.fingerprint:
                same.add(scene)
            if fits:
                break
    return replace(footage, inputs=inputs), frozenset(same)


def _probes(shared: Shared, scenes: set[str]) -> dict[str, list[Row]]:
    """A few stored pairs of each scene."""
    known: dict[str, list[Row]] = {scene: [] for scene in scenes}
    for part in range(len(shared.chunks) if scenes else 0):
        for row in rows_of(lines_of(shared, part)):
            if row.stored and row.scene in known:
                known[row.scene].append(row)
    return {scene: [rows[len(rows) * i // NUM_PROBES] for i in range(NUM_PROBES)] for scene, rows in known.items()}


def _fits(source: Footage, shared: Shared, piece: Slice, config: CurateConfig, probes: Iterable[Row]) -> bool:
    """Whether some of these pairs' pictures are in a scene of the user's."""
    try:
        opened = OpenScene(source.open(piece.scene), config, about(source, piece.scene))
    except UnreadableError:
        return False
    scene = OwnScene(opened, size_px(shared, piece), same=False)
    return any(scene.find(Wanted.of(row, "a")).near for row in probes)


def _as_found(piece: Slice, own: Footage | Sources, is_there: bool, wanted: Iterable[str]) -> Slice:
    """A line of the plan as of the user's own copy: it is what the dataset is made from."""
    if is_there:
        fingerprint, size_bytes = own.fingerprint(piece.scene)
        return replace(piece, fingerprint=fingerprint, size_bytes=size_bytes, kind=own.about(piece.scene).kind)
    return replace(piece, fingerprint="", error="not found in the footage") if piece.scene in wanted else piece


def _prepare(shared: Shared, out: Path, slices: list[Slice]) -> Plan:
    """The plan in OUT, made if OUT is new or empty. Raises ConfigError where OUT is of anything else."""
    origin = {"manifest_sha256": shared.sha256, "selection": shared.selection}
    sha = hashlib.sha256(json.dumps([dict(shared.recorded), origin], sort_keys=True).encode()).hexdigest()
    plan, folders = Plan(tuple(slices), sha), ("shards", "scenes", "manifest", "remade", "locks")
    foreign = ConfigError(
        f"{out} holds something else than pairs of {shared.path} from this footage: give an --out that is new or empty"
    )
    with writable(out):
        ours = {*folders, "config.json", "plan.parquet"}  # the plan too: another process may have written it a moment ago
        is_new = not (out / "plan.parquet").exists()
        if is_new and out.is_dir() and any(p.name not in ours and p.suffix != ".partial" for p in out.iterdir()):
            raise foreign
        if is_new:
            for folder in folders:
                (out / folder).mkdir(parents=True, exist_ok=True)
        with Lock.wait(out / "locks" / "plan.lock"):
            known = read_plan(out)
            if known is None and not finished_parts(out):
                content = {
                    "format": 1,
                    "config": dict(shared.recorded),
                    "config_sha256": sha,
                    "versions": versions(),
                    "remade": origin,
                }
                write_whole(out / "config.json", (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())
                write_plan(out, plan)
            elif known != plan:
                raise foreign
    return plan


# ---------------------------------------------------------------------------------------------------- what came of it


def _remade_scenes(out: Path, own: Footage | Sources, wanted: Iterable[str]) -> tuple[RemadeScene, ...]:
    """What became of each scene, as the files of the parts say."""
    status: dict[str, Counter[str]] = {scene: Counter() for scene in wanted}
    reasons: dict[str, Counter[str]] = {scene: Counter() for scene in wanted}
    words: dict[str, str] = {}
    there = set(own.names())
    for path in (outcomes_path(out, part) for part in finished_parts(out)):
        try:
            lines = pq.read_table(path, columns=["scene", "status", "reason", "detail"]).to_pylist()
        except (OSError, pa.ArrowException) as error:
            reason = str(error).splitlines()[0]
            raise BrokenDatasetError(
                f"{path}: cannot be read ({reason}): remove the manifest of that part, and run again"
            ) from None
        for line in lines:
            status[line["scene"]][line["status"]] += 1
            if line["reason"]:
                reasons[line["scene"]][line["reason"]] += 1
                words.setdefault(line["scene"], line["detail"])
    return tuple(
        RemadeScene(
            scene=scene,
            footage=own.about(scene).uri if scene in there else "",
            exact=num["exact"],
            alike=num["alike"],
            gone=num["gone"],
            why=_why(reasons[scene], words.get(scene, "")),
        )
        for scene, num in status.items()
    )


def _why(reasons: Counter[str], words: str) -> str:
    return f"{', '.join(f'{num:,} {reason}' for reason, num in reasons.most_common())}: {words}" if reasons else ""


def _not_found(scene: str, num_stored: Counter[tuple[int, str]]) -> RemadeScene:
    num = sum(n for (_, name), n in num_stored.items() if name == scene)
    why = _why(Counter(not_found=num), f"{scene}: nothing in the footage has its bytes or its name")
    return RemadeScene(scene=scene, footage="", exact=0, alike=0, gone=num, why=why)


def _table_bytes(scenes: Sequence[RemadeScene]) -> bytes:
    """As text: tabs between, a first line that names the columns."""
    text = io.StringIO()
    writer = csv.writer(text, dialect="excel-tab", lineterminator="\n")
    writer.writerow([f.name for f in fields(RemadeScene)])
    writer.writerows(astuple(scene) for scene in scenes)
    return text.getvalue().encode()


def _write_selections(shared: Shared, out: Path) -> list[str]:
    """The shared selections, or the one that was asked for, without what is gone; remarks on them."""
    paths = sorted((shared.folder / "selections").glob("*.parquet")) if shared.is_whole else []
    if shared.selection is not None:
        paths = [selection_path(shared.folder, shared.selection)]
    rows = read_manifest(out, columns=["key", "stored"])
    keys, notes = rows.filter(rows["stored"])["key"], []
    for path in paths:
        try:
            table = pq.read_table(path, columns=["key"])
            there = table.filter(pc.is_in(table["key"], keys))  # pyright: ignore[reportAttributeAccessIssue]
        except (OSError, pa.ArrowException) as error:
            notes.append(f"{path}: left out, it cannot be read ({str(error).splitlines()[0]})")
            continue
        if len(there) < len(table):
            notes.append(f"selection {path.stem}: {len(table) - len(there):,} of its {len(table):,} pairs are gone")
        if len(there):
            sink = pa.BufferOutputStream()
            pq.write_table(there, sink, compression="zstd")
            (out / "selections").mkdir(exist_ok=True)
            write_whole(selection_path(out, path.stem), sink.getvalue().to_pybytes())
    return notes
