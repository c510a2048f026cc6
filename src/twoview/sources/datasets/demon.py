"""DeMoN's training sets (Ummenhofer et al., CVPR 2017): HDF5 files of small groups of views, or folders of pictures.

Where the data is: https://github.com/lmb-freiburg/demon, `datasets/download_traindata.sh`. A root holds `*.h5`, as
`sun3d_train_0.1m_to_0.2m.h5`, `rgbd_*.h5`, `mvs_*.h5`, `scenes11_train.h5`, or a folder (`traindata/`) that does. The layout is
documented there by `multivih5datareaderop/README.md`: each group `/<scene>` has `frames/t0/v0/image`, `frames/t0/v1/image` and
so on, two views at least, an image being the bytes of a WebP file; groups whose names begin with a dot are reserved. Depth and
cameras lie beside and are not read.

Two forms more: what `datasets/extract_h5_datasets_to_filesystem.py` there makes of such a file, which is
`<file>/<scene>/frames/t0/v0/image.png` and gives scenes of the same names; and plain pictures, each folder a scene, as the
published script of MIMIC read them.

As in that script every pair of a scene's views is a candidate: not only the `viewpoint_pairs` that the files list.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from ...errors import ConfigError, LeftOutError, UnreadableError
from ...schema import Frame, SceneInfo
from ..footage import Footage, Input, find_footage, named
from ..images import Photos, decode_image, natural_key
from .roots import missing, roots

_MOST_BYTES = 1 << 26
"""Of an encoded picture; a damaged file could ask for any memory."""
_BROKEN = (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError)
"""What h5py raises for a damaged file, depending on where the damage is."""
_VIEW = re.compile(r"v\d+")


@dataclass(frozen=True, kw_only=True)
class Demon:
    """Finds DeMoN's scenes. A scene that is there as HDF5 and as extracted folders is read from the HDF5."""

    test_scenes: bool = False
    """Read the test sets too (sun3d_test, rgbd_test, nyu2_test ...): methods are evaluated on them, and on NYUv2 features."""
    source = "demon"
    licence = "LicenseRef-DeMoN-research-only"

    def __call__(self, paths: Iterable[Path], list_file: Path | None = None) -> "DemonFootage":
        """The scenes in folders, by name. Raises ConfigError where there are none, and where HDF5 files are there but no h5py."""
        groups: dict[str, Input] = {}
        folders: dict[str, Input] = {}
        num_test = num_repeated = 0
        for root in roots("DeMoN", paths, list_file):
            found = [*_in_files(root), *_in_folders(root)]
            if not found:
                raise missing(root, "DeMoN", "*.h5, <file>/<scene>/frames/t0/v0/image.png or folder of pictures")
            for item in found:
                if item.kind != "images" and item.name.partition("/")[0].endswith("_test") and not self.test_scenes:
                    num_test += 1
                    continue
                # Plain folders have anybody's names: two of one name are two scenes.
                known, key = (folders, os.path.realpath(item.paths[0])) if item.kind == "images" else (groups, item.name)
                num_repeated += key in known
                known.setdefault(key, replace(item, source=self.source, licence=self.licence))
        inputs = named([*groups.values(), *folders.values()]).inputs
        if num_test and not inputs:
            raise LeftOutError(
                f"DeMoN: only test sets ({num_test} scenes of *_test): they are left for evaluation. To read them all the same, "
                "add --recipe mimic_demon --source.test-scenes"
            )
        return DemonFootage(dict(sorted(inputs.items())), num_test, num_repeated)


def _in_files(root: Path) -> Iterator[Input]:
    """The groups of every HDF5 file; a file that has none, or is none, is one input that cannot be opened."""
    for path in sorted([*root.glob("[!.]*.h5"), *root.glob("[!.]*/[!.]*.h5")]):
        try:
            with _opened(path) as file:
                names = [name if isinstance(name, str) else name.decode(errors="replace") for name in file]  # bytes are no UTF-8
                groups = [name for name in names if not name.startswith(".")]
        except UnreadableError:
            groups = []
        if not groups:
            yield Input(name=path.stem, kind="broken", paths=(path,))
        for group in groups:
            yield Input(name=f"{path.stem}/{group}", kind="h5", paths=(path / group,))


def _in_folders(root: Path) -> Iterator[Input]:
    """Scenes that were extracted from HDF5 files, and each other folder with pictures."""
    views: dict[Path, list[Path]] = {}
    for item in find_footage([root]).inputs.values():
        view = Path(os.path.abspath(item.paths[0])).parent
        if item.kind == "images" and _VIEW.fullmatch(view.name) and view.parts[-3:-1] == ("frames", "t0"):
            views.setdefault(view.parents[2], []).extend(p for p in item.paths if p.stem == "image")
        elif item.kind == "images":
            yield replace(item, name=item.name.partition("/")[2] or item.name)
    for group, paths in views.items():
        if paths:
            yield Input(name=f"{group.parent.name}/{group.name}", kind="views", paths=tuple(paths))


