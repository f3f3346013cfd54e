"""Correction: any corrector, ours or not, as one thing that learns from some samples and corrects others.

A transformer of ours, one of scikit-learn's kind, a pipeline of them, a function (X, batch, y) -> X, or None flows in,
with a table and its labels; corrected numbers flow out. Whatever of batch, keep and nuisance a transformer takes, it is
given; labels that its keys would find in the table are taken out of it first, so that they can be permuted.
"""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from ..core import naming
from ..correctors import inputs
from ..correctors.notices import warn
from ..correctors.tables import is_polars, take_keys
from ..exceptions import AlignmentError, BatchfixError, BatchfixWarning
from .outputs import as_output
from .samples import read_columns, read_labels, read_samples

ROUTED = ("batch", "keep", "nuisance")
KEYS = {"batch_key": "batch", "keep_keys": "keep", "nuisance_keys": "nuisance"}

Apply = Callable[["Labelled"], np.ndarray]


@dataclass(frozen=True, eq=False)
class Labelled:
    """A table in the caller's own container, without key columns, and what is known about its rows.

    Attributes
    ----------
    X : table (n, p)
    batch : array (n,) of labels
    keep, nuisance : DataFrame or None
        With X's index, if it has one.
    """

    X: Any
    batch: np.ndarray
    keep: pd.DataFrame | None = None
    nuisance: pd.DataFrame | None = None

    def __len__(self) -> int:
        return len(self.batch)

    @property
    def index(self) -> pd.Index | None:
        """Of a pandas table."""
        return self.X.index if isinstance(self.X, pd.DataFrame) else None

    def rows(self, at: np.ndarray) -> Labelled:
        """Some of the samples."""
        keep, nuisance = (None if each is None else each.iloc[at] for each in (self.keep, self.nuisance))
        return Labelled(rows_of(self.X, at), self.batch[at], keep, nuisance)

    def keeping(self, name: str, values: Any) -> Labelled:
        """The same with one more column to keep, or another one under its name."""
        columns = {} if self.keep is None else dict(self.keep)
        return replace(self, keep=as_frame(columns | {name: values}, self.index))


def rows_of(X: Any, at: np.ndarray) -> Any:
    """Some rows of a table of any container."""
    if isinstance(X, pd.DataFrame | pd.Series):
        return X.iloc[at]
    if is_polars(X):
        return X[np.asarray(at).tolist()]
    return np.asarray(X)[at]


def as_frame(columns: dict[str, Any], index: pd.Index | None) -> pd.DataFrame | None:
    """Columns that are in the rows' order as a table with their index; None for no columns."""
    if not columns:
        return None
    plain = {name: pd.Series(each).array if np.ndim(each) == 1 else each for name, each in columns.items()}
    return pd.DataFrame(plain, index=index)


