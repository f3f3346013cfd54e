"""Chunks of dask collections: tables and labels, cut alike.

A dask array or dataframe and what is said about its rows (lazy, or in memory) flow in; one lazy matrix or DataFrame a
chunk, and the labels of its very rows, flow out:

    X        [ rows 0-99 | rows 100-199 | ... ]        a chunk holds all features of its rows
    labels   [ of 0-99   | of 100-199   | ... ]        lazy ones cut by dask, others here
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from importlib import import_module
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from ...exceptions import AlignmentError, BatchfixError
from ..sources.row_labels import RowLabels
from .tasks import Labels, computed, dask

da, dd = import_module("dask.array"), import_module("dask.dataframe")


class Chunks:
    """A dask table and its labels, by chunks.

    Parameters
    ----------
    X : dask array (n, p) or dask dataframe
        Features that are spread over chunks are brought together.
    **given : labels of all rows, as in `fit`
        In memory, or dask collections.

    Attributes
    ----------
    labels : dict of RowLabels
        What is in memory.

    Raises
    ------
    BatchfixError
        X is nothing of the kind.
    """

    def __init__(self, X: Any, **given: Any) -> None:
        self.X = _by_rows(X)
        self.given = {what: values for what, values in given.items() if values is not None}
        self.labels = {what: RowLabels(values, what) for what, values in self.given.items() if not _lazy(values)}

    def __len__(self) -> int:
        return int(self.X.npartitions)

    @property
    def framed(self) -> bool:
        """Whether chunks are DataFrames."""
        return isinstance(self.X, dd.DataFrame)

    @property
    def columns(self) -> list[Any] | int:
        """Names of the columns, keys among them, or how many there are."""
        return list(self.X.columns) if self.framed else int(self.X.shape[1])

    @property
    def counts(self) -> list[int] | None:
        """Rows of each chunk, where that is known without reading."""
        if self.framed or np.isnan(self.X.shape[0]):
            return None
        return [int(n) for n in self.X.chunks[0]]

    @cached_property
    def tables(self) -> list[Any]:
        """Chunks as delayed matrices or DataFrames."""
        return list(np.ravel(self.X.to_delayed()))

    @cached_property
    def arguments(self) -> list[Labels]:
        """What is said about the rows of each chunk, in memory or delayed.

        Raises
        ------
        AlignmentError
            Labels of other rows, or cut into other chunks where nothing tells how the two go together.
        """
        cut = {what: self._cut(values, what) for what, values in self.given.items()}
        return [{what: parts[k] for what, parts in cut.items()} for k in range(len(self))]

    def _cut(self, values: Any, what: str) -> list[Any]:
        if what in self.labels:
            return self._cut_here(self.labels[what])
        if not isinstance(values, Mapping):
            return self._cut_lazy(values, what)
        lazy = {name: self._cut_lazy(each, f"{what}[{name!r}]") for name, each in values.items() if _lazy(each)}
        here = {name: each for name, each in values.items() if name not in lazy}
        parts = self._cut_here(RowLabels(here, what)) if here else [{} for _ in range(len(self))]
        return [
            {str(name): lazy[name][k] if name in lazy else parts[k][str(name)] for name in values}
            for k in range(len(self))
        ]

    def _cut_here(self, labels: RowLabels) -> list[Any]:
        if labels.one is not None:
            return [labels.one] * len(self)
        (ends, index), reader = self._places, labels.reader()
        labels.check_count(ends[-1], ids=index is not None)
        return [reader.take(a, b, None if index is None else index[a:b]) for a, b in pairwise(ends)]

    @cached_property
    def _places(self) -> tuple[list[int], pd.Index | None]:
        """Where each chunk ends, and the index of all rows; X's index is read, or its rows are counted, if need be."""
        index, counts = None, self.counts
        if self.framed:
            parts = computed("The index", self.tables, *self.X.index.to_delayed())
            index, counts = parts[0].append(list(parts[1:])), [len(part) for part in parts]
        elif counts is None:
            count = dask.delayed(np.shape, pure=False)
            counts = [shape[0] for shape in computed("X", self.tables, *map(count, self.tables))]
        return np.cumsum([0, *counts]).tolist(), index

    def _cut_lazy(self, values: Any, what: str) -> list[Any]:
        if isinstance(values, da.Array):
            values = self._rechunked(values, what)
        elif self.framed and self.X.known_divisions and values.known_divisions:
            values = self._divided(values, what)
        parts = list(np.ravel(values.to_delayed()))
        if len(parts) != len(self):
            raise AlignmentError(
                f"{what} must be cut into the chunks of X, got {len(parts)} chunks for {len(self)}, of unknown lengths "
                "or divisions. Take both from one dataframe, name a column in a key, or pass labels in memory."
            )
        return parts

    def _rechunked(self, values: Any, what: str) -> Any:
        """A lazy array cut where X is."""
        if values.ndim not in (1, 2):
            raise BatchfixError(f"{what} must have one or two dimensions, got {values.ndim}.")
        values = values.rechunk({1: -1}) if values.ndim == 2 else values
        if self.counts is None or np.isnan(values.shape[0]):
            return values
        if values.shape[0] != sum(self.counts):
            raise AlignmentError(
                f"{what} must have one entry a row of X, got {values.shape[0]} for {sum(self.counts)} rows. "
                "Pass the labels of these very rows."
            )
        return values.rechunk({0: tuple(self.counts)})

    def _divided(self, values: Any, what: str) -> Any:
        """A lazy column or table cut where X is; rows beyond X's ends are not asked for."""
        ends, mine = values.divisions, self.X.divisions
        if ends == mine:
            return values
        if ends[0] > mine[0] or ends[-1] < mine[-1]:
            raise AlignmentError(
                f"The index of {what} must hold the rows of X, got {ends[0]!r} to {ends[-1]!r} for rows {mine[0]!r} to "
                f"{mine[-1]!r}. Give {what} X's index."
            )
        return values.loc[mine[0] : mine[-1]].repartition(divisions=mine, force=True)


def _lazy(values: Any) -> bool:
    """Whether labels, or some of several, are dask collections."""
    if isinstance(values, Mapping):
        return any(_lazy(column) for column in values.values())
    return isinstance(values, (da.Array, dd.DataFrame, dd.Series, dd.Index))


def _by_rows(X: Any) -> Any:
    """X, such that a chunk has all features of its rows."""
    if isinstance(X, dd.DataFrame):
        return X
    if not isinstance(X, da.Array):
        raise BatchfixError(
            f"X must be a dask array or a dask dataframe, got {type(X).__name__}. Use da.from_array(X) or "
            "dd.from_pandas(X), or call the corrector's own fit() on what is in memory."
        )
    if X.ndim != 2 or np.isnan(X.shape[1]):
        raise BatchfixError(
            f"X must have two dimensions, the second of known length, got shape {X.shape}. Use X.reshape(n, p), or "
            "X.compute_chunk_sizes()."
        )
    if X.numblocks[1] == 1:
        return X
    X = X.rechunk({1: -1})
    if np.isnan(X.shape[0]) or X.chunksize[0] * X.shape[1] * X.itemsize <= _usual_bytes():
        return X
    return X.rechunk({0: "auto", 1: -1})  # all features of so many rows would be too large a chunk


def _usual_bytes() -> int:
    """What dask is set to make a chunk of."""
    return int(dask.utils.parse_bytes(dask.config.get("array.chunk-size")))
