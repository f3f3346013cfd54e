"""Cell counts: how many rows are behind each sum that moments hold, and behind what follows from them by subtraction.

Moments of design columns z over the rows of each batch flow in, and over those where each feature is observed; counts
of rows, (B, 1) or (B, p), flow out, each with its words:

    n                                        rows
    n z_mean_k                               rows of a level
    zz_jk + n z_mean_j z_mean_k              rows of two levels of two factors
    (sum z)^2 / sum z^2                      rows where a number is not 0, if it has one value there
    n - levels - numbers                     equations that are missing to solve for the rows

"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from ..core.design import Column, Factor, Number, repr_label, slices
from ..core.moments import Moments

EXACT = 1e-12
"""Two sums of squares that agree to so much of n are equal, but for rounding."""

Counts = Iterator[tuple[str, np.ndarray]]

Part = tuple[np.ndarray, np.ndarray, np.ndarray]
"""How many rows, and means and products of the design columns over them: (B, ..., 1) or (B, ..., p)."""


def rows_of_levels(n: np.ndarray, z_mean: np.ndarray, zz: np.ndarray, columns: Sequence[Column]) -> Counts:
    """Rows, rows of each level, and rows of each two levels of two factors."""
    yield "", n
    levels = [
        (c.name, f"{c.name}={repr_label(level)}", at.start + k)
        for c, at in zip(columns, slices(columns), strict=True)
        if isinstance(c, Factor)
        for k, level in enumerate(c.levels)
    ]
    for _, words, k in levels:
        yield f", {words}", np.rint(n * z_mean[:, k])
    for (one, words, j), (two, more, k) in combinations(levels, 2):
        if one != two:
            yield f", {words} and {more}", np.rint(zz[:, j, k] + n * z_mean[:, j] * z_mean[:, k])


def rows_of_numbers(z: Moments, total: np.ndarray, columns: Sequence[Column]) -> Counts:
    """Rows of each value of a number that has two, one of them 0 or 1: a factor by another name.

    z is (B, q, 1 or p), and `total` the rows whose sums it was made of.
    """
    n = z.n[:, 0]
    for c, at in zip(columns, slices(columns), strict=True):
        for origin in (0, 1) if isinstance(c, Number) else ():
            apart = _apart(n, z.mean[:, at.start] - origin, z.m2[:, at.start])
            whole = np.abs(apart - np.rint(apart)) <= EXACT * total
            for of, count in ((f", {c.name}={origin}", n - apart), (f", {c.name} other than {origin}", apart)):
                yield of, np.where(whole, np.rint(count), 0.0)


def missing_rows(of_rows: Part, of_values: Part, columns: Sequence[Column]) -> Counts:
    """The same counts of the rows where a feature is not observed, where design columns vary at all."""
    rows, values = (Moments(n[:, None], z_mean, squares(zz)) for n, z_mean, zz in (of_rows, of_values))
    varies = rows.m2.any(axis=1)
    for (of, whole), (_, seen) in zip(
        rows_of_levels(*of_rows, columns), rows_of_levels(*of_values, columns), strict=True
    ):
        yield of, (whole - seen) * varies
    for of, count in rows_of_numbers(rows - values, of_rows[0], columns):
        yield of, count * varies


def squares(zz: np.ndarray) -> np.ndarray:
    """Sums of squares (B, q, ...) among products (B, q, q, ...)."""
    return np.asarray(np.einsum("bjj...->bj...", zz))


def _apart(n: np.ndarray, mean: np.ndarray, m2: np.ndarray) -> np.ndarray:
    """(sum z)^2 / sum z^2: how many of n values are not 0, if those are equal; and at most so many if they are not."""
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        spread = np.sqrt(np.maximum(m2, 0.0) / n) / mean
        return np.where((mean == 0) | (n == 0), 0.0, n / (1 + spread * spread))


def alone(n: np.ndarray, x: Moments) -> np.ndarray:
    """1 where one value of many is not 0, which is then the sum of all."""
    return np.where((n > 1) & (np.abs(_apart(n, x.mean, x.m2) - 1) <= EXACT * n), 1.0, 0.0)


def equations(n: np.ndarray, z_mean: np.ndarray, zz: np.ndarray, columns: Sequence[Column]) -> np.ndarray:
    """Linear equations in the rows that the design adds to their sum."""
    found = np.zeros(n.shape)
    for c, at in zip(columns, slices(columns), strict=True):
        if isinstance(c, Factor):
            found = found + np.maximum((np.rint(n[:, None] * z_mean[:, at]) > 0).sum(axis=1) - 1, 0)
        else:
            found = found + (zz[:, at.start, at.start] > 0)
    return found
