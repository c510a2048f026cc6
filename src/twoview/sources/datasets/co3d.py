"""CO3D (version 2), Common Objects in 3D: a walk around an object, by the frame.

Layout, as https://github.com/facebookresearch/co3d says under "Dataset format" (its script download_dataset.py gets the data):

    <category>/<sequence>/images/frame000001.jpg     beside masks, depths and so on, which are not read
    <category>/frame_annotations.jgz                 gzipped JSON: a list of frames, of which sequence_name, frame_number and
                                                     image.path (<category>/<sequence>/images/<file>) are read
    <category>/sequence_annotations.jgz, <category>/set_lists/, <category>/eval_batches/     not read: every sequence is taken

A sequence's frames are in the order of frame_number, which is not the number in the file's name. Without frame_annotations.jgz, or
where it does not list the sequence, they are in the order of their names. Frames have no times.

The published script takes frames i and i + 5 of the sorted files, then i goes on by 10: Consecutive(step=5, every=2). Where
frame_number rises with the names, as a rule, these are the same frames.
"""

import gzip
import json
import os
import reprlib
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...errors import ConfigError
from ...schema import Scene
from ..footage import Footage, Input, named
from ..images import EXTENSIONS, Photos, natural_key
from .roots import missing, roots

_FRAMES = "frame_annotations.jgz"
_READ = frozenset(("sequence_name", "frame_number", "image", "path"))
_HELP = "download it again, or move it away to have frames in the order of their names"


@dataclass(frozen=True, kw_only=True)
class Co3d:
    """Finds CO3D's sequences. Give the folder that holds the categories, or that of one category."""

    source = "co3d"
    licence = "CC-BY-NC-4.0"

    def __call__(self, paths: Iterable[Path], list_file: Path | None = None) -> "Sequences":
        """The sequences by category and name, as apple/110_13051_23361. Raises ConfigError: another layout, damaged annotations."""
        found: list[Input] = []
        num_ignored = num_absent = 0
        for root in roots("CO3D", paths, list_file):
            within = [p for p in sorted(root.iterdir()) if p.is_dir() and not p.name.startswith(".")]
            categories = [root] if _is_category(root) else [p for p in within if _is_category(p)]
            before = len(found)
            for folder in categories:
                listed = read_frames(folder / _FRAMES)
                sequences = [p for p in sorted(folder.iterdir()) if p.name in listed or (p / "images").is_dir()]
                for sequence in sequences:
                    item, unlisted = self._sequence(sequence, listed.get(sequence.name))
                    found.append(item)
                    num_ignored += unlisted
                num_absent += len(listed.keys() - {p.name for p in sequences})
            if len(found) == before:
                raise missing(root, "CO3D", "<category>/<sequence>/images")
        remark = f"sequences that {_FRAMES} lists and that are not there: {num_absent:,}" if num_absent else ""
        footage = named(found, num_ignored)
        return Sequences(footage.inputs, num_ignored, footage.num_repeated, remark)

    def _sequence(self, folder: Path, listed: list[str] | None) -> tuple[Input, int]:
        """A sequence, and the number of its pictures that are not listed. Without its images it is `missing`."""
        images = folder / "images"
        there = [p for p in images.iterdir() if p.suffix.lower() in EXTENSIONS] if images.is_dir() else []
        there = sorted((p for p in there if not p.name.startswith(".")), key=natural_key)
        paths = there if listed is None else [images / name for name in listed]
        name = f"{Path(os.path.abspath(folder.parent)).name}/{folder.name}"
        kind = "images" if paths and images.is_dir() else "missing"
        item = Input(
            name=name, kind=kind, paths=tuple(paths) if kind == "images" else (images,), source=self.source, licence=self.licence
        )
        return item, len(set(there) - set(paths))


@dataclass(frozen=True)
class Sequences(Footage):
    """A Source over CO3D's sequences."""

    def open(self, name: str, /) -> Scene:
        """The sequence. If a frame of it is listed and not there it is `partial` from the start, whether a pair needs it or not."""
        scene = super().open(name)
        absent = [p for p in self.inputs[name].paths if not p.exists()]
        if absent and isinstance(scene, Photos):
            more = f" (and {len(absent) - 1} more of {len(scene)} frames)" if len(absent) > 1 else ""
            scene.info = replace(scene.info, status="partial", error=f"{absent[0]}: listed in {_FRAMES} and not there{more}")
        return scene


def _is_category(folder: Path) -> bool:
    return (folder / _FRAMES).exists() or any(folder.glob("*/images"))


def read_frames(path: Path) -> dict[str, list[str]]:
    """By sequence the files of its frames, in the order of frame_number; nothing where there is no such file.

    Raises ConfigError where it cannot be read, and for an entry that is no frame.
    """
    if not path.exists():
        return {}
    try:
        with gzip.open(path) as file:
            entries = json.load(file, object_hook=_needed)
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(f"{path}: cannot be unpacked ({error}): {_HELP}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not JSON ({error}): {_HELP}") from None
    if not isinstance(entries, list):
        raise ConfigError(f"{path}: not a list of frames: {_HELP}")
    frames: dict[str, dict[int, str]] = {}
    for k, entry in enumerate(entries):
        match entry:
            case {"sequence_name": str(sequence), "frame_number": int(number), "image": {"path": str(image)}}:
                *_, owner, folder, name = ("", "", *image.split("/"))
            case _:
                raise ConfigError(f"{path}: entry {k} is no frame: {reprlib.repr(entry)}: {_HELP}")
        if (owner, folder) != (sequence, "images") or name in ("", ".", "..") or "\0" in image:
            raise ConfigError(f"{path}: entry {k}: {image} does not lie in {sequence}/images: {_HELP}")
        if number in frames.setdefault(sequence, {}):
            raise ConfigError(f"{path}: entry {k}: {sequence} has a frame {number} already: {_HELP}")
        frames[sequence][number] = name
    return {sequence: [numbered[n] for n in sorted(numbered)] for sequence, numbered in frames.items()}


def _needed(entry: dict[str, Any]) -> dict[str, Any]:
    """The part of a JSON object that is read: a category's file has hundreds of thousands, with many numbers each."""
    return {key: value for key, value in entry.items() if key in _READ}
