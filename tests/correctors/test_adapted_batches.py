"""New batches against what one fit on all rows says, whatever the unit, the gaps and the ties; and thin evidence."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from batchfix import BatchCorrector, ComBat, LinearCorrector
from batchfix.exceptions import AdaptationWarning, BatchfixError, BatchfixWarning, NothingToCorrectWarning

RNG = np.random.default_rng(5)
N, P = 90, 20
BATCH = np.repeat(["a", "b", "c"], 30)
GROUP = np.tile(["x", "y"], 45)
NEW = BATCH == "c"
X = RNG.normal(size=(N, P)) * np.r_[np.full(10, 0.3), np.full(10, 3.0)] + 2.0 * (GROUP == "y")[:, None]
X[NEW] *= np.r_[0.05, np.exp(RNG.normal(0, 1.5, P - 1))]

every = pytest.mark.parametrize(
    "model",
    [
        ComBat(),
        ComBat(parametric=False),
        BatchCorrector(),
        BatchCorrector(shrinkage="eb"),
        BatchCorrector(target="standard"),
        BatchCorrector(location="median", scale="mad"),
        BatchCorrector(reference_batch="a"),
        LinearCorrector(),
    ],
    ids=str,
)


def quietly(call):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", BatchfixWarning)
        return call()


def adapted(model, table, **keep):
    """Fit to batches a and b, then learn c."""
    told = {name: {"keep": keep["keep"][rows]} if keep else {} for name, rows in (("old", ~NEW), ("new", NEW))}
    fitted = model.fit(table[~NEW], batch=BATCH[~NEW], **told["old"])
    return fitted.adapt(table[NEW], batch="c", **told["new"])


# ---- the guard


def tied(share: float = 28 / 30) -> np.ndarray:
    table = X.copy()
    table[NEW, 0] = np.where(np.arange(30) < share * 30, 0.0, table[NEW, 0] + 0.3)
    return table


def test_the_guard_holds_for_new_batches():
    table = tied()
    whole = ComBat(scale_guard=0.2).fit(table, batch=BATCH, keep=GROUP)
    part = adapted(ComBat(scale_guard=0.2), table, keep=GROUP)
    assert whole.affine_.scale[2, 0] == part.affine_.scale[2, 0] == 1
    assert (part.affine_.scale[2, 1:] != 1).all()
    assert_array_equal(part.delta_star_[2, 0], 1)
    without = adapted(ComBat(), table, keep=GROUP)
    assert without.affine_.scale[2, 0] < 0.9
    assert_array_equal(part.affine_.scale[:2], without.affine_.scale[:2])  # what is known is frozen


def test_the_guard_holds_on_the_fly():
    table = tied()
    model = ComBat(scale_guard=0.2, handle_unknown="adapt").fit(table[~NEW], batch=BATCH[~NEW])
    got = model.transform(table[NEW], batch="c")
    assert_array_equal(np.diff(got[:28, 0]), 0)
    assert_allclose(got[:, 0] - table[NEW, 0], got[0, 0])


def test_what_may_be_scaled_can_be_told():
    table = tied()
    present = table != 0
    fitted = ComBat(scale_guard=0.2).fit(table[~NEW], batch=BATCH[~NEW], scale_where=present[~NEW])
    told = fitted.adapt(table[NEW], batch="c", scale_where=present[NEW])
    read = adapted(ComBat(scale_guard=0.2), table)
    assert_allclose(told.affine_.scale, read.affine_.scale)
    fitted = ComBat(scale_guard=0.2, handle_unknown="adapt")
    fitted.fit(table[~NEW], batch=BATCH[~NEW], scale_where=present[~NEW] & (np.arange(60) % 7 > 0)[:, None])
    with pytest.warns(AdaptationWarning, match=r"without scale_where.*only located"):
        untold = fitted.adapt(table[NEW], batch="c")
    assert_array_equal(untold.affine_.scale[2], np.ones(P))
    with pytest.warns(AdaptationWarning, match="scale_where"):
        fitted.transform(table[NEW], batch="c")


def test_features_that_may_be_scaled_are_told_once():
    features = np.arange(P) != 3
    fitted = ComBat(scale_guard=0.2).fit(X[~NEW], batch=BATCH[~NEW], scale_where=features)
    scale = fitted.adapt(X[NEW], batch="c").affine_.scale[2]
    assert_array_equal(scale != 1, features)


def test_scale_where_is_checked_in_adapt_as_in_fit():
    fitted = ComBat().fit(X[~NEW], batch=BATCH[~NEW])
    with pytest.raises(BatchfixError, match="must come with scale_guard"):
        fitted.adapt(X[NEW], batch="c", scale_where=np.ones(P, dtype=bool))
    fitted = ComBat(scale_guard=0.2).fit(X[~NEW], batch=BATCH[~NEW])
    with pytest.raises(BatchfixError, match=r"boolean of shape \(30, 20\)"):
        fitted.adapt(X[NEW], batch="c", scale_where=np.ones(3, dtype=bool))


def test_two_new_batches_have_ties_of_their_own():
    table, label = tied(), np.where(np.arange(30) % 2, "d", "c")
    table[NEW, 5] = np.where(label == "d", 1.25, table[NEW, 5])
    both = ComBat(scale_guard=0.2).fit(table[~NEW], batch=BATCH[~NEW]).adapt(table[NEW], batch=label)
    assert_array_equal(both.affine_.scale[2:, [0, 5]] == 1, [[True, False], [True, True]])


# ---- features of which fit knows little


@every
@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("known", [5.0, np.nan], ids=["without spread in fit", "never observed in fit"])
def test_a_feature_fit_knows_little_of_is_not_scaled(model, unit, known):
    table = X * unit
    table[~NEW, 0] = known * unit
    table[NEW] += 3 * unit
    new = quietly(lambda: adapted(model, table))
    got = quietly(lambda: new.transform(table[NEW], batch="c"))
    assert_allclose(np.diff(got[:, 0]), np.diff(table[NEW, 0]), atol=1e-9 * unit)
    if np.isnan(known):
        assert_array_equal(got[:, 0], table[NEW, 0])
    elif not isinstance(model, ComBat):  # which leaves it, as in fit
        centre = np.median if model.get_params().get("location") == "median" else np.mean
        at = 0.0 if model.get_params().get("target") == "standard" else 5.0
        assert centre(got[:, 0]) == pytest.approx(at * unit, abs=1e-9 * unit)


@every
def test_other_features_do_not_hear_of_it(model):
    want = quietly(lambda: adapted(model, X[:, 1:]))
    for known in (5.0, 5e6, np.nan):
        table = X.copy()
        table[~NEW, 0] = known
        got = quietly(lambda table=table: adapted(model, table))
        assert_allclose(got.affine_.scale[:, 1:], want.affine_.scale, rtol=1e-10)
        assert_allclose(got.affine_.center[:, 1:], want.affine_.center, rtol=1e-9)


def test_a_feature_never_observed_in_fit_is_named():
    table = X.copy()
    table[~NEW, 4] = np.nan
    with pytest.warns(AdaptationWarning, match=r"1 feature \(number 4\) is observed in batch 'c' and in no row of fit"):
        adapted(LinearCorrector(), table)


# ---- no spread but rounding


def noise(level: float, dtype: type) -> np.ndarray:
    up = np.nextafter(dtype(level), dtype(np.inf))
    return np.where(np.arange(30) % 3 == 0, up, dtype(level)).astype(dtype)


@every
@pytest.mark.parametrize("dtypes", [(np.float64, np.float32), (np.float32, np.float64), (np.float32, np.float32)])
def test_rounding_in_a_new_batch_is_no_spread(model, dtypes):
    old, new = (100 + X[~NEW]).astype(dtypes[0]), (100 + X[NEW]).astype(dtypes[1])
    fitted = model.fit(old, batch=BATCH[~NEW])
    maps = {}
    for name, column in {"still": np.full(30, 100.0), "noisy": noise(100.0, dtypes[1])}.items():
        rows = new.copy()
        rows[:, 0] = column
        maps[name] = quietly(lambda rows=rows: fitted.adapt(rows, batch="c")).affine_.scale[2]
    assert_allclose(maps["noisy"], maps["still"], rtol=1e-5)


def test_rounding_has_no_say_in_a_new_batchs_prior():
    rows = 100 + X[NEW]
    fitted = ComBat().fit(100 + X[~NEW], batch=BATCH[~NEW], keep=GROUP[~NEW])
    scales = []
    for column in (np.full(30, 100.0), 100 + np.where(np.arange(30) % 3, 0, 1e-14)):
        rows[:, 0] = column
        scales.append(fitted.adapt(rows, batch="c", keep=GROUP[NEW]).affine_.scale[2])
    assert scales[0][0] == scales[1][0] == 1
    assert_allclose(scales[0], scales[1], rtol=1e-10)


# ---- features alone in their batch


@pytest.mark.parametrize("parametric", [True, False])
def test_a_feature_alone_with_a_variance_is_corrected(parametric):
    table = X[:, 10:13].copy()
    table[1:30, :2] = np.nan
    model = ComBat(parametric=parametric).fit(table, batch=BATCH)
    got = model.transform(table, batch=BATCH)
    assert_array_equal(np.isnan(got), np.isnan(table))
    assert model.delta_star_[0, 2] == pytest.approx(model.delta_hat_[0, 2])
    new = quietly(lambda: ComBat(parametric=parametric).fit(X[~NEW, :3], batch=BATCH[~NEW]))
    still = X[NEW, :3].copy()
    still[:, :2] = [1.0, 2.0]
    assert np.isfinite(quietly(lambda: new.adapt(still, batch="c")).transform(still, batch="c")).all()


@pytest.mark.parametrize("parametric", [True, False])
def test_a_batch_without_any_variance_is_located(parametric):
    table = X[:, :5].copy()
    table[1:30] = np.nan
    model = ComBat(parametric=parametric).fit(table, batch=BATCH)
    got = model.transform(table, batch=BATCH)
    assert_array_equal(np.isnan(got), np.isnan(table))
    assert_array_equal(model.delta_star_[0], np.ones(5))
    rows = X[NEW, :5].copy()
    rows[1:] = np.nan
    assert np.isfinite(model.adapt(rows, batch="new").transform(X[:, :5], batch="new")).all()


# ---- several batch factors, and words


@pytest.mark.parametrize("reference", [False, True])
def test_an_unknown_label_costs_only_its_own_effect(reference):
    plate = np.array(list("uvw"))[RNG.integers(0, 3, N)]
    table = X + 3.0 * (plate == "v")[:, None] + 5.0 * (BATCH == "b")[:, None]
    strange = np.where(np.arange(N) % 4 == 0, "never", plate)
    results = []
    for order in ((0, 1), (1, 0)):
        labels = np.column_stack([BATCH, plate])[:, order]
        asked = np.column_stack([BATCH, strange])[:, order]
        about = tuple(np.array(["b", "u"])[list(order)]) if reference else None
        model = LinearCorrector(handle_unknown="pooled", reference_batch=about).fit(table, batch=labels)
        results.append(model.transform(table, batch=asked))
        assert_allclose(model.inverse_transform(results[-1], batch=asked), table, atol=1e-12)
        assert_allclose(results[-1][strange == plate], model.transform(table, batch=labels)[strange == plate])
        nothing = LinearCorrector(handle_unknown="nan").fit(table, batch=labels).transform(table, batch=asked)
        assert_array_equal(np.isnan(nothing).all(axis=1), strange != plate)
    if not reference:
        assert_allclose(results[0], results[1], atol=1e-10)
    # the known factor's effect is gone from the rows of an unknown plate
    known = LinearCorrector(reference_batch="b" if reference else None)
    known.fit(table, batch=BATCH, nuisance={"plate": plate})
    gone = np.diff(known.affine_.shift - known.affine_.center, axis=0)
    moved = results[0] - table
    for k, (a, b) in enumerate(("ab", "bc")):
        rows = [np.flatnonzero((strange == "never") & (label == BATCH))[0] for label in (a, b)]
        assert_allclose(moved[rows[1]] - moved[rows[0]], gone[k], atol=1e-10)


@every
def test_a_batch_is_adapted_once(model):
    new = adapted(model, X)
    with pytest.raises(BatchfixError, match=r"got \{'c'\} a second time. Call adapt\(\) on the corrector as it was"):
        new.adapt(X[NEW], batch="c")
    with pytest.raises(BatchfixError, match=r"did not see, got \{'a'\}"):
        new.adapt(X[NEW], batch="a")


@pytest.mark.parametrize("model", [ComBat(), BatchCorrector(), LinearCorrector()], ids=str)
def test_one_batch_learned_in_parts_is_warned_of_when_it_is_used(model):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.partial_fit(X[:10], batch="a").partial_fit(X[10:30], batch="a")
    with pytest.warns(NothingToCorrectWarning, match="two batches"):
        got = model.transform(X[:30], batch="a")
    assert_array_equal(got, X[:30])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.partial_fit(X[30:60], batch="b").transform(X[:30], batch="a")


def test_a_standard_target_has_no_reference():
    with pytest.raises(BatchfixError, match=r"target='pooled', got reference_batch='a' and target='standard'"):
        BatchCorrector(target="standard", reference_batch="a").fit(X, batch=BATCH)
