"""Batch predictability: whether a classifier can tell which batch a sample came from.

A table, batch labels and a corrector flow in; areas under the curve flow out. The corrector stands inside the
cross-validation, learning from training samples only. On a table that was corrected beforehand it would give nonsense:
each batch's mean is then 0 over all its rows, so the mean of its test rows is minus that of its training rows, and
whatever the classifier learns is wrong (areas of .06 to .28).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit
from tqdm import tqdm

from ..core import naming
from ..correctors.inputs import Labels
from ..exceptions import BatchfixError, ConfoundedDesignError, TooFewSamplesError
from .anova import permanova
from .correction import Correction, Labelled, gathered, prepare, refuse_constant
from .learners import LEARNERS, Components, Target, check_learners, one_vs_rest, predictions
from .samples import generator, read_samples, whole

CONFIDENCE = 0.95
WIDER = 1.5
"""Of two batches: areas in folds depend on each other, which makes their mean spread more (measured, 1.2 to 1.6 times).
Of three or more, the bound on their mean makes up for it (1.0, and .5 of eight)."""

TOO_ALIKE = 0.002
"""Chance of batch means as near each other as those of a table taken to be corrected already."""

ALREADY_CORRECTED = (
    "Batch predictability needs the corrector inside the cross-validation, got a table whose batch means agree better "
    "than chance lets them (F = {F:.2g}; {below} of 999 permutations are as low): it was corrected on these very "
    "rows. A classifier trained on some of them is then wrong about the others by construction (areas of .06 to .28, "
    "whatever was left). Pass the uncorrected table and corrector=, or corrected=False to have the number all the same."
)


@dataclass(frozen=True, eq=False)
class BatchPredictability:
    """Result of `batch_predictability`.

    Attributes
    ----------
    linear, forest : float or None
        Mean area under the curve, each batch against all others; .5 is chance. None where it was not asked for, or
        cannot be had: see `reason`.
    interval : dict of (low, high)
        Of each mean over repetitions of the cross-validation (95 %): what another split of the same samples would
        change. NaN with one repetition.
    by_chance : (low, high)
        About where 95 of 100 areas would lie if nothing told the batches apart, given so many samples.
    per_batch : DataFrame
        A row a batch: n, and the area of each classifier.
    repeats : DataFrame
        A row a repetition: the area of each classifier.
    left_out : tuple of labels
        Batches of fewer samples than folds.
    corrector : str
        What was inside the cross-validation.
    reason : str
        Why there is no number; empty where there is.
    """

    linear: float | None
    forest: float | None
    interval: dict[str, tuple[float, float]]
    by_chance: tuple[float, float]
    per_batch: pd.DataFrame
    repeats: pd.DataFrame
    left_out: tuple[Any, ...]
    corrector: str
    reason: str = ""

    @property
    def auc(self) -> dict[str, float]:
        """Areas by classifier."""
        both = {"linear": self.linear, "forest": self.forest}
        return {name: value for name, value in both.items() if value is not None}

    def __str__(self) -> str:
        if self.reason:
            return self.reason
        areas = ", ".join(f"{value:.2f} ({name})" for name, value in self.auc.items())
        left = f" Batches too small to be predicted: {naming.some(self.left_out)}." if self.left_out else ""
        inside = f"with {self.corrector} inside the cross-validation" if self.corrector else "as the table is"
        return (
            f"Batch is predicted with an area under the curve of {areas}, {inside}; by chance between "
            f"{self.by_chance[0]:.2f} and {self.by_chance[1]:.2f}.{left}"
        )


def batch_predictability(
    X: Any,
    batch: Any,
    corrector: Any = None,
    *,
    keep: Any = None,
    cv: Any = 5,
    repeats: int = 3,
    classifiers: Sequence[str] = LEARNERS,
    corrected: bool | None = None,
    random_state: Any = 0,
    n_jobs: int | None = None,
    progress: bool = False,
) -> BatchPredictability:
    """Area under the curve of predicting batch, with the corrector inside the cross-validation.

    In each fold the corrector learns from the training samples and their batch labels, and transforms the test samples
    with theirs; then a classifier learns from the corrected training samples and is scored on the test samples, each
    batch against all others. A linear classifier tells of location, a forest of spread and shape too.

    A corrector that takes off the mean of each batch leaves an area of .5. One that shrinks (ComBat) leaves less where
    batches differ little, .3 where they do not at all: of what chance made the training samples of a batch differ by,
    it takes off a part s; training samples keep 1 - s of it, test samples get -s. What it leaves there is less than the
    first leaves: an area below .5 is no harm.

    Parameters
    ----------
    X : table (n, p)
        Uncorrected. Complete where the corrector does not make it so.
    batch : labels (n,)
        What carries an index is aligned to X's.
    corrector : transformer, optional
        With fit and transform. None scores the table as it is, which is meant for tables as measured.
    keep : table or columns, optional
        What the corrector keeps, if it keeps anything.
    cv : int or splitter
        Folds, each with a share of every batch; or what has split(X, y), TimeSeriesSplit(5) say for folds in time,
        which is run once.
    repeats : int
        Times that the samples are dealt into folds anew.
    classifiers : {"linear", "forest"}, one or both
        Logistic regression and a forest of randomised trees, on standardised features or on their leading 100 and 50
        components, learned in the fold.
    corrected : bool, optional
        Whether X was corrected on these very rows; by default it is judged by batch means that agree too well. There
        is no number then, but a reason.
    random_state : None, int or Generator
    n_jobs : int, optional
        Threads of the forests.
    progress : bool
        Show a bar in a terminal.

    Returns
    -------
    BatchPredictability

    Raises
    ------
    TooFewSamplesError
        Fewer than two batches have as many samples as there are folds.
    BatchfixError
        One batch, missing values, a corrector that is a function, or labels that are none.

    Examples
    --------
    >>> from batchfix import LinearCorrector
    >>> from batchfix.datasets import make_lab
    >>> from batchfix.diagnostics.predictability import batch_predictability
    >>> lab = make_lab(60, 20, batch_shift=2.0, random_state=0)
    >>> raw = batch_predictability(lab.data, lab.batch, classifiers="linear")
    >>> held = batch_predictability(lab.data, lab.batch, LinearCorrector(), classifiers="linear")
    >>> bool(raw.linear > 0.9), bool(held.linear < 0.65)
    (True, True)
    """
    names = check_learners(classifiers)
    repeats = whole("repeats", repeats, 1)
    correction, table, labels = prepare(corrector, X, batch, keep)
    seeds = generator(random_state)
    large, left_out = _large_enough(labels, cv)
    if large is not None:
        table = table.rows(large)
        labels = Labels.of(table.batch)
    refuse_constant(table)
    inside = correction.name if correction.corrector is not None else ""
    chance = by_chance(np.bincount(labels.codes), wider=WIDER if len(labels.values) == 2 else 1.0)
    if correction.corrector is None and corrected is not False:
        reason = _already_corrected(table, labels, surely=bool(corrected))
        if reason:
            nothing = pd.DataFrame()
            return BatchPredictability(None, None, {}, chance, nothing, nothing, left_out, inside, reason)
    once = not isinstance(cv, int | np.integer)
    rounds = []
    with gathered(), tqdm(total=1 if once else repeats, disable=None if progress else True, leave=False) as bar:
        for _ in range(1 if once else repeats):
            seed = int(seeds.integers(2**31 - 1))
            rounds.append(_round(correction, table, labels, cv, names, seed, n_jobs))
            bar.update()
    areas = np.array(rounds)  # (repeats, classifiers, batches)
    means = np.nanmean(areas, axis=2)
    found = dict(zip(names, means.mean(axis=0).tolist(), strict=True))
    per_batch = pd.DataFrame(areas.mean(axis=0).T, pd.Index(labels.values, name="batch"), list(names))
    per_batch.insert(0, "n", np.bincount(labels.codes))
    return BatchPredictability(
        linear=found.get("linear"),
        forest=found.get("forest"),
        interval={name: monte_carlo(means[:, k]) for k, name in enumerate(names)},
        by_chance=chance,
        per_batch=per_batch,
        repeats=pd.DataFrame(means, columns=list(names)),
        left_out=left_out,
        corrector=inside,
    )


def monte_carlo(values: np.ndarray, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Interval of the mean of repetitions: mean -+ t sd / sqrt(m); NaN for one.

    Examples
    --------
    >>> low, high = monte_carlo(np.array([0.4, 0.5, 0.6]))
    >>> round(low, 3), round(high, 3)
    (0.252, 0.748)
    """
    m = len(values)
    if m < 2:
        return float("nan"), float("nan")
    half = stdtrit(m - 1, 0.5 + confidence / 2) * np.std(values, ddof=1) / np.sqrt(m)
    mean = float(np.mean(values))
    return mean - float(half), mean + float(half)


