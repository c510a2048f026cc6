"""An open glTF 2.0 file: its JSON, checked, and its bytes as arrays."""

import base64
import json
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NoReturn
from urllib.parse import unquote, unquote_to_bytes

import numpy as np
from jaxtyping import Float32, Float64, Shaped

from ..errors import UnreadableError
from .pictures import package

DRACO, TRANSFORM = "KHR_draco_mesh_compression", "KHR_texture_transform"
PICTURES = ("KHR_texture_basisu", "GOOGLE_texture_basis", "EXT_texture_webp", "EXT_texture_avif")
"""Extensions by which a texture names a picture of another kind, the first that is there is taken."""
_UNDERSTOOD = (DRACO, TRANSFORM, "KHR_mesh_quantization", *PICTURES)
_HARMLESS = ("KHR_materials_", "KHR_lights_", "KHR_xmp", "KHR_animation_")  # they change how light falls, or nothing
_PACKAGES = {DRACO: "DracoPy", "KHR_texture_basisu": "opengl_basisu", "GOOGLE_texture_basis": "opengl_basisu"}
_MAX_ZEROS = 1 << 24
_AGAIN = "the file is damaged: copy or export it again"
_JSON, _BIN = 0x4E4F534A, 0x004E4942
_COMPONENTS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}


@dataclass(frozen=True, kw_only=True, eq=False)
class Gltf:
    """An open file: its JSON, and its bytes once they are asked for."""

    path: Path
    json: dict[str, Any]
    chunk: tuple[int, int] | None = None
    """Where a GLB's binary chunk starts, and how many bytes it has."""
    _buffers: dict[int, memoryview] = field(default_factory=dict)

    def refuse(self, what: str, remedy: str = _AGAIN) -> NoReturn:
        raise UnreadableError(f"{self.path}: {what} ({remedy})") from None

    @contextmanager
    def checked(self) -> Iterator[None]:
        """JSON that is not shaped as glTF's becomes an UnreadableError, wherever it is met."""
        try:
            yield
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, MemoryError, OSError) as error:
            what = f"its JSON lacks or misuses {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__
            raise UnreadableError(f"{self.path}: {what.splitlines()[0]} ({_AGAIN})") from error

    def pick(self, kind: str, index: Any) -> dict[str, Any]:
        """One entry of `meshes`, `nodes`, ..."""
        entries = self.json.get(kind, [])
        if type(index) is not int or not 0 <= index < len(entries) or not isinstance(entries[index], dict):
            self.refuse(f"{kind}[{index}] is not in it")
        return entries[index]

    def beside(self, uri: str, what: str) -> Path:
        """The file that a relative URI means. Refused where there is none."""
        if "://" in uri:
            self.refuse(f"{what} is on the web, {uri}", "download it beside the scene and name it there")
        file = self.path.parent / unquote(uri)
        if not file.is_file():
            self.refuse(f"{what} is missing: {file}", "copy it to where the scene looks for it")
        return file

    def uri_bytes(self, uri: str, what: str) -> bytes:
        """What a `data:` URI holds, or the file it names."""
        if not uri.startswith("data:"):
            return _read_bytes(self.beside(uri, what))
        head, _, body = uri.partition(",")
        return base64.b64decode(body) if head.endswith(";base64") else unquote_to_bytes(body)

    def buffer(self, index: int) -> memoryview:
        if index not in self._buffers:
            spec = self.pick("buffers", index)
            if "uri" in spec:
                data = self.uri_bytes(spec["uri"], f"buffers[{index}]")
            elif self.chunk is not None and index == 0:
                data = _read_bytes(self.path, *self.chunk)
            else:
                self.refuse(f"buffers[{index}] has no bytes")
            if len(data) < whole(spec, "byteLength"):
                self.refuse(f"buffers[{index}] has {len(data)} of {spec['byteLength']} bytes")
            self._buffers[index] = memoryview(data)
        return self._buffers[index]

    def view(self, index: int) -> memoryview:
        """The bytes of a buffer view."""
        spec = self.pick("bufferViews", index)
        buffer, start, length = self.buffer(spec["buffer"]), whole(spec, "byteOffset", 0), whole(spec, "byteLength")
        if start + length > len(buffer):
            self.refuse(f"bufferViews[{index}] reaches beyond its buffer: to byte {start + length} of {len(buffer)}")
        return buffer[start : start + length]

    def accessor(self, index: int) -> Shaped[np.ndarray, "n width"]:
        """Rows as they are stored, whatever their stride; sparse ones filled in. Integers stay integers: see `fractions`."""
        spec = self.pick("accessors", index)
        dtype, width, count = np.dtype(_COMPONENTS[spec["componentType"]]), _WIDTHS[spec["type"]], whole(spec, "count")
        if "bufferView" in spec:
            rows = self._rows(spec, f"accessors[{index}]", count, dtype, width)
        elif count <= _MAX_ZEROS:
            rows = np.zeros((count, width), dtype)
        else:
            self.refuse(f"accessors[{index}] has {count} values and no bytes")
        return self._sparse(rows, spec["sparse"], f"accessors[{index}].sparse") if "sparse" in spec else rows

    def _rows(self, spec: dict, name: str, count: int, dtype: np.dtype, width: int) -> Shaped[np.ndarray, "n width"]:
        view = self.view(spec["bufferView"])
        start, row = whole(spec, "byteOffset", 0), dtype.itemsize * width
        stride = whole(self.pick("bufferViews", spec["bufferView"]), "byteStride", 0) or row
        if count and start + stride * (count - 1) + row > len(view):
            self.refuse(f"{name} reaches beyond its buffer view: {count} rows of {stride} bytes, and {len(view)} bytes in all")
        return np.ndarray((count, width), dtype, view, start if count else 0, (stride, dtype.itemsize))

    def _sparse(self, rows: np.ndarray, spec: dict, name: str) -> Shaped[np.ndarray, "n width"]:
        count, width = whole(spec, "count"), rows.shape[1]
        where = self._rows(spec["indices"], name, count, np.dtype(_COMPONENTS[spec["indices"]["componentType"]]), 1)[:, 0]
        if count and not 0 <= where.min() <= where.max() < len(rows):
            self.refuse(f"{name}: index {where.max()} of {len(rows)} rows")
        rows = rows.copy()
        rows[where] = self._rows(spec["values"], name, count, rows.dtype, width)
        return rows

    def fractions(self, rows: np.ndarray, index: int, always: bool = False) -> Float32[np.ndarray, "n width"]:
        """An accessor's rows as floats; integers that it says are normalised (or `always`) divided by their largest."""
        spec = self.pick("accessors", index)
        dtype = np.dtype(_COMPONENTS[spec["componentType"]])
        rows = rows.astype(np.float32)
        if dtype.kind == "f" or not (always or spec.get("normalized", False)):
            return rows
        return np.maximum(rows / np.float32(np.iinfo(dtype).max), np.float32(-1))


