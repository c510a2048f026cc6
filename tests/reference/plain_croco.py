"""MAE and CroCo written out plainly, after their papers: every patch embedded, softmax attention by hand, everything predicted.

The slow reference of the models, and what `benchmarks/step.py` runs beside them. Keys are the published ones of MIMIC, or of
CroCo without a class token.
"""

import math

import torch
from torch import nn


def attention(q, k, v):
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    return scores.softmax(dim=-1) @ v


def in_heads(x, heads):
    batch, num, width = x.shape
    return x.reshape(batch, num, heads, width // heads).permute(0, 2, 1, 3)


def joined(x):
    batch, heads, num, head = x.shape
    return x.permute(0, 2, 1, 3).reshape(batch, num, heads * head)


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x):
        q, k, v = (in_heads(part, self.heads) for part in self.qkv(x).chunk(3, dim=-1))
        return self.proj(joined(attention(q, k, v)))


class CrossAttention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.projq, self.projk, self.projv, self.proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x, memory):
        q, k, v = (in_heads(part, self.heads) for part in (self.projq(x), self.projk(memory), self.projv(memory)))
        return self.proj(joined(attention(q, k, v)))


class Mlp(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        return self.fc2(nn.functional.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(width, eps=1e-6) for _ in range(2))
        self.attn, self.mlp = Attention(width, heads), Mlp(width)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class CrossBlock(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.norm1, self.norm2, self.norm3, self.norm_y = (nn.LayerNorm(width, eps=1e-6) for _ in range(4))
        self.attn, self.cross_attn, self.mlp = Attention(width, heads), CrossAttention(width, heads), Mlp(width)

    def forward(self, x, memory):
        x = x + self.attn(self.norm1(x))
        x = x + self.cross_attn(self.norm2(x), self.norm_y(memory))
        return x + self.mlp(self.norm3(x))


def table(side, width):
    """Sines and cosines of the column, then of the row; one position at a time."""
    rows = []
    for row in range(side):
        for column in range(side):
            values = []
            for place in (column, row):
                angles = [place / 10_000 ** (i / (width // 4)) for i in range(width // 4)]
                values += [math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles]
            rows.append(values)
    return torch.tensor(rows)


class PlainCroCo(nn.Module):
    """With a class token in both streams, as MIMIC's. Pictures are normalised floats."""

    def __init__(self, width=768, depth=12, heads=12, dec_width=512, dec_depth=8, dec_heads=16, image_px=224, patch_px=16):
        super().__init__()
        side = image_px // patch_px
        self.patch_px, self.side = patch_px, side
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, patch_px, patch_px)})
        self.cls_token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.register_buffer("pos_embed", torch.cat([torch.zeros(1, width), table(side, width)])[None])
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.decoder_embed = nn.Linear(width, dec_width)
        self.mask_token = nn.Parameter(torch.randn(1, 1, dec_width) * 0.02)
        self.register_buffer("decoder_pos_embed", torch.cat([torch.zeros(1, dec_width), table(side, dec_width)])[None])
        self.decoder_blocks_croco = nn.ModuleList(CrossBlock(dec_width, dec_heads) for _ in range(dec_depth))
        self.decoder_norm = nn.LayerNorm(dec_width, eps=1e-6)
        self.decoder_pred = nn.Linear(dec_width, 3 * patch_px**2)

    def encode(self, images, kept=None):
        """kept: int64 [B, V], the patches that are shown."""
        x = self.patch_embed["proj"](images).flatten(2).transpose(1, 2) + self.pos_embed[:, 1:]
        if kept is not None:
            x = torch.gather(x, 1, kept[..., None].repeat(1, 1, x.shape[2]))
        x = torch.cat([(self.cls_token + self.pos_embed[:, :1]).expand(len(x), -1, -1), x], dim=1)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def forward(self, a, b, hidden):
        """The loss, and predictions of all patches. hidden: bool [B, P]."""
        order = hidden.int().argsort(dim=1, stable=True)
        num_kept = int((~hidden[0]).sum())
        memory = self.decoder_embed(self.encode(b)) + self.decoder_pos_embed
        x = self.decoder_embed(self.encode(a, order[:, :num_kept]))
        masks = self.mask_token.repeat(len(x), order.shape[1] - num_kept, 1)
        patches = torch.cat([x[:, 1:], masks], dim=1)
        back = order.argsort(dim=1)
        patches = torch.gather(patches, 1, back[..., None].repeat(1, 1, x.shape[2]))
        x = torch.cat([x[:, :1], patches], dim=1) + self.decoder_pos_embed
        for block in self.decoder_blocks_croco:
            x = block(x, memory)
        predicted = self.decoder_pred(self.decoder_norm(x))[:, 1:]
        target = self.patches(a)
        target = (target - target.mean(dim=-1, keepdim=True)) / (target.var(dim=-1, keepdim=True) + 1e-6) ** 0.5
        errors = ((predicted - target) ** 2).mean(dim=-1)
        return (errors * hidden).sum() / hidden.sum(), predicted

    def patches(self, images):
        """[B, P, values], pixel by pixel."""
        size, side = self.patch_px, self.side
        cut = images.reshape(len(images), 3, side, size, side, size)
        return cut.permute(0, 2, 4, 3, 5, 1).reshape(len(images), side * side, size * size * 3)
