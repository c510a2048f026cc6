"""glTF 2.0 (.glb, .gltf) as a mesh, with the compressed pictures and triangles that published scenes come with.

Every mesh that the default scene places is read: the one the file names, else its first; every root node where it has no
scenes. Left out: points and lines, skins, morphs and animations (all is at rest), emission, and whatever else is about light.
A material that blends is cut at half: what is more than half transparent is not there. Colours are taken as stored.
Parsed here and not by trimesh, which drops KTX2 pictures without a word.
"""

import math
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
from jaxtyping import Float32, Float64, Shaped, UInt8

from .gltf_file import DRACO, PICTURES, TRANSFORM, Gltf, numbers, open_gltf, whole
from .mesh import Mesh, Part, Texture, Wrap
from .pictures import decode_picture, package

_WRAPS: dict[int, Wrap] = {10497: "repeat", 33648: "mirror", 33071: "clamp"}
_TRIANGLES, _STRIP, _FAN = _MODES = 4, 5, 6
_GLOSSY = "KHR_materials_pbrSpecularGlossiness"


def check_gltf(path: Path) -> None:
    """Raises UnreadableError where `read_gltf` would, as far as the JSON and the sizes of the files tell."""
    gltf = open_gltf(path)
    with gltf.checked():
        for index, spec in enumerate(gltf.json.get("buffers", [])):
            _check_buffer(gltf, index, spec)
        shown = [p for mesh in _placements(gltf) for p in gltf.pick("meshes", mesh)["primitives"] if p.get("mode", 4) in _MODES]
        if not shown:
            gltf.refuse("no triangles in it", "give a scene with surfaces")
        for material in dict.fromkeys(p.get("material") for p in shown):
            if (info := _look(gltf, material)[1]) is not None:
                image = _image_of(gltf, info["index"])
                if not (uri := gltf.pick("images", image).get("uri", "data:")).startswith("data:"):
                    gltf.beside(uri, f"images[{image}]")


def _check_buffer(gltf: Gltf, index: int, spec: dict) -> None:
    length, uri = whole(spec, "byteLength"), spec.get("uri", "data:")
    if not uri.startswith("data:"):
        found = gltf.beside(uri, f"buffers[{index}]").stat().st_size
    elif "uri" not in spec and index == 0 and gltf.chunk is not None:
        found = gltf.chunk[1]
    else:
        return
    if found < length:
        gltf.refuse(f"buffers[{index}] has {found} of {length} bytes")


def read_gltf(path: Path, linearise: bool = False) -> Mesh:
    """A scene as it stands in its file. `linearise`: Basis and KTX2 pictures that say sRGB are made linear, as habitat does.

    Raises UnreadableError with what is wrong, where, and what to do.
    """
    gltf, parts = open_gltf(path), []
    with gltf.checked():
        textures = _Textures(gltf, linearise)
        for mesh, placements in _placements(gltf).items():
            for index, primitive in enumerate(gltf.pick("meshes", mesh)["primitives"]):
                if (part := _part(gltf, primitive, f"meshes[{mesh}].primitives[{index}]", textures)) is not None:
                    parts += [tidy(placed(part, world)) for world in placements]
    parts = [part for part in parts if len(part.triangles)]
    if not parts:
        gltf.refuse("no triangles in it", "give a scene with surfaces")
    return Mesh(name=str(path), parts=tuple(parts), textures=tuple(textures.found))


# ------------------------------------------------------------------------------------------------------------ nodes


def _placements(gltf: Gltf) -> dict[int, list[Float64[np.ndarray, "4 4"]]]:
    """Every mesh of the scene and the transforms it is placed by."""
    nodes = gltf.json.get("nodes", [])
    if gltf.json.get("scenes"):
        roots = gltf.pick("scenes", gltf.json.get("scene", 0)).get("nodes", [])
    else:
        children = {child for node in nodes for child in node.get("children", [])}
        roots = [index for index in range(len(nodes)) if index not in children]
    found, seen = {}, set()
    todo = [(root, np.eye(4)) for root in reversed(roots)]
    while todo:
        index, parent = todo.pop()
        node = gltf.pick("nodes", index)
        if index in seen:
            gltf.refuse(f"nodes[{index}] is in the scene twice, which glTF forbids", "export it again")
        seen.add(index)
        world = parent @ _local(node)
        todo += [(child, world) for child in reversed(node.get("children", []))]
        if "mesh" in node:
            found.setdefault(node["mesh"], []).append(world)
    return found


def _local(node: dict) -> Float64[np.ndarray, "4 4"]:
    if "matrix" in node:
        return np.array(node["matrix"], np.float64).reshape(4, 4).T
    rotation = np.array(node.get("rotation", (0, 0, 0, 1)), np.float64)
    x, y, z, w = (rotation / (np.linalg.norm(rotation) or 1)).tolist()
    local = np.eye(4)
    local[:3, 0] = 1 - 2 * (y * y + z * z), 2 * (x * y + z * w), 2 * (x * z - y * w)
    local[:3, 1] = 2 * (x * y - z * w), 1 - 2 * (x * x + z * z), 2 * (y * z + x * w)
    local[:3, 2] = 2 * (x * z + y * w), 2 * (y * z - x * w), 1 - 2 * (x * x + y * y)
    local[:3, :3] *= np.array(node.get("scale", (1, 1, 1)), np.float64)
    local[:3, 3] = node.get("translation", (0, 0, 0))
    return local


