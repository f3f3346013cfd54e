"""Dispersion: whether groups of samples scatter equally about their own centres.

Samples (n, p), or distances alone, and codes flow in; each sample's distance to the centre of its group flows out, and
the F of a one-way analysis of variance on these (Anderson 2006, "Distance-based tests for homogeneity of multivariate
dispersions", Biometrics 62). The centre is the mean, or the spatial median, which minimises the sum of distances.
Feature by feature, distances to the group's median give the test of Brown and Forsythe (1974, "Robust tests for the
equality of variances", JASA 69).
"""

from __future__ import annotations

import numpy as np

from . import gram
from .feature_effects import FeatureSquares, centred, feature_squares
from .groups import Groups
from .projection import Margin, indicators

CLOSE = 1e-9
"""How near the spatial median the search must come, in units of the mean distance from the mean."""

WEISZFELD, NEWTON = 100, 100
"""Steps of either kind, at most."""

NEGATIVE = 1e-10
"""A squared distance or eigenvalue below -this share of the largest is negative by more than rounding."""


ALONE = 1e-9
"""A sample with less room than this is a fit of its own."""


def distances_to_centre(X: np.ndarray, groups: Groups, *, median: bool = False) -> tuple[np.ndarray, bool]:
    """Euclidean distance (n,) of each sample to the centre of its group, and whether all medians settled.

    Examples
    --------
    >>> groups = Groups.of(np.array([0, 0, 1, 1]), 2)
    >>> distances_to_centre(np.array([[0.0], [2.0], [5.0], [11.0]]), groups)[0].tolist()
    [1.0, 1.0, 3.0, 3.0]
    """
    out, settled = np.empty(len(X)), True
    for k in range(len(groups)):
        rows = groups.rows(k)
        u, unit = centred(X[rows].astype(np.float64))
        largest = unit.max(initial=0.0) or 1.0
        u *= unit / largest
        if median:
            middle, done = spatial_median(u)
            u -= middle
            settled = settled and done
        out[rows] = np.sqrt(np.square(u).sum(axis=1)) * largest
    return out, settled


def distances_to_fit(X: np.ndarray, margin: Margin) -> tuple[np.ndarray, np.ndarray]:
    """Residuals (n, p) of a table given both bases of a margin, and each sample's distance (n,) from its fit.

    Both are divided by the root of 1 less the sample's leverage (1 / m of m samples alone in a cell), for a fit of few
    samples lies too near them. A sample that is a fit of its own has none: NaN.

    Examples
    --------
    >>> from .projection import indicators
    >>> margin = Margin.of(indicators(np.array([0, 0, 1, 1]), 2))
    >>> distances_to_fit(np.array([[0.0], [2.0], [5.0], [11.0]]), margin)[1].round(3).tolist()
    [1.414, 1.414, 4.243, 4.243]
    """
    u, unit = centred(X.astype(np.float64))
    largest = unit.max(initial=0.0) or 1.0
    u *= unit / largest
    u -= margin.given @ (margin.given.T @ u)
    u -= margin.added @ (margin.added.T @ u)
    u /= np.sqrt(room(margin))[:, None]
    distance = np.sqrt(np.square(u).sum(axis=1)) * largest
    u *= largest
    return u, distance


def distances_to_fit_from(G: np.ndarray, margin: Margin) -> tuple[np.ndarray, int]:
    """The same distances from inner products G (n, n) of centred samples, written over; and how many have none."""
    left = gram.without(gram.without(G, margin.given), margin.added)
    distance, negative = _roots(np.diagonal(left) / room(margin))
    return distance, negative


def room(margin: Margin) -> np.ndarray:
    """1 less the leverage of each sample (n,); NaN where nothing is left."""
    left = 1 - 1 / len(margin.added) - np.square(margin.given).sum(axis=1) - np.square(margin.added).sum(axis=1)
    return np.asarray(np.where(left > ALONE, left, np.nan))


def spatial_median(X: np.ndarray) -> tuple[np.ndarray, bool]:
    """The point (p,) with the least sum of distances to rows of X (n, p), and whether the search settled.

    Weiszfeld's iteration, with the step of Vardi and Zhang (2000, "The multivariate L1-median and associated data
    depth", PNAS 97) that leaves a data point unless it is the median itself; Newton's steps where that is slow, as
    between two clusters of one size. With one feature it is the median; where it is not unique (an even number of
    points on one line), one of the medians.

    Examples
    --------
    >>> spatial_median(np.array([[0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [6.0, 6.0]]))[0].round(6).tolist()
    [0.0, 0.0]
    """
    if X.shape[1] == 1:
        return np.median(X, axis=0), True
    y = X.mean(axis=0)
    scale = float(np.sqrt(np.square(X - y).sum(axis=1)).mean())
    if scale == 0 or len(X) < 3:
        return y, True
    before = np.inf
    for count in range(WEISZFELD):
        pull, weight, here = _pull(X, y)
        if count % 8 == 4:
            nearest = int(np.square(X - y).sum(axis=1).argmin())
            if _is_median(X, nearest):
                return X[nearest], True
        strength = float(np.sqrt(pull @ pull))
        length = max(0.0, strength - here) / weight
        if length > 0:
            y = y + pull * (length / strength)
        # steps shrink by a constant factor: what is left of them all
        if length == 0 or (length < before < np.inf and length * length / (before - length) <= CLOSE * scale):
            return y, True
        before = length
    return _newton(X, y, scale)


