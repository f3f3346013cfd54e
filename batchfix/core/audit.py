"""Audit: what a correction did to compositions, counted.

Amounts before and after, row by row and part by part, flow in (any correction's, on any scale); a few numbers flow out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..exceptions import AlignmentError
from .compositions import as_table, row_totals
from .simplex import closure, depths

RESTORED = 1e-6
"""Largest relative error of a row's sum at which its depth counts as given back."""


@dataclass(frozen=True)
class Audit:
    """What a correction did to a table of compositions.

    Attributes
    ----------
    cells, zeros : int
        Cells of the table, and those that were 0 before.
    zeros_filled : int
        Cells that were 0 and are not.
    positives_zeroed : int
        Cells that were above 0 and are 0.
    moved, moved_most : float in [0, 1]
        Mean and maximum over rows of the total variation between before and after, both closed to sum 1: half the sum
        of absolute differences, the share of a sample that has become something else.
    closure_error : float
        Maximum over rows of abs(sum / total - 1), where `total` is what a row was to sum to.
    depth_error : float
        Maximum over rows of abs(sum after / sum before - 1).
    depth_due : bool
        Whether rows were to sum to what they did.
    depth_restored : bool
        Whether the latter is at most 1e-6.
    """

    cells: int
    zeros: int
    zeros_filled: int
    positives_zeroed: int
    moved: float
    moved_most: float
    closure_error: float
    depth_error: float
    depth_due: bool = True

    @property
    def depth_restored(self) -> bool:
        """Whether rows sum to what they summed to before."""
        return self.depth_error <= RESTORED

    def __str__(self) -> str:
        """The numbers in words."""
        return (
            f"{self.zeros_filled} of {self.zeros} zeros filled, {self.positives_zeroed} of {self.cells - self.zeros} "
            f"positive cells zeroed, {self.moved:.1%} of a sample moved on average ({self.moved_most:.1%} at most), "
            f"sums right to {self.closure_error:.1g}"
            f"{'' if not self.depth_due else ', depth given back' if self.depth_restored else ', depth not given back'}"
        )


def audit_compositions(before: Any, after: Any, total: Any = None) -> Audit:
    """Compare amounts before and after a correction.

    Parameters
    ----------
    before, after : arrays (n, D)
        Counts, proportions or percentages of the same rows and parts, none negative. A row that is wholly NaN after is
        left out.
    total : float or array (n,), optional
        What rows are to sum to after; by default what they summed to before.

    Raises
    ------
    BatchfixError
        Other shapes, or values that a composition cannot have.

    Examples
    --------
    >>> found = audit_compositions(np.array([[0, 2, 2], [1, 0, 9]]), np.array([[0.1, 1.9, 2], [1, 0, 9]]))
    >>> found.zeros_filled, found.positives_zeroed, round(found.moved_most, 4), found.depth_restored
    (1, 0, 0.025, True)
    """
    before, after = (np.asarray(as_table(X)[0]) for X in (before, after))
    if before.shape != after.shape:
        raise AlignmentError(
            f"An audit needs the same rows and parts before and after; got shapes {before.shape} and {after.shape}. "
            "Give the rows that were corrected, without columns of keys."
        )
    due = None if total is None else row_totals(total, before.shape[:1])
    kept = ~np.isnan(after).all(axis=1)
    before, after = before[kept], after[kept]
    was, now = depths(before), depths(after)
    due = was if due is None else due[kept]
    moved = 0.5 * np.abs(closure(before) - closure(after)).sum(axis=1)
    zero = before == 0
    return Audit(
        cells=before.size,
        zeros=int(zero.sum()),
        zeros_filled=int((zero & (after > 0)).sum()),
        positives_zeroed=int((~zero & (after == 0)).sum()),
        moved=float(moved.mean()) if len(moved) else 0.0,
        moved_most=float(moved.max(initial=0.0)),
        closure_error=float(np.abs(now / due - 1).max(initial=0.0)),
        depth_error=float(np.abs(now / was - 1).max(initial=0.0)),
        depth_due=total is None,
    )
