"""PERMANOVA: a factor's share of the squared distances between samples, and its distribution under permutations.

Samples flow in, as coordinates E (n, k) whose squared distances count, or as their inner products G = E E' where that
is all there is (a distance other than Euclidean) or smaller (more features than samples). Sums of squares flow out:

    added = sum |added' E|^2 = trace(added' G added),     F = (added / df) / (residual / residual_df)

(Anderson 2001, "A new method for non-parametric multivariate analysis of variance", Austral Ecology 26; McArdle and
Anderson 2001, Ecology 82). No distance is ever needed but inside G. Permutations are those of residuals of what is
given (Freedman and Lane 1983, "A nonstochastic interpretation of reported significance levels", JBES 1). For these

    added* = |added' P E|^2,   residual* = |E|^2 - |given' P E|^2 - added*,   E the residuals of what is given,

so that one matrix product a block of permutations does it all. With labels alone, P E is summed by group.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from scipy.sparse import csr_array

from . import blocks, gram
from .feature_effects import Squares, centred
from .groups import Groups
from .projection import Margin

TIE = 1e-10
"""Shares as near as this are equal: the same split of the samples, summed in another order."""

BLOCK_VALUES = 1 << 17
"""Entries of the rearranged design that are made at a time: they stay in the cache."""

LOT_VALUES = 1 << 18
"""Entries of the permutations that make one task."""

FEW_COLUMNS = 6
"""A basis of at most this many columns meets inner products faster as a dense matrix than labels do by their sums."""


@dataclass(frozen=True)
class Coordinates:
    """Samples as centred rows E (n, k)."""

    values: np.ndarray

    @classmethod
    def of(cls, X: np.ndarray, margin: Margin) -> Coordinates:
        """Residuals of a table's columns given the margin's, in a unit of the whole table."""
        u, unit = centred(X.astype(np.float64))
        u *= unit / (unit.max(initial=0.0) or 1.0)
        return cls(u - margin.given @ (margin.given.T @ u))

    @property
    def total(self) -> float:
        """Sum of squares."""
        return float(np.vdot(self.values, self.values))

    def explained(self, rows: np.ndarray) -> np.ndarray:
        """|m E|^2 of each row m (., n)."""
        sums = rows @ self.values
        return np.asarray(np.einsum("ij,ij->i", sums, sums))

    def explained_by_groups(self, rows: csr_array, k: int) -> tuple[np.ndarray, np.ndarray]:
        """|m E|^2 of each row, and of the sum of each k rows in turn."""
        sums = rows @ self.values
        together = sums.reshape(-1, k, sums.shape[1]).sum(axis=1)
        return np.einsum("ij,ij->i", sums, sums), np.einsum("ij,ij->i", together, together)


@dataclass(frozen=True)
class InnerProducts:
    """Samples as inner products G (n, n) of centred rows."""

    values: np.ndarray

    @property
    def total(self) -> float:
        """Sum of squares."""
        return float(np.trace(self.values))

    def explained(self, rows: np.ndarray) -> np.ndarray:
        """Quadratic forms m G m' of each row m (., n)."""
        return np.asarray(np.einsum("ij,ij->i", rows @ self.values, rows))

    def explained_by_groups(self, rows: csr_array, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The same of each row, and of the sum of each k rows in turn."""
        products = rows @ self.values
        together = products.reshape(-1, k, products.shape[1]).sum(axis=1)
        row = np.repeat(np.arange(len(products)), np.diff(rows.indptr))
        own = np.add.reduceat(products[row, rows.indices], rows.indptr[:-1])
        return own, np.add.reduceat(together[row // k, rows.indices], rows.indptr[:-1:k])


Space = Coordinates | InnerProducts


def space_of(X: np.ndarray, margin: Margin) -> Space:
    """Residuals of a table given the margin's columns, in the smaller of the two forms."""
    if X.shape[1] <= len(X):
        return Coordinates.of(X, margin)
    return InnerProducts(gram.inner_products(X, margin.given))


def partition(G: np.ndarray, margin: Margin) -> Squares:
    """Sums of squares from inner products G (n, n) of centred rows."""
    space = InnerProducts(G)
    given = float(space.explained(margin.given.T).sum())
    added = float(space.explained(margin.added.T).sum())
    left = space.total - given - added
    return Squares(space.total, added, left, margin.df, margin.given_df, margin.residual_df)


def random_places(n: int, count: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Return `count` random permutations of n samples, one by one."""
    return (rng.permutation(n) for _ in range(count))


def permuted_shares(
    space: Space,
    margin: Margin,
    places: Iterable[np.ndarray],
    codes: np.ndarray | None = None,
    done: Callable[[int], object] = lambda count: None,
) -> np.ndarray:
    """Share added / (added + residual) of the factor under each permutation.

    Parameters
    ----------
    space : Coordinates or InnerProducts
        Of residuals given the margin's `given`.
    places : iterable of arrays (n,)
        Row j of the design goes to sample place[j].
    codes : array (n,), optional
        Labels 0 .. k - 1 of the factor where nothing else is given: sums by group then serve for its basis.
    done : function
        Called with the number of permutations just finished.

    Examples
    --------
    >>> from batchfix.core.projection import indicators
    >>> margin = Margin.of(indicators(np.array([0, 0, 1, 1]), 2))
    >>> space = Coordinates.of(np.array([[0.0], [2.0], [10.0], [12.0]]), margin)
    >>> permuted_shares(space, margin, [np.array([0, 1, 2, 3]), np.array([0, 2, 1, 3])]).round(3).tolist()
    [0.962, 0.038]
    """
    n = len(space.values)
    dense = isinstance(space, InnerProducts) and margin.df <= FEW_COLUMNS
    design = Basis.of(margin, space.total) if codes is None or dense else Labelling.of(codes, space.total)
    step = max(1, BLOCK_VALUES // (n * design.width))

    def work(lot: list[np.ndarray]) -> np.ndarray:
        return np.concatenate([design.shares(space, np.array(lot[a:b])) for a, b in blocks.spans(0, len(lot), step)])

    shares: list[np.ndarray] = []
    source, size = iter(places), step * max(1, LOT_VALUES // (n * step))
    while lots := list(islice(_lots(source, size), blocks.n_threads())):
        shares += blocks.run(work, lots, space.values.nbytes)
        done(sum(map(len, lots)))
    return np.concatenate(shares) if shares else np.zeros(0)


def _lots(source: Iterator[np.ndarray], size: int) -> Iterator[list[np.ndarray]]:
    """Permutations, so many at a time."""
    while lot := list(islice(source, size)):
        yield lot


@dataclass(frozen=True)
class Basis:
    """Any design: its basis (g + a, n), to be rearranged."""

    columns: np.ndarray
    given_df: int
    total: float

    @classmethod
    def of(cls, margin: Margin, total: float) -> Basis:
        """What is given, then what is added."""
        columns = np.concatenate([margin.given, margin.added], axis=1).T
        return cls(np.ascontiguousarray(columns), margin.given_df, total)

    @property
    def width(self) -> int:
        """Entries a sample and permutation."""
        return max(1, len(self.columns))

    def shares(self, space: Space, places: np.ndarray) -> np.ndarray:
        """Share of each permutation in a block (m, n)."""
        m, n = places.shape
        orders = np.empty((m, n), dtype=np.intp)
        orders[np.arange(m)[:, None], places] = np.arange(n)
        squares = space.explained(np.take(self.columns, orders, axis=1).reshape(-1, n)).reshape(-1, m)
        left = self.total - squares[: self.given_df].sum(axis=0)
        added = squares[self.given_df :].sum(axis=0)
        return np.asarray(np.divide(added, left, out=np.ones_like(left), where=left > 0))


@dataclass(frozen=True)
class Labelling:
    """Labels alone: samples are summed by group. The largest group's sum is the others', with the sign turned."""

    members: np.ndarray
    starts: np.ndarray
    size: np.ndarray
    total: float
    width: int = 1

    @classmethod
    def of(cls, codes: np.ndarray, total: float) -> Labelling:
        """From codes 0 .. k - 1, none of them empty."""
        groups = Groups.of(codes, int(codes.max()) + 1)
        by_size = np.argsort(groups.counts, kind="stable")
        members = np.concatenate([groups.rows(k) for k in by_size[:-1]])
        size = groups.counts[by_size]
        return cls(members, np.append(0, np.cumsum(size[:-2])), size, total)

    def shares(self, space: Space, places: np.ndarray) -> np.ndarray:
        """Share of each permutation in a block (m, n)."""
        m, n = places.shape
        count, k = len(self.members), len(self.size)
        members = np.take(places, self.members, axis=1).ravel()
        starts = np.append(self.starts + count * np.arange(m)[:, None], m * count)
        rows = csr_array((np.ones(m * count), members, starts), shape=(m * (k - 1), n))
        own, last = space.explained_by_groups(rows, k - 1)
        return np.asarray((own.reshape(m, k - 1) @ (1 / self.size[:-1]) + last / self.size[-1]) / self.total)


def inverse(order: np.ndarray) -> np.ndarray:
    """The permutation that undoes one.

    Examples
    --------
    >>> inverse(np.array([2, 0, 1])).tolist()
    [1, 2, 0]
    """
    places = np.empty_like(order)
    places[order] = np.arange(len(order))
    return places


def F_of(share: np.ndarray, margin: Margin) -> np.ndarray:  # noqa: N802 - the field's name
    """F of shares added / (added + residual); infinite where nothing is left."""
    with np.errstate(divide="ignore"):
        return np.asarray(share / (1 - share) * (margin.residual_df / margin.df))


def p_value(share: float, permuted: np.ndarray) -> float:
    """(1 + number of permutations with as large a share) / (1 + number of permutations); NaN without any.

    Phipson and Smyth 2010, "Permutation P-values should never be zero", SAGMB 9.

    Examples
    --------
    >>> p_value(0.5, np.array([0.1, 0.5, 0.2]))
    0.5
    """
    if not len(permuted):
        return float("nan")
    return float((1 + np.count_nonzero(permuted >= share - TIE)) / (1 + len(permuted)))


def splits_of(sizes: np.ndarray) -> float:
    """In how many ways samples can be split into batches of these sizes: no p can be below one in as many.

    Examples
    --------
    >>> splits_of(np.array([3, 3])), splits_of(np.array([2, 1]))
    (10.0, 3.0)
    """
    sizes = sizes[sizes > 0]
    of_names = sum(math.lgamma(int(count) + 1) for count in np.unique(sizes, return_counts=True)[1])
    ways = math.lgamma(sizes.sum() + 1) - sum(math.lgamma(int(m) + 1) for m in sizes) - of_names
    return float(round(math.exp(min(ways, 40.0)), 6))
