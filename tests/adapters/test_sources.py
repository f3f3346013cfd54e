"""Sources: whatever holds rows gives the same blocks, with the labels that belong to them, or says what is wrong."""

import gzip
import sys

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from batchfix.adapters.sources import gathering
from batchfix.adapters.sources.opening import as_source
from batchfix.adapters.sources.source import BLOCK_BYTES, Source
from batchfix.adapters.sources.tables import TextSource
from batchfix.adapters.tables import NotNumericError, TableError
from batchfix.exceptions import AlignmentError, BatchfixError, MissingLabelError

N, P = 23, 4
X = np.random.default_rng(3).normal(size=(N, P)).round(3)
BATCH = np.repeat(["a", "b"], [11, 12])
IDS = [f"s{k:02d}" for k in range(N)]
FRAME = pd.DataFrame(X, index=pd.Index(IDS, name="sample"), columns=list("wxyz"))


def adata():
    obs = pd.DataFrame({"run": BATCH, "age": np.arange(N, dtype=float)}, index=IDS)
    made = ad.AnnData(X.astype(np.float32), obs=obs)
    made.layers["thin"] = sparse.csr_matrix(np.where(X > 0, X, 0))
    return made


def in_file(path):
    """The table in a file of the kind that the extension says; a source of its numbers."""
    match path.name.split(".", 1)[1]:
        case "npy":
            np.save(path, X)
        case "h5":
            with h5py.File(path, "w") as file:
                file.create_dataset("raw/X", data=X, chunks=(5, P))
        case "zarr":
            zarr.create_array(str(path), data=X, chunks=(5, 2))
        case "csv" | "tsv":
            FRAME.to_csv(path, sep="\t" if path.suffix == ".tsv" else ",")
        case "csv.gz":
            with gzip.open(path, "wt") as out:
                FRAME.to_csv(out)
        case "parquet":
            FRAME.to_parquet(path, row_group_size=6)
        case "h5ad":
            adata().write_h5ad(path)
    return path


def numbers(source, rows=None):
    return np.concatenate([np.asarray(block.X) for block in source.blocks(rows)])


