"""Design: labels and numbers beside the batch become columns of a matrix.

Factors are full one-hot: a level to leave out is chosen when solving, hence a level that arrives later is only one
more column. Levels are frozen once known; encoding never invents or drops one.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..exceptions import (
    AmbiguousKeepError,
    MergeError,
    UnknownLevelError,
)


@dataclass(frozen=True)
class Factor:
    """A categorical column; `levels` are its sorted labels.

    Examples
    --------
    >>> import numpy as np
    >>> Factor("group", np.array(["a", "b"])).encode(np.array(["b", "a"]))
    array([[0., 1.],
           [1., 0.]])
    """

    name: str
    levels: np.ndarray
    role: str = "keep"
    loose: bool = False
    """Integer-coded with two values, so far: a factor and a number alike."""

    def __post_init__(self) -> None:
        if self.loose and len(self.levels) > 2:
            shown = ", ".join(repr_label(v) for v in self.levels[:4])
            raise AmbiguousKeepError(
                f"Column {self.name!r} must say whether it is a factor or a number, got integers ({shown}"
                f"{', ...' if len(self.levels) > 4 else ''}). Name it in keep_factors or keep_numbers, "
                "or give it a category or float dtype."
            )

    @property
    def width(self) -> int:
        """Design columns that it takes: one a level."""
        return len(self.levels)

    def codes(self, values: np.ndarray) -> np.ndarray:
        """Position of each value among the levels, -1 if it is none of them."""
        return codes_of(values, self.levels)

    def encode(self, values: np.ndarray) -> np.ndarray:
        """One-hot (n, width); UnknownLevelError for a level that is not known."""
        codes = self.codes(values)
        if (codes < 0).any():
            bad = sorted({repr_label(v) for v in np.asarray(values)[codes < 0]})
            known = ", ".join(repr_label(v) for v in self.levels)
            raise UnknownLevelError(
                f"{self.name!r} must hold levels seen in fit ({known}), got {', '.join(bad[:5])}. "
                "Fit (or partial_fit) with rows of that level, or leave these rows out."
            )
        return np.asarray(codes[:, None] == np.arange(self.width), dtype=np.float64)

    def __add__(self, other: Column) -> Factor:
        if not isinstance(other, Factor) or other.role != self.role:
            raise MergeError(_kinds(self, other))
        levels = union_of(self.levels, other.levels, self.name)
        return replace(self, levels=levels, loose=self.loose and other.loose)


@dataclass(frozen=True)
class Number:
    """A numeric column."""

    name: str
    role: str = "keep"

    @property
    def width(self) -> int:
        """Design columns that it takes."""
        return 1

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Return the values as one column (n, 1)."""
        return np.asarray(values, dtype=np.float64)[:, None]

    def __add__(self, other: Column) -> Number:
        if not isinstance(other, Number) or other.role != self.role:
            raise MergeError(_kinds(self, other))
        return self


Column = Factor | Number


def _kinds(a: Column, b: Column) -> str:
    def says(column: Column) -> str:
        return f"a {'factor' if isinstance(column, Factor) else 'number'} ({column.role})"

    return (
        f"Column {a.name!r} must be of one kind throughout, got {says(a)} and then {says(b)}. "
        "Give it the same dtype everywhere."
    )


def repr_label(label: object) -> str:
    """Show a label as a person wrote it: 'p7' or 7, never np.str_('p7')."""
    if isinstance(label, np.datetime64):
        return repr(np.datetime_as_string(label, unit="auto"))
    return repr(label.item() if isinstance(label, np.generic) else label)


def repr_labels(labels: Sequence[object] | np.ndarray, most: int = 8) -> str:
    """Labels in braces, cut after `most`."""
    shown = [repr_label(v) for v in labels[:most]]
    if len(labels) > most:
        shown.append(f"... {len(labels) - most} more")
    return "{" + ", ".join(shown) + "}"


def _kind(labels: np.ndarray) -> str:
    return {"S": "U", "i": "f", "u": "f"}.get(labels.dtype.kind, labels.dtype.kind)


def codes_of(values: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Positions of `values` among sorted `levels`, -1 where a value is none of them."""
    values = np.asarray(values)
    if len(levels) == 0 or len(values) == 0 or _kind(values) != _kind(levels):
        return np.full(len(values), -1)
    at = np.minimum(np.searchsorted(levels, values), len(levels) - 1)
    return np.where(levels[at] == values, at, -1)


def union_of(a: np.ndarray, b: np.ndarray, name: str) -> np.ndarray:
    """Sorted union of two sets of labels of one kind."""
    if len(a) and len(b) and _kind(a) != _kind(b):
        raise MergeError(
            f"Labels of {name!r} must be of one kind throughout, got {repr_labels(a)} and then "
            f"{repr_labels(b)}. Make all of them strings, or all of them numbers."
        )
    if not len(a) or not len(b):  # an empty set has no kind, but a dtype
        return np.unique(a if len(a) else b)
    return np.union1d(a, b)


def encode(columns: Sequence[Column], values: dict[str, np.ndarray], n: int) -> np.ndarray:
    """Design matrix (n, q): the columns side by side."""
    return np.hstack([np.zeros((n, 0)), *(c.encode(values[c.name]) for c in columns)])


def kept_of(columns: Sequence[Column]) -> np.ndarray:
    """Which design columns (q,) must survive, as against those to remove."""
    return np.array([c.role == "keep" for c in columns for _ in range(c.width)], dtype=bool)


def slices(columns: Sequence[Column]) -> list[slice]:
    """Which design columns belong to which column."""
    ends = np.cumsum([0, *(c.width for c in columns)])
    return [slice(int(a), int(b)) for a, b in itertools.pairwise(ends)]
