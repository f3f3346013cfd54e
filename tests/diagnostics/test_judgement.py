"""The verdict on tables of known truth: what was done to them is known, so what should be said is too."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.model_selection import TimeSeriesSplit

from batchfix import ComBat, CompositionalCorrector, LinearCorrector
from batchfix.core.permanova import splits_of
from batchfix.datasets import make_microbes
from batchfix.diagnostics.anova import permanova
from batchfix.diagnostics.biology_findings import grave
from batchfix.diagnostics.evaluation import evaluate
from batchfix.diagnostics.report.sections import overall, verdicts
from batchfix.diagnostics.sections import Missing, attempt
from batchfix.diagnostics.spread import dispersion
from batchfix.exceptions import BatchfixError


def table(seed, n=60, p=30, batches=3, shift=0.0, scale=0.0, biology=0.8, confounding=0.0):
    """A table, its batches and its groups: `shift` and `scale` are sds, `confounding` moves prevalence by batch."""
    rng = np.random.default_rng(seed)
    batch = np.sort(rng.choice(batches, n))
    case = np.zeros(n, dtype=int)
    for b in range(batches):
        rows = np.flatnonzero(batch == b)
        share = 0.5 + confounding * (b - (batches - 1) / 2) / max(1, batches - 1)
        case[rng.permutation(rows)[: round(share * len(rows))]] = 1
    X = rng.normal(size=(n, p)) * np.exp(scale * rng.normal(size=(batches, p)))[batch]
    X += shift * rng.normal(size=(batches, p))[batch]
    X[:, :8] += biology * case[:, None] * rng.choice([-1, 1], 8)
    return X, np.array(list("abcdefghijklmnopqrst"))[batch], pd.DataFrame({"group": np.where(case, "case", "control")})


class Doing(TransformerMixin, BaseEstimator):
    """Adds so many times the batch's mean, as learned, to each sample: 0 does nothing, 1 doubles the batch effect."""

    def __init__(self, times=0.0):
        self.times = times

    def fit(self, X, y=None, batch=None):
        X, batch = np.asarray(X), np.asarray(batch)
        self.means_ = {b: X[batch == b].mean(axis=0) - X.mean(axis=0) for b in np.unique(batch)}
        return self

    def transform(self, X, batch=None):
        return np.asarray(X) + self.times * np.array([self.means_[b] for b in np.asarray(batch)])


class Breaking(Doing):
    def fit(self, X, y=None, batch=None):
        raise RuntimeError("kaboom")


def judged(X, batch, keep, corrector=None, after=None, **options):
    return evaluate(X, after, corrector=corrector, batch=batch, keep=keep, fast=True, **options)


# ---- what was done, and what should be said


@pytest.mark.parametrize("size", [{"n": 60}, {"n": 20, "batches": 2}, {"n": 40, "p": 300}], ids=str)
@pytest.mark.parametrize("corrector", [LinearCorrector(), ComBat(), None], ids=["linear", "combat", "nothing"])
def test_where_there_is_no_batch_effect_no_correction_is_called_wrong(corrector, size):
    found = judged(*table(2, **size), corrector=corrector)  # one in twenty has p < .05 as measured: not this one
    assert found.verdict == "fine", str(found)
    assert found.under == found.over == ()
    if isinstance(corrector, LinearCorrector):
        assert any("no batch effect to be seen" in reason for reason in found.mind)


@pytest.mark.parametrize("shift", [0.5, 1.0])
def test_a_corrector_that_does_nothing_does_too_little_and_no_harm(shift):
    found = judged(*table(0, shift=shift), corrector=Doing())
    assert (found.verdict, found.over) == ("under-corrected", ())
    held = found.batch_variance.held_out
    assert_allclose(held.F, held.F_before, rtol=1e-9)  # the same table in the same halves
    assert not held.harmful


@pytest.mark.parametrize(("size", "shift"), [({"n": 60}, 0.3), ({"n": 20, "p": 40, "batches": 2}, 1.0)], ids=str)
def test_doubling_the_batch_effect_is_harm_and_halving_it_is_not(size, shift):
    for seed in range(2):
        X, batch, keep = table(seed, shift=shift, **size)
        twice = judged(X, batch, keep, corrector=Doing(1.0))
        assert any("further apart than before" in reason for reason in twice.over)
        half = judged(X, batch, keep, corrector=Doing(-0.5))
        assert half.over == ()
    assert overall(twice, {}) == "warn"


def test_an_area_below_chance_is_to_be_minded_and_is_no_harm():
    found = judged(*table(2), corrector=ComBat())
    after = found.predictability.after
    assert after.linear < after.by_chance[0]
    assert (found.verdict, found.over) == ("fine", ())
    assert any("wrong about batches" in reason for reason in found.mind)
    assert verdicts(found)["predictability"] == "fine"


