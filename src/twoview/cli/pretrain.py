"""The verb pretrain."""

import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from ..errors import ConfigError, TryLaterError, TwoviewError
from .curate import value_of
from .terminal import DONE, Line, counting, parse

if TYPE_CHECKING:
    from ..pretraining.settings import PretrainConfig, Source
    from ..pretraining.train import Progress

SHOWN, KEPT_SHARDS = 4, 64
OBJECTIVES = {"mae": "mae_mimic", "croco": "croco_mimic", "dino": "dino_mimic"}
"""And the recipe that each means."""


def pretrain(args: Sequence[str]) -> int:
    import tyro

    from ..pretraining.settings import PretrainConfig

    if "--resume" in (word.partition("=")[0] for word in args):
        args = _command_of(args)
    recipe_name, base = _recipe(args)

    @dataclass(frozen=True, kw_only=True)
    class Pretrain:
        """Train a model on pairs. Run the same command again, or `twoview pretrain --resume RUN`, to go on after an interrupt: the
        losses are those of a run that was never stopped.

        On several GPUs: torchrun --nproc-per-node 8 -m twoview pretrain ..., or srun with a task for each.
        """

        data: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="DIR[@NAME][:WEIGHT] ...")] = ()
        """Datasets or selections, here or as s3://bucket/DIR (of other servers than Amazon's with ?endpoint_override=HOST:PORT at
        the end; keys as AWS_ACCESS_KEY_ID and so on), and how often each of their pairs comes in an epoch (1). Also a
        published list (MIMIC's CSV, CroCo's pairs.txt), or, for MAE and DINO, a folder of pictures."""
        out: Path
        """The run's folder: new, or of an earlier go of the same command."""
        recipe: str = recipe_name
        """croco_mimic, mae_mimic, dino_mimic, tiny_croco, ... (twoview recipes lists them); or my_file:my_recipe."""
        objective: Literal["mae", "croco", "dino"] | None = None
        """Short for --recipe mae_mimic, croco_mimic, dino_mimic."""
        vit: Literal["Ti", "S", "B", "L", "H"] | None = None
        """Another size of the encoder."""
        mask_ratio: float | None = None
        """Another share of hidden patches."""
        cache: Path | None = None
        """A folder of this machine where shards of s3://... lie for a while. Default: in the one for temporary files."""
        decoded: Path | None = None
        """A folder for the pictures as bytes (0.3 MB for a pair of 224 px), made first: for loaders that the model waits for."""
        config: Annotated[PretrainConfig, tyro.conf.arg(name="")] = base

    given = parse(Pretrain, args, "pretrain")
    if not given.data:
        raise ConfigError("pretrain: give a dataset, DIR or DIR@NAME")
    config = replace(given.config, model=_objective(base.model, given.vit, given.mask_ratio))
    return run(
        given.data, config, given.out, args, given.cache or Path(tempfile.gettempdir()) / f"twoview-{os.getuid()}", given.decoded
    )


def _objective(objective: Any, vit: str | None, mask_ratio: float | None) -> Any:
    """A recipe's, with the encoder's size and the share of hidden patches that the flags say."""
    from ..pretraining.masked import MaskedConfig
    from ..pretraining.vit import SIZES

    if vit is not None:
        if not hasattr(objective, "encoder"):
            raise ConfigError("--vit: the objective of this recipe has no size of its own to change")
        size = SIZES[vit]
        objective = replace(objective, encoder=replace(objective.encoder, width=size.width, depth=size.depth, heads=size.heads))
    if mask_ratio is not None:
        if not isinstance(objective, MaskedConfig):
            raise ConfigError("--mask-ratio: nothing is hidden in this recipe")
        objective = replace(objective, mask_ratio=mask_ratio)
    return objective


