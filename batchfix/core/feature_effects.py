"""Feature effects: how much of each feature a factor explains, beyond what is given.

A table (samples x features) and design columns flow in; sums of squares, one set a feature, flow out. With u a feature
centred over its observed samples, and the bases of `projection`:

    added    = |added' u|^2
    residual = |u - given given' u - added added' u|^2
    eta2     = added / |u|^2,     F = (added / df) / (residual / residual_df)

eta2 is the marginal R2 of one feature; sums over features give the R2 and F of a PERMANOVA with Euclidean distances
(McArdle and Anderson 2001, "Fitting multivariate models to community data", Ecology 82).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import fdtrc

from . import blocks
from .moments import NOISE
from .projection import Margin

COLUMN_VALUES = 1 << 16
"""Values looked at together: they stay in the cache."""

LINE = 8
"""Columns that one reading of the memory brings."""


@dataclass(frozen=True)
class Squares:
    """Sums of squares of one analysis of variance, with their degrees of freedom."""

    total: float
    added: float
    residual: float
    df: int
    given_df: int
    residual_df: int

    @property
    def R2(self) -> float:  # noqa: N802 - the field's name
        """Share of the total that the factor adds."""
        return self.added / self.total

    @property
    def R2_adjusted(self) -> float:  # noqa: N802 - the field's name
        """R2 less what as many columns of noise would explain, at the residual mean square: (added - df MS) / total.

        Never above R2, and negative where the factor explains less than noise would. With nothing given it is
        Ezekiel's formula.
        """
        return (self.added - self.df * self.residual / self.residual_df) / self.total

    @property
    def R2_partitioned(self) -> float:  # noqa: N802 - the field's name
        """Adjusted R2 of everything less that of what is given, as in variation partitioning; such parts add up.

        Peres-Neto et al. 2006, "Variation partitioning of species data matrices", Ecology 87. It can be above R2, and
        above 1, where what is given alone explains less than noise would.
        """
        n = 1 + self.given_df + self.df + self.residual_df
        left, before = self.residual / self.total, (self.residual + self.added) / self.total
        return before * (n - 1) / (n - 1 - self.given_df) - left * (n - 1) / self.residual_df

    @property
    def F(self) -> float:  # noqa: N802 - the field's name
        """Mean square added over mean square residual; infinite where nothing is left."""
        with np.errstate(divide="ignore"):
            return float(np.float64(self.added / self.df) / (self.residual / self.residual_df))


@dataclass(frozen=True)
class FeatureSquares:
    """Sums of squares of each feature, in a unit of its own.

    Attributes
    ----------
    n, df, given_df, residual_df : arrays (p,)
        Observed samples, and degrees of freedom among them.
    total, added, residual : arrays (p,)
        In squares of `unit`. A total of 0 is a feature whose spread is rounding noise; NaN, one of fewer than two
        observed samples.
    unit : array (p,)
        The feature's largest distance from its mean; 0 where it is constant.
    """

    n: np.ndarray
    total: np.ndarray
    added: np.ndarray
    residual: np.ndarray
    df: np.ndarray
    given_df: np.ndarray
    residual_df: np.ndarray
    unit: np.ndarray

    @property
    def eta2(self) -> np.ndarray:
        """Share of the feature's variance that the factor adds; NaN for a feature without variance."""
        return _ratio(self.added, np.where(self.total > 0, self.total, np.nan))

    @property
    def F(self) -> np.ndarray:  # noqa: N802 - the field's name
        """F of the factor; infinite where nothing is left over, NaN where there is nothing to test."""
        testable = (self.total > 0) & (self.df > 0) & (self.residual_df > 0)
        added = np.where(testable, self.added, np.nan)
        return _ratio(_ratio(added, self.df), _ratio(self.residual, self.residual_df))

    @property
    def p_value(self) -> np.ndarray:
        """P of a larger F on df and residual_df degrees of freedom, were the noise normal."""
        F = self.F
        p = fdtrc(np.maximum(self.df, 1), np.maximum(self.residual_df, 1), F)
        return np.asarray(np.where(np.isinf(F), 0.0, p))

    def sum(self) -> Squares:
        """Of all features together, each in the table's own unit. They must have the same observed samples."""
        largest = self.unit.max(initial=0.0)
        weight = np.square(self.unit / (largest if largest > 0 else 1.0))
        total, added, residual = (float(weight @ s) for s in (self.total, self.added, self.residual))
        return Squares(total, added, residual, int(self.df[0]), int(self.given_df[0]), int(self.residual_df[0]))


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(a / b)


