"""Estimability: whether batch and what is kept can be told apart.

Statistics go in; a refusal that names the levels comes out, or nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ..exceptions import ConfoundedDesignError, TooFewSamplesError
from .design import Column, Factor, kept_of, repr_label, repr_labels, slices
from .least_squares import RANK_TOLERANCE, rank_of, spectrum, total_products, unit_of
from .statistics import BatchStatistics


def check_estimable(statistics: BatchStatistics) -> None:
    """Refuse a design in which batch and a kept column cannot be told apart.

    What is kept must add its full rank to batch and nuisance. Nuisance that batch
    already explains is no obstacle: removing batch removes it.

    Raises
    ------
    TooFewSamplesError
        No more rows than batches and columns to estimate.
    ConfoundedDesignError
        Naming the levels, when they are those of one factor.
    """
    moments, columns = statistics.moments, statistics.columns
    if not columns:
        return
    kept = kept_of(columns)
    total, within = total_products(moments), moments.row_zz.sum(axis=0)
    unit = unit_of(total)
    rank = rank_of(within, total)
    needed = rank_of(total[np.ix_(kept, kept)], total[np.ix_(kept, kept)])
    needed += rank_of(within[np.ix_(~kept, ~kept)], total[np.ix_(~kept, ~kept)])
    n = int(moments.rows.sum())
    if rank >= needed:
        if n <= len(statistics.batches) + rank:
            raise TooFewSamplesError(_too_few(statistics, rank))
        return
    for column, at in zip(columns, slices(columns), strict=True):
        message = _confounded(statistics, column, at, total, within)
        if column.role == "keep" and message:
            raise ConfoundedDesignError(message)
    if n <= len(statistics.batches) + needed:
        raise TooFewSamplesError(_too_few(statistics, needed))
    # the directions of z that vary over all rows and not within batches
    _, vectors, counts = spectrum(within, unit)
    flat = vectors[:, ~counts] * unit[:, None]
    spread, turn = np.linalg.eigh(flat.T @ total @ flat)
    lost = (vectors[:, ~counts] @ turn)[:, spread > RANK_TOLERANCE]
    names = _involved(columns, lost)
    if not names:  # it is not batch that explains it
        raise ConfoundedDesignError(
            f"What is kept and what is removed cannot be told apart: {_tied(columns, total, kept)} follow from each "
            "other. Keep, or remove, one of them only."
        )
    raise ConfoundedDesignError(
        f"Batch and the columns {', '.join(names)} together cannot be told apart: some "
        "combination of them has one value within every batch. Keep fewer columns, or run "
        "samples that break the tie."
    )


def _tied(columns: Sequence[Column], total: np.ndarray, kept: np.ndarray) -> str:
    """The columns, kept and removed, that take part in combinations without spread of their own."""
    unit = unit_of(total)
    flat = []
    for part in (kept, ~kept, np.ones_like(kept)):
        _, vectors, counts = spectrum(total[np.ix_(part, part)], unit[part])
        whole = np.zeros((len(total), int((~counts).sum())))
        whole[part] = vectors[:, ~counts]
        flat.append(whole)
    own = np.hstack(flat[:2])
    # directions that are flat together, less those flat among the kept or among the removed alone
    together = flat[2] - own @ np.linalg.lstsq(own, flat[2], rcond=None)[0] if own.shape[1] else flat[2]
    return ", ".join(_involved(columns, together) or [repr(c.name) for c in columns])


def nearly_redundant(statistics: BatchStatistics) -> list[str]:
    """Columns (as repr) of which some combination varies too little to be estimated, yet more than by rounding.

    A column that others give exactly, as a level does that follows from the rest, is none of them: it takes nothing
    with it.
    """
    columns = statistics.columns
    if not columns:
        return []
    total = total_products(statistics.moments)
    values, vectors, counts = spectrum(total, unit_of(total))
    rounding = 4 * np.finfo(np.float64).eps * len(total)
    return _involved(columns, vectors[:, ~counts & (values > rounding)])


def _involved(columns: Sequence[Column], directions: np.ndarray) -> list[str]:
    """Columns that take part in some directions of z (q, k)."""
    return [
        repr(c.name)
        for c, at in zip(columns, slices(columns), strict=True)
        if np.abs(directions[at]).max(initial=0.0) > np.sqrt(RANK_TOLERANCE)
    ]


def _confounded(statistics: BatchStatistics, column: Column, at: slice, total: np.ndarray, within: np.ndarray) -> str:
    """Say how this column alone is confounded with batch; empty if it is not."""
    if isinstance(column, Factor):
        return _disconnected(statistics, column, statistics.moments.row_z_mean[:, at] > 0)
    whole, inside = total[at, at].item(), within[at, at].item()
    if whole == 0 or inside > RANK_TOLERANCE * whole:
        return ""
    return (
        f"Batch and {column.name!r} cannot be told apart: {column.name!r} has one value within "
        "every batch, and no correction can separate the two. Run samples with different "
        f"{column.name!r} in one batch, or correct without keeping it."
    )


def _too_few(statistics: BatchStatistics, rank: int) -> str:
    n = int(statistics.moments.rows.sum())
    names = ", ".join(repr(c.name) for c in statistics.columns)
    return (
        f"There must be more rows than things to estimate, got {n} rows for "
        f"{len(statistics.batches)} batches and {rank} independent columns of {names}. "
        "Keep fewer columns, merge levels, or add samples."
    )


def blocks_of(meets: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Connected blocks of a batch x level table: [(batches, levels), ...].

    Two levels can be compared only inside a block (Weeks and Williams 1964,
    "A note on the determination of connectedness in an N-way cross classification").
    """
    n_batches, n_levels = meets.shape
    b, level = np.nonzero(meets)
    n = n_batches + n_levels
    graph = coo_array((np.ones(len(b)), (b, n_batches + level)), shape=(n, n))
    count, label = connected_components(graph, directed=False)
    parts = []
    for k in range(count):
        here = np.flatnonzero(label == k)
        parts.append((here[here < n_batches], here[here >= n_batches] - n_batches))
    return parts


def _disconnected(statistics: BatchStatistics, factor: Factor, meets: np.ndarray) -> str:
    parts = [(b, v) for b, v in blocks_of(meets) if len(v)]
    if len(parts) < 2:
        return ""
    holds = "; ".join(
        f"batches {repr_labels(statistics.batches[b])} hold only {repr_labels(factor.levels[v])}" for b, v in parts[:4]
    )
    inside = next((v for _, v in parts if len(v) > 1), None)
    first, second = (factor.levels[v[0]] for _, v in parts[:2])
    compare = f"{repr_label(first)} - {repr_label(second)} cannot be estimated"
    if inside is not None:
        x, y = (repr_label(v) for v in factor.levels[inside[:2]])
        compare = f"{x} - {y} can be estimated, " + compare
    return (
        f"Batch and {factor.name!r} cannot be told apart: {holds}. {compare}, and no correction "
        "can fix that. Run samples of both kinds in one batch, compare within a block, "
        f"or correct without keeping {factor.name!r}."
    )
