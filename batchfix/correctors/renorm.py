"""RenormCorrector: streams of small batches, each normalized by itself and bridged to the running population.

A table and its batch labels flow in, one step a batch in order of appearance; the map of each batch is made from the
population as it was before its step, and stays.
"""

from __future__ import annotations

from dataclasses import replace
from numbers import Real
from typing import Any, Self

import numpy as np
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted

from ..core.affine import Affine, Frame
from ..core.design import codes_of, repr_label, repr_labels
from ..core.least_squares import least_squares
from ..core.limits import Limits
from ..core.moments import Moments
from ..core.renorm import Bridged, Population, is_flat, renormalize
from ..core.schedule import is_number
from ..core.statistics import BatchStatistics
from ..exceptions import (
    BatchfixError,
    DataScaleWarning,
    MergeError,
    MissingFeatureWarning,
    NothingToCorrectWarning,
    SingletonBatchWarning,
    TooFewSamplesError,
)
from .applying import Solution
from .base import BatchwiseCorrector
from .notices import some, warn, warn_constant
from .rows import Rows
from .tables import Key

REQUESTS = {"batch": True, "keep": False}

FAR = 10.0
"""A mean beyond it, or a standard deviation so many times another, is not near (0, 1)."""

ENOUGH = 8.0
"""Degrees of freedom within batches from which a small variance is no accident."""

NEGLIGIBLE = 0.01
"""eps may be this share of a variance, and its root is then 0.5 % off."""