def _recipe(args: Sequence[str]) -> tuple[str, "PretrainConfig"]:
    """The recipe that the flags name, and its configuration."""
    from ..pretraining.recipes import PRETRAIN
    from ..pretraining.settings import PretrainConfig
    from ..recipes import own_recipe

    objective, name = value_of(args, "--objective"), value_of(args, "--recipe")
    if objective and name:
        raise ConfigError("pretrain: give --recipe or --objective, not both: a recipe has an objective")
    name = name or OBJECTIVES.get(objective or "croco", "croco_mimic")
    if name in PRETRAIN:
        return name, PRETRAIN[name]()
    config = own_recipe(name, tuple(PRETRAIN))
    if not isinstance(config, PretrainConfig):
        raise ConfigError(f"--recipe {name} gives a {type(config).__name__}, not a PretrainConfig")
    return name, config


def _command_of(args: Sequence[str]) -> list[str]:
    """What a run was begun with, for the folder that --resume names, and other flags after it."""
    from ..pretraining.settings import read_described

    out = Path(value_of(args, "--resume") or "")
    try:
        known = read_described(out / "config.json")["command"]
        before, folder = list(map(str, known["args"])), known["cwd"]
    except (KeyError, TypeError):
        raise ConfigError(f"--resume {out}: no run of twoview pretrain there (its config.json)") from None
    rest, here = _without(args, "--resume"), out.resolve()
    for flag in ("--out", "--recipe", "--objective", "--vit", "--mask-ratio"):
        if value_of(rest, flag) is not None:
            raise ConfigError(f"--resume goes on with the run as it was begun, without {flag}; for another run give --out")
    for flag in ("--cache", "--decoded"):
        if given := value_of(rest, flag):
            rest, before = _without(rest, flag), _with(before, flag, str(Path(given).resolve()))
    try:
        os.chdir(folder)
    except OSError:
        raise ConfigError(
            f"--resume {out}: it was begun in {folder}, which is gone: give the whole command again, with --out"
        ) from None
    return [*_with(before, "--out", str(here)), *rest]


def _with(args: Sequence[str], flag: str, value: str) -> list[str]:
    """Arguments with another value of a flag, in its place: what stands beside it may be meant for another."""
    for i, word in enumerate(args):
        if word == flag:
            return [*args[: i + 1], value, *args[i + 2 :]]
        if word.startswith(flag + "="):
            return [*args[:i], f"{flag}={value}", *args[i + 1 :]]
    return [*args, flag, value]


def _without(args: Sequence[str], flag: str) -> list[str]:
    """Arguments without a flag and its value."""
    at = next((i for i, word in enumerate(args) if word.partition("=")[0] == flag), None)
    if at is None:
        return list(args)
    return [*args[:at], *_without(args[at + (1 if "=" in args[at] else 2) :], flag)]


def run(data: Sequence[str], config: "PretrainConfig", out: Path, args: Sequence[str], cache: Path, decoded: Path | None) -> int:
    """Train with progress on the terminal; the exit code comes back."""
    from ..pretraining.checkpoints import checkpoints_of
    from ..pretraining.processes import make_fabric
    from ..pretraining.train import Reporter, pretrain

    if decoded is not None and (config.labels or config.curriculum):
        raise ConfigError("--decoded has pictures alone: no labels, and no --curriculum, with it")
    line, command = Line(), {"args": list(args), "cwd": str(Path.cwd())}
    reporter = Reporter(say=line.say, progress=_Progress(line), draw=draw)
    fabric = make_fabric(config)
    sources = _sources(fabric, data, config, cache, decoded)
    try:
        last = pretrain(config, sources, out, fabric=fabric, reporter=reporter, command=command)
    except (KeyboardInterrupt, SystemExit, TryLaterError):
        saved = checkpoints_of(out)
        if saved and fabric.global_rank == 0:
            line.say(f"stopped; saved: {saved[-1]}; twoview pretrain --resume {out} goes on")
        raise
    finally:
        line.end()
    if fabric.global_rank == 0:
        weights = last / "model.safetensors"
        print(f"{weights}\nnext: twoview reconstruct {weights} A.jpg B.jpg --out panel.png")
    return DONE


