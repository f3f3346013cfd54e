"""Neutralization: what groups and exposures together do not explain, row by row.

In each row (a date) the values of p columns (stocks), the group of each and k exposures (size, beta) flow in;
residuals, group intercepts and betas of one weighted least-squares fit flow out:

    x_i = intercept_g(i) + sum_j beta_j z_ij + residual_i,        sum_i w_i residual_i^2 as small as it can be

Group dummies are never built: x and z are centred within groups, and x~ regressed on z~ (Frisch and Waugh 1933,
"Partial time regressions as compared with individual trends", Econometrica 1; Lovell 1963),

    beta = (sum w z~ z~')^-1 sum w z~ x~,        intercept_g = mean_g(x) - sum_j beta_j mean_g(z_j)

which leaves k equations a row. Rows whose exposures are nearly collinear are solved by Householder's QR and singular
values instead, since z~ z~' squares their condition number.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..exceptions import BatchfixError
from . import blocks
from .moments import NOISE
from .peer_statistics import refuse_weightless
from .peers import Peers

Floats = NDArray[np.float64]

CHUNK_CELLS = 1 << 16
"""Cells that are worked on at a time: arrays of a quarter of a megabyte."""

SAFE = 1e-280, 1e280
"""Sums of squares of exposures outside of these are taken anew, in other units."""

WELL_CONDITIONED = 1e-4
"""Smallest eigenvalue of the exposures' correlations at which the normal equations are still good to twelve digits."""