FILES = ["t.npy", "t.h5", "t.zarr", "t.csv", "t.tsv", "t.csv.gz", "t.parquet", "t.h5ad"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("rows", [None, 1, 7, 100])
def test_files_give_their_rows_as_often_as_they_are_asked(tmp_path, name, rows):
    labels = {"batch": "run"} if name.endswith("h5ad") else {"batch": BATCH}
    source = as_source(in_file(tmp_path / name), **labels)
    assert isinstance(source, Source)
    assert source.n_features == P
    assert source.n_rows == (None if "sv" in name else N)
    for _ in range(2):
        blocks = list(source.blocks(rows))
        np.testing.assert_array_equal(numbers(source, rows), X.astype(source.dtype))
        assert [b.start for b in blocks] == [0, *np.cumsum([len(b.X) for b in blocks])[:-1]]
        assert np.concatenate([b.batch for b in blocks]).tolist() == BATCH.tolist()
        assert max(len(b.X) for b in blocks) <= (rows or N)
        assert blocks[-1].share == pytest.approx(1.0)


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_tables_keep_names_and_ids(tmp_path, name):
    source = as_source(in_file(tmp_path / name))
    pd.testing.assert_frame_equal(pd.concat([block.X for block in source.blocks(5)]), FRAME)
    assert source.names == list("wxyz")


@pytest.mark.parametrize(
    "open_it", [str, lambda p: ad.read_h5ad(p, backed="r"), ad.experimental.read_lazy, ad.read_h5ad]
)
@pytest.mark.parametrize("layer", [None, "thin"])
def test_anndata_gives_a_matrix_and_columns_of_obs(tmp_path, open_it, layer):
    path = in_file(tmp_path / "t.h5ad")
    source = as_source(open_it(path), "run", ["age"], layer=layer)
    blocks = list(source.blocks(6))
    want = X.astype(np.float32) if layer is None else np.where(X > 0, X, 0)
    np.testing.assert_array_equal(np.concatenate([b.X for b in blocks]), want)
    assert all(b.X.dtype == want.dtype for b in blocks)
    assert [v for b in blocks for v in b.batch] == BATCH.tolist()
    assert [v for b in blocks for v in b.keep["age"]] == list(range(N))
    for names in ("rum", ["age", "rum"]):
        with pytest.raises(BatchfixError, match=r"'rum' must be in adata.obs.*did you mean 'run'"):
            as_source(open_it(path), names)


def test_what_an_anndata_lacks_is_named(tmp_path):
    made = adata()
    with pytest.raises(BatchfixError, match=r"layer must name one of the layers \('thin'\), got 'thick'"):
        as_source(made, layer="thick")
    made.obs.loc["s03", "run"] = np.nan
    with pytest.raises(MissingLabelError, match="s03"):
        as_source(made, "run")
    made.layers["columns"] = sparse.csc_matrix(X)
    np.testing.assert_array_equal(numbers(as_source(made, layer="columns"), 5), X)
    made.write_h5ad(tmp_path / "t.h5ad")
    with pytest.raises(BatchfixError, match="stored by rows"):
        as_source(tmp_path / "t.h5ad", layer="columns")
    with pytest.raises(BatchfixError, match="layer must name one of an AnnData"):
        as_source(X, layer="thin")


# ---- blocks


BLOCKS = [(X[:4], BATCH[:4]), (X[4:5], "a"), (X[5:5], BATCH[5:5]), (X[5:], BATCH[5:])]


@pytest.mark.parametrize("given", [BLOCKS, tuple(BLOCKS), lambda: iter(BLOCKS)])
def test_blocks_come_as_they_are_and_again(given):
    source = as_source(given)
    assert (source.n_features, source.names, source.dtype) == (P, None, np.float64)
    for _ in range(2):
        blocks = list(source.blocks())
        assert [(b.start, b.stop) for b in blocks] == [(0, 4), (4, 5), (5, N)]  # an empty one is none
        np.testing.assert_array_equal(numbers(source), X)


def test_a_generator_comes_once():
    source = as_source(block for block in BLOCKS)
    assert source.n_features == P  # asks for the first block, which is not lost
    np.testing.assert_array_equal(numbers(source), X)
    with pytest.raises(BatchfixError, match="used up"):
        numbers(source)


def test_a_generator_that_was_used_up_is_refused():
    for used_up in (iter([]), (each for each in ())):
        with pytest.raises(BatchfixError, match="got an iterator that has none left"):
            list(as_source(used_up).blocks())


def test_lists_that_are_no_table_are_refused():
    with pytest.raises(BatchfixError, match=r"must be a tuple \(X, batch\), got a list"):
        as_source([[X, BATCH]])
    with pytest.raises(BatchfixError, match="got rows of different lengths"):
        as_source([[1.0, 2.0], [3.0]])


def test_sparse_blocks_become_dense_and_lists_are_tables():
    thin = sparse.csr_matrix(X.astype(np.int64))
    blocks = list(as_source(thin).blocks(10))
    assert {b.X.dtype for b in blocks} == {np.dtype(np.int64)}
    assert as_source(X.tolist()).n_rows == N
    assert [b.X.shape for b in as_source([thin[:3], thin[3:]]).blocks()] == [(3, P), (N - 3, P)]


def test_what_is_masked_is_missing():
    hidden = np.ma.array(X, mask=X > 1)
    for table in (hidden, [hidden[:9], hidden[9:]]):
        np.testing.assert_array_equal(numbers(as_source(table), 5), np.where(X > 1, np.nan, X))


@pytest.mark.parametrize("X", [3, "t.txt", {"a": 1}, np.zeros(3), np.zeros((2, 2, 2)), [], [X, np.zeros(3)], lambda: 3])
def test_what_holds_no_rows_is_refused(X):
    with pytest.raises(BatchfixError):
        list(as_source(X).blocks())


@pytest.mark.parametrize("rows", [0, -1, 2.5, True, "3"])
def test_block_rows_must_be_a_number_of_rows(rows):
    with pytest.raises(BatchfixError, match="block_rows must be a whole number"):
        list(as_source(X).blocks(rows))


@pytest.mark.parametrize("name", ["t.npy", "t.csv", "t.parquet", "t.h5ad", "blocks"])
@pytest.mark.parametrize("rows", [10**19, 10**400], ids=["10**19", "10**400"])
def test_blocks_may_be_larger_than_the_table(tmp_path, name, rows):
    given = [X] if name == "blocks" else in_file(tmp_path / name)
    assert [block.X.shape for block in as_source(given).blocks(rows)] == [(N, P)]


def test_blocks_are_of_whole_chunks_and_moderate_size():
    class Large:
        shape, dtype, chunks = (10**7, 1000), np.dtype(np.float32), (100, 1000)

        def __getitem__(self, rows):
            raise AssertionError("read")

    rows = as_source(Large()).rows_per_block()
    assert rows % 100 == 0
    assert 0.9 * BLOCK_BYTES < rows * 8000 <= BLOCK_BYTES
    Large.chunks = (10**6, 10)
    assert as_source(Large()).rows_per_block() * 8000 <= BLOCK_BYTES


def test_a_mapped_file_is_given_back(tmp_path):
    mapped = np.lib.format.open_memmap(tmp_path / "t.npy", "w+", np.float64, (1000, 50))
    mapped[:] = 7
    for block in as_source(mapped).blocks(100):
        assert (block.X == 7).all()
    private = np.load(tmp_path / "t.npy", mmap_mode="c")
    private[3] = 1  # lives in this process only, and must not be given back
    assert numbers(as_source(private), 100)[3].tolist() == [1] * 50
    list(as_source(private).blocks(100))
    assert private[3].tolist() == [1] * 50


# ---- labels


@given(st.lists(st.integers(1, N), max_size=4), st.permutations(range(N)))
def test_labels_with_an_index_are_found_by_it(cuts, order):
    frames = np.split(np.arange(N), sorted(cuts))
    labels = pd.Series(BATCH, index=IDS).iloc[list(order)]
    table = pd.DataFrame({"run": BATCH, "k": np.arange(N)}, index=IDS).iloc[list(order)]
    for X in (FRAME, [FRAME.iloc[rows] for rows in frames if len(rows)]):
        blocks = list(as_source(X, labels, table[["k"]]).blocks(5))
        assert [v for b in blocks for v in b.batch] == BATCH.tolist()
        assert [v for b in blocks for v in b.keep["k"]] == list(range(N))
        assert all(b.keep["k"].index.equals(b.X.index) for b in blocks)


@pytest.mark.parametrize("role", ["batch", "keep", "nuisance"])
@pytest.mark.parametrize("form", ["table", "blocks", "t.csv"])
def test_columns_of_a_mapping_go_each_by_its_own_index(tmp_path, role, form):
    longer, order = pd.Series(np.arange(N + 1), index=[*IDS, "none"]), np.random.default_rng(1).permutation(N)
    given = {"run": longer.iloc[::-1], "k": np.arange(N), "code": pd.Series(np.arange(N), index=IDS).iloc[order]}
    X = {"table": FRAME, "blocks": [FRAME[:9], FRAME[9:]]}.get(form) if form != "t.csv" else in_file(tmp_path / form)
    blocks = [getattr(block, role) for block in as_source(X, **{role: given}).blocks(7)]
    for name in given:
        assert [v for block in blocks for v in block[name]] == list(range(N))
    with pytest.raises(AlignmentError, match=rf"{role}\['k'\] must have one entry a row of X, got {N - 1} for {N}"):
        list(as_source(X, **{role: given | {"k": np.arange(N - 1)}}).blocks(N))


def test_names_that_are_one_as_text_are_refused():
    with pytest.raises(BatchfixError, match=r"must have different names, got \['1', '1'\]"):
        as_source([FRAME], keep={1: BATCH, "1": BATCH})


def test_labels_go_by_position_where_rows_have_no_ids():
    labels = pd.Series(BATCH, index=IDS[::-1])
    assert [v for b in as_source(X, labels).blocks(4) for v in b.batch] == BATCH.tolist()


def test_ids_that_come_twice_are_refused():
    frames = [FRAME.reset_index(drop=True)[:6], FRAME.reset_index(drop=True)[:6]]  # both are numbered from 0
    with pytest.raises(AlignmentError, match=r"Row ids must not come twice.*to_numpy"):
        list(as_source(frames, pd.Series(BATCH)).blocks())
    blocks = as_source(frames, BATCH[:12]).blocks()
    assert [v for b in blocks for v in b.batch] == BATCH[:12].tolist()


def test_ids_without_labels_are_named():
    with pytest.raises(AlignmentError, match="s22"):
        list(as_source([FRAME], pd.Series(BATCH, index=[*IDS[:-1], "z"])).blocks())


def test_labels_that_are_too_few_are_refused_before_reading():
    class Unread:
        shape, dtype = (N, P), np.dtype(float)

        def __getitem__(self, rows):
            raise AssertionError("read")

    with pytest.raises(AlignmentError, match=f"got {N - 1} for {N} rows"):
        as_source(Unread(), BATCH[1:])


def test_labels_come_one_way():
    with pytest.raises(BatchfixError, match="batch must come with the blocks or as an argument"):
        list(as_source(BLOCKS, BATCH).blocks())
    source = as_source(X, BATCH)
    assert as_source(source) is source
    with pytest.raises(BatchfixError, match="has its labels already"):
        as_source(source, keep=BATCH)


def test_own_labels_are_gathered_in_the_order_of_rows():
    labels = pd.Series(BATCH, index=IDS)
    frames = [FRAME[:5], FRAME[5:14], FRAME[14:]]
    given = [
        (each, labels[each.index][::-1], {"run": labels[each.index][::-1], "k": [1] * len(each)}) for each in frames
    ]
    blocks = list(gathering.gathered(as_source(given).blocks(), lambda block: [block.batch], "batch"))
    assert [block.X.index.tolist() for block in blocks] == [IDS[:11], IDS[11:]]
    for block in blocks:
        assert block.batch.tolist() == block.keep["run"].tolist() == labels[block.X.index].tolist()


@pytest.mark.parametrize(
    ("keep", "kind"),
    [([1, 2, 3.5], "f"), ([1, 2, 3], "i"), (["1", "2", "x"], "O"), (pd.Categorical([1, 2, 1]), "O")],
)
def test_kinds_of_columns_are_those_of_all_rows(keep, kind):
    kinds = {b.keep["keep0"].dtype.kind for b in as_source(X[:3], keep=keep).blocks(1)}
    assert kinds == {kind}


# ---- files that are not as they should be


def test_text_columns_are_keys_or_named(tmp_path):
    path = tmp_path / "t.csv"
    FRAME.assign(run=BATCH, well=[f"{k:03d}" for k in range(N)], age=range(N)).to_csv(path)
    with pytest.raises(NotNumericError, match="'run'"):
        list(as_source(path).blocks())
    source = as_source(path, keys=["run", "well", "age"])
    blocks = list(source.blocks(9))
    assert [b.X.columns.tolist() for b in blocks] == [[*"wxyz", "run", "well", "age"]] * 3
    assert blocks[1].X["well"].iloc[0] == "009"  # a code: as numbers, 009 and 9 would be one
    assert blocks[1].X["age"].dtype == np.int64
    assert [b.X["age"].iloc[0] for b in as_source(path, keys=["run", "well"], text=["age"]).blocks(9)] == [
        "0",
        "9",
        "18",
    ]
    with pytest.raises(TableError, match=r"did you mean 'run'"):
        as_source(path, text=["rum"])


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["1", "2", "300"], np.int64),
        (["9007199254740992", "9007199254740993", "-5"], np.int64),
        (["1", "2", "2.41"], np.float64),
        (["1", "2", ""], np.float64),
        (["1", "2", "1e3"], np.float64),
        (["1", "2", "x"], object),
        (["1", "2", "07"], object),
    ],
)
def test_keys_are_of_the_kind_of_all_their_cells(tmp_path, cells, kind):
    path = tmp_path / "t.csv"
    FRAME[: len(cells)].assign(run=cells).to_csv(path)
    found = [block.X["run"] for block in as_source(path, keys=["run"]).blocks(1)]
    assert {each.dtype for each in found} == {np.dtype(kind)}
    wanted = [np.nan if cell == "" else cell if kind is object else kind(cell) for cell in cells]
    np.testing.assert_array_equal(np.concatenate(found), np.array(wanted, dtype=kind))


