"""The simplex as a vector space: scikit-bio's numbers, the axioms, and what a batch effect does to distances."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from batchfix.core.aitchison import distance, distance_matrix, inner, norm, perturb, perturb_inv, power
from batchfix.core.log_ratios import clr
from batchfix.core.simplex import closure
from batchfix.exceptions import BatchfixError

ORACLE = np.load(Path(__file__).parent.parent / "oracles" / "composition.npz")
P = ORACLE["pc05"]
EXACT = {"rtol": 1e-12, "atol": 1e-13}


@st.composite
def pairs(draw):
    """Two positive tables of one shape, logarithms up to 20 in size."""
    shape = draw(st.integers(1, 4)), draw(st.integers(2, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return np.exp(rng.uniform(-20, 20, shape)), np.exp(rng.uniform(-20, 20, shape))


def test_oracle():
    assert_allclose(perturb(P[0], P[1]), ORACLE["perturb_0_1"], **EXACT)
    assert_allclose(perturb_inv(P[0], P[1]), ORACLE["perturb_inv_0_1"], **EXACT)
    assert_allclose(power(P[0], 2.5), ORACLE["power_0_2.5"], **EXACT)
    assert_allclose(inner(P[0], P[1]), ORACLE["inner_0_1"], **EXACT)
    assert_allclose(distance_matrix(P), ORACLE["aitchison_dist_pc05"], **EXACT)
    assert_allclose(distance(P, P[3]), ORACLE["aitchison_dist_pc05"][:, 3], **EXACT)


def test_oracle_centred_table():
    """Perturbing by the inverse of the geometric means centres a table."""
    centre = closure(np.exp(np.log(P).mean(axis=0)))
    assert_allclose(perturb_inv(P, centre), ORACLE["pc05_centralize"], rtol=1e-12)


@given(pairs(), st.floats(-3, 3))
def test_a_vector_space(tables, a):
    X, Y = tables
    assert_allclose(perturb(X, Y), perturb(Y, X), rtol=1e-14)
    assert_allclose(perturb_inv(perturb(X, Y), Y), closure(X), rtol=1e-13)
    assert_allclose(perturb(X, np.ones(X.shape[1])), closure(X), rtol=1e-13)
    assert_allclose(clr(power(X, a)), a * clr(X), rtol=1e-11, atol=1e-11)
    assert_allclose(clr(perturb(X, Y)), clr(X) + clr(Y), rtol=1e-11, atol=1e-11)
    assert_allclose(power(X, 0), 1 / X.shape[1], rtol=1e-14)
    assert_allclose(power(power(X, -1), -1), closure(X), rtol=1e-12)


@given(pairs(), st.floats(-3, 3))
def test_an_inner_product(tables, a):
    X, Y = tables
    size = norm(X) * norm(Y) + 1
    assert (np.abs(inner(X, Y) - inner(Y, X)) <= 1e-13 * size).all()
    assert (np.abs(inner(power(X, a), Y) - a * inner(X, Y)) <= 1e-12 * size).all()
    assert (np.abs(inner(X, Y)) <= (1 + 1e-12) * norm(X) * norm(Y)).all()
    assert_allclose(norm(X) ** 2, inner(X, X), rtol=1e-12)


@given(pairs())
def test_a_distance_that_neither_scale_nor_perturbation_moves(tables):
    X, Y = tables
    other = X[:1]
    assert_allclose(distance(X, Y), norm(perturb_inv(X, Y)), rtol=1e-11)
    assert_allclose(distance(3 * X, Y / 7), distance(X, Y), rtol=1e-12)
    assert_allclose(distance(perturb(X, other[0]), perturb(Y, other[0])), distance(X, Y), rtol=1e-11)
    assert_array_equal(distance(X, X), 0)
    assert_allclose(distance_matrix(X, Y).diagonal(), distance(X, Y), rtol=1e-12)


def test_subcompositions_are_never_further_apart():
    whole = distance_matrix(P)
    assert (distance_matrix(closure(P[:, 2:9])) <= whole + 1e-12).all()


def test_zeros_stay_zeros_under_perturbation():
    got = perturb(np.array([[0.0, 1.0, 3.0]]), np.array([5.0, 3.0, 1.0]))
    assert got[0, 0] == 0
    assert_allclose(got, [[0, 0.5, 0.5]], rtol=1e-15)
    with pytest.raises(BatchfixError, match="part above 0 in both"):
        perturb(np.array([[1.0, 0.0]]), np.array([0.0, 1.0]))
    with pytest.raises(BatchfixError, match=r"got 1 zero"):
        perturb_inv(np.ones((2, 2)), np.array([0.0, 1.0]))


def test_amounts_of_any_size_are_perturbed():
    big, small = np.array([1e308, 2e307]), np.array([5e-324, 1e-323])
    assert_allclose(perturb(big, big), closure(np.array([25.0, 1.0])), rtol=1e-14)
    assert_allclose(perturb(small, small), [0.2, 0.8], rtol=1e-14)
    assert_allclose(perturb_inv(big, small), closure(np.array([10.0, 1.0])), rtol=1e-14)
    assert_allclose(power(big, 3.0), closure(np.array([125.0, 1.0])), rtol=1e-11)


def test_nan_in_either_makes_the_number_nan():
    X = np.array([[1.0, 2.0, np.nan], [1.0, 2.0, 3.0]])
    for value in (inner(X, np.ones(3)), norm(X), distance(X, np.array([1.0, 2.0, 1.0]))):
        assert_array_equal(np.isnan(value), [True, False])
    assert_array_equal(np.isnan(perturb(np.ones((2, 3)), X)), np.isnan(X))


def test_one_power_a_row():
    assert_allclose(power(P, np.arange(40.0))[7], power(P[7], 7.0), rtol=1e-14)
    for wrong in (np.nan, np.inf, [1.0, 2.0]):
        with pytest.raises(BatchfixError, match="Powers must be finite"):
            power(P, wrong)


@pytest.mark.parametrize("function", [perturb, perturb_inv, inner, distance, distance_matrix])
def test_other_parts_are_refused(function):
    with pytest.raises(BatchfixError, match=r"one composition|same parts"):
        function(np.ones((2, 3)), np.ones((2, 4)))
