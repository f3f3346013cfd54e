"""AnnData as a source: X or a layer in blocks of rows, and columns of obs as labels.

In memory, backed by a file, lazy (`anndata.experimental.read_lazy`), or a path to an .h5ad file, of which then nothing
but obs, var and a block at a time is read. Sparse blocks become dense, of the dtype they have.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from ...core.naming import nearest, some
from ...exceptions import BatchfixError
from . import obs as adapter
from .arrays import dense
from .files import needed, reading
from .row_labels import RowLabels
from .source import Source


class AnnDataSource(Source):
    """Rows of an AnnData.

    Parameters
    ----------
    adata : AnnData
    given : columns of obs by role
        A name, or a list of names.
    layer : str, optional
        In place of X.
    """

    def __init__(self, adata: Any, given: dict[str, Any], *, layer: str | None = None) -> None:
        matrix: Any = None
        if layer is not None:
            matrix = _layer(adata.layers, layer)
        elif adapter.has_matrix(adata):
            matrix = adata.X
        if sparse.issparse(matrix) and matrix.format != "csr":
            matrix = checked(matrix, "adata").tocsr()  # once, for rows that can be cut
        self.obs_names, self.var_names = pd.Index(adata.obs_names), pd.Index(adata.var_names)
        self._plan(matrix, adata.obs, given)
        self.adata, self.layer, self.matrix = adata, layer, matrix

    def tables(self, rows: int) -> Iterator[tuple[Any, dict[str, Any], float]]:
        """See Source."""
        yield from _row_blocks(self.matrix, self.n_rows or 0, rows)

    def _plan(self, matrix: Any, obs: Any, given: dict[str, Any]) -> None:
        """What blocks will be like."""
        if matrix is None or len(matrix.shape) != 2:
            raise BatchfixError(f"adata must hold a matrix there, got {type(matrix).__name__}. Name another layer.")
        _refuse_columns(matrix)
        self.n_rows, self.n_features = (int(n) for n in matrix.shape)
        self.names, self.dtype = None, np.dtype(matrix.dtype)
        chunks = getattr(matrix, "chunks", None)
        first = chunks[0] if chunks else None
        self.chunk_rows = first[0] if isinstance(first, tuple) else first
        self.labels = {role: RowLabels(_labels(obs, names, role), role) for role, names in given.items()}


class H5adSource(AnnDataSource):
    """Rows of an .h5ad file, which is open only while its blocks are read."""

    def __init__(self, place: Path, given: dict[str, Any], *, layer: str | None = None) -> None:
        self.place, self.layer = place, layer
        with self._open() as (matrix, obs, var):
            self.obs_names, self.var_names = obs.index, var.index
            self._plan(matrix, obs, given)

    def tables(self, rows: int) -> Iterator[tuple[Any, dict[str, Any], float]]:
        """See Source."""
        with self._open() as (matrix, _, _):
            yield from _row_blocks(matrix, self.n_rows or 0, rows)

    @contextmanager
    def _open(self) -> Iterator[tuple[Any, Any, Any]]:
        h5py, io = needed("h5py"), adapter_io()
        with reading(self.place), h5py.File(self.place, "r") as file:
            if "obs" not in file or "var" not in file:
                raise BatchfixError(f"{str(self.place)!r} must be an AnnData, and has no obs or var. Export it again.")
            found = file.get("X") if self.layer is None else _layer(file.get("layers", {}), self.layer)
            if isinstance(found, h5py.Group):
                found = check_stored(io.sparse_dataset(found), str(self.place))
            yield found, io.read_elem(file["obs"]), io.read_elem(file["var"])


def adapter_io() -> Any:
    """Anndata's readers and writers of parts of a file."""
    from anndata import io

    return io


def checked(X: Any, what: str) -> Any:
    """Return a sparse matrix in memory as it is, if its lists fit each other and no number lies outside of it.

    Nothing else looks: made dense, such a number would be written anywhere in memory.

    Raises
    ------
    BatchfixError
        They do not, or one does.
    """
    if X.format in ("csr", "csc"):
        _check_lists(X, X.indptr, len(X.indices), len(X.data), what)
        across, indices = X.shape[1 if X.format == "csr" else 0], X.indices[: X.indptr[-1]]
        if indices.size and not 0 <= indices.min() <= indices.max() < across:
            raise _damaged(X, f"{'column' if X.format == 'csr' else 'row'} indices", what)
    return X


