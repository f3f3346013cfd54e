"""Windows: what measures a row is exactly the rows before it, and nothing that has left or is still to come."""

from dataclasses import fields
from fractions import Fraction
from math import fsum

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from batchfix.core import causal
from batchfix.core.affine import Affine, Frame
from batchfix.core.causal import restore, standardize
from batchfix.core.past import Ask, Scratch
from batchfix.core.robust import MAD_TO_SIGMA
from batchfix.core.windows import Bridge, Window
from batchfix.exceptions import BatchfixError

EPS = np.finfo(float).eps
KINDS = {
    "expanding": {},
    "rolling, 1": {"length": 1, "min_periods": 1, "scale": None},
    "rolling, 2": {"length": 2},
    "rolling, 7": {"length": 7},
    "rolling, 70": {"length": 70},
    "ewm, 0.3": {"halflife": 0.3},
    "ewm, 20": {"halflife": 20.0},
    "rolling median": {"length": 9, "center": "median", "scale": "mad"},
    "clip": {"bridge": Bridge(1.5, 0.5), "short": Window(length=6)},
    "blend": {"length": 40, "bridge": Bridge(t=0.3), "short": Window(length=6)},
    "ewm bridge": {"halflife": 50.0, "bridge": Bridge(2.0, 1.0), "short": Window(halflife=3.0)},
}
of_every_kind = pytest.mark.parametrize("kind", list(KINDS.values()), ids=list(KINDS))
SCALED = {name: kind for name, kind in KINDS.items() if kind.get("scale", "std")}
of_every_scale = pytest.mark.parametrize("kind", list(SCALED.values()), ids=list(SCALED))
in_every_lag = pytest.mark.parametrize("lag", [0, 1, 2, 5])
seeds = st.integers(0, 2**32 - 1)


