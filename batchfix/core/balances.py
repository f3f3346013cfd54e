"""Isometric log-ratios: orthonormal coordinates, D - 1 for D parts, in which Aitchison distances are ordinary ones.

A sequential binary partition splits the parts in two, each side in two again, until every part stands alone. Each of
its D - 1 splits, of r parts against s others, gives one coordinate, the balance

    z = sqrt(r s / (r + s)) * (mean of ln x over the r - mean of ln x over the s)

(Egozcue et al. 2003, "Isometric logratio transformations for compositional data analysis"; Egozcue & Pawlowsky-Glahn
2005, "Groups of parts and their balances in compositional data analysis".) The default sets the first i parts against
the next one:

    z_i = sqrt(i / (i + 1)) * (mean(ln x_1, ..., ln x_i) - ln x_{i+1}),   i = 1 ... D - 1

No D x D basis is multiplied: a partition puts its parts in an order in which every side is a stretch of neighbours,
and the sum over a stretch is the difference of two cumulative sums. A row costs O(D) for any partition.

NaN, dtypes and single rows are as in `compositions`, but coordinates mix parts: a row in part NaN is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from ..exceptions import BatchfixError
from .compositions import Kernel, as_table, map_rows, row_means, row_totals
from .faults import FINITE, POSITIVE
from .log_ratios import close_exp, refuse_one_part
from .partition import BinaryPartition

SEGMENT = 16
"""Parts that are summed by one small product."""

_ONES = np.ones(SEGMENT)
_TRIANGLE = np.triu(np.ones((SEGMENT, SEGMENT)))

Spread = Callable[[np.ndarray, np.ndarray], None]
"""spread(z, y): write the clr of balances z, but for a constant a row, into y. It may write into z."""


def ilr(X: Any, partition: BinaryPartition | None = None) -> np.ndarray:
    """Isometric log-ratios: the balances of a sequential binary partition.

    Parameters
    ----------
    X : array (..., D)
        Positive amounts on any scale, of two parts or more.
    partition : BinaryPartition, optional
        By default the first i parts against the next one, i = 1 ... D - 1.

    Returns
    -------
    Array (..., D - 1). A row of nothing but NaN stays so.

    Raises
    ------
    BatchfixError
        If a part is 0 (replace zeros first), negative or infinite, a row is in part NaN, or the partition is of
        another number of parts.

    Examples
    --------
    >>> ilr(np.array([1.0, 1.0, np.e])).round(4).tolist()
    [0.0, -0.8165]
    """
    table, shape = as_table(X)
    refuse_one_part(shape[-1])
    partition = _of_size(partition, shape[-1])
    kernel = _forward_default(shape[-1]) if partition is None else _forward(partition)
    return map_rows(kernel, table, shape, replace(POSITIVE, whole=True), width=shape[-1] - 1, own=True)


def ilr_inv(Z: Any, partition: BinaryPartition | None = None, total: Any = 1.0) -> np.ndarray:
    """Back from isometric log-ratios: the closure of e^(V' z), times `total`.

    Parameters
    ----------
    Z : array (..., D - 1)
        Balances.
    partition : BinaryPartition, optional
        The one they were made with.
    total : float or array (...,)
        What each row sums to: 1, or its original depth.

    Returns
    -------
    Array (..., D). A row of nothing but NaN stays so.

    Raises
    ------
    BatchfixError
        If a value is infinite, a row is in part NaN, or the partition is of another number of parts.

    Examples
    --------
    >>> ilr_inv(ilr(np.array([2, 6, 1])), total=9).round(9).tolist()
    [2.0, 6.0, 1.0]
    """
    table, shape = as_table(Z)
    parts = shape[-1] + 1
    scale = row_totals(total, shape[:-1])
    partition = _of_size(partition, parts)
    spread = _backward_default(parts) if partition is None else _backward(partition)

    def kernel(x: np.ndarray, y: np.ndarray, rows: slice, missing: bool) -> None:
        spread(x, y)
        close_exp(y, y, missing, scale[rows])

    return map_rows(kernel, table, shape, replace(FINITE, whole=True), width=parts, own=True)


# ---- the default partition: one cumulative sum


def _forward_default(parts: int) -> Kernel:
    """z_i = (x_1 + ... + x_i - i x_{i+1}) / sqrt(i (i + 1)), of logarithms x."""
    i = np.arange(1.0, parts)
    weights = 1 / np.sqrt(i * (i + 1))

    def kernel(x: np.ndarray, y: np.ndarray, rows: slice, missing: bool) -> None:
        _centre_logs(x, missing)
        running_sums(x[:, :-1], out=y)
        x[:, 1:] *= i
        y -= x[:, 1:]
        y *= weights

    return kernel


def _backward_default(parts: int) -> Spread:
    """x_{j+1} = -(w_1 + ... + w_j) - j w_j, w_i = z_i / sqrt(i (i + 1)), and x_1 = 0: the clr but for a constant."""
    i = np.arange(1.0, parts)
    weights = -1 / np.sqrt(i * (i + 1))

    def spread(z: np.ndarray, y: np.ndarray) -> None:
        z *= weights
        y[:, 0] = 0 * z[:, 0]  # NaN stays
        running_sums(z, out=y[:, 1:])
        z *= i
        y[:, 1:] += z

    return spread


# ---- any partition: one cumulative sum over its order


def _forward(partition: BinaryPartition) -> Kernel:
    p, (plus, minus) = partition, partition.weights

    def kernel(x: np.ndarray, y: np.ndarray, rows: slice, missing: bool) -> None:
        _centre_logs(x, missing)
        sums = np.zeros((len(x), x.shape[1] + 1))
        running_sums(np.take(x, p.order, axis=1), out=sums[:, 1:])
        middle = np.take(sums, p.middle, axis=1)
        np.subtract(middle, np.take(sums, p.start, axis=1), out=y)
        y *= plus
        np.subtract(np.take(sums, p.stop, axis=1), middle, out=middle)
        middle *= minus
        y -= middle

    return kernel


def _backward(partition: BinaryPartition) -> Spread:
    """Split k adds plus z to the stretch start:middle and -minus z to middle:stop: steps, then their cumulative sum."""
    p, (plus, minus) = partition, partition.weights
    by_start, by_stop = np.argsort(p.start, kind="stable"), np.argsort(p.stop, kind="stable")
    starts, first_start = np.unique(p.start[by_start], return_index=True)
    stops, first_stop = np.unique(p.stop[by_stop], return_index=True)
    place = np.argsort(p.order)

    def spread(z: np.ndarray, y: np.ndarray) -> None:
        up, down = z * plus, z * minus
        steps = np.zeros((len(z), len(p.order) + 1))
        steps[:, starts] += np.add.reduceat(np.take(up, by_start, axis=1), first_start, axis=1)
        steps[:, stops] += np.add.reduceat(np.take(down, by_stop, axis=1), first_stop, axis=1)
        up += down
        steps[:, p.middle] -= up  # each middle is that of one split
        running_sums(steps[:, :-1], out=y)
        y[...] = np.take(y, place, axis=1)

    return spread


# ---- kernels and checks


def _centre_logs(x: np.ndarray, missing: bool) -> None:
    """Turn x into its clr, whose cumulative sums stay small."""
    np.log(x, out=x)
    x -= row_means(x, missing)


def running_sums(x: np.ndarray, out: np.ndarray) -> None:
    """Write the cumulative sums of each row into `out`.

    A running sum waits for every addition before it. So rows are cut in segments: the sums within them are a product
    with a triangle of ones, and only the totals of segments are summed one after the other. Twice as fast as cumsum
    for long rows.
    """
    whole = x.shape[1] // SEGMENT * SEGMENT
    if whole < 8 * SEGMENT:
        np.cumsum(x, axis=1, out=out)
        return
    segments = x[:, :whole].reshape(len(x), -1, SEGMENT)  # a view
    first = segments[:, 1:, 0].copy()
    segments[:, 1:, 0] += np.cumsum((segments @ _ONES)[:, :-1], axis=1)  # each starts from the sum of those before
    np.matmul(segments, _TRIANGLE, out=out[:, :whole].reshape(len(x), -1, SEGMENT))
    segments[:, 1:, 0] = first
    np.cumsum(x[:, whole:], axis=1, out=out[:, whole:])
    out[:, whole:] += out[:, whole - 1 : whole]


def _of_size(partition: BinaryPartition | None, parts: int) -> BinaryPartition | None:
    if partition is not None and len(partition.order) != parts:
        raise BatchfixError(
            f"The partition must be of the {parts} parts given; got one of {len(partition.order)}. "
            "Give the parts, in their order, that it was made for."
        )
    return partition
