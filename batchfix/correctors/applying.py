"""Applying: finished estimates become maps, and maps become corrected rows.

`MapApplier` is the part of a corrector that picks a map for each row, learns maps of new batches against a frozen
model, and writes the result into the caller's kind of table.
"""

from __future__ import annotations

import copy as copying
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.utils._set_output import _get_output_config
from sklearn.utils.validation import check_is_fitted

from ..core.affine import Affine, Frame
from ..core.applying import apply_groups, check_no_infinity
from ..core.design import Column, codes_of, repr_label, repr_labels, slices, union_of
from ..core.groups import Groups
from ..core.least_squares import LinearFit
from ..core.statistics import BatchStatistics
from ..exceptions import (
    AdaptationWarning,
    BatchfixError,
    CopyWarning,
    MissingLabelError,
    TooFewSamplesError,
    UnknownBatchError,
)
from . import inputs
from .notices import some, warn
from .rows import RowReader, Rows
from .tables import is_polars

FEW_ROWS = 10
"""A new batch of fewer rows than this is adapted with a warning."""


@dataclass(frozen=True)
class Solution:
    """Finished estimates: a frame for each batch, the common frame, the maps between them."""

    batches: np.ndarray
    target: Frame
    pooled: Frame
    fit: LinearFit
    maps: Affine
    unknown: Affine
    loads: np.ndarray
    details: dict[str, Any]


@dataclass(frozen=True)
class NewBatch:
    """What the rows of a new batch say under the frozen model.

    Attributes
    ----------
    statistics : BatchStatistics
        Of these rows alone.
    location, rss : arrays (1, p)
        At the pivot, NaN where nothing is observed; and the residual sum of squares.
    """

    statistics: BatchStatistics
    location: np.ndarray
    rss: np.ndarray

    @property
    def n(self) -> np.ndarray:
        """Observed values (1, p)."""
        return np.asarray(self.statistics.moments.x.n)


