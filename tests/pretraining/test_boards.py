"""What a run says to TensorBoard and to Weights & Biases; the latter is a stand-in here."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from small_runs import QUIET, SHORT, losses, source
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from twoview.cli import main
from twoview.errors import ConfigError
from twoview.pretraining import train
from twoview.pretraining.train import Reporter, pretrain


class WandbError(Exception):
    pass


class Wandb:
    """As much of the package as is used."""

    errors = SimpleNamespace(Error=WandbError)

    def __init__(self) -> None:
        self.begun: list[dict[str, Any]] = []
        self.shown: dict[int, dict[str, float]] = {}
        self.finished = 0
        self.trouble: str | None = None

    def init(self, **words: Any) -> "Wandb":
        if self.trouble:
            raise WandbError(self.trouble)
        self.begun.append(words)
        return self

    def log(self, values: dict[str, float], step: int) -> None:
        self.shown[step] = values

    def finish(self) -> None:
        self.finished += 1


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> Wandb:
    module = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", module)  # pyright: ignore[reportArgumentType]
    return module


def test_both_get_every_step_once(dataset: Path, tmp_path: Path, wandb: Wandb) -> None:
    """Also of a run that was broken off between two checkpoints: another go shows the same curves on."""
    config, out = replace(SHORT, wandb="views", clip=1.0), tmp_path / "run"

    def stop(now: train.Progress) -> None:
        if now.step == 5:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        pretrain(config, [source(dataset)], out, reporter=Reporter(say=lambda words: None, progress=stop))
    pretrain(config, [source(dataset)], out, reporter=QUIET)
    expected = losses(out)
    first, again = wandb.begun
    assert first["project"] == "views"
    assert first["id"] == again["id"]
    assert first["config"]["data"][0]["dataset"] == str(dataset)
    assert wandb.finished == 2
    assert [wandb.shown[step + 1]["loss"] for step in range(len(expected))] == expected
    assert "foreign" in wandb.shown[1]
    assert {"lr", "samples_per_s", "waiting", "grad_norm", "epoch"} <= wandb.shown[2].keys()
    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    shown = events.Scalars("loss")
    assert [one.step for one in shown] == list(range(1, len(expected) + 1))
    assert [one.value for one in shown] == pytest.approx(expected)


def test_the_flag_and_its_troubles(
    dataset: Path, tmp_path: Path, wandb: Wandb, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["pretrain", str(dataset), "--recipe", "tiny_croco", "--batch", "8", "--epochs", "2", "--warm-up-epochs", "1"]
    words += ["--workers", "0", "--panel-every", "0", "--wandb", "views", "--out", str(tmp_path / "run")]
    wandb.trouble = "api_key not configured (no-tty)\nmore of that"
    assert main(words) == 2
    assert capsys.readouterr().err.endswith("--wandb: api_key not configured (no-tty)\n")
    wandb.trouble = None
    assert main(words) == 0
    assert len(wandb.begun) == 1
    assert json.loads((tmp_path / "run" / "config.json").read_text())["config"]["wandb"] == "views"
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match="--wandb: pip install wandb"):
        pretrain(replace(SHORT, wandb="views"), [source(dataset)], tmp_path / "none", reporter=QUIET)
