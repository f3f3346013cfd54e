"""GroupCorrector: standings are those of pandas' groupby, date by date, in wide and in long tables, and go back."""

import pickle
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import norm
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator

from batchfix import GroupCorrector, InstanceCorrector
from batchfix.core.robust import MAD_TO_SIGMA
from batchfix.exceptions import BatchfixError, BatchfixWarning, CopyWarning, MergeError, MissingLabelError

seeds = st.integers(0, 2**32 - 1)
SECTORS = np.array(["Tech", "Oil", "Bank", "Tech", "Oil", "Tech", "Bank", "Tech", "Oil"])
STOCKS = list("ABCDEFGHI")
DATES = pd.bdate_range("2024-01-01", periods=30, name="date")


def make_wide(seed=0, gaps=0.1):
    rng = np.random.default_rng(seed)
    X = rng.normal(1.0, 2.0, (30, 9))
    X[rng.random(X.shape) < gaps] = np.nan
    return pd.DataFrame(X, DATES, STOCKS)


def make_long(seed=0, ties=False):
    """A ragged panel of two factors, with gaps, and sectors that change."""
    rng = np.random.default_rng(seed)
    n_dates = int(rng.integers(1, 8))
    parts = []
    for date in DATES[:n_dates]:
        here = rng.permutation(STOCKS)[: rng.integers(1, 10)]
        parts.append(pd.DataFrame({"date": date, "symbol": here}))
    long = pd.concat(parts, ignore_index=True)
    long["sector"] = rng.choice(["Tech", "Oil", "Bank"], len(long))
    for factor in ("momentum", "value"):
        x = rng.integers(0, 4, len(long)).astype(float) if ties else rng.normal(3.0, 2.0, len(long))
        x[rng.random(len(long)) < 0.15] = np.nan
        long[factor] = x
    return long.set_index(["date", "symbol"])


FACTORS = ["momentum", "value"]


def guarded(z, x, center):
    """A reference's 0 / 0 of a group of one or a constant group is 0 here, if it is centred."""
    return z.where(np.isfinite(z) | x.isna(), 0.0 if center else x)


def pandas_zscore(x, keys, ddof=1):
    groups = x.groupby(keys)
    spread = groups.transform("std", ddof=ddof)
    constant = spread <= 1e-12
    return guarded(((x - groups.transform("mean")) / spread).mask(constant & x.notna(), 0.0), x, center=True)


def melted(wide, labels):
    """A wide table, and labels of its columns or cells, as a long one."""
    table = pd.DataFrame(np.broadcast_to(labels, wide.shape), wide.index, wide.columns)
    return wide.stack(future_stack=True), table.stack(future_stack=True)


def wide_reference(wide, labels, **how):
    x, label = melted(wide, labels)
    return pandas_zscore(x, [x.index.get_level_values(0), label], **how).unstack()[wide.columns]


# ---- z-scores


@given(seeds, st.sampled_from([0, 1]))
@settings(max_examples=30)
def test_wide_is_pandas_groupby_within_dates(seed, ddof):
    wide = make_wide(seed, gaps=0.3)
    got = GroupCorrector(SECTORS, ddof=ddof).fit_transform(wide)
    assert_allclose(got, wide_reference(wide, SECTORS, ddof=ddof), rtol=1e-12, atol=1e-12)
    assert got.index.equals(wide.index)
    assert got.columns.equals(wide.columns)


@given(seeds)
@settings(max_examples=30)
def test_membership_that_changes_is_pandas_groupby_of_cells(seed):
    wide, rng = make_wide(seed), np.random.default_rng(seed)
    labels = rng.choice(["a", "b", "c"], wide.shape)
    want = wide_reference(wide, labels)
    table = pd.DataFrame(labels, wide.index, wide.columns)
    shuffled = table.iloc[rng.permutation(30), rng.permutation(9)]
    for membership in (labels, table, shuffled, table.astype("category"), pl.from_pandas(table)):
        got = GroupCorrector().fit_transform(wide, membership=membership)
        assert_allclose(got, want, rtol=1e-12, atol=1e-12)


@given(seeds, st.sampled_from(["index", "columns", "category", "shuffled", "polars", "array"]))
@settings(max_examples=40)
def test_long_is_pandas_groupby_whatever_carries_the_keys(seed, form):
    long = make_long(seed)
    want = pandas_zscore(long[FACTORS], [long.index.get_level_values("date"), long["sector"]])
    table, model = long, GroupCorrector(within="date", by="sector")
    if form == "index":
        table = long.set_index("sector", append=True)
    elif form == "columns":
        table = long.reset_index().drop(columns="symbol")
    elif form == "category":
        table = long.astype({"sector": "category"})
    elif form == "shuffled":
        table = long.sample(frac=1.0, random_state=0)
        want = want.loc[table.index]
    elif form == "polars":
        table = pl.from_pandas(long.reset_index().drop(columns="symbol"))
    elif form == "array":
        dates, sectors = (pd.factorize(k)[0] for k in (long.index.get_level_values("date"), long["sector"]))
        table = np.column_stack([long["momentum"], dates, long["value"], sectors])
        model = GroupCorrector(within=1, by=3)
    got = model.fit_transform(table)
    assert_allclose(np.asarray(got), want, rtol=1e-12, atol=1e-12)
    if form == "polars":
        assert isinstance(got, pl.DataFrame)
    assert type(got) is type(table)
    if form in ("index", "shuffled"):
        assert got.index.equals(table.index)
    assert list(getattr(got, "columns", FACTORS)) == FACTORS


def test_a_table_melted_gives_what_the_wide_one_gives():
    wide = make_wide()
    x, label = melted(wide, SECTORS)
    x.index.names = ["date", "symbol"]
    long = pd.DataFrame({"x": x, "sector": label.to_numpy()})
    got = GroupCorrector(within="date", by="sector").fit_transform(long)["x"].unstack()[STOCKS]
    assert_allclose(got, GroupCorrector(SECTORS).fit_transform(wide), rtol=1e-14)


