"""Cells of text: which are missing, which are numbers, and what to say of those that are neither."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from ...core.naming import some
from .table import NotNumericError, PathLike, TableError

# what pandas and R write for a missing value
MISSING = frozenset(("", "NA", "N/A", "n/a", "#N/A", "#NA", "#N/A N/A", "<NA>", "NULL", "null", "None")) | frozenset(
    ("NaN", "nan", "-NaN", "-nan", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN")
)


def number(cell: str) -> float:
    """The float a cell holds, NaN if it is missing.

    Raises ValueError if it is not a finite number; what only Python takes for one
    ('1_000', digits of other alphabets) is not.

    Examples
    --------
    >>> number("1e-3"), number("NA")
    (0.001, nan)
    """
    cell = cell.strip()
    if cell in MISSING:
        return np.nan
    if "_" in cell or not cell.isascii():
        raise ValueError(cell)
    value = float(cell)
    if np.isinf(value):
        raise ValueError(cell)
    return value


def fast_numbers(cells: Iterable[str]) -> NDArray[np.float64] | None:
    """All cells of a row at once; None if one of them needs a look of its own."""
    joined = "".join(cells)
    if "_" in joined or not joined.isascii():
        return None
    try:
        numbers = np.array([float(cell) for cell in cells])
    except ValueError:
        return None
    return None if np.isinf(numbers).any() else numbers


def not_numbers(
    path: PathLike, names: list[str], matrix: NDArray[np.float64], refused: dict[int, tuple[str, str]]
) -> TableError:
    """The error for cells that are not numbers: of whole columns if there are such."""
    whole = [k for k in refused if np.isnan(matrix[:, k]).all()]
    if whole:
        columns = tuple(names[k] for k in sorted(whole))
        row, cell = refused[min(whole)]
        return NotNumericError(
            f"Every column of {str(path)!r} but the ids must hold numbers, and {some(columns)} "
            f"{'holds' if len(columns) == 1 else 'hold'} text (row {row!r}: {cell!r}).",
            columns,
        )
    k = min(refused)
    row, cell = refused[k]
    more = f" ({len(refused)} columns have such cells)" if len(refused) > 1 else ""
    return TableError(
        f"Every cell of {str(path)!r} must be a finite number or empty, and row {row!r}, column "
        f"{names[k]!r} holds {cell!r}{more}. Correct it, or leave it empty if it is missing."
    )
