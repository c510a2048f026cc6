"""A furnished flat to walk through, made on the spot: something to curate without a download."""

import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float64, UInt8

FLAT_M = (13.0, 9.0, 2.7)
"""Length (x), width (z) and height (y) of the flat."""
WALLS_M: tuple[tuple[float, float, float, float], ...] = (
    *((7.0, 0.0, 7.1, 3.2), (7.0, 4.4, 7.1, 9.0)),  # one wall with a door, and across it two more with one each
    *((0.0, 4.8, 2.6, 4.9), (3.8, 4.8, 7.0, 4.9)),
    *((7.1, 5.2, 9.6, 5.3), (10.8, 5.2, 13.0, 5.3)),
)
"""x0, z0, x1, z1 of the walls between the rooms."""
NUM_BOXES = 26
TEXTURE_PX_PER_M = 96


@dataclass(frozen=True, kw_only=True, eq=False)
class Panel:
    """A textured rectangle in space, seen from where its edges go clockwise: first along, then down."""

    corner: Float64[np.ndarray, " 3"]
    """Where the texture's upper left corner is, in metres; y is up."""
    along: Float64[np.ndarray, " 3"]
    """From there along the texture's upper edge."""
    down: Float64[np.ndarray, " 3"]
    """And down its left edge."""
    texture: UInt8[np.ndarray, "h w 3"]


def flat(seed: int = 0) -> list[Panel]:
    """Four rooms with doors between them, a floor, a ceiling, and furniture: boxes of many sizes, no two textures alike."""
    rng = np.random.default_rng([seed, *b"flat"])
    x, z, y = FLAT_M
    panels = list(box((0, 0, 0), (x, y, z), rng, inside=True))
    for x0, z0, x1, z1 in WALLS_M:
        panels += box((x0, 0, z0), (x1, y, z1), rng)
    taken: list[tuple[float, float, float, float]] = list(WALLS_M)
    while len(taken) < len(WALLS_M) + NUM_BOXES:
        wide, deep, high = rng.uniform(0.4, 1.3), rng.uniform(0.4, 0.9), rng.choice([0.45, 0.75, 0.9, 1.4, 1.9])
        x0, z0 = rng.uniform(0.05, x - wide - 0.05), rng.uniform(0.05, z - deep - 0.05)
        place = (x0, z0, x0 + wide, z0 + deep)
        if all(_apart(place, other, 0.9 if other not in WALLS_M else 0.02) for other in taken) and _leaves_doors(place):
            taken.append(place)
            panels += box((x0, 0, z0), (x0 + wide, high, z0 + deep), rng)
    return panels


def _apart(a: Sequence[float], b: Sequence[float], gap_m: float) -> bool:
    return a[0] > b[2] + gap_m or b[0] > a[2] + gap_m or a[1] > b[3] + gap_m or b[1] > a[3] + gap_m


def _leaves_doors(place: tuple[float, float, float, float]) -> bool:
    """Whether nothing stands in a door: the gaps of WALLS_M."""
    doors = ((6.2, 3.2, 7.9, 4.4), (2.6, 4.0, 3.8, 5.7), (9.6, 4.4, 10.8, 6.1))
    return all(_apart(place, door, 0.0) for door in doors)


def box(low: Sequence[float], high: Sequence[float], rng: np.random.Generator, inside: bool = False) -> Iterator[Panel]:
    """The sides of a box that is looked at from outside, but for its bottom; or all six, from inside."""
    (x0, y0, z0), (x1, y1, z1) = low, high
    w, h, d = x1 - x0, y1 - y0, z1 - z0
    sides = [  # corner, along
        ((x0, y1, z1), (w, 0, 0)),
        ((x1, y1, z1), (0, 0, -d)),
        ((x1, y1, z0), (-w, 0, 0)),
        ((x0, y1, z0), (0, 0, d)),
    ]
    panels = [(corner, along, (0, -h, 0)) for corner, along in sides] + [((x0, y1, z0), (w, 0, 0), (0, 0, d))]
    if inside:
        panels.append(((x0, y0, z1), (w, 0, 0), (0, 0, -d)))
        panels = [(np.add(corner, along), np.negative(along), down) for corner, along, down in panels]
    for corner, along, down in panels:
        height, width = (max(8, round(float(np.linalg.norm(v)) * TEXTURE_PX_PER_M)) for v in (down, along))
        yield Panel(
            corner=np.array(corner, float),
            along=np.array(along, float),
            down=np.array(down, float),
            texture=texture(height, width, rng),
        )


