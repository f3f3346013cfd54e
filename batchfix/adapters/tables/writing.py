"""Tables written to files, as they came and with every digit: whole, or not at all."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import numpy as np

from ...atomic import check_place, replacing
from . import parquet, parquet_output
from .table import REPORT_ROWS, PathLike, Progress, Table, TableError, is_parquet, text_format


def write_table(table: Table, path: PathLike, *, progress: Progress | None = None) -> None:
    """Write a table: ids, columns and text as they were, every digit of the numbers.

    A float32 matrix is written with float32's digits, NaN as an empty cell. The
    file appears under its name only when it is whole (`atomic_write`).

    Raises `TableError` if it cannot be written.
    """
    with open_table(path) as write:
        write(table, progress)


@contextmanager
def open_table(path: PathLike) -> Iterator[Callable[[Table, Progress | None], None]]:
    """Open a table's file, to be written some rows at a time; see `write_table`.

    What is yielded writes the rows of a `Table` below those before; the first one
    says what the columns are.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "out.csv"
    >>> with open_table(path) as write:
    ...     write(Table("id", ["s1"], ["f1"], np.ones((1, 1)), {}), None)
    ...     write(Table("id", ["s2"], ["f1"], np.ones((1, 1)), {}), None)
    >>> path.read_text().split()
    ['id,f1', 's1,1.0', 's2,1.0']
    """
    if is_parquet(path):
        parquet.require()
        with parquet_output.open_table(path) as write:
            yield write
        return
    with atomic_write(path) as out:
        writer = csv.writer(out, delimiter=text_format(path)[0], lineterminator="\n")
        begun = False

        def write(table: Table, progress: Progress | None = None) -> None:
            nonlocal begun
            if not begun:
                writer.writerow([table.id_name, *table.columns])
                begun = True
            _write_rows(writer, table, progress)

        yield write


def _write_rows(writer: Any, table: Table, progress: Progress | None) -> None:
    numbers = table.numbers
    places = [(at, table.text[name]) for at, name in enumerate(table.columns, 1) if name in table.text]
    for i, name in enumerate(table.ids):
        row = numbers[i]
        # csv writes a Python float by repr; numpy knows the digits of the others
        cells = row.tolist() if row.dtype == np.float64 else row.astype(str).tolist()
        for k in np.flatnonzero(np.isnan(row)):
            cells[k] = ""
        cells.insert(0, name)
        for at, text in places:
            cells.insert(at, text[i])
        writer.writerow(cells)
        if progress is not None and i % REPORT_ROWS == 0:
            progress(i / len(table.ids))


@contextmanager
def atomic_write(path: PathLike) -> Iterator[TextIO]:
    r"""Open a text file that replaces `path` at the end, or leaves all as it was.

    What is written goes to a temporary file in the same directory (gzipped if the
    path ends in .gz), is forced to the disk and then renamed. On any error, and on
    Ctrl-C, the temporary file is removed and an old file stays untouched.

    Raises `TableError` if the path is a directory, lies in none, or cannot be written.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "out.csv"
    >>> with atomic_write(path) as out:
    ...     _ = out.write("id,f1\n")
    ...     path.exists()
    False
    >>> path.read_text()
    'id,f1\n'
    """
    text_format(path)
    with replacing(path, TableError) as raw, _text_in(raw, zipped=text_format(path)[1]) as out:
        yield out


def check_output(path: PathLike) -> Path:
    """Where a table would be written, links followed; a `TableError` if it cannot be.

    Cheap, so that a long job can ask before it starts.
    """
    if is_parquet(path):
        parquet.require()
    else:
        text_format(path)
    return check_place(path, TableError)


@contextmanager
def _text_in(raw: BinaryIO, *, zipped: bool) -> Iterator[TextIO]:
    """Text written to a file; its gzip header carries no name and no time."""
    stream: Any = gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0) if zipped else raw
    text = io.TextIOWrapper(stream, encoding="utf-8", newline="")
    try:
        yield text
        text.flush()
    finally:
        text.detach()
        if zipped:
            stream.close()
