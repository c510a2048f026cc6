"""The command line. Nothing else knows of flags, exit codes or the terminal."""

import contextlib
import io
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from . import __version__
from .errors import ConfigError, TryLaterError, TwoviewError, UnreadableError

if TYPE_CHECKING:
    from .audit import Summary
    from .curation.crew import Crew
    from .curation.curate import CurateConfig
    from .curation.engine import Job, Progress

DONE, FAILED, USAGE, SOME_UNREADABLE, NOTHING_KEPT, INTERRUPTED, TERMINATED = 0, 1, 2, 3, 4, 130, 143

ABOUT = """twoview turns footage that nobody annotated into verified two-view training pairs.

  twoview curate PATH [PATH ...] --out DIR    videos and photo folders to pairs
  twoview measure A.jpg B.jpg                 overlap of two pictures
  twoview audit DIR                           check a dataset and count what it holds
  twoview recipes                             the named configurations of curate
  twoview demo [DIR]                          a first dataset from a video it makes itself

twoview VERB --help says more. Exit codes: 0 done; 1 unexpected error; 2 wrong usage; 3 done, but some inputs could not be
read; 4 done, nothing kept; 75 try again later; 130 interrupted and 143 terminated (what was finished is kept)."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code comes back."""
    args = list(sys.argv[1:] if argv is None else argv)
    if not args or args[0] in ("-h", "--help"):
        print(ABOUT)
        return DONE if args else USAGE
    if args[0] == "--version":
        print(f"twoview {__version__}")
        return DONE
    verb = VERBS.get(args[0])
    if verb is None:
        return _complain(f"{args[0]}: there is {', '.join(VERBS)}", USAGE)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    try:
        return verb(args[1:])
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # `twoview audit DIR | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return DONE
    except TwoviewError as error:
        return _complain(str(error), error.exit_code)
    except OSError as error:
        if error.filename is None:
            raise
        return _complain(f"{error.filename}: {error.strerror}", FAILED)


def _complain(words: str, code: int) -> int:
    print(f"twoview: {words}", file=sys.stderr)
    return code


def _parse(arguments: type, args: Sequence[str], verb: str):  # noqa: ANN202 - an `arguments`
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


# ---------------------------------------------------------------------------------------------------------- curate


def _curate(args: Sequence[str]) -> int:
    from .curation.crew import Crew

    idle = {"-h", "--help", "--dry-run"} & set(args)
    with Crew(
        0 if idle else _crew_size(_int_or(_value_of(args, "--workers"), 0))
    ) as crew:  # they import while the flags are read and the plan is made
        return _curate_with(crew, args)


