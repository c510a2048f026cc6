"""The ten sources of the paper, each read from its official distribution as it lies on a user's disk: one file for each."""

from .demon import Demon
from .scannet import ScanNet

__all__ = ["Demon", "ScanNet"]
