r"""dask: correctors fitted to tables that are spread over chunks, and over machines.

A dask array or dataframe flows in. Each chunk is measured where it lies, statistics are added up in a tree, and only
they travel; the corrected table is as lazy as the one that came.

    chunks        x x x x x x x x x
    statistics    o o o o o o o o o
                   \|/   \|/   \|/
                    o     o     o        split_every = 3
                     \____|____/
                          o              = those of all rows

It runs wherever dask does: threads, processes, or the cluster of a `distributed.Client`.
"""

from __future__ import annotations

import copy as copying
from typing import Any, TypeVar
from uuid import uuid4

import numpy as np
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from ...correctors import GroupCorrector
from ...correctors.base import BatchwiseCorrector
from ...exceptions import BatchfixError
from ..streaming.rules import finish
from . import rules, tasks
from .chunks import Chunks, da, dd
from .store import store
from .tasks import dask

__all__ = ["fit", "store", "transform"]

Corrector = TypeVar("Corrector")

HEAD_ROWS = 256
"""First rows, from which kinds of columns are decided and which warnings are about."""


def fit(
    corrector: Corrector, X: Any, *, batch: Any = None, keep: Any = None, nuisance: Any = None, split_every: int = 8
) -> Corrector:
    """Fit a corrector to a dask table, as its own `fit` does to one in memory.

    Parameters
    ----------
    corrector : ComBat, LinearCorrector, BatchCorrector, CompositionalCorrector, GroupCorrector ...
        Whose statistics add up. It is changed as by `fit`; after an error it is as it was.
    X : dask array (n samples, p features) or dask dataframe
        Lengths of chunks need not be known. Features spread over chunks are brought together. A worker must hold a
        chunk several times over; sparse chunks are made dense one by one.
    batch, keep, nuisance : as in the corrector's `fit`
        Of all rows, in memory or as dask collections. What carries an index is aligned by it. Against chunks of
        unknown length, labels in memory cost a reading of X's index beforehand; columns named in keys cost nothing.
    split_every : int, at least 2
        How many statistics a task adds up.

    Returns
    -------
    corrector

    Raises
    ------
    BatchfixError
        Before anything is read, if statistics do not add up; else naming the chunk that cannot be used, or the one
        over which workers died.

    Notes
    -----
    The first rows are looked at before all others: they decide whether a kept column is a factor or a number, and a
    warning is about them. A cluster that has lost all its workers waits for new ones, as dask does (see its
    `distributed.scheduler.no-workers-timeout`).

    Examples
    --------
    >>> import dask.array as da
    >>> from batchfix import BatchCorrector
    >>> X = da.from_array([[1.0], [3.0], [11.0], [13.0]], chunks=(3, 1))
    >>> corrector = fit(BatchCorrector(), X, batch=["a", "a", "b", "b"])
    >>> transform(corrector, X, batch=["a", "a", "b", "b"]).compute().ravel().tolist()
    [6.0, 8.0, 6.0, 8.0]
    """
    given: Any = split_every
    if isinstance(given, bool) or not isinstance(given, int | np.integer) or given < 2:
        raise BatchfixError(f"split_every must be a whole number, 2 or more, got {split_every!r}. The usual is 8.")
    fresh: Any = clone(corrector)
    own = set(vars(fresh))
    chunks = Chunks(X, batch=batch, keep=keep, nuisance=nuisance)
    rules.check_fit(fresh, chunks)
    n, token = len(chunks), uuid4().hex
    blank = _shared(_blank(fresh, chunks), token)
    measure, merge = dask.delayed(tasks.measure, pure=False), dask.delayed(tasks.merge, pure=False)
    parts = [
        measure(blank, table, of_rows, chunks.columns, k, n, dask_key_name=f"batchfix-measure-{token}-{k}")
        for k, (table, of_rows) in enumerate(zip(chunks.tables, chunks.arguments, strict=True))
    ]
    while len(parts) > 1:
        parts = [merge(parts[i : i + split_every]) for i in range(0, len(parts), split_every)]
    whole = tasks.computed("The fit", chunks.tables, parts[0])[0].corrector
    finish(whole)
    kept = {name: value for name, value in vars(corrector).items() if name in own}
    corrector.__dict__ = kept | {name: value for name, value in vars(whole).items() if name not in own}
    return corrector


