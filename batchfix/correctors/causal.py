"""CausalCorrector: each column by its own past.

A table whose rows are in the order of time flows in, wide (a row a date, a column a stock) or long (a row a date and
symbol, a column a factor); each value measured by the window of its column that ended before it flows out:

    z_t = (x_t - mean_{t-lag}) / sd_{t-lag}
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from sklearn.utils._set_output import _wrap_data_with_container
from sklearn.utils.validation import check_is_fitted

from ..core.causal import LARGE, restore, standardize
from ..core.windows import State, Window
from ..exceptions import BatchfixError, MergeError, TooFewSamplesError
from .causal_parameters import CausalParameters
from .panels import Panel
from .rowwise import RowwiseCorrector, Table, refuse_infinite
from .times import Times, index_times, show

EXPECTED_FAILED_CHECKS = {
    "check_transformer_general": "transform continues after the rows of fit, and cannot repeat fit_transform on them",
    "check_transformer_data_not_an_array": "as check_transformer_general",
    "check_methods_subset_invariance": "a row is measured by the rows before it, so a subset gives other values",
    "check_methods_sample_order_invariance": "rows in another order have another past",
}
"""The checks of scikit-learn's `check_estimator` that ask for what a causal pass must not do, with the reasons."""


@dataclass(frozen=True, eq=False)
class Reading:
    """A table, its times, and where its rows belong if it is long."""

    table: Table
    times: Times | None
    panel: Panel | None
    symbols: np.ndarray


