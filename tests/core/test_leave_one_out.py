"""Leave one out: the others' statistics, whatever the cell that is left out weighs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchfix.core.peers import Levels
from batchfix.core.recipe import Recipe
from batchfix.core.standing import standardize


def without(x, w, i):
    """Weighted mean and standard deviation (reliability weights) of all but value i."""
    others = np.arange(len(x)) != i
    x, w = x[others], w[others]
    mean = np.average(x, weights=w)
    total = w.sum()
    return mean, np.sqrt((w * (x - mean) ** 2).sum() / (total - (w * w).sum() / total))


@given(st.integers(0, 10_000), st.sampled_from([1.0, 1e3, 1e5, 1e8, 1e12, 1e30]))
def test_a_heavy_cell_does_not_blur_the_others(seed, ratio):
    rng = np.random.default_rng(seed)
    x, w = rng.normal(size=8), rng.uniform(0.5, 2.0, 8)
    w[rng.integers(8)] *= ratio
    out = np.empty((1, 8))
    standardize(x[None], np.zeros(8, int), Levels.flat(1), Recipe(leave_one_out=True), weights=w, out=out)
    heavy = int(w.argmax())
    mean, sd = without(x, w, heavy)
    # up to the switch at 1e-3 three digits are lost, and the shares of the others are sums of eight
    assert out[0, heavy] == pytest.approx((x[heavy] - mean) / sd, rel=1e-11, abs=1e-11)


def test_others_without_weight_have_no_say():
    out = np.empty((1, 3))
    weights = np.array([1.0, 0.0, 0.0])
    standardize(
        np.array([[1.0, 2.0, 4.0]]),
        np.zeros(3, int),
        Levels.flat(1),
        Recipe(scale=None, leave_one_out=True),
        weights=weights,
        out=out,
    )
    assert np.isnan(out[0, 0])
    assert out[0, 1:].tolist() == [1.0, 3.0]  # beside the one that counts
