"""Exponential: moments in which a row counts half as much every `halflife` rows.

Rows flow in; the count, weighted mean and standard deviation of all rows up to each flow out. With d = 0.5^(1/halflife)
row i has weight w_i = d^(t - i) at row t; a missing value has none, and time passes all the same. With W = sum w,
one more value x, of share s = 1 / (d W + 1), changes

    mean   = mean + s (x - mean)
    v      = (1 - s) (v + s (x - mean)^2)         v = sum w (x - mean)^2 / W
    c      = (1 - s) ((1 - s) c + 2 s)            c = 1 - sum w^2 / W^2
    variance = v / (1 - ddof (1 - c))             ddof = 1: v / c, without bias for independent rows

which is Welford's recursion with weights (West 1979; pandas' ewm with adjust=True, ignore_na=False, bias=False).
Only W decays, so that a long gap leaves mean and variance as they were.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from .past import Ask, History, Past, Scratch, refuse_infinite


@dataclass(frozen=True, eq=False)
class Exponential(Past):
    """Weighted moments of every row read.

    Attributes
    ----------
    halflife : float
        Rows after which a weight is half of what it was.
    n, weight, mean, v, c : arrays (p,)
        Observed values, W, and what the formulas call mean, v and c.

    Examples
    --------
    >>> x = np.array([[1.0], [4.0], [np.nan], [7.0]])
    >>> history, _ = Exponential.empty(1, halflife=1.0).read(x, Ask(), Scratch())
    >>> history.center.ravel().round(3).tolist()
    [1.0, 3.0, 3.0, 5.909]
    """

    halflife: float
    n: np.ndarray
    weight: np.ndarray
    mean: np.ndarray
    v: np.ndarray
    c: np.ndarray

    @classmethod
    def empty(cls, p: int, halflife: float) -> Self:
        """No row read."""
        return cls(halflife, *(np.zeros(p) for _ in range(5)))

    def like(self, other: Past) -> bool:
        """Whether the other forgets as fast."""
        return isinstance(other, Exponential) and other.halflife == self.halflife

    def _read(self, x: np.ndarray, ask: Ask, scratch: Scratch) -> tuple[History, Self]:
        m, w = x.shape
        n, center, v, c = (scratch(name, m, w) for name in ("n", "center", "v", "c"))
        seen = scratch("seen", m, w, np.bool_)
        np.equal(x, x, out=seen)
        weight, decay = self.weight.copy(), 0.5 ** (1.0 / self.halflife)
        rows = zip(x, seen, n, center, v, c, strict=True)
        before = [self.n, self.mean, self.v, self.c]
        for row, here, *after in rows:
            _add_row(row, here, weight, decay, before, after)
            before = after
        end = [each.copy() for each in before]
        if not (np.isfinite(end[2]).all() and np.isfinite(end[1]).all()):
            refuse_infinite(x)
        scale = None
        if ask.scale:
            c *= ask.ddof
            c += 1.0 - ask.ddof
            scale = np.sqrt(np.divide(v, c, out=v), out=v)
            ask.flatten(center, scale, spare=c)
        return History(n, center, scale), type(self)(self.halflife, end[0], weight, *end[1:])


def _add_row(
    x: np.ndarray,
    seen: np.ndarray,
    weight: np.ndarray,
    decay: float,
    before: list[np.ndarray],
    after: list[np.ndarray],
) -> None:
    """From n, mean, v, c before a row to those after it; `weight` moves on in place."""
    n, mean, v, c = after
    np.add(before[0], seen, out=n)
    weight *= decay
    whole = weight + 1.0
    share = seen / whole
    rest = (weight + ~seen) / whole  # 1 - share, exact also where share is nearly 1
    weight += seen
    step = np.where(seen, x - before[1], 0.0)
    np.multiply(step, share, out=mean)
    mean += before[1]
    heavy = share > 0.5
    if heavy.any():  # from the nearer end, lest an outlier that has lost its weight leave its rounding behind
        np.copyto(mean, x - step * rest, where=heavy)
    step *= step
    step *= share
    np.add(step, before[2], out=v)
    v *= rest
    np.multiply(before[3], rest, out=c)
    share *= 2.0
    c += share
    c *= rest
