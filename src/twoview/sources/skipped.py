"""Scenes that a rule of their dataset leaves out. They have no frames, and say why."""

from dataclasses import replace

import numpy as np

from ..schema import Frame, SceneInfo


class Skipped:
    """A scene without frames: nothing is proposed in it, scenes/ and the summary say why, and it counts as no error."""

    def __init__(self, about: SceneInfo, why: str) -> None:
        """about: as its source's `about` knows it; why: what and where it is, and the rule."""
        self.name, self.licence, self.times_s = about.scene, about.licence, np.zeros(0)
        self.info = replace(about, status="skipped", error=why)

    def __len__(self) -> int:
        return 0

    def __getitem__(self, index: int) -> Frame:
        raise IndexError(f"{self.name} has no frames: {self.info.error}")
