"""Hierarchical shrinkage: equal to loops, free of bias where the truth is known, sums that add up."""

from dataclasses import fields
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import digamma, polygamma

from batchfix.core.hierarchy import ShrinkageSums, shrunken_mean, shrunken_variance, trigamma_inverse

seeds = st.integers(0, 2**32 - 1)
NAMES = [f.name for f in fields(ShrinkageSums)]


def moments_of(x, codes, n_groups):
    """n, mean and m2, (rows, groups), of the values of each row and group."""
    n, mean, m2 = (np.zeros((len(x), n_groups)) for _ in range(3))
    for t, row in enumerate(x):
        for g in range(n_groups):
            cells = row[(codes == g) & ~np.isnan(row)].astype(np.longdouble)
            n[t, g] = len(cells)
            mean[t, g] = cells.mean() if len(cells) else np.nan
            m2[t, g] = ((cells - cells.mean()) ** 2).sum() if len(cells) else np.nan
    return n, mean, m2


def sums_by_loops(x, codes, parent):
    """The definitions, value by value."""
    total = dict.fromkeys(NAMES, 0.0)
    for row in x:
        groups = {g: row[(codes == g) & ~np.isnan(row)] for g in range(len(parent)) if parent[g] >= 0}
        groups = {g: v for g, v in groups.items() if len(v)}
        freedom = sum(len(v) - 1 for v in groups.values())
        within = sum(((v - v.mean()) ** 2).sum() for v in groups.values())
        for family in set(parent[list(groups)]) if groups else ():
            members = [v for g, v in groups.items() if parent[g] == family]
            if freedom > 2 and within > 0:
                everyone = np.concatenate(members)
                between = sum(len(v) * (v.mean() - everyone.mean()) ** 2 for v in members)
                total["between"] += between * (freedom - 2) / within
                total["freedom"] += len(members) - 1
                total["size"] += len(everyone) - sum(len(v) ** 2 for v in members) / len(everyone)
            spread = [v for v in members if len(v) > 1 and np.ptp(v) > 0]
            if spread:
                halves = np.array([(len(v) - 1) / 2 for v in spread])
                e = np.log([v.var(ddof=1) for v in spread]) - digamma(halves) + np.log(halves)
                total["spread"] += ((e - e.mean()) ** 2).sum()
                total["sampling"] += polygamma(1, halves).sum() * (1 - 1 / len(spread))
                total["variances"] += len(spread) - 1
    return total


def panel(rng, rows, sizes, parent, k=1.0, prior_freedom=np.inf, tails=None):
    """Values of groups in families: between groups 1 / k, within 1 or scaled inverse chi-square of its freedom."""
    codes = np.repeat(np.arange(len(sizes)), sizes)
    families = 3.0 * rng.normal(size=(rows, np.max(parent) + 1))
    groups = families[:, parent] + rng.normal(size=(rows, len(sizes))) / np.sqrt(k)
    noise = rng.normal(size=(rows, len(codes))) if tails is None else rng.standard_t(tails, (rows, len(codes)))
    if np.isfinite(prior_freedom):
        noise *= np.sqrt(prior_freedom / rng.chisquare(prior_freedom, (rows, len(sizes))))[:, codes]
    return groups[:, codes] + noise, codes


# ---- shrinking


@given(seed=seeds)
@settings(max_examples=50, deadline=None)
def test_shrunken_statistics_are_weighted_means(seed):
    rng = np.random.default_rng(seed)
    n, mean, parent = rng.integers(0, 9, (4, 6)).astype(float), rng.normal(size=(4, 6)), rng.normal(size=(4, 1))
    k = rng.uniform(0.1, 5.0, (4, 1))
    want = (n * mean + k * parent) / (n + k)
    assert_allclose(shrunken_mean(n, mean, parent, k), want, rtol=1e-13, atol=1e-15)
    assert_allclose(shrunken_variance(n, mean**2, parent**2, k), (n * mean**2 + k * parent**2) / (n + k), rtol=1e-13)


def test_the_ends_are_exact():
    n, mean = np.array([0.0, 1.0, 5.0]), np.array([np.nan, 0.1, 0.2])
    assert_array_equal(shrunken_mean(n, mean, 1e8, 0.0), [1e8, 0.1, 0.2])
    assert_array_equal(shrunken_mean(n, mean, 0.7, np.inf), [0.7, 0.7, 0.7])
    assert_array_equal(shrunken_variance(n, mean, 0.7, np.inf), [0.7, 0.7, 0.7])
    assert_array_equal(shrunken_mean(n, mean, np.nan, 2.0), [np.nan, 0.1, 0.2])
    assert_array_equal(shrunken_mean(n, mean, np.nan, np.inf), [np.nan, 0.1, 0.2])
    assert_array_equal(shrunken_mean([2.0, 2.0], 3.0, 3.0, [1.0, 7.0]), [3.0, 3.0])


