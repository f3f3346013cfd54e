"""Groups: labels become codes, codes become sorted slices, slices become moments.

Sort once, then loop over slices. `group_moments` reads the matrix once; what it
returns merges exactly with what other rows give.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..exceptions import BatchfixError
from . import blocks
from .comoments import CoMoments, check_squares, check_underflow
from .moments import Moments
from .residuals import rest_of_rows
from .semidefinite import EXPLAINED

PILOT_SHARE = 16
PILOT_ROWS = 32
"""The shift k is the mean of every 16th row of a block's length, at most of 32.

Sum and sum of squares of x - k lose at most a factor n / m to cancellation when k is the mean of m of the n rows,
whatever the data: 16 in a short block, 128 in the longest (4096 rows).
"""

MASKED_COLUMNS = 256


@dataclass(frozen=True)
class Groups:
    """Rows sorted by group: group k is `order[starts[k]:starts[k + 1]]`.

    Examples
    --------
    >>> import numpy as np
    >>> groups = Groups.of(np.array([1, 0, 1]), 2)
    >>> groups.order.tolist(), groups.starts.tolist()
    ([1, 0, 2], [0, 1, 3])
    """

    order: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, codes: np.ndarray, n_groups: int) -> Groups:
        """Sort rows by code (0 .. n_groups - 1), rows of one group in their old order."""
        small = codes.astype(np.uint16) if n_groups < 1 << 16 else codes
        order = np.argsort(small, kind="stable")
        counts = np.bincount(codes, minlength=n_groups)
        return cls(order, np.concatenate([[0], np.cumsum(counts)]))

    @property
    def counts(self) -> np.ndarray:
        """Rows a group."""
        return np.diff(self.starts)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def rows(self, k: int) -> np.ndarray:
        """Row numbers of group k."""
        return self.order[self.starts[k] : self.starts[k + 1]]


def group_moments(X: np.ndarray, groups: Groups, z: np.ndarray) -> CoMoments:
    """Moments of X (n, p) with design columns z (n, q), group by group.

    NaN in X is missing: it is not counted, and its row does not count for that
    feature's statistics of z either. Infinity is an error. float32 is read as it
    is; all sums are float64.

    Raises
    ------
    BatchfixError
        X holds an infinity, or values so large or small that squares leave float64.
    """
    step = blocks.rows_per_block(X.shape[1])
    tasks = [
        (k, groups.order[a:b])
        for k in range(len(groups))
        for a, b in blocks.spans(int(groups.starts[k]), int(groups.starts[k + 1]), step)
    ]
    by_columns: list[CoMoments] = []
    for _, block in blocks.column_blocks(X):

        def work(task: tuple[int, np.ndarray], block: np.ndarray = block) -> CoMoments:
            return _block_moments(block, task[1], z)

        parts = blocks.run(work, tasks, block.nbytes)
        merged: list[CoMoments | None] = [None] * len(groups)
        for (k, _), part in zip(tasks, parts, strict=True):
            so_far = merged[k]
            merged[k] = part if so_far is None else so_far.add_sums(part)
        empty = _empty(block.shape[1], z.shape[1])
        by_columns.append(CoMoments.join([empty if m is None else m for m in merged]))
    moments = _beside(by_columns)
    return replace(moments, rest=rest_of_rows(moments, X, groups.order, groups.starts, z))


def _empty(p: int, q: int) -> CoMoments:
    """Moments of no row, as one group."""
    return CoMoments(
        x=Moments(*(np.zeros((1, p)) for _ in range(3))),
        z_mean=np.zeros((1, q, 1)),
        zz=np.zeros((1, q, q, 1)),
        zx=np.zeros((1, q, p)),
        rows=np.zeros(1),
        row_z_mean=np.zeros((1, q)),
        row_zz=np.zeros((1, q, q)),
        rest=np.zeros((1, p)),
    )


def _beside(parts: list[CoMoments]) -> CoMoments:
    """Lay features side by side; parts with and without missing values may be mixed."""
    if len(parts) == 1:
        return parts[0]
    wide = not all(part.complete for part in parts)

    def widen(a: np.ndarray, p: int) -> np.ndarray:
        return np.broadcast_to(a, (*a.shape[:-1], p))

    def lay(name: str) -> np.ndarray:
        if not wide:
            first: np.ndarray = getattr(parts[0], name)
            return first
        return np.concatenate([widen(getattr(c, name), c.x.n.shape[1]) for c in parts], axis=-1)

    return CoMoments(
        x=Moments(*(np.concatenate([getattr(c.x, f) for c in parts], 1) for f in ("n", "mean", "m2"))),
        z_mean=lay("z_mean"),
        zz=lay("zz"),
        zx=np.concatenate([c.zx for c in parts], axis=-1),
        rows=parts[0].rows,
        row_z_mean=parts[0].row_z_mean,
        row_zz=parts[0].row_zz,
        rest=np.concatenate([c.rest for c in parts], axis=-1),
    )


def _block_moments(X: np.ndarray, rows: np.ndarray, z: np.ndarray) -> CoMoments:
    """Moments of some rows of one group: one pass, shifted by the mean of the first rows."""
    n, p, q = len(rows), X.shape[1], z.shape[1]
    z_rows = z[rows]
    z_mean = z_rows[0] + (z_rows - z_rows[0]).mean(axis=0)  # exact where z is constant
    z_centred = z_rows - z_mean
    z_left = z_centred.sum(axis=0)  # what rounding left in the mean of values far from 0
    zz = z_centred.T @ z_centred - np.outer(z_left, z_left) / n

    pilot = X[rows[: np.clip(n // PILOT_SHARE, 1, PILOT_ROWS)]]
    first = pilot[0].astype(np.float64)
    step = min(n, blocks.rows_per_chunk(p, X.nbytes))
    raw, work = blocks.buffers(X, step)
    total, squares, zx = np.zeros(p), np.zeros(p), np.zeros((q, p))
    with np.errstate(all="ignore"):  # what overflows or is NaN is looked at below
        # about the first row: a constant feature keeps its exact value as the shift, and m2 = 0
        shift = first + (pilot - first).mean(axis=0) if len(pilot) > 1 else first
        for a, b in blocks.spans(0, n, step):
            chunk = work[: b - a]
            np.subtract(blocks.gather(X, rows[a:b], raw), shift, out=chunk)
            total += np.add.reduce(chunk, axis=0)
            if q:
                zx += z_centred[a:b].T @ chunk
            np.multiply(chunk, chunk, out=chunk)
            squares += np.add.reduce(chunk, axis=0)
        offset = total / n
        m2 = np.maximum(squares - total * offset, 0.0)
        zx -= z_left[:, None] * offset
        odd = np.flatnonzero(~np.isfinite(squares))
        check_underflow(m2, np.abs(total) + np.abs(first - pilot[-1]), shift)

    count, mean = np.full(p, float(n)), shift + offset
    z_mean_, zz_ = z_mean[:, None], zz[:, :, None]
    if odd.size:
        if q:
            z_mean_, zz_ = np.tile(z_mean_, p), np.tile(zz_, p)
        for a, b in blocks.spans(0, odd.size, MASKED_COLUMNS):
            j = odd[a:b]
            part = _masked_moments(X[np.ix_(rows, j)].astype(np.float64), z_centred)
            count[j], mean[j], m2[j], zx[:, j] = part[:4]
            if q:
                # where nothing is observed there is no mean: that of the rows would be theirs alone, for ever
                z_mean_[:, j] = np.where(part[0] > 0, z_mean[:, None] + part[4], 0.0)
                zz_[:, :, j] = part[5]
    return CoMoments(
        x=Moments(count[None], mean[None], m2[None]),
        z_mean=z_mean_[None],
        zz=zz_[None],
        zx=zx[None],
        rows=np.array([float(n)]),
        row_z_mean=z_mean[None],
        row_zz=zz[None],
        rest=m2[None],
    )


def _masked_moments(x: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, ...]:
    """Two passes over columns with missing values; x (n, p), z (n, q) about its row mean."""
    missing = np.isnan(x)
    if np.isinf(x).any():
        raise BatchfixError(blocks.INFINITE)
    seen = ~missing
    count = seen.sum(axis=0).astype(np.float64)
    safe = np.maximum(count, 1.0)
    first = np.take_along_axis(x, seen.argmax(axis=0)[None], axis=0)[0]
    first = np.where(count > 0, first, 0.0)
    with np.errstate(over="ignore", invalid="ignore"):
        x -= first
        x[missing] = 0.0
        offset = x.sum(axis=0) / safe
        x -= offset
        x[missing] = 0.0
        left = x.sum(axis=0) / safe  # what rounding left in the mean
        m2 = np.maximum((x * x).sum(axis=0) - left * left * count, 0.0)
    check_squares(m2, np.abs(x).max(axis=0, initial=0.0), first)
    mean = np.where(count > 0, first + offset + left, 0.0)

    weights = seen.astype(np.float64)
    z_mean = (z.T @ weights) / safe
    q = z.shape[1]
    products = (z[:, :, None] * z[:, None, :]).reshape(len(z), q * q)
    zz = (products.T @ weights).reshape(q, q, x.shape[1]) - (z_mean[:, None] * (z_mean[None] * count))
    zx = z.T @ x - z_mean * (left * count)
    flat = np.einsum("jjp->jp", zz) <= EXPLAINED * (z * z).sum(axis=0)[:, None]  # all rounding where z does not vary
    zz, zx = np.where(flat[:, None] | flat, 0.0, zz), np.where(flat, 0.0, zx)
    return count, mean, m2, zx, z_mean, zz