def by_chance(sizes: np.ndarray, confidence: float = CONFIDENCE, *, wider: float = 1.0) -> tuple[float, float]:
    """Where the mean area of batches against all others lies if nothing tells them apart, from their sizes.

    The variance of one area is (n + 1) / (12 m (n - m)) (Mann and Whitney 1947); that of their mean is at most the
    square of their mean standard deviation. `wider` times that, for scores of several folds.

    Examples
    --------
    >>> low, high = by_chance(np.array([30, 30]))
    >>> round(low, 2), round(high, 2)
    (0.35, 0.65)
    """
    n = int(np.sum(sizes))
    sd = np.sqrt((n + 1) / (12.0 * sizes * (n - sizes)))
    half = float(-stdtrit(np.inf, 0.5 - confidence / 2) * sd.mean()) * wider
    return max(0.0, 0.5 - half), min(1.0, 0.5 + half)


def _large_enough(labels: Labels, cv: Any) -> tuple[np.ndarray | None, tuple[Any, ...]]:
    """Rows of batches that every fold can have a share of, None for all; and the other batches."""
    if not isinstance(cv, int | np.integer) or isinstance(cv, bool):
        if not hasattr(cv, "get_n_splits"):
            raise BatchfixError(f"cv must be a number of folds or a splitter of scikit-learn, got {cv!r}.")
        return None, ()
    folds = whole("cv, the number of folds,", cv, 2)
    sizes = np.bincount(labels.codes)
    if (sizes >= folds).sum() < 2:
        alone = " Every label is unique: pass batches, not sample names." if sizes.max() == 1 else ""
        raise TooFewSamplesError(
            f"There must be two batches of at least as many samples as folds to predict one from the other, got "
            f"batches of at most {int(np.sort(sizes)[-1])} and {int(np.sort(sizes)[-2])} for {folds} folds. "
            f"Lower cv, or join batches.{alone}"
        )
    large = sizes >= folds
    if large.all():
        return None, ()
    return np.flatnonzero(large[labels.codes]), tuple(labels.values[~large].tolist())


