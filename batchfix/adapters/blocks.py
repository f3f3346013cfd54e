"""Doors to tables larger than memory: `fit_blocks` and `transform_blocks`.

Blocks of rows are worked on one after the other in one process (`streaming`), chunks of a dask table wherever dask
computes them (`dask`).
"""

from __future__ import annotations

from typing import Any, TypeVar

from sklearn.utils.validation import check_is_fitted

from .streaming import rules, stream
from .streaming.stream import Progress

Corrector = TypeVar("Corrector")


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
        Arrays go by position, what has an index by X's index if it has one, columns of a mapping each by its own. Of
        an AnnData: names of columns of obs.
    block_rows : int, optional
        Rows of a block; by default what makes 64 MB of float64. Blocks that come as such stay as they are, and so do
        the chunks of a dask table, for which this is refused. Of a parquet file whose row groups are large, a page of
        each column is held beside the block: 1 to 3 MB a column as pandas writes them.
    progress : bool or function, optional
        True: a bar in a terminal. A function is called with the share that is done, NaN where nothing tells. Refused
        for a dask table, whose progress dask shows itself.

    Returns
    -------
    corrector

    Raises
    ------
    BatchfixError
        Whatever `fit` refuses, with the rows it is about; blocks with different columns; statistics that do not add up
        (medians, what zeros become if it is learned from the table).
    TypeError
        Labels of an AnnData that are no names.

    Notes
    -----
    What belongs together must stand together: the rows of a date for a GroupCorrector of a long table, those of a batch
    for a RenormCorrector. A CausalCorrector takes rows in the order of time. Where blocks bring their own kept columns,
    the first one says whether a column is a factor or a number. Groups of a GroupCorrector that come up in later blocks
    only stand last in `group_names_`.

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
        from . import dask

        dask.check_options(block_rows, progress)
        dask.fit(corrector, X, batch=batch, keep=keep, nuisance=nuisance)
        return corrector
    stream.fit(corrector, X, batch, keep, nuisance, block_rows=block_rows, progress=progress)
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
        but the matrix, of the same columns; of anything else, ids of rows and names of columns, as a .csv, .tsv or
        .parquet file of anything has. Attributes in an .h5 file or .zarr directory that is replaced are kept.
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
        from . import dask

        dask.check_options(block_rows, progress)
        lazy = dask.transform(corrector, X, batch=batch, keep=keep, nuisance=nuisance, inverse=inverse)
        return lazy if out is None else dask.store(lazy, out)
    return stream.transform(
        corrector, X, batch, keep, nuisance, out=out, inverse=inverse, block_rows=block_rows, progress=progress
    )