def test_a_cell_that_is_no_number_is_named(tmp_path):
    path = tmp_path / "t.csv"
    frame = FRAME.astype(object)
    frame.iloc[15, 2] = "high"
    frame.to_csv(path)
    with pytest.raises(TableError, match="row 's15', column 'y' holds 'high'"):
        list(as_source(path).blocks(9))
    assert isinstance(as_source(path), TextSource)


def test_missing_cells_are_missing(tmp_path):
    path = tmp_path / "t.csv"
    gaps = FRAME.mask(X > 0).assign(run=[None, *BATCH[1:]])
    gaps.to_csv(path)
    block = next(as_source(path, keys=["run"]).blocks())
    pd.testing.assert_frame_equal(block.X[list("wxyz")], gaps[list("wxyz")])
    assert block.X["run"].isna().tolist() == [True] + [False] * (N - 1)


@pytest.mark.parametrize("name", ["t.npy", "t.h5", "t.parquet", "t.h5ad", "t.csv.gz"])
def test_files_of_another_kind_are_refused(tmp_path, name):
    path = tmp_path / name
    with pytest.raises(BatchfixError, match="does not exist"):
        as_source(path)
    path.write_bytes(b"something else\n" * 9)
    with pytest.raises(BatchfixError, match=name):
        list(as_source(path).blocks())


