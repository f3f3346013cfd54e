"""Tables in files as sources: csv and tsv row by row, parquet by row groups. Blocks are DataFrames.

A csv file is read as `tables` reads it, with the same checks: the first column names the rows. Columns of text are
those that are named; of the columns that keys name, those in whose first block something is no number.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ...core.naming import nearest
from ..tables import MISSING, TableError, number, read_header
from ..tables.cells import fast_numbers, not_numbers
from ..tables.rows import table_rows
from .files import labels_of, needed, reading
from .source import BLOCK_BYTES, Source


class TextSource(Source):
    """Rows of a csv or tsv file, plain or gzipped.

    Parameters
    ----------
    place : Path
    given : labels of all rows by role
        A Series or DataFrame is found by the ids in the first column.
    keys : names of columns that may be text
        Where all of the first block are numbers, they are numbers.
    text : names of columns to keep as they are written
    """

    names: list[str]

    def __init__(self, place: Path, given: dict[str, Any], *, keys: Any = (), text: Any = ()) -> None:
        self.place = place
        self.id_name, *self.names = read_header(place)
        self.n_rows, self.n_features, self.dtype = None, len(self.names), np.dtype(np.float64)
        self.text = list(dict.fromkeys(text))
        absent = [name for name in self.text if name not in self.names]
        if absent:
            raise TableError(
                f"{str(place)!r} must have the columns that stay text, and has no {absent[0]!r}"
                f"{nearest(absent[0], self.names)}. Correct the name."
            )
        self.keys = [key for key in keys if key in self.names and key not in self.text]
        self.labels = labels_of(given)

    def tables(self, rows: int) -> Iterator[tuple[Any, dict[str, Any], float]]:
        """See Source."""
        share = [0.0]
        numeric: dict[str, bool] = {}  # of keys, once the first block has shown what they are
        beside = {name: 1 + self.names.index(name) for name in (*self.text, *self.keys)}
        places = [at for at in range(1, len(self.names) + 1) if at not in beside.values()]
        with closing(table_rows(self.place, lambda done: share.__setitem__(0, done))) as cells:
            next(cells)
            while True:
                block = _TextBlock(self, places, beside, rows)
                block.read(islice(cells, rows))
                if not block.ids:
                    return
                if not numeric:
                    numeric = {key: all(map(_is_plain, block.cells[key])) for key in self.keys}
                yield block.frame(numeric), {}, share[0] if len(block.ids) == rows else 1.0


class _TextBlock:
    """A block as it is read: cells of text, and of numbers as numbers, so that it is never all strings."""

    def __init__(self, source: TextSource, places: list[int], beside: dict[str, int], rows: int) -> None:
        self.source, self.places, self.beside = source, places, beside
        self.ids: list[str] = []
        self.cells: dict[str, list[str]] = {name: [] for name in beside}
        self.numbers = np.empty((0, len(places)))
        self.rows = rows

    def read(self, rows: Iterator[list[str]]) -> None:
        filled, refused = 0, dict[int, tuple[str, str]]()
        for row in rows:
            if filled == len(self.numbers):  # twice as many, up to a block
                more = min(self.rows, max(64, 2 * filled))
                self.numbers = np.concatenate([self.numbers, np.empty((more - filled, len(self.places)))])
            self.ids.append(row[0])
            for name, at in self.beside.items():
                self.cells[name].append(row[at])
            cells = [row[at] for at in self.places]
            fast = fast_numbers(cells)
            if fast is None:
                for k, cell in enumerate(cells):
                    try:
                        self.numbers[filled, k] = number(cell)
                    except ValueError:
                        self.numbers[filled, k] = np.nan
                        refused.setdefault(k, (row[0], cell))
            else:
                self.numbers[filled] = fast
            filled += 1
        self.numbers = self.numbers[:filled]
        if refused:
            names = [self.source.names[at - 1] for at in self.places]
            raise not_numbers(self.source.place, names, self.numbers, refused)

    def frame(self, numeric: dict[str, bool]) -> pd.DataFrame:
        source = self.source
        index = pd.Index(self.ids, name=source.id_name or None)
        columns = [source.names[at - 1] for at in self.places]
        frame = pd.DataFrame(self.numbers, index=index, columns=columns, copy=False)
        for name, at in sorted(self.beside.items(), key=lambda item: item[1]):
            frame.insert(at - 1, name, self._column(name, numeric))
        return frame

    def _column(self, name: str, numeric: dict[str, bool]) -> Any:
        cells = self.cells[name]
        if name in self.source.text:
            return cells
        if not numeric[name]:
            return [None if cell.strip() in MISSING else cell for cell in cells]
        for row, cell in zip(self.ids, cells, strict=True):
            if not _is_plain(cell):
                raise TableError(
                    f"Column {name!r} of {str(self.source.place)!r} must be of one kind, and holds numbers at first "
                    f"and {cell!r} in row {row!r}. Say that it is text: text=[{name!r}] in as_source, or write names."
                )
        numbers = np.array([number(cell) for cell in cells])
        whole = np.isfinite(numbers).all() and (numbers == np.rint(numbers)).all()
        written = whole and not any("." in cell or "e" in cell.lower() for cell in cells)
        return numbers.astype(np.int64) if written else numbers


class ParquetSource(Source):
    """Rows of a parquet file, with the index that pandas stored, if it did."""

    block_bytes = BLOCK_BYTES // 4
    """Arrow holds a block compressed, decoded and put together, and then it becomes a DataFrame."""

    def __init__(self, place: Path, given: dict[str, Any]) -> None:
        self.place = place
        parquet, types = needed("pyarrow.parquet"), needed("pyarrow").types
        with reading(place), parquet.ParquetFile(place) as file:
            schema, self.n_rows = file.schema_arrow, int(file.metadata.num_rows)
            self.chunk_rows = file.metadata.row_group(0).num_rows if file.metadata.num_row_groups else None
        stored = (schema.pandas_metadata or {}).get("index_columns", ())
        index = [each for each in stored if isinstance(each, str)]
        self.index = _range_of(stored, self.n_rows)
        self.names = [name for name in schema.names if name not in index]
        self.n_features = len(self.names)
        floats = {schema.field(name).type for name in self.names if types.is_floating(schema.field(name).type)}
        single = len(floats) == 1 and types.is_float32(floats.pop())
        self.dtype = np.dtype(np.float32 if single else np.float64)
        self.labels = labels_of(given)

    def tables(self, rows: int) -> Iterator[tuple[Any, dict[str, Any], float]]:
        """See Source."""
        parquet, start = needed("pyarrow.parquet"), 0
        # buffered ahead, all of the file would come to lie in memory
        with reading(self.place), parquet.ParquetFile(self.place, pre_buffer=False) as file:
            for batch in file.iter_batches(batch_size=rows):
                frame = batch.to_pandas()
                stop = start + len(frame)
                if isinstance(frame.index, pd.RangeIndex):
                    frame.index = self.index[start:stop]
                yield frame, {}, stop / (self.n_rows or stop)
                start = stop


def _range_of(stored: Any, n: int) -> pd.RangeIndex:
    """Numbers of the rows as pandas noted them, if they are of so many rows, or 0, 1, 2, ..."""
    for each in stored:
        if isinstance(each, dict) and each.get("kind") == "range":
            found = pd.RangeIndex(each["start"], each["stop"], each["step"], name=each.get("name"))
            if len(found) == n:
                return found
    return pd.RangeIndex(n)


def _is_plain(cell: str) -> bool:
    """Whether a cell is missing or a number, and no code such as 007, which as a number would be another's."""
    try:
        number(cell)
    except ValueError:
        return False
    return not (cell.strip()[:1] == "0" and cell.strip()[1:2].isdigit())
