"""Standing: where each cell stands among its peers.

A table (rows, p), the group of each column or cell, and a recipe flow in; standard values of the same shape and the
statistics behind them, (rows, groups), flow out:

    z = (x - center_g) / scale_g

A row's groups are those of its own cells alone. A group that is too small, or has no label, takes the statistics of the
group above it, and one whose scale is not known the scale; with amounts of shrinkage a group's mean and variance are
drawn toward those of the group above, which have been drawn toward theirs (see hierarchy.py). Blocks of a few rows are
worked on in the cache.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from . import blocks
from .hierarchy import shrunken_mean, shrunken_variance
from .leave_one_out import left_out
from .moments import NOISE
from .peer_statistics import PeerMoments, Scratch, measure, medians, quantiles
from .peers import Levels, Peers
from .recipe import Recipe

BLOCK_CELLS = 48_000
"""Cells that are worked on at a time: four arrays of them stay near the core."""

NEGLIGIBLE = 2.0**-53
"""A shift of this many standard deviations does not change a standard value near 1."""


SAFE_WEIGHTS = 1e-60, 1e60
"""Largest weights of a row between these have squares and products with squares that stay in float64."""


Triple = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Two statistics of groups, and how many values are behind them."""


@dataclass(frozen=True)
class Standing:
    """Statistics of every row's groups, each (rows, groups).

    Attributes
    ----------
    center : array
        What was taken away; NaN where a group has no value, or too few and no parent to stand in.
    scale : array
        What was divided by. 0: the group is constant, and centred to 0. NaN: not known, not even from a group above;
        values are NaN, or 0 where they are their center, as that of a group of one is.
    count : array
        Observed values; of a group without a label, those of the group above.
    """

    center: np.ndarray
    scale: np.ndarray
    count: np.ndarray


def standardize(
    X: np.ndarray,
    codes: np.ndarray,
    levels: Levels,
    recipe: Recipe,
    *,
    weights: np.ndarray | None = None,
    out: np.ndarray,
    statistics: bool = True,
) -> Standing | None:
    """Write each cell's standing among its peers to `out`, and return the statistics if they are wanted.

    Parameters
    ----------
    X : array (rows, p), float64 or float32
        NaN is missing.
    codes : integer array (p,) or (rows, p)
        Group of the finest level, of each column or of each cell.
    levels : Levels
    recipe : Recipe
    weights : array (p,) or (rows, p), optional
        0 or more.
    out : float array (rows, p)
        Where to write; may be X.

    Raises
    ------
    BatchfixError
        Infinity, squares that leave float64, or weights that sum to 0 in a group.

    Examples
    --------
    >>> import numpy as np
    >>> X, out = np.array([[1.0, 3.0, 10.0, 14.0]]), np.empty((1, 4))
    >>> found = standardize(X, np.array([0, 0, 1, 1]), Levels.flat(2), Recipe(scale=None), out=out)
    >>> out.tolist(), found.center.tolist(), found.scale.round(2).tolist()
    ([[-1.0, 1.0, -2.0, 2.0]], [[2.0, 12.0]], [[1.41, 2.83]])
    """
    n = len(X)
    found = Standing(*(np.empty((n, levels.n_groups)) for _ in range(3))) if statistics else None

    def work(rows: slice, x: np.ndarray, peers: Peers, w: np.ndarray | None, scratch: Scratch) -> None:
        standing = _stand(x, peers, levels, recipe, w, scratch, statistics=statistics)
        peers.unsort(x, out[rows])
        if found is not None and standing is not None:
            for name in ("center", "scale", "count"):
                getattr(found, name)[rows] = getattr(standing, name)

    walk(X, codes, levels.n_groups, weights, work)
    return found


