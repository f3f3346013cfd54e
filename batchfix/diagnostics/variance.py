"""Variance: how much of a table batch and what is kept explain, each beyond the others.

A table and columns about its rows flow in; shares of variance flow out, each factor's beyond all others: its marginal
R2. What two factors explain together and neither alone is shared, which is where confounding shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..core.feature_effects import FeatureSquares, Squares, feature_squares
from ..correctors import inputs
from ..correctors.notices import warn
from ..exceptions import BatchfixError, EstimabilityWarning
from .samples import Samples, beside, one_hot, read_columns, read_labels, read_samples, refuse_too_few


@dataclass(frozen=True, eq=False)
class VarianceExplained:
    """Result of `variance_explained`.

    Attributes
    ----------
    table : DataFrame
        A row a factor, then "shared" and "residual"; columns R2, R2_adjusted, F, df. R2 adds up to 1, and so does
        R2_adjusted.
    features : DataFrame (p, factors + 2)
        R2 of each feature, in the same columns; NaN for a constant feature.
    factors : tuple of str
        Batch first, then what is kept.
    """

    table: pd.DataFrame
    features: pd.DataFrame
    factors: tuple[str, ...]

    @property
    def R2(self) -> pd.Series:  # noqa: N802 - the field's name
        """Marginal R2 of each factor."""
        return self.table.loc[list(self.factors), "R2"]

    @property
    def R2_adjusted(self) -> pd.Series:  # noqa: N802 - the field's name
        """Marginal adjusted R2 of each factor."""
        return self.table.loc[list(self.factors), "R2_adjusted"]

    @property
    def shared(self) -> float:
        """What factors explain together and none alone; below 0 where they mask each other."""
        return float(self.table.loc["shared", "R2"])

    @property
    def residual(self) -> float:
        """What nothing explains."""
        return float(self.table.loc["residual", "R2"])

    def __str__(self) -> str:
        parts = [f"{name} {self.table.loc[name, 'R2']:.1%}" for name in (*self.factors, "shared", "residual")]
        return f"Of the variance, each beyond the others: {', '.join(parts)}."


def variance_explained(X: Any, batch: Any, keep: Any = None) -> VarianceExplained:
    """Share of a table's variance that batch, and each kept column, explains beyond all the others.

        R2 = (RSS(others) - RSS(all)) / TSS,    summed over features

    as `adonis2(by="margin")` of the R package vegan has it, and R2_adjusted as its `varpart`: parts that add up to 1,
    of which one can be above its R2, or above 1, where the others explain less than noise would. `permanova` has the
    one that cannot.

    Parameters
    ----------
    X : table (n, p)
        Complete.
    batch : labels (n,), or a table of several factors
        What carries an index is aligned to X's.
    keep : table or columns, optional
        Text, bool and category are factors, fractions are numbers.

    Returns
    -------
    VarianceExplained

    Raises
    ------
    TooFewSamplesError
        No degree of freedom is left over.
    BatchfixError
        One batch, a constant table, missing values, or labels that are none.

    Warns
    -----
    EstimabilityWarning
        A factor follows from the others: its own share is 0, and what it explains is shared.

    References
    ----------
    Peres-Neto et al. 2006, "Variation partitioning of species data matrices", Ecology 87.

    Examples
    --------
    >>> from batchfix.datasets import make_lab
    >>> from batchfix.diagnostics.variance import variance_explained
    >>> lab = make_lab(60, 20, random_state=0)
    >>> found = variance_explained(lab.data, lab.batch, keep=lab.group)
    >>> found.factors, round(float(found.table["R2"].sum()), 9)
    (('batch', 'group'), 1.0)
    """
    samples = read_samples(X, "A share of the whole table's variance")
    n = len(samples)
    design = _batches(batch, samples)
    kept = read_columns(keep, samples, "keep")
    twice = [name for name in kept if name in design or name in ("shared", "residual")]
    if twice:
        raise BatchfixError(f"Columns of keep must have names of their own, got {twice[0]!r}. Rename it.")
    names = (*design, *kept)
    design |= kept
    squares = {
        name: feature_squares(samples.values, columns, beside((design[other] for other in names if other != name), n))
        for name, columns in design.items()
    }
    whole = next(iter(squares.values()))
    levels = sum(columns.shape[1] for columns in design.values())
    refuse_too_few(", ".join(names), n, levels, 0, int(whole.residual_df[0]))
    sums = {name: each.sum() for name, each in squares.items()}
    _refuse_constant(sums[names[0]])
    lost = [name for name, each in sums.items() if each.df == 0]
    if lost:
        warn(
            f"{', '.join(map(repr, lost))} must vary beside the others for a share of its own, but follows from them: "
            "its share is 0, and what it explains is shared.",
            EstimabilityWarning,
        )
    return VarianceExplained(_table(sums), _features(squares, samples), names)


def _batches(batch: Any, samples: Samples) -> dict[str, np.ndarray]:
    """Design columns of each batch factor; a single one is called batch."""
    columns = inputs.as_columns(batch, samples.index, len(samples), "batch") if np.ndim(batch) == 2 else {}
    if len(columns) < 2:
        return {"batch": one_hot(read_labels(batch, samples, "batch"))}
    return {name: one_hot(read_labels(column, samples, name)) for name, column in columns.items()}


def _refuse_constant(squares: Squares) -> None:
    if not squares.total > 0:
        raise BatchfixError(
            "A table must vary for its variance to be explained, got features that are all constant. "
            "Check that X is what was measured."
        )


def _table(sums: dict[str, Squares]) -> pd.DataFrame:
    first = next(iter(sums.values()))
    n_1 = first.given_df + first.df + first.residual_df
    left = first.residual / first.total
    left_adjusted = left * n_1 / first.residual_df
    rows = {name: (each.R2, each.R2_partitioned, each.F if each.df else np.nan, each.df) for name, each in sums.items()}
    own, own_adjusted = (sum(row[k] for row in rows.values()) for k in (0, 1))
    rows["shared"] = (1 - left - own, 1 - left_adjusted - own_adjusted, np.nan, 0)
    rows["residual"] = (left, left_adjusted, np.nan, first.residual_df)
    return pd.DataFrame.from_dict(rows, orient="index", columns=["R2", "R2_adjusted", "F", "df"])


def _features(squares: dict[str, FeatureSquares], samples: Samples) -> pd.DataFrame:
    first = next(iter(squares.values()))
    shares = {name: each.eta2 for name, each in squares.items()}
    with np.errstate(divide="ignore", invalid="ignore"):
        left = np.where(first.total > 0, first.residual / first.total, np.nan)
    shares["shared"] = 1 - left - np.sum(list(shares.values()), axis=0)
    shares["residual"] = left
    return pd.DataFrame(shares, index=samples.features)
