"""twoview.open: the pairs of a dataset as Python objects."""

import io
import pickle
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, fields, replace
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import twoview
from twoview.audit import dataset_plan, summarise
from twoview.cli import main
from twoview.dataset import all_rows, split_name
from twoview.errors import BrokenDatasetError, ConfigError
from twoview.report import write_report
from twoview.schema import Row
from twoview.shards import read_manifest, row_from_json, sample_json


@pytest.fixture
def selected(wide: Path, tmp_path: Path) -> Path:
    """A copy of `wide`, with the selection `some`: every second stored pair, kept or not."""
    out = tmp_path / "wide"
    shutil.copytree(wide, out)
    rows = read_manifest(out)
    keys = rows.filter(rows["stored"])["key"].to_pylist()[::2]
    (out / "selections").mkdir()
    pq.write_table(pa.table({"key": keys}), out / "selections" / "some.parquet")
    return out


def test_the_kept_pairs_in_the_manifest_s_order(wide: Path) -> None:
    pairs = twoview.open(wide)
    rows = [row for row in read_manifest(wide).to_pylist() if row["kept"]]
    assert len(pairs) == len(rows) > 3
    assert [asdict(pair.row) for pair in pairs] == rows
    assert pairs.manifest().to_pylist() == rows
    assert pairs.keys.to_pylist() == [row["key"] for row in rows]


