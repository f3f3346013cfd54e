"""Sinks: what is written is read again, whole or not there."""

import resource

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from batchfix import ComBat
from batchfix.adapters.sinks import open_sink
from batchfix.adapters.sources import as_source
from batchfix.adapters.streaming import fit_blocks, transform_blocks
from batchfix.exceptions import BatchfixError

N, P = 23, 4
X = np.random.default_rng(3).normal(size=(N, P))
BATCH = np.repeat(["a", "b"], [11, 12])
FILES = ["t.npy", "t.h5", "t.zarr", "t.csv", "t.tsv.gz", "t.parquet", "t.h5ad"]


def write(path, values, rows, n_rows=None):
    with open_sink(path, n_rows) as sink:
        for a in range(0, len(values), rows):
            sink.write(a, values[a : a + rows])


def interrupted(path, error):
    with open_sink(path, N) as sink:
        sink.write(0, X[:9] + 1)
        raise error


def narrower(path):
    with open_sink(path, N) as sink:
        sink.write(0, X[:9])
        sink.write(9, X[9:, 1:])


def read(path):
    return np.concatenate([np.asarray(block.X) for block in as_source(path).blocks(9)])


def everything(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("n_rows", [N, None])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_what_is_written_is_read_again(tmp_path, name, n_rows, dtype):
    values = np.where(X > 2, np.nan, X).astype(dtype)

    @settings(max_examples=4)
    @given(st.integers(1, N))
    def check(rows):
        write(tmp_path / name, values, rows, n_rows)
        found = read(tmp_path / name)
        np.testing.assert_array_equal(found.astype(dtype), values)  # every digit, of float32 in text too
        assert found.dtype == dtype or "sv" in name
        assert [p.name for p in tmp_path.iterdir()] == [name]

    check()


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
@pytest.mark.parametrize("index", [pd.Index([f"s{k}" for k in range(N)], name="sample"), pd.RangeIndex(N)])
def test_tables_keep_names_ids_and_text(tmp_path, name, index):
    frame = pd.DataFrame(X, index=index, columns=list("wxyz")).assign(run=BATCH)
    write(tmp_path / name, frame, 5)
    found = pd.concat([block.X for block in as_source(tmp_path / name, keys=["run"]).blocks(6)])
    if name == "t.csv" and index.name is None:
        found.index = found.index.astype(np.int64)
    pd.testing.assert_frame_equal(found, frame, check_index_type=False)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file_or_none(tmp_path, name, error):
    for there in (False, True):
        if there:
            write(tmp_path / name, X, 9)
        before = everything(tmp_path)
        with pytest.raises(error):
            interrupted(tmp_path / name, error)
        assert everything(tmp_path) == before


@pytest.mark.parametrize("name", ["t.npy", "t.h5", "t.zarr", "t.csv", "t.parquet"])
def test_a_full_disk_leaves_the_old_file(tmp_path, name):
    write(tmp_path / name, X, 9)
    before = everything(tmp_path)
    large = np.random.default_rng(0).normal(size=(2000, 100))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))  # no file may grow larger
    try:
        with pytest.raises(BatchfixError, match="cannot be written"):
            write(tmp_path / name, large, 500)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert everything(tmp_path) == before


@pytest.mark.parametrize("name", FILES)
def test_a_place_that_cannot_take_it_is_refused_before_reading(tmp_path, name):
    with pytest.raises(BatchfixError, match="must exist"), open_sink(tmp_path / "nowhere" / name):
        raise AssertionError("opened")
    if not name.endswith("zarr"):
        (tmp_path / name).mkdir()
        with pytest.raises(BatchfixError, match="is a directory"), open_sink(tmp_path / name):
            raise AssertionError("opened")


def test_what_else_a_file_holds_is_not_lost(tmp_path):
    with h5py.File(tmp_path / "t.h5", "w") as file:
        file["X"], file["precious"] = X, X
    zarr.open_group(str(tmp_path / "t.zarr"), mode="w").create_array("precious", data=X)
    (tmp_path / "other.zarr").mkdir()
    (tmp_path / "other.zarr" / "precious.txt").write_text("precious")
    before = everything(tmp_path)
    for name in ("t.h5", "t.zarr", "other.zarr", "t.h5::X"):
        with pytest.raises(BatchfixError, match="must not replace more than the array"):
            write(f"{tmp_path}/{name}", X, 9)
    assert everything(tmp_path) == before


