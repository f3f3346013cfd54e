"""Zeros: what to put in their place before a logarithm is taken.

A table of amounts flows in; a small frozen policy is learned from it, on the proportion scale; proportions without
zeros flow out, of that table or of any later sample, the same way:

    HalfMinimum                 zero -> share * smallest nonzero proportion of the table, row closed again
    MultiplicativeReplacement   zero -> delta, and nonzero x_j -> x_j (1 - delta * number of zeros in the row)
    Pseudocount                 every count c_j -> c_j + count, row closed
    Keep                        nothing: for rclr, which leaves zeros out

(MultiplicativeReplacement: Martin-Fernandez et al. 2003, "Dealing with zeros and missing values in compositional data
sets using nonparametric imputation".) Multiplicative replacement keeps every ratio of observed parts, and so does the
half-minimum. A pseudocount does not, and it is worth more in a shallow sample than in a deep one: half a count is 5 %
of ten counts and 0.005 % of ten thousand. Where batches differ in depth it manufactures a batch effect; the others,
being fixed proportions, do so far less. It is here to compare with; who offers it warns (PseudocountWarning).

NaN, dtypes and `out` are as in `compositions`. NaN stays NaN: not observed is not zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar, Protocol, Self

import numpy as np

from ..exceptions import BatchfixError
from .compositions import as_table, close, map_rows, row_sums
from .faults import AMOUNTS
from .simplex import closure, depths


class ZeroPolicy(Protocol):
    """What to do about zeros, as learned from one table."""

    depends_on_depth: ClassVar[bool]

    def fill(self, X: Any, *, out: np.ndarray | None = None) -> np.ndarray:
        """Proportions, (..., D), with the zeros of X dealt with; rows sum to 1."""


@dataclass(frozen=True)
class HalfMinimum:
    """Zeros become one small proportion for the whole table: half of the smallest that was seen in it.

    Parameters
    ----------
    delta
        The proportion that stands for zero, between 0 and 1, before the row is closed again.

    Examples
    --------
    >>> policy = HalfMinimum.learn(np.array([[0, 1, 9], [5, 5, 0]]))
    >>> policy
    HalfMinimum(delta=0.05)
    >>> policy.fill(np.array([0, 30, 70])).round(4).tolist()
    [0.0476, 0.2857, 0.6667]
    """

    delta: float

    depends_on_depth: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _refuse_delta(self.delta)

    @classmethod
    def learn(cls, X: Any, share: float = 0.5) -> Self:
        """From a table, (n, D): `share` of its smallest nonzero proportion.

        Raises
        ------
        BatchfixError
            If a value is negative or infinite, a row sums to 0, or nothing was observed.
        """
        if not 0 < share <= 1:
            raise BatchfixError(f"share must be above 0 and at most 1; got {share!r}. Half (0.5) is usual.")
        return cls(share * smallest_proportion(X))

    def fill(self, X: Any, *, out: np.ndarray | None = None) -> np.ndarray:
        """Proportions, (..., D): zeros as delta, rows closed."""
        table, shape = as_table(X)
        one = np.ones(1)

        def kernel(x: np.ndarray, y: np.ndarray, rows: slice, missing: bool) -> None:
            np.divide(x, row_sums(x, missing), out=y)
            zero = y == 0
            if zero.any():
                np.copyto(y, self.delta, where=zero)
                close(y, y, missing, one)

        return map_rows(kernel, table, shape, AMOUNTS, out=out)


@dataclass(frozen=True)
class MultiplicativeReplacement:
    """Zeros become delta, and the row's nonzero proportions shrink by one factor to make room.

        r_j = delta                              where x_j = 0
        r_j = x_j (1 - delta * number of zeros)  elsewhere

    Parameters
    ----------
    delta
        The proportion that stands for zero, above 0 and below 1 / D.

    Examples
    --------
    >>> MultiplicativeReplacement(delta=0.1).fill(np.array([0, 25, 75])).round(4).tolist()
    [0.1, 0.225, 0.675]
    """

    delta: float

    depends_on_depth: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _refuse_delta(self.delta)

    @classmethod
    def learn(cls, X: Any, delta: float | None = None) -> Self:
        """From a table, (n, D): the delta given, or (1 / D)^2."""
        _, shape = as_table(X)
        return cls(1.0 / shape[-1] ** 2 if delta is None else delta)

    def fill(self, X: Any, *, out: np.ndarray | None = None) -> np.ndarray:
        """Proportions, (..., D): zeros as delta, rows sum to 1.

        Raises
        ------
        BatchfixError
            If D * delta is 1 or more: a row of many zeros would have nothing left for what was observed.
        """
        table, shape = as_table(X)
        if shape[-1] * self.delta >= 1:
            raise BatchfixError(
                f"delta must be below 1 / D, or zeros could take it all; got {self.delta!r} for D = {shape[-1]}."
            )

        def kernel(x: np.ndarray, y: np.ndarray, rows: slice, missing: bool) -> None:
            np.divide(x, row_sums(x, missing), out=y)
            zero = y == 0
            y *= 1.0 - self.delta * np.add.reduce(zero, axis=1, keepdims=True)
            np.copyto(y, self.delta, where=zero)

        return map_rows(kernel, table, shape, AMOUNTS, out=out)


@dataclass(frozen=True)
class Pseudocount:
    """The same count added to every cell of a table of counts.

    What it puts for a zero, as a proportion, goes with the depth of the sample: see above before choosing it.

    Parameters
    ----------
    count
        What is added, above 0.

    Examples
    --------
    >>> Pseudocount(0.5).fill(np.array([[0, 9], [0, 999]])).round(5).tolist()
    [[0.05, 0.95], [0.0005, 0.9995]]
    """

    count: float = 0.5

    depends_on_depth: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if isinstance(self.count, bool) or not isinstance(self.count, Real) or not 0 < self.count < np.inf:
            raise BatchfixError(f"A pseudocount must be above 0; got {self.count!r}. 0.5 and 1 are usual.")

    @classmethod
    def learn(cls, X: Any, count: float = 0.5) -> Self:
        """From a table of counts, (n, D): nothing but that it is no table of proportions.

        Raises
        ------
        BatchfixError
            If no row sums to more than 1.
        """
        table, _ = as_table(X)
        _refuse_proportions(table)
        return cls(count)

    def fill(self, X: Any, *, out: np.ndarray | None = None) -> np.ndarray:
        """Proportions, (..., D), of counts with `count` added to each.

        Raises
        ------
        BatchfixError
            If no row sums to more than 1: those are proportions, where a count means nothing.
        """
        table, shape = as_table(X)
        _refuse_proportions(table)
        one = np.ones(1)

        def kernel(x: np.ndarray, y: np.ndarray, rows: slice, missing: bool) -> None:
            np.add(x, self.count, out=y)
            close(y, y, missing, one)

        return map_rows(kernel, table, shape, AMOUNTS, out=out)


@dataclass(frozen=True)
class Keep:
    """Zeros stay zeros: for `rclr`, and for corrections of the nonzero part.

    Examples
    --------
    >>> Keep.learn(np.array([[0, 4]])).fill(np.array([0, 1, 3])).tolist()
    [0.0, 0.25, 0.75]
    """

    depends_on_depth: ClassVar[bool] = False

    @classmethod
    def learn(cls, X: Any) -> Self:
        """From any table: there is nothing to learn."""
        as_table(X)
        return cls()

    def fill(self, X: Any, *, out: np.ndarray | None = None) -> np.ndarray:
        """Proportions, (..., D): the closure."""
        return closure(X, out=out)


POLICIES: dict[str, type[HalfMinimum | MultiplicativeReplacement | Pseudocount | Keep]] = {
    "half_minimum": HalfMinimum,
    "multiplicative": MultiplicativeReplacement,
    "pseudocount": Pseudocount,
    "keep": Keep,
}
"""The policies by name; each has `learn(X)`."""


def smallest_proportion(X: Any) -> float:
    """The smallest proportion above 0 in a table of amounts.

    Raises
    ------
    BatchfixError
        If a value is negative or infinite, a row sums to 0, or nothing was observed.

    Examples
    --------
    >>> smallest_proportion(np.array([[0, 1, 9], [5, 5, 0]]))
    0.1
    """
    table, _ = as_table(X)

    def kernel(x: np.ndarray, y: np.ndarray, rows: slice, missing: bool) -> None:
        np.divide(x, row_sums(x, missing), out=x)
        np.minimum.reduce(x, axis=1, keepdims=True, where=x > 0, initial=np.inf, out=y)

    lowest = map_rows(kernel, table, tuple(table.shape), AMOUNTS, width=1, own=True, wide=True)
    smallest = float(lowest.min(initial=np.inf))
    if smallest == np.inf:
        raise BatchfixError("A table must hold something above 0 to learn from; got none.")
    return smallest


def _refuse_delta(delta: float) -> None:
    if isinstance(delta, bool) or not isinstance(delta, Real) or not 0 < delta < 1:
        raise BatchfixError(f"delta, the proportion that stands for zero, must be between 0 and 1; got {delta!r}.")


def _refuse_proportions(table: Any) -> None:
    deepest = float(np.fmax.reduce(depths(table), initial=-np.inf))
    if deepest <= 1 + 1e-6:
        raise BatchfixError(
            f"A pseudocount is added to counts; got rows that sum to {deepest:.6g} at most, as proportions do. "
            "Give the counts, or choose HalfMinimum."
        )
