"""Saved models without batches: a row and its groups, a column and its past, log-ratios of a row."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import pandas as pd

from ..adapters.storage import SavedModel
from ..adapters.tables import MISSING, Table, write_table
from ..core.naming import some
from .features import features_of, in_order
from .labels import label
from .models import noted
from .names import InputError
from .needs import as_known
from .reading import read_numbers
from .steps import filled
from .terminal import progress_bar

OF_BATCHES = ("batch", "metadata", "samples", "unknown")
"""Options that speak of batches, or of the samples that are in them."""


def apply_peers(args: argparse.Namespace, saved: SavedModel, header: list[str], ignored: list[str]) -> dict[str, Any]:
    """Correct rows; what was done, for a person or a program."""
    corrector = saved.corrector
    for name in OF_BATCHES:
        if getattr(args, name) is not None:
            raise InputError(f"--{name} speaks of batches, and a {type(corrector).__name__} has none; leave it out")
    if getattr(corrector, "_mode", None) == "membership":
        raise InputError(
            "the model needs the group of every cell (membership), which no table holds; use it from Python"
        )
    labels = _label_columns(corrector)
    ignored = [*ignored, *(name for name in noted(saved, "ignore") if name in header[1:])]
    wanted, width = features_of(corrector)
    if labels and wanted is None:
        raise InputError("the model finds its keys by position in an array, and files have names; use it from Python")
    for name in labels:
        if name not in header:
            raise InputError(f"{args.input!r} must have the column {name!r}, by which the model tells rows; add it")
    text = [name for name in dict.fromkeys([*labels, *ignored]) if name in header[1:]]
    features = None if wanted is None else [name for name in wanted if name not in labels]
    found = [name for name in header[1:] if name not in text]
    order = in_order(args.input, found, features, width, what="column")
    table = read_numbers(args.input, text, unique_ids=not labels)
    values = pd.DataFrame(table.numbers, columns=table.number_columns)[order]
    for name in labels:
        values[name] = _labels(corrector, table, name)
    if wanted is not None:
        values = values[wanted]
    corrected = corrector.transform(_indexed(corrector, values, table, args.input))
    frame = pd.DataFrame(
        np.asarray(corrected),
        columns=[str(name) for name in corrector.get_feature_names_out(None if labels or wanted is None else order)],
    )
    with progress_bar("writing") as progress:
        write_table(filled(table, frame, in_rows=True), args.output, progress=progress)
    return {"rows": len(values), "features": len(order), "carried": list(table.text)}


def _label_columns(corrector: Any) -> list[str]:
    """Columns of dates, groups and symbols, which are no features."""
    named = [getattr(corrector, name, None) for name in ("within", "time", "by", "symbol")]
    keys = [key for each in named if each is not None for key in ([each] if np.ndim(each) == 0 else list(each))]
    if any(not isinstance(key, str) for key in keys):
        raise InputError(f"the model must tell rows by named columns, and does by {some(keys)}; use it from Python")
    return keys


def _labels(corrector: Any, table: Table, name: str) -> Any:
    cells = table.ids if name == table.id_name else table.text[name]
    if name == getattr(corrector, "time", None):
        return _times(corrector, cells, f"column {name!r}")
    labels = pd.Series([None if cell.strip() in MISSING else label(cell) for cell in cells], dtype=object)
    known = getattr(corrector, "symbols_", None)
    return labels if known is None else as_known(labels, known, name)


def _indexed(corrector: Any, values: pd.DataFrame, table: Table, path: str) -> Any:
    """The table with the index, or without the names, that the model wants."""
    if getattr(corrector, "time_kind_", None) is not None and corrector.time is None:
        values.index = pd.Index(_times(corrector, table.ids, f"the first column of {path!r}"))
    if hasattr(corrector, "feature_names_in_"):
        return values
    numbered = corrector._numbered
    return values.to_numpy() if numbered is None else values.set_axis(numbered, axis=1)


def _times(corrector: Any, cells: list[str], where: str) -> Any:
    """Cells as times of the kind that the model knows."""
    kind = corrector.time_kind_
    try:
        if kind == "number":
            return np.array([int(cell) if cell.strip().lstrip("+-").isdigit() else float(cell) for cell in cells])
        if kind.startswith("period"):
            return pd.PeriodIndex(cells, freq=kind[len("period[") : -1])
        if kind == "timedelta":
            return pd.to_timedelta(cells)
        return pd.DatetimeIndex(pd.to_datetime(cells, format="ISO8601", utc=kind.endswith("UTC")))
    except ValueError:
        raise InputError(
            f"{where} must hold times of the kind that the model knows ({kind}), and holds {some(cells, 3)}; write "
            "them alike"
        ) from None
