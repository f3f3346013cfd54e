"""Opening: an array that is there, or a file that will be, becomes a sink of blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from os import PathLike
from typing import Any

from ..sources.source import Source
from .files import open_file
from .sink import ArraySink, Sink


@contextmanager
def open_sink(out: Any, n_rows: int | None = None, like: Source | None = None) -> Iterator[Sink]:
    """Open an array, or a path, to be written block by block.

    Parameters
    ----------
    out : array or path
        .npy, .zarr, .h5 or .hdf5 (path::dataset, by default "X"), .h5ad, .csv, .tsv (.gz) or .parquet.
    n_rows : int, optional
        Rows that will come, where it is known.
    like : Source, optional
        Where the rows come from: an .h5ad file then keeps all but the matrix, a table the names.

    Raises
    ------
    BatchfixError
        What cannot be written to; more or fewer rows than there should be.

    Examples
    --------
    >>> import numpy as np
    >>> out = np.zeros((3, 2))
    >>> with open_sink(out, 3) as sink:
    ...     sink.write(0, np.ones((2, 2)))
    ...     sink.write(2, np.full((1, 2), 5.0))
    >>> out.tolist()
    [[1.0, 1.0], [1.0, 1.0], [5.0, 5.0]]
    """
    with _opened(out, n_rows, like) as sink:
        yield sink
        sink.end()


def fill(out: Any, pieces: Iterable[tuple[int, Any]], n_rows: int | None = None, like: Source | None = None) -> None:
    """Write all blocks to what `open_sink` opens, each with the place of its first row.

    An OSError of the blocks is raised as it came: those that open files would take it for one of the output.
    """
    try:
        with open_sink(out, n_rows, like) as sink:
            for start, values in _marked(pieces):
                sink.write(start, values)
    except _InputError as error:
        raise error.error from error.error.__cause__


class _InputError(Exception):
    """An OSError of the blocks, on its way past those who open files."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error)
        self.error = error


def _marked(pieces: Iterable[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
    try:
        yield from pieces
    except OSError as error:
        raise _InputError(error) from error


@contextmanager
def _array_sink(out: Any, n_rows: int | None) -> Iterator[Sink]:
    yield ArraySink(out, n_rows)


def _opened(out: Any, n_rows: int | None, like: Source | None) -> AbstractContextManager[Sink]:
    if not isinstance(out, str | PathLike):
        return _array_sink(out, n_rows)
    return open_file(out, n_rows, like)
