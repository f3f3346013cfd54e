"""Hierarchy: small groups borrow from the group above them, by amounts that the data name.

Counts, means and centred sums of squares of the groups of many rows flow in; sums that add up over rows
(`ShrinkageSums`), two amounts of shrinkage and then shrunken statistics flow out:

    mean*     = (n mean + k parent) / (n + k),      k = variance within groups / variance between their true means
    variance* = (d0 parent + d variance) / (d0 + d),      d = n - 1, d0 = what the parent is worth in such freedom

The mean's is the best linear predictor of a one-way random effect (Henderson 1975, "Best linear unbiased estimation
and prediction under a selection model", Biometrics 31), k by the method of moments (Searle, Casella and McCulloch 1992,
"Variance Components", section 3.6). The variance's is the posterior mean under an inverse chi-square prior, d0 from
the spread of log variances (Smyth 2004, "Linear models and empirical Bayes methods", section 6.2).

Each row (a date) is reckoned in units of its own variance within groups, so that a wild day counts as one day. On
daily returns of 501 stocks, sub-industries in sectors, k from the years before then predicts a stock from its peers
with an R2 of .4836; from sums in plain units .4829; the best single k, known afterwards, .4838.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import reduce
from operator import add
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import digamma, polygamma

from . import blocks
from .moments import NOISE

Floats = NDArray[np.float64]


def shrunken_mean(n: ArrayLike, mean: ArrayLike, parent_mean: ArrayLike, k: ArrayLike) -> Floats:
    """(n mean + k parent_mean) / (n + k).

    Parameters
    ----------
    n, mean : arrays (..., G)
        How many values each group has, none negative (an effective number where they are weighted), and their mean.
    parent_mean : array that broadcasts to them
        Of the group above, already shrunken toward its own parent. Where it is not known (NaN) the group's own
        mean stays.
    k : number or array that broadcasts to them
        What the parent is worth in values, at least 0: 0 leaves the mean, infinity takes the parent's.

    Returns
    -------
    float64 array (..., G). Where n is 0 it is the parent's mean, whatever `mean` holds.

    Examples
    --------
    >>> shrunken_mean([0, 1, 8], [np.nan, 4.0, 4.0], 1.0, k=2.0).round(9).tolist()
    [1.0, 2.0, 3.4]
    """
    n, mean, parent, k = (np.asarray(v, dtype=np.float64) for v in (n, mean, parent_mean, k))
    own = (n > 0) & (k < np.inf)
    with np.errstate(invalid="ignore"):  # NaN stands where nothing is known
        share = np.divide(n, n + k, out=np.zeros(np.broadcast_shapes(n.shape, k.shape)), where=own)
        value = parent + share * (mean - parent)
    value = np.where(share == 0, parent, value)
    return np.where((share == 1) | (np.isnan(parent) & (n > 0)), mean, value)


def shrunken_variance(
    freedom: ArrayLike, variance: ArrayLike, parent_variance: ArrayLike, prior_freedom: ArrayLike
) -> Floats:
    """(d0 parent_variance + d variance) / (d0 + d).

    Parameters
    ----------
    freedom, variance : arrays (..., G)
        Degrees of freedom d of each group's variance, and the variance: where d is 0 it may be NaN.
    parent_variance : array that broadcasts to them
        Of the group above, already shrunken. Where it is not known (NaN) the group's own variance stays.
    prior_freedom : number or array that broadcasts to them
        What the parent's variance is worth, d0: 0 leaves the group's, infinity takes the parent's.

    Returns
    -------
    float64 array (..., G), in squared units of the values. Where d is 0 it is the parent's.

    Examples
    --------
    >>> shrunken_variance([0, 1, 6], [np.nan, 4.0, 4.0], 1.0, prior_freedom=2.0).tolist()
    [1.0, 2.0, 3.25]
    """
    return shrunken_mean(freedom, variance, parent_variance, prior_freedom)


@dataclass(frozen=True)
class ShrinkageSums:
    """What rows say of how much groups of one level should borrow from their parents; `+` joins other rows.

    With s2 a row's variance within groups, of W degrees of freedom, and e_g = log s2_g - digamma(d_g / 2) +
    log(d_g / 2), sums run over rows and over parents, inside of which groups are compared with each other:

    Attributes
    ----------
    between
        (W - 2) / W / s2 sum_g n_g (mean_g - mean)^2: expected to be `freedom` + `size` / k. The first factor is what
        dividing by an estimate asks.
    freedom
        Groups less parents.
    size
        sum_g n_g - sum_g n_g^2 / sum_g n_g.
    spread, sampling, variances
        sum_g (e_g - e)^2; what sampling alone would make it, sum_g trigamma(d_g / 2) (1 - 1 / number of groups);
        and the degrees of freedom of it.

    Examples
    --------
    Four groups of 5, two to a parent; their true means differ by as much as their members do, so k is 1:

    >>> rng = np.random.default_rng(0)
    >>> true = rng.normal(size=(4000, 4, 1))
    >>> x = true + rng.normal(size=(4000, 4, 5))
    >>> mean = x.mean(axis=2)
    >>> m2 = ((x - mean[:, :, None]) ** 2).sum(axis=2)
    >>> sums = ShrinkageSums.of(np.full((4000, 4), 5.0), mean, m2, np.array([0, 0, 1, 1]))
    >>> round(float(sums.k), 2)
    1.01
    """

    between: Any
    freedom: Any
    size: Any
    spread: Any
    sampling: Any
    variances: Any

    @classmethod
    def of(cls, n: ArrayLike, mean: ArrayLike, m2: ArrayLike, parent: ArrayLike) -> ShrinkageSums:
        """Take the sums over rows.

        Parameters
        ----------
        n, mean, m2 : arrays (rows, ..., G), or (G,) for one row
            Moments of the groups of a level: where n is 0, mean and m2 may hold anything. Axes between the first
            and the last (features) stay apart: each has its amounts.
        parent : integer array (G,)
            The group of the level above that each belongs to, counted from 0 (all 0: the market); a group whose
            parent is below 0 has no say.

        Notes
        -----
        Groups without a sibling in their row, rows of 2 degrees of freedom or fewer within groups, and constant
        groups' variances say nothing and are left out.
        """
        n, mean, m2 = (np.atleast_2d(np.asarray(v, dtype=np.float64)) for v in (n, mean, m2))
        family = _Families.of(np.asarray(parent))
        n, mean, m2 = np.broadcast_arrays(n, mean, m2)
        step = blocks.rows_per_chunk(int(np.prod(n.shape[1:])), n.nbytes)

        def work(span: tuple[int, int]) -> ShrinkageSums:
            rows = slice(*span)
            return cls._of_rows(family.sort(n[rows]), family.sort(mean[rows]), family.sort(m2[rows]), family)

        parts = blocks.run(work, blocks.spans(0, len(n), step), n.nbytes)
        return reduce(add, parts, cls(*(np.zeros(n.shape[1:-1])[()] for _ in fields(cls))))

    @classmethod
    def _of_rows(cls, n: Floats, mean: Floats, m2: Floats, family: _Families) -> ShrinkageSums:
        """Sums of a few rows, groups sorted by parent."""
        seen = n > 0
        n, mean, m2 = (np.where(seen, a, 0.0) for a in (n, mean, m2))
        real = m2 > (NOISE * np.finfo(np.float64).eps * mean) ** 2 * n  # the others are constant
        m2 = np.where(real, m2, 0.0)

        values = family.total(n)
        off = mean - family.spread(_ratio(family.total(n * mean), values))
        # about the mean of the means, whose own rounding a second look removes
        off -= family.spread(_ratio(family.total(n * off), values))
        within, freedom = m2.sum(axis=-1), np.maximum(n - 1, 0).sum(axis=-1)
        usable = (freedom > 2) & (within > 0)
        between = _ratio((freedom - 2) * (n * off**2).sum(axis=-1), within)
        siblings = np.maximum(family.total(seen) - 1, 0).sum(axis=-1)
        size = (values - _ratio(family.total(n * n), values)).sum(axis=-1)

        d = np.where(real, np.maximum(n - 1, 0), 0.0)
        known = d > 0
        half = np.where(known, d, 1.0) / 2
        log = np.log(np.where(known, m2 / half / 2, 1.0)) - _each(digamma, half) + np.log(half)
        log = np.where(known, log, 0.0)
        number = family.total(known)
        apart = np.where(known, log - family.spread(_ratio(family.total(log), number)), 0.0)
        sampling = np.where(known, _each(lambda a: polygamma(1, a), half), 0.0)
        sampling = family.total(sampling) * (1 - _ratio(np.ones(number.shape), number))
        parts = (np.where(usable, a, 0.0) for a in (between, siblings, size))
        logs = (apart**2, sampling * (number > 0), np.maximum(number - 1, 0))
        return cls(*(a.sum(axis=0) for a in parts), *(a.sum(axis=-1).sum(axis=0) for a in logs))

    def __add__(self, other: ShrinkageSums) -> ShrinkageSums:
        """Sums over both sets of rows."""
        return ShrinkageSums(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def k(self) -> Any:
        """Variance within groups over variance between them: a number, or an array (...) of one a feature.

        Infinity where groups of one parent differ no more than their members make them, and where none could be
        compared: groups then take their parents' means.
        """
        signal = np.asarray(self.between - self.freedom, dtype=np.float64)
        return np.divide(self.size, signal, out=np.full(signal.shape, np.inf), where=signal > 0)[()]

    @property
    def prior_freedom(self) -> Any:
        """Degrees of freedom d0 that a parent's variance is worth: a number, or an array (...) of one a feature.

            trigamma(d0 / 2) = (spread - sampling) / variances

        Infinity where groups' variances differ no more than by sampling, and where none could be compared. The
        sampling is that of normal values. Long tails make variances differ more, so that d0 comes out small and the
        groups' own variances keep more weight than they would need to.
        """
        spread = np.asarray(self.spread - self.sampling, dtype=np.float64)
        excess = np.divide(spread, self.variances, out=np.zeros(spread.shape), where=np.asarray(self.variances) > 0)
        differ = excess > 0
        return np.where(differ, 2 * trigamma_inverse(np.where(differ, excess, 1.0)), np.inf)[()]


@dataclass(frozen=True)
class _Families:
    """Groups sorted by parent, along the last axis; each family is a run of them."""

    order: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray

    @classmethod
    def of(cls, parent: np.ndarray) -> _Families:
        order = np.argsort(parent, kind="stable")
        order = order[parent[order] >= 0]
        starts = np.flatnonzero(np.diff(parent[order], prepend=-1))
        return cls(order, starts, np.diff(starts, append=len(order)))

    def sort(self, a: np.ndarray) -> np.ndarray:
        return np.take(a, self.order, axis=-1)

    def total(self, a: np.ndarray) -> Floats:
        if not len(self.starts):
            return np.zeros((*a.shape[:-1], 0))
        total: Floats = np.add.reduceat(a, self.starts, axis=-1, dtype=np.float64)
        return total

    def spread(self, a: np.ndarray) -> np.ndarray:
        return np.repeat(a, self.sizes, axis=-1)


def _ratio(a: Floats, b: Floats) -> Floats:
    """Divide a by b, 0 where b is 0."""
    return np.divide(a, b, out=np.zeros(a.shape), where=b != 0)


def _each(function: Callable[[Floats], Floats], a: Floats) -> Floats:
    """Return a costly function of many values of which few differ."""
    values, where = np.unique(a, return_inverse=True)
    return function(values)[where].reshape(a.shape)


def trigamma_inverse(x: ArrayLike) -> Floats:
    """Solve trigamma(y) = x for y > 0, by Newton's iteration on 1 / trigamma (Smyth 2004, appendix).

    Examples
    --------
    >>> trigamma_inverse([polygamma(1, 3.0), polygamma(1, 0.25)]).round(9).tolist()
    [3.0, 0.25]
    """
    x = np.asarray(x, dtype=np.float64)
    y = 0.5 + 1 / x
    for _ in range(100):
        value = polygamma(1, y)
        step = value * (1 - value / x) / polygamma(2, y)
        y = y + step
        if (np.abs(step) <= 1e-9 * y).all():  # quadratic: the next step would be 1e-18
            break
    return np.asarray(y)
