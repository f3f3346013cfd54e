"""Schedules: straight lines between knots, the same for numbers and tensors, and frozen."""

import pickle
from copy import deepcopy
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from batchfix.exceptions import BatchfixError
from batchfix.nn import Schedule

knots = st.lists(
    st.tuples(st.integers(0, 10**6), st.floats(-1e3, 1e3)), min_size=1, max_size=5, unique_by=lambda knot: knot[0]
).map(sorted)


@given(knots, st.integers(-10, 2 * 10**6))
def test_it_is_interpolation_held_at_both_ends(knots, step):
    steps, values = zip(*knots, strict=True)
    want = float(np.interp(step, steps, values))
    schedule = Schedule(*knots)
    assert schedule(step) == pytest.approx(want, rel=1e-9, abs=1e-9)
    assert float(schedule(torch.tensor(step))) == pytest.approx(want, rel=1e-9, abs=1e-9)
    assert schedule.least <= schedule(step) + 1e-9


@given(knots)
def test_it_meets_its_knots(knots):
    schedule = Schedule(*knots)
    for step, value in knots:
        assert schedule(step) == value


def test_it_is_a_value():
    schedule = Schedule((5_000, 1.0), (40_000, 3.0))
    assert schedule == Schedule([5_000.0, 1], [40_000, 3])
    assert hash(schedule) == hash(deepcopy(schedule))
    assert pickle.loads(pickle.dumps(schedule)) == schedule
    assert eval(repr(schedule), {"Schedule": Schedule}) == schedule
    with pytest.raises(FrozenInstanceError):
        schedule.knots = ()


@pytest.mark.parametrize(
    ("knots", "words"),
    [
        ((), ("one or more knots", "()")),
        (((0, 1.0), (0, 2.0)), ("rise", "[0, 0]")),
        (((5, 1.0), (2, 2.0)), ("rise", "[5, 2]")),
        (((0, float("nan")),), ("finite", "nan")),
        (((0, 1.0, 2.0),), ("(step, value)", "(0, 1.0, 2.0)")),
        ((3.0,), ("(step, value)", "3.0")),
        ((("a", "b"),), ("numbers", "'a'")),
    ],
)
def test_wrong_use_says_what_must_hold_and_what_came(knots, words):
    with pytest.raises(BatchfixError) as caught:
        Schedule(*knots)
    for word in words:
        assert word in str(caught.value)
