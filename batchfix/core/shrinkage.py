"""Shrinkage: batch effects of many features inform each other.

Standardised batch effects (their location and variance, feature by feature) go in;
their empirical-Bayes posteriors come out (Johnson, Li and Rabinovic 2007,
"Adjusting batch effects in microarray expression data using empirical Bayes
methods", Biostatistics 8). A prior belongs to one batch and averages ACROSS FEATURES.

The data enter only through n, their mean g and variance d:

    sum_i (s_i - x)^2 = (n - 1) d + n (g - x)^2
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import blocks


@dataclass(frozen=True)
class Prior:
    """Priors of B batches: location ~ N(mean, variance), scale^2 ~ InverseGamma(shape, rate).

    sva calls them gamma.bar, t2, a.prior and b.prior. Each is an array (B,).
    """

    mean: np.ndarray
    variance: np.ndarray
    shape: np.ndarray
    rate: np.ndarray

    @classmethod
    def of(cls, location: np.ndarray, variance: np.ndarray) -> Prior:
        """Match moments across features (axis 1, ddof 1); pairs that are NaN have no say.

        For the variances, mean m and variance s2 give shape (2 s2 + m^2) / s2 and rate
        (m s2 + m^3) / s2 (Johnson et al. 2007, supplement, section 1).
        """
        v_mean, v_var = _mean_and_variance(variance)
        with np.errstate(divide="ignore", invalid="ignore"):
            shape = (2 * v_var + v_mean**2) / v_var
            rate = (v_mean * v_var + v_mean**3) / v_var
        return cls(*_mean_and_variance(location), shape, rate)


def _mean_and_variance(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance (ddof 1) across features, NaN left out; NaN where too few."""
    if not np.isnan(np.add.reduce(x, axis=1)).any():  # the common case, at a third of the cost
        n_all = x.shape[1]
        mean = x.mean(axis=1) if n_all else np.full(len(x), np.nan)
        off = x - mean[:, None]
        return mean, np.einsum("bp,bp->b", off, off) / (n_all - 1) if n_all > 1 else np.full(len(x), np.nan)
    seen = ~np.isnan(x)
    n = seen.sum(axis=1).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(seen, x, 0).sum(axis=1) / n
        off = np.where(seen, x - mean[:, None], 0)
        variance = (off * off).sum(axis=1) / (n - 1)
    return np.where(n > 0, mean, np.nan), np.where(n > 1, variance, np.nan)


@dataclass(frozen=True)
class Posterior:
    """Shrunken location and variance (B, p), whether the iteration settled (B,), and its rounds (B,)."""

    location: np.ndarray
    variance: np.ndarray
    converged: np.ndarray
    rounds: np.ndarray

    @classmethod
    def at_once(cls, location: np.ndarray, variance: np.ndarray) -> Posterior:
        """Posterior that needed no iteration."""
        n = len(location)
        return cls(location, variance, np.ones(n, dtype=bool), np.ones(n, dtype=int))


def shrink_location(location: np.ndarray, prior: Prior, n: np.ndarray | float = 1.0) -> Posterior:
    """Posterior mean of the location alone, with variance 1.

    ComBat with mean_only counts one observation (n = 1) whatever the batch holds, as sva does. So little moves far:
    features that a guard leaves unscaled beside scaled ones count what they hold.
    """
    weight = prior.variance[:, None] * n
    mean = prior.mean[:, None]
    value = mean + (location - mean) * (weight / (weight + 1))
    value = np.where(np.isnan(location), prior.mean[:, None], value)
    return Posterior.at_once(value, np.ones_like(value))


def shrink_parametric(
    n: np.ndarray,
    location: np.ndarray,
    variance: np.ndarray,
    prior: Prior,
    *,
    tol: float = 1e-4,
    max_iter: int = 1000,
) -> Posterior:
    """Joint posterior of location and variance under the conjugate priors.

    Alternates the two conditional means until, batch by batch,
    max((new - old) / old) < tol in absolute change over the signed old value, as sva
    does (a negative location never holds the iteration up).

    Parameters
    ----------
    n, location, variance : arrays (B, p)
        Observed values, mean and variance (ddof 1) of the standardised data. NaN where
        there is none (n = 0, or n = 1 for the variance): the prior stands in.
    """
    new_location, new_variance = np.empty_like(location), np.empty_like(location)
    converged, rounds = np.zeros(len(location), dtype=bool), np.zeros(len(location), dtype=int)

    def work(b: int) -> None:
        new_location[b], new_variance[b], converged[b], rounds[b] = _alternate(
            n[b], location[b], variance[b], _at(prior, b), tol, max_iter
        )

    blocks.run(work, range(len(location)), 16 * location.nbytes)
    return Posterior(new_location, new_variance, converged, rounds)


def _at(prior: Prior, b: int) -> tuple[float, float, float, float]:
    return tuple(float(v[b]) for v in (prior.mean, prior.variance, prior.shape, prior.rate))  # type: ignore[return-value]  # four fields, four floats


