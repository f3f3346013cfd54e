"""Tabulation: the numbers of an evaluation as rows of one table.

An evaluation flows in; rows (number, what, before, after, reference, note) flow out, NaN where a number cannot be had
and the note then says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from math import isfinite
from typing import TYPE_CHECKING, Any

from .learners import LEARNERS
from .predictability import BatchPredictability
from .sections import NOT_CORRECTED, Comparison, Missing
from .validation import LeaveOneBatchOut

if TYPE_CHECKING:
    from .evaluation import Evaluation

NAN = float("nan")
Row = tuple[str, str, float, float, float, str]


def rows_of(found: Evaluation) -> Iterator[Row]:
    """Rows of the table of numbers; the reference is what would be right, or what chance gives."""
    variance, held = found.batch_variance, found.batch_variance.held_out
    yield _row("batch_variance", "R2_adjusted", variance, "R2_adjusted", 0.0)
    yield _row("batch_variance", "p_value", variance, "p_value")
    alone = Comparison(Missing(""), held)
    yield _row("batch_variance", "R2_adjusted held out", alone, "R2_adjusted", "noise")
    yield _row("batch_variance", "p_value held out", alone, "p_value")
    if found.distances is not None and found.distances.disagree:
        for distance, each in found.distances.table.iterrows():
            before, after = (float(each[f"R2_adjusted_{when}"]) for when in ("before", "after"))
            yield "batch_variance", f"R2_adjusted by {distance}", before, after, 0.0, str(each["note"])
    if isinstance(found.biology, Missing):
        yield "biology", "R2", NAN, NAN, NAN, found.biology.reason
    else:
        for name, each in found.biology.items():
            yield _row("biology", f"R2 {name}", each, "R2")
            if isfinite(each.effect_left):
                yield "biology", f"effect of {name} left", NAN, each.effect_left, 1.0, ""
    yield _row("dispersion", "F", found.dispersion, "F", 1.0)
    yield _row("dispersion", "p_value", found.dispersion, "p_value")
    areas = found.predictability
    there = [v for v in (areas.before, areas.after) if not isinstance(v, Missing)]
    for learner in LEARNERS:
        if not there or any(learner in v.auc for v in there):
            yield _row("predictability", f"AUC {learner}", areas, partial(_area, learner), 0.5)
    yield from _transfers(found)
    yield _row("mixing", "iLISI", found.mixing.ilisi, "mean", "chance")
    for name, near in found.mixing.clisi.items():
        yield _row("mixing", f"cLISI {name}", near, "mean", "chance")
    yield _row("features", "median eta2", found.features, lambda v: v.median_eta2)
    yield _row("features", "features found", found.features, lambda v: (v.q_value < 0.05).sum(), 0.0)
    why = found.forecast.reason if isinstance(found.forecast, Missing) else ""
    yield "forecast", "rho2", found.rho2, found.rho2, 0.0, why


def _area(learner: str, found: BatchPredictability) -> float:
    return found.auc.get(learner, NAN)


def _row(
    number: str,
    what: str,
    pair: Comparison[Any],
    field: str | Callable[[Any], float],
    reference: str | float = NAN,
) -> Row:
    both = (pair.before, pair.after)

    def read(value: Any) -> float:
        if isinstance(value, Missing):
            return NAN
        return float(getattr(value, field) if isinstance(field, str) else field(value))

    there = [value for value in reversed(both) if not isinstance(value, Missing)]
    if isinstance(reference, str):
        reference = float(getattr(there[0], reference)) if there else NAN
    reasons = (value.reason for value in both if isinstance(value, Missing))
    notes = dict.fromkeys(reason for reason in reasons if reason not in ("", NOT_CORRECTED))
    return number, what, read(both[0]), read(both[1]), reference, " ".join(notes)


def _transfers(found: Evaluation) -> Iterator[Row]:
    if isinstance(found.leave_one_batch_out, Missing):
        yield "leave_one_batch_out", "score", NAN, NAN, NAN, found.leave_one_batch_out.reason
        return
    for name, one in found.leave_one_batch_out.items():
        if isinstance(one, LeaveOneBatchOut):
            for learner, value in one.before.items():
                what = f"{one.score} {name} {learner}"
                yield "leave_one_batch_out", what, value, one.after.get(learner, NAN), one.chance, ""
        else:
            yield "leave_one_batch_out", f"score {name}", NAN, NAN, NAN, one.reason
