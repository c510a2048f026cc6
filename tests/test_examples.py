"""The examples run as their first lines say, and stay short."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import twoview
from runs import twoview as command
from twoview.pretraining.checkpoints import read_checkpoint
from twoview.shards import read_manifest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda p: p.name)
def test_examples_fit_on_a_screen(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 60


def test_own_video(walk: Path, tmp_path: Path) -> None:
    script = [sys.executable, str(EXAMPLES / "01_own_video.py"), str(walk), str(tmp_path / "pairs")]
    said = subprocess.run(script, capture_output=True, text=True, check=True, timeout=120).stdout
    pairs = twoview.open(tmp_path / "pairs")
    assert len(pairs) > 3
    assert said.splitlines()[0] == repr(pairs)
    assert said.count("overlap 0.") == len(pairs)
    seen, there, elsewhere = map(int, re.search(r"(\d+) of 196 patches .* apart: (\d+), from other patches (\d+)", said).groups())
    assert seen > 90
    assert there < elsewhere / 2


def test_own_video_that_is_none(tmp_path: Path) -> None:
    """One line and the exit code of what was raised."""
    script = [sys.executable, str(EXAMPLES / "01_own_video.py"), str(tmp_path / "nofile.mp4"), str(tmp_path / "pairs")]
    done = subprocess.run(script, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"{tmp_path / 'nofile.mp4'}: no such file or folder")
    assert done.stderr.count("\n") == 1


def test_own_estimator(walk: Path, tmp_path: Path) -> None:
    """With two workers, which import the file on their own; the class's field is a flag."""
    flags = ["--recipe", "02_own_estimator:orb", "--estimator.num-features", "1500", "--workers", "2"]
    done = command("curate", walk, "--out", tmp_path / "pairs", *flags, cwd=EXAMPLES)
    assert done.returncode == 0, done.stderr
    rows = read_manifest(tmp_path / "pairs").to_pylist()
    assert {row["estimator"] for row in rows} == {"orb@1"}
    assert '"num_features": 1500' in (tmp_path / "pairs" / "config.json").read_text()
    kept = [row for row in rows if row["kept"]]
    assert len(kept) >= 2
    for pair in twoview.open(tmp_path / "pairs"):
        assert twoview.measure(pair.a, pair.b).overlap == pytest.approx(pair.row.overlap, abs=0.1)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_own_objective(dataset: Path, tmp_path: Path) -> None:
    """It learns, is saved, and its encoder is a checkpoint as any other."""
    run = tmp_path / "run"
    flags = ["--recipe", "03_own_objective:matched", "--batch", "8", "--epochs", "12", "--warm-up-epochs", "1", "--base-lr", "2e-2"]
    done = command("pretrain", dataset, "--out", run, *flags, cwd=EXAMPLES)
    assert done.returncode == 0, done.stderr
    losses = [json.loads(line)["loss"] for line in (run / "log.jsonl").read_text().splitlines()]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    assert read_checkpoint(run).encoder.config.width == 128
    again = command("pretrain", "--resume", run)
    assert again.returncode == 0, again.stderr


@pytest.mark.parametrize(("code", "requeued"), [(0, False), (2, False), (143, True)])
def test_slurm_queues_again_what_was_stopped(tmp_path: Path, code: int, requeued: bool) -> None:
    for name, body in (("srun", f"exit {code}"), ("scontrol", "echo $*")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    known = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "8"}
    done = subprocess.run(["bash", str(EXAMPLES / "04_slurm.sh")], env=known, capture_output=True, text=True, check=False)
    assert done.stdout == ("requeue 7\n" if requeued else "")
    assert done.returncode == (0 if requeued else code)
