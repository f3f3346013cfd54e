"""Names in messages: a few of many, and the one that was meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def some(names: Iterable[object], limit: int = 5) -> str:
    """A few of the names, for a message.

    Examples
    --------
    >>> some(["a", "b", "c"], limit=2)
    "'a', 'b' and 1 more"
    """
    all_names = list(names)
    shown = ", ".join(repr(name) for name in all_names[:limit])
    return shown if len(all_names) <= limit else f"{shown} and {len(all_names) - limit} more"


def nearest(name: object, names: Iterable[object]) -> str:
    """' (did you mean ...?)' where one of the names is near, whatever its case; else nothing.

    Examples
    --------
    >>> nearest("Run", ["run", "group"]), nearest("zzz", ["run", "group"])
    (" (did you mean 'run'?)", '')
    """
    folded = {str(each).casefold(): each for each in names}
    found = get_close_matches(str(name).casefold(), list(folded), n=1)
    return f" (did you mean {folded[found[0]]!r}?)" if found else ""
