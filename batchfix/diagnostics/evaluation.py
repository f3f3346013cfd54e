"""Evaluation: eight numbers that tell whether a correction did too little, enough, or too much.

A table before, one after or a corrector, and labels flow in; a verdict with its reasons flows out, and the eight
numbers behind it, before and after:

    1  batch_variance        R2 of batch beyond biology, also in samples the corrector has not learned from
    2  biology               R2 of biology beyond batch
    3  dispersion            whether batches scatter alike
    4  predictability        whether a classifier tells batches apart, the corrector inside its cross-validation
    5  leave_one_batch_out   whether biology is predicted in a batch never seen
    6  mixing                whether batches mix among neighbours, and biology does not
    7  features              which features batch moves
    8  forecast              rho2: what batch and biology share, from labels alone
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from ..correctors import inputs
from ..correctors.inputs import Labels
from ..exceptions import AlignmentError
from .correction import Correction, Labelled, prepare
from .design import DesignForecast
from .distance_comparison import DistanceComparison
from .judgement import judge
from .measurements import Measurements
from .predictability import BatchPredictability
from .samples import generator, in_columns_of, read_samples
from .sections import (
    NOT_CORRECTED,
    BatchVariance,
    Biology,
    Comparison,
    Features,
    Missing,
    Mixing,
    attempt,
    plain,
    summary,
)
from .settings import check_settings, in_time, with_plain_names, zero_policy
from .spread import Dispersion
from .tabulation import rows_of
from .validation import LeaveOneBatchOut

WIDTH = 100
NUMBERS = {
    "batch_variance": "Batch, share of variance",
    "biology": "Biology, share of variance",
    "dispersion": "Spread of batches",
    "predictability": "Batch, predicted",
    "leave_one_batch_out": "Biology, predicted in a batch left out",
    "mixing": "Mixing among neighbours",
    "features": "Batch, feature by feature",
    "forecast": "Batch and biology, shared (rho2)",
}


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """Result of `evaluate`; print it, or read the fields. What cannot be had is a `Missing` with its reason.

    Attributes
    ----------
    verdict : str
        "fine", "under-corrected", "over-fitted", "under-corrected and over-fitted", or "undecided" where the numbers
        that decide cannot be had, or could have shown nothing. Of a table that was not corrected: whether it needs to
        be. "not corrected" where the corrector failed; the reason is then the first of `mind`.
    under, over, mind : tuple of str
        Reasons in sentences: too little correction, too much, and what to mind.
    batch_variance : BatchVariance
    biology : dict of Biology, or Missing
        By kept column.
    dispersion : Comparison of Dispersion
    predictability : Comparison of BatchPredictability
    leave_one_batch_out : dict of LeaveOneBatchOut or Missing, or Missing
        By kept column.
    mixing : Mixing
    features : Features
    forecast : DesignForecast or Missing
    samples : DataFrame
        A row a sample: batch, distance to its batch's centre (what is kept taken out), iLISI, and cLISI of each kept
        factor, before and after.
    notes : tuple of str
        What the corrector and the numbers warned of.
    corrector : str
        Its name; empty without one.
    corrected : bool
        Whether there is a table after.
    n, n_features : int
    told : bool
        Whether the corrector knew of what is kept.
    distances : DistanceComparison or None
        Of a table of amounts: number 1 by each distance.
    """

    verdict: str
    under: tuple[str, ...]
    over: tuple[str, ...]
    mind: tuple[str, ...]
    batch_variance: BatchVariance
    biology: dict[str, Biology] | Missing
    dispersion: Comparison[Dispersion]
    predictability: Comparison[BatchPredictability]
    leave_one_batch_out: dict[str, LeaveOneBatchOut | Missing] | Missing
    mixing: Mixing
    features: Features
    forecast: DesignForecast | Missing
    samples: pd.DataFrame
    notes: tuple[str, ...]
    corrector: str
    corrected: bool
    n: int
    n_features: int
    told: bool = False
    distances: DistanceComparison | None = None
    one_scale: bool = True

    @property
    def reasons(self) -> tuple[str, ...]:
        """All of them, too little correction first."""
        return (*self.under, *self.over, *self.mind)

    @property
    def location(self) -> tuple[str, ...]:
        """Why batches still lie apart; empty if they do not."""
        return tuple(reason for reason in self.under if reason.startswith("Location"))

    @property
    def scale(self) -> tuple[str, ...]:
        """Why batches still scatter apart; empty if they do not."""
        return tuple(reason for reason in self.under if reason.startswith("Scale"))

    @property
    def rho2(self) -> float:
        """What batch and biology share at worst; NaN without biology."""
        return float("nan") if isinstance(self.forecast, Missing) else self.forecast.rho2

    def to_frame(self) -> pd.DataFrame:
        """The numbers as a table: number, what, before, after, reference (what would be right, or chance), note."""
        return pd.DataFrame(list(rows_of(self)), columns=["number", "what", "before", "after", "reference", "note"])

    def to_dict(self) -> dict[str, Any]:
        """All but what has a row a sample or a feature, ready for JSON: what has no value is None."""
        head = {name: getattr(self, name) for name in ("verdict", "under", "over", "mind", "notes", "corrector")}
        size = {"n": self.n, "n_features": self.n_features, "corrected": self.corrected, "told": self.told}
        numbers = {name: summary(getattr(self, name)) for name in NUMBERS}
        by = {} if self.distances is None else {"distances": plain(self.distances.table)}
        return {**{key: plain(value) for key, value in (head | size).items()}, **numbers, **by}

    def __repr__(self) -> str:
        return f"Evaluation(verdict={self.verdict!r}, n={self.n}, n_features={self.n_features})"

    def __str__(self) -> str:
        what = self.corrector or ("a corrected table" if self.corrected else "a table as measured")
        lines = [f"{self.verdict.capitalize()}: {what}, {self.n:,} samples x {self.n_features:,} features."]
        lines += [line for reason in self.reasons for line in _wrapped(f"- {reason}", "  ")]
        for k, (name, title) in enumerate(NUMBERS.items(), 1):
            value = getattr(self, name)
            if isinstance(value, DesignForecast):
                text = (
                    f"{value.rho2:.2f} at worst: {value.verdict}. {value.findings[0].message if value.findings else ''}"
                )
            elif isinstance(value, Mapping):
                text = " ".join(f"{column}: {each}" for column, each in value.items())
            else:
                text = str(value)
            if name == "batch_variance" and self.distances is not None and self.distances.disagree:
                text = f"{text} {self.distances}"
            lines += ["", *_wrapped(f"{k}. {title}. {text.strip()}", "   ")]
        return "\n".join(lines)


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent=indent, break_long_words=False)


def evaluate(
    before: Any,
    after: Any = None,
    *,
    corrector: Any = None,
    batch: Any,
    keep: Any = None,
    distance: str = "euclidean",
    fast: bool = False,
    cv: Any = 5,
    ordered: bool | None = None,
    repeats: int = 3,
    permutations: int = 999,
    random_state: Any = 0,
    n_jobs: int | None = None,
    progress: bool = False,
) -> Evaluation:
    """Eight numbers on a correction, by whichever tool, and what they say together.

    With a corrector, numbers that would be 0 by construction in the samples it learned from are had from samples it
    did not: fitted on half of each batch and measured on the other, or inside a cross-validation. With a corrected
    table alone, those numbers say why they cannot be had. With neither, the table is evaluated as measured.

    Parameters
    ----------
    before : table (n, p)
        Uncorrected. NaN is missing, and most numbers then say that they cannot be had.
    after : table (n, q), optional
        Corrected; rows as in `before`, aligned by index if both have one. By default what the corrector makes.
    corrector : transformer or function (X, batch, y) -> X, optional
        Unfitted. A function corrects whole tables; y is the first kept column.
    batch : labels (n,)
        What carries an index is aligned to that of `before`. None if the corrector's batch_key finds it.
    keep : table or columns, optional
        The biology: text, bool and category are factors, fractions are numbers.
    distance : {"euclidean", "aitchison", "braycurtis"}
        Of numbers 1 to 3. A CompositionalCorrector that gives log-ratios is compared with uncorrected log-ratios. For
        Aitchison's, zeros count as half the smallest proportion of the table before; `LogRatio` has other ways.
    fast : bool
        Without forests, with fewer repetitions and permutations: seconds.
    cv, repeats : of `batch_predictability`
    ordered : bool, optional
        Rows are in the order of time: of each batch the earlier half is learned from and the later one measured (of
        batches that follow each other, the earlier halves of all are learned from), classifiers and the prediction of a
        batch left out learn from the rows before. By default if cv is a TimeSeriesSplit.
    permutations : int
        Of 1 to 3. With fewer than 19 no p can be below .05, and p of F decides.
    random_state : None, int or Generator
    n_jobs : int, optional
        Threads of the forests.
    progress : bool
        Show a bar in a terminal.

    Returns
    -------
    Evaluation

    Raises
    ------
    AlignmentError
        Labels, or the table after, do not belong to these rows.
    BatchfixError
        One batch, labels that are none, a table that is none, or a corrector that is none.

    Notes
    -----
    No number here makes tests on a corrected table right: put batch in the model instead (`forecast` says what it
    costs not to). For a panel of returns, whose sectors are groups of columns, see `group_effects`.

    Examples
    --------
    >>> from batchfix import ComBat
    >>> from batchfix.datasets import make_lab
    >>> from batchfix.diagnostics.evaluation import evaluate
    >>> lab = make_lab(120, 40, random_state=0)
    >>> evaluate(lab.data, batch=lab.batch, keep=lab.group, fast=True).verdict
    'under-corrected'
    >>> evaluate(lab.data, corrector=ComBat(), batch=lab.batch, keep=lab.group, fast=True).verdict
    'fine'
    """
    check_settings(distance, cv, repeats, permutations)
    correction, table, labels = prepare(corrector, before, batch, keep)
    table = with_plain_names(table)
    seed = int(generator(random_state).integers(2**31 - 1))
    n = len(table)
    notes: list[str] = []
    raw = correction.baseline().whole(table)
    first = _named_frame(raw, table)
    second, reason = _after(after, correction, table, notes)
    folds, later = in_time(cv, ordered)
    work = Measurements(
        *(correction, table, labels, first, second, reason, distance, fast, folds, repeats, permutations, seed, n_jobs),
        notes=notes,
        zeros=zero_policy(table, distance, notes),
        ordered=later,
    )
    with tqdm(total=len(NUMBERS), desc="evaluate", disable=None if progress else True, leave=False) as bar:
        parts: dict[str, Any] = {}
        for name in NUMBERS:
            more = (parts["dispersion"], parts["batch_variance"].held_out) if name == "features" else ()
            parts[name] = getattr(work, name)(*more)
            bar.update()
    found = Evaluation(
        verdict="",
        under=(),
        over=(),
        mind=(),
        **parts,
        samples=_samples(parts, labels, table),
        notes=tuple(notes),
        corrector=correction.name if correction.corrector is not None else "",
        corrected=second is not None,
        n=n,
        n_features=first.shape[1],
        told=attempt(lambda: correction.knows_of(table), []) is True,
        distances=work.distances(),
        one_scale=work.one_scale,
    )
    judged = judge(found, str(reason))
    return replace(found, verdict=judged.verdict, under=judged.under, over=judged.over, mind=judged.mind)


def _named_frame(values: np.ndarray, table: Labelled) -> pd.DataFrame:
    """Numbers under the names of their rows, and of their columns where these are the table's."""
    columns = getattr(table.X, "columns", None)
    named = columns is not None and len(columns) == values.shape[1]
    return pd.DataFrame(values, table.index, pd.Index(columns) if named else None, copy=False)


