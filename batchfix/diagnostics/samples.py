"""Samples: a table and what is known about its rows, as plain arrays in the same order.

Tables, labels and columns in any container flow in; floats, names, codes and design columns flow out. What carries an
index is aligned by it. Whatever stands in the way of a number is refused here, in a sentence.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from ..core import blocks
from ..core.design import repr_label
from ..core.naming import some
from ..core.projection import indicators
from ..correctors import columns as kinds
from ..correctors import inputs
from ..correctors.tables import NUMERIC_OBJECTS, plain, refuse_lazy
from ..exceptions import AmbiguousKeepError, BatchfixError, TooFewSamplesError


@dataclass(frozen=True)
class Samples:
    """A table as numbers.

    Attributes
    ----------
    values : array (n, p), float64 or float32
        Finite, or NaN for missing. It may be the caller's own memory: only read it.
    index : Index or None
        Of a pandas table.
    features : Index
        Names of the columns; 0 .. p - 1 where they have none.
    """

    values: np.ndarray
    index: pd.Index | None
    features: pd.Index

    def __len__(self) -> int:
        return len(self.values)

    @property
    def rows(self) -> pd.Index:
        """What the rows are called; 0 .. n - 1 where nothing is."""
        return pd.RangeIndex(len(self.values)) if self.index is None else self.index


def read_samples(X: Any, what: str = "", *, name: str = "X") -> Samples:
    """Read a table of samples x features.

    Parameters
    ----------
    what : str
        What cannot be had where a value is missing, as in "A PERMANOVA"; empty where it can.

    Raises
    ------
    BatchfixError
        It is no table of numbers, is empty, holds infinity, or NaN where there must be none.
    """
    refuse_lazy(X)
    if sparse.issparse(X):
        raise BatchfixError(f"{name} must be dense, got a sparse matrix. Use {name}.toarray().")
    if isinstance(X, pd.DataFrame):
        _refuse_text(X, name)
    index = X.index if isinstance(X, pd.DataFrame) else None
    columns = pd.Index(X.columns) if hasattr(X, "columns") else None
    numbers_only = plain(X)
    try:
        values = np.asarray(numbers_only)
        if np.iscomplexobj(values):
            raise TypeError("complex numbers")
        if values.dtype not in (np.float32, np.float64):
            values = (
                numbers_only.to_numpy(dtype=np.float64, na_value=np.nan)
                if isinstance(numbers_only, pd.DataFrame)
                else values.astype(np.float64)
            )
    except (TypeError, ValueError) as error:
        raise BatchfixError(f"{name} must be a table of real numbers, got {type(X).__name__} ({error}).") from error
    if values.ndim != 2 or not values.size:
        raise BatchfixError(
            f"{name} must be a table with samples in rows and features in columns, got shape {values.shape}. "
            f"{'For one feature use X.reshape(-1, 1).' if values.ndim == 1 else 'Pass samples x features.'}"
        )
    _refuse_values(values, what, name)
    return Samples(values, index, pd.RangeIndex(values.shape[1]) if columns is None else columns)


def _refuse_text(X: pd.DataFrame, name: str) -> None:
    """Refuse columns of text, which are labels more often than not."""
    if all(map(pd.api.types.is_numeric_dtype, set(X.dtypes))):
        return
    text = [
        column
        for column, dtype in X.dtypes.items()
        if not pd.api.types.is_numeric_dtype(dtype)
        and not (
            pd.api.types.is_object_dtype(dtype)
            and X.columns.is_unique
            and pd.api.types.infer_dtype(X[column], skipna=True) in NUMERIC_OBJECTS
        )
    ]
    if text and X.columns.is_unique:
        raise BatchfixError(
            f"{name} must be numbers, got text, categories or dates in {some(text)}. Drop these columns, and pass what "
            "are labels apart from the table."
        )


def _refuse_values(values: np.ndarray, what: str, name: str) -> None:
    """Refuse infinity, and NaN where `what` cannot be had with it."""
    missing = 0
    for a, b in blocks.spans(0, len(values), blocks.rows_per_chunk(values.shape[1], values.nbytes)):
        part = values[a:b]
        if not np.isfinite(part).all():
            if np.isinf(part).any():
                i, j = np.argwhere(np.isinf(part))[0]
                raise BatchfixError(
                    f"{name} must be finite, got infinity, first in row {a + int(i)}, column {int(j)}. "
                    "Find the division or logarithm it came from."
                )
            missing += int(np.isnan(part).sum())
    if missing and what:
        raise BatchfixError(
            f"{what} needs every value of every sample, got {name} with {missing:,} missing. Leave those features or "
            "samples out, or fill them in; feature_effects takes each feature as far as it was observed."
        )


def read_labels(values: Any, samples: Samples, what: str) -> inputs.Labels:
    """One label a row, of two levels at least, as codes into sorted levels.

    Raises
    ------
    AlignmentError
        They do not belong to these rows.
    BatchfixError
        They are not labels, or all are the same.
    """
    if values is None or (not inputs.is_named(values) and np.ndim(values) == 0):
        raise BatchfixError(
            f"{what} must hold one label for each of the {len(samples)} rows of X, got {values!r}. "
            "Pass a list, an array or a column."
        )
    columns = inputs.as_columns(values, samples.index, len(samples), what)
    if len(columns) != 1:
        raise BatchfixError(f"{what} must be one column of labels, got {len(columns)}. Pass one of them.")
    (column,) = columns.values()
    labels = inputs.Labels.of(inputs.as_labels(column, what))
    if len(labels.values) < 2:
        raise BatchfixError(
            f"{what} must have two levels at least for a difference between them, got {repr_label(labels.values[0])} "
            "in every row."
        )
    return labels


def one_hot(labels: inputs.Labels) -> np.ndarray:
    """Design columns (n, levels) of labels."""
    return indicators(labels.codes, len(labels.values))


def name_of(values: Any, otherwise: str) -> str:
    """What a column calls itself."""
    if hasattr(values, "columns") and len(values.columns) == 1:
        return str(next(iter(values.columns)))
    name = getattr(values, "name", None)
    return otherwise if name is None or callable(name) else str(name)


def read_columns(values: Any, samples: Samples, what: str) -> dict[str, np.ndarray]:
    """Design columns (n, q) of each column, by name: text, bool and category are factors, fractions are numbers.

    Raises
    ------
    AmbiguousKeepError
        Whole numbers could be either.
    """
    if values is not None and not inputs.is_named(values) and np.ndim(values) == 0:
        raise BatchfixError(
            f"{what} must be a table or a column with a value for each of the {len(samples)} rows of X, got {values!r}."
        )
    found = inputs.as_columns(values, samples.index, len(samples), what)
    design = {}
    for name, column in found.items():
        try:
            if len(found) > 1 and not inputs.is_named(values):
                kinds.check_codes(name, column)
            kind, read = kinds.as_column(name, column, "keep", (), ())
        except AmbiguousKeepError:
            raise AmbiguousKeepError(
                f"Column {name!r} of {what} must say whether it is a factor or a number, got whole numbers of three "
                "values or more. Make it a category if they are levels, or a float column of a DataFrame if they are "
                "amounts."
            ) from None
        design[name] = kind.encode(read)
    return design


def beside(columns: Iterable[np.ndarray], n: int) -> np.ndarray:
    """Design columns side by side."""
    return np.hstack([np.zeros((n, 0)), *columns])


def generator(random_state: Any) -> np.random.Generator:
    """Source of random numbers for None, a seed or a generator.

    Raises
    ------
    BatchfixError
        It is none of them.
    """
    if isinstance(random_state, np.random.RandomState):
        random_state = random_state.randint(np.iinfo(np.int32).max)
    try:
        return np.random.default_rng(random_state)
    except (TypeError, ValueError) as error:
        raise BatchfixError(
            f"random_state must be None, a whole number from 0 on, or a numpy generator, got {random_state!r}."
        ) from error


def whole(name: str, value: Any, least: int) -> int:
    """A whole number of at least `least`.

    Raises
    ------
    BatchfixError
        It is not.
    """
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Integral) or value < least:
        raise BatchfixError(f"{name} must be a whole number of at least {least}, got {value!r}.")
    return int(value)


def refuse_too_few(what: str, n: int, levels: int, given_df: int, residual_df: int) -> None:
    """Refuse a design that leaves no degree of freedom over.

    Raises
    ------
    TooFewSamplesError
        Saying what takes them up.
    """
    if residual_df > 0:
        return
    alone = " (no two rows share one)" if levels == n else ""
    beside_it = f" beside {given_df} degrees of freedom of what is given" if given_df else ""
    raise TooFewSamplesError(
        f"There must be more samples than things to estimate, got {n} for {levels} levels of {what}{alone}{beside_it}. "
        "Merge levels, give less, or add samples."
    )


def in_columns_of(table: pd.DataFrame, columns: Any) -> pd.DataFrame:
    """A table with its columns in the order of others, where both have the same names; else as it is.

    Examples
    --------
    >>> in_columns_of(pd.DataFrame([[1, 2]], columns=["b", "a"]), ["a", "b"]).to_numpy().tolist()
    [[2, 1]]
    """
    wanted = None if columns is None else pd.Index(columns)
    if wanted is None or table.columns.equals(wanted) or not (wanted.is_unique and table.columns.is_unique):
        return table
    return table[wanted] if set(table.columns) == set(wanted) else table
