"""Parquet files as tables, read; how they are written is in `parquet_output`.

    the index that pandas stored, or else the first column  ->  ids
    columns that are named                                  ->  text, which goes back to a file with the types it had
    all others                                              ->  numbers, float32 where all of them are

A file is read a row group at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ...exceptions import BatchfixError
from .cells import not_numbers
from .table import PathLike, Progress, Table, TableError, check_header, check_text, no_duplicates

READ_BYTES = 1 << 16
"""Of a column, what is read from the disk at once."""

NAMELESS = "__index_level_0__"
"""What pandas calls the column of an index without a name."""


@dataclass(frozen=True, eq=False)
class Stored:
    """Columns as arrow has them.

    Attributes
    ----------
    ids : arrow array
    text : arrow arrays by name of their column
    index : bool
        Whether ids are pandas's index.
    """

    ids: Any
    text: dict[str, Any]
    index: bool

    def rows(self, start: int, stop: int) -> Stored:
        """Some of the rows."""
        text = {name: column.slice(start, stop - start) for name, column in self.text.items()}
        return Stored(self.ids.slice(start, stop - start), text, self.index)


def require() -> None:
    """Say which extra has what parquet files need.

    Raises
    ------
    TableError
        It is not installed.
    """
    if find_spec("pyarrow") is None:
        raise TableError("batchfix reads and writes .parquet files with pyarrow: pip install 'batchfix[files]'.")


def read_header(path: PathLike) -> list[str]:
    """See `reading.read_header`."""
    with _opened(path) as (_, plan):
        return [plan.id_name, *plan.columns]


def read_table(
    path: PathLike, text: Iterable[str], *, progress: Progress | None = None, unique_ids: bool = True
) -> Table:
    """See `reading.read_table`."""
    with _opened(path) as (file, plan):
        wanted = dict.fromkeys(text)
        check_text(path, wanted, plan.columns)
        stored = _columns(file, plan, [name for name in plan.columns if name in wanted])
        ids = _ids(path, stored, unique=unique_ids)
        names = [name for name in plan.columns if name not in wanted]
        numbers = np.empty((len(ids), len(names)), dtype=plan.dtype(names))
        refused: dict[int, tuple[str, str]] = {}  # place of a column -> its first bad cell
        start = 0
        for k in range(file.num_row_groups):
            group = file.read_row_group(k, columns=names, use_pandas_metadata=False)
            stop = start + file.metadata.row_group(k).num_rows
            for j, name in enumerate(names):
                numbers[start:stop, j], bad = _numbers(group[name])
                if bad is not None:
                    refused.setdefault(j, (ids[start + bad[0]], bad[1]))
            start = stop
            if progress is not None:
                progress((k + 1) / file.num_row_groups)
        if refused:
            raise not_numbers(path, names, numbers, refused)
        cells = {name: words(column) for name, column in stored.text.items()}
        return Table(plan.id_name, ids, plan.columns, numbers, cells, stored)


def read_text(path: PathLike, names: list[str], *, progress: Progress | None = None) -> Table:
    """See `reading.read_text`."""
    with _opened(path) as (file, plan):
        stored = _columns(file, plan, names)
        ids = _ids(path, stored, unique=True)
        cells = {name: words(column) for name, column in stored.text.items()}
        if progress is not None:
            progress(1.0)
        return Table(plan.id_name, ids, names, np.empty((len(ids), 0)), cells, stored)


def words(column: Any) -> list[str]:
    """Cells as a text file would have them, nothing where there is nothing.

    Examples
    --------
    >>> import pyarrow as pa
    >>> words(pa.chunked_array([["a", None]])), words(pa.chunked_array([pa.array([0.1, 2.0], pa.float32())]))
    (['a', ''], ['0.1', '2.0'])
    """
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_timestamp(column.type):
        shown = column.to_pandas()
        return list(shown.astype(str).where(shown.notna(), ""))
    if pa.types.is_floating(column.type):
        return ["" if cell != cell else str(cell) for cell in _as_numpy(column)]  # what is not itself is NaN
    return ["" if cell is None else str(cell) for cell in column.to_pylist()]


# ---- what a file holds


@dataclass(frozen=True, eq=False)
class _Plan:
    """Names of its columns: `place` of the ids', and all others in their order."""

    schema: Any
    place: str
    id_name: str
    columns: list[str]
    index: bool

    def dtype(self, names: list[str]) -> Any:
        import pyarrow as pa

        single = all(pa.types.is_float32(self.schema.field(name).type) for name in names)
        return np.float32 if names and single else np.float64


