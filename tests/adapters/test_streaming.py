"""Fitting and applying in blocks: the same as all rows at once, however they are cut, or a sentence that says why."""

import copy
import dataclasses
import importlib.util
import itertools
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.base import clone

from batchfix import (
    BatchCorrector,
    CausalCorrector,
    ComBat,
    CompositionalCorrector,
    GroupCorrector,
    InstanceCorrector,
    LinearCorrector,
    LogRatio,
    RenormCorrector,
)
from batchfix.adapters.blocks import fit_blocks, transform_blocks
from batchfix.adapters.sources import gathering
from batchfix.core.zeros import HalfMinimum
from batchfix.exceptions import (
    AlignmentError,
    AmbiguousKeepError,
    BatchfixError,
    ConfoundedDesignError,
    MergeError,
    MissingLabelError,
    TooFewSamplesError,
    UnknownBatchError,
    UnmergeableError,
)

pytestmark = pytest.mark.filterwarnings("ignore::batchfix.exceptions.BatchfixWarning")  # of small tables

N, P = 60, 5
RNG = np.random.default_rng(7)
BATCH = np.repeat(["a", "b", "c"], N // 3)[RNG.permutation(N)]
TIMES = pd.date_range("2020-01-01", periods=N, name="date")
KEEP = pd.DataFrame({"group": RNG.choice(["case", "control"], N), "age": RNG.normal(50, 9, N)})
NUISANCE = pd.DataFrame({"depth": RNG.normal(size=N), "operator": RNG.choice(["o1", "o2"], N)})
X = RNG.normal(size=(N, P)) * RNG.uniform(0.5, 3, P) + RNG.normal(size=(3, P))[np.searchsorted(["a", "b", "c"], BATCH)]
GAPS = np.where(RNG.random((N, P)) < 0.05, np.nan, X)
COUNTS = RNG.poisson(20, (N, P)).astype(float)
LONG = pd.DataFrame(
    {
        "date": np.repeat(TIMES[: N // 5], 5),
        "symbol": [f"s{k}" for k in range(5)] * (N // 5),
        "sector": ["x", "x", "y", "y", "y"] * (N // 5),
        "value": X[:, 0],
        "other": X[:, 1],
    }
)
SECTORS = ["x", "x", "y", "y", "y"]

ADDING = {
    "ComBat": (ComBat(), X, {"batch": BATCH}),
    "ComBat, one kept as numbers": (ComBat(), X, {"batch": BATCH, "keep": KEEP["age"].to_numpy()}),
    "ComBat, NaN, kept": (ComBat(), GAPS, {"batch": BATCH, "keep": KEEP}),
    "ComBat, reference": (ComBat(reference_batch="b", scale_guard=0.2), GAPS, {"batch": BATCH, "keep": KEEP}),
    "ComBat, not applied": (ComBat(keep_at_transform=False), X, {"batch": BATCH, "keep": KEEP}),
    "ComBat, nonparametric": (ComBat(parametric=False), X, {"batch": BATCH}),
    "ComBat, mean": (ComBat(mean_only=True), GAPS, {"batch": BATCH}),
    "BatchCorrector": (BatchCorrector(), GAPS, {"batch": BATCH, "keep": KEEP}),
    "BatchCorrector, standard": (BatchCorrector(target="standard"), X, {"batch": BATCH}),
    "BatchCorrector, guard": (BatchCorrector(scale_guard=0.2), COUNTS, {"batch": BATCH}),
    "LinearCorrector": (LinearCorrector(), GAPS, {"batch": BATCH, "keep": KEEP, "nuisance": NUISANCE}),
    "LinearCorrector, two": (
        LinearCorrector(),
        X,
        {"batch": pd.DataFrame({"run": BATCH, "day": NUISANCE["operator"]}), "nuisance": NUISANCE[["depth"]]},
    ),
    "Compositional": (CompositionalCorrector(zeros=HalfMinimum(1e-4)), COUNTS, {"batch": BATCH}),
    "Compositional, ComBat": (CompositionalCorrector(ComBat(), zeros=HalfMinimum(1e-4)), COUNTS, {"batch": BATCH}),
    "Compositional, abundance": (CompositionalCorrector(output="abundance"), COUNTS, {"batch": BATCH}),
    "Compositional, counts": (
        CompositionalCorrector(zeros=HalfMinimum(1e-4), output="counts", transform="ilr"),
        COUNTS,
        {"batch": BATCH},
    ),
    "Group": (GroupCorrector(SECTORS), GAPS, {}),
    "Group, shrunken": (GroupCorrector(SECTORS, shrinkage="eb"), GAPS, {}),
    "Instance": (InstanceCorrector(), GAPS, {}),
    "LogRatio": (LogRatio("ilr", zeros=HalfMinimum(1e-4)), COUNTS, {}),
    "LogRatio, robust": (LogRatio("rclr"), COUNTS, {}),
}
"""Statistics that add up in any order."""

ORDER = np.argsort(BATCH, kind="stable")
IN_ORDER = {
    "Causal": (CausalCorrector(), pd.DataFrame(GAPS, index=TIMES), {}),
    "Causal, rolling": (CausalCorrector("rolling", length=9, lag=2), GAPS, {}),
    "Causal, ewm": (CausalCorrector("ewm", halflife=4.0), GAPS, {}),
    "Causal, bridge": (CausalCorrector(bridge="clip", short=5), X, {}),
    "Causal, long": (CausalCorrector(time="date", by="symbol"), LONG.drop(columns="sector"), {}),
    "Renorm": (RenormCorrector(momentum=None), X[ORDER], {"batch": BATCH[ORDER]}),
    "Renorm, average": (RenormCorrector(start="first"), GAPS[ORDER], {"batch": BATCH[ORDER]}),
    "Group, long": (GroupCorrector(within="date", by="sector", symbol="symbol"), LONG, {}),
    "Group, long, statistics": (
        GroupCorrector(within="date", by="sector", symbol="symbol", shrinkage="eb", return_group_stats=True),
        LONG,
        {},
    ),
}
"""Rows that have an order, which blocks must keep."""

EVERY = ADDING | IN_ORDER


def pieces(table, labels, cuts, order=None):
    """Blocks between cuts, as tuples; put in another order, if wanted."""
    bounds = [0, *sorted({c for c in cuts if 0 < c < N}), N]
    found = []
    for a, b in itertools.pairwise(bounds):
        part = table.iloc[a:b] if isinstance(table, pd.DataFrame) else table[a:b]
        own = {k: v.iloc[a:b].reset_index(drop=True) if hasattr(v, "iloc") else v[a:b] for k, v in labels.items()}
        found.append((part, *(own.get(k) for k in ("batch", "keep", "nuisance"))))
    return [found[k] for k in np.argsort(order[: len(found)])] if order is not None else found


def parameters(corrector):
    """All that a fitted corrector knows in numbers, by name."""
    inner = getattr(corrector, "corrector_", corrector)
    # priors and the like are left out: of a reference batch they are ratios of rounding errors
    names = ("affine_", "coef_", "moments_", "population_", "amounts_", "state_", "zeros_", "r_", "d_")
    found = {}
    for name in names:
        found |= numbers_in(name, getattr(inner, name, None))
    return found | {"n_groups": np.array(len(getattr(corrector, "group_names_", ())))}


def numbers_in(name, value):
    """Arrays of a value and of what it is made of, by their path."""
    if isinstance(value, np.ndarray):
        return {name: value.astype(float)} if value.dtype.kind in "fi" else {}
    if isinstance(value, float):
        return {name: np.array(value)}
    parts = enumerate(value) if isinstance(value, list | tuple) else ()
    if dataclasses.is_dataclass(value):
        parts = vars(value).items()
    return {path: array for key, part in parts for path, array in numbers_in(f"{name}.{key}", part).items()}


def assert_same(mine, theirs, tolerance=1e-10):
    """Equal parameters, to so much of the largest value of each."""
    mine, theirs = parameters(mine), parameters(theirs)
    assert mine
    assert mine.keys() == theirs.keys()
    for name, value in theirs.items():
        size = np.abs(value[np.isfinite(value)]).max(initial=1.0)
        np.testing.assert_allclose(mine[name], value, rtol=tolerance, atol=tolerance * size, err_msg=name)


cuts = st.lists(st.integers(1, N - 1), max_size=12)


@pytest.mark.parametrize("name", EVERY)
def test_fitting_in_blocks_is_fitting_on_all_rows_in_any_chunks(name):
    corrector, table, labels = EVERY[name]
    whole = clone(corrector).fit(table, **labels)

    @settings(max_examples=6)
    @given(cuts)
    def check(where):
        assert_same(fit_blocks(clone(corrector), pieces(table, labels, where)), whole)

    check()


@pytest.mark.parametrize("name", ADDING)
def test_the_order_of_blocks_does_not_matter(name):
    corrector, table, labels = ADDING[name]
    whole = clone(corrector).fit(table, **labels)

    @settings(max_examples=6)
    @given(cuts, st.permutations(range(13)))
    def check(where, order):
        assert_same(fit_blocks(clone(corrector), pieces(table, labels, where, order)), whole)

    check()


@settings(max_examples=8)
@given(st.permutations(range(3)), cuts)
def test_the_population_of_a_stream_without_momentum_does_not_depend_on_order(order, where):
    rows = np.concatenate([np.flatnonzero("abc"[k] == BATCH) for k in order])
    whole = RenormCorrector(momentum=None).fit(X, batch=BATCH)
    blocks = pieces(X[rows], {"batch": BATCH[rows]}, where)
    mine = fit_blocks(RenormCorrector(momentum=None), blocks).population_
    np.testing.assert_allclose(mine.mean, whole.population_.mean, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(mine.var, whole.population_.var, rtol=1e-10)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_applying_in_blocks_is_applying_to_all_rows(name, dtype):
    corrector, table, labels = EVERY[name]
    table = table.astype(dict.fromkeys(["value", "other"], dtype)) if table is LONG else table
    table = table.astype(dtype) if isinstance(table, np.ndarray) else table
    half = table[: N // 2], {k: v[: N // 2] for k, v in labels.items()}
    fitted = clone(corrector).fit(*half[:1], **half[1]) if name.startswith("Causal") else None
    if fitted is not None:  # a past, and what comes after it
        table, labels = table[N // 2 :], {k: v[N // 2 :] for k, v in labels.items()}
    else:
        fitted = clone(corrector).fit(table, **labels)
    whole = fitted.transform(table, **labels)
    # what rows' own values are multiplied with goes through BLAS, whose sums depend on the number of rows in a call
    loaded = getattr(getattr(fitted, "affine_", None), "loading", None) is not None

    @settings(max_examples=4)
    @given(st.integers(1, N))
    def check(rows):
        found = list(transform_blocks(fitted, table, block_rows=rows, **labels))
        assert all(type(each) is type(whole) for each in found)
        together = np.concatenate([np.asarray(each) for each in found])
        assert together.dtype == np.asarray(whole).dtype
        if loaded:
            np.testing.assert_allclose(
                together, whole, rtol=0, atol=16 * np.finfo(dtype).eps * np.nanmax(np.abs(whole))
            )
        else:
            np.testing.assert_array_equal(together, whole)
        if isinstance(whole, pd.DataFrame):
            assert pd.concat(found).index.equals(whole.index)

    check()


@pytest.mark.parametrize("name", ["ComBat, NaN, kept", "LinearCorrector", "Renorm", "Causal", "Causal, long", "Group"])
def test_and_back(name):
    corrector, table, labels = EVERY[name]
    if name == "Group":
        corrector = GroupCorrector(SECTORS, return_group_stats=True)
    half = slice(0, N // 2)
    fitted = clone(corrector).fit(table[half] if "Causal" in name else table, **labels)
    if "Causal" in name:
        table = table[N // 2 :]
    corrected = fitted.transform(table, **labels)
    given_back = corrected
    if name == "Causal, long":
        given_back = table.copy()
        given_back[corrected.columns] = corrected
    found = list(transform_blocks(fitted, given_back, inverse=True, block_rows=7, **labels))
    numbers = table[["value", "other"]] if name == "Causal, long" else table
    np.testing.assert_allclose(np.concatenate(found), numbers, rtol=1e-9, atol=1e-9)  # of a few steps of arithmetic


# ---- what a fit leaves behind


def test_a_fit_replaces_the_fit_before_and_keeps_parameters_as_they_were_given():
    groups = {"x0": "x"}
    corrector = GroupCorrector(groups)
    corrector.groups = SECTORS
    fit_blocks(corrector, X)
    assert corrector.groups is SECTORS
    model = ComBat().fit(X, batch=BATCH)
    fit_blocks(model, X[BATCH != "c"], batch=BATCH[BATCH != "c"], block_rows=9)
    assert model.batches_.tolist() == ["a", "b"]


def test_after_an_error_the_corrector_is_as_it_was():
    model = ComBat().fit(X, batch=BATCH)
    before = copy.copy(vars(model))
    with pytest.raises(MissingLabelError, match="In the block of rows 40 to 49"):
        fit_blocks(model, X, batch=np.where(np.arange(N) == 41, None, BATCH), block_rows=10)
    assert vars(model) == before


def test_a_stopped_reading_leaves_the_corrector_as_it_was():
    def blocks():
        yield X[:30], BATCH[:30]
        raise KeyboardInterrupt

    model = ComBat()
    with pytest.raises(KeyboardInterrupt):
        fit_blocks(model, blocks)
    assert not hasattr(model, "statistics_")


def test_errors_of_the_design_come_from_the_fit():
    with pytest.raises(ConfoundedDesignError):
        fit_blocks(ComBat(), X, batch=BATCH, keep=pd.DataFrame({"same": BATCH}), block_rows=20)


# ---- what a block must be


def test_blocks_with_other_columns_are_named():
    frames = [pd.DataFrame(X[a : a + 20], columns=list("vwxyz")).assign(run=BATCH[a : a + 20]) for a in (0, 20, 40)]
    with pytest.raises(MergeError, match=r"block 2 \(rows 40 to 59\) lacks \['w'\]"):
        fit_blocks(ComBat(batch_key="run"), [*frames[:2], frames[2].drop(columns="w")])
    with pytest.raises(MergeError, match=r"block 1 \(rows 20 to 39\) has them in another order"):
        fit_blocks(ComBat(batch_key="run"), [frames[0], frames[1][[*"vwyxz", "run"]], frames[2]])
    with pytest.raises(MergeError, match=r"block 1 .* has 4 of them where the first has 5"):
        fit_blocks(ComBat(), [(X[:20], BATCH[:20]), (X[20:40, :4], BATCH[20:40])])


def test_blocks_have_names_all_or_none():
    frame = pd.DataFrame(X, columns=list("vwxyz"))
    for blocks, says in (
        ([(frame[:30], BATCH[:30]), (X[30:], BATCH[30:])], "has no names for them where the first has"),
        ([(X[:30], BATCH[:30]), (frame[30:], BATCH[30:])], "has names where the first has none"),
    ):
        with pytest.raises(MergeError, match=rf"block 1 \(rows 30 to 59\) {says}"):
            fit_blocks(BatchCorrector(), blocks)


def test_errors_of_scikit_learn_say_where_they_are():
    with pytest.raises(BatchfixError, match="In the block of rows 30 to 59: Complex data not supported"):
        fit_blocks(BatchCorrector(), [(X[:30], BATCH[:30]), (X[30:] + 1j, BATCH[30:])])


def test_a_generator_that_was_fitted_to_gives_no_more():
    blocks = (each for each in pieces(X, {"batch": BATCH}, [30]))
    model = fit_blocks(BatchCorrector(), blocks)
    with pytest.raises(BatchfixError, match="Pass a list, or a function that returns a fresh iterator"):
        list(transform_blocks(model, blocks))


def test_kept_columns_of_a_file_are_numbers_if_any_is_no_whole_one(tmp_path):
    dose = np.where(np.arange(N) < 30, 1 + np.arange(N) % 3, 2.41)
    frame = pd.DataFrame(X, columns=list("vwxyz")).assign(run=BATCH, dose=[f"{each:g}" for each in dose])
    frame.to_csv(tmp_path / "t.csv")
    whole = LinearCorrector().fit(X, batch=BATCH, keep={"dose": dose})
    for rows in (7, 30, N):
        model = LinearCorrector(batch_key="run", keep_keys=["dose"])
        assert_same(fit_blocks(model, tmp_path / "t.csv", block_rows=rows), whole)


def test_own_labels_of_a_stream_are_found_by_their_index():
    index = pd.Index([f"r{k}" for k in range(N)])
    frame, days = pd.DataFrame(X, index=index, columns=list("vwxyz")), pd.Series(np.repeat(["p", "q", "r"], 20), index)
    own = [(frame[a : a + 30], days[a : a + 30][::-1]) for a in (0, 30)]
    assert_same(fit_blocks(RenormCorrector(), own), fit_blocks(RenormCorrector(), frame, batch=days))


def test_keys_in_blocks_are_found():
    frame = pd.DataFrame(X, columns=list("vwxyz")).assign(run=BATCH, age=KEEP["age"])
    model = ComBat(batch_key="run", keep_keys=["age"])
    blocks = [frame[a : a + 7] for a in range(0, N, 7)]
    whole = clone(model).fit(frame)
    assert_same(fit_blocks(clone(model), lambda: iter(blocks)), whole)
    assert list(next(transform_blocks(whole, blocks)).columns) == list("vwxyz")


def test_a_level_that_arrives_late_counts():
    order = np.argsort(KEEP["group"].to_numpy(), kind="stable")  # all cases come first
    labels = {"batch": BATCH[order], "keep": KEEP["group"].to_numpy()[order]}
    whole = ComBat().fit(X[order], **labels)
    assert_same(fit_blocks(ComBat(), X[order], block_rows=6, **labels), whole)


def test_a_batch_in_one_block_only_counts():
    whole = ComBat().fit(X[ORDER], batch=BATCH[ORDER])
    assert_same(fit_blocks(ComBat(), X[ORDER], batch=BATCH[ORDER], block_rows=20), whole)


def test_what_a_kept_column_is_does_not_depend_on_the_first_block():
    ages = [30, 41, 52] * 7 + [30.5] * (N - 21)  # whole numbers at first
    whole = ComBat().fit(X, batch=BATCH, keep=ages)
    assert_same(fit_blocks(ComBat(), X, batch=BATCH, keep=ages, block_rows=10), whole)
    codes = np.column_stack([np.arange(N) % 3, np.arange(N) % 4]).astype(float)
    for fit in (ComBat().fit, lambda *a, **k: fit_blocks(ComBat(), *a, block_rows=10, **k)):
        with pytest.raises(AmbiguousKeepError, match="'keep0'"):
            fit(X, batch=BATCH, keep=codes)


def test_a_stream_batch_is_gathered_and_may_not_come_back():
    labels = np.array(["a"] * 25 + ["b"] * 35)
    whole = RenormCorrector().fit(X, batch=labels)
    assert_same(fit_blocks(RenormCorrector(), X, batch=labels, block_rows=4), whole)
    labels[50:] = "a"
    with pytest.raises(BatchfixError, match=r"Rows of one batch must stand together.*'a' came to its end"):
        fit_blocks(RenormCorrector(), X, batch=labels, block_rows=4)
    with pytest.raises(MissingLabelError, match="without labels, each block would be a batch"):
        fit_blocks(RenormCorrector(), X, block_rows=4)


def test_batches_that_stand_mixed_do_not_fill_memory(monkeypatch):
    monkeypatch.setattr(gathering, "HELD_BYTES", 20 * P * 8)
    with pytest.raises(BatchfixError, match="from row 0 on, 3 of them stand mixed"):
        fit_blocks(RenormCorrector(), X, batch=np.resize(["a", "b", "c"], N), block_rows=6)
    alone = np.repeat(["a", "b"], [5, N - 5])  # one that is larger must be held all the same
    assert_same(fit_blocks(RenormCorrector(), X, batch=alone, block_rows=6), RenormCorrector().fit(X, batch=alone))


def test_labels_of_other_kinds_in_later_blocks_are_refused():
    blocks = [(X[:20], [1] * 20), (X[20:30], [1] * 10), (X[30:40], ["1"] * 10), (X[40:], [2] * 20)]
    for corrector in (RenormCorrector(), ComBat()):
        with pytest.raises(BatchfixError):
            fit_blocks(corrector, blocks)


def test_a_date_that_comes_back_is_refused():
    shuffled = pd.concat([LONG[:7], LONG[10:], LONG[7:10]])  # the second date in two places
    model = GroupCorrector(within="date", by="sector", symbol="symbol").fit(LONG)
    for run in (
        lambda: fit_blocks(clone(model), shuffled, block_rows=4),
        lambda: list(transform_blocks(model, shuffled, block_rows=4)),
    ):
        with pytest.raises(BatchfixError, match="Rows of one date must stand together"):
            run()


def test_time_that_falls_is_refused():
    model = CausalCorrector()
    with pytest.raises(BatchfixError, match=r"rows 30 to 39.*later than those already seen"):
        fit_blocks(model, pd.DataFrame(X, index=TIMES[np.r_[30:60, 0:30]]), block_rows=10)
    with pytest.raises(TooFewSamplesError):
        fit_blocks(CausalCorrector("rolling", length=N + 1), X, block_rows=10)


# ---- what is refused


def test_what_does_not_add_up_is_refused_before_anything_is_read():
    def never():
        raise AssertionError("read")

    for corrector in (CompositionalCorrector(), LogRatio(), CompositionalCorrector(ComBat(), transform="rclr")):
        with pytest.raises(UnmergeableError):
            fit_blocks(corrector, never)
    with pytest.raises(BatchfixError, match="Pass the target as keep"):
        fit_blocks(ComBat(keep_y=True), never)


def test_medians_do_not_add_up():
    with pytest.raises(MergeError, match="median"):
        fit_blocks(BatchCorrector(location="median"), X, batch=BATCH, block_rows=30)


def test_rows_of_one_call_that_are_learned_together_are_refused():
    model = ComBat(handle_unknown="adapt").fit(X, batch=BATCH)
    for each in (model, CompositionalCorrector(handle_unknown="adapt").fit(COUNTS, batch=BATCH)):
        with pytest.raises(BatchfixError, match="Call adapt"):
            transform_blocks(each, X, batch=BATCH)


def test_unknown_batches_are_as_in_transform():
    model = ComBat().fit(X, batch=BATCH)
    with pytest.raises(UnknownBatchError, match="In the block of rows 50 to 59: Batch 'z'"):
        list(transform_blocks(model, X, batch=np.where(np.arange(N) < 55, BATCH, "z"), block_rows=10))


@pytest.mark.parametrize("role", ["batch", "keep", "nuisance"])
def test_labels_that_nobody_takes_are_refused(role):
    with pytest.raises(BatchfixError, match=f"InstanceCorrector takes no {role}"):
        fit_blocks(InstanceCorrector(), X, **{role: BATCH})


def test_a_label_too_few_or_too_many():
    for n in (N - 1, N + 1):
        with pytest.raises(AlignmentError, match=f"got {n}"):
            fit_blocks(ComBat(), X, batch=np.resize(BATCH, n))
        with pytest.raises(AlignmentError, match=f"got {n}"):
            fit_blocks(ComBat(), [X[:30], X[30:]], batch=np.resize(BATCH, n))


# ---- containers


def test_dask_tables_are_handed_on():
    da = pytest.importorskip("dask.array")
    lazy = da.from_array(X, chunks=(17, P))
    whole = ComBat().fit(X, batch=BATCH)
    model = ComBat()
    assert fit_blocks(model, lazy, batch=BATCH) is model
    assert_same(model, whole)
    found = transform_blocks(model, lazy, batch=BATCH)
    np.testing.assert_array_equal(found.compute(), model.transform(X, batch=BATCH))
    out = np.empty_like(X)
    assert transform_blocks(model, lazy, batch=BATCH, out=out) is out
    np.testing.assert_array_equal(out, model.transform(X, batch=BATCH))


def test_polars_tables_come_in_blocks():
    pl = pytest.importorskip("polars")
    frame = pl.DataFrame(LONG.to_dict("list"))
    model = GroupCorrector(within="date", by="sector", symbol="symbol", scale=None).fit(LONG)
    found = list(transform_blocks(fit_blocks(clone(model), frame, block_rows=7), frame, block_rows=7))
    assert all(isinstance(each, pl.DataFrame) for each in found)
    np.testing.assert_array_equal(pl.concat(found).to_numpy(), model.transform(LONG).to_numpy())


# ---- out


def test_out_takes_arrays_and_returns_them():
    model = ComBat().fit(X, batch=BATCH)
    out = np.empty((N, P), dtype=np.float32)
    assert transform_blocks(model, X, batch=BATCH, out=out, block_rows=7) is out
    np.testing.assert_allclose(out, model.transform(X, batch=BATCH), rtol=1e-6)  # of float32
    again = X.copy()
    transform_blocks(model, again, batch=BATCH, out=again, block_rows=7)  # in place
    np.testing.assert_array_equal(again, model.transform(X, batch=BATCH))


def test_rows_that_are_only_numbered_are_numbered_on(tmp_path):
    model = ComBat().fit(X, batch=BATCH).set_output(transform="pandas")
    found = pd.concat(list(transform_blocks(model, X, batch=BATCH, block_rows=7)))
    pd.testing.assert_frame_equal(found, model.transform(X, batch=BATCH))
    frames = [(pd.DataFrame(X[a : a + 20]), BATCH[a : a + 20]) for a in (0, 20, 40)]  # each from 0
    transform_blocks(ComBat().fit(X, batch=BATCH), frames, out=tmp_path / "t.csv")
    assert pd.read_csv(tmp_path / "t.csv", index_col=0).index.tolist() == list(range(N))


def test_a_failure_on_the_way_leaves_the_old_file(tmp_path):
    model, path = ComBat().fit(X, batch=BATCH), tmp_path / "out.npy"
    np.save(path, np.arange(3.0))
    bad = X.copy()
    bad[-1, -1] = np.inf
    with pytest.raises(BatchfixError, match="In the block of rows 56 to 59: X must be finite"):
        transform_blocks(model, bad, batch=BATCH, out=path, block_rows=7)
    assert np.load(path).tolist() == [0, 1, 2]
    assert [each.name for each in tmp_path.iterdir()] == ["out.npy"]


def test_blocks_of_other_dtypes_are_not_rounded(tmp_path):
    model = ComBat().fit(X, batch=BATCH)
    blocks = [(X[:30].astype(np.float32), BATCH[:30]), (X[30:], BATCH[30:])]
    with pytest.raises(BatchfixError, match="must have one dtype, got float32 and then float64"):
        transform_blocks(model, blocks, out=tmp_path / "out.npy")


def test_an_iterator_makes_blocks_when_they_are_asked_for():
    asked = []

    def blocks():
        for a in range(0, N, 20):
            asked.append(a)
            yield X[a : a + 20], BATCH[a : a + 20]

    found = transform_blocks(ComBat().fit(X, batch=BATCH), blocks)
    assert asked == []
    next(found)
    assert asked == [0]


def test_copy_false_does_not_spoil_the_past():
    model = CausalCorrector(copy=False).fit(X[:30].copy())
    whole = CausalCorrector().fit(X[:30]).transform(X[30:])
    found = np.concatenate(list(transform_blocks(model, X[30:].copy(), block_rows=4)))
    np.testing.assert_array_equal(found, whole)


def test_progress_is_told():
    shares = []
    fit_blocks(ComBat(), X, batch=BATCH, block_rows=20, progress=shares.append)
    assert shares == pytest.approx([1 / 3, 2 / 3, 1])


def test_memory_does_not_grow_with_rows(tmp_path):
    def peak(n):
        source = np.lib.format.open_memmap(tmp_path / "in.npy", "w+", np.float32, (n, 100))
        source[:] = np.random.default_rng(0).standard_normal((n, 100), dtype=np.float32)
        batch = np.arange(n) % 4
        tracemalloc.start()
        model = fit_blocks(ComBat(), source, batch=batch, block_rows=1000)
        transform_blocks(model, source, batch=batch, block_rows=1000, out=tmp_path / "out.npy")
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(2000)  # what is loaded on first use
    small, large = peak(4000), peak(16000)
    assert large < small + 16000 * 100 * 4 / 8  # labels, and what threads happen to hold; not the table


def test_the_benchmark_runs_at_a_small_size(tmp_path):
    place = Path(__file__).parent.parent / "benchmarks" / "bench_scale.py"
    spec = importlib.util.spec_from_file_location("bench_scale", place)
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    pytest.importorskip("distributed")
    found = bench.measure("20000x100x6", tmp_path, by_dask=True)
    assert found["combat"]["off"] < 1e-6
    assert found["combat"]["megabytes"] < 600
    assert found["dask"]["off"] < 1e-6
    assert found["dask"]["megabytes"] < 1000
    np.testing.assert_allclose(np.load(tmp_path / "dask.npy"), np.load(tmp_path / "combat.npy"), rtol=1e-5, atol=1e-5)
    assert np.load(tmp_path / "combat.npy", mmap_mode="r").shape == (20000, 100)


@pytest.mark.parametrize("corrector", [ComBat(), BatchCorrector()])
@pytest.mark.parametrize("size", [1e-3, 1e-6, 1e-9])
def test_a_feature_that_is_nearly_explained_is_corrected_as_in_memory(corrector, size):
    age = KEEP["age"].to_numpy()
    table = np.column_stack([X, 2 * age + size * np.random.default_rng(1).normal(size=N)])
    want = clone(corrector).fit_transform(table, batch=BATCH, keep=age)
    got = fit_blocks(corrector, table, batch=BATCH, keep=age, block_rows=7).transform(table, batch=BATCH, keep=age)
    unit = np.r_[np.ones(X.shape[1]), size]
    rounding = np.finfo(float).eps * np.abs(table).max()
    assert np.abs((got - want) / unit).max() < 1e-10 + 4 * rounding / size


@pytest.mark.parametrize("dtype", [np.float64, np.int64])
def test_sparse_numbers_are_corrected_as_dense_ones(dtype):
    values = (COUNTS * 1e7 + RNG.integers(0, 9, (N, P))).astype(dtype)  # float32 would round these
    thin, model = sparse.csr_matrix(values), BatchCorrector().fit(values, batch=BATCH)
    found = fit_blocks(BatchCorrector(), thin, batch=BATCH, block_rows=7)
    again, want = (each.transform(values, batch=BATCH) for each in (found, model))
    np.testing.assert_allclose(again, want, rtol=1e-12)  # sums in another order
    for source in (thin, [thin[:9], thin[9:]]):
        blocks = list(transform_blocks(model, source, batch=BATCH, block_rows=7))
        np.testing.assert_array_equal(np.concatenate(blocks), model.transform(values, batch=BATCH), strict=True)
