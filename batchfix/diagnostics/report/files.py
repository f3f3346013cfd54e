"""Files: where a report is written, and the error of one that cannot be."""

from __future__ import annotations

from pathlib import Path

from ... import atomic
from ...exceptions import BatchfixError


class ReportError(BatchfixError):
    """A report cannot be written where it was asked for."""


def write_whole(path: atomic.PathLike, content: bytes) -> None:
    """Write a file whole, or leave all as it was; a `ReportError` if it cannot be written."""
    with atomic.replacing(path, ReportError, "report") as out:
        out.write(content)


def check_place(path: atomic.PathLike) -> Path:
    """Where a report would be written; a `ReportError` if it cannot be."""
    return atomic.check_place(path, ReportError, "report")
