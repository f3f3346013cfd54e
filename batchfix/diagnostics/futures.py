"""Futures: a transformer run on the past alone, and on a past whose future is another one.

A transformer, a table and the rows of its past flow in; what the transformer makes of the past, under each other
future, flows out. Every run fits a clone to copies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.base import clone
from sklearn.utils import _safe_indexing, get_tags

from ..exceptions import BatchfixError
from .outputs import Output, as_output

Changed = Callable[[np.ndarray], np.ndarray]


class Run:
    """Fits and transforms, always on copies."""

    def __init__(self, transformer: Any, params: dict[str, Any]) -> None:
        self.transformer, self.params = transformer, params
        self.function = not hasattr(transformer, "fit")
        if self.function and not callable(transformer):
            raise BatchfixError(
                f"transformer must have fit_transform, or be a function of a table; got {type(transformer).__name__}."
            )

    def allows_missing(self, X: Any) -> bool:
        """Whether values may be made missing: if it says so or, of a function, if some are."""
        if self.function:
            return bool(pd.isna(np.asarray(X)).any())
        return bool(get_tags(self.transformer).input_tags.allow_nan)

    def __call__(self, X: Any, y: Any, rows: np.ndarray | None, n: int) -> Output:
        """The output of some rows, or of all."""
        params = {
            name: _safe_indexing(value, rows) if rows is not None and _by_row(value, n) else value
            for name, value in self.params.items()
        }
        X = _copy(X) if rows is None else _copy(_safe_indexing(X, rows))
        y = y if y is None or rows is None else _safe_indexing(y, rows)
        try:
            out = self._apply(X, y, params)
        except Exception as error:
            if rows is None:
                raise
            raise BatchfixError(
                f"The transformer must run on the rows up to each cut; of the first {len(rows)} it said: {error} "
                "Choose later cuts."
            ) from error
        return as_output(out, X.shape[0])

    def _apply(self, X: Any, y: Any, params: dict[str, Any]) -> Any:
        if self.function:
            return self.transformer(X, **params)
        twin = clone(self.transformer)
        if hasattr(twin, "fit_transform"):
            return twin.fit_transform(X, y, **params)
        return twin.fit(X, y, **params).transform(X)


def other_futures(
    run: Run,
    X: Any,
    y: Any,
    past: np.ndarray,
    future: np.ndarray,
    probes: Sequence[str],
    fixed: set[Any],
    rng: np.random.RandomState,
) -> Iterator[tuple[str, Output]]:
    """The past of the output, with each other future."""
    yield "truncate", run(X, y, past, len(past) + len(future))
    for probe in probes[1:]:
        change = CHANGES[probe]

        def changed(values: np.ndarray, change: Callable[..., np.ndarray] = change) -> np.ndarray:
            values = np.array(values, copy=True)
            values[future] = change(values[future].astype(np.float64), rng)
            return values

        other = run(_perturbed(X, changed, fixed), _perturbed_target(y, changed, probe), None, len(past) + len(future))
        yield probe, other.rows(past)


def _noise(x: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    size = np.nanstd(x) if np.isfinite(x).any() else 0.0
    noise: np.ndarray = np.where(np.isnan(x), 0.0, x) + (size or 1.0) * rng.normal(size=x.shape)
    return noise


CHANGES: dict[str, Callable[[np.ndarray, np.random.RandomState], np.ndarray]] = {
    "noise": _noise,
    "scale": lambda x, rng: 1e3 * x,
    "missing": lambda x, rng: np.full(x.shape, np.nan),
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