class CausalCorrector(CausalParameters, RowwiseCorrector):
    """Standardise each column by its own past: z_t = (x_t - center) / scale, both of rows up to t - lag.

    `fit_transform(X)` is the causal pass from nothing. `fit` keeps the state after the last row; `transform` continues
    from it, as if its rows came right after those of fit, and stores nothing: what `TimeSeriesSplit` needs.
    `partial_fit` moves the state on, and equals fitting on all rows at once.

    Parameters
    ----------
    window : {"expanding", "rolling", "ewm"}, default "expanding"
        Every row so far; the last `length` rows; or weights that halve every `halflife` rows (pandas' ewm with
        adjust=True, ignore_na=False, bias=False).
    center : {"mean", "median"} or None, default "mean"
        The median in rolling windows only: of a window that grows it needs every row, which the state does not hold.
    scale : {"std", "mad"} or None, default "std"
        The MAD, x 1.4826 and so consistent with the standard deviation, in rolling windows only.
    length : int, optional
        Rows of a rolling window (dates, of a long table); missing values count as rows, though not as values.
    halflife : float, optional
        Of window "ewm", in rows; at least .001.
    lag : int, default 1
        Row t is measured by rows up to t - lag. 0 lets it measure itself.
    min_periods : int, default 2
        Observed values a window must hold; before that, NaN.
    ddof : float, default 1
        The variance divides by n - ddof. Of window "ewm" at most 1.
    time : str or int, optional
        The column or index level that holds the times of rows, by name (on arrays: column position). By default a
        DatetimeIndex or PeriodIndex. Other tables, and arrays, have no times: their rows count as in order. Nothing
        is asked of the steps between times: a day that no row has is no row of a window.
    by : str or int, optional
        The column or index level of symbols: the table is long, and needs times. Rows in any order; symbols that are
        new start from nothing. Rows of a window, lag and half-life are the dates that any symbol of the table has: a
        symbol without a row on a date is missing there, so that beside symbols of other dates its windows hold fewer
        values. Of symbols that trade by other calendars, or at moments of their own, make a table for each.
    bridge : {"clip", "blend", "ewm"}, optional
        Measure by a `short` window, moved toward the frame of the long one (`window`) as batch renormalization does:
        z = r z_short + d with r = scale_short / scale_long and d = (center_short - center_long) / scale_long.
        "clip": r in [1 / r_max, r_max] and d in [-d_max, d_max]; "ewm": the same, with an exponential short window;
        "blend": the share `blend` of the way from the short frame to the long one.
    short : int or float, optional
        Rows of the short window; of "ewm" its half-life.
    r_max, d_max : float, default 3, 5
        Limits of the bridge. 1 and 0: the short window alone; both inf: the long one alone.
    blend : float, default 0.5
        Between 0, the short window alone, and 1, the long one alone.
    copy : bool, default True
        False writes into X where it can.

    Attributes
    ----------
    window_ : batchfix.core.windows.Window
        What the parameters asked for in fit. They must stay so until the next fit.
    state_ : batchfix.core.windows.State
        What the past leaves: moments, and the last `lag` rows (of a rolling window: its rows).
    last_time_ : int, float or None
        Time of the last row, as `batchfix.correctors.times` counts it.
    time_kind_ : str or None
        What times are: "datetime", "period[D]", "number" and so on.
    symbols_ : array
        Symbols of a long table, in the order of the state's columns; empty for a wide one.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Notes
    -----
    Where a window is constant (scale at most 64 rounding units of the location), z is exactly 0 for that same constant
    and NaN for any other value: nothing tells how large its move is. To the MAD a window is constant where more than
    half of its values are alike; with center=None, z is NaN there. A bridge asks both its windows for `min_periods`
    values and a scale, unless its limits are inf, or `blend` is 1: five equal returns give NaN through a short window
    of five. Missing values stay missing and are never counted. Rolling windows are not kept up to date by subtraction:
    what has left leaves no trace.

    References
    ----------
    Welford 1962; Chan, Golub and LeVeque 1983, equation 2.1; Ioffe 2017, equation 1 (the bridge).

    Examples
    --------
    >>> import pandas as pd
    >>> days = pd.date_range("2024-01-01", periods=5)
    >>> returns = pd.DataFrame({"AAA": [0.01, 0.03, 0.05, 0.01, 0.02]}, index=days)
    >>> model = CausalCorrector()
    >>> model.fit_transform(returns)["AAA"].round(2).tolist()
    [nan, nan, 2.12, -1.0, -0.26]
    >>> model.fit(returns[:4]).transform(returns[4:])["AAA"].round(2).tolist()
    [-0.26]
    """

    def __init__(
        self,
        window: str = "expanding",
        *,
        center: str | None = "mean",
        scale: str | None = "std",
        length: int | None = None,
        halflife: float | None = None,
        lag: int = 1,
        min_periods: int = 2,
        ddof: float = 1,
        time: str | int | None = None,
        by: str | int | None = None,
        bridge: str | None = None,
        short: float | None = None,
        r_max: float = 3.0,
        d_max: float = 5.0,
        blend: float = 0.5,
        copy: bool = True,
    ) -> None:
        self.window = window
        self.center = center
        self.scale = scale
        self.length = length
        self.halflife = halflife
        self.lag = lag
        self.min_periods = min_periods
        self.ddof = ddof
        self.time = time
        self.by = by
        self.bridge = bridge
        self.short = short
        self.r_max = r_max
        self.d_max = d_max
        self.blend = blend
        self.copy = copy

    # ---- the verbs

    def fit(self, X: Any, y: Any = None) -> Self:
        """Keep the state that these rows leave.

        Parameters
        ----------
        X : table
            (n dates, p columns), or long. NaN is missing.
        y
            Not used.

        Raises
        ------
        BatchfixError
            Parameters that do not go together, times that are missing, repeat or fall, a symbol twice on a date,
            infinity, a rolling window longer than the data.
        """
        self._learn(X, from_nothing=True)
        return self

    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Move the state on by rows that came later; the same, to the bit, as fitting on all rows.

        Raises
        ------
        BatchfixError
            As `fit`, and where rows are not later than the state, or dated in the future.
        """
        self._learn(X, from_nothing=False)
        return self

    def fit_transform(self, X: Any, y: Any = None) -> Any:
        """The causal pass from nothing; and `fit`."""
        table, out = self._learn(X, from_nothing=True, measure=True)
        return self._wrap(out, table, table.names)

    def transform(self, X: Any) -> Any:
        """Continue from the state, without moving it: X (n, p) must come right after the rows seen so far.

        Returns
        -------
        table of X's kind, columns and index, without key columns
        """
        check_is_fitted(self, "state_")
        self._refuse_other_parameters()
        reading = self._take(X, reset=False)
        out = self._output_for(reading.table)
        self._pass(reading, self.window_, out)
        return self._wrap(out, reading.table, reading.table.names)

    def advance(self, X: Any) -> Any:
        """`transform`, and `partial_fit` with the same rows, in one pass: a stream corrected as it comes.

        From nothing, too. What is refused leaves the state as it was.

        Returns
        -------
        table of X's kind, columns and index, without key columns

        Examples
        --------
        >>> import numpy as np
        >>> stream = CausalCorrector("expanding", scale=None)
        >>> [stream.advance(np.array([[day]])).item() for day in (1.0, 3.0, 8.0)]
        [nan, nan, 6.0]
        """
        table, out = self._learn(X, from_nothing=False, measure=True)
        return _wrap_data_with_container("transform", self._wrap(out, table, table.names), X, self)

    def inverse_transform(self, X: Any) -> Any:
        """Values back from what `transform` returned: each is restored by the past before it, row after row.

        The state must be the one that `transform` continued from; key columns that were consumed must be there again.

        Raises
        ------
        BatchfixError
            With lag=0 or a bridge; or where a value became NaN for want of a past, and is lost.
        """
        check_is_fitted(self, "state_")
        self._refuse_other_parameters()
        window = self.window_
        if self.lag == 0 or self.bridge is not None:
            raise BatchfixError(
                "inverse_transform needs a past that is known before the value is, and one frame; got "
                f"lag={self.lag!r}, bridge={self.bridge!r}. Use lag=1 and bridge=None."
            )
        reading = self._take(X, reset=False)
        values, out = reading.table.values, np.empty_like(reading.table.values)
        if reading.panel is None:
            out[...] = restore(values, window, self.state_)
        else:
            state = self._state_for(reading, window)
            for columns, rows, place in reading.panel.parts(values.shape[1]):
                width = columns.stop - columns.start
                there = np.zeros((reading.panel.n_dates, width), dtype=bool)
                there.reshape(-1, values.shape[1])[place] = True
                wide = reading.panel.pivot(values, rows, place, width)
                out[rows] = restore(wide, window, state.columns(columns), there).reshape(-1, values.shape[1])[place]
        return self._as_given(out, reading.table, reading.table.names)

    def merge(self, other: Self) -> Self:
        """Pasts follow each other and cannot be merged: each row of the later one is measured by the earlier.

        Raises
        ------
        MergeError
            Always.
        """
        raise MergeError(
            "Statistics must add up to be merged, got pasts, in which the order of rows counts. Move one corrector on "
            "over all rows with partial_fit(), in the order of time."
        )

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the columns, without those that keys consumed."""
        check_is_fitted(self, "state_")
        return np.asarray(self._features_out(input_features), dtype=object)

    # ---- reading and passing

    def _take(self, X: Any, *, reset: bool) -> Reading:
        """Read a table, its times and symbols; all checked against the state unless it is the first."""
        keys = [key for key in (self.time, self.by) if key is not None]
        if len(keys) != len(set(keys)):
            raise BatchfixError(f"time and by must name two columns or levels, got {self.time!r} for both.")
        table = self._read(X, keys, reset=reset)
        found = table.keys[self.time] if self.time is not None else None
        if found is None:
            found = index_times(None if self.by is not None and self.by in _levels(table) else table.index)
        times = None if found is None else Times.of(found)
        if not reset:
            if times is not None:
                times.refuse_earlier(self.last_time_, self.time_kind_ or "none: rows without times")
            elif self.time_kind_ is not None:
                end = show(self.last_time_, self.time_kind_)
                raise BatchfixError(
                    f"Rows must have times, as those of fit had (ending at {end}); got a "
                    f"{type(X).__name__} without. Keep the index, or name its column: time='date'."
                )
        if self.by is None:
            if times is not None:
                times.refuse_unsorted()
            return Reading(table, times, None, np.empty(0, dtype="U1"))
        if times is None:
            raise BatchfixError(
                f"A long table (by={self.by!r}) must say the time of each row; got time=None and no DatetimeIndex. "
                "Use time='date', the name of a column or index level."
            )
        known = np.empty(0, dtype="U1") if reset else self.symbols_
        panel, symbols = Panel.of(times, table.keys[self.by], known, f"{self.by!r}")
        return Reading(table, times, panel, symbols)

    def _learn(self, X: Any, *, from_nothing: bool, measure: bool = False) -> tuple[Table, np.ndarray]:
        """Move the state on, from nothing or from where it is; whatever goes wrong, what was known before stays."""
        before = dict(vars(self))
        try:
            return self._learn_rows(X, from_nothing=from_nothing, measure=measure)
        except BaseException:
            self.__dict__ = before
            raise

    def _learn_rows(self, X: Any, *, from_nothing: bool, measure: bool) -> tuple[Table, np.ndarray]:
        window = self._window()
        reset = from_nothing or not hasattr(self, "state_")
        if not reset:
            self._refuse_other_parameters()
        reading = self._take(X, reset=reset)
        if not from_nothing and reading.times is not None:
            reading.times.refuse_future(None if reset else self.last_time_)
        table = reading.table
        n = len(table.values) if reading.panel is None else reading.panel.n_dates
        if from_nothing and window.longest > n:
            raise TooFewSamplesError(
                f"A rolling window must fit into the data; got a window of {window.longest} rows and n_samples={n}. "
                "Shorten it, or build up the state with partial_fit."
            )
        out = self._output_for(table) if measure else None
        state = self._pass(reading, window, out, window.start(0) if reset else None)
        self.window_, self._asked = window, self._parameters()
        self.state_: State = state
        self.symbols_: np.ndarray = reading.symbols
        times = reading.times
        self.time_kind_: str | None = None if times is None else times.kind
        self.last_time_: int | float | None = None if times is None else times.values.max().item()
        return table, table.values if out is None else out

    def _refuse_other_parameters(self) -> None:
        """The state holds what the parameters of fit asked for, and nothing of what others would."""
        was, now = self._asked, self._parameters()
        changed = [name for name in was if was[name] != now[name]]
        if self._window() != self.window_ or "time" in changed or "by" in changed:
            raise BatchfixError(
                f"A past must go on as it began, with {', '.join(f'{name}={was[name]!r}' for name in changed)}; got "
                f"{', '.join(f'{name}={now[name]!r}' for name in changed)}. Call fit() to start anew."
            )

    def _parameters(self) -> dict[str, Any]:
        return {name: value for name, value in self.get_params().items() if name != "copy"}

    def _pass(self, reading: Reading, window: Window, out: np.ndarray | None, start: State | None = None) -> State:
        """Measure rows from a state on (by default that of fit), and return the state after them."""
        values = reading.table.values
        if out is None or not np.shares_memory(values, out):
            return self._pass_safely(reading, window, out, start)
        # of what is refused, infinity too, nothing may be written over
        large = np.fmax.reduce(values, axis=None) > LARGE or np.fmin.reduce(values, axis=None) < -LARGE
        z = np.empty_like(values) if large else out
        state = self._pass_safely(reading, window, z, start)
        if large:
            out[...] = z
        return state

    def _pass_safely(
        self, reading: Reading, window: Window, out: np.ndarray | None, start: State | None = None
    ) -> State:
        """`_pass`, where X is not written over."""
        try:
            return self._pass_over(reading, window, out, start)
        except BatchfixError:
            refuse_infinite(reading.table.values)  # it says where
            raise

    def _pass_over(self, reading: Reading, window: Window, out: np.ndarray | None, start: State | None) -> State:
        values, panel = reading.table.values, reading.panel
        if panel is None:
            first = self.state_ if start is None else window.start(values.shape[1])
            return standardize(values, window, first, out)
        first, p = self._state_for(reading, window, start), values.shape[1]
        states = []
        for columns, rows, place in panel.parts(p):
            wide = panel.pivot(values, rows, place, columns.stop - columns.start)
            states.append(standardize(wide, window, first.columns(columns), None if out is None else wide))
            if out is not None:
                out[rows] = wide.reshape(-1, p)[place]
        return states[0].beside(states[1:])

    def _state_for(self, reading: Reading, window: Window, start: State | None = None) -> State:
        """The state (by default that of fit), with columns for the symbols it does not know."""
        state = self.state_ if start is None else start
        fresh = len(reading.symbols) * reading.table.values.shape[1] - state.p
        return state.beside([window.start(fresh)]) if fresh else state


def _levels(table: Table) -> list[Any]:
    return [] if table.index is None else list(table.index.names)
