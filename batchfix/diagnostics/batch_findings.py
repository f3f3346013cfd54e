"""Batch findings: whether batches still lie or scatter apart, or lie further apart than before, in sentences.

An evaluation flows in; sentences flow out, none where there is nothing to say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.special import fdtrc

from .effects import FeatureEffects
from .held_out import HeldOut
from .sections import Missing
from .thresholds import ALIKE, ALPHA, AREA, FEATURES, GONE, LEFT, SHARED, SPREAD, SPREAD_FEATURES, TOLD_KEPT

if TYPE_CHECKING:
    from .anova import Permanova
    from .evaluation import Evaluation
    from .spread import Dispersion

ENOUGH = 99
"""Permutations from which on p can tell a level of a hundredth."""


def significance(one: Permanova) -> float:
    """Its p; that of F where there were too few permutations for any p below the level."""
    if len(one.permuted_F) + 1 >= 1 / ALPHA:
        return one.p_value
    return float(fdtrc(max(1, one.df), max(1, one.residual_df), one.F))


def could_show(one: Permanova) -> bool:
    """Whether a p below the level could have come of so few samples."""
    if len(one.permuted_F) + 1 >= 1 / ALPHA:
        return one.least_p < ALPHA
    return one.residual_df > 2


def is_there(one: Permanova) -> bool:
    """Whether it explains something that matters, and not by chance."""
    return one.R2_adjusted > LEFT and significance(one) < ALPHA


def location(found: Evaluation) -> list[str]:
    """Whether batches still lie apart."""
    held = found.batch_variance.held_out
    heedless = unprotected(found)
    one = found.batch_variance.after if found.corrected else found.batch_variance.before
    reasons = []
    if found.corrected and isinstance(held, HeldOut) and (not heedless or _apart(held.left_alone, held.p_alone)):
        if _apart(held.left, held.p_value):
            reasons.append(
                f"Location: in samples the correction has not learned from, batch explains {held.R2_adjusted:.1%} of "
                f"the variance (adjusted), {held.left:.1%} more than noise (p = {held.p_value:.3g})."
            )
        where = "features of samples the correction has not learned from"
        reasons += _moved(held.features["q_value"], where, found)
    if heedless and _batch_left(found) < ALIKE and not isinstance(one, Missing) and one.R2_adjusted <= _owed(found):
        return reasons  # what batches differ by beyond biology is then the biology that went with them
    if not reasons and not isinstance(one, Missing) and is_there(one):
        even = ", even in the samples that were corrected together" if found.corrected else ""
        reasons.append(
            f"Location: batch explains {one.R2_adjusted:.1%} of the variance (adjusted, beyond what is kept; p = "
            f"{significance(one):.3g}){even}."
        )
    effects = found.features.after if found.corrected else found.features.before
    if not reasons and isinstance(one, Missing) and isinstance(effects, FeatureEffects):
        reasons += _moved(effects.q_value, "features", found)
    return reasons


def _apart(left: float, p_value: float) -> bool:
    return left > LEFT and p_value < ALPHA


def _batch_left(found: Evaluation) -> float:
    """Share of the sum of squares between batches, nothing else given, that is left."""
    if isinstance(found.biology, Missing):
        return float("nan")
    return min((each.batch_left for each in found.biology.values()), default=float("nan"))


def _owed(found: Evaluation) -> float:
    """R2 that batch has beyond biology where batches were centred with the biology in them: rho2 times that of biology.

    Of a value x = z b, what is left is (z - mean of z in its batch) b; beyond z that is b' b rho2 (1 - rho2) of z' z,
    and z beyond batch is b' b (1 - rho2). Half as much again, and what matters to nothing, is let pass.
    """
    if isinstance(found.biology, Missing):
        return 0.0
    shares = [each.both[1].R2 for each in found.biology.values() if each.both is not None]
    return 1.5 * found.rho2 * sum(shares) + LEFT


def _moved(q: pd.Series, where: str, found: Evaluation) -> list[str]:
    moved, tested = int((q < ALPHA).sum()), int(q.notna().sum())
    alone = bool((q < ALPHA / 5).any()) and FEATURES * tested <= 1  # one of few, and surely
    if moved <= max(1, FEATURES * tested) and not alone:
        return []
    worst = ", ".join(map(str, found.features.top(3).index.tolist()))
    return [f"Location: batch moves {moved:,} of {tested:,} {where}, most of all {worst}."]


def unprotected(found: Evaluation) -> bool:
    """Whether batches were made alike without heed of a biology that differs between them."""
    if not found.corrected or isinstance(found.biology, Missing) or not found.rho2 >= SHARED:
        return False
    most = TOLD_KEPT if found.told else 1.0  # a function is told, and may take no heed of it
    return any(each.effect_left < most and each.batch_left < GONE for each in found.biology.values())


def decided(found: Evaluation) -> bool:
    """Whether a batch effect could have shown, in samples not learned from where there is a corrector."""
    held = found.batch_variance.held_out
    one = found.batch_variance.after if found.corrected else found.batch_variance.before
    effects = found.features.after if found.corrected else found.features.before
    if found.corrected and isinstance(held, HeldOut):
        if held.reason:
            return bool(held.features["q_value"].notna().any())
        return held.least_p < ALPHA
    if not isinstance(one, Missing):
        return could_show(one)
    return isinstance(effects, FeatureEffects) and bool(effects.q_value.notna().any())


def excess(found: Evaluation) -> tuple[list[str], list[str]]:
    """Whether a correction adds more to the batches than it takes away: findings, and what to mind."""
    held, before = found.batch_variance.held_out, found.batch_variance.before
    if not found.corrected or not isinstance(held, HeldOut) or not np.isfinite(held.F_before):
        return [], []
    there = f"F = {held.F:.3g} after and {held.F_before:.3g} before, where noise alone leaves {held.inflation:.3g}"
    if held.harmful:
        return [
            (
                f"In samples the correction has not learned from, batches lie further apart than before ({there}): it "
                "adds more than it takes away."
            )
        ], []
    if held.there_is <= held.there_was:
        return [], []
    if not isinstance(before, Missing) and not is_there(before):
        return [], [
            (
                f"There is no batch effect to be seen before (p = {significance(before):.3g}): a correction has "
                f"nothing to take out, and leaves the noise of its own estimates in new samples ({there})."
            )
        ]
    return [], [
        (
            f"Batches are small for what is estimated of them: in samples the correction has not learned from, the "
            f"noise that it leaves is as large as the batch effect that it took out ({there}). A method that shrinks "
            "(ComBat) leaves less."
        )
    ]


def spread(found: Evaluation) -> list[str]:
    """Whether batches still scatter apart."""
    one = found.dispersion.after if found.corrected else found.dispersion.before
    if isinstance(one, Missing):
        return []
    mean = one.batches.loc[one.batches["tested"], "mean"]
    ratio = float(mean.max() / mean.min()) if mean.min() > 0 else float("inf")
    moved, surely, tested = 0, 0, 1
    if one.features is not None:
        q, tested = one.features["q_value"], int(one.features["F"].notna().sum())
        moved, surely = int((q < ALPHA).sum()), int((q < ALPHA / 5).sum())
    apart = one.reliable and ratio > SPREAD and _chance(one) < ALPHA / 5
    if not (apart or surely > max(1, SPREAD_FEATURES * tested)):
        return []
    return [
        (
            f"Scale: batches scatter by a factor of {ratio:.2f} ({mean.idxmax()} most, {mean.idxmin()} least; p = "
            f"{_chance(one):.3g}), and {moved:,} of {tested:,} features differ in spread. Moving means cannot mend "
            "that; ComBat and BatchCorrector scale too (guarded, where features are nearly absent from a batch)."
        )
    ]


def _chance(one: Dispersion) -> float:
    if not one.permutations or one.permutations >= ENOUGH:
        return one.p_value
    return float(fdtrc(one.df, one.residual_df, one.F))


def areas(found: Evaluation) -> tuple[list[str], list[str]]:
    """Whether a classifier still tells batches apart: what to mind of areas below chance, and findings above."""
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
                f"{one.by_chance[0]:.2f}). By itself that is no harm: of differences that are chance alone, a "
                "correction that shrinks takes off a part, and so turns them round in samples it has not learned from."
            )
    return low, high
