"""Tables: what a display is to show side by side, read once and aligned.

A table before, and one or several after (or a corrector to make one), flow in; arrays of the same samples and features
flow out by name, with labels in their order.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from ...core.design import Factor
from ...correctors import columns as kinds
from ...correctors import inputs
from ...exceptions import BatchfixError
from ..correction import KEYS, prepare
from ..samples import Samples, read_columns, read_labels, read_samples


@dataclass(frozen=True)
class Column:
    """What is known of each sample: levels and codes of a factor, or a number.

    Attributes
    ----------
    design : array (n, q)
        As columns of a design.
    levels : list, or None for a number
    codes : array (n,) of int, or None for a number
    values : array (n,) of float, or None for a factor
    """

    name: str
    design: np.ndarray
    levels: list[Any] | None
    codes: np.ndarray | None
    values: np.ndarray | None


def named(before: Any, after: Any) -> dict[str, Any]:
    """Tables by name; `after` is a table, or several by name.

    Raises
    ------
    BatchfixError
        A name is taken.
    """
    if after is None:
        return {"before": before}
    others = {str(name): table for name, table in after.items()} if isinstance(after, Mapping) else {"after": after}
    if "before" in others:
        raise BatchfixError("A table in after must have another name than 'before', got that one. Rename it.")
    return {"before": before, **others}


def read(tables: Mapping[str, Any], what: str) -> dict[str, Samples]:
    """Tables of the same samples and features, in the first one's order; `what` needs every value, if it is given.

    Raises
    ------
    BatchfixError
        They do not have the same rows, or the same columns.
    """
    found: dict[str, Samples] = {}
    for name, table in tables.items():
        if not found:
            found[name] = read_samples(table, what, name=name)
            continue
        first = next(iter(found.values()))
        if isinstance(table, pd.DataFrame):
            table = _in_order(table, first, name)
        here = read_samples(table, what, name=name)
        if here.values.shape != first.values.shape:
            raise BatchfixError(
                f"{name} must be the same samples and features as {next(iter(found))}, {first.values.shape}, got shape "
                f"{here.values.shape}. Pass the whole corrected table."
            )
        found[name] = here
    return found


def frames(tables: Mapping[str, Any], what: str) -> tuple[dict[str, Any], pd.Index]:
    """Tables as `read` aligns them, all with the first one's index if it has one; and the features' names."""
    found = read(tables, what)
    first = next(iter(found.values()))
    if first.index is None:
        return {name: each.values for name, each in found.items()}, first.features
    return {
        name: pd.DataFrame(each.values, index=first.index, columns=first.features) for name, each in found.items()
    }, first.features


def _in_order(table: pd.DataFrame, first: Samples, name: str) -> pd.DataFrame:
    """A table with rows and columns in the first one's order, where both name them."""
    if first.index is not None and len(table):
        table = inputs.align(table, first.index, len(first), name)
    columns = pd.Index(table.columns)
    if columns.equals(first.features) or isinstance(first.features, pd.RangeIndex):
        return table
    if columns.is_unique and first.features.isin(columns).all():
        return table[list(first.features)]
    lost = first.features[~first.features.isin(columns)]
    if len(lost) == len(first.features):
        return table  # renamed throughout: taken by position
    raise BatchfixError(
        f"{name} must have the features of the table before, got none called "
        f"{lost[0] if len(lost) else 'by a name of its own'!r}. Pass the whole corrected table."
    )


def columns_of(samples: Samples, batch: Any, keep: Any) -> dict[str, Column]:
    """Batch first, then each kept column; text, bool and category are factors, fractions are numbers."""
    labels = read_labels(batch, samples, "batch")
    design = labels.codes[:, None] == np.arange(len(labels.values))
    found = {"batch": Column("batch", design.astype(float), list(labels.values.tolist()), labels.codes, None)}
    designs = read_columns(keep, samples, "keep")
    plain = inputs.as_columns(keep, samples.index, len(samples), "keep")
    for name, design in designs.items():
        if name == "batch":
            raise BatchfixError("A column of keep must have another name than 'batch', got that one. Rename it.")
        found[name] = _column(name, plain[name], design)
    return found


def _column(name: str, values: Any, design: np.ndarray) -> Column:
    kind, read_values = kinds.as_column(name, values, "keep", (), ())
    if isinstance(kind, Factor):
        labels = inputs.Labels.of(inputs.as_labels(values, name))
        return Column(name, design, list(labels.values.tolist()), labels.codes, None)
    return Column(name, design, None, None, np.asarray(read_values, dtype=np.float64))


def corrected(corrector: Any, X: Any, batch: Any, keep: Any) -> tuple[Any, Any, Any, Any]:
    """Features of X as they are and as a corrector gives them back, with batch and keep.

    A fitted corrector transforms; of any other a clone is fitted to X first. Labels that its keys find in the table
    (`batch_key`, `keep_keys`) need not be given.
    """
    correction, table, _ = prepare(corrector, X, batch, keep)
    batch = table.batch if batch is None else batch
    keep = table.keep if keep is None else keep
    if not _is_fitted(corrector):
        return table.X, correction.whole(table), batch, keep
    accepted = inspect.signature(corrector.transform).parameters
    open_ended = any(each.kind is each.VAR_KEYWORD for each in accepted.values())
    parameters = corrector.get_params() if hasattr(corrector, "get_params") else {}
    passed = {}
    for name, values in (("batch", batch), ("keep", keep)):
        by_key = any(value is not None for key, value in parameters.items() if KEYS.get(key.split("__")[-1]) == name)
        if values is not None and (name in accepted or open_ended) and not by_key:
            passed[name] = values
    return table.X, corrector.transform(X, **passed), batch, keep


def _is_fitted(corrector: Any) -> bool:
    if not hasattr(corrector, "fit"):
        return False
    try:
        check_is_fitted(corrector)
    except NotFittedError:
        return False
    return True
