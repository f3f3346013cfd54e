"""Standing: where each cell stands among its peers.

A table (rows, p), the group of each column or cell, and a recipe flow in; standard values of the same shape and the
statistics behind them, (rows, groups), flow out:

    z = (x - center_g) / scale_g

A row's groups are those of its own cells alone; which statistics a small or nameless group is given is said in
chain.py. Blocks of a few rows are worked on in the cache.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .chain import Chain, Triple, first_level, may_lack_scale, scale_above
from .leave_one_out import left_out
from .moments import NOISE
from .peer_rows import walk
from .peer_statistics import PeerMoments, Scratch, measure
from .peers import Levels, Peers
from .recipe import Recipe
from .winsorizing import winsorize

NEGLIGIBLE = 2.0**-53
"""A shift of this many standard deviations does not change a standard value near 1."""


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
    if recipe.plain and first_level(levels, recipe) == len(levels) and all(each.all() for each in levels.labelled):
        found = _alone(x, peers, levels, recipe, weights, scratch)
        empty = (np.nan, np.nan, 0.0)
        return Standing(*(peers.dense(v, e) for v, e in zip(found, empty, strict=True))) if statistics else None
    if recipe.clip is not None:
        winsorize(x, peers, levels, recipe, weights)
    whole = x.copy() if recipe.leave_one_out or recipe.center is None else None
    chain = Chain(x, peers, levels, recipe, weights, scratch)
    center, scale, count = chain.resolve(borrow=recipe.scale is not None)
    if recipe.leave_one_out and whole is not None:
        x[...] = left_out(whole, weights, peers, levels, chain.moments, recipe)
    elif whole is not None:
        x[...] = whole
        _scale_by(chain, x, peers, Standing(center, scale, count))
    else:
        _scale_by(chain, x, peers, Standing(center, scale, count), offset=peers.pick(center) - chain.base)
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
    if may_lack_scale(recipe, weights):
        lost = np.isnan(scale) & (moments.n > 1)
        if lost.any() and len(levels):
            scale = np.where(lost, peers.pick(scale_above(moments.dense(peers), levels, recipe)), scale)
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


def _scale_by(chain: Chain, x: np.ndarray, peers: Peers, standing: Standing, offset: np.ndarray | None = None) -> None:
    """Divide x - offset by statistics in use; NaN where they are not known."""
    center, scale, lost = standing.center, standing.scale, None
    if chain.recipe.scale is not None:
        lost = peers.pick(np.isnan(scale) & ~np.isnan(center) & ~chain.of_one(standing.count))
    _scale(x, peers, peers.pick(center), peers.pick(scale), chain.recipe, offset, lost)


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
            winsorize(x, peers, levels, recipe, w)
        chain = [measure(x, peers, w, scratch)[0].dense(peers)]
        for level in range(len(levels), 0, -1):
            chain.insert(0, chain[0].merged(levels.parents[level - 1], levels.size(level - 1)))
        for into, moments in zip(found, chain, strict=True):
            for name in ("n", "weight", "square", "mean", "m2"):
                getattr(into, name)[rows] = getattr(moments, name)

    walk(X, codes, levels.n_groups, weights, work)
    return found
