"""Statistics of peers: location, spread and count of every group in every row.

Sorted cells and their `Peers` flow in; arrays (rows, groups) flow out. NaN is not counted. With weights w:

    mean = sum w x / W,   m2 = sum w (x - mean)^2,   var = m2 / (W - ddof Q / W),   W = sum w, Q = sum w^2

which is m2 / (n - ddof) where all weights are equal, whatever their unit ("reliability weights"). Groups merge into
the groups above them as `Moments` do (Chan et al. 1983). Medians and quantiles come from sorting each segment.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..exceptions import BatchfixError
from .moments import NOISE
from .peers import Peers
from .robust import MAD_TO_SIGMA

SMALLEST_SQUARE = 1e-300
SMALLEST_SPREAD = 1e-153
"""Deviations below this lose their digits when they are squared."""


@dataclass(frozen=True)
class PeerMoments:
    """Count, sum of weights and of their squares, mean and centred sum of squares of groups.

    Each an array of segments (lines, S) or, once they are `dense`, of groups (rows, groups). Without weights the three
    counts are one array. The mean of a group without a value is 0.
    """

    n: np.ndarray
    weight: np.ndarray
    square: np.ndarray
    mean: np.ndarray
    m2: np.ndarray

    @property
    def effective(self) -> np.ndarray:
        """W^2 / Q: how many equally weighted values would say as much (Kish 1965)."""
        if self.weight is self.n:
            return self.n
        return self.weight * (self.weight / np.where(self.square > 0, self.square, 1.0))

    def variance(self, ddof: float) -> np.ndarray:
        """Variance, NaN where there are not more than `ddof` values."""
        freedom: np.ndarray = self.n - ddof
        if self.weight is not self.n:
            freedom = self.weight - ddof * self.square / np.where(self.weight > 0, self.weight, 1.0)
        enough = self.effective - ddof > 1e-9  # of one value whatever its weight, 0 up to rounding
        return np.where(enough, self.m2 / np.where(enough, freedom, 1.0), np.nan)

    def dense(self, peers: Peers) -> PeerMoments:
        """Moments of segments as those of groups (rows, groups)."""
        n = peers.dense(self.n)
        counts = (n, n) if self.weight is self.n else (peers.dense(self.weight), peers.dense(self.square))
        return PeerMoments(n, *counts, peers.dense(self.mean), peers.dense(self.m2))

    def merged(self, parent: np.ndarray, n_groups: int) -> PeerMoments:
        """Moments (rows, groups) of the groups above: group g belongs to parent[g], which never falls."""
        filled, first = np.unique(parent, return_index=True)

        def total(values: np.ndarray) -> np.ndarray:
            out = np.zeros((len(values), n_groups))
            out[:, filled] = np.add.reduceat(values, first, axis=1)
            return out

        n = total(self.n)
        weight, square = (n, n) if self.weight is self.n else (total(self.weight), total(self.square))
        safe = np.where(weight > 0, weight, 1.0)
        rough = total(self.weight * self.mean) / safe
        mean = rough + total(self.weight * (self.mean - rough[:, parent])) / safe
        step = self.mean - mean[:, parent]
        return PeerMoments(n, weight, square, np.where(n > 0, mean, 0.0), total(self.m2 + self.weight * step * step))


class Scratch:
    """Memory to work in, for one block after another: fresh memory costs more than the arithmetic."""

    def __init__(self, size: int) -> None:
        self._cells, self._bits, self._seen = np.empty(size), np.empty(size, dtype=np.int64), np.empty(size, dtype=bool)

    def cells(self, shape: tuple[int, ...]) -> np.ndarray:
        """Numbers of this shape."""
        return self._cells[: shape[0] * shape[1]].reshape(shape)

    def seen(self, x: np.ndarray) -> np.ndarray | None:
        """All bits set (-1) where x is a number, none (0) where it is NaN; None if it is a number everywhere."""
        seen = np.equal(x, x, out=self._seen[: x.size].reshape(x.shape))
        if seen.all():
            return None
        bits = self._bits[: x.size].reshape(x.shape)
        signs = seen.view(np.int8)
        np.copyto(bits, np.negative(signs, out=signs))
        return bits


def measure(
    x: np.ndarray, peers: Peers, weights: np.ndarray | None = None, scratch: Scratch | None = None
) -> tuple[PeerMoments, np.ndarray]:
    """Moments of each segment, and the means (lines, S) about which x stands afterwards.

    Parameters
    ----------
    x : array (lines, m)
        Sorted cells, float64, C-contiguous; overwritten by their deviations from a first mean, which rounding may
        have left a little beside the mean.
    peers : Peers
    weights : array (lines, m), optional
        Sorted alike, none negative.
    scratch : Scratch, optional

    Raises
    ------
    BatchfixError
        An infinity, squares that leave float64, or weights that sum to 0 over observed values.
    """
    scratch = Scratch(x.size) if scratch is None else scratch
    seen, spare = scratch.seen(x), scratch.cells(x.shape)
    if seen is None:
        n = np.broadcast_to(peers.sizes.astype(np.float64), (len(x), len(peers.sizes)))
    else:
        n = np.absolute(peers.total(seen), dtype=np.float64)
    if weights is None:
        weight = square = n
    else:
        weights = weights if seen is None else _filled(weights, seen, np.empty_like(weights))
        weight, square = peers.total(weights), peers.total(weights * weights)
        refuse_weightless(weight, n)
    safe = np.maximum(n, 1.0) if weights is None else np.where(weight > 0, weight, 1.0)

    def mean_of(values: np.ndarray) -> np.ndarray:
        return peers.total(values if weights is None else values * weights) / safe

    with np.errstate(invalid="ignore", over="ignore"):
        rough = mean_of(_filled(x, seen, spare))
        x -= peers.spread(rough)
        deviation = _filled(x, seen, spare)
        left = mean_of(deviation)
        if deviation is x:
            deviation = np.multiply(x, x, out=spare)
        else:
            deviation *= deviation
        if weights is not None:
            deviation *= weights
        m2 = np.maximum(peers.total(deviation) - weight * left * left, 0.0)
    mean = rough + left
    _refuse_unfit(x, peers, n, mean, m2)
    return PeerMoments(n, weight, square, mean, m2), rough


def _filled(x: np.ndarray, seen: np.ndarray | None, out: np.ndarray) -> np.ndarray:
    """Write x with 0 for NaN to `out`, by masking bits, a third of the time of a choice; x itself if nothing is NaN."""
    if seen is None:
        return x
    np.bitwise_and(x.view(np.int64), seen, out=out.view(np.int64))
    return out


def refuse_weightless(weight: np.ndarray, n: np.ndarray) -> None:
    """Refuse groups that have values and no weight; sums of weights and counts of groups."""
    bad = (n > 0) & (weight <= 0)
    if bad.any():
        raise BatchfixError(
            f"Weights must have a sum above 0 in every group that has values; got 0 in {int(bad.sum())} group(s). "
            "Leave these cells out (NaN), or give them weights."
        )


def _refuse_unfit(x: np.ndarray, peers: Peers, n: np.ndarray, mean: np.ndarray, m2: np.ndarray) -> None:
    """Refuse what left float64; x are deviations."""
    if not np.isfinite(m2).all():
        raise BatchfixError(
            "X must be finite or NaN (missing), and its squares must fit float64; got infinity or values of about "
            "1e154 or more. Replace infinities by NaN, or divide X by a power of ten."
        )
    if not (m2 < SMALLEST_SQUARE).any():
        return
    tiny = (m2 < SMALLEST_SQUARE) & (n > 1)
    size = np.abs(x)
    size[np.isnan(x)] = 0.0
    extent = np.maximum.reduceat(size, peers.starts, axis=1)
    noise = NOISE * np.finfo(np.float64).eps * np.abs(mean)
    if (tiny & (extent > noise) & (extent < SMALLEST_SPREAD)).any():
        raise BatchfixError(
            f"The squares of X must fit float64; got a group whose values differ by about {extent[tiny].max():.1g}. "
            "Multiply X by a power of ten."
        )


def medians(x: np.ndarray, peers: Peers, scale: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Median and, with `scale`, median absolute deviation (x 1.4826) of each group, (rows, groups); x is only read."""
    center, spread = (np.full((len(x), len(peers.starts)), np.nan) for _ in range(2))
    for s, (a, m) in enumerate(zip(peers.starts, peers.sizes, strict=True)):
        part = np.sort(x[:, a : a + m], axis=1)
        center[:, s] = _quantile(part, 0.5)
        if scale:
            with np.errstate(invalid="ignore"):
                part = np.abs(part - center[:, s : s + 1])
            part.sort(axis=1)
            spread[:, s] = _quantile(part, 0.5) * MAD_TO_SIGMA
    return peers.dense(center, np.nan), peers.dense(spread, np.nan)


def quantiles(x: np.ndarray, peers: Peers, levels: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Two quantiles of each group, (rows, groups), interpolated linearly (Hyndman & Fan 1996, definition 7)."""
    low, high = (np.full((len(x), len(peers.starts)), np.nan) for _ in range(2))
    for s, (a, m) in enumerate(zip(peers.starts, peers.sizes, strict=True)):
        part = np.sort(x[:, a : a + m], axis=1)
        low[:, s], high[:, s] = (_quantile(part, q) for q in levels)
    return peers.dense(low, np.nan), peers.dense(high, np.nan)


def _quantile(part: np.ndarray, q: float) -> np.ndarray:
    """Quantile of each line of values in rising order, NaN last; NaN where there is no value."""
    n = part.shape[1] - np.isnan(part).sum(axis=1)
    at = q * np.maximum(n - 1, 0)
    below = np.floor(at).astype(np.intp)
    above = np.minimum(below + 1, np.maximum(n - 1, 0))
    lines = np.arange(len(part))
    low, high, share = part[lines, below], part[lines, above], at - below
    # two products: the difference of the largest numbers would overflow
    found: np.ndarray = np.where(share == 0, low, low * (1 - share) + high * share)
    return found
