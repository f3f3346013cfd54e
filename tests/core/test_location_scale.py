"""Location and scale: measured, pooled, filled, shrunk, against plain numpy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from batchfix.core.affine import Frame
from batchfix.core.location_scale import filled, pooled_frame, shrunk, spread, without_spread
from batchfix.core.shrinkage import Prior, shrink_location, shrink_parametric

seeds = st.integers(0, 2**32 - 1)
EPS = float(np.finfo(float).eps)


def tables(seed: int, sizes: tuple[int, ...] = (3, 8, 5), p: int = 4) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(k, k + 1.0, (n, p)) for k, n in enumerate(sizes)]


def measured(parts: list[np.ndarray]) -> tuple[Frame, np.ndarray, np.ndarray]:
    n = np.array([(~np.isnan(x)).sum(axis=0) for x in parts], dtype=float)
    means = np.array([np.nanmean(x, axis=0) for x in parts])
    rss = np.array([np.nansum((x - m) ** 2, axis=0) for x, m in zip(parts, means, strict=True)])
    return Frame(means, spread(rss, n)), n, np.array([float(len(x)) for x in parts])


@given(seed=seeds)
@settings(max_examples=20, deadline=None)
def test_the_pooled_frame_is_that_of_all_rows_within_batches(seed):
    parts = tables(seed)
    frame, n, rows = measured(parts)
    assert_allclose(frame.scale, [x.std(axis=0, ddof=1) for x in parts])
    pooled = pooled_frame(frame, n, rows)
    together = np.vstack(parts)
    residuals = np.vstack([x - x.mean(axis=0) for x in parts])
    assert_allclose(pooled.location, together.mean(axis=0), atol=1e-14)
    assert_allclose(pooled.scale, np.sqrt((residuals**2).sum(axis=0) / (len(together) - len(parts))))


def test_one_value_has_no_spread():
    assert np.isnan(spread(np.zeros((1, 2)), np.array([[1.0, 0.0]]))).all()
    assert spread(np.array([8.0]), np.array([3.0])).tolist() == [2.0]


@pytest.mark.parametrize("gap", [0, 1])
def test_gaps_are_left_out_of_the_pool(gap):
    parts = tables(1)
    frame, n, rows = measured(parts)
    rest = [k for k in range(3) if k != gap]
    frame.location[gap, 2] = frame.scale[gap, 2] = np.nan
    want = pooled_frame(Frame(frame.location[rest], frame.scale[rest]), n[rest], rows[rest])
    got = pooled_frame(frame, n, rows)
    assert_allclose([got.location[2], got.scale[2]], [want.location[2], want.scale[2]])
    frame.location[:, 0] = frame.scale[:, 0] = np.nan
    nothing = pooled_frame(frame, n, rows)
    assert [nothing.location[0], nothing.scale[0]] == [0.0, 1.0]


@pytest.mark.parametrize("unit", [1e-150, 1e-160, 1e150, 1e-300])
def test_units_do_not_matter(unit):
    frame, n, rows = measured(tables(2))
    small = pooled_frame(Frame(unit * frame.location, unit * frame.scale), n, rows)
    plain = pooled_frame(frame, n, rows)
    assert_allclose(small.scale / unit, plain.scale, rtol=1e-10)
    assert_allclose(small.location / unit, plain.location, rtol=1e-10)
    target = Frame(unit * plain.location, unit * plain.scale)
    got = shrunk(Frame(unit * frame.location, unit * frame.scale), n, target, location_only=False)
    want = shrunk(frame, n, plain, location_only=False)
    assert_allclose(got.scale / unit, want.scale, rtol=1e-8)
    assert_allclose(got.location / unit, want.location, rtol=1e-8, atol=1e-10)


def test_rounding_is_no_spread():
    location = np.array([1.0, 1.0, 1e8, 1e8, 0.0, 0.0, 5.0])
    scale = np.array([63 * EPS, 65 * EPS, 63e8 * EPS, 65e8 * EPS, 0.0, 1e-300, np.nan])
    assert without_spread(Frame(location, scale), EPS).tolist() == [True, False, True, False, True, False, True]
    assert without_spread(Frame(np.array([np.nan]), np.array([np.nan])), EPS).all()


def test_gaps_are_filled_and_the_rest_stays():
    frame = Frame(np.array([[1.0, np.nan], [2.0, 3.0]]), np.array([[np.nan, np.nan], [4.0, 5.0]]))
    whole = filled(frame, Frame(np.array([7.0, 8.0]), np.array([9.0, 10.0])))
    assert_array_equal(whole.location, [[1, 8], [2, 3]])
    assert_array_equal(whole.scale, [[9, 10], [4, 5]])


@pytest.mark.parametrize("location_only", [False, True])
def test_shrinkage_happens_in_units_of_the_target(location_only):
    frame, n, rows = measured(tables(3, p=30))
    target = pooled_frame(frame, n, rows)
    got = shrunk(frame, n, target, location_only=location_only)
    gamma, delta = (frame.location - target.location) / target.scale, (frame.scale / target.scale) ** 2
    prior = Prior.of(gamma, delta)
    want = shrink_location(gamma, prior, n) if location_only else shrink_parametric(n, gamma, delta, prior)
    assert_allclose(got.location, target.location + want.location * target.scale)
    assert_allclose(got.scale, np.sqrt(want.variance) * target.scale)
    # toward the batch's own mean effect
    before = gamma - gamma.mean(axis=1, keepdims=True)
    after = (got.location - target.location) / target.scale - gamma.mean(axis=1, keepdims=True)
    assert (np.abs(after) <= np.abs(before) + 1e-9).all()


def test_a_scale_that_is_missing_stays_the_targets():
    frame, n, rows = measured(tables(4, p=30))
    target = pooled_frame(frame, n, rows)
    frame.scale[1, 3] = np.nan
    assert_allclose(shrunk(frame, n, target, location_only=False).scale[1, 3], target.scale[3])
