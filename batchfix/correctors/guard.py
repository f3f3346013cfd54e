"""Guard: features that are nearly absent from a batch are located there, and not scaled.

Cells in which features are present flow in, told by the caller or read off the commonest value; counts that add up,
and the features that may be scaled, flow out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from numbers import Real
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.utils._param_validation import Interval

from ..core.design import Column, repr_label
from ..core.groups import Groups
from ..core.presence import scale_allowed
from ..core.statistics import BatchStatistics
from ..core.ties import Ties
from ..exceptions import AdaptationWarning, BatchfixError
from . import inputs
from .base import BatchwiseCorrector
from .notices import warn
from .rows import Rows


class GuardedCorrector(BatchwiseCorrector):
    """Common face of the correctors that scale, and can be kept from scaling what is hardly there."""

    scale_guard: float | None

    _parameter_constraints = BatchwiseCorrector._parameter_constraints | {
        "scale_guard": [Interval(Real, 0, 1, closed="right"), None],
    }

    def fit(self, X: Any, y: Any = None, *, batch: Any = None, keep: Any = None, scale_where: Any = None) -> Self:
        """Learn the batch effects.

        Parameters
        ----------
        X : table (n samples, p features)
            NaN is missing.
        y : ignored, or the target to keep where `keep_y=True`
        batch : labels (n,), or one label for all rows
            Aligned to X's index if it has an index.
        keep : table or column of n values
            What must survive. Text is a factor, floats are a number; see `keep_factors`.
        scale_where : bool array (n, p) or (p,), optional
            With `scale_guard`: the cells in which a feature is present; or the features that may be scaled.

        Returns
        -------
        self
        """
        self._learn(X, y, {"batch": batch, "keep": keep}, scale_where=scale_where)
        return self

    def partial_fit(
        self, X: Any, y: Any = None, *, batch: Any = None, keep: Any = None, scale_where: Any = None
    ) -> Self:
        """Add rows to what is known: the same as one fit on all rows, in any chunks. See `fit`."""
        self._learn(X, y, {"batch": batch, "keep": keep}, add=True, scale_where=scale_where)
        return self

    def fit_transform(
        self, X: Any, y: Any = None, *, batch: Any = None, keep: Any = None, scale_where: Any = None
    ) -> Any:
        """Fit, then transform the same rows."""
        return self._learn_and_correct(X, y, {"batch": batch, "keep": keep}, scale_where=scale_where)

    def adapt(self, X: Any, *, batch: Any = None, keep: Any = None, scale_where: Any = None) -> Self:
        """Learn new batches from their own rows, everything known frozen.

        The location and scale of a new batch are estimated against the frozen model and shrunk as in fit (as iComBat
        does; Wang 2025). One row gives a location only. `scale_guard` holds for the new batches too: a feature is
        scaled if it is so in fit and is present in enough of the new rows, too.

        Parameters
        ----------
        X, batch, keep
            As in `fit`.
        scale_where : bool array (n, p) or (p,), optional
            As in `fit`. Where fit was told the cells in which features are present, it is needed here as well:
            without it nothing is scaled.

        Returns
        -------
        corrector
            A new one that knows these batches too. This one is unchanged.

        Raises
        ------
        BatchfixError
            A batch is known already: use `partial_fit`.
        """
        return self._adapt(X, {"batch": batch, "keep": keep}, scale_where=scale_where)

    # ---- what is present

    def _reduce(self, rows: Rows, columns: Sequence[Column], z: np.ndarray, scale_where: Any = None) -> BatchStatistics:
        statistics = super()._reduce(rows, columns, z)
        if self.scale_guard is None:
            if scale_where is not None:
                raise BatchfixError("scale_where must come with scale_guard, got scale_guard=None. Set it, to 0.2 say.")
            return statistics
        groups = Groups.of(rows.first.codes, len(rows.first.values))
        if scale_where is None:
            return replace(statistics, ties=Ties.of(rows.X, groups.order, groups.starts))
        where = np.asarray(self._by_position(scale_where, rows))
        n, p = rows.X.shape
        if where.dtype != bool or where.shape not in ((n, p), (p,)):
            raise BatchfixError(
                f"scale_where must be boolean of shape ({n}, {p}) or ({p},), got {where.dtype} {where.shape}."
            )
        if where.ndim == 1:
            present = np.where(where, statistics.moments.x.n, 0.0)
        else:
            seen = where & ~np.isnan(rows.X)
            present = np.stack([seen[groups.rows(k)].sum(axis=0) for k in range(len(groups))]).astype(np.float64)
        return replace(statistics, present=present, by_cell=where.ndim == 2)

    def _by_position(self, where: Any, rows: Rows) -> Any:
        """Put a mask with names in the order of X."""
        names = getattr(self, "feature_names_in_", None)
        if names is not None:
            names = pd.Index(names[self._features])
        elif self._numbered is not None:
            names = pd.Index(self._numbered)
        index = rows.source.index if isinstance(rows.source, pd.DataFrame) else None
        if inputs.is_named(where) and not isinstance(where, pd.DataFrame):  # polars or a mapping: rows by position
            where = pd.DataFrame(inputs.as_columns(where, index, len(rows.X), "scale_where"), index=index)
        if not isinstance(where, pd.DataFrame | pd.Series):
            return where
        if isinstance(where, pd.Series):
            return inputs.align(where, names, rows.X.shape[1], "scale_where")
        where = inputs.align(where, index, len(rows.X), "scale_where")
        return where if names is None else inputs.align(where.T, names, rows.X.shape[1], "scale_where's columns").T

    def _may_scale(self, statistics: BatchStatistics) -> np.ndarray:
        """Features (p,) that are present in enough of every batch."""
        if self.scale_guard is None:
            return np.ones(statistics.moments.x.n.shape[1], dtype=bool)
        n = np.asarray(statistics.moments.x.n)
        if statistics.present is not None:
            return scale_allowed(statistics.present, n, self.scale_guard)
        assert statistics.ties is not None  # _reduce leaves one of the two whenever there is a guard
        low, high = statistics.ties.present()
        surely = scale_allowed(low, n, self.scale_guard)
        perhaps = scale_allowed(high, n, self.scale_guard)
        unsure = np.flatnonzero(surely != perhaps)
        if len(unsure):
            raise BatchfixError(
                "scale_guard must know how often a batch's commonest value occurs, but the parts that were added leave "
                f"it open for {len(unsure)} features ({self._feature(int(unsure[0]))} for one). "
                "Pass scale_where= with each part, use larger parts, or fit at once."
            )
        return surely

    def _may_scale_new(self, new: BatchStatistics) -> np.ndarray:
        """Features (p,) that are present in enough of a new batch."""
        told = self.statistics_.present
        if told is None or new.present is not None:
            return self._may_scale(new)
        if not self.statistics_.by_cell:  # fit's word on whole features holds for all batches
            return np.ones(told.shape[1], dtype=bool)
        warn(
            f"Batch {repr_label(new.batches[0])} is learned without scale_where, which fit had: nothing is known of "
            "where its features are present, and they are only located. Pass scale_where to adapt().",
            AdaptationWarning,
        )
        return np.zeros(told.shape[1], dtype=bool)
