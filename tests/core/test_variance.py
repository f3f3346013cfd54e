"""The share of variance a factor explains, against plain least squares."""

from __future__ import annotations

import numpy as np
import pytest

from batchfix.core.variance import variance_explained
from batchfix.exceptions import AlignmentError, BatchfixError


def residual_ss(X: np.ndarray, *factors: np.ndarray) -> np.ndarray:
    columns = [np.ones((len(X), 1))]
    columns += [(f[:, None] == np.unique(f)).astype(float) for f in factors]
    design = np.hstack(columns)
    fitted = design @ np.linalg.lstsq(design, X, rcond=None)[0]
    return np.square(X - fitted).sum(axis=0)


@pytest.fixture
def table() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    batch = rng.choice(["b1", "b2", "b3"], size=40)
    group = rng.choice(["x", "y"], size=40)
    X = rng.normal(size=(40, 7)) + 2.0 * (batch == "b2")[:, None] + (group == "x")[:, None]
    return X, batch, group


def test_equals_least_squares(table: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    X, batch, group = table
    total = residual_ss(X)
    np.testing.assert_allclose(variance_explained(X, batch), 1 - residual_ss(X, batch) / total, atol=1e-12)
    np.testing.assert_allclose(
        variance_explained(X, batch, given=group),
        (residual_ss(X, group) - residual_ss(X, group, batch)) / total,
        atol=1e-12,
    )


def test_marginal_shares_and_first_factor_make_the_whole(
    table: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    X, batch, group = table
    both = 1 - residual_ss(X, batch, group) / residual_ss(X)
    np.testing.assert_allclose(
        variance_explained(X, batch) + variance_explained(X, group, given=batch), both, atol=1e-12
    )


def test_a_factor_known_from_the_other_adds_nothing(
    table: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    X, batch, _ = table
    coarse = np.where(batch == "b1", "one", "rest")
    assert np.array_equal(variance_explained(X, coarse, given=batch), np.zeros(7))
    assert np.array_equal(variance_explained(X, np.full(40, "same")), np.zeros(7))


@pytest.mark.parametrize(("scale", "offset"), [(1e-150, 0.0), (1e150, 0.0), (1.0, 1e8)])
def test_unit_and_origin_do_not_matter(
    table: tuple[np.ndarray, np.ndarray, np.ndarray], scale: float, offset: float
) -> None:
    X, batch, group = table
    np.testing.assert_allclose(
        variance_explained(X * scale + offset, batch, given=group),
        variance_explained(X, batch, given=group),
        rtol=1e-6,
    )


def test_labels_may_be_renamed_and_rows_permuted(
    table: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    X, batch, group = table
    order = np.random.default_rng(0).permutation(40)
    renamed = np.unique(batch, return_inverse=True)[1].astype(object)
    np.testing.assert_allclose(
        variance_explained(X[order], renamed[order], given=group[order]),
        variance_explained(X, batch, given=group),
        atol=1e-12,
    )


def test_a_constant_feature_has_no_share() -> None:
    X = np.array([[0.1 + 0.2, 1.0], [0.3, 2.0], [0.3, 4.0]])
    share = variance_explained(X, ["a", "b", "b"])
    assert np.isnan(share[0])
    assert 0 < share[1] < 1


def test_refusals() -> None:
    with pytest.raises(BatchfixError, match="two dimensions"):
        variance_explained([1.0, 2.0], ["a", "b"])
    with pytest.raises(BatchfixError, match="1 NaN or infinite"):
        variance_explained([[1.0], [np.nan]], ["a", "b"])
    with pytest.raises(AlignmentError, match="'factor' must hold one label for each of the 2 rows"):
        variance_explained([[1.0], [2.0]], ["a", "b", "c"])
    with pytest.raises(AlignmentError, match="'given'"):
        variance_explained([[1.0], [2.0]], ["a", "b"], given=["a"])
