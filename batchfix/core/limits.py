"""Limits: how far a batch may be moved towards the population, at each step of a stream.

Limits of r and d as a person writes them (numbers, knots of a schedule, a span of steps) flow in, checked; two numbers
a step flow out.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Any

from ..exceptions import BatchfixError
from .schedule import Schedule, is_number

Limit = float | Schedule


@dataclass(frozen=True)
class Limits:
    """Limits of r, at least 1, and of abs(d), at least 0; r_max = 1 and d_max = 0 are shut.

    Examples
    --------
    >>> limits = Limits.of(3.0, 5.0, schedule=(10, 20))
    >>> limits.at(0), limits.at(15), limits.at(99)
    ((1.0, 0.0), (2.0, 2.5), (3.0, 5.0))
    """

    r_max: Limit
    d_max: Limit

    @classmethod
    def of(cls, r_max: Any, d_max: Any, schedule: Any = None) -> Limits:
        """Check limits: numbers (infinity too) or knots; with a schedule (first, last) finite numbers that it opens.

        Raises
        ------
        BatchfixError
            A limit below its least, NaN or of another kind; a schedule that is not two rising steps.
        """
        r, d = _checked("r_max", r_max, 1.0), _checked("d_max", d_max, 0.0)
        if schedule is None:
            return cls(r, d)
        span = _span(schedule)
        return cls(_opened("r_max", r, 1.0, span), _opened("d_max", d, 0.0, span))

    def at(self, step: int) -> tuple[float, float]:
        """r_max and d_max at a step."""
        r, d = (v(step) if isinstance(v, Schedule) else v for v in (self.r_max, self.d_max))
        return r, d

    @property
    def shut(self) -> bool:
        """Whether they allow r = 1 and d = 0 only, at every step."""
        widest = [v.most if isinstance(v, Schedule) else v for v in (self.r_max, self.d_max)]
        return widest == [1.0, 0.0]


def _checked(name: str, value: Any, least: float) -> Limit:
    what = f"{name} must be a number, at least {least:g}, or knots [(step, limit), ...] of such numbers"
    if is_number(value):
        if not value >= least:
            raise BatchfixError(f"{what}; got {value!r}. {least:g} leaves each batch in its own frame.")
        return float(value)
    if not (hasattr(value, "knots") or isinstance(value, list | tuple)):
        raise BatchfixError(f"{what}; got {value!r}. {least:g} leaves each batch in its own frame.")
    try:
        schedule = Schedule.of(value)
    except BatchfixError as error:
        raise BatchfixError(f"{what}; got {value!r}. {error}") from error
    if schedule.least < least:
        raise BatchfixError(f"{what}; got {schedule.least:g} at some step. Raise it to {least:g}.")
    return schedule


def _opened(name: str, limit: Limit, least: float, span: tuple[float, float]) -> Schedule:
    """Return a limit that is shut until the first step of a span, and open from the last."""
    if isinstance(limit, Schedule) or not isfinite(limit):
        raise BatchfixError(
            f"{name} must be a finite number where there is a schedule, which opens it; got {limit!r} and "
            f"schedule={span!r}. Drop one of the two."
        )
    return Schedule((span[0], least), (span[1], limit))


def _span(schedule: Any) -> tuple[float, float]:
    steps = list(schedule) if isinstance(schedule, list | tuple) else []
    if len(steps) != 2 or not all(is_number(v) and isfinite(v) for v in steps) or not 0 <= steps[0] < steps[1]:
        raise BatchfixError(
            "schedule must be the two steps (first, last) at which the limits start to open and are open, the first at "
            f"least 0 and the last after it; got {schedule!r}. To give each limit its own, pass knots as r_max and "
            "d_max."
        )
    return float(steps[0]), float(steps[1])