def _sources(fabric: Any, data: Sequence[str], config: "PretrainConfig", cache: Path, decoded: Path | None) -> "list[Source]":
    """Of each process the same."""
    from ..pretraining.pools import Decoded
    from ..pretraining.processes import agreed

    sources = agreed(fabric, lambda: [open_source(spec, cache, config.labels) for spec in data])

    def decode(folder: Path) -> "list[Source]":
        with counting("decoded", stopped="stopped: the same command begins with this anew") as tell:
            return [replace(source, pool=Decoded(source.pool, folder, tell)) for source in sources]

    return sources if decoded is None else agreed(fabric, lambda: decode(decoded), in_turn=False)


def open_source(spec: str, cache: Path, labels: bool = False) -> "Source":
    """What DIR[@NAME][:WEIGHT] stands for: a dataset, here or in a store, a list of pairs, a folder of pictures."""
    from ..dataset import open_dataset, split_name
    from ..listings import layout_of
    from ..pretraining.pools import ListedPairs, Pictures, RemoteShards, StoredPairs
    from ..pretraining.settings import Source

    base, mark, options = spec.partition("?") if "://" in spec else (spec, "", "")  # s3://bucket/DIR@NAME:WEIGHT?options
    name, weight = base, 1.0
    before, colon, after = base.rpartition(":")
    if colon and not Path(base).exists() and not after.startswith("//"):
        try:
            name, weight = before, float(after)
        except ValueError:
            raise ConfigError(f"{spec}: give DIR, DIR@NAME or DIR:WEIGHT, as pairs:0.5") from None
    if not 0 < weight < 1e6:
        raise ConfigError(f"{spec}: a weight lies between 0 and a million")
    path = Path(name)
    if "://" in name:
        place, at, selection = name.rpartition("/")[2].partition("@")
        uri = f"{name.rpartition('/')[0]}/{place}{mark}{options}"
        selection = at + selection
        shards = RemoteShards(uri, cache, KEPT_SHARDS)
        try:
            pool: Any = StoredPairs(open_dataset(f"{shards.folder}{selection}"), labels, shards)
        except TwoviewError as error:  # where it was fetched to is nobody's concern
            raise type(error)(str(error).replace(str(shards.folder), uri)) from None
    elif (split_name(name)[0] / "plan.parquet").exists():
        pool = StoredPairs(open_dataset(name), labels)
    elif layout := layout_of(path):
        pool = ListedPairs(path, layout)
    elif path.is_dir():
        pool = Pictures(path)
    else:
        raise ConfigError(f"{path.absolute()}: no dataset, list of pairs or folder of pictures there")
    return Source(pool=pool, weight=weight)


def draw(path: Path, model: Any, batch: Any) -> None:
    """Reconstructions of the first pairs of a batch."""
    from ..pretraining.masked import MaskedModel
    from ..pretraining.reconstruct import reconstruct
    from ..report.panels import panel, row
    from .look import write_picture

    if not isinstance(model, MaskedModel):
        return
    rows = []
    for i in range(min(SHOWN, len(batch.seeds))):
        a: Any = batch.a[i].permute(1, 2, 0).cpu().numpy()
        b = None if batch.b is None else batch.b[i].permute(1, 2, 0).cpu().numpy()
        rows.append(row(a, reconstruct(model, a, b, seed=i), b))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_picture(path, panel(rows), "--out")


class _Progress:
    """The state of a run."""

    def __init__(self, line: Line) -> None:
        self._line, self._began = line, time.monotonic()
        self._first: int | None = None

    def __call__(self, now: "Progress") -> None:
        self._first = now.step - 1 if self._first is None else self._first
        left = (time.monotonic() - self._began) / (now.step - self._first) * (now.steps - now.step)
        self._line.show(
            f"step {now.step:,} of {now.steps:,}, epoch {now.epoch:.2f}, loss {now.loss:.4f}, {now.samples_per_s:,.1f} pairs/s, "
            f"{_span(left)} left",
            at_once=now.step == now.steps,
        )


def _span(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