def test_many_ragged_dates_in_several_sheets():
    """More cells than one sheet holds, dates of 1 row beside dates of thousands."""
    rng = np.random.default_rng(0)
    sizes = np.concatenate([[1, 60_000, 2, 60_000], rng.integers(1, 400, 5000)])
    date = np.repeat(np.arange(len(sizes)), sizes)
    long = pd.DataFrame({"date": date, "sector": rng.integers(0, 5, len(date)), "x": rng.normal(size=len(date))})
    want = pandas_zscore(long["x"], [long["date"], long["sector"]])
    got = GroupCorrector(within="date", by="sector").fit_transform(long)["x"]
    assert_allclose(got, want, rtol=1e-11, atol=1e-12)
    order = rng.permutation(len(long))
    shuffled = GroupCorrector(within="date", by="sector").fit_transform(long.iloc[order])["x"]
    assert_allclose(shuffled, got.iloc[order], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("center", ["mean", "median", None])
@pytest.mark.parametrize("scale", ["std", "mad", None])
def test_every_center_and_scale(center, scale):
    wide = make_wide()
    got = GroupCorrector(SECTORS, center=center, scale=scale).fit_transform(wide).to_numpy()
    for i, j in np.ndindex(wide.shape):
        x = wide.to_numpy()[i, SECTORS[j] == SECTORS]
        x, value = x[~np.isnan(x)], wide.to_numpy()[i, j]
        if np.isnan(value) or len(x) == 1:
            continue
        middle = {"mean": np.mean, "median": np.median, None: lambda _: 0.0}[center](x)
        mad = np.median(np.abs(x - np.median(x))) * MAD_TO_SIGMA
        spread = {"std": np.std(x, ddof=1), "mad": mad, None: 1.0}[scale]
        assert_allclose(got[i, j], (value - middle) / spread, rtol=1e-12, atol=1e-13)


def test_a_mad_of_zero_among_different_values_gives_way_to_the_standard_deviation():
    X = np.array([[1.0, 1.0, 1.0, 5.0], [2.0, 2.0, 2.0, 2.0]])
    model = GroupCorrector(center="median", scale="mad", return_group_stats=True)
    got = model.fit_transform(X)
    assert_allclose(got[0, :4], [0, 0, 0, 2.0])  # the standard deviation of 1, 1, 1, 5 is 2
    assert_allclose(got[:, 5], [2.0, 0.0])
    assert_array_equal(got[1, :4], 0.0)


def test_float32_stays_and_is_summed_in_float64():
    wide = make_wide()
    got = GroupCorrector(SECTORS).fit_transform(wide.astype(np.float32))
    assert (got.dtypes == np.float32).all()
    # values and results rounded by 6e-8 of themselves, over spreads that are a hundredth of them at the least
    assert_allclose(got, GroupCorrector(SECTORS).fit_transform(wide), rtol=0, atol=1e-5)
    far = (1000.0 + np.random.default_rng(0).normal(size=(2, 5000))).astype(np.float32)
    # results of up to 5 in size are rounded by 3e-7; a mean summed in float32 would be off by 1e-4
    assert_allclose(GroupCorrector(scale=None).fit_transform(far).mean(axis=1, dtype=float), 0.0, atol=1e-6)


def test_rounding_noise_in_float32_is_no_spread():
    X = np.full((1, 6), np.float32(1234.5))
    X[0, 1] = np.nextafter(X[0, 0], np.float32(2000))
    assert_array_equal(GroupCorrector().fit_transform(X), 0.0)


@given(seeds)
@settings(max_examples=20)
def test_rows_do_not_know_each_other(seed):
    wide = make_wide(seed)
    model = GroupCorrector(SECTORS).fit(wide)
    whole, some = model.transform(wide), np.random.default_rng(seed).permutation(30)[:7]
    assert_array_equal(model.transform(wide.iloc[some]), whole.iloc[some])
    future = wide.copy()
    future.iloc[10:] = 1e6
    assert_array_equal(model.transform(future).iloc[:10], whole.iloc[:10])


@given(seeds)
@settings(max_examples=20)
def test_names_of_groups_and_order_of_columns_say_nothing(seed):
    wide, rng = make_wide(seed), np.random.default_rng(seed)
    want = GroupCorrector(SECTORS).fit_transform(wide)
    renamed = pd.Series(SECTORS, STOCKS).map({"Tech": 3, "Oil": 1, "Bank": 2})
    order = rng.permutation(9)
    got = GroupCorrector(renamed).fit_transform(wide.iloc[:, order])
    assert_allclose(got[STOCKS], want, rtol=1e-13, atol=1e-14)


# ---- defined results


def test_groups_of_one_constant_missing_and_unlabelled():
    X = pd.DataFrame([[7.0, 2.0, 2.0, np.nan, 5.0, 1.0, np.nan]], columns=list("abcdefg"))
    groups = {"a": "one", "b": "same", "c": "same", "d": "gone", "e": None, "g": "same"}
    model = GroupCorrector(groups, return_group_stats=True)
    with pytest.warns(BatchfixWarning, match=r"Every column should have a group, but 'e', 'f' have none"):
        model.fit(X)
    got = model.transform(X).iloc[0]
    assert_array_equal(got[list("abcdefg")].to_numpy(), [0, 0, 0, np.nan, np.nan, np.nan, np.nan])
    assert_array_equal(got[["mean(one)", "std(one)", "count(one)"]].to_numpy(), [7, np.nan, 1])
    assert_array_equal(got[["mean(same)", "std(same)", "count(same)"]].to_numpy(), [2, 0, 2])
    assert_array_equal(got[["mean(gone)", "std(gone)", "count(gone)"]].to_numpy(), [np.nan, np.nan, 0])
    assert "mean()" not in got


def test_values_without_a_group_are_announced():
    long = pd.DataFrame({"date": [1, 1, 1, 2], "sector": ["a", "a", None, None], "x": [1.0, 3.0, 5.0, np.nan]})
    with pytest.warns(BatchfixWarning, match="value should have a group, but 1 of 3 has none"):
        got = GroupCorrector(within="date", by="sector", scale=None).fit_transform(long)
    assert_array_equal(got["x"], [-1.0, 1.0, np.nan, np.nan])
    with pytest.warns(BatchfixWarning, match="but 2 of 4 have none"):
        got = GroupCorrector(scale=None).fit_transform(np.ones((2, 2)), membership=[["a", None], [None, "a"]])
    assert_array_equal(got, [[0.0, np.nan], [np.nan, 0.0]])


def test_a_scale_that_is_not_known_is_that_of_the_group_above():
    """Nothing in the units of the values stands among standard values."""
    row = np.array([1000.0, 3000.0, 1000.0, 2000.0, 4000.0])
    two = [0, 0, 1, 1, 1]
    pair = GroupCorrector(two, ddof=2, return_group_stats=True).fit_transform([row])[0]
    of_two = np.sqrt(np.var(row) * 5 / 3)  # of the row, ddof=2
    assert_allclose(pair[:2], np.array([-1000, 1000]) / of_two)
    assert_allclose(pair[7], of_two)
    one_weight = GroupCorrector([0, 0, 0, 1, 1]).fit_transform([row], weights=[1.0, 0, 0, 1, 1])[0]
    seen = row[[0, 3, 4]]
    assert_allclose(one_weight[:3], [0.0, 2000 / seen.std(ddof=1), 0.0])
    bare = GroupCorrector([0, 1, 1, 2, 2], center=None)
    flat = np.array([1000.0, 3000.0, 1000.0, 2000.0, 2000.0])
    got = bare.fit_transform([flat])[0]
    assert_allclose(got[[0, 3, 4]], flat[[0, 3, 4]] / flat.std(ddof=1))
    assert_allclose(got[1:3], flat[1:3] / flat[1:3].std(ddof=1))
    table = clone(bare).set_params(return_group_stats=True).fit([flat])
    assert_allclose(table.inverse_transform(table.transform([flat])), [flat], rtol=1e-14)
    # level by level: of the sector before the row
    levels = [[0, 0, 0, 1, 1], [0, 0, 1, 2, 2]]
    fine = GroupCorrector(levels, center=None).fit_transform([row])[0]
    assert_allclose(fine[2], row[2] / row[:3].std(ddof=1))
    # nothing above is known either
    assert_array_equal(GroupCorrector([0, 0], ddof=2).fit_transform([[1.0, 3.0], [2.0, 2.0]]), [[np.nan] * 2, [0, 0]])
    assert_array_equal(GroupCorrector(center=None).fit_transform([[7.0, 7.0], [0.0, 0.0]]), [[np.nan] * 2, [0, 0]])


def test_left_out_pairs_are_divided_by_what_the_others_of_the_row_say():
    row = np.array([1000.0, 3000.0, 1000.0, 2000.0, 4000.0])
    for ddof in (0, 1):
        got = GroupCorrector([0, 0, 1, 1, 1], leave_one_out=True, ddof=ddof).fit_transform([row])[0]
        assert_allclose(got[0], (1000 - 3000) / row[1:].std(ddof=ddof))
        assert_allclose(got[1], (3000 - 1000) / np.delete(row, 1).std(ddof=ddof))
        assert_allclose(got[3], (2000 - 2500) / row[[2, 4]].std(ddof=ddof))
    assert_array_equal(
        GroupCorrector(leave_one_out=True).fit_transform([[1.0, 3.0], [2.0, 2.0]]), [[np.nan] * 2, [0, 0]]
    )


def test_an_unlabelled_column_is_served_by_the_level_above():
    wide = make_wide(gaps=0)
    levels = pd.DataFrame({"sector": SECTORS, "industry": [*"uvwxyz", None, "u", "v"]}, STOCKS)
    levels.loc["I", "sector"] = None
    model = GroupCorrector(levels, scale=None, return_group_stats=True).fit(wide)
    got = model.transform(wide)
    bank = wide[["C", "G"]].mean(axis=1)
    assert_allclose(got["G"], wide["G"] - bank, atol=1e-14)
    assert_allclose(got["mean(Bank)"], bank, atol=1e-14)
    assert_array_equal(got["count(Bank)"], 2)
    assert_allclose(got["mean(Tech/u)"], wide[["A", "H"]].mean(axis=1), atol=1e-14)
    # a label below a missing one is a label: a group of one
    assert_array_equal(got["I"], 0.0)
    assert_allclose(model.inverse_transform(got), wide, atol=1e-13)


@given(seeds, st.integers(1, 6))
@settings(max_examples=20)
def test_small_groups_take_the_statistics_above(seed, least):
    wide = make_wide(seed, gaps=0.3)
    levels = [np.array(["x", "x", "y", "x", "x", "y", "y", "x", "x"]), SECTORS]
    got = GroupCorrector(levels, min_group_size=least, scale=None).fit_transform(wide).to_numpy()
    for i, j in np.ndindex(wide.shape):
        row = wide.to_numpy()[i]
        if np.isnan(row[j]):
            continue
        fine = (levels[0] == levels[0][j]) & (SECTORS[j] == SECTORS)
        for own in (fine, levels[0] == levels[0][j], np.ones(9, dtype=bool)):
            peers = row[own & ~np.isnan(row)]
            if len(peers) >= least:
                break
        want = row[j] - peers.mean() if len(peers) >= least else np.nan
        assert_allclose(got[i, j], want, rtol=1e-12, atol=1e-12)


# ---- leaving one out, weights, winsorizing


def others(wide, i, j, own, weights):
    """The others of a cell: values and weights."""
    row = wide.to_numpy()[i]
    keep = own & ~np.isnan(row)
    keep[j] = False
    return row[keep], weights[i][keep]


def weighted(x, w, ddof=1):
    """Mean and variance with reliability weights."""
    mean = np.average(x, weights=w)
    effective = w.sum() ** 2 / (w**2).sum()
    if effective - ddof < 1e-9:
        return mean, np.nan
    return mean, np.average((x - mean) ** 2, weights=w) * effective / (effective - ddof)


@given(seeds, st.booleans())
@settings(max_examples=20)
def test_leaving_one_out_is_the_loop(seed, with_weights):
    wide, rng = make_wide(seed), np.random.default_rng(seed)
    weights = rng.gamma(2.0, size=wide.shape) if with_weights else np.ones(wide.shape)
    model = GroupCorrector(SECTORS, leave_one_out=True)
    got = model.fit_transform(wide, weights=weights if with_weights else None).to_numpy()
    for i, j in np.ndindex(wide.shape):
        value = wide.to_numpy()[i, j]
        if np.isnan(value):
            assert np.isnan(got[i, j])
            continue
        x, w = others(wide, i, j, SECTORS[j] == SECTORS, weights)
        if not len(x):
            x, w = others(wide, i, j, np.ones(9, dtype=bool), weights)
        mean, variance = weighted(x, w)
        if np.isnan(variance):
            variance = weighted(*others(wide, i, j, np.ones(9, dtype=bool), weights))[1]
        assert_allclose(got[i, j], (value - mean) / np.sqrt(variance), rtol=1e-10, atol=1e-12)


def test_leaving_out_an_outlier_leaves_the_digits_of_the_others():
    X = np.array([[1.0, 2.0, 4.0, 1e12]])
    got = GroupCorrector(leave_one_out=True).fit_transform(X)
    rest = X[0, :3]
    assert_allclose(got[0, 3], (1e12 - rest.mean()) / rest.std(ddof=1), rtol=1e-13)


def test_others_that_are_constant():
    got = GroupCorrector(leave_one_out=True).fit_transform([[5.0, 5.0, 5.0, 9.0], [3.0, 3.0, 3.0, 3.0]])
    assert np.isnan(got[0, 3])
    assert_allclose(got[0, :3], (5.0 - 19 / 3) / np.std([5.0, 5.0, 9.0], ddof=1))
    assert_array_equal(got[1], 0.0)


def test_nobody_else_is_nan():
    assert np.isnan(GroupCorrector(leave_one_out=True).fit_transform([[5.0], [1.0]])).all()


@given(seeds)
@settings(max_examples=20)
def test_weighted_standings_are_the_loop_in_both_shapes(seed):
    wide, rng = make_wide(seed), np.random.default_rng(seed)
    weights = rng.gamma(2.0, size=wide.shape)
    got = GroupCorrector(SECTORS).fit_transform(wide, weights=weights)
    for i, j in np.ndindex(wide.shape):
        row, own = wide.to_numpy()[i], SECTORS[j] == SECTORS
        if np.isnan(row[j]):
            continue
        seen = own & ~np.isnan(row)
        mean, variance = weighted(row[seen], weights[i, seen])
        want = (row[j] - mean) / (1.0 if np.isnan(variance) else np.sqrt(variance))
        assert_allclose(got.iloc[i, j], want, rtol=1e-11, atol=1e-12)
    x, label = melted(wide, SECTORS)
    x.index.names = ["date", "symbol"]
    long = pd.DataFrame({"x": x, "sector": label.to_numpy(), "cap": weights.ravel()})
    by_key = GroupCorrector(within="date", by="sector", weights="cap").fit_transform(long)["x"].unstack()[STOCKS]
    routed = GroupCorrector(within="date", by="sector").fit_transform(long.drop(columns="cap"), weights=long["cap"])
    assert_allclose(by_key, got, rtol=1e-12, atol=1e-13)
    assert_allclose(routed["x"].unstack()[STOCKS], got, rtol=1e-12, atol=1e-13)


def test_weights_of_columns_by_name_by_position_and_in_the_constructor():
    wide = make_wide()
    w = pd.Series(np.arange(1.0, 10.0), STOCKS)
    want = GroupCorrector(SECTORS).fit_transform(wide, weights=np.tile(w, (30, 1)))
    for model, given_ in (
        (GroupCorrector(SECTORS), w.sample(frac=1, random_state=0)),
        (GroupCorrector(SECTORS), w.to_numpy()),
        (GroupCorrector(SECTORS, weights=dict(w)), None),
        (GroupCorrector(SECTORS, weights=w.to_numpy()), None),
    ):
        assert_allclose(model.fit_transform(wide, weights=given_), want, rtol=1e-13)


def test_a_weight_where_nothing_is_observed_is_not_read():
    wide = make_wide()
    weights = np.where(wide.isna(), np.nan, 1.0)
    assert_allclose(
        GroupCorrector(SECTORS).fit_transform(wide, weights=weights),
        GroupCorrector(SECTORS).fit_transform(wide),
        rtol=1e-13,
    )


@given(seeds, st.sampled_from([1.0, (0.1, 0.8), (0.0, 1.0)]), st.booleans())
@settings(max_examples=20)
def test_winsorized_values_are_clipped_before_anything_else(seed, how, robust):
    wide = make_wide(seed)
    kind = {"center": "median", "scale": "mad"} if robust else {}
    clipped = wide.copy()
    for sector in set(SECTORS):
        own = wide.loc[:, sector == SECTORS]
        if isinstance(how, tuple):
            low, high = own.quantile(how[0], axis=1), own.quantile(how[1], axis=1)
        else:
            middle, spread = own.mean(axis=1), own.std(axis=1)
            if robust:
                middle = own.median(axis=1)
                mad = own.sub(middle, axis=0).abs().median(axis=1) * MAD_TO_SIGMA
                spread = spread.where(mad <= 0, mad).where(own.notna().sum(axis=1) > 1)
            low, high = (middle + sign * (how * spread).fillna(np.inf) for sign in (-1, 1))
        clipped.loc[:, sector == SECTORS] = own.clip(low, high, axis=0)
    got = GroupCorrector(SECTORS, winsorize=how, **kind).fit_transform(wide)
    want = GroupCorrector(SECTORS, **kind).fit_transform(clipped)
    assert_allclose(got, want, rtol=1e-10, atol=1e-11)


# ---- ranks


@given(seeds)
@settings(max_examples=30)
def test_ranks_are_pandas_ranks_in_both_shapes(seed):
    long = make_long(seed, ties=True)
    groups = long.groupby([long.index.get_level_values("date"), "sector"])[FACTORS]
    want = (groups.rank() - 0.5) / groups.transform("count")
    model = GroupCorrector(within="date", by="sector", method="rank")
    assert_allclose(model.fit_transform(long), want, rtol=1e-13)
    gauss = clone(model).set_params(method="gauss_rank").fit_transform(long)
    assert_allclose(gauss, norm.ppf(want), rtol=1e-10, atol=1e-12)
    wide = make_wide(seed).round(0)
    table, label = melted(wide, SECTORS)
    grouped = table.groupby([table.index.get_level_values(0), label])
    want = ((grouped.rank() - 0.5) / grouped.transform("count")).unstack()[STOCKS]
    assert_allclose(GroupCorrector(SECTORS, method="rank").fit_transform(wide), want, rtol=1e-13)


def test_ranks_in_small_and_unlabelled_groups_are_those_of_the_group_above():
    wide = make_wide(gaps=0)
    levels = pd.DataFrame({"sector": SECTORS, "industry": [*"uuwuuz", None, "u", "u"]}, STOCKS)
    got = GroupCorrector(levels, method="rank", min_group_size=2).fit_transform(wide)
    by_sector = GroupCorrector(SECTORS, method="rank").fit_transform(wide)
    for stock in "CFG":  # industries of one, or none
        assert_allclose(got[stock], by_sector[stock], rtol=1e-13)
    fine = wide[["A", "D", "H"]].rank(axis=1)
    assert_allclose(got[["A", "D", "H"]], (fine - 0.5) / 3, rtol=1e-13)
    with pytest.warns(BatchfixWarning, match="'I' has none"):
        one_level = GroupCorrector([*SECTORS[:8], None], method="rank").fit_transform(wide)
    assert one_level["I"].isna().all()


def test_ranks_bring_statistics_along():
    wide = make_wide()
    got = GroupCorrector(SECTORS, method="rank", return_group_stats=True).fit_transform(wide)
    assert_allclose(got["mean(Tech)"], wide.loc[:, SECTORS == "Tech"].mean(axis=1), rtol=1e-13)
    assert_allclose(got[STOCKS], GroupCorrector(SECTORS, method="rank").fit_transform(wide))


# ---- neutralizing


@given(seeds, st.booleans())
@settings(max_examples=15)
def test_neutralized_values_are_residuals_on_dummies_and_exposures_together(seed, long_shape):
    wide, rng = make_wide(seed, gaps=0.05), np.random.default_rng(seed)
    size = pd.DataFrame(rng.normal(5.0, 2.0, wide.shape), wide.index, STOCKS)
    beta = rng.normal(size=9)
    sectors = np.array(list("xyxyxyxyx"))
    if long_shape:
        table, label = melted(wide, sectors)
        table.index.names = ["date", "symbol"]
        table = pd.DataFrame({"r": table, "sector": label.to_numpy()})
        table["size"], table["beta"] = size.to_numpy().ravel(), np.tile(beta, 30)
        model = GroupCorrector(
            within="date", by="sector", neutralize=["size", "beta"], scale=None, return_group_stats=True
        )
        out = model.fit_transform(table)
        assert list(out.columns) == ["r", "mean(r)", "count(r)", "beta(r ~ size)", "beta(r ~ beta)"]
        got, betas = out["r"].unstack()[STOCKS], out["beta(r ~ size)"].unstack()["A"]
        back = model.inverse_transform(out, exposures=table[["size", "beta"]])["r"].unstack()[STOCKS]
    else:
        model = GroupCorrector(sectors, scale=None, return_group_stats=True)
        out = model.fit_transform(wide, exposures={"size": size, "beta": beta})
        got, betas = out[STOCKS], out["beta(size)"]
        back = model.inverse_transform(out, exposures={"size": size, "beta": beta})
    for i in range(30):
        y = wide.to_numpy()[i]
        seen = ~np.isnan(y)
        design = np.column_stack([sectors == "x", sectors == "y", size.to_numpy()[i], beta])[seen].astype(float)
        coef = np.linalg.lstsq(design, y[seen], rcond=None)[0]
        assert_allclose(got.to_numpy()[i, seen], y[seen] - design @ coef, atol=1e-10)
        assert np.isnan(got.to_numpy()[i, ~seen]).all()
        assert_allclose(betas.to_numpy()[i], coef[2], atol=1e-9)
    assert_allclose(back, wide, atol=1e-11)


def test_residuals_are_scaled_within_their_group_and_noise_is_not():
    rng = np.random.default_rng(0)
    X, size = rng.normal(size=(4, 40)), rng.normal(size=40)
    sectors = np.repeat([0, 1], 20)
    X[1] = 3.0 + 2.0 * size  # explained whole
    plain = GroupCorrector(sectors, scale=None).fit_transform(X, exposures={"size": size})
    got = GroupCorrector(sectors).fit_transform(X, exposures={"size": size})
    for g in (0, 1):
        own = sectors == g
        assert_allclose(got[0, own], plain[0, own] / plain[0, own].std(ddof=1), rtol=1e-9)
    assert_array_equal(got[1], 0.0)


# ---- shrinkage


def make_nested(seed=0, n=200):
    """Stocks of sub-industries of sectors, whose means differ by known amounts."""
    rng = np.random.default_rng(seed)
    sector = np.repeat(np.arange(4), 15)
    sub = np.arange(60) // 3
    effects = rng.normal(0, 2.0, (n, 4))[:, sector] + rng.normal(0, 1.0, (n, 20))[:, sub]
    wide = pd.DataFrame(
        effects + rng.normal(0, 2.0, (n, 60)), pd.bdate_range("2020", periods=n), [f"s{j}" for j in range(60)]
    )
    return wide, pd.DataFrame({"sector": sector, "sub": sub}, wide.columns)


def test_amounts_of_shrinkage_are_found():
    wide, levels = make_nested(n=400)
    amounts = GroupCorrector(levels, shrinkage="eb").fit(wide).amounts_
    assert amounts.shape == (2, 2)
    # within a sub-industry 2^2, between sub-industries of a sector 1: k = 4; sums over 400 dates are near it
    assert_allclose(amounts[1, 0], 4.0, rtol=0.25)
    assert amounts[1, 1] > 30  # equal variances: a prior worth many values


def test_shrunken_means_predict_better_than_either_level():
    wide, levels = make_nested()

    def left(**how):
        model = GroupCorrector(scale=None, leave_one_out=True, **how).fit(wide.iloc[:100])
        return float((model.transform(wide.iloc[100:]) ** 2).mean().mean())

    shrunken = left(groups=levels, shrinkage="eb")
    assert shrunken < left(groups=levels)
    assert shrunken < left(groups=levels["sector"])


def test_shrunken_statistics_are_mixtures_with_those_above():
    wide, levels = make_nested(n=50)
    model = GroupCorrector(levels, shrinkage="eb", return_group_stats=True).fit(wide)
    got, k, d0 = model.transform(wide), model.amounts_[:, 0], model.amounts_[:, 1]
    i = 7
    row = wide.iloc[i]
    market = (row.mean(), row.var())
    own = row[levels["sector"] == 2]
    n = len(own)
    sector = (
        (n * own.mean() + k[0] * market[0]) / (n + k[0]),
        ((n - 1) * own.var() + d0[0] * market[1]) / (n - 1 + d0[0]) if np.isfinite(d0[0]) else market[1],
    )
    own = row[levels["sub"] == 11]
    n = len(own)
    mean = (n * own.mean() + k[1] * sector[0]) / (n + k[1])
    variance = ((n - 1) * own.var() + d0[1] * sector[1]) / (n - 1 + d0[1]) if np.isfinite(d0[1]) else sector[1]
    assert_allclose(got["mean(2/11)"].iloc[i], mean, rtol=1e-12)
    assert_allclose(got["std(2/11)"].iloc[i], np.sqrt(variance), rtol=1e-12)
    assert_allclose(got["s33"].iloc[i], (row["s33"] - mean) / np.sqrt(variance), rtol=1e-11)
    assert_allclose(model.inverse_transform(got), wide, rtol=1e-11, atol=1e-12)


def test_parts_add_up_to_the_whole_and_merge():
    wide, levels = make_nested()
    whole = GroupCorrector(levels, shrinkage="eb").fit(wide)
    parts = GroupCorrector(levels, shrinkage="eb")
    for a, b in ((0, 30), (30, 31), (31, 200)):
        parts.partial_fit(wide.iloc[a:b])
    assert_allclose(parts.amounts_, whole.amounts_, rtol=1e-9)
    here, there = (GroupCorrector(levels, shrinkage="eb").fit(wide.iloc[s]) for s in (slice(0, 70), slice(70, 200)))
    assert_allclose(here.merge(there).amounts_, whole.amounts_, rtol=1e-9)
    with pytest.raises(MergeError, match="equal parameters"):
        here.merge(GroupCorrector(levels).fit(wide))


def test_long_factors_have_amounts_of_their_own():
    wide, levels = make_nested(n=60)
    table, sector = melted(wide, levels["sector"].to_numpy())
    table.index.names = ["date", "symbol"]
    long = pd.DataFrame({"a": table, "b": np.random.default_rng(0).normal(size=len(table))})
    long["sector"], long["sub"] = sector.to_numpy(), np.tile(levels["sub"], 60)
    model = GroupCorrector(within="date", by=["sector", "sub"], shrinkage="eb").fit(long)
    assert model.amounts_.shape == (2, 2, 2)
    flat = GroupCorrector(levels, shrinkage="eb").fit(wide)
    assert_allclose(model.amounts_[0], flat.amounts_, rtol=1e-9)
    assert_allclose(model.transform(long)["a"].unstack()[wide.columns], flat.transform(wide), rtol=1e-9, atol=1e-10)


# ---- statistics and back


@given(seeds, st.sampled_from(["mean", "median", None]), st.sampled_from(["std", "mad", None]))
@settings(max_examples=25)
def test_there_and_back_in_both_shapes(seed, center, scale):
    wide, long = make_wide(seed), make_long(seed)
    how = {"center": center, "scale": scale, "return_group_stats": True}
    model = GroupCorrector(SECTORS, **how).fit(wide)
    out = model.transform(wide)
    assert list(out.columns) == list(model.get_feature_names_out())
    assert_allclose(model.inverse_transform(out), wide, rtol=1e-11, atol=1e-12)
    assert_allclose(model.inverse_transform(out.sample(frac=1, axis=1, random_state=0)), wide, rtol=1e-11, atol=1e-12)
    assert_allclose(model.inverse_transform(out.to_numpy()), wide, rtol=1e-11, atol=1e-12)
    model = GroupCorrector(within="date", by="sector", **how).fit(long)
    out = model.transform(long)
    assert list(out.columns) == list(model.get_feature_names_out())
    back = model.inverse_transform(out)
    want = long[FACTORS].where(out[FACTORS].notna() | (center is not None), np.nan)  # a value alone on its date
    assert_allclose(back, want, rtol=1e-11, atol=1e-12)
    assert back.index.equals(long.index)


def test_there_and_back_with_membership():
    wide = make_wide()
    labels = np.random.default_rng(0).choice(["a", "b"], wide.shape)
    model = GroupCorrector(return_group_stats=True).fit(wide, membership=labels)
    out = model.transform(wide, membership=labels)
    assert_allclose(model.inverse_transform(out, membership=labels), wide, rtol=1e-12, atol=1e-13)
    only_a = model.transform(wide.iloc[:2], membership=np.full((2, 9), "a"))
    assert_array_equal(only_a["count(b)"], 0)
    with pytest.raises(BatchfixError, match="got 'c', which fit has not seen"):
        model.transform(wide, membership=np.full((30, 9), "c"))
    free = GroupCorrector().fit(wide, membership=labels)
    assert free.transform(wide, membership=np.full((30, 9), "c")).notna().any().all()


def test_statistics_have_names_that_say_what_they_are():
    wide, long = make_wide(), make_long()
    names = (
        GroupCorrector(SECTORS, center="median", scale=None, return_group_stats=True).fit(wide).get_feature_names_out()
    )
    assert list(names[9:]) == [
        "median(Bank)",
        "median(Oil)",
        "median(Tech)",
        "count(Bank)",
        "count(Oil)",
        "count(Tech)",
    ]
    names = GroupCorrector(within="date", by="sector", return_group_stats=True).fit(long).get_feature_names_out()
    assert list(names) == [*FACTORS, *(f"{s}({f})" for s in ("mean", "std", "count") for f in FACTORS)]
    assert list(GroupCorrector(return_group_stats=True).fit(wide).get_feature_names_out()[9:]) == [
        "mean(row)",
        "std(row)",
        "count(row)",
    ]


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"method": "rank"}, "ranks"),
        ({"winsorize": 3.0}, "winsorize=3.0 has set"),
        ({"leave_one_out": True}, "leave_one_out=True gives"),
        ({"return_group_stats": False}, "set return_group_stats=True"),
    ],
)
def test_what_cannot_be_restored_says_why(how, why):
    wide = make_wide()
    model = GroupCorrector(SECTORS, **{"return_group_stats": True} | how).fit(wide)
    with pytest.raises(BatchfixError, match=why):
        model.inverse_transform(model.transform(wide))


