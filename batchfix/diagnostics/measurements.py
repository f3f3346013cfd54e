"""Measurements: how each of the eight numbers of an evaluation is had.

Tables before and after, labels and a corrector flow in; sections flow out. What cannot be had is a sentence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import pandas as pd

from ..core.retention import Retention, retention
from ..core.zeros import ZeroPolicy
from ..correctors.inputs import Labels
from ..exceptions import BatchfixError
from .anova import Permanova, permanova
from .correction import Correction, Labelled, as_frame
from .design import DesignForecast, design_forecast
from .distance_comparison import DistanceComparison, are_amounts, compare_distances
from .distances import Measured, measure
from .effects import FeatureEffects, feature_effects
from .held_out import HeldOut, held_out
from .learners import LEARNERS, Components
from .mixing import Lisi, Neighbourhood
from .predictability import BatchPredictability, batch_predictability
from .samples import beside, one_hot, read_columns, read_samples
from .sections import NOT_CORRECTED, BatchVariance, Biology, Comparison, Features, Missing, Mixing, attempt
from .spread import FEWEST, RELIABLE, Dispersion, dispersion
from .validation import LeaveOneBatchOut, leave_one_batch_out
from .variance import variance_explained

LISI_COMPONENTS = 50
FEW_PERMUTATIONS = 199
SHARED = 5000
"""Samples up to which inner products or distances are kept from one number to the next: 0.2 GB a matrix."""

NO_BIOLOGY = "There must be biology to keep for this number, got none. Pass keep=."
NO_CORRECTOR = (
    "This number needs the corrector, to fit it on some samples and try it on others; a corrected table alone cannot "
    "give it. Pass corrector=."
)


@dataclass(frozen=True, eq=False)
class Measurements:
    """All that the eight need, and a method for each under its name.

    Attributes
    ----------
    correction, table, labels : what was asked, read
    first, second : DataFrame
        Before, and after if there is one.
    reason : Missing
        Why there is none.
    notes : list of str
        What was warned of; grows.
    """

    correction: Correction
    table: Labelled
    labels: Labels
    first: pd.DataFrame
    second: pd.DataFrame | None
    reason: Missing
    distance: str
    fast: bool
    cv: Any
    repeats: int
    permutations: int
    seed: int
    n_jobs: int | None
    notes: list[str]
    zeros: ZeroPolicy | None = None
    ordered: bool = False

    @property
    def _batch(self) -> np.ndarray:
        return self.table.batch

    @property
    def _keep(self) -> dict[str, pd.Series]:
        return {} if self.table.keep is None else {str(name): column for name, column in self.table.keep.items()}

    @property
    def _factors(self) -> dict[str, np.ndarray]:
        return {name: column.to_numpy() for name, column in self._keep.items() if not _is_number(column)}

    @property
    def _learners(self) -> tuple[str, ...]:
        return ("linear",) if self.fast else LEARNERS

    @property
    def _no_corrector(self) -> Missing:
        return Missing(NO_CORRECTOR if self.second is not None else NOT_CORRECTED)

    def _both(self, function: Callable[[pd.DataFrame], Any]) -> tuple[Any, Any]:
        """A number before and after."""
        before = attempt(partial(function, self.first), self.notes)
        return before, self.reason if self.second is None else attempt(partial(function, self.second), self.notes)

    @cached_property
    def _read(self) -> dict[int, Measured]:
        return {}

    def _measured(self, X: pd.DataFrame, what: str) -> Any:
        """A table as the distance sees it, read once; a large one as it is."""
        run = partial(measure, X, self.distance, what, zeros=self.zeros)
        if len(X) > SHARED:
            return run()
        return self._read.get(id(X)) or self._read.setdefault(id(X), run(shared=True))

    @property
    def _count(self) -> int:
        return min(FEW_PERMUTATIONS, self.permutations) if self.fast else self.permutations

    def _permanova(self, X: pd.DataFrame, factor: Any, given: pd.DataFrame | None) -> Permanova:
        measured = self._measured(X, "A PERMANOVA")
        return permanova(
            measured, factor, given=given, distance=self.distance, permutations=self._count, random_state=self.seed
        )

    def batch_variance(self) -> BatchVariance:
        """1: what batch explains beyond what is kept."""
        factor = pd.Series(self._batch, self.table.index, name="batch")
        before, after = self._both(lambda X: self._permanova(X, factor, self.table.keep))
        held: HeldOut | Missing = self._no_corrector
        if self.correction.corrector is not None:
            held = attempt(
                lambda: held_out(
                    self.correction,
                    self.table,
                    self.labels,
                    repeats=1 if self.fast else 3,
                    random_state=self.seed,
                    distance=self.distance,
                    zeros=self.zeros,
                    ordered=self.ordered,
                ),
                self.notes,
            )
        return BatchVariance(before, after, held)

    def biology(self) -> dict[str, Biology] | Missing:
        """2: what each kept column explains beyond batch and the others."""
        found = {}
        for name in self._keep:
            both, left = self._both(partial(self._share, name)), self._left(name)
            found[name] = Biology(*both, effect_left=left.effect, batch_left=left.batch)
        return found or Missing(NO_BIOLOGY)

    def _left(self, name: str) -> Retention:
        """What is left of a kept column's effect; NaN where the tables have not the same features."""
        nothing = Retention(float("nan"), float("nan"))
        if self.second is None or not same_features(self.first, self.second) or not self.one_scale:
            return nothing

        def run() -> Retention:
            samples = read_samples(self.first)
            columns = read_columns(as_frame(dict(self._keep), self.table.index), samples, "keep")
            effect, others = columns.pop(name), beside(columns.values(), len(samples))
            after = read_samples(self.second).values
            return retention(samples.values, after, effect, one_hot(self.labels), others)

        found = attempt(run, self.notes)
        return nothing if isinstance(found, Missing) else found

    @cached_property
    def one_scale(self) -> bool:
        """Whether the tables are on one scale: amounts before and their logarithms after cannot be compared."""
        if self.second is None or not are_amounts(self.first) or are_amounts(self.second):
            return True
        self.notes.append(
            "before holds amounts and after does not, so effects cannot be compared between them: whether biology is "
            "as clear as before is left open. Give log-ratios of before (LogRatio) to compare."
        )
        return False

    def _share(self, name: str, X: pd.DataFrame) -> Permanova:
        keep = self._keep
        if _is_number(keep[name]):
            return _share_of_number(X, self._batch, as_frame(dict(keep), self.table.index), name, self.distance)
        given: dict[str, Any] = {"batch": pd.Categorical(self._batch)}
        given |= {other: column for other, column in keep.items() if other != name}
        return self._permanova(X, keep[name], as_frame(given, self.table.index))

    def dispersion(self) -> Comparison[Dispersion]:
        """3: whether batches scatter alike."""
        large = (np.bincount(self.labels.codes) >= RELIABLE).sum() >= 2
        run = partial(
            dispersion,
            batch=self._batch,
            distance=self.distance,
            given=self.table.keep,
            bias_adjust=True,
            fewest=RELIABLE if large else FEWEST,
            permutations=self._count,
            random_state=self.seed,
        )
        return Comparison(*self._both(lambda X: run(self._measured(X, "Dispersion"))))

    def predictability(self) -> Comparison[BatchPredictability]:
        """4: whether a classifier tells batches apart."""
        run = partial(
            batch_predictability,
            cv=self.cv,
            repeats=1 if self.fast else self.repeats,
            classifiers=self._learners,
            random_state=self.seed,
            n_jobs=self.n_jobs,
        )
        before = attempt(lambda: run(self.first, self._batch, corrected=False), self.notes)
        corrector = self.correction.corrector
        if corrector is None:
            return Comparison(before, self._no_corrector)
        inside = partial(run, self.table.X, self._batch, corrector, keep=self.table.keep)
        return Comparison(before, attempt(inside, self.notes))

    def leave_one_batch_out(self) -> dict[str, LeaveOneBatchOut | Missing] | Missing:
        """5: whether each kept column is predicted in a batch never seen."""
        found: dict[str, LeaveOneBatchOut | Missing] = {}
        corrector = None if self.correction.is_function else self.correction.corrector
        for name, y in self._keep.items():
            others = as_frame({k: v for k, v in self._keep.items() if k != name}, self.table.index)
            run = partial(
                leave_one_batch_out,
                self.table.X,
                y,
                self._batch,
                corrector,
                keep=others,
                ordered=self.ordered,
                classifiers=self._learners,
                random_state=self.seed,
                n_jobs=self.n_jobs,
            )
            found[name] = attempt(run, self.notes)
            if isinstance(found[name], Missing):
                found[name] = Missing(str(found[name]).replace("y must", f"{name} must", 1))
        return found or Missing(NO_BIOLOGY)

    def mixing(self) -> Mixing:
        """6: whether batches mix among neighbours, and kept factors do not."""
        around = self._both(self._around)
        ilisi = Comparison(*(self._near(each, self._batch) for each in around))
        clisi = {name: Comparison(*(self._near(each, of) for each in around)) for name, of in self._factors.items()}
        return Mixing(ilisi, clisi)

    def _around(self, X: pd.DataFrame) -> Neighbourhood:
        """Neighbours on the leading components, with a perplexity that few samples can have."""
        samples = read_samples(X, "LISI")
        if min(samples.values.shape) > LISI_COMPONENTS:
            _, values = Components.learned(samples.values, LISI_COMPONENTS, self.seed, standardise=False)
            samples = replace(samples, values=values, features=pd.RangeIndex(values.shape[1]))
        return Neighbourhood.of(samples, min(30.0, max(1.5, (len(samples) - 1) / 3)))

    def _near(self, around: Neighbourhood | Missing, labels: np.ndarray) -> Lisi | Missing:
        if isinstance(around, Missing):
            return around
        return attempt(partial(around.lisi, labels, permutations=5 if self.fast else 20), self.notes)

    def features(self, spread: Comparison[Dispersion], held: HeldOut | Missing) -> Features:
        """7: what batch does to each feature."""
        before, after = self._both(lambda X: feature_effects(X, self._batch, keep=self.table.keep))
        table = pd.DataFrame(index=self.first.columns)
        same = self.second is not None and same_features(self.first, self.second)
        parts = {"before": (before, spread.before)} | ({"after": (after, spread.after)} if same else {})
        for when, (effects, scatter) in parts.items():
            if isinstance(effects, FeatureEffects):
                for column in ("eta2", "q_value"):
                    table[f"{column}_{when}"] = effects.table[column].to_numpy()
            if isinstance(scatter, Dispersion) and scatter.features is not None:
                table[f"spread_q_value_{when}"] = scatter.features["q_value"].to_numpy()
        if isinstance(held, HeldOut) and same and len(held.features) == len(table):
            table["eta2_held_out"] = held.features["eta2"].to_numpy()
            table["q_value_held_out"] = held.features["q_value"].to_numpy()
        return Features(before, after, table)

    def distances(self) -> DistanceComparison | None:
        """1 by each distance, of a table of amounts; None of any other, and where the corrector failed."""
        raw = pd.DataFrame(read_samples(self.table.X).values, self.table.index, copy=False)
        if self.distance == "euclidean" and not are_amounts(raw):
            return None
        return compare_distances(
            raw,
            self.second if self.correction.baseline().corrector is None else None,
            self._batch,
            self.table.keep,
            lambda run: attempt(run, []),
            zeros=self.zeros,
            random_state=self.seed,
        )

    def forecast(self) -> DesignForecast | Missing:
        """8: what batch and biology share."""
        keep = as_frame(dict(self._keep), self.table.index)
        if keep is None:
            return Missing(NO_BIOLOGY)
        return attempt(lambda: design_forecast(self._batch, keep.reset_index(drop=True)), self.notes)


