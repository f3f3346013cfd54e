"""Grouping: labels of columns, cells or rows become codes of groups in levels.

One array of labels a level flows in, coarse to fine, of any shape; codes of that shape, the `Levels` and a name for
each group flow out. A group of level k is the tuple of its first k labels, so that levels are crossed: the banks of
two countries are two groups. A missing label puts a cell in a group without a label, for the level above to serve.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Number
from typing import Any

import numpy as np
import pandas as pd

from ..core import blocks
from ..core.naming import nearest, some
from ..core.peers import Levels
from ..exceptions import AlignmentError, BatchfixError, MissingLabelError
from .inputs import GAPS_AS_TEXT, unmasked
from .tables import is_polars

MISSING = "?"
WHOLE_ROW = "row"
SMALL_RANGE = 4096
PIECE = 1 << 16


@dataclass(frozen=True)
class Grouping:
    """Codes of the finest groups, and what they mean.

    Attributes
    ----------
    codes : integer array
        Of the shape of the labels.
    levels : Levels
    names : list of str
        Name of each group of the finest level: its labels joined by "/"; of a group without a label, the name of the
        group above; "" where no level has one.
    """

    codes: np.ndarray
    levels: Levels
    names: list[str]

    @classmethod
    def none(cls, shape: int | tuple[int, ...]) -> Grouping:
        """One group: the whole row."""
        return cls(np.zeros(shape, dtype=np.int8), Levels((), ()), [WHOLE_ROW])

    @classmethod
    def of(cls, labels: Sequence[Any], what: str) -> Grouping:
        """Group by one array of labels a level, coarse to fine."""
        columns = [factorize(each, what) for each in labels]
        codes = np.zeros(1, dtype=np.intp)
        tuples: list[tuple[Any, ...]] = [()]
        parents, labelled = [], []
        for k, (own, values) in enumerate(columns):
            # missing first; groups are numbered such that those of one parent are neighbours
            shifted, width = own + np.int8(1), len(values) + 1
            key = shifted if k == 0 else codes * width + shifted
            present = _present(key, width * len(tuples))
            parent, label = np.divmod(present, width)
            codes = _renumbered(key, present)
            tuples = [
                (*tuples[up], values[at - 1] if at else None) for up, at in zip(parent, label.tolist(), strict=True)
            ]
            parents.append(parent)
            labelled.append(label > 0)
            if k + 1 < len(columns):
                codes = codes.astype(np.intp)
        names = [_name(each) for each in tuples]
        _refuse_twins(tuples, names, what)
        return cls(codes, Levels(tuple(parents), tuple(labelled)), names)


def _present(key: np.ndarray, size: int) -> np.ndarray:
    """Distinct keys below `size`, sorted."""
    seen = np.zeros(size, dtype=bool)
    flat = key.reshape(-1)
    lowest = int(flat.min()) if flat.size else size
    for a, b in blocks.spans(0, len(flat), PIECE):
        seen[flat[a:b]] = True
        if seen[lowest:].all():
            break
    return np.flatnonzero(seen)


def _renumbered(key: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Place of each key among those present, in as few bytes as it takes."""
    first = present[0] if len(present) else 0
    if len(present) and present[-1] - first + 1 == len(present):  # none is absent in between
        return key if first == 0 else key - key.dtype.type(first)
    place = np.zeros(int(present[-1]) + 1 if len(present) else 1, dtype=np.min_scalar_type(max(len(present) - 1, 0)))
    place[present] = np.arange(len(present))
    out = np.empty(key.shape, dtype=place.dtype)
    for a, b in blocks.spans(0, key.size, PIECE):  # an index array for a piece at a time
        out.reshape(-1)[a:b] = place[key.reshape(-1)[a:b]]
    return out


def _name(labels: tuple[Any, ...]) -> str:
    last = len(labels)
    while last and labels[last - 1] is None:
        last -= 1
    return "/".join(MISSING if each is None else str(each) for each in labels[:last])


def _refuse_twins(tuples: list[tuple[Any, ...]], names: list[str], what: str) -> None:
    known: dict[str, tuple[Any, ...]] = {}
    for each, name in zip(tuples, names, strict=True):
        whole = each[: len(each) - sum(1 for _ in _tail(each))]
        if known.setdefault(name, whole) != whole:
            raise BatchfixError(
                f"Groups of {what} must have different names; got {known[name]!r} and {whole!r}, both written "
                f"{name!r}. Rename one of them."
            )


