"""Lists of licences, and where a licence goes: from the list of footage to manifest, shard, summary, page and export."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from runs import digests
from twoview.cli import main
from twoview.dataset import open_dataset
from twoview.errors import ConfigError
from twoview.exchange import export
from twoview.licences import counted, is_allowed, read_licences
from twoview.plan import read_plan
from twoview.shards import read_manifest, read_sample, read_scenes

FLAGS = ("--recipe", "consecutive", "--size", "112", "--overlap", "0.3:1", "--workers", "1")


def allowing(folder: Path, text: str, name: str = "allowed.txt") -> Path:
    (folder / name).write_text(text)
    return folder / name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("CC0-1.0\n", ("CC0-1.0",)),
        ("\ufeff# allowed at work\n\n  CC-BY-4.0  # and so on\n#MIT\n", ("CC-BY-4.0",)),
        ("CC-BY*\n-\nunknown\n", ("CC-BY*", "unknown")),
        ("LicenseRef-Ours#2", ("LicenseRef-Ours#2",)),
        ("CC BY 4.0\r\n", ("CC BY 4.0",)),
    ],
)
def test_a_list(text: str, expected: tuple[str, ...], tmp_path: Path) -> None:
    assert read_licences(allowing(tmp_path, text)) == expected


@pytest.mark.parametrize(
    ("data", "words"), [(b"\xff\xfe\0C", "not UTF-8"), (b"# nothing\n\n", "no licence in it"), (b"a\tb", "line 1")]
)
@pytest.mark.parametrize("verb", ["curate", "select"])
def test_a_bad_list(verb: str, data: bytes, words: str, dataset: Path, photos: Path, tmp_path: Path, capsys) -> None:
    path = tmp_path / "allowed.txt"
    path.write_bytes(data)
    args = [str(photos), "--out", str(tmp_path / "pairs")] if verb == "curate" else [str(dataset), "--name", "some"]
    assert main([verb, *args, "--licences", str(path)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"--licences {path}" in said
    assert words in said
    assert not (tmp_path / "pairs").exists()


def test_a_list_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--licences .*gone.txt: No such file"):
        read_licences(tmp_path / "gone.txt")


@pytest.mark.parametrize(
    ("licence", "allowed", "answer"),
    [
        ("CC-BY-4.0", ["CC-BY-4.0"], True),
        ("CC-BY-4.0", ["cc-by-4.0"], True),
        ("CC-BY-4.0", ["MIT", "CC-BY*"], True),
        ("CC-BY-NC-4.0", ["CC-BY-[0-9]*"], False),
        ("CC-BY-NC-4.0", ["CC-BY"], False),
        (None, ["*"], False),
        (None, ["unknown"], True),
        ("", ["Unknown"], True),
        ("-", ["unknown"], True),
        ("unknown", ["unknown"], True),
        ("CC0-1.0", ["unknown"], False),
        ("Odd [1", ["Odd [1"], True),
    ],
)
def test_what_is_allowed(licence: str | None, allowed: list[str], answer: bool) -> None:
    assert is_allowed(licence, allowed) is answer


def test_counts() -> None:
    assert list(counted(["MIT", None, "CC0-1.0", "", "CC0-1.0", "-"]).items()) == [("unknown", 3), ("CC0-1.0", 2), ("MIT", 1)]


@pytest.fixture(scope="module")
def mixed(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A list of three folders of photos: CC-BY-4.0, CC-BY-NC-4.0 and nothing said."""
    folder = tmp_path_factory.mktemp("mixed")
    for k, name in enumerate(("free", "restricted", "unsaid")):
        (folder / name).mkdir()
        for n in range(6):
            (folder / name / f"{n}.jpg").write_bytes((photos / f"{n + 6 * k + 1}.jpg").read_bytes())
    (folder / "list.tsv").write_text("free\tours\tCC-BY-4.0\nrestricted\tours\tCC-BY-NC-4.0\nunsaid\n")
    return folder / "list.tsv"


