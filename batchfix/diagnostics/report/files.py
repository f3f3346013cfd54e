"""Files: a page that appears whole or not at all.

Bytes flow in, a file flows out: written beside its place under another name, forced to the disk, then renamed.
"""

from __future__ import annotations

import os
import secrets
from os import PathLike
from pathlib import Path

from ...exceptions import BatchfixError


class ReportError(BatchfixError):
    """A report cannot be written where it was asked for."""


def write_whole(path: str | PathLike[str], content: bytes) -> None:
    """Write a file, or leave all as it was, on Ctrl-C too.

    Raises
    ------
    ReportError
        The path is a directory, lies in none, or cannot be written.
    """
    target = check_place(path)
    temporary = target.with_name(f".batchfix-{secrets.token_hex(8)}.part")
    try:
        mode = target.stat().st_mode & 0o777 if target.exists() else None
        with temporary.open("xb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        if mode is not None:
            temporary.chmod(mode)
        temporary.replace(target)
    except OSError as error:
        raise ReportError(
            f"{str(path)!r} cannot be written: {error.strerror or error}. Nothing there was changed; free the space or "
            "choose another place."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def check_place(path: str | PathLike[str]) -> Path:
    """Where a report would be written, links followed.

    Raises
    ------
    ReportError
        It cannot be. Cheap, so that long work can ask before it starts.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise ReportError(f"The report must be a file, and {str(path)!r} is a directory. Add a file's name.")
    if target.exists() and not target.is_file():
        raise ReportError(f"The report must be a plain file, and {str(path)!r} is not. Choose another name.")
    if not target.parent.is_dir():
        raise ReportError(f"The report's directory must exist, and {str(target.parent)!r} does not. Make it first.")
    if not os.access(target if target.exists() else target.parent, os.W_OK):
        raise ReportError(f"{str(path)!r} may not be written. Change its permissions or choose another place.")
    return target
