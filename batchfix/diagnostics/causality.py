"""Causality: whether anything before a moment depends on what came after it.

A transformer and a table flow in; a verdict flows out, with the first value that moved if one did. With f the
transformer's `fit_transform`, and X[:t] the rows up to a cut t:

    truncate    f(X[:t])                              must equal    f(X)[:t]
    perturb     f(X with other values after t)[:t]    must equal    f(X)[:t]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.utils import check_random_state

from ..correctors.times import CLOCKS, Times
from ..exceptions import BatchfixError
from .futures import CHANGES, Run, other_futures
from .outputs import Output, first_move

TOLERANCE = 1e-9
"""Far below any leak of a value, and above the rounding of a sum in another order."""


@dataclass(frozen=True)
class Causality:
    """What `check_causality` found. True as a condition where nothing moved.

    Attributes
    ----------
    causal : bool
        Whether nothing before any cut moved.
    probe : {"truncate", "noise", "scale", "missing"} or None
        What was done to the future when something moved: cut off, or its values given noise, made a thousand times as
        large, or made missing.
    cut : object or None
        The first cut at which something moved: the last time (or position) that belongs to its past.
    row, column : object or None
        Of the first value that moved: X's index label (or position), and the name of the output's column.
    before, after : float or None
        The value with the true future, and with the other one.
    change : float or None
        Largest move of any value at that cut, by that probe; NaN where a value appeared or went missing.
    detail : str
        What moved, where it is no value: columns that come and go.
    cuts : tuple
        All cuts that were tried.
    probes : tuple of str
        All that was done to the future at each.
    tolerance : float
        Largest move that counts as none, in units of the largest magnitude in its column.
    """

    causal: bool
    cuts: tuple[Any, ...]
    probes: tuple[str, ...]
    tolerance: float
    probe: str | None = None
    cut: Any = None
    row: Any = None
    column: Any = None
    before: float | None = None
    after: float | None = None
    change: float | None = None
    detail: str = ""

    def __bool__(self) -> bool:
        return self.causal

    def __str__(self) -> str:
        if self.causal:
            within = f"by more than {self.tolerance:g} of its column" if self.tolerance else "by a single bit"
            many = f"{len(self.cuts)} cut{'s' if len(self.cuts) > 1 else ''}"
            return f"Causal: at {many}, whatever came after it ({', '.join(self.probes)}), nothing moved {within}."
        done = {
            "truncate": "with the rows after {} cut off",
            "noise": "with noise on the rows after {}",
            "scale": "with the rows after {} a thousand times as large",
            "missing": "with the rows after {} missing",
        }[str(self.probe)].format(_say(self.cut))
        if self.detail:
            return f"Not causal: {done}, {self.detail}."
        return (
            f"Not causal: {done}, row {_say(self.row)} of column {self.column!r} moved from {self.before:.6g} to "
            f"{self.after:.6g} (largest move {self.change:.3g}). What is learned from all rows must be learned from "
            "those before: fit on the past alone, or use CausalCorrector."
        )


def check_causality(
    transformer: Any,
    X: Any,
    *,
    y: Any = None,
    cuts: int | Sequence[Any] = 5,
    time: str | int | None = None,
    labels: Sequence[str | int] = (),
    tolerance: float = TOLERANCE,
    random_state: Any = 0,
    fit_params: Mapping[str, Any] | None = None,
) -> Causality:
    """Whether the past of a transformer's output stays as it is when the future is cut off or changed.

    Parameters
    ----------
    transformer : transformer or function
        Anything with `fit_transform`, or `fit` and `transform`: each run fits a clone. Or a function of a table that
        returns a row for each row.
    X : table
        Array, pandas or polars DataFrame; never changed. Rows are in the order of time, or told by `time`.
    y : array (n,), optional
        The target, cut and perturbed (numbers only) with the rows.
    cuts : int or sequence, default 5
        How many, evenly between the first and last time; or the last times (without times: numbers of rows) of each
        past.
    time : str or int, optional
        Column or index level with the times of rows, as in a long panel; of arrays a column position. By default a
        DatetimeIndex or PeriodIndex, else the order of the rows.
    labels : sequence, optional
        Columns that are no values, such as symbols or sectors coded as numbers: they are not perturbed. Neither are
        `time` and columns that are not floats (of arrays: all are values).
    tolerance : float, default 1e-9
        Largest move that counts as none, in units of the largest magnitude in its column. 0: bit for bit.
    random_state : int, RandomState or None
        Of the noise.
    fit_params : dict, optional
        Further arguments of `fit_transform` (or `fit`, or the function). What has one entry a row is cut with the rows.

    Returns
    -------
    Causality

    Raises
    ------
    BatchfixError
        No cut is possible, the output has other rows than X, differs from run to run, or cannot be had of the rows up
        to a cut.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.preprocessing import StandardScaler
    >>> from batchfix import CausalCorrector
    >>> X = np.random.default_rng(0).normal(size=(60, 3))
    >>> bool(check_causality(CausalCorrector(), X, tolerance=0))
    True
    >>> print(check_causality(StandardScaler(), X, cuts=[40]))
    Not causal: with the rows after 40 cut off, row 0 of column 0 moved from ... What is learned from all rows must ...
    """
    if not tolerance >= 0:
        raise BatchfixError(f"tolerance must be 0 or more; got {tolerance!r}.")
    run = Run(transformer, dict(fit_params or {}))
    X = X if hasattr(X, "columns") or sparse.issparse(X) else np.asarray(X)
    n = X.shape[0]
    moments, shown = _times(X, n, time)
    tried = _cuts(cuts, moments, shown)
    whole = run(X, y, None, n)
    _refuse_random(whole, run(X, y, None, n))
    probes = ("truncate", *(probe for probe in CHANGES if probe != "missing" or run.allows_missing(X)))
    found = Causality(True, tuple(shown(cut) for cut in tried), probes, float(tolerance))
    fixed = {time, *labels}
    for cut in tried:
        past = np.flatnonzero(moments <= cut)
        future = np.flatnonzero(moments > cut)
        for probe, other in other_futures(run, X, y, past, future, probes, fixed, check_random_state(random_state)):
            moved = first_move(whole.rows(past), other, tolerance)
            if moved:
                row = moved.pop("row", None)
                if row is not None:
                    moved["row"] = X.index[past[row]] if isinstance(X, pd.DataFrame) else int(past[row])
                return Causality(False, found.cuts, probes, float(tolerance), probe, shown(cut), **moved)
    return found


def _times(X: Any, n: int, time: str | int | None) -> tuple[np.ndarray, Callable[[Any], Any]]:
    """A number for the moment of each row, and what to call it."""
    found: Any = None
    if time is not None:
        if isinstance(X, pd.DataFrame) and time not in X.columns and time in X.index.names:
            found = X.index.get_level_values(time)
        elif not hasattr(X, "columns"):
            found = X[:, int(time)]
        elif time not in X.columns:
            raise BatchfixError(f"time must name a column or index level of X; got {time!r}, and X has no such.")
        else:
            found = X[time] if isinstance(X, pd.DataFrame) else X[time].to_numpy()
    elif isinstance(X, pd.DataFrame) and isinstance(X.index, CLOCKS):
        found = X.index
    if found is None:
        return np.arange(1, n + 1), int
    _, first, codes = np.unique(Times.of(found).values, return_index=True, return_inverse=True)
    names = pd.Index(found)[first]
    return codes, lambda code: names[int(code)]


def _cuts(cuts: int | Sequence[Any], moments: np.ndarray, shown: Callable[[Any], Any]) -> list[Any]:
    """The last moments of the pasts, each with a future."""
    every = np.unique(moments)
    if len(every) < 2:
        raise BatchfixError(f"There must be a past and a future; got {len(every)} time(s). Pass more rows.")
    if isinstance(cuts, int):
        if cuts < 1:
            raise BatchfixError(f"cuts must be at least 1; got {cuts!r}.")
        inner = np.linspace(0, len(every) - 1, int(cuts) + 2)[1:-1]
        return list(every[np.unique(np.clip(np.round(inner).astype(int), 0, len(every) - 2))])
    named = pd.Index([shown(moment) for moment in every])
    places = named.searchsorted(_like(cuts, named), side="right") - 1
    outside = (places < 0) | (places >= len(every) - 1)
    if len(places) == 0 or outside.any():
        raise BatchfixError(
            f"Each cut must leave rows before and after it, from {_say(named[0])} to before {_say(named[-1])}; got "
            f"{list(cuts)!r}."
        )
    return list(every[np.unique(places)])


def _like(cuts: Sequence[Any], named: pd.Index) -> pd.Index:
    try:
        if isinstance(named, pd.DatetimeIndex):
            return pd.DatetimeIndex(pd.to_datetime(list(cuts))).tz_localize(named.tz)
        return pd.Index(list(cuts)).astype(named.dtype)
    except (ValueError, TypeError) as error:
        raise BatchfixError(f"cuts must be times such as {named[0]!r}, or a number of them; got {cuts!r}.") from error


def _refuse_random(one: Output, two: Output) -> None:
    if first_move(one, two, 0.0):
        raise BatchfixError(
            "The output must be the same each time on the same rows, or nothing can be said of what moves it; it is "
            "not. Set the transformer's random_state."
        )


def _say(value: Any) -> str:
    return str(value).removesuffix(" 00:00:00")