def same_features(first: pd.DataFrame, second: pd.DataFrame) -> bool:
    """Whether two tables have the same features, as far as their names tell."""
    unnamed = isinstance(first.columns, pd.RangeIndex) or isinstance(second.columns, pd.RangeIndex)
    return first.shape[1] == second.shape[1] and (unnamed or list(first.columns) == list(second.columns))


def _is_number(column: pd.Series) -> bool:
    return bool(pd.api.types.is_float_dtype(column.dtype))


def _share_of_number(X: Any, batch: np.ndarray, keep: Any, name: str, distance: str) -> Permanova:
    """What a number explains beyond batch and what else is kept, without a permutation test."""
    if distance != "euclidean":
        raise BatchfixError(
            f"The share of a number is had of Euclidean distances only, got {distance!r}. Take log-ratios first, or "
            "cut the number into classes."
        )
    found = variance_explained(X, batch, keep=keep).table
    df, residual_df = int(found.loc[name, "df"]), int(found.loc["residual", "df"])
    given = ("batch", *(str(each) for each in keep if each != name))
    return Permanova(
        F=float(found.loc[name, "F"]),
        R2=float(found.loc[name, "R2"]),
        R2_adjusted=float(found.loc[name, "R2"] - found.loc["residual", "R2"] * df / residual_df),
        p_value=float("nan"),
        df=df,
        residual_df=residual_df,
        permuted_F=np.zeros(0),
        factor=name,
        given=given,
        distance=distance,
    )
