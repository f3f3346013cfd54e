"""HDF5 and zarr as sinks: arrays stored in chunks.

Corrected blocks flow in; an array that grows where nobody knows its length flows out. What else the old file holds is
never lost: a file with other arrays or groups is not replaced, and attributes are taken over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ...core.naming import some
from ...exceptions import BatchfixError
from ..sources.files import needed, reading
from ..sources.source import Source
from .sink import Sink, float_of


class HdfSink(Sink):
    """A dataset of an HDF5 file."""

    def __init__(
        self, file: Any, name: str, n_rows: int | None, check: Callable[[], None], old: Path | None = None
    ) -> None:
        super().__init__(n_rows)
        self.file, self.name, self.check = file, name, check
        self.old = old if old is not None and old.exists() else None

    def begin(self, values: Any) -> None:
        """See Sink."""
        n, p = values.shape
        rows = max(1, min(n, (1 << 20) // (8 * max(1, p))))  # chunks of half a megabyte or one, as HDF5 caches them
        self.array = self.file.create_dataset(
            self.name, shape=(self.n_rows or 0, p), maxshape=(self.n_rows, p), chunks=(rows, p), dtype=float_of(values)
        )
        if self.old is not None:
            with reading(self.old), needed("h5py").File(self.old, "r") as file:
                for path in _down_to(self.name):
                    if path in file:
                        self.file[path].attrs.update(file[path].attrs)

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
        self,
        directory: Path,
        name: str | None,
        n_rows: int | None = None,
        like: Source | None = None,
        old: Path | None = None,
    ) -> None:
        super().__init__(n_rows)
        self.directory, self.name, self.zarr = directory, name, needed("zarr")
        self.chunk_rows = None if like is None else like.chunk_rows
        self.old = old if old is not None and old.exists() and any(old.iterdir()) else None

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
        numbers, rows = np.asarray(values, dtype=self.array.dtype), self.array.chunks[0]
        # one chunk at a time: of several, zarr's threads go on to write some after one has failed
        for a in range(start - start % rows, stop, rows):
            first, last = max(a, start), min(a + rows, stop)
            self.array[first:last] = numbers[first - start : last - start]

    def end(self) -> None:
        """See Sink."""
        super().end()
        if self.old is not None:
            with reading(self.old):
                self._take_over(self.old)

    def _take_over(self, old: Path) -> None:
        """Attributes of the old array, and of the groups it is in."""
        for path in [""] if self.name is None else _down_to(self.name):
            try:
                attributes = dict(self.zarr.open(str(old), path=path, mode="r").attrs)
            except FileNotFoundError:
                continue
            if attributes:
                self.zarr.open(str(self.directory), path=path, mode="r+").attrs.update(attributes)


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


def _down_to(name: str) -> list[str]:
    """Paths of the groups that lead to an array, and its own.

    Examples
    --------
    >>> _down_to("raw/X")
    ['/', 'raw', 'raw/X']
    """
    parts = name.strip("/").split("/")
    return ["/", *("/".join(parts[: k + 1]) for k in range(len(parts)))]


def refuse_to_lose(place: Path, name: str | None, arrays: Any) -> None:
    """Refuse to replace a file that holds more than what is written anew."""
    if not place.exists():
        return
    found = arrays(place)
    if found is None or set(found) - {name or "", *_down_to(name or "")}:
        held = "something else" if found is None else some(found, 5)
        raise BatchfixError(
            f"The output must not replace more than the array it is, and {str(place)!r} holds {held}. Choose another "
            "file."
        )


def arrays_of_hdf(place: Path) -> list[str]:
    """Paths of what an HDF5 file holds: datasets, groups, and named types."""
    found: list[str] = []
    with reading(place), needed("h5py").File(place, "r") as file:
        file.visit(found.append)
    return found


def arrays_of_zarr(place: Path) -> list[str] | None:
    """Paths of arrays and groups in a zarr directory, "" for one array alone; None for a directory of another kind."""
    if not any(place.iterdir()):
        return []
    if not any((place / name).exists() for name in ("zarr.json", ".zarray", ".zgroup")):
        return None
    with reading(place):
        node = needed("zarr").open(str(place), mode="r")
        return [path for path, _ in node.members(max_depth=None)] if hasattr(node, "members") else [""]
