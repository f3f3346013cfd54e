"""Roots of cross products, which may be singular.

    zz = R'R,    G = the inverse of R where it has one:    zz G G'v = v,    |G'v|^2 = v'G G'v,    |R u|^2 = u'zz u

A column that the columns before it explain has no row in R, and a coefficient of 0. Squares of R u and G'v do not
cancel, which products with zz itself do.

Arrays are (B, q, q, m): cross products of q columns in B groups, one for all features (m = 1) or one a feature.
"""

from __future__ import annotations

import numpy as np

EXPLAINED = 1e-13
"""A column of whose squares less than this share is left is explained by those before it."""


def root(zz: np.ndarray) -> np.ndarray:
    """Upper triangular R (B, q, q, m): Cholesky's, without the rows of columns that are explained.

    Examples
    --------
    >>> zz = np.array([[4.0, 4.0], [4.0, 4.0]]).reshape(1, 2, 2, 1)
    >>> root(zz)[0, :, :, 0].tolist()
    [[2.0, 2.0], [0.0, 0.0]]
    """
    rest, R = zz.astype(np.float64), np.zeros(zz.shape)
    least = EXPLAINED * np.einsum("bjjm->bjm", zz)
    for j in range(zz.shape[1]):
        pivot = rest[:, j, j]
        counts = pivot > least[:, j]
        scale = np.where(counts, 1 / np.sqrt(np.where(counts, pivot, 1.0)), 0.0)
        row = R[:, j, j:]
        row[...] = rest[:, j, j:] * scale[:, None]
        rest[:, j:, j:] -= row[:, :, None] * row[:, None]
    return R


def inverse(R: np.ndarray) -> np.ndarray:
    """G (B, q, q, m), with zeros in the rows and columns that R lacks."""
    G = np.zeros(R.shape)
    for j in range(R.shape[1]):
        pivot = R[:, j, j]
        counts = pivot > 0
        G[:, j, j] = np.where(counts, 1 / np.where(counts, pivot, 1.0), 0.0)
        G[:, :j, j] = -np.einsum("bikm,bkm->bim", G[:, :j, :j], R[:, :j, j]) * G[:, j, j][:, None]
    return G


def times(A: np.ndarray, v: np.ndarray) -> np.ndarray:
    """A v (B, q, p) of A (B, q, q, 1 or p) and v (B, q, p)."""
    if A.shape[-1] == 1:
        return np.asarray(A[..., 0] @ v)
    return np.asarray(np.einsum("bijp,bjp->bip", A, v))


def transposed(A: np.ndarray) -> np.ndarray:
    """A' in every group."""
    return A.swapaxes(1, 2)
