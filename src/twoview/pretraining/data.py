"""What an objective learns from."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float32, Int16, Int64, Shaped
from torch import Tensor


@dataclass(kw_only=True, eq=False)  # not frozen: Lightning copies it field by field
class Batch:
    """One step's pairs. B samples, pictures of P patches: uint8 RGB, or floats that are normalised."""

    a: Shaped[Tensor, "b 3 h w"]
    b: Shaped[Tensor, "b 3 h w"] | None = None
    """The second view."""
    seeds: Int64[Tensor, " b"]
    """One for each sample: every random number that a model draws follows from it."""
    hidden: Bool[Tensor, "b p"] | None = None
    """Which patches of a are hidden. None: they are drawn from the seeds."""
    crops: tuple[Shaped[Tensor, "b 3 _ _"], ...] = ()
    """Crops for DINO: of one size each."""
    patches: Int16[Tensor, "b 2 p"] | None = None
    """The patch of b for each patch of a, and back, as PairSample has them, for these cuts; where it was asked for."""
    points: Float32[Tensor, "b n 4"] | None = None
    """Matched points, x and y in a and in b, in [0, 1]; NaN where a sample has fewer than the most."""

    def to(self, device: torch.device) -> "Batch":
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """For the loader, which calls it where there is a GPU."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        there = {name: change(value) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **there, crops=tuple(map(change, self.crops)))
