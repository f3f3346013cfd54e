"""VarianceDisplay: stacked bars of what batch, each kept column, both together and nothing explain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from ..variance import VarianceExplained, variance_explained
from .canvas import SMALL, Display, figure_of, given_axes, ink, legend, legend_height, new_figure, readable_on, tidy
from .canvas import require_matplotlib as require
from .palette import RESIDUAL, SHARED, look
from .tables import corrected, frames, named
from .words import listed, percent, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAMED = 0.06
"""Smallest part that has room for its number."""


class VarianceDisplay(Display):
    """A bar for each table: shares of its variance, each factor's beyond all others.

    Where factors mask each other, what they share is negative and stands left of 0.

    Parameters
    ----------
    explained : dict of VarianceExplained
        By table.
    adjusted : bool
        Whether shares are adjusted for degrees of freedom.

    Attributes
    ----------
    ax_ : Axes
    bars_ : dict of list of Rectangle
        By part, one a table.
    figure_ : Figure

    Examples
    --------
    >>> from batchfix import ComBat
    >>> from batchfix.datasets import make_lab
    >>> from batchfix.diagnostics.displays import VarianceDisplay
    >>> lab = make_lab(60, 20, random_state=0)
    >>> display = VarianceDisplay.from_estimator(ComBat(), lab.data, batch=lab.batch, keep=lab.group)
    >>> list(display.bars_)
    ['batch', 'group', 'shared', 'residual']
    """

    ax_: Axes
    bars_: dict[str, list[Any]]

    def __init__(self, explained: Mapping[str, VarianceExplained], *, adjusted: bool = False) -> None:
        self.explained = dict(explained)
        self.adjusted = adjusted

    @classmethod
    def from_tables(
        cls, before: Any, after: Any = None, *, batch: Any, keep: Any = None, adjusted: bool = False, ax: Any = None
    ) -> Self:
        """From tables of the same samples and features; `after` may be several by name. See `variance_explained`."""
        require()
        tables, _ = frames(named(before, after), "A share of the whole table's variance")
        return cls(
            {name: variance_explained(table, batch, keep) for name, table in tables.items()}, adjusted=adjusted
        ).plot(ax)

    @classmethod
    def from_estimator(
        cls, corrector: Any, X: Any, *, batch: Any = None, keep: Any = None, adjusted: bool = False, ax: Any = None
    ) -> Self:
        """From a corrector: fitted, it transforms X; unfitted, a clone is fitted to X first.

        Batch explains nothing of the very rows that a location was fitted to, whatever it does for others.
        """
        require()
        before, after, batch, keep = corrected(corrector, X, batch, keep)
        return cls.from_tables(before, after, batch=batch, keep=keep, adjusted=adjusted, ax=ax)

    @property
    def _column(self) -> str:
        return "R2_adjusted" if self.adjusted else "R2"

    @property
    def _parts(self) -> list[str]:
        return list(next(iter(self.explained.values())).table.index)

    def plot(self, ax: Any = None) -> Self:
        """Draw, into a new figure or the caller's axes."""
        if ax is None:
            figure = new_figure(0.75 + 0.42 * len(self.explained) + legend_height(self._parts))
            where: Any = figure
            ax = figure.subplots()
        else:
            (ax,) = given_axes(ax, 1)
            where = ax
        tables = list(self.explained)
        parts = self._parts
        right, left = dict.fromkeys(tables, 0.0), dict.fromkeys(tables, 0.0)
        bars: dict[str, list[Any]] = {part: [] for part in parts}
        for k, part in enumerate(parts):
            color, hatch = _look(k, part)
            for row, name in enumerate(tables):
                share = float(self.explained[name].table.loc[part, self._column])
                beside = right if share >= 0 else left
                (bar,) = ax.barh(
                    row, share, left=beside[name], height=0.66, color=color, hatch=hatch, edgecolor=ink(), linewidth=0.5
                )
                if abs(share) >= NAMED:
                    ax.text(
                        beside[name] + share / 2,
                        row,
                        percent(share),
                        ha="center",
                        va="center",
                        fontsize=SMALL,
                        color=readable_on(color),
                        bbox={"facecolor": color, "edgecolor": "none", "pad": 2.0},
                    )
                beside[name] += share
                bars[part].append(bar)
        self._finish(ax, where, tables, bars)
        self.ax_, self.bars_, self.figure_ = ax, bars, figure_of(ax)
        return self

    def _finish(self, ax: Axes, where: Any, tables: list[str], bars: dict[str, list[Any]]) -> None:
        from matplotlib.ticker import PercentFormatter

        tidy(ax)
        low = min(min(0.0, *(bar.get_x() + bar.get_width() for bar in each)) for each in bars.values())
        high = max(max(1.0, *(bar.get_x() + bar.get_width() for bar in each)) for each in bars.values())
        ax.set(xlim=(low, high), ylim=(len(tables) - 0.5, -0.5))
        ax.set_yticks(range(len(tables)), [short(name) for name in tables], fontsize=SMALL + 1)
        ax.tick_params(axis="y", length=0)
        ax.xaxis.set_major_formatter(PercentFormatter(1.0))
        ax.set_xlabel(f"share of variance{', adjusted' if self.adjusted else ''}", fontsize=SMALL + 1)
        if low < 0:
            ax.axvline(0, color=ink(), linewidth=0.8)
        legend(where, [each[0] for each in bars.values()], bars, below=-0.45)

    def describe(self) -> str:
        """What is seen, in sentences with numbers."""
        said = []
        for name, found in self.explained.items():
            shares = found.table[self._column]
            said.append(f"{name}: {', '.join(f'{part} {percent(share)}' for part, share in shares.items())}")
        kind = "Adjusted shares" if self.adjusted else "Shares"
        return f"{kind} of variance, each beyond the others, in {listed(self.explained)}. {'. '.join(said)}."


def _look(k: int, part: str) -> tuple[str, str]:
    """Colour and hatch of a part."""
    if part == "shared":
        return SHARED, ""
    if part == "residual":
        return RESIDUAL, ""
    return look(k).color, look(k).hatch
