"""Claim: what `--dry-run` foretells lies within 25 % of the run that follows, in pairs, wall time and disk.

Both are the real command, by two workers, dry run and run in turn. Pairs kept and bytes are counted from what the run has left,
seconds are its own `in ... s` line. The 1,000 frames of the video are so few that a dry run measures them all; the same video ten
times over shows what a sample tells. Each is done REPEATS times: of time the median of foretold over came, and its range; the other
figures are of that median's run. `others` is how much of a processor other programs took during the dry run and the run: where
that differs, so does the time.

    .venv/bin/python benchmarks/forecast.py [NAME ...]
"""

import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
from footage import DATA, KITCHEN, copy, need

from twoview.curation.forecast import bytes_of_parts
from twoview.demo import write_flat
from twoview.shards import read_manifest

REPEATS, TARGET = 3, 0.25
WALK = ("--recipe", "walk", "--source.samples", "300")
APARTMENT = DATA / "scene_apartment" / "apartment.glb"


@dataclass(frozen=True, kw_only=True)
class Beside:
    """A forecast and what happened."""

    told: dict
    dry_s: float
    num_kept: int
    seconds: float
    num_bytes: int
    others: tuple[float, float]
    """Processors that other programs took while the dry run and the run went on."""

    @property
    def off(self) -> tuple[float, float, float]:
        """Pairs, seconds and bytes foretold over those that came, less 1."""
        told = self.told
        return told["num_kept"] / self.num_kept - 1, told["seconds"] / self.seconds - 1, told["num_bytes"] / self.num_bytes - 1


def said(words: list[str]) -> tuple[str, float, float]:
    """What a command prints, how long it took, and how much of a processor others took."""
    before, own_before = sum(psutil.cpu_times()[:3]), resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "twoview", *words], capture_output=True, text=True, check=False)
    wall, own = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"exit code {done.returncode}\n{done.stdout}{done.stderr}")
    used = own.ru_utime + own.ru_stime - own_before.ru_utime - own_before.ru_stime
    return done.stdout, wall, max(0.0, (sum(psutil.cpu_times()[:3]) - before - used) / wall)


def beside(path: Path, flags: tuple[str, ...], out: Path) -> Beside:
    """A dry run, and the run."""
    command = ["curate", str(path), "--out", str(out), "--workers", "2", *flags]
    _, dry_s, others_dry = said([*command, "--dry-run"])
    told = json.loads((out / "forecast.json").read_text())["forecast"]
    words, _, others = said(command)
    seconds = re.search(r"^in ([\d.]+) s$", words, re.MULTILINE)
    assert seconds
    kept = read_manifest(out, columns=["kept"])["kept"].to_pylist().count(True)
    return Beside(
        told=told,
        dry_s=dry_s,
        num_kept=kept,
        seconds=float(seconds[1]),
        num_bytes=bytes_of_parts(out),
        others=(others_dry, others),
    )


def main() -> None:
    need(KITCHEN), need(APARTMENT)
    missed = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_flat(folder / "flat.glb")
        long = copy(folder / "long.mp4", KITCHEN, times=10)
        runs = {
            "paper": (KITCHEN, ()),
            "covisibility": (KITCHEN, ("--recipe", "covisibility")),
            "paper, 10 times": (long, ()),
            "covisibility, 10 times": (long, ("--recipe", "covisibility")),
            "apartment, walk": (APARTMENT, WALK),
            "flat, walk": (folder / "flat.glb", WALK),
        }
        print(f"two workers; foretold / came, the median of {REPEATS} by time\n")
        print("| | measured | dry run | pairs | | time | | disk | | others |\n|---|---|---|---|---|---|---|---|---|---|")
        for name, (path, flags) in runs.items():
            if sys.argv[1:] and name not in sys.argv[1:]:
                continue
            tried = [beside(path, flags, folder / f"{name}-{k}") for k in range(REPEATS)]
            tried.sort(key=lambda found: found.off[1])
            middle = tried[REPEATS // 2]
            print(line(name, middle, tried[0].off[1], tried[-1].off[1]), flush=True)
            what = zip(("pairs", "time", "disk"), middle.off, strict=True)
            missed += [f"{which} of {name}" for which, off in what if abs(off) > TARGET]
    print(f"\ntargets: {'MISSED ' + ', '.join(missed) if missed else 'met'}")


def line(name: str, found: Beside, least: float, most: float) -> str:
    told, (pairs, seconds, disk) = found.told, found.off
    share = "all" if told["whole"] else f"{told['num_groups']} groups in {told['num_places']} places"
    words = f"{told['num_kept']:.0f} ({told['kept_low']:.0f} to {told['kept_high']:.0f}) / {found.num_kept} | {pairs:+.0%}"
    took = f"{told['seconds']:.1f} / {found.seconds:.1f} s | {seconds:+.0%} ({least:+.0%} to {most:+.0%})"
    size = f"{told['num_bytes'] / 1e6:.2f} / {found.num_bytes / 1e6:.2f} MB | {disk:+.0%}"
    return f"| {name} | {share} | {found.dry_s:.1f} s | {words} | {took} | {size} | {found.others[0]:.1f}, {found.others[1]:.1f} |"


if __name__ == "__main__":
    main()
