"""CompositionalCorrector: corrections in log-ratio space that know zeros, depth and new studies."""

import pickle
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_array
from sklearn import config_context
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, LeaveOneGroupOut, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from batchfix import BatchCorrector, ComBat, LinearCorrector, LogRatio, RenormCorrector
from batchfix.core.audit import audit_compositions
from batchfix.core.presence import present_ratios
from batchfix.core.simplex import closure
from batchfix.core.zeros import HalfMinimum
from batchfix.correctors.amounts import scale_of
from batchfix.correctors.compositional import CompositionalCorrector
from batchfix.datasets import make_microbes
from batchfix.exceptions import (
    AdaptationWarning,
    AlignmentError,
    AmbiguousKeepError,
    BatchfixError,
    DataScaleWarning,
    MergeError,
    MissingFeatureWarning,
    MissingLabelError,
    NothingToCorrectWarning,
    PseudocountWarning,
    TooFewSamplesError,
    UnknownBatchError,
    UnmergeableError,
)

MADE = make_microbes(90, 24, 3, missed=0.05, spread=1.5, confounding=0.2, random_state=3)
COUNTS, BATCH, GROUP = MADE.counts, MADE.batch, MADE.group
ARRAY, LABELS = COUNTS.to_numpy().astype(float), BATCH.to_numpy()
PRESENT = ARRAY > 0
POSITIVE = ARRAY + 1.0
OUTPUTS = ("log_ratio", "composition", "counts", "abundance")
CORRECTORS = (None, ComBat(), BatchCorrector(), LinearCorrector(), BatchCorrector(scale=None, shrinkage="eb"))
by_output = pytest.mark.parametrize("output", OUTPUTS)
by_corrector = pytest.mark.parametrize("corrector", CORRECTORS, ids=str)
quiet = pytest.mark.filterwarnings("ignore::batchfix.exceptions.MissingFeatureWarning")


def composed(table=ARRAY, batch=LABELS, **how):
    return CompositionalCorrector(output="composition", **how).fit_transform(table, batch=batch)


# ---- what a location-only correction is


@given(st.integers(0, 2**32 - 1), st.integers(0, 23))
@settings(max_examples=25)
def test_the_default_does_not_depend_on_coordinates(seed, reference):
    """CLR, ILR and ALR against any part give one composition."""
    rng = np.random.default_rng(seed)
    table = rng.lognormal(sigma=2.0, size=(20, 24)) * (rng.random((20, 24)) < 0.8)
    table[:, 0] += 0.1
    batch = rng.permutation(np.repeat(["a", "b"], 10))
    wanted = np.log(composed(table, batch))
    for how in ({"transform": "ilr"}, {"transform": "alr", "reference": reference}):
        assert_allclose(np.log(composed(table, batch, **how)), wanted, rtol=0, atol=1e-11)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_subcompositions_agree(seed):
    rng = np.random.default_rng(seed)
    some = rng.choice(24, size=rng.integers(2, 24), replace=False)
    part, whole = composed(POSITIVE[:, some]), composed(POSITIVE)
    assert_allclose(part, closure(whole[:, some]), rtol=1e-10)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_the_scale_of_rows_and_the_order_of_parts_and_rows_do_not_matter(seed):
    rng = np.random.default_rng(seed)
    wanted = composed()
    scale = rng.uniform(0.01, 100, size=(len(ARRAY), 1))
    assert_allclose(composed(ARRAY * scale), wanted, rtol=1e-9)
    parts, rows = rng.permutation(24), rng.permutation(len(ARRAY))
    assert_allclose(composed(ARRAY[:, parts]), wanted[:, parts], rtol=1e-9)
    assert_allclose(composed(ARRAY[rows], LABELS[rows]), wanted[rows], rtol=1e-9)


def test_a_bias_of_one_factor_a_taxon_is_taken_out_exactly():
    """The same samples measured twice, each time with its own efficiencies, come out the same."""
    truth = MADE.truth.to_numpy()[:30]
    twice = np.vstack([truth * np.exp(MADE.bias.to_numpy()[k]) for k in (0, 1)])
    corrected = composed(twice, np.repeat(["x", "y"], 30))
    assert_allclose(corrected[:30], corrected[30:], rtol=1e-10)


@quiet
@by_output
def test_a_subset_is_transformed_as_the_whole_is(output):
    model = CompositionalCorrector(ComBat(), output=output).fit(ARRAY, batch=LABELS)
    whole = model.transform(ARRAY, batch=LABELS)
    assert_allclose(model.transform(ARRAY[::7], batch=LABELS[::7]), whole[::7], rtol=1e-12)
    assert_allclose(model.fit_transform(ARRAY, batch=LABELS), whole, rtol=1e-12)


# ---- inner correctors


@by_corrector
@pytest.mark.parametrize("kind", ["clr", "alr", "ilr"])
def test_it_is_a_corrector_of_log_ratios(corrector, kind):
    found = CompositionalCorrector(corrector, transform=kind).fit_transform(ARRAY, batch=LABELS)
    ratios = LogRatio(kind).fit_transform(ARRAY)
    if corrector is None:
        wanted = BatchCorrector(scale=None).fit_transform(ratios, batch=LABELS)
    elif isinstance(corrector, ComBat):
        present = {"clr": PRESENT, "alr": PRESENT[:, :-1] & PRESENT[:, -1:]}
        seen = np.cumsum(PRESENT, axis=1)[:, :-1] > 0
        present["ilr"] = seen & PRESENT[:, 1:]  # balances of the first parts against the next one
        wanted = ComBat(scale_guard=0.2).fit_transform(ratios, batch=LABELS, scale_where=present[kind])
    elif corrector.get_params().get("scale") == "std":
        scaled = np.all([(present_ratios(PRESENT, kind, 23, None)[k == LABELS].mean(axis=0) >= 0.2)
                         for k in np.unique(LABELS)], axis=0)  # fmt: skip
        assert scaled.any()
        wanted = BatchCorrector(scale=None).fit_transform(ratios, batch=LABELS)
        wanted[:, scaled] = BatchCorrector().fit_transform(ratios[:, scaled], batch=LABELS)
    else:
        wanted = clone(corrector).fit_transform(ratios, batch=LABELS)
    assert_allclose(found, wanted, rtol=1e-9, atol=1e-9)