def _tail(labels: tuple[Any, ...]) -> Any:
    for each in reversed(labels):
        if each is not None:
            return
        yield each


def factorize(labels: Any, what: str) -> tuple[np.ndarray, list[Any]]:
    """Codes of labels, -1 where missing, and the distinct labels, sorted (categories: in their order)."""
    labels = getattr(labels, "array", labels) if isinstance(labels, pd.Series | pd.Index) else unmasked(labels)
    if isinstance(labels, _Shaped):
        codes, values = factorize(labels.values, what)
        return codes.reshape(labels.shape), values
    if isinstance(labels, pd.Categorical):
        return np.asarray(labels.codes), _clean(labels.categories.tolist(), what, np.asarray(labels.codes))
    array = np.asarray(labels)
    shape, flat = array.shape, array.reshape(-1)
    if array.dtype.kind in "iub" and flat.size:
        low, high = int(flat.min()), int(flat.max())
        if high - low < SMALL_RANGE:
            wide = flat.astype(np.int16) if flat.itemsize == 1 else flat
            codes = np.empty(flat.shape, dtype=np.min_scalar_type(low - high - 2))
            np.subtract(wide, wide.dtype.type(low), out=codes, casting="unsafe")
            values = [bool(v) if array.dtype.kind == "b" else v for v in range(low, high + 1)]
            return codes.reshape(shape), values
    try:
        codes, found = pd.factorize(flat)
    except TypeError as error:  # not hashable
        wrong = next(v for v in flat.tolist() if getattr(v, "__hash__", None) is None)
        raise BatchfixError(
            f"Labels of {what} must be strings, integers, categories or missing; got {wrong!r}. Give one label each."
        ) from error
    values = list(found.tolist()) if flat.dtype.kind != "M" else list(pd.Series(found))
    refuse_look_alikes(flat, values, what)
    try:
        order = sorted(range(len(values)), key=lambda i: values[i])
    except TypeError:
        order = sorted(range(len(values)), key=lambda i: str(values[i]))
    place = np.empty(len(order) + 1, dtype=np.min_scalar_type(-len(order) - 2))
    place[order] = np.arange(len(order))
    place[-1] = -1
    return place[codes].reshape(shape), _clean([values[i] for i in order], what)


def _counts(value: Any) -> bool:
    return isinstance(value, bool | np.bool_ | Number) and not pd.isna(value)


def refuse_look_alikes(flat: np.ndarray, values: list[Any], what: str) -> None:
    """Refuse True among numbers, which Python takes for 1, and dates among text: groups would merge, or part."""
    dates = [v for v in values if isinstance(v, dt.date)]
    if dates and any(isinstance(v, str) for v in values):
        raise BatchfixError(
            f"Labels of {what} must be of one kind; got dates such as {dates[0]!r} among text. Convert them, for "
            "example with pd.to_datetime."
        )
    if flat.dtype != object or not any(isinstance(v, bool | np.bool_ | Number) and v in (0, 1) for v in values):
        return
    truths = [issubclass(kind, bool | np.bool_) for kind in {type(v) for v in flat.tolist() if _counts(v)}]
    if any(truths) and not all(truths):
        raise BatchfixError(
            f"Labels of {what} must be of one kind; got True or False among numbers, and True equals 1. Make them all "
            "text, or all numbers."
        )


def _clean(values: list[Any], what: str, codes: np.ndarray | None = None) -> list[Any]:
    """Whole numbers that gaps have turned into floats as integers; refuse what a gap becomes as text.

    `codes` are given where not every value need be in use.
    """
    gaps = [i for i, v in enumerate(values) if isinstance(v, str) and (not v or v in GAPS_AS_TEXT)]
    gap = next((values[i] for i in gaps if codes is None or (codes == i).any()), None)
    if gap == "":
        raise MissingLabelError(
            f"A label must not be empty text; got '' among the labels of {what}. Use None for what has no label, or "
            "give it a name."
        )
    if gap is not None:
        raise MissingLabelError(
            f"Labels of {what} must be labels or missing; got the text {gap!r}, which is what a missing value becomes "
            "as text. Make it None or NaN, or rename the label if it is one."
        )
    for value in values:
        if isinstance(value, float) and not value.is_integer():
            raise BatchfixError(
                f"Labels of {what} must be strings, integers, categories or missing; got {value!r}. Give names, or "
                "round what was measured."
            )
    return [int(v) if isinstance(v, float) else v for v in values]


