"""The causality check passes what never looks ahead, and finds, names and measures what does."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_array_equal
from scipy.sparse import csr_array
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import PCA
from sklearn.feature_selection import SelectKBest, f_regression
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MaxAbsScaler, OneHotEncoder, StandardScaler

from batchfix import BatchCorrector, CausalCorrector, GroupCorrector
from batchfix.diagnostics import check_causality
from batchfix.exceptions import BatchfixError

RNG = np.random.default_rng(0)
N, P = 80, 3
X = RNG.normal(size=(N, P))
DAYS = pd.date_range("2024-01-01", periods=N, freq="B", name="date")
WIDE = pd.DataFrame(X, index=DAYS, columns=["AAA", "BBB", "CCC"])
LONG = WIDE.rename_axis(columns="symbol").stack().rename("value").reset_index()


class Recorder(TransformerMixin, BaseEstimator):
    """A row's own values: causal; it counts what it is given."""

    seen: list = []  # noqa: RUF012  # one list for all clones

    def fit(self, X, y=None, sample_weight=None):
        self.n_features_in_ = X.shape[1]
        Recorder.seen.append((X.copy(), y, sample_weight))
        return self

    def transform(self, X):
        return 2 * np.asarray(X)


class Leak(TransformerMixin, BaseEstimator):
    """Adds to row `to` what row `origin` holds, `size` times."""

    def __init__(self, to=10, origin=50, size=1.0, column=1):
        self.to, self.origin, self.size, self.column = to, origin, size, column

    def fit(self, X, y=None):
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X):
        out = np.array(X, dtype=float)
        if len(out) > self.origin:
            out[self.to, self.column] += self.size * out[self.origin, self.column]
        return out


# ---- what passes


@pytest.mark.parametrize(
    "transformer",
    [
        CausalCorrector(),
        CausalCorrector("rolling", length=8, lag=2),
        CausalCorrector("ewm", halflife=5.0),
        CausalCorrector("rolling", length=8, center="median", scale="mad"),
        CausalCorrector(bridge="clip", short=6),
        make_pipeline(CausalCorrector(), SimpleImputer(strategy="constant")),
        FunctionTransformer(np.abs),
        Recorder(),
    ],
    ids=str,
)
@pytest.mark.parametrize("table", [X, WIDE, WIDE.reset_index(drop=True)], ids=["array", "dates", "frame"])
def test_what_never_looks_ahead_passes_to_the_bit(transformer, table):
    found = check_causality(transformer, table, tolerance=0)
    assert found.causal
    assert found
    assert found.probe is found.cut is found.row is found.column is None
    assert len(found.cuts) == 5
    assert str(found).startswith("Causal: at 5 cuts")


def test_long_panels_pass():
    found = check_causality(CausalCorrector(time="date", by="symbol"), LONG, time="date", tolerance=0)
    assert found
    assert found.probes == ("truncate", "noise", "scale", "missing", "gap", "held out")
    shuffled = LONG.sample(frac=1.0, random_state=0)
    assert check_causality(CausalCorrector(time="date", by="symbol"), shuffled, time="date", tolerance=0)
    levels = LONG.set_index(["date", "symbol"])
    assert check_causality(CausalCorrector(time="date", by="symbol"), levels, time="date", tolerance=0)


def test_a_matrix_product_passes_within_rounding():
    Q = np.linalg.qr(RNG.normal(size=(P, P)))[0]
    assert check_causality(lambda x: x @ Q, X)


def test_polars_and_sparse_tables():
    wide = pl.from_pandas(WIDE.reset_index())
    assert check_causality(CausalCorrector(time="date"), wide, time="date", tolerance=0)
    leaky = check_causality(lambda t: t.select(pl.col("AAA") / pl.col("AAA").max()), wide, time="date")
    assert not leaky
    assert leaky.column == "AAA"
    assert not check_causality(MaxAbsScaler(), csr_array(X))


# ---- what does not


@pytest.mark.parametrize("transformer", [StandardScaler(), PCA(2), BatchCorrector(target="standard")], ids=str)
@pytest.mark.filterwarnings("ignore::batchfix.exceptions.BatchfixWarning")
def test_what_is_learned_from_all_rows_fails(transformer):
    found = check_causality(transformer, X)
    assert not found
    assert found.probe == "truncate"
    assert found.change > 1e-3


