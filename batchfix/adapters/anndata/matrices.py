"""Correction of a matrix of an AnnData, in the way that its kind asks for (see `anndata_kinds`).

A matrix of any kind, and the labels of its rows, flow in; a corrected matrix, or corrected blocks of it, flow out. What
is sparse stays sparse where the correction only scales:

    x* = x scale_b      and 0 stays 0
"""

from __future__ import annotations

import copy as copying
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from ...core.design import codes_of
from ...correctors import BatchCorrector, inputs
from ..blocks import fit_blocks, transform_blocks
from ..sources.arrays import ArraySource
from . import kinds as anndata_kinds
from .kinds import is_lazy, is_sparse, is_stored
from .sparse import Factors, dense_of, float_type, scaled, warn_dense


@dataclass(frozen=True)
class Correction:
    """What is to be done, to a matrix of any kind.

    Attributes
    ----------
    corrector : BatchwiseCorrector
        It is fitted on the way.
    batch, keep : Series, DataFrame or None
        In the order of the rows.
    what : str
        Name of the matrix, for messages.
    """

    corrector: Any
    batch: Any
    keep: Any
    what: str

    def check(self, values: Any) -> None:
        """Refuse, before anything is read, a matrix that cannot be corrected so; see `anndata_kinds.check`."""
        anndata_kinds.check(values, self.corrector, self.what)

    def apply(self, values: Any, *, spare: bool) -> Any:
        """Fit to a matrix, and return it corrected.

        Parameters
        ----------
        values : matrix (n, p)
        spare : bool
            Leave it as it is, also if the corrector is to write into what it is given.

        Returns
        -------
        matrix (n, p)
            Dense, in memory; sparse in memory or lazy where `values` is sparse and the correction only scales; lazy
            where `values` is.
        """
        if is_lazy(values):
            return self._lazy(values)
        if sparse.issparse(values):
            return self._sparse(values)
        if is_stored(values):
            return self._stored(values)
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

    def source(self, values: Any) -> ArraySource:
        """Rows of a matrix in blocks, with their labels."""
        return ArraySource(values, self._labels)

    def fit_to_blocks(self, values: Any) -> None:
        """Fit to a matrix block by block."""
        fit_blocks(self.corrector, self.source(values))

    @property
    def _labels(self) -> dict[str, Any]:
        """Labels by role, without their index: they are in the order of the rows."""
        given = {"batch": self.batch, "keep": self.keep}
        return {role: each.reset_index(drop=True) for role, each in given.items() if each is not None}

    def warn_dense(self, values: Any, where: str) -> None:
        """Say that a sparse matrix becomes dense, and what to change if it should not."""
        how = {}
        if self.only_scales:
            how = {
                "why": "a spread that does not add up is measured on all rows",
                "instead": "scale='std' takes no dense matrix.",
            }
        elif isinstance(self.corrector, BatchCorrector) and self.corrector.location is None:
            how["instead"] = "With keep_at_transform=False nothing is added for what is kept, and it stays sparse."
        warn_dense(self.what, values.shape, self.dtype(values), where, **how)

    # ---- each kind

    def _sparse(self, X: Any) -> Any:
        adds = hasattr(self.corrector, "partial_fit")
        if self.only_scales and adds:
            self.fit_to_blocks(X.tocsr())
            return scaled(X, self.factors())
        self.warn_dense(X, "in memory")
        dense = dense_of(X, self.what)
        if self.only_scales:  # by what does not add up, a MAD
            self.corrector.fit(dense, batch=self.batch, keep=self.keep)
            return scaled(X, self.factors())
        with writing(self.corrector):
            return alike(self.corrector.fit_transform(dense, batch=self.batch, keep=self.keep), dense)

    def _stored(self, values: Any) -> Any:
        dtype = self.dtype(values)
        stays = is_sparse(values) and self.only_scales
        if is_sparse(values) and not stays:
            self.warn_dense(values, "in memory")
        self.fit_to_blocks(values)
        if stays:
            return sparse.vstack(list(self.scaled_blocks(values)), format="csr")
        out = np.empty(values.shape, dtype=dtype)
        for start, block in self.blocks(values):
            out[start : start + len(block)] = block
        return out

    def dtype(self, values: Any) -> np.dtype[Any]:
        """Of the corrected matrix: float32 for float32 and for sparse integers, else float64."""
        given = np.dtype(values.dtype)
        return float_type(given) if is_sparse(values) or given == np.float32 else np.dtype(np.float64)

    def blocks(self, values: Any) -> Iterator[tuple[int, np.ndarray]]:
        """Place of the first row, and corrected rows, once the corrector is fitted."""
        plain = copying.copy(self.corrector)
        plain.copy, plain._sklearn_output_config = True, {"transform": "default"}
        start = 0
        for block in transform_blocks(plain, self.source(values)):
            yield start, block.astype(self.dtype(values), copy=False)
            start += len(block)

    def scaled_blocks(self, values: Any) -> Iterator[Any]:
        """Scaled rows of a sparse matrix on disk, once the corrector is fitted."""
        factors, rows = self.factors(), self.source(values).rows_per_block()
        for start in range(0, values.shape[0], rows):
            block = values[start : start + rows]
            yield scaled(block, factors.rows(start, start + block.shape[0]))

    def _lazy(self, X: Any) -> Any:
        from .. import dask as adapter

        stays = is_sparse(X) and self.only_scales
        if is_sparse(X):
            if not stays:
                self.warn_dense(X, "once it is computed")
            X = X.astype(self.dtype(X))
        labels = self._labels
        adapter.fit(self.corrector, X, **labels)
        if not stays:
            return adapter.transform(self.corrector, X, **labels)
        return _scaled_lazily(X, self.factors())


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
        return scaled(block, Factors(own[:, 0], factors.scale[:, columns]))

    return da.map_blocks(scale, X, codes, chunks=X.chunks, dtype=X.dtype, meta=X._meta)
