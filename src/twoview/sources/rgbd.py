"""RGB-D footage as scenes: pictures that come with depth and pose, so that their true overlap is known."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float32, Float64

from ..errors import ConfigError, UnreadableError
from ..schema import Frame, Geometry, SceneInfo
from .footage import Footage, Input, folders_in, list_lines, named
from .images import natural_key, read_image
from .video import Video

INTRINSICS = ("camera-intrinsics.txt", "K.txt", "intrinsics.txt")
"""Where the 3 x 3 matrix of the camera may stand: in the scene's folder or the one above it."""


@dataclass(frozen=True, kw_only=True)
class RgbdFolders:
    """Finds folders of RGB-D footage. In each the camera's 3 x 3 matrix (camera-intrinsics.txt or K.txt), and either of

    7-Scenes' files: frame-000000.color.jpg (or .png), frame-000000.depth.png, frame-000000.pose.txt; or one video,
    poses.txt (a line of 16 numbers for each frame) and depth/000000.png by the frame's number, not for every frame.
    Depth is uint16 millimetres, 0 and 65535 unknown; a pose is 4 x 4, camera to world, in metres, x right, y down, z forward.
    """

    def __call__(self, paths: Iterable[Path], list_file: Path | None = None) -> "RgbdFootage":
        """The scenes in folders, and in those that a list names. Raises ConfigError where there are none."""
        paths = list(paths)
        found = [_input(folder, name) for root in paths for folder, name in folders_in(root)]
        if list_file is not None:
            for listed, source, licence in list_lines(list_file):
                inputs = [_input(folder, name) for folder, name in folders_in(list_file.parent / listed)]
                found += [item and replace(item, source=source or item.source, licence=licence or None) for item in inputs]
            paths.append(list_file)
        footage = named([item for item in found if item])
        if not footage.inputs:
            given = ", ".join(map(str, paths))
            raise ConfigError(f"no RGB-D footage in {given}: *.color.jpg with .depth.png and .pose.txt, or poses.txt and depth/")
        return RgbdFootage(footage.inputs, footage.num_ignored, footage.num_repeated)


def _input(folder: Path, name: str) -> Input | None:
    """The scene in a folder, with all the files that it is read from."""
    colour, video = _colour_files(folder), _video_files(folder)
    if not colour and not video:
        return None
    poses = sorted(folder.glob("*.pose.txt")) if colour else [folder / "poses.txt"]
    depth = sorted(folder.glob("*.depth.png") if colour else (folder / "depth").glob("*.png"))
    beside = (tuple(poses), tuple(depth), tuple(_intrinsics_files(folder)))
    return Input(name=name, kind="rgbd", paths=tuple(colour or video), beside=beside, source="rgbd")


def _colour_files(folder: Path) -> list[Path]:
    return sorted((p for p in folder.glob("*.color.*") if p.suffix in (".jpg", ".png")), key=natural_key)


def _video_files(folder: Path) -> list[Path]:
    """The video of a folder with poses.txt and depth/."""
    if not (folder / "poses.txt").exists() or not (folder / "depth").is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in (".mp4", ".mkv", ".mov", ".avi"))[:1]


@dataclass(frozen=True)
class RgbdFootage(Footage):
    """A Source over RGB-D folders."""

    def open(self, name: str, /) -> "RgbdFrames | RgbdVideo":
        item = self.inputs[name]
        return (RgbdFrames if ".color." in item.paths[0].name else RgbdVideo)(item)


