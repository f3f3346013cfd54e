"""What is said about the rows: whichever container it comes in, and whatever its author may have meant."""

import warnings
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

from batchfix import BatchCorrector, ComBat, LinearCorrector
from batchfix.core.design import Factor, Number
from batchfix.correctors import inputs
from batchfix.exceptions import (
    AlignmentError,
    AmbiguousKeepError,
    BatchfixError,
    BatchfixWarning,
    ConfoundedDesignError,
    MergeError,
    MissingLabelError,
)

pl = pytest.importorskip("polars")

N, P = 60, 5
RNG = np.random.default_rng(7)
BATCH = np.array(["a", "b", "c"])[np.r_[np.tile([0, 1, 2], 6), RNG.integers(0, 3, N - 18)]]
GROUP = np.array(["u", "v", "w"])[np.r_[np.repeat([0, 1, 2], 6), RNG.integers(0, 3, N - 18)]]
STAGE = np.searchsorted(["u", "v", "w"], GROUP)
AGE = RNG.normal(50.0, 9.0, N)
X = RNG.normal(size=(N, P)) * (1 + 0.7 * (BATCH == "b"))[:, None] + 2.0 * (BATCH == "c")[:, None]
X += (GROUP == "v")[:, None] * RNG.normal(size=P) + 3.0 * (GROUP == "w")[:, None] + 0.05 * AGE[:, None]
ORDER = np.random.default_rng(3).permutation(N)
SHUFFLED = pd.DataFrame(X, index=ORDER)  # rows in order, index not
THREE = {"combat": ComBat(), "batch": BatchCorrector(), "linear": LinearCorrector()}
each = pytest.mark.parametrize("name", THREE)


def made(name: str, **options: Any) -> Any:
    return clone(THREE[name]).set_params(**options)


def columns_of(corrector: Any) -> list[Any]:
    return [type(c) for c in corrector.statistics_.columns]


# ---- containers


def by_label(values: list[Any]) -> pd.Series:
    """A Series with the table's index, in another order."""
    return pd.Series(values, index=SHUFFLED.index).sample(frac=1, random_state=0)


CONTAINERS = {
    "list": list,
    "tuple": tuple,
    "array": np.array,
    "object array": lambda v: np.array(v, dtype=object),
    "masked array": np.ma.array,
    "series by label": by_label,
    "category by label": lambda v: by_label(v).astype("category"),
    "categorical": pd.Categorical,
    "index": pd.Index,
    "categorical index": pd.CategoricalIndex,
    "pandas array": pd.array,
    "polars series": pl.Series,
}
TABLES = {
    "frame by label": lambda v: by_label(v).to_frame("g"),
    "polars frame": lambda v: pl.DataFrame({"g": v}),
    "column": lambda v: np.array(v)[:, None],
    "nested list": lambda v: [[one] for one in v],
}
ROLES = {"batch": BATCH, "batch of integers": np.searchsorted(["a", "b", "c"], BATCH) + 2, "keep": GROUP, "age": AGE}


@pytest.mark.parametrize("role", [*ROLES, "nuisance", "y"])
@pytest.mark.parametrize("kind", [*CONTAINERS, *TABLES, *(f"dict of {kind}" for kind in CONTAINERS)])
@each
@given(order=st.permutations(range(N)), seed=st.integers(0, 99))
@settings(max_examples=3, deadline=None)
def test_every_container_says_what_a_list_says(name, kind, role, order, seed):
    if (role == "nuisance" and name != "linear") or (role == "y" and kind.startswith("dict")):
        return
    if role == "age" and "categor" in kind:
        return  # a category is a factor
    rows = np.random.default_rng(seed).permutation(N)  # which rows the table has where
    table = pd.DataFrame(X[rows], index=order)
    values = ROLES.get(role, GROUP)[rows].tolist()
    labels = {"batch": BATCH[rows].tolist()}
    where = {"batch of integers": "batch", "age": "keep"}.get(role, role)

    def form(values: list[Any]) -> Any:
        inner = kind.removeprefix("dict of ")
        if "by label" in inner:
            series = pd.Series(values, index=table.index).sample(frac=1, random_state=seed)
            made = {"frame": series.to_frame("g"), "category": series.astype("category")}.get(inner.split()[0], series)
        else:
            made = (CONTAINERS | TABLES)[inner](values)
        return {"g": made} if kind.startswith("dict") else made

    def run(given: Any) -> np.ndarray:
        if where == "y":
            return np.asarray(made(name, keep_y=True).fit_transform(table, given, **labels))
        return np.asarray(made(name).fit_transform(table, **(labels | {where: given})))

    assert_allclose(run(form(values)), run(values), rtol=0, atol=1e-12)