def placed(part: Part, world: Float64[np.ndarray, "4 4"]) -> Part:
    """A part moved into the world; mirrored, its triangles are turned so that their fronts stay fronts."""
    with np.errstate(all="ignore"):  # what overflows is dropped by `tidy`
        positions = (part.positions @ world[:3, :3].T + world[:3, 3]).astype(np.float32)
        mirrored = np.linalg.det(world[:3, :3]) < 0
    return replace(part, positions=positions, triangles=part.triangles[:, ::-1] if mirrored else part.triangles)


def tidy(part: Part) -> Part:
    """A part without triangles that reach to infinity, and without vertices that none of its triangles has."""
    finite = np.asarray(np.isfinite(part.positions).all(axis=1))
    triangles = part.triangles if finite.all() else part.triangles[finite[part.triangles].all(axis=1)]
    used = np.zeros(len(part.positions), bool)
    used[triangles] = True
    if used.all():
        return replace(part, triangles=np.ascontiguousarray(triangles))
    renumbered = (np.cumsum(used) - 1).astype(np.int32)
    uv, colours = (None if rows is None else rows[used] for rows in (part.uv, part.colours))
    return replace(part, positions=part.positions[used], triangles=renumbered[triangles], uv=uv, colours=colours)


# -------------------------------------------------------------------------------------------------------- triangles


def _part(gltf: Gltf, primitive: dict, name: str, textures: "_Textures") -> Part | None:
    """A primitive in its own axes; None where it has no triangles."""
    mode = primitive.get("mode", _TRIANGLES)
    if mode not in _MODES or "POSITION" not in primitive["attributes"]:
        return None
    decoded = _draco(gltf, primitive, name)
    positions = _attribute(gltf, primitive, decoded, "POSITION", 3)
    if decoded is not None:
        triangles = np.asarray(decoded.faces if hasattr(decoded, "faces") else np.zeros((0, 3)))
    else:
        order = gltf.accessor(primitive["indices"])[:, 0] if "indices" in primitive else np.arange(len(positions))
        triangles = _in_threes(order, mode)
    if not len(triangles):
        return None
    if not 0 <= triangles.min() <= triangles.max() < len(positions):
        gltf.refuse(f"{name}: index {triangles.max()} of {len(positions)} vertices")
    look, info = _look(gltf, primitive.get("material"))
    uv = colours = None
    if info is not None:
        transform = info.get("extensions", {}).get(TRANSFORM, {})
        uv_set = f"TEXCOORD_{transform.get('texCoord', info.get('texCoord', 0))}"
        if uv_set in primitive["attributes"]:  # else there is nothing to look the picture up by
            uv = _transformed(_attribute(gltf, primitive, decoded, uv_set, 2), transform)
            look = replace(look, texture=textures.add(info["index"]))
    if "COLOR_0" in primitive["attributes"]:
        colours = _attribute(gltf, primitive, decoded, "COLOR_0", 4).clip(0, 1)
    if any(rows is not None and len(rows) != len(positions) for rows in (uv, colours)):
        gltf.refuse(f"{name}: its attributes differ in length")
    return replace(look, positions=positions, triangles=triangles.astype(np.int32), uv=uv, colours=colours)


