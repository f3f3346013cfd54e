"""Designs at the edge of the arithmetic: what is kept explains nearly all, or nearly repeats itself."""

from functools import reduce

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from sklearn.base import clone

from batchfix import BatchCorrector, ComBat, LinearCorrector
from batchfix.exceptions import EstimabilityWarning

RNG = np.random.default_rng(7)
N, P = 90, 8
BATCH = np.repeat(["a", "b", "c"], 30)
AGE = RNG.normal(size=N)
LEFT = RNG.normal(size=(N, P)) * np.r_[1.0, 1, 1, 2, 2, 3, 3, 3] * (1 + (BATCH == "b"))[:, None] + BATCH.astype("U1")[
    :, None
].view(np.int32)


@pytest.mark.parametrize("slope", [1e4, 1e5, 1e6, 1e7, 1e9])
@pytest.mark.parametrize("model", [ComBat(), ComBat(parametric=False), BatchCorrector(), LinearCorrector()], ids=str)
@pytest.mark.parametrize("missing", [0.0, 0.1])
def test_an_effect_that_dwarfs_the_rest_does_not_blur_it(model, slope, missing):
    left = np.where(np.random.default_rng(1).random(LEFT.shape) < missing, np.nan, LEFT)
    table = left + slope * AGE[:, None]
    want = model.fit_transform(left, batch=BATCH, keep=AGE) + slope * AGE[:, None]
    got = model.fit_transform(table, batch=BATCH, keep=AGE)
    assert_allclose(got, want, rtol=0, atol=64 * np.finfo(float).eps * slope + 1e-9)


@pytest.mark.parametrize("slope", [1e4, 1e6, 1e8])
@pytest.mark.parametrize("model", [ComBat(), ComBat(parametric=False), BatchCorrector(), LinearCorrector()], ids=str)
@pytest.mark.parametrize("missing", [0.0, 0.1])
def test_nor_does_it_where_sums_of_parts_are_added(model, slope, missing):
    left = np.where(np.random.default_rng(1).random(LEFT.shape) < missing, np.nan, LEFT)
    table = left + slope * AGE[:, None]
    want = model.fit_transform(left, batch=BATCH, keep=AGE) + slope * AGE[:, None]
    order = np.random.default_rng(2).permutation(N)
    for pieces in (2, 9, 45):
        parts = [
            clone(model).partial_fit(table[rows], batch=BATCH[rows], keep=AGE[rows])
            for rows in np.array_split(order, pieces)
        ]
        whole = reduce(lambda a, b: a.merge(b), parts)
        got = whole.transform(table, batch=BATCH, keep=AGE)
        assert_allclose(got, want, rtol=0, atol=64 * np.finfo(float).eps * slope + 1e-9)


def test_powers_in_parts_are_those_of_the_whole():
    year = RNG.integers(2015, 2024, N) - 2019.5
    keep = np.column_stack([year, year**2, year**3])
    table = LEFT + (keep @ [[1e3], [-2e3], [5e2]])
    whole = ComBat().fit(table, batch=BATCH, keep=keep)
    parts = ComBat()
    for rows in np.array_split(RNG.permutation(N), 11):
        parts.partial_fit(table[rows], batch=BATCH[rows], keep=keep[rows])
    got, want = (each.transform(table, batch=BATCH, keep=keep) for each in (parts, whole))
    assert_allclose(got, want, rtol=0, atol=1e-13 * np.abs(table).max())


@pytest.mark.parametrize("model", [ComBat(), BatchCorrector(), LinearCorrector()], ids=str)
def test_kept_columns_that_nearly_repeat_each_other_are_named(model):
    year = RNG.integers(2015, 2024, N) + 0.5
    powers = pd.DataFrame({"year": year, "year2": year**2, "year3": year**3, "age": AGE})
    with pytest.warns(EstimabilityWarning, match=r"'year', 'year2', 'year3' are nearly collinear.*Centre a number"):
        model.fit(LEFT, batch=BATCH, keep=powers)
    model.fit(LEFT, batch=BATCH, keep=powers.assign(year2=(year - 2019) ** 2, year3=(year - 2019) ** 3))


def test_a_kept_effect_is_not_traded_for_nuisance():
    group = np.tile(["x", "y"], 45)
    table = LEFT + 3 * (group == "y")[:, None]
    table[((BATCH == "a") & (group == "y")) | ((BATCH != "a") & (group == "x")), 0] = np.nan
    plate = np.char.add(BATCH, np.where(np.arange(N) % 4 < 2, "1", "2"))
    for how in (
        {"batch": BATCH, "nuisance": {"site": np.where(BATCH == "a", "here", "there")}},
        {"batch": np.column_stack([plate, BATCH])},
        {"batch": np.column_stack([BATCH, plate])},
        {"batch": BATCH},
    ):
        for width in (1, P):
            with pytest.warns(EstimabilityWarning, match=r"1 feature \(number 0\) is such that what is kept"):
                got = LinearCorrector().fit_transform(table[:, :width], keep=group, **how)
            np.testing.assert_array_equal(got[:, 0], table[:, 0])


@pytest.mark.parametrize("seed", range(12))
def test_a_feature_seen_in_one_level_and_value_of_a_batch_is_only_located_there(seed):
    """What its indicator of the level varies by, over the rows where the feature is seen, is rounding."""
    rng = np.random.default_rng(seed)
    level, seen = rng.integers(0, 3, 60), rng.integers(3, 6)
    level[40:45] = 1
    table = np.column_stack([rng.normal(size=60) + 3 * level, rng.normal(size=60)])
    table[40 : 40 + seen, 0], table[40 + seen :, 0] = 7.3, np.nan
    batch, keep = np.repeat(["a", "b", "c"], 20), np.array(["p", "q", "r"])[level]
    with pytest.warns(UserWarning, match="constant within a batch: only located there"):
        model = BatchCorrector().fit(table, batch=batch, keep=keep)
    assert model.affine_.scale[2, 0] == 1.0
