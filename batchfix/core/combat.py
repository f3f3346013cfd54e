"""ComBat's own conventions: the common frame, and what stands in for a spread.

A linear fit by batch goes in; the frame in which all features are comparable, and the
batch effects seen in it, come out. They follow sva 3.46 (Johnson et al. 2007), which is
what results are compared with.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .affine import Frame
from .comoments import CoMoments
from .least_squares import LinearFit
from .moments import NOISE


def constant_within(moments: CoMoments, eps: float) -> np.ndarray:
    """Whether each feature is constant within each batch, (B, p).

    sd <= 64 eps max|x|, with |mean| for max|x|: where the inequality holds the two differ by
    less than the rounding. A batch of one row, and a feature with missing values in a batch,
    are never called constant.
    """
    whole = np.asarray(moments.x.n == moments.rows[:, None])
    return np.asarray(whole & _still(moments.x.m2, moments, eps))


def without_spread(moments: CoMoments, rss: np.ndarray, eps: float) -> np.ndarray:
    """Whether a feature's values or its residuals are constant within a batch, as above, missing values or not, (B, p).

    For a batch that joins a fitted model: sva has no convention for it.
    """
    return np.asarray(_still(moments.x.m2, moments, eps) | _still(rss, moments, eps))


def _still(squares: np.ndarray, moments: CoMoments, eps: float) -> np.ndarray:
    n = moments.x.n
    sd = np.sqrt(squares / np.maximum(n - 1, 1))
    return np.asarray((n > 1) & (sd <= NOISE * eps * np.abs(moments.x.mean)))


@dataclass(frozen=True)
class GrandFrame:
    """The frame in which ComBat standardises.

    Attributes
    ----------
    target : Frame of arrays (p,)
        Grand mean at the pivot (of the reference batch, if any) and pooled standard deviation.
    pooled : Frame of arrays (p,)
        The same over all batches, reference or not.
    active : array (p,) of bool
        False for a feature that stays as it is: constant within a batch, or explained wholly
        by what is kept.
    rounding : int
        Features that are constant only up to rounding.
    """

    target: Frame
    pooled: Frame
    active: np.ndarray
    rounding: int


def grand_frame(moments: CoMoments, fit: LinearFit, eps: float, reference: int | None) -> GrandFrame:
    """Estimate the common frame.

    The grand mean weighs a batch by its rows, whether observed or not. The pooled variance divides
    the residual sum of squares by n; by n - 1, n the feature's own count, as soon as any active
    feature misses a value. With a reference both are those of the reference batch alone.
    """
    constant = constant_within(moments, eps)
    exact = constant & (moments.x.m2 == 0)
    rss = np.where(np.isnan(fit.location), 0.0, fit.rss)
    spread = rss.sum(axis=0) > 0 if reference is None else rss[reference] > 0
    active = ~constant.any(axis=0) & spread & fit.estimable
    missing = bool((fit.n[:, active] < moments.rows[:, None]).any())

    weight = moments.rows[:, None] * ~np.isnan(fit.location)
    share = weight / np.maximum(weight.sum(axis=0), 1)
    location = (share * np.nan_to_num(fit.location)).sum(axis=0)
    pooled = Frame(location, _scale(rss.sum(axis=0), fit.n.sum(axis=0), moments.rows.sum(), missing, active))
    target = pooled
    if reference is not None:
        own = np.nan_to_num(fit.location[reference])
        target = Frame(own, _scale(rss[reference], fit.n[reference], moments.rows[reference], missing, active))
    rounding = int((constant.any(axis=0) & ~exact.any(axis=0)).sum())
    return GrandFrame(target, pooled, active, rounding)


def _scale(rss: np.ndarray, n: np.ndarray, rows: float, missing: bool, active: np.ndarray) -> np.ndarray:
    count = np.maximum(n - 1, 1) if missing else np.full_like(n, rows)
    return np.where(active, np.sqrt(np.where(active, rss, 1.0) / count), 1.0)


def effects(
    location: np.ndarray, rss: np.ndarray, n: np.ndarray, target: Frame, active: np.ndarray | bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Batch effects in the common frame: location (B, p) and variance (B, p, ddof 1).

    NaN where there is nothing to estimate them from, and for features that are not `active` (p,). sva calls them
    gamma.hat and delta.hat.
    """
    gamma = (location - target.location) / target.scale
    with np.errstate(divide="ignore", invalid="ignore"):
        # divide twice: the square of a scale of 1e-150 has few digits left
        delta = rss / (n - 1) / target.scale / target.scale
    return np.where(active, gamma, np.nan), np.where(active & (n > 1), delta, np.nan)


def batch_frame(gamma: np.ndarray, delta: np.ndarray, target: Frame) -> Frame:
    """Frame of a batch whose effects in the common frame are (gamma, delta)."""
    return Frame(target.location + gamma * target.scale, target.scale * np.sqrt(delta))