def test_arrays_inside_files(tmp_path):
    for name in ("t.h5::deep/X", "t.zarr::deep/X"):
        for values in (X, X + 1):
            write(f"{tmp_path}/{name}", values, 9)
            np.testing.assert_array_equal(read(f"{tmp_path}/{name}"), values)


@pytest.mark.parametrize("name", [*FILES, None])
def test_rows_are_counted(tmp_path, name):
    def place():
        return np.empty((N, P)) if name is None else tmp_path / name

    for values in (X[:-1], np.vstack([X, X])):
        with pytest.raises(BatchfixError, match="as many rows as X"):
            write(place(), values, 9, N)
    with pytest.raises(BatchfixError, match="follow each other"), open_sink(place(), N) as sink:
        sink.write(1, X[1:])
    with pytest.raises(BatchfixError, match="the same columns"):
        narrower(place())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("out", "what"),
    [
        (np.empty((N, P), dtype=int), "must hold floats"),
        (np.empty((N + 1, P)), "as many rows"),
        (np.empty((N, P + 1)), "the columns of the result"),
        (np.empty(N), "two dimensions"),
        (3, "two dimensions"),
        ("t.txt", "must end in"),
    ],
)
def test_an_output_that_does_not_fit_is_refused(out, what):
    with pytest.raises(BatchfixError, match=what):
        write(out, X, 9, N)


@pytest.mark.parametrize("kind", ["memmap", "zarr", "h5", "memory"])
def test_arrays_are_filled(tmp_path, kind):
    with h5py.File(tmp_path / "t.h5", "w") as file:
        out = {
            "memmap": lambda: np.lib.format.open_memmap(tmp_path / "t.npy", "w+", np.float64, (N, P)),
            "zarr": lambda: zarr.create_array(str(tmp_path / "t.zarr"), shape=(N, P), chunks=(4, P), dtype="f8"),
            "h5": lambda: file.create_dataset("X", shape=(N, P), dtype="f4"),
            "memory": lambda: np.empty((N, P), order="F"),
        }[kind]()
        write(out, X, 5, N)
        np.testing.assert_array_equal(out[:], X.astype(out.dtype))


# ---- from file to file


def test_an_anndata_keeps_all_but_its_matrix(tmp_path):
    made = ad.AnnData(X.astype(np.float32), obs=pd.DataFrame({"run": BATCH}, index=[f"c{k}" for k in range(N)]))
    made.var["gene"] = list("wxyz")
    made.layers["counts"] = np.ones((N, P))
    made.obsm["X_pca"] = X[:, :2]
    made.uns["note"] = "kept"
    made.raw = made.copy()
    path, out = tmp_path / "in.h5ad", tmp_path / "out.h5ad"
    made.write_h5ad(path)
    model = fit_blocks(ComBat(), path, batch="run", block_rows=5)
    transform_blocks(model, path, batch="run", out=out, block_rows=5)
    found, want = ad.read_h5ad(out), model.transform(made.X, batch=BATCH)
    np.testing.assert_array_equal(found.X, want)
    assert found.X.dtype == np.float32
    pd.testing.assert_frame_equal(found.obs, ad.read_h5ad(path).obs)
    pd.testing.assert_frame_equal(found.var, made.var)
    np.testing.assert_array_equal(found.layers["counts"], made.layers["counts"])
    np.testing.assert_array_equal(found.raw.X, made.X)
    assert found.uns["note"] == "kept"
    transform_blocks(model, path, batch="run", out=path, block_rows=5)  # in its own place
    np.testing.assert_array_equal(ad.read_h5ad(path).X, want)


@pytest.mark.parametrize("name", ["t.npy", "t.h5", "t.zarr", "t.csv", "t.parquet"])
def test_a_file_may_be_corrected_in_its_place(tmp_path, name):
    write(tmp_path / name, X, 9)
    model = fit_blocks(ComBat(), tmp_path / name, batch=BATCH, block_rows=5)
    want = ComBat().fit_transform(X, batch=BATCH)
    assert transform_blocks(model, tmp_path / name, batch=BATCH, out=tmp_path / name, block_rows=5) == tmp_path / name
    np.testing.assert_allclose(read(tmp_path / name), want, rtol=1e-10, atol=1e-12)  # sums in another order
