"""batchfix takes the differences between batches out of a table, and keeps what it was asked to keep.

Choose which cells share statistics. Estimate their moments. Shrink them if they are few. Map them affinely.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import correctors, datasets, exceptions, pp

if TYPE_CHECKING:
    from . import diagnostics as diagnostics
    from . import nn as nn
    from .adapters.blocks import fit_blocks as fit_blocks
    from .adapters.blocks import transform_blocks as transform_blocks
    from .adapters.federation import load_moments as load_moments
    from .adapters.federation import save_moments as save_moments
    from .adapters.storage import load_model as load_model
    from .adapters.storage import save_model as save_model
    from .adapters.torch import to_torch as to_torch
    from .correctors import BatchCorrector as BatchCorrector
    from .correctors import CausalCorrector as CausalCorrector
    from .correctors import ComBat as ComBat
    from .correctors import CompositionalCorrector as CompositionalCorrector
    from .correctors import GroupCorrector as GroupCorrector
    from .correctors import InstanceCorrector as InstanceCorrector
    from .correctors import LinearCorrector as LinearCorrector
    from .correctors import LogRatio as LogRatio
    from .correctors import RenormCorrector as RenormCorrector

__version__ = "0.1.0"

ADAPTERS = {
    "fit_blocks": "blocks",
    "load_model": "storage",
    "load_moments": "federation",
    "save_model": "storage",
    "save_moments": "federation",
    "to_torch": "torch",
    "transform_blocks": "blocks",
}
"""Functions by the module of `adapters` that they are in."""

__all__ = [
    "BatchCorrector",
    "CausalCorrector",
    "ComBat",
    "CompositionalCorrector",
    "GroupCorrector",
    "InstanceCorrector",
    "LinearCorrector",
    "LogRatio",
    "RenormCorrector",
    "datasets",
    "diagnostics",
    "exceptions",
    "fit_blocks",
    "load_model",
    "load_moments",
    "pp",
    "save_model",
    "save_moments",
    "transform_blocks",
]


def __getattr__(name: str) -> Any:
    """What is imported when it is first asked for: `nn` and `to_torch` need torch, the others take their time."""
    if name in correctors.HOMES:
        return getattr(correctors, name)
    if name in ("nn", "diagnostics"):
        return import_module(f".{name}", __name__)
    if name in ADAPTERS:
        return getattr(import_module(f".adapters.{ADAPTERS[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *ADAPTERS, "nn"})
