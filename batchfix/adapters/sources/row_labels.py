"""Row labels: what is said about all rows, cut to the rows of a block.

Labels of all rows (an array, a Series, a table, a mapping, or one label) and a block go in; the labels of its rows come
out. Columns without an index go by position. Those with one go by the index of the blocks, if these have any; columns
of a mapping each by its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ...core.naming import some
from ...correctors import columns as kinds
from ...correctors import inputs
from ...exceptions import AlignmentError, BatchfixError


@dataclass(frozen=True, eq=False)
class Strip:
    """Columns that share an index, or have none.

    Attributes
    ----------
    names : list of str
        Of the columns.
    index : Index or None
    count : int
        How many rows have labels.
    """

    names: list[str]
    index: pd.Index | None
    count: int

    def takes(self, column: Any) -> bool:
        """Whether a column has the rows of this one."""
        index = _index_of(column)
        if self.index is None or index is None:
            return self.index is index and self.count == len(column)
        return bool(self.index.equals(index))


class RowLabels:
    """Labels of all rows.

    Parameters
    ----------
    given : labels as in `fit`, or one label for all rows
    what : {"batch", "keep", "nuisance"}

    Examples
    --------
    >>> reader = RowLabels(["a", "a", "b"], "batch").reader()
    >>> reader.take(0, 2, None).tolist(), reader.take(2, 3, None).tolist()
    (['a', 'a'], ['b'])
    """

    def __init__(self, given: Any, what: str) -> None:
        self.what = what
        self.one: Any = None
        self.columns: dict[str, pd.Series] = {}
        self.values: Any = None
        self.strips: list[Strip] = []
        self.names_are_given = inputs.is_named(given)
        if not self.names_are_given and np.ndim(given) == 0:
            self.one = given
            return
        if what == "batch" and not self.names_are_given:
            self.values = given.to_numpy() if isinstance(given, pd.Series) else inputs.as_array(given, what)
            self.strips = [Strip([what], _index_of(given), len(self.values))]
            return
        for name, column in _columns(given, what).items():
            strip = next((each for each in self.strips if each.takes(column)), None)
            if strip is None:
                strip = Strip([], _index_of(column), len(column))
                self.strips.append(strip)
            strip.names.append(name)
            self.columns[name] = _whole(column)

    @property
    def crowded(self) -> dict[str, pd.Series]:
        """Columns of one array, whose common dtype says nothing of each."""
        return {} if self.names_are_given or len(self.columns) < 2 else self.columns

    def reader(self) -> LabelReader:
        """Begin at the first block."""
        return LabelReader(self)

    def check_count(self, n: int, *, ids: bool = False) -> None:
        """Refuse other than `n` labels where they go by position: if rows have ids, in columns without an index.

        Raises
        ------
        AlignmentError
            There are more or fewer.
        """
        for strip in self.strips:
            if strip.count != n and (strip.index is None or not ids):
                raise self.miscounted(strip, str(n))

    def miscounted(self, strip: Strip, rows: str) -> AlignmentError:
        """Labels of other rows than these."""
        return AlignmentError(
            f"{self.title(strip)} must have one entry a row of X, got {strip.count} for {rows} rows. Pass the labels "
            "of these very rows."
        )

    def title(self, strip: Strip) -> str:
        """What some of the columns are called in errors."""
        return self.what if len(self.strips) == 1 else f"{self.what}[{strip.names[0]!r}]"


class LabelReader:
    """One pass over the labels, a block at a time."""

    def __init__(self, labels: RowLabels) -> None:
        self.labels = labels
        self.passes = [_Pass(labels, strip) for strip in labels.strips]

    def take(self, start: int, stop: int, index: pd.Index | None) -> Any:
        """Labels of the rows from `start` to `stop`, whose index this is, if they have one.

        Raises
        ------
        AlignmentError
            A row has no label, or two have the same.
        """
        labels = self.labels
        if labels.one is not None:
            return labels.one
        places = {name: rows for each in self.passes for name, rows in each.places(start, stop, index).items()}
        if labels.values is not None:
            return labels.values[places[labels.what]]
        columns = labels.columns.items()
        return {name: pd.Series(column.array[places[name]], index=index, name=name) for name, column in columns}

    def end(self, n: int) -> None:
        """Check that there were as many rows as labels, once all `n` rows have come."""
        for each in self.passes:
            each.end(n)


class _Pass:
    """One pass over the rows of a strip."""

    def __init__(self, labels: RowLabels, strip: Strip) -> None:
        self.labels, self.strip = labels, strip
        self.by_index = False
        self.taken = np.zeros(0 if strip.index is None else strip.count, dtype=bool)

    def places(self, start: int, stop: int, index: pd.Index | None) -> dict[str, Any]:
        """Places of the labels of some rows, by column."""
        own, rows = self.strip.index, slice(start, stop)
        if own is None or index is None:
            if stop > self.strip.count:
                raise self.labels.miscounted(self.strip, f"{stop} or more")
            return dict.fromkeys(self.strip.names, rows)
        self.by_index = True
        found = rows if own[rows].equals(index) else self._found(own, index)
        again = index[self.taken[found]]
        if len(again):
            what = self.labels.title(self.strip)
            raise AlignmentError(
                f"Row ids must not come twice where labels are found by them, got {some(list(again), 3)} in two blocks."
                f" If {what} is in the order of the rows, pass it as an array (.to_numpy())."
            )
        self.taken[found] = True
        return dict.fromkeys(self.strip.names, found)

    def end(self, n: int) -> None:
        if not self.by_index and n != self.strip.count:
            raise self.labels.miscounted(self.strip, str(n))

    def _found(self, own: pd.Index, index: pd.Index) -> Any:
        known = own.is_unique and index.is_unique
        places = own.get_indexer(index) if known else np.arange(len(own))
        if not known or (places < 0).any():
            nothing = pd.Series(0, index=own)
            inputs.align(nothing, index, len(index), self.labels.title(self.strip))  # it says what is wrong
        return places


def aligned(labels: Any, index: pd.Index | None, what: str) -> Any:
    """Labels in the order of rows that have this index.

    Raises
    ------
    AlignmentError
        A row has no label, or there are others.
    """
    if index is None:
        return labels
    if inputs.is_named(labels):
        return inputs.as_columns(labels, index, len(index), what)
    return inputs.align(labels, index, len(index), what) if isinstance(labels, pd.Series) else labels


def _columns(given: Any, what: str) -> dict[str, Any]:
    """Columns by name, those of a mapping each of a length of its own."""
    if not isinstance(given, Mapping):
        return inputs.as_columns(given, None, len(given), what)
    found: dict[str, Any] = {}
    for name, values in given.items():
        found |= inputs.as_columns({name: values}, None, len(values) if np.ndim(values) else 0, what)
    if len(found) < len(given):
        raise BatchfixError(f"Columns of {what} must have different names, got {[str(name) for name in given]}.")
    return found


def _index_of(values: Any) -> pd.Index | None:
    return values.index if isinstance(values, pd.Series) else None


def _whole(column: Any) -> pd.Series:
    """A column of all rows whose dtype says what it is, so that each block says the same."""
    series = column.reset_index(drop=True) if isinstance(column, pd.Series) else pd.Series(column)
    if series.dtype == object:
        kind = pd.api.types.infer_dtype(series, skipna=True)
        if kind in kinds.NUMERIC or (kind == "integer" and not series.isna().any()):
            return series.astype(np.int64 if kind == "integer" else np.float64)
    return series
