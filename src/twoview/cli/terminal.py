"""What all verbs share: exit codes, flags, and words on the terminal."""

import contextlib
import io
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError

if TYPE_CHECKING:
    from ..audit import Summary

DONE, FAILED, USAGE, SOME_UNREADABLE, NOTHING_KEPT, INTERRUPTED, TERMINATED = 0, 1, 2, 3, 4, 130, 143


def printable(words: str) -> str:
    """Words on one line, without what could steer a terminal: names in files may hold anything."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in words)


def complain(words: str, code: int) -> int:
    print(f"twoview: {words}", file=sys.stderr)
    return code


def parse(arguments: type, args: Sequence[str], verb: str) -> Any:
    """The flags of a verb. What tyro draws as a box around a mistake becomes one line."""
    import tyro

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(arguments, args=list(args), prog=f"twoview {verb}", config=(tyro.conf.FlagCreatePairsOff,))
    except SystemExit as stop:
        if stop.code != USAGE:  # --help, or a SIGTERM meanwhile
            raise
        lines = [line.strip("╭╮╰╯│─ ") for line in said.getvalue().splitlines()]
        words = " ".join(line for line in lines[1:] if line.strip("-")).partition(" For full helptext")[0]
        raise ConfigError(f"{words} (twoview {verb} --help lists the flags)") from None


def band(flag: str, text: str) -> tuple[float, float]:
    low, _, high = text.partition(":")
    try:
        return float(low), float(high)
    except ValueError:
        raise ConfigError(f"{flag} {text}: give LOW:HIGH, as 0.5:0.7") from None


def print_summary(summary: "Summary", out: Path | str) -> None:
    inputs = sum(summary.inputs.values())
    scenes = "1 scene" if inputs == 1 else f"{inputs:,} scenes"
    print(f"{summary.num_kept:,} pairs kept of {summary.num_pairs:,} measured, from {scenes}: {out}")
    if summary.num_stored > summary.num_kept:
        print(f"  {summary.num_stored - summary.num_kept:,} more stored for a looser choice later")
    for reason, num in summary.reasons.items():
        print(f"  {num:8,} {reason}")
    if summary.skipped:
        num = len(summary.skipped)
        print(f"skipped by a rule of the dataset: {num:,} of {scenes}, each in scenes/ there, as {summary.skipped[0]}")
    print_faults(summary.errors, ", each in scenes/ there")


def print_faults(faults: Iterable[tuple[str, str]], where: str = "") -> None:
    """Status and error of inputs, of many the first."""
    faults, shown = list(faults), 20
    for status, error in faults[:shown]:
        print(f"{status}: {error}")
    if len(faults) > shown:
        print(f"and {len(faults) - shown:,} more inputs with faults{where}")


class Line:
    """What goes on, on one line of a terminal; elsewhere a line every ten seconds."""

    def __init__(self) -> None:
        self._on_terminal = sys.stderr.isatty()
        self._told = time.monotonic()

    def show(self, words: str, at_once: bool = False) -> None:
        now = time.monotonic()
        if now - self._told < (0.2 if self._on_terminal else 10) and not at_once:
            return
        self._told = now
        shown = f"\r\x1b[K{words}" if self._on_terminal else f"twoview: {words}"
        print(shown, end="" if self._on_terminal else "\n", file=sys.stderr, flush=True)

    def say(self, words: str) -> None:
        """A line of its own."""
        self.end()
        print(f"twoview: {words}", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._on_terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


@contextlib.contextmanager
def counting(
    verb: str, what: str = "pairs", stopped: str = "stopped: the same command goes on"
) -> Iterator[Callable[[int, int], None]]:
    """A bar of pairs (or what it is) done of all on a terminal; elsewhere a line every ten seconds."""
    line, started = Line(), time.monotonic()

    def tell(num: int, total: int) -> None:
        left = (time.monotonic() - started) * (total - num) / max(num, 1)
        line.show(f"{num:,} of {total:,} {what} {verb}" + (f", about {left:,.0f} s left" if num else ""))

    try:
        yield tell
    except (KeyboardInterrupt, SystemExit):
        print(f"\n{stopped}", file=sys.stderr)
        raise
    finally:
        line.end()
