"""Learners: the classifiers that tell whether something can be predicted, and the scores of what they predict.

Training and test samples flow in as numbers, with what is to be predicted; scores of the test samples flow out. Each
learner stands on standardised features, or on their leading components where there are many; both are learned from the
training samples.

    linear    logistic regression, or ridge regression for amounts        COMPONENTS components at most
    forest    extremely randomised trees                                  FOREST_COMPONENTS components at most

The trees (Geurts et al. 2006, "Extremely randomized trees", Machine Learning 63) cut at random places, so that none
need be searched for: about as able as those of a random forest, in a quarter of its time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from scipy.linalg import eigh
from threadpoolctl import ThreadpoolController

from ..exceptions import BatchfixError

LEARNERS = ("linear", "forest")
COMPONENTS = 100
FOREST_COMPONENTS = 50
TREES = 100
MANY = 1000
SMALL_LEAF, LARGE_LEAF = 2, 5
"""Samples that a leaf holds at least, of fewer samples than MANY and of more."""

REGULARISATION = 0.01
"""C of the logistic regression: strong, as befits more features than samples."""

SMALL = 1 << 20
"""Values of a table that one thread is quickest with."""

SAME_SCORE = 1e-9
"""Log-odds as near as this are a tie: a rounding error is no opinion."""


def check_learners(names: Sequence[str]) -> tuple[str, ...]:
    """Names of learners, or a sentence."""
    names = (names,) if isinstance(names, str) else tuple(names)
    if not names or not set(names) <= set(LEARNERS):
        raise BatchfixError(f"classifiers must be among {', '.join(map(repr, LEARNERS))}; got {list(names)!r}.")
    return names


@dataclass(frozen=True)
class Components:
    """Standardised features, turned onto their leading components where that saves anything."""

    mean: np.ndarray
    scale: np.ndarray
    axes: np.ndarray | None

    @classmethod
    def of(cls, X: np.ndarray, count: int, seed: int, *, standardise: bool = True) -> Components:
        """Learn at most `count` components; with fewer features these are left as they are."""
        return cls.learned(X, count, seed, standardise=standardise)[0]

    @classmethod
    def learned(
        cls, X: np.ndarray, count: int, seed: int, *, standardise: bool = True
    ) -> tuple[Components, np.ndarray]:
        """The same, and the coordinates of the samples they were learned from."""
        mean = X.mean(axis=0, dtype=np.float64)
        u = X - mean
        scale = np.ones(X.shape[1])
        if standardise:
            scale = np.sqrt(np.einsum("ij,ij->j", u, u) / len(u))
            largest = np.maximum(X.max(axis=0), -X.min(axis=0))
            scale = np.where(scale > 64 * np.finfo(X.dtype).eps * largest, scale, np.inf)
            u /= scale
        if X.shape[1] <= count:
            return cls(mean, scale, None), u
        with _threads_for(X.size):
            axes = cls._axes(u, count, seed)
            return cls(mean, scale, axes), u @ axes

    @staticmethod
    def _axes(u: np.ndarray, count: int, seed: int) -> np.ndarray:
        wanted = min(count, min(u.shape) - 1)
        if min(u.shape) > 4 * wanted:
            return _nearly_leading(u, wanted, seed)
        return _leading(u, wanted)

    def of_rows(self, X: np.ndarray) -> np.ndarray:
        """Coordinates of samples."""
        u = X - self.mean
        u /= self.scale
        with _threads_for(X.size):
            return np.asarray(u if self.axes is None else u @ self.axes)


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def _threads_for(size: int) -> Any:
    """One BLAS thread for small products: several cost more than these do, above all on a busy machine."""
    return _blas().limit(limits=1 if size < SMALL else None)


def _leading(u: np.ndarray, count: int) -> np.ndarray:
    """Leading right singular vectors (p, count) of a small or narrow table, by way of its products: squares suffice."""
    wide = u.shape[1] > u.shape[0]
    u = u / np.exp2(np.floor(np.log2(np.abs(u).max() or 1.0)))  # a power of two changes no digit
    with _threads_for(u.size):
        products = u @ u.T if wide else u.T @ u
        with _threads_for(0):
            values, vectors = eigh(products, driver="evd")
        values, vectors = values[::-1][:count], vectors[:, ::-1][:, :count]
        if not wide:
            return np.asarray(vectors)
        there = values > values.max(initial=0.0) * 1e-12  # a direction of nothing but noise has no axis
        return np.asarray(u.T @ (vectors[:, there] / np.sqrt(values[there])))


def _nearly_leading(u: np.ndarray, count: int, seed: int, rounds: int = 2) -> np.ndarray:
    """The same of a large table, nearly: subspace iteration from random columns (Halko et al. 2011, algorithm 4.4).

    Where to look is found in single precision, at half the price; the vectors are then had in double.
    """
    rough = np.empty_like(u, dtype=np.float32)
    np.divide(u, np.abs(u).max() or 1.0, out=rough, casting="same_kind")  # no table is too large or small for it
    y = rough @ np.random.default_rng(seed).standard_normal((u.shape[1], count + 10)).astype(np.float32)
    for _ in range(rounds):
        y = rough @ _orthonormal(rough.T @ _orthonormal(y))
    return _leading(_orthonormal(y.astype(np.float64)).T @ u, count)


def _orthonormal(columns: np.ndarray) -> np.ndarray:
    with _threads_for(0):
        return np.linalg.qr(columns)[0]


@dataclass(frozen=True)
class Target:
    """What is to be predicted: codes of classes, or amounts.

    Attributes
    ----------
    values : array (n,)
    classes : array of labels, or None for amounts
    """

    values: np.ndarray
    classes: np.ndarray | None

    @property
    def n_classes(self) -> int:
        """0 for amounts."""
        return 0 if self.classes is None else len(self.classes)

    @property
    def score_name(self) -> str:
        """How predictions are scored: AUC of two classes, balanced accuracy of several, R2 of amounts."""
        return {0: "R2", 2: "AUC"}.get(self.n_classes, "balanced accuracy")


def predictions(
    names: Sequence[str], train: np.ndarray, target: Target, test: np.ndarray, seed: int, n_jobs: int | None = None
) -> dict[str, np.ndarray]:
    """Scores of the test samples by each learner: (m, classes), or amounts (m, 1).

    `target` is that of the training samples. A class without a training sample has scores NaN; nothing can be learned
    from a single one, and all scores are then equal.
    """
    many = COMPONENTS if "linear" in names else FOREST_COMPONENTS
    space, a = Components.learned(train, many, seed)
    b = space.of_rows(test)
    found = {}
    for name in names:
        if name == "forest" and a.shape[1] > FOREST_COMPONENTS and space.axes is None:
            own, u = Components.learned(train, FOREST_COMPONENTS, seed)
            v = own.of_rows(test)
        else:
            most = FOREST_COMPONENTS if name == "forest" else COMPONENTS
            u, v = a[:, :most], b[:, :most]
        with _threads_for(0):
            found[name] = _predicted(_model(name, target, len(u), seed, n_jobs), u, target, v)
    return found


def _model(name: str, target: Target, n: int, seed: int, n_jobs: int | None) -> Any:
    from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor
    from sklearn.linear_model import LogisticRegression, RidgeCV

    if name == "forest":
        leaf = SMALL_LEAF if n < MANY else LARGE_LEAF
        kind: Any = {"n_estimators": TREES, "min_samples_leaf": leaf, "random_state": seed, "n_jobs": n_jobs}
        if target.classes is None:
            return ExtraTreesRegressor(**kind, max_features=1 / 3)
        return ExtraTreesClassifier(**kind, class_weight="balanced")
    if target.classes is None:
        return RidgeCV(np.logspace(-1, 6, 8))
    return LogisticRegression(C=REGULARISATION, class_weight="balanced", max_iter=2000)


def _predicted(model: Any, train: np.ndarray, target: Target, test: np.ndarray) -> np.ndarray:
    if target.classes is None:
        return np.asarray(model.fit(train, target.values).predict(test))[:, None]
    seen = np.unique(target.values)
    scores = np.full((len(test), target.n_classes), np.nan)
    if len(seen) == 1:
        scores[:, seen] = 0.0
        return scores
    model.fit(train, target.values)
    if hasattr(model, "decision_function") and len(seen) == 2:
        d = model.decision_function(test)
        scores[:, seen] = np.column_stack([-d, d])
    else:
        scores[:, seen] = model.predict_proba(test)
    return np.round(scores / SAME_SCORE) * SAME_SCORE


# ---- scores


def area_under_curve(scores: np.ndarray, positive: np.ndarray) -> float:
    """Area under the receiver operating characteristic; NaN where one kind is absent.

    Examples
    --------
    >>> area_under_curve(np.array([0.1, 0.4, 0.4, 0.8]), np.array([False, False, True, True]))
    0.875
    """
    from scipy.stats import rankdata  # here: importing it takes long

    m = int(positive.sum())
    pairs = m * (len(positive) - m)
    if not pairs or np.isnan(scores).any():
        return float("nan")
    return float((rankdata(scores)[positive].sum() - m * (m + 1) / 2) / pairs)


def one_vs_rest(scores: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Area under the curve of each class against all others (classes,)."""
    return np.array([area_under_curve(scores[:, k], codes == k) for k in range(scores.shape[1])])


