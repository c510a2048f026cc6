"""Scene files as meshes: glTF by `gltf.py`, PLY (ScanNet, Replica) and OBJ through trimesh, all turned so that y is up."""

import contextlib
import io
import os
import re
import warnings
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

import numpy as np

from ..errors import UnreadableError
from .gltf import check_gltf, read_gltf, tidy
from .gltf_file import open_gltf
from .mesh import Mesh, Part, Texture, Wrap
from .pictures import decode_picture, package

Up = Literal["y", "z"]
UP_OF: dict[str, Up] = {".glb": "y", ".gltf": "y", ".obj": "y", ".ply": "z"}
"""The kinds of file that are read, and which way is up in each where nobody says otherwise."""
_AGAIN = "copy or export it again"
_HEAD_BYTES = 1 << 16
_PLY_SIZES = {
    **dict.fromkeys(("char", "uchar", "int8", "uint8"), 1),
    **dict.fromkeys(("short", "ushort", "int16", "uint16", "float16"), 2),
    **dict.fromkeys(("int", "uint", "float", "int32", "uint32", "float32"), 4),
    **dict.fromkeys(("double", "float64", "int64", "uint64"), 8),
}


def load_mesh(path: Path, up: Up | None = None, linearise: bool = False) -> Mesh:
    """The scene in a .glb, .gltf, .ply or .obj, in metres as it stands there.

    `up` is the file's axis that points up; z is turned to y as habitat does, (x, y, z) to (x, z, -y). None: y for glTF and OBJ,
    z for PLY, as ScanNet's and Replica's are; HM3D's, Gibson's and Matterport's .glb need "z". `linearise`: see `read_gltf`.
    Raises UnreadableError, naming the file, what is wrong and what to do.
    """
    suffix = _suffix(path)
    others = {".ply": _read_ply, ".obj": _read_obj}
    mesh = _unfolded(others[suffix](path) if suffix in others else read_gltf(path, linearise))
    return _turned(mesh) if (up or UP_OF[suffix]) == "z" else mesh


def check_mesh(path: Path) -> None:
    """Raises UnreadableError where `load_mesh` surely would: a look at the header and at what lies beside it, no more."""
    suffix = _suffix(path)
    if suffix in (".glb", ".gltf"):
        check_gltf(path)
    elif suffix == ".ply":
        _check_ply(path)
    else:
        _check_obj(path, _head(path))


def files_beside(path: Path) -> list[Path]:
    """The files that a scene file names: buffers, pictures, materials. Those of a file that cannot be read are not known."""
    if path.suffix.lower() == ".gltf":
        with contextlib.suppress(UnreadableError):
            spec = open_gltf(path).json
            uris = [entry.get("uri", "data:") for kind in ("buffers", "images") for entry in spec.get(kind, [])]
            return [path.parent / unquote(uri) for uri in uris if not uri.startswith("data:")]
    if path.suffix.lower() != ".obj":
        return []
    found, named = [], rb"(?m)^\s*(?:mtllib|map_\w+)\s+(?:-\S+\s+)*(.+?)\s*$"
    with contextlib.suppress(OSError):
        found = [path.parent / os.fsdecode(name) for name in re.findall(named, path.read_bytes())]
        for material in [p for p in found if p.exists()]:
            found += [material.parent / os.fsdecode(name) for name in re.findall(named, material.read_bytes())]
    return found


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in UP_OF:
        raise UnreadableError(f"{path}: not a scene that is read (give a {', '.join(sorted(UP_OF))})")
    return suffix


def _unfolded(mesh: Mesh) -> Mesh:
    """Textures that are mirrored when they repeat, laid out with their mirror image beside them, so that they just repeat."""
    textures, scale = list(mesh.textures), np.ones((len(mesh.textures), 2), np.float32)
    for i, texture in enumerate(textures):
        image = texture.image
        for axis, side in ((1, 0), (0, 1)):
            if texture.wrap[side] == "mirror":
                image, scale[i, side] = np.concatenate([image, np.flip(image, axis)], axis), 0.5
        wrap = ["repeat" if side == "mirror" else side for side in texture.wrap]
        textures[i] = replace(texture, image=image, wrap=(wrap[0], wrap[1]))
    if (scale == 1).all():
        return mesh
    parts = [p if p.uv is None or p.texture is None else replace(p, uv=p.uv * scale[p.texture]) for p in mesh.parts]
    return replace(mesh, parts=tuple(parts), textures=tuple(textures))


def _turned(mesh: Mesh) -> Mesh:
    """z up to y up."""
    parts = (replace(p, positions=p.positions[:, [0, 2, 1]] * np.array([1, 1, -1], np.float32)) for p in mesh.parts)
    return replace(mesh, parts=tuple(parts))


