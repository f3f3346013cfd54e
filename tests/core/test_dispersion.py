"""Dispersion against vegan and scipy, from coordinates and from distances alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import stats
from scipy.spatial.distance import cdist

from batchfix.core.dispersion import (
    brown_forsythe,
    distances_to_centre,
    distances_to_centroid_from,
    distances_to_median_from,
    spatial_median,
)
from batchfix.core.feature_effects import feature_squares
from batchfix.core.gram import gower
from batchfix.core.groups import Groups
from batchfix.core.projection import indicators

ORACLES = Path(__file__).parent.parent / "oracles"


def f_of(z: np.ndarray, codes: np.ndarray) -> float:
    return float(feature_squares(z[:, None], indicators(codes, codes.max() + 1)).F[0])


def test_the_oracles():
    lab, numbers = np.load(ORACLES / "lab.npz"), json.loads((ORACLES / "lab.json").read_text())
    codes = np.unique(lab["batch"], return_inverse=True)[1]
    groups = Groups.of(codes, 3)
    medians = []
    for name, X in (("before", lab["X"]), ("after", lab["X_after"])):
        want = numbers[name]
        assert_allclose(f_of(distances_to_centre(X, groups)[0], codes), want["vegan_betadisper_centroid_F"], rtol=1e-10)
        medians.append(f_of(distances_to_centre(X, groups, median=True)[0], codes))
        # vegan's search stops early: its two, of tables that differ by a constant a batch, are 2e-4 apart
        assert_allclose(medians[-1], want["vegan_betadisper_median_F"], rtol=2e-4)
        for label in ("batch", "group"):
            levels, of_label = np.unique(lab[label], return_inverse=True)
            F = brown_forsythe(X, Groups.of(of_label, len(levels))).F
            assert_allclose(np.median(F), want[f"scipy_levene_median_{label}"], rtol=1e-10)
    assert_allclose(*medians, rtol=1e-8)


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(3, 30), p=st.integers(2, 40))
@settings(max_examples=60)
@example(seed=52215, n=8, p=2)  # two clusters of one size
def test_no_direction_leads_down_from_the_spatial_median(seed, n, p):
    X = np.random.default_rng(seed).normal(size=(n, p)) ** 3
    middle, settled = spatial_median(X)
    assert settled
    apart = X - middle
    distance = np.sqrt(np.square(apart).sum(axis=1))
    here = distance <= 1e-9 * distance.max()
    pull = (apart[~here] / distance[~here, None]).sum(axis=0)
    assert np.sqrt(pull @ pull) <= here.sum() + 1e-6 * n


@pytest.mark.parametrize(
    ("points", "median"),
    [
        ([[0, 0], [4, 0], [0, 3], [1, 1]], [1, 1]),  # inside the triangle: the inner point itself
        ([[0, 0], [10, 0.1], [-10, 0.1]], [0, 0]),  # an angle above 120 degrees: that corner
        ([[1, 1], [-1, 1], [1, -1], [-1, -1]], [0, 0]),
        ([[2, 5], [2, 5], [2, 5]], [2, 5]),
        ([[0, 0], [0, 1], [0, 5], [0, 9], [0, 9.5]], [0, 5]),  # on one line
        ([[-1, 100], [1, 100], [-1, -100], [1, -100]], [0, 0]),
    ],
)
def test_spatial_medians_known_by_hand(points, median):
    found, settled = spatial_median(np.array(points, dtype=np.float64))
    assert settled
    assert_allclose(found, median, atol=1e-7)


def test_one_feature_has_the_usual_median():
    assert spatial_median(np.array([[1.0], [2.0], [50.0]]))[0].tolist() == [2.0]


@pytest.mark.parametrize("p", [3, 25])
def test_distances_alone_give_what_coordinates_give(p):
    rng = np.random.default_rng(0)
    codes = np.arange(20) % 3
    X, groups = rng.normal(size=(20, p)), Groups.of(codes, 3)
    D = cdist(X, X)
    found, negative = distances_to_centroid_from(D, groups)
    assert negative == 0
    assert_allclose(found, distances_to_centre(X, groups)[0], rtol=1e-10)
    found, negative, settled = distances_to_median_from(gower(D.copy()), groups)
    assert (negative, settled) == (0, True)
    assert_allclose(found * D.max(), distances_to_centre(X, groups, median=True)[0], rtol=1e-6)


def test_negative_squares_are_0_and_counted():
    D = np.array(
        [[0, 1, 1, 1], [1, 0, 2, 2], [1, 2, 0, 2], [1, 2, 2, 0.0]]
    )  # no point is 1 from three that are 2 apart
    found, negative = distances_to_centroid_from(D, Groups.of(np.zeros(4, dtype=int), 1))
    assert negative == 1
    assert_allclose(found**2, [0, 1.3125, 1.3125, 1.3125])


@pytest.mark.parametrize(("scale", "offset", "rtol"), [(1e-150, 0.0, 1e-10), (1e150, 0.0, 1e-10), (1.0, 1e8, 1e-6)])
@pytest.mark.parametrize("median", [False, True])
def test_unit_and_origin_do_not_matter(scale, offset, rtol, median):
    rng = np.random.default_rng(1)
    X, groups = rng.normal(size=(30, 4)), Groups.of(np.arange(30) % 3, 3)
    moved = distances_to_centre(X * scale + offset, groups, median=median)[0]
    assert_allclose(moved / scale, distances_to_centre(X, groups, median=median)[0], rtol=rtol)


def test_brown_forsythe_is_scipys_over_observed_samples():
    rng = np.random.default_rng(2)
    codes = np.arange(50) % 3
    X = rng.normal(size=(50, 4)) * (1 + codes[:, None])
    X[rng.random(X.shape) < 0.2] = np.nan
    X[codes == 1, 3] = np.nan
    found = brown_forsythe(X, Groups.of(codes, 3))
    for j in range(4):
        parts = [X[(codes == k) & ~np.isnan(X[:, j]), j] for k in range(3)]
        F, p = stats.levene(*(part for part in parts if len(part)), center="median")
        assert_allclose([found.F[j], found.p_value[j]], [F, p], rtol=1e-10)