# ---- labels of the columns of a wide table


def of_columns(groups: Any, names: list[Any], *, named: bool) -> Grouping:
    """Group the columns of a table as the parameter `groups` says.

    Raises
    ------
    BatchfixError
        Labels for columns that are not there, or not one a column.
    """
    if groups is None:
        return Grouping.none(len(names))
    if is_polars(groups):  # rows have no names: they are the columns, in their order
        groups = [each.to_numpy() for each in groups] if hasattr(groups, "columns") else groups.to_numpy()
    if isinstance(groups, pd.DataFrame):
        levels = [_by_name(groups.iloc[:, k], names, named=named) for k in range(groups.shape[1])]
        if not levels:
            raise BatchfixError("groups must have a column of labels a level; got a table without columns.")
    elif isinstance(groups, pd.Series | Mapping):
        levels = [_by_name(groups, names, named=named)]
    else:
        levels = [_by_position(each, len(names)) for each in _levels_of(groups)]
    return Grouping.of(levels, "groups")


def _levels_of(groups: Any) -> list[Any]:
    """Labels of each level."""
    if isinstance(groups, str) or np.ndim(np.empty(0) if isinstance(groups, list | tuple) else groups) == 0:
        raise BatchfixError(
            "groups must hold a label for each column: an array, a Series or dict by column name, or a table of "
            f"levels; got {groups!r}. Keys of a long table are named in within= and by=."
        )
    if isinstance(groups, np.ndarray) and groups.ndim > 1:
        raise BatchfixError(
            f"groups must be one label a column, or a list of such arrays, coarse to fine; got an array of shape "
            f"{groups.shape}. Labels that change over time go in membership=."
        )
    if isinstance(groups, pd.MultiIndex):
        return [groups.get_level_values(k) for k in range(groups.nlevels)]
    if isinstance(groups, list | tuple) and len(groups) and all(_is_level(each) for each in groups):
        if all(isinstance(each, tuple) and len(each) == len(groups) for each in groups) and len(groups) > 1:
            raise BatchfixError(
                f"groups must be one list a level, coarse to fine; got {len(groups)} tuples of {len(groups)}, which "
                "could be levels or columns. Give a list of lists, or a DataFrame indexed by column name."
            )
        return list(groups)
    return [groups]


def _is_level(value: Any) -> bool:
    return isinstance(value, list | tuple | np.ndarray | pd.Series | pd.Categorical | pd.Index | Mapping)


def _by_position(labels: Any, p: int) -> Any:
    if isinstance(labels, list | tuple):
        labels = np.array([*labels, None], dtype=object)[:-1]  # text and numbers stay apart
    if len(labels) != p:
        raise AlignmentError(
            f"groups must have one label a column of X; got {len(labels)} labels for {p} columns. A Series or dict by "
            "column name may leave columns out; levels are a list of such labels each, coarse to fine."
        )
    return labels


def _by_name(labels: Any, names: list[Any], *, named: bool) -> Any:
    """Labels in the order of the columns, missing where the mapping has none."""
    series = labels if isinstance(labels, pd.Series) else pd.Series(dict(labels), dtype=object)
    if not named and isinstance(series.index, pd.RangeIndex):
        return _by_position(series.array, len(names))
    if not series.index.is_unique:
        twice = series.index[series.index.duplicated()][0]
        raise BatchfixError(f"groups must have one label a column; got several for {twice!r}. Keep one.")
    unknown = absent(series.index, pd.Index(names))
    if len(unknown):
        close = nearest(unknown[0], names) if named else "; the columns of an array are called x0, x1, ..."
        raise BatchfixError(
            f"groups must have labels for columns of X alone; got {len(unknown)} for columns that X has not: "
            f"{some(unknown.tolist(), 3)}{close}. Leave them out, as groups[X.columns] does."
        )
    return series.reindex(names)


