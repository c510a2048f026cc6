"""The page of a dataset: what was kept, what was refused and why, and pairs to look at."""

from .page import write_report

__all__ = ["write_report"]
