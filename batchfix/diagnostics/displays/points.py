"""Points: samples of a table in a panel, coloured and marked by what is known of them, and the key to that."""

from __future__ import annotations

from typing import Any

import numpy as np

from .canvas import SMALL, figure_of, ink, legend, legend_height
from .palette import look
from .tables import Column
from .words import short

RASTERISED = 2000
"""From so many samples on, points are drawn as one image within a vector file."""

LAYERS = 6
"""A crowd is drawn in so many random parts, so that no level lies on top of all others."""

BAR = 0.55
"""Inches of a bar of colours with its numbers and its name."""


def draw_points(ax: Any, points: np.ndarray, column: Column) -> list[Any]:
    """Draw samples; return what stands for them in the legend."""
    n = len(points)
    style: dict[str, Any] = {
        "s": float(np.clip(2500 / n, 3, 26)),
        "edgecolors": [ink(0.6)],
        "linewidths": 0.3 if n < RASTERISED else 0,
        "rasterized": n >= RASTERISED,
        "alpha": 0.6 if n >= RASTERISED else 0.9,
    }
    order = np.random.default_rng(0).permutation(n)  # fixed: the same picture each time
    parts = np.array_split(order, LAYERS if n >= RASTERISED else 1)
    if column.codes is None or column.levels is None:
        assert column.values is not None
        low, high = float(column.values.min()), float(column.values.max())
        style |= {"cmap": "viridis", "vmin": low, "vmax": high}
        return [ax.scatter(*points[order].T, c=column.values[order], **style)]
    handles = []
    for part in parts:
        for k in range(len(column.levels)):
            color, marker, *_ = look(k)
            rows = np.sort(part[column.codes[part] == k])
            drawn = ax.scatter(*points[rows].T, c=color, marker=marker, **style)
            if part is parts[0]:
                handles.append(drawn)
    return handles


def key_height(column: Column) -> float:
    """Inches that the key takes."""
    return BAR if column.levels is None else legend_height(column.levels, title=True)


def draw_key(where: Any, axes: list[Any], handles: list[Any], column: Column) -> None:
    """Legend of a row of panels."""
    from matplotlib.lines import Line2D

    if column.levels is None:
        # below, where legends are too: beside them it would make this row's panels narrower than the others'
        bar = figure_of(axes[0]).colorbar(handles[0], ax=axes, location="bottom", pad=0.02, aspect=40, shrink=0.5)
        bar.set_label(short(column.name, 40), fontsize=SMALL)
        bar.ax.tick_params(labelsize=SMALL)
        return
    marks = [
        Line2D([], [], linestyle="none", marker=each.marker, color=each.color, markersize=5, markeredgecolor=ink(0.6))
        for each in map(look, range(len(column.levels)))
    ]
    for mark in marks:
        mark.set_markeredgewidth(0.3)
    legend(where, marks, column.levels, title=column.name)
