"""Tables read from files: csv and tsv, plain or gzipped, and parquet, told by extension.

The first row names the columns and the first column the rows (of parquet files see `parquet`). Nothing is guessed: two
equal ids, a row of another length, a cell that is not a number are errors that say where.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from contextlib import closing
from operator import itemgetter

import numpy as np

from . import parquet
from .cells import fast_numbers, not_numbers, number
from .rows import table_rows
from .table import PathLike, Progress, Table, check_text, is_parquet, no_duplicates


def read_header(path: PathLike) -> list[str]:
    """Names of a table's columns, the ids' own first.

    Raises `TableError` for a file that cannot be read or a header that cannot serve.
    """
    if is_parquet(path):
        return parquet.read_header(path)
    with closing(table_rows(path, None)) as rows:
        return next(rows)


def read_table(
    path: PathLike, *, text: Iterable[str] = (), progress: Progress | None = None, unique_ids: bool = True
) -> Table:
    r"""Read a table of numbers; the columns named in `text` stay strings.

    Parameters
    ----------
    path : file ending in .csv, .tsv, .csv.gz or .tsv.gz, in UTF-8, or in .parquet
    text : names of columns to keep as they are written
    progress : called now and then with the share of the file that was read
    unique_ids : whether two rows may not share an id, as they may in a table of dates and symbols

    Returns
    -------
    Table, `numbers` in float64, correctly rounded; 'NA', 'nan', an empty cell and
    the other words of `MISSING` are NaN. Of a parquet file whose numbers are all
    float32, in float32.

    Raises
    ------
    NotNumericError
        If a column that is not in `text` holds no number at all.
    TableError
        If the file is missing, a directory, empty, not UTF-8, damaged or ragged;
        if two rows or two columns share a name; if a column of `text` is not there;
        if a cell is not a finite number (the message names its row, column and value).

    Examples
    --------
    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "runs.csv"
    >>> _ = path.write_text("id,run,f1,f2\n007,01,0.1,NA\n008,02,0.25,3\n")
    >>> table = read_table(path, text=["run"])
    >>> table.ids, table.text, table.numbers.tolist()
    (['007', '008'], {'run': ['01', '02']}, [[0.1, nan], [0.25, 3.0]])
    """
    if is_parquet(path):
        return parquet.read_table(path, text, progress=progress, unique_ids=unique_ids)
    rows = table_rows(path, progress)
    id_name, *columns = next(rows)
    wanted = dict.fromkeys(text)
    check_text(path, wanted, columns)
    texts = {name: (at, list[str]()) for at, name in enumerate(columns, 1) if name in wanted}
    places = [at for at, name in enumerate(columns, 1) if name not in wanted]
    pick = itemgetter(*places) if len(places) > 1 else lambda row: [row[at] for at in places]

    ids: list[str] = []
    values = array("d")
    refused: dict[int, tuple[str, str]] = {}  # place of a column -> its first bad cell
    for row in rows:
        ids.append(row[0])
        for at, kept in texts.values():
            kept.append(row[at])
        cells = pick(row)
        numbers = fast_numbers(cells)
        if numbers is None:
            numbers = np.full(len(cells), np.nan)
            for k, cell in enumerate(cells):
                try:
                    numbers[k] = number(cell)
                except ValueError:
                    refused.setdefault(k, (row[0], cell))
        values.frombytes(numbers.tobytes())
    if unique_ids:
        no_duplicates(repr(str(path)), ids, "row ids")
    matrix = np.frombuffer(values, dtype=np.float64).reshape(len(ids), len(places))
    if refused:
        raise not_numbers(path, [columns[at - 1] for at in places], matrix, refused)
    return Table(id_name, ids, columns, matrix, {name: kept for name, (_, kept) in texts.items()})


def read_text(path: PathLike, names: Iterable[str] | None = None, *, progress: Progress | None = None) -> Table:
    r"""Read a table of labels: columns that stay text, by default all of them; `numbers` is (rows, 0).

    Raises `TableError` as `read_table` does.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "runs.csv"
    >>> _ = path.write_text("id,run,f1\n007,01,0.1\n008,02,0.25\n")
    >>> read_text(path, ["run"]).text, read_text(path).columns
    ({'run': ['01', '02']}, ['run', 'f1'])
    """
    id_name, *columns = read_header(path)
    wanted = dict.fromkeys(columns if names is None else names)
    check_text(path, wanted, columns)
    kept = [name for name in columns if name in wanted]
    if is_parquet(path):
        return parquet.read_text(path, kept, progress=progress)
    places = [(1 + columns.index(name), list[str]()) for name in kept]
    ids: list[str] = []
    with closing(table_rows(path, progress)) as rows:
        next(rows)
        for row in rows:
            ids.append(row[0])
            for at, cells in places:
                cells.append(row[at])
    no_duplicates(repr(str(path)), ids, "row ids")
    text = {name: cells for name, (_, cells) in zip(kept, places, strict=True)}
    return Table(id_name, ids, kept, np.empty((len(ids), 0)), text)
