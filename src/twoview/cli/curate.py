"""The verbs that make a dataset: curate and demo."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, is_dataclass, replace
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from ..errors import ConfigError, TryLaterError
from ..licences import UNKNOWN
from .foretell import compare, foretell
from .terminal import DONE, NOTHING_KEPT, SOME_UNREADABLE, band, parse, print_summary

if TYPE_CHECKING:
    from ..audit import Summary
    from ..curation.composition import Composition
    from ..curation.crew import Crew
    from ..curation.curate import CurateConfig
    from ..curation.engine import Job, Progress
    from ..plan import Plan


def curate(args: Sequence[str]) -> int:
    started = time.monotonic()
    from ..curation.crew import Crew

    idle = {"-h", "--help"} & set(args)
    with Crew(
        0 if idle else crew_size(_int_or(value_of(args, "--workers"), 0))
    ) as crew:  # they import while the flags are read and the plan is made
        return _curate_with(crew, args, started)


def _curate_with(crew: "Crew", args: Sequence[str], started: float) -> int:
    import tyro

    from ..curation.curate import CurateConfig
    from ..curation.verdicts import band_text
    from ..curation.views import PairCrop
    from ..recipes import curate_recipe

    recipe_name = value_of(args, "--recipe") or "paper"
    base = curate_recipe(recipe_name)
    if not isinstance(base, CurateConfig):
        return _compose_with(crew, args, started, recipe_name, base)
    known_moving = getattr(base.estimator, "moving", None)

    @dataclass(frozen=True, kw_only=True)
    class Curate:
        """Mine two-view pairs from videos, photo folders and 3D scenes into a dataset that training code can read.

        Run the same command again to go on after an interrupt, or in several places at once to share the work.
        """

        paths: tyro.conf.Positional[tuple[Path, ...]] = ()
        """Videos, folders of videos, folders of photos (each sub-folder is a scene); with --recipe walk, 3D scenes."""
        list: Path | None = None
        """A text file of paths, one a line, with tabs before an optional source and licence."""
        licences: Path | None = None
        """A text file of licences, one a line, or patterns as CC-BY*; `-` or `unknown`: none is known. Scenes of others are left
        out before anything is planned."""
        out: Path
        """The dataset's folder: new, or of an earlier run of the same command."""
        recipe: str = recipe_name
        """A named configuration (see `twoview recipes`), or my_file:my_recipe. Its values are the defaults below."""
        overlap: str = band_text(base.overlap)
        """Pairs are kept that overlap this much: LOW:HIGH, the smaller direction, both ends allowed."""
        store: str | None = band_text(base.store) if base.store else None
        """Pairs are stored that overlap this much, kept or not, for a looser choice later. Default: as --overlap."""
        if is_dataclass(base.source):
            source: Annotated[type(base.source), tyro.conf.arg(help="How the paths become scenes.")] = base.source  # pyright: ignore
        propose: type(base.propose) = field(  # pyright: ignore - so that a user's own fields are flags
            default_factory=lambda: base.propose
        )
        """Which pairs are measured."""
        estimator: type(base.estimator) = field(  # pyright: ignore
            default_factory=lambda: base.estimator
        )
        """What measures them."""
        if known_moving:
            moving: Annotated[
                Literal["count", "mask"], tyro.conf.arg(help="mask: what moves is left out, and the still part alone is measured.")
            ] = known_moving
        if base.filters and is_dataclass(base.filters[0]):
            refuse: Annotated[type(base.filters[0]), tyro.conf.arg(help="What speaks against a pair besides its overlap.")] = (  # pyright: ignore
                base.filters[0]
            )
        size: int = base.size
        """Side of the stored square in px; with --crop none the shorter side."""
        crop: PairCrop = base.crop
        """centre: the largest square; stretch: the whole frame, squeezed to a square; none: the whole frame; covisible: of each
        pair squares around what both frames show."""
        min_sharpness: float = base.min_sharpness
        """A pair is not measured if one of its pictures is less sharp: variance of the Laplacian of grey. 0: all are measured."""
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
        """Measure a sample and say what the run would give and take. Nothing is written but OUT/forecast.json, which the real run
        compares itself with."""

    given = parse(Curate, args, "curate")
    if not given.paths and given.list is None:
        raise ConfigError("curate: give a video or a folder, or --list FILE")
    _check_numbers(given)
    config: CurateConfig = replace(
        base,
        source=getattr(given, "source", base.source),
        propose=given.propose,
        estimator=_estimator(given, base),
        filters=(given.refuse, *base.filters[1:]) if hasattr(given, "refuse") else base.filters,
        overlap=base.overlap if given.overlap == band_text(base.overlap) else band("--overlap", given.overlap),
        store=None if given.store is None else band("--store", given.store),
        size=given.size,
        crop=given.crop,
        min_sharpness=given.min_sharpness,
        max_pairs_per_scene=given.max_pairs_per_scene,
        seed=_seed(given, base),
    )
    return curate_to(
        given.paths,
        config,
        given.out,
        list_file=given.list,
        licences=given.licences,
        crew=crew,
        share=_share(given.parts),
        extend=given.extend,
        limit=given.limit,
        dry_run=given.dry_run,
        started=started,
    )


