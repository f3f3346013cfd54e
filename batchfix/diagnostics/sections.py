"""Sections: the numbers of an evaluation, before and after, each with the sentence why where it cannot be had.

Functions of the diagnostics flow in; their results, or what stands in their way, flow out. One section that fails does
not stop the others.
"""

from __future__ import annotations

import dataclasses
import logging
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import pandas as pd

from ..core import naming
from ..exceptions import BatchfixError
from .anova import Permanova
from .design import DesignForecast
from .effects import FeatureEffects
from .held_out import HeldOut
from .mixing import Lisi
from .predictability import BatchPredictability
from .spread import Dispersion

NOT_CORRECTED = "There is neither a corrected table nor a corrector. Pass after= or corrector=."

logger = logging.getLogger(__name__)

R = TypeVar("R")

LONG = {"permuted_F", "distances", "features", "per_sample", "curve", "splits", "repeats"}
"""Fields of a row a sample, a feature or a permutation, which a summary leaves out."""


@dataclass(frozen=True)
class Missing:
    """A number that cannot be had, and why. False as a condition."""

    reason: str

    def __bool__(self) -> bool:
        return False

    def __str__(self) -> str:
        return self.reason


@dataclass(frozen=True, eq=False)
class Comparison(Generic[R]):
    """One number before and after correction."""

    before: R | Missing
    after: R | Missing

    @property
    def both(self) -> tuple[R, R] | None:
        """Before and after; None where one cannot be had."""
        if isinstance(self.before, Missing) or isinstance(self.after, Missing):
            return None
        return self.before, self.after

    def __str__(self) -> str:
        return said(self.before, self.after)


@dataclass(frozen=True, eq=False)
class BatchVariance(Comparison[Permanova]):
    """What batch explains beyond what is kept: in these samples, where it is 0 by construction, and in held-out ones.

    Attributes
    ----------
    before, after : Permanova or Missing
    held_out : HeldOut or Missing
        In halves of the samples that the corrector has not learned from.
    """

    held_out: HeldOut | Missing

    def __str__(self) -> str:
        found = Comparison.__str__(self)
        if str(self.held_out) == NOT_CORRECTED:
            return found
        by_construction = "" if isinstance(self.after, Missing) else " (about 0 by construction in these samples)."
        found = f"{found.removesuffix('.')}{by_construction}" if by_construction else found
        return f"{found} Held out: {self.held_out}{'' if isinstance(self.held_out, Missing) else '.'}"


@dataclass(frozen=True, eq=False)
class Biology(Comparison[Permanova]):
    """What a kept column explains beyond batch and what else is kept.

    Attributes
    ----------
    before, after : Permanova or Missing
    effect_left : float
        Share of its effect that whoever looks for it in the corrected table, without batch, finds: 1 - rho2 where
        batches were centred without keeping it. NaN where it cannot be had.
    batch_left : float
        Sum of squares between batches, nothing else given, after over before.
    """

    effect_left: float = float("nan")
    batch_left: float = float("nan")

    @property
    def ratio(self) -> float:
        """R2 after over before; above 1 too because batch no longer takes up variance. NaN where one is missing."""
        return self.both[1].R2 / self.both[0].R2 if self.both and self.both[0].R2 > 0 else float("nan")

    @property
    def effect_ratio(self) -> float:
        """F after over before: how clear biology stands against what nothing explains. A shift of batches leaves 1."""
        return self.both[1].F / self.both[0].F if self.both and self.both[0].F > 0 else float("nan")

    def __str__(self) -> str:
        left = f" Of its effect, {self.effect_left:.0%} is left." if np.isfinite(self.effect_left) else ""
        return f"{Comparison.__str__(self)}{left}"


@dataclass(frozen=True, eq=False)
class Mixing:
    """Effective numbers of labels among neighbours.

    Attributes
    ----------
    ilisi : Comparison of Lisi
        Of batches: near its chance level where they mix.
    clisi : dict of Comparison of Lisi
        Of each kept factor: near 1 where biology stays together.
    """

    ilisi: Comparison[Lisi]
    clisi: dict[str, Comparison[Lisi]]

    def __str__(self) -> str:
        kept = "".join(f" {name}: {each}" for name, each in self.clisi.items())
        return f"Batches: {self.ilisi}{kept}"


