"""The face of every correction with statistics per batch.

validate -> codes -> core -> wrap. A subclass says how a batch's frame and the common
frame are estimated (`_frames`); finding labels, adding statistics up, and applying the
affine map between frames is the same for all and is done here.
"""

from __future__ import annotations

import copy as copying
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils._set_output import _get_output_config
from sklearn.utils.validation import (
    _check_feature_names_in,
    check_array,
    check_is_fitted,
    validate_data,
)

from ..core.affine import Affine, Frame
from ..core.design import (
    BatchStatistics,
    Column,
    Factor,
    LinearFit,
    check_estimable,
    codes_of,
    encode,
    explained_by_batch,
    least_squares,
    repr_label,
    repr_labels,
    slices,
)
from ..core.groups import Groups, apply_groups, check_no_infinity, group_moments
from ..core.symmetry import asymmetric_scale
from ..exceptions import (
    AdaptationWarning,
    BatchfixError,
    ConstantFeatureWarning,
    CopyWarning,
    DataScaleWarning,
    EstimabilityWarning,
    MergeError,
    MissingFeatureWarning,
    MissingLabelError,
    NothingToCorrectWarning,
    TooFewSamplesError,
    UnknownBatchError,
)
from . import inputs

UNKNOWN = ("error", "pooled", "nan", "adapt")
FEW_ROWS = 10
"""A new batch of fewer rows than this is adapted with a warning."""

REQUESTS = {"batch": True, "keep": True}


@dataclass(frozen=True)
class Rows:
    """A table once its labels are found: plain arrays, and what to give back."""

    X: np.ndarray
    batch: list[inputs.Labels] | None
    columns: dict[str, tuple[Column, np.ndarray]]
    raw: dict[str, Any]
    source: Any

    @property
    def first(self) -> inputs.Labels:
        """Batch labels, or one label for all rows where there are none."""
        if self.batch is None:
            return inputs.Labels(np.zeros(len(self.X), dtype=np.intp), np.array(["all rows"]))
        return self.batch[0]


@dataclass(frozen=True)
class Solution:
    """Finished estimates: a frame for each batch, the common frame, the maps between them."""

    batches: np.ndarray
    source: Frame
    target: Frame
    pooled: Frame
    fit: LinearFit
    maps: Affine
    unknown: Affine
    loads: np.ndarray
    details: dict[str, Any]


