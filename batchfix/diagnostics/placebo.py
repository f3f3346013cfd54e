"""Placebo: what a correction finds where there is nothing to be found.

A corrector, a table and its labels flow in. The biology is dealt anew within each batch, so that nothing in the table
knows of it but how often it comes in each batch; the table is corrected again; and a classifier, and a test a feature,
look for it. What flows out should be an area under the curve of .5 and the false positives that the design forecasts.

An area above .5 is leakage: labels entered the values. One below is inversion: they entered them upside down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, Literal

import numpy as np
import pandas as pd
from tqdm import tqdm

from ..core import naming
from ..core.feature_effects import feature_squares
from ..core.forecast import ALPHA, Sharing, false_positive_rate
from ..core.projection import indicators
from ..correctors.inputs import Labels
from ..exceptions import BatchfixError, TooFewSamplesError
from .correction import Correction, Labelled, as_frame, gathered, permuted_within, prepare, tells
from .design import design_forecast
from .design_labels import DesignLabels
from .learners import LEARNERS, Target, check_learners, concordant, predictions
from .predictability import monte_carlo
from .samples import beside, generator, read_columns, read_samples, whole
from .validation import read_target

CONFIDENCE = 0.99
"""Of the Monte Carlo intervals: one sound corrector in a hundred is flagged for each number."""

MORE_THAN_FORECAST = 1.2
"""Multiple of the forecast that the false positives' interval must lie above: data are never quite normal."""

CURE = "Correct location only, or guard the scale (scale_guard=0.2), or do not tell the corrector the labels."
SCORING = ("left_out", "within")
HOW = ("table", "pipeline")


@dataclass(frozen=True, eq=False)
class Placebo:
    """Result of `placebo_test`. True as a condition where nothing was flagged.

    Attributes
    ----------
    verdict : {"fine", "leak", "inverted", "false positives"}
        The gravest flag.
    flags : tuple of str
        What was found where nothing is, in sentences.
    auc : dict
        Mean area under the curve over permutations, by classifier; .5 is nothing.
    auc_interval : dict of (low, high)
        Its Monte Carlo interval (99 %).
    false_positives : float
        Share of the features that a test at level `alpha` finds on the corrected table.
    false_positives_interval : (low, high)
        Its Monte Carlo interval (99 %).
    forecast : float
        The share that this design makes any location-only correction give.
    per_batch : DataFrame
        A row a batch: n, and by classifier its mean area, and the low and high end of its interval (99 % of all batches
        together). An area of .5 on average may hide one above in one batch and one below in another.
    permutations : DataFrame
        A row a permutation: the area of each classifier, and false_positives.
    alpha : float
    corrector, scoring, how, told : what was asked
    """

    verdict: Literal["fine", "leak", "inverted", "false positives"]
    flags: tuple[str, ...]
    auc: dict[str, float]
    auc_interval: dict[str, tuple[float, float]]
    false_positives: float
    false_positives_interval: tuple[float, float]
    forecast: float
    per_batch: pd.DataFrame
    permutations: pd.DataFrame
    alpha: float
    corrector: str
    scoring: str
    how: str
    told: bool

    def __bool__(self) -> bool:
        return not self.flags

    def __str__(self) -> str:
        where = "in a batch left out" if self.scoring == "left_out" else "within batches"
        areas = ", ".join(
            f"{value:.3f} ({name}, {self.auc_interval[name][0]:.3f} to {self.auc_interval[name][1]:.3f})"
            for name, value in self.auc.items()
        )
        low, high = self.false_positives_interval
        head = (
            f"{self.corrector} on {len(self.permutations)} tables with the biology dealt anew within batches: area "
            f"under the curve {where} {areas}, where .5 is right; {self.false_positives:.1%} of features below "
            f"p = {self.alpha:g} ({low:.1%} to {high:.1%}), where {self.forecast:.1%} is forecast."
        )
        return " ".join([head, *(self.flags or ["Nothing is found where there is nothing."])])


