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

from batchfix import GroupCorrector
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
    assert_allclose(got, GroupCorrector(SECTORS).fit_transform(wide), rtol=1e-4, atol=1e-5)
    far = (1000.0 + np.random.default_rng(0).normal(size=(2, 5000))).astype(np.float32)
    assert_allclose(GroupCorrector(scale=None).fit_transform(far).mean(axis=1), 0.0, atol=1e-4)


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


def test_uncentred_groups_of_one_stay_as_they_are():
    assert_array_equal(GroupCorrector([0, 1, 1], center=None).fit_transform([[7.0, 2.0, 2.0]]), [[7.0, 2.0, 2.0]])


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
        want = (value - mean) / (1.0 if np.isnan(variance) else np.sqrt(variance))
        assert_allclose(got[i, j], want, rtol=1e-10, atol=1e-12)


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
    assert_allclose(back, long[FACTORS], rtol=1e-11, atol=1e-12)
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
