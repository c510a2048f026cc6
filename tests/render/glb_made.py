"""Small glTF scenes written byte by byte, knowing nothing of the reader. For the tests; not a test."""

import json
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np

COMPONENTS = {"int8": 5120, "uint8": 5121, "int16": 5122, "uint16": 5123, "uint32": 5125, "float32": 5126}
TYPES = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4"}
CORNERS = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], np.float32)
"""A square that faces +z."""
SQUARE = np.array([0, 1, 2, 0, 2, 3], np.uint16)
UV = np.array([[0, 1], [1, 1], [1, 0], [0, 0]], np.float32)
RED_GREEN_BLUE_GREY = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [128, 128, 128]]], np.uint8)


class Made:
    """A scene to add to; `json` may be bent at will before it is written."""

    def __init__(self) -> None:
        self.json: dict[str, Any] = {"asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": []}]}
        self.binary = b""

    def add(self, kind: str, **spec: Any) -> int:
        self.json.setdefault(kind, []).append(spec)
        return len(self.json[kind]) - 1

    def view(self, data: bytes, **spec: Any) -> int:
        self.binary += b"\0" * (-len(self.binary) % 4)
        start = len(self.binary)
        self.binary += data
        return self.add("bufferViews", buffer=0, byteOffset=start, byteLength=len(data), **spec)

    def accessor(self, rows: np.ndarray, **spec: Any) -> int:
        width = rows.shape[1] if rows.ndim == 2 else 1
        spec = {"bufferView": None, "componentType": COMPONENTS[rows.dtype.name], "type": TYPES[width], "count": len(rows)} | spec
        if spec["bufferView"] is None:
            spec["bufferView"] = self.view(rows.tobytes())
        return self.add("accessors", **spec)

    def primitive(self, positions: np.ndarray | int = CORNERS, indices: np.ndarray | None = SQUARE, **spec: Any) -> dict[str, Any]:
        """Attributes in capitals, as arrays or as accessors; the rest as it is."""
        named = {"POSITION": positions} | {key: spec.pop(key) for key in list(spec) if key.isupper() or key[-1].isdigit()}
        spec["attributes"] = {key: rows if isinstance(rows, int) else self.accessor(rows) for key, rows in named.items()}
        return spec if indices is None else spec | {"indices": self.accessor(indices)}

    def mesh(self, *primitives: dict[str, Any]) -> int:
        return self.add("meshes", primitives=list(primitives or (self.primitive(),)))

    def node(self, scene: int | None = 0, **spec: Any) -> int:
        node = self.add("nodes", **spec)
        if scene is not None:
            self.json["scenes"][scene]["nodes"].append(node)
        return node

    def texture(self, picture: np.ndarray | bytes = RED_GREEN_BLUE_GREY, **spec: Any) -> int:
        data = picture if isinstance(picture, bytes) else encoded(picture)
        return self.add("textures", source=self.add("images", bufferView=self.view(data), mimeType="image/png"), **spec)

    def square(self, **material: Any) -> int:
        """A textured square that the scene shows: its material."""
        index = self.add("materials", **material)
        self.node(mesh=self.mesh(self.primitive(TEXCOORD_0=UV, material=index)))
        return index

    def glb(self) -> bytes:
        if self.binary:
            self.json["buffers"] = [{"byteLength": len(self.binary)}]
        return packed(json.dumps(self.json).encode(), self.binary)

    def write(self, path: Path) -> Path:
        path.write_bytes(self.glb())
        return path

    def write_gltf(self, path: Path, uri: str, file: str | None = None) -> Path:
        """As JSON, its bytes in a file beside it."""
        self.json["buffers"] = [{"byteLength": len(self.binary), "uri": uri}]
        if file is not None:
            (path.parent / file).parent.mkdir(exist_ok=True)
            (path.parent / file).write_bytes(self.binary)
        path.write_text(json.dumps(self.json))
        return path


def packed(text: bytes, binary: bytes = b"") -> bytes:
    """The two chunks of a GLB."""
    text += b" " * (-len(text) % 4)
    binary += b"\0" * (-len(binary) % 4)
    chunks = struct.pack("<2I", len(text), 0x4E4F534A) + text
    if binary:
        chunks += struct.pack("<2I", len(binary), 0x004E4942) + binary
    return struct.pack("<4s2I", b"glTF", 2, 12 + len(chunks)) + chunks


def encoded(rgb: np.ndarray, suffix: str = ".png", *options: int) -> bytes:
    """A picture's bytes. RGB, RGBA or grey."""
    codes = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}
    image = rgb if rgb.ndim == 2 else cv2.cvtColor(rgb, codes[rgb.shape[2]])
    return cv2.imencode(suffix, image, options)[1].tobytes()
