"""AnnData as it comes: sparse, backed by a file, lazy, of dask; against the same matrix dense in memory."""

import os
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import clone

from batchfix import BatchCorrector, ComBat, LinearCorrector, fit_blocks, pp
from batchfix.exceptions import BatchfixError, DenseWarning, MissingLabelError, UnmergeableError

ad, h5py = pytest.importorskip("anndata"), pytest.importorskip("h5py")

N, P = 90, 12

WAYS = [
    (ComBat(), {}),
    (ComBat(copy=False), {"keep": ["group", "age"]}),
    (LinearCorrector(), {"keep": "group", "key": ["batch", "lane"]}),
    (BatchCorrector(target="standard"), {}),
    (BatchCorrector(location=None), {"keep": "group"}),
]
SCALED = [
    (BatchCorrector(location=None), {}),
    (BatchCorrector(location=None, keep_at_transform=False), {"keep": "group"}),
    (BatchCorrector(location=None, target="standard"), {"key": ["batch"]}),
    (BatchCorrector(location=None, shrinkage="eb", reference_batch="b", copy=False), {}),
]
FORMATS = [sparse.csr_matrix, sparse.csc_array]  # test_sparse_matrices has them all

# anndata: of zarr's formats, and of what is read lazily
ANNDATA = ("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore:Writing zarr v2:UserWarning")
quiet = pytest.mark.filterwarnings("ignore::batchfix.exceptions.DenseWarning")
counts = pytest.mark.filterwarnings("ignore::batchfix.exceptions.DataScaleWarning")  # of whole numbers
lazily = pytest.mark.filterwarnings(*ANNDATA)


@pytest.fixture
def values():
    """Values (N, P), two in five other than 0, small enough for any dtype."""
    rng = np.random.default_rng(0)
    return np.where(rng.random((N, P)) < 0.4, np.round(rng.normal(0, 20, (N, P))), 0.0)


