"""An .h5ad file as a sink: a corrected matrix in place of the old one, and all else as it was.

Corrected blocks flow in; the file they came from, with another X (or layer), flows out. Where they came from something
else, obs holds the ids of the rows and var the names of the columns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from .sink_chunks import HdfSink
from .sinks import column_names, ids_of
from .source_anndata import AnnDataSource, H5adSource, adapter_io
from .source_files import needed
from .sources import Source


class H5adSink(HdfSink):
    """The matrix of an AnnData in a file."""

    def __init__(self, file: Any, n_rows: int | None, check: Callable[[], None], like: Source | None) -> None:
        self.like = like
        layer = like.layer if isinstance(like, H5adSource) else None
        super().__init__(file, "X" if layer is None else f"layers/{layer}", n_rows, check)
        self.ids: list[pd.Index] = []

    def begin(self, values: Any) -> None:
        """See Sink."""
        if isinstance(self.like, H5adSource):
            with needed("h5py").File(self.like.place, "r") as old:
                copy_but(old, self.file, but=self.name)
        else:
            from anndata import AnnData

            adapter_io().write_elem(self.file, "/", AnnData(var=pd.DataFrame(index=self._var_names(values))))
            self.file.pop("X", None)
        super().begin(values)
        self.array.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})

    def put(self, start: int, values: Any) -> None:
        """See Sink."""
        super().put(start, values)
        if not isinstance(self.like, AnnDataSource):
            self.ids.append(ids_of(values, start).astype(str))

    def end(self) -> None:
        """See Sink."""
        super().end()
        if not isinstance(self.like, H5adSource):
            from_adata = isinstance(self.like, AnnDataSource)
            names = self.like.obs_names if from_adata else pd.Index(np.concatenate(self.ids))  # type: ignore[union-attr]  # as asked
            adapter_io().write_elem(self.file, "obs", pd.DataFrame(index=names))

    def _var_names(self, values: Any) -> Any:
        own = self.like.var_names if isinstance(self.like, AnnDataSource) else None
        return own if own is not None and len(own) == values.shape[1] else column_names(values)


def copy_but(old: Any, new: Any, *, but: str) -> None:
    """Copy what a group holds, except for one path in it."""
    new.attrs.update(old.attrs)
    for name in old:
        first, _, rest = but.partition("/")
        if name != first:
            old.copy(name, new)
        elif rest:
            copy_but(old[name], new.create_group(name), but=rest)
