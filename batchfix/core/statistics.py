"""Statistics: what fitting needs to know of its rows, and nothing more.

Labels, design columns and moments by batch go in; `+` adds those of other rows, whose batches and levels may be new.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..exceptions import MergeError
from .affine import Frame
from .comoments import CoMoments
from .design import Column, Factor, codes_of, slices, union_of
from .ties import Ties


@dataclass(frozen=True)
class BatchStatistics:
    """All that fitting needs to know of its rows: labels, design columns, moments.

    `+` adds the statistics of other rows, whose batches and levels may be new. This
    is what sites share when rows may not leave them.

    Attributes
    ----------
    batches : array (B,)
        Sorted labels.
    columns : tuple of Factor and Number
        What the q design columns are.
    moments : CoMoments
        Groups in the order of `batches`.
    eps : float
        Rounding unit of the coarsest dtype seen.
    present : array (B, p) or None
        Cells declared present (see ComBat's scale_where), counted.
    by_cell : bool
        Whether presence was declared of cells, and not of whole features.
    ties : Ties or None
        Commonest values, where presence is to be read off them.
    robust : Frame of arrays (B, p) or None
        Medians and MADs, which cannot be added.
    """

    batches: np.ndarray
    columns: tuple[Column, ...]
    moments: CoMoments
    eps: float
    present: np.ndarray | None = None
    by_cell: bool = False
    ties: Ties | None = None
    robust: Frame | None = None

    def __add__(self, other: BatchStatistics) -> BatchStatistics:
        """Statistics of both sets of rows together."""
        if self.robust is not None or other.robust is not None:
            raise MergeError(
                "Statistics must add up to be merged, got a median or a MAD, which do not. "
                "Use location='mean' and scale='std', or fit on all rows at once."
            )
        theirs = {c.name: c for c in other.columns}
        if set(theirs) != {c.name for c in self.columns}:
            raise MergeError(
                "Both sides must keep and remove the same columns, got "
                f"{[c.name for c in self.columns]} and {[c.name for c in other.columns]}."
            )
        if (self.present is None) != (other.present is None) or (self.ties is None) != (other.ties is None):
            raise MergeError("scale_where must be given for all rows or for none.")
        batches = union_of(self.batches, other.batches, "batch")
        columns = tuple(column + theirs[column.name] for column in self.columns)
        a, b = self._among(batches, columns), other._among(batches, columns)
        return BatchStatistics(
            batches,
            columns,
            moments=a.moments + b.moments,
            eps=max(a.eps, b.eps),
            present=None if a.present is None or b.present is None else a.present + b.present,
            by_cell=a.by_cell or b.by_cell,
            ties=None if a.ties is None or b.ties is None else a.ties + b.ties,
        )

    def only(self, k: int) -> BatchStatistics:
        """Statistics of batch k alone."""
        one = slice(k, k + 1)
        return replace(
            self,
            batches=self.batches[one],
            moments=self.moments.only(k),
            present=None if self.present is None else self.present[one],
            ties=None if self.ties is None else self.ties.only(k),
            robust=None if self.robust is None else Frame(self.robust.location[one], self.robust.scale[one]),
        )

    def _among(self, batches: np.ndarray, columns: tuple[Column, ...]) -> BatchStatistics:
        groups = codes_of(self.batches, batches)
        places: list[np.ndarray] = [np.zeros(0, dtype=int)]
        new_places = {c.name: (c, at) for c, at in zip(columns, slices(columns), strict=True)}
        for old in self.columns:
            new, at = new_places[old.name]
            if isinstance(old, Factor) and isinstance(new, Factor):
                places.append(at.start + new.codes(old.levels))
            else:
                places.append(np.array([at.start]))
        q = sum(c.width for c in columns)
        present = None
        if self.present is not None:
            present = np.zeros((len(batches), self.present.shape[1]))
            present[groups] = self.present
        return replace(
            self,
            batches=batches,
            columns=columns,
            moments=self.moments.place(groups, len(batches), np.concatenate(places), q),
            present=present,
            ties=None if self.ties is None else self.ties.place(groups, len(batches)),
        )
