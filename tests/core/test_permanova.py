"""PERMANOVA against published numbers, plain loops over distances, and permutation by hand."""

from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.spatial.distance import cdist

from batchfix.core import gram
from batchfix.core.feature_effects import feature_squares
from batchfix.core.permanova import (
    Coordinates,
    F_of,
    InnerProducts,
    inverse,
    p_value,
    partition,
    permuted_shares,
    random_places,
    space_of,
)
from batchfix.core.projection import Margin, indicators

ORACLES = Path(__file__).parent.parent / "oracles"
seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module")
def lab():
    return np.load(ORACLES / "lab.npz"), json.loads((ORACLES / "lab.json").read_text())


def codes_of(labels: np.ndarray) -> np.ndarray:
    return np.unique(labels, return_inverse=True)[1]


def slow_f(D: np.ndarray, codes: np.ndarray) -> float:
    """Anderson 2001: sums of squared distances over n, within groups over the group's size."""
    n, levels = len(codes), np.unique(codes)
    total = sum(D[i, j] ** 2 for i in range(n) for j in range(i)) / n
    within = 0.0
    for k in levels:
        rows = np.flatnonzero(codes == k)
        within += sum(D[i, j] ** 2 for i in rows for j in rows if j < i) / len(rows)
    return ((total - within) / (len(levels) - 1)) / (within / (n - len(levels)))


def test_f_under_given_permutations(lab):
    arrays, numbers = lab
    codes = codes_of(arrays["batch"])
    margin = Margin.of(indicators(codes, 3))
    orders = arrays["perms"].astype(np.intp)
    for space in (
        Coordinates.of(arrays["X"], margin),
        InnerProducts(gram.gower(cdist(arrays["X"], arrays["X"]))),
    ):
        for labels in (codes, None):
            F = F_of(permuted_shares(space, margin, map(inverse, orders), labels), margin)
            assert_allclose(F, arrays["Fperm"], rtol=1e-10)
    squares = feature_squares(arrays["X"], indicators(codes, 3)).sum()
    share = squares.added / (squares.added + squares.residual)
    assert_allclose(squares.F, numbers["perm199"]["F"], rtol=1e-10)
    assert_allclose(squares.R2, numbers["perm199"]["R2"], rtol=1e-10)
    assert p_value(share, permuted_shares(space, margin, map(inverse, orders), codes)) == numbers["perm199"]["p"]


@given(seed=seeds, n=st.integers(8, 14), p=st.integers(1, 30))
@settings(max_examples=20)
def test_equals_the_loop_over_distances(seed, n, p):
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.arange(n) % 3)
    X = rng.normal(size=(n, p))
    D = cdist(X, X)
    margin = Margin.of(indicators(codes, 3))
    orders = np.array(list(random_places(n, 4, rng)))
    found = F_of(permuted_shares(space_of(X, margin), margin, map(inverse, orders), codes), margin)
    assert_allclose(found, [slow_f(D, codes[order]) for order in orders], rtol=1e-8)
    assert_allclose(partition(gram.gower(D.copy()), margin).F, slow_f(D, codes), rtol=1e-8)


@given(seed=seeds, p=st.sampled_from([2, 40]), by_distance=st.booleans())
@settings(max_examples=20)
def test_with_something_given_residuals_are_permuted(seed, p, by_distance):
    rng = np.random.default_rng(seed)
    n = 20
    factor = indicators(rng.permutation(np.arange(n) % 3), 3)
    before = np.column_stack([rng.normal(size=n), rng.permutation(np.arange(n) % 2)])
    X = rng.normal(size=(n, p)) + before @ rng.normal(size=(2, p))
    margin = Margin.of(factor, before)
    space = InnerProducts(gram.without(gram.gower(cdist(X, X)), margin.given)) if by_distance else space_of(X, margin)
    orders = np.array(list(random_places(n, 3, rng)))
    found = F_of(permuted_shares(space, margin, map(inverse, orders)), margin)

    def residual(Y, *columns):
        design = np.hstack([np.ones((n, 1)), *columns])
        return Y - design @ np.linalg.lstsq(design, Y, rcond=None)[0]

    small = residual(X, before)
    for order, F in zip(orders, found, strict=True):
        Y = X - small  # the fit, plus residuals moved to where the permuted design would meet them
        Y[order] += small
        left, some = np.square(residual(Y, before, factor)).sum(), np.square(residual(Y, before)).sum()
        assert_allclose(F, ((some - left) / margin.df) / (left / margin.residual_df), rtol=1e-8)


