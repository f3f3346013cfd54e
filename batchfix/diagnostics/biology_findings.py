"""Biology findings: whether what is kept stands as it did, in the corrected table and in batches never seen.

An evaluation flows in; sentences flow out, of harm and of what to mind.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .batch_findings import significance
from .effects import FeatureEffects
from .sections import Missing
from .thresholds import ALPHA, AREA, GONE, KEPT, LEFT, NEARLY_KEPT, SHARED

if TYPE_CHECKING:
    from .anova import Permanova
    from .evaluation import Evaluation

LOST = "Biology is lost"
TURNED = "It is upside down."


def biology(found: Evaluation) -> list[str]:
    """Whether biology stands as clear as before."""
    reasons = retained(found)[0]
    if found.corrected and not isinstance(found.biology, Missing) and _flat(found):
        reasons.append(f"{LOST}: no feature varies any more in the corrected table.")
    for name, each in _each(found.biology).items():
        both = each.both
        if both is None or not any(_shows(one) for one in both):
            continue
        if not found.one_scale:
            continue
        share = f"R2 {both[0].R2:.2%} before, {both[1].R2:.2%} after; F {both[0].F:.3g} and {both[1].F:.3g}"
        if each.effect_ratio < KEPT[0]:
            reasons.append(f"{LOST}: {name} stands less clear than before ({share}). Keep it.")
        elif each.effect_ratio > KEPT[1] and both[1].R2_adjusted - both[0].R2_adjusted > LEFT / 2:
            reasons.append(
                f"Biology may be made: {name} stands clearer than before ({share}). If the corrector was told of it, "
                "try placebo_test; if not, noise went, which is well."
            )
    return reasons


def retained(found: Evaluation) -> tuple[list[str], list[str]]:
    """How much of the effect of what is kept is left for a model without batch: findings, and what to mind."""
    over, mind = [], []
    for name, each in _each(found.biology).items():
        shared = rho2_of(found, name)
        shows = each.both is None or _shows(each.both[0])
        if each.effect_left < 0 and shows:
            over.append(f"{LOST}: the effect of {name} points the other way in the corrected table. {TURNED}")
            continue
        # where batches still lie apart, such a model finds them too
        if not (each.batch_left < GONE and each.effect_left < NEARLY_KEPT):
            continue
        left = f"{each.effect_left:.0%} of the effect of {name} is left in the corrected table"
        if shared < SHARED:
            if each.effect_left < KEPT[0] and shows:
                over.append(f"{LOST}: {left}, and batch, which shares {shared:.0%} with it (rho2), is no reason.")
            continue
        if each.effect_left < 1 - shared - AREA:
            why = f"more went than the {shared:.0%} that batch and {name} share (rho2). Try another method."
        else:
            why = f"batch and {name} share {shared:.0%} (rho2), and the correction took that for batch. Keep it."
        if each.effect_left < KEPT[0] and shows:
            over.append(f"{LOST}: {left}: {why}")
        else:  # of an effect that does not show, nobody knows what there is to lose
            mind.append(f"{left}{'' if shows else ', if there is one'}: {why}")
    return over, mind


def rho2_of(found: Evaluation, name: str) -> float:
    """What batch and one kept column share; 0 where it cannot be had."""
    if isinstance(found.forecast, Missing):
        return 0.0
    columns = found.forecast.columns
    at = columns["column"] == name if "column" in columns else columns.index == name
    known = columns.loc[at, "rho2"].dropna()
    return float(known.max()) if len(known) else float(np.nan_to_num(found.rho2))


def transfer(found: Evaluation) -> tuple[list[str], list[str]]:
    """Whether biology is predicted as well as before in a batch never seen: findings, and what to mind."""
    over, mind = [], []
    for name, each in _each(found.leave_one_batch_out).items():
        if isinstance(each, Missing):
            continue
        error = each.change_error
        for learner, change in each.change.items():
            before, after = each.before[learner], each.after[learner]
            if not np.isfinite(change) or change >= -max(AREA, error[learner]) or before < each.chance + AREA:
                continue
            turned = each.score == "AUC" and after < each.chance - AREA
            said = (
                f"{name} in a batch left out is predicted with {each.score} {after:.2f} after, {before:.2f} before "
                f"({learner}; the change is known to +-{error[learner]:.2f})."
            )
            if turned or rho2_of(found, name) < SHARED:
                over.append(f"Biology suffers: {said}{f' {TURNED}' if turned else ''}")
            else:
                mind.append(
                    f"{said[0].upper()}{said[1:]} That is the design's: a new batch of another composition cannot be "
                    "centred without its labels, and part of its biology goes with its centre."
                )
    return over, mind


def told(found: Evaluation) -> list[str]:
    """What a corrector that knows the labels may have written into the table."""
    if not (found.told and found.corrected and found.rho2 >= SHARED):
        return []
    names = ", ".join(name for name in _each(found.biology) if rho2_of(found, name) >= SHARED)
    return [
        (
            f"{found.corrector} was told of {names or 'what is kept'}, which differs between batches: what it "
            "estimates of that stands in the differences between batches afterwards, true or not. placebo_test tells "
            "how much of it is made."
        )
    ]


def grave(reasons: tuple[str, ...]) -> bool:
    """Whether biology is lost or upside down among reasons."""
    return any(each.startswith(LOST) or each.endswith(TURNED) for each in reasons)


def _shows(one: Permanova) -> bool:
    """Whether biology shows at all."""
    return significance(one) < ALPHA


def _flat(found: Evaluation) -> bool:
    """Whether nothing is left to look for anything in."""
    before, after = found.features.before, found.features.after
    if not (isinstance(before, FeatureEffects) and isinstance(after, FeatureEffects)):
        return False
    return bool(before.F.notna().any() and not after.F.notna().any())


def _each(value: Mapping[str, Any] | Missing) -> Mapping[str, Any]:
    return {} if isinstance(value, Missing) else value