def transform(
    corrector: Any, X: Any, *, batch: Any = None, keep: Any = None, nuisance: Any = None, inverse: bool = False
) -> Any:
    """Correct a dask table, lazily: the result is computed, stored or worked on as any dask collection.

    Parameters
    ----------
    corrector : a fitted one
    X, batch, keep, nuisance
        As in `fit`.
    inverse : bool, default False
        Put batch effects back, as `inverse_transform` does.

    Returns
    -------
    dask array or dataframe
        Cut as X is, but for chunks of an array that have no rows; float32 stays float32. The numbers are those of the
        corrector's own `transform`: to the bit, or to the last one where kept columns enter, as a matrix product's
        rounding depends on the number of rows. A mistake in a chunk is a BatchfixError when that chunk is computed.

    Raises
    ------
    BatchfixError
        Where a row's result depends on rows of other chunks.
    """
    check_is_fitted(corrector)
    chunks = Chunks(X, batch=batch, keep=keep, nuisance=nuisance)
    rules.check_transform(corrector, chunks)
    columns, dtype, n = rules.columns(corrector, chunks, inverse=inverse), rules.dtype(corrector, chunks), len(chunks)
    wanted = columns if chunks.framed else len(columns)
    verb, token = "inverse_transform" if inverse else "transform", uuid4().hex
    mapper = _shared(_mapper(corrector), token)
    correct = dask.delayed(tasks.correct, pure=False)
    parts = [
        correct(mapper, verb, table, of_rows, wanted, dtype, k, n, dask_key_name=f"batchfix-correct-{token}-{k}")
        for k, (table, of_rows) in enumerate(zip(chunks.tables, chunks.arguments, strict=True))
    ]
    if chunks.framed:
        meta = tasks.nothing(chunks.X._meta, wanted, dtype)
        return dd.from_delayed(parts, meta=meta, divisions=chunks.X.divisions, verify_meta=False)
    rows: list[float] = [np.nan] * n if chunks.counts is None else list(chunks.counts)
    return da.concatenate([da.from_delayed(part, (k, wanted), dtype) for part, k in zip(parts, rows, strict=True)])


# ---- what workers are given


def _shared(corrector: Any, token: str) -> Any:
    """A corrector that all tasks use, sent once to each worker."""
    return dask.delayed(corrector, name=f"batchfix-corrector-{token}", traverse=False)


def _blank(corrector: Any, chunks: Chunks) -> Any:
    """A corrector that knows features and kinds of columns by the first rows, and has the statistics of none.

    What would be warned of, or refused, in every chunk is so once, here, at the caller's line.
    """
    head = dask.delayed(tasks.head, pure=False)
    for k, (table, of_rows) in enumerate(zip(chunks.tables, chunks.arguments, strict=True)):
        ((X, labels),) = tasks.computed("The fit", chunks.tables, head(table, of_rows, HEAD_ROWS))
        if X.shape[0]:
            tasks.check_columns(X, chunks.columns, k, len(chunks))
            with tasks.named(f"Chunk {k} of {len(chunks)}"):
                seen = clone(corrector).partial_fit(X, **labels)
            return corrector if isinstance(corrector, GroupCorrector) else _emptied(seen)
    raise BatchfixError(f"X must have rows to fit to, got none in its {len(chunks)} chunks.")


def _emptied(corrector: Any) -> Any:
    """The same corrector, its sums those of no row: of one batch, so that labels of another kind do not pass."""
    if isinstance(corrector, BatchwiseCorrector):
        seen = corrector.statistics_
        corrector.statistics_ = seen.only(len(seen.batches))._among(seen.batches[:1], seen.columns)
    else:
        corrector.corrector_ = _emptied(corrector.corrector_)
    return corrector


def _mapper(corrector: Any) -> Any:
    """A copy that gives back tables as they come, in memory of its own."""
    mapper = copying.copy(corrector)
    finish(mapper)
    mapper._sklearn_output_config = {"transform": "default"}
    if "copy" in mapper.get_params(deep=False):
        mapper.copy = True
    return mapper
