"""What is kept, when it must be known, and rows of batches that fit did not see."""

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

from batchfix import BatchCorrector, ComBat, LinearCorrector
from batchfix.exceptions import (
    AdaptationWarning,
    AlignmentError,
    AmbiguousKeepError,
    BatchfixError,
    ConfoundedDesignError,
    MergeError,
    MissingLabelError,
    TooFewSamplesError,
    UnknownBatchError,
    UnknownLevelError,
)

CORRECTORS = {
    "combat": ComBat(),
    "combat, not parametric": ComBat(parametric=False),
    "combat, reference": ComBat(reference_batch="b"),
    "batch": BatchCorrector(),
    "batch, standard": BatchCorrector(target="standard"),
    "batch, shrunk": BatchCorrector(shrinkage="eb"),
    "linear": LinearCorrector(),
}
THREE = {name: CORRECTORS[name] for name in ("combat", "batch", "linear")}
SCALING = {name: CORRECTORS[name] for name in ("combat", "batch")}  # whose maps depend on what is kept
N, P = 60, 8
every = pytest.mark.parametrize("name", CORRECTORS)
each = pytest.mark.parametrize("name", THREE)


def table(seed: int = 0, missing: float = 0.0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    batch = np.array(["a", "b", "c"])[np.r_[np.tile([0, 1, 2], 6), rng.integers(0, 3, N - 18)]]
    group = np.array(["u", "v", "w"])[np.r_[np.repeat([0, 1, 2], 6), rng.integers(0, 3, N - 18)]]
    age = rng.normal(50.0, 9.0, N)
    X = rng.normal(size=(N, P)) * (1 + 0.7 * (batch == "b"))[:, None] + 2.0 * (batch == "c")[:, None]
    X += (group == "v")[:, None] * rng.normal(size=P) + (group == "w")[:, None] * 3 + 0.05 * age[:, None]
    X[18:][rng.random((N - 18, P)) < missing] = np.nan
    return {"X": X, "batch": batch, "group": group, "age": age}


def corrected(corrector: Any, data: dict[str, Any], keep: Any, y: Any = None) -> np.ndarray:
    return np.asarray(clone(corrector).fit_transform(data["X"], y, batch=data["batch"], keep=keep))


# ---- what is kept is kept, however it is written


@every
@pytest.mark.parametrize("at_transform", [True, False])
@pytest.mark.parametrize("missing", [0.0, 0.1])
def test_names_and_order_of_levels_do_not_matter(name, at_transform, missing):
    data, corrector = table(missing=missing), clone(CORRECTORS[name]).set_params(keep_at_transform=at_transform)
    want = corrected(corrector, data, {"group": data["group"]})
    for names in ("wuv", "vwu", ("z", "1", " ")):
        renamed = np.array([dict(zip("uvw", names, strict=True))[g] for g in data["group"]])
        assert_allclose(corrected(corrector, data, {"group": renamed}), want, rtol=0, atol=1e-10)
    ordered = pd.Series(pd.Categorical(data["group"], categories=["w", "never", "u", "v"], ordered=True), name="group")
    assert_allclose(corrected(corrector, data, ordered), want, rtol=0, atol=1e-10)
    assert_allclose(corrected(corrector, data, data["group"]), want, rtol=0, atol=1e-10)
    assert_allclose(corrected(corrector, data, data["group"].astype(object)[:, None]), want, rtol=0, atol=1e-10)


@every
@pytest.mark.parametrize("at_transform", [True, False])
@pytest.mark.parametrize("missing", [0.0, 0.1])
def test_coding_and_baseline_do_not_matter(name, at_transform, missing):
    data, corrector = table(missing=missing), clone(CORRECTORS[name]).set_params(keep_at_transform=at_transform)
    want = corrected(corrector, data, {"group": data["group"]})
    onehot = (data["group"][:, None] == np.array(["u", "v", "w"])).astype(float)
    for coding in (onehot, onehot[:, 1:], onehot[:, :2], onehot @ np.array([[1.0, 0], [0, 1], [-1, -1]])):
        assert_allclose(corrected(corrector, data, coding), want, rtol=0, atol=1e-10)
    two = (data["group"] == "w").astype(int)
    by_name = corrected(corrector, data, {"w": np.where(two, "yes", "no")})
    for coding in (two, two == 1, two.astype(float), 1 - two, 7 * two - 100):
        assert_allclose(corrected(corrector, data, {"w": coding}), by_name, rtol=0, atol=1e-10)


@every
@pytest.mark.parametrize("at_transform", [True, False])
@given(shift=st.floats(-1e4, 1e4), unit=st.sampled_from([1e-3, -1.0, 365.25]))
@settings(max_examples=8, deadline=None)
def test_units_and_origin_of_a_number_do_not_matter(name, at_transform, shift, unit):
    data, corrector = table(missing=0.1), clone(CORRECTORS[name]).set_params(keep_at_transform=at_transform)
    want = corrected(corrector, data, {"age": data["age"]})
    assert_allclose(corrected(corrector, data, {"age": shift + unit * data["age"]}), want, rtol=0, atol=1e-9)


@every
def test_order_of_kept_columns_does_not_matter(name):
    data, corrector = table(), CORRECTORS[name]
    keep = pd.DataFrame({k: data[k] for k in ("group", "age")})
    want = corrected(corrector, data, keep)
    assert_allclose(corrected(corrector, data, keep[["age", "group"]]), want, rtol=0, atol=1e-10)
    assert_allclose(corrected(corrector, data, {"age": data["age"], "group": data["group"]}), want, rtol=0, atol=1e-10)
    fitted = clone(corrector).fit(data["X"], batch=data["batch"], keep=keep)
    again = fitted.transform(data["X"], batch=data["batch"], keep=keep[["age", "group"]])
    assert_allclose(again, want, rtol=0, atol=1e-10)


@each
def test_an_effect_that_is_kept_survives_and_one_that_is_not_does_not(name):
    rng = np.random.default_rng(3)
    batch = np.repeat(["a", "b"], 100)
    case = rng.random(200) < np.where(batch == "a", 0.8, 0.2)
    X = rng.normal(size=(200, 30)) + 2.0 * case[:, None] + 5.0 * (batch == "b")[:, None]
    group = np.where(case, "case", "control")

    def effect(out):
        return (out[case].mean(axis=0) - out[~case].mean(axis=0)).mean()

    kept = clone(THREE[name]).fit_transform(X, batch=batch, keep=group)
    eaten = clone(THREE[name]).fit_transform(X, batch=batch)
    assert effect(kept) == pytest.approx(2.0, abs=0.1)
    assert effect(eaten) < 1.5


# ---- a row's own label


@every
def test_without_keep_at_transform_a_rows_own_label_is_never_needed(name):
    data = table(missing=0.1)
    keep = pd.DataFrame({k: data[k] for k in ("group", "age")})
    corrector = clone(CORRECTORS[name]).set_params(keep_at_transform=False)
    first = corrector.fit_transform(data["X"], batch=data["batch"], keep=keep)
    bare = corrector.transform(data["X"], batch=data["batch"])
    lies = corrector.transform(data["X"], batch=data["batch"], keep=keep[::-1].reset_index(drop=True))
    strangers = corrector.transform(data["X"], batch=data["batch"], keep=keep.assign(group="never seen"))
    for out in (bare, lies, strangers):
        assert_array_equal(out, first)
    assert_allclose(corrector.inverse_transform(first, batch=data["batch"]), data["X"], atol=1e-12)


@pytest.mark.parametrize("name", SCALING)
def test_with_keep_at_transform_it_is_needed_and_used(name):
    data = table()
    corrector = clone(SCALING[name]).fit(data["X"], batch=data["batch"], keep={"group": data["group"]})
    with pytest.raises(MissingLabelError, match=r"depends on its 'group'.*keep_at_transform=False"):
        corrector.transform(data["X"], batch=data["batch"])
    with pytest.raises(UnknownLevelError, match="'group' must hold levels seen in fit"):
        corrector.transform(data["X"], batch=data["batch"], keep={"group": np.full(N, "z")})
    with pytest.raises(BatchfixError, match=r"those of fit \['group'\], got 'other'"):
        corrector.transform(data["X"], batch=data["batch"], keep={"group": data["group"], "other": data["age"]})
    told = corrector.transform(data["X"], batch=data["batch"], keep={"group": data["group"]})
    lied = corrector.transform(data["X"], batch=data["batch"], keep={"group": np.full(N, "u")})
    assert_array_equal((told != lied).any(axis=1), data["group"] != "u")


def test_linear_correction_needs_no_label_after_fit():
    data = table()
    corrector = LinearCorrector().fit(data["X"], batch=data["batch"], keep=data["group"])
    assert_array_equal(
        corrector.transform(data["X"], batch=data["batch"]),
        corrector.transform(data["X"], batch=data["batch"], keep=data["group"]),
    )


@pytest.mark.parametrize("name", CORRECTORS)
def test_without_keep_at_transform_the_map_turns_about_the_training_mean(name):
    data = table()
    keep = pd.DataFrame({k: data[k] for k in ("group", "age")})
    about_own, about_mean = (
        clone(CORRECTORS[name]).set_params(keep_at_transform=flag).fit(data["X"], batch=data["batch"], keep=keep)
        for flag in (True, False)
    )
    for part in ("center", "scale", "shift"):
        assert_allclose(getattr(about_own.affine_, part), getattr(about_mean.affine_, part), rtol=1e-12)
    assert about_mean.affine_.loading is None
    # what is kept makes no difference to the average row
    own = about_own.transform(data["X"], batch=data["batch"], keep=keep)
    mean = about_mean.transform(data["X"], batch=data["batch"])
    assert_allclose((own - mean).mean(axis=0), _weighted_gap(about_own, data), atol=1e-10)


def _weighted_gap(corrector: Any, data: dict[str, Any]) -> np.ndarray:
    """Mean over rows of (1 - scale) (z - pivot) beta, in units of the output."""
    loading = corrector.affine_.loading
    if loading is None:
        return np.zeros(P)
    z = np.hstack([(data["group"][:, None] == np.array(["u", "v", "w"])).astype(float), data["age"][:, None]])
    codes = np.searchsorted(corrector.batches_, data["batch"])
    return np.einsum("iq,iqp->ip", z - z.mean(axis=0), loading[codes]).mean(axis=0)


@each
def test_y_can_be_kept_and_is_never_needed_again(name):
    data = table(missing=0.1)
    by_y = clone(THREE[name]).set_params(keep_y=True)
    out = by_y.fit_transform(data["X"], data["group"], batch=data["batch"])
    assert_array_equal(by_y.transform(data["X"], batch=data["batch"]), out)
    about_mean = clone(THREE[name]).set_params(keep_at_transform=False)
    assert_allclose(out, about_mean.fit_transform(data["X"], batch=data["batch"], keep=data["group"]), atol=1e-10)
    for y in (pd.Series(data["group"]), data["group"][:, None], pd.Series(data["group"], dtype="category")):
        assert_allclose(clone(by_y).fit_transform(data["X"], y, batch=data["batch"]), out, atol=1e-12)
    assert_array_equal(
        clone(THREE[name]).fit_transform(data["X"], data["group"], batch=data["batch"]),
        clone(THREE[name]).fit_transform(data["X"], batch=data["batch"]),
    )


@each
def test_y_may_be_a_number_or_stand_beside_other_columns(name):
    data = table()
    about_mean = clone(THREE[name]).set_params(keep_at_transform=False)
    want = about_mean.fit_transform(data["X"], batch=data["batch"], keep=data["age"])
    by_y = clone(THREE[name]).set_params(keep_y=True)
    assert_allclose(by_y.fit_transform(data["X"], data["age"], batch=data["batch"]), want, atol=1e-10)
    both = about_mean.fit_transform(data["X"], batch=data["batch"], keep={"age": data["age"], "group": data["group"]})
    by_y.set_params(keep_at_transform=False).fit(data["X"], data["group"], batch=data["batch"], keep=data["age"])
    assert_allclose(by_y.transform(data["X"], batch=data["batch"]), both, atol=1e-10)
    # integer classes are classes, and no question arises
    codes = np.searchsorted(["u", "v", "w"], data["group"])
    by_y.fit(data["X"], codes, batch=data["batch"], keep=data["age"])
    assert_allclose(by_y.transform(data["X"], batch=data["batch"]), both, atol=1e-10)


@each
def test_y_must_be_there_to_be_kept(name):
    data = table()
    with pytest.raises(BatchfixError, match="keep_y=True must be given y in fit, got None"):
        clone(THREE[name]).set_params(keep_y=True).fit(data["X"], batch=data["batch"])
    with pytest.raises(BatchfixError, match=r"one target, got shape \(60, 2\)"):
        clone(THREE[name]).set_params(keep_y=True).fit(data["X"], np.zeros((N, 2)), batch=data["batch"])


# ---- transform is a function of the row


@every
@pytest.mark.parametrize("missing", [0.0, 0.1])
@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, N))
@settings(max_examples=8, deadline=None)
def test_a_subset_transforms_as_the_whole_does(name, missing, seed, size):
    data = table(missing=missing)
    keep = pd.DataFrame({k: data[k] for k in ("group", "age")})
    corrector = clone(CORRECTORS[name]).fit(data["X"], batch=data["batch"], keep=keep)
    whole = corrector.transform(data["X"], batch=data["batch"], keep=keep)
    rows = np.random.default_rng(seed).choice(N, size, replace=False)
    part = keep.iloc[rows].reset_index(drop=True)
    out = corrector.transform(data["X"][rows], batch=data["batch"][rows], keep=part)
    assert_array_equal(out, whole[rows])
    one = corrector.transform(data["X"][rows[:1]], batch=data["batch"][rows[0]], keep=part[:1])
    assert_array_equal(one, whole[rows[:1]])


