"""Robust location and scale: medians, median absolute deviations and quantiles; NaN means missing.

A matrix flows in; locations and scales in float64 flow out, for the whole or per group of rows:

    location = median(x)
    scale    = median(|x - median(x)|) / Phi^-1(3/4)                      (MAD)
    scale    = (Q(1-q) - Q(q)) / (Phi^-1(1-q) - Phi^-1(q))                (quantiles; q = 1/4 is IQR / 1.349)

Both scales are consistent: for normal data they estimate the standard deviation (Rousseeuw & Croux 1993, section 1).
NaN is never counted; where nothing is observed the answer is NaN, without a warning. Medians cannot be merged.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from batchfix.exceptions import BatchfixError

Floats = NDArray[np.float64]

MAD_TO_SIGMA = 1.482602218505602
"""1 / Phi^-1(3/4): the standard deviation of a normal variable, in units of its median absolute deviation."""

_BLOCK_BYTES = 1_000_000  # of float64 gathered at a time: a cache's worth; a call needs three times this


def median(x: NDArray[np.generic], axis: int | None = None) -> Floats:
    """The median along an axis (None: of all values), NaN left out; the mean of the two middles for an even count.

    Parameters
    ----------
    x
        Real array of any shape; copied to float64.
    axis
        The axis to take it over.

    Returns
    -------
    float64 array of x's shape without that axis; NaN where nothing is observed.

    Raises
    ------
    TypeError
        If x is not an array of real numbers.

    Examples
    --------
    >>> median(np.array([[1.0, 5.0], [2.0, np.nan], [9.0, 7.0]]), axis=0).tolist()
    [2.0, 6.0]
    """
    rows, shape = _rows_over(x, axis)
    return _row_medians(rows).reshape(shape)


def mad(x: NDArray[np.generic], axis: int | None = None, *, scale: float = MAD_TO_SIGMA) -> Floats:
    """The median absolute deviation from the median along an axis, times scale, NaN left out.

    Parameters
    ----------
    x
        Real array of any shape; copied to float64.
    axis
        The axis to take it over; None: over all values.
    scale
        The default makes it estimate a normal variable's standard deviation; 1 gives the plain deviation.

    Returns
    -------
    float64 array of x's shape without that axis, in the units of x; NaN where nothing is observed.

    Raises
    ------
    TypeError
        If x is not an array of real numbers.

    Examples
    --------
    >>> mad(np.array([1.0, 2.0, 4.0, 90.0, np.nan]), scale=1.0).tolist()
    1.5
    """
    rows, shape = _rows_over(x, axis)
    return (_row_mads(rows, _row_medians(rows)) * scale).reshape(shape)


def quantile_location_scale(x: NDArray[np.generic], q: float = 0.25, axis: int | None = None) -> tuple[Floats, Floats]:
    """Location and scale from three quantiles: the median, and (Q(1-q) - Q(q)) / (Phi^-1(1-q) - Phi^-1(q)).

    Quantiles between two order statistics are interpolated linearly (Hyndman & Fan 1996, definition 7).

    Parameters
    ----------
    x
        Real array of any shape; copied to float64.
    q
        The lower of the two outer quantiles, 0 < q < 1/2. The default gives IQR / 1.349.
    axis
        The axis to take them over; None: over all values.

    Returns
    -------
    location, scale
        float64 arrays of x's shape without that axis, in the units of x; NaN where nothing is observed.

    Raises
    ------
    BatchfixError
        If q is out of range.
    TypeError
        If x is not an array of real numbers.

    Examples
    --------
    >>> location, scale = quantile_location_scale(np.arange(101.0))
    >>> float(location), round(float(scale), 3)
    (50.0, 37.065)
    """
    if not 0 < q < 0.5:
        raise BatchfixError(f"q must lie between 0 and 1/2, both excluded; got {q!r}. 0.25 gives the quartiles.")
    rows, shape = _rows_over(x, axis)
    location = _row_medians(rows)
    rows.sort(axis=1)  # NaN last
    count = rows.shape[1] - np.isnan(rows).sum(axis=1)
    low, high = (_sorted_quantiles(rows, count, level) for level in (q, 1 - q))
    with np.errstate(invalid="ignore"):  # inf - inf is NaN: the caller's infinities
        scale = (high - low) / (-2 * NormalDist().inv_cdf(q))
    return location.reshape(shape), scale.reshape(shape)


def grouped_median(X: NDArray[np.generic], order: NDArray[np.integer], starts: NDArray[np.integer]) -> Floats:
    """The median of every feature in every group of rows, NaN left out.

    Parameters
    ----------
    X
        (n, p) real matrix of any dtype and memory layout; only read.
    order
        Row numbers of X, sorted by group.
    starts
        (groups + 1,) where each group's slice of order starts: group b is ``order[starts[b]:starts[b + 1]]``.

    Returns
    -------
    (groups, p) float64; NaN where a group observes nothing of a feature, or has no rows.

    Raises
    ------
    BatchfixError, TypeError
        If X is not a real matrix, or starts is not a rising series of slice starts within order.

    Notes
    -----
    Columns are gathered a block at a time: a few MB of extra memory, or a few columns' worth if that is more.

    Examples
    --------
    >>> X = np.array([[1.0], [10.0], [3.0], [30.0]])
    >>> grouped_median(X, order=np.array([0, 2, 1, 3]), starts=np.array([0, 2, 4])).tolist()
    [[2.0], [20.0]]
    """
    _refuse_unreal(X)
    out = _empty_per_group(X, order, starts)
    for b, columns, rows in _gathered(X, order, starts):
        out[b, columns] = _row_medians(rows)
    return out


def grouped_mad(
    X: NDArray[np.generic],
    order: NDArray[np.integer],
    starts: NDArray[np.integer],
    center: Floats | None = None,
    *,
    scale: float = MAD_TO_SIGMA,
) -> Floats:
    """The median absolute deviation of every feature in every group from the group's own median, times scale.

    Parameters
    ----------
    X, order, starts
        As for `grouped_median`.
    center
        Optional (groups, p): the medians, when already known.
    scale
        The default makes it estimate a normal variable's standard deviation; 1 gives the plain deviation.

    Returns
    -------
    (groups, p) float64, in the units of X; NaN where a group observes nothing of a feature, or has no rows.

    Raises
    ------
    BatchfixError, TypeError
        As `grouped_median`, or if center has another shape.

    Examples
    --------
    >>> X = np.array([[1.0], [10.0], [3.0], [30.0], [8.0]])
    >>> grouped_mad(X, np.array([0, 2, 4, 1, 3]), np.array([0, 3, 5]), scale=1.0).tolist()
    [[2.0], [10.0]]
    """
    _refuse_unreal(X)
    out = _empty_per_group(X, order, starts)
    if center is not None and np.shape(center) != out.shape:
        raise BatchfixError(f"center must have one row per group, shape {out.shape}; got {np.shape(center)}.")
    for b, columns, rows in _gathered(X, order, starts):
        middle = _row_medians(rows) if center is None else np.asarray(center[b, columns], dtype=np.float64)
        out[b, columns] = _row_mads(rows, middle)
    out *= scale
    return out


def _row_medians(rows: Floats) -> Floats:
    """The median of each row, NaN left out. Each row's values are left rearranged."""
    m = rows.shape[1]
    if m == 0:
        return np.full(rows.shape[0], np.nan)
    missing = np.isnan(rows).sum(axis=1)
    if missing.any():
        rows.sort(axis=1)  # NaN last; the middles differ from row to row, and one sort beats several partitions
        last = m - missing - 1  # -1 where nothing is observed: the first value is then NaN, and is the answer
        each = np.arange(rows.shape[0])
        low, high = rows[each, np.maximum(last, 0) // 2], rows[each, (last + 1) // 2]
    else:
        # One pivot, and the largest value below it: numpy's fast path is for one pivot only (6 times two pivots').
        rows.partition(m // 2, axis=1)
        high = rows[:, m // 2]
        low = high if m % 2 else rows[:, : m // 2].max(axis=1)
    with np.errstate(invalid="ignore"):  # -inf + inf is NaN: the caller's infinities
        middle: Floats = np.where(low == high, high, 0.5 * low + 0.5 * high)  # halved first: the sum may overflow
    return middle


def _row_mads(rows: Floats, center: Floats) -> Floats:
    """The median of |row - center| of each row; the rows are overwritten."""
    with np.errstate(invalid="ignore"):
        np.subtract(rows, center[:, None], out=rows)
    np.abs(rows, out=rows)
    return _row_medians(rows)


def _sorted_quantiles(rows: Floats, count: NDArray[np.integer], level: float) -> Floats:
    """Of each row, sorted with its `count` observed values first, the quantile at h = (count - 1) level."""
    if rows.shape[1] == 0:
        return np.full(rows.shape[0], np.nan)
    h = np.maximum(count - 1, 0) * level
    below = np.floor(h).astype(np.intp)
    above = np.minimum(below + 1, np.maximum(count - 1, 0))
    each, part = np.arange(rows.shape[0]), h - below
    low, high = rows[each, below], rows[each, above]
    with np.errstate(invalid="ignore"):
        between: Floats = np.where((low == high) | (part == 0), low, (1 - part) * low + part * high)
    return between


def _rows_over(x: NDArray[np.generic], axis: int | None) -> tuple[Floats, tuple[int, ...]]:
    """A float64 copy as (everything else, axis), and the shape of everything else."""
    x = np.asarray(x)
    _refuse_unreal(x)
    if axis is None:
        x, axis = x.reshape(-1), 0
    if not -x.ndim <= axis < x.ndim:
        raise BatchfixError(f"axis must be one of the {x.ndim} axes of x, shape {x.shape}; got {axis!r}.")
    moved = np.moveaxis(x, axis, -1)
    *others, m = moved.shape
    return np.array(moved, dtype=np.float64, order="C").reshape(prod(others), m), tuple(others)


def _gathered(
    X: NDArray[np.generic], order: NDArray[np.integer], starts: NDArray[np.integer]
) -> Iterator[tuple[int, slice, Floats]]:
    """For every group, block by block of columns: its values, one contiguous row per column, free to overwrite."""
    p = X.shape[1]
    for b in range(len(starts) - 1):
        members = order[starts[b] : starts[b + 1]]
        width = max(1, _BLOCK_BYTES // (8 * max(1, len(members))))
        for first in range(0, p, width):
            columns = slice(first, min(first + width, p))
            yield b, columns, np.array(X[members, columns].T, dtype=np.float64, order="C")


def _empty_per_group(X: NDArray[np.generic], order: NDArray[np.integer], starts: NDArray[np.integer]) -> Floats:
    if X.ndim != 2:
        raise BatchfixError(f"X must be a matrix, samples by features; got shape {X.shape}.")
    edges = np.asarray(starts)
    if edges.ndim != 1 or len(edges) == 0 or edges[0] < 0 or edges[-1] > len(order) or (np.diff(edges) < 0).any():
        raise BatchfixError(
            f"starts must rise from 0 or more to at most len(order) = {len(order)}, one entry more than groups; "
            f"got {starts!r}. Take order and starts from the same sorted grouping."
        )
    return np.empty((len(edges) - 1, X.shape[1]))


def _refuse_unreal(x: NDArray[np.generic]) -> None:
    if x.dtype.kind not in "fiub":
        raise TypeError(f"Medians need real numbers; got dtype {x.dtype!r}. Convert to float first.")
