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
import pandas as pd
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from ..core.hierarchy import ShrinkageSums
from ..core.recipe import Recipe
from ..core.scores import score, shrinkage_sums
from ..exceptions import BatchfixError, CopyWarning, MergeError
from . import beside
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
    row knows of another, so that nothing leaks through time; but for ``shrinkage="eb"``, whose amounts come from all
    rows of fit: `fit` on the past, then `transform` what follows.

    Parameters
    ----------
    groups : array of p labels, Series or dict by column name, or a table of levels, optional
        Wide tables: the group of each column. A DataFrame indexed by column name (or a list of arrays) is a hierarchy,
        coarse to fine; a group is the tuple of its labels so far (country and sector). None: a whole row is one group.
        Labels are text, whole numbers, categories or None. A dict or lists keep a fitted model free of pandas objects,
        as skops wants it.
    by : name, position or list of them, optional
        Long tables: the column or index level that holds the group; several are a hierarchy, coarse to fine.
    within : name, position or list of them, optional
        Long tables: the column or index level that holds the date. Key columns do not appear in the output.
    symbol : name, position or list of them, optional
        Long tables: the key that holds the symbol, of which each date must have one row. None: levels of the index that
        have a name, and are no other key, are taken for it; without such a level nothing is checked.
    center : {"mean", "median", None}, default "mean"
    scale : {"std", "mad", None}, default "std"
        "mad" is the median absolute deviation times 1.4826, which estimates a normal standard deviation; a group whose
        MAD is 0 though its values differ takes its standard deviation.
    method : {"zscore", "rank", "gauss_rank"}, default "zscore"
        "rank" is (rank - 1/2) / n in the group, ties sharing the average rank; "gauss_rank" its normal quantile.
    winsorize : None, number k or (low, high), default None
        Before anything else, values beyond center +- k scale of their group, or beyond two quantiles of it (such as
        ``(0.01, 0.99)``), are set to that limit; center and scale are the robust ones where those are chosen, and
        never shrunken. Where the scale of a group is not known, nothing is beyond.
    weights : str, or numbers by column, optional
        For mean and standard deviation. Long: the key column that holds them. Wide: one a column, as an array or by
        name. Weights that change over time go in ``fit(..., weights=)``. Only their ratios matter; those of a group
        must not all be 0. Beside a weight ten billion times theirs, others tell no spread: NaN.
    neutralize : list of str, optional
        Exposures (size, beta) to take out along with the groups, in one weighted least-squares fit a date. Long: key
        columns; wide: names among ``fit(..., exposures=)``, by default all of them. Cells that have a label, but not at
        the finest level, are a group of their own in this fit: the statistics named after the group above are theirs.
    min_group_size : int, default 1
        A group with fewer values takes the statistics of the group above it; above the coarsest stands the whole row,
        values without a group included. A row with fewer values is NaN. With leave_one_out the others are counted.
    shrinkage : {None, "eb"}, default None
        "eb": each group's mean and variance are drawn toward those of the group above, by amounts estimated from
        the rows of fit (empirical Bayes) and kept. `fit_transform` estimates them from the very rows that it corrects,
        early and late: before a backtest, fit on the past.
    leave_one_out : bool, default False
        Each value by the others of its group; without others, by those of the group above.
    return_group_stats : bool, default False
        Append what each group had. Wide: ``mean(Tech)``, ``std(Tech)``, ``count(Tech)`` for each group, and
        ``beta(size)``. Long: ``mean(momentum)`` ... for each factor, those of the row's group, and
        ``beta(momentum ~ size)``. `inverse_transform` needs them.
    ddof : float, default 1
        Values taken from n in the variance.
    copy : bool, default True
        False: write into X, where it is a float array. Infinity is refused before; after another error in the
        values X may be half overwritten.

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
    Defined results. A group of one: 0, its scale is not known (NaN). A constant group: 0, also where rounding leaves a
    spread of up to 64 units in the last place. A group without a value: statistics NaN, count 0. A cell without a
    label: by the group above, if some level has its label; else NaN, with a warning from whichever call brings the
    labels.

    A scale that is wanted but not known is that of the group above, up to the whole row: where `ddof` leaves nothing,
    where one value alone has weight, and for the one other of a pair when leaving one out. Where none is known,
    values that are their center are 0 and others NaN. With ``center=None`` values are divided as they are, and a
    scale of 0 is as good as not known, so that also groups of one and constant groups are divided by that above.

    Leaving one out: NaN where the others are constant and the value is another, or where there are no others.

    Under metadata routing, scikit-learn cuts into folds what has as many rows as X: arrays and DataFrames, but not
    what is in a dict or a list. Give exposures and levels of membership as DataFrames there: their rows are found by
    X's index.

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
        symbol: Key | Sequence[Key] | None = None,
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
        self.symbol = symbol
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
        return self._scored(self._learn(X, membership, weights, exposures, reset=True, scan=self._scans))

    @property
    def _scans(self) -> bool:
        """Whether infinity is to be looked for: z-scores find it themselves, but X is overwritten by then."""
        return self.method != "zscore" or not self.copy

    def merge(self, other: Self) -> Self:
        """Return a corrector that has seen the rows of both: amounts of shrinkage follow from sums, which add up.

        Raises
        ------
        MergeError
            They differ in what they were told, or in their groups.
        """
        check_is_fitted(self)
        check_is_fitted(other)
        if type(other) is not type(self) or self._told() != other._told() or not self._grouped_as(other):
            raise MergeError(
                "Correctors to merge must have equal parameters, features, groups, weights and exposures; got "
                "different ones."
            )
        both = deepcopy(self)
        both._join(other.group_names_.tolist())
        if self.shrinkage is not None:
            both._sums = _added(self._sums, other._sums)
            both.amounts_ = _amounts(both._sums, long=self._long)
        return both

    def _told(self) -> tuple[Any, ...]:
        """What correctors to merge must have been told alike, but for labels and numbers."""
        own = {name: _alike(value) for name, value in self.get_params().items() if name not in ("groups", "weights")}
        return own, self.n_features_in_, self._mode, self._depth, self._features_out(), self._exposures

    def _grouped_as(self, other: Self) -> bool:
        """Whether groups of columns, and weights in the constructor, are those of another."""
        if self._mode == "groups":
            one, two = self._grouping, other._grouping
            if one.names != two.names or not np.array_equal(one.codes, two.codes):
                return False
        return beside.equal(self.weights, other.weights)

    def _begin(self) -> None:
        """Check parameters, and forget what was learned."""
        self._check_parameters()
        for name in ("_sums", "amounts_"):
            if hasattr(self, name):
                delattr(self, name)

    def _check_parameters(self) -> None:
        self._validate_params()
        check_combination(self)

    def _learn(self, X: Any, membership: Any, weights: Any, exposures: Any, *, reset: bool, scan: bool = True) -> Cells:
        """Learn from nothing or on; whatever goes wrong, what was known before stays."""
        before = dict(vars(self))
        try:
            if reset:
                self._begin()
            return self._learn_cells(X, membership, weights, exposures, reset=reset, scan=scan)
        except BaseException:
            self.__dict__ = before
            raise

    def _learn_cells(self, X: Any, membership: Any, weights: Any, exposures: Any, *, reset: bool, scan: bool) -> Cells:
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
        self._refuse_twins(cells.table.names)
        return cells

    def _refuse_twins(self, columns: list[Any]) -> None:
        """Refuse statistics that are called what a column is called."""
        known = {str(name) for name in columns} if self.return_group_stats else set()
        twin = next((name for name in self._stat_names(columns) if name in known), None)
        if twin is not None:
            raise BatchfixError(
                f"Statistics must have names of their own; got a column {twin!r} in X, which is what one of them is "
                "called. Rename the column, or set return_group_stats=False."
            )

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
        self._check_parameters()
        cells = self._cells(X, membership, weights, exposures, reset=False)
        if self._scans:
            refuse_infinite(cells.table.values)
        self._refuse_twins(cells.table.names)
        return self._scored(cells)

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
            recipe = replace(self._recipe(cells.table.values), amounts=self._amounts_of(j))
            wanted = self.return_group_stats
            try:
                standing, betas = score(sheet, levels, recipe, self.method, place.target, statistics=wanted)
            except BatchfixError:
                refuse_infinite(cells.table.values)  # it says where, if that is why
                raise
            place.write(place.target, out[:, j] if self._long else out[:, :p])
            if wanted and standing is not None:
                self._append(cells, out, j, place, sheet, standing, betas)

    def _amounts_of(self, j: int) -> tuple[tuple[float, float], ...] | None:
        """Amounts of shrinkage of a factor, level by level."""
        if self.shrinkage is None:
            return None
        if not hasattr(self, "amounts_"):
            raise BatchfixError(
                f"shrinkage must be chosen before fit, which estimates its amounts; got {self.shrinkage!r} afterwards. "
                "Fit again."
            )
        amounts = self.amounts_[j] if self._long else self.amounts_
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


def _alike(value: Any) -> Any:
    """A parameter such that two which mean the same are equal: a list as a tuple, and 1 as 1.0."""
    return tuple(_alike(v) for v in value) if isinstance(value, list | tuple | np.ndarray | pd.Index) else value


def _added(a: list[list[ShrinkageSums]], b: list[list[ShrinkageSums]]) -> list[list[ShrinkageSums]]:
    if [len(x) for x in a] != [len(x) for x in b]:
        raise MergeError("Sums to add must be of the same levels and factors; got different ones.")
    return [[x + y for x, y in zip(one, two, strict=True)] for one, two in zip(a, b, strict=True)]


def _amounts(sums: list[list[ShrinkageSums]], *, long: bool) -> np.ndarray:
    found = np.array([[[float(s.k), float(s.prior_freedom)] for s in levels] for levels in sums])
    return found if long else found[0]
