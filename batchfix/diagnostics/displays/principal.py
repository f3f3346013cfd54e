"""Principal components: directions along which a table varies most, and where other tables lie on them.

A table (n, p) flows in; orthonormal directions (p, k) flow out, with the share of the variance along each. The squares
are those of centred values, so that an offset costs no digits:

    Xc = X - mean,    Xc' Xc v_k = l_k v_k,    share_k = l_k / trace(Xc' Xc),    scores = (Y - mean) v_k
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...core.moments import NOISE
from ...exceptions import BatchfixError

EXACT = 2000
"""Up to so many samples or features all components are found, and the first ones kept; above, the first alone."""


@dataclass(frozen=True)
class Components:
    """Directions of one table.

    Attributes
    ----------
    mean : array (p,)
    unit : float
        What values are divided by, so that squares stay in range.
    directions : array (p, k)
        Each with its largest entry positive.
    shares : array (k,)
        Of the variance of the table that they come from.
    """

    mean: np.ndarray
    unit: float
    directions: np.ndarray
    shares: np.ndarray

    @classmethod
    def of(cls, X: np.ndarray, k: int) -> Components:
        """The first k of a complete table, or fewer if it has fewer.

        Raises
        ------
        BatchfixError
            All features are constant.

        Examples
        --------
        >>> found = Components.of(np.array([[0.0, 0.0], [1.0, 2.0], [2.0, 4.0]]), 2)
        >>> found.shares.round(6), found.directions.shape
        (array([1.]), (2, 1))
        """
        largest = np.abs(X).max(axis=0)
        Z = np.asarray(X, dtype=np.float64) - X[0]  # exact where a feature is constant, and small against an offset
        middle = Z.mean(axis=0)
        Z -= middle
        unit = float(np.abs(Z).max())
        Z /= unit or 1.0
        Z -= Z.mean(axis=0)
        noise = NOISE * float(np.finfo(X.dtype).eps) * (largest / (unit or 1.0))
        Z[:, np.sqrt(np.square(Z).mean(axis=0)) <= noise] = 0.0
        total = float(np.square(Z).sum())
        if not total > 0:
            raise BatchfixError(
                "Samples must differ for a picture of them, got a table whose features are all constant. "
                "Check that X is what was measured."
            )
        n, p = Z.shape
        if min(n, p) <= EXACT:
            values, directions = _exact(Z, k)
        else:
            values, directions = _leading(Z, k)
        there = values > 1e-12 * values[0]
        values, directions = values[there], directions[:, there]
        heaviest = np.abs(directions).argmax(axis=0)
        directions = directions * np.where(directions[heaviest, np.arange(len(heaviest))] < 0, -1.0, 1.0)
        return cls(X[0] + middle, unit, directions, values / total)

    def scores(self, Y: np.ndarray) -> np.ndarray:
        """Where samples lie (n, k), in the units of the table."""
        return np.asarray((((Y - self.mean) / self.unit) @ self.directions) * self.unit)

    def shares_in(self, Y: np.ndarray) -> np.ndarray:
        """Share of another table's own variance along each direction (k,); 0 where it has none."""
        Z = (Y - self.mean) / self.unit
        Z = Z - Z.mean(axis=0)
        total = float(np.square(Z).sum())
        along = np.square(Z @ self.directions).sum(axis=0)
        return np.asarray(along / total) if total > 0 else np.zeros(len(along))


def _exact(Z: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Squares along the first directions, from the smaller of the two matrices of products."""
    from scipy.linalg import eigh

    n, p = Z.shape
    size = min(n, p)
    values, vectors = eigh(Z.T @ Z if p <= n else Z @ Z.T, subset_by_index=(max(0, size - k), size - 1))
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    if p > n:
        vectors = Z.T @ vectors
        length = np.sqrt(np.square(vectors).sum(axis=0))
        vectors = vectors / np.where(length > 0, length, 1.0)
    return values, vectors


def _leading(Z: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The same by random projections (Halko et al. 2011, SIAM Review 53), from a fixed seed."""
    from sklearn.utils.extmath import randomized_svd

    _, sizes, rows = randomized_svd(Z, n_components=k, n_iter=7, random_state=0)
    return np.square(sizes), rows.T
