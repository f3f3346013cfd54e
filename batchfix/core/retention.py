"""Retention: how much of an effect a correction left, for whoever looks for it in the corrected table.

Tables before and after, and design columns of the effect, of batch and of what else is given flow in; a share flows
out. With Z a basis of the effect beside what is given, and features in units of what nothing explains (their residual
standard deviation given all, in each table its own),

    b    = coefficients of Z given batch, before         what the effect is, as far as the samples tell
    c    = coefficients of Z without batch, after        what a model finds that trusts the correction
    left = <c, b> / <b, b>

Batches centred without keeping the effect leave 1 - rho2 of it exactly, whatever the noise; a correction that keeps it
leaves 1. F of the effect given batch cannot tell these apart: moving batches leaves it as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import blocks
from .feature_effects import COLUMN_VALUES, centred
from .projection import basis_of

ESTIMABLE = 1e-6
"""A direction of which batch leaves less than this share cannot be known."""


NOTHING_LEFT = 1e-20
"""A residual mean square of this share of the largest squared distance from the mean is rounding."""


@dataclass(frozen=True)
class Retention:
    """What is left of an effect, and of batch.

    Attributes
    ----------
    effect : float
        Share of the effect that is left; NaN where batch leaves nothing of it to be known.
    batch : float
        Sum of squares between batches, nothing else given, after over before.
    """

    effect: float
    batch: float


def retention(
    before: np.ndarray, after: np.ndarray, effect: np.ndarray, batch: np.ndarray, given: np.ndarray
) -> Retention:
    """Share of an effect that is left after a correction.

    Parameters
    ----------
    before, after : arrays (n, p)
        The same features. Those with NaN are left out.
    effect, batch, given : arrays (n, q), (n, levels), (n, r)
        Design columns; an intercept is always there.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> case, plate = np.repeat([0.0, 1.0], 20), np.repeat([0, 1, 0, 1], [15, 5, 5, 15])
    >>> X = rng.normal(size=(40, 3)) + case[:, None]
    >>> centred = X - np.array([X[plate == k].mean(axis=0) for k in (0, 1)])[plate]
    >>> plates = np.eye(2)[plate]
    >>> found = retention(X, centred, case[:, None], plates, np.zeros((40, 0)))
    >>> round(1 - float(np.corrcoef(case, plate)[0, 1]) ** 2, 2), round(found.effect, 2), round(found.batch, 9)
    (0.75, 0.75, 0.0)
    """
    seen = np.isfinite(before).all(axis=0) & np.isfinite(after).all(axis=0)
    others = basis_of(given)
    Z = basis_of(effect, others)
    B = basis_of(batch, others)
    if not seen.any() or not Z.shape[1] or not B.shape[1]:
        return Retention(float("nan"), float("nan"))
    # directions of the effect, and the share of each that batch leaves
    left, share, _ = np.linalg.svd(Z.T - (Z.T @ B) @ B.T, full_matrices=False)
    known = share > np.sqrt(ESTIMABLE)
    Z, share = (Z @ left)[:, known], share[known]
    if not Z.shape[1]:
        return Retention(float("nan"), float("nan"))
    rest = Z - B @ (B.T @ Z)
    everything = np.column_stack([others, B, basis_of(rest)])
    ways = (rest / np.square(share), Z)
    columns = np.flatnonzero(seen)
    sums = np.zeros(4)
    for start, stop in blocks.spans(0, len(columns), max(1, COLUMN_VALUES // len(before))):
        at = columns[start:stop]
        (b, first), (c, last) = (
            _in_units(X[:, at], everything, others, B, way) for X, way in zip((before, after), ways, strict=True)
        )
        there = np.isfinite(first) & np.isfinite(last)
        b, c = b[:, there], c[:, there]
        sums += np.vdot(c, b), np.vdot(b, b), last[there].sum(), first[there].sum()
    above, below, last_sum, first_sum = sums.tolist()
    return Retention(
        above / below if below > 0 else float("nan"), last_sum / first_sum if first_sum > 0 else float("nan")
    )


def _in_units(
    X: np.ndarray, everything: np.ndarray, others: np.ndarray, batch: np.ndarray, way: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients (q, p) and sums of squares between batches (p,), in units of each feature's residual spread.

    NaN for a feature that everything explains.
    """
    u, _ = centred(X.astype(np.float64))
    left = np.square(u - everything @ (everything.T @ u)).sum(axis=0) / max(1, len(X) - 1 - everything.shape[1])
    unit = np.sqrt(np.where(left > NOTHING_LEFT, left, np.nan))
    own = u - others @ (others.T @ u)
    return way.T @ own / unit, np.square(batch.T @ own).sum(axis=0) / np.square(unit)