def test_sums_by_group_are_projections_on_the_basis():
    rng = np.random.default_rng(0)
    codes = rng.permutation(np.arange(40) % 12)
    margin = Margin.of(indicators(codes, 12))
    orders = list(random_places(40, 5, rng))
    X = rng.normal(size=(40, 6))
    for space in (Coordinates.of(X, margin), InnerProducts(gram.inner_products(X, margin.given))):
        by_group, by_basis = (permuted_shares(space, margin, orders, labels) for labels in (codes, None))
        assert_allclose(by_group, by_basis, rtol=1e-11)


def test_every_split_of_six_samples_is_counted_once_with_its_ties():
    X = np.array([[0.0], [0.1], [0.3], [5.0], [5.7], [6.1]])
    codes = np.array([0, 0, 0, 1, 1, 1])
    margin = Margin.of(indicators(codes, 2))
    orders = [np.array(order) for order in permutations(range(6))]
    shares = permuted_shares(space_of(X, margin), margin, orders, codes)
    # of the 20 splits, the one made and its mirror image are as large: 2 of 20
    assert np.count_nonzero(shares >= shares[0] - 1e-12) == 72
    assert p_value(shares[0], shares) == 73 / 721


def test_one_order_at_a_time_or_all_together():
    rng = np.random.default_rng(1)
    X, codes = rng.normal(size=(300, 3)), rng.integers(0, 3, 300)
    margin = Margin.of(indicators(codes, 3))
    space = space_of(X, margin)
    orders = list(random_places(300, 7, rng))
    counted = []
    together = permuted_shares(space, margin, orders, codes, counted.append)
    assert_allclose(together, [permuted_shares(space, margin, [o], codes)[0] for o in orders], rtol=1e-12)
    assert sum(counted) == 7
    assert permuted_shares(space, margin, [], codes).shape == (0,)
    assert np.isnan(p_value(0.5, np.zeros(0)))


@pytest.mark.parametrize(("scale", "offset", "atol"), [(1e-150, 0, 1e-12), (1e150, 0, 1e-12), (1.0, 1e8, 1e-6)])
@pytest.mark.parametrize("p", [3, 80])
def test_unit_and_origin_do_not_matter(scale, offset, atol, p):
    rng = np.random.default_rng(2)
    X, codes = rng.normal(size=(30, p)), np.arange(30) % 3
    margin = Margin.of(indicators(codes, 3))
    orders = list(random_places(30, 5, rng))
    plain, moved = (permuted_shares(space_of(Y, margin), margin, orders, codes) for Y in (X, X * scale + offset))
    assert_allclose(moved, plain, atol=atol)


def test_distances_of_a_table_are_its_inner_products():
    rng = np.random.default_rng(3)
    X = rng.normal(size=(12, 30)) * rng.lognormal(size=30) + 100
    unit = gram.largest_distance(X)
    centred = (X - X.mean(axis=0)) / unit
    margin = Margin.of(indicators(np.arange(12) % 2, 2), rng.normal(size=(12, 1)))
    G = gram.inner_products(X, margin.given[:, :0])
    assert_allclose(G, centred @ centred.T, atol=1e-12)
    D = cdist(X, X)
    assert_allclose(gram.gower(D.copy()) * D.max() ** 2, G * unit**2, rtol=1e-9, atol=1e-9 * D.max() ** 2)
    rest = np.eye(12) - margin.given @ margin.given.T
    assert_allclose(gram.inner_products(X, margin.given), rest @ G @ rest, atol=1e-12)
    assert_allclose(gram.without(G.copy(), margin.given), rest @ G @ rest, atol=1e-12)


def test_bray_curtis_is_its_formula():
    X = np.random.default_rng(4).poisson(3.0, size=(1100, 4)) + 1.0  # more than one block
    D = gram.bray_curtis(X)
    for i, j in [(0, 1), (5, 1000), (1099, 511), (700, 700)]:
        assert_allclose(D[i, j], np.abs(X[i] - X[j]).sum() / (X[i] + X[j]).sum(), rtol=1e-14)
    assert (D.T == D).all()
