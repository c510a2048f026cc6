"""Choosing among stored pairs: bands, SQL, quotas, drop lists; and that nothing else is touched."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import twoview
from runs import digests
from twoview.cli import main
from twoview.errors import ConfigError
from twoview.schema import Row
from twoview.selections import SelectConfig, read_drop, read_quota, select, write_selection
from twoview.shards import ROW_SCHEMA, key_of, read_manifest, table_bytes


def row(number: int, **more: Any) -> Row:
    """A stored and kept pair of its own group."""
    pair_id = f"mine/scene/{number:06d}-{number + 1:06d}"
    known = Row(
        key=key_of(pair_id),
        pair_id=pair_id,
        source="mine",
        scene="scene",
        group=pair_id,
        frame_index_a=number,
        frame_index_b=number + 1,
        kept=True,
        stored=True,
        found=True,
        estimator="paper@1",
        overlap=0.6,
    )
    return replace(known, **more)


def made(folder: Path, rows: list[Row], per_part: int = 4) -> Path:
    """A dataset that has manifests and no pictures: what selecting reads."""
    (folder / "manifest").mkdir(parents=True)
    (folder / "plan.parquet").write_bytes(b"")
    for part, start in enumerate(range(0, len(rows), per_part)):
        (folder / "manifest" / f"part-{part:06d}.parquet").write_bytes(table_bytes(rows[start : start + per_part], ROW_SCHEMA))
    return folder


def ids(folder: Path, config: SelectConfig, within: str | None = None) -> list[int]:
    """Numbers of the pairs that are chosen."""
    keys = select(folder, config, within).keys.to_pylist()
    number = {key_of(f"mine/scene/{n:06d}-{n + 1:06d}"): n for n in range(100)}
    return [number[key] for key in keys]


def refused(number: int, overlap: float | None, *reasons: str, **more: Any) -> Row:
    return row(number, overlap=overlap, kept=False, reasons=list(reasons), **more)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    rows = [
        row(0, overlap=0.5),
        row(1, overlap=0.7, scale=1.5),
        refused(2, 0.45, "overlap_low"),
        refused(3, 0.75, "overlap_high", scale=1.0),
        refused(4, 0.6, "user_filter"),
        refused(5, 0.45, "overlap_low", "user_filter"),
        refused(6, None, "few_inliers", stored=False),
        refused(7, 0.9, "overlap_high", stored=False),
        row(8, group="one", overlap=0.55),
        refused(9, 0.6, "not_best", group="one"),
        refused(10, 0.42, "overlap_low", group="one"),
    ]
    return made(tmp_path / "pairs", rows)


def test_without_conditions_the_kept_pairs(pairs: Path) -> None:
    assert ids(pairs, SelectConfig()) == [0, 1, 8]


@pytest.mark.parametrize(
    ("band", "expected"),
    [
        ((0.5, 0.7), [0, 1, 8]),
        ((0.4, 0.8), [0, 1, 2, 3, 10]),  # of the group the one that shares least
        ((0.43, 0.8), [0, 1, 2, 3, 8]),
        ((0.58, 0.7), [1, 9]),  # what was beaten is the best of a narrower band
        ((0.5, 0.5), [0]),
        ((0.7, 0.95), [1, 3]),  # what is not stored is not chosen
    ],
)
def test_a_band(band: tuple[float, float], expected: list[int], pairs: Path) -> None:
    """Both ends count; pairs refused for anything but their overlap stay refused."""
    assert ids(pairs, SelectConfig(overlap=band)) == expected


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("overlap >= 0.6", [1]),
        ("scale > 1.2 or frame_index_a = 0", [0, 1]),
        ("scale is null", [0, 8]),
        ("\"group\" = 'one'", [8]),
        ("pair_id like '%000008-%'", [8]),
        ("len(reasons) = 0", [0, 1, 8]),
        ("not kept", []),
    ],
)
def test_sql_over_the_columns(where: str, expected: list[int], pairs: Path) -> None:
    assert ids(pairs, SelectConfig(where=where)) == expected


def test_sql_and_band_together(pairs: Path) -> None:
    assert ids(pairs, SelectConfig(overlap=(0.4, 0.8), where="not kept")) == [2, 3, 10]


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("overlap >", r'syntax error at .* \(write "group" in quotes\)'),
        ("group = 'one'", r'syntax error at or near "=" \(write "group" in quotes\)'),
        ("overlap > 0.5; drop table x", "Parser Error"),
        ("overlap = 'x'", "Could not convert string 'x' to DOUBLE"),
        ("no_such(overlap)", "no_such does not exist"),
        ("no_such_column = 1", r'"no_such_column" not found .*\(columns: key, pair_id, .*; write words as \'word\'\)'),
        ("scene = walk", r'"walk" not found .*\(columns: key, pair_id, '),
    ],
)
def test_sql_that_does_not_run_is_one_clear_line(where: str, words: str, pairs: Path) -> None:
    """All columns are named where one was not found, and only there."""
    with pytest.raises(ConfigError, match=rf"--where .*{words}") as error:
        select(pairs, SelectConfig(where=where))
    assert "\n" not in str(error.value)
    assert ("pair_id" in str(error.value)) == ("columns" in words)


@pytest.mark.parametrize(
    "source", ["'{}.csv'", "read_csv('{}.csv')", "read_text('{}.csv')", "'{}.parquet'", "read_parquet('{}.parquet')", "glob('{}*')"]
)
def test_sql_reads_no_other_file(source: str, pairs: Path, tmp_path: Path) -> None:
    table = pa.table({"key": [key_of("mine/scene/000000-000001")]})
    pq.write_table(table, tmp_path / "secret.parquet")
    (tmp_path / "secret.csv").write_text(f"key\n{table['key'][0]}\n")
    with pytest.raises(ConfigError, match=r"--where .*disabled"):
        select(pairs, SelectConfig(where=f"exists (select * from {source.format(tmp_path / 'secret')})"))


def test_sql_sees_no_variable_of_ours(pairs: Path) -> None:
    with pytest.raises(ConfigError, match="pairs does not exist"):
        select(pairs, SelectConfig(where="exists (select * from pairs)"))


def test_sql_over_parts_of_an_earlier_version(pairs: Path) -> None:
    """The first lacks a column, and what it lacks is null."""
    path = pairs / "manifest" / "part-000000.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["scale", "sha256_a"]), path)
    assert ids(pairs, SelectConfig(where="scale is null")) == [0, 1, 8]
    shutil.move(pairs, pairs.with_name("p[a]*rs"))  # nor is the name of the folder a pattern
    assert ids(pairs.with_name("p[a]*rs"), SelectConfig(where="frame_index_a = 8")) == [8]


def many(tmp_path: Path) -> Path:
    return made(tmp_path / "many", [row(n, source="ab"[n % 2]) for n in range(60)], per_part=25)


def test_quotas_are_by_hash(tmp_path: Path) -> None:
    """The same source gives the same pairs whatever the others have; a larger quota holds all of a smaller one."""
    folder = many(tmp_path)
    chosen = {n: set(ids(folder, SelectConfig(quota={"a": n, "*": 0}))) for n in (0, 5, 12, 30, 99)}
    assert [len(c) for c in chosen.values()] == [0, 5, 12, 30, 30]
    assert chosen[5] < chosen[12] < chosen[30] == chosen[99] == set(range(0, 60, 2))
    keys = sorted(key_of(f"mine/scene/{n:06d}-{n + 1:06d}") for n in range(0, 60, 2))
    assert {key_of(f"mine/scene/{n:06d}-{n + 1:06d}") for n in chosen[5]} == set(keys[:5])
    assert chosen[12] == set(ids(folder, SelectConfig(quota={"a": 12, "b": 7}))) - set(range(1, 60, 2))
    assert len(ids(folder, SelectConfig(quota={"a": 12}))) == 12 + 30  # who has no line is not limited


def test_a_shortfall_is_named(tmp_path: Path) -> None:
    selected = select(many(tmp_path), SelectConfig(quota={"a": 31, "b": 30, "c": 7, "d": 0}))
    assert dict(selected.short) == {"a": 1, "c": 7}
    assert dict(selected.by_source) == {"a": 30, "b": 30}
    assert selected.num_from == 60


def test_order_is_the_manifest_s(tmp_path: Path) -> None:
    chosen = ids(many(tmp_path), SelectConfig(quota={"*": 9}))
    assert chosen == sorted(chosen)


def test_drop_by_key_or_pair_id(pairs: Path) -> None:
    names = frozenset({key_of("mine/scene/000000-000001"), "mine/scene/000008-000009", "mine/scene/000006-000007", "nothing"})
    selected = select(pairs, SelectConfig(drop=names))
    assert ids(pairs, SelectConfig(drop=names)) == [1]
    assert selected.unknown_drops == ("nothing",)


def test_a_dropped_pair_makes_room_in_its_group(pairs: Path) -> None:
    config = SelectConfig(overlap=(0.4, 0.8), drop=frozenset({key_of("mine/scene/000010-000011")}))
    assert ids(pairs, config) == [0, 1, 2, 3, 8]


def test_selections_of_selections(pairs: Path) -> None:
    config = SelectConfig(overlap=(0.4, 0.8))
    write_selection(pairs, "wide", select(pairs, config), config, None)
    assert ids(pairs, SelectConfig(), "wide") == [0, 1, 2, 3, 10]  # all of it, kept or not
    assert ids(pairs, SelectConfig(overlap=(0.4, 0.5)), "wide") == [0, 2, 10]
    assert ids(pairs, SelectConfig(where="kept"), "wide") == [0, 1]


def test_the_file_says_how_it_was_made(pairs: Path) -> None:
    config = SelectConfig(overlap=(0.4, 0.8), where="scale > 0", quota={"mine": 3}, drop=frozenset({"b", "a"}))
    path = write_selection(pairs, "x", select(pairs, config), config, None)
    how = json.loads(pq.read_schema(path).metadata[b"selection"])
    chosen = {"overlap": [0.4, 0.8], "where": "scale > 0", "quota": {"mine": 3}, "drop": ["a", "b"], "within": None}
    assert how == chosen | {"licences": [], "dedup": False, "against": [], "near_bits": None}
    assert pq.read_table(path).column_names == ["key"]


def test_a_selection_is_not_changed(pairs: Path) -> None:
    config = SelectConfig()
    for _ in range(2):  # the same again is no change
        path = write_selection(pairs, "x", select(pairs, config), config, None)
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=r"x\.parquet is there with other pairs: give another --name"):
        write_selection(pairs, "x", select(pairs, SelectConfig(overlap=(0, 1))), config, None)
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["", "../x", "a b", ".hidden", "x/y", "é", "a" * 101])
def test_names(name: str, pairs: Path) -> None:
    with pytest.raises(ConfigError, match="--name"):
        write_selection(pairs, name, select(pairs, SelectConfig()), SelectConfig(), None)


def test_quota_files(tmp_path: Path) -> None:
    path = tmp_path / "quota.tsv"
    path.write_text("# source\tpairs\nscannet\t10\nmy source\t0\n\nhm3d 7\n*\t5\n")
    assert read_quota(path) == {"scannet": 10, "my source": 0, "hm3d": 7, "*": 5}
    for wrong, words in (
        ("a\tb\n", "line 1: write a source"),
        ("a\t1\na\t2\n", "line 2: a stands twice"),
        ("7\n", "line 1"),
        ("a\t-1", "line 1"),
    ):
        path.write_text(wrong)
        with pytest.raises(ConfigError, match=words):
            read_quota(path)
    with pytest.raises(ConfigError, match=r"--quota .*: No such file"):
        read_quota(tmp_path / "none")


def test_drop_files(tmp_path: Path) -> None:
    path = tmp_path / "drop.txt"
    path.write_text("# seen\nabc \n\nvideo/a b.mp4/000001-000002\n")
    assert read_drop(path) == {"abc", "video/a b.mp4/000001-000002"}


# ---------------------------------------------------------------------------------------------------- the command line


@pytest.fixture
def own(wide: Path, tmp_path: Path) -> Path:
    """A copy of `wide` to write selections into."""
    shutil.copytree(wide, tmp_path / "wide")
    return tmp_path / "wide"


def test_from_the_command_line(own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = digests(own)
    stored = read_manifest(own)
    num = stored["stored"].to_pylist().count(True)
    args = ["select", str(own), "--name", "low", "--overlap", "0.5:0.7"]
    assert main(args) == 0
    assert capsys.readouterr().out.splitlines()[0].endswith(f"of {num} stored: {own}@low")
    low = twoview.open(f"{own}@low")
    assert len(low) > 2
    assert all(0.5 <= pair.row.overlap <= 0.7 and not pair.row.kept for pair in low)
    assert main(args) == 0
    assert main(["select", f"{own}@low", "--name", "lower", "--where", "source = 'video'"]) == 0
    assert 0 < len(twoview.open(own, "lower")) < len(low)
    assert digests(own) == before
    quota, drop = tmp_path / "quota", tmp_path / "drop"
    quota.write_text("video 1\nscannet 5\n")
    drop.write_text("nobody\n")
    capsys.readouterr()
    assert main(["select", str(own), "--name", "few", "--quota", str(quota), "--drop", str(drop)]) == 0
    said = capsys.readouterr()
    assert "scannet: 5 pairs fewer than its quota" in said.err
    assert "--drop: 1 of its lines are not in" in said.err
    assert "         1 video" in said.out


def test_beyond_what_was_stored(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It was curated with --store 0.3:0.9."""
    assert main(["select", str(own), "--name", "beyond", "--overlap", "0.2:0.9"]) == 0
    assert "pairs were stored from 0.3 to 0.9 alone (--store of curate)" in capsys.readouterr().err
    assert main(["select", str(own), "--name", "within", "--overlap", "0.3:0.9"]) == 0
    assert capsys.readouterr().err == ""


def test_nothing_selected(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["select", str(own), "--name", "none", "--where", "overlap > 2"]) == 4
    assert "nothing selected of" in capsys.readouterr().err
    assert not (own / "selections" / "none.parquet").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "--name"),
        (["--name", "a/b"], "--name a/b: give up to 100 letters"),
        (["--name", "x", "--overlap", "0.5"], "--overlap 0.5: give LOW:HIGH"),
        (["--name", "x", "--where", "size of it"], "--where size of it"),
        (["--name", "x", "--quota", "nowhere"], "--quota nowhere: No such file"),
    ],
)
def test_wrong_flags(flags: list[str], words: str, dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["select", str(dataset), *flags]) == 2
    said = capsys.readouterr()
    assert words in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""


@pytest.mark.parametrize("band", [(0.7, 0.5), (-0.1, 0.5), (0.5, 1.1)])
def test_a_band_that_is_none(band: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match=rf"--overlap {band[0]}:{band[1]}: give LOW:HIGH"):
        SelectConfig(overlap=band)
