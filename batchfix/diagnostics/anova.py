"""PERMANOVA: whether a factor moves the samples, given others, and how likely chance alone is to do as much.

A table, labels and what is given flow in; one small result flows out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from ..core import gram
from ..core import permanova as core
from ..core.feature_effects import Squares, feature_squares
from ..core.projection import Margin
from ..exceptions import BatchfixError, ConfoundedDesignError
from .distances import Measured, measure
from .samples import beside, generator, name_of, one_hot, read_columns, read_labels, refuse_too_few, whole


@dataclass(frozen=True, eq=False)
class Permanova:
    """Result of `permanova`.

    Attributes
    ----------
    F : float
        Pseudo-F: the factor's mean square over the residual one; infinite where nothing is left over.
    R2 : float
        The factor's share of all squared distances, beyond what is given: its marginal R2.
    R2_adjusted : float
        R2 less what as many columns of noise would explain; below 0 where the factor explains less than noise.
    p_value : float
        (1 + permutations with as large an F) / (1 + permutations); NaN without permutations.
    df, residual_df : int
        Degrees of freedom of the factor, and those left over.
    permuted_F : array (m,)
        F under each permutation.
    factor, given, distance
        What was asked.
    """

    F: float
    R2: float
    R2_adjusted: float
    p_value: float
    df: int
    residual_df: int
    permuted_F: np.ndarray  # noqa: N815 - the field's name
    factor: str
    given: tuple[str, ...]
    distance: str

    @property
    def least_p(self) -> float:
        """The smallest p that these permutations can give: of few samples, many are the same split of them."""
        if not len(self.permuted_F):
            return float("nan")
        most = float(self.permuted_F.max())
        tied = int((self.permuted_F >= most - 1e-9 * abs(most)).sum()) if np.isfinite(most) else 1
        return (1 + tied) / (1 + len(self.permuted_F)) if tied > 1 else 1 / (1 + len(self.permuted_F))

    def __str__(self) -> str:
        beyond = f" beyond {', '.join(self.given)}" if self.given else ""
        chance = f"p = {self.p_value:.4g} from {len(self.permuted_F):,} permutations"
        return (
            f"{self.factor} explains {self.R2:.1%} of the squared {self.distance} distances{beyond} "
            f"({self.R2_adjusted:.1%} adjusted): F = {self.F:.4g} on {self.df} and {self.residual_df} degrees of "
            f"freedom, {chance if len(self.permuted_F) else 'not tested'}."
        )


def permanova(
    X: Any,
    factor: Any,
    *,
    given: Any = None,
    distance: str = "euclidean",
    permutations: Any = 999,
    random_state: Any = None,
    progress: bool = False,
) -> Permanova:
    """Permutational multivariate analysis of variance of a table on one factor.

    With P_A the projection onto what the factor adds to the given columns, and G Gower's centred matrix of the
    distances (for Euclidean ones, inner products of centred rows),

        R2 = trace(P_A G) / trace(G),    F = (trace(P_A G) / df) / (trace(P_rest G) / residual_df)

    With Euclidean distances and nothing given, F is the Calinski-Harabasz score and R2 the eta2 of all features
    together. The factor's labels are permuted; where something is given, the residuals of it are (Freedman-Lane).

    Parameters
    ----------
    X : table (n, p), or distances (n, n)
        Complete. Samples in rows; counts or proportions above 0 for Aitchison, amounts for Bray-Curtis.
    factor : labels (n,)
        Batch, or anything else with levels. What carries an index is aligned to X's.
    given : table or columns (n, k), optional
        What the factor is to explain more than: text, bool and category are factors, fractions are numbers.
    distance : {"euclidean", "aitchison", "braycurtis", "precomputed"}
        The first two never form the n x n matrix unless the table has more features than samples. The other two need
        it: 8 n^2 bytes, 0.2 GB for 5,000 samples, with a warning above 2 GB.
    permutations : int or array (m, n)
        How many, or which: under row k, sample i takes the label of sample permutations[k, i]. 0 for no test.
    random_state : None, int or Generator
    progress : bool
        Show a bar in a terminal.

    Returns
    -------
    Permanova

    Raises
    ------
    TooFewSamplesError
        No degree of freedom is left over: all labels differ, say.
    ConfoundedDesignError
        The factor follows from what is given.
    BatchfixError
        One level, a constant table, missing values, or labels that are none.

    Notes
    -----
    A large dispersion of one group can pass for a difference in location (Anderson and Walsh 2013, "PERMANOVA, ANOSIM,
    and the Mantel test in the face of heterogeneous dispersions", Ecological Monographs 83): see `dispersion`.

    References
    ----------
    Anderson 2001, "A new method for non-parametric multivariate analysis of variance", Austral Ecology 26.
    McArdle and Anderson 2001, "Fitting multivariate models to community data", Ecology 82.
    Freedman and Lane 1983, JBES 1.

    Examples
    --------
    >>> from batchfix.datasets import make_lab
    >>> from batchfix.diagnostics.anova import permanova
    >>> lab = make_lab(60, 20, random_state=0)
    >>> found = permanova(lab.data, lab.batch, given=lab.group, random_state=0)
    >>> found.df, found.p_value
    (2, 0.001)
    """
    measured = measure(X, distance, "A PERMANOVA")
    samples = measured.samples
    n = len(samples)
    labels = read_labels(factor, samples, "factor")
    columns = read_columns(given, samples, "given")
    name, levels = name_of(factor, "factor"), len(labels.values)
    margin = Margin.of(one_hot(labels), beside(columns.values(), n))
    refuse_too_few(name, n, levels, margin.given_df, margin.residual_df)
    if not margin.df:
        raise ConfoundedDesignError(
            f"{name} must not follow from what is given, got levels that {', '.join(columns)} already tell apart. "
            "Give less, or test without it."
        )
    places = _places(permutations, n, random_state)
    squares, space = _partition(measured, margin, one_hot(labels), beside(columns.values(), n), test=places is not None)
    share = squares.added / (squares.added + squares.residual)
    permuted = np.zeros(0)
    if places is not None and space is not None:
        with _bar(places[0], progress) as done:
            codes = None if margin.given_df else labels.codes
            permuted = core.permuted_shares(space, margin, places[1], codes, done)
    return Permanova(
        F=squares.F,
        R2=squares.R2,
        R2_adjusted=squares.R2_adjusted,
        p_value=core.p_value(share, permuted),
        df=squares.df,
        residual_df=squares.residual_df,
        permuted_F=core.F_of(permuted, margin),
        factor=name,
        given=tuple(columns),
        distance=distance,
    )


def _partition(
    measured: Measured, margin: Margin, factor: np.ndarray, given: np.ndarray, *, test: bool
) -> tuple[Squares, core.Space | None]:
    """Sums of squares, and the residuals to permute where there is a test."""
    if measured.coordinates is not None:
        squares = feature_squares(measured.coordinates, factor, given).sum()
        _refuse_constant(squares.total)
        return squares, _space(measured, measured.coordinates, margin) if test else None
    G = measured.products()
    squares = core.partition(G, margin)
    _refuse_constant(squares.total)
    return squares, core.InnerProducts(gram.without(G, margin.given))


def _space(measured: Measured, coordinates: np.ndarray, margin: Margin) -> core.Space:
    """Residuals of coordinates; of inner products where these are smaller, and at hand for others too."""
    if measured.shared and coordinates.shape[1] > len(coordinates):
        return core.InnerProducts(gram.without(measured.products(), margin.given))
    return core.space_of(coordinates, margin)


def _refuse_constant(total: float) -> None:
    if not total > 0:
        raise BatchfixError(
            "Samples must differ for a factor to explain it, got a table whose features are all constant. "
            "Check that X is what was measured."
        )


def _places(permutations: Any, n: int, random_state: Any) -> tuple[int, Iterator[np.ndarray]] | None:
    """How many permutations, and where each sends the labels; None for none."""
    if np.ndim(permutations) == 0:
        count = whole("permutations, a number or an array of them,", permutations, 0)
        return (count, core.random_places(n, count, generator(random_state))) if count else None
    orders = np.asarray(permutations)
    if orders.ndim != 2 or orders.shape[1] != n or orders.dtype.kind not in "iu":
        raise BatchfixError(
            f"permutations must be a number, or an array (m, {n}) of whole numbers: a permutation of the {n} samples a "
            f"row; got shape {orders.shape} of {orders.dtype}."
        )
    wrong = np.flatnonzero((np.sort(orders, axis=1) != np.arange(n)).any(axis=1))
    if len(wrong):
        raise BatchfixError(
            f"Each row of permutations must hold 0 .. {n - 1} once each, got another in row {int(wrong[0])}. "
            "Count samples from 0."
        )
    return (len(orders), map(core.inverse, orders.astype(np.intp, copy=False))) if len(orders) else None


@contextmanager
def _bar(total: int, progress: bool) -> Iterator[Callable[[int], object]]:
    with tqdm(total=total, desc="permutations", disable=None if progress else True, leave=False) as bar:
        yield bar.update
