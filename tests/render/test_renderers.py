"""The renderers: against pictures of habitat-sim, against each other, and on made scenes of which everything is known."""

import gc
import json
import logging
from pathlib import Path

import cv2
import numpy as np
import pytest

from twoview.demo import flat, glb
from twoview.errors import ConfigError
from twoview.render import backends
from twoview.render.camera import Camera, Renderer, look
from twoview.render.gl import Gl
from twoview.render.load import load_mesh
from twoview.render.mesh import Mesh, Part, Texture
from twoview.render.ray import Ray
from twoview.schema import Geometry

SHARED = Path(__file__).parents[3] / "shared"
HABITAT, DATA = SHARED / "parity" / "habitat", SHARED / "data"
SCENES = {"apartment": DATA / "scene_apartment" / "apartment.glb", "gallery": DATA / "scene_vr_gallery" / "vr-gallery.glb"}
needs_reference = pytest.mark.skipif(not HABITAT.is_dir(), reason=f"no reference renders at {HABITAT}")
BOTH = pytest.mark.parametrize("kind", [Gl, Ray])
OPENGL_AXES = np.diag([1.0, -1.0, -1.0, 1.0])


def square(z: float, colour: tuple[float, float, float, float] = (1, 0, 0, 1), side: float = 2.0, **more: object) -> Part:
    """A square that faces +z, around the z axis."""
    h = side / 2
    corners = np.array([[-h, -h, z], [h, -h, z], [h, h, z], [-h, h, z]], np.float32)
    return Part(positions=corners, triangles=np.array([[0, 1, 2], [0, 2, 3]], np.int32), colour=colour, **more)


def mesh_of(*parts: Part, textures: tuple[Texture, ...] = ()) -> Mesh:
    return Mesh(name="made", parts=parts, textures=textures)


def front() -> np.ndarray:
    """A camera at the origin that looks along -z."""
    return look(np.zeros(3), 0.0)


@needs_reference
@pytest.mark.parametrize(("kind", "most"), [(Gl, 1.0), (Ray, 4.0)])
@pytest.mark.parametrize("scene", SCENES)
def test_pictures_and_depth_are_those_of_habitat(kind: type, most: float, scene: str) -> None:
    known = json.loads((HABITAT / scene / "reference.json").read_text())
    renderer = kind(load_mesh(SCENES[scene]))
    camera = Camera(width_px=known["size_px"], height_px=known["size_px"], hfov_deg=known["horizontal_fov_deg"])
    for i, pose in enumerate(known["camera_to_world_opengl"]):
        seen = renderer.render(np.array(pose) @ OPENGL_AXES, camera)
        image = cv2.imread(str(HABITAT / scene / f"{i:02d}.png"), cv2.IMREAD_COLOR_RGB)
        stored = np.load(HABITAT / scene / f"{i:02d}_depth.npy")
        depth = stored.astype(np.float64)
        both = (depth > 0) & (seen.depth_m > 0)
        assert (both == (depth > 0)).mean() > 0.999
        assert np.abs(seen.image.astype(int) - image)[both].mean() < most
        rounding = np.spacing(stored).astype(np.float64) / 2  # of the reference's float16
        beyond = np.abs(seen.depth_m - depth) - rounding
        assert np.percentile((beyond / (0.001 + 0.001 * depth))[both], 99) < 1


@needs_reference
@pytest.mark.parametrize("form", ["basis", "ktx2"])
def test_compressed_textures_look_like_the_jpeg_ones(form: str) -> None:
    """On the mean of the eight views; one of them stands before a wall, and the compressed textures have half the pixels."""
    known = json.loads((HABITAT / "apartment" / "reference.json").read_text())
    one, other = (Gl(load_mesh(DATA / "scene_apartment" / f"apartment{name}.glb")) for name in ("", f"_{form}"))
    off = []
    for pose in known["camera_to_world_opengl"]:
        a, b = (r.render(np.array(pose) @ OPENGL_AXES, Camera()) for r in (one, other))
        off.append(np.abs(a.image.astype(int) - b.image).mean())
        assert np.array_equal(a.depth_m, b.depth_m)
    assert np.mean(off) < 3
    assert np.max(off) < 8


@BOTH
def test_a_square_where_it_should_be(kind: type) -> None:
    """2 m wide, 2 m away, 90 degrees: half of the picture's width."""
    seen = kind(mesh_of(square(-2.0))).render(front(), Camera(width_px=64, height_px=48, hfov_deg=90))
    inside = seen.depth_m > 0
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    assert (columns[0], columns[-1], rows[0], rows[-1]) == (16, 47, 8, 39)
    assert inside[8:40, 16:48].all()
    np.testing.assert_allclose(seen.depth_m[inside], 2.0, rtol=1e-5)
    assert (seen.image[inside] == (255, 0, 0)).all()
    assert not seen.image[~inside].any()


