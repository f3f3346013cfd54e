"""Schedules: limits that change with the step of a stream or of a training.

A step (a number) flows in; a limit flows out, on straight lines between knots:

    value(t) = v_k + (v_k+1 - v_k) (t - t_k) / (t_k+1 - t_k)   for t_k <= t <= t_k+1

held at the first value before the first knot, and at the last after the last.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from numbers import Real
from typing import Any, Self

from ..exceptions import BatchfixError


@dataclass(frozen=True)
class Schedule:
    """A piecewise-linear function of the step.

    Parameters
    ----------
    *knots : pairs (step, value)
        In rising order of the step. Before the first knot the first value holds, after the last the last.

    Raises
    ------
    BatchfixError
        No knots, steps that do not rise, or values that are not finite numbers.

    Examples
    --------
    Ioffe's r_max (2017, section 4): 1 until step 5,000, then rising to 3 at step 40,000.

    >>> r_max = Schedule((5_000, 1.0), (40_000, 3.0))
    >>> r_max(0), r_max(22_500), r_max(10**6)
    (1.0, 2.0, 3.0)
    """

    knots: tuple[tuple[float, float], ...]

    def __init__(self, *knots: tuple[float, float]) -> None:
        given: tuple[Any, ...] = knots
        pairs = [tuple(knot) if isinstance(knot, Iterable) else (knot,) for knot in given]
        numbers = [len(p) == 2 and all(is_number(v) and isfinite(v) for v in p) for p in pairs]
        if not pairs or not all(numbers):
            raise BatchfixError(
                f"A schedule must have one or more knots (step, value) of finite numbers; got {knots!r}. "
                "Write for example Schedule((5000, 1.0), (40000, 3.0))."
            )
        steps = [step for step, _ in pairs]
        if any(late <= early for early, late in pairwise(steps)):
            raise BatchfixError(f"The steps of a schedule must rise; got {steps!r}. Put the knots in order.")
        object.__setattr__(self, "knots", tuple((float(s), float(v)) for s, v in pairs))

    @classmethod
    def of(cls, value: Any) -> Self:
        """A schedule out of one (of any kind that has knots), out of a list of knots, or out of one number for ever.

        Examples
        --------
        >>> Schedule.of(3.0), Schedule.of([(0, 1.0), (9, 3.0)])
        (Schedule((0, 3)), Schedule((0, 1), (9, 3)))
        """
        if is_number(value):
            return cls((0.0, value))
        knots = getattr(value, "knots", value)
        return cls(*(knots if isinstance(knots, Iterable) and not isinstance(knots, str) else [knots]))

    def __call__(self, step: float) -> float:
        """Value at a step."""
        before, after = self.knots[0], self.knots[-1]
        if step <= before[0]:
            return before[1]
        if step >= after[0]:
            return after[1]
        k = next(k for k, knot in enumerate(self.knots) if step < knot[0])
        (t0, v0), (t1, v1) = self.knots[k - 1 : k + 1]
        return v0 + (v1 - v0) * (step - t0) / (t1 - t0)

    @property
    def least(self) -> float:
        """The smallest value it ever takes."""
        return min(value for _, value in self.knots)

    @property
    def most(self) -> float:
        """The largest value it ever takes."""
        return max(value for _, value in self.knots)

    def __repr__(self) -> str:
        """As it is written."""
        return f"Schedule({', '.join(f'({s:g}, {v:g})' for s, v in self.knots)})"


def is_number(value: Any) -> bool:
    """A real number, numpy's too, and no bool."""
    return isinstance(value, Real) and not isinstance(value, bool)
