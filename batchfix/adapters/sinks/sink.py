"""Sinks: where corrected blocks go, in the order of the rows.

Blocks flow in; an array that takes slices is filled, or a file appears under its name once it is whole:

    with open_sink(out, n_rows) as sink:
        sink.write(start, values)

A file is written beside its place and renamed at the end. After an error, a full disk or Ctrl-C the old one is there,
or none. An array that was passed is written as blocks come: after an error it is half filled.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import pandas as pd

from ...core.naming import some
from ...exceptions import BatchfixError
from ..sources.arrays import check_open, release
from ..sources.files import said
from ..sources.source import Source, names_of


class Sink(ABC):
    """Takes blocks of rows, one after the other.

    Parameters
    ----------
    n_rows : int or None
        Rows that will come; None where nobody knows.
    like : Source, optional
        Where they come from: its names are those of rows and columns that bring none.
    """

    def __init__(self, n_rows: int | None = None, like: Source | None = None) -> None:
        self.n_rows, self.like = n_rows, like
        self.stop = 0
        self.n_features: int | None = None
        self.names: list[Any] | None = None
        self.numbered = False
        self.dtype: np.dtype[Any] = np.dtype(np.float64)

    def write(self, start: int, values: Any) -> None:
        """Write a block (n, p), array or DataFrame, whose first row is row `start` of the whole.

        Raises
        ------
        BatchfixError
            Blocks that leave rows out, or have other columns than the first one; a place that cannot take them.
        """
        if start != self.stop:
            raise BatchfixError(f"Blocks must follow each other, got row {start} after {self.stop} rows.")
        if self.n_features is None:
            self.n_features, self.names, self.dtype = int(values.shape[1]), names_of(values), float_of(values)
            self.numbered = is_numbered(values)
            self.begin(values)
        elif values.shape[1] != self.n_features or names_of(values) != self.names:
            raise BatchfixError(
                f"Corrected blocks must have the same columns, got {self.n_features} and then {values.shape[1]} of "
                "them, or under other names. Look at what the corrector appends."
            )
        elif float_of(values).itemsize > self.dtype.itemsize:
            raise BatchfixError(
                f"Corrected blocks must have one dtype, got {self.dtype} and then {float_of(values)}. Make the blocks "
                "of X alike."
            )
        stop = start + int(values.shape[0])
        if self.n_rows is not None and stop > self.n_rows:
            raise BatchfixError(f"The output must have as many rows as X, got {self.n_rows} and {stop} or more rows.")
        self.put(start, values)
        self.stop = stop

    def ids(self, values: Any, start: int) -> pd.Index:
        """Return what rows are called: by their index; if they are only numbered, as the source says, or their place.

        Blocks that are numbered from 0 each, as pandas does by itself, have no ids. An index that happens to hold 0 to
        n - 1 is one.
        """
        if isinstance(values, pd.DataFrame) and not (
            self.numbered and (is_default(values.index) or is_default(values.index, start))
        ):
            return values.index
        stop = start + int(values.shape[0])
        if self.like is not None and self.like.obs_names is not None:
            return self.like.obs_names[start:stop]
        return pd.RangeIndex(start, stop)

    def titles(self, values: Any) -> list[str]:
        """Return what columns are called, as text; if they have no names, as the source says, or x0, x1 and so on.

        Raises
        ------
        BatchfixError
            Two names are one as text.
        """
        made_up = [f"x{j}" for j in range(values.shape[1])]  # as scikit-learn names columns that have no names
        found = [str(name) for name in names_of(values) or made_up]
        known = None if self.like is None else self.like.var_names
        if known is not None and len(known) == len(found) and found == made_up:
            found = [str(name) for name in known]
        twice = sorted({name for name in found if found.count(name) > 1}) if len(set(found)) < len(found) else []
        if twice:
            raise BatchfixError(
                f"Columns must have different names in a file, got {some(twice, 3)} twice. Rename them."
            )
        return found

    @abstractmethod
    def begin(self, values: Any) -> None:
        """Make the place ready for blocks such as this first one."""

    @abstractmethod
    def put(self, start: int, values: Any) -> None:
        """Write a block."""

    def end(self) -> None:
        """Finish, after the last block."""
        if self.stop == 0 or (self.n_rows is not None and self.stop != self.n_rows):
            raise BatchfixError(
                f"The output must have as many rows as X, got {self.n_rows} and {self.stop}. Give one of that length."
            )


class ArraySink(Sink):
    """An array that takes slice assignment: memory, a memory-mapped file, a zarr array, an h5py dataset."""

    def __init__(self, array: Any, n_rows: int | None = None) -> None:
        check_open(array, "out")
        is_array = hasattr(array, "__setitem__") and hasattr(array, "dtype")
        if not is_array or len(getattr(array, "shape", ())) != 2:
            raise BatchfixError(
                "out must be an array of two dimensions that takes slices, a path, or None for an iterator, got "
                f"{type(array).__name__}."
            )
        if np.dtype(array.dtype).kind != "f" or np.dtype(array.dtype).itemsize < 4:
            raise BatchfixError(
                f"out must hold floats of four bytes or more, got dtype {array.dtype}. Make it float32 or float64."
            )
        if isinstance(array, np.ndarray) and not array.flags.writeable:
            raise BatchfixError("out must be writable, got a read-only array. Copy it, or open its file with 'r+'.")
        if n_rows is not None and array.shape[0] != n_rows:
            raise BatchfixError(f"out must have as many rows as X, got {array.shape[0]} for {n_rows}.")
        super().__init__(int(array.shape[0]))
        self.array = array

    def begin(self, values: Any) -> None:
        """See Sink."""
        if self.array.shape[1] != values.shape[1]:
            raise BatchfixError(
                f"out must have the columns of the result, got {self.array.shape[1]} for {values.shape[1]}. Make it "
                f"({self.n_rows}, {values.shape[1]})."
            )

    def put(self, start: int, values: Any) -> None:
        """See Sink."""
        stop, numbers = start + values.shape[0], _narrowed(np.asarray(values), np.dtype(self.array.dtype))
        try:
            self.array[start:stop] = numbers
        except (OSError, ValueError, RuntimeError) as error:
            raise BatchfixError(
                f"out must be open for writing and have room, and rows {start} to {stop - 1} cannot be written "
                f"({said(error)}). Open it with mode 'r+', or free the space; rows before these are written."
            ) from error
        release(self.array)


def is_numbered(values: Any) -> bool:
    """Whether rows are only numbered: they have no index, or the one from 0 that pandas makes."""
    return not isinstance(values, pd.DataFrame) or is_default(values.index)


def is_default(index: pd.Index, start: int = 0) -> bool:
    """Whether an index is one that pandas makes by itself, of rows that follow row `start`."""
    return isinstance(index, pd.RangeIndex) and (index.start, index.step, index.name) == (start, 1, None)


def float_of(values: Any) -> np.dtype[Any]:
    """float32 where all is float32, else float64."""
    found = np.asarray(values[:0] if not isinstance(values, pd.DataFrame) else values.iloc[:0]).dtype
    return found if found.kind == "f" else np.dtype(np.float64)


def _narrowed(values: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """Values of a dtype that may have less room."""
    if values.dtype.itemsize <= dtype.itemsize:
        return values
    with np.errstate(over="ignore"):
        narrow = values.astype(dtype)
    lost = np.isinf(narrow) & np.isfinite(values)
    if lost.any():
        raise BatchfixError(
            f"out must have room for the values of the result, got {values[lost][0]:.3g} for {dtype}, which ends at "
            f"{np.finfo(dtype).max:.3g}. Make it {values.dtype}."
        )
    return narrow
