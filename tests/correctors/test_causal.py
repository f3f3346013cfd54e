"""CausalCorrector: a conforming transformer in which time goes one way, whatever table it comes in."""

import pickle
import warnings
from itertools import pairwise

import numpy as np
import pandas as pd
import polars as pl
import pytest
import skops.io
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from pandas.testing import assert_frame_equal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

from batchfix import CausalCorrector
from batchfix.correctors.causal import EXPECTED_FAILED_CHECKS
from batchfix.exceptions import BatchfixError, CopyWarning

KINDS = {
    "expanding": {},
    "rolling": {"window": "rolling", "length": 8},
    "ewm": {"window": "ewm", "halflife": 8.0},
    "median": {"window": "rolling", "length": 7, "center": "median", "scale": "mad"},
    "two days late": {"lag": 2, "scale": None, "min_periods": 1},
    "clip": {"bridge": "clip", "short": 10},
    "blend": {"bridge": "blend", "short": 4, "blend": 0.25, "window": "rolling", "length": 9},
    "ewm bridge": {"bridge": "ewm", "short": 3.5},
}
of_every_kind = pytest.mark.parametrize("kind", list(KINDS.values()), ids=list(KINDS))
RNG = np.random.default_rng(0)
N, P = 90, 4
DAYS = pd.date_range("2024-01-01", periods=N, freq="B", name="date")
VALUES = RNG.normal(0.1, 2.0, (N, P))
VALUES[RNG.random((N, P)) < 0.08] = np.nan
WIDE = pd.DataFrame(VALUES, index=DAYS, columns=pd.Index(["AAA", "BBB", "CCC", "DDD"], name="symbol"))


def long_of(wide: pd.DataFrame, factors: tuple[str, ...] = ("value", "size")) -> pd.DataFrame:
    """A row a date and symbol that has one; every factor another multiple and shift of the wide table."""
    stacked = wide.stack().rename("value").reset_index()
    for k, name in enumerate(factors):
        stacked[name] = stacked["value"] * (1 + k) + k
    return stacked


LONG = long_of(WIDE)


# ---- scikit-learn


@of_every_kind
def test_it_conforms_to_scikit_learn_but_for_what_a_causal_pass_must_not_do(kind):
    estimator = CausalCorrector(**kind)
    results = check_estimator(estimator, expected_failed_checks=EXPECTED_FAILED_CHECKS, on_fail=None, on_skip=None)
    assert {r["check_name"] for r in results if r["status"] == "xfail"} == set(EXPECTED_FAILED_CHECKS)
    for result in results:
        if result["status"] == "xfail":
            assert isinstance(result["exception"], AssertionError), (result["check_name"], result["exception"])
        elif result["check_name"] != "check_array_api_input":
            assert result["status"] == "passed", (result["check_name"], result["exception"])


def test_cross_validation_over_time():
    y = np.nan_to_num(WIDE.shift(-1)["AAA"].to_numpy())
    model = make_pipeline(CausalCorrector(), FilledRidge())
    table = WIDE.fillna(0.0)
    found = cross_val_score(model, table, y, cv=TimeSeriesSplit(4), error_score="raise")
    assert np.isfinite(found).all()
    for (train, test), score in zip(TimeSeriesSplit(4).split(table), found, strict=True):
        z = CausalCorrector().fit_transform(table.iloc[: test[-1] + 1])
        ridge = FilledRidge().fit(z.iloc[train], y[train])
        assert_allclose(ridge.score(z.iloc[test], y[test]), score, rtol=1e-12)


class FilledRidge(Ridge):
    """A model for scores that may be missing."""

    def fit(self, X, y):
        return super().fit(np.nan_to_num(np.asarray(X)), y)

    def predict(self, X):
        return super().predict(np.nan_to_num(np.asarray(X)))


def test_in_a_search():
    model = make_pipeline(CausalCorrector("rolling", length=5), FilledRidge())
    y = np.arange(float(N))
    search = GridSearchCV(model, {"causalcorrector__length": [5, 10]}, cv=TimeSeriesSplit(3), error_score="raise").fit(
        WIDE, y
    )
    assert search.best_params_["causalcorrector__length"] in (5, 10)