def _compose_with(crew: "Crew", args: Sequence[str], started: float, recipe_name: str, base: "Composition") -> int:
    """Curate several sources, each by its own recipe; then choose by the quotas."""
    import tyro

    @dataclass(frozen=True, kw_only=True)
    class Compose:
        """Mine the pairs of several sources into one dataset, each source by its own recipe, and choose as many of each as wanted.

        The choice is OUT@NAME, where NAME is the recipe's. Run the same command again to go on after an interrupt, or in several
        places at once to share the work. For other settings make a recipe of your own (docs/extend.md).
        """

        paths: tyro.conf.Positional[tuple[Path, ...]]
        """The folder that holds a folder for each source, named as it is: scannet, co3d, hm3d, ... Links will do."""
        licences: Path | None = None
        """A text file of licences, one a line, or patterns as CC-BY*; `-` or `unknown`: none is known. Scenes of others are left
        out before anything is planned."""
        out: Path
        """The dataset's folder: new, or of an earlier run of the same command."""
        recipe: str = recipe_name
        """Which sources, and how many pairs of each."""
        allow_missing: bool = False
        """Go on without the sources whose folder is not there. They can be added later, with --extend."""
        workers: int = 0
        """Processes; 0: one for each processor."""
        max_pairs_per_scene: int | None = None
        """At most this many groups of candidates of a scene are measured, spread evenly over it; each gives one pair or none."""
        seed: int | None = None
        """Seeds every draw. Default: as the members have it."""
        parts: str = "1/1"
        """Only the share i of n of the parts, i from 1 to n: for array jobs, each with its own i and the same --out."""
        extend: bool = False
        """Curate what OUT was planned without, as new parts."""
        limit: int | None = None
        """Only the first N scenes of each source."""
        dry_run: bool = False
        """Measure a sample of each source and say what the run would give and take. Nothing is written but OUT/forecast.json, which
        the real run compares itself with."""

    given = parse(Compose, args, f"curate --recipe {recipe_name}")
    if not given.paths:
        raise ConfigError(f"curate: give the folder that the sources of {recipe_name} lie in")
    _check_numbers(given)
    most = given.max_pairs_per_scene
    members = {
        source: replace(
            config,
            seed=config.seed if given.seed is None else given.seed,
            max_pairs_per_scene=config.max_pairs_per_scene if most is None else most,
        )
        for source, config in base.members.items()
    }
    return curate_to(
        given.paths,
        replace(base, members=members, allow_missing=given.allow_missing),
        given.out,
        licences=given.licences,
        crew=crew,
        share=_share(given.parts),
        extend=given.extend,
        limit=given.limit,
        dry_run=given.dry_run,
        started=started,
    )


def _check_numbers(given: Any) -> None:
    if given.workers < 0:
        raise ConfigError(f"--workers is {given.workers}: give a number from 1, or 0 for one for each processor")
    if given.limit is not None and given.limit < 1:
        raise ConfigError(f"--limit is {given.limit}: give a number from 1")


