"""glTF read from scenes of a few triangles, where every number is known; and damaged in every way that occurs."""

import base64
import json
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from glb_made import CORNERS, RED_GREEN_BLUE_GREY, SQUARE, UV, Made, encoded, packed

from twoview.errors import ConfigError, UnreadableError
from twoview.render.gltf import check_gltf, read_gltf
from twoview.render.mesh import Mesh, Part
from twoview.render.pictures import decode_picture


@pytest.fixture
def made() -> Made:
    return Made()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "scene.glb"


def read(made: Made, path: Path, **options: Any) -> Mesh:
    made.write(path)
    check_gltf(path)
    return read_gltf(path, **options)


def only(made: Made, path: Path) -> Part:
    (part,) = read(made, path).parts
    return part


def normals(part: Part) -> np.ndarray:
    a, b, c = part.positions[part.triangles].swapaxes(0, 1)
    return np.cross(b - a, c - a)


def refused(path: Path, checked: bool = False) -> str:
    """The one line that names the file; the cheap look says the same where `checked`."""
    with pytest.raises(UnreadableError) as caught:
        read_gltf(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    if checked:
        with pytest.raises(UnreadableError) as looked:
            check_gltf(path)
        assert str(looked.value) == message
    return message.removeprefix(f"{path}: ")


# ------------------------------------------------------------------------------------------------------------ nodes


def test_a_square(made: Made, path: Path) -> None:
    made.node(mesh=made.mesh())
    mesh = read(made, path)
    assert (mesh.name, mesh.num_triangles, mesh.textures) == (str(path), 2, ())
    part = mesh.parts[0]
    np.testing.assert_array_equal(part.positions, CORNERS)
    np.testing.assert_array_equal(part.triangles, [[0, 1, 2], [0, 2, 3]])
    assert (part.positions.dtype, part.triangles.dtype, part.uv, part.colours) == (np.float32, np.int32, None, None)
    assert (part.colour, part.texture, part.double_sided, part.alpha_cutoff) == ((1, 1, 1, 1), None, False, 0)


def test_matrices_and_trs_through_the_tree(made: Made, path: Path) -> None:
    half = np.sqrt(0.5)
    child = made.node(None, mesh=made.mesh(), translation=[0, 0, 5], rotation=[0, half, 0, half], scale=[2, 1, 1])
    made.node(children=[child], matrix=[1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 10, 0, 0, 1])
    expected = [[10, 0, 5], [10, 0, 3], [10, 1, 3], [10, 1, 5]]  # x doubled, then turned to -z, then moved
    np.testing.assert_allclose(only(made, path).positions, expected, atol=1e-6)


@pytest.mark.parametrize("axis", range(3))
def test_each_axis_turns_as_quaternions_say(axis: int, made: Made, path: Path) -> None:
    rotation = [0.0, 0.0, 0.0, 3 * np.cos(np.pi / 3)]  # not of unit length, as exporters round
    rotation[axis] = 3 * np.sin(np.pi / 3)
    made.node(mesh=made.mesh(made.primitive(np.eye(3, dtype=np.float32), np.arange(3, dtype=np.uint8))), rotation=rotation)
    b, c = (axis + 1) % 3, (axis + 2) % 3
    expected = np.zeros((3, 3))
    expected[axis, axis] = 1
    expected[b, [b, c]] = np.cos(2 * np.pi / 3), np.sin(2 * np.pi / 3)
    expected[c, [b, c]] = -np.sin(2 * np.pi / 3), np.cos(2 * np.pi / 3)
    np.testing.assert_allclose(only(made, path).positions, expected, atol=1e-6)


def test_a_mesh_stands_wherever_nodes_place_it(made: Made, path: Path) -> None:
    mesh = made.mesh()
    made.node(mesh=mesh)
    made.node(mesh=mesh, translation=[3, 0, 0])
    scene = read(made, path)
    assert scene.num_triangles == 4
    np.testing.assert_array_equal(scene.bounds_m, [[0, 0, 0], [4, 1, 0]])


@pytest.mark.parametrize(("scale", "facing"), [((-1, 1, 1), 1), ((-1, -1, 1), 1), ((1, 1, -1), -1), ((-2, -2, -2), -1)])
def test_mirrored_fronts_stay_fronts(scale: tuple[int, ...], facing: int, made: Made, path: Path) -> None:
    made.node(mesh=made.mesh(), scale=scale)
    assert (np.sign(normals(only(made, path))[:, 2]) == facing).all()


def test_which_scene_is_read(made: Made, path: Path) -> None:
    made.json["scenes"] = [{"nodes": []}, {"nodes": []}]
    made.node(0, mesh=made.mesh())
    inner = made.node(None, mesh=made.mesh(), translation=[5, 0, 0])
    made.node(1, children=[inner])
    lowest = []
    for scenes, scene in ((True, 1), (True, 0), (True, None), (False, None)):
        spec = made.json | {"scene": scene}
        made.json = {key: value for key, value in spec.items() if value is not None and (scenes or key != "scenes")}
        lowest.append([part.positions[:, 0].min() for part in read(made, path).parts])
        made.json["scenes"] = spec.get("scenes")
    assert lowest == [[5], [0], [0], [0, 5]]


# -------------------------------------------------------------------------------------------------------- accessors


def test_interleaved_vertices(made: Made, path: Path) -> None:
    rows = np.hstack([CORNERS, np.full((4, 1), 9, np.float32), UV])
    view = made.view(b"\7" * 8 + rows.tobytes(), byteStride=24)
    texture = made.texture()
    position = made.accessor(CORNERS, bufferView=view, byteOffset=8)
    uv = made.accessor(UV, bufferView=view, byteOffset=24)
    material = made.add("materials", pbrMetallicRoughness={"baseColorTexture": {"index": texture}})
    made.node(mesh=made.mesh(made.primitive(position, TEXCOORD_0=uv, material=material)))
    part = only(made, path)
    np.testing.assert_array_equal(part.positions, CORNERS)
    np.testing.assert_array_equal(part.uv, UV)


def test_quantised_vertices(made: Made, path: Path) -> None:
    made.json["extensionsRequired"] = ["KHR_mesh_quantization"]
    padded = np.zeros((4, 4), np.int16)
    padded[:, :3] = CORNERS * 32767
    position = made.accessor(padded[:, :3], bufferView=made.view(padded.tobytes(), byteStride=8), normalized=True)
    uv = made.accessor((UV * 65535).astype(np.uint16), normalized=True)
    material = made.add("materials", pbrMetallicRoughness={"baseColorTexture": {"index": made.texture()}})
    made.node(mesh=made.mesh(made.primitive(position, TEXCOORD_0=uv, material=material)), scale=[3, 3, 3])
    part = only(made, path)
    np.testing.assert_allclose(part.positions, 3 * CORNERS, atol=1e-6)
    np.testing.assert_allclose(part.uv, UV)


def test_integers_that_are_not_normalised_stay_as_they_are(made: Made, path: Path) -> None:
    made.node(mesh=made.mesh(made.primitive((CORNERS * 7).astype(np.int8))))
    np.testing.assert_array_equal(only(made, path).positions, CORNERS * 7)


@pytest.mark.parametrize("base", [True, False])
def test_sparse(base: bool, made: Made, path: Path) -> None:
    moved = np.array([[5, 5, 5], [6, 6, 6]], np.float32)
    sparse = {
        "count": 2,
        "indices": {"bufferView": made.view(np.array([1, 3], np.uint8).tobytes()), "componentType": 5121},
        "values": {"bufferView": made.view(moved.tobytes())},
    }
    position = made.accessor(CORNERS, sparse=sparse)
    if not base:
        del made.json["accessors"][position]["bufferView"]
    made.node(mesh=made.mesh(made.primitive(position)))
    expected = CORNERS.copy() if base else np.zeros((4, 3), np.float32)
    expected[[1, 3]] = moved
    np.testing.assert_array_equal(only(made, path).positions, expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
def test_indices_of_each_width(dtype: type, made: Made, path: Path) -> None:
    made.node(mesh=made.mesh(made.primitive(indices=SQUARE.astype(dtype))))
    np.testing.assert_array_equal(only(made, path).triangles, SQUARE.reshape(2, 3))


@pytest.mark.parametrize(
    ("mode", "order", "triangles"),
    [
        (4, None, [[0, 1, 2]]),  # without indices, and one vertex too many
        (5, None, [[0, 1, 2], [1, 3, 2]]),
        (5, [0, 1, 2, 2, 3, 3, 0, 1], [[0, 1, 2], [3, 1, 0]]),  # two strips in one
        (6, None, [[1, 2, 0], [2, 3, 0]]),
        (6, [3, 2, 1, 0], [[2, 1, 3], [1, 0, 3]]),
    ],
)
def test_lists_strips_and_fans(mode: int, order: list[int] | None, triangles: list, made: Made, path: Path) -> None:
    indices = None if order is None else np.array(order, np.uint16)
    made.node(mesh=made.mesh(made.primitive(indices=indices, mode=mode)))
    part = only(made, path)
    np.testing.assert_array_equal(part.positions[part.triangles], CORNERS[triangles])


def test_points_and_lines_are_not_there(made: Made, path: Path) -> None:
    made.node(mesh=made.mesh(*(made.primitive(mode=mode) for mode in (0, 1, 2, 3, 4))))
    assert len(read(made, path).parts) == 1


def test_vertices_that_no_triangle_has_are_left_out(made: Made, path: Path) -> None:
    far = np.vstack([[[99, 99, 99]], CORNERS, [[np.nan, 0, 0]]]).astype(np.float32)
    made.node(mesh=made.mesh(made.primitive(far, SQUARE + 1, COLOR_0=np.linspace(0, 1, 24, dtype=np.float32).reshape(6, 4))))
    part = only(made, path)
    np.testing.assert_array_equal(part.positions[part.triangles], CORNERS[SQUARE.reshape(2, 3)])
    assert part.colours is not None
    assert part.colours[0, 0] == pytest.approx(4 / 23)


def test_triangles_that_reach_to_infinity_are_dropped(made: Made, path: Path) -> None:
    corners = CORNERS.copy()
    corners[1, 2] = np.inf
    made.node(mesh=made.mesh(made.primitive(corners)))
    part = only(made, path)
    np.testing.assert_array_equal(part.positions[part.triangles], CORNERS[[[0, 2, 3]]])
    made.json["nodes"][0]["scale"] = [1e39, 1, 1]  # too large for a float: half of what was left goes too
    made.write(path)
    assert refused(path) == "no triangles in it (give a scene with surfaces)"


# --------------------------------------------------------------------------------------------- materials, textures


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0.25, 0.5, 1]] * 4, np.float32), (0.25, 0.5, 1, 1)),
        (np.array([[0.25, 0.5, 2, 0.5]] * 4, np.float32), (0.25, 0.5, 1, 0.5)),
        (np.array([[51, 102, 255]] * 4, np.uint8), (0.2, 0.4, 1, 1)),
        (np.array([[13107, 26214, 65535, 0]] * 4, np.uint16), (0.2, 0.4, 1, 0)),
    ],
)
def test_colours_of_vertices(values: np.ndarray, expected: tuple[float, ...], made: Made, path: Path) -> None:
    colours = made.accessor(values, normalized=values.dtype.kind == "u")
    made.node(mesh=made.mesh(made.primitive(COLOR_0=colours)))
    part = only(made, path)
    assert part.colours is not None
    assert part.colours.dtype == np.float32
    np.testing.assert_allclose(part.colours, [expected] * 4, atol=1e-6)