def check_stored(X: Any, what: str) -> Any:
    """Return a sparse matrix on disk, if its lists fit each other; numbers are looked at when they are read."""
    group = X.group
    _check_lists(X, group["indptr"][:], group["indices"].shape[0], group["data"].shape[0], what)
    return X


def in_memory(X: Any, what: str) -> Any:
    """Read a sparse matrix from disk."""
    return checked(check_stored(X, what).to_memory(), what)


def _check_lists(X: Any, starts: Any, n_indices: int, n_data: int, what: str) -> None:
    """Refuse starts of rows (or columns) that are no starts, and lists of other lengths."""
    along = X.shape[0 if X.format == "csr" else 1]
    ends = len(starts) == along + 1 and starts[0] == 0 and bool((np.diff(starts) >= 0).all())
    if not ends or not starts[-1] <= n_indices == n_data:
        raise _damaged(X, f"{'row' if X.format == 'csr' else 'column'} starts", what)


def _damaged(X: Any, which: str, what: str) -> BatchfixError:
    return BatchfixError(
        f"{what} must hold numbers inside of it, got a sparse matrix of shape {tuple(X.shape)} with a damaged list of "
        f"{which}. Read or export it again."
    )


class Checked:
    """A sparse matrix on disk, whose blocks of rows are checked as they are read (see `checked`)."""

    def __init__(self, X: Any, what: str) -> None:
        self.X, self.what = check_stored(X, what), what
        self.shape, self.dtype = X.shape, X.dtype

    def __getitem__(self, rows: slice) -> Any:
        """Rows in memory."""
        return checked(self.X[rows], self.what)


def _row_blocks(matrix: Any, n: int, rows: int) -> Iterator[tuple[Any, dict[str, Any], float]]:
    for start in range(0, n, rows):
        stop = min(start + rows, n)
        block = matrix[start:stop]
        block = block.compute() if hasattr(block, "compute") else block
        yield dense(checked(block, "adata") if sparse.issparse(block) else block), {}, stop / n


def _refuse_columns(matrix: Any) -> None:
    """Refuse a sparse matrix on disk of which a row can be had only by reading all."""
    if getattr(matrix, "format", None) == "csc" and not sparse.issparse(matrix):
        raise BatchfixError(
            "A sparse matrix on disk must be stored by rows (csr) to be read by rows, got one stored by columns (csc). "
            "Store it anew: adata.X = adata.X.tocsr(), then adata.write_h5ad(path)."
        )


def _layer(layers: Any, name: Any) -> Any:
    if not isinstance(name, str) or name not in list(layers):  # of a file, "l/data" would be a path in it
        raise BatchfixError(
            f"layer must name one of the layers ({some(list(layers), 8) or 'there are none'}), got {name!r}"
            f"{nearest(name, list(layers))}."
        )
    return layers[name]


def _labels(obs: Any, names: Any, role: str) -> pd.Series | pd.DataFrame:
    """Columns of obs, also of one that is read lazily, without their index: they are in the order of the rows."""
    if isinstance(names, str):
        wanted = [names]
    elif isinstance(names, Iterable) and all(isinstance(name, str) for name in names):
        wanted = list(names)
    else:
        raise BatchfixError(f"{role} must name columns of adata.obs, got {names!r:.80}. Put the values there first.")
    if not isinstance(obs, pd.DataFrame):  # read lazily: what was asked for, and empty columns that lend their names
        there = [name for name in dict.fromkeys(wanted) if name in obs.columns]
        columns = list(obs.columns)
        obs = obs[there].to_memory() if there else pd.DataFrame(index=obs.index)
        obs = obs.reindex(columns=columns)
    return adapter.labels(SimpleNamespace(obs=obs), names, role).reset_index(drop=True)