# ---- scikit-learn, pandas, polars


@pytest.mark.parametrize(
    "model",
    [
        GroupCorrector(),
        GroupCorrector(method="gauss_rank"),
        GroupCorrector(center="median", scale="mad", winsorize=(0.1, 0.9)),
        GroupCorrector(leave_one_out=True, return_group_stats=True),
    ],
    ids=str,
)
@pytest.mark.parametrize("routing", [False, True])
def test_it_conforms_to_scikit_learn(model, routing):
    with sklearn.config_context(enable_metadata_routing=routing):
        results = check_estimator(model, on_fail=None, on_skip=None)
    bad = [(r["check_name"], r["exception"]) for r in results if r["status"] not in ("passed", "skipped")]
    assert len(results) > 40
    assert bad == []


def test_set_output_in_every_direction():
    wide, long = make_wide(), make_long()
    model = GroupCorrector(SECTORS, return_group_stats=True)
    want = model.fit_transform(wide)
    pandas = clone(model).set_output(transform="pandas")
    assert_allclose(pandas.fit_transform(wide.to_numpy()), want)
    frame = pandas.fit_transform(wide)
    pd.testing.assert_frame_equal(frame, want)
    polars = clone(model).set_output(transform="polars").fit_transform(wide)
    assert isinstance(polars, pl.DataFrame)
    assert polars.columns == list(want.columns)
    by_date = GroupCorrector(within="date", by="sector").set_output(transform="pandas").fit_transform(long)
    assert list(by_date.columns) == FACTORS
    assert by_date.index.equals(long.index)


