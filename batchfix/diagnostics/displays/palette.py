"""Palette: how levels look, so that they are told apart without colour too.

A place in a list flows in; a colour, a marker, a hatch or a line style flows out. Colours are those of Okabe and Ito
2008, "Color Universal Design", which the colour-blind tell apart; their black is left to the text, which is white on a
dark page.
"""

from __future__ import annotations

from typing import NamedTuple

COLORS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442")
"""Blue, orange, green, vermilion, purple, sky, yellow."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
HATCHES = ("///", "...", "\\\\\\", "xx", "++", "oo", "--")
LINES = ("-", "--", "-.", ":")

SHARED, RESIDUAL = "#999999", "#E8E8E8"
"""Greys of what factors explain together, and of what nothing explains."""


class Look(NamedTuple):
    """Of one level."""

    color: str
    marker: str
    hatch: str
    line: str


def look(k: int) -> Look:
    """Look of level k: neighbours differ in colour and marker, and 49 levels in one of the two.

    Examples
    --------
    >>> look(0).marker, look(1).marker, look(7).marker, len({(look(k).color, look(k).marker) for k in range(49)})
    ('o', 's', 's', 49)
    """
    turn, place = divmod(k, len(COLORS))
    return Look(
        COLORS[place],
        MARKERS[(place + turn) % len(MARKERS)],
        HATCHES[(place + turn) % len(HATCHES)],
        LINES[(place + turn) % len(LINES)],
    )
