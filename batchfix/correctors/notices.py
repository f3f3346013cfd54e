"""Notices: the warnings that all correctors share, shown at the caller's own line."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable

import numpy as np

from ..core.design import repr_label
from ..core.least_squares import LinearFit
from ..core.statistics import BatchStatistics
from ..core.symmetry import asymmetric_scale
from ..exceptions import (
    BatchfixWarning,
    ConstantFeatureWarning,
    DataScaleWarning,
    EstimabilityWarning,
    MissingFeatureWarning,
    NothingToCorrectWarning,
)

INNER = ("batchfix.", "sklearn.utils._set_output")


def warn(message: str, category: type[BatchfixWarning]) -> None:
    """Warn at the first line outside the library."""
    level, frame = 3, sys._getframe(1).f_back
    while frame is not None and frame.f_globals.get("__name__", "").startswith(INNER):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


def warn_about_scale(X: np.ndarray, n_batches: int, *, first_chunk: bool) -> None:
    """Say when values look like counts, unlogged intensities or parts of a whole."""
    what = asymmetric_scale(X) if n_batches > 1 or first_chunk else None
    if what:
        warn(
            f"X should be on a scale where batch effects add up and spread evenly, but it looks like {what}. "
            "Take logarithms (or log-ratios of parts) first.",
            DataScaleWarning,
        )


def warn_about_rows(statistics: BatchStatistics, fit: LinearFit, name: Callable[[int], str]) -> None:
    """Say which features are missing from a batch, and which cannot be estimated."""
    empty = (fit.n == 0).any(axis=0) & (fit.n > 0).any(axis=0)
    if empty.any():
        b, j = np.argwhere((fit.n == 0) & empty)[0]
        many = int(empty.sum())
        warn(
            f"{many} feature{'s have' if many > 1 else ' has'} no observed value in some batch ({name(int(j))} in "
            f"{repr_label(statistics.batches[b])}{' for one' if many > 1 else ''}): what is known of the other batches "
            "and features stands in.",
            MissingFeatureWarning,
        )
    if not fit.estimable.all():
        warn(
            f"{some(np.flatnonzero(~fit.estimable), name)} such that what is kept cannot be told from batch or "
            "nuisance, for want of observed values: left as they are.",
            EstimabilityWarning,
        )


def warn_constant(features: np.ndarray, name: Callable[[int], str], what: str) -> None:
    """Say that features without spread are treated apart."""
    warn(f"{some(features, name)} {what}", ConstantFeatureWarning)


def warn_one_batch(batch: object) -> None:
    """Say that a single batch leaves nothing to bring together."""
    warn(
        f"There must be two batches to correct between, got only {repr_label(batch)}: nothing is corrected yet. "
        "Fit with the others, or adapt() to them.",
        NothingToCorrectWarning,
    )


def some(features: np.ndarray, name: Callable[[int], str]) -> str:
    """Count features and name the first."""
    if len(features) == 1:
        return f"1 feature ({name(int(features[0]))}) is"
    return f"{len(features)} features ({name(int(features[0]))} for one) are"
