"""Rows: a table and its labels, found wherever they are, as plain arrays.

`RowReader` is the part of a corrector that resolves its key parameters and the arguments of a call, and checks
names and counts against fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_array, validate_data

from ..core.design import Column, Factor
from ..core.statistics import BatchStatistics
from ..exceptions import BatchfixError
from . import inputs
from .tables import Key, plain, take_keys


@dataclass(frozen=True)
class Rows:
    """A table once its labels are found: plain arrays, and what to give back."""

    X: np.ndarray
    batch: list[inputs.Labels] | None
    columns: dict[str, tuple[Column, np.ndarray]]
    source: Any

    @property
    def first(self) -> inputs.Labels:
        """Batch labels, or one label for all rows where there are none."""
        if self.batch is None:
            return inputs.Labels(np.zeros(len(self.X), dtype=np.intp), np.array(["all rows"]))
        return self.batch[0]


def names_in(value: Sequence[Any] | None) -> list[Any]:
    """A parameter that lists names, of any kind of sequence, as a list."""
    return [] if value is None else list(value)


class RowReader(BaseEstimator):
    """Finds the labels of rows: in arguments, columns, index levels or column positions."""

    batch_key: Key | Sequence[Key] | None
    keep_keys: Sequence[Key] | None
    keep_factors: Sequence[str] | None
    keep_numbers: Sequence[str] | None
    keep_y: bool

    statistics_: BatchStatistics
    n_features_in_: int
    _features: slice | np.ndarray
    _consumed: list[Any]

    def _keys(self) -> dict[str, list[Key]]:
        """Keys by what they name."""
        key = self.batch_key
        batch: list[Key] = []
        if isinstance(key, str | int | np.integer):
            batch = [key]
        elif key is not None:
            batch = list(key)
        return {"batch": batch, "keep": names_in(self.keep_keys)}

    def _resolve(
        self,
        X: Any,
        y: Any,
        labels: dict[str, Any],
        *,
        reset: bool,
        inverse: bool = False,
    ) -> Rows:
        """Find the labels of the rows, align them, and turn the rest of X into floats."""
        keys = self._keys()
        for what, named in keys.items():
            if named and labels.get(what) is not None and not inverse:
                raise BatchfixError(
                    f"{what} must come from the argument or from {what}_key{'s' if what != 'batch' else ''}, got "
                    f"both ({named!r}). Drop one."
                )
        source = X
        flat = [key for named in keys.values() for key in named]
        optional = [] if reset else [k for what in keys if what != "batch" for k in keys[what]]
        if inverse and flat:
            X, taken = self._take_for_inverse(X, flat)
        else:
            X, taken = take_keys(X, flat, optional)
        index = source.index if isinstance(source, pd.DataFrame) else None
        values = self._validate(source, X, flat, reset=reset, inverse=inverse)
        n = len(values)
        batch = labels.get("batch")
        if keys["batch"] and batch is None and all(k in taken for k in keys["batch"]):
            batch = [inputs.as_labels(taken[k], f"{k!r}") for k in keys["batch"]]
        elif batch is not None:
            batch = inputs.as_batch(batch, index, n)
        found: dict[str, tuple[str, Any]] = {}
        for what in keys:
            if what == "batch":
                continue
            by_name = {str(k): taken[k] for k in keys[what] if k in taken}
            by_name |= inputs.as_columns(labels.get(what), index, n, what)
            for name, column in by_name.items():
                if name in found:
                    raise BatchfixError(f"Column {name!r} must be kept or removed, got both.")
                found[name] = (what, column)
        columns = self._columns(found, batch, reset=reset)
        if self.keep_y and (reset or y is not None):
            if "y" in columns:
                raise BatchfixError("keep_y=True keeps fit's y under the name 'y', got another column 'y'. Rename it.")
            columns["y"] = inputs.y_column(y, index, n)
        return Rows(values, self._batch_labels(batch), columns, source)

    def _batch_labels(self, batch: list[np.ndarray] | None) -> list[inputs.Labels] | None:
        if batch is None:
            return None
        if len(batch) != 1:
            raise BatchfixError(
                f"batch must be one column of labels, got {len(batch)}. LinearCorrector takes several batch factors."
            )
        return [inputs.Labels.of(batch[0])]

    def _columns(
        self,
        found: dict[str, tuple[str, Any]],
        batch: list[np.ndarray] | None,
        *,
        reset: bool,
    ) -> dict[str, tuple[Column, np.ndarray]]:
        """Decide in fit what each column is; afterwards read it as what it was then."""
        if reset:
            return {
                name: inputs.as_column(name, values, what, names_in(self.keep_factors), names_in(self.keep_numbers))
                for name, (what, values) in found.items()
            }
        columns: dict[str, tuple[Column, np.ndarray]] = {}
        for column in self.statistics_.columns:
            if column.name not in found:
                continue
            _, values = found[column.name]
            if isinstance(column, Factor):
                data = inputs.as_labels(values, f"{column.name!r}")
                own = Factor(column.name, inputs.Labels.of(data).values, column.role, column.loose)
                columns[column.name] = (own, data)
            else:
                columns[column.name] = (column, inputs.as_numbers(values, f"{column.name!r}"))
        stray = [name for name in found if name not in {c.name for c in self.statistics_.columns}]
        if stray:
            known = [c.name for c in self.statistics_.columns]
            raise BatchfixError(f"Kept columns must be those of fit {known}, got {stray[0]!r} too.")
        return columns

    def _validate(self, source: Any, X: Any, keys: list[Key], *, reset: bool, inverse: bool = False) -> np.ndarray:
        """Numbers as float64 or float32, with names and counts checked against fit."""
        X = plain(X)
        how = {"dtype": [np.float64, np.float32], "ensure_all_finite": False}
        try:
            unnamed = inverse and not hasattr(X, "columns")  # a pipeline hands arrays back
            if not keys and not unnamed:
                values = validate_data(self, X, reset=reset, **how)
            else:
                values = check_array(X, estimator=self, input_name="X", **how)
        except ValueError as error:
            if "could not convert string" not in str(error):
                raise
            raise BatchfixError(
                f"X must be numbers, got text ({error}). Convert it, or name its column in a key."
            ) from error
        if keys or unnamed:
            self._check_names(source, X, keys, reset=reset)
        elif reset:
            self._features = slice(None)
            self._consumed: list[Any] = []
        return np.asarray(values)

    def _check_names(self, source: Any, X: Any, keys: list[Key], *, reset: bool) -> None:
        """As scikit-learn checks names and counts, except that kept columns may be absent after fit."""
        if reset:
            validate_data(self, source, reset=True, skip_check_array=True)
            width = self.n_features_in_
            if isinstance(source, np.ndarray) or not hasattr(source, "columns"):
                drop = [int(k) % width for k in keys]
                self._consumed = []
            else:
                names = list(source.columns)
                self._consumed = [k for k in keys if k in names]
                drop = [names.index(k) for k in self._consumed]
            self._features = np.setdiff1d(np.arange(width), drop)
            return
        width = len(np.arange(self.n_features_in_)[self._features])
        known = getattr(self, "feature_names_in_", None)
        if known is not None and hasattr(X, "columns"):
            want, got = list(known[self._features]), [str(c) for c in X.columns]
            if want != got:
                lost = [c for c in want if c not in got]
                more = [c for c in got if c not in want]
                what = f"lacks {lost[:3]}" if lost else f"has {more[:3]} more" if more else "has them in another order"
                raise BatchfixError(f"The features of X must be those of fit, in their order, but X {what}.")
        elif np.shape(X)[1] != width:
            raise BatchfixError(
                f"X has {np.shape(X)[1]} features, but {type(self).__name__} is expecting {width} features as input"
                f"{' beside its key columns' if keys else ''}."
            )

    def _feature(self, j: int) -> str:
        """Name of feature j as a person knows it."""
        names = getattr(self, "feature_names_in_", None)
        return f"number {j}" if names is None else repr(str(names[self._features][j]))

    def _take_for_inverse(self, X: Any, keys: list[Key]) -> tuple[Any, dict[Key, Any]]:
        """Keys of a corrected table: columns that are still there, or index levels."""
        if isinstance(X, pd.DataFrame):
            return take_keys(X, [k for k in keys if k in X.columns or k in X.index.names])
        if np.shape(X)[1:] == (self.n_features_in_,):
            return take_keys(X, keys)
        return X, {}
