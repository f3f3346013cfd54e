"""RenormCorrector: the layer's numbers, the stream's rules, and scikit-learn's manners."""

import pickle
import warnings
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from batchfix import BatchCorrector, ComBat, RenormCorrector, to_torch
from batchfix.core.schedule import Schedule
from batchfix.exceptions import (
    AlignmentError,
    BatchfixError,
    ConstantFeatureWarning,
    DataScaleWarning,
    MergeError,
    MissingFeatureWarning,
    MissingLabelError,
    NothingToCorrectWarning,
    SingletonBatchWarning,
    TooFewSamplesError,
    UnknownBatchError,
)
from batchfix.nn import BatchRenorm1d
from batchfix.nn import Schedule as LayerSchedule

# Small batches have constants, single rows and gaps more often than tables do.
pytestmark = [
    pytest.mark.filterwarnings(f"ignore::batchfix.exceptions.{name}")
    for name in ("ConstantFeatureWarning", "SingletonBatchWarning", "MissingFeatureWarning")
]

seeds = st.integers(0, 2**32 - 1)
MOMENTA = [0.1, 0.9, 1.0, None, "moments"]
INF = float("inf")


def stream(seed: int = 0, batches: int = 9, p: int = 4, least: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Batches of 1 to 6 rows that drift; labels in no order; one constant within a batch."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(least, 7, batches)
    labels = np.array([f"plate{k}" for k in rng.permutation(batches)])
    batch = np.repeat(labels, sizes)
    drift = np.repeat(rng.normal(size=(batches, p)), sizes, axis=0)
    X = drift + rng.normal(size=(len(batch), p)) * rng.uniform(0.5, 2.0, p)
    X[batch == labels[2], 0] = 0.75
    return X, batch


def in_order(batch: np.ndarray) -> list[Any]:
    return list(dict.fromkeys(batch.tolist()))


# ---- the layer's twin


LIMITS = {
    "bridged": ({"r_max": 3.0, "d_max": 5.0}, (3.0, 5.0)),
    "tight": ({"r_max": 1.2, "d_max": 0.3}, (1.2, 0.3)),
    "shut": ({"r_max": 1, "d_max": 0}, (1.0, 0.0)),
    "unbounded": ({"r_max": INF, "d_max": INF}, (1e300, 1e300)),
    "knots": (
        {"r_max": [(2, 1.0), (6, 3.0)], "d_max": ((1, 0.0), (3, 0.5), (7, 2.0))},
        (LayerSchedule((2, 1.0), (6, 3.0)), LayerSchedule((1, 0.0), (3, 0.5), (7, 2.0))),
    ),
    "the layer's schedule": (
        {"r_max": LayerSchedule((2, 1.0), (6, 3.0)), "d_max": Schedule((0, 0.1), (7, 2.0))},
        (LayerSchedule((2, 1.0), (6, 3.0)), LayerSchedule((0, 0.1), (7, 2.0))),
    ),
    "schedule": (
        {"r_max": 2.0, "d_max": 1.0, "schedule": (2, 6)},
        (LayerSchedule((2, 1.0), (6, 2.0)), LayerSchedule((2, 0.0), (6, 1.0))),
    ),
}


@pytest.mark.parametrize("limits", LIMITS)
@pytest.mark.parametrize("momentum", [m for m in MOMENTA if m != "moments"], ids=str)
@given(seed=seeds)
@settings(max_examples=5)
def test_a_stream_gives_what_the_layer_gives(momentum, limits, seed):
    X, batch = stream(seed)
    mine, theirs = LIMITS[limits]
    layer = BatchRenorm1d(4, momentum=momentum, affine=False, r_max=theirs[0], d_max=theirs[1]).double().train()
    want = np.empty_like(X)
    for label in in_order(batch):
        want[batch == label] = layer(torch.tensor(X[batch == label])).numpy()
    renorm = RenormCorrector(**mine, momentum=momentum, handle_unknown="pooled").fit(X, batch=batch)
    # a constant is divided by sqrt(eps): the layer's own rounding, times 316
    assert_allclose(renorm.transform(X, batch=batch), want, rtol=1e-12, atol=1e-12)
    assert_allclose(renorm.running_mean_, layer.running_mean.numpy(), rtol=1e-12, atol=1e-12)
    assert_allclose(renorm.running_var_, layer.running_var.numpy(), rtol=1e-12)
    assert renorm.population_.steps == int(layer.num_batches_tracked)
    unseen = layer.eval()(torch.tensor(X)).numpy()
    assert_allclose(renorm.transform(X, batch="plate99"), unseen, rtol=1e-12, atol=1e-12)
    assert renorm.order_.tolist() == in_order(batch)


@pytest.mark.parametrize("eps", [1e-12, 1e-5, 0.5])
def test_eps_stands_inside_the_root_once(eps):
    X, batch = stream(3)
    layer = BatchRenorm1d(4, eps=eps, affine=False, r_max=2.0, d_max=1.0).double().train()
    want = np.empty_like(X)
    for label in in_order(batch):
        want[batch == label] = layer(torch.tensor(X[batch == label])).numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataScaleWarning)
        got = RenormCorrector(r_max=2.0, d_max=1.0, eps=eps).fit_transform(X, batch=batch)
    # a root of 1e-6 under a constant makes 1e6 of the layer's rounding
    assert_allclose(got, want, rtol=1e-12, atol=1e-9 if eps < 1e-6 else 1e-12)


