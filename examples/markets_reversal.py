"""The signal that was normalized away: reversal lies in the sectors' means, which peers within a sector cannot show.

What lost last week gains this week, a little. In this made market, as in the stocks of a large index, it is sectors
that come back and not stocks within them. Taking the sector's mean out of the signal, as one does to compare peers,
takes the signal out: what is left foretells nothing. The removed mean foretells all, which is why GroupCorrector
gives it back as columns.
"""

from batchfix import GroupCorrector
from batchfix.datasets import make_markets

market = make_markets(1000, 120, 10, 30, reversal=0.3, random_state=0)
signal = -market.returns.rolling(5, min_periods=3).sum().shift(1).iloc[5:]  # losers of the last week, known today
sector = market.membership.loc[signal.index]  # of each stock on each date: some change theirs

peers = GroupCorrector(scale=None, return_group_stats=True)
table = peers.fit_transform(signal, membership=sector)
within = table[signal.columns]
removed = signal - within


def foretells(score):
    """Rank correlation of a score with the day's returns over stocks, mean over days and its standard error."""
    daily = score.rank(axis=1).corrwith(market.returns.rank(axis=1), axis=1).dropna()
    return daily.mean(), daily.std() / len(daily) ** 0.5


for name, score in (("the signal", signal), ("within sectors", within), ("the removed mean", removed)):
    mean, error = foretells(score)
    print(f"{name:<18} rank correlation with the day's returns {mean:6.3f} ± {error:.3f}")

last = table.filter(like="mean(").iloc[-1].nlargest(2)
print(f"on {last.name:%Y-%m-%d} the signal stands for " + ", ".join(f"{name} {x:+.1%}" for name, x in last.items()))
assert foretells(removed)[0] > foretells(signal)[0]
assert abs(foretells(within)[0]) < 3 * foretells(within)[1]
