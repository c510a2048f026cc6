"""A run among processes: where it is, how weights are shared out, what they agree on, how it ends."""

import atexit
import contextlib
import gc
import os
import signal
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from lightning.fabric import Fabric
from lightning.fabric.strategies.model_parallel import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, distribute_tensor

from ..errors import ConfigError, TwoviewError
from .settings import PretrainConfig


def make_fabric(config: PretrainConfig) -> Fabric:
    devices, nodes = _places(os.environ)
    precision: Any = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}[config.precision]
    strategy: Any = "ddp" if devices * nodes > 1 else "auto"
    if config.shard and devices * nodes > 1:
        if config.precision == "fp16":
            raise ConfigError("--shard does not go with --precision fp16: take bf16")
        strategy = ModelParallelStrategy(_shared_out, data_parallel_size=devices * nodes, tensor_parallel_size=1)
    if config.precision == "fp16" and not torch.cuda.is_available():
        raise ConfigError("--precision fp16 needs a GPU: take bf16 or fp32")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The `srun` command is available")  # one process of a login node is meant
        fabric = Fabric(devices=devices, num_nodes=nodes, precision=precision, strategy=strategy)
    before = torch.distributed.is_available() and torch.distributed.is_initialized()
    fabric.launch()
    if devices * nodes > 1 and not before:
        atexit.register(_leave)
    return fabric


def _leave() -> None:
    """A process that ends before the threads of its group is aborted by them."""
    gc.collect()  # what was shared out holds on to groups
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _places(known: Mapping[str, str]) -> tuple[int, int]:
    """Processes of each node, and nodes."""
    if "LOCAL_WORLD_SIZE" in known:  # torchrun
        return int(known["LOCAL_WORLD_SIZE"]), int(known["WORLD_SIZE"]) // int(known["LOCAL_WORLD_SIZE"])
    if "SLURM_STEP_NUM_TASKS" not in known:  # not of srun
        return 1, 1
    tasks, nodes = int(known["SLURM_STEP_NUM_TASKS"]), int(known.get("SLURM_STEP_NUM_NODES", "1"))
    if tasks > 1 and "SLURM_NTASKS_PER_NODE" not in known:
        raise ConfigError("srun: give --ntasks-per-node, one task for each GPU")
    return tasks // nodes, nodes


def _shared_out(model: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """Each process keeps its part of every weight. Those of a block come together for as long as the block is at work."""
    from torch.distributed.fsdp import fully_shard

    for part in list(model.modules()):
        if isinstance(part, nn.ModuleList):
            for block in part:
                fully_shard(block, mesh=mesh["data_parallel"])
    fully_shard(model, mesh=mesh["data_parallel"])
    return model


def gathered(state: Any) -> Any:
    """A state_dict with whole tensors, in every process: all must ask."""
    if isinstance(state, dict):
        return {key: gathered(value) for key, value in state.items()}
    return state.full_tensor().cpu() if isinstance(state, DTensor) else state


def part_of(whole: Tensor, like: Tensor) -> Tensor:
    """What this process keeps of a whole tensor where `like` is shared out; else the tensor."""
    if not isinstance(like, DTensor) or whole.shape != like.shape:
        return whole
    return distribute_tensor(whole.to(like.device), like.device_mesh, like.placements)


def agreed(fabric: Fabric, call: Callable[[], Any], in_turn: bool = True) -> Any:
    """What a call gives, in the first process first; an error in one process is raised in all, so that none waits for it.

    in_turn: False where the processes take turns by themselves, with more patience than those that wait for each other have.
    """
    found, error = None, None
    with fabric.rank_zero_first() if in_turn else contextlib.nullcontext():
        try:
            found = call()
        except TwoviewError as raised:
            error = raised
    if fabric.world_size > 1:
        errors: list[Any] = [None] * fabric.world_size
        torch.distributed.all_gather_object(errors, error)
        error = next((one for one in errors if one is not None), None)
    if error is not None:
        raise error
    return found


@contextlib.contextmanager
def stopping() -> Iterator[Callable[[], int]]:
    """Tells what exit code a signal asked for, 0 as long as none came. A second Ctrl-C stops at once."""
    asked = 0

    def note(number: int, frame: object) -> None:
        nonlocal asked
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked = 128 + number

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def out_of_memory() -> Iterator[None]:
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if "DataLoader worker" in str(error):
            raise ConfigError(
                "a process that fetches samples was ended from outside, as a rule for want of memory: give fewer --workers, or a "
                "larger /dev/shm. What is saved is kept"
            ) from None
        if isinstance(error, RuntimeError) and "out of memory" not in str(error) and "allocate memory" not in str(error):
            raise
        raise ConfigError(
            "out of memory: give a smaller --micro-batch; a step stays as it is, as the rest is accumulated. What is saved is kept"
        ) from None
