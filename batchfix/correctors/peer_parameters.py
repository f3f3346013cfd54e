"""Parameters of comparisons among peers that contradict each other, and the sentences that say so."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np

from ..exceptions import BatchfixError


def check_combination(model: Any) -> None:
    """Refuse parameters that do not go together.

    Raises
    ------
    BatchfixError
        Which of them, and what to choose instead.
    """
    long = model.within is not None
    if long and model.groups is not None:
        raise BatchfixError(
            "A table must be wide (groups=) or long (within=, by=); got groups= and within= together. Keep one."
        )
    if model.by is not None and not long:
        raise BatchfixError(
            f"by names groups within a date, whose column or level must be named in within=; got by={model.by!r} and "
            "within=None. Name both."
        )
    if isinstance(model.within, Sequence) and not len(model.within):
        raise BatchfixError(
            "within must name the column or level of the date; got none. Leave it None for a wide table."
        )
    if model.symbol is not None and not long:
        raise BatchfixError(
            "symbol names a key of a long table, whose dates must be named in within=; got "
            f"symbol={model.symbol!r} and within=None. Name both."
        )
    _check_clip(model.winsorize)
    kind = f"method={model.method!r}, center={model.center!r} and scale={model.scale!r}"
    if model.method == "zscore" and model.center != "median" and model.scale != "mad":
        return
    for name, given in (("leave_one_out", model.leave_one_out), ("shrinkage", model.shrinkage is not None)):
        if given:
            raise BatchfixError(
                f"{name} goes with means and standard deviations of z-scores; got {kind}. Leave {name} at its default, "
                "or choose those."
            )
    if model.method != "zscore" and model.winsorize is not None:
        raise BatchfixError(
            f"Ranks do not need extremes to be cut; got winsorize={model.winsorize!r} with method={model.method!r}. "
            "Choose one."
        )


def _check_clip(clip: Any) -> None:
    number = isinstance(clip, Real) and not isinstance(clip, bool)
    fine = clip is None or (number and 0 < float(clip) < np.inf)
    if isinstance(clip, tuple | list) and len(clip) == 2:
        fine = all(isinstance(q, Real) for q in clip) and 0 <= clip[0] < clip[1] <= 1
    if not fine:
        raise BatchfixError(
            "winsorize must be two quantiles, 0 <= low < high <= 1, or a number of standard deviations above 0; got "
            f"{clip!r}. (0.01, 0.99) cuts a hundredth at either end."
        )


def check_neutralized(model: Any) -> None:
    """Refuse parameters that change the groups' means, which are fitted together with the exposures."""
    for name, default in (("leave_one_out", False), ("shrinkage", None), ("min_group_size", 1), ("center", "mean")):
        value = getattr(model, name)
        if value != default:
            raise BatchfixError(
                f"Neutralizing fits the groups' means and the exposures together; got {name}={value!r}, which changes "
                "those means. Leave it at its default."
            )


def check_weighted(model: Any) -> None:
    """Refuse weights where nothing is a weighted mean."""
    if model.method != "zscore" or model.center == "median" or model.scale == "mad":
        raise BatchfixError(
            f"Weights go with mean and standard deviation; got method={model.method!r}, center={model.center!r} and "
            f"scale={model.scale!r}. Leave the weights out, or choose center='mean', scale='std'."
        )
