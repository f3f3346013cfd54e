"""Projection: what one set of design columns adds to another.

Columns about samples flow in (indicators of labels, numbers), orthonormal bases flow out. With G the columns given,
an intercept among them, and A those of a factor:

    given = basis of the columns of G        added = basis of the columns of A - P_G A

so that |added' y|^2 is the sum of squares which the factor adds to the given ones: the marginal (type III) sum of
squares of an analysis of variance. Both bases are centred; the intercept is left out of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .least_squares import RANK_TOLERANCE
from .moments import NOISE


def indicators(codes: np.ndarray, n_levels: int) -> np.ndarray:
    """One-hot columns (n, n_levels) of codes 0 .. n_levels - 1."""
    return np.asarray(codes[:, None] == np.arange(n_levels), dtype=np.float64)


def basis_of(columns: np.ndarray, before: np.ndarray | None = None) -> np.ndarray:
    """Orthonormal basis (n, rank) of what centred columns (n, q) add to an orthonormal, centred basis before them.

    Each column counts in a unit of its own, so the rank depends on no scale. A direction of which less than 1e-5 of
    its length is new adds nothing, as in the correctors.

    Examples
    --------
    >>> age = np.array([30.0, 40.0, 50.0])
    >>> basis_of(np.column_stack([age, 2 * age, np.ones(3)])).shape
    (3, 1)
    """
    columns = np.asarray(columns, dtype=np.float64)
    largest = np.abs(columns).max(axis=0, initial=0.0)
    unit = columns / np.where(largest > 0, largest, 1.0)
    unit -= unit.mean(axis=0)
    unit -= unit.mean(axis=0)  # again, for the rounding of the first
    length = np.sqrt(np.square(unit).sum(axis=0))
    constant = length <= NOISE * np.finfo(np.float64).eps * np.sqrt(len(unit))
    unit = unit[:, ~constant] / length[~constant]
    if before is not None:
        unit -= before @ (before.T @ unit)
        unit -= before @ (before.T @ unit)
    if not unit.size:
        return np.zeros((len(unit), 0))
    left, sizes, _ = np.linalg.svd(unit, full_matrices=False)
    return np.asarray(left[:, sizes > np.sqrt(RANK_TOLERANCE)])


@dataclass(frozen=True)
class Margin:
    """A factor beside what is given.

    Attributes
    ----------
    given : array (n, g)
        Orthonormal, centred basis of what is given; g = 0 where nothing but the intercept is.
    added : array (n, a)
        Orthonormal basis of what the factor adds.

    Examples
    --------
    >>> batch = indicators(np.array([0, 0, 1, 1]), 2)
    >>> margin = Margin.of(batch, given=np.array([[1.0], [2.0], [1.0], [2.0]]))
    >>> margin.df, margin.residual_df
    (1, 1)
    """

    given: np.ndarray
    added: np.ndarray

    @classmethod
    def of(cls, factor: np.ndarray, given: np.ndarray | None = None) -> Margin:
        """From design columns (n, q) of the factor and (n, r) of what is given."""
        before = basis_of(np.zeros((len(factor), 0)) if given is None else given)
        return cls(before, basis_of(factor, before))

    @property
    def df(self) -> int:
        """Degrees of freedom that the factor takes."""
        return int(self.added.shape[1])

    @property
    def given_df(self) -> int:
        """Degrees of freedom of what is given, without the intercept."""
        return int(self.given.shape[1])

    @property
    def residual_df(self) -> int:
        """Degrees of freedom that remain."""
        return int(len(self.added) - 1 - self.given_df - self.df)