def _curate_with(crew: "Crew", args: Sequence[str]) -> int:
    import tyro

    from .curation.curate import Crop, CurateConfig
    from .curation.verdicts import band_text
    from .recipes import curate_recipe

    recipe_name = _value_of(args, "--recipe") or "paper"
    base = curate_recipe(recipe_name)

    @dataclass(frozen=True, kw_only=True)
    class Curate:
        """Mine two-view pairs from videos and photo folders into a dataset that training code can read.

        Run the same command again to go on after an interrupt, or in several places at once to share the work.
        """

        paths: tyro.conf.Positional[tuple[Path, ...]] = ()
        """Videos, folders of videos, folders of photos (each sub-folder is a scene)."""
        list: Path | None = None
        """A text file of paths, one a line, with tabs before an optional source and licence."""
        out: Path
        """The dataset's folder: new, or of an earlier run of the same command."""
        recipe: str = recipe_name
        """A named configuration (see `twoview recipes`), or my_file:my_recipe. Its values are the defaults below."""
        overlap: str = band_text(base.overlap)
        """Pairs are kept that overlap this much: LOW:HIGH, the smaller direction, both ends allowed."""
        store: str | None = band_text(base.store) if base.store else None
        """Pairs are stored that overlap this much, kept or not, for a looser choice later. Default: as --overlap."""
        if is_dataclass(base.source):
            source: type(base.source) = field(default_factory=lambda: base.source)  # pyright: ignore
            """How the paths become scenes."""
        propose: type(base.propose) = field(  # pyright: ignore - so that a user's own fields are flags
            default_factory=lambda: base.propose
        )
        """Which pairs are measured."""
        estimator: type(base.estimator) = field(  # pyright: ignore
            default_factory=lambda: base.estimator
        )
        """What measures them."""
        size: int = base.size
        """Side of the stored square in px; with --crop none the shorter side."""
        crop: Crop = base.crop
        """centre: the largest square; stretch: the whole frame, squeezed to a square; none: the whole frame."""
        max_pairs_per_scene: int | None = base.max_pairs_per_scene
        """At most this many groups of candidates of a scene are measured, spread evenly over it; each gives one pair or none."""
        seed: int = base.seed
        """Seeds every draw."""
        workers: int = 0
        """Processes; 0: one for each processor."""
        parts: str = "1/1"
        """Only the share i of n of the parts, i from 1 to n: for array jobs, each with its own i and the same --out."""
        extend: bool = False
        """Curate what OUT was planned without, as new parts."""
        limit: int | None = None
        """Only the first N scenes."""
        dry_run: bool = False
        """Say what would be done and stop."""

    given = _parse(Curate, args, "curate")
    if not given.paths and given.list is None:
        raise ConfigError("curate: give a video or a folder, or --list FILE")
    if given.workers < 0:
        raise ConfigError(f"--workers is {given.workers}: give a number from 1, or 0 for one for each processor")
    if given.limit is not None and given.limit < 1:
        raise ConfigError(f"--limit is {given.limit}: give a number from 1")
    config: CurateConfig = replace(
        base,
        source=getattr(given, "source", base.source),
        propose=given.propose,
        estimator=given.estimator,
        overlap=base.overlap if given.overlap == band_text(base.overlap) else _band("--overlap", given.overlap),
        store=None if given.store is None else _band("--store", given.store),
        size=given.size,
        crop=given.crop,
        max_pairs_per_scene=given.max_pairs_per_scene,
        seed=_seed(given, base),
    )
    return curate_to(
        given.paths,
        config,
        given.out,
        list_file=given.list,
        crew=crew,
        share=_share(given.parts),
        extend=given.extend,
        limit=given.limit,
        dry_run=given.dry_run,
    )


def curate_to(
    paths: Iterable[Path],
    config: "CurateConfig",
    out: Path,
    *,
    list_file: Path | None = None,
    crew: "Crew | None" = None,
    share: tuple[int, int] = (1, 1),
    extend: bool = False,
    limit: int | None = None,
    dry_run: bool = False,
) -> int:
    """Curate with progress and a summary on the terminal; the exit code comes back."""
    from .audit import summarise
    from .curation.engine import prepare, run
    from .plan import make_plan

    started = time.monotonic()
    footage: Any = config.source(paths, list_file)
    if limit is not None:
        if not hasattr(footage, "take"):
            raise ConfigError(f"--limit: {type(footage).__name__} has no take(number)")
        footage = footage.take(limit)
    if not footage.names():
        ignored = getattr(footage, "num_ignored", 0)
        raise ConfigError(f"no videos or pictures found ({ignored} other files)")
    if dry_run:
        plan = make_plan(footage, config.propose, config.sha256, config.size)
        scenes = {s.scene: s for s in plan.slices}.values()
        print(f"{len(scenes)} scenes, {sum(s.num_frames for s in scenes):,} frames, {plan.num_parts} parts")
        print(f"{sum(s.num_pairs for s in scenes):,} candidates to measure; nothing was written")
        for scene in scenes:
            if scene.error:
                print(f"unreadable: {scene.error}")
        return SOME_UNREADABLE if any(s.error for s in scenes) else DONE
    job = prepare(footage, config, out, share=share, extend=extend)
    if not job.parts:
        print(f"--parts {share[0]}/{share[1]}: none of the {job.plan.num_parts} parts falls to this share: {out}")
        return DONE
    already = summarise(out, job.plan, job.parts).num_finished  # reads them: one that is broken is named before the work
    if already:
        print(f"{already} of {len(job.parts)} parts were finished before", file=sys.stderr)
    try:
        with _progress(job) as tell:
            run(job, crew, tell)
    except (KeyboardInterrupt, SystemExit, TryLaterError):
        done = len(job.parts) - len(job.left)
        print(f"\nstopped: {done} of {len(job.parts)} parts are finished and kept; the same command goes on", file=sys.stderr)
        raise
    summary = summarise(out, job.plan, job.parts)
    _print_summary(summary, out)
    print(f"in {time.monotonic() - started:.1f} s")
    if not summary.num_kept and share == (1, 1):  # a share of an array job may well keep nothing
        print(_advice(summary, config), file=sys.stderr)
        return SOME_UNREADABLE if summary.errors else NOTHING_KEPT
    return SOME_UNREADABLE if summary.errors else DONE


