"""HDF5 and zarr as sinks: arrays stored in chunks.

Corrected blocks flow in; an array that grows where nobody knows its length flows out. What else the old file holds is
never lost: such a file is not replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..core.naming import some
from ..exceptions import BatchfixError
from .sinks import Sink, float_of
from .source_files import arrays_of, datasets_of, needed, reading
from .sources import Source


class HdfSink(Sink):
    """A dataset of an HDF5 file."""

    def __init__(self, file: Any, name: str, n_rows: int | None, check: Callable[[], None]) -> None:
        super().__init__(n_rows)
        self.file, self.name, self.check = file, name, check

    def begin(self, values: Any) -> None:
        """See Sink."""
        n, p = values.shape
        rows = max(1, min(n, (1 << 20) // (8 * max(1, p))))  # chunks of half a megabyte or one, as HDF5 caches them
        self.array = self.file.create_dataset(
            self.name, shape=(self.n_rows or 0, p), maxshape=(self.n_rows, p), chunks=(rows, p), dtype=float_of(values)
        )

    def put(self, start: int, values: Any) -> None:
        """See Sink."""
        stop = start + values.shape[0]
        if self.n_rows is None:
            self.array.resize(stop, axis=0)
        self.array[start:stop] = np.asarray(values, dtype=self.array.dtype)
        self.check()


class ZarrSink(Sink):
    """A zarr array, in a directory."""

    def __init__(
        self, directory: Path, name: str | None, n_rows: int | None = None, like: Source | None = None
    ) -> None:
        super().__init__(n_rows)
        self.directory, self.name, self.zarr = directory, name, needed("zarr")
        self.chunk_rows = None if like is None else like.chunk_rows

    def begin(self, values: Any) -> None:
        """See Sink."""
        n, p = values.shape
        rows = self.chunk_rows
        if rows is None or n % rows:  # whole chunks to a block, so that none is written twice
            rows = n // next(k for k in (4, 2, 1) if n % k == 0)
        self.array = self.zarr.create_array(
            store=str(self.directory),
            name=self.name,
            shape=(self.n_rows or 0, p),
            chunks=(max(1, rows), p),
            dtype=float_of(values),
        )

    def put(self, start: int, values: Any) -> None:
        """See Sink."""
        stop = start + values.shape[0]
        if self.n_rows is None:
            self.array.resize((stop, values.shape[1]))
        self.array[start:stop] = np.asarray(values, dtype=self.array.dtype)


@contextmanager
def hdf_file(out: BinaryIO) -> Iterator[tuple[Any, Callable[[], None]]]:
    """The HDF5 file that is being written, and a function that raises if the disk refused anything of it."""
    h5py, disk = needed("h5py"), _Disk(out)
    with h5py.File(disk, "w") as file:
        yield file, disk.check
    disk.check()


class _Disk:
    """A file for HDF5, whose library crashes the process where a write fails while it closes.

    A write that fails is remembered, and later ones go nowhere: HDF5 then closes what nobody will read.
    """

    def __init__(self, out: BinaryIO) -> None:
        self.out = out
        self.error: OSError | None = None
        raw: Any = out
        self.seek, self.tell, self.read, self.readinto = raw.seek, raw.tell, raw.read, raw.readinto

    def check(self) -> None:
        if self.error is not None:
            raise self.error

    def write(self, data: Any) -> int:
        self._try(self._write_all, data)
        return len(data)

    def truncate(self, size: int) -> int:
        self._try(self.out.truncate, size)
        return size

    def flush(self) -> None:
        self._try(self.out.flush)

    def _write_all(self, data: Any) -> None:
        rest = memoryview(data)
        while rest.nbytes:  # a file without a buffer may take a part
            rest = rest[self.out.write(rest) :]

    def _try(self, work: Callable[..., object], *what: Any) -> None:
        if self.error is None:
            try:
                work(*what)
            except OSError as error:
                self.error = error


def refuse_to_lose(place: Path, name: str | None, arrays: Any) -> None:
    """Refuse to replace a file that holds more than what is written anew."""
    if not place.exists():
        return
    found = arrays(place)
    if found is None or set(found) - {name or ""}:
        held = "something else" if found is None else some(found, 5)
        raise BatchfixError(
            f"The output must not replace more than the array it is, and {str(place)!r} holds {held}. Choose another "
            "file."
        )


def arrays_of_hdf(place: Path) -> list[str]:
    """Paths of the datasets that an HDF5 file holds."""
    with reading(place), needed("h5py").File(place, "r") as file:
        return datasets_of(file)


def arrays_of_zarr(place: Path) -> list[str] | None:
    """Paths of the arrays in a zarr directory, "" for one array alone; None for a directory of another kind."""
    if not any(place.iterdir()):
        return []
    if not any((place / name).exists() for name in ("zarr.json", ".zarray", ".zgroup")):
        return None
    with reading(place):
        node = needed("zarr").open(str(place), mode="r")
        return arrays_of(node) if hasattr(node, "members") else [""]
