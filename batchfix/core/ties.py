"""Ties: how many observed values of a cell are tied at its commonest value; NaN means missing.

A matrix flows in; per group of rows and feature, a short list of the commonest values flows out, with bounds on the
count of each. The count of the commonest value does not add up: what is rare in one chunk may be common in the next.
A list of `size` values does, up to an error that is known and small (the space-saving summary: Metwally, Agrawal &
El Abbadi 2005, "Efficient computation of frequent and top-k elements in data streams"; its merging and the bound:
Agarwal et al. 2012, "Mergeable summaries", section 2):

    lower = lower_a + lower_b                   upper = upper_a + upper_b           v listed by both
    lower = lower_a                             upper = upper_a + other_b           v listed by a alone
    other = max(other_a + other_b, the largest upper that is dropped)               v listed by neither

Every count lies within its bounds, and upper - lower <= other <= n / (size + 1), however the rows were split and
whatever the order of merging. One call of `Ties.of` is exact.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from ..exceptions import BatchfixError, MergeError
from .robust import _empty_per_group, _gathered

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

_BLOCK_CELLS = 5_000  # (group, feature) pairs merged at a time: a cache's worth, five times as fast as all at once


@dataclass(frozen=True)
class Ties:
    """The commonest values of every feature in every group of rows, and bounds on their counts.

    A cell's slots are sorted: the largest upper bound first, then the largest lower bound, then the smallest value.

    Attributes
    ----------
    values : (size, B, p) float64
        The listed values; NaN where a slot is empty.
    lower, upper : (size, B, p) int64
        Bounds on the count of each listed value; 0 where a slot is empty.
    other : (B, p) int64
        Upper bound on the count of any value that is not listed.
    n : (B, p) int64
        Observed values.

    Examples
    --------
    >>> x = np.array([[0.0], [0.0], [0.0], [5.1], [2.3], [np.nan]])
    >>> rows, starts = np.arange(3), np.array([0, 3])
    >>> ties = Ties.of(x[:3], rows, starts) + Ties.of(x[3:], rows, starts)
    >>> [bound.tolist() for bound in ties.commonest()], [bound.tolist() for bound in ties.present()]
    ([[[3]], [[3]]], [[[2]], [[2]]])
    """

    values: Floats
    lower: Counts
    upper: Counts
    other: Counts
    n: Counts

    @classmethod
    def of(cls, X: NDArray[np.generic], order: NDArray[np.integer], starts: NDArray[np.integer], size: int = 8) -> Ties:
        """Count the `size` commonest values of every feature in every group: exactly, lower = upper.

        Parameters
        ----------
        X
            (n, p) real matrix of any dtype and memory layout; only read. Values are compared as float64: every float32
            is exact, -0.0 and 0.0 are one value, NaN is none, and an infinity is a value like any other.
        order
            Row numbers of X, sorted by group.
        starts
            (B + 1,) where each group's slice of order starts: group b is ``order[starts[b]:starts[b + 1]]``.
        size
            Values to list. More of them make the bounds of a merged summary tighter: n / (size + 1).

        Returns
        -------
        Ties of B groups and p features; `other` is the count of the commonest value that is not listed.

        Raises
        ------
        BatchfixError, TypeError
            If X is not a real matrix, starts is not a rising series of slice starts within order, or size is not a
            whole number of at least 1.

        Notes
        -----
        Columns are sorted a block at a time: beyond the answer, a few MB of extra memory, or a few columns' worth if
        that is more.
        """
        if X.dtype.kind not in "fiub":
            raise TypeError(f"Ties are counted among real numbers; got dtype {X.dtype!r}. Convert to float first.")
        if not (size >= 1 and size == int(size)):
            raise BatchfixError(f"size must be a whole number of at least 1; got {size!r}. The default is 8.")
        shape = _empty_per_group(X, order, starts).shape
        new = cls._empty(int(size), *shape)
        for b, columns, rows in _gathered(X, order, starts):
            values, counts = _commonest(rows, size + 1)
            new.n[b, columns] = rows.shape[1] - np.isnan(rows).sum(axis=1)
            new.other[b, columns] = counts[size:].sum(axis=0)  # one value, or none
            listed = len(values[:size])
            new.values[:listed, b, columns] = values[:size]
            new.lower[:listed, b, columns] = counts[:size]
        new.upper[:] = new.lower
        return new

    def __add__(self, other: Ties) -> Ties:
        """Summary of both sets of rows together; they must share no row."""
        if self.values.shape != other.values.shape:
            raise MergeError(
                "Ties are merged feature by feature, with as many values listed, groups and features on both sides; "
                f"got shapes {self.values.shape} and {other.values.shape}. Use one size, and place the groups first."
            )
        size, groups, p = self.values.shape
        new = Ties._empty(size, groups, p)
        width = max(1, _BLOCK_CELLS // max(1, groups))
        for first in range(0, p, width):
            columns = slice(first, first + width)
            _merge(self._columns(columns), other._columns(columns), out=new._columns(columns))
        return new

    def place(self, groups: NDArray[np.integer], n_groups: int) -> Ties:
        """Return the same counts among `n_groups` groups: group i moves to `groups[i]`, new groups are empty."""
        size, _, p = self.values.shape
        new = Ties._empty(size, n_groups, p)
        for field in fields(self):
            getattr(new, field.name)[..., groups, :] = getattr(self, field.name)
        return new

    def only(self, k: int) -> Ties:
        """Return the counts of group k alone."""
        return Ties(*(getattr(self, field.name)[..., k : k + 1, :] for field in fields(self)))

    def commonest(self) -> tuple[Counts, Counts]:
        """Bounds on how many observed values are tied at the commonest one; a value that occurs once is tied with none.

        Returns
        -------
        lower, upper
            (B, p) int64; equal where the count is exact, else at most n / (size + 1) + 1 apart; 0 where none are tied.
        """
        lower = self.lower.max(axis=0)
        upper = self.upper[0]  # the largest: slots are sorted, and no listed value's is below `other`
        return lower * (lower > 1), upper * (upper > 1)

    def present(self) -> tuple[Counts, Counts]:
        """Bounds on how many observed values are not tied at the commonest one: n - upper and n - lower, (B, p)."""
        lower, upper = self.commonest()
        return self.n - upper, self.n - lower

    def _columns(self, columns: slice) -> Ties:
        """Return a view of some features."""
        slots, cells = np.s_[:, :, columns], np.s_[:, columns]
        return Ties(self.values[slots], self.lower[slots], self.upper[slots], self.other[cells], self.n[cells])

    @classmethod
    def _empty(cls, size: int, n_groups: int, p: int) -> Ties:
        slots, cells = (size, n_groups, p), (n_groups, p)
        counts = (np.zeros(shape, dtype=np.int64) for shape in (slots, slots, cells, cells))
        return cls(np.full(slots, np.nan), *counts)


def _merge(a: Ties, b: Ties, out: Ties) -> None:
    """Write the summary of a's and b's rows together into out: the formula at the head of this file."""
    size = len(a.values)
    values = np.concatenate([a.values, b.values])
    lower = np.concatenate([a.lower, b.lower])
    upper = np.concatenate([a.upper, b.upper])
    mine, theirs = slice(None, size), slice(size, None)

    shared = np.zeros(values.shape, dtype=bool)  # listed by both: kept in our slot, cleared from theirs
    for k in range(size):
        same = a.values == b.values[k]
        lower[mine] += same * b.lower[k]
        upper[mine] += same * b.upper[k]
        shared[mine] |= same
        shared[size + k] = same.any(axis=0)
    alone = ~shared & ~np.isnan(values)
    upper[mine] += alone[mine] * b.other
    upper[theirs] += alone[theirs] * a.other
    cleared = shared[theirs]
    values[theirs][cleared] = np.nan
    lower[theirs][cleared] = upper[theirs][cleared] = 0

    ranked = np.lexsort((values, -lower, -upper), axis=0)
    kept, dropped = ranked[:size], ranked[size : size + 1]
    out.values[:] = np.take_along_axis(values, kept, axis=0)
    out.lower[:] = np.take_along_axis(lower, kept, axis=0)
    out.upper[:] = np.take_along_axis(upper, kept, axis=0)
    out.other[:] = np.maximum(a.other + b.other, np.take_along_axis(upper, dropped, axis=0)[0])
    out.n[:] = a.n + b.n


def _commonest(rows: Floats, most: int) -> tuple[Floats, Counts]:
    """The commonest values of each row and their counts, (k, rows) with k <= most; NaN and 0 where a row has fewer.

    Among equally common values the smallest come first: a tie at a detection limit is one. Each row is left sorted.
    """
    w, m = rows.shape
    if m == 0:
        return np.empty((0, w)), np.empty((0, w), dtype=np.int64)
    rows.sort(axis=1)  # NaN last
    starting = np.ones((w, m), dtype=bool)  # a run of equal values; NaN differs from all, so each is one
    np.not_equal(rows[:, 1:], rows[:, :-1], out=starting[:, 1:])
    starts = np.flatnonzero(starting)
    lengths = np.diff(starts, append=w * m)
    # One integer ranks a run by its length, then by its place in the sorted row; 0: no run starts here.
    key = np.zeros(w * m, dtype=np.int64)
    key[starts] = lengths * m + (m - 1 - starts % m)
    key = key.reshape(w, m)
    key[np.isnan(rows)] = 0
    k = min(most, m)
    key.partition(m - k, axis=1)
    best = np.sort(key[:, m - k :], axis=1)[:, ::-1].T
    counts = best // m
    values = np.take_along_axis(rows, (m - 1 - best % m).T, axis=1).T + 0.0  # -0.0 becomes 0.0
    return np.where(counts > 0, values, np.nan), counts
