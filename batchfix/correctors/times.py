"""Times: when rows happened, as numbers that can be compared, and the order they must keep.

A DatetimeIndex, a column of dates, periods or numbers flows in; int64 or float64 and their kind flow out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..exceptions import BatchfixError

CLOCKS = (pd.DatetimeIndex, pd.PeriodIndex, pd.TimedeltaIndex)
"""An index of these is the time of its rows, without being named."""

OBJECTS = {"datetime", "datetime64", "date", "period", "timedelta", "timedelta64"}
"""What an index of dtype object may hold that is time."""

DATE = re.compile(r"\s*\d{4}-\d{1,2}(-\d{1,2}([T ].*)?)?\s*|\s*\d{1,4}[./]\d{1,2}[./]\d{1,4}( .*)?")
"""Text that is a date: 2024-02-01, 2024-02-01 16:00, 2024-02, 01/02/2024, 1.2.2024."""


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
    if index is None or isinstance(index, pd.MultiIndex):
        return None
    if _is_dates_as_text(index):
        raise BatchfixError(
            f"Dates must be dates, or their order is not known; got text such as {index[0]!r} as index. Use X.index = "
            "pd.to_datetime(X.index)."
        )
    return index if _is_clock(index) else None


def clock_levels(index: pd.MultiIndex) -> list[Any]:
    """Names of the levels that hold times."""
    levels = zip(index.names, index.levels, strict=True)
    return [name for name, level in levels if _is_clock(level) or _is_dates_as_text(level)]


def _is_clock(index: pd.Index) -> bool:
    return isinstance(index, CLOCKS) or (index.dtype == object and pd.api.types.infer_dtype(index) in OBJECTS)


def _is_dates_as_text(index: pd.Index) -> bool:
    """Whether all labels are text that is a date."""
    if len(index) == 0 or pd.api.types.infer_dtype(index) != "string":
        return False
    return all(DATE.fullmatch(str(label)) for label in index.dropna())


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
