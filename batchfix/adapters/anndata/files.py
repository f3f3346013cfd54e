"""Backed AnnData: X corrected block by block, from the file it lies in to a whole new one.

    old file  ->  X block by block, all else as it is  ->  new file, renamed over the old one or under a name of its own

After a crash, a full disk or Ctrl-C the old file is there and no half of a new one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ...atomic import PathLike, check_place, replacing
from ...exceptions import BatchfixError
from ..sinks.anndata import copy_but
from ..sinks.chunks import HdfSink, hdf_file
from ..sources.anndata import adapter_io
from ..sources.obs import file_of
from .kinds import is_sparse
from .matrices import Correction
from .provenance import NAME
from .sparse import scaled_data

IN_MEMORY = ("obs", "var", "obsm", "varm", "obsp", "varp", "layers", "uns")
"""What a backed AnnData has in memory, and its file as it was when it was last written."""


def check_in_place(adata: Any) -> None:
    """Refuse a file that was opened to be read only.

    Raises
    ------
    BatchfixError
        It was, or it is no longer there.
    """
    mode = _file_of(adata).mode
    if mode != "r+":
        raise BatchfixError(
            f"adata must be opened to be written, got one backed by {str(adata.filename)!r} in mode {mode!r}. Open it "
            "with anndata.read_h5ad(path, backed='r+'), or give filename= (a new file) or key_added= (a layer in "
            "memory)."
        )
    check_place(adata.filename, BatchfixError, "AnnData")


def check_new(adata: Any, filename: PathLike) -> None:
    """Refuse a name under which no new file can be written.

    Raises
    ------
    BatchfixError
    """
    place = check_place(filename, BatchfixError, "AnnData")
    if place == Path(adata.filename).resolve():
        raise BatchfixError(
            f"filename must be another file than the one that backs adata, got {str(filename)!r} for both. To replace "
            "it, open it with backed='r+' and leave filename out."
        )


def correct_in_place(adata: Any, correction: Correction, record: Callable[[Any], Any]) -> None:
    """Put a file with a corrected X in the place of the one that backs `adata`, which then reads the new one.

    What was changed in memory, and not written yet, stays in memory. `record` adds to the records that there are: of
    those in memory, some may be about results that the file does not have.
    """
    old, path = _file_of(adata), f"uns/{NAME}"
    in_memory = record(adata.uns.get(NAME))
    in_file = record(adapter_io().read_elem(old[path]) if path in old else None)
    _fit(correction)
    try:
        with _new_file(adata.filename) as (new, check):
            copy_but(old, new, but=_but(correction))
            _write_matrix(new, correction, check)
            uns = new.require_group("uns")
            uns.attrs.update({"encoding-type": "dict", "encoding-version": "0.1.0"})
            adapter_io().write_elem(uns, NAME, in_file)
            adata.file.close()  # a file that is open cannot be replaced everywhere
    finally:
        if not adata.file.is_open:
            adata.file.open()
    adata.uns[NAME] = in_memory


def correct_to_new(adata: Any, correction: Correction, record: Callable[[Any], Any], filename: PathLike) -> Any:
    """Write `adata` as it is in memory, with X corrected, to a new file; and return that, backed by it."""
    from anndata import read_h5ad

    old = _file_of(adata)
    _fit(correction)
    with _new_file(filename) as (new, check):
        new.attrs.update(old.attrs)
        for name in IN_MEMORY:
            found = getattr(adata, name)
            if name == "uns":
                found = {**found, NAME: record(found.get(NAME))}
            _write(new, name, found if name in ("obs", "var") else dict(found))
        if adata.raw is not None:
            if "raw" in old:
                old.copy("raw", new)
            else:
                _write(new, "raw", adata.raw)
        if _but(correction) != "X":
            copy_but(old["X"], new.create_group("X"), but="data")
        _write_matrix(new, correction, check)
    return read_h5ad(filename, backed=old.mode)


def _fit(correction: Correction) -> None:
    if is_sparse(correction.values) and not correction.only_scales:
        correction.warn_dense("in the file")
    correction.fit_to_blocks()


def _but(correction: Correction) -> str:
    """What of the file is written anew: of a sparse matrix that is scaled, nothing but its numbers."""
    return "X/data" if is_sparse(correction.values) and correction.only_scales else "X"


@contextmanager
def _new_file(place: PathLike) -> Iterator[Any]:
    with replacing(place, BatchfixError, "AnnData", buffering=0) as out, hdf_file(out) as opened:
        yield opened


def _write_matrix(new: Any, correction: Correction, check: Any) -> None:
    if _but(correction) == "X":
        sink = HdfSink(new, "X", correction.values.shape[0], check)
        for start, block in correction.blocks():
            sink.write(start, block)
        sink.end()
        sink.array.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
        return
    old, factors = correction.values.group, correction.factors()
    like = old["data"]
    data = new["X"].create_dataset(
        "data", shape=like.shape, dtype=correction.dtype, chunks=like.chunks, maxshape=like.maxshape
    )
    for at, piece in scaled_data(_Stored(old), np.asarray(old["indptr"][:]), factors, correction.dtype):
        data[at] = piece
        check()


class _Stored:
    """Parts of a sparse matrix by rows, in a file."""

    format = "csr"

    def __init__(self, group: Any) -> None:
        self.data, self.indices = group["data"], group["indices"]


def _write(new: Any, name: str, found: Any) -> None:
    try:
        adapter_io().write_elem(new, name, found)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # anndata has a kind of its own, in no public place, for what it cannot write
        said = " ".join(f"{error}".split())
        raise BatchfixError(
            f"adata.{name} must be such as an .h5ad file can hold, and is not ({said:.150}). Nothing was written; "
            "change that first."
        ) from error


def _file_of(adata: Any) -> Any:
    """The HDF5 file behind it, opened."""
    return file_of(adata)["obs"].file
