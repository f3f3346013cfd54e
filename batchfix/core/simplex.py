"""The simplex: rows of relative amounts, closed to a total.

Amounts (counts, proportions, percentages) flow in; rows that sum to 1, or to their depth, flow out:

    closure         C(x)_j = total * x_j / sum_k x_k
    whole counts    depth * C(x)_j, rounded so that the row sums to its depth exactly (largest remainders)

(Aitchison 1986, "The Statistical Analysis of Compositional Data", chapter 2.) NaN, zeros, dtypes, single rows and
`out` are as in `compositions`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..exceptions import BatchfixError
from .compositions import as_table, close, map_rows, row_sums, row_totals
from .faults import AMOUNTS

MAX_DEPTH = 2.0**45
"""Largest sum of whole counts: beyond it, float64 rounds remainders away."""


def closure(X: Any, total: Any = 1.0, *, out: np.ndarray | None = None) -> np.ndarray:
    """Each row divided by its sum, times `total`.

        C(x)_j = total * x_j / sum_k x_k

    Parameters
    ----------
    X : array (..., D)
        Amounts, none negative; NaN where not observed (the sum is then over the others).
    total : float or array (...,)
        What each row is to sum to: 1 for proportions, 100 for percentages, a depth a row to undo a closure.
    out : array of X's shape, optional
        Where to write; may be X.

    Returns
    -------
    Array of X's shape, in units of total.

    Raises
    ------
    BatchfixError
        If a value is negative or infinite, or a row has no positive sum.

    Examples
    --------
    >>> closure(np.array([[2, 6], [1, 1]])).tolist()
    [[0.25, 0.75], [0.5, 0.5]]
    >>> closure(np.array([0.25, 0.75]), total=8).tolist()
    [2.0, 6.0]
    """
    table, shape = as_table(X)
    scale = row_totals(total, shape[:-1])

    def kernel(x: np.ndarray, y: np.ndarray, rows: slice, missing: bool) -> None:
        close(x, y, missing, scale[rows])

    return map_rows(kernel, table, shape, AMOUNTS, out=out)


def depths(X: Any) -> np.ndarray:
    """The sum of each row over its observed parts: float64 (...,). Set aside, `total=` gives it back.

    Raises
    ------
    BatchfixError
        As `closure`.

    Examples
    --------
    >>> depths(np.array([[2, 6], [1, 1]])).tolist()
    [8.0, 2.0]
    """
    table, shape = as_table(X)

    def kernel(x: np.ndarray, y: np.ndarray, rows: slice, missing: bool) -> None:
        y[...] = row_sums(x, missing)

    return map_rows(kernel, table, shape, AMOUNTS, width=1, wide=True).reshape(shape[:-1])


def whole_counts(X: Any, depth: Any) -> np.ndarray:
    """Rows as whole counts that sum to `depth` exactly: parts rounded down, the rest to the largest remainders.

    Zero stays zero; no part moves by 1 or more from depth * C(x); equal remainders are served from the left.

    Parameters
    ----------
    X : array (..., D)
        Amounts on any scale.
    depth : float or array (...,)
        Whole numbers from 1 to 2**45: how many counts each row has.

    Returns
    -------
    float64 array of X's shape that holds whole numbers (float32 holds them to 2**24 only).

    Raises
    ------
    BatchfixError
        As `closure`, or if a depth is not a whole number in range.

    Examples
    --------
    >>> whole_counts(np.array([0.5, 0.3, 0.2]), depth=8).tolist()
    [4.0, 2.0, 2.0]
    """
    table, shape = as_table(X)
    scale = row_totals(depth, shape[:-1])
    known = scale[~np.isnan(scale)]
    odd = known[(known != np.floor(known)) | (known > MAX_DEPTH)]
    if odd.size:
        raise BatchfixError(
            f"A depth must be a whole number of at most 2**45 to be met by whole counts; got {float(odd[0])!r}. "
            "Use closure(X, total=depth) for amounts that need not be whole."
        )

    def kernel(x: np.ndarray, y: np.ndarray, rows: slice, missing: bool) -> None:
        close(x, y, missing, scale[rows])
        floor = np.floor(y)
        rest = np.where(np.isnan(y), -1.0, y - floor) if missing else y - floor
        left = np.rint(scale[rows, None] - np.nansum(floor, axis=1, keepdims=True))
        left = np.nan_to_num(left).astype(np.intp)
        ranked = np.sort(rest, axis=1)
        least = np.take_along_axis(ranked, np.clip(ranked.shape[1] - left, 0, ranked.shape[1] - 1), axis=1)
        least[left == 0] = np.inf
        above, tied = rest > least, rest == least
        np.add(floor, above, out=y)
        y += tied & (np.cumsum(tied, axis=1) <= left - above.sum(axis=1, keepdims=True))

    return map_rows(kernel, table, shape, AMOUNTS, wide=True)
