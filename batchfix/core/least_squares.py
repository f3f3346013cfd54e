"""Least squares within batches, from moments.

Moments of (x, z) by batch go in; the model

    x = location_b + (z - pivot) coef + error

comes out. `pivot` is the mean of z over all rows, so nothing depends on how a factor is coded or which level is its
baseline.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .moments import CoMoments

RANK_TOLERANCE = 1e-10
"""An eigenvalue of a correlation matrix below this share of the largest is zero."""


@dataclass(frozen=True)
class LinearFit:
    """The least-squares model of every feature.

    Attributes
    ----------
    location : array (B, p)
        Fitted value of each batch at the pivot; NaN where a batch has no observed value.
    coef : array (q, p)
        Change of x with each design column, within batches.
    pivot : array (q,)
        Mean of z over all rows.
    feature_pivot : array (q, 1 or p)
        Where `location` is taken: at the pivot; for a feature that is never observed with some level, at the mean of
        z over its observed rows, since nothing is known of that level's effect.
    rss : array (B, p)
        Sum of squared residuals.
    n : array (B, p)
        Observed values.
    rank : int
        Design columns that can be estimated.
    estimable : array (p,) of bool
        False where a feature's own missing values make batch and z inseparable.
    """

    location: np.ndarray
    coef: np.ndarray
    pivot: np.ndarray
    feature_pivot: np.ndarray
    rss: np.ndarray
    n: np.ndarray
    rank: int
    estimable: np.ndarray

    def residuals(self, other: CoMoments) -> tuple[np.ndarray, np.ndarray]:
        """Location at the pivot and residual sum of squares of other rows under this model."""
        return _under(other, self.coef, self.feature_pivot)


def least_squares(moments: CoMoments) -> LinearFit:
    """Fit the model to moments by batch.

    Solves (sum_b zz_b) coef = sum_b zx_b for every feature, after scaling z to unit
    spread; a redundant column (the level to leave out) falls to the minimum-norm
    solution, which gives the same fitted values as any other choice.
    """
    pivot = pivot_of(moments)
    q, p = moments.zx.shape[1:]
    estimable, feature_pivot = np.ones(p, dtype=bool), pivot[:, None]
    if q == 0:
        coef, rank = np.zeros((0, p)), 0
    else:
        right = moments.zx.sum(axis=0)
        within = moments.zz.sum(axis=0)
        rank = rank_of(moments.row_zz.sum(axis=0), total_products(moments))
        if moments.complete:
            coef = _solve(within[:, :, 0], right, total_products(moments))
        else:
            coef, estimable, feature_pivot = _solve_each(moments, within, right)
    location, rss = _under(moments, coef, feature_pivot)
    if not np.all(moments.x.n):
        location = np.where(moments.x.n > 0, location, np.nan)
    return LinearFit(location, coef, pivot, feature_pivot, rss, np.asarray(moments.x.n), rank, estimable)


def _under(moments: CoMoments, coef: np.ndarray, pivot: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Location at the pivot and residual sum of squares, given the coefficients."""
    mean, m2 = moments.x.mean, moments.x.m2
    if len(coef) == 0:
        return mean, m2
    z_off = moments.z_mean - pivot
    if moments.complete and pivot.shape[1] == 1:
        location = mean - z_off[:, :, 0] @ coef
        explained = np.einsum("bjk,kp->bjp", moments.zz[:, :, :, 0], coef)
    else:
        location = mean - np.einsum("bkp,kp->bp", z_off, coef)
        explained = np.einsum("bjkp,kp->bjp", np.broadcast_to(moments.zz, (*moments.zz.shape[:3], len(coef.T))), coef)
    rss = m2 - np.einsum("bjp,jp->bp", 2 * moments.zx - explained, coef)
    # what is left of m2 after taking almost all of it away is rounding
    noise = 64 * np.finfo(np.float64).eps * m2
    return location, np.where(rss > noise, rss, 0.0)


def pivot_of(moments: CoMoments) -> np.ndarray:
    """Mean of z over all rows (q,), exact where z is constant."""
    first = moments.row_z_mean[0]
    pivot: np.ndarray = first + (moments.rows / moments.rows.sum()) @ (moments.row_z_mean - first)
    return pivot


def total_products(moments: CoMoments) -> np.ndarray:
    """Cross products of z about its overall row mean, (q, q)."""
    off = moments.row_z_mean - pivot_of(moments)
    between = off.T @ (off * moments.rows[:, None])
    return np.asarray(moments.row_zz.sum(axis=0) + between)


def unit_of(total: np.ndarray, least: np.ndarray | float = 0.0) -> np.ndarray:
    """1 / spread of each design column, 0 for a column that does not vary (by more than `least`, squared)."""
    diagonal = np.einsum("...jj->...j", total)
    varies = diagonal > least
    return np.where(varies, 1 / np.sqrt(np.where(varies, diagonal, 1.0)), 0.0)


def spectrum(within: np.ndarray, unit: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Eigenvalues and vectors of z's cross products in units of its spread, and which count."""
    values, vectors = np.linalg.eigh(within * unit[..., :, None] * unit[..., None, :])
    return values, vectors, values > RANK_TOLERANCE


def rank_of(within: np.ndarray, total: np.ndarray) -> int:
    """How many directions of z vary, judged in units of its total spread."""
    return int(spectrum(within, unit_of(total))[2].sum())


def _solve(within: np.ndarray, right: np.ndarray, total: np.ndarray) -> np.ndarray:
    unit = unit_of(total)
    values, vectors, counts = spectrum(within, unit)
    basis = vectors[:, counts] * unit[:, None]
    solution: np.ndarray = basis @ ((basis.T @ right) / values[counts, None])
    return solution


def _solve_each(moments: CoMoments, within: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Solve per feature, each with the rows where it is observed."""
    n = moments.x.n
    pivot = pivot_of(moments)[:, None]
    mean = pivot + ((moments.z_mean - pivot) * n[:, None]).sum(axis=0) / np.maximum(n.sum(axis=0), 1)
    off = moments.z_mean - mean
    total = within + np.einsum("bjp,bkp,bp->jkp", off, off, n)
    within_, total_ = within.transpose(2, 0, 1), total.transpose(2, 0, 1)
    row_total = total_products(moments)
    unit = unit_of(total_, RANK_TOLERANCE * np.diag(row_total))
    values, vectors, counts = spectrum(within_, unit)
    all_counts = spectrum(total_, unit)[2]
    inverse = np.where(counts, 1 / np.where(counts, values, 1), 0)
    basis = vectors * unit[:, :, None]
    coef = np.einsum("pjk,pk,plk,lp->jp", basis, inverse, basis, right, optimize=True)
    allowed = rank_of(row_total, row_total) - rank_of(moments.row_zz.sum(axis=0), row_total)
    deficit = all_counts.sum(axis=1) - counts.sum(axis=1)
    unseen = all_counts.sum(axis=1) < rank_of(row_total, row_total)
    return coef, np.asarray(deficit <= allowed), np.where(unseen, mean, pivot)


def explained_by_batch(moments: CoMoments) -> np.ndarray:
    """Share of each design column's variance that lies between batches, (q,): R2 on batch."""
    total = np.diag(total_products(moments))
    within = np.diag(moments.row_zz.sum(axis=0))
    return np.where(total > 0, 1 - within / np.where(total > 0, total, 1), 0.0)
