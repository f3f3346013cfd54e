"""Cross-validated checks: the corrector stands inside, and what it has not seen tells the truth."""

import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import TimeSeriesSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from batchfix import BatchCorrector, ComBat, CompositionalCorrector, LinearCorrector
from batchfix.datasets import make_lab, make_microbes
from batchfix.diagnostics.correction import prepare
from batchfix.diagnostics.held_out import held_out
from batchfix.diagnostics.learners import (
    Components,
    Target,
    _leading,
    _nearly_leading,
    area_under_curve,
    concordant,
    score,
)
from batchfix.diagnostics.predictability import batch_predictability, by_chance
from batchfix.diagnostics.validation import leave_one_batch_out
from batchfix.exceptions import (
    AdaptationWarning,
    AlignmentError,
    BatchfixError,
    MissingLabelError,
    TooFewSamplesError,
    UnknownBatchError,
)


@pytest.fixture(scope="module")
def lab():
    return make_lab(90, 30, 3, random_state=0)


class Centring(TransformerMixin, BaseEstimator):
    """A stranger that takes batch labels, and gives no parameters beyond."""

    def fit(self, X, y=None, batch=None):
        self.means_ = pd.DataFrame(np.asarray(X)).groupby(np.asarray(batch)).mean()
        return self

    def transform(self, X, batch=None):
        return np.asarray(X) - self.means_.loc[np.asarray(batch)].to_numpy()


# ---- predicting batch


@pytest.mark.parametrize("corrector", [LinearCorrector(), ComBat(), BatchCorrector(), Centring()], ids=str)
def test_on_well_corrected_data_the_area_is_a_half_where_the_naive_one_is_nonsense(corrector):
    lab = make_lab(240, 30, 3, batch_scale=0.0, random_state=1)
    raw = batch_predictability(lab.data, lab.batch, classifiers="linear", repeats=1)
    assert raw.linear > 0.95
    inside = batch_predictability(lab.data, lab.batch, corrector, repeats=1)
    assert inside.linear == pytest.approx(0.5, abs=0.05)
    assert inside.by_chance[0] < inside.forest < inside.by_chance[1]
    keywords = {"batch": lab.batch}
    corrected = corrector.fit(lab.data, **keywords).transform(lab.data, **keywords)
    naive = batch_predictability(corrected, lab.batch, corrected=False, classifiers="linear", repeats=1)
    assert naive.linear < 0.3
    said = batch_predictability(corrected, lab.batch)
    assert (said.linear, said.forest, said.auc) == (None, None, {})
    assert "corrected on these very rows" in str(said)
    told = batch_predictability(lab.data, lab.batch, corrected=True)
    assert told.linear is None


def test_a_table_without_batch_effect_is_not_taken_for_corrected():
    for seed in range(5):
        lab = make_lab(60, 12, 3, batch_shift=0.0, batch_scale=0.0, random_state=seed)
        found = batch_predictability(lab.data, lab.batch, classifiers="linear", repeats=1)
        low, high = found.by_chance
        assert low - 0.1 < found.linear < high + 0.1


def test_a_forest_sees_the_spread_that_location_leaves():
    lab = make_lab(240, 20, 2, batch_scale=1.0, random_state=1)
    left = batch_predictability(lab.data, lab.batch, LinearCorrector(), repeats=1)
    scaled = batch_predictability(lab.data, lab.batch, BatchCorrector(), repeats=1)
    assert left.linear == pytest.approx(0.5, abs=0.05)
    assert left.forest > 0.7 > 0.6 > scaled.forest


def test_chance_is_where_areas_of_noise_lie():
    rng = np.random.default_rng(0)
    codes = np.repeat([0, 1], [20, 40])
    areas = [area_under_curve(rng.normal(size=60), codes == 1) for _ in range(2000)]
    low, high = by_chance(np.array([20, 40]))
    outside = np.mean([not low < area < high for area in areas])
    assert outside == pytest.approx(0.05, abs=0.02)  # 4 standard errors of 2,000 draws


