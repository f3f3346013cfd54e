"""Compositions: what the command's methods for counts and shares make, take and say."""

from __future__ import annotations

import argparse
from typing import Any

import pandas as pd

from ..core.naming import some
from ..correctors import CompositionalCorrector
from ..correctors.amounts import scale_of
from .names import InputError

OUTPUTS = {"log-ratios": "log_ratio", "proportions": "composition", "counts": "counts"}
ZEROS = {"half-minimum": "half_minimum", "multiplicative": "multiplicative", "pseudocount": "pseudocount"}


def add_composition_options(parser: argparse.ArgumentParser) -> None:
    """Register what only the methods of compositions take."""
    parser.add_argument(
        "--write",
        choices=OUTPUTS,
        help="with clr-... and ilr-...: what is written (default: log-ratios); counts are whole and as deep as before",
    )
    parser.add_argument(
        "--zeros",
        choices=ZEROS,
        help="with clr-... and ilr-...: what stands for zero (default: half-minimum, half of the table's smallest "
        "proportion)",
    )


def compositional(
    corrector: Any,
    transform: str,
    *,
    output: str = "log_ratio",
    zeros: str = "auto",
    **options: Any,
) -> CompositionalCorrector:
    """The corrector of a method: `corrector` makes the one of log-ratios from the options that are left."""
    return CompositionalCorrector(corrector(**options), transform=transform, output=output, zeros=zeros)


def composition_options(args: argparse.Namespace) -> dict[str, str]:
    """The options above as parameters of `compositional`."""
    found = {}
    if args.write is not None:
        found["output"] = OUTPUTS[args.write]
    if args.zeros is not None:
        found["zeros"] = ZEROS[args.zeros]
    return found


def check_amounts(args: argparse.Namespace, values: pd.DataFrame) -> None:
    """Refuse a table that holds no compositions, sample by sample."""
    missing = values.isna().any(axis=1)
    if missing.any():
        raise InputError(
            f"--method {args.method} needs an amount of every part, and cells are empty in "
            f"{some(values.index[missing])}; write 0 where a part was looked for and not found, or leave those samples "
            "out"
        )
    below = (values < 0).any(axis=1)
    if below.any():
        raise InputError(
            f"--method {args.method} needs counts, proportions or percentages, and some are negative in "
            f"{some(values.index[below])}; give the table before any logarithm or centring"
        )
    empty = values.sum(axis=1) == 0
    if empty.any():
        raise InputError(
            f"--method {args.method} needs something in every sample, and all is 0 in {some(values.index[empty])}; "
            "leave those samples out"
        )
    found = scale_of(values.to_numpy())
    if args.zeros == "pseudocount" and found != "counts":
        raise InputError(
            f"--zeros pseudocount needs a table of counts, and {args.input!r} holds {found}; choose --zeros "
            "half-minimum"
        )
    if args.write == "counts" and found != "counts":
        raise InputError(
            f"--write counts needs a table of counts, and {args.input!r} holds {found}; choose --write proportions"
        )


def describe_composition(corrector: CompositionalCorrector, values: pd.DataFrame, corrected: pd.DataFrame) -> list[str]:
    """Lines on what the table was taken for, and what was done to it."""
    return [f"taken for {corrector.scale_of_input_}", str(corrector.audit(values, corrected))]
