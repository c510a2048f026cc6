"""Lists of pairs that others published: MIMIC's CSV with path1 and path2, CroCo's pairs.txt."""

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Literal

from .errors import ConfigError

Layout = Literal["mimic", "croco"]


_PAIRS_TXT = ("pairs.txt", "habitat_release/pairs.txt")


def layout_of(path: Path) -> Layout | None:
    """Of a list of pairs, or of a folder that has one; None for anything else."""
    if path.is_file():
        return "mimic" if path.suffix.lower() == ".csv" else "croco"
    if any((path / name).is_file() for name in _PAIRS_TXT):
        return "croco"
    return "mimic" if any("path1" in _first_line(file) for file in path.glob("*.csv")) else None


def _first_line(path: Path) -> str:
    with path.open(errors="replace") as file:
        return file.readline(1000)


def find_listing(path: Path, layout: Layout) -> Path:
    """The list of pairs, given it or its folder. Raises ConfigError where there is none, or several."""
    if path.is_file():
        return path
    if not path.is_dir():
        raise ConfigError(f"{path}: no such file or folder")
    if layout == "croco":
        found = [path / name for name in _PAIRS_TXT if (path / name).is_file()][:1]
    else:
        found = sorted(p for p in path.glob("*.csv") if p.is_file())
    if len(found) != 1:
        wanted = "pairs.txt" if layout == "croco" else "CSV with path1 and path2"
        seen = f"{len(found)} of them: name one" if found else "none there"
        raise ConfigError(f"{path}: a folder with a {wanted} is wanted ({seen})")
    return found[0]


def listed_pairs(path: Path, layout: Layout) -> list[tuple[str, str]]:
    """The two paths of each line, as they are written but for `./` and doubled slashes.

    They begin at the list's folder. Raises ConfigError, naming the line, for what is no such list.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            found = _csv_lines(path, file) if layout == "mimic" else _text_lines(path, file)
            return [(_plain(path, number, first), _plain(path, number, second)) for number, first, second in found]
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8 text") from None


def _csv_lines(path: Path, file: Iterable[str]) -> Iterator[tuple[int, str, str]]:
    """Number of the line and its two paths."""
    reader = csv.reader(file)
    try:
        header = next(reader, [])
        if not {"path1", "path2"} <= set(header):
            raise ConfigError(f"{path}: its first line must name the columns path1 and path2")
        first, second = header.index("path1"), header.index("path2")
        for row in reader:
            if row and (len(row) <= max(first, second) or not row[first] or not row[second]):
                raise ConfigError(f"{path}, line {reader.line_num}: path1 or path2 is missing")
            if row:
                yield reader.line_num, row[first], row[second]
    except csv.Error as error:
        raise ConfigError(f"{path}, line {max(reader.line_num, 1)}: {error}") from None


def _text_lines(path: Path, file: Iterable[str]) -> Iterator[tuple[int, str, str]]:
    for number, line in enumerate(file, 1):
        names = line.split()
        if names and len(names) < 2:
            raise ConfigError(f"{path}, line {number}: write two paths with a space between them")
        if names:
            yield number, names[0], names[1]


def _plain(path: Path, number: int, name: str) -> str:
    """A path from the list without what says nothing: ./a//b is a/b. Raises ConfigError where it cannot be a file's."""
    plain = PurePosixPath(name)
    if plain.name in ("", "..") or "\0" in name:
        raise ConfigError(f"{path}, line {number}: {name[:80]!r} is no path of a picture")
    return str(plain)
