import gzip
import io
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchfix.datasets import load_markets, make_markets
from batchfix.exceptions import BatchfixError

TABLES = Path(__file__).parents[2] / "datasets"
QUIET = {"loudness": 0.0, "volatility_spread": 0.0, "late": 0.0, "delisted": 0.0, "missing": 0.0}
STILL = {f"{part}_volatility": 0.0 for part in ("market", "size", "sector", "industry", "own")}
ALWAYS_QUOTED = {"late": 0.0, "delisted": 0.0, "missing": 0.0}


@st.composite
def arguments(draw):
    """Arguments of make_markets that it must accept."""
    n_sectors = draw(st.integers(1, 5))
    n_singletons = draw(st.integers(0, n_sectors - 1))
    n_stocks = draw(st.integers(2 * n_sectors - n_singletons, 30))
    n_industries = draw(st.integers(n_sectors, n_stocks))
    return {
        "n_dates": draw(st.integers(1, 12)),
        "n_stocks": n_stocks,
        "n_sectors": n_sectors,
        "n_industries": n_industries,
        "n_singletons": n_singletons,
        "inequality": draw(st.floats(0, 10)),
        "unclassified": draw(st.floats(0, 1)),
        "moves": draw(st.floats(0, 1)) if n_industries - n_singletons > 1 else 0.0,
        "beta_spread": draw(st.floats(0, 10)),
        "tilt": draw(st.floats(0, 1)),
        "reversal": draw(st.floats(0, 1)),
        "loudness": draw(st.floats(0, 2)),
        "persistence": draw(st.floats(0, 1)),
        "late": draw(st.floats(0, 1)),
        "delisted": draw(st.floats(0, 1)),
        "missing": draw(st.floats(0, 1)),
        "random_state": draw(st.integers(0, 2**32)),
    }


def stacked(values, labels):
    """Each cell's value by its label, one cell at a time."""
    return np.array(
        [
            [0.0 if pd.isna(label) else values.loc[date, label] for label in row]
            for date, row in zip(labels.index, labels.to_numpy(), strict=True)
        ]
    )


def moves_of(market):
    """The (row, column) cells on which a stock's industry is another than the day before."""
    labels = market.industry_membership.fillna("none").to_numpy()
    rows, columns = np.nonzero(labels[1:] != labels[:-1])
    return np.column_stack([rows + 1, columns])


