"""Renders with OpenGL over EGL: on a GPU where there is one, by Mesa's llvmpipe where there is none."""

import os
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32

from ..errors import ConfigError
from .camera import FAR_M, NEAR_M, Camera, Rendering
from .mesh import Mesh, Part

CHUNK_M = 2.0
"""Triangles are drawn in chunks of about this size, and only those in sight: a CPU spends its time on vertices."""
_VERTEX = """
#version 330
uniform mat4 clip_from_world;
in vec3 position; in vec2 uv; in vec4 colour;
out vec2 v_uv; out vec4 v_colour; out float v_depth;
void main() {
    gl_Position = clip_from_world * vec4(position, 1.0);
    v_uv = uv; v_colour = colour; v_depth = gl_Position.w;
}
"""
_FRAGMENT = """
#version 330
uniform sampler2D picture; uniform vec4 factor; uniform float cutoff;
in vec2 v_uv; in vec4 v_colour; in float v_depth;
layout(location = 0) out vec4 rgba; layout(location = 1) out float depth;
void main() {
    vec4 c = texture(picture, v_uv) * v_colour * factor;
    if (c.a < cutoff) discard;
    rgba = vec4(c.rgb, 1.0); depth = v_depth;
}
"""


@lru_cache(maxsize=1)
def _context() -> Any:
    """One context a process. Raises ConfigError where OpenGL cannot be had."""
    try:
        import moderngl
    except ImportError:
        raise ConfigError("rendering with OpenGL needs one more package: pip install 'twoview[scenes]'") from None
    os.environ.setdefault("LP_NUM_THREADS", "0")  # llvmpipe: a worker draws in its own thread
    try:
        context = moderngl.create_context(standalone=True, backend="egl", require=330)  # pyright: ignore[reportArgumentType]
    except Exception as error:  # moderngl and glcontext raise bare ones
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"no OpenGL over EGL on this machine ({why}): apt-get install libegl1 libgl1 libgl1-mesa-dri, or use the back end ray"
        ) from None
    context.gc_mode = "auto"  # a scene's textures go with its renderer: left alone they would stay till the process ends
    return context


@dataclass(frozen=True, kw_only=True, eq=False)
class _Batch:
    """Triangles that are drawn with one state, in chunks."""

    vao: Any
    texture: Any
    factor: tuple[float, float, float, float]
    cutoff: float
    double_sided: bool
    first: Int32[np.ndarray, " c"]
    """Where each chunk starts among the batch's indices."""
    count: Int32[np.ndarray, " c"]
    low: Float32[np.ndarray, "c 3"]
    high: Float32[np.ndarray, "c 3"]