@pytest.mark.parametrize("n", [80, 60, 20])
def test_biology_that_went_with_the_batches_is_lost(n):
    X, batch, keep = table(0, n=n, p=40, batches=2, shift=1.0, biology=1.2, confounding=0.8)
    without = judged(X, batch, keep, after=LinearCorrector().fit_transform(X, batch=batch))
    each = without.biology["group"]
    shows = each.before.p_value < 0.05
    assert shows == (n > 20)
    assert without.verdict == ("over-fitted" if shows else "fine")
    assert without.under == ()  # it was not too little
    said = without.over if shows else without.mind
    assert any(f"{each.effect_left:.0%} of the effect of group is left" in reason for reason in said)
    assert_allclose(each.effect_left, 1 - without.rho2, rtol=1e-9)
    assert_allclose(each.effect_ratio, 1, rtol=1e-9)  # which F cannot see
    if not shows:  # of 20 samples, beside such batches, it could be chance: there may be nothing to lose
        return
    assert any("Biology is lost" in reason and f"{each.effect_left:.0%}" in reason for reason in without.over)
    assert overall(without, {}) == "stop"

    def centring(X, batch, y):  # told of the group, and heedless of it
        return LinearCorrector().fit_transform(X, batch=batch)

    assert judged(X, batch, keep, corrector=centring).verdict == "over-fitted"

    kept = judged(X, batch, keep, corrector=LinearCorrector())
    assert kept.verdict == "fine"
    assert_allclose(kept.biology["group"].effect_left, 1, rtol=1e-9)
    assert any("placebo_test" in reason for reason in kept.mind)


def test_biology_that_lost_a_little_is_to_be_minded():
    X, batch, keep = table(0, n=80, batches=2, shift=1.0, biology=1.2, confounding=0.35)
    found = judged(X, batch, keep, after=LinearCorrector().fit_transform(X, batch=batch))
    assert 0.8 < found.biology["group"].effect_left < 0.95
    assert found.verdict == "fine"
    assert any("took that for batch" in reason for reason in found.mind)


def test_what_is_left_of_batches_is_found_though_biology_went_too():
    X, batch, keep = table(0, n=80, p=40, batches=2, shift=3.0, biology=1.2, confounding=0.8)
    found = judged(X, batch, keep, corrector=Doing(-0.8))  # a fifth of the shift is left, and .36 of the biology
    assert found.location
    assert found.biology["group"].batch_left < 0.1


def test_more_may_be_lost_than_batch_and_biology_share():
    X, batch, keep = table(0, n=80, batches=2, shift=1.0, biology=1.2, confounding=0.4)
    after = LinearCorrector().fit_transform(X, batch=batch, keep=keep)
    after[:, :8] = np.random.default_rng(1).normal(size=(80, 8))
    found = judged(X, batch, keep, after=after)
    assert any("more went than" in reason for reason in found.over)


def test_a_table_that_is_flat_has_lost_its_biology():
    X, batch, keep = table(0)
    found = judged(X, batch, keep, after=np.zeros_like(X))
    assert (found.verdict, overall(found, {})) == ("over-fitted", "stop")


def test_a_batch_effect_that_is_left_is_not_taken_for_lost_biology():
    for seed in range(3):
        found = judged(*table(seed, n=80, batches=2, shift=1.0, biology=1.2, confounding=0.8), corrector=Doing())
        assert not any("Biology is lost" in reason for reason in found.over)


# ---- spread


def test_spread_of_small_batches_and_of_another_composition_is_no_batch_effect():
    sizes = np.repeat(list("abcde"), [20, 8, 5, 4, 3])
    for seed in range(4):
        X = np.random.default_rng(seed).normal(size=(40, 100))
        assert judged(X, sizes, None).scale == ()
    batch = np.repeat(["a", "b"], 60)
    case = np.r_[np.tile([0, 1], 30), np.zeros(54, int), np.ones(6, int)]
    X = np.random.default_rng(0).normal(size=(120, 30))
    X[:, :10] += 2.5 * case[:, None]
    assert judged(X, batch, pd.DataFrame({"group": case.astype(str)})).scale == ()
    assert dispersion(X, batch).p_value < 0.01  # as it is without heed of the groups


def test_batches_that_are_not_tested_do_not_enter_the_ratio():
    X = np.random.default_rng(0).normal(size=(61, 20))
    X[:30] *= 2
    found = judged(X, ["a"] * 30 + ["b"] * 30 + ["z"], None)
    assert "factor of inf" not in found.scale[0]
    assert "z" not in found.scale[0].split(";")[0]


# ---- what could not be done, or could not have been found


def test_a_corrector_that_fails_corrected_nothing():
    found = judged(*table(0), corrector=Breaking())
    assert (found.verdict, found.under, found.over) == ("not corrected", (), ())
    assert "kaboom" in found.mind[0]
    assert str(found).startswith("Not corrected: Breaking")
    assert overall(found, {}) == "stop"


