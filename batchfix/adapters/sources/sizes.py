"""Sizes: what a file's numbers would need in memory, and what memory is free.

What numbers need is 8 bytes for each cell of a text file, whose cells are counted where it begins; of parquet and h5ad
files rows times columns times the bytes of a number.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ...atomic import PathLike
from ..tables import is_parquet
from .files import needed, reading
from .opening import as_source

_LOOKED_AT = 1 << 20
_GROUPS = (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"))


def numbers_in(path: PathLike, *, layer: str | None = None) -> int:
    r"""Bytes of a table's numbers in memory, float64 unless the file says less; of text files an estimate.

    A sparse matrix counts as what it becomes, dense.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "runs.csv"
    >>> _ = path.write_text("id,f1,f2\n" + "s,1.5,2.5\n" * 999)
    >>> numbers_in(path) // 1000
    24
    """
    if str(path).lower().endswith(".h5ad"):
        return _matrix_in(Path(path), "X" if layer is None else f"layers/{layer}")
    if not is_parquet(path):
        return 8 * _cells_in(Path(path))
    source = as_source(path)
    return int(source.n_rows or 0) * source.n_features * (4 if source.dtype.itemsize <= 4 else 8)


def _matrix_in(path: Path, name: str) -> int:
    with reading(path), needed("h5py").File(path, "r") as file:
        found = file[name]
        shape, numbers = found.attrs.get("shape", getattr(found, "shape", (0,))), found
        while not hasattr(numbers, "dtype"):  # a sparse matrix is a group
            numbers = numbers["data"]
        return int(np.prod([int(n) for n in shape])) * (4 if numbers.dtype.itemsize <= 4 else 8)


def _cells_in(path: Path) -> int:
    """About how many cells a text file holds, by how densely they lie where it begins."""
    with reading(path), path.open("rb") as raw:
        stream: Any = gzip.GzipFile(fileobj=raw) if path.name.lower().endswith(".gz") else raw
        text = stream.read(_LOOKED_AT)
        used = raw.tell() or 1
        cells = max(text.count(b","), text.count(b"\t")) + text.count(b"\n")
        return int(cells * path.stat().st_size / used)


def free_memory() -> int | None:
    """Bytes that this process may still take; None where nothing tells.

    On Linux what is available, or what is left to the container if that is less; elsewhere half of the machine's.
    """
    found = list(_free())
    return min(found) if found else None


def _free() -> Iterator[int]:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                yield 1024 * int(line.split()[1])
    except OSError:
        if hasattr(os, "sysconf"):
            yield os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    for most, taken in _GROUPS:
        try:
            root = Path("/sys/fs/cgroup")
            yield max(0, int((root / most).read_text()) - int((root / taken).read_text()))
        except (OSError, ValueError):  # no such group, or one without a limit
            continue
