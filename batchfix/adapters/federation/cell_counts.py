"""Cell counts: how many rows are behind each sum that moments hold, and behind what follows from them by subtraction.

Moments of design columns z over the rows of each batch flow in, and over those where each feature is observed; counts
of rows, (B, 1) or (B, p), flow out, each with its words:

    n                                        rows
    n z_mean_k                               rows of a level
    zz_jk + n z_mean_j z_mean_k              rows of two levels of two factors
    (sum z)^2 / sum z^2                      rows where a number is not 0, if it has one value there
    n - levels - numbers                     equations that are missing to solve for the rows
    (sum a - b)^2 / sum (a - b)^2            rows where a differs from b, if it always does by as much
    sum a b / (v_a v_b)                      rows where neither a nor b is 0; v = sum a^2 / sum a

In the last two, a and b are levels, numbers or features. The last counts where each has one value v besides 0, as
levels have. Where values differ it is an estimate: v is the mean value, in proportion to size, and a value far larger
than the others counts as more than one. Of values of both signs it says nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from ...core.comoments import CoMoments
from ...core.design import Column, Factor, Number, repr_label, slices
from ...core.moments import Moments

SIGNED = 3
"""At most so many look sparse for each that has both signs for certain, among features or numbers that are about 0."""

EXACT = 1e-12
"""Two sums of squares that agree to so much of n are equal, but for rounding."""

ROUNDING = 1e-9
"""So much of a row is none, in sums that may cancel."""

Counts = Iterator[tuple[str, np.ndarray]]

Estimates = Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]
"""Words, count, whether it is exact, and of how many rows it is a count: (B, 1) or (B, p)."""

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


def rows_of_numbers(z: Moments, total: np.ndarray, columns: Sequence[Column], parts: Sequence[Part01]) -> Counts:
    """Rows of each value of a number that has two in its batch, one of them 0 or 1: a factor by another name.

    z is (B, q, 1 or p), and `total` the rows whose sums it was made of.
    """
    of_two = {part.words: part.exact for part in parts}
    n = z.n[:, 0]
    for c, at in zip(columns, slices(columns), strict=True):
        for origin in (0, 1) if isinstance(c, Number) else ():
            apart = _apart(n, z.mean[:, at.start] - origin, z.m2[:, at.start])
            whole = np.abs(apart - np.rint(apart)) <= EXACT * total
            whole = whole & of_two.get(f"{c.name} other than {origin}", False)
            for of, count in ((f", {c.name}={origin}", n - apart), (f", {c.name} other than {origin}", apart)):
                yield of, np.where(whole, np.rint(count), 0.0)


@dataclass(frozen=True)
class Part01:
    """Where a design column is not 0: (z_k - origin) / height, each (B, 1), is 0 or 1 where `exact`, else about 1."""

    name: str
    words: str
    k: int
    origin: np.ndarray
    height: np.ndarray
    exact: np.ndarray
    level: bool = False

    def of(self, z_mean: np.ndarray) -> np.ndarray:
        """Its mean over rows, times height."""
        return np.asarray(z_mean[:, self.k] - self.origin)


def parts_of(n: np.ndarray, z_mean: np.ndarray, zz: np.ndarray, columns: Sequence[Column]) -> list[Part01]:
    """Levels of factors, and what numbers have that is like them, by the rows (B, 1) of each batch."""
    found: list[Part01] = []
    always, zero = np.ones(n.shape, dtype=bool), np.zeros(n.shape)
    for c, at in zip(columns, slices(columns), strict=True):
        if isinstance(c, Factor):
            found += [
                Part01(c.name, f"{c.name}={repr_label(level)}", at.start + k, zero, zero + 1, always, True)
                for k, level in enumerate(c.levels)
            ]
            continue
        mean, m2 = z_mean[:, at.start], zz[:, at.start, at.start]
        known = ~always
        for origin in (0, 1):  # a number of two values, one of them 0 or 1, is a factor of two levels
            height, exact = heights(n, mean - origin, m2)
            exact &= ~known
            other = np.where(exact | (origin == 0), height, np.inf)
            found.append(Part01(c.name, f"{c.name} other than {origin}", at.start, zero + origin, other, exact))
            rest = np.where(exact, height, np.inf)
            start = origin + np.where(exact, height, 0.0)
            found.append(Part01(c.name, f"{c.name}={origin}", at.start, start, -rest, exact))
            known = known | (exact & (np.abs(height - 1) < ROUNDING))  # of 0 and 1
    found = _without_signed(found, n, z_mean, zz)
    return [part for part in found if np.isfinite(part.height).any()]


def _without_signed(parts: list[Part01], n: np.ndarray, z_mean: np.ndarray, zz: np.ndarray) -> list[Part01]:
    """Without estimates of numbers that have both signs in some batch for certain: 0 is a value like others.

    Nor of others, if these are few beside them, as among principal components and z-scores.
    """
    numbers = {part.k for part in parts if not part.level}
    signed = {k for k in numbers if both_signs(Moments(n, z_mean[:, k], zz[:, k, k])).any()}
    if len(numbers) - len(signed) <= SIGNED * len(signed):
        signed = numbers
    return [replace(p, height=np.where(p.exact, p.height, np.inf)) if p.k in signed else p for p in parts]


def heights(n: np.ndarray, mean: np.ndarray, m2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Value of what is not 0, infinite if there is none or both signs are; and whether that is all one value."""
    apart = _apart(n, mean, m2)
    one_sign = apart > 1 - ROUNDING
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        height = np.where(one_sign, n * mean / np.where(one_sign, apart, 1.0), np.inf)
    return height, one_sign & (apart < n - 0.5) & (np.abs(apart - np.rint(apart)) <= EXACT * n)


