"""HM3D, the Habitat-Matterport 3D Research Dataset: scans of 1,000 buildings, to be walked through.

Layout, as https://github.com/facebookresearch/habitat-sim/blob/main/DATASETS.md shows it:

    hm3d/train/00000-kfPV7w3FaU5/kfPV7w3FaU5.basis.glb     of the archives hm3d-*-habitat: textures in Basis
    hm3d/train/00000-kfPV7w3FaU5/kfPV7w3FaU5.glb           of the archives hm3d-*-glb: read where there is no other
    hm3d/val/..., hm3d/minival/...                         train is 00000 to 00799, val 00800 to 00899, minival the first ten of val

Never read: .semantic.glb, and .navmesh, as the floor is found in the mesh. z is up in all of them. To be had, after its terms
are agreed to, from https://github.com/matterport/habitat-matterport-3dresearch.

The published script walks 3,000 times through each scene (sources/scene.py says how). The rival MultiView-Habitat was made of the
800 scenes of train, and val is held out: so one split is taken, train unless another is asked for.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from ...errors import LeftOutError
from ...render.load import Up
from ..footage import Input, named
from ..scene import WalkedScenes, Walks
from .roots import missing, places, roots

Split = Literal["train", "val", "minival"]
SPLITS: tuple[str, ...] = get_args(Split)
_FOLDER = re.compile(r"\d{5}-(.+)")


@dataclass(frozen=True, kw_only=True)
class Hm3d(Walks):
    """Walks through the scenes of one split of HM3D. Give the folder that holds train/ and val/, or one of these.

    A folder of scenes that neither is a split nor holds one is taken whole, and the run says so.
    """

    split: Split = "train"
    """Which scenes: those of val only where this says so."""
    up: Up | None = "z"
    """Which axis of the files points up. In HM3D's it is z."""
    source = "hm3d"
    licence = "LicenseRef-HM3D-ToU"

    def __call__(self, paths: Iterable[Path], list_file: Path | None = None) -> WalkedScenes:
        """The scenes by the names of their folders, as 00800-TEEsavR23oF, each once. Raises ConfigError for another layout."""
        found, remarks = [], []
        for root in roots("HM3D", paths, list_file):
            folder, split = self._folder(places(root, "hm3d")[-1])
            scenes = sorted(p for p in folder.iterdir() if _FOLDER.fullmatch(p.name) and p.is_dir())
            if not scenes:
                raise missing(folder, "HM3D", "00000-<scene>/<scene>.basis.glb")
            if split is None:
                remarks.append(f"{folder} has no {'/, '.join(SPLITS)}/: all of it is taken, whatever --source.split says")
            found += [
                Input(name=p.name, kind="scene", paths=(_mesh(p),), source=self.source, licence=self.licence, split=split)
                for p in scenes
            ]
        return self.through(replace(named(found), remark="; ".join(remarks)))

    def _folder(self, root: Path) -> tuple[Path, str | None]:
        """Where the scenes lie that are asked for, and their split; None where no folder tells."""
        there = [name for name in SPLITS if (root / name).is_dir()]
        own = Path(os.path.abspath(root)).name
        if not there and own not in SPLITS:
            return root, None
        known = there or [own]
        if self.split not in known:
            how = f"--recipe mimic_hm3d --source.split {known[0]}"
            raise LeftOutError(f"{root}: no {self.split} of HM3D, but {', '.join(known)}: add {how} to walk through it")
        return (root / self.split if there else root), self.split


def _mesh(folder: Path) -> Path:
    """The file of a scene: where there is neither, the one that should be there, which is then named as missing."""
    stem = folder.name.partition("-")[2]
    basis, plain = folder / f"{stem}.basis.glb", folder / f"{stem}.glb"
    return plain if plain.exists() and not basis.exists() else basis
