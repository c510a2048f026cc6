"""PLY and OBJ of a few triangles, which way is up, and the real scenes of shared/data."""

import json
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from glb_made import CORNERS, RED_GREEN_BLUE_GREY, Made, encoded

from twoview.errors import ConfigError, UnreadableError
from twoview.render.load import check_mesh, load_mesh
from twoview.render.mesh import Mesh

SHARED = Path(__file__).parents[3] / "shared"
SCENES = SHARED / "data"
COLOURS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [51, 102, 204]], np.uint8)

real = pytest.mark.skipif(not SCENES.exists(), reason=f"{SCENES} is absent: real scenes")


@pytest.fixture(scope="session")
def trimesh() -> None:
    pytest.importorskip("trimesh", reason="trimesh is absent: it reads PLY and OBJ")


def outcome(act: Callable[[Path], object], path: Path) -> str:
    """The one line that a file is refused with, without its name; "" where it is read."""
    try:
        act(path)
    except UnreadableError as error:
        message = str(error)
    else:
        return ""
    assert message.startswith(f"{path.parent}/")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def ply(faces: list[list[int]], *, corners: np.ndarray = CORNERS, alpha: bool = True, normals: bool = False) -> bytes:
    """Binary, as ScanNet's (alpha) or Replica's (normals)."""
    fields = [*"xyz", *(["nx", "ny", "nz"] if normals else [])]
    channels = ["red", "green", "blue", *(["alpha"] if alpha else [])]
    header = ["ply", "format binary_little_endian 1.0", "comment made up", f"element vertex {len(corners)}"]
    header += [f"property float {name}" for name in fields] + [f"property uchar {name}" for name in channels]
    header += [f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header", ""]
    data = "\n".join(header).encode()
    for corner, colour in zip(corners, COLOURS, strict=True):
        data += struct.pack(f"<{len(fields)}f", *corner, *([0.0] * (len(fields) - 3)))
        data += bytes([*colour, *([255] if alpha else [])])
    return data + b"".join(struct.pack(f"<B{len(face)}i", len(face), *face) for face in faces)


# ---------------------------------------------------------------------------------------------------------- which way is up


def test_which_way_is_up(tmp_path: Path, trimesh: None) -> None:
    made, turned = Made(), CORNERS[:, [0, 2, 1]] * [1, 1, -1]
    made.node(mesh=made.mesh())
    glb, cloud = made.write(tmp_path / "a.GLB"), tmp_path / "a.ply"
    cloud.write_bytes(ply([[0, 1, 2], [0, 2, 3]]))
    for path, up, expected in (
        (glb, None, CORNERS),
        (glb, "y", CORNERS),
        (glb, "z", turned),
        (cloud, None, turned),
        (cloud, "z", turned),
        (cloud, "y", CORNERS),
    ):
        np.testing.assert_array_equal(load_mesh(path, up).parts[0].positions, expected)
    part = load_mesh(glb, "z").parts[0]
    a, b, c = part.positions[part.triangles[0]]
    np.testing.assert_array_equal(np.cross(b - a, c - a), [0, 1, 0])  # what faced z, up there, faces up here: no mirror


def test_other_files(tmp_path: Path) -> None:
    for act in (load_mesh, check_mesh):
        assert outcome(act, tmp_path / "a.fbx") == "not a scene that is read (give a .glb, .gltf, .obj, .ply)"
        for suffix in ("glb", "gltf", "ply", "obj"):
            path = tmp_path / f"a.{suffix}"
            path.unlink(missing_ok=True)
            assert outcome(act, path) == "No such file or directory"
            path.touch()
            assert outcome(act, path).startswith("the file is empty (")


# -------------------------------------------------------------------------------------------------------------- PLY


@pytest.mark.parametrize(
    "data",
    [ply([[0, 1, 2], [0, 2, 3]]), ply([[0, 1, 2, 3]], alpha=False, normals=True)],
    ids=["ScanNet: triangles", "Replica: quads"],
)
def test_ply(data: bytes, tmp_path: Path, trimesh: None) -> None:
    path = tmp_path / "scene0000_00_vh_clean_2.ply"
    path.write_bytes(data)
    check_mesh(path)
    mesh = load_mesh(path, up="y")
    (part,) = mesh.parts
    assert (mesh.name, mesh.num_triangles, mesh.textures) == (str(path), 2, ())
    corners = part.positions[part.triangles]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    np.testing.assert_allclose(normals, [[0, 0, 1]] * 2)  # two halves of the square
    np.testing.assert_array_equal(part.positions, CORNERS)
    assert part.colours is not None
    np.testing.assert_allclose(part.colours, np.c_[COLOURS / 255, np.ones(4)], atol=1e-6)
    assert (part.double_sided, part.positions.dtype, part.triangles.dtype) == (True, np.float32, np.int32)


ASCII = """ply
format ascii 1.0
element vertex 4
property double x
property double y
property double z
element face 2
property list uchar int vertex_index
property uchar red
property uchar green
property uchar blue
end_header
0 0 0
1 0 0
1 1 0
0 1 0
3 0 1 2 255 0 0
3 0 2 3 0 0 255
"""


def test_ply_with_the_colours_of_faces(tmp_path: Path, trimesh: None) -> None:
    path = tmp_path / "a.ply"
    path.write_text(ASCII)
    check_mesh(path)
    (part,) = load_mesh(path, up="y").parts
    np.testing.assert_array_equal(part.positions[part.triangles], CORNERS[[[0, 1, 2], [0, 2, 3]]])
    assert part.colours is not None
    np.testing.assert_array_equal(part.colours[part.triangles][0], [[1, 0, 0, 1]] * 3)
    np.testing.assert_array_equal(part.colours[part.triangles][1], [[0, 0, 1, 1]] * 3)


QUADS = ply([[0, 1, 2], [0, 2, 3]])
HEADER = QUADS[: QUADS.index(b"end_header")]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"solid", "not a PLY, or its header is damaged (copy or export it again)"),
        (HEADER, "not a PLY, or its header is damaged (copy or export it again)"),
        (QUADS.replace(b"vertex 4", b"vertex x"), "its PLY header is damaged: invalid literal for int()"),
        (QUADS.replace(b"float y", b"fl0at y"), "its PLY header is damaged: 'fl0at'"),
        (QUADS.replace(b"face 2", b"face 0"), "no triangles in it (give a scene with surfaces)"),
        (QUADS.replace(b"element face", b"element edge"), "no triangles in it (give a scene with surfaces)"),
        (QUADS[:-1], "cut short, "),
        (QUADS.replace(b"vertex 4", b"vertex 99999999999"), "cut short, "),
        (QUADS.replace(b"red", b"rot").replace(b"made up", b"TextureFile a.png"), "a PLY with a picture is not read (save it"),
    ],
)
def test_damaged_ply(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.ply"
    path.write_bytes(data)
    assert outcome(check_mesh, path).startswith(message)
    assert outcome(load_mesh, path) == outcome(check_mesh, path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (ply([[0, 1, 2, 3], [0, 1, 2]]), "trimesh cannot read it: PLY is unexpected length! (save it again as triangles, or"),
        (ply([[0, 1, 17]]), "index 17 of 4 vertices (copy or export it again)"),
        (ply([[0, 1, -1]]), "index 1 of 4 vertices (copy or export it again)"),
        (ply([[0, 1, 2]], corners=CORNERS + np.float32(np.inf)), "no triangles in it (give a scene with surfaces)"),
    ],
)
def test_damaged_inside_a_ply(data: bytes, message: str, tmp_path: Path, trimesh: None) -> None:
    path = tmp_path / "a.ply"
    path.write_bytes(data)
    assert outcome(load_mesh, path).startswith(message)


