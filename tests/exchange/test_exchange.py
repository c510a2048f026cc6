"""Out to other programs and back: the same pairs, the same patches, the same bytes."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import webdataset as wds

import twoview
from runs import twoview as command
from twoview.audit import dataset_plan, faults
from twoview.cli import main
from twoview.dataset import Dataset
from twoview.errors import BrokenDatasetError, ConfigError, TryLaterError
from twoview.exchange import exporting, importing
from twoview.exchange.exporting import EXPORTS, export, safe_name, smaller_direction
from twoview.exchange.importing import identity, import_pairs
from twoview.plan import Plan, Slice, write_plan
from twoview.schema import Row
from twoview.shards import ShardWriter, finished_parts, key_of, read_manifest, read_scenes


@pytest.fixture
def pairs(wide: Path) -> Dataset:
    return twoview.open(wide)


def files_of(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def jpegs(dataset: Dataset) -> set[tuple[bytes, bytes]]:
    return {(f["a.jpg"], f["b.jpg"]) for f in (dataset.files(i) for i in range(len(dataset)))}


# --------------------------------------------------------------------------------------------------------------- mimic


def test_mimic_as_published(pairs: Dataset, tmp_path: Path) -> None:
    """Read the way the layout is described, with nothing of ours."""
    done = export(pairs, "mimic", tmp_path / "mimic")
    assert (done.num_pairs, done.listing) == (len(pairs), tmp_path / "mimic" / "pairs.csv")
    with done.listing.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert set(lines[0]) == {"path1", "path2"}
    for i, line in enumerate(lines):
        first, second = (tmp_path / "mimic" / line[name] for name in ("path1", "path2"))
        assert (first.name, second.name, first.parent) == ("0000.jpg", "0001.jpg", second.parent)
        files = pairs.files(i)
        assert (first.read_bytes(), second.read_bytes()) == (files["a.jpg"], files["b.jpg"])
        mapping = np.load(first.with_name("corresponding.npy"), allow_pickle=True).item()
        assert type(mapping) is dict
        assert all(type(n) is int and 0 <= n < 196 for pair in mapping.items() for n in pair)
        assert len(mapping) / 196 == pytest.approx(pairs[i].row.overlap)


def test_mimic_there_and_back(pairs: Dataset, tmp_path: Path) -> None:
    export(pairs, "mimic", tmp_path / "mimic")
    done = import_pairs(tmp_path / "mimic", "mimic", tmp_path / "back")
    assert (done.num_pairs, done.num_unreadable, done.notes) == (len(pairs), 0, ())
    back = twoview.open(tmp_path / "back")
    assert back.keys.equals(pairs.keys)
    for old, new in zip(pairs, back, strict=True):
        assert new.row.pair_id == old.row.pair_id
        assert (new.row.sha256_a, new.row.sha256_b, new.row.phash_a) == (old.row.sha256_a, old.row.sha256_b, old.row.phash_a)
        assert np.array_equal(new.a, old.a)
        assert np.array_equal(new.b, old.b)
        assert smaller_direction(new.patches) == smaller_direction(old.patches)
        assert new.row.overlap == new.row.overlap_ab == pytest.approx(old.row.overlap)
        assert new.row.overlap_ba is None  # the layout holds one direction
        assert set(np.unique(new.patches[1])) <= {-3, *range(196)}
        assert (new.row.estimator, new.row.patch_grid, new.row.found) == ("mimic", [14, 14], True)
    assert jpegs(back) == jpegs(pairs)
    assert faults(tmp_path / "back", dataset_plan(tmp_path / "back")) == []


def test_one_direction_is_enough_for_every_reader(pairs: Dataset, tmp_path: Path) -> None:
    """overlap_ba is null in what an import wrote."""
    export(pairs, "mimic", tmp_path / "mimic")
    import_pairs(tmp_path / "mimic", "mimic", tmp_path / "back")
    assert set(read_manifest(tmp_path / "back")["overlap_ba"].to_pylist()) == {None}
    assert main(["select", str(tmp_path / "back"), "--name", "some", "--overlap", "0.7:0.75", "--where", "overlap_ba is null"]) == 0
    for name in ("back", "back@some"):
        assert main(["audit", str(tmp_path / name)]) == 0
    export(twoview.open(tmp_path / "back"), "mimic", tmp_path / "again")
    files = files_of(tmp_path / "again")
    assert {k: v for k, v in files.items() if k != "export.json"} == {
        k: v for k, v in files_of(tmp_path / "mimic").items() if k != "export.json"
    }


def test_the_smaller_direction_counts() -> None:
    patches = np.full((2, 4), -1, np.int16)
    patches[0, [0, 2, 3]] = [1, 3, 0]
    patches[1, [3, 1]] = [2, 0]
    assert smaller_direction(patches) == {0: 1, 2: 3}  # a to b, though it is b that shares less
    assert list(smaller_direction(patches)) == [0, 2]
    assert smaller_direction(patches[::-1]) == {1: 0, 3: 2}


def test_another_grid_comes_back(walk: Path, tmp_path: Path) -> None:
    assert (
        main(["curate", str(walk), "--out", str(tmp_path / "a"), "--workers", "1", "--recipe", "paper", "--estimator.grid", "16"])
        == 0
    )
    export(twoview.open(tmp_path / "a"), "mimic", tmp_path / "mimic")
    import_pairs(tmp_path / "mimic", "mimic", tmp_path / "b")
    for old, new in zip(twoview.open(tmp_path / "a"), twoview.open(tmp_path / "b"), strict=True):
        assert new.patches.shape == (2, 256)
        assert new.row.overlap == old.row.overlap


# --------------------------------------------------------------------------------------------------------------- croco


def croco_reads(listing: Path) -> list[tuple[str, str]]:
    """What CroCo's loader makes of a list: its lines, the first two words of each, from its folder."""
    words = [line.split() for line in listing.read_text().strip().splitlines()]
    return [(os.path.join(listing.parent, first), os.path.join(listing.parent, second)) for first, second, *_ in words]


