"""Ranks within the groups of each row: what is left of values when only their order counts.

A matrix and the group of each of its columns (or cells) flow in; a matrix of the same shape flows out:

    rank   (rank_i - 1/2) / n       n observed values in the row's group; ties share the average of their ranks
    gauss  Phi^-1((rank_i - 1/2) / n)

(Hazen 1914, "Storage to be provided in impounding reservoirs": the plotting position.) NaN is not counted and stays.

Each row is sorted once, by group and value at the same time: a cell becomes one 64-bit key of its group, the leading
bits of its value and, in the last bits, its column. Sorting keys is ten times faster than sorting indices. Where the
bits of the value that are left cannot tell two values apart, the values themselves decide.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri

from ..exceptions import BatchfixError
from . import blocks

SIGN = np.uint64(1 << 63)

CHUNK_CELLS = 1 << 15
"""Cells that are ranked at a time: six arrays of a quarter of a megabyte."""


def grouped_rank(X: np.ndarray, codes: np.ndarray, n_groups: int, out: np.ndarray | None = None) -> np.ndarray:
    """(rank - 1/2) / n of each value among the observed ones of its row and group.

    Parameters
    ----------
    X : array (n, p)
        float32 or float64 (others become float64), NaN where not observed. Infinities rank as what they are.
    codes : integer array (p,) or (n, p)
        The group of each column, or of each cell: 0 .. n_groups - 1; below 0: of none, and the result is NaN.
    n_groups : int
    out : float array (n, p), optional
        Where to write; may be X.

    Returns
    -------
    Array (n, p) of X's dtype, above 0 and below 1: a group of one is 1/2. Values that are equal get equal ranks,
    the average of those that they take up.

    Examples
    --------
    >>> X = np.array([[3.0, 1.0, 7.0, np.nan, 9.0, 7.0]])
    >>> grouped_rank(X, np.array([0, 0, 1, 1, 1, 1]), 2).round(3).tolist()
    [[0.75, 0.25, 0.333, nan, 0.833, 0.333]]
    """
    return _ranked(X, codes, n_groups, out, gauss=False)


def grouped_gauss_rank(X: np.ndarray, codes: np.ndarray, n_groups: int, out: np.ndarray | None = None) -> np.ndarray:
    """The normal quantile of each value's rank, Phi^-1((rank - 1/2) / n): normal scores.

    Parameters, ties and NaN are those of `grouped_rank`; a group of one is 0.

    Examples
    --------
    >>> X = np.array([[3.0, 1.0, 5.0, 8.0]])
    >>> grouped_gauss_rank(X, np.zeros(4, dtype=int), 1).round(3).tolist()
    [[-0.319, -1.15, 0.319, 1.15]]
    """
    return _ranked(X, codes, n_groups, out, gauss=True)


def _ranked(X: np.ndarray, codes: np.ndarray, n_groups: int, out: np.ndarray | None, *, gauss: bool) -> np.ndarray:
    n, p = X.shape
    if out is None:
        out = np.empty(X.shape, dtype=X.dtype if X.dtype in (np.float32, np.float64) else np.float64)
    if codes.size and int(codes.max()) >= n_groups:
        raise BatchfixError(
            f"codes must be below n_groups = {n_groups}; got {int(codes.max())}. Count the groups again."
        )
    into, keys = out, _Keys(p, n_groups)

    def work(span: tuple[int, int]) -> None:
        rows = slice(*span)
        x = np.array(X[rows], dtype=np.float64, order="C")
        own = codes if codes.ndim == 1 else codes[rows]
        np.copyto(x, np.nan, where=own < 0)
        into[rows] = _rank_rows(x, own, keys, gauss)

    blocks.run(work, blocks.spans(0, n, max(1, CHUNK_CELLS // max(1, p))) if p else [], X.nbytes)
    return out


def _rank_rows(x: np.ndarray, codes: np.ndarray, keys: _Keys, gauss: bool) -> np.ndarray:
    """Ranks of a few complete rows; a segment is a run of sorted cells of one row and one group."""
    key = keys.of(x, codes)
    key.sort(axis=1)
    order, group = keys.columns(key), keys.groups(key)
    order += np.arange(0, x.size, x.shape[1])[:, None]
    fresh = np.ones(x.shape, dtype=bool)
    np.not_equal(group[:, 1:], group[:, :-1], out=fresh[:, 1:])
    value = _settle(x, order.reshape(-1), group, fresh.reshape(-1))
    starts = np.flatnonzero(fresh)
    lengths = np.diff(starts, append=x.size)
    position = np.arange(0.5, x.size)
    position -= np.repeat(starts, lengths)
    _average_ties(position, value, fresh.reshape(-1))
    n = np.where(group.reshape(-1)[starts] < keys.n_groups, lengths, np.nan)
    position /= np.repeat(n, lengths)
    if gauss:
        ndtri(position, out=position)
    result = np.empty(x.shape)
    result.reshape(-1)[order.reshape(-1)] = position
    return result


def _settle(x: np.ndarray, order: np.ndarray, group: np.ndarray, fresh: np.ndarray) -> np.ndarray:
    """Values in their order, rising in each segment; rows whose keys could not tell values apart are sorted again."""
    value: np.ndarray = x.reshape(-1)[order]
    falls = np.flatnonzero(value[1:] < value[:-1]) + 1
    rows = np.unique(falls[~fresh[falls]] // x.shape[1])
    if rows.size:
        shape = x.shape
        again = np.lexsort((value.reshape(shape)[rows], group[rows]), axis=-1)  # nearly sorted: soon done
        for flat in (order, value):
            table = flat.reshape(shape)
            table[rows] = np.take_along_axis(table[rows], again, axis=1)
    return value


def _average_ties(position: np.ndarray, value: np.ndarray, fresh: np.ndarray) -> None:
    """Give cells of equal value in a segment the mean of their positions."""
    tied = np.flatnonzero(value[1:] == value[:-1]) + 1
    tied = tied[~fresh[tied]]
    if not tied.size:
        return
    gap = np.diff(tied) > 1
    first, last = tied[np.append(True, gap)] - 1, tied[np.append(gap, True)]
    count = last - first + 1
    cells = np.arange(count.sum()) + np.repeat(first - np.append(0, np.cumsum(count)[:-1]), count)
    position[cells] = np.repeat((position[first] + position[last]) / 2, count)


class _Keys:
    """64-bit keys of cells: group, leading bits of the value, column; the missing are of one group more."""

    def __init__(self, p: int, n_groups: int) -> None:
        self.n_groups = n_groups
        self.place = max(0, p - 1).bit_length()
        self.above = 64 - max(1, n_groups).bit_length()

    def of(self, x: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Keys of the cells of x (C-contiguous float64) of these groups."""
        key = x.view(np.uint64).copy()
        # the bits of a number rise with it, once those of negative ones are turned over and the others set above them
        flip = (x.view(np.int64) >> 63).view(np.uint64)
        flip |= SIGN
        key ^= flip
        key >>= np.uint64(64 - self.above + self.place)
        key <<= np.uint64(self.place)
        columns = np.arange(x.shape[1], dtype=np.uint64)
        key |= codes.astype(np.uint64) << np.uint64(self.above) | columns
        np.copyto(key, np.uint64(self.n_groups << self.above) | columns, where=np.isnan(x))
        return key

    def columns(self, key: np.ndarray) -> np.ndarray:
        """Column of each cell."""
        column: np.ndarray = (key & np.uint64((1 << self.place) - 1)).view(np.int64)
        return column

    def groups(self, key: np.ndarray) -> np.ndarray:
        """Group of each cell, n_groups where missing."""
        group: np.ndarray = key >> np.uint64(self.above)
        return group
