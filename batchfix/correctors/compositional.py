"""CompositionalCorrector: any correction between batches, of compositions, in log-ratio space.

A table of amounts and its batch labels flow in. Keys leave the table, depths are set aside, zeros are dealt with,
log-ratios taken, corrected by any corrector, and given out as such, as proportions, or as amounts at their old depth:

    amounts -> (keys, depth) -> zeros -> log-ratios -> corrector -> (composition -> depth) -> out
"""

from __future__ import annotations

import copy as copying
import logging
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from sklearn.base import TransformerMixin, clone
from sklearn.utils._param_validation import HasMethods, InvalidParameterError, StrOptions
from sklearn.utils._set_output import _get_output_config
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted

from ..core.audit import Audit, audit_compositions
from ..core.depth import MANUFACTURED, DepthCheck, between, leading_correlation
from ..core.design import codes_of
from ..core.log_ratios import clr, rclr
from ..core.presence import present_ratios, scale_allowed_of_cells
from ..core.simplex import depths, whole_counts
from ..core.zeros import POLICIES, HalfMinimum
from ..exceptions import BatchfixError, MissingFeatureWarning, PseudocountWarning
from .amounts import AmountReader, Amounts, are_whole, scale_of
from .base import REQUESTS, UNKNOWN, BatchwiseCorrector
from .batch import BatchCorrector
from .combat import ComBat
from .log_ratio import LogRatio, MethodAndParameter
from .notices import some, warn
from .tables import Key, is_polars

OUTPUTS = ("log_ratio", "composition", "counts", "abundance")

SHARE = 0.2
"""A log-ratio is scaled if its parts are present in this share of the samples of every batch."""

logger = logging.getLogger(__name__)