def test_a_shuffled_fold_is_refused():
    model = make_pipeline(CausalCorrector(), FilledRidge())
    with pytest.raises(BatchfixError, match="later than those already seen"):
        cross_val_score(model, WIDE, np.arange(float(N)), cv=3, error_score="raise")


# ---- fit, transform, partial_fit


@of_every_kind
@given(cuts=st.sets(st.integers(31, N - 1), max_size=4), seed=st.integers(0, 99))
@settings(max_examples=8, deadline=None)
def test_whoever_cuts_the_rows_the_numbers_are_the_same(kind, cuts, seed):
    X = np.random.default_rng(seed).normal(size=(N, P))
    X[seed % 7 :: 11, seed % P] = np.nan
    whole = CausalCorrector(**kind).fit_transform(X)
    model, edges = CausalCorrector(**kind), [30, *sorted(cuts), N]
    parts = [model.fit_transform(X[:30])]
    for a, b in pairwise(edges):
        parts.append(model.transform(X[a:b]))
        model.partial_fit(X[a:b])
    assert_array_equal(np.concatenate(parts), whole)
    again = CausalCorrector(**kind).fit(X)
    new = np.random.default_rng(seed + 1).normal(size=(5, P))
    assert_array_equal(model.transform(new), again.transform(new))


@of_every_kind
def test_advance_is_transform_and_partial_fit(kind):
    one, two = (CausalCorrector(**kind, by="symbol", time="date") for _ in range(2))
    days = [day for _, day in LONG.groupby("date")]
    one.advance(days[0])
    two.partial_fit(days[0])
    for day in days[1:]:
        want = two.transform(day)
        two.partial_fit(day)
        assert_frame_equal(one.advance(day), want)
    assert pickle.dumps(one) == pickle.dumps(two)
    with pytest.raises(BatchfixError, match="later"):
        one.advance(days[0])
    assert pickle.dumps(one) == pickle.dumps(two)


def test_advance_gives_the_container_that_was_asked_for():
    model = CausalCorrector().set_output(transform="pandas")
    assert isinstance(model.advance(WIDE.to_numpy()), pd.DataFrame)


@of_every_kind
def test_transform_stores_nothing(kind):
    model = CausalCorrector(**kind).fit(WIDE[:60])
    before = pickle.dumps(model)
    first = model.transform(WIDE[60:])
    assert pickle.dumps(model) == before
    assert_array_equal(model.transform(WIDE[60:]), first)


def test_partial_fit_from_nothing_is_fit():
    one, two = CausalCorrector("rolling", length=40), CausalCorrector("rolling", length=40).fit(WIDE)
    for day in range(N):  # a window longer than the first pieces is built up
        one.partial_fit(WIDE.iloc[day : day + 1])
    assert_array_equal(one.state_.pasts[0].rows, two.state_.pasts[0].rows)
    assert one.last_time_ == two.last_time_ == DAYS[-1].value


@of_every_kind
def test_a_fitted_model_can_be_stored(kind, tmp_path):
    model = CausalCorrector(**kind, by="symbol", time="date").fit(LONG[LONG["date"] < DAYS[60]])
    later = LONG[LONG["date"] >= DAYS[60]]
    want = model.transform(later)
    assert_array_equal(pickle.loads(pickle.dumps(model)).transform(later), want)
    file = tmp_path / "model.skops"
    skops.io.dump(model, file)
    unknown = skops.io.get_untrusted_types(file=file)
    assert all(name.startswith("batchfix.") for name in unknown)
    assert_array_equal(skops.io.load(file, trusted=unknown).transform(later), want)


def test_the_state_does_not_hold_the_rows_of_fit():
    X = np.random.default_rng(1).normal(size=(5000, 3))
    for kind in ({}, {"window": "ewm", "halflife": 20.0}, {"window": "rolling", "length": 25}):
        assert len(pickle.dumps(CausalCorrector(**kind).fit(X))) < 3000 + 25 * 3 * 8


# ---- tables