@pytest.mark.parametrize("momentum", [0.3, None], ids=str)
@given(seed=seeds)
@settings(max_examples=20)
def test_missing_cells_are_as_if_each_feature_were_fed_alone(momentum, seed):
    X, batch = stream(seed)
    X[np.random.default_rng(seed).random(X.shape) < 0.3] = np.nan
    X[0] = 0.0  # something is observed
    layers = [BatchRenorm1d(1, momentum=momentum, affine=False, r_max=2.0, d_max=1.0).double() for _ in range(4)]
    want = np.full_like(X, np.nan)
    for label in in_order(batch):
        for j, layer in enumerate(layers):
            seen = (batch == label) & ~np.isnan(X[:, j])
            want[seen, j] = layer(torch.tensor(X[seen, j, None])).numpy()[:, 0]
    renorm = RenormCorrector(r_max=2.0, d_max=1.0, momentum=momentum)
    assert_allclose(renorm.fit_transform(X, batch=batch), want, rtol=1e-12, atol=1e-12)
    assert_allclose(renorm.running_var_, [float(layer.running_var) for layer in layers], rtol=1e-12)
    assert_allclose(renorm.running_mean_, [float(layer.running_mean) for layer in layers], rtol=1e-12, atol=1e-12)


# ---- what the limits mean


