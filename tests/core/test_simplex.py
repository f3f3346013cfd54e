"""Closure, whole counts, and what all functions on compositions share: dtypes, NaN, sparse tables, `out`, errors."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

from batchfix.core import aitchison, balances, log_ratios, simplex, zeros
from batchfix.exceptions import BatchfixError

ORACLE = np.load(Path(__file__).parent.parent / "oracles" / "composition.npz")
COUNTS = ORACLE["counts"]
POSITIVE = ORACLE["pc05"]

FORWARD = {"clr": log_ratios.clr, "alr": log_ratios.alr, "ilr": balances.ilr, "rclr": log_ratios.rclr}
TAKES_ZEROS = {
    "closure": simplex.closure,
    "rclr": log_ratios.rclr,
    "depths": simplex.depths,
    "half minimum": lambda X: zeros.HalfMinimum.learn(X).fill(X),
    "multiplicative": lambda X: zeros.MultiplicativeReplacement.learn(X).fill(X),
    "pseudocount": lambda X: zeros.Pseudocount.learn(X).fill(X),
    "keep": lambda X: zeros.Keep.learn(X).fill(X),
    "perturb": lambda X: aitchison.perturb(X, np.arange(1.0, 1.0 + np.shape(X)[-1])),
}
TAKES_LOGS = {
    "clr": log_ratios.clr,
    "alr": log_ratios.alr,
    "ilr": balances.ilr,
    "power": lambda X: aitchison.power(X, 2.0),
    "norm": aitchison.norm,
    "distances": aitchison.distance_matrix,
}
ALL = {**TAKES_ZEROS, **TAKES_LOGS}

tables_of_counts = arrays(
    np.float64, st.tuples(st.integers(1, 6), st.integers(1, 9)), elements=st.integers(0, 10**6)
).filter(lambda X: (X.sum(axis=1) > 0).all())


# ---- closure and counts


def test_closure_is_scikit_bios():
    assert_allclose(simplex.closure(COUNTS), ORACLE["closure"], rtol=1e-14)


@given(tables_of_counts, st.floats(1e-3, 1e6))
def test_rows_sum_to_the_total(X, total):
    closed = simplex.closure(X, total=total)
    assert_allclose(closed.sum(axis=1), total, rtol=1e-14)
    assert_array_equal(closed == 0, X == 0)


@given(tables_of_counts)
def test_counts_come_back_from_proportions_exactly(X):
    assert_array_equal(simplex.whole_counts(simplex.closure(X), simplex.depths(X)), X)


@given(arrays(np.float64, (4, 7), elements=st.one_of(st.just(0.0), st.floats(1e-6, 1))), st.integers(1, 10**9))
def test_whole_counts_sum_to_the_depth_and_stay_near(X, depth):
    X[:, 0] += 0.1
    counts = simplex.whole_counts(X, depth)
    exact = simplex.closure(X, total=depth)
    assert_array_equal(counts.sum(axis=1), depth)
    assert_array_equal(counts, np.floor(counts))
    assert (np.abs(counts - exact) < 1 + 1e-6).all()
    assert (counts[X == 0] == 0).all()


def test_whole_counts_do_not_depend_on_the_order_of_parts():
    rng = np.random.default_rng(0)
    X, order = rng.dirichlet(np.ones(30), 20), rng.permutation(30)
    assert_array_equal(simplex.whole_counts(X[:, order], 1000), simplex.whole_counts(X, 1000)[:, order])


def test_equal_remainders_are_served_from_the_left():
    assert_array_equal(simplex.whole_counts(np.ones((2, 4)), [6, 5]), [[2, 2, 1, 1], [2, 1, 1, 1]])


def test_whole_counts_leave_nan_alone():
    counts = simplex.whole_counts(np.array([[1.0, np.nan, 2.0], [np.nan] * 3]), 10)
    assert_array_equal(counts, [[3, np.nan, 7], [np.nan] * 3])


@pytest.mark.parametrize("depth", [0, -1, 2.5, np.inf, 2.0**46, -0.5])
def test_a_depth_that_cannot_be_met_is_refused(depth):
    with pytest.raises(BatchfixError, match="depth"):
        simplex.whole_counts(np.ones((2, 3)), depth)


def test_subnormal_and_huge_amounts_close():
    tiny = np.nextafter(0, 1)
    assert_array_equal(simplex.closure(np.array([tiny, 3 * tiny])), [0.25, 0.75])
    assert_array_equal(simplex.closure(np.array([2.0**1021, 2.0**1021])), [0.5, 0.5])
    with pytest.raises(BatchfixError, match="must fit in float64; got 1 row"):
        simplex.closure(np.array([1.5e308, 1.5e308]))


# ---- what all functions share


@pytest.mark.parametrize("name", ALL)
def test_float32_stays_and_everything_else_is_float64(name):
    X = np.array([[1, 2, 7], [3, 1, 1]])
    want = ALL[name](X)
    assert want.dtype == np.float64
    narrow = ALL[name](X.astype(np.float32))
    assert narrow.dtype == (np.float64 if name in ("norm", "distances", "depths") else np.float32)
    assert_allclose(narrow, want, rtol=1e-6, atol=1e-6)
    assert_array_equal(ALL[name](X.astype(np.uint8)), want)


@pytest.mark.parametrize("name", sorted(set(ALL) - {"distances", "half minimum"}))
def test_a_single_composition_comes_back_as_one(name):
    X = np.array([[1.0, 2.0, 7.0], [3.0, 1.0, 1.0]])
    assert_array_equal(ALL[name](X[1]), ALL[name](X)[1])


@pytest.mark.parametrize("name", sorted(set(ALL) - {"distances"}))
def test_layout_does_not_matter(name):
    X = np.random.default_rng(0).dirichlet(np.ones(7), 50) * 100
    want = ALL[name](X)
    assert_array_equal(ALL[name](np.asfortranarray(X)), want)
    assert_array_equal(ALL[name](np.repeat(X, 2, axis=1)[:, ::2]), want)
    X.flags.writeable = False
    assert_array_equal(ALL[name](X), want)


@pytest.mark.parametrize("name", TAKES_ZEROS)
def test_sparse_tables_are_read(name):
    got = ALL[name](sparse.csr_array(COUNTS))
    assert_array_equal(got, ALL[name](COUNTS))
    assert_array_equal(ALL[name](sparse.csc_matrix(COUNTS)), got)


@pytest.mark.parametrize("name", sorted(set(ALL) - {"distances"}))
def test_pieces_and_threads_change_nothing(name, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    X = np.random.default_rng(0).uniform(1, 2, (3000, 200))
    monkeypatch.setattr("batchfix.core.blocks.CHUNK_BYTES", 1 << 40)
    monkeypatch.setattr("batchfix.core.blocks.THREAD_BYTES", 1 << 40)
    want = ALL[name](X)
    monkeypatch.setattr("batchfix.core.blocks.CHUNK_BYTES", 1 << 15)
    monkeypatch.setattr("batchfix.core.blocks.THREAD_BYTES", 0)
    assert_array_equal(ALL[name](X), want)


@pytest.mark.parametrize("name", sorted(set(ALL) - {"distances", "depths"}))
def test_a_row_of_nan_stays_one_and_disturbs_no_other(name):
    X = np.array([[1.0, 2.0, 7.0], [np.nan] * 3, [3.0, 1.0, 1.0]])
    got = ALL[name](X)
    assert np.isnan(got[1]).all()
    assert_array_equal(got[[0, 2]], ALL[name](X[[0, 2]]))


@pytest.mark.parametrize(
    "name", ["closure", "clr", "rclr", "perturb", "power", "half minimum", "multiplicative", "keep"]
)
def test_a_missing_part_stays_missing_and_the_others_are_a_composition(name):
    X = np.array([[1.0, np.nan, 7.0, 2.0], [3.0, 1.0, 1.0, np.nan]])
    got = ALL[name](X)
    assert_array_equal(np.isnan(got), np.isnan(X))
    if name not in ("perturb", "half minimum"):
        assert_allclose(got[0, [0, 2, 3]], ALL[name](X[:1, [0, 2, 3]])[0], rtol=1e-14)


@pytest.mark.parametrize(
    "function",
    [
        simplex.closure,
        log_ratios.clr,
        log_ratios.clr_inv,
        log_ratios.rclr,
        log_ratios.rclr_inv,
        zeros.HalfMinimum(0.1).fill,
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("order", ["C", "F"])
def test_out_may_be_the_input(function, dtype, order):
    X = np.array(POSITIVE, dtype=dtype, order=order)
    want = function(X)
    assert function(X, out=X) is X
    assert_array_equal(X, want)


@pytest.mark.parametrize(
    ("bad", "function"), [(0.0, log_ratios.clr), (-1.0, simplex.closure), (np.inf, log_ratios.clr)]
)
def test_an_input_that_is_refused_is_left_as_it_was(bad, function):
    X = np.ones((5000, 100))
    X[4999, 3] = bad
    before = X.copy()
    with pytest.raises(BatchfixError):
        function(X, out=X)
    assert_array_equal(X, before)


@pytest.mark.parametrize("out", [np.empty((2, 2)), np.empty((2, 3), np.float32), np.empty(6)])
def test_an_output_that_does_not_fit_is_refused(out):
    with pytest.raises(BatchfixError, match="out must be a float64 array"):
        simplex.closure(np.ones((2, 3)), out=out)


def test_no_rows_are_no_trouble():
    for name in sorted(set(ALL) - {"half minimum", "pseudocount"}):
        assert len(ALL[name](np.empty((0, 3)))) == 0


# ---- what is refused


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    ("value", "words"),
    [
        (-2.0, r"must not be negative; got 2 negative value\(s\), the first in row 1\."),
        (np.inf, r"finite or NaN \(not observed\); got 2 infinite, the first in row 1\."),
    ],
)
def test_negative_and_infinite_parts_are_counted(name, value, words):
    X = np.ones((4, 3))
    X[1, 2] = X[3, 0] = value
    with pytest.raises(BatchfixError, match=words):
        ALL[name](X)


@pytest.mark.parametrize("name", TAKES_LOGS)
def test_zeros_where_a_logarithm_is_taken_are_counted(name):
    with pytest.raises(BatchfixError, match=rf"got {(COUNTS == 0).sum()} zero\(s\), the first in row 0\. Replace them"):
        ALL[name](COUNTS)


@pytest.mark.parametrize("name", TAKES_ZEROS)
def test_rows_that_sum_to_0_are_counted(name):
    X = COUNTS.copy()
    X[[3, 7]] = 0
    with pytest.raises(BatchfixError, match=r"got 2 row\(s\) that sum to 0, the first row 3\."):
        ALL[name](X)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    "X", [np.array([["1", "2"]]), np.array([[1, None]]), np.array([[1j, 2]]), np.array(3.0), np.empty((2, 0))]
)
def test_what_is_no_table_of_numbers_is_refused(name, X):
    with pytest.raises(BatchfixError, match="parts"):
        ALL[name](X) if name != "perturb" else aitchison.perturb(X, np.ones(2))


@pytest.mark.parametrize("name", FORWARD)
def test_one_part_has_no_ratio(name):
    with pytest.raises(BatchfixError, match="two parts or more; got 1"):
        FORWARD[name](np.ones((3, 1)))


@pytest.mark.parametrize("function", [log_ratios.clr_inv, log_ratios.alr_inv, log_ratios.rclr_inv, balances.ilr_inv])
@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinite_log_ratios_are_refused(function, value):
    with pytest.raises(BatchfixError, match=r"got 1 infinite, the first in row 1\."):
        function(np.array([[0.0, 1.0], [value, 1.0]]))
