"""Files as sinks, told by extension: .npy, .zarr, .h5, .h5ad, .csv, .tsv (.gz) and .parquet.

Corrected blocks flow in; a file, whole or not there, comes out.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
import pandas as pd

from ...atomic import check_place, replacing, replacing_directory
from ...exceptions import BatchfixError
from ..sources.files import kind_of, needed, said, split
from ..sources.source import Source
from ..tables import atomic_write
from .chunks import HdfSink, ZarrSink, arrays_of_hdf, arrays_of_zarr, hdf_file, refuse_to_lose
from .sink import Sink, is_default

_ROWS = 256
"""Rows of a text file that are cells at a time: cells take ten times the room of numbers."""


@contextmanager
def open_file(path: Any, n_rows: int | None, like: Source | None) -> Iterator[Sink]:
    """Sink of a file that appears when it is whole; see `open_sink`."""
    (place, inside), kind = split(path), kind_of(path)
    check_place(place, BatchfixError, directory=kind == ".zarr")
    sink: Sink
    if kind == ".zarr":
        refuse_to_lose(place, inside, arrays_of_zarr)
        with replacing_directory(place, BatchfixError) as directory:
            yield ZarrSink(directory, inside, n_rows, like, place)
    elif kind in (".csv", ".tsv"):
        with atomic_write(place) as text:
            yield TextSink(text, "\t" if kind == ".tsv" else ",", n_rows, like)
    elif kind == ".h5ad":
        from .anndata import H5adSink

        with replacing(place, BatchfixError, buffering=0) as out, hdf_file(out) as (file, check):
            yield H5adSink(file, n_rows, check, like)
    elif kind == ".h5":
        refuse_to_lose(place, inside or "X", arrays_of_hdf)
        with replacing(place, BatchfixError, buffering=0) as out, hdf_file(out) as (file, check):
            yield HdfSink(file, inside or "X", n_rows, check, place)
    elif kind == ".npy":
        with replacing(place, BatchfixError) as out:
            yield NpySink(out, n_rows)
    else:
        with replacing(place, BatchfixError) as out:
            sink = ParquetSink(out, n_rows, like)
            try:
                yield sink
            finally:
                sink.close()


class NpySink(Sink):
    """A numpy file; its header says how many rows there are once they are there."""

    def __init__(self, out: BinaryIO, n_rows: int | None = None) -> None:
        super().__init__(n_rows)
        self.out = out

    def begin(self, values: Any) -> None:
        """See Sink."""
        self.header = self._head(0)

    def put(self, start: int, values: Any) -> None:
        """See Sink."""
        self.out.write(np.ascontiguousarray(values, dtype=self.dtype).data)

    def end(self) -> None:
        """See Sink."""
        super().end()
        if self._head(self.stop) != self.header:  # numpy leaves room for it
            raise BatchfixError(f"A .npy file must have room for its shape, got {self.stop} rows. Use .h5 or .zarr.")

    def _head(self, n: int) -> int:
        """Write the header; where the values begin."""
        self.out.seek(0)
        shape = (n, self.n_features)
        head = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self.out, head)
        return self.out.tell()


class TextSink(Sink):
    """A csv or tsv table: ids of rows first (numbers, where they have none), every digit of the values.

    Of an index of several levels, each is a column.
    """

    def __init__(self, out: Any, delimiter: str, n_rows: int | None = None, like: Source | None = None) -> None:
        super().__init__(n_rows, like)
        self.writer = csv.writer(out, delimiter=delimiter, lineterminator="\n")

    def begin(self, values: Any) -> None:
        """See Sink."""
        names = ["" if name is None else str(name) for name in self.ids(values, 0).names]
        self.writer.writerow([*names, *self.titles(values)])

    def put(self, start: int, values: Any) -> None:
        """See Sink."""
        index = self.ids(values, start)
        ids = list(index) if index.nlevels > 1 else [(each,) for each in index]
        for a in range(0, len(ids), _ROWS):
            # a slice of a DataFrame is one of labels where these are floats
            part = values.iloc[a : a + _ROWS] if isinstance(values, pd.DataFrame) else values[a : a + _ROWS]
            if isinstance(part, pd.DataFrame) and part.dtypes.nunique() > 1:
                rows: Any = zip(*(_cells(column.to_numpy()) for _, column in part.items()), strict=True)
            else:
                rows = map(_cells, np.asarray(part))
            self.writer.writerows([*names, *row] for names, row in zip(ids[a : a + _ROWS], rows, strict=True))


class ParquetSink(Sink):
    """A parquet file, a row group a block; an index of more than the numbers 0, 1, 2, ... is stored as a column."""

    def __init__(self, out: BinaryIO, n_rows: int | None = None, like: Source | None = None) -> None:
        super().__init__(n_rows, like)
        self.out, self.arrow, self.parquet = out, needed("pyarrow"), needed("pyarrow.parquet")
        self.writer: Any = None

    def begin(self, values: Any) -> None:
        """See Sink."""
        self.columns = self.titles(values)
        schema = self._table(values, 0).schema
        text = [field.name for field in schema if not self.arrow.types.is_floating(field.type)]
        self.writer = self.parquet.ParquetWriter(self.out, schema, use_dictionary=text)  # numbers rarely repeat

    def put(self, start: int, values: Any) -> None:
        """See Sink."""
        table, schema = self._table(values, start), self.writer.schema
        types = self.arrow.types
        try:
            for was, now in zip(schema.types, table.schema.types, strict=True):  # Arrow makes text of numbers
                if types.is_primitive(now) and not types.is_primitive(was):
                    raise ValueError(f"{now} for {was}")
            table = table.cast(schema)
        except (ValueError, self.arrow.ArrowInvalid, self.arrow.ArrowNotImplementedError) as error:
            raise BatchfixError(
                f"Blocks of a .parquet file must have one kind of index and of columns, and from row {start} on they "
                f"have another ({said(error)}). Give every block an index of that kind, or none."
            ) from error
        self.writer.write_table(table)

    def close(self) -> None:
        """Write the end of the file."""
        if self.writer is not None:
            self.writer.close()

    def _table(self, values: Any, start: int) -> Any:
        frame = values if isinstance(values, pd.DataFrame) else pd.DataFrame(np.asarray(values))
        frame = frame.set_axis(self.columns, axis=1).set_axis(self.ids(values, start), axis=0)
        try:
            return self.arrow.Table.from_pandas(frame, preserve_index=not is_default(frame.index, start))
        except self.arrow.ArrowException as error:
            raise BatchfixError(
                f"A column of a .parquet file, or an index, must be of one kind, and from row {start} on one is mixed "
                f"({said(error)}). Make it text, as by X.index.astype(str)."
            ) from error


def _cells(values: np.ndarray) -> list[Any]:
    """Values as csv writes them: the digits of their dtype, nothing where there is none."""
    short = values.dtype.kind == "f" and values.dtype != np.float64
    # csv writes a Python float by repr; numpy knows the digits of the others
    cells: list[Any] = values.astype(str).tolist() if short else values.tolist()
    for k in np.flatnonzero(pd.isna(values)):
        cells[k] = ""
    return cells