@pytest.mark.parametrize("momentum", MOMENTA, ids=str)
def test_shut_it_standardizes_each_batch_by_itself(momentum):
    X, batch = stream(1, least=2)
    got = RenormCorrector(r_max=1, d_max=0, momentum=momentum, eps=0).fit_transform(X, batch=batch)
    want = BatchCorrector(target="standard").fit_transform(X, batch=batch)
    n = pd.Series(batch).groupby(batch).transform("size").to_numpy()
    # variance by n here, by n - 1 there
    assert_allclose(got, want * np.sqrt(n / (n - 1))[:, None], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("start", ["standard", "first"])
@pytest.mark.parametrize("momentum", MOMENTA, ids=str)
def test_unbounded_it_standardizes_by_the_population_before(momentum, start):
    X, batch = stream(2, least=2)
    X[:, 0] = X[:, 1] ** 2  # without a constant, which with momentum=1 leaves the population no scale
    renorm = RenormCorrector(
        r_max=INF, d_max=INF, momentum=momentum, start=start, eps=0.0, handle_unknown="pooled"
    ).partial_fit(X[batch == batch[0]], batch=batch[0])
    for label in in_order(batch)[1:]:
        rows = X[batch == label]
        want = renorm.transform(rows, batch="plate99")
        renorm.partial_fit(rows, batch=label)
        assert_allclose(renorm.transform(rows, batch=label), want, rtol=1e-12, atol=1e-12)


@given(seed=seeds)
@settings(max_examples=20)
def test_moments_are_those_of_all_rows_so_far(seed):
    X, batch = stream(seed)
    X[np.random.default_rng(seed).random(X.shape) < 0.2] = np.nan
    X[0] = 0.0
    renorm = RenormCorrector(momentum="moments", r_max=1.5, d_max=0.7, eps=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataScaleWarning)
        got = renorm.fit_transform(X, batch=batch)
    mean, var = np.zeros(4), np.ones(4)
    before = np.empty((0, 4))
    for label in in_order(batch):
        rows = X[batch == label]
        for j in range(4):
            x = rows[~np.isnan(rows[:, j]), j]
            if len(x):
                sd, center = x.std(), x.mean()
                d = np.clip((center - mean[j]) / np.sqrt(var[j]), -0.7, 0.7)
                r = np.clip(sd / np.sqrt(var[j]), 1 / 1.5, 1.5)
                z = (x - center) / sd if sd > 1e-12 else 0.0 * x
                assert_allclose(got[batch == label, j][~np.isnan(rows[:, j])], r * z + d, rtol=1e-10, atol=1e-10)
        before = np.vstack([before, rows])
        n = (~np.isnan(before)).sum(axis=0)
        for j in range(4):
            if n[j]:
                mean[j] = np.nanmean(before[:, j])
            if n[j] > 1:
                var[j] = np.nanvar(before[:, j], ddof=1)
    assert_allclose(renorm.running_mean_, mean, rtol=1e-12, atol=1e-12)
    assert_allclose(renorm.running_var_, var, rtol=1e-12)
    assert_array_equal(np.isnan(got), np.isnan(X))


def test_r_and_d_are_read_off():
    X, batch = stream(4)
    renorm = RenormCorrector(r_max=1.3, d_max=0.4).fit(X, batch=batch)
    assert renorm.r_.shape == renorm.d_.shape == (9, 4)
    assert renorm.r_.min() >= 1 / 1.3
    assert renorm.r_.max() <= 1.3
    assert np.abs(renorm.d_).max() == 0.4
    assert_array_equal(renorm.d_, renorm.affine_.shift)
    label = renorm.order_[0]  # against mean 0 and variance 1
    k = renorm.batches_.tolist().index(label)
    rows = X[batch == label]
    assert_allclose(renorm.d_[k], np.clip(rows.mean(axis=0) / np.sqrt(1 + 1e-5), -0.4, 0.4), rtol=1e-12)


# ---- the stream's rules


@pytest.mark.parametrize("start", ["standard", "first"])
@pytest.mark.parametrize("momentum", MOMENTA, ids=str)
@given(seed=seeds)
@settings(max_examples=4)
def test_chunks_of_whole_batches_are_one_fit(momentum, start, seed):
    X, batch = stream(seed)
    order = in_order(batch)
    cuts = np.sort(np.random.default_rng(seed).integers(0, len(order) + 1, 3))
    renorm = RenormCorrector(momentum=momentum, start=start, r_max=[(1, 1.0), (5, 2.0)], d_max=1.0)
    whole = clone(renorm).fit(X, batch=batch)
    for labels in np.split(np.array(order), cuts):
        rows = np.isin(batch, labels)
        if rows.any():
            renorm.partial_fit(X[rows], batch=batch[rows])
    assert_array_equal(renorm.transform(X, batch=batch), whole.transform(X, batch=batch))
    assert_array_equal(renorm.running_var_, whole.running_var_)
    assert renorm.order_.tolist() == whole.order_.tolist() == order
    assert renorm.batch_counts_ == whole.batch_counts_
    assert_array_equal(renorm.r_, whole.r_)


def test_rows_of_a_batch_need_not_be_neighbours():
    X, batch = stream(5)
    later = np.random.default_rng(0).permutation(len(X))
    first = np.concatenate([np.flatnonzero(batch == label)[:1] for label in in_order(batch)])
    mixed = np.concatenate([first, later[~np.isin(later, first)]])  # the same order of appearance
    want = RenormCorrector().fit_transform(X, batch=batch)
    assert_allclose(RenormCorrector().fit_transform(X[mixed], batch=batch[mixed]), want[mixed], rtol=1e-10, atol=1e-12)


def test_the_future_does_not_change_the_past():
    X, batch = stream(6)
    past = np.isin(batch, in_order(batch)[:5])
    other = np.where(past[:, None], X, 9.0 - X)
    want = RenormCorrector().fit_transform(X[past], batch=batch[past])
    for table in (X, other):
        assert_array_equal(RenormCorrector().fit(table, batch=batch).transform(X[past], batch=batch[past]), want)


def test_a_batch_has_one_step():
    X, batch = stream(7)
    renorm = RenormCorrector().fit(X, batch=batch)
    before = renorm.transform(X, batch=batch)
    with pytest.raises(BatchfixError, match=r"takes one step, with all of its rows, and \{'plate0'\} has had it"):
        renorm.partial_fit(X[:3], batch="plate0")
    assert_array_equal(renorm.transform(X, batch=batch), before)  # nothing moved
    assert renorm.population_.steps == 9
    renorm.fit(X[:3], batch="plate0")  # fit starts anew
    assert renorm.batches_.tolist() == ["plate0"]


def test_what_fails_leaves_the_stream_as_it_was():
    X, batch = stream(7)
    renorm = RenormCorrector().fit(X, batch=batch)
    before = pickle.dumps(renorm)
    bad = X.copy()
    bad[0, 0] = np.inf
    for verb in (renorm.fit, renorm.partial_fit):
        with pytest.raises(BatchfixError):
            verb(bad, batch=np.char.add(batch, "x"))
    assert pickle.dumps(renorm) == before


@pytest.mark.parametrize(
    "opening",
    [
        {"schedule": (2, 20)},
        {"r_max": [(0, 1.0), (5, 2.0)], "d_max": [(4, 0.0), (30, 3.0)]},
        {"start": "first", "momentum": None},
    ],
    ids=str,
)
@pytest.mark.parametrize("pooled", ["error", "adapt"])
def test_adapt_is_the_next_step_of_the_stream(opening, pooled):
    X, batch = stream(11)
    new = np.random.default_rng(12).normal(1.0, 3.0, (5, 4))
    new[:, 2] = [0.1 + 0.2, 0.3, 0.1 + 0.2, 0.3, 0.3]  # rounding, and no spread
    renorm = RenormCorrector(**opening, handle_unknown=pooled).fit(X, batch=batch)
    before = pickle.dumps(renorm.population_)
    known = renorm.adapt(new, batch="new") if pooled == "error" else renorm
    found = known.transform(new, batch="new")
    assert pickle.dumps(renorm.population_) == before
    want = renorm.partial_fit(new, batch="new").transform(new, batch="new")
    assert_array_equal(found, want)
    assert np.ptp(found[:, 2]) < 1e-12
    shut = RenormCorrector(r_max=1.0, d_max=0.0).fit(X, batch=batch).adapt(new, batch="new")
    assert not np.allclose(found, shut.transform(new, batch="new"))  # limits matter, and were open by then


def test_a_batch_without_values_takes_no_step():
    X, batch = stream(8, least=2)
    renorm = RenormCorrector(schedule=(0, 30)).fit(X, batch=batch)
    steps, r = renorm.population_.steps, renorm.population_.mean
    renorm.partial_fit(np.full((3, 4), np.nan), batch="empty")
    assert renorm.population_.steps == steps
    assert_array_equal(renorm.population_.mean, r)
    assert renorm.order_[-1] == "empty"


def test_eps_stays_that_of_the_stream():
    X, batch = stream(8)
    renorm = RenormCorrector(handle_unknown="pooled").fit(X, batch=batch)
    want = renorm.transform(X, batch="other")
    renorm.set_params(eps=0.0)
    assert_array_equal(renorm.transform(X, batch="other"), want)
    with pytest.raises(BatchfixError, match=r"go on as it started, with eps=1e-05, got eps=0\.0"):
        renorm.partial_fit(X, batch=np.char.add(batch, "x"))


def test_a_stream_goes_on_as_it_started():
    X, batch = stream(8)
    renorm = RenormCorrector().fit(X, batch=batch)
    for changes in ({"momentum": None}, {"start": "first"}):
        other = pickle.loads(pickle.dumps(renorm)).set_params(**changes)
        with pytest.raises(BatchfixError, match=r"must go on as it started, with momentum=0\.1 and start='standard'"):
            other.partial_fit(X, batch="new")


def test_without_labels_a_call_is_a_batch():
    X, batch = stream(9)
    with pytest.warns(NothingToCorrectWarning, match="all rows of a call are one batch"):
        renorm = RenormCorrector().partial_fit(X[batch == batch[0]])
    labelled = RenormCorrector().fit(X, batch=batch)
    for label in in_order(batch)[1:]:
        rows = X[batch == label]
        got = renorm.partial_fit(rows).transform(rows)
        assert_array_equal(got, labelled.transform(rows, batch=label))
    assert_array_equal(renorm.running_var_, labelled.running_var_)
    with pytest.raises(UnknownBatchError, match="fitted without batch labels"):
        renorm.transform(X, batch=batch)
    with pytest.raises(MergeError, match="labels, or none"):
        renorm.partial_fit(X, batch=batch)
    with pytest.raises(MissingLabelError):
        labelled.transform(X)


# ---- where a stream starts


@given(seed=seeds, power=st.sampled_from([-150, -8, 0, 8, 150]), offset=st.sampled_from([0.0, -3.0, 1e8]))
@settings(max_examples=30)
def test_from_its_first_batch_a_stream_has_no_unit(seed, power, offset):
    X, batch = stream(seed)
    X = np.round(X * 16) / 16  # so that an offset of 1e8 loses nothing, nor squares at 1e-150
    renorm = RenormCorrector(start="first", eps=0.0, r_max=2.0, d_max=1.5)
    want = clone(renorm).fit_transform(X, batch=batch)
    raw = (X + offset) * 10.0**power
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataScaleWarning)
        got = clone(renorm).fit_transform(raw, batch=batch)
    # the raw values hold their spread, of 0.03 at the least, to eps * offset
    assert_allclose(got, want, rtol=1e-9, atol=1e-12 + 1e-12 * abs(offset))