def _read(path: Path, count: int = -1) -> bytes:
    """A file's first bytes, or all. Raises UnreadableError: no such file, empty."""
    try:
        with path.open("rb") as file:
            data = file.read(count)
    except OSError as error:
        raise UnreadableError(f"{path}: {error.strerror}") from None
    if not data:
        raise UnreadableError(f"{path}: the file is empty ({_AGAIN})")
    return data


def _head(path: Path) -> bytes:
    return _read(path, _HEAD_BYTES)


def _geometries(path: Path, data: bytes, **options: Any) -> list[Any]:
    """What trimesh finds, untouched."""
    trimesh = package("trimesh", f"{path}: a {path.suffix.lower()[1:].upper()} file")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="string or file could not be read to its end")  # numpy's word for damaged text
            scene = trimesh.load_scene(io.BytesIO(data), file_type=path.suffix.lower()[1:], process=False, **options)
    except Exception as error:  # damaged bytes surface there as anything at all
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise UnreadableError(f"{path}: trimesh cannot read it: {why} (save it again as triangles, or as GLB)") from None
    return [geometry for geometry in scene.geometry.values() if len(getattr(geometry, "faces", ()))]


def _mesh(path: Path, parts: list[Part], textures: list[Texture]) -> Mesh:
    """Raises UnreadableError where no triangle is left."""
    parts = [part for part in map(tidy, parts) if len(part.triangles)]
    if not parts:
        raise UnreadableError(f"{path}: no triangles in it (give a scene with surfaces)")
    return Mesh(name=str(path), parts=tuple(parts), textures=tuple(textures))


def _part(path: Path, geometry: Any) -> Part:
    """A part with the colour of each vertex, seen from both sides: nothing in these formats says which one is the front.

    Where faces have the colours, no two of them share a vertex. Raises UnreadableError where a triangle has no such vertex.
    """
    vertices, faces, visual = np.asarray(geometry.vertices), np.asarray(geometry.faces), geometry.visual
    if not 0 <= faces.min() <= faces.max() < len(vertices):
        raise UnreadableError(f"{path}: index {faces.max()} of {len(vertices)} vertices ({_AGAIN})")
    colours = None
    if visual.kind == "face":
        vertices, faces = vertices[faces.ravel()], np.arange(faces.size).reshape(-1, 3)
        colours = np.repeat(visual.face_colors.astype(np.float32) / 255, 3, axis=0)
    elif visual.kind == "vertex":
        colours = visual.vertex_colors.astype(np.float32) / 255
    with np.errstate(over="ignore"):
        return Part(positions=vertices.astype(np.float32), triangles=faces.astype(np.int32), colours=colours, double_sided=True)


# -------------------------------------------------------------------------------------------------------------- PLY


def _check_ply(path: Path) -> None:
    """Raises UnreadableError where the header is damaged, announces no faces, or more bytes than the file has."""
    head = _head(path)
    text, end, _ = head.partition(b"end_header")
    lines = [line.split() for line in text.decode("latin-1").splitlines() if line.split()]
    if not lines or lines[0] != ["ply"] or not end:
        raise UnreadableError(f"{path}: not a PLY, or its header is damaged ({_AGAIN})")
    try:
        sizes = _least_sizes(lines)
    except (LookupError, ValueError) as error:
        raise UnreadableError(f"{path}: its PLY header is damaged: {error} ({_AGAIN})") from None
    if not sizes.get("face") or not sizes.get("vertex"):
        raise UnreadableError(f"{path}: no triangles in it (give a scene with surfaces)")
    least, size = len(text + end) + 1 + sum(sizes.values()), path.stat().st_size
    if size < least:
        raise UnreadableError(f"{path}: cut short, {size} bytes where its header announces {least} or more ({_AGAIN})")
    if b"TextureFile" in text and b" red" not in text:
        raise UnreadableError(f"{path}: a PLY with a picture is not read (save it as OBJ or GLB)")


def _least_sizes(lines: list[list[str]]) -> dict[str, int]:
    """Bytes that each element takes at least. A list of vertices has three or more."""
    ascii_ = ["format", "ascii"] in [line[:2] for line in lines]
    sizes, name, count = {}, "", 0
    for line in lines:
        if line[0] == "element":
            name, count = line[1], int(line[2])
            sizes[name] = 0
        elif line[0] == "property":
            listed = 3 if name == "face" and line[-1].startswith("vertex_ind") else 0
            row = _PLY_SIZES[line[2]] + listed * _PLY_SIZES[line[3]] if line[1] == "list" else _PLY_SIZES[line[1]]
            sizes[name] += count * (2 if ascii_ else row)  # a digit and a space
    return sizes


