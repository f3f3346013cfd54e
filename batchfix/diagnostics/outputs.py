"""Outputs: what a transformer returned, as numbers with names, and the first value in which two of them differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from ..correctors.tables import NUMERIC_OBJECTS
from ..exceptions import BatchfixError


@dataclass(frozen=True, eq=False)
class Output:
    """What a run gave: values (n, q), and what its columns are called."""

    values: np.ndarray
    columns: list[Any]

    def rows(self, rows: np.ndarray) -> Output:
        """Return some of the rows."""
        return Output(self.values[rows], self.columns)


def as_output(out: Any, n: int) -> Output:
    """Read a table, an array (dense or sparse) or one column.

    Raises
    ------
    BatchfixError
        It has not n rows.
    """
    columns = list(out.columns) if hasattr(out, "columns") else None
    values = out.toarray() if sparse.issparse(out) else out
    values = np.asarray(values.to_numpy() if hasattr(values, "to_numpy") else values)
    values = values.reshape(len(values), -1) if values.ndim else values.reshape(1, 1)
    if values.dtype == object and pd.api.types.infer_dtype(values.ravel(), skipna=True) in NUMERIC_OBJECTS:
        values = np.where(pd.isna(values), np.nan, values).astype(np.float64)  # nullable columns
    if len(values) != n:
        raise BatchfixError(f"The output must have a row for each row of X; got {len(values)} rows for {n}.")
    return Output(values, list(range(values.shape[1])) if columns is None else columns)


def _typical(a: np.ndarray) -> np.ndarray:
    """Median magnitude of each column's values but zeros: one outlier must not hide what moves beside it."""
    sizes = np.where(np.isfinite(a) & (a != 0), np.abs(a), np.nan)
    some = ~np.isnan(sizes).all(axis=0)
    out = np.zeros(a.shape[1])
    out[some] = np.nanmedian(sizes[:, some], axis=0)
    return out


def first_move(whole: Output, other: Output, tolerance: float) -> dict[str, Any]:
    """The first value, by row and then by column, that is not what it was; nothing if all are."""
    if whole.columns != other.columns:
        gone = [c for c in whole.columns if c not in other.columns]
        come = [c for c in other.columns if c not in whole.columns]
        what = (
            f"column {gone[0]!r} is gone" if gone else f"column {come[0]!r} appears" if come else "columns change place"
        )
        return {"detail": what, "column": (gone or come or whole.columns)[0]}
    a, b = whole.values, other.values
    if a.dtype.kind not in "fiub" or b.dtype.kind not in "fiub":
        moved = ~((a == b) | (pd.isna(a) & pd.isna(b)))
        if not moved.any():
            return {}
        i, j = np.argwhere(moved)[0]
        return {"row": i, "column": whole.columns[j], "detail": f"{a[i, j]!r} became {b[i, j]!r}"}
    a, b = a.astype(np.float64), b.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        size = np.maximum(np.abs(a), _typical(a))
        change = np.abs(a - b)
        moved = ~((change <= tolerance * size) | (a == b) | (np.isnan(a) & np.isnan(b)))
    if not moved.any():
        return {}
    i, j = np.argwhere(moved)[0]
    known = change[moved & ~np.isnan(change)]
    return {
        "row": i,
        "column": whole.columns[j],
        "before": float(a[i, j]),
        "after": float(b[i, j]),
        "change": float(known.max()) if known.size else float("nan"),
    }
