"""Kinds of matrices in an AnnData: how to know them, and which cannot be corrected.

    kind       what it is                                       how it is corrected
    dense      ndarray, DataFrame                               fit_transform
    sparse     scipy's, by rows or columns                      made dense once, in the memory of the result
    stored     h5py, zarr, sparse on disk: what is backed       block by block
    lazy       dask, from anndata's read_lazy or one's own      chunk by chunk, when it is computed

What is refused is refused before anything is read.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from ...exceptions import BatchfixError, UnmergeableError
from ..sources.obs import kind


def is_lazy(values: Any) -> bool:
    """Whether this is a dask array, or a view of one."""
    return hasattr(values, "dask") and hasattr(values, "to_delayed")


def is_stored(values: Any) -> bool:
    """Whether this is an array in a file."""
    module = type(values).__module__.split(".")[0]
    return module in ("h5py", "zarr") or is_sparse_on_disk(values)


def is_sparse(values: Any) -> bool:
    """Whether what is stored are the numbers other than 0."""
    meta = values._meta if is_lazy(values) else values
    return sparse.issparse(meta) or is_sparse_on_disk(values)


def is_sparse_on_disk(values: Any) -> bool:
    """Whether this is anndata's sparse matrix in a file."""
    from anndata.abc import CSCDataset, CSRDataset

    return isinstance(values, CSRDataset | CSCDataset)


def check(values: Any, corrector: Any, what: str) -> None:
    """Refuse kinds of matrices that cannot be read.

    Raises
    ------
    TypeError
        It is nothing of the kind.
    BatchfixError
        Complex numbers; a sparse matrix on disk by columns; statistics that do not add up where rows are read block by
        block.
    """
    if isinstance(values, np.ma.MaskedArray):
        raise TypeError(
            f"{what} must be an array without a mask, got numpy MaskedArray. Mark what is missing by NaN: "
            f"{what} = {what}.filled(np.nan)"
        )
    if is_sparse_on_disk(values) and values.format != "csr":
        raise BatchfixError(
            f"{what} on disk must be stored by rows (csr) to be read by rows, got {values.format}. Store it "
            "anew, if it fits into memory: adata = adata.to_memory(), adata.X = adata.X.tocsr(), "
            "adata.write_h5ad(path)."
        )
    if is_lazy(values) or is_stored(values):
        _check_adds(corrector, what)
    elif not (isinstance(values, np.ndarray | pd.DataFrame) or sparse.issparse(values)):
        raise TypeError(
            f"{what} must be a dense or sparse matrix, in memory, on disk or of dask, got {kind(values)}. "
            "Load it first: adata = adata.to_memory()"
        )
    check_real(values, what)


def check_real(values: Any, what: str) -> None:
    """Refuse complex numbers, and what is stored and no number.

    Raises
    ------
    BatchfixError
    """
    for dtype in values.dtypes if isinstance(values, pd.DataFrame) else [values.dtype]:
        if dtype.kind == "c":
            raise BatchfixError(f"{what} must hold real numbers, got {dtype}. Correct its real part, or its modulus.")
        if dtype.kind not in "biuf" and is_stored(values):
            raise BatchfixError(f"{what} must hold numbers, got {dtype}. Name another layer, or export it again.")


def _check_adds(corrector: Any, what: str) -> None:
    try:
        corrector.partial_fit  # noqa: B018  # absent where statistics do not add up
    except UnmergeableError as error:
        raise UnmergeableError(
            f"{what} is read block by block, which takes statistics that add up, got a median or a MAD. Use "
            "location='mean' and scale='std', or load it: adata = adata.to_memory()."
        ) from error
