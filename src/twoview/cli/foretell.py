"""What `curate --dry-run` prints, and what the run prints of it afterwards."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .terminal import DONE, SOME_UNREADABLE, counting, print_faults

if TYPE_CHECKING:
    from ..curation.composition import Composition
    from ..curation.crew import Crew
    from ..curation.curate import CurateConfig
    from ..curation.forecast import Forecast
    from ..plan import Plan


def foretell(
    footage: Any, config: "CurateConfig | Composition", plan: "Plan", out: Path, crew: "Crew | None", started: float
) -> int:
    """Say what a run would give and take, by a sample of it; for a composition by one of each source."""
    from ..curation.composition import Composition
    from ..curation.forecast import forecast, of_source, remember, together

    scenes = list({s.scene: s for s in plan.slices}.values())
    frames, configs = sum(s.num_frames for s in scenes), [config.of(s.source) for s in scenes]
    print(f"{_counted(len(scenes), 'scene')}, {_counted(frames, 'frame')}, {_counted(plan.num_parts, 'part')}")
    follows = any(hasattr(c.propose, "follow") for c in configs)
    most = "at most " if follows or any(c.max_pairs_per_scene is not None for c in configs) else ""
    limits = [c.max_pairs_per_scene or s.num_candidates for s, c in zip(scenes, configs, strict=True)]
    num = sum(s.num_pairs * min(1, limit / max(1, s.num_candidates)) for s, limit in zip(scenes, limits, strict=True))
    print(f"{most}{num:,.0f} candidates to measure")
    quota, claimed = (config.quota, config.claimed) if isinstance(config, Composition) else ({}, "")
    plans = {source: own for source in quota if (own := of_source(plan, source)).slices} if quota else {"": plan}
    found: dict[str, Forecast] = {}
    for source, own in plans.items():
        of = f"of a sample{source and f' of {source}'} measured"
        with counting(of, "pieces", stopped="stopped: nothing was written") as tell:
            some = forecast(footage, config.of(source), own, crew, started=started, tell=tell)
        found |= {source: some} if some else {}
        started = time.monotonic()
    told = together(list(found.values())) if found else None
    faults = dict.fromkeys((*((("unreadable", s.error) for s in scenes if s.error)), *(told.faults if told else ())))
    for source in plans.keys() - found.keys():
        print(f"no forecast{source and f' of {source}'}: not one group of candidates was measured in time")
    if told is None:
        print("nothing was written")
    else:
        if quota:
            print(f"wanted: {claimed}\n{'source':14}{'wanted':>12}{'foretold':>12}")
        for source, some in found.items() if quota else ():
            print(f"{source:14}{quota[source]:12,}{some.num_kept:12,.0f}{_kept_range(some)}")
        _print_forecast(told, "groups or stretches" if follows and quota else "stretches of time" if follows else "groups")
        path = remember(out, told, plan)
        print(f"for the real run to compare with: {path}; nothing else was written" if path else "nothing was written")
    print_faults(faults)
    return SOME_UNREADABLE if faults else DONE


def _print_forecast(told: "Forecast", what: str) -> None:
    from ..report.page import duration, size

    if told.whole:
        print(f"  {told.num_kept:,.0f} pairs kept of {told.num_measured:,.0f} measured: all of them, in another folder")
    else:
        cut = "; time ran out before the sample was whole" if told.cut_short else ""
        print(f"  by {told.num_groups:,} {what} in {told.num_places} places{cut}")
        print(f"  about {told.num_kept:,.0f} pairs kept{_kept_range(told)} of {told.num_measured:,.0f} measured")
    print(f"  about {duration(told.seconds)} on this machine with {_counted(told.workers, 'worker')}")
    print(f"  about {size(told.num_bytes)} on disk, with {told.num_stored:,.0f} pairs stored")


def _kept_range(told: "Forecast") -> str:
    return "" if told.whole else f" ({told.kept_low:,.0f} to {told.kept_high:,.0f} in 9 of 10 cases)"


def _counted(num: int, what: str) -> str:
    return f"{num:,} {what}{'' if num == 1 else 's'}"


def compare(told: "Forecast", num_kept: int, num_bytes: int, seconds: float, workers: int) -> None:
    """What was foretold beside what happened."""
    from ..report.page import duration, size

    with_told, with_real = (_counted(n, "worker") for n in (told.workers, workers))
    print(f"foretold: {told.num_kept:,.0f} pairs{_kept_range(told)}; kept: {num_kept:,}")
    print(f"foretold: {duration(told.seconds)} with {with_told}; took: {duration(seconds)} with {with_real}")
    print(f"foretold: {size(told.num_bytes)}; on disk: {size(num_bytes)}")
