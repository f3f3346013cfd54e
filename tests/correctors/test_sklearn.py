"""Correctors as scikit-learn sees them: its own checks, and everything that wraps a transformer."""

import io
import os
import pickle
import subprocess
import sys
import warnings
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import BaseEstimator, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import StackingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.feature_selection import SelectKBest
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    LeaveOneGroupOut,
    StratifiedKFold,
    cross_val_predict,
    cross_val_score,
    cross_validate,
)
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from batchfix import BatchCorrector, ComBat, LinearCorrector
from batchfix.exceptions import BatchfixError, CopyWarning

CONFIGURATIONS = [
    ComBat(),
    ComBat(parametric=False),
    ComBat(mean_only=True, handle_unknown="pooled"),
    ComBat(scale_guard=0.2, keep_at_transform=False),
    BatchCorrector(),
    BatchCorrector(target="standard"),
    BatchCorrector(location="median", scale="mad"),
    BatchCorrector(location=None),
    BatchCorrector(scale=None, handle_unknown="nan"),
    BatchCorrector(shrinkage="eb"),
    LinearCorrector(),
    LinearCorrector(handle_unknown="adapt"),
]
THREE = [ComBat(), BatchCorrector(), LinearCorrector()]
NAMES = ["ComBat", "BatchCorrector", "LinearCorrector"]
each = pytest.mark.parametrize("corrector", THREE, ids=NAMES)
FORMS = ("column", "index level", "position")
in_each_form = pytest.mark.parametrize("form", FORMS)
PAIRS = [(form, ComBat()) for form in FORMS] + [("column", BatchCorrector()), ("position", LinearCorrector())]
in_pairs = pytest.mark.parametrize(("form", "corrector"), PAIRS, ids=str)
N, P = 90, 10


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


def lab(seed: int = 0, n: int = N) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """X (n, P), two classes, batch labels, a kept number."""
    rng = np.random.default_rng(seed)
    batch = np.array(["r1", "r2", "r3"])[np.arange(n) % 3]
    y = rng.integers(0, 2, n)
    age = rng.normal(50.0, 10.0, n)
    X = rng.normal(size=(n, P)) + 4.0 * (batch == "r2")[:, None] * rng.normal(size=P) + 0.02 * age[:, None]
    X[:, :3] += 1.5 * y[:, None]
    return X, y, batch, age


def frame(X: np.ndarray, **columns: np.ndarray) -> pd.DataFrame:
    ids = pd.Index([f"s{i}" for i in range(len(X))], name="sample")
    return pd.DataFrame(X, columns=[f"f{j}" for j in range(X.shape[1])], index=ids).assign(**columns)


def keyed(form: str, corrector: BaseEstimator) -> tuple[BaseEstimator, Any, np.ndarray]:
    """Corrector and table that say by a key which batch a row is in."""
    X, y, batch, _ = lab()
    if form == "column":
        return clone(corrector).set_params(batch_key="run"), frame(X, run=batch), y
    if form == "index level":
        table = frame(X, run=batch).set_index("run", append=True)
        return clone(corrector).set_params(batch_key="run"), table, y
    codes = np.unique(batch, return_inverse=True)[1]
    return clone(corrector).set_params(batch_key=P), np.column_stack([X, codes]), y


def model(corrector: BaseEstimator) -> Pipeline:
    return make_pipeline(corrector, StandardScaler(), LogisticRegression())


# ---- scikit-learn's own checks


