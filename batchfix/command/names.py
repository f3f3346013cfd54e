"""Names of columns, as options give them and as files have them."""

from __future__ import annotations

import csv
import shlex
from collections.abc import Sequence

from ..core.naming import nearest, some
from ..exceptions import BatchfixError


class InputError(BatchfixError):
    """The command was asked for something that its files or options do not allow."""


def split(options: Sequence[str] | None, columns: Sequence[str]) -> list[str]:
    """Column names out of comma-separated lists; a name that is a column stays whole.

    Examples
    --------
    >>> split(["run, age", "a,b"], ["run", "age", "a,b"])
    ['run', 'age', 'a,b']
    """
    names: dict[str, None] = {}
    known = set(columns)
    for option in options or []:
        found = [option] if option in known else next(csv.reader([option]), [])
        names.update(dict.fromkeys(name if name in known else name.strip() for name in found))
    return [name for name in names if name]


def joined(names: Sequence[str]) -> str:
    """Names as an option's value that `split` and a shell read back.

    Examples
    --------
    >>> print(joined(["site no", "a,b"]))
    'site no,"a,b"'
    """
    return shlex.quote(",".join(f'"{name}"' if "," in name else name for name in names))


def check_name(name: str, header: Sequence[str], path: str, *, hint: str = "") -> None:
    """Refuse a name that is not that of a column beside the ids; the hint is given where no name is near."""
    if name in header[1:]:
        return
    if name == header[0]:
        raise InputError(
            f"a named column must be beside the ids, and {name!r} is the first column of {path!r}, which holds them; "
            "put a column of unique ids first"
        )
    near = nearest(name, header[1:])
    raise InputError(
        f"{path!r} must have the columns you name, and has no {name!r}{near}; "
        f"its columns are {some(header[1:], 8)}{'' if near else hint}"
    )
