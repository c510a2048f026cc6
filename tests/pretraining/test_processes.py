"""Runs among processes and on other arithmetic: as one process in float32 has them."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins import MixedPrecision
from models_made import encoder_config
from small_runs import CONFIG, QUIET, SHORT, losses, source

from twoview.errors import ConfigError
from twoview.pretraining.augment import MultiCrop
from twoview.pretraining.checkpoints import read_checkpoint
from twoview.pretraining.dino import DINOConfig
from twoview.pretraining.processes import make_fabric
from twoview.pretraining.train import pretrain

CLIPPED = replace(CONFIG, clip=1.0, micro_batch=1)  # two pieces a step for each of two processes
DINO_RUN = replace(
    CLIPPED,
    model=DINOConfig(encoder=encoder_config(positions="learned"), hidden=16, bottleneck=8, outputs=24),
    augment=MultiCrop(size=32, local_size=16, num_small=2),
    last_weight_decay=0.4,
)
RUNS = {"croco": CLIPPED, "dino": DINO_RUN}
SCRIPT = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import test_processes
from twoview.cli.pretrain import draw
from twoview.pretraining.train import Reporter, pretrain, replace
name, dataset, out, shard, epochs, at = sys.argv[1:]
config = replace(test_processes.RUNS[name], shard=shard == "True", epochs=int(epochs), panel_every=2)
def progress(now):
    if now.step == int(at):
        os.kill(os.getpid(), signal.SIGTERM)
if __name__ == "__main__":
    reporter = Reporter(say=lambda words: None, progress=progress, draw=draw)
    pretrain(config, [test_processes.source(Path(dataset))], Path(out), reporter=reporter)
"""


LACKING = """
import os, sys
from twoview.cli import main
dataset, nowhere, out = sys.argv[1:]
pairs = nowhere if os.environ["RANK"] == "1" else dataset
sys.exit(main(["pretrain", pairs, "--recipe", "tiny_croco", "--batch", "4", "--out", out]))
"""


