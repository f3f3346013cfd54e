"""Summary: what a report says first, the verdict in a sentence and its reasons in the order of their weight.

Findings flow in; a headline and sentences flow out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..biology_findings import grave
from ..design import DesignForecast
from ..evaluation import Evaluation
from ..held_out import HeldOut
from ..placebo import Placebo
from ..sections import Missing
from .sections import GRAVER, refused
from .words import BY_FEATURE, DESIGNED_SO, HEADLINES, HEADLINES_AS_MEASURED, IN_SAMPLE, LIMITED, REFUSED

if TYPE_CHECKING:
    from .findings import Findings

LONGEST = 300
"""Letters of a sentence that a summary has room for."""


def headline(findings: Findings) -> str:
    """The verdict in a sentence, which speaks of the gravest reason."""
    found = findings.evaluation
    if refused(found):
        return REFUSED
    if not found.corrected:
        if isinstance(found.forecast, DesignForecast) and found.forecast.verdict == "stop":
            return DESIGNED_SO.get(found.verdict, found.verdict)
        if found.verdict == "undecided" and findings.verdicts.get("features") == "warn":
            return BY_FEATURE
        return HEADLINES_AS_MEASURED.get(found.verdict, found.verdict)
    if found.verdict == "fine" and findings.verdict != "fine":
        return LIMITED
    if found.verdict == "fine" and not held_out(found):
        return IN_SAMPLE
    return HEADLINES.get(found.verdict, found.verdict)


def summary(findings: Findings) -> tuple[str, ...]:
    """Reasons in sentences, the gravest first; each once."""
    found, said = findings.evaluation, findings.verdicts
    weighed = [(("stop" if refused(found) else "warn"), reason) for reason in lost(found)]
    if isinstance(findings.placebo, Placebo):
        weighed += [(said.get("placebo", ""), flag) for flag in findings.placebo.flags]
    weighed += [("warn", reason) for reason in found.under]
    weighed += [("stop" if grave((reason,)) else "warn", reason) for reason in found.over]
    forecast = found.forecast if isinstance(found.forecast, DesignForecast) else None
    of_design = {each.message: each.verdict for each in forecast.findings} if forecast else {}
    weighed += [(of_design.get(reason, ""), reason) for reason in found.mind]
    weighed.sort(key=lambda each: -GRAVER.index(each[0]))
    return tuple(dict.fromkeys(_shortened(reason, forecast) for _, reason in weighed))


def held_out(found: Evaluation) -> bool:
    """Whether the correction was judged on samples that it has not learned from."""
    held = found.batch_variance.held_out
    return isinstance(held, HeldOut) and not held.reason


def lost(found: Evaluation) -> tuple[str, ...]:
    """Why the numbers that decide cannot be had; nothing where they can."""
    one = found.batch_variance
    decisive: tuple[Any, ...] = ()
    if refused(found):
        decisive = (one.after,)
    elif found.verdict == "undecided":
        decisive = (one.before, one.after, one.held_out) if found.corrected else (one.before,)
    return tuple(dict.fromkeys(each.reason for each in decisive if isinstance(each, Missing) and each.reason))


def _shortened(reason: str, forecast: DesignForecast | None) -> str:
    """A sentence that lists many batches and levels, in fewer words; the section has the whole."""
    if forecast is None or len(reason) <= LONGEST:
        return reason
    for column, blocks in forecast.blocks.items():
        if reason.startswith(f"Batch and {column!r} cannot be told apart: batches ") and len(blocks) > 1:
            return (
                f"Batch and {column!r} cannot be told apart: batches fall into {len(blocks)} blocks that share no "
                f"level of {column!r}. Levels can be compared within a block only, and no correction can fix that: "
                "run samples of several blocks in one batch, or correct without keeping it."
            )
    return reason