class CompositionalCorrector(TransformerMixin, AmountReader):
    """Correction of compositions (counts, proportions, percentages) between batches, in log-ratio space.

    Only ratios of parts mean something, and depth is an artefact: rows are closed, zeros dealt with on the proportion
    scale, logarithms of ratios corrected as any table is, and the depth of each row given back where asked.

    Parameters
    ----------
    corrector : corrector, optional
        Any of this library with statistics per batch, such as ComBat(). By default BatchCorrector(scale=None), which
        moves each batch's mean log-ratios onto the common ones: a multiplication of each part by one factor a batch.
        That is coordinate-free: clr, ilr and alr give the same composition, and so do subcompositions. One that scales
        is guarded: a log-ratio is scaled only if its part is present in 0.2 (or the corrector's `scale_guard`) of the
        samples of every batch, and else located; in a new batch, only if it is present in as many there too.
    transform : {"clr", "alr", "ilr", "rclr"}, default "clr"
        The log-ratios: see LogRatio.
    zeros : {"auto", "half_minimum", "multiplicative", "pseudocount", "keep"} or a policy, default "auto"
        What zeros become, learned in fit: see LogRatio. "keep" goes with "rclr" and with output="abundance".
    output : {"log_ratio", "composition", "counts", "abundance"}, default "log_ratio"
        Corrected log-ratios; proportions, rows sum to 1; whole counts that sum to the row's depth exactly (largest
        remainders), from counts only; or amounts in which every zero stays zero and rows sum to what they did, the
        rest being corrected among themselves as robust centred log-ratios.
    reference, partition
        For alr and ilr: see LogRatio.
    batch_key, keep_keys, handle_unknown : optional
        As in ComBat; they replace the corrector's own. Columns that keys name leave the table before it is closed.

    Attributes
    ----------
    scale_of_input_ : {"counts", "proportions", "percentages", "amounts"}
        What the rows of fit were taken for: whole numbers; rows that sum to 1 at most, or to 100; or none of these.
    corrector_ : corrector
        As fitted to the log-ratios.
    log_ratio_ : LogRatio
        As fitted, with the policy for zeros.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Notes
    -----
    Corrected values of clr do not sum to 0 after a corrector that treats columns unequally, such as ComBat; as
    compositions they do not need to.

    References
    ----------
    Aitchison 1986, "The Statistical Analysis of Compositional Data"; bias as one factor for each taxon and protocol:
    McLaren, Willis and Callahan 2019, eLife 8, e46923.

    Examples
    --------
    >>> counts = np.array([[10, 20, 70], [20, 20, 60], [40, 10, 50], [80, 20, 100]])
    >>> corrector = CompositionalCorrector(output="counts").fit(counts, batch=["a", "a", "b", "b"])
    >>> corrector.transform(counts, batch=["a", "a", "b", "b"]).tolist()
    [[18.0, 15.0, 67.0], [34.0, 14.0, 52.0], [25.0, 15.0, 60.0], [50.0, 30.0, 120.0]]
    >>> corrector.scale_of_input_
    'counts'
    """

    __metadata_request__fit = REQUESTS
    __metadata_request__transform = REQUESTS
    __metadata_request__inverse_transform = REQUESTS

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "corrector": "no_validation",
        "transform": [StrOptions({"clr", "alr", "ilr", "rclr"})],
        "zeros": [StrOptions({"auto", *POLICIES}), HasMethods("fill")],
        "output": [StrOptions(set(OUTPUTS))],
        "reference": "no_validation",
        "partition": "no_validation",
        "batch_key": "no_validation",
        "keep_keys": ["array-like", None],
        "handle_unknown": [StrOptions(set(UNKNOWN)), None],
    }

    def __init__(
        self,
        corrector: Any = None,
        *,
        transform: str = "clr",
        zeros: Any = "auto",
        output: str = "log_ratio",
        reference: Any = None,
        partition: Any = None,
        batch_key: Key | Sequence[Key] | None = None,
        keep_keys: Sequence[Key] | None = None,
        handle_unknown: str | None = None,
    ) -> None:
        self.corrector = corrector
        self.transform = transform  # type: ignore[method-assign, assignment]  # see MethodAndParameter
        self.zeros = zeros
        self.output = output
        self.reference = reference
        self.partition = partition
        self.batch_key = batch_key
        self.keep_keys = keep_keys
        self.handle_unknown = handle_unknown

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Parameters, `transform` among them as the name that was given, and those of the corrector if `deep`."""
        own = {name: vars(self)[name] for name in self._get_param_names()}
        inner = own["corrector"]
        if deep and hasattr(inner, "get_params") and not isinstance(inner, type):
            own |= {f"corrector__{name}": value for name, value in inner.get_params().items()}
        return own

    # ---- the verbs

    def fit(self, X: Any, y: Any = None, *, batch: Any = None, keep: Any = None) -> Self:
        """Learn what zeros become, and the batch effects on log-ratios.

        Parameters
        ----------
        X : table (n samples, D parts)
            Counts, proportions or percentages, none negative or missing, no row of zeros. Dense, or CSR.
        y : ignored, or the target that the corrector keeps (its `keep_y`)
        batch, keep
            As in ComBat.

        Raises
        ------
        BatchfixError
            Values, parameters or labels that do not fit.
        """
        self._learn(X, y, {"batch": batch, "keep": keep})
        return self

    def fit_transform(self, X: Any, y: Any = None, *, batch: Any = None, keep: Any = None) -> Any:
        """`fit`, then `transform` of the same rows."""
        table, Z = self._learn(X, y, {"batch": batch, "keep": keep})
        return self._correct(table, Z)

    def transform(self, X: Any, *, batch: Any = None, keep: Any = None) -> Any:
        """Correct rows with the parts of fit, of known batches (see `handle_unknown` for others).

        Returns
        -------
        table (n, D), or (n, D - 1) for log-ratios of alr and ilr
            Of X's container and index.
        """
        check_is_fitted(self)
        table = self._read(X, {"batch": batch, "keep": keep}, reset=False)
        return self._correct(table, self._log_ratios(table))

    def adapt(self, X: Any, *, batch: Any = None, keep: Any = None) -> Self:
        """Learn new batches from their own unlabelled samples, everything known frozen; warns below 10 of them.

        Returns
        -------
        corrector
            A new one that knows these batches too. This one is unchanged.
        """
        check_is_fitted(self)
        table = self._read(X, {"batch": batch, "keep": keep}, reset=False)
        Z = self._log_ratios(table)
        new = copying.copy(self)
        if self._guarded and table.labels.get("batch") is not None:
            new.corrector_ = self._adapted(self.corrector_, table, Z, np.arange(len(table.batch().values)))
        else:
            new.corrector_ = self.corrector_.adapt(self._named_ratios(Z, table), **table.labels)
        return new

    def inverse_transform(self, X: Any, *, batch: Any = None, keep: Any = None, total: Any = None) -> Any:
        """Put the batch effects back: from what `transform` returned (but rounded counts) to amounts.

        What stood for zeros is not taken out again.

        Parameters
        ----------
        X : table
            Corrected log-ratios, proportions or amounts.
        total : float or array (n,), optional
            What rows are to sum to: by default 1 for log-ratios and else what they sum to in X.
        """
        check_is_fitted(self)
        if self.output == "counts":
            raise BatchfixError(
                "inverse_transform must be given what can be put back, and output='counts' rounds it away. "
                "Use output='composition' or 'abundance'."
            )
        values = self._plain_output(X)
        Z, total = self._back_to_ratios(values, total)
        labels = {what: given for what, given in (("batch", batch), ("keep", keep)) if given is not None}
        flat = [key for named in self._named.values() for key in named]
        if flat and isinstance(X, pd.DataFrame):
            levels = {key: X.index.get_level_values(key).to_numpy() for key in flat if key in X.index.names}
            for what, named in self._named.items():
                if named and what not in labels and all(key in levels for key in named):
                    labels[what] = pd.DataFrame({str(k): levels[k] for k in named}, index=X.index)
        table = Amounts(values, labels, X)
        restored = self._put_back(Z, table)
        if self.output != "log_ratio" and self._kind in ("clr", "rclr"):
            restored = _centred(restored, self._put_back(Z + 1, table))
        return self._wrap(self._composition(restored, total), X, self._parts_out())

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of log-ratios, or of the parts."""
        check_is_fitted(self)
        names = np.asarray(_check_feature_names_in(self, input_features), dtype=object)[self._features]
        return self.log_ratio_.get_feature_names_out(names) if self.output == "log_ratio" else names

    # ---- second looks

    def audit(self, X: Any, corrected: Any) -> Audit:
        """What the correction did to the amounts in X: zeros filled, positives zeroed, shares moved, sums.

        Parameters
        ----------
        X : table
            As it was given to `transform`.
        corrected : table
            As `transform` returned it.
        """
        check_is_fitted(self)
        before = self._read(X, {}, reset=False).values
        after, total = self._plain_output(corrected), None
        if self.output == "log_ratio":
            after = self._composition(after, 1.0)
        if self.output in ("log_ratio", "composition"):
            total = 1.0
        return audit_compositions(before, after, total)

    def check_depth(self, X: Any, *, batch: Any = None) -> DepthCheck:
        """Whether depth shows in the log-ratios of counts, and whether what stands for zeros makes it a batch effect.

        Warns
        -----
        PseudocountWarning
            With zeros as filled here, more than a hundredth more of the Aitchison variance lies between batches than
            with one fixed proportion for all zeros.
        """
        check_is_fitted(self)
        table = self._read(X, {"batch": batch}, reset=False)
        if scale_of(table.values) != "counts":
            raise BatchfixError(
                f"Depth must be counted, got {scale_of(table.values)}, whose sums say nothing of it. Give the counts."
            )
        return self._check_depth(table)

    def _check_depth(self, table: Amounts) -> DepthCheck:
        labels = table.batch()
        counts = depths(table.values).astype(np.float64)
        Z = rclr(table.values) if self._kind == "rclr" else clr(self.log_ratio_.zeros_.fill(table.values))
        fixed = Z
        if self.log_ratio_.zeros_.depends_on_depth:
            fixed = clr(HalfMinimum.learn(table.values).fill(table.values))
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

    # ---- reading

    @property
    def _kind(self) -> str:
        """The log-ratios; those of output="abundance" leave zeros out."""
        kind: str = vars(self)["transform"]
        return "rclr" if self.output == "abundance" else kind

    def _log_ratios(self, table: Amounts) -> np.ndarray:
        return np.asarray(self.log_ratio_.transform(self._named_parts(table.values)))

    def _named_parts(self, values: np.ndarray) -> Any:
        names = getattr(self, "feature_names_in_", None)
        return values if names is None else pd.DataFrame(values, columns=names[self._features], copy=False)

    def _named_ratios(self, Z: np.ndarray, table: Amounts) -> Any:
        """Log-ratios as the corrector sees them: with the rows' index, so that labels are aligned, and names."""
        if table.index is None:
            return Z
        return pd.DataFrame(Z, index=table.index, columns=self._ratio_names, copy=False)

    # ---- learning

    def _learn(self, X: Any, y: Any, labels: dict[str, Any]) -> tuple[Amounts, np.ndarray]:
        """Fit; whatever goes wrong, what was known before stays."""
        before = dict(vars(self))
        try:
            return self._learn_rows(X, y, labels)
        except BaseException:
            self.__dict__ = before
            raise

    def _learn_rows(self, X: Any, y: Any, labels: dict[str, Any]) -> tuple[Amounts, np.ndarray]:
        self._check_parameters()
        self._inner = self._prepared()
        self._named: dict[str, list[Key]] = self._inner._keys()
        table = self._read(X, labels, reset=True)
        self.scale_of_input_ = scale_of(table.values)
        logger.info("CompositionalCorrector took X for %s.", self.scale_of_input_)
        if self.output == "counts" and self.scale_of_input_ != "counts":
            raise BatchfixError(
                f"output='counts' must be given counts, got {self.scale_of_input_}. Give the counts, or set "
                "output='composition' or 'abundance'."
            )
        zeros = "auto" if self.output == "abundance" else self.zeros
        self.log_ratio_ = LogRatio(self._kind, zeros=zeros, reference=self.reference, partition=self.partition)
        self.log_ratio_.fit(self._named_parts(table.values))
        self._ratio_names = self.log_ratio_.get_feature_names_out(
            np.asarray(_check_feature_names_in(self), dtype=object)[self._features]
        )
        self._warn_unseen(table.values)
        Z = self._log_ratios(table)
        inner = clone(self._inner).set_params(**{f"{what}_key{'s' * (what != 'batch')}": None for what in self._named})
        extra = {"scale_where": self._scalable(table)} if self._guarded else {}
        self.corrector_ = inner.fit(self._named_ratios(Z, table), y, **table.labels, **extra)
        if self.log_ratio_.zeros_.depends_on_depth and "batch" in table.labels:
            self._check_depth(table)
        return table, Z

    def _check_parameters(self) -> None:
        try:
            self._validate_params()
        except InvalidParameterError as error:
            raise BatchfixError(str(error)) from error
        if self.corrector is not None and not isinstance(self.corrector, BatchwiseCorrector):
            raise BatchfixError(
                f"corrector must be a corrector with statistics per batch, such as ComBat(), got {self.corrector!r}."
            )
        if self.output != "abundance":
            return
        kind = vars(self)["transform"]
        if kind not in ("clr", "rclr"):
            raise BatchfixError(
                f"output='abundance' leaves zeros out, which {kind} cannot; got transform={kind!r}. "
                "Set transform='rclr'."
            )
        if isinstance(self.zeros, str) and self.zeros not in ("auto", "keep"):
            raise BatchfixError(f"output='abundance' keeps zeros; got zeros={self.zeros!r}. Set zeros='keep'.")

    def _prepared(self) -> Any:
        """The corrector of log-ratios, with the keys given here, and guarded if it scales."""
        inner: Any = BatchCorrector(scale=None) if self.corrector is None else clone(self.corrector)
        ours = {"batch_key": self.batch_key, "keep_keys": self.keep_keys, "handle_unknown": self.handle_unknown}
        inner.set_params(**{name: value for name, value in ours.items() if value is not None}, copy=True)
        scales = (isinstance(inner, ComBat) and not inner.mean_only) or getattr(inner, "scale", None) is not None
        if scales and inner.scale_guard is None:
            inner.set_params(scale_guard=SHARE)
        return inner

    @property
    def _guarded(self) -> bool:
        return getattr(self._inner, "scale_guard", None) is not None

    def _scalable(self, table: Amounts) -> np.ndarray:
        """Log-ratios (p,) that are present in enough samples of every batch of these rows."""
        return scale_allowed_of_cells(self._present(table.values), table.batch().codes, self._inner.scale_guard)

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
        inner = self._knowing(table, Z)
        corrected = np.asarray(inner.transform(self._named_ratios(Z, table), **table.labels))
        match self.output:
            case "log_ratio":
                return self._wrap(corrected, table.source, self._ratio_names)
            case "composition":
                out = self._composition(corrected, 1.0)
            case "counts":
                if not are_whole(table.values):
                    raise BatchfixError(
                        f"output='counts' must be given counts, as in fit, got {scale_of(table.values)} that are not "
                        "whole numbers. Give the counts."
                    )
                out = whole_counts(self._composition(corrected, 1.0), depths(table.values))
            case _:
                out = self._composition(corrected, depths(table.values))
        columns = getattr(table.source, "columns", None)
        names = self._parts_out() if columns is None else [c for c in columns if c not in self._consumed]
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
            inner = inner.adapt(self._bare(Z[rows]), **part.labels, scale_where=self._scalable(part))
        return inner

    def _bare(self, Z: np.ndarray) -> Any:
        """Rows whose labels are in order already, under the names that the corrector knows."""
        names = getattr(self.corrector_, "feature_names_in_", None)
        return Z if names is None else pd.DataFrame(Z, columns=names, copy=False)

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
        values = np.asarray(X.to_numpy() if hasattr(X, "to_numpy") else X)
        width = len(self.get_feature_names_out())
        if values.dtype.kind not in "fiu" or values.ndim != 2 or values.shape[1] != width:
            raise BatchfixError(
                f"The table must be numbers in the {width} columns that transform returns, got {values.dtype} of shape "
                f"{values.shape}. Give its result as it is."
            )
        return values if values.dtype.kind == "f" else values.astype(np.float64)

    def _back_to_ratios(self, values: np.ndarray, total: Any) -> tuple[np.ndarray, Any]:
        if self.output == "log_ratio":
            return values, 1.0 if total is None else total
        sums = depths(values) if total is None else total
        return np.asarray(self.log_ratio_.transform(self._named_parts(values))), sums

    def _put_back(self, Z: np.ndarray, table: Amounts) -> np.ndarray:
        return np.asarray(self.corrector_.inverse_transform(self._named_ratios(Z, table), **table.labels))

    def _parts_out(self) -> np.ndarray:
        return np.asarray(_check_feature_names_in(self), dtype=object)[self._features]

    def _wrap(self, out: np.ndarray, source: Any, names: Any) -> Any:
        """Give back the caller's kind of table, unless set_output asked for another."""
        if _get_output_config("transform", self)["dense"] != "default":
            return out
        if isinstance(source, pd.DataFrame):
            return pd.DataFrame(out, index=source.index, columns=names, copy=False)
        if is_polars(source):
            return type(source)(out, schema=list(names), orient="row")
        return out

    def __sklearn_tags__(self) -> Any:
        """No negative amounts; CSR is read; float32 stays."""
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = True
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


# below the class, since scikit-learn wraps `transform` when the class is made
CompositionalCorrector.transform = MethodAndParameter(  # type: ignore[method-assign, assignment]  # as it says
    CompositionalCorrector.transform
)


def _centred(restored: np.ndarray, of_one_more: np.ndarray) -> np.ndarray:
    """Log-ratios that sum to 0, of what is put back from log-ratios z, and from z + 1.

    Closing has lost a constant c a row, where a corrector scales. What is put back of z + c is affine in c, and its sum
    was 0: sum(z) + c (sum(z + 1) - sum(z)) = 0.
    """
    step = of_one_more - restored
    slope = np.nansum(step, axis=1, keepdims=True)
    c = -np.nansum(restored, axis=1, keepdims=True) / np.where(slope > 0, slope, 1.0)
    centred: np.ndarray = restored + c * step
    return centred
