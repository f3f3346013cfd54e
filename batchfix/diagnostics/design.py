"""Design forecast: what a correction can do and what it will cost, from labels alone.

Labels of batch and of what is kept flow in (design_labels.py); a verdict in words (design_words.py), a table of
contrasts and the numbers behind them flow out. The formulas are those of core/forecast.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd

from ..core.design import Column, Factor, repr_label, slices
from ..core.estimability import blocks_of
from ..core.forecast import (
    ALPHA,
    ForecastCurve,
    Sharing,
    false_positive_rate,
    joint_false_positive_rate,
    noise_inflation,
    share_of,
    surviving_share,
)
from ..core.statistics import BatchStatistics
from ..exceptions import BatchfixError
from .design_labels import DesignLabels, python_values
from .design_words import Finding, Verdict, findings, gravest, page, removed_of

WARN_SHARED = 0.2
"""From this rho2 on, a fifth of the effect goes with the batches if it is not kept: a bias of one standard error for an
effect of five, which is a clear one."""

WARN_RATE = 2.0
"""From this multiple of its level on: a test on the corrected table finds twice the falsehoods that it promises."""

FEW_SAMPLES = 4.0
"""Below this effective sample size a comparison is no more precise than that of one sample with any number m of others,
whose variance is 1 + 1/m, worth 4/(1 + 1/m) < 4: it hangs on less than one sample."""

ALL_PAIRS = 50
"""Up to so many levels every pair of them is a contrast (1,225 pairs); above, each level against the commonest."""


@dataclass(frozen=True)
class Block:
    """Batches and levels that are connected: levels can be compared inside a block only."""

    batches: tuple[Any, ...]
    levels: tuple[Any, ...]


@dataclass(frozen=True, eq=False, repr=False)
class DesignForecast:
    """What a correction can do and what it will cost; print it, or read the fields.

    Attributes
    ----------
    verdict : "fine", "warn" or "stop"
        The gravest of the findings. Stop: correctors refuse, or the comparison hangs on less than one sample.
    findings : tuple of Finding
        In words, the gravest first.
    contrasts : DataFrame
        A row for each pair of levels and each slope: column, contrast, estimable, rho2 (R2 on batch and nuisance),
        rho2_batch (on batch alone), surviving, noise, false_positives, effective_n, verdict.
    columns : DataFrame
        A row for each kept column: column, levels (1 for a number), rho2 (the largest canonical one: the worst
        contrast there is among its levels), false_positives (of an F-test of the whole column).
    tables : dict of DataFrame
        By kept column, batches in rows: samples of each level, or samples, mean and sd of a number.
    blocks : dict of tuple of Block
        By kept factor, its connected blocks.
    batch_sizes : Series
        Samples of each batch.
    n : int
        Samples.
    removed : str
        What goes: "batch", or "batch and nuisance".
    rho2 : float
        The largest canonical rho2 of everything that is kept: the worst case.
    naive_df, residual_df : int
        Degrees of freedom that a test on the corrected table believes it has, and that there are.
    alpha : float
        Level of that test.
    curve : ForecastCurve
        What each rho2 would cost in a design of this size: arrays rho2, surviving, noise, false_positives.
    """

    verdict: Verdict
    findings: tuple[Finding, ...]
    contrasts: pd.DataFrame
    columns: pd.DataFrame
    tables: dict[str, pd.DataFrame]
    blocks: dict[str, tuple[Block, ...]]
    batch_sizes: pd.Series
    n: int
    removed: str
    rho2: float
    naive_df: int
    residual_df: int
    alpha: float
    curve: ForecastCurve

    @property
    def singletons(self) -> list[Any]:
        """Batches of one sample."""
        return list(self.batch_sizes.index[self.batch_sizes == 1])

    def to_dict(self) -> dict[str, Any]:
        """All but the curve, ready for JSON: what has no value is None."""
        found = {
            "verdict": self.verdict,
            "findings": [{"verdict": each.verdict, "message": each.message} for each in self.findings],
            "n": self.n,
            "batches": [{"batch": batch, "samples": size} for batch, size in self.batch_sizes.items()],
            "removed": self.removed,
            "rho2": self.rho2,
            "alpha": self.alpha,
            "naive_df": self.naive_df,
            "residual_df": self.residual_df,
            "contrasts": self.contrasts.to_dict("records"),
            "columns": self.columns.to_dict("records"),
            "tables": {name: table.to_dict("split") for name, table in self.tables.items()},
            "blocks": {
                name: [{"batches": block.batches, "levels": block.levels} for block in parts]
                for name, parts in self.blocks.items()
            },
        }
        ready: dict[str, Any] = _plain(found)
        return ready

    def __repr__(self) -> str:
        return (
            f"DesignForecast(verdict={self.verdict!r}, n={self.n}, batches={len(self.batch_sizes)}, "
            f"rho2={self.rho2:.3g})"
        )

    def __str__(self) -> str:
        return "\n".join(page(self))


def design_forecast(
    batch: Any,
    keep: Any,
    nuisance: Any = None,
    *,
    keep_factors: Sequence[Any] | None = None,
    keep_numbers: Sequence[Any] | None = None,
    alpha: float = ALPHA,
) -> DesignForecast:
    """What a correction can do with this design, and what it will cost, before anything is measured or run.

    For each contrast of what is kept (a pair of levels, or the slope of a number), rho2 is its R2 on what is removed,
    given the other kept columns. Then a correction that does not keep it leaves 1 - rho2 of its effect; one that keeps
    it gives it 1/sqrt(1 - rho2) times the noise, and a t-test on the corrected table, which does not know that, finds
    differences that are not there with probability

        P(|t_{n-B-1}| > t_{.975,n-2} sqrt((n-B-1) (1-rho2) / (n-2)))        one kept column, B batches, 5 % level

    Parameters
    ----------
    batch : labels (n,), or a table of several batch factors
        Tables and blocks speak of the first factor; the others are removed as nuisance is.
    keep : table or column of n values
        What must survive, read as the correctors read it: text is a factor, floats are a number.
    nuisance : table or column of n values, optional
        What is removed besides batch.
    keep_factors, keep_numbers : list of str, optional
        Columns of keep and nuisance that are factors, and numbers, whatever their dtype.
    alpha : float
        Level of the test that is forecast.

    Returns
    -------
    DesignForecast
        A design that correctors refuse is no error here: its verdict is "stop", in the words of their refusal.

    Raises
    ------
    BatchfixError
        There are not two batches, a kept column is constant, or batches or levels are as many as samples.
    AlignmentError, MissingLabelError, AmbiguousKeepError
        As in the correctors' fit.

    Notes
    -----
    False positives are exact for location-only corrections (LinearCorrector, BatchCorrector(scale=None)) of complete
    data with independent normal noise of one variance, tested in a regression on all kept columns, however many; an
    approximation for tests that leave kept columns out, and for data with gaps. Of ComBat they are an approximation,
    close where batches are large (within a tenth for two batches of 30) and too low where they are small (.13 for .21
    with ten batches of 3, whose spreads are noise); ComBat(mean_only=True) leaves a part of the batch effect in, which
    labels cannot tell.

    `effective_n` is 4/v1 for a difference of variance v1 noise variances (as Willer et al. 2010, Bioinformatics 26,
    2190-2191, count cases and controls), and for a slope n times the share of the number's spread that nothing else in
    the model explains.

    References
    ----------
    Nygaard, Rodland and Hovig 2016, Biostatistics 17, 29-39.

    Examples
    --------
    >>> from batchfix.diagnostics.design import design_forecast
    >>> run = ["a"] * 10 + ["b"] * 10
    >>> group = ["case"] * 8 + ["control"] * 10 + ["case"] * 2
    >>> forecast = design_forecast(run, {"group": group})
    >>> forecast
    DesignForecast(verdict='warn', n=20, batches=2, rho2=0.36)
    >>> forecast.contrasts[["contrast", "rho2", "surviving", "noise", "effective_n"]].round(3)
                 contrast  rho2  surviving  noise  effective_n
    0  'case' - 'control'  0.36       0.64   1.25         12.8
    """
    if not (isinstance(alpha, Real) and 0 < alpha < 1):
        raise BatchfixError(f"alpha must be a level between 0 and 1, got {alpha!r}. Give 0.05, say.")
    labels = DesignLabels.read(batch, keep, nuisance, keep_factors, keep_numbers)
    statistics = labels.statistics()
    sharing = Sharing.of(statistics)
    sizes = statistics.moments.rows.astype(int)
    rows = pd.Index(python_values(statistics.batches), name="batch")
    contrasts = _contrasts(statistics, sharing, alpha)
    found = findings(labels, statistics, contrasts, alpha)
    kept = [(c, at) for c, at in zip(statistics.columns, slices(statistics.columns), strict=True) if c.role == "keep"]
    return DesignForecast(
        verdict=gravest(each.verdict for each in found),
        findings=found,
        contrasts=contrasts,
        columns=_columns(statistics, sharing, alpha),
        tables={c.name: _table(statistics, c, at, rows) for c, at in kept},
        blocks={c.name: _blocks(statistics, c, at) for c, at in kept if isinstance(c, Factor)},
        batch_sizes=pd.Series(sizes, index=rows, name="samples"),
        n=int(sizes.sum()),
        removed=removed_of(statistics),
        rho2=float(sharing.canonical()[0]),
        naive_df=sharing.naive_df,
        residual_df=sharing.residual_df,
        alpha=alpha,
        curve=ForecastCurve.of(sharing.naive_df, sharing.residual_df, alpha=alpha),
    )


def _kept(statistics: BatchStatistics) -> list[tuple[Column, slice]]:
    """Kept columns, and where they stand among the kept design columns."""
    kept = [column for column in statistics.columns if column.role == "keep"]
    return list(zip(kept, slices(kept), strict=True))


def _coefficients(
    statistics: BatchStatistics, sharing: Sharing
) -> tuple[list[tuple[str, str]], np.ndarray, np.ndarray]:
    """Column and name of each contrast, its coefficients (m, k), and what 1/variance counts in samples (m,)."""
    n, width = int(statistics.moments.rows.sum()), len(sharing.unit)
    names: list[tuple[str, str]] = []
    rows, worth = [], []
    for column, at in _kept(statistics):
        if not isinstance(column, Factor):
            names.append((column.name, "slope"))
            rows.append({at.start: 1.0})
            worth.append(n * sharing.unit[at.start] ** 2)
            continue
        for plus, minus in _pairs(statistics, column):
            names.append((column.name, f"{repr_label(column.levels[plus])} - {repr_label(column.levels[minus])}"))
            rows.append({at.start + plus: 1.0, at.start + minus: -1.0})
            worth.append(4.0)
    matrix = np.zeros((len(rows), width))
    for k, row in enumerate(rows):
        matrix[k, list(row)] = list(row.values())
    return names, matrix, np.array(worth)


def _pairs(statistics: BatchStatistics, column: Factor) -> list[tuple[int, int]]:
    """Levels to compare: all pairs, or each with the commonest."""
    if column.width <= ALL_PAIRS:
        return list(itertools.combinations(range(column.width), 2))
    at = next(s for c, s in zip(statistics.columns, slices(statistics.columns), strict=True) if c.name == column.name)
    commonest = int((statistics.moments.rows @ statistics.moments.row_z_mean[:, at]).argmax())
    return [(k, commonest) for k in range(column.width) if k != commonest]


def _contrasts(statistics: BatchStatistics, sharing: Sharing, alpha: float) -> pd.DataFrame:
    names, coefficients, worth = _coefficients(statistics, sharing)
    before, after = sharing.variances(coefficients)
    rho2 = share_of(before, after)
    rho2_batch = share_of(*Sharing.of(statistics, nuisance=False).variances(coefficients))
    rate = false_positive_rate(rho2, sharing.naive_df, sharing.residual_df, alpha=alpha)
    estimable = np.isfinite(after)
    least = FEW_SAMPLES * (1 - 1e-9)  # two against two are worth 4, but for rounding
    stopped = np.isfinite(before) & ((worth / after < least) & (worth / before >= least) | ~estimable)
    doubtful = ~estimable | (rho2 >= WARN_SHARED) | (rate >= WARN_RATE * alpha)
    return pd.DataFrame(
        {
            "column": [column for column, _ in names],
            "contrast": [contrast for _, contrast in names],
            "estimable": estimable,
            "rho2": rho2,
            "rho2_batch": rho2_batch,
            "surviving": surviving_share(rho2),
            "noise": np.where(estimable, noise_inflation(rho2), np.nan),
            "false_positives": np.where(estimable, rate, np.nan),
            "effective_n": worth / after,
            "verdict": np.where(stopped, "stop", np.where(doubtful, "warn", "fine")).astype(object),
        }
    )


def _columns(statistics: BatchStatistics, sharing: Sharing, alpha: float) -> pd.DataFrame:
    rows = []
    for column, at in _kept(statistics):
        canonical = sharing.canonical(at)
        rate = joint_false_positive_rate(canonical, sharing.naive_df, sharing.residual_df, alpha=alpha)
        worst = float(canonical[0]) if len(canonical) else np.nan
        rows.append({"column": column.name, "levels": column.width, "rho2": worst, "false_positives": rate})
    return pd.DataFrame(rows)


def _table(statistics: BatchStatistics, column: Column, at: slice, batches: pd.Index) -> pd.DataFrame:
    """Samples by batch and level; of a number, samples, mean and sd by batch."""
    rows, mean = statistics.moments.rows, statistics.moments.row_z_mean[:, at]
    if isinstance(column, Factor):
        counts = np.rint(mean * rows[:, None]).astype(int)
        return pd.DataFrame(counts, index=batches, columns=pd.Index(python_values(column.levels), name=column.name))
    squares = statistics.moments.row_zz[:, at.start, at.start]
    sd = np.where(rows > 1, np.sqrt(squares / np.maximum(rows - 1, 1)), np.nan)
    return pd.DataFrame({"samples": rows.astype(int), "mean": mean[:, 0], "sd": sd}, index=batches)


def _blocks(statistics: BatchStatistics, column: Factor, at: slice) -> tuple[Block, ...]:
    parts = blocks_of(statistics.moments.row_z_mean[:, at] > 0)
    return tuple(
        Block(tuple(python_values(statistics.batches[b])), tuple(python_values(column.levels[v]))) for b, v in parts
    )


def _plain(value: Any) -> Any:
    """Python's own containers and numbers; None for NaN and infinity."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, Collection) and not isinstance(value, str):
        return [_plain(each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