@pytest.mark.parametrize(
    ("material", "colour", "double_sided", "cutoff"),
    [
        ({}, (1, 1, 1, 1), False, 0),
        ({"pbrMetallicRoughness": {"baseColorFactor": [0.1, 0.2, 0.3, 0.4]}, "doubleSided": True}, (0.1, 0.2, 0.3, 0.4), True, 0),
        ({"alphaMode": "OPAQUE", "alphaCutoff": 0.7}, (1, 1, 1, 1), False, 0),
        ({"alphaMode": "MASK"}, (1, 1, 1, 1), False, 0.5),
        ({"alphaMode": "MASK", "alphaCutoff": 0.7}, (1, 1, 1, 1), False, 0.7),
        ({"alphaMode": "BLEND", "alphaCutoff": 0.7}, (1, 1, 1, 1), False, 0.5),
        ({"extensions": {"KHR_materials_unlit": {}}}, (1, 1, 1, 1), False, 0),
        (
            {
                "pbrMetallicRoughness": {"baseColorFactor": [0.1, 0.2, 0.3, 0.4]},
                "extensions": {"KHR_materials_pbrSpecularGlossiness": {"diffuseFactor": [0.5, 0.6, 0.7, 0.8]}},
            },
            (0.5, 0.6, 0.7, 0.8),
            False,
            0,
        ),
    ],
)
def test_materials(material: dict, colour: tuple, double_sided: bool, cutoff: float, made: Made, path: Path) -> None:
    made.json["extensionsRequired"] = ["KHR_materials_unlit", "KHR_materials_pbrSpecularGlossiness", "KHR_lights_punctual"]
    made.square(**material)
    part = only(made, path)
    assert (part.colour, part.double_sided, part.alpha_cutoff) == (colour, double_sided, cutoff)
    assert (part.texture, part.uv) == (None, None)