def failures(estimator: BaseEstimator, allowed_skips: tuple[str, ...]) -> list[tuple[str, Any]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(estimator, on_fail=None, on_skip=None)
    assert len(results) > 40
    return [
        (r["check_name"], r["exception"])
        for r in results
        if r["status"] != "passed" and not (r["status"] == "skipped" and r["check_name"] in allowed_skips)
    ]


@pytest.mark.parametrize("estimator", CONFIGURATIONS, ids=str)
@pytest.mark.parametrize("with_routing", [False, True])
def test_every_estimator_check_passes(estimator, with_routing):
    with sklearn.config_context(enable_metadata_routing=with_routing):
        skips = () if os.environ.get("SCIPY_ARRAY_API") else ("check_array_api_input",)
        assert failures(estimator, skips) == []


PROGRAM = """
import warnings
import sklearn
from sklearn.utils.estimator_checks import check_estimator
from batchfix import BatchCorrector, ComBat, LinearCorrector
warnings.simplefilter("ignore")
for routing in (False, True):
    for estimator in (ComBat(), BatchCorrector(), BatchCorrector(location="median", scale="mad"), LinearCorrector()):
        with sklearn.config_context(enable_metadata_routing=routing):
            for result in check_estimator(estimator, on_fail=None):
                if result["status"] != "passed":
                    print(estimator, routing, result["check_name"], result["status"], result["exception"])
"""


def test_every_check_passes_where_scipy_speaks_the_array_api():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | {"SCIPY_ARRAY_API": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert done.stdout == ""


# ---- routed


@pytest.mark.parametrize("as_frame", [False, True])
@pytest.mark.usefixtures("routing")
@each
def test_a_pipeline_routes_batch_both_ways(corrector, as_frame):
    X, _, batch, age = lab()
    table = frame(X) if as_frame else X
    keep = {"age": age}
    direct = clone(corrector).fit(table, batch=batch, keep=keep)
    pipe = make_pipeline(clone(corrector), StandardScaler())
    out = pipe.fit_transform(table, batch=batch, keep=keep)
    corrected = np.asarray(direct.transform(table, batch=batch, keep=keep))
    assert_allclose(out, StandardScaler().fit_transform(corrected), atol=1e-12)
    assert_allclose(pipe.transform(table, batch=batch, keep=keep), out, atol=1e-12)
    back = pipe.inverse_transform(out, batch=batch, keep=keep)
    assert_allclose(back, X, atol=1e-10)


@pytest.mark.parametrize("as_frame", [False, True])
@pytest.mark.usefixtures("routing")
@each
def test_a_column_transformer_routes_batch(corrector, as_frame):
    X, _, batch, _ = lab()
    table: Any = frame(X) if as_frame else X
    columns = [f"f{j}" for j in range(4)] if as_frame else list(range(4))
    union = ColumnTransformer([("some", clone(corrector), columns)], remainder="passthrough")
    out = union.fit_transform(table, batch=batch)
    assert_allclose(out[:, :4], clone(corrector).fit_transform(X[:, :4], batch=batch), atol=1e-12)
    assert_array_equal(out[:, 4:], X[:, 4:])
    assert_allclose(union.transform(table, batch=batch), out)


@pytest.mark.usefixtures("routing")
@each
def test_a_feature_union_routes_batch(corrector):
    X, _, batch, _ = lab()
    union = FeatureUnion([("one", clone(corrector)), ("two", BatchCorrector(scale=None))])
    out = union.fit_transform(X, batch=batch)
    assert_allclose(out[:, :P], clone(corrector).fit_transform(X, batch=batch))
    assert_allclose(union.transform(X, batch=batch), out)


@pytest.mark.parametrize("as_frame", [False, True])
@pytest.mark.usefixtures("routing")
@each
def test_cross_validate_routes_batch(corrector, as_frame):
    X, y, batch, _ = lab()
    table = frame(X) if as_frame else X
    labels = pd.Series(batch, index=table.index) if as_frame else batch
    cv = StratifiedKFold(3, shuffle=True, random_state=0)
    got = cross_validate(model(clone(corrector)), table, y, params={"batch": labels}, cv=cv, error_score="raise")
    want = []
    for train, test in cv.split(X, y):
        fitted = model(clone(corrector)).fit(X[train], y[train], batch=batch[train])
        out = fitted[:-1].transform(X[test], batch=batch[test])
        want.append((fitted[-1].predict(out) == y[test]).mean())
    assert_allclose(got["test_score"], want)
    assert np.mean(want) > 0.7


@pytest.mark.parametrize("as_frame", [False, True])
@pytest.mark.usefixtures("routing")
def test_a_grid_search_fits_with_routed_batch(as_frame):
    X, y, batch, _ = lab()
    table = frame(X) if as_frame else X
    grid = {"combat__mean_only": [False, True], "combat__parametric": [True, False]}
    pipe = Pipeline([("combat", ComBat()), ("model", LogisticRegression())])
    search = GridSearchCV(pipe, grid, cv=3, error_score="raise").fit(table, y, batch=batch)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_score_ > 0.7
    assert search.best_estimator_["combat"].batches_.tolist() == ["r1", "r2", "r3"]


@pytest.mark.usefixtures("routing")
@each
def test_nobody_needs_to_request_anything(corrector):
    requests = corrector.get_metadata_routing()
    for method in ("fit", "transform", "inverse_transform", "partial_fit"):
        asked = {k for k, v in getattr(requests, method).requests.items() if v is True}
        extra = {"nuisance"} if isinstance(corrector, LinearCorrector) else set()
        assert asked == {"batch", "keep"} | extra


@pytest.mark.usefixtures("routing")
def test_nuisance_is_routed_too():
    X, _, batch, age = lab()
    pipe = make_pipeline(LinearCorrector(), StandardScaler())
    out = pipe.fit_transform(X, batch=batch, nuisance={"age": age})
    alone = LinearCorrector().fit_transform(X, batch=batch, nuisance={"age": age})
    assert_allclose(out, StandardScaler().fit_transform(alone))
    assert_allclose(pipe.inverse_transform(out, batch=batch, nuisance={"age": age}), X, atol=1e-10)


@pytest.mark.usefixtures("routing")
def test_presence_is_routed_to_fit_where_it_is_asked_for():
    X, _, batch, _ = lab()
    combat = ComBat(scale_guard=0.3).set_fit_request(scale_where=True)
    where = np.random.default_rng(0).random(X.shape) < np.linspace(0.1, 0.9, P)
    pipe = make_pipeline(combat, StandardScaler()).fit(X, batch=batch, scale_where=where)
    direct = ComBat(scale_guard=0.3).fit(X, batch=batch, scale_where=where)
    assert_array_equal(pipe[0].affine_.scale, direct.affine_.scale)
    assert (direct.affine_.scale == 1).all(axis=0).any()


# ---- containers


@pytest.mark.parametrize("container", ["pandas", "polars"])
@pytest.mark.parametrize("source", ["array", "pandas", "polars"])
@pytest.mark.usefixtures("routing")
@each
def test_output_containers_with_routed_batch(corrector, container, source):
    X, _, batch, _ = lab()
    names = [f"f{j}" for j in range(P)]
    table: Any = {"array": X, "pandas": frame(X), "polars": pl.DataFrame(X, schema=names)}[source]
    want = clone(corrector).fit_transform(X, batch=batch)
    pipe = make_pipeline(clone(corrector), StandardScaler()).set_output(transform=container)
    out = pipe.fit_transform(table, batch=batch)
    assert isinstance(out, pd.DataFrame if container == "pandas" else pl.DataFrame)
    alone = clone(corrector).set_output(transform=container)
    out = alone.fit_transform(table, batch=batch)
    again = alone.transform(table, batch=batch)
    for got in (out, again):
        assert isinstance(got, pd.DataFrame if container == "pandas" else pl.DataFrame)
        assert list(got.columns) == (names if source != "array" else [f"x{j}" for j in range(P)])
        assert_allclose(got.to_numpy(), want, atol=1e-12)
        if source == container == "pandas":
            assert got.index.equals(table.index)


@pytest.mark.parametrize("container", ["default", "pandas", "polars"])
@pytest.mark.parametrize("kind", ["pandas", "polars"])
@each
def test_a_key_column_leaves_the_table(corrector, container, kind):
    X, _, batch, age = lab()
    table: Any = frame(X, run=batch, age=age)
    if kind == "polars":
        table = pl.DataFrame({c: table[c].to_numpy() for c in table.columns})
    keyed_ = clone(corrector).set_params(batch_key="run", keep_keys=["age"]).set_output(transform=container)
    out = keyed_.fit_transform(table)
    expected = {"default": type(table), "pandas": pd.DataFrame, "polars": pl.DataFrame}[container]
    assert isinstance(out, expected)
    assert list(out.columns) == [f"f{j}" for j in range(P)] == keyed_.get_feature_names_out().tolist()
    want = clone(corrector).fit_transform(X, batch=batch, keep={"age": age})
    assert_allclose(out.to_numpy(), want, atol=1e-12)
    assert keyed_.n_features_in_ == P + 2
    assert keyed_.feature_names_in_.tolist() == [*out.columns, "run", "age"]


@each
def test_a_dataframe_comes_back_with_its_index_and_dtype(corrector):
    X, _, batch, _ = lab()
    for dtype in (np.float32, np.float64):
        table = frame(X.astype(dtype))
        out = clone(corrector).fit(table, batch=batch).transform(table, batch=batch)
        assert (out.dtypes == dtype).all()
        assert out.index.equals(table.index)
        assert out.index.name == "sample"
        back = clone(corrector).fit(table, batch=batch).inverse_transform(out, batch=batch)
        assert isinstance(back, pd.DataFrame)
        assert_allclose(back, table, atol=1e-4)


@each
def test_names_of_features_are_checked(corrector):
    X, _, batch, _ = lab()
    fitted = clone(corrector).fit(frame(X), batch=batch)
    with pytest.raises(ValueError, match=r"feature names should match|features of X"):
        fitted.transform(frame(X).iloc[:, ::-1], batch=batch)
    with pytest.raises(ValueError, match=r"feature names should match|lacks \['f0'\]"):
        fitted.transform(frame(X).iloc[:, 1:], batch=batch)
    keyed_ = clone(corrector).set_params(batch_key="run").fit(frame(X, run=batch))
    with pytest.raises(BatchfixError, match="order"):
        keyed_.transform(frame(X[:, ::-1], run=batch).rename(columns={f"f{j}": f"f{P - 1 - j}" for j in range(P)}))
    with pytest.raises(BatchfixError, match=r"lacks \['f3'\]"):
        keyed_.transform(frame(X, run=batch).drop(columns="f3"))
    with pytest.raises(BatchfixError, match="'run' must name a column or an index level"):
        keyed_.transform(frame(X))
    with pytest.raises(BatchfixError, match="both"):
        keyed_.transform(frame(X, run=batch), batch=batch)
    # wherever the key stands
    moved = frame(X, run=batch)[["run", *(f"f{j}" for j in range(P))]]
    assert_array_equal(keyed_.transform(moved), keyed_.transform(frame(X, run=batch)))


def test_a_key_that_names_a_column_and_an_index_level_is_refused():
    X, _, batch, _ = lab()
    table = frame(X, run=batch)
    table.index = pd.Index(batch, name="run")
    with pytest.raises(BatchfixError, match="column or an index level, got both"):
        ComBat(batch_key="run").fit(table)
    with pytest.raises(BatchfixError, match="must be a column name, got the position 0"):
        ComBat(batch_key=0).fit(frame(X, run=batch))
    with pytest.raises(BatchfixError, match="column position, got 'run'"):
        ComBat(batch_key="run").fit(X)
    with pytest.raises(BatchfixError, match="Key 99 must be a column of X, got 10"):
        ComBat(batch_key=99).fit(X)


# ---- keys, for what routing cannot serve


@in_each_form
@each
def test_keys_find_what_the_argument_says(corrector, form):
    X, _, batch, _ = lab()
    by_key, table, _ = keyed(form, corrector)
    want = clone(corrector).fit_transform(X, batch=batch)
    out = by_key.fit_transform(table)
    assert_allclose(out, want, atol=1e-12)
    assert_allclose(by_key.transform(table[:7]), want[:7], atol=1e-12)
    if form == "index level":
        assert_allclose(by_key.inverse_transform(out), X, atol=1e-12)
    if form == "column":
        assert_allclose(by_key.inverse_transform(out.assign(run=batch)), X, atol=1e-12)


@in_pairs
def test_roc_auc(corrector, form):
    by_key, table, y = keyed(form, corrector)
    scores = cross_val_score(model(by_key), table, y, scoring="roc_auc", cv=3, error_score="raise")
    assert np.isfinite(scores).all()
    assert scores.mean() > 0.75


@in_pairs
def test_cross_validate_with_keys(corrector, form):
    by_key, table, y = keyed(form, corrector)
    result = cross_validate(
        model(by_key), table, y, scoring=["accuracy", "roc_auc"], cv=3, error_score="raise", return_train_score=True
    )
    assert np.isfinite(result["test_roc_auc"]).all()
    assert np.isfinite(result["train_accuracy"]).all()


@in_pairs
def test_a_grid_search_predicts(corrector, form):
    by_key, table, y = keyed(form, corrector)
    name = type(corrector).__name__.lower()
    grid = {"logisticregression__C": [0.1, 1.0], f"{name}__keep_at_transform": [True, False]}
    search = GridSearchCV(model(by_key), grid, cv=3, scoring="roc_auc", error_score="raise").fit(table, y)
    assert (search.predict(table) == y).mean() > 0.75
    assert search.predict_proba(table[:5]).shape == (5, 2)


@in_pairs
def test_cross_val_predict_works(corrector, form):
    by_key, table, y = keyed(form, corrector)
    predicted = cross_val_predict(model(by_key), table, y, cv=3, method="predict_proba")
    assert ((predicted[:, 1] > 0.5) == y).mean() > 0.7


@in_pairs
def test_stacking(corrector, form):
    by_key, table, y = keyed(form, corrector)
    stack = StackingClassifier(
        [("a", model(by_key)), ("b", model(clone(by_key)))], final_estimator=LogisticRegression(), cv=3
    )
    assert (stack.fit(table, y).predict(table) == y).mean() > 0.75


@in_pairs
def test_calibration(corrector, form):
    by_key, table, y = keyed(form, corrector)
    calibrated = CalibratedClassifierCV(model(by_key), cv=3).fit(table, y)
    assert (calibrated.predict(table) == y).mean() > 0.75


@in_pairs
def test_permutation_importance_works(corrector, form):
    by_key, table, y = keyed(form, corrector)
    fitted = model(by_key).fit(table, y)
    result = permutation_importance(fitted, table, y, n_repeats=3, random_state=0, scoring="roc_auc")
    assert np.isfinite(result.importances_mean).all()
    assert result.importances_mean[:3].min() > np.abs(result.importances_mean[3:P]).max() / 2
    assert result.importances_mean[:3].mean() > 0.03


@in_each_form
@each
def test_column_transformers_and_unions_find_keys(corrector, form):
    by_key, table, _ = keyed(form, corrector)
    X, _, batch, _ = lab()
    want = clone(corrector).fit_transform(X[:, :4], batch=batch)
    names = [f"f{j}" for j in range(4)]
    columns = {"column": [*names, "run"], "index level": names, "position": [0, 1, 2, 3, P]}[form]
    if form == "position":
        by_key.set_params(batch_key=4)  # where it stands among the columns that are passed on
    union = ColumnTransformer([("some", by_key, columns)])
    assert_allclose(union.fit_transform(table), want, atol=1e-12)
    assert_allclose(union.transform(table), want, atol=1e-12)


@in_each_form
def test_leave_one_batch_out_adapts(form):
    by_key, table, y = keyed(form, ComBat(handle_unknown="adapt"))
    _, _, batch, _ = lab()
    scores = cross_val_score(
        model(by_key), table, y, groups=batch, cv=LeaveOneGroupOut(), scoring="roc_auc", error_score="raise"
    )
    assert len(scores) == 3
    assert scores.mean() > 0.75
    refusing = model(by_key.set_params(handle_unknown="error"))
    with pytest.raises(BatchfixError, match="was not seen in fit"):
        cross_val_score(refusing, table, y, groups=batch, cv=LeaveOneGroupOut(), scoring="roc_auc", error_score="raise")


@pytest.mark.usefixtures("routing")
@each
def test_leave_one_batch_out_adapts_with_routing(corrector):
    X, y, batch, _ = lab()
    pipe = model(clone(corrector).set_params(handle_unknown="adapt"))
    params = {"batch": batch, "groups": batch}
    result = cross_validate(pipe, X, y, params=params, cv=LeaveOneGroupOut(), error_score="raise")
    assert result["test_score"].mean() > 0.65


@pytest.mark.parametrize("form", ["column", "position"])
@each
def test_the_label_is_protected_in_training_and_unknown_at_prediction(corrector, form):
    by_key, table, y = keyed(form, corrector)
    protected = model(by_key.set_params(keep_y=True))
    scores = cross_val_score(protected, table, y, scoring="roc_auc", cv=3, error_score="raise")
    assert scores.mean() > 0.75
    fitted = protected.fit(table, y)
    assert_allclose(fitted.predict_proba(table[:1]), fitted.predict_proba(table)[:1])


def test_leave_one_batch_out_with_the_label_protected_in_training():
    by_key, table, y = keyed("column", ComBat(handle_unknown="adapt", keep_y=True))
    _, _, batch, _ = lab()
    scores = cross_val_score(
        model(by_key), table, y, groups=batch, cv=LeaveOneGroupOut(), scoring="roc_auc", error_score="raise"
    )
    assert scores.mean() > 0.75


@each
def test_selection_and_y_go_along(corrector):
    by_key, table, y = keyed("column", corrector)
    pipe = make_pipeline(by_key, SelectKBest(k=3), LogisticRegression()).fit(table, y)
    assert set(pipe[:-1].get_feature_names_out()) == {"f0", "f1", "f2"}


# ---- the object itself


@pytest.mark.parametrize("estimator", CONFIGURATIONS, ids=str)
def test_clone_copies_parameters_and_nothing_else(estimator):
    X, _, batch, _ = lab()
    fitted = clone(estimator).fit(X, batch=batch)
    copy = clone(fitted)
    assert copy.get_params() == estimator.get_params()
    with pytest.raises(NotFittedError):
        copy.transform(X, batch=batch)
    assert_array_equal(copy.fit(X, batch=batch).transform(X, batch=batch), fitted.transform(X, batch=batch))


@each
def test_parameters_are_stored_as_they_came(corrector):
    names = ["age", "sex"]
    made = type(corrector)(keep_keys=names, keep_factors=names)
    assert made.get_params()["keep_keys"] is names
    with pytest.raises(TypeError):
        type(corrector)("batch")


def everything(corrector: BaseEstimator, seed: int = 0, n: int = N, **changes: Any) -> tuple[Any, tuple[Any, ...]]:
    """Fitted with all that can be said, NaN and an adapted batch included."""
    X, y, batch, age = lab(seed, n)
    X[::17, 3] = np.nan
    keep = {"age": age, "sex": np.where(np.arange(n) % 4 < 2, "f", "m")}
    fitted = clone(corrector).set_params(**changes).fit(X, y, batch=batch, keep=keep)
    fitted = fitted.adapt(X[:20] + 1, batch="r4", keep={k: v[:20] for k, v in keep.items()})
    return fitted, (X, np.where(np.arange(n) % 5 == 0, "r4", batch), keep)


@each
def test_a_pickle_brings_everything_back(corrector):
    fitted, (X, batch, keep) = everything(corrector)
    again = pickle.loads(pickle.dumps(fitted))
    assert_array_equal(again.transform(X, batch=batch, keep=keep), fitted.transform(X, batch=batch, keep=keep))
    assert again.batches_.tolist() == ["r1", "r2", "r3", "r4"]
    lazy = clone(corrector).partial_fit(X, batch=batch, keep=keep)
    again = pickle.loads(pickle.dumps(lazy))
    again.partial_fit(X, batch=batch, keep=keep)
    assert_array_equal(
        again.transform(X, batch=batch, keep=keep),
        lazy.partial_fit(X, batch=batch, keep=keep).transform(X, batch=batch, keep=keep),
    )


@pytest.mark.parametrize("kind", ["plain", "keyed", "guarded", "robust"])
@each
def test_skops_trusts_batchfix_and_needs_no_more(corrector, kind):
    skops = pytest.importorskip("skops.io")
    X, _, batch, age = lab()
    if kind == "plain":
        fitted, (X, batch, keep) = everything(corrector)
        said = {"batch": batch, "keep": keep}
        table: Any = X
    elif kind == "keyed":
        table, said = frame(X, run=batch, age=age), {}
        fitted = clone(corrector).set_params(batch_key="run", keep_keys=["age"]).fit(table)
    elif kind == "guarded":
        table, said, fitted = X, {"batch": batch}, ComBat(scale_guard=0.2).fit(X, batch=batch)
    else:
        table, said = X, {"batch": batch}
        fitted = BatchCorrector(location="median", scale="mad").fit(X, batch=batch)
    stored = skops.dumps(fitted)
    unknown = skops.get_untrusted_types(data=stored)
    assert all(name.startswith("batchfix.") for name in unknown), unknown
    again = skops.loads(stored, trusted=unknown)
    assert_array_equal(np.asarray(again.transform(table, **said)), np.asarray(fitted.transform(table, **said)))


@pytest.mark.parametrize("changes", [{}, {"keep_y": True}, {"copy": False}], ids=str)
@each
def test_a_fitted_corrector_holds_no_training_data(corrector, changes):
    def size(n: int) -> int:
        X, y, batch, age = lab(0, n)
        fitted = clone(corrector).set_params(**changes).fit(X, y, batch=batch, keep={"age": age})
        fitted.transform(X.copy(), batch=batch, keep={"age": age})
        buffer = io.BytesIO()
        pickle.dump(fitted, buffer)
        return buffer.tell()

    assert abs(size(2000) - size(60)) < 200


@pytest.mark.parametrize("changes", [{"scale_guard": 0.2}, {"parametric": False}], ids=str)
def test_nor_do_combats_options(changes):
    def size(n: int) -> int:
        X, _, batch, _ = lab(0, n)
        return len(pickle.dumps(ComBat(**changes).fit(np.round(X), batch=batch)))

    assert abs(size(2000) - size(60)) < 200


@each
def test_a_table_is_only_read(corrector):
    X, _, batch, age = lab()
    table, keep = frame(X, run=batch), pd.DataFrame({"age": age}, index=frame(X).index)
    before = table.copy(), keep.copy()
    clone(corrector).set_params(batch_key="run").fit_transform(table, keep=keep)
    pd.testing.assert_frame_equal(table, before[0])
    pd.testing.assert_frame_equal(keep, before[1])
    array = X.copy()
    array.flags.writeable = False
    clone(corrector).fit(array, batch=batch).transform(array, batch=batch)
    assert_array_equal(array, X)


@each
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_copy_false_writes_into_the_callers_array(corrector, dtype):
    X, _, batch, _ = lab()
    X = X.astype(dtype)
    want = clone(corrector).fit(X, batch=batch).transform(X, batch=batch)
    in_place = clone(corrector).set_params(copy=False)
    for table in (X.copy(), np.asfortranarray(X), np.repeat(X, 2, axis=1)[:, ::2]):
        out = in_place.fit_transform(table, batch=batch)
        assert np.shares_memory(out, table)
        assert_array_equal(table, want)
        back = in_place.inverse_transform(table, batch=batch)
        assert np.shares_memory(back, table)
        assert_allclose(table, X, atol=1e-4 if dtype == np.float32 else 1e-12)


@each
def test_copy_false_says_when_it_cannot(corrector):
    X, _, batch, _ = lab()
    in_place = clone(corrector).set_params(copy=False)
    frozen = X.copy()
    frozen.flags.writeable = False
    for table, why in ((frozen, "read-only"), (frame(X), "DataFrame"), (np.round(X).astype(int), "int64")):
        before = table.copy()
        with pytest.warns(CopyWarning, match=why):
            clone(in_place).fit(table, batch=batch).transform(table, batch=batch)
        assert np.array_equal(np.asarray(table), np.asarray(before))
