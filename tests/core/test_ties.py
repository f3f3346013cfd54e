"""Ties against a Counter: exact at once, within bounds however the rows are split, merged and placed."""

import tracemalloc
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_array_equal

from batchfix.core.ties import Ties
from batchfix.exceptions import BatchfixError, MergeError

# Few distinct values make ties; both zeros and NaN are frequent.
values = st.one_of(st.integers(-4, 4).map(float), st.floats(-1e6, 1e6), st.sampled_from([0.0, -0.0, np.nan, 0.1]))
sizes = st.integers(1, 4)
FIELDS = ("values", "lower", "upper", "other", "n")


@st.composite
def grouped_tables(draw):
    n, p, groups = draw(st.integers(0, 40)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    dtype = draw(st.sampled_from([np.float64, np.float32]))
    X = draw(arrays(np.float64, (n, p), elements=values)).astype(dtype)
    return X, draw(arrays(np.int64, n, elements=st.integers(0, groups - 1))), groups


def ties_of(X, codes=None, groups=1, size=8):
    codes = np.zeros(len(X), dtype=int) if codes is None else codes
    starts = np.concatenate([[0], np.cumsum(np.bincount(codes, minlength=groups))])
    return Ties.of(X, np.argsort(codes, kind="stable"), starts, size)


def counter(X, codes, b, j):
    column = X[codes == b, j]
    return Counter(column[~np.isnan(column)].tolist())


def tied(counts):
    most = max(counts.values(), default=0)
    return most if most > 1 else 0


def assert_same(a, b):
    for name in FIELDS:
        assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


def assert_bounds(ties, X, codes):
    """Every count lies within its bounds, and these are as close as promised."""
    size, groups, p = ties.values.shape
    lower, upper = ties.commonest()
    low, high = ties.present()
    for b in range(groups):
        for j in range(p):
            counts = counter(X, codes, b, j)
            n, error = counts.total(), counts.total() / (size + 1)
            assert ties.n[b, j] == n
            assert ties.other[b, j] <= min(error, ties.upper[:, b, j].min())
            listed = {}
            for v, least, most in zip(ties.values[:, b, j], ties.lower[:, b, j], ties.upper[:, b, j], strict=True):
                if np.isnan(v):
                    assert least == most == 0
                else:
                    assert v not in listed
                    assert least <= counts[v] <= most <= least + error
                    listed[v] = most
            assert all(c <= ties.other[b, j] for v, c in counts.items() if v not in listed)
            assert lower[b, j] <= tied(counts) <= upper[b, j] <= lower[b, j] + error + 1
            assert low[b, j] <= n - tied(counts) <= high[b, j]


@given(grouped_tables(), sizes)
@settings(max_examples=150, deadline=None)
def test_one_chunk_is_exact(table, size):
    X, codes, groups = table
    before = X.copy()
    ties = ties_of(X, codes, groups, size)
    assert_array_equal(X, before)
    assert_array_equal(ties.lower, ties.upper)
    lower, upper = ties.commonest()
    assert_array_equal(lower, upper)
    for b in range(groups):
        for j in range(X.shape[1]):
            counts = counter(X, codes, b, j)
            ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
            padded = (ranked[:size] + [(np.nan, 0)] * size)[:size]
            assert_array_equal(ties.values[:, b, j], [v for v, _ in padded])
            assert_array_equal(ties.lower[:, b, j], [count for _, count in padded])
            assert ties.other[b, j] == (ranked[size][1] if len(ranked) > size else 0)
            assert ties.n[b, j] == counts.total()
            assert lower[b, j] == tied(counts)


@given(grouped_tables(), sizes, st.data())
@settings(max_examples=200, deadline=None)
def test_any_split_merged_in_any_order_keeps_its_bounds(table, size, data):
    X, codes, groups = table
    part = data.draw(arrays(np.int64, len(X), elements=st.integers(0, 5)))
    heap = [ties_of(X[part == k], codes[part == k], groups, size) for k in range(6)]
    while len(heap) > 1:  # any binary tree of additions
        first = heap.pop(data.draw(st.integers(0, len(heap) - 1)))
        second = heap.pop(data.draw(st.integers(0, len(heap) - 1)))
        heap.append(first + second)
    assert_bounds(heap[0], X, codes)


@given(grouped_tables(), sizes)
@settings(max_examples=50, deadline=None)
def test_one_row_chunks_keep_their_bounds(table, size):
    X, codes, groups = table
    ties = ties_of(X[:0], codes[:0], groups, size)
    for i in range(len(X)):
        ties = ties + ties_of(X[i : i + 1], codes[i : i + 1], groups, size)
    assert_bounds(ties, X, codes)


@given(grouped_tables(), sizes)
@settings(max_examples=50, deadline=None)
def test_merging_commutes_and_nothing_is_its_zero(table, size):
    X, codes, groups = table
    half = len(X) // 2
    a, b = (ties_of(X[rows], codes[rows], groups, size) for rows in (slice(half), slice(half, None)))
    assert_same(a + b, b + a)
    assert_same(a + ties_of(X[:0], codes[:0], groups, size), a)


@given(grouped_tables(), st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_few_distinct_values_merge_exactly(table, random):
    X, codes, groups = table
    X = np.rint(X) % 8  # as many as are listed
    rows = list(range(len(X)))
    random.shuffle(rows)
    ties = ties_of(X[:0], codes[:0], groups)
    for chunk in (rows[:3], rows[3:10], rows[10:]):
        ties = ties + ties_of(X[chunk], codes[chunk], groups)
    assert_same(ties, ties_of(X, codes, groups))


@given(grouped_tables(), st.permutations(range(4)))
@settings(max_examples=50, deadline=None)
def test_placing_renames_groups(table, names):
    X, codes, groups = table
    to = np.array(names[:groups]) if groups <= 4 else np.arange(groups)
    assert_same(ties_of(X, codes, groups).place(to, 4), ties_of(X, to[codes], 4))


@pytest.mark.parametrize("chunk", [50, 200, 999])
@pytest.mark.parametrize("floor", [0.0, -3.25])
def test_zero_inflated_data_stay_exact(chunk, floor):
    rng = np.random.default_rng(0)
    X = np.where(rng.random((1000, 30)) < 0.4, floor, rng.normal(size=(1000, 30)))
    X[rng.random(X.shape) < 0.1] = np.nan
    whole = ties_of(X)
    ties = ties_of(X[:0])
    for first in range(0, 1000, chunk):
        ties = ties + ties_of(X[first : first + chunk])
    for got, want in zip(ties.present(), whole.present(), strict=True):
        assert_array_equal(got, want)
    at_floor = (floor == X).sum(axis=0)
    assert_array_equal(whole.commonest()[0], at_floor[None])


def test_one_row_chunks_of_continuous_data_stay_below_their_share():
    X = np.random.default_rng(1).normal(size=(300, 20))
    ties = ties_of(X[:0])
    for i in range(len(X)):
        ties = ties + ties_of(X[i : i + 1])
        lower, upper = ties.commonest()
        assert (lower == 0).all()
        assert (upper <= (i + 1) / 8 + 1).all()
    assert (ties.present()[0] > 0.85 * 300).all()


def test_a_value_rare_in_every_chunk_and_common_in_all_is_within_its_bounds():
    # Each chunk lists two values that occur twice, and 7.0, which occurs once in each, nowhere.
    chunks = [np.array([[k + 0.1], [k + 0.1], [k + 0.2], [k + 0.2], [7.0]]) for k in range(10, 20)]
    ties = ties_of(chunks[0], size=2)
    for chunk in chunks[1:]:
        ties = ties + ties_of(chunk, size=2)
    lower, upper = ties.commonest()
    assert lower.item() <= 10 <= upper.item()
    assert upper.item() - lower.item() <= 50 / 3 + 1


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.int16, np.uint8, bool])
@pytest.mark.parametrize("layout", ["C", "F"])
def test_every_dtype_and_layout(dtype, layout):
    X = np.asarray([[1, 0], [1, 1], [0, 1], [1, 1]], dtype=dtype, order=layout)
    assert_array_equal(ties_of(X).commonest()[0], [[3, 3]])