def _pull(X: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float, int]:
    """Sum of unit vectors from y to the samples elsewhere, sum of one over their distances, and samples at y."""
    apart = X - y
    distance = np.sqrt(np.square(apart).sum(axis=1))
    away = distance > 1e-12 * distance.max()
    inverse = 1 / distance[away]
    return inverse @ apart[away], float(inverse.sum()), int((~away).sum())


def _newton(X: np.ndarray, start: np.ndarray, scale: float) -> tuple[np.ndarray, bool]:
    """Newton's method within the span of the samples, halving steps that do not lower the sum of distances."""
    _, _, axes = np.linalg.svd(X - start, full_matrices=False)
    Z, y = (X - start) @ axes.T, np.zeros(len(axes))

    def total(at: np.ndarray) -> float:
        return float(np.sqrt(np.square(Z - at).sum(axis=1)).sum())

    least = total(y)
    for _ in range(NEWTON):
        nearest = int(np.square(Z - y).sum(axis=1).argmin())
        if _is_median(Z, nearest):
            return X[nearest], True
        apart = Z - y
        distance = np.maximum(np.sqrt(np.square(apart).sum(axis=1)), 1e-12 * scale)
        unit = apart / distance[:, None]
        bend = np.eye(len(axes)) * (1 / distance).sum() - (unit / distance[:, None]).T @ unit
        step = np.linalg.lstsq(bend, unit.sum(axis=0), rcond=1e-14)[0]
        while (after := total(y + step)) > least and step @ step > np.square(CLOSE * scale):
            step *= 0.5
        if after <= least:
            y, least = y + step, after
        if step @ step <= np.square(CLOSE * scale):
            return start + axes.T @ y, True
    return start + axes.T @ y, False


def _is_median(X: np.ndarray, i: int) -> bool:
    """Whether sample i minimises the sum of distances: the others pull no harder than its own weight."""
    apart = X - X[i]
    distance = np.sqrt(np.square(apart).sum(axis=1))
    here = distance == 0
    pull = (apart[~here] / distance[~here, None]).sum(axis=0)
    return bool(np.sqrt(pull @ pull) <= here.sum())


def distances_to_centroid_from(D: np.ndarray, groups: Groups) -> tuple[np.ndarray, int]:
    """Distance (n,) of each sample to its group's centroid from distances D (n, n) alone, and how many have none.

    d^2 = mean over j in C of D_ij^2 - half the mean over pairs in C of D_jl^2. Where D is not Euclidean it can be
    negative; such distances are 0, and counted.
    """
    squares = np.empty(len(D))
    for k in range(len(groups)):
        rows = groups.rows(k)
        means = np.square(D[np.ix_(rows, rows)]).mean(axis=1)
        squares[rows] = means - means.mean() / 2
    return _roots(squares)


def distances_to_median_from(G: np.ndarray, groups: Groups) -> tuple[np.ndarray, int, bool]:
    """The same to the spatial median, from inner products G (n, n): its axes of negative squares are taken apart.

    Eigenvectors of G are coordinates (principal coordinate analysis, Gower 1966). The squared distance is that to the
    median along axes of positive eigenvalues, less that along the others.
    """
    values, vectors = np.linalg.eigh(G)
    limit = NEGATIVE * np.abs(values).max(initial=0.0)
    squares, settled = np.zeros(len(G)), True
    for sign in (1, -1):
        axes = sign * values > limit
        if axes.any():
            distance, done = distances_to_centre(vectors[:, axes] * np.sqrt(sign * values[axes]), groups, median=True)
            squares += sign * np.square(distance)
            settled = settled and done
    return *_roots(squares), settled


def _roots(squares: np.ndarray) -> tuple[np.ndarray, int]:
    largest = np.nanmax(np.abs(squares), initial=0.0)
    negative = int((squares < -NEGATIVE * largest).sum())
    return np.sqrt(np.maximum(squares, 0.0)), negative


def brown_forsythe(X: np.ndarray, groups: Groups) -> FeatureSquares:
    """Analysis of variance of |x - median of its group|, feature by feature: F tells whether spreads differ.

    Parameters
    ----------
    X : array (n, p)
        NaN is not observed.

    Examples
    --------
    >>> X = np.array([[1.0], [2.0], [3.0], [10.0], [20.0], [30.0]])
    >>> brown_forsythe(X, Groups.of(np.array([0, 0, 0, 1, 1, 1]), 2)).F.round(3).tolist()
    [3.208]
    """
    codes = np.empty(len(X), dtype=np.intp)
    away = np.empty(X.shape)
    for k in range(len(groups)):
        rows = groups.rows(k)
        codes[rows] = k
        x = X[rows].astype(np.float64)
        x -= _medians(x)
        away[rows] = np.abs(x, out=x)
    return feature_squares(away, indicators(codes, len(groups)))


def _medians(x: np.ndarray) -> np.ndarray:
    """Median (p,) of the observed values of each column (m, p); NaN where there are none."""
    middle = np.full(x.shape[1], np.nan)
    gaps = np.isnan(x)
    complete, seen = ~gaps.any(axis=0), ~gaps.all(axis=0)
    if complete.all():
        return np.asarray(np.median(x, axis=0))
    middle[complete] = np.median(x[:, complete], axis=0)
    middle[seen & ~complete] = np.nanmedian(x[:, seen & ~complete], axis=0)
    return middle
