"""Writers: a document as one HTML file, and as Markdown.

A document flows in, text flows out. The HTML stands alone: pictures and style are in it, it holds no script, and it
says to the browser that it may fetch nothing. Whatever the caller's labels hold is shown as text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..displays.canvas import require_matplotlib
from .document import MARKS, Document, Grid, Section

if TYPE_CHECKING:
    from jinja2 import Environment

_ESCAPED = re.compile(r"([\\`*_\[\]<>|])")
_LINE_START = re.compile(r"^(\d*)([#+.)-])(?=\s|#)")


def require_report() -> None:
    """Say what to install where jinja2 or matplotlib is missing.

    Raises
    ------
    ModuleNotFoundError
        One is.
    """
    require_matplotlib()
    try:
        import jinja2 as _  # noqa: F401 - only asked whether it is there
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "batchfix.diagnostics.report needs jinja2: pip install 'batchfix[report]'", name="jinja2"
        ) from error


def html(document: Document) -> str:
    """The document as one page."""
    require_report()
    from .images import image

    template = _environment().get_template("report.html.j2")
    return template.render(document=document, marks=MARKS, draw=lambda picture: image(picture.display))


def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader(__package__, "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_unbroken,
    )


def _unbroken(value: Any) -> Any:
    """Text whose percent signs stay with their numbers at the end of a line."""
    return value.replace(" %", "\N{NO-BREAK SPACE}%") if type(value) is str else value


def markdown(document: Document) -> str:
    """The document as Markdown, pictures in words."""
    return "\n".join(_lines(document)).strip() + "\n"


def _lines(document: Document) -> Iterator[str]:
    yield f"# {_plain(document.title)}"
    yield ""
    yield ", ".join(f"{_plain(name)}: {_plain(value)}" for name, value in document.facts.items())
    yield ""
    yield f"**{document.verdict}: {_plain(document.headline)}**"
    yield ""
    for sentence in document.summary:
        yield f"- {_plain(sentence)}"
    yield ""
    yield from _table(document.numbers)
    for section in document.sections:
        yield from _section(section)
    yield "## What these numbers cannot say"
    yield ""
    for title, paragraph in document.guidance:
        yield f"**{_plain(title)}.** {_plain(paragraph)}"
        yield ""
    yield _plain(document.footer)


def _section(section: Section) -> Iterator[str]:
    verdict = f" ({section.verdict})" if section.verdict else ""
    yield f"## {_plain(section.title)}{verdict}"
    yield ""
    reason = f"This could not be had. {section.reason}" if section.reason else ""
    for sentence in (reason, section.says, *section.evidence):
        if sentence:
            yield _plain(sentence)
            yield ""
    for picture in section.pictures:
        yield f"*{_plain(picture.title)}:* {_plain(picture.display.describe())}"
        yield ""
    for each in section.grids:
        yield from _table(each)
    for title, sentence in (("What it means", section.meaning), ("What to do next", section.next_step)):
        if sentence:
            yield f"**{title}.** {_plain(sentence)}"
            yield ""


def _table(grid: Grid) -> Iterator[str]:
    yield _plain(grid.caption)
    yield ""
    yield _row(grid.columns)
    yield _row(["---:" if k and number else "---" for k, number in enumerate(grid.numeric)], plain=False)
    for row in grid.rows:
        yield _row(row)
    yield ""
    if grid.note:
        yield _plain(grid.note)
        yield ""


def _row(cells: tuple[str, ...] | list[str], *, plain: bool = True) -> str:
    return f"| {' | '.join(map(_plain, cells) if plain else cells)} |"


def _plain(text: str) -> str:
    r"""Text on one line, with what Markdown or HTML would read as a sign shown as it is.

    Examples
    --------
    >>> print(_plain("a|b <script> *c*"), _plain("# d"), _plain("1. e"), _plain("0.5"))
    a\|b \<script\> \*c\* \# d 1\. e 0.5
    """
    one_line = " ".join(text.split())
    return _LINE_START.sub(r"\1\\\2", _ESCAPED.sub(r"\\\1", one_line))
