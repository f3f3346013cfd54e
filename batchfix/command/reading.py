"""Reading: tables of numbers as the command wants them, and what to do about a column that holds text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from ..adapters.tables import NotNumericError, Table, TableError, is_parquet, number, read_header, read_table
from ..adapters.tables.cells import fast_numbers, not_numbers
from .labels import DECIMAL_COMMA, POINTS
from .names import InputError, joined
from .terminal import progress_bar

OF_SAMPLES = "write its samples as one, adata.obs.to_csv('samples.csv'), and name that"
"""What to do with an AnnData where a table of samples is wanted."""

Cells = tuple[Sequence[str], dict[str, list[str]]]
"""Ids of some rows, and their cells by name of the column."""


def read_numbers(path: str, text: Sequence[str], *, unique_ids: bool = True) -> Table:
    """A table of numbers beside columns of text, with a bar; a column of text that nobody named is an error."""

    def cells() -> Iterator[Cells]:
        found = read_table(path, text=read_header(path)[1:], unique_ids=False)
        yield found.ids, found.text

    with explaining_cells(path, text, cells), progress_bar("reading") as progress:
        return read_table(path, text=text, progress=progress, unique_ids=unique_ids)


def refuse_h5ad(path: str | None, instead: str) -> None:
    """Refuse an AnnData where a table is read; `instead` says what to do."""
    if path is not None and path.lower().endswith(".h5ad"):
        raise InputError(f"a table must be a text or parquet file here, and {path!r} is an AnnData; {instead}")


@contextmanager
def explaining_cells(path: str, text: Sequence[str], cells: Callable[[], Iterable[Cells]]) -> Iterator[None]:
    """Say of cells that are no numbers, while a table is read, what is to be done about them.

    Parameters
    ----------
    path : file of the table
    text : names of its columns that may hold text
    cells : called, where one of them was refused, for all that the file does not hold as numbers
    """
    try:
        yield
    except TableError as error:
        if not isinstance(error, NotNumericError) and "must be a finite number" not in str(error):
            raise
        names = [name for name in read_header(path)[1:] if name not in set(text)]
        whole = _of_the_whole_table(path, names, cells(), error)
        if not isinstance(whole, NotNumericError):
            raise whole from None
        if len(whole.columns) == len(names):
            raise InputError(
                f"{whole} No column would be left to correct; give a table of measurements, ids in its first column"
            ) from error
        raise InputError(
            f"{whole} To carry {'it' if len(whole.columns) == 1 else 'them'} along unchanged, add "
            f"--ignore {joined(whole.columns)}"
        ) from error


def _of_the_whole_table(path: str, names: list[str], cells: Iterable[Cells], error: TableError) -> TableError:
    """The error of the whole table, for one that may be of its first rows only; numbers with commas are refused.

    No column of those is to be ignored.
    """
    held = np.full((1, len(names)), np.nan)  # of each column a number, if it has one
    refused: dict[int, tuple[str, str]] = {}  # place of a column -> its first bad cell
    commas: dict[int, tuple[str, str]] = {}
    places = {name: k for k, name in enumerate(names)}
    for ids, columns in cells:
        for k, texts in ((places[name], texts) for name, texts in columns.items() if name in places):
            values = fast_numbers(texts)
            if values is None:
                values = np.full(len(texts), np.nan)
                for at, (row, cell) in enumerate(zip(ids, texts, strict=True)):
                    try:
                        values[at] = number(cell)
                    except ValueError:
                        refused.setdefault(k, (row, cell))
                        if DECIMAL_COMMA.fullmatch(cell):
                            commas.setdefault(k, (row, cell))
            held[0, k] = np.fmax.reduce(values, initial=held[0, k])
    if commas:
        k = min(commas)
        row, cell = commas[k]
        raise InputError(
            f"numbers of {path!r} must have a decimal point, and row {row!r}, column {names[k]!r} holds {cell!r}, "
            f"which looks like one with a decimal comma; {POINTS}"
        )
    return error if is_parquet(path) else not_numbers(path, names, held, refused)  # parquet columns have a type
