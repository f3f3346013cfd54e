"""Time and memory of standings within groups against a copy of the matrix into a fresh array.

    OMP_NUM_THREADS=2 python tests/benchmarks/bench_group.py [--size 2500x3000] [--groups 11] [--rounds 7] [--peers]

The copy (`X.copy()`, one thread) and the functions run in turn, round by round, in one process; what is printed is the
median of the rounds' ratios. Memory is the growth of the peak resident size in a process of its own, in units of the
output (Linux). With --peers, pandas, polars and, where they are installed, bottleneck and skfolio do the same work.
"""

from __future__ import annotations

import argparse
import importlib.util

import numpy as np
import pandas as pd
from measuring import Job, against_copy, alone, growth

from batchfix import GroupCorrector, InstanceCorrector
from batchfix.core.peers import Levels
from batchfix.core.recipe import Recipe
from batchfix.core.standing import standardize

GOALS = {"z-score, fixed groups": 6.5, "z-score, groups of cells": 11.0, "z-score, long table": 13.0}
"""Times of a copy, at most, at 2500x3000 with 11 groups and 5 % missing."""

MEMORY = ["fixed groups, corrector", "groups of cells, corrector", "z-score, long table"]


class Market:
    """Returns with gaps, wide and long, and groups of columns and of cells."""

    def __init__(self, size: str, n_groups: int) -> None:
        n, p = map(int, size.split("x"))
        rng = np.random.default_rng(0)
        self.X = rng.normal(size=(n, p))
        self.X[rng.random((n, p)) < 0.05] = np.nan
        self.n_groups = n_groups
        self.names = np.array([f"sector {g:02d}" for g in range(n_groups)])
        self.columns = rng.integers(0, n_groups, p)
        self.cells = rng.integers(0, n_groups, (n, p)).astype(np.int8)
        dates = pd.bdate_range("2010-01-01", periods=n)
        symbols = [f"s{j}" for j in range(p)]
        self.wide = pd.DataFrame(self.X, dates, symbols)
        index = pd.MultiIndex.from_product([dates, symbols], names=["date", "symbol"])
        self.long = pd.DataFrame({"x": self.X.ravel()}, index)
        self.long["sector"] = pd.Categorical.from_codes(self.cells.ravel(), categories=self.names)


def jobs(market: Market) -> dict[str, Job]:
    """Ours: the core alone, and correctors as they are called."""
    X, columns, cells = market.X, market.columns, market.cells
    levels = Levels.flat(market.n_groups)
    changing = GroupCorrector().fit(X, membership=cells)

    def core(codes: np.ndarray, recipe: Recipe) -> Job:
        return lambda: standardize(X, codes, levels, recipe, out=np.empty_like(X), statistics=False)

    complete = np.nan_to_num(X)
    return {
        "z-score, fixed groups": core(columns, Recipe()),
        "z-score, groups of cells": core(cells, Recipe()),
        "z-score, long table": lambda: GroupCorrector(within="date", by="sector").fit_transform(market.long),
        "fixed groups, corrector": lambda: GroupCorrector(columns).fit_transform(X),
        "groups of cells, corrector": lambda: changing.transform(X, membership=cells),
        "one group, corrector": lambda: InstanceCorrector().fit_transform(X),
        "nothing missing": lambda: GroupCorrector(columns).fit_transform(complete),
        "with statistics": lambda: GroupCorrector(columns, return_group_stats=True).fit_transform(X),
        "leave one out": lambda: GroupCorrector(columns, leave_one_out=True).fit_transform(X),
        "median and MAD": lambda: GroupCorrector(columns, center="median", scale="mad").fit_transform(X),
        "rank": lambda: GroupCorrector(columns, method="rank").fit_transform(X),
    }


def peers(market: Market) -> dict[str, Job]:
    """The same work by others."""
    wide, labels = market.wide, market.names[market.columns]
    by_column = [np.flatnonzero(market.columns == g) for g in range(market.n_groups)]

    def pandas_wide() -> object:
        groups = wide.T.groupby(labels)
        return ((wide.T - groups.transform("mean")) / groups.transform("std")).T

    def pandas_long() -> object:
        groups = market.long.groupby([market.long.index.get_level_values("date"), "sector"], observed=True)["x"]
        return (market.long["x"] - groups.transform("mean")) / groups.transform("std")

    found: dict[str, Job] = {"pandas, fixed groups": pandas_wide, "pandas, long table": pandas_long}
    if importlib.util.find_spec("polars"):
        import polars as pl

        long = pl.DataFrame(
            {
                "date": market.long.index.get_level_values("date").to_numpy(),
                "sector": market.cells.ravel(),
                "x": market.X.ravel(),
            }
        ).with_columns(pl.col("x").fill_nan(None))
        x = pl.col("x")
        z = (x - x.mean().over("date", "sector")) / x.std().over("date", "sector")
        found["polars, long table"] = lambda: long.select(z)
    if importlib.util.find_spec("bottleneck"):
        import bottleneck

        def ranks() -> object:
            out = np.empty_like(market.X)
            for own in by_column:
                out[:, own] = bottleneck.nanrankdata(market.X[:, own], axis=1)
            return out

        found["bottleneck, rank"] = ranks
    if importlib.util.find_spec("skfolio"):
        from skfolio.preprocessing import CSStandardScaler

        found["skfolio, fixed groups"] = lambda: CSStandardScaler().fit_transform(
            market.X, cs_groups=np.tile(market.columns, (len(market.X), 1))
        )
    return found


def time_all(market: Market, size: str, rounds: int, with_peers: bool, only: list[str]) -> None:
    todo = jobs(market) | (peers(market) if with_peers else {})
    print(f"{size}, {market.n_groups} groups, ratios to a copy into a fresh array")
    against_copy({name: job for name, job in todo.items() if not only or name in only}, market.X, rounds, GOALS)


def memory_here(size: str, n_groups: int, name: str) -> None:
    """Print the growth of the peak in this process, in outputs."""
    jobs(Market("50x20", n_groups))[name]()  # what is loaded on first use is not the function's
    market = Market(size, n_groups)
    grown, _ = growth(jobs(market)[name])
    print(grown / market.X.nbytes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="2500x3000")
    parser.add_argument("--groups", type=int, default=11)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", nargs="*", default=[], help="names of the functions to time")
    parser.add_argument("--peers", action="store_true", help="time others too")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        memory_here(arguments.size, arguments.groups, arguments.memory_of)
        return
    market = Market(arguments.size, arguments.groups)
    time_all(market, arguments.size, arguments.rounds, arguments.peers, arguments.only)
    print(f"{arguments.size}, growth of the peak, in outputs, the output among them")
    options = ("--size", arguments.size, "--groups", str(arguments.groups))
    alone(__file__, arguments.only or MEMORY, *options)


if __name__ == "__main__":
    main()
