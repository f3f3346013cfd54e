"""Atomic writes: a binary file or a directory that is whole under its name, or as it was before.

A path and the kind of error to raise flow in; an open file, or a directory, comes out, which takes the path's place
when it is done.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from .exceptions import BatchfixError

PathLike = str | os.PathLike[str]


@contextmanager
def replacing(
    path: PathLike, error: type[BatchfixError], what: str = "output", *, buffering: int = -1
) -> Iterator[BinaryIO]:
    """Open a binary file, to read and write, that replaces `path` at the end or leaves all as it was.

    What is written goes to a file of another name in the same directory, is forced to the disk and then renamed. On
    any error, and on Ctrl-C, that file is removed and an old one stays untouched. Several may write at once: the last
    to end stays, whole. `buffering` is as in `open`.

    Raises
    ------
    error
        The path is a directory, lies in none, or cannot be written.
    """
    target = check_place(path, error, what)
    temporary = target.with_name(f".batchfix-{secrets.token_hex(8)}.part")
    try:
        mode = target.stat().st_mode & 0o777 if target.exists() else None
        with temporary.open("xb+", buffering) as out:
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


@contextmanager
def replacing_directory(path: PathLike, error: type[BatchfixError], what: str = "output") -> Iterator[Path]:
    """Make a directory that replaces `path` at the end or leaves all as it was; see `replacing`.

    An old directory is moved aside, the new one into its place, and then the old one is removed: a crash between the
    two renames leaves the old one whole, under a name that begins with .batchfix.

    Raises
    ------
    error
        The path is a file, lies in no directory, or cannot be written.
    """
    target = check_place(path, error, what, directory=True)
    temporary, old = (target.with_name(f".batchfix-{secrets.token_hex(8)}.{end}") for end in ("part", "old"))
    try:
        temporary.mkdir()
        yield temporary
        for each in (temporary, *temporary.rglob("*")):
            _force_to_disk(each)
        if target.exists():
            target.rename(old)
        try:
            temporary.rename(target)
        except BaseException:
            if old.exists():
                old.rename(target)
            raise
    except OSError as refusal:
        raise error(
            f"{str(path)!r} cannot be written: {refusal.strerror or refusal}. Nothing there was changed; "
            "free the space or choose another place."
        ) from refusal
    finally:
        _remove(temporary)
        if target.exists():
            _remove(old)


def _remove(directory: Path) -> None:
    """Remove a directory in which threads may still be making others, as zarr's do after a write has failed."""
    for wait in (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4):
        shutil.rmtree(directory, ignore_errors=True)
        if not directory.exists():
            return
        time.sleep(wait)  # for those threads to end: nothing tells when they do
    shutil.rmtree(directory, ignore_errors=True)


def _force_to_disk(path: PathLike) -> None:
    """What is written of a file, or of the names in a directory, outlives a loss of power."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except PermissionError:  # a directory, on Windows
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def check_place(path: PathLike, error: type[BatchfixError], what: str = "output", *, directory: bool = False) -> Path:
    """Where a file (or a directory) would be written, links followed; an `error` if it cannot be.

    Cheap, so that long work can ask before it starts.
    """
    target = Path(os.path.realpath(path))
    if directory and target.exists() and not target.is_dir():
        raise error(f"The {what} must be a directory, and {str(path)!r} is a file. Choose another name.")
    if target.is_dir() and not directory:
        raise error(f"The {what} must be a file, and {str(path)!r} is a directory. Add a file's name.")
    if target.exists() and not target.is_file() and not directory:
        raise error(f"The {what} must be a plain file, and {str(path)!r} is not. Choose another name.")
    if not target.parent.is_dir():
        raise error(f"The {what}'s directory must exist, and {str(target.parent)!r} does not. Make it first.")
    if not os.access(target if target.exists() else target.parent, os.W_OK):
        raise error(f"{str(path)!r} may not be written. Change its permissions or choose another place.")
    return target
