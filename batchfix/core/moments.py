"""Moments: what a set of cells leaves behind once its rows are forgotten.

Counts, means and centred sums of squares go in and out. Two sets of cells that
share no row merge exactly (Chan, Golub and LeVeque 1983, "Algorithms for
computing the sample variance", The American Statistician 37, eq. 2.1):

    n    = n_a + n_b
    mean = mean_a + (mean_b - mean_a) n_b / n
    m2   = m2_a + m2_b + (mean_b - mean_a)^2 n_a n_b / n

Streaming, federated, distributed and synchronised statistics are that one `+`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .arrays import array_namespace

NOISE = 64.0
"""A spread of at most this many rounding units of the values is no spread."""


def share_of(n_a: Any, n_b: Any) -> tuple[Any, Any]:
    """Return n and n_b / n, the latter 0 where both are empty."""
    xp = array_namespace(n_a)
    n = n_a + n_b
    return n, n_b / xp.where(n > 0, n, xp.ones_like(n))


@dataclass(frozen=True)
class Moments:
    """Count, mean and centred sum of squares, elementwise over any array shape.

    Attributes
    ----------
    n, mean, m2 : arrays of one shape (numpy, torch or any array-API library)
        Number of observed values, their mean (0 where there is none), and the
        sum of squared deviations from that mean.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.arange(10.0).reshape(5, 2)
    >>> whole = Moments.of(x)
    >>> parts = Moments.of(x[:2]) + Moments.of(x[2:])
    >>> bool(np.allclose(whole.m2, parts.m2)), whole.mean
    (True, array([4., 5.]))
    """

    n: Any
    mean: Any
    m2: Any

    @classmethod
    def of(cls, x: Any, axis: int | tuple[int, ...] = 0) -> Moments:
        """Reduce complete values over `axis`: centre first, then square."""
        xp = array_namespace(x)
        axes = (axis,) if isinstance(axis, int) else axis
        count = 1
        for a in axes:
            count *= x.shape[a]
        if count == 0:
            empty = xp.sum(x, axis=axis)
            return cls(xp.zeros_like(empty), empty, xp.zeros_like(empty))
        first = xp.mean(x, axis=axis, keepdims=True)
        # the second mean removes what rounding left in the first
        mean = first + xp.mean(x - first, axis=axis, keepdims=True)
        deviation = x - mean
        left = xp.sum(deviation, axis=axis)
        m2 = xp.sum(deviation * deviation, axis=axis) - left * (left / count)
        mean = xp.reshape(mean, m2.shape)
        return cls(xp.zeros_like(m2) + count, mean, m2)

    def __add__(self, other: Moments) -> Moments:
        """Moments of both sets of cells together."""
        n, share = share_of(self.n, other.n)
        step = other.mean - self.mean
        return Moments(
            n=n,
            mean=self.mean + step * share,
            m2=self.m2 + other.m2 + step * (step * (self.n * share)),
        )

    def __sub__(self, part: Moments) -> Moments:
        """Moments of what remains when `part`, a subset of these cells, is taken away."""
        xp = array_namespace(self.mean)
        n = self.n - part.n
        rest = xp.where(n > 0, n, xp.ones_like(n))
        step = self.mean - part.mean
        mean = xp.where(n > 0, self.mean + step * (part.n / rest), xp.zeros_like(self.mean))
        m2 = self.m2 - part.m2 - step * (step * (self.n * (part.n / rest)))
        m2 = xp.where((n > 0) & (m2 > 0), m2, xp.zeros_like(m2))
        return Moments(n, mean, m2)

    def decay(self, factor: float) -> Moments:
        """Let the past count for `factor` of what it did: n and m2 shrink, the mean stays."""
        return Moments(self.n * factor, self.mean, self.m2 * factor)

    def variance(self, *, correction: float) -> Any:
        """m2 / (n - correction); NaN where n <= correction."""
        xp = array_namespace(self.m2)
        freedom = self.n - correction
        enough = freedom > 0
        value = self.m2 / xp.where(enough, freedom, xp.ones_like(self.m2))
        return xp.where(enough, value, xp.ones_like(value) * float("nan"))
