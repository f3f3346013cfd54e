"""Correction of a matrix of an AnnData, in the way that its kind asks for (see `kinds`).

A matrix of any kind, and the labels of its rows, flow in; a corrected matrix, or corrected blocks of it, flow out. What
is sparse stays sparse where the correction only scales:

    x* = x scale_b      and 0 stays 0
"""

from __future__ import annotations

import copy as copying
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from ...core.design import codes_of
from ...correctors import BatchCorrector, inputs
from ..blocks import fit_blocks, transform_blocks
from ..sources.anndata import Checked, checked
from ..sources.arrays import ArraySource
from .kinds import check, is_lazy, is_sparse, is_sparse_on_disk, is_stored
from .sparse import Factors, dense_of, float_type, scaled, warn_dense


@dataclass(frozen=True)
class Correction:
    """What is to be done to a matrix of any kind.

    Attributes
    ----------
    corrector : BatchwiseCorrector
        It is fitted on the way.
    batch, keep : Series, DataFrame or None
        In the order of the rows.
    what : str
        Name of the matrix, for messages.
    values : matrix (n, p)
    """

    corrector: Any
    batch: Any
    keep: Any
    what: str
    values: Any

    def check(self) -> None:
        """Refuse, before anything is read, a matrix that cannot be corrected so; see `kinds.check`."""
        check(self.values, self.corrector, self.what)

    def apply(self, *, spare: bool) -> Any:
        """Fit to the matrix, and return it corrected.

        Parameters
        ----------
        spare : bool
            Leave it as it is, also if the corrector is to write into what it is given.

        Returns
        -------
        matrix (n, p)
            Dense, in memory; sparse in memory or lazy where `values` is sparse and the correction only scales; lazy
            where `values` is.
        """
        values = self.values
        if is_lazy(values):
            return self._lazy(values)
        if sparse.issparse(values):
            return self._sparse(values)
        if is_stored(values):
            return self._stored()
        own = values.copy() if spare and not self.corrector.copy else values
        return alike(self.corrector.fit_transform(own, batch=self.batch, keep=self.keep), values)

    # ---- fit

    @property
    def only_scales(self) -> bool:
        """Whether the parameters say that 0 stays 0; kept columns add something that depends on the row."""
        told = self.corrector
        return (
            isinstance(told, BatchCorrector)
            and told.location is None
            and not (told.keep_at_transform and self.keep is not None)
        )

    def factors(self) -> Factors:
        """What the fitted corrector, which only scales, multiplies by."""
        labels = inputs.as_batch(self.batch, None, len(self.batch))[0]
        found = Factors.of(self.corrector.affine_, codes_of(labels, self.corrector.batches_))
        assert found is not None  # location 0, and no kept columns: nothing is added
        return found

    @property
    def source(self) -> ArraySource:
        """Rows of the matrix in blocks, with their labels."""
        return rows_of(self.values, self._labels, self.what)

    def fit_to_blocks(self) -> None:
        """Fit to the matrix block by block."""
        fit_blocks(self.corrector, self.source)

    @property
    def _fitted(self) -> Any:
        """The fitted corrector as it is applied to the rows it was fitted to: into new memory, all batches known."""
        plain = copying.copy(self.corrector)
        plain.copy, plain.handle_unknown, plain._sklearn_output_config = True, "error", {"transform": "default"}
        return plain

    @property
    def _labels(self) -> dict[str, Any]:
        """Labels by role, without their index: they are in the order of the rows."""
        given = {"batch": self.batch, "keep": self.keep}
        return {role: each.reset_index(drop=True) for role, each in given.items() if each is not None}

    def warn_dense(self, where: str) -> None:
        """Say that a sparse matrix becomes dense, and what to change if it should not."""
        how = {}
        if self.only_scales:
            how = {
                "why": "a spread that does not add up is measured on all rows",
                "instead": "scale='std' takes no dense matrix.",
            }
        elif isinstance(self.corrector, BatchCorrector) and self.corrector.location is None:
            how["instead"] = "With keep_at_transform=False nothing is added for what is kept, and it stays sparse."
        warn_dense(self.what, self.values.shape, self.dtype, where, **how)

    # ---- each kind

    def _sparse(self, X: Any) -> Any:
        adds = hasattr(self.corrector, "partial_fit")
        checked(X, self.what)
        if self.only_scales and adds:
            self.fit_to_blocks()
            return scaled(X, self.factors(), self.dtype)
        self.warn_dense("in memory")
        dense = dense_of(X, self.what, self.dtype)
        if self.only_scales:  # by what does not add up, a MAD
            self.corrector.fit(dense, batch=self.batch, keep=self.keep)
            return scaled(X, self.factors(), self.dtype)
        with writing(self.corrector):
            return alike(self.corrector.fit_transform(dense, batch=self.batch, keep=self.keep), dense)

    def _stored(self) -> Any:
        stays = is_sparse(self.values) and self.only_scales
        if is_sparse(self.values) and not stays:
            self.warn_dense("in memory")
        self.fit_to_blocks()
        if stays:
            return sparse.vstack(list(self.scaled_blocks()), format="csr")
        out = np.empty(self.values.shape, dtype=self.dtype)
        for start, block in self.blocks():
            out[start : start + len(block)] = block
        return out

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """Of the corrected matrix."""
        return dtype_of(self.values)

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Place of the first row, and corrected rows, once the corrector is fitted."""
        start = 0
        for block in transform_blocks(self._fitted, self.source):
            yield start, block.astype(self.dtype, copy=False)
            start += len(block)

    def scaled_blocks(self) -> Iterator[Any]:
        """Scaled rows of a sparse matrix on disk, once the corrector is fitted."""
        factors, rows = self.factors(), self.source.rows_per_block()
        for start in range(0, self.values.shape[0], rows):
            block = self.values[start : start + rows]
            yield scaled(block, factors.rows(start, start + block.shape[0]), self.dtype)

    def _lazy(self, X: Any) -> Any:
        from .. import dask as adapter

        stays = is_sparse(X) and self.only_scales
        if is_sparse(X):
            if not stays:
                self.warn_dense("once it is computed")
            X = X.map_blocks(checked, self.what, dtype=X.dtype, meta=X._meta).astype(self.dtype)
        labels = self._labels
        adapter.fit(self.corrector, X, **labels)
        if not stays:
            return adapter.transform(self._fitted, X, **labels)
        return _scaled_lazily(X, self.factors())


def dtype_of(values: Any) -> np.dtype[Any]:
    """What a matrix is once it is corrected: of a sparse one see `float_type`, else float32 for float32 and float64."""
    if is_sparse(values):
        return float_type(values)
    return np.dtype(np.float32 if values.dtype == np.float32 else np.float64)


def rows_of(values: Any, labels: dict[str, Any], what: str) -> ArraySource:
    """Rows of a matrix in blocks, with their labels."""
    return ArraySource(Checked(values, what) if is_sparse_on_disk(values) else values, labels)


@contextmanager
def writing(corrector: Any) -> Iterator[None]:
    """Let a corrector write into what it is given."""
    before = corrector.copy
    corrector.copy = False
    try:
        yield
    finally:
        corrector.copy = before


def alike(result: Any, values: np.ndarray | pd.DataFrame) -> np.ndarray | pd.DataFrame:
    """Return the result in the container that was read, whatever `set_output` made of it."""
    if not isinstance(values, pd.DataFrame):
        return np.asarray(result)
    return pd.DataFrame(np.asarray(result), index=values.index, columns=values.columns, copy=False)


def _scaled_lazily(X: Any, factors: Factors) -> Any:
    """Chunks times their factors."""
    from ..dask.chunks import da

    codes = da.from_array(factors.codes[:, None], chunks=(X.chunks[0], 1))

    def scale(block: Any, own: np.ndarray, block_info: Any = None) -> Any:
        columns = slice(*block_info[0]["array-location"][1])
        return scaled(block, Factors(own[:, 0], factors.scale[:, columns]), X.dtype)

    return da.map_blocks(scale, X, codes, chunks=X.chunks, dtype=X.dtype, meta=X._meta)