def test_what_could_not_have_shown_is_not_fine():
    X, batch, keep = table(0, n=60, batches=2, shift=2.0, confounding=0.4)
    for permutations in (0, 9, 99):
        assert judged(X, batch, keep, permutations=permutations).verdict == "under-corrected"
    X = np.random.default_rng(0).normal(size=(8, 50))
    few = {"batch": list("aaaabbbb"), "keep": None}
    found = judged(X, corrector=LinearCorrector(), **few)
    assert found.verdict == "undecided"
    assert "could not have shown" in found.mind[0]
    X[:4] += 10
    assert judged(X, corrector=Doing(), **few).verdict == "under-corrected"  # it shows even in-sample
    assert judged(X[2:6], list("aabb"), None).verdict == "undecided"


def test_one_missing_value_leaves_the_features_to_decide():
    X, batch, keep = table(0, shift=1.5)
    X[0, 0] = np.nan
    found = judged(X, batch, keep)
    assert found.verdict == "under-corrected"
    assert "features" in found.location[0]
    held = judged(X, batch, keep, corrector=ComBat())
    assert held.verdict == "fine", str(held)
    assert "1 missing" in held.batch_variance.held_out.reason
    assert_allclose(held.biology["group"].effect_left, 1, atol=0.2)
    left = judged(X, batch, keep, corrector=Doing())
    assert "has not learned from" in left.location[0]


def test_a_section_that_stops_does_not_stop_the_others():
    found = attempt(lambda: {}["x"], [])
    assert isinstance(found, Missing)
    assert "KeyError" in found.reason


# ---- settings


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cv": "five"}, "cv must be"),
        ({"cv": 1}, "at least 2"),
        ({"repeats": 0}, "repeats must be"),
        ({"permutations": -1}, "permutations must be"),
        ({"distance": "cosine"}, "distance must be one of"),
    ],
    ids=str,
)
def test_settings_that_cannot_do_are_refused(change, words):
    X, batch, keep = table(0)
    with pytest.raises(BatchfixError, match=words):
        judged(X, batch, keep, **change)


def test_kept_columns_have_names_that_can_be_told_from_batch():
    X, batch, keep = table(0)
    assert "batch (kept)" in judged(X, batch, keep.rename(columns={"group": "batch"})).biology
    found = judged(X, batch, keep["group"].tolist())
    assert list(found.biology) == ["keep"]
    alone = judged(X, batch, ["one"] * len(X))
    assert str(alone.leave_one_batch_out["keep"]).startswith("keep must have two classes")


# ---- distances and time


def test_held_out_halves_are_measured_by_the_distance_that_is_asked_for():
    X, batch, keep = table(0)
    found = judged(np.abs(X), batch, keep, corrector=Doing(), distance="braycurtis")
    held, plain = found.batch_variance.held_out, judged(np.abs(X), batch, keep, corrector=Doing())
    assert abs(held.R2 - plain.batch_variance.held_out.R2) > 1e-4
    assert_allclose(held.F, held.F_before, rtol=1e-9)
    below = judged(np.abs(X), batch, keep, corrector=LinearCorrector(), distance="braycurtis")
    assert isinstance(below.batch_variance.held_out, Missing)  # a corrected half is negative somewhere


def test_zeros_are_dealt_with_for_aitchison_and_distances_that_disagree_are_shown_together():
    made = make_microbes(60, 30, 3, random_state=0)
    found = judged(made.counts, made.batch, made.group.to_frame(), distance="aitchison")
    assert isinstance(found.batch_variance.before.R2, float)
    assert any("zeros count as half" in note for note in found.notes)
    assert found.distances.table.index.tolist() == ["euclidean", "aitchison", "braycurtis"]
    row = found.distances.table.loc["braycurtis"]
    alone = permanova(made.counts, made.batch, given=made.group, distance="braycurtis", permutations=0)
    assert_allclose(row["R2_adjusted_before"], alone.R2_adjusted, rtol=1e-9)
    assert judged(*table(0)).distances is None
    rng = np.random.default_rng(0)
    counts = rng.poisson(np.r_[np.full(20, 5.0), 3000.0], size=(60, 21)).astype(float) + 1
    batch = np.tile(["a", "b"], 30)
    counts[::2, :10] *= 2  # of rare parts, which the one large part hides from Euclid
    found = judged(counts, batch, None)
    assert found.distances.disagree
    assert "Distances do not agree" in str(found)
    assert any("Distances do not agree" in reason for reason in found.mind)
    assert "R2_adjusted by aitchison" in found.to_frame()["what"].tolist()
    closed = judged(counts, batch, None, corrector=CompositionalCorrector())
    assert closed.distances.table["p_value_after"].isna().all()  # log-ratios have no other distance


