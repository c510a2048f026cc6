"""Where samples come from: pairs of a dataset, pairs that a list of files names, single pictures."""

import contextlib
import hashlib
import io
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import simplejpeg
from jaxtyping import Float32, Int16, Int64, UInt8

from ..dataset import Dataset, keys_where
from ..errors import BrokenDatasetError, ConfigError, TryLaterError, TwoviewError
from ..licences import UNKNOWN
from ..listings import Layout, find_listing, listed_pairs
from ..locks import Lock
from ..shards import explained, files_in, read_bytes
from .checkpoints import Seen, seen

Picture = UInt8[np.ndarray, "h w 3"]

_BESIDE = ("config.json", "manifest", "selections", "scenes", "plan.parquet")
SOME_FILES = 200
"""Of a list or a folder, whose sizes go into its fingerprint."""
PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """One pair, or one picture."""

    a: Picture
    b: Picture | None = None
    patches: Int16[np.ndarray, "2 p"] | None = None
    """As PairSample has them; None where they were not asked for, or nobody knows."""
    points: Float32[np.ndarray, "n 4"] | None = None
    grid: tuple[int, int] = (0, 0)
    """Rows and columns of the patches that `patches` speaks of."""


class Pool(Protocol):
    """Samples by number. It goes to the loader's processes by pickling."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...

    def seen(self) -> Seen:
        """What a checkpoint says of it."""
        ...


class StoredPairs:
    """The pairs of a dataset or a selection, read at their offsets."""

    def __init__(self, dataset: Dataset, labels: bool = False, shards: "RemoteShards | None" = None) -> None:
        """labels: patch maps and points too. shards: where the tars are, if not in the dataset's folder."""
        if not len(dataset):
            raise ConfigError(f"{repr(dataset)[14:-11]}: there are no pairs in it")
        self.dataset, self.labels, self.shards = dataset, labels, shards

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        shard, offset, size = self.dataset.place(index)
        try:
            data = self.shards.read(shard, offset, size) if self.shards else read_bytes(self.dataset.path, shard, offset, size)
            files = files_in(data)
            sample = Sample(a=_decoded(files["a.jpg"]), b=_decoded(files["b.jpg"]))
            if not self.labels:
                return sample
            arrays = {name: np.load(io.BytesIO(files[f"{name}.npy"]), allow_pickle=False) for name in ("patches", "points")}
            return replace(sample, **arrays, grid=tuple(json.loads(bytes(files["json"]))["patch_grid"]))
        except (OSError, ValueError, KeyError) as error:
            why = getattr(error, "strerror", None) or f"no sample of twoview at offset {offset}, {error}: twoview audit says more"
            raise BrokenDatasetError(f"{self.dataset.path / shard}: {why}") from None

    def seen(self) -> Seen:
        return seen(self.dataset)

    def where(self, condition: str) -> Int64[np.ndarray, " n"]:
        """Numbers of the pairs for whose line of the manifest a condition in SQL holds."""
        wanted = keys_where(self.dataset.path, condition, "--curriculum")
        return np.flatnonzero(np.isin(self.dataset.keys.to_pylist(), wanted.to_pylist()))

    def starts(self) -> Int64[np.ndarray, " s"]:
        """Where in it the pairs of each shard begin."""
        shards = [self.dataset.place(i)[0] for i in range(len(self))]
        return np.flatnonzero([True, *(one != other for one, other in pairwise(shards))])


