"""Silhouettes against scikit-learn's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import pairwise_distances, silhouette_samples

from batchfix.core import silhouette as module
from batchfix.core.silhouette import silhouette

ORACLES = Path(__file__).parent.parent / "oracles"


def direct(X: np.ndarray, codes: np.ndarray, metric: str) -> np.ndarray:
    """Of differences taken one by one: scikit-learn's own distances lose digits in products."""
    D = np.sqrt(np.square(X[:, None] - X[None]).sum(axis=2))
    D = D**2 if metric == "sqeuclidean" else D
    return silhouette_samples(D, codes, metric="precomputed")


def test_the_oracles():
    lab, numbers = np.load(ORACLES / "lab.npz"), json.loads((ORACLES / "lab.json").read_text())
    for name, X in (("before", lab["X"]), ("after", lab["X_after"])):
        want = numbers[name]
        batch, group = (np.unique(lab[k], return_inverse=True)[1] for k in ("batch", "group"))
        for label, codes in (("batch", batch), ("group", group)):
            s = silhouette(X, codes)
            assert_allclose(s.mean(), want[f"sklearn_silhouette_{label}"], atol=1e-10)
            squared = silhouette(X, codes, squared=True).mean()
            assert_allclose(squared, want[f"sklearn_silhouette_sqeuclidean_{label}"], atol=1e-10)
        # scib's two, in float32: of biology shifted to 0 .. 1, of batch within each group without its sign
        assert_allclose((s.mean() + 1) / 2, want["scib_silhouette_label"], atol=1e-4)
        within = [1 - np.abs(silhouette(X[group == k], batch[group == k])).mean() for k in range(group.max() + 1)]
        assert_allclose(np.mean(within), want["scib_silhouette_batch"], atol=1e-4)


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(3, 40), p=st.integers(1, 60), k=st.integers(2, 6))
@settings(max_examples=30)
@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean"])
def test_equals_the_definition(metric, seed, n, p, k):
    rng = np.random.default_rng(seed)
    codes = np.unique(rng.integers(0, min(k, n - 1), n), return_inverse=True)[1]
    if codes.max() == 0:
        codes[0] = 1
    X = rng.normal(size=(n, p)) + 3 * codes[:, None] + 50
    assert_allclose(silhouette(X, codes, squared=metric == "sqeuclidean"), direct(X, codes, metric), atol=1e-10)


def test_many_rows_at_a_time_or_few(monkeypatch):
    rng = np.random.default_rng(0)
    X, codes = rng.normal(size=(101, 5)), np.arange(101) % 4
    whole = silhouette(X, codes)
    monkeypatch.setattr(module, "PAIR_VALUES", 700)
    assert_allclose(silhouette(X, codes), whole, rtol=1e-11)


def test_tight_classes_far_apart_keep_their_digits():
    rng = np.random.default_rng(1)
    codes = np.arange(40) % 2
    X = 1e6 * codes[:, None] + 1e-3 * rng.normal(size=(40, 3))
    X[2] = X[0]
    with np.errstate(all="raise"):
        for metric in ("euclidean", "sqeuclidean"):
            want = 1 - direct(X, codes, metric)
            # 1e-3 of 1e6 leaves 7 digits of a distance
            assert_allclose(1 - silhouette(X, codes, squared=metric == "sqeuclidean"), want, rtol=1e-4, atol=1e-15)


@pytest.mark.parametrize(("scale", "offset", "atol"), [(1e-150, 0.0, 1e-12), (1e150, 0.0, 1e-12), (1.0, 1e8, 1e-6)])
@pytest.mark.parametrize("squared", [False, True])
def test_unit_and_origin_do_not_matter(scale, offset, atol, squared):
    rng = np.random.default_rng(2)
    X, codes = rng.normal(size=(30, 4)), np.arange(30) % 3
    moved = silhouette(X * scale + offset, codes, squared=squared)
    assert_allclose(moved, silhouette(X, codes, squared=squared), atol=atol)


def test_a_class_of_one_and_equal_samples_are_0():
    X = np.array([[0.0], [1.0], [9.0]])
    assert silhouette(X, np.array([0, 0, 1]))[2] == 0
    for squared in (False, True):
        assert_array_equal(silhouette(np.ones((4, 2)), np.array([0, 0, 1, 1]), squared=squared), np.zeros(4))


def test_scikit_learns_own_distances_agree():
    X, codes = np.random.default_rng(3).normal(size=(50, 8)), np.arange(50) % 3
    assert_allclose(
        silhouette(X, codes), silhouette_samples(pairwise_distances(X), codes, metric="precomputed"), atol=1e-10
    )
