"""Reads the published `corresponding.npy`, a pickle, without running what a pickle could run, and without NumPy's own rebuilding.

What NumPy hands to pickles trusts them: a forged state of a dtype makes it read and write memory anywhere. So a pickle gets
stand-ins of plain Python, which take whole numbers from its bytes and nothing else.
"""

import io
import pickle
import pickletools
import re
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BrokenDatasetError, UnreadableError

MAX_BYTES = 1 << 20
"""A map of some hundred patches takes less than 2 KiB."""
MAX_TUPLES = 20_000
"""A number of NumPy's takes one. Nested 100,000 deep they overflow the stack of whoever hashes them."""


class _Refused(Exception):
    pass


class _Dtype:
    """In place of numpy.dtype: whole numbers, or objects (None). Of its state the byte order counts, and nothing else."""

    __slots__ = ("dtype",)

    def __init__(self, name: str, *_: object) -> None:
        if not re.fullmatch(r"[iu][1248]|O[48]?", name):
            raise ValueError("not of whole numbers")
        self.dtype = None if name[0] == "O" else np.dtype(name)

    def __setstate__(self, state: Any) -> None:
        if self.dtype is not None and state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """In place of numpy.ndarray: whole numbers, copied from bytes; or the one object of an array that has no axes."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: Any = None

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, by_columns, data = state
        if kind.dtype is not None:
            self.value = _numbers(data, kind, shape, "F" if by_columns else "C")
        elif shape == () and isinstance(data, list) and len(data) == 1:
            self.value = data[0]
        else:
            raise ValueError("an array of objects")


class _Function:
    """A function that a pickle may call and cannot change."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)

    def __setstate__(self, state: object) -> None:
        raise ValueError("sets the state of a function")


def _numbers(data: bytes, kind: _Dtype, shape: tuple[int, ...], order: Any) -> np.ndarray:
    if kind.dtype is None:
        raise ValueError("objects in place of numbers")
    return np.frombuffer(data, kind.dtype).reshape(shape, order=order)


def _from_buffer(data: bytes, kind: _Dtype, shape: tuple[int, ...], order: Any, *_: object) -> _Array:
    array = _Array()
    array.value = _numbers(data, kind, shape, order)
    return array


def _scalar(kind: _Dtype, data: bytes) -> int:
    return int(_numbers(data, kind, (), "C"))


def _encoded(text: str, encoding: str) -> bytes:
    """As protocols before the third write bytes."""
    if encoding != "latin1":
        raise ValueError("bytes in another encoding than latin1")
    return text.encode(encoding)


_ALLOWED: Mapping[tuple[str, str], _Function] = {
    (module, name): _Function(call)
    for modules, name, call in (
        (("numpy.core.multiarray", "numpy._core.multiarray"), "_reconstruct", lambda *_: _Array()),
        (("numpy.core.multiarray", "numpy._core.multiarray"), "scalar", _scalar),
        (("numpy.core.numeric", "numpy._core.numeric"), "_frombuffer", _from_buffer),
        (("numpy",), "ndarray", lambda *_: _Array()),
        (("numpy",), "dtype", _Dtype),
        (("_codecs",), "encode", _encoded),
    )
    for module in modules
}
"""What an array of numbers, or of a dict of numbers, is rebuilt from, by the names of NumPy 1 and 2; nothing else is looked up."""


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
        known = path.stat()
        if not stat.S_ISREG(known.st_mode):
            raise UnreadableError(f"{path}: not a file")
        if known.st_size > MAX_BYTES:
            raise UnreadableError(f"{path}: larger than a map of patches can be")
        data = path.read_bytes()
    except OSError as error:
        raise UnreadableError(f"{path}: {error.strerror}") from None
    try:
        return _mapping(_value(data))
    except _Refused as refused:
        raise BrokenDatasetError(
            f"{path}: asks for {refused}, which a map of patches has no use for and which could run any code: the set is not read"
        ) from None
    except Exception as error:  # whatever a broken pickle may raise
        why = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UnreadableError(f"{path}: not a map of patches ({why})") from None


def _value(data: bytes) -> Any:
    """What np.save was given: a dict, or numbers."""
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
    shape, by_columns, dtype = header(file)
    if dtype.kind in "iu":
        return np.frombuffer(data[file.tell() :], dtype).reshape(shape, order="F" if by_columns else "C")
    if dtype.kind != "O":
        raise ValueError("not of whole numbers")
    _check_size(data[file.tell() :])
    value = _Unpickler(file).load()
    return value.value if isinstance(value, _Array) else value


def _check_size(pickled: bytes) -> None:
    """Raises ValueError for what would take more memory or stack than so small a file has a use for."""
    num_tuples = 0
    for operation, argument, _ in pickletools.genops(pickled):
        num_tuples += operation.name.startswith("TUPLE")
        if num_tuples > MAX_TUPLES:
            raise ValueError("too many tuples")
        if operation.name in ("PUT", "LONG_BINPUT") and int(argument or 0) > len(pickled):  # the unpickler makes room for as many
            raise ValueError("numbers more objects than it has bytes")


def _mapping(value: Any) -> dict[int, int]:
    if isinstance(value, np.ndarray):
        if value.ndim == 1:
            return {i: j for i, j in enumerate(value.tolist()) if j >= 0}
        if value.ndim == 2 and value.shape[1] == 2:
            return dict(value.tolist())
    if not isinstance(value, dict):
        raise ValueError(f"a {type(value).__name__}")
    if not all(isinstance(n, int) and not isinstance(n, bool) and abs(n) < 1 << 31 for pair in value.items() for n in pair):
        raise ValueError("not of whole numbers that a patch can have")
    return value
