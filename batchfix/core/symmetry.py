"""Symmetry: whether a table looks like counts, unlogged intensities or percentages.

A correction that moves and scales assumes that a feature is spread evenly about its
mean. A small sample of the table goes in; a sentence, or nothing, comes out.
"""

from __future__ import annotations

import numpy as np

SAMPLE_ROWS = 128
SAMPLE_COLUMNS = 256
WHOLE_ROWS, WHOLE_CELLS = (16, 64), 2**16
LARGE_COUNT, LARGEST_COUNT = 20.0, 1e12
LONG_TAIL, LONG_TAIL_OF_SPARSE, SPARSE = 4.0, 8.0, 0.05
FEW_NEGATIVES = 0.15
SKEWED = 1.0
TENTH_OF_A_PERCENT = 1e-3
NEARLY, NEARLY_ROWS = 0.05, 10
WHOLES = (1.0, 100.0, 1e3, 1e4, 1e6)
CANCELLED = 3.0


def asymmetric_scale(X: np.ndarray) -> str | None:
    """Say what the values look like when they are not on a symmetric scale.

    Looks at a grid of 128 x 256 cells, and at 16 to 64 whole rows for the sums; costs milliseconds.

    - parts of a whole: not negative, and whole rows add up to one total within 0.1 %: 1, 100, 1e3, 1e4 or 1e6, or any
      if the typical feature's skewness is over 1. Or, where cells are rounded or missing, nearly to 1 or 100 (5 %),
      with totals that vary less than a third of what independent features would: var(sum_j x_j) < sum_j var(x_j) / 3;
    - raw counts: not negative, all whole numbers, one of at least 20;
    - unlogged intensities: the typical feature's skewness over 1, and of the positive values the 99th percentile over 4
      times the median (8 times where over 5 % are zeros). What a subtracted background leaves may be negative: at most
      15 % of the values, none below minus the median.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> asymmetric_scale(rng.normal(size=(50, 20))) is None
    True
    >>> asymmetric_scale(rng.poisson(40, size=(50, 20)).astype(float))
    'raw counts (whole numbers from 0)'
    """
    with np.errstate(all="ignore"):  # sums may overflow; what they say is then nothing
        return _asymmetry(X)


def _asymmetry(X: np.ndarray) -> str | None:
    n, p = X.shape
    rows = np.unique(np.linspace(0, n - 1, min(n, SAMPLE_ROWS)).astype(int))
    columns = np.unique(np.linspace(0, p - 1, min(p, SAMPLE_COLUMNS)).astype(int))
    cells = X[np.ix_(rows, columns)].astype(np.float64)
    seen = cells[np.isfinite(cells)]
    if len(rows) < 4 or seen.size < 16 or seen.max() <= 0:
        return None
    least = float(seen.min())
    if least >= 0:
        count = int(np.clip(WHOLE_CELLS // p, *WHOLE_ROWS))
        if _closed(X[rows[:: -(-len(rows) // count)]].astype(np.float64), cells):
            return "parts of a whole (every row adds up to the same total)"
        if LARGE_COUNT <= seen.max() <= LARGEST_COUNT and bool((seen == np.round(seen)).all()):
            return "raw counts (whole numbers from 0)"
    middle, high = np.quantile(seen[seen > 0], [0.5, 0.99])
    if least < -middle or (seen < 0).mean() > FEW_NEGATIVES:
        return None
    tail = LONG_TAIL_OF_SPARSE if (seen == 0).mean() > SPARSE else LONG_TAIL
    if high > tail * middle and _skewness(cells) > SKEWED:
        return "unlogged intensities or concentrations (a long right tail from 0)"
    return None


def _closed(whole: np.ndarray, cells: np.ndarray) -> bool:
    """Whether whole rows, of at least three features, add up to one total; `cells` are some of all rows."""
    n, p = whole.shape
    if p < 3:
        return False
    complete = whole[np.isfinite(whole).all(axis=1)]
    if len(complete) >= 4:
        totals = complete.sum(axis=1)
        middle = float(np.median(totals))
        varied = float(complete[0].std()) > TENTH_OF_A_PERCENT * middle / p
        known = any(abs(middle / total - 1) < TENTH_OF_A_PERCENT for total in WHOLES)
        if varied and middle > 0 and bool(np.abs(totals / middle - 1).max() < TENTH_OF_A_PERCENT):
            return known or _skewness(cells) > SKEWED
    return n >= NEARLY_ROWS and _nearly_closed(whole)


def _nearly_closed(whole: np.ndarray) -> bool:
    """The same of rows with cells that are rounded or missing."""
    seen = np.isfinite(whole)
    mean = np.where(seen, whole, 0.0).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
    one = next((one for one in WHOLES[:2] if abs(mean.sum() / one - 1) < NEARLY), None)
    if one is None:
        return False
    off = np.where(seen, whole - mean, 0.0)  # a missing cell stands at its feature's mean
    totals = off.sum(axis=1)
    return bool(totals.std() < NEARLY * one and (off**2).sum() > CANCELLED * (totals**2).sum())


def _skewness(cells: np.ndarray) -> float:
    """Median over features of the third standardised moment."""
    seen = np.isfinite(cells)
    cells = np.where(seen, cells, 0.0)
    count = np.maximum(seen.sum(axis=0), 1)
    off = np.where(seen, cells - cells.sum(axis=0) / count, 0.0)
    spread = np.sqrt((off**2).sum(axis=0) / count)
    varies = spread > 0
    if not varies.any():
        return 0.0
    off = off[:, varies] / spread[varies]
    return float(np.median((off**3).sum(axis=0) / count[varies]))
