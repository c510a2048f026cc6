"""MAE and CroCo, which are one model: hidden patches of a picture, from the rest of it and, in CroCo, from a second view."""

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor, nn

from ..errors import ConfigError
from .data import Batch
from .decoder import Decoder, DecoderConfig
from .draws import draw_patches
from .vit import ViT, ViTConfig, check_rotary_heads, patchify, vit_config


@dataclass(frozen=True, kw_only=True)
class MaskedConfig:
    encoder: ViTConfig = field(default_factory=ViTConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    second_view: bool = True
    """CroCo: the decoder looks at all of b. Without: MAE."""
    mask_ratio: float = 0.9
    """Share of the patches of a that are hidden."""
    round_down: Literal["visible", "hidden"] = "visible"
    """Which number of patches is rounded down: of 196 at 0.9, 19 stay visible as in MIMIC, or 176 are hidden as in CroCo."""
    normalised_targets: bool = True
    """Whether each patch is predicted less its own mean and by its own deviation, or as the encoder sees it."""

    def __post_init__(self) -> None:
        if not 0 < self.mask_ratio < 1:
            raise ConfigError(f"mask_ratio {self.mask_ratio}: a share between 0 and 1")
        if self.encoder.positions == "rotary":
            check_rotary_heads(self.decoder.width, self.decoder.heads)

    def num_hidden(self, num_patches: int) -> int:
        """How many patches of so many are hidden. Raises ConfigError where all or none would be."""
        if self.round_down == "hidden":
            num = int(num_patches * self.mask_ratio)
        else:
            num = num_patches - int(num_patches * (1 - self.mask_ratio))
        if not 0 < num < num_patches:
            raise ConfigError(f"mask_ratio {self.mask_ratio} of {num_patches} patches hides {num}: some must be hidden, some shown")
        return num


def mae(size: str = "B", **encoder: Any) -> MaskedConfig:
    """As published: 75 % hidden. encoder: fields of ViTConfig to change."""
    return MaskedConfig(encoder=vit_config(size, **encoder), second_view=False, mask_ratio=0.75)


def croco(variant: Literal["mimic", "croco_v1", "croco_v2"] = "mimic", size: str = "B", **encoder: Any) -> MaskedConfig:
    """As published: `mimic` has a class token in both streams; `croco_v1` none; `croco_v2` rotary positions and a wider decoder."""
    if variant == "mimic":
        return MaskedConfig(encoder=vit_config(size, **encoder))
    if variant == "croco_v1":
        return MaskedConfig(encoder=vit_config(size, class_token=False, **encoder), round_down="hidden")
    if variant == "croco_v2":
        wide = DecoderConfig(width=768, depth=12, heads=12)
        return MaskedConfig(
            encoder=vit_config(size, class_token=False, positions="rotary", **encoder), decoder=wide, round_down="hidden"
        )
    raise ConfigError(f"there is no CroCo called {variant}: there is mimic, croco_v1, croco_v2")


class MaskedModel(nn.Module):
    """The objective (section 4); given weights and a mask, the loss and predictions of the published models."""

    def __init__(self, config: MaskedConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = ViT(config.encoder)
        self.decoder = Decoder(config.decoder, config.encoder, cross=config.second_view)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """`loss`: mean squared error over the hidden patches, of which nothing else is predicted."""
        visible, hidden = self.split(batch)
        predicted = self._predict(batch, visible, hidden)
        patches = patchify(batch.a, self.config.encoder.patch_px)
        chosen = patches.gather(1, hidden[..., None].expand(-1, -1, patches.shape[2]))
        return {"loss": F.mse_loss(predicted.float(), self.targets(chosen)[0])}

    def predict(self, batch: Batch) -> tuple[Float[Tensor, "b p k"], Bool[Tensor, "b p"]]:
        """Of all patches what `targets` would make of them, and which were hidden."""
        visible, hidden = self.split(batch)
        values = self._predict(batch, visible, None)
        return values, torch.zeros_like(values[..., 0], dtype=torch.bool).scatter_(1, hidden, True)

    def split(self, batch: Batch) -> tuple[Int64[Tensor, "b v"], Int64[Tensor, "b h"]]:
        """Numbers of the visible and the hidden patches of a, in order: by the batch's mask, or drawn from its seeds.

        Raises ConfigError for a mask of another size, or that hides all of a sample, nothing, or not as much of each.
        """
        rows, columns = self.encoder.grid(batch.a)
        if batch.hidden is None:
            return draw_patches(batch.seeds, rows * columns, self.config.num_hidden(rows * columns))
        counts = batch.hidden.bool().sum(dim=1).tolist()
        num_hidden = counts[0] if len(set(counts)) == 1 else 0
        if batch.hidden.shape[1] != rows * columns or not 0 < num_hidden < rows * columns:
            raise ConfigError(
                f"a mask for {rows} x {columns} patches hides as many of each sample, neither all nor none: "
                f"not so this one of {batch.hidden.shape[1]}"
            )
        order = batch.hidden.bool().int().argsort(dim=1, stable=True)
        return order[:, :-num_hidden], order[:, -num_hidden:]

    def targets(
        self, patches: Shaped[Tensor, "b h k"]
    ) -> tuple[Float[Tensor, "b h k"], Float[Tensor, "b h 1"], Float[Tensor, "b h 1"]]:
        """What predictions of patches aim at, and the mean and deviation that were taken from each to make it.

        patches: as patchify gives them. Predictions go pixel by pixel, its three colours together, as published.
        """
        pixels = self.encoder.normalised(patches).float().unflatten(2, (3, -1)).transpose(2, 3).flatten(2)
        mean, deviation = pixels.mean(dim=2, keepdim=True), (pixels.var(dim=2, keepdim=True) + 1e-6).sqrt()
        if not self.config.normalised_targets:
            mean, deviation = torch.zeros_like(mean), torch.ones_like(deviation)
        return (pixels - mean) / deviation, mean, deviation

    def _predict(self, batch: Batch, visible: Int64[Tensor, "b v"], wanted: Int64[Tensor, "b w"] | None) -> Float[Tensor, "b w k"]:
        tokens = self.encoder(batch.a, visible, batch.seeds)
        return self.decoder(tokens, visible, self.encoder.grid(batch.a), self._memory(batch), wanted)

    def _memory(self, batch: Batch) -> Float[Tensor, "b m d"] | None:
        if not self.config.second_view:
            return None
        if batch.b is None or batch.b.shape != batch.a.shape:
            raise ConfigError("CroCo needs a second view, of the size of the first")
        return self.encoder(batch.b, None, batch.seeds ^ (1 << 48))  # drops other paths than a
