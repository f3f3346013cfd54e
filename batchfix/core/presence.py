"""Presence: which features are seen often enough in every batch for their spread to mean something.

Where parts are present flows in; the features that may be scaled flow out. What stands for zeros hardly varies: a
feature that is nearly absent from a batch has a tiny spread there, and dividing by it blows up what is left.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .partition import BinaryPartition


def scale_allowed(present: np.ndarray, n: np.ndarray, share: float) -> np.ndarray:
    """Features (p,) that are present in at least `share` of the observed values of every batch.

    Examples
    --------
    >>> scale_allowed(np.array([[1, 5], [5, 5]]), np.array([[5], [5]]), 0.3).tolist()
    [False, True]
    """
    # a share such as 0.2 of 5 rows is 1 row, whatever 0.2 * 5 rounds to
    return np.asarray((present >= share * n * (1 - 1e-12)).all(axis=0))


def scale_allowed_of_cells(present: np.ndarray, codes: np.ndarray, share: float) -> np.ndarray:
    """The same, of cells (n, p) of rows with batch codes (n,): a share of the rows, observed or not."""
    rows = np.bincount(codes)
    counts = np.stack([present[codes == b].sum(axis=0) for b in range(len(rows))])
    return scale_allowed(counts, rows[:, None].astype(np.float64), share)


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
