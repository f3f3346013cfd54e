"""Causal: each column of a matrix measured by its own past, in one pass that never looks ahead.

A matrix whose rows are in the order of time flows in with the state that earlier rows left; standardised values, and
the state after them, flow out. Row t is measured by the window that ends at row t - lag:

    z_t = (x_t - center_{t-lag}) / scale_{t-lag}          NaN while the window holds fewer than min_periods values
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NoReturn

import numpy as np

from ..exceptions import BatchfixError
from . import blocks
from .expanding import BLOCK
from .moments import NOISE
from .past import Ask, History, Scratch, refuse_infinite
from .windows import State, Window

LARGE = 1e150
"""Values beyond this have no squares in float64."""

CHUNK_VALUES = 96 * 1024
"""Values of a chunk: small enough for the cache, with rows long enough that a call for each is a trifle."""


def standardize(X: np.ndarray, window: Window, state: State, out: np.ndarray | None = None) -> State:
    """Measure each row by its past, and return the state after the last.

    Parameters
    ----------
    X : array (n, p), float64 or float32
        Rows in the order of time; NaN is missing, stays where it is and is never counted.
    window : Window
    state : State
        After the rows before X: of ``window.start(p)``, or what an earlier call returned.
    out : array (n, p), optional
        Where z goes; may be X itself. Without it only the state moves on.

    Returns
    -------
    State
        The same, to the bit, however the rows are cut into calls.

    Raises
    ------
    BatchfixError
        X holds an infinity, or values whose squares leave float64 (what lies in `out` is then of no use); or the state
        is another window's.

    Notes
    -----
    Where the window is constant (its scale is at most 64 rounding units of its location), z is 0 for a value that is
    that constant too, and NaN for any other: there is no unit to measure its move by. Without a center it is NaN
    always. A bridge needs both its windows, unless it leads all the way to the long one.

    Examples
    --------
    >>> X, z = np.array([[1.0], [3.0], [4.0], [np.nan], [8.0]]), np.empty((5, 1))
    >>> window = Window()
    >>> state = standardize(X, window, window.start(1), out=z)
    >>> z.ravel().round(3).tolist()
    [nan, nan, 1.414, nan, 3.491]
    """
    window.refuse_other(state, X.shape[1])
    ask = window.ask(X.dtype)

    def work(span: slice) -> State:
        with np.errstate(all="ignore"):  # what has no past, or a flat one, is NaN or set apart
            into = None if out is None else out[:, span]
            return _walk(X[:, span], window, ask, state.columns(span), into)

    parts = blocks.run(work, _spans(X.shape[1], window), X.nbytes)
    return parts[0].beside(parts[1:])


def restore(Z: np.ndarray, window: Window, state: State, there: np.ndarray | None = None) -> np.ndarray:
    """Values back from z: each row is restored by the past before it, and then belongs to the past of the next.

    Parameters
    ----------
    Z : array (n, p)
        What `standardize` made of the rows after `state`.
    window : Window
        With lag at least 1, and without a bridge.
    state : State
        That `standardize` began with.
    there : boolean array (n, p), optional
        False where no value can have been.

    Returns
    -------
    array (n, p) of Z's dtype

    Raises
    ------
    BatchfixError
        NaN where there may have been a value: while the window held too few values, or was constant. Or rounding that
        grows from row to row: half the digits of Z are lost on the way.

    Examples
    --------
    >>> window, X = Window(), np.array([[1.0], [3.0], [4.0], [9.0]])
    >>> state, z = standardize(X[:2], window, window.start(1)), np.empty((2, 1))
    >>> _ = standardize(X[2:], window, state, out=z)
    >>> restore(z, window, state).ravel().tolist()
    [4.0, 9.0]
    """
    window.refuse_other(state, Z.shape[1])
    unit = float(np.finfo(Z.dtype).eps)
    X = _restored(Z, window, state, there)
    # what the last digit of each z does to all that comes after it
    sign = np.random.default_rng(0).choice([-unit, unit], size=Z.shape)
    with np.errstate(all="ignore"):
        moved = _restored(Z * (1 + sign), window, state, there)
        apart = np.abs(moved - X) > np.sqrt(unit) * np.maximum(np.abs(X), _spread(X))
    bad = np.argwhere(apart | (np.isinf(X) & ~np.isinf(Z)))
    if len(bad):
        _refuse_growth(int(bad[0][0]), int(bad[0][1]), Z.dtype)
    return X


def _refuse_growth(row: int, column: int, dtype: np.dtype[Any]) -> NoReturn:
    finer = "" if dtype == np.float64 else "Transform and restore in float64, or keep"
    raise BatchfixError(
        f"Values can be restored only while rounding stays small; by row {row}, column {column}, the last digit of "
        f"{dtype} has grown into the leading ones, since each restored row measures those after it. "
        f"{finer or 'Keep'} the values themselves."
    )


def _spread(X: np.ndarray) -> np.ndarray:
    """Size of what each column holds."""
    return np.asarray(np.where(np.isfinite(X), np.abs(X), 0.0).max(axis=0, initial=0.0))


def _restored(Z: np.ndarray, window: Window, state: State, there: np.ndarray | None) -> np.ndarray:
    """`restore`, whatever rounding does."""
    ask, scratch, past, pending = window.ask(Z.dtype), Scratch(), state.pasts[0], state.pending
    X = np.empty(Z.shape)
    for t, z in enumerate(Z):
        history, past = past.read(pending[:1], ask, scratch)
        lost = history.n[0] < window.least
        x = z.astype(np.float64)
        if history.scale is not None:
            lost |= history.scale[0] == 0
            x *= history.scale[0]
        if window.center is not None:
            x += history.center[0]
        lost &= np.isnan(z) if there is None else np.isnan(z) & there[t]
        if lost.any():
            raise BatchfixError(
                f"Only what was measured by a past can be restored; got NaN in row {t}, column "
                f"{int(lost.argmax())}, where the past was too short or constant and any value became NaN. "
                "Fit on more rows before it, or leave the column out."
            )
        if np.nanmax(np.abs(x), initial=0.0) > LARGE:
            _refuse_growth(t, int(np.nanargmax(np.abs(x))), Z.dtype)
        X[t] = x
        pending = np.concatenate([pending[1:], x[None]])
    return X.astype(Z.dtype)


def _walk(X: np.ndarray, window: Window, ask: Ask, state: State, out: np.ndarray | None) -> State:
    """`standardize` on columns that fit the cache, a chunk of rows after the other."""
    (n, w), lag, rows = X.shape, window.lag, _chunk_rows(window)
    scratch = [Scratch() for _ in state.pasts]
    pasts, pending = state.pasts, state.pending
    lagged = np.empty((lag + rows, w))
    for a, b in blocks.spans(0, n, rows):
        lagged[:lag] = pending
        lagged[lag : lag + b - a] = X[a:b]
        both = [past.read(lagged[: b - a], ask, s) for past, s in zip(pasts, scratch, strict=True)]
        pasts = tuple(past for _, past in both)
        if out is not None:
            out[a:b] = _standard(lagged[lag : lag + b - a], window, ask, [h for h, _ in both])
        pending = lagged[b - a : b - a + lag].copy()
    if np.isinf(pending).any():  # rows that no past has read yet
        refuse_infinite(pending)
    return State(pasts, pending)


def _standard(x: np.ndarray, window: Window, ask: Ask, histories: list[History]) -> np.ndarray:
    """z of rows whose histories are known. The arrays of the histories are overwritten."""
    bridge, long = window.bridge, histories[0]
    if bridge is None or bridge.whole:
        return _by(x, long, window, ask)
    z = _by(x, histories[1], window, ask, keep=True)
    assert long.scale is not None  # a bridge is between scales; for the type checker
    flat = np.flatnonzero(long.scale == 0)
    _forget(long.scale, long.scale == 0)
    _forget(long.scale, long.n < window.least)
    z = bridge.apply(z, histories[1], long)
    z.reshape(-1)[flat] = _flat(x, long, flat, ask)
    if long.n.min(initial=np.inf) < window.least:
        _forget(z, long.n < window.least)
    return z


def _by(x: np.ndarray, history: History, window: Window, ask: Ask, *, keep: bool = False) -> np.ndarray:
    """(x - center) / scale, into the memory of `center` unless that is to be kept."""
    center, scale = history.center, history.scale
    some_flat = scale is not None and not scale.min(initial=np.inf) > 0  # NaN among them says nothing
    flat = np.flatnonzero(scale == 0) if some_flat else np.empty(0, dtype=np.intp)
    instead = _flat(x, history, flat, ask) if window.center else np.nan
    z = np.subtract(x, center, out=None if keep else center) if window.center else x.copy()
    if scale is not None:
        z /= scale
        z.reshape(-1)[flat] = instead
    if history.n.min(initial=np.inf) < window.least:
        _forget(z, history.n < window.least)
    return z


def _flat(x: np.ndarray, history: History, flat: np.ndarray, ask: Ask) -> np.ndarray:
    """z of the cells whose window is constant: 0 where they are that constant too, else NaN."""
    center = history.center.reshape(-1)[flat]
    still = np.abs(x.reshape(-1)[flat] - center) <= NOISE * ask.eps * np.abs(center)
    return np.where(still, 0.0, np.nan)


def _forget(z: np.ndarray, where: np.ndarray) -> None:
    np.copyto(z, np.nan, where=where)


def _chunk_rows(window: Window) -> int:
    """Rows read at a time: some times a rolling window's length, since so much of the past is read with them."""
    longest = window.longest
    return max(BLOCK, longest if longest > 4 * BLOCK else 2 * longest)


def _spans(p: int, window: Window) -> list[slice]:
    """Columns in equal parts that fit the cache with their chunks; a part for each thread at least if they are many."""
    rows, longest = _chunk_rows(window), window.longest
    width = min(CHUNK_VALUES // BLOCK, 2 * CHUNK_VALUES // (rows + 2 * longest))
    parts = max(-(-p // max(8, width)), min(blocks.n_threads(), p // 256), 1)
    edges = np.linspace(0, p, parts + 1).astype(int)
    return [slice(int(a), int(b)) for a, b in pairwise(edges)]