def test_a_dataset_of_a_file_that_was_closed_is_refused(tmp_path):
    with h5py.File(in_file(tmp_path / "t.h5"), "r") as file:
        closed = file["raw/X"]
    with pytest.raises(BatchfixError, match="X must be open, got a dataset of a file that was closed"):
        as_source(closed)


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "t.npy").touch()
    with pytest.raises(BatchfixError, match=r"t\.npy' cannot be read as what its name says"):
        as_source(tmp_path / "t.npy")


def test_a_damaged_chunk_of_a_zarr_array_is_named(tmp_path):
    chunk = in_file(tmp_path / "t.zarr") / "c" / "2" / "0"
    chunk.write_bytes(b"damaged")
    blocks = as_source(tmp_path / "t.zarr").blocks(5)
    assert next(blocks).X.shape == (5, P)
    with pytest.raises(BatchfixError, match=r"t\.zarr' cannot be read as what its name says"):
        list(blocks)


@pytest.mark.parametrize(("name", "module"), [("t.h5", "h5py"), ("t.zarr", "zarr"), ("t.parquet", "pyarrow")])
def test_a_package_that_is_missing_is_named_with_its_extra(tmp_path, monkeypatch, name, module):
    path = in_file(tmp_path / name)
    for each in [each for each in sys.modules if each.startswith(f"{module}.")]:
        monkeypatch.delitem(sys.modules, each)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModuleNotFoundError, match=rf"with {module}: pip install 'batchfix\[files\]'"):
        as_source(path)


