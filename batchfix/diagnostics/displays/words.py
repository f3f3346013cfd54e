"""Words: names and numbers as they are written in a picture, and beside it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

LONGEST_NAME = 22


def short_names(names: Iterable[object], longest: int = LONGEST_NAME) -> list[str]:
    """Names of about `longest` letters that differ where the whole ones do.

    Examples
    --------
    >>> short_names(["instrument_17_01", "instrument_17_02"], 10)
    ['instru…_01', 'instru…_02']
    >>> short_names(["instrument_a_of_north", "instrument_b_of_north"], 10)
    ['…a…', '…b…']
    """
    texts = [" ".join(str(name).split()) for name in names]
    if all(len(text) <= longest for text in texts):
        return [_literal(text) for text in texts]
    start, end = _shared(texts)
    ways = (
        [_cut(text, longest) for text in texts],
        [text if len(text) <= longest else f"…{_cut(text[start : len(text) - end], longest - 2)}…" for text in texts],
        [text if len(text) <= longest else f"…{text[start : start + longest - 2]}…" for text in texts],
        [text if len(text) <= longest else f"…{text[1 - longest :]}" for text in texts],
    )
    for shown in ways:
        if len(set(shown)) == len(set(texts)):
            return [_literal(text) for text in shown]
    return [f"{k}: {short(text, longest)}" for k, text in enumerate(texts, 1)]


def _shared(texts: list[str]) -> tuple[int, int]:
    """Letters at the beginning and at the end that all texts share, up to whole words."""
    ends = []
    for way in (1, -1):
        turned = [text[::way] for text in texts]
        most = min(map(len, turned))
        same = next((k for k in range(most) if len({text[k] for text in turned}) > 1), most)
        while same and any(text[same - 1].isalnum() for text in turned):
            same -= 1
        ends.append(same)
    start, end = ends
    return (start, end) if all(len(text) > start + end for text in texts) else (start, 0)


def short(name: object, longest: int = LONGEST_NAME) -> str:
    """A name of at most `longest` letters, its middle cut out; dollars are dollars, and no formula.

    Examples
    --------
    >>> short("plate_2024-05-17_instrument_B_run3", 16)
    'plate_202…B_run3'
    """
    return _literal(_cut(" ".join(str(name).split()), longest))


def _cut(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    tail = (longest - 1) * 2 // 5
    return f"{text[: longest - 1 - tail]}…{text[len(text) - tail :]}"


def _literal(text: str) -> str:
    """A text that matplotlib writes as it is: no formula between dollars, no name that legends leave out."""
    return ("\u2009" if text.startswith("_") else "") + text.replace("$", r"\$")


def percent(share: float) -> str:
    """A share, with as many digits as are read.

    Examples
    --------
    >>> percent(0.5), percent(0.0712), percent(0.05), percent(1e-9), percent(-0.02), percent(float("nan"))
    ('50 %', '7.1 %', '5 %', '0 %', '-2 %', 'unknown')
    """
    if not np.isfinite(share):
        return "unknown"
    if abs(share) < 0.0005:
        return "0 %"
    digits = f"{100 * share:.1f}".removesuffix(".0") if abs(share) < 0.0995 else f"{100 * share:.0f}"
    return f"{digits} %"


def counted(number: int, thing: str) -> str:
    """A number of things.

    Examples
    --------
    >>> counted(1, "group"), counted(1200, "sample")
    ('1 group', '1,200 samples')
    """
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def listed(parts: Iterable[object]) -> str:
    """Words as a list.

    Examples
    --------
    >>> listed(["a"]), listed(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    *first, last = map(str, parts)
    return f"{', '.join(first)} and {last}" if first else last