@pytest.mark.parametrize("index", [DAYS, DAYS.tz_localize("UTC"), DAYS.to_period("D"), pd.RangeIndex(N)], ids=str)
def test_wide_tables_come_back_as_they_came(index):
    table = WIDE.set_axis(index)
    out = CausalCorrector().fit_transform(table)
    assert_array_equal(out, CausalCorrector().fit_transform(VALUES))
    pd.testing.assert_index_equal(out.index, index)
    pd.testing.assert_index_equal(out.columns, WIDE.columns)
    model = CausalCorrector().fit(table[:50])
    assert_array_equal(model.transform(table[50:]), out[50:])


def test_times_in_a_column_or_level():
    want = CausalCorrector().fit_transform(WIDE)
    table = WIDE.rename_axis(columns=None)
    column = CausalCorrector(time="date").fit_transform(table.reset_index())
    assert column.columns.tolist() == table.columns.tolist()
    assert_array_equal(column, want)
    level = CausalCorrector(time="date").fit_transform(table.set_index(pd.Index(range(N), name="n"), append=True))
    assert level.index.names == ["date", "n"]
    assert_array_equal(level, want)
    numbers = np.column_stack([np.arange(N) * 1.5, VALUES])
    assert_array_equal(CausalCorrector(time=0).fit_transform(numbers), want)


def pivoted(table: pd.DataFrame, factor: str) -> pd.DataFrame:
    return table.pivot_table(index="date", columns="symbol", values=factor)


@of_every_kind
@pytest.mark.parametrize("order", ["by date", "by symbol", "shuffled"])
def test_long_tables_are_wide_ones(kind, order):
    table = {
        "by date": LONG,
        "by symbol": LONG.sort_values(["symbol", "date"]),
        "shuffled": LONG.sample(frac=1.0, random_state=0),
    }[order]
    out = CausalCorrector(**kind, time="date", by="symbol").fit_transform(table)
    assert out.columns.tolist() == ["value", "size"]
    pd.testing.assert_index_equal(out.index, table.index)
    keyed = out.assign(date=table["date"], symbol=table["symbol"])
    for k, factor in enumerate(out.columns):
        want = CausalCorrector(**kind).fit_transform(WIDE * (1 + k) + k)
        got = pivoted(keyed, factor).reindex(index=DAYS, columns=want.columns)
        assert_array_equal(got, want)


def test_long_tables_with_index_levels():
    table = LONG.set_index(["date", "symbol"])
    out = CausalCorrector(time="date", by="symbol").fit_transform(table)
    assert_array_equal(out, CausalCorrector(time="date", by="symbol").fit_transform(LONG))
    assert out.index.names == ["date", "symbol"]
    dated = LONG.set_index("date")
    assert_array_equal(CausalCorrector(by="symbol").fit_transform(dated), out)


def test_long_arrays_by_position():
    days, symbols = pd.factorize(LONG["date"])[0], pd.factorize(LONG["symbol"])[0]
    array = np.column_stack([LONG[["value"]], days, LONG[["size"]], symbols]).astype(float)
    out = CausalCorrector(time=1, by=3).fit_transform(array)
    assert_array_equal(out, CausalCorrector(time="date", by="symbol").fit_transform(LONG))


@of_every_kind
def test_long_tables_can_be_cut_at_any_date_and_gain_symbols(kind):
    table = LONG[(LONG["symbol"] != "BBB") | (LONG["date"] >= DAYS[55])].sort_values("date", kind="stable")
    model = CausalCorrector(**kind, time="date", by="symbol")
    whole = clone(model).fit_transform(table)
    parts = [model.fit_transform(table[table["date"] < DAYS[40]])]
    assert "BBB" not in model.symbols_.tolist()
    for a, b in ((40, 50), (50, 70), (70, N)):
        piece = table[(table["date"] >= DAYS[a]) & (table["date"] <= DAYS[b - 1])]
        parts.append(model.transform(piece))
        model.partial_fit(piece)
    assert_array_equal(pd.concat(parts), whole)
    assert sorted(model.symbols_.tolist()) == ["AAA", "BBB", "CCC", "DDD"]


def test_groups_of_symbols_do_not_show(monkeypatch):
    want = CausalCorrector(time="date", by="symbol").fit_transform(LONG)
    monkeypatch.setattr("batchfix.correctors.panels.PIVOT_VALUES", 1)
    model = CausalCorrector(time="date", by="symbol")
    assert_array_equal(model.fit_transform(LONG), want)
    later = LONG.assign(date=LONG["date"] + pd.Timedelta(days=400))
    alone = model.transform(later)
    monkeypatch.undo()
    assert_array_equal(model.transform(later), alone)


