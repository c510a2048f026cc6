"""The verbs that hand on: export and import."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from ..errors import ConfigError
from .curate import crew_size
from .terminal import DONE, NOTHING_KEPT, SOME_UNREADABLE, counting, parse

SHOWN = 40
"""Scenes that are printed."""


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
        """Read pairs that other programs wrote, or that somebody shares without their pictures, into a dataset. Run it again to go
        on after an interrupt.

        mimic: the published MIMIC layout; what its pickled files could run is refused. croco: a pairs.txt. manifest: a dataset's
        folder without its shards (config.json, plan.parquet, scenes/, manifest/), DIR@NAME for a selection of it, or one
        manifest file; its pictures are cut again from your own copies of the footage.
        """

        path: tyro.conf.Positional[Path]
        """The folder with the list of pairs, or the list; the shared folder, or its manifest."""
        from_: Annotated[Literal["mimic", "croco", "manifest"], tyro.conf.arg(name="from")]
        """The layout."""
        out: Path
        """The dataset's folder."""
        footage: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="PATH [PATH ...]")] = ()
        """With --from manifest: your copies of the footage, files or folders; moved or encoded again they are found too. Of a
        composition (mimic_3m) the folder that its sources lie in."""
        workers: int = 0
        """With --from manifest: processes; 0: one for each processor."""

    given = parse(Import, args, "import")
    if given.from_ == "manifest":
        return _remake(given.path, given.footage, given.out, given.workers)
    if given.footage or given.workers:
        raise ConfigError(f"--footage and --workers go with --from manifest: --from {given.from_} has its pictures beside the list")
    with counting("read") as tell:
        done = import_pairs(given.path, given.from_, given.out, tell=tell)
    for note in done.notes:
        print(note)
    print(f"{done.num_pairs:,} pairs: {given.out}")
    if not done.num_unreadable:
        return DONE
    print(f"{done.num_unreadable:,} could not be read, see {given.out / 'scenes'}", file=sys.stderr)
    return SOME_UNREADABLE


def _remake(shared: Path, footage: Sequence[Path], out: Path, workers: int) -> int:
    from ..curation.crew import Crew
    from ..exchange import remake
    from ..exchange.remake import TABLE

    if not footage:
        raise ConfigError("--from manifest: give your own copies of the footage with --footage PATH [PATH ...]")
    if workers < 0:
        raise ConfigError(f"--workers is {workers}: give a number from 1, or 0 for one for each processor")
    with Crew(crew_size(workers)) as crew, counting("made again") as tell:
        done = remake(shared, footage, out, crew=crew, tell=tell)
    print("   exact   alike    gone  scene")
    for scene in sorted(done.scenes, key=lambda scene: not scene.gone)[:SHOWN]:  # those with something gone come first
        why = f": {scene.why}" if scene.why else f" ({scene.footage})"
        print(f"{scene.exact:8,}{scene.alike:8,}{scene.gone:8,}  {scene.scene}{why}")
    if len(done.scenes) > SHOWN:
        print(f"and {len(done.scenes) - SHOWN:,} more scenes, each in {out / TABLE}")
    for note in done.notes:
        print(note)
    back = done.num_exact + done.num_alike
    if not any(scene.footage for scene in done.scenes):
        print("nothing made again: none of the scenes is in the footage; nothing was written", file=sys.stderr)
        return NOTHING_KEPT
    print(f"{back:,} of {back + done.num_gone:,} pairs are back, {done.num_exact:,} of them to the byte: {out}")
    if not back:
        print("nothing made again: no picture in the footage is one of the manifest's", file=sys.stderr)
        return NOTHING_KEPT
    return SOME_UNREADABLE if done.num_gone else DONE
