"""dask: chunks fitted where they lie give what one fit on all rows gives, wherever they lie."""

import logging
import os
import signal
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from batchfix import BatchCorrector, ComBat, LinearCorrector, fit_blocks, transform_blocks
from batchfix.core.zeros import HalfMinimum
from batchfix.correctors import (
    CausalCorrector,
    CompositionalCorrector,
    GroupCorrector,
    InstanceCorrector,
    RenormCorrector,
)
from batchfix.exceptions import (
    AlignmentError,
    AmbiguousKeepError,
    BatchfixError,
    ConfoundedDesignError,
    DataScaleWarning,
    MergeError,
    UnknownBatchError,
    UnmergeableError,
)

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")
dd = pytest.importorskip("dask.dataframe")
adapter = pytest.importorskip("batchfix.adapters.dask.lazy")
fit, transform, store = adapter.fit, adapter.transform, adapter.store

CORRECTORS = {
    "combat": ComBat(),
    "combat, mean only": ComBat(mean_only=True),
    "combat, guarded": ComBat(scale_guard=0.2),
    "batch": BatchCorrector(),
    "batch, shrunk, standard": BatchCorrector(shrinkage="eb", target="standard"),
    "linear": LinearCorrector(),
}
seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(autouse=True)
def _one_thread():
    """Tasks in the test's own thread, but where a test says otherwise."""
    with dask.config.set(scheduler="synchronous"):
        yield


