"""Reading: tables of numbers as the command wants them, and what to do about a column that holds text."""

from __future__ import annotations

from collections.abc import Sequence

from ..adapters.tables import NotNumericError, Table, read_table
from .names import InputError, joined
from .terminal import progress_bar


def read_numbers(path: str, text: Sequence[str], *, unique_ids: bool = True) -> Table:
    """A table of numbers beside columns of text, with a bar; a column of text that nobody named is an error."""
    try:
        with progress_bar("reading") as progress:
            return read_table(path, text=text, progress=progress, unique_ids=unique_ids)
    except NotNumericError as error:
        raise InputError(
            f"{error} To carry {'it' if len(error.columns) == 1 else 'them'} along unchanged, add "
            f"--ignore {joined(error.columns)}"
        ) from error