def curate_to(
    paths: Iterable[Path],
    config: "CurateConfig | Composition",
    out: Path,
    *,
    list_file: Path | None = None,
    licences: Path | None = None,
    crew: "Crew | None" = None,
    share: tuple[int, int] = (1, 1),
    extend: bool = False,
    limit: int | None = None,
    dry_run: bool = False,
    started: float | None = None,
) -> int:
    """Curate with progress and a summary on the terminal; the exit code comes back. started: the command, by time.monotonic()."""
    from ..audit import summarise
    from ..curation.composition import Composition
    from ..curation.engine import prepare, run, seconds_before
    from ..curation.forecast import bytes_of_parts, recall
    from ..plan import make_plan

    started = time.monotonic() if started is None else started
    footage: Any = config.source(paths, list_file)
    if licences is not None:
        footage = _licensed(footage, licences)
    if limit is not None:
        if not hasattr(footage, "take"):
            raise ConfigError(f"--limit: {type(footage).__name__} has no take(number)")
        footage = footage.take(limit)
    if not footage.names():
        ignored = getattr(footage, "num_ignored", 0)
        raise ConfigError(f"no videos or pictures found ({ignored} other files; 3D scenes want --recipe walk)")
    if repeated := getattr(footage, "num_repeated", 0):
        print(f"twoview: {repeated} inputs were given twice, and are read once", file=sys.stderr)
    if remark := getattr(footage, "remark", ""):
        print(f"twoview: {remark}", file=sys.stderr)
    if dry_run:
        plan = make_plan(footage, config)
        return foretell(footage, config, plan, out, crew, started)
    job = prepare(footage, config, out, share=share, extend=extend)
    if not job.parts:
        print(f"--parts {share[0]}/{share[1]}: none of the {job.plan.num_parts} parts falls to this share: {out}")
        return DONE
    already = summarise(out, job.plan, job.parts).num_finished  # reads them: one that is broken is named before the work
    before_s, told = seconds_before(out), recall(out, job.plan)
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
    print_summary(summary, out)
    took_s = time.monotonic() - started
    print(f"in {took_s:.1f} s")
    if told and not job.left and share == (1, 1):
        compare(told, summary.num_kept, bytes_of_parts(out), before_s + took_s, max(1, len(crew.workers)) if crew else 1)
    if isinstance(config, Composition):
        _choose(out, config, job.plan)
    if not summary.num_kept and share == (1, 1):  # a share of an array job may well keep nothing
        print(_advice(summary, config), file=sys.stderr)
        return SOME_UNREADABLE if summary.errors else NOTHING_KEPT
    return SOME_UNREADABLE if summary.errors else DONE


def _choose(out: Path, config: "Composition", plan: "Plan") -> None:
    """Select by the quotas of a composition, and print a line for each source: wanted, found, taken."""
    from ..audit import summarise
    from ..selections import SelectConfig, select, write_selection
    from ..shards import finished_parts

    num = len(finished_parts(out))
    if num < plan.num_parts:
        print(f"{num:,} of {plan.num_parts:,} parts are finished; whoever finishes the last chooses {config.name}")
        return
    choice, found = SelectConfig(quota=config.quota), summarise(out, plan).kept_by_source
    selected = select(out, choice)
    print(f"wanted: {config.claimed}")
    print(f"{'source':14}{'wanted':>12}{'found':>12}{'taken':>12}")
    for source, wanted in config.quota.items():
        taken = selected.by_source.get(source, 0)
        short = f"   {selected.short[source]:,} short" if selected.short.get(source) else ""
        print(f"{source:14}{wanted:12,}{found.get(source, 0):12,}{taken:12,}{short}")
    if not len(selected.keys):
        return
    for name in chain([config.name], (f"{config.name}-{n}" for n in count(2))):
        with contextlib.suppress(ConfigError):  # of before the dataset was extended; a selection stays as it is
            write_selection(out, name, selected, choice, None)
            print(f"{len(selected.keys):,} of {sum(config.quota.values()):,} pairs: {out}@{name}")
            return


def _licensed(footage: Any, path: Path) -> Any:
    """The scenes whose licence a list allows, and a line for each licence that it does not."""
    from ..licences import counted, is_allowed, read_licences
    from ..plan import about

    allowed = read_licences(path)
    licence = {name: about(footage, name).licence for name in footage.names()}
    left_out = [name for name in licence if not is_allowed(licence[name], allowed)]
    for of, num in counted(licence[name] for name in left_out).items():
        print(f"left out: {num:,} scene{'s' * (num > 1)} under {'no known licence' if of == UNKNOWN else of}, not in {path}")
    if left_out and len(left_out) == len(licence):
        raise ConfigError(f"--licences {path}: none of the scenes given is under a licence in it (see above): add one, or others")
    if left_out and not hasattr(footage, "only"):
        raise ConfigError(f"--licences: {type(footage).__name__} has no only(names)")
    return footage.only(licence.keys() - set(left_out)) if left_out else footage


def crew_size(workers: int) -> int:
    """Processes to start for --workers; 0 for one worker, which is this process."""
    num = workers or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    return num if num > 1 else 0


