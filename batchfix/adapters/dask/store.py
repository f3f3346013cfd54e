"""Storing a dask table: chunks computed on a cluster, written by one process.

A lazy table flows in; a file or a filled array comes out, the file whole or not at all.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

from ..sinks.opening import fill
from .chunks import Chunks
from .tasks import computed

MOST_AT_ONCE = 8
"""Chunks that wait to be written, at most."""


def store(result: Any, out: Any) -> Any:
    """Write a lazy table, a few chunks at a time, into one file or array: whole, or not at all.

    Where many workers are to write at once, use dask's own `to_zarr` or `to_parquet`; these leave half a file behind
    when they fail.

    Parameters
    ----------
    result : dask array or dataframe
        Such as `transform` returns.
    out : array or path
        As in `transform_blocks`.

    Returns
    -------
    out

    Raises
    ------
    BatchfixError
        A chunk cannot be computed, or `out` cannot be written: a file is then as it was before.
    """
    chunks = Chunks(result)
    fill(out, _pieces(chunks), None if chunks.counts is None else sum(chunks.counts))
    return out


def _pieces(chunks: Chunks) -> Iterator[tuple[int, Any]]:
    """Chunks in order, each with the place of its first row; as many computed at once as there are workers for."""
    tables, start = chunks.tables, 0
    for k in range(0, len(tables), at_once := _workers()):
        for block in computed("The result", tables, *tables[k : k + at_once]):
            if block.shape[0]:
                yield start, block
            start += int(block.shape[0])


def _workers() -> int:
    """Threads that work on chunks."""
    distributed = sys.modules.get("distributed")
    try:
        client = None if distributed is None else distributed.get_client()
    except ValueError:  # there is none
        client = None
    threads = (os.cpu_count() or 1) if client is None else sum(client.nthreads().values())
    return max(1, min(threads, MOST_AT_ONCE))
