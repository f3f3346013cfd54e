"""Depth: whether the number of reads of a sample shows in its log-ratios, and by way of batch.

Counts, their log-ratios and batch codes flow in; correlations and shares of variance flow out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse.linalg import svds

from .groups import Groups, group_moments

MANUFACTURED = 0.01
"""A zero policy that adds more than this to the share of variance between batches makes a batch effect."""


@dataclass(frozen=True)
class DepthCheck:
    """What sequencing depth has to do with log-ratios and batches.

    Attributes
    ----------
    correlation : float in [0, 1]
        Absolute correlation of the leading principal component of the centred log-ratios with log depth.
    between_batches : float in [0, 1]
        Share of the variance of log depth that lies between batches.
    by_batch : dict
        Median depth of each batch.
    batch_share, batch_share_fixed : float in [0, 1]
        Share of the Aitchison variance that lies between batches: with zeros as the policy fills them, and with one
        fixed proportion for all zeros (half of the table's smallest).
    """

    correlation: float
    between_batches: float
    by_batch: dict[Any, float]
    batch_share: float
    batch_share_fixed: float

    @property
    def manufactured(self) -> float:
        """What the zero policy adds to the share of variance between batches."""
        return max(0.0, self.batch_share - self.batch_share_fixed)


def between(Z: np.ndarray, codes: np.ndarray) -> float:
    """Share of the variance of rows (n, p), summed over columns, that lies between groups; NaN left out.

        sum_j sum_b n_bj (mean_bj - mean_j)^2 / sum_j sum_i (z_ij - mean_j)^2

    Examples
    --------
    >>> between(np.array([[0.0], [2.0], [4.0], [6.0]]), np.array([0, 0, 1, 1]))
    0.8
    """

    def squares(codes: np.ndarray) -> float:
        groups = Groups.of(codes, int(codes.max(initial=0)) + 1)
        return float(np.asarray(group_moments(Z, groups, np.zeros((len(Z), 0))).x.m2).sum())

    total = squares(np.zeros(len(Z), dtype=np.intp))
    return 1.0 - squares(codes) / total if total > 0 else 0.0


def leading_correlation(Z: np.ndarray, values: np.ndarray) -> float:
    """Absolute correlation of rows' scores on the leading principal component of Z (n, p) with values (n,)."""
    centred = Z - Z.mean(axis=0)
    spread = values - values.mean()
    if min(Z.shape) < 2 or not centred.any() or not spread.any():
        return 0.0
    scores = svds(centred, k=1, v0=np.ones(min(Z.shape)) + np.arange(min(Z.shape)) / 100)[0][:, 0]
    return float(min(1.0, abs(scores @ spread) / np.sqrt((scores @ scores) * (spread @ spread))))
