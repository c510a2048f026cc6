"""What predicts hidden patches: the decoder of MAE, and of CroCo with its look at a second view."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ..errors import ConfigError
from .vit import Attention, Grid, Mlp, Rotation, ViTConfig, initialise, rotation, store_positions, stored_positions, turned


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """Positions and class token are as the encoder's. The default is MAE's, CroCo's and the paper's."""

    width: int = 512
    depth: int = 8
    heads: int = 16
    mlp_ratio: float = 4.0

    def __post_init__(self) -> None:
        if min(self.width, self.depth, self.heads) < 1 or self.width % self.heads or self.width % 4:
            raise ConfigError(f"a decoder of width {self.width} in {self.heads} heads: heads and 4 must divide the width")


class CrossAttention(nn.Module):
    """Queries from one stream, keys and values from another."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.projq = nn.Linear(width, width)
        self.projk = nn.Linear(width, width)
        self.projv = nn.Linear(width, width)
        self.proj = nn.Linear(width, width)

    def forward(
        self, x: Float[Tensor, "b n d"], memory: Float[Tensor, "b m d"], rotation: Rotation | None
    ) -> Float[Tensor, "b n d"]:
        q, k, v = (
            project(tokens).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for project, tokens in ((self.projq, x), (self.projk, memory), (self.projv, memory))
        )
        x = F.scaled_dot_product_attention(turned(q, rotation), turned(k, rotation), v)
        return self.proj(x.transpose(1, 2).flatten(2))


class DecoderBlock(nn.Module):
    """Attention, with a second view a look at its tokens, and an MLP."""

    def __init__(self, config: DecoderConfig, norm_eps: float, cross: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, norm_eps)
        self.attn = Attention(config.width, config.heads)
        self.norm2 = nn.LayerNorm(config.width, norm_eps)
        if cross:
            self.norm_y = nn.LayerNorm(config.width, norm_eps)
            self.cross_attn = CrossAttention(config.width, config.heads)
            self.norm3 = nn.LayerNorm(config.width, norm_eps)
        self.mlp = Mlp(config.width, config.mlp_ratio)

    def forward(
        self, x: Float[Tensor, "b n d"], memory: Float[Tensor, "b m d"] | None, rotation: Rotation | None
    ) -> Float[Tensor, "b n d"]:
        x = x + self.attn(self.norm1(x), rotation)
        if memory is None:
            return x + self.mlp(self.norm2(x))
        x = x + self.cross_attn(self.norm2(x), self.norm_y(memory), rotation)
        return x + self.mlp(self.norm3(x))


class Decoder(nn.Module):
    """Tokens of the visible patches, and of a second view where `cross`, to the values of patches."""

    def __init__(self, config: DecoderConfig, encoder: ViTConfig, cross: bool) -> None:
        super().__init__()
        self.config, self.encoder = config, encoder
        self.embed = nn.Linear(encoder.width, config.width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.blocks = nn.ModuleList(DecoderBlock(config, encoder.norm_eps, cross) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width, encoder.norm_eps)
        self.head = nn.Linear(config.width, encoder.patch_values)
        kind = "sincos" if encoder.positions == "learned" else encoder.positions
        store_positions(self, kind, config.width, encoder.image_px // encoder.patch_px, encoder.class_token)
        initialise(self)

    def forward(
        self,
        tokens: Float[Tensor, "b n d"],
        visible: Int64[Tensor, "b v"],
        grid: Grid,
        memory: Float[Tensor, "b m d"] | None = None,
        wanted: Int64[Tensor, "b w"] | None = None,
    ) -> Float[Tensor, "b w k"]:
        """Values of the wanted patches, by number; of all where None. tokens: the encoder's, of the visible ones; memory: those
        of the whole second view, of the same size."""
        num_class, x = int(self.encoder.class_token), self.embed(tokens)
        patches = self.mask_token.to(x.dtype).expand(len(x), grid[0] * grid[1], -1)
        patches = patches.scatter(1, visible[..., None].expand(-1, -1, x.shape[2]), x[:, num_class:])
        x = torch.cat([x[:, :num_class], patches], dim=1)
        memory = None if memory is None else self.embed(memory)
        positions = stored_positions(self, grid, self.encoder.class_token)
        if positions is not None:
            x = x + positions
            memory = None if memory is None else memory + positions
        turn = rotation(self.encoder, self.config.heads, self.config.width, grid, None, self.embed.weight)
        for block in self.blocks:
            x = block(x, memory, turn)
        x = x[:, num_class:]
        if wanted is not None:
            x = x.gather(1, wanted[..., None].expand(-1, -1, x.shape[2]))
        return self.head(self.norm(x))
