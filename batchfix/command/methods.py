"""Methods: the names that the command line has for correctors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..correctors import (
    BatchCorrector,
    CausalCorrector,
    ComBat,
    GroupCorrector,
    InstanceCorrector,
    LinearCorrector,
)
from .compositions import compositional


@dataclass(frozen=True)
class Method:
    """A name on the command line: what it does, and how its corrector is made.

    Attributes
    ----------
    summary : a line for the help
    make : makes the corrector from the options `reference_batch` and `scale_guard`; `output` and `zeros`
    lone : what is left unscaled where a batch has one sample, which has no spread; None where nothing is scaled
    guarded : whether it takes `scale_guard`
    composition : "ratios" of counts or shares, which take `output` and `zeros`; "abundances"; None for other tables
    peers : "sector" of methods without batches that take groups, "row" or "history"; None for the others
    """

    summary: str
    make: Callable[..., Any]
    lone: str | None = None
    guarded: bool = False
    composition: str | None = None
    peers: str | None = None


_LOCATION = partial(BatchCorrector, scale=None)
_BATCH, _ALL = "such a batch", "every batch"

METHODS = {
    "combat": Method("shift and scale per batch, shrunk across features (sva's ComBat)", ComBat, _ALL, guarded=True),
    "combat-nonparametric": Method(
        "the same with non-parametric priors; slow", partial(ComBat, parametric=False), _ALL, guarded=True
    ),
    "combat-mean-only": Method("ComBat's shift alone", partial(ComBat, mean_only=True)),
    "linear": Method("shift by least squares (limma's removeBatchEffect); takes --nuisance", LinearCorrector),
    "location": Method("equal means", _LOCATION),
    "location-scale": Method("equal means and standard deviations", BatchCorrector, _BATCH, guarded=True),
    "location-scale-shrunk": Method(
        "the same, shrunk across features by empirical Bayes",
        partial(BatchCorrector, shrinkage="eb"),
        _BATCH,
        guarded=True,
    ),
    "robust-location": Method("equal medians", partial(BatchCorrector, location="median", scale=None)),
    "robust-location-scale": Method(
        "equal medians and median absolute deviations",
        partial(BatchCorrector, location="median", scale="mad"),
        _BATCH,
        guarded=True,
    ),
    "standardize": Method(
        "mean 0 and standard deviation 1 within each batch",
        partial(BatchCorrector, target="standard"),
        _BATCH,
        guarded=True,
    ),
}

for _kind, _of in (("clr", "centred log-ratios"), ("ilr", "balances")):
    METHODS[f"{_kind}-location"] = Method(
        f"counts or shares: equal means of {_of}", partial(compositional, _LOCATION, _kind), composition="ratios"
    )
    METHODS[f"{_kind}-location-scale"] = Method(
        "counts or shares: the same, and equal spread of what no batch nearly lacks",
        partial(compositional, BatchCorrector, _kind),
        _BATCH,
        guarded=True,
        composition="ratios",
    )
    METHODS[f"{_kind}-combat"] = Method(
        f"counts or shares: ComBat of {_of}",
        partial(compositional, ComBat, _kind),
        _ALL,
        guarded=True,
        composition="ratios",
    )

METHODS["abundance-location"] = Method(
    "counts or shares, zeros kept: each part times one factor a batch",
    partial(compositional, _LOCATION, "rclr", output="abundance"),
    composition="abundances",
)
METHODS["abundance-location-scale"] = Method(
    "counts or shares, zeros kept: the same, and equal spread of logarithms",
    partial(compositional, BatchCorrector, "rclr", output="abundance"),
    _BATCH,
    guarded=True,
    composition="abundances",
)

METHODS |= {
    "sector-mean": Method(
        "no batches: each value less its group's mean in that row (--groups, or --within and --by)",
        partial(GroupCorrector, scale=None),
        peers="sector",
    ),
    "sector-zscore": Method("the same, divided by the group's standard deviation", GroupCorrector, peers="sector"),
    "sector-rank": Method(
        "the same, ranks within the group, between 0 and 1", partial(GroupCorrector, method="rank"), peers="sector"
    ),
    "row-zscore": Method(
        "no batches: each row by its own mean and standard deviation (spectra)", InstanceCorrector, peers="row"
    ),
    "history-zscore": Method(
        "no batches: each column by its own past; rows are dates, in order", CausalCorrector, peers="history"
    ),
}
