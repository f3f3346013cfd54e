"""What may stand in a fitted object comes back of the same type and value, whatever it is."""

from __future__ import annotations

import datetime as dt
import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from batchfix.adapters.storage.archive import ArchiveError
from batchfix.adapters.storage.codec import WIDEST, Decoder, Encoder


def there_and_back(value: Any) -> Any:
    encoder = Encoder({})
    text = json.dumps(encoder.encode(value, "x"), allow_nan=False)
    return Decoder({}, [array.copy(order="K") for array in encoder.arrays]).decode(json.loads(text))


def same(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        if a.dtype == object:
            return a.shape == b.shape and all(same(x, y) for x, y in zip(a.flat, b.flat, strict=True))
        return bool(a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())
    if isinstance(a, np.generic):
        return bool(a.dtype == b.dtype and a.tobytes() == b.tobytes())
    if isinstance(a, float):
        return repr(a) == repr(b)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict):
        return same(list(a.items()), list(b.items()))
    return bool(a is b or a == b)


def objects(items: list[Any]) -> np.ndarray:
    array = np.empty(len(items), dtype=object)
    for k, each in enumerate(items):
        array[k] = each
    return array


DTYPES = (
    hnp.floating_dtypes(sizes=(16, 32, 64), endianness="=")
    | hnp.integer_dtypes(endianness="=")
    | hnp.unsigned_integer_dtypes(endianness="=")
    | hnp.boolean_dtypes()
    | hnp.unicode_string_dtypes(endianness="=", max_len=4)
    | hnp.datetime64_dtypes(endianness="=")
    | hnp.timedelta64_dtypes(endianness="=")
)
ARRAYS = hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
KEYS = st.text(max_size=3) | st.integers() | st.booleans()
LEAVES = (
    *(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), ARRAYS),
    hnp.from_dtype(np.dtype("f4")),
    hnp.from_dtype(np.dtype("M8[us]")),
    st.text(max_size=3).map(np.str_),
    st.builds(slice, st.none() | st.integers(), st.none() | st.integers()),
    st.dates(),
    st.datetimes(),
)
VALUES = st.recursive(
    st.one_of(*LEAVES),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=3)
        | st.lists(inner, min_size=1, max_size=3).map(objects)
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(VALUES)
def test_values_come_back(value: Any) -> None:
    assert same(there_and_back(value), value)


def test_signs_and_digits_of_floats() -> None:
    for value in (-0.0, 5e-324, 0.1 + 0.2, math.inf, -math.inf, math.nan, np.float64(-0.0)):
        assert same(there_and_back(value), value)


@pytest.mark.parametrize(
    "value",
    [
        pd.NaT,
        pd.NA,
        pd.Timestamp("2026-03-01 12:00:00.123456789"),
        pd.Timestamp("2026-03-29 02:30", tz="UTC").tz_convert("Europe/Berlin"),
        pd.Timestamp("2026-03-29", tz="UTC"),
        pd.Timestamp("2026-03-29 12:00+05:30"),
        pd.Timedelta("3D 1ns"),
        pd.Period("2026-03", "M"),
        pd.Period("2026-03-02", "W-MON"),
        dt.date(2026, 3, 1),
    ],
)
def test_times_come_back(value: Any) -> None:
    back = there_and_back(value)
    assert type(back) is type(value)
    assert back is value or (back == value and str(back) == str(value))


SERIES = [
    pd.Series(["a", None, "b"], index=["x", "y", "z"], name="group"),
    pd.Series(pd.Categorical(["a", "b", None], categories=["b", "a"], ordered=True)),
    pd.Series(["a", None, "b"], dtype="string"),
    pd.Series([1, None, 3], dtype="Int64", index=pd.Index([3, 1, 2], name="at")),
    pd.Series([True, None, False], dtype="boolean"),
    pd.Series(pd.date_range("2026-01-01", periods=3)),
    pd.Series(pd.date_range("2026-01-01", periods=3, tz="Europe/Berlin")),
    pd.Series(pd.period_range("2026-01", periods=3, freq="M")),
    pd.Series([1.5, np.nan, 2.0], index=pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)], names=["k", None])),
]


@pytest.mark.parametrize("series", SERIES, ids=lambda series: str(series.dtype))
def test_tables_come_back(series: pd.Series) -> None:
    pd.testing.assert_series_equal(there_and_back(series), series)
    frame = pd.DataFrame({"a": series, 2: np.arange(3)})
    pd.testing.assert_frame_equal(there_and_back(frame), frame)
    pd.testing.assert_index_equal(there_and_back(series.index), series.index, exact="equiv")


def test_arrays_keep_their_order_and_what_they_share() -> None:
    array = np.asfortranarray(np.arange(12.0).reshape(3, 4))
    wide = np.broadcast_to(np.arange(4.0), (3, 4))
    a, b, c, d = there_and_back([array, array, wide, array.T])
    assert a.flags.f_contiguous
    assert not a.flags.c_contiguous
    assert b is a
    assert d is not a
    assert c.strides == wide.strides
    assert not c.flags.writeable
    assert a.flags.writeable


def test_one_value_stands_for_no_more_than_the_file_holds() -> None:
    column = np.broadcast_to(np.str_("a"), 100_000)  # written in full
    assert same(there_and_back(column), np.array(column))
    wide = np.broadcast_to(np.arange(3.0), (WIDEST // 3, 3))
    assert there_and_back(wide).strides == wide.strides
    more = np.broadcast_to(np.arange(3.0), (WIDEST, 3))
    assert there_and_back([more, np.ones(more.size - 3)])[0].strides == more.strides
    with pytest.raises(ValueError, match=r"no array of a model is as large as \[65536, 3\]"):
        there_and_back([more, np.ones(more.size - 4)])


@pytest.mark.parametrize(
    "value",
    [
        {1, 2},
        b"bytes",
        1j,
        np.array([1j]),
        np.array([(1, 2)], "i4,i4"),
        np.ma.array([1]),
        len,
        print,
        object(),
        range(3),
    ],
)
def test_anything_else_is_refused_by_name(value: Any) -> None:
    with pytest.raises(ArchiveError, match=r"and x\['deep'\]\[0\] is a "):
        Encoder({}).encode({"deep": [value]}, "x")
