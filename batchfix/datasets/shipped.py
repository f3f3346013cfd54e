"""The tables that ship with the package: files, known by their hashes, to DataFrames."""

from __future__ import annotations

import csv
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..exceptions import BatchfixError

# An installed package carries its tables; a checkout has them beside the package.
_FOLDERS = (Path(__file__).parents[1] / "_data", Path(__file__).parents[2] / "datasets")


@dataclass(frozen=True, eq=False)
class LabelledTable:
    """A table that ships with the package, and what is known of its samples and features.

    Attributes
    ----------
    data : DataFrame of shape (n_samples, n_features)
        The measurements; the index holds the sample ids.
    samples : DataFrame of shape (n_samples, n_columns)
        What is known of each sample, batch included; the index equals that of `data`.
    features : DataFrame of shape (n_features, n_columns)
        What is known of each feature, no column where nothing is; the index equals the columns of `data`.
    description : str
        The table's card: where it comes from, its units, its caveats, its licence.
    """

    data: pd.DataFrame
    samples: pd.DataFrame
    features: pd.DataFrame
    description: str


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
    return LabelledTable(data, samples, pd.DataFrame(index=data.columns), description=_card("bladder"))


def load_microbes() -> LabelledTable:
    """Load simulated sequencing counts of 100 samples from four batches, with their truth.

    Drawn once by :func:`make_microbes`; the call stands in the table's card, and the model there. Batch
    and group are confounded by half: batches 1 and 3 hold three cases to a control, 2 and 4 the reverse.

    Returns
    -------
    LabelledTable
        `data` is 100 samples x 100 taxa, reads as int64; `samples` has the columns ``batch`` (b1 to b4),
        ``group`` (case, control) and ``depth`` (reads in all); `features` has ``base`` and ``effect``, and
        for each batch ``bias_b1``, ..., as natural logarithms rounded to six decimals, and
        ``present_b1``, ..., True or False.

    Raises
    ------
    BatchfixError
        If the files are missing, or differ from those that were released.

    Examples
    --------
    >>> from batchfix.datasets import load_microbes
    >>> table = load_microbes()
    >>> table.data.shape
    (100, 100)
    >>> table.features["effect"].value_counts().sort_index().to_dict()
    {-1.5: 10, 0.0: 80, 1.5: 10}
    """
    data = pd.read_csv(io.BytesIO(_read("microbes.csv")), index_col="sample")
    samples = pd.read_csv(io.BytesIO(_read("microbes_samples.csv")), index_col="sample")
    taxa = pd.read_csv(io.BytesIO(_read("microbes_taxa.csv")), index_col="taxon", float_precision="round_trip")
    return LabelledTable(data, samples, taxa.rename_axis(None), description=_card("microbes"))


def _folder() -> Path:
    for folder in _FOLDERS:
        if (folder / "registry.csv").is_file():
            return folder
    raise BatchfixError(
        f"The tables of batchfix must lie in {str(_FOLDERS[0])!r}, which has no registry.csv. "
        "Install the package again."
    )


def _card(name: str) -> str:
    """What is to be said of a table: where it comes from, its units, its caveats, its licence."""
    return (_folder() / f"{name}.md").read_text(encoding="utf-8")


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
