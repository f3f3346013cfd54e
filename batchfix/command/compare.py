"""`batchfix compare`: several corrections of one table, side by side."""

from __future__ import annotations

import argparse
import textwrap
from typing import TYPE_CHECKING, Any

from ..exceptions import BatchfixError
from .diagnose import WIDTH, aligned
from .labelled import Labelled, add_sample_options, corrector_of, described, judging_method, read_labelled
from .reports import ORDER, add_fail_option, leave_on
from .terminal import add_json_option, one_line, print_json, progress_bar
from .wording import in_words

if TYPE_CHECKING:
    from ..diagnostics.report.findings import Findings

DEFAULT = "combat,linear,location"


def add_compare(commands: Any) -> None:
    """Register `batchfix compare`."""
    parser = commands.add_parser(
        "compare",
        help="try several corrections on one table, side by side",
        description="Correct a table in memory by several methods, and put what is left and what is lost side by\n"
        "side. TABLE is laid out as for correct, in a text, parquet or .h5ad file; nothing is written.",
        epilog="example:\n"
        "  batchfix compare runs.csv --batch run --keep group --ignore sex,age --methods combat,linear,location\n\n"
        "NAMES are those of batchfix correct --method, separated by commas. For a page on one of them: batchfix\n"
        "diagnose --method NAME --report FILE. COLUMNS are names separated by commas; quote a name that holds one:\n"
        "'\"a,b\",c'.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_sample_options(parser)
    parser.add_argument(
        "--methods", type=_methods, default=DEFAULT, metavar="NAMES", help="which ones (default: %(default)s)"
    )
    add_fail_option(parser, "no method's verdict is better than this")
    add_json_option(parser, run_compare)


def run_compare(args: argparse.Namespace) -> None:
    """Read, evaluate each method, print them in columns, and leave with code 3 if none is good enough."""
    first = read_labelled(args)
    correctors = {name: corrector_of(name, first) for name in args.methods}
    found, refused = {}, []
    with progress_bar("comparing") as progress:
        for k, (name, corrector) in enumerate(correctors.items()):
            try:
                found[name] = _evaluated(args, first, corrector)
            except BatchfixError as error:  # a table that is no composition, say: the other methods go on
                refused.append(error)
                found[name] = _lacking(first, corrector, error)
            progress((k + 1) / len(correctors))
    if len(refused) == len(found):
        raise refused[0]
    if args.json:
        print_json({"methods": {name: each.to_dict() for name, each in found.items()}})
    else:
        print("\n".join(map(in_words, _lines(args, first, found))))
    leave_on(args.fail_on, min((each.verdict for each in found.values()), key=ORDER.index))


def _evaluated(args: argparse.Namespace, first: Labelled, corrector: Any) -> Findings:
    from ..diagnostics.report.findings import Findings

    return Findings.of(
        first.values, corrector=corrector, batch=first.batch, keep=first.keep, fast=args.fast, distance=args.distance
    )


def _lacking(first: Labelled, corrector: Any, error: BatchfixError) -> Findings:
    from ..diagnostics.report.findings import Findings
    from ..diagnostics.report.lacking import lacking

    return Findings(lacking(first.values, one_line(error), corrector=type(corrector).__name__))


def _lines(args: argparse.Namespace, first: Labelled, found: dict[str, Findings]) -> list[str]:
    """A row a number, a column a method, and below it what each verdict rests on."""
    from ..diagnostics.report.document import grid
    from ..diagnostics.report.numbers import side_by_side

    numbers = side_by_side({name: (each.evaluation, each.verdicts) for name, each in found.items()})
    verdicts = ("verdict", "", *(each.verdict for each in found.values()), "")
    lines = [described(args.input, first), ""]
    lines += aligned(grid("", numbers.columns, [*numbers.rows, verdicts]))
    lines.append("")
    for name, each in found.items():
        lines += _why(name, each)
    return lines


def _why(name: str, each: Findings) -> list[str]:
    """What the verdict of a method rests on; why there is none is said in full."""
    from ..diagnostics.report.summary import lost

    own = each.evaluation
    reasons = lost(own)
    if reasons:
        what = "could not correct the table" if not own.corrected else "cannot be judged"
        return textwrap.wrap(f"{name} {what}. {' '.join(reasons)}", WIDTH, subsequent_indent="  ")
    return [f"{name}: {'; '.join(map(_first_sentence, (*own.under, *own.over))) or 'nothing found'}"]


def _first_sentence(text: str) -> str:
    return text.split(". ", maxsplit=1)[0].rstrip(".")


def _methods(text: str) -> list[str]:
    names = [each.strip() for each in text.split(",") if each.strip()]
    if not names:
        raise argparse.ArgumentTypeError("must name a method at least")
    return list(dict.fromkeys(map(judging_method, names)))