@pytest.mark.parametrize("momentum", MOMENTA, ids=str)
def test_the_first_batch_founds_the_population(momentum):
    X, batch = stream(1, least=3)
    first = X[batch == batch[0]] * 7 + 1e4
    renorm = RenormCorrector(start="first", momentum=momentum, r_max=INF, d_max=INF, eps=0.0)
    out = renorm.fit_transform(first, batch="a")
    assert_allclose(out.mean(axis=0), 0.0, atol=1e-9)
    assert_allclose(out.std(axis=0), 1.0, rtol=1e-9)
    assert_allclose(renorm.running_mean_, first.mean(axis=0), rtol=1e-12)
    assert_allclose(renorm.running_var_, first.var(axis=0, ddof=1), rtol=1e-9)


@pytest.mark.parametrize("momentum", MOMENTA, ids=str)
def test_without_spread_a_first_batch_founds_the_mean_only(momentum):
    X = np.array([[5.0], [1.0], [3.0], [8.0], [10.0]])
    renorm = RenormCorrector(start="first", momentum=momentum, eps=0.0)
    out = renorm.fit_transform(X, batch=["a", "b", "b", "c", "c"])
    assert out[:3].ravel().tolist() == [0.0, -1.0, 1.0]  # not divided; then by itself
    assert renorm.population_.freedom[0] > 0
    assert renorm.running_var_[0] > 0


