"""Times: an index that says when rows happened is read, or refused; its order is never guessed."""

import warnings

import numpy as np
import pandas as pd
import pytest

from batchfix import CausalCorrector
from batchfix.correctors.times import Times, index_times
from batchfix.exceptions import BatchfixError

FALLING = ["2024-01-06", "2024-01-05", "2024-01-04", "2024-01-03"]
DAYS = pd.DatetimeIndex(FALLING)


def frame(index):
    return pd.DataFrame({"x": [32.0, 16.0, 8.0, 4.0]}, index=index)


@pytest.mark.parametrize(
    "spelling",
    [
        *("%Y-%m-%d", "%Y%m%d", "%d %b %Y", "%b %d, %Y", "%B %d %Y", "%d-%m-%Y", "%Y-%j", "%d/%m/%Y", "%d.%m.%Y"),
        *("%Y/%m/%d", "%Y%m%dT%H%M", "%A %d %B %Y", "%a %d %b %Y", "%d-%b-%y"),
    ],
)
def test_dates_that_are_text_are_refused_in_any_spelling(spelling):
    with pytest.raises(BatchfixError, match=r"Dates must be dates.*pd\.to_datetime"):
        CausalCorrector().fit_transform(frame(DAYS.strftime(spelling)))


@pytest.mark.parametrize("kind", [int, float, "Int64"])
def test_dates_that_are_written_as_numbers_are_refused_and_the_advice_works(kind):
    table = frame(pd.Index([20240106, 20240105, 20240104, 20240103]).astype(kind))
    with pytest.raises(BatchfixError, match=r"got numbers such as 20240106.* X\.index = (pd.*)\.$") as caught:
        CausalCorrector().fit(table)
    advice = str(caught.value).split("X.index = ")[1].rstrip(".")
    assert list(eval(advice, {"pd": pd, "X": table})) == list(DAYS)


@pytest.mark.parametrize(
    ("index", "says"),
    [
        (pd.CategoricalIndex(DAYS), "Times must rise"),
        (pd.CategoricalIndex(FALLING), "Dates must be dates"),
        (pd.IntervalIndex.from_arrays(DAYS, DAYS + pd.Timedelta(days=1)), "one time, got the interval"),
        (pd.Index([*DAYS[:3], "later"], dtype=object), "of one kind"),
        (pd.Index([4, 3, 2, 1]), "numbers that fall.*got 4 and then 3"),
        (pd.RangeIndex(3, -1, -1), "got 3 and then 2"),
        (pd.Index([1.0, 3.0, 2.0, 4.0]), "got 3 and then 2"),
        (pd.MultiIndex.from_product([[2024], [4, 3, 2, 1]], names=["year", "day"]), "levels of numbers that fall"),
    ],
)
def test_an_order_that_is_not_that_of_time_is_refused(index, says):
    with pytest.raises(BatchfixError, match=says):
        CausalCorrector().fit(frame(index))


@pytest.mark.parametrize(
    "index",
    [
        *(pd.RangeIndex(4), pd.Index([3, 5, 8, 9]), pd.Index([1, 1, 2, 2])),
        *(pd.Index(["d1", "d2", "s10", "t4"]), pd.Index(["row 1", "row 2", "row 3", "row 4"])),
        pd.Index(["MAY", "MAR", "SUN", "DEC"]),
    ],
)
def test_labels_that_are_no_times_leave_the_rows_in_their_order(index):
    assert index_times(index) is None
    found = CausalCorrector(scale=None, min_periods=1).fit_transform(frame(index))["x"]
    assert found.tolist()[1:] == pytest.approx([-16, -16, -44 / 3])


# ---- what is to come


def stream(*days, start="2024-01-01"):
    index = pd.DatetimeIndex([*pd.date_range(start, periods=5), *map(pd.Timestamp, days)])
    return pd.DataFrame({"x": np.arange(len(index), dtype=float)}, index=index)


def test_a_row_from_the_future_does_not_move_a_past_on():
    model = CausalCorrector().fit(stream())
    before = model.transform(stream(start="2024-02-01"))
    for late in (stream("2199-01-01", start="2024-02-01"), stream(start="2199-01-01")):
        with pytest.raises(BatchfixError, match="must have happened, got 2199-01"):
            model.partial_fit(late)
    pd.testing.assert_frame_equal(model.transform(stream(start="2024-02-01")), before)
    with pytest.raises(BatchfixError, match="got 2199-01-01 in row 5"):
        CausalCorrector().partial_fit(stream("2199-01-01"))
    months = stream("2199-01-01").set_axis(
        pd.PeriodIndex([*pd.period_range("2024-01", periods=5, freq="M"), "2199-01"], freq="M")
    )
    with pytest.raises(BatchfixError, match="got 2199-01 in row 5"):
        CausalCorrector().partial_fit(months)


def test_a_stream_that_is_simulated_may_lie_in_the_future():
    model = CausalCorrector().partial_fit(stream(start="2199-01-01"))
    assert model.partial_fit(stream(start="2199-02-01")).last_time_ == pd.Timestamp("2199-02-05").value
    CausalCorrector().fit(stream("2199-01-01"))


def test_now_is_not_to_come_in_any_zone():
    now = pd.Timestamp.now("UTC").floor("s")
    for zone in ("Pacific/Kiritimati", "America/Los_Angeles"):
        index = pd.DatetimeIndex([now - pd.Timedelta(days=2), now]).tz_convert(zone)
        Times.of(index).refuse_future(None)
        Times.of(index.tz_localize(None)).refuse_future(None)


# ---- the way back


@pytest.mark.parametrize(
    ("how", "dtype"),
    [
        ({"window": "rolling", "length": 11, "center": None}, "float64"),
        ({"center": None}, "float32"),
        ({"window": "ewm", "halflife": 6.0, "center": None}, "float32"),
    ],
)
def test_values_that_rounding_has_carried_away_are_not_given_back(how, dtype):
    rng = np.random.default_rng(0)
    X = (1e3 + rng.normal(size=(400, 2))).round(3).astype(dtype)
    model = CausalCorrector(**how).fit(X[:40])
    with pytest.raises(BatchfixError, match=f"rounding stays small; by row .* digit of {dtype}"):
        model.inverse_transform(model.transform(X[40:]))


def test_values_that_come_back_are_right():
    rng = np.random.default_rng(0)
    X = 100 + rng.normal(size=(300, 3)).cumsum(axis=0)
    model = CausalCorrector().fit(X[:100])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(model.inverse_transform(model.transform(X[100:])), X[100:], rtol=1e-8)


def test_pasts_do_not_merge_and_say_so():
    model = CausalCorrector().fit(stream())
    with pytest.raises(BatchfixError, match=r"must add up.*partial_fit"):
        model.merge(model)
