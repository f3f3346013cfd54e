"""501 stocks of the S&P 500, 2010 to 2021: what sectors explain, and what shrinkage and the past are worth.

Needs the tables that BATCHFIX_REAL_DATA points to; they are not part of the project. The stocks are those that were
members in the end, so nothing here says how well anything would have paid.

Returns are daily differences of log prices, 2,843 x 501, 5 % of them missing (stocks not listed yet). R2 of a
prediction is 1 - sum (x - predicted)^2 / sum (x - mean)^2 over all observed cells. IC is the mean over dates of the
rank correlation, across stocks, of a signal with the returns of the next 21 days.
"""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from batchfix import CausalCorrector, GroupCorrector
from batchfix.core.hierarchy import ShrinkageSums, shrunken_mean
from batchfix.core.moments import Moments
from batchfix.core.neutralize import neutralize
from batchfix.core.ranks import grouped_rank
from batchfix.diagnostics import check_causality

FOLDER = os.environ.get("BATCHFIX_REAL_DATA")
pytestmark = pytest.mark.skipif(not FOLDER, reason="BATCHFIX_REAL_DATA does not name the folder of the real tables")


@pytest.fixture(scope="module")
def prices():
    return np.log(pd.read_csv(Path(FOLDER, "sp500_adjclose_2010_2021.csv.gz"), index_col=0, parse_dates=True))


@pytest.fixture(scope="module")
def returns(prices):
    table = prices.diff().iloc[1:]
    assert table.shape == (2843, 501)
    return table


@pytest.fixture(scope="module")
def levels(returns):
    """Sector and sub-industry of each stock: 11, and 120 of which 30 have one member; 94 stocks have none."""
    names = pd.read_csv(Path(FOLDER, "sp500_sectors.csv"), index_col=0, keep_default_na=False).loc[returns.columns]
    names["sub_industry"] = names["sub_industry"].where(names["sub_industry"] != "")
    assert (names["sector"].nunique(), names["sub_industry"].isna().sum()) == (11, 94)
    return names


@pytest.fixture(scope="module")
def sectors(levels):
    return levels["sector"]


@pytest.fixture(scope="module")
def outcome(returns):
    """Returns of the 21 days after each date."""
    return returns[::-1].rolling(21).sum()[::-1].shift(-1)


def r2(returns, left):
    """Share of the sum of squares that is not left."""
    seen = returns.notna().to_numpy() & np.asarray(~np.isnan(left))
    x = returns.to_numpy()[seen]
    return 1 - (np.asarray(left)[seen] ** 2).sum() / ((x - x.mean()) ** 2).sum()


def ic(signal, outcome):
    """Mean over dates of the rank correlation across stocks."""
    both = signal.notna().to_numpy() & outcome.notna().to_numpy()
    one = np.zeros(signal.shape[1], dtype=int)
    a, b = (grouped_rank(np.where(both, v.to_numpy(), np.nan), one, 1) for v in (signal, outcome))
    a, b = a[both.sum(axis=1) > 2] - 0.5, b[both.sum(axis=1) > 2] - 0.5  # ranks average 1/2
    return float((np.nansum(a * b, axis=1) / np.sqrt(np.nansum(a * a, axis=1) * np.nansum(b * b, axis=1))).mean())


def left_by(corrector, table):
    """What a corrector that only centres leaves: x less its prediction."""
    return corrector.set_params(scale=None).fit_transform(table).to_numpy()


# ---- what sectors explain


def test_sector_days_are_explained_and_then_gone(returns, sectors):
    peers = GroupCorrector(sectors, scale=None, return_group_stats=True).fit(returns)
    out = peers.transform(returns)
    left = out[returns.columns]
    assert r2(returns, left) == pytest.approx(0.4684, abs=5e-5)
    assert r2(left, left_by(GroupCorrector(sectors), left)) == pytest.approx(0, abs=1e-12)
    # what was removed is the return of the sector's portfolio of equal weights
    portfolio = returns.T.groupby(sectors).mean().T
    removed = out[[f"mean({name})" for name in portfolio.columns]]
    np.testing.assert_allclose(removed, portfolio, rtol=0, atol=1e-12)
    np.testing.assert_allclose(peers.inverse_transform(out), returns, rtol=0, atol=1e-15)


def test_stocks_of_a_sector_no_longer_move_together(returns, sectors):
    complete = returns.columns[returns.notna().all()]
    z = GroupCorrector(sectors).fit_transform(returns)

    def within(table):
        found = []
        for _, names in sectors[complete].groupby(sectors[complete]):
            correlations = np.corrcoef(table[names.index].to_numpy().T)
            found.append(correlations[np.triu_indices(len(names), 1)])
        return np.concatenate(found).mean()

    assert within(returns) == pytest.approx(0.497, abs=1e-3)
    assert within(z) == pytest.approx(-0.015, abs=1e-3)


