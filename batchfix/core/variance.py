"""How much of a table's variance a factor explains.

A matrix (samples x features) and one label per sample in; one share per feature
out. With `u` the features centred, `A` the centred one-hot columns of the factor
and `G` those of what is given, the share is

    R2 = |P u|^2 / |u|^2,    P = projection onto the columns of A - P_G A

that is, the least-squares sum of squares which the factor adds to the given one,
over the total: the marginal R2 of an analysis of variance.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from batchfix.exceptions import AlignmentError, BatchfixError

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
    eps = np.finfo(raw.dtype).eps if raw.dtype.kind == "f" else np.finfo(np.float64).eps
    centred = values - values.mean(axis=0)
    spread = np.abs(centred).max(axis=0)
    constant = spread <= 64 * eps * np.abs(values).max(axis=0)
    unit = centred / np.where(constant, 1.0, spread)  # squares cannot overflow
    unit -= unit.mean(axis=0)

    n = len(values)
    nothing = np.zeros((n, 0))
    before = nothing if given is None else _basis(_indicators(given, "given", n), nothing)
    added = _basis(_indicators(factor, "factor", n), before)
    total = np.where(constant, 1.0, np.square(unit).sum(axis=0))
    share: Floats = np.square(added.T @ unit).sum(axis=0) / total
    share[constant] = np.nan
    return share


def _indicators(labels: ArrayLike, name: str, n: int) -> Floats:
    """Centred one-hot columns (n, levels) of the labels."""
    codes = np.asarray(labels)
    if codes.shape != (n,):
        raise AlignmentError(
            f"{name!r} must hold one label for each of the {n} rows of X; it came with shape "
            f"{codes.shape}. Pass a one-dimensional array of that length."
        )
    if codes.dtype.kind == "O":
        codes = codes.astype(str)
    levels, index = np.unique(codes, return_inverse=True)
    onehot = np.equal(index[:, None], np.arange(len(levels))).astype(np.float64)
    centred: Floats = onehot - onehot.mean(axis=0)
    return centred


def _basis(columns: Floats, before: Floats) -> Floats:
    """Orthonormal basis (n, rank) of what the columns add to the basis before."""
    rest = columns - before @ (before.T @ columns)
    rest -= before @ (before.T @ rest)  # again, for the rounding of the first
    left: Floats
    left, sizes, _ = np.linalg.svd(rest, full_matrices=False)
    tolerance = max(rest.shape) * np.finfo(np.float64).eps * max(1.0, float(np.linalg.norm(columns)))
    return left[:, sizes > tolerance]
