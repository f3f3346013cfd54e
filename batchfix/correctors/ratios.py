"""Ratios: how a corrector of log-ratios is made, told what is present, and applied to amounts.

Amounts apart from their keys flow in; log-ratios go through the corrector, and come out as what was asked for:

    amounts -> zeros -> log-ratios -> corrector -> (composition -> depth) -> out
"""

from __future__ import annotations

import copy as copying
import logging
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import TransformerMixin, clone
from sklearn.utils._param_validation import InvalidParameterError
from sklearn.utils._set_output import _get_output_config

from ..core import naming
from ..core.depth import MANUFACTURED, DepthCheck, between, leading_correlation
from ..core.design import codes_of
from ..core.log_ratios import clr, rclr
from ..core.presence import present_ratios, scale_allowed_of_cells
from ..core.simplex import closure, depths, whole_counts
from ..core.zeros import HalfMinimum, Keep
from ..exceptions import (
    BatchfixError,
    DataScaleWarning,
    MergeError,
    MissingFeatureWarning,
    MissingLabelError,
    PseudocountWarning,
    UnmergeableError,
)
from . import inputs
from .amounts import AmountReader, Amounts, are_whole, scale_of, scale_of_both
from .base import BatchwiseCorrector
from .batch import BatchCorrector
from .combat import ComBat
from .log_ratio import LogRatio
from .notices import some, warn
from .tables import Key, is_polars
from .transform_parameter import TransformParameter

SHARE = 0.2
"""A log-ratio is scaled if its parts are present in this share of the samples of every batch."""

logger = logging.getLogger("batchfix.correctors.compositional")