def test_result_is_the_same_under_another_order_of_columns_and_names(lab):
    found = batch_predictability(lab.data, lab.batch, ComBat(), classifiers="linear", repeats=2)
    other = batch_predictability(
        lab.data.rename(columns=str.upper), lab.batch.map({"b1": "x1", "b2": "x2", "b3": "x3"}), ComBat(),
        classifiers="linear", repeats=2,
    )  # fmt: skip
    assert_allclose(found.linear, other.linear, rtol=1e-12)
    assert found.per_batch.index.tolist() == ["b1", "b2", "b3"]
    assert found.repeats.shape == (2, 1)
    assert found.interval["linear"][0] <= found.linear <= found.interval["linear"][1]


def test_pipelines_keys_and_arrays_say_the_same(lab):
    kwargs = {"classifiers": "linear", "repeats": 1}
    wanted = batch_predictability(lab.data, lab.batch, ComBat(), keep=lab.group, **kwargs).linear
    table = lab.data.assign(plate=lab.batch, group=lab.group)
    for X, batch, corrector, keep in (
        (table, None, ComBat(batch_key="plate", keep_keys=["group"]), None),
        (table, lab.batch, make_pipeline(ComBat(batch_key="plate", keep_keys=["group"]), StandardScaler()), None),
        (lab.data, lab.batch, make_pipeline(ComBat(), StandardScaler()), lab.group),
        (lab.data.to_numpy(), lab.batch.tolist(), ComBat(), lab.group.to_numpy()),
        (lab.data, lab.batch.sample(frac=1, random_state=0), ComBat(), lab.group.sample(frac=1, random_state=1)),
    ):
        assert_allclose(batch_predictability(X, batch, corrector, keep=keep, **kwargs).linear, wanted, rtol=1e-9)


def test_small_batches_are_left_out_and_named(lab):
    batch = lab.batch.to_numpy().copy()
    batch[:2] = "tiny"
    found = batch_predictability(lab.data, batch, LinearCorrector(), classifiers="linear", repeats=1)
    assert found.left_out == ("tiny",)
    assert "tiny" in str(found)


def test_folds_in_time(lab):
    found = batch_predictability(lab.data, lab.batch, LinearCorrector(), cv=TimeSeriesSplit(3), classifiers="linear")
    assert len(found.repeats) == 1
    follow = np.repeat(["a", "b", "c", "d"], [23, 23, 22, 22])
    with pytest.raises(TooFewSamplesError, match="in time"):
        batch_predictability(lab.data, follow, LinearCorrector(), cv=TimeSeriesSplit(3), classifiers="linear")


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"batch": ["a"] * 90}, BatchfixError, "two levels"),
        ({"batch": np.arange(90)}, TooFewSamplesError, "Every label is unique"),
        ({"X": np.ones((90, 3))}, BatchfixError, "constant"),
        ({"X": np.full((90, 3), np.nan)}, BatchfixError, "constant"),
        ({"batch": ["a", "b"]}, AlignmentError, "one entry a row"),
        ({"batch": [None, *"ab" * 44, "a"]}, MissingLabelError, "label in batch"),
        ({"cv": 1}, BatchfixError, "at least 2"),
        ({"cv": "five"}, BatchfixError, "cv must be"),
        ({"classifiers": ["tree"]}, BatchfixError, "classifiers must be among"),
        ({"repeats": 0}, BatchfixError, "repeats must be"),
        ({"corrector": lambda X, batch, y: X}, BatchfixError, "whole tables only"),
        ({"corrector": ComBat}, BatchfixError, "Make an instance"),
        ({"corrector": 3}, BatchfixError, "corrector must be"),
        ({"random_state": "x"}, BatchfixError, "random_state"),
    ],
    ids=str,
)
def test_predictability_says_what_is_wrong(lab, change, error, words):
    given = {"X": lab.data.to_numpy(), "batch": lab.batch.to_numpy(), "corrector": LinearCorrector()} | change
    with pytest.raises(error, match=words) as caught:
        batch_predictability(given.pop("X"), given.pop("batch"), given.pop("corrector"), **given)
    assert str(caught.value).count("\n") == 0


