"""Atomic writes: a binary file that is whole under its name, or as it was before.

A path and the kind of error to raise flow in; an open file comes out, which takes the path's place when it is done.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from .exceptions import BatchfixError

PathLike = str | os.PathLike[str]


@contextmanager
def replacing(path: PathLike, error: type[BatchfixError], what: str = "output") -> Iterator[BinaryIO]:
    """Open a binary file, to read and write, that replaces `path` at the end or leaves all as it was.

    What is written goes to a file of another name in the same directory, is forced to the disk and then renamed. On
    any error, and on Ctrl-C, that file is removed and an old one stays untouched. Several may write at once: the last
    to end stays, whole.

    Raises
    ------
    error
        The path is a directory, lies in none, or cannot be written.
    """
    target = check_place(path, error, what)
    temporary = target.with_name(f".batchfix-{secrets.token_hex(8)}.part")
    try:
        mode = target.stat().st_mode & 0o777 if target.exists() else None
        with temporary.open("xb+") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        if mode is not None:
            temporary.chmod(mode)
        temporary.replace(target)
    except OSError as refusal:
        raise error(
            f"{str(path)!r} cannot be written: {refusal.strerror or refusal}. Nothing there was changed; "
            "free the space or choose another place."
        ) from refusal
    finally:
        temporary.unlink(missing_ok=True)


def check_place(path: PathLike, error: type[BatchfixError], what: str = "output") -> Path:
    """Where a file would be written, links followed; an `error` if it cannot be.

    Cheap, so that long work can ask before it starts.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise error(f"The {what} must be a file, and {str(path)!r} is a directory. Add a file's name.")
    if target.exists() and not target.is_file():
        raise error(f"The {what} must be a plain file, and {str(path)!r} is not. Choose another name.")
    if not target.parent.is_dir():
        raise error(f"The {what}'s directory must exist, and {str(target.parent)!r} does not. Make it first.")
    if not os.access(target if target.exists() else target.parent, os.W_OK):
        raise error(f"{str(path)!r} may not be written. Change its permissions or choose another place.")
    return target
