"""Sections: an evaluation as findings, each with its evidence, its meaning and the next step.

An evaluation, its pictures and perhaps a placebo test flow in; sections flow out in the order of reading. Where a
number cannot be had, its section says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import batch_findings, biology_findings, thresholds
from ..design import DesignForecast
from ..effects import FeatureEffects
from ..evaluation import Evaluation
from ..held_out import HeldOut
from ..placebo import Placebo
from ..predictability import BatchPredictability
from ..sections import Comparison, Missing
from ..validation import LeaveOneBatchOut
from . import tables
from .document import Grid, Section
from .pictures import Album
from .words import ADVICE, TITLES

GRAVER = ("", "fine", "warn", "stop")


def verdicts(found: Evaluation, placebo: Placebo | Missing | None = None) -> dict[str, str]:
    """Of each section: "fine", "warn", "stop", or "" where there is nothing to judge."""
    high = batch_findings.areas(found)[1]
    flagged = {
        "batch_variance": [*batch_findings.location(found), *batch_findings.excess(found)[0]],
        "biology": biology_findings.biology(found),
        "dispersion": batch_findings.spread(found),
        "predictability": high,
        "leave_one_batch_out": biology_findings.transfer(found)[0],
    }
    attributed = {sentence for sentences in flagged.values() for sentence in sentences}
    flagged["batch_variance"] += [each for each in (*found.under, *found.over) if each not in attributed]
    there = {
        "batch_variance": _batch_was_judged(found),
        "biology": any(each.both for each in _each(found.biology).values()),
        "dispersion": bool(found.dispersion.after if found.corrected else found.dispersion.before),
        "predictability": bool(_areas_of(found)) and (bool(high) or not _told_by_biology(found)),
        "leave_one_batch_out": any(
            isinstance(v, LeaveOneBatchOut) and v.after for v in _each(found.leave_one_batch_out).values()
        ),
    }
    said = {name: ("warn" if flagged[name] else "fine") if there[name] else "" for name in flagged}
    if isinstance(found.forecast, DesignForecast):
        said["forecast"] = found.forecast.verdict
    said["features"] = _of_features(found)
    if isinstance(placebo, Placebo):
        said["placebo"] = {"fine": "fine", "false positives": "warn"}.get(placebo.verdict, "stop")
    return said


def overall(found: Evaluation, said: Mapping[str, str]) -> str:
    """The gravest verdict of all: too little correction, or too much, is a warning; biology lost, or no table, a stop.

    Lost or upside down: what is worse in a table than before it was corrected, and cannot be seen in it.
    """
    own = "fine" if found.verdict == "fine" else "warn"
    own = "stop" if refused(found) or biology_findings.grave(found.over) else own
    return max((own, *(said.get(name, "") for name in ("forecast", "placebo"))), key=GRAVER.index)


def refused(found: Evaluation) -> bool:
    """Whether a corrector was given and could not correct the table."""
    return bool(found.corrector) and not found.corrected


def sections(
    found: Evaluation, album: Album, said: Mapping[str, str], placebo: Placebo | Missing | None = None
) -> tuple[Section, ...]:
    """All of them, in order."""
    made = [
        _forecast(found, album),
        _samples(album),
        _batch_variance(found),
        _biology(found),
        _dispersion(found),
        _predictability(found),
        _leave_one_batch_out(found),
        _mixing(found),
        _features(found),
    ]
    if placebo is not None:
        made.append(_placebo(placebo))
    if found.notes:
        made.append({"key": "notes", "evidence": found.notes})
    return tuple(_finished(each, found, album, said) for each in made)


def _finished(made: dict[str, Any], found: Evaluation, album: Album, said: Mapping[str, str]) -> Section:
    """With title, verdict, advice and pictures."""
    key = made["key"]
    verdict = said.get(key, "")
    meaning = step = ""
    if key in ADVICE and not made.get("reason"):
        compared = bool(verdict) if key == "leave_one_batch_out" else found.corrected
        blurred = key == "predictability" and not verdict and _told_by_biology(found)
        meaning, step = ADVICE["predicted_from_biology" if blurred else key].of(verdict, corrected=compared)
    evidence = tuple(filter(None, (*made.pop("evidence", ()), *album.not_drawn(key))))
    grids: tuple[Grid, ...] = tuple(each for each in made.pop("grids", ()) if each is not None)
    return Section(
        title=TITLES[key],
        verdict=verdict,
        evidence=evidence,
        meaning=meaning,
        next_step=step,
        grids=grids,
        pictures=album.of(key),
        **made,
    )


def _each(value: Any) -> dict[str, Any]:
    """By kept column; nothing where there is none."""
    return {} if isinstance(value, Missing) else value


def _compared(pair: Comparison[Any], found: Evaluation, **more: Any) -> dict[str, Any]:
    """Before and after in words; a reason where neither can be had."""
    before, after = pair.before, pair.after
    if not found.corrected and not found.corrector:
        return ({"reason": before.reason} if isinstance(before, Missing) else {"says": str(before)}) | more
    if isinstance(before, Missing) and isinstance(after, Missing):
        reasons = dict.fromkeys(filter(None, (before.reason, after.reason)))
        return {"reason": " ".join(reasons), **more}
    parts = []
    for when, each in (("Before", before), ("After", after)):
        if not isinstance(each, Missing):
            parts.append(f"{when}: {_lower(str(each))}")
        elif each.reason:
            parts.append(f"{when}, this cannot be had. {each.reason}")
    return {"says": parts[0], "evidence": tuple(parts[1:]), **more}


def _lower(text: str) -> str:
    """A sentence after a colon: its first word in small letters, unless it is a name."""
    first = text.split(" ", 1)[0]
    return text if not first[1:].islower() else text[0].lower() + text[1:]


def _forecast(found: Evaluation, album: Album) -> dict[str, Any]:
    forecast = found.forecast
    if isinstance(forecast, Missing):
        return {"key": "forecast", "reason": forecast.reason}
    words = [each.message for each in forecast.findings]
    return {
        "key": "forecast",
        "says": words[0] if words else f"Of what is kept, {tables.share(forecast.rho2)} is shared with batch at worst.",
        "evidence": tuple(words[1:]),
        "grids": (tables.contrasts(forecast),) if len(forecast.contrasts) else (),
    }


def _samples(album: Album) -> dict[str, Any]:
    if album.of("samples"):
        return {"key": "samples"}
    why = album.not_drawn("samples")
    album.missing.pop("samples", None)
    reason = " ".join(dict.fromkeys(why)) or "The report was made from numbers alone; give it the tables for pictures."
    return {"key": "samples", "reason": reason}


def _batch_variance(found: Evaluation) -> dict[str, Any]:
    pair = found.batch_variance
    made = _compared(pair, found, key="batch_variance")
    if found.distances is not None and found.distances.disagree:
        made["evidence"] = (*made.get("evidence", ()), str(found.distances))
    if not found.corrected or "reason" in made:
        return made
    held = pair.held_out
    if isinstance(held, Missing):
        made["evidence"] = (*made["evidence"], f"In samples not learned from, this cannot be had. {held.reason}")
        return made
    if held.reason:
        made["evidence"] = (*made["evidence"], f"In samples not learned from: {held}")
        return made
    first = (
        f"In samples that the correction has not learned from, batch explains {held.R2_adjusted:.1%} (adjusted), where "
        f"the noise of the learned means alone gives {held.noise:.1%} (p = {tables.chance(held.p_value)})."
    )
    made["evidence"] = (made["says"], *made["evidence"])
    made["says"] = first
    return made


def _batch_was_judged(found: Evaluation) -> bool:
    pair = found.batch_variance
    return bool(pair.held_out or pair.after) if found.corrected else bool(pair.before)


def _biology(found: Evaluation) -> dict[str, Any]:
    if isinstance(found.biology, Missing):
        return {"key": "biology", "reason": found.biology.reason}
    made = {name: _compared(each, found) for name, each in found.biology.items()}
    for name, each in found.biology.items():
        if "reason" not in made[name] and each.effect_left == each.effect_left:
            left = f"Whoever tests the corrected table finds {tables.share(each.effect_left)} of the effect of {name}."
            made[name]["evidence"] = (*made[name]["evidence"], left)
    return _by_column("biology", made)


def _by_column(key: str, made: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Paragraphs of each kept column; a reason where none has a number."""
    if all("reason" in each for each in made.values()):
        return {"key": key, "reason": " ".join(dict.fromkeys(each["reason"] for each in made.values()))}
    words = []
    for name, each in made.items():
        if "reason" in each:
            words.append(f"{name}: this cannot be had. {each['reason']}")
        else:
            words += [each["says"], *each.get("evidence", ())]
    return {"key": key, "says": words[0], "evidence": tuple(words[1:])}


