"""What the generators' arguments must be: each check passes in silence, or says what must hold and what came."""

from __future__ import annotations

from math import inf
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..exceptions import BatchfixError


def check_count(name: str, value: Any, least: int, most: float = inf) -> None:
    """A whole number from `least` to `most`."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be an integer, got {value!r}.")
    if value < least:
        raise BatchfixError(f"{name} must be at least {least}, got {value!r}.")
    if int(value) > most:
        raise BatchfixError(f"{name} must be at most {most}, got {value!r}.")


def check_counts(*rules: tuple[str, Any, int, float]) -> None:
    """Whole numbers: each rule is a name, its value, the least and the most it may be."""
    for rule in rules:
        check_count(*rule)


def check_number(name: str, value: Any, least: float, most: float) -> None:
    """A real number from `least` to `most`, finite."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r}.")
    if not least <= float(value) <= most:
        raise BatchfixError(f"{name} must be between {least:g} and {most:g}, got {value!r}.")


def check_numbers(*rules: tuple[str, Any, float, float]) -> None:
    """Real numbers: each rule is a name, its value, the least and the most it may be."""
    for rule in rules:
        check_number(*rule)


def float_type(dtype: DTypeLike) -> np.dtype[Any]:
    """Either of the types that a table of measurements may have."""
    try:
        kind = np.dtype(dtype)
    except TypeError:
        kind = np.dtype(object)
    if kind not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise TypeError(f"dtype must be float32 or float64, got {dtype!r}.")
    return kind


def generator(random_state: Any) -> np.random.Generator:
    """Source of random numbers for a seed; a Generator is used as it stands, and moves on."""
    try:
        return np.random.default_rng(random_state)
    except (TypeError, ValueError) as error:
        raise TypeError(
            "random_state must be None, a non-negative integer, or a numpy Generator or SeedSequence, "
            f"got {random_state!r}."
        ) from error