def placebo_test(
    corrector: Any,
    X: Any,
    batch: Any,
    y: Any,
    *,
    keep: Any = None,
    told: bool = True,
    how: str = "table",
    scoring: str = "left_out",
    n_permutations: int = 20,
    classifiers: Sequence[str] = ("linear",),
    cv: int = 5,
    alpha: float = ALPHA,
    random_state: Any = 0,
    n_jobs: int | None = None,
    progress: bool = False,
) -> Placebo:
    """What a corrector makes a classifier, and a test a feature, find in biology that is not there.

    The labels are permuted within batch, and the corrector is told the permuted ones as it would be told the true
    ones. Then

        AUC                 of predicting the permuted labels, in a batch left out or within batches; should be .5
        false positives     share of features with p < alpha in a regression on the labels; should be as forecast

    Scored within batches only, because labels that differ in prevalence between batches are predicted from batch
    effects: pooled, pure noise has an area of .73.

    Parameters
    ----------
    corrector : transformer, function (X, batch, y) -> X, or None
        Ours or not; None for the table as measured. A function corrects whole tables.
    X : table (n, p)
        Uncorrected. What the corrector returns must be complete.
    batch : labels (n,)
    y : labels or amounts (n,)
        The biology. It must vary within some batch.
    keep : table or columns, optional
        What the corrector is told besides, and the tests too; not permuted.
    told : bool
        Whether the corrector is told the permuted labels: as one more kept column where it takes `keep`, as fit's y
        where it keeps that (keep_y=True) or takes nothing to keep, or as a function's third argument.
    how : {"table", "pipeline"}
        Correct the whole table and then cross-validate, as papers do; or inside the cross-validation, learning from
        training samples only (a batch left out is adapted from its own). A corrector that needs a row's kept values to
        transform it is given the row's permuted label then too, and leaks it; one with keep_at_transform=False is not.
    scoring : {"left_out", "within"}
        Train on all batches but one and score in that one; or train on folds of all and score within each.
    n_permutations : int
    classifiers : {"linear", "forest"}, one or both
    cv : int
        Folds of scoring="within", dealt at random: rows in the order of time are not kept apart.
    alpha : float
        Level of the tests.
    random_state : None, int or Generator
    n_jobs : int, optional
        Threads of the forests.
    progress : bool
        Show a bar in a terminal.

    Returns
    -------
    Placebo

    Raises
    ------
    TooFewSamplesError
        The biology does not vary within any batch.
    BatchfixError
        One batch, one class, missing values, or a corrector that cannot be run as asked.

    Notes
    -----
    Flags are raised where .5 lies outside the interval of the mean area, or of a batch's (of all batches together),
    on either side, or where the interval of the false positives lies above 1.2 times their forecast
    (`design_forecast`), which is exact for location-only corrections of normal data. Intervals are of 99 %, so one
    sound corrector in a hundred is flagged by each.

    Where prevalence differs by batch, every correction of a whole table that is told the labels leaks them: the effect
    it estimates from all of them is written into the differences between the batches that a classifier learns from.
    Location only is no exception. Fitted inside a pipeline, or not told, it does not.

    References
    ----------
    Nygaard, Rodland and Hovig 2016, Biostatistics 17, 29-39: what keeping labels does to tests.

    Examples
    --------
    >>> from batchfix import LinearCorrector
    >>> from batchfix.datasets import make_lab
    >>> from batchfix.diagnostics.placebo import placebo_test
    >>> lab = make_lab(60, 50, random_state=0)
    >>> placebo_test(LinearCorrector(), lab.data, lab.batch, lab.group).verdict
    'fine'
    """
    names = check_learners(classifiers)
    for name, value, known in (("how", how, HOW), ("scoring", scoring, SCORING)):
        if value not in known:
            raise BatchfixError(f"{name} must be {' or '.join(map(repr, known))}, got {value!r}.")
    if not (isinstance(alpha, Real) and 0 < alpha < 1):
        raise BatchfixError(f"alpha must be a level between 0 and 1, got {alpha!r}. Give 0.05, say.")
    count = whole("n_permutations", n_permutations, 2)
    correction, table, labels = prepare(corrector, X, batch, keep)
    if correction.is_function and how == "pipeline":
        raise BatchfixError(
            f"how must be 'table' for a function, which corrects whole tables only, got {how!r} for "
            f"{correction.name!r}. Make it a transformer to have it inside."
        )
    name, values, target = read_target(y, table)
    name = f"{name} (placebo)" if table.keep is not None and name in table.keep else name
    groups = [np.flatnonzero(labels.codes == b) for b in range(len(labels.values))]
    _refuse_nested(name, values, groups)
    trial = _Trial(correction, table, labels, name, how, scoring, names, whole("cv", cv, 2), n_jobs, told)
    random = generator(random_state)
    trials: list[_Found] = []
    with gathered(), tqdm(total=count, desc="permutations", disable=None if progress else True, leave=False) as bar:
        for _ in range(count):
            order = permuted_within(np.arange(len(values)), groups, random)
            permuted = replace(target, values=target.values[order])
            forecast = trials[0].forecast if trials and table.keep is None else None  # dealing anew changes no count
            found = trial.run(values[order], permuted, float(alpha), int(random.integers(2**31 - 1)), forecast)
            trials.append(found)
            bar.update()
    return _summary(trial, trials, float(alpha))


