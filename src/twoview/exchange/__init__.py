"""Pairs for other programs, and from them."""

from .exporting import EXPORTS, Exported, export
from .importing import Imported, import_pairs

__all__ = ["EXPORTS", "Exported", "Imported", "export", "import_pairs"]
