"""Hostile input: right numbers, or an error of ours that says what to do; never a silent wrong number.

Numbers are compared with the slow references below, one feature at a time, which share no code with the library.
"""

import warnings
from functools import partial

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

from batchfix import BatchCorrector, ComBat, LinearCorrector
from batchfix.exceptions import (
    AdaptationWarning,
    AlignmentError,
    AmbiguousKeepError,
    BatchfixError,
    BatchfixWarning,
    ConfoundedDesignError,
    ConstantFeatureWarning,
    CopyWarning,
    DataScaleWarning,
    EstimabilityWarning,
    MergeError,
    MissingFeatureWarning,
    MissingLabelError,
    NothingToCorrectWarning,
    SingletonBatchWarning,
    TooFewFeaturesError,
    TooFewSamplesError,
    UnknownBatchError,
    UnknownLevelError,
)

N, P = 30, 8
RNG = np.random.default_rng(20)
BATCH = np.repeat(["p1", "p2", "p3"], 10)
CODE = np.repeat([1, 2, 3], 10)
GROUP = np.tile(["A", "B"], 15)
AGE = RNG.normal(50, 10, size=N)
X = RNG.normal(size=(N, P)) * np.where(BATCH == "p3", 1.5, 1.0)[:, None] + 2.0 * (BATCH == "p2")[:, None] + 5.0
X.flags.writeable = False
BITS = RNG.random((N, P)) > 0.5
TABLE = pd.DataFrame(X, index=[f"s{i}" for i in range(N)], columns=[f"f{j}" for j in range(P)])

ALL = {
    "combat": ComBat,
    "combat-nonparametric": partial(ComBat, parametric=False),
    "combat-mean-only": partial(ComBat, mean_only=True),
    "combat-guarded": partial(ComBat, scale_guard=0.2),
    "combat-reference": partial(ComBat, reference_batch="p1"),
    "linear": LinearCorrector,
    "batch": BatchCorrector,
    "batch-robust": partial(BatchCorrector, location="median", scale="mad"),
    "batch-standard": partial(BatchCorrector, target="standard"),
    "batch-shrunk": partial(BatchCorrector, shrinkage="eb"),
    "batch-reference": partial(BatchCorrector, reference_batch="p2"),
    "batch-location": partial(BatchCorrector, scale=None),
    "batch-scale": partial(BatchCorrector, location=None),
}
SOME = {k: ALL[k] for k in ("combat", "linear", "batch")}
KEEPING = {k: v for k, v in ALL.items() if k != "batch-robust"}
FREE = {k: v for k, v in ALL.items() if "reference" not in k}

# What scikit-learn says itself, and says well.
SKLEARN = (
    r"Expected 2D array|Expected a 2-dimensional|Found array with|Sparse data was passed|Complex data not supported|"
    r"features as input|feature names should match|not fitted yet|Feature names are only supported"
)


def of(makers):
    return pytest.mark.parametrize("make", makers.values(), ids=makers.keys())


def cases(**calls):
    return pytest.mark.parametrize("case", calls.values(), ids=calls.keys())


def refuse(call, kind=BatchfixError, match=None):
    """The call raises our error (of a kind, matching), and no other warning than ours comes before it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", BatchfixWarning)
        with pytest.raises(kind, match=match) as caught:
            call()
    assert str(caught.value).strip()


def refuse_as_sklearn(call):
    with pytest.raises((ValueError, TypeError), match=SKLEARN):
        call()


def quietly(call):
    """The call's result; our warnings pass, any other is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", BatchfixWarning)
        return call()


def replaced(values, at, by):
    out = np.array(values, dtype=object)
    out[at] = by
    return out


def changed(at, by, table=X):
    out = np.array(table)
    out[at] = by
    return out


# ---- references: one feature at a time


def sva(X, batch, mod=None, *, reference=None, mean_only=False, parametric=True, constant=None):  # noqa: C901  # one reference, read beside sva's
    """ComBat as sva writes it. `mod` (n, q) holds kept columns; `constant` overrides the test of constancy."""
    X = np.asarray(X, dtype=np.float64)
    n, p = X.shape
    labels = list(dict.fromkeys(sorted(batch)))
    rows = [np.flatnonzero(np.asarray(batch) == b) for b in labels]
    if constant is None:
        constant = np.array([any(len(r) > 1 and np.ptp(X[r, j]) == 0 for r in rows) for j in range(p)])
    mean_only = mean_only or min(map(len, rows)) == 1
    onehot = np.stack([np.asarray(batch) == b for b in labels], axis=1).astype(float)
    design = onehot if mod is None else np.hstack([onehot, mod])
    ref = None if reference is None else labels.index(reference)
    active = np.flatnonzero(~constant)
    out = X.copy()
    stand, sd = np.full((n, p), np.nan), np.full(p, np.nan)
    gamma, delta = np.full((len(labels), p), np.nan), np.full((len(labels), p), np.nan)
    counts = np.zeros((len(labels), p))
    gaps = np.isnan(X[:, active]).any()
    for j in active:
        seen = ~np.isnan(X[:, j])
        known = np.array([seen[r].any() for r in rows])
        columns = np.concatenate([known, np.ones(design.shape[1] - len(labels), bool)])
        coef = np.zeros(design.shape[1])
        coef[columns] = np.linalg.lstsq(design[np.ix_(seen, columns)], X[seen, j], rcond=None)[0]
        residual = X[:, j] - design @ coef
        if ref is None:
            weight = np.array([len(r) for r in rows]) * known
            grand, scope = weight @ coef[: len(labels)] / weight.sum(), np.arange(n)
        else:
            grand, scope = coef[ref], rows[ref]
        e = residual[scope][~np.isnan(residual[scope])]
        sd[j] = np.sqrt((e**2).sum() / (len(e) - 1) if gaps else (e**2).mean())
        stand[:, j] = grand + (0 if mod is None else mod @ coef[len(labels) :])
        for k, r in enumerate(rows):
            s = (X[r, j] - stand[r, j]) / sd[j]
            s = s[~np.isnan(s)]
            counts[k, j] = len(s)
            if len(s):
                gamma[k, j] = s.mean()
            if len(s) > 1:
                delta[k, j] = 1.0 if mean_only else s.var(ddof=1)
    for k, r in enumerate(rows):
        if k == ref:
            continue
        use = [j for j in active if counts[k, j]]
        gbar, t2 = gamma[k, use].mean(), gamma[k, use].var(ddof=1)
        if not mean_only:
            m, v = np.nanmean(delta[k, use]), np.nanvar(delta[k, use], ddof=1)
            a, b = (2 * v + m**2) / v, (m * v + m**3) / v
        fit = {}
        if not parametric:
            for i in use:
                s = (X[r, i] - stand[r, i]) / sd[i]
                s = s[~np.isnan(s)]
                others = [j for j in use if j != i]
                g = gamma[k, others]
                d = np.ones(len(others)) if mean_only else delta[k, others]
                log = np.array(
                    [-0.5 * (len(s) * np.log(y) + ((s - x) ** 2).sum() / y) for x, y in zip(g, d, strict=True)]
                )
                w = np.exp(log - log.max())
                fit[i] = (w @ g / w.sum(), w @ d / w.sum())
        elif mean_only:
            fit = {i: ((t2 * gamma[k, i] + gbar) / (t2 + 1), 1.0) for i in use}
        else:
            g_old, d_old = gamma[k, use], np.where(np.isnan(delta[k, use]), b / (a - 1), delta[k, use])
            g_hat, size = gamma[k, use], counts[k, use]
            change = 1.0
            while change > 1e-4:
                g_new = (t2 * size * g_hat + d_old * gbar) / (t2 * size + d_old)
                sums = []
                for i, g in zip(use, g_new, strict=True):
                    s = (X[r, i] - stand[r, i]) / sd[i]
                    sums.append(np.nansum((s - g) ** 2))
                d_new = (0.5 * np.array(sums) + b) / (size / 2 + a - 1)
                change = max((abs(g_new - g_old) / g_old).max(), (abs(d_new - d_old) / d_old).max())
                g_old, d_old = g_new, d_new
            fit = {i: (g_old[t], d_old[t]) for t, i in enumerate(use)}
        for i, (g, d) in fit.items():
            d = 1.0 if mean_only else d
            out[r, i] = ((X[r, i] - stand[r, i]) / sd[i] - g) / np.sqrt(d) * sd[i] + stand[r, i]
    return out


def limma(X, batch, mod=None):
    """X less the batch effects, taken about the unweighted mean of the batches."""
    X = np.asarray(X, dtype=np.float64)
    labels = sorted(set(batch))
    onehot = np.stack([np.asarray(batch) == b for b in labels], axis=1).astype(float)
    design = onehot if mod is None else np.hstack([onehot, mod])
    out = X.copy()
    for j in range(X.shape[1]):
        seen = ~np.isnan(X[:, j])
        coef = np.linalg.lstsq(design[seen], X[seen, j], rcond=None)[0][: len(labels)]
        out[:, j] -= onehot @ (coef - coef.mean())
    return out


