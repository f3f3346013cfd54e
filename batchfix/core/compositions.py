"""Compositions: rows of relative amounts, checked and taken piece by piece.

A table (one composition a row, one part a column) and a kernel flow in; what the kernel makes of the rows flows out.
What holds for every function on compositions is here:

- The last axis holds the parts; a single composition of shape (D,) comes back as one. Anything real goes in, scipy's
  sparse tables too (read a piece at a time). float32 comes back as float32, everything else as float64; the arithmetic
  is float64. Rows are independent, and taken in cache-sized pieces, on a few threads.
- NaN is a part that was not observed. It stays NaN, and the row's other parts are treated as the composition they
  form among themselves. A row of nothing but NaN stays so.
- Zero is an amount. Where a logarithm is taken it is refused, with the number of zeros.
- `out` may be the input itself. An input that is refused is then left as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..exceptions import BatchfixError
from . import blocks
from .faults import Need, UnfitError, check, examine, read_rows

Kernel = Callable[[np.ndarray, np.ndarray, slice, bool], None]
"""kernel(x, y, rows, missing): write y, of the rows `rows`, from x. Both are float64; y may be x."""


# ---- kernels shared by the functions on compositions


def row_sums(x: np.ndarray, missing: bool) -> np.ndarray:
    """Sums over the observed parts, (m, 1); NaN where nothing is observed.

    Raises
    ------
    UnfitError
        If a sum is 0 or infinite.
    """
    if missing:
        seen = ~np.isnan(x)
        sums = np.add.reduce(x, axis=1, keepdims=True, where=seen)
        sums[~seen.any(axis=1)] = np.nan
    else:
        sums = np.add.reduce(x, axis=1, keepdims=True)
    if (sums == 0).any() or np.isinf(sums).any():
        raise UnfitError
    return sums


def row_means(x: np.ndarray, missing: bool) -> np.ndarray:
    """Means over the observed parts, (m, 1); NaN where nothing is observed."""
    if not missing:
        return np.asarray(np.add.reduce(x, axis=1, keepdims=True) / x.shape[1])
    seen = ~np.isnan(x)
    means: np.ndarray = np.add.reduce(x, axis=1, keepdims=True, where=seen) / np.add.reduce(seen, axis=1, keepdims=True)
    return means


def close(x: np.ndarray, y: np.ndarray, missing: bool, scale: np.ndarray) -> None:
    """Write x / sum(x), times `scale` a row, into y, which may be x."""
    np.divide(x, row_sums(x, missing), out=y)
    if not (scale == 1).all():
        y *= scale[:, None]


# ---- tables in, tables out


def as_table(X: Any) -> tuple[Any, tuple[int, ...]]:
    """X as a real matrix (n, D), dense or CSR, and the shape that it came in.

    Raises
    ------
    BatchfixError
        If X does not hold real numbers, or has no parts.
    """
    table = X.tocsr() if hasattr(X, "tocsr") else np.asarray(X)
    if table.dtype.kind not in "fiub":
        raise BatchfixError(
            f"The parts of a composition must be numbers; got dtype {str(table.dtype)!r}. "
            "Convert the table first, as with X.astype(float)."
        )
    shape = tuple(table.shape)
    if not shape or shape[-1] == 0:
        raise BatchfixError(f"A composition must have parts along its last axis; got shape {shape}.")
    if len(shape) != 2:
        table = table.reshape(-1, shape[-1])
    return table, shape


def row_totals(total: Any, shape: tuple[int, ...]) -> np.ndarray:
    """`total` as one positive float64 a row, (n,); NaN makes the row NaN.

    Raises
    ------
    BatchfixError
        If a total is not positive, or there are not as many as rows.
    """
    totals = np.asarray(total, dtype=np.float64)
    if totals.ndim and totals.shape != shape:
        raise BatchfixError(f"There must be one total a row, of shape {shape}; got shape {totals.shape}.")
    if (totals <= 0).any() or np.isinf(totals).any():
        wrong = totals[(totals <= 0) | np.isinf(totals)]
        raise BatchfixError(f"Totals and depths must be above 0 and finite; got {float(wrong.flat[0])!r}.")
    return np.broadcast_to(totals, shape).reshape(-1)


def map_rows(
    kernel: Kernel,
    X: Any,
    shape: tuple[int, ...],
    need: Need,
    *,
    width: int | None = None,
    out: np.ndarray | None = None,
    own: bool = False,
    look: bool = True,
    wide: bool = False,
) -> np.ndarray:
    """Run a kernel over the rows of a table, a cache-sized piece at a time.

    Parameters
    ----------
    X, shape
        What `as_table` gave.
    need
        What the values must be.
    width
        Columns of the output; those of X if not given.
    out
        Where to write, of the output's shape and dtype.
    own
        Whether the kernel writes into x: it is then given a copy.
    look
        Whether to look for what may not be there before the kernel runs. A kernel that finds it in what it computes
        does without, and looks for NaN itself.
    wide
        Whether the output is float64 even for float32.

    Raises
    ------
    BatchfixError
        If the values are not what they need to be; X is then as it was.
    """
    n, parts = X.shape
    dtype = np.dtype(np.float32 if X.dtype in (np.float32, np.float16) and not wide else np.float64)
    full = (*shape[:-1], parts if width is None else width)
    if out is None:
        out = np.empty(full, dtype=dtype)
    elif out.shape != full or out.dtype != dtype or not (out.ndim == 2 or out.flags.c_contiguous):
        raise BatchfixError(f"out must be a {dtype} array of shape {full}; got {out.dtype}, shape {out.shape}.")
    target = out.reshape(n, full[-1])
    if isinstance(X, np.ndarray) and np.may_share_memory(X, target):
        check(X, need)
    direct = isinstance(X, np.ndarray) and X.dtype == np.float64 and X.flags.c_contiguous
    landing = target.dtype == np.float64 and target.flags.c_contiguous
    step = max(1, blocks.rows_per_chunk(parts, X.dtype.itemsize * n * parts) // 2)

    def work(lot: tuple[int, int]) -> None:
        most = min(step, lot[1] - lot[0])
        read = None if direct and not own else np.empty((most, parts))
        written = None if landing else np.empty((most, full[-1]))
        for a, b in blocks.spans(*lot, step):
            x = X[a:b] if read is None else read_rows(X, a, b, read)
            y = target[a:b] if written is None else written[: b - a]
            with np.errstate(all="ignore"):  # what cannot be computed is refused, or is NaN because it came so
                kernel(x, y, slice(a, b), look and examine(x, need))
            if written is not None:
                target[a:b] = y

    share = max(step, -(-n // (4 * blocks.n_threads())))
    try:
        blocks.run(work, blocks.spans(0, n, share), n * parts * 8)
    except UnfitError:
        check(X, need)
        raise
    return out
