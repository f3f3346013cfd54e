"""`batchfix check`: what a correction can do with these labels, and what it will cost, before anything is measured."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..adapters.tables import read_text
from .anndata_files import is_h5ad, opened
from .labels import is_factor
from .names import InputError
from .roles import Roles
from .terminal import add_json_option, print_json

if TYPE_CHECKING:
    from ..diagnostics.design import DesignForecast

Labels = Callable[[], tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]]
"""Makes batch, keep and nuisance, one row a sample."""

FAILED = 3
"""Exit code of a verdict as grave as --fail-on says."""


def add_check(commands: Any) -> None:
    """Register `batchfix check`."""
    parser = commands.add_parser(
        "check",
        help="say from labels alone what a correction can do, and what it will cost",
        description="Say what a correction between batches can do with a design, and what it will cost, before\n"
        "anything is measured: whether batch and what is kept can be told apart, what would be lost, how much noisier\n"
        "comparisons become, and how often a test on the corrected table would mislead.\n\n"
        "The table (.csv, .tsv, also gzipped, or .parquet) describes one sample a row; its first column holds\n"
        "the ids. Of an .h5ad file obs is read. Columns that are not named are not looked at.",
        epilog="examples:\n"
        "  batchfix check samples.csv --batch run --keep group\n"
        "  batchfix check samples.csv --batch run,site --keep group,age --nuisance depth --json --fail-on stop\n\n"
        "The verdict is fine, warn or stop. COLUMNS are names separated by commas; quote a name that holds one: "
        "'\"a,b\",c'.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("input", metavar="TABLE", help="the table that describes the samples")
    column = partial(parser.add_argument, action="append", default=None, metavar="COLUMNS")
    column("--batch", required=True, help="the batch of each sample (tables and blocks speak of the first column)")
    column("--keep", help="what must survive: text is a factor, decimals a number")
    column("--keep-factor", help="the same, each value a level of its own (1, 2, 3 as codes)")
    column("--keep-number", help="the same, a quantity (1, 2, 3 as amounts)")
    column("--nuisance", help="what must go besides batch")
    column("--nuisance-factor", help="the same, each value a level of its own")
    column("--nuisance-number", help="the same, a quantity")
    parser.add_argument(
        "--fail-on", choices=["warn", "stop"], help=f"exit with code {FAILED} if the verdict is this or graver"
    )
    # several batch columns are for --method linear, whose costs these are
    parser.set_defaults(metadata=None, method="linear")
    add_json_option(parser, run_check)


def run_check(args: argparse.Namespace) -> None:
    """Read the labels, print the forecast, and leave with code 3 if it is as grave as was said."""
    roles, labels = (_of_anndata if is_h5ad(args.input) else _of_table)(args)
    if not roles.keep:
        raise InputError(
            "--keep must name what is to survive a correction, and names no column; give the column that will be "
            "compared"
        )
    from ..diagnostics.design_words import ORDER  # here: the other commands need none of it

    forecast = _forecast(roles, *labels())
    if args.json:
        print_json(forecast.to_dict())
    else:
        print(forecast)
    if args.fail_on is not None and ORDER.index(forecast.verdict) >= ORDER.index(args.fail_on):
        raise SystemExit(FAILED)


def _of_table(args: argparse.Namespace) -> tuple[Roles, Labels]:
    """What the columns of a table are, and what makes labels of them."""
    table = read_text(args.input)
    roles = Roles.from_arguments(args, [table.id_name, *table.columns], [])
    return roles, lambda: roles.labels(table.text, table.ids)


def _of_anndata(args: argparse.Namespace) -> tuple[Roles, Labels]:
    """The same of the samples of an AnnData."""
    with opened(args.input) as adata:
        roles = adata.roles(args)
        return roles, partial(roles.labels, adata.cells(roles.kinds), adata.samples)


def _forecast(roles: Roles, batch: pd.DataFrame, keep: pd.DataFrame, nuisance: pd.DataFrame) -> DesignForecast:
    from ..diagnostics.design import design_forecast

    beside = pd.concat([keep, nuisance], axis=1)
    factors = [name for name in beside.columns if is_factor(beside[name], roles.kinds[name])]
    return design_forecast(batch, keep, nuisance if len(nuisance.columns) else None, keep_factors=factors)
