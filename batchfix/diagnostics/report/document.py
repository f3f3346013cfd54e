"""Document: what a report says, before it is HTML, Markdown or JSON.

Sentences, numbers as they are read, tables and displays flow in; one tree of them flows out, which three writers turn
into text. Labels from the caller's table stand in it as they are: whoever writes them escapes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..displays.canvas import Display

MARKS: dict[str, str] = {"fine": "✓", "warn": "!", "stop": "✗"}
"""Signs of verdicts, so that colour is not all that tells them apart."""


@dataclass(frozen=True)
class Grid:
    """A table of words and of numbers as they are read.

    Attributes
    ----------
    caption : str
    columns : tuple of str
        The first one names rows.
    rows : tuple of tuple of str
        A cell that is "fine", "warn" or "stop" is shown as a verdict.
    note : str
        What the numbers are, and what was left out.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    @property
    def numeric(self) -> tuple[bool, ...]:
        """Of each column, whether its cells are numbers or verdicts, to be set flush right."""
        return tuple(self._is_numeric(k) for k in range(len(self.columns)))

    def _is_numeric(self, k: int) -> bool:
        cells = [row[k] for row in self.rows if row[k] not in MARKS]
        return bool(cells) and all(map(_is_number, cells)) and any(cells)


@dataclass(frozen=True, eq=False)
class Picture:
    """A display, with what is to be looked for in it."""

    display: Display
    title: str
    look_for: str = ""


@dataclass(frozen=True, eq=False)
class Section:
    """A finding: its evidence, what it means, and what to do next.

    Attributes
    ----------
    key : str
        Its name in `to_dict`, and its anchor.
    title : str
    verdict : str
        "fine", "warn", "stop", or "" where there is nothing to judge.
    says : str
        The number, in a sentence.
    evidence : tuple of str
        Further sentences.
    meaning, next_step : str
    reason : str
        Why it could not be had; the rest is then empty.
    grids, pictures
    """

    key: str
    title: str
    verdict: str = ""
    says: str = ""
    evidence: tuple[str, ...] = ()
    meaning: str = ""
    next_step: str = ""
    reason: str = ""
    grids: tuple[Grid, ...] = ()
    pictures: tuple[Picture, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """All but the pictures, of which the words are kept."""
        held = {
            name: getattr(self, name)
            for name in ("key", "title", "verdict", "says", "meaning", "next_step", "reason")
            if getattr(self, name)
        }
        held |= {"evidence": list(self.evidence)} if self.evidence else {}
        if self.grids:
            held["tables"] = [
                {"caption": g.caption, "columns": list(g.columns), "rows": [list(row) for row in g.rows]}
                for g in self.grids
            ]
        if self.pictures:
            held["pictures"] = [{"title": p.title, "description": p.display.describe()} for p in self.pictures]
        return held


@dataclass(frozen=True, eq=False)
class Document:
    """A report's whole content.

    Attributes
    ----------
    title : str
    verdict : str
        "fine", "warn" or "stop".
    headline : str
        The verdict, in a sentence.
    summary : tuple of str
        What follows from all findings, the gravest first.
    facts : dict of str
        Of the table: samples, features, batches, ...
    numbers : Grid
        The eight numbers.
    sections : tuple of Section
    guidance : tuple of (str, str)
        What the numbers cannot say: a title and a paragraph each.
    footer : str
    """

    title: str
    verdict: str
    headline: str
    summary: tuple[str, ...]
    facts: Mapping[str, str]
    numbers: Grid
    sections: tuple[Section, ...]
    guidance: tuple[tuple[str, str], ...] = field(default=())
    footer: str = ""

    def section(self, key: str) -> Section:
        """The one of this key."""
        return next(each for each in self.sections if each.key == key)


def grid(caption: str, columns: Sequence[str], rows: Sequence[Sequence[object]], note: str = "") -> Grid:
    """A table of whatever can be read: cells become text.

    Examples
    --------
    >>> grid("sizes", ["batch", "samples"], [["a", 3], ["b", 4]]).numeric
    (False, True)
    """
    return Grid(caption, tuple(columns), tuple(tuple(map(str, row)) for row in rows), note)


def _is_number(cell: str) -> bool:
    """Whether a cell is read as a number; "" and a dash are none of either.

    Examples
    --------
    >>> [_is_number(each) for each in ["3", "-2.0 %", "1,234", "-", "", "a", "b 2"]]
    [True, True, True, True, True, False, False]
    """
    bare = cell.strip().removesuffix("%").strip().replace(",", "").replace("−", "-").removeprefix("<").strip()
    if bare in ("", "-", "–"):
        return True
    try:
        float(bare)
    except ValueError:
        return False
    return True
