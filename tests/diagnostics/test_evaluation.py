"""The evaluation: a verdict on both sides, and a sentence for each number that cannot be had."""

import json
import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from sklearn.preprocessing import StandardScaler

from batchfix import BatchCorrector, ComBat, CompositionalCorrector, LinearCorrector, LogRatio
from batchfix.datasets import make_lab, make_microbes
from batchfix.diagnostics.anova import permanova
from batchfix.diagnostics.design import design_forecast
from batchfix.diagnostics.effects import feature_effects
from batchfix.diagnostics.evaluation import NUMBERS, evaluate
from batchfix.diagnostics.mixing import lisi
from batchfix.diagnostics.sections import Missing
from batchfix.diagnostics.spread import dispersion
from batchfix.exceptions import AlignmentError, BatchfixError


@pytest.fixture(scope="module")
def lab():
    return make_lab(120, 40, 3, batch_scale=0.6, random_state=0)


@pytest.fixture(scope="module")
def combat(lab):
    return evaluate(lab.data, corrector=ComBat(), batch=lab.batch, keep=lab.group, fast=True)


def found_in(text, wanted):
    return all(word in text for word in wanted)


def assert_same(a, b):
    """To rounding: how sums are taken depends on where arrays lie in memory."""
    assert (a.verdict, a.reasons) == (b.verdict, b.reasons)
    pd.testing.assert_frame_equal(a.to_frame(), b.to_frame(), rtol=1e-9, atol=1e-12)


# ---- verdicts


def test_as_measured_it_needs_correction(lab):
    found = evaluate(lab.data, batch=lab.batch, keep=lab.group, fast=True)
    assert found.verdict == "under-corrected"
    assert found.location
    assert found.scale
    assert not found.corrected
    low = make_lab(120, 40, 3, batch_shift=0.0, batch_scale=0.0, random_state=1)
    assert evaluate(low.data, batch=low.batch, keep=low.group, fast=True).verdict == "fine"


def test_combat_is_fine_on_its_own_model(combat):
    assert combat.verdict == "fine", str(combat)
    assert combat.under == combat.over == ()


def test_location_and_scale_are_told_apart(lab):
    found = evaluate(lab.data, corrector=LinearCorrector(), batch=lab.batch, keep=lab.group, fast=True)
    assert found.verdict == "under-corrected"
    assert found.location == ()
    assert len(found.scale) == 1


def test_a_correction_of_nothing_is_too_little(lab):
    found = evaluate(lab.data, corrector=StandardScaler(), batch=lab.batch, keep=lab.group, fast=True)
    assert found_in(" ".join(found.location), ["has not learned from"])


def test_lost_biology_is_too_much():
    lab = make_lab(160, 40, 4, confounding=0.7, effect_size=2.0, random_state=0)
    found = evaluate(lab.data, corrector=LinearCorrector(), batch=lab.batch, keep=lab.group, fast=True)
    assert not any("Biology is lost" in reason for reason in found.over)

    def everything(X, batch, y):  # the mean of each batch and class goes
        return (X - X.groupby([np.asarray(batch), np.asarray(y)]).transform("mean")).to_numpy()

    found = evaluate(lab.data, corrector=everything, batch=lab.batch, keep=lab.group, fast=True)
    assert "over-fitted" in found.verdict
    assert any("Biology is lost: group" in reason for reason in found.over)


def test_made_biology_is_too_much(lab):
    after = lab.data - lab.data.groupby(lab.batch).transform("mean")
    after = after + 1.5 * (lab.group == "case").to_numpy()[:, None]
    found = evaluate(lab.data, after, batch=lab.batch, keep=lab.group, fast=True)
    assert any("Biology may be made" in reason for reason in found.over)


def test_reversed_biology_is_too_much(lab):
    class Reversing(LinearCorrector):
        """Turns the samples of any batch it adapts to around their mean."""

        def transform(self, X, *, batch=None, keep=None, nuisance=None):
            out = super().transform(X, batch=batch, keep=keep, nuisance=nuisance)
            return out if set(np.asarray(batch)) <= set(self.batches_) else 2 * out.mean() - out

    found = evaluate(lab.data, corrector=Reversing(), batch=lab.batch, keep=lab.group, fast=True)
    assert any(found_in(reason, ["left out", "upside down"]) for reason in found.over)


def test_batches_too_small_are_to_be_minded():
    lab = make_lab(80, 20, 20, batch_shift=0.3, batch_scale=0.0, random_state=0)
    found = evaluate(lab.data, corrector=LinearCorrector(), batch=lab.batch, fast=True)
    assert found.over == ()
    assert any("noise" in reason for reason in found.mind)


def test_confounding_is_to_be_minded():
    lab = make_lab(120, 20, 4, confounding=0.7, random_state=0)
    found = evaluate(lab.data, corrector=ComBat(), batch=lab.batch, keep=lab.group, fast=True)
    assert found.rho2 == design_forecast(lab.batch, lab.group).rho2 > 0.4
    assert any("false positives" in reason for reason in found.mind)


