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
SCENE_EXTENSIONS = frozenset((".glb", ".gltf", ".ply", ".obj"))
_WALK = "a 3D scene, which has to be walked through: add --recipe walk"
_MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Input:
    """One scene to be: a video, the pictures of one folder, or a file to walk through."""

    name: str
    """The scene's name: the path from the PATH that was given, with it. The same wherever the footage lies."""
    kind: str
    """video, images, stereo, rgbd, scene (3D), missing, or a word of the dataset that it belongs to."""
    paths: tuple[Path, ...]
    beside: tuple[tuple[Path, ...], ...] = ()
    """What else a scene is read from, kind by kind: textures, depth, poses."""
    source: str = ""
    licence: str | None = None
    split: str | None = None
    """Of the dataset that it is of: train, val, ..."""

    @property
    def uri(self) -> str:
        return str(self.paths[0].parent if self.kind in ("images", "stereo", "rgbd") else self.paths[0])


@dataclass(frozen=True)
class Footage:
    """A Source over files. `inputs` by the name of the scene, in the order they were found."""

    inputs: dict[str, Input]
    num_ignored: int = 0
    """Files in the folders that are neither pictures nor videos."""
    num_repeated: int = 0
    """Inputs that were given before already: each is one scene."""
    remark: str = ""
    """What was left out on purpose, and how to have it: said before a run."""

    def names(self) -> Sequence[str]:
        return list(self.inputs)

    def open(self, name: str, /) -> Scene:
        item = self.inputs[name]
        if item.kind == "missing":
            why = ", or its name is not UTF-8 text: rename it" if "\ufffd" in item.uri else ""
            raise UnreadableError(_odd(item.paths[0]) or f"{item.uri}: no such file or folder{why}")
        if item.kind == "scene":
            raise UnreadableError(f"{item.uri}: {_WALK}")
        if item.kind in ("images", "stereo"):
            scene = Photos(item.paths, source=item.source, name=name, uri=item.uri, licence=item.licence, kind=item.kind)
        else:
            scene = Video(item.paths[0], source=item.source, name=name, licence=item.licence)
        scene.info = replace(scene.info, split=item.split)
        return scene

    def about(self, name: str, /) -> SceneInfo:
        """What is known before the file is opened."""
        item = self.inputs[name]
        return SceneInfo(source=item.source, scene=name, uri=item.uri, kind=item.kind, licence=item.licence, split=item.split)

    def fingerprint(self, name: str, /) -> tuple[str, int]:
        """What the bytes of a scene are known by, and how many there are.

        sha256 over each file's name and size, and over the first and last MiB of the first and the last file; of each kind of file
        that a scene is read from.
        """
        item = self.inputs[name]
        digest, total = hashlib.sha256(item.kind.encode()), 0
        for path, is_end in ((p, i in (0, len(kind) - 1)) for kind in (item.paths, *item.beside) for i, p in enumerate(kind)):
            try:
                size = path.stat().st_size
                digest.update(f"{path.name}\0{size}\0".encode())
                total += size
                if is_end:
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

    def only(self, names: Iterable[str]) -> "Footage":
        """Only these scenes, in the order they were found."""
        wanted = set(names)
        return replace(self, inputs={name: item for name, item in self.inputs.items() if name in wanted})


def find_footage(paths: Iterable[Path], list_file: Path | None = None) -> Footage:
    """Every scene in the files and folders given, and in a list of them.

    A folder is searched whole: each video is a scene, and so are the pictures of each sub-folder. Photos that are named one by
    one are a scene together with the others of their folder. A list has a path a line and, after tabs, its source and its
    licence; relative paths start at the list's own folder; # begins a remark, and a first line that names the columns is
    passed over. A path that is given but not there raises ConfigError; one that a list names becomes a scene of kind
    `missing`, so that the rest of a long list is not lost. Two scenes of one name: the later one gets ~2, ~3 after it. What
    is given twice is one scene, the first.
    """
    paths = list(paths)
    for path in paths:
        if _is_there(path) and _kind(path) == "scene" and not path.is_dir():
            raise ConfigError(f"{path}: {_WALK}")
    return _find(paths, list_file, images.EXTENSIONS | VIDEO_EXTENSIONS)


