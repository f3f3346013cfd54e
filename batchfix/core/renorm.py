"""Batch renormalization of a stream: each batch is normalized by itself, then moved to the running population's frame.

Moments of one batch flow in, step by step; the map of that batch flows out, and the population moves on:

    y = r (x - mu_B) / sigma_B + d
    r = clip(sigma_B / sigma, 1 / r_max, r_max),   d = clip((mu_B - mu) / sigma, -d_max, d_max)

with sigma^2 = var + eps. mu and sigma are those of the population before the step (Ioffe 2017, "Batch Renormalization",
Algorithm 1). A batch's variance divides by n where it normalizes, by n - 1 where the population takes it up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .affine import Affine, Frame
from .location_scale import without_spread
from .moments import Moments


@dataclass(frozen=True)
class Population:
    """Running mean and variance of p features, and how they move.

    Attributes
    ----------
    momentum : float, None or "moments"
        What one batch weighs: a constant share (an exponential average, which forgets); the same as every other batch
        (the mean of batch means, the mean of batch variances); or as many rows as it has, and the variance is that of
        all rows, within and between batches (Moments that add up).
    known : bool
        Whether mean 0 and variance 1 are believed before anything is seen, as a layer does. If not, the first batch
        with two different values says what they are.
    steps : int
        Batches taken up.
    n, freedom : arrays (p,)
        What stands behind mean and var: batches that had a value, and that had two. With "moments" rows, and rows less
        one.
    mean, var : arrays (p,)

    Examples
    --------
    >>> start = Population.start(1, momentum=0.5)
    >>> start.step(Moments.of(np.array([[1.0], [3.0]]))).mean
    array([1.])
    """

    momentum: float | str | None
    known: bool
    steps: int
    n: np.ndarray
    mean: np.ndarray
    freedom: np.ndarray
    var: np.ndarray

    @classmethod
    def start(cls, p: int, momentum: float | str | None = 0.1, *, known: bool = True) -> Population:
        """The population before the first step: mean 0, variance 1."""
        zero = np.zeros(p)
        return cls(momentum, known, 0, zero, zero, zero, np.ones(p))

    def frame(self, eps: float, unit: float = 0.0) -> Frame:
        """Mean and sqrt(var + eps); a scale of NaN where none is known yet, or where it is rounding.

        `unit` is the rounding unit of the values: a spread of 64 of them is none.
        """
        frame = Frame(self.mean, np.sqrt(self.var + eps))
        unknown = without_spread(frame, unit)
        if not self.known:
            unknown |= self.freedom == 0
        return Frame(frame.location, np.where(unknown, np.nan, frame.scale))

    def step(self, batch: Moments, unit: float = 0.0) -> Population:
        """The population after one more batch: a feature without value stays, and one value moves the mean only."""
        seen, spread = batch.n > 0, batch.n > 1
        steps = self.steps + int(seen.any())
        if self.momentum == "moments":
            total = self._moments + batch
            freedom = np.maximum(total.n - 1, 0.0)
            var = np.where(freedom > 0, total.m2 / np.maximum(freedom, 1.0), self.var)
            return replace(self, steps=steps, n=total.n, mean=total.mean, freedom=freedom, var=var)
        var = batch.m2 / np.maximum(batch.n - 1, 1.0)
        if self.momentum is None:
            share = 1.0 / (self.n + 1)
            # a layer counts batches of one value in its average of variances too
            spread_share = share if self.known else 1.0 / (self.freedom + 1)
        else:
            share = spread_share = np.full(len(self.mean), float(self.momentum))
            if not self.known:
                spread = spread & ((self.freedom > 0) | ~is_flat(batch, unit))
                share, spread_share = np.where(self.n > 0, share, 1.0), np.where(self.freedom > 0, share, 1.0)
        return replace(
            self,
            steps=steps,
            n=self.n + seen,
            mean=np.where(seen, lerp(self.mean, batch.mean, share), self.mean),
            freedom=self.freedom + spread,
            var=np.where(spread, lerp(self.var, var, spread_share), self.var),
        )

    @property
    def order_matters(self) -> bool:
        """Whether other batches before these would have led elsewhere, so that populations do not add up.

        An exponential average forgets the first. And a batch of one value counts, in a layer's average of variances, as
        one more of those before it.
        """
        if self.momentum == "moments":
            return False
        return self.momentum is not None or (self.known and bool((self.n != self.freedom).any()))

    def __add__(self, other: Population) -> Population:
        """The population of both streams, where order does not matter."""
        if self.momentum == "moments":
            merged = self._moments + other._moments
            n, mean = merged.n, merged.mean
            freedom = np.maximum(n - 1, 0.0)
            var = np.where(freedom > 0, merged.m2 / np.maximum(freedom, 1.0), self.var)
        else:
            n, freedom = self.n + other.n, self.freedom + other.freedom
            mean = lerp(self.mean, other.mean, other.n / np.maximum(n, 1.0))
            var = lerp(self.var, other.var, other.freedom / np.maximum(freedom, 1.0))
        return replace(self, steps=self.steps + other.steps, n=n, mean=mean, freedom=freedom, var=var)

    @property
    def _moments(self) -> Moments:
        """Moments of all rows so far."""
        return Moments(self.n, self.mean, self.var * self.freedom)


def lerp(start: np.ndarray, end: np.ndarray, share: np.ndarray) -> np.ndarray:
    """From start to end by a share, and exactly to the end by a share of 1, as torch's."""
    step = end - start
    return np.asarray(np.where(share < 0.5, start + share * step, end - step * (1.0 - share)))


