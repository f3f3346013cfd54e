"""Sequential binary partitions: the splits that `balances` measures.

A sign matrix flows in; the splits flow out, as stretches of one order of the parts:

    all parts are split in two, each side in two again, until every part stands alone: D - 1 splits of D parts

(Egozcue & Pawlowsky-Glahn 2005, "Groups of parts and their balances in compositional data analysis".)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np

from ..exceptions import BatchfixError


@dataclass(frozen=True, eq=False)
class BinaryPartition:
    """A sequential binary partition of D parts.

    With its parts in `order`, split k sets the stretch start[k]:middle[k] against the stretch middle[k]:stop[k].

    Parameters
    ----------
    order : array (D,) of int
    start, middle, stop : arrays (D - 1,) of int

    Examples
    --------
    >>> BinaryPartition.from_signs([[1, 1, -1, -1], [1, -1, 0, 0], [0, 0, 1, -1]]).basis().round(2).tolist()
    [[0.5, 0.5, -0.5, -0.5], [0.71, -0.71, 0.0, 0.0], [0.0, 0.0, 0.71, -0.71]]
    """

    order: np.ndarray
    start: np.ndarray
    middle: np.ndarray
    stop: np.ndarray

    @classmethod
    def default(cls, parts: int) -> Self:
        """The first part against the second, the first two against the third, and so on.

        Examples
        --------
        >>> BinaryPartition.default(4).signs().tolist()
        [[1, -1, 0, 0], [1, 1, -1, 0], [1, 1, 1, -1]]
        """
        _refuse_no_split(parts)
        splits = np.arange(1, parts)
        return cls(np.arange(parts), np.zeros_like(splits), splits, splits + 1)

    @classmethod
    def from_signs(cls, signs: Any) -> Self:
        """Read a sign matrix, (D - 1, D): each row 1 for one side of a split, -1 for the other, 0 for other parts.

        Rows may stand in any order, and coordinates come in theirs.

        Raises
        ------
        BatchfixError
            If it is no sequential binary partition: which row, and why.
        """
        table = np.asarray(signs)
        if table.ndim != 2 or len(table) != table.shape[1] - 1:
            raise BatchfixError(f"A partition of D parts has D - 1 splits, one a row, (D - 1, D); got {table.shape}.")
        other = table[~np.isin(table, (-1, 0, 1))]
        if other.size:
            raise BatchfixError(f"The signs of a partition are 1, -1 and 0; got {other[0].item()!r}.")
        _refuse_no_split(table.shape[1])
        return cls(*_stretches(table > 0, table < 0))

    def basis(self) -> np.ndarray:
        """The orthonormal contrasts as a dense (D - 1, D) matrix V: ilr(x) = V clr(x).

        Examples
        --------
        >>> V = BinaryPartition.default(3).basis()
        >>> (V @ V.T).round(12).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
        """
        V = np.zeros((len(self.start), len(self.order)))
        for row, a, m, b, plus, minus in zip(V, self.start, self.middle, self.stop, *self.weights, strict=True):
            row[self.order[a:m]] = plus
            row[self.order[m:b]] = -minus
        return V

    def signs(self) -> np.ndarray:
        """The sign matrix, (D - 1, D)."""
        signs: np.ndarray = np.sign(self.basis()).astype(np.int8)
        return signs

    @cached_property
    def weights(self) -> tuple[np.ndarray, np.ndarray]:
        """What a part weighs on each side of each split: sqrt(s / (r (r + s))) and sqrt(r / (s (r + s)))."""
        r = (self.middle - self.start).astype(np.float64)
        s = (self.stop - self.middle).astype(np.float64)
        return np.sqrt(s / (r * (r + s))), np.sqrt(r / (s * (r + s)))


def _refuse_no_split(parts: int) -> None:
    if parts < 2:
        raise BatchfixError(f"A partition splits two parts or more; got {parts}.")


def _stretches(plus: np.ndarray, minus: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The order of the parts, and the start, middle and stop of each split, from the root down."""
    splits, parts = plus.shape
    named: dict[bytes, int] = {}
    for k in range(splits):
        name = (plus[k] | minus[k]).tobytes()
        if name in named:
            raise BatchfixError(
                f"Each group of parts is split once; got rows {named[name]} and {k} for the same parts."
            )
        if not (plus[k].any() and minus[k].any()):
            raise BatchfixError(f"A split needs a part on either side; row {k} has none on one.")
        named[name] = k
    order = np.empty(parts, dtype=np.intp)
    start, middle, stop = np.empty((3, splits), dtype=np.intp)
    todo = [(np.ones(parts, dtype=bool), 0)]
    while todo:
        group, at = todo.pop()
        size = int(group.sum())
        if size == 1:
            order[at] = int(group.argmax())
            continue
        name = group.tobytes()
        if name not in named:
            which = np.flatnonzero(group)
            raise BatchfixError(
                "Every group of two parts or more must be split by a row; "
                f"got none for parts {', '.join(map(str, which[:5]))}{', ...' if size > 5 else ''} ({size} parts)."
            )
        k = named[name]
        start[k], middle[k], stop[k] = at, at + int(plus[k].sum()), at + size
        todo += [(plus[k], int(start[k])), (minus[k], int(middle[k]))]
    return order, start, middle, stop
