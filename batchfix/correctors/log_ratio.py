"""LogRatio: compositions as coordinates that scikit-learn can work in, and back.

A table of amounts (counts, proportions, percentages; dense or CSR) flows in; zeros are dealt with as learned in fit,
and log-ratios flow out, one column each:

    clr   ln(x_j / g(x))        alr   ln(x_j / x_r)        ilr   sqrt(r s / (r + s)) ln(g(x_+) / g(x_-))
    rclr  ln(x_j / g(x > 0)), NaN where x is 0             g the geometric mean
"""

from __future__ import annotations

from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from scipy.sparse import issparse
from sklearn.base import TransformerMixin
from sklearn.utils._param_validation import HasMethods, InvalidParameterError, StrOptions
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from ..core.balances import ilr, ilr_inv
from ..core.log_ratios import alr, alr_inv, clr, clr_inv, rclr, rclr_inv
from ..core.naming import nearest, some
from ..core.partition import BinaryPartition
from ..core.zeros import POLICIES, ZeroPolicy
from ..exceptions import BatchfixError, PseudocountWarning
from . import inputs, notices
from .amounts import AmountReader
from .tables import float_types, plain
from .transform_parameter import TransformParameter

FLOATS = [np.float64, np.float32]


class LogRatio(TransformParameter, TransformerMixin, AmountReader):
    """Log-ratios of compositions: a transformer with an inverse.

    Parameters
    ----------
    transform : {"clr", "alr", "ilr", "rclr"}, default "clr"
        Centred, additive (against `reference`), isometric (balances of `partition`), or robust centred (without zeros).
    zeros : {"auto", "half_minimum", "multiplicative", "pseudocount", "keep"} or a policy, default "auto"
        What to do about zeros, on the proportion scale, learned in fit and kept for new samples: half of the table's
        smallest nonzero proportion; multiplicative replacement by 1 / D^2; 0.5 added to every count, which makes a
        batch effect of sequencing depth and warns; or nothing. "auto" is "keep" for rclr and "half_minimum" otherwise.
        A policy of `batchfix.core.zeros` says its number itself, as ``HalfMinimum(1e-6)``.
    reference : str or int, optional
        The part that alr divides by; by default the last. By name, or by position in a table whose columns have none.
    partition : array (D - 1, D) of 1, -1 and 0, optional
        The sequential binary partition of ilr, a split a row; by default the first part against the second, the first
        two against the third, and so on.

    Attributes
    ----------
    zeros_ : policy
        As learned.
    reference_ : int
        Position of the reference; with alr.
    partition_ : BinaryPartition or None
        With ilr; None is the default one.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    References
    ----------
    Aitchison 1986, "The Statistical Analysis of Compositional Data", chapter 4 (clr, alr); Egozcue et al. 2003,
    "Isometric logratio transformations"; Martino et al. 2019, equation 1 (rclr).

    Examples
    --------
    >>> import pandas as pd
    >>> counts = pd.DataFrame({"Bacteroides": [30, 0], "Dialister": [60, 80], "Roseburia": [10, 20]})
    >>> ratios = LogRatio("alr", reference="Dialister").set_output(transform="pandas").fit_transform(counts)
    >>> ratios.round(2).to_dict("list")
    {'ln(Bacteroides / Dialister)': [-0.69, -2.77], 'ln(Roseburia / Dialister)': [-1.79, -1.39]}
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "transform": [StrOptions({"clr", "alr", "ilr", "rclr"})],
        "zeros": [StrOptions({"auto", *POLICIES}), HasMethods("fill")],
        "reference": [str, Integral, None],
        "partition": ["array-like", None],
    }

    def __init__(
        self, transform: str = "clr", *, zeros: Any = "auto", reference: Any = None, partition: Any = None
    ) -> None:
        self.transform = transform  # type: ignore[method-assign, assignment]  # see TransformParameter
        self.zeros = zeros
        self.reference = reference
        self.partition = partition

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Parameters, `transform` among them as the name that was given."""
        return self._own_params()

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn what zeros become, and the names of the parts.

        Parameters
        ----------
        X : table (n, D), array or CSR
            Counts, proportions or percentages of D parts, 2 or more; none negative, no row of zeros.
        y
            Not used.

        Raises
        ------
        BatchfixError
            A value or a parameter that a composition cannot have.
        """
        try:
            self._validate_params()
        except InvalidParameterError as error:
            raise BatchfixError(str(error)) from error
        self._named = {}
        self._fit(self._amounts(X, reset=True))
        return self

    def fit_transform(self, X: Any, y: Any = None) -> np.ndarray:
        """`fit`, then `transform`."""
        return self.fit(X).transform(X)

    def transform(self, X: Any) -> np.ndarray:
        """Log-ratios of rows with the parts of fit, (n, D) or, of alr and ilr, (n, D - 1); float32 stays float32."""
        check_is_fitted(self)
        values = self._amounts(X, reset=False)
        filled = self.zeros_.fill(values)
        if isinstance(values, np.ndarray) and np.shares_memory(filled, values):
            filled = filled.copy()
        return self._ratios(filled)

    def _ratios(self, filled: np.ndarray) -> np.ndarray:
        """Log-ratios of proportions without zeros, which are written over."""
        match self._kind:
            case "clr":
                return clr(filled, out=filled)
            case "rclr":
                return rclr(filled, out=filled)
            case "alr":
                return alr(filled, self.reference_)
            case _:
                return ilr(filled, self.partition_)

    def inverse_transform(self, X: Any, total: Any = 1.0) -> np.ndarray:
        """Back to compositions: what stood for zeros is not taken out again, but of rclr, where NaN becomes 0.

        Parameters
        ----------
        X : table (n, D) or (n, D - 1)
            Log-ratios.
        total : float or array (n,)
            What each row sums to: 1 for proportions, 100 for percentages, depths for amounts on the scale of counts.

        Returns
        -------
        array (n, D)
        """
        check_is_fitted(self)
        self._same_columns(X, self.get_feature_names_out())
        finite = "allow-nan" if self._kind == "rclr" else True
        Z = check_array(plain(X), dtype=float_types(X), ensure_all_finite=finite)
        if hasattr(total, "index"):
            total = inputs.align(total, X.index if isinstance(X, pd.DataFrame) else None, len(Z), "total")
        if Z.shape[1] != self._n_features_out:
            raise BatchfixError(
                f"inverse_transform must be given the {self._n_features_out} log-ratios that transform returns; got "
                f"{Z.shape[1]} columns."
            )
        match self._kind:
            case "clr":
                return clr_inv(Z, total)
            case "rclr":
                return rclr_inv(Z, total)
            case "alr":
                return alr_inv(Z, self.reference_, total)
            case _:
                return ilr_inv(Z, self.partition_, total)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names that read as ratios; g is the geometric mean."""
        check_is_fitted(self)
        parts = [str(name) for name in self._part_names(input_features)]
        match self._kind:
            case "clr":
                names = [f"ln({part} / g(all))" for part in parts]
            case "rclr":
                names = [f"ln({part} / g(nonzero))" for part in parts]
            case "alr":
                over = parts[self.reference_]
                names = [f"ln({part} / {over})" for j, part in enumerate(parts) if j != self.reference_]
            case _:
                names = _balances(self.partition_ or BinaryPartition.default(len(parts)), parts)
        return np.asarray(names, dtype=object)

    # ---- what it learns

    @property
    def _kind(self) -> str:
        """The log-ratios of fit."""
        if self._asked != self._fitted_kind:
            raise BatchfixError(
                f"transform must be that of fit, got {self._asked!r} after a fit with {self._fitted_kind!r}. Fit again."
            )
        return self._fitted_kind

    def _amounts(self, X: Any, *, reset: bool) -> Any:
        """Amounts that a composition can have, dense or CSR."""
        if not issparse(X):
            return self._read(X, {}, reset=reset).values
        self._features, self._numbered, self._consumed = slice(None), None, []
        sparse = validate_data(self, X, accept_sparse="csr", dtype=FLOATS, reset=reset, ensure_min_features=2)
        lowest = sparse.data.min(initial=0.0)
        if lowest < 0:
            raise BatchfixError(
                f"Negative values in data, which must be amounts of 0 or more; got {lowest!s}. Give counts, "
                "proportions or percentages, before any logarithm or centring."
            )
        return sparse

    @property
    def _n_features_out(self) -> int:
        parts: int = self.n_features_in_
        return parts - (self._kind in ("alr", "ilr"))

    def _fit(self, X: Any) -> None:
        parts = X.shape[1]
        self._fitted_kind = self._asked
        if self._kind == "alr":
            self.reference_ = self._position(parts)
        if self._kind == "ilr":
            partition = None if self.partition is None else BinaryPartition.from_signs(self.partition)
            if partition is not None and len(partition.order) != parts:
                raise BatchfixError(
                    f"partition must split the {parts} parts of X; got a sign matrix for {len(partition.order)}."
                )
            self.partition_ = partition
        self.zeros_ = self._policy(X)
        if self.zeros_.depends_on_depth:
            notices.warn(
                "What stands for zero must not go with depth, or batches of other depth become other compositions; a "
                "pseudocount does. Choose zeros='half_minimum' unless all samples are equally deep.",
                PseudocountWarning,
            )

    def _policy(self, X: Any) -> ZeroPolicy:
        if not isinstance(self.zeros, str):
            if isinstance(self.zeros, type) or not hasattr(self.zeros, "depends_on_depth"):
                raise BatchfixError(
                    f"zeros must be a policy such as HalfMinimum(1e-6), with `fill` and `depends_on_depth`, got "
                    f"{self.zeros!r}."
                )
            policy: ZeroPolicy = self.zeros
            return policy
        automatic = "keep" if self._kind == "rclr" else "half_minimum"
        return POLICIES[automatic if self.zeros == "auto" else self.zeros].learn(X)

    def _position(self, parts: int) -> int:
        """Where the reference stands."""
        wanted, names = self.reference, list(getattr(self, "feature_names_in_", []))
        if wanted is None:
            return parts - 1
        if self._numbered is not None and self._numbered != list(range(parts)):
            names = self._numbered
            if wanted not in names:
                raise BatchfixError(
                    f"reference must be one of the parts, whose names are {some(names, 5)}; got {wanted!r}. Positions "
                    "are for tables whose columns have no names."
                )
            return names.index(wanted)
        if isinstance(wanted, str):
            if wanted not in names:
                guess = nearest(wanted, names)
                raise BatchfixError(
                    f"reference must be one of the parts; got {wanted!r}, and X has "
                    f"{'no such column' if names else 'no names'}{guess}. Give a name, or a position from 0."
                )
            return names.index(wanted)
        if isinstance(wanted, bool) or not -parts <= wanted < parts:
            raise BatchfixError(f"reference must be one of the {parts} parts, from 0; got {wanted!r}.")
        return int(wanted) % parts

    def __sklearn_tags__(self) -> Any:
        """No negative amounts; CSR is read; float32 stays."""
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = True
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _balances(partition: BinaryPartition, parts: list[str]) -> list[str]:
    """Names of the balances: of groups the first part and how many more."""

    def group(members: np.ndarray) -> str:
        first = parts[members[0]]
        return first if len(members) == 1 else f"g({first} + {len(members) - 1} more)"

    spans = zip(partition.start, partition.middle, partition.stop, strict=True)
    order = partition.order
    return [f"ilr{k}: ln({group(order[a:m])} / {group(order[m:b])})" for k, (a, m, b) in enumerate(spans, start=1)]
