"""Archives: one file of JSON and arrays, whole or not there at all, and nothing that could run.

A manifest (what JSON can hold) and numpy arrays flow in; a zip file comes out, its members stored as they are:

    manifest.json     {"kind": "batchfix model", "format_version": 1, "arrays": n, ...}
    a0.npy, a1.npy, ...

`numpy.load(path, allow_pickle=False)["a0"]` and `unzip` read it too. The comment at its very end holds the SHA-256 of
all bytes before it, so that a file cut short, or one with a single bit changed, is refused. That finds damage; who may
write the file can also write the digest. Hence nothing in it is trusted either: its members are those listed above and
not compressed, its arrays plain numbers, text or dates, and as long as their headers say.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ...atomic import PathLike, replacing
from ...exceptions import BatchfixError

MANIFEST = "manifest.json"
_MARK = b"batchfix sha256 "
_COMMENT = len(_MARK) + 64
_CHUNK = 1 << 20
# What may go wrong in the parsers of zip, JSON and npy when a file was made to mislead them.
_PARSING = (
    *(zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OverflowError),
    *(struct.error, ValueError, TypeError, KeyError, SyntaxError, RecursionError, MemoryError),
)


class ArchiveError(BatchfixError):
    """A file of arrays cannot be read or written, or is not what it should be."""


def write_archive(path: PathLike, kind: str, version: int, manifest: dict[str, Any], arrays: Sequence[Any]) -> None:
    """Write a manifest and arrays to one file, which appears under its name only when it is whole.

    Equal content gives equal bytes.

    Parameters
    ----------
    path : where to; an old file is replaced at the end, in one step
    kind : what the file is, such as "batchfix model"
    version : of the format of this kind
    manifest : what JSON can hold
    arrays : arrays of numbers, text or dates

    Raises
    ------
    ArchiveError
        The path is none, or the file cannot be written.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "m"
    >>> write_archive(path, "batchfix example", 1, {"name": "moments"}, [np.arange(3)])
    >>> manifest, arrays = read_archive(path, "batchfix example", 1)
    >>> manifest["name"], arrays[0].tolist()
    ('moments', [0, 1, 2])
    """
    _check_path(path, kind)
    head = {"kind": kind, "format_version": version, "arrays": len(arrays)} | manifest
    with replacing(path, ArchiveError) as out:
        with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as members:
            # a member without a date of its own has 1980's first day
            members.writestr(zipfile.ZipInfo(MANIFEST), json.dumps(head, indent=1, allow_nan=False))
            for at, array in enumerate(arrays):
                with members.open(zipfile.ZipInfo(_member(at)), "w", force_zip64=array.nbytes > 1 << 30) as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)
            members.comment = bytes(_COMMENT)
        size = out.tell()
        digest = _digest(out, size - _COMMENT)
        out.seek(size - _COMMENT)
        out.write(_MARK + digest)


def is_archive(path: PathLike, kind: str) -> bool:
    """Whether a file is empty, or begins and ends as an archive of a kind; what is damaged between is one too.

    Raises
    ------
    OSError
        It cannot be read.
    """
    with Path(path).open("rb") as file:
        head = file.read(256)
        file.seek(max(0, file.seek(0, os.SEEK_END) - _COMMENT))
        return not head or (f'"kind": {json.dumps(kind)}'.encode() in head and file.read().startswith(_MARK))


def read_archive(path: PathLike, kind: str, version: int) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Read what `write_archive` wrote: the manifest and the arrays, in new memory.

    Raises
    ------
    ArchiveError
        The path is none, no such file, another kind of file, a later version of the format, a damaged file, or one that
        was made to mislead.
    """
    _check_path(path, kind)
    name = repr(str(path))
    try:
        with Path(path).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            _check_whole(file, size, name, kind)
            try:
                return _content(file, name, kind, version)
            except ArchiveError:
                raise
            except _PARSING as error:
                raise ArchiveError(
                    f"{name} must be a {kind} as batchfix writes it, and is not ({_said(error)}). Nothing of it was "
                    "used; save it again."
                ) from error
    except FileNotFoundError:
        raise ArchiveError(f"{name} does not exist (looked in {str(Path.cwd())!r}). Check its name.") from None
    except IsADirectoryError:
        raise ArchiveError(f"{name} must be a file, and is a directory. Give the {kind} inside it.") from None
    except OSError as error:
        raise ArchiveError(f"{name} cannot be read: {error.strerror or error}.") from error


