"""Effects: which features batch moves, and by how much.

A table, labels and what is kept flow in; a row a feature flows out: share of variance, F, p and false discovery rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..core.feature_effects import benjamini_hochberg, feature_squares
from ..exceptions import ConfoundedDesignError
from .samples import beside, one_hot, read_columns, read_labels, read_samples, refuse_too_few


@dataclass(frozen=True, eq=False)
class FeatureEffects:
    """Result of `feature_effects`.

    Attributes
    ----------
    table : DataFrame
        A row a feature, in the order of X; columns eta2, F, df, residual_df, p_value, q_value. NaN where there is
        nothing to test: a constant feature, or one that too few samples or one batch alone have.
    given : tuple of str
        What was kept.
    """

    table: pd.DataFrame
    given: tuple[str, ...]

    @property
    def eta2(self) -> pd.Series:
        """Share of each feature's variance that batch explains, beyond what is kept."""
        return self.table["eta2"]

    @property
    def F(self) -> pd.Series:  # noqa: N802 - the field's name
        """F of batch in each feature."""
        return self.table["F"]

    @property
    def p_value(self) -> pd.Series:
        """P of a larger F by chance."""
        return self.table["p_value"]

    @property
    def q_value(self) -> pd.Series:
        """False discovery rate (Benjamini-Hochberg) at which the feature would be called."""
        return self.table["q_value"]

    @property
    def median_eta2(self) -> float:
        """eta2 of the median feature; NaN if none varies."""
        known = self.eta2.dropna()
        return float(known.median()) if len(known) else float("nan")

    def top(self, count: int = 10) -> pd.DataFrame:
        """The features that batch explains most of, largest first."""
        return self.table.sort_values("eta2", ascending=False, kind="stable").head(count)

    def __str__(self) -> str:
        tested = int(self.F.notna().sum())
        if not tested:
            return "No feature could be tested: none varies, or too few samples are left."
        found = int((self.q_value < 0.05).sum())
        beyond = f" beyond {', '.join(self.given)}" if self.given else ""
        worst = f"most of all {self.eta2.idxmax()} ({self.eta2.max():.1%})"
        return (
            f"Batch moves {found:,} of {tested:,} features{beyond} (false discovery rate 5%); it explains "
            f"{self.median_eta2:.1%} of the median feature's variance, {worst}."
        )


def feature_effects(X: Any, batch: Any, keep: Any = None) -> FeatureEffects:
    """How much of each feature's variance batch explains, beyond what is kept.

        eta2 = (RSS(keep) - RSS(keep + batch)) / TSS,    F = (TSS eta2 / df) / (RSS(keep + batch) / residual_df)

    and p of F were the noise normal. Average the eta2 of features weighted by their variance: it is the R2 of
    `permanova` with Euclidean distances. It tells of location alone; for spread see `dispersion`.

    Parameters
    ----------
    X : table (n, p)
        NaN is not observed: that feature is analysed over its other samples.
    batch : labels (n,)
        What carries an index is aligned to X's.
    keep : table or columns, optional
        Text, bool and category are factors, fractions are numbers.

    Returns
    -------
    FeatureEffects

    Raises
    ------
    TooFewSamplesError
        No degree of freedom is left over.
    BatchfixError
        One batch, infinite values, or labels that are none.

    Examples
    --------
    >>> from batchfix.datasets import make_lab
    >>> from batchfix.diagnostics.effects import feature_effects
    >>> lab = make_lab(60, 20, random_state=0)
    >>> found = feature_effects(lab.data, lab.batch, keep=lab.group)
    >>> found.table.columns.tolist()
    ['eta2', 'F', 'df', 'residual_df', 'p_value', 'q_value']
    """
    samples = read_samples(X)
    n = len(samples)
    labels = read_labels(batch, samples, "batch")
    kept = read_columns(keep, samples, "keep")
    given = beside(kept.values(), n)
    squares = feature_squares(samples.values, one_hot(labels), given)
    refuse_too_few("batch", n, len(labels.values), int(squares.given_df.max()), int(squares.residual_df.max()))
    if not squares.df.any() and (squares.n == n).any():
        raise ConfoundedDesignError(
            f"batch must not follow from what is kept, got batches that {', '.join(kept)} already tell apart. "
            "Keep less, or look at batch alone."
        )
    p_value = squares.p_value
    table = pd.DataFrame(
        {
            "eta2": np.where(squares.df > 0, squares.eta2, np.nan),
            "F": squares.F,
            "df": squares.df,
            "residual_df": squares.residual_df,
            "p_value": p_value,
            "q_value": benjamini_hochberg(p_value),
        },
        index=samples.features,
    )
    return FeatureEffects(table, tuple(kept))