def by_batch(X, batch, *, robust=False, scale=True, standard=False, flat=None):
    """Location and scale by batch; `flat` (batches, features) marks what has no spread."""
    X = np.asarray(X, dtype=np.float64)
    labels = sorted(set(batch))
    rows = [np.flatnonzero(np.asarray(batch) == b) for b in labels]
    out = X.copy()
    for j in range(X.shape[1]):
        where, spread, count = [], [], []
        for k, r in enumerate(rows):
            x = X[r, j][~np.isnan(X[r, j])]
            where.append(np.nan if not len(x) else np.median(x) if robust else x.mean())
            s = np.nan
            if len(x) > 1:
                s = np.median(abs(x - np.median(x))) * 1.482602218505602 if robust else x.std(ddof=1)
            no_spread = s == 0 if flat is None else flat[k, j]
            spread.append(np.nan if no_spread else s)
            count.append(len(x))
        weight = np.array([len(r) for r in rows]) * ~np.isnan(where)
        at = np.nansum(weight * np.nan_to_num(where)) / weight.sum()
        freedom = np.where(np.isnan(spread), 0, np.array(count) - 1)
        pooled = np.sqrt((freedom * np.nan_to_num(spread) ** 2).sum() / freedom.sum()) if freedom.sum() else 1.0
        for k, r in enumerate(rows):
            if not count[k]:
                continue
            ratio = pooled / spread[k] if scale and not np.isnan(spread[k]) else 1.0
            out[r, j] = at + (X[r, j] - where[k]) * ratio
        if standard:
            out[:, j] = (out[:, j] - at) / pooled
    return out


REFERENCES = {
    "combat": sva,
    "combat-nonparametric": partial(sva, parametric=False),
    "combat-mean-only": partial(sva, mean_only=True),
    "combat-reference": partial(sva, reference="p1"),
    "linear": limma,
    "batch": by_batch,
    "batch-robust": partial(by_batch, robust=True),
    "batch-standard": partial(by_batch, standard=True),
    "batch-location": partial(by_batch, scale=False),
}
with_reference = pytest.mark.parametrize("name", REFERENCES)


def both(name, table, batch=BATCH, **how):
    """The library's result and the reference's."""
    got = quietly(lambda: ALL[name]().fit_transform(table, batch=batch))
    return got, REFERENCES[name](table, batch, **how)


# ---- right numbers on degenerate tables

ONE_GAP = changed((3, 2), np.nan)
GAPS = changed((slice(11, 15), 4), np.nan, ONE_GAP)
WITHIN = changed((slice(10, 20), 1), 3.3)
CONSTANT = changed((slice(None), 1), 3.3)
GONE = changed((slice(10, 20), 2), np.nan)  # in batch p2
LONE = changed((slice(11, 20), 2), np.nan)  # one value of feature 2 in batch p2
ROW_GONE = changed(5, np.nan)
SOLO = np.where(np.arange(N) == 0, "solo", BATCH)


@with_reference
@cases(plain=X, gaps=GAPS, one_gap=ONE_GAP, row_gone=ROW_GONE, within=WITHIN, constant=CONSTANT, two=X[:, :2])
def test_degenerate_tables_give_the_references_numbers(name, case):
    got, want = both(name, case)
    assert_allclose(got, want, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", [k for k in REFERENCES if k != "linear"])
def test_a_feature_gone_from_a_batch_is_estimated_from_the_others(name):
    got, want = both(name, GONE)
    assert_allclose(got, want, rtol=0, atol=1e-10)


@of(ALL)
def test_a_feature_gone_from_a_batch_is_reported(make):
    with pytest.warns(MissingFeatureWarning, match="2 in (batch )?'p2'"):
        got = make().fit_transform(GONE, batch=BATCH)
    assert_array_equal(np.isnan(got), np.isnan(GONE))


@pytest.mark.parametrize("name", [k for k in REFERENCES if k not in ("combat-nonparametric", "combat-reference")])
def test_one_observed_value_in_a_batch_is_located(name):
    got, want = both(name, LONE)
    assert_allclose(got, want, rtol=0, atol=1e-10)


@with_reference
def test_a_singleton_batch_has_the_references_numbers(name):
    got, want = both(name, X, SOLO)
    assert_allclose(got, want, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["combat", "combat-mean-only", "combat-nonparametric", "linear"])
@pytest.mark.parametrize("table", [X, GAPS], ids=["complete", "gaps"])
def test_partly_confounded_and_redundant_kept_columns(name, table):
    case = np.where((BATCH == "p1") & (np.arange(N) > 1), "case", "control")
    mod = np.column_stack([case == "case", AGE]).astype(float)
    keep = {"case": case, "age": AGE, "months": 12 * AGE + 3, "same": np.ones(N)}
    got = quietly(lambda: ALL[name]().fit_transform(table, batch=BATCH, keep=keep))
    assert_allclose(got, REFERENCES[name](table, BATCH, mod), rtol=0, atol=1e-10)


@of(ALL)
def test_one_nan_leaves_one_nan(make):
    assert_array_equal(np.isnan(make().fit_transform(ONE_GAP, batch=BATCH)), np.isnan(ONE_GAP))


@of(ALL)
@cases(row=ROW_GONE, feature=changed((slice(None), 2), np.nan), all=np.full((N, P), np.nan))
def test_what_is_wholly_missing_stays_missing(make, case):
    got = quietly(lambda: make().fit_transform(case, batch=BATCH))
    assert_array_equal(np.isnan(got), np.isnan(case))


@of(KEEPING)
def test_a_feature_missing_everywhere_leaves_the_others_numbers(make):
    table = changed((slice(None), 2), np.nan)
    others = [0, 1, 3, 4, 5, 6, 7]
    got = quietly(lambda: make().fit_transform(table, batch=BATCH))
    assert_allclose(got[:, others], make().fit_transform(X[:, others], batch=BATCH), rtol=1e-12)


@of({k: v for k, v in ALL.items() if k.startswith("combat")})
@cases(constant=CONSTANT, within=WITHIN)
def test_combat_leaves_a_constant_feature_and_says_so(make, case):
    with pytest.warns(ConstantFeatureWarning):
        got = make().fit_transform(case, batch=BATCH)
    assert_array_equal(got[:, 1], case[:, 1])


@pytest.mark.parametrize("level", [0.1, 1e8, 1e-150, -3.7e150])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@of({k: ALL[k] for k in ("combat", "batch", "batch-robust", "batch-shrunk")})
def test_rounding_noise_is_constant(make, level, dtype):
    if dtype is np.float32 and not 1e-30 < abs(level) < 1e30:
        pytest.skip("beyond float32")
    table = np.array(X, dtype=dtype)
    table[10:20, 1] = level
    table[10:20:2, 1] = np.nextafter(dtype(level), dtype(np.inf))
    with pytest.warns(ConstantFeatureWarning):
        got = make().fit_transform(table, batch=BATCH)
    spread = got[10:20, 1].astype(float).std(ddof=1)
    assert spread <= 64 * np.finfo(dtype).eps * max(abs(level), np.abs(table[:, 1]).max())


@of(
    {k: KEEPING[k] for k in ("combat", "combat-nonparametric", "combat-reference", "linear", "batch", "batch-location")}
)
@cases(factor=((GROUP == "A") * 2.0 + 1.0, {"g": GROUP}), number=((AGE - 50) * 1.7 + 3, {"g": AGE}))
def test_a_feature_that_the_kept_column_explains_keeps_its_values(make, case):
    column, keep = case
    table = changed((slice(None), 3), column)
    got = quietly(lambda: make().fit_transform(table, batch=BATCH, keep=keep))
    assert_allclose(got[:, 3], column, rtol=0, atol=1e-9)


@of({k: v for k, v in ALL.items() if k.startswith("combat") or k == "batch-shrunk"})
def test_a_feature_without_spread_has_no_say_in_the_prior(make):
    # its effect is in no unit that the others share
    flat = np.array([1.0, 4.0, 2.0])[CODE - 1]
    others = [0, 1, 2, 4, 5, 6, 7]
    want = make().fit_transform(X[:, others], batch=BATCH)
    for unit in (1.0, 1e6):
        got = quietly(lambda u=unit: make().fit_transform(changed((slice(None), 3), flat * u), batch=BATCH))
        assert_allclose(got[:, others], want, rtol=1e-10)


@of({k: v for k, v in KEEPING.items() if k not in ("combat-reference", "batch-reference")})
@pytest.mark.filterwarnings("ignore::batchfix.exceptions.ConstantFeatureWarning")
def test_missing_values_that_confound_one_feature_leave_that_feature(make):
    table = np.array(X)
    table[(GROUP == "A") & (BATCH == "p1"), 2] = np.nan
    table[(GROUP == "B") & (BATCH != "p1"), 2] = np.nan
    how = {"target": "pooled"} if isinstance(make(), BatchCorrector) else {}
    with pytest.warns(EstimabilityWarning):
        model = make(**how).fit(table, batch=BATCH, keep={"g": GROUP})
    got = model.transform(table, batch=BATCH, keep={"g": GROUP})
    assert_array_equal(got[:, 2], table[:, 2])


@of(ALL)
def test_many_tiny_batches(make):
    rng = np.random.default_rng(1)
    table, batch = rng.normal(size=(1000, 5)), np.repeat(np.arange(500), 2)
    maker = make(**({"reference_batch": 7} if make().reference_batch else {}))
    got = quietly(lambda: maker.fit_transform(table, batch=batch))
    assert np.isfinite(got).all()
    if isinstance(maker, ComBat) and maker.reference_batch is None and maker.parametric:
        assert_allclose(got, sva(table, batch, mean_only=maker.mean_only), rtol=0, atol=1e-10)


@of({k: v for k, v in ALL.items() if k.startswith("combat") or k == "batch-shrunk"})
def test_a_prior_wants_two_features(make):
    refuse(lambda: make().fit(X[:, :1], batch=BATCH), TooFewFeaturesError, "at least two")


@of({k: v for k, v in ALL.items() if k.startswith("combat")})
def test_a_batch_without_a_value_is_named(make):
    table = np.where((BATCH == "p2")[:, None], np.nan, X)
    refuse(lambda: make().fit(table, batch=BATCH), BatchfixError, "'p2'")


@pytest.mark.parametrize("name", ["linear", "batch", "batch-robust"])
def test_one_feature_is_enough_without_a_prior(name):
    got, want = both(name, X[:, :1])
    assert_allclose(got, want, rtol=0, atol=1e-10)


# ---- scale, offset, precision


@of(ALL)
@pytest.mark.parametrize("factor", [1e-150, 1e150, 1e-140])
@cases(plain=(X, None), gaps=(GAPS, None), keep=(X, {"g": GROUP, "a": AGE}), both=(GAPS, {"g": GROUP, "a": AGE}))
def test_extreme_units_change_nothing_but_the_unit(make, factor, case):
    table, keep = case
    if keep and make().__dict__.get("location") == "median":
        pytest.skip("a median keeps nothing")
    want = make().fit_transform(table, batch=BATCH, keep=keep)
    got = quietly(lambda: make().fit_transform(table * factor, batch=BATCH, keep=keep))
    unit = 1.0 if make().__dict__.get("target") == "standard" else factor
    assert_allclose(got / unit, want, rtol=1e-10)


@of(ALL)
def test_features_in_wildly_different_units(make):
    units = 10.0 ** np.array([-150, 150, 0, 3, -20, 100, -100, 8])
    want = make().fit_transform(X, batch=BATCH)
    got = quietly(lambda: make().fit_transform(X * units, batch=BATCH))
    assert_allclose(got if make().__dict__.get("target") == "standard" else got / units, want, rtol=1e-10)


def test_huge_values_are_not_taken_for_counts():
    # every float64 above 2^53 is a whole number
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataScaleWarning)
        ComBat().fit(X * 1e150, batch=BATCH)


