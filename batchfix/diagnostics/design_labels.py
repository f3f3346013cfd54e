"""Design labels: batch, what is kept and what is to go, read and refused as correctors do it, without a table.

Labels in any container flow in, aligned by index; plain columns and the statistics of the design flow out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..core.design import Column, Factor, encode, repr_label
from ..core.groups import Groups, group_moments
from ..core.statistics import BatchStatistics
from ..correctors import columns as kinds
from ..correctors import inputs
from ..exceptions import AlignmentError, BatchfixError, TooFewSamplesError


@dataclass(frozen=True)
class DesignLabels:
    """Batches as codes, and the other columns with their values; further batch factors come first among these."""

    batch: inputs.Labels
    columns: tuple[tuple[Column, np.ndarray], ...]

    @classmethod
    def read(
        cls, batch: Any, keep: Any, nuisance: Any, factors: Sequence[Any] | None, numbers: Sequence[Any] | None
    ) -> DesignLabels:
        """Read labels, and refuse those of which nothing can be forecast."""
        if keep is None:
            raise BatchfixError("keep must hold what is to survive, got None. Pass the labels that will be compared.")
        n = _count_rows(batch)
        index = next((v.index for v in (batch, keep) if isinstance(v, pd.Series | pd.DataFrame)), None)
        try:
            labels = inputs.batch_factors(batch, index, n)[1]
            found, crowded = _find({"keep": keep, "nuisance": nuisance}, index, n)
        except AlignmentError as error:  # it speaks of X, and here the rows are those of batch
            raise AlignmentError(re.sub(r"(?<![\w'])X(?!\w)", "batch", str(error))) from error
        as_factors = kinds.declared("keep_factors", factors or (), found)
        as_numbers = kinds.declared("keep_numbers", numbers or (), found)
        both = sorted(as_factors & as_numbers)
        if both:
            raise BatchfixError(f"A column must be a factor or a number, got {both} named as both. Drop one.")
        for name in crowded:
            if name not in as_factors | as_numbers:
                kinds.check_codes(name, found[name][1])
        first, *further = [inputs.Labels.of(each) for each in labels]
        _check_batches(first, n)
        columns: list[tuple[Column, np.ndarray]] = [
            (Factor(f"batch[{k}]", each.values, "batch"), each.values[each.codes]) for k, each in enumerate(further, 1)
        ]
        for name, (role, values) in found.items():
            column, plain = kinds.as_column(name, values, role, as_factors, as_numbers)
            if role == "keep":
                _check_kept(column, plain)
            columns.append((column, plain))
        return cls(first, tuple(columns))

    def statistics(self, only: str | None = None) -> BatchStatistics:
        """What correctors would learn from these labels; of one column alone, if it is named."""
        columns = tuple(column for column, _ in self.columns if only in (None, column.name))
        n = len(self.batch.codes)
        z = encode(columns, {column.name: values for column, values in self.columns}, n)
        moments = group_moments(np.zeros((n, 0)), Groups.of(self.batch.codes, len(self.batch.values)), z)
        return BatchStatistics(self.batch.values, columns, moments, float(np.finfo(np.float64).eps))


def _find(given: Mapping[str, Any], index: pd.Index | None, n: int) -> tuple[dict[str, tuple[str, Any]], list[str]]:
    """Role and values by name; and the names of those that share an array's dtype."""
    found: dict[str, tuple[str, Any]] = {}
    crowded: list[str] = []
    for role, values in given.items():
        if isinstance(values, str):
            raise BatchfixError(f"{role} must hold a value for each sample, got {values!r}. Pass the column itself.")
        passed = inputs.as_columns(values, index, n, role)
        if len(passed) > 1 and not inputs.is_named(values):
            crowded += passed
        twice = [name for name in passed if name in found]
        if twice:
            raise BatchfixError(f"Column {twice[0]!r} must be kept or removed, got both.")
        found |= {name: (role, column) for name, column in passed.items()}
    if not any(role == "keep" for role, _ in found.values()):
        raise BatchfixError("keep must hold what is to survive, got a table without columns. Pass a column of labels.")
    return found, crowded


def _count_rows(batch: Any) -> int:
    if isinstance(batch, Mapping):
        batch = next(iter(batch.values()), ())
    if isinstance(batch, str) or not hasattr(batch, "__len__") or getattr(batch, "ndim", 1) == 0:
        raise BatchfixError(f"batch must hold a label for each sample, got {batch!r}. Pass the column of labels.")
    if len(batch) == 0:
        raise BatchfixError("batch must hold a label for each sample, got none. Pass the column of labels.")
    return len(batch)


def _check_batches(batch: inputs.Labels, n: int) -> None:
    if len(batch.values) == 1:
        raise BatchfixError(
            f"There must be two batches to correct between, got only {repr_label(batch.values[0])}: there is nothing "
            "to correct, and no cost to forecast. Pass the labels that tell the batches apart."
        )
    if len(batch.values) == n:
        raise TooFewSamplesError(  # as in the correctors' fit
            f"Some batch must have at least two rows, got {n} batches of one row each. "
            "Check that batch holds batches and not sample ids."
        )


def _check_kept(column: Column, values: np.ndarray) -> None:
    distinct = column.levels if isinstance(column, Factor) else np.unique(values)
    if len(distinct) == 1:
        raise BatchfixError(
            f"What is kept must differ between samples to be compared, got {repr_label(distinct[0])} in every row of "
            f"{column.name!r}. Leave it out, or name another."
        )
    if isinstance(column, Factor) and len(distinct) == len(values):
        raise TooFewSamplesError(
            f"Samples must share levels for these to be compared, got {len(distinct)} levels of {column.name!r} in "
            f"{len(values)} rows. Check that it holds no sample ids; if it was measured, give it as a number."
        )


def python_values(labels: np.ndarray) -> list[Any]:
    """Labels as Python's own values; dates as text."""
    if labels.dtype.kind == "M":
        return [str(np.datetime_as_string(each, unit="auto")) for each in labels]
    return list(labels.tolist())
