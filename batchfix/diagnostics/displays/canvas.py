"""Canvas: figures, axes and legends, the same for all displays.

Sizes flow in, axes flow out; handles and names flow in, a folded legend is drawn. Figures belong to no window and to no
global list: nothing has to be closed. Colours of text and page are those of `matplotlib.rcParams` while it is drawn.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from ...exceptions import BatchfixError
from .words import LONGEST_NAME, counted, short, short_names

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 6.2
"""Inches: about 600 pixels on a screen, and a column of print; letters then have 8 points or more."""

SMALL = 8.0
"""Points of the smallest letters."""

MOST_NAMES = 40
"""Entries of a legend."""


class Display:
    """What all displays share. `plot` sets `figure_` and `ax_`: one Axes, or the array of several (`axes_` too)."""

    ax_: Any
    figure_: Figure

    def describe(self) -> str:
        """What is seen, in sentences with numbers: the picture's alt text."""
        raise NotImplementedError

    def __str__(self) -> str:
        return self.describe()

    def _repr_png_(self) -> bytes | None:
        """The picture, in a notebook."""
        figure = getattr(self, "figure_", None)
        if figure is None:
            return None
        held = io.BytesIO()
        figure.savefig(held, format="png", dpi=150)
        return held.getvalue()


def require_matplotlib() -> None:
    """Say what to install where matplotlib is missing.

    Raises
    ------
    ModuleNotFoundError
        It is.
    """
    try:
        import_module("matplotlib")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "batchfix.diagnostics.displays needs matplotlib: pip install 'batchfix[report]'", name="matplotlib"
        ) from error


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """An empty figure that makes room for whatever is put beside its axes."""
    require_matplotlib()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def given_axes(
    ax: Any,
    *shape: int,
    width_ratios: Sequence[float] | None = None,
    height_ratios: Sequence[float] | None = None,
) -> np.ndarray:
    """The caller's own axes, as an array of a shape; one Axes for many panels is split into them, and hidden.

    A shape of one number is a column of panels.

    Raises
    ------
    BatchfixError
        They are not as many as the display has panels.
    """
    axes = np.ravel(np.asarray(ax, dtype=object))
    count = int(np.prod(shape))
    if len(axes) == 1 < count and hasattr(axes[0], "get_subplotspec"):
        ratios = {"width_ratios": width_ratios, "height_ratios": height_ratios}
        return _split(axes[0], (shape[0], shape[1] if len(shape) > 1 else 1), ratios).reshape(shape)
    if len(axes) != count or not all(hasattr(each, "plot") for each in axes):
        raise BatchfixError(
            f"ax must hold the axes of {counted(count, 'panel')}, row by row, got {len(axes)} of type "
            f"{type(axes[0]).__name__ if len(axes) else 'none'}. Leave it out, give one to be split into them, or make "
            "them by plt.subplots."
        )
    return axes.reshape(shape)


def _split(ax: Axes, shape: tuple[int, int], ratios: dict[str, Any]) -> np.ndarray:
    """Panels in the place of one Axes, as scikit-learn's displays of several make them."""
    figure: Any = ax.figure
    spec = ax.get_subplotspec()
    room: dict[str, Any] = {} if figure.get_layout_engine() is not None else {"hspace": 0.5, "wspace": 0.35}
    if spec is None:  # it was put there by hand
        box = ax.get_position()
        place = {"left": box.x0, "right": box.x1, "bottom": box.y0, "top": box.y1}
        grid: Any = figure.add_gridspec(shape[0], shape[1], **ratios, **room, **place)
    else:
        grid = spec.subgridspec(shape[0], shape[1], **ratios, **room)
    ax.set_axis_off()
    panels = [figure.add_subplot(grid[i, j]) for i in range(shape[0]) for j in range(shape[1])]
    return np.array(panels, dtype=object)


def figure_of(ax: Axes) -> Figure:
    """The whole figure that axes lie in, whatever lies between."""
    figure: Figure = ax.figure.canvas.figure
    return figure


def ink(alpha: float = 1.0) -> tuple[float, float, float, float]:
    """Colour of text on the page that is drawn, lighter with a smaller alpha."""
    require_matplotlib()
    from matplotlib import rcParams
    from matplotlib.colors import to_rgba

    red, green, blue, _ = to_rgba(rcParams["text.color"])
    return red, green, blue, alpha


def readable_on(color: Any) -> str:
    """Black or white, whichever is read better on a colour."""
    from matplotlib.colors import to_rgb

    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color))
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue  # WCAG 2.1
    return "black" if luminance > 0.18 else "white"


def tidy(*axes: Axes, grid: str = "") -> None:
    """Take away lines that say nothing; `grid` along x or y."""
    for ax in axes:
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)
        ax.tick_params(labelsize=SMALL)
        if grid:
            ax.grid(axis=grid, color=ink(0.15), linewidth=0.6)  # type: ignore[arg-type]  # grid is "x" or "y"
            ax.set_axisbelow(True)


def legend(
    where: Any, handles: Sequence[Artist], names: Iterable[object], *, title: str = "", below: float = -0.22
) -> None:
    """Put a legend below a figure or axes, folded into columns, its names short and no more than `MOST_NAMES`."""
    from matplotlib.lines import Line2D

    shown, columns = _fold(names)
    kept = list(handles)[: len(shown)]
    if len(handles) > MOST_NAMES:
        kept[-1] = Line2D([], [], linestyle="none")
    common: dict[str, Any] = {
        "title": short(title, 40) or None,
        "ncols": columns,
        "fontsize": SMALL,
        "title_fontsize": SMALL,
        "frameon": False,
        "columnspacing": 1.2,
        "handletextpad": 0.5,
    }
    if hasattr(where, "subfigures"):
        where.legend(kept, shown, loc="outside lower center", **common)
    else:
        where.legend(kept, shown, loc="upper center", bbox_to_anchor=(0.5, below), **common)


def legend_height(names: Iterable[object], *, title: bool = False) -> float:
    """Inches that a legend takes."""
    shown, columns = _fold(names)
    return 0.12 + 0.163 * (-(-len(shown) // columns) + title)


def _fold(names: Iterable[object]) -> tuple[list[str], int]:
    """Names as they are shown, and in how many columns."""
    every = list(names)
    shown = short_names(every[:MOST_NAMES], LONGEST_NAME if len(every) <= 12 else LONGEST_NAME * 2 // 3)
    if len(every) > MOST_NAMES:
        shown[-1] = f"and {len(every) - MOST_NAMES + 1} more"
    letters = max((len(name) for name in shown), default=1) + 6
    return shown, max(1, min(len(shown), int(WIDTH * 14) // letters))
