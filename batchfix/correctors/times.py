"""Times: when rows happened, as numbers that can be compared, and the order they must keep.

A DatetimeIndex, a column of dates, periods or numbers flows in; int64 or float64 and their kind flow out.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..exceptions import BatchfixError

CLOCKS = (pd.DatetimeIndex, pd.PeriodIndex, pd.TimedeltaIndex)
"""An index of these is the time of its rows, without being named."""

LONG_DATE = re.compile(r"^(?=.{8})(?=(\D*\d){5})")
"""Text with so many characters and digits may be a date in one more spelling."""

TO_TEXT = ".astype(int).astype(str)"

WRITTEN = {"string", "integer", "floating"}
"""What a date may be written as."""

OBJECTS = {"datetime", "datetime64", "date", "period", "timedelta", "timedelta64"}
"""What an index of dtype object may hold that is time."""

DATE = re.compile(
    r"\s*("
    r"\d{4}-\d{1,2}(-\d{1,2}([T ].*)?)?"  # 2024-02-01, 2024-02-01 16:00, 2024-02
    r"|\d{1,4}[./]\d{1,2}[./]\d{1,4}( .*)?"  # 01/02/2024, 1.2.2024, 2024/02/01
    r"|\d{1,2}-\d{1,2}-\d{4}( .*)?"  # 01-02-2024
    r"|(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])"  # 20240201
    r"|\d{4}-\d{3}|\d{4}-?[QW]\d{1,2}"  # 2024-032, 2024Q1, 2024-W05
    r"|\d{1,2}[ -][^\W\d]{3,9}\.?[ -]\d{2,4}( .*)?"  # 01 Feb 2024, 01-Feb-24
    r"|[^\W\d]{3,9}\.? \d{1,2},? \d{4}( .*)?"  # February 1, 2024
    r")\s*"
)
"""Text, or a number written out, that is a date."""


@dataclass(frozen=True, eq=False)
class Times:
    """One time a row.

    Attributes
    ----------
    values : array (n,), int64 or float64
        Nanoseconds since 1970, ordinals of periods, or numbers as they came.
    kind : str
        "datetime", "datetime UTC", "timedelta", "period[D]" and its like, or "number". Only times of one kind compare.
    """

    values: np.ndarray
    kind: str

    @classmethod
    def of(cls, times: Any) -> Times:
        """Read times, none of them missing.

        Raises
        ------
        BatchfixError
            Some are missing, or they are no times.
        """
        index = _typed(
            pd.Index(times, dtype=object if getattr(getattr(times, "dtype", None), "kind", "") == "O" else None)
        )
        missing = np.flatnonzero(index.isna())
        if missing.size:
            raise BatchfixError(
                f"Every row must have a time, got none (NaT) in row {missing[0]}"
                f"{f' and {missing.size - 1} more' if missing.size > 1 else ''}. Fill it in, or leave the row out."
            )
        if isinstance(index, pd.DatetimeIndex):
            zoned = index.tz is not None
            return cls(_nanoseconds(index), "datetime UTC" if zoned else "datetime")
        if isinstance(index, pd.PeriodIndex):
            return cls(index.asi8, f"period[{index.freqstr}]")
        if isinstance(index, pd.TimedeltaIndex):
            return cls(_nanoseconds(index), "timedelta")
        if index.dtype.kind == "u" and index.max() > np.iinfo(np.int64).max:
            raise BatchfixError(f"Times must fit int64, got {index.max()}. Count from a later beginning.")
        return cls(index.to_numpy(np.float64 if index.dtype.kind == "f" else np.int64), "number")

    def __len__(self) -> int:
        return len(self.values)

    def refuse_unsorted(self) -> None:
        """Times of a wide table must rise.

        Raises
        ------
        BatchfixError
            They fall or repeat somewhere.
        """
        stuck = np.flatnonzero(self.values[1:] <= self.values[:-1])
        if not stuck.size:
            return
        i = int(stuck[0])
        here, there = show(self.values[i], self.kind), show(self.values[i + 1], self.kind)
        if here == there and self.values[i] == self.values[i + 1]:
            raise BatchfixError(
                f"Times must not repeat, got {here} in rows {i} and {i + 1}. Drop one, or name what tells the rows "
                "apart: by='symbol' for a long table."
            )
        raise BatchfixError(
            f"Times must rise, got {here} in row {i} and {there} in row {i + 1}. Sort the rows by time."
        )

    def refuse_future(self, last: int | float | None) -> None:
        """Rows of a stream have happened, unless all of it, from its beginning or its `last` row on, is to come.

        Raises
        ------
        BatchfixError
            Some are dated more than a day after now, which leaves room for any zone.
        """
        limit = _now(self.kind)
        if limit is None or not len(self):
            return
        begin = self.values.min() if last is None else last
        worst = int(self.values.argmax())
        if begin <= limit < self.values[worst]:
            raise BatchfixError(
                f"Rows that move a past on must have happened, got {show(self.values[worst], self.kind)} in row "
                f"{worst}, which is to come: after it, no row of today would be later. Correct the date. A simulated "
                "stream may lie in the future as a whole, or number its days."
            )

    def refuse_earlier(self, last: int | float | None, kind: str | None) -> None:
        """Rows must be later than those already seen, and tell their times in the same way.

        Raises
        ------
        BatchfixError
        """
        if kind != self.kind:
            raise BatchfixError(
                f"Times must be of the kind seen in fit, {kind}; got {self.kind}. Convert them, or fit anew."
            )
        first = self.values.min()
        if last is not None and first <= last:
            raise BatchfixError(
                f"Rows must be later than those already seen, which end at {show(last, kind)}; got "
                f"{show(first, self.kind)} in row {int(self.values.argmin())}. Pass only what came after, or fit anew."
            )


def _now(kind: str) -> int | None:
    """A day after now, as times of this kind have it; None where they are not dates."""
    now = pd.Timestamp.now("UTC").tz_localize(None) + pd.Timedelta(days=1)
    if kind.startswith("period"):
        return int(pd.Period(now, freq=kind[len("period[") : -1]).ordinal)
    return int(now.as_unit("ns").value) if kind.startswith("datetime") else None


def show(value: Any, kind: str) -> str:
    """A time as a person writes it."""
    if kind.startswith("datetime"):
        text = str(pd.Timestamp(int(value), tz="UTC" if kind.endswith("UTC") else None))
        return text.removesuffix(" 00:00:00")
    if kind.startswith("period"):
        return str(pd.Period(ordinal=int(value), freq=kind[len("period[") : -1]))
    if kind == "timedelta":
        return str(pd.Timedelta(int(value)))
    return f"{value:.15g}" if isinstance(value, float | np.floating) else str(value)


def index_times(index: pd.Index | None) -> pd.Index | None:
    """The times in an index that is nothing else, or None.

    Raises
    ------
    BatchfixError
        Dates that are text; or times among several levels: which one counts, and what the others mean, must be said.
    """
    if isinstance(index, pd.MultiIndex):
        clocks = clock_levels(index)
        if clocks:
            others = [name for name in index.names if name not in clocks]
            raise BatchfixError(
                f"Which index level is the time of a row, and which tells columns of values apart, must be named; got "
                f"levels {list(index.names)!r}. Use time={clocks[0]!r}, by={(others or [None])[0]!r}."
            )
        if not index.is_monotonic_increasing and all(level.dtype.kind in "iuf" for level in index.levels):
            raise BatchfixError(
                f"Rows must come in the order of time, which index levels of numbers that fall, {list(index.names)!r}, "
                "do not say. Sort the rows, or, if they are in order, use X.reset_index(drop=True)."
            )
    if index is None or isinstance(index, pd.MultiIndex):
        return None
    if _is_dates_as_text(index):
        number = index.dtype.kind in "iuf"
        raise BatchfixError(
            f"Dates must be dates, or their order is not known; got {'numbers' if number else 'text'} such as "
            f"{index.tolist()[0]!r} as index. Use X.index = pd.to_datetime(X.index{TO_TEXT if number else ''})."
        )
    if isinstance(index, pd.IntervalIndex):
        raise BatchfixError(
            f"A row must have one time, got the interval {index[0]!r} as index. Take its end: X.index = X.index.right."
        )
    if _is_clock(index):
        return index
    _refuse_disorder(index)
    return None


def _refuse_disorder(index: pd.Index) -> None:
    """Refuse numbers that fall, and times among other labels: rows are counted in the order they have."""
    if index.dtype.kind in "iuf" and not index.is_monotonic_increasing:
        i = int(np.flatnonzero(np.diff(index.to_numpy()) < 0)[:1].sum())
        raise BatchfixError(
            f"Rows must come in the order of time, which an index of numbers that fall does not say; got {index[i]:g} "
            f"and then {index[i + 1]:g}. Sort the rows, or, if they are in order, use X.reset_index(drop=True)."
        )
    if index.dtype == object and any(isinstance(label, dt.date | np.datetime64 | pd.Period) for label in index):
        raise BatchfixError(
            f"Times must be of one kind, got some among other labels in the index ({index[0]!r} for one). Use "
            "X.index = pd.to_datetime(X.index)."
        )


def clock_levels(index: pd.MultiIndex) -> list[Any]:
    """Names of the levels that hold times."""
    levels = zip(index.names, index.levels, strict=True)
    return [name for name, level in levels if _is_clock(level) or _is_dates_as_text(level)]


def _is_clock(index: pd.Index) -> bool:
    if isinstance(index, pd.CategoricalIndex):
        return _is_clock(index.categories)
    return isinstance(index, CLOCKS) or (index.dtype == object and pd.api.types.infer_dtype(index) in OBJECTS)


def _is_dates_as_text(index: pd.Index) -> bool:
    """Whether all labels are text, or whole numbers as 20240131, that is a date."""
    if isinstance(index, pd.CategoricalIndex):
        index = index.categories
    if isinstance(index, pd.RangeIndex) or len(index) == 0 or pd.api.types.infer_dtype(index) not in WRITTEN:
        return False
    labels = [str(label).removesuffix(".0") for label in index.dropna()]
    if all(DATE.fullmatch(label) for label in labels):
        return True
    if not all(LONG_DATE.search(label) for label in labels):
        return False
    return bool(pd.to_datetime(pd.Series(labels), errors="coerce", format="mixed", utc=True).notna().all())


def _nanoseconds(index: pd.DatetimeIndex | pd.TimedeltaIndex) -> np.ndarray:
    try:
        return np.asarray(index.as_unit("ns").asi8)
    except (pd.errors.OutOfBoundsDatetime, pd.errors.OutOfBoundsTimedelta) as error:
        raise BatchfixError(
            f"Times must lie between 1677 and 2262, got {index.min()} to {index.max()}. Use a PeriodIndex, which "
            "reaches further."
        ) from error


def _typed(index: pd.Index) -> pd.Index:
    """An index of times or real numbers."""
    if isinstance(index.dtype, pd.CategoricalDtype):
        index = pd.Index(index.astype(index.categories.dtype))
    if isinstance(index, CLOCKS):
        return index
    kind = pd.api.types.infer_dtype(index, skipna=True)
    if index.dtype == object and kind in ("datetime", "datetime64", "date"):
        try:
            return pd.DatetimeIndex(index)
        except ValueError as error:
            raise BatchfixError(
                f"Times must be of one kind, got {index[0]!r} and others ({error}). Convert them."
            ) from (error)
    if index.dtype == object and kind in ("integer", "floating", "mixed-integer-float"):
        return pd.Index(index.astype(np.float64) if index.isna().any() or kind != "integer" else index.astype(np.int64))
    if index.dtype == object and kind == "period":
        return pd.PeriodIndex(index)
    if index.dtype == object and kind in ("timedelta", "timedelta64"):
        return pd.TimedeltaIndex(index)
    if index.dtype.kind in "iu" or (index.dtype.kind == "f"):
        if index.isna().any():
            return pd.Index(index.astype(np.float64))
        return index
    raise BatchfixError(
        f"Times must be dates, periods or numbers, got {index.dtype} such as {index[0]!r}. Convert them, for example "
        "with pd.to_datetime."
    )