class RemoteShards:
    """The shards of a dataset in an object store. Each is fetched when its first pair is asked for, and kept for a while.

    A run reads them in random order, some at a time (order.Share.window), so that few are wanted at once. What stands in the store
    beside the shards is fetched at once, into `folder`, which `twoview.open` reads: one for each state of the dataset, so that what
    reads it now is not disturbed when more is curated there.
    """

    def __init__(self, uri: str, cache: Path, keep: int) -> None:
        """cache: a folder of this machine, that several processes may share; keep: shards in it, the longest unused go.

        Raises ConfigError where no dataset is, TryLaterError where the store is not to be reached.
        """
        self.uri, self.keep, self.folder = uri, keep, cache
        with self._fetching(""):
            cache.mkdir(parents=True, exist_ok=True)
            store, root = _store(uri)
            wanted = {name: _files(store, f"{root}/{name}") for name in _BESIDE}
            if not wanted["plan.parquet"]:
                raise ConfigError(f"{uri}: no dataset of twoview there (its plan.parquet)")
            state = [uri, {name: files for name, files in wanted.items() if name != "selections"}]
            self.folder = cache / hashlib.sha256(json.dumps(state).encode()).hexdigest()[:12]
            self.folder.mkdir(exist_ok=True)
            with Lock.wait(self.folder / ".lock"):
                for name, files in wanted.items():
                    self._fetch_beside(store, root, name, files)

    def _fetch_beside(self, store: pafs.FileSystem, root: str, name: str, files: "list[tuple[str, int, int]]") -> None:
        """A file or a folder that stands beside the shards, unless it is here as it is there. files: as _files has them."""
        path, known, aside = (self.folder / form.format(name) for form in ("{}", ".{}.known", ".{}.partial"))
        state = json.dumps(files)
        if known.exists() and known.read_text() == state and all(_size(path / part) == size for part, size, _ in files):
            return
        for old in (path, aside):
            shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)
        if files:
            if files[0][0]:  # of a folder
                aside.mkdir()
            pafs.copy_files(f"{root}/{name}", str(aside), source_filesystem=store)
            aside.rename(path)
        known.write_text(state)

    def read(self, shard: str, offset: int, size: int) -> bytes:
        """A piece of a shard. Raises BrokenDatasetError where the store has none such."""
        while True:
            try:
                os.utime(self.folder / shard)
                return read_bytes(self.folder, shard, offset, size)
            except FileNotFoundError:  # not fetched yet, or gone meanwhile
                self._fetch(shard)

    def _fetch(self, shard: str) -> None:
        path = self.folder / shard
        path.parent.mkdir(parents=True, exist_ok=True)
        with Lock.wait(path.with_name(f".{path.name}.lock")):
            if path.exists():
                return
            aside = path.with_name(f".{path.name}.partial")
            with self._fetching(shard):
                store, root = _store(self.uri)
                pafs.copy_files(f"{root}/{shard}", str(aside), source_filesystem=store)
                aside.replace(path)
        for old in sorted(path.parent.glob("part-*.tar"), key=_last_use)[: -self.keep]:
            old.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _fetching(self, name: str) -> Iterator[None]:
        try:
            with explained(self.folder):
                yield
        except (OSError, pa.ArrowException) as error:
            why = (str(error).splitlines() or [""])[0]
            kind = BrokenDatasetError if isinstance(error, FileNotFoundError) else TryLaterError
            raise kind(f"{self.uri}/{name}: cannot be fetched ({why})") from None


