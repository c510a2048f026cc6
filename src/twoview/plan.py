"""The plan of a dataset: which frames of which scene belong to which part. Made once, from the inputs and the configuration.

Parts are sized from the inputs alone, never from the number of workers: the same footage is cut the same way everywhere.
"""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from .errors import BrokenDatasetError, ConfigError, UnreadableError
from .schema import SceneInfo, Source, iter_groups
from .shards import finished_parts, schema_of, table_bytes, write_whole

MIN_PART_COST, MAX_PART_COST = 24.0, 10_000.0
"""In candidates. The lower bound lets a video of half a minute fill several workers; above it parts grow with the whole."""
FRAME_COST, VIEW_COST, PAIR_COST = 1 / 16, 0.8, 0.2
"""What decoding a frame of video, describing a view and measuring a pair cost, in candidates of one new view each."""
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
    num_pairs: int
    """Pairs in them; those of a group of which the first that fits is taken count once."""
    size_bytes: int
    fingerprint: str
    licence: str | None
    error: str
    """Why it cannot be read, or ''."""

    @property
    def reading_cost(self) -> float:
        """Of all its frames, in candidates: a video's are decoded in passing."""
        return self.num_frames * (FRAME_COST if self.kind == "video" else 1.0)


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


class Config(Protocol):
    """Of a configuration what a plan follows from."""

    @property
    def sha256(self) -> str: ...

    @property
    def size(self) -> int: ...

    def of(self, source: str, /) -> Any:
        """What has `propose` for the scenes of a source."""


def make_plan(source: Source, config: Config, old: Plan | None = None) -> Plan:
    """Cut every scene of a source that the old plan does not have into parts, after the old plan's."""
    seen = old.fingerprints if old else {}
    names = [n for n in source.names() if n not in seen]
    with ThreadPoolExecutor(4) as pool:  # listing packets and hashing wait for the disk
        surveyed = list(pool.map(lambda name: _survey(source, name, config), names))
    pair_bytes = 0.8 * config.size**2  # two JPEGs at quality 95
    most = min(MAX_PART_COST, MAX_PART_BYTES / pair_bytes)
    target = min(max(sum(s.cost for s in surveyed) / NUM_PARTS, MIN_PART_COST), most)
    part, held = (old.num_parts if old else 0), 0.0
    slices: list[Slice] = []
    for survey in surveyed:
        scene, cost = survey.scene, survey.cost
        num = max(1, min(round(cost / target), survey.num_starts))
        if held and (num > 1 or held + cost > 1.5 * target):
            part, held = part + 1, 0.0
        for k in range(num):
            start, stop = (scene.num_frames * i // num for i in (k, k + 1))
            slices.append(replace(scene, part=part, start=start, stop=stop))
            held += cost / num
            if held >= target or k < num - 1:
                part, held = part + 1, 0.0
    return Plan((*(old.slices if old else ()), *slices), config.sha256)


@dataclass(frozen=True, kw_only=True)
class _Survey:
    scene: Slice
    """Whole, as one slice of part 0."""
    num_views: int = 0
    """Frames that some pair needs."""
    num_starts: int = 1
    """Frames that a group begins with: more slices would be empty."""

    @property
    def cost(self) -> float:
        """Work in the scene, in candidates."""
        pairs = VIEW_COST * max(0, self.num_views - 1) + PAIR_COST * self.scene.num_pairs
        return 1 + pairs + self.scene.reading_cost


def _survey(source: Source, name: str, config: Config) -> _Survey:
    """A scene and the work in it. Raises ConfigError for a group that no slice would hold: it would be lost in silence."""
    info, (digest, size_bytes) = about(source, name), fingerprint(source, name)
    propose = config.of(info.source).propose
    num_frames = num_groups = num_pairs = 0
    views: set[int] = set()
    starts: set[int] = set()
    error = ""
    try:
        scene = source.open(name)
        num_frames = len(scene)
        for group in iter_groups(propose(scene)):
            num_groups += 1
            num_pairs += 1 if group.first_fit else len(group.pairs)
            views.update(i for pair in group.pairs for i in pair)
            starts.update(i for i, _ in group.pairs[:1])
    except UnreadableError as unreadable:
        error = str(unreadable)
    foreign = next((i for i in starts if not 0 <= i < num_frames), None)
    if foreign is not None:
        raise ConfigError(f"{type(propose).__name__} proposes frame {foreign} of {name}, which has frames 0 to {num_frames - 1}")
    return _Survey(
        scene=Slice(
            part=0,
            source=info.source,
            scene=name,
            kind=info.kind,
            start=0,
            stop=num_frames,
            num_frames=num_frames,
            num_candidates=num_groups,
            num_pairs=num_pairs,
            size_bytes=size_bytes,
            fingerprint=digest,
            licence=info.licence,
            error=error,
        ),
        num_views=len(views),
        num_starts=len(starts),
    )


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
