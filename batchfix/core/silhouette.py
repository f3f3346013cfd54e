"""Silhouettes: how much nearer a sample lies to its own class than to the nearest other one.

Samples (n, p) and codes flow in; one value a sample flows out, between -1 and 1. With a the mean distance to the other
members of its own class, and b the least of the mean distances to the other classes,

    s = (b - a) / max(a, b),    0 for a class of one

(Rousseeuw 1987, "Silhouettes: a graphical aid to the interpretation and validation of cluster analysis", JCAM 20). For
squared distances a mean distance is that to the class's mean, and the class's own spread: O(n k p) and exact,

    mean over j in C of |x - x_j|^2 = |x - mean_C|^2 + m2_C / n_C

For distances themselves all pairs are needed. They are made some rows at a time.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist

from . import blocks
from .feature_effects import centred
from .groups import Groups

PAIR_VALUES = 1 << 20
"""Distances held at a time, by each thread."""

NEAR = 1e-6
"""Squared distances below this share of the squared lengths have lost half their digits: they are taken anew."""


def silhouette(X: np.ndarray, codes: np.ndarray, *, squared: bool = False) -> np.ndarray:
    """Silhouette of each sample.

    Parameters
    ----------
    X : array (n, p), complete
    codes : array (n,)
        Class of each sample, 0 .. k - 1, none of them empty, k >= 2.
    squared : bool
        Squared Euclidean distances in place of Euclidean ones.

    Examples
    --------
    >>> X = np.array([[0.0], [1.0], [10.0], [12.0]])
    >>> silhouette(X, np.array([0, 0, 1, 1])).round(3).tolist()
    [0.909, 0.9, 0.789, 0.826]
    """
    groups = Groups.of(codes, int(codes.max()) + 1)
    u, unit = centred(X.astype(np.float64))
    u *= unit / (unit.max(initial=0.0) or 1.0)
    size = groups.counts.astype(np.float64)
    sums = _squared_sums(u, groups) if squared else _sums(u, groups)
    own = np.arange(len(u)), codes
    inside = sums[own] / np.maximum(size[codes] - 1, 1)  # the sample itself adds no distance
    sums /= size
    sums[own] = np.inf
    outside = sums.min(axis=1)
    largest = np.maximum(inside, outside)
    alone = (size[codes] == 1) | (largest == 0)
    return np.asarray(np.where(alone, 0.0, (outside - inside) / np.where(alone, 1.0, largest)))


def _squared_sums(u: np.ndarray, groups: Groups) -> np.ndarray:
    """Sum of squared distances from each sample to the members of each class (n, k)."""
    means, spread = [], []
    for k in range(len(groups)):
        members = u[groups.rows(k)]
        means.append(members.mean(axis=0))
        spread.append(np.square(members - means[-1]).sum())
    sums = cdist(u, np.array(means), "sqeuclidean")
    sums *= groups.counts
    sums += np.array(spread)
    return np.asarray(sums)


def _sums(u: np.ndarray, groups: Groups) -> np.ndarray:
    """Sum of distances from each sample to the members of each class (n, k)."""
    n = len(u)
    others = u[groups.order]  # classes side by side
    length = np.einsum("ij,ij->i", u, u)
    other_length = length[groups.order]
    place = np.empty(n, dtype=np.intp)
    place[groups.order] = np.arange(n)
    out = np.empty((n, len(groups)))

    def work(span: tuple[int, int]) -> None:
        a, b = span
        scale = length[a:b, None] + other_length
        squares = scale - 2 * (u[a:b] @ others.T)
        i, j = np.nonzero(squares < NEAR * scale)
        for c, d in blocks.spans(0, len(i), max(1, PAIR_VALUES // u.shape[1])):
            squares[i[c:d], j[c:d]] = np.square(u[a + i[c:d]] - others[j[c:d]]).sum(axis=1)
        squares[np.arange(b - a), place[a:b]] = 0.0
        np.add.reduceat(np.sqrt(squares, out=squares), groups.starts[:-1], axis=1, out=out[a:b])

    blocks.run(work, blocks.spans(0, n, max(1, PAIR_VALUES // n)), 8 * n * n)
    return out