def texture(height: int, width: int, rng: np.random.Generator) -> UInt8[np.ndarray, "h w 3"]:
    """Bricks, planks, tiles or wallpaper in two colours of their own, speckled, with stickers on them: no two places look alike."""
    ground, line = (rng.uniform(low, high, 3) for low, high in ((110, 210), (20, 90)))
    image = np.empty((height, width, 3), np.float32)
    image[:] = ground
    across, down = {0: (22, 11), 1: (rng.integers(60, 140), 9), 2: (17, 17), 3: (width, height)}[int(rng.integers(4))]
    for row, y in enumerate(range(0, height, down)):
        shift = int(rng.integers(across)) if across != down else 0
        for x in range(-shift, width, across):
            image[y : y + down, max(x, 0) : max(x + across, 0)] += rng.normal(0, 22)
            image[y : y + down, max(x, 0) : max(x + 1, 0)] = line
        image[y : y + 1] = line if row else ground
    for cell, strength in ((2, 26), (7, 12)):
        noise = rng.normal(0, strength, (height // cell + 2, width // cell + 2, 1)).astype(np.float32)
        image += cv2.resize(noise, (width, height), interpolation=cv2.INTER_NEAREST)[..., None]
    image = np.clip(image, 0, 255).astype(np.uint8)
    for _ in range(height * width // 1200 + 4):
        _sticker(image, int(rng.integers(width)), int(rng.integers(height)), int(rng.integers(3, 13)), rng)
    return image


def _sticker(image: UInt8[np.ndarray, "h w 3"], x: int, y: int, r: int, rng: np.random.Generator) -> None:
    """A disc, a label, a triangle or three letters."""
    colour = tuple(int(c) for c in rng.integers(0, 256, 3))
    kind = rng.integers(4)
    if kind == 0:
        cv2.circle(image, (x, y), r, colour, -1, cv2.LINE_AA)
    elif kind == 1:
        cv2.rectangle(image, (x - r, y - r // 2), (x + r, y + r // 2), colour, -1)
    elif kind == 2:
        cv2.fillPoly(image, [(rng.uniform(-r, r, (3, 2)) + (x, y)).astype(np.int32)], colour, cv2.LINE_AA)
    else:
        letters = "".join(chr(c) for c in rng.integers(65, 91, 3))
        cv2.putText(image, letters, (x, y), cv2.FONT_HERSHEY_SIMPLEX, r / 16, colour, 1, cv2.LINE_AA)


def write_flat(path: Path, seed: int = 0) -> None:
    """Write the flat as a binary glTF file."""
    aside = path.with_name(f".{path.name}.partial")
    aside.write_bytes(glb(flat(seed)))
    aside.replace(path)


def glb(panels: Sequence[Panel]) -> bytes:
    """Panels as a GLB: a mesh, a material and a JPEG for each."""
    chunks: list[bytes] = []
    views: list[dict] = []
    accessors: list[dict] = []

    def view(data: bytes) -> int:
        views.append({"buffer": 0, "byteOffset": sum(map(len, chunks)), "byteLength": len(data)})
        chunks.append(data + bytes(-len(data) % 4))
        return len(views) - 1

    def accessor(array: np.ndarray, kind: str) -> int:
        component = 5126 if array.dtype == np.float32 else 5123
        bounds = {"min": array.min(0).tolist(), "max": array.max(0).tolist()} if kind == "VEC3" else {}
        at = view(array.tobytes())
        accessors.append({"bufferView": at, "componentType": component, "count": len(array), "type": kind, **bounds})
        return len(accessors) - 1

    uv = accessor(np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32), "VEC2")
    indices = accessor(np.array([0, 3, 2, 0, 2, 1], np.uint16), "SCALAR")
    images, meshes = [], []
    for i, panel in enumerate(panels):
        corners = [panel.corner, panel.corner + panel.along, panel.corner + panel.along + panel.down, panel.corner + panel.down]
        attributes = {"POSITION": accessor(np.array(corners, np.float32), "VEC3"), "TEXCOORD_0": uv}
        meshes.append({"primitives": [{"attributes": attributes, "indices": indices, "material": i}]})
        jpeg = cv2.imencode(".jpg", panel.texture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
        images.append({"bufferView": view(jpeg), "mimeType": "image/jpeg"})
    num = range(len(panels))
    clamp = {"wrapS": 33071, "wrapT": 33071, "magFilter": 9729, "minFilter": 9987}
    content = {
        "asset": {"version": "2.0", "generator": "twoview demo"},
        "scene": 0,
        "scenes": [{"nodes": list(num)}],
        "nodes": [{"mesh": i} for i in num],
        "meshes": meshes,
        "materials": [{"pbrMetallicRoughness": {"baseColorTexture": {"index": i}, "metallicFactor": 0}} for i in num],
        "textures": [{"source": i, "sampler": 0} for i in num],
        "samplers": [clamp],
        "images": images,
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": sum(map(len, chunks))}],
    }
    text = json.dumps(content, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    body = b"".join(chunks)
    header = struct.pack("<4sII", b"glTF", 2, 12 + 8 + len(text) + 8 + len(body))
    return header + struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(body), b"BIN\0") + body
