"""Stocks compared with their own sector: the sector's mean is taken out of each return, and kept as a feature.

A day's return is the market's, the sector's (which may crash) and the stock's own news. Sectors have 4 to 20 stocks, so
torch's group norm, which wants equal neighbouring groups, does not fit; `FeatureGroupNorm` takes the labels. In this
made market, as in many, stocks go back (-0.4 of their own news returns the next day) and sectors go on (+0.3).

A raw return adds the two up, where they cancel; taken apart, both foretell tomorrow. Expect, as the mean rank
correlation of a linear forecast and tomorrow's returns, over days it was not fitted on:

    from raw returns                             -0.02
    from returns relative to their sector         0.23
    from these and the sectors' kept means        0.31

Layer norm over all stocks would change nothing: it leaves each day's ranks as they are.

    python examples/nn_sectors.py [picture.png]
"""

import sys
import tempfile
from pathlib import Path

import matplotlib as mpl
import torch
from scipy.stats import rankdata
from torch.nn.functional import cosine_similarity

from batchfix.nn import FeatureGroupNorm

mpl.use("Agg")
import matplotlib.pyplot as plt

SIZES = {"Banks": 12, "Chips": 20, "Energy": 8, "Health": 16, "Utilities": 4}
SECTORS = [sector for sector, size in SIZES.items() for _ in range(size)]
CRASH = ("Chips", 30)  # a sector and a day


def make_returns(days, seed):
    """Daily returns (days, 60) in percent."""
    generator = torch.Generator().manual_seed(seed)
    code = torch.tensor([list(SIZES).index(sector) for sector in SECTORS])
    market, sector, news = (torch.randn(days, n, generator=generator) for n in (1, len(SIZES), len(SECTORS)))
    sector[CRASH[1], list(SIZES).index(CRASH[0])] -= 6
    sector, news = (x + echo * x.roll(1, dims=0) for x, echo in ((sector, 0.4), (news, -0.4)))
    return 0.8 * market + 1.2 * sector[:, code] + news


def score(features, returns):
    """Mean rank correlation of a linear forecast and tomorrow's returns; features (days, stocks, k), fitted on half."""
    features, relative = (x - x.mean(dim=1, keepdim=True) for x in (features[:-1], returns[1:]))
    half = len(relative) // 2
    slopes = torch.linalg.lstsq(features[:half].flatten(0, 1), relative[:half].flatten()[:, None]).solution
    forecast = (features[half:] @ slopes).squeeze(-1)
    ranks = [torch.tensor(rankdata(x, axis=1)) for x in (forecast.numpy(), relative[half:].numpy())]
    return float(cosine_similarity(*(x - x.mean(dim=1, keepdim=True) for x in ranks), dim=1).mean())


def run(seed=0):
    """Return the correlations, the returns, the normalized ones and the kept means."""
    returns = make_returns(2000, seed)
    norm = FeatureGroupNorm(SECTORS, affine=False, return_group_means=True)
    own, means = norm(returns).split([len(SECTORS), len(norm.labels)], dim=-1)

    sector_mean = means[:, [norm.labels.index(sector) for sector in SECTORS]]
    found = {
        "raw": score(returns[..., None], returns),
        "own": score(own[..., None], returns),
        "both": score(torch.stack([own, sector_mean], dim=-1), returns),
    }
    return found, returns, own, means, norm.labels


def draw(returns, own, means, labels, path):
    days = slice(CRASH[1] - 15, CRASH[1] + 16)
    figure, axes = plt.subplots(1, 3, figsize=(11, 4), layout="constrained", sharex=True)
    shown = [table[days].T.numpy() for table in (returns, own, means)]
    titles = ("Returns", "Relative to the sector", "Kept: the sectors' means")
    units = ("percent", "standard deviations in the sector", "percent")
    edges = torch.tensor([0, *SIZES.values()]).cumsum(0)
    for axis, image, title, unit in zip(axes, shown, titles, units, strict=True):
        limit = 3 if "dev" in unit else 8
        rows = len(image)
        picture = axis.imshow(
            image,
            aspect="auto",
            cmap="RdBu",
            vmin=-limit,
            vmax=limit,
            extent=(days.start - 0.5, days.stop - 0.5, rows, 0),
        )
        figure.colorbar(picture, ax=axis, label=unit, location="bottom")
        bounds = edges if rows == len(SECTORS) else torch.arange(rows + 1)
        axis.hlines(bounds[1:-1], days.start - 0.5, days.stop - 0.5, color="black", linewidth=0.8)
        axis.set_yticks((bounds[1:] + bounds[:-1]) / 2, labels)
        axis.set(title=title, xlabel="day")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(path):
    found, *arrays = run()
    print(f"from raw returns                         {found['raw']:>9.2f}")
    print(f"from returns relative to their sector    {found['own']:>9.2f}")
    print(f"from these and the sectors' kept means   {found['both']:>9.2f}")
    draw(*arrays, path)
    print(f"drew {path}")
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1] if len(sys.argv) > 1 else Path(tempfile.gettempdir()) / "nn_sectors.png")