def test_a_texture_and_its_coordinates(made: Made, path: Path) -> None:
    info = {"index": made.texture(), "texCoord": 1}
    index = made.add("materials", pbrMetallicRoughness={"baseColorTexture": info}, emissiveTexture={"index": 99})
    made.node(mesh=made.mesh(made.primitive(TEXCOORD_0=UV, TEXCOORD_1=UV / 4, material=index)))
    mesh = read(made, path)
    np.testing.assert_array_equal(mesh.parts[0].uv, UV / 4)
    assert mesh.parts[0].texture == 0
    assert mesh.textures[0].wrap == ("repeat", "repeat")
    np.testing.assert_array_equal(mesh.textures[0].image[..., :3], RED_GREEN_BLUE_GREY)
    assert (mesh.textures[0].image[..., 3] == 255).all()


def test_the_picture_of_specular_glossiness(made: Made, path: Path) -> None:
    first, second = made.texture(np.zeros((1, 1, 3), np.uint8)), made.texture()
    glossy = {"KHR_materials_pbrSpecularGlossiness": {"diffuseTexture": {"index": second}}}
    made.square(pbrMetallicRoughness={"baseColorTexture": {"index": first}}, extensions=glossy)
    assert [texture.image.shape for texture in read(made, path).textures] == [(2, 2, 4)]


