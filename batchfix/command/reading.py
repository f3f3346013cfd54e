"""Reading: tables of numbers as the command wants them, and what to do about a column that holds text."""

from __future__ import annotations

from collections.abc import Sequence

from ..adapters.tables import NotNumericError, Table, TableError, read_header, read_table
from .labels import DECIMAL_COMMA, POINTS
from .names import InputError, joined
from .terminal import progress_bar


def read_numbers(path: str, text: Sequence[str], *, unique_ids: bool = True) -> Table:
    """A table of numbers beside columns of text, with a bar; a column of text that nobody named is an error."""
    try:
        with progress_bar("reading") as progress:
            return read_table(path, text=text, progress=progress, unique_ids=unique_ids)
    except NotNumericError as error:
        _look_for_commas(path, text, error)
        if len(error.columns) == len(read_header(path)) - 1 - len(set(text)):
            raise InputError(
                f"{error} No column would be left to correct; give a table of measurements, ids in its first column"
            ) from error
        raise InputError(
            f"{error} To carry {'it' if len(error.columns) == 1 else 'them'} along unchanged, add "
            f"--ignore {joined(error.columns)}"
        ) from error
    except TableError as error:
        if "finite number" in str(error):
            _look_for_commas(path, text, error)
        raise


def _look_for_commas(path: str, text: Sequence[str], error: TableError) -> None:
    """Refuse numbers with a comma where the point should be: no column of them is to be ignored."""
    found = read_table(path, text=read_header(path)[1:], unique_ids=False)
    for name, cells in found.text.items():
        if name in text:
            continue
        for row, cell in zip(found.ids, cells, strict=True):
            if DECIMAL_COMMA.fullmatch(cell):
                raise InputError(
                    f"numbers of {path!r} must have a decimal point, and row {row!r}, column {name!r} holds {cell!r}, "
                    f"which looks like one with a decimal comma; {POINTS}"
                ) from error