def _crew_size(workers: int) -> int:
    """Processes to start for --workers; 0 for one worker, which is this process."""
    num = workers or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    return num if num > 1 else 0


def _print_summary(summary: "Summary", out: Path) -> None:
    inputs = sum(summary.inputs.values())
    print(f"{summary.num_kept:,} pairs kept of {summary.num_pairs:,} measured, from {inputs:,} scenes: {out}")
    if summary.num_stored > summary.num_kept:
        print(f"  {summary.num_stored - summary.num_kept:,} more stored for a looser choice later")
    for reason, num in summary.reasons.items():
        print(f"  {num:8,} {reason}")
    shown = 20
    for status, error in summary.errors[:shown]:
        print(f"{status}: {error}")
    if len(summary.errors) > shown:
        print(f"and {len(summary.errors) - shown:,} more inputs with faults, each in {out / 'scenes'}")


def _advice(summary: "Summary", config: "CurateConfig") -> str:
    """Which reason refused most, and what to try."""
    if summary.inputs.get("unreadable") == sum(summary.inputs.values()):
        return "nothing kept: none of the inputs can be read, see the errors above"
    closer, apart = _spacing(config, 0.5), _spacing(config, 2)
    every = "--recipe consecutive" if hasattr(config.propose, "seconds") else ""
    if not summary.num_pairs:
        return f"nothing kept: no scene has two frames to pair{f'; try frames closer together ({closer})' if closer else ''}"
    reason = next(iter(summary.reasons), "")
    why, flags = {
        "overlap_high": ("they look too alike", {"frames further apart": apart, "a higher band": "--overlap 0.5:0.9"}),
        "overlap_low": ("they share too little", {"frames closer together": closer, "a lower band": "--overlap 0.3:0.7"}),
        "unreadable": ("see the errors above", {}),
        "user_filter": ("see your own filters", {}),
    }.get(reason, ("they do not match", {"frames closer together": closer, "every frame": every}))
    tries = " or ".join(f"{what} ({flag})" for what, flag in flags.items() if flag)
    words = f"nothing kept: {reason} refused {summary.reasons.get(reason, 0):,} of {summary.num_pairs:,}; {why}"
    return f"{words}: try {tries}" if tries else words


def _spacing(config: "CurateConfig", factor: float) -> str:
    """The flag for frames so many times further apart; '' where the proposer has none, or cannot go closer."""
    seconds, step = (getattr(config.propose, name, None) for name in ("seconds", "step"))
    if seconds:
        return f"--propose.seconds {seconds * factor:g}"
    return f"--propose.step {int(step * factor)}" if step and step * factor >= 1 else ""


