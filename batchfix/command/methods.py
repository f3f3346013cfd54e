"""Methods: the names that the command line has for correctors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..correctors import BatchCorrector, ComBat, LinearCorrector


@dataclass(frozen=True)
class Method:
    """A name on the command line: what it does, and how its corrector is made.

    Attributes
    ----------
    summary : a line for the help
    make : makes the corrector from the options `reference_batch` and `scale_guard`
    lone : what is left unscaled where a batch has one sample, which has no spread; None where nothing is scaled
    """

    summary: str
    make: Callable[..., Any]
    lone: str | None = None


METHODS = {
    "combat": Method("shift and scale per batch, shrunk across features (sva's ComBat)", ComBat, "every batch"),
    "combat-nonparametric": Method(
        "the same with non-parametric priors; slow", partial(ComBat, parametric=False), "every batch"
    ),
    "combat-mean-only": Method("ComBat's shift alone", partial(ComBat, mean_only=True)),
    "linear": Method("shift by least squares (limma's removeBatchEffect); takes --nuisance", LinearCorrector),
    "location": Method("equal means", partial(BatchCorrector, scale=None)),
    "location-scale": Method("equal means and standard deviations", BatchCorrector, "such a batch"),
    "location-scale-shrunk": Method(
        "the same, shrunk across features by empirical Bayes", partial(BatchCorrector, shrinkage="eb"), "such a batch"
    ),
    "robust-location": Method("equal medians", partial(BatchCorrector, location="median", scale=None)),
    "robust-location-scale": Method(
        "equal medians and median absolute deviations",
        partial(BatchCorrector, location="median", scale="mad"),
        "such a batch",
    ),
    "standardize": Method(
        "mean 0 and standard deviation 1 within each batch", partial(BatchCorrector, target="standard"), "such a batch"
    ),
}

SCALE_GUARDED = ("combat", "combat-nonparametric")