def test_float32_neighbours_are_distinct_and_exact():
    low = np.float32(0.1)
    X = np.array([[low], [np.nextafter(low, np.float32(1))], [low]])
    ties = ties_of(X)
    assert ties.values[0, 0, 0] == np.float64(low)
    assert ties.commonest()[0] == [[2]]


def test_both_zeros_are_one_value():
    X = np.array([[0.0], [-0.0], [-0.0], [1.0]])
    for ties in (ties_of(X), ties_of(X[:1]) + ties_of(X[1:])):
        assert ties.commonest()[0] == [[3]]
        assert_array_equal(ties.values[:, 0, 0], [0, 1] + [np.nan] * 6)
    assert not np.signbit(ties_of(-np.zeros((3, 1))).values[0])


def test_missing_values_and_empty_groups_count_nothing():
    X = np.array([[np.nan, 2.0], [np.nan, np.nan], [np.nan, 2.0]])
    ties = ties_of(X, np.array([0, 0, 0]), groups=2)
    assert_array_equal(ties.n, [[0, 2], [0, 0]])
    assert_array_equal(ties.commonest(), [[[0, 2], [0, 0]]] * 2)
    assert_array_equal(ties.present(), [[[0, 0], [0, 0]]] * 2)


def test_values_without_a_tie_are_all_present():
    for ties in (ties_of(np.array([[1.0], [2.0], [3.0]])), ties_of(np.array([[1.0]]))):
        assert_array_equal(ties.commonest(), [[[0]], [[0]]])
        assert_array_equal(ties.present(), [ties.n, ties.n])


def test_memory_is_a_few_blocks():
    X = np.random.default_rng(0).normal(size=(2000, 1000))
    tracemalloc.start()
    ties_of(X)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10e6 < X.nbytes


def test_what_cannot_be_counted_or_merged_is_refused():
    X = np.zeros((4, 2))
    with pytest.raises(TypeError, match="complex"):
        ties_of(X.astype(complex))
    with pytest.raises(BatchfixError, match="matrix"):
        Ties.of(X[0], np.arange(1), np.array([0, 1]))
    with pytest.raises(BatchfixError, match="rise"):
        Ties.of(X, np.arange(4), np.array([0, 9]))
    for size in (0, 2.5):
        with pytest.raises(BatchfixError, match="size"):
            ties_of(X, size=size)
    for other in (ties_of(X, size=3), ties_of(X, groups=2), ties_of(X[:, :1])):
        with pytest.raises(MergeError, match="shapes"):
            ties_of(X) + other
