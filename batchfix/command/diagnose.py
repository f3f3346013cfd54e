"""`batchfix diagnose`: whether there is a batch effect, whether it was removed, and what that cost."""

from __future__ import annotations

import argparse
import textwrap
from typing import TYPE_CHECKING, Any

from .labelled import Labelled, add_sample_options, corrector_of, described, judging_method, read_after, read_labelled
from .names import InputError
from .reports import add_fail_option, add_report_option, check_report, leave_on, write_report
from .terminal import add_json_option, print_json
from .wording import in_words

if TYPE_CHECKING:
    from ..diagnostics.report.document import Grid
    from ..diagnostics.report.findings import Findings

WIDTH = 100


def add_diagnose(commands: Any) -> None:
    """Register `batchfix diagnose`."""
    parser = commands.add_parser(
        "diagnose",
        help="say how much of a table is batch, and whether a correction took it out",
        description="Say in eight numbers whether a table has a batch effect, and whether a correction did too\n"
        "little, enough, or too much.\n\n"
        "TABLE is laid out as for correct, in a text, parquet or .h5ad file. With --method it is corrected in\n"
        "memory, and judged on samples that the correction has not learned from. With --after a table is judged\n"
        "that was corrected by whatever tool; what cannot be had without the corrector says so.",
        epilog="examples:\n"
        "  batchfix diagnose runs.csv --batch run --keep group --ignore sex,age --report before.html\n"
        "  batchfix diagnose runs.csv --batch run --keep group --ignore sex,age --method combat --fail-on stop\n"
        "  batchfix diagnose counts.csv --metadata samples.csv --batch study --after fixed.csv --json\n\n"
        "The verdict is fine, warn (something is left, or the design is costly) or stop (a correction did harm, or\n"
        "cannot be had). COLUMNS are names separated by commas; quote a name that holds one: '\"a,b\",c'.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_sample_options(parser)
    parser.add_argument("--after", metavar="TABLE", help="the same table, corrected")
    parser.add_argument(
        "--method", type=judging_method, metavar="NAME", help="a method of batchfix correct, which is tried"
    )
    parser.add_argument(
        "--placebo",
        action="store_true",
        help="with --method and --keep: deal what is kept anew within batches, correct again, and see what is found",
    )
    add_report_option(parser)
    add_fail_option(parser)
    add_json_option(parser, run_diagnose)


def run_diagnose(args: argparse.Namespace) -> None:
    """Read, evaluate, write the report, print, and leave with code 3 if it is as grave as was said."""
    if args.placebo and args.method is None:
        raise InputError("--placebo needs the correction, to run it again; give --method")
    check_report(args.report, [args.input, args.metadata, args.after])
    first = read_labelled(args)
    if args.placebo and first.keep is None:
        raise InputError("--placebo needs something to deal anew; name it with --keep")
    corrector = None if args.method is None else corrector_of(args.method, first)
    after = None if args.after is None else read_after(args.after, first)
    common = {"distance": args.distance, "fast": args.fast, "progress": True}
    found, more, lines = (_with_report if args.report is not None else _numbers_alone)(
        args, first, after, corrector, common
    )
    if args.json:
        print_json(found.to_dict() | more)
    else:
        print("\n".join(map(in_words, [*said_in_words(found, described(args.input, first)), *lines])))
    leave_on(args.fail_on, found.verdict)


def _with_report(
    args: argparse.Namespace, first: Labelled, after: Any, corrector: Any, common: dict[str, Any]
) -> tuple[Findings, dict[str, Any], list[str]]:
    """Findings, what else goes to JSON, and further lines."""
    from ..diagnostics.report import Report

    report = Report(
        first.values,
        after,
        corrector=corrector,
        batch=first.batch,
        keep=first.keep,
        placebo=args.placebo,
        title=f"Batch effects in {args.input}",
        **common,
    )
    written = write_report(args.report, report)
    return report.findings, report.to_dict() | {"report": args.report}, ["", written]


def _numbers_alone(
    args: argparse.Namespace, first: Labelled, after: Any, corrector: Any, common: dict[str, Any]
) -> tuple[Findings, dict[str, Any], list[str]]:
    """The same without pictures, which need what may not be installed."""
    from ..diagnostics.report.findings import Findings

    found = Findings.of(
        first.values,
        after,
        corrector=corrector,
        batch=first.batch,
        keep=first.keep,
        placebo=args.placebo,
        **common,
    )
    return found, {}, []


def said_in_words(found: Findings, what: str) -> list[str]:
    """Lines for a terminal: the verdict, its reasons, the numbers, and why some cannot be had."""
    lines = textwrap.wrap(f"{found.verdict}: {found.headline}", WIDTH)
    for reason in found.summary:
        lines += _wrapped(f"- {in_words(reason)}")
    lines += ["", what, "", *aligned(found.numbers)]
    titles: dict[str, list[str]] = {}
    for title, reason in found.lacking.items():
        titles.setdefault(reason, []).append(title)
    if titles:
        lines.append("")
    for reason, of in titles.items():
        lines += _wrapped(f"no number ({'; '.join(of)}): {in_words(reason)}")
    return lines


def _wrapped(text: str) -> list[str]:
    """Lines in which percent signs stay with their numbers."""
    whole = text.replace(" %", "\N{NO-BREAK SPACE}%")
    wrapped = textwrap.wrap(whole, WIDTH, subsequent_indent="  ", break_long_words=False)
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in wrapped]


def aligned(numbers: Grid) -> list[str]:
    """A grid in columns of a terminal."""
    rows = [numbers.columns, *numbers.rows]
    widths = [max(len(row[k]) for row in rows) for k in range(len(numbers.columns))]
    flush = numbers.numeric
    return [
        "  ".join(
            cell.rjust(width) if right and k else cell.ljust(width)
            for k, (cell, width, right) in enumerate(zip(row, widths, flush, strict=True))
        ).rstrip()
        for row in rows
    ]