@each
def test_what_has_no_index_is_taken_by_position(name):
    want = np.asarray(made(name).fit_transform(X, batch=BATCH, keep={"g": GROUP}))
    for keep in ({"g": pd.Categorical(GROUP)}, pl.DataFrame({"g": GROUP}), {"g": pl.Series(GROUP)}):
        assert_allclose(made(name).fit_transform(SHUFFLED, batch=BATCH, keep=keep), want, rtol=0, atol=1e-12)
    batch = pl.DataFrame({"b": BATCH})
    assert_allclose(made(name).fit_transform(SHUFFLED, batch=batch, keep={"g": GROUP}), want, rtol=0, atol=1e-12)
    for short in ({"g": pd.Categorical(GROUP[1:])}, pl.DataFrame({"g": GROUP[1:]}), pd.Categorical(GROUP[1:])):
        with pytest.raises(AlignmentError, match="got 59 for 60 rows"):
            made(name).fit(SHUFFLED, batch=BATCH, keep=short)
    with pytest.raises(AlignmentError, match="got 61 for 60 rows"):
        made(name).fit(SHUFFLED, batch=pl.DataFrame({"b": [*BATCH, "a"]}))


@pytest.mark.parametrize(
    ("labels", "match"),
    [
        (set(BATCH), "batch must be a list.*got set"),
        ((b for b in BATCH), "got generator"),
        (dict(enumerate(BATCH)).values(), "got dict_values"),
        (pl.LazyFrame({"b": BATCH}), r"polars LazyFrame. Call .collect\(\)"),
        (pd.DataFrame(index=range(N)), "table without columns"),
        ({}, "table without columns"),
        ({"b": pl.LazyFrame({"b": BATCH})}, "polars LazyFrame"),
        (np.array([(1, 2)] * N, dtype="i8,i8"), "batch must be plain columns.*DataFrame"),
        ({"b": np.zeros((N, 2))}, r"batch\['b'\] must be one column, got 2 dimensions"),
        ({"b": pd.DataFrame({"x": BATCH, "y": BATCH})}, r"batch\['b'\] must be one column"),
    ],
    ids=str,
)
def test_what_is_no_container_of_labels(labels, match):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(BatchfixError, match=match):
            LinearCorrector().fit(X, batch=labels)


@each
def test_labels_of_unsigned_and_signed_integers_stay_apart_and_exact(name):
    first, second = 2**60 + np.repeat([1, 2], 30).astype(np.uint64), 2**60 + np.repeat([1, 3], 30)
    model = made(name).partial_fit(X, batch=first).partial_fit(X, batch=second)
    assert model.batch_counts_ == {2**60 + 1: 60, 2**60 + 2: 30, 2**60 + 3: 30}
    assert model.partial_fit(X, batch=first.astype(np.uint64)).batches_.dtype == np.int64
    with pytest.raises(BatchfixError, match=f"must fit int64, got {2**63 + 5}"):
        made(name).fit(X, batch=np.repeat(np.array([2**63 + 5, 1], dtype=np.uint64), 30))


@each
@pytest.mark.parametrize("word", ["nan", "NaT", "<NA>"])
def test_a_missing_value_that_became_text_is_missing(name, word):
    labels = BATCH.astype("U4")
    labels[3] = word
    for form in (labels, labels.tolist(), pd.Categorical(labels)):
        with pytest.raises(MissingLabelError, match=f"got the text '{word}' for 1 row .at 3.*rename"):
            made(name).fit(X, batch=form)
        with pytest.raises(MissingLabelError, match="in 'g', got the text"):
            made(name).fit(X, batch=BATCH, keep={"g": form})
    with pytest.raises(MissingLabelError, match="text 'nan'"):
        made(name).fit(X, batch=np.array([np.nan, *BATCH[1:]]))