def test_raw_values_are_told_of():
    X, batch = stream(1, least=2)
    with pytest.warns(DataScaleWarning, match=r"4 features .* far from mean 0 and variance 1 .*start='first'"):
        RenormCorrector().fit(X + 1e4, batch=batch)
    with pytest.warns(DataScaleWarning, match=r"so small a variance .* eps=1e-05 .* Use eps=0"):
        RenormCorrector(start="first").fit(X * 1e-4, batch=batch)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataScaleWarning)
        RenormCorrector(start="first", eps=0.0).fit(X * 1e-4 + 1e4, batch=batch)
        RenormCorrector(r_max=1, d_max=0).fit(X + 1e4, batch=batch)
        few = RenormCorrector().partial_fit(X[:2] + 1e4, batch="few")  # too few to tell
    with pytest.warns(DataScaleWarning, match="far from mean 0"):
        few.partial_fit(X + 1e4, batch=batch)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataScaleWarning)
        few.partial_fit(X + 1e4, batch=np.char.add(batch, "again"))  # it was said


# ---- small batches


@pytest.mark.parametrize("offset", [0.0, 1e8, 1e-150])
def test_a_constant_is_d_to_the_last_bit(offset):
    X = np.array([[0.0, 1.0], [2.0, 3.0], [0.1, 5.0], [0.1, 6.0], [0.1, 9.0]])
    X[:, 0] += offset
    with pytest.warns(ConstantFeatureWarning, match=r"1 feature \(number 0\) is constant within a batch"):
        renorm = RenormCorrector(start="first", eps=0.0, d_max=0.3).fit(X, batch=["a", "a", "b", "b", "b"])
    out = renorm.transform(X, batch=["a", "a", "b", "b", "b"])
    assert out[2:, 0].tolist() == [renorm.d_[1, 0]] * 3
    # other rows of the batch are scaled by the population: nothing is divided by noise
    more = renorm.transform(X + np.array([1.0, 0.0]), batch="b")
    assert_allclose(more[2:, 0] - out[2:, 0], 1.0 / np.sqrt(2.0), rtol=1e-6)


def test_noise_is_no_spread():
    X = np.array([[1.0], [2.0], [1e6], [1e6 * (1 + 4e-16)]])
    out = RenormCorrector(start="first", eps=0.0).fit_transform(X, batch=["a", "a", "b", "b"])
    assert_allclose(out[2:], 5.0, atol=1e-9)


def test_one_row_is_d():
    X, batch = stream(1, least=3)
    renorm = RenormCorrector(d_max=0.5).fit(X, batch=batch)
    var = renorm.running_var_
    with pytest.warns(SingletonBatchWarning, match="1 batch has one row"):
        renorm.partial_fit(X[:1] + 3.0, batch="alone")
    k = renorm.batches_.tolist().index("alone")
    assert_array_equal(renorm.transform(X[:1] + 3.0, batch="alone")[0], renorm.d_[k])
    assert_array_equal(renorm.running_var_, var)


def test_a_feature_that_a_batch_has_not_stays():
    X, batch = stream(1, least=3)
    renorm = RenormCorrector(handle_unknown="pooled").fit(X, batch=batch)
    mean, steps = renorm.running_mean_[1], renorm.population_.steps
    gap = X[:3].copy()
    gap[:, 1] = np.nan
    pooled = renorm.transform(X, batch="plate99")
    with pytest.warns(MissingFeatureWarning, match=r"1 feature \(number 1\) is without observed value"):
        renorm.partial_fit(gap, batch="gap")
    assert renorm.running_mean_[1] == mean
    assert np.isnan(renorm.transform(gap, batch="gap")[:, 1]).all()
    assert_allclose(renorm.transform(X, batch="gap")[:, 1], pooled[:, 1], rtol=1e-12)
    renorm.partial_fit(np.full((2, 4), np.nan), batch="nothing")
    assert renorm.population_.steps == steps + 1  # nothing is no step


@pytest.mark.parametrize("momentum", MOMENTA, ids=str)
def test_float32_stays(momentum):
    X, batch = stream(1)
    X = X + 20.0
    renorm = RenormCorrector(momentum=momentum, start="first")
    single = clone(renorm).fit(X.astype(np.float32), batch=batch)
    out = single.transform(X.astype(np.float32), batch=batch)
    assert out.dtype == np.float32
    assert single.running_mean_.dtype == np.float64
    want = clone(renorm).fit(X.astype(np.float32).astype(np.float64), batch=batch)
    assert_allclose(out, want.transform(X.astype(np.float32).astype(np.float64), batch=batch), rtol=1e-5, atol=1e-5)
    back = single.inverse_transform(out, batch=batch)
    assert back.dtype == np.float32
    assert_allclose(back, X, rtol=1e-5)


@pytest.mark.parametrize("momentum", MOMENTA, ids=str)
@given(seed=seeds)
@settings(max_examples=4)
def test_the_inverse_goes_back(momentum, seed):
    X, batch = stream(seed)
    X[1, 1] = np.nan
    renorm = RenormCorrector(momentum=momentum, start="first", r_max=INF, d_max=INF, handle_unknown="pooled")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataScaleWarning)
        renorm.fit(X, batch=batch)
    for labels in (batch, "plate99"):
        back = renorm.inverse_transform(renorm.transform(X, batch=labels), batch=labels)
        assert_allclose(back, X, rtol=1e-9, atol=1e-9)


