"""A table as a file holds it: what a correction must not touch beside the numbers that it changes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ...core.naming import nearest, some
from ...exceptions import BatchfixError

PathLike = str | os.PathLike[str]
Progress = Callable[[float], object]

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_PARQUET = (".parquet", ".pq")

REPORT_ROWS = 64
"""Rows between two reports of progress."""


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


def is_parquet(path: PathLike) -> bool:
    """Whether a file's name says that it is a parquet file."""
    return os.fspath(path).lower().endswith(_PARQUET)


def text_format(path: PathLike) -> tuple[str, bool]:
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


def no_duplicates(name: str, names: list[str], what: str) -> None:
    """Refuse names that stand twice."""
    if len(set(names)) == len(names):
        return
    twice = [each for each, count in Counter(names).items() if count > 1]
    raise TableError(f"The {what} of {name} must be unique; repeated: {some(twice)}. Rename or merge them.")


def check_header(name: str, header: list[str], first: list[str] | None) -> None:
    """Refuse a header that cannot serve; `first` is the row below it, if there is one."""
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
    no_duplicates(name, header[1:], "column names")


def check_text(path: PathLike, wanted: Iterable[str], columns: list[str]) -> None:
    """Refuse columns that are to stay text and are not there."""
    known = set(columns)
    absent = [name for name in wanted if name not in known]
    if absent:
        near = nearest(absent[0], columns)
        raise TableError(
            f"{str(path)!r} must have the columns that stay text, and has no {absent[0]!r}{near}. Correct the name."
        )