def test_polars_in_polars_out_and_nulls_are_missing():
    wide = make_wide()
    table = pl.from_pandas(wide)
    assert table.null_count().to_numpy().sum() > 0
    got = GroupCorrector(dict(zip(STOCKS, SECTORS, strict=True))).fit_transform(table)
    assert isinstance(got, pl.DataFrame)
    assert_allclose(got.to_numpy(), GroupCorrector(SECTORS).fit_transform(wide))


def test_columns_that_are_no_text_keep_their_names():
    wide = make_wide()
    wide.columns = pd.MultiIndex.from_tuples([("x", i) for i in range(9)], names=["a", "b"])
    got = GroupCorrector(SECTORS).fit_transform(wide)
    assert got.columns.equals(wide.columns)
    numbered = make_wide().set_axis(range(9), axis=1)
    model = GroupCorrector(dict(enumerate(SECTORS))).fit(numbered)
    assert list(model.transform(numbered).columns) == list(range(9))
    with pytest.raises(BatchfixError, match="must be those of fit, in their order"):
        model.transform(numbered[[1, 0, *range(2, 9)]])


def test_routing_through_a_pipeline():
    wide = make_wide(gaps=0)
    labels = pd.DataFrame(np.random.default_rng(0).choice(["a", "b"], wide.shape), wide.index, wide.columns)
    y = wide.sum(axis=1)
    with sklearn.config_context(enable_metadata_routing=True):
        pipe = make_pipeline(GroupCorrector(), Ridge())
        pipe.fit(wide, y, membership=labels)
        want = Ridge().fit(GroupCorrector().fit_transform(wide, membership=labels), y).coef_
        assert_allclose(pipe[-1].coef_, want)
        scores = cross_val_score(pipe, wide, y, params={"membership": labels}, cv=3)
        assert np.isfinite(scores).all()
        back = make_pipeline(GroupCorrector(return_group_stats=True), FunctionTransformer())
        out = back.fit_transform(wide, membership=labels)
        back.steps.pop()
        assert_allclose(back.inverse_transform(out, membership=labels), wide, atol=1e-12)


def test_keys_need_no_routing_in_a_search():
    long = pd.concat([make_long(s).assign(seed=s) for s in range(3)]).reset_index().drop(columns=["symbol", "seed"])
    long[FACTORS] = long[FACTORS].fillna(0.0)
    search = GridSearchCV(
        make_pipeline(GroupCorrector(within="date", by="sector"), Ridge()),
        {"groupcorrector__scale": ["std", None]},
        cv=2,
        error_score="raise",
    )
    search.fit(long, np.arange(len(long)))
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_it_can_be_copied_and_kept():
    wide, levels = make_nested(n=30)
    model = GroupCorrector(levels, shrinkage="eb", return_group_stats=True).fit(wide)
    again = pickle.loads(pickle.dumps(model))
    pd.testing.assert_frame_equal(again.transform(wide), model.transform(wide))
    assert clone(model).get_params()["groups"].equals(levels)
    assert len(pickle.dumps(model)) < 12_000 + len(pickle.dumps(levels)), "it must not keep the data"


def test_skops_loads_it_without_trust_in_others():
    skops = pytest.importorskip("skops.io")
    wide = make_wide()
    model = GroupCorrector(pd.Series(SECTORS, STOCKS).to_dict(), return_group_stats=True).fit(wide)
    kept = skops.dumps(model)
    unknown = skops.get_untrusted_types(data=kept)
    assert all(name.startswith("batchfix.") for name in unknown), unknown
    pd.testing.assert_frame_equal(skops.loads(kept, trusted=unknown).transform(wide), model.transform(wide))