def _in_threes(order: Shaped[np.ndarray, " i"], mode: int) -> Shaped[np.ndarray, "t 3"]:
    """Triangles of a list, a strip or a fan of indices; those of a strip that merely join two strips left out."""
    count = max(0, len(order) - 2)
    if mode == _TRIANGLES:
        return order[: len(order) // 3 * 3].reshape(-1, 3)
    if mode == _FAN:
        return np.stack([order[1 : count + 1], order[2:], np.repeat(order[:1], count)], axis=1)
    triangles = np.stack([order[:count], order[1 : count + 1], order[2:]], axis=1)
    triangles[1::2] = triangles[1::2][:, [0, 2, 1]]
    a, b, c = triangles.T
    return triangles[(a != b) & (b != c) & (c != a)]


def _attribute(gltf: Gltf, primitive: dict, decoded: Any, name: str, width: int) -> Float32[np.ndarray, "n width"]:
    """A vertex attribute as finite floats (positions may be infinite); a fourth that colours lack is 1."""
    index = primitive["attributes"][name]
    unique_id = None if decoded is None else primitive["extensions"][DRACO]["attributes"].get(name)
    if decoded is None or unique_id is None:
        rows = gltf.accessor(index)
    elif (attribute := decoded.get_attribute_by_unique_id(unique_id)) is not None:
        rows = attribute["data"]
    else:
        gltf.refuse(f"its Draco data has no attribute {unique_id} for {name}")
    rows = gltf.fractions(rows, index, always=name == "COLOR_0")
    if width == 4 and rows.shape[1] == 3:
        rows = np.pad(rows, ((0, 0), (0, 1)), constant_values=1)
    if rows.shape[1] != width:
        gltf.refuse(f"accessors[{index}] has {rows.shape[1]} numbers a row where {name} has {width}")
    return rows if name == "POSITION" or np.isfinite(rows).all() else np.nan_to_num(rows, posinf=0, neginf=0)


def _draco(gltf: Gltf, primitive: dict, name: str) -> Any:
    """The decoded triangles of a primitive that Draco compressed; None for others."""
    spec = primitive.get("extensions", {}).get(DRACO)
    if spec is None:
        return None
    data, draco = bytes(gltf.view(spec["bufferView"])), package("DracoPy", f"{gltf.path}: {DRACO}")
    try:
        return draco.decode(data)
    except Exception as error:  # DracoPy's own kinds, which share no parent
        gltf.refuse(f"{name}: its Draco data cannot be decoded: {(str(error).splitlines() or ['no reason given'])[0]}")


def _transformed(uv: Float32[np.ndarray, "n 2"], transform: dict) -> Float32[np.ndarray, "n 2"]:
    """KHR_texture_transform: scaled, then turned anticlockwise as seen with v down, then shifted."""
    if not transform:
        return uv
    angle = float(transform.get("rotation", 0))
    cos, sin = math.cos(angle), math.sin(angle)
    scaled = uv * numbers(transform, "scale", (1, 1))
    turned = scaled @ np.array([[cos, -sin], [sin, cos]]) + numbers(transform, "offset", (0, 0))
    return turned.astype(np.float32)


# -------------------------------------------------------------------------------------------------------- materials


def _look(gltf: Gltf, index: int | None) -> tuple[Part, dict | None]:
    """A part without triangles that looks as a material says, and what is said of its texture."""
    material = {} if index is None else gltf.pick("materials", index)
    glossy = material.get("extensions", {}).get(_GLOSSY)
    if glossy is not None:
        colour, info = numbers(glossy, "diffuseFactor", (1, 1, 1, 1)), glossy.get("diffuseTexture")
    else:
        rough = material.get("pbrMetallicRoughness", {})
        colour, info = numbers(rough, "baseColorFactor", (1, 1, 1, 1)), rough.get("baseColorTexture")
    red, green, blue, alpha = colour.tolist()
    mode = material.get("alphaMode", "OPAQUE")
    cutoff = {"MASK": float(material.get("alphaCutoff", 0.5)), "BLEND": 0.5}.get(mode, 0.0)
    look = Part(
        positions=np.zeros((0, 3), np.float32),
        triangles=np.zeros((0, 3), np.int32),
        colour=(red, green, blue, alpha),
        double_sided=bool(material.get("doubleSided", False)),
        alpha_cutoff=cutoff,
    )
    return look, info


def _image_of(gltf: Gltf, index: int) -> int:
    """Which image a texture shows: what an extension names goes before the core one, which is there for older readers."""
    spec = gltf.pick("textures", index)
    extensions = spec.get("extensions", {})
    sources = [extensions[name]["source"] for name in PICTURES if name in extensions] + [spec.get("source")]
    if sources[0] is None:
        kinds = f", only {', '.join(extensions)}" if extensions else ""
        gltf.refuse(f"textures[{index}] has no picture of a kind that is read{kinds}", "export it with PNG or JPEG pictures")
    return sources[0]


class _Textures:
    """Pictures, decoded once each, and textures, one for each picture and way to wrap it."""

    def __init__(self, gltf: Gltf, linearise: bool) -> None:
        self.found: list[Texture] = []
        self._gltf, self._linearise = gltf, linearise
        self._indices: dict[tuple[int, tuple[Wrap, Wrap]], int] = {}
        self._picture = lru_cache(maxsize=None)(self._decode)

    def add(self, index: int) -> int:
        """Where a texture of the file is among those found."""
        spec = self._gltf.pick("textures", index)
        sampler = self._gltf.pick("samplers", spec["sampler"]) if "sampler" in spec else {}
        wrap = (_WRAPS[sampler.get("wrapS", 10497)], _WRAPS[sampler.get("wrapT", 10497)])
        key = (_image_of(self._gltf, index), wrap)
        if key not in self._indices:
            self.found.append(Texture(image=self._picture(key[0]), wrap=wrap))
            self._indices[key] = len(self.found) - 1
        return self._indices[key]

    def _decode(self, index: int) -> UInt8[np.ndarray, "h w 4"]:
        gltf, spec = self._gltf, self._gltf.pick("images", index)
        where = f"{gltf.path}: images[{index}]"
        if "uri" not in spec:
            return decode_picture(bytes(gltf.view(spec["bufferView"])), where, self._linearise)
        named = "" if spec["uri"].startswith("data:") else f" ({unquote(spec['uri'])})"
        return decode_picture(gltf.uri_bytes(spec["uri"], f"images[{index}]"), where + named, self._linearise)