def neutralize(
    X: np.ndarray,
    codes: np.ndarray,
    n_groups: int,
    exposures: np.ndarray | Sequence[np.ndarray],
    weights: np.ndarray | None = None,
) -> tuple[np.ndarray, Floats, Floats]:
    """Residuals of each row's weighted least squares on group dummies and exposures.

    Parameters
    ----------
    X : array (n, p)
        float32 or float64; NaN where not observed.
    codes : integer array (p,) or (n, p)
        The group of each column, or of each cell: 0 .. n_groups - 1; below 0: of none.
    n_groups : int
    exposures : array (n, p, k) or (p, k), or a sequence of k arrays (n, p) or (p,)
        A sequence spares stacking them.
    weights : array (n, p) or (p,), optional
        Not negative, of any unit. A cell of weight 0 has no say, but is given its residual.

    Returns
    -------
    residuals : array (n, p) of X's dtype
        NaN where X, an exposure, the weight or the group is missing (such a cell has no say either). Exactly 0 in a
        group that the fit explains down to rounding.
    intercepts : array (n, n_groups)
        NaN for a group without a cell that has a say.
    betas : array (n, k)
        In units of X per unit of the exposure; NaN in a row where no cell has a say. An exposure without spread
        within groups gets 0; among collinear ones the betas of least norm are taken. The residuals are the same
        whichever are.

    Raises
    ------
    BatchfixError
        If X, an exposure or a weight is infinite, a weight negative, all weights of a group 0, or a code not below
        n_groups.

    Examples
    --------
    >>> X = np.array([[1.0, 2.0, 6.0, 9.0, 9.0]])
    >>> size = np.array([0.0, 1.0, 2.0, 3.0, 4.0])
    >>> residuals, intercepts, betas = neutralize(X, np.array([0, 0, 1, 1, 1]), 2, size[:, None])
    >>> residuals.round(3).tolist(), intercepts.round(3).tolist(), betas.round(3).tolist()
    ([[0.2, -0.2, -0.6, 1.0, -0.4]], [[0.8, 3.8]], [[1.4]])
    """
    n, p = X.shape
    if codes.size and int(codes.max()) >= n_groups:
        raise BatchfixError(f"codes must be below n_groups = {n_groups}; got {int(codes.max())}. Count groups anew.")
    if isinstance(exposures, np.ndarray):
        exposures = [exposures[..., j] for j in range(exposures.shape[-1])]
    given = [np.broadcast_to(z, (n, p)) for z in exposures]
    w = None if weights is None else np.broadcast_to(weights, (n, p))
    residuals = np.empty(X.shape, dtype=X.dtype if X.dtype in (np.float32, np.float64) else np.float64)
    intercepts, betas = np.full((n, n_groups), np.nan), np.full((n, len(given)), np.nan)
    noise = np.array([NOISE * np.finfo(a.dtype if a.dtype.kind == "f" else np.float64).eps for a in (X, *given)])
    always = _peers(codes, n_groups) if codes.ndim == 1 else None

    def work(span: tuple[int, int]) -> None:
        rows = slice(*span)
        own = codes if codes.ndim == 1 else codes[rows]
        parts = [np.ascontiguousarray(a[rows], dtype=np.float64) for a in (X, *given)]
        if own.ndim == 2 and (own == own[0]).all():  # groups change seldom
            own = own[0]
        peers = always or _peers(own, n_groups)
        of_cells = None if w is None else _relative(w[rows])
        residual, intercept, betas[rows] = _fit(parts, of_cells, peers, noise)
        peers.unsort(residual, residuals[rows])
        intercepts[rows] = intercept[:, :n_groups]

    spans = blocks.spans(0, n, max(1, CHUNK_CELLS // max(1, p))) if p else []
    blocks.run(work, spans, X.nbytes * (1 + len(given)))
    return residuals, intercepts, betas


def _peers(codes: np.ndarray, n_groups: int) -> Peers:
    """Cells in the order of their groups; those of none are one group more."""
    return Peers.of(np.where(codes < 0, np.intp(n_groups), codes), n_groups + 1)


def _relative(weights: np.ndarray) -> Floats:
    """Weights (rows, p) over the largest of their row; NaN stays."""
    w = np.array(weights, dtype=np.float64, order="C")
    wrong = (w < 0) | np.isinf(w)
    if wrong.any():
        raise BatchfixError(
            f"weights must be finite and not negative; got {float(w[wrong][0])!r}. 0 leaves a cell out."
        )
    most = np.fmax.reduce(w, axis=1, keepdims=True)
    return np.divide(w, most, out=w, where=most > 0)


def _fit(parts: list[Floats], weights: Floats | None, peers: Peers, noise: Floats) -> tuple[Floats, Floats, Floats]:
    """Fit rows of x and exposures: sorted residuals, intercepts (rows, groups), betas (rows, k)."""
    shape = parts[0].shape
    parts = [peers.sort(part) for part in parts]
    labelled = peers.slots % peers.n_groups < peers.n_groups - 1
    seen = ~np.isnan(parts[0])
    for part in parts[1:]:
        seen &= ~np.isnan(part)
    if not labelled.all():
        seen &= peers.spread(labelled[None])
    if weights is not None:
        weights = peers.sort(weights)
        seen &= ~np.isnan(weights)
        weights = np.where(seen, weights, 0.0)
        refuse_weightless(peers.total(weights), peers.total(seen.astype(np.float64)))
    mask = seen.astype(np.float64)
    total = peers.total(mask if weights is None else weights)
    safe = np.where(total > 0, total, 1.0)
    unseen = ~seen
    for part in parts:
        np.copyto(part, 0.0, where=unseen)
    size = peers.total(np.abs(parts[0]))
    means = [_centre(part, mask, weights, safe, peers) for part in parts]

    # where the exposures stand, mean(|mean_g|) of each row: what rounding noise of their spread is measured against
    weight = np.maximum(peers.dense(total).sum(axis=1), np.finfo(np.float64).tiny)
    levels = np.empty((shape[0], len(parts) - 1))
    for j, mean in enumerate(means[1:]):
        levels[:, j] = peers.dense(total * np.abs(mean)).sum(axis=1) / weight
    rooted = [part if weights is None else part * np.sqrt(weights) for part in parts]
    betas = _betas(*(part.reshape(shape) for part in rooted), noise=noise[1:] * levels * np.sqrt(weight)[:, None])
    intercept = peers.dense(np.where(total > 0, means[0], np.nan), np.nan)
    residual = parts[0].reshape(shape)
    for j, z in enumerate(parts[1:]):
        z = z.reshape(shape)
        z *= betas[:, j, None]
        residual -= z
        intercept -= betas[:, j, None] * peers.dense(means[1 + j])
    left = parts[0]
    explained = peers.total(np.abs(left)) <= noise[0] * size
    np.copyto(left, 0.0, where=peers.spread(explained))
    np.copyto(left, np.nan, where=unseen)
    betas[np.isnan(intercept).all(axis=1)] = np.nan
    return left, intercept, betas


def _centre(part: Floats, mask: Floats, weights: Floats | None, total: Floats, peers: Peers) -> Floats:
    """Take the (weighted) means of segments from their cells, in place, 0 where not seen; return the means."""
    mean = np.zeros(total.shape)
    for _ in range(2):  # the second time takes away what rounding left of the first mean
        with np.errstate(all="ignore"):  # infinities are found below
            step = peers.total(part if weights is None else part * weights) / total
        if not np.isfinite(step).all():
            raise BatchfixError(blocks.INFINITE)
        part -= peers.spread(step)
        part *= mask
        mean += step
    return mean


def _betas(x: Floats, *z: Floats, noise: Floats) -> Floats:
    """Betas (rows, k) of centred x on centred z, both times the roots of the weights; norms up to `noise` are none."""
    m, k = len(x), len(z)
    gram, cross = np.empty((m, k, k)), np.empty((m, k))
    with np.errstate(over="ignore"):
        for i in range(k):
            cross[:, i] = np.einsum("mp,mp->m", z[i], x)
            for j in range(i + 1):
                gram[:, i, j] = gram[:, j, i] = np.einsum("mp,mp->m", z[i], z[j])
    if not k:
        return cross
    squares = np.einsum("mkk->mk", gram)
    if not ((squares > SAFE[0]) & (squares < SAFE[1])).all():
        scale = np.stack([_power_of_two(z_j) for z_j in z], axis=1)
        if (scale != 1).any():
            z = tuple(z_j / scale[:, j, None] for j, z_j in enumerate(z))
            return _betas(x, *z, noise=noise / scale) / scale
    norm = np.sqrt(squares)
    norm[norm <= noise] = np.inf
    gram /= norm[:, :, None] * norm[:, None, :]
    np.einsum("mkk->mk", gram)[norm == np.inf] = 1.0
    values, vectors = np.linalg.eigh(gram)
    poor = values[:, 0] < WELL_CONDITIONED
    values[poor] = 1.0
    turned = np.einsum("mij,mi->mj", vectors, cross / norm)
    betas: Floats = np.einsum("mij,mj->mi", vectors, turned / values) / norm
    if poor.any():
        tol = np.maximum(noise / norm, NOISE * np.finfo(np.float64).eps).max(axis=1)
        betas[poor] = _least_norm(x[poor], [z_j[poor] for z_j in z], norm[poor], tol[poor])
    return betas


def _power_of_two(z: Floats) -> Floats:
    """The power of two above the largest value of each row, 1 where all are 0 or their squares are harmless."""
    largest = np.abs(z).max(axis=1)
    harmless = (largest == 0) | ((largest > SAFE[0] ** 0.5) & (largest < SAFE[1] ** 0.5 / 1e10))
    scale: Floats = np.ldexp(1.0, np.clip(np.frexp(largest)[1], -1022, 1022))
    return np.where(harmless, 1.0, scale)


def _least_norm(x: Floats, z: list[Floats], norm: Floats, tol: Floats) -> Floats:
    """Betas of least norm in rows with collinear exposures; singular values up to `tol` count as 0."""
    m, k = norm.shape
    design = np.stack([*(z_j / norm[:, j, None] for j, z_j in enumerate(z)), x], axis=2)
    triangle = np.zeros((m, k + 1, k + 1))
    triangle[:, : min(design.shape[1], k + 1)] = np.linalg.qr(design, mode="r")  # of [z x]: R, and Q'x beside it
    u, s, vt = np.linalg.svd(triangle[:, :k, :k])
    projected = np.einsum("mij,mi->mj", u, triangle[:, :k, k])
    betas = np.zeros((m, k))
    units = np.where(norm < np.inf, norm, 1.0)
    for i in range(m):
        kept = s[i] > tol[i]
        # what the data say is v' diag(norm) beta = u'x / s; of all such betas, the shortest
        q, r = np.linalg.qr((vt[i, kept] * units[i]).T)
        betas[i] = q @ np.linalg.solve(r.T, projected[i, kept] / s[i, kept])
    return betas
