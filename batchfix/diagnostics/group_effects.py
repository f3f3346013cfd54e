"""Group effects: how much of each row its groups of columns explain, before and after: the R2 of sector on each date.

A panel (dates in rows, stocks in columns) and a group for each column flow in, with a corrector of rows; a row a date
flows out. Where a corrector learns anything from rows, it learns from earlier dates alone: folds in time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..core.feature_effects import adjusted
from ..correctors import inputs
from ..exceptions import AlignmentError, BatchfixError
from .correction import gathered
from .effects import feature_effects
from .outputs import as_output
from .samples import in_columns_of, name_of, read_samples
from .settings import looks_ahead


@dataclass(frozen=True, eq=False)
class GroupEffects:
    """Result of `group_effects`.

    Attributes
    ----------
    table : DataFrame
        A row a date: R2 and adjusted R2 of the groups before and after, and the fold it was corrected in, from 1 on; 0
        where nothing was corrected. NaN where there is nothing to tell.
    folds : DataFrame
        A row a fold: first and last date, dates, mean adjusted R2 before and after.
    chance : float
        Mean R2 that as many groups of noise have.
    name, corrector : str
        What was asked.
    """

    table: pd.DataFrame
    folds: pd.DataFrame
    chance: float
    name: str
    corrector: str

    @property
    def before(self) -> float:
        """Mean adjusted R2 as measured, of the dates that have one after too where there is a correction."""
        return float(self._compared["R2_adjusted_before"].mean())

    @property
    def after(self) -> float:
        """Mean adjusted R2 after; NaN without a correction. Below 0 where groups are more alike than chance has it."""
        return float(self._compared["R2_adjusted_after"].mean())

    @property
    def _compared(self) -> pd.DataFrame:
        known = self.table["R2_adjusted_after"].notna()
        return self.table[known] if known.any() else self.table

    def __str__(self) -> str:
        after = ""
        if self.table["R2_adjusted_after"].notna().any():
            where = f", in {len(self.folds)} folds of later dates" if len(self.folds) else ""
            after = (
                f", {self.after:.1%} after {self.corrector or 'correction'}{where} (below 0 by construction where each "
                "date's own group means are taken off it)"
            )
        return (
            f"{self.name} explains {self.before:.1%} of the variance of a date (adjusted, mean of "
            f"{len(self._compared):,} dates; noise has {self.chance:.1%} before adjustment){after}."
        )


def group_effects(X: Any, groups: Any, corrector: Any = None, *, after: Any = None, cv: Any = None) -> GroupEffects:
    """R2 of groups of columns in each row, before and after a correction of rows.

        R2 = sum over groups of n (mean of group - mean of row)^2 / sum of (x - mean of row)^2

    that is `feature_effects` of the table on its side. `evaluate` is for batches of rows; here the groups are columns,
    as for `GroupCorrector`.

    Parameters
    ----------
    X : table (dates, stocks)
        NaN is not observed.
    groups : labels (stocks,), or a dict by column
        What carries an index is aligned to X's columns.
    corrector : transformer of rows, optional
        Unfitted, `GroupCorrector(sector)` say.
    after : table (dates, stocks), optional
        Corrected elsewhere, instead.
    cv : int or splitter, optional
        Folds in time, as TimeSeriesSplit(cv) makes them: fitted on earlier dates, applied to later ones. By default it
        is fitted on all dates; no matter for a corrector that learns nothing from rows.

    Returns
    -------
    GroupEffects

    Raises
    ------
    AlignmentError
        Groups do not belong to these columns, or the table after to these rows.
    BatchfixError
        One group, or a corrector that is none or stopped.

    Examples
    --------
    >>> from batchfix import GroupCorrector
    >>> from batchfix.datasets import make_markets
    >>> from batchfix.diagnostics.group_effects import group_effects
    >>> market = make_markets(40, 60, random_state=0)
    >>> found = group_effects(market.returns, market.sector, GroupCorrector(market.sector, scale=None), cv=3)
    >>> bool(found.before > 0.05 > found.after), len(found.folds)
    (True, 3)
    """
    if corrector is not None and after is not None:
        raise BatchfixError(f"One correction is compared, got corrector={corrector!r} and a table after. Drop one.")
    panel = _panel(X)
    if not panel.index.is_unique:
        raise BatchfixError(
            f"Each row of X must be one date; got {panel.index[panel.index.duplicated()][0]!r} twice. Give a wide "
            "table, a row a date and a column a stock."
        )
    labels = pd.Series(dict(groups)) if isinstance(groups, Mapping) else groups
    first = feature_effects(panel.T, labels).table
    splits: list[tuple[np.ndarray, np.ndarray]] = []
    last = pd.DataFrame(np.nan, first.index, first.columns)
    name = ""
    if after is not None:
        read = read_samples(after, name="after")
        if read.values.shape != panel.shape:
            raise AlignmentError(
                f"after must have the rows and columns of X, {panel.shape}, got {read.values.shape}. Correct all of it."
            )
        names = panel.columns if getattr(after, "columns", None) is None else read.features
        frame = in_columns_of(
            pd.DataFrame(read.values, panel.index if read.index is None else read.index, names), panel.columns
        )
        if isinstance(X, pd.DataFrame) and list(frame.columns) != list(panel.columns):
            raise AlignmentError(
                f"after must have the columns of X; got others, such as {frame.columns[0]!r}. Pass after[X.columns]."
            )
        frame.columns = panel.columns
        if read.index is not None and isinstance(X, pd.DataFrame):
            frame = inputs.align(frame, panel.index, len(panel), "after")
        last = feature_effects(frame.T, labels).table
    elif corrector is not None:
        name = type(corrector).__name__
        splits = _splits(cv, len(panel))
        with gathered():
            parts = [_corrected(corrector, panel, *each) for each in splits]
        last = feature_effects(pd.concat(parts).T, labels).table.reindex(first.index)
    fold = np.zeros(len(panel), dtype=np.intp)
    for k, (_, test) in enumerate(splits, 1):
        fold[test] = k
    columns = {
        f"{what}_{when}": values
        for when, each in (("before", first), ("after", last))
        for what, values in (
            ("R2", each["eta2"].to_numpy()),
            ("R2_adjusted", adjusted(*(each[name].to_numpy() for name in ("eta2", "df", "residual_df")))),
        )
    }
    table = pd.DataFrame(columns, panel.index).assign(fold=fold)
    of = name_of(groups, "group")
    folds = _folds(table) if cv is not None else pd.DataFrame()
    return GroupEffects(table, folds, float((first["df"] / (first["df"] + first["residual_df"])).mean()), of, name)


def _panel(X: Any) -> pd.DataFrame:
    read = read_samples(X)
    return pd.DataFrame(read.values, read.rows, read.features, copy=False)


def _splits(cv: Any, n: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows to learn from, and rows to correct."""
    everything = np.arange(n)
    if cv is None:
        return [(everything, everything)]
    from sklearn.model_selection import TimeSeriesSplit

    if not hasattr(cv, "split"):
        if isinstance(cv, bool) or not isinstance(cv, int | np.integer) or not 2 <= cv < n:
            raise BatchfixError(
                f"cv must be a splitter of scikit-learn, or a number of folds from 2 to {n - 1}, got {cv!r}."
            )
        cv = TimeSeriesSplit(int(cv))
    found = [(np.asarray(a), np.asarray(b)) for a, b in cv.split(everything[:, None])]
    if looks_ahead(found):
        raise BatchfixError(f"Folds must learn from earlier dates alone, got {cv!r}. Use TimeSeriesSplit.")
    return found


