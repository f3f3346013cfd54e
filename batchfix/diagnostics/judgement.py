"""Judgement: what the numbers of an evaluation mean, in sentences, on both sides.

Sections flow in; findings of too little correction, of too much, and of what to mind flow out. Every threshold stands
here, with its reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .sections import Missing

if TYPE_CHECKING:
    from .anova import Permanova
    from .evaluation import Evaluation

ALPHA = 0.05
LEFT = 0.01
"""Batch may explain a hundredth of the variance before it matters to anything."""

FEATURES = 0.01
"""Share of the features that batch may still move: at a false discovery rate of 5 % a few come by chance."""

SPREAD = 1.2
"""Batches may scatter this much more than others: a tenth of a standard deviation either way of the mean."""

SPREAD_FEATURES = 0.05
AREA = 0.05
"""An area under the curve may be off by this much, beyond what chance explains; scores of biology may fall by it."""

KEPT = (0.8, 1.5)
"""Biology may stand so much less clear, or clearer, against what nothing explains."""

SHARED = 0.05
"""From this rho2 on, batch is predicted from biology alone, and areas tell nothing of the correction."""


@dataclass(frozen=True)
class Judgement:
    """Sentences of too little correction, too much, and of what to mind; and how many things were looked at."""

    under: tuple[str, ...]
    over: tuple[str, ...]
    mind: tuple[str, ...]
    decided: bool

    @property
    def verdict(self) -> str:
        """In a word or two."""
        if self.under and self.over:
            return "under-corrected and over-fitted"
        if self.under or self.over:
            return "under-corrected" if self.under else "over-fitted"
        return "fine" if self.decided else "undecided"


def judge(found: Evaluation) -> Judgement:
    """Weigh the numbers against each other."""
    under, over, mind = [*location(found), *spread(found)], [*biology(found), *transfer(found)], []
    low, high = areas(found)
    under += high
    over += low
    held = found.batch_variance.held_out
    before = found.batch_variance.before
    if not isinstance(held, Missing) and not isinstance(before, Missing) and held.R2_adjusted > before.R2_adjusted > 0:
        over.append(
            f"In samples the correction has not learned from, batch explains {held.R2_adjusted:.1%} (adjusted), more "
            f"than the {before.R2_adjusted:.1%} before: batches are too small for what is estimated of them."
        )
    if not isinstance(found.forecast, Missing) and found.forecast.verdict != "fine":
        mind.append(found.forecast.findings[0].message)
    if found.corrected and not found.corrector and not isinstance(before, Missing):
        mind.append(
            "Batch means agree in samples that were corrected together, whatever was left: only a corrector can be "
            "tried on samples it has not seen. Pass corrector=."
        )
    decided = not isinstance(before if not found.corrected else held or found.batch_variance.after, Missing)
    return Judgement(tuple(under), tuple(over), tuple(mind), decided)


def location(found: Evaluation) -> list[str]:
    """Whether batches still lie apart."""
    held, after = found.batch_variance.held_out, found.batch_variance.after
    reasons = []
    if not isinstance(held, Missing):
        if held.left > LEFT and held.p_value < ALPHA:
            reasons.append(
                f"Location: in samples the correction has not learned from, batch explains {held.R2_adjusted:.1%} of "
                f"the variance (adjusted), {held.left:.1%} more than noise (p = {held.p_value:.3g})."
            )
        q = held.features["q_value"]
        moved, tested = int((q < ALPHA).sum()), int(q.notna().sum())
        if moved > max(1, FEATURES * tested):
            worst = found.features.top(3).index.tolist()
            reasons.append(
                f"Location: batch moves {moved:,} of {tested:,} features of samples the correction has not learned "
                f"from, most of all {', '.join(map(str, worst))}."
            )
        return reasons
    one = found.batch_variance.before if not found.corrected else after
    if not isinstance(one, Missing) and one.R2_adjusted > LEFT and one.p_value < ALPHA:
        reasons.append(
            f"Location: batch explains {one.R2_adjusted:.1%} of the variance (adjusted, beyond what is kept; p = "
            f"{one.p_value:.3g})."
        )
    return reasons


def spread(found: Evaluation) -> list[str]:
    """Whether batches still scatter apart."""
    one = found.dispersion.after if found.corrected else found.dispersion.before
    if isinstance(one, Missing):
        return []
    mean = one.batches["mean"]
    ratio = float(mean.max() / mean.min()) if mean.min() > 0 else float("inf")
    moved, tested = 0, 1
    if one.features is not None:
        moved, tested = int((one.features["q_value"] < ALPHA).sum()), int(one.features["F"].notna().sum())
    if not ((ratio > SPREAD and one.p_value < ALPHA / 5) or moved > max(1, SPREAD_FEATURES * tested)):
        return []
    return [
        (
            f"Scale: batches scatter by a factor of {ratio:.2f} ({mean.idxmax()} most, {mean.idxmin()} least; p = "
            f"{one.p_value:.3g}), and {moved:,} of {tested:,} features differ in spread. Moving means cannot mend "
            "that; ComBat and BatchCorrector scale too (guarded, where features are nearly absent from a batch)."
        )
    ]


def areas(found: Evaluation) -> tuple[list[str], list[str]]:
    """Whether a classifier still tells batches apart: findings below chance, and above."""
    low, high = [], []
    one = found.predictability.after if found.corrected else found.predictability.before
    if isinstance(one, Missing):
        return [], []
    shared = 0.0 if isinstance(found.forecast, Missing) else found.forecast.rho2
    for name, area in one.auc.items():
        if area > max(0.5 + AREA, one.by_chance[1]) and shared < SHARED:
            what = "location" if name == "linear" else "spread or shape, or location"
            high.append(
                f"A {name} classifier tells batches apart by {what} (area {area:.2f}, by chance at most "
                f"{one.by_chance[1]:.2f}){', with the corrector inside the cross-validation' if one.corrector else ''}."
            )
        elif area < min(0.5 - AREA, one.by_chance[0]):
            low.append(
                f"A {name} classifier is wrong about batches (area {area:.2f}, by chance at least "
                f"{one.by_chance[0]:.2f}): the correction pushes new samples past each other."
            )
    return low, high


def biology(found: Evaluation) -> list[str]:
    """Whether biology stands as clear as before."""
    reasons = []
    for name, each in ({} if isinstance(found.biology, Missing) else found.biology).items():
        both = each.both
        if both is None or not any(_is_there(one) for one in both):
            continue
        share = f"R2 {both[0].R2:.2%} before, {both[1].R2:.2%} after; F {both[0].F:.3g} and {both[1].F:.3g}"
        if each.effect_ratio < KEPT[0]:
            reasons.append(f"Biology is lost: {name} stands less clear than before ({share}). Keep it.")
        elif each.effect_ratio > KEPT[1] and both[1].R2_adjusted - both[0].R2_adjusted > LEFT / 2:
            reasons.append(
                f"Biology may be made: {name} stands clearer than before ({share}). If the corrector was told of it, "
                "try placebo_test; if not, noise went, which is well."
            )
    return reasons


def _is_there(one: Permanova) -> bool:
    """Whether biology shows at all; a number is not tested."""
    return one.p_value < ALPHA or (np.isnan(one.p_value) and one.R2_adjusted > LEFT)


def transfer(found: Evaluation) -> list[str]:
    """Whether biology is predicted as well as before in a batch never seen."""
    reasons = []
    for name, each in ({} if isinstance(found.leave_one_batch_out, Missing) else found.leave_one_batch_out).items():
        if isinstance(each, Missing):
            continue
        for learner, change in each.change.items():
            before, after = each.before[learner], each.after[learner]
            if not np.isfinite(change) or change >= -AREA or before < each.chance + AREA:
                continue
            turned = " It is upside down." if each.score == "AUC" and after < each.chance - AREA else ""
            reasons.append(
                f"Biology suffers: {name} in a batch left out is predicted with {each.score} {after:.2f} after, "
                f"{before:.2f} before ({learner}).{turned}"
            )
    return reasons
