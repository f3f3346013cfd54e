"""Ranks in groups of rows: equal to scipy's of each group, whatever ties, NaN and units there are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import norm, rankdata

from batchfix.core.ranks import grouped_gauss_rank, grouped_rank
from batchfix.exceptions import BatchfixError

seeds = st.integers(0, 2**32 - 1)


def slowly(X, codes, n_groups):
    """(rank - 1/2) / n, one group of one row at a time."""
    codes = np.broadcast_to(codes, X.shape)
    result = np.full(X.shape, np.nan)
    for x, c, row in zip(X, codes, result, strict=True):
        for g in range(n_groups):
            cells = np.flatnonzero((c == g) & ~np.isnan(x))
            if cells.size:
                row[cells] = (rankdata(x[cells]) - 0.5) / cells.size
    return result


VALUES = {
    "continuous": lambda rng, shape: rng.normal(size=shape),
    "ties": lambda rng, shape: rng.integers(-2, 3, shape).astype(float),
    "all equal": lambda rng, shape: np.full(shape, rng.normal()),
    "signs of zero": lambda rng, shape: rng.choice([0.0, -0.0, 1.0], shape),
    # keys cannot tell these apart: only the last bits of the values differ
    "neighbours": lambda rng, shape: 1e8 + rng.integers(0, 40, shape) * np.spacing(1e8),
    "neighbours below zero": lambda rng, shape: -1.0 - rng.integers(0, 40, shape) * np.spacing(1.0),
    "tiny": lambda rng, shape: rng.normal(size=shape) * 1e-310,
    "huge": lambda rng, shape: rng.normal(size=shape) * 1e307,
    "infinite": lambda rng, shape: rng.choice([-np.inf, np.inf, 1.0, 2.0], shape),
}


@given(
    seed=seeds,
    kind=st.sampled_from(sorted(VALUES)),
    shape=st.tuples(st.integers(1, 6), st.integers(1, 40)),
    n_groups=st.integers(1, 9),
    missing=st.sampled_from([0.0, 0.2, 0.9, 1.0]),
    changing=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_ranks_are_those_of_each_group_alone(seed, kind, shape, n_groups, missing, changing):
    rng = np.random.default_rng(seed)
    X = VALUES[kind](rng, shape)
    X[rng.random(shape) < missing] = np.nan
    codes = rng.integers(-1, n_groups, shape if changing else shape[1])
    before = X.copy()
    want = slowly(X, codes, n_groups)
    # sums of halves and one division: no rounding but the division's, the same on both sides
    assert_array_equal(grouped_rank(X, codes, n_groups), want)
    assert_allclose(grouped_gauss_rank(X, codes, n_groups), norm.ppf(want), rtol=1e-12, atol=1e-15)
    assert_array_equal(X, before)


@pytest.mark.parametrize("kind", ["continuous", "ties", "neighbours"])
def test_large_tables_are_cut_into_pieces_and_threads(kind):
    rng = np.random.default_rng(0)
    X = VALUES[kind](rng, (700, 900))
    X[rng.random(X.shape) < 0.05] = np.nan
    codes = rng.integers(0, 11, 900)
    whole = grouped_rank(X, codes, 11)
    some = rng.choice(700, 20, replace=False)
    assert_array_equal(whole[some], slowly(X[some], codes, 11))
    assert_array_equal(grouped_rank(X, np.tile(codes, (700, 1)), 11), whole)
    assert_array_equal(grouped_rank(X[some], codes, 11), whole[some])


def test_many_small_groups_and_one_wide_one():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(3, 5000))
    codes = rng.integers(0, 4000, 5000)
    assert_array_equal(grouped_rank(X, codes, 4000), slowly(X, codes, 4000))
    one = np.zeros(5000, dtype=np.int8)
    assert_array_equal(grouped_rank(X, one, 1), slowly(X, one, 1))


@given(seed=seeds)
@settings(max_examples=30, deadline=None)
def test_only_order_counts(seed):
    rng = np.random.default_rng(seed)
    X, codes = rng.integers(-3, 4, (4, 20)).astype(float), rng.integers(0, 3, 20)
    ranks = grouped_rank(X, codes, 3)
    assert_array_equal(grouped_rank(np.exp(X), codes, 3), ranks)
    assert_allclose(grouped_rank(-X, codes, 3), 1 - ranks, rtol=1e-15, atol=1e-15)
    # -Phi^-1(u) = Phi^-1(1 - u), to what 1 - u loses
    assert_allclose(grouped_gauss_rank(-X, codes, 3), -grouped_gauss_rank(X, codes, 3), rtol=1e-12, atol=1e-14)
    columns = rng.permutation(20)
    assert_array_equal(grouped_rank(X[:, columns], codes[columns], 3), ranks[:, columns])
    assert_array_equal(grouped_rank(X, np.array([2, 0, 1])[codes], 3), ranks)


def test_a_missing_value_of_either_sign_is_missing():
    """Arithmetic makes NaN with the sign bit set, which as bits lies below every number."""
    X = np.array([[1.0, np.copysign(np.nan, -1.0), 2.0, np.nan]])
    assert_array_equal(grouped_rank(X, np.zeros(4, dtype=int), 1), [[0.25, np.nan, 0.75, np.nan]])


def test_groups_of_one_stand_in_the_middle():
    X = np.array([[5.0, np.nan, 7.0, 8.0]])
    codes = np.array([0, 0, 1, 2])
    assert_array_equal(grouped_rank(X, codes, 3), [[0.5, np.nan, 0.5, 0.5]])
    assert_array_equal(grouped_gauss_rank(X, codes, 3), [[0.0, np.nan, 0.0, 0.0]])


@pytest.mark.parametrize("function", [grouped_rank, grouped_gauss_rank])
def test_dtypes_and_places_to_write(function):
    rng = np.random.default_rng(2)
    X, codes = rng.normal(size=(30, 17)), rng.integers(-1, 4, 17)
    want = function(X, codes, 4)
    single = function(X.astype(np.float32), codes, 4)
    assert single.dtype == np.float32
    assert_array_equal(single, want.astype(np.float32))
    assert function(rng.integers(0, 5, (3, 17)), codes, 4).dtype == np.float64
    assert_array_equal(function(np.asfortranarray(X), codes.astype(np.int16), 4), want)
    wide = np.zeros((30, 34))
    assert_array_equal(function(X, codes, 4, out=wide[:, ::2]), want)
    assert_array_equal(wide[:, ::2], want)
    assert function(X, codes, 4, out=X) is X
    assert_array_equal(X, want)


def test_tables_without_cells():
    for shape in ((0, 3), (3, 0), (0, 0)):
        assert grouped_rank(np.zeros(shape), np.zeros(shape[1], dtype=int), 2).shape == shape
    assert np.isnan(grouped_rank(np.ones((2, 3)), np.full(3, -1), 0)).all()


def test_a_code_too_large_is_an_error():
    with pytest.raises(BatchfixError, match=r"below n_groups = 2; got 2\."):
        grouped_rank(np.ones((2, 3)), np.array([0, 1, 2]), 2)
