"""BatchCorrector: location and scale of every batch, as measured or mildly shrunk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
from sklearn.utils._param_validation import StrOptions

from ..core import location_scale as core
from ..core.affine import Affine, Frame
from ..core.design import Column
from ..core.groups import Groups
from ..core.least_squares import LinearFit
from ..core.robust import grouped_mad, grouped_median
from ..core.statistics import BatchStatistics
from ..exceptions import (
    BatchfixError,
    NothingToCorrectWarning,
    SingletonBatchWarning,
    TooFewFeaturesError,
    UnmergeableError,
)
from .adding import WhereItAdds
from .applying import NewBatch, Solution
from .guard import GuardedCorrector
from .notices import warn, warn_constant
from .rows import Rows
from .tables import Key


class BatchCorrector(GuardedCorrector):
    """Correction of location and scale by batch, feature by feature.

        x* = location + (x - location_b) scale / scale_b

    Parameters
    ----------
    location : {"mean", "median", None}, default "mean"
        What a batch is centred by. None moves nothing: x* = x scale / scale_b.
    scale : {"std", "mad", None}, default "std"
        What a batch's spread is measured by (ddof 1; MAD made consistent with the standard deviation). None scales
        nothing. A batch with one row, or without spread in a feature, is only located there.
    target : {"pooled", "standard"}, default "pooled"
        Frame of the result: the pooled one (location averaged over rows, variance pooled within batches), or
        location 0 and scale 1, which leaves no room for a reference batch.
    shrinkage : {None, "eb"}, default None
        "eb" shrinks each batch's location and variance across features, as ComBat does.
    scale_guard : float in (0, 1], optional
        Scale a feature only if it is present in at least this share (0.2, say) of every batch; else only locate it. See
        ComBat. With target="standard" such a feature gets location 0 and keeps its spread.
    batch_key, keep_keys, keep_factors, keep_numbers, keep_at_transform, keep_y, reference_batch, handle_unknown, copy
        See ComBat. What is kept needs location "mean" and scale "std" or None.

    Attributes
    ----------
    batches_, batch_counts_, affine_, coef_, estimability_, moments_, statistics_, solution_
        See ComBat.
    location_, scale_ : arrays (B, p)
        Frame of each batch, at the training mean of what is kept.

    References
    ----------
    Location and scale adjustment: Johnson, Li and Rabinovic 2007, Biostatistics 8, section 2. MAD: Rousseeuw and
    Croux 1993, JASA 88, 1273-1283.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[1.0], [3.0], [11.0], [13.0]])
    >>> BatchCorrector().fit_transform(X, batch=["a", "a", "b", "b"]).ravel().tolist()
    [6.0, 8.0, 6.0, 8.0]
    """

    _parameter_constraints = GuardedCorrector._parameter_constraints | {
        "location": [StrOptions({"mean", "median"}), None],
        "scale": [StrOptions({"std", "mad"}), None],
        "target": [StrOptions({"pooled", "standard"})],
        "shrinkage": [StrOptions({"eb"}), None],
    }

    def __init__(
        self,
        *,
        location: str | None = "mean",
        scale: str | None = "std",
        target: str = "pooled",
        shrinkage: str | None = None,
        scale_guard: float | None = None,
        batch_key: Key | None = None,
        keep_keys: Sequence[Key] | None = None,
        keep_factors: Sequence[str] | None = None,
        keep_numbers: Sequence[str] | None = None,
        keep_at_transform: bool = True,
        keep_y: bool = False,
        reference_batch: Any = None,
        handle_unknown: str = "error",
        copy: bool = True,
    ) -> None:
        self.location = location
        self.scale = scale
        self.target = target
        self.shrinkage = shrinkage
        self.scale_guard = scale_guard
        self.batch_key = batch_key
        self.keep_keys = keep_keys
        self.keep_factors = keep_factors
        self.keep_numbers = keep_numbers
        self.keep_at_transform = keep_at_transform
        self.keep_y = keep_y
        self.reference_batch = reference_batch
        self.handle_unknown = handle_unknown
        self.copy = copy

    @property
    def location_(self) -> np.ndarray:
        """Location (B, p) of each batch."""
        return np.concatenate([s.details["frame"].location for s in (self.solution_, *self._adapted)])

    @property
    def scale_(self) -> np.ndarray:
        """Scale (B, p) of each batch."""
        return np.concatenate([s.details["frame"].scale for s in (self.solution_, *self._adapted)])

    @property
    def _robust(self) -> bool:
        return self.location == "median" or self.scale == "mad"

    @WhereItAdds
    def partial_fit(
        self, X: Any, y: Any = None, *, batch: Any = None, keep: Any = None, scale_where: Any = None
    ) -> Self:
        """Add rows to what is known, as `fit` has its parameters; not with a median or a MAD, which do not add up."""
        return super().partial_fit(X, y, batch=batch, keep=keep, scale_where=scale_where)

    def _check_adds(self) -> None:
        if self._robust:
            raise UnmergeableError(
                "partial_fit must be given statistics that add up, got a median or a MAD, which do not. "
                "Use location='mean' and scale='std', or fit on all rows at once."
            )

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if self.target == "standard" and self.reference_batch is not None:
            raise BatchfixError(
                "reference_batch must come with target='pooled', got "
                f"reference_batch={self.reference_batch!r} and target='standard', which gives every batch location 0 "
                "and scale 1. Drop one of the two."
            )

    def _warn_unlabelled(self) -> None:
        if self.target != "standard":
            super()._warn_unlabelled()
            return
        warn(
            "BatchCorrector was fitted without batch labels: all rows are standardised together, and nothing is "
            "corrected between batches. Pass batch=, or set batch_key.",
            NothingToCorrectWarning,
        )

    def _measure(self, rows: Rows, **extra: Any) -> BatchStatistics:
        if self._robust and rows.columns:
            raise BatchfixError(
                f"What is kept must be estimated by least squares, got location={self.location!r} and "
                f"scale={self.scale!r}. Use location='mean' and scale='std', or keep nothing."
            )
        return super()._measure(rows, **extra)

    def _reduce(self, rows: Rows, columns: Sequence[Column], z: np.ndarray, scale_where: Any = None) -> BatchStatistics:
        statistics = super()._reduce(rows, columns, z, scale_where)
        if not self._robust:
            return statistics
        groups = Groups.of(rows.first.codes, len(rows.first.values))
        location = grouped_median(rows.X, groups.order, groups.starts)
        scale = grouped_mad(rows.X, groups.order, groups.starts, center=location)
        return replace(statistics, robust=Frame(location, scale))

    def _frames(self, statistics: BatchStatistics, fit: LinearFit) -> tuple[Frame, Frame, Frame, dict[str, Any]]:
        reference = self._reference(statistics.batches)
        measured = self._measured(statistics, fit.location, fit.rss)
        flat = core.without_spread(measured, statistics.eps)
        scaled = np.ones(flat.shape[1], dtype=bool) if self.scale is None else self._may_scale(statistics)
        if self.scale is not None and len(fit.n) > 1:
            self._warn_flat(statistics, flat & scaled, fit.n)
        measured = Frame(measured.location, np.where(flat | ~scaled, np.nan, measured.scale))
        pooled = core.pooled_frame(measured, fit.n, statistics.moments.rows)
        target = pooled
        if reference is not None:
            target = core.filled(Frame(measured.location[reference], measured.scale[reference]), pooled)
        varies = ~np.isnan(measured.scale).all(axis=0)
        details = {"target": target, "varies": varies}
        source = self._source(measured, fit.n, target, varies)
        if reference is not None:
            source.location[reference], source.scale[reference] = target.location, target.scale
        details["frame"] = self._asked(source)
        return details["frame"], self._asked(target), self._asked(pooled), details

    def _measured(self, statistics: BatchStatistics, location: np.ndarray, rss: np.ndarray) -> Frame:
        """The measures that were asked for: median or mean, MAD or standard deviation."""
        n, robust = np.asarray(statistics.moments.x.n), statistics.robust
        scale = core.spread(rss, n)
        if robust is not None:
            location = robust.location if self.location == "median" else location
            scale = np.where(n > 1, robust.scale, np.nan) if self.scale == "mad" else scale
        return Frame(location, scale)

    def _new_frame(self, solution: Solution, new: NewBatch) -> tuple[Frame, dict[str, Any]]:
        target, varies = solution.details["target"], solution.details["varies"]
        measured = self._measured(new.statistics, new.location, new.rss)
        # a feature without spread in fit has no scale to be brought to
        flat = core.without_spread(measured, new.statistics.eps) | ~varies
        if self.scale is not None and not flat.all():
            flat = flat | ~self._may_scale_new(new.statistics)
        measured = Frame(measured.location, np.where(flat, np.nan, measured.scale))
        source = self._asked(self._source(measured, new.n, target, varies))
        return source, solution.details | {"frame": source}

    def _source(self, measured: Frame, n: np.ndarray, target: Frame, varies: np.ndarray) -> Frame:
        if self.shrinkage is None:
            return core.filled(measured, target)
        usable = (varies & ~np.isnan(measured.location)).sum(axis=1)
        if varies.any() and len(n) > 1 and usable.min() < 2:
            raise TooFewFeaturesError(
                "shrinkage='eb' learns from a batch's other features and must have at least two that vary, got "
                f"{int(usable.min())} in some batch. Use shrinkage=None."
            )
        if usable.min() < 2:
            return core.filled(measured, target)
        return core.shrunk(measured, n, target, varies, location_only=self.scale is None)

    def _asked(self, frame: Frame) -> Frame:
        """Location 0 or scale 1 for what is not corrected."""
        location = np.zeros_like(frame.location) if self.location is None else frame.location
        scale = np.ones_like(frame.scale) if self.scale is None else frame.scale
        return Frame(location, scale)

    @property
    def _unit(self) -> np.ndarray:
        scale = super()._unit
        return np.ones_like(scale) if self.target == "standard" else scale

    def _finish(self, maps: Affine, solution: Solution) -> Affine:
        if self.target == "pooled":
            return maps
        shape = maps.scale.shape
        standard = Affine.standardize(solution.target) @ maps
        return Affine(
            np.broadcast_to(standard.center, shape),
            np.broadcast_to(standard.scale, shape),
            np.broadcast_to(standard.shift, shape),
            standard.loading,
        )

    def _warn_flat(self, statistics: BatchStatistics, flat: np.ndarray, n: np.ndarray) -> None:
        alone = np.flatnonzero(statistics.moments.rows == 1)
        if len(alone):
            warn(
                f"{len(alone)} batch{'es have' if len(alone) > 1 else ' has'} one row, which has no spread: corrected "
                "in location only.",
                SingletonBatchWarning,
            )
        still = np.flatnonzero((flat & (n > 1)).any(axis=0))
        if len(still):
            warn_constant(still, self._feature, "constant within a batch: only located there, not scaled.")