def test_in_place_where_it_can_be():
    X = make_wide(gaps=0).to_numpy()
    want, given_ = GroupCorrector(SECTORS).fit_transform(X), X.copy()
    got = GroupCorrector(SECTORS, copy=False).fit_transform(given_)
    assert got is given_
    assert_array_equal(got, want)
    frame = make_wide(gaps=0)
    with pytest.warns(CopyWarning, match="X is a DataFrame"):
        GroupCorrector(SECTORS, copy=False).fit_transform(frame)
    with pytest.warns(CopyWarning, match="adds columns"):
        GroupCorrector(SECTORS, copy=False, return_group_stats=True).fit_transform(X)


def test_the_input_is_left_alone():
    wide, long = make_wide(), make_long()
    before, long_before = wide.copy(), long.copy()
    GroupCorrector(SECTORS, winsorize=1.0).fit_transform(wide)
    GroupCorrector(within="date", by="sector", leave_one_out=True).fit_transform(long)
    pd.testing.assert_frame_equal(wide, before)
    pd.testing.assert_frame_equal(long, long_before)


# ---- wrong input, in one sentence


def wide_fit(groups=SECTORS, change=None, **how):
    routed = {k: how.pop(k) for k in ("membership", "weights_", "exposures") if k in how}
    routed = {k.rstrip("_"): v for k, v in routed.items()}
    wide = make_wide()
    if change:
        wide = change(wide)
    return GroupCorrector(groups, **how).fit_transform(wide, **routed)


def at(i, j, value):
    def change(wide):
        wide.iloc[i, j] = value
        return wide

    return change


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"groups": SECTORS[:4]}, "groups must have one label a column of X; got 4 labels for 9 columns"),
        ({"groups": {"A": "x", "Q": "y"}}, "got 1 for columns that X has not: 'Q'"),
        ({"groups": "sector"}, "groups must hold a label for each column"),
        ({"groups": [SECTORS, SECTORS[:3]]}, "got 3 labels for 9 columns"),
        ({"groups": np.zeros((9, 2))}, "got an array of shape"),
        ({"groups": [1, "1", *"abcdefg"]}, "must have different names"),
        ({"groups": [*SECTORS[:8], "nan"]}, "got the text 'nan'"),
        ({"groups": [*np.arange(8), 0.5]}, "got 0.5"),
        ({"change": at(3, 4, np.inf)}, "X must be finite or NaN"),
        ({"change": at(3, 4, 1e300)}, "squares must fit float64"),
        ({"change": lambda w: w.set_axis([*DATES[:29], DATES[3]], axis=0)}, "Each date must have one row"),
        ({"change": lambda w: w.set_axis([*"ABCDEFGH", "A"], axis=1)}, "must have different names"),
        ({"by": "sector"}, "by names groups within a date"),
        ({"within": "date"}, "wide .* or long"),
        ({"winsorize": (0.9, 0.1)}, "winsorize must be two quantiles"),
        ({"winsorize": -1}, "winsorize must be two quantiles"),
        ({"winsorize": "all"}, "winsorize must be two quantiles"),
        ({"method": "rank", "winsorize": 3}, "Ranks do not need"),
        ({"method": "rank", "leave_one_out": True}, "leave_one_out goes with means"),
        ({"center": "median", "shrinkage": "eb"}, "shrinkage goes with means"),
        ({"groups": None, "shrinkage": "eb"}, "shrinkage must have groups"),
        ({"scale": "mad", "weights_": np.ones(9)}, "Weights go with mean"),
        ({"weights_": np.ones(4)}, "weights must have one number a column"),
        ({"weights_": -np.ones(9)}, "got -1.0 in"),
        ({"weights_": np.full(9, np.inf)}, "got inf"),
        ({"weights_": np.where(SECTORS == "Tech", 0.0, 1.0)}, "sum above 0 in every group"),
        ({"weights_": list("abcdefghi")}, "weights must be numbers"),
        ({"weights_": "cap"}, "weights must have one number a column|got the name 'cap'"),
        ({"weights_": np.ones(9), "weights": np.ones(9)}, "Weights must be given once"),
        ({"membership": np.zeros((30, 9))}, "both groups= and membership="),
        ({"groups": None, "membership": np.zeros((30, 4))}, "got shape"),
        (
            {"groups": None, "membership": make_wide().iloc[3:]},
            "membership must have the rows of X; got none for 3 of 30",
        ),
        ({"exposures": np.ones(9)}, "exposures must name each exposure"),
        ({"exposures": {"size": np.ones(3)}}, "must have one number a column"),
        ({"exposures": {"size": np.full(9, np.inf)}}, "must be finite"),
        ({"neutralize": ["size"]}, "got 'size'"),
        ({"exposures": {"size": np.arange(9.0)}, "leave_one_out": True}, "got leave_one_out=True"),
        ({"exposures": {"size": np.arange(9.0)}, "min_group_size": 2}, "got min_group_size=2"),
    ],
    ids=lambda v: ",".join(v) if isinstance(v, dict) else "",
)
def test_wrong_wide_input_is_one_sentence(how, says):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BatchfixWarning)
        with pytest.raises(BatchfixError, match=says):
            wide_fit(**how)


def long_fit(change, within="date", by="sector", **how):
    return GroupCorrector(within=within, by=by, **how).fit_transform(change(make_long(3)))


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"change": lambda t: pd.concat([t, t.iloc[:1]])}, "Each date must have one row a symbol"),
        ({"change": lambda t: pd.concat([t.iloc[:1], t])}, "Each date must have one row a symbol"),
        ({"change": lambda t: t.reset_index("date").pipe(lambda u: pd.concat([u, u.iloc[:1]]))}, "one row a symbol"),
        ({"change": lambda t: t, "within": "day"}, "'day'"),
        ({"change": lambda t: t.rename(columns={"sector": "sectors"})}, "did you mean 'sectors'"),
        (
            {"change": lambda t: t.reset_index().assign(date=pd.NaT).drop(columns="symbol")},
            "Every row must have a date",
        ),
        ({"change": lambda t: t.assign(value=np.inf)}, "must be finite or NaN"),
        ({"change": lambda t: t.reset_index()}, "numbers"),
        ({"change": lambda t: t, "weights": "cap"}, "'cap'"),
        ({"change": lambda t: t.assign(cap=-1.0), "weights": "cap"}, "got -1.0"),
        ({"change": lambda t: t, "neutralize": ["size"]}, "'size'"),
        ({"change": lambda t: t.drop(columns=FACTORS)}, "must have features"),
    ],
)
def test_wrong_long_input_is_one_sentence(how, says):
    with pytest.raises(BatchfixError, match=says):
        long_fit(**how)


def test_what_was_given_to_fit_is_wanted_again():
    wide = make_wide()
    labels = np.full(wide.shape, "a")
    model = GroupCorrector().fit(wide, membership=labels)
    with pytest.raises(BatchfixError, match="membership must be passed"):
        model.transform(wide)
    with pytest.raises(BatchfixError, match="membership must be passed to fit too"):
        GroupCorrector().fit(wide).transform(wide, membership=labels)
    model = GroupCorrector(SECTORS).fit(wide, exposures={"size": np.arange(9.0)})
    with pytest.raises(BatchfixError, match="exposures must be those of fit"):
        model.transform(wide)
    with pytest.raises(BatchfixError, match="describes the cells of a wide table"):
        GroupCorrector(within="date").fit(make_long()[FACTORS], membership=labels)
    with pytest.raises(MissingLabelError):
        GroupCorrector(within="date").fit(pd.DataFrame({"date": ["a", None], "x": [1.0, 2.0]}))


# ---- every option at once, against a loop


def ancestry(labels, j):
    """Who shares a row's group with cell j: masks, fine to coarse."""
    for depth in range(len(labels), 0, -1):
        if labels[depth - 1][j] is not None:
            own = [each == tuple(level[j] for level in labels[:depth]) for each in zip(*labels[:depth], strict=True)]
            yield np.array(own)
    if not labels or labels[0][j] is not None:
        yield np.ones(len(labels[0]) if labels else 9, dtype=bool)


def clipped_row(x, labels, w, how, least, ddof):
    """A row with its extremes set to the limits of their groups."""
    out = x.copy()
    for j in np.flatnonzero(~np.isnan(x)):
        for own in ancestry(labels, j):
            k = own & ~np.isnan(x)
            if k.sum() < least:
                continue
            if isinstance(how, tuple):
                low, high = np.quantile(x[k], how)
            else:
                mean, variance = weighted(x[k], w[k], ddof)
                reach = np.inf if np.isnan(variance) else how * np.sqrt(variance)
                low, high = mean - reach, mean + reach
            out[j] = np.clip(x[j], low, high)
            break
    return out


def standing_of(x, labels, w, j, least, alone, ddof):
    """(x - mean) / sd of the nearest group that is large enough; the sd of the nearest that has one."""
    mean = variance = np.nan
    for own in ancestry(labels, j):
        k = own & ~np.isnan(x)
        k[j] &= not alone
        if np.isnan(mean) and k.sum() >= least:
            mean, variance = weighted(x[k], w[k], ddof)
        elif not np.isnan(mean) and np.isnan(variance):
            variance = weighted(x[k], w[k], ddof)[1]
        if alone and k.sum() < 2:
            variance = np.nan  # one other says nothing of a scale
    if abs(x[j] - mean) <= 1e-13 * abs(mean):
        return 0.0
    if variance <= (1e-13 * mean) ** 2:  # others at one limit
        return np.nan
    return (x[j] - mean) / np.sqrt(variance)


@given(
    seed=seeds,
    depth=st.integers(0, 3),
    least=st.integers(1, 4),
    alone=st.booleans(),
    with_weights=st.booleans(),
    clip=st.sampled_from([None, 1.2, (0.1, 0.85)]),
    ddof=st.sampled_from([0.5, 1, 2]),
)
@settings(max_examples=120)
def test_every_option_at_once_is_the_loop(seed, depth, least, alone, with_weights, clip, ddof):
    wide, rng = make_wide(seed, gaps=0.2).iloc[:4], np.random.default_rng(seed)
    labels = [rng.choice([*"abc", None], 9, p=[0.3, 0.3, 0.25, 0.15]).astype(object) for _ in range(depth)]
    weights = rng.gamma(2.0, size=wide.shape) if with_weights else np.ones(wide.shape)
    model = GroupCorrector(
        [list(each) for each in labels] or None,
        min_group_size=least,
        leave_one_out=alone,
        winsorize=clip,
        ddof=ddof,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BatchfixWarning)  # columns without a group
        got = model.fit_transform(wide, weights=weights if with_weights else None).to_numpy()
    for i, row in enumerate(wide.to_numpy()):
        x = row if clip is None else clipped_row(row, labels, weights[i], clip, least, ddof)
        for j in range(9):
            want = np.nan if np.isnan(x[j]) else standing_of(x, labels, weights[i], j, least, alone, ddof)
            # a difference of rounding from the mean, over a small sd
            assert_allclose(got[i, j], want, rtol=1e-8, atol=1e-9)


