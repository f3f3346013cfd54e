"""ForecastDisplay: what correction costs as batch and biology are more and more confounded, and where one's own lie."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd

from ..design import DesignForecast, design_forecast
from .canvas import SMALL, Display, figure_of, given_axes, ink, legend, legend_height, new_figure, tidy
from .canvas import require_matplotlib as require
from .palette import COLORS, look
from .words import percent

if TYPE_CHECKING:
    pass

MOST_CONTRASTS = 6
"""So many of the worst contrasts are named; the others are grey."""

LOUDEST = 5.0
"""Noise above this is drawn at the upper edge."""

PANELS = {
    "surviving": "effect left,\nif not kept",
    "noise": "noise × without\nbatches, if kept",
    "false_positives": "false positives\nof a naive test",
}


class ForecastDisplay(Display):
    """Surviving share, noise and false positives as functions of rho2, with a design's own contrasts marked.

    rho2 is what a contrast shares with batch. Contrasts that share all of it cannot be estimated: crossed, in the first
    panel only, as noise and rate they have none. The worst are marked and named, others are grey.

    Parameters
    ----------
    forecast : DesignForecast

    Attributes
    ----------
    marked : DataFrame
        The contrasts that are named, the worst first.
    ax_, axes_ : array (3,) of Axes
        Surviving share, noise, false positives.
    figure_ : Figure

    Examples
    --------
    >>> from batchfix.diagnostics.displays import ForecastDisplay
    >>> run = ["a"] * 10 + ["b"] * 10
    >>> display = ForecastDisplay.from_labels(run, {"group": ["x"] * 8 + ["y"] * 10 + ["x"] * 2})
    >>> display.marked["rho2"].round(3).tolist()
    [0.36]
    """

    axes_: np.ndarray

    def __init__(self, forecast: DesignForecast) -> None:
        self.forecast = forecast
        known = forecast.contrasts.dropna(subset=["rho2"])
        self.marked: pd.DataFrame = known.sort_values("rho2", ascending=False, kind="stable").head(MOST_CONTRASTS)
        self._others = known.drop(self.marked.index)

    @classmethod
    def from_forecast(cls, forecast: DesignForecast, *, ax: Any = None) -> Self:
        """From a forecast."""
        require()
        return cls(forecast).plot(ax)

    @classmethod
    def from_labels(cls, batch: Any, keep: Any, nuisance: Any = None, *, ax: Any = None) -> Self:
        """From labels; see `design_forecast`."""
        require()
        return cls.from_forecast(design_forecast(batch, keep, nuisance), ax=ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw, into a new figure or the caller's axes: three, or one to be split."""
        names = self._names()
        if ax is None:
            figure = new_figure(4.3 + legend_height(names))
            axes, where = figure.subplots(len(PANELS), 1), figure
        else:
            axes = given_axes(ax, len(PANELS))
            where = axes[-1]
        marks: list[Any] = []
        for panel, (field, label) in zip(axes, PANELS.items(), strict=True):
            marks = self._panel(panel, field)
            tidy(panel, grid="y")
            panel.set_xlim(-0.02, 1.03)
            panel.set_ylabel(label, fontsize=SMALL + 1)
            panel.tick_params(labelbottom=panel is axes[-1])
        axes[-1].set_xlabel(f"rho2: what a contrast shares with {self.forecast.removed}", fontsize=SMALL + 1)
        if marks:
            legend(where, marks, names, below=-0.5)
        self.ax_ = self.axes_ = axes
        self.figure_ = figure_of(axes[0])
        return self

    def _names(self) -> list[str]:
        several = self.forecast.contrasts["column"].nunique() > 1
        return [
            f"{f'{row.column}: ' if several or row.contrast == 'slope' else ''}{row.contrast}".replace("'", "")
            + ("" if row.estimable else ", no estimate")
            for row in self.marked.itertuples()
        ]

    def _panel(self, ax: Any, field: str) -> list[Any]:
        from matplotlib.ticker import PercentFormatter

        curve = self.forecast.curve
        values = getattr(curve, field)
        low, high = {"surviving": (0.0, 1.0), "noise": (1.0, LOUDEST), "false_positives": (0.0, 1.0)}[field]
        ax.plot(curve.rho2, values, color=ink(0.7), linewidth=1.6, zorder=2)
        ax.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
        if field != "noise":
            ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        if field == "false_positives":
            alpha = self.forecast.alpha
            ax.axhline(alpha, color=COLORS[3], linewidth=1, linestyle="--")
            ax.text(1.03, alpha, f"{percent(alpha)} level", ha="right", va="bottom", fontsize=SMALL)
        others = self._at(self._others, field, low, high)
        ax.scatter(others[:, 0], others[:, 1], s=12, color=[ink(0.35)], marker="o", zorder=3)
        marks = []
        for k, (rho2, value) in enumerate(self._at(self.marked, field, low, high)):
            style = look(k)
            estimable = bool(self.marked["estimable"].iloc[k])
            marks.append(
                ax.scatter(
                    [rho2],
                    [value],
                    s=44,
                    color=style.color,
                    marker=style.marker if estimable else "x",
                    linewidths=0.6 if estimable else 2,
                    zorder=4 - 0.1 * k,
                    **({"edgecolors": [ink()]} if estimable else {}),
                )
            )
        return marks

    def _at(self, contrasts: pd.DataFrame, field: str, low: float, high: float) -> np.ndarray:
        """Points of contrasts; NaN, which is not drawn, for noise and rate of what cannot be estimated."""
        return np.column_stack([contrasts["rho2"], contrasts[field].clip(low, high)])

    def describe(self) -> str:
        """What is seen, in sentences with numbers."""
        if not len(self.marked):
            return (
                "What correction costs at each rho2; no contrast of this design can be estimated, even without batches."
            )
        said = []
        for name, row in zip(self._names(), self.marked.head(3).itertuples(), strict=False):
            if not row.estimable:
                said.append(f"{name.removesuffix(', no estimate')} cannot be told from {self.forecast.removed}")
                continue
            said.append(
                f"{name} shares {percent(row.rho2)} with {self.forecast.removed}: {percent(row.surviving)} of its "
                f"effect is left if it is not kept, {row.noise:.2f} times the noise if it is, and then "
                f"{percent(row.false_positives)} false positives at the {percent(self.forecast.alpha)} level"
            )
        more = len(self.forecast.contrasts) - len(said)
        rest = f" {more} more contrast{'s share' if more > 1 else ' shares'} less or as much." if more else ""
        return f"What correction costs as a contrast shares more with batch. {'. '.join(said)}.{rest}"
