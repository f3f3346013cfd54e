"""SectorIndexDisplay: what was taken from each group's members, date by date."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from sklearn.base import clone

from ...core.naming import some
from ...exceptions import BatchfixError
from ..samples import read_samples
from .canvas import SMALL, Display, figure_of, given_axes, ink, legend, legend_height, new_figure, tidy
from .canvas import require_matplotlib as require
from .palette import look
from .words import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CENTERS = re.compile(r"(?:mean|median)\((.*)\)", re.DOTALL)
"""Names of the columns that hold what was taken away."""

MARKS = 6
"""Marks on a line, so that it is followed without colour."""


class SectorIndexDisplay(Display):
    """A line for each group: the group means that a corrector took from each date's values, summed over dates.

    Sums of returns make an index of the sector, which starts at 0. Where a group has no member that is quoted, its line
    has a gap, and goes on where it stopped.

    Parameters
    ----------
    means : DataFrame (dates, groups)
        What was taken away on each date.
    cumulative : bool
        Whether lines are sums up to each date; else the means themselves.

    Attributes
    ----------
    lines : DataFrame (dates, groups)
        What is drawn.
    ax_ : Axes
    figure_ : Figure

    Examples
    --------
    >>> from batchfix import GroupCorrector
    >>> from batchfix.datasets import make_markets
    >>> from batchfix.diagnostics.displays import SectorIndexDisplay
    >>> market = make_markets(40, 20, 4, 6, random_state=0)
    >>> display = SectorIndexDisplay.from_estimator(GroupCorrector(market.sector), market.returns)
    >>> display.lines.shape
    (40, 4)
    """

    ax_: Axes

    def __init__(self, means: pd.DataFrame, *, cumulative: bool = True) -> None:
        self.means = means
        self.cumulative = cumulative
        self.lines: pd.DataFrame = means.cumsum() if cumulative else means

    @classmethod
    def from_means(cls, means: Any, *, cumulative: bool = True, ax: Any = None) -> Self:
        """From a table of group means, dates in rows and groups in columns."""
        require()
        samples = read_samples(means, name="means")
        table = pd.DataFrame(samples.values, index=samples.rows, columns=[str(name) for name in samples.features])
        return cls(table, cumulative=cumulative).plot(ax)

    @classmethod
    def from_transformed(cls, table: Any, *, cumulative: bool = True, ax: Any = None) -> Self:
        """From what a GroupCorrector with ``return_group_stats=True`` made of a wide DataFrame.

        Raises
        ------
        BatchfixError
            It has no columns such as ``mean(Tech)`` or ``median(Tech)``.
        """
        names = list(getattr(table, "columns", ()))
        groups = {name: match[1] for name in names if (match := CENTERS.fullmatch(str(name)))}
        if not groups:
            raise BatchfixError(
                "table must hold what was taken away, in columns such as 'mean(Tech)', got "
                f"{some(names) if names else type(table).__name__}. "
                "Use GroupCorrector(..., return_group_stats=True) on a wide DataFrame."
            )
        return cls.from_means(pd.DataFrame(table[list(groups)]).rename(columns=groups), cumulative=cumulative, ax=ax)

    @classmethod
    def from_estimator(cls, corrector: Any, X: Any, *, cumulative: bool = True, ax: Any = None, **routed: Any) -> Self:
        """From a GroupCorrector and a wide DataFrame, dates in rows; a clone of it is fitted to X.

        Parameters
        ----------
        corrector : GroupCorrector or InstanceCorrector
        X : DataFrame (dates, members)
        routed
            membership, weights or exposures, as in the corrector's fit.

        Raises
        ------
        BatchfixError
            The corrector has no group statistics to return, or its table is long.
        """
        require()
        parameters = corrector.get_params() if hasattr(corrector, "get_params") else {}
        if "return_group_stats" not in parameters:
            raise BatchfixError(
                f"corrector must be one that returns group statistics, got {corrector!r}. Use GroupCorrector."
            )
        if parameters.get("within") is not None:
            raise BatchfixError(
                f"Lines over dates need a wide table, a row a date, got a corrector within={parameters['within']!r} of "
                "long ones. Pivot the table, or pass the means to from_means."
            )
        telling = clone(corrector).set_params(return_group_stats=True).set_output(transform="pandas")
        return cls.from_transformed(telling.fit_transform(X, **routed), cumulative=cumulative, ax=ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw, into a new figure or the caller's axes."""
        order = self.lines.ffill().iloc[-1].sort_values(ascending=False, na_position="last").index
        if ax is None:
            figure = new_figure(2.9 + legend_height(order))
            ax, where = figure.subplots(), figure
        else:
            (ax,) = given_axes(ax, 1)
            where = ax
        place = list(self.lines.columns)
        dates = _dates(self.lines.index)
        every = max(1, len(dates) // MARKS)
        drawn = []
        for name in order:
            k = place.index(name)
            style = look(k)
            start = (k * every) // max(1, len(place)) if every > 1 else 0
            (line,) = ax.plot(
                dates,
                self.lines[name].to_numpy(),
                color=style.color,
                linestyle=style.line,
                linewidth=1.4,
                marker=style.marker,
                markersize=4,
                markevery=(start, every),
            )
            drawn.append(line)
        tidy(ax, grid="y")
        ax.axhline(0, color=ink(0.6), linewidth=0.8, zorder=1)
        if dates.dtype.kind == "M":
            from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

            locator = AutoDateLocator(maxticks=8)  # type: ignore[no-untyped-call]  # matplotlib's are not all typed
            ax.xaxis.set_major_locator(locator)
            ax.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]  # likewise
        ax.set_ylabel("sum of removed means" if self.cumulative else "removed mean", fontsize=SMALL + 1)
        ax.margins(x=0.01)
        legend(where, drawn, order)
        self.ax_, self.figure_ = ax, figure_of(ax)
        return self

    def describe(self) -> str:
        """What is seen, in sentences with numbers."""
        last = self.lines.ffill().iloc[-1].dropna()
        rows = self.lines.index
        what = "Sums of the means" if self.cumulative else "The means"
        groups, dates = counted(self.lines.shape[1], "group"), counted(len(rows), "date")
        said = f"{what} taken from {groups} on {dates}, {_say(rows[0])} to {_say(rows[-1])}."
        if not len(last):
            return f"{said} No group has a value."
        if len(last) == 1:
            return f"{said} At the end {last.index[0]} is at {last.iloc[0]:.3g}."
        high, low = last.idxmax(), last.idxmin()
        return f"{said} At the end {high} is highest ({last[high]:.3g}) and {low} lowest ({last[low]:.3g})."


def _dates(index: pd.Index) -> np.ndarray:
    """Dates or numbers as they are; positions of anything else."""
    if isinstance(index, pd.PeriodIndex):
        index = index.to_timestamp()
    if isinstance(index, pd.DatetimeIndex):
        return np.asarray(index.tz_localize(None).to_numpy())
    return index.to_numpy() if pd.api.types.is_numeric_dtype(index) else np.arange(len(index))


def _say(date: Any) -> str:
    return str(date.date()) if isinstance(date, pd.Timestamp) and date == date.normalize() else str(date)
