"""Peers: which cells of a row share statistics, and sums over them.

Codes of groups flow in: one a column (p,), or one a cell (rows, p). Out comes an order in which the cells of a group
are neighbours, a segment each, so that every statistic of every group is a run over contiguous memory:

    x sorted:   | group 0 | group 1 |  ...  |        total(x)[s] = sum over segment s
    row by row if the codes are those of columns; all rows in one line if they are those of cells

Groups may stand in a hierarchy (`Levels`), coarse to fine. They are numbered such that the members of a coarser
group are neighbours too; above the coarsest stands the whole row.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..exceptions import BatchfixError


@dataclass(frozen=True)
class Peers:
    """Cells in the order of their groups.

    Sorted cells are an array (lines, m): a line is a row of p cells, or all cells of a block of rows.

    Attributes
    ----------
    order : array (m,)
        Sorted cell i of a line is cell order[i].
    starts, sizes : arrays (S,)
        Segment s is cells starts[s] to starts[s] + sizes[s] of a line; none is empty.
    slots : array (S,)
        Group of each segment; with codes of cells, row * n_groups + group.
    n_groups : int
    rows : int or None
        Rows in a line, with codes of cells.
    back, codes : arrays (p,), or None
        With codes of columns: the order that undoes `order`, and the codes.

    Examples
    --------
    >>> import numpy as np
    >>> peers = Peers.of(np.array([1, 0, 1]), 2)
    >>> x = peers.sort(np.array([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]]))
    >>> peers.dense(peers.total(x)).tolist()
    [[2.0, 5.0], [16.0, 40.0]]
    """

    order: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray
    slots: np.ndarray
    n_groups: int
    rows: int | None = None
    back: np.ndarray | None = None
    codes: np.ndarray | None = None

    @classmethod
    def of(cls, codes: np.ndarray, n_groups: int) -> Peers:
        """Sort codes from 0 to n_groups - 1, of columns (p,) or of cells (rows, p)."""
        narrow = codes.astype(np.min_scalar_type(max(n_groups - 1, 0)), copy=False)  # few bits: a radix sort
        if codes.ndim == 1:
            order = np.argsort(narrow, kind="stable")
            back = np.argsort(order, kind="stable")
            return cls(order, *_segments(narrow[order][None], n_groups), n_groups, back=back, codes=codes)
        rows, p = codes.shape
        order = np.argsort(narrow, axis=1, kind="stable")
        order += np.arange(0, rows * p, p)[:, None] if p else 0
        flat = order.reshape(-1)
        in_order = np.take(narrow.reshape(-1), flat, mode="clip").reshape(rows, p)
        return cls(flat, *_segments(in_order, n_groups), n_groups, rows)

    # ---- to sorted cells and back

    @cached_property
    def in_order(self) -> bool:
        """Whether the cells of a row stand in the order of their groups already."""
        return rises(self.order, strictly=True)

    def sort(self, x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Copy cells (rows, p), C-contiguous, to sorted cells (lines, m), in the memory of `out` (rows, p)."""
        out = np.empty_like(x) if out is None else out
        lines = (x, out) if self.rows is None else (x.reshape(1, -1), out.reshape(1, -1))
        if self.in_order:
            np.copyto(lines[1], lines[0])
        else:
            np.take(lines[0], self.order, axis=1, out=lines[1], mode="clip")  # "raise" would make numpy buffer `out`
        return lines[1]

    def unsort(self, y: np.ndarray, out: np.ndarray) -> None:
        """Write sorted cells to their places in `out` (rows, p), of any memory and float dtype."""
        if self.in_order:
            np.copyto(out, y.reshape(out.shape))
            return
        direct = out.flags.c_contiguous and out.dtype == y.dtype
        cells = out if direct else np.empty(out.shape, dtype=y.dtype)
        if self.back is not None:
            np.take(y, self.back, axis=1, out=cells, mode="clip")
        else:
            cells.reshape(-1)[self.order] = y[0]
        if not direct:
            np.copyto(out, cells)

    # ---- statistics

    def total(self, x: np.ndarray) -> np.ndarray:
        """Sum of sorted cells (lines, m) over each segment, (lines, S)."""
        return np.add.reduceat(x, self.starts, axis=1)

    def spread(self, statistic: np.ndarray) -> np.ndarray:
        """Give each cell its segment's statistic, (lines, S) -> (lines, m)."""
        return np.repeat(statistic, self.sizes, axis=1)

    def dense(self, statistic: np.ndarray, empty: float = 0.0) -> np.ndarray:
        """Statistics of segments as (rows, groups), `empty` for groups without a cell."""
        lines = len(statistic)
        width = self.n_groups * (self.rows or 1)
        out = np.full((lines, width), empty, dtype=statistic.dtype)
        out[:, self.slots] = statistic
        return out.reshape(-1, self.n_groups)

    def pick(self, dense: np.ndarray) -> np.ndarray:
        """Statistics (rows, groups) as those of segments, (lines, S)."""
        lines = dense if self.rows is None else dense.reshape(1, -1)
        return np.take(lines, self.slots, axis=1)

    def coarser(self, parent: np.ndarray, n_groups: int) -> Peers:
        """Return the peers of a coarser level: group g belongs to parent[g], which must not fall as g rises."""
        row, group = np.divmod(self.slots, self.n_groups)
        slots = row * n_groups + parent[group]
        first = np.flatnonzero(np.diff(slots, prepend=-1))
        sizes = np.add.reduceat(self.sizes, first) if len(first) else self.sizes
        return Peers(self.order, self.starts[first], sizes, slots[first], n_groups, self.rows, self.back)