def nearly_absent():
    """A taxon that batch b1 hardly has: one sample of thirty."""
    table = np.random.default_rng(0).lognormal(3, 1, size=(60, 8)).round() + 1
    batch = np.repeat(["b1", "b2"], 30)
    table[1:30, 0] = 0
    return table, batch


@pytest.mark.parametrize("corrector", [ComBat(), BatchCorrector()], ids=str)
def test_a_part_that_a_batch_nearly_lacks_is_only_located(corrector):
    table, batch = nearly_absent()
    model = CompositionalCorrector(corrector).fit(table, batch=batch)
    scale = model.corrector_.affine_.scale
    assert_array_equal(scale[:, 0], 1.0)
    assert (scale[:, 1:] != 1.0).all()


@pytest.mark.parametrize("corrector", [ComBat(), BatchCorrector()], ids=str)
@pytest.mark.parametrize("way", ["adapt", "on the fly"])
def test_so_it_is_in_a_new_batch(corrector, way):
    table, batch = nearly_absent()
    rest = np.random.default_rng(1).lognormal(3, 1, size=(60, 8)).round() + 1
    known = np.repeat(["b3", "b4"], 30)
    model = CompositionalCorrector(corrector, handle_unknown="adapt").fit(rest, batch=known)
    adapted = model.adapt(table, batch=batch)
    assert_array_equal(model.corrector_.batches_, ["b3", "b4"])
    assert_array_equal(adapted.corrector_.batches_, ["b3", "b4", "b1", "b2"])
    scale = adapted.corrector_.affine_.scale[2:]
    assert scale[0, 0] == 1.0
    assert scale[1, 0] != 1.0
    assert (scale[:, 1:] != 1.0).all()
    if way == "on the fly":
        assert_allclose(model.transform(table, batch=batch), adapted.transform(table, batch=batch), rtol=1e-12)
        frame = pd.DataFrame(table, index=[f"s{i}" for i in range(60)], columns=list("abcdefgh"))
        model.fit(pd.DataFrame(rest, columns=frame.columns), batch=known)
        labels = pd.Series(batch, index=frame.index)[::-1]  # in another order, aligned by its index
        assert_allclose(model.transform(frame, batch=labels), adapted.transform(table, batch=batch), rtol=1e-12)


@pytest.mark.parametrize("kind", ["category", "object"])
@pytest.mark.parametrize("where", ["columns", "index", "arguments"])
def test_what_is_kept_follows_the_rows_of_a_new_batch(where, kind):
    labels = pd.DataFrame({"batch": BATCH, "g": GROUP.astype(kind)}, index=COUNTS.index)
    table = COUNTS if where == "arguments" else COUNTS.join(labels)
    keys = {} if where == "arguments" else {"batch_key": "batch", "keep_keys": ["g"]}
    if where == "index":
        table = table.set_index(["batch", "g"], append=True)
    known = (BATCH != "b2").to_numpy()

    def told(rows):
        return {"batch": labels["batch"][rows], "keep": labels[["g"]][rows]} if where == "arguments" else {}

    model = CompositionalCorrector(ComBat(), handle_unknown="adapt", **keys).fit(table[known], **told(known))
    both = model.transform(table, **told(known | True))
    adapted = model.adapt(table[~known], **told(~known))
    assert_allclose(both, adapted.transform(table, **told(known | True)), rtol=1e-12)
    plain = ComBat(scale_guard=0.2).fit(
        model.log_ratio_.transform(COUNTS[known]), batch=LABELS[known], keep=GROUP[known].to_numpy(),
        scale_where=PRESENT[known],
    )  # fmt: skip
    rest = {"batch": LABELS[~known], "keep": GROUP[~known].to_numpy()}
    ratios = model.log_ratio_.transform(COUNTS[~known])
    wanted = plain.adapt(ratios, scale_where=PRESENT[~known], **rest).transform(ratios, **rest)
    assert_allclose(both[~known], wanted, rtol=1e-10)


def test_the_guard_is_the_correctors_own_where_it_has_one():
    table, batch = nearly_absent()
    model = CompositionalCorrector(ComBat(scale_guard=0.01)).fit(table, batch=batch)
    assert model.corrector_.affine_.scale[0, 0] != 1.0
    assert CompositionalCorrector(ComBat(mean_only=True)).fit(table, batch=batch).corrector_.scale_guard is None


@quiet
def test_log_ratios_may_hold_gaps():
    found = CompositionalCorrector(transform="rclr").fit_transform(ARRAY, batch=LABELS)
    assert_array_equal(np.isnan(found), ~PRESENT)
    back = CompositionalCorrector(transform="rclr", output="composition").fit_transform(ARRAY, batch=LABELS)
    assert_array_equal(back > 0, PRESENT)
    assert_allclose(back.sum(axis=1), 1.0)


# ---- outputs


@quiet
@by_corrector
def test_abundances_keep_zeros_and_sums(corrector):
    for table in (ARRAY, closure(ARRAY), closure(ARRAY, total=100)):
        found = CompositionalCorrector(corrector, output="abundance").fit_transform(table, batch=LABELS)
        assert_array_equal(found > 0, PRESENT)
        assert_allclose(found.sum(axis=1), table.sum(axis=1), rtol=1e-12)


@quiet
def test_abundances_are_fitted_on_what_is_there():
    found = CompositionalCorrector(output="abundance").fit_transform(ARRAY, batch=LABELS)
    ratios = LogRatio("rclr")
    corrected = BatchCorrector(scale=None).fit_transform(ratios.fit_transform(ARRAY), batch=LABELS)
    assert_allclose(closure(found), ratios.inverse_transform(corrected), rtol=1e-12)


