"""LISI against published numbers, a loop over samples, and what the formula says at its ends."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.distance import cdist

from batchfix.core.lisi import TOLERANCE, chance_level, inverse_simpson, neighbour_weights

ORACLES = Path(__file__).parent.parent / "oracles"


def neighbours(X: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    D = cdist(X, X)
    np.fill_diagonal(D, np.inf)
    found = np.argsort(D, axis=1)[:, :k]
    return np.take_along_axis(D, found, axis=1), found


def published_search(distances: np.ndarray, perplexity: float) -> np.ndarray:
    """One row, as Harmony's code has it: from beta = 1, doubling and halving, then bisection."""
    distances = distances - distances.min()  # entropies stay, and a large beta leaves some weight
    beta, low, high = 1.0, -np.inf, np.inf
    for _ in range(51):
        weights = np.exp(-distances * beta)
        total = weights.sum()
        off = np.log(total) + beta * (distances * weights).sum() / total - np.log(perplexity)
        if abs(off) < 1e-5:
            break
        if off > 0:
            low = beta
            beta = beta * 2 if np.isinf(high) else (beta + high) / 2
        else:
            high = beta
            beta = beta / 2 if np.isinf(low) else (beta + low) / 2
    return weights / total


def test_the_oracles():
    lab, numbers = np.load(ORACLES / "lab.npz"), json.loads((ORACLES / "lab.json").read_text())
    for name, X in (("before", lab["X"]), ("after", lab["X_after"])):
        want = numbers[name]
        distances, found = neighbours(X, 90)
        for label, letter in (("batch", "i"), ("group", "c")):
            levels, codes = np.unique(lab[label], return_inverse=True)
            harmony = inverse_simpson(neighbour_weights(distances, 30), codes[found], len(levels))
            assert_allclose(harmony.mean(), want[f"harmonypy_lisi_{label}_mean"], rtol=1e-10)
            if label == "batch":
                assert_allclose(np.median(harmony), want["harmonypy_lisi_batch_median"], rtol=1e-10)
            # a graph of 31 that counts the sample itself, in float32
            scib = inverse_simpson(neighbour_weights(distances[:, :30], 10), codes[found[:, :30]], len(levels))
            assert_allclose(np.median(scib), want[f"scib_{letter}lisi_k31"], rtol=1e-4)


@given(seed=st.integers(0, 2**32 - 1), perplexity=st.floats(1.5, 15), unit=st.integers(-8, 8))
@settings(max_examples=30)
def test_weights_are_those_of_the_published_search(seed, perplexity, unit):
    distances = np.random.default_rng(seed).gamma(3.0, size=(4, 20)) * 2.0**unit
    weights = neighbour_weights(distances, perplexity)
    assert_allclose(weights, [published_search(row, perplexity) for row in distances], rtol=1e-9, atol=1e-15)
    entropy = -(weights * np.log(np.maximum(weights, 1e-300))).sum(axis=1)
    assert (np.abs(entropy - np.log(perplexity)) < 1.01 * TOLERANCE).all()


@pytest.mark.parametrize("exponent", [-500, 500])
def test_no_unit_is_too_small_or_too_large(exponent):
    distances = np.random.default_rng(0).gamma(3.0, size=(5, 20))
    # a power of two changes no digit
    assert_array_equal(neighbour_weights(distances * 2.0**exponent, 6), neighbour_weights(distances, 6))


def test_far_but_equally_far_neighbours_are_told_apart():
    distances = 1e5 + np.linspace(0, 1, 20)[None]  # e^-1e5 underflows
    assert_allclose(neighbour_weights(distances, 6), neighbour_weights(distances - 1e5, 6), rtol=1e-4)


def test_copies_of_a_sample_share_the_weight():
    distances = np.array([[0.0] * 5 + [1.0] * 5, [0.0] * 10])
    assert_allclose(neighbour_weights(distances, 3), [[0.2] * 5 + [0.0] * 5, [0.1] * 10], atol=1e-12)


def test_one_label_around_is_1_and_an_even_mix_their_number():
    weights = np.full((2, 6), 1 / 6)
    found = inverse_simpson(weights, np.array([[3] * 6, [0, 1, 2, 0, 1, 2]]), 4)
    assert_allclose(found, [1, 3], rtol=1e-14)


def test_chance_is_the_mean_over_orders_of_the_labels():
    rng = np.random.default_rng(1)
    X, codes = rng.normal(size=(400, 2)), np.arange(400) % 2
    distances, found = neighbours(X, 60)
    weights = neighbour_weights(distances, 20)
    chance = chance_level(weights, found, codes, 2, 40, rng)
    # the expectation of 1 / LISI over orders of the labels, by hand: two neighbours share a label with 199 / 399
    together = np.square(weights).sum(axis=1)
    simpson = (together + (1 - together) * 199 / 399).mean()
    assert chance.shape == (40,)
    # LISI is the mean of an inverse, which is above the inverse of the mean, by the spread of 1 / LISI squared: ~1 %
    assert 1 / simpson < chance.mean() < 1.03 / simpson
