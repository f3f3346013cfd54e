"""Withholding: statistics as they would be if some rows and values had not been there.

Statistics, batches and cells to leave out flow in; statistics of the rest flow out. A whole batch goes with its rows; a
cell, a feature in a batch, becomes one without any observed value.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ...core.comoments import CoMoments
from ...core.design import Column, Factor, slices
from ...core.moments import Moments
from ...core.statistics import BatchStatistics


def without(statistics: BatchStatistics, batches: np.ndarray, cells: np.ndarray) -> BatchStatistics:
    """Statistics as if rows of some batches (B,) were not there, and values of some cells (B, p) were NaN.

    Levels that are nowhere any more go too.
    """
    m, stay = statistics.moments, ~batches
    cells = cells[stay]
    q = m.zx.shape[1]
    rows, row_z_mean = m.rows[stay], m.row_z_mean[stay]
    columns: list[Column] = []
    kept = np.ones(q, dtype=bool)
    for column, at in zip(statistics.columns, slices(statistics.columns), strict=True):
        if isinstance(column, Factor):
            kept[at] = np.rint(rows @ row_z_mean[:, at]) > 0
            column = replace(column, levels=column.levels[kept[at]])
        columns.append(column)

    def left(values: Any, axes: int = 0) -> np.ndarray:
        """Of these batches, design columns along so many axes, and cells."""
        new: np.ndarray = np.asarray(values)[stay]
        for axis in range(1, axes + 1):
            new = np.compress(kept, new, axis=axis)
        if not cells.any() or not new.size:
            return new
        where = np.expand_dims(cells, tuple(range(1, axes + 1)))
        return np.asarray(np.where(where, 0.0, new))

    return replace(
        statistics,
        batches=statistics.batches[stay],
        columns=tuple(columns),
        moments=CoMoments(
            Moments(left(m.x.n), left(m.x.mean), left(m.x.m2)),
            z_mean=left(m.z_mean, 1),
            zz=left(m.zz, 2),
            zx=left(m.zx, 1),
            rows=rows,
            row_z_mean=row_z_mean[:, kept],
            row_zz=m.row_zz[stay][:, kept][:, :, kept],
            rest=left(m.rest),
        ),
        present=None if statistics.present is None else left(statistics.present),
    )