@every
def test_missing_values_stay_where_they_were(name):
    data = table()
    data["X"][20, 3] = np.nan
    out = corrected(CORRECTORS[name], data, {"group": data["group"]})
    assert_array_equal(np.argwhere(np.isnan(out)), [[20, 3]])


@pytest.mark.parametrize("name", ["combat", "combat, not parametric", "batch", "batch, shrunk", "linear"])
@pytest.mark.parametrize("keep", [None, "group", "age"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("missing", [0.0, 0.1])
def test_a_reference_batch_stays_bit_for_bit(name, keep, dtype, missing):
    data = table(missing=missing)
    data["X"] = (100 * data["X"]).astype(dtype)
    data["X"][data["batch"] == "b", 2] *= 1 - 2 * (np.arange((data["batch"] == "b").sum()) % 2)  # signs
    data["X"][np.flatnonzero(data["batch"] == "b")[:2], 0] = [-0.0, 0.0]
    corrector = clone(CORRECTORS[name]).set_params(reference_batch="b")
    out = corrected(corrector, data, None if keep is None else data[keep])
    own = data["batch"] == "b"
    assert out[own].tobytes() == data["X"][own].tobytes()
    assert np.nanmax(np.abs(out[~own] - data["X"][~own])) > 0.1
    with pytest.raises(UnknownBatchError, match=r"reference_batch must be one of .*'a', 'b', 'c'.*got 'z'"):
        clone(corrector).set_params(reference_batch="z").fit(data["X"], batch=data["batch"])


# ---- what kind of column it is


@each
def test_integers_of_many_values_must_be_declared(name):
    data = table()
    stage = np.searchsorted(["u", "v", "w"], data["group"])
    for keep in ({"stage": stage}, pd.Series(stage, name="stage"), pd.DataFrame({"stage": stage.astype("uint8")})):
        with pytest.raises(AmbiguousKeepError, match="'stage' must say whether it is a factor or a number"):
            corrected(THREE[name], data, keep)
    with pytest.raises(AmbiguousKeepError, match="'keep0'"):
        corrected(THREE[name], data, stage)
    factor, number = (clone(THREE[name]).set_params(**{k: ["stage"]}) for k in ("keep_factors", "keep_numbers"))
    as_factor = corrected(factor, data, {"stage": stage})
    as_number = corrected(number, data, {"stage": stage})
    assert_allclose(as_factor, corrected(THREE[name], data, data["group"]), atol=1e-10)
    assert_allclose(as_number, corrected(THREE[name], data, stage.astype(float)), atol=1e-10)
    assert np.abs(as_factor - as_number).max() > 1e-3
    assert_allclose(corrected(THREE[name], data, pd.Series(stage).astype("category")), as_factor, atol=1e-10)
    # what fit decided holds at transform, where a few rows may look otherwise
    fitted = factor.fit(data["X"], batch=data["batch"], keep={"stage": stage})
    some = fitted.transform(data["X"][:3], batch=data["batch"][:3], keep={"stage": stage[:3]})
    assert_allclose(some, as_factor[:3], atol=1e-12)
    fitted = number.fit(data["X"], batch=data["batch"], keep={"stage": stage})
    some = fitted.transform(data["X"][:3], batch=data["batch"][:3], keep={"stage": stage[:3].astype(float)})
    assert_allclose(some, as_number[:3], atol=1e-12)


@each
def test_text_can_be_declared_a_number_only_if_it_is_one(name):
    data = table()
    text = np.array([f"{a:.3f}" for a in data["age"]])
    as_number = clone(THREE[name]).set_params(keep_numbers=["age"])
    want = corrected(THREE[name], data, {"age": text.astype(float)})
    assert_allclose(corrected(as_number, data, {"age": text}), want, atol=1e-10)
    with pytest.raises(BatchfixError, match="'age' must hold numbers"):
        corrected(as_number, data, {"age": data["group"]})


@each
@pytest.mark.parametrize("gap", [None, np.nan, pd.NA])
def test_a_kept_value_that_is_missing_is_refused(name, gap):
    data = table()
    group = pd.Series(data["group"], dtype=object)
    group[7] = gap
    with pytest.raises(MissingLabelError, match=r"'group', got none for 1 row \(at 7\)"):
        corrected(THREE[name], data, {"group": group})
    age = pd.Series(data["age"], dtype="Float64")
    age[7] = pd.NA
    with pytest.raises(MissingLabelError, match=r"'age', got none for 1 row \(at 7\)"):
        corrected(THREE[name], data, {"age": age})


# ---- which row it belongs to


@each
@pytest.mark.parametrize("kind", ["shuffled", "larger"])
def test_labels_with_an_index_find_their_rows(name, kind):
    data = table()
    ids = pd.Index([f"s{i:02}" for i in range(N)])
    X = pd.DataFrame(data["X"], index=ids)
    X.columns = X.columns.astype(str)
    want = corrected(THREE[name], data, {"group": data["group"], "age": data["age"]})
    labels = pd.DataFrame({k: data[k] for k in ("batch", "group", "age")}, index=ids)
    if kind == "larger":
        labels.loc["stranger"] = ["z", "z", 1.0]
    labels = labels.sample(frac=1, random_state=0)
    got = clone(THREE[name]).fit_transform(X, batch=labels["batch"], keep=labels[["group", "age"]])
    assert_allclose(got, want, atol=1e-12)
    assert got.index.equals(ids)
    mixed = clone(THREE[name]).fit_transform(
        X, batch=data["batch"], keep={"group": labels["group"], "age": data["age"].tolist()}
    )
    assert_allclose(mixed, want, atol=1e-12)
    by_y = clone(THREE[name]).set_params(keep_y=True).fit(X, labels["group"], batch=labels["batch"])
    plain = clone(THREE[name]).set_params(keep_y=True).fit(data["X"], data["group"], batch=data["batch"])
    assert_allclose(by_y.affine_.shift, plain.affine_.shift, atol=1e-12)


@each
def test_labels_of_other_rows_are_refused(name):
    data = table()
    X = pd.DataFrame(data["X"], index=[f"s{i}" for i in range(N)]).rename(columns=str)
    batch, group = pd.Series(data["batch"]), pd.Series(data["group"])
    with pytest.raises(AlignmentError, match=r"index of batch .*60 of 60 row ids have none, 's0' for one"):
        clone(THREE[name]).fit(X, batch=batch)
    with pytest.raises(AlignmentError, match="index of keep"):
        clone(THREE[name]).fit(X, batch=data["batch"], keep=group)
    with pytest.raises(AlignmentError, match=r"index of keep\['group'\]"):
        clone(THREE[name]).fit(X, batch=data["batch"], keep={"group": group})
    with pytest.raises(AlignmentError, match="index of y"):
        clone(THREE[name]).set_params(keep_y=True).fit(X, group, batch=data["batch"])
    for wrong in (data["batch"][:-1], [*data["batch"], "a"]):
        with pytest.raises(AlignmentError, match=r"one entry a row of X, got (59|61) for 60"):
            clone(THREE[name]).fit(X, batch=wrong)
    with pytest.raises(AlignmentError, match="keep must have one entry a row"):
        clone(THREE[name]).fit(data["X"], batch=data["batch"], keep=data["age"][:5])
    twice = X.set_axis(["same"] * N)
    with pytest.raises(AlignmentError, match="ids are repeated"):
        clone(THREE[name]).fit(twice, batch=pd.Series(data["batch"], index=["same"] * (N - 1) + ["other"]).iloc[::-1])
    clone(THREE[name]).fit(twice, batch=pd.Series(data["batch"], index=twice.index))  # the very same index is no riddle


def test_a_presence_mask_with_an_index_finds_its_rows_too():
    data = table()
    X = pd.DataFrame(np.round(data["X"]), index=[f"s{i:02}" for i in range(N)]).rename(columns=str)
    where = X != 0
    want = ComBat(scale_guard=0.5).fit(X, batch=data["batch"], scale_where=where)
    got = ComBat(scale_guard=0.5).fit(X, batch=data["batch"], scale_where=where[::-1])
    assert_array_equal(got.statistics_.present, want.statistics_.present)
    with pytest.raises(AlignmentError, match="scale_where"):
        ComBat(scale_guard=0.5).fit(X, batch=data["batch"], scale_where=where.reset_index(drop=True))


# ---- designs that cannot be told apart


@each
def test_a_confounded_design_is_refused_by_the_names_of_its_levels(name):
    data = table()
    status = np.where(data["batch"] == "a", "case", "control")
    with pytest.raises(ConfoundedDesignError) as error:
        corrected(THREE[name], data, {"status": status})
    assert "Batch and 'status' cannot be told apart" in str(error.value)
    assert "{'a'} hold only {'case'}; batches {'b', 'c'} hold only {'control'}" in str(error.value)
    with pytest.raises(ConfoundedDesignError, match="Batch and 'y'"):
        corrected(clone(THREE[name]).set_params(keep_y=True), data, None, status)
    with pytest.raises(ConfoundedDesignError, match="'dose' has one value within every batch"):
        corrected(THREE[name], data, {"dose": np.searchsorted(["a", "b", "c"], data["batch"]) * 1.5})
    with pytest.raises(ConfoundedDesignError, match="'status'"):
        corrected(THREE[name], data, {"age": data["age"], "status": status})
    partly = np.where(np.arange(N) < 3, "case", status)  # one case outside is enough
    corrected(THREE[name], data, {"status": partly})


@each
def test_more_kept_columns_than_samples_are_refused(name):
    data = table()
    with pytest.raises(TooFewSamplesError, match="60 rows for 3 batches"):
        corrected(THREE[name], data, np.random.default_rng(0).normal(size=(N, 70)))
    with pytest.raises(ConfoundedDesignError, match="'id'"):
        corrected(THREE[name], data, {"id": [f"s{i}" for i in range(N)]})


# ---- batches that fit did not see


def split(data: dict[str, Any], label: str = "c") -> tuple[dict[str, Any], dict[str, Any]]:
    new = data["batch"] == label
    return tuple({k: v[rows] for k, v in data.items()} for rows in (~new, new))  # type: ignore[return-value]


@every
def test_unknown_batches_are_refused_by_name(name):
    known, new = split(table())
    corrector = clone(CORRECTORS[name]).fit(known["X"], batch=known["batch"])
    with pytest.raises(UnknownBatchError, match=r"Batch 'c' was not seen in fit \(known: 'a', 'b'\).*adapt"):
        corrector.transform(new["X"], batch=new["batch"])
    with pytest.raises(UnknownBatchError, match="Batch 'c'"):
        corrector.inverse_transform(new["X"], batch=new["batch"])
    with pytest.raises(UnknownBatchError, match="Batch 7"):
        corrector.transform(new["X"], batch=7)
    with pytest.raises(BatchfixError, match="handle_unknown"):
        clone(corrector).set_params(handle_unknown="reference").fit(known["X"], batch=known["batch"])


@every
def test_unknown_batches_can_become_nan(name):
    data = table(missing=0.1)
    known, new = split(data)
    corrector = clone(CORRECTORS[name]).set_params(handle_unknown="nan").fit(known["X"], batch=known["batch"])
    out = corrector.transform(data["X"], batch=data["batch"])
    rows = data["batch"] == "c"
    assert np.isnan(out[rows]).all()
    assert_array_equal(out[~rows], corrector.transform(known["X"], batch=known["batch"]))
    kept = clone(corrector).fit(known["X"], batch=known["batch"], keep={"age": known["age"]})
    assert np.isnan(kept.transform(new["X"], batch=new["batch"], keep={"age": new["age"]})).all()


@every
@pytest.mark.parametrize("keep", [False, True])
def test_unknown_batches_can_be_mapped_as_the_pooled_rows(name, keep):
    data = table()
    known, new = split(data)
    corrector = clone(CORRECTORS[name]).set_params(handle_unknown="pooled")
    said = ({"keep": {"age": d["age"]}} if keep else {} for d in (known, new))
    corrector.fit(known["X"], batch=known["batch"], **next(said))
    told = next(said)
    out = corrector.transform(new["X"], batch=new["batch"], **told)
    assert_allclose(corrector.inverse_transform(out, batch=new["batch"], **told), new["X"], atol=1e-12)
    params = corrector.get_params()
    if params["reference_batch"] is None and params.get("target") != "standard":
        assert_allclose(out, new["X"], atol=1e-12)  # the pooled rows' frame is the target's
    elif not keep:
        by_batch = [known["X"][known["batch"] == b] for b in "ab"]
        within = np.concatenate([x - x.mean(axis=0) for x in by_batch])
        if name == "batch, standard":
            spread = np.sqrt((within**2).sum(axis=0) / (len(within) - 2))
            want = (new["X"] - known["X"].mean(axis=0)) / spread
        else:  # ComBat divides by n
            ratio = by_batch[1].std(axis=0) / np.sqrt((within**2).mean(axis=0))
            want = by_batch[1].mean(axis=0) + (new["X"] - known["X"].mean(axis=0)) * ratio
        assert_allclose(out, want, atol=1e-10)


@every
@pytest.mark.parametrize("missing", [0.0, 0.1])
def test_adapt_on_the_fly_is_adapt(name, missing):
    data = table(missing=missing)
    known, new = split(data)
    corrector = clone(CORRECTORS[name]).set_params(handle_unknown="adapt").fit(known["X"], batch=known["batch"])
    before = corrector.transform(known["X"], batch=known["batch"])
    state = corrector.get_params(), corrector.batches_.tolist()
    out = corrector.transform(data["X"], batch=data["batch"])
    learned = corrector.adapt(new["X"], batch=new["batch"])
    assert_allclose(out[data["batch"] == "c"], learned.transform(new["X"], batch="c"), atol=1e-14)
    assert_array_equal(out[data["batch"] != "c"], before)
    assert (corrector.get_params(), corrector.batches_.tolist()) == state
    with pytest.raises(TooFewSamplesError, match="two or more rows of a new batch, got 1 of 'd'"):
        corrector.transform(new["X"][:1], batch="d")
    with pytest.warns(AdaptationWarning, match="'d' is learned from 9 rows"):
        corrector.transform(new["X"][:9], batch="d")
    with pytest.raises(UnknownBatchError, match="'d'"):
        corrector.inverse_transform(new["X"][:9], batch="d")


# ---- adapt


@every
@pytest.mark.parametrize("keep", [False, True])
def test_adapt_returns_a_new_corrector_and_freezes_what_is_known(name, keep):
    data = table(missing=0.05)
    known, new = split(data)
    told = [{"keep": pd.DataFrame({k: d[k] for k in ("group", "age")})} if keep else {} for d in (known, new)]
    corrector = clone(CORRECTORS[name]).fit(known["X"], batch=known["batch"], **told[0])
    before = corrector.transform(known["X"], batch=known["batch"], **told[0])
    wider = corrector.adapt(new["X"], batch=new["batch"], **told[1])
    assert corrector.batches_.tolist() == ["a", "b"]
    assert wider.batches_.tolist() == ["a", "b", "c"]
    assert_array_equal(wider.transform(known["X"], batch=known["batch"], **told[0]), before)
    assert_array_equal(corrector.transform(known["X"], batch=known["batch"], **told[0]), before)
    out = wider.transform(new["X"], batch=new["batch"], **told[1])
    assert_allclose(wider.inverse_transform(out, batch=new["batch"], **told[1]), new["X"], atol=1e-12)
    # a second one beside the first
    three = wider.adapt(new["X"], batch="aa", **told[1])
    assert three.batches_.tolist() == ["a", "b", "c", "aa"]
    assert_array_equal(three.transform(new["X"], batch=new["batch"], **told[1]), out)
    assert_array_equal(three.transform(new["X"], batch="aa", **told[1]), out)
    assert_array_equal(three.transform(known["X"], batch=known["batch"], **told[0]), before)


@every
def test_adapt_knows_its_place(name):
    known, new = split(table())
    corrector = clone(CORRECTORS[name]).fit(known["X"], batch=known["batch"])
    with pytest.raises(BatchfixError, match=r"learns batches that fit did not see, got \{'a'\}.*partial_fit"):
        corrector.adapt(known["X"], batch="a")
    with pytest.raises(MissingLabelError, match="new batch's label, got batch=None"):
        corrector.adapt(new["X"])
    wider = corrector.adapt(new["X"], batch="c")
    with pytest.raises(BatchfixError, match=r"got \{'c'\}"):
        wider.adapt(new["X"], batch="c")
    with pytest.raises(MergeError, match="one that adapt"):
        wider.merge(corrector)
    with pytest.raises(MergeError, match="one that adapt"):
        wider.partial_fit(known["X"], batch=known["batch"])
    with pytest.raises(BatchfixError, match=r"of one kind|all of them"):
        corrector.adapt(new["X"], batch=7)


@every
def test_two_batches_can_be_adapted_at_once(name):
    data = table()
    known, new = split(data)
    corrector = clone(CORRECTORS[name]).fit(known["X"], batch=known["batch"])
    label = np.where(np.arange(len(new["X"])) % 2, "d", "c")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AdaptationWarning)
        both = corrector.adapt(new["X"], batch=label)
        apart = corrector.adapt(new["X"][label == "c"], batch="c").adapt(new["X"][label == "d"], batch="d")
    assert_allclose(both.transform(new["X"], batch=label), apart.transform(new["X"], batch=label), atol=1e-14)


@every
def test_one_row_gives_a_location_only(name):
    known, new = split(table())
    corrector = clone(CORRECTORS[name]).fit(known["X"], batch=known["batch"])
    with pytest.warns(AdaptationWarning, match=r"'c' is learned from 1 row: its location only"):
        wider = corrector.adapt(new["X"][:1], batch="c")
    solution = corrector.solution_
    ratio = wider.affine_.scale[2]
    target = np.ones(P) if corrector.get_params().get("target") != "standard" else 1 / solution.target.scale
    assert_allclose(ratio, target)
    assert np.isfinite(wider.transform(new["X"], batch="c")).all()


@pytest.mark.parametrize("n", [2, 9, 10])
def test_few_rows_are_warned_of(n):
    known, new = split(table())
    corrector = ComBat().fit(known["X"], batch=known["batch"])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        corrector.adapt(new["X"][:n], batch="c")
    assert [w.category for w in caught] == [AdaptationWarning] * (n < 10)
    assert all(w.filename == __file__ for w in caught)


@pytest.mark.parametrize("name", SCALING)
def test_adapting_without_what_was_kept_is_warned_of(name):
    known, new = split(table())
    corrector = clone(SCALING[name]).fit(known["X"], batch=known["batch"], keep={"age": known["age"]})
    with pytest.warns(AdaptationWarning, match="without.*'age'.*composition"):
        corrector.adapt(new["X"], batch="c")


@each
def test_adapting_after_kept_y_can_be_done_in_silence(name):
    """Nobody can give adapt y: a warning that asks for it leaves nothing to do (see handle_unknown)."""
    known, new = split(table())
    corrector = clone(THREE[name]).set_params(keep_y=True, keep_at_transform=False)
    corrector.fit(known["X"], known["group"], batch=known["batch"], keep={"age": known["age"]})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with_age = corrector.adapt(new["X"], batch="c", keep={"age": new["age"]})
        without = corrector.adapt(new["X"], batch="c")
    assert not any("Pass them" in str(w.message) and "'y'" in str(w.message) for w in caught)
    # what can be told is used
    assert np.abs(with_age.affine_.center[2] - without.affine_.center[2]).max() > 1e-6


def truth(seed: int, sizes: dict[str, int], p: int = 200) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    batch = np.repeat(list(sizes), list(sizes.values()))
    group = np.where(rng.random(len(batch)) < np.where(batch == "new", 0.8, 0.4), "case", "control")
    clean = rng.normal(8.0, 1.0, p) + rng.normal(size=(len(batch), p))
    clean += (group == "case")[:, None] * rng.normal(0.0, 1.0, p)
    X = clean.copy()
    for b in sizes:
        own = batch == b
        location, scale = rng.normal(rng.normal(0, 1.5), 0.4, p), np.exp(rng.normal(0.2, 0.2, p))
        X[own] = 8.0 + (clean[own] - 8.0) * scale + location
    return {"X": X, "batch": batch, "group": group, "clean": clean}


@pytest.mark.parametrize("name", ["combat", "combat, not parametric", "batch", "batch, shrunk", "linear"])
@pytest.mark.parametrize("keep", [False, True])
def test_adapt_gets_close_to_the_fit_that_saw_the_batch(name, keep):
    data = truth(0, {"a": 80, "b": 80, "c": 80, "new": 40})
    known, new = split(data, "new")
    said = [{"keep": {"group": d["group"]}} if keep else {} for d in (data, known, new)]
    full = clone(CORRECTORS[name]).fit(data["X"], batch=data["batch"], **said[0])
    wider = clone(CORRECTORS[name]).fit(known["X"], batch=known["batch"], **said[1])
    wider = wider.adapt(new["X"], batch=new["batch"], **said[2])
    want = full.transform(new["X"], batch=new["batch"], **said[2])
    got = wider.transform(new["X"], batch=new["batch"], **said[2])
    # the two have different targets: the pooled rows with and without the new ones
    frames = [m.transform(known["X"], batch=known["batch"], **said[1]).mean(axis=0) for m in (wider, full)]
    got = got + frames[1] - frames[0]
    left, effect = np.sqrt(np.mean((got - want) ** 2)), np.sqrt(np.mean((new["X"] - want) ** 2))
    assert left < 0.12 * effect


def test_composition_is_told_from_effect_only_with_keep():
    data = truth(1, {"a": 80, "b": 80, "new": 60})
    known, new = split(data, "new")
    corrector = ComBat(keep_at_transform=False).fit(known["X"], batch=known["batch"], keep={"group": known["group"]})
    told = corrector.adapt(new["X"], batch="new", keep={"group": new["group"]})
    with pytest.warns(AdaptationWarning):
        untold = corrector.adapt(new["X"], batch="new")
    reference = corrector.transform(known["X"], batch=known["batch"])

    def off(model):
        out = model.transform(new["X"], batch="new")
        here, there = (
            [x[d["group"] == g].mean(axis=0) for g in ("case", "control")] for x, d in ((out, new), (reference, known))
        )
        return np.sqrt(np.mean(np.subtract(here, there) ** 2))

    assert off(told) < 0.7 * off(untold)


def test_adapt_shrinks_as_combat_does():
    data = truth(2, {"a": 60, "b": 60, "new": 5})
    known, new = split(data, "new")
    combat, plain = (m.fit(known["X"], batch=known["batch"]) for m in (ComBat(), BatchCorrector()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AdaptationWarning)
        combat, plain = (m.adapt(new["X"], batch="new") for m in (combat, plain))
    spread = [np.std(np.log(m.affine_.scale[2])) for m in (combat, plain)]
    assert spread[0] < 0.6 * spread[1]
    assert combat.gamma_star_.shape == (3, 200)
    assert np.var(combat.gamma_star_[2]) < np.var(combat.gamma_hat_[2])


def test_controls_alone_can_teach_the_batch_effect():
    data = truth(3, {"a": 100, "b": 100})
    controls = data["group"] == "control"
    corrector = ComBat().fit(data["X"][controls], batch=data["batch"][controls])
    out = corrector.transform(data["X"], batch=data["batch"])
    for group in ("case", "control"):

        def gap(x, group=group):
            a, b = (x[(data["batch"] == k) & (data["group"] == group)].mean(axis=0) for k in ("a", "b"))
            return np.abs(a - b).mean()

        assert gap(out) < 0.35 * gap(data["X"])


# ---- fitted without batch


@each
def test_batch_must_be_told_as_it_was_in_fit(name):
    data = table()
    corrector = clone(THREE[name]).fit(data["X"], batch=data["batch"])
    with pytest.raises(MissingLabelError, match="must be told those of these rows, got batch=None"):
        corrector.transform(data["X"])
    with pytest.raises(MissingLabelError, match="must be told"):
        corrector.inverse_transform(data["X"])
    with pytest.warns(UserWarning, match="without batch labels"):
        bare = clone(THREE[name]).fit(data["X"])
    assert_array_equal(bare.transform(data["X"]), data["X"])
    with pytest.raises(UnknownBatchError, match="fitted without batch labels"):
        bare.transform(data["X"], batch=data["batch"])
    with pytest.raises(UnknownBatchError, match="fitted without"):
        bare.adapt(data["X"], batch="d")


@each
def test_one_batch_is_nothing_to_correct_and_says_so(name):
    data = table()
    with pytest.warns(UserWarning, match="batch"):
        out = clone(THREE[name]).fit_transform(data["X"], batch="only")
    assert_array_equal(out, data["X"])


# ---- options that a slip of the pen could turn


@each
def test_lists_of_names_are_lists(name):
    data = table()
    years = {"age": np.round(data["age"]).astype(int)}
    for option in ("keep_factors", "keep_numbers"):
        with pytest.raises(BatchfixError, match=option):  # "age" is in "stage"
            corrected(clone(THREE[name]).set_params(**{option: "stage"}), data, years)
    with pytest.raises(BatchfixError, match="'age'"):
        corrected(clone(THREE[name]).set_params(keep_factors=["age"], keep_numbers=["age"]), data, years)
    frame = pd.DataFrame(data["X"]).rename(columns=str).assign(age=data["age"])
    with pytest.raises(BatchfixError, match="keep_keys"):
        clone(THREE[name]).set_params(keep_keys="age").fit(frame, batch=data["batch"])


@every
@pytest.mark.parametrize("at_transform", [True, False])
def test_a_level_that_a_feature_never_shows_takes_no_coding_either(name, at_transform):
    data, corrector = table(), clone(CORRECTORS[name]).set_params(keep_at_transform=at_transform)
    data["X"][data["group"] == "w", 2] = np.nan
    want = corrected(corrector, data, {"group": data["group"]})
    assert np.nanmax(np.abs(want)) < 2 * np.nanmax(np.abs(data["X"])) + 10
    onehot = (data["group"][:, None] == np.array(["u", "v", "w"])).astype(float)
    for coding in (onehot, onehot[:, 1:], onehot[:, :2], onehot[:, [0, 2]]):
        assert_allclose(corrected(corrector, data, coding), want, rtol=0, atol=1e-10)


@every
@pytest.mark.parametrize("constant", [0.1, 4.2, 1 / 3, 1e8 + 0.1])
@pytest.mark.parametrize("missing", [0.0, 0.1])
def test_a_kept_number_that_never_changes_changes_nothing(name, constant, missing):
    data = table(missing=missing)
    want = corrected(CORRECTORS[name], data, None)
    assert_allclose(corrected(CORRECTORS[name], data, {"k": np.full(N, constant)}), want, rtol=0, atol=1e-10)
    chunks = clone(CORRECTORS[name])
    for part in np.array_split(np.arange(N), 7):
        chunks.partial_fit(data["X"][part], batch=data["batch"][part], keep={"k": np.full(len(part), constant)})
    out = chunks.transform(data["X"], batch=data["batch"], keep={"k": np.full(N, constant)})
    assert_allclose(out, want, rtol=0, atol=1e-10)


def test_a_number_that_never_changes_where_a_feature_is_observed_changes_nothing_there():
    data = table()
    dose = np.where(data["group"] == "w", data["age"], 0.1)
    data["X"][data["group"] == "w", 2] = np.nan
    seen = data["group"] != "w"
    want = corrected(LinearCorrector(), data, None)
    assert_allclose(corrected(LinearCorrector(), data, {"dose": dose})[seen, 2], want[seen, 2], rtol=0, atol=1e-10)


@each
def test_days_can_be_batches(name):
    data = table()
    days = {"a": "2024-01-08", "b": "2024-02-05", "c": "2024-03-04"}
    day = pd.to_datetime(pd.Series([days[b] for b in data["batch"]]))
    assert_allclose(
        clone(THREE[name]).fit_transform(data["X"], batch=day), corrected(THREE[name], data, None), atol=1e-12
    )
    about = clone(THREE[name]).set_params(reference_batch=pd.Timestamp(days["b"])).fit(data["X"], batch=day)
    own = data["batch"] == "b"
    assert_array_equal(about.transform(data["X"][own], batch=day[own]), data["X"][own])
    with pytest.raises(UnknownBatchError, match="2024-05-06"):
        about.transform(data["X"], batch=pd.Timestamp("2024-05-06"))


@each
@pytest.mark.parametrize("container", [list, tuple, np.array, pd.Index])
def test_lists_of_names_may_be_of_any_kind(name, container):
    data = table()
    names = container(["age", "years"])
    keep = {"age": np.round(data["age"]).astype(int), "years": np.round(data["age"] / 7).astype(int)}
    want = corrected(THREE[name], data, {k: v.astype(float) for k, v in keep.items()})
    assert_allclose(corrected(clone(THREE[name]).set_params(keep_numbers=names), data, keep), want, atol=1e-10)
    frame = pd.DataFrame(data["X"]).rename(columns=str).assign(**{k: v.astype(float) for k, v in keep.items()})
    by_key = clone(THREE[name]).set_params(keep_keys=names).fit_transform(frame, batch=data["batch"])
    assert_allclose(by_key, want, atol=1e-10)


def test_an_unknown_batch_is_only_located_where_the_known_are():
    data = table()
    corrector = ComBat(mean_only=True, reference_batch=np.unique(data["batch"])[0], handle_unknown="pooled")
    corrector.fit(data["X"], batch=data["batch"], keep={"age": data["age"]})
    got = corrector.transform(data["X"], batch="never seen", keep={"age": data["age"]})
    assert_allclose(np.ptp(got - data["X"], axis=0), 0, atol=1e-12)
