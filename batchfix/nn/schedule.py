"""Schedules: limits that change with the training step.

A step (a Python int, or a tensor under torch.compile) flows in; a limit flows out, on straight lines between knots:

    value(t) = v_k + (v_k+1 - v_k) (t - t_k) / (t_k+1 - t_k)   for t_k <= t <= t_k+1

held at the first value before the first knot, and at the last after the last.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from typing import Any, overload

import torch
from torch import Tensor

from ..exceptions import BatchfixError
from .kernels import exact_on


@dataclass(frozen=True)
class Schedule:
    """A piecewise-linear function of the training step.

    Parameters
    ----------
    *knots : pairs (step, value)
        In rising order of the step. Before the first knot the first value holds, after the last the last.

    Raises
    ------
    BatchfixError
        No knots, steps that do not rise, or values that are not numbers.

    Examples
    --------
    Ioffe's r_max: 1 until step 5,000, then rising to 3 at step 40,000.

    >>> r_max = Schedule((5_000, 1.0), (40_000, 3.0))
    >>> r_max(0), r_max(22_500), r_max(10**6)
    (1.0, 2.0, 3.0)
    """

    knots: tuple[tuple[float, float], ...]

    def __init__(self, *knots: tuple[float, float]) -> None:
        given: tuple[Any, ...] = knots
        pairs = [tuple(knot) if isinstance(knot, Iterable) else (knot,) for knot in given]
        numbers = [len(p) == 2 and all(isinstance(v, int | float) and isfinite(v) for v in p) for p in pairs]
        if not pairs or not all(numbers):
            raise BatchfixError(
                f"A schedule must have one or more knots (step, value) of finite numbers; got {knots!r}. "
                "Write for example Schedule((5000, 1.0), (40000, 3.0))."
            )
        steps = [step for step, _ in pairs]
        if any(late <= early for early, late in pairwise(steps)):
            raise BatchfixError(f"The steps of a schedule must rise; got {steps!r}. Put the knots in order.")
        object.__setattr__(self, "knots", tuple((float(s), float(v)) for s, v in pairs))

    @overload
    def __call__(self, step: int) -> float: ...
    @overload
    def __call__(self, step: Tensor) -> Tensor: ...
    def __call__(self, step: Any) -> Any:
        """Value at a step; a tensor gives a tensor, without reading it."""
        if isinstance(step, Tensor):
            return self._traced(step)
        before, after = self.knots[0], self.knots[-1]
        if step <= before[0]:
            return before[1]
        if step >= after[0]:
            return after[1]
        k = next(k for k, knot in enumerate(self.knots) if step < knot[0])
        (t0, v0), (t1, v1) = self.knots[k - 1 : k + 1]
        return v0 + (v1 - v0) * (step - t0) / (t1 - t0)

    def _traced(self, step: Tensor) -> Tensor:
        t = step.to(exact_on(step.device))
        value = torch.full_like(t, self.knots[0][1])
        for (t0, v0), (t1, v1) in pairwise(self.knots):
            value = value + (v1 - v0) * torch.clamp((t - t0) / (t1 - t0), 0.0, 1.0)
        return value

    @property
    def least(self) -> float:
        """The smallest value it ever takes."""
        return min(value for _, value in self.knots)

    def __repr__(self) -> str:
        """As it is written."""
        return f"Schedule({', '.join(f'({s:g}, {v:g})' for s, v in self.knots)})"


R_MAX = Schedule((5_000, 1.0), (40_000, 3.0))
"""Limit of r in the paper's experiments (Ioffe 2017, section 4)."""

D_MAX = Schedule((5_000, 0.0), (25_000, 5.0))
"""Limit of d in the paper's experiments (Ioffe 2017, section 4)."""
