"""Distance comparison: the share of batch by each distance that a table of amounts can have.

Tables before and after and labels flow in; a row a distance flows out. Euclidean distances heed the large amounts,
Bray-Curtis the middling ones and depth, Aitchison ratios, the rare ones above all: where they do not agree on whether
there is a batch effect, the question is which differences count.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd

from ..core.symmetry import asymmetric_scale
from ..core.zeros import ZeroPolicy
from .anova import Permanova, permanova
from .distances import measure
from .samples import read_samples

COMPARED = ("euclidean", "aitchison", "braycurtis")
FOUND, LEVEL = 0.01, 0.05
"""Batch is found where it explains a hundredth (adjusted) with p below the level."""

PERMUTATIONS = 199
MOST = 5e9
"""Samples squared times features for which all pairs of Bray-Curtis distances take seconds."""


@dataclass(frozen=True, eq=False)
class DistanceComparison:
    """The share of batch, beyond what is kept, by several distances.

    Attributes
    ----------
    table : DataFrame
        A row a distance; R2_adjusted_before, p_value_before, R2_adjusted_after, p_value_after and note: why there is
        none. After, it is 0 by construction where the correction moved what the distance sees.
    """

    table: pd.DataFrame

    @property
    def disagree(self) -> bool:
        """Whether one finds batch where another does not, before or after."""
        for when in ("before", "after"):
            known = self.table[self.table[f"p_value_{when}"].notna()]
            found = (known[f"p_value_{when}"] < LEVEL) & (known[f"R2_adjusted_{when}"] > FOUND)
            if found.any() and not found.all():
                return True
        return False

    def __str__(self) -> str:
        parts = []
        for name, row in self.table.iterrows():
            said = [
                f"{row[f'R2_adjusted_{when}']:.1%} {when} (p = {row[f'p_value_{when}']:.3g})"
                for when in ("before", "after")
                if pd.notna(row[f"p_value_{when}"])
            ]
            parts.append(f"{name} {', '.join(said) or 'not to be had'}")
        together = "do not agree" if self.disagree else "agree"
        return f"Distances {together} on the share of batch (adjusted): {'; '.join(parts)}."


def are_amounts(X: Any) -> bool:
    """Whether a table looks like counts or parts of a whole, of which the three distances can be had."""
    said = asymmetric_scale(read_samples(X).values)
    return said is not None and said.startswith(("raw counts", "parts of a whole"))


def compare_distances(
    before: Any,
    after: Any,
    batch: Any,
    given: Any,
    attempt: Callable[[Callable[[], Permanova]], Any],
    *,
    zeros: ZeroPolicy | None = None,
    random_state: Any = 0,
) -> DistanceComparison:
    """PERMANOVA of batch by each distance; `attempt` makes a failure a false value that says why."""
    rows = {}
    for distance in COMPARED:
        row: dict[str, Any] = {"note": ""}
        for when, X in (("before", before), ("after", after)):
            row |= {f"R2_adjusted_{when}": float("nan"), f"p_value_{when}": float("nan")}
            if X is None:
                continue
            if distance == "braycurtis" and len(X) ** 2 * X.shape[1] > MOST:
                row["note"] = "All pairs would take long. Ask for distance='braycurtis' to have it all the same."
                continue
            found = attempt(partial(_share, X, batch, given, distance, zeros, random_state))
            if isinstance(found, Permanova):
                row |= {f"R2_adjusted_{when}": found.R2_adjusted, f"p_value_{when}": found.p_value}
            else:
                row["note"] = str(found)
        rows[distance] = row
    return DistanceComparison(pd.DataFrame.from_dict(rows, orient="index").rename_axis("distance"))


def _share(X: Any, batch: Any, given: Any, distance: str, zeros: ZeroPolicy | None, random_state: Any) -> Permanova:
    measured = measure(X, distance, "A PERMANOVA", zeros=zeros)
    return permanova(
        measured, batch, given=given, distance=distance, permutations=PERMUTATIONS, random_state=random_state
    )
