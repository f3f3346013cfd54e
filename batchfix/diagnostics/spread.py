"""Spread: whether batches scatter alike. A difference here is one that moving batches by their means cannot remove.

A table and labels flow in; distances to each batch's centre, a test on these, and the same test feature by feature flow
out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..core import dispersion as core
from ..core.design import repr_labels
from ..core.feature_effects import benjamini_hochberg, feature_squares
from ..core.groups import Groups
from ..correctors.inputs import Labels
from ..correctors.notices import warn
from ..exceptions import BatchfixError, SingletonBatchWarning, TooFewSamplesError
from . import centres
from .anova import permanova
from .distances import Measured, measure
from .samples import one_hot, read_columns, read_labels, whole

CENTERS = ("centroid", "median")

FEWEST = 3
"""Samples of a batch that has a spread to compare."""

RELIABLE = 8
"""Samples of each batch from which on p is near its level: distances to one fit depend on each other."""


@dataclass(frozen=True, eq=False)
class Dispersion:
    """Result of `dispersion`.

    Attributes
    ----------
    F, p_value : float
        Of a one-way analysis of variance on the distances, p were these normal; or under permutations of them.
    df, residual_df : int
    distances : Series (n,)
        From each sample to the centre of its batch, what is given taken out; NaN where that leaves a sample alone.
    batches : DataFrame
        A row a batch: n, the mean and sd of its distances, and whether it was tested.
    features : DataFrame or None
        A row a feature: F, p_value, q_value of the Brown-Forsythe test; None for precomputed distances.
    center, distance : str
        What was asked.
    given : tuple of str
        What was taken out.
    permutations : int
        0 where p is that of F.
    """

    F: float
    p_value: float
    df: int
    residual_df: int
    distances: pd.Series
    batches: pd.DataFrame
    features: pd.DataFrame | None
    center: str
    distance: str
    given: tuple[str, ...] = ()
    permutations: int = 0

    @property
    def reliable(self) -> bool:
        """Whether p holds its level: it is of permutations, and each batch that was tested has eight samples."""
        return self.permutations > 0 and int(self.batches.loc[self.batches["tested"], "n"].min()) >= RELIABLE

    def __str__(self) -> str:
        mean = self.batches.loc[self.batches["tested"], "mean"]
        features = ""
        if self.features is not None:
            found, tested = int((self.features["q_value"] < 0.05).sum()), int(self.features["F"].notna().sum())
            features = f" Spread differs in {found:,} of {tested:,} features (false discovery rate 5%)."
        beyond = f" ({', '.join(self.given)} taken out)" if self.given else ""
        return (
            f"Samples lie between {mean.min():.4g} ({mean.idxmin()}) and {mean.max():.4g} ({mean.idxmax()}) from their "
            f"batch's {self.center}{beyond} on average: F = {self.F:.4g} on {self.df} and {self.residual_df} degrees "
            f"of freedom, p = {self.p_value:.4g}.{features}"
        )


def dispersion(
    X: Any,
    batch: Any,
    center: str = "centroid",
    distance: str = "euclidean",
    *,
    bias_adjust: bool = False,
    given: Any = None,
    fewest: int = FEWEST,
    permutations: int = 0,
    random_state: Any = None,
) -> Dispersion:
    """Test of equal multivariate dispersion: whether samples of all batches lie as far from their batch's centre.

        z_i = |x_i - centre of i's batch|,    F of a one-way analysis of variance of z on batch

    as `betadisper` of the R package vegan has it. With one feature it is Levene's test.

    Parameters
    ----------
    X : table (n, p), or distances (n, n)
        Complete.
    batch : labels (n,)
        What carries an index is aligned to X's.
    center : {"centroid", "median"}
        The mean, or the spatial median, which far samples move less.
    distance : {"euclidean", "aitchison", "braycurtis", "precomputed"}
        The last two take a matrix of 8 n^2 bytes.
    bias_adjust : bool
        Distances to a mean of few samples are too short, by sqrt((m - 1) / m) of m: multiply it out (Stier et al.
        2013, Ecology 94). Wanted where batches are small and of different sizes.
    given : table or columns (n, k), optional
        What is taken out beside batch, biology say: where it differs in prevalence between batches, distances to a
        batch's centre differ too. Distances are then those to the fit of both, over the root of 1 less the leverage
        (with nothing given, `bias_adjust`). For the centroid only.
    fewest : int
        Samples of the smallest batch that is tested.
    permutations : int
        Of the distances, for p; 0 for p of F.
    random_state : None, int or Generator

    Returns
    -------
    Dispersion

    Raises
    ------
    TooFewSamplesError
        Fewer than two batches of three samples.
    BatchfixError
        One batch, missing values, no spread within any batch, or labels that are none.

    Notes
    -----
    As `betadisper` has it, p is right for large batches. Distances to the mean of few samples are short, and depend on
    each other: of batches of 20, 8, 5, 4 and 3 samples of one kind, half have p < .05; with bias_adjust=True and
    permutations a tenth, and with fewest=8 one in twenty.

    Warns
    -----
    SingletonBatchWarning
        Batches of one or two samples, which have no spread to compare: they are left out of the tests.

    References
    ----------
    Anderson 2006, "Distance-based tests for homogeneity of multivariate dispersions", Biometrics 62.
    Brown and Forsythe 1974, "Robust tests for the equality of variances", JASA 69.

    Examples
    --------
    >>> from batchfix.datasets import make_lab
    >>> from batchfix.diagnostics.spread import dispersion
    >>> lab = make_lab(60, 20, random_state=0)
    >>> found = dispersion(lab.data, lab.batch)
    >>> found.df, found.residual_df, len(found.distances)
    (2, 57, 60)
    """
    if center not in CENTERS:
        raise BatchfixError(f"center must be 'centroid' or 'median', got {center!r}.")
    measured = measure(X, distance, "Dispersion")
    samples = measured.samples
    labels = read_labels(batch, samples, "batch")
    levels = len(labels.values)
    groups = Groups.of(labels.codes, levels)
    tested = _tested(labels, groups, whole("fewest", fewest, FEWEST))
    columns = {} if given is None else read_columns(given, samples, "given")
    count = whole("permutations", permutations, 0)
    residuals = None
    if columns:
        z, residuals = centres.distances_to_fit(measured, labels, columns, center)
        tested &= ~np.isnan(z)
        _refuse_few(labels.codes[tested])
    else:
        z = centres.distances(measured, groups, center)
    if bias_adjust and not columns:
        size = groups.counts[labels.codes]
        z *= np.sqrt(size / np.maximum(size - 1, 1))
    squares = feature_squares(z[tested, None], one_hot(labels)[tested])
    if not squares.total[0] > 0:
        raise BatchfixError(
            f"Samples must differ in their distance to their batch's {center}, got {z[tested][0]:.3g} for every one. "
            "There is no spread to compare."
        )
    of_batch = [z[(labels.codes == k) & ~np.isnan(z)] for k in range(levels)]
    p_value = float(squares.p_value[0])
    if count:
        batches = labels.values[labels.codes[tested]]
        p_value = permanova(z[tested, None], batches, permutations=count, random_state=random_state).p_value
    return Dispersion(
        F=float(squares.F[0]),
        p_value=p_value,
        df=int(squares.df[0]),
        residual_df=int(squares.residual_df[0]),
        distances=pd.Series(z, index=samples.rows, name="distance"),
        batches=pd.DataFrame(
            {
                "n": groups.counts,
                "mean": [each.mean() if len(each) else np.nan for each in of_batch],
                "sd": [each.std(ddof=1) if len(each) > 1 else np.nan for each in of_batch],
                "tested": np.bincount(labels.codes[tested], minlength=levels) > 0,
            },
            index=pd.Index(labels.values, name="batch"),
        ),
        features=None if distance == "precomputed" else _by_feature(measured, residuals, labels.codes, tested),
        center=center,
        distance=distance,
        given=tuple(columns),
        permutations=count,
    )


def _tested(labels: Labels, groups: Groups, fewest: int) -> np.ndarray:
    """Rows (n,) of batches that have a spread to compare.

    Raises
    ------
    TooFewSamplesError
        Fewer than two batches have.
    """
    few = groups.counts < fewest
    n, levels = len(labels.codes), len(labels.values)
    if (~few).sum() < 2:
        unique = ": no two rows share one" if levels == n else ""
        raise TooFewSamplesError(
            f"Two batches must have {fewest} samples at least, or there is no spread to compare, got {n} samples in "
            f"{levels} batches{unique}. Merge batches, or add samples."
        )
    alone = groups.counts < FEWEST
    if alone.any():
        warn(
            f"A batch must have {FEWEST} samples for its spread to be compared (one lies at its own centre, two lie "
            f"equally far from theirs), got fewer in {repr_labels(labels.values[alone])}: left out of the tests.",
            SingletonBatchWarning,
        )
    return np.asarray(~few[labels.codes])


def _refuse_few(codes: np.ndarray) -> None:
    """Refuse batches of which what is given leaves too few samples."""
    if (np.bincount(codes) >= 2).sum() < 2:
        raise TooFewSamplesError(
            "Two batches must have samples that share batch and what is given with others, or there is no spread to "
            f"compare, got {len(codes)} such samples. Give less."
        )


def _by_feature(
    measured: Measured, residuals: np.ndarray | None, codes: np.ndarray, tested: np.ndarray
) -> pd.DataFrame:
    """The Brown-Forsythe test of each feature, of residuals where something is given."""
    values = measured.samples.values if measured.coordinates is None else measured.coordinates
    values = values if residuals is None else residuals
    found, codes = np.unique(codes[tested], return_inverse=True)
    squares = core.brown_forsythe(values if tested.all() else values[tested], Groups.of(codes, len(found)))
    p_value = squares.p_value
    table = {"F": squares.F, "p_value": p_value, "q_value": benjamini_hochberg(p_value)}
    return pd.DataFrame(table, index=measured.samples.features)
