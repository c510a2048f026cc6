"""Where the numbers of a run are shown besides its log: TensorBoard if it is installed, Weights & Biases if it is asked for."""

import contextlib
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from ..errors import ConfigError


class Board(Protocol):
    def show(self, step: int, values: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


def open_boards(out: Path, first: int, project: str | None, config: Mapping[str, Any]) -> list[Board]:
    """Of a run that goes on with step `first`. project: of Weights & Biases. config: what is to be said of the run there."""
    found: list[Board] = []
    with contextlib.suppress(ImportError):
        found.append(_TensorBoard(out, first))
    if project is not None:
        found.append(_WeightsAndBiases(out, project, config))
    return found


class _TensorBoard:
    def __init__(self, out: Path, first: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(out / "tensorboard"), purge_step=first + 1)

    def show(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class _WeightsAndBiases:
    def __init__(self, out: Path, project: str, config: Mapping[str, Any]) -> None:
        try:
            import wandb
        except ImportError:
            raise ConfigError("--wandb: pip install wandb") from None
        path = out / "wandb.txt"
        name = path.read_text().strip() if path.exists() else secrets.token_hex(4)
        try:
            self._run = wandb.init(project=project, id=name, name=out.name, resume="allow", dir=str(out), config=dict(config))
        except wandb.errors.Error as error:
            raise ConfigError(f"--wandb: {str(error).splitlines()[0]}") from None
        path.write_text(name)  # another go at the run goes on with the same curves

    def show(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()
