"""The ten sources of the paper, each read from its official distribution as it lies on a user's disk: one file for each."""

from .arkitscenes import ArkitScenes
from .co3d import Co3d
from .demon import Demon
from .gibson import Gibson
from .hm3d import Hm3d
from .mannequin import Mannequin
from .matterport import Matterport
from .objectron import Objectron
from .scannet import ScanNet
from .street_view import StreetView

__all__ = ["ArkitScenes", "Co3d", "Demon", "Gibson", "Hm3d", "Mannequin", "Matterport", "Objectron", "ScanNet", "StreetView"]
