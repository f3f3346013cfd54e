"""Leave one batch out: whether what is learned of the biology from some batches holds in a batch never seen.

A table, what is to be predicted, batch labels and a corrector flow in; a score a batch flows out, before and after
correction. The corrector has not seen the left-out batch: it learns its effect from its samples alone, without their
labels, as it would have to for the samples of next month.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit
from tqdm import tqdm

from ..core import naming
from ..core.design import Factor
from ..correctors import columns as kinds
from ..correctors.inputs import Labels
from ..exceptions import BatchfixError, TooFewSamplesError
from .correction import Correction, Labelled, gathered, prepare, refuse_constant
from .learners import LEARNERS, Target, check_learners, predictions, score
from .samples import generator, read_samples


@dataclass(frozen=True, eq=False)
class LeaveOneBatchOut:
    """Result of `leave_one_batch_out`.

    Attributes
    ----------
    before, after : dict
        Mean score over left-out batches, by classifier; `after` is empty without a corrector.
    table : DataFrame
        A row a left-out batch: n, and the score of each classifier before and after. NaN where a batch cannot be
        scored, all of its samples being alike.
    score : {"AUC", "balanced accuracy", "R2"}
        Of two classes, several classes, or amounts.
    chance : float
        Score of a guess: .5, 1 / classes, or 0.
    target, corrector : str
        What was asked.
    """

    before: dict[str, float]
    after: dict[str, float]
    table: pd.DataFrame
    score: str
    chance: float
    target: str
    corrector: str

    @property
    def change(self) -> dict[str, float]:
        """After less before, by classifier."""
        return {name: self.after[name] - self.before[name] for name in self.after}

    @property
    def change_error(self) -> dict[str, float]:
        """Half the 95 % interval of each change, from its spread over batches; infinite of fewer than two."""
        found = {}
        for name in self.after:
            each = (self.table[f"{name}_after"] - self.table[f"{name}_before"]).dropna()
            m = len(each)
            error = float(stdtrit(m - 1, 0.975) * each.std(ddof=1) / np.sqrt(m)) if m > 1 else float("inf")
            found[name] = error
        return found

    def __str__(self) -> str:
        def said(scores: dict[str, float]) -> str:
            return ", ".join(f"{value:.2f} ({name})" for name, value in scores.items())

        scored = int(self.table.drop(columns="n").notna().any(axis=1).sum())
        errors = {name: value for name, value in self.change_error.items() if np.isfinite(value)}
        known = (
            f" (the change is known to +-{', '.join(f'{value:.2f}' for value in errors.values())})" if errors else ""
        )
        after = f", {said(self.after)} after {self.corrector}{known}" if self.after else ""
        return (
            f"{self.target} in a batch left out is predicted with {self.score} {said(self.before)} as measured{after}; "
            f"{self.chance:.2g} is a guess. Mean over {scored} of {len(self.table)} batches."
        )


def leave_one_batch_out(
    X: Any,
    y: Any,
    batch: Any,
    corrector: Any = None,
    *,
    keep: Any = None,
    ordered: bool = False,
    classifiers: Sequence[str] = LEARNERS,
    random_state: Any = 0,
    n_jobs: int | None = None,
    progress: bool = False,
) -> LeaveOneBatchOut:
    """Score of predicting y in each batch from the others, before and after correction.

    For each batch the corrector learns from all others and a clone set to handle_unknown="adapt" transforms the
    left-out one, whose y it is never told. Scored within the left-out batch, so that differences in prevalence between
    batches neither help nor harm an AUC.

    Parameters
    ----------
    X : table (n, p)
        Uncorrected, complete.
    y : labels or amounts (n,)
        The biology. Text, bool, category and few whole numbers are classes, fractions are amounts. Passed to the
        corrector's fit, which heeds it if it has keep_y=True.
    batch : labels (n,)
    corrector : transformer, optional
        One that takes batch labels must know what to do with a batch it has not seen.
    keep : table or columns, optional
        What the corrector keeps besides, known of the left-out batch too. Never y.
    ordered : bool
        Rows are in the order of time: a batch is predicted from the rows before its first one alone. Batches that
        nothing precedes are not scored.
    classifiers : {"linear", "forest"}, one or both
        Logistic or ridge regression, and a forest of randomised trees; see `batch_predictability`.
    random_state : None, int or Generator
    n_jobs : int, optional
        Threads of the forests.
    progress : bool
        Show a bar in a terminal.

    Returns
    -------
    LeaveOneBatchOut

    Raises
    ------
    TooFewSamplesError
        No batch holds two classes.
    BatchfixError
        One batch, one class, missing values, a corrector that refuses new batches, or labels that are none.

    Examples
    --------
    >>> from batchfix import LinearCorrector
    >>> from batchfix.datasets import make_lab
    >>> from batchfix.diagnostics.validation import leave_one_batch_out
    >>> lab = make_lab(60, 20, batch_shift=3.0, random_state=0)
    >>> found = leave_one_batch_out(lab.data, lab.group, lab.batch, LinearCorrector(), classifiers="linear")
    >>> found.score, bool(found.after["linear"] > 0.8)
    ('AUC', True)
    """
    names = check_learners(classifiers)
    correction, table, labels = prepare(corrector, X, batch, keep)
    name, told, target = read_target(y, table)
    read_samples(table.X, "A classifier")
    refuse_constant(table)
    ways = {"before": correction.baseline()}
    if correction.corrector is not None:
        ways["after"] = correction.adapting()
    seed = int(generator(random_state).integers(2**31 - 1))
    rows: dict[Any, dict[str, float]] = {}
    with gathered(), tqdm(total=len(labels.values), disable=None if progress else True, leave=False) as bar:
        for b, of in enumerate(labels.values.tolist()):
            test, train = np.flatnonzero(labels.codes == b), np.flatnonzero(labels.codes != b)
            train = train[train < test[0]] if ordered else train
            rows[of] = {"n": len(test)}
            for when, way in ways.items():
                found = _scores(way, table, told, target, train, test, names, seed, n_jobs)
                rows[of] |= {f"{each}_{when}": found[each] for each in names}
            bar.update()
    scores = pd.DataFrame.from_dict(rows, orient="index").rename_axis("batch")
    if scores.drop(columns="n").isna().all(axis=None):
        raise TooFewSamplesError(
            f"Some batch must hold two kinds of {name} to be scored, got batches in which all samples are alike. "
            "Batch and biology cannot be told apart."
        )
    means = {when: {each: float(scores[f"{each}_{when}"].mean()) for each in names} for when in ways}
    chance = 0.0 if target.classes is None else 1.0 / target.n_classes
    return LeaveOneBatchOut(
        means["before"],
        means.get("after", {}),
        scores,
        target.score_name,
        chance,
        name,
        correction.name if "after" in means else "",
    )


def read_target(y: Any, table: Labelled) -> tuple[str, np.ndarray, Target]:
    """Name of what is to be predicted, its values as a corrector may be told them, and the same as codes or amounts.

    Raises
    ------
    BatchfixError
        It is missing, one class, constant, or unique in every row.
    """
    if y is None:
        raise BatchfixError("y must hold what is to be predicted, a value a row of X, got None. Pass the biology.")
    column, values = kinds.y_column(y, table.index, len(table), (), ())
    named = getattr(y, "name", None)
    name = str(named) if isinstance(named, str) else str(y.columns[0]) if hasattr(y, "columns") else "y"
    if not isinstance(column, Factor):
        if not np.ptp(values) > 0:
            raise BatchfixError(f"y must differ between samples to be predicted, got {values[0]!r} in every row.")
        return name, values, Target(values, None)
    labels = Labels.of(values)
    if len(labels.values) < 2:
        raise BatchfixError(
            f"y must have two classes at least to tell apart, got {naming.some(labels.values.tolist())} in every row."
        )
    if len(labels.values) == len(values):
        raise TooFewSamplesError(
            f"y must put several samples in a class, got {len(values)} classes for as many samples: every label is "
            "unique. Pass classes, or amounts as floats."
        )
    return name, values, Target(labels.codes, labels.values)


def _scores(
    correction: Correction,
    table: Labelled,
    told: np.ndarray,
    target: Target,
    train: np.ndarray,
    test: np.ndarray,
    names: Sequence[str],
    seed: int,
    n_jobs: int | None,
) -> dict[str, float]:
    """Score of each classifier in the left-out batch; NaN where it, or what is learned from, is all alike."""
    there, here = (replace(target, values=target.values[at]) for at in (train, test))
    if len(np.unique(here.values)) < 2 or len(np.unique(there.values)) < 2:
        return dict.fromkeys(names, float("nan"))
    learnt = table.rows(train)
    apply = correction.learn(learnt, told[train])
    a, b = apply(learnt), apply(table.rows(test))
    for values in (a, b):
        read_samples(values, "A classifier", name="corrected X")
    found = predictions(names, a, there, b, seed, n_jobs)
    return {each: score(found[each], here) for each in names}
