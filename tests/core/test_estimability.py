"""Estimability feature by feature, each on the rows where it is observed; and columns that nearly repeat each other."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchfix.core import blocks
from batchfix.core.design import Column, Factor, Number, encode, kept_of
from batchfix.core.estimability import check_estimable, nearly_redundant
from batchfix.core.groups import Groups, group_moments
from batchfix.core.least_squares import least_squares
from batchfix.core.statistics import BatchStatistics

EPS = float(np.finfo(float).eps)
BATCH = np.repeat(["a", "b"], 40)
GROUP = np.tile(["x", "y"], 40)
OTHER = np.tile(["m", "m", "f", "f"], 20)


def statistics(X: np.ndarray, batch: np.ndarray, **values: np.ndarray) -> BatchStatistics:
    """Reduce rows; text columns are factors, floats numbers, names ending in _ are to go."""
    columns: list[Column] = []
    for name, v in values.items():
        role = "nuisance" if name.endswith("_") else "keep"
        columns.append(Number(name, role) if v.dtype.kind == "f" else Factor(name, np.unique(v), role))
    batches, codes = np.unique(batch, return_inverse=True)
    z = encode(columns, values, len(X))
    return BatchStatistics(batches, tuple(columns), group_moments(X, Groups.of(codes, len(batches)), z), EPS)


def estimable(X: np.ndarray, batch: np.ndarray, **values: np.ndarray) -> list[bool]:
    stats = statistics(X, batch, **values)
    check_estimable(stats)
    return least_squares(stats.moments, kept_of(stats.columns)).estimable.tolist()


def gaps(*where: np.ndarray) -> np.ndarray:
    """One feature whose value is missing there, and a complete one."""
    X = np.random.default_rng(0).normal(size=(80, 2))
    X[np.logical_or.reduce(where), 0] = np.nan
    return X


CONFOUNDED = gaps((BATCH == "a") & (GROUP == "x"), (BATCH == "b") & (GROUP == "y"))


@pytest.mark.parametrize("width", [1, 2])
def test_one_feature_is_judged_as_it_is_among_others(width):
    assert estimable(CONFOUNDED[:, :width], BATCH, group=GROUP) == [False, True][:width]


@pytest.mark.parametrize("width", [1, 2])
def test_the_statistics_of_one_feature_are_those_of_its_observed_rows(width):
    X = gaps(np.arange(80) % 7 == 3)
    z = np.random.default_rng(1).normal(size=80)
    whole = statistics(X[:, :width], BATCH, z=z).moments
    seen = ~np.isnan(X[:, 0])
    want = statistics(X[seen, :width], BATCH[seen], z=z[seen]).moments
    parts = [statistics(X[s, :width], BATCH[s], z=z[s]).moments for s in (slice(None, None, 2), slice(1, None, 2))]
    for moments in (whole, parts[0] + parts[1]):
        assert not moments.complete
        np.testing.assert_allclose(moments.zz[..., 0], want.zz[..., 0])
        np.testing.assert_allclose(moments.z_mean[..., 0], want.z_mean[..., 0])


def test_the_last_column_of_a_matrix_in_columns_keeps_its_own_statistics(monkeypatch):
    monkeypatch.setattr(blocks, "CHUNK_BYTES", 1)  # 17 columns of a Fortran-ordered matrix are then read as 16 and one
    rng = np.random.default_rng(2)
    X = rng.normal(size=(80, 17))
    X[::3, 16] = np.nan
    z = rng.normal(size=80)
    one, other = (statistics(np.array(X, order=order), BATCH, z=z).moments for order in "CF")
    fits = [least_squares(moments) for moments in (one, other)]
    np.testing.assert_allclose(fits[1].coef, fits[0].coef)


@pytest.mark.parametrize(
    "nuisance",
    [np.where(BATCH == "a", 1.0, 2.0), np.char.add(BATCH, "0"), np.random.default_rng(3).normal(size=80)],
    ids=["number of the batch", "factor of the batch", "number within batches"],
)
def test_nuisance_lends_nothing_to_what_is_kept(nuisance):
    assert estimable(CONFOUNDED, BATCH, group=GROUP, nuisance_=nuisance) == [False, True]


def test_what_is_kept_must_be_told_from_nuisance_too():
    X = gaps((GROUP == "x") & (OTHER == "f"), (GROUP == "y") & (OTHER == "m"))
    assert estimable(X, BATCH, group=GROUP, other_=OTHER) == [False, True]
    assert estimable(X, BATCH, group=GROUP) == [True, True]


def test_nuisance_alone_may_be_confounded_with_batch_in_any_feature():
    assert estimable(CONFOUNDED, BATCH, group_=GROUP) == [True, True]


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=150, deadline=None)
def test_a_feature_is_estimable_if_what_is_kept_adds_its_rank(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(12, 30))
    batch = np.array(list("abc"))[rng.integers(0, 3, n)]
    kept = {"g": np.array(list("xyz"))[rng.integers(0, 3, n)], "age": rng.normal(size=n)}
    gone = {"n_": rng.normal(size=n), "f_": np.array(list("mf"))[rng.integers(0, 2, n)]}
    if rng.integers(2):
        gone["n_"] = (batch == "a") * 1.0
    X = rng.normal(size=(n, 6))
    X[rng.random(X.shape) < rng.choice([0.2, 0.5, 0.7])] = np.nan
    X[(batch == "a") & (kept["g"] == "x"), 0] = np.nan
    stats = statistics(X, batch, **kept, **gone)
    got = least_squares(stats.moments, kept_of(stats.columns)).estimable

    def columns(values):
        parts = [v[:, None] if v.dtype.kind == "f" else (v[:, None] == np.unique(v)) for v in values]
        return np.hstack(parts).astype(float)

    def rank(*parts):
        return np.linalg.matrix_rank(np.hstack(parts), tol=1e-7) if len(parts[0]) else 0

    for j in range(6):
        seen = ~np.isnan(X[:, j])
        remove, keep = columns([batch, *gone.values()])[seen], columns(kept.values())[seen]
        one = np.ones((seen.sum(), 1))
        assert got[j] == (rank(remove, keep) == rank(remove) + rank(one, keep) - rank(one))


# ---- columns that nearly repeat each other


def test_powers_of_a_year_are_named():
    rng = np.random.default_rng(4)
    year, age = rng.integers(2015, 2024, 80).astype(float), rng.normal(50, 9, 80)
    X = rng.normal(size=(80, 2))
    powers = {"year": year, "square": year**2, "cube": year**3}
    assert nearly_redundant(statistics(X, BATCH, age=age, **powers)) == ["'year'", "'square'", "'cube'"]
    near = {f"near{k}": (year - 2019) ** k for k in (1, 2, 3)}
    assert nearly_redundant(statistics(X, BATCH, age=age, **near)) == []
    assert nearly_redundant(statistics(X, BATCH)) == []


@given(seed=st.integers(0, 2**32 - 1), offset=st.sampled_from([0.0, 50.0, 1e5, 1e8]))
@settings(max_examples=50, deadline=None)
def test_what_follows_exactly_from_others_is_no_matter(seed, offset):
    rng = np.random.default_rng(seed)
    level = np.array(list("uvwxyz"))[rng.integers(0, 6, 80)]
    degrees = rng.normal(offset, 9.0, 80)
    onehot = {f"is {v}": (level == v) * 1.0 for v in "uvw"}
    stats = statistics(
        rng.normal(size=(80, 2)), BATCH, level=level, celsius=degrees, fahrenheit=degrees * 9 / 5 + 32, **onehot
    )
    assert nearly_redundant(stats) == []