# -------------------------------------------------------------------------------------------------------------- OBJ

OBJ = """# a square of two halves
mtllib my materials.mtl
o square
v 0 0 0
v 1 0 0
v 1 1 0
v 0 1 0
vt 0 0
vt 1 0
vt 1 1
vt 0 1
usemtl wall paper
f 1/1 2/2 3/3
usemtl glass
f 1 3 4
"""
MTL = """newmtl wall paper
Kd 0.5 0.25 1
map_Kd -clamp on -s 1 1 1 my textures\\a b.png
newmtl glass
\tKd\t0.1 0.2 0.3
d 0.25
"""


@pytest.fixture
def obj(tmp_path: Path, trimesh: None) -> Path:
    (tmp_path / "my textures").mkdir()
    (tmp_path / "my textures" / "a b.png").write_bytes(encoded(RED_GREEN_BLUE_GREY))
    (tmp_path / "my materials.mtl").write_text(MTL)
    path = tmp_path / "a.obj"
    path.write_text(OBJ)
    return path


def by_normal_order(mesh: Mesh) -> tuple:
    """The textured part, then the other."""
    return tuple(sorted(mesh.parts, key=lambda part: part.texture is None))


def test_obj(obj: Path) -> None:
    check_mesh(obj)
    mesh = load_mesh(obj)
    wall, glass = by_normal_order(mesh)
    np.testing.assert_array_equal(wall.positions[wall.triangles], CORNERS[[[0, 1, 2]]])
    np.testing.assert_array_equal(glass.positions[glass.triangles], CORNERS[[[0, 2, 3]]])
    np.testing.assert_array_equal(wall.uv[wall.triangles], [[[0, 1], [1, 1], [1, 0]]])  # v turned over: 1 is the bottom
    assert (wall.colour, wall.alpha_cutoff, wall.double_sided) == ((0.5, 0.25, 1, 1), 0, True)
    assert (glass.colour, glass.alpha_cutoff, glass.double_sided) == ((0.1, 0.2, 0.3, 0.25), 0.5, True)
    assert [texture.wrap for texture in mesh.textures] == [("clamp", "clamp")]
    np.testing.assert_array_equal(mesh.textures[0].image[..., :3], RED_GREEN_BLUE_GREY)