@dataclass(frozen=True, eq=False)
class Correction:
    """A corrector that the caller chose, with its keys taken out; None leaves tables as they are."""

    corrector: Any

    @property
    def is_function(self) -> bool:
        """Whether it is a function of a whole table, which cannot learn from some rows and correct others."""
        return self.corrector is not None and not hasattr(self.corrector, "fit")

    @property
    def name(self) -> str:
        """What to call it in a sentence."""
        if self.is_function:
            return str(getattr(self.corrector, "__name__", "the function"))
        return type(self.corrector).__name__ if self.corrector is not None else "no correction"

    def parameter(self, name: str) -> Any:
        """Value of one of its parameters, or of the first step in it that has one; None if there is none."""
        if not hasattr(self.corrector, "get_params"):
            return None
        found = [value for key, value in self.corrector.get_params().items() if key.split("__")[-1] == name]
        return next((value for value in found if value is not None), None)

    def knows_of(self, table: Labelled) -> bool:
        """Whether it is told what is to be kept; a function is, of the first column."""
        if self.corrector is None or table.keep is None:
            return False
        if self.is_function:
            return True
        with _routing(self.corrector):
            return "keep" in _labels(self.corrector, "fit", table) or bool(self.parameter("keep_y"))

    def baseline(self) -> Correction:
        """What to compare it with: the table as measured, or in log-ratios where these are what it corrects."""
        from ..correctors import CompositionalCorrector, LogRatio

        if not isinstance(self.corrector, CompositionalCorrector) or self.corrector.output != "log_ratio":
            return Correction(None)
        parameters = self.corrector.get_params(deep=False)
        how = {name: parameters[name] for name in ("transform", "zeros", "reference", "partition")}
        return Correction(LogRatio(**how))

    def adapting(self) -> Correction:
        """The same, learning a batch it has not seen from the rows of that very call, if it knows how to."""
        if not (hasattr(self.corrector, "get_params") and hasattr(self.corrector, "set_params")):
            return self
        parameters = self.corrector.get_params()
        owners = {
            key: self.corrector if key == "handle_unknown" else parameters[key.removesuffix("__handle_unknown")]
            for key in parameters
            if key.split("__")[-1] == "handle_unknown"
        }
        ours = [key for key, owner in owners.items() if hasattr(owner, "adapt")]  # encoders have one of the kind too
        # a corrector inside another one of ours is set by the outer one
        inner = {key for key in ours for other in ours if key != other and key.startswith(other[:-14])}
        new = self._fresh()
        new.set_params(**dict.fromkeys((key for key in ours if key not in inner), "adapt"))
        return Correction(new)

    def whole(self, table: Labelled, y: Any = None) -> np.ndarray:
        """The table corrected as a whole; `y` is what the corrector is told of the label, in its own way."""
        if self.corrector is None:
            return read_samples(table.X).values
        if not self.is_function:
            return self.learn(table, y)(table)
        X = table.X.copy() if hasattr(table.X, "copy") else copy.deepcopy(table.X)  # it may write into it
        index = table.index
        batch = table.batch if index is None else pd.Series(table.batch, index, name="batch")
        label = y if index is None or y is None else pd.Series(y, index, name="y")
        with self._named("this table"):
            out = self.corrector(X, batch, label)
        return _numbers(out, table)

    def learn(self, train: Labelled, y: Any = None) -> Apply:
        """Learn from some samples; what comes back corrects any."""
        if self.corrector is None:
            return lambda table: read_samples(table.X).values
        if self.is_function:
            raise BatchfixError(
                f"A corrector inside a cross-validation must have fit and transform, got the function {self.name!r}, "
                "which corrects whole tables only. Make it a transformer."
            )
        fitted = self._fresh()
        with self._named("some samples of this table"), _routing(fitted):
            told = (y,) if y is not None and _takes(fitted, "fit", "y") else ()
            fitted.fit(train.X, *told, **_labels(fitted, "fit", train))

        def apply(table: Labelled) -> np.ndarray:
            with self._named("some samples of this table"), _routing(fitted):
                labels = _labels(fitted, "transform", table)
                if self.parameter("keep_at_transform") is False:
                    labels.pop("keep", None)
                out = fitted.transform(table.X, **labels)
            return _numbers(out, table)

        return apply

    def _fresh(self) -> Any:
        from sklearn.base import clone

        cloned = hasattr(self.corrector, "get_params") and hasattr(self.corrector, "set_params")
        return clone(self.corrector) if cloned else copy.deepcopy(self.corrector)

    @contextmanager
    def _named(self, what: str) -> Iterator[None]:
        """Say whose error it is, where it is not one of ours."""
        try:
            yield
        except BatchfixError:
            raise
        except Exception as error:
            raise BatchfixError(
                f"{self.name} must correct {what}, but stopped with {type(error).__name__}: {error}"
            ) from error


def prepare(corrector: Any, X: Any, batch: Any, keep: Any = None) -> tuple[Correction, Labelled, inputs.Labels]:
    """Read a corrector, a table and its labels; keys of the corrector find what is not given otherwise.

    Raises
    ------
    BatchfixError
        The corrector is none, or there is one batch, or labels are none.
    """
    if inspect.isclass(corrector) or not (
        corrector is None or callable(corrector) or (hasattr(corrector, "fit") and hasattr(corrector, "transform"))
    ):
        raise BatchfixError(
            "corrector must be None, a transformer with fit and transform, or a function (X, batch, y) -> X, got "
            f"{corrector!r}. {'Make an instance of it.' if inspect.isclass(corrector) else 'Pass one of these.'}"
        )
    correction, X, found = _without_keys(corrector, X)
    samples = read_samples(X)
    if batch is None:
        batch = found["batch"].get("batch")
    labels = read_labels(batch, samples, "batch")
    columns = inputs.as_columns(keep, samples.index, len(samples), "keep") if keep is not None else found["keep"]
    if keep is not None:
        read_columns(keep, samples, "keep")  # for its sentences
    table = Labelled(
        X if isinstance(X, pd.DataFrame) or is_polars(X) else samples.values,
        labels.values[labels.codes],
        as_frame(columns, samples.index),
        as_frame(found["nuisance"], samples.index),
    )
    return correction, table, labels


