"""Tables to try a correction on: real ones that ship with the package, made ones with a known truth.

A loader (``load_*``) reads files that lie beside the package and compares them with the hashes in
their registry. A generator (``make_*``) draws a table from a written-down model, and returns what it
drew beside the table, so that a correction can be judged by how much of it comes back.
"""

from __future__ import annotations

import csv
import hashlib
import io
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import DTypeLike, NDArray

from batchfix.exceptions import BatchfixError

__all__ = ["LabTable", "LabelledTable", "load_bladder", "make_lab"]

# An installed package carries its tables; a checkout has them beside the package.
_FOLDERS = (Path(__file__).parent / "_data", Path(__file__).parent.parent / "datasets")


@dataclass(frozen=True, eq=False)
class LabelledTable:
    """A measured table and what is known of its samples.

    Attributes
    ----------
    data : DataFrame of shape (n_samples, n_features)
        The measurements; the index holds the sample ids.
    samples : DataFrame of shape (n_samples, n_columns)
        What is known of each sample, batch included; the index equals that of `data`.
    description : str
        The table's card: where it comes from, its units, its caveats, its licence.
    """

    data: pd.DataFrame
    samples: pd.DataFrame
    description: str


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


def load_bladder() -> LabelledTable:
    """Load gene expression of 57 bladder samples from five batches.

    302 of the 22,283 probes of Bioconductor's bladderbatch, as log2 intensity after RMA. Batch and
    cancer status are partly confounded: batches 1, 3 and 4 each hold one kind of sample.

    Returns
    -------
    LabelledTable
        `data` is 57 samples x 302 probes, float64; `samples` has the columns ``batch`` (b1 to b5),
        ``cancer`` (Biopsy, Cancer, Normal) and ``outcome`` (finer than cancer).

    Raises
    ------
    BatchfixError
        If the files are missing, or differ from those that were released.

    References
    ----------
    Dyrskjot et al. (2004), Cancer Research 64, 4040-4048. Bioconductor bladderbatch, Artistic-2.0.

    Examples
    --------
    >>> from batchfix.datasets import load_bladder
    >>> table = load_bladder()
    >>> table.data.shape
    (57, 302)
    >>> table.samples["batch"].value_counts().sort_index().to_dict()
    {'b1': 11, 'b2': 18, 'b3': 4, 'b4': 5, 'b5': 19}
    """
    # pandas' default float parser is off in the last digit.
    data = pd.read_csv(
        io.BytesIO(_read("bladder.csv.gz")),
        compression="gzip",
        index_col="sample",
        float_precision="round_trip",
    )
    samples = pd.read_csv(io.BytesIO(_read("bladder_samples.csv")), index_col="sample", dtype=str)
    card = (_folder() / "bladder.md").read_text(encoding="utf-8")
    return LabelledTable(data=data, samples=samples, description=card)


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
    for name, count, least in (
        ("n_samples", n_samples, 1),
        ("n_features", n_features, 1),
        ("n_batches", n_batches, 1),
        ("n_singletons", n_singletons, 0),
    ):
        _check_count(name, count, least)
    for name, number, most in (
        ("batch_shift", batch_shift, 1e6),
        ("batch_scale", batch_scale, 10.0),
        ("effect_size", effect_size, 1e6),
        ("effect_share", effect_share, 1.0),
        ("confounding", confounding, 1.0),
        ("missing", missing, 1.0),
    ):
        _check_number(name, number, most)
    if missing == 1:
        raise BatchfixError(f"missing must be below 1, got {missing!r}: no value would be left.")
    if confounding > 0 and n_batches == 1:
        raise BatchfixError(
            f"confounding must be 0 with a single batch, got {confounding!r}: pass n_batches=2 or more."
        )
    kind = _float_type(dtype)
    rng = _generator(random_state)

    sizes = _batch_sizes(n_samples, n_batches, n_singletons)
    cases = _case_counts(sizes, confounding)
    codes = np.repeat(np.arange(n_batches), sizes)
    is_case = np.concatenate([np.arange(n) < k for n, k in zip(sizes, cases, strict=True)])
    order = rng.permutation(n_samples)
    codes, is_case = codes[order], is_case[order]

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

    rows = pd.Index(_names("s", n_samples), name="sample")
    columns = pd.Index(_names("f", n_features))
    batches = pd.Index(_names("b", n_batches), name="batch")
    return LabTable(
        data=pd.DataFrame(data.astype(kind), rows, columns),
        batch=pd.Series(batches.to_numpy()[codes], rows, name="batch"),
        group=pd.Series(np.where(is_case, "case", "control"), rows, name="group"),
        truth=pd.DataFrame(truth.astype(kind), rows, columns),
        shift=pd.DataFrame(shift.astype(kind), batches, columns),
        scale=pd.DataFrame(scale.astype(kind), batches, columns),
        base=pd.Series(base.astype(kind), columns, name="base"),
        effect=pd.Series(effect.astype(kind), columns, name="effect"),
    )