@by_corrector
def test_counts_are_whole_and_as_deep_as_before(corrector):
    found = CompositionalCorrector(corrector, output="counts").fit_transform(COUNTS, batch=BATCH)
    assert_array_equal(found, np.floor(found))
    assert_array_equal(found.sum(axis=1), COUNTS.sum(axis=1))
    share = CompositionalCorrector(corrector, output="composition").fit_transform(ARRAY, batch=LABELS)
    assert (abs(found - share * ARRAY.sum(axis=1, keepdims=True)) < 1).all(axis=None)


@pytest.mark.parametrize(
    ("table", "name"),
    [
        (ARRAY, "counts"),
        (closure(ARRAY), "proportions"),
        (closure(ARRAY)[:, :20], "proportions"),
        (closure(ARRAY, total=100), "percentages"),
        (ARRAY * 0.37, "amounts"),
        (np.eye(3), "proportions"),
    ],
)
def test_it_says_what_it_took_the_input_for(table, name):
    assert scale_of(table) == name
    if name != "amounts" and len(table) > 3:
        labels = LABELS[: len(table)]
        assert CompositionalCorrector().fit(table, batch=labels).scale_of_input_ == name


def test_it_says_what_it_took_parts_for():
    fits = {name: CompositionalCorrector(zeros=HalfMinimum(1e-6)) for name in ("one", "other")}
    fits["one"].partial_fit(ARRAY[:9], batch=LABELS[:9]).partial_fit(ARRAY[9:], batch=LABELS[9:])
    assert fits["one"].scale_of_input_ == "counts"
    fits["other"].partial_fit(closure(ARRAY), batch=LABELS)
    assert fits["other"].scale_of_input_ == "proportions"
    assert fits["one"].merge(fits["other"]).scale_of_input_ == "amounts"
    assert fits["one"].partial_fit(closure(ARRAY), batch=LABELS).scale_of_input_ == "amounts"


@quiet
@by_corrector
@pytest.mark.parametrize("output", ["log_ratio", "composition", "abundance"])
def test_there_and_back(corrector, output):
    model = CompositionalCorrector(corrector, output=output).fit(ARRAY, batch=LABELS)
    back = model.inverse_transform(model.transform(ARRAY, batch=LABELS), batch=LABELS)
    wanted = {"log_ratio": model.log_ratio_.zeros_.fill(ARRAY), "abundance": ARRAY}
    assert_allclose(back, wanted.get(output, wanted["log_ratio"]), rtol=1e-8)
    deep = model.inverse_transform(model.transform(ARRAY, batch=LABELS), batch=LABELS, total=ARRAY.sum(axis=1))
    assert_allclose(deep.sum(axis=1), ARRAY.sum(axis=1))


@by_output
@quiet
def test_single_precision_stays(output):
    found = CompositionalCorrector(output=output).fit_transform(ARRAY.astype(np.float32), batch=LABELS)
    assert found.dtype == (np.float64 if output == "counts" else np.float32)
    wanted = CompositionalCorrector(output=output).fit_transform(ARRAY, batch=LABELS)
    if output == "counts":  # a part whose remainder is nearly the largest may get its unit or not
        assert np.abs(found - wanted).max() <= 1
        assert (found != wanted).mean() < 0.01
    else:  # logarithms of up to 15 in size, rounded a few times by 6e-8 of that; as much, relatively, after exp
        assert_allclose(found, wanted, rtol=1e-5, atol=1e-5 if output == "log_ratio" else 0)


def test_sparse_tables_are_read():
    model = CompositionalCorrector(output="counts")
    found = model.fit_transform(csr_array(ARRAY), batch=LABELS)
    assert_array_equal(found, model.fit_transform(ARRAY, batch=LABELS))


# ---- labels, names and tables


def test_a_key_leaves_the_table_before_it_is_closed():
    wanted = CompositionalCorrector().fit_transform(COUNTS, batch=BATCH)
    model = CompositionalCorrector(batch_key="batch")
    found = model.fit_transform(COUNTS.assign(batch=BATCH))
    pd.testing.assert_frame_equal(found, wanted)
    level = COUNTS.set_index(BATCH, append=True)
    assert_array_equal(model.fit_transform(level), wanted)
    assert model.fit_transform(level).index.equals(level.index)
    back = model.inverse_transform(model.transform(level))
    assert_allclose(back, model.log_ratio_.zeros_.fill(ARRAY), rtol=1e-9)
    codes = pd.factorize(LABELS)[0]
    columns = np.column_stack([ARRAY[:, :5], codes, ARRAY[:, 5:]])
    assert_allclose(CompositionalCorrector(batch_key=5).fit_transform(columns), wanted)
    assert_allclose(CompositionalCorrector(BatchCorrector(scale=None, batch_key=5)).fit_transform(columns), wanted)


def test_labels_are_aligned_by_index():
    wanted = CompositionalCorrector(output="counts").fit_transform(COUNTS, batch=BATCH)
    found = CompositionalCorrector(output="counts").fit_transform(COUNTS, batch=BATCH.sample(frac=1, random_state=0))
    pd.testing.assert_frame_equal(found, wanted)
    with pytest.raises(AlignmentError):
        CompositionalCorrector().fit(COUNTS, batch=BATCH.rename(lambda s: f"other {s}"))


def test_what_is_kept_reaches_the_corrector():
    age = pd.Series(np.linspace(20.5, 80, len(COUNTS)), index=COUNTS.index, name="age")
    wanted = CompositionalCorrector(ComBat()).fit_transform(COUNTS, batch=BATCH, keep=pd.DataFrame({"g": GROUP}))
    keyed = CompositionalCorrector(ComBat(), batch_key="batch", keep_keys=["g"])
    assert_allclose(keyed.fit_transform(COUNTS.assign(batch=BATCH, g=GROUP)), wanted)
    assert [c.name for c in keyed.corrector_.statistics_.columns] == ["g"]
    assert "g" not in keyed.log_ratio_.feature_names_in_
    both = CompositionalCorrector(ComBat()).fit(COUNTS, batch=BATCH, keep=pd.concat([GROUP, age], axis=1))
    assert len(both.corrector_.coef_) == 3
    nuisance = CompositionalCorrector(LinearCorrector(nuisance_keys=["age"])).fit(COUNTS.assign(age=age), batch=BATCH)
    assert [c.role for c in nuisance.corrector_.statistics_.columns] == ["nuisance"]
    with pytest.raises(AmbiguousKeepError):
        CompositionalCorrector(keep_keys=[0]).fit(np.column_stack([np.arange(90) % 4, ARRAY]), batch=LABELS)


