"""ComBat's conventions: the common frame against plain numpy on the rows, and what is constant."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from batchfix.core.affine import Frame
from batchfix.core.combat import batch_frame, constant_within, effects, grand_frame
from batchfix.core.comoments import CoMoments
from batchfix.core.groups import Groups, group_moments
from batchfix.core.least_squares import least_squares
from batchfix.core.presence import scale_allowed

seeds = st.integers(0, 2**32 - 1)
EPS = float(np.finfo(float).eps)


def rows(seed: int, missing: float = 0.0, n: int = 36, p: int = 5) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    codes = np.r_[0, 0, 1, 1, 2, 2, rng.integers(0, 3, n - 6)]
    z = rng.normal(size=(n, 1))
    X = 3.0 + rng.normal(size=(n, p)) * (1 + codes[:, None]) + z + codes[:, None]
    X[6:][rng.random((n - 6, p)) < missing] = np.nan
    return X, codes, z


def moments_of(X: np.ndarray, codes: np.ndarray, z: np.ndarray | None = None) -> CoMoments:
    return group_moments(X, Groups.of(codes, codes.max() + 1), np.zeros((len(X), 0)) if z is None else z)


def slow_frame(X: np.ndarray, codes: np.ndarray, z: np.ndarray, reference: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Sva's grand mean (rows weigh, observed or not) and pooled deviation, feature by feature."""
    design = np.hstack([codes[:, None] == np.arange(codes.max() + 1), z - z.mean(axis=0)]).astype(float)
    some_missing = np.isnan(X).any()
    mean, sd = np.empty(X.shape[1]), np.empty(X.shape[1])
    for j in range(X.shape[1]):
        seen = ~np.isnan(X[:, j])
        coef = np.linalg.lstsq(design[seen], X[seen, j], rcond=None)[0]
        where = seen & (codes == reference) if reference is not None else seen
        share = np.bincount(codes) / len(codes)
        mean[j] = coef[reference] if reference is not None else share @ coef[: len(share)]
        residual = X[where, j] - design[where] @ coef
        sd[j] = np.sqrt((residual**2).sum() / (len(residual) - some_missing))
    return mean, sd


@given(seed=seeds, missing=st.sampled_from([0.0, 0.1]), reference=st.sampled_from([None, 0, 2]))
@settings(max_examples=40, deadline=None)
def test_the_common_frame_is_that_of_the_rows(seed, missing, reference):
    X, codes, z = rows(seed, missing)
    moments = moments_of(X, codes, z)
    fit = least_squares(moments)
    grand = grand_frame(moments, fit, EPS, reference)
    mean, sd = slow_frame(X, codes, z, reference)
    if reference is not None and missing:
        # one NaN in any feature and any batch changes the count everywhere
        assert np.isnan(X).any() or missing
    assert_allclose(grand.target.location, mean, rtol=1e-8, atol=1e-9)
    assert_allclose(grand.target.scale, sd, rtol=1e-8)
    assert grand.active.all()
    assert grand.rounding == 0
    assert_allclose(grand.pooled.scale, slow_frame(X, codes, z, None)[1], rtol=1e-8)


def test_one_missing_value_switches_the_count_of_every_feature():
    X, codes, _ = rows(0)
    complete = moments_of(X, codes)
    before = grand_frame(complete, least_squares(complete), EPS, None).target.scale
    X[7, 0] = np.nan
    masked = moments_of(X, codes)
    after = grand_frame(masked, least_squares(masked), EPS, None).target.scale
    assert_allclose(after[1:], before[1:] * np.sqrt(36 / 35), rtol=1e-12)
    # but not a value missing from a feature that is left alone anyway
    X[7, 0], X[codes == 1, 4] = 3.0, 1.0
    X[np.flatnonzero(codes == 2)[0], 4] = np.nan
    odd = moments_of(X, codes)
    left = grand_frame(odd, least_squares(odd), EPS, None)
    assert left.active.tolist() == [True] * 4 + [False]
    assert_allclose(left.target.scale[1:4], before[1:4], rtol=1e-12)


