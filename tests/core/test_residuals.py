"""Residuals where what is kept explains nearly everything, against least squares on the residuals themselves."""

from functools import reduce
from operator import add

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from batchfix.core.comoments import CoMoments
from batchfix.core.groups import Groups, group_moments
from batchfix.core.least_squares import least_squares
from batchfix.core.semidefinite import Roots

EPS = float(np.finfo(float).eps)
RNG = np.random.default_rng(0)
N, P = 60, 5
CODES = np.repeat([0, 1, 2], 20)
GROUPS = Groups.of(CODES, 3)
AGE = RNG.normal(size=(N, 1))
SEX = np.eye(2)[RNG.integers(0, 2, N)]
LEFT = RNG.normal(size=(N, P)) * [1.0, 1.0, 2.0, 3.0, 3.0] + CODES[:, None]
GAPS = np.where(RNG.random((N, P)) < 0.1, np.nan, LEFT)


def in_parts(X: np.ndarray, z: np.ndarray, order: np.ndarray, cuts: list[int]) -> CoMoments:
    """Moments of blocks of some rows, added up."""
    parts = [group_moments(X[rows], Groups.of(CODES[rows], 3), z[rows]) for rows in np.split(order, cuts) if len(rows)]
    return reduce(add, parts)


def both(left: np.ndarray, slope: float, z: np.ndarray = AGE, order: np.ndarray | None = None, cuts: list[int] = ()):
    """Fits to a table with the effect, in one piece or in parts, and without it."""
    X = left + slope * z.sum(axis=1, keepdims=True)
    moments = group_moments(X, GROUPS, z) if order is None else in_parts(X, z, order, cuts)
    return X, least_squares(moments), least_squares(group_moments(left, GROUPS, z))


def check(got, want, slope: float, about: float, times: float = 4.0) -> None:
    rounding = 16 * EPS * abs(slope) + 1e-9
    assert_allclose(got.rss, want.rss, rtol=rounding * times)
    assert_allclose(got.location - about, want.location, atol=rounding)


@pytest.mark.parametrize("left", [LEFT, GAPS], ids=["complete", "gaps"])
@pytest.mark.parametrize("slope", [1.0, 1e3, 1e5, 1e7, -1e9])
def test_an_effect_of_any_size_leaves_the_same_residuals(left, slope):
    _, got, want = both(left, slope)
    check(got, want, slope, slope * got.pivot.sum())
    assert_allclose(got.coef - slope, want.coef, atol=16 * EPS * abs(slope) + 1e-9)


@given(
    order=st.permutations(range(N)),
    cuts=st.lists(st.integers(1, N - 1), max_size=20).map(sorted),
    slope=st.sampled_from([1.0, 1e3, 1e5, 1e7]),
    gaps=st.booleans(),
    factor=st.booleans(),
)
def test_parts_in_any_order_leave_the_residuals_of_the_whole(order, cuts, slope, gaps, factor):
    z = np.column_stack([AGE, SEX * [1.0, 0.5]]) if factor else AGE
    _, got, want = both(GAPS if gaps else LEFT, slope, z, np.array(order), cuts)
    check(got, want, slope, slope * got.pivot.sum(), times=64.0)  # small parts, with coefficients of few digits


def test_parts_sorted_by_what_explains_leave_the_residuals_of_the_whole():
    """In a block z does not vary, so that only the steps between blocks show what it explains."""
    order = np.argsort(SEX[:, 0], kind="stable")
    _, got, want = both(LEFT, 1e7, SEX * [1.0, -1.0], order, list(range(5, N, 5)))
    check(got, want, 1e7, 1e7 * (got.pivot * [1, 1]).sum())


def test_rows_one_by_one_leave_the_residuals_of_the_whole():
    _, got, want = both(LEFT, 1e7, AGE, np.arange(N), list(range(1, N)))
    check(got, want, 1e7, 1e7 * got.pivot.sum())


def test_rest_is_what_each_batch_by_itself_leaves():
    X = LEFT + 1e6 * AGE
    moments = in_parts(X, AGE, RNG.permutation(N), [7, 20, 41])
    for k in range(3):
        rows = np.flatnonzero(k == CODES)
        design = np.column_stack([np.ones(len(rows)), AGE[rows]])
        left = LEFT[rows] - design @ np.linalg.lstsq(design, LEFT[rows], rcond=None)[0]
        assert_allclose(moments.rest[k], (left**2).sum(axis=0), rtol=1e-8)


