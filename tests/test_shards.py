"""The files of a part, byte by byte, as docs/format.md says them."""

import errno
import hashlib
import io
import json
import os
import shutil
import tarfile
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_type_hints

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from twoview.errors import BrokenDatasetError, TryLaterError
from twoview.schema import Row, SceneInfo
from twoview.shards import (
    SAMPLE_PARTS,
    SceneRow,
    ShardWriter,
    key_of,
    npy_bytes,
    part_paths,
    read_manifest,
    read_sample,
    read_scenes,
    sample_json,
    shard_sha256,
    write_whole,
)

WHERE = ("shard", "offset", "size")
PATCHES, POINTS = np.full((2, 196), -1, np.int16), np.zeros((3, 4), np.float32)


def row(pair_id: str = "s/n/000000-000001", **more: Any) -> Row:
    values = {"kept": True, "stored": True, "estimator": "paper@1", "overlap": 0.5, "num_inliers": 30} | more
    return Row(
        key=key_of(pair_id),
        pair_id=pair_id,
        source="s",
        scene="n",
        group="g",
        frame_index_a=0,
        frame_index_b=1,
        **values,
    )


def stored_rows(out: Path) -> list[dict[str, Any]]:
    return [r for r in read_manifest(out).to_pylist() if r["stored"]]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    for folder in ("shards", "scenes", "manifest"):
        (tmp_path / folder).mkdir()
    return tmp_path


# ------------------------------------------------------------------------------------------------------------- tars


def test_entries_of_a_tar(wide: Path) -> None:
    """Five a sample, side by side, in the contract's order and the manifest's; nothing in them of when or by whom."""
    rows = {r["key"]: r for r in stored_rows(wide)}
    names = []
    for path in sorted((wide / "shards").iterdir()):
        with tarfile.open(path) as tar:
            assert tar.pax_headers == {}
            for entry in tar:
                assert (entry.mtime, entry.uid, entry.gid, entry.mode) == (0, 0, 0, 0o644)
                assert (entry.uname, entry.gname, entry.isfile()) == ("", "", True)
                names.append(entry.name)
    assert names == [f"{key}.{part}" for key in rows for part in SAMPLE_PARTS]
    assert all(key == key_of(r["pair_id"]) and len(key) == 16 and "." not in key for key, r in rows.items())


def test_a_sample_is_one_read(wide: Path) -> None:
    """Offset and size give what a reader of the whole tar finds under the key; samples lie end to end."""
    ends: dict[str, int] = {}
    for r in stored_rows(wide):
        with tarfile.open(wide / r["shard"]) as tar:
            whole = {part: tar.extractfile(f"{r['key']}.{part}").read() for part in SAMPLE_PARTS}
        assert read_sample(wide, r["shard"], r["offset"], r["size"]) == whole
        assert r["offset"] == ends.get(r["shard"], 0)
        ends[r["shard"]] = r["offset"] + r["size"]
        assert r["shard"] == f"shards/part-{int(r['shard'][-10:-4]):06d}.tar"
    for shard, end in ends.items():
        assert not any((wide / shard).read_bytes()[end:])


def test_contents_of_a_sample(wide: Path) -> None:
    for r in stored_rows(wide):
        files = read_sample(wide, *(r[name] for name in WHERE))
        for view in "ab":
            jpeg = files[f"{view}.jpg"]
            assert hashlib.sha256(jpeg).hexdigest() == r[f"sha256_{view}"]
            assert cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).shape == (128, 128, 3)
        patches = np.load(io.BytesIO(files["patches.npy"]), allow_pickle=False)
        points = np.load(io.BytesIO(files["points.npy"]), allow_pickle=False)
        assert (patches.dtype, patches.shape) == (np.int16, (2, 196))
        assert patches.max() < 196
        assert patches.min() >= -4
        assert np.mean(patches >= 0, axis=1).tolist() == [r["overlap_ab"], r["overlap_ba"]]
        assert (points.dtype, points.shape) == (np.float32, (r["num_inliers"], 4))
        assert points.min() >= 0
        assert points.max() <= 1


