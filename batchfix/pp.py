"""Preprocessing functions on AnnData: the door that scverse users expect."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .correctors.base import BatchwiseCorrector
from .exceptions import BatchfixError

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["correct"]


def correct(
    adata: AnnData,
    corrector: BatchwiseCorrector,
    *,
    key: str | Sequence[str] = "batch",
    keep: str | Sequence[str] | None = None,
    layer: str | None = None,
    obsm: str | None = None,
    key_added: str | None = None,
    copy: bool = False,
    filename: str | PathLike[str] | None = None,
) -> AnnData | None:
    """Correct a matrix of an AnnData: X, a layer, or an embedding; dense or sparse, in memory, backed, lazy or of dask.

    The same as ``corrector.fit_transform(adata.X, batch=adata.obs[key], keep=adata.obs[keep])``, put back where
    it belongs. `corrector` itself is fitted, as by any `fit_transform`, also if it was fitted before; its state can be
    read and used afterwards. To apply a corrector as it was fitted elsewhere, call its `transform`:
    ``adata.X = corrector.transform(adata.X, batch=adata.obs[key])``.

    Parameters
    ----------
    adata : AnnData (n_obs, n_vars)
        `raw` is left as it is. A view becomes an AnnData of its own, and its parent stays as it is.
    corrector : ComBat, LinearCorrector, BatchCorrector, ...
        Where the labels are is said here, by `key` and `keep`, and not in its own keys.
    key : str or list of str, default "batch"
        Column of `adata.obs` with the batch labels; several for a LinearCorrector.
    keep : str or list of str, optional
        Columns of `adata.obs` that must survive. Text and categories are factors, floats are numbers; a column of
        integers with more than two values is what the corrector's keep_factors or keep_numbers says.
    layer, obsm : str, optional
        Correct this layer, or this entry (n_obs, p) of `adata.obsm`, instead of `adata.X`.
    key_added : str, optional
        Leave what was read as it is, and put the result under this name: in `adata.layers` for X or a layer, in
        `adata.obsm` for an embedding.
    copy : bool, default False
        Return a corrected copy, and leave `adata` as it is.
    filename : path, optional
        Of a backed AnnData, the copy: write `adata` with X corrected to this .h5ad file, return it backed by that (in
        the mode of `adata`), and leave `adata` and its file as they are.

    Returns
    -------
    AnnData or None
        None, unless `copy` or `filename`. NaN stays where it was. Units are those of the input.

    Raises
    ------
    BatchfixError
        A column, layer or embedding is not there, a file cannot be read or written so, or the data cannot be corrected
        as asked.
    MissingLabelError
        An observation has no batch label, or no value of what is kept.
    TypeError
        An argument is not of the kind asked for.
    ModuleNotFoundError
        anndata is not installed, or dask for what is lazy.

    Warns
    -----
    DenseWarning
        A sparse matrix becomes dense, and how large, before it does.

    Notes
    -----
    After an error `adata`, and the file behind it, are as they were.

    **What was done** is recorded in ``adata.uns["batchfix"]``, under the name of the result ("X", a layer, an entry of
    obsm): corrector, parameters, version of batchfix, key, keep, what was read and where it went.

    **dtype.** float32 stays float32, float64 stays float64. Integers become float64, as in every corrector, but those
    of a sparse matrix float32 if none is beyond 16,777,216: up to there it is exact, and the dense result takes half
    the room. To know, wide integers that are backed or lazy are read once more.

    **Sparse.** A correction that moves 0 makes X dense: the result takes 4 bytes a value (8 for float64), and next to
    nothing is needed beside it. ``BatchCorrector(location=None)``, which only scales, keeps it sparse, unless `keep`
    is given with keep_at_transform=True, as kept effects are then added row by row.

    **Backed.** X is read, corrected and written a block at a time. In mode "r+" a whole new file takes the place of the
    old one when it is complete (this needs room on disk for both): a crash leaves one of the two, never half a file.
    Nothing is compressed. Layers and embeddings of a backed AnnData are in memory, as anndata reads them, and so are
    results under `key_added`; these, and what else was changed in memory, are in no file until they are written:
    `adata.write_h5ad(path)`.

    **Lazy.** Statistics are computed in the call, chunk by chunk; the result is a dask array that is corrected when it
    is computed.

    **Numbers** are those of a dense matrix of the same dtype in memory: bit for bit if X is in memory and becomes
    dense. Where statistics are added up block by block (backed, lazy, scaled sparse) they agree to 1e-10 of the largest
    value in float64, and to its rounding, 1e-6 of the largest, in float32.

    A corrector with ``copy=False`` writes into the matrix it corrects, if that is dense and in memory, and so into
    whatever shares its memory. With `copy`, with `key_added`, on a view and where `raw` shares the memory it is given
    a copy to write into.

    Examples
    --------
    >>> import numpy as np
    >>> from anndata import AnnData
    >>> from batchfix import LinearCorrector, pp
    >>> adata = AnnData(np.array([[1.0], [3.0], [11.0], [13.0]]))
    >>> adata.obs["run"] = ["a", "a", "b", "b"]
    >>> pp.correct(adata, LinearCorrector(), key="run", key_added="corrected")
    >>> adata.layers["corrected"].ravel().tolist()
    [6.0, 8.0, 6.0, 8.0]
    >>> adata.uns["batchfix"]["corrected"]["corrector"]
    'LinearCorrector'
    """
    from .adapters.anndata import provenance
    from .adapters.anndata.matrices import Correction
    from .adapters.sources import obs as adapter

    adapter.check(adata)
    _check_corrector(corrector)
    if key_added is not None and not isinstance(key_added, str):
        raise TypeError(f"key_added must be a name, got {key_added!r}.")
    read = adapter.Place.of(layer, obsm)
    written = read if key_added is None else read.named(key_added)
    _check_file(adata, read, copy=copy, key_added=key_added, filename=filename)
    records = adata.uns.get(provenance.NAME)
    provenance.check(records)
    key, keep = _listed(key), _listed(keep)
    batch = adapter.labels(adata, key, "key")
    nothing = keep is None or (isinstance(keep, list | tuple) and not keep)
    kept = None if nothing else adapter.labels(adata, keep, "keep")
    values = read.read(adata)
    correction = Correction(corrector, batch, kept, str(read), values)
    correction.check()
    record = partial(
        provenance.records,
        corrector=corrector,
        shape=values.shape,
        key=key,
        keep=None if nothing else keep,
        read=read,
        written=written,
    )
    if adata.isbacked and written.name is None:
        from .adapters.anndata import files

        if filename is not None:
            return files.correct_to_new(adata, correction, record, filename)
        files.correct_in_place(adata, correction, record)
        return None
    records = record(records)
    result = correction.apply(spare=copy or key_added is not None or adata.is_view or _in_raw(adata, values))
    changed = adata.copy() if copy else adata
    adapter.own(changed)
    written.write(changed, result)
    changed.uns[provenance.NAME] = records
    return changed if copy else None


def _listed(names: Any) -> Any:
    """Names that can be walked over more than once."""
    return list(names) if isinstance(names, Iterator) else names


def _in_raw(adata: AnnData, values: Any) -> bool:
    """Whether a dense matrix in memory may share it with `raw`, as after ``adata.raw = adata``."""
    raw = None if adata.isbacked or adata.raw is None else adata.raw.X
    dense = isinstance(values, np.ndarray | pd.DataFrame) and isinstance(raw, np.ndarray)
    return dense and np.may_share_memory(np.asarray(values), raw)


def _check_file(adata: Any, read: Any, *, copy: bool, key_added: str | None, filename: Any) -> None:
    """Refuse what cannot be done to an AnnData that is, or is not, backed by a file."""
    if filename is not None and not isinstance(filename, str | PathLike):
        raise TypeError(f"filename must be the path of a new .h5ad file, got {filename!r}.")
    if not adata.isbacked:
        if filename is not None:
            load = "" if isinstance(adata.obs, pd.DataFrame) else ".to_memory()"
            raise BatchfixError(
                f"filename is for an AnnData backed by a file, got {str(filename)!r} and one that is not. Take "
                f"copy=True, and write what it returns: {load}.write_h5ad(filename)."
            )
        return
    from .adapters.anndata import files

    if adata.is_view:
        raise BatchfixError(
            f"A view of a backed AnnData cannot be corrected, got one of {str(adata.filename)!r}. Make it an AnnData "
            "of its own: .to_memory(), or .copy(filename) if it is large."
        )
    if copy:
        raise BatchfixError(
            "A copy of a backed AnnData is a file of its own, got copy=True. Name it: filename='corrected.h5ad'."
        )
    if filename is not None and (read.name is not None or key_added is not None):
        what = f"key_added={key_added!r}" if key_added is not None else str(read)
        raise BatchfixError(
            f"filename is where X goes, got {what} too, which is in memory. Drop one; then adata.write_h5ad(path)."
        )
    if filename is not None:
        files.check_new(adata, filename)
    elif read.name is None and key_added is None:
        files.check_in_place(adata)


def _check_corrector(corrector: Any) -> None:
    if isinstance(corrector, type):
        raise TypeError(
            f"corrector must be an instance, got the class {corrector.__name__}. Write {corrector.__name__}()."
        )
    if not isinstance(corrector, BatchwiseCorrector):
        raise TypeError(
            f"corrector must be one of batchfix, such as ComBat(), got {corrector!r}. "
            "Other transformers and pipelines take adata.X themselves."
        )
    for name, instead in (
        ("batch_key", "Name the column of adata.obs in key=."),
        ("keep_keys", "Name columns of adata.obs in keep=."),
        ("keep_y", "Name the label's column of adata.obs in keep=."),
        ("nuisance_keys", "Call it: adata.X = corrector.fit_transform(adata.X, batch=..., nuisance=adata.obs[[...]])."),
    ):
        given = getattr(corrector, name, None)
        if given is not None and given is not False:
            raise BatchfixError(f"pp.correct takes a corrector without {name}, got {name}={given!r}. {instead}")
