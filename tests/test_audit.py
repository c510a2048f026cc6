"""What audit sees: every kind of damage by name, and nothing wrong where nothing is."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runs import curate
from twoview.audit import faults, summarise
from twoview.cli import main
from twoview.plan import read_plan
from twoview.shards import ROW_SCHEMA, part_paths, read_manifest

KEPT = "part-000003"
"""A part of the dataset fixture with stored pairs."""


@pytest.fixture
def out(dataset: Path, tmp_path: Path) -> Path:
    return shutil.copytree(dataset, tmp_path / "pairs")


def first_stored(out: Path) -> dict[str, Any]:
    return next(row for row in read_manifest(out, [3]).to_pylist() if row["stored"])


def rewrite(out: Path, change: Callable[[list[dict]], list[dict]]) -> None:
    """The manifest of the part with its rows changed, its metadata kept."""
    path = part_paths(out, 3)[2]
    table = pq.read_table(path)
    pq.write_table(pa.Table.from_pylist(change(table.to_pylist()), ROW_SCHEMA.with_metadata(table.schema.metadata)), path)


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x40
    path.write_bytes(data)


def audited(out: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    capsys.readouterr()
    code = main(["audit", str(out)])
    return code, capsys.readouterr().out


def test_a_good_dataset(wide: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = audited(wide, capsys)
    rows = read_manifest(wide).to_pylist()
    assert code == 0
    assert f"{sum(r['kept'] for r in rows)} pairs kept of {len(rows)} measured, from 2 scenes" in said
    assert f"{sum(r['stored'] and not r['kept'] for r in rows)} more stored for a looser choice later" in said
    assert re.search(r"^ +\d+ overlap_high\n +\d+ overlap_low$", said, re.M)
    assert said.endswith(f"every stored picture and sample is as the manifest says\nto look at: {wide / 'report.html'}\n")
    histogram = re.findall(r"^  0\.\d\d-[01]\.\d\d +(\d+) of +(\d+) #*-*$", said, re.M)
    assert sum(int(kept) for kept, _ in histogram) == sum(r["kept"] for r in rows)
    assert sum(int(num) for _, num in histogram) == len(rows)


@pytest.mark.parametrize("where", ["header", "picture", "array", "json", "padding", "end"])
def test_a_flipped_byte_anywhere_in_a_tar(where: str, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One bit of one byte: in a header, a JPEG, the patches, the JSON, between the entries, after the last."""
    row, tar = first_stored(out), part_paths(out, 3)[0]
    data = tar.read_bytes()
    json_at = data.index(b'{"key"', row["offset"])
    places = {
        "header": row["offset"] + 20,
        "picture": row["offset"] + 512 + 900,
        "array": data.index(b"\x93NUMPY", row["offset"]) + 128 + 7,
        "json": data.index(b'"overlap":0.', json_at) + 13,
        "padding": row["offset"] + row["size"] - 1,
        "end": len(data) - 1,
    }
    flip(tar, places[where])
    code, said = audited(out, capsys)
    assert code == 1
    assert f"fault: {tar}: these are not the bytes that were written" in said
    assert (row["pair_id"] in said) == (where in ("header", "picture", "json"))
    assert "every stored picture" not in said


def test_a_deleted_tar(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tar = part_paths(out, 3)[0]
    tar.unlink()
    num = sum(row["stored"] for row in read_manifest(out, [3]).to_pylist())
    assert audited(out, capsys) == (1, f"fault: {tar}: is missing, with {num} stored pairs\n1 faults: {out}\n")


def test_a_tar_cut_short(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tar = part_paths(out, 3)[0]
    tar.write_bytes(tar.read_bytes()[:20_000])
    code, said = audited(out, capsys)
    assert code == 1
    assert f"{tar}: ends before offset" in said


def test_a_tar_that_nobody_speaks_of(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(part_paths(out, 3)[0], part_paths(out, 1)[0])
    code, said = audited(out, capsys)
    assert code == 1
    assert "part-000001.tar: nothing in the manifest speaks of it" in said


@pytest.mark.parametrize("which", [1, 2], ids=["scenes", "manifest"])
@pytest.mark.parametrize("size", [0, 100, -10])
def test_a_parquet_cut_short(which: int, size: int, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = part_paths(out, 3)[which]
    path.write_bytes(path.read_bytes()[:size])
    code, said = audited(out, capsys)
    assert code == 1
    assert f"fault: {path}: cannot be read" in said
    assert "Remove it and run curate again" in said


def test_a_duplicated_row(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rewrite(out, lambda rows: [*rows, rows[2]])
    code, said = audited(out, capsys)
    assert code == 1
    assert f"fault: {read_manifest(out, [3]).to_pylist()[2]['pair_id']} stands twice (part 3 and 3)" in said


def test_a_part_twice(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path, copy in zip(part_paths(out, 1), part_paths(out, 9), strict=True):
        if path.exists():
            shutil.copy(path, copy)
    code, said = audited(out, capsys)
    assert code == 1
    assert "fault: part 9 is not in the plan" in said
    assert "stands twice (part 1 and 9)" in said


def test_a_swapped_picture(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The manifest's hashes changed over: the tar itself is whole."""
    rewrite(out, lambda rows: [r | {"sha256_a": r["sha256_b"], "sha256_b": r["sha256_a"]} for r in rows])
    code, said = audited(out, capsys)
    pair = first_stored(out)["pair_id"]
    assert code == 1
    assert f"fault: {pair}: picture a is not the one that was stored" in said
    assert f"fault: {pair}: picture b is not the one that was stored" in said


def test_rows_that_point_to_each_others_samples(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def exchanged(rows: list[dict]) -> list[dict]:
        i, j = [k for k, r in enumerate(rows) if r["stored"]][:2]
        where = [{name: rows[k][name] for name in ("offset", "size")} for k in (i, j)]
        rows[i], rows[j] = rows[i] | where[1], rows[j] | where[0]
        return rows

    rewrite(out, exchanged)
    code, said = audited(out, capsys)
    assert code == 1
    assert said.count("picture a is not the one that was stored") == 2


def test_a_changed_figure(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The manifest says another overlap than the sample's JSON."""
    rewrite(out, lambda rows: [r | {"overlap": 0.6} if r["stored"] else r for r in rows])
    code, said = audited(out, capsys)
    assert code == 1
    assert f"{first_stored(out)['pair_id']}: its JSON is not the manifest's line" in said


def test_unfinished_is_no_fault_and_is_said(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    part_paths(out, 3)[2].unlink()
    code, said = audited(out, capsys)
    assert code == 0
    assert "4 of 5 parts are finished: the same command goes on" in said
    assert faults(out, read_plan(out)) == []
    assert summarise(out, read_plan(out)).num_finished == 4


def test_a_dataset_with_nothing_finished(footage: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert curate(footage, tmp_path / "pairs", "--parts", "1/100") == 0
    code, said = audited(tmp_path / "pairs", capsys)
    assert code == 0
    assert "0 of 5 parts are finished" in said


@pytest.mark.parametrize("name", ["empty", "missing", "file"])
def test_no_dataset(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    assert main(["audit", str(tmp_path / name)]) == 2
    assert capsys.readouterr().err == f"twoview: {tmp_path / name}: no dataset of twoview there (plan.parquet is missing)\n"


def test_a_broken_plan(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (out / "plan.parquet").write_bytes(b"PAR1")
    assert main(["audit", str(out)]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"twoview: {out / 'plan.parquet'}: cannot be read")
    assert said.count("\n") == 1
