"""`twoview pretrain --resume RUN`: the same run, wherever one stands, with what may change."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from small_runs import losses

from twoview.cli import main
from twoview.locks import Lock
from twoview.pretraining.checkpoints import checkpoints_of

FEW = ["--recipe", "tiny_croco", "--batch", "8", "--epochs", "2", "--warm-up-epochs", "1", "--workers", "0", "--panel-every", "0"]


def args_of(run: Path) -> list[str]:
    return json.loads((run / "config.json").read_text())["command"]["args"]


def test_from_another_folder_with_other_flags(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is given relative to the folder where the run was begun is found; flags given now count from here, and are kept."""
    (tmp_path / "there").mkdir()
    (tmp_path / "here").mkdir()
    shutil.copytree(dataset, tmp_path / "there" / "pairs")
    monkeypatch.chdir(tmp_path / "there")
    easy = ["--curriculum", "0.3 overlap > 0.1"]  # takes any number of values: data must not slip into it
    assert main(["pretrain", *FEW, "--save-every", "2", *easy, "--out", "run", "pairs"]) == 0
    run = tmp_path / "there" / "run"
    whole = losses(run)
    shutil.rmtree(checkpoints_of(run)[-1])
    monkeypatch.chdir(tmp_path / "here")
    assert main(["pretrain", "--resume", "../there/run", "--cache", "kept", "--save-every", "3"]) == 0
    assert losses(run) == whole
    assert args_of(run)[-4:] == ["--cache", str(tmp_path / "here" / "kept"), "--save-every", "3"]
    monkeypatch.chdir(tmp_path)
    assert main(["pretrain", f"--resume={run}"]) == 0
    assert args_of(run).count("--out") == 1
    assert "--cache" in args_of(run)
    for flag in ("--recipe", "--objective", "--out"):
        assert main(["pretrain", "--resume", str(run), flag, "mae"]) == 2
        assert f"without {flag}" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "there" / "pairs")
    assert main(["pretrain", "--resume", str(run)]) == 2
    assert f"{tmp_path / 'there' / 'pairs'}: no dataset" in capsys.readouterr().err


def test_a_command_that_is_refused_is_not_remembered(dataset: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert main(["pretrain", str(dataset), *FEW, "--out", str(run)]) == 0
    before = (run / "config.json").read_bytes()
    assert main(["pretrain", str(dataset), *FEW, "--seed", "7", "--out", str(run)]) == 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "wandb", None)
        assert main(["pretrain", "--resume", str(run), "--wandb", "views"]) == 2
    with Lock.acquire(run / ".lock"):  # pyright: ignore[reportOptionalContextManager]
        assert main(["pretrain", str(dataset), *FEW, "--out", str(run)]) == 2
    assert (run / "config.json").read_bytes() == before
