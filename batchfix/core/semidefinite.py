"""Roots of cross products, which may be singular.

Columns z with cross products zz are orthogonalized one by one, the one of which most is left first:

    zz = R'R,    z G orthonormal, as many columns as z has rank:    zz G G'v = v,    |R u|^2 = u'zz u

A column that others explain has a coefficient of 0. Squares of R u and G'v do not cancel, which products with zz do.

There are q columns in B groups, with one zz for all features (m = 1) or one a feature (m = p).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

EXPLAINED = 1e-13
"""A column of whose squares less than this share is left is explained by others."""


@dataclass(frozen=True)
class Roots:
    """What zz is made of.

    Attributes
    ----------
    R, G : arrays (B, m, q, q)
        As above; rows of R and columns of G beyond the rank are 0.
    rank : array (B, m)
    least : array (B, m)
        The smallest share of a column's squares that was left when it was taken.
    """

    R: np.ndarray
    G: np.ndarray
    rank: np.ndarray
    least: np.ndarray

    @classmethod
    def of(cls, zz: np.ndarray, size: np.ndarray) -> Roots:
        """Decompose zz (B, q, q, m); `size` (B, q) are squares of which those in zz may be the rounding.

        Examples
        --------
        >>> zz = np.array([[4.0, 4.0], [4.0, 4.0]]).reshape(1, 2, 2, 1)
        >>> roots = Roots.of(zz, np.array([[4.0, 4.0]]))
        >>> roots.R[0, 0].tolist(), int(roots.rank[0, 0])
        ([[2.0, 2.0], [0.0, 0.0]], 1)
        """
        rest = np.ascontiguousarray(zz.transpose(0, 3, 1, 2), dtype=np.float64).copy()
        n_groups, m, q, _ = rest.shape
        R, G = np.zeros(rest.shape), np.zeros(rest.shape)
        rank, least = np.zeros((n_groups, m)), np.ones((n_groups, m))
        whole = np.maximum(np.einsum("bmjj->bmj", rest), size[:, None])
        part = 1 / np.where(whole > 0, whole, 1.0)
        b, f = np.ogrid[:n_groups, :m]
        for k in range(q):
            share = np.einsum("bmjj->bmj", rest) * part
            j = share.argmax(axis=2)
            most = share[b, f, j]
            counts = most > EXPLAINED
            if not counts.any():
                break
            least = np.where(counts, np.minimum(least, most), least)
            rank += counts
            unit = np.where(counts, np.sqrt(part[b, f, j] / np.where(counts, most, 1.0)), 0.0)[..., None]
            row = rest[b, f, j] * unit
            column = -(G[..., :k] @ R[b, f, :k, j][..., None])[..., 0]
            column[b, f, j] += 1.0
            R[:, :, k], G[..., k] = row, column * unit
            rest -= row[..., None] * row[..., None, :]
            rest[b, f, j] = 0.0
            rest[b, f, :, j] = 0.0
        return cls(R, G, rank, least)

    def coefficients(self, v: np.ndarray) -> np.ndarray:
        """Of v (B, q, p), the solution b (B, q, p) of zz b = v."""
        return times(self.G, self.along(v))

    def along(self, v: np.ndarray) -> np.ndarray:
        """G'v (B, q, p): v along the orthonormal columns."""
        return times(self.G.swapaxes(2, 3), v)

    def across(self, u: np.ndarray) -> np.ndarray:
        """R u (B, q, p), whose squares are u'zz u."""
        return times(self.R, u)

    def back(self, w: np.ndarray) -> np.ndarray:
        """R'w (B, q, p)."""
        return times(self.R.swapaxes(2, 3), w)


def times(A: np.ndarray, v: np.ndarray) -> np.ndarray:
    """A v (B, q, p) of A (B, 1 or p, q, q) and v (B, q, p)."""
    if A.shape[1] == 1:
        return np.asarray(A[:, 0] @ v)
    return np.asarray(np.einsum("bpij,bjp->bip", A, v))