def test_a_texture_without_coordinates_is_left_out(made: Made, path: Path) -> None:
    material = made.add("materials", pbrMetallicRoughness={"baseColorTexture": {"index": made.texture()}})
    made.node(mesh=made.mesh(made.primitive(material=material)))
    mesh = read(made, path)
    assert (mesh.parts[0].texture, mesh.parts[0].uv, mesh.textures) == (None, None, ())


@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        ({}, UV),
        ({"offset": [0.5, 2]}, UV + [0.5, 2]),
        ({"scale": [4, 2], "offset": [1, 0]}, UV * [4, 2] + [1, 0]),
        # the extension's own example: the lower left quarter of the picture, turned clockwise by 90 degrees
        ({"offset": [0, 1], "rotation": np.pi / 2, "scale": [0.5, 0.5]}, [[0.5, 1], [0.5, 0.5], [0, 0.5], [0, 1]]),
        ({"texCoord": 1}, UV / 2),
    ],
)
def test_texture_transforms(transform: dict, expected: np.ndarray, made: Made, path: Path) -> None:
    made.json["extensionsRequired"] = ["KHR_texture_transform"]
    info = {"index": made.texture(), "extensions": {"KHR_texture_transform": transform}}
    material = made.add("materials", pbrMetallicRoughness={"baseColorTexture": info})
    made.node(mesh=made.mesh(made.primitive(TEXCOORD_0=UV, TEXCOORD_1=UV / 2, material=material)))
    part = only(made, path)
    assert part.uv is not None
    assert part.uv.dtype == np.float32
    np.testing.assert_allclose(part.uv, expected, atol=1e-6)


def test_pictures_are_decoded_once_and_only_where_shown(made: Made, path: Path) -> None:
    clamped = made.add("samplers", wrapS=33071, wrapT=33648)
    first = made.texture()
    again = made.add("textures", source=0)
    other = made.add("textures", source=0, sampler=clamped)
    made.texture(b"no picture at all")  # nobody shows it
    for texture in (first, other, again, first):
        made.square(pbrMetallicRoughness={"baseColorTexture": {"index": texture}})
    mesh = read(made, path)
    assert [part.texture for part in mesh.parts] == [0, 1, 0, 0]
    assert [texture.wrap for texture in mesh.textures] == [("repeat", "repeat"), ("clamp", "mirror")]
    assert mesh.textures[0].image is mesh.textures[1].image


RGBA = np.dstack([RED_GREEN_BLUE_GREY, [[255, 128], [0, 10]]]).astype(np.uint8)
GREY = np.array([[0, 100], [200, 255]], np.uint8)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (encoded(RGBA), RGBA),
        (encoded(RGBA, ".webp", 64, 101), RGBA),  # 101: lossless, but for what is under zero opacity
        (encoded(GREY), np.dstack([GREY, GREY, GREY, np.full_like(GREY, 255)])),
        (encoded(GREY.astype(np.uint16) * 257), np.dstack([GREY, GREY, GREY, np.full_like(GREY, 255)])),
        (encoded(np.full((8, 8, 3), (200, 100, 50), np.uint8), ".jpg", 1, 100), np.full((8, 8, 4), (200, 100, 50, 255))),
    ],
    ids=["png", "webp", "grey", "16 bits", "jpeg"],
)
def test_forms_of_pictures_whatever_the_file_calls_them(data: bytes, expected: np.ndarray, made: Made, path: Path) -> None:
    made.square(pbrMetallicRoughness={"baseColorTexture": {"index": made.texture(data)}})
    image = read(made, path).textures[0].image
    assert (image.dtype, image.shape) == (np.uint8, expected.shape)
    seen = expected[..., 3] > 0
    assert np.abs(image[seen].astype(int) - expected[seen]).max() <= 2
    np.testing.assert_array_equal(image[..., 3], expected[..., 3])


@pytest.mark.parametrize("extension", ["EXT_texture_webp", "KHR_texture_basisu", "GOOGLE_texture_basis"])
def test_what_an_extension_shows_goes_before_the_core_picture(extension: str, made: Made, path: Path) -> None:
    texture = made.texture(np.zeros((1, 1, 3), np.uint8))
    made.json["textures"][texture]["extensions"] = {extension: {"source": 1}}
    made.add("images", bufferView=made.view(encoded(RGBA, ".webp", 64, 101)))
    made.square(pbrMetallicRoughness={"baseColorTexture": {"index": texture}})
    assert read(made, path).textures[0].image.shape == (2, 2, 4)


