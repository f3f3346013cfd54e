"""Guard: log-ratios of parts that are nearly absent from a batch are located there, and not scaled.

Where parts are present flows in; the log-ratios that may be scaled flow out. Filled zeros hardly vary: a part that is
nearly absent from a batch has a tiny spread there, and dividing by it blows up what is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np

from ..core.affine import Frame
from ..core.combat import scale_allowed
from ..core.design import Column
from ..core.partition import BinaryPartition
from ..core.statistics import BatchStatistics
from .batch import BatchCorrector
from .rows import Rows

SHARE = 0.2
"""A log-ratio is scaled if its parts are present in this share of the samples of every batch."""


def present_ratios(positive: np.ndarray, kind: str, reference: int | None, partition: BinaryPartition | None) -> Any:
    """Where log-ratios say something of parts that were seen: bool, one column a log-ratio.

    A centred one where its part is positive, an additive one where its reference is too, a balance where each side has
    a positive part.

    Examples
    --------
    >>> present_ratios(np.array([[True, False, True]]), "alr", 2, None).tolist()
    [[True, False]]
    >>> present_ratios(np.array([[True, False, True]]), "ilr", None, None).tolist()
    [[False, True]]
    """
    if kind == "alr":
        assert reference is not None  # alr has one
        return np.delete(positive, reference, axis=1) & positive[:, [reference]]
    if kind == "ilr":
        splits = partition or BinaryPartition.default(positive.shape[1])
        count = np.zeros((len(positive), positive.shape[1] + 1), dtype=np.int32)
        np.cumsum(positive[:, splits.order], axis=1, out=count[:, 1:])
        middle = count[:, splits.middle]
        return (middle > count[:, splits.start]) & (count[:, splits.stop] > middle)
    return positive


def may_scale(present: np.ndarray, codes: np.ndarray, share: float) -> np.ndarray:
    """Log-ratios (p,) that are present in at least a share of the rows of every batch."""
    rows = np.bincount(codes)
    counts = np.stack([present[codes == b].sum(axis=0) for b in range(len(rows))])
    return scale_allowed(counts, rows[:, None].astype(np.float64), share)


class GuardedBatchCorrector(BatchCorrector):
    """BatchCorrector that only locates features that it is told not to scale."""

    scale_guard = SHARE

    def fit(self, X: Any, y: Any = None, *, batch: Any = None, keep: Any = None, scale_where: Any = None) -> Self:
        """Learn the batch effects, and a scale of the features in `scale_where`, bool (p,)."""
        self._learn(X, y, {"batch": batch, "keep": keep}, scale_where=scale_where)
        return self

    def adapt(self, X: Any, *, batch: Any = None, keep: Any = None, scale_where: Any = None) -> Self:
        """Learn new batches from their own rows, which are scaled where those of fit are and in `scale_where`."""
        return self._adapt(X, {"batch": batch, "keep": keep}, scale_where=scale_where)

    def _reduce(self, rows: Rows, columns: Sequence[Column], z: np.ndarray, scale_where: Any = None) -> BatchStatistics:
        statistics = super()._reduce(rows, columns, z)
        n = np.asarray(statistics.moments.x.n)
        return replace(statistics, present=n if scale_where is None else np.where(scale_where, n, 0.0))

    def _measured(self, statistics: BatchStatistics, location: np.ndarray, rss: np.ndarray) -> Frame:
        measured = super()._measured(statistics, location, rss)
        return Frame(measured.location, np.where(self._allowed(statistics), measured.scale, np.nan))

    def _warn_flat(self, statistics: BatchStatistics, flat: np.ndarray, n: np.ndarray) -> None:
        super()._warn_flat(statistics, flat & self._allowed(statistics), n)

    def _allowed(self, statistics: BatchStatistics) -> np.ndarray:
        assert statistics.present is not None  # _reduce leaves it
        return scale_allowed(statistics.present, np.asarray(statistics.moments.x.n), self.scale_guard)
