"""Labels among measurements are named, and what only looks whole by its nature is not."""

import numpy as np
import pytest

from batchfix.command.covariates import CovariateSearch, covariate_like

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


@pytest.mark.parametrize("rows", [1, 7, 100, 1000])
def test_blocks_are_searched_as_the_whole_table_is(rows):
    n = 600  # more than the rows that are looked at first
    fractions = RNG.normal(8.0, 1.0, (n, 12))
    columns = {
        "early": np.where(np.arange(n) < 300, 1.0, 2.0),
        "ten": np.resize(np.arange(1.0, 11.0), n),
        "eleven": np.resize(np.arange(1.0, 12.0), n),
        "zeros": np.resize([0.0, 1.0], n),
        "one": np.ones(n),
        "none": np.full(n, np.nan),
        "gaps": np.where(np.arange(n) % 7 == 0, np.nan, np.resize([1.0, 2.0, 3.0], n)),
        "broken": np.where(np.arange(n) == 599, 2.5, np.resize([1.0, 2.0], n)),
        "Sex": fractions[:, 0],
    }
    names, values = [*NAMES, *columns], np.column_stack([fractions, *columns.values()])
    for held, want in ((values, ["early", "ten", "zeros", "gaps", "Sex"]), (np.rint(values), ["Sex"])):
        search = CovariateSearch(names, n)
        for start in range(0, n, rows):
            search.add(held[start : start + rows])
        assert search.found() == covariate_like(names, held) == want