@of(KEEPING)
@pytest.mark.parametrize("factor", [1e-150, 1e-170, 1e150, 1e170])
def test_a_kept_number_in_an_extreme_unit_is_kept_or_refused(make, factor):
    table = X + 0.3 * (AGE - 50)[:, None]
    want = make().fit_transform(table, batch=BATCH, keep={"age": AGE})
    try:
        got = quietly(lambda: make().fit_transform(table, batch=BATCH, keep={"age": AGE * factor}))
    except BatchfixError:
        return
    assert_allclose(got, want, rtol=1e-8)


@of({k: v for k, v in ALL.items() if k != "batch-scale"})
@pytest.mark.parametrize("offset", [1e8, -1e8])
def test_an_offset_is_only_an_offset(make, offset):
    exact = np.round((X - 5) * 2**10) / 2**10  # so that adding 1e8 rounds nothing
    want = make().fit_transform(exact, batch=BATCH)
    got = make().fit_transform(exact + offset, batch=BATCH)
    back = got if make().__dict__.get("target") == "standard" else got - offset
    assert_allclose(back, want, rtol=0, atol=1e-7)


@of({k: v for k, v in ALL.items() if k != "batch-scale"})
def test_an_offset_in_float32(make):
    table = (1e8 + 8 * np.round((X - 5) * 4096)).astype(np.float32)  # multiples of float32's spacing there
    exact = table.astype(np.float64)
    assert_array_equal(exact - 1e8, 8 * np.round((X - 5) * 4096))
    want = quietly(lambda: make().fit_transform(exact, batch=BATCH))
    got = quietly(lambda: make().fit_transform(table, batch=BATCH))
    assert got.dtype == np.float32
    standard = make().__dict__.get("target") == "standard"
    # two roundings at most: the result's own and that of the product
    assert_allclose(got.astype(float), want, rtol=1e-5 if standard else 0, atol=1e-5 if standard else 16.0)


@of({k: v for k, v in ALL.items() if k != "batch-robust"})
def test_float32_and_float64_chunks_mix(make):
    single = X.astype(np.float32)
    model = make().partial_fit(single[:14], batch=BATCH[:14]).partial_fit(single[14:].astype(float), batch=BATCH[14:])
    got, want = model.transform(single, batch=BATCH), make().fit(single.astype(float), batch=BATCH)
    assert got.dtype == np.float32
    assert_allclose(got, want.transform(single.astype(float), batch=BATCH), rtol=1e-5, atol=1e-5)


DENORMAL = np.where(np.arange(P) == 2, X * 1e-320, X)


@of(ALL)
@cases(
    denormal=X * 1e-320,
    one_denormal=DENORMAL,
    smallest=changed((slice(None), 2), np.where(np.arange(N) == 3, 5e-324, 0.0)),
    largest=np.where((np.arange(N) % 2)[:, None], 1.7e308, -1.7e308) * np.ones((1, P)),
    large=X * 1e300,
)
def test_squares_that_leave_float64_are_refused(make, case):
    refuse(lambda: make().fit(case, batch=BATCH), BatchfixError, "Rescale X")


@of(ALL)
@cases(constant=np.full((N, P), 1.7e308), huge_constant_feature=changed((slice(None), 1), 1.7e308))
def test_the_largest_floats_give_no_infinity(make, case):
    try:
        got = quietly(lambda: make().fit_transform(case, batch=BATCH))
    except BatchfixError:
        return
    assert np.isfinite(got).all()


@of(ALL)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_huge_row_at_transform_gives_no_infinity(make, dtype):
    model = make().fit(X.astype(dtype), batch=BATCH)
    row = np.full((3, P), 0.99 * np.finfo(dtype).max, dtype=dtype)
    try:
        got = quietly(lambda: model.transform(row, batch="p1"))
    except BatchfixError:
        return
    assert np.isfinite(got).all()


@of(SOME)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_chunk_whose_sum_overflows_is_no_infinity(make, dtype):
    # finite cells, an infinite sum
    big = np.finfo(dtype).max / 1000
    model = make().fit(X.astype(dtype), batch=BATCH)
    rows = np.full((2000, P), big, dtype=dtype)
    got = quietly(lambda: model.transform(rows, batch="p1"))
    assert np.isfinite(got).all()


# ---- infinity

INFINITE = {
    "one": changed((3, 2), np.inf),
    "negative": changed((3, 2), -np.inf),
    "both signs": changed(([3, 4], 2), [np.inf, -np.inf]),
    "with nan": changed(([3, 4], 2), [np.inf, np.nan]),
    "last cell": changed((-1, -1), np.inf),
    "all": np.full((N, P), np.inf),
}


@of(SOME | {"batch-robust": ALL["batch-robust"]})
@pytest.mark.parametrize("case", INFINITE.values(), ids=INFINITE.keys())
@pytest.mark.parametrize("verb", ["fit", "fit_transform", "transform", "inverse_transform"])
def test_infinity_is_refused(make, case, verb):
    model = make().fit(X, batch=BATCH)
    refuse(lambda: getattr(model, verb)(case, batch=BATCH), BatchfixError, "finite or NaN")


@of(SOME | {"batch-robust": ALL["batch-robust"]})
@pytest.mark.parametrize("verb", ["fit_transform", "transform", "inverse_transform"])
@pytest.mark.parametrize("case", INFINITE.values(), ids=INFINITE.keys())
def test_infinity_leaves_the_callers_array_untouched(make, verb, case):
    model = make(copy=False).fit(X, batch=BATCH)
    mine = case.copy()
    refuse(lambda: getattr(model, verb)(mine, batch=BATCH), BatchfixError, "finite or NaN")
    assert_array_equal(mine, case)


@of(ALL)
def test_an_infinity_in_adapt(make):
    model = make().fit(X, batch=BATCH)
    refuse(lambda: model.adapt(INFINITE["both signs"], batch="new"), BatchfixError, "finite or NaN")


# ---- what failed leaves no trace


@of(SOME)
@cases(
    infinity=lambda m: m.partial_fit(INFINITE["one"], batch=BATCH),
    labels=lambda m: m.partial_fit(X, batch=CODE),
    length=lambda m: m.partial_fit(X, batch=BATCH[:-1]),
    keep=lambda m: m.partial_fit(X, batch=BATCH, keep={"g": GROUP}),
)
def test_a_refused_chunk_changes_nothing(make, case):
    model = make().partial_fit(X, batch=BATCH)
    before = model.transform(X, batch=BATCH)
    refuse(lambda: case(model))
    assert model.batch_counts_ == {"p1": 10, "p2": 10, "p3": 10}
    assert_array_equal(model.transform(X, batch=BATCH), before)