def _dispersion(found: Evaluation) -> dict[str, Any]:
    return _compared(found.dispersion, found, key="dispersion", grids=(tables.spread_of_batches(found.dispersion),))


def _predictability(found: Evaluation) -> dict[str, Any]:
    return _compared(found.predictability, found, key="predictability", grids=(tables.areas(found.predictability),))


def _areas_of(found: Evaluation) -> BatchPredictability | Missing:
    """Those that are judged."""
    return found.predictability.after if found.corrected else found.predictability.before


def _told_by_biology(found: Evaluation) -> bool:
    """Whether an area is above chance where what is kept tells of batch too."""
    one = _areas_of(found)
    if isinstance(one, Missing) or not isinstance(found.forecast, DesignForecast):
        return False
    return found.forecast.rho2 >= thresholds.SHARED and max(one.auc.values()) > one.by_chance[1]


def _leave_one_batch_out(found: Evaluation) -> dict[str, Any]:
    if isinstance(found.leave_one_batch_out, Missing):
        return {"key": "leave_one_batch_out", "reason": found.leave_one_batch_out.reason}
    made, grids = {}, []
    for name, each in found.leave_one_batch_out.items():
        if isinstance(each, Missing):
            made[name] = {"reason": each.reason}
        else:
            made[name] = {"says": str(each)}
            grids.append(tables.left_out(name, each))
    return _by_column("leave_one_batch_out", made) | {"grids": tuple(grids)}