def _corrected(corrector: Any, panel: pd.DataFrame, train: np.ndarray, test: np.ndarray) -> pd.DataFrame:
    """Some rows, corrected by what was learned from others."""
    from sklearn.base import clone

    if isinstance(corrector, type) or not (hasattr(corrector, "fit") and hasattr(corrector, "transform")):
        raise BatchfixError(f"corrector must be a transformer with fit and transform, got {corrector!r}.")
    try:
        out = clone(corrector).fit(panel.iloc[train]).transform(panel.iloc[test])
    except BatchfixError:
        raise
    except Exception as error:  # whatever a corrector of the user's raises
        raise BatchfixError(
            f"{type(corrector).__name__} must correct some rows of this table, but stopped with "
            f"{type(error).__name__}: {error}"
        ) from error
    values = as_output(out, len(test)).values
    if values.shape[1] < panel.shape[1]:
        raise BatchfixError(
            f"{type(corrector).__name__} must give a value for each of the {panel.shape[1]} columns, got "
            f"{values.shape[1]} columns. Groups are of columns here; for batches of rows use evaluate."
        )
    # what a corrector appends, as the means of groups, comes after
    return pd.DataFrame(values[:, : panel.shape[1]], panel.index[test], panel.columns)


def _folds(table: pd.DataFrame) -> pd.DataFrame:
    rows = {
        k: {
            "first": part.index[0],
            "last": part.index[-1],
            "dates": len(part),
            "before": part["R2_adjusted_before"].mean(),
            "after": part["R2_adjusted_after"].mean(),
        }
        for k, part in table[table["fold"] > 0].groupby("fold")
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("fold")
