"""AnnData: where a matrix lies in one, and the labels of its rows.

    X, a layer or an embedding, and columns of obs  ->  a matrix of any kind and labels
    a matrix                                        ->  X, a layer or an embedding

obs may be in memory or read lazily; what kinds of matrices there are is known in `kinds`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from ...core.naming import nearest
from ...exceptions import BatchfixError, MissingLabelError
from .files import reading

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
        """Return the place that was asked for.

        Raises
        ------
        BatchfixError
            Two were.
        TypeError
            A name is none.
        """
        for what, name in (("layer", layer), ("obsm", obsm)):
            if name is not None and not isinstance(name, str):
                raise TypeError(f"{what} must be a name, got {name!r}. Name one matrix.")
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

    def read(self, adata: AnnData) -> Any:
        """Return the matrix (n_obs, p) as it is stored there, of a view the rows that it shows.

        Raises
        ------
        BatchfixError
            There is no such matrix, it has not two dimensions, or it is empty.
        """
        if self.name is None:
            found = adata.X if has_matrix(adata) else None
            if found is None:
                raise BatchfixError("adata.X must hold a matrix, got None. Name a layer or an entry of obsm.")
        else:
            mapping = getattr(adata, self.mapping)
            if self.name not in mapping:
                raise BatchfixError(_absent(self.name, list(mapping.keys()), f"adata.{self.mapping}"))
            found = mapping[self.name]
        shape = tuple(getattr(found, "shape", ()))
        if len(shape) != 2:
            raise BatchfixError(f"{self} must have two dimensions, got shape {shape}.")
        if 0 in shape:
            raise BatchfixError(f"{self} must have rows and columns, got shape {shape}. Look at how it was cut out.")
        return found

    def write(self, adata: AnnData, values: Any) -> None:
        """Put a matrix here; `adata` is no view (see `own`)."""
        if self.name is None:
            adata.X = values
        else:
            getattr(adata, self.mapping)[self.name] = values


def has_matrix(adata: AnnData) -> bool:
    """Whether the file of a backed one has an X, which anndata takes for granted."""
    return not adata.isbacked or "X" in file_of(adata)


def file_of(adata: AnnData) -> Any:
    """Return the file that backs an AnnData, opened again if it was closed.

    Raises
    ------
    BatchfixError
        It is no longer there, or cannot be read.
    """
    if not adata.file.is_open:
        place = Path(str(adata.filename))
        if not place.exists():
            raise BatchfixError(
                f"adata must have the file that backs it, and {str(place)!r} is not there. Put it back."
            )
        with reading(place):
            adata.file.open()
    return adata.file


def own(adata: AnnData) -> None:
    """Make a view an AnnData of its own, as its parent must not change."""
    if adata.is_view:
        # setting X of a view writes into the parent, setting a layer warns; setting obs does neither
        adata.obs = adata.obs.copy()


def check(adata: Any) -> None:
    """Refuse what is not an AnnData.

    Raises
    ------
    TypeError
        It is something else.
    """
    if not isinstance(adata, AnnData):
        raise TypeError(
            f"adata must be an AnnData, got {kind(adata)}. "
            "For other tables call the corrector itself: corrector.fit_transform(X, batch=labels)."
        )


def labels(adata: AnnData, names: Any, what: str) -> pd.Series | pd.DataFrame:
    """Return a column of obs, or the table of several; of an obs read lazily, these are read.

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
            f"{what} must name columns of adata.obs, got {kind(names)}. Put the values there first: "
            f"adata.obs['name'] = values, then {what}='name'."
        )
    several = [names] if isinstance(names, str) else list(names)
    if not several:
        raise BatchfixError(f"{what} must name a column of adata.obs, got {names!r}.")
    obs = adata.obs
    for name in several:
        _check_name(list(obs.columns), name, what)
    if not isinstance(obs, pd.DataFrame):
        obs = obs[several].to_memory()
    for name in several:
        _check_gaps(obs[name], name)
    return obs[several[0]] if isinstance(names, str) else obs[several]


def _check_name(columns: list[Any], name: Any, what: str) -> None:
    count = columns.count(name)
    if count == 0:
        raise BatchfixError(f"{what}: {_absent(name, columns, 'adata.obs')}")
    if count > 1:
        raise BatchfixError(f"{what} must name one column of adata.obs, got {name!r}, of which there are {count}.")


def _check_gaps(column: pd.Series, name: Any) -> None:
    lost = column.isna().to_numpy()
    if lost.any():
        raise MissingLabelError(
            f"Every observation must have a value in adata.obs[{name!r}], got none for {int(lost.sum())} of {len(lost)}"
            f" ({column.index[int(np.argmax(lost))]!r} for one). Fill them in, or leave these out: "
            f"adata = adata[adata.obs[{name!r}].notna()].copy()"
        )


def kind(found: Any) -> str:
    """Type of a thing, as a person knows it."""
    module = type(found).__module__.split(".")[0]
    return type(found).__name__ if module == "builtins" else f"{module} {type(found).__name__}"


def _absent(name: Any, known: list[Any], where: str) -> str:
    shown = ", ".join(repr(k) for k in known[:8]) + (", ..." if len(known) > 8 else "")
    return f"{name!r} must be in {where}{nearest(name, known)}, which has {shown or 'nothing'}."