# ---- labels

MISSING = {
    "None": replaced(BATCH, 4, None),
    "nan": replaced(BATCH, 4, np.nan),
    "NA": replaced(BATCH, 4, pd.NA),
    "NaT": replaced(BATCH, 4, pd.NaT),
    "series": pd.Series(BATCH).where(np.arange(N) != 4),
    "string": pd.Series(BATCH, dtype="string").where(np.arange(N) != 4),
    "category": pd.Series(BATCH, dtype="category").where(np.arange(N) != 4),
    "Int64": pd.Series(CODE, dtype="Int64").where(np.arange(N) != 4),
    "float": np.where(np.arange(N) == 4, np.nan, CODE),
    "categorical": pd.Categorical(replaced(BATCH, 4, None)),
    "masked": np.ma.array(CODE, mask=np.arange(N) == 4),
    "list": [None, *BATCH[1:]],
}


@of(SOME)
@pytest.mark.parametrize("labels", MISSING.values(), ids=MISSING.keys())
def test_missing_batch_labels(make, labels):
    refuse(lambda: make().fit(X, batch=labels), MissingLabelError, r"batch")
    model = make().fit(X, batch=BATCH)
    refuse(lambda: model.transform(X, batch=labels), MissingLabelError, r"batch")


@of(SOME)
@cases(none=np.array(None), nan=float("nan"), na=pd.NA, nat=pd.NaT)
def test_a_missing_single_label(make, case):
    refuse(lambda: make().fit(X, batch=case), MissingLabelError)


@of(SOME)
@cases(
    short=BATCH[:-1],
    long=[*BATCH, "p3"],
    empty=[],
    empty_array=np.array([]),
    turned=BATCH[None],
    short_series=pd.Series(BATCH[:-1]),
)
def test_labels_of_the_wrong_length(make, case):
    refuse(lambda: make().fit(X, batch=case), AlignmentError, "30")
    model = make().fit(X, batch=BATCH)
    refuse(lambda: model.transform(X, batch=case), AlignmentError, "30")


@of(SOME)
@cases(
    text_and_integer=[1] * 15 + ["1"] * 15,
    in_array=replaced(BATCH, 4, 3),
    text_and_float=replaced(BATCH, 4, 1.5),
    text_and_bytes=replaced(BATCH, 4, b"p1"),
    text_and_bool=[True] * 10 + ["p"] * 20,
    bool_and_integer=[True] * 10 + [1] * 10 + [2] * 10,
    text_and_tuple=replaced(BATCH, 4, (1, 2)),
    integer_and_fraction=[1] * 10 + [1.5] * 20,
)
def test_labels_of_mixed_types(make, case):
    refuse(lambda: make().fit(X, batch=case), BatchfixError, "batch")


@of(SOME)
@cases(
    fractions=np.repeat([0.5, 1.5], 15),
    infinite=np.repeat([np.inf, 1.0], 15),
    complex=np.repeat([1j, 2], 15),
    ragged=[[1], [1, 2]] * 15,
    dictionary={"a": 1},
    set=set(BATCH),
    three_dimensions=np.zeros((N, 1, 1)),
    huge_floats=np.repeat([1e300, 2e300], 15),
    huge_integers=np.array([2**70] * 15 + [2**71] * 15, dtype=object),
    bytes_not_ascii=np.array([b"\xff"] * 15 + [b"b"] * 15),
    timedelta=pd.to_timedelta([1] * 15 + [2] * 15),
)
def test_what_is_no_label(make, case):
    refuse(lambda: make().fit(X, batch=case), BatchfixError, "batch|dimension|label")


def test_neighbouring_float_labels_are_not_merged():
    # as integers both would be the smallest int64
    try:
        model = quietly(lambda: ComBat().fit(X, batch=np.repeat([1e300, 2e300], 15)))
    except BatchfixError:
        return
    assert len(model.batches_) == 2


@of(SOME)
@cases(
    list=BATCH.tolist(),
    object=BATCH.astype(object),
    bytes=BATCH.astype("S"),
    series=pd.Series(BATCH),
    string=pd.Series(BATCH, dtype="string"),
    categorical=pd.Categorical(BATCH, categories=["zz", "p3", "p2", "p1"]),
    category=pd.Series(pd.Categorical(BATCH, categories=["zz", "p3", "p2", "p1"])),
    column=BATCH[:, None],
    frame=pd.DataFrame({"run": BATCH}),
    index=pd.Index(BATCH),
    integers=CODE,
    small=CODE.astype(np.int8),
    unsigned=CODE.astype(np.uint64),
    Int64=pd.Series(CODE, dtype="Int64"),
    whole=CODE.astype(float),
    codes=pd.Categorical(CODE),
    dates=pd.to_datetime(["2024-01-01", "2024-02-01", "2024-03-01"]).repeat(10),
    zoned=pd.to_datetime(["2024-01-01", "2024-02-01", "2024-03-01"]).repeat(10).tz_localize("UTC"),
    large=CODE.astype(np.int64) + 2**62,
)
def test_one_partition_one_result(make, case):
    try:
        got = quietly(lambda: make().fit_transform(X, batch=case))
    except BatchfixError:
        kind = getattr(case, "dtype", None)
        assert getattr(kind, "tz", None) is not None or kind == "S2"  # zoned dates and bytes may be refused
        return
    assert_array_equal(got, make().fit_transform(X, batch=BATCH))


@of(SOME)
def test_unused_categories_are_no_batches(make):
    model = make().fit(X, batch=pd.Categorical(BATCH, categories=["p0", "p1", "p2", "p3", "p4"]))
    assert model.batches_.tolist() == ["p1", "p2", "p3"]


@of(ALL)
def test_labels_that_carry_an_index_are_aligned(make):
    order = np.random.default_rng(2).permutation(N)
    labels = pd.Series(BATCH, index=TABLE.index)
    want = make().fit_transform(TABLE, batch=labels)
    assert_array_equal(want.to_numpy(), make().fit_transform(X, batch=BATCH))
    more = pd.concat([labels, pd.Series(["zz"], index=["extra"])])
    for shuffled in (labels.iloc[order], labels.iloc[order].to_frame(), more.sample(frac=1, random_state=3)):
        pd.testing.assert_frame_equal(make().fit_transform(TABLE, batch=shuffled), want)
        pd.testing.assert_frame_equal(make().fit(TABLE, batch=BATCH).transform(TABLE, batch=shuffled), want)


@of(KEEPING)
def test_kept_columns_that_carry_an_index_are_aligned(make):
    order = np.random.default_rng(2).permutation(N)
    keep = pd.DataFrame({"g": GROUP, "age": AGE}, index=TABLE.index)
    want = make().fit_transform(TABLE, batch=BATCH, keep=keep)
    for form in (keep.iloc[order], {k: keep[k].iloc[order] for k in keep}):
        pd.testing.assert_frame_equal(make().fit_transform(TABLE, batch=BATCH, keep=form), want)


def test_scale_where_is_aligned_too():
    where = pd.DataFrame(True, index=TABLE.index, columns=TABLE.columns)
    where.iloc[:10, 2] = False  # feature 2 is absent from p1
    model = partial(ComBat, scale_guard=0.5)
    want = model().fit(TABLE, batch=BATCH, scale_where=where.to_numpy()).transform(TABLE, batch=BATCH)
    turned = where.iloc[::-1, ::-1]
    try:
        got = model().fit(TABLE, batch=BATCH, scale_where=turned).transform(TABLE, batch=BATCH)
    except BatchfixError:
        return
    pd.testing.assert_frame_equal(got, want)


TWICE = TABLE.set_axis(["s0", "s0", *TABLE.index[2:]])


@of(SOME)
@cases(
    other_ids=(TABLE, pd.Series(BATCH)),
    one_lost=(TABLE, pd.Series(BATCH, index=TABLE.index).iloc[1:]),
    frame=(TABLE, pd.DataFrame({"run": BATCH})),
    repeated_in_labels=(TABLE, pd.concat([pd.Series(BATCH, index=TABLE.index)] * 2)),
    repeated_in_both=(TWICE, pd.Series(BATCH, index=TWICE.index).iloc[::-1]),
    repeated_in_table=(TWICE, pd.Series(BATCH, index=TABLE.index)),
)
def test_labels_with_another_index(make, case):
    table, labels = case
    refuse(lambda: make().fit(table, batch=labels), AlignmentError, "index of batch")


@of(SOME)
def test_repeated_ids_in_the_same_order_are_fine(make):
    got = make().fit_transform(TWICE, batch=pd.Series(BATCH, index=TWICE.index))
    assert_array_equal(got.to_numpy(), make().fit_transform(X, batch=BATCH))


@of(ALL)
def test_unseen_batch(make):
    model = make().fit(X, batch=BATCH)
    refuse(lambda: model.transform(X[:2], batch="p7"), UnknownBatchError, r"'p7' was not seen.*'p1'.*adapt\(\)")
    refuse(lambda: model.inverse_transform(X[:2], batch="p7"), UnknownBatchError, "'p7' was not seen")


