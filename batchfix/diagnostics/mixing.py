"""Mixing: whether samples lie among their own kind. Wanted of biology, not of batch.

A table and labels flow in; silhouettes and LISI flow out, sample by sample, and what they are on average.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..core import lisi as core
from ..core.feature_effects import centred
from ..core.silhouette import silhouette as silhouettes
from ..exceptions import BatchfixError, TooFewSamplesError
from .samples import Samples, generator, read_labels, read_samples, whole

METRICS = ("euclidean", "sqeuclidean")


@dataclass(frozen=True, eq=False)
class Silhouette:
    """Result of `silhouette`.

    Attributes
    ----------
    mean : float
        Over all samples: the silhouette score.
    per_sample : Series (n,)
        Between -1 (among another class) and 1 (among its own); 0 for a class of one.
    per_class : Series
        Mean of each class.
    metric : str
        What was asked.
    """

    mean: float
    per_sample: pd.Series
    per_class: pd.Series
    metric: str

    def __str__(self) -> str:
        classes = ", ".join(f"{name} {value:.3f}" for name, value in self.per_class.head(8).items())
        more = ", ..." if len(self.per_class) > 8 else ""
        return f"Silhouette {self.mean:.3f} ({self.metric}): {classes}{more}. 0 is no structure, 1 wide apart."


def silhouette(X: Any, labels: Any, metric: str = "euclidean") -> Silhouette:
    """Silhouette of each sample: how much nearer its own class is than the nearest other one.

        s = (b - a) / max(a, b),    a, b the mean distances to the others of its class and to the nearest other class

    By batch it should be near 0 or below; by biology, as high as before a correction.

    Parameters
    ----------
    X : table (n, p)
        Complete.
    labels : labels (n,)
        From 2 to n - 1 classes. What carries an index is aligned to X's.
    metric : {"euclidean", "sqeuclidean"}
        Squared distances take time in n x classes x p, and no pair is ever looked at; distances take n x n x p, some
        rows at a time.

    Returns
    -------
    Silhouette

    Raises
    ------
    BatchfixError
        One class, as many classes as samples, a constant table, missing values, or labels that are none.

    References
    ----------
    Rousseeuw 1987, "Silhouettes", Journal of Computational and Applied Mathematics 20.

    Examples
    --------
    >>> from batchfix.diagnostics.mixing import silhouette
    >>> found = silhouette([[0.0], [1.0], [10.0], [12.0]], ["a", "a", "b", "b"])
    >>> round(found.mean, 3)
    0.856
    """
    if metric not in METRICS:
        raise BatchfixError(f"metric must be 'euclidean' or 'sqeuclidean', got {metric!r}.")
    samples = read_samples(X, "A silhouette")
    classes = read_labels(labels, samples, "labels")
    if len(classes.values) >= len(samples):
        raise TooFewSamplesError(
            f"labels must put some samples in one class, got {len(classes.values)} classes for {len(samples)} samples: "
            "every label is unique. Pass classes, not sample names."
        )
    _refuse_constant(samples)
    s = silhouettes(samples.values, classes.codes, squared=metric == "sqeuclidean")
    per_class = np.bincount(classes.codes, s) / np.bincount(classes.codes)
    return Silhouette(
        mean=float(s.mean()),
        per_sample=pd.Series(s, index=samples.rows, name="silhouette"),
        per_class=pd.Series(per_class, index=pd.Index(classes.values, name="class"), name="silhouette"),
        metric=metric,
    )


@dataclass(frozen=True, eq=False)
class Lisi:
    """Result of `lisi`.

    Attributes
    ----------
    mean, median : float
        Over all samples.
    chance : float
        The mean were labels dealt to the same samples at random.
    per_sample : Series (n,)
        From 1, all neighbours of one label, to the number of labels.
    n_labels : int
    perplexity : float
    n_neighbors : int
        What was used.
    """

    mean: float
    median: float
    chance: float
    per_sample: pd.Series
    n_labels: int
    perplexity: float
    n_neighbors: int

    @property
    def scaled(self) -> float:
        """Where the mean lies between 1 (no mixing) at 0 and chance (perfect mixing) at 1."""
        return (self.mean - 1) / (self.chance - 1) if self.chance > 1 else float("nan")

    def __str__(self) -> str:
        return (
            f"LISI {self.mean:.3f} on average (median {self.median:.3f}): of {self.n_labels} labels, a sample has "
            f"effectively so many around it. Labels dealt at random would give {self.chance:.3f}."
        )


def lisi(
    X: Any,
    labels: Any,
    perplexity: float = 30,
    n_neighbors: int | None = None,
    *,
    permutations: int = 20,
    random_state: Any = 0,
) -> Lisi:
    """Local inverse Simpson's index: the effective number of labels among each sample's neighbours.

        LISI = 1 / sum_c (weight of neighbours labelled c)^2,    weights exp(-beta distance) of a set perplexity

    With batch as labels (iLISI) it should be near `chance`, with biology (cLISI) near 1.

    Parameters
    ----------
    X : table (n, p)
        Complete. For many features, pass their leading components.
    labels : labels (n,)
        What carries an index is aligned to X's.
    perplexity : float
        Effective number of neighbours that count.
    n_neighbors : int, optional
        Neighbours looked at, without the sample itself: 3 x perplexity, or all others where there are fewer. This and
        perplexity=30 is the harmonypy package; a graph of k neighbours that counts the sample itself is, in the
        scib-metrics package, n_neighbors=k - 1 and perplexity=k // 3.
    permutations : int
        Random orders of the labels that `chance` is the mean of.
    random_state : None, int or Generator
        Of these.

    Returns
    -------
    Lisi

    Raises
    ------
    TooFewSamplesError
        Fewer neighbours than the perplexity.
    BatchfixError
        One label, a constant table, missing values, or labels that are none.

    References
    ----------
    Korsunsky et al. 2019, "Fast, sensitive and accurate integration of single-cell data with Harmony", Nature Methods
    16. Luecken et al. 2022, "Benchmarking atlas-level data integration in single-cell genomics", Nature Methods 19.

    Examples
    --------
    >>> from batchfix.datasets import make_lab
    >>> from batchfix.diagnostics.mixing import lisi
    >>> lab = make_lab(60, 20, random_state=0)
    >>> found = lisi(lab.data, lab.batch, perplexity=10)
    >>> found.n_labels, found.n_neighbors, bool(1 <= found.mean <= found.chance)
    (3, 30, True)
    """
    samples = read_samples(X, "LISI")
    read_labels(labels, samples, "labels")
    whole("permutations", permutations, 1)
    return Neighbourhood.of(samples, perplexity, n_neighbors).lisi(
        labels, permutations=permutations, random_state=random_state
    )


@dataclass(frozen=True, eq=False)
class Neighbourhood:
    """Who lies near whom, whatever the labels: found once, any number of labels can be looked at.

    Attributes
    ----------
    samples : Samples
    neighbours : array (n, k)
        Numbers of each sample's nearest others.
    weights : array (n, k)
        How much each counts.
    perplexity : float
    """

    samples: Samples
    neighbours: np.ndarray
    weights: np.ndarray
    perplexity: float

    @classmethod
    def of(cls, samples: Samples, perplexity: Any, n_neighbors: int | None = None) -> Neighbourhood:
        """Look around each sample."""
        k = _neighbors(perplexity, n_neighbors, len(samples))
        _refuse_constant(samples)
        distances, neighbours = nearest(samples.values, k)
        return cls(samples, neighbours, core.neighbour_weights(distances, perplexity), float(perplexity))

    def lisi(self, labels: Any, *, permutations: int = 20, random_state: Any = 0) -> Lisi:
        """How many labels a sample has around it."""
        read = read_labels(labels, self.samples, "labels")
        count = whole("permutations", permutations, 1)
        n_labels = len(read.values)
        found = core.inverse_simpson(self.weights, read.codes[self.neighbours], n_labels)
        chance = core.chance_level(self.weights, self.neighbours, read.codes, n_labels, count, generator(random_state))
        return Lisi(
            mean=float(found.mean()),
            median=float(np.median(found)),
            chance=float(chance.mean()),
            per_sample=pd.Series(found, index=self.samples.rows, name="lisi"),
            n_labels=n_labels,
            perplexity=self.perplexity,
            n_neighbors=self.neighbours.shape[1],
        )


def nearest(values: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances and numbers (n, k) of each sample's k nearest others."""
    from sklearn.neighbors import NearestNeighbors

    u, unit = centred(values.astype(np.float64))
    scale = np.exp2(np.floor(np.log2(unit.max(initial=0.0) or 1.0)))  # a power of two changes no digit
    u *= unit / scale
    distances, neighbours = NearestNeighbors(n_neighbors=k).fit(u).kneighbors()
    return distances * scale, neighbours


def _neighbors(perplexity: Any, n_neighbors: Any, n: int) -> int:
    """How many neighbours to look at."""
    if isinstance(perplexity, str) or np.ndim(perplexity) or not 1 < perplexity < np.inf:
        raise BatchfixError(f"perplexity must be a number above 1, got {perplexity!r}. 30 is usual.")
    k = min(int(3 * perplexity), n - 1) if n_neighbors is None else whole("n_neighbors", n_neighbors, 1)
    if k > n - 1:
        raise TooFewSamplesError(f"n_neighbors must be at most the {n - 1} other samples, got {k}. Lower it.")
    if perplexity > k:
        raise TooFewSamplesError(
            f"There must be more neighbours than the perplexity, got {k} and {perplexity}. "
            f"Use perplexity={max(2, k // 3)}."
        )
    return k


def _refuse_constant(samples: Samples) -> None:
    values = samples.values
    if (values == values[0]).all():
        raise BatchfixError(
            "Samples must differ to lie apart, got a table whose features are all constant. "
            "Check that X is what was measured."
        )
