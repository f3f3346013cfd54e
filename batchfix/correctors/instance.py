"""InstanceCorrector: each row by itself.

A table flows in; each row less its own mean, over its own standard deviation, flows out:

    z = (x - mean(row)) / std(row)
"""

from __future__ import annotations

from typing import Any, ClassVar

from ..exceptions import BatchfixError
from .group import GroupCorrector


class InstanceCorrector(GroupCorrector):
    """Standardize each row by its own mean and standard deviation: the standard normal variate of a spectrum.

    A `GroupCorrector` with one group. It takes out what multiplies and shifts a whole row, such as scatter, exposure
    or loudness. NaN is not counted and stays.

    Parameters
    ----------
    center : {"mean", "median", None}, default "mean"
    scale : {"std", "mad", None}, default "std"
    method, winsorize, weights, leave_one_out, return_group_stats, ddof, copy
        As in `GroupCorrector`. The statistics of a row are called ``mean(row)``, ``std(row)`` and ``count(row)``.

    References
    ----------
    Barnes, Dhanoa and Lister 1989, "Standard normal variate transformation and de-trending of near-infrared diffuse
    reflectance spectra", Applied Spectroscopy 43.

    Examples
    --------
    >>> import numpy as np
    >>> InstanceCorrector().fit_transform(np.array([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]])).tolist()
    [[-1.0, 0.0, 1.0], [-1.0, 0.0, 1.0]]
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        name: GroupCorrector._parameter_constraints[name]
        for name in ("center", "scale", "method", "leave_one_out", "return_group_stats", "ddof", "copy")
    }

    groups = by = within = symbol = neutralize = shrinkage = None
    min_group_size = 1

    _whole_rows = True

    def __init__(
        self,
        center: str | None = "mean",
        scale: str | None = "std",
        *,
        method: str = "zscore",
        winsorize: float | tuple[float, float] | None = None,
        weights: Any = None,
        leave_one_out: bool = False,
        return_group_stats: bool = False,
        ddof: float = 1,
        copy: bool = True,
    ) -> None:
        self.center = center
        self.scale = scale
        self.method = method
        self.winsorize = winsorize
        self.weights = weights
        self.leave_one_out = leave_one_out
        self.return_group_stats = return_group_stats
        self.ddof = ddof
        self.copy = copy

    def _check_mode(self, mode: str) -> None:
        """Refuse groups of cells: the row is the group."""
        if mode == "membership":
            raise BatchfixError(
                "InstanceCorrector compares the values of a whole row; got membership=. Use GroupCorrector for groups."
            )
