"""Blocked, threaded traversal of a matrix that is larger than the cache.

Rows of one group are gathered into a buffer that stays in the cache; the
arithmetic happens there. Tasks are coarse and run on a few threads, since numpy
releases the interpreter lock inside its loops; BLAS keeps to one thread
meanwhile, because two layers of threads on few cores trip over each other.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, TypeVar

import numpy as np
from threadpoolctl import ThreadpoolController

Task = TypeVar("Task")
Result = TypeVar("Result")

CHUNK_BYTES = 1 << 21
"""A gathered chunk: near the second-level cache, long enough to hide the overhead of calls."""

BLOCK_BYTES = 1 << 25
"""Rows that share one pilot mean, and one task."""

THREAD_BYTES = 1 << 21
"""A matrix smaller than this is not worth a thread."""

MAX_THREADS = 8

INFINITE = (
    "X must be finite or NaN (missing), and so small that its correction fits the dtype; got infinity. "
    "Replace infinities by NaN, or find the division or logarithm they came from."
)


@cache
def _blas() -> ThreadpoolController:
    """Look up the loaded BLAS libraries once: the search takes about a millisecond."""
    return ThreadpoolController()


def n_threads() -> int:
    """Threads to use: the cores this process may use, at most `OMP_NUM_THREADS` and 8."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        cores = os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdecimal() and int(asked) > 0:
        cores = min(cores, int(asked))
    return min(cores, MAX_THREADS)


def run(work: Callable[[Task], Result], tasks: Iterable[Task], nbytes: int) -> list[Result]:
    """Apply `work` to every task and return the results in the order of the tasks.

    `nbytes` is the size of all the data touched: small jobs stay on this thread.
    """
    tasks = list(tasks)
    threads = min(n_threads(), len(tasks))
    if threads <= 1 or nbytes < THREAD_BYTES:
        return [work(task) for task in tasks]
    with _blas().limit(limits=1), ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, tasks))


def rows_per_chunk(n_columns: int, nbytes: int) -> int:
    """Rows of float64 that fill a chunk; smaller chunks for a matrix of few `nbytes`, so that buffers stay a trifle."""
    size = min(CHUNK_BYTES, max(nbytes // 128, CHUNK_BYTES // 8))
    return max(1, size // (8 * max(1, n_columns)))


def rows_per_block(n_columns: int) -> int:
    """Rows of a task. Depends on the width alone, so that results do not on the machine."""
    return int(np.clip(BLOCK_BYTES // (8 * max(1, n_columns)), 64, 4096))


def spans(start: int, stop: int, step: int) -> Iterator[tuple[int, int]]:
    """Cut [start, stop) into pieces of at most `step`."""
    for a in range(start, stop, step):
        yield a, min(a + step, stop)


def column_blocks(X: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Walk over column slices of X as C-contiguous arrays.

    A C-contiguous matrix is one block, itself; any other layout is copied piece
    by piece, so that gathering its rows does not copy it whole.
    """
    n, p = X.shape
    if X.flags.c_contiguous:
        yield slice(0, p), X
        return
    width = max(16, 4 * CHUNK_BYTES // (X.itemsize * max(1, n)))
    for a, b in spans(0, p, width):
        yield slice(a, b), np.ascontiguousarray(X[:, a:b])


def gather(X: np.ndarray, rows: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Rows of a C-contiguous X: a view where they are neighbours, else copied into the first rows of `out`."""
    first, last = int(rows[0]), int(rows[-1])
    if last - first == len(rows) - 1:  # rows of a group are in rising order
        return X[first : last + 1]
    into = out[: len(rows)]
    np.take(X, rows, axis=0, out=into, mode="clip")  # "raise" would make numpy buffer `out`
    return into


def buffers(X: np.ndarray, n_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a buffer of X's dtype to gather into and a float64 one to reckon in."""
    raw = np.empty((n_rows, X.shape[1]), dtype=X.dtype)
    work = raw if X.dtype == np.float64 else np.empty(raw.shape)
    return raw, work


def any_infinite(X: Any) -> bool:
    """Whether a cache-sized piece holds an infinity. NaN is not one."""
    flat = X.reshape(-1)  # neighbouring rows: a view
    with np.errstate(all="ignore"):
        total = np.dot(flat, flat)  # the fastest way to read a piece; what overflows is looked at closely
    return not np.isfinite(total) and bool(np.isinf(X).any())