def _after(
    after: Any, correction: Correction, table: Labelled, notes: list[str]
) -> tuple[pd.DataFrame | None, Missing]:
    """The corrected table, or why there is none."""
    if after is not None:
        read = read_samples(after, name="after")
        if len(read) != len(table):
            raise AlignmentError(
                f"after must have the rows of before, got {len(read)} for {len(table)}. Correct all of them."
            )
        named = read.index is not None and table.index is not None
        frame = pd.DataFrame(read.values, read.index if named else table.index, read.features, copy=False)
        if named:
            frame = inputs.align(frame, table.index, len(table), "after")
        return in_columns_of(frame, getattr(table.X, "columns", None)), Missing("")
    if correction.corrector is None:
        return None, Missing(NOT_CORRECTED)
    y = None if table.keep is None else table.keep.iloc[:, 0].to_numpy()
    done = attempt(lambda: correction.whole(table, y), notes)
    if isinstance(done, Missing):
        return None, done
    return _named_frame(done, table), Missing("")


def _samples(parts: Mapping[str, Any], labels: Labels, table: Labelled) -> pd.DataFrame:
    """A row a sample."""
    found = pd.DataFrame({"batch": labels.values[labels.codes]}, index=table.index)
    wanted = {"distance": (parts["dispersion"], "distances"), "ilisi": (parts["mixing"].ilisi, "per_sample")}
    wanted |= {f"clisi_{name}": (each, "per_sample") for name, each in parts["mixing"].clisi.items()}
    for name, (each, field) in wanted.items():
        for when in ("before", "after"):
            value = getattr(each, when)
            if not isinstance(value, Missing):
                found[f"{name}_{when}"] = getattr(value, field).to_numpy()
    return found
