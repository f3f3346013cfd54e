"""Sinks: what is written is read again, whole or not there."""

import resource
import shutil

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from batchfix import BatchCorrector, ComBat, GroupCorrector, LogRatio
from batchfix.adapters.blocks import fit_blocks, transform_blocks
from batchfix.adapters.sinks import chunks as sink_chunks
from batchfix.adapters.sinks.opening import open_sink
from batchfix.adapters.sources.opening import as_source
from batchfix.atomic import replacing_directory
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


@pytest.mark.parametrize("rows", [1, 7, N])
def test_levels_of_an_index_are_columns_of_text(tmp_path, rows):
    index = pd.MultiIndex.from_arrays(
        [[f"s{k}" for k in range(N)], range(N), list("ab" * N)[:N]], names=["id", "k", None]
    )
    frame = pd.DataFrame(X, index=index, columns=list("wxyz"))
    write(tmp_path / "t.csv", frame, rows)
    frame.to_csv(tmp_path / "theirs.csv")
    assert (tmp_path / "t.csv").read_text() == (tmp_path / "theirs.csv").read_text()
    write(tmp_path / "t.parquet", frame, rows)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "t.parquet"), frame)


@pytest.mark.parametrize("rows", [1, 7, N])
def test_ids_of_mixed_kinds_do_not_fit_parquet(tmp_path, rows):
    frame = pd.DataFrame(X, index=([1, "a"] * N)[:N], columns=list("wxyz"))
    with pytest.raises(BatchfixError, match=r"one kind( of index)?.*from row [01] on"):
        write(tmp_path / "t.parquet", frame, rows)


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
        (np.empty((N, P), dtype=np.float16), "must hold floats of four bytes"),
        (np.broadcast_to(0.0, (N, P)), "read-only"),
        (pd.DataFrame(X), "two dimensions"),
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


@pytest.mark.parametrize("kind", ["memory", "zarr", "h5"])
def test_values_beyond_the_dtype_of_an_array_are_refused(tmp_path, kind):
    with h5py.File(tmp_path / "t.h5", "w") as file:
        out = {
            "memory": lambda: np.empty((N, P), dtype=np.float32),
            "zarr": lambda: zarr.create_array(str(tmp_path / "t.zarr"), shape=(N, P), dtype="f4"),
            "h5": lambda: file.create_dataset("X", shape=(N, P), dtype="f4"),
        }[kind]()
        large = np.where(np.arange(P) == 2, 1e140, X)
        with pytest.raises(BatchfixError, match=r"got 1e\+140 for float32, which ends at 3.4e\+38. Make it float64"):
            write(out, large, 9, N)
        gaps = np.where(X > 1, np.nan, np.where(X < -1, -np.inf, X))
        write(out, gaps, 9, N)
        np.testing.assert_array_equal(out[:], gaps.astype(np.float32))


def test_an_array_that_cannot_be_written_is_refused(tmp_path):
    zarr.create_array(str(tmp_path / "t.zarr"), shape=(N, P), dtype="f8")
    with h5py.File(tmp_path / "t.h5", "w") as file:
        closed = file.create_dataset("X", shape=(N, P), dtype="f8")
    with h5py.File(tmp_path / "t.h5", "r") as file:
        for out in (file["X"], zarr.open(str(tmp_path / "t.zarr"), mode="r")):
            with pytest.raises(BatchfixError, match=r"rows 0 to 8 cannot be written \(.*Open it with mode 'r\+'"):
                write(out, X, 9, N)
    with pytest.raises(BatchfixError, match="out must be open, got a dataset of a file that was closed"):
        write(closed, X, 9, N)


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


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "t.h5ad"])
@pytest.mark.parametrize(
    "index",
    [
        pd.RangeIndex(N - 1, -1, -1),
        pd.RangeIndex(100, 100 + N),
        pd.RangeIndex(0, 3 * N, 3),
        pd.Index([3, 4, 1, 2, *range(5, N), 0]),
        pd.Index(np.arange(N) / 2),
    ],
    ids=["reversed", "shifted", "every third", "permuted", "floats"],
)
@pytest.mark.parametrize("rows", [1, 2, 22, N])
def test_numbers_that_are_ids_stay_with_their_rows(tmp_path, name, index, rows):
    frame = pd.DataFrame(X, index=index, columns=list("wxyz"))
    with open_sink(tmp_path / name, N) as sink:
        for a in range(0, N, rows):
            sink.write(a, frame.iloc[a : a + rows])
    found = {
        "t.csv": lambda path: pd.read_csv(path, index_col=0).index,
        "t.parquet": lambda path: pd.read_parquet(path).index,
        "t.h5ad": lambda path: ad.read_h5ad(path).obs_names.astype(index.dtype),
    }[name](tmp_path / name)
    assert found.tolist() == index.tolist()


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_blocks_that_are_only_numbered_are_numbered_on(tmp_path, name):
    with open_sink(tmp_path / name) as sink:
        for a in range(0, N, 5):
            sink.write(a, pd.DataFrame(X[a : a + 5], columns=list("wxyz")))
    found = pd.concat([block.X for block in as_source(tmp_path / name).blocks()])
    assert found.index.astype(int).tolist() == list(range(N))