def test_json_of_a_sample(wide: Path) -> None:
    """Every key in the same order, no nulls, each of one type in every sample."""
    hints = get_type_hints(Row)
    names = [f.name for f in fields(Row) if f.name not in WHERE]
    types: dict[str, set[type]] = {name: set() for name in names}
    for r in stored_rows(wide):
        content = json.loads(read_sample(wide, *(r[name] for name in WHERE))["json"])
        assert list(content) == names
        for name, value in content.items():
            types[name].add(type(value))
            types[name] |= {type(v) for v in value} if isinstance(value, list) else set()
            if r[name] is not None and name != "reasons":
                assert value == r[name]
        assert content["reasons"] == ",".join(r["reasons"])
        assert (content["true_overlap_ab"], content["split"], content["licence"]) == (-1000.0, "", "")
        assert content["time_a_s"] == (-1000.0 if r["scene"] == "photos" else r["time_a_s"])
    for name, found in types.items():
        expected = {str} if name == "reasons" else {t for t in (bool, int, float, str) if t.__name__ in str(hints[name])}
        assert found - {list} == expected, name


@pytest.mark.parametrize("value", [1, 1.0, np.float32(1), np.int64(1)])
def test_floats_have_a_point_though_they_be_whole(value: Any) -> None:
    text = sample_json(row(overlap=value, scale=value, homography=[value] * 9)).decode()
    assert '"overlap":1.0' in text
    assert '"scale":1.0' in text
    assert '"homography":[1.0,1.0' in text


def test_unmeasured_lists_keep_their_length() -> None:
    content = json.loads(sample_json(row()))
    assert content["homography"] == [-1000.0] * 9
    assert content["crop_a"] == [-1] * 4
    assert content["patch_grid"] == [-1] * 2
    assert content["found"] is False


def test_npy_refuses_pickles() -> None:
    with pytest.raises(ValueError, match="Object arrays cannot be saved"):
        npy_bytes(np.array([object()]))


# ---------------------------------------------------------------------------------------------------------- writing


def write(out: Path, rows: list[Row], part: int = 0) -> None:
    with ShardWriter(out, part) as shard:
        for r in rows:
            if r.stored:
                shard.write_sample(r, b"a" * 700, b"b", PATCHES, POINTS)
            else:
                shard.write_row(r)
        info = SceneInfo(source="s", scene="n", uri="n.mp4", kind="video")
        shard.write_scene(SceneRow.of(info, part=part, start=0, stop=9, num_pairs=len(rows), num_kept=1, num_stored=1))


def test_a_part_is_written_and_read_back(out: Path) -> None:
    refused = row("s/n/000001-000002", kept=False, stored=False, reasons=["overlap_low", "user_filter"])
    rows = [row(), refused, row("s/n/000002-000003")]
    write(out, rows)
    table = read_manifest(out)
    read = [Row(**values) for values in table.to_pylist()]
    assert [replace(r, shard=None, offset=None, size=None) for r in read] == rows
    tar = "shards/part-000000.tar"
    assert [(r.shard, r.offset) for r in read] == [(tar, 0), (None, None), (tar, read[0].size)]
    assert table.schema.metadata is None
    assert read_scenes(out).to_pylist()[0]["uri"] == "n.mp4"
    assert shard_sha256(out, 0) == hashlib.sha256((out / "shards" / "part-000000.tar").read_bytes()).hexdigest()


