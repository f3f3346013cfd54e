"""Residuals where what is kept explains nearly everything, against least squares on the residuals themselves."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from batchfix.core.groups import Groups, group_moments
from batchfix.core.least_squares import least_squares
from batchfix.core.residuals import LOST, lost, refitted, residuals

EPS = float(np.finfo(float).eps)
RNG = np.random.default_rng(0)
N, P = 60, 5
CODES = np.repeat([0, 1, 2], 20)
GROUPS = Groups.of(CODES, 3)
AGE = RNG.normal(size=(N, 1))
LEFT = RNG.normal(size=(N, P)) * [1.0, 1.0, 2.0, 3.0, 3.0] + CODES[:, None]
GAPS = np.where(RNG.random((N, P)) < 0.1, np.nan, LEFT)


def both(left: np.ndarray, slope: float, z: np.ndarray = AGE):
    """Fits to a table with the effect and without it."""
    X = left + slope * z.sum(axis=1, keepdims=True)
    fits = [least_squares(group_moments(table, GROUPS, z)) for table in (X, left)]
    return X, refitted(fits[0], X, GROUPS, z, EPS), fits[1]


@pytest.mark.parametrize("left", [LEFT, GAPS], ids=["complete", "gaps"])
@pytest.mark.parametrize("slope", [1.0, 1e3, 1e5, 1e7, -1e9])
def test_an_effect_of_any_size_leaves_the_same_residuals(left, slope):
    _, got, want = both(left, slope)
    rounding = 16 * EPS * abs(slope) + 1e-9
    assert_allclose(got.rss, want.rss, rtol=rounding * 4)
    assert_allclose(got.location - slope * got.pivot.sum(), want.location, atol=rounding)
    assert_allclose(got.coef - slope, want.coef, atol=rounding)


def test_an_ordinary_fit_is_not_looked_at_again():
    X, _, _ = both(LEFT, 10.0)
    fit = least_squares(group_moments(X, GROUPS, AGE))
    assert refitted(fit, X, GROUPS, AGE, EPS) is fit
    assert (fit.left > LOST).all()
    assert not len(lost(fit, fit.left))


@pytest.mark.parametrize("unit", [1e-150, 1.0, 1e140])
def test_a_feature_explained_wholly_has_no_residuals(unit):
    X = np.column_stack([LEFT, 3 * AGE + 7 * CODES[:, None], AGE]) * unit
    fit = refitted(least_squares(group_moments(X, GROUPS, AGE)), X, GROUPS, AGE, EPS)
    assert (fit.rss[:, P:] == 0).all()
    assert (fit.rss[:, :P] > 0).all()


def test_other_rows_are_looked_at_again_too():
    X, fit, plain = both(LEFT, 1e7)
    new, age = RNG.normal(size=(15, P)) + 4, RNG.normal(size=(15, 1))
    new[3, 2] = np.nan
    one = Groups.of(np.zeros(15, dtype=int), 1)
    tables = new + 1e7 * age, new
    got, want = (
        residuals(model, group_moments(table, one, age), table, one, age, EPS)
        for model, table in zip((fit, plain), tables, strict=True)
    )
    assert_allclose(got[0] - 1e7 * fit.pivot.sum(), want[0], atol=1e-6)
    assert_allclose(got[1], want[1], rtol=1e-6)
    assert X.shape == (N, P)


def test_a_spread_of_rounding_units_of_float32_is_none():
    X = (LEFT * 1e-3 + 1e7 * AGE).astype(np.float32)
    fit = least_squares(group_moments(X, GROUPS, AGE))
    assert (refitted(fit, X, GROUPS, AGE, float(np.finfo(np.float32).eps)).rss == 0).all()
