"""Disclosure: which moments are those of so few rows that they could be led back to them.

Statistics of rows flow in; batches and cells that tell too much flow out. What leaves a site shall be sums over
`least` rows or more, and so shall be what subtraction makes of two sums. Looked at are, in every batch, the rows; for
every feature the rows where it is observed; and, where something is kept, the rows where it is not: sums over all rows
less those over observed ones (of two patients they give the age of each). How many rows are in each, by levels too (see
`cell_counts`), must be 0 or at least `least`, as DataSHIELD asks of every table that it shows (Wolfson et al. 2010,
International Journal of Epidemiology 39, 1372-1382; `nfilter.tab`).

A sum over many rows of which all but a few are 0 is a sum over a few. How many are not 0 is known of levels and of
numbers of two values, and estimated of all else: enough to find the usual ones (a dose that one of the men had, a
transcript seen in two of the cells), no proof that there are no others. A feature that has both signs in some batch
for certain is let through: 0 is a value like others. Where features are about 0, as z-scores are, a few more look as
if they were mostly 0: they are let through if a third as many, or more, have both signs for certain. So is a sum of
what two columns differ by one over the rows where they do, counted if they differ by as much in each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from ...core.comoments import CoMoments
from ...core.design import Column, repr_label
from ...core.moments import Moments
from ...core.statistics import BatchStatistics
from .cell_counts import (
    ROUNDING,
    SIGNED,
    Estimates,
    Part01,
    both_signs,
    equations,
    missing_pairs,
    missing_rows,
    numbers_in,
    parts_of,
    rows_of_differences,
    rows_of_levels,
    rows_of_numbers,
    rows_of_pairs,
    rows_of_parts,
    squares,
    values_of_differences,
    values_of_pairs,
)


@dataclass(frozen=True)
class Few:
    """Too small sets of one kind: `count` and `where` they are, (B, 1) of all features or (B, p)."""

    of: str
    unit: str
    count: np.ndarray
    where: np.ndarray
    estimated: bool = False


@dataclass(frozen=True)
class Findings:
    """What may not leave a site.

    Attributes
    ----------
    batches : bool array (B,)
        Batches that are too small, or have a level that is.
    cells : bool array (B, p)
        Of the other batches, features of which too few values are observed.
    few : tuple of Few
        The sets behind them.
    gaps : tuple of Few
        Sets of too few missing values.
    """

    batches: np.ndarray
    cells: np.ndarray
    few: tuple[Few, ...]
    gaps: tuple[Few, ...]


def in_words(sets: Sequence[Few], labels: np.ndarray, feature: Callable[[int], str], most: int = 5) -> str:
    """The first of some sets by name, and how many more there are."""
    said = []
    for each in sets:
        for b in np.flatnonzero(each.where.any(axis=1)):
            at = np.flatnonzero(each.where[b])
            counts = each.count[b, at]
            some = f"{counts.min():.0f}" + ("" if counts.min() == counts.max() else f" to {counts.max():.0f}")
            unit = each.unit + ("" if counts.max() == 1 or not each.unit.endswith(("row", "value")) else "s")
            what = "" if each.where.shape[1] == 1 else f"{feature(int(at[0]))} in "
            if len(at) > 1:
                what = f"{len(at)} features ({feature(int(at[0]))} for one) in "
            said.append(f"{what}batch {repr_label(labels[b])}{each.of}: {some} {unit}")
    return "; ".join(said[:most]) + (f"; and {len(said) - most} more" if len(said) > most else "")


def find(
    statistics: BatchStatistics,
    least: int,
    least_missing: int,
    least_nonzero: int | None = None,
    *,
    zero_is_usual: bool = False,
) -> Findings:
    """Cells of statistics that are of 1 to `least` - 1 rows, or of as few missing values.

    Or, as estimated, of as few that are not 0: of less than `least_nonzero` (`least`, unless given), if that is less
    than a quarter of the cell. Of features this is not looked at where `zero_is_usual`, as in log-ratios.

    Examples
    --------
    >>> from batchfix.core.groups import Groups, group_moments
    >>> x, batch = np.array([[1.0], [2.0], [4.0], [5.0]]), np.array([0, 0, 0, 1])
    >>> moments = group_moments(x, Groups.of(batch, 2), np.zeros((4, 0)))
    >>> found = find(BatchStatistics(np.array(["p1", "p2"]), (), moments, 1e-16), 3, 3)
    >>> found.batches.tolist(), in_words(found.few, np.array(["p1", "p2"]), str)
    ([False, True], "batch 'p2': 1 row")
    """
    moments, columns = statistics.moments, statistics.columns
    n = np.asarray(moments.x.n)
    least_nonzero = least if least_nonzero is None else least_nonzero
    of_rows = moments.rows[:, None], moments.row_z_mean[:, :, None], moments.row_zz[:, :, :, None]
    parts = parts_of(*of_rows, columns)
    tiny = (moments.rows < least)[:, None]
    few = [
        each if not each.of else replace(each, where=each.where & ~tiny)  # of what is tiny, levels need not be told
        for each in _too_few(*of_rows, columns, parts, "row", least, least_nonzero)
    ]
    batches = np.any([tiny[:, 0], *(each.where[:, 0] for each in few)], axis=0)
    known = np.broadcast_to(batches[:, None], n.shape).copy()
    by_value: list[Iterable[Few]] = []
    gaps: list[Few] = []
    if statistics.present is not None:
        by_value.append(_small([(", present", statistics.present)], "value", least))
    if least > 1:
        by_value.append(_small(values_of_differences(moments, columns), "value", least))
        thin = 1 if zero_is_usual else least_nonzero
        by_value.append(_sparse(moments, parts, max(2, thin), thin, known))
    if (n != of_rows[0]).any():
        of_values = n, moments.z_mean, moments.zz
        by_value.insert(0, _too_few(*of_values, columns, parts, "value", least, least_nonzero))
    few += _once(chain.from_iterable(by_value), known)
    cells = known & ~batches[:, None]
    if (n != of_rows[0]).any():
        gaps_in = missing_rows(of_rows, of_values, columns, parts)
        pairs = missing_pairs(of_rows, of_values, parts)
        thin = min(least_missing, least_nonzero)
        gaps = _once(
            chain(_small(gaps_in, "missing", least_missing), _thin(pairs, "missing", least_missing, thin)), known
        )
    return Findings(batches, cells, tuple(few), tuple(gaps))


def _once(found: Iterable[Few], known: np.ndarray) -> list[Few]:
    """Each cell where it is found first, and not if it is known; those found are known afterwards."""
    new = []
    for each in found:
        where = each.where & ~known
        if where.any():
            new.append(replace(each, where=where))
            known |= where
    return new


def _too_few(
    n: np.ndarray,
    z_mean: np.ndarray,
    zz: np.ndarray,
    columns: Sequence[Column],
    parts: Sequence[Part01],
    unit: str,
    least: int,
    least_nonzero: int,
) -> Iterator[Few]:
    """What is too small in sets of n rows, of which z has these moments: all (B, ..., 1) or (B, ..., p)."""
    yield from _small(rows_of_levels(n, z_mean, zz, columns), unit, least)
    yield from _small(rows_of_numbers(Moments(n[:, None], z_mean, squares(zz)), n, columns, parts), unit, least)
    yield from _small(rows_of_differences(n, z_mean, zz, columns, parts), unit, least)
    freedom = n - equations(n, z_mean, zz, columns)
    short = (n >= least) & (freedom < least) & (least > 1)
    if short.any():
        yield Few("", f"{unit}s more than design columns", freedom, short)
    yield from _thin(rows_of_pairs(n, z_mean, zz, parts), unit, least, least_nonzero)
    numbers = numbers_in(zz, columns, parts)
    for of, count in rows_of_parts(n, z_mean, parts):
        short = (count >= least) & (count - numbers < least) & (least > 1)
        if short.any():
            yield Few(of, f"{unit}s more than kept numbers", count - numbers, short)


def _thin(counts: Estimates, unit: str, least: int, least_nonzero: int) -> Iterator[Few]:
    """What is too small among counts of what is not 0; of estimates, only what is less than a quarter."""
    for of, count, exact, among in counts:
        whole = np.rint(count)
        few = exact & (whole > 0) & (whole < least)
        if few.any():
            yield Few(of, unit, whole, few)
        some = ~exact & (count > ROUNDING * among) & (least_nonzero > 1)
        few = some & (count < np.minimum(least_nonzero, among / 4))
        if few.any():
            yield Few(of, unit, np.maximum(np.floor(count), 1.0), few, estimated=True)


def _sparse(
    moments: CoMoments, parts: Sequence[Part01], least: int, least_nonzero: int, known: np.ndarray
) -> Iterator[Few]:
    """Features that are not 0 in few values; of estimates, not those whose values are about 0, or whose table's are.

    What tells such a feature and table are the cells that are left when all others that are known are gone.
    """
    found = list(_thin(values_of_pairs(moments, parts), "value", least, least_nonzero))
    certain = [each for each in found if not each.estimated]
    yield from certain
    left = ~np.any([known, *(each.where for each in certain)], axis=0)
    signed = (both_signs(moments.x) & left).any(axis=0)
    estimated = [replace(each, where=each.where & ~signed) for each in found if each.estimated]
    thin = np.any([each.where & left for each in estimated] or [~left & False], axis=0).any(axis=0)
    if thin.sum() > SIGNED * signed.sum():
        yield from estimated


def _small(counts: Iterable[tuple[str, np.ndarray]], unit: str, least: int) -> Iterator[Few]:
    for of, count in counts:
        where = (count > 0) & (count < least)
        if where.any():
            yield Few(of, unit, count, where)
