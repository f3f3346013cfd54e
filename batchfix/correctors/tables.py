"""Tables: features apart from key columns, and whatever is not numbers refused by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from ..core.naming import nearest
from ..exceptions import BatchfixError

Key = str | int

NUMERIC_OBJECTS = ("integer", "floating", "mixed-integer-float", "boolean", "decimal", "empty")


def is_polars(X: Any) -> bool:
    """Whether X is a polars DataFrame or Series (without importing polars)."""
    return type(X).__module__.split(".")[0] == "polars"


def refuse_lazy(table: Any) -> None:
    """Refuse what polars has not read yet, and what dask would read whole."""
    if type(table).__module__.split(".")[0] == "dask":
        raise BatchfixError(
            f"A table must be in memory, got a dask {type(table).__name__}. Use batchfix.fit_blocks(corrector, X, ...) "
            "and batchfix.transform_blocks(corrector, X, ...), which stay lazy, or call .compute() first."
        )
    if is_polars(table) and type(table).__name__ not in ("DataFrame", "Series"):
        raise BatchfixError(f"A table must be in memory, got a polars {type(table).__name__}. Call .collect() first.")


def float_types(X: Any) -> list[Any]:
    """Float types that X may be read as, the first by default: float32 alone for a table of Float32 columns.

    scikit-learn finds float32 in arrays and in numpy's columns, not in polars' and in pandas' nullable ones.
    """
    kinds: set[str] = set()
    if is_polars(X) and hasattr(X, "schema"):
        kinds = {str(kind) for kind in X.schema.values()}
    elif isinstance(X, pd.DataFrame):
        kinds = {str(kind) for kind in set(X.dtypes)}
    return [np.float32] if kinds and kinds <= {"Float32", "float32"} else [np.float64, np.float32]


def plain(X: Any) -> Any:
    """Return X ready for scikit-learn's conversion, or say which of it is not numbers.

    Masked entries and pd.NA become NaN; text, dates and complex numbers are refused, also where a conversion would
    read them as numbers.
    """
    if isinstance(X, np.ma.MaskedArray):
        return np.ma.filled(X.astype(np.float64), np.nan)
    if isinstance(X, pd.DataFrame):
        return _plain_frame(X)
    if is_polars(X):
        if not hasattr(X, "columns"):  # a Series: scikit-learn says what is wrong with one dimension
            return X.to_numpy()
        _check_width(X)
        text = [
            name for name, kind in X.schema.items() if not kind.is_numeric() and str(kind) not in ("Boolean", "Null")
        ]
        if text:
            raise BatchfixError(_text(text))
        return X
    if isinstance(X, Mapping) and not sparse.issparse(X):  # a sparse dictionary of keys is one
        raise BatchfixError(f"X must be a table, got {type(X).__name__}. Make it a DataFrame.")
    if isinstance(X, list | tuple):
        try:
            X = np.asarray(X)
        except ValueError as error:
            raise BatchfixError("X must be a table, rows of one length, got rows of several. Fill them up.") from error
    if isinstance(X, np.ndarray):
        if X.dtype.kind in "SUmMV":
            raise BatchfixError(f"X must be numbers, got dtype {X.dtype}. Convert it with .astype(float).")
        if X.dtype == object:
            return _plain_objects(X)
    return X


def _plain_objects(X: np.ndarray) -> np.ndarray:
    kind = pd.api.types.infer_dtype(X.ravel(), skipna=True)
    if kind.startswith("mixed"):
        found = {type(v) for v in X.ravel()}
        kind = "complex" if complex in found else "string" if str in found else kind
    if kind in ("string", "complex", "datetime", "datetime64", "date", "timedelta", "timedelta64", "bytes"):
        raise BatchfixError(f"X must be numbers, got {kind} objects. Convert it, or name their column in a key.")
    missing = pd.isna(X)
    if missing.any():
        X = X.copy()
        X[missing] = np.nan
    return X


def _check_width(X: Any) -> None:
    if X.shape[1] == 0:
        raise BatchfixError(
            f"X must have features, got 0 feature(s) (shape={X.shape}) while a minimum of 1 is required. "
            "Columns that keys name do not count."
        )


def _plain_frame(X: pd.DataFrame) -> pd.DataFrame:
    _check_width(X)
    if not X.columns.is_unique:
        twice = X.columns[X.columns.duplicated()][0]
        raise BatchfixError(f"Columns of X must have different names, got {twice!r} twice. Rename them.")
    thin = [c for c, dtype in X.dtypes.items() if isinstance(dtype, pd.SparseDtype)]
    if thin:
        raise BatchfixError(f"Sparse columns must be made dense first, got {thin[0]!r}. Use X.sparse.to_dense().")
    text, objects = [], {}
    numbers = {d for d in set(X.dtypes) if pd.api.types.is_numeric_dtype(d) or pd.api.types.is_bool_dtype(d)}
    for c, dtype in X.dtypes.items() if len(numbers) < len(set(X.dtypes)) else ():
        if dtype in numbers:
            continue
        if pd.api.types.is_object_dtype(dtype) and pd.api.types.infer_dtype(X[c], skipna=True) in NUMERIC_OBJECTS:
            objects[c] = _plain_objects(X[c].to_numpy()).astype(np.float64)
        else:
            text.append(c)
    if text:
        raise BatchfixError(_text(text))
    if objects:
        X = X.copy(deep=False)
        for c, values in objects.items():  # not assign(): names need not be text
            X[c] = values
    return X


def _text(names: Sequence[Any]) -> str:
    return (
        f"X must be numbers, got text or dates in column{'s' if len(names) > 1 else ''} "
        f"{', '.join(repr(c) for c in names[:5])}{', ...' if len(names) > 5 else ''}. "
        "Drop them, or name them as keys (batch_key, keep_keys, within, by, symbol, time)."
    )


def take_keys(X: Any, keys: Sequence[Key], optional: Iterable[Key] = ()) -> tuple[Any, dict[Key, Any]]:
    """Split a table into its features and the columns named by keys.

    A string names a column (which leaves the table) or an index level of a DataFrame;
    an integer is a column position, on arrays. Optional keys may be absent.
    """
    if not keys:
        return X, {}
    if isinstance(X, pd.DataFrame):
        return _take_from_frame(X, keys, set(optional))
    if is_polars(X):
        return _take_from_polars(X, keys, set(optional))
    if sparse.issparse(X):
        raise TypeError("X must be dense, got a sparse matrix. Use X.toarray().")
    array = X if isinstance(X, np.ndarray) else np.asarray(X)
    named = [k for k in keys if not isinstance(k, int | np.integer) or isinstance(k, bool)]
    if named:
        raise BatchfixError(
            f"A key of an array must be a column position, got {named[0]!r}. "
            "Pass a DataFrame, or the position of the column."
        )
    if array.ndim != 2:
        raise BatchfixError(
            f"X must have two dimensions for keys to name columns, got {array.ndim}. Expected 2D array."
        )
    positions = []
    for key in keys:
        if not -array.shape[1] <= int(key) < array.shape[1]:
            raise BatchfixError(f"Key {key} must be a column of X, got {array.shape[1]} columns.")
        positions.append(int(key) % array.shape[1])
    rest = np.delete(array, positions, axis=1)
    return rest, {k: array[:, j] for k, j in zip(keys, positions, strict=True)}


def _take_from_frame(X: pd.DataFrame, keys: Sequence[Key], optional: set[Key]) -> tuple[pd.DataFrame, dict[Key, Any]]:
    taken: dict[Key, Any] = {}
    drop = []
    for key in keys:
        in_columns, in_index = key in X.columns, key in X.index.names
        if in_columns and in_index:
            raise BatchfixError(f"Key {key!r} must name a column or an index level, got both. Rename one of them.")
        if in_columns:
            if X.columns.nlevels > 1:
                raise BatchfixError(
                    f"Column names of X must have one level for keys to name them, got {X.columns.nlevels} levels. "
                    "Join them, for example X.columns = X.columns.map('_'.join)."
                )
            column = X[key]
            if isinstance(column, pd.DataFrame):
                raise BatchfixError(
                    f"Key {key!r} must name one column, got {column.shape[1]} of that name. Rename them."
                )
            taken[key] = column
            drop.append(key)
        elif in_index:
            taken[key] = pd.Series(X.index.get_level_values(key), index=X.index, name=key)
        elif isinstance(key, int | np.integer) and not isinstance(key, bool):
            raise BatchfixError(
                f"A key of a DataFrame must be a column name, got the position {key!r}. Positions are for arrays."
            )
        elif key not in optional:
            # labels are rarely numbers: in a wide table they would not be among the first
            numeric = X.dtypes.map(pd.api.types.is_numeric_dtype).to_numpy()
            first = ", ".join(repr(str(c)) for c in [*X.columns[~numeric], *X.columns[numeric]][:5])
            raise BatchfixError(
                f"Key {key!r} must name a column or an index level of X, got columns {first}"
                f"{', ...' if X.shape[1] > 5 else ''} and index levels {list(X.index.names)}"
                f"{nearest(key, [*X.columns, *filter(None, X.index.names)])}."
            )
    return X.drop(columns=drop), taken


def _take_from_polars(X: Any, keys: Sequence[Key], optional: set[Key]) -> tuple[Any, dict[Key, Any]]:
    taken = {key: X[key].to_numpy() for key in keys if key in X.columns}
    lost = [key for key in keys if key not in taken and key not in optional]
    if lost:
        shown = f"{X.columns[:5]}{' and more' if X.width > 5 else ''}"
        raise BatchfixError(f"Key {lost[0]!r} must name a column of X, got {shown}{nearest(lost[0], X.columns)}.")
    return X.drop(list(taken)), taken
