"""Past: what the rows before a moment leave behind, column by column.

Rows flow in, in the order of time; for each of them flow out the number of observed values in its window, their
location and their scale, and a past that knows one chunk more. `Expanding`, `Rolling` and `Exponential` are pasts.

    flat    scale <= 64 eps |location|: rounding noise, and no spread; the scale becomes exactly 0
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any, Self

import numpy as np

from ..exceptions import BatchfixError
from . import blocks
from .moments import NOISE

SMALLEST_SCALE = 1e-153
"""Squares of a smaller spread have lost their digits to underflow: it counts as none."""

WIDE = 256
"""Columns from which on a call for each row is quicker than one call that strides down the columns."""

OVERFLOW = (
    "The squares of X must fit float64; got values about 1e154 or more apart. "
    "Rescale X, for example divide it by a power of ten."
)


@dataclass(frozen=True, eq=False)
class History:
    """What row t is measured by, a row each: arrays (m, w) in float64.

    Attributes
    ----------
    n
        Observed values in the window that ends at the row.
    center
        Their mean or median. Anything where n is 0.
    scale
        Their standard deviation or MAD; 0 where they are constant; NaN where n is too small for one. None where it was
        not asked for.
    """

    n: np.ndarray
    center: np.ndarray
    scale: np.ndarray | None


@dataclass(frozen=True, eq=False)
class Past:
    """State of one window over p columns. Fields that are arrays have the columns as their last axis."""

    def read(self, x: np.ndarray, ask: Ask, scratch: Scratch) -> tuple[History, Self]:
        """Histories of the windows that end at each row of x (m, p), in float64; and the past after them.

        The histories may lie in `scratch`: they hold until the next call.
        """
        with np.errstate(all="ignore"):  # what overflows is looked at, and NaN is what an empty window says
            return self._read(x, ask, scratch)

    def _read(self, x: np.ndarray, ask: Ask, scratch: Scratch) -> tuple[History, Self]:
        raise NotImplementedError  # every past defines it

    def like(self, other: Past) -> bool:
        """Whether the other past is of the same window."""
        return type(self) is type(other)

    def columns(self, span: slice) -> Self:
        """The same past of some columns."""
        return replace(self, **{f.name: v[..., span] for f in fields(self) if _is_array(v := getattr(self, f.name))})

    def beside(self, others: Sequence[Self]) -> Self:
        """Lay the columns of others, which have read as many rows, beside these."""
        every = [self, *others]
        return replace(
            self,
            **{
                f.name: np.concatenate([getattr(past, f.name) for past in every], axis=-1)
                for f in fields(self)
                if _is_array(getattr(self, f.name))
            },
        )


@dataclass(frozen=True, eq=False)
class Ask:
    """What is asked of a window.

    Attributes
    ----------
    center : {"mean", "median"}
    scale : {"std", "mad"} or None
    ddof : float
        The variance of n values divides by n - ddof.
    eps : float
        Rounding unit of the dtype that the rows came in.
    """

    center: str = "mean"
    scale: str | None = "std"
    ddof: float = 1.0
    eps: float = float(np.finfo(np.float64).eps)

    def flatten(self, center: np.ndarray, scale: np.ndarray, spare: np.ndarray) -> None:
        """Set to 0, in place, the scales that are rounding noise."""
        largest = np.maximum(center.max(initial=0.0), -center.min(initial=0.0))
        if scale.min(initial=np.inf) > max(NOISE * self.eps * largest, SMALLEST_SCALE):
            return  # none of them; where some are NaN, or columns differ much in size, a closer look
        np.abs(center, out=spare)
        spare *= NOISE * self.eps
        np.maximum(spare, SMALLEST_SCALE, out=spare)
        np.copyto(scale, 0.0, where=scale <= spare)


class Scratch:
    """Buffers that are used again and again: fresh memory costs more than the arithmetic in it."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, Any], np.ndarray] = {}

    def __call__(self, name: str, m: int, w: int, dtype: Any = np.float64) -> np.ndarray:
        """An array (m, w) of no particular content."""
        held = self._buffers.get((name, dtype))
        if held is None or held.size < m * w:
            held = self._buffers[name, dtype] = np.empty(m * w, dtype=dtype)
        return held[: m * w].reshape(m, w)


def refuse_infinite(x: np.ndarray) -> None:
    """Say why sums of squares of these rows are not finite.

    Raises
    ------
    BatchfixError
        x holds an infinity, or values whose squares leave float64.
    """
    raise BatchfixError(blocks.INFINITE if np.isinf(x).any() else OVERFLOW)


def accumulate(x: np.ndarray, start: np.ndarray | None = None) -> None:
    """Running sums along the first axis, in place, from what was there before.

    One call a row where rows are long, one call in all where they are short; both add in the same order.
    """
    if start is not None:
        np.add(x[0], start, out=x[0])
    if x[0].size < WIDE:
        np.add.accumulate(x, axis=0, out=x)
        return
    for before, row in pairwise(x):
        np.add(before, row, out=row)


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray)
