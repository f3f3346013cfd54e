"""Location and scale of batches as measured, the frame they pool into, and what fills a gap.

Measured locations and sums of squares go in; frames without gaps come out.
"""

from __future__ import annotations

import numpy as np

from .affine import Frame
from .moments import NOISE
from .shrinkage import Prior, shrink_location, shrink_parametric


def spread(rss: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Standard deviation (ddof 1) from a sum of squares; NaN for fewer than two values."""
    return np.where(n > 1, np.sqrt(rss / np.maximum(n - 1, 1)), np.nan)


def without_spread(frame: Frame, eps: float) -> np.ndarray:
    """Where a scale is missing or no more than rounding: sd <= 64 eps |location|."""
    location = np.abs(np.nan_to_num(frame.location))
    return np.asarray(np.isnan(frame.scale) | (np.nan_to_num(frame.scale) <= NOISE * eps * location))


def pooled_frame(frame: Frame, n: np.ndarray, rows: np.ndarray) -> Frame:
    """Pool frames (B, p) into one (p,): locations weighed by rows, variances by n - 1; NaN left out.

    A feature without any location gets 0, without any scale 1.
    """
    weight = rows[:, None] * ~np.isnan(frame.location)
    share = weight / np.maximum(weight.sum(axis=0), 1)
    location = (share * np.nan_to_num(frame.location)).sum(axis=0)
    freedom = np.where(np.isnan(frame.scale), 0.0, n - 1)
    total = freedom.sum(axis=0)
    # in units of the largest scale: squares of 1e-160 would underflow
    unit = np.max(np.nan_to_num(frame.scale), axis=0)
    unit = np.where(unit > 0, unit, 1.0)
    variance = (freedom * np.nan_to_num(frame.scale / unit) ** 2).sum(axis=0) / np.where(total > 0, total, 1)
    return Frame(location, np.where(total > 0, unit * np.sqrt(variance), 1.0))


def filled(frame: Frame, stand_in: Frame) -> Frame:
    """Frame with the stand-in's location and scale where its own are missing."""
    return Frame(
        np.where(np.isnan(frame.location), stand_in.location, frame.location),
        np.where(np.isnan(frame.scale), stand_in.scale, frame.scale),
    )


def shrunk(
    frame: Frame, n: np.ndarray, target: Frame, varies: np.ndarray | bool = True, *, location_only: bool
) -> Frame:
    """Frames shrunk across features toward what a batch's other features say, as in ComBat.

    A scale that is missing stays the target's. A feature that does not vary (`varies`, (p,)) has no scale to be
    compared in: it is located as measured and has no say in the prior.
    """
    location = np.where(varies, (frame.location - target.location) / target.scale, np.nan)
    variance = (frame.scale / target.scale) ** 2
    prior = Prior.of(location, variance)
    if location_only:
        posterior = shrink_location(location, prior, n)
    else:
        posterior = shrink_parametric(n, location, variance, prior)
    scale = np.where(np.isnan(frame.scale), 1.0, np.sqrt(posterior.variance))
    shrunken = np.where(varies, target.location + posterior.location * target.scale, frame.location)
    return filled(Frame(shrunken, scale * target.scale), target)
