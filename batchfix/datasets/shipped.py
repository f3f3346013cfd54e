"""The tables that ship with the package: files, known by their hashes, to DataFrames."""

from __future__ import annotations

import csv
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ..exceptions import BatchfixError
from .markets import MarketTable, cells_of

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
    data = _table("bladder.csv.gz", "sample")
    samples = _table("bladder_samples.csv", "sample", dtype=str)
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
    taxa = _table("microbes_taxa.csv", "taxon").rename_axis(None)
    return LabelledTable(
        _table("microbes.csv", "sample"), _table("microbes_samples.csv", "sample"), taxa, description=_card("microbes")
    )


def load_markets() -> MarketTable:
    """Load simulated daily returns of 60 stocks on 250 dates, with their truth.

    Drawn once by :func:`make_markets`; the call stands in the table's card, and the model there. Six sectors of
    1 to 23 stocks, 18 industries of 1 to 8; three stocks change theirs, and 8.3 % of the cells have no quote.

    Returns
    -------
    MarketTable
        As :func:`make_markets` returns it, rounded to six decimals; `description` is the table's card.

    Raises
    ------
    BatchfixError
        If the files are missing, or differ from those that were released.

    Examples
    --------
    >>> from batchfix.datasets import load_markets
    >>> market = load_markets()
    >>> market.returns.shape
    (250, 60)
    >>> market.sector.value_counts().to_dict()
    {'sector1': 23, 'sector2': 13, 'sector3': 9, 'sector4': 8, 'sector5': 6, 'sector6': 1}
    """
    wide: dict[str, Any] = {"index": "date", "parse_dates": ["date"]}
    returns, unquoted = (_table(f"markets{part}.csv.gz", **wide) for part in ("", "_unquoted"))
    # A stock may have no industry on any date: a column of labels all the same.
    sectors, industries = (_table(f"markets_{part}.csv.gz", **wide, dtype=str) for part in ("sectors", "industries"))
    for table in (returns, unquoted, sectors, industries):
        table.columns.name = "symbol"
    stocks, days = _table("markets_stocks.csv", "symbol"), _table("markets_days.csv.gz", **wide)
    exposures, factors = stocks[["beta", "size"]], days[["beta", "size"]]
    sector_returns, industry_returns = days.filter(like="sector"), days.filter(like="industry")
    truth = returns.fillna(unquoted)
    common = factors @ exposures.T + cells_of(sector_returns, sectors) + cells_of(industry_returns, industries)
    return MarketTable(
        returns=returns,
        sector=stocks["sector"],
        industry=stocks["industry"],
        membership=sectors,
        industry_membership=industries,
        exposures=exposures,
        truth=truth,
        factors=factors,
        sector_returns=sector_returns,
        industry_returns=industry_returns,
        own_returns=truth - common,
        loudness=days["loudness"],
        description=_card("markets"),
    )


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


def _table(file: str, index: str, **how: Any) -> pd.DataFrame:
    """Table of a shipped file, its floats read to the last digit, as pandas' default parser does not."""
    compression = "gzip" if file.endswith(".gz") else None
    content = io.BytesIO(_read(file))
    return pd.read_csv(content, compression=compression, index_col=index, float_precision="round_trip", **how)


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