def feature_squares(X: np.ndarray, factor: np.ndarray, given: np.ndarray | None = None) -> FeatureSquares:
    """Analysis of variance of every feature on a factor, beyond what is given.

    Parameters
    ----------
    X : array (n, p), float64 or float32
        Samples in rows. NaN is not observed: that feature is analysed over its other samples.
    factor, given : arrays (n, q), (n, r)
        Design columns; an intercept is always there.

    Examples
    --------
    >>> batch = np.array([[1.0], [1.0], [0.0], [0.0]])
    >>> squares = feature_squares(np.array([[0.0, 1.0], [2.0, 2.0], [10.0, 3.0], [12.0, np.nan]]), batch)
    >>> squares.eta2.round(3), squares.F.round(3), squares.n
    (array([0.962, 0.75 ]), array([50.,  3.]), array([4, 3]))
    """
    n, p = X.shape
    eps = float(np.finfo(X.dtype).eps) if X.dtype.kind == "f" else float(np.finfo(np.float64).eps)
    whole = Margin.of(factor, given)
    out = FeatureSquares(
        *(np.zeros(p, dtype=np.intp), np.zeros(p), np.zeros(p), np.zeros(p)),
        *(np.zeros(p, dtype=np.intp), np.zeros(p, dtype=np.intp), np.zeros(p, dtype=np.intp), np.ones(p)),
    )

    def work(span: tuple[int, int]) -> None:
        a, b = span
        x = X[:, a:b].astype(np.float64)
        for rows, columns in _patterns(~np.isnan(x)):
            if rows is not None and len(rows) < 2:
                out.n[a + columns] = len(rows)
                for squares in (out.total, out.added, out.residual):
                    squares[a + columns] = np.nan
                continue
            part = x[:, columns] if rows is None else x[np.ix_(rows, columns)]
            margin = whole if rows is None else Margin.of(factor[rows], None if given is None else given[rows])
            _fill(out, a + columns, part, margin, eps)

    blocks.run(work, blocks.spans(0, p, max(LINE, COLUMN_VALUES // max(1, n))), X.nbytes)
    return out


def _patterns(seen: np.ndarray) -> Iterator[tuple[np.ndarray | None, np.ndarray]]:
    """Columns that are observed in the same rows, with those rows; None for all rows."""
    complete = seen.all(axis=0)
    if complete.any():
        yield None, np.flatnonzero(complete)
    gaps = np.flatnonzero(~complete)
    found: dict[bytes, list[int]] = {}
    for j, pattern in zip(gaps.tolist(), np.packbits(seen[:, gaps].T, axis=1), strict=True):
        found.setdefault(pattern.tobytes(), []).append(j)
    for columns in found.values():
        yield np.flatnonzero(seen[:, columns[0]]), np.array(columns)


def _fill(out: FeatureSquares, at: np.ndarray, x: np.ndarray, margin: Margin, eps: float) -> None:
    """Write the squares of complete columns x (m, k) at places `at`."""
    m = len(x)
    out.n[at] = m
    size = np.abs(x).max(axis=0)
    u, unit = centred(x)
    total = np.square(u).sum(axis=0)
    noise = m * np.square(NOISE * eps * size / np.where(unit > 0, unit, 1.0))
    added = margin.added.T @ u
    rest = u - margin.given @ (margin.given.T @ u)
    rest -= margin.added @ (margin.added.T @ rest)
    residual = np.square(rest).sum(axis=0)
    constant = total <= noise
    out.total[at] = np.where(constant, 0.0, total)
    out.added[at] = np.where(constant, 0.0, np.minimum(np.square(added).sum(axis=0), total))
    out.residual[at] = np.where(constant | (residual <= noise), 0.0, residual)
    out.df[at], out.given_df[at], out.residual_df[at] = margin.df, margin.given_df, margin.residual_df
    out.unit[at] = unit


def centred(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns (n, k) about their means, over their largest distance from it (k,), so that squares stay in range.

    A column of one value is 0, and so is its unit.
    """
    u = x - x[0]  # exact where the column is constant, and small against an offset
    u -= u.mean(axis=0)
    unit = np.abs(u).max(axis=0, initial=0.0)
    u /= np.where(unit > 0, unit, 1.0)
    u -= u.mean(axis=0)
    return u, unit


def adjusted(share: np.ndarray, df: np.ndarray, residual_df: np.ndarray) -> np.ndarray:
    """Share of the variance less what as many columns of noise would explain, nothing given (Ezekiel's formula).

    Examples
    --------
    >>> float(adjusted(np.array(0.5), np.array(2), np.array(4)))
    0.25
    """
    return np.asarray(share - df * (1 - share) / np.maximum(residual_df, 1))


def benjamini_hochberg(p_value: np.ndarray) -> np.ndarray:
    """False discovery rates q of p-values: the smallest rate at which each would be called.

    q_(i) = min over k >= i of m p_(k) / k (Benjamini and Hochberg 1995, "Controlling the false discovery rate", JRSS B
    57). NaN stays NaN and is not counted among the m.

    Examples
    --------
    >>> benjamini_hochberg(np.array([0.01, 0.04, np.nan, 0.03])).round(3)
    array([0.03, 0.04,  nan, 0.04])
    """
    q = np.full(np.shape(p_value), np.nan)
    at = np.flatnonzero(~np.isnan(p_value))
    order = at[np.argsort(p_value[at], kind="stable")[::-1]]
    m = len(order)
    q[order] = np.minimum.accumulate(p_value[order] * (m / np.arange(m, 0, -1))).clip(max=1.0)
    return q