def _size(path: Path) -> int:
    """Bytes of a file, -1 where there is none: folders for temporary files are tidied by others."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _files(store: pafs.FileSystem, path: str) -> list[tuple[str, int, int]]:
    """Bytes and time of change of the files in a folder, by their names there, or of a file, whose name is empty; none where
    there is nothing."""
    info = store.get_file_info(path)
    inside = store.get_file_info(pafs.FileSelector(path, recursive=True)) if info.type == pafs.FileType.Directory else [info]
    files = (one for one in inside if one.type == pafs.FileType.File)
    return sorted((one.path.removeprefix(path).lstrip("/"), one.size or 0, one.mtime_ns or 0) for one in files)


def _store(uri: str) -> tuple[pafs.FileSystem, str]:
    try:
        store, root = pafs.FileSystem.from_uri(uri)
    except (pa.ArrowException, ValueError) as error:
        raise ConfigError(f"{uri}: no store that is known ({str(error).splitlines()[0]})") from None
    return store, root.rstrip("/")


def _last_use(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # another process was faster
        return 0.0


class ListedPairs:
    """Pairs of pictures that a list names: MIMIC's published CSV, CroCo's pairs.txt. Nothing is opened before it is asked for."""

    def __init__(self, path: Path, layout: Layout) -> None:
        self.path = find_listing(path, layout)
        lines = listed_pairs(self.path, layout)
        if not lines:
            raise ConfigError(f"{self.path}: no pairs in it")
        self._names = pa.array([name for line in lines for name in line], pa.large_string())  # a few bytes each, also pickled
        some = range(0, len(self._names), -(-len(self._names) // SOME_FILES))
        self._sha256 = _sha256_of(self.path.read_bytes(), (self.path.parent / self._names[i].as_py() for i in some))

    def __len__(self) -> int:
        return len(self._names) // 2

    def __getitem__(self, index: int) -> Sample:
        from ..sources.images import read_image  # OpenCV, which datasets do without

        a, b = (read_image(self.path.parent / self._names[2 * index + view].as_py()) for view in range(2))
        return Sample(a=a, b=b)

    def seen(self) -> Seen:
        return Seen(dataset=str(self.path), fingerprint=self._sha256, num_pairs=len(self), licences={UNKNOWN: len(self)})


class Pictures:
    """Every picture of a folder and of those below it, by name."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise ConfigError(f"{folder}: no such folder")
        self.folder = folder
        names = sorted(os.path.relpath(path, folder) for path in _walk(str(folder), {os.path.realpath(folder)}))
        if not names:
            raise ConfigError(f"{folder}: there are no pictures in it")
        self._names = pa.array(names, pa.large_string())

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> Sample:
        from ..sources.images import read_image

        return Sample(a=read_image(self.folder / self._names[index].as_py()))

    def seen(self) -> Seen:
        names = self._names.to_pylist()
        some = names[:: -(-len(names) // SOME_FILES)]
        digest = _sha256_of("\n".join(names).encode(), (self.folder / name for name in some))
        return Seen(dataset=str(self.folder), fingerprint=digest, num_pairs=len(self), licences={UNKNOWN: len(self)})


def _walk(folder: str, seen: set[str]) -> Iterator[str]:
    """Pictures below a folder, also where links lead, but for folders within themselves, and what cannot be entered."""
    entries: list[os.DirEntry[str]] = []
    with contextlib.suppress(OSError):
        entries = list(os.scandir(folder))
    for entry in entries:
        with contextlib.suppress(OSError):  # a link to itself
            if entry.is_file() and entry.name.lower().endswith(PICTURES):
                yield entry.path
            elif entry.is_dir() and (real := os.path.realpath(entry.path)) not in seen:
                yield from _walk(entry.path, seen | {real})


class Decoded:
    """A pool whose pictures, all of one size, lie decoded in a file: read several times as fast, and some ten times as large."""

    def __init__(self, pool: Pool, folder: Path, tell: Callable[[int, int], None] = lambda num, total: None) -> None:
        """folder: where the file is, or is made now, whole or not at all. tell: samples decoded, of all."""
        first = pool[0]
        views = [first.a] if first.b is None else [first.a, first.b]
        self.pool, self._shape = pool, (len(pool), len(views), *first.a.shape)
        self.path = folder / f"{pool.seen().fingerprint[:16]}-{'x'.join(map(str, self._shape))}.u8"
        self._values: np.ndarray | None = None
        if not self.path.exists():
            with explained(self.path):
                folder.mkdir(parents=True, exist_ok=True)
                began, failed = time.time(), folder / f".{self.path.name}.failed"
                with Lock.wait(folder / f".{self.path.name}.lock"):
                    if failed.exists() and failed.stat().st_mtime >= began:  # while this process waited
                        raise ConfigError(failed.read_text())
                    try:
                        if not self.path.exists():
                            self._make(tell)
                    except TwoviewError as error:
                        failed.write_text(str(error))
                        raise
                    failed.unlink(missing_ok=True)
        if self.path.stat().st_size != math.prod(self._shape):
            raise ConfigError(f"{self.path}: cut off; remove it, and it is made again")

    def __len__(self) -> int:
        return len(self.pool)

    def __getitem__(self, index: int) -> Sample:
        if self._values is None:  # not before: each of the loader's processes maps the file itself
            self._values = np.memmap(self.path, np.uint8, "r", shape=self._shape)
        views = self._values[index]
        return Sample(a=np.array(views[0]), b=np.array(views[1]) if len(views) > 1 else None)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_values": None}

    def seen(self) -> Seen:
        return self.pool.seen()

    def _make(self, tell: Callable[[int, int], None]) -> None:
        aside = self.path.with_name(f".{self.path.name}.partial")
        try:
            with aside.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, math.prod(self._shape))  # a full disk is told here, not by a signal
            values = np.memmap(aside, np.uint8, "r+", shape=self._shape)
            with ThreadPoolExecutor(os.cpu_count()) as threads:
                ahead = 1000  # in memory
                pieces = (range(start, min(start + ahead, len(self.pool))) for start in range(0, len(self.pool), ahead))
                samples = (sample for piece in pieces for sample in threads.map(self.pool.__getitem__, piece))
                for i, sample in enumerate(samples):
                    for view, picture in enumerate((sample.a, sample.b)[: self._shape[1]]):
                        if picture is None or picture.shape != self._shape[2:]:
                            raise ConfigError(
                                f"--decoded: pictures of {self.pool.seen().dataset} are of several sizes, or single and in pairs"
                            )
                        values[i, view] = picture
                    tell(i + 1, len(self.pool))
            values.flush()
            aside.replace(self.path)
        finally:
            aside.unlink(missing_ok=True)


class Singles:
    """Both views of each pair, as pictures of their own: how MAE and DINO are trained on pairs. Of single pictures, these."""

    def __init__(self, pool: Pool) -> None:
        self.pool, self.num_views = pool, 1 if pool[0].b is None else 2

    def __len__(self) -> int:
        return self.num_views * len(self.pool)

    def __getitem__(self, index: int) -> Sample:
        index, view = divmod(index, self.num_views)
        sample = self.pool[index]
        return Sample(a=sample.a if view == 0 or sample.b is None else sample.b)

    def seen(self) -> Seen:
        return self.pool.seen()


def _decoded(jpeg: memoryview) -> Picture:
    """RGB of a stored picture, to the bit as `twoview.dataset.decode` gives it, faster and without OpenCV. Raises ValueError."""
    return simplejpeg.decode_jpeg(jpeg, fastdct=False, fastupsample=False)


def _sha256_of(words: bytes, files: Iterable[Path]) -> str:
    """Of names and of the sizes of files."""
    digest = hashlib.sha256(words)
    for path in files:
        size = path.stat().st_size if path.exists() else -1
        digest.update(f"{size} ".encode())
    return digest.hexdigest()
