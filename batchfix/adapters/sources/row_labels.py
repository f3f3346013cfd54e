"""Row labels: what is said about all rows, cut to the rows of a block.

Labels of all rows (an array, a Series, a table, a mapping, or one label) and a block go in; the labels of its rows come
out. Labels without an index go by position. Those with one go by the index of the blocks, if these have any.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ...core.naming import some
from ...correctors import columns as kinds
from ...correctors import inputs
from ...exceptions import AlignmentError

NUMBERS = (*kinds.NUMERIC, "integer")


class RowLabels:
    """Labels of all rows.

    Parameters
    ----------
    given : labels as in `fit`, or one label for all rows
    what : {"batch", "keep", "nuisance"}

    Examples
    --------
    >>> reader = RowLabels(["a", "a", "b"], "batch").reader()
    >>> reader.take(0, np.zeros((2, 1))).tolist(), reader.take(2, np.zeros((1, 1))).tolist()
    (['a', 'a'], ['b'])
    """

    def __init__(self, given: Any, what: str) -> None:
        self.what = what
        self.one: Any = None
        self.index: pd.Index | None = None
        self.columns: dict[str, pd.Series] = {}
        self.values: Any = None
        self.names_are_given = inputs.is_named(given)
        if not self.names_are_given and np.ndim(given) == 0:
            self.one = given
            return
        if isinstance(given, pd.Series | pd.DataFrame):
            self.index = given.index
        if what == "batch" and not self.names_are_given:
            self.values = given.to_numpy() if isinstance(given, pd.Series) else inputs.as_array(given, what)
            return
        first = given.index if isinstance(given, pd.DataFrame) else None
        columns = inputs.as_columns(given, first, _length(given), what)
        if self.index is None:  # a mapping of Series that share one
            indexes = [c.index for c in columns.values() if isinstance(c, pd.Series)]
            if indexes and all(each.equals(indexes[0]) for each in indexes):
                self.index = indexes[0]
            elif indexes:
                raise AlignmentError(
                    f"Columns of {what} must have one index, got several. Make them a DataFrame, which aligns them."
                )
        self.columns = {name: _whole(column) for name, column in columns.items()}

    @property
    def crowded(self) -> dict[str, pd.Series]:
        """Columns of one array, whose common dtype says nothing of each."""
        return {} if self.names_are_given or len(self.columns) < 2 else self.columns

    def __len__(self) -> int:
        """Rows that have labels."""
        return len(self.values) if self.values is not None else len(next(iter(self.columns.values()), ()))

    def reader(self) -> LabelReader:
        """Begin at the first block."""
        return LabelReader(self)

    def at(self, rows: Any, index: pd.Index | None) -> Any:
        """Labels of some rows, by position."""
        if self.values is not None:
            return self.values[rows]
        return {name: pd.Series(column.array[rows], index=index, name=name) for name, column in self.columns.items()}


class LabelReader:
    """One pass over the labels, a block at a time."""

    def __init__(self, labels: RowLabels) -> None:
        self.labels = labels
        self.by_index = False
        self.taken = np.zeros(0 if labels.index is None else len(labels), dtype=bool)

    def take(self, start: int, X: Any) -> Any:
        """Labels of the rows of X, which is the block that begins at row `start`.

        Raises
        ------
        AlignmentError
            A row has no label, or two have the same.
        """
        labels = self.labels
        if labels.one is not None:
            return labels.one
        index = X.index if isinstance(X, pd.DataFrame) else None
        stop, n = start + X.shape[0], len(labels)
        if labels.index is None or index is None:
            if stop > n:
                raise self._count(f"{stop} or more")
            return labels.at(slice(start, stop), index)
        self.by_index = True
        rows: Any = slice(start, stop)
        if not labels.index[rows].equals(index):
            inputs.align(pd.Series(0, index=labels.index), index, X.shape[0], labels.what)  # it says what is wrong
            rows = labels.index.get_indexer(index)
        again = index[self.taken[rows]]
        if len(again):
            raise AlignmentError(
                f"Row ids must not come twice where labels are found by them, got {some(list(again), 3)} in two blocks."
                f" If {labels.what} is in the order of the rows, pass it as an array (.to_numpy())."
            )
        self.taken[rows] = True
        return labels.at(rows, index)

    def end(self, n: int) -> None:
        """Check that there were as many rows as labels, once all `n` rows have come."""
        if self.labels.one is None and not self.by_index and n != len(self.labels):
            raise self._count(str(n))

    def _count(self, rows: str) -> AlignmentError:
        return AlignmentError(
            f"{self.labels.what} must have one entry a row of X, got {len(self.labels)} for {rows} rows. "
            "Pass the labels of these very rows."
        )


def _length(given: Any) -> int:
    if inputs.is_named(given) and not hasattr(given, "shape"):
        return len(next(iter(given.values()), ()))
    return len(given)


def _whole(column: Any) -> pd.Series:
    """A column of all rows whose dtype says what it is, so that each block says the same."""
    series = column.reset_index(drop=True) if isinstance(column, pd.Series) else pd.Series(column)
    if series.dtype == object:
        kind = pd.api.types.infer_dtype(series, skipna=True)
        if kind in kinds.NUMERIC or (kind == "integer" and not series.isna().any()):
            return series.astype(np.int64 if kind == "integer" else np.float64)
    return series