def test_a_sample_is_what_lies_in_the_tar(wide: Path) -> None:
    pairs = twoview.open(str(wide))
    for i, pair in enumerate(pairs):
        files = pairs.files(i)
        for image, name in ((pair.a, "a.jpg"), (pair.b, "b.jpg")):
            expected = cv2.imdecode(np.frombuffer(files[name], np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
            assert image.dtype == np.uint8
            assert np.array_equal(image, expected)
        assert np.array_equal(pair.patches, np.load(io.BytesIO(files["patches.npy"])))
        assert pair.patches.shape == (2, 196)
        assert pair.points.shape == (pair.row.num_inliers, 4)
        assert min((pair.patches[k] >= 0).mean() for k in (0, 1)) == pytest.approx(pair.row.overlap)


def test_a_pair_in_a_line(wide: Path) -> None:
    pair = twoview.open(wide)[0]
    assert repr(pair) == f"PairSample({pair.row.pair_id!r}, 128 x 128 px, overlap {pair.row.overlap:.3f})"


def test_indices_and_slices(wide: Path) -> None:
    pairs = twoview.open(wide)
    ids = [pair.row.pair_id for pair in pairs]
    assert pairs[-1].row.pair_id == ids[-1]
    assert [pair.row.pair_id for pair in pairs[1:-1:2]] == ids[1:-1:2]
    assert pairs[2:4].manifest(["pair_id"])["pair_id"].to_pylist() == ids[2:4]
    assert pairs[::-1].manifest(["overlap"])["overlap"].to_pylist() == [p.row.overlap for p in pairs[::-1]]
    assert len(pairs[5:5]) == 0
    for wrong in (len(pairs), -len(pairs) - 1):
        with pytest.raises(IndexError, match=f"has pairs 0 to {len(pairs) - 1}, not {wrong}"):
            pairs[wrong]


def test_it_goes_to_a_worker(wide: Path) -> None:
    pairs = twoview.open(wide)
    again = pickle.loads(pickle.dumps(pairs))
    assert np.array_equal(again[1].a, pairs[1].a)
    assert len(pickle.dumps(pairs)) < 200 * len(pairs) + 2000


def test_columns(wide: Path) -> None:
    table = twoview.open(wide).manifest(["overlap", "scene"])
    assert table.column_names == ["overlap", "scene"]


def test_a_selection(selected: Path) -> None:
    rows = [row for row in read_manifest(selected).to_pylist() if row["stored"]][::2]
    for pairs in (twoview.open(f"{selected}@some"), twoview.open(selected, "some"), twoview.open(selected, selection="some")):
        assert [asdict(pair.row) for pair in pairs] == rows
    assert not all(row["kept"] for row in rows)
    assert repr(twoview.open(selected, "some")) == f"twoview.open('{selected}@some'): {len(rows)} pairs"


def test_every_row_under_a_selection(selected: Path) -> None:
    before, after = (all_rows(selected, name).to_pylist() for name in (None, "some"))
    wanted = set(twoview.open(selected, "some").keys.to_pylist())
    assert before == read_manifest(selected).to_pylist()
    assert [row["kept"] for row in after] == [row["key"] in wanted for row in before]
    for old, new in zip(before, after, strict=True):
        assert new["reasons"] == ([] if new["kept"] else old["reasons"] or ["not_selected"])
    assert ["not_selected"] in [row["reasons"] for row in after]
    assert all_rows(selected, "some", ["overlap"]).column_names == ["overlap"]


def test_what_is_not_there(selected: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere: no dataset of twoview there"):
        twoview.open(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"wide@other: no such selection \(some\)"):
        twoview.open(f"{selected}@other")
    (selected / "selections" / "some.parquet").write_bytes(b"PAR1")
    with pytest.raises(BrokenDatasetError, match=r"some\.parquet: cannot be read"):
        twoview.open(selected, "some")
    assert main(["select", str(selected), "--name", "some"]) == 1  # what is damaged is not written over
    (selected / "selections" / "some.parquet").unlink()
    assert main(["select", str(selected), "--name", "some"]) == 0
    pq.write_table(pa.table({"key": ["0123456789abcdef"]}), selected / "selections" / "some.parquet")
    with pytest.raises(BrokenDatasetError, match="1 of its 1 pairs are not stored there"):
        twoview.open(selected, "some")


def test_a_damaged_selection_says_what_helps(selected: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And what it says helps."""
    path = selected / "selections" / "some.parquet"
    key, num_kept = twoview.open(selected, "some").keys[0].as_py(), len(twoview.open(selected))
    commands = [
        ["audit", f"{selected}@some"],
        ["export", f"{selected}@some", str(tmp_path / "out"), "--to", "mimic"],
        ["select", f"{selected}@some", "--name", "more"],
        ["select", str(selected), "--name", "some"],
    ]
    for column, words in (
        ({"key": pa.array([1, 2])}, "its keys are int64, not strings"),
        ({"key": pa.array([[key]])}, "its keys are list<element: string>, not strings"),
        ({"key": pa.array([key.encode()])}, "its keys are binary, not strings"),
        ({"pair_id": pa.array([key])}, "it has no column key"),
        ({"key": pa.array([key, key])}, "1 of its 2 lines name a pair that stands above already"),
    ):
        pq.write_table(pa.table(column), path)
        for command in commands:
            assert main(command) == 1
            said = capsys.readouterr().err
            assert said == f"twoview: {path}: cannot be read ({words}): remove it, then select it again\n"
        path.unlink()  # as it says
        assert main(commands[-1]) == 0
        assert len(twoview.open(selected, "some")) == num_kept
        capsys.readouterr()
    for damaged in (b"PAR1", b"", path.read_bytes()[:-9]):
        path.write_bytes(damaged)
        for command in commands:
            assert main(command) == 1
            said = capsys.readouterr().err
            assert re.fullmatch(f"twoview: {path}: cannot be read \\(.+\\): remove it, then select it again\n", said)
    path.unlink()
    assert main(commands[-1]) == 0
    assert main(["audit", f"{selected}@some"]) == 0


@pytest.mark.parametrize("kind", [pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_keys_that_others_wrote(kind: pa.DataType, selected: Path) -> None:
    """Polars has large strings, pandas categories."""
    keys = twoview.open(selected, "some").keys
    pq.write_table(pa.table({"key": keys.cast(kind), "more": [1] * len(keys)}), selected / "selections" / "other.parquet")
    assert twoview.open(selected, "other").keys.equals(keys)


def test_an_empty_name_is_no_name(selected: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As from DIR@$NAME with nothing in it: never the whole dataset."""
    words = r"wide@: no such selection \(some\); twoview select makes one"
    for opened in (lambda: twoview.open(f"{selected}@"), lambda: twoview.open(selected, selection="")):
        with pytest.raises(ConfigError, match=words):
            opened()
    with pytest.raises(ConfigError, match=words):
        summarise(selected, dataset_plan(selected), selection="")
    with pytest.raises(ConfigError, match=words):
        write_report(selected, "")
    for command in (
        ["export", f"{selected}@", str(tmp_path / "out"), "--to", "mimic"],
        ["audit", f"{selected}@"],
        ["select", f"{selected}@", "--name", "x"],
    ):
        assert main(command) == 2
        assert re.fullmatch(f"twoview: .*{words}\n", capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_a_folder_with_an_at_sign_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "me@home").mkdir()
    assert split_name(tmp_path / "me@home") == (tmp_path / "me@home", None)
    assert split_name(f"{tmp_path}/me@home@small") == (tmp_path / "me@home", "small")
    assert split_name("pairs@small.v2") == (Path("pairs"), "small.v2")
    assert split_name("pairs") == (Path("pairs"), None)


def test_no_torch_no_training(wide: Path) -> None:
    code = f"import sys, twoview; twoview.open({str(wide)!r})[0]; print(*{{'torch', 'av', 'tyro', 'duckdb'}} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "\n"


numbers = st.floats(allow_nan=False, allow_infinity=False).filter(lambda x: x != -1000)


@given(st.data())
def test_a_row_comes_back_from_its_json(data: st.DataObject) -> None:
    """Whatever is measured or not, but for the values that mean unmeasured."""
    kinds = {
        "float": numbers,
        "int": st.integers(0, 2**40),
        "str": st.text(min_size=1),
        "bool": st.just(True),
        "list[float]": st.lists(numbers, min_size=9, max_size=9),
    }
    values = {"reasons": data.draw(st.lists(st.sampled_from(["overlap_low", "user_filter"]), unique=True))}
    for f in fields(Row):
        kind = str(f.type).removeprefix("<class '").removesuffix("'>")
        base, optional = kind.removesuffix(" | None"), kind.endswith("| None")
        if f.name in ("crop_a", "crop_b", "patch_grid"):
            num = 2 if f.name == "patch_grid" else 4
            strategy = st.lists(st.integers(0, 4096), min_size=num, max_size=num)
        elif f.name == "reasons":
            continue
        else:
            strategy = kinds[base]
        values[f.name] = data.draw(st.none() | strategy if optional else strategy)
    if values["motion"] is not None:  # then false is an answer
        values |= {name: bool(values[name]) for name in ("found", "repeated", "cut")}
    row = replace(Row(**values), shard="s", offset=1, size=2)
    assert row_from_json(sample_json(row), "s", 1, 2) == row
