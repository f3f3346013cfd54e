"""Log-ratios: compositions as coordinates in which means, variances and straight lines make sense, and back.

Rows of positive amounts flow in; log-ratios flow out, the same for any scale of a row (counts or proportions):

    clr_j(x)  = ln x_j - mean_k ln x_k                      centred: one a part, summing to 0
    alr_j(x)  = ln x_j - ln x_r                             additive: against a reference part r
    rclr_j(x) = ln x_j - mean over positive k of ln x_k     robust: zeros are left out, as NaN

(Aitchison 1986, "The Statistical Analysis of Compositional Data"; rclr: Martino et al. 2019, "A novel sparse
compositional technique reveals microbial perturbations".) `balances` has the isometric one. All go back by exponentials
and a closure; far below the largest part (e^-745 of it, e^-103 in float32) they underflow to 0.

NaN, zeros, dtypes, single rows and `out` are as in `compositions`: a part that is NaN stays NaN in clr, rclr and alr,
and the means run over the row's other parts. A row whose reference is NaN has no alr, and is refused.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ..exceptions import BatchfixError
from .compositions import as_table, close, map_rows, row_means, row_sums, row_totals
from .faults import AMOUNTS, FINITE, POSITIVE, UnfitError


def clr(X: Any, *, out: np.ndarray | None = None) -> np.ndarray:
    """Centred log-ratios: clr_j(x) = ln x_j - mean_k ln x_k.

    Parameters
    ----------
    X : array (..., D)
        Positive amounts on any scale, of two parts or more; NaN where not observed.
    out : array of X's shape, optional
        Where to write; may be X.

    Returns
    -------
    Array of X's shape; each row sums to 0.

    Raises
    ------
    BatchfixError
        If a part is 0 (replace zeros first), negative or infinite.

    Examples
    --------
    >>> clr(np.array([1.0, np.e, np.e**2])).round(12).tolist()
    [-1.0, 0.0, 1.0]
    """
    table, shape = as_table(X)
    refuse_one_part(shape[-1])

    def kernel(x: np.ndarray, y: np.ndarray, rows: slice, missing: bool) -> None:
        np.log(x, out=y)
        means = row_means(y, missing)
        if not np.isfinite(means).all():  # log 0 is -inf; of a negative or of NaN, NaN
            if np.isinf(y).any() or (np.isnan(y) & ~np.isnan(x)).any():
                raise UnfitError
            means = row_means(y, missing=True)
        y -= means

    return map_rows(kernel, table, shape, POSITIVE, out=out, look=False)


def clr_inv(Z: Any, total: Any = 1.0, *, out: np.ndarray | None = None) -> np.ndarray:
    """Back from centred log-ratios: x_j = total * e^z_j / sum_k e^z_k.

    A constant added to a row of Z changes nothing, so rows need not sum to 0.

    Parameters
    ----------
    Z : array (..., D)
        Log-ratios; NaN stays NaN, and the row's other parts share its total.
    total : float or array (...,)
        What each row sums to: 1, or its original depth.
    out : array of Z's shape, optional
        Where to write; may be Z.

    Raises
    ------
    BatchfixError
        If a value is infinite.

    Examples
    --------
    >>> clr_inv(clr(np.array([[3, 5], [90, 10]])), total=[8, 100]).round(9).tolist()
    [[3.0, 5.0], [90.0, 10.0]]
    """
    table, shape = as_table(Z)
    scale = row_totals(total, shape[:-1])

    def kernel(x: np.ndarray, y: np.ndarray, rows: slice, missing: bool) -> None:
        close_exp(x, y, missing, scale[rows])

    return map_rows(kernel, table, shape, FINITE, out=out)


def alr(X: Any, reference: int = -1) -> np.ndarray:
    """Additive log-ratios: alr_j(x) = ln x_j - ln x_reference, for all parts but the reference, in their order.

    They are ratios with a name ("a / reference"), but distances depend on the reference chosen.

    Parameters
    ----------
    X : array (..., D)
        Positive amounts on any scale; NaN where not observed.
    reference : int
        Column of the reference part; negative counts from the last.

    Returns
    -------
    Array (..., D - 1).

    Raises
    ------
    BatchfixError
        If a part is 0, negative or infinite, there is no such column, or the reference is NaN in a row that is not.

    Examples
    --------
    >>> alr(np.array([1.0, 2.0, 8.0]), reference=1).round(3).tolist()
    [-0.693, 1.386]
    """
    table, shape = as_table(X)
    refuse_one_part(shape[-1])
    r = _reference_column(reference, shape[-1])

    def kernel(x: np.ndarray, y: np.ndarray, rows: slice, missing: bool) -> None:
        np.log(x, out=x)
        base = x[:, r : r + 1]
        np.subtract(x[:, :r], base, out=y[:, :r])
        np.subtract(x[:, r + 1 :], base, out=y[:, r:])

    return map_rows(kernel, table, shape, replace(POSITIVE, column=r), width=shape[-1] - 1, own=True)


def alr_inv(Z: Any, reference: int = -1, total: Any = 1.0) -> np.ndarray:
    """Back from additive log-ratios: x_j = total * e^z_j / (1 + sum_k e^z_k), and 1 for e^z of the reference.

    Parameters
    ----------
    Z : array (..., D - 1)
        Log-ratios; NaN stays NaN, and the row's other parts share its total.
    reference : int
        The column that the reference has in the result.
    total : float or array (...,)
        What each row sums to: 1, or its original depth.

    Returns
    -------
    Array (..., D).

    Raises
    ------
    BatchfixError
        If a value is infinite, or there is no such column.

    Examples
    --------
    >>> alr_inv(np.log([0.5, 4.0]), reference=1, total=11).round(9).tolist()
    [1.0, 2.0, 8.0]
    """
    table, shape = as_table(Z)
    scale = row_totals(total, shape[:-1])
    r = _reference_column(reference, shape[-1] + 1)

    def kernel(x: np.ndarray, y: np.ndarray, rows: slice, missing: bool) -> None:
        y[:, :r], y[:, r + 1 :] = x[:, :r], x[:, r:]
        y[:, r] = 0
        if missing:
            y[np.isnan(x).all(axis=1), r] = np.nan
        close_exp(y, y, missing, scale[rows])

    return map_rows(kernel, table, shape, FINITE, width=shape[-1] + 1)


def rclr(X: Any, *, out: np.ndarray | None = None) -> np.ndarray:
    """Robust centred log-ratios: rclr_j(x) = ln x_j - mean over the positive parts k of ln x_k; zeros become NaN.

    The clr of the parts that were seen, zeros being read as "not seen" rather than "not there".

    Parameters
    ----------
    X : array (..., D)
        Amounts on any scale, none negative; NaN where not observed.
    out : array of X's shape, optional
        Where to write; may be X.

    Returns
    -------
    Array of X's shape, NaN where X is 0 or NaN.

    Raises
    ------
    BatchfixError
        If a part is negative or infinite, or a row has no positive part.

    Examples
    --------
    >>> rclr(np.array([1.0, 0.0, np.e**2])).round(12).tolist()
    [-1.0, nan, 1.0]
    """
    table, shape = as_table(X)
    refuse_one_part(shape[-1])

    def kernel(x: np.ndarray, y: np.ndarray, rows: slice, missing: bool) -> None:
        row_sums(x, missing)  # refuses rows of zeros
        np.log(x, out=y)
        unseen = np.isneginf(y)
        np.copyto(y, np.nan, where=unseen)
        y -= row_means(y, missing or bool(unseen.any()))

    return map_rows(kernel, table, shape, AMOUNTS, out=out)


def rclr_inv(Z: Any, total: Any = 1.0, *, out: np.ndarray | None = None) -> np.ndarray:
    """Back from robust centred log-ratios: as `clr_inv`, with 0 wherever Z is NaN.

    What was NaN before `rclr` cannot be told from a zero any more, and becomes 0 too; a row of nothing but NaN stays
    so.

    Parameters
    ----------
    Z : array (..., D)
        Log-ratios, NaN for parts that were 0.
    total : float or array (...,)
        What each row sums to: 1, or its original depth.
    out : array of Z's shape, optional
        Where to write; may be Z.

    Raises
    ------
    BatchfixError
        If a value is infinite.

    Examples
    --------
    >>> rclr_inv(rclr(np.array([6, 0, 2])), total=8).round(9).tolist()
    [6.0, 0.0, 2.0]
    """
    table, shape = as_table(Z)
    scale = row_totals(total, shape[:-1])

    def kernel(x: np.ndarray, y: np.ndarray, rows: slice, missing: bool) -> None:
        close_exp(x, y, missing, scale[rows])
        if missing:
            unseen = np.isnan(y)
            unseen &= ~unseen.all(axis=1, keepdims=True)
            np.copyto(y, 0.0, where=unseen)

    return map_rows(kernel, table, shape, FINITE, out=out)


# ---- kernels and checks shared with the isometric log-ratios


def close_exp(x: np.ndarray, y: np.ndarray, missing: bool, scale: np.ndarray) -> None:
    """Write the closure of e^x, times `scale` a row, into y, which may be x. The largest part is e^0: no overflow."""
    largest = np.fmax if missing else np.maximum
    np.subtract(x, largest.reduce(x, axis=1, keepdims=True), out=y)
    np.exp(y, out=y)
    close(y, y, missing, scale)


def refuse_one_part(parts: int) -> None:
    """BatchfixError for fewer than two parts."""
    if parts < 2:
        raise BatchfixError(f"A log-ratio needs two parts or more; got {parts}. One part alone is always the whole.")


def _reference_column(reference: int, parts: int) -> int:
    if not -parts <= reference < parts:
        raise BatchfixError(
            f"The reference must be one of the {parts} parts, 0 to {parts - 1} (or -1 for the last); got {reference!r}."
        )
    return int(reference) % parts


def recentred(restored: np.ndarray, of_one_more: np.ndarray) -> np.ndarray:
    """Log-ratios that sum to 0, of what is put back from log-ratios z, and from z + 1.

    Closing has lost a constant c a row, where a corrector scales. What is put back of z + c is affine in c, and its sum
    was 0: sum(z) + c (sum(z + 1) - sum(z)) = 0.
    """
    step = of_one_more - restored
    slope = np.nansum(step, axis=1, keepdims=True)
    c = -np.nansum(restored, axis=1, keepdims=True) / np.where(slope > 0, slope, 1.0)
    centred: np.ndarray = restored + c * step
    return centred
