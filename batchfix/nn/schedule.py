"""Schedules of a training: limits that change with its step, a Python int, or a tensor under torch.compile."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, overload

import torch
from torch import Tensor

from ..core import schedule
from .kernels import exact_on


@dataclass(frozen=True, init=False, repr=False)
class Schedule(schedule.Schedule):
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

    @overload
    def __call__(self, step: float) -> float: ...
    @overload
    def __call__(self, step: Tensor) -> Tensor: ...
    def __call__(self, step: Any) -> Any:
        """Value at a step; a tensor gives a tensor, without reading it."""
        if not isinstance(step, Tensor):
            return super().__call__(step)
        t = step.to(exact_on(step.device))
        value = torch.full_like(t, self.knots[0][1])
        for (t0, v0), (t1, v1) in pairwise(self.knots):
            value = value + (v1 - v0) * torch.clamp((t - t0) / (t1 - t0), 0.0, 1.0)
        return value


R_MAX = Schedule((5_000, 1.0), (40_000, 3.0))
"""Limit of r in the paper's experiments (Ioffe 2017, section 4)."""

D_MAX = Schedule((5_000, 0.0), (25_000, 5.0))
"""Limit of d in the paper's experiments (Ioffe 2017, section 4)."""
