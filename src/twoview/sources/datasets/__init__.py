"""The ten sources of the paper, each read from its official distribution as it lies on a user's disk: one file for each."""

from .arkitscenes import ArkitScenes
from .demon import Demon
from .mannequin import Mannequin
from .objectron import Objectron
from .scannet import ScanNet

__all__ = ["ArkitScenes", "Demon", "Mannequin", "Objectron", "ScanNet"]
