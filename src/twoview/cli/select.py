"""The verb that chooses: select."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from .terminal import DONE, NOTHING_KEPT, band, parse


def select(args: Sequence[str]) -> int:
    import tyro

    from ..dataset import split_name
    from ..selections import SelectConfig, check_name, read_drop, read_quota, select, write_selection

    @dataclass(frozen=True, kw_only=True)
    class Select:
        """Choose among the stored pairs of a dataset: DIR@NAME is the choice, for every command that reads DIR.

        Writes DIR/selections/NAME.parquet, a list of keys. Without conditions: the kept pairs.
        """

        dataset: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR[@NAME]")]
        """The folder that curate wrote, or DIR@NAME to choose among the pairs of a selection."""
        name: str
        """What the selection is called."""
        overlap: str | None = None
        """LOW:HIGH: stored pairs of this band, also those that --overlap of curate refused; of each group the one that shares
        least. Default: the kept pairs."""
        where: str | None = None
        """A condition in SQL over the manifest's columns, as "scale < 1.3 and abs(rotation_deg) < 20"."""
        quota: Path | None = None
        """A file with a source, a tab and a number a line: at most so many pairs of it, by hash; * for every other source."""
        drop: Path | None = None
        """A file of keys or pair ids to leave out, one a line."""

    given = parse(Select, args, "select")
    folder, within = split_name(given.dataset)
    config = SelectConfig(
        overlap=None if given.overlap is None else band("--overlap", given.overlap),
        where=given.where,
        quota=read_quota(given.quota) if given.quota else {},
        drop=read_drop(given.drop) if given.drop else frozenset(),
    )
    check_name(given.name)
    selected = select(folder, config, within)
    if config.overlap:
        _warn_of_band(folder, config.overlap)
    for source, num in selected.short.items():
        print(f"{source}: {num:,} pairs fewer than its quota", file=sys.stderr)
    if selected.unknown_drops:
        num, first = len(selected.unknown_drops), selected.unknown_drops[0]
        print(f"--drop: {num:,} of its lines are not in {folder}, as {first}", file=sys.stderr)
    if not len(selected.keys):
        print(f"nothing selected of {selected.num_from:,} stored pairs; nothing was written", file=sys.stderr)
        return NOTHING_KEPT
    write_selection(folder, given.name, selected, config, within)
    print(f"{len(selected.keys):,} pairs of {selected.num_from:,} stored: {folder}@{given.name}")
    if len(selected.by_source) > 1:
        for source, num in selected.by_source.items():
            print(f"  {num:8,} {source}")
    return DONE


def _warn_of_band(folder: Path, band: tuple[float, float]) -> None:
    """Pairs beyond the band that was stored are not there to be chosen."""
    try:
        known = json.loads((folder / "config.json").read_text())["config"]
        low, high = known.get("store") or known["overlap"]
    except (OSError, ValueError, KeyError, TypeError):
        return  # an imported set has no band
    if band[0] < low - 1e-9 or band[1] > high + 1e-9:
        print(f"twoview: pairs were stored from {low:g} to {high:g} alone (--store of curate)", file=sys.stderr)
