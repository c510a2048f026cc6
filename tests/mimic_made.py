"""The ten sources of the paper: a small tree in the official layout of each, of made footage. For the tests; not a test."""

import gzip
import json
import shutil
import struct
from pathlib import Path

import cv2
import numpy as np

from flat_made import write_flat_z_up
from twoview.sources.video import Video

VIDEO_ID = "Q6jJjakGzBw"


def write_sources(root: Path, walk: Path) -> Path:
    """All ten under root, by the names that their distributions have. walk: a video of six seconds, 60 frames."""
    video = Video(walk)
    images = [video[k].image for k in range(60)]
    jpegs = [_jpeg(image) for image in images]
    slow = [jpegs[k // 4] for k in range(240)]  # the published windows are of 60 frames
    _scannet(root / "scannet" / "scans" / "scene0000_00" / "scene0000_00.sens", slow, images[0].shape)
    _views(root / "DeMoN" / "sun3d" / "mit_1", images[:24:8])
    _arkitscenes(root / "ARKitScenes" / "raw", walk)
    _copy(walk, root / "objectron" / "cup" / "batch-1" / "2" / "video.MOV")
    _co3d(root / "CO3D" / "apple", jpegs[::2])
    _mannequin(root / "MannequinChallenge", walk)
    for number, k in enumerate((0, 9, 18)):
        _put(root / "3DStreetView" / "0003" / f"0003_{number:07d}_{number:07d}_0000024.jpg", jpegs[k])
    flat = write_flat_z_up(root / "gibson" / "Adrian.glb")
    write_flat_z_up(root / "gibson" / "Cantwell.glb")  # held out for reconstruction
    _copy(flat, root / "hm3d" / "train" / "00001-UVdNNRcVyV1" / "UVdNNRcVyV1.basis.glb")
    _copy(flat, root / "mp3d" / "17DRP5sb8fy" / "17DRP5sb8fy.glb")
    return root


def _jpeg(image: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", image[:, :, ::-1])[1].tobytes()


def _put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _copy(source: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, path)


def _scannet(path: Path, jpegs: list[bytes], shape: tuple[int, ...]) -> None:
    height, width = shape[:2]
    data = struct.pack("<IQ5s64f", 4, 5, b"phone", *np.tile(np.eye(4), (4, 1, 1)).ravel())
    data += struct.pack("<iiIIIIfQ", 2, 1, width, height, 16, 8, 1000.0, len(jpegs))
    for k, jpeg in enumerate(jpegs):
        data += struct.pack("<16f4Q", *np.eye(4).ravel(), 33_333 * k + 1, 33_333 * k + 1, len(jpeg), 2) + jpeg + b"zz"
    _put(path, data)


def _views(scene: Path, images: list[np.ndarray]) -> None:
    for k, image in enumerate(images):
        _put(scene / "frames" / "t0" / f"v{k}" / "image.png", cv2.imencode(".png", image[:, :, ::-1])[1].tobytes())


def _arkitscenes(raw: Path, walk: Path) -> None:
    _copy(walk, raw / "Training" / "41069021" / "41069021.mov")
    (raw / "metadata.csv").write_text("video_id,visit_id,sky_direction,fold\n41069021,421393.0,Up,Training\n")


def _co3d(category: Path, jpegs: list[bytes]) -> None:
    names = [f"apple/110_13051_23361/images/frame{k + 1:06d}.jpg" for k in range(len(jpegs))]
    for name, jpeg in zip(names, jpegs, strict=True):
        _put(category.parent / name, jpeg)
    entries = [
        {"sequence_name": "110_13051_23361", "frame_number": k, "image": {"path": name, "size": [360, 480]}}
        for k, name in enumerate(names)
    ]
    (category / "frame_annotations.jgz").write_bytes(gzip.compress(json.dumps(entries).encode()))


def _mannequin(root: Path, walk: Path) -> None:
    _copy(walk, root / "videos" / f"{VIDEO_ID}.mp4")
    numbers = "0.9 1.6 0.5 0.5 0 0 1 0 0 0 0 1 0 0 0 0 1 0"
    lines = [f"{100_000 * k} {numbers}" for k in range(59)]
    _put(root / "train" / "0a1b.txt", "\n".join([f"https://www.youtube.com/watch?v={VIDEO_ID}", *lines, ""]).encode())
