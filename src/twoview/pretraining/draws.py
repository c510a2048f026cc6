"""Random numbers that follow from a sample alone: the same on any device, for any batch, after any restart."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

_LOW = 0xFFFFFFFF


HIDDEN, DROP_PATH = range(2)
"""What is drawn."""


def uniform(seeds: Int64[Tensor, " b"], what: int, num: int) -> Float[Tensor, "b num"]:
    """Numbers in [0, 1) for each sample, float32: a hash of its seed, of what is drawn, and of their place (below 2**24)."""
    state = _mixed(_mixed(seeds & _LOW) ^ (seeds >> 32 & _LOW))
    places = _mixed(torch.arange(num, device=seeds.device) + (what << 24))
    return (_mixed(state[:, None] ^ places) >> 8).float() / (1 << 24)


def draw_patches(
    seeds: Int64[Tensor, " b"], num_patches: int, num_hidden: int
) -> tuple[Int64[Tensor, "b v"], Int64[Tensor, "b h"]]:
    """For each sample the numbers of the patches that stay visible and of those that are hidden, in order: any set as likely."""
    order = uniform(seeds, HIDDEN, num_patches).argsort(dim=1, stable=True)
    return order[:, num_hidden:].sort(dim=1).values, order[:, :num_hidden].sort(dim=1).values


def _mixed(x: Int64[Tensor, "..."]) -> Int64[Tensor, "..."]:
    """A bijection of 32 bits that scatters neighbours."""
    x = x + 0x9E3779B9 & _LOW  # without it 0 would stay 0
    for _ in range(2):
        x = (x >> 16 ^ x) * 0x45D9F3B & _LOW
    return x >> 16 ^ x