def transcoder(monkeypatch: pytest.MonkeyPatch, image: np.ndarray, **flags: bool) -> None:
    """In opengl_basisu's place, one that finds this picture in whatever it is given."""
    texture = SimpleNamespace(width=2, height=2, transcode=lambda target, level: SimpleNamespace(data=image.copy()), **flags)
    fake = SimpleNamespace(open=lambda data: texture, Target=SimpleNamespace(RGBA8="rgba8"))
    monkeypatch.setitem(sys.modules, "opengl_basisu", fake)  # type: ignore[arg-type]


@pytest.mark.parametrize("y_flipped", [True, False])
@pytest.mark.parametrize("magic", [b"sB", b"\xabKTX 20\xbb\r\n\x1a\n"])
def test_basis_pictures_stand_upright(magic: bytes, y_flipped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    transcoder(monkeypatch, RGBA, y_flipped=y_flipped, srgb=True)
    np.testing.assert_array_equal(decode_picture(magic + bytes(80), "here"), RGBA[::-1] if y_flipped else RGBA)


@pytest.mark.parametrize(("srgb", "linearise", "grey"), [(True, True, 55), (True, False, 128), (False, True, 128)])
def test_srgb_is_made_linear_where_asked(srgb: bool, linearise: bool, grey: int, monkeypatch: pytest.MonkeyPatch) -> None:
    transcoder(monkeypatch, RGBA, y_flipped=False, srgb=srgb)
    image = decode_picture(b"sB" + bytes(80), "here", linearise)
    assert image[1, 1].tolist() == [grey, grey, grey, 10]  # opacity is linear as it is
    assert image[0, 0].tolist() == [255, 0, 0, 255]


# ------------------------------------------------------------------------------------------------------------ draco


def compressed(made: Made, **spec: Any) -> dict[str, Any]:
    """A square that Draco compressed, its attributes under ids of which none is the default's."""
    draco = pytest.importorskip("DracoPy", reason="DracoPy is absent: it writes what is read here")
    generic = {5: CORNERS, 7: UV, 3: np.array([[51, 102, 255, 0]] * 4, np.uint8)}
    data = draco.encode(CORNERS + 50, SQUARE.reshape(2, 3).astype(np.uint32), preserve_order=True, generic_attributes=generic)
    accessors = {
        "POSITION": made.add("accessors", componentType=5126, type="VEC3", count=4),
        "TEXCOORD_0": made.add("accessors", componentType=5126, type="VEC2", count=4),
        "COLOR_0": made.add("accessors", componentType=5121, type="VEC4", count=4, normalized=True),
    }
    ids = {"POSITION": 5, "TEXCOORD_0": 7, "COLOR_0": 3}
    extension = {"KHR_draco_mesh_compression": {"bufferView": made.view(data), "attributes": ids}}
    return {"attributes": accessors, "extensions": extension, **spec}


def test_draco(made: Made, path: Path) -> None:
    material = made.add("materials", pbrMetallicRoughness={"baseColorTexture": {"index": made.texture()}})
    made.json["extensionsRequired"] = ["KHR_draco_mesh_compression"]
    made.node(mesh=made.mesh(compressed(made, material=material)))
    part = only(made, path)
    np.testing.assert_allclose(part.positions[part.triangles], CORNERS[SQUARE.reshape(2, 3)], atol=1e-3)
    assert part.uv is not None
    assert part.colours is not None
    np.testing.assert_allclose(part.uv[part.triangles], UV[SQUARE.reshape(2, 3)], atol=1e-3)
    np.testing.assert_allclose(part.colours, [[0.2, 0.4, 1, 0]] * 4, atol=1e-6)


def test_draco_that_is_damaged_or_lacks_an_attribute(made: Made, path: Path) -> None:
    primitive = compressed(made)
    made.node(mesh=made.mesh(primitive))
    extension = primitive["extensions"]["KHR_draco_mesh_compression"]
    extension["attributes"]["POSITION"] = 77
    made.write(path)
    assert refused(path) == "its Draco data has no attribute 77 for POSITION (the file is damaged: copy or export it again)"
    made.json["bufferViews"][extension["bufferView"]]["byteLength"] //= 2
    made.write(path)
    assert refused(path).startswith("meshes[0].primitives[0]: its Draco data cannot be decoded: ")


@pytest.mark.parametrize("extension", ["KHR_draco_mesh_compression", "KHR_texture_basisu", "GOOGLE_texture_basis"])
def test_a_missing_package_is_named_by_its_pip_line(
    extension: str, made: Made, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "DracoPy", None)
    monkeypatch.setitem(sys.modules, "opengl_basisu", None)
    made.json["extensionsRequired"] = [extension]
    made.node(mesh=made.mesh())
    made.write(path)
    for read in (read_gltf, check_gltf):  # no fault of the file: nothing is curated as if it were unreadable
        with pytest.raises(ConfigError, match=rf"{extension} needs one more package: pip install 'twoview\[scenes\]'$"):
            read(path)
    with pytest.raises(ConfigError, match=r"^here: a Basis texture needs one more package: pip install 'twoview\[scenes\]'$"):
        decode_picture(b"sB" + bytes(80), "here")


# --------------------------------------------------------------------------------------------- files beside, data URIs


@pytest.mark.parametrize(
    ("uri", "file"), [("a.bin", "a.bin"), ("my%20data/b%C3%A9.bin", "my data/bé.bin"), ("./my data/b.bin", "my data/b.bin")]
)
def test_bytes_beside_a_gltf(uri: str, file: str, made: Made, tmp_path: Path) -> None:
    (tmp_path / "wall paper.png").write_bytes(encoded(RED_GREEN_BLUE_GREY))
    texture = made.add("textures", source=made.add("images", uri="wall%20paper.png"))
    made.square(pbrMetallicRoughness={"baseColorTexture": {"index": texture}})
    path = made.write_gltf(tmp_path / "scene.gltf", uri, file)
    check_gltf(path)
    mesh = read_gltf(path)
    np.testing.assert_array_equal(mesh.parts[0].positions, CORNERS)
    np.testing.assert_array_equal(mesh.textures[0].image[..., :3], RED_GREEN_BLUE_GREY)


def test_bytes_in_data_uris(made: Made, tmp_path: Path) -> None:
    picture = "data:image/png;base64," + base64.b64encode(encoded(RED_GREEN_BLUE_GREY)).decode()
    texture = made.add("textures", source=made.add("images", uri=picture))
    made.square(pbrMetallicRoughness={"baseColorTexture": {"index": texture}})
    uri = "data:application/octet-stream;base64," + base64.b64encode(made.binary).decode()
    path = made.write_gltf(tmp_path / "scene.gltf", uri)
    check_gltf(path)
    np.testing.assert_array_equal(read_gltf(path).textures[0].image[..., :3], RED_GREEN_BLUE_GREY)


def test_the_bytes_say_whether_it_is_a_glb(made: Made, tmp_path: Path) -> None:
    made.node(mesh=made.mesh())
    assert read_gltf(made.write(tmp_path / "scene.gltf")).num_triangles == 2


# -------------------------------------------------------------------------------------------------------- bad inputs

DAMAGED = " (the file is damaged: copy or export it again)"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty" + DAMAGED),
        (b"version https://git-lfs", "not a GLB, it starts with b'vers' (is it another format, or a Git LFS pointer?)"),
        (b"glTF", "cut short, 4 of 20 bytes (copy or download it again)"),
        (
            struct.pack("<4s4I", b"glTF", 1, 20, 0, 0),
            "glTF 1.0 (convert it to glTF 2.0, for instance with npx gltf-pipeline)",
        ),
        (struct.pack("<4s4I", b"glTF", 2, 20, 0, 7), "its GLB header is damaged (copy or export it again)"),
        (struct.pack("<4s4I", b"glTF", 2, 20, 99, 0x4E4F534A), "its GLB header is damaged (copy or export it again)"),
        (packed(b'{"asset":'), "its JSON cannot be parsed: Expecting value: line 1 column 13 (char 12)" + DAMAGED),
        (packed(b'{"a":"\xff\xff"}'), "its JSON cannot be parsed: 'utf-8' codec can't decode"),
        (packed(b"[" * 100_000), "its JSON cannot be parsed: "),
        (packed(b"[]"), "its JSON is no object" + DAMAGED),
        (packed(b"{}"), "glTF unknown (convert it"),
        (packed(b'{"asset":{"version":"1.1"}}'), "glTF 1.1 (convert it"),
        (packed(b'{"asset":{"version":"2.0"}}'), "no triangles in it (give a scene with surfaces)"),
    ],
)
def test_files_that_are_no_scene(data: bytes, message: str, path: Path) -> None:
    path.write_bytes(data)
    assert refused(path, checked=True).startswith(message)


