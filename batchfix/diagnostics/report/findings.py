"""Findings: an evaluation, and perhaps a placebo test, with the gravest verdict of all; what needs no picture.

Tables, labels and a corrector flow in; a verdict, a headline, sentences, the table of numbers and JSON flow out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import pandas as pd

from ..correction import prepare
from ..design import DesignForecast
from ..evaluation import NUMBERS, Evaluation, evaluate
from ..placebo import Placebo, placebo_test
from ..samples import read_samples
from ..sections import Missing, attempt, plain
from .document import Grid
from .numbers import numbers
from .sections import overall, verdicts
from .summary import headline, summary

PLACEBOS, FAST_PLACEBOS = 20, 8
"""Times that the biology is dealt anew."""


@dataclass(frozen=True, eq=False)
class Tables:
    """What was evaluated, with labels in the order of its rows.

    Attributes
    ----------
    before : DataFrame (n, p)
    after : DataFrame (n, q) or None
    batch : array (n,) of labels
    keep : DataFrame (n, k) or None
    """

    before: pd.DataFrame
    after: pd.DataFrame | None
    batch: Any
    keep: pd.DataFrame | None


@dataclass(frozen=True, eq=False)
class Findings:
    """What was found.

    Attributes
    ----------
    evaluation : Evaluation
    placebo : Placebo, Missing or None
    tables : Tables or None
    """

    evaluation: Evaluation
    placebo: Placebo | Missing | None = None
    tables: Tables | None = None

    @classmethod
    def of(
        cls,
        before: Any,
        after: Any = None,
        *,
        corrector: Any = None,
        batch: Any = None,
        keep: Any = None,
        fast: bool = False,
        placebo: bool = False,
        n_jobs: int | None = -1,
        progress: bool = False,
        **options: Any,
    ) -> Self:
        """Evaluate; the parameters are those of `Report`."""
        notes: list[str] = []
        tables, after = read_tables(corrector, before, after, batch, keep, notes)
        common: dict[str, Any] = {"n_jobs": n_jobs, "progress": progress}
        found = evaluate(before, after, corrector=corrector, batch=batch, keep=keep, fast=fast, **options, **common)
        found = dataclasses.replace(found, notes=tuple(dict.fromkeys([*notes, *found.notes])))
        tried = _placebo(corrector, before, batch, keep, fast, common) if placebo else None
        return cls(found, tried, tables)

    @property
    def verdicts(self) -> dict[str, str]:
        """Of each number."""
        return verdicts(self.evaluation, self.placebo)

    @property
    def verdict(self) -> str:
        """The gravest: "fine", "warn" or "stop"."""
        return overall(self.evaluation, self.verdicts)

    @property
    def headline(self) -> str:
        """The verdict in a sentence."""
        return headline(self)

    @property
    def summary(self) -> tuple[str, ...]:
        """Reasons in sentences, the gravest first."""
        return summary(self)

    @property
    def lacking(self) -> dict[str, str]:
        """Why numbers that were asked for cannot be had, by their titles."""
        return dict(_lacking(self.evaluation))

    @property
    def numbers(self) -> Grid:
        """The eight numbers on one page."""
        return numbers(self.evaluation, self.verdicts)

    @property
    def facts(self) -> dict[str, str]:
        """Of the table."""
        found = self.evaluation
        facts = {"samples": f"{found.n:,}", "features": f"{found.n_features:,}"}
        if "batch" in found.samples:
            facts["batches"] = f"{found.samples['batch'].nunique():,}"
        if isinstance(found.forecast, DesignForecast):
            facts["kept"] = ", ".join(found.forecast.columns["column"])
        facts["corrected"] = found.corrector or ("a table given" if found.corrected else "no")
        return facts

    def to_dict(self) -> dict[str, Any]:
        """All of it, ready for JSON: what has no value is None."""
        said = self.verdicts
        return {
            "verdict": self.verdict,
            "headline": self.headline,
            "summary": list(self.summary),
            "facts": self.facts,
            "verdicts": {name: verdict or None for name, verdict in said.items()},
            "evaluation": self.evaluation.to_dict(),
            "placebo": _numbers_of(self.placebo),
        }


def read_tables(corrector: Any, before: Any, after: Any, batch: Any, keep: Any, notes: list[str]) -> tuple[Tables, Any]:
    """What pictures are drawn from, and the corrected table, so that it is made once; what it warned of is noted."""
    correction, table, _ = prepare(corrector, before, batch, keep)
    columns = getattr(table.X, "columns", None)
    raw = attempt(lambda: correction.baseline().whole(table), notes)
    values = read_samples(table.X).values if isinstance(raw, Missing) else raw
    named = columns is not None and len(columns) == values.shape[1]
    first = pd.DataFrame(values, table.index, pd.Index(columns) if named else None, copy=False)
    if after is None and correction.corrector is not None:
        y = None if table.keep is None else table.keep.iloc[:, 0].to_numpy()
        done = attempt(lambda: correction.whole(table, y), notes)
        if not isinstance(done, Missing):
            same = done.shape[1] == first.shape[1]
            after = pd.DataFrame(done, table.index, first.columns if same else None, copy=False)
    second = after
    if after is not None and not isinstance(after, pd.DataFrame):
        second = pd.DataFrame(read_samples(after, name="after").values)
    if second is not None and table.index is None:
        second = second.reset_index(drop=True)
    return Tables(first, second, table.batch, table.keep), after


def _placebo(corrector: Any, X: Any, batch: Any, keep: Any, fast: bool, common: dict[str, Any]) -> Placebo | Missing:
    """The placebo test of the first kept column, or why there is none."""
    if corrector is None:
        return Missing("A placebo test needs the corrector, to run it again. Pass corrector=.")
    correction, table, _ = prepare(corrector, X, batch, keep)
    kept = table.keep
    if kept is None:
        return Missing("A placebo test needs something to keep, to deal it anew. Pass keep=.")
    others = kept.iloc[:, 1:] if kept.shape[1] > 1 else None
    count = FAST_PLACEBOS if fast else PLACEBOS
    # what stands in the table under the corrector's keys was taken out
    return attempt(
        lambda: placebo_test(
            correction.corrector, table.X, table.batch, kept.iloc[:, 0], keep=others, n_permutations=count, **common
        ),
        [],
    )


def _lacking(found: Evaluation) -> Iterator[tuple[str, str]]:
    """Titles of numbers, and the reasons of those that are missing where they were asked for."""
    times = ("before", "after", "held_out") if found.corrected or found.corrector else ("before",)
    for name, title in NUMBERS.items():
        value = getattr(found, name)
        parts = list(value.values()) if isinstance(value, dict) else [value]
        parts = [value.ilisi, *value.clisi.values()] if name == "mixing" else parts
        every = [each if isinstance(each, Missing) else getattr(each, when, None) for each in parts for when in times]
        reasons = dict.fromkeys(each.reason for each in every if isinstance(each, Missing) and each.reason)
        if reasons:
            yield title, " ".join(reasons)


def _numbers_of(tried: Placebo | Missing | None) -> dict[str, Any] | None:
    if tried is None:
        return None
    if isinstance(tried, Missing):
        return {"reason": tried.reason}
    names = ("verdict", "flags", "auc", "auc_interval", "false_positives", "false_positives_interval", "forecast")
    return {name: plain(getattr(tried, name)) for name in names}