def rises(values: np.ndarray, *, strictly: bool = False) -> bool:
    """Whether no value is below the one before it (or, strictly, equal to it); a piece at a time, the first one short.

    Examples
    --------
    >>> import numpy as np
    >>> rises(np.array([1, 1, 2])), rises(np.array([1, 1, 2]), strictly=True)
    (True, False)
    """
    start, size = 0, 64
    while start < len(values) - 1:
        here, after = values[start : start + size], values[start + 1 : start + size + 1]
        here = here[: len(after)]
        if not ((after > here) if strictly else (after >= here)).all():
            return False
        start, size = start + size, 1 << 16
    return True


def _segments(codes: np.ndarray, n_groups: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Starts, sizes and slots of the runs of equal codes in each row of sorted codes."""
    rows, p = codes.shape
    new = np.empty((rows, p), dtype=bool)
    if p:
        new[:, 0] = True
        np.not_equal(codes[:, 1:], codes[:, :-1], out=new[:, 1:])
    starts = np.flatnonzero(new.reshape(-1))
    sizes = np.diff(starts, append=rows * p)
    slots = codes.reshape(-1)[starts].astype(np.intp)
    if rows > 1:
        slots += starts // p * n_groups
    return starts, sizes, slots


@dataclass(frozen=True)
class Levels:
    """A hierarchy of groups: above the coarsest level, level 0, stands the whole row.

    Attributes
    ----------
    parents : tuple of arrays
        parents[l] holds the group of level l that each group of level l + 1 belongs to; it never falls.
        None at all: the whole row is the only group.
    labelled : tuple of arrays of bool
        Whether each group of level l + 1 has a label there. Cells without one form a group for themselves, which
        takes its parent's statistics, and none where its parent is the whole row.

    Examples
    --------
    >>> import numpy as np
    >>> Levels.flat(3).n_groups
    3
    """

    parents: tuple[np.ndarray, ...]
    labelled: tuple[np.ndarray, ...]

    def __post_init__(self) -> None:
        if len(self.parents) != len(self.labelled):
            raise BatchfixError(
                f"Every level must have parents and labels; got {len(self.parents)} and {len(self.labelled)} levels."
            )

    @classmethod
    def flat(cls, n_groups: int) -> Levels:
        """One level of groups below the whole row, all of them labelled."""
        return cls((np.zeros(n_groups, dtype=np.intp),), (np.ones(n_groups, dtype=bool),))

    def __len__(self) -> int:
        return len(self.parents)

    @property
    def n_groups(self) -> int:
        """Groups of the finest level."""
        return len(self.parents[-1]) if self.parents else 1

    def size(self, level: int) -> int:
        """Groups of a level; level 0 is the whole row."""
        return len(self.parents[level - 1]) if level else 1

    def ancestors(self, level: int) -> np.ndarray:
        """Group of `level` that each group of the finest level belongs to."""
        at = np.arange(self.n_groups)
        for parent in reversed(self.parents[level:]):
            at = parent[at]
        return at

    @property
    def nameless(self) -> np.ndarray:
        """Groups of the finest level that no level has a label for."""
        lost = np.ones(self.n_groups, dtype=bool) if self.parents else np.zeros(1, dtype=bool)
        for level, labelled in enumerate(self.labelled, start=1):
            lost &= ~labelled[self.ancestors(level)]
        return lost
