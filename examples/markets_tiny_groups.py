"""Tiny groups: how well do a stock's peers foretell its return on the same day, and who are its peers?

Peers of a whole sector are many and not very alike; those of an industry are alike, but often one or two, and a mean
of one is noise. Shrinkage takes each industry's mean towards its sector's, the further the fewer its stocks are, by
an amount that is estimated and not tuned: here on the first half of the dates, and measured on the second. A stock is
never its own peer (leave_one_out); one without an industry, or alone in it, falls back to its sector.
"""

import numpy as np
import pandas as pd

from batchfix import GroupCorrector
from batchfix.datasets import make_markets

market = make_markets(800, 200, 10, 80, n_singletons=0, moves=0, industry_volatility=0.009, random_state=0)
levels = pd.concat([market.sector, market.industry], axis=1)  # coarse to fine
half = len(market.returns) // 2
past, future = market.returns.iloc[:half], market.returns.iloc[half:]
sizes = market.industry.value_counts()
print(f"{len(sizes)} industries of {sizes.min()} to {sizes.max()} stocks, {sum(sizes == 1)} of them of one")


def r2(groups, shrinkage=None):
    """Share of the second half's variance that the mean of a stock's peers explains."""
    peers = GroupCorrector(groups=groups, scale=None, leave_one_out=True, shrinkage=shrinkage).fit(past)
    missed = peers.transform(future)  # the return less its peers' mean
    known = missed.notna()
    total = future.where(known) - np.nanmean(future.where(known))
    return 1 - np.nansum(missed**2) / np.nansum(total**2)


by_sector = r2(market.sector)
by_industry = r2(levels)
shrunk = r2(levels, shrinkage="eb")
print(f"the sector's peers               R2 {by_sector:.3f}")
print(f"the industry's peers             R2 {by_industry:.3f}")
print(f"the industry's, shrunk           R2 {shrunk:.3f}")
assert shrunk > max(by_sector, by_industry) + 0.02
