"""The plan of a dataset: which frames of which scene belong to which part. Made once, from the inputs and the configuration.

Parts are sized from the inputs alone, never from the number of workers: the same footage is cut the same way everywhere.
"""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from .errors import BrokenDatasetError, ConfigError, UnreadableError
from .schema import Proposer, Scene, SceneInfo, Source, iter_groups
from .shards import finished_parts, schema_of, table_bytes, write_whole

MIN_PART_COST, MAX_PART_COST = 24.0, 10_000.0
"""In candidates. The lower bound lets a video of half a minute fill several workers; above it parts grow with the whole."""
FRAME_COST = 1 / 16
"""What decoding a frame of video costs beside describing one and measuring a pair."""
MAX_PART_BYTES = 1 << 30
NUM_PARTS = 256
"""About how many parts there are between the two bounds."""


@dataclass(frozen=True, kw_only=True)
class Slice:
    """The pairs of one scene whose first frame lies in [start, stop): one line of plan.parquet."""

    part: int
    source: str
    scene: str
    kind: str
    start: int
    stop: int
    num_frames: int
    """Of the whole scene; 0 where it could not be read."""
    num_candidates: int
    """Groups of pairs that the proposer has for the whole scene."""
    size_bytes: int
    fingerprint: str
    licence: str | None
    error: str
    """Why it cannot be read, or ''."""


SLICE_SCHEMA = schema_of(Slice)


@dataclass(frozen=True)
class Plan:
    slices: tuple[Slice, ...]
    config_sha256: str

    @property
    def num_parts(self) -> int:
        return 1 + max((s.part for s in self.slices), default=-1)

    def part(self, number: int) -> list[Slice]:
        return [s for s in self.slices if s.part == number]

    @property
    def fingerprints(self) -> dict[str, str]:
        """By scene."""
        return {s.scene: s.fingerprint for s in self.slices}


def about(source: Source, name: str) -> SceneInfo:
    """What a source says of a scene without opening it."""
    known = getattr(source, "about", None)
    return known(name) if known else SceneInfo(source=type(source).__name__, scene=name, uri=name, kind="custom")


def fingerprint(source: Source, name: str) -> tuple[str, int]:
    """What the bytes of a scene are known by, and how many there are; the name alone where the source does not say."""
    known = getattr(source, "fingerprint", None)
    return known(name) if known else (hashlib.sha256(name.encode()).hexdigest(), 0)


def make_plan(source: Source, propose: Proposer, config_sha256: str, size_px: int, old: Plan | None = None) -> Plan:
    """Cut every scene of a source that the old plan does not have into parts, after the old plan's."""
    seen = old.fingerprints if old else {}
    names = [n for n in source.names() if n not in seen]
    with ThreadPoolExecutor(4) as pool:  # listing packets and hashing wait for the disk
        surveyed = list(pool.map(lambda name: _survey(source, name, propose), names))
    pair_bytes = 0.8 * size_px**2  # two JPEGs at quality 95
    most = min(MAX_PART_COST, MAX_PART_BYTES / pair_bytes)
    target = min(max(sum(map(_cost, surveyed)) / NUM_PARTS, MIN_PART_COST), most)
    part, held = (old.num_parts if old else 0), 0.0
    slices: list[Slice] = []
    for scene in surveyed:
        num = max(1, min(round(_cost(scene) / target), scene.num_frames))
        if held and (num > 1 or held + _cost(scene) > 1.5 * target):
            part, held = part + 1, 0.0
        for k in range(num):
            start, stop = (scene.num_frames * i // num for i in (k, k + 1))
            slices.append(replace(scene, part=part, start=start, stop=stop))
            held += _cost(scene) / num
            if held >= target or k < num - 1:
                part, held = part + 1, 0.0
    return Plan((*(old.slices if old else ()), *slices), config_sha256)


def _cost(scene: Slice) -> float:
    """Work in a scene, in candidates."""
    frames = scene.num_frames * (FRAME_COST if scene.kind == "video" else 1.0)
    return 1 + scene.num_candidates + frames


def _survey(source: Source, name: str, propose: Proposer) -> Slice:
    """A scene as one slice of part 0."""
    info, (digest, size_bytes) = about(source, name), fingerprint(source, name)
    num_frames = num_candidates = 0
    error = ""
    try:
        scene = source.open(name)
        num_frames, num_candidates = len(scene), _num_groups(propose, scene)
    except UnreadableError as unreadable:
        error = str(unreadable)
    return Slice(
        part=0,
        source=info.source,
        scene=name,
        kind=info.kind,
        start=0,
        stop=num_frames,
        num_frames=num_frames,
        num_candidates=num_candidates,
        size_bytes=size_bytes,
        fingerprint=digest,
        licence=info.licence,
        error=error,
    )


def _num_groups(propose: Proposer, scene: Scene) -> int:
    """How many groups there are. Raises ConfigError for one that no slice would hold: it would be lost in silence."""
    num = 0
    for num, group in enumerate(iter_groups(propose(scene)), 1):  # noqa: B007 - the last is the answer
        if group.pairs and not 0 <= group.pairs[0][0] < len(scene):
            who, last = type(propose).__name__, len(scene) - 1
            raise ConfigError(f"{who} proposes frame {group.pairs[0][0]} of {scene.name}, which has frames 0 to {last}")
    return num


def read_plan(out: Path) -> Plan | None:
    """The plan in OUT, or None. Raises BrokenDatasetError where it cannot be read."""
    path = out / "plan.parquet"
    if not path.exists():
        return None
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise BrokenDatasetError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from None
    sha = (table.schema.metadata or {}).get(b"config_sha256", b"").decode()
    return Plan(tuple(Slice(**row) for row in table.to_pylist()), sha)


def write_plan(out: Path, plan: Plan) -> None:
    """Write plan.parquet whole. The caller holds the plan's lock."""
    write_whole(out / "plan.parquet", table_bytes(plan.slices, SLICE_SCHEMA, {"config_sha256": plan.config_sha256}))


def check_same(plan: Plan, source: Source, config_sha256: str, out: Path, *, extend: bool) -> list[str]:
    """Names of the scenes that a plan lacks, for `extend`. Raises ConfigError where the plan is for something else."""
    if plan.config_sha256 != config_sha256:
        raise ConfigError(
            f"{out} holds pairs of another configuration (see config.json there): give another --out, or the same flags"
        )
    planned, given = plan.fingerprints, set(source.names())
    changed = [n for n in source.names() if n in planned and planned[n] != fingerprint(source, n)[0]]
    if changed:
        raise ConfigError(f"{changed[0]} is not the file that {out} was planned with{_others(changed)}: give another --out")
    new = [n for n in source.names() if n not in planned]
    if new and not extend:
        raise ConfigError(f"{out} was planned without {new[0]}{_others(new)}: add --extend to curate it too, or give another --out")
    finished = set(finished_parts(out)) if extend else set()  # what is finished needs its footage no more
    missing = list(dict.fromkeys(s.scene for s in plan.slices if s.scene not in given and s.part not in finished))
    if missing:
        raise ConfigError(
            f"{out} was planned with {missing[0]}{_others(missing)}, which is not given now: give it again, or another --out"
        )
    return new


def _others(names: list[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""
