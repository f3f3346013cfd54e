"""Rowwise: what correctors share whose statistics belong to rows, or to a column's own past.

A table flows in, wide (a row a date, a column a stock) or long (a row a date and symbol, a column a factor; dates and
symbols in key columns or index levels). Numbers and keys flow out; after the arithmetic, the caller's kind of table,
its index, and further columns beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils._set_output import _get_output_config
from sklearn.utils.validation import _check_feature_names_in, check_array, validate_data

from ..core import blocks
from ..core.naming import some
from ..exceptions import BatchfixError, CopyWarning
from .notices import warn
from .tables import Key, float_types, is_polars, plain, refuse_lazy, take_keys


@dataclass(frozen=True)
class Table:
    """A table once its keys are out.

    Attributes
    ----------
    values : array (n, p), float64 or float32
        NaN is missing. It may be the caller's own memory: only read it.
    keys : dict
        Key columns and index levels, each a Series or array of n labels, as they came.
    index : Index or None
        Of a pandas table.
    names : list
        Names of the p columns as the caller has them; x0, x1, ... where they have none.
    source : DataFrame, polars DataFrame or array
        What came.
    """

    values: np.ndarray
    keys: dict[Key, Any]
    index: pd.Index | None
    names: list[Any]
    source: Any


class RowwiseCorrector(TransformerMixin, BaseEstimator):
    """Reads tables and gives the same kind back.

    A subclass reads with `_read`, computes on `Table.values`, and returns `_wrap(out, table, names)`; its
    `get_feature_names_out` is `_features_out(input_features)` and the names of further columns.
    """

    n_features_in_: int
    feature_names_in_: np.ndarray
    copy: bool
    _consumed: list[Key]
    _numbered: list[Any] | None

    def _read(self, X: Any, keys: Sequence[Key] = (), *, reset: bool) -> Table:
        """Take the keys out of a table and check the rest: against fit, or (`reset`) as fit's own.

        Raises
        ------
        BatchfixError
            Values that are not numbers, keys that are not there, other columns than in fit.
        """
        refuse_lazy(X)
        rest, taken = _split(X, list(keys))
        values = check_array(
            plain(rest), dtype=float_types(rest), ensure_all_finite=False, estimator=self, input_name="X"
        )
        names = list(rest.columns) if hasattr(rest, "columns") else [f"x{j}" for j in range(values.shape[1])]
        self._check_columns(X, values.shape[1], keys, reset=reset)
        return Table(values, taken, X.index if isinstance(X, pd.DataFrame) else None, names, X)

    def _check_columns(self, source: Any, width: int, keys: Sequence[Key], *, reset: bool) -> None:
        """Names and number of columns, as scikit-learn checks them; keys count as columns."""
        names = list(source.columns) if hasattr(source, "columns") else None
        numbered = None
        if names is not None and not all(isinstance(name, str) for name in names):
            numbered = [
                name if isinstance(name, str | int | float | tuple | np.generic) else str(name) for name in names
            ]
        if names is not None and numbered is None:
            validate_data(self, source, reset=reset, skip_check_array=True)
        else:  # nothing named, or by numbers, dates, tuples: scikit-learn looks at text alone
            total = width + len(keys) if names is None else len(names)
            validate_data(self, np.empty((1, total)), reset=reset, skip_check_array=True)
        if reset:
            self._numbered = numbered
            self._consumed = [k for k in keys if k in names] if names is not None else [int(k) % total for k in keys]
        elif numbered is not None and self._numbered is not None and numbered != self._numbered:
            raise BatchfixError(
                f"Columns of X must be those of fit, in their order: {some(self._numbered, 3)}; got "
                f"{some(numbered, 3)}. Use X[columns of fit]."
            )

    def _features_out(self, input_features: Any = None) -> list[str]:
        """Names of the columns that are numbers, as text: those of fit without its keys."""
        names = [str(name) for name in _check_feature_names_in(self, input_features)]
        if input_features is None and self._numbered is not None:
            names = [str(name) for name in self._numbered]
        if self._numbered is not None:
            gone = {self._numbered.index(k) for k in self._consumed}
        elif hasattr(self, "feature_names_in_"):
            known = list(self.feature_names_in_)
            gone = {known.index(k) for k in self._consumed}
        else:
            gone = {int(k) for k in self._consumed}
        return [name for j, name in enumerate(names) if j not in gone]

    def _output_for(self, table: Table) -> np.ndarray:
        """Fresh memory for the result, or the table's own where copy=False can be honoured (else a warning)."""
        values, source = table.values, table.source
        if self.copy:
            return np.empty(values.shape, dtype=values.dtype)
        why = ""
        if not isinstance(source, np.ndarray):
            why = f"X is a {type(source).__name__}"
        elif source.dtype != values.dtype or not np.shares_memory(source, values):
            why = f"X has dtype {source.dtype} or columns that are consumed"
        elif not values.flags.writeable:
            why = "X is read-only"
        if not why:
            return values
        warn(
            f"copy=False must be given a writable float32 or float64 ndarray, but {why}: X is unchanged, and the "
            "result is a new array.",
            CopyWarning,
        )
        return np.empty(values.shape, dtype=values.dtype)

    def _wrap(self, out: np.ndarray, table: Table, names: Sequence[Any]) -> Any:
        """Give back the caller's kind of table, unless set_output asked for another.

        Parameters
        ----------
        out : array (n, q)
        table : Table
            What `_read` returned.
        names : sequence of q
            Names of the columns.
        """
        if _get_output_config("transform", self)["dense"] != "default":
            return out
        return self._as_given(out, table, names)

    def _as_given(self, out: np.ndarray, table: Table, names: Sequence[Any]) -> Any:
        """Give back the caller's kind of table, as `_wrap`; set_output speaks of transform alone."""
        if isinstance(table.source, pd.DataFrame):
            return pd.DataFrame(out, index=table.index, columns=_column_index(table.source, names), copy=False)
        if is_polars(table.source):
            return type(table.source)(out, schema=[str(name) for name in names], orient="row")
        return out

    def __sklearn_tags__(self) -> Any:
        """Declare that NaN is allowed and float32 is kept."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _split(X: Any, keys: list[Key]) -> tuple[Any, dict[Key, Any]]:
    """`take_keys`, without a copy of the rest of a DataFrame."""
    if not (isinstance(X, pd.DataFrame) and keys and X.columns.nlevels == 1 and X.columns.is_unique):
        return take_keys(X, keys)
    if not all(k in X.columns and k not in X.index.names for k in keys):
        return take_keys(X, keys)
    rest = X.copy(deep=False)
    for key in keys:
        del rest[key]  # drop(), and a slice too, would copy what stays
    return rest, {k: X[k] for k in keys}


def _column_index(source: pd.DataFrame, names: Sequence[Any]) -> Any:
    """The source's own columns where nothing was added or taken, so that their type and name stay."""
    if len(names) == source.shape[1] and list(source.columns) == list(names):
        return source.columns
    return list(names) if source.columns.nlevels == 1 else pd.Index(list(names), tupleize_cols=False)


def refuse_infinite(values: np.ndarray) -> None:
    """Refuse infinity anywhere in a table; NaN is missing.

    Raises
    ------
    BatchfixError
        It says where the first one is.
    """
    n, p = values.shape
    for a, b in blocks.spans(0, n, blocks.rows_per_chunk(p, values.nbytes)):
        infinite = np.isinf(values[a:b])
        if infinite.any():
            i, j = np.argwhere(infinite)[0]
            raise BatchfixError(
                f"X must be finite or NaN (missing); got infinity, first in row {a + int(i)}, column {int(j)}. "
                "Replace infinities by NaN, or find the division or logarithm they came from."
            )
