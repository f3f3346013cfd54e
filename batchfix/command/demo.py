"""`batchfix demo`: the bladder table corrected, and what batch and cancer explain of it before and after."""

from __future__ import annotations

import argparse
from typing import Any

import pandas as pd

from ..adapters.tables import Table, check_output, write_table
from ..core.variance import variance_explained
from ..correctors import ComBat
from ..datasets import load_bladder
from .summary import wrote


def add_demo(commands: Any) -> None:
    """Register `batchfix demo`."""
    parser = commands.add_parser(
        "demo",
        help="correct a real table that comes along, in seconds",
        description="Correct bladder cancer microarrays from five batches with ComBat, keeping cancer status; "
        "say what changed, and write the corrected table.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        default="bladder_corrected.csv",
        help="where the corrected table goes, replacing what is there (default: %(default)s)",
    )
    parser.set_defaults(run=run_demo)


def run_demo(args: argparse.Namespace) -> None:
    """Correct the bladder table, write it, and print what batch and cancer explain of it."""
    existed = check_output(args.output).exists()
    bladder = load_bladder()
    data, batch, cancer = bladder.data, bladder.samples["batch"], bladder.samples["cancer"]
    corrected = ComBat().fit_transform(data, batch=batch, keep=cancer.to_frame())
    table = Table("sample", [str(i) for i in data.index], [str(c) for c in data.columns], corrected.to_numpy(), {})
    write_table(table, args.output)

    def shares(values: pd.DataFrame) -> tuple[float, float]:
        matrix = values.to_numpy()
        of_batch = variance_explained(matrix, batch.to_numpy(), given=cancer.to_numpy())
        of_cancer = variance_explained(matrix, cancer.to_numpy(), given=batch.to_numpy())
        return float(of_batch.mean()), float(of_cancer.mean())

    before, after = shares(data), shares(corrected)
    n, p = data.shape
    print(f"bladder cancer microarrays: {n} samples x {p} probes in {batch.nunique()} batches")
    print("corrected by ComBat, keeping cancer status")
    print()
    print("share of a probe's variance, on average    before    after")
    print(f"  batch explains, given cancer status      {before[0]:6.1%}   {after[0]:6.1%}")
    print(f"  cancer status explains, given batch      {before[1]:6.1%}   {after[1]:6.1%}")
    print()
    print(f"{wrote(args.output, existed)} (samples in rows, log2 intensities)")