@BOTH
def test_what_is_up_left_is_up_left(kind: type) -> None:
    """A texture of four colours: the picture shows it upright, not mirrored."""
    image = np.zeros((2, 2, 4), np.uint8)
    image[..., 3] = 255
    image[0, 0, 0] = image[0, 1, 1] = image[1, 0, 2] = 255
    uv = np.array([[0, 1], [1, 1], [1, 0], [0, 0]], np.float32)
    white = square(-1.0, (1, 1, 1, 1), uv=uv, texture=0)
    textures = (Texture(image=image, wrap=("clamp", "clamp")),)
    seen = kind(mesh_of(white, textures=textures)).render(front(), Camera(width_px=64, height_px=64)).image
    corners = [seen[y, x].tolist() for y, x in ((4, 4), (4, 59), (59, 4), (59, 59))]
    assert corners == [[255, 0, 0], [0, 255, 0], [0, 0, 255], [0, 0, 0]]


@BOTH
def test_colours_multiply(kind: type) -> None:
    texture = Texture(image=np.full((4, 4, 4), 128, np.uint8))
    part = square(
        -1.0,
        (1.0, 0.5, 0.25, 1.0),
        uv=np.zeros((4, 2), np.float32),
        texture=0,
        colours=np.tile(np.array([0.5, 1, 1, 1], np.float32), (4, 1)),
    )
    seen = kind(mesh_of(part, textures=(texture,))).render(front(), Camera(width_px=8, height_px=8)).image
    np.testing.assert_allclose(seen[4, 4].astype(int), [64, 64, 32], atol=1)


@BOTH
def test_backs_are_not_seen_unless_double_sided(kind: type) -> None:
    behind, camera = square(-3.0, (0, 1, 0, 1), side=8), Camera(width_px=16, height_px=16)
    turned = Part(positions=square(-1.0).positions, triangles=square(-1.0).triangles[:, ::-1].copy(), colour=(1, 0, 0, 1))
    seen = kind(mesh_of(turned, behind)).render(front(), camera)
    assert seen.depth_m[8, 8] == pytest.approx(3.0)
    assert seen.image[8, 8].tolist() == [0, 255, 0]
    both = Part(positions=turned.positions, triangles=turned.triangles, colour=(1, 0, 0, 1), double_sided=True)
    assert kind(mesh_of(both, behind)).render(front(), camera).depth_m[8, 8] == pytest.approx(1.0)


@BOTH
def test_cut_out_parts_let_through(kind: type) -> None:
    """A texture whose left half is transparent."""
    image = np.full((2, 8, 4), 255, np.uint8)
    image[:, :4, 3] = 0
    uv = np.array([[0, 1], [1, 1], [1, 0], [0, 0]], np.float32)
    fence = square(-1.0, (1, 0, 0, 1), uv=uv, texture=0, alpha_cutoff=0.5)
    textures = (Texture(image=image, wrap=("clamp", "clamp")),)
    wall = square(-3.0, (0, 1, 0, 1), side=8)
    seen = kind(mesh_of(fence, wall, textures=textures)).render(front(), Camera(width_px=32, height_px=32))
    assert seen.image[16, 4].tolist() == [0, 255, 0]
    assert seen.image[16, 28].tolist() == [255, 0, 0]
    np.testing.assert_allclose(seen.depth_m[16, [4, 28]], [3.0, 1.0], rtol=1e-5)


@BOTH
@pytest.mark.parametrize(("wrap", "expected"), [("repeat", [255, 0, 0]), ("clamp", [0, 0, 255])])
def test_textures_wrap(kind: type, wrap: str, expected: list[int]) -> None:
    """u runs from 0 to 2: beyond 1 the red left half comes again, or the blue right edge goes on."""
    image = np.zeros((4, 4, 4), np.uint8)
    image[..., 3] = 255
    image[:, :2, 0] = image[:, 2:, 2] = 255
    uv = np.array([[0, 1], [2, 1], [2, 0], [0, 0]], np.float32)
    part = square(-1.0, (1, 1, 1, 1), uv=uv, texture=0)
    textures = (Texture(image=image, wrap=(wrap, wrap)),)
    seen = kind(mesh_of(part, textures=textures)).render(front(), Camera(width_px=64, height_px=64))
    assert seen.image[32, 40].tolist() == expected


@BOTH
def test_far_textures_are_averaged(kind: type) -> None:
    """Black and white stripes far too fine for the picture read grey, not a pattern."""
    image = np.zeros((256, 256, 4), np.uint8)
    image[:, ::2, :3] = 255
    image[..., 3] = 255
    uv = np.array([[0, 1], [1, 1], [1, 0], [0, 0]], np.float32)
    part = square(-4.0, (1, 1, 1, 1), uv=uv, texture=0)
    seen = kind(mesh_of(part, textures=(Texture(image=image),))).render(front(), Camera(width_px=64, height_px=64))
    grey = seen.image[seen.depth_m > 0].astype(float)
    assert grey.mean() == pytest.approx(127, abs=4)
    assert grey.std() < 12