def test_files_of_several_arrays_must_be_told_which(tmp_path):
    path = tmp_path / "t.h5"
    with h5py.File(path, "w") as file:
        file["raw/X"], file["raw/Y"] = X, X + 1
    np.testing.assert_array_equal(numbers(as_source(f"{path}::raw/Y")), X + 1)
    with pytest.raises(BatchfixError, match="'raw/X', 'raw/Y'"):
        as_source(path)
    with pytest.raises(BatchfixError, match="did you mean 'raw/Y'"):
        as_source(f"{path}::raw/Z")
    group = zarr.open_group(str(tmp_path / "t.zarr"), mode="w")
    for name in ("X", "Y"):
        group.create_array(name, data=X)
    np.testing.assert_array_equal(numbers(as_source(f"{tmp_path / 't.zarr'}::Y")), X)
    with pytest.raises(BatchfixError, match="'X', 'Y'"):
        as_source(tmp_path / "t.zarr")
    with pytest.raises(BatchfixError, match=r"Only \.h5 and \.zarr"):
        as_source(f"{tmp_path / 't.npy'}::X")


@pytest.mark.parametrize(
    "index", [pd.RangeIndex(N - 1, -1, -1), pd.RangeIndex(5, 5 + N, name="row"), pd.RangeIndex(0, 2 * N, 2)]
)
def test_parquet_rows_keep_the_numbers_that_pandas_noted(tmp_path, index):
    frame = FRAME.set_axis(index, axis=0)
    frame.to_parquet(tmp_path / "t.parquet")
    labels = pd.Series([f"label {k}" for k in range(2 * N)])
    source = as_source(tmp_path / "t.parquet", batch=labels)
    for rows in (1, 4, N):
        pd.testing.assert_frame_equal(pd.concat([block.X for block in source.blocks(rows)]), frame, check_exact=True)
        assert [label for block in source.blocks(rows) for label in block.batch] == [f"label {k}" for k in index]


