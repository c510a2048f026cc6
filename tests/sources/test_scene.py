"""Walks through 3D scenes: drawn from the seed alone, spread, curated with depth and pose; and scenes that are none."""

import json
import shutil
import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

import twoview
from runs import curate, digests, litter
from runs import twoview as run
from twoview.cli import main
from twoview.errors import ConfigError, UnreadableError
from twoview.render.load import load_mesh
from twoview.schema import iter_groups
from twoview.shards import read_manifest, read_scenes
from twoview.sources import scene as scene_module
from twoview.sources.scene import SPREAD_DEG, SPREAD_M, Walk, Walks

WALK = ("--recipe", "walk", "--source.samples", "6")
DATA = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture(scope="module")
def walked(flat: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("walked") / "pairs"
    assert curate([flat], out, flags=WALK) == 0
    return out


def loaded(path: Path, **fields: object) -> Walk:
    scene = Walk(path, Walks(**fields))
    scene.load()
    return scene


# ------------------------------------------------------------------------------------------------------------- the walk


def test_scene_seed_and_sample_give_the_same_pictures(flat: Path) -> None:
    """Whatever the number of samples, and whatever was rendered before."""
    few, many = loaded(flat, samples=3), loaded(flat, samples=9)
    assert (len(few), len(many)) == (72, 216)
    many[5]
    for index in (48, 3, 71):
        a, b = few[index], many[index]
        assert a.id == b.id
        np.testing.assert_array_equal(a.image, b.image)
        assert a.geometry is not None
        assert b.geometry is not None
        np.testing.assert_array_equal(a.geometry.depth_m, b.geometry.depth_m)
        np.testing.assert_array_equal(a.geometry.pose, b.geometry.pose)


def test_another_seed_is_another_walk(flat: Path) -> None:
    one = loaded(flat, samples=3)
    walks = Walks(samples=3)
    object.__setattr__(walks, "seed", 1)
    other = Walk(flat, walks)
    assert not np.allclose(one.pose(0), other.pose(0))
    assert not np.allclose(Walk(flat, Walks(samples=3), name="other.glb").pose(0), one.pose(0))


def test_the_published_walk(flat: Path) -> None:
    """Eight headings a station; turns by multiples of 60 degrees; steps of at most a metre; one height between 1.2 and 1.8 m."""
    scene = loaded(flat, samples=40)
    assert scene.routes is not None
    eye, heading = scene.routes.eye_m, scene.routes.heading_deg
    turns = np.diff(heading, axis=1) / 60
    np.testing.assert_allclose(turns, np.rint(turns), atol=1e-9)
    assert set(np.rint(turns[:, 0]).astype(int)) == {1, 2, 4, 5}
    assert set(np.rint(turns[:, 1]).astype(int)) <= {0, 1, 2, 4, 5}
    steps = np.linalg.norm(np.diff(eye, axis=1), axis=2)
    assert steps.max() <= 1.0 + 0.05  # a cell
    assert (np.ptp(eye[:, :, 1], axis=1) < 1e-6).all()  # the floor is flat
    assert eye[..., 1].min() > 1.2
    assert eye[..., 1].max() < 1.8
    for view in range(8):
        ahead = scene.pose(view)[:3, 2]
        expected = np.deg2rad(heading[0, 0] + 45 * view)
        np.testing.assert_allclose(ahead, [-np.sin(expected), 0, -np.cos(expected)], atol=1e-9)


def test_candidates_are_a_with_b_and_a_with_c(flat: Path) -> None:
    """Those whose views look less than a field of view apart; before the scene is read, as many as a walk by 60 degrees has."""
    scene = Walk(flat, Walks(samples=5))
    groups = list(iter_groups(scene.groups()))
    assert [len(group.pairs) for group in groups] == [64] * 5
    assert all(group.pairs[0][0] == 24 * k for k, group in enumerate(groups))
    assert {(i % 24 // 8, j % 24 // 8) for group in groups for i, j in group.pairs} == {(0, 1), (0, 2)}
    scene.load()
    read = list(iter_groups(scene.groups()))
    assert len(read) == 5
    for k, group in enumerate(read):
        assert {i // 24 for pair in group.pairs for i in pair} == {k}
        assert {(i % 24 // 8, j % 24 // 8) for i, j in group.pairs} == {(0, 1), (0, 2)}
        for i, j in group.pairs:
            assert scene.pose(i)[:3, 2] @ scene.pose(j)[:3, 2] > np.cos(np.deg2rad(scene.walks.hfov_deg)) - 1e-9
        assert len(group.pairs) >= 48


def test_candidates_that_look_elsewhere_are_nothing_lost(flat: Path) -> None:
    """Of the candidates that are not proposed none would have been kept."""
    from twoview.curation.homography import Paper

    scene, paper = loaded(flat, samples=3), Paper()
    features = {i: paper.describe(scene[i].image) for i in range(len(scene))}
    groups = list(iter_groups(scene.groups()))
    lost = 0
    for sample in range(3):
        proposed = set(groups[sample].pairs)
        others = {(24 * sample + i, 24 * sample + j) for i in range(8) for j in range(8, 24)} - proposed
        lost += sum((paper.measure(features[i], features[j]).overlap or 0) >= 0.5 for i, j in others)
    assert lost == 0


def test_walks_are_spread(flat: Path) -> None:
    """Among 400 walks in one flat: no two pairs that may be kept have both views near in place and heading, in either order."""
    scene = loaded(flat, samples=400)
    routes = scene.routes
    assert routes is not None
    assert 0.3 < routes.free.mean() < 0.97  # the rule bites, and leaves much
    ends = [
        (np.append(routes.eye_m[k, 0], routes.heading_deg[k, 0]), np.append(routes.eye_m[k, s], routes.heading_deg[k, s]), k)
        for k in range(400)
        for leg, s in enumerate((1, 2))
        if routes.free[k, leg]
    ]

    def near(one: np.ndarray, other: np.ndarray) -> bool:
        turn = abs((one[3] - other[3] + 22.5) % 45 - 22.5)  # some view of one against some view of the other
        return bool(np.linalg.norm(one[:3] - other[:3]) < SPREAD_M and turn < SPREAD_DEG)

    for (a, b, k), (c, d, m) in combinations(ends, 2):
        if k != m:
            assert not (near(a, c) and near(b, d))
            assert not (near(a, d) and near(b, c))
    assert routes.refusal.count("near_another") == (~routes.free.any(1)).sum()


def test_random_walks_are_spread_within_a_walk_too(flat: Path) -> None:
    """Each leg keeps a pair of its own, so legs of one walk must not be near each other either."""
    scene = loaded(flat, walk="random", samples=40, stations=8)
    routes = scene.routes
    assert routes is not None
    used = [(k, s) for k in range(40) for s in range(7) if routes.free[k, s]]
    ends = np.concatenate([routes.eye_m, routes.heading_deg[..., None]], axis=2)
    for (k, s), (m, t) in combinations(used, 2):
        for order in ((0, 1), (1, 0)):
            away = ends[k, [s, s + 1]] - ends[m, [t, t + 1]][list(order)]
            turn = np.abs((away[:, 3] + 22.5) % 45 - 22.5)
            assert not ((np.linalg.norm(away[:, :3], axis=1) < SPREAD_M) & (turn < SPREAD_DEG)).all()
    assert not routes.free.all()


@pytest.mark.parametrize("kind", ["gltf", "obj"])
def test_changed_textures_are_noticed(kind: str, flat: Path, tmp_path: Path) -> None:
    """A picture, a buffer or a material beside the scene belongs to it."""
    if kind == "gltf":
        text = '{"asset": {"version": "2.0"}, "buffers": [{"uri": "a%20b.bin", "byteLength": 3}], "images": [{"uri": "wall.png"}]}'
        files = ["a b.bin", "wall.png"]
    else:
        text, files = "mtllib my colours.mtl\nv 0 0 0\n", ["my colours.mtl", "wall.png"]
    (tmp_path / f"room.{kind}").write_text(text)
    for name in files:
        (tmp_path / name).write_bytes(b"newmtl a\nmap_Kd wall.png\n" if name.endswith("mtl") else b"abc")
    known = [Walks()([tmp_path / f"room.{kind}"]).fingerprint(f"room.{kind}")[0]]
    for name in files:
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes() + b"# more\n")
        known.append(Walks()([tmp_path / f"room.{kind}"]).fingerprint(f"room.{kind}")[0])
    assert len(set(known)) == 3


def test_habitat_is_told_which_way_is_up(flat: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from twoview.render import backends

    asked = []
    monkeypatch.setattr(backends, "Habitat", lambda path, up: asked.append(up))
    for name, up in (("a.ply", None), ("a.glb", None), ("a.glb", "z")):
        backends.open_renderer(None, Path(name), up, "habitat")
    assert asked == ["z", "y", "z"]
    loaded(flat, samples=1, backend="habitat")
    assert asked[-1] == "y"
    monkeypatch.setattr(scene_module, "load_mesh", lambda path, up, linearise: load_mesh(flat))
    loaded(flat.with_suffix(".ply"), samples=1, backend="habitat")
    assert asked[-1] == "z"


def test_a_random_walk_pairs_neighbours(flat: Path) -> None:
    scene = loaded(flat, walk="random", samples=2, stations=5, headings=4)
    groups = list(iter_groups(scene.groups()))
    assert len(scene) == 40
    assert len(groups) == 8
    assert all(j % 20 // 4 - i % 20 // 4 == 1 for group in groups for i, j in group.pairs)


# ---------------------------------------------------------------------------------------------------------- curated


def test_pairs_with_depth_and_pose(walked: Path, flat: Path) -> None:
    pairs = twoview.open(walked)
    assert 4 <= len(pairs) <= 6
    scene = loaded(flat, samples=6)
    for pair in pairs:
        assert pair.a.shape == (224, 224, 3)
        assert pair.depth_a_m is not None
        assert pair.depth_b_m is not None
        frame = scene[pair.row.frame_index_a]
        assert frame.geometry is not None
        np.testing.assert_allclose(pair.depth_a_m, frame.geometry.depth_m, atol=6e-4)
        assert np.abs(pair.a.astype(int) - frame.image).mean() < 8  # JPEG
        np.testing.assert_allclose(np.reshape(pair.row.pose_a, (4, 4)), frame.geometry.pose)
        np.testing.assert_allclose(pair.row.intrinsics_b, scene.camera.intrinsics)
        assert 0.2 < min(pair.row.true_overlap_ab, pair.row.true_overlap_ba) <= 1
        assert 0.5 <= pair.row.overlap <= 0.7
    rows = read_manifest(walked)
    kept = rows.filter(rows["kept"])
    assert len(set(kept["group"].to_pylist())) == len(kept)
    assert not any(rows.filter(np.invert(rows["stored"].to_numpy()))["pose_a"].is_valid().to_pylist())
    scenes = read_scenes(walked).to_pylist()
    assert {(s["kind"], s["status"], s["source"], s["scene"]) for s in scenes} == {("scene", "ok", "scene", "flat.glb")}
    assert main(["audit", str(walked)]) == 0


def test_the_page_renders_refused_views_again(walked: Path, flat: Path, tmp_path: Path) -> None:
    """The very views: whatever name the scene had in its run; and none of a scene that is another one now."""
    from twoview.report.gallery import FootageAgain

    scenes = tmp_path / "scenes"
    scenes.mkdir()
    shutil.copy(flat, scenes)
    assert curate([scenes], tmp_path / "pairs", flags=(*WALK[:3], "2")) in (0, 4)
    config = json.loads((tmp_path / "pairs" / "config.json").read_text())
    refused = next(row for row in read_manifest(tmp_path / "pairs").to_pylist() if "overlap_low" in row["reasons"])
    again = FootageAgain(tmp_path / "pairs", config, 60.0)
    assert again.card(refused).a.startswith("data:image/jpeg")
    picture = again._open["scene", "scenes/flat.glb"]
    assert callable(picture)
    same = Walk(flat, Walks(samples=2), name="scenes/flat.glb")
    np.testing.assert_array_equal(picture(refused["frame_index_a"]), same[refused["frame_index_a"]].image)
    (scenes / "flat.glb").write_bytes(room(9.0))
    assert "is not, or not just, what was curated" in FootageAgain(tmp_path / "pairs", config, 60.0).card(refused).why


@pytest.mark.slow
def test_the_same_bytes_with_two_workers_and_after_a_stop(walked: Path, flat: Path, tmp_path: Path) -> None:
    done = run("curate", flat, "--out", tmp_path / "two", *WALK, "--workers", 2)
    assert done.returncode == 0
    assert digests(tmp_path / "two") == digests(walked)
    parts = len(list((walked / "manifest").iterdir()))
    assert parts > 2
    assert curate([flat], tmp_path / "share", "--parts", "1/3", flags=WALK) in (0, 4)
    assert 0 < len(list((tmp_path / "share" / "manifest").iterdir())) < parts
    assert curate([flat], tmp_path / "share", flags=WALK) == 0
    assert digests(tmp_path / "share") == digests(walked)
    assert litter(tmp_path / "share") == []


def test_kept_pairs_are_the_hardest_of_their_walk(walked: Path) -> None:
    rows = read_manifest(walked).to_pylist()
    for row in rows:
        if row["reasons"] == ["not_best"]:
            best = next(r for r in rows if r["group"] == row["group"] and r["kept"])
            assert best["overlap"] <= row["overlap"]
    assert any(row["reasons"] == ["not_best"] for row in rows)


def test_by_rays_it_is_much_the_same(walked: Path, flat: Path, tmp_path: Path) -> None:
    assert curate([flat], tmp_path / "rays", "--source.backend", "ray", "--limit", "1", flags=(*WALK[:3], "2")) == 0
    rows = {r["pair_id"]: r for r in read_manifest(walked).to_pylist()}
    rays = read_manifest(tmp_path / "rays").to_pylist()
    both = [(r["overlap"], rows[r["pair_id"]]["overlap"]) for r in rays if r["found"] and rows[r["pair_id"]]["found"]]
    assert len(both) > 20
    assert np.median([abs(a - b) for a, b in both]) < 0.03


def test_the_baseline_by_true_covisibility(flat: Path, tmp_path: Path) -> None:
    """CroCo's rule: at least half of either view is seen in the other, by depth. No sharpness, no matches."""
    assert curate([flat], tmp_path / "pairs", flags=("--recipe", "multiview_habitat", "--source.samples", "60")) == 0
    rows = read_manifest(tmp_path / "pairs").to_pylist()
    kept = [row for row in rows if row["kept"]]
    assert 10 < len(kept) < 60
    assert all(min(row["overlap_ab"], row["overlap_ba"]) >= 0.5 for row in kept)
    assert all(row["overlap_ab"] == row["true_overlap_ab"] for row in kept)
    assert all(row["overlap"] < 0.5 for row in rows if row["reasons"] == ["overlap_low"])
    pair = twoview.open(tmp_path / "pairs")[0]
    assert pair.a.shape == (256, 256, 3)
    fx = pair.row.intrinsics_a[0]
    assert np.rad2deg(2 * np.arctan(128 / fx)) == pytest.approx(60)


def test_the_baseline_over_a_mesh_with_z_up(tmp_path: Path) -> None:
    """As ScanNet's and Replica's: a PLY with colours of its vertices."""
    from twoview import demo

    panels = list(demo.box((0, 0, 0), (8.0, 2.7, 8.0), np.random.default_rng(0), inside=True))
    corners = [p.corner + i * p.along + j * p.down for p in panels for i, j in ((0, 0), (0, 1), (1, 1), (1, 0))]
    header = f"ply\nformat ascii 1.0\nelement vertex {len(corners)}\n"
    header += "".join(f"property float {axis}\n" for axis in "xyz") + "".join(
        f"property uchar {c}\n" for c in ("red", "green", "blue")
    )
    header += f"element face {len(panels)}\nproperty list uchar int vertex_indices\nend_header\n"
    lines = [f"{x} {-z} {y} {40 * k % 256} 90 {200 - k}\n" for k, (x, y, z) in enumerate(corners)]  # y up turned to z up
    faces = [f"4 {4 * k} {4 * k + 1} {4 * k + 2} {4 * k + 3}\n" for k in range(len(panels))]
    (tmp_path / "mesh.ply").write_text(header + "".join(lines) + "".join(faces))
    assert (
        curate([tmp_path / "mesh.ply"], tmp_path / "pairs", flags=("--recipe", "multiview_habitat", "--source.samples", "40")) == 0
    )
    kept = [row for row in read_manifest(tmp_path / "pairs").to_pylist() if row["kept"]]
    assert len(kept) > 4
    for row in kept:
        x, y, z = np.reshape(row["pose_a"], (4, 4))[:3, 3]
        assert 1.2 <= y <= 1.8  # above the floor, which lies at 0
        assert 0 < x < 8
        assert 0 < z < 8
        assert row["overlap"] >= 0.5


def test_random_walks_are_curated(flat: Path, tmp_path: Path) -> None:
    flags = ("--recipe", "random_walk", "--source.samples", "1", "--source.stations", "4")
    assert curate([flat], tmp_path / "pairs", flags=flags) == 0
    rows = read_manifest(tmp_path / "pairs").to_pylist()
    assert 1 <= len({row["group"] for row in rows if row["kept"]}) <= 3


def test_the_seed_and_the_size_are_the_runs(flat: Path, tmp_path: Path) -> None:
    assert curate([flat], tmp_path / "pairs", "--size", "128", "--seed", "5", flags=(*WALK[:3], "2", "--min-sharpness", "0")) == 0
    walks = Walks(samples=2)
    object.__setattr__(walks, "seed", 5)
    row = next(row for row in read_manifest(tmp_path / "pairs").to_pylist() if row["stored"])
    np.testing.assert_allclose(np.ravel(Walk(flat, walks).pose(row["frame_index_a"])), row["pose_a"])
    assert twoview.open(tmp_path / "pairs")[0].a.shape == (128, 128, 3)


# -------------------------------------------------------------------------------------- scenes that give nothing or are none


def room(side_m: float, picture: bool = True) -> bytes:
    """A room without furniture; without a picture it is plain."""
    from twoview import demo

    rng = np.random.default_rng(0)
    panels = list(demo.box((0, 0, 0), (side_m, 2.7, side_m), rng, inside=True))
    return demo.glb([p if picture else replace(p, texture=np.full_like(p.texture, 90)) for p in panels])


def test_a_tiny_scene_ends_with_a_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tiny.glb").write_bytes(room(3.0))
    assert curate([tmp_path / "tiny.glb"], tmp_path / "pairs", flags=WALK) == 4
    rows = read_manifest(tmp_path / "pairs").to_pylist()
    assert [row["reasons"] for row in rows] == [["small_floor"]] * 6
    assert "small_floor refused 6 of 6" in capsys.readouterr().err
    assert curate([tmp_path / "tiny.glb"], tmp_path / "more", "--source.min-island-radius-m", "1", flags=WALK) == 0


def test_an_untextured_scene_ends_with_a_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plain.glb").write_bytes(room(12.0, picture=False))
    assert curate([tmp_path / "plain.glb"], tmp_path / "pairs", flags=WALK) == 4
    assert {tuple(row["reasons"]) for row in read_manifest(tmp_path / "pairs").to_pylist()} == {("low_sharpness",)}
    assert "--min-sharpness 250" in capsys.readouterr().err


def test_one_bad_scene_does_not_lose_the_others(flat: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenes = tmp_path / "scenes"
    scenes.mkdir()
    whole = flat.read_bytes()
    (scenes / "good.glb").write_bytes(whole)
    (scenes / "cut.glb").write_bytes(whole[: len(whole) // 2])
    (scenes / "walls.glb").write_bytes(room(8.0).replace(b'"nodes":[0,1,2,3,4,5]', b'"nodes":[0,1,2,3]    '))
    assert curate([scenes], tmp_path / "pairs", flags=(*WALK[:3], "2")) == 3
    said = capsys.readouterr()
    assert "cut.glb: cut short" in said.err + said.out
    assert "walls.glb: no floor to walk on" in said.err + said.out
    status = {s["scene"]: s["status"] for s in read_scenes(tmp_path / "pairs").to_pylist()}
    assert status == {"scenes/good.glb": "ok", "scenes/cut.glb": "unreadable", "scenes/walls.glb": "unreadable"}
    assert any(row["kept"] for row in read_manifest(tmp_path / "pairs").to_pylist())


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--recipe", "paper"), "a 3D scene, which has to be walked through: add --recipe walk"),
        ((*WALK, "--source.samples", "0"), "--source.samples"),
        ((*WALK, "--source.forward-m", "2", "1"), "--source.forward-m"),
        ((*WALK, "--source.hfov-deg", "200"), "--source.hfov-deg"),
        ((*WALK, "--source.backend", "habitat"), "conda install"),
        ((*WALK, "--min-sharpness", "-1"), "--min-sharpness"),
    ],
)
def test_wrong_usage_is_one_line(
    flat: Path, tmp_path: Path, flags: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert curate([flat], tmp_path / "pairs", flags=flags) == 2
    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said


def test_a_missing_package_is_named_before_anything_is_written(
    flat: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "trimesh", None)
    assert curate([flat], tmp_path / "pairs", flags=WALK) == 2
    assert capsys.readouterr().err == "twoview: a 3D scene needs one more package: pip install 'twoview[scenes]'\n"
    assert not (tmp_path / "pairs").exists()


def test_videos_are_not_walked_through(walk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert curate([walk], tmp_path / "pairs", flags=WALK) == 2
    assert "not a 3D scene" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert curate([tmp_path / "empty"], tmp_path / "pairs", flags=WALK) == 2
    assert "no 3D scenes found" in capsys.readouterr().err


def test_a_scene_in_a_list_of_footage_is_named(flat: Path, walk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "list.txt").write_text(f"{walk}\n{flat}\n")
    flags = ("--recipe", "consecutive", "--propose.step", "5", "--size", "112", "--overlap", "0.1:0.95")
    assert curate([], tmp_path / "pairs", "--list", str(tmp_path / "list.txt"), flags=flags) == 3
    assert "flat.glb: a 3D scene" in capsys.readouterr().out


def test_only_walks_have_candidates_of_their_own(photos: Path) -> None:
    from twoview.curation.propose import AlongWalks
    from twoview.sources import find_footage

    scene = find_footage([photos]).open("photos")
    with pytest.raises(ConfigError, match="no walk through a 3D scene"):
        AlongWalks()(scene)


def test_a_frame_that_is_none(flat: Path) -> None:
    with pytest.raises(IndexError, match="frames 0 to 71"):
        loaded(flat, samples=3)[72]
    with pytest.raises(UnreadableError, match="No such file"):
        loaded(flat.with_name("nothing.glb"))


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no real scenes at {DATA}")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("scene", "code", "least"),
    [
        ("scene_apartment/apartment_basis.glb", 0, 1),
        ("scene_vr_gallery/vr-gallery.glb", 0, 1),
        ("scene_kitchen/kitchen-transformed.glb", 0, 1),
        ("scene_cube_room/cube-room/cube-room.gltf", 4, 0),
        ("scene_garage/garage/garage.gltf", 4, 0),
    ],
)
def test_real_scenes(scene: str, code: int, least: int, tmp_path: Path) -> None:
    """The garage is tiny, the cube room has hardly any texture: reasons, not errors."""
    assert curate([DATA / scene], tmp_path / "pairs", flags=(*WALK[:3], "16")) == code
    assert sum(row["kept"] for row in read_manifest(tmp_path / "pairs").to_pylist()) >= least