def test_the_target_is_kept_in_training_and_not_needed_later():
    corrector = BatchCorrector(scale=None, keep_y=True, keep_at_transform=False)
    model = CompositionalCorrector(corrector).fit(COUNTS, GROUP, batch=BATCH)
    wanted = corrector.fit(LogRatio().fit_transform(COUNTS), GROUP, batch=LABELS)
    assert_allclose(
        model.transform(COUNTS, batch=BATCH), wanted.transform(LogRatio().fit_transform(COUNTS), batch=LABELS)
    )


def test_names_and_containers():
    model = CompositionalCorrector(batch_key="batch").fit(COUNTS.assign(batch=BATCH))
    assert model.get_feature_names_out()[0] == "ln(taxon01 / g(all))"
    model.set_params(output="composition")
    found = model.fit(COUNTS.assign(batch=BATCH)).transform(COUNTS.assign(batch=BATCH))
    assert found.columns.tolist() == COUNTS.columns.tolist() == model.get_feature_names_out().tolist()
    assert found.index.equals(COUNTS.index)
    numbered = CompositionalCorrector(output="counts").fit_transform(COUNTS.set_axis(range(24), axis=1), batch=BATCH)
    assert numbered.columns.tolist() == list(range(24))
    array = CompositionalCorrector(transform="alr", reference=0).fit(ARRAY, batch=LABELS)
    assert isinstance(array.transform(ARRAY, batch=LABELS), np.ndarray)
    assert array.get_feature_names_out()[0] == "ln(x1 / x0)"
    alr = CompositionalCorrector(transform="alr", reference="taxon03").set_output(transform="pandas")
    out = alr.fit_transform(COUNTS, batch=BATCH)
    assert out.columns[0] == "ln(taxon01 / taxon03)"
    assert out.shape == (90, 23)
    assert_array_equal(out.index, COUNTS.index)


def test_polars_comes_back_as_polars():
    polars = pytest.importorskip("polars")
    table = polars.DataFrame({**{c: COUNTS[c].to_numpy() for c in COUNTS}, "batch": LABELS})
    found = CompositionalCorrector(batch_key="batch", output="counts").fit_transform(table)
    assert isinstance(found, polars.DataFrame)
    assert_array_equal(found.to_numpy(), CompositionalCorrector(output="counts").fit_transform(ARRAY, batch=LABELS))


# ---- new studies, pipelines, scikit-learn


def test_a_new_study_is_adapted_from_its_own_samples():
    known = BATCH != "b3"
    model = CompositionalCorrector(output="composition").fit(COUNTS[known], batch=BATCH[known])
    with pytest.raises(UnknownBatchError, match="'b3' was not seen"):
        model.transform(COUNTS[~known], batch=BATCH[~known])
    new = model.adapt(COUNTS[~known], batch="b3")
    logs = LogRatio().fit(COUNTS[known])
    found = logs.transform(new.transform(COUNTS[~known], batch="b3"))
    centre = logs.transform(model.transform(COUNTS[known], batch=BATCH[known])).mean(axis=0)
    assert_allclose(found.mean(axis=0), centre, atol=1e-9)
    with pytest.warns(AdaptationWarning, match="9 rows"):
        model.adapt(COUNTS[~known][:9], batch="b3")


@quiet
@pytest.mark.filterwarnings("ignore::batchfix.exceptions.AdaptationWarning")
@by_corrector
@by_output
def test_in_cross_validation_over_batches(corrector, output):
    if isinstance(corrector, LinearCorrector):
        corrector = LinearCorrector(handle_unknown="adapt")
    model = CompositionalCorrector(corrector, batch_key="batch", handle_unknown="adapt", output=output)
    pipeline = make_pipeline(model, StandardScaler(), LogisticRegression(C=0.01))
    table = COUNTS.assign(batch=BATCH)
    if output != "abundance":
        scores = cross_val_score(
            pipeline,
            table,
            GROUP == "case",
            groups=BATCH,
            cv=LeaveOneGroupOut(),
            scoring="roc_auc",
            error_score="raise",
        )
        assert np.mean(scores) > 0.5
    train = BATCH != "b2"
    fitted = model.fit(table[train])
    wanted = fitted.adapt(table[~train]).transform(table[~train])
    pd.testing.assert_frame_equal(fitted.transform(table[~train]), wanted)


def test_labels_are_routed_through_a_pipeline():
    with config_context(enable_metadata_routing=True):
        model = make_pipeline(CompositionalCorrector(ComBat()), StandardScaler())
        found = model.fit(COUNTS, batch=BATCH).transform(COUNTS, batch=BATCH)
    ratios = CompositionalCorrector(ComBat()).fit_transform(COUNTS, batch=BATCH)
    assert_allclose(found, StandardScaler().fit_transform(ratios))


def test_one_read_is_a_count_too():
    model = CompositionalCorrector(output="counts").fit(ARRAY, batch=LABELS)
    alone = np.eye(24)[:1]
    assert model.transform(alone, batch=["b1"]).sum() == 1


@quiet
def test_robust_measures_are_guarded_too():
    table, batch = nearly_absent()
    model = CompositionalCorrector(BatchCorrector(location="median", scale="mad")).fit(table, batch=batch)
    assert_array_equal(model.corrector_.affine_.scale[:, 0], 1.0)
    found = CompositionalCorrector(BatchCorrector(location="median", scale="mad"), output="abundance")
    assert_array_equal(found.fit_transform(table, batch=batch) > 0, table > 0)