def test_missing_values_and_failing_strangers_are_sentences(lab):
    X = lab.data.copy()
    X.iloc[3, 4] = np.nan
    with pytest.raises(BatchfixError, match="1 missing"):
        batch_predictability(X, lab.batch, classifiers="linear")

    class Broken(Centring):
        def transform(self, X, batch=None):
            raise RuntimeError("no GPU")

    with pytest.raises(BatchfixError, match=r"Broken must correct .* RuntimeError: no GPU"):
        batch_predictability(lab.data, lab.batch, Broken(), classifiers="linear")

    class Shuffling(Centring):
        def transform(self, X, batch=None):
            out = pd.DataFrame(super().transform(X, batch), X.index)
            return out.rename(index=str.upper)

    with pytest.raises(AlignmentError, match="rows of X"):
        batch_predictability(lab.data, lab.batch, Shuffling(), classifiers="linear")


# ---- a batch left out


def test_a_left_out_batch_by_hand(lab):
    found = leave_one_batch_out(lab.data, lab.group, lab.batch, LinearCorrector(), classifiers="linear")
    test = (lab.batch == "b2").to_numpy()
    model = LinearCorrector(handle_unknown="adapt").fit(lab.data[~test], batch=lab.batch[~test])
    train, left = (model.transform(lab.data[at], batch=lab.batch[at]).to_numpy() for at in (~test, test))
    from sklearn.linear_model import LogisticRegression

    by_hand = make_pipeline(
        StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=2000)
    ).fit(train, lab.group[~test])  # fmt: skip
    scores = by_hand.decision_function(left)
    assert_allclose(found.table.loc["b2", "linear_after"], roc_auc_score(lab.group[test], scores), rtol=1e-12)
    assert found.score == "AUC"
    assert_allclose(found.after["linear"], found.table["linear_after"].mean())
    assert found.change["linear"] == found.after["linear"] - found.before["linear"]


def test_the_kind_of_biology_decides_the_score(lab):
    rng = np.random.default_rng(0)
    age = pd.Series(rng.normal(size=90), lab.data.index, name="age")
    X = lab.data + 3 * age.to_numpy()[:, None]
    found = leave_one_batch_out(X, age, lab.batch, LinearCorrector(), classifiers="linear")
    assert (found.score, found.chance, found.target) == ("R2", 0.0, "age")
    assert found.after["linear"] > max(0.9, found.before["linear"])
    kind = np.where(age < -0.4, "low", np.where(age < 0.4, "mid", "high"))
    found = leave_one_batch_out(X, kind, lab.batch, LinearCorrector(), classifiers=["linear", "forest"])
    assert (found.score, found.chance) == ("balanced accuracy", 1 / 3)
    assert min(found.after.values()) > 0.6


def test_the_left_out_labels_are_never_told(lab):
    """The corrector keeps y, and yet other labels of the left-out batch change nothing but their own score."""
    keeper = ComBat(keep_y=True, keep_at_transform=False)
    found = leave_one_batch_out(lab.data, lab.group, lab.batch, keeper, classifiers="linear")
    other = lab.group.copy()
    at = np.flatnonzero(lab.batch == "b1")
    other.iloc[at] = np.where(lab.group.iloc[at] == "case", "control", "case")
    turned = leave_one_batch_out(lab.data, other, lab.batch, keeper, classifiers="linear")
    assert_allclose(turned.table.loc["b1", "linear_after"], 1 - found.table.loc["b1", "linear_after"], rtol=1e-12)


