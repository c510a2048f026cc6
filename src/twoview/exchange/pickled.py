"""Reads the published `corresponding.npy`, a pickle, without running what a pickle could run."""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BrokenDatasetError, UnreadableError

MAX_BYTES = 1 << 20
"""A map of some hundred patches takes less than 2 KiB."""
_ALLOWED = {
    (module, name): value.__reduce__()[0]
    for module in ("numpy.core.multiarray", "numpy._core.multiarray")
    for name, value in (("_reconstruct", np.zeros(0)), ("scalar", np.int64(0)))
} | {("numpy", "ndarray"): np.ndarray, ("numpy", "dtype"): np.dtype}
"""What an array of numbers, or of a dict of numbers, is rebuilt from; nothing else is looked up."""


class _Refused(Exception):
    pass


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise _Refused(f"{module}.{name}")
        return _ALLOWED[module, name]


def read_correspondences(path: Path) -> dict[int, int]:
    """The patch of the second picture for patches of the first.

    What np.save makes of a dict of int to int; an int array [N, 2] of such pairs, or [P] with negative numbers for none, is read
    too. Raises UnreadableError for anything else, and BrokenDatasetError for a pickle that asks for any other thing than
    NumPy's arrays: it could run any code, and none of it is run.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UnreadableError(f"{path}: larger than a map of patches can be")
        data = path.read_bytes()
    except OSError as error:
        raise UnreadableError(f"{path}: {error.strerror}") from None
    try:
        return _mapping(_array(data))
    except _Refused as refused:
        raise BrokenDatasetError(
            f"{path}: asks for {refused}, which a map of patches has no use for and which could run any code: the set is not read"
        ) from None
    except Exception as error:  # whatever a broken pickle may raise
        why = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UnreadableError(f"{path}: not a map of patches ({why})") from None


def _array(data: bytes) -> Any:
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
    if not header(file)[2].hasobject:
        return np.load(io.BytesIO(data), allow_pickle=False)
    return _Unpickler(file).load()


def _mapping(value: Any) -> dict[int, int]:
    if isinstance(value, np.ndarray) and value.dtype.hasobject and value.shape == ():
        value = value.item()
    if isinstance(value, np.ndarray) and np.issubdtype(value.dtype, np.integer):
        if value.ndim == 1:
            return {i: j for i, j in enumerate(value.tolist()) if j >= 0}
        if value.ndim == 2 and value.shape[1] == 2:
            return dict(value.tolist())
    if not isinstance(value, dict):
        raise ValueError(f"a {type(value).__name__}")
    if not all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) for pair in value.items() for n in pair):
        raise ValueError("not of whole numbers")
    return {int(i): int(j) for i, j in value.items()}
