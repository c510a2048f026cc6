"""The verbs as a user types them: flags, what is printed, exit codes."""

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import cv2
import numpy as np
import pytest

import twoview as package
from runs import curate, digests, twoview
from twoview.cli import main
from twoview.errors import ConfigError
from twoview.pretraining.recipes import PRETRAIN
from twoview.recipes import CURATE
from twoview.schema import Row
from twoview.shards import read_manifest, read_sample


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """What a mistake is answered with."""
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("twoview: ")
    assert said.err.count("\n") == 1
    return said.err.rstrip("\n")


# ------------------------------------------------------------------------------------------------------------ flags


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--bogus", "Unrecognized options: --bogus"),
        ("--overlap 0.7", "--overlap 0.7: give LOW:HIGH, as 0.5:0.7"),
        ("--overlap a:b", "--overlap a:b: give LOW:HIGH"),
        ("--overlap 0.7:0.5", "--overlap is 0.7:0.5: give LOW:HIGH with 0 <= LOW <= HIGH <= 1"),
        ("--store 0.6:0.9", "--store 0.6:0.9 must hold all of --overlap 0.5:0.7"),
        ("--size big", "--size"),
        ("--size 3", "--size is 3: give a side from 16 to 4096 px"),
        ("--crop circle", "'circle'"),
        ("--parts 0/3", "--parts 0/3: give i/n with i from 1 to n, as 3/8"),
        ("--parts 4/3", "--parts 4/3"),
        ("--parts 3", "--parts 3"),
        ("--workers -1", "--workers is -1"),
        ("--limit 0", "--limit is 0"),
        ("--recipe released --seed -1", "--seed is -1: give 0 or more"),
        ("--max-pairs-per-scene 0", "--max-pairs-per-scene is 0: give 1 or more"),
        ("--propose.seconds 0", "--propose.seconds is 0.0: give a number above 0"),
        ("--propose.step 1", "--propose.step"),
        ("--recipe paper --estimator.ratio 2", "--estimator.ratio is 2.0"),
        ("--recipe released --seed 3 --estimator.seed 4", "--seed is 3 and --estimator.seed 4: give one of them"),
        (
            "--recipe nope",
            "--recipe nope: there is paper, covisibility, consecutive, best_of_window, all_pairs, photos, stereo",
        ),
        ("--recipe no_such_file:f", "--recipe no_such_file:f: ModuleNotFoundError: No module named 'no_such_file'"),
        ("--recipe json:nothing", "--recipe json:nothing: AttributeError"),
        ("--recipe json:loads", "--recipe json:loads: TypeError: loads() missing 1 required positional argument"),
        ("--recipe platform:system", "--recipe platform:system gives a str, not a CurateConfig"),
    ],
)
def test_wrong_flags(flags: str, words: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "pairs"
    workers = [] if "--workers" in flags else ["--workers", "1"]
    assert main(["curate", str(photos), "--out", str(out), *workers, *flags.split()]) == 2
    assert words in one_line(capsys)
    assert not out.exists()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ("frobnicate", "frobnicate: there is curate, measure, audit"),
        ("curate --workers 1", "--out"),
        ("curate --workers 1 --out x", "curate: give a video or a folder, or --list FILE"),
        ("curate --workers 1 --out x --list gone.txt", "--list gone.txt: No such file or directory"),
        ("audit", "The folder that curate wrote"),
        ("recipes paper", "recipes takes no more words, not paper"),
        ("measure a.jpg", "measure takes two pictures, not 1 (or --pairs FILE)"),
        ("measure a.jpg b.jpg --pairs c", "give two pictures or --pairs FILE, not both"),
        ("measure --pairs c --picture d.png", "--picture draws one pair, so it does not go with --pairs"),
        ("measure --pairs gone.tsv", "--pairs gone.tsv: No such file or directory"),
        ("measure a.jpg b.jpg --size 0", "--size is 0"),
        ("measure a.jpg b.jpg --estimator best", "'best'"),
    ],
)
def test_wrong_usage(args: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(args.split()) == 2
    assert words in one_line(capsys)


def test_terminated_while_the_flags_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is no wrong flag."""
    monkeypatch.setattr("tyro.cli", lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit) as stop:
        main(["audit", str(tmp_path)])
    assert stop.value.code == 143


def test_no_words_at_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "twoview curate PATH" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert re.fullmatch(r"twoview \d+\.\d+\.\d+\S*\n", capsys.readouterr().out)


def test_recipes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes"]) == 0
    curate, pretrain = capsys.readouterr().out.split("\n\nof pretrain:\n")
    assert [line.split()[0] for line in curate.splitlines()] == list(CURATE)
    assert [line.split()[0] for line in pretrain.splitlines()] == list(PRETRAIN)


def test_every_flag_is_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["curate", "--help"])
    assert stop.value.code == 0
    said = capsys.readouterr().out
    flags = "list out recipe overlap store workers parts extend dry-run limit seed max-pairs-per-scene size crop propose.seconds"
    assert all(f"--{flag} " in said for flag in [*flags.split(), "estimator.min-inliers"])


def test_limit(footage: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert curate(footage[::-1], tmp_path / "pairs", "--limit", "1") == 0
    assert "from 1 scene:" in capsys.readouterr().out
    assert {row["scene"] for row in read_manifest(tmp_path / "pairs").to_pylist()} == {"photos"}


def test_flags_become_the_configuration(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "pairs"
    flags = "--recipe=released --overlap 0.3:0.9 --store 0:1 --crop none --size 64 --seed 7"
    flags += " --max-pairs-per-scene 3 --propose.no-double"
    assert curate([photos], out, flags=tuple(flags.split())) in (0, 4)
    config = json.loads((out / "config.json").read_text())["config"]
    assert config["estimator"] == {"type": "twoview.curation.homography:Released", "name": "released@1", "seed": 7}
    assert config["propose"] == {"type": "twoview.curation.propose:EverySeconds", "seconds": 1.0, "double": False}
    assert (config["overlap"], config["store"], config["crop"]) == ([0.3, 0.9], [0, 1], "none")
    assert (config["size"], config["seed"], config["max_pairs_per_scene"]) == (64, 7, 3)


def test_the_estimators_seed_is_the_runs(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "pairs"
    assert curate([photos], out, flags=("--recipe", "released", "--estimator.seed", "5", "--size", "64")) in (0, 4)
    config = json.loads((out / "config.json").read_text())["config"]
    assert (config["seed"], config["estimator"]["seed"]) == (5, 5)


def test_summary_counts_what_the_manifest_holds(footage: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert curate(footage, tmp_path / "pairs") == 0
    said = capsys.readouterr()
    rows = read_manifest(tmp_path / "pairs").to_pylist()
    kept = sum(row["kept"] for row in rows)
    assert said.err == ""
    lines = said.out.splitlines()
    assert lines[0] == f"{kept} pairs kept of {len(rows)} measured, from 2 scenes: {tmp_path / 'pairs'}"
    assert lines[1] == f"{len(rows) - kept:10,} overlap_high"
    assert re.fullmatch(r"in \d+\.\d s", lines[2])


@pytest.mark.slow
def test_demo(tmp_path: Path) -> None:
    done = twoview("demo", "flat", "--workers", 2, cwd=tmp_path)
    assert done.returncode == 0
    assert all(" measured, " in line for line in done.stderr.splitlines())  # how far it is, where that takes long
    command = next(line for line in done.stdout.splitlines() if line.startswith("$ twoview "))
    assert main(["audit", str(tmp_path / "flat" / "pairs")]) == 0
    kept = read_manifest(tmp_path / "flat" / "pairs")["kept"].to_pylist().count(True)
    assert kept >= 20
    again = twoview(*command.split()[2:], "--out", "again", cwd=tmp_path)  # the command that it shows does the same
    assert again.returncode == 0
    assert digests(tmp_path / "again") == digests(tmp_path / "flat" / "pairs")


# --------------------------------------------------------------------------------------------- a recipe of one's own

MINE = '''
from dataclasses import dataclass, replace
import numpy as np
from twoview.recipes import paper
from twoview.schema import Match


@dataclass(frozen=True, kw_only=True)
class Strides:
    """Pairs a stride apart."""

    stride: int = 7
    """How many frames from one to the next."""

    def __call__(self, scene):
        for i in range(0, len(scene) - self.stride, self.stride):
            yield [(i, i + self.stride)]


@dataclass(frozen=True, kw_only=True)
class Brightness:
    """Overlap by brightness: not a good idea."""

    name = "brightness@1"
    bias: float = 0.0
    """Added to every overlap."""

    def describe(self, image):
        return image.mean()

    def measure(self, a, b):
        FAULT
        overlap = np.float32(min(a, b) / max(a, b) + self.bias)
        return Match(found=True, overlap_ab=overlap, overlap_ba=1)


def mine():
    return replace(paper(), propose=Strides(), estimator=Brightness(), overlap=(0.3, 1.0), size=64)
'''


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "my_file.py").write_text(MINE.replace("FAULT", "pass"))
    return tmp_path


def test_a_recipe_of_ones_own(own: Path, footage: list[Path]) -> None:
    """From the working folder, in workers too, its fields as flags."""
    for workers in (1, 2):
        out = own / f"pairs{workers}"
        command = ("--recipe", "my_file:mine", "--workers", workers, "--propose.stride", "1", "--estimator.bias", "-0.001")
        done = twoview("curate", *footage, "--out", out, *command, cwd=own)
        assert (done.returncode, done.stderr) == (0, "")
    assert digests(own / "pairs1") == digests(own / "pairs2")
    assert len(digests(own / "pairs1")) > 4  # several parts, for several workers
    config = json.loads((out / "config.json").read_text())["config"]
    assert config["propose"] == {"type": "my_file:Strides", "stride": 1}
    assert config["estimator"] == {"type": "my_file:Brightness", "name": "brightness@1", "bias": -0.001}
    rows = read_manifest(out).to_pylist()
    assert {row["estimator"] for row in rows} == {"brightness@1"}
    assert {row["frame_index_b"] - row["frame_index_a"] for row in rows} == {1}
    content = json.loads(read_sample(out, *(rows[0][name] for name in ("shard", "offset", "size")))["json"])
    assert content["overlap"] == rows[0]["overlap"] < 1
    assert (content["overlap_ba"], type(content["overlap_ba"])) == (1.0, float)
    assert main(["audit", str(out)]) == 0


def test_its_fields_are_in_the_help(own: Path) -> None:
    done = twoview("curate", "--recipe", "my_file:mine", "--help", cwd=own)
    assert done.returncode == 0
    for words in (
        "--propose.stride INT",
        "How many frames from one to the next",
        "--estimator.bias FLOAT",
        "Added to every overlap",
    ):
        assert words in done.stdout
    assert "--propose.seconds" not in done.stdout


@pytest.mark.parametrize("workers", [1, 2])
def test_an_exception_in_it(workers: int, own: Path, footage: list[Path]) -> None:
    """A line that says where and what, then the way there for who wrote it."""
    (own / "my_file.py").write_text(MINE.replace("FAULT", "raise ZeroDivisionError('the lens cap is on')"))
    done = twoview("curate", *footage, "--out", "pairs", "--recipe", "my_file:mine", "--workers", workers, cwd=own)
    assert done.returncode == 1
    first, *way = done.stderr.splitlines()
    assert re.fullmatch(r"twoview: (walk.mp4|photos): ZeroDivisionError: the lens cap is on. Finished parts are kept", first)
    assert way[0] == "Traceback (most recent call last):"
    assert way[-1] == "ZeroDivisionError: the lens cap is on"
    assert sum(line.startswith("Traceback") for line in way) == 1
    assert any("my_file.py" in line for line in way)
    assert not list((own / "pairs" / "manifest").iterdir())


def test_a_recipe_with_a_typing_error(own: Path, footage: list[Path]) -> None:
    (own / "my_file.py").write_text("def mine(:\n")
    done = twoview("curate", *footage, "--out", "pairs", "--recipe", "my_file:mine", "--workers", 1, cwd=own)
    assert done.returncode == 2
    assert re.fullmatch(r"twoview: --recipe my_file:mine: SyntaxError: .*\(my_file.py, line 1\)\n", done.stderr)


# ---------------------------------------------------------------------------------------------------------- measure


@pytest.fixture
def two(photos: Path) -> list[str]:
    return [str(photos / "1.jpg"), str(photos / "5.jpg")]


def test_measure_in_words(two: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["measure", *two]) == 0
    said = capsys.readouterr().out
    assert re.fullmatch(
        r"overlap 0\.\d{4} \(a in b [01]\.\d{4}, b in a [01]\.\d{4}\)\n"
        r"\d+ inliers of \d+ matches\nscale \d\.\d{3}, rotation -?\d+\.\d deg\n",
        said,
    )


def test_measure_of_what_has_nothing_in_common(two: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite(str(tmp_path / "grey.png"), cv2.imread(two[0])[:1, :1].repeat(64, 0).repeat(64, 1))
    assert main(["measure", two[0], str(tmp_path / "grey.png")]) == 0
    assert capsys.readouterr().out == "not found: few_matches\n"


@pytest.mark.parametrize("estimator", ["covisibility", "paper", "released"])
def test_measure_as_json(estimator: str, two: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["measure", *two, "--json", "--estimator", estimator]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer.keys() <= {f.name for f in fields(Row)}
    assert answer.keys() >= {"overlap", "overlap_ab", "overlap_ba", "found", "estimator", "homography", "num_inliers", "reasons"}
    assert answer["estimator"] == f"{estimator}@1"
    assert answer["overlap"] == min(answer["overlap_ab"], answer["overlap_ba"])
    assert (answer["found"], answer["reasons"], len(answer["homography"])) == (True, [], 9)


def test_measure_says_what_the_manifest_says(dataset: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the photos themselves, cropped and resized the same way: but for the JPEG between."""
    row = next(r for r in read_manifest(dataset).to_pylist() if r["scene"] == "photos")
    pair = [str(photos / f"{row[f'frame_index_{v}'] + 1}.jpg") for v in "ab"]
    assert main(["measure", *pair, "--json", "--size", "112", "--estimator", "paper"]) == 0
    assert json.loads(capsys.readouterr().out)["overlap"] == pytest.approx(row["overlap"], abs=0.03)


@pytest.mark.parametrize("name", ["why.png", "why.jpg"])
def test_measure_draws_a_picture(name: str, two: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["measure", *two, "--picture", str(tmp_path / name)]) == 0
    assert capsys.readouterr().out.startswith("overlap ")
    image = cv2.imread(str(tmp_path / name))
    assert image.shape == (28 + 2 * 448, 896, 3)
    assert image.std() > 10


def test_measure_draws_into_no_other_kind_of_file(two: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["measure", *two, "--picture", str(tmp_path / "why.txt")]) == 2
    assert f"--picture {tmp_path / 'why.txt'}: give a name that ends in .png or .jpg" in one_line(capsys)
    assert main(["measure", *two, "--picture", str(tmp_path / "nowhere" / "why.png")]) == 2
    assert one_line(capsys) == f"twoview: --picture {tmp_path / 'nowhere' / 'why.png'}: No such file or directory"


def test_measure_of_a_picture_that_cannot_be_read(two: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["measure", two[0], str(tmp_path / "gone.jpg")]) == 3
    assert one_line(capsys) == f"twoview: {tmp_path / 'gone.jpg'}: No such file or directory"


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 4), (8, 8, 3), (0, 8, 3)])
def test_measure_of_an_array_that_is_no_picture(shape: tuple[int, ...]) -> None:
    array = np.zeros(shape, np.float32 if shape == (8, 8, 3) else np.uint8)
    with pytest.raises(ConfigError, match=rf"a picture is uint8 RGB \[H, W, 3\], not {array.dtype} {re.escape(str(list(shape)))}"):
        package.measure(array, array)


