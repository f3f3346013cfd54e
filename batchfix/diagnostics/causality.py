"""Causality: whether anything before a moment depends on what came after it.

A transformer and a table flow in; a verdict flows out, with the first value that moved if one did. With f the
transformer's `fit_transform`, and X[:t] the rows up to a cut t:

    truncate    f(X[:t])                              must equal    f(X)[:t]
    perturb     f(X with other values after t)[:t]    must equal    f(X)[:t]
    gap         f(X[:t])    must equal    f(X)[:t]    with the same values of row t made missing in both
    held out    what was fitted to X[:t] transforms X[t:t+k] as it does the first k rows of X[t:]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.utils import check_random_state

from ..correctors.times import Times, clock_levels, index_times
from ..exceptions import BatchfixError
from .futures import CHANGES, Cut, Run, ShortPastError, other_futures
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
    probe : {"truncate", "noise", "scale", "missing", "gap", "held out"} or None
        What was done to the future when something moved: cut off; or its values given noise, made a thousand times as
        large (or small, beyond 1e30), or made missing; or cut off after some last values of the past had been made
        missing; or cut off from the rows that are transformed by what was fitted to the past.
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
        Largest move that counts as none, in units of the value, or of its column's median magnitude if that is larger.
    possible : int
        Cuts that there are. A leak may reach across cuts that were not tried only.
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
    possible: int = 0

    def __bool__(self) -> bool:
        return self.causal

    def __str__(self) -> str:
        if self.causal:
            within = f"by more than {self.tolerance:g} of itself" if self.tolerance else "by a single bit"
            many = f"{len(self.cuts)} cut{'s' if len(self.cuts) > 1 else ''}"
            said = f"Causal: at {many}, whatever came after it ({', '.join(self.probes)}), nothing moved {within}."
            if len(self.cuts) >= self.possible:
                return said
            return (
                f"{said} A leak that reaches across none of these cuts is not seen; cuts='all' tries {self.possible}."
            )
        done = {
            "truncate": "with the rows after {} cut off",
            "noise": "with noise on the rows after {}",
            "scale": "with the rows after {} a thousand times as large",
            "missing": "with the rows after {} missing",
            "gap": "with some values at {} missing, and the rows after it cut off",
            "held out": "fitted to the rows up to {}, and with the later ones of those to transform cut off",
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
    cuts: int | str | Sequence[Any] = 5,
    time: str | int | None = None,
    labels: Sequence[str | int] = (),
    tolerance: float = TOLERANCE,
    held_out: bool = True,
    random_state: Any = 0,
    fit_params: Mapping[str, Any] | None = None,
) -> Causality:
    """Whether the past of a transformer's output stays as it is when the future is cut off or changed.

    Only a cut between a value and what it leaks from can show a leak. What is learned from all rows shows at any cut;
    what looks a day ahead shows at any, too; a look ahead on few days needs a cut on one of them, or `cuts="all"`.

    Parameters
    ----------
    transformer : transformer or function
        Anything with `fit_transform`, or `fit` and `transform`: each run fits a clone. Or a function of a table that
        returns a row for each row.
    X : table
        Array, pandas or polars DataFrame; never changed. Rows are in the order of time, or told by `time`.
    y : array (n,), optional
        The target, cut and perturbed (numbers only) with the rows.
    cuts : int, "all" or sequence, default 5
        How many, evenly between the first and last time, and where values are missing as many more, each where a gap is
        about to end; all there are; or the last times (without times: numbers of rows) of each past. Of cuts that are
        not named, those are passed over whose past the transformer refuses, as one that is too short for a window.
    time : str or int, optional
        Column or index level with the times of rows, as in a long panel; of arrays a column position. By default a
        DatetimeIndex or PeriodIndex, else the order of the rows. A panel must name its own.
    labels : sequence, optional
        Columns that are no values, such as symbols or sectors coded as numbers: they are not perturbed. Neither are
        `time` and columns that are not floats (of arrays: all are values).
    tolerance : float, default 1e-9
        Largest move that counts as none, in units of the value, or of its column's median magnitude (zeros left out)
        if that is larger. 0: bit for bit.
    held_out : bool, default True
        Whether to fit to each past, too, and transform what came after it, as a search over time does: a row must not
        depend on later rows of its block. False where new rows bring labels that the transformer cannot know. Of
        `fit_params` transform is given those that it names.
    random_state : int, RandomState or None
        Of the noise.
    fit_params : dict, optional
        Further arguments of `fit_transform` (or `fit`, or the function). What has as many entries as X has rows is cut
        with the rows.

    Returns
    -------
    Causality

    Raises
    ------
    BatchfixError
        No cut is possible, the output has other rows than X, differs from run to run, or cannot be had of the rows up
        to a cut; names that X has not; a panel that does not say what its times are.

    Notes
    -----
    Each run starts from a clone. What a function or class remembers from one run to the next, outside of the object
    that is fitted, is not seen. Values are made missing only where the transformer says that it allows NaN (or, of a
    function, where some are missing already): an imputer then shows on a table without gaps, too.

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
    if not (isinstance(tolerance, Real) and tolerance >= 0):
        raise BatchfixError(f"tolerance must be a number, 0 or more; got {tolerance!r}.")
    run = Run(transformer, dict(fit_params or {}))
    X = X if hasattr(X, "columns") or sparse.issparse(X) else np.asarray(X)
    if X.ndim != 2 if hasattr(X, "ndim") else len(X.shape) != 2:
        raise BatchfixError(f"X must have rows and columns, got shape {X.shape}. Use X.reshape(-1, 1) for one column.")
    n = X.shape[0]
    fixed = _fixed(X, time, labels)
    moments, shown = _times(X, n, time)
    every, tried = np.unique(moments), _cuts(cuts, moments, shown, X, fixed)
    whole = run(X, y, None, n)
    _refuse_random(whole, run(X, y, None, n))
    probes = ["truncate", *CHANGES, "gap", "held out"]
    if not run.allows_missing(X):
        probes = [probe for probe in probes if probe not in ("missing", "gap")]
    if not (held_out and run.continues):
        probes.remove("held out")
    named = not isinstance(cuts, int | Integral | str)

    def given() -> dict[str, Any]:
        return {
            "cuts": tuple(shown(cut) for cut in tried),
            "probes": tuple(probes),
            "tolerance": float(tolerance),
            "possible": len(every) - 1,
        }

    for k, at in enumerate(list(tried)):
        later = every[every > at]
        past, last, future, soon = (
            np.flatnonzero(here)
            for here in (
                moments <= at,
                moments == at,
                moments > at,
                (moments > at) & (moments <= later[(len(later) - 1) // 2]),
            )
        )
        futures = other_futures(
            run, X, y, whole, Cut(k, past, last, future, soon), probes, fixed, check_random_state(random_state)
        )
        try:
            for probe, rows, before, after in futures:
                moved = first_move(before, after, float(tolerance))
                if moved:
                    row = moved.pop("row", None)
                    if row is not None:
                        moved["row"] = X.index[rows[row]] if isinstance(X, pd.DataFrame) else int(rows[row])
                    return Causality(False, **given(), probe=probe, cut=shown(at), **moved)
        except ShortPastError:
            tried.remove(at)
            if named or not tried:
                raise
    return Causality(True, **given())


def _fixed(X: Any, time: Any, labels: Any) -> set[Any]:
    """Columns that are no values: each must be there."""
    if isinstance(labels, str) or not np.iterable(labels):
        raise BatchfixError(f"labels must be a list of columns; got {labels!r}. Use labels=[{labels!r}].")
    named = [*labels] if time is None else [time, *labels]
    if not hasattr(X, "columns"):
        for name in named:
            is_number = isinstance(name, int | np.integer) and not isinstance(name, bool)
            if not is_number or not -X.shape[1] <= name < X.shape[1]:
                raise BatchfixError(
                    f"time and labels must be column positions of an array of {X.shape[1]} columns; got {name!r}."
                )
        return set(named)
    known = [*X.columns, *(X.index.names if isinstance(X, pd.DataFrame) else ())]
    for name in named:
        if name not in known:
            raise BatchfixError(
                f"time and labels must name columns or index levels of X; got {name!r}, and X has no such."
            )
    return set(named)


def _times(X: Any, n: int, time: str | int | None) -> tuple[np.ndarray, Callable[[Any], Any]]:
    """A number for the moment of each row, and what to call it."""
    found: Any = None
    if time is not None:
        if isinstance(X, pd.DataFrame):
            found = X[time] if time in X.columns else X.index.get_level_values(time)
        elif hasattr(X, "columns"):
            found = X[time].to_numpy()
        else:
            found = X[:, [int(time)]].toarray().ravel() if sparse.issparse(X) else X[:, int(time)]
    elif isinstance(X, pd.DataFrame) and isinstance(X.index, pd.MultiIndex):
        clocks = clock_levels(X.index)
        if clocks:
            raise BatchfixError(
                f"Which index level is the time of a row must be named; got levels {list(X.index.names)!r}. Use "
                f"time={clocks[0]!r}."
            )
    elif isinstance(X, pd.DataFrame):
        found = index_times(X.index)
    if found is None:
        return np.arange(1, n + 1), int
    _, first, codes = np.unique(Times.of(found).values, return_index=True, return_inverse=True)
    names = (found if isinstance(found, pd.Index) else pd.Index(found))[first]
    return codes, lambda code: names[int(code)]


def _cuts(
    cuts: int | str | Sequence[Any], moments: np.ndarray, shown: Callable[[Any], Any], X: Any, fixed: set[Any]
) -> list[Any]:
    """The last moments of the pasts, each with a future."""
    every = np.unique(moments)
    if len(every) < 2:
        raise BatchfixError(f"There must be a past and a future; got {len(every)} time(s). Pass more rows.")
    if isinstance(cuts, str):
        if cuts != "all":
            raise BatchfixError(f"cuts must be a number, a list of times or 'all'; got {cuts!r}. Use [{cuts!r}].")
        return list(every[:-1])
    if isinstance(cuts, int | Integral):
        if cuts < 1:
            raise BatchfixError(f"cuts must be at least 1; got {cuts!r}.")
        even = _evenly(every[:-1], int(cuts), inner=True)
        gaps = _gap_ends(moments, _missing(X, fixed))
        return sorted({*even, *_evenly(gaps[gaps >= even[0]], int(cuts))})
    named = pd.Index([shown(moment) for moment in every])
    places = named.searchsorted(_like(cuts, named), side="right") - 1
    outside = (places < 0) | (places >= len(every) - 1)
    if len(places) == 0 or outside.any():
        raise BatchfixError(
            f"Each cut must leave rows before and after it, from {_say(named[0])} to before {_say(named[-1])}; got "
            f"{list(cuts)!r}."
        )
    return list(every[np.unique(places)])


def _evenly(moments: np.ndarray, many: int, *, inner: bool = False) -> list[Any]:
    """Some moments of many, the first and last among them unless `inner`."""
    if not len(moments):
        return []
    places = np.linspace(0, len(moments), many + 2)[1:-1] if inner else np.linspace(0, len(moments) - 1, many)
    return list(moments[np.unique(np.clip(np.round(places).astype(int), 0, len(moments) - 1))])


def _gap_ends(moments: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """The last moments of gaps; of a panel, whose next rows are other symbols', all moments with a gap."""
    if len(np.unique(moments)) < len(moments):
        ends = moments[missing.any(axis=1)]
        return np.unique(ends[ends < moments.max()])
    order = np.argsort(moments)
    is_missing = missing[order]
    return np.asarray(moments[order[:-1]][(is_missing[:-1] & ~is_missing[1:]).any(axis=1)])


def _missing(X: Any, fixed: set[Any]) -> np.ndarray:
    """Which values (n, p) are missing."""
    if isinstance(X, pd.DataFrame):
        return np.asarray(X.loc[:, [name not in fixed for name in X.columns]].isna())
    if hasattr(X, "columns"):  # polars
        return np.column_stack([pd.isna(X[name].to_numpy()) for name in X.columns if name not in fixed])
    return np.asarray(pd.isna(X.toarray() if sparse.issparse(X) else X))


def _like(cuts: Sequence[Any], named: pd.Index) -> pd.Index:
    try:
        if isinstance(named, pd.DatetimeIndex):
            times = pd.DatetimeIndex(pd.to_datetime(list(cuts)))
            return times.tz_localize(named.tz) if times.tz is None else times.tz_convert(named.tz)
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
