"""Columns: which of what is kept (or removed) is a factor, and which is a number.

A column that has a dtype of its own says so by it: text, bool and category are factors, float is a number, integer
could be either. Columns of one array share a dtype, which therefore says nothing of whole numbers among them. What
could be either must be named in keep_factors or keep_numbers.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..core.design import Column, Factor, Number, repr_label
from ..core.naming import nearest, some
from ..exceptions import AmbiguousKeepError, BatchfixError, BatchfixWarning
from . import inputs
from .notices import warn

MANY_LEVELS = 10
MANY_SHARE = 0.2
"""A whole-number target of more levels than both, the latter a share of the rows, need not be classes."""

NUMERIC = ("floating", "mixed-integer-float", "decimal")


def declared(option: str, entries: Sequence[Any], columns: Collection[str]) -> set[str]:
    """Columns that an option names: by name, or by position in an array without names.

    Raises
    ------
    BatchfixError
        An entry names no column, or two.
    """
    found = set()
    for entry in entries:
        own = [str(entry)] if str(entry) in columns else []
        if not own and not isinstance(entry, str):
            own = [name for name in (f"keep{entry}", f"nuisance{entry}") if name in columns]
        if len(own) != 1:
            raise BatchfixError(
                f"{option} must name columns that are kept or removed ({some(columns, 8) or 'there are none'}), got "
                f"{entry!r}{', which is two of them' if own else nearest(entry, columns)}. Correct the name."
            )
        found.add(own[0])
    return found


def as_column(
    name: str, values: Any, role: str, factors: Collection[str], numbers: Collection[str]
) -> tuple[Column, np.ndarray]:
    """Decide what a column is by its dtype: float is a number, text a factor, integer ambiguous."""
    what = f"{name!r}"
    if name in numbers:
        return Number(name, role), inputs.as_numbers(values, what)
    categorical = isinstance(getattr(values, "dtype", None), pd.CategoricalDtype)
    if name not in factors and not categorical:
        kind = pd.api.types.infer_dtype(values, skipna=True)
        if kind in NUMERIC:
            return Number(name, role), inputs.as_numbers(values, what)
        if kind == "integer":
            labels = inputs.as_labels(values, what)
            return Factor(name, inputs.Labels.of(labels).values, role, loose=True), labels
        if kind in ("datetime64", "datetime", "date", "timedelta64", "timedelta", "complex"):
            raise BatchfixError(
                f"Column {what} must be a factor or a number, got {kind}. "
                "Convert it, for example to days since the first date."
            )
    labels = _levels(values, what)
    levels = inputs.Labels.of(labels).values
    if name not in factors and not categorical:
        _warn_of_numbers_as_text(name, levels, len(labels))
    return Factor(name, levels, role), labels


def as_in_fit(column: Column, values: Any) -> tuple[Column, np.ndarray]:
    """Read a column as what it was in fit, with the levels that it has here."""
    what = f"{column.name!r}"
    if not isinstance(column, Factor):
        return column, inputs.as_numbers(values, what)
    labels = _levels(values, what)
    return Factor(column.name, inputs.Labels.of(labels).values, column.role, column.loose), labels


def _levels(values: Any, what: str) -> np.ndarray:
    """Labels; those of a category are its names, also where these are fractions or intervals."""
    dtype = getattr(values, "dtype", None)
    if isinstance(dtype, pd.CategoricalDtype) and (
        pd.api.types.is_float_dtype(dtype.categories) or isinstance(dtype.categories.dtype, pd.IntervalDtype)
    ):
        whole = not isinstance(dtype.categories.dtype, pd.IntervalDtype) and (dtype.categories % 1 == 0).all()
        values = pd.Series(values).astype(object).map(int if whole else str, na_action="ignore")
    return inputs.as_labels(values, what)


def check_codes(name: str, values: Any) -> None:
    """Refuse a column of an array whose numbers read as codes: whole, none negative (as contrasts are), three or more.

    As many different ones as ages or years have are amounts.

    Raises
    ------
    AmbiguousKeepError
        Naming keep_factors and keep_numbers.
    """
    if pd.api.types.infer_dtype(values, skipna=True) not in NUMERIC:
        return
    numbers = inputs.as_numbers(values, f"{name!r}")
    if (numbers < 0).any() or (numbers != np.rint(numbers)).any():
        return
    levels = np.unique(numbers)
    if len(levels) > 2 and not _many(len(levels), len(numbers)):
        raise AmbiguousKeepError(
            f"Column {name!r} must say whether it is a factor or a number, got whole numbers ({_first(levels)}) in an "
            f"array, whose columns share one dtype. Name it, as in keep_factors=[{name!r}] or keep_numbers=[{name!r}], "
            "or pass a DataFrame."
        )


def _warn_of_numbers_as_text(name: str, levels: np.ndarray, n: int) -> None:
    """Say when a factor's levels are measurements written as text. A few codes, or ids, may well be levels."""
    if levels.dtype.kind != "U" or len(levels) < 3:
        return
    try:
        numbers = np.array([float(v) for v in levels.tolist()])
    except ValueError:
        return
    if (numbers != np.rint(numbers)).any() or (_many(len(levels), n) and len(levels) < n):
        warn(
            f"Column {name!r} holds numbers as text ({_first(levels)}) and is taken for a factor of {len(levels)} "
            f"levels. If it was measured, make it float or name it in keep_numbers=[{name!r}]; if not, in "
            f"keep_factors=[{name!r}].",
            BatchfixWarning,
        )


