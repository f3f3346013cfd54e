"""Groups of columns: R2 of sector on each date, before and after, by folds in time."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.model_selection import KFold, TimeSeriesSplit

from batchfix import GroupCorrector
from batchfix.datasets import make_markets
from batchfix.diagnostics import group_effects
from batchfix.exceptions import AlignmentError, BatchfixError


@pytest.fixture(scope="module")
def market():
    return make_markets(40, 40, random_state=0)


def test_it_is_what_a_loop_over_dates_gives(market):
    found = group_effects(market.returns, market.sector)
    assert found.table.index.equals(market.returns.index)
    for date in market.returns.index[[0, 7, 39]]:
        x = market.returns.loc[date].dropna()
        sector = market.sector[x.index]
        left = ((x - x.groupby(sector).transform("mean")) ** 2).sum() / ((x - x.mean()) ** 2).sum()
        n, k = len(x), sector.nunique()
        assert_allclose(found.table.loc[date, "R2_before"], 1 - left, rtol=1e-9)
        assert_allclose(found.table.loc[date, "R2_adjusted_before"], 1 - left * (n - 1) / (n - k), rtol=1e-9)
    assert np.isnan(found.after)
    assert "sector explains" in str(found)


@pytest.mark.parametrize("stats", [False, True])
def test_what_is_centred_by_sector_has_none_left(market, stats):
    corrector = GroupCorrector(market.sector, scale=None, return_group_stats=stats)
    found = group_effects(market.returns, market.sector, corrector)
    assert_allclose(found.table["R2_after"], 0, atol=1e-12)
    assert found.before > 0.05 > 0 > found.after
    elsewhere = GroupCorrector(market.sector, scale=None).fit_transform(market.returns)
    same = group_effects(market.returns, market.sector, after=elsewhere[::-1])
    assert_allclose(same.table["R2_after"], 0, atol=1e-12)
    assert_allclose(same.after, found.after, rtol=1e-9)


def test_each_date_is_corrected_by_what_was_learned_from_earlier_ones(market):
    learned = []

    class Remembering(TransformerMixin, BaseEstimator):
        def fit(self, X, y=None):
            learned.append(X.index)
            self.mean_ = X.mean()
            return self

        def transform(self, X):
            assert X.index[0] > learned[-1][-1]
            return X - self.mean_

    found = group_effects(market.returns, market.sector, Remembering(), cv=TimeSeriesSplit(4))
    assert len(learned) == len(found.folds) == 4
    assert found.folds["dates"].sum() == (found.table["fold"] > 0).sum() == 32
    assert found.table["R2_after"].isna().tolist() == (found.table["fold"] == 0).tolist()
    assert_allclose(found.before, found.table["R2_adjusted_before"][8:].mean())
    assert "4 folds of later dates" in str(found)


def test_labels_come_in_any_form_and_rows_do_not_know_each_other(market):
    wanted = group_effects(market.returns, market.sector).table
    for groups in (dict(market.sector), market.sector[::-1], market.sector.to_numpy()):
        pd.testing.assert_frame_equal(group_effects(market.returns, groups).table, wanted)
    part = group_effects(market.returns.iloc[5:9], market.sector).table
    pd.testing.assert_frame_equal(part, wanted.iloc[5:9])
    values = group_effects(market.returns.to_numpy(), market.sector.to_numpy()).table
    assert_allclose(values, wanted)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"groups": ["a", "b"]}, AlignmentError, "one entry a row"),
        ({"groups": ["a"] * 40}, BatchfixError, "two levels"),
        ({"corrector": GroupCorrector}, BatchfixError, "transformer with fit"),
        ({"corrector": GroupCorrector(["a"] * 3)}, BatchfixError, "."),
        ({"cv": 1}, BatchfixError, "cv must be"),
        ({"after": np.zeros((3, 3)), "corrector": None}, AlignmentError, "after must have"),
        ({"after": np.zeros((3, 3))}, BatchfixError, "One correction is compared"),
        ({"cv": KFold(3, shuffle=True, random_state=0)}, BatchfixError, "earlier dates alone"),
    ],
    ids=str,
)
def test_what_cannot_do_is_said(market, change, error, words):
    given = {"groups": market.sector, "corrector": GroupCorrector(market.sector, scale=None)} | change
    with pytest.raises(error, match=words):
        group_effects(market.returns, **given)


def test_a_table_after_is_read_by_the_names_of_its_columns(market):
    mixed = market.returns[market.returns.columns[::-1]]
    found = group_effects(market.returns, market.sector, after=mixed)
    assert found.after == pytest.approx(found.before, rel=1e-12)
    with pytest.raises(AlignmentError, match="columns of X"):
        group_effects(market.returns, market.sector, after=mixed.rename(columns={mixed.columns[0]: "other"}))


def test_a_date_has_one_row(market):
    twice = pd.concat([market.returns, market.returns.iloc[:1]])
    with pytest.raises(BatchfixError, match="one date"):
        group_effects(twice, market.sector)