class TestShapes:
    @given(arguments())
    @settings(max_examples=60)
    def test_everything_fits_together(self, given_arguments):
        market = make_markets(**given_arguments)
        n, p = given_arguments["n_dates"], given_arguments["n_stocks"]
        for table in ("membership", "industry_membership", "truth", "own_returns"):
            table = getattr(market, table)
            assert table.shape == (n, p)
            pd.testing.assert_index_equal(table.index, market.returns.index)
            pd.testing.assert_index_equal(table.columns, market.returns.columns)
        for table in (market.sector, market.industry, market.exposures):
            pd.testing.assert_index_equal(table.index, market.returns.columns)
        for table in (market.factors, market.sector_returns, market.industry_returns, market.loudness):
            pd.testing.assert_index_equal(table.index, market.returns.index)
        assert market.sector_returns.shape[1] == given_arguments["n_sectors"]
        assert market.industry_returns.shape[1] == given_arguments["n_industries"]
        assert set(market.membership.to_numpy().ravel()) == set(market.sector_returns.columns)
        pd.testing.assert_series_equal(market.sector, market.membership.iloc[0], check_names=False)
        pd.testing.assert_series_equal(market.industry, market.industry_membership.iloc[0], check_names=False)

    @given(arguments())
    @settings(max_examples=60)
    def test_the_parts_add_up(self, given_arguments):
        market = make_markets(**given_arguments)
        parts = market.factors.to_numpy() @ market.exposures.to_numpy().T + market.own_returns.to_numpy()
        parts += stacked(market.sector_returns, market.membership)
        parts += stacked(market.industry_returns, market.industry_membership)
        # A handful of additions, each off by half a unit of the largest part.
        parts_size = 1 + np.abs(market.exposures.to_numpy()).max()
        np.testing.assert_allclose(parts, market.truth, atol=1e-15 * parts_size * (1 + np.abs(parts).max()))
        quoted = market.returns.notna().to_numpy()
        np.testing.assert_array_equal(market.returns.to_numpy()[quoted], market.truth.to_numpy()[quoted])
        assert market.truth.notna().all(axis=None)

    @given(arguments())
    @settings(max_examples=60)
    def test_industries_are_nested_in_sectors_on_every_date(self, given_arguments):
        market = make_markets(**given_arguments)
        pairs = pd.DataFrame(
            {"sector": market.membership.to_numpy().ravel(), "industry": market.industry_membership.to_numpy().ravel()}
        )
        assert (pairs.dropna().groupby("industry")["sector"].nunique() == 1).all()

    @given(arguments())
    @settings(max_examples=60)
    def test_groups_have_the_sizes_that_were_asked(self, given_arguments):
        market = make_markets(**given_arguments)
        n_singletons, n_stocks = given_arguments["n_singletons"], given_arguments["n_stocks"]
        sizes = market.sector.value_counts()[market.sector_returns.columns].to_numpy()
        full = len(sizes) - n_singletons
        assert (sizes[full:] == 1).all()
        assert (sizes[:full] >= 2).all()
        # Each size is within one of its share of what is left beyond two each.
        weights = np.arange(1.0, full + 1) ** -given_arguments["inequality"]
        shares = 2 + (n_stocks - n_singletons - 2 * full) * weights / weights.sum()
        assert np.abs(sizes[:full] - shares).max() < 1 + 1e-9
        assert market.industry.isna().sum() == round(given_arguments["unclassified"] * n_stocks)
        if given_arguments["unclassified"] == 0:
            assert market.industry.nunique() == given_arguments["n_industries"]

    def test_names_sort_as_their_numbers_do(self):
        market = make_markets(5, 120, 11, 30, random_state=0)
        for labels in (market.returns.columns, market.sector_returns.columns, market.industry_returns.columns):
            assert labels.tolist() == sorted(labels)
        assert market.returns.columns[0] == "s001"
        assert market.returns.index.is_monotonic_increasing
        assert (market.returns.index.dayofweek < 5).all()

    def test_stocks_come_in_random_order(self):
        sector = make_markets(2, 200, 4, 4, random_state=0).sector
        assert (sector != sector.shift()).sum() > 80

    def test_groups_are_equal_without_inequality_and_small_with_it(self):
        even = make_markets(2, 80, 8, 16, inequality=0.0, n_singletons=0, unclassified=0.0, random_state=0)
        assert (even.sector.value_counts() == 10).all()
        assert (even.industry.value_counts() == 5).all()
        market = make_markets(2, random_state=0)
        assert market.sector.value_counts().max() > 25
        assert (market.industry.value_counts() == 1).sum() >= 5

    def test_the_panel_lists_each_quote_once(self):
        market = make_markets(20, 30, 4, 8, missing=0.2, random_state=0)
        panel = market.panel()
        assert len(panel) == market.returns.notna().to_numpy().sum()
        assert panel.index.is_monotonic_increasing
        wide = panel["return"].unstack()[market.returns.columns]
        pd.testing.assert_frame_equal(wide, market.returns, check_exact=True, check_freq=False)
        for (date, symbol), row in panel.sample(40, random_state=0).iterrows():
            assert row["sector"] == market.membership.loc[date, symbol]
            assert row["industry"] is market.industry_membership.loc[date, symbol]
            assert row["beta"] == market.exposures.loc[symbol, "beta"]
            assert row["size"] == market.exposures.loc[symbol, "size"]


