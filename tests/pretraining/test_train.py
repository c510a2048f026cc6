"""Runs: the losses of one that was killed, stopped, or fed by other processes are those of one left alone."""

import errno
import io
import json
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models_made import encoder_config, masked_config
from small_runs import CONFIG, QUIET, SHORT, losses, source

import twoview
from twoview.cli import main
from twoview.cli.pretrain import draw
from twoview.errors import BrokenDatasetError, ConfigError, TryLaterError, TwoviewError
from twoview.locks import Lock
from twoview.pretraining import train
from twoview.pretraining.augment import CropsAndJitter, MultiCrop, ResizedCrop, Swapped, Views
from twoview.pretraining.checkpoints import checkpoints_of, read_checkpoint
from twoview.pretraining.dino import DINOConfig
from twoview.pretraining.made import make_order
from twoview.pretraining.pools import Decoded, ListedPairs, Pictures, Sample, Singles, StoredPairs
from twoview.pretraining.recipes import PRETRAIN
from twoview.pretraining.schedule import by_cosine, learning_rate
from twoview.pretraining.settings import Source
from twoview.pretraining.train import Reporter, pretrain


@pytest.fixture(scope="module")
def alone(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody stopped."""
    out = tmp_path_factory.mktemp("alone") / "run"
    pretrain(CONFIG, [source(dataset)], out, reporter=QUIET)
    assert len(losses(out)) > 20
    return out


SCRIPT = """
import json, os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import small_runs
import twoview.pretraining.train as train
dataset, out = map(Path, sys.argv[1:3])
def go(at, workers, how):
    how = getattr(signal, how)
    def stop():
        if how == signal.SIGINT:
            os.killpg(0, how)  # as a terminal does: to all processes
        else:
            os.kill(os.getpid(), how)
    def progress(now):
        if now.step == at:
            stop()
    write = train.write_pickle
    def write_or_stop(path, state):
        if state["step"] == -at:
            stop()
        write(path, state)
    train.write_pickle = write_or_stop
    config = train.replace(small_runs.CONFIG, workers=workers)
    reporter = train.Reporter(progress=progress, say=lambda words: None)
    train.pretrain(config, [small_runs.source(dataset)], out, reporter=reporter)
codes = []
for words in json.loads(sys.argv[3]):
    child = os.fork()  # torch is imported once, and has done nothing yet
    if not child:
        os.setsid()
        try:
            go(*words)
        except SystemExit as error:
            os._exit(error.code)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(json.dumps(codes))
"""


def stopped(dataset: Path, out: Path, *runs: tuple[int, int, str]) -> list[int]:
    """Exit codes of runs in processes of their own, one after another: the step in which each is sent a signal (0: none, -N: when
    step N is half saved), the loader's processes, the signal."""
    script = SCRIPT.format(tests=str(Path(__file__).parent))
    command = [sys.executable, "-c", script, str(dataset), str(out), json.dumps(runs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_killed_at_any_step_it_goes_on_to_the_bit(dataset: Path, alone: Path, tmp_path: Path) -> None:
    """At ten random steps, each time with another number of the loader's processes."""
    whole = losses(alone)
    steps = np.random.default_rng(0).choice(len(whole) - 1, 10, replace=False) + 1
    out = tmp_path / "run"
    runs = [(step, i % 3, "SIGKILL") for i, step in enumerate(sorted(map(int, steps)))]
    assert stopped(dataset, out, *runs, (-len(whole), 1, "SIGKILL")) == 11 * [-9]
    assert list((out / "checkpoints").glob(".step-*.partial"))
    assert stopped(dataset, out, (0, 1, "SIGKILL")) == [0]
    assert not list((out / "checkpoints").glob(".*"))
    assert losses(out) == whole
    one, other = (read_checkpoint(sorted((run / "checkpoints").iterdir())[-1] / "model.safetensors").model for run in (out, alone))
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in one.state_dict().items())


@pytest.mark.parametrize(("how", "code", "workers"), [("SIGTERM", 143, 1), ("SIGINT", 130, 2)])
def test_stopped_it_saves(dataset: Path, alone: Path, tmp_path: Path, how: str, code: int, workers: int) -> None:
    out = tmp_path / "run"
    assert stopped(dataset, out, (5, workers, how)) == [code]
    assert [folder.name for folder in sorted((out / "checkpoints").iterdir())] == ["step-0000003", "step-0000005"]
    assert len(losses(out)) == 5
    pretrain(CONFIG, [source(dataset)], out, reporter=QUIET)
    assert losses(out) == losses(alone)


def test_pieces_of_a_batch_add_up(dataset: Path, alone: Path, tmp_path: Path) -> None:
    pretrain(replace(CONFIG, micro_batch=4), [source(dataset)], tmp_path / "run", reporter=QUIET)
    assert losses(tmp_path / "run") == pytest.approx(losses(alone), rel=1e-4)


# Data


@pytest.mark.parametrize("singles", [True, False], ids=["mae", "mae of views"])
def test_mae_and_dino_run(dataset: Path, tmp_path: Path, singles: bool) -> None:
    mae = masked_config(second_view=False)
    config = replace(SHORT, model=mae, augment=ResizedCrop(size=32), singles=singles)
    pretrain(config, [source(dataset)], tmp_path / "m", reporter=QUIET)
    dino = DINOConfig(encoder=encoder_config(positions="learned"), hidden=16, bottleneck=8, outputs=24)
    crops = MultiCrop(size=32, local_size=16, num_small=2)
    config = replace(SHORT, model=dino, augment=crops, singles=singles, clip=1.0, last_weight_decay=0.4)
    last = pretrain(config, [source(dataset)], tmp_path / "d", reporter=QUIET)
    found = read_checkpoint(last)
    assert found.model.config == dino
    assert found.seen[0].num_pairs == len(twoview.open(dataset))
    assert len(losses(tmp_path / "d")) == 2 * (len(twoview.open(dataset)) * (2 if singles else 1) // 4)
    before = losses(tmp_path / "d")
    shutil.rmtree(last)
    pretrain(config, [source(dataset)], tmp_path / "d", reporter=QUIET)  # from the checkpoint before
    assert losses(tmp_path / "d") == before


def test_the_published_layouts_and_folders(dataset: Path, photos: Path, tmp_path: Path) -> None:
    """MIMIC's CSV, CroCo's list and a folder give the pictures that are in them."""
    pairs = twoview.open(dataset)
    assert main(["export", str(dataset), str(tmp_path / "set"), "--to", "mimic"]) == 0
    mimic = ListedPairs(tmp_path / "set", "mimic")
    lines = [line.split(",")[:2] for line in (tmp_path / "set" / "pairs.csv").read_text().splitlines()[1:]]
    (tmp_path / "set" / "pairs.txt").write_text("".join(f"{a} {b}\n" for a, b in lines))
    for pool in (mimic, ListedPairs(tmp_path / "set", "croco")):
        assert len(pool) == len(pairs)
        assert {pool[i].a.tobytes() for i in range(len(pool))} == {pair.a.tobytes() for pair in pairs}
    (tmp_path / "linked").mkdir()
    for name in ("a", "b"):
        (tmp_path / "linked" / name).symlink_to(photos)
    (photos / "loop").symlink_to(photos)
    assert len(Pictures(tmp_path / "linked")) == 40
    (photos / "loop").unlink()
    folder = Pictures(photos)
    assert len(folder) == 20
    assert folder[0].a.ndim == 3
    assert folder[0].b is None
    assert len(Singles(StoredPairs(pairs))) == 2 * len(pairs)
    mixed = [source(dataset), Source(pool=folder)]  # of pairs both views, of pictures each
    mae = replace(SHORT, model=masked_config(second_view=False), augment=ResizedCrop(size=32), singles=True)
    pretrain(mae, mixed, tmp_path / "mixed", reporter=QUIET)
    assert len(losses(tmp_path / "mixed")) == 2 * ((2 * len(pairs) + 20) // 4)
    with pytest.raises(ConfigError, match="wants pairs"):
        pretrain(replace(SHORT, augment=ResizedCrop(size=32)), [Source(pool=folder)], tmp_path / "run", reporter=QUIET)


def test_decoding_is_exact_and_labels_come_along(dataset: Path) -> None:
    pairs = twoview.open(dataset)
    pool = StoredPairs(pairs, labels=True)
    for i in (0, len(pairs) - 1):
        sample, pair = pool[i], pairs[i]
        assert np.array_equal(sample.a, pair.a)
        assert np.array_equal(sample.b, pair.b)
        assert np.array_equal(sample.patches, pair.patches)
        assert np.array_equal(sample.points, pair.points)
        assert list(sample.grid) == pair.row.patch_grid


def test_decoded_pictures_are_the_same(dataset: Path, alone: Path, tmp_path: Path) -> None:
    near = StoredPairs(twoview.open(dataset))
    pool = Decoded(near, tmp_path)
    assert all(np.array_equal(pool[i].a, near[i].a) and np.array_equal(pool[i].b, near[i].b) for i in range(len(near)))
    assert [path.suffix for path in tmp_path.iterdir()] == [".u8"]
    before = pool.path.stat()
    pretrain(replace(CONFIG, workers=1), [Source(pool=Decoded(near, tmp_path))], tmp_path / "run", reporter=QUIET)
    assert pool.path.stat().st_mtime_ns == before.st_mtime_ns
    assert losses(tmp_path / "run") == losses(alone)


def test_a_curriculum_by_the_manifest(dataset: Path) -> None:
    pool = StoredPairs(twoview.open(dataset))
    overlaps = np.array(twoview.open(dataset).manifest(["overlap"])["overlap"])
    middle = float(np.median(overlaps))
    order = make_order(replace(SHORT, curriculum=(f"0.5 overlap > {middle}",)), [Source(pool=pool)])
    batches = list(order.batches(0, 4))
    half = len(batches) // 2
    first, second = ({place.sample for batch in part for place in batch} for part in (batches[:half], batches[half:]))
    assert (overlaps[sorted(first)] > middle).all()
    assert (overlaps[sorted(second)] <= middle).any()
    for words, complaint in (
        ("0.5 overlap >", "--curriculum"),
        ("half overlap > 0", "give a share"),
        ("nan overlap > 0", "give a share"),
        ("30 overlap > 0", "give a share"),
        ("0.3", "give a share"),
        ("1 overlap > 2", "no pair of"),
    ):
        with pytest.raises(ConfigError, match=complaint):
            make_order(replace(SHORT, curriculum=(words,)), [Source(pool=pool)])
    with pytest.raises(ConfigError, match="the shares of its stages rise"):
        make_order(replace(SHORT, curriculum=("0.5 overlap > 0", "0.3 overlap > 0")), [Source(pool=pool)])


class Stop(Exception):
    pass


def test_panels_change_nothing(dataset: Path, tmp_path: Path) -> None:
    """With drop_path, which they must not switch off: of a run with panels, of one without, and of one that was broken off."""
    config = replace(SHORT, model=masked_config(encoder=encoder_config(drop_path=0.5)), save_every=7)
    drawing = Reporter(say=pytest.fail, draw=draw)
    pretrain(config, [source(dataset)], tmp_path / "plain", reporter=QUIET)
    pretrain(replace(config, panel_every=1), [source(dataset)], tmp_path / "drawn", reporter=drawing)
    assert losses(tmp_path / "drawn") == losses(tmp_path / "plain")
    assert len(list((tmp_path / "drawn" / "panels").glob("*.png"))) == 2

    def stop(now: train.Progress) -> None:
        if now.step == 9:
            raise Stop

    with pytest.raises(Stop):
        pretrain(replace(config, panel_every=1), [source(dataset)], tmp_path / "broken", reporter=replace(drawing, progress=stop))
    pretrain(config, [source(dataset)], tmp_path / "broken", reporter=QUIET)
    assert losses(tmp_path / "broken") == losses(tmp_path / "plain")


def test_pieces_of_a_batch_add_up_for_dino(dataset: Path, tmp_path: Path) -> None:
    """The centre moves once a step, however it is accumulated."""
    dino = DINOConfig(encoder=encoder_config(positions="learned"), hidden=16, bottleneck=8, outputs=24)
    config = replace(SHORT, model=dino, augment=MultiCrop(size=32, local_size=16, num_small=1))
    for micro in (1, 4):
        pretrain(replace(config, micro_batch=micro), [source(dataset)], tmp_path / str(micro), reporter=QUIET)
    assert losses(tmp_path / "1") == pytest.approx(losses(tmp_path / "4"), rel=1e-3)


def test_bfloat16(dataset: Path, alone: Path, tmp_path: Path) -> None:
    """Near the losses of float32; a run may go on in another precision."""
    config = replace(CONFIG, epochs=1, warm_up_epochs=0.5)
    pretrain(config, [source(dataset)], tmp_path / "fp32", reporter=QUIET)
    pretrain(replace(config, precision="bf16"), [source(dataset)], tmp_path / "bf16", reporter=QUIET)
    assert losses(tmp_path / "bf16") == pytest.approx(losses(tmp_path / "fp32"), rel=0.02)
    assert losses(tmp_path / "bf16") != losses(tmp_path / "fp32")
    last = sorted((tmp_path / "bf16" / "checkpoints").iterdir())[-1]
    shutil.rmtree(last)
    pretrain(config, [source(dataset)], tmp_path / "bf16", reporter=QUIET)
    with pytest.raises(ConfigError, match="needs a GPU"):
        pretrain(replace(config, precision="fp16"), [source(dataset)], tmp_path / "fp16", reporter=QUIET)


# Bad input


@dataclass(frozen=True)
class Faulty(Swapped):
    def __call__(self, sample: Sample, random: np.random.Generator, patch_px: int) -> Views:
        raise ValueError("of the user's own")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_fault_of_the_users_ends_the_run_and_its_processes(dataset: Path, tmp_path: Path, workers: int) -> None:
    config = replace(SHORT, augment=Faulty(size=32), workers=workers)
    with pytest.raises(RuntimeError, match="of the user's own"):
        pretrain(config, [source(dataset)], tmp_path / "run", reporter=QUIET)
    assert not multiprocessing.active_children()


def test_what_cannot_be_trained_is_one_line(
    dataset: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(dataset, broken)
    tars = sorted((broken / "shards").glob("*.tar"))
    tars[0].write_bytes(tars[0].read_bytes()[:3000])
    with pytest.raises(BrokenDatasetError, match="ends before offset"):
        pretrain(SHORT, [source(broken)], tmp_path / "a", reporter=QUIET)
    with pytest.raises(BrokenDatasetError, match="ends before offset"):  # also where another process found it
        pretrain(replace(SHORT, workers=1), [source(broken)], tmp_path / "b", reporter=QUIET)
    gone = tmp_path / "gone"
    shutil.copytree(dataset, gone)
    shutil.rmtree(gone / "shards")
    with pytest.raises(BrokenDatasetError, match="No such file"):
        pretrain(SHORT, [source(gone)], tmp_path / "c", reporter=QUIET)
    with pytest.raises(ConfigError, match="fewer than a batch of 4,096"):
        pretrain(replace(SHORT, batch=4096), [source(dataset)], tmp_path / "d", reporter=QUIET)
    tiny = ["--recipe", "tiny_croco", "--batch", "4", "--epochs", "2", "--warm-up-epochs", "1"]
    for words, complaint in (
        ([str(tmp_path / "nowhere")], "no dataset, list of pairs or folder of pictures there"),
        ([f"{dataset}:much"], "as pairs:0.5"),
        ([f"{dataset}@none"], "no such selection"),
        ([str(dataset), "--epochs", "0"], "--epochs is 0"),
        ([str(dataset), "--betas", "2", "2"], "--betas are 2 and 2"),
        ([str(dataset), "--warm-up-epochs", "nan"], "--warm-up-epochs is nan"),
        ([str(dataset), "--seed", "9" * 30], "less than 2^63"),
        ([str(dataset), "--clip", "-1"], "--clip is -1.0: give more than 0"),
        ([str(dataset), "--base-lr", "nan"], "--base-lr is nan"),
        ([str(dataset), "--last-weight-decay", "-1"], "--last-weight-decay is -1.0"),
        ([str(dataset), "--augment.size", "0"], "--augment.size 0"),
        ([str(photos)], "single pictures, and the objective wants pairs: take --objective mae"),
        ([str(dataset), "--augment.size", "30"], "do not divide into patches of 8 px"),
        ([str(dataset), "--mask-ratio", "2"], "mask_ratio 2.0"),
        ([], "give a dataset"),
    ):
        assert main(["pretrain", *tiny, *words, "--out", str(tmp_path / "e")]) == 2
        said = capsys.readouterr().err
        assert complaint in said
        assert said.count("\n") == 1
    assert main(["pretrain", str(dataset), "--recipe", "none", "--out", str(tmp_path / "e")]) == 2
    assert main(["pretrain", "--resume", str(tmp_path / "nothing")]) == 2


def test_another_run_in_the_same_folder(dataset: Path, alone: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(alone, out)
    with pytest.raises(ConfigError, match=r"a run with seed 0, not 1: give another --out"):
        pretrain(replace(CONFIG, seed=1), [source(dataset)], out, reporter=QUIET)
    with pytest.raises(ConfigError, match="a run on other pairs than these, or with other weights"):
        pretrain(CONFIG, [Source(pool=StoredPairs(twoview.open(dataset)[:-1]))], out, reporter=QUIET)
    with pytest.raises(ConfigError, match="or with other weights"):
        pretrain(CONFIG, [source(dataset, weight=1.01)], out, reporter=QUIET)
    with pytest.raises(ConfigError, match="a run with augment"):
        pretrain(replace(CONFIG, augment=CropsAndJitter(size=32)), [source(dataset)], out, reporter=QUIET)
    with Lock.acquire(out / ".lock"), pytest.raises(ConfigError, match=r"process \d+ on .* is at this run"):  # pyright: ignore
        pretrain(CONFIG, [source(dataset)], out, reporter=QUIET)
    last = sorted((out / "checkpoints").iterdir())[-1]
    shutil.copy(sorted((out / "checkpoints").iterdir())[0] / "model.safetensors", last / "model.safetensors")
    (last / "model.safetensors").write_bytes((last / "model.safetensors").read_bytes()[:-100])
    with pytest.raises(ConfigError, match=r"not a checkpoint of this run .*: remove it to go on from the one before"):
        pretrain(CONFIG, [source(dataset)], out, reporter=QUIET)


def test_a_loss_that_is_no_number_stops_the_run(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(TwoviewError, match=r"the (loss|weights) .* (nan|inf|no numbers).*: the last checkpoint is"):
        pretrain(replace(CONFIG, base_lr=1e30, save_every=1), [source(dataset)], tmp_path / "run", reporter=QUIET)
    assert (tmp_path / "run" / "checkpoints" / "step-0000001" / "model.safetensors").exists()


def test_a_full_disk(dataset: Path, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line; the checkpoint before is whole, nothing half written lies about, and the run goes on from there."""
    out, write = tmp_path / "run", train.write_checkpoint

    def full(path: Path, *words: object, **more: object) -> None:
        if "0000006" in str(path):
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(path, *words, **more)

    monkeypatch.setattr(train, "write_checkpoint", full)
    with pytest.raises(TryLaterError, match="the disk is full"):
        pretrain(CONFIG, [source(dataset)], out, reporter=QUIET)
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["step-0000003"]
    monkeypatch.undo()
    pretrain(CONFIG, [source(dataset)], out, reporter=QUIET)
    assert losses(out) == losses(alone)


class Full(io.BytesIO):
    """A disk that has no room for more, and says nothing at the end."""

    def write(self, data: Any) -> int:
        if self.tell() > 10_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data)


def test_torch_on_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "open", lambda path, mode: Full())
    with pytest.raises(TryLaterError, match="is the disk full"):
        train.write_pickle(Path("training.pt"), {"step": 1, "values": torch.zeros(100_000)})


def test_what_lies_among_checkpoints(dataset: Path, alone: Path, tmp_path: Path) -> None:
    """Copies that somebody made, what is left of a series, damaged files: nothing is lost, and nothing begun anew in silence."""
    out = tmp_path / "run"
    shutil.copytree(alone, out)
    last = checkpoints_of(out)[-1]
    shutil.copytree(last, last.with_name(f"{last.name}.bak"))
    assert pretrain(CONFIG, [source(dataset)], out, reporter=QUIET) == last
    for content in (b"hello", b"", pickle.dumps(7)):
        (last / "training.pt").write_bytes(content)
        with pytest.raises(ConfigError, match=r"not a checkpoint of this run .*: remove it to go on from the one before"):
            pretrain(CONFIG, [source(dataset)], out, reporter=QUIET)
    for folder in checkpoints_of(out):
        (folder / "training.pt").unlink()
    before = (out / "log.jsonl").read_bytes()
    assert before
    with pytest.raises(ConfigError, match=r"no training.pt in it, nor in any before, to go on from: give another --out"):
        pretrain(CONFIG, [source(dataset)], out, reporter=QUIET)
    shutil.move(out / "checkpoints", tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="its checkpoints are gone: bring them back"):
        pretrain(CONFIG, [source(dataset)], out, reporter=QUIET)
    assert (out / "log.jsonl").read_bytes() == before


def test_a_log_that_cannot_be_written(dataset: Path, alone: Path, tmp_path: Path) -> None:
    """The run is saved where that goes, and ends."""
    out = tmp_path / "run"

    def fill(now: train.Progress) -> None:
        if now.step == 4:
            (out / "log.jsonl").rename(out / "log.old")
            os.dup2(os.open("/dev/full", os.O_WRONLY), files[0].fileno())

    files = []
    begin = train.Run._open_files

    def kept(run: train.Run) -> None:
        begin(run)
        files.append(run._journal)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train.Run, "_open_files", kept)
        with pytest.raises(TryLaterError, match="the disk is full"):
            pretrain(CONFIG, [source(dataset)], out, reporter=Reporter(say=lambda words: None, progress=fill))
    assert [folder.name for folder in checkpoints_of(out)] == ["step-0000003", "step-0000005"]
    (out / "log.old").rename(out / "log.jsonl")
    pretrain(CONFIG, [source(dataset)], out, reporter=QUIET)
    assert losses(out) == losses(alone)


def test_no_memory_at_a_resume_is_not_damage(dataset: Path, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*words: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    shutil.copytree(alone, tmp_path / "run")
    monkeypatch.setattr(torch.optim.AdamW, "load_state_dict", none_left)
    with pytest.raises(ConfigError, match="out of memory: give a smaller --micro-batch"):
        pretrain(CONFIG, [source(dataset)], tmp_path / "run", reporter=QUIET)


def test_out_of_memory(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*words: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(train.Run, "learn", none_left)
    with pytest.raises(ConfigError, match="out of memory: give a smaller --micro-batch"):
        pretrain(CONFIG, [source(dataset)], tmp_path / "run", reporter=QUIET)


def test_a_series_is_kept(dataset: Path, tmp_path: Path) -> None:
    config = replace(CONFIG, keep_every=1)
    pretrain(config, [source(dataset)], tmp_path / "run", reporter=QUIET)
    names = [int(folder.name[5:]) for folder in checkpoints_of(tmp_path / "run")]
    epoch = len(twoview.open(dataset)) // 4
    assert [step for step in names if step % epoch == 0] == [epoch, 2 * epoch, 3 * epoch, 4 * epoch]
    assert len(names) <= 6
    shutil.rmtree(checkpoints_of(tmp_path / "run")[-1])
    pretrain(replace(config, keep_every=0), [source(dataset)], tmp_path / "run", reporter=QUIET)
    kept = [int(folder.name[5:]) for folder in checkpoints_of(tmp_path / "run")]
    assert {epoch, 2 * epoch, 3 * epoch} < set(kept)  # another series does not undo this one


# Rates


def test_learning_rates_are_the_published_ones() -> None:
    """MIMIC's: 20 epochs of warm-up to 2.4e-3, and half a cosine to 0 at 200."""
    peak = 1.5e-4 * 4096 / 256
    assert learning_rate(0, 200, 20, peak) == 0
    assert learning_rate(10, 200, 20, peak) == pytest.approx(1.2e-3)
    assert learning_rate(20, 200, 20, peak) == pytest.approx(2.4e-3)
    assert learning_rate(110, 200, 20, peak) == pytest.approx(1.2e-3)
    assert learning_rate(200, 200, 20, peak) == pytest.approx(0)
    assert learning_rate(400, 800, 40, 1.5e-4) == pytest.approx(1.5e-4 * 0.5 * (1 + np.cos(np.pi * 360 / 760)))
    assert by_cosine(0.5, 0.04, 0.4) == pytest.approx(0.22)


def test_rates_of_a_run(dataset: Path, alone: Path) -> None:
    lines = [json.loads(line) for line in (alone / "log.jsonl").read_text().splitlines()]
    steps = len(lines) // 4
    expected = [learning_rate(step / steps, 4, 1.0, 5e-2 * 4 / 256) for step in range(len(lines))]
    assert [line["lr"] for line in lines] == pytest.approx(expected)


def test_recipes_are_the_published_ones(capsys: pytest.CaptureFixture[str]) -> None:
    config = PRETRAIN["croco_mimic"]()
    assert (config.batch, config.epochs, config.warm_up_epochs, config.base_lr, config.weight_decay) == (
        4096,
        200,
        20,
        1.5e-4,
        0.05,
    )
    assert PRETRAIN["croco_mimic_1m_matched"]().steps == 154_400
    assert main(["recipes"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in PRETRAIN)
