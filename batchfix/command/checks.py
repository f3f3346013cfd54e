"""Checks of what was asked and read: refusals before the work, and warnings of what may not be meant."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import pandas as pd

from ..adapters.tables import Table, number
from ..core.naming import some
from .covariates import covariate_like
from .methods import METHODS
from .names import InputError, joined
from .terminal import warn


def check_options(args: argparse.Namespace) -> None:
    """Refuse options that the method or the input would pass over in silence."""
    if args.metadata is None and args.samples == "columns":
        raise InputError(
            "samples in columns need --metadata, because a batch per sample cannot be a column then; give the table "
            "that holds the batch of each sample"
        )
    if args.method != "linear" and (args.nuisance or args.nuisance_factor or args.nuisance_number):
        raise InputError(f"--nuisance needs --method linear, and the method is {args.method}; choose it")
    if args.method.startswith("robust") and (args.keep or args.keep_factor or args.keep_number):
        raise InputError(
            f"--keep needs a method that works with means, and {args.method} works with medians; choose another method"
        )
    method = METHODS[args.method]
    if not method.guarded and args.scale_guard is not None:
        guarded = [name for name, each in METHODS.items() if each.guarded]
        raise InputError(
            f"--scale-guard needs a method that scales ({', '.join(guarded)}), and the method is {args.method}; choose "
            "one"
        )
    for option in ("write", "zeros"):
        if getattr(args, option) is not None and method.composition != "ratios":
            ratios = [name for name, each in METHODS.items() if each.composition == "ratios"]
            raise InputError(
                f"--{option} needs a method of log-ratios ({', '.join(ratios)}), and the method is {args.method}; "
                "choose one"
            )
    if args.method == "standardize" and args.reference is not None:
        raise InputError(
            f"--reference leaves a batch as it is, and --method standardize brings every batch to mean 0 and standard "
            f"deviation 1, {args.reference!r} too; choose --method location-scale, or leave --reference out"
        )


def check_output_is_new(args: argparse.Namespace) -> None:
    """Refuse to write over what is read, by whatever name or link."""
    output = Path(args.output)
    for path, what in ((args.input, "the table to correct"), (args.metadata, "the metadata")):
        if path is not None and output.exists() and Path(path).exists() and output.samefile(path):
            same = "" if args.output == path else f", the same file as {path!r},"
            raise InputError(
                f"the output must be a file of its own, and {args.output!r}{same} is {what}, which would be lost; "
                "give another name"
            )


def check_names_differ(args: argparse.Namespace, table: Table, metadata: Table, *, in_rows: bool) -> None:
    """Refuse what both files call by one name: it would be corrected as a measurement."""
    shared = [name for name in (table.number_columns if in_rows else table.ids) if name in metadata.text]
    if not shared:
        return
    one = len(shared) == 1
    remedy = f"add --ignore {joined(shared)} to carry {'it' if one else 'them'} along unchanged, or rename"
    raise InputError(
        f"a name must be that of a measurement or of a label, and {some(shared)} {'is' if one else 'are'} in both "
        f"{args.input!r} and {args.metadata!r}; {remedy if in_rows else 'delete those rows, or rename'} "
        f"{'it' if one else 'them'} if {'it is a measurement' if one else 'they are measurements'}"
    )


def check_ids(args: argparse.Namespace, table: Table) -> None:
    """Refuse ids that look like measurements: the first column of a table that has no ids."""
    try:
        values = [number(name) for name in table.ids]
    except ValueError:
        return
    if 2 * sum(not value.is_integer() for value in values) <= len(values):
        return
    raise InputError(
        f"the first column of {args.input!r} must hold the ids of the samples, and {table.id_name!r} holds decimal "
        f"numbers ({some(table.ids, 3)}), as measurements are; put a column of ids first (1, 2, 3, ... will do), or "
        "write a letter before each number if these are ids"
    )


def check_batches(args: argparse.Namespace, batch: pd.DataFrame) -> None:
    """Refuse batches of one sample each; warn of a single batch and of batches of one sample."""
    for name in batch.columns:
        counts = Counter(batch[name])
        lone = [each for each in sorted(counts) if counts[each] == 1]
        if len(counts) == 1:
            warn(f"column {name!r} holds one batch only ({batch[name].iloc[0]!r}): no difference to take out.")
        elif len(counts) == len(batch):
            raise InputError(
                f"a batch must hold several samples, and in column {name!r} every sample is a batch of its own, and "
                "nothing would be left after a correction; name the column of the batches"
            )
        elif lone and METHODS[args.method].lone:
            warn(
                f"{len(lone)} of {len(counts)} batches in column {name!r} "
                f"{'has' if len(lone) == 1 else 'have'} one sample ({some(lone)}), which has no spread: "
                f"{METHODS[args.method].lone} is shifted and not scaled. Leave such samples out if the others are to "
                f"be scaled{', and check that this is the column of the batches' if 2 * len(lone) > len(batch) else ''}"
            )


def check_kept(keep: pd.DataFrame) -> None:
    """Warn of a kept column that holds one value, of which nothing can be kept."""
    for name in keep.columns:
        if keep[name].nunique() == 1:
            warn(f"column {name!r} holds one value only ({keep[name].iloc[0]!r}): there is nothing of it to keep")


def look_for_covariates(values: pd.DataFrame, *, in_rows: bool, done: str = "corrected") -> None:
    """Warn of features that may be none; `done` is what is done to them."""
    warn_of_covariates(covariate_like(list(values.columns), values.to_numpy()), in_rows=in_rows, done=done)


def warn_of_covariates(found: list[str], *, in_rows: bool, done: str = "corrected") -> None:
    """Name features that may be labels or covariates, if there are any."""
    if not found:
        return
    remedy = f"add --ignore {joined(found)}" if in_rows else "delete those rows"
    warn(
        f"{some(found)} {'is' if len(found) == 1 else 'are'} {done} as measurements are, and by name or values may "
        f"be labels or covariates (codes, ages, ...); if so, {remedy}"
    )
