"""Inputs: a table and what is said about its rows become plain arrays.

The one place that finds batch, kept and nuisance columns (an argument, a column of
the table, an index level, a column position), aligns them to the rows, and decides
which are factors and which are numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils.multiclass import type_of_target

from ..core.design import Column, Factor, Number, repr_label
from ..exceptions import AlignmentError, BatchfixError, MissingLabelError
from .tables import is_polars

LARGEST_INTEGER = 2.0**53
LARGEST_NUMBER = 1e100


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
    array = np.asarray(values.astype(object) if isinstance(values, pd.Series) else unmasked(values))
    missing = np.asarray(pd.isna(array))
    if missing.any():
        raise MissingLabelError(
            f"Every row must have a label in {what}, got none for {_first_rows(missing)}. "
            "Fill them in or leave these rows out."
        )
    if array.dtype.kind == "O" and len(array):
        array = _typed(array, what)
    if array.dtype.kind == "f":
        whole = np.isfinite(array) & (array == np.round(array)) & (np.abs(array) <= LARGEST_INTEGER)
        if not whole.all():
            raise BatchfixError(
                f"Labels in {what} must be strings or integers, got {repr_label(array[~whole][0])}. "
                "Give names, or round what was measured."
            )
        return array.astype(np.int64)
    if array.dtype.kind not in "iubUM":
        raise BatchfixError(f"Labels in {what} must be strings or integers, got dtype {array.dtype}. Convert them.")
    return array


def _typed(array: np.ndarray, what: str) -> np.ndarray:
    """Objects as the one type that all of them have."""
    kind = pd.api.types.infer_dtype(array, skipna=False)
    types: dict[str, Any] = {"string": str, "integer": np.int64, "boolean": bool, "floating": np.float64}
    zoned = any(getattr(v, "tzinfo", None) is not None for v in array[:1])
    if not zoned:
        types |= dict.fromkeys(("datetime64", "datetime", "date"), "datetime64[ns]")
    if kind in types:
        try:
            return array.astype(types[kind])
        except OverflowError:
            kind = "integers beyond 64 bits"
    found = sorted({type(v).__name__ for v in array.tolist()})
    raise BatchfixError(
        f"Labels in {what} must be all strings or all integers, got {', '.join(found)} "
        f"({kind}). Convert them, for example with .astype(str)."
    )


def unmasked(values: Any) -> Any:
    """A masked array's hidden entries as missing."""
    if not isinstance(values, np.ma.MaskedArray):
        return values
    plain = np.array(values.data, dtype=object)
    plain[np.ma.getmaskarray(values)] = None
    return plain


def as_array(values: Any, what: str) -> np.ndarray:
    """Return labels as an array, lists entry by entry so that text and numbers stay apart."""
    values = unmasked(values)
    if isinstance(values, np.ndarray):
        return values
    if isinstance(values, pd.Categorical | pd.Index | pd.api.extensions.ExtensionArray):
        return np.asarray(values, dtype=object)
    try:
        return np.asarray(values, dtype=object)
    except ValueError as error:
        raise BatchfixError(f"{what} must have rows of one length, got several lengths. Fill them up.") from error


def as_numbers(values: Any, what: str) -> np.ndarray:
    """Return a numeric column as finite float64."""
    try:
        values = unmasked(values)
        missing = np.asarray(pd.isna(values))
        objects = np.asarray(values, dtype=object).copy()
        objects[missing] = np.nan
        array = objects.astype(np.float64)
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
    spread = float(np.ptp(array)) if len(array) else 0.0
    if np.abs(array).max(initial=0.0) > LARGEST_NUMBER or 0 < spread < 1 / LARGEST_NUMBER:
        raise BatchfixError(
            f"Column {what} must have squares that fit float64, got values up to {np.abs(array).max():.1g} that differ "
            f"by {spread:.1g}. Change its unit."
        )
    return array


def as_column(
    name: str, values: Any, role: str, factors: Iterable[str], numbers: Iterable[str]
) -> tuple[Column, np.ndarray]:
    """Decide what a column is by its dtype: float is a number, text a factor, integer ambiguous."""
    what = f"{name!r}"
    dtype = getattr(values, "dtype", None)
    categorical = isinstance(dtype, pd.CategoricalDtype)
    if isinstance(dtype, pd.CategoricalDtype) and pd.api.types.is_float_dtype(dtype.categories):
        values = values.astype(object).map(str, na_action="ignore")
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
    length = len(values) if np.ndim(values) else 0
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
    if isinstance(values, pd.Categorical):
        values = pd.Series(values, index=index)
    if isinstance(values, Mapping):
        names = [str(k) for k in values]
        if len(set(names)) < len(names):
            raise BatchfixError(f"Columns of {what} must have different names, got {names}.")
        return {str(k): align(_flat(v, str(k)), index, n, f"{what}[{k!r}]") for k, v in values.items()}
    if not is_frame(values):
        values = as_array(values, what)
        if values.ndim == 0:
            raise BatchfixError(
                f"{what} must be a table or columns of values, got {values.item()!r}. "
                f"To name columns of X use {what}_keys."
            )
    values = align(values, index, n, what)
    if isinstance(values, pd.DataFrame):
        names = [str(c) for c in values.columns]
        if len(set(names)) < len(names):
            raise BatchfixError(f"Columns of {what} must have different names, got {names}.")
        return {name: values.iloc[:, k] for k, name in enumerate(names)}
    if isinstance(values, pd.Series):
        return {f"{what}0" if values.name is None else str(values.name): values}
    if values.ndim == 1:
        return {f"{what}0": values}
    if values.ndim != 2:
        raise BatchfixError(f"{what} must have one or two dimensions, got {values.ndim}.")
    return {f"{what}{k}": values[:, k] for k in range(values.shape[1])}


def is_frame(values: Any) -> bool:
    """Whether these labels may carry an index or names."""
    return isinstance(values, pd.Series | pd.DataFrame) or is_polars(values)


def _flat(values: Any, name: str) -> Any:
    if isinstance(values, pd.Categorical):
        return pd.Series(values)
    if is_frame(values):
        return values
    array = as_array(values, f"Column {name!r}")
    if array.ndim != 1:
        raise BatchfixError(f"Column {name!r} must have one dimension, got {array.ndim}.")
    return array


def as_batch(values: Any, index: pd.Index | None, n: int) -> list[np.ndarray]:
    """Return batch labels as one array a factor; a single label stands for all rows."""
    if not is_frame(values):
        values = as_array(values, "batch")
        if values.ndim == 0:
            if bool(pd.isna(values.item())):
                raise MissingLabelError(f"batch must be a label, got {values.item()!r}. Name the batch of these rows.")
            return [as_labels(np.repeat(values, n), "batch")]
    values = align(values, index, n, "batch")
    if isinstance(values, pd.DataFrame):
        return [as_labels(values.iloc[:, k], "batch") for k in range(values.shape[1])]
    if isinstance(values, pd.Series) or values.ndim == 1:
        return [as_labels(values, "batch")]
    if values.ndim != 2:
        raise BatchfixError(f"batch must have one or two dimensions, got {values.ndim}.")
    return [as_labels(values[:, k], "batch") for k in range(values.shape[1])]


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
