"""Groups: sorted slices, moments against plain numpy, maps against a loop over rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from batchfix.core import blocks
from batchfix.core.affine import Affine
from batchfix.core.applying import apply_groups, check_no_infinity
from batchfix.core.groups import Groups, group_moments
from batchfix.exceptions import BatchfixError

seeds = st.integers(0, 2**32 - 1)


@st.composite
def tables(draw):
    """X (n, p) with or without NaN, codes, z (n, q), in either float dtype and any layout."""
    rng = np.random.default_rng(draw(seeds))
    n, p, q, groups = (draw(st.integers(*r)) for r in ((1, 50), (1, 6), (0, 3), (1, 4)))
    offset = draw(st.sampled_from([0.0, 5.0, 1e8]))
    X = (offset + rng.normal(size=(n, p))).astype(draw(st.sampled_from([np.float64, np.float32])))
    X[rng.random((n, p)) < draw(st.sampled_from([0.0, 0.05, 0.6]))] = np.nan
    X = {"C": X, "F": np.asfortranarray(X), "strided": np.repeat(X, 2, axis=0)[::2]}[
        draw(st.sampled_from(["C", "F", "strided"]))
    ]
    return X, rng.integers(0, groups, n), rng.normal(3.0, 1.0, (n, q)), groups


def slow_moments(x: np.ndarray, z: np.ndarray) -> dict[str, np.ndarray]:
    """One group's moments, one feature at a time, as numpy computes them."""
    p, q = x.shape[1], z.shape[1]
    out = {k: np.zeros(p) for k in ("n", "mean", "m2")}
    out |= {"z_mean": np.zeros((q, p)), "zz": np.zeros((q, q, p)), "zx": np.zeros((q, p))}
    for j in range(p):
        seen = ~np.isnan(x[:, j])
        if not seen.any():
            continue
        xj, zj = x[seen, j].astype(np.longdouble), z[seen]
        out["n"][j], out["mean"][j] = seen.sum(), xj.mean()
        out["m2"][j] = ((xj - xj.mean()) ** 2).sum()
        out["z_mean"][:, j] = zj.mean(axis=0)
        off = zj - zj.mean(axis=0)
        out["zz"][:, :, j], out["zx"][:, j] = off.T @ off, off.T @ (xj - xj.mean())
    return out


@given(tables())
@settings(max_examples=80, deadline=None)
def test_moments_are_those_of_numpy(table):
    X, codes, z, groups = table
    got = group_moments(X, Groups.of(codes, groups), z)
    large = np.nanmax(np.abs(X), initial=0.0) > 1e6
    for k in range(groups):
        rows = codes == k
        want = slow_moments(X[rows], z[rows])
        assert_array_equal(got.x.n[k], want["n"])
        assert_allclose(got.x.mean[k], want["mean"], rtol=1e-14, atol=1e-14)
        assert_allclose(got.x.m2[k], want["m2"], rtol=1e-7 if large else 1e-11, atol=1e-12)
        assert got.rows[k] == rows.sum()
        if rows.any():
            assert_allclose(got.row_z_mean[k], z[rows].mean(axis=0), rtol=1e-13)
            off = z[rows] - z[rows].mean(axis=0)
            assert_allclose(got.row_zz[k], off.T @ off, rtol=1e-11, atol=1e-12)
        for name in ("z_mean", "zz"):
            value = np.broadcast_to(getattr(got, name)[k], want[name].shape)
            some = want["n"] > 0
            assert_allclose(value[..., some], want[name][..., some], rtol=1e-11, atol=1e-11, err_msg=name)
        assert_allclose(got.zx[k], want["zx"], rtol=1e-6 if large else 1e-11, atol=1e-6 if large else 1e-11)


