"""Sparse matrices: made dense a few rows at a time, or scaled as they are.

    sparse (n, p)                           ->  dense (n, p), the only thing of its size that is made
    sparse (n, p), one factor a number      ->  sparse (n, p), of the same pattern

A correction that maps 0 to 0 in every batch and feature is a factor a batch and feature: it needs no dense matrix.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from ...core.affine import Affine
from ...core.blocks import INFINITE, any_infinite
from ...correctors.notices import warn
from ...exceptions import BatchfixError, DenseWarning

PIECE = 1 << 21
"""Numbers that are dealt with at a time."""


EXACT = 1 << 24
"""Whole numbers up to 16,777,216 are exact in float32, in half the room of float64."""


def float_type(X: Any) -> np.dtype[Any]:
    """dtype of a sparse matrix once it is corrected: float32 if it holds these numbers, float64 if not.

    Of wide integers, the stored numbers are read to know: of such on disk or of dask, piece by piece.
    """
    dtype = np.dtype(X.dtype)
    fits = np.can_cast(dtype, np.float32) or (dtype.kind in "iu" and _largest(X) <= EXACT)
    return np.dtype(np.float32 if fits else np.float64)


def _largest(X: Any) -> float:
    """Largest magnitude of the stored numbers of a sparse matrix of integers."""
    if hasattr(X, "dask"):
        each = X.map_blocks(
            lambda block: np.array([[_largest(block)]]), chunks=(1, 1), dtype=float, meta=np.empty((0, 0))
        )
        return float(each.max().compute())
    if sparse.issparse(X):
        data: Any = X.data if X.format in ("csr", "csc", "coo") else X.tocsr().data
    else:
        data = X.group["data"]
    pieces = (data[start : start + PIECE] for start in range(0, data.shape[0], PIECE))
    return max((max(float(piece.max()), -float(piece.min())) for piece in pieces), default=0.0)


ONLY_SCALES = "A corrector that only scales, BatchCorrector(location=None), keeps it sparse."


def warn_dense(
    what: str,
    shape: tuple[int, ...],
    dtype: Any,
    where: str,
    *,
    why: str = "its correction is not, since what was 0 moves",
    instead: str = ONLY_SCALES,
) -> None:
    """Say that a sparse matrix becomes dense, and of what size, before it does.

    Parameters
    ----------
    what : str
        Name of the matrix.
    shape, dtype
        Of the dense one.
    where : str
        Where that will be: "in memory", say.
    why, instead : str
        Why it must be, and a sentence that says how it need not.
    """
    kind = np.dtype(dtype)
    half = " (half of it as float32)" if kind == np.float64 else ""
    warn(f"{what} is sparse, and {why}: {gigabytes(shape, kind)} of {kind} {where}{half}. {instead}", DenseWarning)


def gigabytes(shape: tuple[int, ...], dtype: Any) -> str:
    """Size of a dense matrix.

    Examples
    --------
    >>> gigabytes((100_000, 2_000), np.float32), gigabytes((10, 10), np.float32)
    ('0.8 GB', 'less than 0.01 GB')
    """
    size = float(np.prod(shape, dtype=float)) * np.dtype(dtype).itemsize / 1e9
    return "less than 0.01 GB" if size < 0.01 else f"{size:,.2g} GB" if size < 99.5 else f"{size:,.0f} GB"


def dense_of(X: Any, what: str, dtype: np.dtype[Any]) -> np.ndarray:
    """Return a sparse matrix in memory as a dense one, without a second copy of it on the way.

    Raises
    ------
    BatchfixError
        There is not that much memory.
    """
    try:
        out = np.empty(X.shape, dtype=dtype)
    except MemoryError as error:
        raise BatchfixError(
            f"{what} made dense must fit into memory, which has no {gigabytes(X.shape, dtype)} left. Write it to a "
            "file, open that with anndata.read_h5ad(path, backed='r'), and correct it with filename=."
        ) from error
    if X.format not in ("csr", "csc"):
        X = X.tocsr()
    axis = 0 if X.format == "csr" else 1  # a matrix by columns is cut by columns, which costs nothing
    step = max(1, PIECE // X.shape[1 - axis])
    for start in range(0, X.shape[axis], step):
        piece = (slice(start, start + step), slice(None))[:: 1 if axis == 0 else -1]
        out[piece] = X[piece].astype(dtype, copy=False).toarray()
    return out


# ---- scaled as they are


@dataclass(frozen=True)
class Factors:
    """What the numbers of each row and column are multiplied by.

    Attributes
    ----------
    codes : int array (n,)
        Batch of each row.
    scale : array (B, p)
    """

    codes: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, maps: Affine, codes: np.ndarray) -> Factors | None:
        """Factors of maps (B, p); None if some map moves 0."""
        if maps.loading is not None or np.any(maps.d):
            return None
        return cls(codes, np.asarray(maps.scale))

    def rows(self, start: int, stop: int) -> Factors:
        """Those of some rows."""
        return Factors(self.codes[start:stop], self.scale)


def scaled(X: Any, factors: Factors, dtype: np.dtype[Any]) -> Any:
    """Return a sparse matrix in memory times its factors: of its format, and sharing no memory with it.

    Raises
    ------
    BatchfixError
        A number is infinite.
    """
    if X.format not in ("csr", "csc"):
        X = X.tocsr()
    data = np.empty(X.data.shape, dtype=dtype)
    for at, values in scaled_data(X, X.indptr, factors, dtype):
        data[at] = values
    array = isinstance(X, sparse.sparray)
    if X.format == "csr":
        make: Any = sparse.csr_array if array else sparse.csr_matrix
    else:
        make = sparse.csc_array if array else sparse.csc_matrix
    return make((data, X.indices.copy(), X.indptr.copy()), shape=X.shape)


def scaled_data(
    X: Any, indptr: np.ndarray, factors: Factors, dtype: np.dtype[Any]
) -> Iterator[tuple[slice, np.ndarray]]:
    """Stored numbers times their factors, piece by piece.

    Parameters
    ----------
    X : with `format` ("csr" or "csc"), `data` and `indices`, which may lie on disk
    indptr : int array
        Where each row (column) begins, and the end.
    factors : Factors
    dtype : of the result

    Raises
    ------
    BatchfixError
        A number is infinite.
    """
    scale = factors.scale.astype(dtype, copy=False)
    for start in range(0, int(indptr[-1]), PIECE):
        at = slice(start, min(start + PIECE, int(indptr[-1])))
        first, last = (int(np.searchsorted(indptr, end, side="right")) - 1 for end in (at.start, at.stop - 1))
        counts = np.diff(np.clip(indptr[first : last + 2], at.start, at.stop))
        outer = np.repeat(np.arange(first, last + 1), counts)
        inner = X.indices[at]
        rows, columns = (outer, inner) if X.format == "csr" else (inner, outer)
        with np.errstate(all="ignore"):  # an overflow is an infinity, which is looked for
            values = X.data[at].astype(dtype) * scale[factors.codes[rows], columns]
        if any_infinite(values):
            raise BatchfixError(INFINITE)
        yield at, values