def rows(seed=0, n=60, p=5, missing=0.0):
    """A table, and batch, group and age of its rows."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p)) * rng.uniform(0.5, 2.0, p) + rng.normal(size=p) * 3
    batch = np.array(["a", "b", "c"])[np.r_[np.repeat([0, 1, 2], 4), rng.integers(0, 3, n - 12)]]
    keep = pd.DataFrame(
        {
            "group": np.array(["u", "v"])[np.r_[np.tile([0, 1], 6), rng.integers(0, 2, n - 12)]],
            "age": rng.normal(size=n),
        }
    )
    X += (batch == "b")[:, None] * rng.normal(size=p)
    gaps = rng.random((n, p)) < missing
    gaps[:12] = False  # every batch keeps observed rows
    X[gaps] = np.nan
    return X, batch, keep


def cuts(draw, n):
    """Lengths of chunks that n rows may be cut into, 0 among them."""
    ends = sorted(draw(st.lists(st.integers(0, n), max_size=8)))
    return tuple(np.diff([0, *ends, n]).tolist())


def assert_same(one, two, tolerance=1e-10):
    """Equal maps: sums over other parts differ by rounding, some 1e-15 of values near 1."""
    for name in ("center", "scale", "shift"):
        assert_allclose(getattr(one.affine_, name), getattr(two.affine_, name), rtol=tolerance, atol=tolerance)
    assert_array_equal(one.batches_, two.batches_)
    assert one.batch_counts_ == two.batch_counts_


@pytest.mark.filterwarnings("ignore::batchfix.exceptions.BatchfixWarning")  # rare cells have few values
@settings(max_examples=60)
@given(data=st.data(), seed=seeds, name=st.sampled_from(sorted(CORRECTORS)), missing=st.sampled_from([0.0, 0.2]))
def test_any_chunking_is_the_fit_on_all_rows(data, seed, name, missing):
    X, batch, keep = rows(seed, missing=missing)
    chunks = (cuts(data.draw, len(X)), cuts(data.draw, X.shape[1]))
    lazy = da.from_array(X, chunks=chunks)
    ours = fit(clone(CORRECTORS[name]), lazy, batch=batch, keep=keep, split_every=data.draw(st.integers(2, 9)))
    theirs = clone(CORRECTORS[name]).fit(X, batch=batch, keep=keep)
    assert_same(ours, theirs)
    assert vars(ours).keys() == vars(theirs).keys()
    corrected = transform(ours, lazy, batch=batch, keep=keep)
    assert corrected.chunks[0] == tuple(n for n in chunks[0] if n)
    # what is kept enters as a matrix product, whose last bit depends on how many rows it has
    whole = ours.transform(X, batch=batch, keep=keep)
    assert_allclose(corrected.compute(), whole, rtol=1e-13, atol=1e-14 * np.nanmax(np.abs(X)))


def test_a_batch_may_be_absent_from_chunks_and_unobserved_in_one():
    X, batch, _ = rows()
    order = np.argsort(batch, kind="stable")  # each chunk has one batch or two
    X, batch = X[order], batch[order]
    X[:20] = np.nan  # all NaN in the first four of twelve chunks
    assert (batch[:20] == "a").all()
    assert_same(fit(ComBat(), da.from_array(X, chunks=(5, 5)), batch=batch), ComBat().fit(X, batch=batch))


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16])
def test_the_result_is_what_was_promised(dtype, inverse):
    X, batch, _ = rows()
    X = (10 * X).astype(dtype)
    lazy = da.from_array(X, chunks=(25, 2))
    corrector = fit(ComBat(), lazy, batch=batch)
    out = transform(corrector, lazy, batch=batch, inverse=inverse)
    whole = (corrector.inverse_transform if inverse else corrector.transform)(X, batch=batch)
    assert (out.dtype, out.shape, out.chunks[0]) == (whole.dtype, whole.shape, (25, 25, 10))
    assert_array_equal(out.compute(), whole)


# ---- dataframes


def frame(**more):
    X, batch, keep = rows()
    table = pd.DataFrame(X, columns=list("pqrst"), index=pd.Index([f"s{i:03}" for i in range(len(X))], name="sample"))
    return table.assign(plate=batch, group=keep["group"].to_numpy(), age=keep["age"].to_numpy(), **more)


@pytest.mark.parametrize("category", [False, True])
def test_keys_name_columns_of_a_dataframe(category):
    table = frame().astype({"plate": "category"} if category else {})
    lazy = dd.from_pandas(table, npartitions=4)
    if category:
        lazy["plate"] = lazy["plate"].cat.as_unknown()
    model = ComBat(batch_key="plate", keep_keys=["group", "age"])
    assert_same(fit(clone(model), lazy), clone(model).fit(table))
    corrector = model.fit(table)
    out = transform(corrector, lazy)
    pd.testing.assert_frame_equal(out.compute(), corrector.transform(table), check_index_type=False)
    assert_array_equal(out.columns, list("pqrst"))
    assert out.divisions == lazy.divisions
    assert out._meta.index.name == "sample"


@pytest.mark.parametrize(
    "dtypes",
    [
        {"p": "float32", "q": "float32"},
        {"p": "float32", "q": "float64"},
        {"p": "float32", "q": "int8"},
        {"p": "float32", "q": "int64"},
        {"p": "Float32", "q": "Float32"},
        {"p": "Float32", "q": "float32"},
        {"p": "Float32", "q": "Int8"},
        {"p": "float32", "q": "bool"},
        {"p": "float32", "q": "object"},
    ],
    ids=str,
)
def test_the_dtype_is_known_beforehand(dtypes):
    table = pd.DataFrame({"p": [1.0, 0, 1, 1, 0, 1], "q": [0.0, 1, 1, 0, 1, 1]}).astype(dtypes)
    batch = np.array(list("aabbab"))
    corrector = BatchCorrector(scale=None).fit(table, batch=batch)
    whole = corrector.transform(table, batch=batch)
    with dask.config.set({"dataframe.convert-string": False}):
        out = transform(corrector, dd.from_pandas(table, npartitions=2), batch=batch)
    assert_array_equal(out.dtypes, whole.dtypes)
    pd.testing.assert_frame_equal(out.compute(), whole)


def test_numbered_columns_and_empty_partitions():
    table = frame()[list("pqrst")].set_axis(range(5), axis=1)
    batch = frame()["plate"]
    lazy = dd.from_pandas(table, npartitions=4)
    lazy = dd.concat([lazy[lazy.index < "s020"], lazy[lazy.index >= "s020"]], interleave_partitions=False)
    corrector = fit(ComBat(), lazy, batch=batch)
    assert_same(corrector, ComBat().fit(table, batch=batch))
    out = transform(corrector, lazy, batch=batch).compute()
    pd.testing.assert_frame_equal(out, corrector.transform(table, batch=batch), check_index_type=False)


def test_instances_and_groups_have_rows_of_their_own():
    X = frame()[list("pqrst")]
    lazy = dd.from_pandas(X, npartitions=3)
    rowwise = InstanceCorrector(return_group_stats=True)
    out = transform(fit(rowwise, lazy), lazy)
    pd.testing.assert_frame_equal(out.compute(), rowwise.transform(X), check_index_type=False)
    pd.testing.assert_frame_equal(
        transform(rowwise, out, inverse=True).compute(),
        rowwise.inverse_transform(rowwise.transform(X)),
        check_index_type=False,
    )
    shrunken = GroupCorrector(groups=["u", "u", "v", "v", "v"], shrinkage="eb")
    assert_allclose(fit(shrunken, lazy).amounts_, clone(shrunken).fit(X).amounts_, rtol=1e-10)


def test_dates_of_a_long_table_must_share_a_chunk():
    days = pd.DataFrame(
        {
            "date": np.repeat(pd.date_range("2020", periods=10), 6),
            "sector": list("uuvvvv") * 10,
            "x": np.random.default_rng(0).normal(size=60),
        }
    )
    model = GroupCorrector(by="sector", within="date")
    with pytest.raises(BatchfixError, match=r"X\.set_index\('date'\)"):
        fit(model, dd.from_pandas(days, npartitions=4))
    lazy = dd.from_pandas(days.set_index("date"), npartitions=4)
    out = transform(fit(model, lazy), lazy)
    pd.testing.assert_frame_equal(out.compute(), model.transform(days.set_index("date")))


def test_compositions():
    counts = np.random.default_rng(0).poisson(20, size=(60, 6)) + 1
    _, batch, _ = rows()
    lazy = da.from_array(counts, chunks=(17, 6))
    model = CompositionalCorrector(BatchCorrector(), zeros=HalfMinimum(1e-4), output="composition")
    ours = fit(clone(model), lazy, batch=batch)
    theirs = clone(model).fit(counts, batch=batch)
    assert_same(ours.corrector_, theirs.corrector_)
    assert_array_equal(transform(ours, lazy, batch=batch).compute(), ours.transform(counts, batch=batch))


def test_corrected_counts_are_not_narrowed():
    counts = np.random.default_rng(0).poisson(20, size=(60, 6)).astype(np.float32) + 1
    _, batch, _ = rows()
    model = CompositionalCorrector(BatchCorrector(scale=None), zeros=HalfMinimum(1e-4), output="counts")
    whole = model.fit(counts, batch=batch).transform(counts, batch=batch)
    out = transform(model, da.from_array(counts, chunks=(17, 6)), batch=batch)
    assert out.dtype == out.compute().dtype == whole.dtype == np.float64
    assert_array_equal(out.compute(), whole)


def test_a_stream_is_applied_in_any_order():
    X, batch, _ = rows()
    corrector = RenormCorrector().fit(X, batch=batch)
    out = transform(corrector, da.from_array(X, chunks=(17, 5)), batch=batch)
    assert_array_equal(out.compute(), corrector.transform(X, batch=batch))


def test_several_batch_factors_and_a_nuisance():
    X, batch, keep = rows()
    labels = {"batch": pd.DataFrame({"day": batch, "device": np.arange(60) % 2}), "nuisance": keep["age"]}
    lazy = da.from_array(np.c_[X, np.arange(60) % 5], chunks=(17, 6))
    whole = LinearCorrector(keep_keys=[5], keep_factors=[5]).fit(lazy.compute(), **labels)
    ours = fit(clone(whole), lazy, **labels)
    assert_same(ours, whole)
    assert_allclose(ours.coef_, whole.coef_, atol=1e-10)
    assert transform(ours, lazy, **labels).shape == (60, 5)


def test_sparse_chunks():
    X, batch, _ = rows()
    X[np.abs(X) < 1] = 0
    lazy = da.from_array(X, chunks=(25, 5)).map_blocks(sparse.csr_matrix)
    assert_same(fit(ComBat(), lazy, batch=batch), ComBat().fit(X, batch=batch))


# ---- labels


def unknown(array):
    """The same array, of chunks whose lengths nobody knows."""
    rest = array[da.ones(array.shape[0], chunks=array.chunks[0], dtype=bool)]
    assert np.isnan(rest.shape[0])
    return rest


LABELS = {
    "array": lambda s: s.to_numpy(),
    "list": lambda s: s.to_list(),
    "series": lambda s: s,
    "categorical": pd.Categorical,
    "lazy array": lambda s: da.from_array(s.to_numpy().astype("U1"), chunks=7),
    "table": lambda s: s.to_frame(),
    "mapping": lambda s: {"plate": s.to_numpy()},
}


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_an_array(kind, known):
    X, batch, keep = rows()
    labels, age = LABELS[kind](pd.Series(batch, name="plate")), da.from_array(keep["age"].to_numpy(), chunks=25)
    lazy = da.from_array(X, chunks=(25, 5))
    if not known:
        labels = da.from_array(batch, chunks=25) if kind == "lazy array" else labels
        lazy = unknown(lazy)
    keep = {"group": keep["group"].to_list(), "age": age}
    corrector = fit(ComBat(), lazy, batch=labels, keep=keep)
    assert_same(corrector, ComBat().fit(X, batch=batch, keep={**keep, "age": age.compute()}))
    out = transform(corrector, lazy, batch=labels, keep=keep)
    assert_array_equal(out.compute(), corrector.transform(X, batch=batch, keep={**keep, "age": age.compute()}))


@pytest.mark.parametrize(
    "lazily",
    [
        lambda s: s.sample(frac=1, random_state=0),
        lambda s: s.to_numpy(),
        lambda s: dd.from_pandas(s, npartitions=4),
        lambda s: dd.from_pandas(s, npartitions=3),
        lambda s: dd.from_pandas(pd.concat([s, s.set_axis([f"t{i:03}" for i in range(60)])]), npartitions=3),
        lambda s: dd.from_pandas(s, npartitions=4, sort=False),
        lambda s: dd.from_pandas(s, npartitions=4).values,
    ],
    ids=["another order", "array", "lazy", "cut elsewhere", "of more rows", "divisions unknown", "lazy array"],
)
def test_labels_of_a_dataframe(lazily):
    table = frame()
    X, plates = table[list("pqrst")], table["plate"]
    lazy = dd.from_pandas(X, npartitions=4)
    with dask.config.set({"dataframe.convert-string": False}):
        labels = lazily(plates)
    assert_same(fit(ComBat(), lazy, batch=labels), ComBat().fit(X, batch=plates))


def test_columns_of_a_mapping_go_each_by_its_own_index():
    X, batch, keep = rows()
    table = pd.DataFrame(X, columns=list("pqrst"), index=[f"r{k:02d}" for k in range(60)])
    longer = pd.Series([*keep["group"], "u"], index=[*table.index, "none"]).sample(frac=1, random_state=1)
    how = {"batch": batch, "keep": {"group": longer, "age": keep["age"].to_numpy()}}
    whole = LinearCorrector().fit(table, **how)
    lazy = dd.from_pandas(table, npartitions=3)
    assert_same(fit(LinearCorrector(), lazy, **how), whole)
    assert_allclose(transform(whole, lazy, **how).compute(), whole.transform(table, **how), atol=1e-12)


def test_an_index_that_starts_anew_in_each_partition_is_no_index():
    X, batch, _ = rows()
    table = pd.DataFrame(X, columns=list("pqrst"))
    parts = [dask.delayed(table[a : a + 20].reset_index(drop=True)) for a in (0, 20, 40)]
    lazy = dd.from_delayed(parts, meta=table[:0])
    with pytest.raises(AlignmentError, match="Row ids must not come twice"):
        fit(ComBat(), lazy, batch=pd.Series(batch))
    assert_same(fit(ComBat(), lazy, batch=batch), ComBat().fit(X, batch=batch))


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (lambda b: b[:-1], "59 for 60 rows"),
        (lambda b: da.from_array(b[:-1], chunks=20), "59 for 60 rows"),
        (lambda b: unknown(da.from_array(b, chunks=30)), "2 chunks for 3"),
        (lambda b: unknown(da.from_array(b, chunks=((10, 30, 20),))), r"Chunk 0 of 3: batch .* 10 for 20 rows"),
        (lambda b: np.where(np.arange(60) == 31, None, b), r"Chunk 1 of 3: .*\(at 11\)"),
    ],
)
def test_labels_that_do_not_belong(labels, says):
    X, batch, _ = rows()
    corrector = ComBat()
    with pytest.raises(BatchfixError, match=says):
        fit(corrector, da.from_array(X, chunks=(20, 5)), batch=labels(batch))
    assert vars(corrector) == vars(ComBat())


def test_what_columns_are_is_decided_once():
    X, batch, _ = rows()
    lazy = da.from_array(X, chunks=(20, 5))
    whole = np.where(np.arange(60) < 30, 1, 1.5).astype(object)  # the first chunk has whole numbers only
    codes = np.c_[np.arange(60) % 2 + (np.arange(60) > 40), np.arange(60) / 7]  # 2 is in the last chunk only
    assert_same(fit(ComBat(), lazy, batch=batch, keep=whole), ComBat().fit(X, batch=batch, keep=whole))
    with pytest.raises(AmbiguousKeepError, match="keep0"):
        fit(ComBat(), lazy, batch=batch, keep=codes)


# ---- what is refused


@da.as_gufunc(signature="(i)->(i)", output_dtypes=float)
def unreadable(X):
    raise AssertionError("read")


@pytest.mark.parametrize(
    ("corrector", "error", "says"),
    [
        (BatchCorrector(location="median"), UnmergeableError, "median"),
        (CompositionalCorrector(), UnmergeableError, "zeros="),
        (CausalCorrector(), MergeError, "fit_blocks"),
        (RenormCorrector(), MergeError, "fit_blocks"),
        (make_pipeline(ComBat()), MergeError, "Pipeline"),
        (ComBat(keep_y=True), BatchfixError, "keep_y"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_statistics_that_do_not_add_up_are_refused_unread(corrector, error, says):
    with pytest.raises(error, match=says):
        fit(corrector, unreadable(da.ones((6, 2), chunks=(3, 2))), batch=np.array(list("aabbab")))


def test_what_depends_on_other_rows_is_not_corrected_by_chunks():
    X, batch, _ = rows()
    lazy = da.from_array(X, chunks=(20, 5))
    with pytest.raises(BatchfixError, match="adapt"):
        transform(ComBat(handle_unknown="adapt").fit(X, batch=batch), lazy, batch=batch)
    with pytest.raises(BatchfixError, match="transform_blocks"):
        transform(CausalCorrector().fit(X), lazy)


@pytest.mark.parametrize("X", [np.ones((4, 2)), da.ones(4), "table"], ids=["array", "1-D", "text"])
def test_other_tables_are_refused(X):
    with pytest.raises(BatchfixError, match="X must"):
        fit(ComBat(), X)


@pytest.mark.parametrize("corrector", [ComBat(), GroupCorrector(), CausalCorrector(), CompositionalCorrector()])
def test_correctors_by_themselves_point_here(corrector):
    for X in (da.ones((4, 2)), dd.from_pandas(pd.DataFrame(np.ones((4, 2))), npartitions=1)):
        with pytest.raises(BatchfixError, match="fit_blocks"):
            corrector.fit(X)


def test_errors_name_the_chunk_and_leave_the_corrector_as_it_was():
    X, batch, _ = rows()
    corrector = ComBat().fit(X[:40], batch=batch[:40])
    before = dict(vars(corrector))
    infinite = X.copy()
    infinite[45, 2] = np.inf
    with pytest.raises(BatchfixError, match="Chunk 2 of 3: X must be finite"):
        fit(corrector, da.from_array(infinite, chunks=(20, 5)), batch=batch)
    narrow = [dask.delayed(pd.DataFrame(part)) for part in (X[:20], X[20:40, :4], X[40:])]
    with pytest.raises(BatchfixError, match="chunk 1 of 3 has 0, 1, 2, 3"):
        fit(corrector, dd.from_delayed(narrow, meta=pd.DataFrame(X[:0]), verify_meta=False), batch=batch)
    kinds = [dask.delayed(np.asarray)(part) for part in (batch[:20], np.arange(40) % 3)]
    mixed = da.concatenate([da.from_delayed(part, (n,), object) for part, n in zip(kinds, (20, 40), strict=True)])
    with pytest.raises(MergeError, match=r"Chunk 1 of 2: .*one kind"):
        fit(corrector, da.from_array(X, chunks=((20, 40), 5)), batch=mixed)
    with pytest.raises(ConfoundedDesignError):
        fit(corrector, da.from_array(X, chunks=(20, 5)), batch=batch, keep=batch)
    for split_every in (1, 2.5, "8", True):
        with pytest.raises(BatchfixError, match="split_every must be a whole number, 2 or more"):
            fit(corrector, da.from_array(X, chunks=(20, 5)), batch=batch, split_every=split_every)
    assert vars(corrector) == before
    known, last = ComBat().fit(X, batch=batch), np.where(np.arange(60) == 59, "new", batch)
    with pytest.raises(UnknownBatchError, match="Chunk 2 of 3: Batch 'new'"):
        transform(known, da.from_array(X, chunks=(20, 5)), batch=last).compute()


@pytest.mark.parametrize(
    ("option", "says"),
    [({"block_rows": 7}, r"block_rows=7.*X\.rechunk"), ({"progress": True}, r"progress=True.*ProgressBar")],
)
def test_options_of_blocks_are_refused(option, says):
    X, batch, _ = rows()
    lazy = da.from_array(X, chunks=(20, 5))
    with pytest.raises(BatchfixError, match=says):
        fit_blocks(ComBat(), lazy, batch=batch, **option)
    with pytest.raises(BatchfixError, match=says):
        transform_blocks(ComBat().fit(X, batch=batch), lazy, batch=batch, **option)
    fit_blocks(ComBat(), lazy, batch=batch, progress=False)


def test_errors_of_scikit_learn_are_short():
    X, batch, _ = rows()
    with pytest.raises(BatchfixError, match="Chunk 0 of 3: Complex data not supported") as caught:
        fit(ComBat(), da.from_array(X + 1j, chunks=(20, 5)), batch=batch)
    assert len(str(caught.value)) < 400


def test_no_rows_at_all():
    with pytest.raises(BatchfixError, match="none in its 2 chunks"):
        fit(ComBat(), da.ones((0, 3), chunks=((0, 0), 3)), batch=[])


def test_warnings_come_once_and_to_the_caller():
    counts = np.random.default_rng(0).poisson(50, size=(80, 6)).astype(float)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        fit(BatchCorrector(), da.from_array(counts, chunks=(10, 6)), batch=np.arange(80) % 2)
    assert [(w.category, w.filename) for w in seen] == [(DataScaleWarning, __file__)]


def test_settings_of_the_output_and_copy_are_for_tables_in_memory():
    X, batch, _ = rows()
    lazy = da.from_array(X, chunks=(60, 5)).persist()  # a chunk that others may use
    corrector = fit(ComBat(copy=False).set_output(transform="pandas"), lazy, batch=batch)
    out = transform(corrector, lazy, batch=batch).compute()
    assert_array_equal(lazy.compute(), X)
    assert isinstance(out, np.ndarray)
    assert isinstance(corrector.set_params(copy=True).transform(X, batch=batch), pd.DataFrame)


# ---- threads, processes, a cluster


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_on_one_machine(scheduler):
    X, batch, keep = rows()
    with dask.config.set(scheduler=scheduler, num_workers=2):
        corrector = fit(ComBat(), da.from_array(X, chunks=(20, 5)), batch=batch, keep=keep)
    assert_same(corrector, ComBat().fit(X, batch=batch, keep=keep))


@pytest.fixture(scope="module")
def client():
    distributed = pytest.importorskip("distributed")
    few = {"distributed.scheduler.allowed-failures": 1, "distributed.comm.timeouts.connect": "30s"}
    with (
        dask.config.set(few),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, memory_limit="1GB", dashboard_address=":0", silence_logs=logging.CRITICAL
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def cluster(client):
    with dask.config.set(scheduler="distributed"):  # a client here could not be sent to workers that start anew
        yield client


def fatal_at(k, mark, *, again):
    """A step over chunks that kills its worker at chunk k: once, or again and again."""

    def step(X, block_info=None):
        if block_info[0]["chunk-location"][0] == k and (again or not Path(mark).exists()):
            Path(mark).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return X

    return lambda X: X.map_blocks(step, dtype=X.dtype, meta=np.empty((0, 0), dtype=X.dtype))


def test_on_a_cluster(cluster):
    table = frame()
    model = ComBat(batch_key="plate", keep_keys=["group", "age"])
    lazy = dd.from_pandas(table, npartitions=6)
    corrector = fit(clone(model), lazy, split_every=2)
    assert_same(corrector, model.fit(table))
    out = transform(corrector, lazy).compute()
    pd.testing.assert_frame_equal(out, corrector.transform(table), check_index_type=False)


def test_errors_come_back_from_a_cluster(cluster):
    X, batch, _ = rows()
    X[45, 2] = np.inf
    with pytest.raises(BatchfixError, match="Chunk 2 of 3: X must be finite"):
        fit(ComBat(), da.from_array(X, chunks=(20, 5)), batch=batch)


def test_a_worker_that_is_killed_is_not_missed(cluster, tmp_path):
    X, batch, _ = rows()
    deadly = fatal_at(1, tmp_path / "mark", again=False)(da.from_array(X, chunks=(10, 5)))
    assert_same(fit(ComBat(), deadly, batch=batch), ComBat().fit(X, batch=batch))
    assert (tmp_path / "mark").exists()
    cluster.wait_for_workers(2)


def test_a_chunk_that_kills_every_worker_is_named(cluster, tmp_path):
    X, batch, _ = rows()
    deadly = fatal_at(3, tmp_path / "mark", again=True)(da.from_array(X, chunks=(10, 5)))
    corrector = ComBat()
    with pytest.raises(BatchfixError, match=r"The fit must have every chunk, and .* is missing: all 2 workers"):
        fit(corrector, deadly, batch=batch)
    assert vars(corrector) == vars(ComBat())


# ---- storing


def test_store_writes_whole_tables(tmp_path):
    X, batch, _ = rows()
    lazy = da.from_array(X, chunks=(25, 5))
    corrector = ComBat().fit(X, batch=batch)
    out = store(transform(corrector, lazy, batch=batch), tmp_path / "out.npy")
    assert_array_equal(np.load(out), corrector.transform(X, batch=batch))
    array = np.empty_like(X)
    assert store(transform(corrector, unknown(lazy), batch=batch), array) is array
    assert_array_equal(array, np.load(out))


@pytest.mark.parametrize("name", ["out.npy", "out.zarr"])
def test_store_leaves_nothing_by_halves(cluster, tmp_path, name):
    if name.endswith("zarr"):
        pytest.importorskip("zarr")
    X, batch, _ = rows()
    lazy = da.from_array(X, chunks=(10, 5))
    corrector = ComBat().fit(X, batch=batch)
    unknown_batch = np.where(np.arange(60) == 59, "new", batch)
    with pytest.raises(UnknownBatchError, match="Chunk 5 of 6"):
        store(transform(corrector, lazy, batch=unknown_batch), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_chunk_that_cannot_be_read_is_no_failure_of_the_output(tmp_path):
    def gone(part):
        raise OSError("the input's disk failed")

    X, batch, _ = rows()
    lazy = da.from_array(X, chunks=(20, 5)).map_blocks(gone, dtype=float)
    with pytest.raises(OSError, match="the input's disk failed") as caught:
        store(transform(ComBat().fit(X, batch=batch), lazy, batch=batch), tmp_path / "out.npy")
    assert not isinstance(caught.value, BatchfixError)
    assert not list(tmp_path.iterdir())


def test_store_of_a_chunk_that_kills_every_worker(cluster, tmp_path):
    pytest.importorskip("zarr")
    X, batch, _ = rows()
    deadly = fatal_at(3, tmp_path / "mark", again=True)(da.from_array(X, chunks=(10, 5)))
    with pytest.raises(BatchfixError, match=r"The result must have every chunk, and .* is missing: all 2 workers"):
        store(transform(ComBat().fit(X, batch=batch), deadly, batch=batch), tmp_path / "out.zarr")
    assert [path.name for path in tmp_path.iterdir()] == ["mark"]