@pytest.mark.parametrize(("rows_per_chunk", "rows_per_block"), [(1, 1), (3, 7), (5, 5), (1000, 2)])
@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_size_of_chunks_does_not_matter(monkeypatch, rows_per_chunk, rows_per_block, missing):
    rng = np.random.default_rng(0)
    X, codes, z = rng.normal(100.0, 1.0, (90, 4)), rng.integers(0, 3, 90), rng.normal(size=(90, 2))
    X[rng.random(X.shape) < missing] = np.nan
    groups = Groups.of(codes, 3)
    maps = Affine(*rng.normal(size=(3, 3, 4)), rng.normal(size=(3, 2, 4)))
    want, out, want_out = group_moments(X, groups, z), np.empty_like(X), np.empty_like(X)
    apply_groups(X, groups, maps, z, want_out)
    monkeypatch.setattr(blocks, "rows_per_chunk", lambda p, nbytes: rows_per_chunk)
    monkeypatch.setattr(blocks, "rows_per_block", lambda p: rows_per_block)
    got = group_moments(X, groups, z)
    for name in ("n", "mean", "m2"):
        assert_allclose(getattr(got.x, name), getattr(want.x, name), rtol=1e-12)
    for name in ("z_mean", "zz", "zx"):
        assert_allclose(getattr(got, name), getattr(want, name), rtol=1e-11, atol=1e-12)
    apply_groups(X, groups, maps, z, out)
    assert_allclose(out, want_out, rtol=1e-13, atol=1e-13)


def test_threads_do_not_matter(monkeypatch):
    rng = np.random.default_rng(1)
    X, codes, z = rng.normal(size=(3000, 120)), rng.integers(0, 4, 3000), rng.normal(size=(3000, 1))
    maps, groups = Affine(*rng.normal(size=(3, 4, 120))), Groups.of(codes, 4)
    answers = []
    for threads in (1, 4):
        monkeypatch.setattr(blocks, "n_threads", lambda threads=threads: threads)
        out = np.empty_like(X)
        apply_groups(X, groups, maps, z, out)
        answers.append((group_moments(X, groups, z), out))
    (one, out_one), (four, out_four) = answers
    assert_array_equal(one.x.m2, four.x.m2)
    assert_array_equal(one.zx, four.zx)
    assert_array_equal(out_one, out_four)


@given(seed=seeds, n=st.integers(0, 40), groups=st.integers(1, 6))
@settings(max_examples=40, deadline=None)
def test_groups_hold_their_rows_in_order(seed, n, groups):
    codes = np.random.default_rng(seed).integers(0, groups, n)
    sorted_ = Groups.of(codes, groups)
    assert len(sorted_) == groups
    assert_array_equal(sorted_.counts, np.bincount(codes, minlength=groups))
    for k in range(groups):
        assert_array_equal(sorted_.rows(k), np.flatnonzero(codes == k))


def test_more_groups_than_sixteen_bits_count():
    codes = np.array([70_000, 3, 65_536, 3])
    groups = Groups.of(codes, 70_001)
    assert groups.rows(3).tolist() == [1, 3]
    assert groups.rows(65_536).tolist() == [2]
    assert groups.rows(0).tolist() == []