def refuse_constant(table: Labelled) -> None:
    """Refuse a table in which no sample can be told from another.

    Raises
    ------
    BatchfixError
        Saying so.
    """
    values = read_samples(table.X).values
    if ((values == values[0]) | np.isnan(values)).all():
        raise BatchfixError(
            "Samples must differ for one to be told from another, got a table whose features are all constant. "
            "Check that X is what was measured."
        )


def _without_keys(corrector: Any, X: Any) -> tuple[Correction, Any, dict[str, dict[str, Any]]]:
    """The corrector without its keys, the table without their columns, and these columns by role."""
    found: dict[str, dict[str, Any]] = {role: {} for role in ROUTED}
    if not (hasattr(corrector, "get_params") and hasattr(corrector, "set_params")):
        return Correction(corrector), X, found
    set_keys = {
        name: (KEYS[name.split("__")[-1]], value if isinstance(value, list | tuple) else [value])
        for name, value in corrector.get_params().items()
        if name.split("__")[-1] in KEYS and value is not None
    }
    if not set_keys:
        return Correction(corrector), X, found
    named = list(dict.fromkeys(key for _, keys in set_keys.values() for key in keys))
    rest, taken = take_keys(X, named)
    for role, keys in set_keys.values():
        if role == "batch" and len(keys) > 1:
            raise BatchfixError(
                f"batch must be one column of labels, got the keys {naming.some(keys)}. Name the one to look at, and "
                "the others as nuisance."
            )
        found[role] |= {"batch" if role == "batch" else str(key): taken[key] for key in keys}
    from sklearn.base import clone

    return Correction(clone(corrector).set_params(**dict.fromkeys(set_keys))), rest, found


def _takes(transformer: Any, method: str, name: str) -> bool:
    parameters = inspect.signature(getattr(transformer, method)).parameters
    return name in parameters


def _is_composite(transformer: Any, method: str) -> bool:
    """Whether it hands keywords on to others."""
    kinds = inspect.signature(getattr(transformer, method)).parameters.values()
    return hasattr(transformer, "get_metadata_routing") and any(kind.kind is kind.VAR_KEYWORD for kind in kinds)


def _labels(transformer: Any, method: str, table: Labelled) -> dict[str, Any]:
    """What of batch, keep and nuisance a method takes."""
    there = {name: value for name in ROUTED if (value := getattr(table, name)) is not None}
    if _is_composite(transformer, method):
        taken = transformer.get_metadata_routing().consumes(method, there)
        return {name: value for name, value in there.items() if name in taken}
    return {name: value for name, value in there.items() if _takes(transformer, method, name)}


@contextmanager
def _routing(transformer: Any) -> Iterator[None]:
    """Let a pipeline hand labels on to the steps that ask for them."""
    if not _is_composite(transformer, "fit"):
        yield
        return
    from sklearn import config_context

    with config_context(enable_metadata_routing=True):
        yield


def tells(correction: Correction, name: str, table: Labelled, y: Any) -> tuple[Labelled, Any]:
    """How a corrector is told of a label: as y where it keeps y or takes nothing to keep, else as one more kept column.

    Returns the table to give it, and the y.
    """
    if correction.corrector is None:
        return table, None
    if correction.is_function or correction.parameter("keep_y"):
        return table, y
    with _routing(correction.corrector):
        told = table.keeping(name, y)
        if "keep" in _labels(correction.corrector, "fit", told):
            return told, None
    return table, y


def _numbers(out: Any, table: Labelled) -> np.ndarray:
    """What a corrector returned, in the order of the rows it was given."""
    read = as_output(out, len(table))
    index = table.index
    if index is not None and isinstance(out, pd.DataFrame) and not out.index.equals(index):
        if not (out.index.is_unique and index.isin(out.index).all()):
            raise AlignmentError(
                "A corrected table must have the rows of X, got another index. Give it X's, or return an array."
            )
        out = out.loc[index]
        read = as_output(out, len(table))
    return read_samples(read.values, name="corrected X").values


@contextmanager
def gathered() -> Iterator[None]:
    """Many fits of one kind warn of one thing: each category once, afterwards."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    first = {each.category: each for each in reversed(caught)}
    for category, each in first.items():
        if issubclass(category, BatchfixWarning):
            warn(str(each.message), category)
        else:
            warnings.warn_explicit(each.message, category, each.filename, each.lineno)


def permuted_within(values: np.ndarray, groups: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Values dealt anew among the rows of each group."""
    out = values.copy()
    for rows in groups:
        out[rows] = values[rng.permutation(rows)]
    return out
