"""The verbs that hand on: export and import."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from .terminal import DONE, SOME_UNREADABLE, counting, parse


def export(args: Sequence[str]) -> int:
    import tyro

    from ..dataset import open_dataset
    from ..exchange import EXPORTS, export

    @dataclass(frozen=True, kw_only=True)
    class Export:
        """Write the pairs of a dataset as other programs read them. Run it again to go on after an interrupt.

        mimic: the published MIMIC layout, folders with 0000.jpg, 0001.jpg and corresponding.npy, and a CSV of paths. croco:
        habitat_release/pairs.txt and its pictures. dust3r: pictures, depth and poses, for DUSt3R's loader of ScanNet++. pairs-txt:
        pictures and a list of pairs, for hloc and COLMAP. webdataset: tars in shuffled order.
        """

        dataset: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR[@NAME]")]
        """The folder that curate wrote, or DIR@NAME for a selection."""
        out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
        """Where to: a new or empty folder."""
        to: Literal[tuple(EXPORTS)]  # pyright: ignore
        """The layout."""

    given = parse(Export, args, "export")
    with counting("written") as tell:
        done = export(open_dataset(given.dataset), given.to, given.out, tell)
    for note in done.notes:
        print(note)
    print(f"{done.num_pairs:,} pairs: {done.listing}")
    return DONE


def import_(args: Sequence[str]) -> int:
    import tyro

    from ..exchange import import_pairs

    @dataclass(frozen=True, kw_only=True)
    class Import:
        """Read pairs that other programs wrote into a dataset. Run it again to go on after an interrupt.

        mimic: the published MIMIC layout; what its pickled files could run is refused. croco: a pairs.txt.
        """

        path: tyro.conf.Positional[Path]
        """The folder with the list of pairs, or the list."""
        from_: Annotated[Literal["mimic", "croco"], tyro.conf.arg(name="from")]
        """The layout."""
        out: Path
        """The dataset's folder."""

    given = parse(Import, args, "import")
    with counting("read") as tell:
        done = import_pairs(given.path, given.from_, given.out, tell=tell)
    for note in done.notes:
        print(note)
    print(f"{done.num_pairs:,} pairs: {given.out}")
    if not done.num_unreadable:
        return DONE
    print(f"{done.num_unreadable:,} could not be read, see {given.out / 'scenes'}", file=sys.stderr)
    return SOME_UNREADABLE
