"""Tables in files, in and out: csv and tsv, plain or gzipped, and parquet, told by extension.

The first row names the columns and the first column the rows (of parquet files see `tables_parquet`). A file becomes a
`Table`, which keeps what a correction must not touch (the order of rows and
columns, the ids as they were written, the columns of text) beside the numbers,
and goes back to a file as it came. Numbers are read and written with every digit,
so reading what was written gives the same floats.

Nothing is guessed: two equal ids, a row of another length, a cell that is not a
number are errors that say where.
"""

from __future__ import annotations

import csv
import gzip
import io
import os
import zlib
from array import array
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import numpy as np
from numpy.typing import NDArray

from ..atomic import check_place, replacing
from ..core.naming import nearest, some
from ..exceptions import BatchfixError

PathLike = str | os.PathLike[str]
Progress = Callable[[float], object]

# what pandas and R write for a missing value
MISSING = frozenset(("", "NA", "N/A", "n/a", "#N/A", "#NA", "#N/A N/A", "<NA>", "NULL", "null", "None")) | frozenset(
    ("NaN", "nan", "-NaN", "-nan", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN")
)
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_PARQUET = (".parquet", ".pq")
_BLOCK = 64  # rows between two reports of progress


class TableError(BatchfixError):
    """A file is not a table that can be read, or a place where one can be written."""


class NotNumericError(TableError):
    """Whole columns hold text where numbers are wanted; `columns` names them."""

    def __init__(self, message: str, columns: tuple[str, ...]) -> None:
        super().__init__(message)
        self.columns = columns


@dataclass(frozen=True, eq=False)
class Table:
    """A table as its file has it: ids, numbers, and the text carried along.

    Attributes
    ----------
    id_name : header of the first column, often empty
    ids : row ids, strings as they were written
    columns : names of all the other columns, in the file's order
    numbers : float array (rows, columns that are not text), missing as NaN
    text : columns kept as strings, by name
    stored : ids and text as a parquet file had them, with their types; None of other files

    Examples
    --------
    >>> import numpy as np
    >>> table = Table("id", ["s1", "s2"], ["run", "f1"], np.ones((2, 1)), {"run": ["01", "02"]})
    >>> table.number_columns, table.rows(1, 2).text
    (['f1'], {'run': ['02']})
    """

    id_name: str
    ids: list[str]
    columns: list[str]
    numbers: NDArray[Any]
    text: dict[str, list[str]]
    stored: Any = None

    def rows(self, start: int, stop: int) -> Table:
        """Some of its rows, as a table."""
        text = {name: cells[start:stop] for name, cells in self.text.items()}
        stored = None if self.stored is None else self.stored.rows(start, stop)
        return replace(self, ids=self.ids[start:stop], numbers=self.numbers[start:stop], text=text, stored=stored)

    @property
    def number_columns(self) -> list[str]:
        """Names of the columns of `numbers`."""
        return [name for name in self.columns if name not in self.text]


def read_header(path: PathLike) -> list[str]:
    """Names of a table's columns, the ids' own first.

    Raises `TableError` for a file that cannot be read or a header that cannot serve.
    """
    if is_parquet(path):
        return list(_parquet().read_header(path))
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
        found: Table = _parquet().read_table(path, text, progress=progress, unique_ids=unique_ids)
        return found
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
        _no_duplicates(repr(str(path)), ids, "row ids")
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
        found: Table = _parquet().read_text(path, kept, progress=progress)
        return found
    places = [(1 + columns.index(name), list[str]()) for name in kept]
    ids: list[str] = []
    with closing(table_rows(path, progress)) as rows:
        next(rows)
        for row in rows:
            ids.append(row[0])
            for at, cells in places:
                cells.append(row[at])
    _no_duplicates(repr(str(path)), ids, "row ids")
    text = {name: cells for name, (_, cells) in zip(kept, places, strict=True)}
    return Table(id_name, ids, kept, np.empty((len(ids), 0)), text)


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
        _parquet()
        from .parquet_output import open_table as opened

        with opened(path) as write:
            yield write
        return
    with atomic_write(path) as out:
        writer = csv.writer(out, delimiter=_format(path)[0], lineterminator="\n")
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
        if progress is not None and i % _BLOCK == 0:
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
    _format(path)
    with replacing(path, TableError) as raw, _text_in(raw, zipped=_format(path)[1]) as out:
        yield out


def check_output(path: PathLike) -> Path:
    """Where a table would be written, links followed; a `TableError` if it cannot be.

    Cheap, so that a long job can ask before it starts.
    """
    if is_parquet(path):
        _parquet()
    else:
        _format(path)
    return check_place(path, TableError)


def is_parquet(path: PathLike) -> bool:
    """Whether a file's name says that it is a parquet file."""
    return os.fspath(path).lower().endswith(_PARQUET)


def _parquet() -> Any:
    """The module of parquet files, if what it needs is installed."""
    from . import tables_parquet

    tables_parquet.require()
    return tables_parquet


def check_text(path: PathLike, wanted: Iterable[str], columns: list[str]) -> None:
    """Refuse columns that are to stay text and are not there."""
    known = set(columns)
    absent = [name for name in wanted if name not in known]
    if absent:
        near = nearest(absent[0], columns)
        raise TableError(
            f"{str(path)!r} must have the columns that stay text, and has no {absent[0]!r}{near}. Correct the name."
        )


def number(cell: str) -> float:
    """The float a cell holds, NaN if it is missing.

    Raises ValueError if it is not a finite number; what only Python takes for one
    ('1_000', digits of other alphabets) is not.

    Examples
    --------
    >>> number("1e-3"), number("NA")
    (0.001, nan)
    """
    cell = cell.strip()
    if cell in MISSING:
        return np.nan
    if "_" in cell or not cell.isascii():
        raise ValueError(cell)
    value = float(cell)
    if np.isinf(value):
        raise ValueError(cell)
    return value


def fast_numbers(cells: Iterable[str]) -> NDArray[np.float64] | None:
    """All cells of a row at once; None if one of them needs a look of its own."""
    joined = "".join(cells)
    if "_" in joined or not joined.isascii():
        return None
    try:
        numbers = np.array([float(cell) for cell in cells])
    except ValueError:
        return None
    return None if np.isinf(numbers).any() else numbers


def _format(path: PathLike) -> tuple[str, bool]:
    """Delimiter and whether gzipped, by the extension."""
    name = os.fspath(path).lower()
    zipped = name.endswith(".gz")
    extension = Path(name.removesuffix(".gz")).suffix
    if extension not in _DELIMITERS:
        raise TableError(
            "A table's name must end in .csv, .tsv, .csv.gz, .tsv.gz or .parquet, which says how it is written; "
            f"{str(path)!r} does not. Rename or export it so."
        )
    return _DELIMITERS[extension], zipped


def table_rows(path: PathLike, progress: Progress | None) -> Generator[list[str], None, None]:
    """The header, checked, then every row, of the same length and with an id."""
    name = repr(str(path))
    delimiter, zipped = _format(path)
    if Path(path).is_dir():
        raise TableError(f"{name} must be a file, and is a directory. Give the table inside it.")
    try:
        with Path(path).open("rb") as raw:
            size = max(os.fstat(raw.fileno()).st_size, 1)
            stream: Any = gzip.GzipFile(fileobj=raw) if zipped else raw
            with io.TextIOWrapper(stream, encoding="utf-8-sig", newline="") as lines:
                reader = csv.reader(lines, delimiter=delimiter, strict=True)
                header = next((row for row in reader if row), None)
                if header is None:
                    raise TableError(f"{name} must hold a header and rows, and is empty.")
                rest = (row for row in reader if row)
                first = next(rest, None)
                _check_header(name, header, first)
                yield header
                if first is None:
                    raise TableError(f"{name} must hold rows, and has a header only.")
                yield _check_row(name, first, header, reader.line_num)
                for count, row in enumerate(rest):
                    yield _check_row(name, row, header, reader.line_num)
                    if progress is not None and count % _BLOCK == 0:
                        progress(raw.tell() / size)
    except FileNotFoundError:
        raise TableError(f"{name} does not exist (looked in {str(Path.cwd())!r}). Check its name.") from None
    except UnicodeDecodeError as error:
        raise TableError(
            f"{name} must be text in UTF-8, and holds the byte {error.object[error.start]:#04x}. "
            "Export it again as CSV in UTF-8 (a gzipped file's name must end in .gz)."
        ) from error
    except csv.Error as error:
        raise TableError(
            f"{name} must be well quoted, and line {reader.line_num} is not: {_shown(error)}. Export it again, with "
            "cells that hold a quote put in quotes and the quote doubled."
        ) from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise TableError(
            f"{name} must be a whole gzip file, and is not: {error}. Copy or compress it again."
        ) from error
    except OSError as error:
        raise TableError(f"{name} cannot be read: {error.strerror or error}.") from error


def _shown(error: csv.Error) -> str:
    """What the csv module says, with a delimiter that can be seen."""
    return str(error).replace("'\t'", "a tab")


def _check_header(name: str, header: list[str], first: list[str] | None) -> None:
    if len(header) < 2:
        raise TableError(
            f"{name} must have ids in its first column and more columns beside it, and has one column, "
            f"{header[0]!r}. Is it separated by something else than its name says "
            "(commas in .csv, tabs in .tsv)?"
        )
    if first is not None and len(first) == len(header) + 1:
        raise TableError(
            f"Every row of {name} must have as many cells as the header, and the rows have one more: the "
            "column of ids has no name. Put a cell before the first (in R, col.names=NA)."
        )
    nameless = [at for at, column in enumerate(header[1:], 2) if not column.strip()]
    if nameless:
        raise TableError(
            f"Every column of {name} must have a name, and column {nameless[0]} has none "
            f"({len(nameless)} in all). Name or delete it."
        )
    _no_duplicates(name, header[1:], "column names")


def _check_row(name: str, row: list[str], header: list[str], line: int) -> list[str]:
    if len(row) != len(header):
        raise TableError(
            f"Every row of {name} must have as many cells as the header, {len(header)}, and line {line} "
            f"(row {row[0]!r}) has {len(row)}. Mend that line or export the table again."
        )
    if not row[0].strip():
        raise TableError(
            f"Every row of {name} must have an id in its first cell, and line {line} has none. Name or delete that row."
        )
    return row


def _no_duplicates(name: str, names: list[str], what: str) -> None:
    if len(set(names)) == len(names):
        return
    twice = [each for each, count in Counter(names).items() if count > 1]
    raise TableError(f"The {what} of {name} must be unique; repeated: {some(twice)}. Rename or merge them.")


def not_numbers(
    path: PathLike, names: list[str], matrix: NDArray[np.float64], refused: dict[int, tuple[str, str]]
) -> TableError:
    """The error for cells that are not numbers: of whole columns if there are such."""
    whole = [k for k in refused if np.isnan(matrix[:, k]).all()]
    if whole:
        columns = tuple(names[k] for k in sorted(whole))
        row, cell = refused[min(whole)]
        return NotNumericError(
            f"Every column of {str(path)!r} but the ids must hold numbers, and {some(columns)} "
            f"{'holds' if len(columns) == 1 else 'hold'} text (row {row!r}: {cell!r}).",
            columns,
        )
    k = min(refused)
    row, cell = refused[k]
    more = f" ({len(refused)} columns have such cells)" if len(refused) > 1 else ""
    return TableError(
        f"Every cell of {str(path)!r} must be a finite number or empty, and row {row!r}, column "
        f"{names[k]!r} holds {cell!r}{more}. Correct it, or leave it empty if it is missing."
    )


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
