"""Shrinkage against slow references that read the rows, as sva does, one feature at a time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from batchfix.core import shrinkage
from batchfix.core.shrinkage import Prior, shrink_location, shrink_nonparametric, shrink_parametric

seeds = st.integers(0, 2**32 - 1)


def batch(seed: int, n: int = 12, p: int = 30, missing: float = 0.0) -> np.ndarray:
    """Standardised rows (n, p) of one batch with effects of its own."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0.7, 0.4, p) + rng.normal(size=(n, p)) * np.exp(rng.normal(0.3, 0.3, p))
    x[rng.random((n, p)) < missing] = np.nan
    return x


def summary(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """n, location and variance (1, p): all that shrinkage is told."""
    return (~np.isnan(rows)).sum(axis=0)[None].astype(float), *(
        f[None] for f in (np.nanmean(rows, axis=0), np.nanvar(rows, axis=0, ddof=1))
    )


def slow_parametric(rows: np.ndarray, tol: float = 1e-4) -> tuple[np.ndarray, np.ndarray]:
    """The conditional means of Johnson et al. 2007, section 3.2, on the rows themselves."""
    p = rows.shape[1]
    g_hat, d_hat = np.nanmean(rows, axis=0), np.nanvar(rows, axis=0, ddof=1)
    g_bar, t2 = np.mean(g_hat), np.var(g_hat, ddof=1)
    m, s2 = np.mean(d_hat), np.var(d_hat, ddof=1)
    a, b = (2 * s2 + m**2) / s2, (m * s2 + m**3) / s2
    g, d = g_hat.copy(), d_hat.copy()
    while True:
        g_new, d_new = np.empty(p), np.empty(p)
        for j in range(p):
            values = rows[~np.isnan(rows[:, j]), j]
            n = len(values)
            g_new[j] = (t2 * n * g_hat[j] + d[j] * g_bar) / (t2 * n + d[j])
            d_new[j] = (0.5 * sum((values - g_new[j]) ** 2) + b) / (n / 2 + a - 1)
        change = max(np.max(np.abs(g_new - g) / g), np.max(np.abs(d_new - d) / d))
        g, d = g_new, d_new
        if not change > tol:
            return g, d


def slow_nonparametric(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weigh the other features' estimates by the likelihood of this one's rows, in long double."""
    g_hat, d_hat = np.nanmean(rows, axis=0), np.nanvar(rows, axis=0, ddof=1)
    g, d = np.empty(len(g_hat)), np.empty(len(g_hat))
    for j in range(len(g_hat)):
        values = rows[~np.isnan(rows[:, j]), j].astype(np.longdouble)
        others = np.arange(len(g_hat)) != j
        at, spread = g_hat[others].astype(np.longdouble), d_hat[others].astype(np.longdouble)
        weight = np.ones(others.sum(), dtype=np.longdouble)
        for x in values:
            weight *= np.exp(-((x - at) ** 2) / (2 * spread)) / np.sqrt(2 * np.pi * spread)
        g[j], d[j] = (weight * at).sum() / weight.sum(), (weight * spread).sum() / weight.sum()
    return g, d


@given(seed=seeds, missing=st.sampled_from([0.0, 0.2]), tol=st.sampled_from([1e-4, 1e-9]))
@settings(max_examples=15, deadline=None)
def test_parametric_is_the_iteration_on_the_rows(seed, missing, tol):
    rows = batch(seed, p=12, missing=missing)
    while (np.isnan(rows).sum(axis=0) > len(rows) - 2).any():
        rows = batch(seed := seed + 1, p=12, missing=missing)
    n, g, d = summary(rows)
    got = shrink_parametric(n, g, d, Prior.of(g, d), tol=tol)
    want = slow_parametric(rows, tol)
    assert_allclose(got.location[0], want[0], rtol=1e-10, atol=1e-12)
    assert_allclose(got.variance[0], want[1], rtol=1e-10)
    assert got.converged.all()


@given(seed=seeds, missing=st.sampled_from([0.0, 0.2]))
@settings(max_examples=15, deadline=None)
def test_nonparametric_is_the_weighing_of_the_rows(seed, missing):
    rows = batch(seed, p=12, missing=missing)
    while (np.isnan(rows).sum(axis=0) > len(rows) - 2).any():
        rows = batch(seed := seed + 1, p=12, missing=missing)
    n, g, d = summary(rows)
    got = shrink_nonparametric(n, g, d)
    want = slow_nonparametric(rows)
    assert_allclose(got.location[0], want[0], rtol=1e-9, atol=1e-10)
    assert_allclose(got.variance[0], want[1], rtol=1e-9)


def test_the_iteration_stops_at_the_signed_tolerance():
    # old locations of both signs: sva divides by the signed value, so a negative one never holds it up
    rows = batch(3, n=4, p=40) - 0.7
    n, g, d = summary(rows)
    got = shrink_parametric(n, g, d, Prior.of(g, d))
    assert_allclose(got.location[0], slow_parametric(rows)[0], rtol=1e-12)
    assert got.rounds[0] < shrink_parametric(n, g, d, Prior.of(g, d), tol=1e-10).rounds[0]


def test_a_prior_averages_across_features_of_its_batch():
    rng = np.random.default_rng(0)
    g, d = rng.normal(size=(3, 50)), rng.gamma(3.0, size=(3, 50))
    prior = Prior.of(g, d)
    assert_allclose(prior.mean, g.mean(axis=1))
    assert_allclose(prior.variance, g.var(axis=1, ddof=1))
    # an inverse gamma of this shape and rate has the features' mean and variance
    assert_allclose(prior.rate / (prior.shape - 1), d.mean(axis=1))
    assert_allclose(prior.rate**2 / (prior.shape - 1) ** 2 / (prior.shape - 2), d.var(axis=1, ddof=1))
    alone = Prior.of(g[1:2], d[1:2])
    assert_array_equal([alone.mean[0], alone.rate[0]], [prior.mean[1], prior.rate[1]])


def test_what_is_missing_has_no_say_in_the_prior():
    rng = np.random.default_rng(1)
    g, d = rng.normal(size=(1, 20)), rng.gamma(3.0, size=(1, 20))
    want = Prior.of(g[:, 3:], d[:, 5:])
    g[:, :3], d[:, :5] = np.nan, np.nan
    got = Prior.of(g, d)
    for name in ("mean", "variance", "shape", "rate"):
        assert_allclose(getattr(got, name), getattr(want, name), rtol=1e-14)


@pytest.mark.parametrize("n", [1.0, np.array([[3.0], [9.0]])])
def test_location_alone_is_pulled_toward_its_mean(n):
    rng = np.random.default_rng(2)
    g = rng.normal(1.0, 1.0, (2, 40))
    prior = Prior.of(g, np.ones_like(g))
    got = shrink_location(g, prior, n)
    t2 = g.var(axis=1, ddof=1, keepdims=True) * n
    assert_allclose(got.location, (t2 * g + g.mean(axis=1, keepdims=True)) / (t2 + 1))
    assert_array_equal(got.variance, 1.0)
    g[0, 0] = np.nan
    assert_allclose(shrink_location(g, prior, n).location[0, 0], prior.mean[0])


@pytest.mark.parametrize("shrink", [shrink_parametric, shrink_nonparametric])
def test_more_rows_mean_less_shrinkage(shrink):
    _, g, d = summary(batch(4))
    distance = []
    for n in (3.0, 30.0, 3000.0):
        prior = (Prior.of(g, d),) if shrink is shrink_parametric else ()
        distance.append(np.abs(shrink(np.full_like(g, n), g, d, *prior).location - g).mean())
    if shrink is shrink_parametric:
        assert distance[0] > distance[1] > distance[2]
        assert distance[2] < 1e-3
    else:  # only other features' values can be had
        assert distance[0] > distance[2]


@pytest.mark.parametrize("shrink", [shrink_parametric, shrink_nonparametric])
def test_order_of_features_and_batches_does_not_matter(shrink):
    parts = [summary(batch(k)) for k in range(3)]
    n, g, d = (np.concatenate([part[i] for part in parts]) for i in range(3))
    features, batches = np.random.default_rng(0).permutation(30), [2, 0, 1]

    def call(n, g, d):
        return shrink(n, g, d, Prior.of(g, d)) if shrink is shrink_parametric else shrink(n, g, d)

    whole = call(n, g, d)
    moved = call(*(v[batches][:, features] for v in (n, g, d)))
    assert_allclose(moved.location, whole.location[batches][:, features], rtol=1e-11)
    assert_allclose(moved.variance, whole.variance[batches][:, features], rtol=1e-11)
    alone = call(n[1:2], g[1:2], d[1:2])
    assert_allclose(alone.location[0], whole.location[1], rtol=1e-12)


def test_size_of_blocks_does_not_matter(monkeypatch):
    n, g, d = summary(batch(5, p=23))
    want = shrink_nonparametric(n, g, d)
    for pairs in (1, 60, 23 * 7):
        monkeypatch.setattr(shrinkage, "PAIRS", pairs)
        got = shrink_nonparametric(n, g, d)
        assert_allclose(got.location, want.location, rtol=1e-13)
        assert_allclose(got.variance, want.variance, rtol=1e-13)


def test_a_large_batch_does_not_underflow():
    # sva: exp(-n ...) is 0 for all, 0 / 0 = NaN
    rng = np.random.default_rng(6)
    g, d = rng.normal(0, 3, (1, 50)), rng.gamma(3.0, size=(1, 50))
    got = shrink_nonparametric(np.full_like(g, 1e6), g, d)
    assert np.isfinite(got.location).all()
    assert np.isfinite(got.variance).all()
    # with so many rows only the likeliest other feature counts
    cost = 1e6 * np.log(d[0]) + ((1e6 - 1) * d[0][:, None] + 1e6 * (g[0][:, None] - g[0]) ** 2) / d[0]
    np.fill_diagonal(cost, np.inf)
    assert_allclose(got.location[0], g[0][cost.argmin(axis=1)], rtol=1e-9)


def test_nonparametric_location_alone_takes_every_variance_for_one():
    n, g, d = summary(batch(7))
    got = shrink_nonparametric(n, g, d, mean_only=True)
    assert_array_equal(got.variance, 1.0)
    log_weight = -0.5 * n * (g[0][:, None] - g[0]) ** 2
    np.fill_diagonal(log_weight, -np.inf)
    weight = np.exp(log_weight - log_weight.max(axis=1, keepdims=True))
    assert_allclose(got.location[0], weight @ g[0] / weight.sum(axis=1), rtol=1e-10)


def test_a_feature_never_weighs_itself():
    g, d = np.array([[0.0, 0.0, 5.0]]), np.ones((1, 3))
    got = shrink_nonparametric(np.full((1, 3), 8.0), g, d)
    assert got.location[0, 2] == 0.0
    assert got.location[0, 0] < 1e-3


@pytest.mark.parametrize("shrink", [shrink_parametric, shrink_nonparametric])
def test_a_pair_without_values_gets_what_the_others_say(shrink):
    n, g, d = summary(batch(8))
    n[0, 4], g[0, 4], d[0, 4] = 0, np.nan, np.nan
    n[0, 9], d[0, 9] = 1, np.nan
    prior = Prior.of(g, d)
    got = shrink(n, g, d, prior) if shrink is shrink_parametric else shrink(n, g, d)
    assert np.isfinite(got.location).all()
    assert (got.variance > 0).all()
    usable = ~np.isnan(d[0])
    if shrink is shrink_parametric:
        assert_allclose(got.location[0, 4], prior.mean[0])
        assert_allclose(got.variance[0, 4], prior.rate[0] / (prior.shape[0] - 1))
    else:
        assert_allclose(got.location[0, 4], g[0, usable].mean())
        assert_allclose(got.variance[0, 4], d[0, usable].mean())


@pytest.mark.parametrize("variance", [1.0, 1.7, 1.0 + 4e-16])
def test_variances_that_agree_are_shrunk_wholly(variance):
    n, g, _ = summary(batch(9))
    d = np.full_like(g, variance)
    d[0, 0] = 1.7 if variance == 1.7 else 1.0  # to the last bit, or all but
    got = shrink_parametric(n, g, d, Prior.of(g, d))
    assert_allclose(got.variance, variance)
    assert got.converged.all()


def test_locations_that_agree_stay():
    n, _, d = summary(batch(10))
    g = np.zeros_like(d)
    got = shrink_parametric(n, g, d, Prior.of(g, d))
    assert_array_equal(got.location, 0.0)
    assert got.converged.all()


def test_an_iteration_that_does_not_settle_says_so():
    n, g, d = summary(batch(11, n=3))
    got = shrink_parametric(n, g, d, Prior.of(g, d), max_iter=1, tol=1e-12)
    assert not got.converged.any()
    assert got.rounds.tolist() == [1]


# ---- few features with a variance


def test_a_feature_alone_with_a_variance_keeps_its_estimates():
    n = np.full((1, 3), 20.0)
    location, variance = np.array([[0.3, -0.2, 1.5]]), np.array([[np.nan, 0.0, 2.5]])
    got = shrink_nonparametric(n, location, variance)
    assert (got.location[0, 2], got.variance[0, 2]) == (1.5, 2.5)
    assert np.isfinite(got.location).all()
    assert np.isfinite(got.variance).all()


def test_where_no_feature_has_a_variance_locations_are_weighed():
    n = np.array([[1.0, 1.0, 1.0, 20.0], [20.0, 20.0, 20.0, 20.0]])
    location = np.array([[0.3, -0.2, 1.5, 0.1], [0.3, -0.2, 1.5, 0.1]])
    variance = np.array([[np.nan, np.nan, np.nan, 0.0], [1.0, 2.0, 3.0, 1.5]])
    got = shrink_nonparametric(n, location, variance)
    want = shrink_nonparametric(n, location, variance, mean_only=True)
    assert_allclose(got.location[0], want.location[0])
    assert_array_equal(got.variance[0], np.ones(4))
    assert_allclose(got.location[1], shrink_nonparametric(n[1:], location[1:], variance[1:]).location[0])


def test_one_located_feature_stays_where_it_is():
    got = shrink_nonparametric(np.array([[1.0, 0.0]]), np.array([[0.7, np.nan]]), np.full((1, 2), np.nan))
    assert got.location[0, 0] == 0.7
    assert_array_equal(got.variance, np.ones((1, 2)))