def _advice(summary: "Summary", config: "CurateConfig | Composition") -> str:
    """Which reason refused most, and what to try."""
    from ..curation.composition import Composition

    if summary.inputs.get("unreadable") == sum(summary.inputs.values()):
        return "nothing kept: none of the inputs can be read, see the errors above"
    if summary.skipped and len(summary.skipped) == sum(summary.inputs.values()):
        return f"nothing kept: every scene is skipped, as {summary.skipped[0]}"
    if isinstance(config, Composition):
        return "nothing kept: see the reasons above, and try the sources one by one, by the recipes mimic_scannet, mimic_co3d, ..."
    closer, apart = _spacing(config, 0.5), _spacing(config, 2)
    follows = hasattr(config.propose, "follow")
    every = "--recipe consecutive" if hasattr(config.propose, "seconds") else ""
    if not summary.num_pairs and follows:
        return "nothing kept: the camera hardly moves, or too fast to be followed; for frames at fixed intervals try --recipe paper"
    if not summary.num_pairs:
        return f"nothing kept: no scene has two frames to pair{f'; for short videos try {closer}' if closer else ''}"
    reason = next(iter(summary.reasons), "")
    other_axis = "y" if getattr(config.source, "up", None) == "z" else "z"
    why, flags = {
        "overlap_high": ("they look too alike", {"frames further apart": apart, "a higher band": "--overlap 0.5:0.9"}),
        "overlap_low": ("they share too little", {"frames closer together": closer, "a lower band": "--overlap 0.3:0.7"}),
        "unreadable": ("see the errors above", {}),
        "low_sharpness": ("they are blurred or bare", {"a lower bound": f"--min-sharpness {config.min_sharpness / 4:g}"}),
        "small_floor": (
            "no floor is as large as a walk asks for",
            {"smaller ones": "--source.min-island-radius-m 2", "another axis": f"--source.up {other_axis}"},
        ),
        "near_another": ("the walks stand where others have stood", {"another draw": "--seed 1"}),
        **dict.fromkeys(
            ("user_filter", "degenerate_motion", "moving", "repeated", "cut", "bad_exposure"), ("see the recipe's filters", {})
        ),
    }.get(reason, ("they do not match", {"frames closer together": closer, "every frame": every}))
    tries = " or ".join(f"{what} ({flag})" for what, flag in flags.items() if flag)
    words = f"nothing kept: {reason} refused {summary.reasons.get(reason, 0):,} of {summary.num_pairs:,}; {why}"
    return f"{words}: try {tries}" if tries else words


def _spacing(config: "CurateConfig", factor: float) -> str:
    """The flag for frames so many times further apart; '' where the proposer has none, finds them itself, or cannot go closer."""
    if hasattr(config.propose, "follow"):
        return ""
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


def value_of(args: Sequence[str], flag: str) -> str | None:
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


def _estimator(given: Any, base: "CurateConfig") -> Any:
    """The run's estimator; --moving is its --estimator.moving."""
    if getattr(given, "moving", None) == getattr(base.estimator, "moving", None):
        return given.estimator
    return replace(given.estimator, moving=given.moving)


def _int_or(text: str | None, default: int) -> int:
    return int(text) if text and text.isdecimal() else default


def _share(text: str) -> tuple[int, int]:
    i, _, n = text.partition("/")
    if i.isdecimal() and n.isdecimal() and 1 <= int(i) <= int(n):
        return int(i), int(n)
    raise ConfigError(f"--parts {text}: give i/n with i from 1 to n, as 3/8")


def demo(args: Sequence[str]) -> int:
    import tyro

    from ..curation.crew import Crew
    from ..demo import write_flat
    from ..recipes import curate_recipe

    @dataclass(frozen=True, kw_only=True)
    class Demo:
        """Make a furnished flat, walk through it, and curate the views."""

        folder: tyro.conf.Positional[Path] = Path("twoview-demo")
        """Where the flat and the dataset go."""
        workers: int = 0
        """Processes; 0: one for each processor."""

    given = parse(Demo, args, "demo")
    scene, out, samples = given.folder / "flat.glb", given.folder / "pairs", 24
    try:
        given.folder.mkdir(parents=True, exist_ok=True)
        write_flat(scene)  # the same bytes each time
    except OSError as error:
        raise ConfigError(f"{given.folder}: cannot be written ({error.strerror}): give a folder of your own") from None
    print(f"made {scene}, four furnished rooms")
    print(f"$ twoview curate {scene} --out {out} --recipe walk --source.samples {samples}")
    config = curate_recipe("walk")
    config = replace(config, source=replace(config.source, samples=samples))  # pyright: ignore[reportArgumentType]
    with Crew(crew_size(given.workers)) as crew:
        code = curate_to([scene], config, out, crew=crew)
    print(f"the dataset is in {out}; next: twoview audit {out}")
    return code