@contextmanager
def _opened(path: PathLike) -> Iterator[tuple[Any, _Plan]]:
    """A parquet file, checked; what goes wrong in it is an error that names it."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    name = repr(str(path))
    if Path(path).is_dir():
        raise TableError(f"{name} must be a file, and is a directory. Give the table inside it.")
    if not Path(path).exists():
        raise TableError(f"{name} does not exist (looked in {str(Path.cwd())!r}). Check its name.")
    try:
        # buffered ahead, or without a buffer, all of a row group would come to lie in memory
        with parquet.ParquetFile(path, pre_buffer=False, buffer_size=READ_BYTES) as file:
            plan = _planned(name, file.schema_arrow)
            if not file.metadata.num_rows:
                raise TableError(f"{name} must hold rows, and has a header only.")
            yield file, plan
    except BatchfixError:
        raise
    except (OSError, pa.ArrowException) as error:
        said = " ".join(f"{error}".split())
        raise TableError(f"{name} cannot be read as a parquet file ({said:.150}). Copy or export it again.") from error


def _planned(name: str, schema: Any) -> _Plan:
    stored = (schema.pandas_metadata or {}).get("index_columns", ())
    index = [each for each in stored if isinstance(each, str) and each in schema.names]
    if len(index) > 1:
        raise TableError(
            f"{name} must have one column of ids, and pandas stored an index of {len(index)} ({', '.join(index)}). "
            "Put unique ids in one column: frame.reset_index() makes columns of the index."
        )
    if not schema.names:
        raise TableError(f"{name} must have ids in its first column and more columns beside it, and has none.")
    place = index[0] if index else schema.names[0]
    no_duplicates(name, schema.names, "column names")
    columns = [each for each in schema.names if each != place]
    id_name = "" if place == NAMELESS else place
    check_header(name, [id_name, *columns], None)
    return _Plan(schema, place, id_name, columns, bool(index))


def _columns(file: Any, plan: _Plan, names: list[str]) -> Stored:
    """Ids and columns of text, as they are."""
    found = file.read(columns=[plan.place, *names], use_pandas_metadata=False)
    return Stored(found[plan.place], {name: found[name] for name in names}, plan.index)


def _ids(path: PathLike, stored: Stored, *, unique: bool) -> list[str]:
    ids = words(stored.ids)
    nameless = [at for at, cell in enumerate(ids) if not cell.strip()]
    if nameless:
        raise TableError(
            f"Every row of {str(path)!r} must have an id, and row {nameless[0]} (counted from 0) has none. Name or "
            "delete that row."
        )
    if unique:
        no_duplicates(repr(str(path)), ids, "row ids")
    return ids


def _numbers(column: Any) -> tuple[Any, tuple[int, str] | None]:
    """Floats of a column, and place and words of the first cell that is no finite number."""
    import pyarrow as pa

    types, kind = pa.types, column.type
    if types.is_decimal(kind):
        column = column.cast(pa.float64())
    elif not (types.is_integer(kind) or types.is_floating(kind)):
        cells = words(column)
        bad = next(((at, cell) for at, cell in enumerate(cells) if cell.strip()), None)
        return np.full(len(cells), np.nan), bad
    values = _as_numpy(column)
    if values.dtype.kind == "f" and np.isinf(values).any():
        at = int(np.flatnonzero(np.isinf(values))[0])
        return values, (at, str(values[at]))
    return values, None


def _as_numpy(column: Any) -> Any:
    """Values of an array, whole or chunked; NaN where there is none."""
    return column.to_numpy() if hasattr(column, "chunks") else column.to_numpy(zero_copy_only=False)


def read_blocks(path: PathLike, table: Table, rows: int) -> Iterator[tuple[Any, float]]:
    """Numbers of a table in blocks of rows, and the share that has been read then.

    Parameters
    ----------
    table : Table
        Its ids and the names of its columns, as `read_text` and `read_header` give them.
    """
    names = table.number_columns
    with _opened(path) as (file, plan):
        dtype, start = plan.dtype(names), 0
        for batch in file.iter_batches(batch_size=rows, columns=names, use_pandas_metadata=False):
            numbers = np.empty((batch.num_rows, len(names)), dtype=dtype)
            refused: dict[int, tuple[str, str]] = {}
            for j, name in enumerate(names):
                numbers[:, j], bad = _numbers(batch.column(name))
                if bad is not None:
                    refused[j] = (table.ids[start + bad[0]], bad[1])
            if refused:
                raise not_numbers(path, names, numbers, refused)
            start += batch.num_rows
            yield numbers, start / len(table.ids)
