"""Amounts: a table of counts, proportions or percentages, apart from the columns that say which batch a row is in.

A table and what is said about its rows flow in; plain amounts that a composition can have, and labels, flow out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import issparse
from sklearn.utils.validation import _check_feature_names_in

from ..exceptions import BatchfixError
from . import inputs
from .columns import check_codes
from .rows import RowReader, compare, names_in
from .tables import Key, refuse_lazy, take_keys


@dataclass(frozen=True)
class Amounts:
    """A table of amounts apart from its keys, and what is said about its rows."""

    values: np.ndarray
    labels: dict[str, Any]
    source: Any

    @property
    def index(self) -> pd.Index | None:
        """Row labels, where the table has them."""
        return self.source.index if isinstance(self.source, pd.DataFrame) else None

    def batch(self) -> inputs.Labels:
        """Batch of each row; one for all where nothing was said."""
        n = len(self.values)
        given = self.labels.get("batch")
        return inputs.Labels.of(inputs.as_batch("all rows" if given is None else given, self.index, n)[0])

    def bare(self) -> dict[str, Any]:
        """What is said about the rows, in their order and without an index."""
        n, found = len(self.values), {}
        for what, given in self.labels.items():
            if isinstance(given, pd.DataFrame | pd.Series):
                found[what] = inputs.align(given, self.index, n, what).reset_index(drop=True)
            elif isinstance(given, Mapping):
                columns = inputs.as_columns(given, self.index, n, what)
                found[what] = pd.DataFrame({k: getattr(v, "array", v) for k, v in columns.items()})
            else:
                found[what] = given
        return found

    def labels_of(self, rows: np.ndarray) -> dict[str, Any]:
        """What is said about some of the rows, in their order and without an index."""
        n, found = len(self.values), {}
        for what, given in self.labels.items():
            if what == "batch":
                found[what] = inputs.as_batch(given, self.index, n)[0][rows]
            elif given is not None:
                columns = inputs.as_columns(given, self.index, n, what)
                some = {k: v.iloc[rows].array if hasattr(v, "iloc") else v[rows] for k, v in columns.items()}
                found[what] = pd.DataFrame(some)
        return found


class AmountReader(RowReader):
    """Finds keys in a table of amounts and checks the rest."""

    _inner: Any
    _named: dict[str, list[Key]]

    def _keys(self) -> dict[str, list[Key]]:
        return self._named

    def _read(self, X: Any, labels: dict[str, Any], *, reset: bool) -> Amounts:
        """Keys out of the table, and the rest as floats of 0 or more."""
        refuse_lazy(X)
        if issparse(X):
            X = X.toarray()
        for what, named in self._named.items():
            if named and labels.get(what) is not None:
                raise BatchfixError(
                    f"{what} must come from the argument or from {what}_key{'s' if what != 'batch' else ''}, got "
                    f"both ({named!r}). Drop one."
                )
            self._refuse_names(what, labels.get(what), X, reset=reset)
        flat = [key for named in self._named.values() for key in named]
        optional = [] if reset else [k for what, named in self._named.items() if what != "batch" for k in named]
        parts, taken = take_keys(X, flat, optional)
        values = self._validate(X, parts, flat, reset=reset)
        self._check_amounts(values)
        found = {what: given for what, given in labels.items() if given is not None}
        for what, named in self._named.items():
            columns = {str(key): taken[key] for key in named if key in taken}
            if what == "batch" and len(columns) == 1:
                found[what] = next(iter(columns.values()))
            elif columns:
                found[what] = pd.DataFrame(columns)
                if reset and what != "batch" and not hasattr(X, "columns"):
                    self._check_array_columns(columns)
        return Amounts(values, found, X)

    def _part_names(self, input_features: Any = None) -> np.ndarray:
        """Names of the parts, as text; those of an array are x0, x1 and so on."""
        if input_features is None and self._numbered is not None:
            return np.array([str(name) for name in self._numbered], dtype=object)
        return np.asarray(_check_feature_names_in(self, input_features), dtype=object)[self._features]

    def _same_columns(self, X: Any, names: Iterable[Any]) -> None:
        """Refuse a corrected table whose columns have names, and other ones than those given out, or another order."""
        named = self._numbered is not None or hasattr(self, "feature_names_in_")
        if named and hasattr(X, "columns"):
            compare([str(name) for name in names], [str(name) for name in X.columns])

    def _check_array_columns(self, columns: dict[str, Any]) -> None:
        """Columns of an array share its dtype, which says nothing of whole numbers among them."""
        declared = {str(k) for name in ("keep_factors", "keep_numbers") for k in names_in(getattr(self._inner, name))}
        for name, values in columns.items():
            if name not in declared:
                check_codes(name, values)

    def _check_amounts(self, values: np.ndarray) -> None:
        if values.shape[1] < 2:
            raise BatchfixError(
                f"A composition must have two parts or more, got {values.shape[1]} feature(s). One part alone is "
                "always the whole."
            )
        lowest = values.min(initial=0.0)
        if np.isnan(lowest):
            row, column = np.argwhere(np.isnan(values))[0]
            raise BatchfixError(
                f"Every part must have an amount, got NaN in {int(np.isnan(values).sum())} cell(s), first for "
                f"{self._feature(int(column))} in row {row}. Put 0 where a part was looked for and not found, or leave "
                "the part or the row out."
            )
        if lowest < 0:
            row, column = np.argwhere(values < 0)[0]
            raise BatchfixError(
                f"Negative values in data, which must be amounts of 0 or more; got {values[row, column]!s} for "
                f"{self._feature(int(column))} in row {row}. Give counts, proportions or percentages, before any "
                "logarithm or centring."
            )
        if np.isinf(values.max(initial=0.0)):
            row, column = np.argwhere(np.isinf(values))[0]
            raise BatchfixError(
                f"Amounts must be finite, got inf for {self._feature(int(column))} in row {row}. Look for the division "
                "or overflow it came from."
            )


def scale_of(values: np.ndarray) -> str:
    """What rows of amounts (n, D) are: counts, proportions, percentages, or amounts of some other scale.

    Whole numbers are counts, but if no row sums to more than 1. Rows that sum to 1 at most (within 0.1 %) are
    proportions: parts may have been left out. Rows that sum to 100 at most, and to more than 50 in the median, are
    percentages.

    Examples
    --------
    >>> [scale_of(np.array([row])) for row in ([3, 9.0], [0.2, 0.8], [20.5, 79.5], [2.5, 9.1])]
    ['counts', 'proportions', 'percentages', 'amounts']
    """
    with np.errstate(over="ignore"):  # what overflows is no scale that is known
        sums = values.sum(axis=1, dtype=np.float64)
    highest = sums.max(initial=0.0)
    if highest > 1 and are_whole(values):
        return "counts"
    if highest <= 1 + 1e-3:
        return "proportions"
    if highest <= 100 + 0.1 and np.median(sums) > 50:
        return "percentages"
    return "amounts"


def scale_of_both(one: str, other: str) -> str:
    """What rows of two tables are together."""
    return one if one == other else "amounts"


def are_whole(values: np.ndarray) -> bool:
    """Whether all values (n, D) are whole numbers; looks at rows by the hundred, and no further than needed."""
    return all(
        bool((part == np.floor(part)).all()) for part in (values[a : a + 100] for a in range(0, len(values), 100))
    )
