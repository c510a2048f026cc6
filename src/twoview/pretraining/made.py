"""What a run is made of: the objective, its optimiser, the order of its samples."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn

from ..errors import ConfigError
from .dino import DINO, DINOConfig
from .masked import MaskedConfig, MaskedModel
from .order import Order, Share
from .pools import Pool, Singles, StoredPairs
from .settings import PretrainConfig, Source

WINDOW = 20_000
"""Samples that are shuffled among each other where shards are fetched from elsewhere."""


def make_objective(objective: Any) -> Any:
    """Of a configuration, or of a function of the user's."""
    if isinstance(objective, MaskedConfig):
        return MaskedModel(objective)
    if isinstance(objective, DINOConfig):
        return DINO(objective)
    made = objective()
    if not isinstance(made, nn.Module) or not hasattr(made, "encoder"):
        raise ConfigError(f"{objective!r}: an objective is an nn.Module with an attribute `encoder` (docs/extend.md)")
    return made


def make_optimiser(model: nn.Module, config: PretrainConfig) -> torch.optim.AdamW:
    """AdamW; biases and norms do not decay."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in parameters if (parameter.ndim > 1) == decays], "decays": decays}
        for decays in (True, False)
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=config.betas, fused=config.precision != "fp16")  # whose scaler wants it plain


def make_order(config: PretrainConfig, sources: Sequence[Source]) -> Order:
    """Of what the sources give to each epoch. Raises ConfigError where the objective cannot take it."""
    shares, stages = [], [_stage(words) for words in config.curriculum]
    if any(before >= after for (before, _), (after, _) in pairwise(stages)):
        raise ConfigError("--curriculum: the shares of its stages rise")
    for source in sources:
        factor = Singles(source.pool).num_views if config.singles else 1
        if isinstance(config.model, MaskedConfig) and config.model.second_view and source.pool[0].b is None:
            raise ConfigError(f"{source.pool.seen().dataset}: single pictures, and the objective wants pairs: take --objective mae")
        allowed = tuple((until, _allowed(source.pool, condition, factor)) for until, condition in stages)
        share = Share(size=factor * len(source.pool), weight=source.weight, allowed=allowed)
        if isinstance(source.pool, StoredPairs) and source.pool.shards:
            starts = source.pool.starts() * factor
            window = share.size * source.pool.shards.keep // (2 * len(starts))
            share = replace(share, starts=starts, window=max(1, min(WINDOW, window)))
        if not share.num:
            raise ConfigError(f"a weight of {source.weight:g} of {share.size:,} samples leaves none")
        shares.append(share)
    order = Order(shares=tuple(shares), batch=config.batch, epochs=config.epochs, seed=config.seed)
    if config.steps is None:
        return order
    return replace(order, epochs=-(-config.steps // order.steps_per_epoch), most_steps=config.steps)


def _stage(words: str) -> tuple[float, str]:
    until, _, condition = words.strip().partition(" ")
    try:
        share = float(until)
    except ValueError:
        share = math.nan
    if not 0 < share <= 1 or not condition.strip():
        raise ConfigError(f"--curriculum {words}: give a share of the run in (0, 1] and a condition, as '0.3 overlap > 0.6'")
    return share, condition


def _allowed(pool: Pool, condition: str, factor: int) -> Any:
    if not isinstance(pool, StoredPairs):
        raise ConfigError("--curriculum goes by the manifest of a dataset; lists and folders have none")
    found = pool.where(condition)
    if not len(found):
        raise ConfigError(f"--curriculum: no pair of {pool.seen().dataset} has {condition}")
    return (found[:, None] * factor + np.arange(factor)).reshape(-1)