def y_column(
    y: Any, index: pd.Index | None, n: int, factors: Collection[str], numbers: Collection[str]
) -> tuple[Column, np.ndarray]:
    """The target as something to keep: classes are a factor, fractions a number, many whole numbers ambiguous."""
    values = _target(y, index, n)
    if "y" in numbers:
        return Number("y"), inputs.as_numbers(values, "'y'")
    categorical = isinstance(getattr(values, "dtype", None), pd.CategoricalDtype)
    if "y" not in factors and not categorical:
        kind = pd.api.types.infer_dtype(values, skipna=True)
        if kind in (*NUMERIC, "integer"):
            array = inputs.as_numbers(values, "'y'")
            if (array != np.rint(array)).any():
                return Number("y"), array
            check_classes(np.unique(array), n)
    labels = _levels(values, "'y'")
    return Factor("y", inputs.Labels.of(labels).values), labels


def y_as_in_fit(
    column: Column, y: Any, index: pd.Index | None, n: int, rows: int, factors: Collection[str]
) -> tuple[Column, np.ndarray]:
    """The target of `n` further rows, as what it was in the `rows` before them."""
    values = _target(y, index, n)
    if (
        not isinstance(column, Factor)
        or "y" in factors
        or isinstance(getattr(values, "dtype", None), pd.CategoricalDtype)
    ):
        return as_in_fit(column, values)
    if pd.api.types.infer_dtype(values, skipna=True) in NUMERIC:
        array = inputs.as_numbers(values, "'y'")
        if (array != np.rint(array)).any():
            raise BatchfixError(
                f"y must be of one kind throughout, got whole numbers, taken for classes, and then "
                f"{array[array != np.rint(array)][0].item()!r}. Set keep_numbers=['y'] for amounts, and start again."
            )
    read, labels = as_in_fit(column, values)
    if column.levels.dtype.kind == labels.dtype.kind == "i":
        check_classes(np.union1d(column.levels, labels), rows + n)
    return read, labels


def _target(y: Any, index: pd.Index | None, n: int) -> Any:
    """The one column that y is, in the order of the rows."""
    if y is None:
        raise BatchfixError("keep_y=True must be given y in fit, got None. Pass y, or keep_y=False.")
    columns = list(inputs.as_columns(y, index, n, "y").values())
    if len(columns) != 1:
        raise BatchfixError(f"keep_y=True must be given one target, got shape {(n, len(columns))}.")
    return columns[0]


def check_classes(levels: np.ndarray, n: int) -> None:
    """Refuse a target of so many whole numbers that they could be amounts.

    Raises
    ------
    AmbiguousKeepError
        More than MANY_LEVELS, and than MANY_SHARE of the rows.
    """
    if _many(len(levels), n):
        raise AmbiguousKeepError(
            f"y must say whether it is a factor or a number, got {len(levels)} different whole numbers "
            f"({_first(levels)}) in {n} rows. Set keep_numbers=['y'] for amounts, keep_factors=['y'] for classes."
        )


def _many(levels: int, n: int) -> bool:
    return levels > MANY_LEVELS and levels > MANY_SHARE * n


def _first(levels: np.ndarray) -> str:
    shown = ", ".join(repr_label(v) for v in levels[:4])
    return f"{shown}{', ...' if len(levels) > 4 else ''}"
