"""The layout dust3r, read as DUSt3R's loader of ScanNet++ reads it: pictures, depth, poses, and nothing twice."""

import hashlib
import os.path as osp
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

import twoview
from twoview.cli import main
from twoview.dataset import Dataset
from twoview.errors import ConfigError
from twoview.exchange.exporting import export
from twoview.plan import Plan, write_plan
from twoview.schema import Row
from twoview.shards import ShardWriter, key_of, part_paths

SIZE = (24, 32)
SCENES = ("room", "a b/hall #2")
PAIRS = ((0, 1), (1, 2), (0, 2))
"""Of each scene: every frame is in two pairs."""


@dataclass(frozen=True)
class Shot:
    """A frame as it was taken."""

    jpeg: bytes
    depth_mm: np.ndarray
    pose: np.ndarray
    intrinsics: tuple[float, float, float, float]

    @property
    def columns(self) -> dict[str, Any]:
        sha256 = hashlib.sha256(self.jpeg).hexdigest()
        return {"pose": self.pose.ravel().tolist(), "intrinsics": list(self.intrinsics), "sha256": sha256}


def shot(scene: str, frame: int) -> Shot:
    rng = np.random.default_rng([SCENES.index(scene), frame])
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = turn, rng.normal(size=3)
    jpeg = cv2.imencode(".jpg", rng.integers(0, 255, (*SIZE, 3), np.uint8))[1].tobytes()
    depth_mm = rng.integers(0, 65536, SIZE).astype(np.uint16)
    return Shot(jpeg, depth_mm, pose, (20.0 + frame, 21.0 + frame, 15.5, 11.5))


def pair_of(scene: str, a: int, b: int) -> Row:
    pair_id = f"scene/{scene}/{a:06d}-{b:06d}"
    row = Row(
        key=key_of(pair_id),
        pair_id=pair_id,
        source="scene",
        scene=scene,
        group=pair_id,
        frame_index_a=a,
        frame_index_b=b,
        kept=True,
        stored=True,
        found=True,
        estimator="covisibility@1",
        overlap=0.5 + a / 10,
        patch_grid=[2, 2],
    )
    known = {
        f"{name}_{view}": value
        for view, frame in zip("ab", (a, b), strict=True)
        for name, value in shot(scene, frame).columns.items()
    }
    return replace(row, **known)


def write(out: Path, rows: list[Row], with_depth: bool = True) -> Dataset:
    for folder in ("shards", "scenes", "manifest"):
        (out / folder).mkdir(parents=True)
    write_plan(out, Plan((), "made"))
    with ShardWriter(out, 0) as shard:
        for row in rows:
            shots = [shot(row.scene, frame) for frame in (row.frame_index_a, row.frame_index_b)]
            depths = [cv2.imencode(".png", s.depth_mm)[1].tobytes() if with_depth else None for s in shots]
            patches, points = np.tile(np.arange(4, dtype=np.int16), (2, 1)), np.empty((0, 4), np.float32)
            shard.write_sample(row, shots[0].jpeg, shots[1].jpeg, patches, points, *depths)
    return twoview.open(out)


ROWS = [pair_of(scene, a, b) for scene in SCENES for a, b in PAIRS]


@pytest.fixture
def shots(tmp_path: Path) -> Dataset:
    return write(tmp_path / "pairs", ROWS)


@dataclass(frozen=True)
class View:
    image: np.ndarray
    depth_m: np.ndarray
    pose: np.ndarray
    intrinsics: np.ndarray
    scene: str
    name: str


