"""LogRatio: a conforming transformer whose coordinates are those of the core, and which goes back."""

import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_array, csr_matrix
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

from batchfix import LogRatio
from batchfix.core import balances, log_ratios
from batchfix.core.partition import BinaryPartition
from batchfix.core.simplex import closure, depths
from batchfix.core.zeros import HalfMinimum
from batchfix.exceptions import BatchfixError, PseudocountWarning

KINDS = ("clr", "alr", "ilr", "rclr")
of_every_kind = pytest.mark.parametrize("kind", KINDS)
RNG = np.random.default_rng(0)
COUNTS = RNG.negative_binomial(0.6, 0.02, size=(30, 7)).astype(float) + (RNG.random((30, 7)) > 0.4)
COUNTS[:, 0] += 5
NAMES = list("abcdefg")
TABLE = pd.DataFrame(COUNTS, columns=NAMES)
SIGNS = np.array([[1, 1, 1, -1, -1, -1, -1], [1, -1, -1, 0, 0, 0, 0], [0, 1, -1, 0, 0, 0, 0], [0, 0, 0, 1, 1, -1, -1]])
SIGNS = np.vstack([SIGNS, [[0, 0, 0, 1, -1, 0, 0], [0, 0, 0, 0, 0, 1, -1]]])


@of_every_kind
def test_it_conforms_to_scikit_learn(kind):
    """But for the checks whose tables have rows of zeros: those are no compositions, and refused."""
    zeros = ("estimators_dtypes", "estimator_sparse_tag", "estimator_sparse_array", "estimator_sparse_matrix")
    refused = {f"check_{name}": "rows of zeros" for name in zeros}
    for result in check_estimator(LogRatio(kind), expected_failed_checks=refused, on_fail=None, on_skip=None):
        error = result["exception"]
        if result["check_name"] in refused:
            assert error is None or "sum to 0" in f"{error} {error.__cause__}"
        else:
            assert result["status"] in ("passed", "skipped"), (result["check_name"], error)


@of_every_kind
def test_columns_are_those_of_the_core(kind):
    filled = closure(COUNTS) if kind == "rclr" else HalfMinimum.learn(COUNTS).fill(COUNTS)
    module = balances if kind == "ilr" else log_ratios
    assert_array_equal(LogRatio(kind).fit_transform(COUNTS), getattr(module, kind)(filled))


@of_every_kind
def test_there_and_back(kind):
    filled = closure(COUNTS) if kind == "rclr" else HalfMinimum.learn(COUNTS).fill(COUNTS)
    model = LogRatio(kind).fit(TABLE)
    assert_allclose(model.inverse_transform(model.transform(TABLE)), filled, rtol=1e-11, atol=1e-14)
    deep = model.inverse_transform(model.transform(TABLE), total=depths(COUNTS))
    assert_allclose(deep.sum(axis=1), COUNTS.sum(axis=1), rtol=1e-12)


@of_every_kind
@pytest.mark.parametrize("sparse", [csr_array, csr_matrix])
def test_sparse_tables_give_the_same_numbers(kind, sparse):
    assert_array_equal(LogRatio(kind).fit_transform(sparse(COUNTS)), LogRatio(kind).fit_transform(COUNTS))


@of_every_kind
def test_single_precision_stays(kind):
    found = LogRatio(kind).fit_transform(COUNTS.astype(np.float32))
    assert found.dtype == np.float32
    # logarithms of up to 10 in size, each rounded a few times by 6e-8 of that; balances add seven of them
    assert_allclose(found, LogRatio(kind).fit_transform(COUNTS), rtol=0, atol=5e-6)
    assert LogRatio(kind).fit(COUNTS).inverse_transform(found).dtype == np.float32


@given(st.integers(0, 2**32 - 1), st.sampled_from(KINDS))
def test_the_scale_of_a_row_says_nothing(seed, kind):
    scale = np.random.default_rng(seed).uniform(0.01, 100, size=(30, 1))
    model = LogRatio(kind).fit(COUNTS)
    assert_allclose(model.transform(COUNTS * scale), model.transform(COUNTS), rtol=1e-9, atol=1e-9)