@dataclass(frozen=True, eq=False)
class Features(Comparison[FeatureEffects]):
    """What batch does to each feature.

    Attributes
    ----------
    before, after : FeatureEffects or Missing
        After, in the very samples that were corrected: 0 by construction.
    table : DataFrame
        A row a feature: eta2 and q_value before, after and held out, and q_value of the spread before and after.
    """

    table: pd.DataFrame

    def top(self, count: int = 10) -> pd.DataFrame:
        """The worst offenders: those that batch explains most of, held out if that can be had, else before."""
        by = next((c for c in ("eta2_held_out", "eta2_after", "eta2_before") if c in self.table), None)
        found = self.table if by is None else self.table.sort_values(by, ascending=False, kind="stable")
        return found.head(count)

    def __str__(self) -> str:
        held = ""
        if "q_value_held_out" in self.table:
            found = int((self.table["q_value_held_out"] < 0.05).sum())
            worst = naming.some(self.top(3).index.tolist())
            held = f" Held out: {found:,} of {len(self.table):,}; first {worst}."
        return f"{Comparison.__str__(self)}{held}"


DERIVED: dict[type, tuple[str, ...]] = {
    Biology: ("ratio", "effect_ratio"),
    HeldOut: ("left", "there_was", "there_is", "harmful"),
}
"""Properties that a summary has beside the fields."""


def said(before: Any, after: Any) -> str:
    """Both in words, one once where they say the same, or where nothing was corrected."""
    if str(before) == str(after) or str(after) == NOT_CORRECTED:
        return f"{before}"
    return f"Before: {before} After: {after}"


def attempt(function: Callable[[], R], notes: list[str]) -> R | Missing:
    """The result of a function, or the sentence why there is none; what it warns of is noted."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found: R | Missing = function()
        except BatchfixError as error:
            found = Missing(str(error))
        except Exception as error:  # one number's fault, of whatever kind, is said in its place and costs no other
            logger.exception("A number of an evaluation could not be had.")
            found = Missing(f"This number could not be had: it stopped with {type(error).__name__}: {error}")
    notes += [text for each in caught if (text := str(each.message)) not in notes]
    if isinstance(found, BatchPredictability) and found.reason:
        return Missing(found.reason)
    return found


def summary(value: Any) -> Any:
    """A result as Python's own containers and numbers, ready for JSON; None for what has no value.

    What has a row a sample, a feature or a permutation is left out.
    """
    if isinstance(value, Missing):
        return {"reason": value.reason}
    if isinstance(value, FeatureEffects):
        found, tested = int((value.q_value < 0.05).sum()), int(value.F.notna().sum())
        return {"found": found, "tested": tested, "median_eta2": plain(value.median_eta2)}
    if isinstance(value, DesignForecast):
        return plain(value.to_dict())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        extra = next((names for kind, names in DERIVED.items() if isinstance(value, kind)), ())
        found_fields = {name: summary(each) for name, each in fields.items() if name not in LONG}
        if isinstance(value, Dispersion) and value.features is not None:
            found_fields["features_found"] = int((value.features["q_value"] < 0.05).sum())
        if isinstance(value, Features):
            found_fields["table"] = plain(value.top(20))
        return found_fields | {name: plain(getattr(value, name)) for name in extra}
    if isinstance(value, Mapping):
        return {str(key): summary(each) for key, each in value.items()}
    return plain(value)


def plain(value: Any) -> Any:
    """Numbers and tables as JSON has them; a table as a list of its rows."""
    if isinstance(value, pd.DataFrame):
        return [plain(row) for row in value.reset_index().to_dict("records")]
    if isinstance(value, pd.Series):
        return plain(value.to_dict())
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, Collection):
        return [plain(each) for each in value]
    return str(value)
