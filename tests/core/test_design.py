"""Design: columns, least squares against numpy's lstsq on the rows, and what can be told apart."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from batchfix.core.design import Column, Factor, Number, codes_of, encode, repr_labels, slices, union_of
from batchfix.core.estimability import blocks_of, check_estimable
from batchfix.core.groups import Groups, group_moments
from batchfix.core.least_squares import explained_by_batch, least_squares
from batchfix.core.statistics import BatchStatistics
from batchfix.exceptions import (
    AmbiguousKeepError,
    ConfoundedDesignError,
    MergeError,
    TooFewSamplesError,
    UnknownLevelError,
)

seeds = st.integers(0, 2**32 - 1)
EPS = float(np.finfo(float).eps)


def statistics(X: np.ndarray, batch: np.ndarray, **values: np.ndarray) -> BatchStatistics:
    """Reduce rows; text columns are factors, floats numbers, names ending in _ are nuisance."""
    columns: list[Column] = []
    for name, v in values.items():
        role = "nuisance" if name.endswith("_") else "keep"
        columns.append(Number(name, role) if v.dtype.kind == "f" else Factor(name, np.unique(v), role))
    batches, codes = np.unique(batch, return_inverse=True)
    z = encode(columns, values, len(X))
    return BatchStatistics(batches, tuple(columns), group_moments(X, Groups.of(codes, len(batches)), z), EPS)


def rows(seed: int, n: int = 40, p: int = 4, missing: float = 0.0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    batch = np.array(["a", "b", "c"])[np.r_[0, 1, 2, rng.integers(0, 3, n - 3)]]
    group = np.array(["u", "v", "w"])[rng.integers(0, 3, n)]
    age = rng.normal(50.0, 10.0, n)
    X = rng.normal(size=(n, p)) + (batch == "b")[:, None] + 0.1 * age[:, None] + (group == "v")[:, None]
    X[rng.random((n, p)) < missing] = np.nan
    return {"X": X, "batch": batch, "group": group, "age": age}


def slow_fit(X: np.ndarray, batch: np.ndarray, z: np.ndarray, pivot: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Locations at the pivot and residual squares, feature by feature on the rows."""
    onehot = (batch[:, None] == np.unique(batch)).astype(float)
    location, rss = np.full((onehot.shape[1], X.shape[1]), np.nan), np.zeros((onehot.shape[1], X.shape[1]))
    for j in range(X.shape[1]):
        seen = ~np.isnan(X[:, j])
        design = np.hstack([onehot, z - pivot])[seen]
        coef = np.linalg.lstsq(design, X[seen, j], rcond=None)[0]
        # one value within the batch at the pivot: the batch's mean, less what z says of its rows
        slope = coef[onehot.shape[1] :]
        residual = X[seen, j] - design @ coef
        for b in range(onehot.shape[1]):
            here = onehot[seen, b] == 1
            if here.any():
                location[b, j] = np.mean((X[seen, j] - (z[seen] - pivot) @ slope)[here])
                rss[b, j] = (residual[here] ** 2).sum()
    return location, rss


@given(
    seed=seeds,
    missing=st.sampled_from([0.0, 0.15]),
    kept=st.sampled_from([(), ("group",), ("age",), ("group", "age")]),
)
@settings(max_examples=40, deadline=None)
def test_least_squares_is_that_of_the_rows(seed, missing, kept):
    data = rows(seed, missing=missing)
    stats = statistics(data["X"], data["batch"], **{k: data[k] for k in kept})
    fit = least_squares(stats.moments)
    z = encode(stats.columns, data, len(data["X"]))
    assert_allclose(fit.pivot, z.mean(axis=0))
    location, rss = slow_fit(data["X"], data["batch"], z, fit.pivot)
    assert_allclose(fit.rss, rss, rtol=1e-8, atol=1e-9)
    assert_array_equal(np.isnan(fit.location), np.isnan(location))
    assert fit.estimable.all()
    # which level is left out changes the coefficients, not the differences between batches
    assert_allclose(fit.location - fit.location[0], location - location[0], rtol=1e-8, atol=1e-8)
    assert_allclose(fit.location, location, rtol=1e-8, atol=1e-8)
    assert fit.rank == np.linalg.matrix_rank(z - z.mean(axis=0)) if len(kept) else fit.rank == 0


@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_units_and_origin_of_a_number_do_not_matter(missing):
    data = rows(1, missing=missing)
    plain = least_squares(statistics(data["X"], data["batch"], age=data["age"]).moments)
    for shift, unit in [(0.0, 1e-6), (1e6, 1.0), (-7.0, -1e6)]:
        moved = least_squares(statistics(data["X"], data["batch"], age=shift + unit * data["age"]).moments)
        assert_allclose(moved.location, plain.location, rtol=1e-8)
        assert_allclose(moved.rss, plain.rss, rtol=1e-8)
        assert_allclose(moved.coef * unit, plain.coef, rtol=1e-7)


