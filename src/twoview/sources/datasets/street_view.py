"""3DStreetView (Zamir et al. 2016, "Generic 3D Representation via Pose Estimation and Matching"): points of streets, many views.

Layout, as https://github.com/amir32002/3D_Street_View says under "Dataset Structure"; its links/ tell where the archives are:

    0003/<DatasetID>_<ImageID>_<ViewID>_<TargetID>.jpg     and .txt, which is not read

A tar archive is a rectangle of a map; its pictures with one TargetID show the same point in their middle. They lie flat in
the folder that it unpacks to. How deep that lies and what it is called does not matter: the name of a picture says what it shows.
Pictures with other names, sorted by somebody into a folder for each target, are one target by folder.

The archives come in two versions of the same pictures, dataset_aligned and dataset_unaligned: only one may be given. How test_set
is laid out is not documented, and it is not read.

The published script makes all pairs of a target's folder and keeps every one with 50 <= overlap <= 75: AllPairs(), overlap
(0.5, 0.75). That its folders are the targets of the documentation is our reading.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ...errors import ConfigError
from ..footage import Footage, Input, folders_in, named
from ..images import EXTENSIONS, natural_key
from .roots import missing, roots

MAX_UNNAMED = 100
"""A folder with more pictures that name no target is refused: one is seen in 2 to 7, and all pairs of thousands are millions."""
_NAME = re.compile(r"(\d+)_\d+_\d+_(\d+)")


@dataclass(frozen=True, kw_only=True)
class StreetView:
    """Finds the pictures of each target of 3DStreetView. Give the folder that the archives were unpacked in."""

    source = "street_view"
    licence = "LicenseRef-3DStreetView"

    def __call__(self, paths: Iterable[Path], list_file: Path | None = None) -> Footage:
        """The targets by dataset and id, as 0003/0000024; those without ids by their folder. Raises ConfigError: another layout."""
        found: list[Input] = []
        num_ignored = 0
        for root in roots("3DStreetView", paths, list_file):
            targets, ignored = _targets(root)
            num_ignored += ignored
            if not targets:
                raise missing(root, "3DStreetView", "<DatasetID>_<ImageID>_<ViewID>_<TargetID>.jpg, nor folders of pictures")
            for name in sorted(targets, key=lambda name: [natural_key(Path(part)) for part in name.split("/")]):
                pictures = tuple(targets[name])
                found.append(Input(name=name, kind="images", paths=pictures, source=self.source, licence=self.licence))
        return named(found, num_ignored)


def _targets(root: Path) -> tuple[dict[str, list[Path]], int]:
    """The pictures of each target below a folder, and the number of other files; the .txt are not counted."""
    targets: dict[str, list[Path]] = {}
    num_ignored = 0
    for folder, full_name in folders_in(root):
        unnamed = []
        for path in sorted((p for p in folder.iterdir() if not p.name.startswith(".")), key=natural_key):
            if path.suffix.lower() not in EXTENSIONS:
                num_ignored += path.suffix.lower() != ".txt" and path.is_file()
            elif match := _NAME.fullmatch(path.stem):
                targets.setdefault("/".join(match.groups()), []).append(path)
            else:
                unnamed.append(path)
        if len(unnamed) > MAX_UNNAMED:
            raise ConfigError(
                f"{folder}: {len(unnamed)} pictures, as {unnamed[0].name}, whose names tell no target, and too many to show one: "
                "give a folder with <DatasetID>_<ImageID>_<ViewID>_<TargetID>.jpg, or one for each target"
            )
        if unnamed:
            targets[full_name.partition("/")[2] or full_name] = unnamed
    for pictures in targets.values():
        once = {p.name: p for p in pictures}
        if len(once) < len(pictures):
            one, other = next((p, once[p.name]) for p in pictures if once[p.name] != p)
            raise ConfigError(f"{one} is {other} again, aligned or not: give the folder of one version")
    return targets, num_ignored
