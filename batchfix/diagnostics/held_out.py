"""Held out: how much of the batch effect is left in samples that the corrector has not learned from.

A table, its labels and a corrector flow in; what batch explains in the other half of the samples flows out. Within the
samples that were learned from, batch means agree by construction and the R2 of batch is 0, whatever was done. The
means of the other half differ from what was learned by noise alone: with n_b and m_b samples of batch b held out and
learned from,

    E F = inflation = sum_b (1 - n_b / n) (1 + n_b / m_b) / (B - 1)        2 for halves, where it is 1 by chance

which leaves an R2 of about 2 (B - 1) / n. F is compared with permutations after division by it. The uncorrected table
is measured in the same halves: whether a correction adds more than it takes away can be told from as many samples only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import fdtrc

from ..core.feature_effects import benjamini_hochberg
from ..core.permanova import splits_of
from ..core.zeros import ZeroPolicy
from ..correctors.inputs import Labels
from ..exceptions import TooFewSamplesError
from .anova import Permanova, permanova
from .correction import Correction, Labelled, gathered
from .distances import measure
from .effects import feature_effects
from .samples import generator

FEWEST = 4
"""Samples of a batch, two for each half."""

SURE = 1.5
"""Standard deviations of F beyond which harm is no noise: of 80 tables without a batch effect, LinearCorrector has none
there."""


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
        which is valid however these depend on each other, and says too little more often than too much. NaN where
        values are missing: see `reason`.
    inflation : float
        F that a perfect correction leaves on average, about 2.
    splits : DataFrame
        A row a half: R2, R2_adjusted, F, p_value.
    features : DataFrame
        A row a feature: eta2 (mean over halves), p_value (as above) and q_value.
    left_out : tuple of labels
        Batches of fewer than four samples.
    F, F_before : float
        Of batch, and the same of the uncorrected table in the same halves.
    sd : float
        Of the F that a perfect correction leaves, by permutations.
    least_p : float
        The smallest p that so few samples can have.
    left_alone, p_alone : float
        `left` and `p_value` of batch with nothing given: what is left where a correction did not heed what is kept.
    reason : str
        Why there are features alone; empty where there is all.

    Notes
    -----
    `noise` and `inflation` are those of a corrector that learns the mean of each batch. One that shrinks, or learns
    none, leaves less noise, so that `left` is too small by up to `noise`.
    """

    R2: float
    R2_adjusted: float
    noise: float
    p_value: float
    inflation: float
    splits: pd.DataFrame
    features: pd.DataFrame
    left_out: tuple[object, ...]
    F: float = float("nan")
    F_before: float = float("nan")
    sd: float = float("nan")
    least_p: float = 0.0
    left_alone: float = float("nan")
    p_alone: float = float("nan")
    reason: str = ""

    @property
    def there_was(self) -> float:
        """Batch effect of the uncorrected table in the halves, in units of the noise of a batch mean there."""
        return max(self.F_before - 1, 0.0)

    @property
    def there_is(self) -> float:
        """The same after a correction that learned from all samples: what it left, and half the noise of a half."""
        return self.F - self.inflation + (self.inflation - 1) / 2

    @property
    def harmful(self) -> bool:
        """Whether the correction adds more to the batches than it takes away, beyond noise."""
        return self.there_is > self.there_was + 1 + SURE * self.sd

    @property
    def left(self) -> float:
        """Adjusted R2 less the noise of the learned means: what the correction left; about 0 where it left nothing."""
        return self.R2_adjusted - self.noise

    def __str__(self) -> str:
        if self.reason:
            q = self.features["q_value"]
            return (
                f"fitted on half of each batch, batch moves {int((q < 0.05).sum()):,} of {int(q.notna().sum()):,} "
                f"features of the other half (false discovery rate 5 %); of all together it cannot be had: "
                f"{self.reason}"
            )
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
    distance: str = "euclidean",
    zeros: ZeroPolicy | None = None,
    ordered: bool = False,
) -> HeldOut:
    """Fit on half of each batch, correct and measure the other half, and the other way round, `repeats` times.

    Where rows are `ordered` in time, the earlier half of each batch is learned from and the later one measured, once.
    Of batches that follow each other, the earlier halves of later ones are learned from too: what they share is pooled.

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
    raw = correction.baseline().whole(table)
    trial = _Trial(table, labels, permutations, random, distance, zeros)
    reason = ""
    with gathered():
        for _ in range(1 if ordered else repeats):
            half = _earlier(labels, rows) if ordered else _half(table, labels, rows, random)
            ways = ((rows[half], rows[~half]), (rows[~half], rows[half]))
            for train, test in ways[:1] if ordered else ways:
                values = correction.learn(table.rows(train))(table.rows(test))
                if np.isnan(values).any():
                    reason = f"corrected X has {int(np.isnan(values).sum()):,} missing values in a half."
                row, by_feature = trial.measured(values, raw[test], train, test)
                found.append(row)
                features.append(by_feature)
    splits = pd.DataFrame(found)
    p_features = np.minimum(1.0, 2 * np.median([each["p_value"] for each in features], axis=0))
    return HeldOut(
        R2=float(splits["R2"].mean()),
        R2_adjusted=float(splits["R2_adjusted"].mean()),
        noise=float(splits["noise"].mean()),
        p_value=float(np.minimum(1.0, 2 * splits["p_value"].median(skipna=False))),
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
        F=float(splits["F"].mean(skipna=False)),
        F_before=float(splits["F_before"].mean(skipna=False)),
        sd=float(splits["sd"].mean(skipna=False)),
        least_p=float(np.minimum(1.0, 2 * splits["least_p"].median(skipna=False))),
        left_alone=float(splits["left_alone"].mean(skipna=False)),
        p_alone=float(np.minimum(1.0, 2 * splits["p_alone"].median(skipna=False))),
        reason=reason,
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


def _earlier(labels: Labels, rows: np.ndarray) -> np.ndarray:
    """The first half of each batch, in the order of the rows: bool (rows,)."""
    codes = labels.codes[rows]
    place = pd.Series(codes).groupby(codes).cumcount().to_numpy()
    return np.asarray(place < (np.bincount(codes)[codes] + 1) // 2)


def _chance(found: Permanova, inflation: float) -> float:
    """P of an F as large, once it is divided by what a perfect correction leaves."""
    return (1 + int((found.permuted_F >= found.F / inflation).sum())) / (1 + len(found.permuted_F))


@dataclass(frozen=True)
class _Trial:
    """All that stays the same from half to half."""

    table: Labelled
    labels: Labels
    permutations: int
    random: np.random.Generator
    distance: str
    zeros: ZeroPolicy | None

    def measured(
        self, values: np.ndarray, raw: np.ndarray, train: np.ndarray, test: np.ndarray
    ) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        """Numbers of one half, and by feature."""
        table, labels = self.table, self.labels
        keep = None if table.keep is None else table.keep.iloc[test].reset_index(drop=True)
        batch = table.batch[test]
        n, m = (np.bincount(labels.codes[at], minlength=len(labels.values)) for at in (test, train))
        there = n > 0
        spread = 1 - n[there] / n.sum()
        inflation = float((spread * (1 + n[there] / m[there])).sum() / spread.sum())
        effects = feature_effects(values, batch, keep=keep).table
        df, residual_df = (effects[name].to_numpy().clip(1) for name in ("df", "residual_df"))
        p = fdtrc(df, residual_df, effects["F"].to_numpy() / inflation)
        by_feature = {
            "eta2": effects["eta2"].to_numpy(),
            "p_value": np.where(np.isfinite(effects["F"]), p, np.nan),
        }
        names = ("R2", "R2_adjusted", "F", "noise", "p_value", "F_before", "sd", "least_p", "left_alone", "p_alone")
        row = dict.fromkeys(names, float("nan")) | {"inflation": inflation}
        if np.isnan(values).any():
            return row, by_feature
        what = "A share of the variance"
        read = measure(pd.DataFrame(values, copy=False), self.distance, what, zeros=self.zeros, shared=True)
        whole = permanova(read, batch, given=keep, permutations=self.permutations, random_state=self.random)
        row |= {
            "R2": whole.R2,
            "R2_adjusted": whole.R2_adjusted,
            "F": whole.F,
            "noise": (inflation - 1) * (whole.R2 / whole.F if whole.F > 0 else whole.df / (len(test) - 1)),
            "p_value": _chance(whole, inflation),
            "sd": inflation * float(np.std(whole.permuted_F)),
            "least_p": max(whole.least_p, 1 / splits_of(np.bincount(self.labels.codes[test]))),
        }
        alone = whole
        if keep is not None:
            alone = permanova(read, batch, permutations=self.permutations, random_state=self.random)
        noise = (inflation - 1) * alone.df * (1 - alone.R2) / max(1, alone.residual_df)
        row |= {"left_alone": alone.R2_adjusted - noise, "p_alone": _chance(alone, inflation)}
        if not np.isnan(raw).any():
            read = measure(pd.DataFrame(raw, copy=False), self.distance, what, zeros=self.zeros)
            row["F_before"] = permanova(read, batch, given=keep, permutations=0).F
        return row, by_feature
