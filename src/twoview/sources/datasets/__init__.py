"""The ten sources of the paper, each read from its official distribution as it lies on a user's disk: one file for each."""

from .co3d import Co3d
from .gibson import Gibson
from .hm3d import Hm3d
from .matterport import Matterport
from .street_view import StreetView

__all__ = ["Co3d", "Gibson", "Hm3d", "Matterport", "StreetView"]