def test_one_row_of_a_new_batch_teaches_nothing():
    for corrector in (None, ComBat()):
        model = CompositionalCorrector(corrector, handle_unknown="adapt").fit(ARRAY, batch=LABELS)
        with pytest.raises(TooFewSamplesError):
            model.transform(ARRAY[:1], batch="b9")


@quiet
@by_output
def test_rows_of_unknown_batches_as_asked(output):
    model = CompositionalCorrector(output=output, handle_unknown="nan").fit(ARRAY, batch=LABELS)
    labels = np.array(["b1", "b9", "b1"])
    found = model.transform(ARRAY[:3], batch=labels)
    assert_array_equal(np.isnan(found).all(axis=1), [False, True, False])
    assert_array_equal(model.transform(ARRAY[1:2], batch="b9"), np.full((1, 24), np.nan))
    audit = model.audit(ARRAY[:3], found)
    assert audit.cells == 2 * 24
    if output in ("counts", "abundance"):
        return
    pooled = CompositionalCorrector(output=output, handle_unknown="pooled").fit(ARRAY, batch=LABELS)
    wanted = pooled.log_ratio_.transform(ARRAY[:3])
    wanted = wanted if output == "log_ratio" else pooled.log_ratio_.inverse_transform(wanted)
    assert_allclose(pooled.transform(ARRAY[:3], batch="b9"), wanted, rtol=1e-9)


@pytest.mark.filterwarnings("ignore::batchfix.exceptions.BatchfixWarning")
@pytest.mark.parametrize(
    "model",
    [
        CompositionalCorrector(),
        CompositionalCorrector(ComBat(), output="composition"),
        CompositionalCorrector(transform="ilr"),
        CompositionalCorrector(output="abundance"),
    ],
    ids=str,
)
def test_it_conforms_to_scikit_learn(model):
    """But for the checks whose tables have rows of zeros: those are no compositions, and refused."""
    zeros = ("estimators_dtypes", "estimator_sparse_tag", "estimator_sparse_array", "estimator_sparse_matrix")
    refused = {f"check_{name}": "rows of zeros" for name in zeros}
    for result in check_estimator(model, expected_failed_checks=refused, on_fail=None, on_skip=None):
        error = result["exception"]
        if result["check_name"] in refused:
            assert error is None or "sum to 0" in f"{error} {error.__cause__}"
        else:
            assert result["status"] in ("passed", "skipped"), (result["check_name"], error)


def test_parameters_of_the_corrector_are_within_reach():
    model = CompositionalCorrector(ComBat(), transform="ilr")
    assert model.get_params()["corrector__parametric"] is True
    assert model.get_params()["transform"] == "ilr"
    assert "transform='ilr'" in repr(model)
    model.set_params(corrector__mean_only=True, transform="clr")
    assert clone(model).corrector.mean_only
    search = GridSearchCV(
        make_pipeline(CompositionalCorrector(ComBat(), batch_key="batch"), LogisticRegression(max_iter=5000)),
        {"compositionalcorrector__transform": ["clr", "ilr"], "compositionalcorrector__corrector__mean_only": [True]},
        cv=3,
        error_score="raise",
    )
    assert search.fit(COUNTS.assign(batch=BATCH), GROUP).best_score_ > 0.5


@pytest.mark.parametrize("corrector", [None, ComBat(), BatchCorrector()], ids=str)
def test_it_is_pickled_and_fitted_anew(corrector):
    model = CompositionalCorrector(corrector).fit(ARRAY, batch=LABELS)
    twin = pickle.loads(pickle.dumps(model))
    assert_array_equal(twin.transform(ARRAY, batch=LABELS), model.transform(ARRAY, batch=LABELS))
    before = model.transform(ARRAY, batch=LABELS)
    with pytest.raises(BatchfixError):
        model.fit(-ARRAY, batch=LABELS)
    assert_array_equal(model.transform(ARRAY, batch=LABELS), before)
    assert corrector is None or not hasattr(corrector, "statistics_")


# ---- second looks


@quiet
def test_an_audit_counts_what_was_done():
    zeros = int((~PRESENT).sum())
    for output, filled in (("log_ratio", zeros), ("composition", zeros), ("abundance", 0)):
        model = CompositionalCorrector(output=output, batch_key="batch")
        table = COUNTS.assign(batch=BATCH)
        found = model.audit(table, model.fit_transform(table))
        assert (found.cells, found.zeros, found.zeros_filled, found.positives_zeroed) == (90 * 24, zeros, filled, 0)
        assert found.closure_error < 1e-12
        assert found.depth_restored == (output == "abundance")
        assert 0 < found.moved < found.moved_most < 1
    model = CompositionalCorrector(output="counts")
    corrected = model.fit_transform(COUNTS, batch=BATCH)
    found = model.audit(COUNTS, corrected)
    assert found.positives_zeroed == ((corrected == 0) & (COUNTS > 0)).to_numpy().sum()
    assert found.depth_restored
    shares = abs(closure(corrected) - closure(ARRAY)).sum(axis=1) / 2
    assert found.moved == pytest.approx(shares.mean())
    assert "depth given back" in str(found)


def test_an_audit_of_any_correction():
    found = audit_compositions(np.array([[0, 5, 5]]), np.array([[0.5, 0.0, 1.5]]), total=1.0)
    assert (found.zeros_filled, found.positives_zeroed, found.depth_restored) == (1, 1, False)
    assert found.moved == pytest.approx(0.5)
    assert found.closure_error == pytest.approx(1.0)
    assert found.depth_error == pytest.approx(0.8)
    with pytest.raises(AlignmentError, match="same rows and parts"):
        audit_compositions(ARRAY, ARRAY[:, 1:])


