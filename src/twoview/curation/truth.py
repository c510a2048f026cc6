"""Overlap as it is: what share of each picture the other one shows, by depth and pose."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int16, UInt8

from ..errors import ConfigError
from ..geometry import GRID, PATCHES, look_up, patches_of_points, share_seen
from ..schema import OCCLUDED, OUTSIDE, UNKNOWN, Geometry, Match, View

LABELS = (OUTSIDE, OCCLUDED, UNKNOWN)
_PER_PATCH = GRID // PATCHES


@dataclass(frozen=True, kw_only=True)
class Truth:
    """Exact overlap of pictures that come with depth and pose: rendered views, RGB-D footage. Pixels do not count."""

    name = "truth@1"
    min_depth: float = 0.05
    """Less than this share of a picture has depth, and nothing is said."""

    def __post_init__(self) -> None:
        if not 0 <= self.min_depth <= 1:
            raise ConfigError(f"--estimator.min-depth is {self.min_depth}: give a share from 0 to 1, as 0.7")

    def describe(self, image: UInt8[np.ndarray, "h w 3"], /) -> Geometry:
        """Raises ConfigError: pixels are not enough."""
        raise ConfigError("the estimator truth needs depth and pose: give a 3D scene or an RGB-D folder, or another --recipe")

    def describe_view(self, view: View, /) -> Geometry:
        """The view's depth, pose and intrinsics. Raises ConfigError where they are not known."""
        return view.geometry or self.describe(view.image)

    def measure(self, a: Geometry, b: Geometry, /) -> Match:
        """Overlap in both directions and patch correspondences; see schema.Match.

        A patch goes where most of its points go; where most have no counterpart, it reads what befell most of those. `points` has
        at most one for each patch.
        """
        if min((view.depth_m > 0).mean() for view in (a, b)) < self.min_depth:
            return Match(found=False, failure="no_depth")
        (fate_ab, u, v), (fate_ba, u_back, v_back) = look_up(a, b), look_up(b, a)
        share_ab, share_ba = share_seen(fate_ab), share_seen(fate_ba)
        if share_ab is None or share_ba is None:
            return Match(found=False, failure="no_depth")
        return Match(
            found=True,
            overlap_ab=share_ab,
            overlap_ba=share_ba,
            patches=np.stack(
                [
                    patches_of_points(fate_ab, u, v, b.depth_m.shape, LABELS),
                    patches_of_points(fate_ba, u_back, v_back, a.depth_m.shape, LABELS),
                ]
            ),
            patch_grid=(PATCHES, PATCHES),
            points=_points(fate_ab, u, v, b),
        )


def _points(fate: Int16[np.ndarray, " g"], u: np.ndarray, v: np.ndarray, other: Geometry) -> Float32[np.ndarray, "n 4"]:
    """Shared points, one of the middle of each patch, in [0, 1]."""
    row, column = np.divmod(np.arange(GRID * GRID), GRID)
    middle = _PER_PATCH // 2
    chosen = (fate == 0) & (row % _PER_PATCH == middle) & (column % _PER_PATCH == middle)
    height, width = other.depth_m.shape
    here = [(column[chosen] + 0.5) / GRID, (row[chosen] + 0.5) / GRID]
    return np.stack([*here, (u[chosen] + 0.5) / width, (v[chosen] + 0.5) / height], axis=1).astype(np.float32)
