"""Centres: how far samples lie from the centre of their batch, or from the fit of batch and what else is given.

Samples with a distance between them and labels flow in; distances flow out, with a word where they are not what they
seem.
"""

from __future__ import annotations

import numpy as np

from ..core import dispersion as core
from ..core.groups import Groups
from ..core.projection import Margin
from ..correctors.inputs import Labels
from ..correctors.notices import warn
from ..exceptions import BatchfixError, BatchfixWarning, ConvergenceWarning
from .distances import Measured
from .samples import beside, one_hot, refuse_too_few


def distances_to_fit(
    measured: Measured, labels: Labels, columns: dict[str, np.ndarray], center: str
) -> tuple[np.ndarray, np.ndarray | None]:
    """Distance of each sample to the fit of batch and what is given, and residuals (n, p) where there are features."""
    if center != "centroid":
        raise BatchfixError(f"center must be 'centroid' where something is given, got {center!r}. Leave it out.")
    n = len(measured.samples)
    margin = Margin.of(one_hot(labels), beside(columns.values(), n))
    refuse_too_few("batch", n, len(labels.values), margin.given_df, margin.residual_df)
    if measured.coordinates is not None:
        coordinates, z = core.distances_to_fit(measured.coordinates, margin)
        return z, coordinates
    residuals = None if measured.given else core.distances_to_fit(measured.samples.values, margin)[0]
    unit = float(measured.matrix.max(initial=0.0)) if measured.matrix is not None else 1.0
    z, negative = core.distances_to_fit_from(measured.products(), margin)
    _warn_negative(negative, center)
    return z * (unit or 1.0), residuals


def distances(measured: Measured, groups: Groups, center: str) -> np.ndarray:
    """Distance of each sample to its batch's centre, with a word where it is not what it seems."""
    negative, settled = 0, True
    if measured.coordinates is not None:
        z, settled = core.distances_to_centre(measured.coordinates, groups, median=center == "median")
    elif measured.matrix is not None and center == "median":
        unit = float(measured.matrix.max()) or 1.0
        z, negative, settled = core.distances_to_median_from(measured.products(), groups)
        z *= unit
    elif measured.matrix is not None:
        z, negative = core.distances_to_centroid_from(measured.matrix, groups)
    _warn_negative(negative, center)
    if not settled:
        warn("The spatial median of a batch did not settle: its last step was used.", ConvergenceWarning)
    return z


def _warn_negative(negative: int, center: str) -> None:
    if negative:
        warn(
            f"Distances to a {center} must have squares above 0, but those of {negative} samples are below, as these "
            "distances are not Euclidean: taken for 0. Their square roots are Euclidean more often.",
            BatchfixWarning,
        )
