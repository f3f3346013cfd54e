"""What a table of compositions may not hold, and the sentence that says so.

A table and what its values must be (`Need`) flow in; nothing, or an error that counts the faults of the whole table,
flows out. Pieces are examined by their extremes, which is cheap, and closely only where those look wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..exceptions import BatchfixError
from . import blocks


@dataclass(frozen=True)
class Need:
    """What the values of a table must be: finite, and above a bound (or on it).

    `whole`: no row may be NaN in part. `column`: that part may be NaN only in a row of nothing else.
    """

    bound: float
    on_bound: bool
    whole: bool = False
    column: int | None = None

    @property
    def sums(self) -> bool:
        """Whether rows are to be divided by their sums."""
        return self.bound == 0 and self.on_bound

    def holds(self, lowest: float, highest: float) -> bool:
        """Whether values from `lowest` to `highest` are allowed. No value at all (NaN) is."""
        low = lowest < self.bound or (lowest == self.bound and not self.on_bound)
        return not (low or highest == np.inf)


AMOUNTS = Need(0.0, on_bound=True)
POSITIVE = Need(0.0, on_bound=False)
FINITE = Need(-np.inf, on_bound=False)
"""Log-ratios: any real number."""


class UnfitError(BatchfixError):
    """A piece of a table holds what it may not; `check` then says what, of the whole table."""

    def __init__(self, message: str = "The table holds values that a composition may not hold.") -> None:
        super().__init__(message)


def examine(x: np.ndarray, need: Need) -> bool:
    """Whether a piece holds NaN.

    Raises
    ------
    UnfitError
        If it holds what it may not.
    """
    lowest, highest = np.minimum.reduce(x, axis=None), np.maximum.reduce(x, axis=None)
    missing = bool(np.isnan(lowest))
    if missing:
        lowest, highest = np.fmin.reduce(x, axis=None), np.fmax.reduce(x, axis=None)
    if not need.holds(lowest, highest):
        raise UnfitError
    if missing and (need.whole or need.column is not None) and _lacking(x, need).any():
        raise UnfitError
    return missing


def _lacking(x: np.ndarray, need: Need) -> np.ndarray:
    """Rows, (m, 1), where a part is NaN that the others cannot do without."""
    lost = np.isnan(x)
    wanted = lost[:, [need.column]] if need.column is not None else lost.any(axis=1, keepdims=True)
    lacking: np.ndarray = wanted & ~lost.all(axis=1, keepdims=True)
    return lacking


def read_rows(X: Any, a: int, b: int, into: np.ndarray) -> np.ndarray:
    """Rows a to b of a dense or CSR table, as C-contiguous float64."""
    piece = into[: b - a]
    piece[...] = X[a:b] if isinstance(X, np.ndarray) else X[a:b].toarray()
    return piece


def check(X: Any, need: Need) -> None:
    """Look at all of X before anything is written.

    Raises
    ------
    BatchfixError
        If the values are not what they need to be: how many, where the first one is, and what to do.
    """
    n, parts = X.shape
    step = max(1, blocks.rows_per_chunk(parts, 8 * n * parts) // 2)

    def work(lot: tuple[int, int]) -> list[_Fault]:
        found: list[_Fault] = []
        for a, b in blocks.spans(*lot, step):
            x = X[a:b] if isinstance(X, np.ndarray) else X[a:b].toarray()
            with np.errstate(all="ignore"):
                if not _fits(x, need):
                    found += _faults(x, need, a)
        return found

    lots = blocks.spans(0, n, max(step, -(-n // (4 * blocks.n_threads()))))
    found = [fault for faults in blocks.run(work, lots, 8 * n * parts) for fault in faults]
    for kind, (words, advice) in _ADVICE.items():
        of_kind = [fault for fault in found if fault.kind == kind]
        if of_kind:
            count, row = sum(fault.count for fault in of_kind), min(fault.row for fault in of_kind)
            raise BatchfixError(f"{words.format(count=count, row=row)} {advice}")


def _fits(x: np.ndarray, need: Need) -> bool:
    """Whether a piece is fine at a glance; with NaN it may be fine all the same."""
    try:
        missing = examine(x, need)
    except UnfitError:
        return False
    sums = np.add.reduce(x, axis=1, dtype=np.float64) if need.sums else 1.0
    return not missing and bool(np.all((sums != 0) & (sums != np.inf)))


@dataclass(frozen=True)
class _Fault:
    kind: str
    count: int
    row: int


_ADVICE = {
    "infinite": (
        "Values must be finite or NaN (not observed); got {count} infinite, the first in row {row}.",
        "Look for the division or overflow they came from.",
    ),
    "negative": (
        "Parts must not be negative; got {count} negative value(s), the first in row {row}.",
        "Give amounts (counts, proportions, percentages), before any logarithm or centring.",
    ),
    "zero": (
        "A logarithm needs parts above 0; got {count} zero(s), the first in row {row}.",
        "Replace them first (zeros='half_minimum'; HalfMinimum in batchfix.core.zeros), or leave them out (rclr).",
    ),
    "empty": (
        "Each row must have a part above 0; got {count} row(s) that sum to 0, the first row {row}.",
        "Nothing was observed there: leave these samples out.",
    ),
    "huge": (
        "The sum of a row must fit in float64; got {count} row(s) that overflow, the first row {row}.",
        "Divide the table by its largest value first.",
    ),
    "partial": (
        "Each coordinate takes all parts in; got {count} row(s) with some NaN, the first row {row}.",
        "Fill the missing parts or leave them out; clr takes each row's observed parts.",
    ),
    "reference": (
        "The reference must be observed in every row; got {count} row(s) where it is NaN, the first row {row}.",
        "Choose a reference that is always there.",
    ),
}


def _faults(x: np.ndarray, need: Need, start: int) -> list[_Fault]:
    """Everything in a piece that may not be there; `start` is its first row."""
    seen = ~np.isnan(x)
    kinds = {"infinite": np.isinf(x)}
    if need.bound == 0:
        kinds["negative"] = x < 0
        kinds["zero"] = (x == 0) & (not need.on_bound)
        if need.sums:
            sums = np.add.reduce(x, axis=1, dtype=np.float64, keepdims=True, where=seen)
            kinds["empty"] = (sums == 0) & seen.any(axis=1, keepdims=True)
            kinds["huge"] = np.isinf(sums)
    if need.whole:
        kinds["partial"] = _lacking(x, need)
    if need.column is not None:
        kinds["reference"] = _lacking(x, need)
    return [
        _Fault(kind, int(wrong.sum()), start + int(wrong.any(axis=1).argmax()))
        for kind, wrong in kinds.items()
        if wrong.any()
    ]
