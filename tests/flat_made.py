"""The made flat as the scans of HM3D, Gibson and Matterport3D lie in their files, z up. For the tests; not a test."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from twoview import demo


def write_flat_z_up(path: Path) -> Path:
    """The flat of `demo.write_flat`, but that its file has z for the height."""

    def turned(v: np.ndarray) -> np.ndarray:
        return np.array([v[0], -v[2], v[1]])

    panels = [replace(p, corner=turned(p.corner), along=turned(p.along), down=turned(p.down)) for p in demo.flat()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(demo.glb(panels))
    return path


def put(root: Path, scene: Path, *names: str) -> Path:
    """A tree: the scene under each name that ends as its file does, and a few bytes under others."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.name.endswith(scene.suffix) and ".semantic" not in path.name:
            path.symlink_to(scene)
        else:
            path.write_bytes(b"not to be read")
    return root
