"""PCADisplay: samples on the first two principal components, before and after, on the same axes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd

from ...core.feature_effects import feature_squares
from .canvas import SMALL, WIDTH, Display, figure_of, given_axes, new_figure, tidy
from .canvas import require_matplotlib as require
from .points import draw_key, draw_points, key_height
from .principal import Components
from .tables import Column, columns_of, corrected, named, read
from .words import counted, listed, percent, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class PCADisplay(Display):
    """Samples on two principal components of the table before correction; the same components after it.

    Every panel has the same axes and limits. A row of panels is coloured and marked by batch, and one by each kept
    column; a column of panels is a table.

    Parameters
    ----------
    scores : dict of DataFrame (n, 1 or 2)
        Of each table, samples in rows, in units of the table.
    shares : dict of array
        Share of each table's own variance along the components.
    columns : dict of Column
        What samples are coloured by.

    Attributes
    ----------
    ax_, axes_ : array (columns, tables) of Axes
    figure_ : Figure
        It belongs to no window: show it by the display itself in a notebook, or save it by ``figure_.savefig``.

    Examples
    --------
    >>> from batchfix import ComBat
    >>> from batchfix.datasets import make_lab
    >>> from batchfix.diagnostics.displays import PCADisplay
    >>> lab = make_lab(60, 20, random_state=0)
    >>> display = PCADisplay.from_estimator(ComBat(), lab.data, batch=lab.batch, keep=lab.group)
    >>> display.axes_.shape, list(display.scores)
    ((2, 2), ['before', 'after'])
    """

    axes_: np.ndarray

    def __init__(
        self, scores: Mapping[str, pd.DataFrame], shares: Mapping[str, np.ndarray], columns: Mapping[str, Column]
    ) -> None:
        self.scores = dict(scores)
        self.shares = dict(shares)
        self.columns = dict(columns)

    @classmethod
    def from_tables(cls, before: Any, after: Any = None, *, batch: Any, keep: Any = None, ax: Any = None) -> Self:
        """From tables of the same samples and features.

        Parameters
        ----------
        before : table (n, p)
            Complete. Its components are those of all panels.
        after : table, or dict of several by name, optional
        batch : labels (n,)
        keep : table or columns, optional
            Text, bool and category are factors, fractions are numbers.
        ax : axes, optional
            One a panel, row by row; or one, to be split into them.

        Raises
        ------
        BatchfixError
            Missing values, constant features, or tables and labels that do not belong together.
        """
        require()
        found = read(named(before, after), "A principal component")
        first = next(iter(found.values()))
        columns = columns_of(first, batch, keep)
        components = Components.of(first.values, 2)
        names = [f"PC{k + 1}" for k in range(len(components.shares))]
        scores = {
            name: pd.DataFrame(components.scores(table.values), index=first.rows, columns=names)
            for name, table in found.items()
        }
        shares = {name: components.shares_in(table.values) for name, table in found.items()}
        return cls(scores, shares, columns).plot(ax)

    @classmethod
    def from_estimator(cls, corrector: Any, X: Any, *, batch: Any = None, keep: Any = None, ax: Any = None) -> Self:
        """From a corrector: fitted, it transforms X; unfitted, a clone is fitted to X first."""
        require()
        before, after, batch, keep = corrected(corrector, X, batch, keep)
        return cls.from_tables(before, after, batch=batch, keep=keep, ax=ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw, into a new figure or the caller's axes: one a panel, or one to be split."""
        tables, columns = list(self.scores), list(self.columns)
        shape = (len(columns), len(tables))
        if ax is None:
            panel_height = min(2.3, 0.95 * WIDTH / len(tables))
            heights = [panel_height + key_height(each) for each in self.columns.values()]
            heights[0] += 0.25  # titles
            heights[-1] += 0.35  # labels of the axis
            figure = new_figure(sum(heights))
            parts: list[Any] = list(figure.subfigures(len(columns), 1, squeeze=False, height_ratios=heights)[:, 0])
            axes = np.array([part.subplots(1, len(tables), squeeze=False)[0] for part in parts], dtype=object)
        else:
            axes, parts = given_axes(ax, *shape), []
        limits = self._limits()
        for row, name in enumerate(columns):
            column = self.columns[name]
            for at, table in enumerate(tables):
                panel = axes[row, at]
                handles = draw_points(panel, self._xy(table, column), column)
                panel.set(xlim=limits[0], ylim=limits[1])
                self._label(panel, table, title=row == 0, last=row == len(columns) - 1, first=at == 0)
            where = parts[row] if parts else axes[row, 0]
            draw_key(where, list(axes[row]), handles, column)
        self.ax_ = self.axes_ = axes
        self.figure_ = figure_of(axes.flat[0])
        return self

    def _xy(self, table: str, column: Column) -> np.ndarray:
        """Points (n, 2); where there is one component alone, levels of batch stand beside each other."""
        scores: np.ndarray = self.scores[table].to_numpy()
        if scores.shape[1] == 2:
            return scores
        return np.column_stack([scores[:, 0], np.asarray(self.columns["batch"].codes, dtype=np.float64)])

    def _limits(self) -> list[tuple[float, float]]:
        points = np.concatenate([self._xy(table, self.columns["batch"]) for table in self.scores])
        low, high = points.min(axis=0), points.max(axis=0)
        room = np.where(high > low, 0.06 * (high - low), 1.0)
        return [(float(a), float(b)) for a, b in zip(low - room, high + room, strict=True)]

    def _label(self, ax: Axes, table: str, *, title: bool, last: bool, first: bool) -> None:
        tidy(ax)
        of = self.shares[table]
        whose = "" if table == next(iter(self.scores)) else f" of {short(next(iter(self.scores)), 12)}"
        if title:
            ax.set_title(short(table, 30), fontsize=SMALL + 2)
        if last:
            ax.set_xlabel(f"PC1{whose} ({percent(of[0])})", fontsize=SMALL + 1)
        if len(of) == 1:
            ax.set_yticks([])
            if first:
                ax.set_ylabel("batches (no PC2)", fontsize=SMALL + 1)
        else:
            ax.set_ylabel(f"PC2{whose} ({percent(of[1])})", fontsize=SMALL + 1)
        if not first:
            ax.tick_params(labelleft=False)
        if not last:
            ax.tick_params(labelbottom=False)

    def describe(self) -> str:
        """What is seen, in sentences with numbers."""
        first = next(iter(self.scores))
        n, names = len(self.scores[first]), list(self.scores[first].columns)
        seen = listed(f"{pc} {percent(share)}" for pc, share in zip(names, self.shares[first], strict=True))
        shares = [
            f"{name} explains {listed(f'{percent(share)} {table}' for table, share in self._explained(column))}"
            for name, column in self.columns.items()
        ]
        return (
            f"{counted(n, 'sample')} on the principal components of the table before correction ({seen} of its "
            f"variance). Of the spread that is seen, {'; '.join(shares)}."
        )

    def _explained(self, column: Column) -> Iterator[tuple[str, float]]:
        for table, scores in self.scores.items():
            squares = feature_squares(scores.to_numpy(), column.design).sum()
            yield table, squares.R2 if squares.total > 0 else np.nan
