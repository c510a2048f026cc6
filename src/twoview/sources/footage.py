"""Paths and lists to scenes: what kind each file is, what it is called, and how to know it again."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from ..errors import ConfigError, UnreadableError
from ..schema import Scene, SceneInfo
from . import images
from .images import Photos, natural_key
from .video import Video

VIDEO_EXTENSIONS = frozenset(
    (
        ".mp4",
        ".m4v",
        ".mov",
        ".qt",
        ".mkv",
        ".webm",
        ".avi",
        ".mpg",
        ".mpeg",
        ".m2v",
        ".mpv",
        ".ts",
        ".mts",
        ".m2ts",
        ".vob",
        ".wmv",
        ".asf",
        ".flv",
        ".f4v",
        ".3gp",
        ".3g2",
        ".ogv",
        ".ogg",
        ".mxf",
        ".dv",
        ".rm",
        ".rmvb",
        ".divx",
        ".mjpeg",
        ".mjpg",
        ".h264",
        ".264",
        ".h265",
        ".265",
        ".hevc",
        ".av1",
        ".ivf",
        ".y4m",
        ".gif",
        ".nut",
        ".insv",
        ".lrv",
    )
)
_MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Input:
    """One scene to be: a video, or the pictures of one folder."""

    name: str
    """The scene's name: the path from the PATH that was given, with it. The same wherever the footage lies."""
    kind: str
    """video, images, or missing"""
    paths: tuple[Path, ...]
    source: str = ""
    licence: str | None = None

    @property
    def uri(self) -> str:
        return str(self.paths[0] if self.kind != "images" else self.paths[0].parent)


@dataclass(frozen=True)
class Footage:
    """A Source over files. `inputs` by the name of the scene, in the order they were found."""

    inputs: dict[str, Input]
    num_ignored: int = 0
    """Files in the folders that are neither pictures nor videos."""

    def names(self) -> Sequence[str]:
        return list(self.inputs)

    def open(self, name: str, /) -> Scene:
        item = self.inputs[name]
        if item.kind == "missing":
            raise UnreadableError(f"{item.uri}: no such file or folder")
        if item.kind == "images":
            return Photos(item.paths, source=item.source, name=name, uri=item.uri, licence=item.licence)
        return Video(item.paths[0], source=item.source, name=name, licence=item.licence)

    def about(self, name: str, /) -> SceneInfo:
        """What is known before the file is opened."""
        item = self.inputs[name]
        return SceneInfo(source=item.source, scene=name, uri=item.uri, kind=item.kind, licence=item.licence)

    def fingerprint(self, name: str, /) -> tuple[str, int]:
        """What the bytes of a scene are known by, and how many there are.

        sha256 over each file's name and size, and over the first and last MiB of the first and the last file.
        """
        item = self.inputs[name]
        digest, total = hashlib.sha256(item.kind.encode()), 0
        for i, path in enumerate(item.paths):
            try:
                size = path.stat().st_size
                digest.update(f"{path.name}\0{size}\0".encode())
                total += size
                if i in (0, len(item.paths) - 1):
                    with path.open("rb") as file:
                        digest.update(file.read(_MIB))
                        file.seek(max(0, size - _MIB))
                        digest.update(file.read(_MIB))
            except OSError as error:
                digest.update(f"{path.name}\0{error.errno}\0".encode())
        return digest.hexdigest(), total

    def take(self, limit: int | None) -> "Footage":
        """Only the first `limit` scenes."""
        return replace(self, inputs=dict(list(self.inputs.items())[:limit]))


def find_footage(paths: Iterable[Path], list_file: Path | None = None) -> Footage:
    """Every scene in the files and folders given, and in a list of them.

    A folder is searched whole: each video is a scene, and so are the pictures of each sub-folder. A list has a path a line
    and, after tabs, its source and its licence; relative paths start at the list's own folder; # begins a remark. A path
    that is given but not there raises ConfigError; one that a list names becomes a scene of kind `missing`, so that the
    rest of a long list is not lost. Two scenes of one name: the later one gets ~2, ~3 after it.
    """
    found: list[Input] = []
    num_ignored = 0
    for path in paths:
        if not path.exists():
            raise ConfigError(f"{path}: no such file or folder. Give a video, a folder of videos or photos, or --list FILE")
        if path.is_dir():
            inputs, ignored = _in_folder(path)
            found += inputs
            num_ignored += ignored
        else:
            found.append(_one_file(path, path.name))
    if list_file is not None:
        found += _in_list(list_file)
    named: dict[str, Input] = {}
    for item in found:
        name, n = item.name, 1
        while name in named:
            n += 1
            name = f"{item.name}~{n}"
        named[name] = replace(item, name=name, source=item.source or item.kind)
    return Footage(named, num_ignored)


def _kind(path: Path) -> str:
    return "images" if path.suffix.lower() in images.EXTENSIONS else "video"


def _one_file(path: Path, name: str) -> Input:
    return Input(name=name, kind=_kind(path), paths=(path,))


def _in_folder(root: Path) -> tuple[list[Input], int]:
    base = root.resolve().name or "root"
    found, num_ignored = [], 0
    for folder, _, files in sorted(_walk(root), key=lambda entry: [natural_key(Path(p)) for p in entry[0].parts]):
        name = PurePath(base, folder.relative_to(root)).as_posix()
        paths = sorted((folder / f for f in files if not f.startswith(".")), key=natural_key)
        pictures = [p for p in paths if p.suffix.lower() in images.EXTENSIONS]
        videos = [p for p in paths if p.suffix.lower() in VIDEO_EXTENSIONS]
        num_ignored += len(paths) - len(pictures) - len(videos)
        if pictures:
            found.append(Input(name=name, kind="images", paths=tuple(pictures)))
        found += [_one_file(p, f"{name}/{p.name}") for p in videos]
    return found, num_ignored


def _walk(root: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """os.walk without what is hidden and without datasets that twoview made."""
    for folder, folders, files in os.walk(root, followlinks=True):
        folders[:] = [f for f in folders if not f.startswith(".") and not Path(folder, f, "plan.parquet").exists()]
        yield Path(folder), folders, files


def _in_list(list_file: Path) -> list[Input]:
    try:
        lines = list_file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--list {list_file}: {getattr(error, 'strerror', None) or 'not UTF-8 text'}") from None
    found: list[Input] = []
    photos: dict[tuple[str, str, str | None], list[Path]] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        columns = [c.strip() for c in line.split("\t")]
        if len(columns) > 3 or not columns[0]:
            raise ConfigError(f"--list {list_file}, line {number}: write path, source and licence with one tab between them")
        listed, source, licence = (*columns, "", "")[:3]
        path = list_file.parent / listed
        name = PurePath(listed).as_posix().lstrip("/")
        if not path.exists():
            items = [Input(name=name, kind="missing", paths=(path,))]
        elif path.is_dir():
            items = [replace(i, name=f"{name}{i.name.removeprefix(path.resolve().name)}") for i in _in_folder(path)[0]]
        else:
            items = [_one_file(path, name)]
        items = [replace(i, source=source or i.source, licence=licence or None) for i in items]
        if path.is_file() and items[0].kind == "images":  # single photos: those of one folder are one scene
            photos.setdefault((PurePath(name).parent.as_posix(), items[0].source, items[0].licence), []).append(path)
        else:
            found += items
    for (folder, source, licence), paths in photos.items():
        found.append(Input(name=folder, kind="images", paths=tuple(paths), source=source, licence=licence))
    return found
