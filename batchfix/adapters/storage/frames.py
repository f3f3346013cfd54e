"""Frames: the pandas tables and the times that parameters may hold, taken apart and put together again.

A Series, an Index, a Timestamp flows in; its tag and its parts come out (arrays, text, numbers, lists of these), and
the same again from tag and parts. Parts that come from a file make these types only: names of dtypes and time zones
are matched before pandas sees them, because some of them would open files.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

Parts = dict[str, Any]

_DTYPE = re.compile(
    r"(string(\[(python|pyarrow|pyarrow_numpy)\])?|str|boolean|U?Int(8|16|32|64)|Float(32|64)"
    r"|period\[[A-Za-z0-9-]{1,20}\]|datetime64\[(s|ms|us|ns), (?P<zone>[^\]]{1,50})\])"
)
_ZONE = re.compile(r"(?!dateutil)[A-Za-z][A-Za-z0-9_]*(/[A-Za-z0-9_+-]+)*|UTC[+-]\d\d:\d\d(:\d\d)?")
_UNIT = re.compile(r"s|ms|us|ns")
_FREQUENCY = re.compile(r"[A-Za-z0-9-]{1,20}")


def taken_apart(value: Any) -> tuple[str, Parts] | None:
    """The tag and the parts of a table or a time, None for what is neither."""
    if value is pd.NaT or value is pd.NA:
        return "missing", {"is": "NaT" if value is pd.NaT else "NA"}
    for tag, (types, take, _) in _KINDS.items():
        if type(value) in types or (tag in _FAMILIES and isinstance(value, types)):
            return tag, take(value)
    return None


def put_together(tag: str, parts: Parts) -> Any:
    """What was taken apart; ValueError or TypeError for parts that make nothing, KeyError for an unknown tag."""
    if tag == "missing":
        return {"NaT": pd.NaT, "NA": pd.NA}[parts["is"]]
    return _KINDS[tag][2](**parts)


def _match(pattern: re.Pattern[str], text: Any) -> str:
    if not isinstance(text, str) or not pattern.fullmatch(text):
        raise ValueError(f"{text!r} names no dtype, unit or time zone of a saved model")
    return text


# ---- values of a column


def _take_values(values: Any) -> Any:
    """A column's values as an array, or as a categorical or extension array to be taken apart in its turn."""
    return values.to_numpy() if isinstance(values.dtype, np.dtype) else values.array


def _make_extension(dtype: str, values: Any) -> Any:
    zone = _DTYPE.fullmatch(_match(_DTYPE, dtype))
    if zone is not None and zone["zone"] is not None:
        _match(_ZONE, zone["zone"])
    return pd.array(list(values), dtype=dtype)


def _take_extension(array: Any) -> Parts:
    objects = np.empty(len(array), dtype=object)
    objects[:] = list(array)
    return {"dtype": _match(_DTYPE, str(array.dtype)), "values": objects}


def _make_categorical(codes: Any, categories: Any, ordered: bool) -> pd.Categorical:
    return pd.Categorical.from_codes(codes, categories=categories, ordered=bool(ordered))


# ---- tables


def _take_index(index: pd.Index) -> Parts:
    return {"values": _take_values(index), "name": index.name}


def _take_levels(index: pd.MultiIndex) -> Parts:
    return {
        "levels": [_take_values(index.get_level_values(k)) for k in range(index.nlevels)],
        "names": list(index.names),
    }


def _take_frame(frame: pd.DataFrame) -> Parts:
    values = [_take_values(frame.iloc[:, k]) for k in range(frame.shape[1])]
    return {"columns": frame.columns, "index": frame.index, "values": values}


def _make_frame(columns: Any, index: Any, values: list[Any]) -> pd.DataFrame:
    frame = pd.DataFrame(dict(enumerate(values)), index=index)
    if len(columns) != frame.shape[1]:
        raise ValueError("a table has other columns than it names")
    frame.columns = columns
    return frame


# ---- times


def _take_time(time: Any) -> Parts:
    zone = getattr(time, "tz", None)
    return {
        "value": int(time.asm8.view(np.int64)),
        "unit": time.unit,
        "zone": None if zone is None else _match(_ZONE, str(zone)),
    }


def _make_timestamp(value: int, unit: str, zone: str | None) -> pd.Timestamp:
    time = pd.Timestamp(np.array(int(value)).astype(f"M8[{_match(_UNIT, unit)}]")[()])
    return time if zone is None else time.tz_localize("UTC").tz_convert(_match(_ZONE, zone))


def _make_timedelta(value: int, unit: str, zone: None = None) -> pd.Timedelta:
    return pd.Timedelta(np.array(int(value)).astype(f"m8[{_match(_UNIT, unit)}]")[()])


def _from_iso(cls: Any, iso: str) -> Any:
    return cls.fromisoformat(iso)


_Kind = tuple[tuple[type, ...], Callable[[Any], Parts], Callable[..., Any]]

_KINDS: dict[str, _Kind] = {
    "timestamp": ((pd.Timestamp,), _take_time, _make_timestamp),
    "timedelta": ((pd.Timedelta,), _take_time, _make_timedelta),
    "period": (
        (pd.Period,),
        lambda period: {"ordinal": int(period.ordinal), "freq": period.freqstr},
        lambda ordinal, freq: pd.Period(ordinal=int(ordinal), freq=_match(_FREQUENCY, freq)),
    ),
    "datetime": ((dt.datetime,), lambda time: {"iso": time.isoformat()}, lambda iso: _from_iso(dt.datetime, iso)),
    "date": ((dt.date,), lambda day: {"iso": day.isoformat()}, lambda iso: _from_iso(dt.date, iso)),
    "multi-index": (
        (pd.MultiIndex,),
        _take_levels,
        lambda levels, names: pd.MultiIndex.from_arrays(levels, names=names),
    ),
    "index": ((pd.Index,), _take_index, lambda values, name: pd.Index(values, name=name)),
    "series": (
        (pd.Series,),
        lambda series: {"values": _take_values(series), "index": series.index, "name": series.name},
        lambda values, index, name: pd.Series(values, index=index, name=name),
    ),
    "frame": ((pd.DataFrame,), _take_frame, _make_frame),
    "categorical": (
        (pd.Categorical,),
        lambda values: {
            "codes": np.asarray(values.codes),
            "categories": values.categories,
            "ordered": bool(values.ordered),
        },
        _make_categorical,
    ),
    "column": ((pd.api.extensions.ExtensionArray,), _take_extension, _make_extension),
}
_FAMILIES = ("index", "column")  # whose subclasses are what their dtype says