@pytest.fixture(scope="module")
def ledger(mixed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three curated."""
    out = tmp_path_factory.mktemp("ledger") / "pairs"
    assert main(["curate", "--list", str(mixed), "--out", str(out), *FLAGS]) == 0
    assert {row["scene"] for row in read_manifest(out).to_pylist() if row["kept"]} == {"free", "restricted", "unsaid"}
    return out


OF = {"free": "CC-BY-4.0", "restricted": "CC-BY-NC-4.0", "unsaid": None}


def test_a_licence_goes_with_its_pairs(ledger: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = read_manifest(ledger).to_pylist()
    assert {row["scene"]: row["licence"] for row in rows} == OF
    assert {row["scene"]: row["licence"] for row in read_scenes(ledger).to_pylist()} == OF
    plan = read_plan(ledger)
    assert plan
    assert {s.scene: s.licence for s in plan.slices} == OF
    for row in (row for row in rows if row["stored"]):
        content = json.loads(read_sample(ledger, row["shard"], row["offset"], row["size"])["json"])
        assert content["licence"] == (OF[row["scene"]] or "")
    kept = {name: sum(row["kept"] for row in rows if row["scene"] == name) for name in OF}
    assert main(["audit", str(ledger)]) == 0
    said = capsys.readouterr().out
    assert f"  {kept['free']:8,} CC-BY-4.0\n" in said
    assert f"  {kept['unsaid']:8,} unknown\n" in said
    assert f"CC-BY-NC-4.0 {kept['restricted']}" in (ledger / "report.html").read_text()
    for form in ("mimic", "pairs-txt", "webdataset"):
        export(open_dataset(ledger), form, tmp_path / form)
        note = json.loads((tmp_path / form / "export.json").read_text())
        assert note["licences"] == {licence or "unknown": kept[name] for name, licence in OF.items()}


def test_where_no_licence_is_known_nothing_is_said(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", str(dataset)]) == 0
    assert "licence" not in capsys.readouterr().out
    assert "licence of their footage" not in (dataset / "report.html").read_text()


def test_only_footage_that_is_allowed(mixed: Path, ledger: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    allowed, out = allowing(tmp_path, "CC-BY-4.0\n-\n"), tmp_path / "pairs"
    args = ["curate", "--list", str(mixed), "--out", str(out), "--licences", str(allowed), *FLAGS]
    assert main([*args, "--dry-run"]) == 0
    assert capsys.readouterr().out.startswith(f"left out: 1 scene under CC-BY-NC-4.0, not in {allowed}\n2 scenes, 12 frames")
    assert main(args) == 0
    assert capsys.readouterr().out.count("left out: ") == 1
    rows = {row["pair_id"]: row for row in read_manifest(out).to_pylist()}
    assert {row["scene"] for row in rows.values()} == {"free", "unsaid"}
    every = {row["pair_id"]: row for row in read_manifest(ledger).to_pylist()}
    assert all(every[name]["sha256_a"] == row["sha256_a"] for name, row in rows.items())  # how they are measured is the same
    configs = [json.loads((folder / "config.json").read_text())["config_sha256"] for folder in (out, ledger)]
    assert configs[0] == configs[1]


def test_no_licence_known(mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    allowed = allowing(tmp_path, "CC-*\n")
    assert (
        main(["curate", "--list", str(mixed), "--out", str(tmp_path / "p"), "--licences", str(allowed), *FLAGS, "--dry-run"]) == 0
    )
    assert f"left out: 1 scene under no known licence, not in {allowed}\n" in capsys.readouterr().out


def test_the_limit_counts_what_is_allowed(mixed: Path, tmp_path: Path) -> None:
    allowed, out = allowing(tmp_path, "unknown"), tmp_path / "pairs"
    assert main(["curate", "--list", str(mixed), "--out", str(out), "--licences", str(allowed), "--limit", "1", *FLAGS]) == 0
    assert {row["scene"] for row in read_scenes(out).to_pylist()} == {"unsaid"}


def test_nothing_is_allowed(mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    allowed, out = allowing(tmp_path, "MIT\n"), tmp_path / "pairs"
    assert main(["curate", "--list", str(mixed), "--out", str(out), "--licences", str(allowed), *FLAGS]) == 2
    said = capsys.readouterr()
    assert said.out.count("left out: ") == 3
    assert "none of the scenes given" in said.err
    assert not out.exists()


def test_another_list_later(mixed: Path, ledger: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A longer one is more footage, for --extend; a shorter one is less, which a run that is not finished needs."""
    out, args = tmp_path / "pairs", ["curate", "--list", str(mixed), *FLAGS]
    few, more = allowing(tmp_path, "CC-BY-4.0\n", "few"), allowing(tmp_path, "CC-BY*\n", "more")
    assert main([*args, "--out", str(out), "--licences", str(few)]) == 0
    before = digests(out)
    assert main([*args, "--out", str(out), "--licences", str(few)]) == 0
    assert main([*args, "--out", str(out), "--licences", str(more)]) == 2
    assert "add --extend" in capsys.readouterr().err
    assert main([*args, "--out", str(out), "--licences", str(more), "--extend"]) == 0
    after = digests(out)
    assert before.items() < after.items()
    assert {row["scene"] for row in read_manifest(out).to_pylist()} == {"free", "restricted"}
    assert main([*args, "--out", str(out), "--licences", str(few)]) == 2
    assert "not given now" in capsys.readouterr().err
    assert main([*args, "--out", str(out), "--licences", str(few), "--extend"]) == 0  # all is finished, and needs no footage
    assert digests(out) == after


def test_a_selection_by_licence(ledger: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = read_manifest(ledger).to_pylist()
    for name, text, scenes in (
        ("free", "CC-BY-4.0", {"free"}),
        ("cc", "cc-by*", {"free", "restricted"}),
        ("unsaid", "-", {"unsaid"}),
        ("both", "# some\nCC-BY-NC*\nunknown\n", {"restricted", "unsaid"}),
    ):
        assert main(["select", str(ledger), "--name", name, "--licences", str(allowing(tmp_path, text))]) == 0
        chosen = set(pq.read_table(ledger / "selections" / f"{name}.parquet")["key"].to_pylist())
        assert chosen == {row["key"] for row in rows if row["kept"] and row["scene"] in scenes}
    assert main(["select", str(ledger), "--name", "none", "--licences", str(allowing(tmp_path, "MIT"))]) == 4
    capsys.readouterr()
    assert main(["audit", f"{ledger}@both"]) == 0
    assert "CC-BY-4.0" not in capsys.readouterr().out
    assert "licences CC-BY-NC*, unknown" in (ledger / "selections" / "both.html").read_text()


SOURCE = """
import numpy as np
from dataclasses import replace
from pathlib import Path
from twoview.recipes import consecutive
from twoview.schema import Frame, SceneInfo


class Mine:
    LICENCE = "CC0-1.0"

    def __init__(self, names=("x", "y")):
        self._names = list(names)

    def names(self):
        return self._names

    def open(self, name):
        return Views(name)

    def about(self, name):
        return SceneInfo(source="mine", scene=name, uri=name, kind="mine", licence={"x": "MIT", "y": "CC0-1.0"}[name])


class Silent:
    def names(self):
        return ["x", "y"]

    def open(self, name):
        return Views(name)


class Views:
    times_s = None

    def __init__(self, name):
        self.name, self.licence = name, {"x": "MIT", "y": "CC0-1.0"}[name]

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return Frame(id=f"mine/{self.name}/{index}", image=np.full((40, 40, 3), 99, np.uint8))


class Choosing(Mine):
    def only(self, names):
        return Choosing([name for name in self._names if name in set(names)])


def source(paths, list_file):
    return Mine()


def silent(paths, list_file):
    return Silent()


def choosing(paths, list_file):
    return Choosing()


def mine():
    return replace(consecutive(), source=source, size=32)


def mine_silent():
    return replace(consecutive(), source=silent, size=32)


def mine_too():
    return replace(consecutive(), source=choosing, size=32)
"""


def test_a_source_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Says of its scenes what licence they have, and is asked for some of them."""
    (tmp_path / "licensed_source.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    allowing(tmp_path, "MIT\n")
    args = ("--workers", "1", "--licences", "allowed.txt")
    assert main(["curate", ".", "--out", "a", "--recipe", "licensed_source:mine", *args]) == 2
    assert "Mine has no only(names)" in capsys.readouterr().err
    assert main(["curate", ".", "--out", "a", "--recipe", "licensed_source:mine_too", *args]) == 4
    assert [(row["scene"], row["licence"]) for row in read_scenes(tmp_path / "a").to_pylist()] == [("x", "MIT")]
    assert main(["curate", ".", "--out", "b", "--recipe", "licensed_source:mine_silent", "--workers", "1"]) == 4
    assert [row["licence"] for row in read_scenes(tmp_path / "b").to_pylist()] == ["MIT", "CC0-1.0"]  # as the scenes say