def test_polars_tables():
    wide = pl.from_pandas(WIDE.rename_axis(columns=None).reset_index())
    out = CausalCorrector(time="date").fit_transform(wide)
    assert isinstance(out, pl.DataFrame)
    assert_array_equal(out.to_numpy(), CausalCorrector().fit_transform(WIDE))
    long = CausalCorrector(time="date", by="symbol").fit_transform(pl.from_pandas(LONG))
    assert_array_equal(long.to_numpy(), CausalCorrector(time="date", by="symbol").fit_transform(LONG))
    as_polars = CausalCorrector().set_output(transform="polars").fit_transform(WIDE.rename_axis(columns=None))
    assert isinstance(as_polars, pl.DataFrame)


def test_set_output_names_the_columns():
    model = CausalCorrector(time="date", by="symbol").set_output(transform="pandas")
    out = model.fit_transform(LONG)
    assert out.columns.tolist() == model.get_feature_names_out().tolist() == ["value", "size"]
    pd.testing.assert_index_equal(out.index, LONG.index)
    arrays = CausalCorrector().set_output(transform="pandas").fit_transform(VALUES)
    assert arrays.columns.tolist() == ["x0", "x1", "x2", "x3"]


@of_every_kind
def test_single_precision_stays(kind):
    found = CausalCorrector(**kind).fit_transform(VALUES.astype(np.float32))
    assert found.dtype == np.float32
    # values rounded by 6e-8 of themselves, over spreads that are a hundredth of them at the least
    assert_allclose(found, CausalCorrector(**kind).fit_transform(VALUES), rtol=1e-5, atol=1e-5)
    long = CausalCorrector(**kind, time="date", by="symbol").fit_transform(LONG.astype({"value": "f4", "size": "f4"}))
    assert set(long.dtypes) == {np.dtype(np.float32)}


def test_the_table_is_not_touched_unless_asked():
    for table in (VALUES.copy(), WIDE.copy()):
        before = table.copy()
        CausalCorrector().fit_transform(table)
        assert_array_equal(table, before)
    array = VALUES.copy()
    out = CausalCorrector(copy=False).fit_transform(array)
    assert np.shares_memory(out, array)
    assert_array_equal(out, CausalCorrector().fit_transform(VALUES))
    with pytest.warns(CopyWarning):
        CausalCorrector(copy=False).fit_transform(WIDE)


def test_missing_and_constant_columns():
    table = WIDE.assign(EEE=np.nan, FFF=7.25)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out = CausalCorrector().fit_transform(table)
    assert out["EEE"].isna().all()
    assert (out["FFF"][2:] == 0).all()
    assert out[WIDE.isna()].isna().all(axis=None)


# ---- and back


@pytest.mark.parametrize("kind", ["expanding", "rolling", "ewm"])
def test_values_after_the_state_are_restored(kind):
    model = CausalCorrector(**KINDS[kind]).fit(WIDE[:50])
    back = model.inverse_transform(model.transform(WIDE[50:]))
    pd.testing.assert_frame_equal(back, WIDE[50:], check_exact=False, rtol=1e-10, check_freq=False)
    table = LONG.set_index(["date", "symbol"]).sort_index()
    model = CausalCorrector(**KINDS[kind], time="date", by="symbol").fit(table[: DAYS[49]])
    later = table[DAYS[50] :]
    pd.testing.assert_frame_equal(model.inverse_transform(model.transform(later)), later, rtol=1e-10)


# ---- what is refused, and in which words


def dates(*swap: int) -> pd.DataFrame:
    order = np.arange(N)
    order[list(swap)] = order[list(swap)[::-1]]
    return WIDE.iloc[order]