def test_measure_a_list_in_order(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A pair that cannot be read stands in its place, and the rest goes on."""
    (tmp_path / "torn.jpg").write_bytes(b"torn")
    names = [
        (f"{photos}/1.jpg", f"{photos}/5.jpg"),
        (f"{photos}/1.jpg", f"{tmp_path}/torn.jpg"),
        (f"{photos}/2.jpg", f"{photos}/3.jpg"),
    ]
    (tmp_path / "pairs.tsv").write_text("\ufeff" + "\n\n".join("\t".join(pair) for pair in names) + "\n", encoding="utf-8")
    assert main(["measure", "--pairs", str(tmp_path / "pairs.tsv")]) == 3
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(a["a"], a["b"]) for a in answers] == names
    assert [a["found"] for a in answers] == [True, False, True]
    assert answers[1]["reasons"] == ["unreadable"]
    assert answers[1]["error"].startswith(f"{tmp_path}/torn.jpg: ")
    assert main(["measure", *names[2], "--json"]) == 0
    alone = json.loads(capsys.readouterr().out)
    assert {k: answers[2][k] for k in alone} == alone


@pytest.mark.parametrize("line", ["one.jpg", "a.jpg\tb.jpg\tc.jpg", "\tb.jpg", "a.jpg b.jpg"])
def test_measure_a_list_with_a_bad_line(line: str, two: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is measured before the whole list is in order."""
    (tmp_path / "pairs.tsv").write_text("\t".join(two) + f"\n{line}\n")
    assert main(["measure", "--pairs", str(tmp_path / "pairs.tsv")]) == 2
    assert one_line(capsys) == f"twoview: --pairs {tmp_path / 'pairs.tsv'}, line 2: write two paths with a tab between them"


def test_measure_a_list_that_is_no_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pairs.tsv").write_bytes(b"\xff\xfe\xfa")
    assert main(["measure", "--pairs", str(tmp_path / "pairs.tsv")]) == 2
    assert one_line(capsys) == f"twoview: --pairs {tmp_path / 'pairs.tsv'}: not UTF-8 text"


def test_a_pipe_that_closes_is_no_error(dataset: Path) -> None:
    command = f"{sys.executable} -m twoview audit {dataset} | head -n 1"
    done = subprocess.run(["bash", "-c", f"{command}; exit ${{PIPESTATUS[0]}}"], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.returncode == 0