def test_pandas_on_all_of_history_and_on_the_past():
    assert not check_causality(lambda t: (t - t.mean()) / t.std(), WIDE)
    assert not check_causality(lambda t: t.bfill(), WIDE.mask(WIDE > 1))
    assert not check_causality(lambda t: t.shift(-1), WIDE)
    assert not check_causality(lambda t: t.rolling(5, center=True).mean(), WIDE)
    assert check_causality(lambda t: t.shift(1).rolling(5).mean(), WIDE)
    assert check_causality(lambda t: (t - t.expanding().mean()) / t.expanding().std(), WIDE)


def test_the_first_value_that_moved_is_named():
    leak = X[50, 1]
    found = check_causality(Leak(), X, cuts=[20, 45, 60])
    assert (found.probe, found.cut, found.row, found.column) == ("truncate", 20, 10, 1)
    assert found.before == pytest.approx(X[10, 1] + leak)
    assert found.after == pytest.approx(X[10, 1])
    assert found.change == pytest.approx(abs(leak))

    def dated(table):
        return pd.DataFrame(Leak().fit(table).transform(table), index=table.index, columns=table.columns)

    found = check_causality(dated, WIDE)
    assert (found.row, found.column) == (DAYS[10], "BBB")


def test_cuts_are_the_last_times_of_their_pasts():
    at = [DAYS[20], DAYS[45] + pd.Timedelta(hours=5), DAYS[60]]
    found = check_causality(Leak(), WIDE, cuts=at)
    assert found.cuts == (DAYS[20], DAYS[45], DAYS[60])
    assert found.cut == DAYS[20]
    late = check_causality(Leak(to=40), WIDE, cuts=["2024-01-10", *at])
    assert late.cut == DAYS[45]  # before that, row 40 is no past
    assert check_causality(Leak(), WIDE, cuts=[DAYS[60]])  # row 50 is in its past
    rows = check_causality(Leak(), X, cuts=[11, 50, 51])
    assert rows.cut == 11
    assert check_causality(Leak(), X, cuts=[10, 51], held_out=False)


def test_only_a_changed_future_shows_some_leaks():
    class Length(Leak):
        """As long as rows are the same in number, truncation shows nothing: it looks at the last row's sign."""

        def transform(self, X):
            out = np.array(X, dtype=float)
            if len(out) == N:
                out[5] += out[-1]
            else:
                out[5] += X_LAST
            return out

    found = check_causality(Length(), X)
    assert found.probe == "noise"
    assert found.row == 5


X_LAST = X[-1]


def test_a_leak_of_missingness_is_found():
    def last_seen(t):
        """0, unless anything is missing."""
        return t * 0 if np.isnan(t).any() else t * 0 + 1.0

    array = X.copy()
    array[0, 0] = np.nan
    assert check_causality(last_seen, array).causal  # whatever comes, the first is missing

    def any_late(t):
        return np.full_like(t, 1.0 + (np.isnan(t).sum() > 1))

    found = check_causality(any_late, array)
    assert found.probe == "missing"
    assert found.after == 2.0


def test_the_tolerance_is_a_share_of_the_column():
    small = Leak(size=1e-6)
    assert not check_causality(small, X)
    assert check_causality(small, X, tolerance=1e-3)  # a thousand times as large a future is among the probes
    found = check_causality(Leak(size=1e-14), X, tolerance=0)
    assert not found
    assert check_causality(Leak(size=1e-14), X)
    assert "1e-09" in str(check_causality(Leak(size=0.0), X))


def test_columns_that_come_with_the_future():
    table = pd.DataFrame({"sector": ["Tech"] * 40 + ["Energy"] * 40}, index=DAYS)
    found = check_causality(OneHotEncoder(sparse_output=False).set_output(transform="pandas"), table, cuts=2)
    assert not found
    assert "sector_Energy" in str(found)


def test_a_choice_of_columns_by_a_target():
    y = np.where(np.arange(N) < 40, X[:, 0], X[:, 2])
    found = check_causality(SelectKBest(f_regression, k=1), X, y=y)
    assert not found
    assert found.cuts.index(found.cut) < len(found.cuts)
    assert check_causality(SelectKBest(f_regression, k=1), X, y=X[:, 0], cuts=[70])


