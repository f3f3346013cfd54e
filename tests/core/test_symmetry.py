"""A look at the scale: what is on a symmetric one passes, what is not is named."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchfix.core.symmetry import asymmetric_scale

seeds = st.integers(0, 2**32 - 1)


def clr(parts: np.ndarray) -> np.ndarray:
    logs = np.log(parts)
    return logs - logs.mean(axis=1, keepdims=True)


SYMMETRIC = {
    "normal": lambda r: r.normal(size=(60, 40)),
    "log intensities": lambda r: r.normal(8.0, 2.0, (60, 40)).clip(0.1),
    "log2 of counts": lambda r: np.log2(1 + r.poisson(r.gamma(2.0, 50.0, 40), (60, 40))),
    "log-ratios": lambda r: clr(r.dirichlet(np.full(40, 5.0), 60)),
    "an embedding": lambda r: r.normal(size=(60, 40)) * 100,
    "two groups": lambda r: r.normal(8.0, 1.0, (60, 40)) + 4 * (np.arange(60) % 2)[:, None],
    "presence": lambda r: r.integers(0, 2, (60, 40)).astype(float),
    "ages": lambda r: r.uniform(20.0, 80.0, (60, 40)),
    "offset": lambda r: r.normal(1e8, 1.0, (60, 40)),
    "two parts": lambda r: np.column_stack([(a := r.uniform(0.2, 0.8, 60)), 1 - a]),
    "all zero": lambda r: np.zeros((60, 40)),
    "constant": lambda r: np.full((60, 40), 3.5),
    "answers from 1 to 5": lambda r: r.integers(1, 6, (60, 33)).astype(float),
    "answers from 1 to 3, of a mean total of 100": lambda r: r.integers(1, 4, (60, 50)).astype(float),
    "a mean total of 100": lambda r: r.normal(2.0, 0.3, (60, 50)).round(1),
    "log intensities of one total": lambda r: (x := r.normal(8.0, 1.0, (60, 13))) - x.mean(axis=1, keepdims=True) + 8,
    "log intensities of one distribution": lambda r: np.sort(r.normal(9.0, 2.0, 40).clip(0.1))[
        np.argsort(r.normal(size=(60, 40)), axis=1)
    ],
    "log2 of low counts": lambda r: np.log2(1 + r.poisson(r.gamma(1.0, 3.0, 400), (60, 400))),
    "logs of sparse counts": lambda r: np.log1p(r.poisson(r.gamma(0.3, 3.0, 400), (60, 400))),
    "mostly positive": lambda r: r.normal(1.0, 1.0, (60, 40)),
    "skewed log-ratios": lambda r: r.gumbel(0.5, 1.0, (60, 40)),
    "few cells": lambda r: r.poisson(50, (3, 4)).astype(float),
}
ASYMMETRIC = {
    "counts": (lambda r: r.poisson(r.gamma(1.0, 60.0, 40), (60, 40)).astype(float), "raw counts"),
    "counts in float32": (lambda r: r.poisson(60.0, (60, 40)).astype(np.float32), "raw counts"),
    "intensities": (lambda r: np.exp(r.normal(6.0, 1.5, (60, 40))), "unlogged"),
    "shares": (lambda r: r.dirichlet(np.full(40, 0.7), 60), "parts of a whole"),
    "percent": (lambda r: 100 * r.dirichlet(np.full(40, 0.7), 60), "parts of a whole"),
    "rounded percent": (lambda r: np.round(100 * r.dirichlet(np.full(40, 0.7), 60), 3), "parts of a whole"),
    "percent to one digit": (lambda r: np.round(100 * r.dirichlet(np.full(50, 8.0), 60), 1), "parts of a whole"),
    "whole percent": (lambda r: np.round(100 * r.dirichlet(np.full(50, 8.0), 60)), "parts of a whole"),
    "whole percent of few samples": (lambda r: np.round(100 * r.dirichlet(np.full(10, 5.0), 16)), "parts of a whole"),
    "many small percent": (lambda r: np.round(100 * r.dirichlet(np.full(50, 0.5), 60), 1), "parts of a whole"),
    "intensities without background": (lambda r: np.exp(r.normal(6.0, 1.5, (60, 40))) - 40.0, "unlogged"),
    "six analytes": (lambda r: 2 ** r.normal(8.0, 1.2, (100, 6)), "unlogged"),
    "sparse concentrations": (lambda r: np.exp(r.normal(3.0, 1.5, (60, 40))) * r.integers(0, 2, (60, 40)), "unlogged"),
    "counts per million": (lambda r: 1e6 * r.dirichlet(np.full(40, 0.7), 60), "parts of a whole"),
}


@pytest.mark.parametrize("name", SYMMETRIC)
@given(seed=seeds)
@settings(max_examples=10, deadline=None)
def test_what_is_symmetric_passes(name, seed):
    assert asymmetric_scale(SYMMETRIC[name](np.random.default_rng(seed))) is None


@pytest.mark.parametrize("name", ASYMMETRIC)
@pytest.mark.parametrize("missing", [0.0, 0.05])
@given(seed=seeds)
@settings(max_examples=10, deadline=None)
def test_what_is_not_is_named(name, missing, seed):
    rng = np.random.default_rng(seed)
    make, says = ASYMMETRIC[name]
    X = make(rng)
    if missing and name in ("counts per million", "whole percent of few samples"):
        return  # without some of its parts a row adds up to less, and too few rows are left that add up
    X[rng.random(X.shape) < missing] = np.nan
    found = str(asymmetric_scale(X))
    # a row of few large parts that lacks one of them adds up to much less
    assert says in found or (missing and says == "parts of a whole" and "unlogged" in found)


@pytest.mark.parametrize("name", ASYMMETRIC)
def test_large_negative_values_are_proof_enough(name):
    X = ASYMMETRIC[name][0](np.random.default_rng(0))
    assert asymmetric_scale(X) is not None
    X[:, 0] -= X[:, 0].max() + 1.0
    assert asymmetric_scale(X) is None


@pytest.mark.parametrize("name", ["counts", "intensities", "shares"])
def test_a_large_table_is_read_in_part(name):
    rng = np.random.default_rng(1)
    small = ASYMMETRIC[name][0](rng)
    # features far apart, so that the grid meets them all; a whole row must still add up
    X = np.tile(small, (30, 10)) / (10 if name == "shares" else 1)
    assert ASYMMETRIC[name][1] in str(asymmetric_scale(X))
    assert ASYMMETRIC[name][1] in str(asymmetric_scale(np.asfortranarray(X)))


@pytest.mark.parametrize("rows", [[0], [0, 1, 2], range(60)])
def test_missing_rows_are_no_trouble(rows):
    X = np.random.default_rng(2).normal(8.0, 1.0, (60, 40))
    X[list(rows)] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert asymmetric_scale(X) is None


@pytest.mark.parametrize("unit", [1e-150, 1e-30, 1e20, 1e150])
def test_units_do_not_make_counts(unit):
    # above 2^53 every number is whole
    with np.errstate(all="raise", under="ignore"):
        assert asymmetric_scale(unit * np.random.default_rng(3).normal(8.0, 1.0, (60, 40))) is None


def test_the_table_is_only_read():
    X = np.random.default_rng(4).poisson(50, (30, 20)).astype(float)
    X.flags.writeable = False
    assert asymmetric_scale(X) is not None
