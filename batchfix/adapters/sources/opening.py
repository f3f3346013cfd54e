"""Opening: whatever holds rows becomes a source of blocks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ...atomic import PathLike
from ...exceptions import BatchfixError
from . import arrays
from .arrays import ArraySource
from .files import HdfSource, ZarrSource, kind_of, mapped, split
from .source import Source
from .tables import ParquetSource, TextSource


def as_source(
    X: Any,
    batch: Any = None,
    keep: Any = None,
    nuisance: Any = None,
    *,
    layer: str | None = None,
    keys: Any = (),
    text: Any = (),
) -> Source:
    """Rows of X, whatever it is, in blocks.

    Parameters
    ----------
    X : array, DataFrame, zarr array, h5py dataset, iterable of blocks, AnnData, path or Source
        See `fit_blocks`.
    batch, keep, nuisance : labels of all rows, optional
        Of an AnnData, or a path to one: names of columns of obs.
    layer : str, optional
        Of an AnnData: in place of X.
    keys, text : lists of str, optional
        Of a csv or tsv file: columns that may be text, as those that keys name; and columns to keep as they are
        written, though they look like numbers. All others hold numbers.

    Raises
    ------
    BatchfixError
        X is nothing of the kind, or cannot be read.

    Examples
    --------
    >>> import numpy as np
    >>> source = as_source(np.arange(6.0).reshape(3, 2), batch=["a", "a", "b"])
    >>> [(block.start, block.X.tolist(), block.batch.tolist()) for block in source.blocks(2)]
    [(0, [[0.0, 1.0], [2.0, 3.0]], ['a', 'a']), (2, [[4.0, 5.0]], ['b'])]
    """
    given = {"batch": batch, "keep": keep, "nuisance": nuisance}
    given = {role: value for role, value in given.items() if value is not None}
    if isinstance(X, Source):
        if given:
            raise BatchfixError(
                f"A Source has its labels already, got {next(iter(given))} too. Give them to as_source."
            )
        return X
    if isinstance(X, str | os.PathLike):
        return _open_path(X, given, layer=layer, keys=keys, text=text)
    if type(X).__module__.split(".")[0] == "anndata" and hasattr(X, "obs"):
        from .anndata import AnnDataSource  # which needs anndata

        return AnnDataSource(X, given, layer=layer)
    if layer is not None:
        raise BatchfixError(f"layer must name one of an AnnData, got {layer!r} and a {type(X).__name__}. Drop it.")
    return arrays.of(X, given)


def _open_path(
    path: PathLike, given: dict[str, Any], *, layer: str | None = None, keys: Any = (), text: Any = ()
) -> Source:
    """Source of the rows in a file; see `as_source`."""
    place, dataset = split(path)
    kind = kind_of(path)
    if layer is not None and kind != ".h5ad":
        raise BatchfixError(f"layer must name one of an AnnData, got {layer!r} and {str(path)!r}. Drop it.")
    if not place.exists():
        raise BatchfixError(f"{str(place)!r} does not exist (looked in {str(Path.cwd())!r}). Check its name.")
    if kind in (".csv", ".tsv", ".parquet"):
        if kind == ".parquet":
            return ParquetSource(place, given)
        return TextSource(place, given, keys=keys, text=text)
    if kind == ".h5ad":
        from .anndata import H5adSource  # which needs anndata

        return H5adSource(place, given, layer=layer)
    if kind == ".npy":
        return ArraySource(mapped(place), given)
    if kind == ".zarr":
        return ZarrSource(place, dataset, given)
    return HdfSource(place, dataset, given)