# ---- unknown batches


def test_a_new_batch_is_mapped_as_asked():
    X, batch = stream(2)
    known, new = X[batch != "plate3"], X[batch == "plate3"] + 1.0
    fitted = RenormCorrector(r_max=1.5, d_max=0.5).fit(known, batch=batch[batch != "plate3"])
    state = pickle.dumps(fitted)
    with pytest.raises(UnknownBatchError, match="Batch 'plate3' was not seen in fit"):
        fitted.transform(new, batch="plate3")
    out = fitted.set_params(handle_unknown="nan").transform(new, batch="plate3")
    assert np.isnan(out).all()
    pooled = fitted.set_params(handle_unknown="pooled").transform(new, batch="plate3")
    assert_allclose(pooled, (new - fitted.running_mean_) / np.sqrt(fitted.running_var_ + 1e-5), rtol=1e-12)
    adapted = fitted.adapt(new, batch="plate3")
    on_the_fly = fitted.set_params(handle_unknown="adapt").transform(new, batch="plate3")
    fitted.set_params(handle_unknown="error")
    assert pickle.dumps(fitted) == state  # no step was taken
    next_step = pickle.loads(state).partial_fit(new, batch="plate3").transform(new, batch="plate3")
    assert_array_equal(adapted.transform(new, batch="plate3"), next_step)
    assert_array_equal(on_the_fly, next_step)
    assert adapted.population_ is fitted.population_
    assert adapted.d_.shape == (9, 4)
    assert adapted.batches_.tolist()[-1] == "plate3"
    with pytest.raises(MergeError, match="partial_fit wants a corrector as it was fitted"):
        adapted.partial_fit(new, batch="plate9")
    with pytest.raises(BatchfixError, match=r"got \{'plate1'\}"):
        fitted.adapt(new, batch="plate1")
    with pytest.raises(TooFewSamplesError, match="got only NaN"):
        fitted.adapt(np.full((2, 4), np.nan), batch="plate3")


# ---- merging


@pytest.mark.parametrize("start", ["standard", "first"])
@pytest.mark.parametrize("momentum", [None, "moments"], ids=str)
@given(seed=seeds)
@settings(max_examples=5)
def test_populations_without_order_merge(momentum, start, seed):
    X, batch = stream(seed, least=2 if (momentum, start) == (None, "standard") else 1)
    here = np.isin(batch, in_order(batch)[:4])
    renorm = RenormCorrector(momentum=momentum, start=start, handle_unknown="pooled")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataScaleWarning)
        a = clone(renorm).fit(X[here], batch=batch[here])
        b = clone(renorm).fit(X[~here], batch=batch[~here])
        whole = clone(renorm).fit(X, batch=batch)
    both = a.merge(b)
    assert_allclose(both.running_mean_, whole.running_mean_, rtol=1e-12, atol=1e-12)
    assert_allclose(both.running_var_, whole.running_var_, rtol=1e-12)
    assert both.population_.steps == 9
    assert both.order_.tolist() == in_order(batch)
    # every batch keeps the map that it was given
    assert_array_equal(both.transform(X[here], batch=batch[here]), a.transform(X[here], batch=batch[here]))
    assert_array_equal(both.transform(X[~here], batch=batch[~here]), b.transform(X[~here], batch=batch[~here]))
    assert_allclose(b.merge(a).running_var_, both.running_var_, rtol=1e-12)
    # and the stream goes on
    new = X[:4] + 0.5
    went_on = both.partial_fit(new, batch="new").transform(new, batch="new")
    assert_allclose(went_on, whole.partial_fit(new, batch="new").transform(new, batch="new"), rtol=1e-9, atol=1e-9)


def test_what_does_not_merge_says_why():
    X, batch = stream(3, least=2)
    a = RenormCorrector().fit(X, batch=batch)
    b = RenormCorrector().fit(X, batch=np.char.add(batch, "b"))
    with pytest.raises(MergeError, match=r"order of batches does not matter, got momentum=0\.1"):
        a.merge(b)
    average = RenormCorrector(momentum=None)
    with pytest.raises(MergeError, match=r"whole, in one of the two streams, got \{'plate0', 'plate1'"):
        clone(average).fit(X, batch=batch).merge(clone(average).fit(X, batch=batch))
    with pytest.raises(MergeError, match="equal parameters"):
        clone(average).fit(X, batch=batch).merge(b)
    with pytest.raises(MergeError, match="a batch of one value meets start='standard'"):
        average.fit(X[:1], batch="one").merge(clone(average).fit(X, batch=batch))
    with pytest.raises(MergeError, match=r"got momentum=0\.1"):  # what was streamed counts
        a.set_params(momentum=None).merge(b.set_params(momentum=None))


