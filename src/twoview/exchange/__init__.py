"""Pairs for other programs, and from them."""

from .exporting import EXPORTS, Exported, export
from .importing import Imported, import_pairs
from .remake import Remade, RemadeScene, remake

__all__ = ["EXPORTS", "Exported", "Imported", "Remade", "RemadeScene", "export", "import_pairs", "remake"]
