"""Objectron: short videos that go around an object, taken with phones.

Layout, that of the bucket `gs://objectron` (https://github.com/google-research-datasets/Objectron: README.md and the notebook
"Download Data"), which also is where to get the data: `videos/<class>/batch-<n>/<i>/video.MOV`; or flat, as that repository's
download.sh writes it, `<class>_batch_<n>_<i>_video.mov`, and also `<class>_batch-<n>_<i>.MOV`. The folder given is any that holds
such files, at whatever depth. The official lists `<class>_annotations_train` and `<class>_annotations_test` (`index/` of the
repository, `v1/index/` of the bucket) say which split a video belongs to, where they lie in the same folder; else it is not
known. geometry.pbdata and the annotations are not needed. The licence is C-UDA-1.0.

Phones store a picture as the sensor lies and say in the file how to turn it for display. So it is turned: portrait is portrait.

MIMIC's script for Objectron was not released. To pair frames a second apart, and two where those overlap too much
(`EverySeconds`, as published for ARKitScenes), is a choice made here.
"""

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ...errors import ConfigError
from ..footage import Footage, Input, named
from ..images import natural_key
from .roots import files_in, missing, roots

_NESTED = re.compile(r"([^/]+)/batch-(\d+)/(\d+)/video\.mov$", re.IGNORECASE)
_FLAT = re.compile(r"([^/]+)_batch[-_](\d+)_(\d+)(?:_video)?\.mov$", re.IGNORECASE)
_LIST = re.compile(r"[^/]+_annotations_(train|test)$")


@dataclass(frozen=True, kw_only=True)
class Objectron:
    """Finds the videos of Objectron. Scenes are `cereal_box/batch-3/14`."""

    source = "objectron"
    licence = "C-UDA-1.0"

    def __call__(self, paths: Iterable[Path], list_file: Path | None = None) -> Footage:
        """The videos in folders. Raises ConfigError where a folder holds none."""
        found: list[Input] = []
        num_ignored = 0
        for root in roots("Objectron", paths, list_file):
            files = list(files_in(root))
            videos = {path: name for path in files if (name := _name(path))}
            if not videos:
                raise missing(root, "Objectron", "videos/<class>/batch-<n>/<i>/video.MOV or <class>_batch-<n>_<i>.MOV")
            splits = {name: (path, split) for path in files for name, split in _listed(path)}
            num_ignored += sum(path.suffix.lower() == ".mov" for path in files) - len(videos)
            for path in sorted(videos, key=lambda path: [natural_key(Path(part)) for part in videos[path].split("/")]):
                list_path, split = splits.get(videos[path], (None, None))
                found.append(
                    Input(
                        name=videos[path],
                        kind="video",
                        paths=(path,),
                        beside=((list_path,),) if list_path else (),
                        source=self.source,
                        licence=self.licence,
                        split=split,
                    )
                )
        return named(found, num_ignored)


def _name(path: Path) -> str:
    """What Objectron calls a video, `class/batch-n/i`, by the folders that it lies in or by its own name; '' if it is none."""
    known = _NESTED.search(os.path.abspath(path)) or _FLAT.search(path.name)  # the folder that is given may be one of those above
    return f"{known[1]}/batch-{known[2]}/{known[3]}" if known else ""


def _listed(path: Path) -> Iterator[tuple[str, str]]:
    """The videos that an official list names, each with its split. Raises ConfigError where it cannot be read."""
    known = _LIST.match(path.name)
    if not known:
        return
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {getattr(error, 'strerror', None) or 'not UTF-8 text'}: download it again") from None
    for number, line in enumerate(lines, 1):
        if line.strip() and not re.fullmatch(r"[^/]+/batch-\d+/\d+", line.strip()):
            raise ConfigError(f"{path}, line {number}: not class/batch-n/i: download it again, or take it out of the folder")
        if line.strip():
            yield line.strip(), known[1]