def _mixing(found: Evaluation) -> dict[str, Any]:
    made = {"batch": _compared(found.mixing.ilisi, found)} | {
        n: _compared(c, found) for n, c in found.mixing.clisi.items()
    }
    named = {
        name: each if "reason" in each else each | {"says": f"Of {name}, {_lower(each['says'])}"}
        for name, each in made.items()
    }
    return _by_column("mixing", named)


def _features(found: Evaluation) -> dict[str, Any]:
    made = _compared(found.features, found, key="features", grids=(tables.offenders(found.features),))
    held = found.batch_variance.held_out
    if isinstance(held, HeldOut) and "reason" not in made:
        q = held.features["q_value"]
        moved, tested = int((q < thresholds.ALPHA).sum()), int(q.notna().sum())
        made["evidence"] = (made["says"], *made["evidence"])
        made["says"] = (
            f"In samples that the correction has not learned from, batch moves {moved:,} of {tested:,} features (false "
            "discovery rate 5 %)."
        )
    return made


def _of_features(found: Evaluation) -> str:
    held = found.batch_variance.held_out
    if found.corrected:
        if not isinstance(held, HeldOut):
            return ""
        q = held.features["q_value"]
    else:
        if not isinstance(found.features.before, FeatureEffects):
            return ""
        q = found.features.before.q_value
    moved, tested = int((q < thresholds.ALPHA).sum()), int(q.notna().sum())
    return ("warn" if moved > max(1, thresholds.FEATURES * tested) else "fine") if tested else ""


def _placebo(placebo: Placebo | Missing) -> dict[str, Any]:
    if isinstance(placebo, Missing):
        return {"key": "placebo", "reason": placebo.reason}
    return {"key": "placebo", "says": str(placebo)}