# ---- numbers


def test_numbers_are_those_of_their_functions(lab, combat):
    after = ComBat().fit_transform(lab.data, batch=lab.batch, keep=lab.group)
    for X, when in ((lab.data, "before"), (after, "after")):
        beyond = permanova(X, lab.batch, given=lab.group, permutations=0)
        assert_allclose(getattr(combat.batch_variance, when).R2_adjusted, beyond.R2_adjusted, atol=1e-10)
        beyond = permanova(X, lab.group, given=lab.batch, permutations=0)
        assert_allclose(getattr(combat.biology["group"], when).R2, beyond.R2, rtol=1e-9)
        scatter = dispersion(X, lab.batch, given=lab.group, fewest=8)
        assert_allclose(getattr(combat.dispersion, when).F, scatter.F, rtol=1e-9)
        near = lisi(X, lab.batch, permutations=5)
        assert_allclose(getattr(combat.mixing.ilisi, when).mean, near.mean, rtol=1e-6)
        eta2 = feature_effects(X, lab.batch, keep=lab.group).eta2
        assert_allclose(combat.features.table[f"eta2_{when}"], eta2, atol=1e-9)
    assert combat.batch_variance.after.R2 < 0.01 < combat.batch_variance.held_out.R2
    assert combat.predictability.before.linear > 0.9 > 0.65 > combat.predictability.after.linear
    assert combat.leave_one_batch_out["group"].score == "AUC"
    assert combat.biology["group"].effect_ratio == pytest.approx(1.0, abs=0.2)


def test_a_table_corrected_elsewhere_says_what_needs_the_corrector(lab):
    after = ComBat().fit_transform(lab.data, batch=lab.batch, keep=lab.group)
    found = evaluate(lab.data, after, batch=lab.batch, keep=lab.group, fast=True)
    assert found.verdict == "fine"
    assert "Pass corrector=" in found.mind[0]
    for number in (found.batch_variance.held_out, found.predictability.after):
        assert isinstance(number, Missing)
        assert not number
        assert "needs the corrector" in number.reason
    assert found.leave_one_batch_out["group"].after == {}
    backwards = evaluate(lab.data, after.iloc[::-1], batch=lab.batch, keep=lab.group, fast=True)
    assert_same(backwards, found)


def test_another_space_is_compared_by_what_does_not_need_the_same_columns(lab):
    after = (lab.data - lab.data.groupby(lab.batch).transform("mean")).to_numpy()[:, :7]
    found = evaluate(lab.data, after, batch=lab.batch, keep=lab.group, fast=True)
    assert "eta2_after" not in found.features.table
    assert found.dispersion.after.df == 2


def test_compositions_are_compared_in_log_ratios():
    made = make_microbes(90, 40, 3, missed=0.0, random_state=0)
    counts = made.counts.loc[:, (made.counts > 0).mean() > 0.2]
    found = evaluate(counts, corrector=CompositionalCorrector(), batch=made.batch, keep=made.group, fast=True)
    plain = permanova(LogRatio().fit_transform(counts), made.batch, given=made.group, permutations=0)
    assert_allclose(found.batch_variance.before.R2, plain.R2, rtol=1e-9)
    assert found.biology["group"].effect_ratio == pytest.approx(1.0, abs=1e-9)  # location only


def test_numbers_of_several_kept_columns_with_forests(lab):
    keep = pd.DataFrame({"group": lab.group, "age": np.random.default_rng(0).normal(size=120)})
    found = evaluate(lab.data, corrector=BatchCorrector(), batch=lab.batch, keep=keep, repeats=1, permutations=19)
    assert list(found.biology) == list(found.leave_one_batch_out) == ["group", "age"]
    assert found.leave_one_batch_out["age"].score == "R2"
    assert found.predictability.after.forest is not None
    assert list(found.mixing.clisi) == ["group"]
    plain = permanova(lab.data, keep["group"], given=keep[["age"]].assign(b=lab.batch), permutations=0)
    assert_allclose(found.biology["group"].before.R2, plain.R2, rtol=1e-9)
    assert np.isnan(found.biology["age"].before.p_value)


def test_keys_of_the_corrector_find_the_labels(lab, combat):
    table = lab.data.assign(plate=lab.batch, group=lab.group)
    model = ComBat(batch_key="plate", keep_keys=["group"])
    found = evaluate(table, corrector=model, batch=None, fast=True)
    assert_same(found, combat)
    assert model.batch_key == "plate"


def test_the_same_seed_gives_the_same_numbers_and_rows_may_come_in_any_order(lab, combat):
    again = evaluate(lab.data, corrector=ComBat(), batch=lab.batch, keep=lab.group, fast=True)
    assert_same(again, combat)
    other = {"batch": lab.batch[::-1], "keep": lab.group.sample(frac=1, random_state=0)}
    assert_same(evaluate(lab.data, corrector=ComBat(), fast=True, **other), combat)