# ---- parameters


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"r_max": 0.5}, "r_max must be a number, at least 1, .* got 0.5"),
        ({"r_max": float("nan")}, "r_max must be .* got nan"),
        ({"r_max": "3"}, "r_max must be .* got '3'"),
        ({"r_max": True}, "r_max must be .* got True"),
        ({"r_max": None}, "r_max must be .* got None"),
        ({"r_max": [(0, 1.0), (5, 0.5)]}, "r_max must be .* got 0.5 at some step"),
        ({"r_max": [(5, 1.0), (5, 2.0)]}, "r_max must be .* must rise"),
        ({"r_max": [1.0, 2.0]}, "r_max must be .* knots"),
        ({"r_max": []}, "r_max must be .* one or more knots"),
        ({"d_max": -1.0}, "d_max must be a number, at least 0, .* got -1.0"),
        ({"d_max": float("nan")}, "d_max must be .* got nan"),
        ({"d_max": [(0, INF)]}, "d_max must be .* finite"),
        ({"schedule": 5}, "schedule must be the two steps .* got 5"),
        ({"schedule": (5, 5)}, "schedule must be the two steps"),
        ({"schedule": (-1, 5)}, "schedule must be the two steps"),
        ({"schedule": (0, INF)}, "schedule must be the two steps"),
        ({"schedule": (0, "5")}, "schedule must be the two steps"),
        ({"schedule": (0, 5), "r_max": INF}, "r_max must be a finite number where there is a schedule"),
        ({"schedule": (0, 5), "d_max": [(0, 0.0)]}, "d_max must be a finite number where there is a schedule"),
        ({"momentum": 0.0}, "momentum must be .* got 0.0"),
        ({"momentum": 1.1}, "momentum must be .* got 1.1"),
        ({"momentum": float("nan")}, "momentum must be .* got nan"),
        ({"momentum": True}, "momentum must be .* got True"),
        ({"momentum": "mean"}, "momentum must be .* got 'mean'"),
        ({"momentum": [0.1]}, "momentum must be .* got"),
        ({"eps": -1e-5}, "eps must be .* got -1e-05"),
        ({"eps": INF}, "eps must be .* got inf"),
        ({"eps": None}, "eps must be .* got None"),
        ({"start": "zero"}, "'start' parameter"),
        ({"handle_unknown": "reference"}, "'handle_unknown' parameter"),
    ],
    ids=str,
)
def test_parameters_that_make_no_sense(parameters, message):
    X, batch = stream()
    with pytest.raises(BatchfixError, match=f"(?s){message}") as raised:
        RenormCorrector(**parameters).fit(X, batch=batch)
    assert "\n" not in str(raised.value)


def test_numbers_of_numpy_are_numbers():
    X, batch = stream()
    given_ = {"r_max": np.float32(2), "d_max": np.int64(1), "momentum": np.float32(0.5), "eps": np.float64(1e-5)}
    want = RenormCorrector(r_max=2, d_max=1, momentum=0.5).fit_transform(X, batch=batch)
    assert_array_equal(RenormCorrector(**given_).fit_transform(X, batch=batch), want)


def test_there_is_nothing_to_keep():
    X, batch = stream()
    for verb in ("fit", "partial_fit", "fit_transform"):
        with pytest.raises(BatchfixError, match="keep must be None in RenormCorrector, got dict: a step"):
            getattr(RenormCorrector(), verb)(X, batch=batch, keep={"age": np.ones(len(X))})
    fitted = RenormCorrector().fit(X, batch=batch)
    for verb in ("transform", "inverse_transform", "adapt"):
        with pytest.raises(BatchfixError, match="keep must be None"):
            getattr(fitted, verb)(X, batch=batch, keep={"age": np.ones(len(X))})


# ---- scikit-learn's manners


@pytest.mark.parametrize(
    "estimator",
    [
        RenormCorrector(),
        RenormCorrector(momentum=None, start="first", eps=0.0),
        RenormCorrector(momentum="moments", schedule=(1, 4), handle_unknown="pooled"),
    ],
    ids=str,
)
@pytest.mark.parametrize("with_routing", [False, True])
def test_every_estimator_check_passes(estimator, with_routing):
    with sklearn.config_context(enable_metadata_routing=with_routing), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(estimator, on_fail=None, on_skip=None)
    assert len(results) > 40
    failed = [(r["check_name"], r["exception"]) for r in results if r["status"] == "failed"]
    assert failed == []
    assert [r["check_name"] for r in results if r["status"] == "skipped"] in ([], ["check_array_api_input"])


def test_keys_index_levels_and_positions_say_the_same():
    X, batch = stream()
    want = RenormCorrector().fit_transform(X, batch=batch)
    table = pd.DataFrame(X, columns=list("abcd"), index=pd.RangeIndex(100, 100 + len(X))).assign(plate=batch)
    by_column = RenormCorrector(batch_key="plate")
    out = by_column.fit_transform(table)
    assert list(out.columns) == list("abcd") == by_column.get_feature_names_out().tolist()
    assert out.index.equals(table.index)
    assert_array_equal(out.to_numpy(), want)
    level = table.set_index("plate", append=True)
    assert_array_equal(RenormCorrector(batch_key="plate").fit_transform(level).to_numpy(), want)
    order = np.array(in_order(batch))
    codes = np.array([order.tolist().index(label) for label in batch], dtype=np.float64)
    assert_array_equal(RenormCorrector(batch_key=4).fit_transform(np.column_stack([X, codes])), want)
    # by index, not by position
    shuffled = pd.Series(batch, index=table.index).sample(frac=1.0, random_state=0)
    features = table.drop(columns="plate")
    assert_array_equal(RenormCorrector().fit_transform(features, batch=shuffled).to_numpy(), want)
    with pytest.raises(AlignmentError):
        RenormCorrector().fit(features, batch=shuffled.reset_index(drop=True))