def _refuse_nested(name: str, values: np.ndarray, groups: Sequence[np.ndarray]) -> None:
    if all(len(np.unique(values[rows])) < 2 for rows in groups):
        raise TooFewSamplesError(
            f"{name} must vary within some batch to be dealt anew there, got batches in which all samples are alike. "
            "Batch and biology cannot be told apart, and no correction can be tried."
        )


@dataclass(frozen=True)
class _Found:
    """Of one permutation: concordant pairs and all pairs (classifiers, batches), the tests' rate, and its forecast."""

    right: np.ndarray
    pairs: np.ndarray
    false_positives: float
    forecast: float


@dataclass(frozen=True)
class _Trial:
    """All that stays the same from permutation to permutation."""

    correction: Correction
    table: Labelled
    labels: Labels
    name: str
    how: str
    scoring: str
    names: tuple[str, ...]
    cv: int
    n_jobs: int | None
    told: bool

    def run(self, y: np.ndarray, target: Target, alpha: float, seed: int, forecast: float | None) -> _Found:
        """Correct the table told of these labels, and look for them."""
        # as classes where they are: whole numbers could be amounts
        values = y if target.classes is None else pd.Categorical(y)
        told, label = tells(self.correction, self.name, self.table, values) if self.told else (self.table, None)
        label = None if label is None else y
        corrected = self.correction.whole(told, label)
        read_samples(corrected, "A placebo test", name="corrected X")
        right, pairs = (np.zeros((len(self.names), len(self.labels.values))) for _ in range(2))
        for train, test in self._folds(target, seed):
            learnt = replace(target, values=target.values[train])
            if len(np.unique(learnt.values)) < 2:
                continue
            if self.how == "table":
                a, b = corrected[train], corrected[test]
            else:
                way = self.correction.adapting() if self.scoring == "left_out" else self.correction
                apply = way.learn(told.rows(train), None if label is None else label[train])
                a, b = apply(told.rows(train)), apply(told.rows(test))
            found = predictions(self.names, a, learnt, b, seed, self.n_jobs)
            for k, each in enumerate(self.names):
                for batch in np.unique(self.labels.codes[test]):
                    rows = self.labels.codes[test] == batch
                    here = replace(target, values=target.values[test[rows]])
                    more = concordant(found[each][rows], here)
                    right[k, batch] += more[0]
                    pairs[k, batch] += more[1]
        rate = self._false_positives(corrected, target, alpha)
        return _Found(right, pairs, rate, self._forecast(y, target, alpha) if forecast is None else forecast)

    def _folds(self, target: Target, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
        codes = self.labels.codes
        if self.scoring == "left_out":
            return [(np.flatnonzero(codes != b), np.flatnonzero(codes == b)) for b in range(len(self.labels.values))]
        from sklearn.model_selection import KFold, StratifiedKFold

        strata = codes if target.classes is None else codes * target.n_classes + target.values.astype(np.intp)
        rarest = np.bincount(strata)[np.unique(strata)].max()
        splitter: Any = StratifiedKFold(min(self.cv, int(rarest)), shuffle=True, random_state=seed)
        if rarest < 2:
            splitter = KFold(self.cv, shuffle=True, random_state=seed)
        import warnings

        with warnings.catch_warnings():  # of strata smaller than the number of folds, which pairs take care of
            warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
            return [(np.asarray(a), np.asarray(b)) for a, b in splitter.split(np.zeros((len(codes), 1)), strata)]

    def _false_positives(self, corrected: np.ndarray, target: Target, alpha: float) -> float:
        """Share of features that vary whose p in a regression on y and what else is kept is below alpha."""
        n = len(self.table)
        keep = read_columns(self.table.keep, read_samples(self.table.X), "keep")
        codes = target.values
        design = codes[:, None] if target.classes is None else indicators(codes, target.n_classes)
        p = feature_squares(corrected, design, beside(keep.values(), n)).p_value
        tested = ~np.isnan(p)
        if not tested.any():
            raise BatchfixError(
                f"Some feature must vary after the correction to be tested, got none from {self.correction.name}."
            )
        return float((p[tested] < alpha).mean())

    def _forecast(self, y: np.ndarray, target: Target, alpha: float) -> float:
        """The rate that the design makes any location-only correction give; at most alpha where it is not told."""
        amounts = target.classes is None
        told = {} if self.table.keep is None else dict(self.table.keep)
        labels = as_frame(told | {self.name: y if amounts else pd.Categorical(y)}, None)
        if self.correction.corrector is None:
            return alpha
        if not self.told:
            read = DesignLabels.read(self.table.batch, labels, None, None, None)
            sharing = Sharing.of(read.statistics())
            rho2 = design_forecast(self.table.batch, labels).columns["rho2"].iloc[-1]
            rate = false_positive_rate(np.array(rho2), sharing.naive_df, sharing.residual_df, alpha=alpha, kept=False)
            return float(rate)
        columns = design_forecast(self.table.batch, labels, alpha=alpha).columns
        return float(columns["false_positives"].iloc[-1])


def _summary(trial: _Trial, trials: Sequence[_Found], alpha: float) -> Placebo:
    right, pairs = (np.array([getattr(each, name) for each in trials]) for name in ("right", "pairs"))
    if not pairs.sum():
        raise TooFewSamplesError(
            f"Some batch must hold two kinds of {trial.name} among the samples that are scored together, got none. "
            "Lower cv, or use scoring='left_out'."
        )
    with np.errstate(invalid="ignore"):
        areas = right / pairs  # (permutations, classifiers, batches)
    scored = (pairs > 0).all(axis=(0, 1))
    means = areas[:, :, scored].mean(axis=2)
    rates = np.array([each.false_positives for each in trials])
    forecast = float(np.mean([each.forecast for each in trials]))
    together = 1 - (1 - CONFIDENCE) / max(1, int(scored.sum()))  # of all batches at once (Bonferroni)
    columns: dict[str, Any] = {"n": np.bincount(trial.labels.codes)}
    for k, name in enumerate(trial.names):
        each = [_interval(areas[:, k, b], together) for b in range(areas.shape[2])]
        columns |= {name: areas[:, k].mean(axis=0), f"{name}_low": [v[0] for v in each]}
        columns |= {f"{name}_high": [v[1] for v in each]}
    per_batch = pd.DataFrame(columns, index=pd.Index(trial.labels.values, name="batch"))
    auc = {name: float(means[:, k].mean()) for k, name in enumerate(trial.names)}
    intervals = {name: _interval(means[:, k], CONFIDENCE) for k, name in enumerate(trial.names)}
    rate_interval = _interval(rates, CONFIDENCE)
    verdict, flags = _flags(auc, intervals, per_batch, float(rates.mean()), rate_interval, forecast)
    return Placebo(
        verdict=verdict,
        flags=flags,
        auc=auc,
        auc_interval=intervals,
        false_positives=float(rates.mean()),
        false_positives_interval=rate_interval,
        forecast=forecast,
        per_batch=per_batch,
        permutations=pd.DataFrame(means, columns=list(trial.names)).assign(false_positives=rates),
        alpha=alpha,
        corrector=trial.correction.name,
        scoring=trial.scoring,
        how=trial.how,
        told=trial.told,
    )


def _interval(values: np.ndarray, confidence: float) -> tuple[float, float]:
    low, high = monte_carlo(values, confidence)
    return float(np.maximum(low, 0.0)), float(np.minimum(high, 1.0))


def _flags(
    auc: dict[str, float],
    intervals: dict[str, tuple[float, float]],
    per_batch: pd.DataFrame,
    rate: float,
    rate_interval: tuple[float, float],
    forecast: float,
) -> tuple[Literal["fine", "leak", "inverted", "false positives"], tuple[str, ...]]:
    """The gravest flag, and all in sentences."""
    verdicts: list[Literal["fine", "leak", "inverted", "false positives"]] = []
    flags = []
    for name in (each for each in LEARNERS if each in auc):
        low, high = intervals[name]
        above = per_batch.index[per_batch[f"{name}_low"] > 0.5].tolist()
        below = per_batch.index[per_batch[f"{name}_high"] < 0.5].tolist()
        what = f"a {name} classifier predicts labels that mean nothing with an area of"
        if low > 0.5:
            verdicts.append("leak")
            flags.append(
                f"Leak: {what} {auc[name]:.3f}. The corrected values tell the labels that the corrector was told. "
                "Do not tell it, or correct inside the cross-validation."
            )
        elif above:
            verdicts.append("leak")
            area = per_batch.loc[above[0], name]
            flags.append(f"Leak: in {naming.some(above)} {what} {area:.3f}, though not in all batches. {CURE}")
        if high < 0.5:
            verdicts.append("inverted")
            flags.append(
                f"Inverted: {what} {auc[name]:.3f}, below .5. The corrected values tell them upside down. {CURE}"
            )
        elif below:
            verdicts.append("inverted")
            area = per_batch.loc[below[0], name]
            flags.append(
                f"Inverted: in {naming.some(below)} {what} {area:.3f}, below .5, though not in all batches. {CURE}"
            )
    if rate_interval[0] > MORE_THAN_FORECAST * forecast:
        verdicts.append("false positives")
        flags.append(
            f"False positives: {rate:.1%} of features test as moved by labels that mean nothing, where {forecast:.1%} "
            "is forecast from the design. Put batch in the model instead of testing the table."
        )
    return (verdicts[0] if verdicts else "fine"), tuple(flags)
