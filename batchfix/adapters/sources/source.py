"""Sources: tables larger than memory, as blocks of rows.

Whatever holds rows flows in (an array on disk, an iterable of blocks, a file, an AnnData), with labels of all rows;
blocks flow out, in the order of the rows, each with its own labels, as often as they are asked for:

    as_source(X, batch, keep, nuisance).blocks(block_rows) -> Block(start, X, batch, keep, nuisance), ...
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ...correctors.tables import is_polars
from ...exceptions import BatchfixError
from .row_labels import RowLabels

BLOCK_BYTES = 1 << 26
"""A block's numbers in float64: enough that a block's overhead is nothing, little beside any memory."""

ROLES = ("batch", "keep", "nuisance")


@dataclass(frozen=True)
class Block:
    """Some rows in a row.

    Attributes
    ----------
    start : int
        Place of the first one among all rows.
    X : array (n, p) or DataFrame
        Columns that keys name among them.
    batch, keep, nuisance
        Labels of these rows, as `fit` takes them; None where there are none.
    share : float
        How much of the source has been read after this block, from 0 to 1; NaN where nothing tells.
    """

    start: int
    X: Any
    batch: Any = None
    keep: Any = None
    nuisance: Any = None
    share: float = math.nan

    @property
    def stop(self) -> int:
        """Place after the last row."""
        return self.start + int(self.X.shape[0])

    @property
    def labels(self) -> dict[str, Any]:
        """Labels that there are, by the name of their argument."""
        return {role: value for role in ROLES if (value := getattr(self, role)) is not None}

    @property
    def names(self) -> list[Any] | None:
        """Names of the columns, where they have any."""
        return names_of(self.X)


class Source:
    """Rows that come in blocks. A kind of table is a subclass, which says how its rows are read.

    Attributes
    ----------
    n_rows : int or None
        None where nobody knows before the last block.
    n_features : int
        Columns of a block, keys among them.
    names : list or None
        Names of these columns.
    dtype : dtype
        Of the numbers.
    chunk_rows : int or None
        Rows that are stored together, and best read so.
    labels : dict of RowLabels
        What was said of all rows.
    obs_names, var_names : Index or None
        Names of all rows and columns that blocks do not have, as those of an AnnData.
    """

    n_rows: int | None
    n_features: int
    names: list[Any] | None
    dtype: np.dtype[Any]
    chunk_rows: int | None = None
    labels: dict[str, RowLabels]
    obs_names: pd.Index | None = None
    var_names: pd.Index | None = None
    block_bytes = BLOCK_BYTES

    def tables(self, rows: int) -> Iterator[tuple[Any, dict[str, Any], float]]:
        """Tables of at most so many rows, labels that came with them, and the share that has been read then."""
        raise NotImplementedError  # every kind of source defines it

    def blocks(self, block_rows: int | None = None) -> Iterator[Block]:
        """Walk over the rows; once more at every call.

        Parameters
        ----------
        block_rows : int, optional
            Rows of a block at most; by default as many as make about 64 MB of float64.

        Raises
        ------
        BatchfixError
            No rows; rows that cannot be read; other rows than labels.
        """
        readers = {role: labels.reader() for role, labels in self.labels.items()}
        start = 0
        for X, own, share in self.tables(self.rows_per_block(block_rows)):
            n = int(X.shape[0])
            if not n:
                continue
            twice = [role for role in own if role in readers]
            if twice:
                raise BatchfixError(f"{twice[0]} must come with the blocks or as an argument, got both. Drop one.")
            index = X.index if isinstance(X, pd.DataFrame) else None
            labels = own | {role: reader.take(start, start + n, index) for role, reader in readers.items()}
            yield Block(start, X, **labels, share=share)
            start += n
        if not start:
            raise BatchfixError("X must have rows, got none. Look at where they come from.")
        for reader in readers.values():
            reader.end(start)

    def rows_per_block(self, block_rows: int | None = None) -> int:
        """Rows of a block: what was asked for, or what 64 MB of float64 hold, in whole chunks if these are smaller."""
        if block_rows is not None:
            given: Any = block_rows
            if isinstance(given, bool) or not isinstance(given, int | np.integer) or given < 1:
                raise BatchfixError(f"block_rows must be a whole number, 1 or more, got {given!r}.")
            return min(int(given), max(1, self.n_rows) if self.n_rows is not None else sys.maxsize)
        rows = max(1, self.block_bytes // (8 * max(1, self.n_features)))
        chunk = self.chunk_rows or 1
        return rows - rows % chunk if chunk <= rows else rows


def names_of(X: Any) -> list[Any] | None:
    """Names of the columns of a DataFrame, None where there are none."""
    return list(X.columns) if isinstance(X, pd.DataFrame) or is_polars(X) else None
