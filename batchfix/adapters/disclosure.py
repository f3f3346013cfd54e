"""Disclosure: which moments are those of so few rows that they could be led back to them.

Statistics of rows flow in; batches and cells that tell too much flow out. What leaves a site shall be sums over
`least` rows or more, and so shall be what subtraction makes of two sums. Looked at are, in every batch, the rows; for
every feature the rows where it is observed; and, where something is kept, the rows where it is not: sums over all rows
less those over observed ones (of two patients they give the age of each). How many rows are in each, by levels too (see
`cell_counts`), must be 0 or at least `least`, as DataSHIELD asks of every table that it shows (Wolfson et al. 2010,
International Journal of Epidemiology 39, 1372-1382; `nfilter.tab`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from ..core.design import Column, repr_label
from ..core.moments import Moments
from ..core.statistics import BatchStatistics
from .cell_counts import alone, equations, missing_rows, rows_of_levels, rows_of_numbers, squares


@dataclass(frozen=True)
class Few:
    """Too small sets of one kind: `count` and `where` they are, (B, 1) of all features or (B, p)."""

    of: str
    unit: str
    count: np.ndarray
    where: np.ndarray


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


def find(statistics: BatchStatistics, least: int, least_missing: int) -> Findings:
    """Cells of statistics that are of 1 to `least` - 1 rows, or of as few missing values.

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
    of_rows = moments.rows[:, None], moments.row_z_mean[:, :, None], moments.row_zz[:, :, :, None]
    tiny = (moments.rows < least)[:, None]
    few = [
        each if not each.of else replace(each, where=each.where & ~tiny)  # of what is tiny, levels need not be told
        for each in _too_few(*of_rows, columns, "row", least)
    ]
    batches = np.any([tiny[:, 0], *(each.where[:, 0] for each in few)], axis=0)
    known = np.broadcast_to(batches[:, None], n.shape).copy()
    by_value: list[Iterable[Few]] = []
    gaps: list[Few] = []
    if statistics.present is not None:
        by_value.append(_small([(", present", statistics.present)], "value", least))
    if least > 1:
        by_value.append(_small([(", other than 0", alone(n, moments.x))], "value", 2))
    if (n != of_rows[0]).any():
        of_values = n, moments.z_mean, moments.zz
        by_value.insert(0, _too_few(*of_values, columns, "value", least))
    few += _once(chain.from_iterable(by_value), known)
    cells = known & ~batches[:, None]
    if (n != of_rows[0]).any():
        gaps_in = missing_rows(of_rows, of_values, columns)
        gaps = _once(_small(gaps_in, "missing", least_missing), known)
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
    n: np.ndarray, z_mean: np.ndarray, zz: np.ndarray, columns: Sequence[Column], unit: str, least: int
) -> Iterator[Few]:
    """What is too small in sets of n rows, of which z has these moments: all (B, ..., 1) or (B, ..., p)."""
    yield from _small(rows_of_levels(n, z_mean, zz, columns), unit, least)
    yield from _small(rows_of_numbers(Moments(n[:, None], z_mean, squares(zz)), n, columns), unit, least)
    freedom = n - equations(n, z_mean, zz, columns)
    short = (n >= least) & (freedom < least) & (least > 1)
    if short.any():
        yield Few("", f"{unit}s more than design columns", freedom, short)


def _small(counts: Iterable[tuple[str, np.ndarray]], unit: str, least: int) -> Iterator[Few]:
    for of, count in counts:
        where = (count > 0) & (count < least)
        if where.any():
            yield Few(of, unit, count, where)