def walk(
    X: np.ndarray,
    codes: np.ndarray,
    n_groups: int,
    weights: np.ndarray | None,
    work: Callable[[slice, np.ndarray, Peers, np.ndarray | None, Scratch], None],
) -> None:
    """Call work(rows, x, peers, weights, scratch) for each block of rows; x and weights are sorted cells, float64."""
    n, p = X.shape
    if not X.size:
        return
    fixed = Peers.of(codes, n_groups) if codes.ndim == 1 else None
    step = max(1, BLOCK_CELLS // p)

    def lot(span: tuple[int, int]) -> None:
        raw, buffer, scratch = np.empty((step, p)), np.empty((step, p)), Scratch(step * p)
        last = fixed
        for a, b in blocks.spans(*span, step):
            rows, m = slice(a, b), b - a
            np.copyto(raw[:m], X[rows])  # first as it lies, then sorted in the cache: faster than at once
            peers = last = _peers_of(codes, rows, n_groups, last) if fixed is None else fixed
            x = peers.sort(raw[:m], buffer[:m])
            w = None
            if weights is not None:
                np.copyto(raw[:m], np.broadcast_to(weights, X.shape)[rows])
                _keep_squares(raw[:m], X[rows])
                w = peers.sort(raw[:m])
            work(rows, x, peers, w, scratch)

    size = -(-n // (4 * blocks.n_threads()))
    blocks.run(lot, blocks.spans(0, n, -(-size // step) * step), X.nbytes)


def _keep_squares(weights: np.ndarray, X: np.ndarray) -> None:
    """Divide weights, in place, by the largest of their row where their squares could leave float64."""
    most = weights.max(axis=1)
    if ((most > SAFE_WEIGHTS[0]) & (most < SAFE_WEIGHTS[1])).all():
        return
    np.copyto(weights, 0.0, where=np.isnan(X))
    most = weights.max(axis=1, keepdims=True)
    np.divide(weights, most, out=weights, where=most > 0)


def _peers_of(codes: np.ndarray, rows: slice, n_groups: int, last: Peers | None) -> Peers:
    """Peers of a block; sorted once for all rows that agree, as most do where membership changes now and then."""
    own = codes[rows]
    if len(own) > 1 and not (own[1:] == own[0]).all():
        return Peers.of(own, n_groups)
    if last is not None and last.codes is not None and np.array_equal(last.codes, own[0]):
        return last
    return Peers.of(own[0], n_groups)


# ---- one block


def _stand(
    x: np.ndarray,
    peers: Peers,
    levels: Levels,
    recipe: Recipe,
    weights: np.ndarray | None,
    scratch: Scratch,
    *,
    statistics: bool,
) -> Standing | None:
    """Standard values in place of sorted cells x."""
    if recipe.plain and _first_level(levels, recipe) == len(levels) and all(each.all() for each in levels.labelled):
        found = _alone(x, peers, levels, recipe, weights, scratch)
        empty = (np.nan, np.nan, 0.0)
        return Standing(*(peers.dense(v, e) for v, e in zip(found, empty, strict=True))) if statistics else None
    if recipe.clip is not None:
        _clip(x, peers, levels, recipe, weights)
    whole = x.copy() if recipe.leave_one_out or recipe.center is None else None
    chain = _Chain(x, peers, levels, recipe, weights, scratch)
    center, scale, count = chain.resolve(borrow=recipe.scale is not None)
    if recipe.leave_one_out and whole is not None:
        x[...] = left_out(whole, weights, peers, levels, chain.moments, recipe)
    elif whole is not None:
        x[...] = whole
        chain.scale(x, peers, center, scale, count)
    else:
        chain.scale(x, peers, center, scale, count, offset=peers.pick(center) - chain.base)
    return Standing(center, scale, count)


def _alone(
    x: np.ndarray, peers: Peers, levels: Levels, recipe: Recipe, weights: np.ndarray | None, scratch: Scratch
) -> Triple:
    """Standard values by mean and standard deviation of each cell's own group, the quick way; statistics (lines, S)."""
    moments, base = measure(x, peers, weights, scratch)
    scale = np.sqrt(moments.variance(recipe.ddof))
    scale[scale <= NOISE * recipe.eps * np.abs(moments.mean)] = 0.0
    center = np.where(moments.n >= recipe.min_size, moments.mean, np.nan)
    lost = None
    if _may_lack_scale(recipe, weights):
        lost = np.isnan(scale) & (moments.n > 1)
        if lost.any() and len(levels):
            scale = np.where(lost, peers.pick(_scale_above(moments.dense(peers), levels, recipe)), scale)
            lost &= np.isnan(scale)
    _scale(x, peers, center, scale, recipe, moments.mean - base, lost)
    return center, scale, moments.n


def _scale(
    x: np.ndarray,
    peers: Peers,
    center: np.ndarray,
    scale: np.ndarray,
    recipe: Recipe,
    offset: np.ndarray | None = None,
    lost: np.ndarray | None = None,
) -> None:
    """(x - offset) / scale in place, of statistics (lines, S); offsets that change nothing are passed over.

    Of groups that are `lost`, their scale not being known, only values that are their center have a standing, 0.
    """
    divide = np.ones(scale.shape)
    if recipe.scale is not None:
        divide /= np.where(scale > 0, scale, 1.0)
    if recipe.center is not None:
        divide[scale == 0] = 0.0
    divide[np.isnan(center)] = np.nan
    if offset is not None:
        offset = np.where(np.abs(offset * divide) <= NEGLIGIBLE, 0.0, offset)
        if offset.any():
            x -= peers.spread(offset)
    if lost is not None and lost.any():
        noise = np.zeros(center.shape) if recipe.center is None else NOISE * recipe.eps * np.abs(center)
        far = peers.spread(lost) & (np.abs(x) > peers.spread(noise))
        x[far] = np.nan
    x *= peers.spread(divide)
    if not divide.all():
        x += 0.0  # no negative zeros


def _scale_above(moments: PeerMoments, levels: Levels, recipe: Recipe) -> np.ndarray:
    """Scale of the nearest group above each of the finest whose scale is known."""
    found = np.full(moments.n.shape, np.nan)
    for level in range(len(levels) - 1, -1, -1):
        moments = moments.merged(levels.parents[level], levels.size(level))
        scale = np.sqrt(moments.variance(recipe.ddof))
        scale[scale <= NOISE * recipe.eps * np.abs(moments.mean)] = 0.0
        found = np.where(np.isnan(found), scale[:, levels.ancestors(level)], found)
    return found


def _may_lack_scale(recipe: Recipe, weights: np.ndarray | None) -> bool:
    """Whether values that are not 0 may stand in groups whose scale is not known."""
    return recipe.scale is not None and (weights is not None or recipe.ddof > 1 or recipe.center is None)


def _clip(x: np.ndarray, peers: Peers, levels: Levels, recipe: Recipe, weights: np.ndarray | None) -> None:
    """Set what is beyond the limits of its group to the limit; without limits it stays."""
    if isinstance(recipe.clip, tuple):
        limits = _resolved_quantiles(x, peers, levels, recipe, recipe.clip)
    else:
        own = replace(recipe, amounts=None)  # in fit there are none yet
        center, scale, _ = _Chain(x.copy(), peers, levels, own, weights).resolve()
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
        for each in _by_level(peers, levels, _first_level(levels, recipe))
    ]
    low, high, _ = _fall_back(own, levels, recipe)
    return low, high


def _first_level(levels: Levels, recipe: Recipe) -> int:
    """The coarsest level whose statistics are needed."""
    borrows = recipe.min_size > 1 or recipe.amounts is not None or recipe.leave_one_out
    if borrows:
        return 0
    for level in range(1, len(levels) + 1):
        if not levels.labelled[level - 1].all():
            return max(level - 1, 1)
    return len(levels)


def _by_level(peers: Peers, levels: Levels, first: int) -> list[Peers]:
    """Peers of each level from `first` to the finest."""
    found = [peers]
    for level in range(len(levels), first, -1):
        found.insert(0, found[0].coarser(levels.parents[level - 1], levels.size(level - 1)))
    return found


def _fall_back(
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


class _Chain:
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
        self.first = 0 if _may_lack_scale(recipe, weights) else _first_level(levels, recipe)
        self.robust: list[Triple] = []
        if recipe.robust:
            self._sort_each_level(x, peers)
        finest, self.base = measure(x, peers, weights, scratch)
        self.moments = [finest.dense(peers)]
        for level in range(len(levels), self.first, -1):
            self.moments.insert(0, self.moments[0].merged(levels.parents[level - 1], levels.size(level - 1)))

    def _sort_each_level(self, x: np.ndarray, peers: Peers) -> None:
        seen = (~np.isnan(x)).astype(np.float64)
        for each in _by_level(peers, self.levels, self.first):
            self.robust.append((*medians(x, each, self.recipe.scale == "mad"), each.dense(each.total(seen))))

    def resolve(self, *, borrow: bool = False) -> Triple:
        """Center, scale and count in use at the finest level; a scale is 0 where it is rounding noise.

        To `borrow` is to divide by the scale of the group above where a group's own is of no use.
        """
        own, recipe = [self._own(i) for i in range(len(self.moments))], self.recipe
        if borrow and recipe.center is None:  # values as they are cannot be divided by 0
            own = [(center, np.where(scale == 0, np.nan, scale), n) for center, scale, n in own]
        shrink = None if recipe.amounts is None else self._shrunken
        center, scale, n = _fall_back(own, self.levels, recipe, shrink, borrow=borrow)
        if borrow:
            scale = np.where(self._of_one(n), np.nan, scale)
        return center, scale, n

    def _of_one(self, n: np.ndarray) -> np.ndarray:
        """Groups whose one value is its own center: 0, whatever it is divided by."""
        own = self.recipe.center is not None and self.recipe.min_size == 1 and self.recipe.amounts is None
        alone: np.ndarray = (n == 1) & own
        return alone

    def scale(
        self,
        x: np.ndarray,
        peers: Peers,
        center: np.ndarray,
        scale: np.ndarray,
        n: np.ndarray,
        offset: np.ndarray | None = None,
    ) -> None:
        """Divide x - offset by statistics in use, (rows, groups); NaN where they are not known."""
        lost = None
        if self.recipe.scale is not None:
            lost = peers.pick(np.isnan(scale) & ~np.isnan(center) & ~self._of_one(n))
        _scale(x, peers, peers.pick(center), peers.pick(scale), self.recipe, offset, lost)

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


def level_moments(
    X: np.ndarray,
    codes: np.ndarray,
    levels: Levels,
    weights: np.ndarray | None = None,
    recipe: Recipe | None = None,
) -> list[PeerMoments]:
    """Moments of the groups of each level, coarse to fine from the whole row on, each field (rows, groups).

    With a recipe that clips, those of the clipped values.
    """
    n = len(X)
    sizes = [levels.size(level) for level in range(len(levels) + 1)]
    found = [PeerMoments(*(np.empty((n, size)) for _ in range(5))) for size in sizes]

    def work(rows: slice, x: np.ndarray, peers: Peers, w: np.ndarray | None, scratch: Scratch) -> None:
        if recipe is not None and recipe.clip is not None:
            _clip(x, peers, levels, recipe, w)
        chain = [measure(x, peers, w, scratch)[0].dense(peers)]
        for level in range(len(levels), 0, -1):
            chain.insert(0, chain[0].merged(levels.parents[level - 1], levels.size(level - 1)))
        for into, moments in zip(found, chain, strict=True):
            for name in ("n", "weight", "square", "mean", "m2"):
                getattr(into, name)[rows] = getattr(moments, name)

    walk(X, codes, levels.n_groups, weights, work)
    return found