def _check_path(path: Any, kind: str) -> None:
    if not isinstance(path, str | os.PathLike):
        raise ArchiveError(f"The place of a {kind} must be a path, got {path!r:.80}. Give the name of a file.")


def _member(at: int) -> str:
    return f"a{at}.npy"


def _digest(file: BinaryIO, size: int) -> bytes:
    """SHA-256 of the first `size` bytes, in hexadecimal."""
    file.seek(0)
    found = hashlib.sha256()
    while size and (chunk := file.read(min(size, _CHUNK))):
        found.update(chunk)
        size -= len(chunk)
    return found.hexdigest().encode()


def _check_whole(file: BinaryIO, size: int, name: str, kind: str) -> None:
    """The digest at the end must be that of what stands before it."""
    if size > _COMMENT:
        start = file.read(2)
        file.seek(size - _COMMENT)
        comment = file.read(_COMMENT)
        if comment.startswith(_MARK):
            if comment[len(_MARK) :] == _digest(file, size - _COMMENT):
                return
            raise ArchiveError(f"{name} is damaged: its content is not what was written. Copy it again, or save again.")
        if start == b"PK":
            raise ArchiveError(
                f"{name} must end with the digest that batchfix writes, and does not: it is cut short, or another "
                "program made it. Copy it again, or save again."
            )
    raise ArchiveError(f"{name} must be a {kind}, and is none. Give the file that was saved.")


def _content(file: BinaryIO, name: str, kind: str, version: int) -> tuple[dict[str, Any], list[np.ndarray]]:
    with zipfile.ZipFile(file) as members:
        infos = members.infolist()
        if any(info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 for info in infos):
            raise ArchiveError(f"{name} must hold its members as they are, and some are compressed. Save it again.")
        if MANIFEST not in {info.filename for info in infos}:
            raise ArchiveError(f"{name} must be a {kind}, and has no {MANIFEST}. Give the file that was saved.")
        manifest = json.loads(members.read(MANIFEST), parse_constant=_refuse_constant)
        _check_head(manifest, name, kind, version)
        wanted = [MANIFEST, *(_member(at) for at in range(min(manifest["arrays"], len(infos))))]
        if sorted(info.filename for info in infos) != sorted(wanted) or manifest["arrays"] != len(infos) - 1:
            raise ArchiveError(
                f"{name} must hold {MANIFEST} and the arrays it counts, and holds other members. Save it again."
            )
        return manifest, [_array(members, info) for info in (members.getinfo(each) for each in wanted[1:])]


def _check_head(manifest: Any, name: str, kind: str, version: int) -> None:
    if not isinstance(manifest, dict) or type(manifest.get("arrays")) is not int:
        raise ArchiveError(
            f"{name} must be a {kind}, and its {MANIFEST} does not say so. Give the file that was saved."
        )
    if manifest.get("kind") != kind:
        raise ArchiveError(f"{name} must be a {kind}, and is a {manifest.get('kind')!r}. Give a file of that kind.")
    found = manifest.get("format_version")
    if type(found) is not int or found < 1:
        raise ArchiveError(f"{name} must say the version of its format, and says {found!r}. Save it again.")
    if found > version:
        by = manifest.get("batchfix_version")
        raise ArchiveError(
            f"{name} has format version {found} (written by batchfix {by}), and this batchfix reads up to {version}. "
            "Upgrade batchfix, or save it with this one."
        )


def _array(members: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """An array whose header agrees with the bytes there are, before any memory is asked for."""
    with members.open(info) as member:
        shape, fortran, dtype = _header(member)
        if dtype.kind not in "biufUSMm" or dtype.hasobject:
            raise ValueError(f"{info.filename} holds {dtype}")
        if not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError(f"{info.filename} has the shape {shape}")
        count = math.prod(shape)
        if info.file_size - member.tell() != count * dtype.itemsize or (count and not dtype.itemsize):
            raise ValueError(f"{info.filename} is not as long as its header says")
        data = member.read()
    flat = np.frombuffer(data, dtype=dtype).copy() if count else np.empty(0, dtype=dtype)
    return flat.reshape(shape, order="F" if fortran else "C")


def _header(member: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    major, minor = np.lib.format.read_magic(member)
    if (major, minor) not in ((1, 0), (2, 0)):
        raise ValueError(f"npy version {major}.{minor}")
    read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(member)
    return shape, fortran, dtype


def _refuse_constant(word: str) -> Any:
    raise ValueError(f"JSON has no {word}")


def _said(error: BaseException) -> str:
    """What an error says, on one line of moderate length."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= 120 else f"{text[:117]}..."
