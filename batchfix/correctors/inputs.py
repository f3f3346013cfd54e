"""Inputs: a table and what is said about its rows become plain arrays.

The one place that finds batch, kept and nuisance columns (an argument, a column of
the table, an index level, a column position), aligns them to the rows, and decides
which are factors and which are numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils.multiclass import type_of_target

from ..core.design import Column, Factor, Number, repr_label
from ..exceptions import AlignmentError, BatchfixError, MissingLabelError

Key = str | int


@dataclass(frozen=True)
class Labels:
    """Row labels as codes into sorted distinct values."""

    codes: np.ndarray
    values: np.ndarray

    @classmethod
    def of(cls, labels: np.ndarray) -> Labels:
        """Factorize clean labels (see `as_labels`)."""
        codes, found = pd.factorize(labels)
        values = np.asarray(found).astype(labels.dtype, copy=False)
        order = np.argsort(values, kind="stable")
        place = np.empty(len(order), dtype=np.intp)
        place[order] = np.arange(len(order))
        return cls(place[codes], values[order])


# ---- one column of labels or numbers


def _first_rows(bad: np.ndarray) -> str:
    at = np.flatnonzero(bad)
    shown = ", ".join(str(i) for i in at[:5])
    return f"{len(at)} row{'s' if len(at) > 1 else ''} (at {shown}{', ...' if len(at) > 5 else ''})"


def as_labels(values: Any, what: str) -> np.ndarray:
    """Return labels as an array of strings, integers, booleans or dates, without gaps.

    Raises
    ------
    MissingLabelError
        Some are missing.
    BatchfixError
        They are of mixed types, or fractions.
    """
    array = np.asarray(values.astype(object) if isinstance(values, pd.Series) else values)
    missing = np.asarray(pd.isna(array))
    if missing.any():
        raise MissingLabelError(
            f"Every row must have a label in {what}, got none for {_first_rows(missing)}. "
            "Fill them in or leave these rows out."
        )
    if array.dtype.kind == "O" and len(array):
        array = _typed(array, what)
    if array.dtype.kind == "f":
        whole = np.isfinite(array) & (array == np.round(array))
        if not whole.all():
            raise BatchfixError(
                f"Labels in {what} must be strings or integers, got {repr_label(array[~whole][0])}. "
                "Give names, or round what was measured."
            )
        return array.astype(np.int64)
    if array.dtype.kind not in "iubUMO":
        raise BatchfixError(f"Labels in {what} must be strings or integers, got dtype {array.dtype}. Convert them.")
    return array


def _typed(array: np.ndarray, what: str) -> np.ndarray:
    """Objects as the one type that all of them have."""
    kind = pd.api.types.infer_dtype(array, skipna=False)
    types: dict[str, Any] = {"string": str, "integer": np.int64, "boolean": bool, "floating": np.float64}
    types |= dict.fromkeys(("datetime64", "datetime", "date"), "datetime64[ns]")
    if kind not in types:
        found = sorted({type(v).__name__ for v in array.tolist()})
        raise BatchfixError(
            f"Labels in {what} must be all strings or all integers, got {', '.join(found)} "
            f"{'together' if len(found) > 1 else ''}. Convert them, for example with .astype(str)."
        )
    return array.astype(types[kind])


def as_numbers(values: Any, what: str) -> np.ndarray:
    """Return a numeric column as finite float64."""
    try:
        if isinstance(values, pd.Series):
            values = values.to_numpy(dtype=np.float64, na_value=np.nan)
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise BatchfixError(
            f"Column {what} must hold numbers, got {np.asarray(values).ravel()[:3].tolist()}. "
            "Name it among the factors, or convert it."
        ) from error
    if not np.isfinite(array).all():
        raise MissingLabelError(
            f"Every row must have a finite value in {what}, got none for "
            f"{_first_rows(~np.isfinite(array))}. Fill them in or leave these rows out."
        )
    return array


def as_column(
    name: str, values: Any, role: str, factors: Iterable[str], numbers: Iterable[str]
) -> tuple[Column, np.ndarray]:
    """Decide what a column is by its dtype: float is a number, text a factor, integer ambiguous."""
    what = f"{name!r}"
    dtype = getattr(values, "dtype", None)
    categorical = isinstance(dtype, pd.CategoricalDtype)
    if name in numbers:
        return Number(name, role), as_numbers(values, what)
    if name not in factors and not categorical:
        kind = pd.api.types.infer_dtype(values, skipna=True)
        if kind in ("floating", "mixed-integer-float", "decimal"):
            return Number(name, role), as_numbers(values, what)
        if kind == "integer":
            labels = as_labels(values, what)
            return Factor(name, Labels.of(labels).values, role, loose=True), labels
        if kind in ("datetime64", "datetime", "date", "timedelta64", "timedelta", "complex"):
            raise BatchfixError(
                f"Column {what} must be a factor or a number, got {kind}. "
                "Convert it, for example to days since the first date."
            )
    labels = as_labels(values, what)
    return Factor(name, Labels.of(labels).values, role), labels


# ---- containers


def is_polars(X: Any) -> bool:
    """Whether X is a polars DataFrame or Series (without importing polars)."""
    return type(X).__module__.split(".")[0] == "polars"


def align(values: Any, index: pd.Index | None, n: int, what: str) -> Any:
    """Put labels that carry an index in the order of the rows; count the others.

    Raises
    ------
    AlignmentError
        The index does not hold the same rows, or the length differs.
    """
    if is_polars(values):
        values = values.to_numpy() if hasattr(values, "to_frame") else _polars_dict(values)
    if isinstance(values, pd.Series | pd.DataFrame) and index is not None:
        if values.index.equals(index):
            return values
        if values.index.is_unique and index.is_unique and index.isin(values.index).all():
            return values.loc[index]
        lost = index[~index.isin(values.index)]
        why = (
            f"{len(lost)} of {n} row ids have none, {lost[0]!r} for one"
            if len(lost)
            else "ids are repeated and stand in another order"
        )
        raise AlignmentError(
            f"The index of {what} must hold the rows of X, got an index in which {why}. "
            f"Give {what} X's index, or pass it as an array (.to_numpy()) if it is in X's order."
        )
    length = len(values)
    if length != n:
        raise AlignmentError(
            f"{what} must have one entry a row of X, got {length} for {n} rows. Pass the labels of these very rows."
        )
    return values


def _polars_dict(frame: Any) -> pd.DataFrame:
    return pd.DataFrame({name: frame[name].to_numpy() for name in frame.columns})


def as_columns(values: Any, index: pd.Index | None, n: int, what: str) -> dict[str, Any]:
    """Return kept or nuisance columns by name, in the order of the rows."""
    if values is None:
        return {}
    if isinstance(values, Mapping):
        return {str(k): align(_flat(v, str(k)), index, n, f"{what}[{k!r}]") for k, v in values.items()}
    if np.ndim(values) == 0 and not isinstance(values, pd.Series | pd.DataFrame):
        raise BatchfixError(
            f"{what} must be a table or columns of values, got {values!r}. To name columns of X use {what}_keys."
        )
    values = align(values, index, n, what)
    if isinstance(values, pd.DataFrame):
        if not values.columns.is_unique:
            twice = values.columns[values.columns.duplicated()][0]
            raise BatchfixError(f"Columns of {what} must have different names, got {twice!r} twice.")
        return {str(c): values[c] for c in values.columns}
    if isinstance(values, pd.Series):
        return {f"{what}0" if values.name is None else str(values.name): values}
    array = np.asarray(values)
    if array.ndim == 1:
        return {f"{what}0": array}
    if array.ndim != 2:
        raise BatchfixError(f"{what} must have one or two dimensions, got {array.ndim}.")
    return {f"{what}{k}": array[:, k] for k in range(array.shape[1])}


def _flat(values: Any, name: str) -> Any:
    if isinstance(values, pd.Series) or is_polars(values):
        return values
    array = np.asarray(values)
    if array.ndim != 1:
        raise BatchfixError(f"Column {name!r} must have one dimension, got {array.ndim}.")
    return array


def as_batch(values: Any, index: pd.Index | None, n: int) -> list[np.ndarray]:
    """Return batch labels as one array a factor; a single label stands for all rows."""
    if np.ndim(values) == 0 and not isinstance(values, pd.Series | pd.DataFrame):
        scalar = np.asarray(values)
        if bool(np.any(pd.isna(scalar))):
            raise MissingLabelError(f"batch must be a label, got {values!r}. Name the batch of these rows.")
        return [as_labels(np.repeat(scalar, n), "batch")]
    values = align(values, index, n, "batch")
    if isinstance(values, pd.DataFrame):
        return [as_labels(values.iloc[:, k], "batch") for k in range(values.shape[1])]
    if isinstance(values, pd.Series | pd.Categorical | pd.Index):
        return [as_labels(pd.Series(values), "batch")]
    # a list of strings and numbers must not become all strings on the way
    array = np.asarray(values, dtype=object) if isinstance(values, list | tuple) else np.asarray(values)
    if array.ndim == 1:
        return [as_labels(array, "batch")]
    if array.ndim != 2:
        raise BatchfixError(f"batch must have one or two dimensions, got {array.ndim}.")
    return [as_labels(array[:, k], "batch") for k in range(array.shape[1])]


def y_column(y: Any, index: pd.Index | None, n: int) -> tuple[Column, np.ndarray]:
    """The target as something to keep: classes are a factor, real numbers a number."""
    if y is None:
        raise BatchfixError("keep_y=True must be given y in fit, got None. Pass y, or keep_y=False.")
    y = align(y, index, n, "y")
    if isinstance(y, pd.DataFrame):
        y = y.iloc[:, 0] if y.shape[1] == 1 else y.to_numpy()
    if np.ndim(y) != 1:
        y = np.asarray(y)
        if y.ndim != 2 or y.shape[1] != 1:
            raise BatchfixError(f"keep_y=True must be given one target, got shape {y.shape}.")
        y = y[:, 0]
    dtype = getattr(y, "dtype", np.asarray(y).dtype)
    numeric = isinstance(dtype, np.dtype) and dtype.kind == "f"
    if numeric and type_of_target(as_numbers(y, "y")) == "continuous":
        return Number("y"), as_numbers(y, "y")
    labels = as_labels(y, "y")
    return Factor("y", Labels.of(labels).values), labels


# ---- columns of the table itself


def take_keys(X: Any, keys: Sequence[Key], optional: Iterable[Key] = ()) -> tuple[Any, dict[Key, Any]]:
    """Split a table into its features and the columns named by keys.

    A string names a column (which leaves the table) or an index level of a DataFrame;
    an integer is a column position, on arrays. Optional keys may be absent.
    """
    if not keys:
        return X, {}
    if isinstance(X, pd.DataFrame):
        return _take_from_frame(X, keys, set(optional))
    if is_polars(X):
        return _take_from_polars(X, keys, set(optional))
    array = X if isinstance(X, np.ndarray) else np.asarray(X)
    named = [k for k in keys if not isinstance(k, int | np.integer) or isinstance(k, bool)]
    if named:
        raise BatchfixError(
            f"A key of an array must be a column position, got {named[0]!r}. "
            "Pass a DataFrame, or the position of the column."
        )
    if array.ndim != 2:
        raise BatchfixError(
            f"X must have two dimensions for keys to name columns, got {array.ndim}. Expected 2D array."
        )
    positions = []
    for key in keys:
        if not -array.shape[1] <= int(key) < array.shape[1]:
            raise BatchfixError(f"Key {key} must be a column of X, got {array.shape[1]} columns.")
        positions.append(int(key) % array.shape[1])
    rest = np.delete(array, positions, axis=1)
    return rest, {k: array[:, j] for k, j in zip(keys, positions, strict=True)}


def _take_from_frame(X: pd.DataFrame, keys: Sequence[Key], optional: set[Key]) -> tuple[pd.DataFrame, dict[Key, Any]]:
    taken: dict[Key, Any] = {}
    drop = []
    for key in keys:
        in_columns, in_index = key in X.columns, key in X.index.names
        if in_columns and in_index:
            raise BatchfixError(f"Key {key!r} must name a column or an index level, got both. Rename one of them.")
        if in_columns:
            column = X[key]
            if isinstance(column, pd.DataFrame):
                raise BatchfixError(
                    f"Key {key!r} must name one column, got {column.shape[1]} of that name. Rename them."
                )
            taken[key] = column
            drop.append(key)
        elif in_index:
            taken[key] = pd.Series(X.index.get_level_values(key), index=X.index, name=key)
        elif isinstance(key, int | np.integer) and not isinstance(key, bool):
            raise BatchfixError(
                f"A key of a DataFrame must be a column name, got the position {key!r}. Positions are for arrays."
            )
        elif key not in optional:
            near = ", ".join(repr(str(c)) for c in list(X.columns)[:5])
            raise BatchfixError(
                f"Key {key!r} must name a column or an index level of X, got columns {near}"
                f"{', ...' if X.shape[1] > 5 else ''} and index levels {list(X.index.names)}."
            )
    return X.drop(columns=drop), taken


def _take_from_polars(X: Any, keys: Sequence[Key], optional: set[Key]) -> tuple[Any, dict[Key, Any]]:
    taken = {key: X[key].to_numpy() for key in keys if key in X.columns}
    lost = [key for key in keys if key not in taken and key not in optional]
    if lost:
        raise BatchfixError(f"Key {lost[0]!r} must name a column of X, got {X.columns[:5]}.")
    return X.drop(list(taken)), taken