@of(SOME)
@cases(
    text=(CODE, CODE.astype(str)),
    number=(CODE.astype(str), CODE),
    text_label=(CODE, "1"),
    number_label=(CODE.astype(str), 1),
)
@pytest.mark.parametrize("unknown", ["error", "pooled", "nan"])
def test_1_is_not_the_text_1(make, case, unknown):
    fitted, given = case
    model = make(handle_unknown=unknown).fit(X, batch=fitted)
    refuse(lambda: model.transform(X, batch=given))


@of(SOME)
@cases(float=CODE.astype(float), small=CODE.astype(np.int8), nullable=pd.Series(CODE, dtype="Int64"))
def test_1_is_1_in_any_integer_dtype(make, case):
    model = make().fit(X, batch=CODE)
    assert_array_equal(model.transform(X, batch=case), model.transform(X, batch=CODE))


@of(ALL)
def test_transform_without_batch_after_fit_with(make):
    model = make().fit(X, batch=BATCH)
    for verb in (model.transform, model.inverse_transform):
        refuse(lambda v=verb: v(X), MissingLabelError, "batch=None")


@of(FREE)
def test_fit_without_batch_warns_and_batch_after_it_is_refused(make):
    with pytest.warns(NothingToCorrectWarning, match="without batch labels"):
        model = make().fit(X)
    refuse(lambda: model.transform(X, batch=BATCH), UnknownBatchError, "without batch labels")


@of(FREE)
def test_a_single_batch_warns_that_nothing_can_be_corrected(make):
    with pytest.warns(NothingToCorrectWarning):
        make().fit(X, batch="p1")


@of({k: v for k, v in FREE.items() if k != "batch-standard"})
@cases(many=X, one=X[:1])
def test_a_single_batch_is_left_as_it_is(make, case):
    assert_allclose(quietly(lambda: make().fit_transform(case, batch="p1")), case, rtol=1e-14)


@of({k: v for k, v in ALL.items() if k.startswith("combat") and k != "combat-mean-only"})
def test_all_singletons_are_refused(make):
    refuse(lambda: make().fit(X[::10], batch=["p1", "p2", "p3"]), TooFewSamplesError, "at least two")


@of({k: v for k, v in ALL.items() if k.startswith("batch") and k != "batch-location"})
def test_singletons_are_reported(make):
    with pytest.warns(SingletonBatchWarning):
        make().fit(X, batch=SOLO)


@of(ALL)
def test_one_row_transforms_as_it_does_among_others(make):
    model = make().fit(X, batch=BATCH)
    whole = model.transform(X, batch=BATCH)
    for i in (0, 15, 29):
        assert_allclose(model.transform(X[i : i + 1], batch=BATCH[i : i + 1]), whole[i : i + 1], rtol=1e-14)


@of(ALL)
def test_zero_rows(make):
    model = make().fit(X, batch=BATCH)
    for verb in (make().fit, make().fit_transform, model.transform, model.inverse_transform):
        refuse_as_sklearn(lambda v=verb: v(X[:0], batch=[]))


# ---- keys

RUNS = TABLE.assign(run=BATCH)
LEVELS = TABLE.set_axis(pd.MultiIndex.from_arrays([BATCH, np.arange(N)], names=["run", "id"]))


@of(SOME)
@cases(
    lost=(lambda m: m(batch_key="plate").fit(RUNS), "'plate'"),
    both=(lambda m: m(batch_key="run").fit(LEVELS.assign(run=BATCH)), "got both"),
    key_and_argument=(lambda m: m(batch_key="run").fit(RUNS, batch=BATCH), "got both"),
    keep_and_argument=(lambda m: m(keep_keys=["run"]).fit(RUNS, batch=BATCH, keep={"g": GROUP}), "got both"),
    position_on_frame=(lambda m: m(batch_key=0).fit(RUNS), "position"),
    name_on_array=(lambda m: m(batch_key="run").fit(X), "'run'"),
    position_beyond=(lambda m: m(batch_key=99).fit(X), "99"),
    fraction=(lambda m: m(batch_key=1.0).fit(X), "1.0|position"),
    twice=(lambda m: m(batch_key="run").fit(pd.concat([RUNS[["run"]], RUNS], axis=1)), "2 of that name"),
    kept_lost=(lambda m: m(batch_key="run", keep_keys=["age"]).fit(RUNS), "'age'"),
    kept_text=(lambda m: m(batch_key="run", keep_keys="age").fit(RUNS.assign(age=AGE)), "keep_keys|'age'"),
    kept_number=(lambda m: m(keep_keys=3).fit(X, batch=BATCH), "keep_keys"),
    lost_at_transform=(lambda m: m(batch_key="run").fit(RUNS).transform(TABLE), "'run'"),
    missing=(lambda m: m(batch_key="run").fit(RUNS.assign(run=replaced(BATCH, 3, None))), "label in 'run'"),
    one_dimension=(lambda m: m(batch_key=0).fit(X[:, 0]), "two dimensions"),
    sparse=(lambda m: m(batch_key=0).fit(sparse.csr_array(X)), "[Ss]parse|dense"),
)
def test_keys_that_name_nothing_or_too_much(make, case):
    call, match = case
    refuse(lambda: call(make), (ValueError, TypeError), match)


@of({k: SOME[k] for k in ("combat", "batch")})
def test_a_list_as_the_batch_key_is_refused_by_name(make):
    refuse(lambda: make(batch_key=["run"]).fit(RUNS), BatchfixError, "batch_key")


@of(ALL)
def test_keys_give_the_arguments_result(make):
    want = make().fit_transform(X, batch=BATCH)
    for table in (RUNS, RUNS[["run", *TABLE.columns]], LEVELS):
        got = make(batch_key="run").fit_transform(table)
        assert list(got.columns) == list(TABLE.columns)
        assert got.index.equals(table.index)
        assert_array_equal(got.to_numpy(), want)


# ---- columns


@of(SOME)
@pytest.mark.parametrize("keyed", [False, True])
def test_duplicated_column_names(make, keyed):
    table = pd.DataFrame(X, columns=list("aabcdefg"))
    if keyed:
        refuse(lambda: make(batch_key="run").fit(table.assign(run=BATCH)), BatchfixError, "'a'")
    else:
        refuse(lambda: make().fit(table, batch=BATCH), BatchfixError, "'a'")


@of(SOME)
@cases(
    order=TABLE[TABLE.columns[::-1]],
    fewer=TABLE.iloc[:, 1:],
    more=TABLE.assign(z=1.0),
    renamed=TABLE.rename(columns={"f0": "g0"}),
)
def test_other_columns_at_transform(make, case):
    refuse_as_sklearn(lambda: make().fit(TABLE, batch=BATCH).transform(case, batch=BATCH))
    keyed = make(batch_key="run").fit(RUNS)
    refuse(lambda: keyed.transform(case.assign(run=BATCH)), BatchfixError, "features of X")


@of(SOME)
def test_another_number_of_columns(make):
    model = make().fit(X, batch=BATCH)
    for verb in (model.transform, model.inverse_transform, model.partial_fit, partial(model.adapt)):
        refuse_as_sklearn(lambda v=verb: v(X[:, :3], batch="new"))


# ---- what X may be


@of(SOME)
@cases(
    complex=X + 1j,
    complex_frame=pd.DataFrame(X + 1j),
    one_dimension=X[:, 0],
    three_dimensions=X[None],
    nothing=None,
    scalar=3.0,
    series=pd.Series(X[:, 0]),
    sparse=sparse.csr_matrix(X),
    sparse_array=sparse.coo_array(X),
    no_features=X[:, :0],
    mixed_names=TABLE.set_axis([0, 1, 2, 3, *"abcd"], axis=1),
)
def test_what_scikit_learn_refuses(make, case):
    refuse_as_sklearn(lambda: make().fit(case, batch=BATCH))


@of(SOME)
@cases(
    text=X.astype(str),
    text_list=X.astype(str).tolist(),
    bytes=X.astype("S"),
    word=replaced(X, (1, 1), "abc"),
    complex_object=replaced(X, (1, 1), 1j),
    ragged=[[1.0, 2.0], [3.0]] * 15,
    dates=np.zeros((N, 2), dtype="datetime64[D]"),
    durations=np.zeros((N, 2), dtype="timedelta64[s]"),
    date_frame=pd.DataFrame({"a": pd.date_range("2024", periods=N), "b": 1.0}),
    duration_frame=pd.DataFrame({"a": pd.to_timedelta(np.arange(N), unit="D"), "b": X[:, 0]}),
    text_frame=pd.DataFrame({"a": GROUP, "b": X[:, 0]}),
    string_frame=pd.DataFrame({"a": pd.array(GROUP, dtype="string"), "b": X[:, 0]}),
    numeric_text_frame=pd.DataFrame({"a": X[:, 1].astype(str), "b": X[:, 0]}),
    category_frame=pd.DataFrame({"a": pd.Categorical(GROUP), "b": X[:, 0]}),
)
def test_what_is_no_table_of_numbers(make, case):
    refuse(lambda: make().fit(case, batch=BATCH), BatchfixError)


