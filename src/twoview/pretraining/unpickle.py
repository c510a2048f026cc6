"""Reads files of torch.save without running anything that a pickle could run.

torch's own restricted reader (weights_only) rebuilds tensors and plain containers. Published checkpoints hold a few things
more beside the weights, options and counters: they get the harmless Namespace, and stand-ins that take anything and do nothing.
"""

import argparse
import re
import warnings
from pathlib import Path
from typing import Any

import torch

from ..errors import UnreadableError


class Inert:
    """In place of what a checkpoint has beside its weights: NumPy's numbers, paths, times."""

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


_INERT = (
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    *(f"numpy.{core}.numeric._frombuffer" for core in ("core", "_core")),
    *("numpy.ndarray", "numpy.dtype", "_codecs.encode"),
    *(
        f"{module}.{name}Path"
        for module in ("pathlib", "pathlib._local")
        for name in ("Posix", "PurePosix", "Windows", "PureWindows")
    ),
    *("collections.defaultdict", "datetime.datetime", "datetime.timedelta"),
)


def read_pickled(path: Path) -> Any:
    """What torch.save put into a file, on the CPU. Raises UnreadableError for what is no such file, and for one that asks for
    anything else than the above: nothing of it is run."""
    allowed: list[Any] = [argparse.Namespace, *((Inert, name) for name in _INERT)]
    try:
        with torch.serialization.safe_globals(allowed), warnings.catch_warnings(action="ignore"):
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UnreadableError(f"{path}: {error.strerror or 'cannot be read'}") from None
    except Exception as error:  # whatever a broken file may raise
        if isinstance(error, MemoryError) or "allocate memory" in str(error):
            raise
        raise UnreadableError(f"{path}: {_why(str(error))}") from None


def _why(words: str) -> str:
    """What was wrong, without torch's advice to read the file all the same."""
    asked = re.search(r"GLOBAL ([\w.]+)|[Tt]rying to (?:load|call) (?:unsupported \w+ )?([\w.]+)", words)
    if asked:
        return (
            f"asks for {asked[1] or asked[2]}, which could run any code: nothing of it is run or read. "
            "If you trust it, load it yourself and save its tensors as .safetensors"
        )
    if "TorchScript" in words:
        return "a TorchScript archive, which is a program: save its state_dict() as .safetensors"
    return "not a file of torch.save, or damaged"
