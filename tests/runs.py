"""The command line in processes of its own, and what a run leaves on disk. For the tests; not a test."""

import hashlib
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from twoview.cli import main

SHARED = Path(__file__).parents[2] / "shared"
FLAGS = ("--recipe", "consecutive", "--size", "112", "--overlap", "0.5:0.92")
"""Quick to measure; of the footage fixture's five parts two keep nothing."""
NUM_PARTS = 5


def curate(footage: list[Path], out: Path, *more: str, flags: tuple[str, ...] = FLAGS) -> int:
    """The exit code of `twoview curate` with one worker, in this process."""
    return main(["curate", *map(str, footage), "--out", str(out), "--workers", "1", *flags, *more])


def twoview(*args: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """`twoview ARGS`, as a user starts it: the program beside the interpreter, another working folder."""
    command = [str(Path(sys.executable).parent / "twoview"), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, timeout=300)


def start(script: Path | None, *args: object) -> subprocess.Popen[str]:
    """`twoview ARGS`, or a script that ends in it, in a session of its own: os.killpg reaches its workers and not this process."""
    command = [sys.executable, *(["-m", "twoview"] if script is None else [str(script)]), *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code (-9: killed) and stderr."""
    said = process.communicate(timeout=300)[1]
    return process.returncode, said


def driver(folder: Path, patches: str) -> Path:
    """A script that is `twoview`, but for these patches; its workers run them too."""
    script = folder / "driver.py"
    script.write_text(
        f"""import os, signal, sys, time
from pathlib import Path
from twoview import cli, locks, plan, shards
from twoview.curation import curate, engine

{patches}

if __name__ == "__main__":
    sys.exit(cli.main(sys.argv[1:]))
"""
    )
    return script


def wait_for(condition: Callable[[], object]) -> None:
    """Back as soon as it holds; fails the test where it never does."""
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.02)


def digests(out: Path) -> dict[str, str]:
    """sha256 of every file whose bytes are promised, hidden ones too."""
    files = [p for folder in ("shards", "manifest") for p in (out / folder).iterdir()]
    return {str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(files)}


def litter(out: Path) -> list[str]:
    """What a finished run must not leave: locks, and files that were written aside."""
    return sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.suffix in (".partial", ".lock"))
