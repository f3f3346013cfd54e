"""Settings: what an evaluation is asked, checked before anything is run, and read as its numbers need it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from ..core.zeros import HalfMinimum, ZeroPolicy
from ..exceptions import BatchfixError
from .correction import Labelled
from .distance_comparison import COMPARED, are_amounts
from .samples import read_samples, whole
from .sections import Missing, attempt


def check_settings(distance: str, cv: Any, repeats: Any, permutations: Any) -> None:
    """Refuse settings that no table could be evaluated with.

    Raises
    ------
    BatchfixError
        Saying which.
    """
    if distance not in COMPARED:
        raise BatchfixError(f"distance must be one of {', '.join(map(repr, COMPARED))}; got {distance!r}.")
    if not hasattr(cv, "get_n_splits"):
        if isinstance(cv, bool) or not isinstance(cv, int | np.integer):
            raise BatchfixError(f"cv must be a number of folds or a splitter of scikit-learn, got {cv!r}.")
        whole("cv, the number of folds,", cv, 2)
    whole("repeats", repeats, 1)
    whole("permutations", permutations, 0)


def in_time(cv: Any, ordered: bool | None) -> tuple[Any, bool]:
    """Folds, and whether nothing may be learned from later rows: by default where folds are those of a TimeSeriesSplit.

    Examples
    --------
    >>> in_time(5, None), in_time(5, True)
    ((5, False), (TimeSeriesSplit(gap=0, max_train_size=None, n_splits=5, test_size=None), True))
    """
    from sklearn.model_selection import TimeSeriesSplit

    later = isinstance(cv, TimeSeriesSplit) if ordered is None else bool(ordered)
    if later and hasattr(cv, "get_n_splits") and _may_look_ahead(cv):
        raise BatchfixError(
            f"ordered=True needs folds that learn from earlier rows alone, got {cv!r}. Use TimeSeriesSplit, or the "
            "number of folds."
        )
    return (TimeSeriesSplit(int(cv)) if later and not hasattr(cv, "get_n_splits") else cv), later


def looks_ahead(splits: Iterable[tuple[np.ndarray, np.ndarray]]) -> bool:
    """Whether some fold trains on rows after the first that it tests.

    Examples
    --------
    >>> looks_ahead([(np.array([0, 1]), np.array([2]))]), looks_ahead([(np.array([0, 2]), np.array([1]))])
    (False, True)
    """
    return any(train.max(initial=-1) > test.min() for train, test in splits)


def _may_look_ahead(cv: Any) -> bool:
    """Whether a splitter trains on later rows of a plain table; one that needs more than that is let pass."""
    try:
        return looks_ahead(cv.split(np.zeros((200, 1)), np.arange(200) % 2))
    except (TypeError, ValueError):  # it asks for groups, or for other labels
        return False


def with_plain_names(table: Labelled) -> Labelled:
    """Kept columns under names that do not pass for batch, nor for one of several."""
    if table.keep is None:
        return table
    known = set(table.keep.columns)
    names = {"keep0": "keep"} if table.keep.shape[1] == 1 else {}
    for taken in ("batch", "residual", "shared"):  # words of the results
        new = f"{taken} (kept)"
        while new in known:
            new += "*"
        names[taken] = new
    return replace(table, keep=table.keep.rename(columns=names))


def zero_policy(table: Labelled, distance: str, notes: list[str]) -> ZeroPolicy | None:
    """What zeros become before logarithms are taken, with a note; None where none are taken, or there is none."""
    values = read_samples(table.X).values
    count = int((values == 0).sum())
    if not count or not (distance == "aitchison" or are_amounts(values)):
        return None
    learned = attempt(lambda: HalfMinimum.learn(values), [])
    if isinstance(learned, Missing):
        return None
    if distance == "aitchison":
        notes.append(
            f"Aitchison distances take logarithms of amounts above 0; {count:,} zeros count as half the smallest "
            f"proportion of the table, {learned.delta:.2g}. LogRatio(zeros=...) has other ways."
        )
    return learned