@given(tables(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_maps_are_those_of_a_loop(table, in_place):
    X, codes, z, groups = table
    rng = np.random.default_rng(0)
    p, q = X.shape[1], z.shape[1]
    center = np.nanmean(np.where(np.isnan(X), 0, X), axis=0) + rng.normal(size=(groups, p))
    maps = Affine(
        center, np.exp(rng.normal(size=(groups, p))), rng.normal(size=(groups, p)), rng.normal(size=(groups, q, p))
    )
    want = np.array(
        [
            (x.astype(np.float64) - maps.center[k]) * maps.scale[k] + maps.shift[k] + zi @ maps.loading[k]
            for x, k, zi in zip(X, codes, z, strict=True)
        ]
    )
    X = X.copy(order="K")
    out = X if in_place else np.empty_like(X)
    apply_groups(X, Groups.of(codes, groups), maps, z, out)
    tolerance = 64 * np.finfo(X.dtype).eps
    spread = np.nanmax(np.abs(want), initial=1.0)
    assert_array_equal(np.isnan(out), np.isnan(want))
    assert_allclose(out, want, rtol=0, atol=tolerance * spread)


def test_a_map_of_nothing_leaves_every_bit():
    X = np.array([[-0.0, 1e300, np.nan], [5e-324, -1.0, 0.0]])
    maps = Affine(np.zeros((1, 3)), np.ones((1, 3)), np.zeros((1, 3)), np.zeros((1, 1, 3)))
    out = np.empty_like(X)
    apply_groups(X, Groups.of(np.array([0, 0]), 1), maps, np.ones((2, 1)), out)
    assert out.tobytes() == X.tobytes()


def test_rows_of_no_group_are_left_alone():
    X, out = np.ones((3, 2)), np.full((3, 2), 7.0)
    maps = Affine(np.zeros((1, 2)), np.full((1, 2), 2.0), np.zeros((1, 2)))
    apply_groups(X, Groups(np.array([1]), np.array([0, 1])), maps, np.zeros((3, 0)), out)
    assert out.tolist() == [[7, 7], [2, 2], [7, 7]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_constant_group_has_exactly_no_spread(dtype):
    for value in (0.1, 1e8 + 0.1, 1e-20, -3e30):
        X = np.full((5000, 3), value, dtype=dtype)
        X[1, 2] = np.nan
        moments = group_moments(X, Groups.of(np.arange(5000) % 2, 2), np.zeros((5000, 0)))
        assert_array_equal(moments.x.m2, 0.0)
        assert_array_equal(moments.x.mean, float(dtype(value)))


def test_an_outlying_first_row_costs_no_digits():
    x = np.random.default_rng(2).normal(size=(4000, 1))
    x[0] = 1e9
    got = group_moments(x, Groups.of(np.zeros(4000, dtype=int), 1), np.zeros((4000, 0)))
    assert_allclose(got.x.m2[0], 3999 * np.var(x.astype(np.longdouble), ddof=1).astype(float), rtol=1e-10)
    y = np.vstack([np.full((32, 1), 1e8), x[1:]])
    got = group_moments(y, Groups.of(np.zeros(len(y), dtype=int), 1), np.zeros((len(y), 0)))
    assert_allclose(got.x.m2[0], (len(y) - 1) * np.var(y.astype(np.longdouble), ddof=1).astype(float), rtol=1e-10)


@pytest.mark.parametrize("bad", [np.inf, -np.inf])
@pytest.mark.parametrize("missing", [False, True])
def test_infinity_is_refused(bad, missing):
    X = np.ones((6, 3))
    X[4, 1] = bad
    if missing:
        X[2, 1] = np.nan
    groups, maps = Groups.of(np.array([0, 1] * 3), 2), Affine(*(np.ones((2, 3)) for _ in range(3)))
    with pytest.raises(BatchfixError, match="finite or NaN"):
        group_moments(X, groups, np.zeros((6, 0)))
    with pytest.raises(BatchfixError, match="finite or NaN"):
        apply_groups(X, groups, maps, np.zeros((6, 0)), np.empty_like(X))
    with pytest.raises(BatchfixError, match="finite or NaN"):
        check_no_infinity(X)
    X[4, 1] = np.nan
    check_no_infinity(X)


def test_both_infinities_are_seen_though_their_sum_is_nan():
    with pytest.raises(BatchfixError, match="finite or NaN"):
        check_no_infinity(np.array([[np.inf, -np.inf]]))


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("unit", [1e200, 1e-170])
def test_squares_that_leave_float64_are_refused(unit, missing):
    X = unit * np.random.default_rng(3).normal(size=(20, 2))
    if missing:
        X[3] = np.nan
    with pytest.raises(BatchfixError, match="Rescale X"):
        group_moments(X, Groups.of(np.zeros(20, dtype=int), 1), np.zeros((20, 0)))


@pytest.mark.parametrize("unit", [1e150, 1e-150])
def test_extreme_units_are_fine(unit):
    x = np.random.default_rng(4).normal(size=(40, 3))
    groups = Groups.of(np.arange(40) % 2, 2)
    got = group_moments(unit * x, groups, np.zeros((40, 0)))
    assert_allclose(got.x.m2 / unit / unit, group_moments(x, groups, np.zeros((40, 0))).x.m2, rtol=1e-8)


def test_empty_groups_and_features_without_values_have_moments_of_nothing():
    X = np.array([[np.nan, 1.0], [np.nan, 3.0]])
    got = group_moments(X, Groups.of(np.array([1, 1]), 3), np.ones((2, 1)))
    assert got.x.n.tolist() == [[0, 0], [0, 2], [0, 0]]
    assert got.x.mean.tolist() == [[0, 0], [0, 2], [0, 0]]
    assert got.rows.tolist() == [0, 2, 0]
