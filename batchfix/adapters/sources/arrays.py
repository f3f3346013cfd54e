"""Arrays and iterables as sources: whatever has a shape, a dtype and slices of rows, and whatever yields blocks.

Rows of a memory-mapped file are given back to the system once they have been read, so that a file larger than memory
does not fill it.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from ...correctors.tables import is_polars, refuse_lazy
from ...exceptions import BatchfixError
from .row_labels import RowLabels, aligned
from .source import ROLES, Source, names_of

FORMS = (
    "a DataFrame, an array of two dimensions, a zarr array, an h5py dataset, an AnnData, a path, a list of blocks, or "
    "a function that returns an iterator of blocks"
)


def of(X: Any, given: dict[str, Any]) -> Source:
    """Source of an array, a DataFrame or an iterable of blocks."""
    refuse_lazy(X)
    check_open(X, "X")
    if isinstance(X, list | tuple) and X and not _is_block(X[0]):
        X = _rows(X)
    if hasattr(X, "shape") and hasattr(X, "__getitem__"):
        return ArraySource(X, given)
    if callable(X) or (isinstance(X, Iterable) and not isinstance(X, str | bytes | dict)):
        return BlockSource(X, given)
    raise BatchfixError(f"X must be {FORMS}, got {X!r:.80}.")


class ArraySource(Source):
    """Rows of an array: in memory, memory-mapped, or any library's that takes slices."""

    def __init__(self, X: Any, given: dict[str, Any]) -> None:
        if len(X.shape) != 2:
            raise BatchfixError(f"X must have two dimensions, got shape {tuple(X.shape)}.")
        self.X = X.tocsr() if sparse.issparse(X) and X.format != "csr" else X  # once, for rows that can be cut
        self.n_rows, self.n_features = int(X.shape[0]), int(X.shape[1])
        self.names = names_of(X)
        self.dtype = _dtype(X)
        chunks = getattr(X, "chunks", None)
        self.chunk_rows = chunks[0] if chunks and isinstance(chunks[0], int) else None
        index = X.index if isinstance(X, pd.DataFrame) else None
        given = {role: aligned(value, index, role) for role, value in given.items()}
        self.labels = {role: RowLabels(value, role) for role, value in given.items()}
        for labels in self.labels.values():
            labels.check_count(self.n_rows)  # before anything is read

    def tables(self, rows: int) -> Iterator[tuple[Any, dict[str, Any], float]]:
        """See Source."""
        n = self.n_rows or 0
        for start in range(0, n, rows):
            stop = min(start + rows, n)
            yield dense(_cut(self.X, start, stop)), {}, stop / n
            release(self.X)


class BlockSource(Source):
    """Blocks as somebody yields them: matrices, DataFrames, or tuples (X, batch, keep, nuisance)."""

    def __init__(self, X: Any, given: dict[str, Any]) -> None:
        self.given = X
        self.n_rows = sum(_matrix(each, k).shape[0] for k, each in enumerate(X)) if isinstance(X, list) else None
        self.labels = {role: RowLabels(value, role) for role, value in given.items()}
        self.once = isinstance(X, Iterator)

    def tables(self, rows: int) -> Iterator[tuple[Any, dict[str, Any], float]]:
        """See Source; blocks stay as they come."""
        start = 0
        for k, each in enumerate(self._iterate()):
            X, own = _parts(each, k)
            start += X.shape[0]
            yield X, own, start / self.n_rows if self.n_rows else np.nan
        if not start and self.once:
            raise BatchfixError(
                "X must have rows, got an iterator that has none left. Pass a list, or a function that returns a fresh "
                "iterator: one that was read to its end gives no more."
            )

    @cached_property
    def _head(self) -> Any:
        """The first block, for those who ask what blocks are like."""
        blocks = self._iterate()
        first = next(blocks, None)
        if first is None:
            raise BatchfixError("X must have rows, got no blocks. Look at where they come from.")
        if self.once:
            self.given = chain([first], blocks)
        return _parts(first, 0)[0]

    @property
    def n_features(self) -> int:  # type: ignore[override]  # asked of the first block, if anybody does
        """Columns of the first block."""
        return int(self._head.shape[1])

    @property
    def names(self) -> list[Any] | None:  # type: ignore[override]  # as n_features
        """Names of the columns of the first block."""
        return names_of(self._head)

    @property
    def dtype(self) -> np.dtype[Any]:  # type: ignore[override]  # as n_features
        """Of the numbers of the first block."""
        return _dtype(self._head)

    def rows_per_block(self, block_rows: int | None = None) -> int:
        """Nothing is cut: blocks stay as they come."""
        return 1 if block_rows is None else super().rows_per_block(block_rows)

    def _iterate(self) -> Iterator[Any]:
        if self.once:
            found, self.given = self.given, None
            if found is None:
                raise BatchfixError(
                    "Blocks must come once more, got a generator that was used up. Pass a list, or a function that "
                    "returns a fresh iterator."
                )
            return iter(found)
        found = self.given() if callable(self.given) else self.given
        if not isinstance(found, Iterable):
            raise BatchfixError(f"X() must return an iterator of blocks, got {type(found).__name__}.")
        return iter(found)


