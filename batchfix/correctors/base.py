"""The face of every correction with statistics per batch.

validate -> codes -> core -> wrap. A subclass says how a batch's frame and the common
frame are estimated (`_frames`); finding labels, adding statistics up, and applying the
affine map between frames is the same for all and is done here.
"""

from __future__ import annotations

import copy as copying
from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from sklearn.base import TransformerMixin
from sklearn.utils._param_validation import InvalidParameterError, StrOptions
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted

from ..core import naming
from ..core.affine import Affine, Frame
from ..core.design import Column, Factor, codes_of, encode, kept_of, repr_labels, slices
from ..core.estimability import check_estimable, nearly_redundant
from ..core.groups import Groups, group_moments
from ..core.least_squares import LinearFit, explained_by_batch, least_squares
from ..core.statistics import BatchStatistics
from ..exceptions import (
    BatchfixError,
    EstimabilityWarning,
    MergeError,
    NothingToCorrectWarning,
    TooFewSamplesError,
    UnknownBatchError,
)
from . import inputs
from .applying import MapApplier, NewBatch, Solution, leave
from .notices import warn, warn_about_rows, warn_about_scale, warn_one_batch
from .rows import Rows, names_in

UNKNOWN = ("error", "pooled", "nan", "adapt")

REQUESTS = {"batch": True, "keep": True}


