"""Parquet files as tables, written: row group by row group, and under their name when they are whole.

Ids go back as they came: as pandas's index, or as the first column; those of other files as pandas's index. Columns of
text that came from a parquet file have the types they had there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ...atomic import replacing
from .parquet import NAMELESS, words
from .table import PathLike, Progress, Table, TableError

GROUP_BYTES = 1 << 25
"""A row group's numbers, about: one is read at a time, and many would make a large footer."""


@contextmanager
def open_table(path: PathLike) -> Iterator[Callable[[Table, Progress | None], None]]:
    """See `tables.open_table`."""
    with replacing(path, TableError) as out:
        groups = _RowGroups(out)
        try:
            yield groups.write
            groups.flush()
        finally:
            groups.close()


class _RowGroups:
    """Rows on their way to a file, gathered to row groups of some size."""

    def __init__(self, out: Any) -> None:
        self.out = out
        self.writer: Any = None
        self.parts: list[Any] = []
        self.held = 0  # rows in parts

    def write(self, table: Table, progress: Progress | None = None) -> None:
        """Take rows, and write those that make whole row groups."""
        n = len(table.ids)
        rows = max(1, GROUP_BYTES // (8 * max(1, table.numbers.shape[1])))
        for start in range(0, n, rows):
            part = arrow_of(table.rows(start, min(start + rows, n)))
            if self.writer is None:
                self._open(part.schema, [table.id_name or NAMELESS, *table.text])
            self.parts.append(part.cast(self.writer.schema))
            self.held += part.num_rows
            if self.held >= rows:
                self.flush()
            if progress is not None:
                progress(min(start + rows, n) / n)

    def flush(self) -> None:
        """Write what is held."""
        import pyarrow as pa

        if self.held:
            self.writer.write_table(pa.concat_tables(self.parts))
            self.parts, self.held = [], 0

    def close(self) -> None:
        """Write the end of the file."""
        if self.writer is not None:
            self.writer.close()

    def _open(self, schema: Any, text: list[str]) -> None:
        from pyarrow import parquet

        self.writer = parquet.ParquetWriter(self.out, schema, use_dictionary=text)  # numbers rarely repeat


def arrow_of(table: Table) -> Any:
    """A table as arrow's, with what pandas has to know of its index.

    Examples
    --------
    >>> import numpy as np
    >>> arrow_of(Table("id", ["s1", "s2"], ["f1"], np.array([[1.0], [np.nan]]), {})).to_pandas()
         f1
    id
    s1  1.0
    s2  NaN
    """
    import pyarrow as pa

    stored = table.stored
    ids = None if stored is None or words(stored.ids) != table.ids else stored.ids
    text = {} if stored is None else stored.text
    numbers = iter(table.numbers.T)
    name = table.id_name or NAMELESS
    arrays = [pa.array(table.ids, pa.string()) if ids is None else ids]
    for column in table.columns:
        if column in table.text:
            arrays.append(text[column] if column in text else _text(table.text[column]))
        else:
            arrays.append(pa.array(next(numbers), from_pandas=True))
    if name in table.columns:
        raise TableError(f"A column may not have the name of the ids in a .parquet file, got {name!r}. Rename one.")
    made = pa.table(arrays, names=[name, *table.columns])
    if stored is not None and not stored.index:
        return made
    empty = made.slice(0, 0).to_pandas().set_index(name)
    empty.index.name = table.id_name or None
    return made.replace_schema_metadata(pa.Table.from_pandas(empty).schema.metadata)


def _text(cells: list[str]) -> Any:
    import pyarrow as pa

    return pa.array([cell or None for cell in cells], pa.string())
