"""The published pickles are read, and nothing that a pickle can run is run."""

import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from twoview.errors import BrokenDatasetError, UnreadableError
from twoview.exchange.pickled import MAX_BYTES, read_correspondences

HEADER = b"\x93NUMPY\x01\x00\x76\x00{'descr': '|O', 'fortran_order': False, 'shape': (), }"
HEADER += b" " * (127 - len(HEADER)) + b"\n"
"""Of a single Python object, as np.save writes it."""


def saved(path: Path, value: Any, protocol: int | None = None) -> Path:
    """A file with the header of np.save and a pickle after it."""
    if protocol is None:
        np.save(path, value, allow_pickle=True)
    else:
        path.write_bytes(HEADER + pickle.dumps(value, protocol))
    return path


def test_the_header_is_numpy_s(tmp_path: Path) -> None:
    path = saved(tmp_path / "c.npy", np.array({1: 2}, dtype=object))
    assert path.read_bytes().startswith(HEADER)


def test_a_dict_as_published(tmp_path: Path) -> None:
    mapping = {0: 17, 5: 195, 195: 0}
    np.save(tmp_path / "c.npy", mapping)
    assert read_correspondences(tmp_path / "c.npy") == mapping
    assert all(type(n) is int for pair in read_correspondences(tmp_path / "c.npy").items() for n in pair)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_any_protocol(protocol: int, tmp_path: Path) -> None:
    assert read_correspondences(saved(tmp_path / "c.npy", np.array({3: 4}, dtype=object), max(protocol, 3))) == {3: 4}


@pytest.mark.parametrize("module", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_any_numpy(module: bytes, tmp_path: Path) -> None:
    """NumPy 2 calls the module that rebuilds arrays by another name."""
    path = saved(tmp_path / "c.npy", np.array({3: 4}, dtype=object), 3)
    data = path.read_bytes()
    for known in (b"numpy._core.multiarray", b"numpy.core.multiarray"):
        data = data.replace(b"c" + known + b"\n", b"c" + module + b"\n")
    path.write_bytes(data)
    assert module in data
    assert read_correspondences(path) == {3: 4}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({}, {}),
        ({np.int64(1): np.int64(2)}, {1: 2}),
        (np.array([[1, 2], [7, 5]]), {1: 2, 7: 5}),
        (np.array([-1, 4, -1, 0], np.int16), {1: 4, 3: 0}),
    ],
)
def test_other_forms(value: Any, expected: dict[int, int], tmp_path: Path) -> None:
    np.save(tmp_path / "c.npy", value)
    assert read_correspondences(tmp_path / "c.npy") == expected


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.what = (function, args)

    def __reduce__(self) -> Any:
        return self.what


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    ("make", "asked"),
    [
        (lambda marker: Call(os.system, f"touch {marker}"), r"posix\.system"),
        (lambda marker: Call(eval, f"open({str(marker)!r}, 'w')"), r"(__builtin__|builtins)\.eval"),
        (lambda marker: Call(open, str(marker), "w"), r"(_?io)\.open"),
        (lambda marker: {1: Call(os.system, f"touch {marker}")}, r"posix\.system"),
        (lambda marker: [{}, (Call(os.system, f"touch {marker}"),)], r"posix\.system"),
        (lambda marker: Call(np.save, str(marker), 1), r"numpy\.save"),
        (lambda marker: Call(np.load, str(marker)), r"numpy\.load"),
        (lambda marker: Call(getattr, "", "format"), r"(__builtin__|builtins)\.getattr"),
    ],
)
def test_nothing_is_run(make: Any, asked: str, protocol: int, tmp_path: Path) -> None:
    marker = tmp_path / "it_ran"
    path = saved(tmp_path / "c.npy", make(marker), protocol)
    with pytest.raises(BrokenDatasetError, match=f"c.npy: asks for {asked}, .* could run any code") as error:
        read_correspondences(path)
    assert "\n" not in str(error.value)
    assert not marker.exists()
    assert os.listdir(tmp_path) == ["c.npy"]


def test_the_test_would_see_it_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    pickle.loads(pickle.dumps(Call(np.save, str(marker), 1)))
    assert marker.with_suffix(".npy").exists()


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "numpy.f2py.compile",
        "numpy.testing._private.utils.runstring",
        "numpy.ma.core.MaskedArray",
        "numpy.core.os.system",
    ],
)
def test_by_dotted_names(name: str, tmp_path: Path) -> None:
    """Opcodes of its own: GLOBAL, and STACK_GLOBAL with a path of attributes."""
    module, _, attribute = name.partition(".") if name.startswith("os") else name.rpartition(".")
    by_global, by_stack = f"c{module}\n{attribute}\n.".encode(), b"\x80\x04" + text("numpy") + text(name) + b"\x93."
    for code in (by_global, by_stack):
        (tmp_path / "c.npy").write_bytes(HEADER + code)
        with pytest.raises(BrokenDatasetError, match="asks for"):
            read_correspondences(tmp_path / "c.npy")


def text(value: str) -> bytes:
    """As a pickle of protocol 4 holds it."""
    return b"\x8c" + bytes([len(value)]) + value.encode()


class Persistent(pickle.Pickler):
    def persistent_id(self, obj: Any) -> Any:
        return "elsewhere" if obj == "x" else None


def persistent() -> bytes:
    sink = io.BytesIO()
    Persistent(sink, 4).dump({1: "x"})
    return HEADER + sink.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not numpy",
        HEADER,
        HEADER + b"\x80\x04",
        HEADER + pickle.dumps({1: 2})[:-3],
        HEADER + pickle.dumps({1: "two"}),
        HEADER + pickle.dumps({1: True}),
        HEADER + pickle.dumps({1: 2.0}),
        HEADER + pickle.dumps([1, 2]),
        HEADER + pickle.dumps(None),
        HEADER.replace(b"\x01\x00", b"\x09\x00"),
        HEADER.replace(b"'|O'", b"junk"),
        HEADER.replace(b"'|O'", b"'<i8'").replace(b"()", b"(2**62,)"),
        persistent(),
        pytest.param(HEADER + b"\x80\x02" + b"(" * 100_000 + b".", id="deep"),
        pytest.param(HEADER + pickle.dumps(Call(np.zeros(0).__reduce__()[0], np.ndarray, (1 << 60,), b"d"), 4), id="huge"),
    ],
)
def test_what_is_no_map_of_patches(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "c.npy").write_bytes(data)
    with pytest.raises(UnreadableError, match=r"c\.npy: not a map of patches") as error:
        read_correspondences(tmp_path / "c.npy")
    assert "\n" not in str(error.value)


def test_floats_and_odd_shapes(tmp_path: Path) -> None:
    for value in (np.zeros((3, 2)), np.zeros((2, 3), int), np.zeros((2, 2, 2), int), np.array([{1: 2}, {3: 4}], dtype=object)):
        np.save(tmp_path / "c.npy", value)
        with pytest.raises(UnreadableError, match="not a map of patches"):
            read_correspondences(tmp_path / "c.npy")


def test_a_large_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "c.npy").write_bytes(HEADER + bytes(MAX_BYTES))
    with pytest.raises(UnreadableError, match="larger than a map of patches can be"):
        read_correspondences(tmp_path / "c.npy")
    with pytest.raises(UnreadableError, match="No such file"):
        read_correspondences(tmp_path / "none.npy")
