"""Design: columns beside the batch, the linear model on them, and what it can tell apart.

Moments of (x, z) by batch go in; the model

    x = location_b + (z - pivot) coef + error

comes out, by least squares within batches. `pivot` is the mean of z over all rows,
so nothing depends on how a factor is coded or which level is its baseline.
Factors are full one-hot: a level to leave out is chosen when solving, hence a
level that arrives later is only one more column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ..exceptions import (
    AmbiguousKeepError,
    ConfoundedDesignError,
    MergeError,
    TooFewSamplesError,
    UnknownLevelError,
)
from .affine import Frame
from .moments import CoMoments
from .ties import Ties

RANK_TOLERANCE = 1e-10
"""An eigenvalue of a correlation matrix below this share of the largest is zero."""


@dataclass(frozen=True)
class Factor:
    """A categorical column; `levels` are its sorted labels.

    Examples
    --------
    >>> import numpy as np
    >>> Factor("group", np.array(["a", "b"])).encode(np.array(["b", "a"]))
    array([[0., 1.],
           [1., 0.]])
    """

    name: str
    levels: np.ndarray
    role: str = "keep"
    loose: bool = False
    """Integer-coded with two values, so far: a factor and a number alike."""

    def __post_init__(self) -> None:
        if self.loose and len(self.levels) > 2:
            shown = ", ".join(repr_label(v) for v in self.levels[:4])
            raise AmbiguousKeepError(
                f"Column {self.name!r} must say whether it is a factor or a number, got integers ({shown}"
                f"{', ...' if len(self.levels) > 4 else ''}). Name it in keep_factors or keep_numbers, "
                "or give it a category or float dtype."
            )

    @property
    def width(self) -> int:
        """Design columns that it takes: one a level."""
        return len(self.levels)

    def codes(self, values: np.ndarray) -> np.ndarray:
        """Position of each value among the levels, -1 if it is none of them."""
        return codes_of(values, self.levels)

    def encode(self, values: np.ndarray) -> np.ndarray:
        """One-hot (n, width); UnknownLevelError for a level that is not known."""
        codes = self.codes(values)
        if (codes < 0).any():
            bad = sorted({repr_label(v) for v in np.asarray(values)[codes < 0]})
            known = ", ".join(repr_label(v) for v in self.levels)
            raise UnknownLevelError(
                f"{self.name!r} must hold levels seen in fit ({known}), got {', '.join(bad[:5])}. "
                "Fit (or partial_fit) with rows of that level, or leave these rows out."
            )
        return np.asarray(codes[:, None] == np.arange(self.width), dtype=np.float64)

    def __add__(self, other: Column) -> Factor:
        if not isinstance(other, Factor) or other.role != self.role:
            raise MergeError(_kinds(self, other))
        levels = union_of(self.levels, other.levels, self.name)
        return replace(self, levels=levels, loose=self.loose and other.loose)


@dataclass(frozen=True)
class Number:
    """A numeric column."""

    name: str
    role: str = "keep"

    @property
    def width(self) -> int:
        """Design columns that it takes."""
        return 1

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Return the values as one column (n, 1)."""
        return np.asarray(values, dtype=np.float64)[:, None]

    def __add__(self, other: Column) -> Number:
        if not isinstance(other, Number) or other.role != self.role:
            raise MergeError(_kinds(self, other))
        return self


Column = Factor | Number


def _kinds(a: Column, b: Column) -> str:
    def says(column: Column) -> str:
        return f"a {'factor' if isinstance(column, Factor) else 'number'} ({column.role})"

    return (
        f"Column {a.name!r} must be of one kind throughout, got {says(a)} and then {says(b)}. "
        "Give it the same dtype everywhere."
    )


def repr_label(label: object) -> str:
    """Show a label as a person wrote it: 'p7' or 7, never np.str_('p7')."""
    return repr(label.item() if isinstance(label, np.generic) else label)


def repr_labels(labels: Sequence[object] | np.ndarray, most: int = 8) -> str:
    """Labels in braces, cut after `most`."""
    shown = [repr_label(v) for v in labels[:most]]
    if len(labels) > most:
        shown.append(f"... {len(labels) - most} more")
    return "{" + ", ".join(shown) + "}"