class TestSeed:
    @given(arguments(), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
    @settings(max_examples=30)
    def test_a_seed_fixes_the_truth_whatever_the_quotes(self, given_arguments, late, delisted, missing):
        market = make_markets(**given_arguments)
        other = make_markets(**{**given_arguments, "late": late, "delisted": delisted, "missing": missing})
        pd.testing.assert_frame_equal(market.truth, other.truth, check_exact=True)
        pd.testing.assert_frame_equal(market.membership, other.membership)
        again = make_markets(**given_arguments)
        pd.testing.assert_frame_equal(market.returns, again.returns, check_exact=True)

    def test_a_parameter_of_one_part_leaves_the_others_alone(self):
        market, other = make_markets(random_state=0), make_markets(reversal=0.0, beta_spread=1.0, random_state=0)
        pd.testing.assert_frame_equal(market.own_returns, other.own_returns, check_exact=True)
        pd.testing.assert_frame_equal(market.industry_returns, other.industry_returns, check_exact=True)
        pd.testing.assert_series_equal(market.loudness, other.loudness, check_exact=True)
        assert not market.sector_returns.equals(other.sector_returns)

    def test_another_seed_makes_another_market_and_a_generator_moves_on(self):
        rng = np.random.default_rng(0)
        first, second = make_markets(20, random_state=rng), make_markets(20, random_state=rng)
        assert not first.truth.equals(second.truth)
        assert first.truth.equals(make_markets(20, random_state=0).truth)
        assert not first.truth.equals(make_markets(20, random_state=1).truth)

    def test_float32_is_the_rounded_float64(self):
        single, double = (make_markets(30, dtype=kind, random_state=3) for kind in (np.float32, np.float64))
        for name in ("returns", "truth", "exposures", "factors", "sector_returns", "own_returns", "loudness"):
            values = getattr(single, name).to_numpy()
            assert values.dtype == np.float32
            np.testing.assert_array_equal(values, getattr(double, name).to_numpy().astype(np.float32))


class TestDraws:
    """Draws have the spreads that are promised: n draws know a standard deviation to 1 / sqrt(2 n)."""

    def test_volatilities_are_root_mean_squares(self):
        volatilities = {
            "market_volatility": 0.02,
            "size_volatility": 0.004,
            "sector_volatility": 0.006,
            "industry_volatility": 0.008,
            "own_volatility": 0.013,
        }
        free = {"market_premium": 0.0, "size_premium": 0.0, "reversal": 0.0}
        market = make_markets(5000, 200, 20, 60, loudness=0.2, persistence=0.5, **volatilities, **free, random_state=0)
        found = [
            market.factors["beta"],
            market.factors["size"],
            market.sector_returns,
            market.industry_returns,
            market.own_returns,
        ]
        # 5,000 days know the loudness, which all share, to 1 %; 200 stocks know w^2 to 5 %.
        for values, wanted, error in zip(found, volatilities.values(), (0.05, 0.05, 0.04, 0.04, 0.1), strict=True):
            assert np.sqrt((values.to_numpy() ** 2).mean()) == pytest.approx(wanted, rel=error)

    def test_stocks_differ_in_volatility(self):
        market = make_markets(2000, 400, 4, 8, volatility_spread=0.5, loudness=0.0, random_state=0)
        logs = np.log(market.own_returns.std(ddof=1))
        assert logs.std(ddof=1) == pytest.approx(0.5, rel=0.15)
        alike = np.log(make_markets(2000, 40, 4, 8, **QUIET, random_state=0).own_returns.std(ddof=1))
        assert alike.std(ddof=1) < 5 / np.sqrt(2 * 2000)

    def test_stocks_volatilities_have_the_mean_square_that_is_promised(self):
        market = make_markets(2, 20_000, 4, 8, volatility_spread=0.4, loudness=0.0, own_volatility=0.02, random_state=0)
        # The square of 40,000 normals times w^2, of relative variance 3 exp(4 * 0.16) - 1 = 4.7: known to 1.5 %.
        squares = (market.own_returns**2).mean(axis=None)
        assert squares == pytest.approx(0.02**2, rel=0.08)

    def test_a_loud_day_is_loud_for_all(self):
        free = {"market_premium": 0.0, "size_premium": 0.0, "reversal": 0.0}
        loud, quiet = (make_markets(40, loudness=spread, **free, random_state=0) for spread in (0.5, 0.0))
        for name in ("factors", "sector_returns", "industry_returns", "own_returns"):
            scaled = getattr(quiet, name).mul(loud.loudness, axis=0)
            pd.testing.assert_frame_equal(getattr(loud, name), scaled, rtol=1e-12)

    def test_loud_days_come_together(self):
        market = make_markets(20_000, 4, 2, 2, loudness=0.5, persistence=0.9, random_state=0)
        logs = np.log(market.loudness)
        # A mean over 20,000 days that persist by 0.9 is one over 20,000 / 19 independent ones: known to 0.5 * 0.031.
        assert logs.mean() == pytest.approx(-0.25, abs=0.08)
        assert logs.std(ddof=1) == pytest.approx(0.5, rel=0.12)
        assert logs.autocorr(1) == pytest.approx(0.9, abs=0.02)
        assert (market.loudness**2).mean() == pytest.approx(1.0, rel=0.25)
        squares = market.own_returns.abs().mean(axis=1)
        assert squares.autocorr(1) > 0.2
        scrambled = make_markets(20_000, 4, 2, 2, loudness=0.5, persistence=0.0, random_state=0).loudness
        assert abs(np.log(scrambled).autocorr(1)) < 5 / np.sqrt(20_000)
        assert (make_markets(50, loudness=0.0, random_state=0).loudness == 1).all()

    @pytest.mark.parametrize("tilt", [0.0, 0.4, 1.0])
    def test_exposures_are_tilted_by_sector(self, tilt):
        shape = {"n_dates": 1, "n_stocks": 8000, "n_sectors": 2000, "n_industries": 2000, "n_singletons": 0}
        market = make_markets(**shape, inequality=0.0, tilt=tilt, beta_spread=0.5, random_state=0)
        exposures = (market.exposures - [1.0, 0.0]) / [0.5, 1.0]
        # Four stocks a sector; a variance of 2,000 or more normals is known to 3 %.
        within = exposures.groupby(market.sector).var(ddof=1).mean()
        np.testing.assert_allclose(within, 1 - tilt, rtol=0.15, atol=1e-12)
        between = exposures.groupby(market.sector).mean().var(ddof=1)
        np.testing.assert_allclose(between, tilt + (1 - tilt) / 4, rtol=0.15)

    def test_what_is_paid_for_exposures_comes_back_by_least_squares(self):
        market = make_markets(
            1500, 200, 5, 5, **ALWAYS_QUOTED, size_premium=-0.001, market_premium=0.002, random_state=0
        )
        dummies = pd.get_dummies(market.sector).to_numpy(dtype=float)
        still = (market.membership == market.membership.iloc[0]).all()
        design = np.column_stack([market.exposures, dummies])[still]
        paid = np.linalg.lstsq(design, market.truth.to_numpy()[:, still].T, rcond=None)[0][:2].T
        error = 5 * market.own_returns.to_numpy().std() / np.sqrt(still.sum() * 0.7)
        assert np.abs(paid[:, 1] - market.factors["size"]).mean() < error
        for found, name, wanted in zip(paid.T, ("beta", "size"), (0.002, -0.001), strict=True):
            standard_error = (found.std(ddof=1) + market.factors[name].std(ddof=1)) / np.sqrt(1500)
            assert found.mean() == pytest.approx(wanted, abs=4 * standard_error)

    def test_nothing_moves_without_volatility_but_what_is_paid(self):
        market = make_markets(10, **STILL, **ALWAYS_QUOTED, random_state=0)
        paid = market.exposures @ [0.0004, -0.0003]
        np.testing.assert_allclose(market.returns, np.tile(paid, (10, 1)), rtol=1e-12)


class TestReversal:
    def test_a_sector_is_expected_to_give_back_its_share(self):
        """The returns plus what they gave back are the shocks, whatever the reversal."""
        market, plain = (make_markets(300, reversal=r, random_state=0) for r in (0.3, 0.0))
        gained = market.sector_returns.cumsum().shift(1, fill_value=0.0)
        np.testing.assert_allclose(market.sector_returns + 0.3 * gained, plain.sector_returns, atol=1e-15)

    def test_the_signal_lies_in_the_sectors_mean(self):
        market = make_markets(2500, 100, 8, 24, reversal=0.3, moves=0.0, **ALWAYS_QUOTED, random_state=0)
        past = -market.returns.rolling(5).sum().shift(1).iloc[5:]
        mean = past.T.groupby(market.sector).transform("mean").T
        correlations = []
        for signal in (mean, past - mean):
            ranks = signal.rank(axis=1), market.returns.iloc[5:].rank(axis=1)
            correlations.append(ranks[0].corrwith(ranks[1], axis=1).mean())
        # A rank correlation of 100 stocks is known to 0.1 on a day and to 0.002 on 2,495, a little worse where stocks
        # of an industry move together.
        assert correlations[0] > 0.04
        assert abs(correlations[1]) < 0.01


class TestQuotes:
    def test_without_gaps_everything_is_quoted(self):
        market = make_markets(**ALWAYS_QUOTED, random_state=0)
        pd.testing.assert_frame_equal(market.returns, market.truth, check_exact=True)

    @given(st.integers(1, 9), st.floats(0, 1), st.floats(0, 1))
    @settings(max_examples=60)
    def test_listings_lie_in_the_first_half_and_delistings_in_the_second(self, n_dates, late, delisted):
        market = make_markets(n_dates, 30, 3, 5, late=late, delisted=delisted, missing=0.0, random_state=0)
        quoted = market.returns.notna().to_numpy()
        assert quoted.any(axis=0).all()
        first, last = quoted.argmax(axis=0), n_dates - 1 - quoted[::-1].argmax(axis=0)
        day = np.arange(n_dates)[:, None]
        assert (quoted == ((day >= first) & (day <= last))).all()
        assert (first > 0).sum() == (round(30 * late) if n_dates > 1 else 0)
        assert (last < n_dates - 1).sum() == (round(30 * delisted) if n_dates > 2 else 0)
        assert first.max() <= n_dates // 2 <= last.min()

    def test_gaps_have_their_probability_and_may_be_everywhere(self):
        market = make_markets(500, 200, late=0.0, delisted=0.0, missing=0.1, random_state=0)
        # 100,000 cells: a share of 0.1 is known to 0.001.
        assert market.returns.isna().to_numpy().mean() == pytest.approx(0.1, abs=0.005)
        assert make_markets(20, missing=1.0, random_state=0).returns.isna().all(axis=None)


class TestMoves:
    def test_each_mover_moves_once_and_after_the_first_date(self):
        market = make_markets(60, 100, 8, 24, moves=0.4, unclassified=0.1, random_state=0)
        singleton = market.sector.map(market.sector.value_counts()) == 1
        eligible = market.industry.notna() & ~singleton
        rows, columns = moves_of(market).T
        assert len(columns) == len(set(columns)) == round(0.4 * eligible.sum())
        assert eligible.to_numpy()[columns].all()
        assert rows.min() >= 1
        assert len(set(rows)) > 10
        alone = market.sector.value_counts().index[-1]
        assert ((market.membership == alone).sum(axis=1) == 1).all()
        # 8 sectors: some moves leave the sector, some stay.
        assert 0 < (market.membership.iloc[0] != market.membership.iloc[-1]).sum() < len(columns)

    def test_a_mover_takes_the_returns_of_where_it_went(self):
        still = {**STILL, "sector_volatility": 0.01, "market_premium": 0.0, "size_premium": 0.0}
        market = make_markets(40, 50, 5, 10, moves=1.0, unclassified=0.0, **still, **ALWAYS_QUOTED, random_state=0)
        np.testing.assert_allclose(market.returns, stacked(market.sector_returns, market.membership), atol=1e-17)

    def test_between_two_industries_all_who_move_go_to_the_other(self):
        market = make_markets(9, 20, 1, 2, n_singletons=0, moves=1.0, unclassified=0.0, random_state=0)
        assert (market.industry_membership.iloc[-1] != market.industry).all()

    def test_nobody_moves_when_none_should_or_there_is_one_date(self):
        assert not len(moves_of(make_markets(30, moves=0.0, random_state=0)))
        assert make_markets(1, moves=1.0, random_state=0).returns.shape == (1, 100)


class TestRealism:
    def test_the_defaults_resemble_the_stocks_of_a_large_index(self):
        """501 stocks, 2010 to 2021: sector-days explain .47 of the variance, stocks of a sector correlate by .50."""
        figures = []
        for seed in range(4):
            market = make_markets(1000, 200, 11, 40, random_state=seed)
            table, sector = market.returns, market.sector
            left = table - table.T.groupby(sector).transform("mean").T
            total = np.nansum((table - np.nanmean(table)) ** 2)
            together = (sector.to_numpy()[:, None] == sector.to_numpy()) & ~np.eye(200, dtype=bool)
            figures.append([1 - np.nansum(left**2) / total, np.nanmean(table.corr().to_numpy()[together])])
        explained, correlation = np.mean(figures, axis=0)
        assert 0.4 < explained < 0.55
        assert 0.42 < correlation < 0.58


class TestArguments:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"n_dates": 0}, "n_dates must be at least 1, got 0"),
            ({"n_dates": 10**6}, "n_dates must be at most 60000, got 1000000"),
            (
                {"n_stocks": 10},
                r"n_stocks must be at least 15 to fill 7 sectors of two or more and 1 of one, got 10",
            ),
            ({"n_sectors": 0}, "n_sectors must be at least 1, got 0"),
            ({"n_singletons": 8}, "n_singletons must be below n_sectors = 8, got 8"),
            ({"n_industries": 7}, "n_industries must be between n_sectors = 8 and n_stocks = 100, .*, got 7"),
            ({"n_industries": 101}, "n_industries must be between n_sectors = 8 and n_stocks = 100, .*, got 101"),
            (
                {"n_sectors": 2, "n_industries": 2},
                r"moves must be 0 where a single industry .* got 0\.05: pass a",
            ),
            ({"inequality": 11}, "inequality must be between 0 and 10, got 11"),
            ({"unclassified": -0.1}, "unclassified must be between 0 and 1, got -0.1"),
            ({"moves": 2.0}, "moves must be between 0 and 1, got 2.0"),
            ({"market_volatility": 2.0}, "market_volatility must be between 0 and 1, got 2.0"),
            ({"own_volatility": np.nan}, "own_volatility must be between 0 and 1, got nan"),
            ({"size_premium": -2.0}, "size_premium must be between -1 and 1, got -2.0"),
            ({"reversal": 1.5}, "reversal must be between 0 and 1, got 1.5"),
            ({"loudness": np.inf}, "loudness must be between 0 and 2, got inf"),
            ({"persistence": -0.5}, "persistence must be between 0 and 1, got -0.5"),
            ({"missing": 1.1}, "missing must be between 0 and 1, got 1.1"),
        ],
    )
    def test_values_out_of_range_are_refused(self, arguments, message):
        with pytest.raises(BatchfixError, match=message):
            make_markets(**arguments)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"n_stocks": 10.0}, "n_stocks must be an integer, got 10.0"),
            ({"n_sectors": "8"}, "n_sectors must be an integer, got '8'"),
            ({"tilt": None}, "tilt must be a number, got None"),
            ({"late": True}, "late must be a number, got True"),
            ({"dtype": int}, "dtype must be float32 or float64, got <class 'int'>"),
            ({"random_state": "seed"}, "random_state must be None, .*, got 'seed'"),
        ],
    )
    def test_values_of_another_kind_are_refused(self, arguments, message):
        with pytest.raises(TypeError, match=message):
            make_markets(**arguments)

    def test_the_ends_of_every_range_are_accepted(self):
        shares = {"unclassified": 1.0, "moves": 1.0, "tilt": 1.0, "reversal": 1.0, "persistence": 1.0}
        most = {"inequality": 10.0, "volatility_spread": 2.0, "beta_spread": 10.0, "loudness": 2.0}
        market = make_markets(50, **dict.fromkeys(STILL, 1.0), **shares, **most, random_state=0)
        assert np.isfinite(market.truth.to_numpy()).all()
        assert make_markets(1, 2, 1, 1, n_singletons=0, moves=0.0, random_state=0).returns.shape == (1, 2)