class RatioCorrection(TransformParameter, TransformerMixin, AmountReader):
    """Learns and applies a corrector of log-ratios."""

    _fitted_kind: str
    _ratio_names: np.ndarray

    corrector: Any
    zeros: Any
    output: str
    reference: Any
    partition: Any
    batch_key: Any
    keep_keys: Any
    handle_unknown: str | None
    log_ratio_: LogRatio
    corrector_: Any
    scale_of_input_: str

    # ---- reading

    @property
    def _kind(self) -> str:
        """The log-ratios of fit."""
        return self._fitted_kind

    def _check_kind(self) -> None:
        """Refuse parameters that were changed after the fit, to others than it serves."""
        if self._wanted_kind != self._fitted_kind:
            raise BatchfixError(
                f"transform and output must go with the fit, which took {self._fitted_kind} log-ratios, got "
                f"transform={self._asked!r} and output={self.output!r}. Fit again."
            )

    @property
    def _wanted_kind(self) -> str:
        """The log-ratios that are asked for; those of output="abundance" leave zeros out."""
        return "rclr" if self.output == "abundance" else self._asked

    def _log_ratios(self, table: Amounts) -> np.ndarray:
        self._check_kind()
        return np.asarray(self.log_ratio_.transform(self._named_parts(table.values)))

    def _named_parts(self, values: np.ndarray) -> Any:
        """Parts as the log-ratios see them: under the names that they have."""
        names = getattr(self, "feature_names_in_", None)
        columns = self._numbered if names is None else names[self._features]
        return values if columns is None else pd.DataFrame(values, columns=columns, copy=False)

    def _named_ratios(self, Z: np.ndarray) -> pd.DataFrame:
        """Log-ratios as the corrector sees them, whose labels are in order already."""
        return pd.DataFrame(Z, columns=self._ratio_names, copy=False)

    # ---- learning

    def _learn(self, X: Any, y: Any, labels: dict[str, Any], *, add: bool = False) -> tuple[Amounts, np.ndarray]:
        """Fit or add; whatever goes wrong, what was known before stays."""
        before = dict(vars(self))
        try:
            if add and hasattr(self, "corrector_"):
                return self._learn_more(X, y, labels)
            return self._learn_rows(X, y, labels, add=add)
        except BaseException:
            self.__dict__ = before
            raise

    def _learn_rows(self, X: Any, y: Any, labels: dict[str, Any], *, add: bool) -> tuple[Amounts, np.ndarray]:
        self._check_parameters()
        self._inner = self._prepared()
        self._named: dict[str, list[Key]] = self._inner._keys()
        self._fitted_kind = self._wanted_kind
        table = self._read(X, labels, reset=True)
        self.scale_of_input_ = scale_of(table.values)
        logger.info("CompositionalCorrector took X for %s.", self.scale_of_input_)
        if self.output == "counts" and self.scale_of_input_ != "counts":
            raise BatchfixError(
                f"output='counts' must be given counts, got {self.scale_of_input_}. Give the counts, or set "
                "output='composition' or 'abundance'."
            )
        self.log_ratio_ = LogRatio(self._kind, zeros=self._zeros, reference=self.reference, partition=self.partition)
        self.log_ratio_.fit(self._named_parts(table.values))
        if self.log_ratio_.zeros_.depends_on_depth and self.scale_of_input_ != "counts":
            raise BatchfixError(
                f"A pseudocount is added to counts, got {self.scale_of_input_}. Give the counts, or set "
                "zeros='half_minimum'."
            )
        self._ratio_names = self.log_ratio_.get_feature_names_out(self._part_names())
        if not add:
            self._warn_unseen(table.values)
        self._warn_total(table.values)
        Z = self._log_ratios(table)
        inner = clone(self._inner).set_params(**{f"{what}_key{'s' * (what != 'batch')}": None for what in self._named})
        fit = inner.partial_fit if add else inner.fit
        self.corrector_ = fit(self._named_ratios(Z), self._bare_y(y, table), **table.bare(), **self._where(table))
        if self.log_ratio_.zeros_.depends_on_depth and "batch" in table.labels:
            self._check_depth(table)
        return table, Z

    def _learn_more(self, X: Any, y: Any, labels: dict[str, Any]) -> tuple[Amounts, np.ndarray]:
        """Add rows; the corrector that adds is a copy, so that what goes wrong leaves nothing behind."""
        table = self._read(X, labels, reset=False)
        if self.output == "counts":
            self._check_whole(table.values)
        Z = self._log_ratios(table)
        inner = copying.copy(self.corrector_)
        y = self._bare_y(y, table)
        self.corrector_ = inner.partial_fit(self._named_ratios(Z), y, **table.bare(), **self._where(table))
        self.scale_of_input_ = scale_of_both(self.scale_of_input_, scale_of(table.values))
        return table, Z

    def _bare_y(self, y: Any, table: Amounts) -> Any:
        """The target in the order of the rows."""
        if not isinstance(y, pd.DataFrame | pd.Series):
            return y
        return inputs.align(y, table.index, len(table.values), "y").reset_index(drop=True)

    def _check_whole(self, values: np.ndarray) -> None:
        if not are_whole(values):
            raise BatchfixError(
                f"output='counts' must be given counts, as in fit, got {scale_of(values)} that are not whole numbers. "
                "Give the counts."
            )

    def _warn_total(self, values: np.ndarray) -> None:
        """Say when a column is the sum of all others."""
        sums = values.sum(axis=1, dtype=np.float64)
        halves = np.flatnonzero(np.isclose(2.0 * values[0].astype(np.float64), sums[0], rtol=1e-6))
        found = [j for j in halves if np.allclose(2.0 * values[:, j].astype(np.float64), sums, rtol=1e-6, atol=0)]
        if len(found) == 1 and len(values) > 1:
            warn(
                f"{self._feature(int(found[0]))} is the sum of all other columns in every row: a total is no part. "
                "Leave it out.",
                DataScaleWarning,
            )

    @property
    def _zeros(self) -> Any:
        return "auto" if self.output == "abundance" else self.zeros

    def _check_adds(self) -> None:
        """Refuse to add rows where what is known of the first ones depends on all."""
        if isinstance(self._zeros, str) and (
            self._zeros == "half_minimum" or (self._zeros == "auto" and self._wanted_kind != "rclr")
        ):
            raise UnmergeableError(
                f"partial_fit must be told what zeros become, which zeros={self._zeros!r} learns from all rows at "
                "once. Pass zeros=HalfMinimum(x), x half of the smallest proportion that you expect, or "
                "output='abundance'."
            )
        if self._wanted_kind == "rclr" and _scales(self.corrector):
            raise UnmergeableError(
                "partial_fit of robust log-ratios must not scale, since what may be scaled is known of all rows only; "
                f"got corrector={self.corrector!r}. Use BatchCorrector(scale=None), or fit on all rows at once."
            )

    def _check_same_ratios(self, other: Any) -> None:
        """Refuse to merge what was learned from other log-ratios; the corrector's own merge looks at the rest."""
        mine, theirs = self.get_params(deep=False), other.get_params(deep=False)
        for name in mine:
            if name not in ("corrector", "zeros") and not np.array_equal(mine[name], theirs[name]):
                raise MergeError(
                    f"Both correctors must have equal parameters, got {name}={mine[name]!r} and {theirs[name]!r}."
                )
        parts, others = list(self._part_names()), list(other._part_names())
        if parts != others:
            raise MergeError(
                f"Both correctors must have the same features in the same order, got {naming.some(parts, 5)} and "
                f"{naming.some(others, 5)}."
            )
        if self.log_ratio_.zeros_ != other.log_ratio_.zeros_:
            raise MergeError(
                f"Both correctors must have filled zeros alike, got {self.log_ratio_.zeros_!r} and "
                f"{other.log_ratio_.zeros_!r}. Agree on one, and fit both with zeros=HalfMinimum(x)."
            )
        if self._kind == "rclr" and _scales(self.corrector):
            raise UnmergeableError(
                "Robust log-ratios that are scaled cannot be merged, since what may be scaled is known of all rows "
                "only. Use BatchCorrector(scale=None)."
            )

    def _check_parameters(self) -> None:
        try:
            self._validate_params()
        except InvalidParameterError as error:
            raise BatchfixError(str(error)) from error
        if self.corrector is not None and not isinstance(self.corrector, BatchwiseCorrector):
            raise BatchfixError(
                f"corrector must be a corrector with statistics per batch, such as ComBat(), got {self.corrector!r}."
            )
        if self.corrector is not None and "keep_keys" not in self.corrector.get_params():
            raise BatchfixError(
                f"corrector must be one that can be told what to keep, such as ComBat(), got {self.corrector!r}. Put a "
                "LogRatio before it instead: make_pipeline(LogRatio(), ...)."
            )
        if self.output != "abundance":
            return
        kind = self._asked
        if kind not in ("clr", "rclr"):
            raise BatchfixError(
                f"output='abundance' leaves zeros out, which {kind} cannot; got transform={kind!r}. "
                "Set transform='rclr'."
            )
        if not isinstance(self.zeros, Keep) and self.zeros not in ("auto", "keep"):
            raise BatchfixError(f"output='abundance' keeps zeros; got zeros={self.zeros!r}. Set zeros='keep'.")

    def _prepared(self) -> Any:
        """The corrector of log-ratios, with the keys given here, and guarded if it scales."""
        inner: Any = BatchCorrector(scale=None) if self.corrector is None else clone(self.corrector)
        ours = {"batch_key": self.batch_key, "keep_keys": self.keep_keys, "handle_unknown": self.handle_unknown}
        inner.set_params(**{name: value for name, value in ours.items() if value is not None}, copy=True)
        if _scales(inner) and inner.scale_guard is None:
            inner.set_params(scale_guard=SHARE)
        return inner

    @property
    def _guarded(self) -> bool:
        return getattr(self._inner, "scale_guard", None) is not None

    def _where(self, table: Amounts) -> dict[str, Any]:
        """What the guard is told: cells in which log-ratios are present.

        Absent robust log-ratios are NaN and would not count: of these, those that are present in enough samples.
        """
        if not self._guarded:
            return {}
        present = self._present(table.values)
        if self._kind == "rclr":
            present = scale_allowed_of_cells(present, table.batch().codes, self._inner.scale_guard)
        return {"scale_where": present}

    def _present(self, values: np.ndarray) -> np.ndarray:
        fitted = self.log_ratio_
        reference, partition = getattr(fitted, "reference_", None), getattr(fitted, "partition_", None)
        return np.asarray(present_ratios(values > 0, self._kind, reference, partition))

    def _warn_unseen(self, values: np.ndarray) -> None:
        unseen = np.flatnonzero(values.max(axis=0, initial=0.0) == 0)
        if len(unseen):
            warn(
                f"{some(unseen, self._feature)} 0 in all rows, from which nothing is learned. Leave out what no "
                "sample has, or fit on more samples.",
                MissingFeatureWarning,
            )

    # ---- applying

    def _correct(self, table: Amounts, Z: np.ndarray) -> Any:
        self._check_labelled(table)
        inner = self._knowing(table, Z)
        corrected = np.asarray(inner.transform(self._named_ratios(Z), **table.bare()))
        match self.output:
            case "log_ratio":
                return self._wrap(corrected, table.source, self._ratio_names)
            case "composition":
                out = self._composition(corrected, 1.0)
            case "counts":
                self._check_whole(table.values)
                out = whole_counts(self._composition(corrected, 1.0), depths(table.values))
            case _:
                out = self._composition(corrected, depths(table.values))
        columns = getattr(table.source, "columns", None)
        names = self._part_names() if columns is None else [c for c in columns if c not in self._consumed]
        return self._wrap(out, table.source, names)

    def _knowing(self, table: Amounts, Z: np.ndarray) -> Any:
        """The corrector that these rows are mapped by: one that was told where parts of new batches are present."""
        inner = self.corrector_
        if not self._guarded or inner.handle_unknown != "adapt" or table.labels.get("batch") is None:
            return inner
        labels = table.batch()
        new = np.flatnonzero(codes_of(labels.values, np.sort(inner.batches_)) < 0)
        if not len(new) or np.bincount(labels.codes)[new].min() < 2:  # the corrector says what is wrong with one row
            return inner
        return self._adapted(inner, table, Z, new)

    def _adapted(self, inner: Any, table: Amounts, Z: np.ndarray, new: np.ndarray) -> Any:
        """Adapt to new batches one by one, each scaled where its own parts are present."""
        labels = table.batch()
        for k in new:
            rows = np.flatnonzero(labels.codes == k)
            part = Amounts(table.values[rows], table.labels_of(rows), None)
            inner = inner.adapt(self._named_ratios(Z[rows]), **part.labels, **self._where(part))
        return inner

    def _check_labelled(self, table: Amounts) -> None:
        if self.corrector_._labelled and table.labels.get("batch") is None:
            raise MissingLabelError(
                f"{type(self).__name__} was fitted with batch labels and must be told those of these rows, got "
                "batch=None. Pass batch=, or set batch_key."
            )

    def _composition(self, Z: np.ndarray, total: Any) -> np.ndarray:
        """Corrected log-ratios as amounts; rows of NaN stay so."""
        lost = np.isnan(Z).all(axis=1)
        if not lost.any():
            return np.asarray(self.log_ratio_.inverse_transform(Z, total))
        out = np.full((len(Z), self.log_ratio_.n_features_in_), np.nan, dtype=Z.dtype)
        if not lost.all():
            total = np.broadcast_to(total, len(Z))[~lost]
            out[~lost] = self.log_ratio_.inverse_transform(Z[~lost], total)
        return out

    def _plain_output(self, X: Any) -> np.ndarray:
        """What transform returned, as an array."""
        self._check_kind()
        values = np.asarray(X.to_numpy() if hasattr(X, "to_numpy") else X)
        width = len(self.get_feature_names_out())
        if values.dtype.kind not in "fiu" or values.ndim != 2 or values.shape[1] != width:
            raise BatchfixError(
                f"The table must be numbers in the {width} columns that transform returns, got {values.dtype} of shape "
                f"{values.shape}. Give its result as it is."
            )
        self._same_columns(X, self._ratio_names if self.output == "log_ratio" else self._part_names())
        return values if values.dtype.kind == "f" else values.astype(np.float64)

    def _names_in(self) -> Any:
        """Names of the parts, as they were given."""
        return self._part_names() if self._numbered is None else self._numbered

    def _back_to_ratios(self, values: np.ndarray, total: Any) -> tuple[np.ndarray, Any]:
        if self.output == "log_ratio":
            return values, 1.0 if total is None else total
        sums = depths(values) if total is None else total
        return self.log_ratio_._ratios(closure(values)), sums

    def _put_back(self, Z: np.ndarray, table: Amounts) -> np.ndarray:
        return np.asarray(self.corrector_.inverse_transform(self._named_ratios(Z), **table.bare()))

    def _wrap(self, out: np.ndarray, source: Any, names: Any) -> Any:
        """Give back the caller's kind of table, unless set_output asked for another."""
        if _get_output_config("transform", self)["dense"] != "default":
            return out
        return self._as_given(out, source, names)

    def _as_given(self, out: np.ndarray, source: Any, names: Any) -> Any:
        """Rows as the caller's kind of table."""
        if isinstance(source, pd.DataFrame):
            return pd.DataFrame(out, index=source.index, columns=names, copy=False)
        if is_polars(source):
            return type(source)(out, schema=list(names), orient="row")
        return out

    # ---- depth

    def _check_depth(self, table: Amounts) -> DepthCheck:
        labels = table.batch()
        counts = depths(table.values).astype(np.float64)
        Z = rclr(table.values) if self._kind == "rclr" else clr(self.log_ratio_.zeros_.fill(table.values))
        usual = HalfMinimum.learn(table.values)
        same = self._kind == "rclr" or self.log_ratio_.zeros_ == usual
        fixed = Z if same else clr(usual.fill(table.values))
        found = DepthCheck(
            correlation=leading_correlation(np.nan_to_num(Z), np.log(counts)),
            between_batches=between(np.log(counts)[:, None], labels.codes),
            by_batch={
                label: float(np.median(counts[labels.codes == k])) for k, label in enumerate(labels.values.tolist())
            },
            batch_share=between(Z, labels.codes),
            batch_share_fixed=between(fixed, labels.codes),
        )
        if found.manufactured > MANUFACTURED:
            warn(
                f"What stands for zero must not go with depth, got a batch effect that it makes: "
                f"{found.batch_share:.3f} of the variance of log-ratios lies between batches, "
                f"{found.batch_share_fixed:.3f} with one proportion for all zeros. Set zeros='half_minimum'.",
                PseudocountWarning,
            )
        return found


def _scales(corrector: Any) -> bool:
    """Whether a corrector divides by spreads."""
    if isinstance(corrector, ComBat):
        return not corrector.mean_only
    return isinstance(corrector, BatchCorrector) and corrector.scale is not None
