"""The forecast's formulas against least squares on whole matrices, against each other, and against simulation.

What a correction does to a table is simulated here with plain least squares; tests/diagnostics/test_design.py does it
with the correctors.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import stats

from batchfix.core.design import Column, Factor, Number, encode, slices
from batchfix.core.forecast import (
    ForecastCurve,
    Sharing,
    false_positive_rate,
    joint_false_positive_rate,
    noise_inflation,
    share_of,
    surviving_share,
)
from batchfix.core.groups import Groups, group_moments
from batchfix.core.statistics import BatchStatistics

seeds = st.integers(0, 2**32 - 1)


def statistics(batch: np.ndarray, **values: np.ndarray) -> BatchStatistics:
    """Reduce labels; text columns are factors, floats numbers, names ending in _ are to go."""
    columns: list[Column] = []
    for name, v in values.items():
        role = "nuisance" if name.endswith("_") else "keep"
        columns.append(Number(name, role) if v.dtype.kind == "f" else Factor(name, np.unique(v), role))
    batches, codes = np.unique(batch, return_inverse=True)
    z = encode(columns, values, len(batch))
    moments = group_moments(np.zeros((len(batch), 0)), Groups.of(codes, len(batches)), z)
    return BatchStatistics(batches, tuple(columns), moments, 2.0**-52)


def onehot(values: np.ndarray) -> np.ndarray:
    return np.asarray(values[:, None] == np.unique(values), dtype=float)


def residual(y: np.ndarray, *others: np.ndarray) -> np.ndarray:
    """What of y is left beyond the others and a constant."""
    design = np.column_stack([np.ones(len(y)), *others])
    return np.asarray(y - design @ np.linalg.lstsq(design, y, rcond=None)[0])


def labels(seed: int, n: int = 60) -> dict[str, np.ndarray]:
    """Batches, a factor and two numbers to keep, a factor and a number to go; all of them entangled."""
    rng = np.random.default_rng(seed)
    batch = rng.integers(0, rng.integers(2, 6), n)
    group = (batch + rng.integers(0, 4, n) * (rng.random(n) < rng.uniform(0.2, 1))) % 3
    group[:3] = 0, 1, 2
    age = 50 + 9 * rng.normal(size=n) + rng.uniform(0, 9) * batch
    return {
        "batch": batch,
        "group": np.array(list("uvw"))[group],
        "age": age,
        "score": rng.normal(size=n) + 0.1 * age + (group == 1),
        "site_": np.array(list("xy"))[(batch + rng.integers(0, 2, n)) % 2],
        "depth_": rng.normal(size=n) + (group == 0) * rng.uniform(0, 2),
    }


# ---- rho2


@given(seed=seeds, nuisance=st.booleans())
@settings(max_examples=60)
def test_rho2_is_the_partial_r2_of_the_contrast_on_what_is_removed(seed, nuisance):
    data = labels(seed)
    sharing = Sharing.of(statistics(**data), nuisance=nuisance)
    # u - v and u - w of the group, as coefficients of its three columns; then both slopes
    contrasts = np.array([[1, -1, 0, 0, 0], [1, 0, -1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 1]], dtype=float)
    before, after = sharing.variances(contrasts)
    removed = [onehot(data["batch"])] + [onehot(data["site_"]), data["depth_"]] * nuisance
    group = onehot(data["group"])
    # with the contrast u - v as one coordinate, the other coordinates of the group span what u and v have in common
    cases = [
        (group[:, 0], [group[:, 0] + group[:, 1], data["age"], data["score"]]),
        (group[:, 0], [group[:, 0] + group[:, 2], data["age"], data["score"]]),
        (data["age"], [group, data["score"]]),
        (data["score"], [group, data["age"]]),
    ]
    for k, (own, others) in enumerate(cases):
        alone = residual(own, *others)
        left = residual(own, *others, *removed)
        if left @ left < 1e-6 * (alone @ alone):
            continue  # confounded: another test's
        assert_allclose(before[k], 1 / (alone @ alone), rtol=1e-6)
        assert_allclose(after[k], 1 / (left @ left), rtol=1e-6)
        assert_allclose(share_of(before, after)[k], 1 - (left @ left) / (alone @ alone), rtol=1e-6, atol=1e-9)


@given(seed=seeds)
@settings(max_examples=40)
def test_the_canonical_rho2_are_squared_canonical_correlations_and_bound_every_contrast(seed):
    data = labels(seed)
    stats_ = statistics(**data)
    sharing = Sharing.of(stats_)
    removed = [onehot(data["batch"]), onehot(data["site_"]), data["depth_"]]
    kept = [onehot(data["group"]), data["age"], data["score"]]

    def basis(*columns: np.ndarray, given: tuple[np.ndarray, ...] = ()) -> np.ndarray:
        u, s, _ = np.linalg.svd(residual(np.column_stack(columns), *given), full_matrices=False)
        return np.asarray(u[:, s > 1e-8 * s[0]])

    def correlations(*own: np.ndarray, given: tuple[np.ndarray, ...] = ()) -> np.ndarray:
        a, b = basis(*own, given=given), basis(*removed, given=given)
        found = np.zeros(a.shape[1])
        found[: min(a.shape[1], b.shape[1])] = np.linalg.svd(a.T @ b, compute_uv=False)[: a.shape[1]]
        return found**2

    # 1e-10 is where least_squares takes a direction for confounded, and the rho2 jumps to 1
    assert_allclose(sharing.canonical(), correlations(*kept), atol=1e-8)
    first, *_ = slices([c for c in stats_.columns if c.role == "keep"])
    assert_allclose(sharing.canonical(first), correlations(kept[0], given=(data["age"], data["score"])), atol=1e-8)
    rng = np.random.default_rng(seed)
    contrasts = rng.normal(size=(20, 5))
    contrasts[:, :3] -= contrasts[:, :3].mean(axis=1, keepdims=True)
    assert share_of(*sharing.variances(contrasts)).max() <= sharing.canonical()[0] + 1e-9


@given(seed=seeds)
@settings(max_examples=20)
def test_units_and_offsets_of_numbers_change_nothing(seed):
    data = labels(seed)
    moved = data | {"age": data["age"] * 2.0**-400, "score": data["score"] + 1e7, "depth_": data["depth_"] * 1e9 - 5e8}
    contrasts = np.eye(5)[3:]
    one, other = (share_of(*Sharing.of(statistics(**d)).variances(contrasts)) for d in (data, moved))
    assert_allclose(other, one, rtol=1e-6, atol=1e-8)  # 1e7 of offset leaves 9 digits of score


@given(seed=seeds)
@settings(max_examples=20)
def test_neither_order_nor_parts_of_the_rows_matter(seed):
    data = labels(seed)
    order = np.random.default_rng(seed).permutation(60)
    contrasts = np.array([[1.0, -1, 0, 0, 0], [0, 0, 0, 1, 0]])
    whole = Sharing.of(statistics(**data))
    shuffled = Sharing.of(statistics(**{k: v[order] for k, v in data.items()}))
    halves = [statistics(**{k: v[part] for k, v in data.items()}) for part in (slice(0, 41), slice(41, None))]
    try:
        parts = Sharing.of(halves[0] + halves[1])
    except ValueError:
        parts = whole
    for other in (shuffled, parts):
        assert (other.naive_df, other.residual_df) == (whole.naive_df, whole.residual_df)
        for a, b in zip(other.variances(contrasts), whole.variances(contrasts), strict=True):
            assert_allclose(a, b, rtol=1e-8)


def test_degrees_of_freedom_count_what_is_independent():
    batch = np.repeat([0, 1, 2], 10)
    group = np.tile(["u", "v"], 15)
    sharing = Sharing.of(statistics(batch, group=group, same=np.char.upper(group), of_batch_=batch * 1.0))
    assert (sharing.naive_df, sharing.residual_df) == (28, 26)  # n - 1 - 1, n - 3 - 1: group counts once, batch once


def test_a_contrast_that_crosses_blocks_has_no_estimate_and_one_inside_has():
    batch = np.array([1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4])
    sharing = Sharing.of(statistics(batch, group=np.array(list("ABAABBCDCDDC"))))
    before, after = sharing.variances(np.array([[1.0, -1, 0, 0], [1, 0, -1, 0], [0, 0, 1, -1]]))
    assert np.isfinite(before).all()
    assert np.isinf(after).tolist() == [False, True, False]
    assert share_of(before, after)[1] == 1.0
    assert sharing.canonical()[0] == 1.0


def test_what_others_give_has_no_share():
    group = np.tile(["u", "v"], 15)
    sharing = Sharing.of(statistics(np.repeat([0, 1], 15), group=group, same=np.char.upper(group)))
    before, after = sharing.variances(np.array([[1.0, -1, 0, 0]]))
    assert np.isnan(share_of(before, after)).all()
    assert len(sharing.canonical(slice(0, 2))) == 0


# ---- what follows from it


def test_the_anchors_of_the_rate():
    """Simulated rates of two batches of 30 (stated to .001, from 2,000 features: standard error .005 to .011)."""
    rho2 = np.array([1 / 9, 0.36, 0.64, (28 / 30) ** 2])  # 20:10, 24:6, 27:3, 29:1
    rates = false_positive_rate(rho2, 58, 57)
    assert_allclose(rates, [0.068, 0.116, 0.235, 0.483], atol=0.005)
    assert_allclose(false_positive_rate(np.array([0.11]), 28, 19), 0.128, atol=5e-4)


def test_the_rate_is_the_formula_in_words_of_scipy():
    for n, b, rho2, alpha in ((60, 2, 0.36, 0.05), (30, 10, 0.11, 0.05), (24, 4, 0.8, 0.01)):
        bound = stats.t.isf(alpha / 2, n - 2) * np.sqrt((n - b - 1) * (1 - rho2) / (n - 2))
        want = 2 * stats.t.sf(bound, n - b - 1)
        assert_allclose(false_positive_rate(np.array(rho2), n - 2, n - b - 1, alpha=alpha), want, rtol=1e-10)


def test_without_batches_the_rate_is_the_level():
    assert_allclose(false_positive_rate(np.zeros(1), 40, 40), 0.05, rtol=1e-10)
    assert_allclose(false_positive_rate(np.zeros(1), 40, 40, kept=False), 0.05, rtol=1e-10)
    assert_allclose(joint_false_positive_rate(np.zeros(3), 40, 40), 0.05, atol=1e-8)


def test_no_degree_of_freedom_no_rate():
    assert np.isnan(false_positive_rate(np.array([0.1]), 5, 0)).all()
    assert np.isnan(joint_false_positive_rate(np.array([0.1]), 5, 0))
    assert np.isnan(joint_false_positive_rate(np.array([0.1, 1.0]), 50, 40))


@pytest.mark.parametrize("rho2", [0.0, 0.11, 0.5, 0.95])
@pytest.mark.parametrize(("naive_df", "residual_df"), [(58, 57), (28, 19), (4, 1), (5000, 4000)])
def test_the_joint_rate_of_one_direction_is_that_of_the_t_test(rho2, naive_df, residual_df):
    one = false_positive_rate(np.array([rho2]), naive_df, residual_df)[0]
    assert_allclose(joint_false_positive_rate(np.array([rho2]), naive_df, residual_df), one, atol=1e-7)


@pytest.mark.parametrize("rho2", [0.2, 0.7])
def test_the_joint_rate_of_equal_directions_is_that_of_an_f_test(rho2):
    bound = stats.f.isf(0.05, 4, 50) * 40 * (1 - rho2) / 50
    assert_allclose(joint_false_positive_rate(np.full(4, rho2), 50, 40), stats.f.sf(bound, 4, 40), atol=1e-7)


def test_the_curve_lays_them_side_by_side():
    curve = ForecastCurve.of(28, 19)
    assert curve.rho2[[0, -1]].tolist() == [0.0, 0.99]
    assert_allclose(curve.surviving, surviving_share(curve.rho2))
    assert_allclose(curve.noise, noise_inflation(curve.rho2))
    assert_allclose(curve.false_positives, false_positive_rate(curve.rho2, 28, 19))
    assert (np.diff(curve.false_positives) > 0).all()


# ---- simulation, by plain least squares: 40,000 features without an effect, so that a rate r is known to
# sqrt(r (1 - r) / 40,000) <= .0025; four of these standard errors are allowed

FEATURES = 40_000


def within_error(rate: float, forecast: float) -> None:
    assert abs(rate - forecast) < 4 * np.sqrt(forecast * (1 - forecast) / FEATURES)


def entangled(n: int = 36) -> tuple[np.ndarray, ...]:
    """Three batches, three levels and an age, entangled."""
    rng = np.random.default_rng(5)
    batch = np.repeat([0, 1, 2], n // 3)
    group = np.array(list("uvw"))[np.where(rng.random(n) < 0.6, batch, rng.integers(0, 3, n))]
    return batch, group, 50 + 9 * rng.normal(size=n) + 8 * batch, rng.normal(size=n) + 2 * (group == "u")


def test_several_kept_columns_and_nuisance_are_exact_too():
    batch, group, age, depth = entangled()
    n = len(batch)
    sharing = Sharing.of(statistics(batch, group=group, age=age, depth_=depth))
    kept, removed = np.column_stack([onehot(group), age]), np.column_stack([onehot(batch), depth])
    X = np.random.default_rng(6).normal(size=(n, FEATURES))
    both = np.column_stack([np.ones(n), kept, removed])
    effects = np.linalg.pinv(both) @ X
    corrected = X - removed @ effects[-4:]
    naive = np.column_stack([np.ones(n), kept])
    inverse = np.linalg.pinv(naive)
    rest = corrected - naive @ (inverse @ corrected)
    variance = (rest**2).sum(axis=0) / sharing.naive_df
    contrasts = np.array([[1.0, -1, 0, 0], [0, 1, -1, 0], [0, 0, 0, 1]])
    forecast = false_positive_rate(share_of(*sharing.variances(contrasts)), sharing.naive_df, sharing.residual_df)
    for c, want in zip(contrasts, forecast, strict=True):
        row = np.append(0, c) @ inverse
        t = row @ corrected / np.sqrt(row @ row * variance)
        within_error(float((np.abs(t) > stats.t.isf(0.025, sharing.naive_df)).mean()), want)
    # the F-test of the whole group
    fewer = residual(corrected, age)
    F = ((fewer**2).sum(axis=0) - (rest**2).sum(axis=0)) / 2 / variance
    want = joint_false_positive_rate(sharing.canonical(slice(0, 3)), sharing.naive_df, sharing.residual_df)
    within_error(float((stats.f.isf(0.05, 2, sharing.naive_df) < F).mean()), want)


@pytest.mark.parametrize("swapped", [15, 20, 24, 27])
def test_not_kept_the_test_is_blind_as_forecast(swapped):
    group = np.concatenate(
        [np.repeat([0.0, 1.0], [swapped, 30 - swapped]), np.repeat([1.0, 0.0], [swapped, 30 - swapped])]
    )
    X = np.random.default_rng(7).normal(size=(60, FEATURES))
    for half in (slice(0, 30), slice(30, 60)):
        X[half] -= X[half].mean(axis=0)
    p = stats.ttest_ind(X[group == 0], X[group == 1]).pvalue
    rho2 = np.array([((2 * swapped - 30) / 30) ** 2])
    within_error(float((p < 0.05).mean()), float(false_positive_rate(rho2, 58, 57, kept=False)[0]))
