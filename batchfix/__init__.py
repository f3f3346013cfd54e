"""batchfix takes the differences between batches out of a table, and keeps what it was asked to keep.

Choose which cells share statistics. Estimate their moments. Shrink them if they are few. Map them affinely.
"""

from typing import TYPE_CHECKING, Any

from . import datasets, exceptions, pp
from .correctors import BatchCorrector, ComBat, CompositionalCorrector, LinearCorrector, LogRatio

if TYPE_CHECKING:
    from . import nn as nn
    from .adapters.torch import to_torch as to_torch

__version__ = "0.1.0"

__all__ = [
    "BatchCorrector",
    "ComBat",
    "CompositionalCorrector",
    "LinearCorrector",
    "LogRatio",
    "datasets",
    "exceptions",
    "pp",
]


def __getattr__(name: str) -> Any:
    """`nn` and `to_torch` are imported when they are first asked for: they need torch, and the rest does not."""
    if name == "nn":
        from importlib import import_module

        return import_module(".nn", __name__)
    if name == "to_torch":
        from .adapters.torch import to_torch

        return to_torch
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), "nn", "to_torch"})