def test_one_amount_a_feature():
    n, k = np.ones((5, 2, 3)), np.array([1.0, 3.0])
    got = shrunken_mean(n, 4.0 * n, np.zeros((5, 2, 1)), k[:, None])
    assert_array_equal(got, np.broadcast_to([[2.0], [1.0]], (5, 2, 3)))


# ---- sums


@given(
    seed=seeds,
    n_groups=st.integers(1, 8),
    families=st.integers(1, 3),
    missing=st.sampled_from([0.0, 0.3, 0.8]),
    outsiders=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_sums_are_their_definitions(seed, n_groups, families, missing, outsiders):
    rng = np.random.default_rng(seed)
    x, codes = rng.normal(size=(5, 24)), rng.integers(0, n_groups, 24)
    x[rng.random(x.shape) < missing] = np.nan
    x[:, codes == 0] = np.where(rng.random() < 0.3, 0.5, x[:, codes == 0])  # sometimes constant
    parent = rng.integers(-1 if outsiders else 0, families, n_groups)
    got, want = ShrinkageSums.of(*moments_of(x, codes, n_groups), parent), sums_by_loops(x, codes, parent)
    for name in NAMES:
        assert_allclose(getattr(got, name), want[name], rtol=1e-10, atol=1e-12, err_msg=name)


@given(seed=seeds, cuts=st.lists(st.integers(0, 30), max_size=3))
@settings(max_examples=30, deadline=None)
def test_sums_add_up_over_rows(seed, cuts):
    rng = np.random.default_rng(seed)
    parent = np.array([0, 0, 1, 1, 1])
    x, codes = panel(rng, 30, [1, 2, 3, 4, 9], parent)
    n, mean, m2 = moments_of(x, codes, 5)
    whole = ShrinkageSums.of(n, mean, m2, parent)
    edges = [0, *sorted(cuts), 30]
    total = ShrinkageSums.of(n[:0], mean[:0], m2[:0], parent)
    assert (total.k, total.prior_freedom) == (np.inf, np.inf)
    for a, b in pairwise(edges):
        total = total + ShrinkageSums.of(n[a:b], mean[a:b], m2[a:b], parent)
    for name in NAMES:
        assert_allclose(getattr(total, name), getattr(whole, name), rtol=1e-12, err_msg=name)
    one = sum(
        (ShrinkageSums.of(n[t], mean[t], m2[t], parent) for t in range(1, 30)),
        ShrinkageSums.of(n[0], mean[0], m2[0], parent),
    )
    assert_allclose(one.k, whole.k, rtol=1e-9)


def test_features_stay_apart():
    rng = np.random.default_rng(0)
    parent = np.array([0, 0, 0, 1, 1])
    each = [moments_of(*panel(rng, 400, [3, 4, 2, 6, 3], parent, k=k), 5) for k in (0.3, 3.0)]
    both = ShrinkageSums.of(*(np.stack(pair, axis=1) for pair in zip(*each, strict=True)), parent)
    assert both.k.shape == both.prior_freedom.shape == (2,)
    for i, one in enumerate(each):
        alone = ShrinkageSums.of(*one, parent)
        assert_allclose(both.k[i], alone.k, rtol=1e-12)
        assert_allclose(both.prior_freedom[i], alone.prior_freedom, rtol=1e-9)


def test_wide_hierarchies_are_cut_into_pieces():
    rng = np.random.default_rng(1)
    rows, groups = 600, 700
    n = rng.integers(0, 5, (rows, groups)).astype(float)
    mean, m2 = rng.normal(size=n.shape), rng.chisquare(np.maximum(n - 1, 0.1))
    parent = rng.integers(0, 40, groups)
    whole = ShrinkageSums.of(n, mean, m2, parent)
    parts = [ShrinkageSums.of(n[a : a + 50], mean[a : a + 50], m2[a : a + 50], parent) for a in range(0, rows, 50)]
    for name in NAMES:
        assert_allclose(getattr(whole, name), sum(getattr(part, name) for part in parts), rtol=1e-12)
    renamed = rng.permutation(40)[parent]
    assert_allclose(ShrinkageSums.of(n, mean, m2, renamed).k, whole.k, rtol=1e-10)


@pytest.mark.parametrize(("offset", "unit"), [(1e8, 1.0), (0.0, 1e-150), (0.0, 1e150)])
def test_offsets_and_units_do_not_matter(offset, unit):
    rng = np.random.default_rng(2)
    parent = np.array([0, 0, 0, 1, 1])
    x, codes = panel(rng, 50, [3, 4, 2, 6, 3], parent, prior_freedom=5.0)
    plain = ShrinkageSums.of(*moments_of(x, codes, 5), parent)
    moved = ShrinkageSums.of(*moments_of(offset + unit * x, codes, 5), parent)
    # 1e8 + x holds x to 1e-8
    assert_allclose(moved.k, plain.k, rtol=1e-6 if offset else 1e-9)
    assert_allclose(moved.prior_freedom, plain.prior_freedom, rtol=1e-5 if offset else 1e-9)


# ---- amounts, where the truth is known

SIZES, PARENT = np.array([1, 2, 3, 5, 8, 2, 2, 4]), np.array([0, 0, 0, 0, 0, 1, 1, 1])


@pytest.mark.parametrize("k", [0.2, 1.0, 5.0])
def test_k_is_the_ratio_of_variances(k):
    x, codes = panel(np.random.default_rng(3), 20_000, SIZES, PARENT, k=k)
    n = np.tile(SIZES, (len(x), 1)).astype(float)
    mean = np.add.reduceat(x, np.cumsum(SIZES) - SIZES, axis=1) / SIZES
    m2 = np.add.reduceat((x - mean[:, codes]) ** 2, np.cumsum(SIZES) - SIZES, axis=1)
    # 20,000 rows of 6 degrees of freedom between groups: the signal is known to about 1 % of itself and its noise
    assert_allclose(ShrinkageSums.of(n, mean, m2, PARENT).k, k, rtol=0.05)
    # wild days count as one day each
    wild = np.exp(np.random.default_rng(4).normal(size=(len(x), 1)) * 2)
    assert_allclose(ShrinkageSums.of(n, mean * wild, m2 * wild**2, PARENT).k, k, rtol=0.05)


@pytest.mark.parametrize("prior_freedom", [2.0, 6.0, 30.0])
def test_the_prior_freedom_is_found(prior_freedom):
    rng = np.random.default_rng(5)
    d = (SIZES - 1.0)[None]
    variance = prior_freedom / rng.chisquare(prior_freedom, (20_000, 8))
    m2 = rng.chisquare(np.maximum(d, 1e-9), (20_000, 8)) * variance
    n = np.tile(SIZES, (20_000, 1)).astype(float)
    sums = ShrinkageSums.of(n, rng.normal(size=n.shape), m2, PARENT)
    assert_allclose(sums.prior_freedom, prior_freedom, rtol=0.2 if prior_freedom > 10 else 0.05)


def test_groups_that_do_not_differ_take_their_parents_statistics():
    """Of an excess that is noise about 0, half the draws are below 0: pooled means far apart are not to be expected."""
    x, codes = panel(np.random.default_rng(6), 4000, SIZES, PARENT, k=1e12)
    sums = ShrinkageSums.of(*moments_of(x[:400], codes, 8), PARENT)
    assert sums.k > 30
    assert sums.prior_freedom > 20
    same = np.ones((3, 2))
    alike = ShrinkageSums.of(4 * same, same, same, np.array([0, 0]))
    assert (alike.k, alike.prior_freedom) == (np.inf, np.inf)


def test_what_can_not_be_compared_takes_the_parents_statistics():
    """Lone children, rows with too little within groups, constant groups."""
    ones = np.ones((3, 2))
    for n, parent in ((5 * ones, [0, 1]), (ones, [0, 0]), (5 * ones, [-1, -1]), (0 * ones, [0, 0])):
        sums = ShrinkageSums.of(n, [[0.0, 1.0]] * 3, ones * (n > 1), np.array(parent))
        assert (sums.k, sums.prior_freedom) == (np.inf, np.inf)
    noise = (1e-17 * ones) ** 2
    sums = ShrinkageSums.of(5 * ones, [[0.1, 0.7]] * 3, noise, np.array([0, 0]))
    assert [getattr(sums, name) for name in NAMES] == [0.0] * 6


def test_shrinking_by_the_estimated_amounts_predicts_best():
    """Truth beside its estimate: the amounts of earlier rows are as good on later rows as the best there are."""
    rng = np.random.default_rng(7)
    k, rows = 2.0, 3000
    family, groups = 3.0 * rng.normal(size=(rows, 2)), rng.normal(size=(rows, 8)) / np.sqrt(k)
    true = family[:, PARENT] + groups
    codes = np.repeat(np.arange(8), SIZES)
    x = true[:, codes] + rng.normal(size=(rows, len(codes)))
    n, mean, m2 = moments_of(x, codes, 8)
    estimated = ShrinkageSums.of(n[:1500], mean[:1500], m2[:1500], PARENT).k
    n, mean, true, parent = n[1500:], mean[1500:], true[1500:], family[1500:, PARENT]
    errors = {c: ((shrunken_mean(n, mean, parent, c) - true) ** 2).mean() for c in (0.0, estimated, k, np.inf)}
    assert errors[estimated] < 1.02 * errors[k]
    assert errors[estimated] < 0.9 * min(errors[0.0], errors[np.inf])


@given(st.floats(-12, 12))
@settings(max_examples=60, deadline=None)
def test_the_inverse_of_trigamma(exponent):
    y = 10.0**exponent
    assert_allclose(trigamma_inverse(polygamma(1, y)), y, rtol=1e-8)
