"""Where frames come from. `find_footage` turns paths and lists into a Source; each kind of scene has a file of its own."""

from .footage import Footage, Input, find_footage
from .stereo import Stereo

__all__ = ["Footage", "Input", "Stereo", "find_footage"]