def find_scenes(paths: Iterable[Path], list_file: Path | None = None) -> Footage:
    """Every 3D scene in the files and folders given, and in a list of them; named and found as by `find_footage`.

    Raises ConfigError for a file that is given and is none.
    """
    paths = list(paths)
    for path in paths:
        if _is_there(path) and not path.is_dir() and _kind(path) != "scene":
            known = ", ".join(sorted(SCENE_EXTENSIONS))
            raise ConfigError(f"{path}: not a 3D scene ({known}): videos and photos want another --recipe, as paper")
    found = _find(paths, list_file, SCENE_EXTENSIONS)
    if not found.inputs:
        raise ConfigError(f"no 3D scenes found ({found.num_ignored} other files): give .glb, .gltf, .ply or .obj files")
    return found


def _find(paths: Iterable[Path], list_file: Path | None, extensions: frozenset[str]) -> Footage:
    """Inputs of the kinds whose extensions are wanted."""
    found: list[Input] = []
    photos: list[Input] = []
    num_ignored = 0
    for path in paths:
        if not _is_there(path):
            raise ConfigError(f"{path}: no such file or folder. Give a file or a folder that is there, or --list FILE")
        if _shown(path) != path:
            raise ConfigError(f"{_shown(path)}: the name is not UTF-8 text; rename it")
        if odd := _odd(path):
            raise ConfigError(odd)
        if path.is_dir():
            inputs, ignored = _in_folder(path, extensions)
            found += inputs
            num_ignored += ignored
        elif _kind(path) == "images":
            photos.append(_one_file(path, _base_name(path.parent)))
        else:
            found.append(_one_file(path, path.name))
    if list_file is not None:
        inputs, singles, ignored = _in_list(list_file, extensions)
        found += inputs
        photos += singles
        num_ignored += ignored
    return named(found + _together(photos), num_ignored)


def named(found: Sequence[Input], num_ignored: int = 0) -> Footage:
    """Inputs by name: of two of one name the later gets ~2, and one that is given again is left out."""
    inputs: dict[str, Input] = {}
    known: set[tuple[str, ...]] = set()
    for item in found:
        where = tuple(os.path.abspath(path) for path in item.paths)
        if where in known:
            continue
        known.add(where)
        name, n = item.name, 1
        while name in inputs:
            n += 1
            name = f"{item.name}~{n}"
        inputs[name] = replace(item, name=name, source=item.source or item.kind)
    return Footage(inputs, num_ignored, len(found) - len(inputs))


def _is_there(path: Path) -> bool:
    try:
        path.stat()
    except (OSError, ValueError):  # Path.exists raises for a name that is too long, and for a folder that is closed to us
        return False
    return True


def _odd(path: Path) -> str:
    """Why something that is there is no footage, or ''. To open a pipe is to wait for its other end."""
    odd = _is_there(path) and not path.is_file() and not path.is_dir()
    return f"{path}: neither a file nor a folder, but a pipe or a device" if odd else ""


def _base_name(folder: Path) -> str:
    """What a folder is called: not what a link leads to, but more than '.'."""
    return Path(os.path.abspath(folder)).name or "root"


def _kind(path: Path) -> str:
    extension = path.suffix.lower()
    return "images" if extension in images.EXTENSIONS else "scene" if extension in SCENE_EXTENSIONS else "video"


def _one_file(path: Path, name: str) -> Input:
    return Input(name=name, kind=_kind(path), paths=(path,))


def _shown(path: Path) -> Path:
    """The path with what is not UTF-8 in it replaced: no table could hold the rest."""
    return Path(os.fsencode(path).decode("utf-8", "replace"))


def _together(photos: list[Input]) -> list[Input]:
    """Photos that were named one by one: those of one folder are one scene."""
    scenes: dict[tuple[Path, str, str, str | None], list[Path]] = {}
    for photo in photos:
        scenes.setdefault((photo.paths[0].parent, photo.name, photo.source, photo.licence), []).extend(photo.paths)
    return [
        Input(name=name, kind="images", paths=tuple(dict.fromkeys(paths)), source=source, licence=licence)
        for (_, name, source, licence), paths in scenes.items()
    ]


