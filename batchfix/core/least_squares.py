"""Least squares within batches, from moments.

Moments of (x, z) by batch go in; the model

    x = location_b + (z - pivot) coef + error

comes out. `pivot` is the mean of z over all rows, so nothing depends on how a factor is coded or which level is its
baseline.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .comoments import LOST, CoMoments
from .moments import NOISE

EPS = float(np.finfo(np.float64).eps)

ADDED = 4 * NOISE
"""Rounding units that solving, and adding up many small parts, put beside those of the values."""

RANK_TOLERANCE = 1e-10
"""An eigenvalue of a correlation matrix below this is zero."""


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
        False where a feature's own missing values make what is kept inseparable from batch and what is to go.
    """

    location: np.ndarray
    coef: np.ndarray
    pivot: np.ndarray
    feature_pivot: np.ndarray
    rss: np.ndarray
    n: np.ndarray
    rank: int
    estimable: np.ndarray

    def residuals(self, other: CoMoments, eps: float = EPS) -> tuple[np.ndarray, np.ndarray]:
        """Location at the pivot, NaN where nothing is observed, and residual sum of squares of other rows."""
        return under(other, self.coef, self.feature_pivot, eps)


def least_squares(moments: CoMoments, kept: np.ndarray | None = None, eps: float = EPS) -> LinearFit:
    """Fit the model to moments by batch; `kept` (q,) tells columns to keep from those to remove (all, by default).

    `eps` is the rounding unit of x: residuals of a few of them are none.

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
            kept = np.ones(q, dtype=bool) if kept is None else kept
            coef, estimable, feature_pivot = _solve_each(moments, within, right, kept)
    location, rss = under(moments, coef, feature_pivot, eps)
    return LinearFit(location, coef, pivot, feature_pivot, rss, np.asarray(moments.x.n), rank, estimable)


def under(moments: CoMoments, coef: np.ndarray, pivot: np.ndarray, eps: float) -> tuple[np.ndarray, np.ndarray]:
    """Location at the pivot, NaN where nothing is observed, and residual sum of squares (B, p) under coefficients."""
    n, mean, m2 = moments.x.n, moments.x.mean, moments.x.m2
    if len(coef) == 0:
        return (mean if np.all(n) else np.where(n > 0, mean, np.nan)), m2
    z_off = moments.z_mean - pivot
    spread = np.sqrt(np.maximum(np.einsum("bjjp->bjp", moments.zz), 0.0))
    if moments.complete and pivot.shape[1] == 1:
        location = mean - z_off[:, :, 0] @ coef
        explained = np.einsum("bjk,kp->bjp", moments.zz[:, :, :, 0], coef)
        reach = spread[:, :, 0] @ np.abs(coef)
    else:
        location = mean - np.einsum("bkp,kp->bp", z_off, coef)
        explained = np.einsum("bjkp,kp->bjp", np.broadcast_to(moments.zz, (*moments.zz.shape[:3], len(coef.T))), coef)
        reach = np.einsum("bjp,jp->bp", np.broadcast_to(spread, explained.shape), np.abs(coef))
    rss = m2 - np.einsum("bjp,jp->bp", 2 * moments.zx - explained, coef)
    with np.errstate(over="ignore"):
        squares = m2 + reach * reach
    # where the design explains nearly all, a difference has lost its digits: a sum of squares then, unless all rounding
    j = np.flatnonzero((rss < LOST * squares).any(axis=0))
    if len(j):
        exact = moments.some(j).left_under(coef[:, j])
        of_values, of_sums = NOISE * eps, ADDED * EPS
        unit = np.hypot(of_values, of_sums)
        rounding = unit * unit * m2[:, j] + of_sums * of_sums * squares[:, j] + n[:, j] * (unit * mean[:, j]) ** 2
        exact = np.where(exact > rounding, exact, 0.0)
        rss[:, j] = np.where(rss[:, j] < LOST * squares[:, j], exact, rss[:, j])
    return np.where(n > 0, location, np.nan), rss


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


def _solve_each(
    moments: CoMoments, within: np.ndarray, right: np.ndarray, kept: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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
    all_rank = spectrum(total_, unit)[2].sum(axis=1)
    inverse = np.where(counts, 1 / np.where(counts, values, 1), 0)
    basis = vectors * unit[:, :, None]
    coef = np.einsum("pjk,pk,plk,lp->jp", basis, inverse, basis, right, optimize=True)
    # as in estimability.check_estimable: what is kept adds its full rank to batch and what is to go
    needed = all_rank
    if not kept.all():
        needed = _ranks(total_, unit, kept) + _ranks(within_, unit, ~kept)
    unseen = all_rank < rank_of(row_total, row_total)
    return coef, np.asarray(counts.sum(axis=1) >= needed), np.where(unseen, mean, pivot)


def _ranks(products: np.ndarray, unit: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Rank (p,) of some design columns, feature by feature."""
    some = products[:, columns][:, :, columns]
    return np.asarray(spectrum(some, unit[:, columns])[2].sum(axis=1))


def explained_by_batch(moments: CoMoments) -> np.ndarray:
    """Share of each design column's variance that lies between batches, (q,): R2 on batch."""
    total = np.diag(total_products(moments))
    within = np.diag(moments.row_zz.sum(axis=0))
    return np.where(total > 0, 1 - within / np.where(total > 0, total, 1), 0.0)