class MapApplier(RowReader):
    """Picks, learns and applies maps."""

    keep_at_transform: bool
    handle_unknown: str
    copy: bool

    _solution: Solution | None
    _adapted: tuple[Solution, ...]
    _labelled: bool

    def _adapt(self, X: Any, labels: dict[str, Any], **extra: Any) -> Self:
        check_is_fitted(self)
        rows = self._resolve(X, None, labels, reset=False)
        if not self._labelled:
            raise UnknownBatchError(
                "adapt() adds a batch to a corrector that was fitted with batches, got one fitted without. "
                "Fit again with batch=."
            )
        if rows.batch is None:
            raise MissingLabelError("adapt() must be told the new batch's label, got batch=None.")
        union_of(self.batches_, rows.first.values, "batch")  # of one kind
        known = codes_of(rows.first.values, self.statistics_.batches) >= 0
        if known.any():
            raise BatchfixError(
                f"adapt() learns batches that fit did not see, got {repr_labels(rows.first.values[known])}. "
                "To add rows to a known batch use partial_fit()."
            )
        again = codes_of(rows.first.values, np.sort(self.batches_)) >= 0
        if again.any():
            raise BatchfixError(
                f"adapt() learns a new batch once, got {repr_labels(rows.first.values[again])} a second time. "
                "Call adapt() on the corrector as it was fitted, with all rows of that batch."
            )
        new = copying.copy(self)
        new._solution = self.solution_
        new._adapted = (*self._adapted, *self._learn_new(rows, **extra))
        return new

    def _learn_new(self, rows: Rows, **extra: Any) -> list[Solution]:
        """One-batch solutions against the frozen model."""
        solution = self.solution_
        columns = self.statistics_.columns
        lost = [c.name for c in columns if c.name not in rows.columns and not (self.keep_y and c.name == "y")]
        if lost:
            warn(
                f"A new batch is learned without {lost}, which fit had: a difference in composition is taken for a "
                "batch effect. Pass them if they are known.",
                AdaptationWarning,
            )
        # what is not known counts as average
        z = np.tile(solution.fit.pivot, (len(rows.X), 1))
        for column, at in zip(columns, slices(columns), strict=True):
            if column.name in rows.columns:
                z[:, at] = column.encode(rows.columns[column.name][1])
        statistics = self._reduce(rows, columns, z, **extra)
        statistics = replace(statistics, eps=max(statistics.eps, self.statistics_.eps))  # as in one fit on all rows
        groups = Groups.of(rows.first.codes, len(rows.first.values))
        location, rss = solution.fit.residuals(statistics.moments, statistics.eps)
        unheard = (solution.fit.n == 0).all(axis=0)
        stay = unheard | ~solution.fit.estimable
        learned = []
        for k, label in enumerate(rows.first.values):
            new = NewBatch(statistics.only(k), location[k : k + 1], rss[k : k + 1])
            self._warn_new(label, int(groups.counts[k]), unheard & (new.n[0] > 0))
            if not new.n.any():
                raise TooFewSamplesError(
                    f"The rows of batch {repr_label(label)} must hold observed values to be learned from, got only NaN."
                    " Leave them out."
                )
            source, details = self._new_frame(solution, new)
            maps = self._map(replace(solution, loads=self._loads(columns)), leave(source, stay))
            if maps.loading is None and solution.maps.loading is not None:
                maps = replace(maps, loading=np.zeros((1, len(solution.loads), len(stay))))
            learned.append(replace(solution, batches=new.statistics.batches, maps=maps, details=details))
        return learned

    def _warn_new(self, label: Any, rows: int, unheard: np.ndarray) -> None:
        """Say what a new batch is learned from, and which of its features nothing is known of."""
        if rows < FEW_ROWS:
            warn(
                f"Batch {repr_label(label)} is learned from {rows} row{'s' if rows > 1 else ''}"
                f"{': its location only' if rows == 1 else ''}. Ten or more are better.",
                AdaptationWarning,
            )
        if unheard.any():
            warn(
                f"{some(np.flatnonzero(unheard), self._feature)} observed in batch {repr_label(label)} and in no row "
                "of fit: left as in X.",
                AdaptationWarning,
            )

    # ---- applying

    def _all(self, name: str) -> Any:
        """Join what fit knows with what adapt added, along the batch axis."""
        first = self.statistics_.batches if name == "batches" else getattr(self.solution_, name)
        parts = [first, *(getattr(s, name) for s in self._adapted)]
        return np.concatenate(parts) if len(parts) > 1 else first

    def _maps(self) -> Affine:
        parts = [self.solution_.maps, *(s.maps for s in self._adapted)]
        return join(parts) if len(parts) > 1 else parts[0]

    def _learn_and_correct(self, X: Any, y: Any, labels: dict[str, Any], **extra: Any) -> Any:
        rows = self._learn(X, y, labels, **extra)
        return self._wrap(self._apply(rows, checked=True), rows.source)

    def _correct(self, X: Any, labels: dict[str, Any], *, inverse: bool = False) -> Any:
        check_is_fitted(self)
        rows = self._resolve(X, None, labels, reset=False, inverse=inverse, spare=self._spared())
        return self._wrap(self._apply(rows, inverse=inverse), rows.source)

    def _spared(self) -> list[str]:
        """Columns of fit that enter no map, and hence need not be known of the rows that are mapped."""
        if self.handle_unknown == "adapt":  # these rows may teach a new batch
            return []
        columns = self.statistics_.columns
        loads = self._loads(columns)
        return [
            column.name
            for column, at in zip(columns, slices(columns), strict=True)
            if not np.isin(np.arange(at.start, at.stop), loads).any()
        ]

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
        unit = None if inverse else self._unit
        if inverse:
            maps = maps.inverse()
        out = self._output_for(rows, checked=checked)
        apply_groups(rows.X, Groups.of(codes, len(maps.scale)), maps, z, out, unit)
        return out

    @property
    def _unit(self) -> np.ndarray:
        """Spread (p,) of corrected values."""
        return np.asarray(self.solution_.target.scale)

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
        if self.handle_unknown != "error":
            union_of(known, labels, "batch")  # labels of another kind are a mistake, not a new batch
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
        return join([maps, extra]), codes

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
        return join([maps, *(s.maps for s in self._learn_new(part))]), codes

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
        about: np.ndarray = z - self.solution_.fit.pivot
        return about[:, loads]

    def _encode(self, column: Column, values: np.ndarray) -> np.ndarray:
        """Design columns of one column's values."""
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
            warn(
                f"copy=False must be given a writable float32 or float64 ndarray, but {why}: "
                "X is unchanged, and the result is a new array.",
                CopyWarning,
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
        if is_polars(source):
            return type(source)(out, schema=list(self._names_of(source)), orient="row")
        return out

    def _names_of(self, source: Any) -> Any:
        return [c for c in source.columns if c not in self._consumed]


def leave(frame: Frame, stay: np.ndarray) -> Frame:
    """Frame 0, 1 for features that stay as they are."""
    if not stay.any():
        return frame
    return Frame(np.where(stay, 0.0, frame.location), np.where(stay, 1.0, frame.scale))


def join(maps: list[Affine]) -> Affine:
    """Maps of several sets of batches side by side; a set without loading has a loading of 0."""
    loading = None
    width = max((m.loading.shape[1] for m in maps if m.loading is not None), default=0)
    if width:
        loading = np.concatenate(
            [np.zeros((len(m.scale), width, m.scale.shape[1])) if m.loading is None else m.loading for m in maps]
        )
    return Affine(
        np.concatenate([m.center for m in maps]),
        np.concatenate([m.scale for m in maps]),
        np.concatenate([m.shift for m in maps]),
        loading,
    )
