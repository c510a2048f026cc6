"""What an objective learns from."""

from dataclasses import dataclass

from jaxtyping import Bool, Int64, Shaped
from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
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
