"""Futures: a transformer run on the past alone, and on a past whose future is another one.

A transformer, a table and the rows of its past flow in; what the transformer makes of the past, under each other
future, flows out. Every run fits a clone to copies.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.base import clone
from sklearn.utils import _safe_indexing, get_tags

from ..exceptions import BatchfixError
from .outputs import Output, as_output


class ShortPastError(BatchfixError):
    """The transformer does not run on so few rows, which need not be its fault."""


Changed = Callable[[np.ndarray], np.ndarray]


class Run:
    """Fits and transforms, always on copies."""

    def __init__(self, transformer: Any, params: dict[str, Any]) -> None:
        self.transformer, self.params = transformer, params
        if isinstance(transformer, type):
            raise BatchfixError(f"transformer must be an object, not a class. Use {transformer.__name__}().")
        self.function = not hasattr(transformer, "fit")
        if self.function and not callable(transformer):
            raise BatchfixError(
                f"transformer must have fit_transform, or be a function of a table; got {type(transformer).__name__}."
            )

    def allows_missing(self, X: Any) -> bool:
        """Whether values may be made missing: if it says so or, of a function, if some are already."""
        if self.function:
            return bool(pd.isna(np.asarray(X)).any())
        return bool(get_tags(self.transformer).input_tags.allow_nan)

    @property
    def continues(self) -> bool:
        """Whether it can be fitted to some rows and transform others."""
        return not self.function and hasattr(self.transformer, "transform")

    def __call__(self, X: Any, y: Any, rows: np.ndarray | None, n: int, what: str = "") -> Output:
        """The output of some rows, or of all, whose future had `what` done to it."""
        X, y, params = self._rows(X, y, rows, n)
        try:
            out = self._apply(X, y, params)
        except Exception as error:
            if rows is not None:
                raise ShortPastError(
                    f"The transformer must run on the rows up to each cut; of the first {len(rows)} it said: {error} "
                    "Choose later cuts."
                ) from error
            if what:
                raise BatchfixError(
                    f"The transformer must run whatever the values, as those that the check makes up; {what} it said: "
                    f"{error} Name columns that are no values in labels=."
                ) from error
            raise
        return as_output(out, X.shape[0])

    def later(self, X: Any, y: Any, past: np.ndarray, rows: np.ndarray, n: int) -> Output:
        """`transform` of some rows after a `fit` to the past."""
        before, y, params = self._rows(X, y, past, n)
        after, _, late = self._rows(X, None, rows, n)
        known = inspect.signature(self.transformer.transform).parameters
        try:
            twin = clone(self.transformer).fit(before, y, **params)
            out = twin.transform(after, **{name: value for name, value in late.items() if name in known})
        except Exception as error:
            raise BatchfixError(
                f"The transformer must transform rows after a cut, fitted to those before; fitted to {len(past)} rows "
                f"it said of {len(rows)} more: {error} Use held_out=False to look at fit_transform alone."
            ) from error
        return as_output(out, len(rows))

    def _rows(self, X: Any, y: Any, rows: np.ndarray | None, n: int) -> tuple[Any, Any, dict[str, Any]]:
        """Copies of some rows of a table, its target and its arguments."""
        if rows is None:
            return _copy(X), y, self.params
        params = {
            name: _safe_indexing(value, rows) if _by_row(value, n) else value for name, value in self.params.items()
        }
        return _copy(_safe_indexing(X, rows)), y if y is None else _safe_indexing(y, rows), params

    def _apply(self, X: Any, y: Any, params: dict[str, Any]) -> Any:
        if self.function:
            return self.transformer(X, **params)
        twin = clone(self.transformer)
        if hasattr(twin, "fit_transform"):
            return twin.fit_transform(X, y, **params)
        return twin.fit(X, y, **params).transform(X)


@dataclass(frozen=True, eq=False)
class Cut:
    """A table cut in two: the numbers of the rows up to a moment, of those at it, after it, and soon after it."""

    number: int
    past: np.ndarray
    last: np.ndarray
    future: np.ndarray
    soon: np.ndarray


def other_futures(
    run: Run,
    X: Any,
    y: Any,
    whole: Output,
    cut: Cut,
    probes: Sequence[str],
    fixed: set[Any],
    rng: np.random.RandomState,
) -> Iterator[tuple[str, np.ndarray, Output, Output]]:
    """Rows of the output by the true future and by each other one: what was done, which rows, before, after."""
    past, n = cut.past, X.shape[0]
    true = whole.rows(past)
    yield "truncate", past, true, run(X, y, past, n)
    for probe in (probe for probe in probes if probe in CHANGES):
        change = CHANGES[probe]

        def changed(values: np.ndarray, change: Callable[..., np.ndarray] = change) -> np.ndarray:
            values = np.array(values, copy=True)
            values[cut.future] = change(values[cut.future].astype(np.float64), rng)
            return values

        other = run(_perturbed(X, changed, fixed), _perturbed_target(y, changed, probe), None, n, DONE[probe])
        yield probe, past, true, other.rows(past)
    if "gap" in probes:
        gappy = _perturbed(X, _gaps(cut.last, cut.number), fixed)
        yield "gap", past, run(gappy, y, None, n, DONE["gap"]).rows(past), run(gappy, y, past, n)
    if "held out" in probes and 0 < len(cut.soon) < len(cut.future):
        among = np.flatnonzero(np.isin(cut.future, cut.soon))
        yield "held out", cut.soon, run.later(X, y, past, cut.future, n).rows(among), run.later(X, y, past, cut.soon, n)


def _gaps(rows: np.ndarray, first: int) -> Changed:
    """Every second cell of some rows made missing, column after column; the other ones for an odd `first`."""
    column = first

    def changed(values: np.ndarray) -> np.ndarray:
        nonlocal column
        values = np.array(values, copy=True)
        for each in values.reshape(len(values), -1).T:
            each[rows[(np.arange(len(rows)) + column) % 2 == 0]] = np.nan
            column += 1
        return values

    return changed


def _noise(x: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    unit = _largest(x) or 1.0
    size = unit * np.nanstd(x / unit) if np.isfinite(x).any() else 0.0
    noise: np.ndarray = np.where(np.isnan(x), 0.0, x) + (size or 1.0) * rng.normal(size=x.shape)
    return noise


def _scaled(x: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    return np.asarray((1e3 if _largest(x) < LARGE else 1e-3) * x)


def _largest(x: np.ndarray) -> float:
    return float(np.max(np.abs(x), initial=0.0, where=np.isfinite(x)))


LARGE = 1e30
"""Values beyond it are made smaller, not larger: what single precision can hold, and square in double."""

CHANGES: dict[str, Callable[[np.ndarray, np.random.RandomState], np.ndarray]] = {
    "noise": _noise,
    "scale": _scaled,
    "missing": lambda x, rng: np.full(x.shape, np.nan),
}
"""What is done to the values after a cut."""

DONE = {
    "noise": "with noise on the rows after a cut",
    "scale": "with the rows after a cut a thousand times as large",
    "missing": "with the rows after a cut missing",
    "gap": "with some values of a row missing",
}


def _perturbed(X: Any, changed: Changed, fixed: set[Any]) -> Any:
    """A copy of the table with other values in its float columns."""
    if isinstance(X, pd.DataFrame):
        X = X.copy()
        for j, (name, dtype) in enumerate(zip(X.columns, X.dtypes, strict=True)):
            if name not in fixed and getattr(dtype, "kind", "") == "f":
                X.isetitem(j, changed(X.iloc[:, j].to_numpy(np.float64, na_value=np.nan)).astype(_plain(dtype)))
        return X
    if hasattr(X, "columns"):  # polars
        floats = [name for name, kind in X.schema.items() if kind.is_float() and name not in fixed]
        make = type(X)
        return X.with_columns([make({name: changed(X[name].to_numpy())})[name] for name in floats])
    if sparse.issparse(X):
        return type(X)(changed(X.toarray()))
    keep = sorted(int(k) % X.shape[1] for k in fixed if k is not None)
    out = changed(X.astype(X.dtype if X.dtype.kind == "f" else np.float64))
    out[:, keep] = X[:, keep]
    return out


def _perturbed_target(y: Any, changed: Changed, probe: str) -> Any:
    """A numeric target is perturbed too; it is never made missing."""
    if y is None or probe == "missing" or np.asarray(y).dtype.kind != "f":
        return y
    out = changed(np.asarray(y))
    return pd.Series(out, index=y.index, name=y.name) if isinstance(y, pd.Series) else out


def _plain(dtype: Any) -> Any:
    return dtype if isinstance(dtype, np.dtype) else np.float64


def _by_row(value: Any, n: int) -> bool:
    return not isinstance(value, str) and hasattr(value, "__len__") and not isinstance(value, dict) and len(value) == n


def _copy(X: Any) -> Any:
    if isinstance(X, pd.DataFrame):
        return X.copy(deep=True)
    return X.clone() if hasattr(X, "columns") else X.copy()