def table(seed: int, n: int = 150, p: int = 6, missing: float = 0.1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    X = rng.normal(3.0, 2.0, (n, p))
    X[rng.random((n, p)) < missing] = np.nan
    X[: n // 3, 0] = np.nan  # a column that starts late
    return X


@pytest.mark.parametrize(
    ("window", "other", "p"),
    [
        (Window(lag=1), Window(lag=2), 6),
        (Window(lag=1), Window(length=8), 6),
        (Window(length=9), Window(length=8), 6),
        (Window(halflife=9.0), Window(halflife=8.0), 6),
        (Window(), Window(bridge=Bridge(), short=Window(length=5)), 6),
        (Window(), Window(), 5),
    ],
    ids=str,
)
def test_a_state_of_another_window_is_refused(window, other, p):
    X = table(3)
    state = standardize(X, window, window.start(6))
    with pytest.raises(BatchfixError, match="go on as it began"):
        standardize(X[:, :p], other, state, np.empty((len(X), p)))
    with pytest.raises(BatchfixError, match="go on as it began"):
        restore(X[:, :p], other, state)


def measured(X: np.ndarray, window: Window) -> np.ndarray:
    out = np.full_like(X, -99.0)
    standardize(X, window, window.start(X.shape[1]), out)
    return out


def exact(x: np.ndarray, ddof: float = 1.0) -> tuple[int, float, float]:
    """Count, mean and standard deviation by two passes of exact sums."""
    x = x[~np.isnan(x)].tolist()
    if not x:
        return 0, np.nan, np.nan
    mean = fsum(x) / len(x)
    if len(x) <= ddof:
        return len(x), mean, np.nan
    return len(x), mean, (fsum((v - mean) ** 2 for v in x) / (len(x) - ddof)) ** 0.5


def loops(X: np.ndarray, length: int | None, lag: int, ddof: float = 1.0, least: int = 2) -> np.ndarray:
    """z by a loop over cells."""
    out = np.full(X.shape, np.nan)
    for t, j in np.ndindex(*X.shape):
        last = t - lag + 1
        first = 0 if length is None else max(0, last - length)
        n, mean, sd = exact(X[first : max(last, 0), j], ddof)
        if n >= least:
            out[t, j] = (X[t, j] - mean) / sd
    return out


# ---- the same numbers


@in_every_lag
@pytest.mark.parametrize("ddof", [0, 1, 1.5])
def test_expanding_is_a_loop_over_cells(lag, ddof):
    X = table(1)
    assert_allclose(measured(X, Window(lag=lag, ddof=ddof)), loops(X, None, lag, ddof), rtol=1e-12, atol=1e-13)


@in_every_lag
@pytest.mark.parametrize("length", [2, 3, 64, 149])
def test_rolling_is_a_loop_over_cells(lag, length):
    X = table(2)
    # a window of two nearly equal values has few digits of spread, whoever subtracts them: 1e-11 of the cells' size
    assert_allclose(measured(X, Window(length=length, lag=lag)), loops(X, length, lag), rtol=1e-11, atol=1e-12)


@in_every_lag
def test_expanding_is_pandas(lag):
    X = pd.DataFrame(table(3, n=400))
    past = X.shift(lag).expanding(2)
    assert_allclose(measured(X.to_numpy(), Window(lag=lag)), (X - past.mean()) / past.std(), rtol=1e-12, atol=1e-13)


@in_every_lag
@pytest.mark.parametrize("length", [20, 120])
def test_rolling_is_pandas(lag, length):
    X = pd.DataFrame(table(4, n=400))
    past = X.shift(lag).rolling(length, min_periods=5)
    window = Window(length=length, lag=lag, min_periods=5)
    assert_allclose(measured(X.to_numpy(), window), (X - past.mean()) / past.std(), rtol=1e-12, atol=1e-12)


@in_every_lag
@pytest.mark.parametrize("halflife", [0.3, 1.0, 10.0, 300.0])
def test_ewm_is_pandas(lag, halflife):
    X = pd.DataFrame(table(5, n=400))
    past = X.shift(lag).ewm(halflife=halflife, min_periods=2)
    window = Window(halflife=halflife, lag=lag)
    assert_allclose(measured(X.to_numpy(), window), (X - past.mean()) / past.std(), rtol=1e-11, atol=1e-12)
    biased = Window(halflife=halflife, lag=lag, ddof=0)
    assert_allclose(
        measured(X.to_numpy(), biased)[lag:], ((X - past.mean()) / past.std(bias=True))[lag:], rtol=1e-11, atol=1e-12
    )


def test_rolling_medians_are_pandas():
    X = pd.DataFrame(table(6))
    past = X.shift(1).rolling(11, min_periods=3)
    window = Window(length=11, center="median", scale="mad", min_periods=3)

    def mad(x: pd.Series) -> float:
        return float((x - x.median()).abs().median())

    assert_allclose(
        measured(X.to_numpy(), window), (X - past.median()) / (MAD_TO_SIGMA * past.apply(mad)), rtol=1e-12, atol=1e-13
    )


def test_center_and_scale_alone():
    X = pd.DataFrame(table(7))
    past = X.shift(1).expanding(2)
    assert_allclose(measured(X.to_numpy(), Window(scale=None)), X - past.mean(), rtol=1e-12, atol=1e-13)
    assert_allclose(measured(X.to_numpy(), Window(center=None)), X / past.std(), rtol=1e-12)


def test_min_periods_counts_values_and_not_rows():
    X = table(8, missing=0.5)
    seen = (~np.isnan(X)).cumsum(axis=0) - ~np.isnan(X)
    for least in (1, 2, 10):
        z = measured(X, Window(min_periods=least))
        assert_array_equal(np.isnan(z), np.isnan(X) | (seen < max(least, 2)))


# ---- time goes one way


@of_every_kind
@given(seed=seeds, lag=st.integers(0, 4), data=st.data())
@settings(max_examples=15, deadline=None)
def test_chunks_equal_the_whole_to_the_bit(kind, seed, lag, data):
    X, window = table(seed), Window(lag=lag, **kind)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(X)), max_size=6)))
    whole = np.empty_like(X)
    end = standardize(X, window, window.start(6), whole)
    state, parts = window.start(6), []
    for a, b in zip([0, *cuts], [*cuts, len(X)], strict=True):
        parts.append(np.empty((b - a, 6)))
        state = standardize(X[a:b], window, state, parts[-1])
    assert_array_equal(np.concatenate(parts), whole)
    assert_array_equal(state.pending, end.pending)
    for one, two in zip(state.pasts, end.pasts, strict=True):
        for field in fields(one):
            assert_array_equal(getattr(one, field.name), getattr(two, field.name))


@of_every_kind
@given(seed=seeds, lag=st.integers(0, 4), cut=st.integers(1, 149))
@settings(max_examples=15, deadline=None)
def test_the_future_cannot_change_the_past(kind, seed, lag, cut):
    X, window = table(seed), Window(lag=lag, **kind)
    Y = X.copy()
    Y[cut:] = np.random.default_rng(seed + 1).normal(size=Y[cut:].shape) * 1e6
    z = measured(X, window)
    assert_array_equal(measured(Y, window)[:cut], z[:cut])
    assert_array_equal(measured(X[:cut], window), z[:cut])