class RenormCorrector(BatchwiseCorrector):
    """Batch renormalization of a stream of small batches: the twin of the layer `batchfix.nn.BatchRenorm1d`.

    A batch of four is too small to be standardized by itself, and the running population lags behind what drifts. Each
    batch is normalized by itself, then moved to the population's frame as far as two limits allow:

        y = r (x - mu_B) / sigma_B + d
        r = clip(sigma_B / sigma, 1 / r_max, r_max),   d = clip((mu_B - mu) / sigma, -d_max, d_max)

    with sigma^2 = variance + eps. r_max=1, d_max=0 standardizes each batch by itself; infinite limits standardize by
    the population.

    Each batch is one step, in order of appearance (but one without any value, which takes none). r and d use the
    population as it was before that step, so a batch never depends on later ones, and its map is kept:
    ``transform(X, batch=b)`` repeats what the layer gave in training.
    Hence a batch must come whole, in one call of `fit` or `partial_fit`. Without labels a call is a batch, and
    `transform` repeats the last one's map.

    Parameters
    ----------
    r_max : float or knots of a schedule, default 3.0
        Limit of r, at least 1; may be inf. Knots are pairs (step, limit), such as [(5, 1.0), (40, 3.0)], joined by
        straight lines; a Schedule of the layer's is one too. The first batch is step 0.
    d_max : float or knots of a schedule, default 5.0
        Limit of abs(d), at least 0; may be inf.
    schedule : (first, last) or None, default None
        Steps at which both limits start to open, from 1 and 0, and have reached r_max and d_max, then finite numbers.
    momentum : float in (0, 1], None or "moments", default 0.1
        What a batch weighs in the population, which moves towards its mean and variance (n - 1). A number: an
        exponential average. None: all batches weigh alike, in the mean of means and in the mean of variances. Both are
        the layer's, and their variance is that within batches. "moments": all rows weigh alike, and the variance is
        that of all rows so far, within and between batches.
    start : {"standard", "first"}, default "standard"
        The population before the first batch: mean 0 and variance 1, as the layer's; or none, so that the first batch
        (with two different values of a feature) is standardized by itself, and founds it. "first" suits raw values,
        far from mean 0 and variance 1.
    eps : float, default 1e-5
        Added to variances, inside the square root. The layer's default; 0 suits raw values of small spread.
    batch_key, handle_unknown, copy
        See ComBat. "pooled" standardizes rows of an unknown batch by the running population, as the layer does in
        eval; "adapt" takes them for the next step of the stream, without taking it.

    Attributes
    ----------
    population_ : Population
        The running population and what stands behind it.
    running_mean_, running_var_ : arrays (p,)
        Its mean and variance, named as in the layer.
    r_, d_ : arrays (B, p)
        The bridge of each batch in `batches_`, as limited.
    order_ : array (B,)
        Batch labels in the order of their steps.
    batches_, batch_counts_, affine_, moments_, statistics_, solution_
        See ComBat.

    Notes
    -----
    Missing values are left where they are and never counted. A feature that a batch does not have stays as it was in
    the population; the batch's map is then the population's. Without spread (one row, a constant) rows become d.

    There is no `keep`: a step sees one batch, and in it nothing tells what is kept from batch. `adapt` learns a batch
    against the population as it is, without moving it. `merge` adds populations that do not depend on order: momentum
    "moments", or None (with start "standard", if no batch has one value only). Every batch keeps its map, and the other
    stream's steps come after this one's.

    Raises
    ------
    BatchfixError
        A parameter out of range; a batch that has had its step already; keep.

    References
    ----------
    Ioffe (2017), Batch Renormalization: Towards Reducing Minibatch Dependence in Batch-Normalized Models, Algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[1.0], [3.0], [11.0], [13.0]])
    >>> renorm = RenormCorrector(r_max=2.0, d_max=1.0, momentum=0.5, start="first", eps=0.0)
    >>> renorm.fit_transform(X, batch=["a", "a", "b", "b"]).round(3).ravel().tolist()
    [-1.0, 1.0, 0.293, 1.707]
    >>> renorm.running_mean_.tolist(), renorm.d_.ravel().tolist()
    ([7.0], [0.0, 1.0])
    """

    __metadata_request__fit = REQUESTS
    __metadata_request__partial_fit = REQUESTS
    __metadata_request__transform = REQUESTS
    __metadata_request__inverse_transform = REQUESTS

    _parameter_constraints = BatchwiseCorrector._parameter_constraints | {
        "r_max": "no_validation",
        "d_max": "no_validation",
        "schedule": "no_validation",
        "momentum": "no_validation",
        "start": [StrOptions({"standard", "first"})],
        "eps": "no_validation",
    }

    # what the common face asks of a corrector that keeps things
    keep_keys = None
    keep_factors = None
    keep_numbers = None
    keep_at_transform = False
    keep_y = False
    reference_batch = None

    population_: Population
    _bridged: Bridged
    _steps: np.ndarray
    _eps: float

    def __init__(
        self,
        *,
        r_max: Any = 3.0,
        d_max: Any = 5.0,
        schedule: tuple[float, float] | None = None,
        momentum: float | str | None = 0.1,
        start: str = "standard",
        eps: float = 1e-5,
        batch_key: Key | None = None,
        handle_unknown: str = "error",
        copy: bool = True,
    ) -> None:
        self.r_max = r_max
        self.d_max = d_max
        self.schedule = schedule
        self.momentum = momentum
        self.start = start
        self.eps = eps
        self.batch_key = batch_key
        self.handle_unknown = handle_unknown
        self.copy = copy

    # ---- the verbs

    def fit(self, X: Any, y: Any = None, *, batch: Any = None, keep: None = None) -> Self:
        """Start a stream: one step for each batch of X, in order of appearance.

        Parameters
        ----------
        X : table (n samples, p features)
            NaN is missing. DataFrame, polars DataFrame or anything numpy reads as numbers.
        y : ignored
        batch : labels (n,), or one label for all rows
            Aligned to X's index if it has an index.
        keep : None
            Refused: a step sees one batch, and cannot tell what is kept from it.

        Returns
        -------
        self
        """
        return super().fit(X, y, batch=batch, keep=keep)

    def partial_fit(self, X: Any, y: Any = None, *, batch: Any = None, keep: None = None) -> Self:
        """Go on with the stream: one step for each batch of X, which must be new, and whole.

        Parameters are those of `fit`, and the result is that of one `fit` on all rows so far, as long as the
        corrector's parameters stay. Limits may be set anew between calls, for the steps to come; momentum, start and
        eps may not.
        """
        return super().partial_fit(X, y, batch=batch, keep=keep)

    def transform(self, X: Any, *, batch: Any = None, keep: None = None) -> Any:
        """Map rows of known batches as in their step (see `handle_unknown` for others).

        Parameters
        ----------
        X : table (n, p)
        batch : labels (n,), or one label for all rows
        keep : None

        Returns
        -------
        table (n, p)
            Of X's container, index and float dtype, in standard deviations. NaN stays where it was.
        """
        return super().transform(X, batch=batch, keep=keep)

    def adapt(self, X: Any, *, batch: Any = None, keep: None = None) -> Self:
        """Learn new batches, each as the next step of the stream would, and take none.

        Returns
        -------
        corrector
            A new one that knows these batches too, with the population as it was. This one is unchanged.

        Raises
        ------
        BatchfixError
            A batch is known already.
        """
        return super().adapt(X, batch=batch, keep=keep)

    def merge(self, other: Self) -> Self:
        """Return a new corrector with the batches of both, as each was mapped, and the population of all of them.

        Raises
        ------
        MergeError
            The populations depend on order; a batch is in both; other class, parameters or features.
        """
        check_is_fitted(self)
        merged = super().merge(other)
        mine, theirs = self.population_, other.population_
        if mine.order_matters or theirs.order_matters or (mine.momentum, mine.known) != (theirs.momentum, theirs.known):
            raise MergeError(
                f"Two streams merge where the order of batches does not matter, got momentum={mine.momentum!r} and "
                f"{theirs.momentum!r}, start={self.start!r}: it does in an exponential average, and where a batch of "
                "one value meets start='standard'. Use momentum='moments'."
            )
        both = np.intersect1d(self.statistics_.batches, other.statistics_.batches)
        if len(both):
            raise MergeError(
                "A batch must be whole, in one of the two streams, got "
                f"{repr_labels(both) if self._labelled else 'no labels'} in both. Fit each with labels of its own."
            )
        merged.population_ = mine + theirs
        merged._place(self.statistics_.batches, other.statistics_.batches, other._bridged, other._steps)
        return merged

    # ---- fitted state worth reading

    @property
    def running_mean_(self) -> np.ndarray:
        """Mean (p,) of the running population."""
        check_is_fitted(self)
        return self.population_.mean

    @property
    def running_var_(self) -> np.ndarray:
        """Variance (p,) of the running population."""
        check_is_fitted(self)
        return self.population_.var

    @property
    def r_(self) -> np.ndarray:
        """r (B, p) of each batch, as limited."""
        return np.concatenate([s.details["bridged"].r for s in (self.solution_, *self._adapted)])

    @property
    def d_(self) -> np.ndarray:
        """d (B, p) of each batch, as limited."""
        return np.concatenate([s.details["bridged"].d for s in (self.solution_, *self._adapted)])

    @property
    def order_(self) -> np.ndarray:
        """Labels (B,) of the batches in the order of their steps."""
        check_is_fitted(self)
        return np.asarray(self.statistics_.batches[np.argsort(self._steps)])

    # ---- parameters

    def _check_parameters(self) -> None:
        super()._check_parameters()
        momentum, eps = self.momentum, self.eps
        named = momentum is None or (isinstance(momentum, str) and momentum == "moments")
        if not named and not (is_number(momentum) and 0 < float(momentum) <= 1):  # type: ignore[arg-type]  # a number
            raise BatchfixError(
                "momentum must be a number above 0 and at most 1 (what a batch weighs), None (all batches alike) or "
                f"'moments' (all rows alike), got {momentum!r}. The usual number is 0.1."
            )
        if not (is_number(eps) and 0 <= eps < np.inf):
            raise BatchfixError(
                f"eps must be a finite number, at least 0, added to variances, got {eps!r}. The layer's is 1e-5."
            )
        self._limits()

    def _limits(self) -> Limits:
        return Limits.of(self.r_max, self.d_max, self.schedule)

    # ---- the stream

    def _resolve(self, X: Any, y: Any, labels: dict[str, Any], **how: Any) -> Rows:
        if labels.get("keep") is not None:
            raise BatchfixError(
                f"keep must be None in {type(self).__name__}, got {type(labels['keep']).__name__}: a step sees one "
                "batch, in which nothing tells what is kept from it. Use ComBat, LinearCorrector or BatchCorrector."
            )
        return super()._resolve(X, y, labels, **how)

    def _learn_rows(self, X: Any, y: Any, labels: dict[str, Any], *, add: bool, **extra: Any) -> Rows:
        if not add:  # a new stream; _learn puts the old one back if this one fails
            self.__dict__.pop("statistics_", None)
        before = self.statistics_.batches if hasattr(self, "statistics_") else None
        # the face's fit would finish the estimates here, before the steps are taken
        rows = super()._learn_rows(X, y, labels, add=True, **extra)
        self._take_steps(rows, self.__dict__.pop("_chunk"), before)
        if not add:
            self._solution = self._solve(self.statistics_)
        return rows

    def _measure(self, rows: Rows, **extra: Any) -> BatchStatistics:
        self._chunk = super()._measure(rows, **extra)
        return self._chunk

    def _take_steps(self, rows: Rows, chunk: BatchStatistics, before: np.ndarray | None) -> None:
        """One step for each batch of these rows, in the order in which they first appear."""
        labels, x, unit = chunk.batches, chunk.moments.x, self.statistics_.eps
        if before is None:
            population = Population.start(rows.X.shape[1], _plain(self.momentum), known=self.start == "standard")
        else:
            population = self._population_before(labels, before)
        self._eps = float(self.eps)
        self._warn_of_batches(chunk, unit)
        self._warn_of_scale(chunk, unit)
        codes, where = np.unique(rows.first.codes, return_index=True)
        limits, order = self._limits(), codes[np.argsort(where)]
        found: dict[int, Bridged] = {}
        for k in order.tolist():
            batch = Moments(x.n[k], x.mean[k], x.m2[k])
            r_max, d_max = limits.at(population.steps)
            found[k] = renormalize(batch, population, r_max, d_max, eps=self._eps, unit=unit)
            population = population.step(batch, unit)
        self.population_ = population
        bridged, steps = Bridged.stack([found[k] for k in range(len(labels))]), np.argsort(order)
        if before is None or not self._labelled:
            self._bridged, self._steps = bridged, steps
        else:
            self._place(before, labels, bridged, steps)

    def _place(self, known: np.ndarray, labels: np.ndarray, bridged: Bridged, steps: np.ndarray) -> None:
        """Lay later steps of other batches beside those of the known ones, in the order of all labels."""
        at = np.argsort(codes_of(np.concatenate([known, labels]), self.statistics_.batches))
        self._bridged = Bridged.concatenate([self._bridged, bridged])[at]
        self._steps = np.concatenate([self._steps, steps + int(self._steps.max()) + 1])[at]

    def _population_before(self, labels: np.ndarray, before: np.ndarray) -> Population:
        """The population that new batches meet; no batch may be an old one, and nothing may start anew."""
        seen = codes_of(labels, before) >= 0
        if self._labelled and seen.any():
            raise BatchfixError(
                f"A batch takes one step, with all of its rows, and {repr_labels(labels[seen])} has had it. "
                "Give the rows of a batch in one call, or under a label of their own."
            )
        population = self.population_
        if self._eps != float(self.eps):
            raise BatchfixError(
                f"A stream must go on as it started, with eps={self._eps!r}, got eps={self.eps!r}. Call fit() to start "
                "a new one."
            )
        if (population.momentum, population.known) != (_plain(self.momentum), self.start == "standard"):
            raise BatchfixError(
                f"A stream must go on as it started, with momentum={population.momentum!r} and "
                f"start={'standard' if population.known else 'first'!r}, got momentum={self.momentum!r} and "
                f"start={self.start!r}. Call fit() to start a new one."
            )
        return population

    def _solve(self, statistics: BatchStatistics) -> Solution:
        """What applying asks for: the maps that the steps left behind, and that of the population."""
        shape = self._bridged.r.shape
        return Solution(
            batches=statistics.batches,
            target=Frame(np.zeros(shape[1]), np.ones(shape[1])),
            pooled=self._running,
            fit=least_squares(statistics.moments),
            maps=self._bridged.map,
            unknown=Affine(self._running.location[None], 1.0 / self._running.scale[None], np.zeros((1, shape[1]))),
            loads=np.zeros(0, dtype=int),
            details={"bridged": self._bridged},
        )

    @property
    def _unit(self) -> np.ndarray:
        """Below any spread: x - center is then taken by itself, and rows of a constant batch become d to the bit."""
        return np.full(self._bridged.r.shape[1], -np.inf)

    @property
    def _running(self) -> Frame:
        """Frame (p,) of the population; scale 1 where it has none."""
        frame = self.population_.frame(self._eps, self.statistics_.eps)
        return Frame(frame.location, np.where(np.isnan(frame.scale), 1.0, frame.scale))

    def _learn_new(self, rows: Rows, **extra: Any) -> list[Solution]:
        """Maps of new batches, each as the next step's."""
        statistics = self._reduce(rows, (), np.zeros((len(rows.X), 0)), **extra)
        unit = max(statistics.eps, self.statistics_.eps)
        r_max, d_max = self._limits().at(self.population_.steps)
        learned = []
        for k, label in enumerate(statistics.batches):
            x = statistics.moments.x
            if not x.n[k].any():
                raise TooFewSamplesError(
                    f"The rows of batch {repr_label(label)} must hold observed values to be learned from, got only NaN."
                    " Leave them out."
                )
            batch = Moments(x.n[k], x.mean[k], x.m2[k])
            one = renormalize(batch, self.population_, r_max, d_max, eps=self._eps, unit=unit)
            bridged = Bridged.stack([one])
            label_alone = statistics.batches[k : k + 1]
            learned.append(replace(self.solution_, batches=label_alone, maps=bridged.map, details={"bridged": bridged}))
        return learned

    # ---- warnings

    def _warn_unlabelled(self) -> None:
        warn(
            f"{type(self).__name__} was fitted without batch labels: all rows of a call are one batch, and one step. "
            "Pass batch=, or set batch_key.",
            NothingToCorrectWarning,
        )

    def _warn_of_batches(self, chunk: BatchStatistics, unit: float) -> None:
        """Say which results of these batches deserve a second look."""
        x = chunk.moments.x
        n, alone = np.asarray(x.n), int((chunk.moments.rows == 1).sum())
        if alone:
            warn(
                f"{alone} batch{'es have' if alone > 1 else ' has'} one row, which has no spread: all of its features "
                "become d (0 where d_max is 0).",
                SingletonBatchWarning,
            )
        empty = np.flatnonzero((n == 0).any(axis=0))
        if len(empty):
            warn(
                f"{some(empty, self._feature)} without observed value in some batch: the population stands in.",
                MissingFeatureWarning,
            )
        still = np.flatnonzero((is_flat(x, unit) & (n > 1)).any(axis=0))
        if len(still):
            warn_constant(still, self._feature, "constant within a batch: only located there, not scaled.")

    def _warn_of_scale(self, chunk: BatchStatistics, unit: float) -> None:
        """Say when eps or the start do not suit a feature's values, once there are enough of them to tell."""
        x = self.statistics_.moments.x
        freedom, new = _freedom(x, unit), _freedom(chunk.moments.x, unit).sum(axis=0)
        total = freedom.sum(axis=0)
        now = (total >= ENOUGH) & (total - new < ENOUGH)
        if not now.any():
            return
        var = np.where(now, np.where(freedom > 0, x.m2, 0.0).sum(axis=0) / np.maximum(total, 1), np.nan)
        small = np.flatnonzero(NEGLIGIBLE * var < float(self.eps))
        if len(small):
            warn(
                f"{some(small, self._feature)} of so small a variance ({var[small].min():.2g}) that eps={self.eps:g} "
                "is no small part of it, and the result spreads less than it should. Use eps=0, or another unit.",
                DataScaleWarning,
            )
        if self.start != "standard" or self._limits().shut:
            return
        n = np.asarray(x.n)
        center, sd = (n * x.mean).sum(axis=0) / np.maximum(n.sum(axis=0), 1), np.sqrt(var)
        far = np.flatnonzero(now & ((np.abs(center) > FAR) | (sd > FAR) | (sd < 1 / FAR)))
        if len(far):
            warn(
                f"{some(far, self._feature)} far from mean 0 and variance 1 (mean {center[far[0]]:.3g}, standard "
                f"deviation {sd[far[0]]:.3g}), where the running population starts: it takes many steps to get there. "
                "Use start='first'.",
                DataScaleWarning,
            )


def _freedom(x: Moments, unit: float) -> np.ndarray:
    """Degrees of freedom (B, p) within batches that have a spread."""
    return np.where(is_flat(x, unit), 0.0, x.n - 1)


def _plain(momentum: Any) -> float | str | None:
    """Momentum as a number of Python's, to be compared and stored."""
    return float(momentum) if isinstance(momentum, Real) else momentum
