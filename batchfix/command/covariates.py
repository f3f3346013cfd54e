"""Covariates among measurements: columns that a table of measurements may hold by mistake.

A table, whole or block by block, flows in; names of suspicious columns flow out, the same either way.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SAMPLE_ROWS = 256
FEW_VALUES = 10
OFTEN = 0.2
"""Share of whole numbers in a typical column from which on they say nothing."""

USUAL_NAMES = frozenset(
    ("age", "sex", "gender", "bmi", "batch", "plate", "run", "site", "day", "date", "year", "stage", "grade")
)


def covariate_like(names: Sequence[str], values: np.ndarray) -> list[str]:
    """Names of columns that look like labels or covariates and not like the measurements beside them.

    A column does by a name of `USUAL_NAMES`, or if it varies and holds whole numbers only, at most ten different ones,
    where most columns hold fractions. Zeros are no evidence where the other columns have them too.

    Parameters
    ----------
    names : p names
    values : array (n, p), NaN where missing

    Examples
    --------
    >>> values = np.column_stack([np.random.default_rng(0).normal(size=(20, 4)), np.tile([1.0, 2.0], 10)])
    >>> covariate_like(["g1", "g2", "g3", "AGE", "arm"], values)
    ['AGE', 'arm']
    """
    suspects, zeros = _beside_fractions(values[_sampled(len(values))])
    codes = FewWhole(int(suspects.sum()))
    codes.add(values[:, suspects])
    suspects[suspects] = codes.found(zeros=not zeros)
    return _named(names, suspects)


class CovariateSearch:
    """The same for a table that comes in blocks.

    Parameters
    ----------
    names : p names
    n : rows of all blocks

    Examples
    --------
    >>> values = np.column_stack([np.random.default_rng(0).normal(size=(20, 4)), np.tile([1.0, 2.0], 10)])
    >>> search = CovariateSearch(["g1", "g2", "g3", "AGE", "arm"], 20)
    >>> search.add(values[:15])
    >>> search.add(values[15:])
    >>> search.found()
    ['AGE', 'arm']
    """

    def __init__(self, names: Sequence[str], n: int) -> None:
        self.names, self.n, self.start = names, n, 0
        self.rows = _sampled(n)
        self.sample: list[np.ndarray] = []
        self.codes = FewWhole(len(names))

    def add(self, values: np.ndarray) -> None:
        """Look at the rows that come next."""
        stop = self.start + len(values)
        self.sample.append(values[self.rows[(self.rows >= self.start) & (self.rows < stop)] - self.start])
        self.codes.add(values)
        self.start = stop

    @property
    def complete(self) -> bool:
        """Whether all rows have come."""
        return self.start == self.n

    def found(self) -> list[str]:
        """Names of columns that look like labels or covariates, once all rows have come."""
        suspects, zeros = _beside_fractions(np.concatenate(self.sample))
        return _named(self.names, suspects & self.codes.found(zeros=not zeros))


class FewWhole:
    """Which of p columns vary and hold whole numbers only, at most `FEW_VALUES` different ones, block by block."""

    def __init__(self, p: int) -> None:
        self.p = p
        self.at = np.arange(p)  # columns that may still be such
        self.seen = np.empty((0, p))  # the different values of each, NaN below them

    def add(self, values: np.ndarray) -> None:
        """Look at further rows (n, p)."""
        values = values[:, self.at]
        whole = ((values == np.rint(values)) | np.isnan(values)).all(axis=0)
        values = values[:, whole]
        self._keep(whole)
        new = ~np.isnan(values)
        for known in self.seen:
            new &= values != known
        while new.any():
            first = np.where(new.any(axis=0), values[new.argmax(axis=0), np.arange(values.shape[1])], np.nan)
            new &= values != first
            self.seen = np.sort(np.vstack([self.seen, first]), axis=0)  # NaN last
            few = np.all(np.isnan(self.seen[FEW_VALUES:]), axis=0)
            values, new = values[:, few], new[:, few]
            self._keep(few)
            self.seen = self.seen[:FEW_VALUES]

    def found(self, *, zeros: bool) -> np.ndarray:
        """Of each column (p,) whether it is such; `zeros` says whether 0 may be among its values."""
        varied = (~np.isnan(self.seen)).sum(axis=0) > 1
        found = np.zeros(self.p, dtype=bool)
        found[self.at] = varied & (zeros | (self.seen != 0).all(axis=0))
        return found

    def _keep(self, which: np.ndarray) -> None:
        self.at, self.seen = self.at[which], self.seen[:, which]


def _sampled(n: int) -> np.ndarray:
    """Places of some rows, from the first to the last."""
    return np.unique(np.linspace(0, n - 1, SAMPLE_ROWS).astype(int))


def _beside_fractions(some: np.ndarray) -> tuple[np.ndarray, bool]:
    """Of rows (k, p), which columns hold whole numbers where most hold fractions; whether those hold zeros too."""
    seen = ~np.isnan(some)
    whole = (some == np.rint(some)).sum(axis=0)
    fractions = whole < seen.sum(axis=0)
    if fractions.sum() <= len(fractions) / 2 or np.median(whole[fractions] / seen[:, fractions].sum(axis=0)) > OFTEN:
        return np.zeros(len(fractions), dtype=bool), False
    return ~fractions, bool((some[:, fractions] == 0).any())


def _named(names: Sequence[str], coded: np.ndarray) -> list[str]:
    usual = [str(name).strip().casefold() in USUAL_NAMES for name in names]
    return [name for name, found in zip(names, coded | np.array(usual, dtype=bool), strict=True) if found]
