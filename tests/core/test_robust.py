"""Robust location and scale against numpy's and scipy's, with ties, odd and even counts, and NaN."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import median_abs_deviation, norm

from batchfix.core.robust import (
    MAD_TO_SIGMA,
    grouped_mad,
    grouped_median,
    mad,
    median,
    quantile_location_scale,
)

# Few distinct values make ties; NaN is frequent.
values = st.one_of(st.integers(-3, 3).map(float), st.floats(-1e6, 1e6), st.just(np.nan))
tables = arrays(np.float64, array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=7), elements=values)
quiet = pytest.mark.filterwarnings("ignore:All-NaN slice:RuntimeWarning", "ignore:Mean of empty slice:RuntimeWarning")

HALVED = 1e-323  # halving each of two subnormal middles rounds by at most one step (5e-324) each


def slices(codes, groups):
    """Rows sorted by group, and where each group starts."""
    return np.argsort(codes, kind="stable"), np.concatenate([[0], np.cumsum(np.bincount(codes, minlength=groups))])


def reference_mad(x, axis):
    out = np.full(np.delete(x.shape, axis), np.nan)
    for cell in np.ndindex(*out.shape):
        column = np.moveaxis(x, axis, -1)[cell]
        column = column[~np.isnan(column)]
        if column.size:
            out[cell] = median_abs_deviation(column, scale="normal")
    return out


@quiet
@given(tables)
@settings(max_examples=150, deadline=None)
def test_median_is_nanmedian_on_every_axis(x):
    for axis in range(x.ndim):
        want = np.nanmedian(x, axis=axis)
        assert_allclose(median(x, axis), want, rtol=1e-15, atol=HALVED)
        assert_array_equal(median(x, axis - x.ndim), median(x, axis))
    assert_allclose(median(x), np.nanmedian(x), rtol=1e-15, atol=HALVED)


@given(tables)
@settings(max_examples=100, deadline=None)
def test_mad_is_scipys(x):
    for axis in range(x.ndim):
        assert_allclose(mad(x, axis), reference_mad(x, axis), rtol=1e-12, atol=1e-9)


def test_mad_is_scipys_with_its_own_nan_policy():
    x = np.random.default_rng(0).normal(size=(51, 6))
    x[x > 1.5] = np.nan
    assert_allclose(mad(x, 0), median_abs_deviation(x, axis=0, nan_policy="omit", scale="normal"), rtol=1e-12)


@quiet
@given(tables, st.floats(0.01, 0.49))
@settings(max_examples=100, deadline=None)
def test_quantiles_are_nanquantiles(x, q):
    location, scale = quantile_location_scale(x, q, axis=0)
    low, high = np.nanquantile(x, [q, 1 - q], axis=0)
    assert_allclose(location, np.nanmedian(x, axis=0), rtol=1e-15, atol=HALVED)
    assert_allclose(scale, (high - low) / (norm.ppf(1 - q) - norm.ppf(q)), rtol=1e-9, atol=1e-6)


def test_scales_estimate_a_normal_standard_deviation():
    x = 5 + 3 * norm.ppf((np.arange(20001) + 0.5) / 20001)
    location, scale = quantile_location_scale(x)
    assert_allclose([location, scale, mad(x)], [5, 3, 3], rtol=1e-3)
    assert_allclose(MAD_TO_SIGMA, 1 / norm.ppf(0.75), rtol=1e-15)
    assert_allclose(quantile_location_scale(x, q=0.1)[1], 3, rtol=1e-3)


def test_nothing_observed_is_nan_without_a_warning():
    empty, hidden = np.empty((0, 2)), np.full((3, 2), np.nan)
    for x in (empty, hidden):
        for got in (median(x, 0), mad(x, 0), *quantile_location_scale(x, axis=0)):
            assert_array_equal(got, [np.nan, np.nan])
    assert median(empty, 1).shape == (0,)
    assert np.isnan(median(empty))


def test_infinities_do_no_harm_to_others():
    x = np.array([[np.inf, 1.0, -np.inf], [np.inf, 2.0, np.inf], [np.inf, np.inf, np.inf], [np.inf, 0.0, -np.inf]])
    assert_array_equal(median(x, 0), [np.inf, 1.5, np.nan])
    assert mad(x, 0)[1] == MAD_TO_SIGMA
    quantile_location_scale(x, axis=0)


def test_halves_do_not_overflow_or_round():
    assert median(np.array([1.0, 1.5]) * 2.0**1023) == 1.25 * 2.0**1023
    assert median(np.array([5e-324, 5e-324])) == 5e-324


def test_affine_equivariance_at_extreme_units():
    x = np.random.default_rng(1).normal(size=(25, 3))
    for unit in (1e-150, 1e150):
        assert_allclose(mad(x * unit, 0), mad(x, 0) * unit, rtol=1e-13)
        assert_allclose(quantile_location_scale(x * unit, axis=0)[1] / unit, quantile_location_scale(x, axis=0)[1])
    assert_allclose(mad(x + 1e8, 0), mad(x, 0), atol=1e-7)


@given(
    arrays(np.float64, st.tuples(st.integers(1, 12), st.integers(1, 5)), elements=values),
    st.integers(1, 4),
    st.randoms(use_true_random=False),
)
@settings(max_examples=100, deadline=None)
def test_grouped_is_each_group_alone(X, groups, random):
    codes = np.array([random.randrange(groups) for _ in X])
    order, starts = slices(codes, groups)
    medians, mads = grouped_median(X, order, starts), grouped_mad(X, order, starts)
    assert medians.shape == mads.shape == (groups, X.shape[1])
    for b in range(groups):
        assert_array_equal(medians[b], median(X[codes == b], 0))
        assert_array_equal(mads[b], mad(X[codes == b], 0))
    assert_array_equal(grouped_mad(X, order, starts, medians), mads)
    assert_allclose(grouped_mad(X, order, starts, scale=1.0) * MAD_TO_SIGMA, mads)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "bool"])
@pytest.mark.parametrize("layout", ["C", "F", "strided"])
def test_any_layout_and_dtype_and_the_input_is_only_read(monkeypatch, dtype, layout):
    rng = np.random.default_rng(2)
    base = (rng.normal(size=(40, 11)) * 3).astype(dtype)
    if layout == "strided":
        wide = np.repeat(np.repeat(base, 2, axis=0), 3, axis=1)
        X = wide[::2, ::3]
    else:
        X = np.array(base, order=layout)
    X.flags.writeable = False
    codes = rng.integers(0, 3, size=40)
    order, starts = slices(codes, 3)
    want = np.stack([np.median(base[codes == b].astype(float), axis=0) for b in range(3)])
    for block in (1_000_000, 1000, 1):
        monkeypatch.setattr("batchfix.core.robust._BLOCK_BYTES", block)
        got = grouped_median(X, order, starts)
        assert got.dtype == np.float64
        assert_array_equal(got, want)
        assert_allclose(
            grouped_mad(X, order, starts),
            np.stack([median_abs_deviation(base[codes == b].astype(float), axis=0, scale="normal") for b in range(3)]),
        )
    assert_array_equal(X, base)
    assert median(X, 0).dtype == mad(X, 0).dtype == np.float64


def test_float32_at_an_offset_of_1e8_is_centred_in_float64():
    x = np.array([[1e8], [1e8 + 8], [1e8 + 16], [1e8 + 24]], dtype=np.float32)
    order, starts = np.arange(4), np.array([0, 4])
    assert grouped_median(x, order, starts).item() == 1e8 + 12
    assert grouped_mad(x, order, starts, scale=1.0).item() == 8


def test_groups_may_be_empty_or_leave_rows_out():
    X = np.arange(12.0).reshape(6, 2)
    got = grouped_median(X, np.array([5, 0, 1]), np.array([0, 1, 1, 3]))
    assert_array_equal(got, [[10, 11], [np.nan, np.nan], [1, 2]])
    assert_array_equal(grouped_mad(X, np.array([5, 0, 1]), np.array([0, 1, 1, 3]), scale=1.0)[:, 0], [0, np.nan, 1])
    assert grouped_median(np.empty((0, 3)), np.array([], dtype=int), np.array([0])).shape == (0, 3)


def test_extra_memory_is_a_few_megabytes():
    X = np.random.default_rng(3).normal(size=(2000, 2000))  # 32 MB
    order, starts = slices(np.arange(2000) % 4, 4)
    tracemalloc.start()
    grouped_mad(X, order, starts)
    extra = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert extra < 4e6


def test_what_does_not_fit_is_refused():
    X, order, starts = np.ones((4, 2)), np.arange(4), np.array([0, 2, 4])
    for bad in ([0, 3, 2], [0, 5], [], [-1, 2], [[0, 4]]):
        with pytest.raises(ValueError, match="starts must rise"):
            grouped_median(X, order, np.array(bad, dtype=int))
    with pytest.raises(ValueError, match="X must be a matrix"):
        grouped_mad(X[0], order, starts)
    with pytest.raises(ValueError, match=r"center must have .* \(2, 2\); got \(2,\)"):
        grouped_mad(X, order, starts, np.ones(2))
    for call in (median, mad, quantile_location_scale):
        with pytest.raises(TypeError, match="complex128"):
            call(X + 1j)
    with pytest.raises(TypeError, match="dtype\\('O'\\)"):
        grouped_median(X.astype(object), order, starts)
    for q in (0.0, 0.5, float("nan")):
        with pytest.raises(ValueError, match="q must lie between"):
            quantile_location_scale(X, q)
    with pytest.raises(ValueError, match="axis must be one of the 2 axes"):
        median(X, 2)
