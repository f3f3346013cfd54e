"""Reports: the option --report, and what a verdict makes of the exit code.

Options and corrected tables flow in; a page is written where it was asked for.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ..exceptions import BatchfixError
from .check import FAILED
from .labels import is_factor
from .methods import METHODS
from .models import check_differ
from .names import InputError
from .roles import Roles
from .summary import wrote
from .terminal import one_line
from .wording import document_in_words

ORDER = ("fine", "warn", "stop")
MOST_PAIRS = 5_000
"""Samples up to which Bray-Curtis distances of all pairs are looked at: 0.2 GB."""

PAGES = (".html", ".htm")
HEAD = 4096
"""Bytes of a page in which it says who made it."""


def add_report_option(parser: argparse.ArgumentParser) -> None:
    """Register --report."""
    parser.add_argument(
        "--report",
        metavar="FILE",
        help="write a page (.html) on what batches do to the table, what a correction did, and what it cost, "
        "replacing an older report and nothing else; needs the extra: pip install 'batchfix[report]'",
    )


def add_fail_option(parser: argparse.ArgumentParser, what: str = "the verdict is this or graver") -> None:
    """Register --fail-on."""
    parser.add_argument("--fail-on", choices=["warn", "stop"], help=f"exit with code {FAILED} if {what}")


def check_report(path: str | None, others: Sequence[str | None]) -> None:
    """Refuse, before the work, a place where the report cannot be written, and say what is not installed."""
    if path is None:
        return
    from ..diagnostics.report.files import check_place
    from ..diagnostics.report.writers import require_report

    check_place(path)
    check_differ(path, "the report", others)
    if not path.lower().endswith(PAGES):
        raise InputError(f"the report is a page and needs a name that ends in .html, and is {path!r}; name it so")
    if Path(path).exists() and not _is_report(path):
        raise InputError(
            f"the report may replace an older one and nothing else, and {path!r} holds something that batchfix did not "
            "write; give another name, or remove that file"
        )
    try:
        require_report()
    except ModuleNotFoundError as error:
        raise InputError(
            f"--report needs {error.name}, which is not installed; pip install 'batchfix[report]', or leave it out"
        ) from error


def _is_report(path: str) -> bool:
    """Whether a file is empty or a page of ours."""
    with Path(path).open("rb") as file:
        head = file.read(HEAD)
    return not head or b'<meta name="generator" content="batchfix">' in head


def check_correction_report(args: argparse.Namespace) -> None:
    """Refuse, before the work, a report of a correction that cannot be written or has nothing to tell."""
    if args.fail_on is not None and args.report is None:
        raise InputError("--fail-on looks at the verdict of a report, and none is asked for; add --report")
    if args.report is not None and METHODS[args.method].peers is not None:
        raise InputError(
            f"--report tells what a correction did to batches, and --method {args.method} knows of none; leave it out"
        )
    check_report(args.report, [args.input, args.metadata, args.output, args.save_model])


def write_report(path: str, report: Any) -> str:
    """Write it, in the command's words; the line that says so."""
    from ..diagnostics.report import writers
    from ..diagnostics.report.files import write_whole

    existed = Path(path).exists()
    write_whole(path, writers.html(document_in_words(report.document)).encode())
    return wrote(path, existed)


def leave_on(fail_on: str | None, verdict: str) -> None:
    """Leave with code 3 if the verdict is as grave as --fail-on says."""
    if fail_on is not None and ORDER.index(verdict) >= ORDER.index(fail_on):
        raise SystemExit(FAILED)


def report_correction(
    args: argparse.Namespace,
    roles: Roles,
    corrector: Any,
    values: pd.DataFrame,
    corrected: pd.DataFrame,
    labels: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame],
) -> Any:
    """The report of a correction if one is asked for, else None; where nothing can be judged, it says why."""
    if args.report is None:
        return None
    from sklearn.base import clone

    from ..diagnostics.report import Report

    batch, keep, nuisance = labels
    fresh, after = clone(corrector), corrected
    composition = METHODS[args.method].composition
    if composition == "ratios":  # judged as log-ratios, whatever was written
        fresh, after = fresh.set_params(output="log_ratio"), None
    beside = pd.concat([batch.iloc[:, 1:].add_prefix("batch "), nuisance.add_prefix("nuisance ")], axis=1)
    if len(beside.columns):  # of several batch columns the first is judged, the others go with what is removed
        fresh = fresh.set_params(nuisance_keys=list(beside.columns))
        if isinstance(fresh.reference_batch, tuple):
            fresh = fresh.set_params(reference_batch=fresh.reference_batch[0])
    pairs = composition == "abundances" and len(values) <= MOST_PAIRS
    title = f"{args.input}, corrected by {args.method}"
    try:
        return Report(
            pd.concat([values, beside], axis=1) if len(beside.columns) else values,
            after,
            corrector=fresh,
            batch=batch.iloc[:, 0],
            keep=as_kept(keep, roles),
            distance="braycurtis" if pairs else "euclidean",
            title=title,
            progress=True,
        )
    except BatchfixError as error:  # the table is written: that it cannot be judged is what the page has to say
        only = batch.iloc[:, 0].unique()
        why = f"Column {batch.columns[0]!r} holds one batch only ({only[0]!r}): there is no difference to judge."
        return Report.without_numbers(values, why if len(only) == 1 else one_line(error), title=title)


def as_kept(keep: pd.DataFrame, roles: Roles) -> pd.DataFrame | None:
    """What is kept, factors as categories; None for nothing."""
    kept = keep.copy()
    for name in kept.columns:
        if is_factor(kept[name], roles.kinds[name]):
            kept[name] = kept[name].astype("category")
    return kept if len(kept.columns) else None
