"""InstanceCorrector: each row by its own mean and standard deviation, the standard normal variate."""

import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.utils.estimator_checks import check_estimator

from batchfix import GroupCorrector, InstanceCorrector
from batchfix.exceptions import BatchfixError

seeds = st.integers(0, 2**32 - 1)


def spectra(seed=0, gaps=0.1):
    rng = np.random.default_rng(seed)
    X = rng.gamma(2.0, size=(12, 25))
    X[rng.random(X.shape) < gaps] = np.nan
    return X


@given(seeds, st.sampled_from([0, 1]))
def test_it_is_the_standard_normal_variate(seed, ddof):
    X = spectra(seed)
    mean, spread = np.nanmean(X, axis=1, keepdims=True), np.nanstd(X, axis=1, ddof=ddof, keepdims=True)
    assert_allclose(InstanceCorrector(ddof=ddof).fit_transform(X), (X - mean) / spread, rtol=1e-12, atol=1e-13)


@given(seeds)
def test_scatter_and_shifts_of_whole_rows_vanish(seed):
    X, rng = spectra(seed), np.random.default_rng(seed)
    factors, shifts = rng.gamma(2.0, size=(12, 1)) + 0.1, rng.normal(size=(12, 1))
    model = InstanceCorrector()
    assert_allclose(model.fit_transform(X * factors + shifts), model.fit_transform(X), rtol=1e-9, atol=1e-9)


def test_it_is_a_group_corrector_with_one_group():
    X = spectra()
    for how in (
        {},
        {"center": "median", "scale": "mad"},
        {"method": "rank"},
        {"leave_one_out": True},
        {"winsorize": 2},
    ):
        assert_array_equal(InstanceCorrector(**how).fit_transform(X), GroupCorrector(**how).fit_transform(X))


def test_a_flat_row_is_zero_and_an_empty_one_is_nan():
    X = np.vstack([np.full(5, 0.1), np.full(5, np.nan), np.arange(5.0)])
    got = InstanceCorrector(return_group_stats=True).fit_transform(X)
    assert_array_equal(got[0, :5], 0.0)
    assert_array_equal(got[1], [*[np.nan] * 7, 0.0])
    assert_allclose(got[2, 5:], [2.0, np.std(np.arange(5), ddof=1), 5.0])


def test_there_and_back():
    table = pd.DataFrame(spectra(), columns=[f"{1000 + j} nm" for j in range(25)])
    model = InstanceCorrector(return_group_stats=True).fit(table)
    out = model.transform(table)
    assert list(out.columns[25:]) == ["mean(row)", "std(row)", "count(row)"]
    pd.testing.assert_frame_equal(model.inverse_transform(out), table, rtol=1e-12)


@pytest.mark.parametrize("model", [InstanceCorrector(), InstanceCorrector("median", "mad", winsorize=3)], ids=str)
@pytest.mark.parametrize("routing", [False, True])
def test_it_conforms_to_scikit_learn(model, routing):
    with sklearn.config_context(enable_metadata_routing=routing):
        results = check_estimator(model, on_fail=None, on_skip=None)
    bad = [(r["check_name"], r["exception"]) for r in results if r["status"] not in ("passed", "skipped")]
    assert len(results) > 40
    assert bad == []


def test_it_can_be_copied_and_kept():
    X = spectra()
    model = InstanceCorrector(weights=np.arange(1.0, 26.0)).fit(X)
    assert_array_equal(pickle.loads(pickle.dumps(model)).transform(X), model.transform(X))
    assert set(clone(model).get_params()) == {
        *("center", "scale", "method", "winsorize", "weights", "leave_one_out", "return_group_stats", "ddof", "copy")
    }


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"center": "mode"}, "'center' parameter"),
        ({"winsorize": (2, 1)}, "winsorize must be two quantiles"),
        ({"weights": [1.0, 2.0]}, "one number a column"),
        ({"weights": "cap"}, "got the name 'cap'"),
    ],
)
def test_wrong_parameters_are_one_sentence(change, says):
    with pytest.raises(ValueError, match=says):
        InstanceCorrector(**change).fit(spectra())


@pytest.mark.parametrize(("value", "says"), [(np.inf, "first in row 3, column 4"), (1e200, "squares must fit float64")])
def test_what_is_no_number_is_one_sentence(value, says):
    X = spectra()
    X[3, 4] = value
    with pytest.raises(BatchfixError, match=says):
        InstanceCorrector().fit(X).transform(X)


def test_groups_of_cells_are_refused():
    with pytest.raises(BatchfixError, match="Use GroupCorrector"):
        InstanceCorrector().fit(spectra(), membership=np.zeros((12, 25)))
