"""Steps of a correction, whatever the table comes in: reading, the corrector, the corrected table, the last words."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pandas as pd

from ..adapters.tables import Table, read_text
from ..core.naming import nearest, some
from ..exceptions import TooFewFeaturesError, UnknownBatchError
from .checks import check_ids, check_names_differ
from .compositions import composition_options
from .labels import label
from .methods import METHODS
from .names import InputError
from .reading import read_numbers
from .reports import leave_on, write_report
from .roles import Roles, metadata_of, samples_in_rows
from .summary import count
from .terminal import print_json
from .wording import in_words


def read_samples(
    args: argparse.Namespace, roles: Roles, ignored: list[str]
) -> tuple[Table, bool, list[str], dict[str, list[str]]]:
    """The table, whether its samples are rows, their ids, and the cells of the columns that describe them."""
    if args.metadata is None:
        table = read_numbers(args.input, [*roles.kinds, *ignored])
        check_ids(args, table)
        return table, True, table.ids, table.text
    metadata = read_text(args.metadata)
    table = read_numbers(args.input, ignored)
    in_rows = samples_in_rows(args, table, metadata)
    samples = table.ids if in_rows else table.number_columns
    cells = metadata_of(args, samples, metadata)
    check_names_differ(args, table, metadata, in_rows=in_rows)
    return table, in_rows, samples, cells


def make_corrector(args: argparse.Namespace, batch: pd.DataFrame) -> Any:
    """The method's corrector, with the options that were given."""
    options: dict[str, Any] = {}
    if args.reference is not None:
        several = len(batch.columns) > 1
        wanted = next(csv.reader([args.reference]), []) if several else [args.reference]
        if len(wanted) != len(batch.columns):
            raise InputError(
                f"--reference must name one batch for each of {some(batch.columns)}, separated by commas, and is "
                f"{args.reference!r}; name {len(batch.columns)}"
            )
        wanted = [label(each) for each in wanted]
        for each, name in zip(wanted, batch.columns, strict=True):
            labels = sorted(set(batch[name]))
            if each not in labels:
                raise UnknownBatchError(
                    f"--reference must be a batch in column {name!r}, and {each!r} is none of {some(labels)}"
                    f"{nearest(each, labels)}"
                )
        options["reference_batch"] = tuple(wanted) if several else wanted[0]
    if args.scale_guard is not None:
        options["scale_guard"] = args.scale_guard
    return METHODS[args.method].make(**options, **composition_options(args))


@contextmanager
def enough_features(args: argparse.Namespace, n: int) -> Iterator[None]:
    """Say of a table of `n` features, where these are too few for the method, which method does without more."""
    try:
        yield
    except TooFewFeaturesError as error:
        raise InputError(
            f"--method {args.method} learns a batch from all of its features, of which two or more must vary in every "
            f"batch, and {args.input!r} has too few of these ({count(n, 'feature')} in all); choose "
            "--method location-scale, which takes each feature by itself"
        ) from error


def filled(table: Table, corrected: pd.DataFrame, *, in_rows: bool) -> Table:
    """The table with other numbers, and other names where log-ratios stand for parts."""
    names = [str(name) for name in corrected.columns]
    if not in_rows:
        return replace(table, ids=names, numbers=corrected.to_numpy().T)
    if names == table.number_columns:
        return replace(table, numbers=corrected.to_numpy())
    columns = [*(name for name in table.columns if name in table.text), *names]
    return replace(table, columns=columns, numbers=corrected.to_numpy())


def say(args: argparse.Namespace, lines: list[str]) -> None:
    """Print lines for a person; a program gets one document at the end."""
    if not args.json:
        print("\n".join(lines))


def finish(args: argparse.Namespace, done: dict[str, Any], report: Any = None) -> None:
    """Write the report that was asked for, say what was done, and leave with code 3 if --fail-on says so."""
    verdict = None
    if report is not None:
        written = write_report(args.report, report)
        verdict = report.verdict
        say(args, [in_words(f"{verdict}: {report.findings.headline}"), written])
    if args.json:
        files = {"output": args.output, "model": args.save_model, "report": args.report}
        print_json({"input": args.input, "method": args.method, **done, **files, "verdict": verdict})
    if verdict is not None:
        leave_on(args.fail_on, verdict)