@pytest.mark.parametrize("container", ["pandas", "polars"])
@pytest.mark.parametrize("source", ["array", "pandas", "polars"])
def test_output_containers(source, container):
    X, batch = stream()
    names = list("abcd")
    table: Any = {"array": X, "pandas": pd.DataFrame(X, columns=names), "polars": pl.DataFrame(X, schema=names)}[source]
    out = RenormCorrector().set_output(transform=container).fit_transform(table, batch=batch)
    assert isinstance(out, pd.DataFrame if container == "pandas" else pl.DataFrame)
    assert_array_equal(out.to_numpy(), RenormCorrector().fit_transform(X, batch=batch))
    if source != "array":
        assert isinstance(RenormCorrector().fit_transform(table, batch=batch), type(table))


def test_a_pipeline_routes_batch_and_takes_keep_elsewhere():
    X, batch = stream(1, least=4)
    age = np.random.default_rng(0).normal(50.0, 9.0, len(X))
    with sklearn.config_context(enable_metadata_routing=True):
        pipe = make_pipeline(RenormCorrector(), StandardScaler())
        out = pipe.fit_transform(X, batch=batch)
        assert_allclose(out, StandardScaler().fit_transform(RenormCorrector().fit_transform(X, batch=batch)))
        assert_allclose(pipe.inverse_transform(out, batch=batch), X, rtol=1e-9, atol=1e-9)
        make_pipeline(RenormCorrector(), ComBat()).fit(X, batch=batch, keep={"age": age})
        with pytest.raises(TypeError, match="keep"):  # nobody would heed it
            pipe.fit(X, batch=batch, keep={"age": age})


def test_cross_validation_finds_batches_in_a_column():
    X, batch = stream(1, batches=20, least=4)
    y = (np.random.default_rng(0).random(len(X)) < 0.5).astype(int)
    table = pd.DataFrame(X, columns=list("abcd")).assign(plate=batch)
    table["a"] += 3.0 * y
    model = make_pipeline(RenormCorrector(batch_key="plate", handle_unknown="pooled"), LogisticRegression())
    assert cross_val_score(model, table, y, scoring="roc_auc", cv=3, error_score="raise").mean() > 0.8


def test_a_clone_a_pickle_and_a_store_bring_it_back():
    skops = pytest.importorskip("skops.io")
    X, batch = stream()
    renorm = RenormCorrector(r_max=[(0, 1.0), (3, 2.0)], momentum=None).fit(X, batch=batch)
    assert clone(renorm).get_params() == renorm.get_params()
    want = renorm.transform(X, batch=batch)
    again = pickle.loads(pickle.dumps(renorm))
    assert_array_equal(again.transform(X, batch=batch), want)
    stored = skops.dumps(renorm)
    unknown = skops.get_untrusted_types(data=stored)
    assert all(name.startswith("batchfix.") for name in unknown), unknown
    loaded = skops.loads(stored, trusted=unknown)
    assert_array_equal(loaded.transform(X, batch=batch), want)
    for stream_ in (again, loaded):
        stream_.partial_fit(X, batch="new")
    assert_array_equal(again.transform(X, batch="new"), loaded.transform(X, batch="new"))


def test_a_stream_holds_no_rows():
    def size(rows: int) -> int:
        X = np.random.default_rng(0).normal(size=(rows, 4))
        return len(pickle.dumps(RenormCorrector().fit(X, batch=np.arange(rows) % 5)))

    assert abs(size(5000) - size(50)) < 200


def test_in_place():
    X, batch = stream()
    want = RenormCorrector().fit_transform(X, batch=batch)
    table = X.copy()
    out = RenormCorrector(copy=False).fit_transform(table, batch=batch)
    assert out is table or np.shares_memory(out, table)
    assert_array_equal(out, want)


@pytest.mark.parametrize("handle_unknown", ["error", "pooled"])
def test_a_stream_becomes_a_layer(handle_unknown):
    X, batch = stream()
    renorm = RenormCorrector(handle_unknown=handle_unknown).fit(X, batch=batch)
    layer = to_torch(renorm, dtype=torch.float64)
    labels = batch.copy()
    if handle_unknown == "pooled":
        labels[:3] = "plate99"
    got = layer(torch.tensor(X), layer.batch_codes(labels))
    assert_allclose(got.numpy(), renorm.transform(X, batch=labels), rtol=1e-10, atol=1e-10)
    back = to_torch(renorm, inverse=True, dtype=torch.float64)
    assert_allclose(back(got, back.batch_codes(labels)).numpy(), X, rtol=1e-9, atol=1e-9)
