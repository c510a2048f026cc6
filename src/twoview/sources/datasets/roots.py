"""The folder that a dataset lies in: what its readers share."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ...errors import ConfigError
from ..footage import folders_in


def roots(dataset: str, paths: Iterable[Path], list_file: Path | None) -> list[Path]:
    """The folders given. Raises ConfigError for what is none, and for a list: a dataset is read as a whole."""
    if list_file is not None:
        raise ConfigError(f"--list {list_file}: {dataset} finds its scenes itself: give the folder that it lies in")
    folders = list(paths)
    for folder in folders:
        if not folder.is_dir():
            why = "not a folder" if folder.exists() else "no such folder"
            raise ConfigError(f"{folder}: {why}: give the one that {dataset} lies in")
    return folders


def files_in(folder: Path) -> Iterator[Path]:
    """Every file in a folder and below it that is not hidden, folder by folder in natural order."""
    for within, _ in folders_in(folder):
        yield from sorted(path for path in within.iterdir() if not path.name.startswith(".") and path.is_file())


def missing(folder: Path, dataset: str, wanted: str, found: Sequence[str] = ()) -> ConfigError:
    """What to raise where a folder is not laid out as the dataset's distribution is.

    wanted: what was looked for, as `scans/<scene>/<scene>.sens`; found: what there is of it, if only in part.
    """
    there = sorted(p.name for p in folder.iterdir())
    seen = f"{', '.join(there[:5])}{' ...' if len(there) > 5 else ''}" if there else "nothing"
    part = f" There is {', '.join(found[:3])}, but that is not all of it." if found else ""
    return ConfigError(f"{folder}: not laid out as {dataset}: no {wanted} (it holds {seen}).{part}")


def places(folder: Path, *names: str) -> list[Path]:
    """Where to look: a folder, and those of its sub-folders of these names that are there."""
    return [place for place in (folder, *(folder / name for name in names)) if place.is_dir()]
