"""What is printed when the work is done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pandas as pd

from ..core.naming import some

SHOWN = 8


def count(n: int, one: str, many: str | None = None) -> str:
    """A number and its noun: '1 sample', '2 batches'."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def wrote(path: str, existed: bool) -> str:
    """Where the result is, and whether a file had to go for it."""
    return f"wrote {path}{', replacing the file that was there' if existed else ''}"


def counts_of(batch: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Samples of each batch, by column of batches."""
    return {
        str(name): {str(label): int(n) for label, n in sorted(Counter(batch[name]).items())} for name in batch.columns
    }


def describe(
    features: Sequence[str], method: str, batch: pd.DataFrame, keep: pd.DataFrame, nuisance: pd.DataFrame
) -> list[str]:
    """Lines on what was corrected, between which batches, and what was kept."""
    lines = [
        f"{count(len(batch), 'sample')} x {count(len(features), 'feature')} corrected by {method}",
        f"features: {some(features, SHOWN)}",
    ]
    for name in batch.columns:
        counts = Counter(batch[name])
        shown = ", ".join(f"{label!r} ({counts[label]})" for label in sorted(counts)[:SHOWN])
        more = ", ..." if len(counts) > SHOWN else ""
        lines.append(f"{name}: {count(len(counts), 'batch', 'batches')}: {shown}{more}")
    for word, frame in (("kept", keep), ("nuisance", nuisance)):
        for name, column in frame.items():
            kind = "number" if column.dtype.kind == "f" else f"factor, {count(column.nunique(), 'level')}"
            lines.append(f"{word}: {name} ({kind})")
    return lines


def in_bytes(n: int) -> str:
    """Bytes as a person reads them.

    Examples
    --------
    >>> in_bytes(2_400_000), in_bytes(3_000_000_000)
    ('2.4 MB', '3.0 GB')
    """
    return f"{n / 1e9:,.1f} GB" if n >= 1e8 else f"{n / 1e6:,.1f} MB"
