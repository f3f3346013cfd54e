"""Rolling: statistics of the last rows only, where what has left leaves no trace.

Rows flow in; the count, location and scale of the last `length` rows flow out. Nothing is subtracted: rows are cut into
blocks of the window's length, and a window is the end of one block and the beginning of the next,

    moments(window) = moments(end of the block before) + moments(beginning of this block)

both taken by running sums about a value that is in every one of them: the last observed value of the block before, the
first observed of this (van Herk 1992, "A fast algorithm for local minimum and maximum filters", with `Moments +` for
the minimum). Medians and MADs are taken of each window afresh.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from . import blocks, robust
from .moments import Moments
from .past import Ask, History, Past, Scratch, accumulate, refuse_infinite

WINDOW_VALUES = 1 << 17
"""Values gathered at a time for medians."""


@dataclass(frozen=True, eq=False)
class Rolling(Past):
    """The last rows, as they are.

    Attributes
    ----------
    position : int
        Rows read so far, modulo the length: where blocks begin.
    rows : array (length, p)
        The last rows, oldest first; NaN before the first.

    Examples
    --------
    >>> x = np.array([[1.0], [1e12], [4.0], [6.0]])
    >>> history, _ = Rolling.empty(1, length=2).read(x, Ask(), Scratch())
    >>> history.center.ravel().tolist(), history.scale.ravel()[-1].round(3).item()
    ([1.0, 500000000000.5, 500000000002.0, 5.0], 1.414)
    """

    position: int
    rows: np.ndarray

    @classmethod
    def empty(cls, p: int, length: int) -> Self:
        """No row read."""
        return cls(0, np.full((length, p), np.nan))

    def like(self, other: Past) -> bool:
        """Whether the other is of the same length."""
        return isinstance(other, Rolling) and other.length == self.length

    @property
    def length(self) -> int:
        """Rows of the window."""
        return len(self.rows)

    def _read(self, x: np.ndarray, ask: Ask, scratch: Scratch) -> tuple[History, Self]:
        m, w = x.shape
        infinite = np.isinf(x, out=scratch("infinite", m, w, np.bool_))
        if infinite.any():  # it would leave again, and not show at the end
            refuse_infinite(x)
        rows = scratch("rows", self.length + m, w)
        rows[: self.length], rows[self.length :] = self.rows, x
        moments = self._moments(rows, m, scratch)
        center, scale = moments.mean, None
        if ask.center == "median":
            center = _over_windows(rows[1:], self.length, robust.median)
        if ask.scale == "mad":
            scale = _over_windows(rows[1:], self.length, robust.mad)
        elif ask.scale == "std":
            scale = moments.m2
            if not np.isfinite(scale).all():
                refuse_infinite(x)
            scale /= np.subtract(moments.n, ask.ddof, out=scratch("spare", m, w))
            np.sqrt(scale, out=scale)
        if scale is not None:
            ask.flatten(center, scale, spare=scratch("spare", m, w))
        past = type(self)((self.position + m) % self.length, rows[m:].copy())
        return History(moments.n, center, scale), past

    def _moments(self, rows: np.ndarray, m: int, scratch: Scratch) -> Moments:
        """Moments of the windows that end at each of the last m rows."""
        length, w = self.length, rows.shape[1]
        front = self.position  # rows[0] is row `position` of its block
        blocked = -(-(front + len(rows)) // length)
        grid = scratch("grid", blocked * length, w)
        grid[:front] = np.nan
        grid[front : front + len(rows)] = rows
        grid[front + len(rows) :] = np.nan
        begins, ends = front + 1, front + length
        newer = _running(grid.reshape(-1, length, w), scratch, "newer").rows(ends, ends + m)
        older = _running(grid.reshape(-1, length, w), scratch, "older", step=-1).rows(begins, begins + m)
        whole = slice(-begins % length, m, length)  # windows that are one block: `newer` has all of it
        for v in (older.n, older.mean, older.m2):
            v[whole] = 0.0
        return older.add(newer)


@dataclass(frozen=True, eq=False)
class _Running:
    """Moments in buffers (rows, w), and one buffer more."""

    n: np.ndarray
    mean: np.ndarray
    m2: np.ndarray
    spare: np.ndarray

    def rows(self, a: int, b: int) -> _Running:
        return _Running(self.n[a:b], self.mean[a:b], self.m2[a:b], self.spare[a:b])

    def add(self, other: _Running) -> Moments:
        """`Moments +` in place: the buffers of both are overwritten."""
        n = np.add(self.n, other.n, out=self.spare)
        share = np.divide(other.n, n, out=other.n)
        if not n.all():
            np.copyto(share, 0.0, where=n == 0)
        step = np.subtract(other.mean, self.mean, out=other.mean)
        between = np.multiply(self.n, share, out=self.n)
        between *= step
        between *= step
        share *= step
        self.mean[...] += share
        self.m2[...] += other.m2
        self.m2[...] += between
        return Moments(n, self.mean, self.m2)


def _running(grid: np.ndarray, scratch: Scratch, name: str, step: int = 1) -> _Running:
    """Moments of each block's rows up to each row (down to it: step -1), about the first observed value on the way.

    grid (blocks, length, w) in; buffers (blocks * length, w) out.
    """
    blocked, length, w = grid.shape
    buffers = [scratch(f"{name} {k}", blocked * length, w) for k in range(4)]
    n, mean, m2, x = (each.reshape(grid.shape)[:, ::step] for each in buffers)
    missing = scratch("missing", blocked * length, w, np.bool_).reshape(grid.shape)
    np.isnan(grid[:, ::step], out=missing)
    pilot = np.take_along_axis(grid[:, ::step], missing.argmin(axis=1)[:, None], axis=1)
    np.subtract(grid[:, ::step], np.where(np.isnan(pilot), 0.0, pilot), out=x)
    np.copyto(x, 0.0, where=missing)
    np.subtract(1.0, missing, out=n)
    np.multiply(x, x, out=m2)
    for sums in (n, x, m2):
        accumulate(sums.swapaxes(0, 1))
    np.divide(x, n, out=mean)
    x *= mean
    m2 -= x
    np.maximum(m2, 0.0, out=m2)
    mean += pilot
    if missing.any():
        np.equal(n, 0.0, out=missing)
        np.copyto(mean, 0.0, where=missing)
        np.copyto(m2, 0.0, where=missing)
    return _Running(*buffers)


def _over_windows(rows: np.ndarray, length: int, statistic: object) -> np.ndarray:
    """A robust statistic of every `length` neighbouring rows."""
    windows = np.lib.stride_tricks.sliding_window_view(rows, length, axis=0)  # (m, w, length)
    m, w, _ = windows.shape
    out = np.empty((m, w))
    step = max(1, WINDOW_VALUES // (length * max(1, w)))
    for a, b in blocks.spans(0, m, step):
        out[a:b] = statistic(windows[a:b], axis=2)  # type: ignore[operator]  # median or mad
    return out
