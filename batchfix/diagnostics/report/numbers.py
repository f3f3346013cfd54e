"""Numbers: the eight numbers of an evaluation, a line each, and those of several methods side by side.

Evaluations and their verdicts flow in, grids of text flow out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from ..evaluation import NUMBERS, Evaluation
from ..held_out import HeldOut
from .document import Grid, grid
from .tables import decimals, share

RIGHT = {
    "batch_variance": "0 %",
    "biology": "as before",
    "leave_one_batch_out": "as before",
    "features": "0",
    "forecast": "0",
}
"""What would be right, where the table of numbers has no reference of its own."""

SEVERAL = ("batch_variance", "features")
"""Numbers of which another line than the first may decide."""


class Row(NamedTuple):
    """One number as it is read."""

    title: str
    verdict: str
    before: str
    after: str
    right: str


def numbers(found: Evaluation, verdicts: Mapping[str, str]) -> Grid:
    """The numbers on one page."""
    columns: tuple[str, ...] = ("number", "verdict", "before", "after", "right would be")
    rows: list[tuple[str, ...]] = list(number_rows(found, verdicts))
    if not found.corrected:
        columns = ("number", "verdict", "as measured", "right would be")
        rows = [(*row[:3], row[4]) for row in rows]
    note = (
        "A verdict stands on the line that decides; lines without one are to be read beside it. A dash: cannot be "
        "had, for the reason given below."
    )
    return grid("Eight numbers, line by line", columns, rows, note)


def side_by_side(found: Mapping[str, tuple[Evaluation, Mapping[str, str]]]) -> Grid:
    """What several methods leave, a column each, of evaluations and their verdicts by name.

    A dash stands where a method could not correct the table, or a number could not be had.
    """
    rows = {name: list(number_rows(*each, held_out=True)) for name, each in found.items()}
    ordered = sorted(rows, key=lambda name: not found[name][0].corrected)  # titles are those of tables that are there
    said = rows if not found[ordered[0]][0].corrected else {n: rows[n] for n in ordered if found[n][0].corrected}
    lines = []
    for title in dict.fromkeys(row.title for each in said.values() for row in each):
        of = {name: row for name, each in rows.items() for row in each if row.title == title}
        before, right = (
            next((cell for row in of.values() if (cell := getattr(row, field)) != "-"), "-")
            for field in ("before", "right")
        )
        lines.append((title, before, *(of[name].after if name in of else "-" for name in found), right))
    return grid("Eight numbers, line by line", ("number", "as measured", *found, "right would be"), lines)


def number_rows(found: Evaluation, verdicts: Mapping[str, str], *, held_out: bool = False) -> Iterator[Row]:
    """A row a number; those of held-out samples where there is a correction, or always if told so."""
    seen: set[str] = set()
    for row in found.to_frame().itertuples():
        what, number = str(row.what), str(row.number)
        if what.startswith("p_value"):
            continue
        held = what.endswith("held out")
        if held and not (found.corrected or held_out):
            continue
        form = _form(number, what)
        right = RIGHT.get(number, "")
        if number in ("dispersion", "predictability", "mixing") or held:
            right = form(row.reference)
        if held and right != "-":
            right = f"{right} (noise)"
        if what.startswith("cLISI"):
            right = "1"
        after = "" if number == "forecast" else form(row.after)
        detail = "" if what in ("R2", "score") else what.replace("R2_adjusted", "adjusted R2")
        title = ": ".join(filter(None, [NUMBERS[number], detail]))
        decides = what == _decides(found, number) if number in SEVERAL else number not in seen
        verdict = verdicts.get(number, "") if decides else ""
        seen.add(number)
        yield Row(title, verdict, form(row.before), after, right)


def _decides(found: Evaluation, number: str) -> str:
    """Which line of a number the verdict rests on."""
    if number == "features":
        return "features found"
    held = found.batch_variance.held_out
    there = found.corrected and isinstance(held, HeldOut) and not held.reason
    return "R2_adjusted held out" if there else "R2_adjusted"


def _form(number: str, what: str) -> Callable[[float], str]:
    if number in ("batch_variance", "biology") or what == "median eta2":
        return share
    if what == "features found":
        return lambda value: "-" if np.isnan(value) else f"{value:,.0f}"
    return decimals
