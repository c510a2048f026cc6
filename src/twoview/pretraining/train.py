"""Pretraining: a plain loop over an order that follows from the seed, so that a run goes on at any step as if it had not stopped.

RUN/config.json, RUN/log.jsonl (a line for each step), RUN/checkpoints/step-NNNNNNN/: model.safetensors (docs/format.md) and
training.pt, the optimiser's state. A checkpoint appears whole or not at all. Those of --keep-every have a file `kept` besides: they
lose their training.pt when two others have come, and are never removed.
"""

import contextlib
import json
import math
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.distributed.tensor import DTensor

from ..errors import ConfigError, TryLaterError, TwoviewError, UnreadableError
from ..locks import Lock, holder
from ..shards import explained, sync_folder, write_whole
from .alarms import Alarms
from .boards import Board, open_boards
from .checkpoints import checkpoints_of, has_form, write_checkpoint
from .data import Batch
from .loader import loader
from .made import make_objective, make_optimiser, make_order
from .masked import MaskedModel
from .order import Order
from .pools import Singles
from .processes import agreed, gathered, make_fabric, out_of_memory, part_of, stopping
from .schedule import by_cosine, learning_rate
from .settings import PretrainConfig, Source, check_same, described, read_described
from .unpickle import read_pickled

FOREIGN_EVERY = 50
"""Steps between looks at a batch with the second views of others."""