class Rgbd:
    """Frames with geometry. Raises UnreadableError where the camera's matrix or a file's depth or pose cannot be read."""

    times_s: Float64[np.ndarray, " n"] | None = None

    def __init__(self, item: Input) -> None:
        self.name, self.source, self.licence, self.folder = item.name, item.source, item.licence, item.paths[0].parent
        self.info = SceneInfo(source=item.source, scene=item.name, uri=item.uri, kind="rgbd", licence=item.licence)
        self.matrix = read_matrix(_intrinsics_file(self.folder), 3)

    def framed(self, index: int, image: np.ndarray, depth_file: Path, pose: Float64[np.ndarray, "4 4"]) -> Frame:
        """A picture with its depth, at the picture's size."""
        if not np.isfinite(pose).all():
            raise UnreadableError(f"{self.folder}: frame {index} has no pose")
        depth = read_depth(depth_file)
        if depth.shape != image.shape[:2]:
            depth = cv2.resize(depth, image.shape[1::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        intrinsics = self.matrix[[0, 1, 0, 1], [0, 1, 2, 2]]
        geometry = Geometry(depth_m=depth, pose=pose, intrinsics=intrinsics)
        return Frame(id=f"{self.source}/{self.name}/{index:06d}", image=image, geometry=geometry)


class RgbdFrames(Rgbd):
    """A folder with a picture, a depth picture and a pose for each frame, as 7-Scenes has them."""

    def __init__(self, item: Input) -> None:
        super().__init__(item)
        self.paths = item.paths
        self.info = replace(self.info, codec=self.paths[0].suffix.lstrip("."), num_frames=len(self.paths))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Frame:
        path = self.paths[index]
        stem = path.name.partition(".color.")[0]
        pose = read_matrix(path.with_name(f"{stem}.pose.txt"), 4)
        return self.framed(index, read_image(path), path.with_name(f"{stem}.depth.png"), pose)


class RgbdVideo(Rgbd):
    """A video with poses.txt and depth/: its frames are those that have depth."""

    def __init__(self, item: Input) -> None:
        super().__init__(item)
        self._video = Video(item.paths[0], source=item.source, name=item.name, licence=item.licence)
        found = {int(p.stem): p for p in (self.folder / "depth").glob("*.png") if p.stem.isdecimal()}
        self._depth = [found[number] for number in sorted(found) if number < len(self._video)]
        if not self._depth:
            raise UnreadableError(f"{self.folder / 'depth'}: no depth picture that is named after a frame, as 000000.png")
        self.times_s = self._video.times_s[[int(p.stem) for p in self._depth]]
        self.info = replace(self._video.info, kind="rgbd", num_frames=len(self._depth))
        self._poses = lru_cache(maxsize=1)(self._read_poses)

    def _read_poses(self) -> Float64[np.ndarray, "n 4 4"]:
        poses = _numbers(self.folder / "poses.txt")
        if poses.size != 16 * len(self._video):
            known = f"{poses.size / 16:g} poses for the video's {len(self._video)} frames"
            raise UnreadableError(f"{self.folder / 'poses.txt'}: {known}: write a line of 16 numbers for each")
        return poses.reshape(-1, 4, 4)

    def __len__(self) -> int:
        return len(self._depth)

    def __getitem__(self, index: int) -> Frame:
        path = self._depth[index]
        number = int(path.stem)
        return self.framed(index, self._video[number].image, path, self._poses()[number])


def _intrinsics_files(folder: Path) -> list[Path]:
    return [path for place in (folder, folder.parent) for name in INTRINSICS if (path := place / name).exists()][:1]


def _intrinsics_file(folder: Path) -> Path:
    found = _intrinsics_files(folder)
    if not found:
        raise UnreadableError(f"{folder}: no {' or '.join(INTRINSICS)} there or above: write the camera's 3 x 3 matrix")
    return found[0]


def _numbers(path: Path) -> Float64[np.ndarray, " n"]:
    try:
        return np.array([float(word) for word in re.split(r"[\s,]+", path.read_text().strip()) if word])
    except (OSError, ValueError) as error:
        raise UnreadableError(f"{path}: {getattr(error, 'strerror', None) or 'not numbers'}") from None


def read_matrix(path: Path, size: int) -> Float64[np.ndarray, "n n"]:
    """A square matrix of a text file, row by row; a 4 x 4 one gives its upper left 3 x 3 where that is wanted."""
    numbers = _numbers(path)
    if size == 3 and numbers.size == 16:
        return numbers.reshape(4, 4)[:3, :3]
    if numbers.size != size * size:
        raise UnreadableError(f"{path}: {numbers.size} numbers, where a {size} x {size} matrix is wanted")
    return numbers.reshape(size, size)


def read_depth(path: Path) -> Float32[np.ndarray, "h w"]:
    """Metres of a uint16 picture in millimetres; 0 where it says 0 or 65535."""
    depth_mm = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) if path.exists() else None
    if depth_mm is None or depth_mm.dtype != np.uint16 or depth_mm.ndim != 2:
        raise UnreadableError(f"{path}: {'not a picture of uint16 millimetres' if path.exists() else 'no such file'}")
    return np.where(depth_mm == 65535, 0, depth_mm) / np.float32(1000)
