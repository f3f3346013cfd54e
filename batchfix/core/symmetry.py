"""Symmetry: whether a table looks like counts, unlogged intensities or percentages.

A correction that moves and scales assumes that a feature is spread evenly about its
mean. A small sample of the table goes in; a sentence, or nothing, comes out.
"""

from __future__ import annotations

import numpy as np

SAMPLE_ROWS = 128
SAMPLE_COLUMNS = 256
LARGE_COUNT, LARGEST_COUNT = 20.0, 1e12
LONG_TAIL = 8.0
SKEWED = 1.0
TENTH_OF_A_PERCENT = 1e-3


def asymmetric_scale(X: np.ndarray) -> str | None:
    """Say what the values look like when they are not on a symmetric scale.

    Looks at a grid of 128 x 256 cells, whole rows for the sums; costs a millisecond.

    - parts of a whole: not negative, and whole rows add up to one total (1, 100 or any) within 0.1 %;
    - raw counts: not negative, all whole numbers, one of at least 20;
    - unlogged intensities: not negative, the 99th percentile over 8 times the median and the typical
      feature's skewness over 1.

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
    if len(rows) < 4 or seen.size < 16 or seen.min() < 0 or seen.max() == 0:
        return None
    if _closed(X, rows[:: max(1, len(rows) // 16)]):
        return "parts of a whole (every row adds up to the same total)"
    if LARGE_COUNT <= seen.max() <= LARGEST_COUNT and bool((seen == np.round(seen)).all()):
        return "raw counts (whole numbers from 0)"
    middle, high = np.quantile(seen, [0.5, 0.99])
    if high > LONG_TAIL * middle and _skewness(cells) > SKEWED:
        return "unlogged intensities or concentrations (a long right tail from 0)"
    return None


def _closed(X: np.ndarray, rows: np.ndarray) -> bool:
    """Whether rows of at least three features add up to one total."""
    if X.shape[1] < 3:
        return False
    whole = X[rows].astype(np.float64)
    whole = whole[np.isfinite(whole).all(axis=1)]
    if len(whole) < 4:
        return False
    totals = whole.sum(axis=1)
    middle = float(np.median(totals))
    varied = float(whole[0].std()) > TENTH_OF_A_PERCENT * middle / X.shape[1]
    return varied and middle > 0 and bool(np.abs(totals / middle - 1).max() < TENTH_OF_A_PERCENT)


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