def test_text_that_moves():
    found = check_causality(lambda t: np.where(t > t.mean(), "high", "low").astype(object), X)
    assert not found
    assert "became" in str(found)


# ---- leaks that few cuts could miss


GAPPY = WIDE.copy()
GAPPY.iloc[22, 0] = GAPPY.iloc[[50, 51, 52], 1] = np.nan


@pytest.mark.parametrize(
    "fill",
    [
        lambda t: t.bfill(),
        lambda t: t.bfill(limit=1),
        lambda t: t.interpolate(),
        lambda t: t.fillna(t.rolling(5, center=True, min_periods=1).mean()),
    ],
)
def test_gaps_filled_from_the_future(fill):
    assert not check_causality(fill, GAPPY)
    assert not check_causality(fill, undated(GAPPY))
    assert check_causality(lambda t: t.ffill(), GAPPY)


def undated(table: pd.DataFrame) -> pd.DataFrame:
    """The same rows without dates, in order."""
    return table.reset_index(drop=True)


def test_gaps_of_a_panel_filled_from_the_future():
    long = LONG.copy()
    long.loc[[100, 151], "value"] = np.nan
    assert not check_causality(lambda t: t.groupby("symbol")[["value"]].bfill(), long, time="date")
    assert check_causality(lambda t: t.groupby("symbol")[["value"]].ffill(), long, time="date")


def test_cuts_at_the_ends_of_gaps_stand_beside_the_even_ones():
    even = check_causality(np.abs, WIDE).cuts
    assert check_causality(np.abs, GAPPY).cuts == tuple(sorted({*even, DAYS[22], DAYS[52]}))
    assert check_causality(np.abs, GAPPY, cuts=[DAYS[9]]).cuts == (DAYS[9],)
    early = WIDE.copy()
    early.iloc[2, 0] = np.nan  # before the first cut a transformer may not run yet
    assert check_causality(np.abs, early).cuts == even


@pytest.mark.parametrize("imputer", [SimpleImputer(strategy="median"), KNNImputer()], ids=str)
def test_an_imputer_shows_on_a_table_without_gaps(imputer):
    found = check_causality(imputer, WIDE.mask(WIDE.isna()))
    assert not found
    assert found.probe == "gap"
    assert "missing, and the rows after it cut off" in str(found)
    assert check_causality(SimpleImputer(strategy="constant"), WIDE, tolerance=0)


def test_a_gap_in_every_column_is_made():
    """Of the two cuts one makes it in the first column, the other in the second."""

    class Filled(Leak):
        def transform(self, X):
            return np.column_stack([X[:, 0] * 0, np.where(np.isnan(X[:, 1]), np.nanmean(X[:, 1]), X[:, 1] * 0)])

        def __sklearn_tags__(self):
            tags = super().__sklearn_tags__()
            tags.input_tags.allow_nan = True
            return tags

    assert check_causality(Filled(), X, cuts=[30], held_out=False)
    assert not check_causality(Filled(), X, cuts=[30, 50], held_out=False)


def test_a_rare_leak_needs_every_cut():
    def on_the_day(t):
        return t + t.shift(-1).fillna(0.0).mul(t.index == DAYS[33], axis=0)

    short = check_causality(on_the_day, WIDE)
    assert short
    assert "cuts='all' tries 79" in str(short)
    found = check_causality(on_the_day, WIDE, cuts="all")
    assert (found.cut, found.row) == (DAYS[33], DAYS[33])
    every = check_causality(np.abs, WIDE[:20], cuts="all")
    assert len(every.cuts) == every.possible == 19
    assert "cuts='all'" not in str(every)


def test_an_outlier_hides_nothing():
    table = WIDE[["AAA"]].copy()
    table.iloc[3] = 1e12
    assert not check_causality(lambda t: t - t.tail(10).mean(), table)
    assert check_causality(lambda t: (t - t.expanding().mean()) / t.expanding().std(), table)
    Q = np.linalg.qr(np.random.default_rng(1).normal(size=(P, P)))[0]
    spoiled = X.copy()
    spoiled[3, 1] = 1e12
    assert check_causality(lambda x: x @ Q, spoiled)