@pytest.mark.parametrize("ids", [[["a", "b"], None], [None, ["a", "b"]], [[1, 2], ["a", "b"]]])
def test_blocks_of_a_parquet_file_have_one_kind_of_index(tmp_path, ids):
    first, second = (pd.DataFrame(X[:2], index=each, columns=list("wxyz")) for each in ids)

    def mixed():
        with open_sink(tmp_path / "t.parquet") as sink:
            sink.write(0, first)
            sink.write(2, second)

    with pytest.raises(BatchfixError, match=r"one kind of index.*from row 2 on"):
        mixed()
    assert not list(tmp_path.iterdir())


def full_anndata():
    made = ad.AnnData(X, obs=pd.DataFrame({"run": BATCH}, index=[f"c{k}" for k in range(N)]))
    made.var["gene"] = list("wxyz")
    made.layers["counts"] = np.ones((N, P))
    made.obsm["X_pca"], made.varm["loadings"] = X[:, :2], X[:P, :2]
    made.obsp["near"] = X @ X.T
    made.uns["note"] = "kept"
    made.raw = made.copy()
    return made


@pytest.mark.parametrize(
    "open_it", [ad.read_h5ad, lambda path: ad.read_h5ad(path, backed="r"), ad.experimental.read_lazy]
)
@pytest.mark.parametrize("layer", [None, "counts"])
def test_an_anndata_that_is_open_keeps_all_but_its_matrix(tmp_path, open_it, layer):
    full_anndata().write_h5ad(tmp_path / "in.h5ad")
    wanted, source = ad.read_h5ad(tmp_path / "in.h5ad"), as_source(open_it(tmp_path / "in.h5ad"), "run", layer=layer)
    model = BatchCorrector(scale=None).fit(X, batch=BATCH)
    transform_blocks(model, source, out=tmp_path / "out.h5ad", block_rows=5)
    found = ad.read_h5ad(tmp_path / "out.h5ad")
    if layer is None:
        np.testing.assert_array_equal(found.X, model.transform(X, batch=BATCH))
        found.X = X
    else:
        np.testing.assert_array_equal(found.layers[layer], model.transform(np.ones((N, P)), batch=BATCH))
        found.layers[layer] = wanted.layers[layer]
    pd.testing.assert_frame_equal(found.obs, wanted.obs)
    pd.testing.assert_frame_equal(found.var, wanted.var)
    for name in ("layers", "obsm", "varm", "obsp"):
        there, want = getattr(found, name), getattr(wanted, name)
        assert set(there) == set(want)
        for key, values in want.items():
            np.testing.assert_array_equal(there[key], values)
    np.testing.assert_array_equal(found.X, wanted.X)
    np.testing.assert_array_equal(found.raw.X, wanted.raw.X)
    assert found.uns["note"] == "kept"


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
@pytest.mark.parametrize("open_it", [lambda path: path, ad.read_h5ad, lambda path: ad.read_h5ad(path, backed="r")])
@pytest.mark.parametrize("container", ["default", "pandas"])
def test_an_anndata_names_rows_and_columns_of_a_table(tmp_path, name, open_it, container):
    made = full_anndata()
    made.write_h5ad(tmp_path / "in.h5ad")
    given = open_it(tmp_path / "in.h5ad")
    model = fit_blocks(BatchCorrector(), given, batch="run").set_output(transform=container)
    transform_blocks(model, given, batch="run", out=tmp_path / name, block_rows=7)
    found = pd.read_csv(tmp_path / name, index_col=0) if name == "t.csv" else pd.read_parquet(tmp_path / name)
    assert found.index.tolist() == made.obs_names.tolist()
    assert found.columns.tolist() == made.var_names.tolist()