def test_both_draw_the_same_flat(tmp_path: Path) -> None:
    """But for thin lines on far walls: OpenGL leaves open how textures of odd sizes are halved."""
    (tmp_path / "flat.glb").write_bytes(glb(flat()))
    mesh = load_mesh(tmp_path / "flat.glb")
    gl, ray = Gl(mesh), Ray(mesh)
    for x, z, heading in ((2.0, 2.0, 30.0), (9.0, 2.5, 170.0), (3.2, 4.5, 0.0), (10.0, 7.0, 250.0)):
        pose = look(np.array([x, 1.5, z]), heading, 5.0, 3.0)
        a, b = (renderer.render(pose, Camera(width_px=128, height_px=96)) for renderer in (gl, ray))
        assert (a.depth_m > 0).all()
        assert np.abs(a.image.astype(int) - b.image).mean() < 8
        assert np.percentile(np.abs(a.depth_m - b.depth_m) / a.depth_m, 99) < 1e-4


def test_chunks_out_of_sight_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawn in pieces and only those in sight, or all at once: the same picture from anywhere, and work is saved."""
    rng = np.random.default_rng(0)
    corners = rng.uniform(-8, 8, (800, 1, 3)) + rng.uniform(-0.7, 0.7, (800, 3, 3))
    part = Part(
        positions=corners.reshape(-1, 3).astype(np.float32),
        triangles=np.arange(2400, dtype=np.int32).reshape(-1, 3),
        colours=np.append(rng.uniform(0, 1, (2400, 3)), np.ones((2400, 1)), axis=1).astype(np.float32),
        double_sided=True,
    )
    from twoview.render import gl

    pieces = Gl(mesh_of(part))
    monkeypatch.setattr(gl, "CHUNK_M", 1e9)
    whole = Gl(mesh_of(part))
    assert len(pieces._batches[0].first) > 100 > len(whole._batches[0].first)
    drawn = []
    for heading in range(0, 360, 50):
        pose = look(rng.uniform(-3, 3, 3), heading, rng.uniform(-40, 40))
        a, b = (r.render(pose, Camera(width_px=96, height_px=64, hfov_deg=70)) for r in (pieces, whole))
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.depth_m, b.depth_m)
        clip = gl._projection(Camera(width_px=96, height_px=64, hfov_deg=70)) @ np.linalg.inv(pose)
        drawn.append(gl._in_sight(clip, pieces._batches[0].low, pieces._batches[0].high).mean())
    assert np.mean(drawn) < 0.5


def test_a_scene_s_memory_is_given_back() -> None:
    """Ten scenes with a texture of 22 MB each, one after the other, take no more than a few of them."""
    psutil = pytest.importorskip("psutil")
    process, texture = psutil.Process(), Texture(image=np.zeros((2048, 2048, 4), np.uint8))
    part = square(-1.0, (1, 1, 1, 1), uv=np.zeros((4, 2), np.float32), texture=0)
    sizes = []
    for _ in range(12):
        renderer = Gl(mesh_of(part, textures=(texture,)))
        renderer.render(front(), Camera(width_px=16, height_px=16))
        del renderer
        gc.collect()
        sizes.append(process.memory_info().rss / 2**20)
    assert sizes[-1] - sizes[2] < 80


def test_the_same_picture_again(tmp_path: Path) -> None:
    (tmp_path / "flat.glb").write_bytes(glb(flat(3)))
    pose = look(np.array([2.0, 1.5, 2.0]), 77.0)
    one, other = (Gl(load_mesh(tmp_path / "flat.glb")).render(pose, Camera()) for _ in range(2))
    np.testing.assert_array_equal(one.image, other.image)
    np.testing.assert_array_equal(one.depth_m, other.depth_m)


def test_depth_and_pose_reproject_within_a_pixel(tmp_path: Path) -> None:
    """One view, fetched from the other through depth and pose, does not move against itself where both see the same."""
    (tmp_path / "flat.glb").write_bytes(glb(flat()))
    renderer = Gl(load_mesh(tmp_path / "flat.glb"))
    camera = Camera(width_px=224, height_px=224, hfov_deg=82.37)
    poses = look(np.array([2.0, 1.5, 2.0]), 250.0), look(np.array([2.6, 1.6, 2.3]), 262.0, 4.0, 2.0)
    a, b = (renderer.render(pose, camera) for pose in poses)
    fx, fy, cx, cy = camera.intrinsics
    y, x = np.mgrid[0:224, 0:224]
    depth = a.depth_m.astype(float)
    points = np.stack([(x - cx) / fx * depth, (y - cy) / fy * depth, depth, np.ones_like(depth)]).reshape(4, -1)
    u, v, w = (np.linalg.inv(poses[1]) @ poses[0] @ points)[:3].reshape(3, 224, 224)
    u, v = ((u / w * fx + cx).astype(np.float32), (v / w * fy + cy).astype(np.float32))
    fetched, there = (cv2.remap(seen, u, v, cv2.INTER_LINEAR) for seen in (b.image, b.depth_m))
    seen = cv2.erode(((w > 0) & (np.abs(there - w) < 0.02 * w)).astype(np.uint8), np.ones((15, 15)))
    greys = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (a.image, fetched)]
    corners = cv2.goodFeaturesToTrack(greys[0], 200, 0.01, 4, mask=seen)
    assert len(corners) > 60
    moved, found, _ = cv2.calcOpticalFlowPyrLK(*greys, corners, None, winSize=(11, 11), maxLevel=0)
    off = np.linalg.norm(moved - corners, axis=2)[found == 1]
    assert np.median(off) < 0.2
    assert np.percentile(off, 90) < 1


def test_look_turns_to_the_left_and_up() -> None:
    np.testing.assert_allclose(look(np.zeros(3), 90.0)[:3, 2], [-1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(look(np.zeros(3), 0.0, 90.0)[:3, 2], [0, 1, 0], atol=1e-12)
    pose = look(np.array([1.0, 2, 3]), 33.0, 12.0, 7.0)
    np.testing.assert_allclose(pose[:3, :3].T @ pose[:3, :3], np.eye(3), atol=1e-12)
    assert np.linalg.det(pose[:3, :3]) == pytest.approx(1)
    assert look(np.zeros(3), 0.0, 0.0, 10.0)[1, 0] < 0  # rolled clockwise, the camera's right side sinks


def test_intrinsics_of_a_crop() -> None:
    """The middle 224 of 256 px of 90 degrees see through the same focal length."""
    from twoview.sources.scene import CENTRE_HFOV_DEG

    whole, cut = Camera().intrinsics, Camera(width_px=224, height_px=224, hfov_deg=CENTRE_HFOV_DEG).intrinsics
    np.testing.assert_allclose(cut, whole - [0, 0, 16, 16], atol=1e-9)


def test_without_opengl_rays_are_cast_and_it_is_said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def refuse(mesh: Mesh) -> None:
        raise ConfigError("no OpenGL over EGL on this machine (made up)")

    mesh = mesh_of(square(-1.0))
    assert isinstance(backends.open_renderer(mesh, Path("x.glb"), None), Gl)
    monkeypatch.setattr(backends, "Gl", refuse)
    backends._note.cache_clear()
    with caplog.at_level(logging.WARNING, "twoview"):
        assert isinstance(backends.open_renderer(mesh, Path("x.glb"), None), Ray)
    assert "no OpenGL over EGL" in caplog.text
    with pytest.raises(ConfigError, match="no OpenGL"):
        backends.open_renderer(mesh, Path("x.glb"), None, "gl")
    monkeypatch.setattr(backends, "Ray", refuse)
    with pytest.raises(ConfigError, match="nothing here can render"):
        backends.open_renderer(mesh, Path("x.glb"), None)
    with pytest.raises(ConfigError, match="conda install"):
        backends.open_renderer(mesh, Path("x.glb"), None, "habitat")


def test_no_egl_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import moderngl

    from twoview.render import gl

    def refuse(**_: object) -> None:
        raise Exception("libEGL.so: cannot open shared object file")  # as glcontext does

    monkeypatch.setattr(moderngl, "create_context", refuse)
    gl._context.cache_clear()
    try:
        with pytest.raises(ConfigError, match=r"no OpenGL over EGL .*libEGL.so.*apt-get install libegl1"):
            Gl(mesh_of(square(-1.0)))
    finally:
        gl._context.cache_clear()


@BOTH
def test_they_are_renderers(kind: type) -> None:
    renderer = kind(mesh_of(square(-1.0)))
    assert isinstance(renderer, Renderer)
    assert renderer.name.startswith(kind.__name__.lower())


@pytest.mark.parametrize("bad", [{"width_px": 0}, {"height_px": 9000}, {"hfov_deg": 180}])
def test_cameras_that_cannot_be(bad: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="give"):
        Camera(**bad)


def test_geometry_is_what_a_rendering_gives() -> None:
    seen = Gl(mesh_of(square(-2.0))).render(front(), Camera(width_px=16, height_px=16))
    known = Geometry(depth_m=seen.depth_m, pose=front(), intrinsics=Camera(width_px=16, height_px=16).intrinsics)
    assert known.depth_m.dtype == np.float32