def test_no_such_file(tmp_path: Path) -> None:
    assert refused(tmp_path / "none.glb", checked=True) == "No such file or directory"
    assert refused(tmp_path, checked=True) == "Is a directory"


@pytest.mark.parametrize("extension", ["EXT_meshopt_compression", "ACME_anything"])
def test_an_extension_that_is_required_and_unknown(extension: str, made: Made, path: Path) -> None:
    made.json["extensionsRequired"] = ["KHR_materials_unlit", extension]
    made.node(mesh=made.mesh())
    made.write(path)
    expected = f"it requires {extension}, which is not read (write it without: npx @gltf-transform/cli cp IN.glb OUT.glb)"
    assert refused(path, checked=True) == expected


def test_missing_files_are_named(made: Made, tmp_path: Path) -> None:
    texture = made.add("textures", source=made.add("images", uri="wall%20paper.png"))
    made.square(pbrMetallicRoughness={"baseColorTexture": {"index": texture}})
    path = made.write_gltf(tmp_path / "scene.gltf", "a.bin")
    wanted = "(copy it to where the scene looks for it)"
    assert refused(path, checked=True) == f"buffers[0] is missing: {tmp_path / 'a.bin'} {wanted}"
    (tmp_path / "a.bin").write_bytes(made.binary[:-1])
    assert refused(path, checked=True) == f"buffers[0] has {len(made.binary) - 1} of {len(made.binary)} bytes" + DAMAGED
    (tmp_path / "a.bin").write_bytes(made.binary)
    assert refused(path, checked=True) == f"images[0] is missing: {tmp_path / 'wall paper.png'} {wanted}"
    made.json["images"][0]["uri"] = "https://example.org/a.png"
    made.write_gltf(path, "a.bin")
    assert refused(path, checked=True).startswith("images[0] is on the web, https://example.org/a.png (download it beside")


