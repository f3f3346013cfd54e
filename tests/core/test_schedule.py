"""Schedules: straight lines between knots, frozen, and the layer's to the last bit."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchfix.core.schedule import Schedule
from batchfix.exceptions import BatchfixError
from batchfix.nn import Schedule as LayerSchedule

knots = st.dictionaries(st.integers(0, 100), st.floats(-10, 10), min_size=1, max_size=6).map(
    lambda d: sorted(d.items())
)


@given(knots=knots, step=st.integers(0, 200))
def test_it_is_numpys_and_the_layers(knots, step):
    schedule = Schedule(*knots)
    steps, values = zip(*knots, strict=True)
    assert schedule(step) == LayerSchedule(*knots)(step)
    assert schedule(step) == pytest.approx(np.interp(step, steps, values), rel=1e-12, abs=1e-12)
    assert schedule.least == min(values)
    assert schedule.most == max(values)
    assert Schedule.of(LayerSchedule(*knots)) == Schedule.of(list(knots)) == Schedule.of(schedule) == schedule
    assert pickle.loads(pickle.dumps(schedule)) == schedule


def test_a_number_holds_for_ever():
    schedule = Schedule.of(np.float32(2.0))
    assert [schedule(t) for t in (0, 1, 10**9)] == [2.0, 2.0, 2.0]


@pytest.mark.parametrize(
    ("knots", "message"),
    [
        ((), "one or more knots"),
        (((0, 1.0), (0, 2.0)), "must rise"),
        (((5, 1.0), (0, 2.0)), "must rise"),
        (((0, float("nan")),), "finite numbers"),
        (((0, float("inf")),), "finite numbers"),
        (((0, 1.0, 2.0),), "pairs|step, value"),
        ((1.0, 2.0), "step, value"),
        (("ab",), "finite numbers"),
        (((0, True),), "finite numbers"),
    ],
)
def test_what_is_no_schedule(knots, message):
    with pytest.raises(BatchfixError, match=message):
        Schedule(*knots)


@pytest.mark.parametrize("value", ["3", None, 5j])
def test_what_makes_no_schedule(value):
    with pytest.raises(BatchfixError, match="one or more knots"):
        Schedule.of(value)