class BatchwiseCorrector(TransformerMixin, MapApplier):
    """Common face of the correctors whose statistics are per batch."""

    # Routing is declared on the class, so that users need not call set_fit_request and the like.
    __metadata_request__fit = REQUESTS
    __metadata_request__partial_fit = REQUESTS
    __metadata_request__transform = REQUESTS
    __metadata_request__inverse_transform = REQUESTS

    reference_batch: Any

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "batch_key": [str, Integral, None],
        "keep_keys": ["array-like", None],
        "keep_factors": ["array-like", None],
        "keep_numbers": ["array-like", None],
        "keep_at_transform": ["boolean"],
        "keep_y": ["boolean"],
        "reference_batch": "no_validation",
        "handle_unknown": [StrOptions(set(UNKNOWN))],
        "copy": ["boolean"],
    }

    # ---- what a subclass estimates

    def _frames(self, statistics: BatchStatistics, fit: LinearFit) -> tuple[Frame, Frame, Frame, dict[str, Any]]:
        """Return the frames of the batches (B, p), of the target (p,) and of the pooled rows (p,)."""
        raise NotImplementedError  # every public corrector defines it

    def _new_frame(self, solution: Solution, new: NewBatch) -> tuple[Frame, dict[str, Any]]:
        """Return the frame (1, p) of a batch that fit did not see, and its details; all else stays as it is."""
        raise NotImplementedError  # every public corrector defines it

    def _check_parameters(self) -> None:
        try:
            self._validate_params()
        except InvalidParameterError as error:
            raise BatchfixError(str(error)) from error
        if np.ndim(self._first_reference) != 0:
            raise BatchfixError(f"reference_batch must be one label, got {self.reference_batch!r}.")
        for name in ("keep_keys", "nuisance_keys", "keep_factors", "keep_numbers"):
            value = getattr(self, name, None)
            if value is not None and not all(isinstance(v, str | int | np.integer) for v in value):
                raise BatchfixError(f"{name} must be a list of names, got {value!r}.")
        twice = set(names_in(self.keep_factors)) & set(names_in(self.keep_numbers))
        if twice:
            raise BatchfixError(f"A column must be a factor or a number, got {sorted(twice, key=str)} named as both.")

    def _finish(self, maps: Affine, solution: Solution) -> Affine:
        """Last say on the maps from batch frames to the target frame."""
        return maps

    # ---- the verbs

    def fit(self, X: Any, y: Any = None, *, batch: Any = None, keep: Any = None) -> Self:
        """Learn the batch effects.

        Parameters
        ----------
        X : table (n samples, p features)
            NaN is missing. DataFrame, polars DataFrame or anything numpy reads as numbers.
        y : ignored, or the target to keep where `keep_y=True`
        batch : labels (n,), or one label for all rows
            Aligned to X's index if it has an index.
        keep : table or column of n values
            What must survive. Text is a factor, floats are a number; see `keep_factors`.

        Returns
        -------
        self
        """
        self._learn(X, y, {"batch": batch, "keep": keep})
        return self

    def partial_fit(self, X: Any, y: Any = None, *, batch: Any = None, keep: Any = None) -> Self:
        """Add rows to what is known: the same as one fit on all rows, in any chunks.

        Parameters are those of `fit`. Batches and levels may be new. Estimates are made when they
        are next asked for.
        """
        self._learn(X, y, {"batch": batch, "keep": keep}, add=True)
        return self

    def transform(self, X: Any, *, batch: Any = None, keep: Any = None) -> Any:
        """Correct rows of known batches (see `handle_unknown` for others).

        Parameters
        ----------
        X : table (n, p)
        batch : labels (n,), or one label for all rows
        keep : as in fit; needed where the map depends on it (see `keep_at_transform`)

        Returns
        -------
        table (n, p)
            Of X's container, index and float dtype. NaN stays where it was.
        """
        return self._correct(X, {"batch": batch, "keep": keep})

    def inverse_transform(self, X: Any, *, batch: Any = None, keep: Any = None) -> Any:
        """Put the batch effects back: the inverse of `transform`, of the same parameters.

        X has the corrected features only (no key columns).
        """
        return self._correct(X, {"batch": batch, "keep": keep}, inverse=True)

    def fit_transform(self, X: Any, y: Any = None, *, batch: Any = None, keep: Any = None) -> Any:
        """Fit, then transform the same rows."""
        return self._learn_and_correct(X, y, {"batch": batch, "keep": keep})

    def adapt(self, X: Any, *, batch: Any = None, keep: Any = None) -> Self:
        """Learn new batches from their own rows, everything known frozen.

        The location and scale of a new batch are estimated against the frozen model and shrunk as in
        fit (as iComBat does; Wang 2025). One row gives a location only.

        Returns
        -------
        corrector
            A new one that knows these batches too. This one is unchanged.

        Raises
        ------
        BatchfixError
            A batch is known already: use `partial_fit`.
        """
        return self._adapt(X, {"batch": batch, "keep": keep})

    def merge(self, other: Self) -> Self:
        """Return a new corrector, fitted as if to the rows of both; neither needs to see the other's rows.

        Raises
        ------
        MergeError
            Other class, parameters or features, or statistics that do not add up.
        """
        check_is_fitted(self)
        if type(other) is not type(self):
            raise MergeError(f"Only two of a kind merge, got {type(self).__name__} and {type(other).__name__}.")
        check_is_fitted(other)
        mine, theirs = self.get_params(deep=False), other.get_params(deep=False)
        differ = [k for k in mine if not _same(mine[k], theirs[k])]
        if differ:
            k = differ[0]
            raise MergeError(f"Both correctors must have equal parameters, got {k}={mine[k]!r} and {theirs[k]!r}.")
        names, their_names = (getattr(each, "feature_names_in_", None) for each in (self, other))
        if (names is None) != (their_names is None):
            with_names, without = ("this", "the other") if their_names is None else ("the other", "this")
            raise MergeError(
                f"Both correctors must have the same features in the same order, got names of columns in {with_names} "
                f"one and none in {without} one. Fit both with DataFrames, or both with arrays."
            )
        if self.n_features_in_ != other.n_features_in_ or not _same(names, their_names):
            counts = f"{self.n_features_in_} and {other.n_features_in_} of them"
            raise MergeError(
                "Both correctors must have the same features in the same order, got "
                f"{_difference(names, their_names, counts)}. Fit both to tables of the same columns, table[names]."
            )
        numbered = self._numbered or other._numbered
        if numbered != (other._numbered or numbered):
            raise MergeError(
                "Both correctors must have the same features in the same order, got columns "
                f"{naming.some(self._numbered or ())} and {naming.some(other._numbered or ())}."
            )
        mine, theirs = self._batch_names, other._batch_names
        if mine != theirs and len(mine) > 1 and len(theirs) > 1:
            raise MergeError(f"Both correctors must have the same batch factors in one order, got {mine} and {theirs}.")
        self._refuse_adapted("merge")
        other._refuse_adapted("merge")
        self._check_same_labelling(other._labelled)
        merged = copying.copy(self)
        merged._batch_names, merged._numbered = mine or theirs, numbered
        merged.statistics_ = self.statistics_ + other.statistics_
        merged._solution = None
        return merged

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the corrected features: those of X without the columns that keys consumed."""
        check_is_fitted(self)
        names = _check_feature_names_in(self, input_features)
        return np.asarray(names, dtype=object)[self._features]

    # ---- fitted state worth reading

    @property
    def solution_(self) -> Solution:
        """Finished estimates, made from `statistics_` when first asked for: frames, fitted model and maps."""
        check_is_fitted(self)
        if self._solution is None:
            self._solution = self._solve(self.statistics_)
        return self._solution

    @property
    def batches_(self) -> np.ndarray:
        """Sorted labels of the batches, those that `adapt` added last."""
        check_is_fitted(self)
        return np.asarray(self._all("batches"))

    @property
    def batch_counts_(self) -> dict[Any, int]:
        """Rows that each batch was fitted to."""
        check_is_fitted(self)
        rows = self.statistics_.moments.rows
        return {_plain(b): int(n) for b, n in zip(self.statistics_.batches, rows, strict=True)}

    @property
    def moments_(self) -> Any:
        """CoMoments by batch: counts, means, centred sums of squares and products."""
        check_is_fitted(self)
        return self.statistics_.moments

    @property
    def affine_(self) -> Affine:
        """The map of each batch and feature, arrays (B, p): (x - center) * scale + shift (+ z loading).

        z are a row's design columns that the map depends on, as in `coef_`: numbers as they are and factors one-hot,
        each less its training mean.
        """
        return self._maps()

    @property
    def coef_(self) -> np.ndarray:
        """Effects (q, p) of the kept (and nuisance) columns, within batches."""
        return self.solution_.fit.coef

    @property
    def estimability_(self) -> dict[str, Any]:
        """What the design allows.

        Its rank, the residual degrees of freedom, the features that cannot be estimated, and the share of each design
        column's variance that lies between batches (rho2).
        """
        solution = self.solution_
        moments = self.statistics_.moments
        names = [
            f"{c.name}={_plain(level)}" if isinstance(c, Factor) else c.name
            for c in self.statistics_.columns
            for level in (c.levels if isinstance(c, Factor) else [0])
        ]
        return {
            "rank": solution.fit.rank,
            "residual_degrees_of_freedom": int(moments.rows.sum()) - len(moments.rows) - solution.fit.rank,
            "explained_by_batch": dict(zip(names, explained_by_batch(moments).tolist(), strict=True)),
            "not_estimable": np.flatnonzero(~solution.fit.estimable),
        }

    # ---- learning

    def _learn(self, X: Any, y: Any, labels: dict[str, Any], *, add: bool = False, **extra: Any) -> Rows:
        """Fit or add; whatever goes wrong, what was known before stays."""
        before = dict(vars(self))
        try:
            return self._learn_rows(X, y, labels, add=add, **extra)
        except BaseException:
            self.__dict__ = before
            raise

    def _learn_rows(self, X: Any, y: Any, labels: dict[str, Any], *, add: bool, **extra: Any) -> Rows:
        self._check_parameters()
        more = add and hasattr(self, "statistics_")
        if more:
            self._refuse_adapted("partial_fit")
        rows = self._resolve(X, y, labels, reset=not more)
        labelled = rows.batch is not None
        if more:
            self._check_same_labelling(labelled)
        statistics = self._measure(rows, **extra)
        if more:
            statistics = self.statistics_ + statistics
        if not labelled and not more:
            self._warn_unlabelled()
        if not more:
            warn_about_scale(rows.X, len(statistics.batches), first_chunk=add)
        self.statistics_, self._labelled = statistics, labelled
        self._solution, self._adapted = None, ()
        if not add:
            self._solution = self._solve(statistics)
        return rows

    def _warn_unlabelled(self) -> None:
        warn(
            f"{type(self).__name__} was fitted without batch labels: nothing can be corrected between batches. "
            "Pass batch=, or set batch_key.",
            NothingToCorrectWarning,
        )

    def _measure(self, rows: Rows, **extra: Any) -> BatchStatistics:
        """Reduce rows to what adds up."""
        columns = tuple(column for column, _ in rows.columns.values())
        return self._reduce(rows, columns, _design(rows), **extra)

    def _reduce(self, rows: Rows, columns: Sequence[Column], z: np.ndarray) -> BatchStatistics:
        """Reduce rows whose design (n, q) is known, those of fit as those of a new batch."""
        first = rows.first
        moments = group_moments(rows.X, Groups.of(first.codes, len(first.values)), z)
        return BatchStatistics(first.values, tuple(columns), moments, float(np.finfo(rows.X.dtype).eps))

    def _solve(self, statistics: BatchStatistics) -> Solution:
        """Finish the estimates."""
        if self._labelled and len(statistics.batches) == 1:
            warn_one_batch(statistics.batches[0])
        check_estimable(statistics)
        _check_rows(statistics)
        self._reference(statistics.batches)
        fit = self._fitted(statistics)
        warn_about_rows(statistics, fit, self._feature)
        source, target, pooled, details = self._frames(statistics, fit)
        stay = ~fit.estimable
        if stay.any():
            source, target, pooled = (leave(frame, stay) for frame in (source, target, pooled))
        loads = self._loads(statistics.columns)
        nothing = Affine.identity()
        solution = Solution(statistics.batches, target, pooled, fit, nothing, nothing, loads, details)
        solution = replace(
            solution,
            maps=self._map(solution, source),
            unknown=self._map(solution, Frame(pooled.location[None], pooled.scale[None])),
        )
        if solution.maps.loading is None:
            solution = replace(solution, loads=np.zeros(0, dtype=int))
        return solution

    def _fitted(self, statistics: BatchStatistics) -> LinearFit:
        """Least squares on the moments."""
        close = nearly_redundant(statistics)
        if close:
            warn(
                f"The columns {', '.join(close)} are nearly collinear: what tells them apart varies too little to be "
                "estimated and is left out of the model. Centre a number before taking its powers, or give fewer.",
                EstimabilityWarning,
            )
        return least_squares(statistics.moments, kept_of(statistics.columns), statistics.eps)

    def _loads(self, columns: Sequence[Column]) -> np.ndarray:
        """Design columns that a row's own values of may enter its map."""
        at = [
            np.arange(s.start, s.stop)
            for c, s in zip(columns, slices(columns), strict=True)
            if self.keep_at_transform and not (self.keep_y and c.name == "y")
        ]
        return np.concatenate([np.zeros(0, dtype=int), *at])

    def _map(self, solution: Solution, source: Frame) -> Affine:
        """Maps from batch frames (B, p) to the target, with a loading only if it does something."""
        target = solution.target
        shape = source.location.shape
        coef = solution.fit.coef[solution.loads] * solution.fit.estimable
        # a frame equal to the target leaves its rows bit for bit as they are
        same = (source.location == target.location) & (source.scale == target.scale)
        center, shift = source.location, np.broadcast_to(target.location, shape)
        if same.any():
            center, shift = np.where(same, 0.0, center), np.where(same, 0.0, shift)
        maps = Affine.move(source, target, coef=coef if len(coef) else None)
        if maps.loading is not None:  # the loading speaks of z about the pivot, the frames of z about the feature's own
            moved = (solution.fit.feature_pivot - solution.fit.pivot[:, None])[solution.loads]
            shift = shift - np.sum(moved * maps.loading, axis=1)
        maps = Affine(center, maps.scale, shift, maps.loading)
        maps = self._finish(maps, solution)
        if maps.loading is not None and not maps.loading.any():
            maps = replace(maps, loading=None)
        return maps

    @property
    def _first_reference(self) -> Any:
        """The reference among the labels that group the rows."""
        return self.reference_batch

    def _reference(self, batches: np.ndarray) -> int | None:
        """Position of the reference batch."""
        if self._first_reference is None:
            return None
        return position_of(self._first_reference, batches)

    def _check_same_labelling(self, labelled: bool) -> None:
        if labelled != self._labelled:
            raise MergeError("All rows must have batch labels, or none: got some with and some without.")

    def _refuse_adapted(self, verb: str) -> None:
        if self._adapted:
            raise MergeError(
                f"{verb} wants a corrector as it was fitted, got one that adapt() extended with "
                f"{repr_labels(self._adapted[-1].batches)}. Call {verb} before adapt, or fit with those rows."
            )

    def __sklearn_tags__(self) -> Any:
        """Declare that NaN is allowed and float32 is kept."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _design(rows: Rows) -> np.ndarray:
    """Design columns (n, q) of rows."""
    columns = [column for column, _ in rows.columns.values()]
    return encode(columns, {name: values for name, (_, values) in rows.columns.items()}, len(rows.X))


def position_of(label: Any, labels: np.ndarray) -> int:
    """Where a reference stands among sorted labels."""
    one = np.empty(1, dtype=object)
    one[0] = label
    at = int(codes_of(inputs.as_labels(one, "reference_batch"), labels)[0])
    if at < 0:
        raise UnknownBatchError(
            f"reference_batch must be one of the batches in fit {repr_labels(labels)}, got {label!r}."
        )
    return at


def _check_rows(statistics: BatchStatistics) -> None:
    rows = statistics.moments.rows
    if len(rows) > 1 and rows.max() == 1:
        raise TooFewSamplesError(
            f"Some batch must have at least two rows, got {len(rows)} batches of one row each. "
            "Check that batch holds batches and not sample ids."
        )


def _plain(label: Any) -> Any:
    return label.item() if isinstance(label, np.generic) else label


def _difference(names: Any, theirs: Any, counts: str) -> str:
    """How the features of one corrector, by name if they have names, differ from those of another."""
    if names is None:
        return counts
    known = set(names), set(theirs)
    lost, more = [c for c in names if c not in known[1]], [c for c in theirs if c not in known[0]]
    if lost or more or len(names) != len(theirs):
        only = [f"{naming.some(each)} in {who} one only" for each, who in ((lost, "this"), (more, "the other")) if each]
        return f"{counts}{': ' if only else ''}{', '.join(only)}"
    first = next(k for k, (a, b) in enumerate(zip(names, theirs, strict=True)) if a != b)
    return f"another order: column {first} is {names[first]!r} in this one and {theirs[first]!r} in the other one"


def _same(a: Any, b: Any) -> bool:
    listed = np.ndarray | pd.Index | pd.Series | list | tuple
    if isinstance(a, listed) or isinstance(b, listed):  # an array and None compare to an array
        both = isinstance(a, listed) and isinstance(b, listed)
        return both and len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a is b or a == b)
