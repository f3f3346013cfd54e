"""Attributes: what every fitted corrector has, whatever it was fitted to.

A fitted corrector flows in; an error comes out where one of its attributes is missing, which would be found out in the
middle of a correction otherwise.
"""

from __future__ import annotations

from typing import Any

_ALL = ("_consumed", "_numbered", "n_features_in_")
_BATCHES = (*_ALL, "_adapted", "_batch_names", "_features", "_labelled", "_solution", "statistics_")
_RATIOS = (*_ALL, "_features", "_fitted_kind")
_ROWS = (*_ALL, "_depth", "_exposures", "_mode", "group_names_")

FITTED: dict[str, tuple[str, ...]] = {
    "BatchCorrector": _BATCHES,
    "ComBat": _BATCHES,
    "LinearCorrector": (*_BATCHES, "_removes"),
    "RenormCorrector": (*_BATCHES, "_bridged", "_eps", "_steps", "population_"),
    "LogRatio": (*_RATIOS, "zeros_"),
    "CompositionalCorrector": (*_RATIOS, "_inner", "_ratio_names", "corrector_", "log_ratio_", "scale_of_input_"),
    "InstanceCorrector": (*_ROWS, "_grouping"),
    "GroupCorrector": _ROWS,
    "CausalCorrector": (*_ALL, "_asked", "last_time_", "state_", "symbols_", "time_kind_", "window_"),
}
"""By class; what only some fits leave, as names of features, or what a constructor makes, is not listed."""


def check_attributes(corrector: Any) -> None:
    """Raise ValueError where a fitted corrector, or one inside it, lacks an attribute, or its names are no names."""
    name = type(corrector).__name__
    held = vars(corrector)
    lacking = [each for each in FITTED[name] if each not in held]
    if lacking:
        raise ValueError(f"a fitted {name} must have {lacking[0]}")
    names = held.get("feature_names_in_")
    if names is not None and not all(isinstance(each, str) for each in names.ravel().tolist()):
        raise ValueError("names of features must be text")
    for inner in ("corrector_", "log_ratio_"):
        if held.get(inner) is not None:
            check_attributes(held[inner])
