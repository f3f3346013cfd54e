"""Beside a table: weights and exposures of its cells, rows or columns, in the table's order.

What carries labels is aligned by them; everything else is taken by position, and its shape says what it describes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from ..core.naming import some
from ..exceptions import AlignmentError, BatchfixError
from .grouping import absent, aligned
from .inputs import unmasked
from .rowwise import Table
from .tables import NUMERIC_OBJECTS, is_polars


def of_cells(values: Any, table: Table, what: str, *, long: bool) -> np.ndarray:
    """Numbers beside the cells of a table: (n, p), or (p,) for a wide table's columns, (n,) for a long table's rows.

    Raises
    ------
    BatchfixError
        They are no numbers, or belong to other cells.
    """
    n, p = table.values.shape
    index = table.index
    if is_polars(values):  # columns have names, rows have none
        values, index = (values.to_pandas(), None) if hasattr(values, "columns") else (values.to_numpy(), None)
    if isinstance(values, pd.DataFrame):
        array = aligned(values, index, table.names, n, what).to_numpy()
    elif isinstance(values, pd.Series | Mapping):
        array = _one_axis(pd.Series(values), table, what, long=long).to_numpy()
    else:
        try:
            array = np.asarray(unmasked(values))
        except ValueError as error:
            raise BatchfixError(
                f"{what} must be a table, rows of one length; got rows of several. Fill them up."
            ) from error
    array = _floats(array, what)
    line = (n,) if long else (p,)
    if array.shape not in (line, (n, p)):
        raise AlignmentError(
            f"{what} must have one number a {'row' if long else 'column'} of X, or one a cell; got shape {array.shape} "
            f"for {n} rows and {p} columns. Pass those of these very cells."
        )
    return array


def _one_axis(series: pd.Series, table: Table, what: str, *, long: bool) -> pd.Series:
    """A Series by row of a long table, by column of a wide one."""
    wanted = table.index if long else pd.Index(table.names)
    if wanted is None or series.index.equals(wanted):
        return series
    if isinstance(series.index, pd.RangeIndex) and not hasattr(table.source, "columns"):
        return series
    lost = absent(wanted, series.index)
    if len(lost) or not series.index.is_unique:
        why = f"got none for {some(lost.tolist(), 3)}" if len(lost) else "its labels are repeated, in another order"
        raise AlignmentError(
            f"{what} must have the {'rows' if long else 'columns'} of X; {why}. Give it their labels, or pass an array "
            "in X's order."
        )
    return series.loc[wanted]


def _floats(array: np.ndarray, what: str) -> np.ndarray:
    flat = array.reshape(-1)
    fine = array.dtype.kind in "biuf"
    if array.dtype == object:
        fine = pd.api.types.infer_dtype(flat, skipna=True) in NUMERIC_OBJECTS
        flat = np.where(pd.isna(flat), np.nan, flat) if fine else flat
    if not fine:
        raise BatchfixError(f"{what} must be numbers; got {[str(v) for v in flat[:3]]}. Convert them.")
    return flat.astype(np.float64, copy=False).reshape(array.shape)


def weights(values: np.ndarray, X: np.ndarray, *, long: bool) -> np.ndarray:
    """Check weights: finite and not negative wherever X is observed.

    Raises
    ------
    BatchfixError
        Some are not.
    """
    of_cell = values[:, None] if long and values.ndim == 1 else values
    bad = ~(of_cell >= 0) | np.isinf(of_cell)
    if not bad.any():
        return values
    bad = np.broadcast_to(bad, X.shape) & ~np.isnan(X)
    if bad.any():
        worst = np.broadcast_to(of_cell, X.shape)[bad][0]
        raise BatchfixError(
            f"Weights must be finite and 0 or more wherever X is observed; got {float(worst)!r} in {int(bad.sum())} "
            "cell(s). Fill them in, or make these cells of X NaN."
        )
    return np.where(np.isfinite(values), np.abs(values), 0.0)


def equal(one: Any, two: Any) -> bool:
    """Whether two parameters say the same: None, a name, numbers by position, or by name."""
    named = [isinstance(v, pd.Series | Mapping) for v in (one, two)]
    if all(named):
        return dict(one) == dict(two)
    if any(named) or one is None or two is None or isinstance(one, str) or isinstance(two, str):
        return one is two or (isinstance(one, str) and isinstance(two, str) and one == two)
    return np.array_equal(np.asarray(one), np.asarray(two))


def exposures(given: Any, named: list[Any], table: Table, *, long: bool) -> tuple[list[str], np.ndarray | None]:
    """Names and numbers of exposures: (p, k) or (n, p, k) of a wide table, (n, k) of a long one.

    Parameters
    ----------
    given
        Names to arrays; of a long table also a DataFrame with a column each. Or None.
    named
        Names to take, of `given` or of the key columns of a long table; none: all that are given.
    """
    found: dict[str, Any] = {}
    if given is not None:
        if is_polars(given):
            given = {name: given[name].to_numpy() for name in given.columns}
        if isinstance(given, pd.DataFrame) and long:
            given = {name: given[name] for name in given.columns}
        if not isinstance(given, Mapping):
            raise BatchfixError(
                f"exposures must name each exposure, as a dict {{'size': table, ...}}; got {type(given).__name__}."
            )
        found = {str(name): values for name, values in given.items()}
        if len(found) < len(given):
            twins = [name for name in given if sum(str(other) == str(name) for other in given) > 1]
            raise BatchfixError(
                f"Exposures must have different names as text; got {twins[0]!r} and {twins[1]!r}. Rename one of them."
            )
    if long:
        found |= {str(name): table.keys[name] for name in named if name in table.keys}
    wanted = [str(name) for name in named] or list(found)
    lost = [name for name in wanted if name not in found]
    if lost:
        raise BatchfixError(
            f"neutralize must name exposures that are there; got {lost[0]!r}, and exposures= has "
            f"{some(found) or 'none'}. Pass them as exposures={{name: values}}."
        )
    if not wanted:
        return [], None
    arrays = [_exposure(found[name], table, f"exposures[{name!r}]", long=long) for name in wanted]
    if any(array.ndim == 2 for array in arrays):
        arrays = [np.broadcast_to(array, table.values.shape) for array in arrays]
    return wanted, np.stack(arrays, axis=-1)


def _exposure(values: Any, table: Table, what: str, *, long: bool) -> np.ndarray:
    array = of_cells(values, table, what, long=long)
    if long and array.ndim == 2:
        raise AlignmentError(f"{what} must have one number a row of X; got shape {array.shape}.")
    if np.isinf(array).any():
        raise BatchfixError(f"{what} must be finite or NaN (the cell is left out); got infinity. Replace it by NaN.")
    return array
