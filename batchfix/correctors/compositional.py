"""CompositionalCorrector: any correction between batches, of compositions, in log-ratio space.

A table of amounts and its batch labels flow in. Keys leave the table, depths are set aside, zeros are dealt with,
log-ratios taken, corrected by any corrector, and given out as such, as proportions, or as amounts at their old depth:

    amounts -> (keys, depth) -> zeros -> log-ratios -> corrector -> (composition -> depth) -> out
"""

from __future__ import annotations

import copy as copying
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from sklearn.utils._param_validation import HasMethods, StrOptions
from sklearn.utils.validation import check_is_fitted

from ..core.audit import Audit, audit_compositions
from ..core.depth import DepthCheck
from ..core.log_ratios import recentred
from ..core.zeros import POLICIES
from ..exceptions import BatchfixError, MergeError
from . import inputs
from .adding import WhereItAdds
from .amounts import Amounts, scale_of, scale_of_both
from .base import REQUESTS, UNKNOWN
from .ratios import RatioCorrection
from .tables import Key

OUTPUTS = ("log_ratio", "composition", "counts", "abundance")


class CompositionalCorrector(RatioCorrection):
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
        remainders; float64), from counts only; or amounts in which every zero stays zero and rows sum to what they did,
        the rest being corrected among themselves as robust centred log-ratios.
    reference, partition
        For alr and ilr: see LogRatio.
    batch_key, keep_keys, handle_unknown : optional
        As in ComBat; they replace the corrector's own. Columns that keys name leave the table before it is closed.

    Attributes
    ----------
    scale_of_input_ : {"counts", "proportions", "percentages", "amounts"}
        What the rows of fit were taken for: whole numbers; rows that sum to 1 at most, or to 100; or none of these, as
        where parts of several kinds were added up.
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
    __metadata_request__partial_fit = REQUESTS
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
        self.transform = transform  # type: ignore[method-assign, assignment]  # see TransformParameter
        self.zeros = zeros
        self.output = output
        self.reference = reference
        self.partition = partition
        self.batch_key = batch_key
        self.keep_keys = keep_keys
        self.handle_unknown = handle_unknown

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Parameters, `transform` among them as the name that was given, and those of the corrector if `deep`."""
        own = self._own_params()
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

    @WhereItAdds
    def partial_fit(self, X: Any, y: Any = None, *, batch: Any = None, keep: Any = None) -> Self:
        """Add rows to what is known: the same as one fit on all rows, in any chunks. Parameters are those of `fit`.

        What becomes of zeros must then not be learned from the rows: give `zeros` a policy with its number, such as
        ``HalfMinimum(1e-6)``, or use output="abundance".
        """
        self._learn(X, y, {"batch": batch, "keep": keep}, add=True)
        return self

    def merge(self, other: Self) -> Self:
        """Return a new corrector, fitted as if to the rows of both; neither needs to see the other's rows.

        Both must have filled zeros alike: see `partial_fit`.

        Raises
        ------
        MergeError
            Other parameters or parts, zeros filled otherwise, or statistics that do not add up.
        """
        check_is_fitted(self)
        if type(other) is not type(self):
            raise MergeError(f"Only two of a kind merge, got {type(self).__name__} and {type(other).__name__}.")
        check_is_fitted(other)
        self._check_same_ratios(other)
        merged = copying.copy(self)
        merged.corrector_ = self.corrector_.merge(other.corrector_)
        merged.scale_of_input_ = scale_of_both(self.scale_of_input_, other.scale_of_input_)
        return merged

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
            new.corrector_ = self.corrector_.adapt(self._named_ratios(Z), **table.bare())
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
        if hasattr(total, "index"):
            total = inputs.align(total, X.index if isinstance(X, pd.DataFrame) else None, len(values), "total")
        Z, total = self._back_to_ratios(values, total)
        labels = {what: given for what, given in (("batch", batch), ("keep", keep)) if given is not None}
        flat = [key for named in self._named.values() for key in named]
        if flat and isinstance(X, pd.DataFrame):
            levels = {key: X.index.get_level_values(key).to_numpy() for key in flat if key in X.index.names}
            for what, named in self._named.items():
                if named and what not in labels and all(key in levels for key in named):
                    labels[what] = pd.DataFrame({str(k): levels[k] for k in named}, index=X.index)
        table = Amounts(values, labels, X)
        self._check_labelled(table)
        restored = self._put_back(Z, table)
        if self.output != "log_ratio" and self._kind in ("clr", "rclr"):
            restored = recentred(restored, self._put_back(Z + 1, table))
        return self._as_given(self._composition(restored, total), X, self._names_in())

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of log-ratios, or of the parts."""
        check_is_fitted(self)
        names = self._part_names(input_features)
        return self.log_ratio_.get_feature_names_out(names) if self.output == "log_ratio" else names

    @property
    def batches_(self) -> np.ndarray:
        """Labels of the batches, those that `adapt` added last."""
        check_is_fitted(self)
        return np.asarray(self.corrector_.batches_)

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
        table = self._read(X, {}, reset=False)
        if table.index is not None and isinstance(corrected, pd.DataFrame):
            corrected = inputs.align(corrected, table.index, len(table.values), "corrected")
        before, after, total = table.values, self._plain_output(corrected), None
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
        self._check_labelled(table)
        if scale_of(table.values) != "counts":
            raise BatchfixError(
                f"Depth must be counted, got {scale_of(table.values)}, whose sums say nothing of it. Give the counts."
            )
        return self._check_depth(table)

    def __sklearn_tags__(self) -> Any:
        """No negative amounts; CSR is read; float32 stays."""
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = True
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