def rows_of_parts(n: np.ndarray, z_mean: np.ndarray, parts: Sequence[Part01]) -> Counts:
    """Rows of each level, or of what is one but for its type."""
    for a in parts:
        yield f", {a.words}", np.where(a.exact, np.rint(n * a.of(z_mean) / a.height), 0.0)


def rows_of_pairs(n: np.ndarray, z_mean: np.ndarray, zz: np.ndarray, parts: Sequence[Part01]) -> Estimates:
    """Rows where a number, or a number and another column, are not 0."""
    counts = [n * part.of(z_mean) / part.height for part in parts]
    among = [np.where(part.exact, count, n) for part, count in zip(parts, counts, strict=True)]
    for part, count in zip(parts, counts, strict=True):
        yield f", {part.words}", np.where(part.exact, 0.0, count), part.exact, n
    for (i, a), (j, b) in combinations(enumerate(parts), 2):
        if a.name != b.name and not (a.level and b.level):
            count = (zz[:, a.k, b.k] + n * a.of(z_mean) * b.of(z_mean)) / (a.height * b.height)
            yield f", {a.words} and {b.words}", count, a.exact & b.exact, np.minimum(among[i], among[j])


def rows_of_differences(
    n: np.ndarray, z_mean: np.ndarray, zz: np.ndarray, columns: Sequence[Column], parts: Sequence[Part01]
) -> Counts:
    """Rows where a number differs from another, or from a level: a dose from its square, or from who had any.

    Of two columns that have two values each all four cells are counted elsewhere.
    """
    named = [
        (c.name, c.name if isinstance(c, Number) else f"{c.name}={repr_label(c.levels[k])}", at.start + k)
        for c, at in zip(columns, slices(columns), strict=True)
        for k in range(c.width)
    ]
    never = np.zeros((len(n), 1), dtype=bool)
    of_two = {k: np.any([never, *(part.exact for part in parts if part.k == k)], axis=0) for _, _, k in named}
    for (one, words, j), (two, more, k) in combinations(named, 2):
        if one != two:
            count = _differ(n, z_mean[:, j], z_mean[:, k], zz[:, j, j], zz[:, k, k], zz[:, j, k])
            yield f", {words} other than {more}", np.where(of_two[j] & of_two[k], 0.0, count)


def values_of_differences(moments: CoMoments, columns: Sequence[Column]) -> Counts:
    """Values of a feature that differ from a number, or from a level."""
    x, n = moments.x, np.asarray(moments.x.n)
    for c, at in zip(columns, slices(columns), strict=True):
        for k in range(c.width):
            words = c.name if isinstance(c, Number) else f"{c.name}={repr_label(c.levels[k])}"
            j = at.start + k
            count = _differ(n, x.mean, moments.z_mean[:, j], x.m2, moments.zz[:, j, j], moments.zx[:, j])
            yield f", other than {words}", count


