"""Sums of squares of each feature against least squares, scipy and scikit-learn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from sklearn.metrics import calinski_harabasz_score

from batchfix.core.feature_effects import benjamini_hochberg, feature_squares
from batchfix.core.projection import indicators

ORACLES = Path(__file__).parent.parent / "oracles"
seeds = st.integers(0, 2**32 - 1)


def rss(x: np.ndarray, *columns: np.ndarray) -> float:
    design = np.hstack([np.ones((len(x), 1)), *columns])
    return float(np.square(x - design @ np.linalg.lstsq(design, x, rcond=None)[0]).sum())


@given(seed=seeds, gaps=st.sampled_from([0.0, 0.2]), dtype=st.sampled_from([np.float64, np.float32]))
@settings(max_examples=25)
def test_each_feature_is_least_squares_over_its_observed_samples(seed, gaps, dtype):
    rng = np.random.default_rng(seed)
    factor = indicators(rng.integers(0, 3, 40), 3)
    before = np.column_stack([rng.normal(size=40), indicators(rng.integers(0, 2, 40), 2)])
    X = (rng.normal(size=(40, 5)) + factor @ rng.normal(size=(3, 5))).astype(dtype)
    X[rng.random(X.shape) < gaps] = np.nan
    found = feature_squares(X, factor, before)
    for j in range(5):
        seen = ~np.isnan(X[:, j])
        x = X[seen, j].astype(np.float64)
        total, some, all_ = rss(x), rss(x, before[seen]), rss(x, before[seen], factor[seen])
        assert found.n[j] == seen.sum()
        assert_allclose(found.eta2[j], (some - all_) / total, atol=1e-12)
        assert_allclose(found.residual[j] / found.total[j], all_ / total, rtol=1e-9)
        rank = np.linalg.matrix_rank(np.hstack([np.ones((len(x), 1)), before[seen], factor[seen]]))
        assert found.residual_df[j] == len(x) - rank


def test_f_and_p_are_those_of_scipy():
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 4, 50)
    X = rng.normal(size=(50, 6)) + np.outer(codes == 1, [0, 1, 2, 4, 8, 80])
    found = feature_squares(X, indicators(codes, 4))
    for j in range(6):
        F, p = stats.f_oneway(*(X[codes == k, j] for k in range(4)))
        assert_allclose(found.F[j], F, rtol=1e-11)
        assert_allclose(found.p_value[j], p, rtol=1e-9)


def test_the_oracle_and_the_whole_table_of_it():
    lab, numbers = np.load(ORACLES / "lab.npz"), json.loads((ORACLES / "lab.json").read_text())
    for name, X in (("before", lab["X"]), ("after", lab["X_after"])):
        want = numbers[name]
        for label in ("batch", "group"):
            levels, codes = np.unique(lab[label], return_inverse=True)
            found = feature_squares(X, indicators(codes, len(levels)))
            assert_allclose(np.median(found.F), want[f"scipy_anova_F_median_{label}"], rtol=1e-10)
            whole = found.sum()
            assert_allclose(whole.F, want[f"sklearn_calinski_harabasz_{label}"], rtol=1e-10)
            variance = X.var(axis=0)
            assert_allclose(whole.R2, np.average(found.eta2, weights=variance), rtol=1e-10)
            # float32 there
            assert_allclose(whole.R2, want[f"scib_pcr_allpcs_{label}"], rtol=1e-4)
        other = {"batch": "group", "group": "batch"}
        bases = {k: indicators(np.unique(lab[k], return_inverse=True)[1], 3) for k in other}
        for label, beside in other.items():
            whole = feature_squares(X, bases[label], bases[beside]).sum()
            assert_allclose(whole.R2, want[f"vegan_margin_R2_{label}"], atol=1e-10)
            assert_allclose(whole.F, want[f"vegan_margin_F_{label}"], atol=1e-10)
            assert_allclose(whole.residual / whole.total, want["vegan_residual_R2"], rtol=1e-10)
        assert_allclose(
            feature_squares(X, bases["batch"], bases["group"]).sum().R2_partitioned,
            want["vegan_partial_rda_R2adj"],
            atol=1e-10,
        )
        assert_allclose(feature_squares(X, bases["batch"]).sum().R2_adjusted, want["vegan_rda_R2adj"], atol=1e-10)


@pytest.mark.parametrize(("scale", "offset", "rtol"), [(1e-150, 0, 1e-12), (1e150, 0, 1e-12), (1.0, 1e8, 1e-6)])
def test_unit_and_origin_do_not_matter(scale, offset, rtol):
    rng = np.random.default_rng(2)
    codes = rng.integers(0, 3, 60)
    X = rng.normal(size=(60, 4)) + codes[:, None]
    factor = indicators(codes, 3)
    plain, moved = feature_squares(X, factor), feature_squares(X * scale + offset, factor)
    assert_allclose(moved.F, plain.F, rtol=rtol)
    assert_allclose(moved.sum().F, calinski_harabasz_score(X, codes), rtol=rtol)


def test_features_of_unequal_scale_count_by_their_variance():
    rng = np.random.default_rng(3)
    codes = rng.integers(0, 3, 60)
    X = (rng.normal(size=(60, 3)) + codes[:, None]) * [1.0, 1e3, 1e-3]
    assert_allclose(feature_squares(X, indicators(codes, 3)).sum().F, calinski_harabasz_score(X, codes), rtol=1e-10)


def test_what_has_no_number_is_nan_and_what_leaves_nothing_is_infinite():
    codes = np.array([0, 0, 0, 1, 1, 1])
    step = codes + 0.1
    noise = np.array([0.1 + 0.2, 0.3, 0.3, 0.3, 0.3, 0.3])
    one = np.array([1.0, *[np.nan] * 5])
    within = np.array([1.0, 2.0, 4.0, *[np.nan] * 3])
    found = feature_squares(np.column_stack([step, noise, one, within, np.full(6, np.nan)]), indicators(codes, 2))
    assert_array_equal(found.F, [np.inf, np.nan, np.nan, np.nan, np.nan])
    assert_array_equal(found.p_value, [0, np.nan, np.nan, np.nan, np.nan])
    assert_array_equal(found.eta2, [1, np.nan, np.nan, 0, np.nan])
    assert_array_equal(found.n, [6, 6, 1, 3, 0])
    assert found.df[3] == 0


@given(p=st.lists(st.one_of(st.floats(0, 1), st.just(np.nan)), max_size=30))
def test_false_discovery_rates_are_those_of_scipy(p):
    values = np.array(p, dtype=np.float64)
    seen = ~np.isnan(values)
    q = benjamini_hochberg(values)
    assert np.isnan(q[~seen]).all()
    if seen.any():
        assert_allclose(q[seen], stats.false_discovery_control(values[seen]), rtol=1e-12)
