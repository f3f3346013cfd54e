"""Calibration: where nothing is there, numbers say so as often as they promise."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy.spatial.distance import cdist

from batchfix import LinearCorrector
from batchfix.core.feature_effects import feature_squares
from batchfix.core.projection import indicators
from batchfix.datasets import make_lab
from batchfix.diagnostics.anova import permanova
from batchfix.diagnostics.correction import prepare
from batchfix.diagnostics.evaluation import evaluate
from batchfix.diagnostics.held_out import held_out
from batchfix.diagnostics.predictability import batch_predictability
from batchfix.diagnostics.spread import dispersion
from batchfix.diagnostics.validation import LeaveOneBatchOut, leave_one_batch_out
from batchfix.exceptions import BatchfixError, TooFewSamplesError

SMALL = np.repeat(list("abcde"), [20, 8, 5, 4, 3])


# ---- shares


@pytest.mark.parametrize("seed", range(5))
def test_an_adjusted_share_is_never_above_the_share(seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(8, 50))
    X[:4] += 10
    batch, group = np.repeat(["a", "b"], 4), rng.permutation(list("uvuvuvuv"))
    found = permanova(X, batch, given=group, permutations=0)
    assert found.R2_adjusted < found.R2 <= 1
    squares = feature_squares(X, indicators(np.repeat([0, 1], 4), 2)).sum()
    assert_allclose(squares.R2_adjusted, squares.R2_partitioned, rtol=1e-12)  # nothing given: Ezekiel's
    table = pd.DataFrame({"group": group})
    held = held_out(*prepare(LinearCorrector(), X, batch, table), repeats=1)
    assert_allclose(held.left, (held.splits["R2"] * (1 - held.splits["inflation"] / held.splits["F"])).mean())


def test_the_least_p_is_that_of_the_most_extreme_split():
    X = np.random.default_rng(0).normal(size=(4, 20))
    assert permanova(X, list("aabb"), random_state=0).least_p > 0.3  # three splits there are
    X = np.random.default_rng(0).normal(size=(40, 20))
    assert permanova(X, list("ab") * 20, permutations=199, random_state=0).least_p <= 0.01


# ---- spread


def test_p_of_spread_holds_its_level_for_small_batches_where_it_is_permuted():
    p, plain = [], []
    for seed in range(80):
        X = np.random.default_rng(seed).normal(size=(40, 30))
        found = dispersion(X, SMALL, bias_adjust=True, fewest=8, permutations=99, random_state=seed)
        assert found.reliable
        p.append(found.p_value)
        plain.append(dispersion(X, SMALL).p_value)
    assert np.mean(np.array(p) < 0.05) < 0.05 + 4 * np.sqrt(0.05 * 0.95 / 80)
    assert np.mean(np.array(plain) < 0.05) > 0.3  # which is why


def test_distances_to_a_fit_are_residuals_over_the_root_of_their_room():
    rng = np.random.default_rng(0)
    X, batch, group = rng.normal(size=(30, 5)), np.repeat(list("abc"), 10), np.tile(["u", "v"], 15)
    columns = np.column_stack([batch == "a", batch == "b", batch == "c", group == "u"]).astype(float)
    hat = columns @ np.linalg.pinv(columns)
    wanted = np.sqrt(np.square(X - hat @ X).sum(axis=1) / (1 - np.diag(hat)))
    found = dispersion(X, batch, given=group)
    assert_allclose(found.distances, wanted, rtol=1e-10)
    assert_allclose(dispersion(cdist(X, X), batch, distance="precomputed", given=group).distances, wanted, rtol=1e-8)
    assert found.given == ("given0",) or len(found.given) == 1
    alone = dispersion(X, batch, given=["once", *group[1:]])
    assert np.isnan(alone.distances.iloc[0])
    assert np.isfinite(alone.F)
    plain, adjusted = dispersion(X, batch, bias_adjust=True), dispersion(X, batch, given=np.ones(30))
    assert_allclose(adjusted.distances, plain.distances, rtol=1e-10)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"center": "median", "given": list("uv") * 20}, BatchfixError, "must be 'centroid'"),
        ({"fewest": 2}, BatchfixError, "fewest must be"),
        ({"fewest": 15}, TooFewSamplesError, "15 samples at least"),
        ({"permutations": -1}, BatchfixError, "permutations must be"),
        ({"given": [f"s{i}" for i in range(40)]}, TooFewSamplesError, "more samples than things"),
    ],
    ids=str,
)
def test_what_spread_cannot_do_is_said(change, error, words):
    with pytest.raises(error, match=words):
        dispersion(np.random.default_rng(0).normal(size=(40, 5)), SMALL, **change)


# ---- areas and scores


def test_areas_of_noise_lie_where_chance_says():
    outside = 0
    for seed in range(40):
        X = np.random.default_rng(seed).normal(size=(40, 30))
        found = batch_predictability(
            X, ["a", "b"] * 20, classifiers="linear", repeats=1, corrected=False, random_state=seed
        )
        outside += not found.by_chance[0] <= found.linear <= found.by_chance[1]
    assert outside <= 6  # 2 are expected; 9 without the widening


def left_out(changes):
    rows = {f"linear_{when}": 0.9 + np.array(changes) * (when == "after") for when in ("before", "after")}
    table = pd.DataFrame({"n": 20} | rows, index=list("abcd")[: len(changes)])
    after = {"linear": 0.9 + float(np.mean(changes))}
    return LeaveOneBatchOut({"linear": 0.9}, after, table, "AUC", 0.5, "group", "ComBat")


def test_a_change_of_score_has_an_error_over_batches():
    from scipy.stats import ttest_1samp

    changes = [-0.2, -0.1, 0.05, -0.15]
    interval = ttest_1samp(changes, 0).confidence_interval()
    assert_allclose(left_out(changes).change_error["linear"], (interval.high - interval.low) / 2, rtol=1e-9)
    assert left_out([-0.2]).change_error["linear"] == np.inf
    assert "+-" in str(left_out(changes))


@pytest.mark.parametrize(
    ("changes", "confounding", "over", "mind"),
    [
        ([-0.3, 0.1, -0.3, 0.1], 0.0, 0, 0),  # batches do not agree
        ([-0.1, -0.11, -0.12, -0.1], 0.0, 1, 0),
        ([-0.1, -0.11, -0.12, -0.1], 0.8, 0, 1),  # the design's price
        ([-0.8, -0.7, -0.8, -0.8], 0.8, 1, 0),  # upside down
    ],
)
def test_a_fall_is_blamed_on_the_corrector_where_it_is_sure_and_not_the_designs(changes, confounding, over, mind):
    import dataclasses

    from batchfix.diagnostics.biology_findings import transfer

    lab = make_lab(80, 10, 4, confounding=confounding, random_state=0)
    found = evaluate(lab.data, corrector=LinearCorrector(), batch=lab.batch, keep=lab.group, fast=True, permutations=19)
    found = dataclasses.replace(found, leave_one_batch_out={"group": left_out(changes)})
    blamed, minded = transfer(found)
    assert (len(blamed), len(minded)) == (over, mind)


def test_batches_in_time_are_predicted_from_earlier_ones():
    lab = make_lab(90, 12, 3, random_state=0)
    order = np.argsort(lab.batch.to_numpy(), kind="stable")
    X, y, batch = lab.data.iloc[order], lab.group.iloc[order], lab.batch.iloc[order]
    found = leave_one_batch_out(X, y, batch, classifiers="linear", ordered=True).table["linear_before"]
    assert np.isnan(found.iloc[0])
    two = batch != "b3"
    alone = leave_one_batch_out(X[two], y[two], batch[two], classifiers="linear").table["linear_before"]
    assert_allclose(found["b2"], alone["b2"], rtol=1e-9)


def test_a_corrector_without_set_params_is_copied():
    class Bare:
        def fit(self, X, y=None, batch=None):
            return self

        def transform(self, X, batch=None):
            return X

        def get_params(self, deep=True):
            return {"batch_key": None}

    lab = make_lab(60, 12, 3, random_state=0)
    found = evaluate(lab.data, corrector=Bare(), batch=lab.batch, keep=lab.group, fast=True, permutations=19)
    assert found.corrected
    assert found.leave_one_batch_out["group"].after["linear"] == found.leave_one_batch_out["group"].before["linear"]