@of(SOME)
@cases(
    missing=(replaced(X, (3, 2), pd.NA), ONE_GAP),
    sparse=(pd.DataFrame(X).astype(pd.SparseDtype("float64")), X),
)
def test_what_can_be_read_without_doubt_is_read_or_refused(make, case):
    form, plain = case
    try:
        got = quietly(lambda: make().fit_transform(form, batch=BATCH))
    except BatchfixError:
        return
    assert_allclose(np.asarray(got), make().fit_transform(plain, batch=BATCH), rtol=1e-12)


def nullable(dtype, values):
    table = pd.DataFrame(values, columns=list("abcdefgh")).astype(dtype)
    table.iloc[3, 2] = pd.NA
    return table, np.where((np.arange(N) == 3)[:, None] & (np.arange(P) == 2), np.nan, values).astype(float)


@of(SOME | {k: ALL[k] for k in ("combat-guarded", "batch-robust")})
@cases(
    object=(X.astype(object), X),
    object_none=(replaced(X, (3, 2), None), ONE_GAP),
    list=(X.tolist(), X),
    integers=(np.round(10 * X).astype(int) - 50, np.round(10 * X) - 50),
    integers_1e15=(np.round(1e15 * (X - 5)).astype(np.int64), np.round(1e15 * (X - 5))),
    small_integers=(np.round(10 * X - 50).astype(np.int8), np.round(10 * X - 50)),
    half=(X.astype(np.float16), X.astype(np.float16).astype(float)),
    long=(X.astype(np.longdouble), X),
    big_endian=(X.astype(">f8"), X),
    bool=(BITS, BITS.astype(float)),
    bool_frame=(pd.DataFrame(BITS), BITS.astype(float)),
    Float64=nullable("Float64", X),
    Int64=nullable("Int64", np.round(10 * X - 50)),
    boolean=nullable("boolean", BITS),
    frame=(TABLE, X),
    read_only=(X, X),
    fortran=(np.asfortranarray(X), X),
    strided=(np.repeat(np.repeat(X, 2, 0), 3, 1)[::2, ::3], X),
    reversed=(np.array(X[::-1, ::-1])[::-1, ::-1], X),
    transposed=(np.array(X.T).T, X),
)
def test_forms_of_one_table(make, case):
    form, plain = case
    want = quietly(lambda: make().fit_transform(plain, batch=BATCH))
    got = quietly(lambda: make().fit_transform(form, batch=BATCH))
    assert_allclose(np.asarray(got, dtype=float), want, rtol=1e-12)


@of(SOME)
def test_a_masked_array_is_not_read_without_its_mask(make):
    table = np.ma.array(np.array(X), mask=np.isnan(ONE_GAP))
    table.data[3, 2] = -9999.0
    try:
        got = quietly(lambda: make().fit_transform(table, batch=BATCH))
    except (BatchfixError, TypeError):
        return
    assert_allclose(np.asarray(got), make().fit_transform(ONE_GAP, batch=BATCH), rtol=1e-12)


@of(SOME)
def test_polars(make):
    pl = pytest.importorskip("polars")
    want = make().fit_transform(ONE_GAP, batch=BATCH)
    holes = [[None if np.isnan(v) else v for v in column] for column in ONE_GAP.T]
    table = pl.DataFrame(dict(zip(TABLE.columns, holes, strict=True)))
    for got in (
        make().fit_transform(table, batch=pl.Series(BATCH)),
        make().fit_transform(table, batch=pl.DataFrame({"run": BATCH})),
        make(batch_key="run").fit_transform(table.with_columns(run=pl.Series(BATCH))),
        make(batch_key="run").fit_transform(table.with_columns(run=pl.Series(BATCH).cast(pl.Categorical))),
    ):
        assert isinstance(got, pl.DataFrame)
        assert_allclose(got.to_numpy(), want, rtol=1e-14)
    lost = pl.Series([None, *BATCH[1:]])
    refuse(lambda: make().fit(table, batch=lost), MissingLabelError)
    refuse(lambda: make(batch_key="run").fit(table.with_columns(run=lost)), MissingLabelError, "'run'")
    refuse(lambda: make(batch_key="run").fit(table), BatchfixError, "'run'")
    refuse(lambda: make().fit(table.with_columns(t=pl.Series(GROUP)), batch=BATCH), BatchfixError, "text")
    refuse(lambda: make().fit(table.with_columns(t=pl.Series(AGE.astype(str))), batch=BATCH), BatchfixError, "text")
    keep = pl.DataFrame({"g": GROUP, "age": AGE})
    got = make().fit_transform(table, batch=BATCH, keep=keep)
    assert_allclose(
        got.to_numpy(), make().fit_transform(ONE_GAP, batch=BATCH, keep={"g": GROUP, "age": AGE}), rtol=1e-14
    )


# ---- copy=False


def mapped(path, mode):
    whole = np.memmap(path / "x", dtype=float, mode="w+", shape=X.shape)
    whole[:] = X
    whole.flush()
    return np.memmap(path / "x", dtype=float, mode=mode, shape=X.shape)


@of(ALL)
@pytest.mark.parametrize("table", [X, GAPS], ids=["complete", "gaps"])
@cases(
    c=lambda t, path: np.array(t),
    fortran=lambda t, path: np.array(t, order="F"),
    strided=lambda t, path: np.repeat(np.repeat(t, 2, 0), 3, 1)[::2, ::3],
    reversed=lambda t, path: np.array(t[::-1])[::-1],
    single=lambda t, path: t.astype(np.float32),
)
def test_in_place(make, case, table, tmp_path):
    mine = case(table, tmp_path)
    want = make().fit_transform(np.array(mine), batch=BATCH)
    got = make(copy=False).fit_transform(mine, batch=BATCH)
    assert np.shares_memory(got, mine)
    assert_allclose(mine, want, rtol=1e-6 if mine.dtype == np.float32 else 1e-13)


@of(SOME)
def test_in_place_on_a_memory_map(make, tmp_path):
    mine = mapped(tmp_path, "r+")
    want = make().fit_transform(X, batch=BATCH)
    assert np.shares_memory(make(copy=False).fit_transform(mine, batch=BATCH), mine)
    assert_allclose(mine, want, rtol=1e-13)
    frozen = mapped(tmp_path, "r")
    with pytest.warns(CopyWarning, match="read-only"):
        make(copy=False).fit_transform(frozen, batch=BATCH)


@of(ALL)
@cases(
    read_only=X,
    frame=TABLE,
    list=X.tolist(),
    integers=np.round(10 * X).astype(int) - 50,
    half=X.astype(np.float16),
    big_endian=X.astype(">f8"),
)
def test_in_place_says_when_it_cannot(make, case):
    before = np.array(case)
    with pytest.warns(CopyWarning, match="X is unchanged"):
        got = make(copy=False).fit_transform(case, batch=BATCH)
    assert_array_equal(np.array(case), before)
    assert_array_equal(np.asarray(got), np.asarray(make().fit_transform(case, batch=BATCH)))


@of({k: v for k, v in ALL.items() if "reference" not in k})
def test_in_place_says_when_a_key_is_consumed(make):
    table = np.column_stack([CODE, X])
    before = table.copy()
    with pytest.warns(CopyWarning, match="consumed"):
        got = make(copy=False, batch_key=0).fit_transform(table)
    assert_array_equal(table, before)
    assert_array_equal(got, make().fit_transform(X, batch=CODE))


@of(ALL)
def test_a_refused_batch_leaves_the_callers_array_untouched(make):
    model, mine = make(copy=False).fit(X, batch=BATCH), np.array(X)
    refuse(lambda: model.transform(mine, batch=replaced(BATCH, 29, "zz")), UnknownBatchError)
    assert_array_equal(mine, X)


# ---- what is kept

CASE = np.where(BATCH == "p1", "case", "control")


@of(KEEPING)
def test_wholly_confounded_names_the_levels(make):
    says = r"\{'p1'\} hold only \{'case'\}.*\{'p2', 'p3'\} hold only \{'control'\}"
    refuse(lambda: make().fit(X, batch=BATCH, keep={"status": CASE}), ConfoundedDesignError, says)


@of(KEEPING)
@cases(
    number=({"dose": np.repeat([1.0, 2.0, 2.0], 10)}, ConfoundedDesignError, "'dose'"),
    with_others=({"status": CASE, "age": AGE}, ConfoundedDesignError, "'case'"),
    jointly=({"a": AGE, "b": AGE + (BATCH == "p1")}, ConfoundedDesignError, "'a', 'b'"),
    ids=({"id": np.arange(N).astype(str)}, BatchfixError, "'id'"),
    more_than_samples=(np.random.default_rng(0).normal(size=(N, 40)), TooFewSamplesError, "more rows"),
    as_many_as_samples=(np.random.default_rng(0).normal(size=(N, 27)), TooFewSamplesError, "more rows"),
)
def test_designs_that_cannot_be_estimated(make, case):
    keep, kind, match = case
    refuse(lambda: make().fit(X, batch=BATCH, keep=keep), kind, match)
    lazy = make().partial_fit(X, batch=BATCH, keep=keep)
    refuse(lambda: lazy.transform(X, batch=BATCH, keep=keep), kind, match)


