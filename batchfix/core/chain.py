"""Chain: statistics of groups, level above level, and which of them are in use.

Sorted cells of a block, their peers and a recipe flow in; a center, a scale and a count for each group of the finest
level flow out. A group that is too small, or has no label, takes those of the group above it, and one whose scale is
not known the scale; with amounts of shrinkage its mean and variance are drawn toward those of the group above, which
have been drawn toward theirs (see hierarchy.py).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .hierarchy import shrunken_mean, shrunken_variance
from .moments import NOISE
from .peer_statistics import PeerMoments, Scratch, measure, medians
from .peers import Levels, Peers
from .recipe import Recipe

Triple = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Two statistics of groups, and how many values are behind them."""


class Chain:
    """Statistics of the groups of a block, level above level; x becomes deviations from `base`."""

    def __init__(
        self,
        x: np.ndarray,
        peers: Peers,
        levels: Levels,
        recipe: Recipe,
        weights: np.ndarray | None,
        scratch: Scratch | None = None,
    ) -> None:
        self.levels, self.recipe = levels, recipe
        self.first = 0 if may_lack_scale(recipe, weights) else first_level(levels, recipe)
        self.robust: list[Triple] = []
        if recipe.robust:
            self._sort_each_level(x, peers)
        finest, self.base = measure(x, peers, weights, scratch)
        self.moments = [finest.dense(peers)]
        for level in range(len(levels), self.first, -1):
            self.moments.insert(0, self.moments[0].merged(levels.parents[level - 1], levels.size(level - 1)))

    def _sort_each_level(self, x: np.ndarray, peers: Peers) -> None:
        seen = (~np.isnan(x)).astype(np.float64)
        for each in by_level(peers, self.levels, self.first):
            self.robust.append((*medians(x, each, self.recipe.scale == "mad"), each.dense(each.total(seen))))

    def resolve(self, *, borrow: bool = False) -> Triple:
        """Center, scale and count in use at the finest level; a scale is 0 where it is rounding noise.

        To `borrow` is to divide by the scale of the group above where a group's own is of no use.
        """
        own, recipe = [self._own(i) for i in range(len(self.moments))], self.recipe
        if borrow and recipe.center is None:  # values as they are cannot be divided by 0
            own = [(center, np.where(scale == 0, np.nan, scale), n) for center, scale, n in own]
        shrink = None if recipe.amounts is None else self._shrunken
        center, scale, n = fall_back(own, self.levels, recipe, shrink, borrow=borrow)
        if borrow:
            scale = np.where(self.of_one(n), np.nan, scale)
        return center, scale, n

    def of_one(self, n: np.ndarray) -> np.ndarray:
        """Groups whose one value is its own center: 0, whatever it is divided by."""
        own = self.recipe.center is not None and self.recipe.min_size == 1 and self.recipe.amounts is None
        alone: np.ndarray = (n == 1) & own
        return alone

    def _own(self, i: int) -> Triple:
        moments = self.moments[i]
        center = np.where(moments.n > 0, moments.mean, np.nan)
        scale = np.sqrt(moments.variance(self.recipe.ddof))
        if self.recipe.center == "median":
            center = self.robust[i][0]
        if self.recipe.scale == "mad":
            # a MAD of 0 among values that differ says nothing: their standard deviation stands in
            mad = np.where(moments.n > 1, self.robust[i][1], np.nan)
            scale = np.where(self._noise(mad, moments.mean), scale, mad)
        return center, np.where(self._noise(scale, moments.mean), 0.0, scale), moments.n

    def _noise(self, scale: np.ndarray, mean: np.ndarray) -> np.ndarray:
        # where a spread is this small, the largest value is the mean
        noise: np.ndarray = scale <= NOISE * self.recipe.eps * np.abs(mean)
        return noise

    def _shrunken(self, level: int, mine: Triple, above: Triple) -> Triple:
        moments = self.moments[level - self.first]
        k, prior = self.recipe.amounts[level - 1] if self.recipe.amounts else (0.0, 0.0)
        n = moments.effective
        own = np.where(moments.n > 0, moments.mean, 0.0)
        center = shrunken_mean(n, own, above[0], k)
        variance = np.where(np.isnan(mine[1]), 0.0, mine[1]) ** 2
        freedom = np.where(np.isnan(mine[1]), 0.0, np.maximum(n - 1, 0.0))
        scale = np.sqrt(shrunken_variance(freedom, variance, above[1] ** 2, prior))
        return center, np.where(self._noise(scale, center), 0.0, scale), mine[2]


