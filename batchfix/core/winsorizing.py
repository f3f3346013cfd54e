"""Winsorizing: what is beyond the limits of its group is set to the limit.

Limits are two quantiles of the group, or its center plus and minus a number of its scales; those of the group above
stand in where a group is too small. Cells without limits stay as they are.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .chain import Chain, by_level, fall_back, first_level
from .peer_statistics import quantiles
from .peers import Levels, Peers
from .recipe import Recipe


def winsorize(x: np.ndarray, peers: Peers, levels: Levels, recipe: Recipe, weights: np.ndarray | None) -> None:
    """Set what is beyond the limits of its group to the limit; without limits it stays."""
    if isinstance(recipe.clip, tuple):
        limits = _resolved_quantiles(x, peers, levels, recipe, recipe.clip)
    else:
        own = replace(recipe, amounts=None)  # in fit there are none yet
        center, scale, _ = Chain(x.copy(), peers, levels, own, weights).resolve()
        reach = np.where(scale > 0, scale, 0.0) * recipe.clip
        reach = np.where(np.isnan(scale), np.inf, reach)
        limits = center - reach, center + reach
    free = (np.where(np.isnan(limit), end, limit) for limit, end in zip(limits, (-np.inf, np.inf), strict=True))
    low, high = (peers.spread(peers.pick(limit)) for limit in free)
    np.clip(x, low, high, out=x)


def _resolved_quantiles(
    x: np.ndarray, peers: Peers, levels: Levels, recipe: Recipe, wanted: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    seen = (~np.isnan(x)).astype(np.float64)
    own = [
        (*quantiles(x, each, wanted), each.dense(each.total(seen)))
        for each in by_level(peers, levels, first_level(levels, recipe))
    ]
    low, high, _ = fall_back(own, levels, recipe)
    return low, high
