"""By date: a long table (a row a date and symbol) laid out with a date a row, and back.

Codes of dates flow in. Columns of the long table flow through as sheets, dates x places: place i holds the date's
i-th row, whatever its symbol, and a date with fewer rows than others is filled up with NaN. A table in the order of
its dates, all of one size, is a sheet as it lies in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..core.peers import rises

SHEET_CELLS = 1 << 19
"""Cells of a sheet that has to be filled up: a few megabytes."""


@dataclass(frozen=True)
class Layout:
    """Where the rows of some dates stand in a sheet.

    Attributes
    ----------
    rows : slice or array
        Rows of the long table, date after date.
    shape : tuple
        Dates, places.
    taken : array of bool, or None
        Places with a row; None: all.
    """

    rows: slice | np.ndarray
    shape: tuple[int, int]
    taken: np.ndarray | None

    def sheet(self, column: np.ndarray, empty: float = np.nan) -> np.ndarray:
        """Lay a column (n, ...) out as (dates, places, ...); a view where nothing moves."""
        values = column[self.rows]
        if self.taken is None:
            return values.reshape(self.shape + column.shape[1:])
        out = np.full(self.shape + column.shape[1:], empty, dtype=column.dtype)
        out[self.taken] = values
        return out

    def target(self, column: np.ndarray) -> np.ndarray:
        """A sheet to write results in: the column's own memory where it is one, else fresh."""
        if self.taken is None and isinstance(self.rows, slice):
            return column[self.rows].reshape(self.shape)
        return np.empty(self.shape, dtype=column.dtype)

    def write(self, sheet: np.ndarray, column: np.ndarray) -> None:
        """Bring a sheet back to its rows; nothing to do if it is the column's own memory."""
        if np.shares_memory(sheet, column):
            return
        column[self.rows] = sheet.reshape(-1) if self.taken is None else sheet[self.taken]


@dataclass(frozen=True)
class ByDate:
    """Rows of a long table in the order of their dates.

    Attributes
    ----------
    order : array (n,) or None
        Rows by date; None: they are in order.
    edges : array (dates + 1,)
        Date d has rows edges[d] to edges[d + 1], in that order.
    """

    order: np.ndarray | None
    edges: np.ndarray

    @classmethod
    def of(cls, codes: np.ndarray, n_dates: int) -> ByDate:
        """Sort by the codes of dates, 0 to n_dates - 1; stable, and nothing is moved if they rise already."""
        order = None
        if not rises(codes):
            narrow = codes.astype(np.min_scalar_type(max(n_dates - 1, 0)), copy=False)  # few bits: a radix sort
            order = np.argsort(narrow, kind="stable")
            codes = narrow[order]
        edges = np.searchsorted(codes, np.arange(n_dates + 1, dtype=np.int64).astype(np.result_type(codes, np.int32)))
        return cls(order, edges)

    @property
    def width(self) -> int:
        """Rows of every date, where they are in order and equally many; else 0."""
        sizes = np.diff(self.edges)
        sizes = sizes[sizes > 0]
        even = self.order is None and len(sizes) > 0 and bool((sizes == sizes[0]).all())
        return int(sizes[0]) if even else 0

    def layouts(self) -> Iterator[Layout]:
        """Some dates at a time; dates without rows are passed over."""
        sizes = np.diff(self.edges)
        dates = np.flatnonzero(sizes)
        if not len(dates):
            return
        width = self.width
        if width:
            yield Layout(slice(0, int(self.edges[-1])), (len(dates), width), None)
            return
        start = 0
        while start < len(dates):
            stop, width = start, 0
            while stop < len(dates):
                wider = max(width, int(sizes[dates[stop]]))
                if stop > start and wider * (stop + 1 - start) > SHEET_CELLS:
                    break
                stop, width = stop + 1, wider
            yield self._layout(dates[start:stop], sizes, width)
            start = stop

    def _layout(self, dates: np.ndarray, sizes: np.ndarray, width: int) -> Layout:
        first, last = int(self.edges[dates[0]]), int(self.edges[dates[-1] + 1])
        rows: slice | np.ndarray = slice(first, last) if self.order is None else self.order[first:last]
        own = sizes[dates]
        taken = None if (own == width).all() else np.arange(width) < own[:, None]
        return Layout(rows, (len(dates), width), taken)
