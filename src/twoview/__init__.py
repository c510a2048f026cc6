"""twoview: verified two-view training pairs from footage that nobody annotated."""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .curation.measure import measure
    from .dataset import Dataset, PairSample
    from .dataset import open_dataset as open
    from .schema import Match, Row

__all__ = ["Dataset", "Match", "PairSample", "Row", "__version__", "measure", "open"]

_WHERE = {
    "Dataset": "dataset:Dataset",
    "Match": "schema:Match",
    "PairSample": "dataset:PairSample",
    "Row": "schema:Row",
    "measure": "curation.measure:measure",
    "open": "dataset:open_dataset",
}


def __getattr__(name: str) -> object:
    """The public names without paying for Arrow and OpenCV at `import twoview`."""
    if name not in _WHERE:
        raise AttributeError(f"module 'twoview' has no attribute {name!r}")
    module, _, attribute = _WHERE[name].partition(":")
    return getattr(import_module(f".{module}", __name__), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
