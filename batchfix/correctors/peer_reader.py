"""Reading peers: a table, wide or long, with everything that says which cells are compared.

A table and what is passed beside it flow in; `Cells` flow out: numbers, groups, dates, weights and exposures, checked
against fit and against each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd

from ..core import blocks
from ..core.naming import some
from ..core.scores import Sheet
from ..exceptions import BatchfixError, BatchfixWarning
from . import beside, grouping
from .by_date import ByDate, Layout
from .grouping import Grouping
from .notices import warn
from .peer_parameters import check_neutralized, check_weighted
from .rowwise import RowwiseCorrector, Table
from .tables import Key
from .times import clock_levels


@dataclass(frozen=True)
class Cells:
    """A table with everything that is known beside it."""

    table: Table
    grouping: Grouping
    dates: ByDate | None
    weights: np.ndarray | None
    exposures: np.ndarray | None


@dataclass(frozen=True)
class Place:
    """Where a sheet's results are written, and how they get from there to the output."""

    target: np.ndarray
    layout: Layout | None

    def write(self, sheet: np.ndarray, column: np.ndarray) -> None:
        """Bring a sheet back to its rows in a column; a wide table's results are there already."""
        if self.layout is not None:
            self.layout.write(sheet, column)


PIECE = 1 << 16