@of_every_kind
def test_the_lag_hides_rows(kind):
    X = table(9, missing=0.0)
    z = measured(X, Window(lag=3, **kind))
    X[100] += 5.0
    moved = (measured(X, Window(lag=3, **kind)) != z) & ~np.isnan(z)
    assert moved[100].all()
    assert not moved[101:103].any()
    assert moved[103].all() or kind.get("center") == "median"
    assert not moved[:100].any()


@of_every_kind
@given(seed=seeds)
@settings(max_examples=5, deadline=None)
def test_columns_are_alone(kind, seed):
    X, window = table(seed), Window(**kind)
    z = measured(X, window)
    assert_array_equal(measured(X[:, ::-1], window), z[:, ::-1])
    assert_array_equal(measured(np.asfortranarray(X), window), z)
    assert_array_equal(measured(X[:, 2:3].copy(), window), z[:, 2:3])


@of_every_kind
def test_wide_tables_are_cut_into_columns_that_do_not_show(kind):
    X = np.tile(table(10), 120)  # above the width where rows are added one by one
    z = measured(X, Window(**kind))
    assert_array_equal(z, np.tile(measured(X[:, :6], Window(**kind)), 120))


@of_every_kind
def test_new_columns_can_be_laid_beside_old_ones(kind):
    X, window = table(11), Window(lag=2, **kind)
    X[:41, 3:] = np.nan
    whole = np.empty_like(X)
    standardize(X, window, window.start(6), whole)
    state = standardize(X[:41, :3], window, window.start(3))
    out = np.empty_like(X[41:])
    standardize(X[41:], window, state.beside([window.start(3)]), out)
    assert_array_equal(out, whole[41:])


@of_every_kind
def test_in_place(kind):
    X = table(12)
    z = measured(X, Window(lag=2, **kind))
    standardize(X, Window(lag=2, **kind), Window(lag=2, **kind).start(6), X)
    assert_array_equal(X, z)


# ---- numbers that break others

