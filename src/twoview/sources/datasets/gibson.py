"""Gibson: scans of 572 buildings, to be walked through.

Layout of the archives for Habitat (gibson_habitat.zip, gibson_habitat_trainval.zip), as
https://github.com/facebookresearch/habitat-lab/blob/main/DATASETS.md shows it:

    gibson/<Scene>.glb      and <Scene>.navmesh, which is not read: the floor is found in the mesh

z is up. To be had, after its terms are agreed to, by way of https://github.com/StanfordVL/GibsonEnv/blob/master/gibson/data/README.md.
The other archives (<Scene>/mesh_z_up.obj) are not read.

The published script walks 3,000 times through each scene (sources/scene.py says how). The paper measures reconstruction on 500
pictures of Gibson; which scenes they are of is not known. Here about a tenth of the scenes is held out for it: `held_out`.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ...errors import LeftOutError
from ...render.load import Up
from ..footage import Input, named
from ..scene import WalkedScenes, Walks
from .roots import missing, places, roots


def held_out(name: str) -> bool:
    """Whether a scene, as Adrian, is kept for measuring: where the sha256 of its name, read as a number, ends in the digit 0.

    So of about one in ten, whatever else there is on a disk.
    """
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % 10 == 0


@dataclass(frozen=True, kw_only=True)
class Gibson(Walks):
    """Walks through Gibson's scenes. Give the folder that holds the .glb files, or the one that gibson/ lies in."""

    part: Literal["train", "held_out"] = "train"
    """train: without the scenes that are held out for measuring reconstruction, about one in ten; held_out: only these."""
    up: Up | None = "z"
    """Which axis of the files points up. In Gibson's it is z."""
    source = "gibson"
    licence = "LicenseRef-Gibson-ToU"

    def __call__(self, paths: Iterable[Path], list_file: Path | None = None) -> WalkedScenes:
        """The scenes by their names, as Adrian, each once. Raises ConfigError for another layout, and where all are left out."""
        given = roots("Gibson", paths, list_file)
        found = [item for root in given for item in self._scenes(root)]
        wanted = [item for item in found if item.split == self.part]
        left = len(found) - len(wanted)
        if found and not wanted:
            other, which = ("held_out", "held out") if self.part == "train" else ("train", "for training")
            where = ", ".join(map(str, given))
            how = f"--recipe mimic_gibson --source.part {other}"
            raise LeftOutError(f"{where}: every scene of it ({left}) is {which}: add {how} to walk through them")
        remark = f"held out for measuring reconstruction, and left out: {left} of {len(found)} scenes"
        return self.through(replace(named(wanted, left), remark=remark if left and self.part == "train" else ""))

    def _scenes(self, root: Path) -> list[Input]:
        files: dict[str, Path] = {}
        for suffix in (".glb", ".navmesh"):  # what has only the latter is a scene too, whose file is then named as missing
            for place in places(root, "gibson", "gibson_habitat"):
                for path in place.glob(f"[!.]*{suffix}"):
                    files.setdefault(path.stem, path.with_suffix(".glb"))
        if not files:
            raise missing(root, "Gibson", "<Scene>.glb, nor gibson/<Scene>.glb")
        return [
            Input(
                name=name,
                kind="scene",
                paths=(path,),
                source=self.source,
                licence=self.licence,
                split="held_out" if held_out(name) else "train",
            )
            for name, path in sorted(files.items())
        ]
