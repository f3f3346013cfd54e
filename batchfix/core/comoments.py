"""Moments of x with design columns z: everything that a linear model of x on z with an intercept a group needs.

They add as moments do, with a product in place of a square. One number more is kept, `rest`, the squares that a group's
own regression leaves over. It could be had from the others as a difference, but where z explains all but 1e-10 of x ten
of sixteen digits would be gone. It adds without any difference,

    rest  =  rest_a + rest_b + min over b of  |R_a (b - b_a)|^2 + |R_b (b - b_b)|^2 + (x_step - z_step b)^2 n_a n_b / n

where R'R = zz, b_a and b_b are the coefficients of both sides, and steps are between their means. What other
coefficients b leave over is a sum too: rest + |R (b - b_own)|^2. Columns that are nearly collinear in a group cost
digits as everywhere: what tells them apart by less than 1e-13 of their squares is left out there, and stays in rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from ..exceptions import BatchfixError
from . import blocks
from .moments import Moments, share_of
from .semidefinite import Roots

LOST = 1e-5
"""Where a smaller share of the squares is left, a difference has lost 5 of 16 digits, and is not taken."""

PRODUCTS_AT_ONCE = 1 << 18
"""Products worked on at a time."""

SMALLEST_M2 = 1e-306
"""Below this a sum of squares has lost its digits to underflow."""

SMALLEST_SPREAD = 1e-140


@dataclass(frozen=True)
class CoMoments:
    """Moments of x with design columns z, in B groups of rows (numpy).

    Everything that a linear model of x on z with one intercept a group needs.
    `p` features, `q` design columns. The statistics of z are those of the rows
    where x is observed: one set for all features (last axis 1) as long as nothing
    is missing, else one a feature (last axis p).

    Attributes
    ----------
    x : Moments of arrays (B, p)
        Over the observed values of each feature.
    z_mean : array (B, q, 1 or p)
    zz : array (B, q, q, 1 or p)
        Centred cross products of z with itself.
    zx : array (B, q, p)
        Centred cross products of z with x.
    rows : array (B,)
        Rows in the group, whether observed or not.
    row_z_mean, row_zz : arrays (B, q), (B, q, q)
        The same statistics of z over all rows.
    rest : array (B, p)
        Sum of squares of x that its regression on z within the group leaves over.
    """

    x: Moments
    z_mean: np.ndarray
    zz: np.ndarray
    zx: np.ndarray
    rows: np.ndarray
    row_z_mean: np.ndarray
    row_zz: np.ndarray
    rest: np.ndarray

    @property
    def complete(self) -> bool:
        """Whether one set of z statistics, that of all rows, serves every feature."""
        if self.x.n.shape[1] == 1:  # one feature has one set, whatever it misses
            return bool(np.array_equal(self.x.n[:, 0], self.rows))
        return bool(self.z_mean.shape[-1] == 1)

    @property
    def z_count(self) -> np.ndarray:
        """Rows behind `z_mean` and `zz`, (B, 1) or (B, p)."""
        return self.rows[:, None] if self.complete else np.asarray(self.x.n)

    def __add__(self, other: CoMoments) -> CoMoments:
        """Merge group by group."""
        both = self.add_sums(other)
        return replace(both, rest=_rest_of_both(self, other, both))

    def add_sums(self, other: CoMoments) -> CoMoments:
        """Merge all but `rest`, which is a bound: the formula of moments with a product in place of a square."""
        n_a, n_b = self.z_count, other.z_count
        _, share = share_of(n_a, n_b)
        z_step = other.z_mean - self.z_mean
        z_mean = self.z_mean + z_step * share[:, None, :]
        weight = (n_a * share)[:, None, None, :]
        zz = self.zz + other.zz + z_step[:, :, None, :] * (z_step[:, None, :, :] * weight)

        _, x_share = share_of(self.x.n, other.x.n)
        x_step = (other.x.mean - self.x.mean) * (self.x.n * x_share)
        zx = self.zx + other.zx + z_step * x_step[:, None, :]

        rows, row_share = share_of(self.rows, other.rows)
        row_step = other.row_z_mean - self.row_z_mean
        row_weight = (self.rows * row_share)[:, None, None]
        with np.errstate(over="ignore", invalid="ignore"):
            x = self.x + other.x
        apart = np.where((self.x.n > 0) & (other.x.n > 0), np.abs(other.x.mean - self.x.mean), 0.0)
        check_squares(x.m2, apart, x.mean)
        return CoMoments(
            x=x,
            z_mean=z_mean,
            zz=zz,
            zx=zx,
            rows=rows,
            row_z_mean=self.row_z_mean + row_step * row_share[:, None],
            row_zz=self.row_zz + other.row_zz + row_step[:, :, None] * (row_step[:, None, :] * row_weight),
            rest=self.rest + other.rest,
        )

    def place(self, groups: np.ndarray, n_groups: int, columns: np.ndarray, n_columns: int) -> CoMoments:
        """Return the same statistics among `n_groups` groups and `n_columns` design columns.

        Group i moves to `groups[i]`, column k to `columns[k]`. New groups are empty.
        A new column is 0 in every old row, which is what the indicator of a level
        that had not been seen is.
        """

        def spread(old: np.ndarray, *axes: np.ndarray) -> np.ndarray:
            sizes = (n_groups,) + (n_columns,) * (len(axes) - 1)
            new = np.zeros(sizes + old.shape[len(axes) :])
            new[np.ix_(*axes)] = old
            return new

        x = Moments(*(spread(v, groups) for v in (self.x.n, self.x.mean, self.x.m2)))
        return CoMoments(
            x=x,
            z_mean=spread(self.z_mean, groups, columns),
            zz=spread(self.zz, groups, columns, columns),
            zx=spread(self.zx, groups, columns),
            rows=spread(self.rows, groups),
            row_z_mean=spread(self.row_z_mean, groups, columns),
            row_zz=spread(self.row_zz, groups, columns, columns),
            rest=spread(self.rest, groups),
        )

    def only(self, k: int) -> CoMoments:
        """Return the statistics of group k alone."""
        return _group(self, slice(k, k + 1))

    @classmethod
    def join(cls, parts: list[CoMoments]) -> CoMoments:
        """Lay groups side by side; parts with and without missing values may be mixed."""
        wide = not all(part.complete for part in parts)

        def stack(name: str) -> np.ndarray:
            arrays = [getattr(part, name) for part in parts]
            if wide and name in ("z_mean", "zz"):
                p = parts[0].x.mean.shape[1]
                arrays = [np.broadcast_to(a, (*a.shape[:-1], p)) for a in arrays]
            return np.concatenate(arrays)

        x = Moments(*(np.concatenate([getattr(b.x, f) for b in parts]) for f in ("n", "mean", "m2")))
        return cls(x, *(stack(name) for name in FIELDS))

    def some(self, features: slice | np.ndarray) -> CoMoments:
        """Return the statistics of some features."""
        at = features if self.z_mean.shape[-1] > 1 else slice(None)
        x = Moments(self.x.n[:, features], self.x.mean[:, features], self.x.m2[:, features])
        return replace(
            self,
            x=x,
            z_mean=self.z_mean[..., at],
            zz=self.zz[..., at],
            zx=self.zx[..., features],
            rest=self.rest[:, features],
        )

    @property
    def roots(self) -> Roots:
        """What the cross products of z are made of."""
        return Roots.of(self.zz, np.einsum("bjj->bj", self.row_zz))

    def left_under(self, coef: np.ndarray) -> np.ndarray:
        """Sum of squares (B, p) that other coefficients (q, p) leave over, as a sum of squares."""
        left = np.empty_like(self.rest)
        for b, j in _pieces(self):
            part = _group(self, b).some(j)
            roots = part.roots
            left[b, j] = part.rest + _squares(roots.across(roots.coefficients(part.zx) - coef[None, :, j]))
        return left


def check_squares(m2: np.ndarray, differences: np.ndarray, values: np.ndarray) -> None:
    """Raise where squares overflow, or vanish as in `check_underflow`."""
    if not np.isfinite(m2).all():
        raise BatchfixError(
            "The squares of X must fit float64, got values about 1e154 or more apart. "
            "Rescale X, for example divide it by a power of ten."
        )
    check_underflow(m2, differences, values)


def check_underflow(m2: np.ndarray, differences: np.ndarray, values: np.ndarray) -> None:
    """Raise where values differ by more than rounding but their squares vanish; `differences` are 0 if they do not."""
    real = differences > 1e-10 * np.abs(values)
    vanished = differences[(m2 < SMALLEST_M2) & real & (differences < SMALLEST_SPREAD)]
    if vanished.size:
        raise BatchfixError(
            f"The squares of X must fit float64, got a feature whose values differ by about {vanished.max():.1g}. "
            "Rescale X, for example multiply it by a power of ten."
        )


FIELDS = ("z_mean", "zz", "zx", "rows", "row_z_mean", "row_zz", "rest")
"""What CoMoments have beside the moments of x."""


def difference(moments: CoMoments) -> tuple[np.ndarray, np.ndarray]:
    """`rest` as a difference (B, p), 0 where a model goes through every point; and where that is not exact enough."""
    rest, x = np.array(moments.x.m2), moments.x
    rank, least = np.zeros(moments.z_count.shape), np.ones(moments.z_count.shape)
    if moments.zz.shape[-1] == 1:
        roots = moments.roots
        rank[...], least[...] = roots.rank, roots.least
        for k, G in enumerate(roots.G[:, 0]):
            explained = G.T @ moments.zx[k]
            rest[k] -= np.einsum("jp,jp->p", explained, explained)
    else:
        for b, j in _pieces(moments):
            part = _group(moments, b).some(j)
            roots = part.roots
            rank[b, j], least[b, j] = roots.rank, roots.least
            rest[b, j] -= _squares(roots.along(part.zx))
    # rounding of what collinear columns explain is as much larger as they are close
    doubtful = (x.n > 0) & (rest * np.sqrt(least) < LOST * x.m2)
    through = doubtful & (x.n <= rank + 1)
    return np.where(through, 0.0, np.maximum(rest, 0.0)), doubtful & ~through


def _rest_of_both(a: CoMoments, b: CoMoments, both: CoMoments) -> np.ndarray:
    """`rest` of both sides together: a difference where that is exact enough, else a sum as above."""
    if not both.zx.shape[1]:
        return np.asarray(both.x.m2)
    rest: np.ndarray = a.rest + b.rest  # of which one is 0 where only one side has rows
    shared = np.flatnonzero((a.rows > 0) & (b.rows > 0))
    if not len(shared):
        return rest
    a, b, both = (_group(side, shared) for side in (a, b, both))
    found, doubtful = difference(both)
    found = np.where(a.x.n == 0, b.rest, np.where(b.x.n == 0, a.rest, found))
    doubtful &= (a.x.n > 0) & (b.x.n > 0)
    features = np.flatnonzero(doubtful.any(axis=0))
    n_groups, q, _ = both.zx.shape
    for at in blocks.spans(0, len(features), max(1, PRODUCTS_AT_ONCE // (n_groups * q * q))):
        j = features[slice(*at)]
        exact = _summed(a.some(j), b.some(j), both.some(j))
        found[:, j] = np.where(doubtful[:, j], exact, found[:, j])
    rest[shared] = found
    return rest


def _summed(a: CoMoments, b: CoMoments, both: CoMoments) -> np.ndarray:
    """`rest` of both sides as a sum of squares."""
    of_a, of_b = a.roots, b.roots
    own = of_a.coefficients(a.zx)
    apart = of_b.coefficients(b.zx) - own  # small where both sides see the same, so that no square below cancels
    z_step = np.broadcast_to(b.z_mean - a.z_mean, apart.shape)
    x_step = (b.x.mean - a.x.mean) - (z_step * own).sum(axis=1)
    weight = a.x.n * b.x.n / np.maximum(both.x.n, 1)
    pull = of_b.back(of_b.across(apart)) + z_step * (weight * x_step)[:, None]
    move = both.roots.coefficients(pull)
    along = x_step - (z_step * move).sum(axis=1)
    loss = _squares(of_a.across(move)) + _squares(of_b.across(apart - move)) + weight * along * along
    return np.asarray(a.rest + b.rest + loss)


def _squares(v: np.ndarray) -> np.ndarray:
    return np.asarray(np.einsum("bjp,bjp->bp", v, v))


def _group(moments: CoMoments, b: slice | np.ndarray) -> CoMoments:
    x = Moments(moments.x.n[b], moments.x.mean[b], moments.x.m2[b])
    return CoMoments(x, *(getattr(moments, name)[b] for name in FIELDS))


def _pieces(moments: CoMoments) -> Iterator[tuple[slice, slice]]:
    """Groups one by one, and features, so many that what is made of them stays small."""
    n_groups, q, p = moments.zx.shape
    for k in range(n_groups):
        for at in blocks.spans(0, p, max(1, PRODUCTS_AT_ONCE // max(1, q * q))):
            yield slice(k, k + 1), slice(*at)
