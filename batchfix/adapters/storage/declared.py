"""Declared types: whether attributes and fields are what their class says they are.

A class and values by name flow in; an error comes out where one is of another type than its annotation. That keeps a
file that was made by hand from putting text where arrays are used.
"""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Sequence
from typing import Any

import numpy as np


def check_types(cls: type, values: dict[str, Any]) -> None:
    """Raise ValueError where a value is not of the type that its class declares, as far as it declares one.

    Examples
    --------
    >>> class Row:
    ...     name: str
    ...     values: np.ndarray | None
    >>> check_types(Row, {"name": "r1", "values": None, "more": 3})
    >>> check_types(Row, {"values": "1, 2"})
    Traceback (most recent call last):
    ...
    ValueError: values of Row is a str, and should be numpy.ndarray | None
    """
    hints = _hints(cls)
    for name, value in values.items():
        if name in hints and not _fits(value, hints[name]):
            raise ValueError(f"{name} of {cls.__name__} is a {type(value).__name__}, and should be {hints[name]}")


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a declared type; of containers the outermost type counts, of tuples of one kind all."""
    if hint is Any:
        return True
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, each) for each in inside)
    if origin is tuple and inside[-1:] == (...,):
        return isinstance(value, tuple) and all(_fits(each, inside[0]) for each in value)
    wanted = origin or hint
    if not isinstance(wanted, type):
        return True
    if wanted is float:
        return isinstance(value, float | int | np.floating | np.integer) and not isinstance(value, bool)
    if wanted is int:
        return isinstance(value, int | np.integer) and not isinstance(value, bool)
    if wanted is bool:
        return isinstance(value, bool | np.bool_)
    return isinstance(value, wanted) or (wanted is Sequence and isinstance(value, np.ndarray))


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    """Types that a class declares of its attributes and fields."""
    return typing.get_type_hints(cls)
