"""FeatureEffectsDisplay: how much of each feature batch explains, before and after, with the worst named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd

from ..effects import FeatureEffects, feature_effects
from ..samples import whole
from .canvas import SMALL, Display, figure_of, given_axes, ink, legend, legend_height, new_figure, tidy
from .canvas import require_matplotlib as require
from .palette import look
from .tables import corrected, frames, named
from .words import counted, listed, percent, short_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEVEL = 0.05
"""False discovery rate at which features are counted."""

MARKED = 25
"""Up to so many features have a mark each in the left panel."""


class FeatureEffectsDisplay(Display):
    """Eta2 of batch in every feature, sorted (left), and in the features with most of it, by name (right).

    Named are those with most after the correction, if any are still found there at a false discovery rate of 5 %;
    else those with most before.

    Parameters
    ----------
    effects : dict of FeatureEffects
        By table.
    top : int
        Features that are named.

    Attributes
    ----------
    offenders : list
        Names of those, the worst first.
    ax_, axes_ : array (2,) of Axes
    figure_ : Figure

    Examples
    --------
    >>> from batchfix import ComBat
    >>> from batchfix.datasets import make_lab
    >>> from batchfix.diagnostics.displays import FeatureEffectsDisplay
    >>> lab = make_lab(60, 20, random_state=0)
    >>> display = FeatureEffectsDisplay.from_estimator(ComBat(), lab.data, batch=lab.batch, keep=lab.group, top=3)
    >>> len(display.offenders)
    3
    """

    axes_: np.ndarray

    def __init__(self, effects: Mapping[str, FeatureEffects], *, top: int = 10) -> None:
        self.effects = dict(effects)
        self.top = top
        self._judge = next((name for name in reversed(self.effects) if self._found(name) > 0), next(iter(self.effects)))
        self.offenders: list[Any] = list(self.effects[self._judge].top(top).dropna(subset=["eta2"]).index)

    @classmethod
    def from_tables(
        cls, before: Any, after: Any = None, *, batch: Any, keep: Any = None, top: int = 10, ax: Any = None
    ) -> Self:
        """From tables of the same samples and features; `after` may be several by name. See `feature_effects`."""
        require()
        count = whole("top", top, 1)
        tables, features = frames(named(before, after), "")
        found = {name: feature_effects(table, batch, keep) for name, table in tables.items()}
        if isinstance(next(iter(tables.values())), np.ndarray):
            found = {name: FeatureEffects(each.table.set_axis(features), each.given) for name, each in found.items()}
        return cls(found, top=count).plot(ax)

    @classmethod
    def from_estimator(
        cls, corrector: Any, X: Any, *, batch: Any = None, keep: Any = None, top: int = 10, ax: Any = None
    ) -> Self:
        """From a corrector: fitted, it transforms X; unfitted, a clone is fitted to X first."""
        require()
        before, after, batch, keep = corrected(corrector, X, batch, keep)
        return cls.from_tables(before, after, batch=batch, keep=keep, top=top, ax=ax)

    def _found(self, name: str) -> int:
        return int((self.effects[name].q_value < LEVEL).sum())

    def plot(self, ax: Any = None) -> Self:
        """Draw, into a new figure or the caller's axes: two, or one to be split."""
        if ax is None:
            height = 0.85 + max(1.6, 0.2 * len(self.offenders)) + legend_height(self.effects)
            figure = new_figure(height)
            where: Any = figure
            axes = figure.subplots(1, 2, width_ratios=(1, 1.25))
        else:
            axes = given_axes(ax, 1, 2, width_ratios=(1, 1.25))[0]
            where = axes[0]
        lines = self._curves(axes[0])
        self._offenders(axes[1])
        largest = pd.Series([each.eta2.max() for each in self.effects.values()])
        highest = float(largest.fillna(0.0).max())
        high = 1.05 * highest if highest > 0.01 else 1.0
        axes[0].set_ylim(-0.02 * high, high)
        axes[1].set_xlim(-0.02 * high, high)
        legend(where, lines, [f"{name}: {self._found(name):,} found" for name in self.effects])
        self.ax_ = self.axes_ = axes
        self.figure_ = figure_of(axes[0])
        return self

    def _curves(self, ax: Axes) -> list[Any]:
        from matplotlib.ticker import MaxNLocator

        lines = []
        for k, each in enumerate(self.effects.values()):
            eta2 = np.sort(each.eta2.dropna().to_numpy())[::-1]
            style = look(k)
            (line,) = ax.plot(
                np.arange(1, len(eta2) + 1),
                eta2,
                color=style.color,
                linestyle=style.line,
                marker=style.marker if len(eta2) <= MARKED else None,
                markersize=4,
                linewidth=1.8,
            )
            lines.append(line)
        tidy(ax, grid="y")
        ax.set_xlabel("features, most affected first", fontsize=SMALL + 1)
        ax.set_ylabel("eta2 of batch", fontsize=SMALL + 1)
        ax.set_title("all features", fontsize=SMALL + 2)
        ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        return lines

    def _offenders(self, ax: Axes) -> None:
        place = np.arange(len(self.offenders))
        eta2 = pd.DataFrame({name: each.eta2.reindex(self.offenders).to_numpy() for name, each in self.effects.items()})
        if len(place):
            ax.hlines(place, eta2.min(axis=1), eta2.max(axis=1), color=ink(0.35), linewidth=1.2)
        for k, name in enumerate(self.effects):  # ever smaller, so that none hides another
            style = look(k)
            drawn = ax.scatter(eta2[name], place, s=max(10, 64 * 0.36**k), color=style.color, marker=style.marker)
            drawn.set(edgecolor=ink(), linewidth=0.4, zorder=3)
        tidy(ax, grid="x")
        ax.set_ylim(max(len(place), 1) - 0.5, -0.5)
        ax.set_yticks(place, short_names(self.offenders, 18), fontsize=SMALL)
        ax.set_xlabel("eta2 of batch", fontsize=SMALL + 1)
        ax.set_title(f"most affected {self._judge}", fontsize=SMALL + 2)

    def describe(self) -> str:
        """What is seen, in sentences with numbers."""
        said = []
        for name, each in self.effects.items():
            tested = int(each.F.notna().sum())
            if not tested:
                said.append(f"{name}: no feature can be tested")
                continue
            said.append(
                f"{name}: batch explains {percent(each.median_eta2)} of the median feature and at most "
                f"{percent(each.eta2.max())} ({each.eta2.idxmax()}), and moves {self._found(name):,} of "
                f"{counted(tested, 'feature')} at a false discovery rate of 5 %"
            )
        worst = f" Most affected {self._judge}: {listed(self.offenders[:5])}." if self.offenders else ""
        return f"{'. '.join(said)}.{worst}"
