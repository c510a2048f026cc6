"""The ten sources of the paper, each read from its official distribution as it lies on a user's disk: one file for each."""

from .arkitscenes import ArkitScenes
from .mannequin import Mannequin
from .objectron import Objectron

__all__ = ["ArkitScenes", "Mannequin", "Objectron"]