@pytest.mark.parametrize("unit", [1e-140, 1.0, 1e140])
@pytest.mark.parametrize("cuts", [[], [13, 31], list(range(3, N, 3))], ids=["whole", "parts", "small parts"])
def test_a_feature_explained_wholly_has_no_residuals(unit, cuts):
    z = np.column_stack([AGE, SEX])
    effects = z @ np.random.default_rng(5).normal(size=(3, 40))
    X = np.column_stack([LEFT, 3 * AGE + 7 * CODES[:, None], AGE, effects]) * unit
    fit = least_squares(in_parts(X, z, np.random.default_rng(6).permutation(N), cuts))
    assert (fit.rss[:, P:] == 0).all()
    assert (fit.rss[:, :P] > 0).all()


def test_other_rows_leave_what_they_leave_without_the_effect():
    X, fit, plain = both(LEFT, 1e7)
    new, age = RNG.normal(size=(15, P)) + 4, RNG.normal(size=(15, 1))
    new[3, 2] = np.nan
    one = Groups.of(np.zeros(15, dtype=int), 1)
    tables = new + 1e7 * age, new
    got, want = (
        model.residuals(group_moments(table, one, age)) for model, table in zip((fit, plain), tables, strict=True)
    )
    assert_allclose(got[0] - 1e7 * fit.pivot.sum(), want[0], atol=1e-6)
    assert_allclose(got[1], want[1], rtol=1e-6)
    assert X.shape == (N, P)


def test_a_spread_of_rounding_units_of_float32_is_none():
    X = (LEFT * 1e-3 + 1e7 * AGE).astype(np.float32)
    fit = least_squares(group_moments(X, GROUPS, AGE), eps=float(np.finfo(np.float32).eps))
    assert (fit.rss == 0).all()


def residual_squares(X: np.ndarray, z: np.ndarray) -> np.ndarray:
    """(B, p), of each batch by itself, by orthogonal decomposition of rows; NaN is missing."""
    out = np.zeros((3, X.shape[1]))
    for k in range(3):
        for j in range(X.shape[1]):
            rows = np.isin(CODES, k) & ~np.isnan(X[:, j])
            design = z[rows] - z[rows].mean(axis=0) if rows.any() else z[rows]
            left = X[rows, j] - X[rows, j].mean() if rows.any() else X[rows, j]
            u, s, _ = np.linalg.svd(design, full_matrices=False)
            u = u[:, s > 1e-9 * max(s.max(initial=0.0), 1e-300)]
            for _ in range(2):
                left = left - u @ (u.T @ left)
            out[k, j] = left @ left
    return out


DESIGNS = {
    "x, nearly x, and their difference": lambda e: np.column_stack([AGE, AGE + e * SEX[:, :1], SEX[:, 0]]),
    "powers far from their centre": lambda e: np.column_stack([AGE + 10, (AGE + 10) ** 2]) * (1 + e),
    "a number far from 0": lambda e: AGE + 1e7,
    "a number that hardly varies in a batch": lambda e: np.where(CODES[:, None] == 1, 3.0, AGE),
    "a factor and a number": lambda e: np.column_stack([SEX, AGE]),
}


@given(
    name=st.sampled_from(sorted(DESIGNS)),
    e=st.sampled_from([1e-1, 1e-2, 1e-3]),
    cuts=st.lists(st.integers(1, N - 1), max_size=12).map(sorted),
    order=st.permutations(range(N)),
    gaps=st.booleans(),
    close=st.booleans(),
)
def test_rest_of_parts_is_what_rows_leave_in_designs_that_are_nearly_singular(name, e, cuts, order, gaps, close):
    z = DESIGNS[name](e)
    X = (GAPS if gaps else LEFT) + (1e3 * AGE if close else 0.0)
    want = residual_squares(X, z)
    for moments in (group_moments(X, GROUPS, z), in_parts(X, z, np.array(order), cuts)):
        assert_allclose(moments.rest, want, rtol=1e-5, atol=1e-9)


def test_one_column_of_two_that_are_alike_is_taken():
    zz = np.array([[2.0, 2.0, 0.0], [2.0, 2.0, 0.0], [0.0, 0.0, 5e-20]]).reshape(1, 3, 3, 1)
    roots = Roots.of(zz, np.array([[2.0, 2.0, 1.0]]))  # the last is rounding of what varied by 1
    assert roots.rank.tolist() == [[1.0]]
    assert_allclose(roots.coefficients(np.array([4.0, 4.0, 1e-20]).reshape(1, 3, 1))[0, :, 0], [2.0, 0.0, 0.0])