def test_a_block_that_is_standardized_by_itself():
    class Twofold(CausalCorrector):
        def transform(self, X):
            return X - X.mean(axis=0)

    found = check_causality(Twofold(), X)
    assert (found.causal, found.probe) == (False, "held out")
    assert found.row > found.cut - 1
    assert "fitted to the rows up to" in str(found)
    assert check_causality(Twofold(), X, held_out=False)
    found = check_causality(Twofold(), WIDE.rename_axis("day"), cuts=[DAYS[40]])
    assert found.row == DAYS[41]


def test_transform_is_given_the_arguments_that_it_names():
    market = WIDE.set_axis(["AAA", "BBB", "CCC"], axis=1)
    labels = pd.DataFrame("x", WIDE.index, WIDE.columns)
    assert check_causality(GroupCorrector(), market, fit_params={"membership": labels})


def test_single_precision_and_large_values_are_scaled_within_their_type():
    assert check_causality(CausalCorrector(), (X * 1e36).astype(np.float32))
    assert check_causality(CausalCorrector(), X * 1e150)
    assert not check_causality(StandardScaler(), X * 1e150)


# ---- times


def test_a_panel_by_levels_must_name_its_time():
    panel = LONG.set_index(["date", "symbol"])
    for table in (panel, panel.sort_index(level=1)):
        with pytest.raises(BatchfixError, match="time='date'"):
            check_causality(lambda t: t - t.groupby("symbol").transform("mean"), table)
        assert not check_causality(lambda t: t - t.groupby("symbol").transform("mean"), table, time="date")


def test_dates_as_objects_and_as_text():
    backwards = WIDE[::-1]
    objects = backwards.set_axis(pd.Index(list(backwards.index), dtype=object))
    leak = check_causality(lambda t: t - t.expanding().mean(), objects)  # of a table that is newest first
    assert not leak
    with pytest.raises(BatchfixError, match="to_datetime"):
        check_causality(np.abs, backwards.set_axis(backwards.index.astype(str)))


def test_cuts_in_a_time_zone():
    zoned = WIDE.tz_localize("Europe/Berlin")
    before = check_causality(CausalCorrector(), zoned)
    assert check_causality(CausalCorrector(), zoned, cuts=before.cuts).cuts == before.cuts
    utc = pd.Timestamp(DAYS[40], tz="Europe/Berlin").tz_convert("UTC")
    assert check_causality(CausalCorrector(), zoned, cuts=[utc]).cuts == (zoned.index[40],)
    assert check_causality(CausalCorrector(), zoned, cuts=zoned.index[[40]]).cuts == (zoned.index[40],)
    assert len(check_causality(CausalCorrector(), zoned, cuts=np.int64(3)).cuts) == 3


# ---- manners


def test_nothing_of_the_callers_is_touched():
    class Vandal(Leak):
        def fit_transform(self, X, y=None):
            out = np.array(X)
            X[...] = 0.0
            self.spoiled_ = True
            return out

    table, given, estimator = WIDE.copy(), X.copy(), Vandal()
    check_causality(estimator, given)
    assert_array_equal(given, X)
    assert not hasattr(estimator, "spoiled_")
    check_causality(StandardScaler(copy=False), table)
    pd.testing.assert_frame_equal(table, WIDE)


def test_rows_of_targets_and_arguments_are_cut_with_the_table():
    Recorder.seen.clear()
    weight, y = np.arange(float(N)), pd.Series(np.arange(float(N)), index=DAYS)
    assert check_causality(Recorder(), WIDE, y=y, fit_params={"sample_weight": weight}, cuts=[DAYS[29]])
    lengths = {(len(table), len(target), len(w)) for table, target, w in Recorder.seen}
    assert lengths == {(30, 30, 30), (N, N, N)}
    futures = [(table, target) for table, target, _ in Recorder.seen if len(table) == N]
    changed = [t for t, _ in futures if not t.equals(WIDE)]
    assert len(changed) == len(("noise", "scale"))
    for table, target in futures:
        pd.testing.assert_frame_equal(table[:30], WIDE[:30])
        assert_array_equal(target[:30], y[:30])
    assert any((target[30:] != y[30:]).all() for _, target in futures)


def test_labels_and_times_are_not_perturbed():
    coded = LONG.assign(symbol=pd.factorize(LONG["symbol"])[0].astype(float))
    model = CausalCorrector(time="date", by="symbol")
    assert check_causality(model, coded, time="date", labels=["symbol"], tolerance=0)
    array = np.column_stack([pd.factorize(LONG["date"])[0], coded["symbol"], LONG["value"]]).astype(float)
    assert check_causality(CausalCorrector(time=0, by=1), array, time=0, labels=[1], tolerance=0)