def test_compositions_are_compared_with_uncorrected_log_ratios():
    from batchfix import LogRatio

    made = make_microbes(80, 40, 3, random_state=0)
    counts = made.counts.loc[:, (made.counts > 0).mean() > 0.1]
    found = leave_one_batch_out(counts, made.group, made.batch, CompositionalCorrector(), classifiers="linear")
    plain = leave_one_batch_out(counts, made.group, made.batch, LogRatio(), classifiers="linear")
    assert_allclose(found.before["linear"], plain.after["linear"], rtol=1e-12)


def test_batches_of_one_class_are_not_scored(lab):
    y = lab.group.where(lab.batch != "b3", "case")
    found = leave_one_batch_out(lab.data, y, lab.batch, classifiers="linear")
    assert found.table["linear_before"].isna().tolist() == [False, False, True]
    assert "2 of 3 batches" in str(found)
    assert found.after == {}
    with pytest.raises(TooFewSamplesError, match="cannot be told apart"):
        leave_one_batch_out(lab.data, lab.batch.rename("y"), lab.batch, classifiers="linear")


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"y": None}, BatchfixError, "y must hold"),
        ({"y": ["a"] * 90}, BatchfixError, "two classes"),
        ({"y": [1.5] * 90}, BatchfixError, "differ between samples"),
        ({"y": [f"s{i}" for i in range(90)]}, TooFewSamplesError, "unique"),
        ({"y": ["a", "b"]}, AlignmentError, "one entry a row"),
        ({"X": np.ones((90, 2))}, BatchfixError, "constant"),
        ({"X": np.full((90, 2), np.nan)}, BatchfixError, "180 missing"),
        ({"corrector": Centring()}, BatchfixError, "Centring must correct .* KeyError"),
    ],
    ids=str,
)
def test_leave_one_batch_out_says_what_is_wrong(lab, change, error, words):
    given = {"X": lab.data.to_numpy(), "y": lab.group.to_numpy(), "corrector": LinearCorrector()} | change
    with pytest.raises(error, match=words):
        leave_one_batch_out(given["X"], given["y"], lab.batch.to_numpy(), given["corrector"], classifiers="linear")


def test_a_nested_corrector_adapts_too(lab):
    pipeline = make_pipeline(ComBat(), StandardScaler())
    found = leave_one_batch_out(lab.data, lab.group, lab.batch, pipeline, classifiers="linear")
    alone = leave_one_batch_out(lab.data, lab.group, lab.batch, ComBat(), classifiers="linear")
    assert_allclose(found.after["linear"], alone.after["linear"], atol=0.02)
    with pytest.raises(UnknownBatchError):  # and the caller's own object was left alone
        pipeline[0].fit(lab.data[:60], batch=["a", "b"] * 30).transform(lab.data[60:], batch=["c"] * 30)


# ---- held out


def test_held_out_halves_leave_the_noise_of_the_means_and_no_more():
    """Location-only: F is 2 on average, and p as often below a level as the level says, or less."""
    left, p, F = [], [], []
    for seed in range(12):
        lab = make_lab(61, 20, 3, confounding=0.2, random_state=seed)
        found = held_out(*prepare(LinearCorrector(), lab.data, lab.batch, lab.group), repeats=1, random_state=seed)
        left.append(found.left)
        p += found.splits["p_value"].tolist()
        F.append(found.splits["F"].mean())
        assert not (found.features["q_value"] < 0.05).any()
    # the sd of one `left` is .012, measured: 4 standard errors
    assert np.mean(left) == pytest.approx(0.0, abs=0.015)
    assert np.mean(F) == pytest.approx(2.0, abs=0.4)
    assert np.mean(np.array(p) < 0.05) < 0.25


def test_what_is_left_is_found_in_held_out_halves():
    lab = make_lab(90, 30, 3, random_state=0)
    found = held_out(*prepare(StandardScaler(), lab.data, lab.batch, lab.group), repeats=1)
    assert found.left > 0.2
    assert found.p_value <= 0.02
    assert (found.features["q_value"] < 0.05).mean() > 0.25