@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_a_column_given_twice_counts_once(missing):
    data = rows(2, missing=missing)
    once = statistics(data["X"], data["batch"], age=data["age"], group=data["group"])
    twice = statistics(data["X"], data["batch"], age=data["age"], group=data["group"], more=3 - 2 * data["age"])
    a, b = least_squares(once.moments), least_squares(twice.moments)
    assert a.rank == b.rank == 3
    assert_allclose(a.location, b.location, rtol=1e-9)
    assert_allclose(a.rss, b.rss, rtol=1e-9)
    check_estimable(twice)


def test_residuals_of_other_rows_are_measured_under_the_model():
    data, new = rows(3), rows(4, n=15, missing=0.2)
    stats = statistics(data["X"], data["batch"], age=data["age"])
    fit = least_squares(stats.moments)
    one = Groups.of(np.zeros(15, dtype=int), 1)
    moments = group_moments(new["X"], one, new["age"][:, None])
    location, rss = fit.residuals(moments)
    adjusted = new["X"] - (new["age"][:, None] - fit.pivot) @ fit.coef
    assert_allclose(location[0], np.nanmean(adjusted, axis=0))
    assert_allclose(rss[0], np.nansum((adjusted - np.nanmean(adjusted, axis=0)) ** 2, axis=0), rtol=1e-10)
    at_pivot = group_moments(new["X"], one, np.tile(fit.pivot, (15, 1)))
    unknown, rest = fit.residuals(at_pivot)
    assert_allclose(unknown[0], np.nanmean(new["X"], axis=0))
    assert_allclose(rest[0], np.nansum((new["X"] - unknown) ** 2, axis=0))


@given(seed=seeds)
@settings(max_examples=60, deadline=None)
def test_a_level_that_a_feature_never_shows_is_as_if_it_were_not(seed):
    data = rows(seed)
    data["X"][data["group"] == "w", 1] = np.nan
    fit = least_squares(statistics(data["X"], data["batch"], group=data["group"]).moments)
    seen = {k: v[data["group"] != "w"] for k, v in data.items()}
    want = least_squares(statistics(seen["X"], seen["batch"], group=seen["group"]).moments)
    assert fit.estimable.all()
    here = np.isin(np.unique(data["batch"]), np.unique(seen["batch"]))
    assert_allclose(fit.rss[here, 1], want.rss[:, 1], rtol=1e-9, atol=1e-10)
    assert np.abs(fit.coef[:, 1]).max() < 1e3


@given(seed=seeds, value=st.floats(-1e6, 1e6), missing=st.sampled_from([0.0, 0.2]))
@settings(max_examples=60, deadline=None)
def test_a_number_that_never_changes_explains_nothing(seed, value, missing):
    data = rows(seed, missing=missing)
    plain = statistics(data["X"], data["batch"])
    still = statistics(data["X"], data["batch"], still=np.full(40, value))
    parts = [
        statistics(data["X"][s], data["batch"][s], still=np.full(40, value)[s])
        for s in (slice(0, 7), slice(7, 20), slice(20, 40))
    ]
    want = least_squares(plain.moments)
    for stats in (still, parts[0] + parts[1] + parts[2]):
        check_estimable(stats)
        fit = least_squares(stats.moments)
        assert fit.rank == 0
        assert fit.estimable.all()
        assert_allclose(fit.location, want.location, rtol=1e-9, atol=1e-9)
        assert_allclose(fit.rss, want.rss, rtol=1e-9, atol=1e-9)


# ---- statistics add


@given(seed=seeds, missing=st.sampled_from([0.0, 0.2]), cut=st.integers(1, 39))
@settings(max_examples=30, deadline=None)
def test_statistics_of_parts_add_up(seed, missing, cut):
    data = rows(seed, missing=missing)
    order = np.argsort(data["batch"], kind="stable") if seed % 2 else np.arange(40)  # batches spread, or one by one
    data = {k: v[order] for k, v in data.items()}
    whole = statistics(**data)
    first, last = ({k: v[s] for k, v in data.items()} for s in (slice(None, cut), slice(cut, None)))
    total = statistics(**first) + statistics(**last)
    assert_array_equal(total.batches, whole.batches)
    assert_array_equal(total.columns[0].levels, whole.columns[0].levels)
    assert_array_equal(total.moments.rows, whole.moments.rows)
    a, b = least_squares(total.moments), least_squares(whole.moments)
    for name in ("location", "rss", "pivot", "n", "estimable"):
        assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-9, atol=1e-10, err_msg=name)