def mixed(n, own, worth, parent):
    """(n own + worth parent) / (n + worth)."""
    return parent if n == 0 or np.isinf(worth) else (n * own + worth * parent) / (n + worth)


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("with_weights", [False, True])
def test_shrunken_standings_are_the_loop(alone, with_weights):
    rng = np.random.default_rng(3)
    sector, sub = np.repeat([0, 1, 2], 8), np.arange(24) // 4
    spreads = (10.0 ** rng.uniform(-0.7, 0.7, size=(40, 6)))[:, sub]  # the prior freedom of variances is finite
    X = (
        rng.normal(0.0, 5.0, (40, 3))[:, sector]
        + rng.normal(size=(40, 6))[:, sub]
        + spreads * rng.normal(size=(40, 24))
    )
    W = rng.gamma(2.0, size=X.shape) if with_weights else np.ones(X.shape)
    model = GroupCorrector([sector, sub], shrinkage="eb", leave_one_out=alone).fit(X, weights=W)
    assert np.isfinite(model.amounts_).all()
    got = model.transform(X, weights=W)
    for i, j in np.ndindex(5, 24):
        mean = variance = np.nan
        for level, own in enumerate((np.ones(24, dtype=bool), sector == sector[j], sub == sub[j])):
            k = own.copy()
            k[j] &= not alone
            m, v = weighted(X[i, k], W[i, k])
            n = W[i, k].sum() ** 2 / (W[i, k] ** 2).sum()
            if level:
                worth, prior = model.amounts_[level - 1]
                m, v = mixed(n, m, worth, mean), mixed(n - 1, v, prior, variance)
            mean, variance = m, v
        assert_allclose(got[i, j], (X[i, j] - mean) / np.sqrt(variance), rtol=1e-9, atol=1e-11)


def test_amounts_do_not_know_the_unit_of_weights_and_are_those_of_clipped_values():
    wide, levels = make_nested(n=40)
    w = np.random.default_rng(1).gamma(2.0, size=wide.shape)
    amounts = GroupCorrector(levels, shrinkage="eb").fit(wide, weights=w).amounts_
    for unit in (1e6, 1e-170, 1e160):
        assert_allclose(GroupCorrector(levels, shrinkage="eb").fit(wide, weights=w * unit).amounts_, amounts, rtol=1e-9)
    clipped = wide.T.groupby([levels["sector"], levels["sub"]]).transform(lambda x: x.clip(*x.quantile([0.2, 0.8]))).T
    got = GroupCorrector(levels, shrinkage="eb", winsorize=(0.2, 0.8)).fit(wide)
    assert_allclose(got.amounts_, GroupCorrector(levels, shrinkage="eb").fit(clipped).amounts_, rtol=1e-9)
    assert_allclose(got.transform(wide), GroupCorrector(levels, shrinkage="eb").fit(clipped).transform(clipped))


def test_limits_are_about_a_groups_own_mean_also_where_it_is_shrunken():
    wide, levels = make_nested(n=30)
    model = GroupCorrector(levels, shrinkage="eb", winsorize=1.0, center=None, scale=None).fit(wide)
    own = wide.T.groupby([levels["sector"], levels["sub"]])
    low, high = (own.transform("mean") + sign * own.transform("std") for sign in (-1, 1))
    assert_allclose(model.transform(wide), wide.clip(low.T, high.T), rtol=1e-10)


@given(seeds)
@settings(max_examples=15)
def test_long_factors_are_neutralized_with_weights_and_limits(seed):
    rng = np.random.default_rng(seed)
    date, sector = np.repeat(np.arange(3), 14), np.tile(list("abababababaabb"), 3)
    long = pd.DataFrame({"date": date, "sector": sector, "cap": rng.gamma(2.0, size=42) + 0.1})
    for name in ("size", "beta", *FACTORS):
        long[name] = rng.normal(size=42)
    keys = {"within": "date", "by": "sector", "neutralize": ["size", "beta"], "weights": "cap"}
    plain = GroupCorrector(**keys, return_group_stats=True)
    out = plain.fit_transform(long)
    back = plain.inverse_transform(out, exposures=long[["beta", "size"]])
    assert_allclose(back, long[FACTORS], rtol=1e-10, atol=1e-11)
    cut = GroupCorrector(**keys, winsorize=(0.1, 0.9)).fit_transform(long)
    for factor in FACTORS:
        limits = long.groupby(["date", "sector"])[factor]
        clipped = long[factor].clip(*(limits.transform("quantile", q) for q in (0.1, 0.9)))
        for d in range(3):
            own = long[date == d]
            design = np.column_stack([own["sector"] == "a", own["sector"] == "b", own["size"], own["beta"]]).astype(
                float
            )
            root = np.sqrt(own["cap"].to_numpy())
            for values, found in ((long[factor], out), (clipped, cut)):
                y = values[date == d].to_numpy()
                coef = np.linalg.lstsq(design * root[:, None], y * root, rcond=None)[0]
                left = y - design @ coef
                for s in "ab":
                    group = (own["sector"] == s).to_numpy()
                    spread = np.sqrt(weighted(left[group], own["cap"].to_numpy()[group])[1])
                    assert_allclose(found.loc[own.index[group], factor], left[group] / spread, rtol=1e-8, atol=1e-10)
                if found is out:
                    assert_allclose(out.loc[own.index, f"beta({factor} ~ size)"], coef[2], rtol=1e-8, atol=1e-10)
                    assert_allclose(out.loc[own.index, f"beta({factor} ~ beta)"], coef[3], rtol=1e-8, atol=1e-10)


# ---- labels of every kind


@pytest.mark.parametrize("how", ["rank", "gauss_rank", "neutralize"])
def test_labels_of_every_kind_are_ranked_and_neutralized(how):
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(3, 7)), columns=list("abcdefg"))
    names = np.array(["10", "10", "20", "20", "20", "70", "70"])
    routed = {"exposures": {"size": np.arange(7.0) ** 2}} if how == "neutralize" else {}
    method = {"method": how} if how != "neutralize" else {}
    want = GroupCorrector(names, **method).fit_transform(X, **routed)
    unused = pd.Categorical(names, categories=["0", "10", "15", "20", "30", "70", "80"])
    for groups in (names.astype(int), pd.Series(names.astype(int), X.columns), unused, [list("STUUUVV"), names]):
        got = GroupCorrector(groups, **method).fit_transform(X, **routed)
        if not isinstance(groups, list):
            assert_allclose(got, want, rtol=1e-12)
    ragged = pd.DataFrame({"s": list("TTOOOTT"), "i": ["soft", "soft", *["oil"] * 3, "semi", "semi"]}, X.columns)
    assert_allclose(GroupCorrector(ragged, **method).fit_transform(X, **routed), want, rtol=1e-12)
    if how != "neutralize":
        cells = np.tile(names.astype(int), (3, 1))
        assert_allclose(GroupCorrector(**method).fit_transform(X, membership=cells), want, rtol=1e-12)


@pytest.mark.parametrize("count", [126, 127, 128, 129, 255, 256, 257])
def test_any_number_of_labels(count):
    X = np.random.default_rng(0).normal(size=(2, 2 * count))
    pairs = X.reshape(2, count, 2)
    want = (pairs - pairs.mean(axis=2, keepdims=True)).reshape(X.shape)
    labels = np.arange(count).repeat(2)
    assert_allclose(GroupCorrector(labels, scale=None).fit_transform(X), want, atol=1e-15)
    model = GroupCorrector(labels, scale=None)
    assert_allclose(model.fit_transform(X, exposures={"none": np.zeros(2 * count)}), want, atol=1e-15)
    ranks = GroupCorrector(labels, method="rank").fit_transform(X)
    assert_allclose(ranks, np.where(want > 0, 0.75, 0.25))


def test_a_multiindex_of_labels_is_a_table_of_levels():
    wide = make_wide()
    levels = pd.MultiIndex.from_arrays([list("ababababa"), SECTORS])
    want = GroupCorrector([list("ababababa"), SECTORS]).fit_transform(wide)
    assert_allclose(GroupCorrector(levels).fit_transform(wide), want)


def test_an_unused_empty_category_is_no_label():
    groups = pd.Categorical(SECTORS, categories=["", "Tech", "Oil", "Bank"])
    wide = make_wide()
    assert_allclose(GroupCorrector(groups).fit_transform(wide), GroupCorrector(SECTORS).fit_transform(wide), rtol=1e-13)


# ---- more defined results


def test_limits_that_do_nothing_change_nothing():
    """A value without a group counts in the whole row, winsorized or not."""
    X, groups = [[1.0, 2.0, 3.0, 1000.0, 5.0]], [0, 0, 0, None, 1]
    for clip in (None, 100.0, (0.0, 1.0)):
        with pytest.warns(BatchfixWarning, match="'x3' has none"):
            got = GroupCorrector(groups, min_group_size=2, scale=None, winsorize=clip).fit_transform(X)
        assert_allclose(got, [[-1.0, 0.0, 1.0, np.nan, 5 - 1011 / 5]])


@pytest.mark.parametrize("how", [{}, {"min_group_size": 2}, {"shrinkage": "eb"}, {"center": None}, {"ddof": 2}])
@pytest.mark.parametrize("last", [None, "u"])
def test_a_group_without_a_value_has_no_statistics_whatever_the_others_are(how, last):
    X = np.array([[1.0, 2.0, np.nan, np.nan, 4.0], [2.0, 5.0, 1.0, 3.0, 3.0]])
    levels = [["S"] * 5, ["u", "u", "v", "v", last]]
    got = GroupCorrector(levels, return_group_stats=True, **how).set_output(transform="pandas").fit_transform(X)
    assert np.isnan(got.loc[0, "std(S/v)"])
    assert np.isnan(got.get("mean(S/v)", got["std(S/v)"])[0])
    assert str(got.loc[0, "count(S/v)"]) == "0.0"  # no -0.0
    assert np.isfinite(got.loc[1, "std(S/v)"])


