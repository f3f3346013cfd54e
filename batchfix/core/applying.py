"""Applying: the maps of groups, written row by row into an output.

A matrix, its groups and one affine map a group go in; the corrected rows are written, a cache-sized piece at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..exceptions import BatchfixError
from . import blocks
from .affine import Affine
from .groups import Groups

SAFE_CENTER = 64.0
"""How many times the size of its results a center may have in the two-step form: the rounding units that it costs."""


def apply_groups(
    X: np.ndarray, groups: Groups, maps: Affine, z: np.ndarray, out: np.ndarray, unit: np.ndarray | None = None
) -> None:
    """Write `maps` of each group, applied to its rows of X, into the same rows of `out`.

    Parameters
    ----------
    X : array (n, p), float32 or float64
    groups : Groups
        Groups of the n rows.
    maps : Affine of arrays (B, p), loading (B, q, p) or None
    z : array (n, q)
        What the loading multiplies.
    out : array (n, p) of X's dtype
        May be X itself. Rows in no group are left alone.
    unit : array (p,), optional
        Spread of the result. A map whose center is of the size of its results is then applied as x scale + d, one
        step less, which is as exact.

    Raises
    ------
    BatchfixError
        X holds an infinity. Rows already written stay so: look before with
        `check_no_infinity` when `out` is X.
    """
    step = blocks.rows_per_chunk(X.shape[1], X.nbytes)
    for columns, block in blocks.column_blocks(X):
        target = out[:, columns]
        pieces = [_Piece.of(maps, k, columns, X.dtype, unit) for k in range(len(groups))]
        tasks = [
            (k, groups.order[a:b])
            for k in range(len(groups))
            for a, b in blocks.spans(int(groups.starts[k]), int(groups.starts[k + 1]), step)
        ]
        share = -(-len(tasks) // max(1, min(len(tasks), 4 * blocks.n_threads())))
        lots = [tasks[a:b] for a, b in blocks.spans(0, len(tasks), max(1, share))]

        def work(
            lot: list[tuple[int, np.ndarray]],
            block: np.ndarray = block,
            target: np.ndarray = target,
            pieces: list[_Piece] = pieces,
        ) -> None:
            buffer = np.empty((max(len(rows) for _, rows in lot), block.shape[1]), dtype=X.dtype)
            spare = np.empty_like(buffer) if maps.loading is not None else buffer
            for k, rows in lot:
                source = blocks.gather(block, rows, buffer)
                neighbours = source.base is not buffer
                chunk = target[rows[0] : rows[-1] + 1] if neighbours else source
                with np.errstate(all="ignore"):  # an overflow is an infinity, which is looked for
                    pieces[k].apply(source, z[rows], chunk, spare[: len(rows)])
                if blocks.any_infinite(chunk):
                    raise BatchfixError(blocks.INFINITE)
                if not neighbours:
                    target[rows] = chunk

        blocks.run(work, lots, block.nbytes)


def check_no_infinity(X: np.ndarray) -> None:
    """Raise if X holds an infinity: one read, nothing written."""
    step = blocks.rows_per_chunk(X.shape[1], X.nbytes)

    def work(span: tuple[int, int]) -> None:
        if blocks.any_infinite(X[span[0] : span[1]]):
            raise BatchfixError(blocks.INFINITE)

    blocks.run(work, blocks.spans(0, len(X), 4 * step), X.nbytes)


@dataclass(frozen=True)
class _Piece:
    """One group's map in X's dtype, with the steps that do nothing left out.

    In float32 the center is rounded, and the rounding is moved into the shift, so that
    x - center is exact where it matters: near the center.
    """

    center: np.ndarray | None
    scale: np.ndarray | None
    shift: np.ndarray | None
    loading: np.ndarray | None

    @classmethod
    def of(cls, maps: Affine, k: int, columns: slice, dtype: np.dtype, unit: np.ndarray | None) -> _Piece:
        center, scale, shift = (a[k, columns] for a in (maps.center, maps.scale, maps.shift))
        loading = None if maps.loading is None else maps.loading[k][:, columns]
        if loading is not None:
            loading = loading.astype(dtype, copy=False) if loading.any() else None
        if (scale == 1).all():
            move = shift - center
            return cls(None, None, move.astype(dtype) if move.any() else None, loading)
        if dtype == np.float64 and unit is not None:
            with np.errstate(over="ignore"):
                lost = np.abs(center * scale) > SAFE_CENTER * (np.abs(shift) + unit[columns])
            if not lost.any():
                return cls(None, scale, shift - center * scale, loading)
        rounded = center.astype(dtype)
        shift = shift + (rounded - center) * scale
        return cls(rounded, scale.astype(dtype), shift.astype(dtype), loading)

    def apply(self, x: np.ndarray, z: np.ndarray, out: np.ndarray, spare: np.ndarray) -> None:
        """Write the corrected x into out, which may be x; `spare`, of its shape, is for what z adds."""
        for step, value in ((np.subtract, self.center), (np.multiply, self.scale), (np.add, self.shift)):
            if value is not None:
                step(x, value, out=out)
                x = out
        if x is not out:
            out[...] = x
        if self.loading is not None:
            # not by BLAS, which rounds a row by how many there are: a subset is to give what the whole gives
            np.einsum("nk,kp->np", z.astype(out.dtype, copy=False), self.loading, out=spare)
            out += spare