def _folder() -> Path:
    for folder in _FOLDERS:
        if (folder / "registry.csv").is_file():
            return folder
    raise BatchfixError(
        f"The tables of batchfix must lie in {str(_FOLDERS[0])!r}, which has no registry.csv. "
        "Install the package again."
    )


def _read(file: str) -> bytes:
    """Bytes of a shipped file, once they are known to be the released ones."""
    folder = _folder()
    with (folder / "registry.csv").open(newline="", encoding="utf-8") as stream:
        hashes = {row["file"]: row["sha256"] for row in csv.DictReader(stream)}
    path = folder / file
    if not path.is_file():
        raise BatchfixError(f"The table {str(path)!r} is missing. Install the package again.")
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != hashes.get(file):
        raise BatchfixError(
            f"The table {str(path)!r} must have the sha256 {hashes.get(file)!r} of the registry, "
            f"got {found!r}: it was changed or damaged. Install the package again."
        )
    return content


def _batch_sizes(n_samples: int, n_batches: int, n_singletons: int) -> list[int]:
    if n_singletons > n_batches:
        raise BatchfixError(f"n_singletons must be at most n_batches = {n_batches!r}, got {n_singletons!r}.")
    n_full = n_batches - n_singletons
    rest = n_samples - n_singletons
    if rest < 2 * n_full or (n_full == 0 and rest > 0):
        needed = "exactly" if n_full == 0 else "at least"
        raise BatchfixError(
            f"n_samples must be {needed} {2 * n_full + n_singletons} to fill {n_full} batches of two or "
            f"more and {n_singletons} of one, got {n_samples!r}. Change n_samples, n_batches or "
            "n_singletons."
        )
    return [rest // n_full + (b < rest % n_full) for b in range(n_full)] + [1] * n_singletons


def _case_counts(sizes: list[int], confounding: float) -> list[int]:
    """Cases in each batch: running totals are rounded, so that no rounding error adds up."""
    signs = np.where(np.arange(len(sizes)) % 2 == 0, 1.0, -1.0)
    wanted = np.cumsum(np.asarray(sizes) * (1.0 + signs * confounding) / 2.0)
    # 9 decimals: the sum's own rounding error must not move a half.
    totals = np.floor(np.round(wanted, 9) + 0.5).astype(int)
    return [int(k) for k in np.diff(totals, prepend=0)]


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


def _names(prefix: str, n: int) -> list[str]:
    """Names that sort as their numbers do."""
    width = len(str(n))
    return [f"{prefix}{i:0{width}d}" for i in range(1, n + 1)]


def _check_count(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be an integer, got {value!r}.")
    if value < least:
        raise BatchfixError(f"{name} must be at least {least}, got {value!r}.")


def _check_number(name: str, value: Any, most: float) -> None:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r}.")
    if not 0 <= float(value) <= most:
        raise BatchfixError(f"{name} must be between 0 and {most:g}, got {value!r}.")


def _float_type(dtype: DTypeLike) -> np.dtype[Any]:
    try:
        kind = np.dtype(dtype)
    except TypeError:
        kind = np.dtype(object)
    if kind not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise TypeError(f"dtype must be float32 or float64, got {dtype!r}.")
    return kind


def _generator(random_state: Any) -> np.random.Generator:
    try:
        return np.random.default_rng(random_state)
    except (TypeError, ValueError) as error:
        raise TypeError(
            "random_state must be None, a non-negative integer, or a numpy Generator or SeedSequence, "
            f"got {random_state!r}."
        ) from error