@dataclass(frozen=True)
class DemonFootage(Footage):
    """A Source over DeMoN's scenes. num_ignored: test scenes that were left out. An input of kind h5 has the path FILE/GROUP."""

    def open(self, name: str, /) -> "Photos | Views":
        item = self.inputs[name]
        if item.kind == "h5":
            return Views(item)
        if item.kind == "broken":
            with _opened(item.paths[0]) as file:
                list(file)  # says what is wrong, if it is that
                raise UnreadableError(f"{item.uri}: no groups in it: download it again")
        return Photos(item.paths, source=item.source, name=name, uri=item.uri, licence=item.licence, kind=item.kind)

    def fingerprint(self, name: str, /) -> tuple[str, int]:
        """As of a folder with a file for each view: a group is known by its own bytes, not by those of the file it lies in."""
        item = self.inputs[name]
        if item.kind != "h5":
            return super().fingerprint(name)
        digest, total = hashlib.sha256(item.kind.encode()), 0
        try:
            with _opened(item.paths[0].parent) as file:
                group = file[item.paths[0].name]
                views = _views(group)
                for view in views:
                    image = group[f"frames/t0/{view}/image"]
                    digest.update(f"{view}\0{image.nbytes}\0".encode())
                    total += image.nbytes
                    if view in (views[0], views[-1]) and image.nbytes <= _MOST_BYTES:
                        digest.update(image[()].tobytes())
        except (UnreadableError, *_BROKEN) as error:
            digest.update(type(error).__name__.encode())
        return digest.hexdigest(), total


class Views:
    """The views of one group of an HDF5 file, in order: v0, v1, ...

    Raises UnreadableError for a group without views, or with one: a scene has two at least.
    """

    times_s = None

    def __init__(self, item: Input) -> None:
        self.path, self.group = item.paths[0].parent, item.paths[0].name
        self.source, self.name, self.licence, self.uri = item.source, item.name, item.licence, item.uri
        with _opened(self.path) as file, _said(self.uri):
            self.views = _views(file[self.group])
        if len(self.views) < 2:
            has = self.views[0] if self.views else "none"
            raise UnreadableError(f"{self.uri}: views are frames/t0/v0, v1 ..., two at least; it has {has}: download it again")
        self.info = SceneInfo(
            source=item.source, scene=item.name, uri=item.uri, kind="h5", num_frames=len(self.views), licence=item.licence
        )

    def __len__(self) -> int:
        return len(self.views)

    def __getitem__(self, index: int) -> Frame:
        if not 0 <= index < len(self):
            raise IndexError(f"{self.name} has frames 0 to {len(self) - 1}, not {index}")
        try:
            image = self._read(self.views[index])
        except UnreadableError as error:
            if self.info.status == "ok":
                self.info = replace(self.info, status="partial", error=str(error))
            raise
        if self.info.width_px is None:
            self.info = replace(self.info, width_px=image.shape[1], height_px=image.shape[0])
        return Frame(id=f"{self.source}/{self.name}/{index:06d}", image=image)

    def _read(self, view: str) -> UInt8[np.ndarray, "h w 3"]:
        where = f"{self.uri}/frames/t0/{view}/image"
        with _opened(self.path) as file, _said(where):
            data = file[self.group][f"frames/t0/{view}/image"]
            if data.ndim != 1 or data.dtype.itemsize != 1 or data.size > _MOST_BYTES:
                shape = " x ".join(map(str, data.shape))
                raise UnreadableError(f"{where}: {shape} of {data.dtype}, where the bytes of a WebP are wanted: download it again")
            encoded, extents = data[()].tobytes(), data.attrs.get("extents")
        image = decode_image(encoded, where)
        if extents is not None and np.ravel(extents).tolist() != list(image.shape[:2]):
            said = " x ".join(map(str, np.ravel(extents)))
            raise UnreadableError(f"{where}: its extents are {said}, but it is {image.shape[0]} px high and {image.shape[1]} wide")
        return image


def _views(group: Any) -> list[str]:
    """Names of the views in a group, in order."""
    if "frames/t0" not in group:
        return []
    return sorted((name for name in group["frames/t0"] if _VIEW.fullmatch(name)), key=lambda name: natural_key(Path(name)))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """An HDF5 file. Raises UnreadableError where it is none, ConfigError where h5py is missing."""
    try:
        import h5py
    except ImportError:
        raise ConfigError(f"{path}: HDF5 needs one more package: pip install 'twoview[demon]'") from None
    with _said(str(path)), h5py.File(path, "r", locking=False) as file:  # nobody writes it; network file systems may have no locks
        yield file


@contextmanager
def _said(where: str) -> Iterator[None]:
    """What h5py raises in the block, as an UnreadableError."""
    try:
        yield
    except _BROKEN as error:
        said = (str(error.args[0]) if error.args else type(error).__name__).splitlines()[0]
        raise UnreadableError(f"{where}: cannot be read as HDF5 ({said}): download it again") from None
