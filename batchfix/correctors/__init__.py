"""Correctors: scikit-learn transformers over the core, each imported when it is first asked for."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .batch import BatchCorrector as BatchCorrector
    from .causal import CausalCorrector as CausalCorrector
    from .combat import ComBat as ComBat
    from .compositional import CompositionalCorrector as CompositionalCorrector
    from .group import GroupCorrector as GroupCorrector
    from .instance import InstanceCorrector as InstanceCorrector
    from .linear import LinearCorrector as LinearCorrector
    from .log_ratio import LogRatio as LogRatio
    from .renorm import RenormCorrector as RenormCorrector

HOMES = {
    "BatchCorrector": "batch",
    "CausalCorrector": "causal",
    "ComBat": "combat",
    "CompositionalCorrector": "compositional",
    "GroupCorrector": "group",
    "InstanceCorrector": "instance",
    "LinearCorrector": "linear",
    "LogRatio": "log_ratio",
    "RenormCorrector": "renorm",
}
"""Which module each is in."""

__all__ = list(HOMES)


def __getattr__(name: str) -> Any:
    """A corrector, from its module."""
    if name in HOMES:
        return getattr(import_module(f".{HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *HOMES})
