"""Scores: the ways to say where a cell stands among its peers, and the way back.

A table, groups and a recipe flow in; scores and the statistics behind them flow out:

    zscore       (x - center) / scale
    rank         (rank - 1/2) / n                       gauss_rank   its normal quantile
    neutralized  the residual of x on its row's groups and exposures together, then scaled

The way back is x = score * scale + center (+ sum_k beta_k exposure_k).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from . import blocks
from .hierarchy import ShrinkageSums
from .moments import NOISE
from .neutralize import neutralize
from .peers import Levels
from .ranks import grouped_gauss_rank, grouped_rank
from .recipe import Recipe
from .standing import Standing, level_moments, standardize

RANKS: dict[str, Callable[..., np.ndarray]] = {"rank": grouped_rank, "gauss_rank": grouped_gauss_rank}


@dataclass(frozen=True)
class Sheet:
    """Rows whose cells are compared within each row.

    Attributes
    ----------
    X : array (rows, p), float64 or float32
        NaN is missing.
    codes : integer array (p,) or (rows, p)
    weights : array (p,) or (rows, p), or None
    exposures : array (p, k) or (rows, p, k), or None
        What is to be neutralized along with the groups.
    """

    X: np.ndarray
    codes: np.ndarray
    weights: np.ndarray | None = None
    exposures: np.ndarray | None = None


def score(
    sheet: Sheet, levels: Levels, recipe: Recipe, method: str, out: np.ndarray, *, statistics: bool = True
) -> tuple[Standing | None, np.ndarray | None]:
    """Write scores to `out`; return the statistics (of ranks, only if wanted) and the betas (rows, k) of exposures."""
    betas = None
    standing: Standing | None = None
    if sheet.exposures is not None:
        # residuals are ranked as they are: those of different groups may be ranked together
        plain = recipe if method == "zscore" else replace(recipe, scale=None)
        standing, betas = _neutralized(sheet, levels, plain, out)
        sheet = replace(sheet, X=out, exposures=None)
    if method == "zscore":
        if standing is None:
            X, codes, weights = sheet.X, sheet.codes, sheet.weights
            standing = standardize(X, codes, levels, recipe, weights=weights, out=out, statistics=statistics)
        return standing, betas
    if statistics and standing is None:
        spare = np.empty(sheet.X.shape)
        standing = standardize(sheet.X, sheet.codes, levels, recipe, weights=sheet.weights, out=spare)
    _rank(sheet, levels, recipe, RANKS[method], out)
    return standing, betas


def restore(
    Z: np.ndarray,
    codes: np.ndarray,
    standing: Standing,
    out: np.ndarray,
    betas: np.ndarray | None = None,
    exposures: np.ndarray | None = None,
) -> None:
    """Write x = z * scale + center (+ exposures @ betas) to `out`; where a scale is 0 or unknown, z is 0."""
    divided = np.where(standing.scale > 0, standing.scale, 1.0)
    n, p = Z.shape
    for a, b in blocks.spans(0, n, blocks.rows_per_chunk(p, Z.nbytes)):
        own = codes if codes.ndim == 1 else codes[a:b]
        at = np.broadcast_to(own, (b - a, p)).astype(np.intp)
        x = Z[a:b] * np.take_along_axis(divided[a:b], at, axis=1)
        x += np.take_along_axis(standing.center[a:b], at, axis=1)
        if betas is not None and exposures is not None:
            of_rows = exposures if exposures.ndim == 2 else exposures[a:b]
            x += np.einsum("...pk,nk->np" if exposures.ndim == 2 else "npk,nk->np", of_rows, betas[a:b])
        out[a:b] = x


def shrinkage_sums(sheet: Sheet, levels: Levels, recipe: Recipe) -> list[ShrinkageSums]:
    """Sums that say how much each level is shrunk toward the one above, coarse to fine; those of more rows add."""
    chain = level_moments(sheet.X, sheet.codes, levels, sheet.weights, recipe)
    found = []
    for moments, parent, labelled in zip(chain[1:], levels.parents, levels.labelled, strict=True):
        n = np.where(labelled, moments.effective, 0.0)
        # in the unit of a value: weights have any
        m2 = moments.m2 * (moments.effective / np.where(moments.weight > 0, moments.weight, 1.0))
        found.append(ShrinkageSums.of(n, moments.mean, m2, parent))
    return found


def _named(codes: np.ndarray, levels: Levels) -> np.ndarray:
    """Codes, -1 for cells that no level has a label for."""
    nameless = levels.nameless
    if not nameless.any():
        return codes
    place = np.where(nameless, -1, np.arange(len(nameless)))
    return np.asarray(place[codes])


def _as_fitted(levels: Levels) -> Levels:
    """Levels as dummies see them: cells without a label at the finest alone are a group for themselves."""
    if not len(levels):
        return levels
    return Levels(levels.parents, (*levels.labelled[:-1], ~levels.nameless))


def _neutralized(sheet: Sheet, levels: Levels, recipe: Recipe, out: np.ndarray) -> tuple[Standing, np.ndarray]:
    """Write the scaled residual on groups and exposures to `out`."""
    X, exposures = sheet.X, sheet.exposures
    levels = _as_fitted(levels)
    if recipe.clip is not None:
        X = np.empty(X.shape)
        plain = replace(recipe, center=None, scale=None)
        standardize(sheet.X, sheet.codes, levels, plain, weights=sheet.weights, out=X)
    whole = level_moments(X, sheet.codes, levels)[-1]
    residuals, intercepts, betas = neutralize(
        X, _named(sheet.codes, levels), levels.n_groups, np.asarray(exposures), sheet.weights
    )
    left = level_moments(residuals, sheet.codes, levels)[-1]
    safe = np.maximum(whole.n, 1)
    size = np.sqrt(whole.m2 / safe) + np.abs(whole.mean)
    exact = np.sqrt(left.m2 / safe) <= NOISE * recipe.eps * size  # what is explained whole leaves rounding alone
    at = np.broadcast_to(sheet.codes, X.shape).astype(np.intp)
    residuals[np.take_along_axis(exact, at, axis=1) & ~np.isnan(residuals)] = 0.0
    found = standardize(
        residuals, sheet.codes, levels, replace(recipe, clip=None), weights=sheet.weights, out=out
    )  # about their means, which are 0
    assert found is not None  # statistics are wanted
    return Standing(intercepts, np.where(exact, 0.0, found.scale), found.count), betas


def _rank(sheet: Sheet, levels: Levels, recipe: Recipe, ranked: Callable[..., np.ndarray], out: np.ndarray) -> None:
    """Ranks in each cell's group, or in the nearest group above that is large enough and has a label."""
    if recipe.min_size == 1 and all(labelled.all() for labelled in levels.labelled):
        ranked(sheet.X, sheet.codes, levels.n_groups, out=out)
        return
    X, codes = np.array(sheet.X), np.broadcast_to(sheet.codes, sheet.X.shape)
    count = level_moments(np.where(np.isnan(X), X, 0.0), sheet.codes, levels)  # of any values: they are ranked alone
    out[...] = np.nan
    open_cells = np.ones(X.shape, dtype=bool)
    for level in range(len(levels), -1, -1):
        own = levels.ancestors(level)[codes]
        labelled = levels.labelled[level - 1] if level else np.ones(1, dtype=bool)
        enough = (np.take_along_axis(count[level].n, own, axis=1) >= recipe.min_size) & labelled[own]
        now = open_cells & enough
        if level == 0 and len(levels):
            now &= levels.labelled[0][levels.ancestors(1)[codes]]  # the whole row is no parent of the unlabelled
        if now.any():
            out[now] = ranked(X, own, levels.size(level))[now]
        open_cells &= ~now
