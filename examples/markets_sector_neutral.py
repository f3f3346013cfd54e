"""Sector-neutral scores, and the sectors' index that was taken out of them, as a picture.

A stock's move mixes the market's, the sector's and its own. A score within sector and date says who did better than
its peers; the mean that was removed is the sector's health, an index of it. The market is made, so both can
be held against the truth.

    python examples/markets_sector_neutral.py [file.png]
"""

import sys

import matplotlib as mpl
import numpy as np
import pandas as pd

from batchfix import GroupCorrector
from batchfix.datasets import load_markets

mpl.use("Agg")
import matplotlib.pyplot as plt

COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#000000"]


def explained(table, membership):
    """Share of the variance that sectors explain, over stocks and dates."""
    cells = pd.DataFrame({"value": table.stack(), "sector": membership.stack()}).dropna()
    left = cells["value"] - cells.groupby(["date", "sector"])["value"].transform("mean")
    return 1 - (left**2).sum() / ((cells["value"] - cells["value"].mean()) ** 2).sum()


def alike(table, membership):
    """Mean correlation of two stocks of one sector."""
    last = membership.iloc[-1].to_numpy()
    pairs = (last[:, None] == last) & ~np.eye(len(last), dtype=bool)
    return np.nanmean(table.corr().to_numpy()[pairs])


def main(path):
    market = load_markets()
    returns, membership = market.returns, market.membership  # three stocks change their sector
    peers = GroupCorrector(return_group_stats=True)
    table = peers.fit_transform(returns, membership=membership)
    scores = table[returns.columns]
    index = table.filter(like="mean(").rename(columns=lambda name: name.removeprefix("mean(").removesuffix(")"))

    print("                              returns  scores")
    for name, figure in (("variance between sectors", explained), ("two stocks of one sector", alike)):
        print(f"{name:<30}{figure(returns, membership):7.2f}{figure(scores, membership):8.2f}")
    assert explained(returns, membership) > 0.5
    assert abs(explained(scores, membership)) < 1e-12

    # The truth: what the sector's stocks have of the market and of size, and the sector's own part.
    truth = market.factors @ market.exposures.groupby(market.sector).mean().T + market.sector_returns
    follows = index.corrwith(truth)
    print("the index follows the sector's true return by " + ", ".join(f"{r:.2f}" for r in follows))
    print("(sector6 is one stock: its mean is the stock itself, and the score 0)")
    assert follows.drop("sector6").min() > 0.9

    draw(returns, scores, index, truth, membership, path)
    print(f"drew {path}")


def draw(returns, scores, index, truth, membership, path):
    day = index.drop(columns="sector6").std(axis=1).idxmax()  # on which sectors were furthest apart
    sector = membership.loc[day]
    order = sector.sort_values(kind="stable").index
    colour = dict(zip(index, COLOURS, strict=True))
    mosaic = [[[[name] for name in colour], [["returns"], ["scores"]]]]  # strips on the left, two panels on the right
    figure, axes = plt.subplot_mosaic(mosaic, figsize=(10.5, 5.4), width_ratios=[1.15, 1], layout="constrained")

    around = slice(*(day + np.array([-45, 45]).astype("timedelta64[D]")))
    most = 105 * index.loc[around].abs().max(axis=None)
    for name, shade in colour.items():
        axis = axes[name]
        axis.axvline(day, color="0.88", linewidth=5)
        axis.plot(100 * index.loc[around, name], color=shade, linewidth=1.6)
        axis.plot(100 * truth.loc[around, name], color="black", linewidth=0.8, linestyle=":")
        axis.sharex(axes["sector6"])
        axis.set_ylim(-most, most)
        axis.tick_params(labelbottom=name == "sector6")
        axis.set_ylabel(name, rotation=0, ha="right", va="center", color=shade)
    axes["sector1"].set_title("Taken out: the sectors' index, percent a day (dotted: the truth)", fontsize=11)
    locator = axes["sector6"].xaxis.get_major_locator()
    axes["sector6"].xaxis.set_major_formatter(mpl.dates.ConciseDateFormatter(locator))

    for name, values, unit in (("returns", 100 * returns, "percent"), ("scores", scores, "sd of the sector")):
        axes[name].bar(range(len(order)), values.loc[day, order], color=[colour[sector[stock]] for stock in order])
        axes[name].set(ylabel=unit, xticks=[])
    axes["returns"].set_title(f"Returns of the 60 stocks on {day:%Y-%m-%d}", fontsize=11)
    axes["scores"].set_title("What is left: scores within the sector", fontsize=11)
    axes["scores"].set_xlabel("stocks, by sector")
    for axis in axes.values():
        axis.axhline(0, color="0.5", linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "markets_sector_neutral.png")