# ---- what peers say of a stock that is left out


def by_hand(returns, codes):
    """Number and mean of the others in each cell's group, by Moments taken away from Moments."""
    x = returns.to_numpy()
    seen, member = ~np.isnan(x), np.eye(codes.max() + 1)[codes] * (codes >= 0)[:, None]
    n = seen @ member
    total = np.where(seen, x, 0.0) @ member
    group = Moments(n, total / np.maximum(n, 1), np.zeros(n.shape))
    at_cells = Moments(*(v @ member.T for v in (group.n, group.mean, group.m2)))
    own = seen & (codes >= 0)
    return at_cells - Moments(own.astype(float), np.where(own, x, 0.0), np.zeros(x.shape))


def test_unshrunk_peers(returns, levels):
    """Sub-industries are closer but smaller: without shrinkage they say less than sectors do."""
    left_out = GroupCorrector(levels["sector"], leave_one_out=True)
    sector = r2(returns, left_by(left_out, returns))
    assert sector == pytest.approx(0.4438, abs=5e-5)
    codes = pd.factorize(levels["sector"])[0]
    assert r2(returns, returns.to_numpy() - by_hand(returns, codes).mean) == pytest.approx(sector, abs=1e-12)

    # stocks without a sub-industry, and those alone in theirs, by their sector
    plain = r2(returns, left_by(GroupCorrector(levels, leave_one_out=True), returns))
    assert plain == pytest.approx(0.4331, abs=5e-5)
    # stocks of a sector without a sub-industry taken as one more sub-industry, named as the sector
    filled = levels["sub_industry"].fillna(levels["sector"])
    both = pd.DataFrame({"sub_industry": filled}).assign(sector="any")[["sector", "sub_industry"]]
    other = by_hand(returns, pd.factorize(both["sub_industry"])[0])
    predicted = np.where(other.n > 0, other.mean, by_hand(returns, codes).mean)
    assert r2(returns, returns.to_numpy() - predicted) == pytest.approx(0.4223, abs=5e-5)


@pytest.fixture(scope="module")
def years(returns):
    return [(returns.loc[: str(year - 1)], returns.loc[str(year)]) for year in range(2011, 2022)]


def test_peers_shrunken_to_their_sector_predict_best(years, levels):
    """Every year by the amounts of the years before it; sectors, in their turn, shrunken to the market."""
    peers = GroupCorrector(levels, scale=None, leave_one_out=True, shrinkage="eb")
    plain = GroupCorrector(levels, scale=None, leave_one_out=True)
    coarse = GroupCorrector(levels["sector"], scale=None, leave_one_out=True)
    after = pd.concat([later for _, later in years])
    left = np.concatenate([peers.fit(past).transform(later) for past, later in years])
    shrunken = r2(after, left)
    assert shrunken >= 0.47
    assert shrunken == pytest.approx(0.4851, abs=0.001)
    assert shrunken > max(r2(after, left_by(coarse, after)), r2(after, left_by(plain, after))) + 0.03
    # a halfway cut: learned on six years, measured on the other six
    first, second = (pd.concat([later for _, later in half]) for half in (years[:5], years[5:]))
    assert r2(second, peers.fit(first).transform(second)) >= 0.47


