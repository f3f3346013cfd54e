"""DesignDisplay: how samples are spread over batches and what is kept, and which cells are empty."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd

from ...core.naming import nearest, some
from ...exceptions import BatchfixError
from ..design import Block, DesignForecast, design_forecast
from .canvas import SMALL, Display, figure_of, given_axes, ink, new_figure, readable_on, tidy
from .canvas import require_matplotlib as require
from .palette import COLORS
from .words import listed, short, short_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_BATCHES, MOST_LEVELS = 40, 14


class DesignDisplay(Display):
    """The table batch x level of a kept column: samples in each cell, empty cells hatched, blocks framed.

    Levels are compared within a block of connected batches only: where there are several, batches and levels are
    ordered by block. Of a number, mean and standard deviation in each batch are shown.

    Parameters
    ----------
    forecast : DesignForecast
    column : str, optional
        A kept column; by default the first one.

    Attributes
    ----------
    table : DataFrame (batches, levels)
        What is drawn, in the order that is drawn.
    ax_ : Axes
    figure_ : Figure

    Examples
    --------
    >>> from batchfix.diagnostics.displays import DesignDisplay
    >>> display = DesignDisplay.from_labels(["a", "a", "a", "b", "b"], {"group": ["x", "y", "y", "x", "x"]})
    >>> display.table.loc["b"].to_dict()
    {'x': 2, 'y': 0}
    """

    ax_: Axes

    def __init__(self, forecast: DesignForecast, column: str | None = None) -> None:
        self.forecast = forecast
        self.column = next(iter(forecast.tables)) if column is None else column
        if self.column not in forecast.tables:
            raise BatchfixError(
                f"column must be one that is kept, {some(forecast.tables)}, got {column!r}"
                f"{nearest(column, forecast.tables)}."
            )
        table = forecast.tables[self.column]
        blocks = forecast.blocks.get(self.column, ())
        if len(blocks) > 1:
            table = table.loc[[b for block in blocks for b in block.batches], [v for b in blocks for v in b.levels]]
        self.table = table

    @classmethod
    def from_forecast(cls, forecast: DesignForecast, *, column: str | None = None, ax: Any = None) -> Self:
        """From a forecast."""
        require()
        return cls(forecast, column).plot(ax)

    @classmethod
    def from_labels(
        cls, batch: Any, keep: Any, nuisance: Any = None, *, column: str | None = None, ax: Any = None
    ) -> Self:
        """From labels; see `design_forecast`."""
        require()
        return cls.from_forecast(design_forecast(batch, keep, nuisance), column=column, ax=ax)

    @property
    def _is_number(self) -> bool:
        return self.column not in self.forecast.blocks

    @property
    def _blocks(self) -> tuple[Block, ...]:
        return self.forecast.blocks.get(self.column, ())

    def plot(self, ax: Any = None) -> Self:
        """Draw, into a new figure or the caller's axes."""
        shown = self.table.iloc[:MOST_BATCHES]
        if ax is None:
            columns = 8 if self._is_number else min(len(self.table.columns), MOST_LEVELS)
            width = float(np.clip(2.2 + 0.62 * columns, 3.6, 6.2))
            figure = new_figure(1.25 + 0.21 * max(3, len(shown)), width)
            figure.suptitle(short(f"batch × {self.column}", 40), fontsize=SMALL + 2)  # wider than the table itself
            ax = figure.subplots()
        else:
            (ax,) = given_axes(ax, 1)
            ax.set_title(short(f"batch × {self.column}", 40), fontsize=SMALL + 2)
        self._means(ax, shown) if self._is_number else self._counts(ax, shown.iloc[:, :MOST_LEVELS])
        sizes = self.forecast.batch_sizes
        names = [f"{name} ({sizes[b]})" for name, b in zip(short_names(shown.index, 18), shown.index, strict=True)]
        ax.set_yticks(range(len(shown)), names, fontsize=SMALL)
        ax.set_ylim(len(shown) - 0.5, -0.5)
        ax.tick_params(length=0)
        left = self._left_out()
        if left:
            ax.set_xlabel(left if not self._is_number else f"{ax.get_xlabel()}; {left}", fontsize=SMALL)
        self.ax_, self.figure_ = ax, figure_of(ax)
        return self

    def _left_out(self) -> str:
        """What the picture has no room for."""
        batches, levels = len(self.table) - MOST_BATCHES, len(self.table.columns) - MOST_LEVELS
        parts = [f"{batches} more batches"] * (batches > 0)
        parts += [f"{levels} more levels"] * (levels > 0 and not self._is_number)
        return f"and {listed(parts)}" if parts else ""

    def _counts(self, ax: Axes, shown: pd.DataFrame) -> None:
        from matplotlib.patches import Rectangle

        counts = shown.to_numpy()
        filled = np.ma.masked_equal(counts, 0)
        darkest = 1.3 * max(1, counts.max())
        image = ax.imshow(filled, cmap="Blues", vmin=0, vmax=darkest, aspect="auto")
        for (i, j), count in np.ndenumerate(counts):
            if count:
                color: Any = readable_on(image.cmap(count / darkest))
            else:
                color = ink()
                cell = Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, hatch="////", edgecolor=ink(0.3), linewidth=0)
                ax.add_patch(cell)
            ax.text(j, i, f"{count}", ha="center", va="center", fontsize=SMALL, color=color)
        for line, many in ((ax.axhline, len(shown)), (ax.axvline, len(shown.columns))):
            for at in range(1, many):
                line(at - 0.5, color=ink(0.25), linewidth=0.6)
        self._frame(ax, shown)
        names = short_names(shown.columns, 14)
        turned = sum(map(len, names)) > 9 * min(len(names), 6)
        ax.set_xticks(range(len(names)), names, fontsize=SMALL, rotation=90 if turned and len(names) > 3 else 0)
        for side in ax.spines.values():
            side.set_color(ink(0.4))

    def _frame(self, ax: Axes, shown: pd.DataFrame) -> None:
        """Frames around blocks, where there are several."""
        from matplotlib.patches import Rectangle

        if len(self._blocks) < 2:
            return
        top = left = 0
        for block in self._blocks:
            tall, wide = len(block.batches), len(block.levels)
            if top < len(shown) and left < len(shown.columns):
                ax.add_patch(
                    Rectangle(
                        (left - 0.47, top - 0.47),
                        min(wide, len(shown.columns) - left) - 0.06,
                        min(tall, len(shown) - top) - 0.06,
                        fill=False,
                        edgecolor=COLORS[3],
                        linewidth=2,
                        zorder=3,
                    )
                )
            top, left = top + tall, left + wide

    def _means(self, ax: Axes, shown: pd.DataFrame) -> None:
        place = np.arange(len(shown))
        spread = shown["sd"].fillna(0.0)
        ax.errorbar(shown["mean"], place, xerr=spread, fmt="o", color=COLORS[0], markersize=4, linewidth=1.2, capsize=2)
        tidy(ax, grid="x")
        ax.set_xlabel(f"{short(self.column)}, mean ± sd", fontsize=SMALL + 1)

    def describe(self) -> str:
        """What is seen, in sentences with numbers."""
        n, batches = self.forecast.n, len(self.table)
        if self._is_number:
            mean = self.table["mean"]
            return (
                f"{self.column} of {n:,} samples in {batches} batches: batch means from {mean.min():.3g} "
                f"({mean.idxmin()}) to {mean.max():.3g} ({mean.idxmax()})."
            )
        empty = np.argwhere(self.table.to_numpy() == 0)
        said = f"{n:,} samples in {batches} batches and {len(self.table.columns)} levels of {self.column}. "
        if not len(empty):
            return f"{said}No cell is empty; the smallest holds {int(self.table.to_numpy().min())}."
        cells = [f"{self.table.columns[j]} in {self.table.index[i]}" for i, j in empty[:4]]
        more = [f"{len(empty) - 4} more"] if len(empty) > 4 else []
        said += f"{len(empty)} of {self.table.size} cells are empty: {listed(cells + more)}."
        apart = len(self._blocks)
        return f"{said} They fall into {apart} blocks that cannot be compared." if apart > 1 else said