def test_where_rows_are_in_time_nothing_is_learned_from_later_ones():
    X, _, keep = table(0, shift=0.0)
    batch = np.array(list("abc"))[np.arange(60) % 3]
    seen = []

    class Watching(Doing):
        def fit(self, X, y=None, batch=None):
            seen.append(set(np.asarray(X)[:, 0]))
            return super().fit(X, y, batch)

        def transform(self, X, batch=None):
            seen[-1].add(None)
            self.last_ = set(np.asarray(X)[:, 0])
            return super().transform(X, batch)

    found = judged(X, batch, keep, corrector=Watching(), cv=TimeSeriesSplit(3))
    assert len(found.batch_variance.held_out.splits) == 1
    place = {value: i for i, value in enumerate(X[:, 0])}
    learned = [[place[v] for v in each if v is not None] for each in seen]
    # the whole table once for the table after; all others learn from a beginning of it
    assert sum(max(each) == 59 for each in learned) == 1
    late = judged(X, np.repeat(list("abc"), 20), keep, ordered=True).leave_one_batch_out["group"].table
    assert late["linear_before"].isna().tolist() == [True, False, False]


@pytest.mark.parametrize("how", ["inverted", "shuffled", "mirrored"])
def test_biology_upside_down_or_gone_is_found_where_batches_are_alike_in_it(how):
    X, batch, keep = table(0, n=80, p=40, batches=2, shift=1.0, biology=1.2, confounding=0.0)
    good = pd.DataFrame(LinearCorrector().fit_transform(X, batch=batch, keep=keep))
    sign = np.where(np.asarray(keep).ravel() == np.unique(keep)[1], 1.0, 0.0)[:, None]
    effect = sign * (good[sign.ravel() == 1].mean() - good[sign.ravel() == 0].mean()).to_numpy()
    after = {
        "inverted": good - 2 * effect,
        "shuffled": good[np.random.default_rng(1).permutation(good.columns)].to_numpy(),
        "mirrored": -good,
    }[how]
    found = judged(X, batch, keep, after=np.asarray(after))
    assert "over-fitted" in found.verdict
    assert grave(found.over)


def test_noise_that_was_not_kept_is_not_lost():
    for seed in range(6):
        X, batch, _ = table(seed, n=80, p=10, batches=20, shift=1.0)
        noise = pd.Series(np.random.default_rng(seed).normal(size=len(X)), name="age")
        found = judged(X, batch, noise, after=LinearCorrector().fit_transform(X, batch=batch))
        assert not grave(found.over)


def test_a_large_rest_of_batch_is_found_whatever_became_of_biology():
    for seed in range(4):
        rng = np.random.default_rng(seed)
        batch = np.repeat(["a", "b"], 60)
        group = np.where(rng.random(120) < np.where(batch == "a", 0.3, 0.7), "case", "control")
        shift = rng.normal(size=50) * 10
        X = rng.normal(size=(120, 50)) + np.outer(batch == "b", shift)
        X[:, :10] += (group == "case")[:, None]
        found = judged(X, batch, group, after=X - 0.8 * np.outer(batch == "b", shift))
        assert found.under


def test_one_missing_value_hides_no_feature():
    X, batch, _ = table(0, n=60, p=10, batches=2, shift=0.0)
    X = np.asarray(X, dtype=float).copy()
    X[np.asarray(batch) == np.asarray(batch)[-1], 0] += 10
    X[0, 5] = np.nan
    assert judged(X, batch, None).verdict == "under-corrected"


def test_columns_of_a_table_after_are_found_by_their_names():
    X, batch, keep = table(0, n=80, p=40, batches=2, shift=1.0, biology=1.2, confounding=0.8)
    named = pd.DataFrame(np.asarray(X), columns=[f"f{i}" for i in range(40)])
    after = LinearCorrector().fit_transform(named, batch=np.asarray(batch))
    one = judged(named, np.asarray(batch), np.asarray(keep), after=after)
    two = judged(named, np.asarray(batch), np.asarray(keep), after=after[after.columns[::-1]])
    assert (one.verdict, one.over) == (two.verdict, two.over)


def test_amounts_and_logarithms_are_not_compared():
    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.gamma(2.0, 50.0, size=(60, 20))).astype(float) + 1
    batch, group = np.repeat(["a", "b"], 30), np.tile(["x", "y"], 30)
    found = judged(counts, batch, group, after=np.log(counts))
    assert not found.one_scale
    assert not any("Biology" in reason for reason in found.over)
    assert any("amounts" in note for note in found.notes)


def test_of_few_samples_no_small_p_can_come():
    assert splits_of(np.array([3, 3])) == 10
    assert splits_of(np.array([2, 2, 2])) == 15
    assert splits_of(np.array([30, 30])) > 1e15