PNG = encoded(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
JPEG = encoded(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8), ".jpg")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"no picture", "images[0]: the picture cannot be decoded (export it as PNG or JPEG)"),
        (PNG[:-100], "images[0]: the picture is cut short (copy or export it again)"),
        (JPEG[:-100], "images[0]: the picture is cut short (copy or export it again)"),
        (PNG[:16] + b"\0\1\0\0" + PNG[20:], "images[0]: a picture of (65536, 64) px (the largest side is 16384 px)"),
        (b"sB" + bytes(100), "images[0]: the Basis texture cannot be decoded: "),
        (b"\xabKTX 20\xbb\r\n\x1a\n" + bytes(100), "images[0]: the Basis texture cannot be decoded: "),
    ],
)
def test_pictures_that_are_damaged(data: bytes, message: str, made: Made, path: Path) -> None:
    if "Basis" in message:
        pytest.importorskip("opengl_basisu", reason="opengl_basisu is absent: it finds what is wrong")
    made.square(pbrMetallicRoughness={"baseColorTexture": {"index": made.texture(data)}})
    made.write(path)
    assert refused(path).startswith(message)


def bend(made: Made, *keys: str | int, to: Any) -> None:
    """Set one value of the JSON, given the keys that lead to it."""
    at = made.json
    for key in keys[:-1]:
        at = at[key]  # type: ignore[index]
    at[keys[-1]] = to  # type: ignore[index]


@pytest.mark.parametrize(
    ("keys", "to", "message"),
    [
        (("accessors", 0, "count"), 99, "accessors[0] reaches beyond its buffer view: 99 rows of 12 bytes, and 48 bytes in all"),
        (("accessors", 0, "count"), -1, "count is -1"),
        (("accessors", 0, "count"), 1e400, "cannot convert float infinity to integer"),
        (("accessors", 0, "componentType"), 5130, "its JSON lacks or misuses 5130"),
        (("accessors", 0, "type"), "VEC2", "accessors[0] has 2 numbers a row where POSITION has 3"),
        (("accessors", 0, "bufferView"), 7, "bufferViews[7] is not in it"),
        (("accessors", 1, "type"), "MAT4", "its JSON lacks or misuses 'MAT4'"),
        (("accessors", 1, "componentType"), 5122, None),  # signed, though none is negative
        (("bufferViews", 0, "byteLength"), 1000, "bufferViews[0] reaches beyond its buffer: to byte 1000 of 60"),
        (("bufferViews", 0, "byteOffset"), "0", "byteOffset is '0'"),
        (("bufferViews", 0, "byteStride"), 4096, "accessors[0] reaches beyond its buffer view: 4 rows of 4096 bytes"),
        (("bufferViews", 0, "buffer"), 1, "buffers[1] is not in it"),
        (("meshes", 0, "primitives"), None, "'NoneType' object is not iterable"),
        (("meshes", 0, "primitives", 0, "material"), 0, "materials[0] is not in it"),
        (("meshes", 0, "primitives", 0, "attributes"), [], "no triangles in it"),
        (("nodes", 0, "mesh"), -1, "meshes[-1] is not in it"),
        (("nodes", 0, "matrix"), [1, 2], "cannot reshape array"),
        (("nodes", 0, "matrix"), [float("nan")] * 16, "no triangles in it"),
        (("nodes", 0, "children"), [0], "nodes[0] is in the scene twice, which glTF forbids (export it again)"),
        (("scene",), 5, "scenes[5] is not in it"),
        (("scenes", 0, "nodes"), [3], "nodes[3] is not in it"),
        (("buffers", 0, "byteLength"), 4000, "buffers[0] has 60 of 4000 bytes"),
    ],
)
def test_json_that_contradicts_itself(keys: tuple, to: Any, message: str | None, made: Made, path: Path) -> None:
    made.node(mesh=made.mesh())
    made.glb()
    bend(made, *keys, to=to)
    path.write_bytes(packed(json.dumps(made.json).encode(), made.binary))
    if message is None:
        assert read_gltf(path).num_triangles == 2
    else:
        assert refused(path).startswith(message)


