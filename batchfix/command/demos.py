"""Demos: tables that come along, each corrected, with a few lines on what that did.

Shipped tables flow in; corrected ones flow out, with what a report of them is made of.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..adapters.tables import Table
from ..core.variance import variance_explained
from ..correctors import BatchCorrector, ComBat, CompositionalCorrector, GroupCorrector, LogRatio
from ..datasets import load_bladder, load_markets, load_microbes

WEEK = 5
"""Trading days, over which a stock's returns are averaged: few weeks are without a quote."""


@dataclass(frozen=True, eq=False)
class Demo:
    """A table, corrected.

    Attributes
    ----------
    lines : list of str
        What was done, and what changed.
    written : Table
        What is written, and `kind`, what it is.
    judged : dict
        What the report is made of: before, corrector, batch, keep, title.
    """

    lines: list[str]
    written: Table
    kind: str
    judged: dict[str, Any]


def lab() -> Demo:
    """Bladder cancer microarrays from five batches, by ComBat."""
    bladder = load_bladder()
    data, batch, cancer = bladder.data, bladder.samples["batch"], bladder.samples["cancer"]
    corrected = ComBat().fit_transform(data, batch=batch, keep=cancer.to_frame())
    n, p = data.shape
    lines = [
        f"bladder cancer microarrays: {n} samples x {p} probes in {batch.nunique()} batches",
        "corrected by ComBat, keeping cancer status",
        "",
        *_shares(data, corrected, batch, cancer, "a probe", "cancer status"),
    ]
    judged = {"before": data, "corrector": ComBat(), "batch": batch, "keep": cancer.to_frame()}
    judged["title"] = "Bladder cancer microarrays, corrected by ComBat"
    return Demo(lines, _table("sample", corrected), "samples in rows, log2 intensities", judged)


def microbes() -> Demo:
    """Counts of taxa from four batches, by their log-ratios."""
    made = load_microbes()
    batch, group = made.samples["batch"], made.samples["group"]
    corrector = CompositionalCorrector(output="counts")
    corrected = corrector.fit_transform(made.data, batch=batch, keep=group.to_frame())
    ratios = LogRatio("clr").fit(made.data)
    after = CompositionalCorrector().fit_transform(made.data, batch=batch, keep=group.to_frame())
    n, p = made.data.shape
    lines = [
        f"made counts of microbes: {n} samples x {p} taxa in {batch.nunique()} batches",
        "corrected as log-ratios by the mean of each batch, keeping group",
        "",
        *_shares(
            _frame(ratios.transform(made.data), made.data),
            _frame(after, made.data),
            batch,
            group,
            "a log-ratio",
            "group",
        ),
    ]
    judged = {"before": made.data, "corrector": CompositionalCorrector(), "batch": batch, "keep": group.to_frame()}
    judged["title"] = "Microbes, corrected as log-ratios"
    return Demo(lines, _table("sample", corrected.astype(int)), "samples in rows, counts", judged)


def markets() -> Demo:
    """Returns of stocks, each date less the mean of its sector."""
    market = load_markets()
    corrected = GroupCorrector(market.sector, scale=None).fit_transform(market.returns)
    week = np.arange(len(market.returns)) // WEEK
    weekly = market.returns.groupby(week).mean().T.dropna()  # stocks in rows
    weekly.columns = [f"week {k + 1}" for k in weekly.columns]
    sector, style = market.sector[weekly.index], market.exposures.loc[weekly.index]
    after = BatchCorrector(scale=None).fit_transform(weekly, batch=sector)
    n, p = market.returns.shape
    before, left = (variance_explained(each.to_numpy(), sector.to_numpy()).mean() for each in (weekly, after))
    lines = [
        f"made returns: {p} stocks on {n} days in {market.sector.nunique()} sectors",
        "corrected on each day by the mean of each sector",
        "",
        "share of a week's variance, on average      before    after",
        f"  sector explains                          {before:6.1%}   {left:6.1%}",
        "",
        f"the report judges weekly means of the {len(weekly)} stocks that are quoted in every week",
    ]
    judged = {"before": weekly, "corrector": BatchCorrector(scale=None), "batch": sector, "keep": style}
    judged["title"] = f"Weekly means of {len(weekly)} stocks' returns: stocks as samples, sectors as batches"
    return Demo(lines, _table("date", corrected), "days in rows, returns beyond the sector's", judged)


DEMOS: dict[str, tuple[Callable[[], Demo], str]] = {
    "lab": (lab, "bladder_corrected.csv"),
    "microbes": (microbes, "microbes_corrected.csv"),
    "markets": (markets, "markets_corrected.csv"),
}


def _table(ids: str, values: pd.DataFrame) -> Table:
    return Table(ids, [str(i) for i in values.index], [str(c) for c in values.columns], values.to_numpy(), {})


def _frame(values: Any, like: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(np.asarray(values), index=like.index)


def _shares(
    before: pd.DataFrame, after: pd.DataFrame, batch: pd.Series, kept: pd.Series, one: str, name: str
) -> list[str]:
    """Lines on what batch and what is kept explain, each given the other."""

    def shares(values: pd.DataFrame) -> tuple[float, float]:
        matrix = values.to_numpy()
        of_batch = variance_explained(matrix, batch.to_numpy(), given=kept.to_numpy())
        of_kept = variance_explained(matrix, kept.to_numpy(), given=batch.to_numpy())
        return float(of_batch.mean()), float(of_kept.mean())

    then, now = shares(before), shares(after)
    head = f"share of {one}'s variance, on average"
    rows = [f"  batch explains, given {name}", f"  {name} explains, given batch"]
    width = max(41, len(head))
    return [
        f"{head:<{width}}  before    after",
        *(f"{row:<{width}} {a:6.1%}   {b:6.1%}" for row, a, b in zip(rows, then, now, strict=True)),
    ]