def _kind(labels: np.ndarray) -> str:
    return {"S": "U", "i": "f", "u": "f", "b": "f"}.get(labels.dtype.kind, labels.dtype.kind)


def codes_of(values: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Positions of `values` among sorted `levels`, -1 where a value is none of them."""
    values = np.asarray(values)
    if len(levels) == 0 or len(values) == 0 or _kind(values) != _kind(levels):
        return np.full(len(values), -1)
    at = np.minimum(np.searchsorted(levels, values), len(levels) - 1)
    return np.where(levels[at] == values, at, -1)


def union_of(a: np.ndarray, b: np.ndarray, name: str) -> np.ndarray:
    """Sorted union of two sets of labels of one kind."""
    if len(a) and len(b) and _kind(a) != _kind(b):
        raise MergeError(
            f"Labels of {name!r} must be of one kind throughout, got {repr_labels(a)} and then "
            f"{repr_labels(b)}. Make all of them strings, or all of them numbers."
        )
    return np.union1d(a, b)


def encode(columns: Sequence[Column], values: dict[str, np.ndarray], n: int) -> np.ndarray:
    """Design matrix (n, q): the columns side by side."""
    return np.hstack([np.zeros((n, 0)), *(c.encode(values[c.name]) for c in columns)])


def slices(columns: Sequence[Column]) -> list[slice]:
    """Which design columns belong to which column."""
    ends = np.cumsum([0, *(c.width for c in columns)])
    return [slice(int(a), int(b)) for a, b in zip(ends[:-1], ends[1:], strict=True)]


@dataclass(frozen=True)
class BatchStatistics:
    """All that fitting needs to know of its rows: labels, design columns, moments.

    `+` adds the statistics of other rows, whose batches and levels may be new. This
    is what sites share when rows may not leave them.

    Attributes
    ----------
    batches : array (B,)
        Sorted labels.
    columns : tuple of Factor and Number
        What the q design columns are.
    moments : CoMoments
        Groups in the order of `batches`.
    eps : float
        Rounding unit of the coarsest dtype seen.
    present : array (B, p) or None
        Cells declared present (see ComBat's scale_where), counted.
    ties : Ties or None
        Commonest values, where presence is to be read off them.
    robust : Frame of arrays (B, p) or None
        Medians and MADs, which cannot be added.
    """

    batches: np.ndarray
    columns: tuple[Column, ...]
    moments: CoMoments
    eps: float
    present: np.ndarray | None = None
    ties: Ties | None = None
    robust: Frame | None = None

    def __add__(self, other: BatchStatistics) -> BatchStatistics:
        """Statistics of both sets of rows together."""
        if self.robust is not None or other.robust is not None:
            raise MergeError(
                "Statistics must add up to be merged, got a median or a MAD, which do not. "
                "Use location='mean' and scale='std', or fit on all rows at once."
            )
        if [c.name for c in self.columns] != [c.name for c in other.columns]:
            raise MergeError(
                "Both sides must keep and remove the same columns, got "
                f"{[c.name for c in self.columns]} and {[c.name for c in other.columns]}."
            )
        if (self.present is None) != (other.present is None) or (self.ties is None) != (other.ties is None):
            raise MergeError("scale_where must be given for all rows or for none.")
        batches = union_of(self.batches, other.batches, "batch")
        columns = tuple(a + b for a, b in zip(self.columns, other.columns, strict=True))
        a, b = self._among(batches, columns), other._among(batches, columns)
        return BatchStatistics(
            batches,
            columns,
            moments=a.moments + b.moments,
            eps=max(a.eps, b.eps),
            present=None if a.present is None or b.present is None else a.present + b.present,
            ties=None if a.ties is None or b.ties is None else a.ties + b.ties,
        )

    def _among(self, batches: np.ndarray, columns: tuple[Column, ...]) -> BatchStatistics:
        groups = codes_of(self.batches, batches)
        places: list[np.ndarray] = [np.zeros(0, dtype=int)]
        for old, new, at in zip(self.columns, columns, slices(columns), strict=True):
            if isinstance(old, Factor) and isinstance(new, Factor):
                places.append(at.start + new.codes(old.levels))
            else:
                places.append(np.array([at.start]))
        q = sum(c.width for c in columns)
        present = None
        if self.present is not None:
            present = np.zeros((len(batches), self.present.shape[1]))
            present[groups] = self.present
        return replace(
            self,
            batches=batches,
            columns=columns,
            moments=self.moments.place(groups, len(batches), np.concatenate(places), q),
            present=present,
            ties=None if self.ties is None else self.ties.place(groups, len(batches)),
        )


@dataclass(frozen=True)
class LinearFit:
    """The least-squares model of every feature.

    Attributes
    ----------
    location : array (B, p)
        Fitted value of each batch at the pivot; NaN where a batch has no observed value.
    coef : array (q, p)
        Change of x with each design column, within batches.
    pivot : array (q,)
        Mean of z over all rows.
    rss : array (B, p)
        Sum of squared residuals.
    n : array (B, p)
        Observed values.
    rank : int
        Design columns that can be estimated.
    estimable : array (p,) of bool
        False where a feature's own missing values make batch and z inseparable.
    """

    location: np.ndarray
    coef: np.ndarray
    pivot: np.ndarray
    rss: np.ndarray
    n: np.ndarray
    rank: int
    estimable: np.ndarray

    def residuals(self, other: CoMoments, about: bool = True) -> tuple[np.ndarray, np.ndarray]:
        """Location at the pivot and residual sum of squares of other rows under this model.

        With `about=False` nothing is known of the other rows' z: they count as at the pivot.
        """
        if not about or not len(self.coef):
            mean: np.ndarray = other.x.mean
            m2: np.ndarray = other.x.m2
            return mean, m2
        return _under(other, self.coef, self.pivot)


def least_squares(moments: CoMoments) -> LinearFit:
    """Fit the model to moments by batch.

    Solves (sum_b zz_b) coef = sum_b zx_b for every feature, after scaling z to unit
    spread; a redundant column (the level to leave out) falls to the minimum-norm
    solution, which gives the same fitted values as any other choice.
    """
    rows = moments.rows
    pivot = rows @ moments.row_z_mean / rows.sum()
    q, p = moments.zx.shape[1:]
    estimable = np.ones(p, dtype=bool)
    if q == 0:
        coef, rank = np.zeros((0, p)), 0
    else:
        right = moments.zx.sum(axis=0)
        within = moments.zz.sum(axis=0)
        rank = _rank(moments.row_zz.sum(axis=0), _total(moments))
        if moments.complete:
            coef = _solve(within[:, :, 0], right, _total(moments))
        else:
            coef, estimable = _solve_each(moments, within, right)
    location, rss = _under(moments, coef, pivot)
    location = np.where(moments.x.n > 0, location, np.nan)
    return LinearFit(location, coef, pivot, rss, np.asarray(moments.x.n), rank, estimable)


def _under(
    moments: CoMoments, coef: np.ndarray, pivot: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Location at the pivot and residual sum of squares, given the coefficients."""
    mean, m2 = moments.x.mean, moments.x.m2
    if len(coef) == 0:
        return mean, m2
    z_off = moments.z_mean - pivot[:, None]
    if moments.complete:
        location = mean - z_off[:, :, 0] @ coef
        explained = np.einsum("bjk,kp->bjp", moments.zz[:, :, :, 0], coef)
    else:
        location = mean - np.einsum("bkp,kp->bp", z_off, coef)
        explained = np.einsum("bjkp,kp->bjp", moments.zz, coef)
    rss = m2 - np.einsum("bjp,jp->bp", 2 * moments.zx - explained, coef)
    # what is left of m2 after taking almost all of it away is rounding
    noise = 64 * np.finfo(np.float64).eps * m2
    return location, np.where(rss > noise, rss, 0.0)


def _total(moments: CoMoments) -> np.ndarray:
    """Cross products of z about its overall row mean, (q, q)."""
    off = moments.row_z_mean - moments.rows @ moments.row_z_mean / moments.rows.sum()
    between = off.T @ (off * moments.rows[:, None])
    return np.asarray(moments.row_zz.sum(axis=0) + between)


def _unit(total: np.ndarray) -> np.ndarray:
    """1 / spread of each design column, 0 for a column that does not vary."""
    diagonal = np.einsum("...jj->...j", total)
    with np.errstate(divide="ignore"):
        return np.where(diagonal > 0, 1 / np.sqrt(diagonal), 0.0)


def _spectrum(within: np.ndarray, unit: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Eigenvalues and vectors of z's cross products in units of its spread, and which count."""
    values, vectors = np.linalg.eigh(within * unit[..., :, None] * unit[..., None, :])
    return values, vectors, values > RANK_TOLERANCE


def _rank(within: np.ndarray, total: np.ndarray) -> int:
    return int(_spectrum(within, _unit(total))[2].sum())


def _solve(within: np.ndarray, right: np.ndarray, total: np.ndarray) -> np.ndarray:
    unit = _unit(total)
    values, vectors, counts = _spectrum(within, unit)
    basis = vectors[:, counts] * unit[:, None]
    solution: np.ndarray = basis @ ((basis.T @ right) / values[counts, None])
    return solution


def _solve_each(
    moments: CoMoments, within: np.ndarray, right: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Solve per feature, each with the rows where it is observed."""
    n = moments.x.n
    mean = (moments.z_mean * n[:, None]).sum(axis=0) / np.maximum(n.sum(axis=0), 1)
    off = moments.z_mean - mean
    total = within + np.einsum("bjp,bkp,bp->jkp", off, off, n)
    within_, total_ = within.transpose(2, 0, 1), total.transpose(2, 0, 1)
    unit = _unit(total_)
    values, vectors, counts = _spectrum(within_, unit)
    all_counts = _spectrum(total_, unit)[2]
    inverse = np.where(counts, 1 / np.where(counts, values, 1), 0)
    basis = vectors * unit[:, :, None]
    coef = np.einsum("pjk,pk,plk,lp->jp", basis, inverse, basis, right, optimize=True)
    row_total = _total(moments)
    allowed = _rank(row_total, row_total) - _rank(moments.row_zz.sum(axis=0), row_total)
    deficit = all_counts.sum(axis=1) - counts.sum(axis=1)
    return coef, np.asarray(deficit <= allowed)


def explained_by_batch(moments: CoMoments) -> np.ndarray:
    """Share of each design column's variance that lies between batches, (q,): R2 on batch."""
    total = np.diag(_total(moments))
    within = np.diag(moments.row_zz.sum(axis=0))
    return np.where(total > 0, 1 - within / np.where(total > 0, total, 1), 0.0)


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
    kept = np.concatenate([np.full(c.width, c.role == "keep") for c in columns] or [np.zeros(0)])
    if not kept.any():
        return
    total, within = _total(moments), moments.row_zz.sum(axis=0)
    kept, unit = kept.astype(bool), _unit(total)
    rank = _rank(within, total)
    needed = _rank(total[np.ix_(kept, kept)], total[np.ix_(kept, kept)])
    needed += _rank(within[np.ix_(~kept, ~kept)], total[np.ix_(~kept, ~kept)])
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
    _, vectors, counts = _spectrum(within, unit)
    flat = vectors[:, ~counts] * unit[:, None]
    spread, turn = np.linalg.eigh(flat.T @ total @ flat)
    lost = (vectors[:, ~counts] @ turn)[:, spread > RANK_TOLERANCE]
    names = [
        repr(c.name)
        for c, at in zip(columns, slices(columns), strict=True)
        if np.abs(lost[at]).max(initial=0.0) > np.sqrt(RANK_TOLERANCE)
    ]
    raise ConfoundedDesignError(
        f"Batch and the columns {', '.join(names)} together cannot be told apart: some "
        "combination of them has one value within every batch. Keep fewer columns, or run "
        "samples that break the tie."
    )


def _confounded(
    statistics: BatchStatistics, column: Column, at: slice, total: np.ndarray, within: np.ndarray
) -> str:
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
        f"batches {repr_labels(statistics.batches[b])} hold only {repr_labels(factor.levels[v])}"
        for b, v in parts[:4]
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