@pytest.fixture
def large(walk: Path, tmp_path: Path) -> Dataset:
    """Of 256 px, as CroCo wants them."""
    assert main(["curate", str(walk), "--out", str(tmp_path / "large"), "--workers", "1", "--overlap", "0.4:0.9"]) == 0
    return twoview.open(tmp_path / "large")


def test_croco_as_its_loader_reads_it(large: Dataset, tmp_path: Path) -> None:
    done = export(large, "croco", tmp_path / "data")
    assert done.listing == tmp_path / "data" / "habitat_release" / "pairs.txt"
    read = croco_reads(done.listing)
    assert len(read) == len(large) > 3
    for i, (first, second) in enumerate(read):
        files = large.files(i)
        assert (Path(first).read_bytes(), Path(second).read_bytes()) == (files["a.jpg"], files["b.jpg"])
        assert min(cv2.imread(first).shape[:2]) >= 224
    assert all(line.count(" ") == 1 for line in done.listing.read_text().splitlines())


def test_croco_there_and_back(large: Dataset, tmp_path: Path) -> None:
    export(large, "croco", tmp_path / "data")
    for path in (tmp_path / "data", tmp_path / "data" / "habitat_release", tmp_path / "data" / "habitat_release" / "pairs.txt"):
        out = tmp_path / f"back {len(str(path))}"
        assert import_pairs(path, "croco", out).num_pairs == len(large)
        back = twoview.open(out)
        assert jpegs(back) == jpegs(large)
        assert {(p.patches.size, p.points.shape, p.row.overlap, p.row.found) for p in back} == {(0, (0, 4), None, None)}
        assert faults(out, dataset_plan(out)) == []
    again = export(back, "mimic", tmp_path / "as mimic")
    assert again.notes == (f"{len(large)} pairs have no patches, so no corresponding.npy",)


def test_croco_wants_224_px(pairs: Dataset, tmp_path: Path) -> None:
    """`wide` was stored at 128."""
    with pytest.raises(ConfigError, match=r"are 128 x 128 px, and CroCo's loader cuts 224 px out of each: curate with --size 224"):
        export(pairs, "croco", tmp_path / "data")
    assert not (tmp_path / "data" / "habitat_release").exists()


# ---------------------------------------------------------------------------------------------- pairs-txt and webdataset


def test_each_frame_is_written_once(pairs: Dataset, tmp_path: Path) -> None:
    done = export(pairs, "pairs-txt", tmp_path / "sfm")
    lines = [line.split(" ") for line in done.listing.read_text().splitlines()]
    assert len(lines) == len(pairs)
    names = {name for line in lines for name in line}
    assert {str(p.relative_to(tmp_path / "sfm" / "images")) for p in (tmp_path / "sfm" / "images").rglob("*.jpg")} == names
    assert len(names) < 2 * len(pairs)
    for i, (first, second) in enumerate(lines):
        files = pairs.files(i)
        assert (tmp_path / "sfm" / "images" / first).read_bytes() == files["a.jpg"]
        assert (tmp_path / "sfm" / "images" / second).read_bytes() == files["b.jpg"]
    assert done.notes == (f"{len(names)} pictures: {tmp_path / 'sfm' / 'images'}",)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_repacked_tars(pairs: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "TAR_SAMPLES", 4)
    export(pairs, "webdataset", tmp_path / "tars")
    tars = sorted((tmp_path / "tars").glob("*.tar"))
    assert len(tars) == -(-len(pairs) // 4) > 1
    read = [sample for tar in tars for sample in wds.WebDataset(str(tar), shardshuffle=False)]
    assert [sample["__key__"] for sample in read] == sorted(pairs.keys.to_pylist())
    assert {(sample["a.jpg"], sample["b.jpg"]) for sample in read} == jpegs(pairs)
    subprocess.run(["tar", "tf", str(tars[0])], check=True, capture_output=True)
    export(pairs, "webdataset", tmp_path / "again")
    assert {k: v for k, v in files_of(tmp_path / "again").items() if k != "export.json"} == {
        k: v for k, v in files_of(tmp_path / "tars").items() if k != "export.json"
    }


def test_tars_end_with_the_sample_that_fills_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "TAR_BYTES", 100)
    assert list(exporting._tars([60, 60, 60, 10])) == [(0, 2), (2, 4)]
    assert list(exporting._tars([100, 100])) == [(0, 1), (1, 2)]


