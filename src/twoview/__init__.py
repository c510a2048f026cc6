"""twoview: verified two-view training pairs from footage that nobody annotated."""

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

try:
    __version__ = version("twoview")
except PackageNotFoundError:  # run from a checkout that was never installed
    __version__ = "0"

if TYPE_CHECKING:
    from .measure import measure

__all__ = ["__version__", "measure"]


def __getattr__(name: str) -> object:
    """`twoview.measure` without paying for OpenCV at `import twoview`."""
    if name == "measure":
        from .measure import measure

        return measure
    raise AttributeError(f"module 'twoview' has no attribute {name!r}")
