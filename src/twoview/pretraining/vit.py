"""The vision transformer that all objectives train and all tasks read: one encoder, with timm's key names."""

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, Shaped
from torch import Tensor, nn

from ..errors import ConfigError
from .draws import DROP_PATH, uniform

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Grid = tuple[int, int]
"""Rows and columns of patches."""


@dataclass(frozen=True, kw_only=True)
class ViTConfig:
    """A ViT-B/16 at 224 px as the paper's, unless said otherwise."""

    width: int = 768
    depth: int = 12
    heads: int = 12
    mlp_ratio: float = 4.0
    """Width of the hidden layer of each block's MLP, by that of the encoder."""
    patch_px: int = 16
    image_px: int = 224
    """Side of the square pictures that stored positions are made for. Others are taken too: positions are interpolated."""
    class_token: bool = True
    positions: Literal["sincos", "learned", "rotary"] = "sincos"
    rotary_base: float = 100.0
    final_norm: bool = True
    norm_eps: float = 1e-6
    drop_path: float = 0.0
    """In training, the chance that a branch of the last block is passed over for a sample; of earlier blocks less, evenly."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    """Of RGB in [0, 1]."""
    std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        counts = {name: getattr(self, name) for name in ("width", "depth", "heads", "patch_px", "image_px")}
        for name, number in counts.items():
            if type(number) is not int or number < 1:
                raise ConfigError(f"{name} {number} of a ViT: give a whole number, 1 or more")
        if self.width % self.heads or self.image_px % self.patch_px:
            raise ConfigError(
                f"a ViT of width {self.width} in {self.heads} heads, for {self.image_px} px in patches of {self.patch_px} px: "
                "heads must divide the width, patches the picture"
            )
        if self.positions == "sincos" and self.width % 4:
            raise ConfigError(f"sine-cosine positions need a width that 4 divides, not {self.width}")
        if self.positions == "rotary":
            check_rotary_heads(self.width, self.heads)
        if not 0 <= self.drop_path < 1 or not self.mlp_ratio > 0 or not self.norm_eps > 0 or not min(self.std) > 0:
            raise ConfigError("drop_path of a ViT lies in [0, 1); mlp_ratio, norm_eps and std are larger than 0")

    @property
    def patch_values(self) -> int:
        return 3 * self.patch_px**2


SIZES: dict[str, ViTConfig] = {
    "Ti": ViTConfig(width=192, depth=12, heads=3),
    "S": ViTConfig(width=384, depth=12, heads=6),
    "B": ViTConfig(width=768, depth=12, heads=12),
    "L": ViTConfig(width=1024, depth=24, heads=16),
    "H": ViTConfig(width=1280, depth=32, heads=16),
}


def check_rotary_heads(width: int, heads: int) -> None:
    if width // heads % 4:
        raise ConfigError(f"rotary positions need heads of a width that 4 divides, not {width} / {heads}")


def vit_config(size: str, **fields: Any) -> ViTConfig:
    """The configuration of a size by name, Ti S B L H, with fields changed. Raises ConfigError for another name."""
    if size not in SIZES:
        raise ConfigError(f"there is no ViT of size {size}: there is {', '.join(SIZES)}")
    return replace(SIZES[size], **fields)


class PatchEmbed(nn.Module):
    """Patches to tokens. A convolution by its weights' names and shape, a linear layer by what it does."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, config.width, config.patch_px, config.patch_px)

    def forward(self, patches: Float[Tensor, "b n k"]) -> Float[Tensor, "b n d"]:
        return F.linear(patches.to(self.proj.weight.dtype), self.proj.weight.flatten(1), self.proj.bias)


