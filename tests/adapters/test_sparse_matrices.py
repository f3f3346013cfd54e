"""Sparse matrices made dense, and scaled as they are: against scipy's own, and numpy's multiplication."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from batchfix.adapters.anndata import sparse as sparse_matrices
from batchfix.adapters.anndata.sparse import Factors, dense_of, float_type, gigabytes, scaled
from batchfix.adapters.sources.anndata import checked
from batchfix.core.affine import Affine
from batchfix.exceptions import BatchfixError

KINDS = [sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array, sparse.csc_array, sparse.coo_array]
DTYPES = ["f4", "f8", "i1", "u2", "i4", "i8", "?"]


@st.composite
def matrices(draw):
    """A sparse matrix of any kind and dtype, with empty rows and columns."""
    n, p = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    there = rng.random((n, p)) < draw(st.sampled_from([0.0, 0.2, 0.7, 1.0]))
    values = np.where(there, rng.integers(1, 50, (n, p)), 0).astype(draw(st.sampled_from(DTYPES)))
    return draw(st.sampled_from(KINDS))(values), values


@given(matrices(), st.integers(1, 20))
def test_dense(pair, piece):
    X, values = pair
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sparse_matrices, "PIECE", piece)
        found = dense_of(X, "X", float_type(X))
    assert found.dtype == float_type(X)
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, values)


@given(matrices(), st.integers(1, 20), st.integers(1, 3))
def test_scaled(pair, piece, batches):
    X, values = pair
    rng = np.random.default_rng(piece)
    factors = Factors(rng.integers(0, batches, X.shape[0]), rng.uniform(0.5, 2, (batches, X.shape[1])))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sparse_matrices, "PIECE", piece)
        found = scaled(X, factors, float_type(X))
    dtype = float_type(X)
    assert found.dtype == dtype
    assert isinstance(found, sparse.sparray) is isinstance(X, sparse.sparray)
    assert found.nnz == X.nnz
    np.testing.assert_array_equal(
        found.toarray(), values.astype(dtype) * factors.scale.astype(dtype)[factors.codes], strict=True
    )


def test_a_product_that_is_infinite():
    X = sparse.csr_array(np.array([[1e38, 0.0]], dtype=np.float32))
    with pytest.raises(BatchfixError, match="got infinity"):
        scaled(X, Factors(np.zeros(1, dtype=int), np.full((1, 2), 10.0)), np.dtype("f4"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("dtype", "most", "want"),
    [
        *((each, 1, "f4") for each in ("?", "i1", "u2", "f4", "i4", "u8")),
        *(("f8", 1, "f8"), ("g", 1, "f8")),
        *((each, 2**24, "f4") for each in ("i4", "u4", "i8")),
        *((each, 2**24 + 1, "f8") for each in ("i4", "u4", "i8")),
        *(("i8", -(2**24), "f4"), ("i4", -(2**24) - 1, "f8"), ("i8", -(2**63), "f8")),
    ],
)
def test_the_dtype_holds_the_numbers(kind, dtype, most, want):
    values = np.zeros((3, 4), dtype=dtype)
    assert float_type(kind(values)) == ("f4" if want == "f4" or dtype in ("i4", "u4", "i8") else "f8")  # of zeros
    values[1, 2], values[2, 0] = most, 1
    X = kind(values)
    assert float_type(X) == want
    if dtype != "g":
        np.testing.assert_array_equal(X.astype(float_type(X)).toarray().astype(dtype), values)


@pytest.mark.parametrize("kind", KINDS[:4])
def test_numbers_that_lie_outside(kind):
    X = kind(np.arange(12).reshape(3, 4))
    assert checked(X, "X") is X
    for part, at, wrong in (("indices", 2, 4), ("indices", 0, -1), ("indptr", 2, 0)):
        broken = X.copy()
        getattr(broken, part)[at] = wrong
        with pytest.raises(BatchfixError, match=r"X must hold numbers inside of it, got .* shape \(3, 4\)"):
            checked(broken, "X")


def test_maps_that_add_something_have_no_factors():
    scale, nothing, codes = np.array([[2.0, 3.0]]), np.zeros((1, 2)), np.zeros(4, dtype=int)
    assert Factors.of(Affine(nothing, scale, nothing), codes).scale is scale
    same = np.array([[5.0, 0.0]])
    assert Factors.of(Affine(same, np.ones((1, 2)), same), codes) is not None  # 5 taken off, and put back
    for center, shift, loading in (
        (same, nothing, None),
        (nothing, same, None),
        (nothing, nothing, np.zeros((1, 1, 2))),
    ):
        assert Factors.of(Affine(center, scale, shift, loading), codes) is None


@pytest.mark.parametrize(
    ("shape", "dtype", "said"),
    [
        ((10, 10), "f4", "less than 0.01 GB"),
        ((100_000, 30), "f4", "0.012 GB"),
        ((100_000, 2_000), "f8", "1.6 GB"),
        ((1_000_000, 20_000), "f4", "80 GB"),
        ((1_000_000, 24_900), "f4", "100 GB"),
        ((10_000_000, 30_000), "f4", "1,200 GB"),
    ],
)
def test_sizes_as_a_person_reads_them(shape, dtype, said):
    assert gigabytes(shape, dtype) == said
