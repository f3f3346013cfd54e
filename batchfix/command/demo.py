"""`batchfix demo`: a table that comes along, corrected; what that did, in a few lines and on a page."""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..adapters.tables import check_output, write_table
from .demos import DEMOS
from .diagnose import WIDTH
from .reports import add_fail_option, check_report, leave_on, write_report
from .summary import wrote
from .terminal import add_json_option, print_json
from .wording import in_words

if TYPE_CHECKING:
    from ..diagnostics.report.findings import Findings


def add_demo(commands: Any) -> None:
    """Register `batchfix demo`."""
    parser = commands.add_parser(
        "demo",
        help="correct a real table that comes along, in seconds",
        description="Correct a table that comes along, say what changed, and write it and a report beside it.\n\n"
        "  lab        bladder cancer microarrays from five batches, by ComBat, keeping cancer status\n"
        "  microbes   made counts of taxa from four batches, by their log-ratios\n"
        "  markets    made returns of stocks, each date less the mean of its sector",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("table", nargs="?", choices=DEMOS, default="lab", help="which one (default: %(default)s)")
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="where the corrected table goes, replacing what is there (default: bladder_corrected.csv, ...)",
    )
    parser.add_argument(
        "--report",
        metavar="FILE",
        nargs="?",
        const="",
        help="where the report goes, replacing an older one (default: bladder_report.html, ..., beside the corrected "
        "table; needs the extra: pip install 'batchfix[report]')",
    )
    add_fail_option(parser)
    add_json_option(parser, run_demo)


def run_demo(args: argparse.Namespace) -> None:
    """Correct the table, write it, print what that changed, write the report, and say its verdict and where it is."""
    make, usual = DEMOS[args.table]
    output = args.output or usual
    page = args.report or str(Path(output).with_name(usual.replace("_corrected.csv", "_report.html")))
    existed = check_output(output).exists()
    missing = "" if args.report is not None else _missing()
    if not missing:
        check_report(page, [output])
    demo = make()
    write_table(demo.written, output)
    if not args.json:
        print("\n".join([*demo.lines, "", f"{wrote(output, existed)} ({demo.kind})"]))
    from ..diagnostics.report.findings import Findings

    if missing:
        found, written = Findings.of(**_without_title(demo.judged), fast=True, progress=True), None
    else:
        from ..diagnostics.report import Report

        report = Report(**demo.judged, fast=True, progress=True)
        found, written = report.findings, write_report(page, report)
    if args.json:
        said = {"demo": args.table, "output": output, "report": None if missing else page}
        print_json(said | {"verdict": found.verdict, "headline": found.headline, "summary": list(found.summary)})
    else:
        print("\n".join(_judged(found, written, missing)))
    leave_on(args.fail_on, found.verdict)


def _judged(found: Findings, written: str | None, missing: str) -> list[str]:
    """The verdict, its first reason, and where the page is."""
    lines = ["", *textwrap.wrap(f"{found.verdict}: {in_words(found.headline)}", WIDTH)]
    for reason in found.summary[:1]:
        lines += textwrap.wrap(f"- {in_words(reason)}", WIDTH, subsequent_indent="  ")
    if written is None:
        return [*lines, f"for a report with pictures ({missing} is not installed): pip install 'batchfix[report]'"]
    return [*lines, written]


def _without_title(judged: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in judged.items() if name != "title"}


def _missing() -> str:
    """What a report needs and is not installed."""
    from ..diagnostics.report.writers import require_report

    try:
        require_report()
    except ModuleNotFoundError as error:
        return str(error.name)
    return ""