@dataclass(frozen=True, kw_only=True)
class Reporter:
    """Where a run's words and pictures go."""

    say: Callable[[str], None] = print
    """Alarms, and what happens once."""
    progress: Callable[["Progress"], None] = lambda progress: None
    draw: Callable[[Path, nn.Module, Batch], None] = lambda path, model, batch: None
    """Writes reconstructions of a batch into a file."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """After a step."""

    step: int
    steps: int
    epoch: float
    loss: float
    lr: float
    samples_per_s: float
    waiting: float
    """Share of the time that went by waiting for the loader."""
    grad_norm: float | None = None
    """With `clip`."""
    foreign: float | None = None
    """Now and then: how much higher the loss is with the second view of another pair, as a share of it."""


def pretrain(
    config: PretrainConfig,
    sources: Sequence[Source],
    out: Path,
    *,
    fabric: Fabric | None = None,
    reporter: Reporter | None = None,
    command: Mapping[str, Any] | None = None,
) -> Path:
    """Trains, or goes on with what is in `out`; the folder of the last checkpoint comes back.

    Stopped by SIGTERM or SIGINT it saves after the step it is in, and raises what the signal would have; killed, it goes on from
    the last checkpoint, with the losses of a run that was never stopped. command: what --resume does again, for RUN/config.json.
    Raises ConfigError for what cannot be trained, and TwoviewError where the loss is no number.
    """
    fabric, reporter = fabric or make_fabric(config), reporter or Reporter()
    order = make_order(config, sources)
    clock, own = Clock(), order.batch // fabric.world_size
    with out_of_memory(), stopping() as stop, closing(Run(config, order, sources, out, fabric, reporter, command)) as run:
        with closing(run.feed()) as feed:  # its processes end with it
            for step in range(run.first, order.steps):
                lr = run.set_rates(step)
                loss, norm, batch = run.learn(clock.timed(feed), own, step)
                run.log(step, loss, lr, norm, clock, batch, run.foreign(step, batch))
                ended, stopped = step + 1 == order.steps, run.any(run.trouble.exit_code if run.trouble else stop())
                if ended or stopped or (step + 1) % config.save_every == 0 or run.is_kept(step + 1):
                    run.save(step + 1)
                if stopped:
                    raise run.trouble or SystemExit(stopped)
        return run.last()


class Run:
    """What a run holds: model, optimiser, files. Begins at step `first`."""

    def __init__(
        self,
        config: PretrainConfig,
        order: Order,
        sources: Sequence[Source],
        out: Path,
        fabric: Fabric,
        reporter: Reporter,
        command: Mapping[str, Any] | None,
    ) -> None:
        if order.batch % fabric.world_size:
            raise ConfigError(f"--batch {order.batch} does not divide among {fabric.world_size} processes")
        self.config, self.order, self.sources, self.out, self.fabric = config, order, tuple(sources), out, fabric
        warm_up = config.warm_up_epochs / config.epochs * order.steps
        self.reporter, self.alarms = reporter, Alarms(quiet_until=int(1.5 * warm_up))
        torch.manual_seed(config.seed)
        self.model = make_objective(config.model).train()
        """Not wrapped; its weights are shared out with --shard."""
        self._has_form, self._is_first = has_form(self.model), fabric.global_rank == 0
        whole: Any = torch.compile(self.model) if config.compile else self.model
        self._wrapped = fabric.setup_module(whole)
        self._is_shared = any(isinstance(one, DTensor) for one in self.model.parameters())
        optimiser: Any = fabric.setup_optimizers(make_optimiser(self.model, config))
        self.optimiser: torch.optim.Optimizer = optimiser
        self.seen = [source.pool.seen() for source in sources] if self._is_first else []
        self.about = described(config, order, self.seen, [source.weight for source in sources]) if self._is_first else {}
        self.about |= {"command": command}
        self.trouble: TwoviewError | None = None
        """What is to end the run, in all processes."""
        self._line: dict[str, Any] | None = None
        """Of the last step, for the log."""
        self._lock = self._journal = None
        self._boards: list[Board] = []
        try:
            self.first = self._begin()
            agreed(fabric, self._open_files)
        except BaseException:
            self.close()
            raise

    def feed(self) -> Generator[Batch]:
        """Batches from the first step on, on this process's device."""
        config, fabric = self.config, self.fabric
        own = self.order.batch // fabric.world_size
        places = self.order.batches(self.first, min(config.micro_batch, own), fabric.global_rank, fabric.world_size)
        pools = [Singles(source.pool) if config.singles else source.pool for source in self.sources]
        patch_px = self.model.encoder.config.patch_px
        on_gpu = fabric.device.type == "cuda"
        with closing(loader(pools, config.augment, patch_px, places, config.workers, on_gpu)) as batches:
            for batch in batches:
                yield batch.to(fabric.device)

    def set_rates(self, step: int) -> float:
        """Learning rate and weight decay of a step; the rate comes back."""
        config, share = self.config, step / self.order.steps
        scale = config.batch / 256
        rates = (config.base_lr * scale, config.last_lr * scale)
        epoch = step * config.epochs / self.order.steps
        lr = learning_rate(epoch, config.schedule_epochs or config.epochs, config.warm_up_epochs, *rates)
        decay = config.weight_decay
        if config.last_weight_decay is not None:
            decay = by_cosine(share, decay, config.last_weight_decay)
        for group in self.optimiser.param_groups:
            group["lr"] = lr
            group["weight_decay"] = decay if group["decays"] else 0.0
        return lr

    def learn(self, feed: Iterator[Batch], own: int, step: int) -> tuple[float, float | None, Batch]:
        """One step: the mean loss over all processes, the gradient's norm with `clip`, and the largest piece of the batch."""
        places = (self.config.seed, step, self.fabric.global_rank)
        torch.manual_seed(int(np.random.SeedSequence(places).generate_state(1)[0]))  # for objectives that draw for themselves
        self.model.train()
        total, left = torch.zeros((), device=self.fabric.device), own
        batch = None
        while left or batch is None:
            piece = next(feed)
            left -= len(piece.seeds)
            with self.fabric.no_backward_sync(self._wrapped, enabled=left > 0):
                loss = self._wrapped(piece)["loss"] * (len(piece.seeds) / own)
                self.fabric.backward(loss)
            total += loss.detach()
            batch = piece if batch is None or len(piece.seeds) > len(batch.seeds) else batch
        mean = self._over_all(total, "mean")
        if not math.isfinite(mean):
            raise self._went_wrong(f"the loss of step {step + 1} is {mean}")
        norm = None
        if self.config.clip is not None:
            found = self.fabric.clip_gradients(self._wrapped, self.optimiser, max_norm=self.config.clip, error_if_nonfinite=False)
            norm = None if found is None else float(gathered(found))
        if hasattr(self.model, "before_step"):
            self.model.before_step()
        self.optimiser.step()
        self.optimiser.zero_grad()
        if hasattr(self.model, "after_step"):
            self.model.after_step((step + 1) / self.order.steps)
        return mean, norm, batch

    def _went_wrong(self, what: str) -> TwoviewError:
        found = checkpoints_of(self.out)
        last = f"the last checkpoint is {found[-1]}" if found else "there is no checkpoint yet"
        return TwoviewError(
            f"{what}: {last}. Run it again with a lower --base-lr, --clip 1, or bf16 in place of fp16; where a checkpoint is "
            "ruined already, remove it, and the run goes on from the one before"
        )

    def foreign(self, step: int, batch: Batch) -> float | None:
        """As Progress has it, in the first process."""
        if step % FOREIGN_EVERY or not (self._is_first or self._is_shared):
            return None
        losses = foreign_losses(self.model, batch)
        return losses and (losses[1] - losses[0]) / losses[0]

    def bare(self) -> nn.Module | None:
        """The model with whole weights, for the first process; all must ask."""
        if not self._is_shared:
            return self.model
        state = gathered(self.model.state_dict())
        if not self._is_first:
            return None
        model = make_objective(self.config.model)
        model.load_state_dict(state)
        return model.to(self.fabric.device)

    def log(
        self, step: int, loss: float, lr: float, norm: float | None, clock: "Clock", batch: Batch, foreign: float | None
    ) -> None:
        """A line of the log, alarms, a panel where one is due: by the first process."""
        seconds = clock.step()
        model = self.bare() if self.is_panel_due(step) else None
        if self._journal is None:
            return
        done = Progress(
            step=step + 1,
            steps=self.order.steps,
            epoch=(step + 1) / self.order.steps_per_epoch,
            loss=loss,
            lr=lr,
            grad_norm=norm,
            samples_per_s=self.order.batch / seconds,
            waiting=clock.share_waiting,
            foreign=foreign,
        )
        self._line = asdict(done)
        try:
            with explained(self.out):
                self._journal.write(json.dumps(self._line) + "\n")
                self._journal.flush()
        except TryLaterError as error:
            self.trouble = error
        numbers = {name: value for name, value in self._line.items() if name not in ("step", "steps") and value is not None}
        for board in self._boards:
            board.show(step + 1, numbers)
        self.reporter.progress(done)
        words = self.alarms.loss(step, loss)
        if self.config.workers:  # else this process loads, and does not wait
            words += self.alarms.waiting(done.waiting)
        if foreign is not None:
            words += self.alarms.foreign(step, foreign)
        for one in words:
            self.reporter.say(one)
        if model is not None:
            try:
                self.reporter.draw(self.out / "panels" / f"step-{step + 1:07d}.png", model, batch)
            except Exception as error:  # a picture is no reason to end a run
                self.reporter.say(f"no panel was drawn ({type(error).__name__}: {error})")

    def save(self, step: int) -> None:
        """The state after so many steps, in a folder of its own. Older ones are removed, but the one before and those to keep."""
        model, optimiser = self.bare(), gathered(self.optimiser.state_dict())
        agreed(self.fabric, lambda: self._save(model, optimiser, step))

    def _save(self, model: Any, optimiser: dict[str, Any], step: int) -> None:
        """By the first process."""
        if not self._is_first:
            return
        if not all(bool(parameter.isfinite().all()) for parameter in model.parameters()):
            raise self._went_wrong(f"the weights after step {step} are no numbers, and were not saved")
        folder = self.out / "checkpoints" / f"step-{step:07d}"
        aside = folder.with_name(f".{folder.name}.partial")
        try:
            with explained(folder):
                self._write(aside, model, optimiser, step)
                if folder.exists():
                    shutil.rmtree(folder)
                aside.rename(folder)
                sync_folder(folder.parent)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        for old in self._whole()[:-2]:
            if (old / "kept").exists():
                (old / "training.pt").unlink(missing_ok=True)
            else:
                shutil.rmtree(old)

    def _write(self, folder: Path, model: Any, optimiser: dict[str, Any], step: int) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write_checkpoint(folder / "model.safetensors", model if self._has_form else model.encoder, seen=self.seen)
        precision = self.fabric.strategy.precision.state_dict()
        state = {"step": step, "optimiser": optimiser, "precision": precision, "line": self._line}
        if self.is_kept(step):
            (folder / "kept").touch()
        state |= {} if self._has_form else {"model": model.state_dict()}
        write_pickle(folder / "training.pt", state)

    def close(self) -> None:
        for file in (self._journal, *self._boards):
            if file is not None:
                with contextlib.suppress(OSError):  # of a full disk, which was told before
                    file.close()
        if self._lock is not None:
            self._lock.release()

    def is_kept(self, step: int) -> bool:
        """Whether a checkpoint after so many steps is one of the series."""
        every = self.config.keep_every * self.order.steps_per_epoch
        return every > 0 and step % every == 0

    def is_panel_due(self, step: int) -> bool:
        every = self.config.panel_every * self.order.steps_per_epoch
        return every > 0 and ((step + 1) % every == 0 or step + 1 == self.order.steps)

    def any(self, signalled: int) -> int:
        """What any process was told: all stop together."""
        return int(self._over_all(torch.tensor(float(signalled), device=self.fabric.device), "max"))

    def _over_all(self, number: torch.Tensor, how: str) -> float:
        """Of all processes."""
        found = self.fabric.all_reduce(number, reduce_op=how)
        assert isinstance(found, torch.Tensor)
        return float(found)

    def last(self) -> Path:
        """The newest checkpoint."""
        found = checkpoints_of(self.out)
        return found[-1] if found else self.out

    def _begin(self) -> int:
        """The first step to do. Checks that what is there is of this run, and takes it up."""
        agreed(self.fabric, self._prepare)
        whole = self._whole()
        name = self.fabric.broadcast(whole[-1].name if whole else "")  # a shared disk may show less to others
        return self._take_up(self.out / "checkpoints" / name) if name else 0

    def _open_files(self) -> None:
        """Of the first process."""
        if self._is_first:
            path = self.out / "log.jsonl"
            lines = [line for line in _read_log(path) if line["step"] <= self.first]  # what was killed comes again
            if self._line and (not lines or lines[-1]["step"] < self.first):  # the disk had room for a checkpoint, not for a line
                lines.append(self._line)
            write_whole(path, "".join(f"{json.dumps(line)}\n" for line in lines).encode())
            self.alarms.losses += [line["loss"] for line in lines]
            self.alarms.gains.extend(line["foreign"] for line in lines if line["foreign"] is not None)
            self._journal = path.open("a")
            self._boards = open_boards(self.out, self.first, self.config.wandb, self.about)
            write_whole(self.out / "config.json", json.dumps(self.about, indent=2).encode())  # what goes on is remembered

    def _prepare(self) -> None:
        """Takes the folder, if it has no other run: by the first process."""
        path = self.out / "config.json"
        if self._is_first:
            with explained(self.out):
                self.out.mkdir(parents=True, exist_ok=True)
                self._lock = Lock.acquire(self.out / ".lock")
                if self._lock is None:
                    raise ConfigError(f"{self.out}: {holder(self.out / '.lock')} is at this run")
                for left in (self.out / "checkpoints").glob(".step-*.partial"):
                    shutil.rmtree(left, ignore_errors=True)
                known = read_described(path)
                save_every = known.get("config", {}).get("save_every", math.inf)
                if self._whole():
                    check_same(path, known, self.about)
                elif found := checkpoints_of(self.out):
                    raise ConfigError(f"{found[-1]}: no training.pt in it, nor in any before, to go on from: give another --out")
                elif any(line["step"] > save_every for line in _read_log(self.out / "log.jsonl")):
                    raise ConfigError(
                        f"{self.out}: a run's log, and its checkpoints are gone: bring them back, or give another --out"
                    )
                self.about["command"] = self.about["command"] or known.get("command")

    def _whole(self) -> list[Path]:
        """Checkpoints that a run can go on from."""
        return [folder for folder in checkpoints_of(self.out) if (folder / "training.pt").exists()]

    def _take_up(self, folder: Path) -> int:
        """Model, optimiser and step of a checkpoint."""
        try:
            with (folder / "training.pt").open("rb"):
                pass  # no OSError is called damage
            state = read_pickled(folder / "training.pt")
            weights = load_file(folder / "model.safetensors") if self._has_form else state["model"]
            likes = self.model.state_dict()
            self.model.load_state_dict({key: part_of(value, likes.get(key, value)) for key, value in weights.items()})
            step, kept = int(state["step"]), state["optimiser"]
            parameters = [parameter for group in self.optimiser.param_groups for parameter in group["params"]]
            for number, values in kept["state"].items():
                kept["state"][number] = {key: part_of(value, parameters[number]) for key, value in values.items()}
            self.optimiser.load_state_dict(kept)
            if state["precision"]:  # of fp16
                self.fabric.strategy.precision.load_state_dict(state["precision"])
            self._line = state.get("line")
        except OSError as error:
            raise ConfigError(f"{folder}: cannot be read ({error.strerror or error})") from None
        except torch.OutOfMemoryError:
            raise
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError, SafetensorError, UnreadableError) as error:
            if "allocate memory" in str(error):
                raise
            why = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise ConfigError(f"{folder}: not a checkpoint of this run ({why}): remove it to go on from the one before") from None
        if hasattr(self.model, "progress"):
            self.model.progress = step / self.order.steps
        return step