@of({k: KEEPING[k] for k in ("combat", "linear", "batch")})
@cases(
    nan=({"a": replaced(AGE, 3, np.nan).astype(float)}, MissingLabelError),
    infinite=({"a": replaced(AGE, 3, np.inf).astype(float)}, MissingLabelError),
    none=({"a": replaced(GROUP, 3, None)}, MissingLabelError),
    Int64=(pd.DataFrame({"a": pd.array([None, *[1, 2] * 14, 1], dtype="Int64")}), MissingLabelError),
    Float64=(pd.DataFrame({"a": pd.array([None, *AGE[1:]], dtype="Float64")}), MissingLabelError),
    boolean=({"a": pd.Series([None, *[True, False] * 14, True], dtype="boolean")}, MissingLabelError),
    category=(pd.Series(replaced(GROUP, 3, None), dtype="category"), MissingLabelError),
    masked=(np.ma.array(AGE, mask=np.arange(N) < 3), BatchfixError),
    mixed=({"a": ["A", 1] * 15}, BatchfixError),
    mixed_object=({"a": np.array(["A", 1] * 15, dtype=object)}, BatchfixError),
    integers=({"a": np.arange(N) % 3}, AmbiguousKeepError),
    complex=({"a": AGE + 1j}, BatchfixError),
    dates=({"a": pd.Series(pd.date_range("2024", periods=N))}, BatchfixError),
    ragged=({"a": [[1], [1, 2]] * 15}, BatchfixError),
    short=({"a": GROUP[:-1]}, AlignmentError),
    short_array=(GROUP[:-1], AlignmentError),
    short_frame=(pd.DataFrame({"a": GROUP[:-1]}), AlignmentError),
    scalar=({"a": "A"}, BatchfixError),
    two_dimensions=({"a": np.zeros((N, 2))}, BatchfixError),
    three_dimensions=(np.zeros((N, 1, 1)), BatchfixError),
    name=("group", BatchfixError),
    repeated=(pd.DataFrame(np.column_stack([AGE, AGE]), columns=["a", "a"]), BatchfixError),
    clash=(pd.DataFrame(np.column_stack([AGE, AGE**2]), columns=[1, "1"]), BatchfixError),
    clash_in_dict=({1: AGE, "1": AGE**2}, BatchfixError),
)
def test_kept_columns_that_are_refused(make, case):
    keep, kind = case
    refuse(lambda: make().fit(X, batch=BATCH, keep=keep), kind)


THREE = np.tile(["a", "b", "c"], 10)


@of({k: KEEPING[k] for k in ("combat", "linear", "batch")})
@cases(
    series=pd.Series(THREE, name="g"),
    frame=pd.DataFrame({"g": THREE}),
    dictionary={"g": THREE},
    array=THREE,
    column=THREE[:, None],
    list=THREE.tolist(),
    object=THREE.astype(object),
    string=pd.Series(THREE, dtype="string"),
    category=pd.Series(THREE, dtype="category"),
    categorical=pd.Categorical(THREE, categories=["zz", "c", "b", "a"]),
    unused=pd.Series(pd.Categorical(THREE, categories=["zz", "c", "b", "a"])),
    integer_category=pd.Series(pd.Categorical(np.tile([10, 20, 30], 10))),
    integer_categorical=pd.Categorical(np.tile([10, 20, 30], 10)),
    integer_categorical_in_dict={"g": pd.Categorical(np.tile([10, 20, 30], 10))},
    float_category=pd.Series(pd.Categorical(np.tile([0.5, 1.0, 1.5], 10))),
    two_columns=np.column_stack([THREE, np.where(THREE == "a", "x", "y")]),
)
def test_forms_of_one_kept_factor(make, case):
    want = make().fit_transform(X, batch=BATCH, keep={"g": THREE})
    assert_allclose(make().fit_transform(X, batch=BATCH, keep=case), want, rtol=1e-12)


@of({k: KEEPING[k] for k in ("combat", "linear", "batch")})
def test_a_nested_list_of_text_and_numbers_keeps_its_numbers(make):
    # as one array of text, a number would become a factor of as many levels as values
    dose = np.tile([1.5, 2.5, 4.0], 10)
    want = make().fit_transform(X, batch=BATCH, keep={"g": GROUP, "dose": dose})
    try:
        got = make().fit_transform(
            X, batch=BATCH, keep=[[a, b] for a, b in zip(GROUP.tolist(), dose.tolist(), strict=True)]
        )
    except BatchfixError:
        return
    assert_allclose(got, want, rtol=1e-12)


@of({k: KEEPING[k] for k in ("combat", "batch")})
@cases(
    lost=({"g": GROUP}, {}, MissingLabelError),
    more=({"g": GROUP}, {"g": GROUP, "h": GROUP}, BatchfixError),
    renamed=({"g": GROUP}, {"h": GROUP}, BatchfixError),
    new=({}, {"g": GROUP}, BatchfixError),
    level=({"g": GROUP}, {"g": replaced(GROUP, 3, "Z")}, UnknownLevelError),
    nan=({"g": AGE}, {"g": replaced(AGE, 3, np.nan).astype(float)}, MissingLabelError),
    number_for_factor=({"g": GROUP}, {"g": AGE}, BatchfixError),
    factor_for_number=({"g": AGE}, {"g": GROUP}, BatchfixError),
)
def test_other_kept_columns_at_transform(make, case):
    fitted, given, kind = case
    model = make().fit(X, batch=BATCH, keep=fitted)
    refuse(lambda: model.transform(X, batch=BATCH, keep=given), kind)


@of({k: KEEPING[k] for k in ("combat", "linear", "batch")})
def test_keep_y(make):
    model = make(keep_y=True)
    refuse(lambda: model.fit(X, batch=BATCH), BatchfixError, "must be given y")
    refuse(lambda: model.fit(X, np.column_stack([AGE, AGE]), batch=BATCH), BatchfixError, "one target")
    refuse(lambda: model.fit(X, replaced(AGE, 3, np.nan).astype(float), batch=BATCH), MissingLabelError)
    refuse(lambda: model.fit(X, CASE, batch=BATCH), ConfoundedDesignError, "'y'")


@of({k: KEEPING[k] for k in ("combat", "linear", "batch")})
def test_a_kept_column_named_y_is_not_lost_to_keep_y(make):
    table = X + 0.3 * (AGE - 50)[:, None]
    want = make(keep_y=True).fit(table, GROUP, batch=BATCH, keep={"age": AGE})
    try:
        got = make(keep_y=True).fit(table, GROUP, batch=BATCH, keep={"y": AGE})
    except BatchfixError:
        return
    assert_allclose(
        got.transform(table, batch=BATCH, keep={"y": AGE}),
        want.transform(table, batch=BATCH, keep={"age": AGE}),
        rtol=1e-12,
    )


@of({k: KEEPING[k] for k in ("combat", "linear", "batch")})
def test_a_column_cannot_be_both_factor_and_number(make):
    model = make(keep_factors=["g"], keep_numbers=["g"])
    refuse(lambda: model.fit(X, batch=BATCH, keep={"g": np.arange(N) % 3}), BatchfixError, "'g'")


@of({k: KEEPING[k] for k in ("combat", "linear", "batch")})
def test_keep_factors_is_a_list_of_names_not_their_letters(make):
    # 'g' is part of 'age', not one of the names
    refuse(lambda: make(keep_factors="age").fit(X, batch=BATCH, keep={"g": np.arange(N) % 3}))


# ---- nuisance and several batch factors

DAYS = np.tile(["d1", "d2", "d3"], 10)


@cases(
    fewer=lambda m: m.transform(X, batch=BATCH),
    more=lambda m: m.transform(X, batch=np.column_stack([BATCH, DAYS, DAYS])),
    unseen=lambda m: m.transform(X, batch=np.column_stack([BATCH, np.repeat("d9", N)])),
)
def test_other_batch_factors_at_transform(case):
    model = LinearCorrector().fit(X, batch=np.column_stack([BATCH, DAYS]))
    refuse(lambda: case(model), BatchfixError, "batch")


@of({k: ALL[k] for k in ("combat", "batch")})
def test_two_batch_factors_are_for_the_linear_corrector(make):
    refuse(lambda: make().fit(X, batch=np.column_stack([BATCH, DAYS])), BatchfixError, "LinearCorrector")


def test_the_same_factor_twice_is_one():
    once = LinearCorrector().fit_transform(X, batch=BATCH)
    assert_allclose(LinearCorrector().fit_transform(X, batch=np.column_stack([BATCH, BATCH])), once, rtol=1e-12)


@cases(
    kept_too=({"age": AGE}, {"age": AGE}, BatchfixError, "'age'"),
    collinear_with_kept=({"a": AGE}, {"b": 2 * AGE}, ConfoundedDesignError, "'a'|'b'"),
    nan=({"a": replaced(AGE, 3, np.nan).astype(float)}, None, MissingLabelError, "'a'"),
    integers=({"a": np.arange(N) % 3}, None, AmbiguousKeepError, "'a'"),
    more_than_samples=(np.random.default_rng(0).normal(size=(N, 40)), None, TooFewSamplesError, "rows"),
    as_many_as_samples=(np.random.default_rng(0).normal(size=(N, 27)), None, TooFewSamplesError, "rows"),
    ids=({"id": np.arange(N).astype(str)}, None, TooFewSamplesError, "rows"),
)
def test_nuisance_that_is_refused(case):
    nuisance, keep, kind, match = case
    refuse(lambda: LinearCorrector().fit(X, batch=BATCH, nuisance=nuisance, keep=keep), kind, match)