FITTED = CausalCorrector().fit(WIDE)
TWICE = pd.concat([LONG, LONG.iloc[[5]]])
GAP = WIDE.set_axis(DAYS.where(np.arange(N) != 7))
LATER = WIDE.set_axis(DAYS + pd.Timedelta(days=365))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: CausalCorrector("rolling").fit(WIDE), ("length", "rolling", "None")),
        (lambda: CausalCorrector(length=5).fit(WIDE), ("length", "length=5", "expanding")),
        (lambda: CausalCorrector("ewm").fit(WIDE), ("halflife", "None")),
        (lambda: CausalCorrector("ewm", halflife=0).fit(WIDE), ("halflife", "0")),
        (lambda: CausalCorrector("past").fit(WIDE), ("window", "past")),
        (lambda: CausalCorrector(lag=-1).fit(WIDE), ("lag", "-1")),
        (lambda: CausalCorrector(center="median").fit(WIDE), ("median", "every value", "rolling")),
        (lambda: CausalCorrector(scale="mad").fit(WIDE), ("MAD", "rolling")),
        (lambda: CausalCorrector(center=None, scale=None).fit(WIDE), ("None for both",)),
        (lambda: CausalCorrector("rolling", length=91).fit(WIDE), ("91 rows", "n_samples=90", "partial_fit")),
        (lambda: CausalCorrector("rolling", length=3, min_periods=4).fit(WIDE), ("min_periods=4", "3 row")),
        (lambda: CausalCorrector(bridge="clip").fit(WIDE), ("short", "None")),
        (lambda: CausalCorrector(short=5).fit(WIDE), ("bridge=None", "short=5")),
        (lambda: CausalCorrector(bridge="clip", short=2.5).fit(WIDE), ("whole number", "2.5", "ewm")),
        (lambda: CausalCorrector(bridge="clip", short=5, scale=None).fit(WIDE), ("frames", "scale=None")),
        (lambda: CausalCorrector("rolling", length=9, bridge="clip", short=9).fit(WIDE), ("shorter", "9")),
        (lambda: CausalCorrector(bridge="clip", short=5, r_max=0.5).fit(WIDE), ("r_max", "0.5")),
        (lambda: CausalCorrector().fit(dates(3, 4)), ("rise", "2024-01-05 in row 3", "2024-01-04 in row 4", "Sort")),
        (lambda: CausalCorrector().fit(WIDE.iloc[[0, 1, 1, 2]]), ("repeat", "2024-01-02 in rows 1 and 2", "by=")),
        (lambda: CausalCorrector().fit(GAP), ("NaT", "row 7")),
        (lambda: CausalCorrector(time="date").fit(LONG.drop(columns="symbol")), ("repeat", "by='symbol'")),
        (lambda: CausalCorrector(time="day").fit(LONG), ("'day'", "column or an index level")),
        (lambda: CausalCorrector(by="symbol").fit(LONG.drop(columns="date")), ("time of each row", "time='date'")),
        (lambda: CausalCorrector(time="symbol").fit(LONG.drop(columns="date")), ("dates, periods or numbers", "'AAA'")),
        (lambda: CausalCorrector(time="date", by="symbol").fit(TWICE), ("one row a date", "'BBB'", "2024-01-02")),
        (lambda: CausalCorrector().fit(LONG.set_index(["date", "symbol"])), ("time='date'", "by='symbol'")),
        (lambda: CausalCorrector(time="date", by="symbol").fit(LONG.assign(symbol=None)), ("label", "'symbol'")),
        (lambda: CausalCorrector().fit(WIDE.replace(WIDE.iloc[4, 0], np.inf)), ("infinity",)),
        (lambda: CausalCorrector().fit(WIDE * 1e200), ("1e154", "Rescale")),
        (lambda: FITTED.transform(WIDE), ("later", "2024-05-03", "2024-01-01")),
        (lambda: clone(FITTED).fit(WIDE).partial_fit(WIDE[-1:]), ("later", "2024-05-03")),
        (lambda: FITTED.transform(LATER.tz_localize("UTC")), ("datetime UTC", "kind")),
        (lambda: FITTED.transform(LATER.reset_index(drop=True)), ("must have times", "time='date'")),
        (lambda: CausalCorrector().fit(WIDE.reset_index(drop=True)).transform(WIDE), ("without times",)),
        (lambda: FITTED.transform(LATER[["BBB", "AAA", "CCC", "DDD"]]), ("feature names",)),
        (lambda: CausalCorrector(lag=0).fit(WIDE).inverse_transform(LATER), ("lag=0",)),
        (lambda: CausalCorrector(bridge="clip", short=5).fit(WIDE).inverse_transform(LATER), ("bridge='clip'",)),
        (lambda: CausalCorrector().fit(WIDE[:1]).inverse_transform(LATER * np.nan), ("row 0", "too short")),
    ],
)
def test_wrong_use_says_what_must_hold_and_what_came(make, words):
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # ours, and scikit-learn's own on names
        make()
    for word in words:
        assert word in str(caught.value)


