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

import numpy as np

from .arrays import array_namespace

NOISE = 64.0
"""A spread of at most this many rounding units of the values is no spread."""


def _share(n_a: Any, n_b: Any) -> tuple[Any, Any]:
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
        n, share = _share(self.n, other.n)
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


@dataclass(frozen=True)
class CoMoments:
    """Moments of x with design columns z, in B groups of rows (numpy).

    Everything that a linear model of x on z with one intercept a group needs.
    `p` features, `q` design columns. The statistics of z are those of the rows
    where x is observed: one set for all features (last axis 1) as long as nothing
    is missing, else one a feature (last axis p).

    Attributes
    ----------
    x : Moments of arrays (B, p)
        Over the observed values of each feature.
    z_mean : array (B, q, 1 or p)
    zz : array (B, q, q, 1 or p)
        Centred cross products of z with itself.
    zx : array (B, q, p)
        Centred cross products of z with x.
    rows : array (B,)
        Rows in the group, whether observed or not.
    row_z_mean, row_zz : arrays (B, q), (B, q, q)
        The same statistics of z over all rows.
    """

    x: Moments
    z_mean: np.ndarray
    zz: np.ndarray
    zx: np.ndarray
    rows: np.ndarray
    row_z_mean: np.ndarray
    row_zz: np.ndarray

    @property
    def complete(self) -> bool:
        """Whether one set of z statistics, that of all rows, serves every feature."""
        if self.x.n.shape[1] == 1:  # one feature has one set, whatever it misses
            return bool(np.array_equal(self.x.n[:, 0], self.rows))
        return bool(self.z_mean.shape[-1] == 1)

    @property
    def z_count(self) -> np.ndarray:
        """Rows behind `z_mean` and `zz`, (B, 1) or (B, p)."""
        return self.rows[:, None] if self.complete else np.asarray(self.x.n)

    def __add__(self, other: CoMoments) -> CoMoments:
        """Merge group by group: the same formula with a product in place of a square."""
        n_a, n_b = self.z_count, other.z_count
        _, share = _share(n_a, n_b)
        z_step = other.z_mean - self.z_mean
        z_mean = self.z_mean + z_step * share[:, None, :]
        weight = (n_a * share)[:, None, None, :]
        zz = self.zz + other.zz + z_step[:, :, None, :] * (z_step[:, None, :, :] * weight)

        _, x_share = _share(self.x.n, other.x.n)
        x_step = (other.x.mean - self.x.mean) * (self.x.n * x_share)
        zx = self.zx + other.zx + z_step * x_step[:, None, :]

        rows, row_share = _share(self.rows, other.rows)
        row_step = other.row_z_mean - self.row_z_mean
        row_weight = (self.rows * row_share)[:, None, None]
        return CoMoments(
            x=self.x + other.x,
            z_mean=z_mean,
            zz=zz,
            zx=zx,
            rows=rows,
            row_z_mean=self.row_z_mean + row_step * row_share[:, None],
            row_zz=self.row_zz + other.row_zz + row_step[:, :, None] * (row_step[:, None, :] * row_weight),
        )

    def place(self, groups: np.ndarray, n_groups: int, columns: np.ndarray, n_columns: int) -> CoMoments:
        """Return the same statistics among `n_groups` groups and `n_columns` design columns.

        Group i moves to `groups[i]`, column k to `columns[k]`. New groups are empty.
        A new column is 0 in every old row, which is what the indicator of a level
        that had not been seen is.
        """

        def spread(old: np.ndarray, *axes: np.ndarray) -> np.ndarray:
            sizes = (n_groups,) + (n_columns,) * (len(axes) - 1)
            new = np.zeros(sizes + old.shape[len(axes) :])
            new[np.ix_(*axes)] = old
            return new

        x = Moments(*(spread(v, groups) for v in (self.x.n, self.x.mean, self.x.m2)))
        return CoMoments(
            x=x,
            z_mean=spread(self.z_mean, groups, columns),
            zz=spread(self.zz, groups, columns, columns),
            zx=spread(self.zx, groups, columns),
            rows=spread(self.rows, groups),
            row_z_mean=spread(self.row_z_mean, groups, columns),
            row_zz=spread(self.row_zz, groups, columns, columns),
        )

    def only(self, k: int) -> CoMoments:
        """Return the statistics of group k alone."""
        one = slice(k, k + 1)
        x = Moments(self.x.n[one], self.x.mean[one], self.x.m2[one])
        rest = ("z_mean", "zz", "zx", "rows", "row_z_mean", "row_zz")
        return CoMoments(x, *(getattr(self, name)[one] for name in rest))

    @classmethod
    def join(cls, parts: list[CoMoments]) -> CoMoments:
        """Lay groups side by side; parts with and without missing values may be mixed."""
        wide = not all(part.complete for part in parts)

        def stack(name: str) -> np.ndarray:
            arrays = [getattr(part, name) for part in parts]
            if wide and name in ("z_mean", "zz"):
                p = parts[0].x.mean.shape[1]
                arrays = [np.broadcast_to(a, (*a.shape[:-1], p)) for a in arrays]
            return np.concatenate(arrays)

        x = Moments(*(np.concatenate([getattr(b.x, f) for b in parts]) for f in ("n", "mean", "m2")))
        rest = ("z_mean", "zz", "zx", "rows", "row_z_mean", "row_zz")
        return cls(x, *(stack(name) for name in rest))
