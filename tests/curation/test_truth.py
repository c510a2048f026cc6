"""Overlap by depth and pose: against the reference file, against a ray test, and where it can be told by hand."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from twoview.curation.truth import Truth
from twoview.curation.views import stored_geometry, view_of
from twoview.demo import flat, glb
from twoview.errors import ConfigError
from twoview.geometry import look_up, share_seen
from twoview.render.camera import Camera, look
from twoview.render.gl import Gl
from twoview.render.load import load_mesh
from twoview.render.ray import Ray
from twoview.schema import OCCLUDED, OUTSIDE, UNKNOWN, Frame, Geometry

SHARED = Path(__file__).parents[3] / "shared"
REFERENCE, KITCHEN = SHARED / "parity" / "covisibility_redkitchen.json", SHARED / "data" / "rgbd_video_redkitchen"
needs_reference = pytest.mark.skipif(not (REFERENCE.exists() and KITCHEN.is_dir()), reason=f"no {REFERENCE} or {KITCHEN}")


def wall(depth_m: float | np.ndarray = 2.0, x_m: float = 0.0, z_m: float = 0.0, size: int = 112) -> Geometry:
    """A camera of 90 degrees before a wall, moved to the right and forwards."""
    pose = np.eye(4)
    pose[:3, 3] = x_m, 0, z_m
    depth = np.broadcast_to(np.float32(depth_m), (size, size)).copy()
    return Geometry(depth_m=depth, pose=pose, intrinsics=np.array([size / 2, size / 2, (size - 1) / 2, (size - 1) / 2]))


def overlaps(a: Geometry, b: Geometry) -> tuple[float, float]:
    match = Truth().measure(a, b)
    assert match.overlap_ab is not None
    assert match.overlap_ba is not None
    return match.overlap_ab, match.overlap_ba


@needs_reference
def test_equal_to_the_reference() -> None:
    """Overlap of the centre crops and of the whole frames within 0.5 points on all 900 pairs."""
    known = json.loads(REFERENCE.read_text())["pairs"]
    poses = np.loadtxt(KITCHEN / "poses.txt").reshape(-1, 4, 4)
    matrix = np.loadtxt(KITCHEN / "K.txt")
    whole: dict[int, Geometry] = {}
    for frame in {pair[view] for pair in known for view in "ab"}:
        depth_mm = cv2.imread(str(KITCHEN / f"depth/{frame:06d}.png"), cv2.IMREAD_UNCHANGED)
        depth = np.where(depth_mm == 65535, 0, depth_mm).astype(np.float32) / 1000
        whole[frame] = Geometry(depth_m=depth, pose=poses[frame], intrinsics=matrix[[0, 1, 0, 1], [0, 1, 2, 2]])
    square = {frame: stored_geometry(geometry, (80, 0, 560, 480), (480, 480)) for frame, geometry in whole.items()}
    for name, frames in (("overlap", square), ("overlap_full", whole)):
        off = [abs(min(overlaps(frames[pair["a"]], frames[pair["b"]])) - pair[name]) for pair in known]
        assert len(off) == 900
        assert max(off) < 0.005
        assert np.mean(off) < 0.001


def test_identity_and_shift() -> None:
    assert overlaps(wall(), wall()) == (1, 1)
    # 2 m away 4 m of the wall are seen: one metre to the right is a quarter of the picture, 14 of 56 columns
    assert overlaps(wall(), wall(x_m=1.0)) == (0.75, 0.75)
    assert overlaps(wall(), wall(x_m=4.1)) == (0, 0)


def test_the_close_up_lies_whole_in_the_wide_view() -> None:
    wide, close = wall(4.0), wall(2.0, z_m=2.0)
    ab, ba = overlaps(wide, close)
    assert ab == pytest.approx(0.25, abs=0.02)
    assert ba == 1
    assert Truth().measure(wide, close).overlap == ab


def test_symmetry() -> None:
    a, b = wall(), wall(x_m=0.7)
    assert overlaps(a, b) == overlaps(b, a)[::-1]


def test_what_befell_each_patch() -> None:
    """A quarter has left the picture, a column is hidden behind a post in b, a part of a has no depth."""
    depth = np.full((112, 112), 2.0)
    depth[:, 36:44] = 1.0
    holes = np.full((112, 112), 2.0)
    holes[:16, 104:] = 0
    match = Truth().measure(wall(holes), wall(depth, x_m=1.0))
    assert match.patches is not None
    seen = match.patches[0].reshape(14, 14)
    assert (seen[2:, :3] == OUTSIDE).all()
    assert (seen[2:, 8] == OCCLUDED).all()  # columns 36 to 43 of b, 28 px to the left of where they are in a
    assert (seen[:2, 13] == UNKNOWN).all()
    rows, columns = np.divmod(seen[4:, 10:], 14)
    assert (columns == np.arange(10, 14) - 3).all() or (columns == np.arange(10, 14) - 4).all()
    assert (rows == np.arange(4, 14)[:, None]).all()


def test_points_are_where_both_show_the_same() -> None:
    match = Truth().measure(wall(), wall(x_m=1.0))
    assert match.points is not None
    assert 0 < len(match.points) <= 196
    np.testing.assert_allclose(match.points[:, 0] - 0.25, match.points[:, 2], atol=0.01)
    np.testing.assert_allclose(match.points[:, 1], match.points[:, 3], atol=0.01)
    assert match.points.min() >= 0
    assert match.points.max() <= 1


def test_without_depth_nothing_is_known() -> None:
    match = Truth().measure(wall(0.0), wall())
    assert (match.found, match.failure, match.overlap) == (False, "no_depth", None)
    assert share_seen(look_up(wall(0.0), wall())[0]) is None


def test_a_floor_for_depth() -> None:
    depth = np.full((112, 112), 2.0)
    depth[:56] = 0
    assert Truth(min_depth=0.4).measure(wall(depth), wall()).found
    assert Truth(min_depth=0.6).measure(wall(depth), wall()).failure == "no_depth"
    assert Truth(min_depth=0.6).measure(wall(), wall(depth)).failure == "no_depth"
    with pytest.raises(ConfigError, match=r"--estimator\.min-depth"):
        Truth(min_depth=2.0)


def test_behind_the_camera_is_outside() -> None:
    """The wall in front of a lies behind b, which has gone through it."""
    assert overlaps(wall(2.0), wall(2.0, z_m=3.0))[0] == 0


def test_pixels_are_not_enough() -> None:
    with pytest.raises(ConfigError, match="needs depth and pose"):
        Truth().describe(np.zeros((8, 8, 3), np.uint8))
    view = view_of(Frame(id="x", image=np.zeros((64, 64, 3), np.uint8)), None, "centre", 64)
    with pytest.raises(ConfigError, match="needs depth and pose"):
        Truth().describe_view(view)


def test_geometry_is_cut_and_resized_with_its_picture() -> None:
    """What a pixel of the stored picture looks at is where the frame's pixels under it look."""
    rng = np.random.default_rng(0)
    frame = Geometry(
        depth_m=rng.uniform(1, 3, (480, 640)).astype(np.float32), pose=np.eye(4), intrinsics=np.array([585.0, 580.0, 320.0, 240.0])
    )
    view = view_of(Frame(id="x", image=np.zeros((480, 640, 3), np.uint8), geometry=frame), None, "centre", 160)
    assert view.crop == (80, 0, 560, 480)
    assert view.geometry is not None
    assert view.geometry.depth_m.shape == (160, 160)
    fx, fy, cx, cy = view.geometry.intrinsics
    for x, y in ((0, 0), (159, 0), (77, 121)):  # pixel x of 160 covers 3 x 3 px of the crop; its middle one is 3 x + 1
        there = (80 + 3 * x + 1, 3 * y + 1)
        assert view.geometry.depth_m[y, x] == pytest.approx(frame.depth_m[there[1], there[0]], abs=6e-4)
        assert (x - cx) / fx == pytest.approx((there[0] - 320) / 585)
        assert (y - cy) / fy == pytest.approx((there[1] - 240) / 580)


