"""The running population and the bridge to it, against loops. The layer's twin: tests/correctors/test_renorm.py."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from batchfix.core.affine import Affine
from batchfix.core.moments import Moments
from batchfix.core.renorm import Bridged, Population, is_flat, lerp, renormalize

seeds = st.integers(0, 2**32 - 1)


def batches(seed: int, least: int = 1) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(3.0, 2.0, (rng.integers(least, 6), 3)) for _ in range(6)]


def run(population: Population, parts: list[np.ndarray]) -> Population:
    for x in parts:
        population = population.step(Moments.of(x))
    return population


@given(seed=seeds)
@settings(max_examples=30)
def test_moments_are_those_of_all_rows(seed):
    parts = batches(seed)
    got = run(Population.start(3, "moments"), parts)
    rows = np.concatenate(parts)
    assert_allclose(got.mean, rows.mean(axis=0), rtol=1e-12)
    assert_allclose(got.var, rows.var(axis=0, ddof=1), rtol=1e-12)
    assert_array_equal(got.n, len(rows))


@pytest.mark.parametrize("known", [True, False])
@given(seed=seeds)
@settings(max_examples=20)
def test_without_momentum_all_batches_weigh_alike(known, seed):
    parts = batches(seed, least=2)
    got = run(Population.start(3, None, known=known), parts)
    assert_allclose(got.mean, np.mean([x.mean(axis=0) for x in parts], axis=0), rtol=1e-12)
    assert_allclose(got.var, np.mean([x.var(axis=0, ddof=1) for x in parts], axis=0), rtol=1e-12)


def test_an_exponential_average_forgets():
    x = np.array([[1.0], [3.0]])
    got = run(Population.start(1, 0.25), [x, x])
    assert_allclose(got.mean, 2 * (1 - 0.75**2))
    assert_allclose(got.var, 2 + (1 - 2) * 0.75**2)
    first = run(Population.start(1, 0.25, known=False), [x])
    assert (first.mean, first.var) == (2.0, 2.0)


@pytest.mark.parametrize("momentum", [None, "moments"])
@given(seed=seeds, cut=st.integers(0, 6))
@settings(max_examples=20)
def test_where_order_does_not_matter_streams_add_up(momentum, seed, cut):
    parts = batches(seed, least=2)
    start = Population.start(3, momentum)
    a, b = run(start, parts[:cut]), run(start, parts[cut:])
    whole, both = run(start, parts), a + b
    assert not both.order_matters
    for name in ("n", "mean", "freedom", "var"):
        assert_allclose(getattr(both, name), getattr(whole, name), rtol=1e-12)
    assert both.steps == whole.steps == 6
    assert_allclose(run(start, parts[::-1]).var, whole.var, rtol=1e-12)


def test_where_order_matters_it_says_so():
    one, two = Moments.of(np.ones((1, 1))), Moments.of(np.array([[0.0], [2.0]]))
    assert Population.start(1, 0.1).order_matters
    assert Population.start(1, None).step(one).order_matters
    assert not Population.start(1, None, known=False).step(one).order_matters
    start = Population.start(1, None)
    assert start.step(one).step(two).var != start.step(two).step(one).var


@given(seed=seeds)
@settings(max_examples=20)
def test_without_limits_the_map_is_the_populations(seed):
    *past, x = batches(seed)
    population = run(Population.start(3, 0.3), past)
    bridged = renormalize(Moments.of(x), population, np.inf, np.inf, eps=1e-3)
    frame = population.frame(1e-3)
    assert_allclose(bridged.map.apply(x), (x - frame.location) / frame.scale, rtol=1e-12, atol=1e-12)


def test_a_population_without_scale_has_no_bridge():
    x = np.array([[1.0], [3.0]])
    start = Population.start(1, known=False)
    assert np.isnan(start.frame(1e-5).scale).all()
    bridged = renormalize(Moments.of(x), start, 3.0, 5.0, eps=0.0)
    assert (bridged.r, bridged.d) == (1.0, 0.0)
    assert bridged.map.apply(x).ravel().tolist() == [-1.0, 1.0]
    alone = renormalize(Moments.of(x[:1]), start, 3.0, 5.0, eps=0.0)
    assert alone.map.apply(x).ravel().tolist() == [0.0, 2.0]  # not divided


def test_a_spread_of_rounding_is_none():
    x = 1e8 + np.array([[0.0, 0.0], [1.5e-8, 1.0]])
    assert is_flat(Moments.of(x), np.finfo(np.float64).eps).tolist() == [True, False]
    assert is_flat(Moments.of(x), np.finfo(np.float32).eps).tolist() == [True, True]
    assert is_flat(Moments.of(x[:1]), 0.0).all()


def test_a_lerp_reaches_both_ends():
    start, end = np.array([1.0, 1.0]), np.array([1e-300, 1e-300])
    assert lerp(start, end, np.array([0.0, 1.0])).tolist() == [1.0, 1e-300]


def test_bridges_are_laid_side_by_side():
    one = Bridged(Affine(np.zeros(2), np.ones(2), np.zeros(2)), np.ones(2), np.zeros(2))
    two = Bridged(Affine(np.ones(2), np.ones(2), np.ones(2)), 2 * np.ones(2), np.ones(2))
    both = Bridged.concatenate([Bridged.stack([one]), Bridged.stack([two])])[np.array([1, 0])]
    assert both.r.tolist() == [[2.0, 2.0], [1.0, 1.0]]
    assert both.map.center.tolist() == [[1.0, 1.0], [0.0, 0.0]]
