"""twoview: verified two-view training pairs from footage that nobody annotated."""

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .curation.measure import measure

__all__ = ["__version__", "measure"]


def __getattr__(name: str) -> object:
    """`twoview.measure` without paying for OpenCV at `import twoview`."""
    if name == "measure":
        from .curation.measure import measure

        return measure
    raise AttributeError(f"module 'twoview' has no attribute {name!r}")
