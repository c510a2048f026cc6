"""Renders by casting rays with Embree: nothing but packages from pip, for machines without OpenGL. Slower than gl."""

from importlib.metadata import version

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, UInt8

from ..errors import ConfigError
from .camera import NEAR_M, Camera, Rendering
from .mesh import Mesh, Texture

MAX_LAYERS = 64
"""Surfaces that a ray passes through, because they show their back or are cut out, before it gives up."""


class Ray:
    """Pictures of a mesh as `gl.Gl` draws them: unlit, trilinear, back faces left out unless a part is double-sided."""

    def __init__(self, mesh: Mesh) -> None:
        """Raises ConfigError where embreex is not installed."""
        try:
            from embreex.mesh_construction import TriangleMesh
            from embreex.rtcore_scene import EmbreeScene
        except ImportError:
            raise ConfigError("rendering by rays needs one more package: pip install 'twoview[scenes]' (x86-64)") from None
        self.name = f"ray (embreex {version('embreex')})"
        starts = np.cumsum([0] + [len(part.positions) for part in mesh.parts])[:-1]
        self._triangles = np.concatenate([p.triangles + start for p, start in zip(mesh.parts, starts, strict=True)])
        positions = np.concatenate([part.positions for part in mesh.parts])
        self._part = np.repeat(np.arange(len(mesh.parts)), [len(part.triangles) for part in mesh.parts])
        corners = positions[self._triangles].astype(np.float64)
        self._corner, self._edges = corners[:, 0], corners[:, 1:] - corners[:, :1]
        no_uv = [np.zeros((len(part.positions), 2), np.float32) if part.uv is None else part.uv for part in mesh.parts]
        self._uv = np.concatenate(no_uv)
        white = np.ones(4, np.float32)
        self._colours = np.concatenate(
            [
                np.broadcast_to(white, (len(part.positions), 4)) if part.colours is None else np.clip(part.colours, 0, 1)
                for part in mesh.parts
            ]
        )
        self._factor = np.array([part.colour for part in mesh.parts], np.float32)
        self._cutoff = np.array([part.alpha_cutoff for part in mesh.parts], np.float32)
        self._double_sided = np.array([part.double_sided for part in mesh.parts])
        self._texture = np.array([-1 if part.texture is None or part.uv is None else part.texture for part in mesh.parts])
        self._pyramids = _Pyramids(mesh.textures)
        self._scene = EmbreeScene()
        TriangleMesh(self._scene, np.ascontiguousarray(positions, np.float32), self._triangles.astype(np.int32))

    def render(self, pose: Float64[np.ndarray, "4 4"], camera: Camera, /) -> Rendering:
        """See camera.Renderer."""
        rays = camera.rays().reshape(-1, 3) @ pose[:3, :3].T  # one metre deep: a hit's parameter is its depth
        shift = (pose[:3, :2] / camera.intrinsics[:2]).T  # from a pixel's ray to that of the next one, in x and in y
        image, depth = np.zeros((len(rays), 3), np.uint8), np.zeros(len(rays), np.float32)
        live, start = np.arange(len(rays)), np.full(len(rays), NEAR_M)
        for _ in range(MAX_LAYERS):
            origins = pose[:3, 3] + rays[live] * start[live, None]
            hit = self._scene.run(origins.astype(np.float32), rays[live].astype(np.float32))
            live, hit = live[hit >= 0], hit[hit >= 0]
            if not live.size:
                break
            at = self._meet(hit, pose[:3, 3], rays[live])
            beside = [self._meet(hit, pose[:3, 3], rays[live] + step) for step in shift]
            colour = self._colour(hit, at, beside)
            part = self._part[hit]
            seen = (self._double_sided[part] | (at[:, 3] > 0)) & (colour[:, 3] >= self._cutoff[part])
            image[live[seen]] = np.rint(colour[seen, :3] * 255)
            depth[live[seen]] = at[seen, 2]
            start[live] = at[:, 2] * (1 + 1e-5) + 1e-5
            live = live[~seen]
        shape = (camera.height_px, camera.width_px)
        return Rendering(image=image.reshape(*shape, 3), depth_m=depth.reshape(shape))

    def _meet(
        self, hit: Int64[np.ndarray, " n"], eye: Float64[np.ndarray, " 3"], rays: Float64[np.ndarray, "n 3"]
    ) -> Float64[np.ndarray, "n 4"]:
        """Where rays meet the planes of triangles: two barycentric coordinates, the depth, and a number above 0 for the front."""
        first, second = self._edges[hit, 0], self._edges[hit, 1]
        across = np.cross(rays, second)
        turn = np.einsum("ij,ij->i", first, across)
        from_corner = eye - self._corner[hit]
        over = np.cross(from_corner, first)
        u, v, depth = (np.einsum("ij,ij->i", a, b) for a, b in ((from_corner, across), (rays, over), (second, over)))
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.nan_to_num(np.stack([u / turn, v / turn, depth / turn, turn], axis=1))

    def _colour(
        self, hit: Int64[np.ndarray, " n"], at: Float64[np.ndarray, "n 4"], beside: list[Float64[np.ndarray, "n 4"]]
    ) -> Float32[np.ndarray, "n 4"]:
        """RGBA in [0, 1] where each ray meets its triangle."""
        corners, part = self._triangles[hit], self._part[hit]
        weights = np.stack([1 - at[:, 0] - at[:, 1], at[:, 0], at[:, 1]], axis=1).astype(np.float32)
        colour = np.einsum("nk,nkc->nc", weights, self._colours[corners]) * self._factor[part]
        textured = self._texture[part] >= 0
        if textured.any():
            uv = self._uv[corners[textured]]
            edges = uv[:, 1:] - uv[:, :1]
            here, *there = (np.einsum("nk,nkc->nc", p[textured, :2], edges) for p in (at, *beside))
            steps = [other - here for other in there]
            colour[textured] *= self._pyramids.look_up(self._texture[part[textured]], uv[:, 0] + here, steps)
        return np.clip(colour, 0, 1)