def test_a_new_sample_gets_the_zeros_of_fit():
    model = LogRatio().fit(COUNTS)
    alone = model.transform(np.array([[1, 0, 0, 0, 0, 0, 10**6]]))
    again = model.transform(np.vstack([COUNTS, [1, 0, 0, 0, 0, 0, 10**6]]))[-1:]
    assert_array_equal(alone, again)
    assert model.zeros_ == HalfMinimum.learn(COUNTS)


def test_names_read_as_ratios():
    def names(*args, **kwargs):
        return LogRatio(*args, **kwargs).fit(TABLE).get_feature_names_out().tolist()

    assert names()[:2] == ["ln(a / g(all))", "ln(b / g(all))"]
    assert names("rclr")[0] == "ln(a / g(nonzero))"
    assert names("alr", reference="c")[:3] == ["ln(a / c)", "ln(b / c)", "ln(d / c)"]
    assert names("alr")[-1] == names("alr", reference=-1)[-1] == "ln(f / g)"
    assert names("ilr")[:3] == ["ilr1: ln(a / b)", "ilr2: ln(g(a + 1 more) / c)", "ilr3: ln(g(a + 2 more) / d)"]
    assert names("ilr", partition=SIGNS)[0] == "ilr1: ln(g(a + 2 more) / g(d + 3 more))"
    for kind in KINDS:
        assert len(set(names(kind))) == LogRatio(kind).fit_transform(TABLE).shape[1]


@of_every_kind
def test_pandas_out(kind):
    model = LogRatio(kind).set_output(transform="pandas")
    found = model.fit_transform(TABLE)
    assert found.columns.tolist() == model.get_feature_names_out().tolist()
    assert_array_equal(found.index, TABLE.index)


def test_a_partition_of_ones_own():
    model = LogRatio("ilr", partition=SIGNS).fit(TABLE)
    basis = BinaryPartition.from_signs(SIGNS).basis()
    assert_allclose(model.transform(TABLE), LogRatio().fit_transform(TABLE) @ basis.T, rtol=0, atol=1e-12)


def test_the_parameter_and_the_method_share_a_name():
    model = LogRatio(transform="ilr")
    assert model.get_params()["transform"] == "ilr"
    assert "transform='ilr'" in repr(model)
    model.set_params(transform="alr")
    assert clone(model).get_params()["transform"] == "alr"
    twin = pickle.loads(pickle.dumps(model.fit(TABLE)))
    assert_array_equal(twin.transform(TABLE), model.transform(TABLE))


def test_in_a_search_over_transforms():
    labels = (COUNTS[:, 0] > np.median(COUNTS[:, 0])).astype(int)
    pipeline = make_pipeline(LogRatio(), LogisticRegression(max_iter=1000))
    search = GridSearchCV(pipeline, {"logratio__transform": ["clr", "ilr"]}, cv=3, error_score="raise")
    assert search.fit(TABLE, labels).best_params_["logratio__transform"] in ("clr", "ilr")


def test_a_policy_of_ones_own():
    model = LogRatio(zeros=HalfMinimum(1e-6)).fit(COUNTS)
    assert_array_equal(model.transform(COUNTS), log_ratios.clr(HalfMinimum(1e-6).fill(COUNTS)))


