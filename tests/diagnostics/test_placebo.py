"""The placebo test: what is not there is not found, unless a correction puts it there."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from batchfix import BatchCorrector, ComBat, CompositionalCorrector, LinearCorrector, LogRatio
from batchfix.datasets import make_lab, make_microbes
from batchfix.diagnostics.correction import permuted_within
from batchfix.diagnostics.design import design_forecast
from batchfix.diagnostics.placebo import placebo_test
from batchfix.exceptions import (
    AdaptationWarning,
    AlignmentError,
    BatchfixError,
    ConfoundedDesignError,
    TooFewSamplesError,
)


@pytest.fixture(scope="module")
def microbes():
    """Three in ten taxa are nearly missed by each batch: their spread there is tiny."""
    made = make_microbes(120, 150, missed=0.3, random_state=1)
    counts = made.counts.loc[:, made.counts.sum() > 0]
    return made, LogRatio().fit_transform(counts), counts


@pytest.fixture(scope="module")
def confounded():
    return make_lab(120, 60, 4, confounding=0.6, random_state=0)


# ---- inversion


def test_combat_told_the_label_turns_nothing_upside_down(microbes):
    made, ratios, _ = microbes
    found = placebo_test(ComBat(), ratios, made.batch, made.group)
    assert found.verdict == "inverted"
    assert not found
    assert found.auc["linear"] < 0.4
    assert "upside down" in str(found)


@pytest.mark.parametrize("corrector", [BatchCorrector(scale=None), LinearCorrector(), None, StandardScaler()], ids=str)
def test_location_only_passes(microbes, corrector):
    made, ratios, _ = microbes
    found = placebo_test(corrector, ratios, made.batch, made.group)
    assert found.verdict == "fine", str(found)
    assert found
    assert found.auc["linear"] == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("corrector", [CompositionalCorrector(), CompositionalCorrector(ComBat())], ids=str)
def test_so_do_guarded_compositions(microbes, corrector):
    made, _, counts = microbes
    assert placebo_test(corrector, counts, made.batch, made.group).verdict == "fine"


def test_not_told_or_about_the_mean_combat_passes(microbes):
    made, ratios, _ = microbes
    assert placebo_test(ComBat(), ratios, made.batch, made.group, told=False).verdict == "fine"
    keeper = ComBat(keep_y=True, keep_at_transform=False)
    assert placebo_test(keeper, ratios, made.batch, made.group, how="pipeline", scoring="within").verdict == "fine"


def test_a_pipeline_is_told_as_its_steps_are():
    lab = make_lab(60, 20, 3, random_state=0)
    keeper = {"keep_y": True, "keep_at_transform": False}
    kwargs = {"n_permutations": 3, "random_state": 1}
    for model in (LinearCorrector(), LinearCorrector(**keeper)):
        alone = placebo_test(model, lab.data, lab.batch, lab.group, **kwargs)
        piped = placebo_test(make_pipeline(model, StandardScaler()), lab.data, lab.batch, lab.group, **kwargs)
        assert_allclose(piped.permutations["false_positives"], alone.permutations["false_positives"])


def test_inversion_of_one_batch_alone_is_found():
    """As in examples/microbes_inverted_biology.py: the mean area hides it."""
    rng = np.random.default_rng(2)
    n, taxa = 180, 200
    run = np.repeat(["run1", "run2", "shallow"], n // 3)
    sick = np.tile([True, False], n // 2)
    thrives = np.arange(taxa) < 40
    logs = rng.normal(0, 1, (n, taxa)) + 1.5 * np.outer(sick, thrives)
    logs += rng.normal(0, 0.5, (3, taxa)).repeat(n // 3, axis=0)
    logs[:, ~thrives] += 2
    counts = rng.poisson(200 * np.exp(logs))
    seen_in = rng.choice(np.flatnonzero(run == "shallow"), size=taxa)
    counts[np.outer(run == "shallow", thrives) & (np.arange(n)[:, None] != seen_in)] = 0
    found = placebo_test(ComBat(), LogRatio().fit_transform(counts), run, sick)
    assert found.verdict == "inverted"
    assert found.per_batch["linear"].idxmin() == "shallow"
    assert placebo_test(CompositionalCorrector(ComBat()), counts, run, sick, n_permutations=8).verdict == "fine"


# ---- leakage


def leaking(X, batch, y):
    """A stranger's function that writes the label into the table."""
    return np.asarray(X) if y is None else np.asarray(X) + 0.5 * np.asarray(y == "case")[:, None]


