"""Held out: how much of the batch effect is left in samples that the corrector has not learned from.

A table, its labels and a corrector flow in; what batch explains in the other half of the samples flows out. Within the
samples that were learned from, batch means agree by construction and the R2 of batch is 0, whatever was done. The
means of the other half differ from what was learned by noise alone: with n_b and m_b samples of batch b held out and
learned from,

    E F = inflation = sum_b (1 - n_b / n) (1 + n_b / m_b) / (B - 1)        2 for halves, where it is 1 by chance

which leaves an R2 of about 2 (B - 1) / n. F is compared with permutations after division by it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import fdtrc

from ..core.feature_effects import benjamini_hochberg
from ..correctors.inputs import Labels
from ..exceptions import TooFewSamplesError
from .anova import permanova
from .correction import Correction, Labelled, gathered
from .effects import feature_effects
from .samples import generator, read_samples

FEWEST = 4
"""Samples of a batch, two for each half."""


@dataclass(frozen=True, eq=False)
class HeldOut:
    """What batch explains in halves of the samples that the corrector has not learned from; means over the halves.

    Attributes
    ----------
    R2, R2_adjusted : float
        Of batch, beyond what is kept.
    noise : float
        R2 that the noise of the learned means adds on average; it is no failure of the correction.
    p_value : float
        Of an F as large, divided by `inflation`, under Freedman-Lane permutations; twice the median over the halves,
        which is valid however these depend on each other.
    inflation : float
        F that a perfect correction leaves on average, about 2.
    splits : DataFrame
        A row a half: R2, R2_adjusted, F, p_value.
    features : DataFrame
        A row a feature: eta2 (mean over halves), p_value (as above) and q_value.
    left_out : tuple of labels
        Batches of fewer than four samples.
    """

    R2: float
    R2_adjusted: float
    noise: float
    p_value: float
    inflation: float
    splits: pd.DataFrame
    features: pd.DataFrame
    left_out: tuple[object, ...]

    @property
    def left(self) -> float:
        """Adjusted R2 less the noise of the learned means: what the correction left; about 0 where it left nothing."""
        return self.R2_adjusted - self.noise

    def __str__(self) -> str:
        return (
            f"fitted on half of each batch, {self.R2_adjusted:.1%} adjusted in the other half, of which "
            f"{self.noise:.1%} is the noise of the learned means (p = {self.p_value:.3g})"
        )


def held_out(
    correction: Correction,
    table: Labelled,
    labels: Labels,
    *,
    repeats: int = 3,
    permutations: int = 199,
    random_state: object = 0,
) -> HeldOut:
    """Fit on half of each batch, correct and measure the other half, and the other way round, `repeats` times.

    Raises
    ------
    TooFewSamplesError
        Fewer than two batches have four samples.
    """
    sizes = np.bincount(labels.codes)
    large = sizes >= FEWEST
    if large.sum() < 2:
        raise TooFewSamplesError(
            f"There must be two batches of {FEWEST} samples at least to fit on half of them, got batches of at most "
            f"{int(np.sort(sizes)[-1])} and {int(np.sort(sizes)[-2])}."
        )
    rows = np.flatnonzero(large[labels.codes])
    random = generator(random_state)
    found, features = [], []
    with gathered():
        for _ in range(repeats):
            half = _half(table, labels, rows, random)
            for train, test in ((rows[half], rows[~half]), (rows[~half], rows[half])):
                values = correction.learn(table.rows(train))(table.rows(test))
                row, by_feature = _measured(values, table, labels, train, test, permutations, random)
                found.append(row)
                features.append(by_feature)
    splits = pd.DataFrame(found)
    p_features = np.minimum(1.0, 2 * np.median([each["p_value"] for each in features], axis=0))
    return HeldOut(
        R2=float(splits["R2"].mean()),
        R2_adjusted=float(splits["R2_adjusted"].mean()),
        noise=float(splits["noise"].mean()),
        p_value=min(1.0, 2 * float(splits["p_value"].median())),
        inflation=float(splits["inflation"].mean()),
        splits=splits,
        features=pd.DataFrame(
            {
                "eta2": np.mean([each["eta2"] for each in features], axis=0),
                "p_value": p_features,
                "q_value": benjamini_hochberg(p_features),
            }
        ),
        left_out=tuple(labels.values[~large].tolist()),
    )


def _half(table: Labelled, labels: Labels, rows: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Every other sample, of each batch and each level of what is kept, in random order: bool (rows,)."""
    frame = pd.DataFrame({"batch": labels.codes[rows], "random": random.random(len(rows))})
    by = ["batch"]
    for k, (_, column) in enumerate({} if table.keep is None else dict(table.keep).items()):
        if not pd.api.types.is_float_dtype(column.dtype):
            frame[f"keep{k}"] = pd.factorize(column.iloc[rows])[0]
            by.append(f"keep{k}")
    order = frame.sort_values([*by, "random"]).index.to_numpy()
    place = np.empty(len(rows), dtype=np.intp)
    codes = labels.codes[rows][order]
    start = np.flatnonzero(np.r_[True, np.diff(codes) > 0])
    place[order] = np.arange(len(rows)) - np.repeat(start, np.diff(np.r_[start, len(rows)]))
    first = random.integers(2, size=len(labels.values))  # which half has the odd sample
    return np.asarray((place + first[labels.codes[rows]]) % 2 == 0)


def _measured(
    values: np.ndarray,
    table: Labelled,
    labels: Labels,
    train: np.ndarray,
    test: np.ndarray,
    permutations: int,
    random: np.random.Generator,
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    read_samples(values, "A share of the variance", name="corrected X")
    keep = None if table.keep is None else table.keep.iloc[test].reset_index(drop=True)
    batch = table.batch[test]
    n, m = (np.bincount(labels.codes[at], minlength=len(labels.values)) for at in (test, train))
    there = n > 0
    spread = 1 - n[there] / n.sum()
    inflation = float((spread * (1 + n[there] / m[there])).sum() / spread.sum())
    whole = permanova(values, batch, given=keep, permutations=permutations, random_state=random)
    effects = feature_effects(values, batch, keep=keep).table
    p = fdtrc(
        effects["df"].to_numpy().clip(1), effects["residual_df"].to_numpy().clip(1), effects["F"].to_numpy() / inflation
    )
    above = int((whole.permuted_F >= whole.F / inflation).sum())
    row = {
        "R2": whole.R2,
        "R2_adjusted": whole.R2_adjusted,
        "F": whole.F,
        "noise": (inflation - 1) * (whole.R2 / whole.F if whole.F > 0 else whole.df / (len(test) - 1)),
        "p_value": (1 + above) / (1 + len(whole.permuted_F)),
        "inflation": inflation,
    }
    return row, {"eta2": effects["eta2"].to_numpy(), "p_value": np.where(np.isfinite(effects["F"]), p, np.nan)}
