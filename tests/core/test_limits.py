"""Limits: two numbers a step, out of numbers, knots or a span of steps. Refusals: tests/correctors/test_renorm.py."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchfix.core.limits import Limits
from batchfix.core.schedule import Schedule
from batchfix.exceptions import BatchfixError

INF = float("inf")


@given(r=st.floats(1, 10), d=st.floats(0, 10), first=st.integers(0, 20), length=st.integers(1, 20))
def test_a_schedule_opens_both_in_a_straight_line(r, d, first, length):
    limits = Limits.of(r, d, (first, first + length))
    for step in range(45):
        share = min(max((step - first) / length, 0.0), 1.0)
        assert limits.at(step) == pytest.approx((1 + share * (r - 1), share * d), rel=1e-12, abs=1e-12)


def test_numbers_hold_and_knots_move():
    assert Limits.of(INF, INF).at(7) == (INF, INF)
    limits = Limits.of([(0, 1.0), (4, 3.0)], Schedule((2, 0.5)))
    assert [limits.at(t) for t in (0, 2, 9)] == [(1.0, 0.5), (2.0, 0.5), (3.0, 0.5)]


@pytest.mark.parametrize(
    ("limits", "shut"),
    [
        ((1, 0), True),
        (([(0, 1.0), (5, 1.0)], 0.0), True),
        ((1.0, 0.1), False),
        ((2.0, 0.0), False),
        ((INF, INF), False),
        ((2.0, 1.0, (100, 200)), False),
    ],
)
def test_shut_is_shut_for_ever(limits, shut):
    assert Limits.of(*limits).shut is shut


def test_a_span_is_two_steps():
    with pytest.raises(BatchfixError, match="the two steps"):
        Limits.of(2.0, 1.0, (3,))
