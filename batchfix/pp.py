"""Preprocessing functions on AnnData: the door that scverse users expect."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

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
) -> AnnData | None:
    """Correct a matrix of an AnnData: X, a layer, or an embedding.

    The same as ``corrector.fit_transform(adata.X, batch=adata.obs[key], keep=adata.obs[keep])``, put back where
    it belongs. `corrector` itself is fitted, as by any `fit_transform`, also if it was fitted before; its state can be
    read and used afterwards. To apply a corrector as it was fitted elsewhere, call its `transform`:
    ``adata.X = corrector.transform(adata.X, batch=adata.obs[key])``.

    Parameters
    ----------
    adata : AnnData (n_obs, n_vars), in memory
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

    Returns
    -------
    AnnData or None
        None, unless `copy`. float32 stays float32; anything else (integers too) becomes float64. NaN stays where it
        was. Units are those of the input.

    Raises
    ------
    BatchfixError
        A column, layer or embedding is not there, or the data cannot be corrected as asked.
    MissingLabelError
        An observation has no batch label, or no value of what is kept.
    TypeError
        The matrix is sparse, backed or lazy, or an argument is not of the kind asked for.
    ModuleNotFoundError
        anndata is not installed.

    Notes
    -----
    After an error `adata` is as it was.

    A corrector with ``copy=False`` writes into the matrix it corrects, and so into whatever shares its memory. With
    `copy`, with `key_added` and on a view it is given a copy to write into.

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
    """
    from .adapters import anndata as adapter

    adapter.check(adata)
    _check_corrector(corrector)
    if key_added is not None and not isinstance(key_added, str):
        raise TypeError(f"key_added must be a name, got {key_added!r}.")
    place = adapter.Place.of(layer, obsm)
    batch = adapter.labels(adata, key, "key")
    nothing = keep is None or (isinstance(keep, list | tuple) and not keep)
    kept = None if nothing else adapter.labels(adata, keep, "keep")
    values = place.read(adata)
    spare = copy or key_added is not None or adata.is_view
    own = values.copy() if spare and not corrector.copy else values
    result = adapter.alike(corrector.fit_transform(own, batch=batch, keep=kept), values)
    changed = adata.copy() if copy else adata
    (place if key_added is None else place.named(key_added)).write(changed, result)
    return changed if copy else None


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