def _differ(
    n: np.ndarray, mean_a: np.ndarray, mean_b: np.ndarray, aa: np.ndarray, bb: np.ndarray, ab: np.ndarray
) -> np.ndarray:
    """How many of n values of a and b differ, if all that do differ by as much; else 0."""
    step = mean_a - mean_b
    total = aa + bb - 2 * ab + n * step * step
    rounding = np.finfo(np.float64).eps * n * (aa + bb + n * (mean_a * mean_a + mean_b * mean_b))
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = n * step * (n * step) / total
        noise = 8 * rounding / total
    whole = (total > rounding) & (noise < 1e-3) & (np.abs(apart - np.rint(apart)) <= apart * noise + ROUNDING)
    return np.where(whole, np.rint(apart), 0.0)


def numbers_in(zz: np.ndarray, columns: Sequence[Column], parts: Sequence[Part01]) -> np.ndarray:
    """How many numbers vary, and are no factors but for their type."""
    found = np.zeros((zz.shape[0], zz.shape[-1]))
    for c, at in zip(columns, slices(columns), strict=True):
        if isinstance(c, Number):
            varies = zz[:, at.start, at.start] > 0
            for part in parts:
                varies = varies & ~(part.exact & (part.name == c.name))
            found = found + varies
    return found


def both_signs(x: Moments) -> np.ndarray:
    """Cells (B, p) that have values above 0 and below for certain: of one sign, (sum x)^2 is sum x^2 or more."""
    return np.asarray((x.m2 > 0) & (_apart(x.n, x.mean, x.m2) < 1 - ROUNDING))


def values_of_pairs(moments: CoMoments, parts: Sequence[Part01]) -> Estimates:
    """Values of a feature that are not 0, in all rows and in those where a column is not 0."""
    x, z_mean = moments.x, moments.z_mean
    n = np.asarray(x.n)
    height, exact = heights(n, x.mean, x.m2)
    yield ", other than 0", n * x.mean / height, exact, n
    for a in parts:
        count = (moments.zx[:, a.k] + n * a.of(z_mean) * x.mean) / (a.height * height)
        among = n * a.of(z_mean) / a.height
        yield f", {a.words}, other than 0", count, exact & a.exact, among


def missing_rows(of_rows: Part, of_values: Part, columns: Sequence[Column], parts: Sequence[Part01]) -> Counts:
    """The same counts of the rows where a feature is not observed, where design columns vary at all."""
    rows, values = (Moments(n[:, None], z_mean, squares(zz)) for n, z_mean, zz in (of_rows, of_values))
    varies = rows.m2.any(axis=1)
    for (of, whole), (_, seen) in zip(
        rows_of_levels(*of_rows, columns), rows_of_levels(*of_values, columns), strict=True
    ):
        yield of, (whole - seen) * varies
    for of, count in rows_of_numbers(rows - values, of_rows[0], columns, parts):
        yield of, count * varies


def missing_pairs(of_rows: Part, of_values: Part, parts: Sequence[Part01]) -> Estimates:
    """`rows_of_pairs` of the rows where a feature is not observed."""
    for (of, whole, exact, among), (_, seen, _, rest) in zip(
        rows_of_pairs(*of_rows, parts), rows_of_pairs(*of_values, parts), strict=True
    ):
        yield of, whole - seen, exact, among - rest


def squares(zz: np.ndarray) -> np.ndarray:
    """Sums of squares (B, q, ...) among products (B, q, q, ...)."""
    return np.asarray(np.einsum("bjj...->bj...", zz))


def _apart(n: np.ndarray, mean: np.ndarray, m2: np.ndarray) -> np.ndarray:
    """(sum z)^2 / sum z^2: how many of n values are not 0, if those are equal; and at most so many if they are not."""
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        spread = np.sqrt(np.maximum(m2, 0.0) / n) / mean
        return np.where((mean == 0) | (n == 0), 0.0, n / (1 + spread * spread))


def equations(n: np.ndarray, z_mean: np.ndarray, zz: np.ndarray, columns: Sequence[Column]) -> np.ndarray:
    """Linear equations in the rows that the design adds to their sum."""
    found = np.zeros(n.shape)
    for c, at in zip(columns, slices(columns), strict=True):
        if isinstance(c, Factor):
            found = found + np.maximum((np.rint(n[:, None] * z_mean[:, at]) > 0).sum(axis=1) - 1, 0)
        else:
            found = found + (zz[:, at.start, at.start] > 0)
    return found
