"""`batchfix correct`: a table of the user's, corrected and written."""

from __future__ import annotations

import argparse
import io
from contextlib import redirect_stdout
from functools import partial
from typing import Any

import pandas as pd

from ..adapters.tables import check_output, read_header, write_table
from ..core.naming import nearest
from .anndata_correct import correct_h5ad
from .anndata_files import add_layer_option, check_layer, is_h5ad
from .checks import check_batches, check_kept, check_options, check_output_is_new, look_for_covariates
from .compositions import add_composition_options, check_amounts, describe_composition
from .large import add_stream_options, check_stream_options, correct_in_blocks, streams
from .methods import METHODS, Method
from .models import add_save_option, check_save, save_as_asked
from .names import InputError, check_name, split
from .peers import add_peer_options, check_peer_options, run_history, run_peers
from .reading import OF_SAMPLES, refuse_h5ad
from .reports import add_fail_option, add_report_option, check_correction_report, report_correction
from .roles import Roles
from .steps import enough_features, filled, finish, make_corrector, read_samples, say
from .summary import counts_of, describe, wrote
from .terminal import add_json_option, progress_bar


def add_correct(commands: Any) -> None:
    """Register `batchfix correct`."""
    methods = "\n".join(f"  {name:<25} {method.summary}" for name, method in METHODS.items())
    parser = commands.add_parser(
        "correct",
        help="correct a table of your own",
        description="Take the differences between batches out of a table, and keep what you name.\n\n"
        "The table is .csv or .tsv, also gzipped (.csv.gz), or .parquet; its first column holds the ids (of parquet:\n"
        "the index that pandas stored, if it did). TABLE and FILE may be of different kinds. Without --metadata its\n"
        "rows are samples, and --batch, --keep and --nuisance name columns of its own, which are carried to\n"
        "the output unchanged. With --metadata they name columns of that table, joined by sample id. All other\n"
        "columns are measurements and are corrected: name with --ignore what is none (age, sex, ...).\n\n"
        "Of an .h5ad file (AnnData, samples in rows) X or --layer is corrected, --batch, --keep and --nuisance name\n"
        "columns of obs, and all else goes to the output, an .h5ad file too, as it was; uns has a record of it.\n\n"
        "Tables too large for the memory are read and written block by block, where the method allows it.",
        epilog=f"methods:\n{methods}\n\n"
        "examples:\n"
        "  batchfix correct runs.csv -o corrected.csv --batch run --keep group --keep-number age --ignore sex\n"
        "  batchfix correct counts.csv -o fixed.csv --metadata samples.csv --batch study --method clr-location\n"
        "  batchfix correct cells.h5ad -o fixed.h5ad --batch donor --keep cell_type --layer log1p\n\n"
        "COLUMNS are names separated by commas; quote a name that holds one: '\"a,b\",c'.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("input", metavar="TABLE", help="the table to correct")
    parser.add_argument("-o", "--output", metavar="FILE", required=True, help="where the corrected table goes")
    parser.add_argument("--metadata", metavar="TABLE", help="a table of samples: ids, then batch, group, ...")
    parser.add_argument(
        "--samples",
        choices=["rows", "columns"],
        help="where TABLE has its samples; needed with --metadata if its ids do not tell",
    )
    parser.add_argument(
        "--method", type=_method, default="combat", metavar="NAME", help="see below (default: %(default)s)"
    )
    column = partial(parser.add_argument, action="append", default=None, metavar="COLUMNS")
    column("--batch", help="the batch of each sample (several columns: with --method linear)")
    column("--keep", help="what must survive: text is a factor, decimals a number")
    column("--keep-factor", help="the same, each value a level of its own (1, 2, 3 as codes)")
    column("--keep-number", help="the same, a quantity (1, 2, 3 as amounts)")
    column("--nuisance", help="what must go besides batch")
    column("--nuisance-factor", help="the same, each value a level of its own")
    column("--nuisance-number", help="the same, a quantity")
    column("--ignore", help="columns of TABLE to carry along unchanged, neither corrected nor used")
    parser.add_argument(
        "--reference",
        metavar="BATCH",
        help="leave this batch as it is, map the others to it (not with --method standardize, which moves every batch)",
    )
    parser.add_argument(
        "--scale-guard",
        metavar="SHARE",
        type=_share,
        help="with methods that scale: scale a feature only if it is present in this share of every batch, say 0.2 "
        "(the default of clr-, ilr- and abundance- methods)",
    )
    add_composition_options(parser)
    add_peer_options(parser)
    add_layer_option(parser, "correct")
    add_stream_options(parser)
    add_save_option(parser)
    add_report_option(parser)
    add_fail_option(parser, "the verdict of --report is this or graver; the table is written all the same")
    add_json_option(parser, run_correct)


def run_correct(args: argparse.Namespace) -> None:
    """Read, correct, write, and say what was done."""
    method = METHODS[args.method]
    check_peer_options(args, sectors=method.peers == "sector")
    check_save(args)
    check_correction_report(args)
    check_stream_options(args)
    if is_h5ad(args.input) or is_h5ad(args.output):
        correct_h5ad(args)
        return
    check_layer(args)
    if method.peers is not None:
        _correct_peers(args, method)
        return
    if not args.batch:
        raise InputError(
            f"the following arguments are required: --batch (--method {args.method} corrects between batches); name "
            "the column that tells them apart"
        )
    check_options(args)
    refuse_h5ad(args.metadata, OF_SAMPLES)
    existed = check_output(args.output).exists()
    check_output_is_new(args)
    header = read_header(args.input)
    ignored = split(args.ignore, header[1:])
    for name in ignored:
        check_name(name, header, args.input)
    roles = Roles.from_arguments(args, read_header(args.metadata or args.input), ignored)
    if streams(args) and correct_in_blocks(args, roles, ignored, existed=existed):
        return
    table, in_rows, samples, cells = read_samples(args, roles, ignored)
    features = table.number_columns if in_rows else table.ids
    if not features:
        raise InputError(
            f"{args.input!r} must have columns of measurements, and all of its columns are named as labels or "
            "ignored; leave the measurements out of --batch, --keep, --nuisance and --ignore"
        )

    batch, keep, nuisance = roles.labels(cells, samples)
    check_batches(args, batch)
    check_kept(keep)
    corrector = make_corrector(args, batch)
    values = pd.DataFrame(table.numbers, index=table.ids, columns=table.number_columns)
    values = values if in_rows else values.T
    look_for_covariates(values, in_rows=in_rows)
    composition = METHODS[args.method].composition
    if composition is not None:
        check_amounts(args, values)
    corrected = _corrected(args, corrector, values, batch, keep, nuisance)
    written = corrected.astype(int) if args.write == "counts" else corrected
    with progress_bar("writing") as progress:
        write_table(filled(table, written, in_rows=in_rows), args.output, progress=progress)

    lines = describe(features, args.method, batch, keep, nuisance)
    if composition is not None:
        lines += describe_composition(corrector, values, corrected)
    if table.text:
        lines.append(f"carried unchanged: {', '.join(table.text)}")
    say(args, [*lines, wrote(args.output, existed)])
    save_as_asked(args, corrector, batch=roles.batch, ignore=ignored)
    report = report_correction(args, roles, corrector, values, corrected, (batch, keep, nuisance))
    done = {"samples": len(values), "features": len(features), "batches": counts_of(batch)}
    finish(args, done | {"kept": roles.keep, "nuisance": roles.nuisance, "carried": list(table.text)}, report)


def _correct_peers(args: argparse.Namespace, method: Method) -> None:
    """Correct by a method without batches, and say what was done."""
    check_output_is_new(args)
    streams(args)  # a table too large is refused, or warned of
    made: list[Any] = []  # the corrector, once it is made
    with redirect_stdout(io.StringIO()) as said:
        (run_history if method.peers == "history" else run_peers)(args, partial(_make_into, made, method.make))
    lines = said.getvalue().splitlines()
    say(args, lines)
    save_as_asked(args, *made, ignore=split(args.ignore, read_header(args.input)[1:]))
    finish(args, {"said": lines})


def _make_into(made: list[Any], make: Any, **options: Any) -> Any:
    made.append(make(**options))
    return made[-1]


def _corrected(
    args: argparse.Namespace,
    corrector: Any,
    values: pd.DataFrame,
    batch: pd.DataFrame,
    keep: pd.DataFrame,
    nuisance: pd.DataFrame,
) -> pd.DataFrame:
    extra = {"nuisance": nuisance} if len(nuisance.columns) else {}
    with enough_features(args, len(values.columns)):
        corrected: pd.DataFrame = corrector.fit_transform(
            values,
            batch=batch if len(batch.columns) > 1 else batch.iloc[:, 0],
            keep=keep if len(keep.columns) else None,
            **extra,
        )
    return corrected


def _method(text: str) -> str:
    if text not in METHODS:
        raise argparse.ArgumentTypeError(
            f"invalid choice: {text!r}{nearest(text, METHODS)}; the methods are {', '.join(METHODS)}"
        )
    return text


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be a share between 0 and 1, and is {text!r}")
    if value == 0:
        raise argparse.ArgumentTypeError(f"must be a share above 0, and is {text!r}; leave it out to guard nothing")
    return value
