"""RelativeLogExpressionDisplay: each sample's deviations from the typical one, batch by batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd

from ...core.robust import median
from ...exceptions import BatchfixError
from .canvas import SMALL, Display, figure_of, given_axes, ink, new_figure, tidy
from .canvas import require_matplotlib as require
from .palette import look
from .tables import Column, columns_of, corrected, named, read
from .words import listed, short, short_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes

QUANTILES = {"low": 0.05, "q1": 0.25, "median": 0.5, "q3": 0.75, "high": 0.95}
BOXES = 80
"""Up to so many samples have boxes; more have lines."""

MOST_SAMPLES = 400
"""Of more samples, so many are shown, in each batch the same share of them."""

MOST_BATCHES = 40
"""So many names, written upwards, fit beside each other; of more, every second or third is written."""

LETTERS = 74
"""So many letters fit along the axis."""


class RelativeLogExpressionDisplay(Display):
    """Box plots of each sample's relative log expression, samples ordered by batch.

    With log values x and the median of each feature over all samples of the same table,

        r_ij = x_ij - median_i(x_ij)

    A good table has boxes around 0 and of one size; batches that lie off it were shifted, wide ones are noisier. Boxes
    go from quartile to quartile, whiskers from 5 to 95 %.

    Parameters
    ----------
    boxes : dict of DataFrame (samples shown, 5)
        By table: quantiles low (5 %), q1, median, q3, high (95 %) of each sample, in the order that is drawn.
    batch : Column
        Of the samples shown.
    n : int
        Samples of the whole table.

    Attributes
    ----------
    ax_, axes_ : array (tables,) of Axes
        All of the same limits.
    figure_ : Figure

    References
    ----------
    Gandolfo and Speed 2018, "RLE plots: visualizing unwanted variation in high dimensional data", PLoS ONE 13.

    Examples
    --------
    >>> from batchfix.datasets import make_lab
    >>> from batchfix.diagnostics.displays import RelativeLogExpressionDisplay
    >>> lab = make_lab(60, 20, random_state=0)
    >>> display = RelativeLogExpressionDisplay.from_tables(lab.data, batch=lab.batch)
    >>> display.boxes["before"].shape
    (60, 5)
    """

    axes_: np.ndarray

    def __init__(self, boxes: Mapping[str, pd.DataFrame], batch: Column, n: int) -> None:
        self.boxes = dict(boxes)
        self.batch = batch
        self.n = n

    @classmethod
    def from_tables(cls, before: Any, after: Any = None, *, batch: Any, ax: Any = None) -> Self:
        """From tables of logarithms, of the same samples and features; `after` may be several by name.

        Missing values are left out.
        """
        require()
        found = read(named(before, after), "")
        first = next(iter(found.values()))
        column = columns_of(first, batch, None)["batch"]
        rows = _shown(column)
        shown = Column(column.name, column.design[rows], column.levels, _codes(column)[rows], None)
        boxes = {}
        for name, table in found.items():
            quantiles = _quantiles(table.values[rows] - median(table.values, axis=0))
            boxes[name] = pd.DataFrame(quantiles, index=first.rows[rows], columns=list(QUANTILES))
        if all(np.isnan(each.to_numpy()).all() for each in boxes.values()):
            raise BatchfixError("A table must hold values to be looked at, got only missing ones.")
        return cls(boxes, shown, len(first)).plot(ax)

    @classmethod
    def from_estimator(cls, corrector: Any, X: Any, *, batch: Any = None, keep: Any = None, ax: Any = None) -> Self:
        """From a corrector: fitted, it transforms X; unfitted, a clone is fitted to X first."""
        require()
        before, after, batch, _ = corrected(corrector, X, batch, keep)
        return cls.from_tables(before, after, batch=batch, ax=ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw, into a new figure or the caller's axes: one a panel, or one to be split."""
        tables = list(self.boxes)
        if ax is None:
            figure = new_figure(0.8 + 0.5 * self._turned + 1.45 * len(tables))
            axes = figure.subplots(len(tables), 1, squeeze=False)[:, 0]
        else:
            axes = given_axes(ax, len(tables))
        seen = np.concatenate([each.to_numpy().ravel() for each in self.boxes.values()])
        reach = 1.05 * float(np.nanmax(np.abs(seen))) or 1.0
        for name, panel in zip(tables, axes, strict=True):
            self._draw(panel, self.boxes[name])
            tidy(panel, grid="y")
            panel.axhline(0, color=ink(), linewidth=0.8, zorder=3)
            panel.set(xlim=(-1, len(self.boxes[name])), ylim=(-reach, reach))
            panel.set_title(short(name, 30), fontsize=SMALL + 2)
            panel.set_ylabel("relative log", fontsize=SMALL + 1)
            self._name_batches(panel, last=panel is axes[-1])
        self.ax_ = self.axes_ = axes
        self.figure_ = figure_of(axes[0])
        return self

    @property
    def _turned(self) -> bool:
        """Whether there is no room for the batches' names beside each other."""
        middles, names = self._names()
        half = np.array([len(name) + 1 for name in names]) / 2
        letters = LETTERS * middles / max(1, len(_codes(self.batch)))
        return bool((np.diff(letters) < half[1:] + half[:-1]).any()) or sum(2 * half) > LETTERS

    def _names(self) -> tuple[np.ndarray, list[str]]:
        """The middles of batches along the axis, and what they are called there."""
        codes, levels = _codes(self.batch), self.batch.levels or []
        starts = np.flatnonzero(np.r_[True, codes[1:] != codes[:-1]])
        ends = np.r_[starts[1:], len(codes)]
        return (starts + ends - 1) / 2, short_names([levels[codes[start]] for start in starts], 10)

    def _draw(self, ax: Axes, boxes: pd.DataFrame) -> None:
        """A box for each sample, or lines where there are many; batches in turn are hatched."""
        codes = _codes(self.batch)
        place = np.arange(len(boxes))
        many = len(boxes) > BOXES
        for k in range(len(self.batch.levels or [])):
            at = place[(codes == k) & boxes["median"].notna().to_numpy()]
            if not len(at):
                continue
            box, color = boxes.iloc[at], look(k).color
            # a 600-pixel picture has one to six pixels a sample
            wide = 0.7 if not many else 1.0
            ax.vlines(at, box["low"], box["high"], color=ink(0.35), linewidth=0.4 if many else 0.8, rasterized=many)
            ax.bar(
                at,
                box["q3"] - box["q1"],
                bottom=box["q1"],
                width=wide,
                color=color,
                edgecolor=ink() if not many else "none",
                linewidth=0.4,
                hatch=None if many else ("" if k % 2 == 0 else "////"),
                rasterized=many,
                zorder=2,
            )
            half = wide / 2
            ax.hlines(box["median"], at - half, at + half, color=ink(), linewidth=1.2, zorder=4, rasterized=many)

    def _name_batches(self, ax: Axes, *, last: bool) -> None:
        codes = _codes(self.batch)
        for start in np.flatnonzero(codes[1:] != codes[:-1]) + 1:
            ax.axvline(start - 0.5, color=ink(0.5), linewidth=0.6, linestyle=":")
        middles, names = self._names()
        shown: list[int] = []  # small batches beside each other: their names would lie on each other
        for k, middle in enumerate(middles):
            if not shown or not self._turned or middle - middles[shown[-1]] >= len(codes) / MOST_BATCHES - 1e-9:
                shown.append(k)
        ax.set_xticks(middles[shown], [names[k] for k in shown] if last else [], fontsize=SMALL)
        if self._turned:
            ax.tick_params(axis="x", rotation=90)
        ax.tick_params(axis="x", length=0)
        if last:
            part = f", {len(codes):,} of {self.n:,}" if len(codes) < self.n else ""
            ax.set_xlabel(f"samples by batch{part}", fontsize=SMALL + 1)

    def describe(self) -> str:
        """What is seen, in sentences with numbers."""
        said = []
        levels = self.batch.levels or []
        for name, boxes in self.boxes.items():
            of_batch = boxes["median"].groupby(_codes(self.batch)).median()
            size = (boxes["q3"] - boxes["q1"]).median()
            low, high = int(of_batch.idxmin()), int(of_batch.idxmax())
            between = f"between {of_batch[low]:.2g} ({levels[low]}) and {of_batch[high]:.2g} ({levels[high]})"
            same = of_batch[low] == of_batch[high]
            medians = f"are all {of_batch[low]:.2g}" if same else f"lie {between}"
            said.append(f"{name}: medians of batches {medians}, boxes are {size:.2g} high")
        shown = f"{len(_codes(self.batch)):,} of {self.n:,}" if len(_codes(self.batch)) < self.n else f"{self.n:,}"
        return (
            f"Relative log expression of {shown} samples by batch, {listed(self.boxes)}, in the table's own units. "
            f"{'. '.join(said)}."
        )


def _codes(column: Column) -> np.ndarray:
    assert column.codes is not None  # batches are levels
    return column.codes


def _shown(batch: Column) -> np.ndarray:
    """Rows in the order of batches; of many, the same share of each batch, evenly spaced in it."""
    codes = _codes(batch)
    order = np.argsort(codes, kind="stable")
    share = min(1.0, MOST_SAMPLES / len(codes))
    picked = []
    for rows in np.split(order, np.flatnonzero(np.diff(codes[order])) + 1):
        count = max(1, round(share * len(rows)))
        picked.append(rows[np.linspace(0, len(rows) - 1, count).round().astype(int)])
    return np.concatenate(picked)


def _quantiles(deviations: np.ndarray) -> np.ndarray:
    """Quantiles of each row (rows, 5), NaN left out; NaN for a row without values."""
    found = np.full((len(deviations), len(QUANTILES)), np.nan)
    there = ~np.isnan(deviations).all(axis=1)
    if there.any():
        found[there] = np.nanquantile(deviations[there], list(QUANTILES.values()), axis=1).T
    return found