HARD = {
    "any size": lambda x, rng: x * 10.0 ** rng.integers(-8, 9, size=len(x)),
    "offset": lambda x, rng: x + 1e8,
    "ties": lambda x, rng: np.round(x),
    "outliers": lambda x, rng: np.where(rng.random(len(x)) < 0.03, 1e12, x),
    "a level that shifts": lambda x, rng: np.cumsum(x) + 1e6 * (np.arange(len(x)) > len(x) // 2),
}


@pytest.mark.parametrize("hard", list(HARD.values()), ids=list(HARD))
@given(seed=seeds, n=st.integers(5, 160), length=st.one_of(st.none(), st.integers(2, 80)))
@settings(max_examples=25, deadline=None)
def test_hard_numbers_are_measured_as_by_fractions(hard, seed, n, length):
    rng = np.random.default_rng(seed)
    x = hard(rng.normal(size=n), rng)
    x[rng.random(n) < 0.15] = np.nan
    z = measured(x[:, None], Window(length=length))[:, 0]
    t = int(rng.integers(2, n))
    past = [Fraction(v) for v in x[0 if length is None else max(0, t - length) : t].tolist() if v == v]
    if len(past) < 2 or np.isnan(x[t]):
        assert np.isnan(z[t])
        return
    mean = sum(past) / len(past)
    sd = float(sum((v - mean) ** 2 for v in past) / (len(past) - 1)) ** 0.5
    if sd <= 64 * EPS * abs(mean):
        assert np.isnan(z[t]) or z[t] == 0
        return
    want = float(Fraction(float(x[t])) - mean) / sd
    # the center is rounded to float64, and so are the means of a rolling window's two halves
    rounding = 4 * EPS * float(abs(mean) + max(map(abs, past))) / sd
    assert abs(z[t] - want) <= (1e-12 + rounding) * max(1.0, abs(want))


@pytest.mark.parametrize("length", [3, 10, 64])
def test_an_outlier_that_has_left_leaves_no_trace(length):
    X = table(13, missing=0.05)
    X[40, :3] = 1e12
    X[41, 1] = -1e12
    z = measured(X, Window(length=length))
    gone = 42 + length
    assert_array_equal(z[gone:], measured(np.vstack([X[:40], X[40:42] * np.nan, X[42:]]), Window(length=length))[gone:])


def test_an_outlier_fades_from_exponential_weights():
    x = np.random.default_rng(14).normal(size=(400, 1))
    clean = measured(x, Window(halflife=1.0))
    x[100] = 1e12
    # after 250 half-lives its weight is 1e-75: of its square, 1e-51, and of what rounding it left, nothing
    assert_allclose(measured(x, Window(halflife=1.0))[350:], clean[350:], rtol=1e-12)
    x[101:300] = np.nan  # and in a gap too, where nothing new outweighs it but time passes
    assert_allclose(measured(x, Window(halflife=1.0))[310:], measured(x[300:], Window(halflife=1.0))[10:], rtol=1e-12)


def test_a_gap_leaves_exponential_moments_as_they_were():
    x = np.array([[1.0], [4.0], [2.0]])
    for gap in (1, 50, 3000):  # 3000 half-lives: all weights are 0 in float64
        rows = np.vstack([x, np.full((gap, 1), np.nan), [[5.0]]])
        assert measured(rows, Window(halflife=1.0))[-1] == measured(np.vstack([x, [[5.0]]]), Window(halflife=1.0))[-1]


@pytest.mark.parametrize("kind", [k for name, k in KINDS.items() if "bridge" not in name], ids=str)
@pytest.mark.parametrize("offset", [1e8, -1e8])
def test_an_offset_costs_no_more_digits_than_the_values_have(kind, offset):
    X = table(15)
    shifted = X + offset
    # x itself is known to eps * 1e8 = 2e-8; a spread of two values that close to each other, to no more
    known = np.abs(measured(shifted - offset, Window(**kind)))
    assert_allclose(measured(shifted, Window(**kind)), measured(shifted - offset, Window(**kind)), rtol=2e-6, atol=2e-6)
    assert np.isfinite(known[~np.isnan(known)]).all()


def test_an_expanding_spread_keeps_its_digits_at_an_offset():
    X = table(16, n=300) + 1e8
    # about a pilot, differences of neighbours are exact: only the center is rounded, by eps * 1e8
    assert_allclose(measured(X, Window()), loops(X, None, 1), rtol=1e-12, atol=4 * EPS * 1e8)


@pytest.mark.parametrize("unit", [1e-150, 1e150])
@of_every_scale
def test_units_do_not_matter(kind, unit):
    X = table(17)
    assert_allclose(measured(X * unit, Window(**kind)), measured(X, Window(**kind)), rtol=1e-9, atol=1e-11)


@of_every_kind
@pytest.mark.parametrize("value", [0.0, 0.1, 1e8 + 0.1, -3e150, 1e-150])
def test_a_constant_is_exactly_zero(kind, value):
    X = np.full((150, 2), value)
    X[3:9, 1] = np.nan
    z = measured(X, Window(lag=1, **kind))
    known = z[~np.isnan(z)]
    assert (known == 0).all()
    assert len(known) > 100


@of_every_scale
def test_rounding_noise_is_no_spread(kind):
    X = np.tile([[0.1], [0.1 + 2**-56], [0.3 - 0.2]], (50, 1))
    assert np.ptp(X) > 0
    z = measured(X, Window(**kind))
    assert (z[~np.isnan(z)] == 0).all()


@of_every_scale
def test_a_move_after_a_constant_has_no_unit(kind):
    X = np.full((90, 1), 0.1)
    X[80] = 0.2
    z = measured(X, Window(**kind))
    assert np.isnan(z[80])
    assert z[79] == 0


def test_a_constant_stretch_in_a_rolling_window():
    X = np.random.default_rng(18).normal(1e8, 1.0, (120, 1))
    X[40:70] = 1e8 + 0.3
    z = measured(X, Window(length=10))
    assert_array_equal(z[50:70], 0.0)
    assert np.isnan(z[70])


@of_every_scale
def test_single_precision_stays(kind):
    X = table(19)
    z = measured(X.astype(np.float32), Window(**kind))
    assert z.dtype == np.float32
    assert_allclose(z, measured(X.astype(np.float32).astype(float), Window(**kind)), rtol=1e-6, atol=1e-6)
    noise = np.tile(np.array([[0.1], [0.1 + 2**-26]], dtype=np.float32), (50, 1))
    flat = measured(noise, Window(**kind))
    assert (flat[~np.isnan(flat)] == 0).all()  # no spread in float32, though float64 would see one


@of_every_scale
@pytest.mark.parametrize(("value", "words"), [(np.inf, "infinity"), (-np.inf, "infinity"), (1e200, "1e154")])
def test_what_does_not_fit_is_refused(kind, value, words):
    X = table(20)
    X[30, 2] = value
    if "mad" in kind.values() and np.isfinite(value):
        return  # a median squares nothing
    with pytest.raises(BatchfixError, match=words):
        measured(X, Window(**kind))


@of_every_kind
@in_every_lag
def test_an_infinity_that_no_window_has_reached_is_refused(kind, lag):
    X = table(20)
    X[-1, 2] = np.inf
    with pytest.raises(BatchfixError, match="infinity"):
        measured(X, Window(lag=lag, **kind))


@of_every_kind
def test_nothing_observed_says_nothing(kind):
    X = np.full((100, 3), np.nan)
    X[:, 1] = 1.0
    z = measured(X, Window(**kind))
    assert np.isnan(z[:, [0, 2]]).all()


@of_every_kind
def test_no_rows_change_nothing(kind):
    window = Window(**kind)
    state = standardize(table(21), window, window.start(6))
    again = standardize(np.empty((0, 6)), window, state, np.empty((0, 6)))
    assert_array_equal(again.pending, state.pending)


# ---- bridges


@given(seed=seeds, r_max=st.sampled_from([1.0, 1.5, np.inf]), d_max=st.sampled_from([0.0, 0.7, np.inf]))
@settings(max_examples=10, deadline=None)
def test_a_bridge_is_the_affine_map_between_the_frames(seed, r_max, d_max):
    X = pd.DataFrame(table(seed, missing=0.0))
    window = Window(bridge=Bridge(r_max, d_max), short=Window(length=8), min_periods=5)
    long, short = X.shift(1).expanding(5), X.shift(1).rolling(8, min_periods=5)
    frames = [Frame(w.mean().to_numpy(), w.std().to_numpy()) for w in (short, long)]
    bridge = Affine.bridge(*frames, check=False).clip(r_max, d_max)
    want = bridge.apply((X.to_numpy() - frames[0].location) / frames[0].scale)
    assert_allclose(measured(X.to_numpy(), window), want, rtol=1e-9, atol=1e-10)


def test_the_ends_of_a_bridge():
    X, short = table(22, missing=0.0), Window(length=8)
    of_short = measured(X, Window(length=8))
    of_long = measured(X, Window())
    for bridge, want in [
        (Bridge(1.0, 0.0), of_short),
        (Bridge(np.inf, np.inf), of_long),
        (Bridge(t=0.0), of_short),
        (Bridge(t=1.0), of_long),
    ]:
        assert_allclose(measured(X, Window(bridge=bridge, short=short)), want, rtol=1e-9, atol=1e-10)


# ---- back again


@pytest.mark.parametrize("kind", [k for k in KINDS.values() if "bridge" not in k], ids=str)
@pytest.mark.parametrize("lag", [1, 3])
def test_rows_after_a_state_are_restored(kind, lag):
    X, window = table(23), Window(lag=lag, **kind)
    if window.length in (1, 2):
        return  # windows of missing values: what becomes NaN cannot come back, as the next test says
    state = standardize(X[:100], window, window.start(6))
    z = np.empty_like(X[100:])
    standardize(X[100:], window, state, z)
    # each value's rounding enters the frames of those after it
    assert_allclose(restore(z, window, state), X[100:], rtol=1e-9, atol=1e-9)


def test_what_became_missing_is_not_restored():
    window = Window()
    with pytest.raises(BatchfixError, match=r"row 0, column 1.*too short"):
        restore(
            np.array([[np.nan, np.nan]]),
            window,
            standardize(np.array([[1.0, 2.0], [2.0, np.nan]]), window, window.start(2)),
        )
    flat = standardize(np.full((3, 1), 2.0), window, window.start(1))
    with pytest.raises(BatchfixError, match="constant"):
        restore(np.array([[0.0], [np.nan]]), window, flat)
    assert restore(np.array([[0.0]]), window, flat).tolist() == [[2.0]]


# ---- what is kept


def test_the_state_is_small():
    X = table(24, n=2000)
    for window, rows in [(Window(lag=2), 2 + 4), (Window(length=30), 1 + 30), (Window(halflife=9.0), 1 + 5)]:
        state = standardize(X, window, window.start(6))
        held = [v for past in state.pasts for v in vars(past).values() if isinstance(v, np.ndarray)] + [state.pending]
        assert sum(v.size for v in held) == rows * 6


def test_moments_of_an_expanding_past():
    X = table(25, n=130, missing=0.2)
    _, past = Window().past(6).read(X, Ask(), Scratch())
    moments = past.moments()
    assert_array_equal(moments.n, (~np.isnan(X)).sum(axis=0))
    assert_allclose(moments.mean, np.nanmean(X, axis=0), rtol=1e-13)
    assert_allclose(moments.variance(correction=1), np.nanvar(X, axis=0, ddof=1), rtol=1e-13)


def test_threads_do_not_show(monkeypatch):
    X = np.tile(table(26, n=100), 200)
    alone = []
    for threads in ("1", "2"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        alone.append(measured(X, Window()))
    assert len(causal._spans(1200, Window())) == 2
    assert_array_equal(*alone)