class Gl:
    """Pictures of a mesh, unlit: texture times colours, trilinear, back faces culled unless a part is double-sided."""

    def __init__(self, mesh: Mesh) -> None:
        """Raises ConfigError where OpenGL cannot be had."""
        self._ctx = _context()
        self.name = f"gl ({self._ctx.info['GL_RENDERER']})"
        self._program = self._ctx.program(vertex_shader=_VERTEX, fragment_shader=_FRAGMENT)
        self._white = self._ctx.texture((1, 1), 4, b"\xff" * 4)
        self._textures = [self._upload(texture.image, texture.wrap) for texture in mesh.textures]
        self._batches = [self._batch(parts) for parts in _alike(mesh.parts)]
        self._low, self._high = (np.concatenate([getattr(b, name) for b in self._batches]) for name in ("low", "high"))
        self._ends = np.cumsum([len(batch.first) for batch in self._batches])
        """Where each batch's chunks end among those of all."""
        self._target = lru_cache(maxsize=2)(self._make_target)

    def render(self, pose: Float64[np.ndarray, "4 4"], camera: Camera, /) -> Rendering:
        """See camera.Renderer."""
        ctx, target = self._ctx, self._target(camera.width_px, camera.height_px)
        clip_from_world = _projection(camera) @ np.linalg.inv(pose)
        target.use()
        ctx.clear(0.0, 0.0, 0.0, 0.0)
        ctx.enable(ctx.DEPTH_TEST)
        ctx.front_face = "cw"  # the picture is drawn upside down, so that its first row comes out first
        self._program["clip_from_world"].write(clip_from_world.T.astype(np.float32).tobytes())  # column by column
        seen = np.split(_in_sight(clip_from_world, self._low, self._high), self._ends[:-1])
        for batch, chunks in zip(self._batches, seen, strict=True):
            if not chunks.any():
                continue
            (ctx.disable if batch.double_sided else ctx.enable)(ctx.CULL_FACE)
            self._program["factor"].value, self._program["cutoff"].value = batch.factor, batch.cutoff
            batch.texture.use()
            for first, count in _runs(batch, chunks):
                batch.vao.render(first=first, vertices=count)
        shape = (camera.height_px, camera.width_px)
        image = np.frombuffer(target.read(components=3, alignment=1), np.uint8).reshape(*shape, 3)
        depth = np.frombuffer(target.read(components=1, attachment=1, dtype="f4"), np.float32).reshape(shape)
        return Rendering(image=image, depth_m=depth)

    def _make_target(self, width_px: int, height_px: int) -> Any:
        size = (width_px, height_px)
        colours = [self._ctx.renderbuffer(size, 4), self._ctx.renderbuffer(size, 1, dtype="f4")]
        return self._ctx.framebuffer(colours, self._ctx.depth_renderbuffer(size))

    def _upload(self, image: np.ndarray, wrap: tuple[str, str]) -> Any:
        height, width = image.shape[:2]
        texture = self._ctx.texture((width, height), 4, np.ascontiguousarray(image).tobytes())
        texture.build_mipmaps()
        texture.filter = (self._ctx.LINEAR_MIPMAP_LINEAR, self._ctx.LINEAR)
        texture.repeat_x, texture.repeat_y = (side != "clamp" for side in wrap)
        return texture

    def _batch(self, parts: list[Part]) -> _Batch:
        vertices = np.concatenate([_vertices(part) for part in parts])
        starts = np.cumsum([0] + [len(part.positions) for part in parts[:-1]])
        triangles = np.concatenate([part.triangles + start for part, start in zip(parts, starts, strict=True)])
        corners = vertices["position"][triangles]
        chunk = np.floor(corners.mean(1) / CHUNK_M).astype(np.int64)
        order = np.lexsort(chunk.T)
        chunk, triangles, corners = chunk[order], triangles[order], corners[order]
        first = np.flatnonzero(np.r_[True, (chunk[1:] != chunk[:-1]).any(1)])
        ctx, part = self._ctx, parts[0]
        buffers = [(ctx.buffer(vertices.tobytes()), "3f 2f 4f1", "position", "uv", "colour")]
        indices = ctx.buffer(triangles.astype(np.int32).tobytes())
        return _Batch(
            vao=ctx.vertex_array(self._program, buffers, index_buffer=indices),
            texture=self._white if part.texture is None else self._textures[part.texture],
            factor=part.colour,
            cutoff=part.alpha_cutoff,
            double_sided=part.double_sided,
            first=(3 * first).astype(np.int32),
            count=(3 * np.diff(np.r_[first, len(triangles)])).astype(np.int32),
            low=np.minimum.reduceat(corners.min(1), first),
            high=np.maximum.reduceat(corners.max(1), first),
        )


def _alike(parts: tuple[Part, ...]) -> list[list[Part]]:
    """Parts that can be drawn together."""
    groups: dict[tuple, list[Part]] = {}
    for part in parts:
        texture = None if part.uv is None else part.texture
        groups.setdefault((texture, part.colour, part.double_sided, part.alpha_cutoff), []).append(part)
    return list(groups.values())


def _vertices(part: Part) -> np.ndarray:
    vertices = np.zeros(len(part.positions), [("position", "f4", 3), ("uv", "f4", 2), ("colour", "u1", 4)])
    vertices["position"] = part.positions
    vertices["uv"] = 0 if part.uv is None else part.uv
    vertices["colour"] = 255 if part.colours is None else np.rint(np.clip(part.colours, 0, 1) * 255)
    return vertices


def _projection(camera: Camera) -> Float64[np.ndarray, "4 4"]:
    """Camera axes (x right, y down, z forward) to clip coordinates; y stays down."""
    fx, fy, _, _ = camera.intrinsics
    matrix = np.zeros((4, 4))
    matrix[0, 0], matrix[1, 1] = 2 * fx / camera.width_px, 2 * fy / camera.height_px
    matrix[2, 2], matrix[2, 3] = (FAR_M + NEAR_M) / (FAR_M - NEAR_M), -2 * FAR_M * NEAR_M / (FAR_M - NEAR_M)
    matrix[3, 2] = 1
    return matrix


def _in_sight(
    clip_from_world: Float64[np.ndarray, "4 4"], low: Float32[np.ndarray, "c 3"], high: Float32[np.ndarray, "c 3"]
) -> Bool[np.ndarray, " c"]:
    """Which boxes may be seen: those that no plane of the frustum has wholly outside."""
    x, y, z, w = clip_from_world
    planes = np.stack([w + x, w - x, w + y, w - y, w + z])
    normals = planes[:, None, :3]
    nearest = np.where(normals > 0, high, low)  # the corner furthest inside
    return ((nearest * normals).sum(-1) + planes[:, 3:] >= 0).all(0)


def _runs(batch: _Batch, seen: Bool[np.ndarray, " c"]) -> list[tuple[int, int]]:
    """First index and number of indices of each run of chunks in sight."""
    edges = np.flatnonzero(np.diff(np.r_[False, seen, False].astype(np.int8)))
    ends = batch.first + batch.count
    return [(int(batch.first[a]), int(ends[b - 1] - batch.first[a])) for a, b in zip(edges[::2], edges[1::2], strict=True)]
