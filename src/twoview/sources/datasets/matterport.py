"""Matterport3D: scans of 90 houses, to be walked through.

Layouts, of which the first counts that a house has:

    mp3d/<house>/<house>.glb                               the archive for Habitat, mp3d_habitat.zip, as
    https://github.com/facebookresearch/habitat-lab/blob/main/DATASETS.md shows it

    v1/scans/<house>/matterport_mesh/<hash>/<hash>.obj     a house's matterport_mesh.zip, unpacked in v1/scans or in the house, as
    https://github.com/niessner/Matterport/blob/master/data_organization.md says: one .obj, one .mtl and their textures

z is up in both. To be had, after its terms are agreed to, by way of https://niessner.github.io/Matterport/; the script that its
authors send puts houses in v1/scans and the archive for Habitat in v1/tasks.

The published script walks 500 times through each house (sources/scene.py says how).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ...render.load import Up
from ..footage import Input, named
from ..scene import WalkedScenes, Walks
from .roots import missing, places, roots


@dataclass(frozen=True, kw_only=True)
class Matterport(Walks):
    """Walks through Matterport3D's houses. Give the folder that they lie in, or the one that the download script was given."""

    samples: int = 500
    """Walks in each house."""
    up: Up | None = "z"
    """Which axis of the files points up. In Matterport3D's it is z."""
    source = "matterport"
    licence = "LicenseRef-Matterport3D-ToU"

    def __call__(self, paths: Iterable[Path], list_file: Path | None = None) -> WalkedScenes:
        """The houses by their names, as 17DRP5sb8fy, each once. Raises ConfigError for another layout."""
        found = []
        for root in roots("Matterport3D", paths, list_file):
            houses: dict[str, Path] = {}
            for place in places(root, "mp3d", "v1/tasks/mp3d", "v1/scans"):
                for folder in place.iterdir():
                    if folder.is_dir() and (mesh := _mesh(folder)):
                        houses.setdefault(folder.name, mesh)
            if not houses:
                raise missing(root, "Matterport3D", "<house>/<house>.glb, nor v1/scans/<house>/matterport_mesh/<hash>/<hash>.obj")
            found += [
                Input(name=name, kind="scene", paths=(mesh,), source=self.source, licence=self.licence)
                for name, mesh in sorted(houses.items())
            ]
        return self.through(named(found))


def _mesh(folder: Path) -> Path | None:
    """The file of a house, None for another folder. Where a house lacks its file, the one that is then named as missing."""
    glb, inner = folder / f"{folder.name}.glb", folder / folder.name  # a zip archive has the house's name within
    if glb.exists() or glb.with_suffix(".navmesh").exists():
        return glb
    found = [p for place in (folder, inner) for p in sorted(place.glob("matterport_mesh/*/[!.]*.obj"))]
    is_house = any(p.exists() for p in (folder / "matterport_mesh.zip", folder / "matterport_mesh", inner / "matterport_mesh"))
    return found[0] if found else folder / "matterport_mesh" / "*.obj" if is_house else None
