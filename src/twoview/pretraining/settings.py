"""What a run of pretraining is told, and whether a run in a folder is the same one."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from .. import __version__
from ..errors import ConfigError
from .augment import Augment, Swapped
from .checkpoints import Seen
from .masked import MaskedConfig
from .order import Order
from .pools import Pool


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """As the paper's, unless said otherwise."""

    model: Any = field(default_factory=MaskedConfig)
    """MaskedConfig, DINOConfig, or a function that makes an objective of yours."""
    augment: Augment = field(default_factory=Swapped)
    """What happens to a sample before the model sees it."""
    singles: bool = False
    """Both views of a pair are pictures of their own."""
    labels: bool = False
    """Patch maps and matched points too, for objectives that use them; of datasets alone."""
    epochs: int = 200
    """How often each pair comes."""
    schedule_epochs: int | None = None
    """Epochs that the learning rate is laid out for, where a run stops before. Default: --epochs."""
    steps: int | None = None
    """Steps of the whole run, in place of --epochs, which are then those that the learning rate goes by."""
    warm_up_epochs: float = 20.0
    """Over which the learning rate rises from 0."""
    base_lr: float = 1.5e-4
    """Learning rate for a batch of 256; it grows with the batch."""
    last_lr: float = 0.0
    """Where the learning rate ends, for a batch of 256."""
    weight_decay: float = 0.05
    """Of all weights but biases and norms."""
    last_weight_decay: float | None = None
    """Where it ends, by half a cosine. Default: it stays."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Of AdamW."""
    clip: float | None = None
    """Longest gradient."""
    batch: int = 4096
    """Samples of a step, over all processes."""
    micro_batch: int = 64
    """Samples that a device takes at a time; the rest of a batch is accumulated."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Of the forward pass; weights stay float32."""
    compile: bool = False
    """Compile the model: minutes at first, faster on a GPU."""
    shard: bool = False
    """Share out weights and the optimiser's state among the processes (FSDP), for models that one GPU has no room for."""
    workers: int = 4
    """Processes of each device that fetch samples."""
    seed: int = 0
    """Seeds every draw: weights, order, augmentation, masks."""
    save_every: int = 500
    """Steps between checkpoints. The last two are kept."""
    keep_every: int = 0
    """Epochs between checkpoints that are kept for good; 0: none but the last."""
    panel_every: int = 10
    """Epochs between pictures of reconstructions; 0: none."""
    wandb: str | None = None
    """A project of Weights & Biases that gets the numbers too."""
    curriculum: tuple[str, ...] = ()
    """Stages as `0.3 overlap > 0.6`: up to this share of the run, only pairs for whose line of the manifest the SQL holds."""

    def __post_init__(self) -> None:
        counts = ("epochs", "batch", "micro_batch", "save_every", "steps")
        rates = ("warm_up_epochs", "base_lr", "last_lr", "weight_decay", "last_weight_decay")
        for names, holds, wanted in (
            (counts, lambda value: value >= 1, "1 or more"),
            ((*rates, "workers", "keep_every", "panel_every"), lambda value: 0 <= value < math.inf, "0 or more"),
            (("clip",), lambda value: value > 0, "more than 0"),
            (("seed",), lambda value: 0 <= value < 1 << 63, "0 or more, and less than 2^63"),
        ):
            for name in names:
                if getattr(self, name) is not None and not holds(getattr(self, name)):
                    raise ConfigError(f"--{name.replace('_', '-')} is {getattr(self, name)}: give {wanted}")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"--betas are {self.betas[0]:g} and {self.betas[1]:g}: give two in [0, 1)")
        if self.schedule_epochs is not None and self.schedule_epochs < self.epochs:
            raise ConfigError(f"--schedule-epochs {self.schedule_epochs} are fewer than --epochs {self.epochs}")
        if self.warm_up_epochs >= self.epochs:
            raise ConfigError(f"--warm-up-epochs {self.warm_up_epochs:g} of --epochs {self.epochs}: nothing would be left")


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """A pool, and how often its samples come."""

    pool: Pool
    weight: float = 1.0


FREE = (
    *("workers", "micro_batch", "save_every", "keep_every", "panel_every", "compile", "shard", "precision", "base_lr", "clip"),
    "wandb",
)
"""What another go at a run may change."""


def described(config: PretrainConfig, order: Order, seen: Sequence[Seen], weights: Sequence[float]) -> dict[str, Any]:
    """RUN/config.json. seen, weights: of the sources."""
    data = [asdict(one) | {"weight": weight} for one, weight in zip(seen, weights, strict=True)]
    return {"twoview": __version__, "steps": order.steps, "config": _plain(config), "data": data}


def _plain(value: Any) -> Any:
    """As JSON has it; of objects of the user's what they are called and hold."""
    if isinstance(value, str | int | float | bool | None):
        return value
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, partial):
        return {"type": _plain(value.func), "with": _plain([*value.args, dict(value.keywords)])}
    if isinstance(value, type) or not hasattr(value, "__dict__") or (callable(value) and hasattr(value, "__qualname__")):
        return getattr(value, "__qualname__", type(value).__name__)
    return {"type": type(value).__name__} | {key: _plain(one) for key, one in vars(value).items()}


def read_described(path: Path) -> dict[str, Any]:
    """RUN/config.json; {} where it is none of a run."""
    try:
        known = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) and isinstance(known.get("config"), dict) else {}


def check_same(path: Path, known: dict[str, Any], config: dict[str, Any]) -> None:
    """Raises ConfigError where a run of other settings or other data is in the folder. known: its config.json, at `path`."""
    try:
        before, now = known["config"], config["config"]
        data = [[(one["fingerprint"], one["weight"]) for one in found["data"]] for found in (known, config)]
    except (KeyError, TypeError):
        raise ConfigError(f"{path}: not the config.json of a run; give another --out") from None
    changed = [name for name in now if name not in FREE and before.get(name) != now[name]]
    if changed:
        name = changed[0]
        raise ConfigError(f"{path.parent}: a run with {name} {before.get(name)!r}, not {now[name]!r}: give another --out")
    if data[0] != data[1]:
        raise ConfigError(f"{path.parent}: a run on other pairs than these, or with other weights: give another --out")