def make(X):
    """An AnnData around a matrix, with a layer, an embedding and raw."""
    rng = np.random.default_rng(1)
    obs = pd.DataFrame(
        {
            "batch": pd.Categorical(rng.permutation(np.repeat(["a", "b", "c"], N // 3))),
            "lane": np.tile(["l1", "l2"], N // 2),
            "group": rng.choice(["case", "control"], N),
            "age": rng.uniform(20, 80, N),
        },
        index=[f"c{i}" for i in range(N)],
    )
    adata = ad.AnnData(X, obs=obs, var=pd.DataFrame(index=[f"g{j}" for j in range(P)]))
    adata.layers["l"] = X.copy()
    adata.obsm["e"] = rng.normal(size=(N, 3))
    adata.uns["note"] = "kept"
    adata.raw = adata.copy()
    return adata


def dense(X):
    X = X.compute() if hasattr(X, "compute") else X[:]
    return X.toarray() if sparse.issparse(X) else X


def wanted(values, way, dtype=np.float64):
    corrector, how = way
    return pp.correct(make(values.astype(dtype)), clone(corrector), **how, copy=True).X


def agree(found, want):
    """Statistics of blocks add up to 1e-10 of the data's spread in float64; one rounding of float32 otherwise."""
    assert found.dtype == want.dtype
    tolerance = 1e-10 if want.dtype == np.float64 else 4 * np.finfo(np.float32).eps
    np.testing.assert_allclose(dense(found), want, rtol=0, atol=tolerance * np.abs(want).max())


class TestSparse:
    @quiet
    @pytest.mark.parametrize("kind", FORMATS)
    @pytest.mark.parametrize("dtype", ["f4", "f8"])
    @pytest.mark.parametrize("way", WAYS, ids=str)
    def test_it_is_the_dense_correction_bit_for_bit(self, values, kind, dtype, way):
        adata = make(kind(values.astype(dtype)))
        pp.correct(adata, clone(way[0]), **way[1])
        assert type(adata.X) is np.ndarray
        assert adata.X.dtype == dtype
        np.testing.assert_array_equal(adata.X, wanted(values, way, dtype))
        np.testing.assert_array_equal(dense(adata.raw.X), values)

    @pytest.mark.parametrize("kind", FORMATS)
    @pytest.mark.parametrize("dtype", ["f4", "f8"])
    @pytest.mark.parametrize("way", SCALED, ids=str)
    def test_what_only_scales_stays_sparse(self, values, kind, dtype, way):
        adata = make(kind(values.astype(dtype)))
        before, pattern = adata.X, adata.X.indices.copy()
        kept = before.copy()
        pp.correct(adata, clone(way[0]), **way[1])
        assert type(adata.X) is kind
        agree(adata.X, wanted(values, way, dtype))
        adata.X.indices[:], adata.X.indptr[1:], adata.X.data[:] = 0, 0, 0  # shares nothing
        np.testing.assert_array_equal(before.indices, pattern)
        np.testing.assert_array_equal(before.data, kept.data)
        np.testing.assert_array_equal(before.indptr, kept.indptr)

    def test_a_spread_that_does_not_add_up_is_measured_dense(self, values):
        values = values + np.random.default_rng(2).integers(1, 40, values.shape)  # a MAD wants numbers other than 0
        way = (BatchCorrector(location=None, scale="mad"), {})
        adata = make(sparse.csr_matrix(values))
        with pytest.warns(DenseWarning, match=r"a spread that does not add up .*scale='std' takes no dense matrix"):
            pp.correct(adata, clone(way[0]))
        assert adata.X.format == "csr"
        np.testing.assert_array_equal(adata.X.toarray(), wanted(values, way))

    @quiet
    @counts
    @pytest.mark.parametrize("kind", FORMATS)
    @pytest.mark.parametrize("dtype", ["i1", "i8", "?"])
    @pytest.mark.parametrize("way", [WAYS[0], SCALED[0]], ids=str)
    def test_integers_become_float32(self, values, kind, dtype, way):
        values = np.abs(values).astype(dtype)
        adata = make(kind(values))
        pp.correct(adata, clone(way[0]))
        assert adata.X.dtype == np.float32
        agree(adata.X, wanted(values, way, np.float32))

    @quiet
    @counts
    @pytest.mark.parametrize("kind", FORMATS)
    @pytest.mark.parametrize("way", [WAYS[0], SCALED[0]], ids=str)
    def test_integers_beyond_what_float32_holds_become_float64(self, values, kind, way):
        values = np.where(values, 20_000_000 + np.abs(values), 0).astype(np.int64)
        for sign in (1, -1):
            adata = make(kind(sign * values))
            pp.correct(adata, clone(way[0]))
            assert adata.X.dtype == np.float64
            agree(adata.X, wanted(sign * values, way))

    @quiet
    def test_pieces_of_any_size_make_the_same(self, values, monkeypatch):
        ways = [WAYS[1], SCALED[0]]
        whole = [pp.correct(make(k(values)), clone(c), **h, copy=True).X for k in FORMATS for c, h in ways]
        monkeypatch.setattr("batchfix.adapters.anndata.sparse.PIECE", 7)
        parts = [pp.correct(make(k(values)), clone(c), **h, copy=True).X for k in FORMATS for c, h in ways]
        for one, other in zip(whole, parts, strict=True):
            np.testing.assert_array_equal(dense(one), dense(other))

    @quiet
    @pytest.mark.parametrize("kind", FORMATS)
    def test_little_more_than_the_result_is_made(self, kind, monkeypatch):
        monkeypatch.setattr("batchfix.adapters.anndata.sparse.PIECE", 1 << 16)  # as small beside it as it is to 1 GB
        X = kind(
            sparse.random(50_000, 200, 0.05, format="csr", dtype=np.float32, random_state=np.random.default_rng(4))
        )
        adata = ad.AnnData(X)
        adata.obs["batch"] = np.tile(["a", "b"], 25_000)
        tracemalloc.start()
        pp.correct(adata, ComBat())
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1.15 * 4 * X.shape[0] * X.shape[1]

    @quiet
    def test_numbers_that_are_stored_twice_are_their_sum(self, values):
        twice = sparse.csr_matrix(
            (np.repeat([1.0, 2.0], N * P), np.tile(np.arange(P), 2 * N), np.arange(0, 2 * N * P + 1, 2 * P)), (N, P)
        )
        twice.data *= np.random.default_rng(3).normal(size=2 * N * P)
        for way in (WAYS[0], SCALED[0]):
            agree(pp.correct(make(twice.copy()), clone(way[0]), copy=True).X, wanted(twice.toarray(), way))

    @quiet
    @pytest.mark.parametrize("kind", FORMATS)
    def test_layers_embeddings_views_and_names(self, values, kind):
        adata = make(kind(values))
        adata.obsm["s"] = kind(values)
        for way in (WAYS[0], SCALED[0]):
            full = wanted(values, way)
            for how, where in (({"layer": "l"}, "layers"), ({"obsm": "s"}, "obsm"), ({}, "layers")):
                done = pp.correct(adata, clone(way[0]), **how, key_added="new", copy=True)
                agree(getattr(done, where)["new"], full)
                np.testing.assert_array_equal(dense(done.X), values)
        for rows in (slice(0, 60), np.arange(60)[::-1], np.arange(N) < 60):
            view = adata[rows]
            pp.correct(view, BatchCorrector(location=None))
            part = make(values)[rows].copy()
            pp.correct(part, BatchCorrector(location=None))
            assert not view.is_view
            agree(view.X, part.X)
        np.testing.assert_array_equal(dense(adata.X), values)
        assert "batchfix" not in adata.uns

    @quiet
    @pytest.mark.parametrize("api", ["pandas", "polars"])
    def test_set_output_does_not_matter(self, values, api):
        pytest.importorskip(api)
        for way in (WAYS[1], SCALED[0]):
            adata = make(sparse.csr_matrix(values))
            pp.correct(adata, clone(way[0]).set_output(transform=api), **way[1])
            assert type(adata.X) is (np.ndarray if way is WAYS[1] else sparse.csr_matrix)
            agree(adata.X, wanted(values, way))

    def test_its_size_is_said_before_it_is_made(self, values):
        adata = make(sparse.csc_matrix(values.astype(np.int32)))
        with pytest.warns(
            DenseWarning, match=r"adata\.X is sparse, .* less than 0\.01 GB of float32 in memory\. .*only"
        ):
            pp.correct(adata, ComBat())
        adata = make(sparse.csr_matrix(values))
        corrector = ComBat()
        with pytest.raises(DenseWarning, match=r"float64 in memory \(half of it as float32\)"):  # warnings are errors
            pp.correct(adata, corrector, layer="l")
        with pytest.raises(DenseWarning, match=r"With keep_at_transform=False .* it stays sparse"):
            pp.correct(adata, BatchCorrector(location=None), keep="group")
        assert sparse.issparse(adata.layers["l"])
        assert not hasattr(corrector, "statistics_")
        assert "batchfix" not in adata.uns

    @quiet
    def test_more_than_memory_holds(self):
        many = 1 << 40
        huge = sparse.csc_matrix((many, 4), dtype=np.float32) if np.iinfo(np.intp).bits == 64 else None
        from batchfix.adapters.anndata.sparse import dense_of

        with pytest.raises(BatchfixError, match=r"adata\.X made dense must fit into memory.*17,592 GB.*backed='r'"):
            dense_of(huge, "adata.X", np.float32)

    @quiet
    @pytest.mark.parametrize("way", [WAYS[0], SCALED[0]], ids=str)
    def test_an_infinity_and_a_gap(self, values, way):
        X = sparse.csr_matrix(values)
        X.data[5] = np.nan
        done = pp.correct(make(X), clone(way[0]), copy=True)
        np.testing.assert_array_equal(np.isnan(dense(done.X)), np.isnan(X.toarray()))
        X.data[5] = np.inf
        adata, corrector = make(X), clone(way[0])
        with pytest.raises(BatchfixError, match="got infinity"):
            pp.correct(adata, corrector)
        assert sparse.issparse(adata.X)
        assert corrector.copy is way[0].copy

    @pytest.mark.parametrize("kind", FORMATS)
    @pytest.mark.parametrize("way", [WAYS[0], SCALED[0]], ids=str)
    def test_numbers_outside_of_the_matrix(self, values, kind, way):
        for part, at, wrong in (("indices", 5, N), ("indices", 5, -1), ("indptr", 3, 0)):
            adata, corrector = make(kind(values)), clone(way[0])
            getattr(adata.X, part)[at] = wrong
            with pytest.raises(
                BatchfixError, match=r"adata\.X must hold numbers inside of it.*(column|row) (indices|starts)"
            ):
                pp.correct(adata, corrector)
            with pytest.raises(BatchfixError, match="adata must hold numbers inside of it"):
                fit_blocks(corrector, adata, batch="batch")
            assert not hasattr(corrector, "statistics_")

    @pytest.mark.parametrize("kind", [np.asarray, pd.DataFrame, *FORMATS])
    def test_complex_numbers(self, values, kind):
        adata = make(values)
        X = values + 1j
        adata.obsm["z"] = kind(X) if kind is not pd.DataFrame else pd.DataFrame(X, adata.obs_names, map(str, range(P)))
        for corrector in (ComBat(), BatchCorrector(location=None)):
            with pytest.raises(BatchfixError, match=r"adata\.obsm\['z'\] must hold real numbers, got complex128"):
                pp.correct(adata, corrector, obsm="z")
            assert not hasattr(corrector, "statistics_")


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of some twenty rows, or as many numbers."""
    monkeypatch.setattr("batchfix.adapters.sources.source.Source.block_bytes", 8 * P * 20)
    monkeypatch.setattr("batchfix.adapters.anndata.sparse.PIECE", P * 20)


def state(folder):
    """What lies in a folder, byte for byte."""
    return {file.name: file.read_bytes() for file in folder.iterdir()}


class Backed:
    """An AnnData that is closed in the end."""

    def __init__(self, path, mode="r+"):
        self.adata = ad.read_h5ad(path, backed=mode)

    def __enter__(self):
        return self.adata

    def __exit__(self, *_):
        self.adata.file.close()


def stored(values, folder, kind):
    path = folder / "lab.h5ad"
    make(kind(values)).write_h5ad(path)
    return path


@pytest.mark.usefixtures("small_blocks")
class TestBacked:
    @quiet
    @pytest.mark.parametrize(
        ("kind", "dtype", "way"),
        [
            (np.asarray, "f4", WAYS[1]),
            (np.asarray, "i4", SCALED[1]),
            (sparse.csr_matrix, "f8", WAYS[1]),
            (sparse.csr_matrix, "i4", WAYS[1]),
            (sparse.csr_matrix, "f4", SCALED[1]),
            (sparse.csr_matrix, "i4", SCALED[1]),
        ],
    )
    def test_in_place_under_a_name_and_in_a_new_file(self, values, tmp_path, kind, dtype, way):
        path = stored(values.astype(dtype), tmp_path, kind)
        like = "f8" if dtype == "f8" or (dtype == "i4" and kind is np.asarray) else "f4"
        want, (corrector, how) = wanted(values, way, like), way
        with Backed(path, "r") as adata:
            before = state(tmp_path)
            pp.correct(adata, clone(corrector), **how, key_added="new")
            agree(adata.layers.pop("new"), want)
            new = pp.correct(adata, clone(corrector), **how, filename=tmp_path / "new.h5ad")
            agree(new.X, want)
            new.file.close()
            assert {name: each for name, each in state(tmp_path).items() if name in before} == before
        with Backed(path) as adata:
            assert pp.correct(adata, clone(corrector), **how) is None
            assert adata.file.is_open
            agree(adata.X, want)
            kept = kind is not np.asarray and way in SCALED
            assert adata.file["X"].attrs["encoding-type"] == ("csr_matrix" if kept else "array")
            np.testing.assert_array_equal(dense(adata.raw.X), values)
        for place in (path, tmp_path / "new.h5ad"):
            again = ad.read_h5ad(place)
            agree(again.X, want)
            assert sparse.issparse(again.X) is (kind is not np.asarray and way in SCALED)
            old = make(kind(values.astype(dtype)))
            pd.testing.assert_frame_equal(again.obs, old.obs, check_dtype=False, check_categorical=False)
            np.testing.assert_array_equal(dense(again.raw.X), values)
            np.testing.assert_array_equal(dense(again.layers["l"]), values)
            assert again.uns.pop("batchfix")["X"]["corrector"] == type(corrector).__name__
            assert again.uns == {"note": "kept"}
        assert sorted(each.name for each in tmp_path.iterdir()) == ["lab.h5ad", "new.h5ad"]

    @quiet
    @pytest.mark.parametrize("way", [WAYS[2], SCALED[0]], ids=str)
    @pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix], ids=["dense", "sparse"])
    def test_never_more_than_a_block_is_read(self, values, tmp_path, way, kind, monkeypatch):
        import h5py

        read, most = h5py.Dataset.__getitem__, []

        def count(array, at, **how):
            found = read(array, at, **how)
            most.append(np.size(found))
            return found

        with Backed(stored(values, tmp_path, kind)) as adata:
            monkeypatch.setattr(h5py.Dataset, "__getitem__", count)
            pp.correct(adata, clone(way[0]), **way[1])
            monkeypatch.undo()
            agree(adata.X, wanted(values, way))
        assert 0 < max(most) <= 20 * P

    def test_the_file_records_what_it_holds(self, values, tmp_path):
        path = stored(values, tmp_path, np.asarray)
        with Backed(path) as adata:
            adata.obs["mine"] = 1.0
            pp.correct(adata, ComBat(), key_added="new")
            pp.correct(adata, ComBat(), layer="l")
            pp.correct(adata, ComBat())
            pp.correct(adata, LinearCorrector())
            assert list(adata.uns["batchfix"]) == ["new", "l", "X", "X 2"]
            assert "mine" in adata.obs
            new = pp.correct(adata, ComBat(), filename=tmp_path / "new.h5ad")
            assert "mine" in new.obs  # the copy is of what is in memory
            assert sorted(new.layers) == ["l", "new"]
            assert len(new.uns["batchfix"]) == 5
            new.file.close()
        again = ad.read_h5ad(path)
        assert sorted(again.uns["batchfix"]) == ["X", "X 2"]
        assert "mine" not in again.obs

    @pytest.mark.parametrize("way", [WAYS[0], SCALED[0]], ids=str)
    @pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix], ids=["dense", "sparse"])
    @quiet
    def test_an_end_before_time_leaves_the_old_file(self, values, tmp_path, way, kind, monkeypatch):
        path = stored(values, tmp_path, kind)
        before = state(tmp_path)

        def stop(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(os, "fsync", stop)  # all is written, and not yet safe
        for how in ({}, {"filename": tmp_path / "new.h5ad"}):
            with Backed(path) as adata:
                with pytest.raises(KeyboardInterrupt):
                    pp.correct(adata, clone(way[0]), **how)
                np.testing.assert_array_equal(dense(adata.X), values)
                assert "batchfix" not in adata.uns
            assert state(tmp_path) == before

    def test_a_block_that_cannot_be_corrected_leaves_the_old_file(self, values, tmp_path):
        values[70, 3] = np.inf
        path = stored(values, tmp_path, np.asarray)
        before = state(tmp_path)
        with Backed(path) as adata:
            with pytest.raises(BatchfixError, match=r"rows 60 to 79.*got infinity"):
                pp.correct(adata, ComBat())
            np.testing.assert_array_equal(adata.X[:], values)
        assert state(tmp_path) == before

    def test_something_else_under_our_name_in_the_file(self, values, tmp_path):
        adata = make(values)
        adata.uns["batchfix"] = "mine"
        adata.write_h5ad(tmp_path / "lab.h5ad")
        with Backed(tmp_path / "lab.h5ad") as adata:
            del adata.uns["batchfix"]
            corrector = ComBat()
            with pytest.raises(BatchfixError, match="records of earlier corrections, got str"):
                pp.correct(adata, corrector)
            assert not hasattr(corrector, "statistics_")  # said before the work is done
            np.testing.assert_array_equal(adata.X[:], values)
        assert ad.read_h5ad(tmp_path / "lab.h5ad").uns["batchfix"] == "mine"

    def test_a_file_that_was_closed_is_opened(self, values, tmp_path):
        adata = ad.read_h5ad(stored(values, tmp_path, np.asarray), backed="r+")
        adata.file.close()
        pp.correct(adata, ComBat())
        agree(adata.X, wanted(values, WAYS[0]))
        adata.file.close()

    @pytest.mark.parametrize("how", [{}, {"filename": "new.h5ad"}, {"key_added": "new"}], ids=str)
    def test_a_file_that_is_gone(self, values, tmp_path, monkeypatch, how):
        monkeypatch.chdir(tmp_path)
        path = stored(values, tmp_path, np.asarray)
        for spoil, match in (
            (path.unlink, r"must have the file that backs it, and '.*lab\.h5ad' is not there\. Put it back"),
            (lambda: path.write_bytes(b"none"), r"lab\.h5ad' cannot be read as what its name says"),
        ):
            with Backed(path) as adata:
                adata.file.close()
                before = path.read_bytes()
                spoil()
                with pytest.raises(BatchfixError, match=match):
                    pp.correct(adata, ComBat(), **how)
                with pytest.raises(BatchfixError, match=match):
                    fit_blocks(ComBat(), adata, batch="batch")
                path.write_bytes(before)
        assert [each.name for each in tmp_path.iterdir()] == ["lab.h5ad"]

    def test_what_is_refused(self, values, tmp_path):
        path = stored(values, tmp_path, np.asarray)
        before = state(tmp_path)
        new = {"filename": tmp_path / "new.h5ad"}
        with Backed(path, "r") as adata:
            for error, match, corrector, how in (
                (
                    BatchfixError,
                    r"opened to be written.* mode 'r'\. .*backed='r\+'.*filename=.*key_added=",
                    ComBat(),
                    {},
                ),
                (BatchfixError, r"copy=True\. Name it: filename='corrected.h5ad'", ComBat(), {"copy": True}),
                (BatchfixError, "another file than the one that backs", ComBat(), {"filename": path}),
                (BatchfixError, "directory must exist", ComBat(), {"filename": tmp_path / "no" / "x.h5ad"}),
                (BatchfixError, "where X goes, got key_added='k'", ComBat(), {**new, "key_added": "k"}),
                (BatchfixError, r"where X goes, got adata.layers\['l'\]", ComBat(), {**new, "layer": "l"}),
                (
                    UnmergeableError,
                    r"adata\.X is read block by block.*a MAD.*to_memory",
                    BatchCorrector(scale="mad"),
                    new,
                ),
                (BatchfixError, r"did you mean 'batch'", ComBat(), {**new, "key": "Batch"}),
            ):
                with pytest.raises(error, match=match):
                    pp.correct(adata, corrector, **how)
            for how in ({}, {"key_added": "k"}, new):
                with pytest.raises(BatchfixError, match=r"A view of a backed AnnData .*to_memory"):
                    pp.correct(adata[:20], ComBat(), **how)
            adata.obs["odd"] = [object()] * N
            with pytest.raises(BatchfixError, match=r"adata\.obs must be such as an \.h5ad file can hold.*non-string"):
                pp.correct(adata, ComBat(), **new)
            del adata.obs["odd"]
            adata.uns["odd"] = object()
            with pytest.raises(BatchfixError, match=r"adata\.uns must be such as an \.h5ad file can hold.*'object'"):
                pp.correct(adata, ComBat(), **new)
        assert state(tmp_path) == before

    def test_no_matrix(self, values, tmp_path):
        adata = make(values)
        adata.X = None
        adata.write_h5ad(tmp_path / "lab.h5ad")
        with Backed(tmp_path / "lab.h5ad") as adata:
            for how in ({}, {"filename": tmp_path / "new.h5ad"}, {"key_added": "new"}):
                with pytest.raises(BatchfixError, match=r"adata\.X must hold a matrix, got None"):
                    pp.correct(adata, ComBat(), **how)
            with pytest.raises(BatchfixError, match="must hold a matrix there, got NoneType"):
                fit_blocks(ComBat(), adata, batch="batch")
            pp.correct(adata, ComBat(), layer="l")

    def test_columns_on_disk(self, values, tmp_path):
        match = r"must be stored by rows \(csr\) .*, got csc\."
        with Backed(stored(values, tmp_path, sparse.csc_matrix)) as adata, pytest.raises(BatchfixError, match=match):
            pp.correct(adata, ComBat())

    def test_its_size_is_said(self, values, tmp_path):
        path = stored(values, tmp_path, sparse.csr_matrix)
        before = state(tmp_path)
        with Backed(path) as adata:
            for how, where in (({}, "in the file"), ({"key_added": "new"}, "in memory")):
                with pytest.raises(DenseWarning, match=where):
                    pp.correct(adata, ComBat(), **how)
        assert state(tmp_path) == before

    @quiet
    @counts
    @pytest.mark.parametrize("way", [WAYS[0], SCALED[0]], ids=str)
    def test_wide_integers(self, values, tmp_path, way):
        values = np.where(values, 20_000_000 + np.abs(values), 0).astype(np.int64)
        with Backed(stored(values, tmp_path, sparse.csr_matrix)) as adata:
            pp.correct(adata, clone(way[0]), key_added="new")
            pp.correct(adata, clone(way[0]))
            for found in (adata.X, adata.layers["new"]):
                agree(found, wanted(values, way))

    @quiet
    @pytest.mark.parametrize("way", [WAYS[0], SCALED[0]], ids=str)
    def test_numbers_outside_of_the_matrix(self, values, tmp_path, way):
        path = stored(values, tmp_path, sparse.csr_matrix)
        with h5py.File(path, "r+") as file:
            file["X/indices"][5] = P
        before = state(tmp_path)
        match = r"rows 0 to|(adata|adata\.X) must hold numbers inside of it, got a sparse matrix of shape \(\d+, 12\)"
        with Backed(path) as adata:
            for how in ({}, {"key_added": "new"}, {"filename": tmp_path / "new.h5ad"}):
                with pytest.raises(BatchfixError, match=match):
                    pp.correct(adata, clone(way[0]), **how)
            for source in (adata, path):
                with pytest.raises(BatchfixError, match=match):
                    fit_blocks(ComBat(), source, batch="batch")
        assert state(tmp_path) == before

    @pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix], ids=["dense", "sparse"])
    @quiet
    def test_a_corrector_that_adapts_to_unknown_batches(self, values, tmp_path, kind):
        way = (ComBat(handle_unknown="adapt"), {})
        with Backed(stored(values, tmp_path, kind)) as adata:
            new = pp.correct(adata, clone(way[0]), filename=tmp_path / "new.h5ad")
            agree(new.X, wanted(values, way))
            new.file.close()
            corrector = clone(way[0])
            pp.correct(adata, corrector)
            agree(adata.X, wanted(values, way))
            assert corrector.handle_unknown == "adapt"

    @quiet
    def test_arrays_of_files_in_memory(self, values, tmp_path):
        path = stored(values, tmp_path, sparse.csr_matrix)
        with Backed(path, "r") as other:
            adata = make(values)
            adata.layers["h"] = other.X
            for way in (WAYS[0], SCALED[0]):
                done = pp.correct(adata, clone(way[0]), layer="h", key_added="new")
                assert done is None
                agree(adata.layers["new"], wanted(values, way))
            assert adata.layers["new"].format == "csr"


class TestLazy:
    """What is corrected when it is computed."""

    @pytest.fixture(autouse=True)
    def _needs(self):
        pytest.importorskip("dask.array")
        pytest.importorskip("xarray")

    @quiet
    @lazily
    @pytest.mark.parametrize(
        ("kind", "file"), [(np.asarray, "h5ad"), (sparse.csr_matrix, "zarr"), (sparse.csc_matrix, "h5ad")]
    )
    def test_read_lazily(self, values, tmp_path, kind, file):
        place = tmp_path / f"lab.{file}"
        getattr(make(kind(values)), f"write_{file}")(place)
        adata = ad.experimental.read_lazy(place)
        adata.X = adata.X.rechunk((40, 5))
        for way in (WAYS[1], SCALED[0]):
            done = pp.correct(adata, clone(way[0]), **way[1], copy=True)
            assert hasattr(done.X, "dask")
            agree(done.X, wanted(values, way))
            assert sparse.issparse(done.X.compute()) is (kind is not np.asarray and way in SCALED)
            assert done.uns["batchfix"]["X"]["n_obs"] == N
        np.testing.assert_array_equal(dense(adata.X), values)
        view = adata[:60]
        pp.correct(view, ComBat(), key_added="new")
        part = make(values)[:60].copy()
        pp.correct(part, ComBat())
        agree(view.layers["new"], part.X)
        with pytest.raises(BatchfixError, match=r"key: 'bacth' must be in adata.obs \(did you mean 'batch'\?\)"):
            pp.correct(adata, ComBat(), key="bacth")
        with pytest.raises(BatchfixError, match=r"what it returns: \.to_memory\(\)\.write_h5ad\(filename\)"):
            pp.correct(adata, ComBat(), filename=tmp_path / "new.h5ad")
        assert "batchfix" not in adata.uns
        pp.correct(adata, ComBat(), obsm="e")
        adata.to_memory().write_h5ad(tmp_path / "out.h5ad")
        again = ad.experimental.read_lazy(tmp_path / "out.h5ad")
        pp.correct(again, LinearCorrector(), obsm="e")
        again.to_memory().write_h5ad(tmp_path / "again.h5ad")
        assert sorted(ad.read_h5ad(tmp_path / "again.h5ad").uns["batchfix"]) == ["e", "e 2"]

    @lazily
    def test_a_lazy_table_and_a_gap_are_refused(self, values, tmp_path):
        adata = make(values)
        adata.obsm["t"] = pd.DataFrame(values[:, :2], index=adata.obs_names, columns=["x", "y"])
        adata.obs.iloc[4, adata.obs.columns.get_loc("age")] = np.nan
        adata.write_h5ad(tmp_path / "lab.h5ad")
        lazy = ad.experimental.read_lazy(tmp_path / "lab.h5ad")
        with pytest.raises(TypeError, match=r"adata\.obsm\['t'\] must be .*got anndata Dataset2D\. .*to_memory"):
            pp.correct(lazy, ComBat(), obsm="t")
        with pytest.raises(MissingLabelError, match=r"adata\.obs\['age'\], got none for 1 of 90 \('c4' for one\)"):
            pp.correct(lazy, ComBat(), keep="age")

    @quiet
    @pytest.mark.parametrize("dtype", ["f4", "f8", "i4"])
    @pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix, sparse.csr_array], ids=["dense", "csr", "array"])
    def test_dask_in_memory(self, values, dtype, kind):
        import dask.array as da

        adata = make(values)
        adata.X = da.from_array(values.astype(dtype), chunks=(25, P)).map_blocks(
            kind, meta=kind(np.zeros((0, 0), dtype))
        )
        like = "f8" if dtype == "f8" or (dtype == "i4" and kind is np.asarray) else "f4"
        for way in (WAYS[0], SCALED[0]):
            done = pp.correct(adata, clone(way[0]), copy=True)
            assert done.X.dtype == like
            agree(done.X, wanted(values, way, like))
        with pytest.raises(UnmergeableError, match=r"read block by block"):
            pp.correct(adata, BatchCorrector(location="median"))

    @quiet
    @counts
    def test_wide_integers_damage_complex_numbers_and_unknown_batches(self, values):
        import dask.array as da

        wide = np.where(values, 20_000_000 + np.abs(values), 0).astype(np.int64)

        def broken(block):
            found = sparse.csr_array(block)
            found.indices[:1] = P
            return found

        adata, chunks = make(values), da.from_array(values, chunks=(25, P))
        adata.layers["wide"] = da.from_array(wide, chunks=(25, 5)).map_blocks(sparse.csr_array)
        adata.layers["broken"] = chunks.map_blocks(broken, meta=sparse.csr_array((0, 0)))
        adata.layers["complex"], adata.layers["plain"] = chunks + 1j, chunks
        for way in (WAYS[0], SCALED[0]):
            done = pp.correct(adata, clone(way[0]), layer="wide", copy=True)
            agree(done.layers["wide"], wanted(wide, way))
            with pytest.raises(BatchfixError, match="must hold numbers inside of it"):
                pp.correct(adata, clone(way[0]), layer="broken")
            with pytest.raises(BatchfixError, match="must hold real numbers, got complex128"):
                pp.correct(adata, clone(way[0]), layer="complex")
        adapting = ComBat(handle_unknown="adapt")
        pp.correct(adata, adapting, layer="plain")
        agree(adata.layers["plain"], wanted(values, (adapting, {})))

    def test_its_size_is_said(self, values):
        import dask.array as da

        adata = make(values)
        X = da.from_array(values, chunks=(25, P)).map_blocks(sparse.csr_matrix, meta=sparse.csr_matrix((0, 0)))
        adata.X = X
        with pytest.raises(DenseWarning, match="once it is computed"):
            pp.correct(adata, ComBat())
        assert adata.X is X


@quiet
def test_names_that_come_twice(values):
    adata = make(sparse.csr_matrix(values))
    adata.obs_names = ["c"] * N
    pp.correct(adata, ComBat(), keep="age")
    want = wanted(values, (ComBat(), {"keep": "age"}))
    np.testing.assert_array_equal(adata.X, want)
