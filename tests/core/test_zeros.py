"""Zero policies: scikit-bio's numbers, what each keeps, and that a new sample gets the policy as learned."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal

from batchfix.core.log_ratios import clr
from batchfix.core.simplex import closure
from batchfix.core.zeros import POLICIES, HalfMinimum, Keep, MultiplicativeReplacement, Pseudocount, smallest_proportion
from batchfix.exceptions import BatchfixError

ORACLE = np.load(Path(__file__).parent.parent / "oracles" / "composition.npz")
COUNTS = ORACLE["counts"]

tables = arrays(
    np.float64, st.tuples(st.integers(1, 6), st.integers(2, 9)), elements=st.sampled_from([0.0, 1.0, 2.0, 5.0, 1000.0])
).map(lambda X: X + 3.0 * (np.arange(X.shape[1]) == 0))


def test_oracle():
    assert_allclose(MultiplicativeReplacement.learn(COUNTS).fill(COUNTS), ORACLE["multi_replace_default"], rtol=1e-12)
    small = MultiplicativeReplacement.learn(COUNTS, delta=float(ORACLE["multi_replace_delta"]))
    assert_allclose(small.fill(COUNTS), ORACLE["multi_replace_1e6"], rtol=1e-12)
    assert_allclose(Pseudocount.learn(COUNTS).fill(COUNTS), ORACLE["pc05"], rtol=1e-12)
    assert_allclose(Keep.learn(COUNTS).fill(COUNTS), ORACLE["closure"], rtol=1e-12)


def test_half_of_the_smallest_proportion_of_the_table():
    P = ORACLE["closure"]
    least = P[P > 0].min()
    assert smallest_proportion(COUNTS) == least
    policy = HalfMinimum.learn(COUNTS)
    assert policy == HalfMinimum(least / 2)
    assert_allclose(HalfMinimum.learn(1000 * P).delta, policy.delta, rtol=1e-15)
    want = np.where(P > 0, P, least / 2)
    assert_allclose(policy.fill(COUNTS), closure(want), rtol=1e-14)
    assert HalfMinimum.learn(COUNTS, share=0.65).delta == 0.65 * least


@given(tables)
def test_rows_stay_closed_and_no_zero_is_left(X):
    for name, policy in POLICIES.items():
        filled = policy.learn(X).fill(X)
        assert_allclose(filled.sum(axis=1), 1, rtol=1e-14)
        assert (filled > 0).all() or name == "keep"
        assert_array_equal(filled > 0, X > 0) if name == "keep" else clr(filled)


@given(tables)
def test_ratios_of_observed_parts_are_kept(X):
    seen = X > 0
    for policy in (HalfMinimum.learn(X), MultiplicativeReplacement.learn(X), Keep.learn(X)):
        filled = policy.fill(X)
        assert_allclose(filled[seen], (X * (filled[:, :1] / X[:, :1]))[seen], rtol=1e-13)
    untouched = seen.all(axis=1)
    assert_allclose(HalfMinimum.learn(X).fill(X)[untouched], closure(X)[untouched], rtol=1e-15)


@given(tables)
def test_depth_changes_nothing_but_under_a_pseudocount(X):
    deep = X * 10.0
    for name, policy in POLICIES.items():
        same = np.allclose(policy.learn(deep).fill(deep), policy.learn(X).fill(X), rtol=1e-12)
        assert same or policy.depends_on_depth, name
    some = np.array([[0.0, 1.0, 9.0]])
    assert not np.allclose(Pseudocount().fill(10 * some), Pseudocount().fill(some))


def test_a_new_sample_gets_the_policy_as_learned():
    for policy in (HalfMinimum.learn(COUNTS), MultiplicativeReplacement.learn(COUNTS)):
        whole = policy.fill(COUNTS)
        assert_array_equal(policy.fill(COUNTS[5:7]), whole[5:7])
        sample = np.array([0.0, 1e-9, 1.0])  # its own smallest proportion is far below
        assert_allclose(policy.fill(sample)[0], policy.delta, rtol=policy.delta * 2)
        assert pickle.loads(pickle.dumps(policy)) == policy


def test_nan_is_no_zero():
    X = np.array([[0.0, np.nan, 3.0], [1.0, 3.0, np.nan]])
    for policy in POLICIES.values():
        filled = policy.learn(X).fill(X)
        assert_array_equal(np.isnan(filled), np.isnan(X))
        assert_allclose(np.nansum(filled, axis=1), 1, rtol=1e-14)
    assert HalfMinimum.learn(X).delta == 0.125


def test_an_all_zero_part_is_filled_like_any_other():
    X = COUNTS.copy()
    X[:, 4] = 0
    X = X[X.sum(axis=1) > 0]
    assert (HalfMinimum.learn(X).fill(X)[:, 4] > 0).all()


def test_float32_is_kept():
    X = COUNTS.astype(np.float32)
    for policy in POLICIES.values():
        assert policy.learn(X).fill(X).dtype == np.float32
        assert_allclose(policy.learn(X).fill(X), policy.learn(COUNTS).fill(COUNTS), rtol=1e-6)


def test_positive_amounts_that_vanish_in_the_proportions_are_filled_too():
    X = np.array([[5e-324, 1.0, 1e10]])
    assert (HalfMinimum.learn(X).fill(X) > 0).all()


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda: HalfMinimum(0.0), "between 0 and 1; got 0.0"),
        (lambda: HalfMinimum(float("nan")), "between 0 and 1; got nan"),
        (lambda: MultiplicativeReplacement(1.0), "between 0 and 1; got 1.0"),
        (lambda: MultiplicativeReplacement(0.1).fill(COUNTS), "below 1 / D"),
        (lambda: HalfMinimum.learn(COUNTS, share=0), "share must be above 0"),
        (lambda: HalfMinimum.learn(np.full((2, 2), np.nan)), "something above 0 to learn from"),
        (lambda: HalfMinimum.learn(np.zeros((2, 2))), "got 2 row.s. that sum to 0"),
        (lambda: HalfMinimum.learn(-COUNTS), "must not be negative"),
        (lambda: Pseudocount(0), "must be above 0; got 0"),
        (lambda: Pseudocount.learn(closure(COUNTS)), "added to counts; got rows that sum to 1 at most"),
        (lambda: Pseudocount().fill(closure(COUNTS)), "added to counts; got rows that sum to 1 at most"),
    ],
)
def test_what_makes_no_sense_is_refused(act, words):
    with pytest.raises(BatchfixError, match=words):
        act()
