"""Residuals: a second look at the rows of features that their design columns explain almost wholly.

From sums, what is left of the squares is a difference. Where design columns explain all but 1e-10 of a feature, ten of
its sixteen digits are gone. The rows still have them: the squares of x - mean - (z - z_mean) b are the residuals' own.
"""

from __future__ import annotations

import numpy as np

from . import blocks
from .comoments import CoMoments, difference

VALUES_AT_ONCE = 1 << 20
"""Values looked at again at a time."""


def rest_of_rows(moments: CoMoments, X: np.ndarray, order: np.ndarray, starts: np.ndarray, z: np.ndarray) -> np.ndarray:
    """`CoMoments.rest` (B, p): a difference where that is exact enough, else read off the rows.

    Parameters
    ----------
    moments : CoMoments
        Of these very rows; its own `rest` is not looked at.
    X, z : arrays (n, p), (n, q)
    order, starts : arrays
        Rows by group, as in `Groups`.
    """
    if not z.shape[1]:
        return np.asarray(moments.x.m2)
    rest, doubtful = difference(moments)
    for k in np.flatnonzero(doubtful.any(axis=1)):
        rows, features = order[starts[k] : starts[k + 1]], np.flatnonzero(doubtful[k])
        about = z[rows] - moments.row_z_mean[k]
        for at in blocks.spans(0, len(features), max(1, VALUES_AT_ONCE // len(rows))):
            j = features[slice(*at)]
            rest[k, j] = _squares_left(moments.only(int(k)).some(j), X[np.ix_(rows, j)], about)
    return rest


def _squares_left(own: CoMoments, x: np.ndarray, about: np.ndarray) -> np.ndarray:
    """Sum of squared residuals (p,) of one group, of rows x (n, p) on z (n, q) about its mean."""
    roots = own.roots
    left = x - own.x.mean[0]
    left -= about @ roots.coefficients(own.zx)[0]
    seen = ~np.isnan(left)
    left -= np.where(seen, left, 0.0).sum(axis=0) / seen.sum(axis=0)
    left[~seen] = 0.0
    more = roots.along((about.T @ left)[None])[0]  # what rounding of the coefficients left in
    return np.asarray(np.maximum((left * left).sum(axis=0) - (more * more).sum(axis=0), 0.0))
