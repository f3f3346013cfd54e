"""Moments add: merge == whole, on numpy, torch and the array API standard's strict reference."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from batchfix.core.comoments import CoMoments
from batchfix.core.groups import Groups, group_moments
from batchfix.core.moments import Moments

LIBRARIES = ("numpy", "torch", "array_api_strict")
in_each_library = pytest.mark.parametrize("library", LIBRARIES)
seeds = st.integers(0, 2**32 - 1)
FIELDS = ("n", "mean", "m2")
CO_FIELDS = ("z_mean", "zz", "zx", "rows", "row_z_mean", "row_zz")


def arrays_of(library: str) -> Any:
    xp = pytest.importorskip(library)
    return lambda values: xp.asarray(np.asarray(values, dtype=np.float64).tolist(), dtype=xp.float64)


def back(moments: Moments, like: Any) -> list[np.ndarray]:
    assert all(type(getattr(moments, f)) is type(like) for f in FIELDS), "the library changed on the way"
    return [np.asarray(getattr(moments, f)) for f in FIELDS]


def direct(x: np.ndarray) -> list[np.ndarray]:
    """Count, mean and centred squares with the precision of long double."""
    x = x.astype(np.longdouble)
    mean = x.mean(axis=0) if len(x) else np.zeros(x.shape[1:])
    return [np.full(x.shape[1:], float(len(x))), np.float64(mean), np.float64(((x - mean) ** 2).sum(axis=0))]


@in_each_library
@given(seed=seeds, n=st.integers(0, 30), cuts=st.lists(st.integers(0, 30), max_size=4))
@settings(max_examples=25, deadline=None)
def test_parts_add_up_to_the_whole(library, seed, n, cuts):
    array, x = arrays_of(library), np.random.default_rng(seed).normal(3.0, 2.0, (n, 4))
    edges = [0, *sorted(min(c, n) for c in cuts), n]
    total = empty = Moments(*(array(np.zeros(4)) for _ in FIELDS))
    for a, b in pairwise(edges):  # no library takes an empty array from a list
        total = total + (Moments.of(array(x[a:b])) if b > a else empty)
    for got, want in zip(back(total, array([0.0])), direct(x), strict=True):
        assert_allclose(got, want, rtol=1e-12, atol=1e-11)


@in_each_library
@given(seed=seeds)
@settings(max_examples=15, deadline=None)
def test_addition_commutes_and_associates(library, seed):
    array, rng = arrays_of(library), np.random.default_rng(seed)
    a, b, c = (Moments.of(array(rng.normal(k, k + 1, (k + 2, 3)))) for k in range(3))
    like = array([0.0])
    for one, two in [(a + b, b + a), ((a + b) + c, a + (b + c))]:
        for got, want in zip(back(one, like), back(two, like), strict=True):
            assert_allclose(got, want, rtol=1e-12, atol=1e-13)


@in_each_library
@given(seed=seeds, taken=st.integers(0, 12))
@settings(max_examples=25, deadline=None)
def test_subtraction_undoes_addition(library, seed, taken):
    array, x = arrays_of(library), np.random.default_rng(seed).normal(size=(12, 3))
    whole, rest = Moments.of(array(x)), Moments.of(array(x[taken:])) if taken < 12 else None
    part = Moments.of(array(x[:taken])) if taken else Moments(*(array(np.zeros(3)) for _ in FIELDS))
    left = back(whole - part, array([0.0]))
    if rest is None:
        assert_array_equal(np.stack(left), 0.0)
    else:
        for got, want in zip(left, back(rest, array([0.0])), strict=True):
            assert_allclose(got, want, rtol=1e-9, atol=1e-10)
    assert (left[2] >= 0).all()


@in_each_library
def test_the_past_decays(library):
    array, rng = arrays_of(library), np.random.default_rng(0)
    x = rng.normal(size=(10, 3))
    moments, like = Moments.of(array(x)), array([0.0])
    n, mean, m2 = back(moments.decay(0.25), like)
    assert_allclose(n, 2.5)
    assert_allclose(mean, x.mean(axis=0))
    assert_allclose(m2, 0.25 * 10 * x.var(axis=0))
    # old rows weigh a quarter, new rows one: numpy's weighted mean and variance
    y = rng.normal(size=(6, 3))
    both = moments.decay(0.25) + Moments.of(array(y))
    weight = np.repeat([0.25, 1.0], [10, 6])
    rows = np.vstack([x, y])
    centre = np.average(rows, axis=0, weights=weight)
    assert_allclose(back(both, like)[1], centre)
    assert_allclose(np.asarray(both.variance(correction=0)), np.average((rows - centre) ** 2, axis=0, weights=weight))


@in_each_library
@pytest.mark.parametrize("correction", [0, 1, 1.5])
def test_variance_is_that_of_the_library(library, correction):
    array, x = arrays_of(library), np.random.default_rng(1).normal(size=(9, 3))
    got = np.asarray(Moments.of(array(x)).variance(correction=correction))
    assert_allclose(got, x.var(axis=0) * 9 / (9 - correction))
    one = Moments.of(array(x[:1])).variance(correction=1)
    assert np.isnan(np.asarray(one)).all()
    assert_array_equal(np.asarray(Moments.of(array(x[:1])).variance(correction=0)), 0.0)


@in_each_library
def test_axes_can_be_chosen(library):
    array, x = arrays_of(library), np.random.default_rng(2).normal(5.0, 1.0, (4, 3, 5))
    got = back(Moments.of(array(x), axis=(0, 2)), array([0.0]))
    for a, b in zip(got, direct(np.moveaxis(x, 1, 2).reshape(20, 3)), strict=True):
        assert_allclose(a, b, rtol=1e-12)


@in_each_library
@pytest.mark.parametrize(("offset", "unit"), [(1e8, 1.0), (-1e8, 1e-3), (0.0, 1e150), (0.0, 1e-150), (1e15, 1.0)])
def test_offsets_and_units_cost_no_digits(library, offset, unit):
    array, x = arrays_of(library), offset + unit * np.random.default_rng(3).normal(size=(60, 4))
    parts = Moments.of(array(x[:7])) + Moments.of(array(x[7:31])) + Moments.of(array(x[31:]))
    exact = direct(x)
    for moments in (Moments.of(array(x)), parts):
        got = back(moments, array([0.0]))
        assert_allclose(got[1], exact[1], rtol=1e-14, atol=1e-14 * unit)
        # a mean of 1e8 is known to 1e-8: that, in units of the spread, is what a merge can lose
        assert_allclose(got[2], exact[2], rtol=1e-13 + 4 * np.finfo(float).eps * abs(offset) / unit)


def test_a_constant_has_no_spread_however_it_is_cut():
    for value in (0.1, 1e8 + 0.1, 1e-150, 3e150):
        x = np.full((37, 1), value)
        total = Moments.of(x[:5])
        for a in range(5, 37, 4):
            total = total + Moments.of(x[a : a + 4])
        assert total.m2[0] <= 64 * 37 * (np.finfo(float).eps * value) ** 2
        assert_allclose(total.mean, value, rtol=1e-15)


# ---- with design columns


def table(seed: int, n: int = 40, p: int = 5, groups: int = 3, missing: float = 0.0) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    x, z = rng.normal(2.0, 1.0, (n, p)), rng.normal(-1.0, 2.0, (n, 2))
    x[rng.random((n, p)) < missing] = np.nan
    return x, rng.integers(0, groups, n), z


def assert_same(a: CoMoments, b: CoMoments) -> None:
    for f in FIELDS:
        assert_allclose(getattr(a.x, f), getattr(b.x, f), rtol=1e-11, atol=1e-12, err_msg=f)
    for f in CO_FIELDS:
        left, right = np.broadcast_arrays(getattr(a, f), getattr(b, f))
        if f in ("z_mean", "zz"):  # without an observed value there is no mean to speak of
            some = (a.x.n > 0).reshape(len(left), *(1,) * (left.ndim - 2), -1)
            left, right = np.where(some, left, 0.0), np.where(some, right, 0.0)
        assert_allclose(left, right, rtol=1e-11, atol=1e-11, err_msg=f)


@given(seed=seeds, missing=st.sampled_from([0.0, 0.1, 0.8]), cut=st.integers(1, 39), p=st.sampled_from([1, 5]))
@settings(max_examples=40, deadline=None)
def test_comoments_of_parts_add_up(seed, missing, cut, p):
    x, codes, z = table(seed, missing=missing, p=p)
    whole = group_moments(x, Groups.of(codes, 3), z)
    parts = [group_moments(x[s], Groups.of(codes[s], 3), z[s]) for s in (slice(None, cut), slice(cut, None))]
    assert_same(parts[0] + parts[1], whole)
    assert_same(parts[1] + parts[0], whole)


@given(seed=seeds, missing=st.sampled_from([0.0, 0.3]))
@settings(max_examples=20, deadline=None)
def test_groups_and_columns_can_move(seed, missing):
    x, codes, z = table(seed, missing=missing)
    old = group_moments(x, Groups.of(codes, 3), z)
    moved = old.place(np.array([4, 0, 2]), 5, np.array([3, 1]), 4)
    wide = np.zeros((len(x), 4))
    wide[:, [3, 1]] = z
    assert_same(moved, group_moments(x, Groups.of(np.array([4, 0, 2])[codes], 5), wide))


def test_a_level_that_arrives_later_was_zero_before():
    x, codes, z = table(5, missing=0.2)
    wide = np.column_stack([z, np.where(np.arange(len(x)) >= 20, 1.0, 0.0)])
    whole = group_moments(x, Groups.of(codes, 3), wide)
    early = group_moments(x[:20], Groups.of(codes[:20], 3), z[:20]).place(np.arange(3), 3, np.arange(2), 3)
    late = group_moments(x[20:], Groups.of(codes[20:], 3), wide[20:])
    assert_same(early + late, whole)


@pytest.mark.parametrize("missing", [(0.0, 0.0), (0.0, 0.3), (0.3, 0.0), (0.3, 0.3)])
def test_groups_can_be_laid_side_by_side(missing):
    sides = [table(k, missing=share) for k, share in enumerate(missing)]
    parts = [group_moments(x, Groups.of(codes, 3), z) for x, codes, z in sides]
    x, z = (np.concatenate([side[i] for side in sides]) for i in (0, 2))
    codes = np.concatenate([sides[0][1], sides[1][1] + 3])
    assert_same(CoMoments.join(parts), group_moments(x, Groups.of(codes, 6), z))


def test_complete_data_shares_one_set_of_design_statistics():
    x, codes, z = table(0)
    complete = group_moments(x, Groups.of(codes, 3), z)
    assert complete.complete
    assert complete.zz.shape == (3, 2, 2, 1)
    x[3, 1] = np.nan
    masked = group_moments(x, Groups.of(codes, 3), z)
    assert not masked.complete
    assert not (complete + masked).complete


def test_where_nothing_is_observed_no_mean_tells_of_rows():
    x, z = np.array([[1.0, np.nan], [2.0, np.nan], [3.0, 4.0]]), np.array([[50.0], [60.0], [70.0]])
    groups = Groups.of(np.array([0, 0, 1]), 2)
    assert_array_equal(group_moments(x, groups, z).z_mean[0, :, 1], 0.0)
    first = group_moments(x[:1], Groups.of(np.array([0]), 2), z[:1])
    assert_array_equal((first + group_moments(x[1:], Groups.of(np.array([0, 1]), 2), z[1:])).z_mean[0, :, 1], 0.0)
