"""Rows: a table and its labels, found wherever they are, as plain arrays.

`RowReader` is the part of a corrector that resolves its key parameters and the arguments of a call, and checks
names and counts against fit.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_array, validate_data

from ..core.design import Column
from ..core.statistics import BatchStatistics
from ..exceptions import BatchfixError
from . import columns as kinds
from . import inputs
from .tables import Key, float_types, plain, refuse_lazy, take_keys


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
    keep_factors: Sequence[Key] | None
    keep_numbers: Sequence[Key] | None
    keep_y: bool

    statistics_: BatchStatistics
    n_features_in_: int
    _features: slice | np.ndarray
    _consumed: list[Any]
    _batch_names: list[str]
    _numbered: list[Any] | None

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
        spare: Collection[str] = (),
    ) -> Rows:
        """Find the labels of the rows, align them, and turn the rest of X into floats.

        Columns to `spare` enter nothing here: they may be absent or have gaps, and are not read.
        """
        refuse_lazy(X)
        keys = self._keys()
        for what, named in keys.items():
            if named and labels.get(what) is not None and not inverse:
                raise BatchfixError(
                    f"{what} must come from the argument or from {what}_key{'s' if what != 'batch' else ''}, got "
                    f"both ({named!r}). Drop one."
                )
            self._refuse_names(what, labels.get(what), X, reset=reset)
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
        batch = self._batch_factors(labels.get("batch"), keys["batch"], taken, index, n, reset=reset)
        found, crowded = self._find(labels, taken, source, index, n)
        if reset:
            declared = set().union(*self._declared(found))
            for name in crowded:
                if name not in declared:
                    kinds.check_codes(name, found[name][1])
        columns = self._columns({k: v for k, v in found.items() if k not in spare}, batch, reset=reset)
        if self.keep_y and (reset or y is not None):
            if "y" in columns:
                raise BatchfixError("keep_y=True keeps fit's y under the name 'y', got another column 'y'. Rename it.")
            columns["y"] = self._y_column(y, index, n, found, reset=reset)
        return Rows(values, self._batch_labels(batch), columns, source)

    def _find(
        self, labels: dict[str, Any], taken: dict[Key, Any], source: Any, index: pd.Index | None, n: int
    ) -> tuple[dict[str, tuple[str, Any]], list[str]]:
        """Role and values of kept and nuisance columns by name; and the names of those that share an array's dtype."""
        found: dict[str, tuple[str, Any]] = {}
        crowded: list[str] = []
        for what, named in self._keys().items():
            if what == "batch":
                continue
            given = labels.get(what)
            by_name = {str(k): taken[k] for k in named if k in taken}
            passed = inputs.as_columns(given, index, n, what)
            if not hasattr(source, "columns"):
                crowded += by_name
            if len(passed) > 1 and not inputs.is_named(given):
                crowded += passed
            for name, column in (by_name | passed).items():
                if name in found:
                    raise BatchfixError(f"Column {name!r} must be kept or removed, got both.")
                found[name] = (what, column)
        return found, crowded

    def _refuse_names(self, what: str, given: Any, X: Any, *, reset: bool) -> None:
        """Refuse an argument that names columns of X in place of holding them."""
        if given is None or not inputs.names_columns(given, X):
            return
        if what == "batch" and isinstance(given, str) and not reset and given in self.batches_.tolist():
            return  # one label for all rows, and a known one
        key = "batch_key" if what == "batch" else f"{what}_keys"
        named = given if what == "batch" else names_in([given] if isinstance(given, str) else given)
        raise BatchfixError(
            f"{what} must hold labels of the rows, got {given!r}, which names what X has. Did you mean {key}={named!r}?"
            f"{' If it is the label of all rows, pass it once a row.' if isinstance(given, str) else ''}"
        )

    def _batch_factors(
        self, given: Any, keys: list[Key], taken: dict[Key, Any], index: pd.Index | None, n: int, *, reset: bool
    ) -> list[np.ndarray] | None:
        """Labels of each batch factor, in the order of fit."""
        if given is not None:
            names, factors = inputs.batch_factors(given, index, n)
        elif keys and all(k in taken for k in keys):
            names, factors = [str(k) for k in keys], [inputs.as_labels(taken[k], f"{k!r}") for k in keys]
        else:
            if reset:
                self._batch_names = []
            return None
        if reset:
            self._batch_names = names
        return inputs.in_order_of(names, self._batch_names, factors)

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
            factors, numbers = self._declared(found)
            return {
                name: kinds.as_column(name, values, what, factors, numbers) for name, (what, values) in found.items()
            }
        known = [c.name for c in self.statistics_.columns]
        stray = [name for name in found if name not in known]
        if stray:
            raise BatchfixError(f"Kept columns must be those of fit {known}, got {stray[0]!r} too.")
        return {c.name: kinds.as_in_fit(c, found[c.name][1]) for c in self.statistics_.columns if c.name in found}

    def _declared(self, found: Collection[str]) -> tuple[set[str], set[str]]:
        """Columns that are factors, and numbers, because a parameter says so."""
        names = [*found, "y"] if self.keep_y else list(found)
        factors = kinds.declared("keep_factors", names_in(self.keep_factors), names)
        numbers = kinds.declared("keep_numbers", names_in(self.keep_numbers), names)
        both = sorted(factors & numbers)
        if both:
            raise BatchfixError(f"A column must be a factor or a number, got {both} named as both. Drop one.")
        return factors, numbers

    def _y_column(
        self, y: Any, index: pd.Index | None, n: int, found: Collection[str], *, reset: bool
    ) -> tuple[Column, np.ndarray]:
        """The target as one more column: what it is is decided in fit."""
        column = None if reset else next((c for c in self.statistics_.columns if c.name == "y"), None)
        if column is None:
            return kinds.y_column(y, index, n, *self._declared(found))
        rows = int(self.statistics_.moments.rows.sum())
        return kinds.y_as_in_fit(column, y, index, n, rows, {str(k) for k in names_in(self.keep_factors)})

    def _validate(self, source: Any, X: Any, keys: list[Key], *, reset: bool, inverse: bool = False) -> np.ndarray:
        """Numbers as float64 or float32, with names and counts checked against fit."""
        X = plain(X)
        how = {"dtype": float_types(X), "ensure_all_finite": False}
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
        self._check_numbered(X, reset=reset)
        return np.asarray(values)

    def _check_names(self, source: Any, X: Any, keys: list[Key], *, reset: bool) -> None:
        """As scikit-learn checks names and counts, except that kept columns may be absent after fit."""
        if reset:
            if hasattr(source, "columns"):
                names = list(source.columns)
                self._consumed = [k for k in keys if k in names]
                drop = [names.index(k) for k in self._consumed]
                text = [isinstance(c, str) for c in X.columns]
                if not any(text):  # keys have names, features only numbers
                    source = np.empty((1, len(names)))
                elif not all(text):
                    raise BatchfixError(
                        f"Column names of X must be all text or all numbers, got {X.columns[text.index(True)]!r} and "
                        f"{X.columns[text.index(False)]!r}. Use X.columns = X.columns.astype(str)."
                    )
            else:
                drop = [int(k) % np.shape(source)[1] for k in keys]
                self._consumed = []
            validate_data(self, source, reset=True, skip_check_array=True)
            self._features = np.setdiff1d(np.arange(self.n_features_in_), drop)
            return
        width = len(np.arange(self.n_features_in_)[self._features])
        known = getattr(self, "feature_names_in_", None)
        if known is not None and hasattr(X, "columns"):
            compare(list(known[self._features]), [str(c) for c in X.columns])
        elif np.shape(X)[1] != width:
            raise BatchfixError(
                f"X has {np.shape(X)[1]} features, but {type(self).__name__} is expecting {width} features as input"
                f"{' beside its key columns' if keys else ''}."
            )

    def _check_numbered(self, X: Any, *, reset: bool) -> None:
        """Columns whose names are no text (numbers, dates, tuples), and whose order scikit-learn does not check."""
        numbered = None
        if isinstance(X, pd.DataFrame) and not hasattr(self, "feature_names_in_"):
            numbered = X.columns.to_list()
        if reset:
            self._numbered = numbered
        elif numbered is not None and self._numbered is not None and numbered != self._numbered:
            compare(self._numbered, numbered)

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


def compare(want: list[Any], got: list[Any]) -> None:
    """Refuse features that are not those of fit in their order."""
    if want == got:
        return
    lost, more = [c for c in want if c not in set(got)], [c for c in got if c not in set(want)]
    what = f"lacks {lost[:3]}" if lost else f"has {more[:3]} more" if more else "has them in another order"
    raise BatchfixError(f"The features of X must be those of fit, in their order, but X {what}.")
