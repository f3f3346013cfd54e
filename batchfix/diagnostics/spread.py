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
from ..core.gram import gower
from ..core.groups import Groups
from ..correctors.inputs import Labels
from ..correctors.notices import warn
from ..exceptions import BatchfixError, BatchfixWarning, ConvergenceWarning, SingletonBatchWarning, TooFewSamplesError
from .distances import Measured, measure
from .samples import one_hot, read_labels

CENTERS = ("centroid", "median")

FEWEST = 3
"""Samples of a batch that has a spread to compare."""


@dataclass(frozen=True, eq=False)
class Dispersion:
    """Result of `dispersion`.

    Attributes
    ----------
    F, p_value : float
        Of a one-way analysis of variance on the distances, p were these normal.
    df, residual_df : int
    distances : Series (n,)
        From each sample to the centre of its batch.
    batches : DataFrame
        A row a batch: n, the mean and sd of its distances, and whether it was tested.
    features : DataFrame or None
        A row a feature: F, p_value, q_value of the Brown-Forsythe test; None for precomputed distances.
    center, distance : str
        What was asked.
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

    def __str__(self) -> str:
        mean = self.batches.loc[self.batches["tested"], "mean"]
        features = ""
        if self.features is not None:
            found, tested = int((self.features["q_value"] < 0.05).sum()), int(self.features["F"].notna().sum())
            features = f" Spread differs in {found:,} of {tested:,} features (false discovery rate 5%)."
        return (
            f"Samples lie between {mean.min():.4g} ({mean.idxmin()}) and {mean.max():.4g} ({mean.idxmax()}) from their "
            f"batch's {self.center} on average: F = {self.F:.4g} on {self.df} and {self.residual_df} degrees of "
            f"freedom, p = {self.p_value:.4g}.{features}"
        )


def dispersion(
    X: Any, batch: Any, center: str = "centroid", distance: str = "euclidean", *, bias_adjust: bool = False
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

    Returns
    -------
    Dispersion

    Raises
    ------
    TooFewSamplesError
        Fewer than two batches of three samples.
    BatchfixError
        One batch, missing values, no spread within any batch, or labels that are none.

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
    tested = _tested(labels, groups)
    z = _distances(measured, groups, center)
    if bias_adjust:
        size = groups.counts[labels.codes]
        z *= np.sqrt(size / np.maximum(size - 1, 1))
    squares = feature_squares(z[tested, None], one_hot(labels)[tested])
    if not squares.total[0] > 0:
        raise BatchfixError(
            f"Samples must differ in their distance to their batch's {center}, got {z[tested][0]:.3g} for every one. "
            "There is no spread to compare."
        )
    of_batch = [z[groups.rows(k)] for k in range(levels)]
    return Dispersion(
        F=float(squares.F[0]),
        p_value=float(squares.p_value[0]),
        df=int(squares.df[0]),
        residual_df=int(squares.residual_df[0]),
        distances=pd.Series(z, index=samples.rows, name="distance"),
        batches=pd.DataFrame(
            {
                "n": groups.counts,
                "mean": [each.mean() for each in of_batch],
                "sd": [each.std(ddof=1) if len(each) > 1 else np.nan for each in of_batch],
                "tested": groups.counts >= FEWEST,
            },
            index=pd.Index(labels.values, name="batch"),
        ),
        features=None if distance == "precomputed" else _by_feature(measured, labels.codes, tested),
        center=center,
        distance=distance,
    )


def _tested(labels: Labels, groups: Groups) -> np.ndarray:
    """Rows (n,) of batches that have a spread to compare.

    Raises
    ------
    TooFewSamplesError
        Fewer than two batches have.
    """
    few = groups.counts < FEWEST
    n, levels = len(labels.codes), len(labels.values)
    if (~few).sum() < 2:
        alone = ": no two rows share one" if levels == n else ""
        raise TooFewSamplesError(
            f"Two batches must have {FEWEST} samples at least, or there is no spread to compare, got {n} samples in "
            f"{levels} batches{alone}. Merge batches, or add samples."
        )
    if few.any():
        warn(
            f"A batch must have {FEWEST} samples for its spread to be compared (one lies at its own centre, two lie "
            f"equally far from theirs), got fewer in {repr_labels(labels.values[few])}: left out of the tests.",
            SingletonBatchWarning,
        )
    return np.asarray(~few[labels.codes])


def _distances(measured: Measured, groups: Groups, center: str) -> np.ndarray:
    """Distance of each sample to its batch's centre, with a word where it is not what it seems."""
    negative, settled = 0, True
    if measured.coordinates is not None:
        z, settled = core.distances_to_centre(measured.coordinates, groups, median=center == "median")
    elif measured.matrix is not None and center == "median":
        unit = float(measured.matrix.max()) or 1.0
        z, negative, settled = core.distances_to_median_from(gower(measured.matrix), groups)
        z *= unit
    elif measured.matrix is not None:
        z, negative = core.distances_to_centroid_from(measured.matrix, groups)
    if negative:
        warn(
            f"Distances to a {center} must have squares above 0, but those of {negative} samples are below, as these "
            "distances are not Euclidean: taken for 0. Their square roots are Euclidean more often.",
            BatchfixWarning,
        )
    if not settled:
        warn("The spatial median of a batch did not settle: its last step was used.", ConvergenceWarning)
    return z


def _by_feature(measured: Measured, codes: np.ndarray, tested: np.ndarray) -> pd.DataFrame:
    """The Brown-Forsythe test of each feature."""
    values = measured.samples.values if measured.coordinates is None else measured.coordinates
    found, codes = np.unique(codes[tested], return_inverse=True)
    squares = core.brown_forsythe(values[tested], Groups.of(codes, len(found)))
    p_value = squares.p_value
    table = {"F": squares.F, "p_value": p_value, "q_value": benjamini_hochberg(p_value)}
    return pd.DataFrame(table, index=measured.samples.features)