def test_a_failed_partial_fit_changes_nothing():
    model = CausalCorrector(time="date", by="symbol").fit(LONG)
    before = pickle.dumps(model)
    later = LONG.assign(date=LONG["date"] + pd.Timedelta(days=365))
    later.loc[3, "value"] = np.inf
    with pytest.raises(BatchfixError, match="infinity"):
        model.partial_fit(later)
    assert pickle.dumps(model) == before


# ---- a past goes on as it began


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        ({}, {"lag": 2}, ("lag=1", "lag=2")),
        ({"lag": 2}, {"lag": 1}, ("lag=2", "lag=1")),
        ({}, {"lag": 0}, ("lag=0",)),
        ({}, {"window": "rolling", "length": 5}, ("'expanding'", "'rolling'")),
        ({"window": "rolling", "length": 5}, {"window": "expanding", "length": None}, ("'rolling'",)),
        ({"window": "rolling", "length": 10}, {"length": 5}, ("length=10", "length=5")),
        ({"window": "ewm", "halflife": 10.0}, {"halflife": 2.0}, ("halflife=10.0", "halflife=2.0")),
        ({"bridge": "clip", "short": 10}, {"short": 5}, ("short=10", "short=5")),
        ({}, {"bridge": "clip", "short": 5}, ("bridge=None", "bridge='clip'")),
        ({"bridge": "blend", "short": 5}, {"blend": 0.25}, ("blend=0.5", "blend=0.25")),
        ({}, {"ddof": 0}, ("ddof=1", "ddof=0")),
        ({}, {"time": "AAA"}, ("time=None", "time='AAA'")),
        ({}, {"by": "AAA"}, ("by=None", "by='AAA'")),
    ],
    ids=str,
)
@pytest.mark.parametrize("verb", ["transform", "partial_fit", "inverse_transform"])
def test_a_parameter_changed_after_fit_is_refused(kind, change, words, verb):
    model = CausalCorrector(**kind).fit(WIDE[:60])
    model.set_params(**change)
    with pytest.raises(BatchfixError, match="go on as it began") as caught:
        getattr(model, verb)(WIDE[60:])
    for word in (*words, "fit()"):
        assert word in str(caught.value)


def test_what_the_past_does_not_hold_may_change():
    model = CausalCorrector().fit(WIDE[:60])
    want = model.transform(WIDE[60:])
    assert_array_equal(model.set_params(r_max=7.0, min_periods=np.int64(2)).transform(WIDE[60:]), want)


@pytest.mark.parametrize("as_symbol", [int, np.int32, float, "datetime64[ns]", "category"], ids=str)
def test_symbols_of_every_kind_go_on(as_symbol):
    codes = pd.Series(pd.factorize(LONG["symbol"])[0] + 10107, index=LONG.index)
    table = LONG.assign(symbol=codes.astype(as_symbol))
    model = CausalCorrector(time="date", by="symbol")
    whole = clone(model).fit_transform(LONG)
    parts = [model.fit_transform(table[table["date"] < DAYS[40]])]
    parts.append(model.transform(table[table["date"] >= DAYS[40]]))
    assert_array_equal(pd.concat(parts), whole)
    model.partial_fit(table[table["date"] >= DAYS[40]])
    assert_array_equal(model.symbols_, np.sort(table["symbol"].unique().astype(model.symbols_.dtype)))


def test_long_arrays_go_on():
    days, symbols = pd.factorize(LONG["date"])[0], pd.factorize(LONG["symbol"])[0]
    array = np.column_stack([days, symbols, LONG["value"]]).astype(float)
    whole = CausalCorrector(time=0, by=1).fit_transform(array)
    early = days < 40
    model = CausalCorrector(time=0, by=1).fit(array[early])
    assert_array_equal(model.transform(array[~early]), whole[~early])


