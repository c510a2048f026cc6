"""Lists of licences that footage may have: which scenes a run takes, which stored pairs a selection.

Such a list is no part of a dataset's configuration. It says which footage is given, as paths and --list do; how that is measured
does not depend on it, so pairs keep their bytes whatever else was left out. With another list in the same OUT the rules for
footage hold: more wants --extend, less is an error as long as parts of it are unfinished.
"""

import re
from collections import Counter
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

from .errors import ConfigError

UNKNOWN = "unknown"
"""What footage without a licence is listed as; `-` means the same in a list."""


def read_licences(path: Path) -> tuple[str, ...]:
    """What a file allows: a licence a line, or a pattern as of a shell (CC-BY*); # begins a remark.

    Raises ConfigError where it cannot be read, or names none.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--licences {path}: {getattr(error, 'strerror', None) or 'not UTF-8 text'}") from None
    allowed: list[str] = []
    for number, line in enumerate(lines, 1):
        words = re.split(r"(?:^|\s)#", line)[0].strip()
        if "\t" in words:
            raise ConfigError(f"--licences {path}, line {number}: write one licence a line, or a pattern as CC-BY*")
        if words:
            allowed.append(UNKNOWN if words == "-" else words)
    if not allowed:
        raise ConfigError(f"--licences {path}: there is no licence in it: write one a line, as CC-BY-4.0, CC-BY* or unknown")
    return tuple(dict.fromkeys(allowed))


def is_allowed(licence: str | None, allowed: Iterable[str]) -> bool:
    """Whether one of the patterns means a licence, whatever its case. What has none is meant by `unknown` alone, not by `*`."""
    if not licence or licence == "-":
        return UNKNOWN in (pattern.casefold() for pattern in allowed)
    return any(fnmatchcase(licence.casefold(), pattern.casefold()) for pattern in allowed)


def counted(licences: Iterable[str | None]) -> dict[str, int]:
    """How many there are of each licence, most first."""
    found = Counter(UNKNOWN if not licence or licence == "-" else licence for licence in licences)
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))