def _in_folder(root: Path, extensions: frozenset[str]) -> tuple[list[Input], int]:
    found, num_ignored = [], 0
    for folder, files in sorted(_walk(root), key=lambda entry: [natural_key(Path(p)) for p in entry[0].parts]):
        name = PurePath(_base_name(root), folder.relative_to(root)).as_posix()
        paths = sorted((folder / f for f in files if not f.startswith(".")), key=natural_key)
        wanted = [p for p in paths if p.suffix.lower() in extensions and not _odd(p)]
        num_ignored += len(paths) - len(wanted)
        readable = [p for p in wanted if _shown(p) == p]
        pictures = tuple(p for p in readable if _kind(p) == "images")
        if pictures:
            found.append(Input(name=name, kind="images", paths=pictures))
        found += [_one_file(p, f"{name}/{p.name}") for p in readable if _kind(p) != "images"]
        for path in (_shown(p) for p in wanted if _shown(p) != p):
            found.append(Input(name=f"{_shown(Path(name))}/{path.name}", kind="missing", paths=(path,)))
    return found, num_ignored


def folders_in(root: Path) -> Iterator[tuple[Path, str]]:
    """A folder and all below it, with the names that scenes in them have. Raises ConfigError where it is none."""
    if not root.is_dir():
        raise ConfigError(f"{root}: no such folder")
    for folder in sorted((folder for folder, _ in _walk(root)), key=lambda folder: [natural_key(Path(p)) for p in folder.parts]):
        yield folder, PurePath(_base_name(root), folder.relative_to(root)).as_posix()


def _walk(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Folders and their files, without what is hidden and without datasets that twoview made.

    Links are followed when all else has been seen, and a folder that is reached twice is read once: links may lead in a circle.
    """
    seen: set[tuple[int, int]] = set()
    waiting = [root]
    for top in waiting:  # grows on the way
        for folder, folders, files in os.walk(top):
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in seen:
                folders.clear()
                continue
            seen.add((status.st_dev, status.st_ino))
            folders[:] = sorted(f for f in folders if not f.startswith(".") and not _is_there(Path(folder, f, "plan.parquet")))
            waiting += [Path(folder, f) for f in folders if Path(folder, f).is_symlink()]
            yield Path(folder), files


def _in_list(list_file: Path, extensions: frozenset[str]) -> tuple[list[Input], list[Input], int]:
    """Scenes, photos that are named one by one, and the number of files ignored."""
    found: list[Input] = []
    photos: list[Input] = []
    num_ignored = 0
    for listed, source, licence in list_lines(list_file):
        path, name = list_file.parent / listed, PurePath(listed).as_posix().lstrip("/")
        items, into = [], found
        if not _is_there(path) or _odd(path):
            items = [Input(name=name, kind="missing", paths=(path,))]
        elif path.is_dir():
            inputs, ignored = _in_folder(path, extensions)
            name = _base_name(path) if name in ("", ".") else name
            items = [replace(i, name=f"{name}{i.name.removeprefix(_base_name(path))}") for i in inputs]
            num_ignored += ignored
        elif _kind(path) == "images":
            folder = PurePath(name).parent.as_posix()
            items, into = [_one_file(path, _base_name(path.parent) if folder == "." else folder)], photos
        else:
            items = [_one_file(path, name)]
        into += [replace(i, source=source, licence=licence or None) for i in items]
    return found, photos, num_ignored


def list_lines(list_file: Path) -> Iterator[tuple[str, str, str]]:
    """Path, source and licence of each line; the last two may be empty."""
    try:
        lines = list_file.read_text(encoding="utf-8-sig").split("\n")  # splitlines() would cut names at other characters too
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--list {list_file}: {getattr(error, 'strerror', None) or 'not UTF-8 text'}") from None
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        columns = [c.strip() for c in line.split("\t")]
        if number == 1 and columns == ["path", "source", "licence"][: max(2, len(columns))]:
            continue
        if len(columns) > 3 or not columns[0]:
            raise ConfigError(f"--list {list_file}, line {number}: write path, source and licence with one tab between them")
        listed, source, licence = (*columns, "", "")[:3]
        yield listed, source, licence
