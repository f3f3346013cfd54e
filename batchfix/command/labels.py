"""Labels: columns of text become batches, factors and numbers, and what could be either is refused."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from ..adapters.tables import MISSING, number
from ..core.naming import some
from ..exceptions import AmbiguousKeepError, MissingLabelError
from .terminal import warn

DECIMAL_COMMA = re.compile(r"\s*[+-]?\d+,\d+\s*")
"""A number as spreadsheets write it in many languages; or one with its thousands apart."""

POINTS = "export the table with decimal points and nothing between thousands (51.1, 1234)"

_WHOLE = re.compile(r"([+-]?(?:0|[1-9][0-9]*))\.0*")


def label(cell: str) -> str:
    """The label that a cell holds: without blanks around it, and a whole number without a fraction.

    Examples
    --------
    >>> label("r1 "), label("2.0"), label("02"), label("2.5")
    ('r1', '2', '02', '2.5')
    """
    cell = cell.strip()
    whole = _WHOLE.fullmatch(cell)
    return whole[1] if whole else cell


def factor(name: str, cells: list[str], samples: list[str], role: str) -> Any:
    """The labels of a column; an error where one is missing, a warning where two are nearly the same."""
    missing = [(sample, cell) for sample, cell in zip(samples, cells, strict=True) if cell.strip() in MISSING]
    if missing:
        words = sorted({cell.strip() for _, cell in missing} - {""})
        read = f" (they hold {some(words)}, which is read as missing)" if words else ""
        rename = f", or write {words[0]!r} in other words if it is a level" if words else ""
        raise MissingLabelError(
            f"every sample must have a value in --{role} column {name!r}, and {len(missing)} of {len(samples)} have "
            f"none: {some(sample for sample, _ in missing)}{read}; fill them in, leave those samples out{rename}"
        )
    labels = [label(cell) for cell in cells]
    for alike in _nearly_the_same(set(labels)):
        warn(
            f"--{role} column {name!r} has {' and '.join(repr(each) for each in alike)}, which differ in spelling only "
            "and are taken for different levels; write them alike if they are one"
        )
    return np.array(labels, dtype=object)


def _nearly_the_same(labels: Iterable[str]) -> list[list[str]]:
    """Groups of labels that differ in case, inner blanks or the spelling of a number."""
    groups: dict[object, list[str]] = defaultdict(list)
    for each in sorted(labels):
        try:
            groups[number(each)].append(each)
        except ValueError:
            groups["".join(each.split()).casefold()].append(each)
    return [group for group in groups.values() if len(group) > 1]


def typed(name: str, cells: list[str], samples: list[str], role: str, kind: str) -> Any:
    """Numbers as floats, text as labels; an error where it could be either.

    `kind` is "factor" or "number" as the user said, or "auto".
    """
    if kind == "factor":
        return factor(name, cells, samples, role)
    values, bad = [], []
    for sample, cell in zip(samples, cells, strict=True):
        try:
            values.append(number(cell))
        except ValueError:
            bad.append((sample, cell))
    commas = [(sample, cell) for sample, cell in bad if DECIMAL_COMMA.fullmatch(cell)]
    if commas and all(DECIMAL_COMMA.fullmatch(cell) or cell.strip() in MISSING for _, cell in bad):
        sample, cell = commas[0]
        levels = f"; or say --{role}-factor {name} if these are levels" if kind == "auto" else ""
        raise AmbiguousKeepError(
            f"--{role} column {name!r} must hold numbers with a point, and sample {sample!r} has {cell!r}, which looks "
            f"like one with a decimal comma; {POINTS}{levels}"
        )
    if np.isnan(values).any() or (bad and not values and kind == "auto"):
        return factor(name, cells, samples, role)  # text, or its error if some are missing
    if bad:
        sample, cell = bad[0]
        wanted = f"--{role}-number column {name!r} must hold finite numbers, and"
        if kind == "auto":
            wanted = f"--{role} column {name!r} must be all numbers or all text, and some cells are numbers but"
        raise AmbiguousKeepError(
            f"{wanted} sample {sample!r} has {cell!r}; correct it, or say --{role}-factor {name} if the "
            "values are levels"
        )
    array = np.array(values)
    distinct = np.unique(array)
    if kind == "auto" and len(distinct) > 2 and np.array_equal(array, np.rint(array)):
        raise AmbiguousKeepError(
            f"--{role} column {name!r} holds whole numbers ({', '.join(f'{v:.0f}' for v in distinct[:4])}"
            f"{', ...' if len(distinct) > 4 else ''}), which may be levels or amounts; "
            f"say --{role}-factor {name} or --{role}-number {name}"
        )
    return array


def is_factor(column: pd.Series, kind: str) -> bool:
    """Whether it is told to be, or numbers are two codes, as 0 and 1 are: then levels say more than a slope."""
    if kind != "auto" or column.dtype.kind != "f":
        return kind == "factor"
    distinct = np.unique(column)
    return len(distinct) == 2 and bool((distinct == np.rint(distinct)).all())
