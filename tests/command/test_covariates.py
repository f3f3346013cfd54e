"""Labels among measurements are named, and what only looks whole by its nature is not."""

import numpy as np
import pytest

from batchfix.command.covariates import covariate_like

RNG = np.random.default_rng(0)
LOGS = RNG.normal(8.0, 1.0, (48, 12))
NAMES = [f"g{i}" for i in range(12)]


def among(values, *columns, names=NAMES):
    return covariate_like([*names, *(f"c{i}" for i in range(len(columns)))], np.column_stack([values, *columns]))


def test_codes_among_fractions_are_named():
    missing = np.where(np.arange(48) % 7 == 0, np.nan, np.tile([1.0, 2.0, 3.0], 16))
    assert among(LOGS, np.tile([1.0, 2.0], 24), np.tile([0.0, 1.0], 24), missing) == ["c0", "c1", "c2"]


def test_usual_names_are_named_whatever_they_hold():
    assert among(LOGS, names=["Age", *NAMES[1:]]) == ["Age"]


@pytest.mark.parametrize(
    "column",
    [
        np.ones(48),
        np.zeros(48),
        np.full(48, np.nan),
        np.arange(130.0, 178.0),
        np.where(np.arange(48) == 40, 1.5, np.tile([1.0, 2.0], 24)),
    ],
    ids=["ones", "zeros", "missing", "many values", "a fraction"],
)
def test_other_columns_are_not(column):
    assert among(LOGS, column) == []


def test_a_code_that_breaks_off_late_is_not():
    late = np.tile([1.0, 2.0], 1000)
    late[1001] = 1.5  # not among the rows that are looked at first
    assert among(RNG.normal(8.0, 1.0, (2000, 12)), late) == []


@pytest.mark.parametrize(
    "values",
    [
        RNG.poisson(3.0, (48, 12)).astype(float),
        RNG.integers(1, 6, (48, 12)).astype(float),
        np.log2(1 + RNG.poisson(RNG.gamma(0.3, 20.0, 12), (48, 12))),
        np.round(RNG.normal(5.0, 1.0, (48, 12)) * 2) / 2,
    ],
    ids=["counts", "answers", "logs of counts", "halves"],
)
def test_tables_that_are_whole_by_nature_are_not(values):
    assert among(values, np.tile([0.0, 1.0], 24)) == []
