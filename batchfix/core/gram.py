"""Gram: inner products of samples, where a table is wider than long, or where only distances are known.

Tables or distances flow in; Gower's centred matrix flows out (Gower 1966, "Some distance properties of latent root and
vector methods used in multivariate analysis", Biometrika 53):

    G = -1/2 J D^2 J,  J = I - 11'/n        of Euclidean distances, the inner products of centred rows

It is n x n, 8 n^2 bytes: 0.2 GB for 5,000 samples, 7 GB for 30,000. It is made in blocks and changed in place.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist

from . import blocks
from .feature_effects import centred

ROWS = 512

COLUMN_VALUES = 1 << 20
"""Values of a table that are multiplied together."""


def inner_products(X: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Inner products (n, n) of the centred rows of X (n, p), less what a basis (n, g) explains, in a unit of its own.

    Columns are read some at a time, so that a wide table is never copied whole.
    """
    n, p = X.shape
    spans = list(blocks.spans(0, p, max(64, COLUMN_VALUES // n)))
    unit = largest_distance(X)
    G, product = np.zeros((n, n)), np.empty((n, n))
    for a, b in spans:
        u, own = centred(X[:, a:b].astype(np.float64))
        u *= own / unit
        u -= before @ (before.T @ u)
        G += np.matmul(u, u.T, out=product)
    return G


def largest_distance(X: np.ndarray) -> float:
    """The largest distance of a value from its column's mean, 1 if all are 0: a unit for the whole table."""
    n, p = X.shape
    largest = 0.0
    for a, b in blocks.spans(0, p, max(64, COLUMN_VALUES // n)):
        x = X[:, a:b].astype(np.float64)
        x -= x[0]
        x -= x.mean(axis=0)
        largest = max(largest, float(np.abs(x).max(initial=0.0)))
    return largest or 1.0


def gower(D: np.ndarray) -> np.ndarray:
    """G of distances D (n, n), written over D: squared, halved and centred both ways, in their largest's unit.

    Examples
    --------
    >>> gower(np.array([[0.0, 2.0], [2.0, 0.0]]))
    array([[ 0.25, -0.25],
           [-0.25,  0.25]])
    """
    n = len(D)
    unit = float(D.max(initial=0.0)) or 1.0
    rows = np.empty(n)
    for a, b in blocks.spans(0, n, ROWS):
        part = D[a:b]
        part /= unit
        np.multiply(part, part, out=part)
        part *= -0.5
        rows[a:b] = part.mean(axis=1)
    grand = rows.mean()
    for a, b in blocks.spans(0, n, ROWS):
        D[a:b] -= rows[a:b, None] + (rows - grand)
    return D


def without(G: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """(I - Q Q') G (I - Q Q') for an orthonormal basis Q (n, g), written over G."""
    if basis.shape[1]:
        explained = basis.T @ G
        half = explained - 0.5 * (explained @ basis) @ basis.T
        for a, b in blocks.spans(0, len(G), ROWS):
            G[a:b] -= basis[a:b] @ half + half[:, a:b].T @ basis.T
    return G


def bray_curtis(X: np.ndarray) -> np.ndarray:
    """Bray-Curtis distances (n, n) of rows of amounts: sum |x - y| / sum (x + y).

    Bray and Curtis 1957, "An ordination of the upland forest communities of southern Wisconsin", Ecological Monographs
    27. Amounts count as they stand: close rows of unequal depth first, if depth is not what should tell them apart.

    Examples
    --------
    >>> bray_curtis(np.array([[1.0, 3.0], [3.0, 1.0], [0.0, 4.0]])).tolist()
    [[0.0, 0.5, 0.25], [0.5, 0.0, 0.75], [0.25, 0.75, 0.0]]
    """
    n = len(X)
    x = X.astype(np.float64, copy=False)
    D = np.zeros((n, n))

    def work(span: tuple[int, int]) -> None:
        a, b = span
        D[a:b, a:] = cdist(x[a:b], x[a:], "braycurtis")
        D[a:, a:b] = D[a:b, a:].T

    step = max(1, min(ROWS, -(-n // (2 * blocks.n_threads()))))
    blocks.run(work, blocks.spans(0, n, step), D.nbytes)
    return D
