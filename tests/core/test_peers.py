"""Peers: sums and statistics of groups within rows are those of a loop over groups, however cells are grouped."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from batchfix.core.peer_statistics import measure, medians, quantiles
from batchfix.core.peers import Levels, Peers
from batchfix.core.recipe import Recipe
from batchfix.core.robust import MAD_TO_SIGMA
from batchfix.core.standing import level_moments, standardize
from batchfix.exceptions import BatchfixError

seeds = st.integers(0, 2**32 - 1)
shapes = st.tuples(st.integers(1, 6), st.integers(1, 15), st.integers(1, 5), st.booleans())


def make(seed, shape):
    """A table with gaps, and codes of columns or of cells."""
    rows, p, n_groups, of_cells = shape
    rng = np.random.default_rng(seed)
    X = rng.normal(2.0, 3.0, (rows, p))
    X[rng.random(X.shape) < rng.choice([0.0, 0.3])] = np.nan
    return X, rng.integers(0, n_groups, X.shape if of_cells else p), rng


def groups_of(X, codes, n_groups):
    """Row, group, and which cells are in it."""
    cells = np.broadcast_to(codes, X.shape)
    for i in range(len(X)):
        for g in range(n_groups):
            yield i, g, cells[i] == g


# ---- sorting, sums and spreading


@given(seeds, shapes)
def test_sorting_and_back_moves_nothing(seed, shape):
    X, codes, _ = make(seed, shape)
    peers, out = Peers.of(codes, shape[2]), np.empty_like(X)
    peers.unsort(peers.sort(X), out)
    assert_array_equal(out, X)
    turned = np.empty(X.shape[::-1], dtype=np.float32).T
    peers.unsort(peers.sort(X), turned)
    assert_array_equal(turned, X.astype(np.float32))


@given(seeds, shapes)
def test_totals_are_sums_over_groups_and_spread_over_their_cells(seed, shape):
    X, codes, _ = make(seed, shape)
    X = np.nan_to_num(X)
    peers = Peers.of(codes, shape[2])
    total = peers.dense(peers.total(peers.sort(X)))
    back = np.empty_like(X)
    peers.unsort(peers.spread(peers.pick(total)), back)
    for i, g, own in groups_of(X, codes, shape[2]):
        assert_allclose(total[i, g], X[i, own].sum(), rtol=1e-13, atol=1e-13)
        assert_array_equal(back[i, own], total[i, g])


def test_neighbours_are_not_moved():
    assert Peers.of(np.array([0, 0, 1, 3]), 4).in_order
    assert Peers.of(np.array([[0, 1], [1, 1]]), 2).in_order
    assert not Peers.of(np.array([1, 0]), 2).in_order


@given(seeds, st.booleans())
def test_a_coarser_level_has_the_sums_of_its_members(seed, of_cells):
    parent = np.array([0, 0, 1, 3, 3])
    X, codes, _ = make(seed, (3, 9, 5, of_cells))
    X = np.nan_to_num(X)
    fine, coarse = Peers.of(codes, 5), Peers.of(parent[codes], 4)
    found = fine.coarser(parent, 4)
    total = found.dense(found.total(fine.sort(X)))
    assert_allclose(total, coarse.dense(coarse.total(coarse.sort(X))), rtol=1e-13, atol=1e-13)


def test_levels_know_their_ancestors_and_who_has_no_name():
    levels = Levels(
        (np.array([0, 0, 0]), np.array([0, 0, 1, 2])),
        (np.array([False, True, True]), np.array([False, True, True, True])),
    )
    assert levels.n_groups == 4
    assert [levels.size(level) for level in range(3)] == [1, 3, 4]
    assert levels.ancestors(2).tolist() == [0, 1, 2, 3]
    assert levels.ancestors(1).tolist() == [0, 0, 1, 2]
    assert levels.ancestors(0).tolist() == [0, 0, 0, 0]
    assert levels.nameless.tolist() == [True, False, False, False]
    with pytest.raises(BatchfixError, match="got 1 and 0 levels"):
        Levels((np.zeros(1, dtype=int),), ())


# ---- statistics


@given(seeds, shapes)
def test_moments_are_those_of_each_group_by_itself(seed, shape):
    X, codes, _ = make(seed, shape)
    moments = level_moments(X, codes, Levels.flat(shape[2]))
    for i, g, own in groups_of(X, codes, shape[2]):
        x = X[i, own & ~np.isnan(X[i])]
        assert moments[1].n[i, g] == len(x)
        if len(x):
            assert_allclose(moments[1].mean[i, g], x.mean(), rtol=1e-13, atol=1e-14)
            assert_allclose(moments[1].m2[i, g], ((x - x.mean()) ** 2).sum(), rtol=1e-12, atol=1e-13)
    for i, row in enumerate(X):
        x = row[~np.isnan(row)]
        assert moments[0].n[i, 0] == len(x)
        if len(x):  # merged from groups: rounding of their means enters
            assert_allclose(moments[0].mean[i, 0], x.mean(), rtol=1e-12, atol=1e-13)
            assert_allclose(moments[0].m2[i, 0], ((x - x.mean()) ** 2).sum(), rtol=1e-11, atol=1e-12)


@given(seeds, shapes)
def test_weights_that_are_whole_numbers_repeat_cells_and_their_unit_says_nothing(seed, shape):
    X, codes, rng = make(seed, shape)
    weights = rng.integers(1, 4, X.shape).astype(float)
    peers = Peers.of(codes, shape[2])
    moments, _ = measure(peers.sort(X), peers, peers.sort(weights))
    scaled, _ = measure(peers.sort(X), peers, peers.sort(weights * 1e6))
    moments, scaled = moments.dense(peers), scaled.dense(peers)
    for i, g, own in groups_of(X, codes, shape[2]):
        seen = own & ~np.isnan(X[i])
        x = np.repeat(X[i, seen], weights[i, seen].astype(int))
        if not len(x):
            continue
        assert_allclose(moments.mean[i, g], x.mean(), rtol=1e-12, atol=1e-13)
        w = weights[i, seen]
        freedom = w.sum() - (w**2).sum() / w.sum()
        want = ((x - x.mean()) ** 2).sum() / freedom if seen.sum() > 1 else np.nan
        assert_allclose(moments.variance(1)[i, g], want, rtol=1e-12)
        assert_allclose(scaled.variance(1)[i, g], want, rtol=1e-12)


@given(seeds, shapes)
def test_medians_and_quantiles_are_numpys(seed, shape):
    X, codes, _ = make(seed, shape)
    peers = Peers.of(codes, shape[2])
    x = peers.sort(X)
    center, mad = medians(x, peers)
    low, high = quantiles(x, peers, (0.1, 0.8))
    for i, g, own in groups_of(X, codes, shape[2]):
        v = X[i, own & ~np.isnan(X[i])]
        if not len(v):
            assert np.isnan([center[i, g], mad[i, g], low[i, g], high[i, g]]).all()
            continue
        assert_allclose(center[i, g], np.median(v), rtol=1e-14)
        assert_allclose(mad[i, g], np.median(np.abs(v - np.median(v))) * MAD_TO_SIGMA, rtol=1e-14)
        assert_allclose([low[i, g], high[i, g]], np.quantile(v, [0.1, 0.8]), rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize(("offset", "unit"), [(1e8, 1.0), (-1e8, 1e-3), (0.0, 1e150), (0.0, 1e-150), (1e15, 1.0)])
@pytest.mark.parametrize("of_cells", [False, True])
def test_offsets_and_units_cost_no_digits(offset, unit, of_cells):
    rng = np.random.default_rng(0)
    X = offset + rng.normal(size=(20, 300)) * unit
    codes = rng.integers(0, 4, X.shape if of_cells else 300)
    moments = level_moments(X, codes, Levels.flat(4))[1]
    for i, g, own in groups_of(X, codes, 4):
        first = X[i, own][0]
        x = (X[i, own] - first).astype(np.longdouble)  # exact: the values are near each other
        want = float(np.sqrt(((x - x.mean()) ** 2).sum()))
        assert_allclose(np.sqrt(moments.m2[i, g]), want, rtol=1e-13)
        # the mean cannot be closer than a unit in the last place of the values
        assert_allclose(moments.mean[i, g], first + float(x.mean()), rtol=4e-16, atol=1e-13 * unit)


@pytest.mark.parametrize("value", [1e200, np.inf, -np.inf])
def test_what_leaves_float64_is_refused(value):
    X = np.ones((3, 4))
    X[1, 2] = value
    with pytest.raises(BatchfixError, match="must be finite or NaN"):
        standardize(X, np.array([0, 0, 1, 1]), Levels.flat(2), Recipe(), out=np.empty_like(X))


def test_values_whose_squares_vanish_are_refused():
    X = np.array([[1e-170, 3e-170, 2e-170]])
    with pytest.raises(BatchfixError, match="differ by about 1e-170"):
        standardize(X, np.zeros(3, dtype=int), Levels.flat(1), Recipe(), out=np.empty_like(X))


@given(seeds, st.sampled_from([0.0, 0.1, 1e8, 1e-5, 3e7]), st.booleans())
def test_constant_groups_are_exactly_zero(seed, value, of_cells):
    """Also where the mean of equal numbers is not that number."""
    rng = np.random.default_rng(seed)
    X = np.full((5, 37), value)
    X[rng.random(X.shape) < 0.2] = np.nan
    codes = rng.integers(0, 3, X.shape if of_cells else 37)
    out = np.empty_like(X)
    for scale in ("std", None):
        standardize(X, codes, Levels.flat(3), Recipe(scale=scale), out=out)
        assert_array_equal(out, np.where(np.isnan(X), np.nan, 0.0))
        assert not np.signbit(out[~np.isnan(out)]).any()


def test_rows_in_one_block_or_many_are_the_same():
    """More cells than a block holds, with codes that change now and then."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(900, 200))
    X[rng.random(X.shape) < 0.05] = np.nan
    codes = np.repeat(rng.integers(0, 7, (3, 200)), 300, axis=0)
    codes[450, 17] = 3
    whole, part = np.empty_like(X), np.empty((1, 200))
    standardize(X, codes, Levels.flat(7), Recipe(), out=whole)
    for i in (0, 299, 300, 450, 451, 899):
        standardize(X[i : i + 1], codes[i], Levels.flat(7), Recipe(), out=part)
        assert_allclose(part[0], whole[i], rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("layout", ["F", "strided", "in place", "float32"])
def test_any_memory_gives_the_same(layout):
    rng = np.random.default_rng(2)
    X, codes = rng.normal(size=(50, 30)), rng.integers(0, 4, 30)
    want = np.empty_like(X)
    standardize(X, codes, Levels.flat(4), Recipe(), out=want)
    given_, out = X, np.empty_like(X)
    if layout == "F":
        given_ = np.asfortranarray(X)
        out = np.empty_like(given_)
    elif layout == "strided":
        given_ = np.repeat(X, 2, axis=1)[:, ::2]
        out = np.empty((50, 60))[:, ::2]
    elif layout == "in place":
        given_ = out = X.copy()
    else:
        given_, out = X.astype(np.float32), np.empty(X.shape, dtype=np.float32)
    standardize(given_, codes, Levels.flat(4), Recipe(eps=float(np.finfo(given_.dtype).eps)), out=out)
    assert_allclose(out, want, rtol=1e-5 if layout == "float32" else 1e-15, atol=1e-5 if layout == "float32" else 0)
