"""A stock market: daily returns of stocks in sectors and industries, with what moved them beside it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import DTypeLike, NDArray

from .arguments import check_counts, check_numbers, float_type, generator
from .layout import check_groups, classify, move, names

_FIRST_DATE = "2001-01-01"


@dataclass(frozen=True, eq=False)
class MarketTable:
    """A made market, and everything that went into it.

    On date `t`, with `s` and `i` the sector and the industry of stock `j` on that date::

        truth[t, j]  = sum over the factors f of exposures[j, f] * factors[t, f]
                       + sector_returns[t, s] + industry_returns[t, i] + own_returns[t, j]
        returns[t, j] = truth[t, j] where there was a quote, else NaN

    A stock without an industry has no industry's return in it. Returns are fractions: 0.01 is one percent.

    Attributes
    ----------
    returns : DataFrame of shape (n_dates, n_stocks)
        What was quoted: NaN before a stock is listed, after it is delisted, and in gaps.
    sector, industry : Series of length n_stocks
        Sector and industry of each stock on the first date; industry is NaN where there is none.
    membership, industry_membership : DataFrame of shape (n_dates, n_stocks)
        Sector and industry of each stock on each date, whether it is quoted or not.
    exposures : DataFrame of shape (n_stocks, 2)
        ``beta``, around 1, and ``size``, around 0.
    truth : DataFrame of shape (n_dates, n_stocks)
        The returns of all stocks on all dates, had they been quoted.
    factors : DataFrame of shape (n_dates, 2)
        Return of one unit of ``beta`` (the market's own return) and of one unit of ``size``.
    sector_returns : DataFrame of shape (n_dates, n_sectors)
        What each sector added to its stocks.
    industry_returns : DataFrame of shape (n_dates, n_industries)
        What each industry added to its stocks.
    own_returns : DataFrame of shape (n_dates, n_stocks)
        What was each stock's own.
    loudness : Series of length n_dates
        Factor on all that is random on that date; its square has mean 1.
    description : str
        The card of a market that ships with the package; empty for one that was made.
    """

    returns: pd.DataFrame
    sector: pd.Series
    industry: pd.Series
    membership: pd.DataFrame
    industry_membership: pd.DataFrame
    exposures: pd.DataFrame
    truth: pd.DataFrame
    factors: pd.DataFrame
    sector_returns: pd.DataFrame
    industry_returns: pd.DataFrame
    own_returns: pd.DataFrame
    loudness: pd.Series
    description: str = ""

    def panel(self) -> pd.DataFrame:
        """List the same market, one row for each quote.

        Returns
        -------
        DataFrame
            Rows are indexed by ``date`` and ``symbol``, in that order; columns are ``sector`` and ``industry``
            of that date, ``return``, ``beta`` and ``size``.

        Examples
        --------
        >>> from batchfix.datasets import make_markets
        >>> make_markets(10, 20, 4, 6, random_state=0).panel().columns.tolist()
        ['sector', 'industry', 'return', 'beta', 'size']
        """
        quoted = self.returns.notna().to_numpy()
        days, stocks = np.nonzero(quoted)
        rows = pd.MultiIndex.from_arrays([self.returns.index[days], self.returns.columns[stocks]])
        columns = {
            "sector": self.membership.to_numpy()[quoted],
            "industry": self.industry_membership.to_numpy()[quoted],
            "return": self.returns.to_numpy()[quoted],
        }
        return pd.DataFrame(
            {**columns, **{name: values.to_numpy()[stocks] for name, values in self.exposures.items()}}, index=rows
        )


def make_markets(
    n_dates: int = 500,
    n_stocks: int = 100,
    n_sectors: int = 8,
    n_industries: int = 40,
    *,
    inequality: float = 1.0,
    n_singletons: int = 1,
    unclassified: float = 0.1,
    moves: float = 0.05,
    market_volatility: float = 0.011,
    size_volatility: float = 0.003,
    sector_volatility: float = 0.007,
    industry_volatility: float = 0.007,
    own_volatility: float = 0.013,
    volatility_spread: float = 0.3,
    market_premium: float = 0.0004,
    size_premium: float = -0.0003,
    beta_spread: float = 0.3,
    tilt: float = 0.3,
    reversal: float = 0.2,
    loudness: float = 0.4,
    persistence: float = 0.95,
    late: float = 0.1,
    delisted: float = 0.1,
    missing: float = 0.02,
    dtype: DTypeLike = np.float64,
    random_state: int | np.random.Generator | np.random.SeedSequence | None = None,
) -> MarketTable:
    r"""Make a market's daily returns, with sectors, industries, gaps, and a known truth.

    On date :math:`t`, stock :math:`j` of sector :math:`s` and industry :math:`i` returns

    .. math::

        r_{tj} &= \beta_j M_t + z_j Z_t + S_{ts} + I_{ti} + E_{tj} \\
        M_t &= \mu + v_t \sigma_M \varepsilon_t, \qquad Z_t = \zeta + v_t \sigma_Z \varepsilon_t \\
        S_{ts} &= v_t \sigma_S \varepsilon_{ts} - \kappa \sum_{u < t} S_{us} \\
        I_{ti} &= v_t \sigma_I \varepsilon_{ti}, \qquad E_{tj} = v_t \sigma_E w_j \varepsilon_{tj} \\
        \log v_t &= l h_t - l^2, \qquad h_t = \phi h_{t-1} + \sqrt{1 - \phi^2}\, \varepsilon_t,
        \qquad \log w_j \sim N(-c^2, c^2)

    with every :math:`\varepsilon` standard normal and independent, `M` the market, `Z` what size pays, `S`, `I` and
    `E` the sector's, the industry's and the stock's own part, and :math:`v_t` one loudness for all of them. The
    :math:`\sigma` are the five volatilities, :math:`\mu` and :math:`\zeta` the premiums, :math:`\kappa` `reversal`,
    `l` `loudness`, :math:`\phi` `persistence` and `c` `volatility_spread`. The means of :math:`v^2` and
    :math:`w^2` are 1, so volatilities are root mean squares.

    Parameters
    ----------
    n_dates : int in [1, 60000]
        Dates: weekdays from 2001-01-01.
    n_stocks, n_sectors, n_industries : int
        Stocks, sectors, and industries in all; an industry belongs to one sector. At least two stocks a sector (one
        in those of `n_singletons`), one industry a sector, one stock an industry. Stocks come in random order.
    inequality : float in [0, 10]
        How unequal groups are: sizes fall as ``rank ** -inequality``, sectors' among all stocks and industries'
        within a sector. At 0 they are as equal as integers allow.
    n_singletons : int
        The last so many sectors hold a single stock; there is at least one other.
    unclassified : float in [0, 1]
        Share of the stocks, to the nearest count, that have a sector but no industry.
    moves : float in [0, 1]
        Share of the stocks, to the nearest count, that go to another industry once, on a date after the first, often
        one of another sector. Stocks without an industry and sectors of one take no part. An industry may be left
        empty.
    market_volatility, size_volatility, sector_volatility, industry_volatility, own_volatility : float in [0, 1]
        Standard deviation of a day's shock to the market, to what size pays, to a sector, an industry and a stock.
    volatility_spread : float in [0, 2]
        Standard deviation, over stocks, of the log of a stock's own volatility.
    market_premium, size_premium : float in [-1, 1]
        Expected daily return of one unit of ``beta``, and of one unit of ``size``.
    beta_spread : float in [0, 10]
        Standard deviation of ``beta`` over stocks, around 1. That of ``size`` is 1, around 0.
    tilt : float in [0, 1]
        Share of the exposures' variance that lies between sectors: at 0 sectors are alike, at 1 the stocks of a
        sector are. Where it is above 0, taking out sectors and then exposures is not taking out both.
    reversal : float in [0, 1]
        Share of all that a sector gained or lost so far that it is expected to give back the next day. Nothing else
        can be foretold but the premiums: the signal lies in the sectors' means.
    loudness : float in [0, 2]
        Standard deviation of the log volatility of days: at 0 all days are alike.
    persistence : float in [0, 1]
        Correlation of one day's log volatility with the next one's: loud days come together.
    late, delisted : float in [0, 1]
        Share of the stocks, to the nearest count, that are first quoted after the first date, on date n_dates // 2 at
        the latest (dates count from 0), and of those that are last quoted before the last date, and not before that.
    missing : float in [0, 1]
        Probability that a listed stock has no quote on a date.
    dtype : float32 or float64
        Type of every number in the result. All is drawn in float64.
    random_state : int, Generator, SeedSequence or None
        Seed; the same seed makes the same market, and the same truth under other missing quotes.

    Returns
    -------
    MarketTable
        The returns, their labels over time, and what they were made of.

    Raises
    ------
    BatchfixError
        If a number is out of its range, or the stocks do not fill the groups.
    TypeError
        If an argument is not a number of the kind asked for.

    Examples
    --------
    >>> from batchfix.datasets import make_markets
    >>> market = make_markets(250, 40, 5, 12, random_state=0)
    >>> market.returns.shape
    (250, 40)
    >>> market.sector.value_counts().to_dict()
    {'sector1': 17, 'sector2': 9, 'sector3': 7, 'sector4': 6, 'sector5': 1}

    What size paid is what it was promised to pay, give or take the volatility of 250 days:

    >>> paid = market.factors["size"]
    >>> bool(abs(paid.mean() - -0.0003) < 2 * paid.std() / 250**0.5)
    True
    """
    check_counts(
        ("n_dates", n_dates, 1, 60_000),
        ("n_stocks", n_stocks, 1, np.inf),
        ("n_sectors", n_sectors, 1, np.inf),
        ("n_industries", n_industries, 1, np.inf),
        ("n_singletons", n_singletons, 0, np.inf),
    )
    check_numbers(
        ("inequality", inequality, 0.0, 10.0),
        ("unclassified", unclassified, 0.0, 1.0),
        ("moves", moves, 0.0, 1.0),
        ("market_volatility", market_volatility, 0.0, 1.0),
        ("size_volatility", size_volatility, 0.0, 1.0),
        ("sector_volatility", sector_volatility, 0.0, 1.0),
        ("industry_volatility", industry_volatility, 0.0, 1.0),
        ("own_volatility", own_volatility, 0.0, 1.0),
        ("volatility_spread", volatility_spread, 0.0, 2.0),
        ("market_premium", market_premium, -1.0, 1.0),
        ("size_premium", size_premium, -1.0, 1.0),
        ("beta_spread", beta_spread, 0.0, 10.0),
        ("tilt", tilt, 0.0, 1.0),
        ("reversal", reversal, 0.0, 1.0),
        ("loudness", loudness, 0.0, 2.0),
        ("persistence", persistence, 0.0, 1.0),
        ("late", late, 0.0, 1.0),
        ("delisted", delisted, 0.0, 1.0),
        ("missing", missing, 0.0, 1.0),
    )
    check_groups(n_stocks, n_sectors, n_industries, n_singletons)
    kind = float_type(dtype)
    rng = generator(random_state)

    # Each draw takes as many random numbers whatever the parameters, the quotes last: so a seed fixes the truth.
    sector_of, start = classify(rng, n_stocks, n_sectors, n_industries, inequality, n_singletons)
    classified = rng.permutation(n_stocks) >= round(unclassified * n_stocks)
    is_open = np.bincount(sector_of[start])[sector_of] > 1
    industry = move(rng, start, classified & is_open[start], np.flatnonzero(is_open), n_dates, moves)
    sector = sector_of[industry]

    within, between = rng.standard_normal((n_stocks, 2)), rng.standard_normal((n_sectors, 2))
    exposures = np.sqrt(tilt) * between[sector[0]] + np.sqrt(1.0 - tilt) * within
    exposures = exposures * [beta_spread, 1.0] + [1.0, 0.0]
    own_scale = own_volatility * np.exp(volatility_spread * rng.standard_normal(n_stocks) - volatility_spread**2)

    log_loudness = loudness * _autoregression(rng.standard_normal(n_dates), persistence) - loudness**2
    volatility = np.exp(log_loudness)[:, None]

    factors = volatility * rng.standard_normal((n_dates, 2)) * [market_volatility, size_volatility]
    factors += [market_premium, size_premium]
    sector_shocks = volatility * rng.standard_normal((n_dates, n_sectors)) * sector_volatility
    sector_returns = _reverting(sector_shocks, reversal)
    industry_returns = volatility * rng.standard_normal((n_dates, n_industries)) * industry_volatility
    own_returns = volatility * rng.standard_normal((n_dates, n_stocks)) * own_scale

    truth = factors @ exposures.T + own_returns + np.take_along_axis(sector_returns, sector, axis=1)
    truth += np.where(classified, np.take_along_axis(industry_returns, industry, axis=1), 0.0)
    returns = np.where(_quoted(rng, truth.shape, late, delisted, missing), truth, np.nan)

    dates = pd.bdate_range(_FIRST_DATE, periods=n_dates, name="date")
    symbols = pd.Index(names("s", n_stocks), name="symbol")
    sectors, industries = names("sector", n_sectors), names("industry", n_industries)
    membership = pd.DataFrame(np.array(sectors, dtype=object)[sector], dates, symbols)
    labels = np.where(classified, np.array(industries, dtype=object)[industry], np.nan)
    industry_membership = pd.DataFrame(labels, dates, symbols)
    return MarketTable(
        returns=pd.DataFrame(returns.astype(kind), dates, symbols),
        sector=membership.iloc[0].rename("sector"),
        industry=industry_membership.iloc[0].rename("industry"),
        membership=membership,
        industry_membership=industry_membership,
        exposures=pd.DataFrame(exposures.astype(kind), symbols, ["beta", "size"]),
        truth=pd.DataFrame(truth.astype(kind), dates, symbols),
        factors=pd.DataFrame(factors.astype(kind), dates, ["beta", "size"]),
        sector_returns=pd.DataFrame(sector_returns.astype(kind), dates, sectors),
        industry_returns=pd.DataFrame(industry_returns.astype(kind), dates, industries),
        own_returns=pd.DataFrame(own_returns.astype(kind), dates, symbols),
        loudness=pd.Series(volatility[:, 0].astype(kind), dates, name="loudness"),
    )


def cells_of(values: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    """Value of each cell's label on its date, from a table of dates x labels; 0 where there is no label."""
    codes = values.columns.get_indexer(labels.to_numpy().ravel()).reshape(labels.shape)
    cells = np.where(codes >= 0, np.take_along_axis(values.to_numpy(), np.maximum(codes, 0), axis=1), 0.0)
    return pd.DataFrame(cells, labels.index, labels.columns)


def _autoregression(shocks: NDArray[np.float64], persistence: float) -> NDArray[np.float64]:
    """Stationary series of variance 1 whose values correlate with the next ones by `persistence`."""
    series = shocks.copy()
    for t in range(1, len(series)):
        series[t] = persistence * series[t - 1] + np.sqrt(1.0 - persistence**2) * shocks[t]
    return series


def _reverting(shocks: NDArray[np.float64], reversal: float) -> NDArray[np.float64]:
    """Returns that give back a share of their sum so far, each day."""
    returns, level = shocks.copy(), np.zeros(shocks.shape[1])
    for row in returns:
        row -= reversal * level
        level += row
    return returns


def _quoted(
    rng: np.random.Generator, shape: tuple[int, int], late: float, delisted: float, missing: float
) -> NDArray[np.bool_]:
    """Which cells have a quote: from a listing in the first half to a delisting in the second, but for gaps."""
    n_dates, n_stocks = shape
    half = n_dates // 2
    is_late, is_delisted = (rng.permutation(n_stocks) < round(share * n_stocks) for share in (late, delisted))
    # Of the dates 1 to half, and half to the last but one, where there are any.
    first = np.where(is_late, min(1, half) + (rng.random(n_stocks) * half).astype(int), 0)
    last = np.where(is_delisted, half + (rng.random(n_stocks) * (n_dates - 1 - half)).astype(int), n_dates - 1)
    day = np.arange(n_dates)[:, None]
    return (day >= first) & (day <= last) & (rng.random(shape) >= missing)
