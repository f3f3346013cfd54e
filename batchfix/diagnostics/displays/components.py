"""ComponentsDisplay: what each principal component is about, and how much of the variance it holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd

from ...core.feature_effects import feature_squares
from ..samples import whole
from .canvas import SMALL, Display, figure_of, given_axes, ink, new_figure, readable_on, tidy
from .canvas import require_matplotlib as require
from .palette import COLORS
from .principal import Components
from .tables import columns_of, corrected, named, read
from .words import counted, listed, percent, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class ComponentsDisplay(Display):
    """R2 of each principal component on batch and on each kept column, under a scree of the components.

    Each table has components of its own: after a correction, batch should be in none of the large ones. Each R2 is of
    that column alone, not beyond the others.

    Parameters
    ----------
    R2 : dict of DataFrame (columns, components)
        By table.
    shares : dict of array (components,)
        Share of variance that each component holds.

    Attributes
    ----------
    ax_, axes_ : array (2, tables) of Axes
        Scree above, R2 below.
    figure_ : Figure

    References
    ----------
    Principal component regression, as in Buettner et al. 2019, "A test metric for assessing single-cell RNA-seq batch
    correction", Nature Methods 16.

    Examples
    --------
    >>> from batchfix.datasets import make_lab
    >>> from batchfix.diagnostics.displays import ComponentsDisplay
    >>> lab = make_lab(60, 20, random_state=0)
    >>> display = ComponentsDisplay.from_tables(lab.data, batch=lab.batch, keep=lab.group, n_components=3)
    >>> display.R2["before"].shape
    (2, 3)
    """

    axes_: np.ndarray

    def __init__(self, R2: Mapping[str, pd.DataFrame], shares: Mapping[str, np.ndarray]) -> None:
        self.R2 = dict(R2)
        self.shares = dict(shares)

    @classmethod
    def from_tables(
        cls, before: Any, after: Any = None, *, batch: Any, keep: Any = None, n_components: int = 6, ax: Any = None
    ) -> Self:
        """From tables of the same samples and features; `after` may be several by name."""
        require()
        k = whole("n_components", n_components, 1)
        found = read(named(before, after), "A principal component")
        columns = columns_of(next(iter(found.values())), batch, keep)
        R2, shares = {}, {}
        for name, table in found.items():
            components = Components.of(table.values, k)
            scores = components.scores(table.values)
            R2[name] = pd.DataFrame(
                [feature_squares(scores, column.design).eta2 for column in columns.values()],
                index=list(columns),
                columns=[f"PC{j + 1}" for j in range(scores.shape[1])],
            )
            shares[name] = components.shares
        return cls(R2, shares).plot(ax)

    @classmethod
    def from_estimator(
        cls, corrector: Any, X: Any, *, batch: Any = None, keep: Any = None, n_components: int = 6, ax: Any = None
    ) -> Self:
        """From a corrector: fitted, it transforms X; unfitted, a clone is fitted to X first."""
        require()
        before, after, batch, keep = corrected(corrector, X, batch, keep)
        return cls.from_tables(before, after, batch=batch, keep=keep, n_components=n_components, ax=ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw, into a new figure or the caller's axes: one a panel, or one to be split."""
        tables = list(self.R2)
        rows = len(next(iter(self.R2.values())))
        if ax is None:
            figure = new_figure(1.75 + 0.34 * rows)
            axes = figure.subplots(2, len(tables), squeeze=False, height_ratios=(1.1, 0.34 * rows))
        else:
            axes = given_axes(ax, 2, len(tables), height_ratios=(1.1, 0.34 * rows))
        highest = max(float(each.max()) for each in self.shares.values())
        for at, name in enumerate(tables):
            self._scree(axes[0, at], name, highest, first=at == 0)
            self._map(axes[1, at], self.R2[name], first=at == 0)
        self.ax_ = self.axes_ = axes
        self.figure_ = figure_of(axes[0, 0])
        return self

    def _scree(self, ax: Axes, name: str, highest: float, *, first: bool) -> None:
        from matplotlib.ticker import PercentFormatter

        shares = self.shares[name]
        ax.bar(np.arange(len(shares)), shares, color=COLORS[0], width=0.7)
        tidy(ax, grid="y")
        ax.set(xlim=(-0.5, len(shares) - 0.5), ylim=(0, 1.08 * highest), xticks=[])
        ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        ax.set_title(short(name, 30), fontsize=SMALL + 2)
        if first:
            ax.set_ylabel("of variance", fontsize=SMALL + 1)
        else:
            ax.tick_params(labelleft=False)

    def _map(self, ax: Axes, R2: pd.DataFrame, *, first: bool) -> None:
        image = ax.imshow(R2.to_numpy(), cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for (i, j), share in np.ndenumerate(R2.to_numpy()):
            ink_here = readable_on(image.cmap(float(share)))
            ax.text(j, i, f"{100 * share:.0f}", ha="center", va="center", fontsize=SMALL, color=ink_here)
        ax.set_xticks(range(R2.shape[1]), list(R2.columns), fontsize=SMALL)
        ax.set_yticks(range(len(R2)), [short(name, 16) for name in R2.index] if first else [], fontsize=SMALL + 1)
        ax.tick_params(length=0)
        ax.set_xlabel("R2 of the component, %", fontsize=SMALL + 1)
        for side in ax.spines.values():
            side.set_color(ink(0.4))

    def describe(self) -> str:
        """What is seen, in sentences with numbers."""
        said = []
        for name, R2 in self.R2.items():
            for column in R2.index:
                pc = str(R2.loc[column].idxmax())
                held = percent(self.shares[name][R2.columns.get_loc(pc)])
                said.append(f"{name}: {column} is most in {pc} (R2 {percent(R2.loc[column, pc])}; {held} of variance)")
        first = counted(len(R2.columns), "principal component")
        return f"R2 of the first {first} on {listed(R2.index)}. {'. '.join(said)}."
