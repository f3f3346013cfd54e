"""The forecast against what correctors then do, by simulation; what it says of designs, and what it refuses.

Monte Carlo: rates are of FEATURES features without an effect, hence known to sqrt(r (1 - r) / FEATURES) <= .0035; means
and spreads over features to 1/sqrt(FEATURES) and 1/sqrt(2 FEATURES) of their size. Four standard errors are allowed.
"""

import json
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import stats
from scipy.stats.contingency import association

from batchfix.core.naming import some
from batchfix.correctors import BatchCorrector, ComBat, LinearCorrector
from batchfix.diagnostics.design import ALL_PAIRS, FEW_SAMPLES, WARN_RATE, WARN_SHARED, Block, design_forecast
from batchfix.exceptions import (
    AlignmentError,
    AmbiguousKeepError,
    BatchfixError,
    BatchfixWarning,
    EstimabilityWarning,
    MissingLabelError,
    TooFewSamplesError,
)

FEATURES = 20_000


def two_runs(own: int, n: int = 30) -> pd.DataFrame:
    """Two runs of n: the first holds `own` cases, the second as many controls. rho2 = (2 own / n - 1)^2."""
    first = ["case"] * own + ["control"] * (n - own)
    second = ["control"] * own + ["case"] * (n - own)
    return pd.DataFrame({"run": ["r1"] * n + ["r2"] * n, "group": first + second})


def ten_runs() -> pd.DataFrame:
    """Ten runs of three, one or two of them cases: rho2 = 1/9."""
    groups = ["case", "case", "control", "control", "control", "case"] * 5
    return pd.DataFrame({"run": np.repeat(np.arange(10), 3), "group": groups})


DESIGNS = [two_runs(15), two_runs(20), two_runs(24), two_runs(27), two_runs(29), ten_runs()]
RHO2 = [0.0, 1 / 9, 0.36, 0.64, (28 / 30) ** 2, 1 / 9]


def only(forecast) -> pd.Series:
    assert len(forecast.contrasts) == 1
    return forecast.contrasts.iloc[0]


def difference(X: np.ndarray, group: pd.Series) -> np.ndarray:
    return np.asarray(X[group == "case"].mean(axis=0) - X[group == "control"].mean(axis=0))


