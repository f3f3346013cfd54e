"""Distances: which differences between samples count, and in which form they are had.

A table and the name of a distance flow in. For Euclidean and Aitchison distances coordinates flow out, whose squared
differences they are, and no distance is ever formed. Bray-Curtis and given distances have no coordinates: the n x n
matrix flows out, 8 n^2 bytes of it. What is measured once can serve several numbers.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from ..core.faults import AMOUNTS, check
from ..core.gram import bray_curtis, gower, inner_products
from ..core.log_ratios import clr
from ..core.zeros import ZeroPolicy
from ..correctors.notices import warn
from ..exceptions import AlignmentError, BatchfixError, BatchfixWarning
from .samples import Samples, read_samples

DISTANCES = ("euclidean", "aitchison", "braycurtis", "precomputed")
LARGE = 2e9
"""Bytes of a matrix that deserve a warning."""

SYMMETRY = 1e-8

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Measured:
    """Samples with a distance between them: coordinates (n, p), or a matrix (n, n) of our own.

    Attributes
    ----------
    shared : bool
        Whether several numbers are had of it: what they write over is then a copy.
    """

    samples: Samples
    coordinates: np.ndarray | None
    matrix: np.ndarray | None
    shared: bool = False
    distance: str = ""

    @property
    def given(self) -> bool:
        """Whether the table holds distances and no features."""
        return self.matrix is not None and self.distance == "precomputed"

    def products(self) -> np.ndarray:
        """Inner products (n, n) of the centred samples, to write over: of a matrix that is not shared, over itself."""
        return self._products.copy() if self.shared else self._made(self.matrix)

    @cached_property
    def _products(self) -> np.ndarray:
        return self._made(None if self.matrix is None else self.matrix.copy())

    def _made(self, matrix: np.ndarray | None) -> np.ndarray:
        if matrix is not None:
            return gower(matrix)
        assert self.coordinates is not None
        return inner_products(self.coordinates, np.zeros((len(self.samples), 0)))


def measure(X: Any, distance: str, what: str, *, shared: bool = False, zeros: ZeroPolicy | None = None) -> Measured:
    """Read a table as a distance sees it; `what` needs it, as in "A PERMANOVA". One that was read before is returned.

    `zeros` says what they become where a logarithm is taken; without it they are refused.

    Raises
    ------
    BatchfixError
        There is no such distance, or it cannot be had of these values.
    """
    if isinstance(X, Measured):
        return X
    if distance not in DISTANCES:
        raise BatchfixError(f"distance must be one of {', '.join(map(repr, DISTANCES))}; got {distance!r}.")
    samples = read_samples(X, what)
    if distance == "euclidean":
        return Measured(samples, samples.values, None, shared)
    if distance == "aitchison":
        return Measured(samples, clr(samples.values if zeros is None else zeros.fill(samples.values)), None, shared)
    n = len(samples)
    size = f"{n:,} x {n:,} numbers, {8e-9 * n * n:.2g} GB"
    logger.info("The %s distances are held as a matrix: %s.", distance, size)
    if 8 * n * n > LARGE:
        warn(
            f"The {distance} distances of all pairs take {size}. A part of the samples, drawn within batches, is as "
            "telling; Euclidean and Aitchison distances need no such matrix.",
            BatchfixWarning,
        )
    try:
        if distance == "precomputed":
            return Measured(samples, None, _given(X, samples.values), shared, distance)
        check(samples.values, AMOUNTS)
        return Measured(samples, None, bray_curtis(samples.values), shared)
    except MemoryError as error:
        raise BatchfixError(
            f"The {distance} distances of all pairs must fit in memory, got {size}. Use a part of the samples."
        ) from error


def _given(X: Any, values: np.ndarray) -> np.ndarray:
    """A copy of a matrix of distances, symmetric, not negative and 0 on the diagonal."""
    n = len(values)
    if values.shape != (n, n):
        raise BatchfixError(f"Precomputed distances must be a square matrix, got shape {values.shape}.")
    if isinstance(X, pd.DataFrame) and list(X.index) != list(X.columns):
        raise AlignmentError(
            "Rows and columns of precomputed distances must be the same samples in one order, got other names. "
            "Use X.loc[ids, ids], or X.to_numpy() if they are in order."
        )
    D = values.astype(np.float64)
    largest = float(np.abs(D).max())
    if (D < 0).any() or np.abs(np.diagonal(D)).max() > SYMMETRY * largest:
        raise BatchfixError(
            "Precomputed distances must be 0 from each sample to itself and not negative elsewhere, got "
            f"{float(D.min()):.3g} as the least and {float(np.abs(np.diagonal(D)).max()):.3g} on the diagonal. "
            "Turn similarities into distances first."
        )
    apart = max(
        float(np.abs(D[a : a + 512] - D[:, a : a + 512].T).max()) for a in range(0, n, 512)
    )  # block by block: no further n x n
    if apart > SYMMETRY * largest:
        raise BatchfixError(f"Precomputed distances must be symmetric, got pairs that differ by {apart:.3g}.")
    return D