# ---- forms


def test_it_is_told_in_words_numbers_and_json(lab, combat):
    page = str(combat)
    assert page.startswith("Fine: ComBat, 120 samples x 40 features.")
    assert max(map(len, page.splitlines())) <= 100
    for k, title in enumerate(NUMBERS.values(), 1):
        assert f"{k}. {title}" in page
    plain = json.loads(json.dumps(combat.to_dict(), allow_nan=False))
    assert set(NUMBERS) <= set(plain)
    assert plain["batch_variance"]["held_out"]["left"] == combat.batch_variance.held_out.left
    assert len(plain["features"]["table"]) == 20
    assert repr(combat) == "Evaluation(verdict='fine', n=120, n_features=40)"
    frame = combat.to_frame()
    assert set(frame["number"]) == set(NUMBERS)
    assert frame.set_index("what").loc["R2_adjusted held out", "reference"] == combat.batch_variance.held_out.noise
    assert list(combat.samples.columns[:3]) == ["batch", "distance_before", "distance_after"]
    assert combat.samples.index.equals(lab.data.index)
    assert len(combat.features.top(5)) == 5


# ---- what cannot be had


def hostile():
    lab = make_lab(60, 12, 3, random_state=0)
    X, batch, group = lab.data, lab.batch, lab.group
    missing = X.copy()
    missing.iloc[3, 2] = np.nan
    cases = {
        "one class": ({"keep": ["a"] * 60}, "What is kept must differ"),
        "unique batches": ({"batch": X.index.tolist()}, "Every label is unique"),
        "unique classes": ({"keep": X.index.tolist()}, "every label is unique"),
        "constant": ({"before": X * 0 + 1}, "Samples must differ"),
        "missing": ({"before": missing}, "1 missing"),
        "nested": ({"keep": batch.rename("plate")}, "cannot be told apart"),
        "more classes than samples": (
            {"before": X[:6], "batch": batch[:6], "keep": list("abcdea")},
            "more samples than things to estimate",
        ),
        "one feature": ({"before": X.iloc[:, :1]}, "at least two observed ones"),
        "three samples": ({"before": X[:3], "batch": list("aab"), "keep": list("uvu")}, "more samples than things"),
        "no biology": ({"keep": None}, "biology to keep"),
        "small batches": ({"batch": np.arange(60) // 3}, "fit on half"),
        "a corrector that fails": ({"corrector": lambda X, batch, y: 1 / 0}, "ZeroDivisionError"),
        "a corrector that gives infinity": ({"corrector": lambda X, batch, y: X / 0 + np.inf}, "must be finite"),
    }
    return cases, {"before": X, "corrector": ComBat(), "batch": batch, "keep": group}


@pytest.mark.parametrize("case", hostile()[0])
def test_what_cannot_be_had_says_why_and_the_rest_is_there(case):
    cases, given = hostile()
    change, words = cases[case]
    given |= change
    found = evaluate(given.pop("before"), fast=True, **given)
    text = str(found)
    assert words in " ".join(text.split()), text
    json.dumps(found.to_dict(), allow_nan=False)
    rows = found.to_frame()
    assert (rows["note"].str.len() > 0).any()
    if case not in ("constant", "more classes than samples", "three samples"):
        assert rows["before"].notna().any()
    if case in ("one class", "no biology", "a corrector that fails"):
        assert np.isfinite(found.dispersion.before.F)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"batch": ["a"] * 60}, BatchfixError, "two levels"),
        ({"batch": ["a", "b"]}, AlignmentError, "one entry a row"),
        ({"batch": None}, BatchfixError, "one label for each"),
        ({"keep": pd.Series(["a", "b"] * 30, [f"q{i}" for i in range(60)])}, AlignmentError, "index of keep"),
        ({"after": np.zeros((5, 3))}, AlignmentError, "after must have the rows"),
        ({"after": "table"}, BatchfixError, "after must be a table"),
        ({"corrector": ComBat}, BatchfixError, "instance"),
        ({"random_state": "x"}, BatchfixError, "random_state"),
    ],
    ids=str,
)
def test_labels_and_tables_that_are_none_are_refused(change, error, words):
    lab = make_lab(60, 12, 3, random_state=0)
    given = {"batch": lab.batch, "keep": lab.group, "fast": True} | change
    with pytest.raises(error, match=words):
        evaluate(lab.data, **given)


def test_warnings_of_the_corrector_become_notes(lab):
    batch = lab.batch.to_numpy().copy()
    batch[0] = "alone"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = evaluate(lab.data, corrector=ComBat(), batch=batch, keep=lab.group, fast=True)
    assert any("one row" in note for note in found.notes)