def test_rounding_noise_is_constant_and_counted():
    X, codes, _ = rows(1)
    X[codes == 0, 0] = 7.5
    X[codes == 1, 1] = 1e8 + 3e-7 * np.random.default_rng(0).normal(size=(codes == 1).sum())
    X[codes == 1, 2] = 1e8 + 1e-3 * np.random.default_rng(0).normal(size=(codes == 1).sum())
    moments = moments_of(X, codes)
    still = constant_within(moments, EPS)
    assert [tuple(i) for i in np.argwhere(still)] == [(0, 0), (1, 1)]
    grand = grand_frame(moments, least_squares(moments), EPS, None)
    assert grand.active.tolist() == [False, False, True, True, True]
    assert grand.rounding == 1
    assert_array_equal(grand.target.scale[:2], 1.0)


def test_one_row_or_a_missing_value_is_never_called_constant():
    X, codes, _ = rows(2)
    X[codes == 0, 0] = 7.5
    X[np.flatnonzero(codes == 0)[0], 0] = np.nan
    assert not constant_within(moments_of(X, codes), EPS).any()
    alone = np.where(np.arange(36) == 35, 3, codes)
    assert not constant_within(moments_of(X, alone), EPS)[3].any()


def test_what_is_kept_may_explain_a_feature_wholly():
    X, codes, z = rows(3)
    X[:, 2] = 2.0 * z[:, 0] + codes
    moments = moments_of(X, codes, z)
    assert grand_frame(moments, least_squares(moments), EPS, None).active.tolist() == [True, True, False, True, True]


@given(seed=seeds)
@settings(max_examples=20, deadline=None)
def test_effects_and_frames_undo_each_other(seed):
    X, codes, _ = rows(seed)
    moments = moments_of(X, codes)
    fit = least_squares(moments)
    target = grand_frame(moments, fit, EPS, None).target
    gamma, delta = effects(fit.location, fit.rss, fit.n, target)
    standard = (X - target.location) / target.scale
    for k in range(3):
        assert_allclose(gamma[k], standard[codes == k].mean(axis=0), rtol=1e-9, atol=1e-11)
        assert_allclose(delta[k], standard[codes == k].var(axis=0, ddof=1), rtol=1e-9)
    frame = batch_frame(gamma, delta, target)
    assert_allclose(frame.location, fit.location, rtol=1e-12, atol=1e-12)
    assert_allclose(frame.scale, [X[codes == k].std(axis=0, ddof=1) for k in range(3)], rtol=1e-10)


def test_effects_of_nothing_are_not_known():
    gamma, delta = effects(
        np.array([[1.0, np.nan]]), np.zeros((1, 2)), np.array([[1.0, 0.0]]), Frame(np.zeros(2), np.ones(2))
    )
    assert gamma[0, 0] == 1.0
    assert np.isnan(gamma[0, 1])
    assert np.isnan(delta).all()


@pytest.mark.parametrize("unit", [1e-150, 1e150])
def test_extreme_units_leave_the_effects_alone(unit):
    X, codes, _ = rows(4)
    answers = []
    for x in (X, unit * X):
        moments = moments_of(x, codes)
        fit = least_squares(moments)
        grand = grand_frame(moments, fit, EPS, None)
        assert grand.active.all()
        answers.append(effects(fit.location, fit.rss, fit.n, grand.target))
    for plain, scaled in zip(*answers, strict=True):
        assert_allclose(scaled, plain, rtol=1e-6)


@pytest.mark.parametrize("share", [0.1, 0.2, 0.3, 0.6, 0.7])
@pytest.mark.parametrize("n", [5.0, 10.0, 30.0])
def test_a_share_is_counted_in_whole_rows(share, n):
    exact = round(share * n)
    if exact != pytest.approx(share * n):
        pytest.skip("not a whole row")
    counts = np.array([[exact, exact - 1, n]])
    assert scale_allowed(counts, np.full((1, 3), n), share).tolist() == [True, False, True]


def test_every_batch_must_hold_its_share():
    present, n = np.array([[5.0, 5.0, 0.0], [5.0, 0.0, 0.0]]), np.array([[10.0, 10.0, 0.0], [20.0, 10.0, 10.0]])
    assert scale_allowed(present, n, 0.25).tolist() == [True, False, False]