def _already_corrected(table: Labelled, labels: Labels, *, surely: bool) -> str:
    """Why a table corrected on these rows has no number; empty for any other."""
    values = read_samples(table.X, "A classifier").values
    values = values if values.shape[1] <= 50 else Components.of(values, 50, 0, standardise=False).of_rows(values)
    try:
        found = permanova(values, labels.values[labels.codes], given=table.keep, random_state=0)
    except (ConfoundedDesignError, TooFewSamplesError):
        return ""  # nothing to judge it by
    below = int((found.permuted_F <= found.F * (1 + 1e-9)).sum())
    if not surely and (1 + below) / 1000 > TOO_ALIKE:
        return ""
    return ALREADY_CORRECTED.format(F=found.F, below=below)


def _round(
    correction: Correction,
    table: Labelled,
    labels: Labels,
    cv: Any,
    names: Sequence[str],
    seed: int,
    n_jobs: int | None,
) -> np.ndarray:
    """Area of each classifier and batch (classifiers, batches): mean over the folds of one cross-validation."""
    classes = labels.values
    areas = []
    for train, test in _folds(cv, labels.codes, seed):
        known = np.isin(labels.codes[test], labels.codes[train])
        test = test[known]  # folds in time: a batch that has not begun cannot be predicted
        if len(np.unique(labels.codes[train])) < 2 or len(test) == 0:
            continue
        learnt = table.rows(train)
        apply = correction.learn(learnt)
        a, b = apply(learnt), apply(table.rows(test))
        for values in (a, b):
            read_samples(values, "A classifier", name="corrected X" if correction.corrector is not None else "X")
        found = predictions(names, a, Target(labels.codes[train], classes), b, seed, n_jobs)
        areas.append([one_vs_rest(found[name], labels.codes[test]) for name in names])
    if not areas or np.isnan(areas).all():
        raise TooFewSamplesError(
            "Some fold must hold two batches both to learn from and to predict, got none. Batches that follow each "
            "other in time cannot be told apart by folds in time."
        )
    count = (~np.isnan(areas)).sum(axis=0)
    return np.asarray(np.where(count > 0, np.nansum(areas, axis=0) / np.maximum(count, 1), np.nan))


def _folds(cv: Any, codes: np.ndarray, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    from sklearn.model_selection import StratifiedKFold

    splitter = cv if hasattr(cv, "get_n_splits") else StratifiedKFold(int(cv), shuffle=True, random_state=seed)
    for train, test in splitter.split(np.zeros((len(codes), 1)), codes):
        yield np.asarray(train), np.asarray(test)