def write_pickle(path: Path, state: dict[str, Any]) -> None:
    """As torch.save, and to the disk. Raises TryLaterError where that has no room."""
    with path.open("wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:
            if "inline_container" not in str(error):  # what torch makes of an OSError
                raise
            raise TryLaterError(
                f"{path}: cannot be written; is the disk full? What is finished is kept: make room, then run the same command again"
            ) from error
        file.flush()
        os.fsync(file.fileno())


def _read_log(path: Path) -> list[dict[str, Any]]:
    """Its lines, but for what a killed run left torn."""
    found = []
    for line in path.read_text().splitlines() if path.exists() else []:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            known = {"foreign": None} | json.loads(line)
            if isinstance(known["step"], int) and isinstance(known["loss"], float):
                found.append(known)
    return found


def foreign_losses(model: nn.Module, batch: Batch) -> tuple[float, float] | None:
    """The loss of a batch, and with the second view of another of its pairs; None for models without one."""
    if not isinstance(model, MaskedModel) or not model.config.second_view or len(batch.seeds) < 2 or batch.b is None:
        return None
    with torch.no_grad():
        return tuple(float(model(one)["loss"]) for one in (batch, replace(batch, b=batch.b.roll(1, 0))))  # pyright: ignore


class Clock:
    """How long steps take, and how much of that goes by waiting."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._waited = 0.0
        self._recent: deque[tuple[float, float]] = deque(maxlen=50)

    def timed(self, feed: Iterator[Batch]) -> Iterator[Batch]:
        while True:
            began = time.monotonic()
            batch = next(feed, None)
            self._waited += time.monotonic() - began
            if batch is None:
                return
            yield batch

    def step(self) -> float:
        """Seconds since the last step."""
        now = time.monotonic()
        seconds, self._began = now - self._began, now
        self._recent.append((seconds, self._waited))
        self._waited = 0.0
        return max(seconds, 1e-9)

    @property
    def share_waiting(self) -> float:
        if len(self._recent) < 10:
            return 0.0
        later = list(self._recent)[1:]  # the first waits for the loader's processes to start
        return sum(waited for _, waited in later) / max(sum(seconds for seconds, _ in later), 1e-9)
