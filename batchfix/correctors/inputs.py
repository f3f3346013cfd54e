"""Inputs: what is said about the rows becomes plain columns, in the rows' order.

Labels, numbers and the containers they come in: what carries an index is aligned by its labels, everything else is
taken by position. Which columns are factors and which are numbers is decided in columns.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..core.design import repr_label
from ..exceptions import AlignmentError, BatchfixError, MissingLabelError
from .tables import is_polars, refuse_lazy

LARGEST_INTEGER = 2.0**53
LARGEST_NUMBER = 1e100
GAPS_AS_TEXT = ("nan", "NaT", "<NA>")
"""What a missing value turns into when an array is made text."""


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
    if array.dtype.kind == "u":  # one signed dtype throughout: uint64 and int64 meet in float64 only
        if array.max(initial=0) > np.iinfo(np.int64).max:
            raise BatchfixError(f"Labels in {what} must fit int64, got {array.max()}. Make them text: .astype(str).")
        return array.astype(np.int64)
    if array.dtype.kind not in "ibUM":
        raise BatchfixError(f"Labels in {what} must be strings or integers, got dtype {array.dtype}. Convert them.")
    if array.dtype.kind == "U":
        _check_text(array, what)
    return array


def _check_text(array: np.ndarray, what: str) -> None:
    """Refuse the words that a missing value leaves behind when labels are made text."""
    for word in GAPS_AS_TEXT:
        gap = array == word
        if gap.any():
            raise MissingLabelError(
                f"Every row must have a label in {what}, got the text {word!r} for {_first_rows(gap)}, which is what "
                "a missing value becomes as text. Fill them in, leave these rows out, or rename the label if it is one."
            )


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
        if values.dtype.kind == "V":
            raise BatchfixError(f"{what} must be plain columns, got dtype {values.dtype}. Make it a DataFrame.")
        return np.asarray(values)
    if isinstance(values, Iterable) and not hasattr(values, "__getitem__"):  # a set, a generator
        raise BatchfixError(
            f"{what} must be a list, an array or a column in the order of the rows, got {type(values).__name__}. "
            "Make it a list."
        )
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


# ---- containers


def align(values: Any, index: pd.Index | None, n: int, what: str) -> Any:
    """Put labels that carry an index in the order of the rows; count the others.

    Raises
    ------
    AlignmentError
        The index does not hold the same rows, or the length differs.
    """
    if isinstance(values, pd.Series | pd.DataFrame) and index is not None:
        if values.index.equals(index):
            return values
        if values.index.is_unique and index.is_unique and index.isin(values.index).all():
            return values.loc[index]
        lost = index[~index.isin(values.index)]
        why = (
            f"{len(lost)} of {n} row ids have none, {repr_label(lost[0])} for one"
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


def as_columns(values: Any, index: pd.Index | None, n: int, what: str) -> dict[str, Any]:
    """Return columns by name, in the order of the rows; those of an array are called keep0, keep1 and so on."""
    if values is None:
        return {}
    if is_named(values):
        names, columns = _by_name(values)
        if len(set(names)) < len(names):
            raise BatchfixError(f"Columns of {what} must have different names, got {names}.")
        if isinstance(values, pd.DataFrame):
            values = align(values, index, n, what)
            return {name: values.iloc[:, k] for k, name in enumerate(names)}
        return {
            name: align(_one_column(column, f"{what}[{name!r}]"), index, n, f"{what}[{name!r}]")
            for name, column in zip(names, columns, strict=True)
        }
    values = _unboxed(values, what)
    if values.ndim == 0:
        hint = "Pass one value a row." if what == "y" else f"To name columns of X use {what}_keys."
        raise BatchfixError(f"{what} must be a table or columns of values, got {values.item()!r}. {hint}")
    values = align(values, index, n, what)
    if isinstance(values, pd.Series) and values.name is not None:
        return {str(values.name): values}
    if values.ndim == 1:
        return {f"{what}0": values}
    if values.ndim != 2:
        raise BatchfixError(f"{what} must have one or two dimensions, got {values.ndim}.")
    return {f"{what}{k}": values[:, k] for k in range(values.shape[1])}


def is_named(values: Any) -> bool:
    """Whether these are columns with names: a table or a mapping."""
    return isinstance(values, Mapping | pd.DataFrame) or (is_polars(values) and type(values).__name__ != "Series")


def _by_name(values: Any) -> tuple[list[str], list[Any]]:
    if isinstance(values, Mapping):
        return [str(k) for k in values], list(values.values())
    if is_polars(values):
        refuse_lazy(values)
    names = list(values.columns)
    return [str(k) for k in names], [] if isinstance(values, pd.DataFrame) else [values[k] for k in names]


def _unboxed(values: Any, what: str) -> Any:
    """One column, or a nameless table, as a Series or Categorical if it is one, else as an array."""
    if isinstance(values, pd.CategoricalIndex):
        return values.array
    if isinstance(values, pd.Series | pd.Categorical):
        return values
    if is_polars(values):
        return values.to_numpy()
    return as_array(values, what)


def _one_column(values: Any, what: str) -> Any:
    refuse_lazy(values)
    if is_named(values) and not isinstance(values, Mapping) and values.shape[1] == 1:
        return values.iloc[:, 0] if isinstance(values, pd.DataFrame) else values.to_series().to_numpy()
    column = values if is_named(values) else _unboxed(values, what)
    if np.ndim(column) != 1:
        raise BatchfixError(f"{what} must be one column, got {np.ndim(column)} dimensions.")
    return column


def as_batch(values: Any, index: pd.Index | None, n: int) -> list[np.ndarray]:
    """Return batch labels as one array a factor; a single label stands for all rows."""
    return batch_factors(values, index, n)[1]


def batch_factors(values: Any, index: pd.Index | None, n: int) -> tuple[list[str], list[np.ndarray]]:
    """Names of the batch factors, none where they have none, and their labels; one label stands for all rows."""
    if not is_named(values):
        values = _unboxed(values, "batch")
        if values.ndim == 0:
            if bool(pd.isna(values.item())):
                raise MissingLabelError(f"batch must be a label, got {values.item()!r}. Name the batch of these rows.")
            return [], [as_labels(np.repeat(values, n), "batch")]
    columns = as_columns(values, index, n, "batch")
    if not columns:
        raise BatchfixError("batch must have a column of labels, got a table without columns. Pass labels.")
    labels = [as_labels(v, "batch" if len(columns) == 1 else f"batch[{name!r}]") for name, v in columns.items()]
    return list(columns) if is_named(values) else [], labels


def in_order_of(names: Sequence[str], known: Sequence[str], factors: list[np.ndarray]) -> list[np.ndarray]:
    """Batch factors in fit's order, found by name where both sides have names.

    Raises
    ------
    BatchfixError
        A factor of fit is not there, or another one is.
    """
    if not names or not known or max(len(names), len(known)) == 1:
        return factors
    if set(names) != set(known):
        raise BatchfixError(
            f"batch must have the factors of fit {list(known)}, got {list(names)}. Give the same columns, in any order."
        )
    return [factors[list(names).index(name)] for name in known]


def names_columns(values: Any, X: Any) -> bool:
    """Whether an argument holds names of X's columns or index levels, rather than what is in them."""
    if isinstance(values, str):
        names: list[Any] = [values]
    elif isinstance(values, list | tuple) and 0 < len(values) < len(X):
        names = list(values)
    else:
        return False
    known = [*getattr(X, "columns", ()), *getattr(getattr(X, "index", None), "names", ())]
    return all(isinstance(name, str) and name in known for name in names)