@pytest.mark.parametrize(("metres", "stored"), [(0.0, 0), (-1.0, 0), (np.nan, 0), (1.2344, 1.234), (65.535, 65.535), (70.0, 0)])
def test_depth_is_stored_in_millimetres(metres: float, stored: float) -> None:
    kept = stored_geometry(wall(metres), (0, 0, 112, 112), (112, 112))
    assert kept.depth_m[3, 4] == pytest.approx(stored, abs=1e-5)


def test_depth_of_gl_agrees_with_a_test_by_rays(tmp_path: Path) -> None:
    """Covisibility from the depth of rendered pictures, and by asking rays whether a point is in sight: within one point."""
    (tmp_path / "flat.glb").write_bytes(glb(flat()))
    mesh = load_mesh(tmp_path / "flat.glb")
    gl, ray = Gl(mesh), Ray(mesh)
    camera = Camera(width_px=224, height_px=224, hfov_deg=82.37)
    rng, off = np.random.default_rng(1), []
    views = ((2.0, 2.0, 30.0), (2.0, 2.0, 250.0), (9.0, 2.5, 170.0), (3.2, 4.5, 0.0), (3.2, 4.5, 190.0), (10.0, 7.0, 250.0))
    for x, z, heading in views:
        place = np.array([x, 1.5, z])
        poses = look(place, heading), look(place + rng.uniform(-0.3, 0.3, 3), heading + rng.uniform(-40, 40))
        a, b = (Geometry(depth_m=gl.render(p, camera).depth_m, pose=p, intrinsics=camera.intrinsics) for p in poses)
        by_depth = share_seen(look_up(a, b)[0])
        assert by_depth is not None
        fate = look_up(a, b)[0]
        inside = (fate == 0) | (fate == OCCLUDED)
        by_ray = _in_sight(ray, a, b)[inside].sum() / (fate != UNKNOWN).sum()
        off.append(by_depth - by_ray)
    assert np.abs(off).max() < 0.01


def _in_sight(ray: Ray, a: Geometry, b: Geometry) -> np.ndarray:
    """Whether nothing stands between b's eye and each point of a's lattice: one ray each, no picture."""
    at = np.rint((np.arange(56) + 0.5) * 4 - 0.5).astype(int)
    x, y = (v.ravel() for v in np.meshgrid(at, at))
    fx, fy, cx, cy = a.intrinsics
    depth = a.depth_m[y, x].astype(float)
    points = np.stack([(x - cx) / fx * depth, (y - cy) / fy * depth, depth], 1) @ a.pose[:3, :3].T + a.pose[:3, 3]
    eye = np.broadcast_to(b.pose[:3, 3].astype(np.float32), points.shape).copy()
    way = (points - b.pose[:3, 3]).astype(np.float32)
    hit = ray._scene.run(eye, way, query="DISTANCE")
    return hit > 0.95
