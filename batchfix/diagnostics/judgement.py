"""Judgement: what the numbers of an evaluation mean together, in sentences, on both sides.

Sections flow in; findings of too little correction, of too much, and of what to mind flow out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .batch_findings import areas, decided, excess, location, spread
from .biology_findings import biology, retained, told, transfer
from .held_out import HeldOut
from .sections import Missing

if TYPE_CHECKING:
    from .evaluation import Evaluation


@dataclass(frozen=True)
class Judgement:
    """Sentences of too little correction, too much, and of what to mind; and whether anything could have been found."""

    under: tuple[str, ...]
    over: tuple[str, ...]
    mind: tuple[str, ...]
    decided: bool
    failed: bool = False

    @property
    def verdict(self) -> str:
        """In a word or two."""
        if self.failed:
            return "not corrected"
        if self.under and self.over:
            return "under-corrected and over-fitted"
        if self.under or self.over:
            return "under-corrected" if self.under else "over-fitted"
        return "fine" if self.decided else "undecided"


def judge(found: Evaluation, reason: str = "") -> Judgement:
    """Weigh the numbers against each other; `reason` says why a corrector gave no table."""
    forecast = []
    if not isinstance(found.forecast, Missing) and found.forecast.verdict != "fine":
        forecast.append(found.forecast.findings[0].message)
    if found.corrector and not found.corrected:
        return Judgement((), (), (reason, *forecast), decided=False, failed=True)
    low, high = areas(found)
    more, noise = excess(found)
    less, lost = transfer(found)
    under = [*location(found), *spread(found), *high]
    over = [*more, *biology(found), *less]
    mind = [*forecast, *in_sample(found), *retained(found)[1], *lost, *told(found), *noise, *low]
    if found.distances is not None and found.distances.disagree:
        mind.append(str(found.distances))
    could = decided(found)
    if not (could or under or over):
        mind = [*undecided(found), *mind]
    return Judgement(tuple(under), tuple(over), tuple(mind), could)


def in_sample(found: Evaluation) -> list[str]:
    """That batch was looked for in corrected samples alone."""
    if not found.corrected or isinstance(found.batch_variance.held_out, HeldOut):
        return []
    if isinstance(found.batch_variance.after, Missing):
        return []
    what = f" {found.batch_variance.held_out}" if found.corrector else " Pass corrector=."
    return [
        (
            "Batch means agree in samples that were corrected together, whatever was left: only a corrector can be "
            f"tried on samples it has not seen.{what}"
        )
    ]


def undecided(found: Evaluation) -> list[str]:
    """Why nothing could have been found."""
    held = found.batch_variance.held_out
    if found.corrected and isinstance(held, HeldOut) and not held.reason:
        where = f"in halves of {found.n} samples"
    elif isinstance(found.batch_variance.after if found.corrected else found.batch_variance.before, Missing):
        return []  # its own sentence says why
    else:
        where = f"of {found.n} samples"
    return [
        (
            f"A batch effect could not have shown: no p below .05 can come {where}, however large it is. More samples "
            "are needed to tell."
        )
    ]
