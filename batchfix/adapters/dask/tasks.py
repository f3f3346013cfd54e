"""Tasks of a dask graph: what a worker does to a chunk, and what is said when it fails.

A chunk and the labels of its rows flow in; statistics, or corrected rows, flow out. An error names the chunk.
"""

from __future__ import annotations

import copy as copying
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from importlib import import_module
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from ...core import naming
from ...exceptions import BatchfixError, MergeError
from ..sources.files import said

try:  # dask is typed by halves: as a plain module, its names are Any
    dask = import_module("dask")
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("batchfix.adapters.dask needs dask: pip install 'batchfix[dask]'", name="dask") from error

Labels = dict[str, Any]
"""Keyword arguments of one chunk: batch, keep, nuisance."""

LARGE = {"distributed.admin.large-graph-warning-threshold": "1 GiB"}
"""Labels of all rows travel with the graph, a chunk's to each task: no mistake to warn of."""


@dataclass(frozen=True)
class Part:
    """A corrector fitted to the rows of chunks `first` to `last`."""

    corrector: Any
    first: int
    last: int

    def __add__(self, other: Part) -> Part:
        with named(f"Chunks {self.first} to {self.last} and {other.first} to {other.last}"):
            return Part(self.corrector.merge(other.corrector), self.first, other.last)


@contextmanager
def named(where: str) -> Iterator[None]:
    """Say where an error happened: a worker's traceback does not."""
    try:
        yield
    except BatchfixError as error:
        raise type(error)(f"{where}: {error}") from error
    except (TypeError, ValueError) as error:  # scikit-learn's say what is wrong, too
        raise BatchfixError(f"{where}: {said(error, 300)}") from error


def check_columns(table: Any, columns: list[Any] | int, k: int, n: int) -> None:
    """Refuse a chunk with other columns than the table's: a dask collection may promise what its chunks do not keep."""
    own = list(table.columns) if isinstance(columns, list) else int(table.shape[1])
    if own != columns:
        want, got = (naming.some(each, 5) if isinstance(each, list) else each for each in (columns, own))
        raise MergeError(
            f"Every chunk must have the columns of the table, in their order ({want}), but chunk {k} of {n} has {got}."
        )


def head(table: Any, labels: Labels, rows: int) -> tuple[Any, Labels]:
    """First rows of a chunk, and what is said about them."""
    return _first(dense(table), rows), {what: _first(values, rows) for what, values in labels.items()}


def measure(blank: Any, table: Any, labels: Labels, columns: list[Any] | int, k: int, n: int) -> Part | None:
    """Statistics of chunk k of n, none if it has no rows."""
    if not table.shape[0]:
        return None
    check_columns(table, columns, k, n)
    with named(f"Chunk {k} of {n}"):  # a copy, since tasks of one process share what they are given
        return Part(copying.copy(blank).partial_fit(dense(table), **labels), k, k)


def merge(parts: list[Part | None]) -> Part | None:
    """Statistics of several chunks together."""
    found = [part for part in parts if part is not None]
    return reduce(Part.__add__, found) if found else None


def correct(
    corrector: Any, verb: str, table: Any, labels: Labels, columns: list[Any] | int, dtype: Any, k: int, n: int
) -> Any:
    """Rows of chunk k of n, corrected: a DataFrame of these columns, or a matrix of so many."""
    if not table.shape[0]:
        return nothing(table, columns, dtype)
    with named(f"Chunk {k} of {n}"):
        out = getattr(corrector, verb)(dense(table), **labels)
    exact = np.result_type(np.asarray(out[:0]), dtype) == dtype  # no digit is lost, whatever was promised
    return out.astype(dtype, copy=False) if exact else out


def nothing(table: Any, columns: list[Any] | int, dtype: Any) -> Any:
    """The correction of a table without rows."""
    if isinstance(columns, int):
        return np.empty((0, columns), dtype=dtype)
    return pd.DataFrame(np.empty((0, len(columns)), dtype=dtype), index=table.index, columns=columns)


def dense(table: Any) -> Any:
    """A sparse chunk as a dense one."""
    return table.toarray() if sparse.issparse(table) else table


def computed(what: str, tables: Sequence[Any], *values: Any) -> tuple[Any, ...]:
    """Compute lazy values; the loss of workers becomes a sentence that names the chunk they were lost over."""
    try:
        # before distributed is imported there is nothing to set, and to set it would hide its defaults
        with dask.config.set(LARGE if "distributed" in sys.modules else {}):
            found: tuple[Any, ...] = dask.compute(*values)
    except lost_workers() as error:
        task = getattr(error, "task", None)
        tries = "a process that worked on it" if task is None else f"all {error.allowed_failures + 1} workers with it"
        raise BatchfixError(
            f"{what} must have every chunk, and {_missing(task, tables)} is missing: {tries} died, for want of memory "
            "as a rule. Use smaller chunks (X.rechunk, X.repartition) or give workers more memory; their logs say more."
        ) from error
    return found


def lost_workers() -> tuple[Any, ...]:
    """What schedulers raise when a worker is gone; `distributed` is asked only if it is in use."""
    distributed = sys.modules.get("distributed")
    return (BrokenProcessPool,) if distributed is None else (BrokenProcessPool, distributed.KilledWorker)


def _missing(task: Any, tables: Sequence[Any]) -> str:
    """The chunk that a task belongs to: it makes it, or is about it."""
    if task is None:
        return "one of them"
    if str(task).startswith("batchfix-") and str(task).rpartition("-")[2].isdecimal():
        return f"chunk {str(task).rpartition('-')[2]} of {len(tables)}"
    owners = [k for k, table in enumerate(tables) if task in _makers(table)]
    return f"chunk {owners[0]} of {len(tables)}" if len(owners) == 1 else f"the task {task!r} of several"


def _makers(table: Any) -> set[Any]:
    """Keys of the tasks that a chunk is made by."""
    needs = table.dask.get_all_dependencies()
    found, todo = set(), [table.key]
    while todo:
        key = todo.pop()
        if key not in found:
            found.add(key)
            todo += needs.get(key, ())
    return found


def _first(values: Any, rows: int) -> Any:
    if isinstance(values, Mapping):
        return {name: _first(column, rows) for name, column in values.items()}
    if np.ndim(values) == 0:
        return values
    return values.iloc[:rows] if hasattr(values, "iloc") else values[:rows]