class ViT(nn.Module):
    """The encoder. Pictures in, tokens out; the class token comes first where there is one."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbed(config)
        if config.class_token:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width, config.norm_eps) if config.final_norm else nn.Identity()
        store_positions(self, config.positions, config.width, config.image_px // config.patch_px, config.class_token)
        self.register_buffer("mean", torch.tensor(config.mean).repeat_interleave(config.patch_px**2), persistent=False)
        self.register_buffer("std", torch.tensor(config.std).repeat_interleave(config.patch_px**2), persistent=False)
        initialise(self)

    def forward(
        self,
        images: Shaped[Tensor, "b 3 h w"],
        visible: Int64[Tensor, "b v"] | None = None,
        seeds: Int64[Tensor, " b"] | None = None,
    ) -> Float[Tensor, "b n d"]:
        """Tokens of the visible patches, after the final norm; visible: their numbers, row by row from 0; None: all of them.

        images: uint8 RGB, normalised here, or floats, which are taken as normalised. Hidden patches cost nothing. seeds: of the
        samples, for drop_path. Raises ConfigError for pictures that patches do not divide.
        """
        grid = self.grid(images)
        patches = patchify(images, self.config.patch_px)
        if visible is not None:
            patches = patches.gather(1, visible[..., None].expand(-1, -1, patches.shape[2]))
        x = self.patch_embed(self.normalised(patches))
        positions = self.positions(grid)
        num_class = int(self.config.class_token)
        if positions is not None:
            x = x + (positions[:, num_class:] if visible is None else positions[0, num_class:][visible])
        if self.config.class_token:
            first = self.cls_token if positions is None else self.cls_token + positions[:, :1]
            x = torch.cat([first.expand(len(x), -1, -1), x], dim=1)
        turn = rotation(self.config, self.config.heads, self.config.width, grid, visible, self.patch_embed.proj.weight)
        passed = self._passed_over(seeds)
        for i, block in enumerate(self.blocks):
            x = block(x, turn, None if passed is None else passed[:, i])
        return self.norm(x)

    def grid(self, images: Shaped[Tensor, "b 3 h w"]) -> Grid:
        height, width = images.shape[-2:]
        if height % self.config.patch_px or width % self.config.patch_px or not height * width:
            raise ConfigError(f"pictures of {width} x {height} px do not divide into patches of {self.config.patch_px} px")
        return height // self.config.patch_px, width // self.config.patch_px

    def positions(self, grid: Grid) -> Float[Tensor, "1 n d"] | None:
        """What is added to the tokens of a picture; None where positions are rotary."""
        return stored_positions(self, grid, self.config.class_token)

    def normalised(self, patches: Shaped[Tensor, "b n k"]) -> Float[Tensor, "b n k"]:
        """Patches as the model sees them: uint8 less the mean, by the deviation; floats as they are."""
        if patches.dtype != torch.uint8:
            return patches
        return (patches / 255 - self.mean) / self.std

    def _passed_over(self, seeds: Int64[Tensor, " b"] | None) -> Tensor | None:
        """For each sample, block and branch what the branch is multiplied by: 0, or so much that the mean stays."""
        depth = self.config.depth
        if not self.config.drop_path or not self.training or seeds is None:
            return None
        keep = 1 - torch.linspace(0, self.config.drop_path, depth, device=seeds.device)[:, None]
        return (uniform(seeds, DROP_PATH, 2 * depth).view(-1, depth, 2) < keep) / keep


def patchify(images: Shaped[Tensor, "b 3 h w"], patch_px: int) -> Shaped[Tensor, "b p k"]:
    """Patches row by row, each as colour, row, column: the order of a convolution's weights."""
    num, _, height, width = images.shape
    split = images.reshape(num, 3, height // patch_px, patch_px, width // patch_px, patch_px)
    return split.permute(0, 2, 4, 1, 3, 5).reshape(num, -1, 3 * patch_px**2)


# Positions


def sincos_table(grid: Grid, width: int) -> Float[Tensor, "p d"]:
    """Fixed positions: of each patch the column's sines and cosines, then the row's (MAE's order). 4 must divide width."""
    rows, columns = grid
    rates = 10_000.0 ** (-torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    angles = [place.flatten()[:, None] * rates for place in (column, row)]
    return torch.cat([wave for angle in angles for wave in (angle.sin(), angle.cos())], dim=1).float()


def store_positions(module: nn.Module, kind: str, width: int, side: int, class_token: bool) -> None:
    """Gives a module its `pos_embed` [1, N, D], that of the class token first: none where positions are rotary."""
    if kind == "sincos":
        table = F.pad(sincos_table((side, side), width), (0, 0, int(class_token), 0))
        module.register_buffer("pos_embed", table[None])
    elif kind == "learned":
        module.pos_embed = nn.Parameter(torch.zeros(1, side**2 + class_token, width))


def stored_positions(module: nn.Module, grid: Grid, class_token: bool) -> Float[Tensor, "1 n d"] | None:
    """`pos_embed`, interpolated to the grid of a picture: bicubic, to its very size, as Hugging Face does."""
    table = getattr(module, "pos_embed", None)
    if table is None:
        return None
    num_class = int(class_token)
    side = round((table.shape[1] - num_class) ** 0.5)
    if grid == (side, side):
        return table
    square = table[:, num_class:].unflatten(1, (side, side)).permute(0, 3, 1, 2)
    resized = F.interpolate(square.float(), grid, mode="bicubic", align_corners=False).to(table.dtype)
    return torch.cat([table[:, :num_class], resized.flatten(2).transpose(1, 2)], dim=1)


Rotation = tuple[Tensor, Tensor]
"""Cosines and sines [b or 1, 1, n, head]."""


def rotation(
    config: ViTConfig, heads: int, width: int, grid: Grid, visible: Int64[Tensor, "b v"] | None, like: Tensor
) -> Rotation | None:
    """Rotary positions (RoPE100 of CroCo v2): a head's first half turns with a patch's row, its second with its column.

    None where positions are not rotary. heads, width: of the encoder, or of its decoder. The class token does not turn.
    """
    if config.positions != "rotary":
        return None
    head = width // heads
    rates = config.rotary_base ** (-torch.arange(head // 4, device=like.device) / (head // 4))
    row, column = torch.meshgrid(*(torch.arange(n, device=like.device) for n in grid), indexing="ij")
    angles = torch.cat([place.reshape(-1, 1) * rates for place in (row, row, column, column)], dim=1)
    angles = angles[None] if visible is None else angles[visible]
    if config.class_token:
        angles = F.pad(angles, (0, 0, 1, 0))
    return angles.cos()[:, None].to(like.dtype), angles.sin()[:, None].to(like.dtype)


def turned(x: Float[Tensor, "b h n d"], by: Rotation | None) -> Float[Tensor, "b h n d"]:
    """Queries or keys, turned by their positions."""
    if by is None:
        return x
    first, second = x.unflatten(-1, (2, 2, -1)).unbind(-2)
    across = torch.stack([-second, first], dim=-2).flatten(-3)
    return (x * by[0] + across * by[1]).to(x.dtype)


# Blocks


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "b n d"], rotation: Rotation | None) -> Float[Tensor, "b n d"]:
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        x = F.scaled_dot_product_attention(turned(q, rotation), turned(k, rotation), v)
        return self.proj(x.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    def __init__(self, width: int, ratio: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, round(width * ratio))
        self.fc2 = nn.Linear(round(width * ratio), width)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Attention, then an MLP, each on what a norm makes of its input and added to it."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, config.norm_eps)
        self.attn = Attention(config.width, config.heads)
        self.norm2 = nn.LayerNorm(config.width, config.norm_eps)
        self.mlp = Mlp(config.width, config.mlp_ratio)

    def forward(
        self, x: Float[Tensor, "b n d"], rotation: Rotation | None = None, branches: Float[Tensor, "b 2"] | None = None
    ) -> Float[Tensor, "b n d"]:
        """branches: what those of each sample are multiplied by (drop_path)."""
        x = x + _scaled(self.attn(self.norm1(x), rotation), branches, 0)
        return x + _scaled(self.mlp(self.norm2(x)), branches, 1)


def _scaled(x: Float[Tensor, "b n d"], branches: Float[Tensor, "b 2"] | None, which: int) -> Float[Tensor, "b n d"]:
    return x if branches is None else x * branches[:, which, None, None].to(x.dtype)


def initialise(module: nn.Module) -> None:
    """MAE's start: linear layers by Xavier's uniform rule with zero biases, tokens normal with a deviation of 0.02."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(part.weight.view(len(part.weight), -1))
            if part.bias is not None:
                nn.init.zeros_(part.bias)
    for name, parameter in module.named_parameters():
        if name.rpartition(".")[2] in ("cls_token", "mask_token", "pos_embed"):
            nn.init.normal_(parameter, std=0.02)