def _read_ply(path: Path) -> Mesh:
    _check_ply(path)
    return _mesh(path, [_part(path, geometry) for geometry in _geometries(path, _read(path), skip_materials=True)], [])


# -------------------------------------------------------------------------------------------------------------- OBJ


@dataclass(frozen=True, kw_only=True)
class _Material:
    """What an .mtl says of one material."""

    colour: tuple[float, float, float] = (1.0, 1.0, 1.0)
    opacity: float = 1.0
    cut: bool = False
    """Some of it is transparent: what is more than half so is not there."""
    picture: Path | None = None
    wrap: Wrap = "repeat"


def _check_obj(path: Path, text: bytes) -> dict[str, _Material]:
    """The materials an OBJ names. Raises UnreadableError: no text, a missing .mtl or picture."""
    if b"\0" in text:
        raise UnreadableError(f"{path}: not an OBJ, it holds bytes that are no text (is it another format?)")
    materials = {}
    for line in re.findall(r"^[ \t]*mtllib[ \t]+(.+?)[ \t\r]*$", text.decode("utf-8", "replace"), re.MULTILINE):
        whole = [line] if (path.parent / line).is_file() else line.split()  # one name with spaces, or several
        for name in whole:
            materials |= _read_mtl(_beside(path, path.parent, name))
    return materials


def _beside(path: Path, folder: Path, name: str) -> Path:
    file = folder / name.replace("\\", "/")
    if not file.is_file():
        raise UnreadableError(f"{path}: {file} is missing (copy it to where the scene looks for it)")
    return file


def _read_mtl(path: Path) -> dict[str, _Material]:
    materials, name = {}, ""
    for line in _read(path).decode("utf-8", "replace").splitlines():
        key, rest = (*line.split(None, 1), "", "")[:2]
        key, rest = key.lower(), rest.strip()
        if key == "newmtl":
            name = " ".join(rest.split())
            materials[name] = _Material()
        elif name and rest:
            try:
                materials[name] = _with_line(path, materials[name], key, rest)
            except ValueError:
                raise UnreadableError(f"{path}: {line.strip()!r} is not understood ({_AGAIN})") from None
    return materials


def _with_line(path: Path, material: _Material, key: str, rest: str) -> _Material:
    """A material with one more line of an .mtl taken in. Raises ValueError where numbers are none."""
    if key == "kd" and not rest.startswith(("spectral", "xyz")):
        numbers = [float(x) for x in rest.split()[:3]]
        red, green, blue = numbers if len(numbers) == 3 else numbers[:1] * 3
        return replace(material, colour=(red, green, blue))
    if key in ("d", "tr"):
        opacity = float(rest.split()[-1]) if key == "d" else 1 - float(rest.split()[-1])
        return replace(material, opacity=opacity, cut=material.cut or opacity < 1)
    if key == "map_d":
        return replace(material, cut=True)
    if key == "map_kd":
        options = re.match(r"(?:-\w+(?:[ \t]+(?:on|off|[-+.\d]+(?=[ \t])))+[ \t]+)*", rest)
        start = options.end() if options else 0
        wrap = "clamp" if re.search(r"-clamp\s+on", rest[:start]) else "repeat"
        return replace(material, picture=_beside(path, path.parent, rest[start:]), wrap=wrap)
    return material


def _read_obj(path: Path) -> Mesh:
    """A part a material. Its v points up, glTF's down."""
    data = _read(path)
    materials = _check_obj(path, data)
    # trimesh would drop pictures that it cannot open: it is told the materials' names alone, whatever file it asks for
    names = "\n".join(f"newmtl {name}" for name in materials).encode()
    found: dict[tuple[Path, Wrap], int] = {}
    parts = []
    for geometry in _geometries(path, data, resolver=defaultdict(lambda: names)):
        name = getattr(getattr(geometry.visual, "material", None), "name", None)
        material, uv = materials.get(name or "", _Material()), getattr(geometry.visual, "uv", None)
        part = _part(path, geometry)
        red, green, blue = material.colour
        if material.picture is not None and uv is not None:
            key = (material.picture, material.wrap)
            texture = found.setdefault(key, len(found))
            up_to_down = np.nan_to_num(np.array([0, 1]) + np.asarray(uv) * [1, -1], posinf=0, neginf=0).astype(np.float32)
            part = replace(part, uv=up_to_down, texture=texture)
            if not any(material.colour):  # some exporters write black where a picture says the colour
                red = green = blue = 1.0
        cutoff = 0.5 if material.cut else 0.0
        parts.append(replace(part, colour=(red, green, blue, material.opacity), alpha_cutoff=cutoff))
    textures = [Texture(image=decode_picture(_read(file), str(file)), wrap=(wrap, wrap)) for file, wrap in found]
    return _mesh(path, parts, textures)