class _Pyramids:
    """All textures, each halved again and again, in one array of pixels."""

    def __init__(self, textures: tuple[Texture, ...]) -> None:
        levels = [_halved(texture.image) for texture in textures]
        deepest = max(map(len, levels), default=1)
        self._size = np.ones((len(levels), deepest, 2), np.int64)
        """Width and height of each level."""
        self._start = np.zeros((len(levels), deepest), np.int64)
        self._last = np.array([len(pictures) - 1 for pictures in levels])
        self._clamp = np.array([[side == "clamp" for side in texture.wrap] for texture in textures])
        pixels, total = [], 0
        for i, pictures in enumerate(levels):
            for k, picture in enumerate(pictures):
                self._size[i, k] = picture.shape[1], picture.shape[0]
                self._start[i, k] = total
                pixels.append(picture.reshape(-1, 4))
                total += len(pixels[-1])
        self._pixels = np.concatenate(pixels) if pixels else np.zeros((0, 4), np.uint8)

    def look_up(
        self, texture: Int64[np.ndarray, " n"], uv: Float64[np.ndarray, "n 2"], steps: list[Float64[np.ndarray, "n 2"]]
    ) -> Float32[np.ndarray, "n 4"]:
        """RGBA in [0, 1], trilinear. steps: how far uv moves from a pixel to the next one, in x and in y."""
        size = self._size[texture, 0]
        longest = np.maximum(*(np.linalg.norm(step * size, axis=1) for step in steps))
        level = np.clip(np.log2(np.maximum(longest, 1e-6)), 0, self._last[texture])
        low = np.floor(level).astype(np.int64)
        share = (level - low).astype(np.float32)
        colour = self._bilinear(texture, low, uv)
        between = share > 0
        above = self._bilinear(texture[between], low[between] + 1, uv[between])
        colour[between] += share[between, None] * (above - colour[between])
        return colour / 255

    def _bilinear(
        self, texture: Int64[np.ndarray, " n"], level: Int64[np.ndarray, " n"], uv: Float64[np.ndarray, "n 2"]
    ) -> Float32[np.ndarray, "n 4"]:
        size, start, clamp = self._size[texture, level], self._start[texture, level], self._clamp[texture]
        at = uv * size - 0.5
        corner = np.floor(at).astype(np.int64)
        x, y = (at - corner).astype(np.float32).T[:, :, None]
        columns, rows = (self._wrapped(corner[:, k], size[:, k], clamp[:, k]) for k in (0, 1))
        above, below = (
            (1 - x) * self._pixels[start + row * size[:, 0] + columns[0]] + x * self._pixels[start + row * size[:, 0] + columns[1]]
            for row in rows
        )
        return (1 - y) * above + y * below

    @staticmethod
    def _wrapped(
        first: Int64[np.ndarray, " n"], size: Int64[np.ndarray, " n"], clamp: Bool[np.ndarray, " n"]
    ) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
        """A pixel's index along one side and the next one's, brought back into the picture."""
        first, second = (np.where(clamp, np.clip(i, 0, size - 1), i % size) for i in (first, first + 1))
        return first, second


def _halved(image: UInt8[np.ndarray, "h w 4"]) -> list[UInt8[np.ndarray, "h2 w2 4"]]:
    """A picture, and each half of the one before it, down to one pixel."""
    import cv2

    pictures = [image]
    while max(pictures[-1].shape[:2]) > 1:
        height, width = pictures[-1].shape[:2]
        pictures.append(cv2.resize(pictures[-1], (max(1, width // 2), max(1, height // 2)), interpolation=cv2.INTER_AREA))
    return pictures
