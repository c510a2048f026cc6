"""What a model makes of two pictures: predictions turned back into pixels, so that a person can judge them."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from ..errors import ConfigError
from .data import Batch
from .masked import MaskedModel
from .vit import Grid, patchify

Picture = UInt8[np.ndarray, "h w 3"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Reconstruction:
    hidden: Picture
    """a, its hidden patches grey."""
    given: Picture
    """a, its hidden patches of their own mean alone: that and their deviation are taken from a to make pixels of a prediction."""
    predicted: Picture
    """a, its hidden patches as the model predicts them."""
    loss: float
    """Over the hidden patches."""


@torch.inference_mode()
def reconstruct(
    model: MaskedModel, a: Picture, b: Picture | None, *, seed: int = 0, hidden: Bool[np.ndarray, " p"] | None = None
) -> Reconstruction:
    """What a model predicts of a's hidden patches, and from b where it takes a second view.

    a, b: of one size, which patches divide. hidden: the mask; drawn by the seed where None. Raises ConfigError for other sizes.
    """
    if b is not None and b.shape != a.shape:
        raise ConfigError(f"two pictures of one size, not {a.shape[1]} x {a.shape[0]} and {b.shape[1]} x {b.shape[0]} px")
    batch = Batch(
        a=_as_tensor(a),
        b=None if b is None or not model.config.second_view else _as_tensor(b),
        seeds=torch.tensor([seed]),
        hidden=None if hidden is None else torch.from_numpy(hidden)[None],
    ).to(model.encoder.patch_embed.proj.weight.device)
    training = model.training
    try:
        values, mask = model.eval().predict(batch)
    finally:
        model.train(training)
    target, mean, deviation = (part.cpu() for part in model.targets(patchify(batch.a, model.config.encoder.patch_px)))
    values, mask, grid = values.cpu(), mask.cpu(), model.encoder.grid(batch.a)

    def shown(hidden: Tensor) -> Picture:
        return _picture(torch.where(mask[..., None], hidden, target) * deviation + mean, model, grid)

    return Reconstruction(
        hidden=shown(-mean / deviation),
        given=shown(torch.zeros_like(target)),
        predicted=shown(values),
        loss=float((values - target)[mask].square().mean()),
    )


def _as_tensor(picture: Picture) -> UInt8[Tensor, "1 3 h w"]:
    return torch.from_numpy(picture.copy()).permute(2, 0, 1)[None]


def _picture(values: Tensor, model: MaskedModel, grid: Grid) -> Picture:
    """Values of patches, pixel by pixel and normalised, as RGB."""
    (rows, columns), side = grid, model.config.encoder.patch_px
    rgb = values.view(rows, columns, side, side, 3).permute(0, 2, 1, 3, 4).reshape(rows * side, columns * side, 3)
    mean, std = torch.tensor(model.config.encoder.mean), torch.tensor(model.config.encoder.std)
    return ((rgb * std + mean) * 255).round().clamp(0, 255).to(torch.uint8).numpy()
