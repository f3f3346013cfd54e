"""Residuals: a second look at the rows of features of which moments alone cannot tell what the model leaves over.

From moments, a residual sum of squares is a difference. Where what is kept explains all but 1e-10 of a feature, ten of
its sixteen digits are gone. The rows still have them: with x' = x - (z - pivot) coef, the same model is fitted to the
moments of x', whose squares are the residuals' own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from . import blocks
from .groups import Groups, group_moments
from .least_squares import LinearFit, least_squares, under
from .moments import NOISE, CoMoments

LOST = 1e-7
"""Less than this share left of the squares: look at the rows again. About 8 of 16 digits are still there."""

FAINT = 1e-10
"""Less than this share left, and no rows to look at: fewer than 6 digits, which is worth a warning."""

FEW = 1 << 20
"""Values looked at again at a time."""


def lost(fit: LinearFit, left: np.ndarray) -> np.ndarray:
    """Numbers of the features whose residuals should be read off the rows."""
    return np.flatnonzero((left < LOST) & fit.estimable)


def refitted(fit: LinearFit, X: np.ndarray, groups: Groups, z: np.ndarray, eps: float) -> LinearFit:
    """The fit with location, coefficients and residuals of the features in `lost` taken from the rows.

    Parameters
    ----------
    fit : LinearFit
        Of the moments of these very rows.
    X, z : arrays (n, p), (n, q)
    eps : float
        Rounding unit of X: residuals of a few of them are none.
    """
    features = lost(fit, fit.left)
    if not len(features):
        return fit
    location, coef, rss = fit.location.copy(), fit.coef.copy(), fit.rss.copy()
    for j, moments, unit, noise in _again(fit, features, X, groups, z, eps):
        more = least_squares(moments).coef
        at, squares, _ = under(moments, more, np.broadcast_to(fit.feature_pivot, fit.coef.shape)[:, j])
        coef[:, j] += more * unit
        location[:, j] = np.where(moments.x.n > 0, at, np.nan) * unit
        rss[:, j] = np.where(squares > noise, squares, 0.0) * unit * unit
    return replace(fit, location=location, coef=coef, rss=rss)


def residuals(
    fit: LinearFit, moments: CoMoments, X: np.ndarray, groups: Groups, z: np.ndarray, eps: float
) -> tuple[np.ndarray, np.ndarray]:
    """Location at the pivot and residual sum of squares (B, p) of other rows under the model, from rows where needed.

    `moments` are those of these rows; a location is NaN where nothing is observed.
    """
    location, rss, left = under(moments, fit.coef, fit.feature_pivot)
    location = np.where(moments.x.n > 0, location, np.nan)
    for j, again, unit, noise in _again(fit, lost(fit, left), X, groups, z, eps):
        location[:, j] = np.where(again.x.n > 0, again.x.mean, np.nan) * unit
        rss = rss.copy()
        rss[:, j] = np.where(again.x.m2 > noise, again.x.m2, 0.0) * unit * unit
    return location, rss


def _again(
    fit: LinearFit, features: np.ndarray, X: np.ndarray, groups: Groups, z: np.ndarray, eps: float
) -> Iterator[tuple[np.ndarray, CoMoments, np.ndarray, np.ndarray]]:
    """Some features at a time: moments of x - (z - pivot) coef in a unit (p,), and the squares (B, p) of rounding."""
    about = z - fit.pivot
    for a, b in blocks.spans(0, len(features), max(1, FEW // max(1, len(X)))):
        j = features[a:b]
        coef, pivot = fit.coef[:, j], np.broadcast_to(fit.feature_pivot, fit.coef.shape)[:, j]
        x = X[:, j].astype(np.float64)
        size = np.abs(np.nan_to_num(x)) + np.abs(about) @ np.abs(coef)
        unit = size.max(axis=0, initial=0.0)  # squares of what is left of 1e-150 would underflow
        unit = np.where(unit > 0, unit, 1.0)
        x -= about @ coef - ((pivot - fit.pivot[:, None]) * coef).sum(axis=0)
        moments = group_moments(x / unit, groups, z)
        largest = [size[groups.rows(k)].max(axis=0, initial=0.0) for k in range(len(groups))]
        noise = (NOISE * eps * np.stack(largest) / unit) ** 2 * moments.x.n
        yield j, moments, unit, noise
