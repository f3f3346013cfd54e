"""An .h5ad file as a sink: a corrected matrix in place of the old one, and all else as it was.

Corrected blocks flow in; the AnnData they came from (a file, or one in memory, backed or lazy), with another X (or
layer), flows out: it must have the columns it had. Where they came from something else, obs holds the ids of the rows
and var the names of the columns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from ...exceptions import BatchfixError
from ..sources.anndata import AnnDataSource, H5adSource, adapter_io
from ..sources.files import needed
from ..sources.source import Source
from .chunks import HdfSink


class H5adSink(HdfSink):
    """The matrix of an AnnData in a file."""

    def __init__(self, file: Any, n_rows: int | None, check: Callable[[], None], like: Source | None) -> None:
        adata = like if isinstance(like, AnnDataSource) else None
        layer = None if adata is None else adata.layer
        super().__init__(file, "X" if layer is None else f"layers/{layer}", n_rows, check)
        self.like: AnnDataSource | None = adata
        self.rows: list[pd.Index] = []

    def begin(self, values: Any) -> None:
        """See Sink."""
        if self.like is not None and values.shape[1] != self.like.n_features:
            raise BatchfixError(
                f"An .h5ad file must keep the columns of the AnnData it comes from, got {values.shape[1]} for "
                f"{self.like.n_features}. Write .parquet, .h5, .zarr or .npy."
            )
        if isinstance(self.like, H5adSource):
            with needed("h5py").File(self.like.place, "r") as old:
                copy_but(old, self.file, but=self.name)
        elif self.like is not None:
            write_but(self.like.adata, self.file, but=self.name)
        else:
            from anndata import AnnData

            adapter_io().write_elem(self.file, "/", AnnData(var=pd.DataFrame(index=self.titles(values))))
            self.file.pop("X", None)
        super().begin(values)
        self.array.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})

    def put(self, start: int, values: Any) -> None:
        """See Sink."""
        super().put(start, values)
        if self.like is None:
            self.rows.append(self.ids(values, start).astype(str))

    def end(self) -> None:
        """See Sink."""
        super().end()
        if self.like is None:
            adapter_io().write_elem(self.file, "obs", pd.DataFrame(index=np.concatenate(self.rows)))


def write_but(adata: Any, new: Any, *, but: str) -> None:
    """Write what an AnnData holds, in memory, backed or lazy, except for one matrix: "X" or a layer."""
    from anndata import AnnData

    io = adapter_io()
    tables = {name: getattr(adata, name) for name in ("obs", "var")}
    tables = {name: each if isinstance(each, pd.DataFrame) else each.to_memory() for name, each in tables.items()}
    io.write_elem(new, "/", AnnData(**tables, uns=dict(adata.uns)))
    new.pop("X", None)
    if but != "X" and adata.X is not None:
        io.write_elem(new, "X", adata.X)
    for group in ("layers", "obsm", "varm", "obsp", "varp"):
        for name, each in getattr(adata, group).items():
            if f"{group}/{name}" != but:
                io.write_elem(new, f"{group}/{name}", each)
    if adata.raw is not None:
        raw = adata.raw
        new.pop("raw", None)  # an empty one
        var = raw.var if isinstance(raw.var, pd.DataFrame) else raw.var.to_memory()
        for name, each in {"X": raw.X, "var": var, "varm": dict(raw.varm)}.items():
            io.write_elem(new, f"raw/{name}", each)
        new["raw"].attrs.update({"encoding-type": "raw", "encoding-version": "0.1.0"})


def copy_but(old: Any, new: Any, *, but: str) -> None:
    """Copy what a group holds, except for one path in it."""
    new.attrs.update(old.attrs)
    for name in old:
        first, _, rest = but.partition("/")
        if name != first:
            old.copy(name, new)
        elif rest:
            copy_but(old[name], new.create_group(name), but=rest)
