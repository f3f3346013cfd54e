"""Rows of a csv or tsv file, plain or gzipped, each as long as the header and with an id."""

from __future__ import annotations

import csv
import gzip
import io
import os
import zlib
from collections.abc import Generator
from pathlib import Path
from typing import Any

from .table import REPORT_ROWS, PathLike, Progress, TableError, check_header, text_format


def table_rows(path: PathLike, progress: Progress | None) -> Generator[list[str], None, None]:
    """The header, checked, then every row, of the same length and with an id."""
    name = repr(str(path))
    delimiter, zipped = text_format(path)
    if Path(path).is_dir():
        raise TableError(f"{name} must be a file, and is a directory. Give the table inside it.")
    try:
        with Path(path).open("rb") as raw:
            size = max(os.fstat(raw.fileno()).st_size, 1)
            stream: Any = gzip.GzipFile(fileobj=raw) if zipped else raw
            with io.TextIOWrapper(stream, encoding="utf-8-sig", newline="") as lines:
                reader = csv.reader(lines, delimiter=delimiter, strict=True)
                header = next((row for row in reader if row), None)
                if header is None:
                    raise TableError(f"{name} must hold a header and rows, and is empty.")
                rest = (row for row in reader if row)
                first = next(rest, None)
                check_header(name, header, first)
                yield header
                if first is None:
                    raise TableError(f"{name} must hold rows, and has a header only.")
                yield _check_row(name, first, header, reader.line_num)
                for count, row in enumerate(rest):
                    yield _check_row(name, row, header, reader.line_num)
                    if progress is not None and count % REPORT_ROWS == 0:
                        progress(raw.tell() / size)
    except FileNotFoundError:
        raise TableError(f"{name} does not exist (looked in {str(Path.cwd())!r}). Check its name.") from None
    except UnicodeDecodeError as error:
        raise TableError(
            f"{name} must be text in UTF-8, and holds the byte {error.object[error.start]:#04x}. "
            "Export it again as CSV in UTF-8 (a gzipped file's name must end in .gz)."
        ) from error
    except csv.Error as error:
        raise TableError(
            f"{name} must be well quoted, and line {reader.line_num} is not: {_shown(error)}. Export it again, with "
            "cells that hold a quote put in quotes and the quote doubled."
        ) from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise TableError(
            f"{name} must be a whole gzip file, and is not: {error}. Copy or compress it again."
        ) from error
    except OSError as error:
        raise TableError(f"{name} cannot be read: {error.strerror or error}.") from error


def _shown(error: csv.Error) -> str:
    """What the csv module says, with a delimiter that can be seen."""
    return str(error).replace("'\t'", "a tab")


def _check_row(name: str, row: list[str], header: list[str], line: int) -> list[str]:
    if len(row) != len(header):
        raise TableError(
            f"Every row of {name} must have as many cells as the header, {len(header)}, and line {line} "
            f"(row {row[0]!r}) has {len(row)}. Mend that line or export the table again."
        )
    if not row[0].strip():
        raise TableError(
            f"Every row of {name} must have an id in its first cell, and line {line} has none. Name or delete that row."
        )
    return row