# ------------------------------------------------------------------------------------------------------ names and choice


def made(out: Path, scenes: list[str], picture: bytes, depth: bytes | None = None, **more: Any) -> Dataset:
    """A dataset of one stored pair a scene. more: of its row."""
    for folder in ("shards", "scenes", "manifest"):
        (out / folder).mkdir(parents=True)
    piece = Slice(
        part=0,
        source="s",
        scene="x",
        kind="images",
        start=0,
        stop=1,
        num_frames=1,
        num_candidates=1,
        num_pairs=1,
        size_bytes=0,
        fingerprint="",
        licence=None,
        error="",
    )
    write_plan(out, Plan((piece,), "sha"))
    with ShardWriter(out, 0) as shard:
        for scene in scenes:
            pair_id = f"my set/{scene}/000001-000002"
            row = Row(
                key=key_of(pair_id),
                pair_id=pair_id,
                source="my set",
                scene=scene,
                group=pair_id,
                frame_index_a=1,
                frame_index_b=2,
                kept=True,
                stored=True,
                estimator="paper@1",
                patch_grid=[14, 14],
                sha256_a="same",
                sha256_b="same",
            )
            patches = np.tile(np.arange(196, dtype=np.int16), (2, 1))
            shard.write_sample(replace(row, **more), picture, picture, patches, np.empty((0, 4), np.float32), depth, depth)
    return twoview.open(out)


ODD = [
    "a b",
    'c,"d"',
    "../../etc",
    "..",
    "a%20b",
    "日本/語",
    "x\ty",
    "n\nl",
    "/abs",
    "e" * 255,
    "e" * 254 + "f",
    "a/./b",
    "tail/",
    ".hidden",
]