class _progress:  # noqa: N801 - a context manager
    """A bar with rate and time left on a terminal; elsewhere a line every ten seconds."""

    def __init__(self, job: "Job") -> None:
        self._total = max(job.num_pairs, 1)
        self._num = self._kept = 0
        self._started = self._told = time.monotonic()
        self._bar = None

    def __enter__(self) -> Callable[["Progress"], None]:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

            columns = (
                BarColumn(),
                TextColumn("{task.description}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task("", total=self._total)
            self._bar.start()
        return self._tell

    def _tell(self, progress: "Progress") -> None:
        self._num, self._kept = self._num + progress.num_pairs, self._kept + progress.num_kept
        elapsed = time.monotonic() - self._started
        rate = self._num / max(elapsed, 1e-3)
        words = f"{self._num:,} measured, {self._kept:,} kept, {rate:.0f}/s"
        if progress.remark:
            print(f"twoview: {progress.remark}", file=sys.stderr)
        if self._bar is not None:
            self._bar.update(self._task, completed=min(self._num, self._total), description=words)
        elif time.monotonic() - self._told > 10:
            self._told = time.monotonic()
            left = max(self._total - self._num, 0) / max(rate, 1e-3)
            print(f"twoview: {words}, about {left:,.0f} s left", file=sys.stderr)

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()


def _value_of(args: Sequence[str], flag: str) -> str | None:
    """A flag's value, read before the rest can be parsed."""
    for i, arg in enumerate(args):
        if arg == flag and i + 1 < len(args):
            return args[i + 1]
        if arg.startswith(flag + "="):
            return arg.removeprefix(flag + "=")
    return None


def _seed(given: Any, base: "CurateConfig") -> int:
    """The run's seed, which is the estimator's too: --estimator.seed sets it as --seed does."""
    own = getattr(given.estimator, "seed", base.seed)
    if own == getattr(base.estimator, "seed", base.seed):
        return given.seed
    if given.seed not in (base.seed, own):
        raise ConfigError(f"--seed is {given.seed} and --estimator.seed {own}: give one of them")
    return own


def _int_or(text: str | None, default: int) -> int:
    return int(text) if text and text.isdecimal() else default


def _band(flag: str, text: str) -> tuple[float, float]:
    low, _, high = text.partition(":")
    try:
        return float(low), float(high)
    except ValueError:
        raise ConfigError(f"{flag} {text}: give LOW:HIGH, as 0.5:0.7") from None


def _share(text: str) -> tuple[int, int]:
    i, _, n = text.partition("/")
    if i.isdecimal() and n.isdecimal() and 1 <= int(i) <= int(n):
        return int(i), int(n)
    raise ConfigError(f"--parts {text}: give i/n with i from 1 to n, as 3/8")


# ------------------------------------------------------------------------------------------- measure, audit, recipes, demo


def _measure(args: Sequence[str]) -> int:
    import tyro

    from .curation.curate import Crop
    from .curation.measure import as_row_dict, drawing, measure, stored_picture
    from .recipes import curate_recipe

    @dataclass(frozen=True, kw_only=True)
    class Measure:
        """Overlap of two pictures: how much of each is seen in the other. The smaller direction counts."""

        pictures: tyro.conf.Positional[tuple[Path, ...]] = ()
        """Two pictures."""
        estimator: Literal["paper", "released"] = "paper"
        """paper: deterministic; released: the published code, on pictures stretched to 224 px."""
        json: bool = False
        """One JSON object, keys as the manifest's columns."""
        picture: Path | None = None
        """Draw inliers and patch map into this file."""
        pairs: Path | None = None
        """A file with two paths a line and a tab between them: a line of JSON for each comes back, in order."""
        crop: Crop | None = None
        """centre: the largest square; stretch: squeezed to a square; none: the whole. Default: as the estimator's recipe."""
        size: int | None = None
        """Side of the measured square in px. Default: as the estimator's recipe."""

    given = _parse(Measure, args, "measure")
    recipe = curate_recipe(given.estimator)
    recipe = replace(recipe, crop=given.crop or recipe.crop, size=recipe.size if given.size is None else given.size)
    estimator, crop, size = recipe.estimator, recipe.crop, recipe.size
    if given.pairs is not None:
        if given.pictures or given.picture:
            raise ConfigError("measure: give two pictures or --pairs FILE, not both")
        return _measure_list(given.pairs, lambda a, b: as_row_dict(measure(a, b, estimator, crop=crop, size=size), estimator))
    if len(given.pictures) != 2:
        raise ConfigError(f"measure takes two pictures, not {len(given.pictures)} (or --pairs FILE)")
    a, b = (stored_picture(path, crop, size) for path in given.pictures)
    match = measure(a, b, estimator, crop=crop, size=size)
    if given.picture is not None:
        _write_picture(given.picture, drawing(a, b, match))
    if given.json:
        print(json.dumps(as_row_dict(match, estimator)))
    elif not match.found:
        print(f"not found: {match.failure} ({match.num_matches} matches, {match.num_inliers} inliers)")
    else:
        print(f"overlap {match.overlap:.4f} (a in b {match.overlap_ab:.4f}, b in a {match.overlap_ba:.4f})")
        print(f"{match.num_inliers} inliers of {match.num_matches} matches")
        print(f"scale {match.scale:.3f}, rotation {match.rotation_deg:.1f} deg")
    return DONE


def _measure_list(path: Path, measured: Callable[[Path, Path], dict]) -> int:
    """A line of JSON for each line of the file. A pair that cannot be read gives an `error` in place of the figures."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--pairs {path}: {getattr(error, 'strerror', None) or 'not UTF-8 text'}") from None
    pairs = [(number, line.split("\t")) for number, line in enumerate(lines, 1) if line.strip()]
    for number, names in pairs:
        if len(names) != 2 or not all(names):
            raise ConfigError(f"--pairs {path}, line {number}: write two paths with a tab between them")
    code = DONE
    for _, (a, b) in pairs:
        answer: dict = {"a": a, "b": b}
        try:
            answer |= measured(Path(a), Path(b))
        except UnreadableError as error:
            answer |= {"found": False, "reasons": ["unreadable"], "error": str(error)}
            code = SOME_UNREADABLE
        print(json.dumps(answer, ensure_ascii=False), flush=True)
    return code


def _write_picture(path: Path, image) -> None:  # noqa: ANN001 - uint8 RGB
    import cv2

    try:
        _, data = cv2.imencode(path.suffix or ".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    except cv2.error:
        raise ConfigError(f"--picture {path}: give a name that ends in .png or .jpg") from None
    path.write_bytes(data.tobytes())


def _audit(args: Sequence[str]) -> int:
    import tyro

    from .audit import dataset_plan, faults, summarise

    @dataclass(frozen=True, kw_only=True)
    class Audit:
        """Check every file of a dataset against its manifest, and count what it holds."""

        dataset: tyro.conf.Positional[Path]
        """The folder that curate wrote."""

    out = _parse(Audit, args, "audit").dataset
    plan = dataset_plan(out)
    wrong = faults(out, plan)
    for fault in wrong:
        print(f"fault: {fault}")
    if wrong:
        print(f"{len(wrong)} faults: {out}")
        return FAILED
    summary = summarise(out, plan)
    _print_summary(summary, out)
    most = max(summary.overlaps, default=0)
    for i, num in enumerate(summary.overlaps):
        if num:
            print(
                f"  {i / len(summary.overlaps):.2f}-{(i + 1) / len(summary.overlaps):.2f} {num:8,} {'#' * round(40 * num / most)}"
            )
    if summary.num_finished < summary.num_parts:
        print(f"{summary.num_finished} of {summary.num_parts} parts are finished: the same curate command goes on")
    print("every stored picture and sample is as the manifest says")
    return DONE


def _recipes(args: Sequence[str]) -> int:
    from .recipes import CURATE

    for name, recipe in CURATE.items():
        print(f"{name:14} {(recipe.__doc__ or '').strip().splitlines()[0]}")
    return DONE


def _demo(args: Sequence[str]) -> int:
    import tyro

    from .curation.crew import Crew
    from .demo import write_walk
    from .recipes import curate_recipe

    @dataclass(frozen=True, kw_only=True)
    class Demo:
        """Make a short video of a walk through a room, and curate it."""

        folder: tyro.conf.Positional[Path] = Path("twoview-demo")
        """Where the video and the dataset go."""
        workers: int = 0
        """Processes; 0: one for each processor."""

    given = _parse(Demo, args, "demo")
    video, out = given.folder / "walk.mp4", given.folder / "pairs"
    if not video.exists():
        given.folder.mkdir(parents=True, exist_ok=True)
        write_walk(video)
        print(f"made {video}")
    print(f"$ twoview curate {video} --out {out}")
    with Crew(_crew_size(given.workers)) as crew:
        code = curate_to([video], curate_recipe("paper"), out, crew=crew)
    print(f"the dataset is in {out}; next: twoview audit {out}")
    return code


VERBS: dict[str, Callable[[Sequence[str]], int]] = {
    "curate": _curate,
    "measure": _measure,
    "audit": _audit,
    "recipes": _recipes,
    "demo": _demo,
}
