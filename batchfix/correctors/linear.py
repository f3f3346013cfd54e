"""LinearCorrector: subtract batch and nuisance effects of a linear model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral
from typing import Any, Self

import numpy as np

from ..core.affine import Affine, Frame
from ..core.design import Column, Factor, codes_of, repr_labels, slices
from ..core.least_squares import LinearFit
from ..core.statistics import BatchStatistics
from ..exceptions import BatchfixError, UnknownBatchError
from . import inputs
from .applying import NewBatch, Solution
from .base import BatchwiseCorrector, position_of
from .rows import Rows, names_in
from .tables import Key

REQUESTS = {"batch": True, "keep": True, "nuisance": True}


class LinearCorrector(BatchwiseCorrector):
    """Removal of batch and nuisance effects by least squares: limma's removeBatchEffect as an estimator.

        x = location_b + z_keep beta + z_nuisance theta + error
        x* = x - (location_b - mean of all batches' locations) - z_nuisance theta

    Batches weigh equally in the mean, however many rows they have, as in limma. With several batch factors each one's
    effects are taken about their own mean. Nuisance numbers are removed as they are, not about their mean (limma
    3.54's covariates). A row's kept values are needed in fit only.

    Parameters
    ----------
    nuisance_keys : list of str or int, optional
        Columns to remove besides batch, when not passed as `nuisance=`; found as keep_keys are.
    batch_key : str, int or list of them, optional
        Where the batch labels are; a list for several batch factors. `batch=` may likewise be (n, k).
    reference_batch : label, or tuple of k labels, optional
        Subtract from this batch's location instead of the mean; its rows stay as they are (but for nuisance).
    keep_keys, keep_factors, keep_numbers, keep_at_transform, keep_y, handle_unknown, copy
        See ComBat. keep_factors and keep_numbers speak of nuisance columns too. With several batch factors, "pooled"
        takes the effect of an unknown label alone for the average; the row's known labels' effects are removed.

    Attributes
    ----------
    batches_, batch_counts_, affine_, coef_, estimability_, moments_, statistics_, solution_
        See ComBat; `batches_` are those of the first factor, and the loading of `affine_` multiplies what is removed
        besides it: nuisance and further factors.

    References
    ----------
    Ritchie et al. 2015, Nucleic Acids Research 43, e47 (limma); removeBatchEffect, version 3.54.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[1.0], [3.0], [11.0], [13.0]])
    >>> LinearCorrector().fit_transform(X, batch=["a", "a", "b", "b"]).ravel().tolist()
    [6.0, 8.0, 6.0, 8.0]
    """

    __metadata_request__fit = REQUESTS
    __metadata_request__partial_fit = REQUESTS
    __metadata_request__transform = REQUESTS
    __metadata_request__inverse_transform = REQUESTS

    _parameter_constraints = BatchwiseCorrector._parameter_constraints | {
        "nuisance_keys": ["array-like", None],
        "batch_key": [str, Integral, "array-like", None],
    }

    def __init__(
        self,
        *,
        nuisance_keys: Sequence[Key] | None = None,
        batch_key: Key | Sequence[Key] | None = None,
        keep_keys: Sequence[Key] | None = None,
        keep_factors: Sequence[str] | None = None,
        keep_numbers: Sequence[str] | None = None,
        keep_at_transform: bool = True,
        keep_y: bool = False,
        reference_batch: Any = None,
        handle_unknown: str = "error",
        copy: bool = True,
    ) -> None:
        self.nuisance_keys = nuisance_keys
        self.batch_key = batch_key
        self.keep_keys = keep_keys
        self.keep_factors = keep_factors
        self.keep_numbers = keep_numbers
        self.keep_at_transform = keep_at_transform
        self.keep_y = keep_y
        self.reference_batch = reference_batch
        self.handle_unknown = handle_unknown
        self.copy = copy

    def fit(self, X: Any, y: Any = None, *, batch: Any = None, keep: Any = None, nuisance: Any = None) -> Self:
        """Learn the effects.

        Parameters
        ----------
        X : table (n samples, p features)
            NaN is missing.
        y : ignored, or the target to keep where `keep_y=True`
        batch : labels (n,) or (n, k), or one label for all rows
            One or several batch factors; or a table or a dict of columns, found again by name.
        keep : table or column of n values
            What must survive.
        nuisance : table or column of n values
            What must go besides batch. Text is a factor, floats are a number.

        Returns
        -------
        self
        """
        self._learn(X, y, {"batch": batch, "keep": keep, "nuisance": nuisance})
        return self

    def partial_fit(self, X: Any, y: Any = None, *, batch: Any = None, keep: Any = None, nuisance: Any = None) -> Self:
        """Add rows to what is known: the same as one fit on all rows, in any chunks. See `fit`."""
        self._learn(X, y, {"batch": batch, "keep": keep, "nuisance": nuisance}, add=True)
        return self

    def transform(self, X: Any, *, batch: Any = None, keep: Any = None, nuisance: Any = None) -> Any:
        """Correct rows of known batches; their nuisance must be given, what is kept need not be.

        Returns
        -------
        table (n, p)
            Of X's container, index and float dtype. NaN stays where it was.
        """
        return self._correct(X, {"batch": batch, "keep": keep, "nuisance": nuisance})

    def inverse_transform(self, X: Any, *, batch: Any = None, keep: Any = None, nuisance: Any = None) -> Any:
        """Put the removed effects back: the inverse of `transform`."""
        return self._correct(X, {"batch": batch, "keep": keep, "nuisance": nuisance}, inverse=True)

    def fit_transform(self, X: Any, y: Any = None, *, batch: Any = None, keep: Any = None, nuisance: Any = None) -> Any:
        """Fit, then transform the same rows."""
        return self._learn_and_correct(X, y, {"batch": batch, "keep": keep, "nuisance": nuisance})

    def adapt(self, X: Any, *, batch: Any = None, keep: Any = None, nuisance: Any = None) -> Self:
        """Learn the location of new batches from their own rows, everything known frozen."""
        return self._adapt(X, {"batch": batch, "keep": keep, "nuisance": nuisance})

    # ---- several batch factors, and nuisance

    def _keys(self) -> dict[str, list[Key]]:
        return super()._keys() | {"nuisance": names_in(self.nuisance_keys)}

    def _batch_labels(self, batch: list[np.ndarray] | None) -> list[inputs.Labels] | None:
        if batch is None:
            return None
        return [inputs.Labels.of(labels) for labels in batch]

    def _columns(
        self,
        found: dict[str, tuple[str, Any]],
        batch: list[np.ndarray] | None,
        *,
        reset: bool,
    ) -> dict[str, tuple[Column, np.ndarray]]:
        clash = [name for name in found if name.startswith("batch[")]
        if clash:
            raise BatchfixError(
                f"'batch[1]' and so on name further batch factors, got a column {clash[0]!r}. Rename it."
            )
        extra = {f"batch[{k}]": labels for k, labels in enumerate(batch or []) if k > 0}
        columns = super()._columns(found, batch, reset=reset)
        known = [] if reset else [c.name for c in self.statistics_.columns if c.role == "batch"]
        if not reset and known != list(extra):
            raise BatchfixError(
                f"batch must have as many factors as in fit ({len(known) + 1}), got {len(extra) + 1}. Pass all of them."
            )
        ordered = {
            name: (Factor(name, inputs.Labels.of(labels).values, "batch"), labels) for name, labels in extra.items()
        }
        return ordered | columns

    def _loads(self, columns: Sequence[Column]) -> np.ndarray:
        """What is removed enters the map; what is kept does not."""
        at = [np.arange(s.start, s.stop) for c, s in zip(columns, slices(columns), strict=True) if c.role != "keep"]
        return np.concatenate([np.zeros(0, dtype=int), *at])

    def _warn_unlabelled(self) -> None:
        if not self._removes:
            super()._warn_unlabelled()

    def _measure(self, rows: Rows, **extra: Any) -> BatchStatistics:
        self._removes = any(column.role != "keep" for column, _ in rows.columns.values())
        return super()._measure(rows, **extra)

    def _references(self, columns: Sequence[Column]) -> tuple[Any, ...]:
        count = 1 + sum(c.role == "batch" for c in columns)
        if self.reference_batch is None:
            return (None,) * count
        given = self.reference_batch if isinstance(self.reference_batch, tuple) else (self.reference_batch,)
        if len(given) != count:
            raise BatchfixError(
                f"reference_batch must name one label for each of the {count} batch factors, got {given!r}."
            )
        return tuple(given)

    @property
    def _first_reference(self) -> Any:
        several = isinstance(self.reference_batch, tuple) and len(self.reference_batch) > 0
        return self.reference_batch[0] if several else self.reference_batch

    # ---- estimation

    def _frames(self, statistics: BatchStatistics, fit: LinearFit) -> tuple[Frame, Frame, Frame, dict[str, Any]]:
        references = self._references(statistics.columns)
        seen = ~np.isnan(fit.location)
        mean = (np.where(seen, fit.location, 0.0) / np.maximum(seen.sum(axis=0), 1)).sum(axis=0)
        pooled = Frame(mean, np.ones_like(mean))
        target = pooled
        if references[0] is not None:
            own = fit.location[self._reference(statistics.batches)]
            target = Frame(np.where(np.isnan(own), mean, own), pooled.scale)
        source = Frame(np.where(seen, fit.location, target.location), np.ones_like(fit.location))
        origin = self._origin(statistics.columns, fit, references[1:])
        return source, target, pooled, {"origin": origin}

    def _origin(self, columns: Sequence[Column], fit: LinearFit, references: Sequence[Any]) -> np.ndarray:
        """What the removed columns' effects are taken about, as design values (q,).

        A number's about 0; a factor's about the mean of its levels' effects, or its reference's.
        """
        origin = fit.pivot.copy()
        waiting = list(references)
        for column, at in zip(columns, slices(columns), strict=True):
            if column.role == "keep":
                continue
            if isinstance(column, Factor):
                reference = waiting.pop(0) if column.role == "batch" else None
                origin[at] = 1.0 / column.width
                if reference is not None:
                    origin[at] = np.arange(column.width) == position_of(reference, column.levels)
            else:
                origin[at] = 0.0
        return origin

    def _finish(self, maps: Affine, solution: Solution) -> Affine:
        """Subtract the effects of what is removed: (z - origin) theta, with z about the pivot."""
        loads = solution.loads
        if not len(loads):
            return replace(maps, loading=None)
        theta = solution.fit.coef[loads] * solution.fit.estimable
        about = (solution.details["origin"] - solution.fit.pivot)[loads] @ theta
        loading = np.broadcast_to(-theta, (len(maps.scale), *theta.shape))
        return Affine(maps.center, maps.scale, maps.shift + about, loading)

    def _new_frame(self, solution: Solution, new: NewBatch) -> tuple[Frame, dict[str, Any]]:
        location = np.where(np.isnan(new.location), solution.target.location, new.location)
        return Frame(location, np.ones_like(location)), solution.details

    def _strangers(self, rows: Rows) -> np.ndarray:
        """Rows to make NaN for a new label of a further batch factor; "pooled" takes its effect for the average."""
        strange = super()._strangers(rows)
        for column in self.statistics_.columns:
            if column.role == "batch" and isinstance(column, Factor) and column.name in rows.columns:
                values = rows.columns[column.name][1]
                new = codes_of(values, column.levels) < 0
                if new.any() and self.handle_unknown in ("error", "adapt"):
                    raise UnknownBatchError(
                        f"{column.name} holds labels that were not seen in fit: "
                        f"{repr_labels(np.unique(values[new]))} (known: {repr_labels(column.levels)}). "
                        "Leave these rows out, fit with them, or set handle_unknown='pooled' or 'nan'."
                    )
                if self.handle_unknown == "nan":
                    strange |= new
        return strange

    def _encode(self, column: Column, values: np.ndarray) -> np.ndarray:
        """A new label of a further batch factor counts as the average level."""
        if column.role != "batch" or not isinstance(column, Factor):
            return super()._encode(column, values)
        codes = column.codes(values)
        z = np.asarray(codes[:, None] == np.arange(column.width), dtype=np.float64)
        z[codes < 0] = 1.0 / column.width
        return z
