"""Models: what the command saves beside a corrector, so that new tables need not be described again."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..adapters.storage import KIND, SavedModel, save_model
from ..adapters.storage.archive import ArchiveError, is_archive
from ..atomic import check_place
from .names import InputError
from .summary import wrote


def add_save_option(parser: argparse.ArgumentParser) -> None:
    """Register --save-model."""
    parser.add_argument(
        "--save-model",
        metavar="FILE",
        help="keep what was learned in this file, for batchfix apply with new samples; replaces an older model and "
        "nothing else",
    )


def check_save(args: argparse.Namespace) -> None:
    """Refuse, before the work, a place where the model cannot be written, or where it would replace what is used."""
    if args.save_model is None:
        return
    check_place(args.save_model, ArchiveError, "model")
    check_differ(args.save_model, "the model", [args.input, args.metadata, args.groups, args.output])
    if Path(args.save_model).exists() and not is_archive(args.save_model, KIND):
        raise InputError(
            f"the model may replace an older one and nothing else, and {args.save_model!r} holds something else; give "
            "another name, or remove that file"
        )


def check_differ(path: str, what: str, others: Sequence[str | None]) -> None:
    """Refuse to write to a file that is something else too, by whatever name or link."""
    for other in others:
        if other is None:
            continue
        if os.path.realpath(path) == os.path.realpath(other) or (
            Path(path).exists() and Path(other).exists() and Path(path).samefile(other)
        ):
            same = "is read or written here too" if path == other else f"is the same file as {other!r}"
            raise InputError(f"{what} must have a file of its own, and {path!r} {same}; give another name")


def save_as_asked(args: argparse.Namespace, corrector: Any, **notes: Any) -> None:
    """Write the model where --save-model says, with the method and the roles of columns, and say so."""
    if args.save_model is None:
        return
    existed = Path(args.save_model).exists()
    save_model(corrector, args.save_model, notes={"method": args.method} | notes)
    if not args.json:
        print(wrote(args.save_model, existed))


def noted(saved: SavedModel, role: str) -> list[str]:
    """Names of columns that were written beside a model."""
    names = saved.notes.get(role, [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"the notes of a model must be names of columns, and those of {role!r} are not; save it again")
    return names