def test_what_nobody_shows_may_be_missing(made: Made, tmp_path: Path) -> None:
    texture = made.add("textures", source=made.add("images", uri="none.png"))
    hidden = made.add("materials", pbrMetallicRoughness={"baseColorTexture": {"index": texture}})
    made.mesh(made.primitive(TEXCOORD_0=UV, material=hidden))  # in no node
    made.square(normalTexture={"index": texture})
    read(made, tmp_path / "scene.glb")


def test_an_index_without_a_vertex(made: Made, path: Path) -> None:
    made.node(mesh=made.mesh(made.primitive(indices=np.array([0, 1, 17], np.uint16))))
    made.write(path)
    assert refused(path) == "meshes[0].primitives[0]: index 17 of 4 vertices" + DAMAGED
    made.json["meshes"] = [{"primitives": [made.primitive(indices=np.array([0, 1, -1], np.int16))]}]
    made.write(path)
    assert "index 1 of 4 vertices" in refused(path)


def test_attributes_of_other_lengths(made: Made, path: Path) -> None:
    made.node(mesh=made.mesh(made.primitive(COLOR_0=np.ones((3, 4), np.float32))))
    made.write(path)
    assert refused(path) == "meshes[0].primitives[0]: its attributes differ in length" + DAMAGED


@pytest.fixture
def full(made: Made) -> bytes:
    """A scene with most of what can be in one: 0 or more bytes of it will be damaged."""
    made.json["extensionsRequired"] = ["KHR_texture_transform"]
    sampler = made.add("samplers", wrapS=33071)
    transform = {"KHR_texture_transform": {"offset": [0, 1], "rotation": 1.5, "scale": [0.5, 0.5]}}
    for data in (encoded(RGBA), encoded(RGBA, ".webp"), JPEG):
        info = {"index": made.texture(data, sampler=sampler), "extensions": transform}
        made.square(pbrMetallicRoughness={"baseColorTexture": info, "baseColorFactor": [1, 1, 1, 0.5]}, alphaMode="MASK")
    made.node(mesh=made.mesh(made.primitive(COLOR_0=np.ones((4, 3), np.float32), mode=5)), rotation=[0, 1, 0, 0])
    made.node(children=[made.node(None, mesh=0, scale=[-1, 1, 1])], matrix=np.eye(4).ravel().tolist())
    return made.glb()


def outcome(act: Callable[[Path], object], path: Path) -> str:
    """The one line that a file is refused with; "" where it is read. Whatever else is raised fails the test."""
    try:
        act(path)
    except UnreadableError as error:
        message = str(error)
    else:
        return ""
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def test_cut_short_anywhere(full: bytes, path: Path) -> None:
    for length in {*range(0, len(full), 41), *range(30), len(full) - 1}:
        path.write_bytes(full[:length])
        message = refused(path, checked=True)
        assert "cut short" in message or length in (0, 1, 2, 3), length


def test_flipped_bytes_never_end_in_a_traceback(full: bytes, path: Path) -> None:
    """Whatever two bytes are changed, a scene or one line comes out."""
    rng = np.random.default_rng(0)
    outcomes = []
    for _ in range(600):
        data = bytearray(full)
        for at in rng.integers(0, len(full), 2):
            data[at] ^= int(rng.integers(1, 256))
        path.write_bytes(data)
        outcomes.append(outcome(read_gltf, path) == "")
    assert 50 < sum(outcomes) < 550


def test_json_with_any_value_replaced_never_ends_in_a_traceback(full: bytes, path: Path) -> None:
    length = struct.unpack("<I", full[12:16])[0]
    spec, binary = json.loads(full[20 : 20 + length]), full[28 + length :]
    places: list[tuple[Any, Any]] = []
    todo: list[Any] = [spec]
    while todo:
        at = todo.pop()
        keys = range(len(at)) if isinstance(at, list) else list(at)
        places += [(at, key) for key in keys]
        todo += [at[key] for key in keys if isinstance(at[key], list | dict)]
    wrong = (None, -1, 3, 1 << 40, 0.5, "x", [], {}, True, [[1]], {"a": 1}, float("nan"))
    rng, num_refused = np.random.default_rng(0), 0
    for at, key in places:
        before, at[key] = at[key], wrong[rng.integers(len(wrong))]
        path.write_bytes(packed(json.dumps(spec).encode(), binary))
        at[key] = before
        for act in (read_gltf, check_gltf):
            num_refused += outcome(act, path) != ""
    assert num_refused > len(places) / 2