# ---- several batch factors

SEVERAL = pd.DataFrame({"plate": np.arange(N) % 2, "site": np.arange(N) // 2 % 2})


@pytest.mark.parametrize(
    "form", [lambda t: t, pl.DataFrame, lambda t: {k: t[k].tolist() for k in t}], ids=["pandas", "polars", "dict"]
)
def test_batch_factors_are_found_by_name(form):
    model = LinearCorrector().fit(X, batch=form(SEVERAL))
    want = model.transform(X, batch=SEVERAL)
    turned = form(SEVERAL[["site", "plate"]])
    assert_array_equal(model.transform(X, batch=turned), want)
    assert_array_equal(model.inverse_transform(want, batch=turned), model.inverse_transform(want, batch=SEVERAL))
    assert_array_equal(model.transform(X, batch=SEVERAL.to_numpy()), want)  # without names: by position
    for other in (SEVERAL.rename(columns={"site": "run"}), SEVERAL.assign(run=0), SEVERAL[["site"]]):
        with pytest.raises(BatchfixError, match=r"batch must have the factors of fit \['plate', 'site'\]"):
            model.transform(X, batch=form(other))
    halves = LinearCorrector().partial_fit(X[:30], batch=form(SEVERAL[:30]))
    halves.partial_fit(X[30:], batch=form(SEVERAL[30:][["site", "plate"]]))
    assert_allclose(halves.transform(X, batch=SEVERAL), want, rtol=0, atol=1e-12)


def test_batch_factors_of_keys_are_found_by_name_when_they_are_passed():
    table = pd.DataFrame(X, columns=list("abcde")).join(SEVERAL)
    model = LinearCorrector(batch_key=["plate", "site"]).fit(table)
    out = model.transform(table)
    assert_allclose(model.inverse_transform(out, batch=SEVERAL[["site", "plate"]]), X, rtol=0, atol=1e-12)


def test_one_batch_column_may_have_any_name():
    model = ComBat().fit(X, batch=pd.DataFrame({"run": BATCH}))
    want = model.transform(X, batch=BATCH)
    assert_array_equal(model.transform(X, batch=pd.DataFrame({"plate": BATCH})), want)
    with pytest.raises(BatchfixError, match=r"factors of fit \['run'\], got \['run', 'site'\]"):
        model.transform(X, batch=pd.DataFrame({"run": BATCH, "site": BATCH}))


# ---- factor or number


@each
def test_a_declaration_must_name_a_column(name):
    keep = pd.DataFrame({"group": GROUP, "stage": STAGE})
    for option in ("keep_factors", "keep_numbers"):
        with pytest.raises(BatchfixError, match=rf"{option} must name .*'group', 'stage'.*did you mean 'stage'"):
            made(name, **{option: ["stag"]}).fit(X, batch=BATCH, keep=keep)
        with pytest.raises(BatchfixError, match=rf"{option} must name .*there are none.*got 'stage'"):
            made(name, **{option: ["stage"]}).fit(X, batch=BATCH)
        with pytest.raises(BatchfixError, match=rf"{option} must name .*got 2"):
            made(name, **{option: [2]}).fit(X, batch=BATCH, keep=keep.to_numpy())


@each
def test_a_declaration_may_be_a_position(name):
    table = np.column_stack([X, STAGE])
    for key in (P, -1, np.int64(P)):
        by_key = partial(made, name, keep_keys=[key])
        with pytest.raises(AmbiguousKeepError, match=f"Column '{key}' .*keep_factors"):
            by_key().fit(table, batch=BATCH)
        assert columns_of(by_key(keep_factors=[key]).fit(table, batch=BATCH)) == [Factor]
        assert columns_of(by_key(keep_factors=[str(key)]).fit(table, batch=BATCH)) == [Factor]
        assert columns_of(by_key(keep_numbers=[key]).fit(table, batch=BATCH)) == [Number]
    with pytest.raises(BatchfixError, match=r"'5'.*named as both"):
        made(name, keep_keys=[P], keep_numbers=[P], keep_factors=["5"]).fit(table, batch=BATCH)
    frame = pd.DataFrame({0: STAGE, 1: AGE})
    assert columns_of(made(name, keep_factors=[0]).fit(X, batch=BATCH, keep=frame)) == [Factor, Number]


@each
def test_codes_in_an_array_of_numbers_must_be_declared(name):
    keep = np.column_stack([STAGE, AGE])
    want = made(name).fit_transform(X, batch=BATCH, keep={"g": GROUP, "age": AGE})
    for form in (keep, keep.tolist()):
        with pytest.raises(AmbiguousKeepError, match=r"'keep0'.*0.0, 1.0, 2.0.*keep_factors=\['keep0'\]"):
            made(name).fit(X, batch=BATCH, keep=form)
        for entry in (0, "keep0"):
            model = made(name, keep_factors=[entry])
            assert_allclose(model.fit_transform(X, batch=BATCH, keep=form), want, rtol=0, atol=1e-10)
            part = model.transform(X[:2], batch=BATCH[:2], keep=form[:2])
            assert_allclose(part, want[:2], rtol=0, atol=1e-10)
            assert columns_of(made(name, keep_numbers=[entry]).fit(X, batch=BATCH, keep=form)) == [Number, Number]
    # a column with a dtype of its own has said what it is, and contrasts and 0/1 are numbers
    for plain in (STAGE.astype(float), STAGE.astype(float)[:, None], {"s": STAGE.astype(float)}):
        assert columns_of(made(name).fit(X, batch=BATCH, keep=plain)) == [Number]
    contrasts = np.array([[1.0, 0], [0, 1], [-1, -1]])[STAGE]
    assert columns_of(made(name).fit(X, batch=BATCH, keep=contrasts)) == [Number, Number]
    rows = made(name)
    for i in range(N):  # one row says nothing
        rows.partial_fit(X[i : i + 1], batch=BATCH[i : i + 1], keep=np.round(contrasts[i : i + 1] + 1))
    assert columns_of(rows) == [Number, Number]


def test_a_position_may_not_mean_two_columns():
    two = np.column_stack([STAGE, AGE])
    model = LinearCorrector(keep_factors=[0])
    with pytest.raises(BatchfixError, match="got 0, which is two of them"):
        model.fit(X, batch=BATCH, keep=two, nuisance=two[::-1])
    model = LinearCorrector(keep_factors=["nuisance0"], keep_numbers=["keep0"])
    model.fit(X, batch=BATCH, keep=two, nuisance=two[::-1])
    assert columns_of(model) == [Number, Number, Factor, Number]


@each
@pytest.mark.parametrize("values", [np.array([0.5, 1.0, 1.5]), np.array([1.0, 2.0, 3.0])], ids=str)
def test_categories_of_floats_are_levels_at_transform_too(name, values):
    keep = pd.DataFrame({"g": pd.Categorical(values[STAGE])})
    model = made(name).fit(X, batch=BATCH, keep=keep)
    want = made(name).fit_transform(X, batch=BATCH, keep={"g": GROUP})
    assert_allclose(model.transform(X, batch=BATCH, keep=keep), want, rtol=0, atol=1e-10)
    part = pd.DataFrame({"g": pd.Categorical(values[STAGE[:1]])})
    assert_allclose(model.transform(X[:1], batch=BATCH[:1], keep=part), want[:1], rtol=0, atol=1e-10)
    halves = made(name).partial_fit(X[:30], batch=BATCH[:30], keep={"g": pd.Categorical(values[STAGE[:30]])})
    halves.partial_fit(X[30:], batch=BATCH[30:], keep={"g": pd.Categorical(values[STAGE[30:]])})
    assert_allclose(halves.transform(X, batch=BATCH, keep=keep), want, rtol=0, atol=1e-10)


@each
def test_intervals_are_levels(name):
    keep = pd.Series(pd.cut(AGE, [0, 45, 55, 200]), name="age")
    model = made(name).fit(X, batch=BATCH, keep=keep)
    want = made(name).fit_transform(X, batch=BATCH, keep=keep.astype(str))
    assert_allclose(model.transform(X, batch=BATCH, keep=keep), want, rtol=0, atol=1e-12)


@each
def test_numbers_written_as_text_are_levels_with_a_warning(name):
    table = np.column_stack([GROUP, np.round(AGE[STAGE * 7 + np.arange(N) % 5], 1)])  # all of it text now
    with pytest.warns(BatchfixWarning, match="'keep1' holds numbers as text .*keep_numbers"):
        made(name).fit(X, batch=BATCH, keep=table)
    years = np.round(AGE).astype(int).astype(str)
    with pytest.warns(BatchfixWarning, match="'age' holds numbers as text"):
        made(name).partial_fit(X, batch=BATCH, keep={"age": years})
    for quiet in (made(name, keep_numbers=["keep1"]), made(name, keep_factors=[1])):
        quiet.fit(X, batch=BATCH, keep=table)
    made(name).fit(X, batch=BATCH, keep={"stage": STAGE.astype(str)})  # codes as text are levels, by choice


# ---- the target

AMOUNTS = RNG.permutation(np.r_[np.arange(30), np.arange(30)])


@each
@pytest.mark.parametrize("dtype", [int, float, "Int64", "Float64", object])
def test_a_target_of_many_whole_numbers_must_be_declared(name, dtype):
    y = pd.Series(AMOUNTS).astype(dtype)
    with pytest.raises(AmbiguousKeepError, match=r"30 different whole numbers.*in 60 rows.*keep_numbers=\['y'\]"):
        made(name, keep_y=True).fit(X, y, batch=BATCH)
    for entries, kind in (("keep_numbers", Number), ("keep_factors", Factor)):
        assert columns_of(made(name, keep_y=True, **{entries: ["y"]}).fit(X, y, batch=BATCH)) == [kind]
    few = made(name, keep_y=True).fit(X, y % 3, batch=BATCH)
    assert columns_of(few) == [Factor]
    assert columns_of(made(name, keep_y=True).fit(X, y + 0.5 * (y == 3).astype(float), batch=BATCH)) == [Number]


def test_many_classes_of_many_rows_are_classes():
    y, batch = np.arange(600) % 11, np.arange(600) // 11 % 2
    assert columns_of(ComBat(keep_y=True).fit(np.resize(X, (600, P)), y, batch=batch)) == [Factor]
    assert columns_of(ComBat(keep_y=True).fit(X, pd.Categorical(AMOUNTS), batch=BATCH)) == [Factor]


@each
def test_a_target_stays_what_it_was(name):
    y = AMOUNTS + 0.5 * (AMOUNTS > 20)
    first = np.r_[np.flatnonzero(y > 20)[:1], np.flatnonzero(y < 20)]
    rest = np.setdiff1d(np.arange(N), first)
    whole = made(name, keep_y=True).fit(X, y, batch=BATCH)
    for order in ([first, rest], [first[:10], first[10:11], rest, first[11:]]):  # a chunk may be whole by chance
        chunks = made(name, keep_y=True)
        for part in order:
            chunks.partial_fit(X[part], y[part], batch=BATCH[part])
        assert_allclose(chunks.affine_.shift, whole.affine_.shift, rtol=0, atol=1e-10)
    chunks = made(name, keep_y=True).partial_fit(X[:5], np.arange(5.0), batch=BATCH[:5])
    with pytest.raises(BatchfixError, match=r"y must be of one kind.*0.5.*keep_numbers=\['y'\]"):
        chunks.partial_fit(X[:5], np.arange(5) + 0.5, batch=BATCH[:5])
    with pytest.raises(AmbiguousKeepError, match="different whole numbers"):
        chunks.partial_fit(X[5:30], np.arange(5, 30), batch=BATCH[5:30])
    many = made(name, keep_y=True, keep_factors=["y"]).partial_fit(X, AMOUNTS, batch=BATCH)
    many.partial_fit(X, AMOUNTS + 5, batch=BATCH)
    assert many.statistics_.columns[0].width == 35


# ---- names given where labels belong

NAMED = pd.DataFrame(X, columns=list("vwxyz")).assign(batch=STAGE.astype(float), group=AGE)


@each
def test_a_column_name_in_place_of_labels_is_refused(name):
    with pytest.raises(BatchfixError, match=r"Did you mean batch_key='batch'\? .*pass it once a row"):
        made(name).fit_transform(NAMED, batch="batch")
    with pytest.raises(BatchfixError, match=r"Did you mean keep_keys=\['group'\]"):
        made(name).fit(NAMED, batch=BATCH, keep=["group"])
    with pytest.raises(BatchfixError, match=r"Did you mean keep_keys=\['group'\]"):
        made(name).fit(pl.from_pandas(NAMED), batch=BATCH, keep="group")
    levels = NAMED.set_index("batch", append=True)
    with pytest.raises(BatchfixError, match="batch_key='batch'"):
        made(name).partial_fit(levels, batch="batch")
    # a batch may share a feature's name if it is passed row by row, or known
    half = np.where(np.arange(N) < 30, "v", "w")
    model = made(name).partial_fit(NAMED[:30], batch=["v"] * 30).partial_fit(NAMED[30:], batch=half[30:])
    assert_array_equal(model.transform(NAMED[:30], batch="v"), model.transform(NAMED[:30], batch=half[:30]))
    made(name).partial_fit(NAMED, batch="site A")


@each
def test_a_key_that_is_misspelt_is_guessed(name):
    wide = pd.DataFrame(RNG.normal(size=(N, 30))).rename(columns=lambda c: f"f{c}").assign(batch=BATCH, sex=GROUP)
    with pytest.raises(BatchfixError, match=r"got columns 'batch', 'sex', 'f0'.*did you mean 'batch'\?"):
        made(name, batch_key="Batch").fit(wide)
    with pytest.raises(BatchfixError, match=r"did you mean 'batch'\?"):
        made(name, batch_key="bacth").fit(pl.from_pandas(wide))
    with pytest.raises(BatchfixError, match="Key 'plate' must name a column or an index level of X, got"):
        made(name, batch_key="plate").fit(wide)


# ---- tables that cannot be read


@each
def test_tables_that_are_refused_with_a_sentence(name):
    numbered = pd.DataFrame(X)
    with pytest.raises(BatchfixError, match=r"must have features, got 0 feature\(s\) \(shape=\(60, 0\)\)"):
        made(name).fit_transform(numbered.iloc[:, :0], batch=BATCH)
    with pytest.raises(BatchfixError, match=r"must have features.*keys name do not count"):
        made(name, batch_key="batch").fit(pd.DataFrame({"batch": BATCH}))
    with pytest.raises(BatchfixError, match="must have features"):
        made(name, batch_key="batch").fit(pl.DataFrame({"batch": BATCH}))
    tall = numbered.set_axis(pd.MultiIndex.from_product([["a"], range(P)]), axis=1).assign(batch=BATCH)
    with pytest.raises(BatchfixError, match="one level for keys to name them, got 2"):
        made(name, batch_key="batch").fit(tall)
    lazy = pl.LazyFrame({"x": X[:, 0], "y": X[:, 1], "batch": BATCH})
    with pytest.raises(BatchfixError, match=r"got a polars LazyFrame. Call .collect\(\)"):
        made(name, batch_key="batch").fit_transform(lazy)
    with pytest.raises(BatchfixError, match=r"got a polars LazyFrame"):
        made(name).fit_transform(lazy, batch=BATCH)
    with pytest.raises(BatchfixError, match="all text or all numbers, got 'a' and 0"):
        made(name, batch_key="batch").fit(numbered.assign(a=1.0, batch=BATCH))
    with pytest.raises(BatchfixError, match="X must be numbers, got string objects"):
        made(name).fit(np.where(X > 0, X.astype(object), "1.0"), batch=BATCH)
    with pytest.raises(BatchfixError, match="X must be a table, got dict"):
        made(name).fit({"a": X[:, 0]}, batch=BATCH)
    with pytest.raises(ValueError, match="Expected 2D array"):
        made(name).fit(pl.Series(X[:, 0]), batch=BATCH)


@each
def test_numbered_columns_may_stand_beside_a_named_key(name):
    numbered = pd.DataFrame(X, index=ORDER)
    want = made(name).fit_transform(X, batch=BATCH)
    model = made(name, batch_key="batch")
    out = model.fit_transform(numbered.assign(batch=BATCH))
    assert_array_equal(out, want)
    assert list(out.columns) == list(range(P))
    assert model.get_feature_names_out().tolist() == [f"x{j}" for j in range(P)]
    first = numbered.assign(batch=BATCH)[["batch", *range(P)]]
    assert_array_equal(model.transform(first), want)
    assert_allclose(model.inverse_transform(out, batch=BATCH), X, rtol=0, atol=1e-12)


@each
def test_numbered_columns_stay_in_order(name):
    numbered = pd.DataFrame(X)
    for corrector, table in ((made(name), numbered), (made(name, batch_key="batch"), numbered.assign(batch=BATCH))):
        labels = {} if "batch" in table else {"batch": BATCH}
        model = corrector.fit(table, **labels)
        with pytest.raises(BatchfixError, match="in their order, but X has them in another order"):
            model.transform(table[[2, 0, 1, 3, 4, *table.columns[P:]]], **labels)
        with pytest.raises(BatchfixError, match=r"lacks \[0\]"):
            model.transform(table.rename(columns={0: 9}), **labels)


# ---- at transform


def test_columns_to_spare_are_not_read():
    keep = pd.DataFrame({"group": GROUP, "age": AGE})
    model = ComBat().fit(X, batch=BATCH, keep=keep)
    gaps = keep.assign(age=np.nan)
    rows = model._resolve(X, None, {"batch": BATCH, "keep": gaps}, reset=False, spare=["age"])
    assert list(rows.columns) == ["group"]
    with pytest.raises(MissingLabelError, match="'age'"):
        model.transform(X, batch=BATCH, keep=gaps)


def test_what_enters_no_map_may_have_gaps_or_be_absent():
    keep = pd.DataFrame({"group": GROUP, "age": AGE})
    model = ComBat(keep_at_transform=False).fit(X, batch=BATCH, keep=keep)
    gaps = keep.assign(age=np.nan)
    want = model.transform(X, batch=BATCH)
    assert_array_equal(model.transform(X, batch=BATCH, keep=gaps), want)
    for learn in (model.adapt, model.partial_fit):
        with pytest.raises(MissingLabelError):
            learn(X, batch=np.full(N, "new"), keep=gaps)


def test_sites_with_other_batch_factors_do_not_merge():
    one = LinearCorrector().fit(X, batch=SEVERAL)
    other = LinearCorrector().fit(X, batch=SEVERAL[SEVERAL.columns[::-1]])
    with pytest.raises(MergeError, match="same batch factors in one order"):
        one.merge(other)


def test_scale_where_of_polars_goes_by_name():
    columns = [f"f{i}" for i in range(P)]
    where = pd.DataFrame(RNG.random((N, P)) > 0.3, columns=columns)
    frame = pd.DataFrame(X, columns=columns)
    want = ComBat(scale_guard=0.5).fit(frame, batch=BATCH, scale_where=where).transform(frame, batch=BATCH)
    turned = pl.DataFrame({name: where[name].to_numpy() for name in columns[::-1]})
    found = ComBat(scale_guard=0.5).fit(frame, batch=BATCH, scale_where=turned).transform(frame, batch=BATCH)
    assert_array_equal(found, want)


def test_a_refused_fit_leaves_what_was_known_of_the_batches():
    model = LinearCorrector().fit(X, batch=SEVERAL)
    with pytest.raises(BatchfixError):
        model.fit(X, batch=SEVERAL.rename(columns={"site": "run"}), keep={"id": np.arange(N)})
    model.transform(X, batch=SEVERAL[["site", "plate"]])


def test_labels_in_order_of_fit():
    factors = [np.array([1]), np.array([2])]
    assert inputs.in_order_of(["b", "a"], ["a", "b"], factors) == factors[::-1]
    for names, known in (([], ["a", "b"]), (["b", "a"], [])):
        assert inputs.in_order_of(names, known, factors) == factors


def test_tables_of_objects_may_have_numbered_columns():
    table = pd.DataFrame(X).astype(object)
    assert_array_equal(
        ComBat().fit(table, batch=BATCH).transform(table, batch=BATCH), ComBat().fit_transform(X, batch=BATCH)
    )


def test_as_many_whole_numbers_as_ages_have_are_a_number():
    years = np.arange(N) % 48 + 20.0
    model = ComBat().fit(X, batch=BATCH, keep=np.c_[years, AGE])
    assert [type(column) for column in model.statistics_.columns] == [Number, Number]
    model.transform(X[:5], batch=BATCH[:5], keep=np.c_[years, AGE][:5])


def test_merged_sites_keep_the_names_that_one_of_them_has():
    one, other = LinearCorrector().fit(X, batch=SEVERAL.to_numpy()), LinearCorrector().fit(X, batch=SEVERAL)
    turned = SEVERAL[SEVERAL.columns[::-1]]
    want = other.merge(one).transform(X, batch=SEVERAL)
    for both in (one.merge(other), other.merge(one)):
        assert_allclose(both.transform(X, batch=turned), want, rtol=0, atol=1e-12)


def test_a_batch_that_the_kept_levels_explain_is_named():
    level = np.where(np.arange(N) == 0, "rare", GROUP)
    few = np.where(np.arange(N) < 2, "small", BATCH)
    with pytest.raises(BatchfixError, match=r"in batch 'small'.*mean_only=True"):
        ComBat().fit(X, batch=few, keep={"group": level})


def test_what_is_kept_and_removed_alike_is_named_and_no_bystander():
    with pytest.raises(ConfoundedDesignError, match="'group', 'oper' follow from each other"):
        LinearCorrector().fit(
            X, batch=BATCH, keep={"group": GROUP, "age": AGE}, nuisance={"oper": GROUP, "dose": RNG.normal(size=N)}
        )


@pytest.mark.parametrize(
    "names",
    [range(P), np.linspace(100.5, 900.5, P), pd.date_range("2026-01-01", periods=P), [("m", i) for i in range(P)]],
    ids=["whole", "m/z", "dates", "tuples"],
)
@each
def test_columns_of_any_names_stay_in_order(name, names):
    table = pd.DataFrame(X)
    table.columns = pd.Index(names)
    model = made(name).fit(table, batch=BATCH)
    turned = table[table.columns[::-1]]
    with pytest.raises(BatchfixError, match="in their order"):
        model.transform(turned, batch=BATCH)
    with pytest.raises(MergeError, match="same features in the same order"):
        model.merge(made(name).fit(turned, batch=BATCH))
    adopted = made(name).fit(X, batch=BATCH).merge(model)
    with pytest.raises(BatchfixError, match="in their order"):
        adopted.transform(turned, batch=BATCH)


def test_scale_where_of_numbered_columns_goes_by_number():
    where = pd.DataFrame(RNG.random((N, P)) > 0.3)
    frame = pd.DataFrame(X)
    want, found = (
        ComBat(scale_guard=0.5).fit(frame, batch=BATCH, scale_where=mask).transform(frame, batch=BATCH)
        for mask in (where, where[where.columns[::-1]])
    )
    assert_array_equal(found, want)


def test_whole_categories_of_another_dtype_are_the_same_levels():
    codes = pd.Categorical(STAGE)
    model = ComBat().fit(X, batch=BATCH, keep={"stage": codes})
    want = model.transform(X, batch=BATCH, keep={"stage": codes})
    for same in (pd.Categorical(STAGE.astype(float)), STAGE):
        assert_array_equal(model.transform(X, batch=BATCH, keep={"stage": same}), want)