def test_the_same_part_has_the_same_bytes(out: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    files = []
    for _ in range(2):
        write(out, [row(), row("s/n/000001-000002")])
        files.append([p.read_bytes() for p in part_paths(out, 0)])
    assert files[0] == files[1]


def test_a_part_without_samples_has_no_tar(out: Path) -> None:
    write(out, [row(kept=False, stored=False, reasons=["few_matches"])])
    assert [p.exists() for p in part_paths(out, 0)] == [False, True, True]
    assert list((out / "shards").iterdir()) == []
    assert shard_sha256(out, 0) is None


def test_an_exception_leaves_nothing(out: Path) -> None:
    def fail() -> None:
        with ShardWriter(out, 0) as shard:
            shard.write_sample(row(), b"a", b"b", PATCHES, POINTS)
            assert len(list((out / "shards").iterdir())) == 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert [p for p in out.rglob("*") if p.is_file()] == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("call", [1, 2, 3], ids=["tar", "scenes", "manifest"])
def test_a_full_disk_leaves_no_part(code: int, call: int, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever of the three files it stops at."""
    fsync, calls = os.fsync, []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == call:
            raise OSError(code, os.strerror(code))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TryLaterError, match=r"part-000000\.(tar|parquet): the disk is full. What is finished is kept: make room"):
        write(out, [row()])
    assert not part_paths(out, 0)[2].exists()
    assert not list(out.rglob("*.partial"))
    write(out, [row()])
    assert read_manifest(out).num_rows == 1


def test_other_errors_of_the_system_keep_their_name(out: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        write_whole(out / "nowhere" / "file", b"")


def test_what_a_killed_run_left_aside_is_written_over(out: Path) -> None:
    for path in part_paths(out, 0):
        path.with_name(f".{path.name}.partial").write_bytes(b"half" * 10_000)
    write(out, [row()])
    assert {p for p in out.rglob("*") if p.is_file()} == set(part_paths(out, 0))
    assert shard_sha256(out, 0) == hashlib.sha256((out / "shards" / "part-000000.tar").read_bytes()).hexdigest()


# ---------------------------------------------------------------------------------------------------------- reading


def test_nothing_finished_reads_as_empty(out: Path) -> None:
    assert read_manifest(out).num_rows == 0
    assert read_manifest(out).schema.names == [f.name for f in fields(Row)]
    assert read_manifest(out, columns=["kept", "key"]).schema.names == ["kept", "key"]
    (out / "manifest" / ".part-000000.parquet.partial").write_bytes(b"")
    (out / "manifest" / "part-000000.parquet~").write_bytes(b"")
    assert read_manifest(out).num_rows == 0


def test_parts_are_read_in_order(out: Path) -> None:
    for part in (10, 9, 1_000_000):
        write(out, [row(f"s/n/{part}")], part)
    assert [r["pair_id"] for r in read_manifest(out).to_pylist()] == ["s/n/9", "s/n/10", "s/n/1000000"]
    assert read_manifest(out, [10]).num_rows == 1


def test_a_manifest_cut_short_is_named(out: Path) -> None:
    write(out, [row()])
    path = part_paths(out, 0)[2]
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BrokenDatasetError, match=r"manifest/part-000000\.parquet: cannot be read .* run curate again"):
        read_manifest(out)


def test_a_sample_that_is_not_there(out: Path) -> None:
    write(out, [row()])
    shard, size = "shards/part-000000.tar", read_manifest(out).to_pylist()[0]["size"]
    with pytest.raises(BrokenDatasetError, match="ends before offset"):
        read_sample(out, shard, 1 << 20, size)
    with pytest.raises(BrokenDatasetError, match="no sample at offset 100 "):
        read_sample(out, shard, 100, size)


def test_any_reader_of_parquet_reads_the_manifest(dataset: Path) -> None:
    """Without twoview: one file, all columns, Zstandard."""
    file = pq.ParquetFile(dataset / "manifest" / "part-000000.parquet")
    assert file.metadata.row_group(0).column(0).compression == "ZSTD"
    assert file.schema_arrow.names == [f.name for f in fields(Row)]


def test_parts_of_an_earlier_version_lack_columns(wide: Path, tmp_path: Path) -> None:
    """They read as null, whole or by column, and beside parts that have them."""
    out = tmp_path / "old"
    shutil.copytree(wide, out)
    path = part_paths(out, 0)[2]
    pq.write_table(pq.read_table(path).drop_columns(["pose_a", "true_overlap_ab"]), path)
    assert set(read_manifest(out).schema.names) == set(read_manifest(wide).schema.names)
    assert read_manifest(out)["key"].equals(read_manifest(wide)["key"])
    for columns in (["pose_a"], ["true_overlap_ab", "key"]):
        table = read_manifest(out, columns=columns)
        assert table.column_names == columns
        assert len(table) == len(read_manifest(wide))
        assert not any(table[columns[0]].is_valid().to_pylist())