def test_what_does_not_add_up_says_why():
    data = rows(5)
    X, batch, age, group = (data[k] for k in ("X", "batch", "age", "group"))
    plain = statistics(X, batch, age=age)
    with pytest.raises(MergeError, match="same columns"):
        plain + statistics(X, batch)
    with pytest.raises(MergeError, match="'age' must be of one kind"):
        plain + statistics(X, batch, age=group)
    with pytest.raises(MergeError, match="of one kind throughout"):
        plain + statistics(X, np.arange(40) % 3, age=age)
    with pytest.raises(MergeError, match="of one kind throughout"):
        statistics(X, batch, group=group) + statistics(X, batch, group=np.arange(40) % 2)


# ---- what can be told apart


def test_a_confounded_factor_is_refused_by_the_names_of_its_levels():
    batch = np.repeat(["r1", "r2", "r3", "r4"], 6)
    group = np.where(np.isin(batch, ["r1", "r2"]), np.tile(["A", "B"], 12), np.tile(["C", "D"], 12))
    X = np.random.default_rng(0).normal(size=(24, 3))
    with pytest.raises(ConfoundedDesignError) as error:
        check_estimable(statistics(X, batch, group=group))
    said = str(error.value)
    assert "{'r1', 'r2'} hold only {'A', 'B'}; batches {'r3', 'r4'} hold only {'C', 'D'}" in said
    assert "'A' - 'B' can be estimated, 'A' - 'C' cannot" in said
    group[0] = "C"  # one sample joins the blocks
    check_estimable(statistics(X, batch, group=group))


def test_all_cases_in_one_batch_is_refused():
    batch = np.repeat(["r1", "r2"], 6)
    group = np.where(batch == "r1", "case", "control")
    says = r"\{'r1'\} hold only \{'case'\}; .* \{'r2'\} hold only \{'control'\}"
    with pytest.raises(ConfoundedDesignError, match=says):
        check_estimable(statistics(np.random.default_rng(0).normal(size=(12, 3)), batch, group=group))


def test_a_number_with_one_value_a_batch_is_refused():
    batch = np.repeat(["r1", "r2", "r3"], 5)
    dose = np.repeat([0.1, 0.7, 3.3], 5)
    X = np.random.default_rng(0).normal(size=(15, 3))
    with pytest.raises(ConfoundedDesignError, match="'dose' has one value within every batch"):
        check_estimable(statistics(X, batch, dose=dose))
    check_estimable(statistics(X, batch, dose=np.full(15, 4.2)))  # a constant keeps nothing, and harms nothing


def test_columns_that_are_confounded_only_together_are_named():
    rng = np.random.default_rng(1)
    batch = np.repeat(["r1", "r2", "r3"], 6)
    u = rng.normal(size=18)
    v = np.repeat([0.0, 1.0, 5.0], 6) - u  # u + v tells the batch
    other = rng.normal(size=18)
    with pytest.raises(ConfoundedDesignError, match="'u', 'v' together"):
        check_estimable(statistics(rng.normal(size=(18, 3)), batch, u=u, v=v, other=other))


def test_nuisance_that_batch_explains_is_no_obstacle():
    data = rows(6)
    site_ = np.where(data["batch"] == "a", "here", "there")
    check_estimable(statistics(data["X"], data["batch"], site_=site_, age=data["age"]))
    with pytest.raises(ConfoundedDesignError):
        check_estimable(statistics(data["X"], data["batch"], site=site_))


@pytest.mark.parametrize("q", [9, 10, 30])
def test_more_kept_columns_than_rows_allow_is_refused(q):
    rng = np.random.default_rng(2)
    X, batch = rng.normal(size=(12, 3)), np.repeat(["a", "b"], 6)
    many = {f"k{i}": rng.normal(size=12) for i in range(q)}
    if q == 9:
        check_estimable(statistics(X, batch, **many))  # one residual degree of freedom is left
    else:
        with pytest.raises(TooFewSamplesError, match="12 rows for 2 batches"):
            check_estimable(statistics(X, batch, **many))


def test_a_feature_of_its_own_may_be_confounded_by_what_it_misses():
    batch, group = np.repeat(["a", "b"], 10), np.tile(["u", "v"], 10)
    X = np.random.default_rng(3).normal(size=(20, 3))
    X[(batch == "a") & (group == "u"), 1] = np.nan
    X[(batch == "b") & (group == "v"), 1] = np.nan
    X[group == "u", 2] = np.nan  # one level unseen: nothing to confound
    fit = least_squares(statistics(X, batch, group=group).moments)
    assert fit.estimable.tolist() == [True, False, True]