def is_flat(batch: Moments, unit: float) -> np.ndarray:
    """Where a batch has no spread: fewer than two values, or no more than rounding between them."""
    scale = np.where(batch.n > 1, np.sqrt(batch.m2 / np.maximum(batch.n, 1.0)), np.nan)
    return without_spread(Frame(batch.mean, scale), unit)


@dataclass(frozen=True)
class Bridged:
    """The map of a batch, and the bridge in it: r and d as limited. Arrays (p,), or (B, p) of many batches."""

    map: Affine
    r: np.ndarray
    d: np.ndarray

    @classmethod
    def stack(cls, batches: Sequence[Bridged]) -> Bridged:
        """Those of single batches (p,) as one (B, p)."""
        return cls._joined(batches, np.stack)

    @classmethod
    def concatenate(cls, sets: Sequence[Bridged]) -> Bridged:
        """Sets of batches (B, p) one after the other."""
        return cls._joined(sets, np.concatenate)

    @classmethod
    def _joined(cls, parts: Sequence[Bridged], join: Callable[[list[np.ndarray]], np.ndarray]) -> Bridged:
        center, scale, shift = (join([getattr(p.map, name) for p in parts]) for name in ("center", "scale", "shift"))
        return cls(Affine(center, scale, shift), join([p.r for p in parts]), join([p.d for p in parts]))

    def __getitem__(self, batches: np.ndarray) -> Bridged:
        """Some batches of many, in that order."""
        m = self.map
        some = Affine(m.center[batches], m.scale[batches], m.shift[batches])
        return Bridged(some, self.r[batches], self.d[batches])


def renormalize(
    batch: Moments, population: Population, r_max: float, d_max: float, *, eps: float, unit: float = 0.0
) -> Bridged:
    """The map of one batch: normalized by itself, and across the bridge to the population as far as the limits allow.

    Parameters
    ----------
    batch : Moments of arrays (p,)
    population : Population
        Before the batch's step.
    r_max, d_max : float
        At least 1 and 0; may be infinite.
    eps : float
        Added to both variances.
    unit : float
        Rounding unit of the values.

    Returns
    -------
    Bridged
        Where the batch has no spread (one value, a constant) its own scale says nothing: rows are centred by it, get d,
        and other rows would be scaled by the population. Where it has no value the map is the population's. Where the
        population has no scale yet, there is no bridge: r = 1, d = 0.

    Examples
    --------
    >>> batch = Moments.of(np.array([[1.0], [3.0]]))
    >>> bridged = renormalize(batch, Population.start(1), r_max=3.0, d_max=0.5, eps=0.0)
    >>> bridged.r, bridged.d, bridged.map.apply(np.array([[1.0], [3.0]])).ravel()
    (array([1.]), array([0.5]), array([-0.5,  1.5]))
    """
    flat, empty = is_flat(batch, unit), batch.n == 0
    source = Frame(batch.mean, np.sqrt(np.where(flat, 0.0, batch.m2 / np.maximum(batch.n, 1.0)) + eps))
    target = population.frame(eps, unit)
    unknown = np.isnan(target.scale)
    target = Frame(target.location, np.where(unknown, 1.0, target.scale))
    across = Affine.bridge(source, target).clip(r_max, d_max)
    r, d = np.where(unknown | empty, 1.0, across.r), np.where(unknown | empty, 0.0, across.d)
    scale = np.where(flat, 1.0 / target.scale, r / np.where(flat, 1.0, source.scale))
    return Bridged(Affine(np.where(empty, target.location, source.location), scale, d), r, d)
