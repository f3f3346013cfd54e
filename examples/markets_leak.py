"""A leak, shown: standardizing by the full sample lets every date know the dates after it.

Prices of a market in which nothing can be foretold. Standardized by the mean and spread of the whole sample, a low
price is one that is low against its own future, and "buy what is low" seems to work; standardized by the past alone
it does not. `check_causality` finds such a leak in any transformer, without a look at its insides: it takes the
future away, then changes it, and nothing before may move.
"""

from sklearn.preprocessing import StandardScaler

from batchfix import CausalCorrector
from batchfix.datasets import make_markets
from batchfix.diagnostics import check_causality

nothing = {"reversal": 0, "beta_spread": 0, "size_premium": 0, "size_volatility": 0}
market = make_markets(500, 200, **nothing, late=0, delisted=0, missing=0, random_state=0)
prices = market.returns.cumsum()  # logarithms, nearly
tomorrow = market.returns.shift(-1)


def foretells(score):
    """Rank correlation of a score with tomorrow's returns over stocks, mean over days."""
    score = score.iloc[60:-1]
    return score.rank(axis=1).corrwith(tomorrow.loc[score.index].rank(axis=1), axis=1).mean()


ways = {
    "full sample": StandardScaler().set_output(transform="pandas"),
    "causal": CausalCorrector("expanding", min_periods=20),
}
found = {name: foretells(-scaler.fit_transform(prices)) for name, scaler in ways.items()}
verdicts = {name: check_causality(scaler, prices) for name, scaler in ways.items()}
for name in ways:
    print(f"{name:<12} what is low goes with tomorrow's return by {found[name]:6.3f}")
    print(f"{'':<12} {verdicts[name]}")

assert found["full sample"] > 0.04 > 2 * abs(found["causal"])
assert verdicts["causal"]
assert not verdicts["full sample"]
