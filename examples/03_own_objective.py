"""An objective of your own: each patch of a shall have the token of its counterpart in b, and of no other patch.

cd examples && twoview pretrain PAIRS --recipe 03_own_objective:matched --out run
"""

from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from twoview.pretraining.augment import Swapped
from twoview.pretraining.data import Batch
from twoview.pretraining.recipes import tiny_croco
from twoview.pretraining.settings import PretrainConfig
from twoview.pretraining.vit import ViT, vit_config


class Matched(nn.Module):
    """Needs `encoder` and a `forward` that gives a loss. The trainer does the rest."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.encoder = ViT(vit_config("Ti", width=128, depth=4, heads=4, patch_px=8, image_px=64))
        self.temperature = temperature

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        if batch.patches is None:
            raise ValueError("this objective needs patch maps: PretrainConfig(labels=True)")
        a, b = (F.normalize(self.encoder(view)[:, 1:], dim=2) for view in (batch.a, batch.b))
        likeness = a @ b.transpose(1, 2) / self.temperature  # [B, P, P]
        target = batch.patches[:, 0].long().clamp(min=-1)
        losses = F.cross_entropy(likeness.transpose(1, 2), target, ignore_index=-1, reduction="none")
        num_shared = (target >= 0).sum(dim=1).clamp(min=1)
        return {"loss": (losses.sum(dim=1) / num_shared).mean()}  # a mean over samples, so that pieces of a batch add up


def matched() -> PretrainConfig:
    return replace(tiny_croco(), model=partial(Matched, 0.1), augment=Swapped(size=64), labels=True)
