"""Peer rows: a table is walked block by block, the cells of each row sorted by group.

A table (rows, p), codes of groups and weights flow in; blocks of a few rows that stay in the cache, their `Peers` and
memory to work in flow to whoever measures or scores them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from . import blocks
from .peer_statistics import Scratch
from .peers import Peers

BLOCK_CELLS = 48_000
"""Cells that are worked on at a time: four arrays of them stay near the core."""

SAFE_WEIGHTS = 1e-60, 1e60
"""Largest weights of a row between these have squares and products with squares that stay in float64."""


def walk(
    X: np.ndarray,
    codes: np.ndarray,
    n_groups: int,
    weights: np.ndarray | None,
    work: Callable[[slice, np.ndarray, Peers, np.ndarray | None, Scratch], None],
) -> None:
    """Call work(rows, x, peers, weights, scratch) for each block of rows; x and weights are sorted cells, float64."""
    n, p = X.shape
    if not X.size:
        return
    fixed = Peers.of(codes, n_groups) if codes.ndim == 1 else None
    step = max(1, BLOCK_CELLS // p)

    def lot(span: tuple[int, int]) -> None:
        raw, buffer, scratch = np.empty((step, p)), np.empty((step, p)), Scratch(step * p)
        last = fixed
        for a, b in blocks.spans(*span, step):
            rows, m = slice(a, b), b - a
            np.copyto(raw[:m], X[rows])  # first as it lies, then sorted in the cache: faster than at once
            peers = last = _peers_of(codes, rows, n_groups, last) if fixed is None else fixed
            x = peers.sort(raw[:m], buffer[:m])
            w = None
            if weights is not None:
                np.copyto(raw[:m], np.broadcast_to(weights, X.shape)[rows])
                _keep_squares(raw[:m], X[rows])
                w = peers.sort(raw[:m])
            work(rows, x, peers, w, scratch)

    size = -(-n // (4 * blocks.n_threads()))
    blocks.run(lot, blocks.spans(0, n, -(-size // step) * step), X.nbytes)


def _keep_squares(weights: np.ndarray, X: np.ndarray) -> None:
    """Divide weights, in place, by the largest of their row where their squares could leave float64."""
    most = weights.max(axis=1)
    if ((most > SAFE_WEIGHTS[0]) & (most < SAFE_WEIGHTS[1])).all():
        return
    np.copyto(weights, 0.0, where=np.isnan(X))
    most = weights.max(axis=1, keepdims=True)
    np.divide(weights, most, out=weights, where=most > 0)


def _peers_of(codes: np.ndarray, rows: slice, n_groups: int, last: Peers | None) -> Peers:
    """Peers of a block; sorted once for all rows that agree, as most do where membership changes now and then."""
    own = codes[rows]
    if len(own) > 1 and not (own[1:] == own[0]).all():
        return Peers.of(own, n_groups)
    if last is not None and last.codes is not None and np.array_equal(last.codes, own[0]):
        return last
    return Peers.of(own[0], n_groups)