class TestShipped:
    def test_the_files_are_what_the_card_says_made_them(self, tmp_path, monkeypatch):
        """The card's code, run here, writes the files that ship."""
        (code,) = re.findall(r"```python\n(.*?)```", (TABLES / "markets.md").read_text(encoding="utf-8"), re.DOTALL)
        monkeypatch.chdir(tmp_path)
        exec(compile(code, "markets.md", "exec"), {})
        files = sorted(path.name for path in tmp_path.iterdir())
        assert files == sorted(path.name for path in TABLES.glob("markets*.csv*"))
        for name in files:
            made, kept = (pd.read_csv(folder / name, index_col=0) for folder in (tmp_path, TABLES))
            # One unit of the sixth decimal: another processor's logarithm may round the other way.
            pd.testing.assert_frame_equal(made, kept, rtol=0, atol=1.5e-6)

    def test_it_is_the_made_market_rounded(self):
        shipped, made = load_markets(), make_markets(250, 60, 6, 18, random_state=42)
        # Own returns are what is left of eight rounded numbers, two of them times exposures.
        for name, error in (("returns", 1), ("truth", 1), ("exposures", 1), ("factors", 1), ("own_returns", 8)):
            for table in (shipped, made):
                assert not np.isinf(getattr(table, name)).any(axis=None)
            pd.testing.assert_frame_equal(
                getattr(shipped, name), getattr(made, name), rtol=0, atol=error * 1.5e-6, check_freq=False
            )
        for name in ("membership", "industry_membership"):
            pd.testing.assert_frame_equal(getattr(shipped, name), getattr(made, name), check_freq=False)
        for name in ("sector", "industry", "loudness"):
            pd.testing.assert_series_equal(
                getattr(shipped, name), getattr(made, name), check_freq=False, rtol=0, atol=1.5e-6
            )
        assert shipped.sector_returns.columns.tolist() == made.sector_returns.columns.tolist()
        assert shipped.industry_returns.columns.tolist() == made.industry_returns.columns.tolist()

    def test_the_facts_of_the_card(self):
        market = load_markets()
        assert market.returns.isna().to_numpy().mean() == pytest.approx(0.083, abs=0.0005)
        assert market.sector.value_counts().tolist() == [23, 13, 9, 8, 6, 1]
        sizes = market.industry.value_counts()
        assert (len(sizes), sizes.min(), sizes.max(), (sizes == 1).sum()) == (18, 1, 8, 3)
        assert market.industry.isna().sum() == 6
        quoted = market.returns.notna()
        ends = market.returns.index[[1, -2]]
        assert (quoted.idxmax() > ends[0]).sum() == (quoted[::-1].idxmax() < ends[1]).sum() == 6
        moved = {
            market.returns.columns[column]: (
                str(market.returns.index[row].date()),
                *market.membership.iloc[[row - 1, row], column],
            )
            for row, column in moves_of(market)
        }
        assert moved == {
            "s26": ("2001-02-08", "sector1", "sector4"),
            "s44": ("2001-03-30", "sector3", "sector5"),
            "s16": ("2001-06-14", "sector2", "sector1"),
        }
        for facts in moved.items():
            assert facts[0] in market.description
            assert facts[1][0] in market.description
        alone = market.sector.index[market.sector == "sector6"]
        assert market.returns[alone].isna().any(axis=None)
        assert "BSD-3-Clause" in market.description

    def test_it_is_small(self):
        assert sum(path.stat().st_size for path in TABLES.glob("markets*.csv*")) < 300_000

    def test_compressed_files_say_nothing_of_when_they_were_made(self):
        for path in TABLES.glob("markets*.gz"):
            with gzip.GzipFile(fileobj=io.BytesIO(path.read_bytes())) as stream:
                stream.read(1)
                assert stream.mtime == 0
