"""LISI, the local inverse Simpson's index: how many labels a sample effectively has around it.

Distances to each sample's nearest others (n, k) and their codes flow in; one number a sample flows out. Neighbours
weigh by a Gaussian-like kernel of the distance, as wide as gives them a set perplexity:

    w_j = exp(-beta d_j) / sum_l exp(-beta d_l),   beta such that -sum_j w_j ln w_j = ln perplexity
    LISI = 1 / sum_c (sum over neighbours j of label c of w_j)^2

1 where all neighbours have one label; the number of labels where these are equally frequent and mixed (Korsunsky et al.
2019, "Fast, sensitive and accurate integration of single-cell data with Harmony", Nature Methods 16).
"""

from __future__ import annotations

import numpy as np

from . import blocks

TOLERANCE = 1e-5
MAX_ITER = 50
"""Where the published search for beta stops, and with it the digits of every published LISI."""

BLOCK_VALUES = 1 << 18


def neighbour_weights(distances: np.ndarray, perplexity: float) -> np.ndarray:
    """Weights (n, k) of the neighbours at these distances, each row summing to 1.

    The search for beta doubles or halves it until the entropy is passed, then bisects, as in the published code. It
    starts at a power of two near one over the row's mean distance, so that no unit is too large or too small for it;
    powers of two are what it would have come by from 1.

    Parameters
    ----------
    distances : array (n, k)
    perplexity : float
        Below k. Where more neighbours than that lie at distance 0, they share the weight.

    Examples
    --------
    >>> neighbour_weights(np.array([[1.0, 1.0, 1.0, 50.0]]), perplexity=3).round(3)
    array([[0.333, 0.333, 0.333, 0.   ]])
    """
    out = np.empty(distances.shape)
    step = max(1, BLOCK_VALUES // max(1, distances.shape[1]))

    def work(span: tuple[int, int]) -> None:
        out[slice(*span)] = _search(distances[slice(*span)], np.log(perplexity))

    blocks.run(work, blocks.spans(0, len(distances), step), out.nbytes)
    return out


def _search(distances: np.ndarray, target: float) -> np.ndarray:
    d = distances - distances.min(axis=1, keepdims=True)  # shifts nothing but the underflow
    mean = d.mean(axis=1)
    beta = np.exp2(-np.floor(np.log2(np.where(mean > 0, mean, 1.0))))
    low, high = np.full(len(d), -np.inf), np.full(len(d), np.inf)
    weights, entropy = _weigh(d, beta)
    for _ in range(MAX_ITER):
        at = np.flatnonzero(np.abs(entropy - target) >= TOLERANCE)
        if not len(at):
            break
        wide = entropy[at] > target
        low[at[wide]], high[at[~wide]] = beta[at[wide]], beta[at[~wide]]
        with np.errstate(invalid="ignore"):
            middle = (low[at] + high[at]) / 2
        beta[at] = np.where(np.isinf(high[at]), 2 * beta[at], np.where(np.isinf(low[at]), beta[at] / 2, middle))
        weights[at], entropy[at] = _weigh(d[at], beta[at])
    return weights


def _weigh(d: np.ndarray, beta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights of a kernel, and their entropy."""
    exponent = beta[:, None] * d
    weights = np.exp(-exponent)
    total = weights.sum(axis=1)
    exponent *= weights
    entropy = np.log(total) + exponent.sum(axis=1) / total
    weights /= total[:, None]
    return weights, entropy


def inverse_simpson(weights: np.ndarray, codes: np.ndarray, n_levels: int) -> np.ndarray:
    """LISI (n,) of neighbours with these weights and codes, both (n, k).

    Examples
    --------
    >>> inverse_simpson(np.array([[0.25, 0.25, 0.5]]), np.array([[0, 0, 1]]), 2).tolist()
    [2.0]
    """
    n, k = weights.shape
    out = np.empty(n)
    for a, b in blocks.spans(0, n, max(1, BLOCK_VALUES // max(k, n_levels))):
        cells = codes[a:b] + n_levels * np.arange(b - a)[:, None]
        shares = np.bincount(cells.ravel(), weights[a:b].ravel(), minlength=(b - a) * n_levels)
        out[a:b] = 1 / np.square(shares).reshape(b - a, n_levels).sum(axis=1)
    return out


def chance_level(
    weights: np.ndarray, neighbours: np.ndarray, codes: np.ndarray, n_levels: int, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Mean LISI under `count` random orders of the labels (n,), the neighbours (n, k) staying where they are."""
    means = [inverse_simpson(weights, rng.permutation(codes)[neighbours], n_levels).mean() for _ in range(count)]
    return np.array(means)