def test_the_words():
    text = str(check_causality(StandardScaler().set_output(transform="pandas"), WIDE, cuts=[DAYS[39]]))
    assert "with the rows after 2024-02-23 cut off, row 2024-01-01 of column 'AAA' moved from" in text
    assert "CausalCorrector" in text


def picky(x):
    """Knows no other values."""
    if not np.isin(x, X).all():
        raise ValueError("only these.")
    return x


class Unready(Leak):
    """Transforms what it was fitted to."""

    def fit_transform(self, X, y=None):
        return X

    def transform(self, X):
        raise ValueError("not yet.")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: check_causality(StandardScaler(), X[:1]), ("past and a future", "1 time")),
        (lambda: check_causality(StandardScaler(), X, cuts=0), ("cuts", "0")),
        (lambda: check_causality(StandardScaler(), X, cuts=[80]), ("before and after", "80")),
        (lambda: check_causality(StandardScaler(), X, cuts=[]), ("before and after",)),
        (lambda: check_causality(StandardScaler(), WIDE, cuts=["soon"]), ("times such as", "soon")),
        (lambda: check_causality(StandardScaler(), WIDE, time="day"), ("time", "'day'")),
        (lambda: check_causality(3, X), ("fit_transform", "int")),
        (lambda: check_causality(StandardScaler, X), ("class", "StandardScaler()")),
        (lambda: check_causality(StandardScaler(), X, tolerance="x"), ("tolerance", "'x'")),
        (lambda: check_causality(StandardScaler(), WIDE, cuts="2024-02-03"), ("'all'", "['2024-02-03']")),
        (lambda: check_causality(StandardScaler(), WIDE, labels=["AAB"]), ("labels", "'AAB'", "no such")),
        (lambda: check_causality(StandardScaler(), WIDE, labels="AAA"), ("labels", "['AAA']")),
        (lambda: check_causality(StandardScaler(), X, labels=["AAA"]), ("positions", "3 columns", "'AAA'")),
        (lambda: check_causality(StandardScaler(), X, time="day"), ("positions", "'day'")),
        (lambda: check_causality(StandardScaler(), X, time=9), ("positions", "9")),
        (lambda: check_causality(StandardScaler(), X[:, 0]), ("rows and columns", "(80,)", "reshape")),
        (lambda: check_causality(picky, X), ("with noise on the rows after a cut it said", "only these", "labels=")),
        (lambda: check_causality(Unready(), X), ("transform rows after a cut", "not yet", "held_out=False")),
        (lambda: check_causality(StandardScaler(), X, tolerance=-1), ("tolerance", "-1")),
        (lambda: check_causality(lambda x: x[::2], X), ("row for each row", "40 rows for 80")),
        (lambda: check_causality(lambda x: RNG.normal(size=x.shape), X), ("same each time", "random_state")),
        (
            lambda: check_causality(CausalCorrector("rolling", length=40), X, cuts=[20, 60]),
            ("up to each cut", "window of 40 rows", "later cuts"),
        ),
        (lambda: check_causality(StandardScaler(), WIDE.set_axis(DAYS.where(np.arange(N) != 3))), ("NaT", "row 3")),
    ],
)
def test_wrong_use_says_what_must_hold_and_what_came(make, words):
    with pytest.raises(BatchfixError) as caught:
        make()
    for word in words:
        assert word in str(caught.value)


def test_cuts_whose_past_is_too_short_are_passed_over_unless_they_are_named():
    model = CausalCorrector("rolling", length=40)
    found = check_causality(model, X)
    assert found
    assert min(found.cuts) >= 40
    assert len(check_causality(model, X, cuts="all").cuts) == len(X) - 40
    with pytest.raises(BatchfixError, match="Choose later cuts"):
        check_causality(model, X[:41], cuts=[39])


def test_what_moves_in_a_nullable_table_is_named_by_row_and_column():
    table = pd.DataFrame(X, columns=list("abc")).convert_dtypes()
    found = check_causality(lambda t: t - t.mean(), table)
    assert not found
    assert (found.row, found.column) == (0, "a")
    assert found.before is not None
