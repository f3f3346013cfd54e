"""Features: those that a model wants, found by name among those that a table has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.naming import nearest, some
from .names import InputError, joined
from .summary import count
from .terminal import warn


def features_of(corrector: Any) -> tuple[list[str] | None, int]:
    """Names of a model's features, without its keys, and how many they are; no names if fit saw none."""
    numbered = corrector._numbered
    names = getattr(corrector, "feature_names_in_", None)
    at = np.arange(corrector.n_features_in_)
    if hasattr(corrector, "_features"):
        at = at[corrector._features]
    if names is not None:
        return [str(name) for name in names[at]], len(at)
    return None if numbered is None else [str(name) for name in numbered], len(at)


def in_order(path: str, found: Sequence[str], wanted: list[str] | None, width: int, *, what: str) -> list[str]:
    """The names in the order of the model; an error where one is missing or there is one more.

    `what` they are in the file: "column" or "row". A model without names takes as many as it has seen, as they come.
    """
    if wanted is None:
        if len(found) != width:
            raise InputError(
                f"{path!r} must have the {count(width, 'feature')} of the model, and has {len(found)}; its features "
                "have no names there, so that only their number and order can be compared"
            )
        warn(f"the model knows its features by position only: the {what}s of {path!r} are taken in their order")
        return list(found)
    missing = [name for name in wanted if name not in set(found)]
    more = [name for name in found if name not in set(wanted)]
    if missing:
        near = nearest(missing[0], more) if more else ""
        raise InputError(
            f"{path!r} must have every feature of the model as a {what}, and lacks {some(missing)}{near} "
            f"({len(missing)} of {len(wanted)}); add {'it' if len(missing) == 1 else 'them'}, with empty cells where "
            "nothing was measured"
        )
    if more:
        rest = f"carry {'it' if len(more) == 1 else 'them'} along unchanged with --ignore {joined(more)}"
        raise InputError(
            f"every {what} of {path!r} must be a feature of the model, and {some(more)} "
            f"{'is' if len(more) == 1 else 'are'} none; {rest if what == 'column' else 'delete them'}"
        )
    return wanted