class PeerReader(RowwiseCorrector):
    """Finds the groups, dates, weights and exposures of a table's cells."""

    groups: Any
    by: Any
    within: Any
    symbol: Any
    center: str | None
    scale: str | None
    method: str
    weights: Any
    neutralize: Any

    _mode: str
    _grouping: Grouping
    _depth: int
    _exposures: list[str]
    _whole_rows = False
    """Whether a row is compared in itself, whatever its columns are."""

    @property
    def _long(self) -> bool:
        return self.within is not None

    def _keys(self) -> list[Key]:
        """Keys of a long table."""
        if not self._long:
            return []
        keys = [*listed(self.within), *listed(self.by), *listed(self.symbol), *self._neutralized_names()]
        if self._weight_key is not None:
            keys.append(self._weight_key)
        return list(dict.fromkeys(keys))

    @property
    def _weight_key(self) -> Key | None:
        """The key column of weights of a long table."""
        key = self.weights
        named = isinstance(key, str | int | np.integer) and not isinstance(key, bool)
        return cast(Key, key) if self._long and named else None

    def _neutralized_names(self) -> list[Key]:
        return [] if self.neutralize is None else listed(self.neutralize)

    def _cells(self, X: Any, membership: Any, weights: Any, exposures: Any, *, reset: bool) -> Cells:
        """Find groups, dates, weights and exposures of a table."""
        if self._long:
            table, dates, found = self._read_long(X, membership, exposures, reset=reset)
        else:
            table, dates = self._read(X, reset=reset), None
            _refuse_repeated_dates(table.index)
            if not self._whole_rows:
                _refuse_long(table.index)
            mode = "membership" if membership is not None else "groups"
            if reset:
                self._mode = mode
            self._check_mode(mode)
            found = self._wide_groups(table, membership, reset=reset)
        if reset:
            self._depth = len(found.levels)
        elif len(found.levels) != self._depth:
            raise BatchfixError(
                f"Groups must have the {self._depth} level(s) of fit; got {len(found.levels)}. Pass the same ones."
            )
        if reset or self._mode != "groups":  # labels of this very table
            self._warn_unlabelled(found, table)
        w = self._weights_of(table, weights)
        return Cells(table, found, dates, w, self._loads(exposures, table, reset=reset))

    def _loads(self, given: Any, table: Table, *, reset: bool = False) -> np.ndarray | None:
        """Exposures, in the order of fit's."""
        names, loads = beside.exposures(given, self._neutralized_names(), table, long=self._long)
        if reset:
            self._exposures = names
        if names:
            check_neutralized(self)
        if not reset and sorted(names) != sorted(self._exposures):
            raise BatchfixError(f"exposures must be those of fit, {self._exposures}; got {names}. Pass the same ones.")
        if loads is None or names == self._exposures:
            return loads
        return loads[..., [names.index(name) for name in self._exposures]]

    def _check_mode(self, mode: str) -> None:
        if mode == self._mode:
            if mode == "membership" and self.groups is not None:
                raise BatchfixError(
                    "Groups must be described once; got both groups= and membership=. Drop groups if they change."
                )
            return
        raise BatchfixError(
            "membership must be passed to transform, since fit was given it; got none."
            if mode == "groups"
            else "membership must be passed to fit too; got it in transform alone. Fit with it, or leave it out."
        )

    def _wide_groups(self, table: Table, membership: Any, *, reset: bool = False) -> Grouping:
        n = len(table.values)
        if self._mode == "membership":
            if membership is None:
                raise BatchfixError("membership must be passed, since fit was given it; got none.")
            return grouping.of_cells(membership, table.index, table.names, n)
        named = hasattr(table.source, "columns")
        by_name = isinstance(self.groups, pd.Series | pd.DataFrame | Mapping)
        if reset:
            self._grouping = grouping.of_columns(self.groups, table.names, named=named)
        elif named or not by_name:  # an array's columns are those of fit by their position
            now = grouping.of_columns(self.groups, table.names, named=named)
            if now.names != self._grouping.names or not np.array_equal(now.codes, self._grouping.codes):
                raise BatchfixError("groups must be those of fit; got others since. Call fit() again.")
        return self._grouping

    def _warn_unlabelled(self, found: Grouping, table: Table) -> None:
        """Say which values have no group at any level, and become NaN."""
        nameless = found.levels.nameless
        if not nameless.any():
            return
        lost = nameless[found.codes]
        if not self._long and lost.ndim == 1:
            names = [table.names[j] for j in np.flatnonzero(lost)]
            who, many = f"column should have a group, but {some(names, 3)}", len(names)
        else:
            seen = ~np.isnan(table.values)
            many = int((seen & (lost if lost.ndim == 2 else lost[:, None])).sum())
            who = f"value should have a group, but {many} of {int(seen.sum())}"
        if many:
            warn(
                f"Every {who} {'has' if many == 1 else 'have'} none: NaN in the output. Label them, or leave them out.",
                BatchfixWarning,
            )

    def _read_long(self, X: Any, membership: Any, exposures: Any, *, reset: bool) -> tuple[Table, ByDate, Grouping]:
        if membership is not None:
            raise BatchfixError(
                "membership describes the cells of a wide table; got it for a long one. Its groups are named in by=."
            )
        self._mode = "long"
        table = self._read_keys(X, self._keys_beside(X, exposures), reset=reset)
        n = len(table.values)
        dates = grouping.whole([table.keys[k] for k in listed(self.within)], self.within)
        n_dates = dates.levels.n_groups
        by_date = ByDate.of(dates.codes, n_dates)
        _refuse_repeated_pairs(table, dates.codes, by_date, self._keys(), listed(self.symbol))
        by = listed(self.by)
        found = Grouping.of([table.keys[k] for k in by], f"{self.by!r}") if by else Grouping.none(n)
        return table, by_date, found

    def _keys_beside(self, X: Any, exposures: Any) -> list[Key]:
        """Keys in the table, when some exposures may be beside it."""
        names = getattr(exposures, "columns", exposures)
        given = {str(name) for name in names} if isinstance(names, Mapping | Sequence | pd.Index) else set()
        moved = [k for k in self._neutralized_names() if str(k) in given]
        twice = [k for k in moved if k in getattr(X, "columns", ())]
        if twice:
            raise BatchfixError(
                f"An exposure must be given once; got {twice[0]!r} as a column of X and in exposures=. Drop one."
            )
        return [k for k in self._keys() if k not in moved]

    def _read_keys(self, X: Any, keys: list[Key], *, reset: bool) -> Table:
        """Read a long table; levels of its index as categories, which they are."""
        index = X.index if isinstance(X, pd.DataFrame) else None
        if not isinstance(index, pd.MultiIndex):
            return self._read(X, keys, reset=reset)
        levels = {k: index.names.index(k) for k in keys if k in index.names and k not in X.columns}
        table = self._read(X, [k for k in keys if k not in levels], reset=reset)
        for k, at in levels.items():
            table.keys[k] = pd.Categorical.from_codes(index.codes[at], categories=index.levels[at], validate=False)
        return table

    def _weights_of(self, table: Table, given: Any) -> np.ndarray | None:
        own = self.weights
        if given is not None and own is not None:
            raise BatchfixError("Weights must be given once; got both the parameter weights and the argument weights.")
        if self._weight_key is not None:
            own = np.asarray(table.keys[self._weight_key])  # in the order of the rows
        found = own if given is None else given
        if found is None:
            return None
        if isinstance(found, str):
            raise BatchfixError(
                f"weights must be numbers, one a {'row' if self._long else 'column'} or one a cell; got the name "
                f"{found!r}. " + ("Name a key column in the constructor." if self._long else "Pass its numbers.")
            )
        check_weighted(self)
        return beside.weights(beside.of_cells(found, table, "weights", long=self._long), table.values, long=self._long)

    def _sheets(self, cells: Cells, out: np.ndarray) -> Iterator[tuple[int, Sheet, Place]]:
        """Rows whose cells are compared: the table, or a long table's factors one after the other."""
        values, w = cells.table.values, cells.weights
        if cells.dates is None:
            yield 0, Sheet(values, cells.grouping.codes, w, cells.exposures), Place(out, None)
            return
        for layout in cells.dates.layouts():
            codes = layout.sheet(cells.grouping.codes, empty=0)
            loads = None if cells.exposures is None else layout.sheet(cells.exposures)
            for j in range(values.shape[1]):
                own = None
                if w is not None:
                    own = layout.sheet(w if w.ndim == 1 else w[:, j], empty=0.0)
                sheet = Sheet(layout.sheet(values[:, j]), codes, own, loads)
                yield j, sheet, Place(layout.target(out[:, j]), layout)