def test_unlabelled_cells_are_a_group_of_their_own_in_a_joint_fit():
    rng = np.random.default_rng(0)
    X, size = rng.normal(size=(4, 9)), rng.normal(size=9)
    levels = [["S"] * 9, [*"uuuu", *[None] * 5]]
    model = GroupCorrector(levels, return_group_stats=True).set_output(transform="pandas")
    got = model.fit_transform(X, exposures={"size": size})
    named = GroupCorrector(list("uuuuwwwww"), return_group_stats=True).set_output(transform="pandas")
    want = named.fit_transform(X, exposures={"size": size})
    assert_allclose(got.iloc[:, :9], want.iloc[:, :9], rtol=1e-10)
    for stat in ("mean", "std", "count"):
        assert_allclose(got[f"{stat}(S)"], want[f"{stat}(w)"], rtol=1e-10)
        assert_allclose(got[f"{stat}(S/u)"], want[f"{stat}(u)"], rtol=1e-10)
    assert_allclose(model.inverse_transform(got, exposures={"size": size}), X, rtol=1e-10)


def test_only_ratios_of_weights_matter():
    wide = make_wide()
    w = np.random.default_rng(0).gamma(2.0, size=wide.shape)
    for how in ({}, {"leave_one_out": True}, {"winsorize": 1.0}):
        want = GroupCorrector(SECTORS, **how).fit_transform(wide, weights=w)
        for unit in (1e-300, 1e-170, 1e160, 1e300):
            got = GroupCorrector(SECTORS, **how).fit_transform(wide, weights=w * unit)
            assert_allclose(got, want, rtol=1e-9, atol=1e-11)
    beside = w.copy()
    beside[wide.isna()] = 1e290  # not read
    assert_allclose(
        GroupCorrector(SECTORS).fit_transform(wide, weights=beside),
        GroupCorrector(SECTORS).fit_transform(wide, weights=w),
    )


def test_labels_missing_later_are_announced_too():
    long = pd.DataFrame({"date": 1, "sector": list("aabb"), "x": [1.0, 3.0, 5.0, 2.0]})
    later = long.assign(sector=["a", "a", "b", None])
    model = GroupCorrector(within="date", by="sector", scale=None).fit(long)
    with pytest.warns(BatchfixWarning, match="1 of 4 has none"):
        assert np.isnan(model.transform(later)["x"].iloc[3])
    with pytest.warns(BatchfixWarning, match="1 of 4 has none"):
        model.partial_fit(later)
    model = GroupCorrector().fit(np.ones((1, 2)), membership=[["a", "a"]])
    with pytest.warns(BatchfixWarning, match="1 of 2 has none"):
        model.transform(np.ones((1, 2)), membership=[["a", None]])


def test_rows_after_those_of_fit_do_not_move_what_is_before_them():
    """Amounts of shrinkage come from fit alone."""
    wide, levels = make_nested(n=60)
    model = GroupCorrector(levels, shrinkage="eb").fit(wide.iloc[:30])
    assert_array_equal(model.transform(wide.iloc[30:40]), model.transform(wide.iloc[30:]).iloc[:10])
    assert "fit on the past" in " ".join(GroupCorrector.__doc__.split())


# ---- symbols


def test_symbols_are_checked_wherever_they_are():
    long = pd.DataFrame({"date": [1, 1, 1], "symbol": list("ABC"), "sector": list("aab"), "x": [1.0, 3.0, 5.0]})
    twice = long.assign(symbol=list("ABA"))
    said = "Each date must have one row a symbol; got several for"
    with pytest.raises(BatchfixError, match=f"{said} 1, A, b, the second in row 2"):  # of two sectors
        GroupCorrector(within="date", by="sector").fit(twice.set_index(["date", "symbol", "sector"]))
    model = GroupCorrector(within="date", by="sector", symbol="symbol", scale=None)
    for table in (twice, pl.from_pandas(twice), twice.set_index("symbol"), twice.astype({"symbol": "category"})):
        with pytest.raises(BatchfixError, match=f"{said} A, the second in row 2"):
            model.fit(table)
    for table in (long, pl.from_pandas(long), long.set_index("symbol"), long.set_index(["date", "symbol"])):
        got = model.fit_transform(table)
        assert list(got.columns) == ["x"]
        assert_array_equal(np.asarray(got)[:, 0], [-1.0, 1.0, 0.0])
    with pytest.raises(BatchfixError, match="the second in row 1"):
        GroupCorrector(within=0, symbol=1).fit([[1.0, 7.0, 2.0], [1.0, 7.0, 3.0]])


def test_sectors_in_the_index_are_no_symbols():
    long = pd.DataFrame({"date": [1, 1, 1], "sector": list("aab"), "x": [1.0, 3.0, 5.0]})
    for index in ("sector", ["date", "sector"]):
        got = GroupCorrector(within="date", by="sector", scale=None).fit_transform(long.set_index(index))
        assert_array_equal(got["x"], [-1.0, 1.0, 0.0])


# ---- merging what is not equal


def test_only_equals_merge():
    X = np.random.default_rng(0).normal(size=(4, 2000))
    one = np.repeat(["a", "b"], 1000)
    two = one.copy()
    two[500:900] = "b"  # where printing cuts

    def fitted(groups, weights=None, **routed):
        return GroupCorrector(groups, shrinkage="eb", weights=weights).fit(X, **routed)

    w = np.ones(2000)
    other = np.where(one == two, 1.0, 2.0)
    size = {"size": w}
    for here, there in (
        (fitted(one), fitted(two)),
        (fitted(one, w), fitted(one, other)),
        (fitted(one, w), fitted(one)),
        (GroupCorrector(one).fit(X, exposures=size), GroupCorrector(one).fit(X, exposures={"beta": w})),
    ):
        with pytest.raises(MergeError, match="must have equal parameters"):
            here.merge(there)
    for here, there in (
        (fitted(one), fitted(list(one))),
        (fitted(one, w), fitted(one, list(w))),
        (fitted(one, {f"x{j}": 1.0 for j in range(2000)}), fitted(one, {f"x{j}": 1.0 for j in range(2000)})),
    ):
        assert_allclose(here.merge(there).amounts_, here.amounts_)


# ---- names, and the way back


@pytest.mark.parametrize("columns", [range(10, 19), pd.MultiIndex.from_product([["x"], range(9)])], ids=str)
def test_the_way_back_knows_columns_that_are_no_text(columns):
    wide = make_wide()
    wide.columns = columns
    model = GroupCorrector(SECTORS, return_group_stats=True).fit(wide)
    out = model.transform(wide)
    assert [str(name) for name in out.columns] == list(model.get_feature_names_out())
    back = model.inverse_transform(out)
    assert list(back.columns) == list(wide.columns)
    assert_allclose(back, wide, rtol=1e-12, atol=1e-13)
    long = pd.DataFrame({0: [1, 1, 2, 2], 1: [1.0, 2.0, 4.0, 4.5], 2: [3.0, 4.0, 7.0, 8.0]})
    by_date = GroupCorrector(within=0, return_group_stats=True).fit(long)
    assert_allclose(by_date.inverse_transform(by_date.transform(long)), long[[1, 2]])


def test_the_way_back_gives_the_kind_that_came():
    wide = make_wide()
    model = GroupCorrector(SECTORS, return_group_stats=True).set_output(transform="pandas").fit(wide)
    pd.testing.assert_frame_equal(model.inverse_transform(model.transform(wide)), wide, rtol=1e-12)
    assert isinstance(model.inverse_transform(model.transform(wide).to_numpy()), np.ndarray)


def test_statistics_do_not_take_names_that_are_there():
    wide = make_wide()
    model = GroupCorrector(return_group_stats=True)
    with pytest.raises(BatchfixError, match=r"a column 'mean\(row\)' in X"):
        make_pipeline(model, clone(model)).fit_transform(wide)
    long = make_long().rename(columns={"value": "mean(momentum)"})
    with pytest.raises(BatchfixError, match=r"a column 'mean\(momentum\)' in X"):
        GroupCorrector(within="date", by="sector", return_group_stats=True).fit(long)
    GroupCorrector(within="date", by="sector").fit(long)


def test_exposures_are_known_by_name():
    wide = make_wide(gaps=0)
    loads = {"size": np.arange(9.0), "beta": np.arange(9.0) ** 2}
    turned = dict(reversed(loads.items()))
    model = GroupCorrector(return_group_stats=True).fit(wide, exposures=loads)
    out = model.transform(wide, exposures=loads)
    pd.testing.assert_frame_equal(model.transform(wide, exposures=turned), out)
    assert_allclose(model.inverse_transform(out, exposures=turned), wide, rtol=1e-10)


def test_skops_wants_dicts():
    skops = pytest.importorskip("skops.io")
    wide = make_wide()
    wide.columns = pd.date_range("2020", periods=9)
    model = GroupCorrector([SECTORS.tolist()], return_group_stats=True).fit(wide)
    kept = skops.dumps(model)
    unknown = skops.get_untrusted_types(data=kept)
    assert all(name.startswith("batchfix.") for name in unknown), unknown
    again = skops.loads(kept, trusted=unknown)
    assert_allclose(again.transform(wide), model.transform(wide))


# ---- more wrong input


@pytest.mark.parametrize("method", ["rank", "gauss_rank"])
@pytest.mark.parametrize("least", [1, 2])
def test_ranks_refuse_infinity_and_take_any_number(method, least):
    model = GroupCorrector(method=method, min_group_size=least)
    for X in ([[1.0, 2.0, np.inf, 4.0]], [[1.0, 2.0, -np.inf, 4.0]]):
        with pytest.raises(BatchfixError, match="must be finite"):
            model.fit_transform(X)
        with pytest.raises(BatchfixError, match="must be finite"):
            model.fit([[1.0, 2.0, 3.0, 4.0]]).transform(X)
    assert np.isfinite(model.fit_transform([[1.0, 2.0, 1e300, 4.0]])).all()


def test_infinity_is_refused_before_the_table_is_overwritten():
    X = np.random.default_rng(0).normal(size=(5000, 50))
    X[-1, 0] = np.inf
    before = X.copy()
    with pytest.raises(BatchfixError, match="must be finite"):
        GroupCorrector(copy=False).fit_transform(X)
    assert_array_equal(X, before)


def fit_wide(X=None, routed=None, then=None, **how):
    model = GroupCorrector(**how).fit(make_wide() if X is None else X, **(routed or {}))
    if then:
        then(model)


