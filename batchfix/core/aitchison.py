"""Aitchison geometry: compositions as vectors.

Compositions flow in; their sum, multiple, inner product, norm or distance flows out:

    perturbation    x (+) y = C(x_1 y_1, ..., x_D y_D)          the addition
    powering        a (.) x = C(x_1^a, ..., x_D^a)              the multiplication by a number
    inner product   <x, y> = sum_j clr_j(x) clr_j(y)
    norm, distance  |x| = sqrt <x, x>,   d(x, y) = |clr(x) - clr(y)|

(Aitchison 1986, "The Statistical Analysis of Compositional Data"; Pawlowsky-Glahn & Egozcue 2001, "Geometric approach
to statistical analysis on the simplex".) A batch effect that multiplies each part by its own factor is a perturbation.

NaN, zeros, dtypes and single rows are as in `compositions`. An inner product, norm or distance that takes in a NaN is
NaN: the clr of other parts is another vector.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

from ..exceptions import BatchfixError
from . import blocks
from .compositions import as_table, close, map_rows
from .faults import AMOUNTS, POSITIVE, UnfitError, check
from .log_ratios import close_exp, clr


def perturb(X: Any, Y: Any) -> np.ndarray:
    """Perturbation x (+) y: parts multiplied one by one, rows closed to 1. A zero stays zero.

    Parameters
    ----------
    X, Y : arrays (..., D)
        Amounts, none negative; Y may be one composition, (D,), for all rows of X.

    Raises
    ------
    BatchfixError
        If a value is negative or infinite, or no part of a row is positive in both.

    Examples
    --------
    >>> perturb(np.array([[1, 2], [1, 1]]), np.array([2, 1])).round(3).tolist()
    [[0.5, 0.5], [0.667, 0.333]]
    """
    return _combine(X, Y, np.multiply)


def perturb_inv(X: Any, Y: Any) -> np.ndarray:
    """The difference x (-) y: parts divided one by one, rows closed to 1; it undoes `perturb`.

    Parameters
    ----------
    X : array (..., D)
        Amounts, none negative.
    Y : array of X's shape, or (D,)
        Positive amounts.

    Raises
    ------
    BatchfixError
        If X holds what is negative or infinite, or Y what is not positive.

    Examples
    --------
    >>> perturb_inv(perturb(np.array([0.2, 0.8]), np.array([3, 1])), np.array([3, 1])).round(9).tolist()
    [0.2, 0.8]
    """
    return _combine(X, Y, np.divide)


def power(X: Any, a: Any) -> np.ndarray:
    """Powering a (.) x: parts to the power a, rows closed to 1.

    Parameters
    ----------
    X : array (..., D)
        Positive amounts.
    a : float or array (...,)
        One power, or one a row.

    Raises
    ------
    BatchfixError
        If a part is 0, negative or infinite, or a power is not finite.

    Examples
    --------
    >>> power(np.array([1.0, 3.0]), 2).round(9).tolist()
    [0.1, 0.9]
    """
    table, shape = as_table(X)
    powers = np.asarray(a, dtype=np.float64)
    if not np.isfinite(powers).all() or powers.shape not in ((), shape[:-1]):
        raise BatchfixError(f"Powers must be finite, one or one a row {shape[:-1]}; got {a!r}.")
    powers = np.broadcast_to(powers, shape[:-1]).reshape(-1, 1)
    ones = np.ones(len(powers))

    def kernel(x: np.ndarray, y: np.ndarray, rows: slice, missing: bool) -> None:
        np.log(x, out=y)
        y *= powers[rows]
        close_exp(y, y, missing, ones[rows])

    return map_rows(kernel, table, shape, POSITIVE)


def inner(X: Any, Y: Any) -> Any:
    """Aitchison inner product of each row of X with the same row of Y, or with the one composition Y.

    Parameters
    ----------
    X, Y : arrays (..., D)
        Positive amounts on any scale; Y may be one composition, (D,).

    Returns
    -------
    float64 array (...,); a number for two single compositions.

    Examples
    --------
    >>> round(float(inner(np.array([1, np.e**2]), np.array([1, np.e]))), 12)
    1.0
    """
    return _by_pairs(X, Y, lambda u, v: np.einsum("...j,...j->...", u, v))


def norm(X: Any) -> Any:
    """Aitchison norm of each row: 0 for equal parts.

    Parameters
    ----------
    X : array (..., D)
        Positive amounts on any scale.

    Examples
    --------
    >>> round(float(norm(np.array([1, np.e**2]))), 6)
    1.414214
    """
    return np.sqrt(inner(X, X))


def distance(X: Any, Y: Any) -> Any:
    """Aitchison distance of each row of X from the same row of Y, or from the one composition Y.

    Parameters
    ----------
    X, Y : arrays (..., D)
        Positive amounts on any scale; Y may be one composition, (D,).

    Returns
    -------
    float64 array (...,); a number for two single compositions.

    Examples
    --------
    >>> distance(np.array([[1, 1], [1, np.e**2]]), np.array([5, 5])).round(6).tolist()
    [0.0, 1.414214]
    """
    return _by_pairs(X, Y, lambda u, v: np.sqrt(np.einsum("...j,...j->...", u - v, u - v)))


def distance_matrix(X: Any, Y: Any = None) -> np.ndarray:
    """Aitchison distances of every row of X, (n, D), from every row of Y, (m, D), or of X itself: float64 (n, m).

    Examples
    --------
    >>> distance_matrix(np.array([[1, 1], [1, np.e**2]])).round(6).tolist()
    [[0.0, 1.414214], [1.414214, 0.0]]
    """
    u = _clr64(as_table(X)[0])
    v = u if Y is None else _clr64(as_table(Y)[0])
    if u.shape[1] != v.shape[1]:
        raise BatchfixError(f"X and Y must have the same parts; got {u.shape[1]} and {v.shape[1]}.")
    return np.asarray(cdist(u, v))


def _clr64(table: Any) -> np.ndarray:
    return clr(table.astype(np.float64, copy=False))


def _same_rows(Y: Any, shape: tuple[int, ...]) -> tuple[Any, bool]:
    """Y as a table, and whether it is one composition for all rows."""
    other, found = as_table(Y)
    if found not in (shape, shape[-1:]):
        raise BatchfixError(f"Y must be one composition, {shape[-1:]}, or have the shape of X, {shape}; got {found}.")
    return other, found != shape


def _by_pairs(X: Any, Y: Any, formula: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Any:
    """formula(clr(x), clr(y)), a block of rows at a time."""
    table, shape = as_table(X)
    other, single = _same_rows(Y, shape)
    for each in (table, other):
        check(each, POSITIVE)
    out = np.empty(table.shape[0])
    for a, b in blocks.spans(0, len(out), blocks.rows_per_block(shape[-1])):
        out[a:b] = formula(_clr64(table[a:b]), _clr64(other if single else other[a:b]))
    return out.reshape(shape[:-1])[()]


def _combine(X: Any, Y: Any, operation: np.ufunc) -> np.ndarray:
    """The closure of operation(x, y). Rows are first scaled by an extreme part, so that nothing overflows."""
    table, shape = as_table(X)
    other, single = _same_rows(Y, shape)
    divide = operation is np.divide
    check(other, POSITIVE if divide else AMOUNTS)
    unit = np.ones(1)

    def kernel(x: np.ndarray, y: np.ndarray, rows: slice, missing: bool) -> None:
        v = other if single else other[rows]
        v = (v if isinstance(v, np.ndarray) else v.toarray()).astype(np.float64)
        v /= (np.fmin if divide else np.fmax).reduce(v, axis=1, keepdims=True)
        largest = np.fmax.reduce(x, axis=1, keepdims=True)
        if (largest == 0).any():
            raise UnfitError
        np.divide(x, largest, out=y)
        operation(y, v, out=y)
        missing = missing or bool(np.isnan(v).any())
        if not np.fmax.reduce(y, axis=1, initial=np.nan).all():
            raise UnfitError("Each row must have a part above 0 in both X and Y; got a row that has none.")
        close(y, y, missing, unit)

    return map_rows(kernel, table, shape, AMOUNTS)