def test_new_symbols_stand_sorted_after_those_known():
    model = CausalCorrector(time="date", by="symbol").fit(LONG[(LONG["symbol"] == "CCC") & (LONG["date"] < DAYS[40])])
    later = LONG[LONG["date"] >= DAYS[40]]
    model.partial_fit(later.sort_values("symbol", ascending=False))
    assert model.symbols_.tolist() == ["CCC", "AAA", "BBB", "DDD"]


def test_symbols_at_moments_of_their_own():
    table = LONG.assign(date=LONG["date"] + pd.to_timedelta(np.arange(len(LONG)), "s"))
    model = CausalCorrector(time="date", by="symbol")
    out = model.fit_transform(pd.concat([table] + [table.assign(symbol=f"S{k}") for k in range(20)]))
    assert_array_equal(out[: len(table)], model.fit_transform(table))
    twice = pd.concat([table] + [table.assign(symbol=f"S{k}") for k in range(20)] + [table.iloc[[5]]])
    with pytest.raises(BatchfixError, match="one row a date"):
        model.fit(twice)


# ---- errors leave things as they were


@pytest.mark.parametrize(
    ("kind", "spoil"),
    [
        ({}, lambda t: t.rename(columns={"AAA": "ZZZ"}).replace(t.iloc[4, 0], np.inf)),
        ({}, lambda t: t.rename(columns={"AAA": "ZZZ"})[::-1]),
        ({"window": "rolling", "length": 50}, lambda t: t.rename(columns={"AAA": "ZZZ"})[:30]),
    ],
)
def test_a_failed_fit_changes_nothing(kind, spoil):
    model = CausalCorrector(**kind).fit(WIDE[:60])
    want = model.transform(WIDE[60:])
    with pytest.raises(BatchfixError):
        model.fit(spoil(WIDE))
    assert_array_equal(model.transform(WIDE[60:]), want)
    with pytest.raises(ValueError, match="feature names"):
        model.transform(WIDE[60:].rename(columns={"AAA": "ZZZ"}))
    new = CausalCorrector(**kind)
    with pytest.raises(BatchfixError):
        new.fit(spoil(WIDE))
    with pytest.raises(NotFittedError):
        new.transform(WIDE)


@pytest.mark.parametrize("bad", [np.inf, 1e200])
def test_an_array_that_is_refused_is_not_written_over(bad):
    array = np.random.default_rng(0).normal(size=(3000, 3))
    array[2999, 0] = bad
    before = array.copy()
    with pytest.raises(BatchfixError, match="row 2999, column 0" if np.isinf(bad) else "1e154"):
        CausalCorrector(copy=False, lag=0).fit_transform(array)
    assert_array_equal(array, before)
    array[2999, 0] = 1e152  # large, and no more
    out = CausalCorrector(copy=False).fit_transform(array)
    assert np.shares_memory(out, array)
    assert np.isfinite(out[2:]).all()


def test_where_infinity_is():
    for table, model in ((VALUES, CausalCorrector()), (LONG, CausalCorrector(time="date", by="symbol"))):
        spoiled = table.copy()
        if table is LONG:
            spoiled.loc[7, "size"] = -np.inf
        else:
            spoiled[7, 1] = -np.inf
        with pytest.raises(BatchfixError, match="row 7, column 1"):
            model.fit_transform(spoiled)


# ---- times in every dress


@pytest.mark.parametrize("freq", ["M", "Q", "Y", "5D", "W"])
def test_periods_in_messages(freq):
    table = WIDE.set_axis(pd.period_range("2024-01-01", periods=N, freq=freq))
    first, last = str(table.index[0]), str(table.index[-1])
    with pytest.raises(BatchfixError, match=f"end at {last}; got {first} in row 0"):
        CausalCorrector().fit(table).transform(table)
    with pytest.raises(BatchfixError, match="Sort the rows"):
        CausalCorrector().fit(table[::-1])
    with pytest.raises(BatchfixError, match=f"repeat, got {first}"):
        CausalCorrector().fit(table.iloc[[0, 0, 1]])


