"""Panels: long tables, a row a date and symbol, as wide ones, and back.

Codes of dates and symbols flow in; matrices dates x (symbol, factor) flow out, a group of symbols at a time so that
they stay small. A symbol that has no row on a date is missing there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from ..core.design import repr_label
from ..exceptions import BatchfixError
from .grouping import refuse_look_alikes
from .inputs import as_labels
from .times import Times, show

PIVOT_VALUES = 1 << 21
"""Values of a matrix that is pivoted at a time."""


@dataclass(frozen=True, eq=False)
class Panel:
    """Where each row of a long table belongs.

    Attributes
    ----------
    dates, symbols : arrays (n,)
        Codes: a date's place in the order of time, a symbol's among `known`.
    n_dates, n_symbols : int
    """

    dates: np.ndarray
    symbols: np.ndarray
    n_dates: int
    n_symbols: int

    @classmethod
    def of(cls, times: Times, symbols: Any, known: np.ndarray, what: str) -> tuple[Panel, np.ndarray]:
        """Find the place of each row, and the symbols: those known first, then new ones in sorted order.

        Raises
        ------
        BatchfixError
            A symbol is missing, has two rows of one date, or is of another kind than those known.
        """
        codes, found = pd.factorize(symbols)
        refuse_look_alikes(np.asarray(symbols).reshape(-1), list(found), what)
        if len(codes) and codes.min() < 0:
            as_labels(symbols, what)  # says which are missing
        labels = as_labels(found, what)
        if not len(known):
            known = labels[:0]
        if known.dtype.kind != labels.dtype.kind:
            raise BatchfixError(
                f"Symbols must be of the kind seen in fit, such as {repr_label(known[0])}; got "
                f"{repr_label(labels[0])}. Convert them."
            )
        every = np.concatenate([known, np.sort(labels[~np.isin(labels, known)])])
        order = np.argsort(every, kind="stable")
        codes = order[np.searchsorted(every, labels, sorter=order)][codes]
        dates, moments = pd.factorize(times.values, sort=True)
        panel = cls(dates, codes, len(moments), len(every))
        twice = panel._first_duplicate()
        if twice is not None:
            raise BatchfixError(
                f"A symbol must have one row a date, got two of {repr_label(every[codes[twice]])} on "
                f"{show(moments[dates[twice]], times.kind)}. Drop or merge them."
            )
        return panel, every

    def _first_duplicate(self) -> int | None:
        """The first row whose date and symbol another row has already."""
        cells = self.dates * self.n_symbols + self.symbols
        if self.n_dates * self.n_symbols > 8 * len(cells):  # dates of one symbol each, such as trades
            twice = pd.Series(cells).duplicated().to_numpy()
            return int(twice.argmax()) if twice.any() else None
        taken = np.zeros(self.n_dates * self.n_symbols, dtype=bool)
        taken[cells] = True
        if np.count_nonzero(taken) == len(cells):
            return None
        return int(np.flatnonzero(pd.Series(cells).duplicated())[0])

    def parts(self, n_columns: int) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
        """Groups of symbols: their columns (of symbols x factors), their rows, and the rows' place in the matrix."""
        width = max(1, PIVOT_VALUES // max(1, self.n_dates * n_columns))
        small = self.symbols.astype(np.uint16) if self.n_symbols < 1 << 16 else self.symbols
        order = np.argsort(small, kind="stable")  # short integers are sorted in linear time
        starts = np.searchsorted(small[order], np.arange(0, self.n_symbols + width, width))
        for k, (a, b) in enumerate(pairwise(starts)):
            first, last = k * width, min((k + 1) * width, self.n_symbols)
            rows = order[a:b]
            place = self.dates[rows] * (last - first) + self.symbols[rows] - first
            yield slice(first * n_columns, last * n_columns), rows, place

    def pivot(self, values: np.ndarray, rows: np.ndarray, place: np.ndarray, width: int) -> np.ndarray:
        """Rows of a long table as a matrix (dates, width); NaN where a symbol has none."""
        wide = np.full((self.n_dates, width), np.nan, dtype=values.dtype)
        wide.reshape(-1, values.shape[1])[place] = values[rows]
        return wide