def dense(X: Any) -> Any:
    """A block as the correctors take it: sparse ones dense, of their dtype, and masked values as NaN."""
    if sparse.issparse(X):
        return np.asarray(X.toarray())
    if isinstance(X, np.ma.MaskedArray):  # whose mask np.asarray would drop
        return np.ma.filled(X.astype(np.float64), np.nan)
    return X if isinstance(X, pd.DataFrame) or is_polars(X) else np.asarray(X)


def _rows(X: Any) -> Any:
    """Rows in a list as a matrix."""
    if isinstance(X[0], list) and X[0] and _is_block(X[0][0]):
        raise BatchfixError("A block with its labels must be a tuple (X, batch), got a list. Write (X, batch).")
    try:
        return np.asarray(X) if np.ndim(X[0]) else X
    except ValueError as error:
        raise BatchfixError(f"X must be {FORMS}, got rows of different lengths. Fill them up.") from error


def check_open(array: Any, what: str) -> None:
    """Refuse an HDF5 dataset whose file was closed, and which can tell nothing any more."""
    if type(array).__module__.partition(".")[0] == "h5py" and not array:
        raise BatchfixError(f"{what} must be open, got a dataset of a file that was closed. Open it, or pass its path.")


def release(X: Any) -> None:
    """Give memory that maps a file back to the system. What was written stays in the file."""
    modes = []
    while isinstance(X, np.ndarray):
        modes += [X.mode] if isinstance(X, np.memmap) else []
        X = X.base
    shared = bool(modes) and all(mode in ("r", "r+", "w+") for mode in modes)  # a private copy would lose what it holds
    if shared and isinstance(X, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        X.madvise(mmap.MADV_DONTNEED)


def _cut(X: Any, start: int, stop: int) -> Any:
    return X.iloc[start:stop] if isinstance(X, pd.DataFrame) else X[start:stop]


def _is_block(each: Any) -> bool:
    if isinstance(each, tuple):
        return 2 <= len(each) <= 4 and _is_block(each[0])
    return len(getattr(each, "shape", ())) == 2


def _parts(each: Any, k: int) -> tuple[Any, dict[str, Any]]:
    """Numbers and labels of a block."""
    X, labels = _matrix(each, k), each[1:] if isinstance(each, tuple) else ()
    own = {role: value for role, value in zip(ROLES, labels, strict=False) if value is not None}
    return dense(X), own


def _matrix(each: Any, k: int) -> Any:
    """Numbers of a block, as they came."""
    if not _is_block(each):
        raise BatchfixError(
            "A block must be a matrix or a DataFrame, or a tuple (X, batch), (X, batch, keep) or (X, batch, keep, "
            f"nuisance), got {type(each).__name__} as block {k}."
        )
    return each[0] if isinstance(each, tuple) else each


def _dtype(X: Any) -> np.dtype[Any]:
    """The dtype of numbers that have one, else float64."""
    if isinstance(X, pd.DataFrame):
        kinds = {kind for kind in X.dtypes if pd.api.types.is_float_dtype(kind)}
        return np.dtype(np.float32) if kinds == {np.dtype(np.float32)} else np.dtype(np.float64)
    found = getattr(X, "dtype", None)
    return np.dtype(found) if isinstance(found, np.dtype) else np.dtype(np.float64)
