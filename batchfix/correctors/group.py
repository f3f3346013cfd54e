"""GroupCorrector: each value by its peers, the cells of the same row (or date) and group.

A wide table (a row a date, a column a stock) or a long one (a row a date and stock, a column a factor) flows in;
standings within each date's groups flow out, and, if wanted, the mean, spread and count that each group had:

    z = (x - mean(date, group)) / std(date, group)
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from ..core.hierarchy import ShrinkageSums
from ..core.recipe import Recipe
from ..core.scores import score, shrinkage_sums
from ..exceptions import BatchfixError, CopyWarning, MergeError
from .notices import warn
from .peer_columns import PeerColumns
from .peer_parameters import check_combination
from .peer_reader import Cells
from .rowwise import refuse_infinite
from .tables import Key

REQUESTS = {"membership": True, "weights": True, "exposures": True}


class GroupCorrector(PeerColumns):
    """Standardize each value within its group, row by row: a sector's stocks on a day, a section of an orchestra.

    z = (x - center) / scale over the cells that share the row and the group. NaN is never counted and stays NaN. No
    row knows of another: nothing leaks through time.

    Parameters
    ----------
    groups : array of p labels, Series or dict by column name, or a table of levels, optional
        Wide tables: the group of each column. A DataFrame indexed by column name (or a list of arrays) is a hierarchy,
        coarse to fine; a group is the tuple of its labels so far (country and sector). None: a whole row is one group.
    by : name, position or list of them, optional
        Long tables: the column or index level that holds the group; several are a hierarchy, coarse to fine.
    within : name, position or list of them, optional
        Long tables: the column or index level that holds the date. Key columns do not appear in the output.
    center : {"mean", "median", None}, default "mean"
    scale : {"std", "mad", None}, default "std"
        "mad" is the median absolute deviation times 1.4826, which estimates a normal standard deviation; a group whose
        MAD is 0 though its values differ takes its standard deviation.
    method : {"zscore", "rank", "gauss_rank"}, default "zscore"
        "rank" is (rank - 1/2) / n in the group, ties sharing the average rank; "gauss_rank" its normal quantile.
    winsorize : None, number k or (low, high), default None
        Before anything else, values beyond center +- k scale of their group, or beyond two quantiles of it (such as
        ``(0.01, 0.99)``), are set to that limit; center and scale are the robust ones where those are chosen.
    weights : str, or numbers by column, optional
        For mean and standard deviation. Long: the key column that holds them. Wide: one a column, as an array or by
        name. Weights that change over time go in ``fit(..., weights=)``. Only their ratios matter.
    neutralize : list of str, optional
        Exposures (size, beta) to take out along with the groups, in one weighted least-squares fit a date. Long: key
        columns; wide: names among ``fit(..., exposures=)``, by default all of them.
    min_group_size : int, default 1
        A group with fewer values takes the statistics of the group above it; above the coarsest stands the whole row.
    shrinkage : {None, "eb"}, default None
        "eb": each group's mean and variance are drawn toward those of the group above, by amounts estimated from
        the rows of fit (empirical Bayes) and kept.
    leave_one_out : bool, default False
        Each value by the others of its group; without others, by those of the group above.
    return_group_stats : bool, default False
        Append what each group had. Wide: ``mean(Tech)``, ``std(Tech)``, ``count(Tech)`` for each group, and
        ``beta(size)``. Long: ``mean(momentum)`` ... for each factor, those of the row's group, and
        ``beta(momentum ~ size)``. `inverse_transform` needs them.
    ddof : float, default 1
        Values taken from n in the variance.
    copy : bool, default True
        False: write into X, where it is a float array.

    Attributes
    ----------
    group_names_ : array of str
        The groups seen in fit, levels joined by "/"; "row" for the whole row.
    amounts_ : array (levels, 2), or (factors, levels, 2) of a long table
        With shrinkage, for each level, coarse to fine: k, how many values' worth of the group above a mean is mixed
        with, and the prior degrees of freedom of a variance.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Notes
    -----
    Defined results. A group of one: 0 (its scale is not known, and nothing is divided). A constant group: 0, also
    where rounding leaves a spread of up to 64 units in the last place. A group without a value: statistics NaN, count
    0. A column without a label: by the group above, if `groups` has a level with its label; else NaN, and fit warns.
    Leaving one out: NaN where the others are constant and the value is another, or where there are no others.

    References
    ----------
    Grinold and Kahn 1999, "Active Portfolio Management", chapter 14 (scores within sectors); Smyth 2004, "Linear models
    and empirical Bayes methods", section 6 (prior degrees of freedom).

    Examples
    --------
    >>> import pandas as pd
    >>> returns = pd.DataFrame({"A": [1.0], "B": [3.0], "C": [10.0], "D": [14.0]}, index=["Monday"])
    >>> peers = GroupCorrector({"A": "Tech", "B": "Tech", "C": "Oil", "D": "Oil"}, scale=None, return_group_stats=True)
    >>> out = peers.fit_transform(returns)
    >>> out.loc["Monday", ["A", "B", "C", "D", "mean(Oil)", "mean(Tech)"]].tolist()
    [-1.0, 1.0, -2.0, 2.0, 12.0, 2.0]
    >>> long = pd.DataFrame({"date": [1, 1, 1], "sector": ["Tech", "Tech", "Oil"], "value": [1.0, 3.0, 10.0]})
    >>> GroupCorrector(within="date", by="sector", scale=None).fit_transform(long)["value"].tolist()
    [-1.0, 1.0, 0.0]
    """

    amounts_: np.ndarray
    _sums: list[list[ShrinkageSums]]

    __metadata_request__fit = REQUESTS
    __metadata_request__partial_fit = REQUESTS
    __metadata_request__transform = REQUESTS
    __metadata_request__inverse_transform = REQUESTS

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "center": [StrOptions({"mean", "median"}), None],
        "scale": [StrOptions({"std", "mad"}), None],
        "method": [StrOptions({"zscore", "rank", "gauss_rank"})],
        "min_group_size": [Interval(Integral, 1, None, closed="left")],
        "shrinkage": [StrOptions({"eb"}), None],
        "leave_one_out": ["boolean"],
        "return_group_stats": ["boolean"],
        "ddof": [Interval(Real, 0, None, closed="left")],
        "copy": ["boolean"],
    }

    def __init__(
        self,
        groups: Any = None,
        *,
        by: Key | Sequence[Key] | None = None,
        within: Key | Sequence[Key] | None = None,
        center: str | None = "mean",
        scale: str | None = "std",
        method: str = "zscore",
        winsorize: float | tuple[float, float] | None = None,
        weights: Any = None,
        neutralize: Sequence[Key] | None = None,
        min_group_size: int = 1,
        shrinkage: str | None = None,
        leave_one_out: bool = False,
        return_group_stats: bool = False,
        ddof: float = 1,
        copy: bool = True,
    ) -> None:
        self.groups = groups
        self.by = by
        self.within = within
        self.center = center
        self.scale = scale
        self.method = method
        self.winsorize = winsorize
        self.weights = weights
        self.neutralize = neutralize
        self.min_group_size = min_group_size
        self.shrinkage = shrinkage
        self.leave_one_out = leave_one_out
        self.return_group_stats = return_group_stats
        self.ddof = ddof
        self.copy = copy

    # ---- fit

    def fit(self, X: Any, y: Any = None, *, membership: Any = None, weights: Any = None, exposures: Any = None) -> Self:
        """Learn the groups' names and, with shrinkage, its amounts.

        Parameters
        ----------
        X : table (n, p)
            Wide or long; NaN is missing. DataFrame, polars DataFrame or anything numpy reads as numbers.
        y
            Not used.
        membership : table (n, p) of labels, optional
            Wide tables: the group of each cell, where groups change over time, in place of `groups`. A DataFrame is
            aligned by index and columns; a list of tables is a hierarchy.
        weights : numbers (p,) or (n, p); of a long table (n,) or (n, p), optional
            0 or more.
        exposures : dict of name to numbers (p,) or (n, p); of a long table (n,), optional
            What is neutralized along with the groups.

        Raises
        ------
        BatchfixError
            Labels, dates, weights or exposures that do not fit the table, infinity, or parameters that contradict.
        """
        self._begin()
        self._learn(X, membership, weights, exposures, reset=True)
        return self

    def partial_fit(
        self, X: Any, y: Any = None, *, membership: Any = None, weights: Any = None, exposures: Any = None
    ) -> Self:
        """Add rows to what shrinkage learns from; the result is that of all rows at once."""
        if not hasattr(self, "n_features_in_"):
            return self.fit(X, y, membership=membership, weights=weights, exposures=exposures)
        self._learn(X, membership, weights, exposures, reset=False)
        return self

    def fit_transform(
        self, X: Any, y: Any = None, *, membership: Any = None, weights: Any = None, exposures: Any = None
    ) -> Any:
        """`fit`, then `transform`."""
        self._begin()
        # scores look at every value themselves: infinity needs no scan
        return self._scored(self._learn(X, membership, weights, exposures, reset=True, scan=False))

    def merge(self, other: Self) -> Self:
        """Return a corrector that has seen the rows of both: amounts of shrinkage follow from sums, which add up.

        Raises
        ------
        MergeError
            They differ in what they were told, or in their groups.
        """
        check_is_fitted(self)
        check_is_fitted(other)
        if type(other) is not type(self) or self._told() != other._told():
            raise MergeError("Correctors to merge must have equal parameters and features; got different ones.")
        both = deepcopy(self)
        both._join(other.group_names_.tolist())
        if self.shrinkage is not None:
            both._sums = _added(self._sums, other._sums)
            both.amounts_ = _amounts(both._sums, long=self._long)
        return both

    def _told(self) -> tuple[Any, ...]:
        parameters = {name: repr(value) for name, value in self.get_params().items()}
        return parameters, self.n_features_in_, self._mode, self._features_out()

    def _begin(self) -> None:
        """Check parameters, and forget what was learned."""
        self._validate_params()
        check_combination(self)
        for name in ("_sums", "amounts_"):
            if hasattr(self, name):
                delattr(self, name)

    def _learn(self, X: Any, membership: Any, weights: Any, exposures: Any, *, reset: bool, scan: bool = True) -> Cells:
        cells = self._cells(X, membership, weights, exposures, reset=reset)
        if scan:
            refuse_infinite(cells.table.values)
        if self.shrinkage is not None:
            sums = self._shrinkage_sums(cells)
            self._sums = sums if reset else _added(self._sums, sums)
            self.amounts_ = _amounts(self._sums, long=self._long)
        names = [name for name in dict.fromkeys(cells.grouping.names) if name]
        if reset:
            self.group_names_ = np.array(names, dtype=str)
        else:
            self._join(names)
        return cells

    def _join(self, names: list[str]) -> None:
        """Put names that are new after those known."""
        known = self.group_names_.tolist()
        self.group_names_ = np.array(list(dict.fromkeys([*known, *names])), dtype=str)

    def _shrinkage_sums(self, cells: Cells) -> list[list[ShrinkageSums]]:
        """Sums for each factor (one, of a wide table) and level."""
        if not len(cells.grouping.levels):
            raise BatchfixError(
                "shrinkage must have groups to draw toward the whole row; got none. Name them in groups= or by=."
            )
        found: dict[int, list[ShrinkageSums]] = {}
        recipe, levels = self._recipe(cells.table.values), cells.grouping.levels
        for j, sheet, _ in self._sheets(cells, cells.table.values):
            sums = shrinkage_sums(sheet, levels, recipe)
            found[j] = _added([found[j]], [sums])[0] if j in found else sums
        return list(found.values())

    # ---- transform

    def transform(self, X: Any, *, membership: Any = None, weights: Any = None, exposures: Any = None) -> Any:
        """Standing of each value within its row's groups; then the groups' statistics, if wanted.

        Parameters are those of fit. Other rows do not matter: a subset gives what the whole gives.

        Returns
        -------
        Table of X's kind, without key columns; float32 stays float32.
        """
        check_is_fitted(self, "group_names_")
        return self._scored(self._cells(X, membership, weights, exposures, reset=False))

    def _scored(self, cells: Cells) -> Any:
        """Scores of a table that has been read, and the statistics where they are wanted."""
        n, p = cells.table.values.shape
        names = [*cells.table.names, *self._stat_names(cells.table.names)]
        if len(names) == p:
            out = self._output_for(cells.table)
        else:
            if not self.copy:
                warn(
                    "copy=False must be given a table to write into whole, but return_group_stats adds columns: X is "
                    "unchanged, and the result is a new array.",
                    CopyWarning,
                )
            # columns of a long table are worked on one by one
            shape = (n, len(names))
            out = np.empty(shape, dtype=cells.table.values.dtype, order="F" if self._long else "C")
        self._score(cells, out)
        return self._wrap(out, cells.table, names)

    def _score(self, cells: Cells, out: np.ndarray) -> None:
        levels, p = cells.grouping.levels, cells.table.values.shape[1]
        for j, sheet, place in self._sheets(cells, out[:, :p]):
            recipe = replace(self._recipe(cells.table.values), amounts=self._amounts_of(j, len(levels)))
            wanted = self.return_group_stats
            standing, betas = score(sheet, levels, recipe, self.method, place.target, statistics=wanted)
            place.write(place.target, out[:, j] if self._long else out[:, :p])
            if wanted and standing is not None:
                self._append(cells, out, j, place, sheet, standing, betas)

    def _amounts_of(self, j: int, n_levels: int) -> tuple[tuple[float, float], ...] | None:
        """Amounts of shrinkage of a factor, level by level."""
        if self.shrinkage is None:
            return None
        amounts = self.amounts_[j] if self._long else self.amounts_
        if len(amounts) != n_levels:
            raise BatchfixError(
                f"Groups must have the {len(amounts)} level(s) of fit; got {n_levels}. Pass the same ones."
            )
        return tuple((float(k), float(prior)) for k, prior in amounts)

    def _recipe(self, values: np.ndarray) -> Recipe:
        clip = self.winsorize
        return Recipe(
            self.center,
            self.scale,
            self.ddof,
            (float(clip[0]), float(clip[1])) if isinstance(clip, tuple | list) else clip,
            self.min_group_size,
            self.leave_one_out,
            eps=float(np.finfo(values.dtype).eps),
        )


def _added(a: list[list[ShrinkageSums]], b: list[list[ShrinkageSums]]) -> list[list[ShrinkageSums]]:
    if [len(x) for x in a] != [len(x) for x in b]:
        raise MergeError("Sums to add must be of the same levels and factors; got different ones.")
    return [[x + y for x, y in zip(one, two, strict=True)] for one, two in zip(a, b, strict=True)]


def _amounts(sums: list[list[ShrinkageSums]], *, long: bool) -> np.ndarray:
    found = np.array([[[float(s.k), float(s.prior_freedom)] for s in levels] for levels in sums])
    return found if long else found[0]