# ---- labels of cells, changing over time


def of_cells(membership: Any, index: pd.Index | None, columns: list[Any], n: int) -> Grouping:
    """Group cells by a table of labels, rows by columns; a list of tables is a hierarchy, coarse to fine."""
    tables = membership if isinstance(membership, list | tuple) and _are_tables(membership) else [membership]
    return Grouping.of([_cells(each, index, columns, n) for each in tables], "membership")


def _are_tables(values: Sequence[Any]) -> bool:
    return len(values) > 0 and all(np.ndim(v) == 2 for v in values)


def _cells(table: Any, index: pd.Index | None, columns: list[Any], n: int) -> Any:
    if is_polars(table):  # columns have names, rows have none
        table, index = table.to_pandas(), None
    if isinstance(table, pd.DataFrame):
        table = aligned(table, index, columns, n, "membership")
        if all(isinstance(kind, pd.CategoricalDtype) for kind in table.dtypes) and table.shape[1]:
            first = table.dtypes.iloc[0]
            if all(kind == first for kind in table.dtypes):
                codes = np.column_stack([table.iloc[:, j].cat.codes for j in range(table.shape[1])])
                flat = pd.Categorical.from_codes(codes.reshape(-1), dtype=first)
                return _Shaped(flat, codes.shape)
            table = table.astype(object)
        return table.to_numpy()
    array = np.asarray(unmasked(table), dtype=None if isinstance(table, np.ndarray) else object)
    if array.shape != (n, len(columns)):
        raise AlignmentError(
            f"membership must have one label a cell of X, {n} rows by {len(columns)} columns; got shape {array.shape}. "
            "A table with X's index and columns is aligned by itself."
        )
    return array


def aligned(table: pd.DataFrame, index: pd.Index | None, columns: list[Any], n: int, what: str) -> pd.DataFrame:
    """Rows and columns of X out of a table that is labelled as X is."""
    if index is not None and not table.index.equals(index):
        _refuse_lost(index, table.index, what, "rows")
        table = table.loc[index]
    elif index is None and len(table) != n:
        raise AlignmentError(f"{what} must have the {n} rows of X; got {len(table)}. Pass those of these very rows.")
    if list(table.columns) != list(columns):
        _refuse_lost(pd.Index(columns), table.columns, what, "columns")
        table = table[list(columns)]
    return table


def absent(wanted: pd.Index, found: pd.Index) -> pd.Index:
    """Labels wanted that are not found: all, where the one has levels and the other none."""
    if wanted.nlevels != found.nlevels:
        return wanted
    return wanted[~wanted.isin(found)]


def _refuse_lost(wanted: pd.Index, found: pd.Index, what: str, axis: str) -> None:
    lost = absent(wanted, found)
    if len(lost):
        raise AlignmentError(
            f"{what} must have the {axis} of X; got none for {len(lost)} of {len(wanted)}, {some(lost.tolist(), 3)}. "
            f"Give it X's {axis}, or pass an array if it is in X's order."
        )
    if not found.is_unique:
        raise AlignmentError(f"{what} must name its {axis} once; got {found[found.duplicated()][0]!r} twice. Drop one.")


@dataclass(frozen=True)
class _Shaped:
    """A categorical of two dimensions."""

    values: pd.Categorical
    shape: tuple[int, ...]


# ---- dates of a long table


def whole(keys: list[Any], what: Any) -> Grouping:
    """Group rows by keys that none of them may lack.

    Raises
    ------
    MissingLabelError
        Some row has none.
    """
    pairs = [factorize(key, f"{what!r}") for key in keys]
    for codes, _ in pairs:
        if codes.min(initial=0) < 0:
            gone = codes < 0
            raise MissingLabelError(
                f"Every row must have a date in {what!r}; got none for {int(gone.sum())} row(s), the first at "
                f"{int(gone.argmax())}. Fill them in, or leave these rows out."
            )
    if len(pairs) == 1:
        codes, values = pairs[0]
        return Grouping(codes, Levels.flat(len(values)), [])
    joint = np.ravel_multi_index([c.astype(np.intp) for c, _ in pairs], [len(v) for _, v in pairs])
    codes, found = pd.factorize(joint, sort=True)
    return Grouping(codes, Levels.flat(len(found)), [])