@given(seed=seeds)
@settings(max_examples=20, deadline=None)
def test_the_share_between_batches_is_an_r2(seed):
    data = rows(seed)
    stats = statistics(data["X"], data["batch"], age=data["age"])
    onehot = (data["batch"][:, None] == np.unique(data["batch"])).astype(float)
    fitted = onehot @ np.linalg.lstsq(onehot, data["age"], rcond=None)[0]
    assert_allclose(explained_by_batch(stats.moments), np.var(fitted) / np.var(data["age"]), rtol=1e-9)


@given(seed=seeds, n_batches=st.integers(1, 6), n_levels=st.integers(1, 6))
@settings(max_examples=40, deadline=None)
def test_blocks_part_the_table(seed, n_batches, n_levels):
    meets = np.random.default_rng(seed).random((n_batches, n_levels)) < 0.3
    parts = blocks_of(meets)
    assert sorted(b for part, _ in parts for b in part) == list(range(n_batches))
    assert sorted(v for _, part in parts for v in part) == list(range(n_levels))
    for b, v in parts:
        outside = np.setdiff1d(np.arange(n_levels), v)
        assert not meets[np.ix_(b, outside)].any()
    # as many independent differences between levels as levels less blocks that hold one
    table = np.array([[i, j] for i, j in zip(*np.nonzero(meets), strict=True)]).reshape(-1, 2).astype(int)
    design = np.hstack([np.eye(n_batches)[table[:, 0]], np.eye(n_levels)[table[:, 1]]])
    rank = np.linalg.matrix_rank(design) if len(table) else 0
    assert rank == n_batches + n_levels - len(parts)


# ---- labels


LABELS = [np.array(["b", "a", "b"]), np.array([3, -1, 3]), np.array([True, False, True])]


@pytest.mark.parametrize("labels", LABELS)
def test_codes_point_at_levels(labels):
    levels = np.unique(labels)
    assert_array_equal(levels[codes_of(labels, levels)], labels)
    assert codes_of(labels, levels[:1]).min() == -1
    assert codes_of(labels, levels[:0]).tolist() == [-1] * 3
    assert codes_of(labels[:0], levels).tolist() == []


def test_labels_of_another_kind_are_none_of_the_levels():
    assert codes_of(np.array([1, 2]), np.array(["1", "2"])).tolist() == [-1, -1]
    assert codes_of(np.array(["1"]), np.array([1])).tolist() == [-1]
    assert codes_of(np.array(["a long one"]), np.array(["a"])).tolist() == [-1]
    with pytest.raises(MergeError, match="of one kind"):
        union_of(np.array(["1"]), np.array([2]), "batch")


def test_a_factor_is_one_hot_and_refuses_strangers():
    factor = Factor("group", np.array(["a", "b"]))
    assert factor.encode(np.array(["b", "a"])).tolist() == [[0, 1], [1, 0]]
    with pytest.raises(UnknownLevelError, match=r"'group' must hold levels seen in fit \('a', 'b'\), got 'z'"):
        factor.encode(np.array(["a", "z"]))
    assert (factor + Factor("group", np.array(["c"]))).levels.tolist() == ["a", "b", "c"]


def test_integers_of_many_values_are_ambiguous_as_soon_as_they_are_many():
    two = Factor("dose", np.array([0, 1]), loose=True)
    with pytest.raises(AmbiguousKeepError, match="'dose' must say whether it is a factor or a number"):
        Factor("dose", np.array([0, 1, 2]), loose=True)
    with pytest.raises(AmbiguousKeepError, match="keep_factors or keep_numbers"):
        two + Factor("dose", np.array([1, 2]), loose=True)
    assert (two + Factor("dose", np.array([1, 2]))).levels.tolist() == [0, 1, 2]


def test_columns_lie_side_by_side():
    columns: list[Column] = [Factor("g", np.array(["a", "b", "c"])), Number("x"), Factor("h", np.array([1, 2]))]
    assert slices(columns) == [slice(0, 3), slice(3, 4), slice(4, 6)]
    values = {"g": np.array(["c"]), "x": np.array([2.5]), "h": np.array([1])}
    assert encode(columns, values, 1).tolist() == [[0, 0, 1, 2.5, 1, 0]]
    assert encode([], {}, 3).shape == (3, 0)


def test_labels_are_shown_as_they_were_written():
    assert repr_labels(np.array(["p7", "p8"])) == "{'p7', 'p8'}"
    assert repr_labels(np.arange(10)) == "{0, 1, 2, 3, 4, 5, 6, 7, ... 2 more}"