def concordant(scores: np.ndarray, target: Target) -> tuple[float, float]:
    """Pairs of samples that differ in the target and are ranked the right way round (ties half), and how many differ.

    Their ratio is the AUC of two classes, the mean of AUCs one against the rest, weighted by pairs, of several, and
    the concordance of amounts (Harrell et al. 1982, JAMA 247).

    Examples
    --------
    >>> concordant(np.array([[1.0], [2.0], [2.0]]), Target(np.array([10.0, 20.0, 30.0]), None))
    (2.5, 3.0)
    """
    if target.classes is None:
        order, rank = np.sign(np.subtract.outer(target.values, target.values)), scores[:, 0]
        same_way = order * np.sign(np.subtract.outer(rank, rank))
        pairs = float(np.abs(order).sum()) / 2
        return (float(same_way.sum()) / 2 + pairs) / 2, pairs
    right = total = 0.0
    for k in range(1 if target.n_classes == 2 else 0, target.n_classes):
        positive = target.values == k
        area = area_under_curve(scores[:, k], positive)
        pairs = 0.0 if np.isnan(area) else float(positive.sum() * (~positive).sum())
        right, total = right + (area * pairs if pairs else 0.0), total + pairs
    return right, total


def score(scores: np.ndarray, target: Target) -> float:
    """Score of predictions by the target's kind; NaN where it cannot be had."""
    if target.classes is None:
        about = float(np.square(target.values - target.values.mean()).sum())
        return 1.0 - float(np.square(target.values - scores[:, 0]).sum()) / about if about > 0 else float("nan")
    if target.n_classes == 2:
        return area_under_curve(scores[:, 1], target.values == 1)
    there = np.unique(target.values)
    if len(there) < 2:
        return float("nan")
    guess = np.where(np.isnan(scores), -np.inf, scores).argmax(axis=1)
    return float(np.mean([(guess[target.values == k] == k).mean() for k in there]))
