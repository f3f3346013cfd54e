"""Measurements: how each of the eight numbers of an evaluation is had.

Tables before and after, labels and a corrector flow in; sections flow out. What cannot be had is a sentence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from ..correctors.inputs import Labels
from ..exceptions import BatchfixError
from .anova import Permanova, permanova
from .correction import Correction, Labelled, as_frame
from .design import DesignForecast, design_forecast
from .effects import FeatureEffects, feature_effects
from .held_out import HeldOut, held_out
from .learners import LEARNERS, Components
from .mixing import Lisi, lisi
from .predictability import BatchPredictability, batch_predictability
from .samples import read_samples
from .sections import NOT_CORRECTED, BatchVariance, Biology, Comparison, Features, Missing, Mixing, attempt
from .spread import Dispersion, dispersion
from .validation import LeaveOneBatchOut, leave_one_batch_out
from .variance import variance_explained

LISI_COMPONENTS = 50
FEW_PERMUTATIONS = 199
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

    def _permanova(self, X: pd.DataFrame, factor: Any, given: pd.DataFrame | None) -> Permanova:
        permutations = min(FEW_PERMUTATIONS, self.permutations) if self.fast else self.permutations
        return permanova(
            X, factor, given=given, distance=self.distance, permutations=permutations, random_state=self.seed
        )

    def batch_variance(self) -> BatchVariance:
        """1: what batch explains beyond what is kept."""
        factor = pd.Series(self._batch, self.table.index, name="batch")
        before, after = self._both(lambda X: self._permanova(X, factor, self.table.keep))
        held: HeldOut | Missing = self._no_corrector
        if self.correction.corrector is not None:
            held = attempt(
                lambda: held_out(
                    self.correction, self.table, self.labels, repeats=1 if self.fast else 3, random_state=self.seed
                ),
                self.notes,
            )
        return BatchVariance(before, after, held)

    def biology(self) -> dict[str, Biology] | Missing:
        """2: what each kept column explains beyond batch and the others."""
        return {name: Biology(*self._both(partial(self._share, name))) for name in self._keep} or Missing(NO_BIOLOGY)

    def _share(self, name: str, X: pd.DataFrame) -> Permanova:
        keep = self._keep
        if _is_number(keep[name]):
            return _share_of_number(X, self._batch, as_frame(dict(keep), self.table.index), name, self.distance)
        batch = "batch" if "batch" not in keep else "(batch)"
        given: dict[str, Any] = {batch: pd.Categorical(self._batch)}
        given |= {other: column for other, column in keep.items() if other != name}
        return self._permanova(X, keep[name], as_frame(given, self.table.index))

    def dispersion(self) -> Comparison[Dispersion]:
        """3: whether batches scatter alike."""
        return Comparison(*self._both(lambda X: dispersion(X, self._batch, distance=self.distance)))

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
                classifiers=self._learners,
                random_state=self.seed,
                n_jobs=self.n_jobs,
            )
            found[name] = attempt(run, self.notes)
        return found or Missing(NO_BIOLOGY)

    def mixing(self) -> Mixing:
        """6: whether batches mix among neighbours, and kept factors do not."""
        ilisi: Comparison[Lisi] = Comparison(*self._both(partial(self._near, self._batch)))
        clisi = {name: Comparison(*self._both(partial(self._near, of))) for name, of in self._factors.items()}
        return Mixing(ilisi, clisi)

    def _near(self, labels: np.ndarray, X: pd.DataFrame) -> Lisi:
        """LISI on the leading components, with a perplexity that few samples can have."""
        values = read_samples(X, "LISI").values
        if min(values.shape) > LISI_COMPONENTS:
            values = Components.of(values, LISI_COMPONENTS, self.seed, standardise=False).of_rows(values)
        perplexity = min(30.0, max(1.5, (len(values) - 1) / 3))
        return lisi(pd.DataFrame(values, X.index), labels, perplexity, permutations=5 if self.fast else 20)

    def features(self, spread: Comparison[Dispersion], held: HeldOut | Missing) -> Features:
        """7: what batch does to each feature."""
        before, after = self._both(lambda X: feature_effects(X, self._batch, keep=self.table.keep))
        table = pd.DataFrame(index=self.first.columns)
        same = self.second is not None and list(self.second.columns) == list(self.first.columns)
        parts = {"before": (before, spread.before)} | ({"after": (after, spread.after)} if same else {})
        for when, (effects, scatter) in parts.items():
            if isinstance(effects, FeatureEffects):
                table[f"eta2_{when}"], table[f"q_value_{when}"] = effects.eta2, effects.q_value
            if isinstance(scatter, Dispersion) and scatter.features is not None:
                table[f"spread_q_value_{when}"] = scatter.features["q_value"]
        if isinstance(held, HeldOut) and len(held.features) == len(table):
            table["eta2_held_out"] = held.features["eta2"].to_numpy()
            table["q_value_held_out"] = held.features["q_value"].to_numpy()
        return Features(before, after, table)

    def forecast(self) -> DesignForecast | Missing:
        """8: what batch and biology share."""
        keep = as_frame(dict(self._keep), self.table.index)
        if keep is None:
            return Missing(NO_BIOLOGY)
        return attempt(lambda: design_forecast(self._batch, keep.reset_index(drop=True)), self.notes)


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
    given = ("batch", *(str(each) for each in keep if each != name))
    return Permanova(
        F=float(found.loc[name, "F"]),
        R2=float(found.loc[name, "R2"]),
        R2_adjusted=float(found.loc[name, "R2_adjusted"]),
        p_value=float("nan"),
        df=int(found.loc[name, "df"]),
        residual_df=int(found.loc["residual", "df"]),
        permuted_F=np.zeros(0),
        factor=name,
        given=given,
        distance=distance,
    )
