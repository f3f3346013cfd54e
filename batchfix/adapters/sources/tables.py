"""Tables in files as sources: csv and tsv row by row, parquet by row groups. Blocks are DataFrames.

A csv file is read as `tables` reads it, with the same checks: the first column names the rows. Columns of text are
those that are named; of the columns that keys name, those in which something is no number.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ...core.naming import nearest
from ..tables import MISSING, TableError, number, read_header
from ..tables.cells import fast_numbers, not_numbers
from ..tables.parquet import READ_BYTES
from ..tables.rows import table_rows
from .files import labels_of, needed, reading
from .source import BLOCK_BYTES, Source

_WHOLE, _NUMBER, _TEXT = range(3)
"""What a column of cells is: as much as the widest of them."""


class TextSource(Source):
    """Rows of a csv or tsv file, plain or gzipped.

    Parameters
    ----------
    place : Path
    given : labels of all rows by role
        A Series or DataFrame is found by the ids in the first column.
    keys : names of columns that may be text
        Where all cells are numbers, they are numbers: a pass over the file looks, until it finds text in each.
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
        self.lost = [key for key in keys if key not in (self.id_name, *self.names)]
        self.labels = labels_of(given)

    def tables(self, rows: int) -> Iterator[tuple[Any, dict[str, Any], float]]:
        """See Source."""
        share, kinds = [0.0], self._kinds
        beside = self._places([*self.text, *self.keys])
        places = [at for at in range(1, len(self.names) + 1) if at not in beside.values()]
        with closing(table_rows(self.place, lambda done: share.__setitem__(0, done))) as cells:
            next(cells)
            while True:
                block = _TextBlock(self, places, beside, rows)
                block.read(islice(cells, rows))
                if not block.ids:
                    return
                yield block.frame(kinds), {}, share[0] if len(block.ids) == rows else 1.0

    @cached_property
    def _kinds(self) -> dict[str, int]:
        """What columns are that keys name, by all of their cells."""
        kinds, places = dict.fromkeys(self.keys, _WHOLE), self._places(self.keys)
        with closing(table_rows(self.place, None)) as cells:
            next(cells)
            for row in cells:
                if all(kind == _TEXT for kind in kinds.values()):
                    break
                for key, at in places.items():
                    kinds[key] = max(kinds[key], _kind_of(row[at]))
        return kinds

    def explained(self, error: TableError) -> TableError:
        """The error for cells that are no numbers, which is that of a key where one names no column."""
        if not self.lost:
            return error
        near = nearest(self.lost[0], [self.id_name, *self.names])
        return TableError(f"Key {self.lost[0]!r} names no column of {str(self.place)!r}{near}. {error}")

    def _places(self, names: list[str]) -> dict[str, int]:
        """Places of columns among the cells of a row."""
        return {name: 1 + self.names.index(name) for name in names}


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
            raise self.source.explained(not_numbers(self.source.place, names, self.numbers, refused))

    def frame(self, kinds: dict[str, int]) -> pd.DataFrame:
        source = self.source
        index = pd.Index(self.ids, name=source.id_name or None)
        columns = [source.names[at - 1] for at in self.places]
        frame = pd.DataFrame(self.numbers, index=index, columns=columns, copy=False)
        for name, at in sorted(self.beside.items(), key=lambda item: item[1]):
            frame.insert(at - 1, name, self._column(name, kinds))
        return frame

    def _column(self, name: str, kinds: dict[str, int]) -> Any:
        cells = self.cells[name]
        if name in self.source.text:
            return cells
        if kinds[name] == _TEXT:
            return [None if cell.strip() in MISSING else cell for cell in cells]
        return np.array([(int if kinds[name] == _WHOLE else number)(cell) for cell in cells])


class ParquetSource(Source):
    """Rows of a parquet file, with the index that pandas stored, if it did.

    Beside a block, a page of each column is held, of 1 MB as pandas writes them, and its dictionary; no more of a row
    group, however large it is.
    """

    n_rows: int
    block_bytes = BLOCK_BYTES // 4
    """Arrow holds a block compressed, decoded and put together, and then it becomes a DataFrame."""

    def __init__(self, place: Path, given: dict[str, Any]) -> None:
        self.place = place
        parquet, types = needed("pyarrow.parquet"), needed("pyarrow").types
        with reading(place), parquet.ParquetFile(place) as file:
            schema, self.n_rows = file.schema_arrow, int(file.metadata.num_rows)
            self.chunk_rows = file.metadata.row_group(0).num_rows if file.metadata.num_row_groups else None
        self.stored = (schema.pandas_metadata or {}).get("index_columns", ())
        self.names = [name for name in schema.names if name not in self.stored]
        self.n_features = len(self.names)
        floats = {schema.field(name).type for name in self.names if types.is_floating(schema.field(name).type)}
        single = len(floats) == 1 and types.is_float32(floats.pop())
        self.dtype = np.dtype(np.float32 if single else np.float64)
        self.labels = labels_of(given)

    def tables(self, rows: int) -> Iterator[tuple[Any, dict[str, Any], float]]:
        """See Source."""
        parquet, start = needed("pyarrow.parquet"), 0
        # buffered ahead, or without a buffer, all of a row group would come to lie in memory
        how = {"pre_buffer": False, "buffer_size": READ_BYTES}
        with reading(self.place), parquet.ParquetFile(self.place, **how) as file:
            for batch in file.iter_batches(batch_size=rows):
                frame = batch.to_pandas()
                stop = start + len(frame)
                frame.index = self._index(frame.index, start, stop)
                yield frame, {}, stop / (self.n_rows or stop)
                start = stop

    def _index(self, read: pd.Index, start: int, stop: int) -> pd.Index:
        """Index of some rows: of its levels, those stored as columns were read, and ranges are only noted."""
        columns = iter(range(read.nlevels))
        levels = [
            read.get_level_values(next(columns)) if isinstance(each, str) else _range_of(each, self.n_rows)[start:stop]
            for each in self.stored or [{}]
        ]
        return levels[0] if len(levels) == 1 else pd.MultiIndex.from_arrays(levels)


def _range_of(noted: dict[str, Any], n: int) -> pd.RangeIndex:
    """Numbers of the rows as pandas noted them, if they are of so many rows, or 0, 1, 2, ..."""
    name = noted.get("name")
    if noted.get("kind") == "range":
        found = pd.RangeIndex(noted["start"], noted["stop"], noted["step"], name=name)
        if len(found) == n:
            return found
    return pd.RangeIndex(n, name=name)


def _kind_of(cell: str) -> int:
    """Whether a cell is a whole number, a number or missing, or text, as codes are like 007: 7 would be another's."""
    word = cell.strip()
    try:
        found = number(word)
    except ValueError:
        return _TEXT
    if word[:1] == "0" and word[1:2].isdigit():
        return _TEXT
    fraction = np.isnan(found) or abs(found) >= 2**63 or "." in word or "e" in word.lower()
    return _NUMBER if fraction else _WHOLE
