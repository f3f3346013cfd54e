"""`batchfix compare`: several corrections of one table, side by side."""

from __future__ import annotations

import argparse
import json
from typing import Any

import pandas as pd

from .diagnose import aligned
from .labelled import Labelled, add_sample_options, corrector_of, judging_method, read_labelled
from .terminal import progress_bar

DEFAULT = "combat,linear,location"


def add_compare(commands: Any) -> None:
    """Register `batchfix compare`."""
    parser = commands.add_parser(
        "compare",
        help="try several corrections on one table, side by side",
        description="Correct a table in memory by several methods, and put what is left and what is lost side by\n"
        "side. TABLE is laid out as for correct; nothing is written.",
        epilog="example:\n"
        "  batchfix compare runs.csv --batch run --keep group --ignore sex,age --methods combat,linear,location\n\n"
        "NAMES are those of batchfix correct --method, separated by commas.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_sample_options(parser)
    parser.add_argument(
        "--methods", type=_methods, default=DEFAULT, metavar="NAMES", help="which ones (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.set_defaults(run=run_compare)


def run_compare(args: argparse.Namespace) -> None:
    """Read, evaluate each method, and print them in columns."""
    first = read_labelled(args)
    correctors = {name: corrector_of(name, first) for name in args.methods}
    found = {}
    with progress_bar("comparing") as progress:
        for k, (name, corrector) in enumerate(correctors.items()):
            found[name] = _evaluated(args, first, corrector)
            progress((k + 1) / len(correctors))
    if args.json:
        said = {"methods": {name: each.to_dict() for name, each in found.items()}}
        print(json.dumps(said, indent=2, ensure_ascii=False))
    else:
        print("\n".join(_lines(args, first, found)))


def _evaluated(args: argparse.Namespace, first: Labelled, corrector: Any) -> Any:
    from ..diagnostics.report.findings import Findings

    return Findings.of(
        first.values, corrector=corrector, batch=first.batch, keep=first.keep, fast=args.fast, distance=args.distance
    )


def _lines(args: argparse.Namespace, first: Labelled, found: dict[str, Any]) -> list[str]:
    """A row a number, a column a method, and below it what each verdict rests on."""
    from ..diagnostics.report.document import grid

    tables = {name: pd.DataFrame(each.numbers.rows, columns=each.numbers.columns) for name, each in found.items()}
    one = next(iter(tables.values()))
    rows = []
    for row in one.itertuples(index=False):
        cells = [each.loc[each["number"] == row.number, "after"] for each in tables.values()]
        # rho2 is of the design, whatever the correction
        rows.append((row.number, row.before, *(c.iloc[0] if len(c) else "-" for c in cells), row[-1]))
    rows.append(("verdict", "", *(each.verdict for each in found.values()), ""))
    n, p = first.values.shape
    lines = [f"{n:,} samples x {p:,} features of {args.input}, batches by {first.batch.name}", ""]
    lines += aligned(grid("", ("number", "as measured", *found, "right would be"), rows))
    lines.append("")
    for name, each in found.items():
        own = each.evaluation
        said = "; ".join(_first_sentence(reason) for reason in (*own.under, *own.over)) or "nothing found"
        lines.append(f"{name}: {said}")
    return lines


def _first_sentence(text: str) -> str:
    return text.split(". ", maxsplit=1)[0].rstrip(".")


def _methods(text: str) -> list[str]:
    names = [each.strip() for each in text.split(",") if each.strip()]
    if not names:
        raise argparse.ArgumentTypeError("must name a method at least")
    return list(dict.fromkeys(map(judging_method, names)))