def first_level(levels: Levels, recipe: Recipe) -> int:
    """The coarsest level whose statistics are needed."""
    borrows = recipe.min_size > 1 or recipe.amounts is not None or recipe.leave_one_out
    if borrows:
        return 0
    for level in range(1, len(levels) + 1):
        if not levels.labelled[level - 1].all():
            return max(level - 1, 1)
    return len(levels)


def by_level(peers: Peers, levels: Levels, first: int) -> list[Peers]:
    """Peers of each level from `first` to the finest."""
    found = [peers]
    for level in range(len(levels), first, -1):
        found.insert(0, found[0].coarser(levels.parents[level - 1], levels.size(level - 1)))
    return found


def fall_back(
    own: list[Triple],
    levels: Levels,
    recipe: Recipe,
    shrink: Callable[[int, Triple, Triple], Triple] | None = None,
    *,
    borrow: bool = False,
) -> Triple:
    """Statistics in use at the finest level: two of them and a count, out of those of each level, coarse to fine.

    A group without a value has none; to `borrow` is to take the second of the group above where it alone is not known.
    """
    level = len(levels) + 1 - len(own)
    one, two, n = own[0]
    if level == 0 or recipe.min_size > 1:
        lost = n < recipe.min_size
        one, two = np.where(lost, np.nan, one), np.where(lost, np.nan, two)
    if level:
        stay = levels.labelled[level - 1]
        one, two, n = (np.where(stay, v, fill) for v, fill in ((one, np.nan), (two, np.nan), (n, 0.0)))
    use: Triple = (one, two, n)
    for mine in own[1:]:
        level += 1
        parent, labelled = levels.parents[level - 1], levels.labelled[level - 1]
        above: Triple = (use[0][:, parent], use[1][:, parent], use[2][:, parent])
        if shrink is not None:
            mine = shrink(level, mine, above)
        stands = labelled & (mine[2] >= recipe.min_size)
        nothing = ~labelled if level == 1 else np.zeros(len(labelled), dtype=bool)
        one, two = (np.where(stands, a, np.where(nothing, np.nan, b)) for a, b in zip(mine[:2], above[:2], strict=True))
        if borrow:
            two = np.where(np.isnan(two) & ~nothing, above[1], two)
        count = np.where(labelled, mine[2], np.where(nothing, 0.0, above[2]))
        one, two = (np.where(count == 0, np.nan, v) for v in (one, two))
        use = (one, two, count)
    return use


def scale_above(moments: PeerMoments, levels: Levels, recipe: Recipe) -> np.ndarray:
    """Scale of the nearest group above each of the finest whose scale is known."""
    found = np.full(moments.n.shape, np.nan)
    for level in range(len(levels) - 1, -1, -1):
        moments = moments.merged(levels.parents[level], levels.size(level))
        scale = np.sqrt(moments.variance(recipe.ddof))
        scale[scale <= NOISE * recipe.eps * np.abs(moments.mean)] = 0.0
        found = np.where(np.isnan(found), scale[:, levels.ancestors(level)], found)
    return found


def may_lack_scale(recipe: Recipe, weights: np.ndarray | None) -> bool:
    """Whether values that are not 0 may stand in groups whose scale is not known."""
    return recipe.scale is not None and (weights is not None or recipe.ddof > 1 or recipe.center is None)
