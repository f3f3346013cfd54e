"""How much of a table's variance a factor explains.

A matrix (samples x features) and one label per sample in; one share per feature
out: the eta2 of `feature_effects`, with labels in place of design columns.

    R2 = |P u|^2 / |u|^2,    P = projection onto the columns of A - P_G A

for `u` the features centred, `A` the indicators of the factor's labels and `G`
those of what is given.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..exceptions import AlignmentError, BatchfixError
from .feature_effects import feature_squares
from .projection import indicators

Floats = NDArray[np.float64]


def variance_explained(X: ArrayLike, factor: ArrayLike, given: ArrayLike | None = None) -> Floats:
    """Share of each feature's variance that `factor` explains, beyond `given`.

    `R2 = (RSS(given) - RSS(given + factor)) / TSS`, by least squares with an
    intercept; without `given`, the ordinary R2 of the factor.

    Parameters
    ----------
    X : array (n, p), any unit
        Samples in rows, features in columns, complete.
    factor, given : array (n,)
        Labels, strings or integers; each distinct value is a level.

    Returns
    -------
    array (p,)
        Shares between 0 and 1, without a unit. NaN for a feature whose spread
        is rounding noise: it has no variance to explain.

    Raises
    ------
    BatchfixError
        If X is not two-dimensional, is empty or holds NaN or infinity.
    AlignmentError
        If there is not one label for each row.

    Notes
    -----
    The share is what `adonis2(by="margin")` of the R package vegan reports for
    one feature; averaged over features it does not weigh them by their variance.

    Examples
    --------
    >>> import numpy as np
    >>> from batchfix.core.variance import variance_explained
    >>> X = np.array([[0.0, 1.0], [2.0, 1.0], [10.0, 2.0], [12.0, 2.0]])
    >>> variance_explained(X, ["a", "a", "b", "b"]).round(3)
    array([0.962, 1.   ])
    >>> variance_explained(X, ["a", "a", "b", "b"], given=["x", "y", "x", "y"]).round(3)
    array([0.962, 1.   ])
    """
    raw = np.asarray(X)
    values = raw.astype(np.float64)
    if values.ndim != 2 or not values.size:
        raise BatchfixError(
            f"X must have two dimensions, with samples in rows; it came with shape {values.shape}. "
            "Pass a matrix of samples x features."
        )
    if not np.isfinite(values).all():
        raise BatchfixError(
            "X must be complete and finite to share out its variance; it came with "
            f"{int((~np.isfinite(values)).sum())} NaN or infinite cells. Drop those features first."
        )
    n = len(values)
    before = None if given is None else _indicators(given, "given", n)
    share: Floats = feature_squares(
        raw if raw.dtype.kind == "f" else values, _indicators(factor, "factor", n), before
    ).eta2
    return share


def _indicators(labels: ArrayLike, name: str, n: int) -> Floats:
    """One-hot columns (n, levels) of the labels."""
    codes = np.asarray(labels)
    if codes.shape != (n,):
        raise AlignmentError(
            f"{name!r} must hold one label for each of the {n} rows of X; it came with shape "
            f"{codes.shape}. Pass a one-dimensional array of that length."
        )
    if codes.dtype.kind == "O":
        codes = codes.astype(str)
    levels, index = np.unique(codes, return_inverse=True)
    return indicators(index, len(levels))