def reversing(X, batch, y):
    """One that raises cases in two batches and lowers them in the other two."""
    frame = pd.DataFrame(np.asarray(X))
    out = frame - frame.groupby(np.asarray(batch)).transform("mean")
    sign = np.where(np.isin(batch, ["b1", "b3"]), 1.0, -1.0)
    return (out + 0.7 * (sign * np.asarray(y == "case"))[:, None]).to_numpy()


def test_strangers_that_leak_are_caught(confounded):
    lab = make_lab(90, 20, 3, random_state=0)
    found = placebo_test(leaking, lab.data, lab.batch, lab.group)
    assert found.verdict == "leak"
    assert found.auc["linear"] > 0.7
    assert found.false_positives > 0.3
    assert found.corrector == "leaking"
    assert placebo_test(leaking, lab.data, lab.batch, lab.group, told=False, n_permutations=2).told is False


def test_batches_that_leak_by_turns_are_flagged():
    lab = make_lab(120, 20, 4, random_state=0)
    found = placebo_test(reversing, lab.data, lab.batch, lab.group)
    assert found.verdict == "inverted"  # of three others, two go the other way


def test_a_whole_table_told_labels_of_uneven_prevalence_leaks_them(confounded):
    """Location only is no exception: the estimated effect goes into the differences between batches."""
    lab = confounded
    assert placebo_test(LinearCorrector(), lab.data, lab.batch, lab.group).verdict == "leak"
    for kwargs in ({"told": False}, {"how": "pipeline"}, {"how": "pipeline", "scoring": "within"}):
        found = placebo_test(LinearCorrector(), lab.data, lab.batch, lab.group, n_permutations=8, **kwargs)
        assert found.verdict == "fine", (kwargs, str(found))


def test_needing_the_rows_own_label_leaks_it_inside_a_pipeline_too(microbes):
    made, ratios, _ = microbes
    kwargs = {"how": "pipeline", "n_permutations": 10}
    assert placebo_test(BatchCorrector(), ratios, made.batch, made.group, **kwargs).verdict == "inverted"
    without = BatchCorrector(keep_at_transform=False)
    with pytest.warns(AdaptationWarning, match="without"):
        found = placebo_test(without, ratios, made.batch, made.group, **kwargs)
    assert found.verdict == "fine"


# ---- false positives


@pytest.mark.parametrize("told", [True, False])
def test_false_positives_are_those_forecast(confounded, told):
    lab = confounded
    found = placebo_test(LinearCorrector(), lab.data, lab.batch, lab.group, told=told)
    low, high = found.false_positives_interval
    assert low < found.forecast < high
    if told:
        forecast = design_forecast(lab.batch, lab.group)
        assert_allclose(found.forecast, forecast.contrasts["false_positives"][0], rtol=1e-9)
        assert found.forecast > 0.1
    else:
        assert found.forecast < 0.05


def test_with_other_things_kept_and_several_classes():
    rng = np.random.default_rng(0)
    lab = make_lab(150, 100, 3, random_state=0)
    kind = pd.Series(rng.choice(["a", "b", "c"], 150), lab.data.index, name="kind")
    age = pd.DataFrame({"age": rng.normal(size=150)}, lab.data.index)
    found = placebo_test(LinearCorrector(), lab.data, lab.batch, kind, keep=age)
    assert found.verdict == "fine", str(found)
    assert found.false_positives == pytest.approx(found.forecast, abs=0.02)
    age = placebo_test(LinearCorrector(), lab.data, lab.batch, age["age"], classifiers=["linear"], scoring="within")
    assert age.verdict == "fine", str(age)


def test_an_uncorrected_table_has_batch_effects_for_false_positives(confounded):
    found = placebo_test(None, confounded.data, confounded.batch, confounded.group)
    assert found.verdict == "false positives"
    assert_allclose(found.forecast, 0.05)


# ---- the machinery


def test_labels_are_dealt_within_groups():
    rng = np.random.default_rng(0)
    groups = [np.arange(0, 10, 2), np.arange(1, 10, 2)]
    dealt = permuted_within(np.arange(10), groups, rng)
    for rows in groups:
        assert sorted(dealt[rows]) == rows.tolist()
    assert (dealt != np.arange(10)).any()