def thinned():
    """The same samples twice: once at full depth, once a tenth of the reads."""
    counts = make_microbes(60, 80, 2, batch_bias=0, missed=0, depth_shift=0, depth=20_000, random_state=0).counts
    tenth = np.random.default_rng(0).binomial(counts, 0.1)
    return np.vstack([counts, tenth]).astype(float), np.repeat(["deep", "shallow"], 60)


def test_a_pseudocount_that_makes_a_batch_effect_of_depth_is_found_out():
    table, batch = thinned()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = CompositionalCorrector(zeros="pseudocount").fit(table, batch=batch)
    assert any("a batch effect that it makes" in str(w.message) for w in caught)
    with pytest.warns(PseudocountWarning):
        found = model.check_depth(table, batch=batch)
    assert found.manufactured > 0.01
    assert found.batch_share > 2 * found.batch_share_fixed
    assert found.between_batches > 0.8
    assert found.correlation > 0.1
    assert found.by_batch["deep"] == pytest.approx(10 * found.by_batch["shallow"], rel=0.05)


@quiet
@pytest.mark.parametrize("zeros", ["multiplicative", HalfMinimum(1e-6)], ids=str)
def test_a_fixed_proportion_does_not(zeros):
    table, batch = thinned()
    model = CompositionalCorrector(zeros=zeros).fit(table, batch=batch)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = model.check_depth(table, batch=batch)
    assert found.manufactured < 0.01
    with pytest.warns(PseudocountWarning):
        counted = CompositionalCorrector(zeros="pseudocount").fit(table, batch=batch)
    with pytest.warns(PseudocountWarning):
        assert found.batch_share < 0.5 * counted.check_depth(table, batch=batch).batch_share
    with pytest.raises(BatchfixError, match="proportions"):
        model.check_depth(closure(table), batch=batch)


# ---- wrong input


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: composed(-ARRAY), ("Negative", "number", "row")),
        (lambda: composed(np.vstack([ARRAY[1:], np.zeros(24)])), ("sum to 0", "89", "leave these samples out")),
        (lambda: composed(np.where(ARRAY == 7, np.nan, ARRAY)), ("NaN", "row", "Put 0")),
        (lambda: composed(np.where(ARRAY == 7, np.inf, ARRAY)), ("inf",)),
        (lambda: composed(ARRAY.astype(str)), ("numbers", "astype(float)")),
        (lambda: composed(COUNTS.astype(str)), ("text", "taxon01")),
        (lambda: composed(ARRAY[:, :1]), ("two parts", "1 feature")),
        (lambda: composed(COUNTS.assign(batch=BATCH)), ("'batch'",)),
        (lambda: CompositionalCorrector(batch_key="plate").fit(COUNTS), ("'plate'",)),
        (lambda: CompositionalCorrector(batch_key="b").fit(COUNTS.assign(b=BATCH), batch=BATCH), ("both", "'b'")),
        (lambda: CompositionalCorrector(transform="log").fit(ARRAY), ("transform", "log")),
        (lambda: CompositionalCorrector(output="table").fit(ARRAY), ("output", "table")),
        (lambda: CompositionalCorrector(StandardScaler()).fit(ARRAY), ("corrector", "StandardScaler")),
        (lambda: CompositionalCorrector(ComBat).fit(ARRAY), ("corrector", "ComBat")),
        (lambda: CompositionalCorrector(transform="alr", output="abundance").fit(ARRAY), ("abundance", "'alr'")),
        (lambda: CompositionalCorrector(zeros="pseudocount", output="abundance").fit(ARRAY), ("keeps zeros", "pseudo")),
        (lambda: CompositionalCorrector(output="counts").fit(closure(ARRAY)), ("counts", "proportions")),
        (lambda: CompositionalCorrector(transform="alr", reference="taxon99").fit(COUNTS), ("reference", "'taxon99'")),
        (lambda: fitted(COUNTS).transform(COUNTS[COUNTS.columns[::-1]], batch=BATCH), ("feature names",)),
        (lambda: fitted(COUNTS).transform(COUNTS.iloc[:, 1:], batch=BATCH), ("taxon01",)),
        (lambda: fitted(ARRAY).transform(ARRAY[:, 1:], batch=LABELS), ("23 features",)),
        (lambda: fitted(ARRAY, "counts").transform(closure(ARRAY), batch=LABELS), ("counts", "proportions")),
        (lambda: fitted(ARRAY, "counts").inverse_transform(ARRAY, batch=LABELS), ("rounds",)),
        (lambda: fitted(ARRAY).inverse_transform(ARRAY[:, 1:], batch=LABELS), ("24 columns", "(90, 23)")),
        (lambda: fitted(ARRAY).audit(ARRAY, ARRAY.astype(str)), ("numbers",)),
    ],
)
def test_wrong_use_says_what_must_hold_and_what_came(make, words):
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # ours, and scikit-learn's own
        make()
    for word in words:
        assert word in str(caught.value)


def fitted(table, output="log_ratio"):
    return CompositionalCorrector(output=output).fit(table, batch=LABELS)


def test_labels_are_needed_where_fit_had_them():
    with pytest.raises(MissingLabelError):
        fitted(ARRAY).transform(ARRAY)
    with pytest.warns(NothingToCorrectWarning):
        CompositionalCorrector().fit(ARRAY)


@by_output
def test_a_part_that_is_nowhere_is_named_and_not_lost(output):
    table = np.column_stack([ARRAY, np.zeros(len(ARRAY))])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = CompositionalCorrector(output=output).fit(table, batch=LABELS)
    assert any("0 in all rows" in str(w.message) and w.category is MissingFeatureWarning for w in caught)
    found = model.transform(table, batch=LABELS)
    assert found.shape == (90, 25)
    table[0, -1] = 50
    later = model.transform(table, batch=LABELS)
    assert later[0, -1] > (found[0, -1] if output == "log_ratio" else 0)


def test_one_sample_is_enough_once_fitted():
    model = fitted(ARRAY)
    assert_allclose(model.transform(ARRAY[:1], batch=LABELS[:1]), model.transform(ARRAY, batch=LABELS)[:1])