@pytest.mark.parametrize("to", ["mimic", "pairs-txt", "croco"])
def test_odd_names_stay_inside_and_apart(to: str, tmp_path: Path) -> None:
    picture = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 255, (224, 224, 3), np.uint8))[1].tobytes()
    dataset = made(tmp_path / "odd", ODD, picture)
    export(dataset, to, tmp_path / "deep" / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["deep", "odd"]
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["out"]
    pictures = list((tmp_path / "deep" / "out").rglob("*.jpg"))
    assert len(pictures) == 2 * len(ODD)
    listing = next((tmp_path / "deep" / "out").rglob("pairs.*"))
    if to != "mimic":
        assert len(croco_reads(listing)) == len(ODD)
        return
    import_pairs(tmp_path / "deep" / "out", "mimic", tmp_path / "back")
    back = twoview.open(tmp_path / "back")
    short = [s for s in ODD if len(s) < 200 and s not in ("/abs", "a/./b", "tail/")]
    assert {f"my set/{scene}/000001-000002" for scene in short} <= {p.row.pair_id for p in back}
    assert len(back) == len(ODD)


def test_a_name_that_does_not_come_back_is_told(tmp_path: Path) -> None:
    picture = cv2.imencode(".jpg", np.zeros((32, 32, 3), np.uint8))[1].tobytes()
    assert export(made(tmp_path / "short", ["a b", "日本"], picture), "mimic", tmp_path / "1").notes == ()
    (note,) = export(made(tmp_path / "long", ["a b", "e" * 300, "f" * 201], picture), "mimic", tmp_path / "2").notes
    assert note.startswith(f"2 scenes have names that no folder can have, as my set/{'e' * 300}: an import calls it my set/eeee")
    import_pairs(tmp_path / "2", "mimic", tmp_path / "back")
    called = {f"{p.row.source}/{p.row.scene}" for p in twoview.open(tmp_path / "back")}
    assert note.rpartition(" ")[2] in {name.replace("my set/", "set/") for name in called}


def test_samples_with_depth(tmp_path: Path) -> None:
    """Every layout takes them; repacked tars carry it, as the dataset's own do."""
    picture = cv2.imencode(".jpg", np.zeros((224, 224, 3), np.uint8))[1].tobytes()
    depth = cv2.imencode(".png", np.full((224, 224), 1500, np.uint16))[1].tobytes()
    known = {"pose": np.eye(4).ravel().tolist(), "intrinsics": [200.0, 200.0, 111.5, 111.5]}
    more = {f"{name}_{view}": value for name, value in known.items() for view in "ab"}
    dataset = made(tmp_path / "set", ["x", "y"], picture, depth, **more)
    for to in EXPORTS:
        assert export(dataset, to, tmp_path / to).num_pairs == 2
        pictures = list((tmp_path / to).rglob("*.jpg"))
        assert {path.read_bytes() for path in pictures} == (set() if to == "webdataset" else {picture})
        assert {path.read_bytes() for path in (tmp_path / to).rglob("*.png")} == ({depth} if to == "dust3r" else set())
    (tar,) = (tmp_path / "webdataset").glob("*.tar")
    with tarfile.open(tar) as packed:
        names = [name.partition(".")[2] for name in packed.getnames()]
        contents = [file.read() for entry in packed if entry.name.endswith(".depth.png") and (file := packed.extractfile(entry))]
    assert names == ["a.jpg", "b.jpg", "patches.npy", "points.npy", "a.depth.png", "b.depth.png", "json"] * 2
    assert contents == [depth] * 4


def test_safe_names() -> None:
    assert safe_name("video/a b.mp4/x") == "video/a%20b.mp4/x"
    assert safe_name("../a") == "%2E%2E/a"
    assert all(len(part) <= 255 for part in safe_name("é" * 255).split("/"))
    assert len({safe_name(name) for name in ODD}) == len(ODD)


def test_a_selection_is_exported(wide: Path, tmp_path: Path) -> None:
    shutil.copytree(wide, tmp_path / "wide")
    assert main(["select", str(tmp_path / "wide"), "--name", "few", "--where", "scene = 'walk.mp4'"]) == 0
    few = twoview.open(tmp_path / "wide", "few")
    assert 0 < len(few) < len(twoview.open(wide))
    for to in EXPORTS:
        if to not in ("croco", "dust3r"):  # of 128 px, without depth
            assert main(["export", f"{tmp_path / 'wide'}@few", str(tmp_path / to), "--to", to]) == 0
    assert len((tmp_path / "mimic" / "pairs.csv").read_text().splitlines()) == len(few) + 1


# ------------------------------------------------------------------------------------------------- stopped, and going on


def stopping(after: int) -> Callable[[int, int], None]:
    def tell(num: int, total: int) -> None:
        if num == after:
            raise KeyboardInterrupt

    return tell


@pytest.mark.parametrize("to", ["mimic", "pairs-txt", "webdataset"])
def test_an_export_goes_on(to: str, pairs: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "TAR_SAMPLES", 2)
    with pytest.raises(KeyboardInterrupt):
        export(pairs, to, tmp_path / "out", stopping(4))
    assert not list((tmp_path / "out").glob("pairs.*"))  # the list is there only if all is
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*") if p.is_file() and p.suffix != ".partial"}
    assert len(before) >= 2
    export(pairs, to, tmp_path / "out")
    assert all(p.stat().st_mtime_ns == then for p, then in before.items())
    export(pairs, to, tmp_path / "whole")
    assert {k: v for k, v in files_of(tmp_path / "out").items() if not k.endswith(".partial")} == files_of(tmp_path / "whole")


def test_stopped_in_words(
    pairs: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("twoview.exchange.export", stopped)
    assert main(["export", str(pairs.path), str(tmp_path / "out"), "--to", "mimic"]) == 130
    assert capsys.readouterr().err == "\nstopped: the same command goes on\n"


def test_a_folder_of_something_else_is_left(pairs: Dataset, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    for folder, other in (("mine", pairs), ("first", pairs[1:])):
        if folder == "first":
            export(pairs, "mimic", tmp_path / folder)
        before = files_of(tmp_path / folder)
        with pytest.raises(ConfigError, match="is not empty, and no earlier run of this export"):
            export(other, "mimic", tmp_path / folder)
        assert files_of(tmp_path / folder) == before


@pytest.mark.parametrize("to", ["mimic", "webdataset"])
@pytest.mark.parametrize("other", [["--size", "224"], ["--seed", "7"]], ids=["size", "seed"])
def test_other_content_of_the_same_pairs(other: list[str], to: str, walk: Path, tmp_path: Path) -> None:
    """Another size or seed gives pairs of the same ids: nothing of the earlier export may stay."""
    flags = ["--recipe", "released", "--size", "112", "--overlap", "0:1", "--propose.seconds", "1", "--workers", "1"]
    for name, more in (("a", []), ("b", other)):
        assert main(["curate", str(walk), "--out", str(tmp_path / name), *flags, *more]) == 0
    first, second = (twoview.open(tmp_path / name) for name in "ab")
    assert second.keys.equals(first.keys)
    export(first, to, tmp_path / "out")
    before = files_of(tmp_path / "out")
    with pytest.raises(
        ConfigError, match="out is not empty, and no earlier run of this export: give a folder that is new or empty"
    ):
        export(second, to, tmp_path / "out")
    export(first, to, tmp_path / "out")
    assert files_of(tmp_path / "out") == before


@pytest.mark.parametrize("to", ["mimic", "webdataset"])
def test_pairs_whose_rows_are_alike(to: str, tmp_path: Path) -> None:
    """One byte of a picture differs, and neither its row nor its size: the tar says so."""
    picture = bytearray(cv2.imencode(".jpg", np.zeros((32, 32, 3), np.uint8))[1].tobytes())
    first = made(tmp_path / "a", ["x"], bytes(picture))
    picture[100] ^= 1  # of a table
    second = made(tmp_path / "b", ["x"], bytes(picture))
    assert first.manifest().equals(second.manifest())
    export(first, to, tmp_path / "out")
    with pytest.raises(ConfigError, match="is not empty, and no earlier run of this export"):
        export(second, to, tmp_path / "out")


def test_what_could_not_be_written_leaves_the_folder_free(pairs: Dataset, tmp_path: Path) -> None:
    """A refusal of one layout does not stand in the way of another."""
    with pytest.raises(ConfigError, match="CroCo's loader cuts"):
        export(pairs, "croco", tmp_path / "out")
    assert export(pairs[1:], "mimic", tmp_path / "out").num_pairs == len(pairs) - 1
    assert json.loads((tmp_path / "out" / "export.json").read_text())["to"] == "mimic"
    (tmp_path / "mine").mkdir()
    for content in ("[]", "{}", '{"to": []}', "[" * 100_000):
        (tmp_path / "mine" / "export.json").write_text(content)
        with pytest.raises(ConfigError, match="is not empty"):
            export(pairs, "mimic", tmp_path / "mine")


def test_not_into_another_dataset(pairs: Dataset, tmp_path: Path) -> None:
    export(pairs, "mimic", tmp_path / "mine")
    for folder in (pairs.path / "mine", tmp_path / "mine" / "a" / "b"):
        with pytest.raises(ConfigError, match=r"lies inside .*, a dataset or an export: give a folder of its own"):
            export(pairs, "mimic", folder)
        assert not folder.exists()


def test_nothing_to_export(pairs: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to export"):
        export(pairs[:0], "mimic", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_import_goes_on(pairs: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "PART_PAIRS", 3)
    export(pairs, "mimic", tmp_path / "mimic")
    import_pairs(tmp_path / "mimic", "mimic", tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        import_pairs(tmp_path / "mimic", "mimic", tmp_path / "back", stopping(5))
    assert finished_parts(tmp_path / "back") == [0]
    first = (tmp_path / "back" / "shards" / "part-000000.tar").stat().st_mtime_ns
    counts: list[tuple[int, int]] = []
    done = import_pairs(tmp_path / "mimic", "mimic", tmp_path / "back", lambda *count: counts.append(count))
    assert counts == [(n, len(pairs)) for n in range(4, len(pairs) + 1)]
    assert done.num_pairs == len(pairs)
    assert (tmp_path / "back" / "shards" / "part-000000.tar").stat().st_mtime_ns == first
    assert files_of(tmp_path / "back") == files_of(tmp_path / "whole")


def test_another_import_in_the_same_place(pairs: Dataset, tmp_path: Path) -> None:
    export(pairs, "mimic", tmp_path / "mimic")
    export(pairs[1:], "mimic", tmp_path / "other")
    import_pairs(tmp_path / "mimic", "mimic", tmp_path / "back")
    with pytest.raises(ConfigError, match="holds something else than an import of"):
        import_pairs(tmp_path / "other", "mimic", tmp_path / "back")
    with pytest.raises(ConfigError, match="holds something else"):
        import_pairs(tmp_path / "mimic", "mimic", pairs.path)
    with (
        importing._sole(tmp_path / "back"),
        pytest.raises(TryLaterError, match=f"an import is at work there .process {os.getpid()}"),
    ):
        import_pairs(tmp_path / "mimic", "mimic", tmp_path / "back")


# ------------------------------------------------------------------------------------------------------ odd and hostile


def listed(folder: Path, *lines: str, name: str = "set.csv", header: str = "path1,path2") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("\n".join([header, *lines]) + "\n")
    return folder


def pictures(folder: Path, *names: str) -> None:
    rng = np.random.default_rng(0)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), rng.integers(0, 255, (48, 64, 3), np.uint8))


def test_a_published_csv(tmp_path: Path) -> None:
    """With an index, columns in another order, a line twice, absolute paths, a PNG, and a pair without its map."""
    root = tmp_path / "MIMIC"
    pictures(root, "Gibson/Almena/7/0000.jpg", "Gibson/Almena/7/0001.jpg", "x/0000.png", "x/0001.png", "one.jpg", "two.jpg")
    np.save(root / "Gibson/Almena/7/corresponding.npy", {0: 3, 195: 7})
    line = "0,Gibson/Almena/7/0001.jpg,a,Gibson/Almena/7/0000.jpg"
    absolute = f'2,"{root}/two.jpg",,"{root}/one.jpg"'
    listed(root, line, "1,x/0001.png,,x/0000.png", absolute, line.replace("0,G", "3,G"), "", header="Unnamed: 0,path2,more,path1")
    done = import_pairs(root, "mimic", tmp_path / "out")
    assert (done.num_pairs, done.num_unreadable) == (3, 0)
    assert done.notes == ("1 lines name a pair that stands above already",)
    pairs = twoview.open(tmp_path / "out")
    first, png, absolute_pair = pairs
    assert (first.row.source, first.row.scene, first.row.pair_id) == ("Gibson", "Almena/7", "Gibson/Almena/7/000000-000001")
    assert first.patches[0, [0, 195]].tolist() == [3, 7]
    assert first.patches[1, [3, 7]].tolist() == [0, 195]
    assert (first.patches >= 0).sum() == 4
    assert first.row.overlap == 2 / 196
    assert pairs.files(0)["a.jpg"] == (root / "Gibson/Almena/7/0000.jpg").read_bytes()
    assert png.a.shape == (48, 64, 3)
    assert (png.patches.shape, png.row.overlap, png.row.found) == ((2, 0), None, None)
    assert absolute_pair.row.scene.endswith("one+two")
    assert faults(tmp_path / "out", dataset_plan(tmp_path / "out")) == []


def test_what_cannot_be_read_is_refused_and_named(tmp_path: Path) -> None:
    root = tmp_path / "set"
    names = [f"s/{n}/{view}.jpg" for n in range(5) for view in ("0000", "0001")]
    pictures(root, *names)
    (root / "s/1/0001.jpg").unlink()
    (root / "s/2/0000.jpg").write_bytes((root / "s/2/0000.jpg").read_bytes()[:200])
    np.save(root / "s/3/corresponding.npy", {0: 196})
    (root / "s/4/corresponding.npy").write_bytes(b"junk")
    listed(root, *(f"s/{n}/0000.jpg,s/{n}/0001.jpg" for n in range(5)))
    out = tmp_path / "out"
    done = import_pairs(root, "mimic", out)
    assert (done.num_pairs, done.num_unreadable) == (1, 4)
    assert [(r["kept"], r["stored"], r["reasons"]) for r in read_manifest(out).to_pylist()] == [
        (True, True, []),
        *[(False, False, ["unreadable"])] * 4,
    ]
    (scene,) = read_scenes(out).to_pylist()
    assert scene["status"] == "partial"
    assert scene["error"] == f"4 of 5 pairs, the first: {root}/s/1/0001.jpg: No such file or directory"
    assert faults(out, dataset_plan(out)) == []
    assert main(["import", str(root), "--from", "mimic", "--out", str(out)]) == 3


@pytest.mark.parametrize(
    ("layout", "lines", "scenes"),
    [
        ("mimic", ["{}/0000.jpg,{}/0001.jpg", "{}/0000.jpg,S/A/000030-000050/0001.jpg"], None),
        ("mimic", ["a/x.jpg,a/y.jpg", "./a/x.jpg,.//a/./y.jpg", "a//x.jpg,a/y.jpg"], ["x+y"]),
        ("croco", ["x/1/0000.jpg x/1/0001.jpg", "x/1_1.jpg x/1_2.jpg", "x/./1_1.jpg x/1_2.jpg"], ["1", "1~2"]),
        (
            "mimic",
            ["s/1/0000.jpg,s/1/0001.jpg", "s/1/0000.png,s/1/0001.png", "s/1~2/0000.png,s/1~2/0001.png"],
            ["1", "1~2", "1~2~2"],
        ),
        (
            "mimic",
            [
                "s/a b/000001-000002/0000.jpg,s/a b/000001-000002/0001.jpg",
                "s/a%20b/000001-000002/0000.jpg,s/a%20b/000001-000002/0001.jpg",
            ],
            ["a b", "a b~2"],
        ),
    ],
    ids=["frames of two folders", "dots and slashes", "croco", "extensions", "quoted or not"],
)
def test_no_two_pairs_of_one_key(layout: str, lines: list[str], scenes: list[str] | None, tmp_path: Path) -> None:
    lines = [line.replace("{}", "S/A/000000-000010") for line in lines]
    pictures(tmp_path / "set", *{name for line in lines for name in line.replace(",", ";").replace(".jpg x", ".jpg;x").split(";")})
    listed(
        tmp_path / "set",
        *lines,
        name="pairs.txt" if layout == "croco" else "pairs.csv",
        header="" if layout == "croco" else "path1,path2",
    )
    done = import_pairs(tmp_path / "set", layout, tmp_path / "out")
    found = read_manifest(tmp_path / "out").to_pylist()
    assert done.num_unreadable == 0
    assert len({row["key"] for row in found}) == len({row["pair_id"] for row in found}) == len(found) == done.num_pairs
    assert all(row["key"] == key_of(row["pair_id"]) for row in found)
    if scenes is not None:
        assert [row["scene"] for row in found] == scenes
    assert faults(tmp_path / "out", dataset_plan(tmp_path / "out")) == []
    again = import_pairs(tmp_path / "set", layout, tmp_path / "again")
    assert again.num_pairs == len(found)
    assert read_manifest(tmp_path / "again").equals(read_manifest(tmp_path / "out"))


def test_an_import_with_names_made_unique_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "PART_PAIRS", 1)
    root = tmp_path / "set"
    pictures(root, "x/1/0000.jpg", "x/1/0001.jpg", "x/1_1.jpg", "x/1_2.jpg")
    listed(root, "x/1/0000.jpg x/1/0001.jpg", "x/1_1.jpg x/1_2.jpg", name="pairs.txt", header="")
    import_pairs(root, "croco", tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        import_pairs(root, "croco", tmp_path / "out", stopping(2))
    assert finished_parts(tmp_path / "out") == [0]
    import_pairs(root, "croco", tmp_path / "out")
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")


def test_a_pipe_or_a_device_is_no_picture(tmp_path: Path) -> None:
    """Reading it would never end, so another process does, for a minute at most."""
    root, out = tmp_path / "set", tmp_path / "out"
    pictures(root, "s/0/0000.jpg", "s/0/0001.jpg", "s/1/0000.jpg", "s/2/0000.jpg")
    for name in ("s/0/corresponding.npy", "s/1/0001.jpg", "export.json", "other.csv"):
        os.mkfifo(root / name)
    listed(root, "s/0/0000.jpg,s/0/0001.jpg", "s/1/0000.jpg,s/1/0001.jpg", "s/2/0000.jpg,/dev/zero")
    program = [sys.executable, "-m", "twoview", "import", str(root), "--from", "mimic", "--out", str(out)]
    done = subprocess.run(program, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (3, f"3 could not be read, see {out / 'scenes'}\n")
    assert [row["reasons"] for row in read_manifest(out).to_pylist()] == [["unreadable"]] * 3
    errors = [scene["error"] for scene in read_scenes(out).to_pylist()]
    assert errors == [f"3 of 3 pairs, the first: {root}/s/0/corresponding.npy: not a file"]


@pytest.mark.parametrize("grid", ["[0, 0]", "[-3, -5]", "[100000, 100000]", "[Infinity, 1]", "[1]", "7", '["x", 2]'])
def test_a_grid_that_cannot_be_is_the_published_one(grid: str, tmp_path: Path) -> None:
    (tmp_path / "export.json").write_text(f'{{"patch_grid": {grid}}}')
    assert importing._grid(tmp_path / "export.json") == (14, 14)


def test_a_hostile_set_is_not_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From the command line: one line, and nothing of it ran."""
    root, marker = tmp_path / "set", tmp_path / "it ran"
    pictures(root, "s/0/0000.jpg", "s/0/0001.jpg")

    class Hostile:
        def __reduce__(self) -> Any:
            return os.system, (f"touch '{marker}'",)

    sink = io.BytesIO()
    np.save(sink, np.array({1: Hostile()}, dtype=object), allow_pickle=True)
    (root / "s/0/corresponding.npy").write_bytes(sink.getvalue())
    listed(root, "s/0/0000.jpg,s/0/0001.jpg")
    assert main(["import", str(root), "--from", "mimic", "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert "corresponding.npy: asks for posix.system, which a map of patches has no use for" in said
    assert said.count("\n") == 1
    assert not marker.exists()
    assert finished_parts(tmp_path / "out") == []


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, r"a folder with a CSV with path1 and path2 is wanted \(none there\)"),
        ({"a.csv": "path1,path2\n", "b.csv": ""}, r"\(2 of them: name one\)"),
        ({"a.csv": "first,second\nx,y\n"}, "a.csv: its first line must name the columns path1 and path2"),
        ({"a.csv": "path1,path2\nx\n"}, "a.csv, line 2: path1 or path2 is missing"),
        ({"a.csv": "path1,path2\n"}, "a.csv: no pairs in it"),
        ({"a.csv": b"path1,path2\n\xff\xfe,x\n"}, "a.csv: not UTF-8 text"),
        ({"a.csv": "path1,path2\nx,y\n.,..\n"}, r"a.csv, line 3: '.' is no path of a picture"),
        ({"a.csv": "path1,path2\n/,/\n"}, r"a.csv, line 2: '/' is no path of a picture"),
        ({"a.csv": "path1,path2\nx,y/..\n"}, r"a.csv, line 2: 'y/..' is no path of a picture"),
        ({"a.csv": "path1,path2\nx,y\0z\n"}, r"a.csv, line 2: 'y\\x00z' is no path of a picture"),
        ({"a.csv": f"path1,path2\nx,y\nx,{'y' * 131_073}\n"}, r"a.csv, line 3: field larger than field limit"),
        ({"a.csv": f"path1,path2,{'y' * 131_073}\n"}, r"a.csv, line 1: field larger than field limit"),
    ],
)
def test_lists_that_make_no_sense(files: dict[str, str | bytes], words: str, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    for name, content in files.items():
        (tmp_path / "set" / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError, match=words):
        import_pairs(tmp_path / "set", "mimic", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_croco_list_that_makes_no_sense(tmp_path: Path) -> None:
    for line in (". .", "x.jpg ..", "/ x.jpg", "x\0.jpg y.jpg"):
        (tmp_path / "pairs.txt").write_text(f"a.jpg b.jpg\n{line}\n")
        with pytest.raises(ConfigError, match=r"pairs.txt, line 2: .* is no path of a picture"):
            import_pairs(tmp_path, "croco", tmp_path / "out")


@pytest.mark.parametrize(
    ("first", "second", "layout", "expected"),
    [
        ("hm3d/00800/12/0000.jpg", "hm3d/00800/12/0001.jpg", "mimic", ("hm3d", "00800/12", 0, 1)),
        ("12/0000.jpg", "12/0001.jpg", "mimic", ("12", "12", 0, 1)),
        ("video/a%20b.mp4/000012-000043/0000.jpg", "video/a%20b.mp4/000012-000043/0001.jpg", "mimic", ("video", "a b.mp4", 12, 43)),
        ("hm3d/00800/00000001_1.jpeg", "hm3d/00800/00000001_2.jpeg", "croco", ("hm3d", "00800/00000001", 0, 1)),
        ("a/x.jpg", "a/y.jpg", "croco", ("a", "x+y", 0, 1)),
        ("a/x.jpg", "b/y.jpg", "croco", ("a", "x+b/y", 0, 1)),
        ("x.jpg", "y.jpg", "croco", ("croco", "x+y", 0, 1)),
        ("s/a/000012-000043/0000.jpg", "s/a/000012-000043/x.jpg", "mimic", ("s", "a/000012-000043/0000+x", 0, 1)),
        (f"s/a/{'9' * 5000}-000043/0000.jpg", "x", "mimic", ("s", f"a/{'9' * 5000}-000043/0000+x", 0, 1)),
        ("s/a%00b/000012-000043/0000.jpg", "s/a%00b/000012-000043/0001.jpg", "mimic", ("s", "a%00b", 12, 43)),
        ("/data/../s/x.jpg", "/data/../s/y.jpg", "mimic", ("data", "s/x+y", 0, 1)),
    ],
)
def test_what_a_pair_is_called(first: str, second: str, layout: str, expected: tuple[str, str, int, int]) -> None:
    assert identity(first, second, layout) == expected


def test_killed_import_from_the_command_line(pairs: Dataset, tmp_path: Path) -> None:
    """SIGTERM: exit code 143, and the same command ends it."""
    export(pairs, "mimic", tmp_path / "mimic")
    script = tmp_path / "slow.py"
    script.write_text(
        "import sys, time\nfrom twoview import cli\nfrom twoview.exchange import importing\n"
        "importing.PART_PAIRS = 2\nread = importing._read_pair\n"
        "def slow(*args):\n    time.sleep(0.2)\n    return read(*args)\n"
        "importing._read_pair = slow\nsys.exit(cli.main(sys.argv[1:]))\n"
    )
    args = ["import", str(tmp_path / "mimic"), "--from", "mimic", "--out", str(tmp_path / "back")]
    process = subprocess.Popen([sys.executable, str(script), *args])
    while not finished_parts(tmp_path / "back"):
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 143
    done = finished_parts(tmp_path / "back")
    assert 0 < len(done) < -(-len(pairs) // 2)
    again = command(*args)
    assert again.returncode == 0, again.stderr
    assert len(twoview.open(tmp_path / "back")) == len(pairs)


def test_files_of_a_dataset_that_was_damaged(pairs: Dataset, tmp_path: Path) -> None:
    """Two pairs that have different pictures of one frame."""
    picture = cv2.imencode(".jpg", np.zeros((32, 32, 3), np.uint8))[1].tobytes()
    dataset = made(tmp_path / "odd", ["a", "b"], picture)
    rows = [replace(pair.row, scene="a", sha256_a=str(i)) for i, pair in enumerate(dataset)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporting, "_rows", lambda _, *columns: iter([tuple(getattr(r, c) for c in columns) for r in rows]))
        with pytest.raises(BrokenDatasetError, match="two pairs have different pictures of this frame"):
            export(dataset, "pairs-txt", tmp_path / "out")


def test_the_note_says_where_it_is_from(pairs: Dataset, tmp_path: Path) -> None:
    export(pairs, "mimic", tmp_path / "out")
    note = json.loads((tmp_path / "out" / "export.json").read_text())
    assert list(note) == ["to", "content_sha256", "num_pairs", "patch_grid", "dataset", "selection", "twoview", "licences"]
    assert (note["to"], note["num_pairs"], note["dataset"], note["patch_grid"]) == ("mimic", len(pairs), str(pairs.path), [14, 14])
    assert (note["selection"], note["twoview"], len(note["content_sha256"])) == (None, twoview.__version__, 64)
    export(pairs, "webdataset", tmp_path / "tars")
    assert json.loads((tmp_path / "tars" / "export.json").read_text())["content_sha256"] == note["content_sha256"]
    export(pairs[::-1], "mimic", tmp_path / "reversed")
    assert json.loads((tmp_path / "reversed" / "export.json").read_text())["content_sha256"] != note["content_sha256"]