def torchrun(*words: object) -> tuple[int, str]:
    """Of two processes over gloo: the exit code and stderr."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29517"]
    done = subprocess.run([*command, *map(str, words)], capture_output=True, text=True, check=False, timeout=300)
    return done.returncode, done.stderr


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "two.py"
    path.write_text(SCRIPT.format(tests=str(Path(__file__).parent)))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("shard", [False, True], ids=["ddp", "fsdp"])
def test_two_processes_are_as_one(dataset: Path, tmp_path: Path, script: Path, shard: bool) -> None:
    """Half of each batch each, and the losses of one, over 50 steps."""
    code, said = torchrun(script, "croco", dataset, tmp_path / "two", shard, 12, 0)
    assert code == 0, said
    pretrain(replace(CLIPPED, epochs=12), [source(dataset)], tmp_path / "one", reporter=QUIET)
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(one) == len(two) >= 50
    assert two[:50] == pytest.approx(one[:50], rel=1e-6)
    norms = [
        [json.loads(line)["grad_norm"] for line in (tmp_path / run / "log.jsonl").read_text().splitlines()]
        for run in ("one", "two")
    ]
    assert norms[1][:50] == pytest.approx(norms[0][:50], rel=1e-4)
    assert len(list((tmp_path / "two" / "panels").iterdir())) == 6


@pytest.mark.slow
def test_weights_that_were_shared_out_go_on_in_one_process_and_back(dataset: Path, tmp_path: Path, script: Path) -> None:
    """Two processes with --shard, stopped by SIGTERM; one; two again. DINO, which moves weights outside of its forward, too."""
    name, config, out = "dino", DINO_RUN, tmp_path / "run"
    pretrain(config, [source(dataset)], tmp_path / "alone", reporter=QUIET)
    whole = losses(tmp_path / "alone")
    assert torchrun(script, name, dataset, out, True, config.epochs, 5)[0] != 0
    assert (out / "checkpoints" / "step-0000005").exists()
    command = [sys.executable, script, name, dataset, out, False, config.epochs, 11]
    assert subprocess.run(list(map(str, command)), check=False).returncode == 143
    assert (out / "checkpoints" / "step-0000011").exists()
    code, said = torchrun(script, name, dataset, out, True, config.epochs, 0)
    assert code == 0, said
    assert losses(out) == pytest.approx(whole, rel=1e-5)
    runs = (out, tmp_path / "alone")
    one, other = (read_checkpoint(sorted((run / "checkpoints").iterdir())[-1] / "model.safetensors") for run in runs)
    assert one.seen == other.seen
    assert one.model.config == other.model.config


@pytest.mark.slow
def test_what_one_process_cannot_read_ends_all(dataset: Path, tmp_path: Path) -> None:
    """The second process alone has no footage; the first would wait for it."""
    script = tmp_path / "one_lacks.py"
    script.write_text(LACKING)
    code, said = torchrun(script, dataset, tmp_path / "nowhere", tmp_path / "run")
    assert code != 0
    assert said.count(f"{tmp_path / 'nowhere'}: no dataset, list of pairs or folder of pictures there") == 2


@pytest.mark.parametrize(
    ("variables", "devices", "nodes"),
    [
        ({}, 1, 1),
        ({"LOCAL_WORLD_SIZE": "8", "WORLD_SIZE": "32"}, 8, 4),
        ({"SLURM_STEP_NUM_TASKS": "16", "SLURM_STEP_NUM_NODES": "2", "SLURM_NTASKS_PER_NODE": "8"}, 8, 2),
        ({"SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_NUM_NODES": "1"}, 1, 1),
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "8"}, 1, 1),  # in a batch script, not started by srun
    ],
    ids=["alone", "torchrun", "srun", "srun of one", "sbatch"],
)
def test_places_of_a_cluster(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], devices: int, nodes: int) -> None:
    """What Fabric is asked for."""
    asked: dict[str, object] = {}

    class Asked:
        def __init__(self, **words: object) -> None:
            asked.update(words)

        def launch(self) -> None:
            asked["launched"] = True

    set_places(monkeypatch, variables)
    monkeypatch.setattr("twoview.pretraining.processes.Fabric", Asked)
    make_fabric(replace(CONFIG, shard=True))
    assert (asked["devices"], asked["num_nodes"], asked["launched"]) == (devices, nodes, True)
    assert (asked["strategy"] == "auto") == (devices * nodes == 1)


def set_places(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_NUM_NODES", "SLURM_NTASKS_PER_NODE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_places_that_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    set_places(monkeypatch, {"SLURM_STEP_NUM_TASKS": "8"})
    with pytest.raises(ConfigError, match="--ntasks-per-node"):
        make_fabric(CONFIG)
    set_places(monkeypatch, {"LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "2"})
    with pytest.raises(ConfigError, match="--shard does not go with --precision fp16"):
        make_fabric(replace(CONFIG, shard=True, precision="fp16"))


@pytest.mark.filterwarnings("ignore:The `srun` command")  # where there is one
def test_float16_and_its_scaler(dataset: Path, tmp_path: Path) -> None:
    """Near float32; a run goes on to the bit, the scaler's state too. On the CPU, where only a test has it."""

    def fabric() -> Fabric:
        return Fabric(accelerator="cpu", devices=1, plugins=MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu")))

    config, pools, out = replace(CLIPPED, epochs=2, precision="fp16"), [source(dataset)], tmp_path / "fp16"
    last = pretrain(config, pools, out, fabric=fabric(), reporter=QUIET)
    whole = losses(out)
    pretrain(replace(config, precision="fp32"), pools, tmp_path / "fp32", reporter=QUIET)
    assert whole == pytest.approx(losses(tmp_path / "fp32"), rel=0.02)
    assert whole != losses(tmp_path / "fp32")
    assert torch.load(last / "training.pt", weights_only=True)["precision"]["_growth_tracker"] == len(whole)
    shutil.rmtree(last)
    pretrain(config, pools, out, fabric=fabric(), reporter=QUIET)
    assert losses(out) == whole


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch, by torch
def test_compiled(dataset: Path, tmp_path: Path) -> None:
    """The losses of a run that is not; and it goes on from that one's checkpoint."""
    pretrain(SHORT, [source(dataset)], tmp_path / "plain", reporter=QUIET)
    last = pretrain(replace(SHORT, compile=True), [source(dataset)], tmp_path / "compiled", reporter=QUIET)
    assert losses(tmp_path / "compiled") == pytest.approx(losses(tmp_path / "plain"), rel=1e-5)
    shutil.rmtree(last)
    pretrain(SHORT, [source(dataset)], tmp_path / "compiled", reporter=QUIET)
