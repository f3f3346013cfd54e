"""A laboratory's table, log intensities under ComBat's own model, with the truth beside it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import DTypeLike, NDArray

from ..exceptions import BatchfixError
from .arguments import check_counts, check_numbers, float_type, generator
from .layout import assign, batch_sizes, labels, names


@dataclass(frozen=True, eq=False)
class LabTable:
    """A made table, and everything that went into it.

    With `g` the batch of row `i`, and `m_i` one for a case and zero for a control::

        data[i, j]  = mean[i, j] + shift[g, j] + scale[g, j] * (truth[i, j] - mean[i, j])
        mean[i, j]  = base[j] + m_i * effect[j]

    Attributes
    ----------
    data : DataFrame of shape (n_samples, n_features)
        What the lab measured: batch effects in it, missing cells NaN.
    batch, group : Series of length n_samples
        Batch (``"b1"``, ``"b2"``, ...) and group (``"case"`` or ``"control"``) of each row.
    truth : DataFrame of shape (n_samples, n_features)
        The same samples without batch effects and without missing cells.
    shift, scale : DataFrame of shape (n_batches, n_features)
        What each batch added, in the data's units, and the factor it put on the noise.
    base, effect : Series of length n_features
        Mean of the controls, and mean of the cases less that of the controls, in the data's units.
    """

    data: pd.DataFrame
    batch: pd.Series
    group: pd.Series
    truth: pd.DataFrame
    shift: pd.DataFrame
    scale: pd.DataFrame
    base: pd.Series
    effect: pd.Series


def make_lab(
    n_samples: int = 60,
    n_features: int = 100,
    n_batches: int = 3,
    *,
    batch_shift: float = 1.0,
    batch_scale: float = 0.3,
    effect_size: float = 1.0,
    effect_share: float = 0.2,
    confounding: float = 0.0,
    missing: float = 0.0,
    n_singletons: int = 0,
    dtype: DTypeLike = np.float64,
    random_state: int | np.random.Generator | np.random.SeedSequence | None = None,
) -> LabTable:
    r"""Make a table with batch effects, a biological effect, and a known truth.

    Row :math:`i` lies in batch :math:`g` and is a case (:math:`m_i = 1`) or a control (0). ComBat's
    model, drawn from its own priors:

    .. math::

        x_{ij} &= \alpha_j + m_i \beta_j
                  + \sigma_j (\gamma_{gj} + \delta_{gj} \varepsilon_{ij}),
        \qquad \varepsilon_{ij} \sim N(0, 1) \\
        \gamma_{gj} &\sim N(\Gamma_g,\, s^2 / 2), \qquad \Gamma_g \sim N(0,\, s^2 / 2) \\
        \delta_{gj}^2 &\sim \text{InverseGamma}(2 + 1 / c^2,\; v_g (1 + 1 / c^2)),
        \qquad \log v_g \sim N(0, c^2)

    where `s` is `batch_shift` and `c` is `batch_scale`: a shift has standard deviation `s` in all, half
    of its variance common to the batch; a squared scale has mean :math:`v_g` and standard deviation
    :math:`c\,v_g`. :math:`\beta_j` is :math:`\pm` `effect_size` :math:`\sigma_j` on `effect_share` of
    the features, else 0. The scene is log2 expression: :math:`\alpha_j \sim N(8, 1.5^2)` and
    :math:`\log \sigma_j \sim N(\log 0.6, 0.3^2)`. The truth is the table with :math:`\gamma = 0` and
    :math:`\delta = 1`.

    Parameters
    ----------
    n_samples, n_features, n_batches : int
        Size of the table. Batches are as equal as integers allow; rows come in random order.
    batch_shift : float in [0, 1e6]
        Standard deviation of a batch's shift of a feature, in standard deviations of its noise.
    batch_scale : float in [0, 10]
        Coefficient of variation of a batch's squared scale of a feature; 0 leaves all scales at 1.
    effect_size : float in [0, 1e6]
        Distance between cases and controls, in standard deviations of a feature's noise.
    effect_share : float in [0, 1]
        Share of the features that carry the effect, to the nearest count; half of them go up, on
        average.
    confounding : float in [0, 1]
        Share of cases is ``(1 + confounding) / 2`` in batches 1, 3, 5, ... and
        ``(1 - confounding) / 2`` in the others, to within one sample: at 0 every batch is balanced,
        at 1 each holds one group. For an even number of equal batches, the share of the group's
        variance that batch explains is ``confounding ** 2``.
    missing : float in [0, 1)
        Share of cells set to NaN, to the nearest count, at random.
    n_singletons : int
        The last so many batches have one sample. Every other batch has two or more.
    dtype : float32 or float64
        Type of every number in the result. All is drawn in float64.
    random_state : int, Generator, SeedSequence or None
        Seed; the same seed makes the same table, and the same truth under other batch effects.

    Returns
    -------
    LabTable
        The table, its labels, and what they were made of.

    Raises
    ------
    BatchfixError
        If a number is out of its range, or the samples do not fill the batches.
    TypeError
        If an argument is not a number of the kind asked for.

    References
    ----------
    Johnson, Li and Rabinovic (2007), Biostatistics 8, 118-127, section 3.

    Examples
    --------
    >>> from batchfix.datasets import make_lab
    >>> lab = make_lab(12, 5, confounding=1.0, random_state=0)
    >>> lab.data.shape
    (12, 5)
    >>> lab.group.groupby(lab.batch).unique().map(list).to_dict()
    {'b1': ['case'], 'b2': ['control'], 'b3': ['case']}
    """
    check_counts(
        ("n_samples", n_samples, 1, np.inf),
        ("n_features", n_features, 1, np.inf),
        ("n_batches", n_batches, 1, np.inf),
        ("n_singletons", n_singletons, 0, np.inf),
    )
    check_numbers(
        ("batch_shift", batch_shift, 0.0, 1e6),
        ("batch_scale", batch_scale, 0.0, 10.0),
        ("effect_size", effect_size, 0.0, 1e6),
        ("effect_share", effect_share, 0.0, 1.0),
        ("confounding", confounding, 0.0, 1.0),
        ("missing", missing, 0.0, 1.0),
    )
    if missing == 1:
        raise BatchfixError(f"missing must be below 1, got {missing!r}: no value would be left.")
    kind = float_type(dtype)
    rng = generator(random_state)

    codes, is_case = assign(rng, batch_sizes(n_samples, n_batches, n_singletons), confounding)

    base = rng.normal(8.0, 1.5, n_features)
    spread = 0.6 * np.exp(0.3 * rng.standard_normal(n_features))
    carries = rng.permutation(n_features) < round(effect_share * n_features)
    effect = np.where(carries, effect_size * spread * rng.choice([-1.0, 1.0], n_features), 0.0)
    mean = base + np.multiply.outer(is_case, effect)
    truth = mean + spread * rng.standard_normal(mean.shape)

    shift, scale = _batch_effects(rng, (n_batches, n_features), batch_shift, batch_scale)
    shift *= spread
    data = mean + shift[codes] + scale[codes] * (truth - mean)
    holes = rng.choice(data.size, round(missing * data.size), replace=False)
    data.flat[holes] = np.nan

    columns = pd.Index(names("f", n_features))
    batches, batch, group = labels(codes, n_batches, is_case)
    rows = batch.index
    return LabTable(
        data=pd.DataFrame(data.astype(kind), rows, columns),
        batch=batch,
        group=group,
        truth=pd.DataFrame(truth.astype(kind), rows, columns),
        shift=pd.DataFrame(shift.astype(kind), batches, columns),
        scale=pd.DataFrame(scale.astype(kind), batches, columns),
        base=pd.Series(base.astype(kind), columns, name="base"),
        effect=pd.Series(effect.astype(kind), columns, name="effect"),
    )


def _batch_effects(
    rng: np.random.Generator, shape: tuple[int, int], shift: float, scale: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw gamma and delta of ComBat's model, one row a batch, in units of a feature's noise."""
    per_batch = rng.standard_normal((shape[0], 1))
    gamma = shift * np.sqrt(0.5) * (per_batch + rng.standard_normal(shape))
    if scale == 0:
        return gamma, np.ones(shape)
    level = np.exp(scale * rng.standard_normal((shape[0], 1)))
    # 1 / Gamma(a) has mean 1 / (a - 1) and squared coefficient of variation 1 / (a - 2).
    a = 2.0 + max(scale, 1e-8) ** -2.0
    return gamma, np.sqrt(level * (a - 1.0) / rng.standard_gamma(a, shape))
