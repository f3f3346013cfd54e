"""Provenance: what was done to the matrices of an AnnData, kept in its `uns["batchfix"]`.

A record a correction, under the name of its result (key_added, a layer, an entry of obsm, or "X"):

    adata.uns["batchfix"]["combat"] = {
        "corrector": "ComBat", "parameters": {...}, "batchfix_version": "0.1.0", "key": "batch", "keep": "group, age",
        "corrected": "adata.X", "result": "adata.layers['combat']", "n_obs": 90, "n_vars": 200, "run": 1,
    }

A matrix that was corrected in its place once more has a second record, "X 2". All is text, numbers and dicts, which
`write_h5ad` and `write_zarr` take; `run` counts them in order, as files do not keep one.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from numbers import Integral
from typing import Any

import numpy as np

from ...exceptions import BatchfixError
from ..sources.obs import Place, kind

NAME = "batchfix"


def check(found: Any) -> None:
    """Refuse something else than our records, or None, under our name.

    Raises
    ------
    BatchfixError
        It is not what this module writes.
    """
    if found is not None and not (isinstance(found, Mapping) and all(map(_is_record, found.values()))):
        raise BatchfixError(
            f"adata.uns['batchfix'] must hold records of earlier corrections, got {kind(found)}. Give it another name: "
            "adata.uns['mine'] = adata.uns.pop('batchfix')."
        )


def records(
    old: Mapping[str, Any] | None,
    corrector: Any,
    shape: tuple[int, ...],
    *,
    key: Any,
    keep: Any,
    read: Place,
    written: Place,
) -> dict[str, dict[str, Any]]:
    """Return old records and one of a correction that is about to be written.

    Old records of what lay in the place that is written are left out, unless it is what was corrected.

    Examples
    --------
    >>> from batchfix import ComBat
    >>> X = Place("X")
    >>> old = records(None, ComBat(), (2, 3), key="run", keep=None, read=X, written=X)
    >>> new = records(old, ComBat(), (2, 3), key="day", keep=["age"], read=X, written=X)
    >>> [(name, each["key"], each["keep"], each["run"]) for name, each in new.items()]
    [('X', 'run', '', 1), ('X 2', 'day', 'age', 2)]
    """
    check(old)
    old = {str(name): dict(each) for name, each in (old or {}).items()}
    run = 1 + max((int(each["run"]) for each in old.values()), default=0)
    if read != written:
        old = {name: each for name, each in old.items() if each.get("result") != str(written)}
    base = name = written.name or "X"
    k = 2
    while name in old:
        name, k = f"{base} {k}", k + 1
    return old | {
        name: {
            "corrector": type(corrector).__name__,
            "parameters": {each: _plain(value) for each, value in corrector.get_params(deep=False).items()},
            "batchfix_version": version("batchfix"),
            "key": _names(key),
            "keep": _names(keep),
            "corrected": str(read),
            "result": str(written),
            "n_obs": int(shape[0]),
            "n_vars": int(shape[1]),
            "run": run,
        }
    }


def _is_record(found: Any) -> bool:
    return isinstance(found, Mapping) and isinstance(found.get("run"), Integral)


def _plain(value: Any) -> Any:
    """Numbers and text as they are, None and all else as Python writes it."""
    if isinstance(value, np.generic):
        value = value.item()
    return value if isinstance(value, bool | int | float | str) else " ".join(repr(value).split())


def _names(given: Any) -> str:
    if given is None:
        return ""
    return given if isinstance(given, str) else ", ".join(str(name) for name in given)