@pytest.mark.parametrize("kind", ["date", "Timestamp", "period", "timedelta"])
def test_times_as_objects_are_times(kind):
    objects = {
        "date": [day.date() for day in DAYS],
        "Timestamp": list(DAYS),
        "period": list(DAYS.to_period("D")),
        "timedelta": list(DAYS - DAYS[0]),
    }[kind]
    table = WIDE.set_axis(pd.Index(objects, dtype=object))
    assert table.index.dtype == object
    model = CausalCorrector()
    assert_array_equal(model.fit_transform(table), CausalCorrector().fit_transform(WIDE))
    with pytest.raises(BatchfixError, match="later than those"):
        model.transform(table)
    with pytest.raises(BatchfixError, match="Sort the rows"):
        model.fit(table[::-1])


@pytest.mark.parametrize("form", ["%Y-%m-%d", "%Y-%m", "%d/%m/%Y", "%Y-%m-%d %H:%M", "%d.%m.%Y"])
def test_dates_as_text_are_refused(form):
    table = WIDE.set_axis(DAYS.strftime(form))
    with pytest.raises(BatchfixError, match="to_datetime"):
        CausalCorrector().fit(table[::-1])
    with pytest.raises(BatchfixError, match="must be named"):
        CausalCorrector().fit(table.set_index(pd.Index(range(N), name="n"), append=True))


def test_names_of_rows_are_no_dates():
    names = WIDE.set_axis([f"day-{k}" for k in range(N)])
    assert_array_equal(CausalCorrector().fit_transform(names), CausalCorrector().fit_transform(VALUES))


def old() -> pd.DataFrame:
    """Rows of days around 1559."""
    return WIDE.set_axis(pd.DatetimeIndex(np.arange(N).astype("M8[D]").astype("M8[s]") - np.timedelta64(150_000, "D")))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: CausalCorrector(lag=True).fit(WIDE), ("lag", "True")),
        (lambda: CausalCorrector("ewm", halflife=1e-4).fit(WIDE), ("halflife", "0.0001")),
        (lambda: CausalCorrector("ewm", halflife=5.0, ddof=2).fit(WIDE), ("ddof", "at most 1")),
        (lambda: CausalCorrector(bridge="ewm", short=1e-5).fit(WIDE), ("half-life", "1e-05")),
        (lambda: CausalCorrector(bridge="ewm", short=5, ddof=2).fit(WIDE), ("ddof", "at most 1")),
        (lambda: CausalCorrector(time="date", by="date").fit(LONG), ("two columns", "'date'")),
        (lambda: CausalCorrector().fit(old()), ("1677", "PeriodIndex")),
        (lambda: CausalCorrector().fit(WIDE.set_axis(np.arange(N, dtype=np.uint64))), ()),
        (
            lambda: CausalCorrector(time="t").fit(WIDE.assign(t=np.arange(N, dtype=np.uint64) + np.uint64(2**63))),
            ("int64", "9223372036854775"),
        ),
        (lambda: FITTED.transform(WIDE.reset_index(drop=True)), ("ending at 2024-05-03",)),
        (
            lambda: (
                CausalCorrector(time="t").fit(WIDE[:1].assign(t=20240101.5)).transform(WIDE[:1].assign(t=20240101.0))
            ),
            ("20240101.5", "20240101 in row 0"),
        ),
    ],
)
def test_what_is_out_of_range_is_said(make, words):
    if not words:
        make()
        return
    with pytest.raises(BatchfixError) as caught:
        make()
    for word in words:
        assert word in str(caught.value)


# ---- bridges


@pytest.mark.parametrize(
    "open_", [{"bridge": "clip", "r_max": np.inf, "d_max": np.inf}, {"bridge": "blend", "blend": 1.0}]
)
def test_a_bridge_all_the_way_is_the_long_window_alone(open_):
    table = VALUES.copy()
    table[20:30, 0], table[40:50, 1], table[60, 2] = 1.5, np.nan, 1e12
    for long in ({}, {"window": "rolling", "length": 12}):
        want = CausalCorrector(**long).fit_transform(table)
        assert_array_equal(CausalCorrector(**open_, **long, short=5).fit_transform(table), want)