def test_a_batch_factor_of_ids_is_refused():
    batch = pd.DataFrame({"run": BATCH, "id": np.arange(N)})
    refuse(lambda: LinearCorrector().fit(X, batch=batch), TooFewSamplesError)


def test_nuisance_is_needed_at_transform_and_its_levels_known():
    model = LinearCorrector().fit(X, batch=BATCH, nuisance={"day": DAYS})
    refuse(lambda: model.transform(X, batch=BATCH), MissingLabelError, "'day'")
    refuse(lambda: model.transform(X, batch=BATCH, nuisance={"day": np.repeat("d9", N)}), UnknownLevelError, "'d9'")


def test_a_nuisance_column_is_not_lost_to_a_batch_factors_name():
    batch = np.column_stack([BATCH, DAYS])
    table = X + 0.3 * (AGE - 50)[:, None]
    want = LinearCorrector().fit_transform(table, batch=batch, nuisance={"age": AGE})
    for name in ("batch0", "batch1", "batch2", "batch[0]", "batch[1]", "batch"):
        try:
            got = LinearCorrector().fit_transform(table, batch=batch, nuisance={name: AGE})
        except BatchfixError:
            continue
        assert_allclose(got, want, rtol=1e-10)


# ---- adapt, merge, partial_fit


@of(ALL)
def test_what_adapt_refuses(make):
    model = make().fit(X, batch=BATCH)
    refuse(lambda: model.adapt(X, batch=BATCH), BatchfixError, r"partial_fit\(\)")
    refuse(lambda: model.adapt(X), MissingLabelError, "batch=None")
    refuse(lambda: model.adapt(X, batch=replaced(BATCH, 3, None)), MissingLabelError)
    refuse_as_sklearn(lambda: make().adapt(X, batch="new"))


@of(ALL)
def test_adapt_keeps_labels_of_one_kind(make):
    model = make().fit(X, batch=BATCH)
    refuse(lambda: model.adapt(X, batch=7), BatchfixError, "kind|strings")


@of(ALL)
@cases(
    feature_constant=changed((slice(None), 2), 4.2),
    all_constant=np.full((N, P), 4.2),
    feature_gone=changed((slice(None), 2), np.nan),
    one_value=changed((slice(1, None), 2), np.nan),
    two_rows=X[:2],
)
def test_adapt_to_degenerate_rows_gives_finite_numbers(make, case):
    model = make().fit(X, batch=BATCH)
    new = quietly(lambda: model.adapt(case, batch="new"))
    assert np.isfinite(quietly(lambda: new.transform(X, batch="new"))).all()
    assert_array_equal(new.transform(X, batch=BATCH), model.transform(X, batch=BATCH))


@of(ALL)
def test_adapt_to_nothing_observed_is_refused_or_said(make):
    model = make().fit(X, batch=BATCH)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            new = model.adapt(np.full((N, P), np.nan), batch="new")
        except BatchfixError:
            return
    assert any(issubclass(w.category, MissingFeatureWarning | AdaptationWarning) for w in said)
    assert np.isfinite(new.transform(X, batch="new")).all()


@of(ALL)
def test_adapt_to_one_row_locates_and_warns(make):
    model = make().fit(X, batch=BATCH)
    with pytest.warns(AdaptationWarning, match="location only"):
        new = model.adapt(X[:1] + 3, batch="new")
    assert np.isfinite(new.transform(X[:1], batch="new")).all()


@of(ALL)
def test_adapting_on_the_fly_wants_two_rows(make):
    model = make(handle_unknown="adapt").fit(X, batch=BATCH)
    refuse(lambda: model.transform(X, batch=replaced(BATCH, 3, "new").astype(str)), TooFewSamplesError, "'new'")


@of(ALL)
@pytest.mark.parametrize("unknown", ["pooled", "nan"])
def test_unknown_rows_leave_the_known_ones_alone(make, unknown):
    model = make(handle_unknown=unknown).fit(X, batch=BATCH)
    labels = np.where(np.arange(N) < 4, "new", BATCH)
    got = model.transform(X, batch=labels)
    assert_array_equal(got[4:], model.transform(X, batch=BATCH)[4:])
    assert np.isnan(got[:4]).all() == (unknown == "nan")


@of(SOME)
@cases(
    labels=lambda m: m.merge(m.__class__().fit(X, batch=CODE)),
    features=lambda m: m.merge(m.__class__().fit(X[:, :3], batch=BATCH)),
    keep=lambda m: m.merge(m.__class__().fit(X, batch=BATCH, keep={"g": GROUP})),
    parameters=lambda m: m.merge(m.__class__(reference_batch="p1").fit(X, batch=BATCH)),
    nothing=lambda m: m.merge(None),
    other=lambda m: m.merge((ComBat if isinstance(m, LinearCorrector) else LinearCorrector)().fit(X, batch=BATCH)),
    names=lambda m: m.merge(m.__class__().fit(TABLE, batch=BATCH)),
)
def test_what_merge_refuses(make, case):
    model = make().fit(X, batch=BATCH)
    refuse(lambda: case(model), MergeError)


@of(SOME)
def test_merge_wants_fitted_correctors(make):
    refuse_as_sklearn(lambda: make().fit(X, batch=BATCH).merge(make()))
    refuse_as_sklearn(lambda: make().merge(make().fit(X, batch=BATCH)))


def test_a_median_does_not_add_up():
    robust = ALL["batch-robust"]
    refuse(lambda: robust().partial_fit(X, batch=BATCH), MergeError, "median")
    refuse(lambda: robust().fit(X, batch=BATCH).merge(robust().fit(X, batch=BATCH)), MergeError, "median")


@of({k: v for k, v in KEEPING.items() if k != "batch-scale"})
@cases(constant=CONSTANT, within=WITHIN, gaps=GAPS, gone=GONE, lone=LONE, offset=X + 1e8)
def test_degenerate_tables_in_chunks_of_one_row(make, case):
    # every batch is a singleton, every feature constant, in the first chunks
    order = np.random.default_rng(5).permutation(N)
    model = make()
    for i in order:
        model.partial_fit(case[i : i + 1], batch=BATCH[i : i + 1])
    got = quietly(lambda: model.transform(case, batch=BATCH))
    want = quietly(lambda: make().fit_transform(case, batch=BATCH))
    assert_allclose(got, want, rtol=0, atol=1e-7 if case.max() > 1e7 else 1e-10)


@of(SOME)
@cases(unfitted=lambda m: m.transform(X, batch=BATCH), attribute=lambda m: m.batches_)
def test_not_fitted(make, case):
    refuse_as_sklearn(lambda: case(make()))


# ---- parameters


@of(SOME)
@cases(
    unknown={"handle_unknown": "ignore"},
    unknown_none={"handle_unknown": None},
    unknown_array={"handle_unknown": np.array(["error", "pooled"])},
    reference={"reference_batch": "zz"},
    reference_kind={"reference_batch": 1},
    reference_nan={"reference_batch": np.nan},
    reference_list={"reference_batch": ["p1", "p2"]},
)
def test_wrong_parameters(make, case):
    refuse(lambda: make(**case).fit(X, batch=BATCH), BatchfixError, next(iter(case)))


@cases(
    guard_zero={"scale_guard": 0},
    guard_large={"scale_guard": 2},
    guard_nan={"scale_guard": np.nan},
    guard_text={"scale_guard": "a"},
    tol_nan={"tol": np.nan},
    tol_negative={"tol": -1.0},
    tol_text={"tol": "a"},
    rounds_zero={"max_iter": 0},
    rounds_fraction={"max_iter": 1.5},
    parametric_text={"parametric": "no"},
    mean_only_text={"mean_only": "no"},
)
def test_wrong_parameters_of_combat(case):
    refuse(lambda: ComBat(**case).fit(X, batch=BATCH), BatchfixError, next(iter(case)))


@cases(
    location={"location": "mode"},
    scale={"scale": "var"},
    target={"target": "reference"},
    shrinkage={"shrinkage": True},
    location_array={"location": np.array([1, 2])},
)
def test_wrong_parameters_of_batch_corrector(case):
    refuse(lambda: BatchCorrector(**case).fit(X, batch=BATCH), BatchfixError, next(iter(case)))


@cases(
    numbers=np.ones((N, P)),
    turned=np.ones((P, N), dtype=bool),
    rows=np.ones(N, dtype=bool),
    text="yes",
)
def test_wrong_scale_where(case):
    refuse(lambda: ComBat(scale_guard=0.2).fit(X, batch=BATCH, scale_where=case), BatchfixError, "scale_where")


def test_scale_where_wants_a_guard_and_all_chunks():
    where = np.ones((N, P), dtype=bool)
    refuse(lambda: ComBat().fit(X, batch=BATCH, scale_where=where), BatchfixError, "scale_guard")
    model = ComBat(scale_guard=0.2).partial_fit(X, batch=BATCH, scale_where=where)
    refuse(lambda: model.partial_fit(X, batch=BATCH), MergeError, "scale_where")