# ---- parts and sites

FIXED = HalfMinimum(1e-4)


@pytest.mark.parametrize(
    ("corrector", "how"),
    [
        (None, {"zeros": FIXED}),
        (None, {"zeros": "multiplicative", "transform": "ilr"}),
        (ComBat(), {"zeros": FIXED}),
        (BatchCorrector(), {"zeros": FIXED, "transform": "alr"}),
        (None, {"output": "abundance"}),
        (LinearCorrector(), {"zeros": FIXED, "output": "counts"}),
    ],
    ids=str,
)
@quiet
def test_parts_and_sites_add_up_to_the_whole(corrector, how):
    whole = CompositionalCorrector(corrector, **how).fit(COUNTS, batch=BATCH)
    parts = CompositionalCorrector(corrector, **how)
    for rows in np.array_split(np.random.default_rng(0).permutation(90), 4):
        parts.partial_fit(COUNTS.iloc[rows], batch=BATCH)
    odd = np.arange(90) % 2 == 1
    sites = [CompositionalCorrector(corrector, **how).fit(COUNTS[half], batch=BATCH) for half in (odd, ~odd)]
    wanted = whole.transform(COUNTS, batch=BATCH)
    merged = sites[0].merge(sites[1])
    for found in (parts, merged):
        assert_allclose(found.transform(COUNTS, batch=BATCH), wanted, rtol=1e-10, atol=1e-12)


def test_what_depends_on_all_rows_does_not_add_up():
    for model in (CompositionalCorrector(), CompositionalCorrector(ComBat(), output="abundance")):
        assert not hasattr(model, "partial_fit")
    with pytest.raises(UnmergeableError, match="HalfMinimum"):
        CompositionalCorrector().partial_fit(COUNTS, batch=BATCH)
    one, two = (CompositionalCorrector(zeros=HalfMinimum(x)).fit(COUNTS, batch=BATCH) for x in (1e-4, 1e-5))
    with pytest.raises(MergeError, match="alike"):
        one.merge(two)
    with pytest.raises(MergeError, match="output"):
        one.merge(CompositionalCorrector(zeros=FIXED, output="counts").fit(COUNTS, batch=BATCH))
    with pytest.raises(MergeError, match="features"):
        one.merge(CompositionalCorrector(zeros=FIXED).fit(COUNTS.iloc[:, :-1], batch=BATCH))


def test_a_part_that_does_not_fit_leaves_what_was_known():
    model = CompositionalCorrector(zeros=FIXED).partial_fit(COUNTS[:50], batch=BATCH)
    before = model.transform(COUNTS[:50], batch=BATCH)
    with pytest.raises(BatchfixError):
        model.partial_fit(-COUNTS[50:], batch=BATCH)
    with pytest.raises(AlignmentError):
        model.partial_fit(COUNTS[50:], batch=["a"])
    assert_array_equal(model.transform(COUNTS[:50], batch=BATCH), before)


# ---- nothing by position that has a name

POLARS = pl.DataFrame({name: COUNTS[name].to_numpy() for name in COUNTS})
NUMBERED = COUNTS.set_axis(range(24), axis=1)


def sites(table, other):
    model = CompositionalCorrector(zeros=FIXED)
    return clone(model).fit(table, batch=LABELS), clone(model).fit(other, batch=LABELS)


@pytest.mark.parametrize(
    ("table", "other"),
    [
        (POLARS, POLARS.select(POLARS.columns[::-1])),
        (POLARS, POLARS.rename({name: "z" + name for name in POLARS.columns})),
        (NUMBERED, NUMBERED.iloc[:, ::-1]),
        (COUNTS, ARRAY),
    ],
    ids=["polars reversed", "polars renamed", "numbers reversed", "an array"],
)
def test_sites_with_other_taxa_do_not_merge(table, other):
    one, two = sites(table, other)
    with pytest.raises(MergeError, match="same features"):
        one.merge(two)


def test_sites_with_the_same_taxa_merge_whatever_holds_them():
    one, two = sites(COUNTS, POLARS)
    assert_allclose(
        one.merge(two).transform(COUNTS, batch=BATCH), one.transform(COUNTS, batch=BATCH), rtol=1e-10, atol=1e-12
    )


def test_containers_may_change_without_a_word():
    for first in (COUNTS, POLARS):
        model = CompositionalCorrector().fit(first, batch=LABELS)
        wanted = np.asarray(model.transform(COUNTS, batch=LABELS))
        assert_array_equal(np.asarray(model.transform(POLARS, batch=LABELS)), wanted)


def test_a_column_named_in_place_of_its_labels_is_refused():
    with pytest.raises(BatchfixError, match="batch_key='study'"):
        CompositionalCorrector().fit(COUNTS.assign(study=1), batch="study")
    with pytest.raises(BatchfixError, match="keep_keys"):
        CompositionalCorrector(ComBat()).fit(COUNTS.assign(age=1.0), batch=BATCH, keep=["age"])


@quiet
@pytest.mark.parametrize("output", ["log_ratio", "composition", "abundance"])
def test_corrected_tables_in_another_order_are_refused(output):
    model = CompositionalCorrector(output=output).fit(COUNTS, batch=BATCH)
    out = model.transform(COUNTS, batch=BATCH)
    backwards = out[out.columns[::-1]]
    with pytest.raises(BatchfixError, match="another order"):
        model.inverse_transform(backwards, batch=BATCH)
    with pytest.raises(BatchfixError, match="another order"):
        model.audit(COUNTS, backwards)
    shuffled = out.sample(frac=1, random_state=0)
    assert model.audit(COUNTS, shuffled) == model.audit(COUNTS, out)
    with pytest.raises(AlignmentError):
        model.audit(COUNTS, out.iloc[1:])


def test_totals_are_aligned():
    model = CompositionalCorrector(output="composition").fit(COUNTS, batch=BATCH)
    out, depth = model.transform(COUNTS, batch=BATCH), COUNTS.sum(axis=1)
    back = model.inverse_transform(out, batch=BATCH, total=depth.sample(frac=1, random_state=0))
    assert_allclose(back.sum(axis=1), depth, rtol=1e-12)