def table(design: pd.DataFrame, effect: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noise and the effect; and the same with batch effects."""
    rng = np.random.default_rng(seed)
    plain = rng.normal(size=(len(design), FEATURES)) + effect * (design["group"] == "case").to_numpy()[:, None]
    codes = pd.factorize(design["run"])[0]
    return plain, plain + rng.normal(0, 3, size=(codes.max() + 1, FEATURES))[codes]


def rate_after(corrector, design: pd.DataFrame) -> float:
    case = design["group"] == "case"
    corrected = corrector.fit_transform(table(design, 0.0)[1], batch=design["run"], keep=design[["group"]])
    return float((stats.ttest_ind(corrected[case], corrected[~case]).pvalue < 0.05).mean())


# ------------------------------------------------------------- against what correctors do


@pytest.mark.parametrize("case", range(6), ids=["0", ".11", ".36", ".64", ".87", ".11 in ten runs"])
@pytest.mark.parametrize("corrector", [LinearCorrector(), BatchCorrector(scale=None)], ids=["linear", "location"])
def test_costs_are_those_of_a_location_only_correction(case, corrector):
    design, rho2 = DESIGNS[case], RHO2[case]
    forecast = only(design_forecast(design["run"], design[["group"]]))
    assert_allclose(forecast["rho2"], rho2, atol=1e-12)
    plain, X = table(design, effect=2.0)
    error = 4 / np.sqrt(FEATURES)

    lost = difference(corrector.fit_transform(X, batch=design["run"]), design["group"])
    # an estimate's standard error is below one, and that of its mean over features below 1/sqrt(FEATURES)
    assert abs(lost.mean() - 2.0 * forecast["surviving"]) < error

    kept = difference(corrector.fit_transform(X, batch=design["run"], keep=design[["group"]]), design["group"])
    assert abs(kept.mean() - 2.0) < error
    inflation = kept.std() / difference(plain, design["group"]).std()
    assert abs(inflation / forecast["noise"] - 1) < error

    want = forecast["false_positives"]
    assert abs(rate_after(corrector, design) - want) < 4 * np.sqrt(want * (1 - want) / FEATURES)


def test_the_rate_is_an_approximation_for_combat():
    """Scaling moves it by less than a tenth where batches are large, and far where the spreads are those of three."""
    for design in DESIGNS[1:5]:
        forecast = only(design_forecast(design["run"], design[["group"]]))["false_positives"]
        assert abs(rate_after(ComBat(), design) / forecast - 1) < 0.1
    forecast = only(design_forecast(ten_runs()["run"], ten_runs()[["group"]]))["false_positives"]
    assert rate_after(ComBat(), ten_runs()) > 1.4 * forecast


def test_effective_samples_are_those_of_a_balanced_experiment_as_precise():
    design = two_runs(24)
    forecast = only(design_forecast(design["run"], design[["group"]]))
    assert_allclose(forecast["effective_n"], 60 * 0.64)
    kept = LinearCorrector().fit_transform(table(design, 0.0)[1], batch=design["run"], keep=design[["group"]])
    spread = difference(kept, design["group"]).std()
    assert abs(spread / np.sqrt(4 / forecast["effective_n"]) - 1) < 4 / np.sqrt(2 * FEATURES)


def test_effective_samples_of_a_slope_are_all_of_them_where_nothing_is_shared():
    age = np.tile([-3.0, -1, 1, 3], 10)
    forecast = only(design_forecast(np.repeat(["a", "b"], 20), {"age": age}))
    assert_allclose([forecast["rho2"], forecast["effective_n"]], [0, 40], atol=1e-12)


# ------------------------------------------------------------- what Cramer's V does not see


def spread_evenly() -> pd.DataFrame:
    """Ten runs, ten arms: run k has more of arm k than of the others."""
    rows = [(k, arm, 12 if arm == k else 2) for k in range(10) for arm in range(10)]
    return pd.DataFrame([(run, arm) for run, arm, count in rows for _ in range(count)], columns=["run", "arm"])


def in_two_halves() -> pd.DataFrame:
    """The first five arms in the first five runs, the others in the others, but for one sample of 61 a run."""
    rows = [(k, arm, 12) for k in range(10) for arm in range(10) if (k < 5) == (arm < 5)]
    rows += [(k, (k + 5) % 10, 1) for k in range(10)]
    return pd.DataFrame([(run, arm) for run, arm, count in rows for _ in range(count)], columns=["run", "arm"])


def test_partial_confounding_that_cramers_v_misses_is_caught():
    """V averages over directions; one nearly confounded direction among nine costs it little and contrasts much."""
    even, halves = spread_evenly(), in_two_halves()
    v = [association(pd.crosstab(d["run"], d["arm"]).to_numpy(), method="cramer") for d in (even, halves)]
    assert v[1] < v[0] < 0.35
    forecasts = [design_forecast(d["run"].astype(str), d[["arm"]].astype(str)) for d in (even, halves)]
    worst = [f.contrasts["rho2"].max() for f in forecasts]
    assert worst[0] < 0.15
    assert worst[1] > 0.6
    across = forecasts[1].contrasts.set_index("contrast").loc["'0' - '9'"]
    inside = forecasts[1].contrasts.set_index("contrast").loc["'0' - '4'"]
    assert across["noise"] > 1.6
    assert inside["noise"] < 1.05
    assert forecasts[1].rho2 > 0.85
    assert forecasts[1].verdict == "warn"


def test_columns_that_are_confounded_only_together_are_caught():
    """Each of eight columns has little to do with batch (V < .45, rho2 < .2), which is almost their sum."""
    rng = np.random.default_rng(3)
    columns = rng.integers(0, 2, size=(400, 8))
    keep = pd.DataFrame(np.where(columns == 1, "yes", "no"), columns=[f"k{i}" for i in range(8)])
    total = columns.sum(axis=1)
    batch = np.where(total > 4, "high", np.where(total < 4, "low", "mid"))
    v = [association(pd.crosstab(batch, keep[name]).to_numpy(), method="cramer") for name in keep]
    assert max(v) < 0.45
    alone = [design_forecast(batch, keep[[name]]).rho2 for name in keep]
    together = design_forecast(batch, keep)
    assert max(alone) < 0.2
    assert together.rho2 > 0.8


# ------------------------------------------------------------- designs that cannot be corrected

BLOCKS = pd.DataFrame({"run": np.repeat([1, 2, 3, 4], 3), "group": list("ABAABBCDCDDC")})


def refusal(batch, keep, nuisance=None, **options) -> str:
    X = np.random.default_rng(0).normal(size=(len(keep), 2))
    with pytest.raises(BatchfixError) as caught:
        LinearCorrector(**options).fit(X, batch=batch, keep=keep, nuisance=nuisance)
    return str(caught.value)


def test_blocks_are_named_in_the_words_of_the_correctors():
    forecast = design_forecast(BLOCKS["run"], BLOCKS[["group"]])
    assert forecast.verdict == "stop"
    assert [f.message for f in forecast.findings] == [refusal(BLOCKS["run"], BLOCKS[["group"]])]
    assert "batches {1, 2} hold only {'A', 'B'}; batches {3, 4} hold only {'C', 'D'}" in forecast.findings[0].message
    assert forecast.blocks == {"group": (Block((1, 2), ("A", "B")), Block((3, 4), ("C", "D")))}
    contrasts = forecast.contrasts.set_index("contrast")
    across = ["'A' - 'C'", "'A' - 'D'", "'B' - 'C'", "'B' - 'D'"]
    assert contrasts.index[~contrasts["estimable"]].tolist() == across
    assert (contrasts.loc[across, ["rho2", "surviving", "effective_n"]] == [1.0, 0.0, 0.0]).all(axis=None)
    assert contrasts.loc[across, ["noise", "false_positives"]].isna().all(axis=None)
    assert (contrasts.loc[across, "verdict"] == "stop").all()
    assert contrasts.loc["'A' - 'B'", "rho2"] == pytest.approx(1 / 9)


@pytest.mark.parametrize(
    ("keep", "options"),
    [
        (pd.DataFrame({"group": ["a"] * 6 + ["b"] * 6}), {}),
        (pd.DataFrame({"depth": [1.5] * 6 + [2.5] * 6}), {}),
        (pd.DataFrame({"dose": [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 4, 4]}), {"keep_factors": ["dose"]}),
        (pd.DataFrame({"age": np.arange(12.0) % 5, "gap": np.repeat([0.0, 9.0], 6) + np.arange(12.0) % 5}), {}),
        (pd.DataFrame({f"k{i}": np.random.default_rng(i).normal(size=12) for i in range(10)}), {}),
    ],
    ids=["factor", "number", "codes", "two columns together", "too many columns"],
)
def test_what_correctors_refuse_is_stopped_in_their_words(keep, options):
    batch = ["r1"] * 6 + ["r2"] * 6
    forecast = design_forecast(batch, keep, **options)
    assert forecast.verdict == "stop"
    assert forecast.findings[0].message == refusal(batch, keep, **options)
    json.dumps(forecast.to_dict(), allow_nan=False)
    assert str(forecast)


def test_each_column_that_is_confounded_by_itself_is_said():
    keep = BLOCKS.assign(arm=np.repeat(["x", "y"], 6), sex=["f", "m", "f", "m"] * 3)[["group", "arm", "sex"]]
    found = [f.message for f in design_forecast(BLOCKS["run"], keep).findings if f.verdict == "stop"]
    assert [message.split(" cannot")[0] for message in found] == ["Batch and 'group'", "Batch and 'arm'"]


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_stop_is_what_correctors_refuse_or_hangs_on_less_than_one_sample(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(8, 30))
    batch, free = rng.integers(0, 3, n), rng.random(n) < rng.choice([0.0, 0.2, 1.0])
    keep = pd.DataFrame(
        {
            "group": np.array(list("uvw"))[np.where(free, rng.integers(0, 3, n), batch)],
            "age": rng.normal(size=n) * (rng.random() < 0.5) + batch,
        }
    )
    nuisance = pd.DataFrame({"depth": rng.normal(size=n) + batch})
    try:
        forecast = design_forecast(batch, keep, nuisance)
    except BatchfixError:  # one batch or one level
        return
    X = rng.normal(size=(n, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BatchfixWarning)
        try:
            LinearCorrector().fit(X, batch=batch, keep=keep, nuisance=nuisance)
            refused = False
        except BatchfixError:
            refused = True
    hanging = (forecast.contrasts["estimable"] & (forecast.contrasts["verdict"] == "stop")).any()
    assert (forecast.verdict == "stop") == (refused or hanging)


def test_a_comparison_that_hangs_on_one_swapped_sample_is_stopped():
    batch = ["r1"] * 10 + ["r2"] * 10
    group = ["case"] * 9 + ["control"] * 11
    forecast = design_forecast(batch, {"group": group})
    row = only(forecast)
    assert row["estimable"]
    assert row["effective_n"] < FEW_SAMPLES < 20
    assert forecast.verdict == "stop"
    assert "hangs on less than one sample" in forecast.findings[0].message
    # one rare level that batch does not make rarer is no reason to stop
    rare = design_forecast(["r1"] * 10 + ["r2"] * 10, {"group": ["a", "b"] * 9 + ["a", "rare"]})
    assert rare.verdict != "stop"


# ------------------------------------------------------------- verdicts and words


@pytest.mark.parametrize(("own", "verdict"), [(15, "fine"), (20, "fine"), (24, "warn"), (29, "warn"), (30, "stop")])
def test_verdicts_grow_with_what_is_shared(own, verdict):
    design = two_runs(own)
    assert design_forecast(design["run"], design["group"]).verdict == verdict


def test_many_small_batches_warn_for_the_rate_alone():
    row = only(design_forecast(ten_runs()["run"], ten_runs()["group"]))
    assert row["rho2"] < WARN_SHARED
    assert row["false_positives"] > WARN_RATE * 0.05
    assert row["verdict"] == "warn"


def test_the_sentences_state_the_costs():
    design = two_runs(24)
    message = design_forecast(design["run"], design["group"]).findings[0].message
    assert message == (
        "'case' - 'control' of 'group' shares 36 % with batch. A correction that does not keep it leaves 64 % of its "
        "effect; one that keeps it makes its estimate 1.25 times as noisy, and a t-test on the corrected table then "
        "finds 11.8 % false positives at the 5 % level. Keep it, and test it on the uncorrected table with batch in "
        "the model."
    )


def test_batches_of_one_sample_are_named():
    batch = ["r1"] * 8 + ["r2"] * 8 + ["x", "y"]
    forecast = design_forecast(batch, {"group": ["u", "v"] * 9})
    assert forecast.singletons == ["x", "y"]
    assert forecast.verdict == "warn"
    assert f"2 batches of 4 hold one sample ({some(['x', 'y'])})" in forecast.findings[0].message
    assert forecast.batch_sizes.to_dict() == {"r1": 8, "r2": 8, "x": 1, "y": 1}


def test_nearly_collinear_columns_are_said_as_correctors_say_it():
    rng = np.random.default_rng(4)
    year = rng.integers(2015, 2024, 80).astype(float)
    keep = pd.DataFrame({"year": year, "square": year**2, "cube": year**3})
    batch = np.repeat(["a", "b"], 40)
    with pytest.warns(EstimabilityWarning) as caught:
        LinearCorrector().fit(rng.normal(size=(80, 2)), batch=batch, keep=keep)
    assert str(caught[0].message) in [f.message for f in design_forecast(batch, keep).findings]


def test_columns_that_follow_from_each_other_are_said():
    design = two_runs(16)
    keep = {"group": design["group"], "again": design["group"].str.upper()}
    forecast = design_forecast(design["run"], keep)
    assert forecast.verdict == "warn"
    assert "follow from each other" in forecast.findings[0].message
    assert forecast.contrasts["rho2"].isna().all()
    json.dumps(forecast.to_dict(), allow_nan=False)


def test_nuisance_is_removed_too_and_told_from_batch():
    rng = np.random.default_rng(1)
    batch, group = np.tile(["a", "b"], 30), np.repeat(["u", "v"], 30)
    depth = (group == "u") * 2.0 + rng.normal(size=60)
    forecast = design_forecast(batch, {"group": group}, {"depth": depth})
    row = only(forecast)
    assert row["rho2_batch"] == pytest.approx(0, abs=1e-12)
    within = depth - pd.Series(depth).groupby(batch).transform("mean")
    r = np.corrcoef(group == "u", within)[0, 1]
    assert row["rho2"] == pytest.approx(r**2)
    assert forecast.removed == "batch and nuisance"
    assert "with batch and nuisance (0 % with batch alone)" in forecast.findings[0].message
    assert (forecast.naive_df, forecast.residual_df) == (58, 56)


def test_several_batch_factors_are_removed_together():
    rng = np.random.default_rng(2)
    batch = pd.DataFrame({"run": rng.choice(["1", "2", "3"], 60), "site": np.repeat(["x", "y"], 30)})
    group = np.where((batch["site"] == "x") ^ (rng.random(60) < 0.2), "u", "v")
    both = only(design_forecast(batch, {"group": group}))
    assert both["rho2"] > 0.3 > only(design_forecast(batch["run"], {"group": group}))["rho2"]
    assert both["rho2_batch"] == both["rho2"]
    full = LinearCorrector().fit(rng.normal(size=(60, 1)), batch=batch, keep={"group": group})
    assert design_forecast(batch, {"group": group}).residual_df == (full.estimability_["residual_degrees_of_freedom"])


# ------------------------------------------------------------- the result


def test_tables_hold_the_design():
    rng = np.random.default_rng(0)
    design = pd.DataFrame(
        {"run": rng.choice(["1", "2", "3"], 50), "arm": rng.choice(["x", "y", "z"], 50), "age": rng.normal(50, 9, 50)}
    )
    forecast = design_forecast(design["run"], design[["arm", "age"]])
    want = pd.crosstab(design["run"], design["arm"])
    assert (forecast.tables["arm"].to_numpy() == want.to_numpy()).all()
    assert forecast.tables["arm"].columns.tolist() == ["x", "y", "z"]
    ages = design.groupby("run")["age"].agg(["size", "mean", "std"])
    assert_allclose(forecast.tables["age"], ages)
    assert forecast.contrasts["contrast"].tolist() == ["'x' - 'y'", "'x' - 'z'", "'y' - 'z'", "slope"]
    assert forecast.columns["column"].tolist() == ["arm", "age"]
    slope = forecast.contrasts.iloc[-1]
    assert_allclose(
        forecast.columns.loc[1, ["rho2", "false_positives"]].tolist(),
        slope[["rho2", "false_positives"]].tolist(),
        atol=1e-8,
    )
    arm = forecast.contrasts[forecast.contrasts["column"] == "arm"]
    assert arm["rho2"].max() <= forecast.columns.loc[0, "rho2"] <= forecast.rho2


def test_of_many_levels_each_is_compared_with_the_commonest():
    arm = np.concatenate([np.tile(np.arange(ALL_PAIRS + 1), 3), [7] * 5])
    forecast = design_forecast(np.arange(len(arm)) % 2, {"arm": arm}, keep_factors=["arm"])
    assert len(forecast.contrasts) == ALL_PAIRS
    assert forecast.contrasts["contrast"].str.endswith("- 7").all()


def test_the_dict_is_json_and_says_all():
    forecast = design_forecast(BLOCKS["run"], BLOCKS[["group"]])
    back = json.loads(json.dumps(forecast.to_dict(), allow_nan=False))
    assert back == forecast.to_dict()
    assert back["verdict"] == "stop"
    assert back["batches"][0] == {"batch": 1, "samples": 3}
    assert back["contrasts"][1]["noise"] is None
    assert back["tables"]["group"]["data"] == [[2, 1, 0, 0], [1, 2, 0, 0], [0, 0, 2, 1], [0, 0, 1, 2]]
    assert back["blocks"]["group"][0] == {"batches": [1, 2], "levels": ["A", "B"]}


def test_the_page_fits_a_terminal_and_names_what_counts():
    rng = np.random.default_rng(0)
    design = pd.DataFrame({"run": rng.integers(0, 30, 300).astype(str), "arm": rng.integers(0, 12, 300).astype(str)})
    page = str(design_forecast(design["run"], design[["arm"]]))
    assert max(map(len, page.splitlines())) <= 100
    assert "300 samples in 30 batches" in page
    assert "... 18 more batches and 4 more levels" in page
    assert "... 54 more contrasts, which share less" in page
    assert "an approximation for ComBat" in page


def test_the_curve_is_of_this_design():
    design = two_runs(24)
    forecast = design_forecast(design["run"], design["group"])
    assert_allclose(forecast.curve.false_positives[36], only(forecast)["false_positives"])
    assert_allclose(forecast.curve.noise[36], 1.25)


@pytest.mark.parametrize("level", [0.01, 0.2])
def test_the_level_is_that_of_the_test(level):
    design = two_runs(15)
    row = only(design_forecast(design["run"], design["group"], alpha=level))
    assert row["false_positives"] == pytest.approx(level, rel=0.2)


# ------------------------------------------------------------- containers and refusals


def test_labels_are_aligned_by_index_and_containers_do_not_matter():
    design = two_runs(24).set_index(pd.Index([f"s{i}" for i in range(60)]))
    want = design_forecast(design["run"], design[["group"]]).to_dict()
    shuffled = design[["group"]].sample(frac=1, random_state=0)
    assert design_forecast(design["run"], shuffled).to_dict() == want
    assert design_forecast(list(design["run"]), {"group": list(design["group"])}).to_dict() == want
    categories = design.astype("category")
    assert design_forecast(categories["run"], categories[["group"]]).to_dict() == want
    assert design_forecast({"run": design["run"].to_numpy()}, design["group"]).to_dict() == want
    polars = pytest.importorskip("polars")
    frame = polars.from_pandas(design)
    assert design_forecast(frame["run"], frame[["group"]]).to_dict() == want


def test_renaming_labels_changes_names_only():
    design = two_runs(24)
    one = design_forecast(design["run"], design["group"])
    other = design_forecast(
        design["run"].map({"r1": 7, "r2": 3}), design["group"].map({"case": True, "control": False})
    )
    assert_allclose(other.contrasts["rho2"], one.contrasts["rho2"])
    assert other.contrasts["contrast"].tolist() == ["False - True"]
    assert other.batch_sizes.index.tolist() == [3, 7]


RUN, GROUP = ["a", "a", "b", "b", "b", "a"], ["u", "v", "u", "v", "u", "v"]


@pytest.mark.parametrize(
    ("batch", "keep", "error", "sentence"),
    [
        (["a"] * 6, GROUP, BatchfixError, "There must be two batches to correct between, got only 'a'"),
        (RUN, ["u"] * 6, BatchfixError, "must differ between samples to be compared, got 'u' in every row of 'keep0'"),
        (RUN, [2.5] * 6, BatchfixError, "must differ between samples to be compared, got 2.5 in every row of 'keep0'"),
        (list("abcdef"), GROUP, TooFewSamplesError, "got 6 batches of one row each"),
        (RUN, list("abcdef"), TooFewSamplesError, "Samples must share levels for these to be compared, got 6 levels"),
        (["a", None, "b", "b", "b", "a"], GROUP, MissingLabelError, "Every row must have a label in batch, got none"),
        (RUN, ["u", np.nan, "u", "v", "u", "v"], MissingLabelError, "Every row must have a label in 'keep0', got none"),
        (RUN, [1.5, np.nan, 2.5, 1, 2, 3], MissingLabelError, "Every row must have a finite value in 'keep0'"),
        (RUN, GROUP[:5], AlignmentError, "keep must have one entry a row of batch, got 5 for 6 rows"),
        (
            pd.Series(RUN, index=list("klmnop")),
            pd.Series(GROUP, index=list("klmnoz")),
            AlignmentError,
            "The index of keep must hold the rows of batch, got an index in which 1 of 6 row ids have none, 'p'",
        ),
        (RUN, [1, 2, 3, 1, 2, 3], AmbiguousKeepError, "'keep0' must say whether it is a factor or a number"),
        (RUN, None, BatchfixError, "keep must hold what is to survive, got None"),
        (RUN, "group", BatchfixError, "keep must hold a value for each sample, got 'group'"),
        (RUN, {}, BatchfixError, "keep must hold what is to survive, got a table without columns"),
        ("run", GROUP, BatchfixError, "batch must hold a label for each sample, got 'run'"),
        (None, GROUP, BatchfixError, "batch must hold a label for each sample, got None"),
        ([], [], BatchfixError, "batch must hold a label for each sample, got none"),
        (np.array("a"), GROUP, BatchfixError, "batch must hold a label for each sample, got array"),
    ],
)
def test_wrong_labels_are_refused_in_a_sentence(batch, keep, error, sentence):
    with pytest.raises(error) as caught:
        design_forecast(batch, keep)
    assert sentence in str(caught.value)


def test_more_classes_than_samples_allow_is_a_stop_in_words():
    forecast = design_forecast(RUN, ["p", "p", "q", "r", "s", "t"])
    assert forecast.verdict == "stop"
    assert "cannot be told apart" in forecast.findings[0].message
    crowded = design_forecast(list("aaabbb"), {"g": list("uvwuvw"), "h": list("xyzyzx")})
    assert crowded.verdict == "stop"
    assert "There must be more rows than things to estimate, got 6 rows" in crowded.findings[0].message
    assert crowded.contrasts["false_positives"].isna().all()


def test_other_arguments_are_refused_in_a_sentence():
    with pytest.raises(BatchfixError, match="alpha must be a level between 0 and 1, got 5"):
        design_forecast(RUN, GROUP, alpha=5)
    with pytest.raises(BatchfixError, match="alpha must be a level between 0 and 1, got '5 %'"):
        design_forecast(RUN, GROUP, alpha="5 %")
    with pytest.raises(BatchfixError, match="'g' must be kept or removed, got both"):
        design_forecast(RUN, {"g": GROUP}, {"g": GROUP})
    with pytest.raises(BatchfixError, match="got \\['g'\\] named as both"):
        design_forecast(RUN, {"g": GROUP}, keep_factors=["g"], keep_numbers=["g"])
    with pytest.raises(BatchfixError, match="keep_factors must name columns that are kept or removed"):
        design_forecast(RUN, {"g": GROUP}, keep_factors=["gg"])
    with pytest.raises(AmbiguousKeepError, match="whole numbers"):
        design_forecast(RUN, np.column_stack([[1.0, 2, 3, 1, 2, 3], [0.5, 1, 2, 3, 4, 5]]))


def test_all_unique_batches_are_refused_as_correctors_refuse_them():
    labels = list("abcdef")
    with pytest.raises(TooFewSamplesError) as caught:
        design_forecast(labels, GROUP)
    with pytest.raises(TooFewSamplesError) as theirs:
        LinearCorrector().fit(np.random.default_rng(0).normal(size=(6, 2)), batch=labels)
    assert str(caught.value) == str(theirs.value)
