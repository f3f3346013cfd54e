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
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MaxAbsScaler, OneHotEncoder, StandardScaler

from batchfix import BatchCorrector, CausalCorrector
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
    assert found.probes == ("truncate", "noise", "scale", "missing")
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
    assert check_causality(Leak(), X, cuts=[10, 51])


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
    assert check_causality(last_seen, array).causal  # it is missing everywhere

    def some(t):
        return np.where(np.isnan(t).sum() > 1, 1.0, np.ones_like(t))

    assert check_causality(some, array)

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
        (lambda: check_causality(StandardScaler(), X, tolerance=-1), ("tolerance", "-1")),
        (lambda: check_causality(lambda x: x[::2], X), ("row for each row", "40 rows for 80")),
        (lambda: check_causality(lambda x: RNG.normal(size=x.shape), X), ("same each time", "random_state")),
        (
            lambda: check_causality(CausalCorrector("rolling", length=40), X),
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