def test_halves_share_batches_and_biology_evenly():
    from batchfix.diagnostics.held_out import _half

    lab = make_lab(67, 3, 4, confounding=0.4, random_state=0)
    _, table, labels = prepare(None, lab.data, lab.batch, lab.group)
    half = _half(table, labels, np.arange(67), np.random.default_rng(0))
    counts = pd.crosstab([lab.batch, lab.group], half)
    assert (counts[True] - counts[False]).abs().max() <= 2
    assert (pd.crosstab(lab.batch, half).diff(axis=1).iloc[:, 1].abs() <= 1).all()


# ---- learners


def test_components_are_the_leading_singular_vectors():
    rng = np.random.default_rng(0)
    u = rng.normal(size=(300, 20)) * 2.0 ** -np.arange(20) @ rng.normal(size=(20, 400))
    u -= u.mean(axis=0)
    wanted = np.linalg.svd(u, full_matrices=False)[2][:5]
    for found in (_leading(u, 5), _nearly_leading(u, 5, 0), _leading(u.T[:200].T, 5)[:, :5]):
        if len(found) == 400:
            assert_allclose(np.linalg.svd(wanted @ found)[1], 1.0, atol=1e-6)
        assert_allclose(found.T @ found, np.eye(5), atol=1e-6)
    narrow = Components.of(u[:, :4], 10, 0)
    assert_allclose(narrow.of_rows(u[:, :4]), StandardScaler().fit_transform(u[:, :4]), atol=1e-10)


@pytest.mark.parametrize("scale", [1e-150, 1.0, 1e150])
@pytest.mark.parametrize("standardise", [True, False])
def test_components_of_any_unit_are_had_with_their_coordinates(scale, standardise):
    rng = np.random.default_rng(0)
    low = rng.normal(size=(300, 3)) @ rng.normal(size=(3, 400)) * [[100.0]] + rng.normal(size=(300, 400)) + 1e4
    space, found = Components.learned(low * scale, 5, 0, standardise=standardise)
    assert_allclose(space.of_rows(low * scale), found, rtol=1e-10, atol=1e-10 * np.abs(found).max())
    u = low - low.mean(axis=0)
    u /= u.std(axis=0) if standardise else 1 / scale
    wanted = np.linalg.svd(u, full_matrices=False)[1][:3]
    assert_allclose(np.sqrt(np.square(found / wanted[0]).sum(axis=0))[:3], wanted / wanted[0], rtol=1e-7)
    assert_allclose(space.axes.T @ space.axes, np.eye(5), atol=1e-10)


def test_a_constant_feature_is_no_component():
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.normal(size=(50, 2)), np.full(50, 0.1)])
    _, found = Components.learned(X, 10, 0)
    assert_array_equal(found[:, 2], 0.0)


def test_concordance_is_the_area_of_two_classes_and_kendalls_of_amounts():
    from scipy.stats import kendalltau

    rng = np.random.default_rng(0)
    y, s = rng.normal(size=40), rng.normal(size=40).round(1)
    positive = (y > 0).astype(int)
    right, pairs = concordant(np.column_stack([-s, s]), Target(positive, np.array([0, 1])))
    assert_allclose(right / pairs, roc_auc_score(positive, s), rtol=1e-12)
    right, pairs = concordant(s[:, None], Target(y, None))
    brute = [(np.sign(y[i] - y[j]) * np.sign(s[i] - s[j]) + 1) / 2 for i in range(40) for j in range(i)]
    assert_allclose((right, pairs), (np.sum(brute), len(brute)))
    same = concordant(y[:, None], Target(y, None))
    assert same[0] == same[1]
    assert kendalltau(y, s).statistic * (right / pairs - 0.5) > 0
    assert np.isnan(score(s[:, None], Target(np.ones(40), None)))


def test_many_fits_warn_once(lab):
    batch = lab.batch.to_numpy().copy()
    batch[:4] = "few"
    batch[4:8] = "less"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        leave_one_batch_out(lab.data, lab.group, batch, LinearCorrector(), classifiers="linear")
    assert [each.category for each in caught] == [AdaptationWarning]
