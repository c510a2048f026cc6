"""A walking video of a textured room, made here without a renderer: panels drawn nearest first."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8

WIDTH_PX, HEIGHT_PX, FPS, FOCAL_PX = 480, 360, 10, 330.0
ROOM_M = (8.0, 6.0, 2.8)
"""Length, width and height."""
TEXTURE_PX_PER_M = 160
SAME_BYTES = {"crf": "20", "preset": "veryfast", "threads": "1", "x264-params": "mbtree=0"}
"""With several threads, or a tree of macroblocks, x264's bytes change from one run to the next, and with them numbers of pairs."""


def write_walk(path: Path, seconds: float = 16.0, seed: int = 0) -> None:
    """Write the video: H.264, `seconds` long, a walk along the room that looks around."""
    rng = np.random.default_rng([seed, *b"walk"])
    panels = room(rng)
    num_frames = round(seconds * FPS)
    aside = path.with_name(f".{path.name}")
    with av.open(str(aside), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FPS, options=SAME_BYTES)
        stream.width, stream.height, stream.pix_fmt = WIDTH_PX, HEIGHT_PX, "yuv420p"
        for i in range(num_frames):
            frame = av.VideoFrame.from_ndarray(render(panels, *camera(i / FPS)), format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    aside.replace(path)


def camera(time_s: float) -> tuple[Float64[np.ndarray, "3 3"], Float64[np.ndarray, " 3"]]:
    """Rotation (rows: right, down, forward) and place of the camera in metres; z is up."""
    place = np.array([1.5 + 0.25 * time_s, 3.0 + 0.5 * np.sin(0.5 * time_s), 1.5 + 0.03 * np.sin(6 * time_s)])
    heading, pitch = 0.27 * time_s + 0.1 * np.sin(0.9 * time_s), 0.05 * np.sin(0.7 * time_s)
    forward = np.array([np.cos(heading) * np.cos(pitch), np.sin(heading) * np.cos(pitch), -np.sin(pitch)])
    right = np.array([np.sin(heading), -np.cos(heading), 0.0])
    return np.stack([right, np.cross(forward, right), forward]), place


@dataclass(frozen=True, kw_only=True, eq=False)
class Panel:
    """A textured rectangle in space."""

    corner: Float64[np.ndarray, " 3"]
    """Where the texture's upper left corner is, in metres."""
    along: Float64[np.ndarray, " 3"]
    """From there along the texture's upper edge."""
    down: Float64[np.ndarray, " 3"]
    """And down its left edge."""
    texture: UInt8[np.ndarray, "h w 3"]


def room(rng: np.random.Generator) -> list[Panel]:
    """The six sides of a room and the five visible sides of each of the boxes in it."""

    def panel(corner: Sequence[float], along: Sequence[float], down: Sequence[float]) -> Panel:
        height, width = (round(float(np.linalg.norm(v)) * TEXTURE_PX_PER_M) for v in (down, along))
        return Panel(
            corner=np.array(corner, float),
            along=np.array(along, float),
            down=np.array(down, float),
            texture=texture(height, width, rng),
        )

    x, y, z = ROOM_M
    panels = [
        panel((x, 0, z), (-x, 0, 0), (0, 0, -z)),
        panel((0, y, z), (x, 0, 0), (0, 0, -z)),
        panel((0, 0, z), (0, y, 0), (0, 0, -z)),
        panel((x, y, z), (0, -y, 0), (0, 0, -z)),
        panel((0, y, 0), (x, 0, 0), (0, -y, 0)),
        panel((0, 0, z), (x, 0, 0), (0, y, 0)),
    ]
    for k in range(10):
        w, d, h = rng.uniform(0.4, 1.0), rng.uniform(0.4, 0.9), rng.uniform(0.5, 1.9)
        x0 = rng.uniform(0.2, x - 0.2 - w)
        y0 = rng.uniform(0.1, 1.2) if k % 2 else y - d - rng.uniform(0.1, 1.2)
        panels += [
            panel((x0, y0, h), (w, 0, 0), (0, 0, -h)),
            panel((x0 + w, y0 + d, h), (-w, 0, 0), (0, 0, -h)),
            panel((x0, y0 + d, h), (0, -d, 0), (0, 0, -h)),
            panel((x0 + w, y0, h), (0, d, 0), (0, 0, -h)),
            panel((x0, y0 + d, h), (w, 0, 0), (0, -d, 0)),
        ]
    return panels


def texture(height: int, width: int, rng: np.random.Generator) -> UInt8[np.ndarray, "h w 3"]:
    """A plain colour with soft noise and many small shapes, no two alike."""
    image = np.empty((height, width, 3), np.float32)
    image[:] = rng.uniform(70, 200, 3)
    for cell in (8, 32):
        noise = rng.normal(0, 14, (height // cell + 2, width // cell + 2, 3)).astype(np.float32)
        image += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    image = np.clip(image, 0, 255).astype(np.uint8)
    for _ in range(max(6, height * width // 3500)):
        x, y, r = int(rng.integers(width)), int(rng.integers(height)), int(rng.integers(4, 26))
        colour = tuple(int(c) for c in rng.integers(0, 256, 3))
        kind = rng.integers(4)
        if kind == 0:
            cv2.circle(image, (x, y), r, colour, -1, cv2.LINE_AA)
        elif kind == 1:
            cv2.rectangle(image, (x - r, y - r // 2), (x + r, y + r // 2), colour, -1)
        elif kind == 2:
            corners = (rng.uniform(-r, r, (3, 2)) + (x, y)).astype(np.int32)
            cv2.fillPoly(image, [corners], colour, cv2.LINE_AA)
        else:
            letters = "".join(chr(c) for c in rng.integers(65, 91, 3))
            cv2.putText(image, letters, (x, y), cv2.FONT_HERSHEY_SIMPLEX, r / 18, colour, 2, cv2.LINE_AA)
    return image


def render(
    panels: Sequence[Panel], rotation: Float64[np.ndarray, "3 3"], place: Float64[np.ndarray, " 3"]
) -> UInt8[np.ndarray, "h w 3"]:
    """The panels as a pinhole camera sees them, nearest first. Inverse depth of a plane is linear in the pixel."""
    x = ((np.arange(WIDTH_PX) - (WIDTH_PX - 1) / 2)[None, :] / FOCAL_PX).astype(np.float32)
    y = ((np.arange(HEIGHT_PX) - (HEIGHT_PX - 1) / 2)[:, None] / FOCAL_PX).astype(np.float32)
    nearest = np.full((HEIGHT_PX, WIDTH_PX), 1e-3, np.float32)
    image = np.zeros((HEIGHT_PX, WIDTH_PX, 3), np.uint8)
    for panel in panels:
        corner, along, down = (rotation @ v for v in (panel.corner - place, panel.along, panel.down))
        normal = np.cross(along, down)
        distance = normal @ corner
        if distance < 1e-9:  # seen from behind
            continue
        a, b, c = (float(v) for v in normal / distance)
        inverse = a * x + (b * y + c)
        nearer = inverse > nearest
        if not nearer.any():
            continue
        depth = 1 / np.where(nearer, inverse, 1)
        u, v = (_along(axis / (axis @ axis), x, y, depth, corner) for axis in (along, down))
        seen = nearer & (u >= 0) & (u <= 1) & (v >= 0) & (v <= 1)
        if not seen.any():
            continue
        nearest[seen] = inverse[seen]
        height, width = panel.texture.shape[:2]
        image[seen] = cv2.remap(
            panel.texture, u * width - 0.5, v * height - 0.5, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )[seen]
    return image


def _along(axis: np.ndarray, x: np.ndarray, y: np.ndarray, depth: np.ndarray, corner: np.ndarray) -> Float32[np.ndarray, "h w"]:
    """How far along an edge of a panel each pixel's ray meets it, 0 at the corner, 1 at the edge's end."""
    a, b, c = (float(v) for v in axis)
    return (a * x + (b * y + c)) * depth - float(axis @ corner)
