"""AnnData in memory: a matrix and the labels of its rows out, a corrected matrix in.

    X, a layer or an embedding, and columns of obs  ->  arrays  ->  X, a layer or an embedding

What cannot be read as it is (sparse, backed, lazy) is refused by name, never converted in silence.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from scipy import sparse

from ..core.naming import nearest
from ..exceptions import BatchfixError, MissingLabelError

try:
    from anndata import AnnData
except ModuleNotFoundError as error:
    if error.name != "anndata":
        raise
    raise ModuleNotFoundError("batchfix.pp needs anndata: pip install 'batchfix[anndata]'", name="anndata") from error


@dataclass(frozen=True)
class Place:
    """Where a matrix lies in an AnnData: X, a layer, or an embedding.

    Examples
    --------
    >>> print(Place.of(layer=None, obsm="X_pca"))
    adata.obsm['X_pca']
    """

    mapping: str
    name: str | None = None

    @classmethod
    def of(cls, layer: str | None, obsm: str | None) -> Self:
        """Return the place that was asked for."""
        if layer is not None and obsm is not None:
            raise BatchfixError(f"One matrix is corrected at a time, got layer={layer!r} and obsm={obsm!r}. Drop one.")
        if obsm is not None:
            return cls("obsm", obsm)
        return cls("layers", layer) if layer is not None else cls("X")

    def __str__(self) -> str:
        return "adata.X" if self.name is None else f"adata.{self.mapping}[{self.name!r}]"

    def named(self, key: str) -> Place:
        """Return the place of another name for the same kind of matrix; X's is a layer."""
        return Place("obsm" if self.mapping == "obsm" else "layers", key)

    def read(self, adata: AnnData) -> np.ndarray | pd.DataFrame:
        """Return the matrix (n_obs, p), without copying it.

        Raises
        ------
        BatchfixError
            There is no such matrix, or it has not two dimensions.
        TypeError
            It is not a dense array in memory.
        """
        if self.name is None:
            found = adata.X
            if found is None:
                raise BatchfixError("adata.X must hold a matrix, got None. Name a layer or an entry of obsm.")
        else:
            mapping = getattr(adata, self.mapping)
            if self.name not in mapping:
                raise BatchfixError(_absent(self.name, list(mapping.keys()), f"adata.{self.mapping}"))
            found = mapping[self.name]
        if isinstance(found, pd.DataFrame):
            return found
        if not isinstance(found, np.ndarray) or isinstance(found, np.ma.MaskedArray):
            raise TypeError(f"{self} must be a dense array in memory, got {_kind(found)}. {self._remedy(found)}")
        if found.ndim != 2:
            raise BatchfixError(f"{self} must have two dimensions, got shape {found.shape}.")
        return np.asarray(found)

    def write(self, adata: AnnData, values: np.ndarray | pd.DataFrame) -> None:
        """Put a matrix here; a view becomes an AnnData of its own first, as its parent must not change."""
        if adata.is_view:
            # setting X of a view writes into the parent, setting a layer warns; setting obs does neither
            adata.obs = adata.obs.copy()
        if self.name is None:
            adata.X = values
        else:
            getattr(adata, self.mapping)[self.name] = values

    def _remedy(self, found: Any) -> str:
        if sparse.issparse(found):
            return f"If it fits into memory: {self} = {self}.toarray()"
        if isinstance(found, np.ma.MaskedArray):
            return f"Mark what is missing by NaN: {self} = {self}.filled(np.nan)"
        return "Load it first: adata = adata.to_memory()"


def check(adata: Any) -> None:
    """Refuse what is not an AnnData in memory.

    Raises
    ------
    TypeError
        It is something else, backed by a file, or read lazily.
    """
    if not isinstance(adata, AnnData):
        raise TypeError(
            f"adata must be an AnnData, got {_kind(adata)}. "
            "For other tables call the corrector itself: corrector.fit_transform(X, batch=labels)."
        )
    if adata.isbacked:
        raise TypeError(
            f"adata must be in memory, got one backed by {str(adata.filename)!r}. Load it first: "
            "adata = adata.to_memory()"
        )
    if not isinstance(adata.obs, pd.DataFrame):
        raise TypeError(
            f"adata must be in memory, got one read lazily (its obs is {_kind(adata.obs)}). Load it first: "
            "adata = adata.to_memory()"
        )


def labels(adata: AnnData, names: Any, what: str) -> pd.Series | pd.DataFrame:
    """Return a column of obs, or the table of several.

    Parameters
    ----------
    adata : AnnData
    names : str or list of str
        Columns of `adata.obs`.
    what : str
        The argument that named them, for the errors.

    Raises
    ------
    BatchfixError
        A name is not that of one column.
    MissingLabelError
        An observation has no value in it.
    """
    if isinstance(names, pd.Series | pd.DataFrame | np.ndarray) or not isinstance(names, Iterable):
        raise TypeError(
            f"{what} must name columns of adata.obs, got {_kind(names)}. Put the values there first: "
            f"adata.obs['name'] = values, then {what}='name'."
        )
    several = [names] if isinstance(names, str) else list(names)
    for name in several:
        _check_column(adata.obs, name, what)
    if not several:
        raise BatchfixError(f"{what} must name a column of adata.obs, got {names!r}.")
    return adata.obs[several[0]] if isinstance(names, str) else adata.obs[several]


def _check_column(obs: pd.DataFrame, name: Any, what: str) -> None:
    count = int((obs.columns == name).sum())
    if count == 0:
        raise BatchfixError(f"{what}: {_absent(name, list(obs.columns), 'adata.obs')}")
    if count > 1:
        raise BatchfixError(f"{what} must name one column of adata.obs, got {name!r}, of which there are {count}.")
    lost = obs[name].isna().to_numpy()
    if lost.any():
        raise MissingLabelError(
            f"Every observation must have a value in adata.obs[{name!r}], got none for {int(lost.sum())} of {len(lost)}"
            f" ({obs.index[int(np.argmax(lost))]!r} for one). Fill them in, or leave these out: "
            f"adata = adata[adata.obs[{name!r}].notna()].copy()"
        )


def alike(result: Any, values: np.ndarray | pd.DataFrame) -> np.ndarray | pd.DataFrame:
    """Return the result in the container that was read, whatever `set_output` made of it."""
    if not isinstance(values, pd.DataFrame):
        return np.asarray(result)
    return pd.DataFrame(np.asarray(result), index=values.index, columns=values.columns, copy=False)


def _absent(name: Any, known: list[Any], where: str) -> str:
    shown = ", ".join(repr(k) for k in known[:8]) + (", ..." if len(known) > 8 else "")
    return f"{name!r} must be in {where}{nearest(name, known)}, which has {shown or 'nothing'}."


def _kind(found: Any) -> str:
    module = type(found).__module__.split(".")[0]
    return type(found).__name__ if module == "builtins" else f"{module} {type(found).__name__}"
