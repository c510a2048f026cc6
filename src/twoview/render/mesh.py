"""A 3D scene as the renderers and the navigation see it: triangles in metres, y up, and their textures."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float32, Float64, Int32, UInt8

Wrap = Literal["repeat", "mirror", "clamp"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Texture:
    """A picture and how it is looked up. Row 0 is where v is 0, as in glTF."""

    image: UInt8[np.ndarray, "h w 4"]
    """RGBA, as stored: nothing is linearised."""
    wrap: tuple[Wrap, Wrap] = ("repeat", "repeat")
    """Beyond [0, 1], along u and v. `load_mesh` leaves no mirror."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """Triangles of one material. N = number of vertices, T = of triangles."""

    positions: Float32[np.ndarray, "n 3"]
    """Metres; x, y up, z."""
    triangles: Int32[np.ndarray, "t 3"]
    """Anticlockwise as seen from their front."""
    uv: Float32[np.ndarray, "n 2"] | None = None
    colours: Float32[np.ndarray, "n 4"] | None = None
    """RGBA in [0, 1] of each vertex."""
    colour: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    """RGBA; the texture and the vertices' colours are multiplied by it."""
    texture: int | None = None
    """Which of the mesh's textures."""
    double_sided: bool = False
    """False: seen from its front alone."""
    alpha_cutoff: float = 0.0
    """What has less opacity is not there."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Mesh:
    """A whole scene."""

    name: str
    parts: tuple[Part, ...]
    textures: tuple[Texture, ...] = ()

    @property
    def num_triangles(self) -> int:
        return sum(len(part.triangles) for part in self.parts)

    @property
    def bounds_m(self) -> Float64[np.ndarray, "2 3"]:
        """Lowest and highest x, y, z."""
        low = np.min([part.positions.min(0) for part in self.parts], axis=0)
        return np.stack([low, np.max([part.positions.max(0) for part in self.parts], axis=0)]).astype(np.float64)
