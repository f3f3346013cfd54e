"""Recipe: what is done to each group of a row.

Options flow in; the functions that measure groups, leave cells out and score them read them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Recipe:
    """What is done to each group.

    Attributes
    ----------
    center : {"mean", "median", None}
    scale : {"std", "mad", None}
    ddof : float
    clip : None, number or (low, high)
        Values beyond center +- number * scale, or beyond two quantiles of the group, are set to that limit first.
    min_size : int
        Groups with fewer values take the statistics of the group above.
    leave_one_out : bool
        Each cell by the statistics of the others.
    amounts : tuple of (k, prior freedom), optional
        How much each level is shrunk toward the one above, coarse to fine.
    eps : float
        Rounding unit of the values as they came.
    """

    center: str | None = "mean"
    scale: str | None = "std"
    ddof: float = 1
    clip: float | tuple[float, float] | None = None
    min_size: int = 1
    leave_one_out: bool = False
    amounts: tuple[tuple[float, float], ...] | None = None
    eps: float = float(np.finfo(np.float64).eps)

    @property
    def robust(self) -> bool:
        """Whether segments are to be sorted."""
        return self.center == "median" or self.scale == "mad"

    @property
    def plain(self) -> bool:
        """Whether each group is centred by its own mean, and no more."""
        return self.center == "mean" and self.scale != "mad" and self.clip is None and not self.leave_one_out