# ---- what goes in comes out


@pytest.mark.parametrize("size", [1, 1e4, 1e8])
def test_counts_in_single_precision_are_as_deep_as_before(size):
    table = (ARRAY * size).astype(np.float32)
    out = CompositionalCorrector(output="counts").fit_transform(table, batch=LABELS)
    assert_array_equal(out.sum(axis=1), table.astype(float).sum(axis=1))
    assert_array_equal(out, np.rint(out))


@quiet
@pytest.mark.parametrize("zeros", ["pseudocount", "multiplicative", FIXED], ids=str)
@pytest.mark.parametrize("kind", ["clr", "ilr", "alr"])
@pytest.mark.filterwarnings("ignore::batchfix.exceptions.PseudocountWarning")
def test_compositions_go_back_whatever_stood_for_zeros(zeros, kind):
    model = CompositionalCorrector(transform=kind, zeros=zeros, output="composition").fit(COUNTS, batch=BATCH)
    back = model.inverse_transform(model.transform(COUNTS, batch=BATCH), batch=BATCH)
    assert_allclose(back, model.log_ratio_.zeros_.fill(ARRAY), rtol=1e-11)


@quiet
@pytest.mark.parametrize("output", ["log_ratio", "composition", "abundance"])
def test_rows_of_unknown_batches_stay_unknown_on_the_way_back(output):
    known = LABELS != "b3"
    model = CompositionalCorrector(output=output, handle_unknown="nan").fit(ARRAY[known], batch=LABELS[known])
    back = model.inverse_transform(model.transform(ARRAY, batch=LABELS), batch=LABELS)
    assert np.isnan(back[~known]).all()
    assert np.isfinite(back[known]).all()


def test_tables_come_back_from_the_inverse_too():
    model = CompositionalCorrector().set_output(transform="pandas").fit(COUNTS, batch=BATCH)
    back = model.inverse_transform(model.transform(COUNTS, batch=BATCH), batch=BATCH)
    assert back.columns.tolist() == COUNTS.columns.tolist()
    assert back.index.tolist() == COUNTS.index.tolist()


def test_numbers_for_names_stay_names():
    model = CompositionalCorrector(transform="alr", reference=3).fit(NUMBERED + 1, batch=BATCH)
    assert model.transform(NUMBERED + 1, batch=BATCH).columns[0] == "ln(0 / 3)"
    taxids = COUNTS.set_axis([816 + 7 * j for j in range(24)], axis=1)
    model = CompositionalCorrector(transform="alr", reference=823).fit(taxids, batch=BATCH)
    assert model.transform(taxids, batch=BATCH).columns[0] == "ln(816 / 823)"
    with pytest.raises(BatchfixError, match="816"):
        CompositionalCorrector(transform="alr", reference=5).fit(taxids, batch=BATCH)


@pytest.mark.parametrize("base", [CompositionalCorrector, LogRatio])
def test_it_can_be_derived_from(base):
    class Twice(base):
        def transform(self, X, **labels):
            return 2 * super().transform(X, **labels)

    labels = {"batch": BATCH} if base is CompositionalCorrector else {}
    found = Twice(transform="ilr").fit(COUNTS, **labels).transform(COUNTS, **labels)
    wanted = base(transform="ilr").fit(COUNTS, **labels).transform(COUNTS, **labels)
    assert_array_equal(found, 2 * wanted)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: known().set_params(output="abundance").transform(COUNTS, batch=BATCH), ("Fit again",)),
        (lambda: known().set_params(transform="ilr").transform(COUNTS, batch=BATCH), ("Fit again",)),
        (lambda: known().check_depth(COUNTS), ("batch labels", "batch=None")),
        (lambda: known().transform(COUNTS), ("CompositionalCorrector", "batch=None")),
        (lambda: CompositionalCorrector(zeros=FIXED, output="abundance").fit(COUNTS, batch=BATCH), ("keeps zeros",)),
        (lambda: CompositionalCorrector(zeros=HalfMinimum).fit(COUNTS, batch=BATCH), ("policy such as",)),
        (lambda: HalfMinimum("a"), ("delta", "'a'")),
        (lambda: CompositionalCorrector().fit(np.ma.masked_greater(ARRAY, 30), batch=BATCH), ("NaN",)),
        (lambda: CompositionalCorrector().fit(COUNTS.astype(str), batch=BATCH), ("must be numbers",)),
    ],
)
def test_what_is_half_meant_is_refused(make, words):
    with pytest.raises(BatchfixError) as caught:
        make()
    for word in words:
        assert word in str(caught.value)


def known():
    return CompositionalCorrector().fit(COUNTS, batch=BATCH)


@pytest.mark.filterwarnings("ignore::batchfix.exceptions.PseudocountWarning")
def test_a_pseudocount_is_for_counts():
    with pytest.raises(BatchfixError, match="percentages"):
        CompositionalCorrector(zeros="pseudocount").fit(100 * closure(ARRAY), batch=BATCH)


def test_a_column_of_totals_is_named():
    with pytest.warns(DataScaleWarning, match="'depth' is the sum"):
        CompositionalCorrector().fit(COUNTS.assign(depth=COUNTS.sum(axis=1)), batch=BATCH)


def test_an_output_switched_to_a_like_one_is_obeyed():
    model = known().set_params(output="counts")
    assert_array_equal(model.transform(COUNTS, batch=BATCH).sum(axis=1), COUNTS.sum(axis=1))


def test_a_corrector_that_keeps_nothing_is_told_where_it_goes():
    counts = np.random.default_rng(0).integers(1, 50, (8, 4))
    with pytest.raises(BatchfixError, match=r"told what to keep.*make_pipeline\(LogRatio\(\)"):
        CompositionalCorrector(RenormCorrector()).fit(counts, batch=["a", "b"] * 4)