class BatchwiseCorrector(TransformerMixin, BaseEstimator):
    """Common face of the correctors whose statistics are per batch."""

    # Routing is declared on the class, so that users need not call set_fit_request and the like.
    __metadata_request__fit = REQUESTS
    __metadata_request__partial_fit = REQUESTS
    __metadata_request__transform = REQUESTS
    __metadata_request__inverse_transform = REQUESTS

    batch_key: inputs.Key | None
    keep_keys: Sequence[inputs.Key] | None
    keep_factors: Sequence[str] | None
    keep_numbers: Sequence[str] | None
    keep_at_transform: bool
    keep_y: bool
    reference_batch: Any
    handle_unknown: str
    copy: bool

    statistics_: BatchStatistics
    _solution: Solution | None
    _adapted: tuple[Solution, ...]

    # ---- what a subclass estimates

    def _frames(self, statistics: BatchStatistics, fit: LinearFit) -> tuple[Frame, Frame, Frame, dict[str, Any]]:
        """Return the frames of the batches (B, p), of the target (p,) and of the pooled rows (p,)."""
        raise NotImplementedError  # every public corrector defines it

    def _new_frame(
        self, solution: Solution, n: np.ndarray, rows: int, location: np.ndarray, rss: np.ndarray
    ) -> tuple[Frame, dict[str, Any]]:
        """Return the frame (1, p) of a batch that fit did not see, and its details; all else stays as it is."""
        raise NotImplementedError  # every public corrector defines it

    def _check_parameters(self) -> None:
        if self.handle_unknown not in UNKNOWN:
            raise BatchfixError(f"handle_unknown must be one of {UNKNOWN}, got {self.handle_unknown!r}.")

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
        if self.n_features_in_ != other.n_features_in_ or not _same(
            getattr(self, "feature_names_in_", None), getattr(other, "feature_names_in_", None)
        ):
            raise MergeError(
                f"Both correctors must have the same features in the same order, got {self.n_features_in_} and "
                f"{other.n_features_in_} of them"
                f"{'' if self.n_features_in_ != other.n_features_in_ else ' under different names'}."
            )
        self._refuse_adapted("merge")
        other._refuse_adapted("merge")
        self._check_same_labelling(other._labelled)
        merged = copying.copy(self)
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
        """Finished estimates, made from `statistics_` when first asked for."""
        check_is_fitted(self)
        if self._solution is None:
            self._solution = self._solve(self.statistics_)
        return self._solution

    @property
    def batches_(self) -> np.ndarray:
        """Sorted labels of the batches, those that `adapt` added last."""
        check_is_fitted(self)
        return self._all("batches")

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
        """The map of each batch and feature, arrays (B, p): (x - center) * scale + shift (+ z loading)."""
        return self._maps()

    @property
    def coef_(self) -> np.ndarray:
        """Effects (q, p) of the kept (and nuisance) columns, within batches."""
        return self.solution_.fit.coef

    @property
    def estimability_(self) -> dict[str, Any]:
        """What the design allows: rank, residual degrees of freedom, features that stay as they are, and
        the share of each design column's variance that lies between batches (rho2).
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
        self.statistics_, self._labelled = statistics, labelled
        self._solution, self._adapted = None, ()
        if not add:
            _warn_about_scale(rows.X, len(statistics.batches))
            self._solution = self._solve(statistics)
        return rows

    def _warn_unlabelled(self) -> None:
        warnings.warn(
            f"{type(self).__name__} was fitted without batch labels: nothing can be corrected between batches. "
            "Pass batch=, or set batch_key.",
            NothingToCorrectWarning,
            stacklevel=4,
        )

    def _measure(self, rows: Rows, **extra: Any) -> BatchStatistics:
        """Reduce rows to what adds up."""
        first = rows.first
        columns = tuple(column for column, _ in rows.columns.values())
        z = encode(columns, {name: v for name, (_, v) in rows.columns.items()}, len(rows.X))
        moments = group_moments(rows.X, Groups.of(first.codes, len(first.values)), z)
        eps = float(np.finfo(rows.X.dtype).eps)
        return BatchStatistics(first.values, columns, moments, eps)

    def _solve(self, statistics: BatchStatistics) -> Solution:
        check_estimable(statistics)
        self._reference(statistics.batches)
        fit = least_squares(statistics.moments)
        _warn_about_rows(statistics, fit)
        source, target, pooled, details = self._frames(statistics, fit)
        stay = ~fit.estimable
        if stay.any():
            source, target, pooled = (_leave(frame, stay) for frame in (source, target, pooled))
        loads = self._loads(statistics.columns)
        nothing = Affine.identity()
        solution = Solution(
            statistics.batches, source, target, pooled, fit, nothing, nothing, loads, details
        )
        solution = replace(
            solution,
            maps=self._map(solution, source),
            unknown=self._map(solution, Frame(pooled.location[None], pooled.scale[None])),
        )
        if solution.maps.loading is None:
            solution = replace(solution, loads=np.zeros(0, dtype=int))
        return solution

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
        center = np.where(same, 0.0, source.location)
        shift = np.where(same, 0.0, np.broadcast_to(target.location, shape))
        maps = Affine.move(source, target, coef=coef if len(coef) else None)
        maps = Affine(center, maps.scale, shift, maps.loading)
        maps = self._finish(maps, solution)
        if maps.loading is not None and not maps.loading.any():
            maps = replace(maps, loading=None)
        return maps

    def _reference(self, batches: np.ndarray) -> int | None:
        """Position of the reference batch."""
        if self.reference_batch is None:
            return None
        at = int(codes_of(inputs.as_labels(np.array([self.reference_batch]), "reference_batch"), batches)[0])
        if at < 0:
            raise UnknownBatchError(
                f"reference_batch must be one of the batches in fit {repr_labels(batches)}, "
                f"got {self.reference_batch!r}."
            )
        return at

    def _check_same_labelling(self, labelled: bool) -> None:
        if labelled != self._labelled:
            raise MergeError("All rows must have batch labels, or none: got some with and some without.")

    def _refuse_adapted(self, verb: str) -> None:
        if self._adapted:
            raise MergeError(
                f"{verb} wants a corrector as it was fitted, got one that adapt() extended with "
                f"{repr_labels(self._adapted[-1].batches)}. Call {verb} before adapt, or fit with those rows."
            )

    # ---- a new batch

    def _adapt(self, X: Any, labels: dict[str, Any]) -> Self:
        check_is_fitted(self)
        rows = self._resolve(X, None, labels, reset=False, partial_keep=True)
        if not self._labelled:
            raise UnknownBatchError(
                "adapt() adds a batch to a corrector that was fitted with batches, got one fitted without. "
                "Fit again with batch=."
            )
        if rows.batch is None:
            raise MissingLabelError("adapt() must be told the new batch's label, got batch=None.")
        known = np.isin(rows.first.values, self.batches_) if len(rows.first.values) else np.zeros(0, bool)
        if known.any():
            raise BatchfixError(
                f"adapt() learns batches that fit did not see, got {repr_labels(rows.first.values[known])}. "
                "To add rows to a known batch use partial_fit()."
            )
        new = copying.copy(self)
        new._solution = self.solution_
        new._adapted = (*self._adapted, *self._learn_new(rows))
        return new

    def _learn_new(self, rows: Rows) -> list[Solution]:
        """One-batch solutions against the frozen model."""
        solution = self.solution_
        columns = self.statistics_.columns
        wanted = [c for c in columns if c.name != "y" or not self.keep_y]
        given = all(c.name in rows.columns for c in columns)
        if columns and not given:
            lost = [c.name for c in columns if c.name not in rows.columns]
            if lost != [c.name for c in wanted if c.name not in rows.columns] or lost:
                warnings.warn(
                    f"A new batch is learned without {lost}, which fit kept: a difference in composition is taken "
                    "for a batch effect. Pass them if they are known.",
                    AdaptationWarning,
                    stacklevel=4,
                )
        z = np.zeros((len(rows.X), sum(c.width for c in columns)))
        if given:
            z = encode(columns, {c.name: rows.columns[c.name][1] for c in columns}, len(rows.X))
        groups = Groups.of(rows.first.codes, len(rows.first.values))
        learned = []
        for k, label in enumerate(rows.first.values):
            at = groups.rows(k)
            if len(at) < FEW_ROWS:
                warnings.warn(
                    f"Batch {repr_label(label)} is learned from {len(at)} row{'s' if len(at) > 1 else ''}"
                    f"{': its location only' if len(at) == 1 else ''}. Ten or more are better.",
                    AdaptationWarning,
                    stacklevel=4,
                )
            n, location, rss = self._observe(rows.X[at], z[at], solution, about=given)
            source, details = self._new_frame(solution, n, len(at), location, rss)
            if not solution.fit.estimable.all():
                source = _leave(source, ~solution.fit.estimable)
            maps = self._map(replace(solution, loads=self._loads(columns)), source)
            if maps.loading is None and solution.maps.loading is not None:
                maps = replace(maps, loading=np.zeros((1, len(solution.loads), n.shape[1])))
            label = rows.first.values[k : k + 1]
            learned.append(replace(solution, batches=label, source=source, maps=maps, details=details))
        return learned

    def _observe(
        self, X: np.ndarray, z: np.ndarray, solution: Solution, *, about: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Counts, location at the pivot and residual squares (1, p) of the rows of one new batch."""
        moments = group_moments(X, Groups.of(np.zeros(len(X), dtype=int), 1), z)
        location, rss = solution.fit.residuals(moments, about)
        return moments.x.n, np.where(moments.x.n > 0, location, np.nan), rss

    # ---- applying

    def _all(self, name: str) -> Any:
        """Join what fit knows with what adapt added, along the batch axis."""
        first = self.statistics_.batches if name == "batches" else getattr(self.solution_, name)
        parts = [first, *(getattr(s, name) for s in self._adapted)]
        return np.concatenate(parts) if len(parts) > 1 else first

    def _maps(self) -> Affine:
        parts = [self.solution_.maps, *(s.maps for s in self._adapted)]
        return _join(parts) if len(parts) > 1 else parts[0]

    def _learn_and_correct(self, X: Any, y: Any, labels: dict[str, Any], **extra: Any) -> Any:
        rows = self._learn(X, y, labels, **extra)
        return self._wrap(self._apply(rows, checked=True), rows.source)

    def _correct(self, X: Any, labels: dict[str, Any], *, inverse: bool = False) -> Any:
        check_is_fitted(self)
        rows = self._resolve(X, None, labels, reset=False, inverse=inverse)
        return self._wrap(self._apply(rows, inverse=inverse), rows.source)

    def _apply(self, rows: Rows, *, inverse: bool = False, checked: bool = False) -> np.ndarray:
        if self._labelled and rows.batch is None:
            raise MissingLabelError(
                f"{type(self).__name__} was fitted with batch labels and must be told those of these rows, got "
                "batch=None. Pass batch=, or set batch_key."
            )
        if not self._labelled and rows.batch is not None:
            raise UnknownBatchError(
                f"{type(self).__name__} was fitted without batch labels, got some now. Fit again with batch=."
            )
        maps, codes = self._maps_for(rows, inverse=inverse)
        z = self._z_for(rows, maps)
        if inverse:
            maps = maps.inverse()
        out = self._output_for(rows, checked=checked)
        apply_groups(rows.X, Groups.of(codes, len(maps.scale)), maps, z, out)
        return out

    def _maps_for(self, rows: Rows, *, inverse: bool) -> tuple[Affine, np.ndarray]:
        """One map a batch, and the code of each row's; unknown batches get one as handle_unknown says."""
        maps, known = self._maps(), self.batches_
        order = np.argsort(known, kind="stable")
        at = codes_of(rows.first.values, known[order])
        at = np.where(at >= 0, order[at], -1)
        codes = at[rows.first.codes]
        strange = self._strangers(rows) | (codes < 0)
        if not strange.any():
            return maps, codes
        labels = rows.first.values[np.unique(rows.first.codes[strange])]
        if self.handle_unknown == "error" or (self.handle_unknown == "adapt" and inverse):
            raise UnknownBatchError(
                f"Batch {', '.join(repr_label(v) for v in labels[:5])} was not seen in fit "
                f"(known: {', '.join(repr_label(v) for v in known[:8])}{', ...' if len(known) > 8 else ''}). "
                "Call adapt() with its samples, or set handle_unknown='pooled', 'nan' or 'adapt'."
            )
        codes = np.where(strange, len(maps.scale), codes)
        if self.handle_unknown == "adapt":
            return self._adapt_on_the_fly(rows, strange, maps, codes)
        extra = self.solution_.unknown
        if self.handle_unknown == "nan":
            extra = replace(extra, scale=np.full_like(extra.scale, np.nan))
        return _join([maps, extra]), codes

    def _strangers(self, rows: Rows) -> np.ndarray:
        """Rows that are strangers for another reason than their first batch label."""
        return np.zeros(len(rows.X), dtype=bool)

    def _adapt_on_the_fly(
        self, rows: Rows, strange: np.ndarray, maps: Affine, codes: np.ndarray
    ) -> tuple[Affine, np.ndarray]:
        where = np.flatnonzero(strange)
        labels = rows.first.values[rows.first.codes[where]]
        first = inputs.Labels.of(labels)
        counts = np.bincount(first.codes)
        if counts.min() == 1:
            alone = first.values[int(np.argmin(counts))]
            raise TooFewSamplesError(
                f"handle_unknown='adapt' must be given two or more rows of a new batch, got 1 of "
                f"{repr_label(alone)}. Collect more rows, call adapt(), or set handle_unknown='pooled'."
            )
        part = replace(
            rows,
            X=rows.X[where],
            batch=[first],
            columns={k: (c, v[where]) for k, (c, v) in rows.columns.items()},
        )
        codes = codes.copy()
        codes[where] = len(maps.scale) + first.codes
        return _join([maps, *(s.maps for s in self._learn_new(part))]), codes

    def _z_for(self, rows: Rows, maps: Affine) -> np.ndarray:
        """What the loading multiplies: design columns about the pivot."""
        if maps.loading is None:
            return np.zeros((len(rows.X), 0))
        columns, loads = self.statistics_.columns, self.solution_.loads
        if not len(loads):
            loads = self._loads(columns)
        z = np.zeros((len(rows.X), sum(c.width for c in columns)))
        for column, at in zip(columns, slices(columns), strict=True):
            if not np.isin(np.arange(at.start, at.stop), loads).any():
                continue
            if column.name not in rows.columns:
                raise MissingLabelError(
                    f"The correction of a row depends on its {column.name!r}, which these rows lack. Pass it as in "
                    "fit, or set keep_at_transform=False so that it is needed in fit only."
                )
            z[:, at] = self._encode(column, rows.columns[column.name][1])
        return (z - self.solution_.fit.pivot)[:, loads]

    def _encode(self, column: Column, values: np.ndarray) -> np.ndarray:
        return column.encode(values)

    def _output_for(self, rows: Rows, *, checked: bool) -> np.ndarray:
        if self.copy:
            return np.empty(rows.X.shape, dtype=rows.X.dtype)
        why = ""
        if not isinstance(rows.source, np.ndarray):
            why = f"X is a {type(rows.source).__name__}"
        elif rows.source.dtype != rows.X.dtype or not np.shares_memory(rows.source, rows.X):
            why = f"X has dtype {rows.source.dtype} or columns that are consumed"
        elif not rows.X.flags.writeable:
            why = "X is read-only"
        if why:
            warnings.warn(
                f"copy=False must be given a writable float32 or float64 ndarray, but {why}: "
                "X is unchanged, and the result is a new array.",
                CopyWarning,
                stacklevel=5,
            )
            return np.empty(rows.X.shape, dtype=rows.X.dtype)
        if not checked:
            check_no_infinity(rows.X)
        return rows.X

    def _wrap(self, out: np.ndarray, source: Any) -> Any:
        """Give back the caller's kind of table, unless set_output asked for another."""
        if _get_output_config("transform", self)["dense"] != "default":
            return out
        if isinstance(source, pd.DataFrame):
            return pd.DataFrame(out, index=source.index, columns=self._names_of(source), copy=False)
        if inputs.is_polars(source):
            return type(source)(out, schema=list(self._names_of(source)), orient="row")
        return out

    def _names_of(self, source: Any) -> Any:
        return [c for c in source.columns if c not in self._consumed]

    # ---- finding labels

    def _keys(self) -> dict[str, list[inputs.Key]]:
        """Keys by what they name."""
        batch = [] if self.batch_key is None else [self.batch_key]
        return {"batch": batch, "keep": list(self.keep_keys or [])}

    def _resolve(
        self,
        X: Any,
        y: Any,
        labels: dict[str, Any],
        *,
        reset: bool,
        inverse: bool = False,
        partial_keep: bool = False,
    ) -> Rows:
        """Find the labels of the rows, align them, and turn the rest of X into floats."""
        keys = self._keys()
        for what, named in keys.items():
            if named and labels.get(what) is not None:
                raise BatchfixError(
                    f"{what} must come from the argument or from {what}_key{'s' if what != 'batch' else ''}, got "
                    f"both ({named!r}). Drop one."
                )
        source = X
        flat = [key for named in keys.values() for key in named]
        optional = [] if reset else [k for what in keys if what != "batch" for k in keys[what]]
        if inverse and flat:
            X, taken = self._take_for_inverse(X, flat)
        else:
            X, taken = inputs.take_keys(X, flat, optional)
        index = source.index if isinstance(source, pd.DataFrame) else None
        values = self._validate(source, X, flat, reset=reset)
        n = len(values)
        batch = labels.get("batch")
        if keys["batch"] and all(k in taken for k in keys["batch"]):
            batch = [inputs.as_labels(taken[k], f"{k!r}") for k in keys["batch"]]
        elif batch is not None:
            batch = inputs.as_batch(batch, index, n)
        found: dict[str, tuple[str, Any]] = {}
        for what in keys:
            if what == "batch":
                continue
            named = {str(k): taken[k] for k in keys[what] if k in taken}
            named |= inputs.as_columns(labels.get(what), index, n, what)
            for name, column in named.items():
                if name in found:
                    raise BatchfixError(f"Column {name!r} must be kept or removed, got both.")
                found[name] = (what, column)
        columns = self._columns(found, batch, reset=reset, partial_keep=partial_keep)
        if self.keep_y and (reset or y is not None):
            columns["y"] = inputs.y_column(y, index, n)
        return Rows(values, self._batch_labels(batch), columns, {}, source)

    def _batch_labels(self, batch: list[np.ndarray] | None) -> list[inputs.Labels] | None:
        if batch is None:
            return None
        if len(batch) != 1:
            raise BatchfixError(
                f"batch must be one column of labels, got {len(batch)}. LinearCorrector takes several batch factors."
            )
        return [inputs.Labels.of(batch[0])]

    def _columns(
        self,
        found: dict[str, tuple[str, Any]],
        batch: list[np.ndarray] | None,
        *,
        reset: bool,
        partial_keep: bool,
    ) -> dict[str, tuple[Column, np.ndarray]]:
        """Decide in fit what each column is; afterwards read it as what it was then."""
        if reset:
            return {
                name: inputs.as_column(name, values, what, self.keep_factors or (), self.keep_numbers or ())
                for name, (what, values) in found.items()
            }
        columns: dict[str, tuple[Column, np.ndarray]] = {}
        for column in self.statistics_.columns:
            if column.name not in found:
                continue
            what, values = found[column.name]
            if isinstance(column, Factor):
                data = inputs.as_labels(values, f"{column.name!r}")
                own = Factor(column.name, inputs.Labels.of(data).values, column.role, column.loose)
                columns[column.name] = (own, data)
            else:
                columns[column.name] = (column, inputs.as_numbers(values, f"{column.name!r}"))
        stray = [name for name in found if name not in {c.name for c in self.statistics_.columns}]
        if stray:
            known = [c.name for c in self.statistics_.columns]
            raise BatchfixError(f"Kept columns must be those of fit {known}, got {stray[0]!r} too.")
        return columns

    def _validate(self, source: Any, X: Any, keys: list[inputs.Key], *, reset: bool) -> np.ndarray:
        """Numbers as float64 or float32, with names and counts checked against fit."""
        _refuse_text(X)
        how = {"dtype": [np.float64, np.float32], "ensure_all_finite": False}
        try:
            if not keys:
                values = validate_data(self, X, reset=reset, **how)
            else:
                values = check_array(X, estimator=self, input_name="X", **how)
        except ValueError as error:
            if "could not convert string" not in str(error):
                raise
            raise BatchfixError(
                f"X must be numbers, got text ({error}). Convert it, or name its column in a key."
            ) from error
        if keys:
            self._check_names(source, X, keys, reset=reset)
        elif reset:
            self._features = slice(None)
            self._consumed: list[Any] = []
        return np.asarray(values)

    def _check_names(self, source: Any, X: Any, keys: list[inputs.Key], *, reset: bool) -> None:
        """As scikit-learn checks names and counts, except that kept columns may be absent after fit."""
        if reset:
            validate_data(self, source, reset=True, skip_check_array=True)
            width = self.n_features_in_
            if isinstance(source, np.ndarray) or not hasattr(source, "columns"):
                drop = [int(k) % width for k in keys]
                self._consumed = []
            else:
                names = list(source.columns)
                self._consumed = [k for k in keys if k in names]
                drop = [names.index(k) for k in self._consumed]
            self._features = np.setdiff1d(np.arange(width), drop)
            return
        width = len(np.arange(self.n_features_in_)[self._features])
        names = getattr(self, "feature_names_in_", None)
        if names is not None and hasattr(X, "columns"):
            want, got = list(names[self._features]), [str(c) for c in X.columns]
            if want != got:
                lost = [c for c in want if c not in got]
                more = [c for c in got if c not in want]
                what = f"lacks {lost[:3]}" if lost else f"has {more[:3]} more" if more else "has them in another order"
                raise BatchfixError(f"The features of X must be those of fit, in their order, but X {what}.")
        elif np.shape(X)[1] != width:
            raise BatchfixError(f"X must have the {width} features of fit (beside key columns), got {np.shape(X)[1]}.")

    def _take_for_inverse(self, X: Any, keys: list[inputs.Key]) -> tuple[Any, dict[inputs.Key, Any]]:
        """Keys of a corrected table: columns that are still there, or index levels."""
        if isinstance(X, pd.DataFrame):
            return inputs.take_keys(X, [k for k in keys if k in X.columns or k in X.index.names])
        if np.shape(X)[1:] == (self.n_features_in_,):
            return inputs.take_keys(X, keys)
        return X, {}

    def __sklearn_tags__(self) -> Any:
        """Declare that NaN is allowed and float32 is kept."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _plain(label: Any) -> Any:
    return label.item() if isinstance(label, np.generic) else label


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return bool(np.array_equal(a, b))
    return bool(a is b or a == b)


def _leave(frame: Frame, stay: np.ndarray) -> Frame:
    """Frame 0, 1 for features that stay as they are."""
    return Frame(np.where(stay, 0.0, frame.location), np.where(stay, 1.0, frame.scale))


def _join(maps: list[Affine]) -> Affine:
    """Maps of several sets of batches side by side; a set without loading has a loading of 0."""
    loading = None
    width = max((m.loading.shape[1] for m in maps if m.loading is not None), default=0)
    if width:
        loading = np.concatenate(
            [
                np.zeros((len(m.scale), width, m.scale.shape[1])) if m.loading is None else m.loading
                for m in maps
            ]
        )
    return Affine(
        np.concatenate([m.center for m in maps]),
        np.concatenate([m.scale for m in maps]),
        np.concatenate([m.shift for m in maps]),
        loading,
    )


def _refuse_text(X: Any) -> None:
    """Name the columns that are text, which a conversion would choke on or read as numbers."""
    if isinstance(X, pd.DataFrame):
        bad = [
            c
            for c, dtype in zip(X.columns, X.dtypes, strict=True)
            if not pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype)
        ]
        text = [
            c
            for k, c in enumerate(X.columns)
            if c in bad and pd.api.types.infer_dtype(X.iloc[:, k], skipna=True) in ("string", "mixed", "categorical", "datetime64", "datetime", "date", "mixed-integer")
        ]
        if text:
            raise BatchfixError(
                f"X must be numbers, got text or dates in column{'s' if len(text) > 1 else ''} "
                f"{', '.join(repr(c) for c in text[:5])}{', ...' if len(text) > 5 else ''}. "
                "Drop them, or name them in batch_key or keep_keys."
            )
    elif isinstance(X, np.ndarray) and X.dtype.kind in "SU":
        raise BatchfixError(f"X must be numbers, got text ({X.dtype}). Convert it with .astype(float).")


def _warn_about_scale(X: np.ndarray, n_batches: int) -> None:
    if n_batches < 2:
        return
    what = asymmetric_scale(X)
    if what:
        warnings.warn(
            f"X should be on a scale where batch effects add up and spread evenly, but it looks like {what}. "
            "Take logarithms (or log-ratios of parts) first.",
            DataScaleWarning,
            stacklevel=5,
        )


def _warn_about_rows(statistics: BatchStatistics, fit: LinearFit) -> None:
    rows = statistics.moments.rows
    empty = (fit.n == 0).any(axis=0) & (fit.n > 0).any(axis=0)
    if empty.any():
        pairs = np.argwhere((fit.n == 0) & empty)
        b, j = pairs[0]
        warnings.warn(
            f"{int(empty.sum())} feature{'s have' if empty.sum() > 1 else ' has'} no observed value in some batch "
            f"(feature {j} in batch {repr_label(statistics.batches[b])} for one): what is known of the other batches "
            "and features stands in.",
            MissingFeatureWarning,
            stacklevel=6,
        )
    if not fit.estimable.all():
        bad = np.flatnonzero(~fit.estimable)
        warnings.warn(
            f"{len(bad)} feature{'s' if len(bad) > 1 else ''} (number {bad[0]} for one) miss values such that batch "
            "and what is kept cannot be told apart: left as they are.",
            EstimabilityWarning,
            stacklevel=6,
        )
    del rows


def warn_constant(count: int, first: int, what: str) -> None:
    """Say that features without spread are treated apart."""
    warnings.warn(
        f"{count} feature{'s' if count > 1 else ''} (number {first} for one) {what}",
        ConstantFeatureWarning,
        stacklevel=7,
    )