def test_black_under_a_picture_means_nothing(obj: Path) -> None:
    (obj.parent / "my materials.mtl").write_text(MTL.replace("Kd 0.5 0.25 1", "Kd 0 0 0"))
    assert by_normal_order(load_mesh(obj))[0].colour == (1, 1, 1, 1)


def test_obj_without_materials_has_the_colours_of_its_vertices(tmp_path: Path, trimesh: None) -> None:
    path = tmp_path / "a.obj"
    path.write_text("v 0 0 0 1 0 0\nv 1 0 0 1 0 0\nv 1 1 0 1 0 0\nf 1 2 3\n")
    (part,) = load_mesh(path).parts
    np.testing.assert_array_equal(part.colours, [[1, 0, 0, 1]] * 3)


def test_what_an_obj_lacks_is_named(obj: Path) -> None:
    wanted = "is missing (copy it to where the scene looks for it)"
    picture, materials = obj.parent / "my textures" / "a b.png", obj.parent / "my materials.mtl"
    picture.write_bytes(b"no picture")
    assert outcome(load_mesh, obj) == f"{picture}: the picture cannot be decoded (export it as PNG or JPEG)"
    for file in (picture, materials):
        file.unlink()
        words = str(file).split()[0] if file == materials else str(file)  # a name with spaces may be several
        assert outcome(check_mesh, obj) == outcome(load_mesh, obj)
        assert words in outcome(load_mesh, obj)
        assert outcome(load_mesh, obj).endswith(wanted)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("f 1 3 4", "f 1 3 9", "trimesh cannot read it: "),
        ("f 1 3 4", "f 1 x 4", "trimesh cannot read it: "),
        ("v 1 0 0\n", "v 1 a 0\n", "trimesh cannot read it: "),
        ("f ", "# ", "no triangles in it (give a scene with surfaces)"),
        ("v ", "# ", "no triangles in it (give a scene with surfaces)"),
        ("o square", "\0", "not an OBJ, it holds bytes that are no text (is it another format?)"),
    ],
)
def test_damaged_obj(old: str, new: str, message: str, obj: Path) -> None:
    obj.write_text(OBJ.replace(old, new))
    assert outcome(load_mesh, obj).startswith(message)


def test_damaged_materials(obj: Path) -> None:
    (obj.parent / "my materials.mtl").write_text(MTL.replace("0.25 1", "0.25 x"))
    assert "'Kd 0.5 0.25 x' is not understood" in outcome(check_mesh, obj)