def open_gltf(path: Path) -> Gltf:
    """A file's JSON; its bytes are left for later. Raises UnreadableError: not glTF 2.0, cut short, an extension unknown here."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            text, chunk = _glb(path, file, size) if (start := file.peek(4)[:4]) == b"glTF" else (file.read(), None)
    except OSError as error:
        raise UnreadableError(f"{path}: {error.strerror}") from None
    if not size:
        raise UnreadableError(f"{path}: the file is empty ({_AGAIN})")
    if chunk is None and path.suffix.lower() == ".glb" and start != b"glTF":
        raise UnreadableError(f"{path}: not a GLB, it starts with {start!r} (is it another format, or a Git LFS pointer?)")
    try:
        spec = json.loads(text.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"{path}: its JSON cannot be parsed: {str(error).splitlines()[0]} ({_AGAIN})") from None
    if not isinstance(spec, dict):
        raise UnreadableError(f"{path}: its JSON is no object ({_AGAIN})")
    gltf = Gltf(path=path, json=spec, chunk=chunk)
    with gltf.checked():
        _check_version(gltf)
    return gltf


def _glb(path: Path, file: BinaryIO, size: int) -> tuple[bytes, tuple[int, int] | None]:
    """The JSON of a GLB, and where its binary chunk is."""
    head = file.read(20).ljust(20, b"\0")
    _, version, length, json_length, kind = struct.unpack("<4s4I", head)
    if size >= 8 and version == 1:
        raise UnreadableError(f"{path}: glTF 1.0 (convert it to glTF 2.0, for instance with npx gltf-pipeline)")
    if size < max(length, 20):
        raise UnreadableError(f"{path}: cut short, {size} of {max(length, 20)} bytes (copy or download it again)")
    if version != 2 or kind != _JSON or 20 + json_length > length:
        raise UnreadableError(f"{path}: its GLB header is damaged (copy or export it again)")
    text, rest = file.read(json_length), length - 20 - json_length
    if rest < 8:
        return text, None
    chunk_length, kind = struct.unpack("<2I", file.read(8))
    if chunk_length > rest - 8:
        raise UnreadableError(f"{path}: its second chunk has {chunk_length} bytes where {rest - 8} are left ({_AGAIN})")
    return text, (length - rest + 8, chunk_length) if kind == _BIN else None


def _check_version(gltf: Gltf) -> None:
    version = str(gltf.json.get("asset", {}).get("version", "unknown"))
    if not version.startswith("2."):
        gltf.refuse(f"glTF {version}", "convert it to glTF 2.0, for instance with npx gltf-pipeline")
    for name in gltf.json.get("extensionsRequired", []):
        if not str(name).startswith(_HARMLESS) and name not in _UNDERSTOOD:
            gltf.refuse(f"it requires {name}, which is not read", "write it without: npx @gltf-transform/cli cp IN.glb OUT.glb")
        if name in _PACKAGES:
            package(_PACKAGES[name], f"{gltf.path}: {name}")


def _read_bytes(path: Path, start: int = 0, count: int = -1) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(start)
            return file.read(count)
    except OSError as error:
        raise UnreadableError(f"{path}: {error.strerror}") from None


def whole(spec: dict, key: str, default: int | None = None) -> int:
    """A count, an offset or a length. Raises KeyError or ValueError."""
    value = spec[key] if default is None else spec.get(key, default)
    if isinstance(value, bool) or int(value) != value or value < 0:
        raise ValueError(f"{key} is {value!r}")
    return int(value)


def numbers(spec: dict, key: str, default: tuple[float, ...]) -> Float64[np.ndarray, " n"]:
    """Finite numbers, as many as the default has. Raises ValueError."""
    values = np.array(spec.get(key, default), np.float64)
    if values.shape != (len(default),) or not np.isfinite(values).all():
        raise ValueError(f"{key} is {spec[key]!r}")
    return values
