"""Random numbers that follow from a sample alone: the same on any device, for any batch, after any restart."""

from zlib import crc32

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

_LOW = 0xFFFFFFFF


def uniform(seeds: Int64[Tensor, " b"], name: str, num: int) -> Float[Tensor, "b num"]:
    """Numbers in [0, 1) for each sample, float32: a hash of its seed, of the name of what is drawn, and of their place."""
    state = _mixed(seeds & _LOW ^ crc32(name.encode()))
    state = _mixed(state ^ (seeds >> 32 & _LOW))
    places = _mixed(torch.arange(1, num + 1, device=seeds.device))
    return (_mixed(state[:, None] ^ places) >> 8).float() / (1 << 24)


def draw_hidden(seeds: Int64[Tensor, " b"], num_patches: int, num_hidden: int) -> Bool[Tensor, "b p"]:
    """For each sample which patches are hidden: so many of them, any set as likely as another."""
    order = uniform(seeds, "hidden", num_patches).argsort(dim=1, stable=True)
    return torch.zeros_like(order, dtype=torch.bool).scatter_(1, order[:, :num_hidden], True)


def _mixed(x: Int64[Tensor, "..."]) -> Int64[Tensor, "..."]:
    """A bijection of 32 bits that scatters neighbours."""
    for _ in range(2):
        x = (x >> 16 ^ x) * 0x45D9F3B & _LOW
    return x >> 16 ^ x
