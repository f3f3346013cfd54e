"""Neutralization: equal to weighted least squares on dummies and exposures, one row at a time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from batchfix.core.neutralize import neutralize
from batchfix.exceptions import BatchfixError

seeds = st.integers(0, 2**32 - 1)


def cells_with_a_say(x, codes, z, w):
    return ~np.isnan(x) & (codes >= 0) & ~np.isnan(z).any(axis=1) & ~np.isnan(w)


def by_lstsq(x, codes, n_groups, z, w, rcond):
    """One row: residuals, intercepts, least-norm betas; by dummies, and for the betas by centring in long double."""
    residual, intercept = np.full(len(x), np.nan), np.full(n_groups, np.nan)
    seen = cells_with_a_say(x, codes, z, w)
    heavy = np.array([w[seen & (codes == g)].sum() > 0 for g in range(n_groups)])
    seen &= heavy[codes]  # a code below 0 is not seen anyway
    if not seen.any():
        return residual, intercept, np.full(z.shape[1], np.nan)
    groups = np.unique(codes[seen])
    dummies = (codes[seen][:, None] == groups).astype(float)
    root = np.sqrt(w[seen])[:, None]
    centred = np.column_stack([x[seen], z[seen]]).astype(np.longdouble)
    for g in groups:
        of = codes[seen] == g
        centred[of] -= np.average(centred[of], axis=0, weights=w[seen][of].astype(np.longdouble))
    centred = np.float64(centred * root)
    beta = np.linalg.lstsq(centred[:, 1:], centred[:, 0], rcond=rcond)[0]
    left = x[seen] - z[seen] @ beta  # the dummies have their say given the betas
    intercept[groups] = np.linalg.lstsq(dummies * root, left * root[:, 0], rcond=None)[0]
    design = np.column_stack([dummies, z[seen]])
    fit = np.linalg.lstsq(design * root, x[seen] * root[:, 0], rcond=None)[0]
    residual[seen] = x[seen] - design @ fit
    return residual, intercept, beta


def assert_is_lstsq(X, codes, n_groups, Z, W=None, tol=1e-10, rcond=1e-12):
    residuals, intercepts, betas = neutralize(X, codes, n_groups, Z, W)
    shape = X.shape
    codes = np.broadcast_to(codes, shape)
    Z = np.broadcast_to(Z, (*shape, Z.shape[-1]))
    W = np.ones(shape) if W is None else np.broadcast_to(W, shape)
    for i in range(len(X)):
        want = by_lstsq(X[i], codes[i], n_groups, Z[i], W[i], rcond)
        unit = np.nanmax(np.abs(X[i]), initial=1e-300)
        assert_allclose(residuals[i], want[0], rtol=0, atol=tol * unit)
        some = np.abs(want[2]).max(initial=0.0)
        assert_allclose(betas[i], want[2], rtol=0, atol=tol * max(some, unit) * 10)
        assert_allclose(
            intercepts[i], want[1], rtol=0, atol=tol * 10 * (unit + some * np.nanmax(np.abs(Z[i]), initial=0))
        )


@given(
    seed=seeds,
    p=st.integers(1, 40),
    n_groups=st.integers(1, 5),
    k=st.integers(0, 3),
    missing=st.sampled_from([0.0, 0.1, 0.6]),
    changing=st.booleans(),
    unlabelled=st.booleans(),
    weights=st.sampled_from(["none", "columns", "cells"]),
    fixed=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_it_is_least_squares_with_dummies(seed, p, n_groups, k, missing, changing, unlabelled, weights, fixed):
    rng = np.random.default_rng(seed)
    n = 4
    X, Z = rng.normal(size=(n, p)), rng.normal(size=(p, k) if fixed else (n, p, k))
    X[rng.random(X.shape) < missing] = np.nan
    Z[rng.random(Z.shape) < missing / 3] = np.nan
    codes = rng.integers(-1 if unlabelled else 0, n_groups, (n, p) if changing else p)
    W = None if weights == "none" else rng.choice([0.5, 1.0, 3.0], (n, p) if weights == "cells" else p)
    before = X.copy(), Z.copy()
    # normal draws in few cells can be nearly collinear: what is compared is known to about 1e-16 / 1e-6 then
    assert_is_lstsq(X, codes, n_groups, Z, W)
    assert_array_equal(X, before[0])
    assert_array_equal(Z, before[1])


@pytest.mark.parametrize("changing", [False, True])
def test_wide_tables_are_cut_into_pieces(changing):
    rng = np.random.default_rng(0)
    n, p, n_groups = 300, 900, 11
    X, Z = rng.normal(size=(n, p)), rng.normal(size=(n, p, 2))
    X[rng.random(X.shape) < 0.05] = np.nan
    codes = rng.integers(-1, n_groups, (n, p) if changing else p)
    residuals, intercepts, betas = neutralize(X, codes, n_groups, Z)
    some = rng.choice(n, 15, replace=False)
    assert_is_lstsq(X[some], codes[some] if changing else codes, n_groups, Z[some], tol=1e-12)
    part = neutralize(X[some], codes[some] if changing else codes, n_groups, Z[some])
    for whole, alone in zip((residuals, intercepts, betas), part, strict=True):
        # sums run over the same cells in the same order, in one piece or another
        assert_array_equal(whole[some], alone)


def test_groups_that_change_seldom_are_the_same_as_groups_of_cells():
    rng = np.random.default_rng(1)
    X, Z, codes = rng.normal(size=(40, 30)), rng.normal(size=(40, 30, 1)), rng.integers(0, 4, 30)
    cells = np.tile(codes, (40, 1))
    for one, two in zip(neutralize(X, codes, 4, Z), neutralize(X, cells, 4, Z), strict=True):
        assert_array_equal(one, two)
    cells[20, 3] = (cells[20, 3] + 1) % 4
    same = np.arange(40) != 20
    for one, two in zip(neutralize(X, codes, 4, Z), neutralize(X, cells, 4, Z), strict=True):
        assert_allclose(one[same], two[same], rtol=1e-13, atol=1e-13)


def test_residuals_have_nothing_left_of_groups_and_exposures():
    rng = np.random.default_rng(2)
    X, Z, codes = rng.normal(size=(50, 80)), rng.normal(size=(50, 80, 2)), rng.integers(0, 6, 80)
    W = rng.uniform(0.1, 2.0, (50, 80))
    residuals, intercepts, betas = neutralize(X, codes, 6, Z, W)
    dummies = np.eye(6)[codes]
    assert np.abs((W * residuals) @ dummies).max() < 1e-12
    assert np.abs(np.einsum("np,npk->nk", W * residuals, Z)).max() < 1e-12
    assert_allclose(residuals + intercepts[:, codes] + np.einsum("npk,nk->np", Z, betas), X, rtol=1e-12, atol=1e-12)


# ---- exposures that say little


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize(
    "kind", ["constant", "constant in groups", "twins", "twins but for groups", "in other units", "far from 0", "all"]
)
def test_singular_exposures_give_betas_of_least_norm(kind, weights):
    rng = np.random.default_rng(3)
    n, p = 5, 60
    X, codes = rng.normal(size=(n, p)), rng.integers(0, 4, p)
    a, b = rng.normal(size=(2, n, p))
    of_group = rng.normal(size=4)[codes]
    Z = {
        "constant": [np.full((n, p), 0.1), a],
        "constant in groups": [np.tile(of_group, (n, 1)), a],
        "twins": [a, 2 * a, b],
        "twins but for groups": [a, of_group - 3 * a],
        "in other units": [a, 1e6 * a, b],
        "far from 0": [a + 1e6, 5 * a - 1e7, b],
        "all": [np.full((n, p), 0.3), a, b, a + b, np.tile(of_group, (n, 1))],
    }[kind]
    X[0, :7] = np.nan
    W = rng.uniform(0.5, 2.0, p) if weights else None
    # an exposure of 1e6 knows its spread to 1e-10: so little is collinear, and so far are the betas known
    known = {"tol": 1e-9, "rcond": 1e-7} if kind == "far from 0" else {}
    assert_is_lstsq(X, codes, 4, np.stack(Z, axis=2), W, **known)


def test_nearly_collinear_exposures_keep_their_digits():
    """The normal equations would lose all: the correlation is 1 - 1e-12."""
    rng = np.random.default_rng(4)
    n, p = 20, 300
    codes = rng.integers(0, 5, p)
    a = rng.normal(size=(n, p))
    b = a + 1e-6 * rng.normal(size=(n, p))
    X = 2 * a - b + rng.normal(size=5)[codes]
    residuals, _, betas = neutralize(X, codes, 5, [a, b])
    # the data hold the difference of the two to 1e-16 / 1e-6
    assert_allclose(betas, np.tile([2.0, -1.0], (n, 1)), atol=1e-8)
    assert np.abs(residuals).max() < 1e-13


@pytest.mark.parametrize(
    ("x_unit", "z_unit"), [(1e150, 1.0), (1e-150, 1e150), (1.0, 1e-150), (1e-200, 1e-200), (1.0, 1e170)]
)
def test_units_do_not_matter(x_unit, z_unit):
    rng = np.random.default_rng(5)
    X, Z, codes = rng.normal(size=(6, 40)), rng.normal(size=(6, 40, 2)), rng.integers(0, 3, 40)
    plain = neutralize(X, codes, 3, Z)
    scaled = neutralize(X * x_unit, codes, 3, Z * z_unit, weights=np.full(40, 1e-180))
    assert_allclose(scaled[0] / x_unit, plain[0], rtol=1e-11, atol=1e-13)
    assert_allclose(scaled[1] / x_unit, plain[1], rtol=1e-11, atol=1e-13)
    assert_allclose(scaled[2] * (z_unit / x_unit), plain[2], rtol=1e-11, atol=1e-13)


def test_exposures_of_different_units_in_one_row():
    rng = np.random.default_rng(6)
    X, Z, codes = rng.normal(size=(6, 40)), rng.normal(size=(6, 40, 3)), rng.integers(0, 3, 40)
    units = np.array([2.0**530, 2.0**-530, 1.0])  # exactly
    for third in (rng.normal(size=(6, 40)), Z[:, :, 0] + 1e-6 * rng.normal(size=(6, 40))):
        Z[:, :, 2] = third
        plain, scaled = neutralize(X, codes, 3, Z), neutralize(X, codes, 3, Z * units)
        # nearly collinear ones know their betas, of 1e6, to 1e-16 / 1e-6 of them
        assert_allclose(scaled[2] * units, plain[2], rtol=1e-8, atol=1e-13)
        assert_allclose(scaled[0], plain[0], atol=1e-8)


def test_offsets_cost_no_more_digits_than_they_take():
    rng = np.random.default_rng(7)
    X, Z, codes = rng.normal(size=(6, 40)), rng.normal(size=(6, 40, 2)), rng.integers(0, 3, 40)
    plain = neutralize(X, codes, 3, Z)[0]
    # 1e8 + x holds x to 1e-8
    assert_allclose(neutralize(X + 1e8, codes, 3, Z)[0], plain, atol=1e-7)
    assert_allclose(neutralize(X, codes, 3, Z + 1e8)[0], plain, atol=1e-6)
    levels = np.array([1e8, -1e8, 0.0])[codes]
    exact = neutralize((X + levels) - levels, codes, 3, Z)[0]
    assert_allclose(neutralize(X + levels, codes, 3, Z)[0], exact, atol=1e-12)


# ---- defined results


def test_what_is_explained_down_to_rounding_is_exactly_0():
    rng = np.random.default_rng(8)
    Z, codes = rng.normal(size=(6, 40, 1)), rng.integers(0, 3, 40)
    X = 0.1 + 0.3 * Z[:, :, 0] + np.array([8.1, 0.7, -3.3])[codes]
    residuals, _, _ = neutralize(X, codes, 3, Z)
    assert_array_equal(residuals, 0.0)
    single = neutralize(X.astype(np.float32), codes, 3, Z.astype(np.float32))[0]
    assert single.dtype == np.float32
    assert_array_equal(single, 0.0)


def test_a_cell_alone_in_its_group_is_explained():
    X = np.array([[1.1, 2.3, 3.7, 5.2, 0.3]])
    Z = np.array([0.3, 0.9, 0.1, 0.5, 7.7])[:, None]
    residuals, intercepts, betas = neutralize(X, np.array([0, 0, 0, 0, 1]), 2, Z, weights=np.array([1, 1, 1, 1, 0.3]))
    assert residuals[0, 4] == 0.0
    assert_allclose(intercepts[0, 1] + 7.7 * betas[0, 0], 0.3, rtol=1e-12)
    assert_allclose(betas, neutralize(X[:, :4], np.zeros(4, int), 1, Z[:4])[2], rtol=1e-12)


def test_a_cell_without_weight_has_a_residual_but_no_say():
    rng = np.random.default_rng(9)
    X, Z, codes = rng.normal(size=(5, 30)), rng.normal(size=(5, 30, 2)), rng.integers(0, 3, 30)
    W = rng.uniform(0.5, 2.0, (5, 30))
    W[:, :4] = 0.0
    residuals, intercepts, betas = neutralize(X, codes, 3, Z, W)
    left_out = X.copy()
    left_out[:, :4] = np.nan
    want = neutralize(left_out, codes, 3, Z, W)
    assert_allclose(betas, want[2], rtol=1e-12)
    assert_allclose(intercepts, want[1], rtol=1e-12, atol=1e-14)
    predicted = intercepts[:, codes[:4]] + np.einsum("npk,nk->np", Z[:, :4], betas)
    assert_allclose(residuals[:, :4], X[:, :4] - predicted, rtol=1e-12, atol=1e-13)
    # fitted exactly by those with a say, and far off without one
    line = np.arange(4.0)
    off = neutralize(
        np.array([[0.0, 1.0, 2.0, 9.0]]), np.zeros(4, int), 1, line[:, None], np.array([1.0, 1.0, 1.0, 0.0])
    )
    assert_allclose(off[0], [[0.0, 0.0, 0.0, 6.0]], atol=1e-14)


def test_groups_without_weight_and_rows_without_values():
    rng = np.random.default_rng(10)
    X, Z, codes = rng.normal(size=(3, 12)), rng.normal(size=(12, 1)), np.repeat([0, 1, 2], 4)
    W = np.where(codes == 2, 0.0, 1.0)
    with pytest.raises(BatchfixError, match="sum above 0 in every group"):
        neutralize(X, codes, 4, Z, W)
    X[1] = X[:, codes == 2] = np.nan
    residuals, intercepts, betas = neutralize(X, codes, 4, Z, W)
    assert_array_equal(np.isnan(residuals), (codes == 2) | np.isnan(X))
    assert_array_equal(np.isnan(intercepts), [[False, False, True, True], [True] * 4, [False, False, True, True]])
    assert_array_equal(np.isnan(betas)[:, 0], [False, True, False])


def test_without_exposures_it_is_demeaning():
    rng = np.random.default_rng(11)
    X, codes = rng.normal(size=(4, 15)), np.repeat([0, 1, 2], 5)
    residuals, intercepts, betas = neutralize(X, codes, 3, np.empty((15, 0)))
    mean = X.reshape(4, 3, 5).mean(axis=2)
    assert_allclose(intercepts, mean, rtol=1e-14, atol=1e-15)
    assert_allclose(residuals, X - mean[:, codes], rtol=1e-13, atol=1e-15)
    assert betas.shape == (4, 0)


def test_exposures_may_come_one_by_one():
    rng = np.random.default_rng(12)
    X, codes = rng.normal(size=(4, 15)), np.repeat([0, 1, 2], 5)
    a, b = rng.normal(size=(4, 15)), rng.normal(size=15)
    one = neutralize(X, codes, 3, [a, b])
    two = neutralize(np.asfortranarray(X), codes.astype(np.int8), 3, np.stack([a, np.tile(b, (4, 1))], axis=2))
    for x, y in zip(one, two, strict=True):
        assert_array_equal(x, y)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (2, 3)])
def test_nothing_to_fit(shape):
    residuals, intercepts, betas = neutralize(np.ones(shape), np.full(shape[1], -1), 2, np.ones((*shape, 1)))
    assert residuals.shape == shape
    assert np.isnan(residuals).all()
    assert np.isnan(intercepts).all()
    assert np.isnan(betas).all()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"X": np.array([[1.0, np.inf, 2.0]])}, "finite or NaN"),
        ({"X": np.array([[np.inf, -np.inf, 2.0]])}, "finite or NaN"),
        ({"exposures": np.array([[1.0], [-np.inf], [2.0]])}, "finite or NaN"),
        ({"weights": np.array([1.0, -2.0, 1.0])}, r"not negative; got -2\.0"),
        ({"weights": np.array([1.0, np.inf, 1.0])}, "finite and not negative; got inf"),
        ({"codes": np.array([0, 1, 2])}, r"below n_groups = 2; got 2\."),
    ],
)
def test_wrong_input_is_one_sentence(change, sentence):
    given = {
        "X": np.array([[1.0, 4.0, 2.0]]),
        "codes": np.array([0, 0, 1]),
        "n_groups": 2,
        "exposures": np.ones((3, 1)),
    }
    with pytest.raises(BatchfixError, match=sentence):
        neutralize(**(given | change))