def listed(keys: Any) -> list[Any]:
    """Return one key or several as a list."""
    if keys is None:
        return []
    if isinstance(keys, set | frozenset | Mapping):
        raise BatchfixError(f"Keys must be one name or a list of names, in an order; got {keys!r}. Write a list.")
    several = isinstance(keys, Sequence | pd.Index | np.ndarray) and not isinstance(keys, str)
    return list(keys) if several else [keys]


def _refuse_repeated_dates(index: pd.Index | None) -> None:
    if isinstance(index, pd.DatetimeIndex | pd.PeriodIndex) and not index.is_unique:
        twice = index[index.duplicated()][0]
        raise BatchfixError(
            f"Each date must have one row of a wide table; got several for {str(twice)!r}. Keep one, or use within= if "
            "the table is long."
        )


def _refuse_long(index: pd.Index | None) -> None:
    """Refuse a long table whose date is not named: its factors would be compared with each other."""
    if not isinstance(index, pd.MultiIndex):
        return
    clocks = clock_levels(index)
    if clocks:
        raise BatchfixError(
            f"A long table must say which rows are compared; got index levels {list(index.names)!r} and within=None. "
            f"Name the date's level: within={clocks[0]!r}. To compare the values of each row, use InstanceCorrector."
        )


def _refuse_repeated_pairs(
    table: Table, dates: np.ndarray, by_date: ByDate, keys: list[Key], symbol: list[Key]
) -> None:
    """Refuse a symbol that has two rows of one date, where a key or the index names symbols."""
    columns = [_coded(table.keys[name]) for name in symbol] or _coded_levels(table.index, keys)
    if not columns:
        return
    for name, (codes, _) in zip(symbol, columns, strict=False):
        if len(codes) and codes.min() < 0:
            raise BatchfixError(
                f"Every row must have a symbol in {name!r}; got none for {int((codes < 0).sum())} row(s), the first at "
                f"{int((codes < 0).argmax())}. Fill them in, or leave these rows out."
            )
    if len(columns) == 1 and _in_step(by_date, columns[0][0]):
        return
    size = len(by_date.edges) - 1
    for _, count in columns:
        size *= count + 1
    if size <= 4 * len(dates) + 1_000_000:
        seen = np.zeros(size, dtype=bool)
        for a, b in blocks.spans(0, len(dates), PIECE):
            seen[_pairs(dates, columns, slice(a, b))] = True
        repeated = int(seen.sum()) < len(dates)
    else:
        repeated = not pd.Index(_pairs(dates, columns, slice(None))).is_unique
    if repeated:
        twice = int(np.flatnonzero(pd.Index(_pairs(dates, columns, slice(None))).duplicated())[0])
        found = [str(np.asarray(table.keys[name])[twice]) for name in symbol]
        where = table.index[twice] if table.index is not None else ()
        found = found or [str(v) for v in (where if isinstance(where, tuple) else (where,))]
        raise BatchfixError(
            f"Each date must have one row a symbol; got several for {', '.join(found)}, the second in row {twice}. "
            "Keep one, for example with X[~X.index.duplicated()]. If that is no symbol, name what is one in symbol=."
        )


def _coded(labels: Any) -> tuple[np.ndarray, int]:
    """Codes of labels, -1 where missing, and how many there are."""
    own = labels.array if isinstance(labels, pd.Series) else labels
    if isinstance(own, pd.Categorical):
        return np.asarray(own.codes), len(own.categories)
    codes, values = pd.factorize(labels)
    return codes, len(values)


def _coded_levels(index: pd.Index | None, keys: list[Key]) -> list[tuple[np.ndarray, int]]:
    """Codes of the levels of an index that have a name and are no keys."""
    if index is None or isinstance(index, pd.RangeIndex):
        return []
    levels = [at for at, name in enumerate(index.names) if name is not None and name not in keys]
    if isinstance(index, pd.MultiIndex):
        return [(np.asarray(index.codes[at]), len(index.levels[at])) for at in levels]
    return [_coded(index) for _ in levels]


def _pairs(dates: np.ndarray, columns: list[tuple[np.ndarray, int]], rows: slice) -> np.ndarray:
    """One number for each row's date and symbol; a missing symbol has code -1."""
    cell = dates[rows].astype(np.int64)
    for codes, count in columns:
        cell *= count + 1
        cell += codes[rows]
        cell += 1
    return cell


def _in_step(by_date: ByDate, symbols: np.ndarray) -> bool:
    """Whether every date has the same symbols in the same order, each once: the usual case, and quickly seen."""
    width = by_date.width
    first = symbols[:width]
    if width == 0 or len(np.unique(first)) < width:
        return False
    rows = symbols.reshape(-1, width)
    return all(bool((rows[a:b] == first).all()) for a, b in blocks.spans(0, len(rows), max(1, PIECE // width)))
