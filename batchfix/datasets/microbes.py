"""Sequencing counts of microbial communities, biased by batch, with the truth beside them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import softmax

from .arguments import check_counts, check_numbers, generator
from .layout import assign, batch_sizes, labels, names

# What a batch that misses a taxon still detects of it.
_RESIDUE = 1e-3


@dataclass(frozen=True, eq=False)
class MicrobeTable:
    """A made table of counts, and everything that went into it.

    With `g` the batch of row `i`, the shares of the reads that were to be expected in row `i` are
    ``expected[i]``, and the counts are drawn from them, `depth[i]` reads in all::

        expected[i, j]  ~  truth[i, j] * exp(bias[g, j]) * (1 if present[g, j] else 0.001)

    with ``~`` for "proportional to, each row summing to 1". Where a batch misses no taxon, the centred
    log-ratios of `expected` are those of `truth` plus `bias`, exactly.

    Attributes
    ----------
    counts : DataFrame of shape (n_samples, n_taxa), int64
        Reads of each taxon in each sample. Columns are ``"taxon1"``, ``"taxon2"``, ..., padded with zeros.
    batch, group : Series of length n_samples
        Batch (``"b1"``, ``"b2"``, ...) and group (``"case"`` or ``"control"``) of each row.
    depth : Series of length n_samples, int64
        Reads in each row: its sum.
    truth : DataFrame of shape (n_samples, n_taxa)
        Proportions of the taxa in the samples themselves, before any batch. Every value is above 0
        and every row sums to 1, so that each log-ratio is known.
    bias : DataFrame of shape (n_batches, n_taxa)
        Natural logarithm of how well each batch detects each taxon. Only ratios count: each row has
        mean 0.
    present : DataFrame of shape (n_batches, n_taxa), bool
        False where a batch nearly misses a taxon, and detects a thousandth of what it would.
    base : Series of length n_taxa
        Expected centred log-ratios of the controls' truth (natural logarithm, mean 0).
    effect : Series of length n_taxa
        Natural logarithm of the cases' abundance relative to the controls'. Between any two taxa the
        expected log-ratio of the truth differs by the difference of their effects; the centred
        log-ratios differ by ``effect - effect.mean()``.
    """

    counts: pd.DataFrame
    batch: pd.Series
    group: pd.Series
    depth: pd.Series
    truth: pd.DataFrame
    bias: pd.DataFrame
    present: pd.DataFrame
    base: pd.Series
    effect: pd.Series


def make_microbes(
    n_samples: int = 120,
    n_taxa: int = 200,
    n_batches: int = 4,
    *,
    batch_bias: float = 0.5,
    missed: float = 0.05,
    depth: int = 10_000,
    depth_shift: float = 0.5,
    depth_variation: float = 0.3,
    effect_size: float = 1.0,
    effect_share: float = 0.2,
    confounding: float = 0.0,
    spread: float = 3.0,
    variation: float = 2.0,
    random_state: int | np.random.Generator | np.random.SeedSequence | None = None,
) -> MicrobeTable:
    r"""Make sequencing counts with batch effects, a biological effect, and a known truth.

    Row :math:`i` lies in batch :math:`g` and is a case (:math:`m_i = 1`) or a control (0). Abundances are
    log-normal, each batch multiplies each taxon by its own efficiency, and sequencing draws a number of
    reads that says nothing of the sample:

    .. math::

        \log a_{ij} &= \mu_j + m_i \beta_j + \tau \varepsilon_{ij},
        \qquad \mu_j \sim N(0, s^2), \quad \varepsilon_{ij} \sim N(0, 1) \\
        q_{ij} &\propto a_{ij} \, e^{b_{gj}} \, r_{gj},
        \qquad b_{gj} \sim N(0, \sigma^2), \quad r_{gj} \in \{1, 10^{-3}\} \\
        \log N_i &= \log N + D_g + d_i,
        \qquad D_g \sim N(0, u^2), \quad d_i \sim N(0, v^2) \\
        x_i &\sim \text{Multinomial}(N_i, q_i)

    where `s` is `spread`, :math:`\tau` `variation`, :math:`\sigma` `batch_bias`, `N` `depth`, `u` `depth_shift`
    and `v` `depth_variation`. The truth is :math:`a_i`, closed to sum 1. Logarithms are natural: a bias of
    0.5 is a factor of 1.6. No organism is wholly absent from a sample; zeros come from abundances below what
    the depth can show, and from taxa that a batch misses.

    Parameters
    ----------
    n_samples, n_taxa, n_batches : int
        Size of the table; two taxa at least, and two samples a batch. Batches are as equal as integers
        allow; rows come in random order.
    batch_bias : float in [0, 10]
        Standard deviation of a batch's log efficiency over taxa.
    missed : float in [0, 1]
        Share of the taxa that a batch nearly misses, to the nearest count, drawn for each batch anew; a
        thousandth of what it would detect remains.
    depth : int in [1, 1e8]
        Reads of a typical sample: the median of the distribution that depths are drawn from.
    depth_shift, depth_variation : float in [0, 2]
        Standard deviation of the log depth between batches, and between the samples of a batch.
    effect_size : float in [0, 10]
        Log-ratio of the cases' abundance to the controls', on the taxa that carry the effect.
    effect_share : float in [0, 1]
        Share of the taxa that carry the effect, to the nearest count, in turn up and down.
    confounding : float in [0, 1]
        Share of cases is ``(1 + confounding) / 2`` in batches 1, 3, 5, ... and
        ``(1 - confounding) / 2`` in the others, to within one sample: at 0 every batch is balanced,
        at 1 each holds one group. For an even number of equal batches, the share of the group's
        variance that batch explains is ``confounding ** 2``.
    spread : float in [0, 10]
        Standard deviation of the taxa's mean log abundances: the larger, the rarer the rare taxa.
    variation : float in [0, 10]
        Standard deviation of a taxon's log abundance between the samples of a group.
    random_state : int, Generator, SeedSequence or None
        Seed; the same seed makes the same table, and the same truth under other batch effects and at
        another depth.

    Returns
    -------
    MicrobeTable
        The counts, their labels, and what they were made of.

    Raises
    ------
    BatchfixError
        If a number is out of its range, or the samples do not fill the batches.
    TypeError
        If an argument is not a number of the kind asked for.

    Notes
    -----
    The defaults resemble five studies of colorectal cancer, MMUPHin's table. Of the taxa found in a tenth of
    the samples, 0.51 of the cells are zero (0.56 there); batch explains 0.13 of their Aitchison variance (0.08
    there) and group 0.015 (0.010). Of all taxa, 0.61 of the cells are zero, and 0.80, 0.39 and 0.21 at a
    depth of 1e3, 1e5 and 1e6.

    With `missed` at 0.2 or more, ComBat told the groups weakens effects or turns them round, as it does on such
    studies; the `scale_guard` of :class:`~batchfix.ComBat` is for that. With `batch_bias` and `missed` at 0,
    batches differ in depth alone: a batch effect after that comes from what was put in place of the zeros.

    References
    ----------
    Bias as one factor per taxon and protocol: McLaren, Willis and Callahan (2019), Consistent and
    correctable bias in metagenomic sequencing experiments, eLife 8, e46923.

    Examples
    --------
    >>> import numpy as np
    >>> from batchfix.datasets import make_microbes
    >>> table = make_microbes(12, 5, 3, missed=0.0, confounding=1.0, random_state=0)
    >>> table.counts.shape
    (12, 5)
    >>> table.group.groupby(table.batch).unique().map(list).to_dict()
    {'b1': ['case'], 'b2': ['control'], 'b3': ['case']}
    >>> bool((table.counts.sum(axis=1) == table.depth).all())
    True

    What the reads were drawn from has the log-ratios of the truth, plus the bias of the batch:

    >>> expected = table.truth * np.exp(table.bias.loc[table.batch].to_numpy())
    >>> shares = table.counts.div(table.depth, axis=0)
    >>> bool((shares - expected.div(expected.sum(axis=1), axis=0)).abs().max(axis=None) < 0.02)
    True
    """
    check_counts(
        ("n_samples", n_samples, 1, np.inf),
        ("n_taxa", n_taxa, 2, np.inf),
        ("n_batches", n_batches, 1, np.inf),
        ("depth", depth, 1, 10**8),
    )
    check_numbers(
        ("batch_bias", batch_bias, 0.0, 10.0),
        ("missed", missed, 0.0, 1.0),
        ("depth_shift", depth_shift, 0.0, 2.0),
        ("depth_variation", depth_variation, 0.0, 2.0),
        ("effect_size", effect_size, 0.0, 10.0),
        ("effect_share", effect_share, 0.0, 1.0),
        ("confounding", confounding, 0.0, 1.0),
        ("spread", spread, 0.0, 10.0),
        ("variation", variation, 0.0, 10.0),
    )
    rng = generator(random_state)

    # Each draw takes as many random numbers whatever the parameters, the counts last: so a seed fixes the truth.
    codes, is_case = assign(rng, batch_sizes(n_samples, n_batches), confounding)
    base = spread * _centred(rng.standard_normal(n_taxa))
    effect = _up_and_down(rng, n_taxa, round(effect_share * n_taxa), effect_size)
    log_abundance = base + np.multiply.outer(is_case, effect)
    log_abundance += variation * rng.standard_normal(log_abundance.shape)

    bias = batch_bias * _centred(rng.standard_normal((n_batches, n_taxa)))
    ranks = rng.permuted(np.tile(np.arange(n_taxa), (n_batches, 1)), axis=1)
    present = ranks >= round(missed * n_taxa)
    log_depth = depth_shift * rng.standard_normal(n_batches)[codes] + depth_variation * rng.standard_normal(n_samples)
    reads = np.maximum(1, np.rint(depth * np.exp(log_depth))).astype(np.int64)

    efficiency = bias + np.where(present, 0.0, np.log(_RESIDUE))
    counts = rng.multinomial(reads, softmax(log_abundance + efficiency[codes], axis=1))

    taxa = pd.Index(names("taxon", n_taxa))
    batches, batch, group = labels(codes, n_batches, is_case)
    rows = batch.index
    return MicrobeTable(
        counts=pd.DataFrame(counts, rows, taxa),
        batch=batch,
        group=group,
        depth=pd.Series(reads, rows, name="depth"),
        truth=pd.DataFrame(softmax(log_abundance, axis=1), rows, taxa),
        bias=pd.DataFrame(bias, batches, taxa),
        present=pd.DataFrame(present, batches, taxa),
        base=pd.Series(base, taxa, name="base"),
        effect=pd.Series(effect, taxa, name="effect"),
    )


def _centred(logs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithms as centred log-ratios: each row less its mean."""
    mean: NDArray[np.float64] = logs.mean(axis=-1, keepdims=True)
    return logs - mean


def _up_and_down(rng: np.random.Generator, n: int, n_carriers: int, size: float) -> NDArray[np.float64]:
    """Plus and minus `size` in turn on as many of `n` places as asked, drawn at random; 0 on the others."""
    rank = rng.permutation(n)
    return np.where(rank < n_carriers, np.where(rank % 2 == 0, size, -size), 0.0)
