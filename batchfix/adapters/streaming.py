"""Streaming: correctors fitted and applied to more rows than memory holds, in one process.

A source of blocks flows in; statistics are added up block by block, and the corrector is that of all rows. Blocks then
flow through it one by one, to an iterator, an array or a file:

    block, block, ...  ->  statistics + statistics + ...  ->  fitted corrector
    block, block, ...  ->  corrected block, corrected block, ...  ->  out
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted
from tqdm import tqdm

from .. import exceptions
from ..core.least_squares import LinearFit
from ..core.residuals import FAINT
from ..correctors.base import BatchwiseCorrector
from ..correctors.notices import some, warn
from ..exceptions import BatchfixError, EstimabilityWarning, MergeError
from . import block_rules as rules
from .block_verbs import applier, learner
from .sinks import open_sink
from .sources import Block, Source, as_source

Corrector = TypeVar("Corrector")
Progress = bool | Callable[[float], object] | None


def fit_blocks(
    corrector: Corrector,
    X: Any,
    *,
    batch: Any = None,
    keep: Any = None,
    nuisance: Any = None,
    block_rows: int | None = None,
    progress: Progress = None,
) -> Corrector:
    """Fit a corrector to a table that need not fit into memory: the same as its `fit` on all rows at once.

    Parameters
    ----------
    corrector : ComBat, BatchCorrector, LinearCorrector, RenormCorrector, CompositionalCorrector, GroupCorrector, ...
        Whose statistics add up. It is changed as by `fit`; after an error it is as it was.
    X : table (n samples, p features) in any of these forms
        - ndarray, numpy.memmap, DataFrame, zarr array, h5py dataset, or what else has a shape and slices of rows;
        - blocks: a list, a function that returns a fresh iterator, or a generator; each block a matrix, a DataFrame
          (in which keys may name columns), or a tuple (X, batch), (X, batch, keep) or (X, batch, keep, nuisance);
        - an AnnData, in memory, backed or lazy, of which X is taken;
        - the path of a file: .npy, .zarr, .h5 or .hdf5 (path::dataset), .h5ad, .csv, .tsv (.gz) or .parquet. In csv
          and tsv files the first column names the rows;
        - a dask array or dataframe, see `batchfix.adapters.dask`.
    batch, keep, nuisance : labels of all n rows, as in the corrector's `fit`, optional
        Arrays go by position, what has an index by X's index if it has one. Of an AnnData: names of columns of obs.
    block_rows : int, optional
        Rows of a block; by default what makes 64 MB of float64. Blocks that come as such stay as they are.
    progress : bool or function, optional
        True: a bar in a terminal. A function is called with the share that is done, NaN where nothing tells.

    Returns
    -------
    corrector

    Raises
    ------
    BatchfixError
        Whatever `fit` refuses, with the rows it is about; blocks with different columns; statistics that do not add up
        (medians, what zeros become if it is learned from the table).

    Notes
    -----
    What belongs together must stand together: the rows of a date for a GroupCorrector of a long table, those of a batch
    for a RenormCorrector. A CausalCorrector takes rows in the order of time. Where blocks bring their own kept columns,
    the first one says whether a column is a factor or a number. Of a feature that is explained by what is kept almost
    wholly, sums hold few digits of the rest, as in `partial_fit`: a warning names it. ComBat shrinks all features
    together, so that the others may then differ too from those of `fit`: leave such a feature out.

    Examples
    --------
    >>> import numpy as np
    >>> from batchfix import BatchCorrector
    >>> blocks = [(np.array([[1.0], [3.0]]), ["a", "a"]), (np.array([[11.0], [13.0]]), ["b", "b"])]
    >>> corrector = fit_blocks(BatchCorrector(), blocks)
    >>> [block.ravel().tolist() for block in transform_blocks(corrector, blocks)]
    [[6.0, 8.0], [6.0, 8.0]]
    """
    if rules.is_dask(X):
        from . import dask as adapter

        adapter.fit(corrector, X, batch=batch, keep=keep, nuisance=nuisance)
        return corrector
    fresh: Any = clone(corrector)
    rules.check_fit(fresh)
    own = set(vars(fresh))
    source = as_source(X, batch, keep, nuisance, keys=rules.key_names(fresh))
    rules.check_codes(fresh, source)
    learn = learner(fresh)
    n = 0
    for block in _walk(rules.cut_for_fit(fresh, source.blocks(block_rows)), source, progress, "fit"):
        with _located(block):
            rules.check_labels(fresh, block)
            learn(block)
        n += block.stop - block.start
    rules.check_rows(fresh, n)
    _finish(fresh)
    kept = {name: value for name, value in vars(corrector).items() if name in own}
    corrector.__dict__ = kept | {name: value for name, value in vars(fresh).items() if name not in own}
    return corrector


def transform_blocks(
    corrector: Any,
    X: Any,
    *,
    batch: Any = None,
    keep: Any = None,
    nuisance: Any = None,
    out: Any = None,
    inverse: bool = False,
    block_rows: int | None = None,
    progress: Progress = None,
) -> Any:
    """Correct a table that need not fit into memory: the same as `transform` of all rows at once.

    Parameters
    ----------
    corrector : a fitted one
        It stays as it is. A CausalCorrector's past goes along from block to block.
    X, batch, keep, nuisance, block_rows, progress
        As in `fit_blocks`.
    out : optional
        None: an iterator of corrected blocks, each made when it is asked for; of a dask table, a lazy one. An array
        that takes slices (ndarray, memmap, zarr, h5py). Or a path, with the extensions of `fit_blocks`: the file is
        there when it is whole, and until then what was there before. An .h5ad file of an AnnData has all that this has
        but the matrix, of the same columns; of anything else, ids of rows and names of columns. Attributes in an .h5
        file or .zarr directory that is replaced are kept.
    inverse : bool, default False
        Put batch effects back, as `inverse_transform` does.

    Returns
    -------
    out, or an iterator of blocks of X's kind
        To the bit what `transform` gives; but where kept or nuisance columns enter a row's map, to its rounding.

    Raises
    ------
    NotFittedError
        A corrector that was not fitted.
    BatchfixError
        Whatever `transform` refuses, with the rows it is about; handle_unknown="adapt", which needs all rows of a new
        batch in one call; an output that does not fit or cannot be written.

    Examples
    --------
    >>> import numpy as np
    >>> from batchfix import BatchCorrector
    >>> X, batch, out = np.array([[1.0], [3.0], [11.0], [13.0]]), ["a", "a", "b", "b"], np.empty((4, 1))
    >>> corrector = fit_blocks(BatchCorrector(), X, batch=batch)
    >>> transform_blocks(corrector, X, batch=batch, out=out).ravel().tolist()
    [6.0, 8.0, 6.0, 8.0]
    """
    check_is_fitted(corrector)
    rules.check_transform(corrector)
    if rules.is_dask(X):
        from . import dask as adapter

        lazy = adapter.transform(corrector, X, batch=batch, keep=keep, nuisance=nuisance, inverse=inverse)
        if out is None:
            return lazy
        from .dask_store import store

        return store(lazy, out)
    source = as_source(X, batch, keep, nuisance, keys=rules.key_names(corrector))
    pieces = _corrected(corrector, source, inverse=inverse, block_rows=block_rows, progress=progress)
    if out is None:
        return (values for _, values in pieces)
    try:
        with open_sink(out, source.n_rows, source) as sink:
            for start, values in _marked(pieces):
                sink.write(start, values)
    except _InputError as error:
        raise error.error from error.error.__cause__
    return out


class _InputError(Exception):
    """An OSError of the input, on its way past those who would take it for one of the output."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error)
        self.error = error


