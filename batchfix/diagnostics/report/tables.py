"""Tables: the numbers of an evaluation as they are read.

An evaluation flows in, grids of text flow out; long ones are cut, and say so.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from ..design import DesignForecast
from ..displays.words import percent
from ..predictability import BatchPredictability
from ..sections import Comparison, Features
from ..spread import Dispersion
from ..validation import LeaveOneBatchOut
from .document import Grid, grid

MOST_ROWS = 15
"""Rows of a table."""


def decimals(value: float, digits: int = 2) -> str:
    """A number with so many decimals, or as many digits if it is large; a dash for NaN.

    Examples
    --------
    >>> decimals(0.5), decimals(1234.5), decimals(float("nan"))
    ('0.50', '1,234', '-')
    """
    if not np.isfinite(value):
        return "-" if np.isnan(value) else "∞"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}f}"


def significant(value: float) -> str:
    """A number with three digits that count; a dash for NaN.

    Examples
    --------
    >>> significant(0.012345), significant(12345.6), significant(2.0)
    ('0.0123', '12,346', '2.00')
    """
    if not np.isfinite(value):
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:#.3g}".rstrip(".")


def chance(p: float) -> str:
    """A p-value.

    Examples
    --------
    >>> chance(0.04321), chance(1e-9), chance(float("nan"))
    ('0.043', '<0.0001', '-')
    """
    if np.isnan(p):
        return "-"
    return "<0.0001" if p < 1e-4 else f"{p:.2g}" if p < 0.1 else f"{p:.2f}"


def share(value: float) -> str:
    """A share of something; a dash for NaN."""
    return "-" if np.isnan(value) else percent(value)


def contrasts(forecast: DesignForecast) -> Grid:
    """What each contrast would cost, the worst first."""
    worst = forecast.contrasts.sort_values("rho2", ascending=False, na_position="first", kind="stable")
    shown = worst.head(MOST_ROWS)
    rows = [
        (
            f"{row.column}: {row.contrast}",
            row.verdict,
            share(row.rho2),
            share(row.surviving),
            decimals(row.noise),
            share(row.false_positives),
            decimals(row.effective_n, 1),
        )
        for row in shown.itertuples()
    ]
    columns = ("contrast", "verdict", "shared (rho2)", "survives", "noise", "false positives", "worth")
    note = (
        "Shared: R2 of the contrast on batch. Survives: share of its effect that a correction leaves if it is not "
        "kept. Noise: its standard error if it is kept, as a multiple of that without batches. False positives: of a "
        f"test on the table so corrected, at the {percent(forecast.alpha)} level; exact for corrections of location "
        "only, an approximation for ComBat. Worth: samples of a balanced experiment without batches."
    )
    return grid("What each comparison costs", columns, rows, f"{note}{_more(len(worst), len(shown), 'contrasts')}")


def offenders(found: Features, count: int = MOST_ROWS) -> Grid | None:
    """The features that batch moves most."""
    table = found.top(count)
    names = {
        "eta2_before": ("eta2 before", share),
        "eta2_after": ("eta2 after", share),
        "eta2_held_out": ("eta2 held out", share),
        "q_value_before": ("q before", chance),
        "q_value_held_out": ("q held out", chance),
        "spread_q_value_before": ("q of spread before", chance),
        "spread_q_value_after": ("q of spread after", chance),
    }
    there = [name for name in names if name in table]
    if not there or not len(table):
        return None
    rows = [(str(label), *(names[name][1](float(row[name])) for name in there)) for label, row in table.iterrows()]
    note = (
        "eta2: share of a feature's variance that batch explains beyond what is kept; after a correction it is 0 by "
        "construction in the samples that were learned from, so look at those held out. q: false discovery rate."
    )
    note += _more(len(found.table), len(table), "features")
    return grid("Most affected features", ("feature", *(names[name][0] for name in there)), rows, note)


def spread_of_batches(found: Comparison[Dispersion]) -> Grid | None:
    """How far samples of each batch lie from its centre."""
    there = {when: each for when in ("before", "after") if isinstance(each := getattr(found, when), Dispersion)}
    if not there:
        return None
    first = next(iter(there.values())).batches
    by = list(there.values())[-1].batches["mean"].sort_values(ascending=False, kind="stable").index
    rows = [
        (
            str(batch),
            f"{first.loc[batch, 'n']:,}",
            *(significant(each.batches.loc[batch, "mean"]) for each in there.values()),
        )
        for batch in by[:MOST_ROWS]
    ]
    return grid(
        "Mean distance of samples to the centre of their batch",
        ("batch", "samples", *there),
        rows,
        _more(len(by), len(rows), "batches").strip(),
    )


def areas(found: Comparison[BatchPredictability]) -> Grid | None:
    """How well each batch is told from all others."""
    there = {
        when: each for when in ("before", "after") if isinstance(each := getattr(found, when), BatchPredictability)
    }
    if not there:
        return None
    tables = [
        each.per_batch.drop(columns="n").add_suffix(f" {when}") for when, each in there.items() if len(each.per_batch)
    ]
    if not tables:
        return None
    sizes = next(each.per_batch["n"] for each in there.values() if len(each.per_batch))
    joined = pd.concat(tables, axis=1)
    joined = joined.sort_values(joined.columns[-1], ascending=False, kind="stable")
    rows = [
        (str(batch), f"{sizes.loc[batch]:,.0f}", *map(decimals, row.to_numpy(dtype=float)))
        for batch, row in joined.head(MOST_ROWS).iterrows()
    ]
    low, high = next(iter(there.values())).by_chance
    note = f"By chance their mean lies between {low:.2f} and {high:.2f}.{_more(len(joined), len(rows), 'batches')}"
    return grid("Area under the curve, each batch against all others", ("batch", "samples", *joined), rows, note)


def left_out(name: str, found: LeaveOneBatchOut) -> Grid:
    """How well biology is predicted in each batch from the others."""
    scores = found.table.drop(columns="n").dropna(axis=1, how="all")
    rows = [
        (str(batch), f"{found.table.loc[batch, 'n']:,.0f}", *map(decimals, row.to_numpy(dtype=float)))
        for batch, row in scores.head(MOST_ROWS).iterrows()
    ]
    columns = ("batch left out", "samples", *(column.replace("_", " ") for column in scores))
    note = f"A guess scores {found.chance:.2g}. A dash: all samples of the batch are alike."
    note += _more(len(scores), len(rows), "batches")
    score = found.score[:1].upper() + found.score[1:]
    return grid(f"{score} of predicting {name}", columns, rows, note)


def _more(every: int, shown: int, what: str) -> str:
    return f" And {every - shown:,} more {what}." if every > shown else ""
