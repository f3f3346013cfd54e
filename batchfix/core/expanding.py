"""Expanding: moments of everything so far, row by row.

Rows flow in; the count, mean and standard deviation of all rows up to each flow out. Sums are taken about a pilot, a
value that the window itself holds, and every 64 rows the pilot moves to the mean:

    n     = number observed
    mean  = pilot + s / n                        s = sum (x - pilot)
    m2    = q - s^2 / n                          q = sum (x - pilot)^2

The pilot is the mean of n_0 of the n values, so that s^2 / n <= q (n - n_0) / n: no more than a factor n / n_0 is lost
to cancellation, whatever the data. The state holds the same sums, so cutting the rows anywhere changes no bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from .moments import Moments
from .past import Ask, History, Past, Scratch, accumulate, refuse_infinite

BLOCK = 64
"""Rows between two moves of the pilot, counted from the first row ever read."""


@dataclass(frozen=True, eq=False)
class Expanding(Past):
    """Sums about a pilot, of every row read.

    Attributes
    ----------
    rows : int
        Rows read since the pilot moved.
    n, pilot, total, squares : arrays (p,)
        Observed values, the pilot, and the sums of x - pilot and of its square.

    Examples
    --------
    >>> history, past = Expanding.empty(1).read(np.array([[1.0], [3.0], [np.nan], [5.0]]), Ask(), Scratch())
    >>> history.center.ravel().tolist(), past.moments().variance(correction=1).tolist()
    ([1.0, 2.0, 2.0, 3.0], [4.0])
    """

    rows: int
    n: np.ndarray
    pilot: np.ndarray
    total: np.ndarray
    squares: np.ndarray

    @classmethod
    def empty(cls, p: int) -> Self:
        """No row read."""
        return cls(0, *(np.zeros(p) for _ in range(4)))

    def moments(self) -> Moments:
        """Moments of every row read."""
        offset = self.total / np.maximum(self.n, 1.0)
        return Moments(self.n, self.pilot + offset, np.maximum(self.squares - self.total * offset, 0.0))

    def _read(self, x: np.ndarray, ask: Ask, scratch: Scratch) -> tuple[History, Self]:
        m, w = x.shape
        sums, center = scratch("sums", 3 * m, w).reshape(3, m, w), scratch("center", m, w)
        past, a = self, 0
        while a < m:
            b = min(m, a + BLOCK - past.rows)
            past = past._read_block(x[a:b], ask, scratch, sums[:, a:b], center[a:b])
            a = b
        return History(sums[0], center, sums[1] if ask.scale else None), past

    def _read_block(self, x: np.ndarray, ask: Ask, scratch: Scratch, sums: np.ndarray, center: np.ndarray) -> Self:
        """Rows that share a pilot: n and scale into the first two of `sums` (3, m, w), and the center."""
        m, w = x.shape
        n, scale, total = sums
        missing = np.isnan(x, out=scratch("missing", m, w, np.bool_))
        pilot = self.pilot
        new = self.n == 0
        if new.any():  # the first value of a column is its first pilot
            first = np.take_along_axis(x, missing.argmin(axis=0)[None], axis=0)[0]
            pilot = np.where(new & ~missing.all(axis=0), first, pilot)

        np.subtract(x, pilot, out=total)
        np.copyto(total, 0.0, where=missing)
        np.subtract(1.0, missing, out=n)
        np.multiply(total, total, out=scale)
        accumulate(sums.swapaxes(0, 1), np.stack([self.n, self.squares, self.total]))
        end = sums[:, -1].copy()
        if not np.isfinite(end).all():
            refuse_infinite(x)
        past = type(self)(self.rows + m, end[0], pilot, end[2], end[1])

        np.divide(total, n, out=center)  # s / n; NaN before the first value
        if ask.scale:
            total *= center
            scale -= total
            np.abs(scale, out=scale)  # only rounding makes it negative, by less than what counts as flat
            np.subtract(n, ask.ddof, out=total)
            scale /= total
            np.sqrt(scale, out=scale)
        center += pilot
        if ask.scale:
            ask.flatten(center, scale, spare=total)
        return past._moved() if past.rows == BLOCK else past

    def _moved(self) -> Self:
        """The same sums about their mean."""
        now = self.moments()
        mean = np.where(self.n > 0, now.mean, 0.0)
        total = self.total - self.n * (mean - self.pilot)  # what rounding left in the mean
        return type(self)(0, self.n, mean, total, now.m2)