def _marked(pieces: Iterator[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
    try:
        yield from pieces
    except OSError as error:
        raise _InputError(error) from error


def _corrected(
    corrector: Any, source: Source, *, inverse: bool, block_rows: int | None, progress: Progress
) -> Iterator[tuple[int, Any]]:
    """Place of the first row, and corrected rows, block by block."""
    apply = applier(corrector, inverse=inverse)
    blocks = rules.cut_for_transform(corrector, source.blocks(block_rows))
    for block in _walk(blocks, source, progress, "transform"):
        with _located(block):
            rules.check_labels(corrector, block)
            values = apply(block)
        if isinstance(values, pd.DataFrame) and not isinstance(block.X, pd.DataFrame):
            values.index = pd.RangeIndex(block.start, block.stop)  # set_output numbers the rows of each call from 0
        yield block.start, values


def _walk(blocks: Iterable[Block], source: Source, progress: Progress, what: str) -> Iterator[Block]:
    """Blocks that agree in their columns; says how far it is."""
    first: Block | None = None
    show = progress is True
    with tqdm(total=source.n_rows, desc=what, unit=" rows", disable=None if show else True, leave=False) as bar:
        for k, block in enumerate(blocks):
            first = first or block
            _check_columns(first, block, k)
            yield block
            bar.update(block.stop - block.start)
            if callable(progress):
                progress(block.share)


def _check_columns(first: Block, block: Block, k: int) -> None:
    want, got = first.names, block.names
    where = f"block {k} (rows {block.start} to {block.stop - 1})"
    if block.X.shape[1] != first.X.shape[1]:
        differ = f"has {block.X.shape[1]} of them where the first has {first.X.shape[1]}"
        if want is not None and got is not None:
            lost, more = [c for c in want if c not in set(got)], [c for c in got if c not in set(want)]
            differ = f"lacks {lost[:3]}" if lost else f"has {more[:3]} more" if more else differ
    elif want is None or got is None or want == got:
        return
    else:
        lost = [c for c in want if c not in set(got)]
        differ = f"lacks {lost[:3]}" if lost else "has them in another order"
    raise MergeError(f"Every block must have the columns of the first, in their order, but {where} {differ}.")


@contextmanager
def _located(block: Block) -> Iterator[None]:
    """Errors that speak of rows by their place in a block say where the block is."""
    try:
        yield
    except BatchfixError as error:
        kind = type(error)
        if block.start == 0 or getattr(exceptions, kind.__name__, None) is not kind:
            raise
        raise kind(f"In the block of rows {block.start} to {block.stop - 1}: {error}") from error


def _finish(corrector: Any) -> None:
    """Estimates, and their errors, now and not when they are first asked for."""
    inner = getattr(corrector, "corrector_", corrector)
    if isinstance(inner, BatchwiseCorrector):
        _warn_of_vanished(inner, inner.solution_.fit)


def _warn_of_vanished(corrector: BatchwiseCorrector, fit: LinearFit) -> None:
    """Name the features of which nothing is left in sums, though in the rows something may be."""
    varies = np.asarray(corrector.statistics_.moments.x.m2).sum(axis=0) > 0
    none = np.flatnonzero((fit.left < FAINT) & fit.estimable & varies & (np.nan_to_num(fit.rss).sum(axis=0) == 0))
    if corrector._needs_residuals and len(none):
        warn(
            f"{some(none, corrector._feature)} explained by what is kept wholly, or so closely that sums over parts "
            "do not show the rest: if there is one, fit() on all rows at once corrects by it and, through shrinkage, "
            "may correct other features a little otherwise. Leave such a feature out, or use fit().",
            EstimabilityWarning,
        )