@pytest.mark.parametrize("name", ["a.ply", "a.obj"])
def test_without_trimesh(name: str, obj: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trimesh", None)
    (obj.parent / "a.ply").write_bytes(QUADS)
    kind = name[2:].upper()
    with pytest.raises(ConfigError, match=rf"a {kind} file needs one more package: pip install 'twoview\[scenes\]'$"):
        load_mesh(obj.parent / name)


@pytest.mark.parametrize("name", ["a.ply", "b.ply", "a.obj", "my materials.mtl"])
def test_damaged_bytes_never_end_in_a_traceback(name: str, obj: Path) -> None:
    (obj.parent / "a.ply").write_bytes(QUADS)
    (obj.parent / "b.ply").write_text(ASCII)
    path = obj if name.endswith("mtl") else obj.parent / name
    full, rng = (obj.parent / name).read_bytes(), np.random.default_rng(0)
    for k in range(200):
        data = bytearray(full[: len(full) if k % 4 else rng.integers(len(full))])
        for at in rng.integers(0, len(data), min(len(data), 2)):
            data[at] = rng.integers(256)
        (obj.parent / name).write_bytes(data)
        outcome(load_mesh, path)
        outcome(check_mesh, path)


# ------------------------------------------------------------------------------------------------------ real scenes

REAL = [
    ("scene_apartment/apartment.glb", 23146, 38, (37, 1411)),
    ("scene_kitchen/kitchen-transformed.glb", 20625, 18, (3, 2048)),
    ("scene_vr_gallery/vr-gallery.glb", 1930, 1, (1, 1024)),
    ("scene_cube_room/cube-room/cube-room.gltf", 5364, 1, (1, 2048)),
    ("scene_garage/garage/garage.gltf", 11358, 17, (0, 0)),
]


@real
@pytest.mark.parametrize(("name", "num_triangles", "num_parts", "pictures"), REAL)
def test_real_scenes(name: str, num_triangles: int, num_parts: int, pictures: tuple[int, int]) -> None:
    if "kitchen" in name:
        pytest.importorskip("DracoPy", reason="DracoPy is absent: the kitchen is compressed by it")
    check_mesh(SCENES / name)
    mesh = load_mesh(SCENES / name)
    assert (mesh.num_triangles, len(mesh.parts)) == (num_triangles, num_parts)
    assert (len(mesh.textures), max([0, *(max(t.image.shape) for t in mesh.textures)])) == pictures  # how many; largest side, px
    for part in mesh.parts:
        assert np.isfinite(part.positions).all()
        assert (part.uv is None) == (part.texture is None)
    for texture in mesh.textures:
        assert texture.image.std() > 5  # something is on it


@real
@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("apartment", "scene_apartment/apartment.glb"),
        ("apartment", "scene_apartment/apartment_basis.glb"),
        ("apartment", "scene_apartment/apartment_ktx2.glb"),
        ("gallery", "scene_vr_gallery/vr-gallery.glb"),
    ],
)
def test_bounds_are_habitats(folder: str, name: str) -> None:
    reference = SHARED / "parity" / "habitat" / folder / "reference.json"
    if not reference.exists():
        pytest.skip(f"{reference} is absent: what habitat-sim says")
    if "_" in Path(name).stem:
        pytest.importorskip("opengl_basisu", reason="opengl_basisu is absent: it decodes the pictures")
    expected = json.loads(reference.read_text())["scene_bounds"]
    np.testing.assert_allclose(load_mesh(SCENES / name).bounds_m, expected, atol=1e-3)


@real
def test_a_real_scene_in_metres() -> None:
    """The garage is 6.8 x 3 x 7.6 m, says its README."""
    low, high = load_mesh(SCENES / "scene_garage/garage/garage.gltf").bounds_m
    np.testing.assert_allclose(high - low, [6.8, 3.0, 7.6], atol=0.1)


@real
@pytest.mark.parametrize("form", ["basis", "ktx2"])
def test_one_apartment_in_three_forms_of_pictures(form: str) -> None:
    """The Basis ones are smaller, and compressed: they show the same, and the same way up."""
    pytest.importorskip("opengl_basisu", reason="opengl_basisu is absent: it decodes the pictures")
    jpeg, basis = (load_mesh(SCENES / "scene_apartment" / f"apartment{end}.glb") for end in ("", f"_{form}"))
    assert (basis.num_triangles, len(basis.textures)) == (jpeg.num_triangles, 37)
    for a, b in zip(jpeg.textures, basis.textures, strict=True):
        small = cv2.resize(a.image, b.image.shape[1::-1], interpolation=cv2.INTER_AREA)[..., :3].astype(int)
        upright, upside_down = (np.abs(small - image[..., :3]) for image in (b.image, b.image[::-1]))
        assert upright.mean() < 9
        assert upright.mean() < 0.8 * upside_down.mean()
        assert np.abs((small - b.image[..., :3]).mean((0, 1))).max() < 3  # channel by channel: no shift of colour


@real
def test_a_real_scene_made_linear() -> None:
    """Its Basis pictures say sRGB: linear, they are darker and darkest in between."""
    pytest.importorskip("opengl_basisu", reason="opengl_basisu is absent: it decodes the pictures")
    path = SCENES / "scene_apartment" / "apartment_basis.glb"
    for stored, linear in zip(load_mesh(path).textures, load_mesh(path, linearise=True).textures, strict=True):
        level = stored.image[..., :3] / 255
        np.testing.assert_allclose(linear.image[..., :3] / 255, level**2.2, atol=0.02)
        np.testing.assert_array_equal(linear.image[..., 3], stored.image[..., 3])
