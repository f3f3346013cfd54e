"""Bases of design columns against the ranks and projections of least squares."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from batchfix.core.projection import Margin, basis_of, indicators

seeds = st.integers(0, 2**32 - 1)


def projection(columns: np.ndarray) -> np.ndarray:
    return columns @ np.linalg.pinv(columns)


@given(seed=seeds, scale=st.sampled_from([1e-150, 1.0, 1e150]), offset=st.sampled_from([0.0, 1e8]))
@settings(max_examples=20)
def test_both_bases_span_what_pinv_projects_on(seed, scale, offset):
    rng = np.random.default_rng(seed)
    factor = indicators(rng.integers(0, 4, 30), 4)
    plain = np.column_stack([rng.normal(size=30), indicators(rng.integers(0, 3, 30), 3)])
    margin = Margin.of(factor, (plain + offset) * scale)
    one = np.ones((30, 1))
    before, whole = projection(np.hstack([one, plain])), projection(np.hstack([one, plain, factor]))
    # an offset of 1e8 leaves 8 of the number's 16 digits
    atol = 1e-6 if offset else 1e-10
    assert_allclose(margin.given @ margin.given.T + 1 / 30, before, atol=atol)
    assert_allclose(margin.added @ margin.added.T, whole - before, atol=atol)
    assert margin.df + margin.given_df + margin.residual_df == 29


def test_what_follows_from_others_or_does_not_vary_adds_nothing():
    codes = np.array([0, 0, 1, 1, 2, 2])
    coarse = indicators((codes > 0).astype(int), 2)
    assert Margin.of(coarse, indicators(codes, 3)).df == 0
    assert Margin.of(indicators(codes, 3), coarse).df == 1
    assert basis_of(np.full((6, 1), 0.1 + 0.2)).shape == (6, 0)
    assert basis_of(np.zeros((6, 0))).shape == (6, 0)


@pytest.mark.parametrize("noise", [1e-3, 1e-9])
def test_a_direction_counts_from_a_hundred_thousandth_of_its_length(noise):
    rng = np.random.default_rng(0)
    age = rng.normal(size=50)
    twin = age + noise * rng.normal(size=50)
    assert Margin.of(twin[:, None], age[:, None]).df == (1 if noise > 1e-5 else 0)