def test_sound_correctors_are_seldom_flagged():
    verdicts = []
    for seed in range(12):
        lab = make_lab(48, 8, 3, random_state=seed)
        found = placebo_test(LinearCorrector(), lab.data, lab.batch, lab.group, random_state=seed, n_permutations=8)
        verdicts.append(found.verdict)
    # at most 3 in a hundred: 3 or more of 12 have a chance of one in 180
    assert verdicts.count("fine") >= 10


def test_functions_get_copies_labels_and_may_return_frames_in_another_order():
    lab = make_lab(60, 5, 3, random_state=0)
    before = lab.data.copy()
    seen = []

    def in_place(X, batch, y):
        seen.append((batch.index.equals(X.index), sorted(y.unique())))
        X -= X.groupby(batch).transform("mean")
        return X.iloc[::-1]

    found = placebo_test(in_place, lab.data, lab.batch, lab.group, n_permutations=3)
    assert lab.data.equals(before)
    assert seen[0] == (True, ["case", "control"])
    same = placebo_test(
        LinearCorrector(), lab.data, lab.batch, lab.group, n_permutations=3, told=False
    )  # equal batches: centring is the same up to a constant
    assert_allclose(found.permutations["linear"], same.permutations["linear"], atol=1e-9)


class Supervised(TransformerMixin, BaseEstimator):
    """scikit-learn's own kind: y in fit, no batch."""

    def fit(self, X, y):
        labels = pd.factorize(np.asarray(y), sort=True)[0]
        self.direction_ = np.asarray(X)[labels == 1].mean(axis=0) - np.asarray(X)[labels == 0].mean(axis=0)
        return self

    def transform(self, X):
        return np.asarray(X) @ self.direction_[:, None]


def test_a_supervised_transformer_leaks_outside_and_not_inside():
    lab = make_lab(90, 40, 3, batch_shift=0.0, effect_size=0.0, random_state=0)
    assert placebo_test(Supervised(), lab.data, lab.batch, lab.group).verdict == "leak"
    inside = placebo_test(Supervised(), lab.data, lab.batch, lab.group, how="pipeline")
    assert inside.auc["linear"] == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"batch": ["a"] * 60}, BatchfixError, "two levels"),
        ({"y": ["a"] * 60}, BatchfixError, "two classes"),
        ({"y": [f"s{i}" for i in range(60)]}, TooFewSamplesError, "unique"),
        ({"y": None}, BatchfixError, "y must hold"),
        ({"y": "nested"}, TooFewSamplesError, "vary within some batch"),
        ({"y": "half nested"}, ConfoundedDesignError, "cannot be told apart"),
        ({"X": np.ones((60, 3))}, BatchfixError, "Some feature must vary"),
        ({"X": np.full((60, 3), np.nan)}, BatchfixError, "180 missing"),
        ({"y": ["a", "b"]}, AlignmentError, "one entry a row"),
        ({"n_permutations": 1}, BatchfixError, "n_permutations must be"),
        ({"alpha": 2}, BatchfixError, "alpha must be"),
        ({"how": "both"}, BatchfixError, "how must be"),
        ({"scoring": "pooled"}, BatchfixError, "scoring must be"),
        ({"corrector": leaking, "how": "pipeline"}, BatchfixError, "whole tables only"),
        ({"corrector": lambda X, batch, y: X.nothing}, BatchfixError, "AttributeError"),
        ({"corrector": lambda X, batch, y: X[:5]}, BatchfixError, "a row for each row"),
        ({"corrector": LinearCorrector}, BatchfixError, "instance"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_placebo_says_what_is_wrong(change, error, words):
    lab = make_lab(60, 6, 3, random_state=0)
    batch = lab.batch.to_numpy()
    y = {"nested": batch, "half nested": np.where(batch == "b1", "only here", lab.group.to_numpy())}
    given = {"corrector": LinearCorrector(), "X": lab.data.to_numpy(), "batch": batch, "y": lab.group.to_numpy()}
    given |= change
    given["y"] = y.get(given["y"], given["y"]) if isinstance(given["y"], str) else given["y"]
    with pytest.raises(error, match=words):
        placebo_test(**given)