PANEL = pd.DataFrame({"x": 1.0}, pd.MultiIndex.from_product([[1], list("abcdefghi")], names=["date", "symbol"]))
CROSSED = make_wide().set_axis(pd.MultiIndex.from_product([["x"], STOCKS]), axis=1)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"groups": ["", *SECTORS[1:]]}, "must not be empty text; got ''"),
        ({"groups": [*np.arange(8.0), np.inf]}, "got inf"),
        ({"groups": [("US", "T"), ("UK", "T")], "X": np.ones((2, 2))}, "got 2 tuples of 2"),
        ({"groups": {0: "a"}, "X": np.ones((2, 2))}, "the columns of an array are called x0, x1"),
        ({"groups": pd.Series(SECTORS, CROSSED.columns)}, "got 9 for columns that X has not"),
        ({"groups": pd.Series(SECTORS, STOCKS), "X": CROSSED}, "got 9 for columns that X has not"),
        ({"X": PANEL, "within": "date", "routed": {"weights": pd.Series(np.ones(9))}}, "must have the rows of X"),
        ({"X": PANEL, "within": "date", "routed": {"weights": PANEL.reset_index()[["x"]]}}, "must have the rows of X"),
        ({"X": CROSSED, "routed": {"membership": make_wide().notna()}}, "must have the columns of X"),
        ({"X": PANEL, "within": "date", "routed": {"weights": "x"}}, "one a row or one a cell; got the name 'x'"),
        ({"within": []}, "within must name the column"),
        ({"symbol": "A"}, "symbol names a key of a long table"),
        ({"X": np.array([[1.0, 3.0], [np.inf, 3.0]]), "within": 0}, "got inf"),
        ({"routed": {"weights": pd.date_range("2020", periods=9).to_numpy()}}, "weights must be numbers"),
        ({"routed": {"weights": list("123456789")}}, "weights must be numbers"),
        ({"routed": {"weights": np.array(list("123456789"), dtype=object)}}, "weights must be numbers"),
        ({"routed": {"weights": np.ones(9) * 1j}}, "weights must be numbers"),
        ({"routed": {"exposures": {"size": np.ones(9) * 1j}}}, "must be numbers"),
        (
            {
                "X": PANEL.assign(e=1.0),
                "within": "date",
                "neutralize": ["e"],
                "routed": {"exposures": {"e": np.ones(9)}},
            },
            "An exposure must be given once; got 'e'",
        ),
        (
            {"groups": SECTORS, "then": lambda m: m.set_params(shrinkage="eb").transform(make_wide())},
            "shrinkage must be chosen before fit",
        ),
        (
            {
                "routed": {"membership": np.full((30, 9), "a")},
                "then": lambda m: m.transform(make_wide(), membership=[np.full((30, 9), "a")] * 2),
            },
            r"must have the 1 level\(s\) of fit; got 2",
        ),
    ],
    ids=lambda v: "-".join(v) if isinstance(v, dict) else "",
)
def test_what_cannot_be_meant_is_one_sentence(how, says):
    with pytest.raises(BatchfixError, match=says):
        fit_wide(**how)


def test_parameters_set_after_fit_are_checked():
    model = GroupCorrector(SECTORS).fit(make_wide()).set_params(center="bogus")
    with pytest.raises(ValueError, match="'center' parameter"):
        model.transform(make_wide())


def test_groups_without_weight_are_refused_where_they_are_neutralized_too():
    wide = make_wide(gaps=0)
    for routed in ({}, {"exposures": {"size": np.arange(9.0)}}):
        with pytest.raises(BatchfixError, match="sum above 0 in every group"):
            GroupCorrector(SECTORS).fit_transform(wide, weights=np.where(SECTORS == "Tech", 0.0, 1.0), **routed)


def test_the_way_back_asks_for_exposures_that_were_keys():
    long = make_long().assign(size=1.0)
    long["size"] = np.arange(len(long)) ** 2.0
    model = GroupCorrector(within="date", neutralize=["size"], return_group_stats=True)
    out = model.fit_transform(long.drop(columns="sector"))
    with pytest.raises(BatchfixError, match=r"must be given the exposures of fit, \['size'\]"):
        model.inverse_transform(out)


def test_weights_of_a_long_table_are_found_by_its_index():
    long = make_long(3)
    cap = pd.Series(np.arange(1.0, len(long) + 1), long.index)
    model = GroupCorrector(within="date", by="sector")
    want = model.fit_transform(long, weights=cap.to_numpy())
    assert_allclose(model.fit_transform(long, weights=cap.sample(frac=1.0, random_state=0)), want, rtol=1e-13)


# ---- what is never taken in silence


def test_truth_values_and_numbers_are_not_one_group():
    X = np.arange(8.0).reshape(2, 4)
    for labels in ([1, True, 2, 2], [np.int64(1), True, 2, 2], [1, np.True_, 2, 2], [0, False, 2.0, None]):
        with pytest.raises(BatchfixError, match="True or False among numbers"):
            GroupCorrector(labels).fit(X)
        with pytest.raises(BatchfixError, match="True or False among numbers"):
            GroupCorrector(pd.Series(labels, dtype=object)).fit(X)
    assert GroupCorrector([True, False, True, True]).fit(X).group_names_.tolist() == ["False", "True"]
    assert GroupCorrector(["1", 2, "x", "x"]).fit(X).group_names_.tolist() == ["1", "2", "x"]


def test_dates_of_two_kinds_do_not_part_a_day():
    table = pd.DataFrame({"date": [pd.Timestamp("2024-01-01"), "2024-01-01"] * 2, "x": [1.0, 2, 3, 5]})
    with pytest.raises(BatchfixError, match=r"dates such as .* among text"):
        GroupCorrector(within="date").fit(table)


def test_a_long_table_is_not_taken_for_a_wide_one():
    long = make_long(3)[FACTORS]
    with pytest.raises(BatchfixError, match=r"long table must say.*within='date'.*InstanceCorrector"):
        GroupCorrector().fit(long)
    assert InstanceCorrector().fit_transform(long).shape == long.shape


def test_ranks_of_residuals_do_not_know_the_scale_of_their_group():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(5, 12)) * np.repeat([1.0, 10.0, 0.1], 4)
    groups = [[0] * 12, ["a"] * 4 + ["b"] * 4 + [None] * 4]
    exposures = {"size": rng.normal(size=12)}
    found = [
        GroupCorrector(groups, method="rank", scale=scale).fit_transform(X, exposures=exposures)
        for scale in ("std", "mad", None)
    ]
    assert np.isfinite(found[0]).all()
    assert_array_equal(found[0], found[1])
    assert_array_equal(found[0], found[2])


def test_exposures_whose_names_are_one_as_text_are_refused():
    X = np.arange(8.0).reshape(2, 4) ** 2
    with pytest.raises(BatchfixError, match="different names as text; got 1 and '1'"):
        GroupCorrector().fit(X, exposures={1: np.arange(4.0), "1": np.ones(4)})


def test_parameters_changed_after_fit_are_not_passed_over():
    wide = make_wide()
    model = GroupCorrector(SECTORS).fit(wide)
    with pytest.raises(BatchfixError, match="groups must be those of fit"):
        model.set_params(groups=SECTORS[::-1].copy()).transform(wide)
    exposures = {"size": np.arange(9.0)}
    model = GroupCorrector(SECTORS, neutralize=["size"]).fit(wide, exposures=exposures)
    with pytest.raises(BatchfixError, match="got leave_one_out=True"):
        model.set_params(leave_one_out=True).transform(wide, exposures=exposures)
    named = pd.DataFrame(wide.to_numpy(), columns=[*wide.columns[:-1], "mean(Tech)"])
    model = GroupCorrector(SECTORS).fit(named)
    with pytest.raises(BatchfixError, match="names of their own"):
        model.set_params(return_group_stats=True).transform(named)


@pytest.mark.parametrize("shrinkage", [None, "eb"])
def test_a_fit_that_fails_leaves_all_as_it_was(shrinkage):
    wide = make_wide()
    model = GroupCorrector(SECTORS, shrinkage=shrinkage).fit(wide)
    before = model.transform(wide)
    spoilt = wide.copy()
    spoilt.iloc[0, 0] = np.inf
    with pytest.raises(BatchfixError, match="finite"):
        model.set_params(groups=SECTORS[::-1].copy()).fit(spoilt)
    pd.testing.assert_frame_equal(model.set_params(groups=SECTORS).transform(wide), before)


def test_infinity_is_named_with_its_place():
    wide = make_wide()
    wide.iloc[2, 3] = np.inf
    with pytest.raises(BatchfixError, match=r"row 2.*column 3|column 3.*row 2|row 2"):
        GroupCorrector(SECTORS).fit_transform(wide)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"within": {"date"}}, "one name or a list of names"),
        ({"within": "date", "by": "sector", "symbol": "symbol"}, "must have a symbol in 'symbol'; got none for 1"),
    ],
)
def test_keys_are_names_and_symbols_are_there(keys, says):
    table = make_long(3).reset_index()
    table.loc[4, "symbol"] = None
    with pytest.raises(BatchfixError, match=says):
        GroupCorrector(**keys).fit(table[["date", "symbol", "sector", *FACTORS]])


def test_wrong_labels_and_weights_are_one_sentence():
    wide = make_wide()
    with pytest.raises(BatchfixError, match=r"got \['a', 1\]"):
        GroupCorrector({wide.columns[0]: ["a", 1]}).fit(wide)
    with pytest.raises(BatchfixError, match="rows of one length"):
        GroupCorrector(SECTORS).fit(wide, weights=[[1], [1, 2]])


@pytest.mark.parametrize("kind", ["polars", "nullable"])
@pytest.mark.parametrize("model", [GroupCorrector(["u", "u", "v"]), InstanceCorrector()], ids=["groups", "rows"])
def test_float32_of_any_table_stays(kind, model):
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32), columns=list("abc"))
    out = model.fit_transform(pl.from_pandas(table) if kind == "polars" else table.convert_dtypes())
    assert np.asarray(out).dtype == np.float32


def test_a_polars_table_of_levels_is_read_by_position():
    X = pl.DataFrame(np.random.default_rng(0).normal(size=(4, 4)), schema=list("abcd"))
    levels = pl.DataFrame({"sector": ["u", "u", "v", "v"], "industry": ["p", "q", "r", "r"]})
    found = GroupCorrector(levels).fit_transform(X)
    wanted = GroupCorrector([["u", "u", "v", "v"], ["p", "q", "r", "r"]]).fit_transform(X.to_numpy())
    assert_array_equal(np.asarray(found), wanted)


def test_parameters_that_mean_the_same_merge():
    wide = make_wide()
    one = GroupCorrector(SECTORS, winsorize=(0.1, 0.9), ddof=1).fit(wide)
    assert one.merge(GroupCorrector(SECTORS, winsorize=[0.1, 0.9], ddof=1.0).fit(wide)).group_names_.size