def test_the_amount_by_hand(years, levels):
    """The sums of core.hierarchy, added up year by year, name about the amount that would have been best."""
    sector = pd.factorize(levels["sector"])[0]
    names = (levels["sector"] + "/" + levels["sub_industry"]).where(levels["sub_industry"].notna())
    codes = pd.factorize(names)[0]
    parent = np.array([sector[codes == g][0] for g in range(codes.max() + 1)])
    member = np.eye(len(parent))[codes] * (codes >= 0)[:, None]

    def sums(table):
        x = table.to_numpy()
        seen = ~np.isnan(x)
        n = seen @ member
        mean = np.where(seen, x, 0.0) @ member / np.maximum(n, 1)
        return ShrinkageSums.of(n, mean, np.where(seen, x - mean @ member.T, 0.0) ** 2 @ member, parent)

    total, squares = sums(years[0][0]), dict.fromkeys(("estimated", 1.5, 2.0, 2.5, 3.0, 4.0), 0.0)
    for _, later in years:
        own, above, x = by_hand(later, codes), by_hand(later, sector), later.to_numpy()
        for k in squares:
            predicted = shrunken_mean(own.n, own.mean, above.mean, total.k if k == "estimated" else k)
            squares[k] += np.nansum((x - predicted) ** 2)
        total = total + sums(later)
    assert total.k == pytest.approx(2.715, abs=0.01)
    assert squares["estimated"] <= min(squares.values()) * 1.0005
    after = np.concatenate([later.to_numpy() for _, later in years])
    explained = 1 - squares["estimated"] / np.nansum((after - np.nanmean(after)) ** 2)
    assert explained == pytest.approx(0.4836, abs=1e-4)  # sectors unshrunken

    peers = GroupCorrector(levels, shrinkage="eb").fit(pd.concat([years[0][0], *(later for _, later in years)]))
    np.testing.assert_allclose(peers.amounts_[1], [total.k, total.prior_freedom], rtol=1e-9)
    # the corrector's predictions: market, sector and sub-industry without the stock, each shrunken to the one above
    own, above, market = (by_hand(later, c) for c in (codes, sector, np.zeros_like(sector)))
    above = shrunken_mean(above.n, above.mean, market.mean, peers.amounts_[0, 0])
    predicted = shrunken_mean(own.n, own.mean, above, total.k)
    left = peers.set_params(scale=None, leave_one_out=True).transform(later)
    np.testing.assert_allclose(left, x - predicted, rtol=0, atol=1e-12)


# ---- the future


def test_standards_of_all_times_know_the_future(prices, outcome):
    """Log prices by their mean of all dates: low ones rise, but only who knows what followed can tell they are low.

    The IC is .146 on some samples of every 21st date; of prices by their past it is 0 on all.
    """
    prices = prices.iloc[1:]
    whole = (prices - prices.mean()) / prices.std()
    past = CausalCorrector().fit_transform(prices)
    assert ic(-whole, outcome) == pytest.approx(0.154, abs=0.001)
    assert ic(-past, outcome) == pytest.approx(0, abs=0.005)


def test_the_causality_check_tells_them_apart(prices):
    from sklearn.preprocessing import StandardScaler

    some = prices.iloc[1:300, :20].dropna(axis=1)
    assert check_causality(CausalCorrector(), some)
    assert not check_causality(StandardScaler(), some)


# ---- the removed mean is a feature


def test_reversal_sits_in_the_removed_mean(returns, sectors, outcome):
    """What fell in 21 days rises in the next 21, sectors more than stocks within them.

    Every 21st date, from the first that has 21 days behind it. Such a sample is 134 dates: from other first dates the
    sectors' IC is anything from -.02 to .08, and over all dates .014, of stocks within sectors .010.
    """
    signal = -returns.rolling(21).sum()
    peers = GroupCorrector(sectors, scale=None)
    within = peers.fit_transform(signal)
    removed = signal - within
    sector_outcome = outcome - peers.fit_transform(outcome)
    dates = signal.index[20::21]
    assert ic(removed.loc[dates], sector_outcome.loc[dates]) == pytest.approx(0.036, abs=0.001)
    assert ic(within.loc[dates], outcome.loc[dates]) == pytest.approx(0.011, abs=0.001)
    assert ic(removed, sector_outcome) > ic(within, outcome) > 0


# ---- exposures


def test_size_is_taken_out_with_the_sectors(returns, levels):
    """Monthly returns on the month before's dollar volume: joint, so that nothing of either is left."""
    volume = pd.read_csv(Path(FOLDER, "sp500_dollarvol_monthly_2010_2021.csv.gz"), index_col=0, parse_dates=True)
    monthly = returns.resample("ME").sum(min_count=1)
    size = np.log(volume.where(volume > 0)).reindex(index=monthly.index, columns=monthly.columns).shift(1).iloc[1:]
    x, codes = monthly.iloc[1:].to_numpy(), pd.factorize(levels["sector"])[0]
    residuals, _, betas = neutralize(x, codes, 11, [size.to_numpy()])
    seen = ~np.isnan(residuals)
    np.testing.assert_array_equal(seen, ~np.isnan(x) & size.notna().to_numpy())
    dummies = np.eye(11)[codes]
    for t in range(0, len(x), 10):
        design = np.column_stack([dummies[seen[t]], size.to_numpy()[t, seen[t]]])
        solution = np.linalg.lstsq(design, x[t, seen[t]], rcond=None)[0]
        np.testing.assert_allclose(residuals[t, seen[t]], x[t, seen[t]] - design @ solution, rtol=0, atol=1e-10)
        np.testing.assert_allclose(betas[t, 0], solution[-1], rtol=0, atol=1e-10)
