"""Retention: what a correction leaves of an effect, against a regression by hand and the share that labels forecast."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from batchfix.core.projection import indicators
from batchfix.core.retention import retention

NOTHING = np.zeros((40, 0))


@pytest.fixture
def design():
    case, plate = np.repeat([0.0, 1.0], 20), np.repeat([0, 1, 0, 1], [15, 5, 5, 15])
    X = np.random.default_rng(0).normal(size=(40, 6)) + case[:, None] + 3.0 * plate[:, None]
    return X, case[:, None], plate


def centred(X, codes):
    return X - np.array([X[codes == k].mean(axis=0) for k in np.unique(codes)])[codes]


def test_centring_without_keeping_leaves_one_less_rho2_whatever_the_noise(design):
    X, case, plate = design
    rho2 = np.corrcoef(case[:, 0], plate)[0, 1] ** 2
    for table in (X, np.random.default_rng(1).normal(size=X.shape)):
        found = retention(table, centred(table, plate), case, indicators(plate, 2), NOTHING)
        assert_allclose(found.effect, 1 - rho2, rtol=1e-10)
        assert_allclose(found.batch, 0, atol=1e-12)


def test_keeping_leaves_all_and_units_and_origins_do_not_matter(design):
    X, case, plate = design
    columns = np.column_stack([np.ones(40), case, plate])
    kept = X - plate[:, None] * np.linalg.lstsq(columns, X, rcond=None)[0][2]
    assert_allclose(retention(X, kept, case, indicators(plate, 2), NOTHING).effect, 1, rtol=1e-10)
    scaled = retention(X * 1e-150, kept * [[1, 2, 3, 4, 5, 1e9]] + 1e3, case, indicators(plate, 2), NOTHING)
    assert_allclose(scaled.effect, 1, rtol=1e-6)


def test_it_is_the_regression_of_the_corrected_table_on_that_of_the_model(design):
    X, case, plate = design
    after = centred(X, plate) + 0.3 * np.random.default_rng(2).normal(size=X.shape)
    whole = np.column_stack([np.ones(40), case, plate])

    def spread(Y):
        rest = Y - whole @ np.linalg.lstsq(whole, Y, rcond=None)[0]
        return np.sqrt((rest**2).sum(axis=0) / 37)

    b = np.linalg.lstsq(whole, X, rcond=None)[0][1] / spread(X)
    c = np.linalg.lstsq(whole[:, :2], after, rcond=None)[0][1] / spread(after)
    assert_allclose(retention(X, after, case, indicators(plate, 2), NOTHING).effect, b @ c / (b @ b), rtol=1e-10)


def test_features_with_gaps_are_left_out_and_what_cannot_be_known_is_nan(design):
    X, case, plate = design
    gappy = X.copy()
    gappy[3, 0] = np.nan
    found = retention(gappy, centred(X, plate), case, indicators(plate, 2), NOTHING)
    wanted = retention(X[:, 1:], centred(X, plate)[:, 1:], case, indicators(plate, 2), NOTHING)
    assert_allclose(found.effect, wanted.effect, rtol=1e-12)
    assert np.isnan(retention(X, X, plate[:, None], indicators(plate, 2), NOTHING).effect)
    assert np.isnan(retention(np.full_like(X, np.nan), X, case, indicators(plate, 2), NOTHING).effect)
