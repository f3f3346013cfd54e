"""Covariates among measurements: columns that a table of measurements may hold by mistake."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SAMPLE_ROWS = 256
FEW_VALUES = 10
OFTEN = 0.2
"""Share of whole numbers in a typical column from which on they say nothing."""

USUAL_NAMES = frozenset(
    ("age", "sex", "gender", "bmi", "batch", "plate", "run", "site", "day", "date", "year", "stage", "grade")
)


def covariate_like(names: Sequence[str], values: np.ndarray) -> list[str]:
    """Names of columns that look like labels or covariates and not like the measurements beside them.

    A column does by a name of `USUAL_NAMES`, or if it varies and holds whole numbers only, at most ten different ones,
    where most columns hold fractions. Zeros are no evidence where the other columns have them too.

    Parameters
    ----------
    names : p names
    values : array (n, p), NaN where missing

    Examples
    --------
    >>> values = np.column_stack([np.random.default_rng(0).normal(size=(20, 4)), np.tile([1.0, 2.0], 10)])
    >>> covariate_like(["g1", "g2", "g3", "AGE", "arm"], values)
    ['AGE', 'arm']
    """
    by_name = np.array([str(name).strip().casefold() in USUAL_NAMES for name in names])
    found = by_name | _coded(values)
    return [name for name, at in zip(names, found, strict=True) if at]


def _coded(values: np.ndarray) -> np.ndarray:
    """Columns (p,) of few whole numbers beside columns of fractions."""
    n, p = values.shape
    found = np.zeros(p, dtype=bool)
    some = values[np.unique(np.linspace(0, n - 1, SAMPLE_ROWS).astype(int))]
    seen = ~np.isnan(some)
    whole = (some == np.rint(some)).sum(axis=0)
    fractions = whole < seen.sum(axis=0)
    if fractions.sum() <= p / 2 or np.median(whole[fractions] / seen[:, fractions].sum(axis=0)) > OFTEN:
        return found
    zeros = bool((some[:, fractions] == 0).any())
    for j in np.flatnonzero(~fractions):
        distinct = np.unique(values[~np.isnan(values[:, j]), j])
        few = 1 < len(distinct) <= FEW_VALUES and np.array_equal(distinct, np.rint(distinct))
        found[j] = few and not (zeros and 0 in distinct)
    return found