def _alternate(
    n: np.ndarray,
    location: np.ndarray,
    variance: np.ndarray,
    prior: tuple[float, float, float, float],
    tol: float,
    max_iter: int,
) -> tuple[np.ndarray, np.ndarray, bool, int]:
    mean, t2, shape, rate = prior
    known_scale = np.isfinite(shape) and np.isfinite(rate)
    # features whose variances all agree: the prior is a point, and shrinkage is complete
    point = np.nanmean(variance) if np.isfinite(variance).any() else 1.0
    start = rate / (shape - 1) if known_scale else point
    g_hat = np.where(np.isnan(location), mean, location)
    d_old = np.where(np.isnan(variance), start, variance)
    squares = np.where(n > 1, (n - 1) * d_old, 0.0)
    g_old = g_hat.copy()
    weight, from_mean = t2 * n, g_hat - mean
    fixed = half = np.zeros(0)
    if known_scale:
        inverse = 1 / (0.5 * n + shape - 1)
        fixed, half = (0.5 * squares + rate) * inverse, 0.5 * n * inverse
    g_new, d_new, step = np.empty_like(g_old), np.full_like(d_old, point), np.empty_like(g_old)
    with np.errstate(divide="ignore", invalid="ignore"):
        for count in range(1, max_iter + 1):
            # location: (t2 n g + d mean) / (t2 n + d)
            np.add(weight, d_old, out=step)
            np.divide(weight, step, out=step)
            np.multiply(step, from_mean, out=g_new)
            g_new += mean
            if known_scale:
                # variance: (squares / 2 + n (g - location)^2 / 2 + rate) / (n / 2 + shape - 1)
                np.subtract(g_hat, g_new, out=d_new)
                d_new *= d_new
                d_new *= half
                d_new += fixed
            change = max(_change(g_new, g_old, step), _change(d_new, d_old, step))
            g_old, g_new = g_new, g_old
            d_old, d_new = d_new, (d_old if known_scale else d_new.copy())
            if not change > tol:
                return g_old, d_old, True, count
    return g_old, d_old, False, max_iter


def _change(new: np.ndarray, old: np.ndarray, step: np.ndarray) -> float:
    """Largest |new - old| / old, old with its sign; 0 / 0, a value that was and stayed 0, is no change."""
    np.subtract(new, old, out=step)
    np.abs(step, out=step)
    step /= old
    value = float(np.max(step))
    return value if value == value else float(np.nanmax(step, initial=0.0))


PAIRS = 1 << 17
"""Pairs of features weighed at a time: a megabyte of float64."""


SMALLEST_LOG = -700.0
"""A weight of e^-700 beside one of 1 is nothing, and exp is ten times slower below it."""


def shrink_nonparametric(
    n: np.ndarray, location: np.ndarray, variance: np.ndarray, *, mean_only: bool = False
) -> Posterior:
    """Posterior with the other features' estimates themselves as the prior.

    Feature i of a batch gets the mean of (g_j, d_j) over the other features j, weighed by
    the likelihood of its data, N(s_i | g_j, d_j): p^2 weights a batch, taken in blocks
    and by log-sum-exp, so that no weight underflows to 0 / 0. Features without a variance
    have no say; where no feature has one, only locations are weighed, as with `mean_only`;
    and one that is alone keeps its own estimates, as nothing says to move them.

    Parameters are those of `shrink_parametric`; with `mean_only` every d_j is 1.
    """
    new_location, new_variance = np.empty_like(location), np.empty_like(location)
    n_batches, p = location.shape
    if mean_only:
        variance = np.ones_like(location)
    step = max(1, PAIRS // max(1, p))
    tasks = [(b, i, j) for b in range(n_batches) for i, j in blocks.spans(0, p, step)]

    def work(task: tuple[int, int, int]) -> None:
        b, first, last = task
        new_location[b, first:last], new_variance[b, first:last] = _weigh(n[b], location[b], variance[b], first, last)

    blocks.run(work, tasks, 8 * n_batches * p * p)
    if mean_only:
        new_variance[:] = 1.0
    return Posterior.at_once(new_location, new_variance)


def _weigh(n: np.ndarray, g: np.ndarray, d: np.ndarray, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
    """Posterior means of features first .. last - 1 of one batch."""
    located = np.isfinite(g)
    usable = np.flatnonzero(located & np.isfinite(d) & (d > 0))
    if not len(usable) and located.any():
        d = np.where(located, 1.0, np.nan)
        usable = np.flatnonzero(located)
    if len(usable) < 2:
        alone = (g[usable], d[usable]) if len(usable) else (np.nan, 1.0)
        return tuple(np.broadcast_to(value, (last - first,)) for value in alone)  # type: ignore[return-value]  # two
    g_j, d_j = g[usable], d[usable]
    count = n[first:last, None]
    g_i = np.where(np.isnan(g[first:last]), 0.0, g[first:last])[:, None]
    d_i = np.where(np.isnan(d[first:last]), 0.0, d[first:last])[:, None]
    # -2/n log likelihood = log(2 pi d_j) + ((n - 1) / n d_i + (g_i - g_j)^2) / d_j
    cost = g_i - g_j
    np.multiply(cost, cost, out=cost)
    cost += np.maximum(count - 1, 0) / np.maximum(count, 1) * d_i
    cost *= 1 / d_j
    cost += np.log(d_j)
    own = np.searchsorted(usable, np.arange(first, last))
    is_own = usable[np.minimum(own, len(usable) - 1)] == np.arange(first, last)
    itself = np.flatnonzero(is_own), own[is_own]
    cost[itself] = np.inf
    cost -= cost.min(axis=1, keepdims=True)
    cost *= -0.5 * count
    np.maximum(cost, SMALLEST_LOG, out=cost)
    np.exp(cost, out=cost)
    cost[itself] = 0.0
    sums = cost @ np.stack([np.ones_like(g_j), g_j, d_j], axis=1)
    return sums[:, 1] / sums[:, 0], sums[:, 2] / sums[:, 0]
