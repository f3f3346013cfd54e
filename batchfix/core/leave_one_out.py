"""Leave one out: each cell by the statistics of its group without itself.

Sorted cells and the moments of their groups flow in; standard values flow out. Taking the cell x of weight w away from
a group (W, mean, m2), with d = x - mean:

    W' = W - w,    mean' = mean - d w / W',    m2' = m2 - d^2 w W / W'

(Chan et al. 1983, backwards.) Where the cell makes nearly all of m2, that difference has lost its digits, and the
others are looked at once more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .hierarchy import shrunken_mean, shrunken_variance
from .moments import NOISE
from .peer_statistics import PeerMoments
from .peers import Levels, Peers
from .recipe import Recipe

LOST = 1e-3
"""Below this share of m2, or of the sum of weights, what is left of it has lost three digits and is computed anew."""


@dataclass(frozen=True)
class _Others:
    """What a cell's peers at one level say, each array (lines, m): their number, effective number, mean, variance."""

    n: np.ndarray
    effective: np.ndarray
    mean: np.ndarray
    variance: np.ndarray


def left_out(
    x: np.ndarray,
    weights: np.ndarray | None,
    peers: Peers,
    levels: Levels,
    moments: list[PeerMoments],
    recipe: Recipe,
) -> np.ndarray:
    """Standing of each sorted cell (lines, m) among the others of its group.

    A cell with too few others takes those of the group above; without one it is NaN. Where the scale of the others is
    not known (a single other), it is that of those of the group above. Where the others are constant, a cell equal
    to them is 0, and one that differs has no standing: NaN.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        mean, variance = _in_use(x, weights, peers, levels, moments, recipe)
        noise = NOISE * recipe.eps * np.abs(mean)
        deviation = x if recipe.center is None else x - mean
        deviation = np.where(np.isnan(mean), np.nan, deviation)
        if recipe.center is not None:
            deviation = np.where(np.abs(x - mean) <= noise, 0.0, deviation)
        if recipe.scale is None:
            return deviation
        scale = np.sqrt(variance)
        z: np.ndarray = deviation / np.where(scale <= noise, np.nan, scale)
        return np.where(deviation == 0, 0.0, z)


def _in_use(
    x: np.ndarray,
    weights: np.ndarray | None,
    peers: Peers,
    levels: Levels,
    moments: list[PeerMoments],
    recipe: Recipe,
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of each cell's others, or of what stands in for them."""
    chain = [peers]
    for level in range(len(levels), 0, -1):
        chain.insert(0, chain[0].coarser(levels.parents[level - 1], levels.size(level - 1)))
    mean = variance = np.full(x.shape, np.nan)
    for level, (each, of_level) in enumerate(zip(chain, moments, strict=True)):
        others = _without(x, weights, each, of_level, recipe.ddof)
        enough = others.n >= max(recipe.min_size, 1)
        if level == 0:
            mean, variance = (np.where(enough, v, np.nan) for v in (others.mean, others.variance))
            if recipe.center is None:
                variance = _of_use(mean, variance, recipe)
            continue
        if recipe.amounts is not None:
            others = _shrunken(others, mean, variance, *recipe.amounts[level - 1])
        has_label = np.broadcast_to(levels.labelled[level - 1], of_level.n.shape)
        labelled = each.spread(each.pick(has_label))
        stands, borrows = labelled & enough, labelled | (level > 1)  # the whole row is no parent of the unlabelled
        above = variance
        mean, variance = (
            np.where(stands, own, np.where(borrows, of_above, np.nan))
            for own, of_above in ((others.mean, mean), (others.variance, variance))
        )
        if recipe.center is None:
            variance = _of_use(mean, variance, recipe)
        variance = np.where(np.isnan(variance) & borrows, above, variance)
    return mean, variance


def _of_use(mean: np.ndarray, variance: np.ndarray, recipe: Recipe) -> np.ndarray:
    """Variance that values as they are can be divided by: NaN where it is rounding noise."""
    return np.where(np.sqrt(variance) <= NOISE * recipe.eps * np.abs(mean), np.nan, variance)


def _without(x: np.ndarray, weights: np.ndarray | None, peers: Peers, moments: PeerMoments, ddof: float) -> _Others:
    """Statistics of each cell's group without the cell."""

    def of_cells(statistic: np.ndarray) -> np.ndarray:
        return peers.spread(peers.pick(statistic))

    n, total, mean, m2 = (of_cells(v) for v in (moments.n, moments.weight, moments.mean, moments.m2))
    w = np.ones(x.shape) if weights is None else weights
    square = of_cells(moments.square) - w * w
    rest = total - w
    safe = np.where(rest > 0, rest, 1.0)
    d = x - mean
    without = mean - d * (w / safe)
    left = np.where(n > 2, np.maximum(m2 - d * d * (w * (total / safe)), 0.0), 0.0)
    doubtful = (n > 1) & ~np.isnan(x) & ((rest < LOST * total) | ((n > 2) & (left < LOST * m2)))
    for line, i in np.argwhere(doubtful):
        s = np.searchsorted(peers.starts, i, side="right") - 1
        a = peers.starts[s]
        keep = np.arange(a, a + peers.sizes[s]) != i
        values = x[line, a : a + peers.sizes[s]][keep]
        value_weights = w[line, a : a + peers.sizes[s]][keep]
        seen = ~np.isnan(values)
        values, value_weights = values[seen], value_weights[seen]
        rest[line, i], square[line, i] = value_weights.sum(), (value_weights * value_weights).sum()
        if rest[line, i] <= 0:
            continue
        center = np.average(values, weights=value_weights)
        center += np.average(values - center, weights=value_weights)
        without[line, i], left[line, i] = center, (value_weights * (values - center) ** 2).sum()
    some = (n > 1) & (rest > 0)
    safe = np.where(some, rest, 1.0)
    effective = np.where(some, safe * (safe / np.where(square > 0, square, 1.0)), 0.0)
    freedom = safe - ddof * np.where(some, square, 0.0) / safe
    known = (n > 2) & (effective - ddof > 1e-9)
    variance = np.where(known, left / np.where(freedom > 0, freedom, 1.0), np.nan)
    return _Others(np.where(some, n - 1, 0.0), effective, without, variance)


def _shrunken(others: _Others, mean: np.ndarray, variance: np.ndarray, k: float, prior: float) -> _Others:
    """Draw the others' statistics toward those of the others in the group above."""
    known = ~np.isnan(others.variance)
    freedom = np.where(known, np.maximum(others.effective - 1, 0.0), 0.0)
    return _Others(
        others.n,
        others.effective,
        shrunken_mean(others.effective, others.mean, mean, k),
        shrunken_variance(freedom, np.where(known, others.variance, 0.0), variance, prior),
    )
