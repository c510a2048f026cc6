"""The published pickles are read, and nothing that a pickle can run is run."""

import io
import os
import pickle
import subprocess
import sys
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


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.array({3: 4}, dtype=object), {3: 4}),
        (np.array({np.int64(3): np.uint8(200), np.dtype(">i2").type(1): np.int32(-1)}, dtype=object), {3: 200, 1: -1}),
        (np.array([[1, 2], [7, 5]]), {1: 2, 7: 5}),
        (np.asfortranarray([[1, 2], [7, 5], [3, 4]]), {1: 2, 7: 5, 3: 4}),
        (np.array([-1, 4, -1, 256], ">i2"), {1: 4, 3: 256}),
        ({1: 2}, {1: 2}),
    ],
)
def test_any_protocol(value: Any, expected: dict[int, int], protocol: int, tmp_path: Path) -> None:
    found = read_correspondences(saved(tmp_path / "c.npy", value, protocol))
    assert found == expected
    assert all(type(n) is int for pair in found.items() for n in pair)


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
        (np.asfortranarray([[1, 2], [7, 5], [3, 4]]), {1: 2, 7: 5, 3: 4}),
        (np.array([[256, 2]], ">i4"), {256: 2}),
        (np.empty((0, 2), int), {}),
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
        HEADER + pickle.dumps({1: 1 << 20_000}),
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


def literal(value: Any) -> bytes:
    """The operations that put a value on the stack."""
    return pickle.dumps(value, 2)[2:-1]


def looked_up(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


DTYPE, ARRAY, FUNCTION = (
    looked_up("numpy", "dtype"),
    looked_up("numpy", "ndarray"),
    looked_up("numpy.core.multiarray", "_reconstruct"),
)
NUMBERS = looked_up("numpy.core.multiarray", "scalar")
OBJECTS = DTYPE + b"(" + literal("O8") + b"\x89\x88tR"
BYTES = DTYPE + b"(" + literal("u1") + b"\x89\x88tR"
REBUILT = FUNCTION + b"(" + ARRAY + literal((0,)) + b"C\x01btR"


def forged(flags: int) -> bytes:
    """A dtype's state that says there are objects in plain bytes; the dtype of objects is number 200 of the memo."""
    fields = b"}(" + literal("a") + b"(h\xc8" + literal(0) + b"tu"
    return (
        b"(" + literal(3) + literal("|") + b"N(" + literal("a") + b"t" + fields + literal(8) + literal(1) + literal(flags) + b"tb"
    )


def state(shape: bytes, dtype: bytes, data: bytes) -> bytes:
    return b"(" + literal(1) + shape + dtype + b"\x89" + data + b"tb"


def by_forged_flags() -> bytes:
    """Numbers in the place of pointers: an array of void, whose dtype becomes one of objects afterwards."""
    void = DTYPE + b"(" + literal("V8") + b"\x89\x88tRq\xc9" + forged(0) + b"0"
    array = REBUILT + state(b"(" + literal(1) + b"t", b"h\xc9", b"C\x08" + b"A" * 8) + b"q\xca0"
    return OBJECTS + b"q\xc80" + void + array + b"h\xc9" + forged(63) + b"0h\xca"


HOSTILE = {
    "forged flags": by_forged_flags(),
    "flags of plain bytes": OBJECTS
    + b"q\xc80"
    + BYTES
    + forged(63)
    + b"q\xc90"
    + REBUILT
    + state(literal(()), b"h\xc9", b"C\x01A"),
    "pointers as an object": NUMBERS + b"(" + OBJECTS + b"C\x08" + b"A" * 8 + b"tR",
    "pointers as objects": REBUILT + state(literal(()), OBJECTS, b"C\x08" + b"A" * 8),
    "too few bytes": NUMBERS + b"(" + DTYPE + b"(" + literal("i8") + b"\x89\x88tRC\x01AtR",
    "state of a function": FUNCTION + literal((None, {"__defaults__": (1,)})) + b"b",
    "state of a class": ARRAY + literal({"__setstate__": None}) + b"b",
    "state of a number": NUMBERS + b"(" + BYTES + b"C\x01AtR" + literal({"real": 1}) + b"b",
    "a class without its arguments": DTYPE + b")\x81",
    "arrays in an array": REBUILT + state(literal(()), OBJECTS, b"](" + REBUILT + b"e"),
    "an array in itself": REBUILT + b"q\xc8" + state(literal(()), OBJECTS, b"](h\xc8e"),
    "a dict in itself": b"}q\xc8" + literal(1) + b"h\xc8s",
    "never filled": REBUILT,
    "a huge shape": REBUILT + state(literal((1 << 60,)), BYTES, b"C\x01A"),
    "a shape less than nothing": REBUILT + state(literal((-(1 << 62), 2)), BYTES, b"C\x01A"),
    "a deep key": b"})" + b"\x85" * 900_000 + literal(1) + b"s",
    "a number of the memo": b"}r\xff\xff\xff\x7f",
    "as many by protocol 0": b"}p2147483647\n",
}
"""Pickles that ask for nothing but NumPy's own, and would have it crash, or fill the memory."""


def test_nothing_of_numpy_s_memory_is_reached(tmp_path: Path) -> None:
    """In a process of its own, which a wrong step would end."""
    for name, code in HOSTILE.items():
        (tmp_path / name).write_bytes(HEADER + b"\x80\x02" + code + b".")
    np.save(tmp_path / "a good one after them.npy", {1: 2})
    *said, good = ask([*HOSTILE, "a good one after them.npy"], cwd=tmp_path)
    assert [line.partition(" (")[0] for line in said] == [f"{name}: not a map of patches" for name in HOSTILE]
    assert good == "{1: 2}"
    assert not [line for line in said if "Error" in line]  # no MemoryError: nothing was asked for


def ask(names: list[str], cwd: Path | None = None, timeout: float | None = None) -> list[str]:
    """What a process with little memory reads in these files, or has to say of them: a line each."""
    script = (
        "import resource, sys\nfrom pathlib import Path\n"
        "from twoview.errors import UnreadableError\nfrom twoview.exchange.pickled import read_correspondences\n"
        "resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))\n"
        "for name in sys.argv[1:]:\n"
        "    try:\n        print(read_correspondences(Path(name)))\n"
        "    except UnreadableError as error:\n        print(error, flush=True)\n"
    )
    program = [sys.executable, "-c", script, *names]
    done = subprocess.run(program, capture_output=True, text=True, check=False, cwd=cwd, timeout=timeout)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_other_kinds_of_dtype(tmp_path: Path) -> None:
    for kind in ("V8", "f8", "M8[ns]", "i4,O", "S8", "b1", "i16", "numpy.int64"):
        (tmp_path / "c.npy").write_bytes(HEADER + b"\x80\x02" + DTYPE + literal((kind,)) + b"R.")
        with pytest.raises(UnreadableError, match="not of whole numbers"):
            read_correspondences(tmp_path / "c.npy")


def test_a_pipe_or_a_device_is_no_file(tmp_path: Path) -> None:
    """Reading it would never end, so another process does, for a minute at most."""
    os.mkfifo(tmp_path / "c.npy")
    paths = [str(tmp_path / "c.npy"), "/dev/zero", str(tmp_path)]
    assert ask(paths, timeout=60) == [f"{path}: not a file" for path in paths]


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