@pytest.mark.parametrize("levels", [("id", "k"), ("k", "id"), ("k", "id", "m"), (None, None, "k")])
def test_parquet_rows_keep_levels_that_pandas_noted_as_ranges(tmp_path, levels):
    values = {"id": IDS, "k": pd.RangeIndex(5, 5 + 2 * N, 2), "m": pd.RangeIndex(N, 0, -1), None: IDS}
    index = pd.MultiIndex.from_arrays([values[name] for name in levels], names=levels)
    frame = FRAME.set_axis(index)
    frame.to_parquet(tmp_path / "t.parquet", row_group_size=6)
    found = pd.concat([block.X for block in as_source(tmp_path / "t.parquet").blocks(7)])
    pd.testing.assert_frame_equal(found, frame, check_index_type=False)


def test_a_row_group_of_parquet_is_not_held_whole(tmp_path):
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(200_000, 10))).rename(columns=str)
    table.to_parquet(tmp_path / "t.parquet", row_group_size=len(table), data_page_size=1 << 16, use_dictionary=False)
    before, held = pa.total_allocated_bytes(), []
    for block in as_source(tmp_path / "t.parquet").blocks(1000):
        assert block.X.shape == (1000, 10)
        held.append(pa.total_allocated_bytes() - before)
    assert max(held) < table.size * 8 / 3


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64])
@pytest.mark.parametrize("form", ["csr_matrix", "csc_array", "coo_matrix"])
def test_sparse_numbers_keep_every_digit(dtype, form):
    values = (X * 2e8).astype(dtype)  # beyond the whole numbers that float32 can tell apart
    thin = getattr(sparse, form)(values)
    sources = [as_source(thin), as_source([thin.tocsr()[:9], thin.tocsr()[9:]])]
    if form != "coo_matrix":  # AnnData takes none
        sources.append(as_source(ad.AnnData(thin)))
    for source in sources:
        np.testing.assert_array_equal(numbers(source, 5), values, strict=True)
