"""The verb that chooses: select."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from .terminal import DONE, NOTHING_KEPT, SOME_UNREADABLE, band, counting, parse

if TYPE_CHECKING:
    from ..selections import SelectConfig, Selected


def select(args: Sequence[str]) -> int:
    import tyro

    from ..dataset import check_name, split_name
    from ..duplicates import NEAR_BITS
    from ..licences import read_licences
    from ..selections import SelectConfig, left_out_path, read_drop, read_quota, select, write_selection

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
        licences: Path | None = None
        """A file of licences, one a line, or patterns as CC-BY*; `-` or `unknown`: none is known. Only pairs of such footage."""
        quota: Path | None = None
        """A file with a source, a tab and a number a line: at most so many pairs of it, by hash; * for every other source."""
        drop: Path | None = None
        """A file of keys or pair ids to leave out, one a line."""
        dedup: bool = False
        """Of pairs that show nearly the same two pictures, in either order, in one scene or several, take only the first."""
        against: Annotated[tuple[Path, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="PATH")] = ()
        """A dataset (DIR, DIR@NAME) or a folder of pictures, as those you evaluate on: a pair is left out if one of its views is
        nearly a picture there. May be given again."""
        near_bits: int = NEAR_BITS
        """Two pictures are nearly the same if their perceptual hashes differ in at most so many of 64 bits."""

    given = parse(Select, args, "select")
    folder, within = split_name(given.dataset)
    config = SelectConfig(
        overlap=None if given.overlap is None else band("--overlap", given.overlap),
        where=given.where,
        licences=read_licences(given.licences) if given.licences else (),
        quota=read_quota(given.quota) if given.quota else {},
        drop=read_drop(given.drop) if given.drop else frozenset(),
        dedup=given.dedup,
        against=given.against,
        near_bits=given.near_bits,
    )
    check_name(given.name)
    with counting("hashed", "pictures") as tell:
        selected = select(folder, config, within, tell)
    if config.overlap:
        _warn_of_band(folder, config.overlap)
    for source, num in selected.short.items():
        print(f"{source}: {num:,} pairs fewer than its quota", file=sys.stderr)
    if selected.unknown_drops:
        num, first = len(selected.unknown_drops), selected.unknown_drops[0]
        print(f"--drop: {num:,} of its lines are not in {folder}, as {first}", file=sys.stderr)
    _warn_of_pictures(selected)
    if not len(selected.keys):
        _print_left_out(selected, config, "")
        print(f"nothing selected of {selected.num_from:,} stored pairs; nothing was written", file=sys.stderr)
        return NOTHING_KEPT
    write_selection(folder, given.name, selected, config, within)
    print(f"{len(selected.keys):,} pairs of {selected.num_from:,} stored: {folder}@{given.name}")
    if len(selected.by_source) > 1:
        for source, num in selected.by_source.items():
            print(f"  {num:8,} {source}")
    _print_left_out(selected, config, f"; every one in {left_out_path(folder, given.name)}")
    return SOME_UNREADABLE if any(pictures.errors for pictures in selected.sets) else DONE


def _warn_of_pictures(selected: "Selected") -> None:
    """What could not be compared, and so may be a duplicate all the same."""
    for pictures in selected.sets:
        for error in pictures.errors[:20]:
            print(f"unreadable: {error}", file=sys.stderr)
        if len(pictures.errors) > 20:
            print(f"and {len(pictures.errors) - 20:,} more pictures of {pictures.path}", file=sys.stderr)
        if pictures.num_videos:
            print(f"{pictures.path}: videos there are not looked at ({pictures.num_videos:,}): curate them", file=sys.stderr)
        absent, plain = (~pictures.hashes.present).sum(), (pictures.hashes.present & pictures.hashes.plain).sum()
        _warn_of_unjudged(f"{pictures.path}: {{}} of its {len(pictures.names):,} pictures cannot be compared", absent, plain)
    words = f"{{}} of the {len(selected.keys):,} selected pairs could not be compared, and are in"
    _warn_of_unjudged(words, selected.num_unhashed, selected.num_plain)


def _warn_of_unjudged(words: str, absent: int, plain: int) -> None:
    why = [f"{num:,} {what}" for num, what in ((absent, "without a hash"), (plain, "too plain for one")) if num]
    if why:
        print(f"{words.format(f'{absent + plain:,}')} ({', '.join(why)})", file=sys.stderr)


def _print_left_out(selected: "Selected", config: "SelectConfig", where: str) -> None:
    """How many pairs each set and the dataset itself took away, and a few of them."""
    if not config.judges:
        return
    print(f"left out, within {config.near_bits} bits of what they duplicate{where}")
    lines = selected.left_out.to_pylist()
    for against in [*(pictures.path for pictures in selected.sets), *([""] if config.dedup else [])]:
        own = [line for line in lines if line["against"] == against]
        print(f"  {len(own):8,} {f'with a view that is in {against}' if against else 'that repeat an earlier pair'}")
        for line in own[:: max(1, -(-len(own) // 3))]:
            view = f" ({line['views']})" if against else " (in the other order)" if line["views"] == "ba" else ""
            print(f"           {line['pair_id']}{view} as {line['duplicate_of']}, {line['bits']} bits")


def _warn_of_band(folder: Path, band: tuple[float, float]) -> None:
    """Pairs beyond the band that was stored are not there to be chosen."""
    try:
        known = json.loads((folder / "config.json").read_text())["config"]
        low, high = known.get("store") or known["overlap"]
    except (OSError, ValueError, KeyError, TypeError):
        return  # an imported set has no band
    if band[0] < low - 1e-9 or band[1] > high + 1e-9:
        print(f"twoview: pairs were stored from {low:g} to {high:g} alone (--store of curate)", file=sys.stderr)