class Loader:
    """What the loader does with a root: one npz, and two files a view."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        with np.load(osp.join(self.root, "all_metadata.npz")) as data:  # which refuses pickles
            self.scenes = data["scenes"]
            self.sceneids = data["sceneids"]
            self.images = data["images"]
            self.intrinsics = data["intrinsics"].astype(np.float32)
            self.trajectories = data["trajectories"].astype(np.float32)
            self.pairs = data["pairs"][:, :2].astype(int)
            self.scores = data["pairs"][:, 2]
            self.dtypes = {name: data[name].dtype for name in data}

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> list[View]:
        views = []
        for view in self.pairs[index]:
            scene, name = self.scenes[self.sceneids[view]], self.images[view]
            image = cv2.imread(osp.join(self.root, scene, "images", f"{name}.jpg"), cv2.IMREAD_COLOR_RGB)
            depth = cv2.imread(osp.join(self.root, scene, "depth", f"{name}.png"), cv2.IMREAD_UNCHANGED)
            depth_m = depth.astype(np.float32) / 1000
            views.append(View(image, depth_m, self.trajectories[view], self.intrinsics[view], str(scene), str(name)))
        return views


def files_of(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_every_pair_as_it_was_taken(shots: Dataset, tmp_path: Path) -> None:
    done = export(shots, "dust3r", tmp_path / "out")
    assert (done.num_pairs, done.listing) == (6, tmp_path / "out" / "all_metadata.npz")
    assert done.notes == (f"6 pictures of 2 scenes: {tmp_path / 'out'}",)
    loader = Loader(tmp_path / "out")
    assert len(loader) == len(ROWS)
    for i, row in enumerate(ROWS):
        pair = shots[i]
        for view, frame, image, depth_m in zip(
            loader[i], (row.frame_index_a, row.frame_index_b), (pair.a, pair.b), (pair.depth_a_m, pair.depth_b_m), strict=True
        ):
            taken = shot(row.scene, frame)
            assert np.array_equal(view.image, image)
            assert np.array_equal(view.depth_m, depth_m)
            assert np.array_equal(view.depth_m, taken.depth_mm / np.float32(1000))
            assert np.array_equal(view.pose, taken.pose.astype(np.float32))
            fx, fy, cx, cy = taken.intrinsics
            assert view.intrinsics.tolist() == [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]
        assert loader.scores[i] == row.overlap


def test_the_kinds_of_the_arrays(shots: Dataset, tmp_path: Path) -> None:
    export(shots, "dust3r", tmp_path / "out")
    loader = Loader(tmp_path / "out")
    assert (loader.dtypes["intrinsics"], loader.dtypes["trajectories"]) == (np.float32, np.float32)
    assert (loader.intrinsics.shape, loader.trajectories.shape) == ((6, 3, 3), (6, 4, 4))
    assert {loader.dtypes[name].kind for name in ("scenes", "images")} == {"U"}
    assert loader.dtypes["sceneids"].kind == "i"


def test_a_frame_of_two_pairs_is_written_once(shots: Dataset, tmp_path: Path) -> None:
    export(shots, "dust3r", tmp_path / "out")
    loader = Loader(tmp_path / "out")
    views = list(zip(loader.sceneids.tolist(), loader.images.tolist(), strict=True))
    assert len(views) == len(set(views)) == 6
    assert len(list((tmp_path / "out").rglob("*.jpg"))) == len(list((tmp_path / "out").rglob("*.png"))) == 6
    assert {int(n) for n in loader.pairs.ravel()} == set(range(6))


def test_scenes_are_folders_of_safe_names(shots: Dataset, tmp_path: Path) -> None:
    export(shots, "dust3r", tmp_path / "out")
    assert Loader(tmp_path / "out").scenes.tolist() == ["scene/room", "scene/a%20b/hall%20%232"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["all_metadata.npz", "export.json", "scene"]
    assert sorted(p.name for p in (tmp_path / "out" / "scene" / "a%20b" / "hall%20%232").iterdir()) == ["depth", "images"]


def test_pairs_without_a_pose(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, before anything is written, and what it says to do is enough."""
    nothing = {f"{name}_{view}": None for name in ("pose", "intrinsics") for view in "ab"}
    write(tmp_path / "pairs", [ROWS[0], replace(ROWS[1], **nothing), replace(ROWS[2], **nothing), *ROWS[3:]])
    assert main(["export", str(tmp_path / "pairs"), str(tmp_path / "out"), "--to", "dust3r"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"{tmp_path / 'pairs'}'): 6 pairs: 2 have no depth and pose, which this layout is made of" in said
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["export.json"]
    where = said.split('twoview select --where "')[1].split('"')[0]
    assert main(["select", str(tmp_path / "pairs"), "--name", "posed", "--where", where]) == 0
    assert main(["export", f"{tmp_path / 'pairs'}@posed", str(tmp_path / "out"), "--to", "dust3r"]) == 0
    loader = Loader(tmp_path / "out")
    assert len(loader) == 4
    assert [(view.scene, view.name) for view in loader[0]] == [("scene/room", "000000"), ("scene/room", "000001")]
    assert len(list((tmp_path / "out").rglob("*.jpg"))) == 2 + 3


@pytest.mark.parametrize("name", ["pose_a", "pose_b", "intrinsics_a", "intrinsics_b"])
def test_one_of_four_is_missing(name: str, tmp_path: Path) -> None:
    dataset = write(tmp_path / "pairs", [ROWS[0], replace(ROWS[1], **{name: None})])
    with pytest.raises(ConfigError, match="1 have no depth and pose"):
        export(dataset, "dust3r", tmp_path / "out")


def test_pairs_without_depth(tmp_path: Path) -> None:
    dataset = write(tmp_path / "pairs", ROWS, with_depth=False)
    with pytest.raises(ConfigError, match=f"pair {ROWS[0].key}: has poses and no depth, .*: select --drop leaves it out"):
        export(dataset, "dust3r", tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.jpg"))


def test_a_dataset_from_before_there_were_poses(shots: Dataset, tmp_path: Path) -> None:
    """Its manifest lacks the columns."""
    path = part_paths(shots.path, 0)[2]
    table = pq.read_table(path)
    pq.write_table(table.drop_columns([name for name in table.column_names if name.startswith(("pose_", "intrinsics_"))]), path)
    with pytest.raises(ConfigError, match="6 have no depth and pose"):
        export(twoview.open(shots.path), "dust3r", tmp_path / "out")


def test_a_pair_whose_overlap_is_not_known(tmp_path: Path) -> None:
    dataset = write(tmp_path / "pairs", [replace(ROWS[0], overlap=None), ROWS[1]])
    export(dataset, "dust3r", tmp_path / "out")
    loader = Loader(tmp_path / "out")
    assert np.isnan(loader.scores[0])
    assert loader.pairs.tolist() == [[0, 1], [1, 2]]


def stopping(after: int) -> Callable[[int, int], None]:
    def tell(num: int, total: int) -> None:
        if num == after:
            raise KeyboardInterrupt

    return tell


def test_it_goes_on(shots: Dataset, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        export(shots, "dust3r", tmp_path / "out", stopping(2))
    assert not (tmp_path / "out" / "all_metadata.npz").exists()  # it is there only if all is
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert len(before) == 1 + 3 * 2
    export(shots, "dust3r", tmp_path / "out")
    assert all(p.stat().st_mtime_ns == then for p, then in before.items())
    export(shots, "dust3r", tmp_path / "whole")
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")