@pytest.mark.parametrize("place", ["in.h5ad", "other.h5ad"])
@pytest.mark.parametrize("open_it", [lambda path: path, ad.read_h5ad])
def test_an_anndata_with_other_columns_is_refused(tmp_path, place, open_it):
    full_anndata().write_h5ad(tmp_path / "in.h5ad")
    before = everything(tmp_path)
    groups = np.array(list("uuvv"))
    for model in (GroupCorrector(groups, return_group_stats=True).fit(X), LogRatio("ilr").fit(np.exp(X))):
        given = open_it(tmp_path / "in.h5ad")
        if isinstance(model, LogRatio):
            given = as_source(given, layer="counts")
        with pytest.raises(BatchfixError, match=r"must keep the columns .* for 4\. Write \.parquet"):
            transform_blocks(model, given, out=tmp_path / place)
        assert everything(tmp_path) == before


@pytest.mark.parametrize("inside", ["", "::X", "::/deep/er/X"])
def test_attributes_of_an_array_and_its_groups_are_kept(tmp_path, inside):
    for name in ("t.h5", "t.zarr"):
        path, at = f"{tmp_path}/{name}{inside}", inside.removeprefix("::").strip("/")
        at = at or ("X" if name == "t.h5" else "")  # an array alone
        write(path, X, 9)
        groups = [at[:k] for k in range(len(at) + 1) if k in (0, len(at)) or at[k] == "/"]
        if name == "t.h5":
            with h5py.File(tmp_path / name, "r+") as file:
                for group in groups:
                    file[group or "/"].attrs["of"] = f"{group}, 1"
        else:
            for group in groups:
                zarr.open(str(tmp_path / name), path=group, mode="r+").attrs["of"] = f"{group}, 1"
        write(path, X + 1, 9)
        np.testing.assert_array_equal(read(path), X + 1)
        for group in groups:
            if name == "t.h5":
                with h5py.File(tmp_path / name, "r") as file:
                    assert file[group or "/"].attrs["of"] == f"{group}, 1"
            else:
                assert zarr.open(str(tmp_path / name), path=group, mode="r").attrs["of"] == f"{group}, 1"


def test_groups_are_not_lost(tmp_path):
    with h5py.File(tmp_path / "t.h5", "w") as file:
        file["X"] = X
        file.create_group("notes").attrs["by"] = "hand"
    group = zarr.open_group(str(tmp_path / "t.zarr"), mode="w")
    group.create_array("X", data=X)
    group.create_group("notes", attributes={"by": "hand"})
    before = everything(tmp_path)
    for name in ("t.h5", "t.zarr::X"):
        with pytest.raises(BatchfixError, match=r"must not replace more than the array.*notes"):
            write(f"{tmp_path}/{name}", X, 9)
    assert everything(tmp_path) == before


def test_zarr_writes_one_chunk_after_the_other(tmp_path):
    sizes = []

    class Array:
        chunks, dtype = (4, P), X.dtype

        def __setitem__(self, rows, values):
            sizes.append((rows.start, rows.stop, len(values)))

    with replacing_directory(tmp_path / "t.zarr", BatchfixError) as directory:
        sink = sink_chunks.ZarrSink(directory, None, N)
        sink.array = Array()
        sink.put(2, X[:8])
    assert sizes == [(2, 4, 2), (4, 8, 4), (8, 10, 2)]


def test_a_directory_that_is_filled_while_it_is_removed_goes_too(tmp_path, monkeypatch):
    remove, late = shutil.rmtree, iter(range(2))

    def busy(place, **how):
        remove(place, **how)
        if next(late, None) is not None:  # a thread that had begun before
            (place / "c").mkdir(parents=True)

    monkeypatch.setattr(shutil, "rmtree", busy)

    def broken():
        with replacing_directory(tmp_path / "t.zarr", BatchfixError):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        broken()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", FILES)
def test_an_error_of_the_input_is_not_one_of_the_output(tmp_path, name):
    def blocks():
        yield X[:9], BATCH[:9]
        raise OSError(5, "the input's disk failed")

    model = BatchCorrector().fit(X, batch=BATCH)
    with pytest.raises(OSError, match="the input's disk failed") as caught:
        transform_blocks(model, blocks, out=tmp_path / name)
    assert not isinstance(caught.value, BatchfixError)
    assert not list(tmp_path.iterdir())