def test_pseudocounts_warn():
    with pytest.warns(PseudocountWarning, match="depth"):
        LogRatio(zeros="pseudocount").fit(COUNTS)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: LogRatio(zeros="keep").fit_transform(COUNTS), ("0", "zero")),
        (lambda: LogRatio().fit(-COUNTS), ("egative",)),
        (lambda: LogRatio().fit(np.vstack([COUNTS, np.zeros(7)])), ("sum", "0")),
        (lambda: LogRatio().fit(np.where(COUNTS == 0, np.nan, COUNTS)), ("NaN",)),
        (lambda: LogRatio().fit(COUNTS[:, :1]), ("1 feature",)),
        (lambda: LogRatio().fit([["1", "many"], ["2", "3"]]), ("must be numbers",)),
        (lambda: LogRatio().fit(TABLE.astype(str)), ("must be numbers", "'a'")),
        (lambda: LogRatio("alr", reference="A").fit(TABLE), ("reference", "'A'", "did you mean 'a'")),
        (lambda: LogRatio("alr", reference="a").fit(COUNTS), ("reference", "'a'", "no names")),
        (lambda: LogRatio("alr", reference=7).fit(COUNTS), ("7 parts", "7")),
        (lambda: LogRatio("ilr", partition=SIGNS[:-1, :-1]).fit(COUNTS), ("7 parts", "for 6")),
        (lambda: LogRatio("log").fit(COUNTS), ("transform", "log")),
        (lambda: LogRatio(zeros="half").fit(COUNTS), ("zeros", "half")),
        (lambda: LogRatio("alr").fit(COUNTS).inverse_transform(COUNTS), ("6 log-ratios", "7 columns")),
        (lambda: LogRatio().fit(TABLE).transform(TABLE[NAMES[::-1]]), ("feature names",)),
        (lambda: LogRatio().fit(TABLE).transform(TABLE.drop(columns="b")), ("b",)),
        (lambda: LogRatio(zeros="pseudocount").fit(closure(COUNTS)), ("pseudocount", "counts")),
    ],
)
def test_wrong_use_says_what_must_hold_and_what_came(make, words):
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # ours, and scikit-learn's own
        make()
    for word in words:
        assert word in str(caught.value)


def test_one_sample_is_enough_once_fitted():
    model = LogRatio().fit(COUNTS)
    assert_allclose(model.transform(COUNTS[:1]), model.transform(COUNTS)[:1], rtol=0, atol=0)
    assert LogRatio().fit_transform(COUNTS[:1]).shape == (1, 7)


def test_errors_are_ours():
    with pytest.raises(BatchfixError):
        LogRatio().fit(np.vstack([COUNTS, np.zeros(7)]))


def test_numbers_for_names_in_another_order_are_seen():
    table = TABLE.set_axis(range(7), axis=1)
    with pytest.raises(BatchfixError, match="another order"):
        LogRatio().fit(table).transform(table.iloc[:, ::-1])


def test_log_ratios_in_another_order_are_not_put_back():
    model = LogRatio().set_output(transform="pandas")
    Z = model.fit_transform(TABLE)
    with pytest.raises(BatchfixError, match="another order"):
        model.inverse_transform(Z[Z.columns[::-1]])
    depth = TABLE.sum(axis=1)
    assert_allclose(model.inverse_transform(Z, total=depth[::-1]).sum(axis=1), depth, rtol=1e-12)


@pytest.mark.parametrize(
    "table",
    [
        np.where(COUNTS == 0, np.nan, COUNTS),
        np.where(COUNTS == 0, np.inf, COUNTS),
        COUNTS[:, :1],
        COUNTS[0],
        TABLE.set_axis(list("aabcdef"), axis=1),
        TABLE.assign(day=pd.Timestamp(0)),
        np.ma.masked_greater(COUNTS, 30),
    ],
)
def test_every_table_that_will_not_do_gets_a_sentence_of_ours(table):
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # one dimension is scikit-learn's own word
        LogRatio().fit(table)
    assert "HistGradient" not in str(caught.value)
    assert isinstance(caught.value, BatchfixError) or "Expected 2D array" in str(caught.value)


def test_a_policy_that_gives_the_table_back_does_not_harm_it():
    class Nothing:
        depends_on_depth = False

        def fill(self, X, out=None):
            return X

    table = COUNTS + 1
    before = table.copy()
    LogRatio(zeros=Nothing()).fit_transform(table)
    assert_array_equal(table, before)


def test_a_parameter_changed_after_the_fit_needs_another_fit():
    with pytest.raises(BatchfixError, match="Fit again"):
        LogRatio().fit(TABLE).set_params(transform="rclr").transform(TABLE)
